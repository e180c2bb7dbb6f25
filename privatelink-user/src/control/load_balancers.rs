//! Load balancers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Installed, Mutation, Query, Reference, address, listeners::with_attributes, lookup,
    operation, security_groups, sorted, status::LoadBalancerStatus, view::LoadBalancerView,
};
use crate::model::{
    Change, InvalidValue, LoadBalancer, LoadBalancerAttributes, LoadBalancerId, LoadBalancerKind, ResourceName, Scheme,
    SecurityGroups, State,
};

/// Makes a load balancer. Idempotent.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLoadBalancer {
    pub name: ResourceName,
    #[serde(default, rename = "type")]
    pub kind: LoadBalancerKind,
    pub vpc: Reference,
    /// The node addresses; at least one.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Ipv4Addr>,
    /// What it is for; a label.
    #[serde(default)]
    pub scheme: Scheme,
    /// By key; those that are not given have their default.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Groups of the VPC that say who may connect, and where the load balancer may connect to. None: everything.
    #[serde(default)]
    pub security_groups: Vec<Reference>,
}
operation!(CreateLoadBalancer -> LoadBalancerView);

impl Mutation for CreateLoadBalancer {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, LoadBalancerView), ControlError> {
        let Self { name, kind, vpc, addresses, scheme, security_groups, attributes } = self;
        let vpc = lookup::vpc(state, vpc)?;
        let attributes = with_attributes(LoadBalancerAttributes::default(), attributes)?;
        let groups = security_groups::resolve(state, &vpc.id, security_groups)?;
        if let Some(lb) = state.load_balancers.values().find(|lb| lb.name == *name) {
            let same = lb.vpc == vpc.id
                && lb.id.kind() == *kind
                && lb.scheme == *scheme
                && lb.attributes == attributes
                && lb.addresses.iter().collect::<BTreeSet<_>>() == addresses.iter().collect::<BTreeSet<_>>()
                && lb.security_groups.groups == groups;
            return if same {
                Ok((Change::default(), LoadBalancerView::new(state, lb)))
            } else {
                Err(ControlError::DuplicateLoadBalancerName(name.clone()))
            };
        }
        if addresses.is_empty() {
            return Err(ControlError::NodeAddressMissing);
        }
        let mut seen = BTreeSet::new();
        for node in addresses {
            if !seen.insert(node) {
                return Err(ControlError::AddressTwice(*node));
            }
            address::check_free(state, vpc, *node)?;
        }
        let mut lb = LoadBalancer {
            id: LoadBalancerId::generate(*kind, context.region, context.account, name, context.ids),
            name: name.clone(),
            vpc: vpc.id.clone(),
            addresses: addresses.clone(),
            secondary_addresses: Vec::new(),
            scheme: *scheme,
            attributes,
            security_groups: SecurityGroups { groups, applies_to_established: false },
            enforce_on_private_link: true,
            created_at: context.now,
        };
        lb.secondary_addresses = address::secondary(state, vpc, &lb)?;
        let view = LoadBalancerView::new(state, &lb);
        Ok((Change::default().put(lb), view))
    }
}

/// Refuses a load balancer that nothing serves.
pub(super) fn check_served(id: &LoadBalancerId) -> Result<(), ControlError> {
    id.kind()
        .unserved()
        .map_or(Ok(()), |why| Err(ControlError::LoadBalancerNotServed { load_balancer: id.clone(), why }))
}

/// What gives a load balancer other node addresses. Those that it keeps keep their flows.
pub fn with_addresses(state: &State, lb: &LoadBalancer, addresses: Vec<Ipv4Addr>) -> Result<Change, ControlError> {
    if addresses.is_empty() {
        return Err(ControlError::NodeAddressMissing);
    }
    let mut changed = LoadBalancer { addresses, ..lb.clone() };
    if let Some(vpc) = state.vpcs.get(&lb.vpc) {
        changed.secondary_addresses = address::secondary(state, vpc, &changed)?;
    }
    Ok(if changed == *lb { Change::default() } else { Change::default().put(changed) })
}

/// Changes a load balancer's attributes.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyLoadBalancer {
    pub load_balancer: Reference,
    /// By key; those that are not given stay as they are.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
operation!(ModifyLoadBalancer -> LoadBalancerView);

impl Mutation for ModifyLoadBalancer {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, LoadBalancerView), ControlError> {
        let lb = lookup::load_balancer(state, &self.load_balancer)?;
        let attributes = with_attributes(lb.attributes.clone(), &self.attributes)?;
        if attributes.secondary_ips < lb.attributes.secondary_ips {
            return Err(ControlError::from(InvalidValue::new(
                "'secondary_ips.auto_assigned.per_subnet' value",
                attributes.secondary_ips.to_string(),
                format!("cannot be decreased from '{}'", lb.attributes.secondary_ips),
                "leave it as it is; another load balancer can begin with fewer",
            )));
        }
        let mut changed = LoadBalancer { attributes, ..lb.clone() };
        if let Some(vpc) = state.vpcs.get(&lb.vpc) {
            changed.secondary_addresses = address::secondary(state, vpc, &changed)?;
        }
        let view = LoadBalancerView::new(state, &changed);
        let change = if changed == *lb { Change::default() } else { Change::default().put(changed) };
        Ok((change, view))
    }
}

/// Changes a load balancer's security groups.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetSecurityGroups {
    pub load_balancer: Reference,
    /// None: they stay. An empty list: everything may pass.
    #[serde(default)]
    pub security_groups: Option<Vec<Reference>>,
    /// Whether the inbound rules also filter what comes through endpoints. None: as it is.
    #[serde(default)]
    pub enforce_on_private_link: Option<bool>,
    /// End open flows that the new groups do not allow; otherwise they count for new flows only.
    #[serde(default)]
    pub apply_to_established: bool,
}
operation!(SetSecurityGroups -> LoadBalancerView);

impl Mutation for SetSecurityGroups {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, LoadBalancerView), ControlError> {
        let Self { load_balancer, security_groups, enforce_on_private_link, apply_to_established } = self;
        let lb = lookup::load_balancer(state, load_balancer)?;
        let groups = match security_groups {
            Some(references) => security_groups::resolve(state, &lb.vpc, references)?,
            None => lb.security_groups.groups.clone(),
        };
        let changed = LoadBalancer {
            security_groups: SecurityGroups { groups, applies_to_established: *apply_to_established },
            enforce_on_private_link: enforce_on_private_link.unwrap_or(lb.enforce_on_private_link),
            ..lb.clone()
        };
        let view = LoadBalancerView::new(state, &changed);
        let change = if changed == *lb { Change::default() } else { Change::default().put(changed) };
        Ok((change, view))
    }
}

/// Deletes a load balancer and its listeners, unless it is protected or an endpoint service uses it. An ARN that does not
/// exist is no error.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteLoadBalancer {
    pub load_balancer: Reference,
}
operation!(DeleteLoadBalancer -> ());

impl Mutation for DeleteLoadBalancer {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let lb = match lookup::load_balancer(state, &self.load_balancer) {
            Ok(lb) => lb,
            Err(_) if self.load_balancer.as_str().parse::<LoadBalancerId>().is_ok() => {
                return Ok((Change::default(), ()));
            }
            Err(error) => return Err(error),
        };
        if lb.attributes.deletion_protection {
            return Err(ControlError::DeletionProtected(lb.id.clone()));
        }
        if let Some(service) = state.endpoint_services.values().find(|service| service.load_balancers.contains(&lb.id))
        {
            return Err(ControlError::LoadBalancerInUse { load_balancer: lb.id.clone(), service: service.id.clone() });
        }
        let listeners = state.listeners.values().filter(|listener| listener.load_balancer == lb.id);
        let change = listeners.fold(Change::default(), |change, listener| change.remove(listener.id.clone()));
        Ok((change.remove(lb.id.clone()), ()))
    }
}

/// Lists the load balancers, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeLoadBalancers {
    /// None: all.
    #[serde(default)]
    pub load_balancers: Option<Vec<Reference>>,
}
operation!(DescribeLoadBalancers -> Vec<LoadBalancerView>);

impl Query for DescribeLoadBalancers {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<LoadBalancerView>, ControlError> {
        match &self.load_balancers {
            None => {
                Ok(sorted(state.load_balancers.values().map(|lb| LoadBalancerView::new(state, lb)).collect(), |lb| {
                    lb.name.clone()
                }))
            }
            Some(references) => references
                .iter()
                .map(|reference| lookup::load_balancer(state, reference).map(|lb| LoadBalancerView::new(state, lb)))
                .collect(),
        }
    }

    fn settle(answer: &mut Vec<LoadBalancerView>, world: &State, installed: &Installed) -> bool {
        let mut passing = false;
        for view in answer {
            if let Some(lb) = world.load_balancers.get(&view.id) {
                view.state = LoadBalancerStatus::new(installed, lb);
                passing |= view.state.is_passing();
            }
        }
        passing
    }
}
