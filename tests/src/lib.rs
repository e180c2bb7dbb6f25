//! Network namespaces, topologies, the agent and real traffic: what the suites, the demo and the benchmarks stand on.
//!
//! Everything is made in namespaces with names of this process, and taken down by `Drop`, by Ctrl-C, or by the next
//! run if this one is killed. Nothing here sends a packet outside the namespaces that it made.

pub mod aws;
pub mod bench;
pub mod cleanup;
pub mod cli;
pub mod daemon;
pub mod dns;
pub mod eventually;
pub mod inject;
pub mod link;
pub mod netns;
pub mod nft;
pub mod programs;
pub mod quic;
pub mod require;
pub mod router;
pub mod scenario;
pub mod soak;
pub mod topology;
pub mod traffic;
