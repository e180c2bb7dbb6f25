//! Gateway endpoints ([`GatewayEndpoint`]).

use std::collections::BTreeSet;

use super::{Context, ControlError, Reference, lookup};
use crate::model::{Change, EndpointId, GatewayEndpoint, GatewayService, PolicyDocument, RouteTableId, State, VpcId};

/// What a gateway endpoint is to be.
#[derive(Debug, Clone)]
pub struct CreateGatewayEndpoint {
    pub vpc: Reference,
    pub service: GatewayService,
    pub route_tables: Vec<Reference>,
    pub policy: Option<PolicyDocument>,
}

impl CreateGatewayEndpoint {
    /// Makes it; each call makes another one, but a route table has one route to a service.
    pub fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointId), ControlError> {
        let Self { vpc, service, route_tables, policy } = self;
        let vpc = lookup::vpc(state, vpc)?;
        let id = EndpointId::generate(context.ids);
        let endpoint = GatewayEndpoint {
            route_tables: tables(state, context, &vpc.id, (&id, *service), route_tables)?,
            id: id.clone(),
            vpc: vpc.id.clone(),
            service: *service,
            policy: policy.clone(),
            created_at: context.now,
        };
        Ok((Change::default().put(endpoint), id))
    }
}

/// What changes about a gateway endpoint; what is not given stays.
#[derive(Debug, Clone, Default)]
pub struct ModifyGatewayEndpoint {
    pub add_route_tables: Vec<Reference>,
    pub remove_route_tables: Vec<Reference>,
    pub policy: Option<PolicyDocument>,
    pub reset_policy: bool,
}

impl ModifyGatewayEndpoint {
    pub fn decide(
        &self,
        state: &State,
        context: &Context<'_>,
        endpoint: &GatewayEndpoint,
    ) -> Result<Change, ControlError> {
        let Self { add_route_tables, remove_route_tables, policy, reset_policy } = self;
        let mut changed = endpoint.clone();
        for reference in remove_route_tables {
            changed.route_tables.remove(&lookup::route_table(state, reference)?.id);
        }
        let is = (&endpoint.id, endpoint.service);
        changed.route_tables.extend(tables(state, context, &endpoint.vpc, is, add_route_tables)?);
        changed.policy = if *reset_policy { None } else { changed.policy };
        changed.policy = policy.clone().or(changed.policy);
        Ok(Change::replace(endpoint, changed))
    }
}

/// Route tables of `vpc` that no other gateway endpoint to the same service has a route in.
fn tables(
    state: &State,
    context: &Context<'_>,
    vpc: &VpcId,
    (id, service): (&EndpointId, GatewayService),
    references: &[Reference],
) -> Result<BTreeSet<RouteTableId>, ControlError> {
    let mut found = BTreeSet::new();
    for reference in references {
        let table = lookup::route_table(state, reference)?;
        if table.vpc != *vpc {
            let (route_table, other) = (table.id.clone(), format!("vpc {vpc}"));
            return Err(ControlError::RouteTableOfOtherVpc { route_table, other });
        }
        let mut others = state.gateway_endpoints.values().filter(|other| other.service == service && other.id != *id);
        if others.any(|other| other.route_tables.contains(&table.id)) {
            let (route_table, prefix_list) = (table.id.clone(), service.prefix_list(context.region));
            return Err(ControlError::GatewayRouteExists { route_table, prefix_list });
        }
        found.insert(table.id.clone());
    }
    Ok(found)
}
