//! A random walk through the operations.

use std::net::Ipv4Addr;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;
use crate::{
    control::{
        cascade::DeleteCascading,
        connections::*,
        dns_targets::ModifyDnsTargets,
        instances::{DeregisterInstances, RegisterInstance, StartInstances, StopInstances},
        permissions::*,
    },
    model::{EndpointState, Owner},
};

const ACCOUNTS: [&str; 2] = ["111111111111", "222222222222"];

/// What an owner has, without what others may change of it: the number that owners share, and the state of endpoints,
/// which is the service's owner's to change.
fn others(state: &State, owner: &Owner) -> State {
    let mut seen = State { last_vpc_index: None, ..state.seen_by(owner) };
    for endpoint in seen.endpoints.values_mut() {
        endpoint.state = EndpointState::Available;
    }
    seen
}

/// Every endpoint that has become available led to a service that did not require acceptance when it was made, or is
/// accepted by the service's owner; every new one was admitted.
fn consent(before: &State, after: &State, caller: &str) -> Result<(), TestCaseError> {
    for (id, endpoint) in &after.endpoints {
        let Some(service) = after.endpoint_services.get(&endpoint.service) else {
            prop_assert!(!endpoint.state.holds_service());
            continue;
        };
        match before.endpoints.get(id) {
            None => {
                prop_assert_eq!(endpoint.state, EndpointState::initial(service.acceptance_required));
                let admitted =
                    service.principals.iter().any(|one| one.admits(&endpoint.owner.account, &Identity::Root));
                prop_assert!(admitted || service.owner == endpoint.owner);
            }
            Some(old) if old.state != endpoint.state => {
                prop_assert_eq!(service.owner.account.as_str(), caller);
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// One random request on few names, so that they meet, and which of two accounts makes it.
fn requests() -> impl Strategy<Value = ((u8, u8, u8, u8, bool), bool)> {
    ((0u8..26, 0u8..3, 0u8..3, 0u8..8, any::<bool>()), any::<bool>())
}

fn random(world: &mut World, (what, name, other, number, flag): (u8, u8, u8, u8, bool)) -> Result<(), ControlError> {
    use serde_json::json;
    let (name, other) = (format!("n{name}"), format!("n{other}"));
    let address = Ipv4Addr::new(10, 0, 0, number);
    let attributes = if flag { json!({}) } else { json!({"deregistration_delay.timeout_seconds": "5"}) };
    match what {
        0 => world
            .json::<CreateVpc>(json!({"name": name, "cidr": "10.0.0.0/29", "gateway": flag.then_some(address)}))
            .map(drop),
        1 => world.json::<DeleteVpc>(json!({"vpc": name})),
        2 => world.json::<ModifyVpc>(json!({"vpc": name, "gateway": flag.then_some(address)})).map(drop),
        3 => world.attach(json!({"interface": name, "vpc": other, "shared": flag})),
        4 => world.json::<DetachPort>(json!({"port": name})),
        5 => world.json::<CreateLoadBalancer>(json!({"name": name, "vpc": other, "addresses": [address]})).map(drop),
        6 => world.json::<DeleteLoadBalancer>(json!({"load_balancer": name})),
        7 => world
            .json::<CreateTargetGroup>(
                json!({"name": name, "vpc": other, "protocol": "TCP", "port": number, "attributes": attributes,
                    "target_type": if number > 5 { "instance" } else { "ip" }}),
            )
            .map(drop),
        8 => world.json::<DeleteTargetGroup>(json!({"target_group": name})),
        9 => world.json::<RegisterTargets>(json!({"target_group": name, "targets": [address]})).map(drop),
        10 => world.json::<DeregisterTargets>(json!({"target_group": name, "targets": [address]})).map(drop),
        11 => world
            .json::<CreateListener>(
                json!({"load_balancer": name, "protocol": "TCP", "port": if flag { json!(number.max(1)) } else { json!(format!("2-{}", number.max(2))) },
                    "target_group": other}),
            )
            .map(drop),
        12 => world.json::<DeleteListener>(json!({"listener": format!("{name}:{number}")})),
        13 => {
            let request =
                json!({"load_balancers": [name], "name": flag.then_some(other), "acceptance_required": number > 3});
            world.json::<CreateEndpointService>(request).map(drop)
        }
        14 => world
            .json::<CreateEndpoint>(json!({"service_name": name, "vpc": other, "address": flag.then_some(address)}))
            .map(drop),
        15 => {
            let principal = if flag { "*".to_owned() } else { format!("arn:aws:iam::{}:root", ACCOUNTS[1]) };
            let list = if number > 3 { "add" } else { "remove" };
            world.json::<ModifyPermissions>(json!({"endpoint_service": name, list: [principal]})).map(drop)
        }
        16 => {
            // Any service of the world, by its public name.
            let services: Vec<String> =
                world.state.endpoint_services.values().map(|service| service.service_name.to_string()).collect();
            let Some(service) = services.get(usize::from(number) % services.len().max(1)) else { return Ok(()) };
            world.json::<CreateEndpoint>(json!({"service_name": service, "vpc": other})).map(drop)
        }
        17 => {
            let endpoints: Vec<String> = world.state.endpoints.keys().map(ToString::to_string).collect();
            let Some(endpoint) = endpoints.get(usize::from(number) % endpoints.len().max(1)) else { return Ok(()) };
            let request = json!({"endpoint_service": name, "endpoints": [endpoint]});
            if flag {
                world.json::<AcceptConnections>(request).map(drop)
            } else {
                world.json::<RejectConnections>(request).map(drop)
            }
        }
        19 => world
            .json::<RegisterInstance>(
                json!({"name": name, "vpc": other, "addresses": if flag { vec![address] } else { vec![] }}),
            )
            .map(drop),
        20 => world.json::<DeregisterInstances>(json!({"instances": [name], "force": flag})).map(drop),
        21 if flag => world.json::<StopInstances>(json!({"instances": [name, other]})).map(drop),
        21 => world.json::<StartInstances>(json!({"instances": [name, other]})).map(drop),
        22 => world.json::<RegisterTargets>(json!({"target_group": name, "targets": [other]})).map(drop),
        23 => {
            let kind = ["vpc", "load-balancer", "target-group"][usize::from(number) % 3];
            world.json::<DeleteCascading>(json!({"resource": { (kind): name }})).map(drop)
        }
        24 => {
            let subject = if flag { json!({"add": ["db.example.com"]}) } else { json!({"remove": ["db.example.com"]}) };
            let mut request = json!({"target_group": name});
            request.as_object_mut().expect("an object").extend(subject.as_object().expect("an object").clone());
            world.json::<ModifyDnsTargets>(request).map(drop)
        }
        18 => world.json::<DeleteEndpointService>(json!({"endpoint_service": name, "force": flag})),
        _ => world.json::<DeleteEndpoint>(json!({"endpoint": format!("{name}/{address}")})),
    }
}

proptest! {
    /// `World` checks after every request that an accepted one keeps the invariants and that a refused one keeps the
    /// state.
    #[test]
    fn random_operations_keep_the_invariants(walk in prop::collection::vec(requests(), 1..120)) {
        let mut world = World::new();
        for (request, second) in walk {
            let before = world.state.clone();
            let (caller, other) = if second { (ACCOUNTS[1], ACCOUNTS[0]) } else { (ACCOUNTS[0], ACCOUNTS[1]) };
            world.by(caller);
            let bystander = Owner { account: other.parse().unwrap(), region: "us-east-1".parse().unwrap() };
            if let Err(error) = random(&mut world, request) {
                prop_assert_eq!(&world.state, &before);
                prop_assert!(!error.hint().is_empty());
            }
            consent(&before, &world.state, caller)?;
            prop_assert_eq!(others(&world.state, &bystander), others(&before, &bystander), "{} touched {}", caller, other);
            let has_defaults =
                |vpc| world.state.default_group(vpc).is_some() && world.state.main_route_table(vpc).is_some();
            prop_assert!(world.state.vpcs.keys().all(has_defaults));
            for (vpc, last) in world.state.vpcs.keys().flat_map(|vpc| (0..8).map(move |last| (vpc, last))) {
                let address = std::net::IpAddr::from([10, 0, 0, last]);
                let first = world.state.address_uses(vpc).find(|(used, _)| *used == address).map(|(_, by)| by);
                prop_assert_eq!(world.state.address_use(vpc, address), first);
            }
            world.now += SignedDuration::from_secs(60);
            let change = expire(&world.state, world.now).then(crate::control::instances::expire(&world.state, world.now));
            world.state.apply(&change);
            prop_assert!(world.state.check_invariants().is_ok());
        }
    }
}

/// The state after some random operations.
fn walked(walk: Vec<((u8, u8, u8, u8, bool), bool)>) -> State {
    let mut world = World::new();
    for (request, second) in walk {
        world.by(ACCOUNTS[usize::from(second)]);
        // What is refused changes nothing.
        let _ = random(&mut world, request);
    }
    world.state
}

proptest! {
    /// What is put and removed here need not make sense: identifiers of the two states are the same, what they name is
    /// not.
    #[test]
    fn a_look_at_what_a_change_touches_finds_what_a_look_at_everything_does(
        before in prop::collection::vec(requests(), 1..90),
        other in prop::collection::vec(requests(), 1..90),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..2), 1..6),
    ) {
        let (before, other) = (walked(before), walked(other));
        let (own, foreign): (Vec<_>, Vec<_>) = (before.records().collect(), other.records().collect());
        let change = edits.into_iter().fold(Change::default(), |change, (which, how)| match how {
            0 if !own.is_empty() => change.remove(which.get(&own).key()),
            _ if !foreign.is_empty() => change.put(which.get(&foreign).clone()),
            _ => change,
        });
        let mut after = before.clone();
        after.apply(&change);
        let whole = after.check_invariants();
        let touched = after.check_change(&before, &change);
        prop_assert_eq!(touched.is_ok(), whole.is_ok(), "{:?}: {:?}, {:?}", change, touched, whole);
    }
}

#[test]
fn the_random_walk_reaches_every_kind_of_resource() {
    let mut world = World::new();
    let walk = [
        (0, 0, 0, 1, true),
        (0, 1, 0, 0, false),
        (3, 0, 0, 0, true),
        (7, 0, 0, 3, true),
        (9, 0, 0, 6, true),
        (5, 0, 0, 4, true),
        (11, 0, 0, 5, true),
        (13, 0, 1, 0, true),
        (14, 1, 1, 5, true),
    ];
    for step in walk {
        random(&mut world, step).unwrap_or_else(|error| panic!("{step:?}: {error}"));
    }
    let state = &world.state;
    assert_eq!(
        (
            state.vpcs.len(),
            state.ports.len(),
            state.listeners.len(),
            state.endpoint_services.len(),
            state.endpoints.len()
        ),
        (2, 1, 1, 1, 1)
    );
}
