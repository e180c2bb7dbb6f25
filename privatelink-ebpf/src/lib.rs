//! What the kernel programs, the agent, the tests and the fuzzers share, in one `no_std` library:
//!
//! - [`abi`]: every byte that crosses the kernel boundary.
//!
//! Nothing here allocates, reads a clock or knows aya-ebpf.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]

pub mod abi;
