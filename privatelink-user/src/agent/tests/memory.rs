//! A pass that goes on from the last one does what a pass over everything would do.

use super::*;
use crate::model::{
    Direction, EndpointId, LoadBalancerId, Peer, SecurityGroup, SecurityGroupId, SecurityGroupRule,
    SecurityGroupRuleId, TargetGroupAttributes,
};

/// One change of the world: what, of which resource, to what.
type Step = (u8, u8, u8);

fn group_ref(number: u8) -> SecurityGroupId {
    format!("sg-{}", hex(number.into(), 17)).parse().expect("an id")
}

/// Rules that name a range, and, if `peer` says so, a group.
fn group(number: u8, variant: u8) -> SecurityGroup {
    let peer = match variant % 4 {
        0 => Peer::Group(group_ref(variant % 3)),
        _ => format!("10.{}.0.0/16", variant).parse().expect("a peer"),
    };
    let rule = SecurityGroupRule {
        direction: Direction::Ingress,
        traffic: ["tcp:8000", "udp:8001-8004", "all", "tcp:8003-9000"][usize::from(variant) % 4]
            .parse()
            .expect("traffic"),
        peer,
        description: None,
    };
    let id: SecurityGroupRuleId = format!("sgr-{}", hex(usize::from(number), 17)).parse().expect("an id");
    SecurityGroup {
        id: group_ref(number),
        name: format!("group {number}").parse().expect("a name"),
        description: "a group".parse().expect("a text"),
        vpc: vpc(1 + u16::from(number) % 2).id,
        rules: (variant % 5 > 0).then_some((id, rule)).into_iter().collect(),
        applies_to_established: variant % 7 == 0,
        created_at: now(),
    }
}

fn carry(a: u8, b: u8) -> SecurityGroups {
    let groups = [a, b].into_iter().filter(|number| *number < 3).map(group_ref).collect();
    SecurityGroups { groups, applies_to_established: a % 5 == 4 }
}

fn nth<T: Clone>(all: impl Iterator<Item = T>, number: u8) -> Option<T> {
    let all: Vec<T> = all.collect();
    all.get(usize::from(number) % all.len().max(1)).cloned()
}

/// Does a step; what it does not touch stays at its place in memory.
fn step(inputs: &mut Inputs, (what, which, how): Step) {
    let Inputs { state, links, health, next_hops, busy, unhealthy, .. } = inputs;
    let state = Arc::make_mut(state);
    let endpoint: Option<EndpointId> = nth(state.endpoints.keys().cloned(), which);
    let lb: Option<LoadBalancerId> = nth(state.load_balancers.keys().cloned(), which);
    let listener = nth(state.listeners.keys().cloned(), which);
    let endpoint = endpoint.and_then(|id| state.endpoints.get_mut(&id));
    match what {
        0 => {
            if let Some(endpoint) = endpoint {
                endpoint.state = [
                    EndpointState::PendingAcceptance,
                    EndpointState::Available,
                    EndpointState::Rejected,
                    EndpointState::Available,
                ][usize::from(how) % 4];
            }
        }
        1 => {
            let copy = endpoint.map(|endpoint| Endpoint {
                id: format!("vpce-{}", hex(0x1_0000 + usize::from(how), 17)).parse().expect("an id"),
                address: Ipv4Addr::new(10, 0, 40, how),
                further_addresses: (how % 3 == 0).then(|| Ipv4Addr::new(10, 0, 41, how)).into_iter().collect(),
                aliases: Default::default(),
                ..endpoint.clone()
            });
            if let Some(copy) = copy {
                state.put(copy.into());
            }
        }
        2 => {
            let id = endpoint.map(|endpoint| endpoint.id.clone());
            id.into_iter().for_each(|id| state.endpoints.remove(&id));
        }
        3 => endpoint.into_iter().for_each(|endpoint| endpoint.security_groups = carry(how % 4, how / 4 % 4)),
        4 => {
            if let Some(endpoint) = endpoint {
                endpoint.further_addresses =
                    (how % 2 == 0).then(|| Ipv4Addr::new(10, 0, 42, which)).into_iter().collect();
                endpoint.aliases = [
                    Vec::new(),
                    vec![format!("10.0.43.{which}/32")],
                    vec![format!("192.168.{which}.0/24")],
                    vec![format!("10.0.44.{which}/32"), format!("172.16.{which}.0/24")],
                ][usize::from(how) % 4]
                    .iter()
                    .map(|alias| alias.parse().expect("an alias"))
                    .collect();
            }
        }
        5 => {
            if let Some(lb) = lb.and_then(|id| state.load_balancers.get_mut(&id)) {
                lb.security_groups = carry(how % 4, how / 4 % 4);
                lb.enforce_on_private_link = how % 3 > 0;
            }
        }
        6 => {
            if let Some(lb) = lb.and_then(|id| state.load_balancers.get_mut(&id)) {
                lb.addresses.truncate(1);
                lb.addresses.extend((how % 2 == 0).then(|| Ipv4Addr::new(10, 0, 45, which)));
            }
        }
        7 | 8 => state.put(group(which % 3, how).into()),
        9 => listener.into_iter().for_each(|id| state.listeners.remove(&id)),
        10 => {
            if let Some(mut copy) = listener.and_then(|id| state.listeners.get(&id)).cloned() {
                let port = 8_100 + u16::from(how) * 20;
                copy.id = format!("{}{:04x}", &copy.id.as_str()[..copy.id.as_str().len() - 4], 0x100 + u16::from(how))
                    .parse()
                    .expect("an ARN");
                let last = if how % 2 == 0 { port } else { port + u16::from(how % 16) };
                copy.port = ListenerPorts::new(port, last).expect("ports");
                let taken = |one: &Listener| one.load_balancer == copy.load_balancer && one.port.contains(port);
                if !state.listeners.values().any(taken) {
                    state.put(copy.into());
                }
            }
        }
        11 => {
            if let Some((_, checked)) = nth(0..health.len(), which).and_then(|at| health.iter_mut().nth(at)) {
                *checked = [Shape::New, Shape::Healthy, Shape::Unhealthy][usize::from(how) % 3].into();
            }
            unhealthy.clear();
            if how % 2 == 0 {
                unhealthy.extend(health.keys().nth(usize::from(which)).cloned());
            }
        }
        12 => {
            let group = nth(state.target_groups.keys().cloned(), which);
            if let Some(group) = group.and_then(|id| state.target_groups.get_mut(&id)) {
                let address = TargetAddress { ip: Ipv4Addr::new(10, 0, 1, 60 + how % 8).into(), port: 80 };
                if group.targets.remove(&address).is_none() {
                    let target =
                        Target { address, instance: None, dns_name: None, registered_at: now(), draining_since: None };
                    group.targets.insert(address, target);
                    health.insert(CheckKey { group: group.id.clone(), target: address }, Shape::Healthy.into());
                }
                group.attributes = TargetGroupAttributes { stickiness: how % 2 == 0, ..group.attributes.clone() };
            }
        }
        13 => {
            let hop = HopKey { vpc: VpcIndex(1), ip: Ipv4Addr::new(10, 0, 1, which).into() };
            next_hops.insert(hop, Hop { ifindex: 1, mac: [2, 1, 0, 0, how, which] });
        }
        14 => {
            busy.endpoints = (1..).take(usize::from(how % 8)).collect();
            busy.targets = (1..).take(usize::from(how % 16)).collect();
        }
        15 => {
            let (ifindex, mtu) = (1 + u32::from(which % 2), 1_400 + u32::from(how));
            Arc::make_mut(links).entry(ifindex).and_modify(|link| link.mtu = mtu as _);
        }
        16 => {
            let service = nth(state.endpoint_services.keys().cloned(), which);
            if let Some(service) = service.and_then(|id| state.endpoint_services.get_mut(&id)) {
                service.limits.connections = how.max(1).to_string().parse().expect("a limit");
                let other = nth(state.load_balancers.keys().cloned(), how);
                service.load_balancers.truncate(1);
                service.load_balancers.extend(other.filter(|id| *id != service.load_balancers[0]));
            }
        }
        _ => {}
    }
}

fn step_strategy() -> impl Strategy<Value = Vec<(Step, Option<usize>)>> {
    let fails = prop_oneof![9 => Just(None), 1 => (0usize..6).prop_map(Some)];
    prop::collection::vec(((0u8..17, 0u8..16, any::<u8>()), fails), 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever changes, one step after the other, and wherever a pass fails.
    #[test]
    fn going_on_comes_to_what_a_pass_over_everything_comes_to(
        shapes in shapes(),
        start in garbage(),
        steps in step_strategy(),
        endpoints in 4u32..64,
        policies in prop_oneof![Just(64u32), 4u32..24],
    ) {
        let capacity = Capacity { endpoints, policies, ..CAPACITY };
        let mut inputs = inputs(&shapes);
        (0..3).for_each(|number| Arc::make_mut(&mut inputs.state).put(group(number, number).into()));
        let (mut further, mut whole) = (Fake::with(capacity, start.clone()), Fake::with(capacity, start));
        let mut memory = Memory::default();
        for (number, (one, fails)) in steps.into_iter().enumerate() {
            further.log.clear();
            whole.log.clear();
            (further.fail_after, whole.fail_after) = (fails, fails);
            let one_by_one = converge(&mut further, &inputs, &mut memory);
            let at_once = pass(&mut whole, &inputs);
            prop_assert_eq!(&further.log, &whole.log, "before step {} {:?}", number, one);
            prop_assert_eq!(further.read().expect("the fake reads"), whole.read().expect("the fake reads"));
            match (one_by_one, at_once) {
                (Ok(one_by_one), Ok(at_once)) => prop_assert_eq!(one_by_one, at_once),
                (Err(one_by_one), Err(at_once)) => {
                    prop_assert_eq!(one_by_one.to_string(), at_once.to_string());
                    prop_assert!(!memory.is_settled());
                }
                (one_by_one, at_once) => prop_assert!(false, "{one_by_one:?} is not {at_once:?}"),
            }
            step(&mut inputs, one);
        }
    }
}

/// The cases above are about something: most passes do go on from the last.
#[test]
fn a_finished_pass_is_gone_on_from_until_an_audit_or_a_failure() {
    let mut fake = Fake::new(CAPACITY);
    let mut inputs = inputs(&one_group(&[(1, Shape::Healthy, false)]));
    let mut memory = Memory::default();
    converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    assert!(memory.is_settled());
    // Somebody else takes an entry away: who goes on from what was written does not see it, an audit does.
    let frontend = *fake.read().expect("the fake reads").frontends.keys().last().expect("a frontend");
    fake.apply(&Op::RemoveFrontend(frontend)).expect("no failure was asked for");
    fake.log.clear();
    step(&mut inputs, (1, 0, 7));
    let (plan, operations) = converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    assert_eq!(plan.endpoints.len(), 2);
    assert_eq!(operations, fake.log.len());
    assert!(!fake.read().expect("the fake reads").frontends.contains_key(&frontend));
    memory.audit();
    assert!(!memory.is_settled());
    converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    assert!(fake.read().expect("the fake reads").frontends.contains_key(&frontend) && memory.is_settled());

    step(&mut inputs, (1, 0, 8));
    fake.fail_after = Some(1);
    converge(&mut fake, &inputs, &mut memory).expect_err("it was asked for");
    assert!(!memory.is_settled(), "nobody knows what the kernel holds");
    converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    assert!(memory.is_settled());
}
