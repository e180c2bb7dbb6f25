//! Instances: hosts that are registered under a name.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference, address, lookup, operation, security_groups, sorted, subnets,
    tags,
    view::{self, InstanceView},
};
use crate::model::{
    Change, Instance, InstanceId, InstanceLabel, InstanceState, Key, ResourceName, State, Target, TargetGroup, Vpc,
};

/// Registers a host as an instance. Idempotent by name: what is given must be what the instance of that name has.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterInstance {
    /// None: the digits of its id.
    #[serde(default)]
    pub name: Option<ResourceName>,
    /// None: the subnet's.
    #[serde(default)]
    pub vpc: Option<Reference>,
    /// None: the addresses may be any of the VPC's.
    #[serde(default)]
    pub subnet: Option<Reference>,
    /// The primary one first. None: the first free one; the host has to be given it.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Ipv4Addr>,
    #[serde(default)]
    pub security_groups: Vec<Reference>,
    #[serde(default)]
    pub image_id: Option<InstanceLabel>,
    #[serde(default)]
    pub instance_type: Option<InstanceLabel>,
}
operation!(RegisterInstance -> InstanceView);

impl Mutation for RegisterInstance {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, InstanceView), ControlError> {
        let Self { name, vpc, subnet, addresses, security_groups, image_id, instance_type } = self;
        let subnet = subnet.as_ref().map(|reference| subnets::find(state, reference)).transpose()?;
        let vpc = match (vpc, subnet) {
            (Some(vpc), None) => lookup::vpc(state, vpc)?,
            (Some(vpc), Some(subnet)) => Some(lookup::vpc(state, vpc)?)
                .filter(|vpc| vpc.id == subnet.vpc)
                .ok_or_else(|| ControlError::SubnetNotFound(subnet.id.to_string()))?,
            (None, Some(subnet)) => {
                state.vpcs.get(&subnet.vpc).ok_or_else(|| ControlError::VpcNotFound(subnet.vpc.to_string()))?
            }
            (None, None) => return Err(ControlError::SubnetMissing),
        };
        let security_groups = security_groups::resolve(state, &vpc.id, security_groups)?;
        let named = |name: &ResourceName| {
            state.instances.values().find(|instance| instance.is_alive() && instance.name == *name)
        };
        if let Some((name, present)) = name.as_ref().and_then(|name| Some((name, named(name)?))) {
            let same = present.vpc == vpc.id
                && (addresses.is_empty() || present.addresses().eq(addresses.iter().copied()))
                && present.security_groups == security_groups;
            return if same {
                Ok((Change::default(), InstanceView::new(state, present)))
            } else {
                Err(ControlError::DuplicateInstance(name.clone()))
            };
        }
        let mut given = BTreeSet::new();
        for address in addresses {
            if !given.insert(*address) {
                return Err(ControlError::AddressTwice((*address).into()));
            }
            if let Some(subnet) = subnet {
                let (address, cidr) = (IpAddr::V4(*address), subnet.cidr.net().into());
                if !subnet.contains(address) {
                    return Err(ControlError::AddressOutsideSubnet { address, cidr });
                }
                address::check_not_reserved(subnet, address)?;
            }
            check_host(state, vpc, *address)?;
        }
        let (address, further_addresses) = match (addresses.split_first(), subnet) {
            (Some((first, further)), _) => (*first, further.to_vec()),
            (None, Some(subnet)) => (subnets::first_free(state, subnet, &BTreeSet::new())?, Vec::new()),
            (None, None) => (address::first_free(state, vpc)?, Vec::new()),
        };
        let id = InstanceId::generate(context.ids);
        let name = match name {
            Some(name) => name.clone(),
            None => id.as_str().trim_start_matches("i-").parse()?,
        };
        let instance = Instance {
            id,
            name,
            vpc: vpc.id.clone(),
            address,
            further_addresses,
            state: InstanceState::Running,
            security_groups,
            image_id: image_id.clone(),
            instance_type: instance_type.clone(),
            created_at: context.now,
        };
        let view = InstanceView::new(state, &instance);
        Ok((Change::default().put(instance), view))
    }
}

/// Refuses an address that is not a host's of the VPC, or that something else than a target or the gateway has: a host
/// may serve and route before it has a name.
fn check_host(state: &State, vpc: &Vpc, address: Ipv4Addr) -> Result<(), ControlError> {
    use crate::model::AddressUse;
    let address = IpAddr::V4(address);
    address::check_inside(vpc, address)?;
    let taken = |by: &AddressUse| match by {
        AddressUse::Node(_) | AddressUse::Endpoint(_) | AddressUse::Instance(_) => true,
        AddressUse::Gateway(_) | AddressUse::Target(_) => false,
    };
    match state.address_uses(&vpc.id).find(|(used, by)| *used == address && taken(by)) {
        Some((_, by)) => Err(ControlError::AddressInUse { address, by }),
        None => Ok(()),
    }
}

/// Changes the security groups that an instance carries.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyInstance {
    pub instance: Reference,
    pub security_groups: Vec<Reference>,
}
operation!(ModifyInstance -> InstanceView);

impl Mutation for ModifyInstance {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, InstanceView), ControlError> {
        let Self { instance, security_groups } = self;
        let present = alive(state, instance, "modified")?;
        let security_groups = security_groups::resolve(state, &present.vpc, security_groups)?;
        let changed = Instance { security_groups, ..present.clone() };
        let view = InstanceView::new(state, &changed);
        let change = Change::replace(present, changed);
        Ok((change, view))
    }
}

/// An instance before and after an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InstanceTransition {
    pub id: InstanceId,
    pub name: ResourceName,
    pub previous: InstanceState,
    pub current: InstanceState,
}

/// Lets stopped instances take traffic again.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartInstances {
    pub instances: Vec<Reference>,
}
operation!(StartInstances -> Vec<InstanceTransition>);

impl Mutation for StartInstances {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, Vec<InstanceTransition>), ControlError> {
        transition(state, &self.instances, |_, instance| match instance.state {
            InstanceState::Running | InstanceState::Stopped => Ok((InstanceState::Running, Change::default())),
            InstanceState::Terminated { at: _ } => Err(wrong_state(instance, "started")),
        })
    }
}

/// Takes instances out of service: they stay registered, take no traffic, and their flows end.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StopInstances {
    pub instances: Vec<Reference>,
}
operation!(StopInstances -> Vec<InstanceTransition>);

impl Mutation for StopInstances {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, Vec<InstanceTransition>), ControlError> {
        transition(state, &self.instances, |_, instance| match instance.state {
            InstanceState::Running | InstanceState::Stopped => Ok((InstanceState::Stopped, Change::default())),
            InstanceState::Terminated { at: _ } => Err(wrong_state(instance, "stopped")),
        })
    }
}

/// Takes instances out of the records: their names and addresses are free. One that is a registered target stays,
/// unless `force` deregisters it; it drains then. One that is gone already stays gone.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeregisterInstances {
    pub instances: Vec<Reference>,
    #[serde(default)]
    pub force: bool,
}
operation!(DeregisterInstances -> Vec<InstanceTransition>);

impl Mutation for DeregisterInstances {
    fn decide(
        &self,
        state: &State,
        context: &mut Context<'_>,
    ) -> Result<(Change, Vec<InstanceTransition>), ControlError> {
        let (force, now) = (self.force, context.now);
        transition(state, &self.instances, |state, instance| {
            if !instance.is_alive() {
                return Ok((instance.state, Change::default()));
            }
            let groups: Vec<&TargetGroup> = registered_in(state, &instance.id).collect();
            if !groups.is_empty() && !force {
                return Err(ControlError::InstanceInUse {
                    instance: instance.id.clone(),
                    target_groups: groups.iter().map(|group| group.name.to_string()).collect(),
                });
            }
            let drains = |group: &TargetGroup| {
                let mut group = group.clone();
                for target in group.targets.values_mut().filter(|target| is(target, &instance.id)) {
                    target.draining_since = target.draining_since.or(Some(now));
                }
                group
            };
            let change = groups.into_iter().map(drains).fold(Change::default(), Change::put);
            Ok((InstanceState::Terminated { at: now }, change))
        })
    }
}

fn is(target: &Target, instance: &InstanceId) -> bool {
    target.instance.as_ref() == Some(instance)
}

/// The groups that `instance` is a target of, and does not drain from.
pub(super) fn registered_in<'a>(
    state: &'a State,
    instance: &'a InstanceId,
) -> impl Iterator<Item = &'a TargetGroup> + 'a {
    let active = move |target: &Target| is(target, instance) && target.draining_since.is_none();
    state.target_groups.values().filter(move |group| group.targets.values().any(active))
}

fn wrong_state(instance: &Instance, verb: &'static str) -> ControlError {
    ControlError::InstanceWrongState { instance: instance.id.clone(), verb }
}

fn alive<'a>(state: &'a State, reference: &Reference, verb: &'static str) -> Result<&'a Instance, ControlError> {
    let instance = lookup::instance(state, reference)?;
    if instance.is_alive() { Ok(instance) } else { Err(wrong_state(instance, verb)) }
}

/// Brings each instance into the state that `decide` says, with what else it changes; each sees what came before it.
fn transition(
    state: &State,
    references: &[Reference],
    decide: impl Fn(&State, &Instance) -> Result<(InstanceState, Change), ControlError>,
) -> Result<(Change, Vec<InstanceTransition>), ControlError> {
    if references.is_empty() {
        return Err(ControlError::InstanceMissing);
    }
    let mut state = state.clone();
    let mut whole = Change::default();
    let mut transitions = Vec::new();
    for reference in references {
        let instance = lookup::instance(&state, reference)?.clone();
        let (current, mut change) = decide(&state, &instance)?;
        let (id, name, previous) = (instance.id.clone(), instance.name.clone(), instance.state);
        if current != previous {
            let mut changed = Instance { state: current, ..instance };
            if !changed.is_alive() {
                changed.security_groups.clear();
            }
            change = change.put(changed);
        }
        state.apply(&change);
        whole = whole.then(change);
        transitions.push(InstanceTransition { id, name, previous, current });
    }
    Ok((whole, transitions))
}

/// Lists the instances, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeInstances {
    /// None: all that are not terminated.
    #[serde(default)]
    pub instances: Option<Vec<Reference>>,
}
operation!(DescribeInstances -> Vec<InstanceView>);

impl Query for DescribeInstances {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<InstanceView>, ControlError> {
        let view = |instance: &Instance| InstanceView::new(state, instance);
        match &self.instances {
            None => {
                let alive = state.instances.values().filter(|instance| instance.is_alive());
                Ok(sorted(alive.map(view).collect(), |instance| instance.name.clone()))
            }
            Some(references) => {
                references.iter().map(|reference| lookup::instance(state, reference).map(view)).collect()
            }
        }
    }
}

/// Forgets the instances that were terminated long enough ago.
pub fn expire(state: &State, now: Timestamp) -> Change {
    let gone = state.instances.values().filter(|instance| instance.forgotten_at().is_some_and(|at| at <= now));
    let change = gone.fold(Change::default(), |change, instance| change.remove(Key::Instance(instance.id.clone())));
    tags::with_removed_tags(state, change)
}

/// When [`expire`] has something to do next.
pub fn next_expiry(state: &State) -> Option<Timestamp> {
    state.instances.values().filter_map(Instance::forgotten_at).min()
}

/// The names of the groups that an instance carries, in order.
pub(super) fn group_names(state: &State, instance: &Instance) -> Vec<String> {
    let mut names: Vec<String> =
        instance.security_groups.iter().map(|id| view::security_group_name(state, id)).collect();
    names.sort();
    names
}
