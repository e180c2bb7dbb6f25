/// A segment that belongs to no flow and cannot open one.
#[inline(never)]
fn judge_stranger<'t, T: Tables<'t>>(t: T, port: &Port, segment: &Segment) -> Verdict {
    let key = &segment.key;
    if !t.owns(&AddressKey::new(key.vpc, key.dst)) {
        return not_ours(t, port, Counter::NotOurs);
    }
    if t.owns(&AddressKey::new(key.vpc, key.src)) {
        return refuse(t, Counter::SpoofedSource);
    }
    if !segment.flags.valid() {
        return refuse(t, Counter::InvalidFlags);
    }
    let has_listener = open::frontend(t, key).is_some();
    if segment.flags.has(Flags::SYN) {
        let reason = match (has_listener, segment.flags.has(Flags::ACK)) {
            (true, _) => Counter::InvalidFlags,
            (false, _) if t.is_node(&AddressKey::new(key.vpc, key.dst)) => Counter::SynFromTarget,
            (false, _) => Counter::NoListener,
        };
        return refuse(t, reason);
    }
    if has_listener || t.is_node(&AddressKey::new(key.vpc, key.dst)) {
        return answer_with_reset(t, segment, Counter::NoFlow);
    }
    refuse(t, Counter::NoListener)
}

/// Forgets a flow that may not go on, and tells the sender.
#[inline(never)]
fn end_flow<'t, T: Tables<'t>>(t: T, segment: &Segment, why: Counter) -> Verdict {
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    let target_gone = why == Counter::TargetGone;
    let ended = if target_gone { Counter::FlowEndedWithTarget } else { Counter::FlowExpiredIdle };
    lifecycle::close(t, &segment.key, ended);
    if segment.flags.has(Flags::SYN) {
        // The client's retransmission opens a flow of its own.
        return refuse(t, why);
    }
    answer_with_reset(t, segment, why)
}

/// Refuses a connection: with RST where the client should know at once, silently where it should try again.
#[inline(never)]
fn refuse_connection<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: Counter) -> Verdict {
    let answered = matches!(reason, Counter::NoTarget | Counter::PortsExhausted | Counter::FlowTableFull);
    if T::HOOK == Hook::Xdp && answered {
        return to_tc(t);
    }
    if let Some(frontend) = open::frontend(t, &segment.key) {
        // SAFETY: both are this CPU's own counters.
        unsafe {
            if let Some(stats) = t.endpoint_stats(frontend.endpoint as u32) {
                (*stats).refused += 1;
            }
            if let Some(stats) = t.listener_stats(frontend.listener) {
                (*stats).refused += 1;
            }
        }
        if reason == Counter::PortsExhausted
            && let Some(listener) = t.listener(frontend.listener)
            && let Some(index) = open::select(t, listener, segment)
            && let Some(Target { pool, .. }) = t.target(index)
        {
            t.count_exhausted(*pool);
            if let Some(stats) = t.target_stats(index) {
                // SAFETY: this CPU's own counters.
                unsafe { (*stats).port_allocation_errors += 1 };
            }
        }
    }
    if answered { answer_with_reset(t, segment, reason) } else { refuse(t, reason) }
}

/// Refuses a segment and resets its sender, within the VPC's budget of resets.
#[inline(always)]
fn answer_with_reset<'t, T: Tables<'t>>(t: T, segment: &Segment, reason: Counter) -> Verdict {
    // A reset is never answered (RFC 9293 section 3.10.7.1). The reply lies over the segment's own headers, so one with IP
    // options, whose checksum start is elsewhere, gets none.
    if segment.flags.has(Flags::RST) || segment.l4 as usize != reset::SEGMENT_LEN - crate::wire::tcp::TcpHeader::LEN {
        return refuse(t, reason);
    }
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    t.count(reason);
    if !may_reset(t, segment.key.vpc) {
        return refuse(t, Counter::ResetLimited);
    }
    t.count(Counter::ResetSent);
    Verdict::Reply(Reply::Reset(reset::build(segment)))
}

/// Takes one from the VPC's budget of resets for this tick. Two CPUs may both take the last one.
#[inline(always)]
fn may_reset<'t, T: Tables<'t>>(t: T, vpc: VpcIndex) -> bool {
    let Some(budget) = t.reset_budget(vpc.0 as u32) else { return false };
    let now = t.now();
    // SAFETY: the record is in a live map value; a lost update lets one reset more through.
    unsafe {
        let ResetBudget { tick, sent } = budget.read_volatile();
        let sent = if tick == now { sent } else { 0 };
        budget.write_volatile(ResetBudget { tick: now, sent: sent + 1 });
        sent < reset::PER_TICK
    }
}

/// A frame that is no TCP segment.
#[inline(never)]
fn judge_unparsed<'t, F: Frame, T: Tables<'t>>(
    frame: F,
    t: T,
    port: &Port,
    ifindex: u32,
    unparsed: Unparsed,
) -> Verdict {
    match unparsed {
        Unparsed::Arp if T::HOOK == Hook::Xdp => to_tc(t),
        Unparsed::Arp => arp::judge(frame, t, port, ifindex),
        Unparsed::Refused { reason, to: Some(ip) } if t.owns(&AddressKey::new(port.vpc, ip)) => refuse(t, reason),
        Unparsed::Refused { reason: _, to: Some(_) } => not_ours(t, port, Counter::NotOurs),
        Unparsed::Refused { reason, to: None } => not_ours(t, port, reason),
    }
}

/// Somebody else's: the host's on a shared port, nobody's on an isolated one.
#[inline(always)]
fn not_ours<'t, T: Tables<'t>>(t: T, port: &Port, reason: Counter) -> Verdict {
    if !port.flags.has(PortFlags::SHARED) {
        return refuse(t, reason);
    }
    if T::HOOK == Hook::Xdp {
        return to_tc(t);
    }
    t.count(Counter::PassedToHost);
    Verdict::Pass
}

#[inline(always)]
fn refuse<'t, T: Tables<'t>>(t: T, reason: Counter) -> Verdict {
    t.count(reason);
    Verdict::Drop(reason)
}

#[inline(always)]
fn to_tc<'t, T: Tables<'t>>(t: T) -> Verdict {
    t.count(Counter::XdpPassedToTc);
    Verdict::ToTc
}

/// The client answers from another Ethernet address than before. Believed only if the segment lies where the target expects
/// the client's next bytes, so that a neighbour who knows no more than the addresses cannot draw a flow to itself.
#[inline(never)]
fn move_client<'t, T: Tables<'t>>(t: T, segment: &Segment, slot: SlotRef, ifindex: u32) {
    if let Some(pair) = lifecycle::Pair::of(t, slot)
        && crate::wire::tcp::within(segment.seq, pair.reverse.ack(), tcp_state::RESET_WINDOW)
    {
        pair.forward.set_peer(segment.src_mac, ifindex as u16);
        pair.reverse.set_peer(segment.src_mac, ifindex as u16);
        t.count(Counter::ClientMoved);
    }
}

