//! Gateway endpoints: made, shown, changed and deleted beside the others.

use super::*;

#[test]
fn a_gateway_endpoint_is_a_record_beside_the_others() {
    let rig = Rig::new();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let tables = rig.ec2(A, "Action=DescribeRouteTables");
    let main = text(&tables, "routeTableId");
    let more = text(&text(&rig.ec2(A, &format!("Action=CreateRouteTable&VpcId={vpc}")), "routeTable"), "routeTableId");
    let offered = rig.ec2(A, "Action=DescribeVpcEndpointServices&ServiceName.1=com.amazonaws.us-east-1.s3");
    assert_eq!(texts(&text(&offered, "serviceDetailSet"), "serviceName"), ["com.amazonaws.us-east-1.s3"]);

    let create = |service: &str, more: &str| {
        format!("Action=CreateVpcEndpoint&VpcId={vpc}&ServiceName=com.amazonaws.us-east-1.{service}{more}")
    };
    let made = rig.ec2(A, &create("s3", &format!("&RouteTableId.1={main}&ClientToken=once")));
    let id = text(&made, "vpcEndpointId");
    assert_eq!(
        (text(&made, "vpcEndpointType"), text(&made, "state"), text(&text(&made, "routeTableIdSet"), "item")),
        ("Gateway".to_owned(), "available".to_owned(), main.clone())
    );
    let again = rig.ec2(A, &create("s3", &format!("&RouteTableId.1={main}&ClientToken=once")));
    assert_eq!(text(&again, "vpcEndpointId"), id, "the same token, the same endpoint");
    let routes = rig.ec2(A, &format!("Action=DescribeRouteTables&RouteTableId.1={main}"));
    assert!(routes.contains(&format!("<gatewayId>{id}</gatewayId>")), "{routes}");
    assert_eq!(texts(&routes, "destinationPrefixListId").len(), 1);

    // A table has one route to a service; another service, and another account, are something else.
    let (_, code, message) = rig.refused(A, Service::Ec2, &create("s3", &format!("&RouteTableId.1={main}")));
    assert_eq!(code, "RouteAlreadyExists");
    assert!(
        message.starts_with(&format!("route table {main} already has a route with destination-prefix-list-id pl-"))
    );
    let other = text(&rig.ec2(A, &create("dynamodb", &format!("&RouteTableId.1={main}"))), "vpcEndpointId");
    for (form, code) in [
        (create("s3", "&VpcEndpointType=Interface"), "InvalidParameter"),
        (create("s3", "&PrivateDnsEnabled=true"), "InvalidParameter"),
        (create("s3", "&RouteTableId.1=rtb-0"), "InvalidRouteTableID.NotFound"),
        (create("sqs", ""), "InvalidServiceName"),
        (format!("Action=ModifyVpcEndpoint&VpcEndpointId={id}&AddSubnetId.1=subnet-0"), "InvalidParameter"),
        (format!("Action=DeleteVpc&VpcId={vpc}"), "DependencyViolation"),
    ] {
        assert_eq!(rig.refused(A, Service::Ec2, &form).1, code, "{form}");
    }

    for what in [
        "AddSubnetId.1=subnet-0",
        "RemoveSubnetId.1=subnet-0",
        "AddSecurityGroupId.1=sg-0",
        "RemoveSecurityGroupId.1=sg-0",
        "IpAddressType=ipv4",
        "DnsOptions.DnsRecordIpType=ipv4",
        "PrivateDnsEnabled=true",
        "PrivateDnsEnabled=false",
    ] {
        let (_, code, message) =
            rig.refused(A, Service::Ec2, &format!("Action=ModifyVpcEndpoint&VpcEndpointId={id}&{what}"));
        let wanted = "Gateway endpoints have no subnets, security groups, IP address type and DNS names";
        assert_eq!((code.as_str(), message.as_str()), ("InvalidParameter", wanted), "{what}");
    }

    rig.ec2(
        A,
        &format!("Action=ModifyVpcEndpoint&VpcEndpointId={id}&AddRouteTableId.1={more}&RemoveRouteTableId.1={main}"),
    );
    let shown = rig.ec2(A, &format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={id}"));
    assert_eq!(texts(&text(&shown, "routeTableIdSet"), "item"), [more.clone()]);
    rig.ec2(A, &format!("Action=DeleteRouteTable&RouteTableId={more}"));
    let shown = rig.ec2(A, &format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={id}"));
    assert!(texts(&text(&shown, "routeTableIdSet"), "item").is_empty());
    let gateways = "Action=DescribeVpcEndpoints&Filter.1.Name=vpc-endpoint-type&Filter.1.Value.1=Gateway";
    assert_eq!(texts(&rig.ec2(A, gateways), "vpcEndpointId").len(), 2);
    assert!(texts(&rig.ec2(B, gateways), "vpcEndpointId").is_empty(), "another account sees none");
    rig.ec2(A, &format!("Action=CreateTags&ResourceId.1={id}&Tag.1.Key=Name&Tag.1.Value=s3"));
    let form = format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={id}&VpcEndpointId.2={other}");
    assert!(texts(&rig.ec2(A, &form), "code").is_empty());
    assert!(texts(&rig.ec2(A, gateways), "vpcEndpointId").is_empty());
}
