//! The configuration as data: what an agent would have written into the maps.

use std::collections::{BTreeMap, BTreeSet};

use super::packet::six;
use crate::abi::{
    Ip4, Ip6, L4Port, Mac, Proto, VpcIndex,
    addr::IPV6,
    limit::{Budget, EndpointBudget},
    pool::PortPool,
    security::{Bound, Policy},
    service::{
        Address, Address6Key, AddressKey, AddressKind, Alias, AliasKey, Frontend, Frontend6Key, FrontendKey, Listener,
        Parted, Port, PortFlags, Range, RangeKey, Target, TargetFlags,
    },
    settings::Clock,
};

/// Sizes of the tables that index their records: an index at or above is no record.
pub const PORTS: u32 = 64;
pub const LISTENERS: u32 = 32;
pub const RINGS: u32 = 256;
pub const POLICIES: u32 = 16;
pub const SOURCE_BOUNDS: u32 = 1_024;
pub const TARGETS: u32 = 32;
pub const POOLS: u32 = 16;
pub const ENDPOINTS: u32 = 16;
pub const VPCS: u32 = 65_536;

/// The clock of all cases: ticks of 1/15 second.
pub const CLOCK: Clock = Clock::for_hz(1000);

/// Everything that is configured. Records that are not named are zero, as in an array map.
#[derive(Clone, Debug)]
pub struct World {
    pub ports: BTreeMap<u32, Port>,
    pub addresses: BTreeMap<AddressKey, Address>,
    pub frontends: BTreeMap<FrontendKey, Frontend>,
    /// By address and the length of its prefix.
    pub aliases: BTreeMap<(AliasKey, u32), Alias>,
    /// By ports and the length of their prefix.
    pub ranges: BTreeMap<(RangeKey, u32), Range>,
    pub parted: BTreeSet<Parted>,
    pub addresses6: BTreeMap<Address6Key, Address>,
    pub frontends6: BTreeMap<Frontend6Key, Frontend>,
    pub policies: BTreeMap<u32, Policy>,
    pub source_bounds: Vec<Bound>,
    pub listeners: BTreeMap<u32, Listener>,
    pub rings: Vec<u32>,
    pub targets: BTreeMap<u32, Target>,
    /// Target index → the same target behind the next node address.
    pub next_nodes: BTreeMap<u32, u32>,
    pub vpc_budgets: BTreeMap<u32, Budget>,
    pub endpoint_budgets: BTreeMap<u32, EndpointBudget>,
    /// The pools' state when a case begins.
    pub pools: Vec<PortPool>,
    /// Flow events are wanted.
    pub flow_events: bool,
}

impl World {
    pub fn empty() -> Self {
        Self {
            ports: BTreeMap::new(),
            addresses: BTreeMap::new(),
            frontends: BTreeMap::new(),
            aliases: BTreeMap::new(),
            ranges: BTreeMap::new(),
            parted: BTreeSet::new(),
            addresses6: BTreeMap::new(),
            frontends6: BTreeMap::new(),
            policies: BTreeMap::new(),
            source_bounds: Vec::new(),
            listeners: BTreeMap::new(),
            rings: Vec::new(),
            targets: BTreeMap::new(),
            next_nodes: BTreeMap::new(),
            vpc_budgets: BTreeMap::new(),
            endpoint_budgets: BTreeMap::new(),
            pools: vec![PortPool::EMPTY; POOLS as usize],
            flow_events: false,
        }
    }

    /// A port of `vpc` with the Ethernet address [`port_mac`].
    pub fn port(&mut self, ifindex: u32, vpc: u16, mtu: u32, flags: PortFlags) {
        let record = Port { vpc: VpcIndex(vpc), flags, mtu, mac: port_mac(ifindex), _pad: [0; 2] };
        self.ports.insert(ifindex, record);
    }

    /// An owned address.
    pub fn address(&mut self, vpc: u16, ip: [u8; 4], kind: AddressKind) {
        self.addresses.insert(AddressKey::new(VpcIndex(vpc), Ip4::from_wire(ip)), kind.into());
    }

    /// An address and L4 port that lead to a listener.
    pub fn frontend(&mut self, vpc: u16, ip: [u8; 4], port: u16, listener: u32, endpoint: u16) {
        let key = FrontendKey::new(VpcIndex(vpc), Ip4::from_wire(ip), L4Port::new(port), Proto::Tcp);
        self.frontends.insert(key, Frontend { listener, endpoint, ..Frontend::default() });
    }

    /// Addresses that are an endpoint's too.
    pub fn alias(&mut self, vpc: u16, ip: [u8; 4], bits: u32, endpoint: [u8; 4]) {
        let key = AliasKey::new(VpcIndex(vpc), Ip4::from_wire(ip));
        self.aliases.insert((key, bits), Alias { endpoint: Ip4::from_wire(endpoint) });
    }

    /// The endpoint of which an address is an alias: by the longest prefix.
    pub fn endpoint_of(&self, vpc: VpcIndex, ip: Ip4) -> Option<Ip4> {
        let around = |key: &AliasKey, bits: u32| {
            let differ = u32::from_be_bytes(key.ip.to_wire()) ^ u32::from_be_bytes(ip.to_wire());
            key.vpc == vpc && differ.leading_zeros() >= bits
        };
        let aliases = self.aliases.iter().filter(|((key, bits), _)| around(key, *bits));
        aliases.max_by_key(|((_, bits), _)| *bits).map(|(_, alias)| alias.endpoint)
    }

    /// The ports that share the leading `bits` with `port` are served by the frontend of `canonical`.
    pub fn range(&mut self, vpc: u16, ip: [u8; 4], proto: Proto, port: u16, bits: u32, canonical: u16) {
        let key = RangeKey::new(VpcIndex(vpc), Ip4::from_wire(ip), L4Port::new(port), proto.number());
        self.ranges.insert((key, bits), Range::new(L4Port::new(canonical)));
    }

    /// A listener of one target that is reached at the port that the client asks for.
    pub fn same_port(&mut self, listener: u32, target: u32, proto: Proto) {
        self.listener(listener, 350, &[target]);
        let pool = target - 6;
        match proto {
            Proto::Tcp => self.target(target, 3, [10, 0, 4, 1], 0, super::cases::PROVIDER, pool),
            Proto::Udp => self.udp_target(target, 3, [10, 0, 4, 1], 0, super::cases::PROVIDER, pool),
        }
    }

    /// The port under which the frontend is kept that serves the key's port among others: by the longest prefix.
    pub fn range_of(&self, wanted: &FrontendKey) -> Option<L4Port> {
        let around = |key: &RangeKey, bits: u32| {
            let differ = u32::from(key.port.get() ^ wanted.port.get()) << 16;
            (key.vpc, key.ip, key.proto) == (wanted.vpc, wanted.ip, wanted.proto) && differ.leading_zeros() >= bits
        };
        let ranges = self.ranges.iter().filter(|((key, bits), _)| around(key, *bits));
        ranges.max_by_key(|((_, bits), _)| *bits).map(|(_, range)| range.port)
    }

    /// The same for UDP.
    pub fn udp_frontend(&mut self, vpc: u16, ip: [u8; 4], port: u16, listener: u32, endpoint: u16) {
        let key = FrontendKey::new(VpcIndex(vpc), Ip4::from_wire(ip), L4Port::new(port), Proto::Udp);
        self.frontends.insert(key, Frontend { listener, endpoint, ..Frontend::default() });
    }

    /// The same networks over IPv6: every address is [`six`] of what it was, and packets may be as much larger as the
    /// header is, so that the same payloads pass.
    #[must_use]
    pub fn over_ipv6(&self) -> Self {
        let mut world = self.clone();
        for port in world.ports.values_mut() {
            port.mtu += 20;
        }
        for (key, address) in std::mem::take(&mut world.addresses) {
            world.addresses6.insert(Address6Key::new(key.vpc, Ip6::from_wire(six(key.ip.to_wire()))), address);
        }
        for (key, frontend) in std::mem::take(&mut world.frontends) {
            let FrontendKey { ip, vpc, port, proto, _pad } = key;
            let ip = Ip6::from_wire(six(ip.to_wire()));
            let key = match key == FrontendKey::echo(vpc, key.ip) {
                true => Frontend6Key::echo(vpc, ip),
                false => Frontend6Key { ip, vpc, port, proto, _pad },
            };
            world.frontends6.insert(key, frontend);
        }
        // The sets of sources move with the addresses.
        let (mapped, prefix) = (0xffff_u128 << 32, u128::from_be_bytes(six([0; 4])));
        for bound in &mut world.source_bounds {
            let number = (bound.hi as u128) << 64 | bound.lo as u128;
            if (mapped..=mapped + (1 << 32)).contains(&number) {
                *bound = Bound::from_number(number - mapped + prefix);
            }
        }
        for (index, target) in &self.targets {
            world.by_ipv6(*index, six(target.ip.to_wire()), six(target.node_ip.to_wire()));
        }
        world
    }

    /// The same networks with clients of one family and targets of the other; addresses are owned in both.
    #[must_use]
    pub fn between_families(&self, ipv6: bool) -> Self {
        let six = self.over_ipv6();
        let (clients, targets) = if ipv6 { (&six, self) } else { (self, &six) };
        Self {
            ports: six.ports.clone(),
            addresses: self.addresses.clone(),
            addresses6: six.addresses6.clone(),
            targets: targets.targets.clone(),
            ..clients.clone()
        }
    }

    /// An owned IPv6 address.
    pub fn address6(&mut self, vpc: u16, ip: [u8; 16], kind: AddressKind) {
        self.addresses6.insert(Address6Key::new(VpcIndex(vpc), Ip6::from_wire(ip)), kind.into());
    }

    /// An IPv6 address and L4 port that lead to a listener.
    pub fn frontend6(&mut self, vpc: u16, ip: [u8; 16], port: u16, proto: Proto, listener: u32, endpoint: u16) {
        let key = Frontend6Key::new(VpcIndex(vpc), Ip6::from_wire(ip), L4Port::new(port), proto);
        self.frontends6.insert(key, Frontend { listener, endpoint, ..Frontend::default() });
    }

    /// Makes the target one that is reached by IPv6.
    pub fn by_ipv6(&mut self, index: u32, ip: [u8; 16], node: [u8; 16]) {
        self.targets.entry(index).and_modify(|target| {
            (target.ip, target.node_ip) = (Ip4::UNSPECIFIED, Ip4::UNSPECIFIED);
            (target.ip6, target.node_ip6) = (Ip6::from_wire(ip), Ip6::from_wire(node));
            target.proto |= IPV6;
        });
    }

    /// A listener with a ring of these targets.
    pub fn listener(&mut self, index: u32, idle_s: u16, ring: &[u32]) {
        let ring_base = self.rings.len() as u32;
        self.rings.extend_from_slice(ring);
        self.listeners
            .insert(index, Listener { ring_base, ring_len: ring.len() as u32, idle_s, ..Listener::default() });
    }

    /// A policy that lets in the sources of these inclusive ranges, which are sorted and apart from each other.
    pub fn policy(&mut self, index: u32, sources: &[([u8; 4], [u8; 4])], established: bool) {
        let base = self.source_bounds.len() as u32;
        for (first, last) in sources {
            let after = Bound::v4(Ip4::from_wire(*last)).to_number() + 1;
            self.source_bounds.extend([Bound::v4(Ip4::from_wire(*first)), Bound::from_number(after)]);
        }
        self.policies.insert(index, Policy::new(base, 2 * sources.len() as u32, established));
    }

    /// Puts a frontend under a policy.
    ///
    /// # Panics
    ///
    /// If there is no such frontend.
    pub fn guard(&mut self, vpc: u16, ip: [u8; 4], port: u16, policy: u32) {
        let key = FrontendKey::new(VpcIndex(vpc), Ip4::from_wire(ip), L4Port::new(port), Proto::Tcp);
        self.frontends.get_mut(&key).expect("a frontend").policy = policy;
    }

    /// Puts echo requests to an address under a policy.
    pub fn guard_echo(&mut self, vpc: u16, ip: [u8; 4], policy: u32) {
        let key = FrontendKey::echo(VpcIndex(vpc), Ip4::from_wire(ip));
        self.frontends.insert(key, Frontend { policy, ..Frontend::default() });
    }

    /// A target with a resolved next hop, [`target_mac`], behind port `ifindex`.
    pub fn target(&mut self, index: u32, vpc: u16, ip: [u8; 4], port: u16, ifindex: u32, pool: u32) {
        let record = Target {
            ip: Ip4::from_wire(ip),
            node_ip: Ip4::from_wire(super::cases::NODE),
            port: L4Port::new(port),
            vpc: VpcIndex(vpc),
            generation: 7,
            flags: TargetFlags::RESOLVED,
            ifindex,
            pool,
            mac: target_mac(index),
            proto: Proto::Tcp.number(),
            _pad: 0,
            ip6: Ip6::UNSPECIFIED,
            node_ip6: Ip6::UNSPECIFIED,
        };
        self.targets.insert(index, record);
    }

    /// The same for UDP.
    pub fn udp_target(&mut self, index: u32, vpc: u16, ip: [u8; 4], port: u16, ifindex: u32, pool: u32) {
        self.target(index, vpc, ip, port, ifindex, pool);
        self.targets.entry(index).and_modify(|target| target.proto = Proto::Udp.number());
    }
}

/// A port's own Ethernet address.
pub const fn port_mac(ifindex: u32) -> Mac {
    Mac([0x02, 0, 0, 0, 0x01, ifindex as u8])
}

/// A target's Ethernet address.
pub const fn target_mac(index: u32) -> Mac {
    Mac([0x02, 0, 0, 0, 0x02, index as u8])
}

/// A pool with all ports taken but the `free` highest.
pub fn nearly_full(free: u32) -> PortPool {
    use crate::abi::pool::{CAPACITY, WORDS};
    let mut pool = PortPool::EMPTY;
    for port in 0..CAPACITY - free {
        pool.words[port as usize / 64] |= 1 << (port % 64);
    }
    for index in 0..WORDS {
        if pool.words[index] == !0 {
            pool.summary[index / 64] |= 1 << (index % 64);
        }
    }
    for (group, summary) in pool.summary.iter().enumerate() {
        if *summary == !0 {
            pool.top |= 1 << group;
        }
    }
    pool
}
