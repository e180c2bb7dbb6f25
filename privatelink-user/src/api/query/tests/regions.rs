//! Services that are reached from other regions.

use super::*;

/// Account B's in the region that most of this is about.
const ABROAD: &str = "222222222222@eu-west-1";
const ELSEWHERE: &str = "222222222222@ap-south-1";

const EVERYBODY: &str = "Action=ModifyVpcEndpointServicePermissions&AddAllowedPrincipals.1=*";

/// What the provider's account is shown of its service.
fn regions(rig: &Rig) -> Vec<String> {
    let body = rig.ec2(A, "Action=DescribeVpcEndpointServiceConfigurations");
    let set = text(&body, "supportedRegionSet");
    assert_eq!(texts(&set, "serviceState").len(), texts(&set, "region").len());
    texts(&set, "region")
}

fn default_vpc(rig: &Rig, account: &str) -> (String, String) {
    let subnets = rig.ec2(account, "Action=DescribeSubnets");
    (text(&subnets, "vpcId"), text(&subnets, "subnetId"))
}

#[test]
fn a_service_is_found_and_reached_from_the_regions_that_it_supports_and_from_no_other() {
    let rig = Rig::new();
    let (id, name) = rig.published();
    rig.ec2(A, &format!("{EVERYBODY}&ServiceId={id}"));
    let modify = |more: &str| format!("Action=ModifyVpcEndpointServiceConfiguration&ServiceId={id}&{more}");
    assert_eq!(regions(&rig), ["us-east-1"]);
    let find =
        |region: &str| format!("Action=DescribeVpcEndpointServices&ServiceName.1={name}&ServiceRegion.1={region}");
    let unknown = ("InvalidServiceName".to_owned(), format!("The Vpc Endpoint Service '{name}' does not exist"));
    let refused = |account: &str, form: &str| {
        let (_, code, message) = rig.refused(account, Service::Ec2, form);
        (code, message)
    };
    let create = |account: &str, region: &str| {
        let (vpc, subnet) = default_vpc(&rig, account);
        format!(
            "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={subnet}{region}"
        )
    };
    const FROM_HERE: &str = "&ServiceRegion=us-east-1";
    for account in [ABROAD, ELSEWHERE, "111111111111@eu-west-1"] {
        assert_eq!(refused(account, &find("us-east-1")), unknown, "{account}");
        assert_eq!(refused(account, &create(account, FROM_HERE)), unknown, "{account}");
    }

    rig.ec2(A, &modify("AddSupportedRegion.1=eu-west-1&AddSupportedRegion.2=us-east-1"));
    assert_eq!(regions(&rig), ["us-east-1", "eu-west-1"]);
    let found = rig.ec2(ABROAD, &find("us-east-1"));
    let detail = text(&found, "serviceDetailSet");
    assert_eq!((text(&detail, "serviceRegion"), text(&detail, "owner")), ("us-east-1".to_owned(), A.to_owned()));
    // Who does not say the service's region looks in its own.
    let unfiltered = rig.ec2(ABROAD, "Action=DescribeVpcEndpointServices");
    assert!(!unfiltered.contains(&name), "{unfiltered}");
    for (account, form) in [
        (ABROAD, find("eu-west-1")),
        (ABROAD, create(ABROAD, "")),
        (ABROAD, create(ABROAD, "&ServiceRegion=eu-west-1")),
        (B, create(B, "&ServiceRegion=eu-west-1")),
        (ELSEWHERE, find("us-east-1")),
        (ELSEWHERE, create(ELSEWHERE, FROM_HERE)),
    ] {
        assert_eq!(refused(account, &form), unknown, "{account}: {form}");
    }

    let made = rig.ec2(ABROAD, &create(ABROAD, FROM_HERE));
    let endpoint = text(&made, "vpcEndpointId");
    assert_eq!(
        (text(&made, "serviceRegion"), text(&made, "serviceName"), text(&made, "state")),
        ("us-east-1".to_owned(), name.clone(), "pendingAcceptance".to_owned())
    );
    let names = texts(&text(&made, "dnsEntrySet"), "dnsName");
    let base = format!(".{id}.us-east-1.vpce.amazonaws.com");
    assert!(names.iter().all(|one| one.ends_with(&base)) && names[1].contains("-eu-west-1"), "{names:?}");
    let by_region = "Action=DescribeVpcEndpoints&Filter.1.Name=service-region&Filter.1.Value.1=us-east-1";
    assert_eq!(texts(&rig.ec2(ABROAD, by_region), "vpcEndpointId"), [endpoint.clone()]);
    assert!(texts(&rig.ec2(B, by_region), "vpcEndpointId").is_empty(), "another region of the account has none");

    // The provider sees where it is, and answers it.
    let connections =
        "Action=DescribeVpcEndpointConnections&Filter.1.Name=vpc-endpoint-region&Filter.1.Value.1=eu-west-1";
    let seen = rig.ec2(A, connections);
    assert_eq!(
        (text(&seen, "vpcEndpointId"), text(&seen, "vpcEndpointRegion")),
        (endpoint.clone(), "eu-west-1".into())
    );
    let answer = |verb: &str| format!("Action={verb}VpcEndpointConnections&ServiceId={id}&VpcEndpointId.1={endpoint}");
    let state = || text(&rig.ec2(ABROAD, &format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={endpoint}")), "state");
    rig.ec2(A, &answer("Accept"));
    assert_ne!(state(), "pendingAcceptance");
    let held = rig.ec2(A, &format!("Action=DeleteVpcEndpointServiceConfigurations&ServiceId.1={id}"));
    assert_eq!(text(&held, "code"), "ExistingVpcEndpointConnections");

    // A region that is taken away keeps what it has, and gets no more.
    rig.ec2(A, &modify("RemoveSupportedRegion.1=eu-west-1"));
    assert_eq!(regions(&rig), ["us-east-1"]);
    assert_eq!(refused(ABROAD, &create(ABROAD, FROM_HERE)), unknown);
    assert_ne!(state(), "rejected");
    rig.ec2(A, &answer("Reject"));
    assert_eq!(state(), "rejected");
    rig.ec2(A, &format!("Action=DeleteVpcEndpointServiceConfigurations&ServiceId.1={id}"));
    rig.ec2(ABROAD, &format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={endpoint}"));
}

#[test]
fn regions_need_permission_too_and_a_subnet_abroad_needs_no_zone_of_the_service() {
    let rig = Rig::new();
    let (id, name) = rig.published();
    rig.ec2(A, &format!("Action=ModifyVpcEndpointServiceConfiguration&ServiceId={id}&AddSupportedRegion.1=eu-west-1"));
    let subnets = rig.ec2(ABROAD, "Action=DescribeSubnets");
    let (vpc, third) = (text(&subnets, "vpcId"), texts(&subnets, "subnetId").remove(2));
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={third}&\
         ServiceRegion=us-east-1"
    );
    let (_, code, _) = rig.refused(ABROAD, Service::Ec2, &create);
    assert_eq!(code, "InvalidServiceName", "the region is supported, the account not admitted");
    rig.ec2(A, &format!("{EVERYBODY}&ServiceId={id}"));
    assert_eq!(text(&rig.ec2(ABROAD, &create), "serviceRegion"), "us-east-1");
}

#[test]
fn what_regions_cannot_be_is_refused() {
    let rig = Rig::new();
    let (id, _) = rig.published();
    let modify = |more: &str| format!("Action=ModifyVpcEndpointServiceConfiguration&ServiceId={id}&{more}");
    for (more, code, said) in [
        ("RemoveSupportedRegion.1=us-east-1", "InvalidParameter", "The Region 'us-east-1' cannot be removed from"),
        ("RemoveSupportedRegion.1=eu-west-1", "InvalidParameter", "The Region 'eu-west-1' is not a supported Region"),
        ("AddSupportedRegion.1=Nowhere", "InvalidParameterValue", "Nowhere"),
        (
            "AddSupportedRegion.1=eu-west-1&RemoveSupportedRegion.1=eu-west-1",
            "InvalidParameterCombination",
            "cannot be added and removed at once",
        ),
    ] {
        let (_, found, message) = rig.refused(A, Service::Ec2, &modify(more));
        assert_eq!(found, code, "{more}: {message}");
        assert!(message.contains(said), "{more}: {message}");
    }

    // A custom TCP idle timeout and other regions exclude each other, whichever comes first.
    let lb = text(&rig.elb(A, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    let listener = text(&rig.elb(A, &format!("Action=DescribeListeners&LoadBalancerArn={lb}")), "ListenerArn");
    let timeout = |seconds: u16| {
        format!(
            "Action=ModifyListenerAttributes&ListenerArn={listener}&Attributes.member.1.Value={seconds}&\
             Attributes.member.1.Key=tcp.idle_timeout.seconds"
        )
    };
    rig.elb(A, &timeout(600));
    let (_, code, message) = rig.refused(A, Service::Ec2, &modify("AddSupportedRegion.1=eu-west-1"));
    assert_eq!(code, "InvalidParameter");
    assert!(message.contains(&format!("The listener '{listener}' has a custom TCP idle timeout")), "{message}");
    assert_eq!(regions(&rig), ["us-east-1"]);
    rig.elb(A, &timeout(350));
    rig.ec2(A, &modify("AddSupportedRegion.1=eu-west-1"));
    let (_, _, message) = rig.refused(A, Service::LoadBalancing, &timeout(600));
    assert!(message.contains("has a custom TCP idle timeout"), "{message}");
    rig.ec2(A, &modify("RemoveSupportedRegion.1=eu-west-1"));
    rig.elb(A, &timeout(600));
}
