//! Many endpoints: what a change costs does not depend on how many there are.

use std::time::Instant;

use super::*;
use crate::model::{Direction, SecurityGroup, SecurityGroupRule, SecurityGroupRuleId};

const SERVICES: u16 = if cfg!(debug_assertions) { 100 } else { 1_000 };
const ENDPOINTS: u16 = SERVICES * 10;
const GROUPS: u16 = 10;

const CAPACITY: Capacity = Capacity {
    ports: 64,
    listeners: 65_536,
    endpoints: 65_536,
    targets: 4_096,
    rings: 4_194_304,
    policies: 131_072,
    source_bounds: 524_288,
    buckets: 16,
};

fn address(number: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 16, 0)) + u32::from(number))
}

fn group(number: u16) -> SecurityGroup {
    let rule = |one: u16| {
        let id: SecurityGroupRuleId =
            format!("sgr-{}", hex(usize::from(number) * 10_000 + usize::from(one), 17)).parse().expect("an id");
        let port = if one % 10 == 0 { 8_000 } else { 1_000 + one };
        let rule = SecurityGroupRule {
            direction: Direction::Ingress,
            traffic: format!("tcp:{port}").parse().expect("traffic"),
            peer: format!("10.{}.{}.0/24", one % 250, one / 250).parse().expect("a peer"),
            description: None,
        };
        (id, rule)
    };
    SecurityGroup {
        id: format!("sg-{}", hex(number.into(), 17)).parse().expect("an id"),
        name: format!("group {number}").parse().expect("a name"),
        description: "a group".parse().expect("a text"),
        vpc: vpc(2).id,
        rules: (0..SERVICES).map(rule).collect(),
        applies_to_established: false,
        created_at: now(),
    }
}

/// `SERVICES` services behind one target, ten endpoints each, whose groups have `SERVICES` rules each.
fn many() -> Inputs {
    let shape = GroupShape { targets: [(7, (Shape::Healthy, false))].into(), nodes: 1, listeners: 1, endpoints: 1 };
    let mut inputs = inputs(&[shape]);
    let state = Arc::make_mut(&mut inputs.state);
    let (lb, listener, service, endpoint) = {
        let first = |what: &str| format!("{what} of the shape");
        let lb = state.load_balancers.values().next().expect(&first("a load balancer")).clone();
        let listener = state.listeners.values().next().expect(&first("a listener")).clone();
        let service = state.endpoint_services.values().next().expect(&first("a service")).clone();
        let endpoint = state.endpoints.values().next().expect(&first("an endpoint")).clone();
        (lb, listener, service, endpoint)
    };
    (0..GROUPS).for_each(|number| state.put(group(number).into()));
    for number in 1..SERVICES {
        let id = arn("loadbalancer/net", &format!("many-{number}/{}", hex(number.into(), 16)));
        let id: crate::model::LoadBalancerId = id.parse().expect("an ARN");
        let name = format!("many-{number}").parse().expect("a name");
        state.put(LoadBalancer { id: id.clone(), name, addresses: vec![address(number)], ..lb.clone() }.into());
        let arn = arn("listener/net", &format!("many-{number}/{}/{}", hex(number.into(), 16), hex(0, 16)));
        let behind = Listener { id: arn.parse().expect("an ARN"), load_balancer: id.clone(), ..listener.clone() };
        state.put(behind.into());
        let service_id: crate::model::EndpointServiceId =
            format!("vpce-svc-{}", hex(number.into(), 17)).parse().expect("an id");
        let service_name = ServiceName::new(&"us-east-1".parse().expect("a region"), &service_id);
        let service = EndpointService { id: service_id, service_name, load_balancers: vec![id], ..service.clone() };
        state.put(service.into());
    }
    (0..ENDPOINTS).for_each(|number| state.put(one_of(&endpoint, number).into()));
    inputs.state.check_invariants().expect("a state that may be");
    inputs
}

fn one_of(endpoint: &Endpoint, number: u16) -> Endpoint {
    let sg = group_id_of(number % GROUPS);
    Endpoint {
        id: format!("vpce-{}", hex(1_000 + usize::from(number), 17)).parse().expect("an id"),
        service: format!("vpce-svc-{}", hex((number % SERVICES).into(), 17)).parse().expect("an id"),
        address: address(number),
        further_addresses: Vec::new(),
        security_groups: SecurityGroups { groups: [sg].into(), applies_to_established: false },
        ..endpoint.clone()
    }
}

fn group_id_of(number: u16) -> crate::model::SecurityGroupId {
    format!("sg-{}", hex(number.into(), 17)).parse().expect("an id")
}

#[test]
fn a_change_among_many_is_a_few_operations() {
    let mut inputs = many();
    let mut fake = Fake::new(CAPACITY);
    let mut memory = Memory::default();
    converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    let endpoint = inputs.state.endpoints.values().next().expect("an endpoint").clone();
    let mut took = Vec::new();
    for number in ENDPOINTS..ENDPOINTS + 10 {
        Arc::make_mut(&mut inputs.state).put(one_of(&endpoint, number).into());
        let begun = Instant::now();
        let (_, operations) = converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
        took.push(begun.elapsed());
        // Its address, frontend, policy, budget, id, and the counters of its index; frontend and policy of echo
        // requests.
        assert_eq!(operations, 8, "{:?}", fake.log.iter().rev().take(operations).collect::<Vec<_>>());
    }
    println!("{ENDPOINTS} endpoints: {took:?}");
    let group = SecurityGroup { rules: group(1).rules.into_iter().take(1).collect(), ..group(0) };
    Arc::make_mut(&mut inputs.state).put(group.into());
    let (_, operations) = converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    assert!(operations > usize::from(ENDPOINTS / GROUPS), "the policy of each endpoint that carries the group");
    let (_, operations) = converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    assert_eq!(operations, 0);
}
