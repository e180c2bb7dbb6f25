//! A listener: a port of a load balancer, or several in a row, that leads to target groups.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use utoipa::openapi::{OneOfBuilder, RefOr, Schema};

use super::{CertificateId, Forward, InvalidValue, ListenerId, LoadBalancerId, Protocol, State, TargetGroup};
use crate::tls::{alpn::AlpnPolicy, policy::ListenerPolicy};

/// Ports of a load balancer that lead to target groups. Each port of a load balancer has one at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    pub id: ListenerId,
    pub load_balancer: LoadBalancerId,
    pub protocol: Protocol,
    pub port: ListenerPorts,
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
    /// The most certificates that all listeners of a load balancer show by server name together (AWS's quota
    /// `certificates-per-network-load-balancer`, which default ones do not count for).
    pub const MAX_CERTIFICATES: usize = 25;

    /// The default certificate, then the others.
    pub fn certificates(&self) -> impl Iterator<Item = &CertificateId> {
        std::iter::once(&self.certificate).chain(self.more.iter().filter(|id| **id != self.certificate))
    }
}

impl State {
    /// The target groups whose targets are known by a certificate.
    pub fn target_groups_that_trust(&self, certificate: &CertificateId) -> impl Iterator<Item = &TargetGroup> {
        let trusts = move |group: &&TargetGroup| group.attributes.target_trust.certificate() == Some(certificate);
        self.target_groups.values().filter(trusts)
    }

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

/// The ports on which a listener answers: one, or several in a row. Of several, a target gets the port that the client
/// has asked for; the port with which it is registered is then for health checks only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerPorts {
    /// Never 0.
    first: u16,
    /// Not below `first`.
    last: u16,
}

impl ListenerPorts {
    pub const ALL: Self = Self { first: 1, last: u16::MAX };

    /// Nothing for port 0, or if `first` is above `last`.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    pub fn first(self) -> u16 {
        self.first
    }

    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether there are several.
    pub fn is_range(self) -> bool {
        self.first < self.last
    }

    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Which port of a target is reached that is registered with `registered`; 0: the one that the client asks for.
    pub fn of_target(self, registered: u16) -> u16 {
        if self.is_range() { 0 } else { registered }
    }

    /// The parts between `cuts`, the first ports after each of which something else holds.
    pub fn parts(self, cuts: impl IntoIterator<Item = u16>) -> Vec<Self> {
        let mut firsts: Vec<u16> = cuts.into_iter().filter(|cut| self.contains(*cut)).chain([self.first]).collect();
        firsts.sort_unstable();
        firsts.dedup();
        let lasts = firsts.iter().skip(1).map(|next| next - 1).chain([self.last]);
        firsts.iter().zip(lasts).map(|(first, last)| Self { first: *first, last }).collect()
    }

    /// The fewest prefixes that have exactly these ports: the first port and the number of leading bits that count.
    pub fn prefixes(self) -> Vec<(u16, u8)> {
        let mut prefixes = Vec::new();
        let mut at = u32::from(self.first);
        let end = u32::from(self.last) + 1;
        while at < end {
            // As many ports as the alignment of the first one allows, and the end.
            let aligned = if at == 0 { u16::BITS } else { at.trailing_zeros() };
            let bits = aligned.min((end - at).ilog2());
            prefixes.push((at as u16, (u16::BITS - bits) as u8));
            at += 1 << bits;
        }
        prefixes
    }
}

impl TryFrom<u16> for ListenerPorts {
    type Error = InvalidValue;

    fn try_from(port: u16) -> Result<Self, InvalidValue> {
        Self::new(port, port).ok_or_else(|| Self::invalid(&port.to_string()))
    }
}

impl ListenerPorts {
    /// Several, where `rule` says that it must be one.
    pub fn not_one(self, rule: &str) -> InvalidValue {
        InvalidValue::new("Listener port", self.to_string(), rule, format!("use one port, such as {}", self.first))
    }

    fn invalid(text: &str) -> InvalidValue {
        InvalidValue::new(
            "Listener port",
            text,
            "must be between '1-65535' inclusive, a range of such ports, or 'all'",
            "use the port that the service has, such as 80, a range like 1024-2047, or all",
        )
    }
}

impl fmt::Display for ListenerPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.pad("all"),
            Self { first, last } if first == last => f.pad(&first.to_string()),
            Self { first, last } => f.pad(&format!("{first}-{last}")),
        }
    }
}

impl FromStr for ListenerPorts {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let found = match text.split_once('-') {
            _ if text == "all" => Some(Self::ALL),
            Some((first, last)) => {
                first.parse().ok().zip(last.parse().ok()).and_then(|(first, last)| Self::new(first, last))
            }
            None => text.parse().ok().and_then(|port| Self::new(port, port)),
        };
        found.ok_or_else(|| Self::invalid(text))
    }
}

/// One port is a number, several are a text.
impl Serialize for ListenerPorts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_range() { serializer.collect_str(self) } else { serializer.serialize_u16(self.first) }
    }
}

impl<'de> Deserialize<'de> for ListenerPorts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ListenerPorts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, a range like \"1024-2047\", or \"all\"")
            }

            fn visit_u64<E: de::Error>(self, port: u64) -> Result<ListenerPorts, E> {
                self.visit_str(&port.to_string())
            }

            fn visit_i64<E: de::Error>(self, port: i64) -> Result<ListenerPorts, E> {
                self.visit_str(&port.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ListenerPorts, E> {
                text.parse().map_err(|error: InvalidValue| E::custom(format_args!("{error}; {}", error.hint)))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl utoipa::PartialSchema for ListenerPorts {
    fn schema() -> RefOr<Schema> {
        let number = <u16 as utoipa::PartialSchema>::schema();
        let text = <String as utoipa::PartialSchema>::schema();
        RefOr::T(Schema::OneOf(OneOfBuilder::new().item(number).item(text).build()))
    }
}

impl utoipa::ToSchema for ListenerPorts {}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::ListenerPorts;

    fn ports() -> impl Strategy<Value = ListenerPorts> {
        let port = || prop_oneof![1u16..20, 1_000u16..3_000, 65_500u16..=65_535];
        (port(), port()).prop_map(|(a, b)| ListenerPorts::new(a.min(b), a.max(b)).expect("ports"))
    }

    proptest! {
        #[test]
        fn text_and_json_say_the_same(ports in ports()) {
            prop_assert_eq!(ports.to_string().parse(), Ok(ports));
            let json = serde_json::to_string(&ports).expect("JSON");
            prop_assert_eq!(serde_json::from_str::<ListenerPorts>(&json).expect("ports"), ports);
            prop_assert_eq!(json.starts_with('"'), ports.is_range());
        }

        #[test]
        fn prefixes_have_exactly_the_ports(ports in ports()) {
            let prefixes = ports.prefixes();
            prop_assert!(prefixes.len() <= 30);
            for port in [0, 1, ports.first() - 1, ports.first(), ports.last(), ports.last().wrapping_add(1), 1_500, 65_535] {
                let having = prefixes.iter().filter(|(first, bits)| {
                    u32::from(port ^ first) << 16 >> (32 - u32::from(*bits).max(1)) == 0 || *bits == 0
                });
                prop_assert_eq!(having.count() > 0, ports.contains(port), "{} of {:?}", port, prefixes);
            }
            let all: u32 = prefixes.iter().map(|(_, bits)| 1 << (16 - bits)).sum();
            prop_assert_eq!(all, u32::from(ports.last() - ports.first()) + 1);
        }

        #[test]
        fn parts_are_the_whole_cut_where_it_was_asked(ports in ports(), cuts in prop::collection::vec(1u16..3_000, 0..6)) {
            let parts = ports.parts(cuts.clone());
            prop_assert_eq!((parts[0].first(), parts[parts.len() - 1].last()), (ports.first(), ports.last()));
            for pair in parts.windows(2) {
                prop_assert_eq!(pair[0].last() + 1, pair[1].first());
                prop_assert!(cuts.contains(&pair[1].first()));
            }
            let inside = cuts.iter().filter(|cut| ports.contains(**cut) && **cut != ports.first());
            let inside: std::collections::BTreeSet<_> = inside.collect();
            prop_assert_eq!(parts.len(), inside.len() + 1);
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "0", "0-5", "5-4", "65536", "1-65536", "-", "80-", "every", "80,81"] {
            assert!(text.parse::<ListenerPorts>().is_err(), "{text}");
        }
        assert_eq!("1-65535".parse(), Ok(ListenerPorts::ALL));
        assert_eq!("80-80".parse::<ListenerPorts>().expect("one port").to_string(), "80");
        assert!(serde_json::from_str::<ListenerPorts>("0").is_err());
    }
}
