//! Fragments of IPv4 packets: what the first one says of the others.

use bytemuck::{Pod, Zeroable};

use super::{Ip4, L4Port, VpcIndex, assert_size, aya_pod};

/// Key of map `FRAGMENTS`: what the fragments of one packet have in common (RFC 791 section 3.2), and the VPC that they come
/// from.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
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

/// Seconds after which a first fragment's word is not taken any more: its identification may be another packet's by then.
pub const LIFETIME: u32 = 2;

assert_size!(FragmentKey = 16, FirstFragment = 12);
aya_pod!(FragmentKey, FirstFragment);
