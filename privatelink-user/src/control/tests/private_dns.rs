//! Private DNS names: who may have one, and in which order.

use serde_json::json;

use super::*;
use crate::{
    control::{connections::AcceptConnections, private_dns::*},
    model::{PrivateDns, VerificationState},
};

/// What verifying comes to if `found` is at the first place.
fn verify(world: &mut World, found: impl Fn(&PrivateDns) -> Vec<String>) -> VerificationState {
    let request = VerifyDomain { endpoint_service: "shop".into() };
    let (service, private) = request.wanted(&world.state).expect("a private DNS name");
    let name = private.places().first().cloned().expect("a place");
    let places = vec![Place { name, found: found(&private), error: None }];
    let outcome = DomainVerification::new(service, private, places);
    let state = outcome.state;
    world.with_context(|state, context| Ok((outcome.noted(state, context.world), ()))).expect("never refused");
    state
}

fn right(private: &PrivateDns) -> Vec<String> {
    vec!["v=spf1 -all".to_owned(), private.record_value.clone()]
}

fn private_dns(world: &World) -> PrivateDns {
    let service = world.state.endpoint_services.values().next().expect("a service");
    service.private_dns.clone().expect("a private DNS name")
}

fn enable(world: &mut World) -> Result<view::EndpointView, ControlError> {
    world.json::<ModifyEndpoint>(json!({"endpoint": "consumer/10.0.0.50", "private_dns": true}))
}

#[test]
fn private_dns_takes_a_name_then_its_verification_then_acceptance() {
    let mut world = World::published();
    let name = world.state.endpoint_services.values().next().expect("a service").service_name.to_string();
    let not_provided =
        format!("Private DNS can't be enabled because the service {name} does not provide a private DNS name.");
    let not_provided = ("InvalidParameter".to_owned(), not_provided);
    assert_eq!(refusal(enable(&mut world)), not_provided);
    let modify =
        json!({"endpoint_service": "shop", "private_dns_name": "api.example.com", "acceptance_required": true});
    world.json::<ModifyEndpointService>(modify).unwrap();
    assert_eq!(private_dns(&world).state, VerificationState::PendingVerification);
    assert_eq!(refusal(enable(&mut world)), not_provided);
    assert_eq!(verify(&mut world, |private| vec![private.record_value.to_uppercase()]), VerificationState::Failed);
    assert_eq!(refusal(enable(&mut world)), not_provided);
    assert_eq!(verify(&mut world, right), VerificationState::Verified);
    assert_eq!(private_dns(&world).state, VerificationState::Verified);

    let create = json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.60"});
    let second = world.json::<CreateEndpoint>(create).unwrap();
    let before =
        format!("Private DNS can only be enabled after the endpoint connection is accepted by the owner of {name}.");
    let before = ("InvalidParameter".to_owned(), before);
    let modify = json!({"endpoint": second.id, "private_dns": true});
    assert_eq!(refusal(world.json::<ModifyEndpoint>(modify.clone())), before);
    let create = json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.61", "private_dns": true});
    assert_eq!(refusal(world.json::<CreateEndpoint>(create)), before);

    let enabled = enable(&mut world).unwrap();
    assert_eq!(enabled.dns_names.last().map(String::as_str), Some("api.example.com"));
    assert_eq!(enable(&mut world).unwrap(), enabled);

    world.json::<AcceptConnections>(json!({"endpoint_service": "shop", "endpoints": [second.id]})).unwrap();
    let conflict = format!(
        "private-dns-enabled cannot be set because there is already a conflicting DNS domain for api.example.com in the VPC {}",
        second.vpc
    );
    assert_eq!(refusal(world.json::<ModifyEndpoint>(modify.clone())), ("InvalidParameter".to_owned(), conflict));
    world.json::<ModifyEndpoint>(json!({"endpoint": enabled.id, "private_dns": false})).unwrap();
    world.json::<ModifyEndpoint>(modify).unwrap();
}

#[test]
fn another_name_is_verified_anew_and_what_is_enabled_goes_on() {
    let mut world = World::published();
    let name = |name: &str| json!({"endpoint_service": "shop", "private_dns_name": name});
    world.json::<ModifyEndpointService>(name("*.example.com")).unwrap();
    verify(&mut world, right);
    let verified = private_dns(&world);
    enable(&mut world).unwrap();
    world.json::<ModifyEndpointService>(name("*.example.com")).unwrap();
    assert_eq!(private_dns(&world), verified, "the same name stays verified");
    world.json::<ModifyEndpointService>(name("api.example.com")).unwrap();
    let other = private_dns(&world);
    assert_eq!(other.state, VerificationState::PendingVerification);
    assert!(other.record_name != verified.record_name && other.record_value != verified.record_value);
    let described = world.ask(DescribeEndpoints::default()).unwrap();
    assert_eq!(described[0].dns_names.last().map(String::as_str), Some("*.example.com"));
    let remove = json!({"endpoint_service": "shop", "remove_private_dns_name": true});
    world.json::<ModifyEndpointService>(remove).unwrap();
    let request = VerifyDomain { endpoint_service: "shop".into() };
    assert_eq!(refusal(request.wanted(&world.state)).0, "InvalidState");
}

#[test]
fn a_verification_that_was_overtaken_changes_nothing() {
    let mut world = World::published();
    let name = |name: &str| json!({"endpoint_service": "shop", "private_dns_name": name});
    world.json::<ModifyEndpointService>(name("a.example.com")).unwrap();
    let request = VerifyDomain { endpoint_service: "shop".into() };
    let (service, private) = request.wanted(&world.state).unwrap();
    let place = Place { name: "a.example.com".to_owned(), found: right(&private), error: None };
    let outcome = DomainVerification::new(service, private, vec![place]);
    world.json::<ModifyEndpointService>(name("b.example.com")).unwrap();
    assert!(outcome.noted(&world.state, &world.state).is_empty());
}

#[test]
fn a_vpc_without_names_has_no_private_ones() {
    let mut world = World::published();
    let modify = json!({"endpoint_service": "shop", "private_dns_name": "api.example.com"});
    world.json::<ModifyEndpointService>(modify).unwrap();
    verify(&mut world, right);
    let vpc = lookup::vpc(&world.state, &"consumer".into()).unwrap().id.clone();
    for off in ["dns_support", "dns_hostnames"] {
        world.json::<ModifyVpc>(json!({"vpc": "consumer", off: false})).unwrap();
        let text = format!(
            "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for {vpc}"
        );
        assert_eq!(refusal(enable(&mut world)), ("InvalidParameter".to_owned(), text));
        world.json::<ModifyVpc>(json!({"vpc": "consumer", off: true})).unwrap();
    }
    enable(&mut world).unwrap();
}
