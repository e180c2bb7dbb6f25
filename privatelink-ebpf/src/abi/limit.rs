//! Limits of VPCs and endpoints, and how much of them is used.

use bytemuck::{Pod, Zeroable};

use super::{assert_size, aya_pod};

/// Limits of one VPC. Map `VPCS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Budget {
    /// Half-open flows that it may have at once; 0: no limit.
    pub half_open: u32,
}

/// Limits of one endpoint; 0 is none in each. Map `ENDPOINTS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct EndpointBudget {
    /// Half-open flows that it may have at once.
    pub half_open: u32,
    /// Open flows that it may have at once.
    pub connections: u32,
    /// Flows that may be opened in a second.
    pub connections_per_second: u32,
    pub _pad: u32,
    /// Bits of IP packets in a second, both directions together.
    pub bits_per_second: u64,
}

impl EndpointBudget {
    /// The record of an endpoint that is gone: the collector ends the flows that still name its index.
    pub const ENDED: Self =
        Self { half_open: u32::MAX, connections: 0, connections_per_second: 0, _pad: 0, bits_per_second: 0 };

    /// Half-open flows are limited, and nothing else.
    pub const fn half_open(half_open: u32) -> Self {
        Self { half_open, connections: 0, connections_per_second: 0, _pad: 0, bits_per_second: 0 }
    }

    #[inline(always)]
    pub const fn ended(&self) -> bool {
        self.half_open == Self::ENDED.half_open
    }
}

/// What an endpoint uses of its limits. Map `ENDPOINT_USE`; the kernel's, shared by all CPUs.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct EndpointUse {
    /// Open flows ([`super::flow::FlowState::open`]).
    pub connections: u32,
    pub _pad: u32,
    /// When the bucket of new connections is empty, and when that of bits is; see `datapath::limit`. Nanoseconds of the
    /// monotonic clock.
    pub connections_until: u64,
    pub bits_until: u64,
}

assert_size!(Budget = 4, EndpointBudget = 24, EndpointUse = 24);
aya_pod!(Budget, EndpointBudget, EndpointUse);
