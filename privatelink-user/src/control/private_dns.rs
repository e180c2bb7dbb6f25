//! Private DNS names: which a service has, whether it is verified, and which endpoints answer for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Reference, lookup, operation};
use crate::model::{
    Change, Endpoint, EndpointId, EndpointService, EndpointServiceId, EndpointState, PrivateDns, PrivateDnsName, State,
    VerificationState, Vpc, VpcId,
};

/// Asks DNS for the TXT record that shows that a service's private DNS name is its owner's, and notes what came of it.
/// A name that was verified and is not any more keeps the endpoints that answer for it; no others may.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyDomain {
    pub endpoint_service: Reference,
}
operation!(VerifyDomain -> DomainVerification);

/// What was asked, and what came back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DomainVerification {
    pub endpoint_service: EndpointServiceId,
    pub name: PrivateDnsName,
    pub state: VerificationState,
    /// The TXT record that is wanted, at one of the places.
    pub record_value: String,
    /// Whether it is there. A name that was verified stays so if a place could not be asked: a resolver that is away
    /// has lost no record.
    pub found: bool,
    /// The record's name below a domain and the domain itself, from the name's own domain up.
    pub places: Vec<Place>,
}

/// One name that was asked for TXT records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Place {
    pub name: String,
    /// The values of its TXT records.
    pub found: Vec<String>,
    /// Why there are none.
    pub error: Option<String>,
}

impl VerifyDomain {
    /// The service and its private DNS name, which it must have.
    pub fn wanted(&self, state: &State) -> Result<(EndpointServiceId, PrivateDns), ControlError> {
        let service = lookup::endpoint_service(state, &self.endpoint_service)?;
        let private = service.private_dns.clone();
        private
            .map(|private| (service.id.clone(), private))
            .ok_or_else(|| ControlError::NoPrivateDns(service.id.clone()))
    }
}

impl DomainVerification {
    /// What `places` say about `private`. The value counts in its exact case.
    pub fn new(endpoint_service: EndpointServiceId, private: PrivateDns, places: Vec<Place>) -> Self {
        let PrivateDns { name, state, record_name: _, record_value } = private;
        let found = places.iter().any(|place| place.found.contains(&record_value));
        let all_asked = places.iter().all(|place| place.error.is_none());
        let state = match state {
            _ if found => VerificationState::Verified,
            VerificationState::Verified if !all_asked => VerificationState::Verified,
            VerificationState::PendingVerification | VerificationState::Verified | VerificationState::Failed => {
                VerificationState::Failed
            }
        };
        Self { endpoint_service, name, state, record_value, found, places }
    }

    /// Notes the outcome, unless the name has changed in the meantime. Endpoints that have waited for the name answer
    /// for it.
    pub fn noted(&self, state: &State, world: &State) -> Change {
        let service = state.endpoint_services.get(&self.endpoint_service);
        let Some((service, private)) = service.and_then(|service| Some((service, service.private_dns.as_ref()?)))
        else {
            return Change::default();
        };
        if private.record_value != self.record_value || private.state == self.state {
            return Change::default();
        }
        let private_dns = Some(PrivateDns { state: self.state, ..private.clone() });
        let service = EndpointService { private_dns, ..service.clone() };
        Change::default().put(service.clone()).then(waiting(world, &service))
    }
}

/// The names that are asked for again and again: those that were asked for once. A loss turns a verified one back, a
/// record that comes (back) is found.
pub fn to_recheck(state: &State) -> Vec<(EndpointServiceId, PrivateDns)> {
    let asked = |private: &&PrivateDns| match private.state {
        VerificationState::Verified | VerificationState::Failed => true,
        VerificationState::PendingVerification => false,
    };
    let services = state.endpoint_services.values();
    services
        .filter_map(|service| Some((service.id.clone(), service.private_dns.as_ref().filter(asked)?.clone())))
        .collect()
}

/// The private DNS of `service` from now on: `name`, unverified; the present one if it has that name already.
pub fn named(service: &EndpointService, name: &PrivateDnsName, context: &mut Context<'_>) -> PrivateDns {
    match &service.private_dns {
        Some(present) if present.name == *name => present.clone(),
        Some(_) | None => PrivateDns::new(&service.id, name.clone(), &context.ids.hex(16)),
    }
}

/// The name for which an endpoint of `service` answers from now on, if it does.
pub fn answered(service: &EndpointService, enabled: bool) -> Option<PrivateDnsName> {
    service.private_dns.as_ref().filter(|_| enabled).map(|private| private.name.clone())
}

/// `endpoint`, which answers for the name of its `service` from now on if it is to do so as soon as it can, and it can.
pub fn when_possible(state: &State, service: &EndpointService, endpoint: Endpoint) -> Endpoint {
    let wanted = endpoint.private_dns_on_acceptance && endpoint.private_dns.is_none();
    if wanted && check(state, service, &endpoint.vpc, Some(&endpoint.id), endpoint.state).is_ok() {
        return Endpoint { private_dns: answered(service, true), ..endpoint };
    }
    endpoint
}

/// The endpoints of all accounts in `world` that lead to `service` and have waited for its name: one a VPC can answer
/// for it.
pub fn waiting(world: &State, service: &EndpointService) -> Change {
    let mut vpcs = BTreeSet::new();
    world
        .endpoints
        .values()
        .filter(|endpoint| endpoint.service == service.id)
        .map(|endpoint| (endpoint, when_possible(world, service, endpoint.clone())))
        .filter(|(before, after)| *before != after && vpcs.insert(&before.vpc))
        .map(|(_, after)| after)
        .fold(Change::default(), Change::put)
}

/// Refuses private DNS for an endpoint in `vpc` that is in `endpoint_state`, unless the service provides a verified
/// name, the VPC has names at all, the owner has accepted the endpoint, and no other endpoint of the VPC answers for
/// the name.
pub fn check(
    state: &State,
    service: &EndpointService,
    vpc: &VpcId,
    endpoint: Option<&EndpointId>,
    endpoint_state: EndpointState,
) -> Result<(), ControlError> {
    let verified = |private: &&PrivateDns| private.state == VerificationState::Verified;
    let Some(private) = service.private_dns.as_ref().filter(verified) else {
        return Err(ControlError::PrivateDnsNotProvided(service.service_name.clone()));
    };
    let named = |vpc: &Vpc| vpc.attributes.dns_support && vpc.attributes.dns_hostnames;
    if !state.vpcs.get(vpc).is_some_and(named) {
        return Err(ControlError::PrivateDnsVpcAttributes(vpc.clone()));
    }
    if endpoint_state != EndpointState::Available {
        return Err(ControlError::PrivateDnsBeforeAcceptance(service.service_name.clone()));
    }
    let answers = |other: &&Endpoint| {
        other.vpc == *vpc && Some(&other.id) != endpoint && other.private_dns.as_ref() == Some(&private.name)
    };
    match state.endpoints.values().find(answers) {
        None => Ok(()),
        Some(other) => Err(ControlError::PrivateDnsConflict {
            name: private.name.clone(),
            vpc: vpc.clone(),
            endpoint: other.id.clone(),
        }),
    }
}
