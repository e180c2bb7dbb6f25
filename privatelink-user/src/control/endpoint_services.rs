//! Endpoint services.

use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Mutation, Query, Reference, lookup, operation, sorted, view::EndpointServiceView};
use crate::model::{Change, EndpointService, EndpointServiceId, ResourceName, ServiceName, State};

/// Publishes a load balancer. Idempotent for the same load balancer and name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateEndpointService {
    pub load_balancer: Reference,
    /// A short name of this host's own for the service.
    #[serde(default)]
    pub name: Option<ResourceName>,
}
operation!(CreateEndpointService -> EndpointServiceView);

impl Mutation for CreateEndpointService {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointServiceView), ControlError> {
        let Self { load_balancer, name } = self;
        let lb = lookup::load_balancer(state, load_balancer)?;
        if let Some(service) = state.endpoint_services.values().find(|service| service.load_balancer == lb.id) {
            return if service.alias == *name {
                Ok((Change::default(), EndpointServiceView::new(state, service)))
            } else {
                let (load_balancer, service) = (lb.id.clone(), service.id.clone());
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
        let service = EndpointService {
            service_name: ServiceName::new(context.region, &id),
            id,
            owner: context.owner(),
            alias: name.clone(),
            load_balancer: lb.id.clone(),
            created_at: context.now,
        };
        let view = EndpointServiceView::new(state, &service);
        Ok((Change::default().put(service), view))
    }
}

/// Deletes an endpoint service that no endpoint leads to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteEndpointService {
    pub endpoint_service: Reference,
}
operation!(DeleteEndpointService -> ());

impl Mutation for DeleteEndpointService {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let service = lookup::endpoint_service(state, &self.endpoint_service)?;
        let endpoints: Vec<String> = state
            .endpoints
            .values()
            .filter(|endpoint| endpoint.service == service.id)
            .map(|endpoint| endpoint.id.to_string())
            .collect();
        if !endpoints.is_empty() {
            return Err(ControlError::ExistingVpcEndpointConnections { service: service.id.clone(), endpoints });
        }
        Ok((Change::default().remove(service.id.clone()), ()))
    }
}

/// Lists the endpoint services, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribeEndpointServices {
    /// None: all.
    #[serde(default)]
    pub endpoint_services: Option<Vec<Reference>>,
}
operation!(DescribeEndpointServices -> Vec<EndpointServiceView>);

impl Query for DescribeEndpointServices {
    fn answer(&self, state: &State) -> Result<Vec<EndpointServiceView>, ControlError> {
        match &self.endpoint_services {
            None => Ok(sorted(
                state.endpoint_services.values().map(|service| EndpointServiceView::new(state, service)).collect(),
                |service| (service.alias.clone(), service.id.clone()),
            )),
            Some(references) => references
                .iter()
                .map(|reference| {
                    lookup::endpoint_service(state, reference).map(|service| EndpointServiceView::new(state, service))
                })
                .collect(),
        }
    }
}
