//! `privatelink_explain` and `privatelink_explain_ipv6`: the stages, which judge every packet as their fast halves do,
//! over tables that look like the real ones and keep every change to themselves. The agent runs it by hand
//! (`BPF_PROG_TEST_RUN`), one packet at a time.
//!
//! Flow entries are copied when they are looked up and changed in the copy; budgets and locks likewise; a port is
//! looked for and not taken; counters are noted in the [`Trace`] and not raised; events are not sent.

mod dry;

use aya_ebpf::{
    bindings::{__sk_buff, TC_ACT_OK},
    macros::classifier,
    programs::TcContext,
};
use privatelink_ebpf::{
    abi::{Counter, Proto, Stage, explain::Trace, service::PortFlags},
    datapath::{
        Tables, Verdict, challenge,
        fragment::{self, Fragment},
        held, icmp, proxy, slow, stage, translate, udp, v6,
    },
};

use self::dry::Dry;
use super::{maps::TRACE, packet::Packet};

#[inline(always)]
fn trace() -> Option<*mut Trace> {
    TRACE.get_ptr_mut(0)
}

/// Notes something in the trace.
#[inline(always)]
fn note(write: impl FnOnce(*mut Trace)) {
    if let Some(trace) = trace() {
        write(trace);
    }
}

/// The question's frame, all of it directly accessible. Each judge looks for itself, because a copy would be on the
/// stack that all share.
#[inline(always)]
fn packet(skb: *mut __sk_buff) -> Packet {
    // SAFETY: the context is valid while the program runs. Volatile: who called would hand on the pointers as numbers
    // of 32 bits.
    unsafe {
        Packet {
            data: (&raw const (*skb).data).read_volatile() as usize,
            end: (&raw const (*skb).data_end).read_volatile() as usize,
            len: (*skb).len as usize,
            segment_size: (*skb).gso_size,
        }
    }
}

/// A question about anything but IPv6.
#[classifier]
pub fn privatelink_explain(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    if !dry::begin() {
        return -1;
    }
    answer(match stage(packet(skb)) {
        Stage::Slow | Stage::IcmpError | Stage::Proxy | Stage::ProxySend => judge_tcp(skb, ifindex),
        Stage::Udp => translated(skb, ifindex, judge_udp(skb, ifindex)),
        Stage::Icmp => judge_icmp(skb, ifindex),
        Stage::Fragment => match judge_fragment(skb, ifindex) {
            FIRST_OF_TCP => judge_tcp(skb, ifindex),
            FIRST_OF_UDP => translated(skb, ifindex, judge_udp(skb, ifindex)),
            bits if bits == Verdict::GoOn(Stage::Wait).to_bits() => judge_wait(skb, ifindex),
            verdict => verdict,
        },
        // The other program's, and where no frame begins.
        stage @ (Stage::V6
        | Stage::V6Slow
        | Stage::Icmp6
        | Stage::Answer
        | Stage::Challenge
        | Stage::Wait
        | Stage::ToIpv6
        | Stage::ToIpv4) => Verdict::GoOn(stage).to_bits(),
    })
}

/// A question about IPv6: with a stack and a budget of verified instructions of its own.
#[classifier]
pub fn privatelink_explain_ipv6(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    if !dry::begin() {
        return -1;
    }
    answer(match judge_v6(skb, ifindex) {
        bits if bits == Verdict::GoOn(Stage::Icmp6).to_bits() => judge_icmp6(skb, ifindex),
        bits if bits == Verdict::GoOn(Stage::Challenge).to_bits() => judge_challenge(skb, ifindex),
        bits if bits == Verdict::GoOn(Stage::ToIpv4).to_bits() => judge_to_ipv4(skb, ifindex),
        bits => bits,
    })
}

#[inline(always)]
fn answer(verdict: u32) -> i32 {
    // SAFETY: a live map value.
    note(|trace| unsafe { (*trace).verdict = verdict });
    TC_ACT_OK as i32
}

/// What becomes of a fragment that waits, or for which others wait: that one is sent in again.
#[inline(never)]
fn judge_wait(skb: *mut __sk_buff, ifindex: u32) -> u32 {
    let Some(key) = Dry.port(ifindex).and_then(|port| fragment::key_of(packet(skb), port.vpc)) else {
        return Verdict::Pass.to_bits();
    };
    match held::decide(packet(skb), Dry, &key) {
        held::RELEASE => Trace::FORWARD,
        held::REFUSED => Verdict::Drop(Counter::FragmentOrphan).to_bits(),
        _ => Verdict::Drop(Counter::FragmentHeld).to_bits(),
    }
}

/// [`judge_slow`], and what it leaves to another stage.
#[inline(always)]
fn judge_tcp(skb: *mut __sk_buff, ifindex: u32) -> u32 {
    match judge_slow(skb, ifindex) {
        bits if bits == Verdict::Proxy.to_bits() => judge_proxy(skb, ifindex),
        bits if bits == Verdict::GoOn(Stage::Challenge).to_bits() => judge_challenge(skb, ifindex),
        bits => translated(skb, ifindex, bits),
    }
}

/// What `bits`, said of an IPv4 packet, leaves to the stage of the other IP family.
#[inline(always)]
fn translated(skb: *mut __sk_buff, ifindex: u32, bits: u32) -> u32 {
    if bits == Verdict::GoOn(Stage::ToIpv6).to_bits() { judge_to_ipv6(skb, ifindex) } else { bits }
}

/// What a stage says of the packet.
macro_rules! judges {
    ($($name:ident = $stage:path;)+) => { $(
        // With a stack of its own.
        #[inline(never)]
        fn $name(skb: *mut __sk_buff, ifindex: u32) -> u32 {
            concluded($stage(packet(skb), Dry, ifindex).map(|sent| leaving(sent.ifindex, sent.out)))
        }
    )+ };
}

judges! {
    judge_slow = slow;
    judge_udp = udp::slow;
    judge_icmp = icmp::decide;
    judge_v6 = v6::slow;
    judge_icmp6 = v6::icmp::decide;
    judge_to_ipv6 = translate::to_ipv6;
    judge_to_ipv4 = translate::to_ipv4;
}

// With a stack of its own.
#[inline(never)]
fn judge_proxy(skb: *mut __sk_buff, ifindex: u32) -> u32 {
    concluded(proxy::decide(packet(skb), Dry, ifindex, |proxied| leaving(proxied.rewrite.ifindex, proxied.rewrite.out)))
}

/// A challenge that would be sent, or what would become of an answer to one. With a stack of its own.
#[inline(never)]
fn judge_challenge(skb: *mut __sk_buff, ifindex: u32) -> u32 {
    match challenge::decide(packet(skb), Dry, ifindex) {
        Ok(_) => Verdict::GoOn(Stage::Challenge).to_bits(),
        Err(verdict) => verdict.to_bits(),
    }
}

/// What [`judge_fragment`] says of a first fragment, on which its protocol's stage has the word.
const FIRST_OF_TCP: u32 = u32::MAX;
const FIRST_OF_UDP: u32 = u32::MAX - 1;

#[inline(never)]
fn judge_fragment(skb: *mut __sk_buff, ifindex: u32) -> u32 {
    match fragment::decide(packet(skb), Dry, ifindex) {
        Ok(Fragment::First(Proto::Tcp)) => FIRST_OF_TCP,
        Ok(Fragment::First(Proto::Udp)) => FIRST_OF_UDP,
        Ok(Fragment::Later(relay)) => {
            leaving(relay.ifindex, relay.out);
            concluded(Ok(()))
        }
        Err(verdict) => verdict.to_bits(),
    }
}

/// Notes where the packet would leave.
#[inline(always)]
fn leaving(ifindex: u32, out: PortFlags) {
    note(|trace| {
        // SAFETY: a live map value.
        unsafe {
            (*trace).out_ifindex = ifindex;
            (*trace).out_flags = out.0 as u32;
        }
    });
}

#[inline(always)]
fn concluded(outcome: Result<(), Verdict>) -> u32 {
    match outcome {
        Ok(()) => Trace::FORWARD,
        Err(verdict) => verdict.to_bits(),
    }
}
