//! Fragments of IPv4 packets: what the first one says of the others.

use bytemuck::{Pod, Zeroable};

use super::{Ip4, L4Port, VpcIndex, assert_size, aya_pod};

/// Key of map `FRAGMENTS`: what the fragments of one packet have in common (RFC 791 section 3.2), and the VPC that they
/// come from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Pod, Zeroable)]
pub struct FragmentKey {
    pub src: Ip4,
    pub dst: Ip4,
    /// The identification field, in wire order.
    pub id: u16,
    pub vpc: VpcIndex,
    pub proto: u8,
    pub _pad: [u8; 3],
}

/// Value of map `FRAGMENTS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct FirstFragment {
    pub src_port: L4Port,
    pub dst_port: L4Port,
    /// Tick at which it passed.
    pub seen: u32,
    /// Bytes behind its IP header: where the next one begins.
    pub len: u32,
}

/// Seconds after which a first fragment's word is not taken any more: its identification may be another packet's by
/// then.
pub const LIFETIME: u32 = 2;

/// The groups of slots in `HELD`: a VPC's fragments wait in one of them, so that those of few others have to make do
/// with less.
pub const HELD_GROUPS: u32 = 16;
/// Slots in a group: the largest datagram has 45 fragments on links of 1,500 bytes.
pub const HELD_SLOTS: u32 = 64;

/// A fragment that waits for the first one of its packet. Map `HELD`; what it looks like is in `HELD_FRAMES`.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct HeldFragment {
    /// Whose the slot is: changed by compare-and-swap only, or by who has it.
    pub state: u32,
    /// In the first slot of a group: how many of the group are not free.
    pub waiting: u32,
    /// Tick at which it came.
    pub seen: u32,
    /// Bytes of the frame.
    pub len: u32,
    pub key: FragmentKey,
}

impl HeldFragment {
    pub const FREE: u32 = 0;
    /// One CPU writes it or takes it out.
    pub const BUSY: u32 = 1;
    pub const HELD: u32 = 2;
}

/// A frame that waits. Map `HELD_FRAMES`.
#[repr(transparent)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct HeldFrame(pub [u8; HeldFrame::LEN]);

impl HeldFrame {
    /// Larger ones do not wait.
    pub const LEN: usize = 9_216;
}

assert_size!(FragmentKey = 16, FirstFragment = 12, HeldFragment = 32);
aya_pod!(FragmentKey, FirstFragment, HeldFragment, HeldFrame);
