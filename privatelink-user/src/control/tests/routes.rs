//! Subnets, route tables, network interfaces and tags.

use serde_json::json;

use super::*;
use crate::{
    control::{network_interfaces::*, route_tables::*, subnets::*, tags::*},
    model::RouteState,
};

fn interface(world: &World, place: &str) -> String {
    let request = DescribeNetworkInterfaces { network_interfaces: Some(vec![place.into()]), vpc: None };
    world.ask(request).unwrap()[0].id.to_string()
}

#[test]
fn a_route_leads_to_an_interface_until_that_is_gone() {
    let mut world = World::published();
    let eni = interface(&world, "consumer/10.0.0.50");
    assert!(eni.starts_with("eni-"), "{eni}");
    let route =
        json!({"route_table": "consumer", "destination": "10.200.0.10/32", "target": {"network-interface": eni}});
    let table = world.json::<CreateRoute>(route.clone()).unwrap();
    assert!(table.main && table.routes[0].state == RouteState::Active, "{table:?}");
    assert_eq!(table.routes[0].target.to_string(), eni);
    world.json::<CreateRoute>(route).unwrap();
    let endpoint = world.state.endpoints.keys().next().unwrap().to_string();
    let by_endpoint =
        json!({"route_table": table.id, "destination": "10.201.7.9/16", "target": {"endpoint": endpoint}});
    let table = world.json::<CreateRoute>(by_endpoint).unwrap();
    let destinations: Vec<String> = table.routes.iter().map(|route| route.destination.to_string()).collect();
    assert_eq!(destinations, ["10.200.0.10/32", "10.201.0.0/16"], "host bits are cleared");
    world.json::<DeleteEndpoint>(json!({"endpoint": endpoint})).unwrap();
    let table = world.ask(DescribeRouteTables::default()).unwrap().into_iter().find(|one| one.id == table.id).unwrap();
    assert!(table.routes.iter().all(|route| route.state == RouteState::Blackhole), "{table:?}");
    let gone = world.json::<DeleteRoute>(json!({"route_table": "consumer", "destination": "10.200.0.10/32"})).unwrap();
    assert_eq!(gone.routes.len(), 1);
}

#[test]
fn a_subnet_has_one_table_and_lets_go_of_it() {
    let mut world = World::published();
    let subnet = world.json::<CreateSubnet>(json!({"vpc": "consumer", "cidr": "10.0.0.0/24"})).unwrap();
    assert_eq!((subnet.zone.as_str(), subnet.free_addresses), ("us-east-1a", 250), "the endpoint has one");
    let table = world.json::<CreateRouteTable>(json!({"vpc": "consumer"})).unwrap();
    assert!(!table.main && table.associations.is_empty());
    let vpc = world.state.vpcs.values().find(|vpc| vpc.name.as_str() == "consumer").unwrap().id.clone();
    let of = |world: &World| world.state.route_table_of(&vpc, &subnet.id).unwrap().id.clone();
    assert_eq!(of(&world), world.state.main_route_table(&vpc).unwrap().id);
    let associate = json!({"route_table": table.id, "subnet": "consumer/10.0.0.0/24"});
    let associated = world.json::<AssociateRouteTable>(associate.clone()).unwrap();
    assert_eq!(world.json::<AssociateRouteTable>(associate).unwrap(), associated);
    assert_eq!(of(&world), table.id);
    world.json::<DisassociateRouteTable>(json!({"association": associated.associations[0].id})).unwrap();
    world.json::<AssociateRouteTable>(json!({"route_table": table.id, "subnet": subnet.id})).unwrap();
    let (code, _) = refusal(world.json::<DeleteRouteTable>(json!({"route_table": table.id})));
    assert_eq!(code, "DependencyViolation");
    world.json::<DeleteEndpoint>(json!({"endpoint": "consumer/10.0.0.50"})).unwrap();
    world.json::<DeleteSubnet>(json!({"subnet": subnet.id})).unwrap();
    world.json::<DetachPort>(json!({"port": "veth-c"})).unwrap();
    let (code, _) = refusal(world.json::<DeleteVpc>(json!({"vpc": "consumer"})));
    assert_eq!(code, "DependencyViolation", "a table beside the main one");
    world.json::<DeleteRouteTable>(json!({"route_table": table.id})).unwrap();
    world.json::<DeleteVpc>(json!({"vpc": "consumer"})).unwrap();
    assert_eq!(world.state.route_tables.len(), world.state.vpcs.len());
}

#[test]
fn routes_are_refused_in_the_words_of_ec2() {
    let mut world = World::published();
    world.json::<CreateSubnet>(json!({"vpc": "consumer", "cidr": "10.0.0.0/24"})).unwrap();
    world.json::<CreateSubnet>(json!({"vpc": "provider", "cidr": "10.0.0.0/24"})).unwrap();
    let eni = interface(&world, "consumer/10.0.0.50");
    let node = interface(&world, "provider/10.0.0.5");
    let own = world.json::<CreateRouteTable>(json!({"vpc": "consumer"})).unwrap().id;
    let other = world.json::<CreateRouteTable>(json!({"vpc": "consumer"})).unwrap().id;
    world.json::<AssociateRouteTable>(json!({"route_table": own, "subnet": "consumer/10.0.0.0/24"})).unwrap();
    let subnet = find(&world.state, &"provider/10.0.0.0/24".into()).unwrap().id.clone();
    let main = lookup::route_table(&world.state, &"consumer".into()).unwrap().clone();
    let route = |destination: &str, target: &str| json!({"route_table": own, "destination": destination, "target": {"network-interface": target}});
    world.json::<CreateRoute>(route("10.200.0.0/16", &eni)).unwrap();
    let endpoint = world.state.endpoints.keys().next().unwrap().clone();
    let elsewhere = json!({"route_table": own, "destination": "10.200.0.0/16", "target": {"endpoint": endpoint}});
    let cases = [
        (
            refusal(world.json::<CreateRoute>(elsewhere)),
            "RouteAlreadyExists",
            "The route identified by 10.200.0.0/16 already exists.".to_owned(),
        ),
        (
            refusal(world.json::<CreateRoute>(route("10.0.0.0/16", &eni))),
            "RouteAlreadyExists",
            "The route identified by 10.0.0.0/16 already exists.".to_owned(),
        ),
        (
            refusal(world.json::<CreateRoute>(route("10.9.0.0/16", "eni-0"))),
            "InvalidNetworkInterfaceID.NotFound",
            "The networkInterface ID 'eni-0' does not exist".to_owned(),
        ),
        (
            refusal(world.json::<CreateRoute>(route("10.9.0.0/16", &node))),
            "InvalidParameterValue",
            format!("Route table {own} and interface {node} belong to different networks"),
        ),
        (
            refusal(world.json::<ReplaceRoute>(route("10.9.0.0/16", &eni))),
            "InvalidParameterValue",
            "There is no route defined for '10.9.0.0/16' in the route table. Use CreateRoute instead.".to_owned(),
        ),
        (
            refusal(world.json::<DeleteRoute>(json!({"route_table": own, "destination": "10.9.0.0/16"}))),
            "InvalidRoute.NotFound",
            format!("no route with destination-cidr-block 10.9.0.0/16 in route table {own}"),
        ),
        (
            refusal(world.json::<DeleteRoute>(json!({"route_table": own, "destination": "10.0.0.0/16"}))),
            "InvalidParameterValue",
            format!("cannot remove local route 10.0.0.0/16 in route table {own}"),
        ),
        (
            refusal(world.json::<DeleteRouteTable>(json!({"route_table": own}))),
            "DependencyViolation",
            format!("The routeTable '{own}' has dependencies and cannot be deleted."),
        ),
        (
            refusal(world.json::<DeleteRouteTable>(json!({"route_table": "consumer", "force": true}))),
            "DependencyViolation",
            format!("The routeTable '{}' has dependencies and cannot be deleted.", main.id),
        ),
        (
            refusal(world.json::<DeleteRouteTable>(json!({"route_table": "rtb-0"}))),
            "InvalidRouteTableID.NotFound",
            "The routeTable ID 'rtb-0' does not exist".to_owned(),
        ),
        (
            refusal(world.json::<AssociateRouteTable>(json!({"route_table": other, "subnet": "consumer/10.0.0.0/24"}))),
            "Resource.AlreadyAssociated",
            format!("the specified association for route table {other} conflicts with an existing association"),
        ),
        (
            refusal(world.json::<AssociateRouteTable>(json!({"route_table": other, "subnet": subnet}))),
            "InvalidParameterValue",
            format!("Route table {other} and subnet {subnet} belong to different networks"),
        ),
        (
            refusal(world.json::<DisassociateRouteTable>(json!({"association": main.main_association()}))),
            "InvalidParameterValue",
            format!("cannot disassociate the main route table association {}", main.main_association()),
        ),
        (
            refusal(world.json::<DisassociateRouteTable>(json!({"association": "rtbassoc-0"}))),
            "InvalidAssociationID.NotFound",
            "The association ID 'rtbassoc-0' does not exist".to_owned(),
        ),
    ];
    for ((code, text), expected_code, expected_text) in cases {
        assert_eq!((code.as_str(), &text), (expected_code, &expected_text));
    }
    let replaced = json!({"route_table": own, "destination": "10.200.0.0/16", "target": {"endpoint": endpoint}});
    world.json::<ReplaceRoute>(replaced).unwrap();
    world.json::<DeleteRouteTable>(json!({"route_table": own, "force": true})).unwrap();
}

#[test]
fn tags_come_and_go_with_their_resource() {
    let mut world = World::published();
    let table = world.json::<CreateRouteTable>(json!({"vpc": "consumer"})).unwrap().id;
    let tags = json!({"resources": [table], "tags": {"Name": "a", "team": "b"}});
    world.json::<CreateTags>(tags).unwrap();
    let shown = |world: &World| -> Vec<String> {
        let request = DescribeTags { resource: Some(table.as_str().parse().unwrap()) };
        world.ask(request).unwrap().iter().map(|tag| format!("{} {}={}", tag.kind, tag.key, tag.value)).collect()
    };
    assert_eq!(shown(&world), ["route-table Name=a", "route-table team=b"]);
    world.json::<DeleteTags>(json!({"resources": [table], "keys": ["team", "unknown"]})).unwrap();
    assert_eq!(shown(&world), ["route-table Name=a"]);
    let (code, _) =
        refusal(world.json::<CreateTags>(json!({"resources": ["vpc-00000000000000000"], "tags": {"a": ""}})));
    assert_eq!(code, "InvalidID");
}

#[test]
fn a_vpc_keeps_what_a_change_does_not_name() {
    let mut world = World::published();
    let vpc = world.json::<ModifyVpc>(json!({"vpc": "consumer", "dns_hostnames": true})).unwrap();
    assert_eq!((vpc.gateway.map(|one| one.to_string()), vpc.dns_hostnames), (Some("10.0.0.1".to_owned()), true));
    let vpc = world.json::<ModifyVpc>(json!({"vpc": "consumer", "gateway": null})).unwrap();
    assert_eq!((vpc.gateway, vpc.dns_support, vpc.dns_hostnames), (None, true, true));
    assert!(vpc.default_network_acl.starts_with("acl-"));
}

/// Endpoints answer for IPv4 ranges; other interfaces may be where an IPv6 range is. Older stores have IPv4 ranges
/// only.
#[test]
fn a_route_for_an_ipv6_range_is_kept_and_leads_to_no_endpoint() {
    let mut world = World::published();
    let (eni, node) = (interface(&world, "consumer/10.0.0.50"), interface(&world, "provider/10.0.0.5"));
    let endpoint = world.state.endpoints.keys().next().unwrap().clone();
    let route = |vpc: &str, to: &str, target: serde_json::Value| json!({"route_table": vpc, "destination": to, "target": target});
    let kept = route("provider", "fd00:7::9/48", json!({"network-interface": node}));
    let table = world.json::<CreateRoute>(kept.clone()).unwrap();
    assert_eq!(
        (table.routes[0].destination.to_string().as_str(), table.routes[0].state),
        ("fd00:7::/48", RouteState::Active)
    );
    world.json::<CreateRoute>(kept).unwrap();
    for target in [json!({"network-interface": eni}), json!({"endpoint": endpoint})] {
        let (code, text) = refusal(world.json::<CreateRoute>(route("consumer", "fd00:7::/48", target)));
        assert_eq!(code, "UnsupportedOperation");
        assert_eq!(text, format!("a route for the IPv6 range fd00:7::/48 cannot lead to endpoint {endpoint}"));
    }
    assert!(world.state.aliases().is_empty(), "no packet goes by it");
    let gone = json!({"route_table": "provider", "destination": "fd00:7::/48"});
    assert!(world.json::<DeleteRoute>(gone.clone()).unwrap().routes.is_empty());
    assert_eq!(refusal(world.json::<DeleteRoute>(gone)).0, "InvalidRoute.NotFound");
    assert_eq!(
        serde_json::to_value("10.1.0.0/16".parse::<crate::model::RouteDestination>().unwrap()).unwrap(),
        "10.1.0.0/16"
    );
}
