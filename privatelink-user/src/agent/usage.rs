//! How load balancers, target groups and endpoints are used: what the metrics tell. Pure but for the reading of the
//! tables.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use privatelink_ebpf::abi::{
    Proto, VpcIndex,
    flow::{FlowKey, Meta, Slot},
    stats::{EndpointStats, ListenerStats, TargetStats},
};

use super::{
    desired,
    plan::{CheckKey, Plan},
    rates::Rates,
};
use crate::{
    dataplane::Counts,
    health::state::Checked,
    model::{Listener, LoadBalancer, LoadBalancerId, State, TargetGroup, TargetGroupId},
    runtime::{EndpointUsage, LoadBalancerUsage, TargetGroupUsage},
    tls::relay::wire,
};

/// Flow entries at one moment, counted by what they name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Active {
    /// Open flows of clients, by target index. Those that both sides have closed, or that hold a port, are not open.
    pub targets: BTreeMap<u32, u64>,
    /// The same by endpoint index.
    pub endpoints: BTreeMap<u16, u64>,
    /// All entries, two a flow, health checks included.
    pub entries: u64,
}

impl Active {
    /// Counts an entry.
    pub fn add(&mut self, slot: &Slot) {
        self.entries += 1;
        let meta = Meta::unpack(slot.meta);
        if !meta.state.open() || !meta.forward() || FlowKey::from_words(slot.key).vpc == VpcIndex::HOST {
            return;
        }
        *self.targets.entry(slot.target).or_default() += 1;
        if slot.endpoint != 0 {
            *self.endpoints.entry(slot.endpoint).or_default() += 1;
        }
    }
}

/// Each load balancer's use.
pub fn load_balancers(
    state: &State,
    plan: &Plan,
    counts: &Counts,
    active: &Active,
    health: &BTreeMap<CheckKey, Checked>,
    tls: &BTreeMap<LoadBalancerId, wire::Counts>,
    rates: &Rates,
) -> Vec<LoadBalancerUsage> {
    let mut targets: BTreeMap<(VpcIndex, IpAddr), Vec<(Proto, u32)>> = BTreeMap::new();
    for (key, index) in &plan.targets {
        targets.entry((key.vpc, key.node)).or_default().push((key.proto, *index));
    }
    let mut listeners: BTreeMap<&LoadBalancerId, Vec<(&Listener, Proto, u32)>> = BTreeMap::new();
    for ((id, proto), index) in &plan.listeners {
        let Some(listener) = state.listeners.get(id) else { continue };
        listeners.entry(&listener.load_balancer).or_default().push((listener, *proto, *index));
    }
    let usage = |lb: &LoadBalancer| {
        let vpc = state.vpcs.get(&lb.vpc).and_then(desired::vpc_index);
        let nodes: BTreeSet<IpAddr> = lb.nodes().collect();
        let of_node = |node| vpc.and_then(|vpc| targets.get(&(vpc, node))).into_iter().flatten().copied();
        let installed = Of {
            targets: nodes.into_iter().flat_map(of_node).collect(),
            listeners: listeners.get(&lb.id).cloned().unwrap_or_default(),
        };
        let mut usage = load_balancer(state, &installed, counts, active, health, lb);
        let wire::Counts { active, accepted, received, sent, .. } = tls.get(&lb.id).copied().unwrap_or_default();
        usage.tls.active_flows = active;
        usage.tls.new_flows = accepted;
        usage.tls.bytes = received + sent;
        rates.complete(&mut usage);
        usage
    };
    state.load_balancers.values().map(usage).collect()
}

/// What a load balancer has in the kernel, with its indexes.
struct Of<'a> {
    targets: Vec<(Proto, u32)>,
    listeners: Vec<(&'a Listener, Proto, u32)>,
}

fn load_balancer(
    state: &State,
    Of { targets, listeners }: &Of<'_>,
    counts: &Counts,
    active: &Active,
    health: &BTreeMap<CheckKey, Checked>,
    lb: &LoadBalancer,
) -> LoadBalancerUsage {
    let mut usage = LoadBalancerUsage::new(lb.id.clone());
    for (proto, index) in targets {
        let TargetStats {
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            port_allocation_errors,
            client_resets,
            target_resets,
            resets_sent,
            ..
        } = counts.targets.get(index).copied().unwrap_or_default();
        let protocol = match proto {
            Proto::Tcp => &mut usage.tcp,
            Proto::Udp => &mut usage.udp,
        };
        protocol.active_flows += active.targets.get(index).copied().unwrap_or(0);
        protocol.packets += packets_in + packets_out;
        protocol.bytes += bytes_in + bytes_out;
        usage.port_allocation_errors += port_allocation_errors;
        usage.client_resets += client_resets;
        usage.target_resets += target_resets;
        usage.elb_resets += resets_sent;
    }
    let mut groups: BTreeSet<&TargetGroupId> = BTreeSet::new();
    for (listener, proto, index) in listeners {
        groups.extend(listener.forward.live().map(|(group, _)| group));
        let ListenerStats {
            new_flows, refused, unhealthy_routing, resets_sent, denied_inbound, denied_outbound, ..
        } = counts.listeners.get(index).copied().unwrap_or_default();
        let protocol = match proto {
            Proto::Tcp => &mut usage.tcp,
            Proto::Udp => &mut usage.udp,
        };
        protocol.new_flows += new_flows;
        usage.rejected += refused;
        usage.unhealthy_routing += unhealthy_routing;
        usage.elb_resets += resets_sent;
        usage.denied_inbound += denied_inbound;
        usage.denied_outbound += denied_outbound;
    }
    usage.zone_healthy = groups.into_iter().filter_map(|id| state.target_groups.get(id)).all(|group| {
        let (healthy, _) = hosts(group, health);
        let registered = group.targets.values().filter(|target| target.draining_since.is_none()).count();
        // An empty zone counts as unhealthy.
        registered > 0 && !group.attributes.dns_failover.missed(healthy, registered)
    });
    usage
}

/// A group's targets by their checks: healthy, and unhealthy. Those that drain or were not checked yet are neither.
fn hosts(group: &TargetGroup, health: &BTreeMap<CheckKey, Checked>) -> (usize, usize) {
    let (mut healthy, mut unhealthy) = (0, 0);
    for target in group.targets.values().filter(|target| target.draining_since.is_none()) {
        match health.get(&CheckKey { group: group.id.clone(), target: target.address }) {
            Some(Checked::Healthy { .. }) => healthy += 1,
            Some(Checked::Unhealthy { .. }) => unhealthy += 1,
            Some(Checked::Initial { .. }) | None => {}
        }
    }
    (healthy, unhealthy)
}

/// Each target group behind each load balancer that leads to it.
pub fn target_groups(state: &State, health: &BTreeMap<CheckKey, Checked>) -> Vec<TargetGroupUsage> {
    let pairs: BTreeSet<_> = state
        .listeners
        .values()
        .flat_map(|listener| listener.forward.groups().map(move |group| (group, &listener.load_balancer)))
        .collect();
    let usage = |(group, lb): (&TargetGroupId, &LoadBalancerId)| {
        let (healthy, unhealthy) = hosts(state.target_groups.get(group)?, health);
        Some(TargetGroupUsage {
            target_group: group.clone(),
            load_balancer: lb.clone(),
            healthy: healthy as u64,
            unhealthy: unhealthy as u64,
        })
    };
    pairs.into_iter().filter_map(usage).collect()
}

/// What the relay has done for each load balancer.
pub fn tls(state: &State, relay: &wire::Status) -> BTreeMap<LoadBalancerId, wire::Counts> {
    let mut sums: BTreeMap<LoadBalancerId, wire::Counts> = BTreeMap::new();
    for (id, status) in &relay.listeners {
        if let Some(listener) = state.listeners.get(id) {
            let sum = sums.entry(listener.load_balancer.clone()).or_default();
            *sum = sum.plus(status.counts);
        }
    }
    sums
}

/// Each endpoint's use.
pub fn endpoints(plan: &Plan, counts: &Counts, active: &Active) -> Vec<EndpointUsage> {
    let usage = |(id, index): (&crate::model::EndpointId, &u16)| {
        let EndpointStats {
            packets_in: _,
            bytes_in,
            packets_out: _,
            bytes_out,
            new_flows,
            refused,
            resets_in: _,
            resets_out,
            denied: _,
            limited_connections,
            limited_new_connections,
            limited_packets,
        } = counts.endpoints.get(index).copied().unwrap_or_default();
        EndpointUsage {
            endpoint: id.clone(),
            active_connections: active.endpoints.get(index).copied().unwrap_or(0),
            new_connections: new_flows,
            bytes: bytes_in + bytes_out,
            dropped: refused,
            resets: resets_out,
            limited_connections,
            limited_new_connections,
            limited_packets,
        }
    };
    plan.endpoints.iter().map(usage).collect()
}

#[cfg(test)]
mod tests {
    use privatelink_ebpf::abi::{Ip4, L4Port, flow::FlowState};

    use super::*;

    fn entry(vpc: u16, state: FlowState, flags: u8) -> Slot {
        let meta = Meta { version: 1, state, translated: false, flags, idle_s: 350 };
        let port = L4Port::new(80);
        let key = FlowKey::tcp(VpcIndex(vpc), Ip4::UNSPECIFIED, port, Ip4::UNSPECIFIED, port);
        Slot { meta: meta.pack(), key: key.words(), target: 3, endpoint: 2, ..Slot::FREE }
    }

    #[test]
    fn open_flows_of_clients_count_once_and_all_entries_fill_the_table() {
        let mut active = Active::default();
        active.add(&entry(1, FlowState::Established, Meta::FORWARD));
        active.add(&entry(3, FlowState::Established, 0));
        active.add(&entry(1, FlowState::SynSent, Meta::FORWARD));
        active.add(&entry(1, FlowState::TimeWait, Meta::FORWARD));
        active.add(&entry(VpcIndex::HOST.0, FlowState::Established, Meta::FORWARD));
        assert_eq!((active.targets[&3], active.endpoints[&2], active.entries), (2, 2, 5));
    }
}
