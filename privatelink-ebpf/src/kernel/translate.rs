//! The stages that give a packet a header of the other IP family.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT},
    helpers::generated::{bpf_skb_change_proto, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    abi::Proto,
    datapath::{
        Frame as _, Rewrite, Verdict,
        translate::{self, L4_IPV4, L4_IPV6, LONGER, ether_type},
        v6::Rewrite6,
    },
    wire::{EthHdr, L3, Window, checksum, tcp::TcpHeader, udp::UdpHeader},
};

use super::{
    tables::Maps,
    tc::{answer, answer_error, finish, go_on, leave, linear, replace, with_headers},
};

/// Headers that are looked at: Ethernet, IPv6, TCP with all its options.
const HEADERS: usize = L4_IPV6 + 60;

#[classifier]
pub fn privatelink_tc_to_ipv6(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    match translate::to_ipv6(with_headers(skb, HEADERS, HEADERS), Maps::<false>, ifindex) {
        Ok(rewrite) => finish(to_ipv6(skb, &rewrite)),
        Err(verdict) => refused(&ctx, verdict),
    }
}

#[classifier]
pub fn privatelink_tc_to_ipv4(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    match translate::to_ipv4(with_headers(skb, HEADERS, HEADERS), Maps::<false>, ifindex) {
        Ok(rewrite) => finish(to_ipv4(skb, &rewrite)),
        Err(verdict) => refused(&ctx, verdict),
    }
}

#[inline(always)]
fn refused(ctx: &TcContext, verdict: Verdict) -> i32 {
    match verdict {
        Verdict::Drop(reason) => {
            debug!(ctx, "a packet for the other IP family refused, reason {}", reason as u32);
            TC_ACT_SHOT as i32
        }
        Verdict::AnswerReset => answer(ctx),
        Verdict::AnswerError(cause) => answer_error(ctx, cause),
        Verdict::GoOn(stage) => {
            go_on(ctx, stage);
            finish(None)
        }
        Verdict::Pass | Verdict::ToTc => TC_ACT_OK as i32,
        // Other stages' verdicts.
        Verdict::AnswerArp | Verdict::AnswerEcho | Verdict::AnswerNeighbor | Verdict::Proxy => finish(None),
    }
}

#[inline(always)]
fn to_ipv6(skb: *mut __sk_buff, rewrite: &Rewrite6<'_>) -> Option<i32> {
    let header = translate::ipv6_header(linear(skb), rewrite)?;
    replace_header(skb, true, &header)?;
    finish_translation(skb, L4_IPV6, LONGER, true, rewrite)
}

#[inline(always)]
fn to_ipv4(skb: *mut __sk_buff, rewrite: &Rewrite) -> Option<i32> {
    let header = translate::ipv4_header(linear(skb), rewrite)?;
    replace_header(skb, false, &header)?;
    finish_translation(skb, L4_IPV4, LONGER.wrapping_neg(), false, rewrite)
}

/// Makes room for the header of the other family, or takes it away, and writes it; what a device knows of the packet's
/// sum stays right. Segments of a super-packet keep their size.
#[inline(always)]
fn replace_header<const LEN: usize>(skb: *mut __sk_buff, ipv6: bool, header: &[u8; LEN]) -> Option<()> {
    let flags = BPF_F_RECOMPUTE_CSUM as u64;
    // SAFETY: helpers on the program's own context and stack.
    unsafe {
        (bpf_skb_change_proto(skb, ether_type(ipv6), 0) == 0
            && bpf_skb_store_bytes(skb, L3 as u32, header.as_ptr().cast(), LEN as u32, flags) == 0)
            .then_some(())
    }
}

/// Ethernet header, ports, checksum and segment size; sends the packet. `moved` is how far TCP or UDP has moved, to
/// `l4`.
#[inline(always)]
fn finish_translation<A: Copy>(
    skb: *mut __sk_buff,
    l4: usize,
    moved: usize,
    ipv6: bool,
    rewrite: &Rewrite<A>,
) -> Option<i32> {
    let Rewrite {
        proto,
        src: _,
        dst: _,
        src_port,
        dst_port,
        d_addr,
        d_port,
        src_mac,
        dst_mac,
        l4: _,
        mss,
        ifindex,
        out,
    } = *rewrite;
    let (check, flags) = match proto {
        Proto::Tcp => (l4 + TcpHeader::CHECK, 0),
        Proto::Udp => (l4 + UdpHeader::CHECK, BPF_F_MARK_MANGLED_0 as u64),
    };
    // The pseudo headers of both families differ in nothing but the addresses.
    replace(skb, check as u32, d_addr, flags | BPF_F_PSEUDO_HDR as u64)?;
    replace(skb, check as u32, checksum::fold(d_port as u32 + mss.difference as u32), flags)?;
    let packet = linear(skb);
    let ports: Window<4> = packet.window(l4)?;
    ports.store32::<0>(src_port.word() as u32 | (dst_port.word() as u32) << 16);
    let head: Window<{ EthHdr::LEN }> = packet.window(0)?;
    head.store64::<0>(dst_mac.word() | src_mac.word() << 48);
    head.store32::<8>((src_mac.word() >> 16) as u32);
    head.store16::<12>(ether_type(ipv6));
    if mss.at != 0 {
        packet.window::<2>((mss.at as usize).wrapping_add(moved) & 0xff)?.store16::<0>(mss.value.to_be());
    }
    Some(leave(ifindex, out))
}
