//! Endpoint services.

use std::{borrow::Cow, collections::BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Installed, Mutation, Query, Reference,
    connections::{self, endpoints_of},
    endpoints,
    ipv6::Ipv6Refusal,
    load_balancers, lookup, operation, private_dns, publish, regions, sorted,
    status::ServiceStatus,
    view::EndpointServiceView,
};
use crate::model::{
    Change, ConsumerLists, ConsumerPattern, Endpoint, EndpointService, EndpointServiceId, EndpointState, LimitChange,
    Limits, LoadBalancerId, PayerResponsibility, Principal, PrivateDnsName, Region, ResourceName, ServiceName, State,
};

/// Publishes load balancers. Idempotent for the same load balancers and name.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEndpointService {
    /// At least one; where two have a listener on the same port, the first one's is used.
    pub load_balancers: Vec<Reference>,
    /// A short name of this host's own for the service.
    #[serde(default)]
    pub name: Option<ResourceName>,
    /// Whether an endpoint waits for its acceptance.
    #[serde(default)]
    pub acceptance_required: bool,
    /// Who may make endpoints, besides the caller's own account.
    #[serde(default)]
    pub principals: Vec<Principal>,
    /// By which consumers may reach their endpoints, once it is verified.
    #[serde(default)]
    pub private_dns_name: Option<PrivateDnsName>,
    /// Whose endpoints are accepted or rejected without asking.
    #[serde(default)]
    pub consumers: ConsumerLists,
    /// Let endpoints have IPv4 addresses only, also where every load balancer has IPv6 ones.
    #[serde(default)]
    pub ipv4_only: bool,
    /// Other regions in which endpoints may be made.
    #[serde(default)]
    pub supported_regions: BTreeSet<Region>,
}
operation!(CreateEndpointService -> EndpointServiceView);

impl Mutation for CreateEndpointService {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointServiceView), ControlError> {
        let Self {
            load_balancers,
            name,
            acceptance_required,
            principals,
            private_dns_name,
            consumers,
            ipv4_only,
            supported_regions,
        } = self;
        let ids = load_balancer_ids(state, load_balancers)?;
        if ids.is_empty() {
            return Err(ControlError::ServiceWithoutLoadBalancer);
        }
        if let Some((lb, service)) = ids.iter().find_map(|lb| Some((lb, service_of(state, lb)?))) {
            let private_dns = service.private_dns.as_ref().map(|private| &private.name);
            let same_name = private_dns_name.is_none() || private_dns == private_dns_name.as_ref();
            return if service.alias == *name && service.load_balancers == ids && same_name {
                Ok((Change::default(), EndpointServiceView::new(state, context.world, service)))
            } else {
                let (load_balancer, service) = (lb.clone(), service.id.clone());
                Err(ControlError::LoadBalancerAssociated { load_balancer, service })
            };
        }
        if let Some(alias) = name {
            let named = |service: &&EndpointService| service.alias.as_ref() == Some(alias);
            if let Some(service) = state.endpoint_services.values().find(named) {
                return Err(ControlError::DuplicateServiceAlias { alias: alias.clone(), service: service.id.clone() });
            }
        }
        let id = EndpointServiceId::generate(context.ids);
        let mut service = EndpointService {
            service_name: ServiceName::new(context.region, &id),
            id,
            owner: context.owner(),
            alias: name.clone(),
            load_balancers: ids,
            zones: BTreeSet::new(),
            supported_regions: supported_regions.iter().filter(|region| *region != context.region).cloned().collect(),
            ipv4_only: *ipv4_only,
            acceptance_required: *acceptance_required,
            principals: principals.iter().cloned().collect(),
            consumers: consumers.clone(),
            owned_load_balancer: None,
            private_dns: None,
            limits: Limits::default(),
            payer: PayerResponsibility::default(),
            created_at: context.now,
        };
        service.private_dns = private_dns_name.as_ref().map(|name| private_dns::named(&service, name, context));
        service.zones = state.zones_of(&service);
        regions::check_service(state, &service)?;
        let view = EndpointServiceView::new(state, context.world, &service);
        Ok((Change::default().put(service), view))
    }
}

/// The load balancers, each once, in order.
fn load_balancer_ids(state: &State, references: &[Reference]) -> Result<Vec<LoadBalancerId>, ControlError> {
    let mut seen = BTreeSet::new();
    let served = |reference: &Reference| {
        let id = lookup::load_balancer(state, reference)?.id.clone();
        load_balancers::check_served(&id).map(|()| id)
    };
    let ids: Result<Vec<LoadBalancerId>, ControlError> = references.iter().map(served).collect();
    ids.map(|ids| ids.into_iter().filter(|id| seen.insert(id.clone())).collect())
}

fn service_of<'a>(state: &'a State, lb: &LoadBalancerId) -> Option<&'a EndpointService> {
    state.endpoint_services.values().find(|service| service.load_balancers.contains(lb))
}

/// Changes a service. Endpoints that there are keep their state. Whatever else it changes, the service is from then on
/// in the zones in which its load balancers have addresses.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyEndpointService {
    pub endpoint_service: Reference,
    #[serde(default)]
    pub acceptance_required: Option<bool>,
    #[serde(default)]
    pub add_load_balancers: Vec<Reference>,
    /// Refused while endpoints are connected.
    #[serde(default)]
    pub remove_load_balancers: Vec<Reference>,
    /// Another name has to be verified anew.
    #[serde(default)]
    pub private_dns_name: Option<PrivateDnsName>,
    #[serde(default)]
    pub remove_private_dns_name: bool,
    /// Whether endpoints may have IPv4 addresses only; refused while one has an IPv6 address. None: as it is.
    #[serde(default)]
    pub ipv4_only: Option<bool>,
    /// Further regions in which endpoints may be made.
    #[serde(default)]
    pub add_supported_regions: BTreeSet<Region>,
    /// Regions in which none may be made from now on; those that are there stay. Not the service's own.
    #[serde(default)]
    pub remove_supported_regions: BTreeSet<Region>,
    /// Of each endpoint that has none of its own.
    #[serde(default)]
    pub limits: LimitChange,
    /// Whose endpoints are accepted without asking, instead of the present list. Endpoints that wait are answered by
    /// the new lists.
    #[serde(default)]
    pub accept: Option<BTreeSet<ConsumerPattern>>,
    /// Whose are rejected, instead of the present list.
    #[serde(default)]
    pub reject: Option<BTreeSet<ConsumerPattern>>,
    /// Let the lists also change the answers that endpoints already have.
    #[serde(default)]
    pub reconcile_connections: bool,
}
operation!(ModifyEndpointService -> EndpointServiceView);

impl Mutation for ModifyEndpointService {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointServiceView), ControlError> {
        let Self {
            endpoint_service,
            acceptance_required,
            add_load_balancers,
            remove_load_balancers,
            private_dns_name,
            remove_private_dns_name,
            ipv4_only,
            add_supported_regions,
            remove_supported_regions,
            limits,
            accept,
            reject,
            reconcile_connections,
        } = self;
        let service = lookup::endpoint_service(state, endpoint_service)?;
        let mut changed = service.clone();
        changed.acceptance_required = acceptance_required.unwrap_or(changed.acceptance_required);
        changed.limits = changed.limits.with(*limits);
        if *remove_private_dns_name {
            changed.private_dns = None;
        }
        if let Some(name) = private_dns_name {
            changed.private_dns = Some(private_dns::named(&changed, name, context));
        }
        for id in load_balancer_ids(state, add_load_balancers)? {
            match service_of(state, &id) {
                Some(other) if other.id != service.id => {
                    let (load_balancer, service) = (id, other.id.clone());
                    return Err(ControlError::LoadBalancerAssociated { load_balancer, service });
                }
                Some(_) => {}
                None => changed.load_balancers.push(id),
            }
        }
        for id in load_balancer_ids(state, remove_load_balancers)? {
            let service = service.id.clone();
            if !changed.load_balancers.contains(&id) {
                return Err(ControlError::LoadBalancerNotAssociated { load_balancer: id, service });
            }
            let endpoints = held_by(state, context.world, &changed);
            if !endpoints.is_empty() {
                return Err(ControlError::LoadBalancerConnected { load_balancer: id, service, endpoints });
            }
            changed.load_balancers.retain(|lb| *lb != id);
            changed.owned_load_balancer = changed.owned_load_balancer.filter(|owned| *owned != id);
        }
        if changed.load_balancers.is_empty() {
            return Err(ControlError::LastLoadBalancer(service.id.clone()));
        }
        changed.zones = state.zones_of(&changed);
        regions::change(&mut changed, add_supported_regions, remove_supported_regions)?;
        regions::check_service(state, &changed)?;
        changed.ipv4_only = ipv4_only.unwrap_or(changed.ipv4_only);
        let has_ipv6 = |endpoint: &Endpoint| !endpoint.ipv6_addresses.is_empty();
        if changed.ipv4_only && !service.ipv4_only && endpoints_of(state, context.world, service).any(has_ipv6) {
            return Err(Ipv6Refusal::OfferedToEndpoints(service.service_name.clone()).into());
        }
        changed.consumers.accept = accept.clone().unwrap_or(changed.consumers.accept);
        changed.consumers.reject = reject.clone().unwrap_or(changed.consumers.reject);
        let answers = if *reconcile_connections || accept.is_some() || reject.is_some() {
            connections::by_lists(state, context.world, &changed, *reconcile_connections)
        } else {
            Change::default()
        };
        let mut next = Cow::Borrowed(state);
        let mut world = Cow::Borrowed(context.world);
        if !answers.is_empty() {
            next.to_mut().apply(&answers);
            world.to_mut().apply(&answers);
        }
        let view = EndpointServiceView::new(&next, &world, &changed);
        let change = Change::replace(service, changed);
        Ok((change.then(answers), view))
    }
}

/// The endpoints that keep a service, or a load balancer of it, from going.
fn held_by(state: &State, world: &State, service: &EndpointService) -> Vec<String> {
    endpoints_of(state, world, service)
        .filter(|endpoint| endpoint.state.holds_service())
        .map(|endpoint| endpoint.id.to_string())
        .collect()
}

/// Deletes an endpoint service to which no endpoint is connected, with the load balancer that was made with it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteEndpointService {
    pub endpoint_service: Reference,
    /// Reject what is connected first.
    #[serde(default)]
    pub force: bool,
}
operation!(DeleteEndpointService -> ());

impl Mutation for DeleteEndpointService {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let service = lookup::endpoint_service(state, &self.endpoint_service)?;
        if let Some(link) = state.links.values().find(|link| link.has_service(&service.id)) {
            let what = format!("The endpoint service '{}'", service.id);
            return Err(ControlError::PartOfLink { what, link: link.name.clone() });
        }
        let endpoints = held_by(state, context.world, service);
        if !endpoints.is_empty() && !self.force {
            return Err(ControlError::ExistingVpcEndpointConnections { service: service.id.clone(), endpoints });
        }
        let rejected = endpoints_of(state, context.world, service)
            .filter(|endpoint| endpoint.state.holds_service())
            .map(|endpoint| Endpoint { state: EndpointState::Rejected, ..endpoint.clone() })
            .fold(Change::default(), Change::put);
        Ok((rejected.remove(service.id.clone()).then(publish::unmade(state, service)), ()))
    }
}

/// Lets the service's owner pay for new endpoints, for good.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyServicePayer {
    pub endpoint_service: Reference,
    pub payer: PayerResponsibility,
}
operation!(ModifyServicePayer -> EndpointServiceView);

impl Mutation for ModifyServicePayer {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointServiceView), ControlError> {
        let Self { endpoint_service, payer } = self;
        let service = lookup::endpoint_service(state, endpoint_service)?;
        let changed = match (service.payer, *payer) {
            (PayerResponsibility::ServiceOwner, PayerResponsibility::EndpointOwner) => {
                return Err(ControlError::PayerStays(service.id.clone()));
            }
            (PayerResponsibility::EndpointOwner | PayerResponsibility::ServiceOwner, payer) => {
                EndpointService { payer, ..service.clone() }
            }
        };
        let view = EndpointServiceView::new(state, context.world, &changed);
        let change = Change::replace(service, changed);
        Ok((change, view))
    }
}

/// Lists the endpoint services, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeEndpointServices {
    /// None: all.
    #[serde(default)]
    pub endpoint_services: Option<Vec<Reference>>,
}
operation!(DescribeEndpointServices -> Vec<EndpointServiceView>);

impl Query for DescribeEndpointServices {
    fn answer(&self, state: &State, world: &State) -> Result<Vec<EndpointServiceView>, ControlError> {
        let view = |service: &EndpointService| EndpointServiceView::new(state, world, service);
        match &self.endpoint_services {
            None => Ok(sorted(state.endpoint_services.values().map(view).collect(), |service| {
                (service.alias.clone(), service.id.clone())
            })),
            Some(references) => {
                references.iter().map(|reference| lookup::endpoint_service(state, reference).map(view)).collect()
            }
        }
    }

    fn settle(answer: &mut Vec<EndpointServiceView>, world: &State, installed: &Installed) -> bool {
        let mut passing = false;
        for view in answer {
            let connections = view.connections.iter_mut().map(|view| (&view.endpoint, &mut view.state));
            passing |= endpoints::settle(connections, world, installed);
            if let Some(service) = world.endpoint_services.get(&view.id) {
                view.state = ServiceStatus::new(world, installed, service);
                passing |= view.state.is_passing();
            }
        }
        passing
    }
}
