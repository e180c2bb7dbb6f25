//! What segments that may change a flow's state do to the table, and how a flow is forgotten.
//!
//! The reverse entry owns the flow: its state is the flow's, its removal gives the source port back, and who moves it
//! out of a half-open state returns the budgets. The forward entry follows.

use super::{
    flow_table::SlotRef,
    limit,
    parse::Segment,
    tables::Tables,
    tcp_state::{self, Event, Flow, Step},
    v6,
};
use crate::{
    abi::{
        Counter, Ip4, Proto, VpcIndex,
        addr::IPV6,
        event::EventKind,
        flow::{FlowKey, FlowState, Meta},
        stats::{EndpointStats, TargetStats},
    },
    wire::tcp::{Flags, within},
};

/// The key of the entry for the opposite direction: the rewritten packet, turned round, in the VPC where it is sent.
#[inline(always)]
pub fn twin_key(slot: SlotRef, vpc: VpcIndex) -> FlowKey {
    FlowKey::tcp(vpc, slot.new_dst(), slot.new_dst_port(), slot.new_src(), slot.new_src_port())
        .with_proto(slot.twin_proto())
}

/// The VPC that the entry's packets are sent into.
#[inline(always)]
pub fn vpc_beyond<'t, T: Tables<'t>>(t: T, slot: SlotRef) -> Option<VpcIndex> {
    if slot.meta().forward() {
        Some(t.target(slot.target())?.vpc)
    } else {
        let (_, ifindex) = slot.peer();
        Some(t.port(ifindex as u32)?.vpc)
    }
}

/// A target's and its node's address as they are in the key of a packet from the target.
#[inline(always)]
pub fn target_pair<'t, T: Tables<'t>>(t: T, target: u32) -> (Ip4, Ip4) {
    let both = t.target_pair(target);
    (Ip4::from_word(both as u32), Ip4::from_word((both >> 32) as u32))
}

/// [`target_pair`] as one scalar.
#[inline(always)]
pub fn target_pair_bits<'t, T: Tables<'t>>(t: T, target: u32) -> u64 {
    let Some(target) = t.target(target) else { return 0 };
    let (ip, node_ip) = match target.ipv6() {
        true => v6::pair(&target.ip6, &target.node_ip6, t.hash_seed()),
        false => (target.ip, target.node_ip),
    };
    ip.word() as u64 | (node_ip.word() as u64) << 32
}

/// Both entries of a flow.
#[derive(Clone, Copy)]
pub struct Pair {
    pub forward: SlotRef,
    pub reverse: SlotRef,
}

impl Pair {
    /// The flow that `slot` is half of. Nothing if the other half is gone, or belongs to another flow by now.
    #[inline(always)]
    pub fn of<'t, T: Tables<'t>>(t: T, slot: SlotRef) -> Option<Self> {
        let twin = t.find(&twin_key(slot, vpc_beyond(t, slot)?))?;
        let pair = if slot.meta().forward() {
            Self { forward: slot, reverse: twin }
        } else {
            Self { forward: twin, reverse: slot }
        };
        let Self { forward, reverse } = pair;
        // Each must lead to the other: a held reverse entry meets its client's next connection, which may be to another
        // target; a forward entry that lost its twin meets the flow that has the port now, maybe another VPC's.
        let (there, back) = (forward.key(), reverse.key());
        let matched = forward.meta().forward()
            && !reverse.meta().forward()
            && twin_key(forward, back.vpc).words() == back.words()
            && twin_key(reverse, there.vpc).words() == there.words()
            && forward.endpoint() == reverse.endpoint()
            && forward.generation() == reverse.generation();
        matched.then_some(pair)
    }

    /// Moves both entries to `next`. False: another CPU was faster.
    #[inline(always)]
    fn transition<'t, T: Tables<'t>>(self, t: T, next: Flow) -> bool {
        let was = self.reverse.meta();
        // Read while the reverse entry is as it was found: afterwards another CPU may close the flow and use the slot
        // again.
        let (vpc, endpoint) = (self.forward.key().vpc, self.forward.endpoint());
        let Some(_) = self.reverse.transition(next.state, was.flags & Meta::OWN | next.flags) else { return false };
        leave(t, vpc, endpoint, was.state, next.state);
        let forward = self.forward.meta();
        // The forward entry's copy steers the fast path only; a lost race leaves it on the slow path, which corrects
        // it.
        let _ = self.forward.transition(next.state, forward.flags & Meta::OWN | next.flags);
        self.forward.set_ack(next.client_ack);
        self.reverse.set_ack(next.target_ack);
        true
    }

    /// Forgets the flow and gives its port back. False: another CPU did, or changed it meanwhile.
    #[inline(always)]
    pub fn close<'t, T: Tables<'t>>(self, t: T, why: Counter) -> bool {
        let (forward, reverse) = (self.forward, self.reverse);
        let key = forward.key();
        super::open::report_flow(t, &key, EventKind::FlowClosed, why);
        let vpc = key.vpc;
        let endpoint = forward.endpoint();
        let was = reverse.meta().state;
        // Who takes the reverse entry away closes the flow, and returns its budgets: the forward entry shows that it is
        // not to be taken for a half that was left alone (`forget_half`). It must not stay behind: its port is free
        // then.
        let Meta { version: _, state, translated: _, flags, idle_s: _ } = forward.meta();
        let forward = forward.transition(FlowState::LastAck, flags).unwrap_or(forward);
        if !release(t, reverse) {
            let _ = forward.transition(state, flags);
            return false;
        }
        if !forward.remove(t)
            && let Some(changed) = forward.renewed()
        {
            changed.remove(t);
        }
        leave(t, vpc, endpoint, was, FlowState::Free);
        t.count(why);
        true
    }
}

/// Removes a reverse entry and gives its source port back.
#[inline(always)]
pub fn release<'t, T: Tables<'t>>(t: T, reverse: SlotRef) -> bool {
    let key = reverse.key();
    let index = reverse.target();
    let of_client6 = reverse.twin_proto() & IPV6 != 0;
    if !reverse.remove(t) {
        return false;
    }
    if of_client6 {
        t.remove_client6(&key);
    }
    // An index that has been given to another target has another pool; the old pool is swept by the agent.
    if let Some(target) = t.target(index)
        && target.proto == key.proto
        && target.port_for(key.src_port) == key.src_port
        && target_pair(t, index) == (key.src, key.dst)
    {
        t.release_port(target.pool, key.dst_port.get());
    }
    true
}

/// Returns what a flow that leaves a state has no claim to in the next one.
#[inline(always)]
fn leave<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, endpoint: u16, was: FlowState, is: FlowState) {
    if was.half_open() && !is.half_open() {
        super::open::give_back(t.vpc_half_open(vpc.0 as u32));
        if endpoint != 0 {
            super::open::give_back(t.endpoint_half_open(endpoint as u32));
        }
    }
    if was.open() && !is.open() {
        limit::give_connection_back(t, endpoint);
    }
}

/// Removes a forward entry that has lost its reverse entry, and returns the budgets that nobody else can: only a
/// forward entry knows its VPC.
#[inline(always)]
pub fn forget_half<'t, T: Tables<'t>>(t: T, forward: SlotRef) -> bool {
    let (vpc, endpoint) = (forward.key().vpc, forward.endpoint());
    let removed = forward.remove(t);
    if removed {
        leave(t, vpc, endpoint, forward.meta().state, FlowState::Free);
    }
    removed
}

/// What [`step`] came to, as one scalar for the kernel's calling convention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Forward,
    ForwardAndClose(Counter),
    /// There is no flow (any more): the segment is judged as if none had been found.
    NoFlow,
    Drop(Counter),
}

impl Outcome {
    #[inline(always)]
    const fn to_bits(self) -> u32 {
        match self {
            Self::Forward => 0,
            Self::NoFlow => 1,
            Self::ForwardAndClose(counter) => 0x100 | counter as u32,
            Self::Drop(counter) => 0x200 | counter as u32,
        }
    }

    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        match bits >> 8 {
            1 => Self::ForwardAndClose(Counter::from_bits(bits as u8)),
            2 => Self::Drop(Counter::from_bits(bits as u8)),
            _ if bits == 1 => Self::NoFlow,
            _ => Self::Forward,
        }
    }
}

/// Applies a segment that may change the state of the flow that it belongs to.
#[inline(always)]
pub fn step<'t, T: Tables<'t>>(t: T, segment: &Segment) -> Outcome {
    Outcome::from_bits(t.step(segment))
}

/// [`step`] as one scalar.
#[inline(always)]
pub fn step_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    step_on_tables(t, segment).to_bits()
}

#[inline(always)]
fn step_on_tables<'t, T: Tables<'t>>(t: T, segment: &Segment) -> Outcome {
    let Some(own) = t.find(&segment.key) else { return Outcome::NoFlow };
    let from_client = own.meta().forward();
    let Some(pair) = Pair::of(t, own) else {
        // Half a flow: a forward entry is of no use alone, a reverse entry holds its port until its time is over.
        if from_client {
            forget_half(t, own);
        }
        return Outcome::NoFlow;
    };
    let reverse = pair.reverse.meta();
    let flow = Flow {
        state: reverse.state,
        flags: reverse.flags & !Meta::OWN,
        client_ack: pair.forward.ack(),
        target_ack: pair.reverse.ack(),
    };
    let event = Event {
        from_client,
        flags: segment.flags,
        seq: segment.seq,
        ack: segment.ack,
        sequence_len: segment.sequence_len(),
    };
    let (next, step) = tcp_state::next(flow, event);
    match step {
        Step::Drop(counter) => return Outcome::Drop(counter),
        // `supersede` has judged this SYN already; another one changed the flow meanwhile.
        Step::Replace => return Outcome::Drop(Counter::FlowRaced),
        Step::ForwardAndClose(counter) => {
            count_reset(t, segment, own);
            if flow.state == FlowState::SynSent && !from_client {
                count_for_target(t, own, |stats| &mut stats.refused);
            }
            return Outcome::ForwardAndClose(counter);
        }
        Step::Forward => {}
    }
    if next != flow {
        if !pair.transition(t, next) {
            return Outcome::Drop(Counter::FlowRaced);
        }
        if flow.state.half_open() && !next.state.half_open() {
            t.count(Counter::FlowEstablished);
            count_for_target(t, own, |stats| &mut stats.established);
        }
    } else if segment.flags.has(Flags::RST) {
        t.count(Counter::ResetOutOfWindow);
    }
    if segment.flags.has(Flags::RST) {
        count_reset(t, segment, own);
    }
    // A SYN that is sent again: the target has not answered the one before. What XDP leaves to TC comes twice in one
    // tick.
    let again = flow.state == FlowState::SynSent && segment.flags.opens() && from_client;
    if again && t.now().wrapping_sub(own.last_seen()) > t.clock().ticks(1) / 2 {
        count_for_target(t, own, |stats| &mut stats.unanswered);
    }
    Outcome::Forward
}

#[inline(always)]
fn count_for_target<'t, T: Tables<'t>>(t: T, own: SlotRef, count: impl FnOnce(&mut TargetStats) -> &mut u64) {
    if let Some(stats) = t.target_stats(own.target()) {
        // SAFETY: this CPU's own counters.
        *count(unsafe { &mut *stats }) += 1;
    }
}

#[inline(always)]
fn count_reset<'t, T: Tables<'t>>(t: T, segment: &Segment, own: SlotRef) {
    if !segment.flags.has(Flags::RST) {
        return;
    }
    let from_client = own.meta().forward();
    count_for_target(t, own, |TargetStats { client_resets, target_resets, .. }| match from_client {
        true => client_resets,
        false => target_resets,
    });
    if let Some(stats) = t.endpoint_stats(own.endpoint() as u32) {
        // SAFETY: this CPU's own counters.
        let EndpointStats { resets_in, resets_out, .. } = unsafe { &mut *stats };
        *(if from_client { resets_in } else { resets_out }) += 1;
    }
}

/// Forgets the flow that `key` belongs to, whatever its state, and counts the reason.
#[inline(always)]
pub fn close_bits<'t, T: Tables<'t>>(t: T, key: &FlowKey, why: u32) -> u32 {
    let why = Counter::from_bits(why as u8);
    let Some(own) = t.find(key) else { return 0 };
    match Pair::of(t, own) {
        Some(pair) => u32::from(pair.close(t, why)),
        None if own.meta().forward() => u32::from(forget_half(t, own)),
        None => {
            let released = release(t, own);
            if released {
                t.count(why);
            }
            u32::from(released)
        }
    }
}

/// A client's SYN meets an entry of its own: 1 if the entry's flow is over, and now forgotten, so that the SYN opens
/// another; 0 if it is a retransmission, or belongs to a flow that lives.
#[inline(always)]
pub fn supersede_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    let Some(own) = t.find(&segment.key) else { return 1 };
    let meta = own.meta();
    if !meta.forward() {
        return 0;
    }
    // The flow's state is the reverse entry's; the forward entry's copy may be behind it.
    let state = Pair::of(t, own).map_or(meta.state, |pair| pair.reverse.meta().state);
    let ended = t.target(own.target()).is_none_or(|target| target.generation != own.generation());
    let over = match state {
        FlowState::LastAck | FlowState::TimeWait | FlowState::Resetting => true,
        FlowState::Free
        | FlowState::Busy
        | FlowState::SynSent
        | FlowState::SynReceived
        | FlowState::Established
        | FlowState::Closing
        | FlowState::Unreplied => ended || silent_bits(t, segment) != 0,
    };
    if !over {
        return 0;
    }
    // A port whose target holds it in TIME_WAIT stays held by the reverse entry.
    if state == FlowState::TimeWait {
        own.remove(t);
        t.count(Counter::FlowReplaced);
        return 1;
    }
    2
}

/// [`supersede_bits`], and what it leaves to its caller: each function that calls another takes of the same stack.
#[inline(always)]
pub fn supersede<'t, T: Tables<'t>>(t: T, segment: &Segment) -> bool {
    let over = t.supersede(segment);
    if over == 2 {
        t.close(&segment.key, Counter::FlowReplaced as u32);
    }
    over != 0
}

/// Marks the segment's entry: its sender leaves checksums to its device, so XDP hands its segments to TC.
#[inline(always)]
pub fn keep_to_tc_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    if let Some(slot) = t.find(&segment.key) {
        let Meta { version: _, state, translated: _, flags, idle_s: _ } = slot.meta();
        if flags & Meta::TC_ONLY == 0 {
            // Who loses the race to another change is marked by the next retransmission, if there is one.
            let _ = slot.transition(state, flags | Meta::TC_ONLY);
        }
    }
    0
}

/// The target has acknowledged its flow's PROXY protocol header: both entries know. 1: they do.
#[inline(always)]
pub fn acknowledge_header_bits<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> u32 {
    let Some(pair) = t.find(key).and_then(|own| Pair::of(t, own)) else { return 0 };
    let mark = |slot: SlotRef| {
        let Meta { version: _, state, translated: _, flags, idle_s: _ } = slot.meta();
        slot.transition(state, flags | Meta::HEADER_ACKNOWLEDGED).is_some()
    };
    // The reverse entry last: until it is marked, each acknowledgement marks both.
    u32::from(mark(pair.forward) && mark(pair.reverse))
}

/// The client answers from another Ethernet address, or through another port of its VPC, than before. Believed only if
/// the segment lies where the target expects the client's next bytes, or, for UDP, after
/// [`tcp_state::hold::UDP_PLACE`], so that a neighbour who knows no more than the addresses cannot draw a flow to
/// itself. 1: believed.
#[inline(always)]
pub fn move_client_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, ifindex: u32) -> u32 {
    if let Some(slot) = t.find(&segment.key)
        && let Some(pair) = Pair::of(t, slot)
        && match Proto::from_number(segment.key.proto) {
            Proto::Tcp => within(segment.seq, pair.reverse.ack(), tcp_state::RESET_WINDOW),
            Proto::Udp => t.now().wrapping_sub(pair.forward.last_seen()) > t.clock().ticks(tcp_state::hold::UDP_PLACE),
        }
        && !segment.src_mac.group()
    {
        pair.forward.set_peer(segment.src_mac, ifindex as u16);
        pair.reverse.set_peer(segment.src_mac, ifindex as u16);
        t.count(Counter::ClientMoved);
        return 1;
    }
    0
}

/// The target's datagram to a flow that it has not answered yet: the flow is established. 0: there is no flow.
#[inline(always)]
pub fn replied_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    let Some(pair) = t.find(&segment.key).and_then(|own| Pair::of(t, own)) else { return 0 };
    let Meta { version: _, state, translated: _, flags, idle_s: _ } = pair.reverse.meta();
    let (client_ack, target_ack) = (pair.forward.ack(), pair.reverse.ack());
    let next = Flow { state: FlowState::Established, flags: flags & !Meta::OWN, client_ack, target_ack };
    // Another CPU's reply may have done it.
    if state == FlowState::Unreplied && pair.transition(t, next) {
        t.count(Counter::FlowEstablished);
    }
    1
}

/// Whether a UDP flow is over: the reason for which a datagram of its target is refused, and, in the byte above, the
/// one for which the flow is to be closed; 0 if it lives.
#[inline(always)]
pub fn retire_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    let Some(own) = t.find(&segment.key) else { return Counter::NoFlow as u32 };
    let gone = t.target(own.target()).is_none_or(|target| target.generation != own.generation());
    let (why, refusal) = if gone {
        (Counter::FlowEndedWithTarget, Counter::TargetGone)
    } else if silent_bits(t, segment) != 0 {
        match own.meta().state.half_open() {
            true => (Counter::FlowExpiredHalfOpen, Counter::IdleExpired),
            false => (Counter::FlowExpiredIdle, Counter::IdleExpired),
        }
    } else {
        return 0;
    };
    refusal as u32 | (why as u32) << 8
}

/// [`retire_bits`], and the closing.
#[inline(always)]
pub fn retire<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    let bits = t.retire(segment);
    if bits >> 8 != 0 {
        t.close(&segment.key, bits >> 8);
    }
    bits & 0xff
}

/// Neither direction has had a packet for as long as the flow may be silent.
#[inline(always)]
pub fn silent_bits<'t, T: Tables<'t>>(t: T, segment: &Segment) -> u32 {
    let Some(own) = t.find(&segment.key) else { return 1 };
    let last = match Pair::of(t, own) {
        Some(pair) => later(pair.forward.last_seen(), pair.reverse.last_seen()),
        None => own.last_seen(),
    };
    let meta = own.meta();
    u32::from(t.now().wrapping_sub(last) > t.clock().ticks(tcp_state::lifetime(meta.state, meta.idle_s)))
}

/// The later of two ticks, which wrap.
#[inline(always)]
pub fn later(a: u32, b: u32) -> u32 {
    if (a.wrapping_sub(b) as i32) > 0 { a } else { b }
}
