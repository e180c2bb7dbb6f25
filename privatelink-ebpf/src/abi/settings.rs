//! What kernel and agent agree on once, and the switches that work while packets flow.

use bytemuck::{Pod, Zeroable};

use super::{assert_size, aya_pod};

/// Map `SETTINGS`, one record. The first four fields are written when the maps are created and never again: a new agent
/// sets the globals of its programs from them.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Settings {
    /// [`super::ABI_VERSION`] of who made the maps.
    pub abi_version: u32,
    /// Buckets in `FLOWS`; a power of two.
    pub buckets: u32,
    /// Secret of the flow hash.
    pub hash_seed: u64,
    /// [`FLOW_EVENTS`] and others.
    pub flags: u32,
    pub _pad: u32,
}

/// `Settings::flags`: flows opened and closed are reported through `EVENTS`.
pub const FLOW_EVENTS: u32 = 1;

/// Names and meanings of the loader-set globals (`EbpfLoader::override_global`). All are `u32` but for secrets.
pub mod globals {
    /// `u64`: `Settings::hash_seed`.
    pub const HASH_SEED: &str = "HASH_SEED";
    /// `[u64; 2]`: secret of SYN cookies; of one set of programs, which knows no other's cookies.
    pub const COOKIE_KEY: &str = "COOKIE_KEY";
    /// Buckets in `FLOWS` minus one.
    pub const BUCKET_MASK: &str = "BUCKET_MASK";
    /// 0: the set-associative table with the stash behind it; 1: the kernel's hash map only (the reference).
    pub const REFERENCE_TABLE: &str = "REFERENCE_TABLE";
    /// A tick is `jiffies >> TICK_SHIFT`; see [`super::Clock`].
    pub const TICK_SHIFT: &str = "TICK_SHIFT";
    /// Ticks in 256 seconds.
    pub const TICKS_PER_256_S: &str = "TICKS_PER_256_S";
}

/// The datapath's clock: ticks of 1/16 to 1/4 second, in 32 bits, cheap to read in the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    pub tick_shift: u32,
    pub ticks_per_256_s: u32,
}

impl Clock {
    /// For a kernel that counts `hz` jiffies a second (100, 250, 300, 1000).
    pub const fn for_hz(hz: u32) -> Self {
        let mut tick_shift = 0;
        while (hz >> tick_shift) >= 16 {
            tick_shift += 1;
        }
        Self { tick_shift, ticks_per_256_s: (hz * 256) >> tick_shift }
    }

    /// Seconds to ticks, rounded down.
    #[inline(always)]
    pub const fn ticks(self, seconds: u32) -> u32 {
        ((seconds as u64 * self.ticks_per_256_s as u64) >> 8) as u32
    }

    /// Ticks to whole seconds.
    pub const fn seconds(self, ticks: u32) -> u32 {
        match ((ticks as u64) << 8).checked_div(self.ticks_per_256_s as u64) {
            Some(seconds) => seconds as u32,
            None => 0,
        }
    }
}

/// Map `RESET_BUDGETS`: resets that were sent to one VPC in one tick.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct ResetBudget {
    pub tick: u32,
    pub sent: u32,
}

/// Map `ICMP_BUDGETS`: what was sent to one VPC in one tick.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct IcmpBudget {
    pub tick: u32,
    /// Errors of the load balancer's own.
    pub errors: u16,
    /// Echo replies.
    pub echoes: u16,
}

/// Input of the program `privatelink_collect` (the frame of its test run): which buckets to sweep.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct CollectRequest {
    pub first_bucket: u32,
    pub buckets: u32,
    /// [`CollectRequest::STASH`] and others.
    pub flags: u32,
    /// Interface index: flows whose client is behind it end, because it is about to belong to another VPC. 0: none.
    pub port: u32,
}

impl CollectRequest {
    /// Also sweep the stash.
    pub const STASH: u32 = 1;
    /// The agent has sent resets to both ends of the flows that end: count them.
    pub const RESET: u32 = 2;
    /// Some flows end by weight or by security group: each one's frontend is looked up. Without it no flow's is.
    pub const RULES: u32 = 4;
}

/// Output of `privatelink_clock` (written over the frame of its test run).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct ClockSample {
    pub jiffies: u64,
    /// `bpf_ktime_get_ns`.
    pub monotonic_ns: u64,
}

assert_size!(Settings = 24, ResetBudget = 8, IcmpBudget = 8, CollectRequest = 16, ClockSample = 16);
aya_pod!(Settings, ResetBudget, IcmpBudget, CollectRequest, ClockSample);
