//! Weighted target groups, from the state to what the kernel finds.

use privatelink_ebpf::abi::service::{ListenerFlags, Parted};

use super::*;
use crate::model::Weight;

/// Two groups of two healthy targets; the first one's listener leads to both by `weights`.
fn weighted(weights: [&str; 2], sticky: bool) -> Inputs {
    let mut shapes = one_group(&[(1, Shape::Healthy, false), (2, Shape::Healthy, false)]);
    shapes.extend(one_group(&[(3, Shape::Healthy, false), (4, Shape::Healthy, false)]));
    let mut inputs = inputs(&shapes);
    let state = Arc::make_mut(&mut inputs.state);
    let leads_to_first = |listener: &&mut Listener| listener.forward.weights.contains_key(&group_id(0));
    let listener = state.listeners.values_mut().find(leads_to_first).expect("a listener");
    let weight = |text: &str| text.parse::<Weight>().expect("a weight");
    let [first, second] = weights.map(weight);
    listener.forward = Forward { weights: [(group_id(0), first), (group_id(1), second)].into(), stickiness: sticky };
    inputs
}

fn listener(inputs: &Inputs, fake: &Fake, plan: &Plan) -> Installed {
    let several = |listener: &&Listener| listener.forward.weights.len() == 2;
    let listener = inputs.state.listeners.values().find(several).expect("a listener");
    let tables = fake.read().expect("the fake reads");
    tables.listeners[&plan.listeners[&(listener.id.clone(), Proto::Tcp)]].clone()
}

fn share(installed: &Installed, plan: &Plan, octets: [u8; 2]) -> f64 {
    let of: BTreeSet<u32> =
        plan.targets.iter().filter(|(key, _)| octets.contains(&last(key.ip))).map(|(_, index)| *index).collect();
    installed.ring.iter().filter(|index| of.contains(index)).count() as f64 / installed.ring.len() as f64
}

#[test]
fn groups_get_their_weights() {
    let inputs = weighted(["70", "30"], false);
    let mut fake = Fake::new(CAPACITY);
    let (plan, _) = pass(&mut fake, &inputs).expect("no failure was asked for");
    let installed = listener(&inputs, &fake, &plan);
    assert!((share(&installed, &plan, [1, 2]) - 0.7).abs() < 0.02);
    assert!((share(&installed, &plan, [3, 4]) - 0.3).abs() < 0.02);
    assert_eq!(installed.record.flags, ListenerFlags::default());
    let sticky = weighted(["70", "30"], true);
    let (plan, _) = pass(&mut fake, &sticky).expect("no failure was asked for");
    let installed = listener(&sticky, &fake, &plan);
    assert_eq!(installed.record.flags, ListenerFlags::STICKY_ROWS);
    assert!((share(&installed, &plan, [1, 2]) - 0.7).abs() < 0.02);
}

#[test]
fn a_group_of_weight_0_gets_nothing_and_its_flows_end() {
    let inputs = weighted(["0", "5"], false);
    let mut fake = Fake::new(CAPACITY);
    let (plan, _) = pass(&mut fake, &inputs).expect("no failure was asked for");
    let installed = listener(&inputs, &fake, &plan);
    assert_eq!(share(&installed, &plan, [1, 2]), 0.0);
    let parted = fake.read().expect("the fake reads").parted;
    assert_eq!(parted.len(), 2, "its two targets: {parted:?}");
    let several = inputs.state.listeners.values().find(|listener| listener.forward.weights.len() == 2);
    let index = plan.listeners[&(several.expect("a listener").id.clone(), Proto::Tcp)];
    assert!(parted.iter().all(|Parted { listener, target }| {
        *listener == index && plan.targets.iter().any(|(key, at)| at == target && [1, 2].contains(&last(key.ip)))
    }));
    let back = weighted(["1", "5"], false);
    pass(&mut fake, &back).expect("no failure was asked for");
    assert!(fake.read().expect("the fake reads").parted.is_empty());
}

#[test]
fn an_endpoints_limits_reach_the_kernel_and_its_own_come_before_its_services() {
    let mut inputs = inputs(&one_group(&[(1, Shape::Healthy, false)]));
    let mut fake = Fake::new(CAPACITY);
    let kernels = |fake: &mut Fake, inputs: &Inputs| -> Vec<EndpointBudget> {
        pass(fake, inputs).expect("no failure was asked for");
        fake.read().expect("the fake reads").endpoints.into_values().collect()
    };
    let free = EndpointBudget::half_open(desired::ENDPOINT_HALF_OPEN);
    let before = kernels(&mut fake, &inputs);
    assert!(!before.is_empty() && before.iter().all(|budget| *budget == free), "{before:?}");
    let state = Arc::make_mut(&mut inputs.state);
    let limits = "{\"connections\": \"7\", \"connections_per_second\": \"3\", \"bits_per_second\": \"20M\"}";
    for service in state.endpoint_services.values_mut() {
        service.limits = serde_json::from_str(limits).expect("limits");
    }
    let limited = EndpointBudget { connections: 7, connections_per_second: 3, bits_per_second: 20_000_000, ..free };
    assert!(kernels(&mut fake, &inputs).iter().all(|budget| *budget == limited));
    let state = Arc::make_mut(&mut inputs.state);
    for endpoint in state.endpoints.values_mut() {
        endpoint.limits = serde_json::from_str("{\"connections\": \"none\"}").expect("limits");
    }
    let own = EndpointBudget { connections: 0, ..limited };
    assert!(kernels(&mut fake, &inputs).iter().all(|budget| *budget == own));
}

#[test]
fn clients_connections_say_nothing_about_targets_of_sticky_groups() {
    let mut inputs = inputs(&one_group(&[(1, Shape::Healthy, false)]));
    let mut fake = Fake::new(CAPACITY);
    let passive = |fake: &mut Fake, inputs: &Inputs| -> Vec<bool> {
        let (plan, _) = pass(fake, inputs).expect("no failure was asked for");
        plan.checks.values().map(|check| check.passive).collect()
    };
    assert_eq!(passive(&mut fake, &inputs), [true]);
    let state = Arc::make_mut(&mut inputs.state);
    for group in state.target_groups.values_mut() {
        group.attributes.stickiness = true;
    }
    assert_eq!(passive(&mut fake, &inputs), [false]);
}
