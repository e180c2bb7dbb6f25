//! What is refused, in the words of AWS.

use super::*;
use crate::model::{EndpointService, PrivateDns, VerificationState};

/// Lets the TXT record of a service's private DNS name have been found.
fn verified(rig: &Rig, service: &str) {
    let id = service.parse().expect("an id");
    let done = rig.query.api.store.update(|state| {
        let found = state.endpoint_services[&id].clone();
        let private_dns = found.private_dns.clone().expect("a name");
        let private_dns = Some(PrivateDns { state: VerificationState::Verified, ..private_dns });
        let change = Change::default().put(EndpointService { private_dns, ..found });
        Ok::<_, std::convert::Infallible>((change, ()))
    });
    done.expect("a commit");
}

#[test]
fn endpoints_are_refused_in_the_words_of_aws() {
    let rig = Rig::new();
    let (service, name) = rig.published();
    let subnets = rig.ec2(A, "Action=DescribeSubnets");
    let (vpc, all) = (text(&subnets, "vpcId"), texts(&subnets, "subnetId"));
    let offered =
        text(&text(&rig.ec2(A, "Action=DescribeVpcEndpointServiceConfigurations"), "availabilityZoneSet"), "item");
    let zones = texts(&subnets, "availabilityZone");
    let of_zone = |wanted: bool| all.iter().zip(&zones).find(|(_, zone)| (**zone == offered) == wanted).expect("one").0;
    let (inside, outside) = (of_zone(true), of_zone(false));
    let own = text(&rig.ec2(A, "Action=CreateVpc&CidrBlock=10.7.0.0/16"), "vpcId");
    let mut twins = Vec::new();
    for number in 0..2 {
        let form = format!("Action=CreateSubnet&VpcId={own}&CidrBlock=10.7.{number}.0/24&AvailabilityZone={offered}");
        twins.push(text(&rig.ec2(A, &form), "subnetId"));
    }
    let create = |vpc: &str, more: &str| {
        format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}{more}")
    };
    let refused = |form: &str| {
        let (_, code, message) = rig.refused(A, Service::Ec2, form);
        (code, message.replace("&quot;", "\""))
    };
    let expect = |form: &str, code: &str, message: String| {
        assert_eq!(refused(form), (code.to_owned(), message), "{form}");
    };
    expect(
        &create(&vpc, "&PrivateDnsEnabled=true"),
        "InvalidParameter",
        format!("Private DNS can't be enabled because the service {name} does not provide a private DNS name."),
    );
    let modify = format!("Action=ModifyVpcEndpointServiceConfiguration&ServiceId={service}");
    rig.ec2(A, &format!("{modify}&PrivateDnsName=api.example.com"));
    verified(&rig, &service);
    expect(
        &create(&vpc, "&PrivateDnsEnabled=true"),
        "InvalidParameter",
        format!("Private DNS can only be enabled after the endpoint connection is accepted by the owner of {name}."),
    );
    let made = |vpc: &str, subnet: &str| {
        let id = text(&rig.ec2(A, &create(vpc, &format!("&SubnetId.1={subnet}"))), "vpcEndpointId");
        let accept = format!("Action=AcceptVpcEndpointConnections&ServiceId={service}&VpcEndpointId.1={id}");
        assert!(texts(&rig.ec2(A, &accept), "code").is_empty());
        id
    };
    let enable = |id: &str| format!("Action=ModifyVpcEndpoint&VpcEndpointId={id}&PrivateDnsEnabled=true");
    rig.ec2(A, &enable(&made(&vpc, inside)));
    expect(
        &enable(&made(&vpc, inside)),
        "InvalidParameter",
        format!(
            "private-dns-enabled cannot be set because there is already a conflicting DNS domain for api.example.com in \
             the VPC {vpc}"
        ),
    );
    let elsewhere = made(&own, &twins[0]);
    expect(
        &enable(&elsewhere),
        "InvalidParameter",
        format!(
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for {own}"
        ),
    );
    rig.ec2(A, &format!("Action=ModifyVpcAttribute&VpcId={own}&EnableDnsHostnames.Value=true"));
    rig.ec2(A, &enable(&elsewhere));
    let unknown = "com.amazonaws.vpce.us-east-1.vpce-svc-00000000000000000";
    expect(
        &format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={unknown}&VpcId={vpc}"),
        "InvalidServiceName",
        format!("The Vpc Endpoint Service '{unknown}' does not exist"),
    );
    expect(
        &create(&vpc, &format!("&SubnetId.1={outside}")),
        "InvalidParameter",
        format!("The VPC endpoint service {name} does not support the availability zone of the subnet: {outside}."),
    );
    expect(
        &create(&own, &format!("&SubnetId.1={}&SubnetId.2={}", twins[0], twins[1])),
        "DuplicateSubnetsInSameZone",
        format!("Found another VPC endpoint subnet in the availability zone of {}", twins[1]),
    );
    expect(
        "Action=DescribeVpcEndpoints&VpcEndpointId.1=vpce-0",
        "InvalidVpcEndpointId.NotFound",
        "The Vpc Endpoint Id 'vpce-0' does not exist".to_owned(),
    );
    expect(
        "Action=DescribeVpcEndpointServiceConfigurations&ServiceId.1=vpce-svc-0",
        "InvalidVpcEndpointServiceId.NotFound",
        "The VpcEndpointService Id 'vpce-svc-0' does not exist".to_owned(),
    );
    expect(
        "Action=CreateVpcEndpointServiceConfiguration",
        "InvalidParameter",
        "exactly one of network_load_balancer_arn or gateway_load_balancer_arn is a required member".to_owned(),
    );
    for (document, rule) in
        [("{", "must be valid JSON"), ("{}", "must have a Statement, each with the Effect Allow or Deny")]
    {
        expect(
            &create(&vpc, &format!("&PolicyDocument={document}")),
            "InvalidPolicyDocument",
            format!("Invalid Policy Document: Policy document '{document}' {rule}"),
        );
    }
    let batch = |form: &str| {
        let body = rig.ec2(A, form);
        (text(&body, "code"), text(&body, "message"))
    };
    assert_eq!(
        batch("Action=DeleteVpcEndpoints&VpcEndpointId.1=vpce-0"),
        ("InvalidVpcEndpoint.NotFound".to_owned(), "The Vpc Endpoint Id 'vpce-0' does not exist".to_owned())
    );
    assert_eq!(
        batch("Action=DeleteVpcEndpointServiceConfigurations&ServiceId.1=vpce-svc-0"),
        (
            "InvalidVpcEndpointService.NotFound".to_owned(),
            "The VpcEndpointService Id 'vpce-svc-0' does not exist".to_owned()
        )
    );
    assert_eq!(
        batch(&format!("Action=DeleteVpcEndpointServiceConfigurations&ServiceId.1={service}")),
        (
            "ExistingVpcEndpointConnections".to_owned(),
            "Service has existing active VPC Endpoint connections!".to_owned()
        )
    );
}
