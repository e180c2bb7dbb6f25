//! Node addresses that are assigned: `secondary_ips.auto_assigned.per_subnet`.

use serde_json::json;

use super::*;

const KEY: &str = "secondary_ips.auto_assigned.per_subnet";

fn with(count: &str) -> serde_json::Value {
    json!({"load_balancer": "lb", "attributes": {KEY: count}})
}

#[test]
fn as_many_as_the_attribute_says_and_never_fewer() {
    let mut world = World::published();
    let lb = world.json::<ModifyLoadBalancer>(with("2")).unwrap();
    let first = lb.secondary_addresses.clone();
    assert_eq!((first.len(), lb.addresses.len()), (2, 1));
    let lb = world.json::<ModifyLoadBalancer>(with("7")).unwrap();
    assert_eq!(lb.secondary_addresses.len(), 7);
    assert!(lb.secondary_addresses.starts_with(&first), "those that are there stay");
    assert_eq!(lb.attributes[KEY], "7");
    for (count, rule) in [("6", "cannot be decreased from '7'"), ("8", "must be between '0-7' inclusive")] {
        let error = world.json::<ModifyLoadBalancer>(with(count)).unwrap_err();
        assert!(error.to_string().contains(rule), "{error}");
    }
    assert_eq!(world.json::<ModifyLoadBalancer>(with("7")).unwrap().secondary_addresses, lb.secondary_addresses);
}

#[test]
fn an_assigned_address_is_in_use() {
    let mut world = World::published();
    let lb = world.json::<ModifyLoadBalancer>(with("1")).unwrap();
    let address = lb.secondary_addresses[0];
    let another = json!({"name": "another", "vpc": "provider", "addresses": [address]});
    let error = world.json::<CreateLoadBalancer>(another).unwrap_err();
    assert!(matches!(error, ControlError::AddressInUse { .. }), "{error}");
    let another = json!({"name": "another", "vpc": "provider", "addresses": ["10.0.0.9"], "attributes": {KEY: "1"}});
    let other = world.json::<CreateLoadBalancer>(another).unwrap();
    assert!(other.secondary_addresses[0] != address && other.secondary_addresses[0] != other.addresses[0]);
}
