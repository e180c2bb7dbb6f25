//! Health checks of targets: when to probe ([`schedule`]), how ([`probe_tcp`], [`probe_http`], [`tls`]), what clients'
//! connections tell ([`passive`]) and what the outcomes mean ([`state`]). Only the probes touch sockets; the rest is
//! pure.

pub mod dial;
pub mod passive;
pub mod probe_http;
pub mod probe_tcp;
pub mod schedule;
pub mod state;
pub mod tls;
