//! Per-CPU counts by endpoint, listener and target. Values are native-order u64; sums over CPUs are what is shown.

use bytemuck::{Pod, Zeroable};

use super::{assert_size, aya_pod};

/// A record of counts: `u64` throughout.
pub trait Counts: Pod + Default {
    /// The sum of each count.
    #[must_use]
    fn plus(mut self, other: Self) -> Self {
        let sums: &mut [u64] = bytemuck::cast_slice_mut(core::slice::from_mut(&mut self));
        for (sum, count) in sums.iter_mut().zip(bytemuck::cast_slice::<Self, u64>(core::slice::from_ref(&other))) {
            *sum = sum.wrapping_add(*count);
        }
        self
    }
}

impl Counts for u64 {}
impl Counts for EndpointStats {}
impl Counts for ListenerStats {}
impl Counts for TargetStats {}

/// Map `ENDPOINT_STATS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct EndpointStats {
    /// Packets and bytes (IP total length) from consumers.
    pub packets_in: u64,
    pub bytes_in: u64,
    /// Packets and bytes to consumers.
    pub packets_out: u64,
    pub bytes_out: u64,
    pub new_flows: u64,
    /// Connections refused, whatever the reason.
    pub refused: u64,
    /// RST from the consumer, and from the target (AWS `RstPacketsReceived` of the endpoint).
    pub resets_in: u64,
    pub resets_out: u64,
    /// Connections that the security groups refused.
    pub denied: u64,
    /// Connections refused for want of connections, and of new connections in this second.
    pub limited_connections: u64,
    pub limited_new_connections: u64,
    /// Packets dropped for want of bits in this second.
    pub limited_packets: u64,
}

/// Map `LISTENER_STATS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct ListenerStats {
    pub new_flows: u64,
    /// Connections refused: no target, no port, no room, over budget, by the security groups.
    pub refused: u64,
    /// Flows led to unhealthy targets for want of healthy ones (AWS `UnhealthyRoutingFlowCount`).
    pub unhealthy_routing: u64,
    /// RST from us to a client of the listener.
    pub resets_sent: u64,
    /// Connections that the security groups' inbound rules refused (AWS `SecurityGroupBlockedFlowCount_Inbound_*`), and
    /// those that the outbound ones did.
    pub denied_inbound: u64,
    pub denied_outbound: u64,
    pub _pad: [u64; 2],
}

/// Map `TARGET_STATS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct TargetStats {
    pub packets_in: u64,
    pub bytes_in: u64,
    pub packets_out: u64,
    pub bytes_out: u64,
    pub new_flows: u64,
    /// Claims that found the pool full (AWS `PortAllocationErrorCount`).
    pub port_allocation_errors: u64,
    /// RST from the client and from the target (AWS `TCP_Client_Reset_Count`, `TCP_Target_Reset_Count`).
    pub client_resets: u64,
    pub target_resets: u64,
    /// RST from us to the target, and to both ends when the agent ends a flow. With `ListenerStats::resets_sent` AWS
    /// `TCP_ELB_Reset_Count`.
    pub resets_sent: u64,
    /// Handshakes that the client finished.
    pub established: u64,
    /// SYNs that the target answered with RST.
    pub refused: u64,
    /// SYNs sent again because the target had not answered.
    pub unanswered: u64,
}

// What every packet counts lies in one cache line: a record's size is a multiple of 32 and it comes first.
assert_size!(EndpointStats = 96, ListenerStats = 64, TargetStats = 96);
aya_pod!(EndpointStats, ListenerStats, TargetStats);
