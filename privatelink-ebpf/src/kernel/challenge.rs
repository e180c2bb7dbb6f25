//! The stage of SYN cookies.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{__sk_buff, TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_store_bytes},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    abi::flow::Addresses6,
    datapath::{Tables as _, Verdict, challenge, parse::Segment, reset, v6},
};

use super::{
    answer::send_back,
    maps::{PACKET6, XDP_PORTS},
    tables::{Maps, SEGMENT},
    tc::{finish, linear},
    xdp::{action, open, refused, whole},
};

#[classifier]
pub fn privatelink_tc_challenge(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match challenge::decide(linear(skb), Maps::<false>, ifindex) {
        Ok(number) if Maps::<false>.lent().key.ipv6() => finish(send6(skb, ifindex, number)),
        Ok(number) => finish(send4(skb, ifindex, number)),
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: frame of {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        // Other stages' verdicts.
        Err(
            Verdict::Pass
            | Verdict::ToTc
            | Verdict::AnswerArp
            | Verdict::AnswerReset
            | Verdict::AnswerEcho
            | Verdict::AnswerError(_)
            | Verdict::Proxy
            | Verdict::AnswerNeighbor
            | Verdict::GoOn(_),
        ) => TC_ACT_OK as i32,
    }
}

#[xdp(frags)]
pub fn privatelink_xdp_challenge(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    let packet = whole(&ctx, packet);
    match challenge::decide(packet, Maps::<true>, ifindex) {
        Ok(number) if Maps::<true>.lent().key.ipv6() => back(replace6(&ctx, packet.len, number), ifindex),
        Ok(number) => back(replace4(&ctx, packet.len, number), ifindex),
        Err(verdict) => action(verdict),
    }
}

/// As the stage has left it.
#[inline(always)]
fn segment() -> Option<&'static Segment> {
    // SAFETY: this CPU's own record; a frame's program is not interrupted by another frame's.
    SEGMENT.get_ptr(0).map(|segment| unsafe { &*segment })
}

/// As the stage has left them.
#[inline(always)]
fn addresses() -> Option<&'static Addresses6> {
    // SAFETY: as `segment`.
    PACKET6.get_ptr(0).map(|addresses| unsafe { &*addresses })
}

// Each with a stack of its own.

#[inline(never)]
fn send4(skb: *mut __sk_buff, ifindex: u32, number: u32) -> Option<i32> {
    send_back(skb, &reset::answer(segment()?, challenge::answer(number)), ifindex)
}

#[inline(never)]
fn send6(skb: *mut __sk_buff, ifindex: u32, number: u32) -> Option<i32> {
    send_back(skb, &v6::reset::answer(segment()?, addresses()?, challenge::answer(number)), ifindex)
}

#[inline(never)]
fn replace4(ctx: &XdpContext, len: usize, number: u32) -> Option<()> {
    replace(ctx, len, &reset::answer(segment()?, challenge::answer(number)))
}

#[inline(never)]
fn replace6(ctx: &XdpContext, len: usize, number: u32) -> Option<()> {
    replace(ctx, len, &v6::reset::answer(segment()?, addresses()?, challenge::answer(number)))
}

/// Sends the frame out of the port that it came in on: by the table of ports if that has it, because a veth device does
/// not wake its peer for `XDP_TX` unless the peer has an XDP program too (as of kernel 6.18).
#[inline(always)]
fn back(replaced: Option<()>, ifindex: u32) -> u32 {
    match replaced {
        Some(()) => XDP_PORTS.redirect(ifindex, xdp_action::XDP_TX as u64).unwrap_or_else(|otherwise| otherwise),
        None => refused(),
    }
}

/// Replaces the frame by an answer, which is no longer.
#[inline(always)]
fn replace<const N: usize>(ctx: &XdpContext, len: usize, answer: &[u8; N]) -> Option<()> {
    let context = ctx.as_ptr().cast();
    // SAFETY: helpers on the program's own context and stack. (Stores of our own would keep each byte in a slot of its
    // own.)
    unsafe {
        if bpf_xdp_adjust_tail(context, N as i32 - len as i32) != 0
            || bpf_xdp_store_bytes(context, 0, answer.as_ptr().cast_mut().cast(), N as u32) != 0
        {
            return None;
        }
    }
    Some(())
}
