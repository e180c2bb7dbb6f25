//! Services straight to addresses, two-way links, and answers that nobody has to give by hand.

use serde_json::json;

use super::{
    apply::{ApplyDeclaration, Declaration},
    connections::*,
    *,
};
use crate::control::{
    links::*,
    permissions::ModifyPermissions,
    private_dns::{DomainVerification, Place, VerifyDomain},
    publish::*,
};
use crate::model::{EndpointState, PrivateDnsName};

const CONSUMER: &str = "222222222222";

fn two_vpcs() -> World {
    let mut world = World::new();
    world.json::<CreateVpc>(json!({"name": "office", "cidr": "10.200.0.0/16"})).unwrap();
    world.json::<CreateVpc>(json!({"name": "cloud", "cidr": "192.168.0.0/16"})).unwrap();
    world
}

#[test]
fn a_service_straight_to_addresses_is_made_and_deleted_as_one_thing() {
    let mut world = two_vpcs();
    let request = json!({"name": "db", "vpc": "cloud", "targets": ["192.168.0.10:5432", "192.168.0.11"], "port": 5433});
    let made = world.json::<PublishTargets>(request.clone()).unwrap();
    let published = made.published.expect("targets");
    assert_eq!(published.vpc_name, "cloud");
    assert_eq!((published.port, published.node_addresses.len()), (5433, 1));
    let targets: Vec<String> = published.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["192.168.0.10:5432", "192.168.0.11:5433"]);

    // Doing it again changes nothing; another shape under the same name is refused.
    let before = world.state.clone();
    assert_eq!(world.json::<PublishTargets>(request.clone()).unwrap().id, made.id);
    assert_eq!(world.state, before);
    for (key, value) in [("port", json!(5434)), ("protocol", json!("UDP")), ("targets", json!(["192.168.0.12:1"]))] {
        let mut other = request.clone();
        other[key] = value;
        assert_eq!(refusal(world.json::<PublishTargets>(other)).0, "InvalidParameter", "{key}");
    }
    let nothing = refusal(world.json::<PublishTargets>(json!({"vpc": "cloud", "targets": ["192.168.0.12"]})));
    assert_eq!(nothing.1, "Target '192.168.0.12' has no port, and none is given for the service");
    assert_eq!(refusal(world.json::<PublishTargets>(json!({"vpc": "cloud", "targets": []}))).0, "ValidationError");

    // Its parts do not go alone, and go with it.
    assert_eq!(refusal(world.json::<DeleteLoadBalancer>(json!({"load_balancer": "db"}))).0, "ResourceInUse");
    assert_eq!(refusal(world.json::<DeleteTargetGroup>(json!({"target_group": "db"}))).0, "ResourceInUse");
    world.json::<DeleteEndpointService>(json!({"endpoint_service": "db"})).unwrap();
    let State { load_balancers, listeners, target_groups, endpoint_services, .. } = &world.state;
    assert!(load_balancers.is_empty() && listeners.is_empty() && target_groups.is_empty());
    assert!(endpoint_services.is_empty());
}

#[test]
fn what_is_used_by_others_outlives_the_service_that_it_was_made_for() {
    let mut world = two_vpcs();
    world.json::<PublishTargets>(json!({"name": "db", "vpc": "cloud", "targets": ["192.168.0.10:5432"]})).unwrap();
    let lb = json!({"name": "other", "vpc": "cloud", "addresses": ["192.168.0.9"]});
    world.json::<CreateLoadBalancer>(lb).unwrap();
    let listener = json!({"load_balancer": "other", "protocol": "TCP", "port": 80, "target_group": "db"});
    world.json::<CreateListener>(listener).unwrap();
    world.json::<DeleteEndpointService>(json!({"endpoint_service": "db"})).unwrap();
    assert_eq!((world.state.target_groups.len(), world.state.load_balancers.len()), (1, 1));
}

fn link() -> serde_json::Value {
    json!({"name": "masquerade", "sides": [
        "vpc=office,target=10.200.0.10:80,address=10.200.0.203",
        "vpc=cloud,target=192.168.0.10:8080,port=80,address=192.168.0.203,node=192.168.0.9",
    ]})
}

#[test]
fn a_link_is_both_directions_and_both_consents_or_nothing() {
    let mut world = two_vpcs();
    let before = world.state.clone();
    let mut broken = link();
    broken["sides"][1] = json!("vpc=cloud,target=192.168.0.10:8080,address=10.200.0.203");
    assert_eq!(refusal(world.json::<CreateLink>(broken)).0, "InvalidParameterValue");
    assert_eq!(world.state, before);

    let made = world.json::<CreateLink>(link()).unwrap();
    let sides = made.sides.each_ref().map(|side| (side.address.to_string(), side.port, side.reaches[0].to_string()));
    assert_eq!(sides[0], ("10.200.0.203".to_owned(), 80, "192.168.0.10:8080".to_owned()));
    assert_eq!(sides[1], ("192.168.0.203".to_owned(), 80, "10.200.0.10:80".to_owned()));
    assert!(made.sides.iter().all(|side| side.state == EndpointState::Available));
    assert!(world.state.endpoint_services.values().all(|service| service.acceptance_required));

    let state = world.state.clone();
    assert_eq!(world.json::<CreateLink>(link()).unwrap(), made);
    assert_eq!(world.state, state);
    let mut other = link();
    other["sides"][0] = json!("vpc=office,target=10.200.0.11:80");
    assert_eq!(refusal(world.json::<CreateLink>(other)).0, "InvalidLink.Duplicate");

    // Its parts go with it only.
    for side in &made.sides {
        assert_eq!(
            refusal(world.json::<DeleteEndpoint>(json!({"endpoint": side.endpoint}))).1,
            format!("The VPC endpoint '{}' is part of the link 'masquerade' and goes with it", side.endpoint)
        );
        let service = json!({"endpoint_service": side.service, "force": true});
        assert_eq!(refusal(world.json::<DeleteEndpointService>(service)).0, "DependencyViolation");
    }
    let foreign = world.by(CONSUMER).json::<DeleteLink>(json!({"link": "masquerade"}));
    assert_eq!(refusal(foreign).0, "InvalidLink.NotFound");
    assert!(world.ask(DescribeLinks { links: None }).unwrap().is_empty());
    world.by("123456789012").json::<DeleteLink>(json!({"link": "masquerade"})).unwrap();
    let State { last_vpc_index, .. } = world.state;
    assert_eq!(world.state, State { last_vpc_index, ..before });
}

#[test]
fn sides_of_a_link_that_cannot_be_are_refused() {
    for text in [
        "",
        "vpc=a",
        "target=10.0.0.1:80",
        "vpc=a,target=x",
        "vpc=a,target=10.0.0.1:80,port=0",
        "vpc=a,target=10.0.0.1:80,address=a",
        "vpc=a,target=10.0.0.1:80,color=red",
        "vpc=a,target=10.0.0.1:80,node",
    ] {
        assert!(text.parse::<LinkSideSpec>().is_err(), "{text}");
    }
    let text =
        "vpc=a,protocol=UDP,target=10.0.0.1:53,target=10.0.0.2,port=53,node=10.0.0.5,address=10.0.0.6,security-group=g";
    assert_eq!(text.parse::<LinkSideSpec>().unwrap().to_string(), text);
}

const DECLARED: &str = r#"
[[vpc]]
name = "office"
cidr = "10.200.0.0/16"

[[vpc]]
name = "cloud"
cidr = "192.168.0.0/16"

[[endpoint-service]]
name = "db"
vpc = "cloud"
targets = ["192.168.0.10:5432"]
acceptance-required = true
accept = ["123456789012"]
private-dns-name = "db.example.com"

[[endpoint]]
service-name = "db"
vpc = "office"
private-dns = true

[[link]]
name = "masquerade"
sides = ["vpc=office,target=10.200.0.10:80", "vpc=cloud,target=192.168.0.10:80"]
"#;

#[test]
fn declared_links_and_addresses_are_planned_once_and_pruned() {
    let mut world = World::new();
    let mut apply = |text: &str, prune: bool| {
        let declaration: Declaration = toml::from_str(text).expect("a declaration");
        let plan = world.run(ApplyDeclaration { declaration, prune, dry_run: false }).unwrap();
        plan.steps.iter().map(|step| format!("{} {} {}", step.action, step.kind, step.name)).collect::<Vec<_>>()
    };
    let steps = apply(DECLARED, true);
    assert_eq!(steps.len(), 6, "{steps:?}");
    assert_eq!(apply(DECLARED, true), [""; 0]);
    let moved = DECLARED.replace("192.168.0.10:5432", "192.168.0.11:5432");
    assert_eq!(apply(&moved, true), ["create target 192.168.0.11:5432", "delete target 192.168.0.10:5432"]);
    let lists = moved.replace("[\"123456789012\"]", "[]").replace("reject = []", "");
    assert_eq!(apply(&lists, true), ["modify endpoint-service db"]);
    let unlinked = lists.split("[[link]]").next().expect("the rest");
    assert_eq!(apply(unlinked, true), ["delete link masquerade"]);
    assert!(apply("", true).iter().any(|step| step == "delete endpoint-service db"));
    assert_eq!(world.state, State { last_vpc_index: world.state.last_vpc_index, ..State::default() });
}

/// A service that requires acceptance and admits everybody; another account with a VPC calls.
fn offered(consumers: serde_json::Value) -> (World, String) {
    let mut world = two_vpcs();
    let request = json!({"name": "db", "vpc": "cloud", "targets": ["192.168.0.10:5432"], "acceptance_required": true,
        "principals": ["*"], "consumers": consumers, "private_dns_name": "db.example.com"});
    let service = world.json::<PublishTargets>(request).unwrap().service_name.to_string();
    world.by(CONSUMER).json::<CreateVpc>(json!({"name": "net", "cidr": "10.0.0.0/16"})).unwrap();
    (world, service)
}

#[test]
fn the_lists_answer_new_endpoints_and_rejection_wins() {
    for (consumers, expected) in [
        (json!({}), EndpointState::PendingAcceptance),
        (json!({"accept": ["2222*"]}), EndpointState::Available),
        (json!({"accept": ["3333*"]}), EndpointState::PendingAcceptance),
        (json!({"accept": ["2222*"], "reject": ["*"]}), EndpointState::Rejected),
    ] {
        let (mut world, service) = offered(consumers.clone());
        let made = world.json::<CreateEndpoint>(json!({"service_name": service, "vpc": "net"})).unwrap();
        assert_eq!(made.state, expected, "{consumers}");
    }
}

#[test]
fn changed_lists_answer_who_waits_and_others_only_if_they_are_to() {
    let (mut world, service) = offered(json!({}));
    let id = world.json::<CreateEndpoint>(json!({"service_name": service, "vpc": "net"})).unwrap().id;
    for (change, expected) in [
        (json!({"accept": ["3*"]}), EndpointState::PendingAcceptance),
        (json!({"accept": ["2*"]}), EndpointState::Available),
        (json!({"reject": ["2*"]}), EndpointState::Available),
        (json!({"reconcile_connections": true}), EndpointState::Rejected),
        (json!({"reject": []}), EndpointState::Rejected),
        (json!({"reconcile_connections": true}), EndpointState::Available),
        (json!({"accept": [], "reconcile_connections": true}), EndpointState::Available),
    ] {
        let mut request = change.clone();
        request["endpoint_service"] = json!("db");
        let service = world.by("123456789012").json::<ModifyEndpointService>(request).unwrap();
        assert_eq!(world.state.endpoints[&id].state, expected, "{change}");
        let [connection] = service.connections.as_slice() else { panic!("{:?}", service.connections) };
        assert_eq!(connection.state, expected, "{change}");
    }
}

/// What DNS says about the name of `db`.
fn verify(world: &mut World, found: bool) {
    let owner = Owner::example();
    let request = VerifyDomain { endpoint_service: "db".into() };
    let (service, private) = request.wanted(&world.state.seen_by(&owner)).unwrap();
    let found = found.then(|| private.record_value.clone()).into_iter().collect();
    let places = vec![Place { name: "db.example.com".to_owned(), found, error: None }];
    let outcome = DomainVerification::new(service, private, places);
    world.by("123456789012").with_context(|state, context| Ok((outcome.noted(state, context.world), ()))).unwrap();
}

#[test]
fn an_endpoint_that_waits_for_the_private_name_answers_for_it_once_it_is_accepted_and_verified() {
    let name: PrivateDnsName = "db.example.com".parse().unwrap();
    for accepted_first in [true, false] {
        let (mut world, service) = offered(json!({}));
        let request = json!({"service_name": service, "vpc": "net", "private_dns_on_acceptance": true});
        let ids = [(); 2].map(|()| world.json::<CreateEndpoint>(request.clone()).unwrap().id);
        let names = |world: &World| ids.each_ref().map(|id| world.state.endpoints[id].private_dns.clone());
        let accept = json!({"endpoint_service": "db", "endpoints": ids});
        if accepted_first {
            world.by("123456789012").json::<AcceptConnections>(accept).unwrap();
            verify(&mut world, false);
            assert_eq!(names(&world), [None, None]);
            verify(&mut world, true);
        } else {
            verify(&mut world, true);
            assert_eq!(names(&world), [None, None]);
            world.by("123456789012").json::<AcceptConnections>(accept).unwrap();
        }
        // One endpoint of a VPC can have the name.
        assert_eq!(names(&world).iter().flatten().collect::<Vec<_>>(), [&name], "{accepted_first}");
        let first = ids.iter().find(|id| world.state.endpoints[*id].private_dns.is_some()).unwrap();
        let off = json!({"endpoint": first, "private_dns": false});
        let left = world.by(CONSUMER).json::<ModifyEndpoint>(off).unwrap();
        assert!(left.private_dns.is_none() && !left.private_dns_on_acceptance);
    }
}

#[test]
fn only_the_service_s_owner_changes_its_lists() {
    let (mut world, service) = offered(json!({}));
    let id = service.rsplit_once('.').unwrap().1;
    let request = json!({"endpoint_service": id, "accept": ["*"]});
    assert_eq!(refusal(world.json::<ModifyEndpointService>(request)).0, "InvalidVpcEndpointServiceId.NotFound");
    let all = json!({"endpoint_service": "db", "remove": ["*"]});
    world.by("123456789012").json::<ModifyPermissions>(all).unwrap();
    let accept = json!({"endpoint_service": "db", "accept": ["*"]});
    world.json::<ModifyEndpointService>(accept).unwrap();
    let made = world.by(CONSUMER).json::<CreateEndpoint>(json!({"service_name": service, "vpc": "net"}));
    assert_eq!(refusal(made).0, "InvalidServiceName", "the lists answer, principals admit");
}
