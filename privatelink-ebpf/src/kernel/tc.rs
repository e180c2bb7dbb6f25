//! The TC program: socket buffers, which may carry partial checksums and stand for many segments. Checksums change through
//! the helpers only; everything else is written directly afterwards, because a helper may move the packet.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT},
    helpers::generated::{
        bpf_l4_csum_replace, bpf_redirect, bpf_redirect_peer, bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
    macros::classifier,
    programs::TcContext,
};
use privatelink_ebpf::{
    abi::{Counter, service::PortFlags},
    datapath::{Reply, Rewrite, Tables as _, Verdict, decide, reset},
    wire::tcp::TcpHeader,
};

use super::{packet::Packet, tables::Maps, xdp::rewrite_ip};

/// Headers that are looked at: Ethernet, IPv4 and TCP with all their options.
const HEADERS: u32 = 14 + 60 + 60;

#[classifier]
pub fn privatelink_tc(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    let mut packet = linear(skb);
    if packet.data + reset::SEGMENT_LEN > packet.end && len as usize >= reset::SEGMENT_LEN {
        // SAFETY: a helper on the program's own context.
        unsafe { bpf_skb_pull_data(skb, if len < HEADERS { len } else { HEADERS }) };
        packet = linear(skb);
    }
    match decide(packet, Maps::<false>, ifindex) {
        Verdict::Pass | Verdict::ToTc => TC_ACT_OK as i32,
        Verdict::Drop(_) => TC_ACT_SHOT as i32,
        Verdict::Forward(rewrite) => finish(apply(skb, &rewrite)),
        Verdict::Reply(Reply::Arp(frame)) => finish(send_back(skb, &frame, ifindex)),
        Verdict::Reply(Reply::Reset(frame)) => finish(send_back(skb, &frame, ifindex)),
    }
}

#[inline(always)]
fn finish(done: Option<i32>) -> i32 {
    done.unwrap_or_else(|| {
        Maps::<false>.count(Counter::KernelRefused);
        TC_ACT_SHOT as i32
    })
}

/// The packet's directly accessible part; asked for again after each helper that may move it.
#[inline(always)]
fn linear(skb: *mut __sk_buff) -> Packet {
    // SAFETY: the context is valid while the program runs.
    unsafe {
        Packet {
            data: (*skb).data as usize,
            end: (*skb).data_end as usize,
            len: (*skb).len as usize,
            segmented: (*skb).gso_size != 0,
        }
    }
}

/// Rewrites and sends out of the port.
#[inline(always)]
fn apply(skb: *mut __sk_buff, rewrite: &Rewrite) -> Option<i32> {
    let Rewrite { src, dst, src_port, dst_port, d_addr, d_port, src_mac, dst_mac, l4, mss, ifindex, out } = *rewrite;
    let l4 = l4 as usize & 0x7f;
    let check = (l4 + TcpHeader::CHECK) as u32;
    // The addresses are part of the pseudo header, which a partial checksum already holds; ports and options are not.
    replace(skb, check, d_addr, BPF_F_PSEUDO_HDR as u64)?;
    let d_port = match mss {
        Some(mss) => privatelink_ebpf::wire::checksum::fold(d_port as u32 + mss.difference as u32),
        None => d_port,
    };
    replace(skb, check, d_port, 0)?;

    let packet = linear(skb);
    if let Some(mss) = mss {
        put(packet, mss.at as usize & 0xff, mss.value.to_be_bytes())?;
    }
    put(packet, l4, src_port.to_wire())?;
    put(packet, l4 + 2, dst_port.to_wire())?;
    rewrite_ip(packet, src.to_wire(), dst.to_wire(), d_addr)?;
    put(packet, 0, dst_mac.0)?;
    put(packet, size_of_val(&dst_mac), src_mac.0)?;
    // SAFETY: helpers without pointers.
    Some(unsafe {
        if out.has(PortFlags::PEER) { bpf_redirect_peer(ifindex, 0) } else { bpf_redirect(ifindex, 0) }
    } as i32)
}

/// Replaces the frame by an answer and sends it out of the port that it came in on.
#[inline(always)]
fn send_back<const N: usize>(skb: *mut __sk_buff, frame: &[u8; N], ifindex: u32) -> Option<i32> {
    // SAFETY: helpers on the program's own context and stack. Cutting a socket buffer to one header's length also ends its
    // standing for many segments.
    unsafe {
        if (*skb).len as usize != N && bpf_skb_change_tail(skb, N as u32, 0) != 0 {
            return None;
        }
        if bpf_skb_store_bytes(skb, 0, frame.as_ptr().cast(), N as u32, BPF_F_RECOMPUTE_CSUM as u64) != 0 {
            return None;
        }
        Some(bpf_redirect(ifindex, 0) as i32)
    }
}

#[inline(always)]
fn replace(skb: *mut __sk_buff, at: u32, difference: u16, flags: u64) -> Option<()> {
    // SAFETY: a helper on the program's own context.
    (unsafe { bpf_l4_csum_replace(skb, at, 0, difference as u64, flags) } == 0).then_some(())
}

#[inline(always)]
fn put<T: privatelink_ebpf::wire::Wire>(packet: Packet, at: usize, value: T) -> Option<()> {
    packet.write(at, value).then_some(())
}
