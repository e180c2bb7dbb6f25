//! The stage of ICMP over IPv6, and errors of our own; as `icmp`.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT},
    helpers::generated::{bpf_csum_diff, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    datapath::{
        Frame as _, Tables as _, Verdict,
        icmp::error::Cause,
        v6::{
            icmp::{
                self, QUOTED, QUOTED_L4, Translation6,
                error::{self, LONG, Quote, SHORT, TRAILER},
            },
            parse::HEAD,
        },
    },
    wire::{EthHdr, L3, Window, checksum, icmp::IcmpHeader, icmp6, ipv6::Ipv6Header, tcp::TcpHeader},
};

use super::{
    icmp::pulled,
    packet::{Packet, opaque},
    tables::Maps,
    tc::{finish, leave, linear},
};

/// Headers that are looked at: up to the quoted TCP checksum.
const HEADERS: usize = QUOTED_L4 + TcpHeader::CHECK + 2;

#[classifier]
pub fn privatelink_tc_icmp6(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match icmp::decide(pulled(skb, HEADERS), Maps::<false>, ifindex) {
        Ok(translation) => finish(translate(linear(skb), &translation)),
        Err(Verdict::Pass | Verdict::ToTc) => TC_ACT_OK as i32,
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: ICMPv6 in {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::AnswerEcho) => finish(answer_echo(linear(skb), ifindex)),
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

#[inline(always)]
fn translate(packet: Packet, translation: &Translation6<'_>) -> Option<i32> {
    let Translation6 {
        src,
        dst,
        quoted_src_port,
        quoted_dst_port,
        quoted_check,
        quoted_check_value,
        check,
        src_mac,
        dst_mac,
        ifindex,
        out,
    } = *translation;
    if quoted_check != 0 {
        packet.window::<2>(opaque(quoted_check as usize) & 0xff)?.store16::<0>(quoted_check_value);
    }
    let head: Window<{ QUOTED_L4 + 4 }> = packet.window(0)?;
    let ([a, b], [c, d]) = (src.halves(), dst.halves());
    const OUTER: usize = L3 + Ipv6Header::SRC;
    head.store64::<OUTER>(a);
    head.store64::<{ OUTER + 8 }>(b);
    head.store64::<{ OUTER + 16 }>(c);
    head.store64::<{ OUTER + 24 }>(d);
    const INNER: usize = QUOTED + Ipv6Header::SRC;
    head.store64::<INNER>(c);
    head.store64::<{ INNER + 8 }>(d);
    head.store64::<{ INNER + 16 }>(a);
    head.store64::<{ INNER + 24 }>(b);
    head.store32::<QUOTED_L4>(quoted_src_port.word() as u32 | (quoted_dst_port.word() as u32) << 16);
    head.store16::<{ HEAD + IcmpHeader::CHECK }>(check);
    head.store64::<0>(dst_mac.word() | src_mac.word() << 48);
    head.store32::<8>((src_mac.word() >> 16) as u32);
    let hops = head.load8::<{ L3 + Ipv6Header::HOPS }>();
    head.store8::<{ L3 + Ipv6Header::HOPS }>(hops.wrapping_sub(1));
    Some(leave(ifindex, out))
}

/// Turns an echo request round; its payload, wherever it is, stays.
#[inline(always)]
fn answer_echo(packet: Packet, ifindex: u32) -> Option<i32> {
    let mac = Maps::<false>.port(ifindex)?.mac_bits();
    let head: Window<{ HEAD + IcmpHeader::LEN }> = packet.window(0)?;
    let requester = head.load64::<6>() & 0xffff_ffff_ffff;
    head.store64::<0>(requester | mac.word() << 48);
    head.store32::<8>((mac.word() >> 16) as u32);
    head.store8::<{ L3 + Ipv6Header::HOPS }>(error::HOP_LIMIT);
    const SRC: usize = L3 + Ipv6Header::SRC;
    let (a, b) = (head.load64::<SRC>(), head.load64::<{ SRC + 8 }>());
    let (c, d) = (head.load64::<{ SRC + 16 }>(), head.load64::<{ SRC + 24 }>());
    head.store64::<SRC>(c);
    head.store64::<{ SRC + 8 }>(d);
    head.store64::<{ SRC + 16 }>(a);
    head.store64::<{ SRC + 24 }>(b);
    let request = head.load16::<HEAD>();
    let [_, code] = request.to_ne_bytes();
    let reply = u16::from_ne_bytes([icmp6::ECHO_REPLY, code]);
    head.store16::<HEAD>(reply);
    let check = head.load16::<{ HEAD + IcmpHeader::CHECK }>();
    head.store16::<{ HEAD + IcmpHeader::CHECK }>(checksum::apply(check, checksum::difference16(request, reply)));
    // SAFETY: a helper without pointers.
    Some(unsafe { bpf_redirect(ifindex, 0) } as i32)
}

/// Replaces the frame by the error about it and sends it out of the port that it came in on.
#[inline(always)]
pub fn answer_error6(skb: *mut __sk_buff, cause: Cause, ifindex: u32) -> Option<i32> {
    let packet = pulled(skb, L3 + LONG * 4);
    let head = packet.window::<HEAD>(0)?;
    let payload = u16::from_be(head.load16::<{ L3 + Ipv6Header::PAYLOAD }>()) as usize;
    match payload + Ipv6Header::LEN >= LONG * 4 {
        true => answer::<LONG>(skb, cause, ifindex),
        false => answer::<SHORT>(skb, cause, ifindex),
    }
}

#[inline(never)]
fn answer<const WORDS: usize>(skb: *mut __sk_buff, cause: Cause, ifindex: u32) -> Option<i32> {
    let mut ethernet = [0u8; EthHdr::LEN];
    let mut quote = [0u32; WORDS];
    let len = (WORDS * 4) as u32;
    // SAFETY: helpers on the program's own context and stack. Cutting a socket buffer to so few bytes also ends its
    // standing for many segments.
    unsafe {
        if bpf_skb_load_bytes(skb.cast(), 0, ethernet.as_mut_ptr().cast(), EthHdr::LEN as u32) != 0
            || bpf_skb_load_bytes(skb.cast(), L3 as u32, quote.as_mut_ptr().cast(), len) != 0
            || bpf_skb_change_tail(skb, error::HEAD as u32 + len + TRAILER as u32, 0) != 0
        {
            return None;
        }
        let sum = bpf_csum_diff(core::ptr::null_mut(), 0, quote.as_mut_ptr(), len, 0) as u32;
        let quoted = Quote::of(&quote, checksum::fold(sum));
        let (head, trailer) = error::build(&ethernet, &quoted, cause);
        let flags = BPF_F_RECOMPUTE_CSUM as u64;
        if bpf_skb_store_bytes(skb, 0, head.as_ptr().cast(), error::HEAD as u32, flags) != 0
            || bpf_skb_store_bytes(skb, error::HEAD as u32, quote.as_ptr().cast(), len, flags) != 0
            || bpf_skb_store_bytes(skb, error::HEAD as u32 + len, trailer.as_ptr().cast(), TRAILER as u32, flags) != 0
        {
            return None;
        }
        Some(bpf_redirect(ifindex, 0) as i32)
    }
}
