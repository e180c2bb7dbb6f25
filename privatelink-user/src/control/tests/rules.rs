//! Guards, idempotence, addresses, draining.

use jiff::SignedDuration;

use super::*;

#[test]
fn listeners_lead_to_groups_of_their_own_vpc() {
    let mut world = World::published();
    world
        .json::<CreateTargetGroup>(serde_json::json!({"name": "far", "vpc": "consumer", "protocol": "TCP", "port": 80}))
        .unwrap();
    let (code, _) = refusal(world.json::<CreateListener>(
        serde_json::json!({"load_balancer": "lb", "protocol": "TCP", "port": 81, "target_group": "far"}),
    ));
    assert_eq!(code, "InvalidConfigurationRequest");
}

#[test]
fn creating_the_same_again_changes_nothing() {
    let mut world = World::published();
    let before = world.state.clone();
    let vpc = world.json::<CreateVpc>(serde_json::json!({"name": "provider", "cidr": "10.0.0.0/16"})).unwrap();
    assert_eq!(vpc.index.get(), 1);
    world.attach(serde_json::json!({"interface": "veth-c", "vpc": "consumer", "hook": "auto"})).unwrap();
    world
        .json::<CreateTargetGroup>(serde_json::json!({"name": "web", "vpc": "provider", "protocol": "TCP", "port": 80}))
        .unwrap();
    world
        .json::<CreateListener>(
            serde_json::json!({"load_balancer": "lb", "protocol": "TCP", "port": 80, "target_group": "web"}),
        )
        .unwrap();
    world.json::<CreateEndpointService>(serde_json::json!({"load_balancers": ["lb"], "name": "shop"})).unwrap();
    world
        .json::<CreateEndpoint>(serde_json::json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.50"}))
        .unwrap();
    assert_eq!(world.state, before);
}

#[test]
fn everything_can_be_deleted_in_the_order_that_the_hints_name() {
    let mut world = World::published();
    let missing = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/gone/0123456789abcdef";
    world.json::<DeleteLoadBalancer>(serde_json::json!({"load_balancer": missing})).unwrap();
    world.json::<DeleteEndpoint>(serde_json::json!({"endpoint": "consumer/10.0.0.50"})).unwrap();
    world.json::<DeleteEndpointService>(serde_json::json!({"endpoint_service": "shop"})).unwrap();
    world.json::<DeleteLoadBalancer>(serde_json::json!({"load_balancer": "lb"})).unwrap();
    world.json::<DeleteTargetGroup>(serde_json::json!({"target_group": "web"})).unwrap();
    world.json::<DetachPort>(serde_json::json!({"port": "veth-c"})).unwrap();
    world.json::<DeleteVpc>(serde_json::json!({"vpc": "consumer"})).unwrap();
    world.json::<DeleteVpc>(serde_json::json!({"vpc": "provider"})).unwrap();
    assert_eq!(world.state, State { last_vpc_index: world.state.last_vpc_index, ..State::default() });
    // The numbers of deleted VPCs are not given out again while others are left.
    let vpc = world.json::<CreateVpc>(serde_json::json!({"name": "next", "cidr": "10.0.0.0/16"})).unwrap();
    assert_eq!(vpc.index.get(), 3);
}

#[test]
fn endpoints_without_an_address_get_the_first_free_one() {
    let mut world = World::published();
    world.json::<CreateVpc>(serde_json::json!({"name": "small", "cidr": "10.9.0.0/29"})).unwrap();
    let request = serde_json::json!({"service_name": "shop", "vpc": "small"});
    let mut addresses = Vec::new();
    for _ in 0..3 {
        addresses.push(world.json::<CreateEndpoint>(request.clone()).unwrap().address.to_string());
    }
    assert_eq!(addresses, ["10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    let (code, _) = refusal(world.json::<CreateEndpoint>(request));
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
}

#[test]
fn deregistered_targets_drain_and_then_go() {
    let mut world = World::published();
    let targets = |world: &World| -> Vec<(String, bool)> {
        let group = world.state.target_groups.values().next().unwrap();
        group.targets.values().map(|t| (t.address.to_string(), t.draining_since.is_some())).collect()
    };
    world
        .json::<DeregisterTargets>(
            serde_json::json!({"target_group": "web", "targets": ["10.0.1.10", "10.0.1.11", "10.0.7.7"]}),
        )
        .unwrap();
    // The second target is registered with a port of its own, so naming it without one means another target.
    assert_eq!(targets(&world), [("10.0.1.10:80".to_owned(), true), ("10.0.1.11:81".to_owned(), false)]);

    let end = world.now + SignedDuration::from_secs(300);
    assert_eq!(next_expiry(&world.state), Some(end));
    assert!(expire(&world.state, end - SignedDuration::from_millis(1)).is_empty());
    let change = expire(&world.state, end);
    let mut expired = world.state.clone();
    expired.apply(&change);
    assert_eq!(expired.target_groups.values().next().unwrap().targets.len(), 1);
    assert_eq!(next_expiry(&expired), None);

    world.json::<RegisterTargets>(serde_json::json!({"target_group": "web", "targets": ["10.0.1.10"]})).unwrap();
    assert_eq!(targets(&world), [("10.0.1.10:80".to_owned(), false), ("10.0.1.11:81".to_owned(), false)]);

    world
        .json::<ModifyTargetGroup>(
            serde_json::json!({"target_group": "web", "attributes": {"deregistration_delay.timeout_seconds": "0"}}),
        )
        .unwrap();
    world.json::<DeregisterTargets>(serde_json::json!({"target_group": "web", "targets": ["10.0.1.10"]})).unwrap();
    assert_eq!(targets(&world), [("10.0.1.11:81".to_owned(), false)]);
}

#[test]
fn what_exceeds_the_room_is_refused_and_what_takes_away_is_not() {
    let mut world = World::published();
    let before = world.state.clone();
    // Two targets behind one node address, a listener, an endpoint.
    let exact = Limits { targets: 2, listeners: 1, endpoints: 1 };
    assert_eq!(exact.check(&State::default(), &world.state), Ok(()));
    for (limits, code) in [
        (Limits { targets: 1, ..exact }, "TooManyTargets"),
        (Limits { listeners: 0, ..exact }, "TooManyListeners"),
        (Limits { endpoints: 0, ..exact }, "VpcEndpointLimitExceeded"),
    ] {
        assert_eq!(refusal(limits.check(&State::default(), &world.state)).0, code);
        assert_eq!(limits.check(&world.state, &world.state), Ok(()), "what is there may stay");
    }
    // A check on a port of its own goes through the tables as a target of its own.
    world
        .json::<ModifyTargetGroup>(serde_json::json!({"target_group": "web", "health_check": {"port": "9000"}}))
        .unwrap();
    assert_eq!(exact.check(&before, &world.state), Err(ControlError::TooManyTargets { wanted: 4, limit: 2 }));
    assert_eq!(Limits { targets: 0, ..exact }.check(&world.state, &before), Ok(()));
}
