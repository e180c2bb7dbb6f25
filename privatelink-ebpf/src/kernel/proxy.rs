//! `privatelink_tc_proxy`: segments of flows with a PROXY protocol header, rewritten, renumbered, and with the header
//! as their payload or beside them.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT},
    helpers::generated::{bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
    macros::{classifier, map},
    maps::PerCpuArray,
    programs::TcContext,
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    abi::{Proto, Stage, entries, service::EndpointIdText},
    datapath::{
        Frame as _, Verdict,
        proxy::{self, Inject, Proxied},
    },
    wire::{
        Ipv4Hdr, L3, checksum, proxy_v2,
        tcp::{Flags, TcpHeader},
    },
};

use super::{
    maps::{ENDPOINT_IDS, PROXY_HEADER},
    packet::{Packet, opaque},
    tables::Maps,
    tc::{answer, answer_error, apply, finish, go_on, leave, linear},
};

/// What the first program has decided, for the second, which has a stack and a verifier budget of its own.
#[map]
static PROXIED: PerCpuArray<Proxied> = PerCpuArray::with_max_entries(entries::PROXIED, 0);

#[classifier]
pub fn privatelink_tc_proxy(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    let keep = |proxied: &Proxied| {
        if let Some(record) = PROXIED.get_ptr_mut(0) {
            // SAFETY: this CPU's own record; a frame's program is not interrupted by another frame's.
            unsafe { record.write(*proxied) };
        }
    };
    match proxy::decide(linear(skb), Maps::<false>, ifindex, keep) {
        Ok(()) => {
            go_on(&ctx, Stage::ProxySend);
            finish(None)
        }
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: segment in {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::AnswerReset) => answer(&ctx),
        Err(Verdict::AnswerError(cause)) => answer_error(&ctx, cause),
        // The other stages' verdicts.
        Err(
            Verdict::Pass
            | Verdict::ToTc
            | Verdict::AnswerArp
            | Verdict::AnswerEcho
            | Verdict::Proxy
            | Verdict::AnswerNeighbor
            | Verdict::GoOn(_),
        ) => TC_ACT_OK as i32,
    }
}

#[classifier]
pub fn privatelink_tc_proxy_send(ctx: TcContext) -> i32 {
    match PROXIED.get_ptr(0) {
        // SAFETY: this CPU's own record, written by the program that has called this one.
        Some(record) => finish(forward(ctx.skb.skb, unsafe { &*record })),
        None => finish(None),
    }
}

#[inline(always)]
fn forward(skb: *mut __sk_buff, proxied: &Proxied) -> Option<i32> {
    let mut rewrite = proxied.rewrite;
    let Proxied { header, first, acknowledged, reply, .. } = *proxied;
    let at = opaque(rewrite.l4 as usize) & 0x7f;
    if reply {
        let sacked = proxy::sack_difference(linear(skb), at as u16, header, first, acknowledged);
        rewrite.mss.difference = checksum::fold(rewrite.mss.difference as u32 + sacked as u32);
    }
    let action = apply(skb, &rewrite, at)?;
    let packet = linear(skb);
    let tcp = packet.window::<{ TcpHeader::LEN }>(at)?;
    tcp.store32::<4>(proxied.seq.to_be());
    tcp.store32::<8>(proxied.ack.to_be());
    if reply {
        write_sacks(packet, at as u16, header, first, acknowledged);
        return Some(action);
    }
    match proxied.inject {
        Inject::Nothing => return Some(action),
        Inject::Payload => {}
        // The data leaves as it is, by a buffer of its own; the header takes its place here.
        Inject::Ahead => {
            // SAFETY: a helper on the program's own context. What it loses the client sends again.
            unsafe { bpf_clone_redirect(skb, proxied.rewrite.ifindex, 0) };
        }
    }
    inject(skb, proxied, at)?;
    Some(leave(proxied.rewrite.ifindex, proxied.rewrite.out))
}

/// Makes the header the payload of a segment that has been rewritten.
#[inline(always)]
fn inject(skb: *mut __sk_buff, proxied: &Proxied, at: usize) -> Option<()> {
    let Proxied { rewrite, first, header, inject, src, dst, src_port, dst_port, endpoint, .. } = *proxied;
    let tcp_len = opaque(header as usize) & 0x3c;
    let block = PROXY_HEADER.get_ptr_mut(0)?;
    let none = EndpointIdText::default();
    let id = ENDPOINT_IDS.get(endpoint as u32).unwrap_or(&none);
    // SAFETY: this CPU's own record; a frame's program is not interrupted by another frame's.
    let block = unsafe { &mut *block };
    proxy_v2::build(block, src, src_port, dst, dst_port, &id.0);
    let payload = at + tcp_len;
    // SAFETY: helpers on the program's own context and a live map value. Setting the length also ends a socket buffer's
    // standing for many segments.
    unsafe {
        if bpf_skb_change_tail(skb, (payload + proxy_v2::LEN) as u32, 0) != 0
            || bpf_skb_store_bytes(
                skb,
                payload as u32,
                block.as_ptr().cast(),
                proxy_v2::LEN as u32,
                BPF_F_RECOMPUTE_CSUM as u64,
            ) != 0
        {
            return None;
        }
    }
    let packet = linear(skb);
    let tcp = packet.window::<{ TcpHeader::LEN }>(at)?;
    let [offset, flags] = tcp.load16::<12>().to_ne_bytes();
    // The data's own segment has the rest.
    let cleared =
        if inject as u8 == Inject::Ahead as u8 { Flags::FIN.0 | Flags::PSH.0 | Flags::URG.0 } else { Flags::URG.0 };
    tcp.store32::<4>(first.to_be());
    tcp.store16::<12>(u16::from_ne_bytes([offset, flags & !cleared]));
    tcp.store32::<{ TcpHeader::CHECK }>(0);
    let segment_len = (tcp_len + proxy_v2::LEN) as u16;
    let pseudo = checksum::words(rewrite.src.word())
        + checksum::words(rewrite.dst.word())
        + u16::from_ne_bytes([0, Proto::Tcp.number()]) as u32
        + u16::from_ne_bytes(segment_len.to_be_bytes()) as u32;
    let rest = header_sum(packet, at, tcp_len)? + proxy_v2::sum(block);
    let (check, urgent) = proxy_v2::seal(checksum::fold(pseudo), rest);
    tcp.store16::<{ TcpHeader::CHECK }>(check);
    tcp.store16::<18>(urgent);
    let ip = packet.window::<{ L3 + Ipv4Hdr::LEN }>(0)?;
    let old = ip.load16::<{ L3 + 2 }>();
    let new = ((at - L3) as u16 + segment_len).to_be();
    ip.store16::<{ L3 + 2 }>(new);
    ip.store16::<{ L3 + 10 }>(checksum::apply(ip.load16::<{ L3 + 10 }>(), checksum::difference16(old, new)));
    Some(())
}

/// Sum of a TCP header's words.
#[inline(always)]
fn header_sum(packet: Packet, at: usize, len: usize) -> Option<u32> {
    let mut sum = 0;
    for word in 0..15 {
        if 4 * word >= len {
            break;
        }
        sum += checksum::words(u32::from_ne_bytes(packet.read::<[u8; 4]>(at + 4 * word)?));
    }
    Some(sum)
}

/// With a stack of its own.
#[inline(never)]
fn write_sacks(packet: Packet, l4: u16, header: u8, first: u32, acknowledged: bool) -> u32 {
    proxy::sacks(packet, l4, header, first, acknowledged, |at, _, new| {
        packet.write(at, new.to_ne_bytes());
    });
    0
}
