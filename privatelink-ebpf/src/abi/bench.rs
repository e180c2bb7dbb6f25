//! What the benchmarks' kernel programs (`src/bin/bench-kernel.rs`) and their userspace half agree on. No part of the
//! product's object.

use bytemuck::{Pod, Zeroable};

use super::{assert_size, aya_pod};

/// Ethernet, IPv4 and TCP headers without options.
pub const HEADERS: usize = 14 + 20 + 20;

/// Flows of one client address: its source ports are `FIRST_CLIENT_PORT..`.
pub const FLOWS_PER_CLIENT: u32 = 1 << FLOWS_PER_CLIENT_SHIFT;
pub const FLOWS_PER_CLIENT_SHIFT: u32 = 14;
pub const FIRST_CLIENT_PORT: u16 = 10_000;

/// Map `TRAFFIC`, one record: what the generator sends. Flow `n` comes from client `n >> FLOWS_PER_CLIENT_SHIFT`, port
/// `FIRST_CLIENT_PORT + (n & (FLOWS_PER_CLIENT - 1))`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Traffic {
    /// The whole header of every frame. The source is the first client's address and port 0; both checksums are right
    /// for that.
    pub headers: [u8; HEADERS],
    pub _pad: [u8; 2],
    pub flows: u32,
    /// 2 to this power is at least `flows`. 0: flows are visited in the order of their numbers.
    pub order_bits: u32,
}

/// Map `CURSOR`, per CPU: where in the order of flows the generator is.
pub type Cursor = u32;

/// Map `COUNTS`, per CPU (u64): index of a count.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// Frames of established flows that came to the end of their way.
    Received = 0,
    /// Frames that the smallest program has seen.
    Seen = 1,
    /// SYNs answered.
    Accepted = 2,
    /// SYN-ACKs answered.
    Connected = 3,
    /// Frames that nobody expected.
    Other = 4,
}

/// Entries of `COUNTS`.
pub const COUNTS: u32 = 5;

assert_size!(Traffic = 64);
aya_pod!(Traffic);
