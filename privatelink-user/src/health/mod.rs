//! Health checks of targets: when to probe ([`schedule`]), how ([`probe_tcp`], [`probe_http`]) and what the outcomes
//! mean ([`state`]). Only the probes touch sockets; the rest is pure.

pub mod dial;
pub mod probe_http;
pub mod probe_tcp;
pub mod schedule;
pub mod state;
