use std::collections::BTreeSet;

use clap::{Arg, error::ErrorKind};

use super::{apply::parse, *};
use crate::{
    api::ErrorBody,
    control::apply::{Action, Plan, Step},
};

/// Words as a shell would split them.
fn parse_line(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("privatelink").chain(line.split_whitespace()))
}

#[test]
fn the_command_tree_is_consistent_and_explains_itself() {
    command().debug_assert();
    fn walk(command: &clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(command.get_about().is_some(), "{path} says nothing about itself");
        for argument in command.get_arguments() {
            let help = argument.get_help().or_else(|| argument.get_long_help()).map(ToString::to_string);
            assert!(help.is_some_and(|help| !help.is_empty()), "{path}: {} has no help", argument.get_id());
        }
        command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .for_each(|command| walk(command, &path));
    }
    walk(&command(), "");
}

#[test]
fn every_documented_command_line_is_understood() {
    for line in [
        "agent",
        "agent --state-dir /tmp/x --socket /tmp/y",
        "agent --state-dir /tmp/x --remove",
        "vpc create a --cidr 10.0.0.0/16",
        "vpc create a --cidr 10.0.0.0/16 --gateway 10.0.0.1",
        "vpc list -o json",
        "vpc describe a",
        "vpc modify a --no-gateway",
        "vpc delete vpc-0123456789abcdef0",
        "vpc delete a --cascade",
        "subnet delete a/10.0.0.0/24 --cascade",
        "load-balancer delete web --cascade",
        "target-group delete web --cascade",
        "endpoint-service payer shop service-owner",
        "endpoint-service payer shop endpoint-owner --endpoint vpce-0123456789abcdef0",
        "endpoint take-charges a/10.0.0.50",
        "notification create --endpoint-service shop --target https://hooks.example.com/x --event Connect --event Accept",
        "notification create --endpoint a/10.0.0.50 --target file:/var/log/x",
        "notification list",
        "notification modify vpce-nfn-0123456789abcdef0 --event Reject",
        "notification delete vpce-nfn-0123456789abcdef0",
        "agent --notify https://hooks.example.com/x --notify arn:aws:sns:us-east-1:123456789012:x=exec:/bin/true --notify-ca /ca.pem",
        "agent --dns-verification-interval 60",
        "port attach veth-a234567890 --vpc a --hook xdp --shared",
        "port attach veth-a --vpc a --hook tc",
        "port list",
        "port detach veth-a",
        "target-group create web --vpc a --protocol TCP --port 80",
        "target-group create web --vpc a --protocol TCP --port 80 --health-check-protocol HTTP --health-check-port 81 \
         --health-check-path /health --health-check-interval 5 --health-check-timeout 2 --healthy-threshold 2 \
         --unhealthy-threshold 2 --matcher 200-299",
        "target-group list",
        "target-group describe web",
        "target-group modify web --attribute deregistration_delay.timeout_seconds=0 --attribute a=b",
        "target-group delete web",
        "target register web 10.0.1.10 10.0.1.11:8080",
        "target deregister web 10.0.1.10",
        "target register web --dns-name db.example.com --dns-name db.example.com:5432",
        "target deregister web --dns-name db.example.com",
        "target health web --watch",
        "load-balancer create web --vpc a --address 10.0.0.5",
        "load-balancer create web --vpc a --address 10.0.0.5 10.0.0.6 --address 10.0.0.7",
        "load-balancer list",
        "load-balancer describe web",
        "load-balancer create web --vpc a --address 10.0.0.5 --security-group g --security-group a/h",
        "load-balancer modify web --security-group g --enforce-on-private-link off --apply-to-established",
        "load-balancer modify web --no-security-groups",
        "load-balancer delete web",
        "listener create web --protocol TCP --port 80 --target-group web",
        "listener create web --protocol TCP --port 1024-2047 --target-group web",
        "listener create web --protocol TCP_UDP --port all --target-group web",
        "listener list",
        "listener list web",
        "listener modify web:80 --attribute tcp.idle_timeout.seconds=60",
        "listener create web --protocol TCP --port 80 --target-group a=70 --target-group b=30 --stickiness on",
        "listener modify web:80 --target-group a=0 --target-group b",
        "listener modify web:80 --stickiness off",
        "listener delete web:80",
        "endpoint-service create --load-balancer web",
        "endpoint-service create --load-balancer web --name shop",
        "endpoint-service list",
        "endpoint-service describe shop",
        "endpoint-service create --load-balancer a --load-balancer b --acceptance-required --principal *",
        "endpoint-service modify shop --acceptance-required true --ipv4-only true --add-load-balancer b --remove-load-balancer a",
        "endpoint-service permissions add shop --principal arn:aws:iam::123456789012:root --principal *",
        "endpoint-service permissions remove shop --principal arn:aws:iam::123456789012:role/ci",
        "link create office --side vpc=a,target=10.200.0.10:80,address=10.200.0.203 --side \
         vpc=b,target=192.168.0.10,port=80,protocol=TCP_UDP,node=192.168.0.5,security-group=g",
        "link list",
        "link describe office",
        "link delete office",
        "endpoint-service permissions list shop",
        "endpoint-service create --vpc a --target 10.0.1.20:5432 --target 10.0.1.21:5432 --name db --port 5432 --accept 1* --reject vpce-0*",
        "endpoint-service create --vpc a --target 10.0.1.20:53 --protocol TCP_UDP --node-address 10.0.0.9",
        "endpoint-service modify shop --accept 123456789012 --no-reject --reconcile-connections",
        "endpoint create --service-name shop --vpc a --private-dns-on-acceptance",
        "endpoint create --service-name shop --vpc a --alias 10.200.0.10/32 --alias 10.201.0.0/16",
        "endpoint modify vpce-0123456789abcdef0 --no-aliases",
        "endpoint modify vpce-0123456789abcdef0 --private-dns-on-acceptance true",
        "endpoint-service connections shop",
        "connection accept shop vpce-0123456789abcdef0 vpce-0123456789abcdef1",
        "connection reject shop vpce-0123456789abcdef0 --account 123456789012",
        "connection limit shop vpce-0123456789abcdef0 --connections 5 --connections-per-second none --bits-per-second default",
        "endpoint-service modify shop --limit-connections 5 --limit-connections-per-second none --limit-bits-per-second 20M",
        "endpoint-service delete shop",
        "endpoint-service delete shop --force",
        "instance register web-1 --vpc a --address 10.0.1.12 --address 10.0.1.13 --security-group g",
        "instance register web-2 --subnet subnet-0123456789abcdef0",
        "instance list",
        "instance describe web-1",
        "instance modify web-1 --no-security-groups",
        "instance start web-1 i-0123456789abcdef0",
        "instance stop web-1",
        "instance deregister web-1 --force",
        "endpoint create --service-name shop --vpc b",
        "endpoint create --service-name vpce-svc-0123456789abcdef0 --service-region us-east-1 --vpc b --region eu-west-1",
        "endpoint-service create --load-balancer web --supported-region eu-west-1 --supported-region ap-south-1",
        "endpoint-service modify shop --add-supported-region eu-west-1 --remove-supported-region ap-south-1",
        "endpoint create --service-name shop --vpc b --ip-address-type dualstack --dns-record-ip-type service-defined",
        "endpoint modify vpce-0123456789abcdef0 --dns-record-ip-type ipv6",
        "endpoint modify vpce-0123456789abcdef0 --reset-dns-record-ip-type",
        "endpoint create --service-name shop --vpc b --address 10.0.0.50",
        "endpoint list",
        "endpoint describe b/10.0.0.50",
        "endpoint create --service-name shop --vpc b --security-group sg-0123456789abcdef0",
        "endpoint modify b/10.0.0.50 --security-group g --apply-to-established",
        "endpoint modify b/10.0.0.50 --no-security-groups",
        "security-group create clients --vpc b --description all",
        "security-group list",
        "security-group describe b/clients",
        "security-group authorize clients --protocol tcp --port 80 --port 1000-2000 --cidr 10.0.0.0/8 --source-group g",
        "security-group authorize clients --protocol all --cidr ::/0 --egress --description out",
        "security-group revoke clients sgr-0123456789abcdef0 --apply-to-established",
        "security-group revoke clients --port 80 --cidr 10.0.0.0/8",
        "security-group delete clients",
        "endpoint delete vpce-0123456789abcdef0",
        "flow list --vpc b --endpoint b/10.0.0.50",
        "stats --drops",
        "explain --vpc b --from 10.0.1.10 --to 10.0.0.50:80",
        "explain --vpc b --from 10.0.1.10:40000 --to 10.0.0.50:53 --proto udp",
        "apply -f x.toml --dry-run --prune",
        "--socket /tmp/x -o table stats",
        "completions bash",
        "man /tmp/x",
    ] {
        parse_line(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

/// Every argument that takes a value, with a value that it must refuse and what it must say.
const BAD_VALUES: &[(&str, &str)] = &[
    ("vpc create -a --cidr 10.0.0.0/16", "unexpected argument '-a'"),
    ("vpc create a_b --cidr 10.0.0.0/16", "name 'a_b' can contain only alphanumeric characters and hyphens; use"),
    ("vpc create a --cidr 10.0.0.1/16", "VPC CIDR '10.0.0.1/16' has host bits set; use 10.0.0.0/16"),
    ("vpc create a --cidr 10.0.0.0/7", "VPC CIDR '10.0.0.0/7' must have a prefix length between 8 and 30; use"),
    ("vpc create a --cidr fd00::/64", "VPC CIDR 'fd00::/64' must be an IPv4 network address"),
    ("vpc create a --cidr 10.0.0.0/16 --gateway x", "Address 'x' must be an IPv4 address; use an address like"),
    ("vpc modify a --gateway 10.0.0.300", "Address '10.0.0.300' must be an IPv4 address; use an address like"),
    ("vpc modify a --gateway 10.0.0.1 --no-gateway", "cannot be used with"),
    ("vpc modify a", "--gateway <IP>"),
    ("port attach a234567890123456 --vpc a", "cannot be longer than '15' bytes, the kernel's limit; `ip link` lists"),
    ("port attach a/b --vpc a", "interface name 'a/b' cannot contain '/', ':' or white space; `ip link` lists"),
    ("port attach a --vpc a --hook nic", "hook 'nic' must be one of '[auto, tc, xdp]'; use auto"),
    ("port attach a", "--vpc <VPC>"),
    ("port detach ..", "interface name '..' is reserved by the kernel; `ip link` lists"),
    ("target-group create web- --vpc a --protocol TCP --port 80", "name 'web-' cannot begin or end with a hyphen; use"),
    (
        "target-group create w --vpc a --protocol QUIC --port 80",
        "Protocol 'QUIC' must be one of '[HTTP, HTTPS, TCP, TLS, UDP, TCP_UDP]'; use TCP",
    ),
    ("target-group create w --vpc a --protocol TCP --port 0", "Port '0' must be between '1-65535' inclusive; use"),
    ("target-group create w --vpc a --protocol TCP --port 65536", "Port '65536' must be between '1-65535' inclusive"),
    ("target-group create w --vpc a --protocol TCP", "--port <N>"),
    ("target-group create w --vpc a --port 80", "--protocol <PROTOCOL>"),
    ("target-group create w --protocol TCP --port 80", "--vpc <VPC>"),
    (
        "target-group modify w --health-check-protocol UDP",
        "Health check protocol 'UDP' must be one of '[TCP, HTTP, HTTPS]'; use",
    ),
    ("target-group modify w --health-check-port x", "Health check port 'x' must be 'traffic-port' or a number"),
    ("target-group modify w --health-check-path x", "Health check path 'x' must begin with '/'; use a path like"),
    ("target-group modify w --health-check-interval x", "Number 'x' must be a whole number; use"),
    ("target-group modify w --health-check-timeout 1.5", "Number '1.5' must be a whole number; use"),
    ("target-group modify w --healthy-threshold -1", "unexpected argument '-1'"),
    ("target-group modify w --unhealthy-threshold x", "Number 'x' must be a whole number; use"),
    ("target-group modify w --matcher 600", "Matcher '600' must be HTTP codes or ranges of them between '200-599'"),
    ("target-group modify w --attribute x", "Attribute 'x' must be a key, an equals sign and a value; use"),
    ("target register w", "<TARGET[:PORT]>"),
    (
        "target register w 10.0.0.1:0",
        "Target '10.0.0.1:0' must be an IP address, or the name or id of an instance, with a colon and a port",
    ),
    ("target register w web.example", "Target 'web.example' must be an IP address"),
    ("target deregister w ::g", "Target '::g' must be an IP address"),
    ("target health", "<TARGET_GROUP>"),
    ("target health w x_y", "Target 'x_y' must be an IP address"),
    (
        "target-group create w --vpc a --protocol TCP --port 80 --target-type lambda",
        "Target type 'lambda' must be one of '[instance, ip, alb]'; use",
    ),
    ("instance register i-0123456789abcdef0 --vpc a", "cannot have the form of an instance's id; use"),
    ("instance register web-1", "--vpc <VPC>"),
    ("instance register web-1 --vpc a --address 10.0.1", "Address '10.0.1' must be an IPv4 address; use"),
    ("instance modify web-1", "--security-group <GROUP>"),
    ("instance modify web-1 --security-group g --no-security-groups", "cannot be used with"),
    ("instance start", "<INSTANCES>"),
    ("instance stop", "<INSTANCES>"),
    ("instance deregister", "<INSTANCES>"),
    ("load-balancer create w --vpc a", "--address <IP>"),
    ("load-balancer create w --vpc a --address x", "Address 'x' must be an IP address; use"),
    ("load-balancer create internal-w --vpc a --address 10.0.0.5", "cannot begin with 'internal-', which is reserved"),
    (
        "listener create w --protocol SCTP --port 80 --target-group w",
        "Protocol 'SCTP' must be one of '[UDP, TCP, TLS, TCP_UDP]'; use TCP_UDP",
    ),
    ("listener create w --protocol TCP --port x --target-group w", "port 'x' must be between '1-65535' inclusive, a"),
    ("listener create w --protocol TCP --port 80", "--target-group <GROUP[=WEIGHT]>"),
    ("listener create w --protocol TCP --port 80 --target-group w --attribute =1", "Attribute '=1' must be a key"),
    ("listener modify w:80", "--target-group <GROUP[=WEIGHT]>"),
    ("listener modify w:80 --target-group w=1000", "Weight '1000' must be between '0-999' inclusive; use a weight"),
    (
        "listener create w --protocol TLS --port 443 --target-group w --ssl-policy ELBSecurityPolicy-2016-08",
        "SSL policy 'ELBSecurityPolicy-2016-08' asks for TLSv1, which is not offered here for its weaknesses (RFC 8996); use",
    ),
    (
        "listener modify w:443 --ssl-policy ELBSecurityPolicy-TLS13-1-3-FIPS-2023-04",
        "validated by FIPS 140-3, which is not what is built in here; use ELBSecurityPolicy-TLS13-1-2-2021-06",
    ),
    ("listener modify w:443 --ssl-policy strong", "SSL policy 'strong' is not the name of a security policy; use"),
    (
        "listener modify w:443 --alpn-policy h2",
        "ALPN policy 'h2' must be one of '[None, HTTP1Only, HTTP2Only, HTTP2Optional, HTTP2Preferred]'; use",
    ),
    ("listener add-certificate w:443", "<CERTIFICATE>"),
    ("certificate import --certificate c.pem", "--private-key <FILE>"),
    ("certificate create-lab", "<NAME>"),
    ("certificate create-lab a.example --days x", "Number 'x' must be a whole number; use"),
    ("certificate delete", "<CERTIFICATE>"),
    ("listener modify w:80 --stickiness yes", "Value 'yes' must be one of '[on, off]'; use on or off"),
    ("endpoint-service create", "--load-balancer <LOAD_BALANCER>"),
    (
        "endpoint-service create --load-balancer w --name vpce-x",
        "name 'vpce-x' cannot begin with 'vpce-', which is reserved",
    ),
    ("endpoint-service permissions add shop", "--principal <ARN>"),
    (
        "endpoint-service permissions add shop --principal arn:aws:iam::1:root",
        "Principal 'arn:aws:iam::1:root' must be '*' or the ARN of an account, user or role, without a path; use",
    ),
    ("endpoint-service modify shop --acceptance-required maybe", "true, false"),
    ("endpoint-service modify shop --ipv4-only maybe", "true, false"),
    ("endpoint-service create --vpc a --target web-1", "Target 'web-1' must be an IPv4 address"),
    ("endpoint-service create --target 10.0.1.20:80", "--vpc <VPC>"),
    ("endpoint-service create --vpc a --target 10.0.1.20:80 --load-balancer b", "cannot be used with"),
    ("endpoint-service create --vpc a --target 10.0.1.20 --node-address x", "Address 'x' must be an IPv4 address"),
    (
        "endpoint-service create --load-balancer a --accept 12",
        "consumer '12' must be an account or the id of an endpoint, in which '*' stands for any text and '?' for one character; use",
    ),
    ("endpoint-service modify shop --reject root", "consumer 'root' must be an account or the id of an endpoint"),
    ("endpoint-service modify shop --accept * --no-accept", "cannot be used with"),
    ("endpoint modify e --private-dns-on-acceptance maybe", "true, false"),
    (
        "endpoint create --service-name s --vpc b --alias 10.200.0.1/24",
        "Alias '10.200.0.1/24' has host bits set; use 10.200.0.0/24",
    ),
    ("endpoint modify e --alias 10.200.0.1 --no-aliases", "cannot be used with"),
    ("link create a b", "unexpected argument 'b'"),
    ("link create a --side vpc=a", "side of a link 'vpc=a' must name a VPC and at least one target; use a form like"),
    ("connection accept shop", "<ENDPOINT>"),
    ("connection reject shop", "<ENDPOINT>"),
    ("connection limit shop", "<ENDPOINT>"),
    (
        "connection limit shop e --connections 0",
        "Connection limit '0' must be between '1-1000000000' inclusive, or 'none'",
    ),
    (
        "connection limit shop e --connections-per-second x",
        "Limit of new connections a second 'x' must be between '1-1000000' inclusive, or 'none'; use a number like 100",
    ),
    (
        "connection limit shop e --bits-per-second 1.5G",
        "Limit of bits a second '1.5G' must be between '1000-1000000000000'",
    ),
    ("endpoint-service modify s --limit-connections default", "Connection limit 'default' must be between"),
    ("endpoint-service modify s --limit-connections-per-second 0", "Limit of new connections a second '0' must be"),
    ("endpoint-service modify s --limit-bits-per-second 999", "use a number like 100M, which is 100,000,000"),
    ("endpoint create --vpc b", "--service-name <SERVICE>"),
    ("endpoint create --service-name shop", "--vpc <VPC>"),
    (
        "endpoint create --service-name shop --vpc b --address 10.0.0.0/16",
        "Address '10.0.0.0/16' must be an IPv4 address",
    ),
    ("endpoint create --service-name s --vpc b --service-region X", "region 'X' must be"),
    ("endpoint-service create --load-balancer w --supported-region X", "region 'X' must be"),
    ("endpoint-service modify s --add-supported-region X", "region 'X' must be"),
    ("endpoint-service modify s --remove-supported-region X", "region 'X' must be"),
    (
        "endpoint create --service-name s --vpc b --dns-record-ip-type a",
        "DnsRecordIpType 'a' must be one of '[ipv4, dualstack, ipv6, service-defined]'",
    ),
    (
        "endpoint modify e --dns-record-ip-type not-specified",
        "DnsRecordIpType 'not-specified' must be one of '[ipv4, dualstack, ipv6, service-defined]'",
    ),
    ("endpoint modify e --dns-record-ip-type ipv4 --reset-dns-record-ip-type", "cannot be used with"),
    ("load-balancer modify w --enforce-on-private-link yes", "Value 'yes' must be one of '[on, off]'; use on or off"),
    ("endpoint modify e --security-group g --no-security-groups", "cannot be used with"),
    ("security-group create sg-1 --vpc a", "Group name 'sg-1' cannot begin with 'sg-', which is reserved; use"),
    ("security-group create g --vpc a --description <>", "Description '<>' must be 1 to 255 of a-z, A-Z, 0-9, spaces"),
    (
        "security-group authorize g --cidr 10.0.0.0/33",
        "CIDR block '10.0.0.0/33' must be an IPv4 or IPv6 network address",
    ),
    (
        "security-group revoke g sgr-1",
        "security group rule id 'sgr-1' must be 'sgr-' and 17 lower-case hexadecimal digits",
    ),
    ("vpc modify a", "--dns-support <on|off>"),
    (
        "vpc create a --cidr 10.0.0.0/16 --ipv6-cidr fd00::1/56",
        "VPC IPv6 CIDR 'fd00::1/56' has host bits set; use fd00::/56",
    ),
    ("vpc modify a --ipv6-cidr fe80::/64", "is neither a global nor a unique local unicast range; use a range like"),
    ("vpc modify a --ipv6-cidr fd00::/72", "must have a prefix length between 32 and 64; use a range like"),
    ("vpc modify a --ipv6-gateway 10.0.0.1", "Address '10.0.0.1' must be an IPv6 address; use an address like"),
    ("vpc modify a --ipv6-gateway fe80::1 --no-ipv6-gateway", "cannot be used with"),
    ("vpc create a --cidr 10.0.0.0/16 --ipv6-gateway fe80::1", "--ipv6-cidr <IPV6_CIDR>"),
    ("subnet create --vpc a --cidr 10.0.1.0/24 --ipv6-cidr x", "Subnet IPv6 CIDR 'x' must be an IPv6 network address"),
    (
        "target-group create w --vpc a --protocol TCP --port 80 --ip-address-type dualstack",
        "IP address type 'dualstack' must be one of '[ipv4, ipv6]'; use ipv4 or ipv6",
    ),
    ("load-balancer modify w --ipv6-address 10.0.0.5", "Address '10.0.0.5' must be an IPv6 address; use"),
    ("load-balancer modify w --ipv6-address fd00::5 --no-ipv6-addresses", "cannot be used with"),
    (
        "endpoint create --service-name s --vpc b --ip-address-type ipv6",
        "IP address type 'ipv6' must be one of '[ipv4, dualstack]'; use dualstack",
    ),
    ("endpoint modify e --ipv6-address 10.0.0.5", "Address '10.0.0.5' must be an IPv6 address; use"),
    ("vpc modify a --dns-support maybe", "Value 'maybe' must be one of '[on, off]'"),
    ("vpc modify a --dns-hostnames maybe", "Value 'maybe' must be one of '[on, off]'"),
    ("subnet create --vpc a --cidr 10.0.0.1/24", "Subnet CIDR '10.0.0.1/24' has host bits set"),
    ("route create 10.0.0.1/8 --vpc a --interface i", "Destination '10.0.0.1/8' must be a network address, a slash"),
    ("route create fd00::1/64 --vpc a --interface i", "Destination 'fd00::1/64' must be a network address, a slash"),
    ("route create 10.0.0.0/8 --vpc a", "<--interface <INTERFACE>|--endpoint <ENDPOINT>>"),
    ("route replace 10.0.0.0/8 --vpc a --interface i --endpoint e", "cannot be used with"),
    ("route delete x --vpc a", "Destination 'x' must be a network address"),
    ("tag add x a=b", "resource 'x' is not the id or ARN of a resource that can have tags; use the id"),
    ("tag remove x a", "resource 'x' is not the id or ARN"),
    ("tag list x", "resource 'x' is not the id or ARN"),
    ("tag add vpc-0123456789abcdef0 aws:x=1", "Tag key 'aws:x' cannot begin with 'aws:', which is reserved"),
    ("explain --vpc b --from x --to 10.0.0.50:80", "Address 'x' must be an IP address; use an address like"),
    ("explain --vpc b --from [fd00::1]:0 --to [fd00::50]:80", "Port '0' must be between '1-65535' inclusive; use"),
    (
        "explain --vpc b --from fd00::1 --to fd00::50",
        "Destination 'fd00::50' must be an IP address, a colon and a port",
    ),
    ("explain --vpc b --from 10.0.1.10:0 --to 10.0.0.50:80", "Port '0' must be between '1-65535' inclusive; use"),
    ("explain --vpc b --from 10.0.1.10 --to 10.0.0.50", "must be an IP address, a colon and a port; use a destination"),
    (
        "explain --vpc b --from 10.0.1.10 --to 10.0.0.50:80 --proto sctp",
        "Protocol 'sctp' must be one of '[tcp, udp, icmp]'; use tcp",
    ),
    ("apply", "--file <FILE>"),
    ("target register web --dns-name 10.0.0.1", "DNS name '10.0.0.1' is an address; use a name like"),
    ("target register web --dns-name a 10.0.0.1", "cannot be used with"),
    ("agent --api 4566", "Address '4566' must be an IP address, a colon and a port between '1-65535'"),
    ("agent --trust-loopback", "--api <ADDR:PORT>"),
    ("agent --metrics 127.0.0.1", "Address '127.0.0.1' must be an IP address, a colon and a port between '1-65535'"),
    ("endpoint-service modify shop --private-dns-name a_b", "private DNS name 'a_b' must be labels of 1 to 63"),
    ("endpoint modify e --private-dns maybe", "true, false"),
    ("endpoint create --service-name s --vpc b --subnet s=x", "Address 'x' must be an IPv4 address"),
    ("endpoint create --service-name s --vpc b --policy {", "Policy document '{' must be valid JSON"),
    ("endpoint modify e --add-subnet s=x", "Address 'x' must be an IPv4 address"),
    ("endpoint modify e --policy {}", "Policy document '{}' must have a Statement"),
    ("agent --dns-verification-resolver x", "DNS server 'x' must be an address"),
    ("agent --dns localhost", "DNS server 'localhost' must be an address, or an address and a port; use an address"),
    ("agent --dns-upstream 192.0.2.1:0", "DNS server '192.0.2.1:0' must be an address"),
    ("agent --metrics 127.0.0.1", "Address '127.0.0.1' must be an IP address, a colon and a port between '1-65535'"),
    ("agent --service-domain a_b", "service domain 'a_b' must be labels of 1 to 63 lower-case letters"),
    ("agent --notify arn:aws:sns:us-east-1:123456789012:x", "names a topic and not what it stands for"),
    ("notification create --target file:/x", "--endpoint-service <SERVICE>"),
    ("notification create --endpoint e --target x", "ConnectionNotificationArn 'x' must be an SNS topic's ARN"),
    ("notification create --endpoint e --target file:/x --event Boo", "Event 'Boo' must be one of"),
    ("notification modify x", "connection notification id 'x' must be 'vpce-nfn-' and 17"),
    ("notification modify vpce-nfn-0123456789abcdef0 --target x", "ConnectionNotificationArn 'x' must be"),
    ("notification modify vpce-nfn-0123456789abcdef0 --event Boo", "Event 'Boo' must be one of"),
    ("notification delete x", "connection notification id 'x' must be"),
    ("agent --dns-verification-interval 0", "0 is not in 1..=604800"),
    ("endpoint-service payer shop x", "PayerResponsibility 'x' must be one of"),
    ("notification modify vpce-nfn-0123456789abcdef0", "--target <TARGET>"),
    ("agent --region US", "region 'US' must be 1 to 30 lower-case letters, digits and inner hyphens; use a name like"),
    ("agent --account 12", "account '12' must be 12 digits; use an account id like"),
    ("agent --log-format xml", "[possible values: text, json]"),
    ("agent --host-prefix 100.64.0.1/16", "Prefix '100.64.0.1/16' must be an IPv4 network address"),
    ("agent --max-targets x", "Number 'x' must be a whole number; use"),
    ("agent --flow-buckets 1000", "Number '1000' must be a power of two; use"),
    ("agent --kernel-log loud", "[possible values: error, warn, info, debug, trace]"),
    ("completions tcsh", "possible values"),
    ("man", "<DIR>"),
    ("vpc list -o xml", "[possible values: table, json]"),
    ("vpc lits", "a similar subcommand exists: 'list'"),
];

#[test]
fn every_verb_refuses_bad_values_with_value_rule_and_way_out() {
    for (line, expected) in BAD_VALUES {
        match parse_line(line) {
            Ok(_) => panic!("`{line}` was accepted"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(expected), "`{line}` says: {text}");
                assert!(error.use_stderr() && error.exit_code() == 2, "`{line}`");
            }
        }
    }
    for verb in [
        "vpc describe",
        "target-group delete",
        "load-balancer delete",
        "instance describe",
        "instance register web-1 --subnet",
        "listener delete",
        "endpoint delete",
        "security-group delete",
    ] {
        let words = ["privatelink"].into_iter().chain(verb.split(' ')).chain([""]);
        let error = Cli::try_parse_from(words).expect_err(verb);
        assert!(error.to_string().contains("cannot be empty"), "{verb}: {error}");
    }
}

/// Protocol and ports of a rule are parsed together, after the command line.
#[test]
fn traffic_that_cannot_be_is_refused() {
    for (line, expected) in [
        ("security-group authorize g --protocol tcp --port x --cidr ::/0", "Traffic 'tcp:x' must be 'all', 'tcp'"),
        ("security-group authorize g --protocol all --port 80 --cidr ::/0", "Traffic 'all:80' must be 'all', 'tcp'"),
        ("security-group revoke g --protocol sctp --cidr ::/0", "Traffic 'sctp' must be 'all', 'tcp'"),
    ] {
        let parsed = parse_line(line).expect(line);
        let Command::Client(ClientCommand::SecurityGroup(command)) = parsed.command else { panic!("{line}") };
        let error = command.rule_error().expect(line);
        assert!(error.to_string().contains(expected), "`{line}` says: {error}");
        assert_eq!(error.exit_code(), ExitCode::from(2));
    }
}

#[test]
fn every_argument_with_a_rule_is_in_the_table() {
    // Free text, and references, which the empty value above covers; the agent decides on the rest.
    let free = [
        "file",
        "directory",
        "socket",
        "state_dir",
        "bpffs",
        "log",
        "credentials",
        "vpc",
        "target_group",
        "load_balancer",
    ];
    let free: BTreeSet<&str> = free
        .into_iter()
        .chain([
            "listener",
            "link",
            "endpoint",
            "security_groups",
            "source_group",
            "endpoint_service",
            "service_name",
            "security_group",
            "add_load_balancer",
            "remove_load_balancer",
            "subnet",
            "zone",
            "route_table",
            "interface",
            "association",
            "notify_ca",
            "notify_writes",
            "remove_subnets",
            "instance",
            "arguments",
            "access_log",
            "certificate",
            "certificates",
            "private_key",
            "chain",
            "ca",
            "replace",
            "names",
        ])
        .collect();
    let mut missing = Vec::new();
    fn walk<'a>(command: &'a clap::Command, path: Vec<&'a str>, visit: &mut impl FnMut(&[&str], &Arg)) {
        command.get_arguments().for_each(|argument| visit(&path, argument));
        for inner in command.get_subcommands() {
            walk(inner, [path.clone(), vec![inner.get_name()]].concat(), visit);
        }
    }
    let tree = command();
    walk(&tree, Vec::new(), &mut |path, argument| {
        let id = argument.get_id().as_str();
        if !argument.get_action().takes_values() || free.contains(id) {
            return;
        }
        let covered = BAD_VALUES.iter().any(|(line, _)| match argument.get_long() {
            Some(long) => {
                line.contains(&format!("--{long} "))
                    || argument.get_short().is_some_and(|s| line.contains(&format!("-{s} ")))
            }
            None => line.starts_with(&path.join(" ")),
        });
        if !covered {
            missing.push(format!("{} {id}", path.join(" ")));
        }
    });
    assert!(missing.is_empty(), "no bad value for: {missing:?}");
}

/// A declaration with every field; each case below replaces one piece of it.
const FULL: &str = r#"
[[vpc]]
name = "a"
cidr = "10.0.0.0/16"
gateway = "10.0.0.1"
ipv6-cidr = "fd00:10::/56"
ipv6-gateway = "fe80::1"
[[port]]
interface = "veth-a"
vpc = "a"
hook = "auto"
shared = false
[[security-group]]
name = "clients"
vpc = "a"
description = "all clients"
ingress = [{ traffic = "tcp:80", peer = "10.0.0.0/8" }]
egress = []
apply-to-established = true
[[instance]]
name = "web-1"
vpc = "a"
addresses = ["10.0.1.12"]
security-groups = ["clients"]
[[target-group]]
name = "web"
vpc = "a"
target-type = "ip"
ip-address-type = "ipv4"
protocol = "TCP"
port = 80
health-check = { protocol = "HTTP", port = "traffic-port", path = "/", interval = 30, timeout = 6, healthy-threshold = 5, unhealthy-threshold = 2, matcher = "200" }
attributes = { "deregistration_delay.timeout_seconds" = 300 }
targets = ["10.0.1.10"]
dns-targets = ["www.example.org"]
[[load-balancer]]
name = "lb"
vpc = "a"
addresses = ["10.0.0.5"]
[[load-balancer.listener]]
protocol = "TCP"
port = 8080
target-group = "web"
attributes = { "tcp.idle_timeout.seconds" = 350 }
[[endpoint-service]]
name = "shop"
load-balancer = "lb"
limits = { connections = 100, connections-per-second = "none", bits-per-second = "20M" }
[[endpoint]]
service-name = "shop"
vpc = "a"
address = "10.0.0.50"
ip-address-type = "dualstack"
ipv6-address = "fd00:10::50"
private-dns = true
aliases = ["10.200.0.0/24"]
[[endpoint-service]]
name = "db"
vpc = "a"
targets = ["10.0.1.20:5432"]
port = 5433
accept = ["2222*"]
private-dns-name = "db.example.com"
[[link]]
name = "both"
sides = ["vpc=a,target=10.0.1.10:22", "vpc=b,target=10.0.1.11:22"]
"#;

/// What is replaced, by what, and what the refusal must say.
const BAD_FIELDS: &[(&str, &str, &str)] = &[
    (
        "[[vpc]]",
        "[[vpcs]]",
        "unknown field `vpcs`, expected one of `vpc`, `port`, `security-group`, `instance`, `target-group`",
    ),
    ("name = \"web-1\"", "name = \"web_1\"", "name 'web_1' can contain only alphanumeric characters and hyphens; use"),
    ("addresses = [\"10.0.1.12\"]", "addresses = [\"10.0.1\"]", "Address '10.0.1' must be an IPv4 address; use"),
    (
        "target-type = \"ip\"",
        "target-type = \"lambda\"",
        "Target type 'lambda' must be one of '[instance, ip, alb]'; use",
    ),
    ("name = \"a\"", "name = \"a b\"", "name 'a b' can contain only alphanumeric characters and hyphens; use"),
    ("name = \"a\"\n", "", "missing field `name`"),
    ("cidr = \"10.0.0.0/16\"", "cidr = \"10.0.0.1/16\"", "VPC CIDR '10.0.0.1/16' has host bits set; use 10.0.0.0/16"),
    ("cidr = \"10.0.0.0/16\"", "cidr = 10", "invalid type: integer `10`, expected a string"),
    ("cidr = \"10.0.0.0/16\"\n", "", "missing field `cidr`"),
    ("gateway = \"10.0.0.1\"", "gateway = \"router\"", "Address 'router' must be an IPv4 address; use an address like"),
    (
        "ipv6-cidr = \"fd00:10::/56\"",
        "ipv6-cidr = \"fd00:10::1/56\"",
        "VPC IPv6 CIDR 'fd00:10::1/56' has host bits set",
    ),
    ("\"fe80::1\"", "\"10.0.0.1\"", "Address '10.0.0.1' must be an IPv6 address; use"),
    ("\"ipv4\"", "\"ip\"", "IP address type 'ip' must be one of '[ipv4, ipv6]'; use"),
    ("\"dualstack\"", "\"ipv6\"", "IP address type 'ipv6' must be one of '[ipv4, dualstack]'; use"),
    ("\"fd00:10::50\"", "\"x\"", "Address 'x' must be an IPv6 address; use"),
    ("gateway", "gatway", "unknown field `gatway`, expected one of `name`, `cidr`, `gateway`"),
    ("interface = \"veth-a\"", "interface = \"a234567890123456\"", "cannot be longer than '15' bytes"),
    ("interface = \"veth-a\"\n", "", "missing field `interface`"),
    ("hook = \"auto\"", "hook = \"nic\"", "hook 'nic' must be one of '[auto, tc, xdp]'; use auto"),
    ("shared = false", "shared = \"no\"", "expected a boolean"),
    (
        "name = \"clients\"",
        "name = \"sg-clients\"",
        "Group name 'sg-clients' cannot begin with 'sg-', which is reserved",
    ),
    ("traffic = \"tcp:80\"", "traffic = \"tcp:80-70\"", "Traffic 'tcp:80-70' must be 'all', 'tcp', 'udp', 'icmp'"),
    (", peer = \"10.0.0.0/8\"", "", "missing field `peer`"),
    ("description = \"all clients\"", "description = \"\"", "Description '' must be 1 to 255 of a-z"),
    ("apply-to-established = true", "apply-to-established = 1", "expected a boolean"),
    ("name = \"web\"", "name = \"-web\"", "name '-web' cannot begin or end with a hyphen; use"),
    (
        "protocol = \"TCP\"\nport = 80\n",
        "protocol = \"SCTP\"\nport = 80\n",
        "Protocol 'SCTP' must be one of '[HTTP, HTTPS, TCP, TLS, UDP, TCP_UDP]'; use TCP",
    ),
    ("port = 80\n", "port = 65536\n", "Port '65536' must be between '1-65535' inclusive; use"),
    ("port = 80\n", "", "missing field `port`"),
    (
        "protocol = \"HTTP\"",
        "protocol = \"UDP\"",
        "Health check protocol 'UDP' must be one of '[TCP, HTTP, HTTPS]'; use",
    ),
    ("port = \"traffic-port\"", "port = \"0\"", "Health check port '0' must be 'traffic-port' or a number"),
    ("path = \"/\"", "path = \"x\"", "Health check path 'x' must begin with '/'; use a path like /health"),
    ("interval = 30", "interval = -1", "invalid value: integer `-1`, expected u32"),
    ("timeout = 6", "timeout = 1.5", "invalid type: floating point `1.5`, expected u32"),
    ("healthy-threshold = 5", "healthy-threshold = \"5\"", "expected u32"),
    ("unhealthy-threshold = 2", "unhealthy = 2", "unknown field `unhealthy`"),
    ("matcher = \"200\"", "matcher = \"100\"", "Matcher '100' must be HTTP codes or ranges of them between '200-599'"),
    ("timeout_seconds\" = 300", "timeout_seconds\" = [300]", "did not match any variant"),
    ("targets = [\"10.0.1.10\"]", "targets = [\"web.1\"]", "Target 'web.1' must be an IP address"),
    ("www.example.org", "www.example.org:0", "DNS name 'www.example.org:0' must have a port between '1-65535'; use"),
    ("name = \"lb\"", "name = \"internal-lb\"", "cannot begin with 'internal-', which is reserved"),
    ("addresses = [\"10.0.0.5\"]", "addresses = [\"10.0.0\"]", "Address '10.0.0' must be an IP address; use"),
    ("addresses = [\"10.0.0.5\"]\n", "", "missing field `addresses`"),
    ("port = 8080", "port = 0", "Listener port '0' must be between '1-65535' inclusive, a range"),
    ("port = 8080", "port = \"9-8\"", "Listener port '9-8' must be between '1-65535' inclusive, a range"),
    ("target-group = \"web\"\n", "target-groups = [\"web=1000\"]\n", "Weight '1000' must be between '0-999' inclusive"),
    ("seconds\" = 350", "seconds\" = {}", "did not match any variant"),
    ("name = \"shop\"", "name = \"shop-\"", "name 'shop-' cannot begin or end with a hyphen"),
    (
        "connections = 100",
        "connections = 0",
        "Connection limit '0' must be between '1-1000000000' inclusive, or 'none'",
    ),
    ("per-second = \"20M\"", "per-second = \"fast\"", "Limit of bits a second 'fast' must be between"),
    ("load-balancer = \"lb\"", "load-balancer = 5", "did not match any variant"),
    ("[\"10.0.1.20:5432\"]", "[\"db\"]", "Target 'db' must be an IPv4 address"),
    ("port = 5433", "port = 0", "Port '0' must be between '1-65535' inclusive; use"),
    ("[\"2222*\"]", "[\"root\"]", "consumer 'root' must be an account or the id of an endpoint"),
    ("db.example.com", "db_1", "private DNS name 'db_1' must be labels of 1 to 63"),
    ("private-dns = true", "private-dns = 1", "expected a boolean"),
    ("10.200.0.0/24", "10.200.0.0/33", "Alias '10.200.0.0/33' must be an IPv4 address or prefix; use"),
    ("name = \"both\"\n", "", "missing field `name`"),
    (", \"vpc=b,target=10.0.1.11:22\"", "", "invalid length 1"),
    ("vpc=b,target=10.0.1.11:22", "vpc=b", "must name a VPC and at least one target"),
    ("service-name = \"shop\"\n", "", "missing field `service-name`"),
    ("address = \"10.0.0.50\"", "address = \"10.0.0.50/16\"", "Address '10.0.0.50/16' must be an IPv4 address; use"),
    ("address = \"10.0.0.50\"", "address = 10.0.0.50", "TOML parse error"),
];

#[test]
fn every_field_of_a_declaration_refuses_bad_values_and_names_the_line() {
    parse("full.toml", FULL).expect("the full declaration");
    for (good, bad, expected) in BAD_FIELDS {
        assert!(FULL.contains(good), "{good}");
        let text = FULL.replacen(good, bad, 1);
        match parse("x.toml", &text) {
            Ok(_) => panic!("{bad:?} was accepted"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(expected), "{bad:?} says: {text}");
                assert!(text.contains("x.toml") && text.contains("line "), "{bad:?} does not say where: {text}");
                assert_eq!(error.exit_code(), ExitCode::from(2));
            }
        }
    }
}

#[test]
fn the_file_in_the_help_of_apply_is_a_declaration() {
    let tree = command();
    let apply = tree.find_subcommand("apply").expect("apply");
    let help = apply.get_after_long_help().expect("its help").to_string();
    let file: String =
        help.lines().filter_map(|line| line.strip_prefix("  ")).map(|line| format!("{line}\n")).collect();
    let declaration = parse("help", &file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    assert_eq!(
        (
            declaration.vpc.len(),
            declaration.load_balancer.first().map(|lb| lb.listener.len()),
            declaration.endpoint.len()
        ),
        (1, Some(1), 1)
    );
}

#[test]
fn help_is_no_error() {
    for line in ["--help", "vpc --help", "target health -h", "--version"] {
        let error = parse_line(line).expect_err(line);
        assert!(matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{line}: {error}");
        assert!(!error.use_stderr(), "{line}");
    }
}

#[test]
fn failures_have_their_documented_exit_status() {
    let body = || ErrorBody { code: "C".to_owned(), message: "m".to_owned(), hint: "h".to_owned() };
    let gone = || std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    let cases = [
        (CliError::Refused(body()), 1),
        (CliError::Input { message: "m".to_owned(), hint: "h".to_owned() }, 2),
        (CliError::Unreachable { socket: "/x".into(), source: gone() }, 3),
        (CliError::AgentFailed(body()), 4),
        (CliError::Protocol { socket: "/x".into(), detail: "d".to_owned() }, 4),
        (CliError::Output(std::io::ErrorKind::BrokenPipe.into()), 0),
    ];
    for (error, status) in cases {
        assert_eq!(error.exit_code(), ExitCode::from(status), "{error}");
    }
}

#[test]
fn completions_and_man_pages_come_from_the_tree() {
    let mut script = Vec::new();
    clap_complete::generate(clap_complete::Shell::Bash, &mut command(), "privatelink", &mut script);
    let script = String::from_utf8(script).expect("text");
    assert!(script.contains("endpoint-service") && script.contains("--health-check-path"));
    let dir = tempfile::TempDir::new().expect("a directory");
    clap_mangen::generate_to(command().disable_help_subcommand(true), dir.path()).expect("man pages");
    for page in ["privatelink.1", "privatelink-endpoint-create.1", "privatelink-apply.1"] {
        assert!(dir.path().join(page).is_file(), "{page}");
    }
}

#[test]
fn tables_are_aligned_and_a_row_is_a_line() {
    let rows = [["a".to_owned(), "10.0.0.0/16".to_owned()], ["longer".to_owned(), "-".to_owned()]];
    assert_eq!(output::table(["NAME", "CIDR"], rows), "NAME    CIDR\na       10.0.0.0/16\nlonger  -");
    assert_eq!(output::fields([("Name", "a".to_owned()), ("Longer", "b".to_owned())]), "Name:    a\nLonger:  b");
}

#[test]
fn a_plan_is_a_line_for_each_change() {
    let step = |action, name: &str, detail: &str| Step {
        action,
        kind: "vpc".to_owned(),
        name: name.to_owned(),
        detail: detail.to_owned(),
    };
    let plan = Plan {
        steps: vec![
            step(Action::Create, "a", "10.0.0.0/16"),
            step(Action::Modify, "b", ""),
            step(Action::Delete, "c", ""),
        ],
    };
    assert_eq!(apply::changes(&plan, true), "+ vpc a (10.0.0.0/16)\n~ vpc b\n- vpc c\n3 changes, not made (--dry-run)");
    assert_eq!(apply::changes(&Plan::default(), false), "nothing to change");
}

#[test]
fn a_usage_error_is_json_where_json_is_asked_for() {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter();
    for line in ["vpc create -o json", "--output=json vpc lits", "vpc create --output json", "-ojson vpc"] {
        assert!(asks_for_json(words(line)), "{line}");
    }
    for line in ["vpc create", "vpc create -o table json"] {
        assert!(!asks_for_json(words(line)), "{line}");
    }
    let error = CliError::usage(&parse_line("vpc create a --cidr 10.0.0.1/16").expect_err("host bits"));
    assert_eq!(
        error.to_string(),
        "invalid value '10.0.0.1/16' for '--cidr <CIDR>': VPC CIDR '10.0.0.1/16' has host bits set; use 10.0.0.0/16"
    );
}
