//! The stage of fragments that come before the first one of their packet, and of first ones for which others wait.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INGRESS, BPF_F_INVALIDATE_HASH, BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT},
    helpers::generated::{
        bpf_clone_redirect, bpf_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
    },
    macros::classifier,
    programs::TcContext,
};
use privatelink_ebpf::{
    abi::{
        Counter, Proto, Stage,
        fragment::{FragmentKey, HELD_SLOTS, HeldFrame},
    },
    datapath::{Tables as _, fragment, held},
    wire::L3,
};

use super::{
    maps::HELD_FRAMES,
    packet::opaque,
    tables::Maps,
    tc::{finish, go_on, linear},
};

#[classifier]
pub fn privatelink_tc_wait(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*skb).ifindex };
    let Some(port) = Maps::<false>.port(ifindex) else { return finish(None) };
    let Some(key) = fragment::key_of(linear(skb), port.vpc) else { return finish(None) };
    match held::decide(linear(skb), Maps::<false>, &key) {
        held::REFUSED => TC_ACT_SHOT as i32,
        held::RELEASE => {
            if let Some(action) = release(skb, &key, ifindex) {
                return action;
            }
            // Another CPU was faster: a first fragment like others.
            match Proto::from_number(key.proto) {
                Proto::Tcp => go_on(&ctx, Stage::Slow),
                Proto::Udp => go_on(&ctx, Stage::Udp),
            }
            finish(None)
        }
        slot => finish(hold(skb, &key, slot as u32, ifindex)),
    }
}

/// The length of a frame that has a header and fits. Bound after bound, each on a value that the compiler does not
/// know: kernel 6.1 learns nothing from "not zero", nor from both bounds in one comparison.
#[inline(always)]
fn bounded(len: usize) -> Option<usize> {
    if len < L3 {
        return None;
    }
    let len = opaque(len);
    if len <= HeldFrame::LEN { Some(len) } else { None }
}

/// Puts the frame aside in a slot. Whose first one has come meanwhile is sent in again at once.
#[inline(always)]
fn hold(skb: *mut __sk_buff, key: &FragmentKey, slot: u32, ifindex: u32) -> Option<i32> {
    let t = Maps::<false>;
    // SAFETY: the context is valid while the program runs.
    let len = opaque(unsafe { (*skb).len } as usize);
    let stored = match (HELD_FRAMES.get_ptr_mut(slot), bounded(len)) {
        (Some(frame), Some(len)) => {
            // SAFETY: a helper on the program's own context and a live map value, which is this CPU's while the slot
            // is.
            unsafe { bpf_skb_load_bytes(skb.cast(), 0, frame.cast(), len as u32) == 0 }
        }
        (Some(_) | None, Some(_) | None) => false,
    };
    if !stored {
        held::free(t, slot);
        return None;
    }
    held::publish(t, slot);
    if fragment::noted(t, key).is_some() && t.take_held(key, slot) != 0 {
        held::free(t, slot);
        // SAFETY: a helper without pointers.
        return Some(unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) } as i32);
    }
    Some(TC_ACT_SHOT as i32)
}

/// Sends the frame in again, and behind it those that have waited for it. Nothing: none has.
#[inline(always)]
fn release(skb: *mut __sk_buff, key: &FragmentKey, ifindex: u32) -> Option<i32> {
    let t = Maps::<false>;
    let group = held::group(key.vpc);
    let mut sent = false;
    for n in 0..HELD_SLOTS {
        let slot = group + n;
        let len = opaque(t.take_held(key, slot) as usize);
        if len == 0 {
            continue;
        }
        if let Some(frame) = HELD_FRAMES.get_ptr(slot)
            && let Some(len) = bounded(len)
            && follow(skb, ifindex, frame.cast(), len as u32) == 0
        {
            sent = true;
        } else {
            t.count(Counter::KernelRefused);
        }
        held::free(t, slot);
    }
    if !sent {
        return None;
    }
    // SAFETY: a helper without pointers.
    Some(unsafe { bpf_redirect(ifindex, BPF_F_INGRESS as u64) } as i32)
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
