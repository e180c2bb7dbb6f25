//! Measuring the datapath beside its rivals: same topology, interleaved, medians.

pub mod bed;
pub mod figure;
pub mod nftables;
pub mod packets;
pub mod product;
pub mod sizes;
pub mod streams;
pub mod traffic;
