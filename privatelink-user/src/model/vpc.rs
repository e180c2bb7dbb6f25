//! A VPC: one address space. Two VPCs may use the same addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, Owner, ResourceName, VpcId, invalid::serde_as_text};

/// One address space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    pub id: VpcId,
    pub owner: Owner,
    /// Unique among its owner's VPCs.
    pub name: ResourceName,
    pub cidr: VpcCidr,
    /// The router through which targets outside the CIDR are reached; inside the CIDR.
    pub gateway: Option<Ipv4Addr>,
    /// Its IPv6 part, if it has one.
    #[serde(default)]
    pub ipv6: Option<VpcIpv6>,
    /// The number that stands for this VPC in every kernel table.
    pub index: VpcIndex,
    #[serde(default)]
    pub attributes: VpcAttributes,
    pub created_at: Timestamp,
}

impl Vpc {
    /// Where packets to `address` go first: to itself inside the VPC's range of its family, else to that family's
    /// router.
    pub fn next_hop(&self, address: IpAddr) -> Option<IpAddr> {
        match address {
            IpAddr::V4(ip) if self.cidr.net().contains(&ip) => Some(address),
            IpAddr::V4(_) => self.gateway.map(IpAddr::V4),
            IpAddr::V6(ip) if self.ipv6.is_some_and(|ipv6| ipv6.cidr.net().contains(&ip)) => Some(address),
            IpAddr::V6(_) => self.ipv6.and_then(|ipv6| ipv6.gateway).map(IpAddr::V6),
        }
    }

    /// Whether `address` can be a host's inside the VPC's ranges.
    pub fn has_host(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.cidr.has_host(address),
            IpAddr::V6(address) => self.ipv6.is_some_and(|ipv6| ipv6.cidr.has_host(address)),
        }
    }
}

/// The IPv6 part of a VPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VpcIpv6 {
    pub cidr: VpcIpv6Cidr,
    /// The router through which targets outside the range are reached; inside the range, or link-local.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<Ipv6Addr>,
}

impl VpcIpv6 {
    /// Whether `address` can be its router's.
    pub fn has_router(self, address: Ipv6Addr) -> bool {
        self.cidr.has_host(address) || address.is_unicast_link_local()
    }
}

/// What EC2 knows of a VPC besides its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VpcAttributes {
    pub dns_support: bool,
    pub dns_hostnames: bool,
    /// The one that a fresh account has.
    pub is_default: bool,
}

impl Default for VpcAttributes {
    fn default() -> Self {
        Self { dns_support: true, dns_hostnames: false, is_default: false }
    }
}

/// The number of a VPC in the kernel's tables; at least 1, because 0 marks an invalid VPC there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "u16", into = "u16")]
#[schema(value_type = u16)]
pub struct VpcIndex(u16);

impl VpcIndex {
    /// The largest number that a VPC gets; greater ones are reserved for the datapath's own address spaces.
    pub const MAX: u16 = 65_534;

    /// `index` as a VPC's number.
    pub fn new(index: u16) -> Result<Self, InvalidValue> {
        if (1..=Self::MAX).contains(&index) {
            Ok(Self(index))
        } else {
            Err(InvalidValue::new(
                "VPC index",
                index.to_string(),
                format!("must be between 1 and {}", Self::MAX),
                "the agent assigns it",
            ))
        }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for VpcIndex {
    type Error = InvalidValue;

    fn try_from(index: u16) -> Result<Self, InvalidValue> {
        Self::new(index)
    }
}

impl From<VpcIndex> for u16 {
    fn from(index: VpcIndex) -> u16 {
        index.get()
    }
}

impl fmt::Display for VpcIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A VPC's IPv4 range: /8 to /30, no host bits, unicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VpcCidr(Ipv4Net);

impl VpcCidr {
    /// The range.
    pub fn net(self) -> Ipv4Net {
        self.0
    }

    /// Whether `address` lies in the range and can be a host's: neither the network's own address nor the broadcast.
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        self.0.contains(&address) && address != self.0.network() && address != self.0.broadcast()
    }

    /// The addresses from which one is chosen when none is given: all but the first four and the last (AWS reserves
    /// the same ones in every subnet).
    pub fn assignable(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.0.network()).saturating_add(4);
        (first..u32::from(self.0.broadcast())).map(Ipv4Addr::from)
    }
}

impl fmt::Display for VpcCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VpcCidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |rule: String, hint: String| InvalidValue::new("VPC CIDR", text, rule, hint);
        let net: Ipv4Net = text.parse().map_err(|_| {
            invalid(
                "must be an IPv4 network address, a slash and a prefix length".to_owned(),
                "use a range like 10.0.0.0/16".to_owned(),
            )
        })?;
        if !(8..=30).contains(&net.prefix_len()) {
            return Err(invalid(
                "must have a prefix length between 8 and 30".to_owned(),
                "use a range like 10.0.0.0/16".to_owned(),
            ));
        }
        if net.addr() != net.network() {
            return Err(invalid("has host bits set".to_owned(), format!("use {}", net.trunc())));
        }
        let network = net.network();
        if network.octets()[0] == 0 || network.is_loopback() || network.is_link_local() || network.octets()[0] >= 224 {
            return Err(invalid(
                "is a loopback, link-local, multicast or reserved range, which cannot be a VPC's".to_owned(),
                "use a private range like 10.0.0.0/16, 172.16.0.0/12 or 192.168.0.0/24".to_owned(),
            ));
        }
        Ok(Self(net))
    }
}

serde_as_text!(VpcCidr);

/// A VPC's IPv6 range: /32 to /64, no host bits, global or unique local unicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VpcIpv6Cidr(Ipv6Net);

impl VpcIpv6Cidr {
    /// The range.
    pub fn net(self) -> Ipv6Net {
        self.0
    }

    /// Whether `address` lies in the range and can be a host's: not the first one, which is every router's (RFC 4291
    /// section 2.6.1).
    pub fn has_host(self, address: Ipv6Addr) -> bool {
        self.0.contains(&address) && address != self.0.network()
    }
}

/// The addresses of an IPv6 range from which one is chosen when none is given: from the fifth on, as many as a search
/// can be asked to look through.
pub fn assignable_ipv6(net: Ipv6Net) -> impl Iterator<Item = Ipv6Addr> {
    const RESERVED: u128 = 4;
    const SEARCHED: u128 = 1 << 20;
    let first = net.network().to_bits();
    (first + RESERVED..first + SEARCHED).map(Ipv6Addr::from_bits).take_while(move |address| net.contains(address))
}

/// An IPv6 range of global or unique local unicast addresses without host bits, with a prefix length in `lengths`.
pub fn parse_ipv6_range(what: &str, text: &str, lengths: RangeInclusive<u8>) -> Result<Ipv6Net, InvalidValue> {
    let example = format!("use a range like fd00:10::/{}", lengths.end());
    let invalid = |rule: String, hint: String| Err(InvalidValue::new(what, text, rule, hint));
    let Ok(net) = text.parse::<Ipv6Net>() else {
        return invalid("must be an IPv6 network address, a slash and a prefix length".to_owned(), example);
    };
    if !lengths.contains(&net.prefix_len()) {
        let rule = format!("must have a prefix length between {} and {}", lengths.start(), lengths.end());
        return invalid(rule, example);
    }
    if net.addr() != net.network() {
        return invalid("has host bits set".to_owned(), format!("use {}", net.trunc()));
    }
    let first = net.network().segments()[0];
    // 2000::/3 is global unicast (RFC 4291 section 2.4), fc00::/7 unique local (RFC 4193).
    if first & 0xe000 != 0x2000 && first & 0xfe00 != 0xfc00 {
        return invalid("is neither a global nor a unique local unicast range".to_owned(), example);
    }
    Ok(net)
}

impl fmt::Display for VpcIpv6Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for VpcIpv6Cidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        parse_ipv6_range("VPC IPv6 CIDR", text, 32..=64).map(Self)
    }
}

serde_as_text!(VpcIpv6Cidr);
