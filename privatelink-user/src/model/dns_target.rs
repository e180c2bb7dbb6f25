//! Targets by DNS name.

use std::{fmt, str::FromStr};

use super::{InvalidValue, dns_name::host_name, invalid::serde_as_text};

/// A DNS name whose addresses are targets of a group: `NAME` (at the group's port) or `NAME:PORT`. Lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsTarget {
    name: String,
    port: Option<u16>,
}

impl DnsTarget {
    /// The name, without a dot at the end.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The targets' port in a group whose own is `port`.
    pub fn port(&self, port: u16) -> u16 {
        self.port.unwrap_or(port)
    }
}

impl fmt::Display for DnsTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl FromStr for DnsTarget {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |rule: String| {
            InvalidValue::new("DNS name", text, rule, "use a name like db.example.com or db.example.com:5432")
        };
        let (name, port) = match text.split_once(':') {
            None => (text, None),
            Some((name, port)) => {
                let port = port.parse().ok().filter(|port| *port != 0);
                (name, Some(port.ok_or_else(|| invalid("must have a port between '1-65535'".to_owned()))?))
            }
        };
        host_name(name, 253).map_err(invalid)?;
        if name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
            return Err(invalid("is an address".to_owned()));
        }
        Ok(Self { name: name.to_owned(), port })
    }
}

serde_as_text!(DnsTarget);

#[cfg(test)]
mod tests {
    use super::DnsTarget;

    #[test]
    fn names_read_back_as_themselves_and_what_is_no_name_is_refused() {
        for (text, port) in [("db.example.com", 80), ("db.example.com:5432", 5432), ("db", 80)] {
            let target: DnsTarget = text.parse().expect(text);
            assert_eq!((target.to_string().as_str(), target.port(80)), (text, port));
        }
        for text in ["", "10.0.0.1", "10.0.0.1:80", "a_b", "DB", "db:0", "db:x", ":80", "a..b"] {
            assert!(text.parse::<DnsTarget>().is_err(), "{text}");
        }
    }
}
