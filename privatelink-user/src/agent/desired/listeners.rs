//! Listeners: their rings, and what the addresses of load balancers lead to.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::IpAddr,
    sync::Arc,
};

use privatelink_ebpf::abi::{
    Proto, VpcIndex,
    addr::L4Port,
    entries,
    service::{AddressKind, Frontend, IDLE_NEVER, ListenerFlags, Parted, Range, RangeKey, RingEntry},
};

use super::{Desired, DesiredListener, Draft, World, checks::first_check_listener, transports, vpc_index};
use crate::{
    agent::{
        index::{self, TargetKey},
        plan::Plan,
        relay,
        resolver::{self, Resolver},
        ring::{Group, Groups, Layout, RingCache},
        security::{self, Compiler},
    },
    dataplane::{AddressAt, ByFamily, FrontendAt},
    model::{
        IpFamily, Listener, ListenerPorts, LoadBalancer, LoadBalancerId, Opening, Protocol, SecurityGroups, State,
        TargetAddress, TargetGroupId,
    },
};

/// A listener for a transport, and its index.
pub type Indexed = (Arc<Listener>, Proto, u32);

/// Gives every listener an index, and the load balancers' addresses what they lead to; each load balancer's listeners.
pub fn listeners(
    world: &World<'_>,
    chosen: &BTreeMap<&TargetGroupId, Vec<TargetAddress>>,
    resolvers: &[Resolver],
    compiler: &mut Compiler<'_>,
    rings: &mut RingCache,
    draft: &mut Draft,
) -> BTreeMap<LoadBalancerId, Vec<Indexed>> {
    let state = world.state;
    let actual = world.actual;
    // What is reached at a load balancer's first node address and port is that listener, in the kernel too.
    let doors: BTreeMap<FrontendAt, (&Listener, Proto)> = state
        .listeners
        .values()
        .filter_map(|listener| {
            let lb = state.load_balancers.get(&listener.load_balancer)?;
            let vpc = state.vpcs.get(&lb.vpc).and_then(vpc_index)?;
            let node = *lb.addresses.first()?;
            let door = move |proto| (FrontendAt::new(vpc, node, listener.port.first(), proto), (listener, proto));
            Some(transports(listener.protocol).map(door))
        })
        .flatten()
        .collect();
    let wanted: BTreeSet<FrontendAt> = doors.keys().copied().chain(resolver::listeners(resolvers)).collect();
    let limit = first_check_listener(world.capacity);
    let held = wanted.iter().filter_map(|key| Some((*key, actual.frontends.get(key)?.listener)));
    let held: BTreeMap<FrontendAt, u32> = held.filter(|(_, index)| (index::first()..limit).contains(index)).collect();
    let taken = |index: &u32| actual.listeners.contains_key(index);
    let indexes = index::assign(&wanted, &held, taken, index::first()..limit);
    let Draft { desired, plan, guards } = draft;
    if indexes.len() < wanted.len() {
        plan.full.insert("LISTENERS");
    }
    for (door, (listener, proto)) in &doors {
        if let Some(index) = indexes.get(door) {
            plan.listeners.insert((listener.id.clone(), *proto), *index);
        }
    }
    resolver::install(resolvers, &indexes, desired, plan);
    let mut by_lb: BTreeMap<LoadBalancerId, Vec<Indexed>> = BTreeMap::new();
    for ((id, proto), index) in &plan.listeners {
        let Some(listener) = state.listeners.shared().get(id) else { continue };
        by_lb.entry(listener.load_balancer.clone()).or_default().push((Arc::clone(listener), *proto, *index));
    }
    for lb in state.load_balancers.values() {
        let served = lb.id.kind().unserved().is_none();
        let Some(vpc) = state.vpcs.get(&lb.vpc).filter(|_| served).and_then(vpc_index) else { continue };
        for node in lb.nodes() {
            desired.addresses.insert(AddressAt::new(vpc, node), AddressKind::Node.into());
            if let Some(guard) = compiler.at_node(lb, echo(node)) {
                let key = FrontendAt::echo(vpc, node);
                desired.frontends.insert(key, Frontend::default());
                guards.insert(key, guard);
            }
        }
        for (listener, proto, index) in by_lb.get(&lb.id).into_iter().flatten() {
            let (proto, index) = (*proto, *index);
            let (groups, denied) = match listener.protocol {
                Protocol::Tls => {
                    let denied = relay::upstreams(world, chosen, listener, lb, vpc, desired, plan);
                    (to_relay(listener, plan), denied)
                }
                Protocol::Tcp | Protocol::Udp | Protocol::TcpUdp => {
                    members(state, chosen, listener, proto, lb, vpc, &plan.targets)
                }
            };
            let (ring, layout) = rings.ring(groups);
            let flags = match layout {
                Layout::Connection => denied,
                Layout::Client => denied.with(ListenerFlags::STICKY),
                Layout::Rows => denied.with(ListenerFlags::STICKY_ROWS),
            };
            desired.parted.extend(parted(state, listener, proto, lb, vpc, plan, index));
            let idle = match proto {
                Proto::Tcp => listener.attributes.idle_timeout,
                Proto::Udp => listener.attributes.udp_idle_timeout,
            };
            let idle_s = match idle {
                0 => IDLE_NEVER,
                seconds => u16::try_from(seconds).unwrap_or(IDLE_NEVER),
            };
            let fail_open = listener.forward.live().any(|(group, _)| plan.fail_open.contains(group));
            let flags = match fail_open {
                true => flags.with(ListenerFlags::FAIL_OPEN),
                false => flags,
            };
            desired.listeners.insert(index, DesiredListener { idle_s, flags, ring });
            let parts = parts(compiler, listener, proto, [&lb.security_groups, &lb.security_groups]);
            for (node, part) in each_part(lb.client_facing(), &parts) {
                let key = FrontendAt::new(vpc, node, part.first(), proto);
                desired.frontends.insert(key, Frontend { listener: index, endpoint: 0, ..Frontend::default() });
                guards.extend(compiler.at_node(lb, opening(proto, part.first())).map(|guard| (key, guard)));
                add_ranges(ranges(key, part), desired, plan);
            }
        }
    }
    by_lb
}

/// What an echo request to an address is to a rule.
pub fn echo(to: IpAddr) -> Opening {
    match to {
        IpAddr::V4(_) => Opening::Icmp(8, 0),
        IpAddr::V6(_) => Opening::Icmpv6(128, 0),
    }
}

/// Each address with each part of a listener's ports. Several ports together are led to over IPv4 only.
pub fn each_part(
    addresses: impl Iterator<Item = IpAddr>,
    parts: &[ListenerPorts],
) -> impl Iterator<Item = (IpAddr, ListenerPorts)> {
    let pairs = addresses.flat_map(|address| parts.iter().map(move |part| (address, *part)));
    pairs.filter(|(address, part)| address.is_ipv4() || !part.is_range())
}

/// The ports of a listener, in parts for each of which the inbound rules of some groups say one thing.
pub fn parts(
    compiler: &Compiler<'_>,
    listener: &Listener,
    proto: Proto,
    carried: [&SecurityGroups; 2],
) -> Vec<ListenerPorts> {
    if !listener.port.is_range() {
        return vec![listener.port];
    }
    let cuts = carried.into_iter().flat_map(|carried| compiler.cuts(&carried.groups, opening(proto, 0)));
    listener.port.parts(cuts.collect::<BTreeSet<u16>>())
}

/// What leads several ports of an IPv4 address to the frontend of the first of them.
pub fn ranges(at: FrontendAt, ports: ListenerPorts) -> impl Iterator<Item = ((RangeKey, u8), Range)> {
    let key = match at.key() {
        ByFamily::V4(key) => Some(key),
        ByFamily::V6(_) => None,
    };
    let key = key.filter(|_| ports.is_range());
    key.into_iter().flat_map(move |key| {
        let range = move |(first, bits)| {
            let range = RangeKey::new(key.vpc, key.ip, L4Port::new(first), key.proto);
            ((range, bits), Range::new(key.port))
        };
        ports.prefixes().into_iter().map(range)
    })
}

/// Adds what [`ranges`] says, as far as there is room.
pub fn add_ranges(ranges: impl IntoIterator<Item = ((RangeKey, u8), Range)>, desired: &mut Desired, plan: &mut Plan) {
    for (key, range) in ranges {
        if desired.ranges.len() as u32 == entries::PORT_RANGES {
            plan.full.insert("PORT_RANGES");
            return;
        }
        desired.ranges.entry(key).or_insert(range);
    }
}

/// What a connection to a port is to a rule.
pub fn opening(proto: Proto, port: u16) -> Opening {
    match proto {
        Proto::Tcp => Opening::Tcp(port),
        Proto::Udp => Opening::Udp(port),
    }
}

/// The members of the ring, by target group, and what is to be said of them: those to which the load balancer's
/// security groups let it connect.
fn members(
    state: &State,
    chosen: &BTreeMap<&TargetGroupId, Vec<TargetAddress>>,
    listener: &Listener,
    proto: Proto,
    lb: &LoadBalancer,
    vpc: VpcIndex,
    indexes: &BTreeMap<TargetKey, u32>,
) -> (Groups, ListenerFlags) {
    let mut groups = Vec::new();
    let mut denied = false;
    for (id, weight) in listener.forward.live() {
        let group = state.target_groups.get(id);
        let proxied = proto == Proto::Tcp && group.is_some_and(|group| group.attributes.proxy_protocol_v2);
        let preserved = group.is_some_and(|group| group.attributes.preserve_client_ip);
        let entry_flags = if proxied { RingEntry::PROXY } else { 0 } | if preserved { RingEntry::PRESERVE } else { 0 };
        let mut members = Vec::new();
        for target in chosen.get(id).into_iter().flatten() {
            let port = listener.port.of_target(target.port);
            // Between the ends of a range that a rule allows it allows all.
            let ends = match listener.port.is_range() {
                true => [listener.port.first(), listener.port.last()],
                false => [target.port; 2],
            };
            let ends = ends.map(|port| opening(proto, port));
            if !security::outbound(state, lb, ends, target.ip) {
                denied = true;
                continue;
            }
            for node in lb.nodes_of(IpFamily::of(target.ip)) {
                let key = TargetKey { vpc, node, ip: target.ip, port, proto };
                if let Some(index) = indexes.get(&key) {
                    members.push((identity(&key), *index | entry_flags));
                }
            }
        }
        members.sort_unstable();
        let sticky = state.target_groups.get(id).is_some_and(|group| group.attributes.stickiness);
        if !members.is_empty() {
            groups.push(Group { weight, sticky, members });
        }
    }
    let flags = if denied && groups.is_empty() { ListenerFlags::OUTBOUND_DENIED } else { ListenerFlags::default() };
    (Groups { groups, sticky: listener.forward.stickiness }, flags)
}

/// The ring of a TLS listener: its place in the relay, which is told the client by a PROXY header; empty if no target
/// could have the connection, so that it is refused as any other.
fn to_relay(listener: &Listener, plan: &Plan) -> Groups {
    let takes = plan.upstreams.get(&listener.id).is_some_and(|groups| !groups.is_empty());
    let door = plan.doors.get(&listener.id).filter(|_| takes);
    let member = door.and_then(|key| Some((identity(key), plan.targets.get(key)? | RingEntry::PROXY)));
    let group = member.map(|member| Group { weight: 1, sticky: false, members: vec![member] });
    Groups { groups: group.into_iter().collect(), sticky: false }
}

/// The listener's flows that end: those to targets of groups with weight 0, unless they are targets of another one's
/// too.
fn parted(
    state: &State,
    listener: &Listener,
    proto: Proto,
    lb: &LoadBalancer,
    vpc: VpcIndex,
    plan: &Plan,
    index: u32,
) -> BTreeSet<Parted> {
    let targets = |ids: Vec<&TargetGroupId>| -> BTreeSet<TargetAddress> {
        ids.into_iter()
            .filter_map(|id| state.target_groups.get(id))
            .flat_map(|group| group.targets.values().map(|target| target.address))
            .collect()
    };
    let live = targets(listener.forward.live().map(|(id, _)| id).collect());
    let ended = listener.forward.weights.iter().filter(|(_, weight)| weight.get() == 0).map(|(id, _)| id).collect();
    targets(ended)
        .difference(&live)
        .flat_map(|target| lb.nodes_of(IpFamily::of(target.ip)).map(move |node| (node, *target)))
        .filter_map(|(node, TargetAddress { ip, port })| {
            let port = listener.port.of_target(port);
            plan.targets.get(&TargetKey { vpc, node, ip, port, proto }).copied()
        })
        .map(|target| Parted { listener: index, target })
        .collect()
}

/// Stable over restarts: `DefaultHasher::new` has fixed keys, and a change of its algorithm costs one reshuffle.
fn identity(key: &TargetKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key.node, key.ip, key.port).hash(&mut hasher);
    hasher.finish()
}
