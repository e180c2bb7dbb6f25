//! New flows: frontend, budgets, target, port, two entries.

use super::{
    atomic::{add32, load32},
    flow_table::{self, NoRoom, SlotRef},
    parse::{Segment, unroutable},
    ports::Claim,
    tables::Tables,
};
use crate::{
    abi::{
        Counter, L4Port, Mac, Proto, VpcIndex,
        event::{Event, EventKind},
        flow::{FlowKey, FlowState, Meta, Slot},
        service::{AddressKey, Frontend, FrontendKey, Listener, Target, TargetFlags},
    },
    wire::checksum,
};

/// The listener that a segment is for.
#[inline(always)]
pub fn frontend<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<Frontend> {
    t.frontend(&FrontendKey::new(key.vpc, key.dst, key.dst_port, Proto::Tcp))
}

/// The target index that a connection is led to: the listener's ring at a hash of the five-tuple and, as a Network Load
/// Balancer does, the sequence number, so that a client that reuses a port is spread too.
#[inline(always)]
pub fn select<'t, T: Tables<'t>>(t: T, listener: &Listener, segment: &Segment) -> Option<u32> {
    let [lo, hi] = segment.key.words();
    let hash = flow_table::hash([lo, hi ^ (segment.seq as u64) << 16], !t.hash_seed());
    let way = ((hash >> 32) * listener.ring_len as u64) >> 32;
    t.ring(listener.ring_base.wrapping_add(way as u32))
}

/// Opens a flow for a client's SYN. Afterwards the table has an entry for it, made by this CPU or another.
#[inline(always)]
pub fn open<'t, T: Tables<'t>>(t: T, segment: &Segment, ifindex: u32, tc_only: bool) -> Result<(), Counter> {
    match t.open(segment, ifindex | (tc_only as u32) << 31) {
        0 => Ok(()),
        bits => Err(Counter::from_bits(bits as u8)),
    }
}

/// [`open`] with scalars: 0, or 256 plus the counter that names the refusal.
#[inline(always)]
pub fn open_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, ifindex_and_flag: u32) -> u32 {
    match try_open(t, segment, ifindex_and_flag & 0xffff, ifindex_and_flag >> 31 != 0) {
        Ok(()) => 0,
        Err(counter) => 0x100 | counter as u32,
    }
}

#[inline(always)]
fn try_open<'t, T: Tables<'t>>(t: T, segment: &Segment, ifindex: u32, tc_only: bool) -> Result<(), Counter> {
    let key = &segment.key;
    let Some(frontend) = frontend(t, key) else { return Err(Counter::NoListener) };
    if unroutable(key.src) || segment.src_mac.0[0] & 1 != 0 {
        return Err(Counter::InvalidAddress);
    }
    if t.owns(&AddressKey::new(key.vpc, key.src)) {
        return Err(Counter::SpoofedSource);
    }
    let listener = t.listener(frontend.listener).ok_or(Counter::NoListener)?;
    let index = select(t, listener, segment).filter(|_| listener.ring_len != 0).ok_or(Counter::NoTarget)?;
    let target = t.target(index).ok_or(Counter::NoTarget)?;
    if !target.flags.has(TargetFlags::RESOLVED) {
        return Err(Counter::NextHopUnresolved);
    }
    take(t.vpc_half_open(key.vpc.0 as u32), t.vpc_budget(key.vpc.0 as u32).map(|b| b.half_open), Counter::VpcHalfOpenLimit)?;
    let endpoint = frontend.endpoint as u32;
    if endpoint != 0
        && let Err(counter) = take(
            t.endpoint_half_open(endpoint),
            t.endpoint_budget(endpoint).map(|b| b.half_open),
            Counter::EndpointHalfOpenLimit,
        )
    {
        give_back(t.vpc_half_open(key.vpc.0 as u32));
        return Err(counter);
    }
    let plan = Plan {
        frontend,
        target: index,
        idle_s: listener.idle_s,
        ifindex,
        flags: if tc_only { Meta::TC_ONLY } else { 0 },
    };
    match insert(t, segment, target, &plan) {
        Ok(true) => {
            count_opened(t, &plan);
            if t.flow_events()
                && let Some(forward) = t.find(key)
            {
                emit_flow(t, EventKind::FlowOpened, forward, Counter::FlowOpened);
            }
            Ok(())
        }
        other => {
            give_back(t.vpc_half_open(key.vpc.0 as u32));
            if endpoint != 0 {
                give_back(t.endpoint_half_open(endpoint));
            }
            other.map(|_| ())
        }
    }
}

struct Plan {
    frontend: Frontend,
    target: u32,
    idle_s: u16,
    ifindex: u32,
    /// Of the forward entry's meta.
    flags: u8,
}

/// True: opened. False: another CPU opened it meanwhile.
#[inline(always)]
fn insert<'t, T: Tables<'t>>(t: T, segment: &Segment, target: &Target, plan: &Plan) -> Result<bool, Counter> {
    let lock = flow_table::lock(t, &segment.key).ok_or(Counter::FlowTableContended)?;
    let outcome = if t.find(&segment.key).is_some() {
        Ok(false)
    } else {
        insert_locked(t, segment, target, plan).map(|()| true)
    };
    lock.unlock();
    outcome
}

#[inline(always)]
fn insert_locked<'t, T: Tables<'t>>(t: T, segment: &Segment, target: &Target, plan: &Plan) -> Result<(), Counter> {
    let [lo, hi] = segment.key.words();
    let hint = flow_table::hash([hi, lo], t.hash_seed()) as u32;
    let port = match t.claim_port(target.pool, hint) {
        Claim::Port(port) => port,
        Claim::Exhausted => return Err(Counter::PortsExhausted),
        Claim::Contended => return Err(Counter::PortsContended),
    };
    let outcome = insert_pair(t, segment, target, plan, L4Port::new(port));
    if outcome.is_err() {
        t.release_port(target.pool, port);
    }
    outcome
}

#[inline(always)]
fn insert_pair<'t, T: Tables<'t>>(
    t: T,
    segment: &Segment,
    target: &Target,
    plan: &Plan,
    node_port: L4Port,
) -> Result<(), Counter> {
    let FlowKey { src: client, dst: service, src_port: client_port, dst_port: service_port, .. } = segment.key;
    let reverse_key = FlowKey::tcp(target.vpc, target.ip, target.port, target.node_ip, node_port);
    let d_addr = checksum::difference32(client.word(), target.node_ip.word())
        + checksum::difference32(service.word(), target.ip.word());
    let d_port = checksum::difference16(client_port.word(), node_port.word())
        + checksum::difference16(service_port.word(), target.port.word());
    let now = t.now();
    let common = Slot {
        target: plan.target,
        generation: target.generation,
        endpoint: plan.frontend.endpoint,
        last_seen: now,
        peer_mac: segment.src_mac,
        ifindex: plan.ifindex as u16,
        ..Slot::FREE
    };
    // The reverse entry first: it owns the port, and a target that answers finds it.
    let reserved = flow_table::reserve(t, &reverse_key).map_err(no_room)?;
    if reserved.stashed() {
        t.count(Counter::FlowStashed);
    }
    fill(reserved.entry(), &Slot {
        key: reverse_key.words(),
        new_src: service,
        new_dst: client,
        new_src_port: service_port,
        new_dst_port: client_port,
        d_addr: !checksum::fold(d_addr),
        d_port: !checksum::fold(d_port),
        ack: segment.seq.wrapping_add(1),
        ..common
    });
    if !reserved.publish(t, &reverse_key, FlowState::SynSent, 0, plan.idle_s) {
        return Err(Counter::FlowTableFull);
    }
    let forward = flow_table::reserve(t, &segment.key).map_err(no_room).and_then(|reserved| {
        fill(reserved.entry(), &Slot {
            key: segment.key.words(),
            new_src: target.node_ip,
            new_dst: target.ip,
            new_src_port: node_port,
            new_dst_port: target.port,
            d_addr: checksum::fold(d_addr),
            d_port: checksum::fold(d_port),
            ..common
        });
        let flags = Meta::FORWARD | plan.flags;
        match reserved.publish(t, &segment.key, FlowState::SynSent, flags, plan.idle_s) {
            true => Ok(()),
            false => Err(Counter::FlowTableFull),
        }
    });
    if forward.is_err()
        && let Some(reverse) = t.find(&reverse_key)
    {
        reverse.remove(t);
    }
    forward
}

/// Writes all of a reserved entry but `meta`.
#[inline(always)]
fn fill(entry: *mut Slot, from: &Slot) {
    // SAFETY: the entry is reserved, so this CPU is its only writer; readers that still hold it see another version.
    unsafe {
        let Slot {
            meta: _,
            key,
            new_src,
            new_dst,
            new_src_port,
            new_dst_port,
            d_addr,
            d_port,
            target,
            generation,
            endpoint,
            last_seen,
            ack,
            peer_mac,
            ifindex,
        } = *from;
        (&raw mut (*entry).key).write_volatile(key);
        (&raw mut (*entry).new_src).write_volatile(new_src);
        (&raw mut (*entry).new_dst).write_volatile(new_dst);
        (&raw mut (*entry).new_src_port).write_volatile(new_src_port);
        (&raw mut (*entry).new_dst_port).write_volatile(new_dst_port);
        (&raw mut (*entry).d_addr).write_volatile(d_addr);
        (&raw mut (*entry).d_port).write_volatile(d_port);
        (&raw mut (*entry).target).write_volatile(target);
        (&raw mut (*entry).generation).write_volatile(generation);
        (&raw mut (*entry).endpoint).write_volatile(endpoint);
        (&raw mut (*entry).last_seen).write_volatile(last_seen);
        (&raw mut (*entry).ack).write_volatile(ack);
        (&raw mut (*entry).peer_mac).write_volatile(peer_mac);
        (&raw mut (*entry).ifindex).write_volatile(ifindex);
    }
}

#[inline(always)]
const fn no_room(why: NoRoom) -> Counter {
    match why {
        NoRoom::Full => Counter::FlowTableFull,
        NoRoom::Contended => Counter::FlowTableContended,
    }
}

/// Takes one from a half-open budget.
#[inline(always)]
fn take(count: Option<*mut u32>, limit: Option<u32>, refusal: Counter) -> Result<(), Counter> {
    let (Some(count), Some(limit)) = (count, limit) else { return Err(refusal) };
    // SAFETY: the word is in a live map value.
    if unsafe { add32(count, 1) } >= limit && limit != 0 {
        give_back(Some(count));
        return Err(refusal);
    }
    Ok(())
}

/// Returns one to a half-open budget.
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
fn count_opened<'t, T: Tables<'t>>(t: T, plan: &Plan) {
    t.count(Counter::FlowOpened);
    // SAFETY: all three are this CPU's own counters.
    unsafe {
        if let Some(stats) = t.endpoint_stats(plan.frontend.endpoint as u32) {
            (*stats).new_flows += 1;
        }
        if let Some(stats) = t.listener_stats(plan.frontend.listener) {
            (*stats).new_flows += 1;
        }
        if let Some(stats) = t.target_stats(plan.target) {
            (*stats).new_flows += 1;
        }
    }
}

/// Reports a flow's forward entry.
#[inline(always)]
pub fn emit_flow<'t, T: Tables<'t>>(t: T, kind: EventKind, forward: SlotRef, why: Counter) {
    let FlowKey { src, dst, src_port, dst_port, vpc, .. } = forward.key();
    t.emit(&Event {
        kind: kind as u32,
        ifindex: forward.ifindex() as u32,
        client: src,
        service: dst,
        node: forward.new_src(),
        target: forward.new_dst(),
        client_port: src_port,
        service_port: dst_port,
        node_port: forward.new_src_port(),
        target_port: forward.new_dst_port(),
        vpc,
        endpoint: forward.endpoint(),
        target_index: forward.target(),
        reason: why as u32,
        mac: Mac::ZERO,
        _pad: [0; 2],
    });
}

/// Reports that an ARP packet told an Ethernet address.
#[inline(always)]
pub fn emit_neighbor<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, ifindex: u32, ip: crate::abi::Ip4, mac: Mac) {
    t.emit(&Event { kind: EventKind::Neighbor as u32, ifindex, client: ip, vpc, mac, ..Event::default() });
}
