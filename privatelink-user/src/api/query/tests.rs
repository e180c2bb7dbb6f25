mod application;
mod authentication;
mod fuzz;
mod gateways;
mod networks;
mod parameters;
mod regions;
mod security;
mod status;
mod texts;

use std::net::Ipv4Addr;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    dns::upstream::Upstreams,
    model::Zone,
    notify::{Targets, Trust},
    runtime::NoRuntime,
    store::Store,
};

const A: &str = "111111111111";
const B: &str = "222222222222";

/// An API without an agent, called as HTTP calls it.
struct Rig {
    query: QueryApi,
    runtime: tokio::runtime::Runtime,
    _dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::in_front_of(Arc::new(NoRuntime))
    }

    fn in_front_of(runtime: Arc<dyn crate::runtime::Runtime>) -> Self {
        let dir = TempDir::new().expect("a directory");
        let api = Api {
            store: Arc::new(Store::open(dir.path()).expect("a store")),
            runtime,
            default_owner: Owner::example(),
            domain_resolvers: Upstreams::new(Vec::new()),
            notify: Arc::new(told()),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().expect("a runtime");
        let credentials = Credentials::default();
        let query = QueryApi {
            api: Arc::new(api),
            credentials,
            trust_loopback: true,
            allow_reset: true,
            replays: Default::default(),
        };
        Self { query, runtime, _dir: dir }
    }

    fn send(&self, incoming: Incoming) -> (u16, String) {
        let response = self.query.answer(incoming, self.runtime.handle());
        let status = response.status().as_u16();
        let body = self.runtime.block_on(axum::body::to_bytes(response.into_body(), usize::MAX)).expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    /// A request of an account, `ACCOUNT` or `ACCOUNT@REGION`, with parameters as a form.
    fn ask(&self, account: &str, service: Service, form: &str) -> (u16, String) {
        let (account, region) = account.split_once('@').unwrap_or((account, "us-east-1"));
        let scope = format!("{account}/20260101/{region}/{}/aws4_request", service.signing_name());
        let header =
            format!("AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host;x-amz-date, Signature={}", "0".repeat(64));
        let (status, body) =
            self.send(incoming(&format!("Version={}&{form}", service.version()), &[("authorization", &header)]));
        well_formed(&body);
        (status, body)
    }

    /// The same, and it is done.
    fn ec2(&self, account: &str, form: &str) -> String {
        let (status, body) = self.ask(account, Service::Ec2, form);
        assert_eq!(status, 200, "{form}: {body}");
        body
    }

    fn elb(&self, account: &str, form: &str) -> String {
        let (status, body) = self.ask(account, Service::LoadBalancing, form);
        assert_eq!(status, 200, "{form}: {body}");
        body
    }

    /// The code and message of a refusal.
    fn refused(&self, account: &str, service: Service, form: &str) -> (u16, String, String) {
        let (status, body) = self.ask(account, service, form);
        assert_ne!(status, 200, "{form} was accepted: {body}");
        (status, text(&body, "Code"), text(&body, "Message"))
    }

    /// A published load balancer of account A; the service's id and name.
    fn published(&self) -> (String, String) {
        self.published_by(A)
    }

    /// The same of another account.
    fn published_by(&self, account: &str) -> (String, String) {
        let subnets = self.ec2(account, "Action=DescribeSubnets");
        let (subnet, vpc) = (text(&subnets, "subnetId"), text(&subnets, "vpcId"));
        let group = self.elb(
            account,
            &format!("Action=CreateTargetGroup&Name=web&Protocol=TCP&Port=8080&TargetType=ip&VpcId={vpc}"),
        );
        let group = text(&group, "TargetGroupArn");
        self.elb(account, &format!("Action=RegisterTargets&TargetGroupArn={group}&Targets.member.1.Id=172.31.9.9"));
        let lb = format!("Action=CreateLoadBalancer&Name=web&Type=network&Scheme=internal&Subnets.member.1={subnet}");
        let lb = text(&self.elb(account, &lb), "LoadBalancerArn");
        self.elb(
            account,
            &format!(
                "Action=CreateListener&LoadBalancerArn={lb}&Protocol=TCP&Port=80&\
                 DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={group}"
            ),
        );
        let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}");
        let service = self.ec2(account, &service);
        (text(&service, "serviceId"), text(&service, "serviceName"))
    }
}

fn incoming(query: &str, headers: &[(&str, &str)]) -> Incoming {
    Incoming {
        method: Method::POST,
        path: "/".to_owned(),
        query: String::new(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)),
        body: Ok(Bytes::from(query.to_owned())),
    }
}

/// The first text of the elements `name`.
fn text(body: &str, name: &str) -> String {
    texts(body, name).into_iter().next().unwrap_or_else(|| panic!("no {name} in {body}"))
}

fn texts(body: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let parts = body.split(&open).skip(1);
    parts.filter_map(|part| part.split_once(&close)).map(|(text, _)| text.replace("&apos;", "'")).collect()
}

fn well_formed(body: &str) {
    let mut reader = quick_xml::Reader::from_str(body);
    let mut depth = 0_i32;
    loop {
        match reader.read_event() {
            Ok(quick_xml::events::Event::Start(_)) => depth += 1,
            Ok(quick_xml::events::Event::End(_)) => depth -= 1,
            Ok(quick_xml::events::Event::Eof) => break,
            Ok(_) => {}
            Err(error) => panic!("{error} in {body}"),
        }
    }
    assert_eq!(depth, 0, "{body}");
}

/// The actions that clients of this API use, by service.
const EC2: &str = "CreateVpcEndpointServiceConfiguration DescribeVpcEndpointServiceConfigurations \
    ModifyVpcEndpointServiceConfiguration DeleteVpcEndpointServiceConfigurations ModifyVpcEndpointServicePermissions \
    DescribeVpcEndpointServicePermissions StartVpcEndpointServicePrivateDnsVerification DescribeVpcEndpointConnections \
    AcceptVpcEndpointConnections RejectVpcEndpointConnections DescribeVpcEndpointServices CreateVpcEndpoint \
    DescribeVpcEndpoints ModifyVpcEndpoint DeleteVpcEndpoints CreateVpcEndpointConnectionNotification \
    DescribeVpcEndpointConnectionNotifications ModifyVpcEndpointConnectionNotification \
    DeleteVpcEndpointConnectionNotifications ModifyVpcEndpointServicePayerResponsibility \
    ModifyVpcEndpointPayerResponsibility DescribeVpcEndpointAssociations CreateVpc DescribeVpcs DeleteVpc \
    ModifyVpcAttribute DescribeVpcAttribute CreateSubnet DescribeSubnets DeleteSubnet ModifySubnetAttribute \
    CreateRouteTable DescribeRouteTables AssociateRouteTable DisassociateRouteTable DeleteRouteTable CreateRoute \
    ReplaceRoute DeleteRoute CreateSecurityGroup DescribeSecurityGroups DescribeSecurityGroupRules DeleteSecurityGroup \
    AuthorizeSecurityGroupIngress AuthorizeSecurityGroupEgress RevokeSecurityGroupIngress RevokeSecurityGroupEgress \
    DescribeNetworkInterfaces DescribeAvailabilityZones DescribeRegions DescribeAccountAttributes CreateTags DeleteTags \
    DescribeTags DescribeInstances RunInstances TerminateInstances";
const ELB: &str = "CreateLoadBalancer DescribeLoadBalancers DeleteLoadBalancer ModifyLoadBalancerAttributes \
    DescribeLoadBalancerAttributes SetSecurityGroups SetSubnets SetIpAddressType CreateTargetGroup DescribeTargetGroups \
    ModifyTargetGroup DeleteTargetGroup ModifyTargetGroupAttributes DescribeTargetGroupAttributes RegisterTargets \
    DeregisterTargets DescribeTargetHealth CreateListener DescribeListeners ModifyListener DeleteListener \
    DescribeListenerAttributes ModifyListenerAttributes AddListenerCertificates RemoveListenerCertificates \
    DescribeListenerCertificates DescribeSSLPolicies AddTags RemoveTags DescribeTags DescribeAccountLimits DescribeRules \
    CreateRule ModifyRule DeleteRule SetRulePriorities DescribeCapacityReservation";

#[test]
fn every_action_has_one_row_and_answers_in_its_dialect() {
    let rig = Rig::new();
    assert_eq!(EC2.split_whitespace().count() + ELB.split_whitespace().count(), 94);
    for (service, names) in [(Service::Ec2, EC2), (Service::LoadBalancing, ELB)] {
        for name in names.split_whitespace() {
            let rows = actions::ACTIONS.iter().filter(|row| row.service == service && row.name == name).count();
            assert_eq!(rows, 1, "{name}");
            let (status, body) = rig.ask(A, service, &format!("Action={name}"));
            assert!(status < 500, "{name}: {status} {body}");
            if status == 200 {
                assert!(body.contains(&format!("<{name}Response xmlns=\"{}\">", service.namespace())), "{body}");
            } else {
                assert!(!text(&body, "Code").is_empty() && !text(&body, "Message").is_empty(), "{name}: {body}");
            }
        }
    }
    let more = ["StartInstances", "StopInstances", "GetCallerIdentity"];
    assert_eq!(actions::ACTIONS.len(), 94 + more.len(), "the actions above and {more:?}");
    let (status, code, message) = rig.refused(A, Service::Ec2, "Action=Nonsense");
    assert_eq!((status, code.as_str()), (400, "InvalidAction"));
    assert_eq!(message, "The action Nonsense is not valid for this web service.");
    let (_, body) = rig.ask(A, Service::Sts, "Action=GetCallerIdentity");
    assert_eq!((text(&body, "Account").as_str(), text(&body, "Arn").as_str()), (A, "arn:aws:iam::111111111111:root"));
}

#[test]
fn a_fresh_account_has_its_defaults_and_what_it_deletes_stays_deleted() {
    let rig = Rig::new();
    let vpcs = rig.ec2(A, "Action=DescribeVpcs&Filter.1.Name=is-default&Filter.1.Value.1=true");
    assert_eq!(texts(&vpcs, "cidrBlock").first().map(String::as_str), Some("172.31.0.0/16"));
    let subnets = rig.ec2(A, "Action=DescribeSubnets");
    let mut zones = texts(&subnets, "availabilityZone");
    zones.sort();
    assert_eq!(zones, ["us-east-1a", "us-east-1b", "us-east-1c"]);
    assert_eq!(texts(&subnets, "availableIpAddressCount"), vec!["4091"; Zone::ALL.len()]);
    let other = rig.ec2(B, "Action=DescribeVpcs");
    assert_ne!(text(&vpcs, "vpcId"), text(&other, "vpcId"));
    for subnet in texts(&subnets, "subnetId") {
        rig.ec2(A, &format!("Action=DeleteSubnet&SubnetId={subnet}"));
    }
    rig.ec2(A, &format!("Action=DeleteVpc&VpcId={}", text(&vpcs, "vpcId")));
    assert!(texts(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId").is_empty());
    assert_eq!(rig.refused(A, Service::Ec2, "Action=DescribeVpcs&VpcId.1=vpc-0").1, "InvalidVpcID.NotFound");
}

#[test]
fn the_workflow_of_publishing_and_connecting_across_accounts() {
    let rig = Rig::new();
    let (service, name) = rig.published();
    let subnets = rig.ec2(B, "Action=DescribeSubnets&Filter.1.Name=availability-zone&Filter.1.Value.1=us-east-1?");
    let vpc = text(&subnets, "vpcId");
    let zone = text(&rig.ec2(A, "Action=DescribeVpcEndpointServiceConfigurations"), "availabilityZoneSet");
    let zone = text(&zone, "item");
    let in_zone =
        rig.ec2(B, &format!("Action=DescribeSubnets&Filter.1.Name=availability-zone&Filter.1.Value.1={zone}"));
    let subnet = text(&in_zone, "subnetId");
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={subnet}"
    );
    let unseen = format!("The Vpc Endpoint Service '{name}' does not exist");
    assert_eq!(rig.refused(B, Service::Ec2, &create), (400, "InvalidServiceName".to_owned(), unseen.clone()));
    let find = format!("Action=DescribeVpcEndpointServices&ServiceName.1={name}");
    assert_eq!(rig.refused(B, Service::Ec2, &find), (400, "InvalidServiceName".to_owned(), unseen));
    let permit = format!("Action=ModifyVpcEndpointServicePermissions&ServiceId={service}&AddAllowedPrincipals.1=");
    assert_eq!(rig.refused(A, Service::Ec2, &format!("{permit}bob")).1, "InvalidPrincipal");
    let added = rig.ec2(A, &format!("{permit}arn:aws:iam::{B}:root"));
    assert_eq!(text(&added, "principalType"), "Account");
    assert_eq!(texts(&rig.ec2(B, &find), "serviceName"), [name.clone()]);

    let made = rig.ec2(B, &create);
    let endpoint = text(&made, "vpcEndpointId");
    assert_eq!(text(&made, "state"), "pendingAcceptance");
    let (regional, zonal) = (&texts(&made, "dnsName")[0], &texts(&made, "dnsName")[1]);
    assert!(regional.ends_with(&format!(".{service}.us-east-1.vpce.amazonaws.com")), "{regional}");
    assert!(zonal.contains(&format!("-{zone}.{service}.")), "{zonal}");
    let interface = text(&text(&made, "networkInterfaceIdSet"), "item");
    let interface = rig.ec2(B, &format!("Action=DescribeNetworkInterfaces&NetworkInterfaceId.1={interface}"));
    assert_eq!(text(&interface, "subnetId"), subnet);
    let address: Ipv4Addr = text(&interface, "privateIpAddress").parse().expect("an address");
    let cidr: ipnet::Ipv4Net = text(&in_zone, "cidrBlock").parse().expect("a range");
    assert!(cidr.contains(&address) && u32::from(address) - u32::from(cidr.network()) >= 4, "{address} of {cidr}");

    let waiting = "Action=DescribeVpcEndpointConnections&Filter.1.Name=vpc-endpoint-state&Filter.1.Value.1=pending*";
    let connections = rig.ec2(A, waiting);
    assert_eq!(
        (text(&connections, "vpcEndpointId"), text(&connections, "vpcEndpointOwner")),
        (endpoint.clone(), B.to_owned())
    );
    assert!(texts(&rig.ec2(B, waiting), "vpcEndpointId").is_empty(), "the consumer has no service");
    let answer =
        |verb: &str| format!("Action={verb}VpcEndpointConnections&ServiceId={service}&VpcEndpointId.1={endpoint}");
    assert_eq!(rig.refused(B, Service::Ec2, &answer("Accept")).1, "InvalidVpcEndpointServiceId.NotFound");
    assert!(texts(&rig.ec2(A, &answer("Accept")), "code").is_empty());
    let describe = format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={endpoint}");
    assert_eq!(text(&rig.ec2(B, &describe), "state"), "available");
    assert_eq!(rig.refused(A, Service::Ec2, &describe).1, "InvalidVpcEndpointId.NotFound");

    // Deletion guards, word for word, inside an answer that is fine as a whole.
    let delete = format!("Action=DeleteVpcEndpointServiceConfigurations&ServiceId.1={service}&ServiceId.2=vpce-svc-0");
    let guarded = rig.ec2(A, &delete);
    assert_eq!(texts(&guarded, "code"), ["ExistingVpcEndpointConnections", "InvalidVpcEndpointService.NotFound"]);
    assert_eq!(texts(&guarded, "message")[0], "Service has existing active VPC Endpoint connections!");
    let lb = text(&rig.elb(A, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    let (_, code, message) =
        rig.refused(A, Service::LoadBalancing, &format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"));
    assert_eq!(code, "ResourceInUse");
    assert_eq!(
        message,
        format!("Load balancer '{lb}' cannot be deleted because it is currently associated with another service")
    );
    let private = format!("{create}&PrivateDnsEnabled=true");
    let (_, code, message) = rig.refused(B, Service::Ec2, &private);
    assert_eq!(code, "InvalidParameter");
    assert_eq!(
        message,
        format!("Private DNS can't be enabled because the service {name} does not provide a private DNS name.")
    );
    rig.ec2(A, &answer("Reject"));
    assert_eq!(text(&rig.ec2(B, &describe), "state"), "rejected");
    assert!(texts(&rig.ec2(A, &delete), "code").len() == 1, "only the unknown one is left");
    rig.elb(A, &format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"));
    rig.ec2(B, &format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={endpoint}"));
}

#[test]
fn an_endpoint_carries_the_default_group_unless_others_are_named() {
    let rig = Rig::new();
    let (_, name) = rig.published();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let default = format!(
        "Action=DescribeSecurityGroups&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}&Filter.2.Name=group-name&\
         Filter.2.Value.1=default"
    );
    let default = rig.ec2(A, &default);
    assert_eq!(text(&default, "groupDescription"), "default VPC security group");
    let default = text(&default, "groupId");
    let made = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}");
    let made = rig.ec2(A, &made);
    assert_eq!((text(&made, "groupId"), text(&made, "groupName").as_str()), (default.clone(), "default"));
    let delete = format!("Action=DeleteSecurityGroup&GroupId={default}");
    let message = format!("the specified group: \"{default}\" name: \"default\" cannot be deleted by a user");
    let (_, code, found) = rig.refused(A, Service::Ec2, &delete);
    assert_eq!((code.as_str(), found.replace("&quot;", "\"")), ("CannotDelete", message));
    let last = format!(
        "Action=ModifyVpcEndpoint&VpcEndpointId={}&RemoveSecurityGroupId.1={default}",
        text(&made, "vpcEndpointId")
    );
    assert_eq!(rig.refused(A, Service::Ec2, &last).1, "InvalidParameterValue", "without a group it would be open");
    let by_name = "Action=AuthorizeSecurityGroupIngress&GroupName=default&IpProtocol=tcp&FromPort=80&ToPort=80&\
                   CidrIp=10.0.0.0/8";
    assert_eq!(text(&rig.ec2(A, by_name), "groupId"), default);
}

#[test]
fn a_route_to_an_endpoint_s_interface_is_made_and_shown() {
    let rig = Rig::new();
    let (_, name) = rig.published();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let made = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}");
    let interface = text(&text(&rig.ec2(A, &made), "networkInterfaceIdSet"), "item");
    let table = text(&rig.ec2(A, &format!("Action=CreateRouteTable&VpcId={vpc}")), "routeTableId");
    let route = format!("RouteTableId={table}&DestinationCidrBlock=10.200.0.10/32");
    rig.ec2(A, &format!("Action=CreateRoute&{route}&NetworkInterfaceId={interface}"));
    let shown = rig.ec2(A, &format!("Action=DescribeRouteTables&RouteTableId.1={table}"));
    assert_eq!(text(&shown, "networkInterfaceId"), interface);
    assert_eq!(texts(&shown, "destinationCidrBlock"), ["172.31.0.0/16", "10.200.0.10/32"]);
    let gateway = format!("Action=CreateRoute&RouteTableId={table}&DestinationCidrBlock=0.0.0.0/0&GatewayId=igw-1");
    let (_, code, message) = rig.refused(A, Service::Ec2, &gateway);
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("InvalidGatewayID.NotFound", "The gateway ID 'igw-1' does not exist")
    );
    assert_eq!(rig.refused(B, Service::Ec2, &format!("Action=DeleteRoute&{route}")).1, "InvalidRouteTableID.NotFound");
    rig.ec2(A, &format!("Action=DeleteRoute&{route}"));
    rig.ec2(A, &format!("Action=DeleteRouteTable&RouteTableId={table}"));
}

#[test]
fn a_load_balancer_of_type_application_is_a_record_that_says_so() {
    let rig = Rig::new();
    let subnets = texts(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId");
    let create = |count: usize| {
        let list = subnets.iter().take(count).enumerate();
        let list: Vec<String> = list.map(|(n, id)| format!("Subnets.member.{}={id}", n + 1)).collect();
        format!("Action=CreateLoadBalancer&Name=web&{}", list.join("&"))
    };
    assert_eq!(rig.refused(A, Service::LoadBalancing, &create(1)).1, "ValidationError");
    let made = rig.elb(A, &create(2));
    let lb = text(&made, "LoadBalancerArn");
    assert!(lb.contains(":loadbalancer/app/web/"), "{lb}");
    assert_eq!((text(&made, "Type"), text(&made, "Code")), ("application".to_owned(), "failed".to_owned()));
    assert!(text(&made, "Reason").contains("nothing serves them"), "{made}");
    assert_eq!(text(&rig.elb(A, &create(2)), "LoadBalancerArn"), lb, "the same again is the same");
    let other = format!("{}&Type=network", create(2));
    assert_eq!(rig.refused(A, Service::LoadBalancing, &other).1, "DuplicateLoadBalancerName");
    let vpc = text(&made, "VpcId");
    let group = format!("Action=CreateTargetGroup&Name=g&Protocol=TCP&Port=80&TargetType=ip&VpcId={vpc}");
    let group = text(&rig.elb(A, &group), "TargetGroupArn");
    let listener = format!(
        "Action=CreateListener&LoadBalancerArn={lb}&Protocol=TCP&Port=80&DefaultActions.member.1.Type=forward&\
         DefaultActions.member.1.TargetGroupArn={group}"
    );
    assert_eq!(rig.refused(A, Service::LoadBalancing, &listener).2, "Protocol 'TCP' must be one of '[HTTP, HTTPS]'");
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}");
    assert_eq!(rig.refused(A, Service::Ec2, &service).1, "InvalidParameter");
    rig.elb(A, &format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"));
    assert!(rig.query.api.store.state().load_balancers.is_empty());
}

/// README says of every action what it does.
#[test]
fn the_readme_names_every_action_in_one_row() {
    let readme = include_str!("../../../../README.md");
    let rows: Vec<&str> = readme
        .lines()
        .skip_while(|line| !line.starts_with("| Actions | What they do |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    let named = |row: &&str, name: &str| row.contains(&format!("`{name}`"));
    for action in actions::ACTIONS {
        let service = match action.service {
            Service::Ec2 | Service::Sts | Service::CertificateManager => 0,
            Service::LoadBalancing => 1,
        };
        let found: Vec<&&str> = rows.iter().filter(|row| named(row, action.name)).collect();
        let both = actions::ACTIONS.iter().filter(|other| other.name == action.name).count();
        assert_eq!(found.len(), both, "{} of service {service}", action.name);
    }
    let words = rows.iter().flat_map(|row| row.split('|').nth(1).unwrap_or_default().split('`').skip(1).step_by(2));
    for word in words {
        assert!(actions::ACTIONS.iter().any(|action| action.name == word), "README has '{word}', which is no action");
    }
}

#[test]
fn a_notification_tells_what_happens_and_only_whom_the_operator_allows() {
    let rig = Rig::new();
    let (service, name) = rig.published();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let create = |target: &str| {
        format!(
            "Action=CreateVpcEndpointConnectionNotification&ServiceId={service}&ConnectionNotificationArn={target}&\
             ConnectionEvents.1=Accept&ConnectionEvents.2=Delete"
        )
    };
    let (_, code, message) = rig.refused(A, Service::Ec2, &create("exec:/bin/sh"));
    assert_eq!(code, "InvalidParameter");
    assert_eq!(message, "The connection notification target 'exec:/bin/sh' is not one that can be told");
    assert_eq!(
        rig.refused(B, Service::Ec2, &create("file:/nonexistent/told")).1,
        "InvalidVpcEndpointServiceId.NotFound"
    );
    let made = rig.ec2(A, &create("file:/nonexistent/told"));
    let id = text(&made, "connectionNotificationId");
    assert!(id.starts_with("vpce-nfn-"), "{id}");
    assert_eq!(text(&made, "connectionNotificationState"), "Enabled");
    let endpoint = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}");
    let endpoint = text(&rig.ec2(A, &endpoint), "vpcEndpointId");
    assert!(rig.query.api.store.state().notices.is_empty(), "nobody asked for Connect");
    rig.ec2(A, &format!("Action=AcceptVpcEndpointConnections&ServiceId={service}&VpcEndpointId.1={endpoint}"));
    let state = rig.query.api.store.state();
    let notice = state.notices.values().next().expect("a message");
    let message: serde_json::Value = serde_json::from_str(&notice.message).expect("JSON");
    assert_eq!((&message["event"], &message["vpc_endpoint_id"]), (&"Accept".into(), &endpoint.as_str().into()));
    let modify = format!("Action=ModifyVpcEndpointConnectionNotification&ConnectionNotificationId={id}");
    rig.ec2(A, &format!("{modify}&ConnectionEvents.1=Reject"));
    assert_eq!(rig.refused(B, Service::Ec2, &modify).1, "InvalidConnectionNotification");
    let shown = rig.ec2(A, "Action=DescribeVpcEndpointConnectionNotifications");
    assert_eq!(text(&text(&shown, "connectionEvents"), "item"), "Reject");
    let delete = format!("Action=DeleteVpcEndpointConnectionNotifications&ConnectionNotificationId.1={id}");
    assert_eq!(texts(&rig.ec2(B, &delete), "code"), ["InvalidConnectionNotification"]);
    assert!(texts(&rig.ec2(A, &delete), "code").is_empty());
    assert!(rig.query.api.store.state().notices.is_empty(), "what waits goes with it");
}

#[test]
fn dry_run_decides_and_does_nothing() {
    let rig = Rig::new();
    rig.ec2(A, "Action=DescribeVpcs");
    let before = rig.query.api.store.state();
    for form in ["Action=CreateVpc&CidrBlock=10.0.0.0/16", "Action=DescribeVpcs"] {
        let (status, code, message) = rig.refused(A, Service::Ec2, &format!("{form}&DryRun=true"));
        assert_eq!((status, code.as_str()), (412, "DryRunOperation"));
        assert_eq!(message, "Request would have succeeded, but DryRun flag is set.");
    }
    assert_eq!(rig.refused(A, Service::Ec2, "Action=CreateVpc&CidrBlock=x&DryRun=true").1, "InvalidParameterValue");
    assert_eq!(rig.query.api.store.state(), before);
}

#[test]
fn a_client_token_makes_one_thing_however_often_it_is_sent() {
    let rig = Rig::new();
    let (_, name) = rig.published();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let create =
        format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&ClientToken=t");
    let (first, second) = (rig.ec2(A, &create), rig.ec2(A, &create));
    assert_eq!(text(&first, "vpcEndpointId"), text(&second, "vpcEndpointId"));
    assert_eq!(text(&first, "clientToken"), "t");
    let other = format!("{create}&TagSpecification.1.ResourceType=vpc-endpoint&TagSpecification.1.Tag.1.Key=k");
    assert_eq!(rig.refused(A, Service::Ec2, &other).1, "IdempotentParameterMismatch");
    assert_eq!(rig.query.api.store.state().endpoints.len(), 1);
    // Tokens are an account's own, and an action's.
    let subnet = text(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId");
    let lb = format!("Action=CreateLoadBalancer&Name=other&Type=network&Subnets.member.1={subnet}");
    let lb = text(&rig.elb(A, &lb), "LoadBalancerArn");
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}&ClientToken=t");
    let (first, second) = (rig.ec2(A, &service), rig.ec2(A, &service));
    assert_eq!(text(&first, "serviceId"), text(&second, "serviceId"));
    let other = format!("{service}&AcceptanceRequired=false");
    assert_eq!(rig.refused(A, Service::Ec2, &other).1, "IdempotentParameterMismatch");
    assert_eq!(rig.refused(B, Service::Ec2, &service).1, "LoadBalancerNotFound");
    let old = Timestamp::now() + jiff::SignedDuration::from_hours(25);
    assert!(!accounts::expire_tokens(&rig.query.api.store.state(), old).is_empty());
}

#[test]
fn tags_are_found_by_filters_and_go_with_their_resource() {
    let rig = Rig::new();
    let create = "Action=CreateVpc&CidrBlock=10.1.0.0/16&TagSpecification.1.ResourceType=vpc&\
                  TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=a%26b";
    let vpc = text(&rig.ec2(A, create), "vpcId");
    let find = "Action=DescribeVpcs&Filter.1.Name=tag:Name&Filter.1.Value.1=a*";
    assert_eq!(texts(&rig.ec2(A, find), "vpcId"), [vpc.clone()]);
    rig.ec2(A, &format!("Action=CreateTags&ResourceId.1={vpc}&Tag.1.Key=team&Tag.1.Value=x"));
    assert_eq!(texts(&rig.ec2(A, "Action=DescribeTags&Filter.1.Name=key&Filter.1.Value.1=team"), "value"), ["x"]);
    assert_eq!(
        rig.refused(B, Service::Ec2, &format!("Action=CreateTags&ResourceId.1={vpc}&Tag.1.Key=k")).1,
        "InvalidID"
    );
    let reserved = format!("Action=CreateTags&ResourceId.1={vpc}&Tag.1.Key=aws:x");
    assert_eq!(rig.refused(A, Service::Ec2, &reserved).1, "InvalidParameterValue");
    rig.ec2(A, &format!("Action=DeleteTags&ResourceId.1={vpc}&Tag.1.Key=team&Tag.1.Value=other"));
    assert_eq!(texts(&rig.ec2(A, "Action=DescribeTags"), "key").len(), 2, "a tag of another value stays");
    rig.ec2(A, &format!("Action=DeleteVpc&VpcId={vpc}"));
    assert!(texts(&rig.ec2(A, "Action=DescribeTags"), "key").is_empty());
    assert!(rig.query.api.store.state().tags.is_empty());
}

#[test]
fn a_parameter_that_nobody_reads_is_refused_before_anything_is_done() {
    let rig = Rig::new();
    rig.ec2(A, "Action=DescribeVpcs");
    let before = rig.query.api.store.state();
    let (_, code, message) = rig.refused(A, Service::Ec2, "Action=CreateVpc&CidrBlock=10.0.0.0/16&CidrBlok=x");
    assert_eq!(code, "UnknownParameter");
    assert!(message.contains("CidrBlok"), "{message}");
    assert_eq!(rig.query.api.store.state(), before);
}

#[test]
fn an_endpoint_keeps_its_addresses_while_subnets_come_and_go() {
    let rig = Rig::new();
    let (service, name) = rig.published();
    let lb = text(&rig.elb(A, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    // Load balancers in all zones, so that every subnet is offered.
    let all: Vec<String> = texts(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId");
    let members: Vec<String> = all.iter().enumerate().map(|(n, id)| format!("Subnets.member.{}={id}", n + 1)).collect();
    let wide = format!("Action=CreateLoadBalancer&Name=wide&Type=network&{}", members.join("&"));
    let wide = text(&rig.elb(A, &wide), "LoadBalancerArn");
    assert_ne!(lb, wide);
    rig.ec2(
        A,
        &format!("Action=ModifyVpcEndpointServiceConfiguration&ServiceId={service}&AddNetworkLoadBalancerArn.1={wide}"),
    );
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={}&SubnetId.2={}",
        all[0], all[1]
    );
    let made = rig.ec2(A, &create);
    let endpoint = text(&made, "vpcEndpointId");
    let addresses = || -> Vec<String> {
        let form = format!("Action=DescribeNetworkInterfaces&Filter.1.Name=description&Filter.1.Value.1=*{endpoint}");
        let mut found = texts(&rig.ec2(A, &form), "privateIpAddressesSet");
        found.sort();
        found.iter().map(|set| text(set, "privateIpAddress")).collect()
    };
    let before = addresses();
    assert_eq!(before.len(), 2);
    let modify = |what: &str| format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&{what}");
    rig.ec2(A, &modify(&format!("AddSubnetId.1={}&RemoveSubnetId.1={}", all[2], all[0])));
    let after = addresses();
    assert_eq!(after.iter().filter(|address| before.contains(address)).count(), 1, "{before:?} {after:?}");
    let twice = rig.refused(A, Service::Ec2, &modify(&format!("AddSubnetId.1={}", all[2])));
    assert_eq!((twice.1.as_str(), twice.2.contains(&all[2])), ("DuplicateSubnetsInSameZone", true));
    let last = modify(&format!("RemoveSubnetId.1={}&RemoveSubnetId.2={}", all[1], all[2]));
    assert_eq!(rig.refused(A, Service::Ec2, &last).1, "InvalidParameter");
    assert_eq!(
        rig.refused(A, Service::Ec2, &format!("Action=DeleteSubnet&SubnetId={}", all[1])).1,
        "DependencyViolation"
    );
}

#[test]
fn without_trust_only_valid_signatures_count() {
    let mut rig = Rig::new();
    rig.query.trust_loopback = false;
    let (status, body) = rig.send(incoming("Version=2016-11-15&Action=DescribeVpcs", &[]));
    assert_eq!((status, text(&body, "Code").as_str()), (401, "AuthFailure"));
    let (status, body) = rig.send(incoming("Version=2015-12-01&Action=DescribeLoadBalancers", &[]));
    assert_eq!((status, text(&body, "Code").as_str()), (403, "MissingAuthenticationToken"));
    let (status, code, _) = rig.refused(A, Service::LoadBalancing, "Action=DescribeLoadBalancers");
    assert_eq!((status, code.as_str()), (403, "InvalidClientTokenId"));
    assert!(rig.query.api.store.state().accounts.is_empty(), "who is refused makes nothing");
    rig.query.trust_loopback = true;
    let mut elsewhere = incoming("Version=2016-11-15&Action=DescribeVpcs", &[]);
    elsewhere.peer = SocketAddr::from(([192, 0, 2, 1], 1));
    assert_eq!(rig.send(elsewhere).0, 401, "only loopback is trusted");
}

#[test]
fn reset_takes_everything_and_needs_permission_and_loopback() {
    let mut rig = Rig::new();
    rig.published();
    let reset = || Incoming { path: "/_/reset".to_owned(), ..incoming("", &[]) };
    let elsewhere = Incoming { peer: SocketAddr::from(([192, 0, 2, 1], 1)), ..reset() };
    assert_eq!(rig.send(elsewhere).0, 403);
    assert_eq!(rig.send(Incoming { method: Method::GET, ..reset() }).0, 403);
    rig.query.allow_reset = false;
    assert_eq!(rig.send(reset()).0, 403);
    assert!(!rig.query.api.store.state().endpoint_services.is_empty());
    rig.query.allow_reset = true;
    assert_eq!(rig.send(reset()).0, 200);
    assert_eq!(rig.query.api.store.state().records().count(), 0);
    assert_eq!(texts(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId").len(), 3, "the defaults are back");
}

/// Requests of one account on ids that both accounts have.
fn requests() -> impl Strategy<Value = (bool, u8, u8, u8)> {
    (any::<bool>(), 0u8..14, any::<u8>(), any::<u8>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever two accounts ask for, by whatever ids: answers are XML, never an internal error, and nothing that is
    /// the other's appears in them or changes, but for the state of its endpoints.
    #[test]
    fn accounts_never_reach_each_other(walk in prop::collection::vec(requests(), 1..40)) {
        let rig = Rig::new();
        let (_, name) = rig.published();
        rig.ec2(B, "Action=DescribeVpcs");
        for (second, what, x, y) in walk {
            let (account, other) = if second { (B, A) } else { (A, B) };
            let world = rig.query.api.store.state();
            let pick = |ids: Vec<String>, n: u8| ids.get(usize::from(n) % ids.len().max(1)).cloned().unwrap_or_default();
            let vpc = pick(world.vpcs.keys().map(ToString::to_string).collect(), x);
            let subnet = pick(world.subnets.keys().map(ToString::to_string).collect(), y);
            let service = pick(world.endpoint_services.keys().map(ToString::to_string).collect(), x);
            let endpoint = pick(world.endpoints.keys().map(ToString::to_string).collect(), y);
            let lb = pick(world.load_balancers.keys().map(ToString::to_string).collect(), x);
            let (service_kind, form) = match what {
                0 => (Service::Ec2, format!("Action=CreateVpc&CidrBlock=10.{x}.0.0/16")),
                1 => (Service::Ec2, format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.{x}.{y}.0/24")),
                2 => (Service::Ec2, format!("Action=DeleteSubnet&SubnetId={subnet}")),
                3 => (Service::Ec2, format!("Action=DeleteVpc&VpcId={vpc}")),
                4 => (Service::Ec2, format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={subnet}")),
                5 => (Service::Ec2, format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={endpoint}")),
                6 => (Service::Ec2, format!("Action=AcceptVpcEndpointConnections&ServiceId={service}&VpcEndpointId.1={endpoint}")),
                7 => (Service::Ec2, format!("Action=RejectVpcEndpointConnections&ServiceId={service}&VpcEndpointId.1={endpoint}")),
                8 => (Service::Ec2, format!("Action=ModifyVpcEndpointServicePermissions&ServiceId={service}&AddAllowedPrincipals.1=*")),
                9 => (Service::LoadBalancing, format!("Action=CreateLoadBalancer&Name=n{}&Type=network&Subnets.member.1={subnet}", x % 3)),
                10 => (Service::LoadBalancing, format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}")),
                11 => (Service::Ec2, format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}")),
                12 => (Service::Ec2, format!("Action=CreateTags&ResourceId.1={vpc}&Tag.1.Key=k{x}&Tag.1.Value=v")),
                _ => (Service::Ec2, format!("Action=DescribeNetworkInterfaces&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}")),
            };
            let (status, body) = rig.ask(account, service_kind, &form);
            prop_assert!(status < 500, "{form}: {body}");
            let after = rig.query.api.store.state();
            prop_assert!(after.check_invariants().is_ok());
            let owner = Owner { account: other.parse().unwrap(), region: "us-east-1".parse().unwrap() };
            let seen = |state: &crate::model::State| {
                let mut seen = state.seen_by(&owner);
                seen.last_vpc_index = None;
                seen.endpoints.values_mut().for_each(|one| one.state = crate::model::EndpointState::Available);
                seen
            };
            prop_assert_eq!(seen(&world), seen(&after), "{} changed what is {}'s by {}", account, other, form);
        }
    }

    /// Any form at all gets an answer that is XML and no internal error.
    #[test]
    fn any_form_is_answered(
        action in prop::sample::select(actions::ACTIONS.iter().map(|row| (row.service, row.name)).collect::<Vec<_>>()),
        form in "[A-Za-z0-9.&=*%:/-]{0,120}",
    ) {
        let rig = Rig::new();
        let (service, name) = action;
        let (status, body) = rig.ask(A, service, &format!("Action={name}&{form}"));
        prop_assert!(status < 500, "{name} {form}: {body}");
    }
}

#[test]
fn an_instance_is_adopted_and_serves_as_a_target_until_it_is_terminated() {
    let rig = Rig::new();
    let vpc = text(&rig.ec2(A, "Action=DescribeSubnets"), "vpcId");
    let run = "Action=RunInstances&MinCount=1&MaxCount=1&ImageId=ami-1&InstanceType=t3.micro&ClientToken=once&\
               PrivateIpAddress=172.31.0.20&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=Name&\
               TagSpecification.1.Tag.1.Value=web-1";
    let ran = rig.ec2(A, run);
    let id = text(&ran, "instanceId");
    assert_eq!(text(&rig.ec2(A, run), "instanceId"), id, "the same token makes nothing new");
    assert_eq!((text(&ran, "privateIpAddress"), text(&ran, "vpcId")), ("172.31.0.20".to_owned(), vpc.clone()));
    let two = "Action=RunInstances&MinCount=1&MaxCount=2";
    assert_eq!(rig.refused(A, Service::Ec2, two).1, "InvalidParameterValue");
    let script = "Action=RunInstances&MinCount=1&MaxCount=1&UserData=x";
    assert_eq!(rig.refused(A, Service::Ec2, script).1, "UnknownParameter", "nothing runs here");
    let tagged = "Action=DescribeInstances&Filter.1.Name=tag:Name&Filter.1.Value.1=web-*&\
                  Filter.2.Name=instance-state-name&Filter.2.Value.1=running";
    assert_eq!(texts(&rig.ec2(A, tagged), "instanceId"), [id.clone()]);
    assert!(texts(&rig.ec2(B, tagged), "instanceId").is_empty());
    let interface =
        format!("Action=DescribeNetworkInterfaces&Filter.1.Name=attachment.instance-id&Filter.1.Value.1={id}");
    assert_eq!(text(&rig.ec2(A, &interface), "requesterManaged"), "false");

    // The target type is instance unless it is said.
    let group = rig.elb(A, &format!("Action=CreateTargetGroup&Name=hosts&Protocol=TCP&Port=80&VpcId={vpc}"));
    assert_eq!(text(&group, "TargetType"), "instance");
    let group = text(&group, "TargetGroupArn");
    let targets = |action: &str, id: &str| format!("Action={action}&TargetGroupArn={group}&Targets.member.1.Id={id}");
    rig.elb(A, &targets("RegisterTargets", &id));
    let (_, code, message) = rig.refused(A, Service::LoadBalancing, &targets("RegisterTargets", "172.31.0.20"));
    assert_eq!((code.as_str(), message.as_str()), ("ValidationError", "Instance ID '172.31.0.20' is not valid"));
    let health = |form: &str| {
        let body = rig.elb(A, form);
        (text(&body, "Id"), text(&body, "State"), texts(&text(&body, "TargetHealth"), "Reason"))
    };
    let all = format!("Action=DescribeTargetHealth&TargetGroupArn={group}");
    assert_eq!(health(&all).0, id);
    let stopped = rig.ec2(A, &format!("Action=StopInstances&InstanceId.1={id}"));
    assert_eq!(texts(&stopped, "name"), ["stopped", "running"]);
    assert_eq!(health(&all), (id.clone(), "unused".to_owned(), vec!["Target.InvalidState".to_owned()]));
    rig.ec2(A, &format!("Action=StartInstances&InstanceId.1={id}"));
    let terminated = rig.ec2(A, &format!("Action=TerminateInstances&InstanceId.1={id}"));
    assert_eq!(texts(&terminated, "code"), ["48", "16"]);
    assert_eq!(health(&targets("DescribeTargetHealth", &id)).1, "draining");
    let gone = rig.ec2(A, &format!("Action=DescribeInstances&InstanceId.1={id}"));
    assert_eq!((text(&gone, "name"), texts(&gone, "vpcId")), ("terminated".to_owned(), vec![]));
    let unknown = health(&targets("DescribeTargetHealth", "i-0123456789abcdef0"));
    assert_eq!(unknown.2, ["Target.NotRegistered"]);
    let missing = "Action=TerminateInstances&InstanceId.1=i-0123456789abcdef0";
    assert_eq!(rig.refused(A, Service::Ec2, missing).1, "InvalidInstanceID.NotFound");
}

/// One target that connection notifications may name.
fn told() -> Targets {
    let allowed = vec!["file:/nonexistent/told".parse().expect("a target")];
    Targets::new(allowed, &Trust("/nonexistent/certificates".into())).expect("targets")
}
