//! What the kernel programs, the agent, the tests and the fuzzers share, in one `no_std` library:
//!
//! - [`abi`]: every byte that crosses the kernel boundary.
//! - [`wire`]: protocol headers and checksum arithmetic; no decisions.
//! - [`datapath`]: decisions; pure, no map macros, no helpers, no clock.
//! - `testing` (feature `testing`): tables in memory, frames in slices, and the case table that the host and the kernel
//!   run.
//!
//! Nothing here allocates (but `testing`), reads a clock or knows aya-ebpf.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics, asm_experimental_arch), allow(internal_features))]

pub mod abi;
pub mod datapath;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wire;
