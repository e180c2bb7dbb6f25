//! IP families, by AWS's words.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::{InvalidValue, invalid::serde_as_text};

/// The family of all targets of a group (AWS `IpAddressType` of a target group).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpFamily {
    #[default]
    Ipv4,
    Ipv6,
}

impl IpFamily {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        })
    }
}

impl FromStr for IpFamily {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "ipv4" => Ok(Self::Ipv4),
            "ipv6" => Ok(Self::Ipv6),
            _ => Err(InvalidValue::new("IP address type", text, "must be one of '[ipv4, ipv6]'", "use ipv4 or ipv6")),
        }
    }
}

serde_as_text!(IpFamily);

/// The families of the addresses of a load balancer or an endpoint (AWS `IpAddressType`). Each has IPv4 addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpAddressType {
    #[default]
    Ipv4,
    Dualstack,
}

impl IpAddressType {
    /// Of what has these IPv6 addresses besides its IPv4 ones.
    pub const fn with(ipv6: &[Ipv6Addr]) -> Self {
        if ipv6.is_empty() { Self::Ipv4 } else { Self::Dualstack }
    }
}

impl fmt::Display for IpAddressType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "ipv4",
            Self::Dualstack => "dualstack",
        })
    }
}

impl FromStr for IpAddressType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "ipv4" => Ok(Self::Ipv4),
            "dualstack" => Ok(Self::Dualstack),
            _ => Err(InvalidValue::new(
                "IP address type",
                text,
                "must be one of '[ipv4, dualstack]'",
                "use dualstack for addresses of both families",
            )),
        }
    }
}

serde_as_text!(IpAddressType);

/// Addresses by family, each in its order.
pub fn by_family(addresses: impl IntoIterator<Item = IpAddr>) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => four.push(address),
            IpAddr::V6(address) => six.push(address),
        }
    }
    (four, six)
}
