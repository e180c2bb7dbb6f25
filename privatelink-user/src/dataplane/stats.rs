//! Counters: what to read, and the sums over the CPUs.

use std::collections::BTreeMap;

use privatelink_ebpf::abi::{
    self, Counter,
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

/// The sum of all records, one a CPU; zero for none.
pub fn sum<V: abi::stats::Counts>(values: impl IntoIterator<Item = V>) -> V {
    values.into_iter().fold(V::default(), V::plus)
}
