//! Which of its addresses an endpoint's names answer with.

use std::{fmt, str::FromStr};

use super::{InvalidValue, IpAddressType, IpFamily, invalid::serde_as_text};

/// The records that an endpoint's names have (AWS `DnsRecordIpType`): A for its IPv4 addresses, AAAA for its IPv6 ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DnsRecordIpType {
    Ipv4,
    Ipv6,
    Dualstack,
    /// A records for every name, AAAA records for the regional and zonal ones only.
    ServiceDefined,
}

/// The names of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointNames {
    /// The regional one and those of zones.
    Own,
    /// The service's private DNS name, in the endpoint's VPC.
    Private,
}

impl DnsRecordIpType {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Ipv4, Self::Dualstack, Self::Ipv6, Self::ServiceDefined];

    /// That of an endpoint with such addresses for which nobody has chosen one: a record for each address.
    pub const fn of(addresses: IpAddressType) -> Self {
        match addresses {
            IpAddressType::Ipv4 => Self::Ipv4,
            IpAddressType::Dualstack => Self::Dualstack,
        }
    }

    /// Whether an endpoint with such addresses may have it.
    pub const fn fits(self, addresses: IpAddressType) -> bool {
        match (self, addresses) {
            (Self::Ipv4, IpAddressType::Ipv4 | IpAddressType::Dualstack) => true,
            (Self::Ipv6 | Self::Dualstack | Self::ServiceDefined, IpAddressType::Dualstack) => true,
            (Self::Ipv6 | Self::Dualstack | Self::ServiceDefined, IpAddressType::Ipv4) => false,
        }
    }

    /// Whether `names` have records for addresses of `family`.
    pub const fn has(self, names: EndpointNames, family: IpFamily) -> bool {
        match (self, family) {
            (Self::Ipv4 | Self::Dualstack | Self::ServiceDefined, IpFamily::Ipv4) => true,
            (Self::Ipv6 | Self::Dualstack, IpFamily::Ipv6) => true,
            (Self::Ipv6, IpFamily::Ipv4) | (Self::Ipv4, IpFamily::Ipv6) => false,
            (Self::ServiceDefined, IpFamily::Ipv6) => match names {
                EndpointNames::Own => true,
                EndpointNames::Private => false,
            },
        }
    }
}

impl fmt::Display for DnsRecordIpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Dualstack => "dualstack",
            Self::ServiceDefined => "service-defined",
        })
    }
}

impl FromStr for DnsRecordIpType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|one| one.to_string() == text).ok_or_else(|| {
            let rule = "must be one of '[ipv4, dualstack, ipv6, service-defined]'";
            InvalidValue::new("DnsRecordIpType", text, rule, "dualstack is for names with A and AAAA records")
        })
    }
}

serde_as_text!(DnsRecordIpType);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_s_addresses_allow_some_choices_only() {
        let fitting = |addresses| DnsRecordIpType::ALL.map(|records| records.fits(addresses));
        assert_eq!(fitting(IpAddressType::Ipv4), [true, false, false, false]);
        assert_eq!(fitting(IpAddressType::Dualstack), [true; 4]);
        for addresses in [IpAddressType::Ipv4, IpAddressType::Dualstack] {
            assert!(DnsRecordIpType::of(addresses).fits(addresses));
        }
    }

    #[test]
    fn a_private_name_that_the_service_defines_has_ipv4_addresses_only() {
        let has = |names, family| DnsRecordIpType::ALL.map(|records| records.has(names, family));
        for names in [EndpointNames::Own, EndpointNames::Private] {
            assert_eq!(has(names, IpFamily::Ipv4), [true, true, false, true]);
        }
        assert_eq!(has(EndpointNames::Own, IpFamily::Ipv6), [false, true, true, true]);
        assert_eq!(has(EndpointNames::Private, IpFamily::Ipv6), [false, true, true, false]);
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        for records in DnsRecordIpType::ALL {
            assert_eq!(records.to_string().parse(), Ok(records));
        }
        assert!("not-specified".parse::<DnsRecordIpType>().is_err());
    }
}
