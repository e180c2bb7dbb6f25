//! The agent, the control plane and the command line.

pub mod agent;
pub mod health;
pub mod net;
