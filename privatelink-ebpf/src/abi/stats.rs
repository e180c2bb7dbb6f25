//! Per-CPU counts by endpoint, listener and target. Values are native-order u64; sums over CPUs are what is shown.

use bytemuck::{Pod, Zeroable};

use super::{assert_size, aya_pod};

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
    /// ... by the security groups.
    pub denied: u64,
}

/// Map `LISTENER_STATS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct ListenerStats {
    pub new_flows: u64,
    /// Connections refused: no target, no port, no room, over budget, by the security groups.
    pub refused: u64,
    /// ... by the security groups' inbound rules (AWS `SecurityGroupBlockedFlowCount_Inbound_*`), and by the outbound ones.
    pub denied_inbound: u64,
    pub denied_outbound: u64,
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
    /// RST from the client, from the target, from us (AWS `TCP_Client_Reset_Count`, `TCP_Target_Reset_Count`,
    /// `TCP_ELB_Reset_Count`).
    pub client_resets: u64,
    pub target_resets: u64,
}

assert_size!(EndpointStats = 56, ListenerStats = 32, TargetStats = 64);
aya_pod!(EndpointStats, ListenerStats, TargetStats);
