//! Deletions that take with them what stands in their way.

use serde_json::json;

use super::*;
use crate::control::{
    cascade::DeleteCascading,
    endpoint_services::ModifyEndpointService,
    instances::RegisterInstance,
    links::CreateLink,
    permissions::ModifyPermissions,
    publish::PublishTargets,
    route_tables::CreateRouteTable,
    security_groups::{AuthorizeSecurityGroup, CreateSecurityGroup},
    subnets::{CreateSubnet, DeleteSubnet},
};

const OTHER: &str = "222222222222";

/// [`World::published`], with an endpoint of another account.
fn shared() -> World {
    let mut world = World::published();
    let admit = json!({"endpoint_service": "shop", "add": ["*"]});
    world.json::<ModifyPermissions>(admit).unwrap();
    let service = world.state.endpoint_services.values().next().expect("a service").service_name.to_string();
    world.by(OTHER).json::<CreateVpc>(json!({"name": "theirs", "cidr": "10.0.0.0/16"})).unwrap();
    world.json::<CreateEndpoint>(json!({"service_name": service, "vpc": "theirs", "address": "10.0.0.50"})).unwrap();
    world.by("123456789012");
    world
}

/// The kinds of what has gone, without ids.
fn words(gone: &[String]) -> Vec<&str> {
    let mut kinds: Vec<&str> = gone.iter().filter_map(|one| one.rsplit_once(' ')).map(|(kind, _)| kind).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn a_load_balancer_takes_the_service_that_it_alone_serves() {
    let mut world = shared();
    let (code, _) = refusal(world.json::<DeleteLoadBalancer>(json!({"load_balancer": "lb"})));
    assert_eq!(code, "ResourceInUse");
    let before = world.state.clone();
    world
        .json::<ModifyLoadBalancer>(
            json!({"load_balancer": "lb", "attributes": {"deletion_protection.enabled": "true"}}),
        )
        .unwrap();
    let (code, _) = refusal(world.json::<DeleteCascading>(json!({"resource": {"load-balancer": "lb"}})));
    assert_eq!(code, "OperationNotPermitted", "protection is protection");
    world.state = before;
    let gone = world.json::<DeleteCascading>(json!({"resource": {"load-balancer": "lb"}})).unwrap();
    let expected =
        ["connection of endpoint", "connection of endpoint", "endpoint service", "listener", "load balancer"];
    assert_eq!(words(&gone), expected, "{gone:?}");
    assert!(world.state.endpoint_services.is_empty() && world.state.load_balancers.is_empty());
    assert_eq!(world.state.endpoints.len(), 2, "endpoints are their owners'");
    assert_eq!(world.state.target_groups.len(), 1, "nothing stood in the way there");
}

#[test]
fn a_service_that_others_serve_too_goes_on() {
    let mut world = shared();
    world.json::<CreateLoadBalancer>(json!({"name": "lb2", "vpc": "provider", "addresses": ["10.0.0.6"]})).unwrap();
    let add = json!({"endpoint_service": "shop", "add_load_balancers": ["lb2"]});
    world.json::<ModifyEndpointService>(add).unwrap();
    let gone = world.json::<DeleteCascading>(json!({"resource": {"load-balancer": "lb"}})).unwrap();
    assert_eq!(words(&gone), ["listener", "load balancer"], "{gone:?}");
    assert_eq!(world.state.endpoint_services.len(), 1);
    assert!(world.state.endpoints.values().all(|endpoint| endpoint.state.holds_service()));
}

#[test]
fn a_target_group_takes_listeners_that_lead_nowhere_else() {
    let mut world = shared();
    world.json::<CreateTargetGroup>(json!({"name": "next", "vpc": "provider", "protocol": "TCP", "port": 80})).unwrap();
    let both = json!({"load_balancer": "lb", "protocol": "TCP", "port": 81, "target_groups": ["web=1", "next=1"]});
    world.json::<CreateListener>(both).unwrap();
    assert_eq!(refusal(world.json::<DeleteTargetGroup>(json!({"target_group": "web"}))).0, "ResourceInUse");
    let gone = world.json::<DeleteCascading>(json!({"resource": {"target-group": "web"}})).unwrap();
    assert_eq!(words(&gone), ["listener", "target group"], "{gone:?}");
    let left: Vec<String> = world.state.listeners.values().map(|listener| listener.port.to_string()).collect();
    assert_eq!(left, ["81"]);
    assert!(world.state.listeners.values().all(|listener| listener.forward.weights.len() == 1));
}

#[test]
fn a_vpc_takes_all_that_is_in_it_and_nothing_of_others() {
    let mut world = shared();
    for name in ["a", "b"] {
        let group = json!({"name": name, "vpc": "provider", "description": name});
        world.json::<CreateSecurityGroup>(group).unwrap();
    }
    for (group, peer) in [("a", "b"), ("b", "a")] {
        let rule =
            json!({"security_group": group, "direction": "ingress", "rules": [{"traffic": "all", "peer": peer}]});
        world.json::<AuthorizeSecurityGroup>(rule).unwrap();
    }
    world.json::<CreateSubnet>(json!({"vpc": "provider", "cidr": "10.0.0.0/24"})).unwrap();
    world.json::<CreateRouteTable>(json!({"vpc": "provider"})).unwrap();
    world.json::<RegisterInstance>(json!({"name": "host", "vpc": "provider", "addresses": ["10.0.0.99"]})).unwrap();
    world.attach(json!({"interface": "veth-p", "vpc": "provider"})).unwrap();
    let sides = ["vpc=provider,target=10.0.1.10:22", "vpc=consumer,target=10.0.1.20:22"];
    world.json::<CreateLink>(json!({"name": "office", "sides": sides})).unwrap();
    assert_eq!(refusal(world.json::<DeleteVpc>(json!({"vpc": "provider"}))).0, "DependencyViolation");
    world.json::<DeleteCascading>(json!({"resource": {"vpc": "provider"}})).unwrap();
    let state = &world.state;
    let names: Vec<&str> = state.vpcs.values().map(|vpc| vpc.name.as_str()).collect();
    assert_eq!((names.len(), names.contains(&"provider")), (2, false));
    assert!(state.load_balancers.is_empty() && state.target_groups.is_empty() && state.links.is_empty());
    assert!(state.endpoint_services.is_empty() && state.listeners.is_empty() && state.instances.is_empty());
    assert_eq!(
        (state.endpoints.len(), state.ports.len(), state.security_groups.len()),
        (2, 1, 2),
        "those of other VPCs"
    );
    assert!(state.endpoints.values().all(|endpoint| !endpoint.state.holds_service()), "the service is gone");
    assert_eq!(
        refusal(world.json::<DeleteCascading>(json!({"resource": {"vpc": "theirs"}}))).0,
        "InvalidVpcID.NotFound"
    );
}

#[test]
fn a_subnet_takes_what_has_no_other_address() {
    let mut world = World::published();
    for (cidr, zone) in [("10.0.0.0/24", "us-east-1a"), ("10.0.1.0/24", "us-east-1b")] {
        world.json::<CreateSubnet>(json!({"vpc": "consumer", "cidr": cidr, "zone": zone})).unwrap();
    }
    let two = json!({"service_name": "shop", "vpc": "consumer",
        "subnets": [{"subnet": "consumer/10.0.0.0/24"}, {"subnet": "consumer/10.0.1.0/24"}]});
    let two = world.json::<CreateEndpoint>(two).unwrap();
    assert_eq!(refusal(world.json::<DeleteSubnet>(json!({"subnet": "consumer/10.0.0.0/24"}))).0, "DependencyViolation");
    let gone = world.json::<DeleteCascading>(json!({"resource": {"subnet": "consumer/10.0.0.0/24"}})).unwrap();
    assert_eq!(words(&gone), ["endpoint", "subnet"], "{gone:?}");
    let left: Vec<usize> = world.state.endpoints.values().map(|endpoint| endpoint.addresses().count()).collect();
    assert_eq!((left.as_slice(), world.state.endpoints.contains_key(&two.id)), ([1].as_slice(), true));
}

#[test]
fn a_published_address_goes_with_its_target_group() {
    let mut world = World::published();
    let publish = json!({"name": "db", "vpc": "provider", "targets": ["10.0.1.20:5432"]});
    world.json::<PublishTargets>(publish).unwrap();
    let gone = world.json::<DeleteCascading>(json!({"resource": {"target-group": "db"}})).unwrap();
    assert_eq!(words(&gone), ["endpoint service", "listener", "load balancer", "target group"], "{gone:?}");
}
