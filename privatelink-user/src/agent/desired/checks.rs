//! Health checks: what is checked, and the way of the host's own sockets to a target.

use std::{net::SocketAddr, sync::Arc};

use privatelink_ebpf::abi::{
    Proto, VpcIndex,
    service::{AddressKind, Frontend, ListenerFlags},
};

use super::{Desired, DesiredListener, World, targets::Use};
use crate::{
    agent::{
        index::TargetKey,
        plan::{Check, CheckKey, HopKey, HostPort, Plan},
        relay, security,
    },
    dataplane::{AddressAt, Capacity, FrontendAt},
    model::{IpFamily, Opening},
};

/// Listeners of health checks have the highest indexes, one for each target index.
pub fn first_check_listener(capacity: Capacity) -> u32 {
    capacity.listeners.saturating_sub(capacity.targets)
}

/// One check for each registered target that does not drain.
pub fn checks(world: &World<'_>, uses: &[Use<'_>], desired: &mut Desired, plan: &mut Plan) {
    for used in uses {
        let Some((listener, lb)) = used.listeners.first() else { continue };
        let Some(node) = used.nodes().first().copied() else { continue };
        let verify = relay::verify(world.state, used.group).map(Arc::new);
        for target in used.group.targets.values().filter(|target| target.draining_since.is_none()) {
            let check = CheckKey { group: used.group.id.clone(), target: target.address };
            if !plan.registrations.contains_key(&check) {
                continue;
            }
            let port = used.group.health_check.port.resolve(target.address.port);
            let key = TargetKey { vpc: used.vpc_index, node, ip: target.address.ip, port, proto: Proto::Tcp };
            let address = world.host_port.zip(plan.targets.get(&key).copied()).and_then(|(host_port, index)| {
                // A check obeys the outbound rules: what they forbid is refused like a customer's connection.
                let allowed = security::outbound(world.state, lb, [Opening::Tcp(port); 2], target.address.ip);
                way_to(world, &host_port, (index, used.group.ip_address_type), port, allowed, desired)
            });
            let settings = used.group.health_check.clone();
            let hop = used.vpc.next_hop(target.address.ip).map(|ip| HopKey { vpc: used.vpc_index, ip });
            let proxy_protocol = used.group.attributes.proxy_protocol_v2;
            let listener_port = listener.port.first();
            let passive = !used.group.attributes.stickiness;
            let verify = verify.clone();
            let found =
                Check { address, node, listener_port, next_hop: hop, proxy_protocol, verify, passive, settings };
            plan.checks.insert(check, found);
        }
    }
}

/// Makes the target reachable from the host port: an internal address, a frontend, a listener with the one target.
pub fn way_to(
    world: &World<'_>,
    host_port: &HostPort,
    (target, family): (u32, IpFamily),
    port: u16,
    allowed: bool,
    desired: &mut Desired,
) -> Option<SocketAddr> {
    let internal = host_port.internal(target, family)?;
    let listener = first_check_listener(world.capacity).checked_add(target)?;
    let ring: Arc<[u32]> = if allowed { Arc::new([target]) } else { Arc::new([]) };
    let flags = if allowed { ListenerFlags::default() } else { ListenerFlags::OUTBOUND_DENIED };
    desired.listeners.insert(listener, DesiredListener { idle_s: 350, flags, ring });
    desired.addresses.insert(AddressAt::new(VpcIndex::HOST, internal), AddressKind::Internal.into());
    let key = FrontendAt::new(VpcIndex::HOST, internal, port, Proto::Tcp);
    desired.frontends.insert(key, Frontend { listener, endpoint: 0, ..Frontend::default() });
    Some(SocketAddr::new(internal, port))
}
