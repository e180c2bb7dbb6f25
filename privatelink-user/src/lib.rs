//! The agent, the control plane and the command line: one library, one binary `privatelink`.
//!
//! Layers, from the inside out: [`model`] holds plain data and its rules; `control` decides what an operation does to
//! it; `store` commits that; [`runtime`] is what the API may ask of the running agent. Inner layers do not know the
//! outer ones.

pub mod agent;
pub mod api;
pub mod cli;
pub mod confine;
pub mod control;
pub mod dataplane;
pub mod dns;
pub mod health;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod model;
pub mod net;
pub mod notify;
pub mod runtime;
pub mod store;
pub mod tls;

#[cfg(test)]
mod testing;
