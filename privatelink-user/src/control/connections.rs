//! Consent: which services an account may lead endpoints to, and the service owner's yes or no to each endpoint.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Installed, Mutation, Query, Reference, endpoints, lookup, operation, private_dns, sorted,
    view::ConnectionView,
};
use crate::model::{
    AccountId, Change, Consent, Endpoint, EndpointId, EndpointService, EndpointServiceId, EndpointState, Identity,
    OwnLimitChange, Owner, Region, ServiceName, State,
};

/// Whether `service` exists for `identity` of `owner`: it is the account's own, or one of its principals admits the
/// caller, and the owner's region is the service's or one that it supports.
pub fn admits(service: &EndpointService, owner: &Owner, identity: &Identity) -> bool {
    let admitted = |principal: &crate::model::Principal| principal.admits(&owner.account, identity);
    service.regions().any(|region| *region == owner.region)
        && (service.owner.account == owner.account || service.principals.iter().any(admitted))
}

/// The service that `reference` means for the caller: one of its own, or another's that admits it, by service name or
/// id; of `service_region`, or without one of the caller's region. What does not admit the caller does not exist for
/// it.
pub fn offered<'a>(
    state: &'a State,
    world: &'a State,
    (account, region, identity): (&AccountId, &Region, &Identity),
    (reference, service_region): (&Reference, Option<&Region>),
) -> Result<&'a EndpointService, ControlError> {
    let service_region = service_region.unwrap_or(region);
    if let (Ok(own), true) = (lookup::endpoint_service(state, reference), service_region == region) {
        return Ok(own);
    }
    let owner = Owner { account: account.clone(), region: region.clone() };
    let text = reference.as_str();
    let by_name = || text.parse::<ServiceName>().ok().map(|name| name.service());
    text.parse::<EndpointServiceId>()
        .ok()
        .or_else(by_name)
        .and_then(|id| world.endpoint_services.get(&id))
        .filter(|service| service.service_name.as_str() == text || service.id.as_str() == text)
        .filter(|service| service.owner.region == *service_region && admits(service, &owner, identity))
        .ok_or_else(|| ControlError::InvalidServiceName(text.to_owned()))
}

/// The endpoints that lead to `service`: its owner's own, as `state` has them, and everybody else's.
pub fn endpoints_of<'a>(
    state: &'a State,
    world: &'a State,
    service: &'a EndpointService,
) -> impl Iterator<Item = &'a Endpoint> {
    let own = state.endpoints.values().filter(|endpoint| endpoint.owner == service.owner);
    let others = world.endpoints.values().filter(|endpoint| endpoint.owner != service.owner);
    own.chain(others).filter(|endpoint| endpoint.service == service.id)
}

/// One of the endpoints that lead to `service`.
pub(super) fn connection<'a>(
    state: &'a State,
    world: &'a State,
    service: &'a EndpointService,
    reference: &Reference,
) -> Result<&'a Endpoint, ControlError> {
    let text = reference.as_str();
    let own = lookup::endpoint(state, reference).ok();
    let foreign = || text.parse::<EndpointId>().ok().and_then(|id| world.endpoints.get(&id));
    own.or_else(foreign)
        .filter(|endpoint| endpoint.service == service.id)
        .ok_or_else(|| ControlError::EndpointNotFound(text.to_owned()))
}

/// Accepts endpoints that lead to a service of the caller: their traffic flows from now on. One that was rejected or
/// has expired may be accepted too; one that is accepted stays so.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptConnections {
    pub endpoint_service: Reference,
    pub endpoints: Vec<Reference>,
}
operation!(AcceptConnections -> Vec<ConnectionView>);

impl Mutation for AcceptConnections {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, Vec<ConnectionView>), ControlError> {
        let Self { endpoint_service, endpoints } = self;
        changed(state, context, endpoint_service, endpoints, |next, service, endpoint| {
            Ok(in_state(next, service, endpoint, endpoint.state.accepted()))
        })
    }
}

/// Rejects endpoints that lead to a service of the caller: their traffic ends at once, that of open flows too.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectConnections {
    pub endpoint_service: Reference,
    pub endpoints: Vec<Reference>,
}
operation!(RejectConnections -> Vec<ConnectionView>);

impl Mutation for RejectConnections {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, Vec<ConnectionView>), ControlError> {
        let Self { endpoint_service, endpoints } = self;
        let rejected = |endpoint: &Endpoint| -> Result<EndpointState, ControlError> {
            endpoint.state.rejected().ok_or_else(|| ControlError::ConnectionState {
                endpoint: endpoint.id.clone(),
                state: endpoint.state,
                verb: "rejected",
            })
        };
        changed(state, context, endpoint_service, endpoints, |next, service, endpoint| {
            Ok(in_state(next, service, endpoint, rejected(endpoint)?))
        })
    }
}

/// Limits what the consumers of endpoints that lead to a service of the caller may use of it, in place of the service's
/// own limits. Open connections stay, those above a limit too; what they send is held to the rate within seconds.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitConnections {
    pub endpoint_service: Reference,
    pub endpoints: Vec<Reference>,
    #[serde(default)]
    pub limits: OwnLimitChange,
}
operation!(LimitConnections -> Vec<ConnectionView>);

impl Mutation for LimitConnections {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, Vec<ConnectionView>), ControlError> {
        let Self { endpoint_service, endpoints, limits } = self;
        changed(state, context, endpoint_service, endpoints, |_, _, endpoint| {
            Ok(Endpoint { limits: endpoint.limits.with(*limits), ..endpoint.clone() })
        })
    }
}

/// Makes of each endpoint, one of those that lead to a service of the caller, what `edit` says.
fn changed(
    state: &State,
    context: &Context<'_>,
    service: &Reference,
    endpoints: &[Reference],
    edit: impl Fn(&mut Cow<'_, State>, &EndpointService, &Endpoint) -> Result<Endpoint, ControlError>,
) -> Result<(Change, Vec<ConnectionView>), ControlError> {
    let service = lookup::endpoint_service(state, service)?;
    if endpoints.is_empty() {
        return Err(ControlError::EndpointMissing);
    }
    let mut change = Change::default();
    let mut views = Vec::new();
    let mut next = Cow::Borrowed(context.world);
    for reference in endpoints {
        let endpoint = connection(state, context.world, service, reference)?;
        let edited = edit(&mut next, service, endpoint)?;
        views.push(ConnectionView::new(service, &edited));
        if edited != *endpoint {
            change = change.put(edited);
        }
    }
    Ok((change, views))
}

/// `endpoint` in `endpoint_state`; it answers for the private DNS name of `service` from now on if it has waited for
/// that. `next` is the world after the answers so far: one endpoint of a VPC can have the name.
fn in_state(
    next: &mut Cow<'_, State>,
    service: &EndpointService,
    endpoint: &Endpoint,
    endpoint_state: EndpointState,
) -> Endpoint {
    let before = Endpoint { state: endpoint_state, ..endpoint.clone() };
    let answered = private_dns::when_possible(next, service, before);
    if answered.private_dns != endpoint.private_dns {
        next.to_mut().put(answered.clone().into());
    }
    answered
}

/// What the lists of `service` say about the endpoints that there are. Those that wait are answered; those that have an
/// answer get another one only if they are to be `reconciled`.
pub fn by_lists(state: &State, world: &State, service: &EndpointService, reconciled: bool) -> Change {
    let mut next = Cow::Borrowed(world);
    let mut change = Change::default();
    for endpoint in endpoints_of(state, world, service) {
        let open = reconciled || endpoint.state == EndpointState::PendingAcceptance;
        let answer = match service.consumers.answer(&endpoint.owner.account, &endpoint.id) {
            Consent::Accept if open => Some(endpoint.state.accepted()),
            Consent::Reject if open => endpoint.state.rejected(),
            Consent::Accept | Consent::Reject | Consent::Ask => None,
        };
        if let Some(answer) = answer.filter(|answer| *answer != endpoint.state) {
            change = change.put(in_state(&mut next, service, endpoint, answer));
        }
    }
    change
}

/// Lists the endpoints of all accounts that lead to a service of the caller.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeConnections {
    pub endpoint_service: Reference,
}
operation!(DescribeConnections -> Vec<ConnectionView>);

impl Query for DescribeConnections {
    fn answer(&self, state: &State, world: &State) -> Result<Vec<ConnectionView>, ControlError> {
        let service = lookup::endpoint_service(state, &self.endpoint_service)?;
        let view = |endpoint: &Endpoint| ConnectionView::new(service, endpoint);
        let views = endpoints_of(state, world, service).map(view).collect();
        Ok(sorted(views, |connection: &ConnectionView| (connection.created_at, connection.endpoint.clone())))
    }

    fn settle(answer: &mut Vec<ConnectionView>, world: &State, installed: &Installed) -> bool {
        endpoints::settle(answer.iter_mut().map(|view| (&view.endpoint, &mut view.state)), world, installed)
    }
}
