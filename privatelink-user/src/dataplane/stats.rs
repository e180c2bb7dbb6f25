//! Counters: what to read, and the sums over the CPUs.

use std::collections::BTreeMap;

use privatelink_ebpf::abi::{
    Counter,
    stats::{EndpointStats, ListenerStats, TargetStats},
};

/// Which indexes to read; the arrays are too large to read whole.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub endpoints: Vec<u16>,
    pub listeners: Vec<u32>,
    pub targets: Vec<u32>,
}

/// Sums over the CPUs, by index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// In the order of [`Counter::ALL`].
    pub counters: Vec<(Counter, u64)>,
    pub endpoints: BTreeMap<u16, EndpointStats>,
    pub listeners: BTreeMap<u32, ListenerStats>,
    pub targets: BTreeMap<u32, TargetStats>,
}

/// Adds up one record a CPU.
pub trait Sum: Sized {
    #[must_use]
    fn plus(self, other: Self) -> Self;

    /// The sum of all; zero for none.
    fn sum(values: impl IntoIterator<Item = Self>) -> Self
    where
        Self: Default,
    {
        values.into_iter().fold(Self::default(), Self::plus)
    }
}

impl Sum for u64 {
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }
}

impl Sum for EndpointStats {
    fn plus(self, other: Self) -> Self {
        let Self { packets_in, bytes_in, packets_out, bytes_out, new_flows, refused, denied } = other;
        Self {
            packets_in: self.packets_in.wrapping_add(packets_in),
            bytes_in: self.bytes_in.wrapping_add(bytes_in),
            packets_out: self.packets_out.wrapping_add(packets_out),
            bytes_out: self.bytes_out.wrapping_add(bytes_out),
            new_flows: self.new_flows.wrapping_add(new_flows),
            refused: self.refused.wrapping_add(refused),
            denied: self.denied.wrapping_add(denied),
        }
    }
}

impl Sum for ListenerStats {
    fn plus(self, other: Self) -> Self {
        let Self { new_flows, refused, denied_inbound, denied_outbound } = other;
        Self {
            new_flows: self.new_flows.wrapping_add(new_flows),
            refused: self.refused.wrapping_add(refused),
            denied_inbound: self.denied_inbound.wrapping_add(denied_inbound),
            denied_outbound: self.denied_outbound.wrapping_add(denied_outbound),
        }
    }
}

impl Sum for TargetStats {
    fn plus(self, other: Self) -> Self {
        let Self {
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            new_flows,
            port_allocation_errors,
            client_resets,
            target_resets,
        } = other;
        Self {
            packets_in: self.packets_in.wrapping_add(packets_in),
            bytes_in: self.bytes_in.wrapping_add(bytes_in),
            packets_out: self.packets_out.wrapping_add(packets_out),
            bytes_out: self.bytes_out.wrapping_add(bytes_out),
            new_flows: self.new_flows.wrapping_add(new_flows),
            port_allocation_errors: self.port_allocation_errors.wrapping_add(port_allocation_errors),
            client_resets: self.client_resets.wrapping_add(client_resets),
            target_resets: self.target_resets.wrapping_add(target_resets),
        }
    }
}
