//! SYN cookies: sources that have shown that they receive what is sent to their address.

use bytemuck::{Pod, Zeroable};

use super::{VpcIndex, assert_size, aya_pod, security::Bound};

/// Key of map `VERIFIED`: a source in its VPC. Its address is written as [`Bound`] writes it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct Source {
    pub hi: u64,
    pub lo: u64,
    pub vpc: VpcIndex,
    pub _pad: [u8; 6],
}

impl Source {
    #[inline(always)]
    pub const fn new(vpc: VpcIndex, Bound { hi, lo }: Bound) -> Self {
        Self { hi, lo, vpc, _pad: [0; 6] }
    }
}

assert_size!(Source = 24);
aya_pod!(Source);
