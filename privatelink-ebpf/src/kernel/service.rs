//! Programs that the agent runs by hand (`BPF_PROG_TEST_RUN`): the sweep and the clock.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::TC_ACT_OK,
    helpers::generated::{bpf_for_each_map_elem, bpf_jiffies64, bpf_ktime_get_ns, bpf_loop},
    macros::classifier,
    programs::TcContext,
};
use privatelink_ebpf::{
    abi::{
        entries,
        flow::{FlowKey, Slot, WAYS},
        settings::{ClockSample, CollectRequest},
    },
    datapath::{Frame as _, collect, held},
};

use super::{
    maps::{FLOWS, STASH},
    packet::Packet,
    tables::Maps,
};

/// Sweeps the slice of the flow table that the frame names ([`CollectRequest`]).
#[classifier]
pub fn privatelink_collect(ctx: TcContext) -> i32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    let packet = Packet { data, end, len: end - data, segment_size: 0 };
    let Some(bytes) = packet.read::<[u8; size_of::<CollectRequest>()]>(0) else { return -1 };
    let mut request: CollectRequest = bytemuck::cast(bytes);
    let CollectRequest { first_bucket: _, buckets, flags, port: _ } = request;
    // SAFETY: the callbacks have the signatures that the helpers ask for; the context outlives the calls.
    unsafe {
        bpf_loop(buckets * WAYS as u32, sweep_slot as *mut c_void, (&raw mut request).cast(), 0);
        if flags & CollectRequest::STASH != 0 {
            bpf_for_each_map_elem(
                (&raw const STASH).cast_mut().cast(),
                sweep_stash as *mut c_void,
                (&raw mut request).cast(),
                0,
            );
            bpf_loop(entries::HELD, sweep_held as *mut c_void, (&raw mut request).cast(), 0);
        }
    }
    TC_ACT_OK as i32
}

/// One slot at a time: the verifier follows the judgement once and not once a way of the bucket.
unsafe extern "C" fn sweep_slot(index: u64, request: *mut CollectRequest) -> i64 {
    // SAFETY: the context that `privatelink_collect` passes.
    let (first, port, flags) = unsafe { ((*request).first_bucket, (*request).port, (*request).flags) };
    let (bucket, way) = (first.wrapping_add(index as u32 / WAYS as u32), index as usize & (WAYS - 1));
    if let Some(bucket) = FLOWS.get_ptr_mut(bucket) {
        // SAFETY: a live map value; the way is below WAYS.
        unsafe { collect::slot(Maps::<false>, bucket.cast::<Slot>().add(way), port, flags) };
    }
    0
}

unsafe extern "C" fn sweep_held(slot: u64, _request: *mut CollectRequest) -> i64 {
    held::expire(Maps::<false>, slot as u32);
    0
}

unsafe extern "C" fn sweep_stash(
    _map: *mut c_void,
    _key: *const FlowKey,
    slot: *mut Slot,
    request: *mut CollectRequest,
) -> i64 {
    // SAFETY: the value that the helper is at, and the context that `privatelink_collect` passes.
    unsafe { collect::slot(Maps::<false>, slot, (*request).port, (*request).flags) };
    0
}

/// Writes both clocks over the frame ([`ClockSample`]), so that the agent learns what a jiffy is.
#[classifier]
pub fn privatelink_clock(ctx: TcContext) -> i32 {
    // SAFETY: helpers without arguments.
    let sample = unsafe { ClockSample { jiffies: bpf_jiffies64(), monotonic_ns: bpf_ktime_get_ns() } };
    let (data, end) = (ctx.data(), ctx.data_end());
    let packet = Packet { data, end, len: end - data, segment_size: 0 };
    let bytes: [u8; size_of::<ClockSample>()] = bytemuck::cast(sample);
    if packet.write(0, bytes) { TC_ACT_OK as i32 } else { -1 }
}
