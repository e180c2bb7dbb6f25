//! EC2's side: ranges, addresses, interfaces, routes, rules of security groups, and the zones and families of services.

use super::*;

/// A VPC of IPv4 and IPv6 with a subnet of both in each of two zones: its id, and theirs.
fn dualstack(rig: &Rig) -> (String, [String; 2]) {
    let vpc = rig.ec2(A, "Action=CreateVpc&CidrBlock=10.9.3.4/16&Ipv6CidrBlock=fd00:9::1/56");
    assert_eq!(text(&vpc, "cidrBlock"), "10.9.0.0/16", "host bits are taken away");
    let vpc = text(&vpc, "vpcId");
    let subnet = |number: u8, zone: char| {
        let form = format!(
            "Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.9.{number}.7/24&Ipv6CidrBlock=fd00:9:0:{number}::/64&\
             AvailabilityZone=us-east-1{zone}"
        );
        let made = rig.ec2(A, &form);
        assert_eq!(text(&made, "cidrBlock"), format!("10.9.{number}.0/24"));
        text(&made, "subnetId")
    };
    let subnets = [subnet(1, 'a'), subnet(2, 'b')];
    (vpc, subnets)
}

fn load_balancer(rig: &Rig, name: &str, more: &str) -> String {
    let form = format!("Action=CreateLoadBalancer&Name={name}&Type=network&Scheme=internal&{more}");
    text(&rig.elb(A, &form), "LoadBalancerArn")
}

fn interfaces(rig: &Rig, description: &str) -> Vec<String> {
    let form = format!("Action=DescribeNetworkInterfaces&Filter.1.Name=description&Filter.1.Value.1={description}");
    let body = rig.ec2(A, &form);
    body.split("<item><requesterId>").skip(1).map(str::to_owned).collect()
}

#[test]
fn a_load_balancer_and_an_endpoint_have_one_interface_a_subnet() {
    let rig = Rig::new();
    let (vpc, [one, two]) = dualstack(&rig);
    let both = format!("Subnets.member.1={one}&Subnets.member.2={two}&IpAddressType=dualstack");
    let lb = load_balancer(&rig, "wide", &both);
    rig.elb(
        A,
        &format!(
            "Action=ModifyLoadBalancerAttributes&LoadBalancerArn={lb}&Attributes.member.1.Value=2&\
             Attributes.member.1.Key=secondary_ips.auto_assigned.per_subnet"
        ),
    );
    let found = interfaces(&rig, "ELB?net/wide/*");
    assert_eq!(found.len(), 2, "{found:?}");
    for interface in &found {
        assert_eq!(texts(interface, "primary"), ["true", "false", "false"], "{interface}");
        assert_eq!(texts(interface, "ipv6Address").len(), 1, "{interface}");
    }
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}");
    let service = text(&rig.ec2(A, &service), "serviceName");
    let endpoint = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={service}&VpcId={vpc}&SubnetId.1={one}&\
         SubnetId.2={two}&IpAddressType=dualstack"
    );
    let endpoint = rig.ec2(A, &endpoint);
    let ids = texts(&text(&endpoint, "networkInterfaceIdSet"), "item");
    assert_eq!(ids.len(), 2, "{endpoint}");
    for interface in interfaces(&rig, "VPC?Endpoint?Interface*") {
        assert!(ids.contains(&text(&interface, "networkInterfaceId")), "{interface}");
        assert_eq!((texts(&interface, "primary").len(), texts(&interface, "ipv6Address").len()), (1, 1));
    }
    let application = format!("Action=CreateLoadBalancer&Name=app&Subnets.member.1={one}&Subnets.member.2={two}");
    rig.elb(A, &application);
    let application = interfaces(&rig, "ELB?app/app/*");
    assert_eq!(application.len(), 2);
    assert_eq!(text(&application[0], "requesterManaged"), "true");
    let of_type = "Action=DescribeNetworkInterfaces&Filter.1.Name=interface-type&Filter.1.Value.1=interface&\
                   Filter.2.Name=group-name&Filter.2.Value.1=default&Filter.3.Name=requester-id&Filter.3.Value.1=*";
    assert_eq!(texts(&rig.ec2(A, of_type), "networkInterfaceId").len(), 2);
}

#[test]
fn nothing_has_the_first_four_addresses_of_a_subnet_or_its_last() {
    let rig = Rig::new();
    let (_, [one, _]) = dualstack(&rig);
    for (pin, address) in [
        ("PrivateIPv4Address", "10.9.1.3"),
        ("PrivateIPv4Address", "10.9.1.255"),
        ("IPv6Address", "fd00:9:0:1::3"),
        ("IPv6Address", "fd00:9:0:1:ffff:ffff:ffff:ffff"),
    ] {
        let form = format!(
            "Action=CreateLoadBalancer&Name=pinned&Type=network&IpAddressType=dualstack&\
             SubnetMappings.member.1.SubnetId={one}&SubnetMappings.member.1.{pin}={address}"
        );
        let (_, code, message) = rig.refused(A, Service::LoadBalancing, &form);
        let wanted = format!("Address {address} is in subnet's reserved address range");
        assert_eq!((code.as_str(), message), ("InvalidParameterValue", wanted));
    }
    let run = format!("Action=RunInstances&MinCount=1&MaxCount=1&SubnetId={one}&PrivateIpAddress=10.9.1.1");
    assert_eq!(rig.refused(A, Service::Ec2, &run).2, "Address 10.9.1.1 is in subnet's reserved address range");
    let outside = format!("Action=RunInstances&MinCount=1&MaxCount=1&SubnetId={one}&PrivateIpAddress=10.9.2.9");
    let wanted = "Address 10.9.2.9 does not fall within the subnet's address range 10.9.1.0/24";
    assert_eq!(rig.refused(A, Service::Ec2, &outside).2, wanted);
}

#[test]
fn a_route_table_has_a_local_route_for_each_family() {
    let rig = Rig::new();
    let (vpc, _) = dualstack(&rig);
    let find = |filter: &str, value: &str| {
        let form = format!(
            "Action=DescribeRouteTables&Filter.1.Name=vpc-id&Filter.1.Value.1={vpc}&Filter.2.Name={filter}&\
             Filter.2.Value.1={value}"
        );
        rig.ec2(A, &form)
    };
    let found = find("route.gateway-id", "local");
    assert_eq!(texts(&found, "destinationCidrBlock"), ["10.9.0.0/16"]);
    assert_eq!(texts(&found, "destinationIpv6CidrBlock"), ["fd00:9::/56"]);
    assert_eq!(
        texts(&find("route.origin", "CreateRouteTable"), "routeTableId").len(),
        texts(&found, "routeTableId").len()
    );
    assert!(texts(&find("route.origin", "CreateRoute"), "routeTableId").is_empty());
}

#[test]
fn rules_of_security_groups_have_prefix_lists_and_named_groups_as_peers() {
    let rig = Rig::new();
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let table = text(&rig.ec2(A, "Action=DescribeRouteTables"), "routeTableId");
    let storage =
        format!("Action=CreateVpcEndpoint&VpcId={vpc}&ServiceName=com.amazonaws.us-east-1.s3&RouteTableId.1={table}");
    rig.ec2(A, &storage);
    let list = text(&rig.ec2(A, "Action=DescribeRouteTables"), "destinationPrefixListId");
    let group = format!("Action=CreateSecurityGroup&GroupName=web&GroupDescription=web&VpcId={vpc}");
    let group = text(&rig.ec2(A, &group), "groupId");
    let permit = |verb: &str, list: &str| {
        format!(
            "Action={verb}SecurityGroupEgress&GroupId={group}&IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=443&\
             IpPermissions.1.ToPort=443&IpPermissions.1.PrefixListIds.1.PrefixListId={list}"
        )
    };
    let made = rig.ec2(A, &permit("Authorize", &list));
    assert_eq!(text(&made, "prefixListId"), list);
    let find = format!(
        "Action=DescribeSecurityGroups&Filter.1.Name=egress.ip-permission.prefix-list-id&Filter.1.Value.1={list}"
    );
    let found = rig.ec2(A, &find);
    assert_eq!((texts(&found, "groupId"), texts(&found, "prefixListId")), (vec![group.clone()], vec![list.clone()]));
    let (_, code, message) = rig.refused(A, Service::Ec2, &permit("Authorize", "pl-00000000"));
    assert_eq!(code, "InvalidPrefixListID.NotFound");
    assert_eq!(message, "The prefix list ID 'pl-00000000' does not exist");
    assert_eq!(text(&rig.ec2(A, &permit("Revoke", &list)), "prefixListId"), list);

    let from_group = "Action=AuthorizeSecurityGroupIngress&GroupName=default&SourceSecurityGroupName=web";
    let (protocol, peer) = {
        let made = rig.ec2(A, from_group);
        (text(&made, "ipProtocol"), text(&text(&made, "referencedGroupInfo"), "groupId"))
    };
    assert_eq!((protocol.as_str(), peer), ("-1", group.clone()));
    let find = "Action=DescribeSecurityGroups&Filter.1.Name=ip-permission.group-name&Filter.1.Value.1=web";
    assert_eq!(text(&rig.ec2(A, find), "groupName"), "default");
    let of_another = format!("{from_group}&SourceSecurityGroupOwnerId={B}");
    assert_eq!(rig.refused(A, Service::Ec2, &of_another).1, "InvalidGroup.NotFound");
    let unknown = "Action=DescribeSecurityGroups&Filter.1.Name=ip-permission.nonsense&Filter.1.Value.1=x";
    assert_eq!(rig.refused(A, Service::Ec2, unknown).1, "InvalidParameterValue");
}

#[test]
fn what_ec2_filters_by_is_known() {
    let rig = Rig::new();
    let vpc = rig.ec2(A, "Action=DescribeVpcs");
    let subnet = rig.ec2(A, "Action=DescribeSubnets");
    for (action, filter, value, id) in [
        ("DescribeVpcs", "dhcp-options-id", text(&vpc, "dhcpOptionsId"), "vpcId"),
        ("DescribeVpcs", "cidr-block-association.association-id", text(&vpc, "associationId"), "vpcId"),
        ("DescribeSubnets", "subnet-arn", text(&subnet, "subnetArn"), "subnetId"),
    ] {
        let form = |value: &str| format!("Action={action}&Filter.1.Name={filter}&Filter.1.Value.1={value}");
        assert_eq!(texts(&rig.ec2(A, &form(&value)), id).len(), 1, "{filter}");
        assert!(texts(&rig.ec2(A, &form("other")), id).is_empty(), "{filter}");
    }
    let most = "Action=DescribeAccountAttributes&AttributeName.1=vpc-max-security-groups-per-interface";
    assert_eq!(text(&text(&rig.ec2(A, most), "attributeValueSet"), "attributeValue"), "5");
}

#[test]
fn the_records_of_a_dualstack_endpoint_s_names_are_chosen() {
    let rig = Rig::new();
    let (vpc, [one, _]) = dualstack(&rig);
    let lb = load_balancer(&rig, "web", &format!("Subnets.member.1={one}&IpAddressType=dualstack"));
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}");
    let service = text(&rig.ec2(A, &service), "serviceName");
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={service}&VpcId={vpc}&SubnetId.1={one}&\
         IpAddressType=dualstack"
    );
    let made = rig.ec2(A, &create);
    assert_eq!(text(&made, "dnsRecordIpType"), "dualstack", "nobody has chosen");
    let defined = rig.ec2(A, &format!("{create}&DnsOptions.DnsRecordIpType=service-defined"));
    assert_eq!(text(&defined, "dnsRecordIpType"), "service-defined");
    let id = text(&made, "vpcEndpointId");
    let shown = || {
        let body = rig.ec2(A, &format!("Action=DescribeVpcEndpoints&VpcEndpointId.1={id}"));
        (text(&body, "ipAddressType"), text(&body, "dnsRecordIpType"))
    };
    let modify = |more: &str| format!("Action=ModifyVpcEndpoint&VpcEndpointId={id}&{more}");
    let both = |addresses: &str, records: &str| (addresses.to_owned(), records.to_owned());
    rig.ec2(A, &modify("IpAddressType=ipv4"));
    assert_eq!(shown(), both("ipv4", "ipv4"), "a choice that nobody has made follows");
    for records in ["ipv6", "service-defined", "ipv4", "dualstack"] {
        rig.ec2(A, &modify(&format!("IpAddressType=dualstack&DnsOptions.DnsRecordIpType={records}")));
        assert_eq!(shown(), both("dualstack", records));
    }
    let (_, code, message) = rig.refused(A, Service::Ec2, &modify("IpAddressType=ipv4"));
    let wanted = "The DNS record IP type dualstack is not supported for a VPC endpoint with the IP address type ipv4";
    assert_eq!((code.as_str(), message.as_str()), ("InvalidParameter", wanted));
    assert_eq!(shown(), both("dualstack", "dualstack"));
    rig.ec2(A, &modify("IpAddressType=ipv4&DnsOptions.DnsRecordIpType=ipv4"));
    rig.ec2(A, &modify("IpAddressType=dualstack"));
    assert_eq!(shown(), both("dualstack", "ipv4"), "a choice stays");
}

#[test]
fn an_ipv6_address_is_pinned_where_the_endpoint_has_or_gets_one() {
    let rig = Rig::new();
    let (vpc, [one, two]) = dualstack(&rig);
    let both = format!("Subnets.member.1={one}&Subnets.member.2={two}&IpAddressType=dualstack");
    let lb = load_balancer(&rig, "web", &both);
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}");
    let service = text(&rig.ec2(A, &service), "serviceName");
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={service}&VpcId={vpc}&SubnetId.1={one}"
    );
    let endpoint = text(&rig.ec2(A, &create), "vpcEndpointId");
    let pin = |subnet: &str, address: &str, more: &str| {
        format!(
            "Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&SubnetConfiguration.1.SubnetId={subnet}&\
             SubnetConfiguration.1.Ipv6={address}{more}"
        )
    };
    let addresses = || {
        let found = interfaces(&rig, &format!("*{endpoint}"));
        let mut found: Vec<String> = found.iter().flat_map(|interface| texts(interface, "ipv6Address")).collect();
        found.sort();
        found
    };
    for (subnet, address, more) in [
        (&one, "fd00:9:0:1::61", ""),
        (&one, "fd00:9:0:1::61", "&IpAddressType=ipv4"),
        (&two, "fd00:9:0:2::61", "&AddSubnetId.1="),
    ] {
        let more = if more.ends_with('=') { format!("{more}{subnet}") } else { more.to_owned() };
        let (_, code, message) = rig.refused(A, Service::Ec2, &pin(subnet, address, &more));
        let wanted = format!(
            "The IPv6 address '{address}' cannot be given to the VPC endpoint '{endpoint}', which has no IPv6 addresses"
        );
        assert_eq!((code.as_str(), message), ("InvalidParameter", wanted), "{more}");
    }
    rig.ec2(A, &pin(&one, "fd00:9:0:1::61", "&IpAddressType=dualstack"));
    assert_eq!(addresses(), ["fd00:9:0:1::61"]);
    rig.ec2(A, &pin(&two, "fd00:9:0:2::62", ""));
    assert_eq!(addresses(), ["fd00:9:0:1::61", "fd00:9:0:2::62"]);
    let (_, code, _) = rig.refused(A, Service::Ec2, &pin(&two, "fd00:9:0:2::63", "&IpAddressType=ipv4"));
    assert_eq!(code, "InvalidParameter");
    // A subnet without a range of its own, in which the endpoint has an IPv4 address only.
    let form = format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.9.4.0/24&AvailabilityZone=us-east-1b");
    let plain = text(&rig.ec2(A, &form), "subnetId");
    let move_there = format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&IpAddressType=ipv4");
    rig.ec2(A, &format!("{move_there}&RemoveSubnetId.1={two}&AddSubnetId.1={plain}"));
    let (_, code, message) = rig.refused(A, Service::Ec2, &pin(&plain, "fd00:9::61", "&IpAddressType=dualstack"));
    let wanted = format!("The subnet '{plain}' does not have an IPv6 CIDR block");
    assert_eq!((code.as_str(), message), ("InvalidParameter", wanted));
    rig.ec2(A, &format!("Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&IpAddressType=dualstack"));
    let (_, code, message) = rig.refused(A, Service::Ec2, &pin(&plain, "fd00:9::61", ""));
    let wanted = format!(
        "The VPC endpoint '{endpoint}' has no IPv6 address in the subnet '{plain}' that 'fd00:9::61' could replace"
    );
    assert_eq!((code.as_str(), message), ("InvalidParameter", wanted));
}

#[test]
fn an_endpoint_gets_another_address_where_it_is() {
    let rig = Rig::new();
    let (vpc, [one, _]) = dualstack(&rig);
    let lb = load_balancer(&rig, "web", &format!("Subnets.member.1={one}&IpAddressType=dualstack"));
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}");
    let service = text(&rig.ec2(A, &service), "serviceName");
    let create = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={service}&VpcId={vpc}&IpAddressType=dualstack&\
         SubnetConfiguration.1.SubnetId={one}&SubnetConfiguration.1.Ipv4=10.9.1.50&\
         SubnetConfiguration.1.Ipv6=fd00:9:0:1::50&SubnetId.1={one}"
    );
    let endpoint = text(&rig.ec2(A, &create), "vpcEndpointId");
    let addresses = || {
        let found = interfaces(&rig, &format!("*{endpoint}")).remove(0);
        (text(&found, "networkInterfaceId"), text(&found, "privateIpAddress"), text(&found, "ipv6Address"))
    };
    let (before, four, six) = addresses();
    assert_eq!((four.as_str(), six.as_str()), ("10.9.1.50", "fd00:9:0:1::50"));
    let pin = |what: &str| {
        format!(
            "Action=ModifyVpcEndpoint&VpcEndpointId={endpoint}&SubnetConfiguration.1.SubnetId={one}&\
             SubnetConfiguration.1.{what}"
        )
    };
    rig.ec2(A, &pin("Ipv4=10.9.1.50"));
    assert_eq!(addresses().0, before, "the same address is the same interface");
    rig.ec2(A, &pin("Ipv4=10.9.1.60"));
    let (after, four, six) = addresses();
    assert_eq!((four.as_str(), six.as_str()), ("10.9.1.60", "fd00:9:0:1::50"));
    assert_ne!(after, before);
    rig.ec2(A, &pin("Ipv6=fd00:9:0:1::61"));
    assert_eq!(addresses().2, "fd00:9:0:1::61");
    let taken = text(&interfaces(&rig, "ELB*")[0], "privateIpAddress");
    assert_eq!(rig.refused(A, Service::Ec2, &pin(&format!("Ipv4={taken}"))).1, "InvalidIPAddress.InUse");
    assert_eq!(rig.refused(A, Service::Ec2, &pin("Ipv4=10.9.1.2")).1, "InvalidParameterValue");
    assert_eq!(rig.refused(A, Service::Ec2, &pin("Ipv4=10.9.2.20")).1, "InvalidParameterValue");
}

#[test]
fn a_service_has_its_load_balancers_later_zones_after_its_next_change() {
    let rig = Rig::new();
    let (vpc, [one, two]) = dualstack(&rig);
    let lb = load_balancer(&rig, "web", &format!("Subnets.member.1={one}"));
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}");
    let made = rig.ec2(A, &service);
    let (id, name) = (text(&made, "serviceId"), text(&made, "serviceName"));
    let zones = || {
        let configured = rig.ec2(A, "Action=DescribeVpcEndpointServiceConfigurations");
        let offered = rig.ec2(A, &format!("Action=DescribeVpcEndpointServices&ServiceName.1={name}"));
        let of = |body: &str| texts(&text(body, "availabilityZoneSet"), "item");
        assert_eq!(of(&configured), of(&offered));
        of(&configured)
    };
    assert_eq!(zones(), ["us-east-1a"]);
    rig.elb(A, &format!("Action=SetSubnets&LoadBalancerArn={lb}&Subnets.member.1={one}&Subnets.member.2={two}"));
    assert_eq!(zones(), ["us-east-1a"], "the load balancer is in another zone, and the service is not yet");
    let create =
        format!("Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={two}");
    let (_, code, message) = rig.refused(A, Service::Ec2, &create);
    assert_eq!(code, "InvalidParameter");
    assert!(message.contains("does not support the availability zone of the subnet"), "{message}");
    rig.ec2(A, &format!("Action=ModifyVpcEndpointServiceConfiguration&ServiceId={id}"));
    assert_eq!(zones(), ["us-east-1a", "us-east-1b"]);
    rig.ec2(A, &create);
}

#[test]
fn a_service_offers_the_families_that_it_is_to_offer() {
    let rig = Rig::new();
    let (vpc, [one, _]) = dualstack(&rig);
    let lb = load_balancer(&rig, "web", &format!("Subnets.member.1={one}&IpAddressType=dualstack"));
    let create = |more: &str| {
        let made =
            rig.ec2(A, &format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={lb}{more}"));
        (text(&made, "serviceId"), text(&made, "serviceName"))
    };
    let families = || {
        let found = rig.ec2(A, "Action=DescribeVpcEndpointServiceConfigurations");
        texts(&text(&found, "supportedIpAddressTypeSet"), "item")
    };
    let (id, name) = create("&SupportedIpAddressType.1=ipv4&SupportedRegion.1=us-east-1");
    assert_eq!(families(), ["ipv4"]);
    let endpoint = format!(
        "Action=CreateVpcEndpoint&VpcEndpointType=Interface&ServiceName={name}&VpcId={vpc}&SubnetId.1={one}&\
         IpAddressType=dualstack"
    );
    assert_eq!(rig.refused(A, Service::Ec2, &endpoint).1, "InvalidParameter");
    let modify = format!("Action=ModifyVpcEndpointServiceConfiguration&ServiceId={id}");
    rig.ec2(A, &format!("{modify}&AddSupportedIpAddressType.1=ipv6"));
    assert_eq!(families(), ["ipv4", "ipv6"]);
    let made = text(&rig.ec2(A, &endpoint), "vpcEndpointId");
    let remove = format!("{modify}&RemoveSupportedIpAddressType.1=ipv6");
    let (_, code, message) = rig.refused(A, Service::Ec2, &remove);
    assert_eq!(code, "InvalidParameter");
    assert!(message.contains("cannot be removed from"), "{message}");
    rig.ec2(A, &format!("Action=DeleteVpcEndpoints&VpcEndpointId.1={made}"));
    rig.ec2(A, &remove);
    assert_eq!(families(), ["ipv4"]);
    for wrong in ["RemoveSupportedIpAddressType.1=ipv4", "AddSupportedIpAddressType.1=ipv5"] {
        assert_eq!(rig.refused(A, Service::Ec2, &format!("{modify}&{wrong}")).1, "InvalidParameterValue", "{wrong}");
    }
    let both = format!("{modify}&AddSupportedIpAddressType.1=ipv6&RemoveSupportedIpAddressType.1=ipv6");
    assert_eq!(rig.refused(A, Service::Ec2, &both).1, "InvalidParameterCombination");
}
