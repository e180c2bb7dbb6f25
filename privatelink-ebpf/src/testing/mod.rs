//! What tests put under and around the datapath: tables in memory, frames in slices, packets, and one table of cases
//! that runs through the host's `decide` and, byte for byte alike, through the programs in the kernel.
//!
//! - [`world`]: the configuration as data, written into memory or into maps.
//! - [`tables`]: `Tables` in memory, shared by as many threads as a test likes.
//! - [`frame`]: `Frame` over a slice, and a `Rewrite` applied to one.
//! - [`packet`]: segments and ARP packets from their fields, checksums from scratch.
//! - [`script`]: what a case is, and what its steps expect.
//! - [`run`]: runs a case against a [`run::Backend`]; [`host`] is the one without a kernel.
//! - [`cases`]: the cases.

pub mod cases;
pub mod frame;
pub mod fuzz;
pub mod host;
pub mod icmp;
pub mod packet;
pub mod run;
pub mod script;
pub mod tables;
pub mod world;
