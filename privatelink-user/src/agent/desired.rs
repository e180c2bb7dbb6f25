//! What the kernel's tables should say. Pure: the state, the links, the targets' health, the next hops and what the
//! kernel holds now come in; exact contents come out, with the plan that the rest of the agent works by.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use privatelink_ebpf::abi::{
    Ip4, Ip6, Mac, Proto, VpcIndex,
    addr::{IPV6, L4Port},
    entries,
    limit::{Budget, EndpointBudget},
    service::{
        Address, AddressKind, Alias, AliasKey, EndpointIdText, Frontend, IDLE_NEVER, ListenerFlags, Parted, Port,
        PortFlags, Range, RangeKey, RingEntry, Target, TargetFlags,
    },
};

use super::{
    index::{self, Busy, TargetKey},
    plan::{Check, CheckKey, Hop, HopKey, HostPort, Plan, internal_ipv6},
    relay::{self, Doors},
    resolver::{self, Door, Resolver},
    ring::{Group, Groups, Layout, RingCache},
    security::{self, Compiler, Guard},
};
use crate::{
    dataplane::{AddressAt, ByFamily, Capacity, FrontendAt, Hook, Tables},
    health::state::Checked,
    model::{
        BitRate, ConnectionRate, Connections, Endpoint, EndpointId, EndpointService, EndpointServiceId, EndpointState,
        IpFamily, Limits, Listener, ListenerPorts, LoadBalancer, LoadBalancerId, Opening, Protocol, SecurityGroups,
        State, TargetAddress, TargetGroup, TargetGroupId, Vpc, VpcId,
    },
    net::links::{Link, LinkKind, Links},
};

/// Half-open flows that one endpoint may have at once: a flood leaves the other endpoints' share of a target's ports.
pub const ENDPOINT_HALF_OPEN: u32 = 8_192;
/// Half-open flows that all endpoints of one VPC may have at once.
pub const VPC_HALF_OPEN: u32 = 16_384;

/// Everything that decides.
pub struct World<'a> {
    pub state: &'a State,
    pub links: &'a Links,
    pub host_port: Option<HostPort>,
    /// Where the DNS server listens.
    pub resolver: Option<Door>,
    /// Where the relay listens, and at which address.
    pub relay: &'a Doors,
    pub relay_address: Ipv4Addr,
    /// Where the programs are attached.
    pub hooks: &'a BTreeMap<u32, Hook>,
    /// What the checks have found.
    pub health: &'a BTreeMap<CheckKey, Checked>,
    pub next_hops: &'a BTreeMap<HopKey, Hop>,
    /// What the kernel holds.
    pub actual: &'a Tables,
    pub busy: &'a Busy,
    /// Targets that have become unhealthy since the last pass that was finished.
    pub unhealthy: &'a BTreeSet<CheckKey>,
    /// Targets that were draining, by group: if the group is still in use when they go, their flows may live on.
    pub lingering: &'a BTreeMap<TargetKey, TargetGroupId>,
    pub capacity: Capacity,
}

/// The contents of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    pub ports: BTreeMap<u32, Port>,
    pub xdp_ports: BTreeSet<u32>,
    pub addresses: BTreeMap<AddressAt, Address>,
    pub frontends: BTreeMap<FrontendAt, Frontend>,
    pub aliases: BTreeMap<(AliasKey, u8), Alias>,
    pub ranges: BTreeMap<(RangeKey, u8), Range>,
    pub parted: BTreeSet<Parted>,
    pub policies: BTreeMap<u32, Guard>,
    pub listeners: BTreeMap<u32, DesiredListener>,
    /// Retired ones too.
    pub targets: BTreeMap<u32, Target>,
    /// The same target behind the next node address of its load balancer.
    pub next_nodes: BTreeMap<u32, u32>,
    pub vpcs: BTreeMap<VpcIndex, Budget>,
    /// Those that are gone too.
    pub endpoints: BTreeMap<u16, EndpointBudget>,
    pub endpoint_ids: BTreeMap<u16, EndpointIdText>,
}

/// A listener; where its ring lies is decided when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredListener {
    pub idle_s: u16,
    pub flags: ListenerFlags,
    pub ring: Arc<[u32]>,
}

/// The number of a VPC in the kernel's tables.
pub fn vpc_index(vpc: &Vpc) -> Option<VpcIndex> {
    Some(VpcIndex(vpc.index.get())).filter(|index| *index != VpcIndex::HOST)
}

/// Whether a load balancer or an endpoint owns `ip` in `vpc`, so that no target can have it.
pub fn owned(state: &State, vpc: &VpcId, ip: IpAddr) -> bool {
    state.load_balancers.values().any(|lb| lb.vpc == *vpc && lb.nodes().any(|node| node == ip))
        || state.endpoints.values().any(|endpoint| {
            let alias = || endpoint.aliases.iter().any(|alias| alias.address().map(IpAddr::V4) == Some(ip));
            endpoint.vpc == *vpc && (endpoint.all_addresses().any(|own| own == ip) || alias())
        })
}

/// Every address that [`owned`] finds.
fn owned_addresses(state: &State) -> BTreeSet<(&VpcId, IpAddr)> {
    let nodes = state.load_balancers.values().flat_map(|lb| lb.nodes().map(move |ip| (&lb.vpc, ip)));
    let endpoints = state.endpoints.values();
    nodes.chain(endpoints.flat_map(|endpoint| endpoint.all_addresses().map(move |ip| (&endpoint.vpc, ip)))).collect()
}

/// A target group with the listeners that lead to it.
struct Use<'a> {
    group: &'a TargetGroup,
    vpc: &'a Vpc,
    vpc_index: VpcIndex,
    listeners: Vec<(&'a Listener, &'a LoadBalancer)>,
}

impl Use<'_> {
    /// The node addresses of all its load balancers that its targets see, each once, in order.
    fn nodes(&self) -> Vec<IpAddr> {
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

/// The transports of a protocol, in order.
pub fn transports(protocol: Protocol) -> impl Iterator<Item = Proto> {
    let tcp = protocol.has_tcp().then_some(Proto::Tcp);
    tcp.into_iter().chain(protocol.has_udp().then_some(Proto::Udp))
}

fn uses<'a>(state: &'a State) -> Vec<Use<'a>> {
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

/// Decides.
pub fn desired(world: &World<'_>, rings: &mut RingCache) -> (Desired, Plan) {
    let mut desired = Desired::default();
    let mut plan = Plan::default();
    let state = world.state;
    for vpc in state.vpcs.values() {
        if let Some(index) = vpc_index(vpc) {
            desired.vpcs.insert(index, Budget { half_open: VPC_HALF_OPEN });
            plan.vpcs.insert(index, vpc.id.clone());
        }
    }
    ports(world, &mut desired, &mut plan);
    let uses = uses(state);
    let resolvers = resolver::resolvers(world);
    targets(world, &uses, &resolvers, &mut desired, &mut plan);
    let chosen: BTreeMap<&TargetGroupId, Vec<TargetAddress>> =
        uses.iter().map(|used| (&used.group.id, choose(world, used, &mut plan))).collect();
    listeners(world, &chosen, &resolvers, rings, &mut desired, &mut plan);
    checks(world, &uses, &mut desired, &mut plan);
    for index in world.actual.endpoints.keys() {
        desired.endpoints.entry(*index).or_insert(EndpointBudget::ENDED);
    }
    plan.ends_by_rule = !desired.parted.is_empty() || desired.policies.values().any(|guard| guard.established);
    rings.sweep();
    (desired, plan)
}

fn ports(world: &World<'_>, desired: &mut Desired, plan: &mut Plan) {
    let by_name: BTreeMap<&str, &Link> = world.links.values().map(|link| (link.name.as_str(), link)).collect();
    for port in world.state.ports.values() {
        let Some(link) = by_name.get(port.interface.as_str()) else { continue };
        let Some(vpc) = world.state.vpcs.get(&port.vpc).and_then(vpc_index) else { continue };
        let flags = if port.shared { PortFlags::SHARED } else { PortFlags::default() };
        put_port(world, link, vpc, flags, desired, plan);
    }
    if let Some(host_port) = world.host_port
        && let Some(link) = world.links.get(&host_port.ifindex)
    {
        put_port(world, link, VpcIndex::HOST, PortFlags::default(), desired, plan);
        let key = AddressAt::new(VpcIndex::HOST, host_port.gateway);
        desired.addresses.insert(key, AddressKind::Internal.into());
        if has_ipv6(world.state) {
            let key = AddressAt::new(VpcIndex::HOST, internal_ipv6(host_port.gateway));
            desired.addresses.insert(key, AddressKind::Internal.into());
        }
    }
}

/// Whether any VPC has IPv6 addresses.
pub fn has_ipv6(state: &State) -> bool {
    state.vpcs.values().any(|vpc| vpc.ipv6.is_some())
}

fn put_port(world: &World<'_>, link: &Link, vpc: VpcIndex, flags: PortFlags, desired: &mut Desired, plan: &mut Plan) {
    let Some(mac) = link.mac else { return };
    if link.ifindex >= world.capacity.ports {
        plan.full.insert("PORTS");
        return;
    }
    let mut flags = flags;
    if let LinkKind::Veth { peer: _, elsewhere } = link.kind {
        flags = flags.with(PortFlags::XDP_REDIRECT);
        if elsewhere {
            flags = flags.with(PortFlags::PEER);
        }
    }
    // Frames that arrive by XDP on any port may leave by XDP here, if the driver sends them.
    let arrive = world.hooks.values().any(|hook| hook.has_xdp());
    if arrive && transmits(link) {
        flags = flags.with(PortFlags::XDP_TRANSMIT);
        desired.xdp_ports.insert(link.ifindex);
    }
    let port = Port { vpc, flags, mtu: link.mtu, mac: Mac(mac), _pad: [0; 2] };
    desired.ports.insert(link.ifindex, port);
    plan.ports.insert(link.ifindex, vpc);
}

/// Whether the interface sends frames that XDP redirects to it. A kernel that does not say so has drivers that do, but
/// for veth, where it depends on the other end.
fn transmits(link: &Link) -> bool {
    match (link.xdp_features, &link.kind) {
        (Some(features), _) => features.transmits(),
        (None, LinkKind::Physical) => true,
        (None, LinkKind::Veth { .. } | LinkKind::Virtual(_) | LinkKind::Loopback) => false,
    }
}

fn targets(world: &World<'_>, uses: &[Use<'_>], resolvers: &[Resolver], desired: &mut Desired, plan: &mut Plan) {
    // A key may come from several registrations; its record does not depend on which.
    let mut hops: BTreeMap<TargetKey, Option<IpAddr>> = BTreeMap::new();
    let owned = owned_addresses(world.state);
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

/// Targets whose flows end because they have become unhealthy: if their group says so, and not while its traffic goes to
/// unhealthy targets for lack of others, and not if another group finds the same target healthy.
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
fn choose(world: &World<'_>, used: &Use<'_>, plan: &mut Plan) -> Vec<TargetAddress> {
    let registered = registered(world, used);
    let all = fails_open(used, &registered);
    if all {
        plan.fail_open.insert(used.group.id.clone());
    }
    registered.into_iter().filter(|(_, healthy)| all || *healthy).map(|(target, _)| target).collect()
}

fn listeners(
    world: &World<'_>,
    chosen: &BTreeMap<&TargetGroupId, Vec<TargetAddress>>,
    resolvers: &[Resolver],
    rings: &mut RingCache,
    desired: &mut Desired,
    plan: &mut Plan,
) {
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
    let held: BTreeMap<FrontendAt, u32> = actual
        .frontends
        .iter()
        .filter(|(key, frontend)| wanted.contains(key) && (index::first()..limit).contains(&frontend.listener))
        .map(|(key, frontend)| (*key, frontend.listener))
        .collect();
    let taken: BTreeSet<u32> = actual.listeners.keys().copied().collect();
    let indexes = index::assign(&wanted, &held, &taken, index::first()..limit);
    if indexes.len() < wanted.len() {
        plan.full.insert("LISTENERS");
    }
    for (door, (listener, proto)) in &doors {
        if let Some(index) = indexes.get(door) {
            plan.listeners.insert((listener.id.clone(), *proto), *index);
        }
    }
    let mut by_lb: BTreeMap<&LoadBalancerId, Vec<Indexed<'_>>> = BTreeMap::new();
    for ((id, proto), index) in &plan.listeners {
        let Some(listener) = state.listeners.get(id) else { continue };
        by_lb.entry(&listener.load_balancer).or_default().push((listener, *proto, *index));
    }
    let published = published(state, &by_lb);
    let endpoints = endpoint_indexes(world, &published, plan);

    let mut compiler = Compiler::new(state);
    let mut guards: BTreeMap<FrontendAt, Guard> = BTreeMap::new();
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
        for &(listener, proto, index) in by_lb.get(&lb.id).into_iter().flatten() {
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
            let parts = parts(&compiler, listener, proto, [&lb.security_groups, &lb.security_groups]);
            for (node, part) in each_part(lb.client_facing(), &parts) {
                let key = FrontendAt::new(vpc, node, part.first(), proto);
                desired.frontends.insert(key, Frontend { listener: index, endpoint: 0, ..Frontend::default() });
                guards.extend(compiler.at_node(lb, opening(proto, part.first())).map(|guard| (key, guard)));
                ranges(key, part, desired, plan);
            }
        }
    }
    for endpoint in state.endpoints.values() {
        let Some(vpc) = state.vpcs.get(&endpoint.vpc).and_then(vpc_index) else { continue };
        let addresses = answered(state, endpoint);
        for address in &addresses {
            desired.addresses.insert(AddressAt::new(vpc, *address), AddressKind::Endpoint.into());
        }
        let Some(Published { service, first_lb, listeners }) = published.get(&endpoint.service) else { continue };
        for address in &addresses {
            let guard = first_lb.and_then(|lb| compiler.at_endpoint(endpoint, lb, echo(*address)));
            if let Some(guard) = guard {
                let key = FrontendAt::echo(vpc, *address);
                desired.frontends.insert(key, Frontend::default());
                guards.insert(key, guard);
            }
        }
        // The address is the endpoint's from the start, traffic flows once the service's owner has agreed.
        if endpoint.state != EndpointState::Available {
            continue;
        }
        let first = AddressAt::new(vpc, endpoint.address);
        let Some(&number) = endpoints.get(&first) else { continue };
        plan.endpoints.insert(endpoint.id.clone(), number);
        desired.endpoints.insert(number, budget(endpoint.limits(service.limits)));
        desired.endpoint_ids.insert(number, id_text(&endpoint.id));
        for &((listener, proto, index), lb) in listeners {
            let parts = parts(&compiler, listener, proto, [&endpoint.security_groups, &lb.security_groups]);
            for (address, part) in each_part(addresses.iter().copied(), &parts) {
                let key = FrontendAt::new(vpc, address, part.first(), proto);
                // Of two load balancers with a listener on one port the first serves it.
                let Entry::Vacant(vacant) = desired.frontends.entry(key) else { continue };
                vacant.insert(Frontend { listener: index, endpoint: number, ..Frontend::default() });
                let guard = compiler.at_endpoint(endpoint, lb, opening(proto, part.first()));
                guards.extend(guard.map(|guard| (key, guard)));
                ranges(key, part, desired, plan);
            }
        }
    }
    for ((id, net), endpoint) in state.aliases() {
        let Some((vpc, cidr)) = state.vpcs.get(id).and_then(|vpc| Some((vpc_index(vpc)?, vpc.cidr.net()))) else {
            continue;
        };
        // A single address of the VPC is among the endpoint's own.
        if cidr.contains(&net) {
            continue;
        }
        if desired.aliases.len() as u32 == entries::ALIASES {
            plan.full.insert("ALIASES");
            break;
        }
        let key = (AliasKey::new(vpc, net.network().into()), net.prefix_len());
        desired.aliases.insert(key, Alias { endpoint: endpoint.address.into() });
    }
    resolver::install(resolvers, &indexes, desired, plan);
    policies(world, guards, desired, plan);
}

/// An endpoint's limits as the kernel has them.
fn budget(limits: Limits) -> EndpointBudget {
    let Limits { connections, connections_per_second, bits_per_second } = limits;
    EndpointBudget {
        half_open: ENDPOINT_HALF_OPEN,
        connections: connections.get().map_or(0, Connections::get),
        connections_per_second: connections_per_second.get().map_or(0, ConnectionRate::get),
        _pad: 0,
        bits_per_second: bits_per_second.get().map_or(0, BitRate::get),
    }
}

/// The addresses of an endpoint for which ARP and neighbour discovery are answered: its own, and those aliases that are
/// addresses of its VPC.
fn answered(state: &State, endpoint: &Endpoint) -> Vec<IpAddr> {
    let cidr = state.vpcs.get(&endpoint.vpc).map(|vpc| vpc.cidr.net());
    let aliases = cidr.into_iter().flat_map(|cidr| endpoint.inner_aliases(cidr)).map(IpAddr::V4);
    endpoint.all_addresses().chain(aliases).collect()
}

/// What an echo request to an address is to a rule.
pub fn echo(to: IpAddr) -> Opening {
    match to {
        IpAddr::V4(_) => Opening::Icmp(8, 0),
        IpAddr::V6(_) => Opening::Icmpv6(128, 0),
    }
}

/// Each address with each part of a listener's ports. Several ports together are led to over IPv4 only.
fn each_part(
    addresses: impl Iterator<Item = IpAddr>,
    parts: &[ListenerPorts],
) -> impl Iterator<Item = (IpAddr, ListenerPorts)> {
    let pairs = addresses.flat_map(|address| parts.iter().map(move |part| (address, *part)));
    pairs.filter(|(address, part)| address.is_ipv4() || !part.is_range())
}

/// The ports of a listener, in parts for each of which the inbound rules of some groups say one thing.
fn parts(
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

/// Leads several ports of an IPv4 address to the frontend of the first of them.
fn ranges(at: FrontendAt, ports: ListenerPorts, desired: &mut Desired, plan: &mut Plan) {
    let ByFamily::V4(key) = at.key() else { return };
    if !ports.is_range() {
        return;
    }
    for (first, bits) in ports.prefixes() {
        if desired.ranges.len() as u32 == entries::PORT_RANGES {
            plan.full.insert("PORT_RANGES");
            return;
        }
        let range = RangeKey::new(key.vpc, key.ip, L4Port::new(first), key.proto);
        desired.ranges.entry((range, bits)).or_insert(Range::new(key.port));
    }
}

/// What a connection to a port is to a rule.
fn opening(proto: Proto, port: u16) -> Opening {
    match proto {
        Proto::Tcp => Opening::Tcp(port),
        Proto::Udp => Opening::Udp(port),
    }
}

/// A listener for a transport, and its index.
type Indexed<'a> = (&'a Listener, Proto, u32);

/// A service as its endpoints lead to it.
struct Published<'a> {
    service: &'a EndpointService,
    first_lb: Option<&'a LoadBalancer>,
    /// In the order of its load balancers.
    listeners: Vec<(Indexed<'a>, &'a LoadBalancer)>,
}

/// Every service; what is the same for all of its endpoints is looked up once.
fn published<'a>(
    state: &'a State,
    by_lb: &BTreeMap<&LoadBalancerId, Vec<Indexed<'a>>>,
) -> BTreeMap<&'a EndpointServiceId, Published<'a>> {
    let of = |service: &'a EndpointService| {
        let lbs = || service.load_balancers.iter().filter_map(|id| state.load_balancers.get(id));
        let listeners = |lb: &'a LoadBalancer| by_lb.get(&lb.id).into_iter().flatten().map(move |one| (*one, lb));
        Published { service, first_lb: lbs().next(), listeners: lbs().flat_map(listeners).collect() }
    };
    state.endpoint_services.values().map(|service| (&service.id, of(service))).collect()
}

/// Gives each guarded frontend a policy of its own, which it keeps, so that a change of rules is a change of one word. A
/// frontend for which there is none is not opened.
fn policies(world: &World<'_>, guards: BTreeMap<FrontendAt, Guard>, desired: &mut Desired, plan: &mut Plan) {
    let wanted: BTreeSet<FrontendAt> = guards.keys().copied().collect();
    let actual = world.actual;
    let usable = |policy: u32| (index::first()..world.capacity.policies).contains(&policy);
    let held: BTreeMap<FrontendAt, u32> = actual
        .frontends
        .iter()
        .filter(|(key, frontend)| wanted.contains(key) && usable(frontend.policy))
        .map(|(key, frontend)| (*key, frontend.policy))
        .collect();
    let taken: BTreeSet<u32> =
        actual.frontends.values().map(|frontend| frontend.policy).chain(actual.policies.keys().copied()).collect();
    let indexes = index::assign(&wanted, &held, &taken, index::first()..world.capacity.policies);
    for (key, guard) in guards {
        match indexes.get(&key) {
            Some(&policy) => {
                desired.policies.insert(policy, guard);
                if let Some(frontend) = desired.frontends.get_mut(&key) {
                    frontend.policy = policy;
                }
            }
            None => {
                plan.full.insert("POLICIES");
                desired.frontends.remove(&key);
            }
        }
    }
}

/// An endpoint is known by its first address in its VPC, in the kernel's frontends too. One without listeners, or that is not
/// available, has none there, and no index: its flows end.
fn endpoint_indexes(
    world: &World<'_>,
    published: &BTreeMap<&EndpointServiceId, Published<'_>>,
    plan: &mut Plan,
) -> BTreeMap<AddressAt, u16> {
    let state = world.state;
    let wanted: BTreeSet<AddressAt> = state
        .endpoints
        .values()
        .filter(|endpoint| endpoint.state == EndpointState::Available)
        .filter_map(|endpoint| {
            let vpc = state.vpcs.get(&endpoint.vpc).and_then(vpc_index)?;
            published.get(&endpoint.service).filter(|service| !service.listeners.is_empty())?;
            Some(AddressAt::new(vpc, endpoint.address))
        })
        .collect();
    let held: BTreeMap<AddressAt, u16> = world
        .actual
        .frontends
        .iter()
        .filter(|(_, frontend)| frontend.endpoint != 0 && u32::from(frontend.endpoint) < world.capacity.endpoints)
        .map(|(key, frontend)| (AddressAt::new(key.vpc, key.ip), frontend.endpoint))
        .filter(|(address, _)| wanted.contains(address))
        .collect();
    let known = &world.actual.endpoints;
    let live = known.iter().filter(|(_, budget)| !budget.ended()).map(|(index, _)| *index);
    let taken: BTreeSet<u16> = world.busy.endpoints.iter().copied().chain(live).collect();
    let last = u16::try_from(world.capacity.endpoints.saturating_sub(1)).unwrap_or(u16::MAX);
    // What was never used comes first: the flows of an endpoint that has just gone end within a pass of the collector.
    let fresh = (1..=last).filter(|index| !known.contains_key(index));
    let indexes = index::assign(&wanted, &held, &taken, fresh.chain(known.keys().copied()));
    if indexes.len() < wanted.len() {
        plan.full.insert("ENDPOINTS");
    }
    indexes
}

/// The members of the ring, by target group, and what is to be said of them: those to which the load balancer's security
/// groups let it connect.
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

/// The ring of a TLS listener: its place in the relay, which is told the client by a PROXY header; empty if no target could have
/// the connection, so that it is refused as any other.
fn to_relay(listener: &Listener, plan: &Plan) -> Groups {
    let takes = plan.upstreams.get(&listener.id).is_some_and(|groups| !groups.is_empty());
    let door = plan.doors.get(&listener.id).filter(|_| takes);
    let member = door.and_then(|key| Some((identity(key), plan.targets.get(key)? | RingEntry::PROXY)));
    let group = member.map(|member| Group { weight: 1, sticky: false, members: vec![member] });
    Groups { groups: group.into_iter().collect(), sticky: false }
}

/// The listener's flows that end: those to targets of groups with weight 0, unless they are targets of another one's too.
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

/// An endpoint's id for the kernel.
fn id_text(id: &EndpointId) -> EndpointIdText {
    let mut text = EndpointIdText::default();
    for (to, from) in text.0.iter_mut().zip(id.as_str().bytes()) {
        *to = from;
    }
    text
}

/// Stable over restarts: `DefaultHasher::new` has fixed keys, and a change of its algorithm costs one reshuffle.
fn identity(key: &TargetKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key.node, key.ip, key.port).hash(&mut hasher);
    hasher.finish()
}

/// Listeners of health checks have the highest indexes, one for each target index.
pub fn first_check_listener(capacity: Capacity) -> u32 {
    capacity.listeners.saturating_sub(capacity.targets)
}

fn checks(world: &World<'_>, uses: &[Use<'_>], desired: &mut Desired, plan: &mut Plan) {
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
