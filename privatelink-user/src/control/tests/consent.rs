//! Consent: who sees a service, and what its owner's answer does.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::{
    control::{connections::*, permissions::*},
    model::{EndpointState, Identity, PayerResponsibility},
};

const PROVIDER: &str = "123456789012";
const CONSUMER: &str = "222222222222";

/// A provider's service that requires acceptance, and a consumer's VPC; the consumer calls.
fn offered(principals: &[&str]) -> (World, String) {
    let mut world = World::published();
    world.json::<DeleteEndpoint>(json!({"endpoint": "consumer/10.0.0.50"})).unwrap();
    let service = json!({"endpoint_service": "shop", "acceptance_required": true});
    let service = world.json::<ModifyEndpointService>(service).unwrap();
    if !principals.is_empty() {
        world.json::<ModifyPermissions>(json!({"endpoint_service": "shop", "add": principals})).unwrap();
    }
    world.by(CONSUMER).json::<CreateVpc>(json!({"name": "net", "cidr": "10.0.0.0/16"})).unwrap();
    (world, service.service_name.to_string())
}

fn connect(world: &mut World, service: &str) -> Result<view::EndpointView, ControlError> {
    world.json::<CreateEndpoint>(json!({"service_name": service, "vpc": "net"}))
}

#[test]
fn a_service_does_not_exist_for_whom_it_does_not_admit() {
    let cases: &[(&[&str], Identity, bool)] = &[
        (&[], Identity::Root, false),
        (&["arn:aws:iam::333333333333:root"], Identity::Root, false),
        (&["arn:aws:iam::222222222222:user/alice"], Identity::Root, false),
        (&["arn:aws:iam::222222222222:user/alice"], Identity::User("alice".to_owned()), true),
        (&["arn:aws:iam::222222222222:role/alice"], Identity::User("alice".to_owned()), false),
        (&["arn:aws:iam::222222222222:root"], Identity::User("bob".to_owned()), true),
        (&["arn:aws:iam::333333333333:root", "*"], Identity::Root, true),
    ];
    for (principals, identity, admitted) in cases {
        let (mut world, service) = offered(principals);
        world.identity = identity.clone();
        let id = service.rsplit_once('.').unwrap().1.to_owned();
        for name in [service, id] {
            match connect(&mut world, &name) {
                Ok(endpoint) => {
                    assert!(admitted, "{principals:?} admits {identity:?}");
                    assert_eq!(endpoint.state, EndpointState::PendingAcceptance);
                    assert_eq!(endpoint.service_alias, None, "the alias is its owner's own");
                }
                Err(error) => {
                    assert!(!admitted, "{principals:?} does not admit {identity:?}");
                    let expected = format!("The Vpc Endpoint Service '{name}' does not exist");
                    assert_eq!(refusal::<()>(Err(error)), ("InvalidServiceName".to_owned(), expected));
                }
            }
        }
    }
}

#[test]
fn only_the_services_owner_answers_and_only_the_consumer_deletes() {
    let (mut world, service) = offered(&["*"]);
    let endpoint = connect(&mut world, &service).unwrap();
    let answer = json!({"endpoint_service": "shop", "endpoints": [endpoint.id]});
    let by_id = json!({"endpoint_service": endpoint.service, "endpoints": [endpoint.id]});
    assert_eq!(refusal(world.json::<AcceptConnections>(by_id)).0, "InvalidVpcEndpointServiceId.NotFound");
    world.by(PROVIDER);
    assert_eq!(
        refusal(world.json::<DeleteEndpoint>(json!({"endpoint": endpoint.id}))).0,
        "InvalidVpcEndpoint.NotFound"
    );
    let connections = world.ask(DescribeConnections { endpoint_service: "shop".into() }).unwrap();
    let [connection] = connections.as_slice() else { panic!("{connections:?}") };
    assert_eq!((connection.account.as_str(), connection.state), (CONSUMER, EndpointState::PendingAcceptance.into()));

    // Accepting twice is accepting once; rejecting an accepted one, and accepting a rejected one, is allowed.
    for (request, state) in [
        ("accept", EndpointState::Available),
        ("accept", EndpointState::Available),
        ("reject", EndpointState::Rejected),
        ("reject", EndpointState::Rejected),
        ("accept", EndpointState::Available),
    ] {
        let answered = match request {
            "accept" => world.json::<AcceptConnections>(answer.clone()),
            _ => world.json::<RejectConnections>(answer.clone()),
        };
        assert_eq!(answered.unwrap()[0].state, state);
        assert_eq!(world.state.endpoints[&endpoint.id].state, state);
    }

    // What is connected holds the service, its load balancer and, by that, itself.
    let held = refusal(world.json::<DeleteEndpointService>(json!({"endpoint_service": "shop"})));
    assert_eq!(held.1, "Service has existing active VPC Endpoint connections!");
    world.json::<RejectConnections>(answer).unwrap();
    world.json::<DeleteEndpointService>(json!({"endpoint_service": "shop"})).unwrap();
    let left = world.by(CONSUMER).ask(DescribeEndpoints { endpoints: None }).unwrap();
    assert_eq!((left[0].state, left[0].service_name.as_str()), (EndpointState::Rejected.into(), service.as_str()));
    world.json::<DeleteEndpoint>(json!({"endpoint": endpoint.id})).unwrap();
}

#[test]
fn a_batch_with_one_failure_changes_nothing() {
    let (mut world, service) = offered(&["*"]);
    let endpoint = connect(&mut world, &service).unwrap();
    let before = world.by(PROVIDER).state.clone();
    let unknown = "vpce-fffffffffffffffff";
    let answer = json!({"endpoint_service": "shop", "endpoints": [endpoint.id, unknown]});
    assert_eq!(
        refusal(world.json::<AcceptConnections>(answer)),
        ("InvalidVpcEndpoint.NotFound".to_owned(), format!("The Vpc Endpoint Id '{unknown}' does not exist"))
    );
    assert_eq!(world.state, before);
}

#[test]
fn changed_conditions_leave_what_is_accepted_as_it_is() {
    let (mut world, service) = offered(&["arn:aws:iam::222222222222:root"]);
    let first = connect(&mut world, &service).unwrap();
    world.by(PROVIDER);
    let answer = json!({"endpoint_service": "shop", "endpoints": [first.id]});
    world.json::<AcceptConnections>(answer).unwrap();
    let remove = json!({"endpoint_service": "shop", "remove": ["arn:aws:iam::222222222222:root"]});
    assert!(world.json::<ModifyPermissions>(remove).unwrap().is_empty());
    world.json::<ModifyEndpointService>(json!({"endpoint_service": "shop", "acceptance_required": false})).unwrap();
    assert_eq!(world.state.endpoints[&first.id].state, EndpointState::Available);
    assert_eq!(refusal(connect(world.by(CONSUMER), &service)).0, "InvalidServiceName");
    let own = world.by(PROVIDER).json::<CreateEndpoint>(json!({"service_name": "shop", "vpc": "consumer"})).unwrap();
    assert_eq!(own.state, EndpointState::Available, "one's own account needs no permission");
}

#[test]
fn an_endpoint_that_nobody_answers_for_expires_and_may_still_be_accepted() {
    let (mut world, service) = offered(&["*"]);
    let endpoint = connect(&mut world, &service).unwrap();
    let at = next_unanswered(&world.state).unwrap();
    assert_eq!(at.duration_since(world.now).as_hours(), 7 * 24);
    assert!(expire_unanswered(&world.state, world.now).is_empty());
    let change = expire_unanswered(&world.state, at);
    world.state.apply(&change);
    assert_eq!(world.state.endpoints[&endpoint.id].state, EndpointState::Expired);
    assert_eq!(next_unanswered(&world.state), None);
    let answer = json!({"endpoint_service": "shop", "endpoints": [endpoint.id]});
    assert_eq!(refusal(world.by(PROVIDER).json::<RejectConnections>(answer.clone())).0, "InvalidState");
    assert_eq!(world.json::<AcceptConnections>(answer).unwrap()[0].state, EndpointState::Available);
}

#[test]
fn several_load_balancers_serve_one_service_and_none_goes_while_an_endpoint_is_connected() {
    let mut world = World::published();
    let second = json!({"name": "second", "vpc": "provider", "addresses": ["10.0.0.6"]});
    world.json::<CreateLoadBalancer>(second).unwrap();
    let change = |add: &[&str], remove: &[&str]| json!({"endpoint_service": "shop", "add_load_balancers": add, "remove_load_balancers": remove});
    let service = world.json::<ModifyEndpointService>(change(&["second", "lb"], &[])).unwrap();
    assert_eq!(service.load_balancer_names, ["lb", "second"]);
    assert_eq!(refusal(world.json::<DeleteLoadBalancer>(json!({"load_balancer": "second"}))).0, "ResourceInUse");
    assert_eq!(
        refusal(world.json::<CreateEndpointService>(json!({"load_balancers": ["second"]}))).0,
        "InvalidParameter"
    );
    assert!(refusal(world.json::<ModifyEndpointService>(change(&[], &["second"]))).1.contains("while the endpoint"));
    world.json::<DeleteEndpoint>(json!({"endpoint": "consumer/10.0.0.50"})).unwrap();
    let service = world.json::<ModifyEndpointService>(change(&[], &["lb"])).unwrap();
    assert_eq!(service.load_balancer_names, ["second"]);
    assert!(refusal(world.json::<ModifyEndpointService>(change(&[], &["second"]))).1.starts_with("At least one"));
    assert!(refusal(world.json::<ModifyEndpointService>(change(&[], &["lb"]))).1.contains("is not associated"));
    let none = refusal(world.json::<CreateEndpointService>(json!({"load_balancers": []})));
    assert_eq!(none.1, "exactly one of network_load_balancer_arn or gateway_load_balancer_arn is a required member");
}

#[test]
fn force_rejects_what_is_connected_and_deletes_the_service() {
    let (mut world, service) = offered(&["*"]);
    let ids: BTreeSet<_> = (0..3).map(|_| connect(&mut world, &service).unwrap().id).collect();
    world.by(PROVIDER).json::<DeleteEndpointService>(json!({"endpoint_service": "shop", "force": true})).unwrap();
    for id in ids {
        assert_eq!(world.state.endpoints[&id].state, EndpointState::Rejected);
    }
}

#[test]
fn limits_are_the_services_owners_and_a_new_endpoint_has_the_services() {
    let (mut world, service) = offered(&["*"]);
    let endpoint = connect(&mut world, &service).unwrap();
    let other = connect(&mut world, &service).unwrap();
    let own = json!({"endpoint_service": "shop", "endpoints": [endpoint.id], "limits": {"connections": "none"}});
    // The consumer can name neither the service nor its limits.
    assert_eq!(refusal(world.json::<LimitConnections>(own.clone())).0, "InvalidVpcEndpointServiceId.NotFound");
    let by_consumer = json!({"endpoint": endpoint.id, "limits": {"connections": "none"}});
    assert!(serde_json::from_value::<ModifyEndpoint>(by_consumer).is_err());

    world.by(PROVIDER);
    let limits = json!({"connections": "100", "bits_per_second": "20M"});
    let service = world.json::<ModifyEndpointService>(json!({"endpoint_service": "shop", "limits": limits})).unwrap();
    assert_eq!(service.limits.to_string(), "100 connections, 20M bits a second");
    assert!(service.connections.iter().all(|connection| connection.limits == service.limits));
    world.json::<LimitConnections>(own).unwrap();
    let limits = |world: &World, id: &crate::model::EndpointId| {
        let connections = world.ask(DescribeConnections { endpoint_service: "shop".into() }).unwrap();
        connections.iter().find(|connection| connection.endpoint == *id).unwrap().limits.to_string()
    };
    assert_eq!(limits(&world, &endpoint.id), "20M bits a second");
    assert_eq!(limits(&world, &other.id), "100 connections, 20M bits a second");

    // What the service has changes for all but those that have their own; a change of something else changes no limit.
    let change = json!({"endpoint_service": "shop", "limits": {"bits_per_second": "none"}});
    world.json::<ModifyEndpointService>(change).unwrap();
    world.json::<ModifyEndpointService>(json!({"endpoint_service": "shop", "acceptance_required": false})).unwrap();
    world.json::<AcceptConnections>(json!({"endpoint_service": "shop", "endpoints": [endpoint.id]})).unwrap();
    assert_eq!(limits(&world, &endpoint.id), "none");
    assert_eq!(limits(&world, &other.id), "100 connections");
    let back = json!({"endpoint_service": "shop", "endpoints": [endpoint.id], "limits": {"connections": "default"}});
    world.json::<LimitConnections>(back).unwrap();
    assert_eq!(limits(&world, &endpoint.id), "100 connections");
}

#[test]
fn who_pays_is_the_service_s_owner_s_to_take_over_and_the_endpoint_s_to_take_back() {
    let mut world = World::published();
    let endpoint = world.state.endpoints.keys().next().unwrap().clone();
    let payer = |world: &World| world.state.endpoints[&endpoint].payer;
    let own = |payer: &str| json!({"endpoint": endpoint, "payer": payer});
    assert_eq!(refusal(world.json::<ModifyEndpointPayer>(own("service-owner"))).0, "OperationNotPermitted");
    let by_service = json!({"endpoint_service": "shop", "endpoint": endpoint, "payer": "service-owner"});
    world.json::<ModifyEndpointPayer>(by_service).unwrap();
    assert_eq!(payer(&world), PayerResponsibility::ServiceOwner);
    world.json::<ModifyEndpointPayer>(own("endpoint-owner")).unwrap();
    assert_eq!(payer(&world), PayerResponsibility::EndpointOwner);
    let service = |payer: &str| json!({"endpoint_service": "shop", "payer": payer});
    world.json::<ModifyServicePayer>(service("service-owner")).unwrap();
    assert_eq!(refusal(world.json::<ModifyServicePayer>(service("endpoint-owner"))).0, "InvalidParameter");
    let made = world.json::<CreateEndpoint>(json!({"service_name": "shop", "vpc": "consumer"})).unwrap();
    assert_eq!(made.payer, PayerResponsibility::ServiceOwner);
    assert_eq!(payer(&world), PayerResponsibility::EndpointOwner, "those that there are keep theirs");
}

#[test]
fn an_endpoint_has_an_address_in_each_of_its_subnets_and_keeps_its_policy() {
    use crate::control::subnets::CreateSubnet;
    let mut world = World::published();
    let mut subnets = Vec::new();
    for (number, zone) in ["us-east-1a", "us-east-1b", "us-east-1a"].into_iter().enumerate() {
        let subnet = json!({"vpc": "consumer", "cidr": format!("10.0.{}.0/24", number + 1), "zone": zone});
        subnets.push(world.json::<CreateSubnet>(subnet).unwrap().id);
    }
    let policy = r#"{"Statement":{"Effect":"Deny"}}"#;
    let create = json!({"service_name": "shop", "vpc": "consumer", "policy": policy,
        "subnets": [{"subnet": subnets[0], "address": "10.0.1.77"}, {"subnet": "consumer/10.0.2.0/24"}]});
    let made = world.json::<CreateEndpoint>(create).unwrap();
    let texts: Vec<String> = made.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.1.77", "10.0.2.4"]);
    assert_eq!(made.policy.as_str(), policy);
    let twin = json!({"endpoint": made.id, "add_subnets": [{"subnet": subnets[2]}]});
    assert_eq!(refusal(world.json::<ModifyEndpoint>(twin)).0, "DuplicateSubnetsInSameZone");
    let moved = json!({"endpoint": made.id, "add_subnets": [{"subnet": subnets[2]}], "remove_subnets": [subnets[0]],
        "reset_policy": true});
    let moved = world.json::<ModifyEndpoint>(moved).unwrap();
    let texts: Vec<String> = moved.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.0.2.4", "10.0.3.4"]);
    assert_eq!(moved.policy, Default::default());
    let none = json!({"endpoint": made.id, "remove_subnets": [subnets[1], subnets[2]]});
    assert_eq!(refusal(world.json::<ModifyEndpoint>(none)).0, "InvalidParameter");
    let both = json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.60",
        "subnets": [{"subnet": subnets[0]}]});
    assert_eq!(refusal(world.json::<CreateEndpoint>(both)).0, "InvalidParameterCombination");
}
