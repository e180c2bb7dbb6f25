//! Declarations: what a plan says and does.

use super::{
    apply::{ApplyDeclaration, Declaration},
    *,
};

const DECLARED: &str = r#"
[[vpc]]
name = "provider"
cidr = "10.0.0.0/16"

[[vpc]]
name = "consumer"
cidr = "10.0.0.0/16"
gateway = "10.0.0.1"

[[port]]
interface = "veth-c"
vpc = "consumer"

[[target-group]]
name = "web"
vpc = "provider"
port = 80
health-check = { protocol = "HTTP", path = "/health", interval = 5 }
attributes = { "deregistration_delay.timeout_seconds" = 60 }
targets = ["10.0.1.10", "10.0.1.11:81"]

[[load-balancer]]
name = "lb"
vpc = "provider"
addresses = ["10.0.0.5"]

[[load-balancer.listener]]
port = 80
target-group = "web"

[[endpoint-service]]
name = "shop"
load-balancer = "lb"

[[endpoint]]
service-name = "shop"
vpc = "consumer"
"#;

fn apply(world: &mut World, text: &str, prune: bool) -> Result<Vec<String>, ControlError> {
    let declaration: Declaration = toml::from_str(text).expect("a declaration");
    let plan = world.run(ApplyDeclaration { declaration, prune, dry_run: false })?;
    Ok(plan.steps.iter().map(|step| format!("{} {} {}", step.action, step.kind, step.name)).collect())
}

#[test]
fn applying_a_declaration_twice_changes_nothing_the_second_time() {
    let mut world = World::new();
    assert_eq!(
        apply(&mut world, DECLARED, false).unwrap(),
        [
            "create vpc provider",
            "create vpc consumer",
            "create port veth-c",
            "create target-group web",
            "create target 10.0.1.10:80",
            "create target 10.0.1.11:81",
            "create load-balancer lb",
            "create listener lb:80",
            "create endpoint-service shop",
            "create endpoint consumer/10.0.0.4",
        ]
    );
    let before = world.state.clone();
    assert!(apply(&mut world, DECLARED, true).unwrap().is_empty());
    assert_eq!(world.state, before);
}

#[test]
fn a_changed_declaration_changes_only_that() {
    let mut world = World::new();
    apply(&mut world, DECLARED, false).unwrap();
    let changed = DECLARED
        .replace("interval = 5", "interval = 10")
        .replace(", \"10.0.1.11:81\"", "")
        .replace("gateway = \"10.0.0.1\"\n", "");
    assert_eq!(apply(&mut world, &changed, false).unwrap(), ["modify vpc consumer", "modify target-group web"]);
    assert_eq!(apply(&mut world, &changed, true).unwrap(), ["delete target 10.0.1.11:81"]);
    let moved = changed.replace("10.0.0.5", "10.0.0.6");
    assert_eq!(
        refusal(apply(&mut world, &moved, false)).1,
        "The node addresses of load balancer 'lb' cannot be changed from '10.0.0.5' to '10.0.0.6'"
    );
}

#[test]
fn pruning_everything_leaves_nothing() {
    let mut world = World::new();
    apply(&mut world, DECLARED, false).unwrap();
    let steps = apply(&mut world, "", true).unwrap();
    assert_eq!(steps.len(), 7, "{steps:?}");
    assert_eq!(world.state, State { last_vpc_index: world.state.last_vpc_index, ..State::default() });
}

#[test]
fn a_resource_declared_twice_is_refused() {
    let twice = format!("{DECLARED}\n[[vpc]]\nname = \"consumer\"\ncidr = \"10.0.0.0/16\"\n");
    assert_eq!(refusal(apply(&mut World::new(), &twice, false)).1, "VPC 'consumer' is declared twice");
}

#[test]
fn ten_thousand_targets_are_one_change() {
    let targets: Vec<String> =
        (0..10_000).map(|number| format!("\"10.0.{}.{}\"", 16 + number / 200, 1 + number % 200)).collect();
    let text = DECLARED.replace("\"10.0.1.10\", \"10.0.1.11:81\"", &targets.join(", "));
    let mut world = World::new();
    assert_eq!(apply(&mut world, &text, false).unwrap().len(), 10_008);
    assert!(apply(&mut world, &text, true).unwrap().is_empty());
    let steps = apply(&mut world, DECLARED, true).unwrap();
    assert_eq!(steps.len(), 10_002, "two new targets, and those of before drain");
}

#[test]
fn declared_limits_are_set_and_what_is_taken_out_of_the_file_is_none_again() {
    let mut world = World::new();
    let limited = DECLARED.replace(
        "load-balancer = \"lb\"\n",
        "load-balancer = \"lb\"\nlimits = { connections = 100, bits-per-second = \"20M\" }\n",
    );
    apply(&mut world, &limited, false).unwrap();
    let limits =
        |world: &World| world.state.endpoint_services.values().map(|s| s.limits.to_string()).collect::<Vec<_>>();
    assert_eq!(limits(&world), ["100 connections, 20M bits a second"]);
    assert_eq!(apply(&mut world, &limited, false).unwrap(), [""; 0]);
    assert_eq!(apply(&mut world, DECLARED, false).unwrap(), ["modify endpoint-service shop"]);
    assert_eq!(limits(&world), ["none"]);
    for wrong in ["{ connections = 0 }", "{ connections = \"default\" }", "{ speed = 1 }", "{ bits-per-second = 10 }"] {
        let text = DECLARED.replace("load-balancer = \"lb\"\n", &format!("load-balancer = \"lb\"\nlimits = {wrong}\n"));
        assert!(toml::from_str::<Declaration>(&text).is_err(), "{wrong}");
    }
}

#[test]
fn assigned_node_addresses_that_a_declaration_does_not_name_stay() {
    let mut world = World::new();
    let text = DECLARED.replace(
        "addresses = [\"10.0.0.5\"]",
        "addresses = [\"10.0.0.5\"]\nattributes = { \"secondary_ips.auto_assigned.per_subnet\" = 2 }",
    );
    apply(&mut world, &text, false).unwrap();
    assert_eq!(apply(&mut world, DECLARED, false).unwrap(), [""; 0]);
    let lb = world.state.load_balancers.values().next().expect("a load balancer");
    assert_eq!(lb.attributes.secondary_ips, 2);
}
