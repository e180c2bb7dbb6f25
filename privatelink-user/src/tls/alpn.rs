//! ALPN policies by their AWS names.

use std::{fmt, str::FromStr};

use crate::model::{InvalidValue, serde_as_text};

/// Which application protocols a TLS listener prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlpnPolicy {
    /// No ALPN.
    #[default]
    None,
    Http1Only,
    Http2Only,
    Http2Optional,
    Http2Preferred,
}

impl AlpnPolicy {
    /// Every policy with its name and its protocols, the preferred first.
    const TABLE: [(Self, &'static str, &'static [&'static str]); 5] = [
        (Self::None, "None", &[]),
        (Self::Http1Only, "HTTP1Only", &["http/1.1", "http/1.0"]),
        (Self::Http2Only, "HTTP2Only", &["h2"]),
        (Self::Http2Optional, "HTTP2Optional", &["http/1.1", "http/1.0", "h2"]),
        (Self::Http2Preferred, "HTTP2Preferred", &["h2", "http/1.1", "http/1.0"]),
    ];

    fn row(self) -> &'static (Self, &'static str, &'static [&'static str]) {
        Self::TABLE.iter().find(|(policy, _, _)| *policy == self).unwrap_or(&Self::TABLE[0])
    }

    /// Its protocols, the preferred first.
    pub fn protocols(self) -> &'static [&'static str] {
        self.row().2
    }

    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What a client that offers `offered` gets: the first of ours that it has. None: the connection goes on without
    /// ALPN, as it does where nothing is shared (rustls itself would end it, RFC 7301 section 3.2).
    pub fn choose(self, offered: &[&[u8]]) -> Option<&'static str> {
        self.protocols().iter().copied().find(|own| offered.contains(&own.as_bytes()))
    }
}

impl fmt::Display for AlpnPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for AlpnPolicy {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::TABLE.iter().find(|(_, own, _)| *own == text).map(|(policy, _, _)| *policy).ok_or_else(|| {
            let names = Self::TABLE.map(|(_, name, _)| name).join(", ");
            let rule = format!("must be one of '[{names}]'");
            InvalidValue::new("ALPN policy", text, rule, "use HTTP2Preferred for clients of HTTP/2 and HTTP/1.1")
        })
    }
}

serde_as_text!(AlpnPolicy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_order_decides_and_nothing_shared_is_no_alpn() {
        let both: &[&[u8]] = &[b"h2", b"http/1.1"];
        for (name, chosen) in [
            ("None", None),
            ("HTTP1Only", Some("http/1.1")),
            ("HTTP2Only", Some("h2")),
            ("HTTP2Optional", Some("http/1.1")),
            ("HTTP2Preferred", Some("h2")),
        ] {
            let policy = name.parse::<AlpnPolicy>().expect("a policy");
            assert_eq!((policy.name(), policy.choose(both)), (name, chosen));
            assert_eq!(policy.choose(&[b"spdy/3"]), None);
        }
        "http2only".parse::<AlpnPolicy>().expect_err("AWS's spelling counts");
    }
}
