//! Targets: their records, which of them take new flows, and whose flows end.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use privatelink_ebpf::abi::{
    Ip4, Ip6, Mac, Proto, VpcIndex,
    addr::{IPV6, L4Port},
    service::{Target, TargetFlags},
};

use super::{Desired, World, aliases_at, transports, vpc_index};
use crate::{
    agent::{
        index::{self, TargetKey},
        plan::{CheckKey, Hop, HopKey, Plan},
        relay,
        resolver::{self, Resolver},
    },
    model::{IpFamily, Listener, LoadBalancer, State, TargetAddress, TargetGroup, TargetGroupId, Vpc, VpcId},
};

/// The addresses of targets that a load balancer or an endpoint owns ([`super::owned`]), so that no target can have
/// them.
fn owned<'a>(state: &'a State, uses: &[Use<'a>]) -> BTreeSet<(&'a VpcId, IpAddr)> {
    let addresses = uses.iter().flat_map(|used| used.group.targets.keys().map(|target| (&used.vpc.id, target.ip)));
    let targets: BTreeSet<(&VpcId, IpAddr)> = addresses.collect();
    let vpcs: BTreeSet<&VpcId> = targets.iter().map(|(vpc, _)| *vpc).collect();
    let lbs = state.load_balancers.values().filter(|lb| vpcs.contains(&lb.vpc));
    let nodes = lbs.flat_map(|lb| lb.nodes().map(move |ip| (&lb.vpc, ip)));
    let endpoints = state.endpoints.values().filter(|endpoint| vpcs.contains(&endpoint.vpc));
    let endpoints = endpoints.flat_map(|endpoint| {
        let addresses = endpoint.all_addresses().chain(aliases_at(endpoint));
        addresses.map(move |ip| (&endpoint.vpc, ip))
    });
    nodes.chain(endpoints).filter(|at| targets.contains(at)).collect()
}

/// A target group with the listeners that lead to it.
pub struct Use<'a> {
    pub group: &'a TargetGroup,
    pub vpc: &'a Vpc,
    pub vpc_index: VpcIndex,
    pub listeners: Vec<(&'a Listener, &'a LoadBalancer)>,
}

impl Use<'_> {
    /// The node addresses of all its load balancers that its targets see, each once, in order.
    pub fn nodes(&self) -> Vec<IpAddr> {
        let family = self.group.ip_address_type;
        let mut nodes: Vec<IpAddr> = self.listeners.iter().flat_map(|(_, lb)| lb.nodes_of(family)).collect();
        let mut seen = BTreeSet::new();
        nodes.retain(|node| seen.insert(*node));
        nodes
    }

    /// By which ports and transports its listeners reach a target that is registered with `port`.
    fn reached(&self, port: u16) -> BTreeSet<(Proto, u16)> {
        let of = |listener: &Listener| {
            let port = listener.port.of_target(port);
            transports(listener.protocol).map(move |proto| (proto, port))
        };
        self.listeners.iter().flat_map(|(listener, _)| of(listener)).collect()
    }
}

/// Every group that a listener leads to.
pub fn uses<'a>(state: &'a State) -> Vec<Use<'a>> {
    let mut uses: BTreeMap<&TargetGroupId, Use<'a>> = BTreeMap::new();
    for listener in state.listeners.values() {
        let Some(lb) = state.load_balancers.get(&listener.load_balancer) else { continue };
        for group in listener.forward.groups().filter_map(|id| state.target_groups.get(id)) {
            let Some(vpc) = state.vpcs.get(&group.vpc) else { continue };
            let Some(vpc_index) = vpc_index(vpc) else { continue };
            uses.entry(&group.id)
                .or_insert_with(|| Use { group, vpc, vpc_index, listeners: Vec::new() })
                .listeners
                .push((listener, lb));
        }
    }
    uses.into_values().collect()
}

/// Records of targets, retired ones too, and what the rest of the agent has to know of them.
pub fn targets(world: &World<'_>, uses: &[Use<'_>], resolvers: &[Resolver], desired: &mut Desired, plan: &mut Plan) {
    // A key may come from several registrations; its record does not depend on which.
    let mut hops: BTreeMap<TargetKey, Option<IpAddr>> = BTreeMap::new();
    let owned = owned(world.state, uses);
    for used in uses {
        let nodes = used.nodes();
        for target in used.group.targets.values() {
            let address = target.address;
            if world.state.is_stopped(target) || owned.contains(&(&used.vpc.id, address.ip)) {
                continue;
            }
            let hop = used.vpc.next_hop(address.ip);
            let check = CheckKey { group: used.group.id.clone(), target: address };
            let key = |node: IpAddr, port: u16, proto: Proto| TargetKey {
                vpc: used.vpc_index,
                node,
                ip: address.ip,
                port,
                proto,
            };
            let reached = used.reached(address.port);
            let keys: Vec<TargetKey> =
                nodes.iter().flat_map(|node| reached.iter().map(|(proto, port)| key(*node, *port, *proto))).collect();
            for key in &keys {
                hops.insert(*key, hop);
                let ends = used.group.attributes.deregistration_connection_termination;
                if target.draining_since.is_some() && !ends {
                    plan.lingering.insert(*key, used.group.id.clone());
                }
            }
            plan.registrations.insert(check, keys);
            if let Some(node) = nodes.first() {
                if target.draining_since.is_none() {
                    // Whatever the group's protocol, its health is checked over TCP.
                    let port = used.group.health_check.port.resolve(address.port);
                    hops.insert(key(*node, port, Proto::Tcp), hop);
                }
                if let Some(hop) = hop {
                    plan.next_hops.entry(HopKey { vpc: used.vpc_index, ip: hop }).or_insert(*node);
                }
            }
        }
    }
    for (key, hop) in relay::kept(world, |key| hops.contains_key(key)) {
        hops.insert(key, hop);
        if let Some(ip) = hop {
            plan.next_hops.entry(HopKey { vpc: key.vpc, ip }).or_insert(key.node);
        }
    }
    let doors = relay::doors(world);
    let wanted: BTreeSet<TargetKey> =
        hops.keys().copied().chain(resolver::targets(resolvers)).chain(doors.values().copied()).collect();
    plan.doors = doors.into_iter().map(|(id, key)| (id.clone(), key)).collect();
    plan.targets = index::targets(&wanted, world.actual, world.busy, world.capacity.targets);
    if plan.targets.len() < wanted.len() {
        plan.full.insert("TARGETS");
    }
    desired.next_nodes = next_nodes(world.state, plan);
    let end_flows = ended(world, uses, plan);
    let inside = resolver::hop(world);
    for (key, index) in &plan.targets {
        let hop = match key.vpc {
            VpcIndex::HOST => inside.as_ref(),
            _ => hops.get(key).copied().flatten().and_then(|ip| world.next_hops.get(&HopKey { vpc: key.vpc, ip })),
        };
        desired.targets.insert(*index, record(world, key, *index, hop, end_flows.contains(key)));
    }
    let in_use: BTreeSet<&TargetGroupId> = uses.iter().map(|used| &used.group.id).collect();
    for (index, record) in &world.actual.targets {
        if !desired.targets.contains_key(index) {
            let lives_on = TargetKey::of(record)
                .and_then(|key| world.lingering.get(&key))
                .is_some_and(|group| in_use.contains(group));
            desired.targets.insert(*index, retired(*record, lives_on));
        }
    }
}

/// For each target of a load balancer with several node addresses: the same behind the next one, going around.
fn next_nodes(state: &State, plan: &Plan) -> BTreeMap<u32, u32> {
    let mut around: BTreeMap<(VpcIndex, IpAddr), Vec<IpAddr>> = BTreeMap::new();
    for lb in state.load_balancers.values() {
        let Some(vpc) = state.vpcs.get(&lb.vpc).and_then(vpc_index) else { continue };
        for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
            let nodes: Vec<IpAddr> = lb.nodes_of(family).collect();
            for (at, node) in nodes.iter().enumerate() {
                let others = nodes.iter().cycle().skip(at + 1).take(nodes.len() - 1).copied();
                around.insert((vpc, *node), others.collect());
            }
        }
    }
    let next = |(key, index): (&TargetKey, &u32)| {
        let others = around.get(&(key.vpc, key.node))?;
        let found = others.iter().find_map(|node| plan.targets.get(&TargetKey { node: *node, ..*key }))?;
        Some((*index, *found))
    };
    plan.targets.iter().filter_map(next).collect()
}

/// A group's targets that are registered, and whether each takes traffic by its own health.
fn registered(world: &World<'_>, used: &Use<'_>) -> Vec<(TargetAddress, bool)> {
    let takes_traffic = |target: TargetAddress| {
        let key = CheckKey { group: used.group.id.clone(), target };
        world.health.get(&key).is_some_and(|checked| checked.takes_traffic())
    };
    let serves = |target: &&crate::model::Target| target.draining_since.is_none() && !world.state.is_stopped(target);
    used.group.targets.values().filter(serves).map(|target| (target.address, takes_traffic(target.address))).collect()
}

/// Whether too few of a group's targets are healthy, so that all are used. The agent is one zone: all targets count.
fn fails_open(used: &Use<'_>, registered: &[(TargetAddress, bool)]) -> bool {
    let healthy = registered.iter().filter(|(_, healthy)| *healthy).count();
    healthy < registered.len() && used.group.attributes.unhealthy_state_routing.missed(healthy, registered.len())
}

/// Targets whose flows end because they have become unhealthy: if their group says so, and not while its traffic goes
/// to unhealthy targets for lack of others, and not if another group finds the same target healthy.
fn ended(world: &World<'_>, uses: &[Use<'_>], plan: &Plan) -> BTreeSet<TargetKey> {
    let mut ended = BTreeSet::new();
    for used in uses.iter().filter(|used| used.group.attributes.unhealthy_connection_termination) {
        let registered = registered(world, used);
        if fails_open(used, &registered) {
            continue;
        }
        let unhealthy = registered
            .iter()
            .filter(|(_, healthy)| !healthy)
            .map(|(target, _)| CheckKey { group: used.group.id.clone(), target: *target })
            .filter(|key| world.unhealthy.contains(key));
        ended.extend(unhealthy.filter_map(|key| plan.registrations.get(&key)).flatten().copied());
    }
    if !ended.is_empty() {
        for (check, keys) in &plan.registrations {
            if world.health.get(check).is_some_and(|checked| checked.takes_traffic()) {
                for key in keys {
                    ended.remove(key);
                }
            }
        }
    }
    ended
}

fn record(world: &World<'_>, key: &TargetKey, index: u32, hop: Option<&Hop>, ends: bool) -> Target {
    let generation = match world.actual.targets.get(&index) {
        None => 0,
        Some(old) => {
            if ends || TargetKey::of(old) != Some(*key) {
                old.generation.wrapping_add(1)
            } else {
                old.generation
            }
        }
    };
    let (flags, ifindex, mac) = match hop {
        Some(Hop { ifindex, mac }) => (TargetFlags::RESOLVED, *ifindex, Mac(*mac)),
        None => (TargetFlags::default(), 0, Mac::ZERO),
    };
    let TargetKey { vpc, node, ip, port, proto } = *key;
    let four = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(_) => Ip4::UNSPECIFIED,
    };
    let six = |ip: IpAddr| match ip {
        IpAddr::V4(_) => Ip6::UNSPECIFIED,
        IpAddr::V6(ip) => ip.into(),
    };
    Target {
        ip: four(ip),
        node_ip: four(node),
        port: L4Port::new(port),
        vpc,
        generation,
        flags,
        ifindex,
        pool: index,
        mac,
        proto: if ip.is_ipv6() { proto.number() | IPV6 } else { proto.number() },
        _pad: 0,
        ip6: six(ip),
        node_ip6: six(node),
    }
}

/// The record of a target that is gone. It keeps everything that its last flows need to end, or to live on, properly.
fn retired(record: Target, lives_on: bool) -> Target {
    if record.flags.has(TargetFlags::RETIRED) {
        return record;
    }
    let generation = if lives_on { record.generation } else { record.generation.wrapping_add(1) };
    Target { generation, flags: record.flags.with(TargetFlags::RETIRED), ..record }
}

/// The targets that new flows may go to.
pub fn choose(world: &World<'_>, used: &Use<'_>, plan: &mut Plan) -> Vec<TargetAddress> {
    let registered = registered(world, used);
    let all = fails_open(used, &registered);
    if all {
        plan.fail_open.insert(used.group.id.clone());
    }
    registered.into_iter().filter(|(_, healthy)| all || *healthy).map(|(target, _)| target).collect()
}
