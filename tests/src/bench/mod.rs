//! Measuring the datapath beside its rivals: same topology, interleaved, medians.

pub mod bed;
pub mod contestant;
pub mod features;
pub mod figure;
pub mod nftables;
pub mod packets;
pub mod process;
pub mod product;
pub mod scale;
pub mod sizes;
pub mod storms;
pub mod streams;
pub mod tls;
pub mod traffic;
