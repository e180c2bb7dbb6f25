//! The TC program: socket buffers, which may carry partial checksums and stand for many segments. Checksums change
//! through the helpers only; everything else is written directly afterwards, because a helper may move the packet.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_OK, TC_ACT_SHOT},
    helpers::generated::{bpf_l4_csum_replace, bpf_redirect, bpf_redirect_peer, bpf_skb_pull_data},
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    abi::{Counter, Proto, Stage, service::PortFlags},
    datapath::{Frame as _, Rewrite, Tables as _, Verdict, fast, icmp::error::Cause, reset, slow, stage, udp},
    wire::{checksum, tcp::TcpHeader, udp::UdpHeader},
};

use super::{
    maps::STAGES_TC,
    packet::{Packet, opaque},
    tables::Maps,
    xdp::write_headers,
};

/// Headers that are looked at: Ethernet, IPv4 and TCP with all their options.
const HEADERS: usize = 14 + 60 + 60;

/// The fast path of TCP; the rest is the stages'.
#[classifier]
pub fn privatelink_tc(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    // One scalar comes back: with an option in an option the verifier sees registers that are not set.
    let apply = |rewrite: &Rewrite| finish(apply(skb, rewrite, rewrite.l4 as usize));
    if let Some(action) = fast(linear(skb), Maps::<false>, ifindex, apply) {
        return action;
    }
    match stage(with_headers(skb, reset::SEGMENT_LEN, HEADERS)) {
        Stage::Slow | Stage::IcmpError | Stage::Proxy | Stage::ProxySend => go_on(&ctx, Stage::Slow),
        Stage::Udp => go_on(&ctx, Stage::Udp),
        Stage::Fragment => go_on(&ctx, Stage::Fragment),
        Stage::Icmp => go_on(&ctx, Stage::Icmp),
        Stage::V6 => go_on(&ctx, Stage::V6),
        // Reached from others.
        Stage::V6Slow
        | Stage::Icmp6
        | Stage::Answer
        | Stage::Challenge
        | Stage::Wait
        | Stage::ToIpv6
        | Stage::ToIpv4 => {}
    }
    // Reached only while the agent has not put the stage's program in its place.
    finish(None)
}

#[classifier]
pub fn privatelink_tc_slow(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match slow(linear(skb), Maps::<false>, ifindex) {
        Ok(rewrite) => finish(apply(skb, &rewrite, opaque(rewrite.l4 as usize) & 0x7f)),
        // Other stages' answers are not this one's.
        Err(Verdict::Pass | Verdict::ToTc | Verdict::AnswerNeighbor) => TC_ACT_OK as i32,
        Err(Verdict::Drop(reason)) => {
            // The agent's `--kernel-log` shows it; without that the level is 0 and the verifier removes the line.
            debug!(&ctx, "interface {}: frame of {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::AnswerArp | Verdict::AnswerReset) => answer(&ctx),
        Err(Verdict::Proxy) => {
            go_on(&ctx, Stage::Proxy);
            finish(None)
        }
        Err(Verdict::GoOn(stage)) => {
            go_on(&ctx, stage);
            finish(None)
        }
        // A verdict of `Stage::Icmp` alone.
        Err(Verdict::AnswerEcho) => finish(None),
        Err(Verdict::AnswerError(cause)) => answer_error(&ctx, cause),
    }
}

/// All of UDP over IPv4.
#[classifier]
pub fn privatelink_tc_udp(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    let apply_plain = |rewrite: &Rewrite| finish(apply(skb, rewrite, rewrite.l4 as usize));
    if let Some(action) = udp::fast(linear(skb), Maps::<false>, ifindex, apply_plain) {
        return action;
    }
    match udp::slow(linear(skb), Maps::<false>, ifindex) {
        Ok(rewrite) => finish(apply(skb, &rewrite, opaque(rewrite.l4 as usize) & 0x7f)),
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: datagram in {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::AnswerError(cause)) => answer_error(&ctx, cause),
        // ARP, resets, echo, PROXY headers and cookies are other stages'.
        Err(
            Verdict::Pass
            | Verdict::ToTc
            | Verdict::AnswerArp
            | Verdict::AnswerReset
            | Verdict::AnswerEcho
            | Verdict::Proxy
            | Verdict::AnswerNeighbor,
        ) => TC_ACT_OK as i32,
        Err(Verdict::GoOn(stage)) => {
            go_on(&ctx, stage);
            finish(None)
        }
    }
}

/// Goes on in a stage; comes back only if there is no program in its place.
#[inline(always)]
pub fn go_on(ctx: &TcContext, stage: Stage) {
    // SAFETY: the program in there is of this kind; it starts anew from the context.
    let _ = unsafe { STAGES_TC.tail_call(ctx, stage as u32) };
}

/// The packet with `most` bytes of headers directly accessible, as far as it has them, unless `least` are already.
#[inline(always)]
pub fn with_headers(skb: *mut __sk_buff, least: usize, most: usize) -> Packet {
    let packet = linear(skb);
    if packet.data + least <= packet.end || packet.len <= packet.end - packet.data {
        return packet;
    }
    pull(skb, most)
}

/// The packet with its first `wanted` bytes, as far as it has them, directly accessible.
#[inline(always)]
pub fn pull(skb: *mut __sk_buff, wanted: usize) -> Packet {
    let len = linear(skb).len;
    // SAFETY: a helper on the program's own context.
    unsafe { bpf_skb_pull_data(skb, if len < wanted { len } else { wanted } as u32) };
    linear(skb)
}

/// Makes an answer of the frame, in the stage that has the stack for it.
#[inline(always)]
pub fn answer(ctx: &TcContext) -> i32 {
    go_on(ctx, Stage::Answer);
    finish(None)
}

/// Makes an ICMP error of the frame, in the stage that has the stack for it.
#[inline(always)]
pub fn answer_error(ctx: &TcContext, cause: Cause) -> i32 {
    // SAFETY: the context is valid while the program runs; the word is the programs' own to hand on.
    unsafe { (&raw mut (*ctx.skb.skb).cb[0]).write_volatile(cause.to_bits() as u32) };
    go_on(ctx, Stage::IcmpError);
    finish(None)
}

#[inline(always)]
pub fn finish(done: Option<i32>) -> i32 {
    done.unwrap_or_else(|| {
        Maps::<false>.count(Counter::KernelRefused);
        TC_ACT_SHOT as i32
    })
}

/// The packet's directly accessible part; asked for again after each helper that may move it.
#[inline(always)]
pub fn linear(skb: *mut __sk_buff) -> Packet {
    // SAFETY: the context is valid while the program runs.
    unsafe {
        Packet {
            data: (*skb).data as usize,
            end: (*skb).data_end as usize,
            len: (*skb).len as usize,
            segment_size: (*skb).gso_size,
        }
    }
}

/// Rewrites and sends out of the port. `at` is [`Rewrite::l4`], either a constant or a value whose bounds only the
/// verifier sees.
#[inline(always)]
pub(super) fn apply(skb: *mut __sk_buff, rewrite: &Rewrite, at: usize) -> Option<i32> {
    let (check, flags) = match rewrite.proto {
        Proto::Tcp => (at + TcpHeader::CHECK, 0),
        // No checksum stays none.
        Proto::Udp => (at + UdpHeader::CHECK, BPF_F_MARK_MANGLED_0 as u64),
    };
    // The addresses are part of the pseudo header, which a partial checksum already holds; ports and options are not.
    replace(skb, check as u32, rewrite.d_addr, flags | BPF_F_PSEUDO_HDR as u64)?;
    replace(skb, check as u32, checksum::fold(rewrite.d_port as u32 + rewrite.mss.difference as u32), flags)?;
    let packet = linear(skb);
    match rewrite.proto {
        Proto::Tcp => write_headers(packet, packet.window::<{ TcpHeader::LEN }>(at)?, rewrite)?,
        Proto::Udp => write_headers(packet, packet.window::<{ UdpHeader::LEN }>(at)?, rewrite)?,
    }
    Some(leave(rewrite.ifindex, rewrite.out))
}

/// Sends the frame out of a port.
#[inline(always)]
pub fn leave(ifindex: u32, out: PortFlags) -> i32 {
    // SAFETY: helpers without pointers.
    let action =
        unsafe { if out.has(PortFlags::PEER) { bpf_redirect_peer(ifindex, 0) } else { bpf_redirect(ifindex, 0) } };
    action as i32
}

#[inline(always)]
pub fn replace(skb: *mut __sk_buff, at: u32, difference: u16, flags: u64) -> Option<()> {
    // SAFETY: a helper on the program's own context.
    (unsafe { bpf_l4_csum_replace(skb, at, 0, difference as u64, flags) } == 0).then_some(())
}
