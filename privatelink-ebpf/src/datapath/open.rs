//! New flows: frontend, budgets, target, port, two entries.

pub use super::addresses::frontend;

use super::{
    addresses,
    atomic::{add32, load32},
    challenge,
    flow_table::{self, NoRoom, SlotRef},
    lifecycle::target_pair,
    limit,
    parse::Segment,
    ports::Claim,
    refusal, security,
    tables::Tables,
    verdict::Verdict,
};
use crate::{
    abi::{
        Counter, Ip4, Ip6, L4Port, Mac, Proto, VpcIndex,
        addr::IPV6,
        event::EventKind,
        flow::{FlowKey, FlowState, Meta, Slot},
        pool::{CAPACITY, FIRST_PORT},
        service::{Listener, ListenerFlags, Port, RingEntry, StandIn, Target, TargetFlags},
    },
    wire::checksum,
};

/// The target index that a connection is led to: the listener's ring at a hash of the five-tuple and, as a Network Load
/// Balancer does, the sequence number, so that a client that reuses a port is spread too; or at a hash of the client's
/// address, or of both.
#[inline(always)]
pub fn select<'t, T: Tables<'t>>(t: T, listener: &Listener, segment: &Segment) -> Option<u32> {
    Some(ring_entry(t, listener, segment)?.target())
}

#[inline(always)]
fn ring_entry<'t, T: Tables<'t>>(t: T, listener: &Listener, segment: &Segment) -> Option<RingEntry> {
    let [lo, hi] = segment.key.words();
    let sticky = listener.flags.has(ListenerFlags::STICKY);
    let rows = listener.flags.has(ListenerFlags::STICKY_ROWS);
    let of_connection = flow_table::hash([lo, hi ^ (segment.seq as u64) << 16], !t.hash_seed()) >> 32;
    let of_client = client_hash(t, segment);
    let len = listener.ring_len as u64;
    let way = if rows {
        let columns = Listener::COLUMNS as u64;
        let row = (of_client * (len / columns)) >> 32;
        row * columns + ((of_connection * columns) >> 32)
    } else {
        ((if sticky { of_client } else { of_connection }) * len) >> 32
    };
    t.ring(listener.ring_base.wrapping_add(way as u32)).map(RingEntry)
}

/// 32 bits that a client's address in its VPC decides.
#[inline(always)]
fn client_hash<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u64 {
    let FlowKey { src, vpc, .. } = segment.key;
    let client = match addresses::packet(t, &segment.key) {
        Some(packet) => {
            let [hi, lo] = packet.src.halves();
            [hi, lo.rotate_left(16) ^ vpc.0 as u64]
        }
        None => [src.word() as u64, vpc.0 as u64],
    };
    flow_table::hash(client, !t.hash_seed()) >> 32
}

/// Opens a flow for a client's SYN or datagram. Afterwards the table has an entry for it, made by this CPU or another.
#[inline(always)]
pub fn open<'t, T: Tables<'t>>(t: T, segment: &Segment, ifindex: u32, tc_only: bool) -> Result<(), Counter> {
    let ifindex_and_flag = ifindex | (tc_only as u32) << 31;
    let mut bits = try_open(t, segment, ifindex_and_flag);
    if bits == REFUSED | Counter::PortsExhausted as u32
        && Proto::from_number(segment.key.proto) == Proto::Tcp
        && end_hold(t, segment)
    {
        bits = try_open(t, segment, ifindex_and_flag);
    }
    if bits != 0 {
        return Err(Counter::from_bits(bits as u8));
    }
    t.report_opened(segment);
    Ok(())
}

/// Set beside the counter that names a refusal.
const REFUSED: u32 = 0x100;

/// 0, or [`REFUSED`] and the counter that names the refusal.
#[inline(always)]
fn try_open<'t, T: Tables<'t>>(t: T, segment: &Segment, ifindex_and_flag: u32) -> u32 {
    match t.admit(segment) {
        refused if refused < 0 => REFUSED | !refused as u8 as u32,
        admitted => t.insert(segment, admitted, ifindex_and_flag),
    }
}

/// Ports that [`end_hold_bits`] looks at: the oldest hold among them has lasted for 56 of its 60 seconds if all ports
/// are held.
const HOLDS_LOOKED_AT: u32 = 16;

/// Gives a held port towards the target of a SYN back before its time, because none is free: the one that has been held
/// for longest among a few. Its number, or 0 if none of them is held. A target that still remembers the port's last
/// connection answers the next one's SYN with a challenge ACK, which costs the client a second (RFC 5961 section 4); a
/// refusal costs it more.
#[inline(always)]
pub fn end_hold_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    let listener = frontend(t, &segment.key).and_then(|frontend| t.listener(frontend.listener));
    let index = listener.and_then(|listener| select(t, listener, segment));
    let (Some(index), Some(target)) = (index, index.and_then(|index| t.target(index))) else { return 0 };
    let (ip, node_ip) = target_pair(t, index);
    let port = target.port_for(segment.key.dst_port);
    let mut key = FlowKey::tcp(target.vpc, ip, port, node_ip, L4Port::new(0)).with_proto(target.proto);
    let [lo, hi] = segment.key.words();
    let hint = flow_table::hash([hi, lo ^ segment.seq as u64], t.hash_seed()) as u32;
    let now = t.now();
    let (mut oldest, mut age) = (0, 0);
    for n in 0..HOLDS_LOOKED_AT {
        // Multiplying by an odd number visits different ports; the product's upper half is below the number of ports.
        let place = hint.wrapping_add(n).wrapping_mul(0x9e37_79b1) as u64 * CAPACITY as u64 >> 32;
        key.dst_port = L4Port::new(FIRST_PORT + place as u16);
        let Some(held) = t.find(&key) else { continue };
        let held_for = now.wrapping_sub(held.last_seen());
        if held.meta().state == FlowState::TimeWait && held_for >= age {
            (oldest, age) = (FIRST_PORT + place as u16, held_for);
        }
    }
    oldest as u32
}

/// Gives the port back that [`end_hold_bits`] has found: 1, or 0 if another CPU was faster. By itself, because each
/// function that calls another takes of the same stack.
#[inline(always)]
pub fn give_hold_back_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, port: u32) -> u32 {
    let listener = frontend(t, &segment.key).and_then(|frontend| t.listener(frontend.listener));
    let Some(index) = listener.and_then(|listener| select(t, listener, segment)) else { return 0 };
    let Some(target) = t.target(index) else { return 0 };
    let (ip, node_ip) = target_pair(t, index);
    let node_port = L4Port::new(port as u16);
    let port = target.port_for(segment.key.dst_port);
    let key = FlowKey::tcp(target.vpc, ip, port, node_ip, node_port).with_proto(target.proto);
    t.close(&key, Counter::PortReusedEarly as u32)
}

/// Finds a held port and gives it back.
#[inline(always)]
fn end_hold<'t, T: Tables<'t>>(t: T, segment: &Segment) -> bool {
    let port = t.end_hold(segment);
    port != 0 && t.give_hold_back(segment, port) != 0
}

/// Opens a flow and finds it, or refuses in the right way.
#[inline(always)]
pub fn opened<'t, T: Tables<'t>>(
    t: T,
    port: &Port,
    ifindex: u32,
    segment: &Segment,
    tc_only: bool,
) -> Result<SlotRef, Verdict> {
    match open(t, segment, ifindex, tc_only) {
        Ok(()) => t.find(&segment.key).ok_or_else(|| refusal::refuse(t, Counter::FlowRaced)),
        Err(Counter::NoListener) => Err(refusal::judge_stranger(t, port, segment)),
        Err(reason) => Err(refusal::refuse_connection(t, segment, reason)),
    }
}

/// The state in which a flow is made.
#[inline(always)]
const fn first_state(proto: u8) -> FlowState {
    match Proto::from_number(proto) {
        Proto::Tcp => FlowState::SynSent,
        Proto::Udp => FlowState::Unreplied,
    }
}

/// Reports a flow that was opened by `segment`.
#[inline(always)]
pub fn report_opened_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    report_flow(t, &segment.key, EventKind::FlowOpened, Counter::FlowOpened);
    0
}

/// Where an admitted connection goes; crosses from one function of the kernel to another as one scalar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Admission {
    /// Index into `TARGETS` (20 bits).
    target: u32,
    /// Index into `LISTENERS` (24 bits).
    listener: u32,
    endpoint: u16,
    /// The flow gets a PROXY protocol header.
    proxy: bool,
    /// The target is to see the client's own address.
    preserve: bool,
}

impl Admission {
    #[inline(always)]
    const fn to_bits(self) -> i64 {
        self.target as i64 & 0xf_ffff
            | (self.listener as i64 & 0xff_ffff) << 20
            | (self.endpoint as i64) << 44
            | (self.proxy as i64) << 60
            | (self.preserve as i64) << 61
    }

    #[inline(always)]
    const fn from_bits(bits: i64) -> Self {
        Self {
            target: bits as u32 & 0xf_ffff,
            listener: (bits >> 20) as u32 & 0xff_ffff,
            endpoint: (bits >> 44) as u16,
            proxy: bits >> 60 & 1 != 0,
            preserve: bits >> 61 & 1 != 0,
        }
    }
}

/// Finds a connection's target and charges its budgets: an admission, or the complement of the counter that names the
/// refusal.
#[inline(always)]
pub fn admit_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> i64 {
    match admit(t, segment) {
        Ok(admission) => admission.to_bits(),
        Err(reason) => !(reason as i64),
    }
}

#[inline(always)]
fn admit<'t, T: Tables<'t>>(t: T, segment: &Segment) -> Result<Admission, Counter> {
    let key = &segment.key;
    let Some(frontend) = frontend(t, key) else { return Err(Counter::NoListener) };
    if addresses::from_nobody(t, key) || segment.src_mac.group() {
        return Err(Counter::InvalidAddress);
    }
    if addresses::from_us(t, key) {
        return Err(Counter::SpoofedSource);
    }
    if !security::admits(t, frontend, segment) {
        return Err(Counter::SecurityGroupDenied);
    }
    // What would be refused on its way out opens nothing.
    if segment.ttl <= 1 {
        return Err(Counter::TtlExceeded);
    }
    let listener = t.listener(frontend.listener).ok_or(Counter::NoListener)?;
    if listener.ring_len == 0 {
        let denied = listener.flags.has(ListenerFlags::OUTBOUND_DENIED);
        return Err(if denied { Counter::SecurityGroupDeniedOutbound } else { Counter::NoTarget });
    }
    let entry = ring_entry(t, listener, segment).ok_or(Counter::NoTarget)?;
    let (index, proxy) = (entry.target(), entry.proxy());
    // Data would come before the header.
    if proxy && segment.sequence_len() > 1 {
        return Err(Counter::SynWithData);
    }
    let target = t.target(index).ok_or(Counter::NoTarget)?;
    if proxy && (target.ipv6() || key.ipv6()) {
        return Err(Counter::ProxyIpv6);
    }
    if !target.flags.has(TargetFlags::RESOLVED) {
        return Err(Counter::NextHopUnresolved);
    }
    let vpc = key.vpc.0 as u32;
    let limit = t.vpc_budget(vpc).map(|b| b.half_open);
    take_half_open(t, t.vpc_half_open(vpc), limit, segment, Counter::VpcHalfOpenLimit)?;
    let endpoint = frontend.endpoint as u32;
    if endpoint != 0 {
        let limit = t.endpoint_budget(endpoint).map(|b| b.half_open);
        let count = t.endpoint_half_open(endpoint);
        if let Err(counter) = take_half_open(t, count, limit, segment, Counter::EndpointHalfOpenLimit) {
            give_back(t.vpc_half_open(vpc));
            return Err(counter);
        }
        let refused = t.admit_flow(endpoint, segment.ip_len as u32);
        if refused != 0 {
            give_back(t.vpc_half_open(vpc));
            give_back(t.endpoint_half_open(endpoint));
            return Err(Counter::from_bits(refused as u8));
        }
    }
    // Other VPCs' addresses mean nothing to the target, and another family's it cannot see.
    let preserve = entry.preserve() && endpoint == 0 && target.vpc == key.vpc && !key.ipv6() && !target.ipv6();
    Ok(Admission { target: index, listener: frontend.listener, endpoint: frontend.endpoint, proxy, preserve })
}

/// Makes the entries of an admitted connection: 0, or [`REFUSED`] and the counter that names the refusal.
#[inline(always)]
pub fn insert_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, admission: i64, ifindex_and_flag: u32) -> u32 {
    let Admission { target: index, listener, endpoint, proxy, preserve } = Admission::from_bits(admission);
    let (Some(target), Some(idle_s)) = (t.target(index), t.listener(listener).map(|l| l.idle_s)) else {
        return REFUSED | Counter::NoTarget as u32;
    };
    let plan = Plan {
        endpoint,
        target: index,
        idle_s,
        ifindex: ifindex_and_flag & 0xffff,
        flags: limit::metered(t, endpoint)
            | match proxy {
                true => Meta::PROXY,
                false if ifindex_and_flag >> 31 != 0 => Meta::TC_ONLY,
                false => 0,
            },
        differences: Differences(0),
        preserve,
    };
    let outcome = insert(t, segment, target, &plan);
    if let Ok(index) = outcome
        && index != OPENED_ELSEWHERE
    {
        count_opened(t, endpoint, index, listener);
        return 0;
    }
    give_back(t.vpc_half_open(segment.key.vpc.0 as u32));
    if endpoint != 0 {
        give_back(t.endpoint_half_open(endpoint as u32));
        limit::give_connection_back(t, endpoint);
    }
    match outcome {
        Ok(_) => 0,
        Err(reason) => REFUSED | reason as u32,
    }
}

#[derive(Clone, Copy)]
struct Plan {
    endpoint: u16,
    target: u32,
    idle_s: u16,
    ifindex: u32,
    /// Of the forward entry's meta; [`Plan::OF_BOTH`] of both.
    flags: u8,
    differences: Differences,
    /// The target is to see the client's own address.
    preserve: bool,
}

impl Plan {
    const OF_BOTH: u8 = Meta::PROXY | Meta::METERED;

    /// What an entry holds in the place of its differences, see [`Meta::PROXY`].
    #[inline(always)]
    fn held(&self, segment: &Segment, differences: Differences) -> Differences {
        match self.flags & Meta::PROXY {
            0 => differences,
            _ => Differences(segment.seq),
        }
    }
}

/// No target's index: another CPU opened the flow meanwhile.
const OPENED_ELSEWHERE: u32 = 0;

/// The target that the flow leads to, or [`OPENED_ELSEWHERE`].
#[inline(always)]
fn insert<'t, T: Tables<'t>>(t: T, segment: &Segment, target: &'t Target, plan: &Plan) -> Result<u32, Counter> {
    let lock = flow_table::lock(t, &segment.key).ok_or(Counter::FlowTableContended)?;
    let outcome =
        if t.find(&segment.key).is_some() { Ok(OPENED_ELSEWHERE) } else { insert_locked(t, segment, target, plan) };
    lock.unlock();
    outcome
}

/// Node addresses that are tried for a port: as many as a load balancer can have in one subnet.
const NODES: u32 = 8;

/// Claims a source port towards a target or, if all are in use, towards the same target behind the next node address,
/// and so on: the target's index and, in the lower 16 bits, the port; or the complement of the counter that names the
/// refusal.
///
/// The first pool counts that it has none only if another has: else who refuses the flow counts it.
#[inline(always)]
pub fn claim_node_bits<'t, T: Tables<'t>>(t: T, first: u32, hint: u32) -> i64 {
    let Some(wanted) = t.target(first) else { return !(Counter::NoTarget as i64) };
    let (mut index, mut pool) = (first, wanted.pool);
    for _ in 0..NODES {
        match t.claim_port(pool, hint) {
            Claim::Port(port) => {
                if index != first {
                    t.count_exhausted(wanted.pool);
                    t.count(Counter::NextNodeUsed);
                }
                return (index as i64) << 16 | port as i64;
            }
            Claim::Contended => return !(Counter::PortsContended as i64),
            Claim::Exhausted => {}
        }
        index = t.next_node(index);
        if index == first {
            break;
        }
        let Some(next) = t.target(index) else { break };
        if !stands_for(next, wanted) {
            break;
        }
        pool = next.pool;
    }
    !(Counter::PortsExhausted as i64)
}

/// [`claim_node_bits`] for a connection: no datagram flow gets a port at which the node address has a listener, because
/// a late reply of the target would open a flow there. Such a port stays taken, so that the next claim finds another;
/// the agent frees what no flow has.
#[inline(always)]
fn claim<'t, T: Tables<'t>>(t: T, target: u32, proto: u8, hint: u32) -> i64 {
    let served = |claimed: i64| {
        claimed >= 0
            && Proto::from_number(proto) == Proto::Udp
            && t.node_port_served((claimed >> 16) as u32, claimed as u32 & 0xffff) != 0
    };
    let claimed = t.claim_node(target, hint);
    if !served(claimed) {
        return claimed;
    }
    let another = t.claim_node(target, hint);
    if served(another) { !(Counter::PortsContended as i64) } else { another }
}

/// Datagrams to the port of the node address by which the target is reached are a listener's: 1 or 0.
#[inline(always)]
pub fn node_port_served_bits<'t, T: Tables<'t>>(t: T, target: u32, port: u32) -> u32 {
    t.target(target).is_some_and(|target| addresses::served_node_port(t, target, L4Port::new(port as u16))) as u32
}

/// The target is the same behind another node address, and usable: between two of the agent's writes an index may stand
/// for something else.
#[inline(always)]
fn stands_for(next: &Target, wanted: &Target) -> bool {
    next.ip == wanted.ip
        && next.ip6.halves() == wanted.ip6.halves()
        && next.port == wanted.port
        && next.vpc == wanted.vpc
        && next.proto == wanted.proto
        && next.flags.has(TargetFlags::RESOLVED)
        && !next.flags.has(TargetFlags::RETIRED)
}

#[inline(always)]
fn insert_locked<'t, T: Tables<'t>>(t: T, segment: &Segment, target: &'t Target, plan: &Plan) -> Result<u32, Counter> {
    let (ip, _) = target_pair(t, plan.target);
    let key = &segment.key;
    let mut seen = FlowKey::tcp(target.vpc, ip, target.port, key.src, key.src_port).with_proto(target.proto);
    // As `Target::port_for`, in place: the function has no stack to spare.
    if seen.src_port.word() == 0 {
        seen.src_port = key.dst_port;
    }
    let preserved = plan.preserve && preserves(t, segment, target, plan, &seen);
    let mut d_addr = checksum::difference32(key.dst.word(), ip.word());
    let (mut target, mut index) = (target, plan.target);
    if !preserved {
        let [lo, hi] = key.words();
        let hint = flow_table::hash([hi, lo], t.hash_seed()) as u32;
        let claimed = claim(t, plan.target, target.proto, hint);
        if claimed < 0 {
            return Err(Counter::from_bits(!claimed as u8));
        }
        index = (claimed >> 16) as u32;
        target = t.target(index).ok_or(Counter::NoTarget)?;
        (seen.src, seen.dst) = target_pair(t, index);
        seen.dst_port = L4Port::new(claimed as u16);
        d_addr = t.difference(segment, index);
    }
    let plan = &Plan { target: index, ..*plan };
    let outcome = insert_pair(t, segment, target, plan, &seen, checksum::fold(d_addr));
    if preserved {
        flow_table::unlock_beside(t, &seen, &segment.key);
        if outcome.is_ok() {
            t.stand_in(&StandIn::new(target.vpc, seen.dst, target.ifindex));
            t.count(Counter::ClientIpPreserved);
        }
    } else if outcome.is_err() {
        t.release_port(target.pool, seen.dst_port.get());
    }
    outcome.map(|()| index)
}

/// Whether the target is to see the client's own address and port, as in `seen`, the key of its replies; then the key's
/// stripe is locked too. Not if client and target are one host or behind one port: replies would take the direct way,
/// and reach the client from an address that it has not asked. Nor if another flow shows the same address and port to
/// the target: replies would be that one's. With a stack of its own.
#[inline(never)]
fn preserves<'t, T: Tables<'t>>(t: T, segment: &Segment, target: &Target, plan: &Plan, seen: &FlowKey) -> bool {
    if target.ifindex == plan.ifindex || target.ip == segment.key.src {
        t.count(Counter::ClientIpSamePort);
        return false;
    }
    if flow_table::lock_beside(t, seen, &segment.key) {
        if !t.has(seen) {
            return true;
        }
        flow_table::unlock_beside(t, seen, &segment.key);
    }
    t.count(Counter::ClientIpCollision);
    false
}

#[inline(always)]
fn insert_pair<'t, T: Tables<'t>>(
    t: T,
    segment: &Segment,
    target: &Target,
    plan: &Plan,
    reverse_key: &FlowKey,
    d_addr: u16,
) -> Result<(), Counter> {
    let key = &segment.key;
    let d_port = checksum::fold(
        checksum::difference16(key.src_port.word(), reverse_key.dst_port.word())
            + checksum::difference16(key.dst_port.word(), reverse_key.src_port.word()),
    );
    let plan = &Plan { differences: Differences::of(d_addr, d_port), ..*plan };
    if key.ipv6() && !t.put_client6(reverse_key) {
        return Err(Counter::FlowTableFull);
    }
    // Each entry is reserved here and filled by a function of its own: the calls share one stack. A function takes five
    // arguments, and kernel 7.2 counts those too that have no size, by the types that the object declares: hence pairs.
    let mut made = insert_reverse(t, segment, (target, plan), reverse_key, t.reserve(reverse_key));
    if made.is_ok() {
        made = insert_forward(t, segment, (target, plan), reverse_key, t.reserve(&segment.key));
    }
    if made.is_err() {
        undo_reverse(t, reverse_key, key.ipv6());
    }
    made
}

/// Takes away what a flow that came to nothing has left. With a stack of its own.
#[inline(never)]
fn undo_reverse<'t, T: Tables<'t>>(t: T, reverse_key: &FlowKey, of_client6: bool) {
    if let Some(reverse) = t.find(reverse_key) {
        reverse.remove(t);
    }
    if of_client6 {
        t.remove_client6(reverse_key);
    }
}

/// What a flow's translation adds to checksums in the direction of the target; the complement in the other.
/// One scalar, because a function takes five: the addresses' in the lower half, the ports' in the upper.
#[derive(Clone, Copy)]
struct Differences(u32);

impl Differences {
    #[inline(always)]
    const fn of(addresses: u16, ports: u16) -> Self {
        Self(addresses as u32 | (ports as u32) << 16)
    }

    #[inline(always)]
    const fn reversed(self) -> Self {
        Self(!self.0)
    }

    #[inline(always)]
    const fn addresses(self) -> u16 {
        self.0 as u16
    }

    #[inline(always)]
    const fn ports(self) -> u16 {
        (self.0 >> 16) as u16
    }
}

/// The reverse entry comes first: it owns the port, and a target that answers finds it. With a stack of its own.
#[inline(never)]
fn insert_reverse<'t, T: Tables<'t>>(
    t: T,
    segment: &Segment,
    to: (&Target, &Plan),
    reverse_key: &FlowKey,
    index: i64,
) -> Result<(), Counter> {
    let (target, plan) = to;
    let FlowKey { src: client, dst: service, src_port: client_port, dst_port: service_port, proto, .. } = segment.key;
    let reserved = flow_table::reserved(t, reverse_key, index).map_err(no_room)?;
    if reserved.stashed() {
        t.count(Counter::FlowStashed);
    }
    let entry = reserved.entry();
    fill(entry, reverse_key, t.now(), segment, target, plan);
    // SAFETY: as `fill`.
    unsafe {
        (&raw mut (*entry).new_src).write(service);
        (&raw mut (*entry).new_dst).write(client);
        (&raw mut (*entry).new_src_port).write(service_port);
        (&raw mut (*entry).new_dst_port).write(client_port);
        let held = plan.held(segment, plan.differences.reversed());
        (&raw mut (*entry).d_addr).write(held.addresses());
        (&raw mut (*entry).d_port).write(held.ports());
        (&raw mut (*entry).ack).write(segment.seq.wrapping_add(1));
    }
    let translated = segment.key.ipv6() != target.ipv6();
    let flags = plan.flags & Plan::OF_BOTH;
    match reserved.publish(t, reverse_key, first_state(proto), translated, flags, plan.idle_s) {
        true => Ok(()),
        false => Err(Counter::FlowTableFull),
    }
}

/// With a stack of its own.
#[inline(never)]
fn insert_forward<'t, T: Tables<'t>>(
    t: T,
    segment: &Segment,
    to: (&Target, &Plan),
    reverse_key: &FlowKey,
    index: i64,
) -> Result<(), Counter> {
    let (target, plan) = to;
    let reserved = flow_table::reserved(t, &segment.key, index).map_err(no_room)?;
    let entry = reserved.entry();
    fill(entry, &segment.key, t.now(), segment, target, plan);
    // SAFETY: as `fill`.
    unsafe {
        (&raw mut (*entry).new_src).write(reverse_key.dst);
        (&raw mut (*entry).new_dst).write(reverse_key.src);
        (&raw mut (*entry).new_src_port).write(reverse_key.dst_port);
        (&raw mut (*entry).new_dst_port).write(reverse_key.src_port);
        let held = plan.held(segment, plan.differences);
        (&raw mut (*entry).d_addr).write(held.addresses());
        (&raw mut (*entry).d_port).write(held.ports());
        (&raw mut (*entry).ack).write(0);
    }
    let translated = segment.key.ipv6() != target.ipv6();
    let (state, flags) = (first_state(segment.key.proto), Meta::FORWARD | plan.flags);
    match reserved.publish(t, &segment.key, state, translated, flags, plan.idle_s) {
        true => Ok(()),
        false => Err(Counter::FlowTableFull),
    }
}

/// Writes what both entries of a flow have in common. The rest, all but `meta`, is the caller's to write.
#[inline(always)]
fn fill(entry: *mut Slot, key: &FlowKey, now: u32, segment: &Segment, target: &Target, plan: &Plan) {
    let [lo, hi] = key.words();
    // SAFETY: the entry is reserved, so this CPU is its only writer; readers that still hold it see another version.
    unsafe {
        let words = (&raw mut (*entry).key).cast::<u64>();
        words.write(lo);
        words.add(1).write(hi);
        (&raw mut (*entry).target).write(plan.target);
        (&raw mut (*entry).generation).write(target.generation);
        (&raw mut (*entry).endpoint).write(plan.endpoint);
        (&raw mut (*entry).last_seen).write(now);
        flow_table::peer_word(entry).write(segment.src_mac.word() | (plan.ifindex as u64) << 48);
    }
}

#[inline(always)]
const fn no_room(why: NoRoom) -> Counter {
    match why {
        NoRoom::Full => Counter::FlowTableFull,
        NoRoom::Contended => Counter::FlowTableContended,
    }
}

/// Takes one from a half-open budget. A connection of a source that has answered a challenge may be above it.
#[inline(always)]
fn take_half_open<'t, T: Tables<'t>>(
    t: T,
    count: Option<*mut u32>,
    limit: Option<u32>,
    segment: &Segment,
    refusal: Counter,
) -> Result<(), Counter> {
    if take(count, limit, refusal).is_ok() {
        return Ok(());
    }
    // Nobody resets a datagram.
    if Proto::from_number(segment.key.proto) == Proto::Tcp && t.verified(segment) != 0 {
        return take(count, limit.map(challenge::raised), refusal);
    }
    Err(refusal)
}

/// Takes one from a budget.
#[inline(always)]
pub(super) fn take(count: Option<*mut u32>, limit: Option<u32>, refusal: Counter) -> Result<(), Counter> {
    let (Some(count), Some(limit)) = (count, limit) else { return Err(refusal) };
    // SAFETY: the word is in a live map value.
    if unsafe { add32(count, 1) } >= limit && limit != 0 {
        give_back(Some(count));
        return Err(refusal);
    }
    Ok(())
}

/// Returns one to a budget.
#[inline(always)]
pub fn give_back(count: Option<*mut u32>) {
    if let Some(count) = count {
        // SAFETY: the word is in a live map value.
        unsafe {
            if load32(count) != 0 {
                add32(count, u32::MAX);
            }
        }
    }
}

#[inline(always)]
fn count_opened<'t, T: Tables<'t>>(t: T, endpoint: u16, target: u32, listener: u32) {
    t.count(Counter::FlowOpened);
    // SAFETY: all three are this CPU's own counters.
    unsafe {
        if let Some(stats) = t.endpoint_stats(endpoint as u32) {
            (*stats).new_flows += 1;
        }
        if let Some(stats) = t.listener_stats(listener) {
            (*stats).new_flows += 1;
            if t.listener(listener).is_some_and(|listener| listener.flags.has(ListenerFlags::FAIL_OPEN)) {
                (*stats).unhealthy_routing += 1;
            }
        }
        if let Some(stats) = t.target_stats(target) {
            (*stats).new_flows += 1;
        }
    }
}

/// Reports a flow, named by its forward entry's key, if anybody wants to know.
#[inline(always)]
pub fn report_flow<'t, T: Tables<'t>>(t: T, key: &FlowKey, kind: EventKind, why: Counter) {
    if !t.flow_events() {
        return;
    }
    let Some(forward) = t.find(key) else { return };
    t.emit(|event| {
        let (_, ifindex) = forward.peer();
        event.kind = kind as u32;
        event.ifindex = ifindex as u32;
        event.client = key.src;
        event.service = key.dst;
        event.node = forward.new_src();
        event.target = forward.new_dst();
        event.client_port = key.src_port;
        event.service_port = key.dst_port;
        event.node_port = forward.new_src_port();
        event.target_port = forward.new_dst_port();
        event.vpc = key.vpc;
        event.proto = key.proto;
        event.endpoint = forward.endpoint();
        event.target_index = forward.target();
        event.reason = why as u32;
    });
}

/// Reports that neighbour discovery told an Ethernet address.
#[inline(always)]
pub fn emit_neighbor6<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, ifindex: u32, ip: Ip6, mac: Mac) {
    t.emit(|event| {
        event.kind = EventKind::Neighbor as u32;
        event.ifindex = ifindex;
        event.address6 = ip;
        event.proto = IPV6;
        event.vpc = vpc;
        event.mac = mac;
    });
}

/// Reports that an ARP packet told an Ethernet address.
#[inline(always)]
pub fn emit_neighbor<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, ifindex: u32, ip: Ip4, mac: Mac) {
    t.emit(|event| {
        event.kind = EventKind::Neighbor as u32;
        event.ifindex = ifindex;
        event.client = ip;
        event.vpc = vpc;
        event.mac = mac;
    });
}
