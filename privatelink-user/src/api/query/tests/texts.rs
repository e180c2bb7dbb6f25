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

#[test]
fn load_balancing_is_refused_in_the_words_of_aws() {
    let rig = Rig::new();
    rig.published();
    let lb = text(&rig.elb(A, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    let group = text(&rig.elb(A, "Action=DescribeTargetGroups"), "TargetGroupArn");
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let other = format!("Action=CreateTargetGroup&Name=other&TargetType=ip&Protocol=TCP&Port=80&VpcId={vpc}");
    let other = text(&rig.elb(A, &other), "TargetGroupArn");
    let gone = |arn: &str| format!("{}0000000000000000", &arn[..arn.len() - 16]);
    let mut twins = Vec::new();
    for number in 0..2 {
        let form = format!(
            "Action=CreateSubnet&VpcId={vpc}&CidrBlock=172.31.{}.0/24&AvailabilityZone=us-east-1a",
            200 + number
        );
        twins.push(text(&rig.ec2(A, &form), "subnetId"));
    }
    let protected = "Attributes.member.1.Key=deletion_protection.enabled&Attributes.member.1.Value";
    let forward =
        |group: &str| format!("DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={group}");
    let listener =
        |more: &str, group: &str| format!("Action=CreateListener&LoadBalancerArn={lb}&{more}&{}", forward(group));
    let target_group = |more: &str| format!("Action=CreateTargetGroup&Name=g&TargetType=ip&{more}");
    let mut wrong = 0;
    let long = "n".repeat(33);
    let rows = [
        (
            format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"),
            "ResourceInUse",
            format!("Load balancer '{lb}' cannot be deleted because it is currently associated with another service"),
        ),
        (
            format!("Action=DeleteTargetGroup&TargetGroupArn={group}"),
            "ResourceInUse",
            format!("Target group '{group}' is currently in use by a listener or a rule"),
        ),
        (
            // The same again would be the same listener.
            listener("Protocol=TCP&Port=80", &other),
            "DuplicateListener",
            format!("A listener already exists on this port for this load balancer '{lb}'"),
        ),
        (
            format!("Action=DescribeTargetGroups&TargetGroupArns.member.1={}", gone(&group)),
            "TargetGroupNotFound",
            "One or more target groups not found".to_owned(),
        ),
        (
            listener("Protocol=TCP&Port=81", &gone(&group)),
            "TargetGroupNotFound",
            format!("Target group '{}' not found", gone(&group)),
        ),
        (
            format!("Action=DescribeLoadBalancers&LoadBalancerArns.member.1={}", gone(&lb)),
            "LoadBalancerNotFound",
            "One or more load balancers not found".to_owned(),
        ),
        (
            format!("Action=DescribeListeners&ListenerArns.member.1={}", gone(&lb)),
            "ListenerNotFound",
            "One or more listeners not found".to_owned(),
        ),
        (listener("Protocol=TCP", &group), "ValidationError", "A listener port must be specified".to_owned()),
        (format!("Action=DeleteRule&RuleArn={}", gone(&lb)), "RuleNotFound", "One or more rules not found".to_owned()),
        (listener("Port=81", &group), "ValidationError", "A listener protocol must be specified".to_owned()),
        (
            // TLS is not among them: there are no such listeners.
            listener("Protocol=HTTP&Port=81", &group),
            "ValidationError",
            "Protocol 'HTTP' must be one of '[UDP, TCP, TLS, TCP_UDP]'".to_owned(),
        ),
        (target_group(&format!("Protocol=TCP&VpcId={vpc}")), "ValidationError", "A port must be specified".to_owned()),
        (target_group(&format!("Port=80&VpcId={vpc}")), "ValidationError", "A protocol must be specified".to_owned()),
        (target_group("Protocol=TCP&Port=80"), "ValidationError", "A VPC ID must be specified".to_owned()),
        (
            target_group("Protocol=TCP&Port=80&VpcId=vpc-0"),
            "ValidationError",
            "The VPC ID 'vpc-0' is not found".to_owned(),
        ),
        (
            format!("Action=CreateTargetGroup&Name={long}&Protocol=TCP&Port=80&VpcId={vpc}"),
            "ValidationError",
            format!("Target group name '{long}' cannot be longer than '32' characters"),
        ),
        (
            target_group(&format!(
                "Protocol=TCP&Port=80&VpcId={vpc}&HealthCheckTimeoutSeconds=20&HealthCheckIntervalSeconds=10"
            )),
            "ValidationError",
            "Health check timeout '20' must be smaller than or equal to the interval '10'".to_owned(),
        ),
        (
            format!(
                "Action=SetSubnets&LoadBalancerArn={lb}&Subnets.member.1={}&Subnets.member.2={}",
                twins[0], twins[1]
            ),
            "InvalidConfigurationRequest",
            "More than 1 subnet cannot be specified for 1 availability zone".to_owned(),
        ),
        (
            format!("Action=SetSecurityGroups&LoadBalancerArn={lb}&SecurityGroups.member.1=sg-0"),
            "InvalidSecurityGroup",
            "Security group sg-0 does not exist".to_owned(),
        ),
    ];
    for (form, code, message) in rows {
        let (_, found_code, found) = rig.refused(A, Service::LoadBalancing, &form);
        if (found_code.as_str(), found.as_str()) != (code, message.as_str()) {
            eprintln!("{form}:\n  {found_code}: {found}\n  wanted {code}: {message}");
            wrong += 1;
        }
    }
    assert_eq!(wrong, 0);
    rig.elb(A, &format!("Action=ModifyLoadBalancerAttributes&LoadBalancerArn={lb}&{protected}=true"));
    let (_, code, message) =
        rig.refused(A, Service::LoadBalancing, &format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"));
    let text = format!("Load balancer '{lb}' cannot be deleted because deletion protection is enabled");
    assert_eq!((code.as_str(), message), ("OperationNotPermitted", text));
}
