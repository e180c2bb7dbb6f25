//! The XDP program: whole frames with complete checksums, rewritten in place.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{xdp_action, xdp_md},
    helpers::generated::bpf_xdp_get_buff_len,
    macros::xdp,
    programs::XdpContext,
};
use privatelink_ebpf::{
    abi::{Counter, Ip4, MacBits, Proto, Stage, service::PortFlags},
    datapath::{Frame as _, Rewrite, Tables as _, Verdict, fast, slow, stage, udp, verdict::turns_back},
    wire::{
        Ipv4Hdr, L3, Window, checksum,
        tcp::TcpHeader,
        udp::{UdpHeader, apply as udp_check},
    },
};

use super::{
    maps::{STAGES_XDP, XDP_PORTS},
    packet::{Packet, opaque},
    tables::Maps,
};

/// The fast path of TCP; the rest is the stages'.
#[xdp(frags)]
pub fn privatelink_xdp(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    // One scalar comes back, as in TC.
    let apply =
        |rewrite: &Rewrite| send(apply(packet, rewrite, rewrite.l4 as usize), rewrite.ifindex, rewrite.out, ifindex);
    if let Some(action) = fast(packet, Maps::<true>, ifindex, apply) {
        return action;
    }
    match stage(packet) {
        Stage::Slow | Stage::IcmpError | Stage::Proxy | Stage::ProxySend => go_on(&ctx, Stage::Slow),
        Stage::Udp => go_on(&ctx, Stage::Udp),
        Stage::Fragment => go_on(&ctx, Stage::Fragment),
        Stage::Icmp => go_on(&ctx, Stage::Icmp),
        Stage::V6 => go_on(&ctx, Stage::V6),
        // Reached from other stages.
        Stage::V6Slow
        | Stage::Icmp6
        | Stage::Answer
        | Stage::Challenge
        | Stage::Wait
        | Stage::ToIpv6
        | Stage::ToIpv4 => {}
    }
    // Reached only while the agent has not put the stage's program in its place: TC does everything.
    xdp_action::XDP_PASS
}

/// Goes on in a stage; comes back only if there is no program in its place.
#[inline(always)]
pub fn go_on(ctx: &XdpContext, stage: Stage) {
    // SAFETY: the program in there is of this kind; it starts anew from the context.
    let _ = unsafe { STAGES_XDP.tail_call(ctx, stage as u32) };
}

#[xdp(frags)]
pub fn privatelink_xdp_slow(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    let packet = whole(&ctx, packet);
    match slow(packet, Maps::<true>, ifindex) {
        Ok(rewrite) => leave(packet, &rewrite, ifindex),
        Err(Verdict::GoOn(stage)) => {
            go_on(&ctx, stage);
            // Reached only while the agent has not put the stage's program in its place: TC does everything.
            xdp_action::XDP_PASS
        }
        Err(verdict) => action(verdict),
    }
}

/// What becomes of a frame that is not forwarded: what asks for an answer is TC's.
#[inline(always)]
pub fn action(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Pass
        | Verdict::ToTc
        | Verdict::AnswerArp
        | Verdict::AnswerReset
        | Verdict::AnswerEcho
        | Verdict::AnswerError(_)
        | Verdict::Proxy
        | Verdict::AnswerNeighbor
        | Verdict::GoOn(_) => xdp_action::XDP_PASS,
        Verdict::Drop(_) => xdp_action::XDP_DROP,
    }
}

/// All of UDP over IPv4.
#[xdp(frags)]
pub fn privatelink_xdp_udp(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    let apply_plain =
        |rewrite: &Rewrite| send(apply(packet, rewrite, rewrite.l4 as usize), rewrite.ifindex, rewrite.out, ifindex);
    if let Some(action) = udp::fast(packet, Maps::<true>, ifindex, apply_plain) {
        return action;
    }
    let packet = whole(&ctx, packet);
    match udp::slow(packet, Maps::<true>, ifindex) {
        Ok(rewrite) => leave(packet, &rewrite, ifindex),
        Err(verdict) => action(verdict),
    }
}

/// A frame of several buffers: only the first can be read, but the whole counts. The fast paths leave such frames.
#[inline(always)]
pub fn whole(ctx: &XdpContext, packet: Packet) -> Packet {
    // SAFETY: a helper on the program's own context.
    let len = unsafe { bpf_xdp_get_buff_len(ctx.as_ptr().cast()) } as usize;
    Packet { len, ..packet }
}

#[inline(always)]
pub fn open(ctx: &XdpContext) -> (Packet, u32) {
    let (data, end) = (ctx.data(), ctx.data_end());
    let md: *const xdp_md = ctx.as_ptr().cast();
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*md).ingress_ifindex };
    (Packet { data, end, len: end - data, segment_size: 0 }, ifindex)
}

/// Rewrites a frame that the fast path has left, and sends it.
#[inline(always)]
fn leave(packet: Packet, rewrite: &Rewrite, ifindex: u32) -> u32 {
    let rewritten = apply(packet, rewrite, opaque(rewrite.l4 as usize) & 0x7f);
    send(rewritten, rewrite.ifindex, rewrite.out, ifindex)
}

/// Sends a frame that came in on `ifindex` and has been rewritten out of interface `out`, whose flags are `flags`.
#[inline(always)]
pub fn send(rewritten: Option<()>, out: u32, flags: PortFlags, ifindex: u32) -> u32 {
    match rewritten {
        Some(()) if turns_back(ifindex, out, flags) => xdp_action::XDP_TX,
        Some(()) => XDP_PORTS.redirect(out, 0).unwrap_or_else(|_| refused()),
        None => refused(),
    }
}

#[inline(always)]
pub fn refused() -> u32 {
    Maps::<true>.count(Counter::KernelRefused);
    xdp_action::XDP_DROP
}

/// Changes addresses, ports, TTL and checksums in place (RFC 1624). `l4` is [`Rewrite::l4`], either a constant or a
/// value whose bounds only the verifier sees.
#[inline(always)]
fn apply(packet: Packet, rewrite: &Rewrite, l4: usize) -> Option<()> {
    let difference = rewrite.d_addr as u32 + rewrite.d_port as u32 + rewrite.mss.difference as u32;
    match rewrite.proto {
        Proto::Tcp => {
            let l4: Window<{ TcpHeader::LEN }> = packet.window(l4)?;
            l4.store16::<{ TcpHeader::CHECK }>(checksum::apply(l4.load16::<{ TcpHeader::CHECK }>(), difference));
            write_headers(packet, l4, rewrite)
        }
        Proto::Udp => {
            let l4: Window<{ UdpHeader::LEN }> = packet.window(l4)?;
            l4.store16::<{ UdpHeader::CHECK }>(udp_check(l4.load16::<{ UdpHeader::CHECK }>(), difference));
            write_headers(packet, l4, rewrite)
        }
    }
}

/// Everything but the L4 checksum: addresses, ports, TTL, IP checksum, segment size.
#[inline(always)]
pub fn write_headers<const LEN: usize>(packet: Packet, l4: Window<LEN>, rewrite: &Rewrite) -> Option<()> {
    let Rewrite {
        proto: _,
        src,
        dst,
        src_port,
        dst_port,
        d_addr,
        d_port: _,
        src_mac,
        dst_mac,
        l4: _,
        mss,
        ifindex: _,
        out: _,
    } = *rewrite;
    l4.store32::<0>(src_port.word() as u32 | (dst_port.word() as u32) << 16);
    write_ip(packet.window(0)?, src, dst, d_addr, src_mac, dst_mac);
    if mss.at != 0 {
        packet.window::<2>(mss.at as usize & 0xff)?.store16::<0>(mss.value.to_be());
    }
    Some(())
}

/// Ethernet and IP header: addresses, TTL, checksum.
#[inline(always)]
pub fn write_ip(
    head: Window<{ L3 + Ipv4Hdr::LEN }>,
    src: Ip4,
    dst: Ip4,
    d_addr: u16,
    src_mac: MacBits,
    dst_mac: MacBits,
) {
    head.store64::<0>(dst_mac.word() | src_mac.word() << 48);
    head.store32::<8>((src_mac.word() >> 16) as u32);
    // TTL, protocol and checksum in one word.
    let ttl_to_check = head.load32::<{ L3 + 8 }>();
    let check = checksum::apply((ttl_to_check >> 16) as u16, d_addr as u32 + checksum::TTL_DECREMENT);
    head.store32::<{ L3 + 8 }>((ttl_to_check & 0xffff).wrapping_sub(1) & 0xffff | (check as u32) << 16);
    head.store64::<{ L3 + 12 }>(src.word() as u64 | (dst.word() as u64) << 32);
}
