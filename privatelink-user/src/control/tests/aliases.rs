//! Aliases of endpoints.

use serde_json::json;

use super::*;
use crate::model::AddressUse;

#[test]
fn an_endpoint_has_the_aliases_that_nobody_else_has() {
    let mut world = World::published();
    let aliased = |aliases: &[&str]| json!({"endpoint": "consumer/10.0.0.50", "aliases": aliases});
    let made = world.json::<ModifyEndpoint>(aliased(&["10.200.0.10/32", "10.200.0.0/24", "10.0.7.7"])).unwrap();
    let shown: Vec<String> = made.aliases.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.0.7.7/32", "10.200.0.0/24", "10.200.0.10/32"]);
    let before = world.state.clone();
    world.json::<ModifyEndpoint>(aliased(&["10.200.0.10/32", "10.200.0.0/24", "10.0.7.7"])).unwrap();
    assert_eq!(world.state, before);

    // Another endpoint of the VPC: longer and shorter prefixes, none that is equal, and no address that is taken.
    let other = |aliases: &[&str]| json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.51", "aliases": aliases});
    for (alias, code, message) in [
        (
            "10.200.0.0/24",
            "InvalidIPAddress.InUse",
            format!("The alias '10.200.0.0/24' is in use by the VPC endpoint '{}'", made.id),
        ),
        (
            "10.0.0.0/17",
            "InvalidParameterValue",
            "The alias '10.0.0.0/17' overlaps the VPC's address range 10.0.0.0/16".to_owned(),
        ),
        (
            "10.0.0.0/8",
            "InvalidParameterValue",
            "The alias '10.0.0.0/8' overlaps the VPC's address range 10.0.0.0/16".to_owned(),
        ),
        ("10.0.0.50", "InvalidIPAddress.InUse", "Address 10.0.0.50 is in use.".to_owned()),
        ("10.0.7.7", "InvalidIPAddress.InUse", "Address 10.0.7.7 is in use.".to_owned()),
        ("10.0.0.51", "InvalidParameterValue", "The address 10.0.0.51 is given twice".to_owned()),
    ] {
        assert_eq!(refusal(world.json::<CreateEndpoint>(other(&[alias]))), (code.to_owned(), message), "{alias}");
    }
    let second = world.json::<CreateEndpoint>(other(&["10.200.0.0/16", "10.200.0.128/25"])).unwrap();
    let vpc = second.vpc.clone();
    let at = |address: &str| {
        let found = world.state.endpoint_at(&vpc, address.parse().unwrap());
        found.map(|(endpoint, alias)| (endpoint.id.clone(), alias.map(|net| net.to_string())))
    };
    let by = |alias: &str| Some(alias.to_owned());
    assert_eq!(at("10.200.0.10"), Some((made.id.clone(), by("10.200.0.10/32"))));
    assert_eq!(at("10.200.0.11"), Some((made.id.clone(), by("10.200.0.0/24"))));
    assert_eq!(at("10.200.0.200"), Some((second.id.clone(), by("10.200.0.128/25"))));
    assert_eq!(at("10.200.9.9"), Some((second.id.clone(), by("10.200.0.0/16"))));
    assert_eq!(at("10.0.0.50"), Some((made.id.clone(), None)));
    assert_eq!(at("10.201.0.1"), None);
    // A single address of the VPC is the endpoint's like its own.
    let inner = world.state.address_use(&vpc, "10.0.7.7".parse().unwrap());
    assert_eq!(inner, Some(AddressUse::Endpoint(made.id.clone())));
    world.json::<ModifyEndpoint>(aliased(&[])).unwrap();
    assert_eq!(world.state.address_use(&vpc, "10.0.7.7".parse().unwrap()), None);
}

#[test]
fn aliases_of_another_vpc_may_be_equal_and_their_number_is_limited() {
    let mut world = World::published();
    let request = |vpc: &str| json!({"service_name": "shop", "vpc": vpc, "aliases": ["10.200.0.10"]});
    world.json::<CreateEndpoint>(request("consumer")).unwrap();
    assert_eq!(refusal(world.json::<CreateEndpoint>(request("consumer"))).0, "InvalidIPAddress.InUse");
    world.json::<CreateEndpoint>(request("provider")).unwrap();
    let many: Vec<String> = (0..101).map(|last| format!("10.201.0.{last}")).collect();
    let many = json!({"service_name": "shop", "vpc": "consumer", "aliases": many});
    assert_eq!(refusal(world.json::<CreateEndpoint>(many)).0, "VpcEndpointAliasLimitExceeded");
}

#[test]
fn what_a_route_leads_to_an_endpoint_is_the_endpoint_s_unless_it_is_the_vpc_s() {
    use crate::control::route_tables::CreateRoute;
    let mut world = World::published();
    let endpoint = world.state.endpoints.values().next().expect("the endpoint").clone();
    let at = |world: &World, address: &str| {
        let found = world.state.endpoint_at(&endpoint.vpc, address.parse().unwrap());
        found.and_then(|(_, net)| net).map(|net| net.to_string())
    };
    let interface = crate::model::derived::interface_id(&endpoint.vpc, endpoint.address.into(), endpoint.id.as_str());
    for (destination, target) in [
        ("10.200.0.10/32", json!({"network-interface": interface.to_string()})),
        ("10.201.0.0/16", json!({"endpoint": endpoint.id})),
        ("0.0.0.0/0", json!({"endpoint": endpoint.id})),
        ("10.0.0.0/8", json!({"endpoint": endpoint.id})),
    ] {
        let request = json!({"route_table": endpoint.vpc, "destination": destination, "target": target});
        world.json::<CreateRoute>(request).unwrap();
    }
    assert_eq!(at(&world, "10.200.0.10").as_deref(), Some("10.200.0.10/32"));
    assert_eq!(at(&world, "10.201.7.7").as_deref(), Some("10.201.0.0/16"));
    assert_eq!(at(&world, "10.0.9.9"), None, "the VPC's range is local");
    assert_eq!(at(&world, "10.9.9.9"), None, "a route that holds the VPC's range leads nothing here");
    assert_eq!(world.state.aliases().len(), 2);
}
