//! What the kernel's tables should say. Pure: the state, the links, the targets' health, the next hops and what the
//! kernel holds now come in; exact contents come out, with the plan that the rest of the agent works by.

mod checks;
mod endpoints;
mod listeners;
mod targets;

use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use privatelink_ebpf::abi::{
    Mac, Proto, VpcIndex, entries,
    limit::{Budget, EndpointBudget},
    service::{
        Address, AddressKind, Alias, AliasKey, EndpointIdText, Frontend, ListenerFlags, Parted, Port, PortFlags, Range,
        RangeKey, Target,
    },
};

use self::{
    checks::checks,
    endpoints::{Causes, Changed, Part, Parts},
    listeners::listeners,
    targets::{choose, targets, uses},
};
pub use self::{
    checks::{first_check_listener, way_to},
    listeners::echo,
};
use super::{
    diff::Scope,
    index::{self, Busy, TargetKey},
    plan::{CheckKey, Hop, HopKey, HostPort, Plan, internal_ipv6},
    relay::{self, Doors},
    resolver::{self, Door},
    ring::RingCache,
    security::{Compiler, Guard, Rules},
};
use crate::{
    dataplane::{AddressAt, Capacity, FrontendAt, Hook, Tables},
    health::state::Checked,
    model::{Endpoint, Protocol, State, TargetAddress, TargetGroupId, Vpc, VpcId},
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
    /// Targets to which the relay may connect, until it says that it does not.
    pub relayed: &'a BTreeSet<u32>,
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
            endpoint.vpc == *vpc && endpoint.all_addresses().chain(aliases_at(endpoint)).any(|own| own == ip)
        })
}

/// The aliases of an endpoint that are single addresses.
fn aliases_at(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> + '_ {
    endpoint.aliases.iter().filter_map(|alias| alias.address()).map(IpAddr::V4)
}

/// The transports of a protocol, in order.
pub fn transports(protocol: Protocol) -> impl Iterator<Item = Proto> {
    let tcp = protocol.has_tcp().then_some(Proto::Tcp);
    tcp.into_iter().chain(protocol.has_udp().then_some(Proto::Udp))
}

/// Tables that are being made.
#[derive(Default)]
struct Draft {
    desired: Desired,
    plan: Plan,
    /// Who may connect at frontends, which have no policies yet.
    guards: BTreeMap<FrontendAt, Guard>,
}

/// What a pass is to do.
pub struct Decision {
    /// The tables, as far as `scope` goes.
    pub desired: Desired,
    pub scope: Scope,
    pub plan: Plan,
    /// For the next pass; none if it cannot go on from this one.
    pub memory: Option<Memory>,
}

/// What was decided last: a pass that goes on from it makes anew what may have become something else.
///
/// Everything that endpoints put into the tables is at an address of theirs, so it is in nobody else's part; the rest
/// is few and made anew each time.
#[derive(Debug, Default)]
pub struct Memory {
    parts: Parts,
    causes: Causes,
    rules: Rules,
    /// Where the tables have something that is no endpoint's.
    rest: Touched,
}

/// Keys of the tables that many endpoints fill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub addresses: BTreeSet<AddressAt>,
    pub frontends: BTreeSet<FrontendAt>,
    pub ranges: BTreeSet<(RangeKey, u8)>,
    pub policies: BTreeSet<u32>,
}

impl Touched {
    fn of(desired: &Desired) -> Self {
        Self {
            addresses: desired.addresses.keys().copied().collect(),
            frontends: desired.frontends.keys().copied().collect(),
            ranges: desired.ranges.keys().copied().collect(),
            policies: BTreeSet::new(),
        }
    }

    fn add(&mut self, part: &Part) {
        let Part { addresses, frontends, ranges, numbered: _ } = part;
        self.addresses.extend(addresses);
        self.frontends.extend(frontends.keys());
        self.ranges.extend(ranges.iter().map(|(key, _)| *key));
    }
}

/// Decides on everything. This is the truth, whatever [`go_on`] says.
pub fn decide(world: &World<'_>, rings: &mut RingCache) -> Decision {
    let (mut draft, memory, _) = draft(world, rings, Memory::default());
    for index in world.actual.endpoints.keys() {
        draft.desired.endpoints.entry(*index).or_insert(EndpointBudget::ENDED);
    }
    finish(world, draft, Scope::All, memory)
}

/// Decides on what may have become something else since `memory` was made, if the kernel holds exactly what was decided
/// then. None where it could come to something else than [`decide`]: there is no room, or an address has two owners.
pub fn go_on(world: &World<'_>, rings: &mut RingCache, memory: Memory) -> Option<Decision> {
    let actual = world.actual;
    let mut before = memory.rest.clone();
    let (mut draft, memory, gone) = draft(world, rings, memory);
    gone.iter().for_each(|part| before.add(part));
    let Desired { addresses, ranges, endpoints, .. } = &mut draft.desired;
    let contested = addresses.keys().any(|at| actual.addresses.contains_key(at) && !before.addresses.contains(at));
    if contested || actual.ranges.len() - before.ranges.len() + ranges.len() > entries::PORT_RANGES as usize {
        return None;
    }
    for (index, ..) in gone.iter().filter_map(|part| part.numbered) {
        endpoints.entry(index).or_insert(EndpointBudget::ENDED);
    }
    let now = Touched::of(&draft.desired);
    let mut touched = before;
    touched.addresses.extend(now.addresses);
    touched.frontends.extend(now.frontends);
    touched.ranges.extend(now.ranges);
    let there = touched.frontends.iter().filter_map(|key| actual.frontends.get(key));
    touched.policies = there.map(|frontend| frontend.policy).filter(|policy| *policy != 0).collect();
    let decision = finish(world, draft, Scope::Touched(touched), memory);
    decision.plan.full.is_empty().then_some(decision)
}

/// The tables as far as they are made anew, what to go on from, and the parts that are not there any more.
fn draft(world: &World<'_>, rings: &mut RingCache, before: Memory) -> (Draft, Memory, Vec<Part>) {
    let Memory { mut parts, causes: old_causes, rules: old_rules, rest: _ } = before;
    let mut draft = Draft::default();
    let rules = Rules::new(world.state);
    let mut compiler = Compiler::new(&rules);
    let causes = rest(world, &mut compiler, rings, &old_causes, &mut draft);
    let rest = Touched::of(&draft.desired);
    let changed = Changed::new(&old_causes, &causes, rules.changed(&old_rules));
    let gone = parts.renew(world, &causes, &changed, &mut compiler, &mut draft);
    (draft, Memory { parts, causes, rules, rest }, gone)
}

/// Everything that is no endpoint's.
fn rest(
    world: &World<'_>,
    compiler: &mut Compiler<'_>,
    rings: &mut RingCache,
    before: &Causes,
    draft: &mut Draft,
) -> Causes {
    let state = world.state;
    let Draft { desired, plan, guards: _ } = draft;
    for vpc in state.vpcs.values() {
        if let Some(index) = vpc_index(vpc) {
            desired.vpcs.insert(index, Budget { half_open: VPC_HALF_OPEN });
            plan.vpcs.insert(index, vpc.id.clone());
        }
    }
    ports(world, desired, plan);
    let uses = uses(state);
    let resolvers = resolver::resolvers(world);
    targets(world, &uses, &resolvers, desired, plan);
    let chosen: BTreeMap<&TargetGroupId, Vec<TargetAddress>> =
        uses.iter().map(|used| (&used.group.id, choose(world, used, plan))).collect();
    let by_lb = listeners(world, &chosen, &resolvers, compiler, rings, draft);
    rings.sweep();
    let Draft { desired, plan, guards: _ } = draft;
    aliases(state, desired, plan);
    checks(world, &uses, desired, plan);
    relay::keep_ways(world, desired, plan);
    Causes::new(state, &by_lb, before)
}

fn finish(world: &World<'_>, draft: Draft, mut scope: Scope, memory: Memory) -> Decision {
    let Draft { mut desired, mut plan, guards } = draft;
    let ended_by_guard = memory.parts.ends_flows() || guards.values().any(|guard| guard.established);
    policies(world, guards, &mut desired, &mut plan);
    plan.ends_by_rule = !desired.parted.is_empty() || ended_by_guard;
    if let Scope::Touched(touched) = &mut scope {
        touched.policies.extend(desired.policies.keys());
    }
    let memory = (plan.full.is_empty() && !memory.parts.contested()).then_some(memory);
    Decision { desired, scope, plan, memory }
}

/// The prefixes whose packets are an endpoint's, but for those inside its VPC.
fn aliases(state: &State, desired: &mut Desired, plan: &mut Plan) {
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
}

/// Gives each guarded frontend a policy of its own, which it keeps, so that a change of rules is a change of one word.
/// A frontend for which there is none is not opened.
fn policies(world: &World<'_>, guards: BTreeMap<FrontendAt, Guard>, desired: &mut Desired, plan: &mut Plan) {
    let wanted: BTreeSet<FrontendAt> = guards.keys().copied().collect();
    let actual = world.actual;
    let usable = |policy: u32| (index::first()..world.capacity.policies).contains(&policy);
    let held = wanted.iter().filter_map(|key| Some((*key, actual.frontends.get(key)?.policy)));
    let held: BTreeMap<FrontendAt, u32> = held.filter(|(_, policy)| usable(*policy)).collect();
    let named = LazyCell::new(|| {
        let mut named: Vec<u32> = actual.frontends.values().map(|frontend| frontend.policy).collect();
        named.sort_unstable();
        named
    });
    let taken = |policy: &u32| actual.policies.contains_key(policy) || named.binary_search(policy).is_ok();
    let indexes = index::assign(&wanted, &held, taken, index::first()..world.capacity.policies);
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
