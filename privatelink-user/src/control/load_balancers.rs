//! Load balancers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Installed, Mutation, Query, Reference, address, application, ipv6::Ipv6Refusal,
    listeners::with_attributes, lookup, operation, security_groups, sorted, status::LoadBalancerStatus,
    view::LoadBalancerView,
};
use crate::model::{
    Change, InvalidValue, IpFamily, LoadBalancer, LoadBalancerAttributes, LoadBalancerId, LoadBalancerKind,
    ResourceName, Scheme, SecurityGroups, State, by_family,
};

/// Makes a load balancer. Idempotent.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLoadBalancer {
    pub name: ResourceName,
    #[serde(default, rename = "type")]
    pub kind: LoadBalancerKind,
    pub vpc: Reference,
    /// The node addresses; at least one of IPv4. With IPv6 ones it is dualstack.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
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
        let attributes = set_attributes(*kind, LoadBalancerAttributes::defaults(*kind, *scheme), attributes)?;
        let groups = security_groups::resolve(state, &vpc.id, security_groups)?;
        if let Some(lb) = state.load_balancers.values().find(|lb| lb.name == *name) {
            let same = lb.vpc == vpc.id
                && lb.id.kind() == *kind
                && lb.scheme == *scheme
                && lb.attributes == attributes
                && lb.client_facing().collect::<BTreeSet<_>>() == addresses.iter().copied().collect::<BTreeSet<_>>()
                && lb.security_groups.groups == groups;
            return if same {
                Ok((Change::default(), LoadBalancerView::new(state, lb)))
            } else {
                Err(ControlError::DuplicateLoadBalancerName(name.clone()))
            };
        }
        let (own, ipv6_addresses) = by_family(addresses.iter().copied());
        if own.is_empty() {
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
            addresses: own,
            ipv6_addresses,
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

/// `attributes` with the values of `given` set, all of which load balancers of this type must have.
fn set_attributes(
    kind: LoadBalancerKind,
    attributes: LoadBalancerAttributes,
    given: &BTreeMap<String, String>,
) -> Result<LoadBalancerAttributes, InvalidValue> {
    match given.keys().find(|key| !LoadBalancerAttributes::applies(key, kind)) {
        Some(key) => Err(InvalidValue::new(
            "Load balancer attribute key",
            key.as_str(),
            format!("is not supported for load balancers of type {kind}"),
            "leave it out",
        )),
        None => with_attributes(attributes, given),
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
    Ok(Change::replace(lb, changed))
}

/// What gives a load balancer other IPv6 node addresses, or takes them away if nothing needs them. Those that it keeps
/// keep their flows.
pub fn with_ipv6_addresses(
    state: &State,
    world: &State,
    lb: &LoadBalancer,
    addresses: Vec<Ipv6Addr>,
) -> Result<LoadBalancer, ControlError> {
    let vpc = state.vpcs.get(&lb.vpc).ok_or_else(|| ControlError::VpcNotFound(lb.vpc.to_string()))?;
    let mut seen = BTreeSet::new();
    for address in &addresses {
        if !seen.insert(address) {
            return Err(ControlError::AddressTwice((*address).into()));
        }
        if !lb.ipv6_addresses.contains(address) {
            address::check_free(state, vpc, (*address).into())?;
        }
    }
    if addresses.is_empty() && !lb.ipv6_addresses.is_empty() {
        let listeners = state.listeners.values().filter(|listener| listener.load_balancer == lb.id);
        let mut groups = listeners.flat_map(|listener| listener.forward.groups());
        let six = |id: &&_| state.target_groups.get(*id).is_some_and(|group| group.ip_address_type == IpFamily::Ipv6);
        if let Some(group) = groups.find(six) {
            let (load_balancer, target_group) = (lb.id.clone(), group.clone());
            return Err(Ipv6Refusal::InUseByTargets { load_balancer, target_group }.into());
        }
        let services = state.endpoint_services.values().filter(|service| service.load_balancers.contains(&lb.id));
        let used = |service: &&crate::model::EndpointService| {
            let of = world.endpoints.values().filter(|endpoint| endpoint.service == service.id);
            of.into_iter().any(|endpoint| !endpoint.ipv6_addresses.is_empty())
        };
        if let Some(service) = services.into_iter().find(used) {
            let service = service.service_name.clone();
            return Err(Ipv6Refusal::InUseByEndpoints { load_balancer: lb.id.clone(), service }.into());
        }
    }
    Ok(LoadBalancer { ipv6_addresses: addresses, ..lb.clone() })
}

/// Changes a load balancer's attributes and IPv6 addresses.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyLoadBalancer {
    pub load_balancer: Reference,
    /// By key; those that are not given stay as they are.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// None: they stay. An empty list: it has IPv4 addresses only.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    pub ipv6_addresses: Option<Vec<Ipv6Addr>>,
}
operation!(ModifyLoadBalancer -> LoadBalancerView);

impl Mutation for ModifyLoadBalancer {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, LoadBalancerView), ControlError> {
        let lb = lookup::load_balancer(state, &self.load_balancer)?;
        let attributes = set_attributes(lb.id.kind(), lb.attributes.clone(), &self.attributes)?;
        if attributes.secondary_ips < lb.attributes.secondary_ips {
            return Err(ControlError::from(InvalidValue::new(
                "'secondary_ips.auto_assigned.per_subnet' value",
                attributes.secondary_ips.to_string(),
                format!("cannot be decreased from '{}'", lb.attributes.secondary_ips),
                "leave it as it is; another load balancer can begin with fewer",
            )));
        }
        let base = match &self.ipv6_addresses {
            Some(addresses) => with_ipv6_addresses(state, context.world, lb, addresses.clone())?,
            None => lb.clone(),
        };
        let mut changed = LoadBalancer { attributes, ..base };
        if let Some(vpc) = state.vpcs.get(&lb.vpc) {
            changed.secondary_addresses = address::secondary(state, vpc, &changed)?;
        }
        let view = LoadBalancerView::new(state, &changed);
        let change = Change::replace(lb, changed);
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
        let change = Change::replace(lb, changed);
        Ok((change, view))
    }
}

/// Deletes a load balancer and its listeners, unless it is protected or an endpoint service uses it. An ARN that does
/// not exist is no error.
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
        let change = listeners
            .fold(application::without_listeners(state, lb)?, |change, listener| change.remove(listener.id.clone()));
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
