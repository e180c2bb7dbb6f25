//! A subnet: a part of a VPC's range in one availability zone, from which addresses are allocated.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, Region, SubnetId, VpcId, invalid::serde_as_text, vpc::parse_ipv6_range};

/// A part of a VPC's range in one availability zone. It belongs to its VPC's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    pub id: SubnetId,
    pub vpc: VpcId,
    /// Inside the VPC's range; subnets of a VPC do not overlap.
    pub cidr: SubnetCidr,
    /// Inside the VPC's IPv6 range; those of a VPC's subnets do not overlap.
    #[serde(default)]
    pub ipv6_cidr: Option<SubnetIpv6Cidr>,
    pub zone: Zone,
    /// One of those that a fresh account has.
    pub is_default: bool,
    /// AWS `MapPublicIpOnLaunch`: kept and shown; no address here is public.
    #[serde(default)]
    pub public_ip_on_launch: bool,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl Subnet {
    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.cidr.net().contains(&address),
            IpAddr::V6(address) => self.ipv6_cidr.is_some_and(|cidr| cidr.net().contains(&address)),
        }
    }

    /// Whether `address` is one of those that nothing can have: of each range the first four and the last.
    pub fn reserves(&self, address: IpAddr) -> bool {
        self.contains(address)
            && match address {
                IpAddr::V4(address) => !self.cidr.has_assignable(address),
                IpAddr::V6(address) => self.ipv6_cidr.is_some_and(|cidr| {
                    let net = cidr.net();
                    address.to_bits() - net.network().to_bits() < 4 || address == net.broadcast()
                }),
            }
    }

    /// Its range of the family of `address`; of IPv4, if it has none of that.
    pub fn range(&self, address: IpAddr) -> IpNet {
        let four = self.cidr.net().into();
        match address {
            IpAddr::V4(_) => four,
            IpAddr::V6(_) => self.ipv6_cidr.map_or(four, |cidr| cidr.net().into()),
        }
    }
}

/// A subnet's IPv4 range: /16 to /28, no host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetCidr(Ipv4Net);

impl SubnetCidr {
    /// The range.
    pub fn net(self) -> Ipv4Net {
        self.0
    }

    /// Addresses that can be used: all but the first four and the last, which are reserved in every subnet.
    pub fn assignable(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.0.network()).saturating_add(4);
        (first..u32::from(self.0.broadcast())).map(Ipv4Addr::from)
    }

    /// How many addresses can be used.
    pub fn size(self) -> u32 {
        u32::from(self.0.broadcast()).saturating_sub(u32::from(self.0.network())).saturating_sub(4)
    }

    /// Whether `address` can be used.
    pub fn has_assignable(self, address: Ipv4Addr) -> bool {
        let first = u32::from(self.0.network()).saturating_add(4);
        (first..u32::from(self.0.broadcast())).contains(&u32::from(address))
    }
}

impl fmt::Display for SubnetCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SubnetCidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |rule: &str| {
            InvalidValue::new("Subnet CIDR", text, rule, "use a range like 10.0.1.0/24, between /16 and /28")
        };
        let net: Ipv4Net = text.parse().map_err(|_| invalid("must be an IPv4 range in CIDR notation"))?;
        if !(16..=28).contains(&net.prefix_len()) {
            Err(invalid("must have a prefix length between 16 and 28"))
        } else if net.addr() != net.network() {
            Err(invalid("has host bits set"))
        } else {
            Ok(Self(net))
        }
    }
}

serde_as_text!(SubnetCidr);

/// A subnet's IPv6 range: /44 to /64, no host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetIpv6Cidr(Ipv6Net);

impl SubnetIpv6Cidr {
    /// The range.
    pub fn net(self) -> Ipv6Net {
        self.0
    }
}

impl fmt::Display for SubnetIpv6Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SubnetIpv6Cidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        parse_ipv6_range("Subnet IPv6 CIDR", text, 44..=64).map(Self)
    }
}

serde_as_text!(SubnetIpv6Cidr);

/// An availability zone of a region, by its letter. This host serves all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    A,
    B,
    C,
}

impl Zone {
    /// Every zone.
    pub const ALL: [Self; 3] = [Self::A, Self::B, Self::C];

    fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
            Self::C => 'c',
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
            Self::C => 3,
        }
    }

    /// The zone's name: `us-east-1a`.
    pub fn name(self, region: &Region) -> String {
        format!("{region}{}", self.letter())
    }

    /// The zone's id: `use1-az1` for `us-east-1a`.
    pub fn id(self, region: &Region) -> String {
        let short: String = region
            .as_str()
            .split('-')
            .enumerate()
            .map(|(index, word)| match (index, word) {
                (0, area) => area.to_owned(),
                (_, direction) if direction.len() > 5 && direction != "central" => {
                    // northeast, southeast, northwest, southwest
                    let (first, second) = direction.split_at(5);
                    format!("{}{}", first.get(..1).unwrap_or_default(), second.get(..1).unwrap_or_default())
                }
                (_, word) => word.get(..1).unwrap_or_default().to_owned(),
            })
            .collect();
        format!("{short}-az{}", self.number())
    }

    /// The zone of `region` with this name or id.
    pub fn find(region: &Region, text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|zone| zone.name(region) == text || zone.id(region) == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_the_names_and_ids_of_their_region() {
        for (region, name, id) in [
            ("us-east-1", "us-east-1a", "use1-az1"),
            ("ap-northeast-1", "ap-northeast-1a", "apne1-az1"),
            ("eu-central-1", "eu-central-1a", "euc1-az1"),
            ("us-west-2", "us-west-2a", "usw2-az1"),
            ("ap-southeast-2", "ap-southeast-2a", "apse2-az1"),
        ] {
            let region: Region = region.parse().unwrap();
            assert_eq!((Zone::A.name(&region).as_str(), Zone::A.id(&region).as_str()), (name, id));
            assert_eq!(Zone::find(&region, name), Some(Zone::A));
            assert_eq!(Zone::find(&region, id), Some(Zone::A));
            assert_eq!(Zone::find(&region, "mars-1a"), None);
        }
    }

    #[test]
    fn a_subnet_reserves_its_first_four_addresses_and_its_last() {
        let cidr: SubnetCidr = "10.0.1.0/28".parse().unwrap();
        let all: Vec<Ipv4Addr> = cidr.assignable().collect();
        assert_eq!((all.len(), cidr.size()), (11, 11));
        assert_eq!((all[0], all[10]), (Ipv4Addr::new(10, 0, 1, 4), Ipv4Addr::new(10, 0, 1, 14)));
        assert!(!cidr.has_assignable(Ipv4Addr::new(10, 0, 1, 3)) && !cidr.has_assignable(Ipv4Addr::new(10, 0, 1, 15)));
        for text in ["10.0.0.0/15", "10.0.0.0/29", "10.0.0.1/24", "x"] {
            assert!(text.parse::<SubnetCidr>().is_err(), "{text}");
        }
    }
}
