//! A listener: a port of a load balancer that leads to a target group.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Forward, ListenerId, LoadBalancerId, Protocol};

/// A port of a load balancer that leads to target groups. One for each (load balancer, port).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub id: ListenerId,
    pub load_balancer: LoadBalancerId,
    pub protocol: Protocol,
    /// 1 to 65,535.
    pub port: u16,
    pub forward: Forward,
    pub attributes: ListenerAttributes,
    pub created_at: Timestamp,
}

/// A listener's attributes; their keys, defaults and ranges are the table in `model/attribute.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerAttributes {
    /// Seconds without a packet after which a TCP flow is forgotten: 60 to 6,000, or 0 for never.
    pub idle_timeout: u32,
    /// The same for UDP.
    pub udp_idle_timeout: u32,
}

impl ListenerAttributes {
    /// Whether a listener of `protocol` has the attribute: those of a protocol that it does not speak it has not.
    pub fn applies(key: &str, protocol: Protocol) -> bool {
        match key.split('.').next() {
            Some("tcp") => protocol.has_tcp(),
            Some("udp") => protocol.has_udp(),
            Some(_) | None => true,
        }
    }
}
