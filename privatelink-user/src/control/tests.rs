//! Operations on states: refusals with their texts, guards, idempotence, draining, and a random walk.

use std::net::Ipv4Addr;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::{
    apply::{ApplyDeclaration, Declaration},
    endpoint_services::*,
    endpoints::*,
    listeners::*,
    load_balancers::*,
    ports::*,
    target_groups::*,
    targets::*,
    vpcs::*,
    *,
};
use crate::model::{AccountId, IdSource, Region, State};

/// Identifiers in a row.
#[derive(Default)]
struct Counter(u64);

impl IdSource for Counter {
    fn hex(&mut self, digits: usize) -> String {
        self.0 += 1;
        format!("{:0digits$x}", self.0)
    }
}

/// A state, its clock and its identifiers; every accepted change must keep the invariants, every refused one the state.
struct World {
    state: State,
    ids: Counter,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self { state: State::default(), ids: Counter::default(), now: Timestamp::from_second(1_800_000_000).unwrap() }
    }

    fn with_context<T>(
        &mut self,
        run: impl FnOnce(&State, &mut Context<'_>) -> Result<(Change, T), ControlError>,
    ) -> Result<T, ControlError> {
        let region: Region = "us-east-1".parse().unwrap();
        let account: AccountId = "123456789012".parse().unwrap();
        let mut context = Context { region: &region, account: &account, now: self.now, ids: &mut self.ids };
        let before = self.state.clone();
        let result = run(&self.state, &mut context);
        assert_eq!(self.state, before, "deciding changes nothing");
        let (change, answer) = result?;
        self.state.apply(&change);
        if let Err(violation) = self.state.check_invariants() {
            panic!("{violation}");
        }
        Ok(answer)
    }

    fn run<M: Mutation>(&mut self, request: M) -> Result<M::Response, ControlError> {
        self.with_context(|state, context| request.decide(state, context))
    }

    /// Runs a request that is written as JSON.
    fn json<M: Mutation>(&mut self, request: serde_json::Value) -> Result<M::Response, ControlError> {
        self.run(serde_json::from_value::<M>(request).expect("a request"))
    }

    fn attach(&mut self, request: serde_json::Value) -> Result<(), ControlError> {
        let request: AttachPort = serde_json::from_value(request).expect("a request");
        self.with_context(|state, context| request.decide_change(state, context)).map(drop)
    }

    /// Two VPCs with equal addresses, a published web service in `provider`, and an endpoint in `consumer`.
    fn published() -> Self {
        let mut world = Self::new();
        world.json::<CreateVpc>(serde_json::json!({"name": "provider", "cidr": "10.0.0.0/16"})).unwrap();
        world
            .json::<CreateVpc>(serde_json::json!({"name": "consumer", "cidr": "10.0.0.0/16", "gateway": "10.0.0.1"}))
            .unwrap();
        world.attach(serde_json::json!({"interface": "veth-c", "vpc": "consumer"})).unwrap();
        world
            .json::<CreateTargetGroup>(
                serde_json::json!({"name": "web", "vpc": "provider", "protocol": "TCP", "port": 80}),
            )
            .unwrap();
        world
            .json::<RegisterTargets>(
                serde_json::json!({"target_group": "web", "targets": ["10.0.1.10", "10.0.1.11:81"]}),
            )
            .unwrap();
        world
            .json::<CreateLoadBalancer>(serde_json::json!({"name": "lb", "vpc": "provider", "addresses": ["10.0.0.5"]}))
            .unwrap();
        world
            .json::<CreateListener>(
                serde_json::json!({"load_balancer": "lb", "protocol": "TCP", "port": 80, "target_group": "web"}),
            )
            .unwrap();
        world.json::<CreateEndpointService>(serde_json::json!({"load_balancer": "lb", "name": "shop"})).unwrap();
        world
            .json::<CreateEndpoint>(
                serde_json::json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.50"}),
            )
            .unwrap();
        world
    }
}

fn refusal<T>(result: Result<T, ControlError>) -> (String, String) {
    match result {
        Ok(_) => panic!("accepted"),
        Err(error) => {
            assert!(!error.hint().is_empty(), "{error} names no way out");
            (error.code().to_owned(), error.to_string())
        }
    }
}

#[test]
fn refusals_have_the_codes_and_texts_of_the_api() {
    let mut world = World::published();
    let lb = world.state.load_balancers.keys().next().unwrap().to_string();
    let group = world.state.target_groups.keys().next().unwrap().to_string();
    let consumer = lookup::vpc(&world.state, &"consumer".into()).unwrap().id.to_string();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect(text);
    let mut cases: Vec<((String, String), &str, String)> = Vec::new();
    macro_rules! case {
        ($request:ty, $json:expr, $code:expr, $($text:tt)+) => {
            cases.push((refusal(world.json::<$request>(json($json))), $code, format!($($text)+)))
        };
    }
    case!(
        CreateVpc,
        r#"{"name": "consumer", "cidr": "10.1.0.0/16"}"#,
        "InvalidVpc.Duplicate",
        "A VPC with the same name 'consumer' exists, but with different settings"
    );
    case!(
        CreateVpc,
        r#"{"name": "c", "cidr": "10.1.0.0/16", "gateway": "10.0.0.1"}"#,
        "InvalidParameterValue",
        "Address 10.0.0.1 does not fall within the VPC's address range 10.1.0.0/16"
    );
    case!(
        ModifyVpc,
        r#"{"vpc": "consumer", "gateway": "10.0.0.50"}"#,
        "InvalidIPAddress.InUse",
        "Address 10.0.0.50 is in use."
    );
    case!(
        ModifyVpc,
        r#"{"vpc": "consumer", "gateway": "10.0.255.255"}"#,
        "InvalidParameterValue",
        "Address 10.0.255.255 is in the VPC's reserved address range"
    );
    case!(DeleteVpc, r#"{"vpc": "nowhere"}"#, "InvalidVpcID.NotFound", "The vpc ID 'nowhere' does not exist");
    case!(
        DeleteVpc,
        r#"{"vpc": "consumer"}"#,
        "DependencyViolation",
        "The vpc '{consumer}' has dependencies and cannot be deleted."
    );
    case!(
        DetachPort,
        r#"{"port": "veth-x"}"#,
        "InvalidNetworkInterfaceID.NotFound",
        "The port 'veth-x' does not exist"
    );
    case!(
        CreateTargetGroup,
        r#"{"name": "t", "vpc": "nowhere", "protocol": "TCP", "port": 80}"#,
        "ValidationError",
        "The VPC ID 'nowhere' is not found"
    );
    case!(
        CreateTargetGroup,
        r#"{"name": "t", "vpc": "provider", "protocol": "TCP", "port": 0}"#,
        "ValidationError",
        "Target group port '0' must be between '1-65535' inclusive"
    );
    case!(
        CreateTargetGroup,
        r#"{"name": "web", "vpc": "provider", "protocol": "TCP", "port": 81}"#,
        "DuplicateTargetGroupName",
        "A target group with the same name 'web' exists, but with different settings"
    );
    case!(
        ModifyTargetGroup,
        r#"{"target_group": "web", "health_check": {"interval": 5}}"#,
        "ValidationError",
        "Health check timeout '10' must be smaller than or equal to the interval '5'"
    );
    case!(
        ModifyTargetGroup,
        r#"{"target_group": "web", "health_check": {"healthy-threshold": 11}}"#,
        "ValidationError",
        "Healthy threshold count '11' must be between '2-10' inclusive"
    );
    case!(
        ModifyTargetGroup,
        r#"{"target_group": "web", "attributes": {"deregistration_delay.timeout_seconds": "3601"}}"#,
        "ValidationError",
        "'deregistration_delay.timeout_seconds' value '3601' must be between '0-3600' inclusive"
    );
    case!(
        DeleteTargetGroup,
        r#"{"target_group": "web"}"#,
        "ResourceInUse",
        "Target group '{group}' is currently in use by a listener or a rule"
    );
    case!(
        DeleteTargetGroup,
        r#"{"target_group": "nothing"}"#,
        "TargetGroupNotFound",
        "Target group 'nothing' not found"
    );
    case!(
        RegisterTargets,
        r#"{"target_group": "web", "targets": []}"#,
        "ValidationError",
        "At least one target must be specified"
    );
    case!(
        RegisterTargets,
        r#"{"target_group": "web", "targets": ["10.0.0.5"]}"#,
        "InvalidTarget",
        "The IP address '10.0.0.5' cannot be used as a target, as it is in use by a load balancer"
    );
    case!(
        RegisterTargets,
        r#"{"target_group": "web", "targets": ["8.8.8.8"]}"#,
        "InvalidTarget",
        "The IP address '8.8.8.8' is not a private address that a target can have"
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "l", "vpc": "provider", "addresses": []}"#,
        "ValidationError",
        "A node address must be specified"
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "l", "vpc": "provider", "addresses": ["10.0.1.10"]}"#,
        "InvalidIPAddress.InUse",
        "Address 10.0.1.10 is in use."
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "l", "vpc": "provider", "addresses": ["10.0.9.9", "10.0.9.9"]}"#,
        "InvalidParameterValue",
        "The address 10.0.9.9 is given twice"
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "lb", "vpc": "provider", "addresses": ["10.0.9.9"]}"#,
        "DuplicateLoadBalancerName",
        "A load balancer with the same name 'lb' exists, but with different settings"
    );
    case!(
        DeleteLoadBalancer,
        r#"{"load_balancer": "lb"}"#,
        "ResourceInUse",
        "Load balancer '{lb}' cannot be deleted because it is currently associated with another service"
    );
    case!(DeleteLoadBalancer, r#"{"load_balancer": "l"}"#, "LoadBalancerNotFound", "Load balancer 'l' not found");
    case!(
        CreateListener,
        r#"{"load_balancer": "lb", "protocol": "TCP", "port": 80, "target_group": "web",
        "attributes": {"tcp.idle_timeout.seconds": "60"}}"#,
        "DuplicateListener",
        "A listener already exists on this port for this load balancer '{lb}'"
    );
    case!(
        CreateListener,
        r#"{"load_balancer": "lb", "protocol": "TCP", "port": 81, "target_group": "x"}"#,
        "TargetGroupNotFound",
        "Target group 'x' not found"
    );
    case!(
        CreateListener,
        r#"{"load_balancer": "lb", "protocol": "TCP", "port": 81, "target_group": "web",
        "attributes": {"tcp.idle_timeout.seconds": "59"}}"#,
        "ValidationError",
        "'tcp.idle_timeout.seconds' value '59' must be between '60-6000' inclusive"
    );
    case!(DeleteListener, r#"{"listener": "lb:81"}"#, "ListenerNotFound", "Listener 'lb:81' not found");
    case!(
        CreateEndpointService,
        r#"{"load_balancer": "lb", "name": "other"}"#,
        "InvalidParameter",
        "The load balancer '{lb}' is already associated with the endpoint service '{}'",
        world.state.endpoint_services.keys().next().unwrap()
    );
    case!(
        DeleteEndpointService,
        r#"{"endpoint_service": "shop"}"#,
        "ExistingVpcEndpointConnections",
        "Service has existing active VPC Endpoint connections!"
    );
    case!(
        DeleteEndpointService,
        r#"{"endpoint_service": "x"}"#,
        "InvalidVpcEndpointServiceId.NotFound",
        "The VpcEndpointService Id 'x' does not exist"
    );
    case!(
        CreateEndpoint,
        r#"{"service_name": "x", "vpc": "consumer"}"#,
        "InvalidServiceName",
        "The Vpc Endpoint Service 'x' does not exist"
    );
    case!(
        CreateEndpoint,
        r#"{"service_name": "shop", "vpc": "consumer", "address": "10.0.0.1"}"#,
        "InvalidIPAddress.InUse",
        "Address 10.0.0.1 is in use."
    );
    case!(
        CreateEndpoint,
        r#"{"service_name": "shop", "vpc": "consumer", "address": "10.1.0.1"}"#,
        "InvalidParameterValue",
        "Address 10.1.0.1 does not fall within the VPC's address range 10.0.0.0/16"
    );
    case!(
        DeleteEndpoint,
        r#"{"endpoint": "consumer/10.0.0.51"}"#,
        "InvalidVpcEndpoint.NotFound",
        "The Vpc Endpoint Id 'consumer/10.0.0.51' does not exist"
    );
    for ((code, text), expected_code, expected) in cases {
        assert_eq!((code.as_str(), text), (expected_code, expected));
    }
    let attached = refusal(world.attach(json(r#"{"interface": "veth-c", "vpc": "provider"}"#)));
    assert_eq!(attached, ("InvalidNetworkInterface.InUse".to_owned(), "Interface: [veth-c] in use.".to_owned()));
}

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
    world.json::<CreateEndpointService>(serde_json::json!({"load_balancer": "lb", "name": "shop"})).unwrap();
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

/// One random request on few names, so that they meet.
fn requests() -> impl Strategy<Value = (u8, u8, u8, u8, bool)> {
    (0u8..16, 0u8..3, 0u8..3, 0u8..8, any::<bool>())
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
                json!({"name": name, "vpc": other, "protocol": "TCP", "port": number, "attributes": attributes}),
            )
            .map(drop),
        8 => world.json::<DeleteTargetGroup>(json!({"target_group": name})),
        9 => world.json::<RegisterTargets>(json!({"target_group": name, "targets": [address]})).map(drop),
        10 => world.json::<DeregisterTargets>(json!({"target_group": name, "targets": [address]})).map(drop),
        11 => world
            .json::<CreateListener>(
                json!({"load_balancer": name, "protocol": "TCP", "port": number, "target_group": other}),
            )
            .map(drop),
        12 => world.json::<DeleteListener>(json!({"listener": format!("{name}:{number}")})),
        13 => {
            world.json::<CreateEndpointService>(json!({"load_balancer": name, "name": flag.then_some(other)})).map(drop)
        }
        14 => world
            .json::<CreateEndpoint>(json!({"service_name": name, "vpc": other, "address": flag.then_some(address)}))
            .map(drop),
        _ if flag => world.json::<DeleteEndpointService>(json!({"endpoint_service": name})),
        _ => world.json::<DeleteEndpoint>(json!({"endpoint": format!("{name}/{address}")})),
    }
}

proptest! {
    /// `World` checks after every request that an accepted one keeps the invariants and that a refused one keeps the state.
    #[test]
    fn random_operations_keep_the_invariants(walk in prop::collection::vec(requests(), 1..120)) {
        let mut world = World::new();
        for request in walk {
            let before = world.state.clone();
            if let Err(error) = random(&mut world, request) {
                prop_assert_eq!(&world.state, &before);
                prop_assert!(!error.hint().is_empty());
            }
            world.now += SignedDuration::from_secs(1);
            let change = expire(&world.state, world.now);
            world.state.apply(&change);
            prop_assert!(world.state.check_invariants().is_ok());
        }
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
