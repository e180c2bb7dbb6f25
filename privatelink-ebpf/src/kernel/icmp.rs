//! The ICMP stages. An ICMP message carries no partial checksum and every change of it is made good in a checksum that
//! it carries itself, so it is written directly also in TC.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT, xdp_action},
    helpers::generated::{bpf_csum_diff, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    datapath::{
        Frame as _, Tables as _, Verdict,
        icmp::{
            self, Translation,
            error::{self, Cause, HEAD, LONG, Quote, SHORT, TRAILER},
        },
    },
    wire::{EthHdr, Ipv4Hdr, L3, Window, checksum, icmp as wire, ipv6::ETHERTYPE_IPV6},
};

use super::{
    icmp6::answer_error6,
    packet::{Packet, opaque},
    tables::Maps,
    tc::{finish, leave, linear, pull},
    xdp::{action, open, whole, write_ip},
};

/// Headers that are looked at: Ethernet, IPv4 with options, ICMP, quoted IPv4 with options, quoted TCP up to its
/// checksum; and all that stays of an extended error.
const HEADERS: usize = 14 + 60 + 8 + if 60 + 18 > wire::EXTENDED_QUOTE { 60 + 18 } else { wire::EXTENDED_QUOTE };

#[classifier]
pub fn privatelink_tc_icmp(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match icmp::decide(pulled(skb, HEADERS), Maps::<false>, ifindex) {
        Ok(translation) => finish(translate(skb, &translation)),
        Err(Verdict::Pass | Verdict::ToTc) => TC_ACT_OK as i32,
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: frame of {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::AnswerEcho) => finish(answer_echo(skb, ifindex)),
        // Other stages' verdicts.
        Err(
            Verdict::AnswerArp
            | Verdict::AnswerReset
            | Verdict::AnswerError(_)
            | Verdict::Proxy
            | Verdict::AnswerNeighbor
            | Verdict::GoOn(_),
        ) => finish(None),
    }
}

/// Keeps what is nobody's off TC.
#[xdp(frags)]
pub fn privatelink_xdp_icmp(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    match icmp::decide(whole(&ctx, packet), Maps::<true>, ifindex) {
        // XDP translates nothing.
        Ok(_) => xdp_action::XDP_PASS,
        Err(verdict) => action(verdict),
    }
}

/// Makes an error of the frame; the first word of `cb` says which ([`Cause::to_bits`]).
#[classifier]
pub fn privatelink_tc_icmp_error(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, cause) = unsafe { ((*skb).ifindex, Cause::from_bits((*skb).cb[0] as u16)) };
    let packet = pulled(skb, L3 + LONG * 4);
    if packet.window::<2>(L3 - 2).is_some_and(|ether_type| ether_type.load16::<0>() == ETHERTYPE_IPV6) {
        return finish(answer_error6(skb, cause, ifindex));
    }
    let long = match packet.window::<{ L3 + Ipv4Hdr::LEN }>(0) {
        Some(head) => u16::from_be(head.load16::<{ L3 + 2 }>()) as usize >= LONG * 4,
        None => false,
    };
    finish(if long { answer_error::<LONG>(skb, cause, ifindex) } else { answer_error::<SHORT>(skb, cause, ifindex) })
}

/// The packet with its first `wanted` bytes, as far as it has them, directly accessible.
#[inline(always)]
pub fn pulled(skb: *mut __sk_buff, wanted: usize) -> Packet {
    let packet = linear(skb);
    if packet.data + wanted <= packet.end || packet.len <= packet.end - packet.data {
        return packet;
    }
    pull(skb, wanted)
}

#[inline(always)]
fn translate(skb: *mut __sk_buff, translation: &Translation) -> Option<i32> {
    rewrite(linear(skb), translation)?;
    if translation.extended {
        cut_extensions(skb, translation.icmp as u32)?;
    }
    Some(leave(translation.ifindex, translation.out))
}

/// Changes both headers' and the quoted packet's addresses, ports and checksums in place.
#[inline(always)]
fn rewrite(packet: Packet, translation: &Translation) -> Option<()> {
    let Translation {
        src,
        dst,
        d_outer,
        quoted_src_port,
        quoted_dst_port,
        d_addr,
        d_port,
        icmp,
        quoted_l4,
        quoted_check,
        extended: _,
        src_mac,
        dst_mac,
        ifindex: _,
        out: _,
    } = *translation;
    const QUOTED: usize = wire::IcmpHeader::LEN;
    let message: Window<{ QUOTED + Ipv4Hdr::LEN }> = packet.window(opaque(icmp as usize) & 0x7f)?;
    let was = message.load16::<{ QUOTED + 10 }>();
    let now = checksum::apply(was, d_addr as u32);
    message.store16::<{ QUOTED + 10 }>(now);
    message.store64::<{ QUOTED + 12 }>(dst.word() as u64 | (src.word() as u64) << 32);
    let mut difference = checksum::difference16(was, now) + d_addr as u32 + d_port as u32;
    if quoted_check != 0 {
        let field: Window<2> = packet.window(opaque(quoted_check as usize) & 0xff)?;
        let was = field.load16::<0>();
        let now = icmp::quoted_check(quoted_check - quoted_l4, was, d_addr, d_port);
        field.store16::<0>(now);
        difference += checksum::difference16(was, now);
    }
    let ports: Window<4> = packet.window(opaque(quoted_l4 as usize) & 0xff)?;
    ports.store32::<0>(quoted_src_port.word() as u32 | (quoted_dst_port.word() as u32) << 16);
    let check = message.load16::<{ wire::IcmpHeader::CHECK }>();
    message.store16::<{ wire::IcmpHeader::CHECK }>(checksum::apply(check, difference));

    write_ip(packet.window(0)?, src, dst, d_outer, src_mac, dst_mac);
    Some(())
}

/// Leaves of an error what [`wire::EXTENDED_QUOTE`] quoted bytes are, and makes length and checksum anew. `icmp`: where
/// the ICMP header starts.
#[inline(never)]
fn cut_extensions(skb: *mut __sk_buff, icmp: u32) -> Option<i32> {
    const KEPT: usize = wire::IcmpHeader::LEN + wire::EXTENDED_QUOTE;
    let icmp = opaque(icmp as usize) & 0x7f;
    let len = icmp + KEPT;
    // SAFETY: a helper on the program's own context.
    if unsafe { bpf_skb_change_tail(skb, len as u32, 0) } != 0 {
        return None;
    }
    let packet = linear(skb);
    let head: Window<{ L3 + Ipv4Hdr::LEN }> = packet.window(0)?;
    let was = head.load16::<{ L3 + 2 }>();
    let now = ((len - L3) as u16).to_be();
    head.store16::<{ L3 + 2 }>(now);
    let check = head.load16::<{ L3 + 10 }>();
    head.store16::<{ L3 + 10 }>(checksum::apply(check, checksum::difference16(was, now)));
    let message: Window<KEPT> = packet.window(icmp)?;
    message.store8::<{ wire::IcmpHeader::QUOTE_WORDS }>(0);
    message.store16::<{ wire::IcmpHeader::CHECK }>(0);
    // SAFETY: the window's bytes have been checked; the helper reads them.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, message.as_ptr().cast(), KEPT as u32, 0) };
    message.store16::<{ wire::IcmpHeader::CHECK }>(!checksum::fold(sum as u32));
    Some(0)
}

/// Turns an echo request round; its payload, wherever it is, stays.
#[inline(always)]
fn answer_echo(skb: *mut __sk_buff, ifindex: u32) -> Option<i32> {
    let mac = Maps::<false>.port(ifindex)?.mac_bits();
    let head: Window<{ L3 + Ipv4Hdr::LEN + wire::IcmpHeader::LEN }> = linear(skb).window(0)?;
    let requester = head.load64::<6>() & 0xffff_ffff_ffff;
    head.store64::<0>(requester | mac.word() << 48);
    head.store32::<8>((mac.word() >> 16) as u32);
    let ttl_to_check = head.load32::<{ L3 + 8 }>();
    let ttl_and_proto = ttl_to_check as u16;
    let answered = ttl_and_proto & 0xff00 | error::TTL as u16;
    let check = checksum::apply((ttl_to_check >> 16) as u16, checksum::difference16(ttl_and_proto, answered));
    head.store32::<{ L3 + 8 }>(answered as u32 | (check as u32) << 16);
    head.store64::<{ L3 + 12 }>(head.load64::<{ L3 + 12 }>().rotate_left(32));
    const ICMP: usize = L3 + Ipv4Hdr::LEN;
    let request = head.load16::<ICMP>();
    let reply = u16::from_ne_bytes([wire::ECHO_REPLY, 0]);
    head.store16::<ICMP>(reply);
    let check = head.load16::<{ ICMP + wire::IcmpHeader::CHECK }>();
    let check = wire::reply_check(check, request, reply);
    head.store16::<{ ICMP + wire::IcmpHeader::CHECK }>(check);
    // SAFETY: a helper without pointers.
    Some(unsafe { bpf_redirect(ifindex, 0) } as i32)
}

/// Replaces the frame by the error about it and sends it out of the port that it came in on.
#[inline(never)]
fn answer_error<const WORDS: usize>(skb: *mut __sk_buff, cause: Cause, ifindex: u32) -> Option<i32> {
    let mut ethernet = [0u8; EthHdr::LEN];
    let mut quote = [0u32; WORDS];
    let len = (WORDS * 4) as u32;
    // SAFETY: helpers on the program's own context and stack. Cutting a socket buffer to so few bytes also ends its
    // standing for many segments.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), 0, ethernet.as_mut_ptr().cast(), EthHdr::LEN as u32) != 0
            || bpf_skb_load_bytes(skb.cast(), L3 as u32, quote.as_mut_ptr().cast(), len) != 0
            || bpf_skb_change_tail(skb, HEAD as u32 + len + TRAILER as u32, 0) != 0
        {
            return None;
        }
        let sum = bpf_csum_diff(core::ptr::null_mut(), 0, quote.as_mut_ptr(), len, 0) as u32;
        let quoted = Quote::of(&quote, checksum::fold(sum));
        let (head, trailer) = error::build(&ethernet, &quoted, cause);
        let flags = BPF_F_RECOMPUTE_CSUM as u64;
        if bpf_skb_store_bytes(skb, 0, head.as_ptr().cast(), HEAD as u32, flags) != 0
            || bpf_skb_store_bytes(skb, HEAD as u32, quote.as_ptr().cast(), len, flags) != 0
            || bpf_skb_store_bytes(skb, HEAD as u32 + len, trailer.as_ptr().cast(), TRAILER as u32, flags) != 0
        {
            return None;
        }
        Some(bpf_redirect(ifindex, 0) as i32)
    }
}
