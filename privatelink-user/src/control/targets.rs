//! Targets: registration, draining and its end.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Reference, lookup, operation,
    view::{TargetGroupView, TargetHealthView},
};
use crate::model::{AddressUse, Change, InvalidValue, State, Target, TargetAddress, TargetGroup, Vpc, serde_as_text};

/// A target as a person names it: `IP` (the group's port) or `IP:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetSpec {
    pub ip: Ipv4Addr,
    pub port: Option<u16>,
}

impl TargetSpec {
    /// The address in a group whose port is `port`.
    pub fn resolve(self, port: u16) -> TargetAddress {
        TargetAddress { ip: self.ip, port: self.port.unwrap_or(port) }
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

impl FromStr for TargetSpec {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (ip, port) = match text.split_once(':') {
            Some((ip, port)) => (ip.parse().ok(), port.parse().ok().filter(|port| *port != 0).map(Some)),
            None => (text.parse().ok(), Some(None)),
        };
        match (ip, port) {
            (Some(ip), Some(port)) => Ok(Self { ip, port }),
            (_, None) | (None, _) => Err(InvalidValue::new(
                "Target",
                text,
                "must be an IPv4 address, or an IPv4 address, a colon and a port between '1-65535'",
                "use an address like 10.0.1.10 or 10.0.1.10:8080",
            )),
        }
    }
}

serde_as_text!(TargetSpec);

/// Registers targets. One that is registered stays as it is; one that drains is revived.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterTargets {
    pub target_group: Reference,
    pub targets: Vec<TargetSpec>,
}
operation!(RegisterTargets -> TargetGroupView);

impl Mutation for RegisterTargets {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, TargetGroupView), ControlError> {
        let Self { target_group, targets } = self;
        let group = lookup::target_group(state, target_group)?;
        if targets.is_empty() {
            return Err(ControlError::TargetMissing);
        }
        let vpc =
            state.vpcs.get(&group.vpc).ok_or_else(|| ControlError::TargetGroupVpcNotFound(group.vpc.to_string()))?;
        let owned = owned_addresses(state, vpc);
        let mut changed = group.clone();
        for spec in targets {
            check_target(vpc, &owned, spec.ip)?;
            let address = spec.resolve(group.port);
            let present = changed.targets.get(&address);
            if present.is_none_or(|target| target.draining_since.is_some()) {
                changed.targets.insert(address, Target { address, registered_at: context.now, draining_since: None });
            }
        }
        Ok(changed_group(state, group, changed))
    }
}

/// The addresses of `vpc` that the datapath answers for.
fn owned_addresses(state: &State, vpc: &Vpc) -> BTreeMap<Ipv4Addr, AddressUse> {
    state
        .address_uses(&vpc.id)
        .filter(|(_, by)| match by {
            AddressUse::Node(_) | AddressUse::Endpoint(_) => true,
            AddressUse::Gateway(_) | AddressUse::Target(_) => false,
        })
        .collect()
}

/// Refuses an address that no target can have: in use by a load balancer or an endpoint of the same VPC, or publicly
/// routable and outside the VPC's range.
fn check_target(vpc: &Vpc, owned: &BTreeMap<Ipv4Addr, AddressUse>, address: Ipv4Addr) -> Result<(), ControlError> {
    if let Some(by) = owned.get(&address) {
        return Err(ControlError::TargetIpUnusable { address, by: by.clone() });
    }
    let cidr = vpc.cidr.net();
    let inside = cidr.contains(&address);
    let carrier_nat = address.octets()[0] == 100 && (64..128).contains(&address.octets()[1]);
    if (inside && vpc.cidr.has_host(address)) || (!inside && (address.is_private() || carrier_nat)) {
        Ok(())
    } else {
        Err(ControlError::TargetIpOutside { address, cidr })
    }
}

/// Deregisters targets: they take no new flows and go when the group's delay has ended. Unknown ones are no error.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeregisterTargets {
    pub target_group: Reference,
    pub targets: Vec<TargetSpec>,
}
operation!(DeregisterTargets -> TargetGroupView);

impl Mutation for DeregisterTargets {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, TargetGroupView), ControlError> {
        let Self { target_group, targets } = self;
        let group = lookup::target_group(state, target_group)?;
        if targets.is_empty() {
            return Err(ControlError::TargetMissing);
        }
        let mut changed = group.clone();
        for spec in targets {
            if let Some(target) = changed.targets.get_mut(&spec.resolve(group.port)) {
                target.draining_since = target.draining_since.or(Some(context.now));
            }
        }
        remove_drained(&mut changed, context.now);
        Ok(changed_group(state, group, changed))
    }
}

fn changed_group(state: &State, group: &TargetGroup, changed: TargetGroup) -> (Change, TargetGroupView) {
    let view = TargetGroupView::new(state, &changed);
    let change = if changed == *group { Change::default() } else { Change::default().put(changed) };
    (change, view)
}

/// When `target` of `group` has drained; none if it does not drain.
fn drained_at(group: &TargetGroup, target: &Target) -> Option<Timestamp> {
    let delay = SignedDuration::from_secs(i64::from(group.attributes.deregistration_delay));
    target.draining_since.map(|since| since.checked_add(delay).unwrap_or(Timestamp::MAX))
}

fn remove_drained(group: &mut TargetGroup, now: Timestamp) {
    let kept = group.targets.values().filter(|target| drained_at(group, target).is_none_or(|at| at > now));
    group.targets = kept.map(|target| (target.address, target.clone())).collect();
}

/// Removes the targets whose deregistration delay has ended.
pub fn expire(state: &State, now: Timestamp) -> Change {
    state
        .target_groups
        .values()
        .filter(|group| group.targets.values().any(|target| drained_at(group, target).is_some_and(|at| at <= now)))
        .fold(Change::default(), |change, group| {
            let mut kept = group.clone();
            remove_drained(&mut kept, now);
            change.put(kept)
        })
}

/// When [`expire`] has something to do next; none while nothing drains.
pub fn next_expiry(state: &State) -> Option<Timestamp> {
    state
        .target_groups
        .values()
        .flat_map(|group| group.targets.values().filter_map(|target| drained_at(group, target)))
        .min()
}

/// The health of a target group's targets, or of some of them.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeTargetHealth {
    pub target_group: Reference,
    /// None: all that are registered. One that is not is answered as `unused`.
    #[serde(default)]
    pub targets: Option<Vec<TargetSpec>>,
}
operation!(DescribeTargetHealth -> Vec<TargetHealthView>);
