//! Accounts: names and references mean the caller's own resources.

use serde_json::json;

use super::*;

const OTHER: &str = "222222222222";

#[test]
fn the_same_names_are_free_for_another_account_and_what_is_there_stays_unseen() {
    let mut world = World::published();
    assert!(world.by(OTHER).ask(DescribeVpcs { vpcs: None }).unwrap().is_empty());
    assert!(world.ask(DescribeLoadBalancers { load_balancers: None }).unwrap().is_empty());
    assert!(world.ask(DescribeTargetGroups { target_groups: None }).unwrap().is_empty());
    assert!(world.ask(DescribeListeners { load_balancer: None }).unwrap().is_empty());
    assert!(world.ask(DescribeEndpointServices { endpoint_services: None }).unwrap().is_empty());
    assert!(world.ask(DescribeEndpoints { endpoints: None }).unwrap().is_empty());
    let vpc = world.json::<CreateVpc>(json!({"name": "provider", "cidr": "10.0.0.0/16"})).unwrap();
    assert_eq!((vpc.owner.account.as_str(), vpc.index.get()), (OTHER, 3), "numbers are the host's, not an account's");
    let lb = json!({"name": "lb", "vpc": "provider", "addresses": ["10.0.0.5"]});
    let lb = world.json::<CreateLoadBalancer>(lb).unwrap();
    assert!(lb.id.as_str().contains(":222222222222:loadbalancer/net/lb/"), "{}", lb.id);
    assert_eq!(world.ask(DescribeLoadBalancers { load_balancers: None }).unwrap().len(), 1);
}

#[test]
fn nothing_of_another_account_can_be_named_by_its_id_either() {
    let mut world = World::published();
    let state = world.state.clone();
    let vpc = state.vpcs.keys().next().unwrap();
    let lb = state.load_balancers.keys().next().unwrap();
    let group = state.target_groups.keys().next().unwrap();
    let listener = state.listeners.keys().next().unwrap();
    let service = state.endpoint_services.keys().next().unwrap();
    let endpoint = state.endpoints.keys().next().unwrap();
    let world = world.by(OTHER);
    let codes = [
        refusal(world.json::<DeleteVpc>(json!({"vpc": vpc}))).0,
        refusal(world.json::<CreateLoadBalancer>(json!({"name": "x", "vpc": vpc, "addresses": ["10.0.0.9"]}))).0,
        refusal(world.json::<RegisterTargets>(json!({"target_group": group, "targets": ["10.0.1.1"]}))).0,
        refusal(world.json::<DeleteTargetGroup>(json!({"target_group": "web"}))).0,
        refusal(world.json::<DeleteListener>(json!({"listener": listener}))).0,
        refusal(world.json::<CreateEndpointService>(json!({"load_balancers": [lb]}))).0,
        refusal(world.json::<DeleteEndpointService>(json!({"endpoint_service": service}))).0,
        refusal(world.json::<DeleteEndpoint>(json!({"endpoint": endpoint}))).0,
        refusal(world.attach(json!({"interface": "veth-x", "vpc": vpc}))).0,
    ];
    assert_eq!(
        codes,
        [
            "InvalidVpcID.NotFound",
            "InvalidVpcID.NotFound",
            "TargetGroupNotFound",
            "TargetGroupNotFound",
            "ListenerNotFound",
            "LoadBalancerNotFound",
            "InvalidVpcEndpointServiceId.NotFound",
            "InvalidVpcEndpoint.NotFound",
            "InvalidVpcID.NotFound",
        ]
    );
    // Deleting a load balancer that does not exist succeeds, and must not reach another's.
    world.json::<DeleteLoadBalancer>(json!({"load_balancer": lb})).unwrap();
    assert_eq!(world.state, state);
}

#[test]
fn an_interface_is_one_accounts_only() {
    let mut world = World::published();
    world.by(OTHER).json::<CreateVpc>(json!({"name": "mine", "cidr": "10.0.0.0/16"})).unwrap();
    let (code, message) = refusal(world.attach(json!({"interface": "veth-c", "vpc": "mine"})));
    assert_eq!(
        (code.as_str(), message.as_str()),
        ("InvalidNetworkInterface.InUse", "Interface: [veth-c] in use by another account.",)
    );
}
