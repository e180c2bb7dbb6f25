//! What a request's parameters mean: lists that are empty, what is not there, and what changes of what is.

use super::*;

fn refused(rig: &Rig, service: Service, form: &str) -> (String, String) {
    let (_, code, message) = rig.refused(A, service, form);
    (code, message)
}

#[test]
fn an_empty_list_is_not_a_list_that_is_not_given() {
    let rig = Rig::new();
    rig.published();
    let lb = text(&rig.elb(A, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    let group = text(&rig.ec2(A, "Action=DescribeSecurityGroups"), "groupId");
    let subnet = text(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId");
    let secured = format!(
        "Action=CreateLoadBalancer&Name=secured&Type=network&Subnets.member.1={subnet}&SecurityGroups.member.1={group}"
    );
    let secured = text(&rig.elb(A, &secured), "LoadBalancerArn");
    let set = format!("Action=SetSecurityGroups&LoadBalancerArn={secured}");
    assert_eq!(refused(&rig, Service::LoadBalancing, &set).0, "ValidationError");
    assert_eq!(texts(&rig.elb(A, &format!("{set}&SecurityGroups.member.1={group}")), "member"), [group]);
    let none = refused(&rig, Service::LoadBalancing, &format!("Action=SetSubnets&LoadBalancerArn={lb}&Subnets="));
    assert_eq!(none.0, "ValidationError", "{}", none.1);
    let create = "Action=CreateLoadBalancer&Name=none&Type=network&Subnets=";
    let wanted = ("ValidationError".to_owned(), "At least one subnet must be specified".to_owned());
    assert_eq!(refused(&rig, Service::LoadBalancing, create), wanted);
}

#[test]
fn load_balancing_knows_no_dry_run() {
    let rig = Rig::new();
    let (_, code, _) = rig.refused(A, Service::LoadBalancing, "Action=DescribeLoadBalancers&DryRun=true");
    assert_eq!(code, "ValidationError");
}

#[test]
fn a_listener_gets_another_port_and_protocol() {
    let rig = Rig::new();
    rig.published();
    let lb = text(&rig.elb(A, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    let group = text(&rig.elb(A, "Action=DescribeTargetGroups"), "TargetGroupArn");
    let listener = text(&rig.elb(A, &format!("Action=DescribeListeners&LoadBalancerArn={lb}")), "ListenerArn");
    let modify = |more: &str| format!("Action=ModifyListener&ListenerArn={listener}&{more}");
    let changed = rig.elb(A, &modify("Port=81"));
    assert_eq!((text(&changed, "Port"), text(&changed, "ListenerArn")), ("81".to_owned(), listener.clone()));
    assert_eq!(text(&rig.elb(A, &modify("Port=81&Protocol=TCP")), "Port"), "81", "as it is");
    let second = format!(
        "Action=CreateListener&LoadBalancerArn={lb}&Protocol=TCP&Port=82&DefaultActions.member.1.Type=forward&\
         DefaultActions.member.1.TargetGroupArn={group}"
    );
    rig.elb(A, &second);
    assert_eq!(
        refused(&rig, Service::LoadBalancing, &modify("Port=82")),
        (
            "DuplicateListener".to_owned(),
            format!("A listener already exists on this port for this load balancer '{lb}'")
        )
    );
    for (more, code) in [
        ("Port=0", "ValidationError"),
        ("Port=90-95", "ValidationError"),
        ("Protocol=UDP", "IncompatibleProtocols"),
        ("Protocol=TLS", "ValidationError"),
        ("Protocol=HTTP", "ValidationError"),
    ] {
        assert_eq!(refused(&rig, Service::LoadBalancing, &modify(more)).0, code, "{more}");
    }
    let shown = rig.elb(A, &format!("Action=DescribeListeners&ListenerArns.member.1={listener}"));
    assert_eq!((text(&shown, "Port"), text(&shown, "Protocol")), ("81".to_owned(), "TCP".to_owned()));

    // To another protocol, with a group of that one.
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let datagrams = format!("Action=CreateTargetGroup&Name=udp&TargetType=ip&Protocol=UDP&Port=53&VpcId={vpc}");
    let datagrams = text(&rig.elb(A, &datagrams), "TargetGroupArn");
    let both = format!(
        "Protocol=UDP&Port=53&DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={datagrams}"
    );
    let changed = rig.elb(A, &modify(&both));
    assert_eq!((text(&changed, "Port"), text(&changed, "Protocol")), ("53".to_owned(), "UDP".to_owned()));
    assert_eq!(text(&changed, "TargetGroupArn"), datagrams);
}

#[test]
fn a_load_balancer_has_the_attributes_of_its_type_and_scheme() {
    let rig = Rig::new();
    let subnet = text(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId");
    let made = |name: &str, more: &str| {
        let form = format!("Action=CreateLoadBalancer&Name={name}&Subnets.member.1={subnet}&{more}");
        text(&rig.elb(A, &form), "LoadBalancerArn")
    };
    let attributes = |arn: &str| {
        let body = rig.elb(A, &format!("Action=DescribeLoadBalancerAttributes&LoadBalancerArn={arn}"));
        texts(&body, "Key").into_iter().zip(texts(&body, "Value")).collect::<BTreeMap<_, _>>()
    };
    let (inside, outside) =
        (made("in", "Type=network&Scheme=internal"), made("out", "Type=network&Scheme=internet-facing"));
    let found = attributes(&inside);
    for (key, value) in [
        ("deletion_protection.enabled", "false"),
        ("load_balancing.cross_zone.enabled", "false"),
        ("access_logs.s3.enabled", "false"),
        ("access_logs.s3.bucket", ""),
        ("access_logs.s3.prefix", ""),
        ("ipv6.deny_all_igw_traffic", "true"),
        ("zonal_shift.config.enabled", "false"),
        ("dns_record.client_routing_policy", "any_availability_zone"),
        ("secondary_ips.auto_assigned.per_subnet", "0"),
    ] {
        assert_eq!(found.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(found.len(), 9, "{found:?}");
    assert_eq!(attributes(&outside).get("ipv6.deny_all_igw_traffic").map(String::as_str), Some("false"));
    let set = |key: &str, value: &str| {
        format!(
            "Action=ModifyLoadBalancerAttributes&LoadBalancerArn={inside}&Attributes.member.1.Key={key}&\
             Attributes.member.1.Value={value}"
        )
    };
    for (key, value) in [
        ("access_logs.s3.enabled", "false"),
        ("access_logs.s3.bucket", "logs"),
        ("zonal_shift.config.enabled", "true"),
        ("dns_record.client_routing_policy", "any_availability_zone"),
        ("dns_record.client_routing_policy", "availability_zone_affinity"),
        ("dns_record.client_routing_policy", "partial_availability_zone_affinity"),
    ] {
        rig.elb(A, &set(key, value));
        assert_eq!(attributes(&inside).get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(
        refused(&rig, Service::LoadBalancing, &set("access_logs.s3.enabled", "true")),
        (
            "ValidationError".to_owned(),
            "'access_logs.s3.enabled' value 'true' must be 'false': nothing is written to buckets here, the agent's \
             access log is a file"
                .to_owned()
        )
    );
    assert_eq!(
        refused(&rig, Service::LoadBalancing, &set("dns_record.client_routing_policy", "zonal")),
        (
            "ValidationError".to_owned(),
            "'dns_record.client_routing_policy' value 'zonal' must be one of '[any_availability_zone, \
             availability_zone_affinity, partial_availability_zone_affinity]'"
                .to_owned()
        )
    );
}

/// The code and message of a refusal about records.
fn records_refused(rig: &Rig, form: &str, records: &str) -> (String, String) {
    refused(rig, Service::Ec2, &format!("{form}&DnsOptions.DnsRecordIpType={records}"))
}

#[test]
fn the_records_of_an_ipv4_endpoint_s_names_are_ipv4() {
    let rig = Rig::new();
    let (_, name) = rig.published();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let create = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}");
    let made = rig.ec2(A, &format!("{create}&DnsOptions.DnsRecordIpType=ipv4"));
    assert_eq!(text(&made, "dnsRecordIpType"), "ipv4");
    let modify = format!("Action=ModifyVpcEndpoint&VpcEndpointId={}", text(&made, "vpcEndpointId"));
    rig.ec2(A, &format!("{modify}&DnsOptions.DnsRecordIpType=ipv4"));
    for form in [create, modify] {
        for records in ["ipv6", "dualstack", "service-defined"] {
            let wanted = format!(
                "The DNS record IP type {records} is not supported for a VPC endpoint with the IP address type ipv4"
            );
            assert_eq!(records_refused(&rig, &form, records), ("InvalidParameter".to_owned(), wanted));
        }
        assert_eq!(records_refused(&rig, &form, "some").0, "InvalidParameterValue");
    }
}

#[test]
fn options_of_names_that_are_for_other_endpoints_are_refused() {
    let rig = Rig::new();
    let (_, name) = rig.published();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let create = format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}");
    let modify = format!("Action=ModifyVpcEndpoint&VpcEndpointId={}", text(&rig.ec2(A, &create), "vpcEndpointId"));
    let only = "is applicable only to Resource and ServiceNetwork VPC Endpoints.";
    let unsupported = "PrivateDnsOnlyForInboundResolverEndpoint not supported for this service.";
    for form in [create, modify] {
        for (option, wanted) in [
            ("PrivateDnsOnlyForInboundResolverEndpoint=true", unsupported.to_owned()),
            ("PrivateDnsOnlyForInboundResolverEndpoint=false", unsupported.to_owned()),
            ("PrivateDnsPreference=ALL_DOMAINS", format!("DnsOptions PrivateDnsPreference {only}")),
            ("PrivateDnsSpecifiedDomain.1=example.com", format!("DnsOptions PrivateDnsSpecifiedDomains {only}")),
        ] {
            let said = refused(&rig, Service::Ec2, &format!("{form}&DnsOptions.{option}"));
            assert_eq!(said, ("InvalidParameter".to_owned(), wanted));
        }
    }
}

#[test]
fn rules_of_security_groups_have_tags() {
    let rig = Rig::new();
    let group = text(&rig.ec2(A, "Action=DescribeSecurityGroups"), "groupId");
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let permit = |group: &str, port: u16| {
        format!(
            "Action=AuthorizeSecurityGroupIngress&GroupId={group}&IpPermissions.1.IpProtocol=tcp&\
             IpPermissions.1.FromPort={port}&IpPermissions.1.ToPort={port}&IpPermissions.1.IpRanges.1.CidrIp=10.0.0.0/8&\
             TagSpecification.1.ResourceType=security-group-rule&TagSpecification.1.Tag.1.Key=port&\
             TagSpecification.1.Tag.1.Value={port}"
        )
    };
    let made = rig.ec2(A, &permit(&group, 80));
    let rule = text(&made, "securityGroupRuleId");
    assert_eq!((text(&made, "key"), text(&made, "value")), ("port".to_owned(), "80".to_owned()));
    let find = |value: &str| {
        let form = format!("Action=DescribeSecurityGroupRules&Filter.1.Name=tag:port&Filter.1.Value.1={value}");
        texts(&rig.ec2(A, &form), "securityGroupRuleId")
    };
    assert_eq!((find("80"), find("81")), (vec![rule.clone()], vec![]));
    rig.ec2(A, &format!("Action=CreateTags&ResourceId.1={rule}&Tag.1.Key=port&Tag.1.Value=81"));
    assert_eq!((find("80"), find("81")), (vec![], vec![rule.clone()]));
    let of_type = "Action=DescribeTags&Filter.1.Name=resource-type&Filter.1.Value.1=security-group-rule";
    assert_eq!(text(&rig.ec2(A, of_type), "resourceId"), rule);
    let strange = format!("Action=CreateTags&ResourceId.1={rule}&Tag.1.Key=port&Tag.1.Value=82");
    rig.refused(B, Service::Ec2, &strange);
    let revoke = format!("Action=RevokeSecurityGroupIngress&GroupId={group}&SecurityGroupRuleId.1={rule}");
    rig.ec2(A, &revoke);
    assert!(rig.query.api.store.state().tags.is_empty(), "they go with the rule");
    let other = format!("Action=CreateSecurityGroup&GroupName=other&GroupDescription=other&VpcId={vpc}");
    let other = text(&rig.ec2(A, &other), "groupId");
    rig.ec2(A, &permit(&other, 80));
    assert_eq!(rig.query.api.store.state().tags.len(), 1);
    rig.ec2(A, &format!("Action=DeleteSecurityGroup&GroupId={other}"));
    assert!(rig.query.api.store.state().tags.is_empty(), "and with the group");
}

#[test]
fn the_health_of_targets_is_told_with_what_is_asked_for() {
    let rig = Rig::new();
    rig.published();
    let group = text(&rig.elb(A, "Action=DescribeTargetGroups"), "TargetGroupArn");
    let health = format!("Action=DescribeTargetHealth&TargetGroupArn={group}");
    assert!(texts(&rig.elb(A, &health), "MitigationInEffect").is_empty());
    let told = rig.elb(A, &format!("{health}&Include.member.1=AnomalyDetection"));
    assert_eq!((text(&told, "Result"), text(&told, "MitigationInEffect")), ("normal".to_owned(), "no".to_owned()));
    let (code, _) = refused(&rig, Service::LoadBalancing, &format!("{health}&Include.member.1=Anomalies"));
    assert_eq!(code, "ValidationError");
    let register = |zone: &str| {
        format!(
            "Action=RegisterTargets&TargetGroupArn={group}&Targets.member.1.Id=172.31.9.10&\
             Targets.member.1.AvailabilityZone={zone}"
        )
    };
    let (code, message) = refused(&rig, Service::LoadBalancing, &register("eu-west-1a"));
    assert_eq!((code.as_str(), message.as_str()), ("ValidationError", "Availability Zone 'eu-west-1a' is not valid"));
    rig.elb(A, &register("us-east-1a"));
    rig.elb(A, &register("all"));
}

#[test]
fn ec2_says_what_is_wrong_with_ranges_and_what_it_does_not_do() {
    let rig = Rig::new();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let table = text(&rig.ec2(A, "Action=DescribeRouteTables"), "routeTableId");
    let group = text(&rig.ec2(A, "Action=DescribeSecurityGroups"), "groupId");
    let lb = "arn:aws:elasticloadbalancing:us-east-1:111111111111:loadbalancer/gwy/x/0123456789abcdef";
    let open = |more: &str| format!("Action=AuthorizeSecurityGroupIngress&GroupId={group}&IpProtocol=tcp&{more}");
    let bad =
        |text: &str| format!("Value ({text}) for parameter cidrBlock is invalid. This is not a valid CIDR block.");
    for (form, code, message) in [
        ("Action=CreateVpc&CidrBlock=10.0.0.0/33".to_owned(), "InvalidParameterValue", bad("10.0.0.0/33")),
        (
            "Action=CreateVpc&CidrBlock=10.0.0.0/8".to_owned(),
            "InvalidVpc.Range",
            "The CIDR '10.0.0.0/8' is invalid.".to_owned(),
        ),
        (format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=here"), "InvalidParameterValue", bad("here")),
        (
            format!("Action=ModifyVpcAttribute&VpcId={vpc}&EnableNetworkAddressUsageMetrics.Value=true"),
            "UnsupportedOperation",
            "EnableNetworkAddressUsageMetrics cannot be changed here".to_owned(),
        ),
        (
            format!("Action=CreateRoute&RouteTableId={table}&DestinationPrefixListId=pl-00000000&GatewayId=local"),
            "InvalidPrefixListID.NotFound",
            "The prefix list ID 'pl-00000000' does not exist".to_owned(),
        ),
        (
            format!("Action=CreateRoute&RouteTableId={table}&DestinationIpv6CidrBlock=10.0.0.0/8&GatewayId=local"),
            "InvalidParameterValue",
            "Value (10.0.0.0/8) for parameter destinationIpv6CidrBlock is invalid. This is not a valid CIDR block."
                .to_owned(),
        ),
        (
            open("FromPort=90&ToPort=80&CidrIp=10.0.0.0/8"),
            "InvalidParameterValue",
            "Invalid TCP port range (90:80)".to_owned(),
        ),
        (
            open("FromPort=80&ToPort=80&CidrIp=10.0.0.0"),
            "InvalidParameterValue",
            "CIDR block 10.0.0.0 is malformed".to_owned(),
        ),
        (
            format!("Action=CreateVpcEndpointServiceConfiguration&GatewayLoadBalancerArn.1={lb}"),
            "LoadBalancerNotFound",
            String::new(),
        ),
    ] {
        let (found, said) = refused(&rig, Service::Ec2, &form);
        assert_eq!(found, code, "{form}: {said}");
        assert!(message.is_empty() || said == message, "{form}: {said}");
    }
    rig.ec2(A, "Action=DescribeInstances&IncludeManagedResources=true");
    rig.ec2(A, "Action=DescribeNetworkInterfaces&IncludeManagedResources=true");
}
