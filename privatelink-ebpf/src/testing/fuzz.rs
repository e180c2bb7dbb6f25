//! Random sequences of frames, time and changes of the configuration, held against two backends step by step. A seed
//! stands for one sequence: nothing else is random. Bytes that a fuzzer chooses make sequences as well ([`drive`]):
//! what they lead to is held against what must always be true.

use std::collections::BTreeMap;

use super::{
    cases::{
        self, A, B, DIRECT, DIRECT_TOO, DNS, EMPTY, HTTP, HTTPS, INTERFACES, LIMITED, NODE, ON_BOTH, ON_HOST, ON_JUMBO,
        ON_NO_XDP, ON_SHARED, ON_SMALL, ONE_PORT, PROVIDER, PROVIDER_OTHER, SHORT, TC_TARGET, UNRESOLVED,
    },
    icmp::{About, Icmp},
    packet::{Arp, Headers, Tcp, Udp, UdpCheck, internet_checksum},
    run::{Backend, Fate, Outcome, Path, Seen, as_played, describe, key},
    script::{Client, Edit, Packet},
    world::{ENDPOINTS, POOLS, World, port_mac},
};
use crate::{
    abi::{
        Counter, Mac, Proto,
        event::Event,
        flow::{FlowKey, Meta, Slot},
    },
    datapath::translate::{L4_IPV4, L4_IPV6},
    wire::tcp::Flags,
};

/// Steps of a sequence: fewer than what is sent of anything in one tick, so that no limit depends on the clock.
pub const STEPS: usize = 60;

/// Where choices come from.
enum Random<'a> {
    /// SplitMix64.
    Seed(u64),
    /// As few bytes a choice as can make it; zeros when there are no more.
    Bytes(&'a [u8]),
}

impl Random<'_> {
    fn next(&mut self) -> u64 {
        match self {
            Self::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = *state;
                z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ z >> 31
            }
            Self::Bytes(_) => self.take(8),
        }
    }

    /// A number of so many bytes.
    fn take(&mut self, len: usize) -> u64 {
        match self {
            Self::Seed(_) => self.next(),
            Self::Bytes(bytes) => {
                let (taken, rest) = bytes.split_at(len.min(bytes.len()));
                *bytes = rest;
                taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
        }
    }

    /// All choices have been made.
    fn exhausted(&self) -> bool {
        matches!(self, Self::Bytes([]))
    }

    /// Below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        (self.take(if bound <= 256 { 1 } else { 2 }) % bound as u64) as usize
    }

    /// One time in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Contents, about which nothing is decided.
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        match self {
            Self::Seed(_) => (0..len).map(|_| self.next() as u8).collect(),
            Self::Bytes(_) if len <= 40 => (0..len).map(|_| self.take(1) as u8).collect(),
            Self::Bytes(_) => {
                let first = self.take(1) as u8;
                (0..len).map(|at| first.wrapping_add(at as u8)).collect()
            }
        }
    }
}

/// One step.
#[derive(Debug)]
enum Action {
    Frame { ifindex: u32, gso_size: u32, bytes: Vec<u8> },
    Advance(u32),
    Collect,
    Change(Box<World>),
}

/// What a step brought about.
#[derive(PartialEq, Eq, Debug)]
struct Observed {
    seen: Option<Seen>,
    counts: Vec<(&'static str, u64)>,
    events: Vec<Event>,
    entries: BTreeMap<[u64; 2], String>,
    pools: Vec<u32>,
    /// Half-open flows of VPCs and of endpoints, and open ones of endpoints.
    half_open: Vec<u32>,
}

/// Runs the sequence of `seed` on both backends.
///
/// # Errors
///
/// The first step after which they differ.
pub fn compare(seed: u64, path: Path, one: &mut dyn Backend, other: &mut dyn Backend) -> Outcome<()> {
    let mut random = Random::Seed(seed);
    let families = random.of(&Families::ALL);
    let mut sequence = Sequence { random, families, sent: BTreeMap::new(), world: cases::world() };
    sequence.world.flow_events = sequence.random.one_in(2);
    let world = sequence.played();
    one.reset(&world)?;
    other.reset(&world)?;
    for step in 1..=STEPS {
        let mut slots = one.slots()?;
        slots.sort_by_key(|slot| slot.key);
        let action = sequence.next(&slots);
        let (here, there) = (perform(one, path, &action)?, perform(other, path, &action)?);
        if here != there {
            let place = format!("seed {seed} ({path:?}, {families:?}), step {step}");
            return Err(format!("{place}, {action:02x?}:\n{here:02x?}\n{there:02x?}"));
        }
    }
    Ok(())
}

/// Steps of a sequence that a fuzzer's bytes make.
const DRIVEN_STEPS: usize = 200;
/// Seconds after which nothing of any flow is left.
const FORGOTTEN_S: u32 = 6_001;

/// Runs the sequence that `bytes` stand for: checksums that were right stay right, and when all has been forgotten,
/// every port and every budget has been given back.
///
/// # Errors
///
/// What is not so.
pub fn drive(bytes: &[u8], path: Path, backend: &mut dyn Backend) -> Outcome<()> {
    let (random, families) = (Random::Bytes(bytes), Families::IPV4);
    let mut sequence = Sequence { random, families, sent: BTreeMap::new(), world: cases::world() };
    backend.reset(&sequence.world)?;
    let used = |backend: &mut dyn Backend| -> Outcome<Vec<u32>> {
        (0..POOLS as usize).map(|index| Ok(backend.pool(index)?.used())).collect()
    };
    let at_first = used(backend)?;
    let mut steps = 0;
    while !sequence.random.exhausted() && steps < DRIVEN_STEPS {
        steps += 1;
        let mut slots = backend.slots()?;
        slots.sort_by_key(|slot| slot.key);
        let action = sequence.next(&slots);
        let Observed { seen, .. } = perform(backend, path, &action)?;
        if let (Action::Frame { bytes, .. }, Some(Seen { fate: Fate::Sent, bytes: sent, .. })) = (&action, seen)
            && checksums_are_right(bytes)
            && !checksums_are_right(&sent)
        {
            return Err(format!("step {steps}, {action:02x?}: a wrong checksum in {sent:02x?}"));
        }
    }
    // Ports that are away come back, so that nothing has to wait for them.
    backend.configure(&cases::world())?;
    for _ in 0..3 {
        backend.advance(FORGOTTEN_S)?;
        backend.collect()?;
    }
    let left = backend.slots()?;
    if !left.is_empty() {
        return Err(format!("entries are left: {:?}", left.iter().map(describe).collect::<Vec<_>>()));
    }
    let at_last = used(backend)?;
    if at_first != at_last {
        return Err(format!("ports in use: {at_first:?} at first, {at_last:?} at last"));
    }
    for vpc in 1..9 {
        if backend.half_open_vpc(vpc)? != 0 {
            return Err(format!("VPC {vpc} has {} half-open flows of none", backend.half_open_vpc(vpc)?));
        }
    }
    for index in 0..ENDPOINTS {
        if backend.half_open_endpoint(index)? != 0 {
            return Err(format!("endpoint {index} has {} half-open flows of none", backend.half_open_endpoint(index)?));
        }
    }
    Ok(())
}

/// An IPv4 packet with an offset, or with more to come.
fn is_fragment(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0])
        && frame.get(20..22).is_some_and(|bits| u16::from_be_bytes([bits[0], bits[1]]) & 0x3fff != 0)
}

/// The frame is an unfragmented IPv4 packet whose checksums are those of its bytes; or it is nothing of which that can
/// be said.
fn checksums_are_right(frame: &[u8]) -> bool {
    if frame.len() < 34 || frame[12..14] != [8, 0] {
        return true;
    }
    let header = usize::from(frame[14] & 0xf) * 4;
    let len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    if frame[14] >> 4 != 4 || header < 20 || len < header || frame.len() < 14 + len {
        return false;
    }
    let (ip, payload) = frame[14..14 + len].split_at(header);
    if internet_checksum(&[ip]) != 0 {
        return false;
    }
    let pseudo = [&ip[12..20], &[0, ip[9]], &(payload.len() as u16).to_be_bytes()].concat();
    match ip[9] {
        _ if is_fragment(frame) => true,
        1 => internet_checksum(&[payload]) == 0,
        17 if payload.len() >= 8 && payload[6..8] == [0, 0] => true,
        // The bytes behind a datagram are no part of it.
        17 if payload.len() >= 8 && usize::from(u16::from_be_bytes([payload[4], payload[5]])) != payload.len() => false,
        6 | 17 => internet_checksum(&[&pseudo, payload]) == 0,
        _ => true,
    }
}

fn perform(backend: &mut dyn Backend, path: Path, action: &Action) -> Outcome<Observed> {
    let before = backend.counters()?;
    let mut seen = None;
    match action {
        Action::Frame { ifindex, gso_size, bytes } => {
            let path = if *gso_size == 0 { path } else { Path::Tc };
            seen = Some(backend.frame(path, *ifindex, *gso_size, bytes)?);
        }
        Action::Advance(seconds) => backend.advance(*seconds)?,
        Action::Collect => backend.collect()?,
        Action::Change(world) => backend.configure(world)?,
    }
    let after = backend.counters()?;
    let counts = Counter::ALL
        .iter()
        .filter(|counter| **counter != Counter::FlowStashed)
        .map(|counter| (counter.name(), after[*counter as usize] - before[*counter as usize]))
        .filter(|(_, count)| *count != 0)
        .collect();
    if let Some(seen) = &mut seen
        && after[Counter::CookieSent as usize] != before[Counter::CookieSent as usize]
    {
        // The cookie and the window that makes up for it: each clock makes others.
        let tcp = if seen.bytes[12..14] == [8, 0] { 34 } else { 54 };
        seen.bytes[tcp + 8..tcp + 12].fill(0);
        seen.bytes[tcp + 14..tcp + 16].fill(0);
    }
    let half_open = (1..9)
        .map(|vpc| backend.half_open_vpc(vpc))
        .collect::<Outcome<Vec<_>>>()?
        .into_iter()
        .chain((0..ENDPOINTS).map(|index| backend.half_open_endpoint(index)).collect::<Outcome<Vec<_>>>()?)
        .chain((0..ENDPOINTS).map(|index| Ok(backend.endpoint_use(index)?.connections)).collect::<Outcome<Vec<_>>>()?)
        .collect();
    let mut events = backend.events()?;
    // A sweep goes over the stash in its own order.
    events.sort_by_key(|event| format!("{event:?}"));
    Ok(Observed {
        seen,
        counts,
        events,
        entries: backend.slots()?.iter().map(|slot| (slot.key, describe(slot))).collect(),
        pools: (0..POOLS as usize).map(|index| Ok(backend.pool(index)?.used())).collect::<Outcome<_>>()?,
        half_open,
    })
}

/// Of which families the two sides of all flows are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Families {
    ipv6_clients: bool,
    ipv6_targets: bool,
}

impl Families {
    const IPV4: Self = Self { ipv6_clients: false, ipv6_targets: false };
    const ALL: [Self; 5] = [
        Self::IPV4,
        Self::IPV4,
        Self { ipv6_clients: true, ipv6_targets: true },
        Self { ipv6_clients: true, ipv6_targets: false },
        Self { ipv6_clients: false, ipv6_targets: true },
    ];
}

struct Sequence<'a> {
    random: Random<'a>,
    families: Families,
    /// Headers of what clients of IPv6 have sent, by the key of its flow, which does not tell them.
    sent: BTreeMap<[u64; 2], Headers>,
    /// As it is over IPv4.
    world: World,
}

/// Clients of the load balancer itself, one behind the targets' port.
const DIRECTLY: Client = Client { vpc: 3, ifindex: PROVIDER_OTHER, ip: [10, 0, 4, 4], ..A.to(NODE).to_port(DIRECT) };
const CLIENTS: [Client; 11] = [
    A,
    B,
    ON_SHARED,
    ON_NO_XDP,
    ON_SMALL,
    ON_JUMBO,
    ON_BOTH,
    ON_HOST,
    A.to(LIMITED),
    DIRECTLY,
    DIRECTLY.behind(PROVIDER),
];
const SERVICE_PORTS: [u16; 10] = [HTTP, HTTP, HTTPS, EMPTY, UNRESOLVED, ONE_PORT, TC_TARGET, SHORT, DNS, 9999];
const FLAGS: [u8; 14] = [0x10, 0x10, 0x18, 0x18, 0x11, 0x11, 0x04, 0x14, 0x02, 0x12, 0x00, 0x03, 0x29, 0xff];
/// Seconds; not those of a lifetime, so that the fraction of a second that a run takes decides nothing.
const PAUSES: [u32; 7] = [1, 4, 7, 13, 37, 67, 357];

impl Sequence<'_> {
    /// The configuration for the sequence's families.
    fn played(&self) -> World {
        let Families { ipv6_clients, ipv6_targets } = self.families;
        as_played(&self.world, ipv6_clients, ipv6_clients != ipv6_targets)
    }

    fn next(&mut self, slots: &[Slot]) -> Action {
        match self.random.below(40) {
            0 => Action::Advance(self.random.of(&PAUSES)),
            1 => Action::Collect,
            2 => self.change(),
            _ => self.frame(slots),
        }
    }

    /// The agent changes something.
    fn change(&mut self) -> Action {
        let target = 1 + self.random.below(8) as u32;
        let listener = 1 + self.random.below(9) as u32;
        match self.random.below(6) {
            0 => {
                if let Some(target) = self.world.targets.get_mut(&target) {
                    target.generation = target.generation.wrapping_add(1);
                }
            }
            1 => {
                let original = cases::world();
                if let Some(record) = self.world.listeners.get_mut(&listener) {
                    let len = original.listeners.get(&listener).map_or(0, |listener| listener.ring_len);
                    record.ring_len = if record.ring_len == 0 { len } else { 0 };
                }
            }
            2 => {
                let ifindex = self.random.of(&[11, 13, 18, 21]);
                match cases::world().ports.get(&ifindex) {
                    Some(port) if !self.world.ports.contains_key(&ifindex) => {
                        self.world.ports.insert(ifindex, *port);
                    }
                    _ => _ = self.world.ports.remove(&ifindex),
                }
            }
            3 => {
                let mtu = self.random.of(&[1280, 1400, 1500, 3000]);
                let ifindex = self.random.of(&[11, 13, 18, 19]);
                if let Some(port) = self.world.ports.get_mut(&ifindex) {
                    port.mtu = mtu;
                }
            }
            4 => {
                if let Some(target) = self.world.targets.get_mut(&target) {
                    target.mac = Mac([2, 0, 0, 0, 9, self.random.next() as u8]);
                }
            }
            _ => self.world.flow_events = !self.world.flow_events,
        }
        Action::Change(Box::new(self.played()))
    }

    fn frame(&mut self, slots: &[Slot]) -> Action {
        let (mut ifindex, packet) = if slots.is_empty() || self.random.one_in(5) {
            self.stranger()
        } else {
            let slot = self.random.of(slots);
            self.known(&slot, slots)
        };
        let mut bytes = packet.build();
        if self.random.one_in(6) && bytes.len() > 60 {
            let offset = self.random.of(&[0, 0, 8, 24, 800, 1480]);
            let len = self.random.of(&[8, 24, 800, 1480, 1500]);
            let l4 = 14 + usize::from(bytes[14] & 0xf) * 4;
            if l4 + offset < bytes.len() && bytes[12..14] == [8, 0] {
                Edit::Fragment(offset, len).apply(&mut bytes);
            }
        }
        let icmp = matches!(packet, Packet::Icmp(..));
        let gso_size = if self.random.one_in(12) && bytes.len() > 600 && !icmp {
            self.random.of(&[536, 1000, 1448, 1460, 1461])
        } else {
            0
        };
        if self.random.one_in(10) {
            for _ in 0..=self.random.below(2) {
                let at = self.random.below(bytes.len().min(90));
                bytes[at] ^= 1 << self.random.below(8);
            }
        }
        if self.random.one_in(40) {
            bytes.truncate(15 + self.random.below(bytes.len() - 15));
        }
        if self.random.one_in(40) {
            ifindex = self.random.below(*INTERFACES.end() as usize - 10) as u32 + 11;
        }
        // The kernel's test run makes no packet that is shorter than the header of the IP family that it says to be of.
        let least = if bytes.get(12..14) == Some(&[0x86, 0xdd]) { L4_IPV6 } else { L4_IPV4 };
        if bytes.len() < least {
            bytes.resize(least, 0);
        }
        // What stands for many segments is no fragment: neither receivers nor senders make such a packet.
        let gso_size = if is_fragment(&bytes) { 0 } else { gso_size };
        Action::Frame { ifindex, gso_size, bytes }
    }

    /// A packet of a client that may have no flow.
    fn stranger(&mut self) -> (u32, Packet) {
        let client = self.random.of(&CLIENTS);
        let proto = if self.random.one_in(3) { Proto::Udp } else { Proto::Tcp };
        let own = Headers {
            src_mac: client.mac,
            dst_mac: port_mac(client.ifindex),
            src: client.ip,
            src_port: 40_000 + self.random.below(4) as u16,
            dst: if self.random.one_in(20) { [10, 0, 0, self.random.next() as u8] } else { client.service },
            dst_port: match client.vpc {
                u16::MAX => 8080,
                3 => self.random.of(&[DIRECT, DIRECT, DIRECT_TOO, HTTP]),
                _ => self.random.of(&SERVICE_PORTS),
            },
            ttl: self.ttl(),
        };
        let packet = match self.random.below(12) {
            0 => Packet::Icmp(self.ping(own), None),
            1 => Packet::Arp(Arp::request(client.mac, client.ip, self.random.of(&[client.service, client.ip]))),
            _ => match proto {
                Proto::Tcp => {
                    let opens = !self.random.one_in(4);
                    let (seq, ack) = (self.random.of(&[1000, 1_000_000, u32::MAX]), 0);
                    let flags = if opens { 0x02 } else { self.random.of(&FLAGS) };
                    Packet::Tcp(self.segment(own, flags, seq, ack))
                }
                Proto::Udp => Packet::Udp(self.datagram(Headers { dst_port: DNS, ..own })),
            },
        };
        if self.families.ipv6_clients && matches!(packet, Packet::Tcp(_) | Packet::Udp(_)) {
            let (proto, service_port) = match &packet {
                Packet::Udp(_) => (Proto::Udp, DNS),
                _ => (Proto::Tcp, own.dst_port),
            };
            let sender = Client { port: own.src_port, service: own.dst, service_port, proto, ..client };
            self.sent.insert(key(&sender, true).words(), Headers { dst_port: service_port, ..own });
        }
        (client.ifindex, packet.of_family(self.families.ipv6_clients))
    }

    /// The addresses of the packets that an entry is for, as they are over IPv4; nothing for one of a client that
    /// nobody knows.
    fn addresses(&self, slot: &Slot) -> Option<[[u8; 4]; 2]> {
        let key = FlowKey::from_words(slot.key);
        if !key.ipv6() {
            return Some([key.src.to_wire(), key.dst.to_wire()]);
        }
        if Meta::unpack(slot.meta).forward() {
            return self.sent.get(&slot.key).map(|headers| [headers.src, headers.dst]);
        }
        self.world.targets.get(&slot.target).map(|target| [target.ip.to_wire(), target.node_ip.to_wire()])
    }

    /// A packet that a flow entry is for, or an error about one that was sent to whom it is of.
    fn known(&mut self, slot: &Slot, slots: &[Slot]) -> (u32, Packet) {
        let key = FlowKey::from_words(slot.key);
        let Some([src, dst]) = self.addresses(slot) else { return self.stranger() };
        let (ifindex, mac) = if Meta::unpack(slot.meta).forward() {
            (u32::from(slot.ifindex), slot.peer_mac)
        } else {
            self.world.targets.get(&slot.target).map_or((13, Mac::ZERO), |target| (target.ifindex, target.mac))
        };
        let own = Headers {
            src_mac: if self.random.one_in(30) { Mac([2, 0, 0, 0, 7, 7]) } else { mac },
            dst_mac: port_mac(ifindex),
            src,
            src_port: key.src_port.get(),
            dst,
            dst_port: key.dst_port.get(),
            ttl: self.ttl(),
        };
        // What the other side has acknowledged, as far as it can be told apart.
        let twin = slots.iter().find(|twin| {
            twin.new_src == key.dst && twin.new_dst == key.src && twin.new_dst_port == key.src_port
                || twin.key[0] as u32 == slot.new_dst.word() && (twin.key[1] >> 16) as u16 == slot.new_src_port.word()
        });
        let (seq, ack) = (self.near(twin.map_or(1000, |twin| twin.ack)), self.near(slot.ack));
        let udp = Proto::from_number(key.proto) == Proto::Udp;
        if self.random.one_in(6) && !key.ipv6() {
            return (ifindex, self.error(own, udp, ack));
        }
        if self.random.one_in(30) && !key.ipv6() {
            return (ifindex, Packet::Icmp(self.ping(own), None));
        }
        let packet = if udp {
            Packet::Udp(self.datagram(own))
        } else {
            let flags = self.random.of(&FLAGS);
            Packet::Tcp(self.segment(own, flags, seq, ack))
        };
        (ifindex, packet.of_family(key.ipv6()))
    }

    fn near(&mut self, number: u32) -> u32 {
        let by = match self.random.below(12) {
            0 => 1,
            1 => 1000,
            2 => u32::MAX,
            3 => 1 << 21,
            4 => 1 << 23,
            5 => self.random.next() as u32,
            _ => 0,
        };
        number.wrapping_add(by)
    }

    fn ttl(&mut self) -> u8 {
        if self.random.one_in(12) { self.random.of(&[0, 1, 2, 255]) } else { 64 }
    }

    fn len(&mut self) -> usize {
        match self.random.below(10) {
            0..5 => self.random.below(4),
            5..8 => self.random.below(200),
            8 => 1200 + self.random.below(300),
            _ => 2900 + self.random.below(200),
        }
    }

    fn ip_options(&mut self) -> Vec<u8> {
        if self.random.one_in(15) { vec![1; 4 * (1 + self.random.below(10))] } else { Vec::new() }
    }

    fn segment(&mut self, own: Headers, flags: u8, seq: u32, ack: u32) -> Tcp {
        let options = match self.random.below(6) {
            0 => vec![2, 4, 5, self.random.next() as u8],
            1 => vec![2, 4, 0x23, 0],
            2 => self.random.bytes(12),
            3 => vec![1, 2, 4, 0x22, 0xf0, 1, 1, 1],
            _ => Vec::new(),
        };
        let len = self.len();
        Tcp {
            flags: Flags(flags),
            seq,
            ack,
            tos: self.random.of(&[0, 0xb8]),
            id: self.random.below(3) as u16,
            fragment: self.random.of(&[0x4000, 0x4000, 0, 0x8000]),
            ip_options: self.ip_options(),
            options,
            payload: self.random.bytes(len),
            trailer: self.random.of(&[0, 0, 0, 6]),
            partial: self.random.one_in(12),
            ..Tcp::default()
        }
        .with_headers(own)
    }

    fn datagram(&mut self, own: Headers) -> Udp {
        let len = self.len();
        Udp {
            id: self.random.below(3) as u16,
            fragment: 0,
            ip_options: self.ip_options(),
            payload: self.random.bytes(len),
            trailer: self.random.of(&[0, 0, 0, 6]),
            check: self.random.of(&[UdpCheck::Complete, UdpCheck::Complete, UdpCheck::None, UdpCheck::Partial]),
            ..Udp::default()
        }
        .with_headers(own)
    }

    fn ping(&mut self, own: Headers) -> Icmp {
        let len = self.random.below(100);
        let kind = self.random.of(&[8, 8, 8, 0, 5, 13]);
        Icmp { kind, body: self.random.bytes(len), ttl: own.ttl, ip_options: self.ip_options(), ..Icmp::default() }
            .sent(own, None, None)
    }

    /// An error of whom `own` are the headers, or of a router near him.
    fn error(&mut self, own: Headers, udp: bool, seq: u32) -> Packet {
        let packet = if udp { Packet::Udp(self.datagram(own)) } else { Packet::Tcp(self.segment(own, 0x18, seq, 0)) };
        let bytes = self.random.of(&[27, 28, 28, 36, 38, 60, 100, 128, 200]);
        let more = if self.random.one_in(4) { self.random.bytes(20) } else { Vec::new() };
        let about = About { packet: Box::new(packet), bytes, more };
        let icmp = Icmp {
            src: self.random.of(&[[0; 4], [10, 0, 99, 1], [127, 0, 0, 1]]),
            kind: self.random.of(&[3, 3, 3, 11, 12, 4]),
            code: self.random.of(&[0, 1, 3, 4, 4]),
            rest: self.random.of(&[[0; 4], [0, 0, 5, 0x78], [0, 32, 0, 0], [3, 8, 0, 0]]),
            ttl: own.ttl,
            tos: self.random.of(&[0, 0xc0]),
            ip_options: self.ip_options(),
            trailer: if self.random.one_in(6) { vec![7; 3] } else { Vec::new() },
            ..Icmp::default()
        }
        .sent(own, Some(&about), None);
        Packet::Icmp(icmp, Some(about))
    }
}
