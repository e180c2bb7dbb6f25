//! A listener: a port of a load balancer that leads to a target group.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{CertificateId, Forward, ListenerId, LoadBalancerId, Protocol, State};
use crate::tls::{alpn::AlpnPolicy, policy::ListenerPolicy};

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
    /// Of a TLS listener, and of no other.
    #[serde(default)]
    pub tls: Option<TlsSettings>,
    pub attributes: ListenerAttributes,
    pub created_at: Timestamp,
}

/// How a TLS listener speaks with clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Shown to clients that name no server, or one that no other certificate is for.
    pub certificate: CertificateId,
    /// Shown by server name.
    pub more: BTreeSet<CertificateId>,
    pub policy: ListenerPolicy,
    pub alpn: AlpnPolicy,
}

impl TlsSettings {
    /// The default certificate, then the others.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateId> {
        std::iter::once(&self.certificate).chain(self.more.iter().filter(|id| **id != self.certificate))
    }
}

impl State {
    /// The listeners that show a certificate.
    pub fn listeners_with(&self, certificate: &CertificateId) -> impl Iterator<Item = &Listener> {
        let shows = move |listener: &&Listener| {
            listener.tls.as_ref().is_some_and(|tls| tls.certificates().any(|id| id == certificate))
        };
        self.listeners.values().filter(shows)
    }
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
            // The relay's idle timeout is fixed.
            Some("tcp") => protocol.has_tcp() && protocol != Protocol::Tls,
            Some("udp") => protocol.has_udp(),
            Some(_) | None => true,
        }
    }
}
