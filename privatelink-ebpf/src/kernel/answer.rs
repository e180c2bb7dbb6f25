//! `privatelink_tc_answer`: the frame becomes the answer that another stage has decided on, and leaves by the port that
//! it came in on.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_RECOMPUTE_CSUM},
    helpers::generated::{bpf_redirect, bpf_skb_change_tail, bpf_skb_store_bytes},
    macros::classifier,
    programs::TcContext,
};
use privatelink_ebpf::{
    abi::VpcIndex,
    datapath::{
        Frame as _, Tables as _, arp, parse, reset,
        v6::{self, ndp},
    },
    wire::{ArpHdr, ETHERTYPE_ARP, L3, ipv6::ETHERTYPE_IPV6},
};

use super::{
    maps::PACKET6,
    tables::{Maps, SEGMENT},
    tc::{finish, linear},
};

#[classifier]
pub fn privatelink_tc_answer(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    let packet = linear(skb);
    let Some(ether_type) = packet.window::<2>(L3 - 2) else { return finish(None) };
    finish(match ether_type.load16::<0>() {
        ETHERTYPE_ARP => answer_arp(skb, ifindex),
        ETHERTYPE_IPV6 if ndp::is_discovery(packet) => answer_neighbor(skb, ifindex),
        ETHERTYPE_IPV6 => answer_reset6(skb, ifindex),
        _ => answer_reset(skb, ifindex),
    })
}

#[inline(never)]
fn answer_arp(skb: *mut __sk_buff, ifindex: u32) -> Option<i32> {
    let request = linear(skb).read::<ArpHdr>(L3)?;
    let mac = Maps::<false>.port(ifindex)?.mac;
    send_back(skb, &arp::reply(&request, mac), ifindex)
}

#[inline(never)]
fn answer_neighbor(skb: *mut __sk_buff, ifindex: u32) -> Option<i32> {
    let asked = ndp::message(linear(skb))?;
    let mac = Maps::<false>.port(ifindex)?.mac;
    send_back(skb, &ndp::reply(&asked, mac), ifindex)
}

#[inline(never)]
fn answer_reset(skb: *mut __sk_buff, ifindex: u32) -> Option<i32> {
    // The VPC is part of the key only, which a reset does not carry.
    let segment = parse::segment(linear(skb), VpcIndex::NONE)?;
    send_back(skb, &reset::build(&segment), ifindex)
}

#[inline(never)]
fn answer_reset6(skb: *mut __sk_buff, ifindex: u32) -> Option<i32> {
    // As the stage has left them that has judged the packet.
    let (segment, addresses) = (SEGMENT.get_ptr(0)?, PACKET6.get_ptr(0)?);
    // SAFETY: this CPU's own records.
    let frame = unsafe { v6::reset::build(&*segment, &*addresses) };
    send_back(skb, &frame, ifindex)
}

/// Replaces the frame by an answer and sends it out of the port that it came in on.
#[inline(always)]
pub(super) fn send_back<const N: usize>(skb: *mut __sk_buff, frame: &[u8; N], ifindex: u32) -> Option<i32> {
    // SAFETY: helpers on the program's own context and stack. Cutting a socket buffer to one header's length also ends
    // its standing for many segments.
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
