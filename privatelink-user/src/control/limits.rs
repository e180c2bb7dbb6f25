//! What the datapath has room for. An operation that wants more is refused, so that nothing is accepted that would not
//! be forwarded.

use std::{collections::BTreeSet, net::IpAddr};

use super::ControlError;
use crate::model::{Protocol, State, TargetAddress, VpcId};

/// Room in the datapath's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Targets behind load balancers, counted once for each node address and protocol.
    pub targets: u32,
    pub listeners: u32,
    pub endpoints: u32,
}

impl Limits {
    /// Room for everything.
    pub const NONE: Self = Self { targets: u32::MAX, listeners: u32::MAX, endpoints: u32::MAX };

    /// Refuses `next` if it wants more room than there is and more than `present` does: what takes away is always
    /// accepted.
    pub fn check(self, present: &State, next: &State) -> Result<(), ControlError> {
        let Self { targets, listeners, endpoints } = self;
        let exceeds = |wanted: usize, limit: u32| u32::try_from(wanted).map_or(true, |wanted| wanted > limit);
        if exceeds(listeners_in_use(next), listeners) && listeners_in_use(next) > listeners_in_use(present) {
            return Err(ControlError::TooManyListeners { limit: listeners });
        }
        if exceeds(next.endpoints.len(), endpoints) && next.endpoints.len() > present.endpoints.len() {
            return Err(ControlError::TooManyEndpoints { limit: endpoints });
        }
        let same = present.listeners.same(&next.listeners)
            && present.load_balancers.same(&next.load_balancers)
            && present.target_groups.same(&next.target_groups);
        if same {
            return Ok(());
        }
        let wanted = targets_in_use(next);
        if exceeds(wanted, targets) && wanted > targets_in_use(present) {
            return Err(ControlError::TooManyTargets { wanted, limit: targets });
        }
        Ok(())
    }
}

/// How many listeners there are; one of two protocols counts twice.
fn listeners_in_use(state: &State) -> usize {
    let both = state.listeners.values().filter(|listener| listener.protocol == Protocol::TcpUdp);
    state.listeners.len() + both.count()
}

/// How many (node address, target, protocol) there are; a health check on a port of its own is one more target.
fn targets_in_use(state: &State) -> usize {
    // Whether it is UDP, as the last.
    let mut found: BTreeSet<(&VpcId, IpAddr, TargetAddress, bool)> = BTreeSet::new();
    for listener in state.listeners.values() {
        let Some(lb) = state.load_balancers.get(&listener.load_balancer) else { continue };
        let groups = listener.forward.groups().filter_map(|id| state.target_groups.get(id));
        for (group, target) in
            groups.flat_map(|group| group.targets.values().map(move |target| (group, target.address)))
        {
            let reached = TargetAddress { port: listener.port.of_target(target.port), ..target };
            let nodes = || lb.nodes_of(group.ip_address_type).map(|node| (&lb.vpc, node, reached));
            if listener.protocol.has_tcp() {
                found.extend(nodes().map(|(vpc, node, target)| (vpc, node, target, false)));
            }
            if listener.protocol.has_udp() {
                found.extend(nodes().map(|(vpc, node, target)| (vpc, node, target, true)));
            }
            let port = group.health_check.port.resolve(target.port);
            let checked = TargetAddress { port, ..target };
            found.extend(lb.nodes_of(group.ip_address_type).next().map(|node| (&lb.vpc, node, checked, false)));
        }
    }
    found.len()
}
