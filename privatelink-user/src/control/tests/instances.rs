//! Instances, and target groups of them.

use jiff::SignedDuration;
use serde_json::json;

use super::*;
use crate::{
    control::{
        apply::ApplyDeclaration,
        instances::{
            self, DeregisterInstances, DescribeInstances, ModifyInstance, RegisterInstance, StartInstances,
            StopInstances,
        },
        security_groups::{CreateSecurityGroup, DeleteSecurityGroup},
        subnets::*,
    },
    model::{InstanceState, SecurityGroupId},
};

/// A published service whose second target group, `hosts`, has the registered instance `web-1` as its target.
fn hosts() -> World {
    let mut world = World::published();
    world
        .json::<RegisterInstance>(json!({"name": "web-1", "vpc": "provider", "addresses": ["10.0.1.20", "10.0.1.21"]}))
        .unwrap();
    let request =
        json!({"name": "hosts", "vpc": "provider", "target_type": "instance", "protocol": "TCP", "port": 8080});
    world.json::<CreateTargetGroup>(request).unwrap();
    world.json::<RegisterTargets>(json!({"target_group": "hosts", "targets": ["web-1"]})).unwrap();
    world
}

fn group(world: &World) -> view::TargetGroupView {
    let request = DescribeTargetGroups { target_groups: Some(vec!["hosts".into()]) };
    world.ask(request).unwrap().remove(0)
}

#[test]
fn an_instance_is_a_target_at_its_primary_address() {
    let mut world = hosts();
    let id = world.ask(DescribeInstances::default()).unwrap()[0].id.clone();
    let (first, targets) = (group(&world).targets[0].clone(), |world: &World| group(world).targets.len());
    assert_eq!((first.address.to_string(), first.instance), ("10.0.1.20:8080".to_owned(), Some(id.clone())));
    // By id and with another port: one more registration of the same instance.
    world
        .json::<RegisterTargets>(json!({"target_group": "hosts", "targets": [format!("{id}:9090"), "web-1:8080"]}))
        .unwrap();
    assert_eq!(targets(&world), 2);
    world.json::<DeregisterTargets>(json!({"target_group": "hosts", "targets": ["web-1:9090"]})).unwrap();
    let draining = group(&world).targets.into_iter().filter(|target| target.draining_since.is_some());
    assert_eq!(draining.map(|target| target.address.port).collect::<Vec<_>>(), [9090]);
    let shown = world.ask(DescribeInstances { instances: Some(vec![(&id).into()]) }).unwrap().remove(0);
    assert_eq!(shown.target_groups.iter().map(ToString::to_string).collect::<Vec<_>>(), ["hosts"]);
}

#[test]
fn what_cannot_be_a_target_is_refused_with_the_texts_of_the_api() {
    let mut world = hosts();
    world.json::<RegisterInstance>(json!({"name": "afar", "vpc": "consumer", "addresses": ["10.0.1.20"]})).unwrap();
    world.json::<RegisterInstance>(json!({"name": "web-2", "vpc": "provider", "addresses": ["10.0.1.22"]})).unwrap();
    world.json::<StopInstances>(json!({"instances": ["web-2"]})).unwrap();
    let ids: std::collections::BTreeMap<String, String> = world
        .ask(DescribeInstances::default())
        .unwrap()
        .into_iter()
        .map(|instance| (instance.name.to_string(), instance.id.to_string()))
        .collect();
    let provider = group(&world).vpc;
    let mut register = |group: &str, target: &str| {
        refusal(world.json::<RegisterTargets>(json!({"target_group": group, "targets": [target]})))
    };
    let case = |code: &str, text: String| (code.to_owned(), text);
    assert_eq!(
        register("hosts", "web-2"),
        case(
            "InvalidTarget",
            format!("The following targets are not in a running state and cannot be registered: '{}'", ids["web-2"])
        )
    );
    assert_eq!(
        register("hosts", "afar"),
        case(
            "InvalidTarget",
            format!("The following targets are not in the target group VPC '{provider}': '{}'", ids["afar"])
        )
    );
    let invalid = |id: &str| case("ValidationError", format!("Instance ID '{id}' is not valid"));
    assert_eq!(register("hosts", "10.0.1.20"), invalid("10.0.1.20"));
    assert_eq!(register("hosts", "i-0123456789abcdef0"), invalid("i-0123456789abcdef0"));
    assert_eq!(
        register("web", "web-1"),
        case("ValidationError", "The IP address 'web-1' is not a valid IPv4 address".to_owned())
    );
}

#[test]
fn addresses_and_names_of_instances_are_their_own() {
    let mut world = hosts();
    let provider = group(&world).vpc;
    let in_use = |address: &str| ("InvalidIPAddress.InUse".to_owned(), format!("Address {address} is in use."));
    let mut instance = |name: &str, address: &str| {
        let request = json!({"name": name, "vpc": "provider", "addresses": [address]});
        world.json::<RegisterInstance>(request)
    };
    assert_eq!(refusal(instance("web-2", "10.0.1.21")), in_use("10.0.1.21"));
    assert_eq!(refusal(instance("web-2", "10.0.0.5")), in_use("10.0.0.5"));
    assert_eq!(refusal(instance("web-2", "10.1.0.5")).0, "InvalidParameterValue");
    assert_eq!(refusal(instance("web-1", "10.0.1.23")).0, "InvalidInstance.Duplicate");
    // A server that is registered by its address already may get a name.
    instance("web-3", "10.0.1.10").unwrap();
    let twice = json!({"name": "web-1", "vpc": "provider", "addresses": ["10.0.1.20", "10.0.1.21"]});
    let before = world.state.clone();
    world.json::<RegisterInstance>(twice).unwrap();
    assert_eq!(world.state, before, "the same again changes nothing");
    let lb = json!({"name": "other", "vpc": "provider", "addresses": ["10.0.1.20"]});
    assert_eq!(refusal(world.json::<CreateLoadBalancer>(lb)), in_use("10.0.1.20"));
    let free = world.json::<RegisterInstance>(json!({"name": "next", "vpc": "provider"})).unwrap();
    assert_eq!(free.addresses, [std::net::Ipv4Addr::new(10, 0, 0, 4)]);
    assert_eq!(refusal(world.json::<DeleteVpc>(json!({"vpc": provider}))).0, "DependencyViolation");
}

#[test]
fn a_subnet_places_an_instance_and_is_kept_by_it() {
    let mut world = World::published();
    let subnet = world.json::<CreateSubnet>(json!({"vpc": "provider", "cidr": "10.0.8.0/28"})).unwrap().id;
    let placed = world.json::<RegisterInstance>(json!({"name": "web-1", "subnet": subnet})).unwrap();
    assert_eq!((placed.addresses[0].to_string(), placed.subnet), ("10.0.8.4".to_owned(), Some(subnet.clone())));
    let outside = json!({"name": "web-2", "subnet": subnet, "addresses": ["10.0.9.4"]});
    assert_eq!(refusal(world.json::<RegisterInstance>(outside)).0, "InvalidParameterValue");
    assert_eq!(refusal(world.json::<DeleteSubnet>(json!({"subnet": subnet}))).0, "DependencyViolation");
    world.json::<DeregisterInstances>(json!({"instances": ["web-1"]})).unwrap();
    world.json::<DeleteSubnet>(json!({"subnet": subnet})).unwrap();
}

#[test]
fn a_registered_target_stays_unless_forced_and_a_terminated_one_drains_and_is_forgotten() {
    let mut world = hosts();
    let refused = refusal(world.json::<DeregisterInstances>(json!({"instances": ["web-1"]})));
    assert_eq!(refused.0, "DependencyViolation");
    let gone = world.json::<DeregisterInstances>(json!({"instances": ["web-1"], "force": true})).unwrap().remove(0);
    assert_eq!(gone.previous, InstanceState::Running);
    let id = gone.id.to_string();
    assert!(group(&world).targets[0].draining_since.is_some());
    assert!(world.ask(DescribeInstances::default()).unwrap().is_empty());
    // By id it is shown for an hour; its name and address are free at once.
    let shown = DescribeInstances { instances: Some(vec![(&id).into()]) };
    assert_eq!(world.ask(shown.clone()).unwrap()[0].state.to_string(), "terminated");
    world.json::<RegisterInstance>(json!({"name": "web-1", "vpc": "provider", "addresses": ["10.0.1.20"]})).unwrap();
    assert_eq!(refusal(world.json::<StartInstances>(json!({"instances": [id]}))).0, "IncorrectInstanceState");
    let hour = SignedDuration::from_hours(1);
    assert_eq!(instances::next_expiry(&world.state), Some(world.now + hour));
    assert!(instances::expire(&world.state, world.now + hour - SignedDuration::from_millis(1)).is_empty());
    let change = instances::expire(&world.state, world.now + hour);
    world.state.apply(&change);
    assert!(world.state.check_invariants().is_ok(), "what drains may outlive the record");
    assert_eq!(refusal(world.ask(shown)).0, "InvalidInstanceID.NotFound");
    // What drains is still found by the id that it was registered with.
    world.json::<DeregisterTargets>(json!({"target_group": "hosts", "targets": [id]})).unwrap();
}

#[test]
fn instances_carry_groups_that_rules_name_as_peers() {
    let mut world = hosts();
    let create = json!({"name": "servers", "vpc": "provider"});
    let servers = world.json::<CreateSecurityGroup>(create).unwrap().id;
    world.json::<ModifyInstance>(json!({"instance": "web-1", "security_groups": ["servers"]})).unwrap();
    let members = |world: &World, id: &SecurityGroupId| world.state.members(id).carriers.len();
    assert_eq!(members(&world, &servers), 2, "both addresses");
    let delete = json!({"security_group": "servers"});
    let refused = refusal(world.json::<DeleteSecurityGroup>(delete.clone()));
    assert_eq!(refused.0, "DependencyViolation");
    world.json::<DeregisterInstances>(json!({"instances": ["web-1"], "force": true})).unwrap();
    assert_eq!(members(&world, &servers), 0);
    world.json::<DeleteSecurityGroup>(delete).unwrap();
}

#[test]
fn another_account_has_no_part_in_an_instance() {
    let mut world = hosts();
    world.by("999999999999");
    assert!(world.ask(DescribeInstances::default()).unwrap().is_empty());
    assert_eq!(refusal(world.json::<StopInstances>(json!({"instances": ["web-1"]}))).0, "InvalidInstanceID.NotFound");
}

#[test]
fn a_file_declares_instances() {
    let mut world = World::new();
    let text = r#"
        [[vpc]]
        name = "provider"
        cidr = "10.0.0.0/16"
        [[security-group]]
        name = "servers"
        vpc = "provider"
        [[instance]]
        name = "web-1"
        vpc = "provider"
        addresses = ["10.0.1.20"]
        [[target-group]]
        name = "web"
        vpc = "provider"
        target-type = "instance"
        port = 80
        targets = ["web-1:8080"]
    "#;
    let mut apply = |text: &str| {
        let declaration = toml::from_str(text).expect("a declaration");
        let plan = world.run(ApplyDeclaration { declaration, prune: true, dry_run: false })?;
        Ok::<_, ControlError>(plan.steps.iter().map(|step| format!("{} {}", step.kind, step.name)).collect::<Vec<_>>())
    };
    assert_eq!(
        apply(text).unwrap(),
        ["vpc provider", "security-group servers", "instance web-1", "target-group web", "target web-1:8080"]
    );
    assert!(apply(text).unwrap().is_empty());
    let carried = text.replace("addresses = [", "security-groups = [\"servers\"]\naddresses = [");
    assert_eq!(apply(&carried).unwrap(), ["instance web-1"]);
    let moved = carried.replace("10.0.1.20", "10.0.1.21");
    assert_eq!(
        refusal(apply(&moved)).1,
        "The addresses of instance 'web-1' cannot be changed from '10.0.1.20' to '10.0.1.21'"
    );
    assert_eq!(apply("").unwrap(), ["target-group web", "instance web-1", "security-group servers", "vpc provider"]);
    assert_eq!(world.state, State { last_vpc_index: world.state.last_vpc_index, ..State::default() });
}
