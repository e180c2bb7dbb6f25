//! The stage of fragments.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_INGRESS, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK, TC_ACT_SHOT, xdp_action,
    },
    helpers::generated::{
        bpf_clone_redirect, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use aya_log_ebpf::debug;
use privatelink_ebpf::{
    abi::{
        Counter, Proto, Stage,
        fragment::{FragmentKey, HELD_SLOTS, HeldFrame},
    },
    datapath::{
        Frame as _, Relay, Tables as _, Verdict,
        fragment::{self, Fragment},
        held,
    },
    wire::{Ipv4Hdr, L3, Window},
};

use super::{
    maps::HELD_FRAMES,
    packet::{Packet, opaque},
    tables::Maps,
    tc::{self, finish, leave, linear},
    xdp::{self, action, open, send, whole},
};

#[classifier]
pub fn privatelink_tc_fragment(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let (ifindex, len) = unsafe { ((*skb).ifindex, (*skb).len) };
    match fragment::decide(linear(skb), Maps::<false>, ifindex) {
        Ok(Fragment::First(proto)) => {
            match proto {
                Proto::Tcp => tc::go_on(&ctx, Stage::Slow),
                Proto::Udp => tc::go_on(&ctx, Stage::Udp),
            }
            finish(None)
        }
        Ok(Fragment::Later(relay)) => finish(rewrite(linear(skb), &relay).map(|()| leave(relay.ifindex, relay.out))),
        Ok(Fragment::Early(slot)) => finish(hold(skb, slot, ifindex)),
        Ok(Fragment::Awaited(proto)) => match release(skb, ifindex) {
            Some(action) => action,
            // Another CPU was faster.
            None => {
                match proto {
                    Proto::Tcp => tc::go_on(&ctx, Stage::Slow),
                    Proto::Udp => tc::go_on(&ctx, Stage::Udp),
                }
                finish(None)
            }
        },
        Err(Verdict::Drop(reason)) => {
            debug!(&ctx, "interface {}: fragment of {} bytes refused, reason {}", ifindex, len, reason as u32);
            TC_ACT_SHOT as i32
        }
        Err(Verdict::Pass | Verdict::ToTc) => TC_ACT_OK as i32,
        // Other stages' verdicts.
        Err(
            Verdict::AnswerArp
            | Verdict::Proxy
            | Verdict::AnswerReset
            | Verdict::AnswerEcho
            | Verdict::AnswerError(_)
            | Verdict::AnswerNeighbor
            | Verdict::GoOn(_),
        ) => finish(None),
    }
}

#[xdp(frags)]
pub fn privatelink_xdp_fragment(ctx: XdpContext) -> u32 {
    let (packet, ifindex) = open(&ctx);
    match fragment::decide(whole(&ctx, packet), Maps::<true>, ifindex) {
        Ok(Fragment::First(proto)) => {
            match proto {
                Proto::Tcp => xdp::go_on(&ctx, Stage::Slow),
                Proto::Udp => xdp::go_on(&ctx, Stage::Udp),
            }
            // Reached only while the agent has not put the stage's program in its place: TC does everything.
            xdp_action::XDP_PASS
        }
        // TC's alone.
        Ok(Fragment::Early(_) | Fragment::Awaited(_)) => xdp_action::XDP_PASS,
        Ok(Fragment::Later(relay)) => send(rewrite(packet, &relay), relay.ifindex, relay.out, ifindex),
        Err(verdict) => action(verdict),
    }
}

/// Puts the frame aside in a slot. Whose first one has come meanwhile is sent in again at once.
#[inline(always)]
fn hold(skb: *mut __sk_buff, slot: u32, ifindex: u32) -> Option<i32> {
    let t = Maps::<false>;
    let key = key(skb, ifindex)?;
    // SAFETY: the context is valid while the program runs.
    let len = opaque(unsafe { (*skb).len } as usize);
    let stored = match HELD_FRAMES.get_ptr_mut(slot) {
        Some(frame) if len != 0 && len <= HeldFrame::LEN => {
            // SAFETY: a helper on the program's own context and a live map value, which is this CPU's while the slot is.
            unsafe { bpf_skb_load_bytes(skb.cast(), 0, frame.cast(), len as u32) == 0 }
        }
        Some(_) | None => false,
    };
    if !stored {
        held::free(t, slot);
        return None;
    }
    held::publish(t, slot);
    if fragment::noted(t, &key).is_some() && t.take_held(&key, slot) != 0 {
        held::free(t, slot);
        // SAFETY: a helper without pointers.
        return Some(unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) } as i32);
    }
    Some(TC_ACT_SHOT as i32)
}

/// Sends the frame in again, and behind it those that have waited for it. Nothing: none has.
#[inline(always)]
fn release(skb: *mut __sk_buff, ifindex: u32) -> Option<i32> {
    let t = Maps::<false>;
    let key = key(skb, ifindex)?;
    let group = held::group(key.vpc);
    let mut sent = 0;
    for n in 0..HELD_SLOTS {
        let slot = group + n;
        let len = opaque(t.take_held(&key, slot) as usize);
        if len == 0 {
            continue;
        }
        if let Some(frame) = HELD_FRAMES.get_ptr(slot)
            && len <= HeldFrame::LEN
            && follow(skb, ifindex, frame.cast(), len as u32) == 0
        {
            sent += 1;
        } else {
            t.count(Counter::KernelRefused);
        }
        held::free(t, slot);
    }
    // SAFETY: a helper without pointers.
    if sent == 0 { None } else { Some(unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) } as i32) }
}

/// Sends the frame in again and makes another one of it: 0, or what a helper says.
#[inline(always)]
fn follow(skb: *mut __sk_buff, ifindex: u32, frame: *const c_void, len: u32) -> i64 {
    const FLAGS: u64 = (BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) as u64;
    // SAFETY: helpers on the program's own context and a live map value, which is this CPU's.
    unsafe {
        let sent = bpf_clone_redirect(skb, ifindex, BPF_F_INGRESS as u64);
        if sent != 0 {
            return sent;
        }
        let sized = bpf_skb_change_tail(skb, len, 0);
        if sized != 0 { sized } else { bpf_skb_store_bytes(skb, 0, frame, len, FLAGS) }
    }
}

/// What the frame's packet's fragments have in common.
#[inline(always)]
fn key(skb: *mut __sk_buff, ifindex: u32) -> Option<FragmentKey> {
    fragment::key_of(linear(skb), Maps::<false>.port(ifindex)?.vpc)
}

/// Changes addresses, TTL and IP checksum in place; in TC too, because the change makes none to the sum over the whole
/// packet.
#[inline(always)]
fn rewrite(packet: Packet, relay: &Relay) -> Option<()> {
    let Relay { src, dst, d_addr, src_mac, dst_mac, ifindex: _, out: _ } = *relay;
    let head: Window<{ L3 + Ipv4Hdr::LEN }> = packet.window(0)?;
    xdp::write_ip(head, src, dst, d_addr, src_mac, dst_mac);
    Some(())
}
