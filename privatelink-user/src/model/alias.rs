//! Aliases: further addresses by which an endpoint is reached.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;

use super::{InvalidValue, invalid::serde_as_text};

/// Addresses for which packets are an endpoint's although they are not its own: one, or all of a prefix. Hosts of the
/// VPC have a route for them whose next hop is the endpoint's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alias(Ipv4Net);

impl Alias {
    /// The addresses.
    pub fn net(self) -> Ipv4Net {
        self.0
    }

    /// The only address, if it is one.
    pub fn address(self) -> Option<Ipv4Addr> {
        (self.0.prefix_len() == Ipv4Addr::BITS as u8).then(|| self.0.addr())
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for Alias {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const HINT: &str = "use an address like 10.200.0.10/32, or a prefix like 10.200.0.0/24";
        let invalid = |rule: &str, hint: String| Err(InvalidValue::new("Alias", text, rule, hint));
        let parsed = text.parse::<Ipv4Net>().ok().or_else(|| text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from));
        let Some(net) = parsed else { return invalid("must be an IPv4 address or prefix", HINT.to_owned()) };
        if net.trunc() != net {
            return invalid("has host bits set", format!("use {}", net.trunc()));
        }
        let (first, last) = (net.network(), net.broadcast());
        let unicast = |ip: Ipv4Addr| ip.octets()[0] != 0 && !ip.is_loopback() && ip.octets()[0] < 224;
        // Between two unicast addresses lies no multicast one, and loopback only if it is inside.
        if !unicast(first) || !unicast(last) || net.contains(&Ipv4Addr::LOCALHOST) {
            return invalid("must hold addresses that hosts can have, and no others", HINT.to_owned());
        }
        Ok(Self(net))
    }
}

serde_as_text!(Alias);

#[cfg(test)]
mod tests {
    use super::Alias;

    #[test]
    fn an_alias_is_an_address_or_a_prefix_of_addresses_that_hosts_can_have() {
        for (text, shown) in [
            ("10.200.0.10/32", "10.200.0.10/32"),
            ("10.200.0.10", "10.200.0.10/32"),
            ("10.200.0.0/24", "10.200.0.0/24"),
            ("128.0.0.0/2", "128.0.0.0/2"),
        ] {
            let alias: Alias = text.parse().expect(text);
            assert_eq!(alias.to_string(), shown);
            assert_eq!(alias.address().is_some(), shown.ends_with("/32"));
        }
        for text in [
            "",
            "10.200.0.10/24",
            "10.0.0.0/33",
            "::1",
            "0.0.0.0/0",
            "64.0.0.0/2",
            "127.0.0.1",
            "224.0.0.0/4",
            "0.0.0.0",
        ] {
            assert!(text.parse::<Alias>().is_err(), "{text}");
        }
    }
}
