//! What people have published and connected with AWS, step by step as they wrote it down, with the same commands and
//! calls: one listener a server for maintenance, a name of the provider's own, a provider and a consumer out of one
//! template, and two networks that reach one host of each other. The plain case is
//! `aws_cli_publishes_and_connects_across_accounts`.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    aws::Aws,
    dns::{Dnsmasq, Resolver},
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Nginx, Sshd, curl},
    require::Need,
    scenario::Scenario,
    topology::{Hook, HostPlan, VpcPlan},
};
use serde_json::Value;

use crate::{
    Run, Test,
    aws::{CONSUMER, NEEDS, PROVIDER, at, attach, network, with_api},
    common::{PATIENCE, TARGET_PORT},
    dns::{SECOND, VERIFIER},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "aws_cli_makes_a_maintenance_line_and_a_private_name",
            needs: WITH_SSH,
            run: Run::Once(named_line),
        },
        Test { name: "boto3_makes_a_template_s_stacks_and_a_two_way_link", needs: NEEDS, run: Run::Once(calls) },
    ]
};

const WITH_SSH: &[Need] = &[
    Need::Program("python3"),
    Need::Program("curl"),
    Need::Program("nginx"),
    Need::Program("sshd"),
    Need::Program("ssh"),
    Need::Program("ssh-keygen"),
    Need::Program("dnsmasq"),
    Need::Program("unshare"),
    Need::AwsCli,
];

/// What is no step of its own in what people wrote down.
const SCRIPT: &str = include_str!("workflows.py");

const PRIVATE_NAME: &str = "api.shop.example.org";

/// One load balancer with a listener for each server's sshd and one for the page, behind a service that has a name of
/// its provider's.
fn named_line() -> Result<()> {
    let plans = vec![
        VpcPlan::new("operations", vec![HostPlan::new("client", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server-1", 1, 10), HostPlan::new("server-2", 1, 11)]),
    ];
    let verifier = format!("--dns-verification-resolver={VERIFIER}");
    with_api(Hook::Auto, plans, &[&verifier], |scenario, provider, consumer| {
        let mut sshds = Vec::new();
        for name in ["server-1", "server-2"] {
            let host = scenario.topology.host(name);
            let address = SocketAddrV4::new(host.address(), 22);
            sshds.push(Sshd::start(&host.netns, Directory::new(name)?, address, name)?);
        }
        let host = scenario.topology.host("server-1");
        let page = SocketAddrV4::new(host.address(), TARGET_PORT);
        let nginx = Nginx::start(&host.netns, Directory::new("page")?, page, "a page")?;

        let (vpc, subnet) = network(scenario, provider, PROVIDER, "provider")?;
        let lb = provider.run(&format!(
            "elbv2 create-load-balancer --name line --type network --scheme internal --subnets {subnet}"
        ))?;
        let lb = at(&lb, "LoadBalancers.0.LoadBalancerArn")?;
        let node: Ipv4Addr = node(provider, "line")?;
        let port = TARGET_PORT.to_string();
        provider.script(
            SCRIPT,
            &["listeners", &vpc, lb, "8022=10.0.1.10:22", "8023=10.0.1.11:22", &format!("80=10.0.1.10:{port}")],
        )?;
        let made = provider.run(&format!(
            "ec2 create-vpc-endpoint-service-configuration --network-load-balancer-arns {lb} --acceptance-required \
             --private-dns-name {PRIVATE_NAME}"
        ))?;
        let (service, name) =
            (at(&made, "ServiceConfiguration.ServiceId")?, at(&made, "ServiceConfiguration.ServiceName")?);
        let value = at(&made, "ServiceConfiguration.PrivateDnsNameConfiguration.Value")?;
        let principal = format!("arn:aws:iam::{CONSUMER}:root");
        provider.run(&format!(
            "ec2 modify-vpc-endpoint-service-permissions --service-id {service} --add-allowed-principals {principal}"
        ))?;

        let (vpc, subnet) = network(scenario, consumer, CONSUMER, "operations")?;
        consumer.run(&format!("ec2 modify-vpc-attribute --vpc-id {vpc} --enable-dns-hostnames"))?;
        let group =
            consumer.run(&format!("ec2 create-security-group --group-name line --description line --vpc-id {vpc}"))?;
        let group = at(&group, "GroupId")?;
        consumer.run(&format!(
            "ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 80-8023 --cidr 10.0.1.0/24"
        ))?;
        let made = consumer.run(&format!(
            "ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id {vpc} --service-name {name} \
             --subnet-ids {subnet} --security-group-ids {group}"
        ))?;
        let endpoint = at(&made, "VpcEndpoint.VpcEndpointId")?;
        let regional = at(&made, "VpcEndpoint.DnsEntries.0.DnsName")?;

        // The private name counts after the record is found, and then after the acceptance.
        let state = || -> Result<String> {
            let described =
                provider.run(&format!("ec2 describe-vpc-endpoint-service-configurations --service-ids {service}"))?;
            at(&described, "ServiceConfigurations.0.PrivateDnsNameConfiguration.State").map(str::to_owned)
        };
        let verify =
            || provider.run(&format!("ec2 start-vpc-endpoint-service-private-dns-verification --service-id {service}"));
        let enable = format!("ec2 modify-vpc-endpoint --vpc-endpoint-id {endpoint} --private-dns-enabled");
        let server = |records: &[String]| Dnsmasq::start(&scenario.topology.lb, VERIFIER, records);
        {
            let _without = server(&["--local=/org/".to_owned()])?;
            verify()?;
            ensure!(state()? == "failed", "verified by nothing");
        }
        let _with = server(&["--local=/org/".to_owned(), format!("--txt-record={PRIVATE_NAME},{value}")])?;
        verify()?;
        ensure!(state()? == "verified");
        let early = consumer.refused(&enable)?;
        let text = format!(
            "Private DNS can only be enabled after the endpoint connection is accepted by the owner of {name}."
        );
        ensure!(early.contains(&text), "{early}");
        provider.run(&format!(
            "ec2 accept-vpc-endpoint-connections --service-id {service} --vpc-endpoint-ids {endpoint}"
        ))?;
        consumer.run(&enable)?;

        let client = &scenario.topology.host("client").netns;
        let resolver = Resolver::new(*SECOND.ip())?;
        for (port, sshd, server) in [(8022, &sshds[0], "server-1"), (8023, &sshds[1], "server-2")] {
            let said = eventually("ssh is let in", Duration::from_secs(20), || {
                let ssh = resolver.command(client, "ssh");
                let mut ssh = sshd.client_by(ssh, regional, port, "echo $PRIVATELINK_HOST $SSH_CONNECTION")?;
                let output = ssh.stdin(Stdio::null()).output().context("starting ssh")?;
                ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
                Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
            })?;
            ensure!(said.starts_with(&format!("{server} {node} ")), "port {port}: {said}");
        }
        // The page comes by the provider's name and by the endpoint's own, each from the load balancer's address.
        for host in [PRIVATE_NAME, regional] {
            let page = eventually("the page comes by its name", PATIENCE, || {
                resolver.curl(client, &[&format!("http://{host}/")])
            })?;
            ensure!(page == "a page", "{host}: {page}");
        }
        let from = nginx.logged_clients(2)?;
        ensure!(from.iter().all(|client| *client == node.to_string()), "requests from {from:?}");

        // The listener of the page moves to another port, and stays what it is.
        let found = provider.run(&format!("elbv2 describe-listeners --load-balancer-arn {lb}"))?;
        let rows = found["Listeners"].as_array().context("no listeners")?;
        let web = rows.iter().find(|listener| listener["Port"] == 80).context("no listener of port 80")?;
        let web = at(web, "ListenerArn")?;
        let moved = provider.run(&format!("elbv2 modify-listener --listener-arn {web} --port 81"))?;
        ensure!(at(&moved, "Listeners.0.ListenerArn")? == web && moved["Listeners"][0]["Port"] == 81, "{moved}");
        let page = eventually("the page comes by the new port", PATIENCE, || {
            resolver.curl(client, &[&format!("http://{regional}:81/")])
        })?;
        ensure!(page == "a page", "{page}");
        ensure!(resolver.curl(client, &[&format!("http://{regional}/")]).is_err(), "the old port still answers");
        let taken = provider.refused(&format!("elbv2 modify-listener --listener-arn {web} --port 8022"))?;
        ensure!(taken.contains("DuplicateListener"), "{taken}");
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

/// The only node address of the load balancer `name`.
fn node(aws: &Aws, name: &str) -> Result<Ipv4Addr> {
    let filter = format!("ec2 describe-network-interfaces --filters Name=description,Values=ELB?net/{name}/*");
    let found = aws.run(&filter)?;
    Ok(at(&found, "NetworkInterfaces.0.PrivateIpAddress")?.parse()?)
}

/// A provider and a consumer out of one template, both 10.0.0.0/16, and two networks of other address classes that each
/// have an endpoint to one host of the other.
fn calls() -> Result<()> {
    let host = |name, address: [u8; 4]| HostPlan { name, addresses: vec![address.into()] };
    let plans = vec![
        VpcPlan::new("consumer", vec![host("function", [10, 0, 1, 10])]),
        VpcPlan::new("provider", vec![host("server", [10, 0, 1, 10])]),
        VpcPlan::new("premises", vec![host("test01", [10, 200, 0, 10])]),
        VpcPlan::new("cloud", vec![host("test02", [192, 168, 0, 10])]),
    ];
    with_api(Hook::Auto, plans, &[], |scenario, aws, _| {
        let serve = |host: &str, page: &str| {
            let host = scenario.topology.host(host);
            let address = SocketAddrV4::new(host.address(), TARGET_PORT);
            Nginx::start(&host.netns, Directory::new(host.name)?, address, page)
        };
        let _server = serve("server", "Hello from behind the load balancer!")?;
        let (one, two) = (serve("test01", "hello from test01")?, serve("test02", "hello from test02")?);
        let port = TARGET_PORT.to_string();
        let made = aws.script(SCRIPT, &["create", &port])?;
        for (vpc, account) in
            [("provider", PROVIDER), ("consumer", CONSUMER), ("premises", CONSUMER), ("cloud", PROVIDER)]
        {
            attach(scenario, account, at(&made, &format!("vpcs.{vpc}"))?, vpc)?;
        }

        // The consumer's function asks by the second half of the first DNS entry, as its template says.
        let resolver = Resolver::new(*SECOND.ip())?;
        let url = format!("http://{}/", at(&made, "regional")?);
        let function = &scenario.topology.host("function").netns;
        let page =
            eventually("the function gets its page", Duration::from_secs(20), || resolver.curl(function, &[&url]))?;
        ensure!(page == "Hello from behind the load balancer!", "{page}");

        // Each side reaches the other's host as an address of its own network, and is seen as one of the other's.
        both_ways(scenario, &made, ("test01", &one), ("test02", &two))?;
        aws.script(SCRIPT, &["refusals", &made.to_string()])?;
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

fn both_ways(scenario: &Scenario, made: &Value, a: (&str, &Nginx), b: (&str, &Nginx)) -> Result<()> {
    for ((from, _), (to, server), seen) in [(a, b, "192.168."), (b, a, "10.200.")] {
        let address = at(made, &format!("link.{from}"))?;
        let client: &Netns = &scenario.topology.host(from).netns;
        let page = eventually("the other side's page comes", Duration::from_secs(20), || {
            curl(client, &["--max-time", "2", &format!("http://{address}/")])
        })?;
        ensure!(page == format!("hello from {to}"), "{from}: {page}");
        let clients = server.logged_clients(1)?;
        ensure!(clients.iter().all(|client| client.starts_with(seen)), "{to} saw {clients:?}");
    }
    Ok(())
}
