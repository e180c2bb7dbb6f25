//! The stage of IPv6 for both hooks.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    abi::{Proto, Stage},
    datapath::{
        Frame as _, Verdict,
        v6::{self, Rewrite6, parse::HEAD},
    },
    wire::{
        L3, Window, checksum,
        ipv6::Ipv6Header,
        tcp::TcpHeader,
        udp::{UdpHeader, apply as udp_check},
    },
};

use super::{
    packet::{Packet, opaque},
    tables::Maps,
    tc::{answer, answer_error, finish, go_on, leave, linear, replace, with_headers},
    xdp::{action, go_on as go_on_xdp, open, send, whole},
};

/// Headers that are looked at: Ethernet, IPv6, extension headers, TCP with all its options.
const HEADERS: usize = 128 + 60;
/// Where TCP or UDP begins at the latest, rounded up for a mask.
const L4_MASK: usize = 0xff;
/// Of `bpf_l4_csum_replace`, from kernel 6.16 on: the pseudo header is IPv6's, in which no header checksum makes up for
/// a changed address (so that a device's checksum over the whole packet stays right).
const BPF_F_IPV6: u64 = 1 << 7;

#[classifier]
pub fn privatelink_tc_v6(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    let apply_plain = |rewrite: &Rewrite6<'_>| finish(apply(skb, rewrite, rewrite.l4 as usize));
    if let Some(action) = v6::fast(linear(skb), Maps::<false>, ifindex, apply_plain) {
        return action;
    }
    go_on(&ctx, Stage::V6Slow);
    finish(None)
}

#[classifier]
pub fn privatelink_tc_v6_slow(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match v6::slow(with_headers(skb, HEADERS, HEADERS), Maps::<false>, ifindex) {
        Ok(rewrite) => finish(apply(skb, &rewrite, opaque(rewrite.l4 as usize) & L4_MASK)),
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: IPv6 frame of {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::AnswerNeighbor | Verdict::AnswerReset) => answer(&ctx),
        Err(Verdict::AnswerError(cause)) => answer_error(&ctx, cause),
        Err(Verdict::GoOn(stage)) => {
            go_on(&ctx, stage);
            finish(None)
        }
        Err(Verdict::Pass | Verdict::ToTc) => TC_ACT_OK as i32,
        // The other stages' verdicts.
        Err(Verdict::AnswerArp | Verdict::AnswerEcho | Verdict::Proxy) => finish(None),
    }
}

#[xdp(frags)]
pub fn privatelink_xdp_v6(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    let apply_plain = |rewrite: &Rewrite6<'_>| {
        send(apply_to_packet(packet, rewrite, rewrite.l4 as usize), rewrite.ifindex, rewrite.out, ifindex)
    };
    if let Some(action) = v6::fast(packet, Maps::<true>, ifindex, apply_plain) {
        return action;
    }
    go_on_xdp(&ctx, Stage::V6Slow);
    xdp_action::XDP_PASS
}

#[xdp(frags)]
pub fn privatelink_xdp_v6_slow(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    let packet = whole(&ctx, packet);
    match v6::slow(packet, Maps::<true>, ifindex) {
        Ok(rewrite) => {
            let done = apply_to_packet(packet, &rewrite, opaque(rewrite.l4 as usize) & L4_MASK);
            send(done, rewrite.ifindex, rewrite.out, ifindex)
        }
        Err(Verdict::GoOn(stage)) => {
            go_on_xdp(&ctx, stage);
            // Reached only while the agent has not put the stage's program in its place: TC does everything.
            xdp_action::XDP_PASS
        }
        Err(verdict) => action(verdict),
    }
}

/// Rewrites and sends out of the port, as for IPv4.
#[inline(always)]
fn apply(skb: *mut __sk_buff, rewrite: &Rewrite6<'_>, at: usize) -> Option<i32> {
    let (check, flags) = match rewrite.proto {
        Proto::Tcp => (at + TcpHeader::CHECK, 0),
        Proto::Udp => (at + UdpHeader::CHECK, BPF_F_MARK_MANGLED_0 as u64),
    };
    let check = check as u32;
    let pseudo = flags | BPF_F_PSEUDO_HDR as u64;
    if replace(skb, check, rewrite.d_addr, pseudo | BPF_F_IPV6).is_none() {
        replace(skb, check, rewrite.d_addr, pseudo)?;
    }
    replace(skb, check, checksum::fold(rewrite.d_port as u32 + rewrite.mss.difference as u32), flags)?;
    let packet = linear(skb);
    write_headers(packet, packet.window(at)?, rewrite)?;
    Some(leave(rewrite.ifindex, rewrite.out))
}

/// Rewrites in place, as for IPv4.
#[inline(always)]
fn apply_to_packet(packet: Packet, rewrite: &Rewrite6<'_>, l4: usize) -> Option<()> {
    let difference = rewrite.d_addr as u32 + rewrite.d_port as u32 + rewrite.mss.difference as u32;
    match rewrite.proto {
        Proto::Tcp => {
            let window: Window<{ TcpHeader::LEN }> = packet.window(l4)?;
            let check = checksum::apply(window.load16::<{ TcpHeader::CHECK }>(), difference);
            window.store16::<{ TcpHeader::CHECK }>(check);
        }
        Proto::Udp => {
            let window: Window<{ UdpHeader::LEN }> = packet.window(l4)?;
            window.store16::<{ UdpHeader::CHECK }>(udp_check(window.load16::<{ UdpHeader::CHECK }>(), difference));
        }
    }
    write_headers(packet, packet.window(l4)?, rewrite)
}

/// Everything but the L4 checksum: Ethernet addresses, addresses, ports, hop limit, segment size.
#[inline(always)]
fn write_headers(packet: Packet, l4: Window<4>, rewrite: &Rewrite6<'_>) -> Option<()> {
    let Rewrite6 {
        proto: _,
        src,
        dst,
        src_port,
        dst_port,
        d_addr: _,
        d_port: _,
        src_mac,
        dst_mac,
        l4: _,
        mss,
        ifindex: _,
        out: _,
    } = *rewrite;
    l4.store32::<0>(src_port.word() as u32 | (dst_port.word() as u32) << 16);
    let head: Window<HEAD> = packet.window(0)?;
    head.store64::<0>(dst_mac.word() | src_mac.word() << 48);
    head.store32::<8>((src_mac.word() >> 16) as u32);
    let hops = head.load8::<{ L3 + Ipv6Header::HOPS }>();
    head.store8::<{ L3 + Ipv6Header::HOPS }>(hops.wrapping_sub(1));
    let ([a, b], [c, d]) = (src.halves(), dst.halves());
    head.store64::<{ L3 + 8 }>(a);
    head.store64::<{ L3 + 16 }>(b);
    head.store64::<{ L3 + 24 }>(c);
    head.store64::<{ L3 + 32 }>(d);
    if mss.at != 0 {
        packet.window::<2>(mss.at as usize & 0xff)?.store16::<0>(mss.value.to_be());
    }
    Some(())
}
