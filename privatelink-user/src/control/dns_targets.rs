//! Targets by DNS name: which names a group follows, and what their addresses do to its targets.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Reference, lookup, operation,
    targets::{check_target, owned_addresses},
    view::TargetGroupView,
};
use crate::model::{Change, DnsTarget, State, Target, TargetAddress, TargetGroup, TargetGroupId, TargetType};

/// Changes the DNS names that a group follows. Targets of a name that goes drain; those of a new one come once it is
/// resolved.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyDnsTargets {
    pub target_group: Reference,
    #[serde(default)]
    pub add: BTreeSet<DnsTarget>,
    #[serde(default)]
    pub remove: BTreeSet<DnsTarget>,
}
operation!(ModifyDnsTargets -> TargetGroupView);

impl Mutation for ModifyDnsTargets {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, TargetGroupView), ControlError> {
        let Self { target_group, add, remove } = self;
        let group = lookup::target_group(state, target_group)?;
        if add.is_empty() && remove.is_empty() {
            return Err(ControlError::TargetMissing);
        }
        if let (TargetType::Instance | TargetType::Alb, Some(name)) = (group.target_type, add.first()) {
            return Err(ControlError::TargetNotInstance(name.to_string()));
        }
        let mut changed = group.clone();
        for name in remove {
            changed.dns_targets.remove(name);
            drain(&mut changed, name, &BTreeSet::new(), context.now);
        }
        changed.dns_targets.extend(add.iter().cloned());
        let view = TargetGroupView::new(state, &changed);
        let change = Change::replace(group, changed);
        Ok((change, view))
    }
}

/// The targets of `name` whose addresses are not in `kept` take no new flows from now on.
fn drain(group: &mut TargetGroup, name: &DnsTarget, kept: &BTreeSet<IpAddr>, now: Timestamp) {
    for target in group.targets.values_mut() {
        if target.dns_name.as_ref() == Some(name) && !kept.contains(&target.address.ip) {
            target.draining_since = target.draining_since.or(Some(now));
        }
    }
}

/// What it does to the group that `name` has these addresses: new ones are registered, those that are gone drain. A
/// name without addresses leaves everything as it is, so that a broken zone takes no service away. Addresses that no
/// target can have are left out; a target that was registered by hand stays that.
pub fn resolved(
    state: &State,
    group: &TargetGroupId,
    name: &DnsTarget,
    addresses: &BTreeSet<IpAddr>,
    now: Timestamp,
) -> Change {
    let found = state.target_groups.get(group).filter(|group| group.dns_targets.contains(name));
    let Some((group, vpc)) = found.and_then(|group| Some((group, state.vpcs.get(&group.vpc)?))) else {
        return Change::default();
    };
    if addresses.is_empty() {
        return Change::default();
    }
    let owned = owned_addresses(state, vpc);
    let mut changed = group.clone();
    drain(&mut changed, name, addresses, now);
    for ip in addresses.iter().filter(|ip| check_target(vpc, &owned, group, **ip).is_ok()) {
        let address = TargetAddress { ip: *ip, port: name.port(group.port) };
        let present = changed.targets.get(&address);
        if present.is_none_or(|target| target.draining_since.is_some()) {
            let dns_name = Some(name.clone());
            let target = Target { address, instance: None, dns_name, registered_at: now, draining_since: None };
            changed.targets.insert(address, target);
        }
    }
    Change::replace(group, changed)
}
