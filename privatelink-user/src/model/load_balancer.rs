//! A load balancer: node addresses in the provider's VPC.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InvalidValue, IpAddressType, IpFamily, LoadBalancerId, ResourceName, SecurityGroups, VpcId};

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancer {
    /// Says its type as well.
    pub id: LoadBalancerId,
    /// Unique among its owner's load balancers.
    pub name: ResourceName,
    /// The provider's VPC.
    pub vpc: VpcId,
    /// The node addresses: inside the VPC's CIDR, at least one, the only sources that a target sees. Each adds 64,512
    /// ports towards every target.
    pub addresses: Vec<Ipv4Addr>,
    /// The same for IPv6: what IPv6 targets see, inside the VPC's IPv6 range. None: it has no IPv6 listeners and
    /// targets.
    #[serde(default)]
    pub ipv6_addresses: Vec<Ipv6Addr>,
    /// Node addresses that `secondary_ips.auto_assigned.per_subnet` has assigned: sources that targets see, and nothing
    /// that a client connects to.
    #[serde(default)]
    pub secondary_addresses: Vec<Ipv4Addr>,
    /// Who may connect, and where the load balancer may connect to.
    #[serde(default)]
    pub security_groups: SecurityGroups,
    /// Whether the inbound rules also filter what comes through endpoints, by the address of the client in its own VPC
    /// (AWS `EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic`).
    #[serde(default = "on")]
    pub enforce_on_private_link: bool,
    #[serde(default)]
    pub scheme: Scheme,
    #[serde(default)]
    pub attributes: LoadBalancerAttributes,
    pub created_at: Timestamp,
}

impl LoadBalancer {
    /// Every node address: those that clients connect to, then those that only targets see.
    pub fn nodes(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.client_facing().chain(self.secondary_addresses.iter().copied().map(IpAddr::V4))
    }

    /// The node addresses that clients connect to, IPv4 ones first.
    pub fn client_facing(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let six = self.ipv6_addresses.iter().copied().map(IpAddr::V6);
        self.addresses.iter().copied().map(IpAddr::V4).chain(six)
    }

    /// The node addresses that targets of a family see.
    pub fn nodes_of(&self, family: IpFamily) -> impl Iterator<Item = IpAddr> + '_ {
        self.nodes().filter(move |node| IpFamily::of(*node) == family)
    }

    /// The families of its addresses.
    pub fn ip_address_type(&self) -> IpAddressType {
        IpAddressType::with(&self.ipv6_addresses)
    }
}

/// A load balancer's type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LoadBalancerKind {
    #[default]
    Network,
    /// A record with addresses of its own, listeners and rules; nothing serves it, so that it has no endpoint service.
    Application,
}

impl LoadBalancerKind {
    /// Why one of type application carries nothing.
    pub const UNSERVED: &str = "load balancers of type application are recorded, and nothing serves them";

    /// Why a load balancer of this type carries nothing; none for one that does.
    pub fn unserved(self) -> Option<&'static str> {
        match self {
            Self::Network => None,
            Self::Application => Some(Self::UNSERVED),
        }
    }
}

impl fmt::Display for LoadBalancerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Network => "network",
            Self::Application => "application",
        })
    }
}

impl FromStr for LoadBalancerKind {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "network" => Ok(Self::Network),
            "application" => Ok(Self::Application),
            _ => Err(InvalidValue::new(
                "Type",
                text,
                "must be one of '[application, network]'",
                "use network; nothing serves the others",
            )),
        }
    }
}

/// What a load balancer is for, as its creator says; the datapath treats both alike.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    #[default]
    Internal,
    InternetFacing,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Internal => "internal",
            Self::InternetFacing => "internet-facing",
        })
    }
}

impl FromStr for Scheme {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "internal" => Ok(Self::Internal),
            "internet-facing" => Ok(Self::InternetFacing),
            _ => Err(InvalidValue::new(
                "Scheme",
                text,
                "must be one of '[internet-facing, internal]'",
                "use internal, or internet-facing",
            )),
        }
    }
}

/// A load balancer's attributes; their keys, defaults and ranges are the table in `model/attribute.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadBalancerAttributes {
    /// It cannot be deleted.
    pub deletion_protection: bool,
    /// Whether targets of other zones are used by groups that leave it to the load balancer.
    pub cross_zone: bool,
    /// Node addresses that are assigned in each subnet besides the first one.
    pub secondary_ips: u32,
    /// Which of its zones a name's answer has.
    pub client_routing: ClientRouting,
    /// Kept only, as the next three: nothing comes from an internet gateway here, and nothing shifts zones.
    pub deny_all_igw_traffic: bool,
    pub zonal_shift: bool,
    /// Nothing is written to buckets.
    pub access_log_bucket: String,
    pub access_log_prefix: String,
    /// Of type application, as the next two, and kept only: seconds, 1 to 4,000.
    pub request_idle_timeout: u32,
    pub http2: bool,
    pub drop_invalid_headers: bool,
}

/// `dns_record.client_routing_policy`: which zones a load balancer's name has for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientRouting {
    /// All healthy ones, whoever asks.
    #[default]
    AnyAvailabilityZone,
    /// That of who asks, in 85 of 100 answers.
    PartialAvailabilityZoneAffinity,
    /// That of who asks.
    AvailabilityZoneAffinity,
}

impl ClientRouting {
    /// Every policy.
    pub const ALL: [Self; 3] =
        [Self::AnyAvailabilityZone, Self::AvailabilityZoneAffinity, Self::PartialAvailabilityZoneAffinity];

    /// How many of 100 answers have the zone of who asks alone, as long as that is healthy.
    pub const fn share(self) -> u8 {
        match self {
            Self::AnyAvailabilityZone => 0,
            Self::PartialAvailabilityZoneAffinity => 85,
            Self::AvailabilityZoneAffinity => 100,
        }
    }
}

impl fmt::Display for ClientRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AnyAvailabilityZone => "any_availability_zone",
            Self::PartialAvailabilityZoneAffinity => "partial_availability_zone_affinity",
            Self::AvailabilityZoneAffinity => "availability_zone_affinity",
        })
    }
}

impl Default for LoadBalancerAttributes {
    fn default() -> Self {
        Self {
            deletion_protection: false,
            cross_zone: false,
            secondary_ips: 0,
            client_routing: ClientRouting::default(),
            deny_all_igw_traffic: true,
            zonal_shift: false,
            access_log_bucket: String::new(),
            access_log_prefix: String::new(),
            request_idle_timeout: 60,
            http2: true,
            drop_invalid_headers: false,
        }
    }
}

/// The enforcement's default.
fn on() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record from before an attribute was there has its default; `ipv6.deny_all_igw_traffic` that of an internal
    /// load balancer.
    #[test]
    fn stored_attributes_that_are_absent_are_those_of_an_internal_load_balancer() {
        let new = LoadBalancerAttributes::defaults(LoadBalancerKind::Network, Scheme::Internal);
        let mut record = serde_json::to_value(&new).expect("JSON");
        record.as_object_mut().expect("an object").remove("deny_all_igw_traffic").expect("the attribute");
        let stored: LoadBalancerAttributes = serde_json::from_value(record).expect("attributes");
        assert!(stored.deny_all_igw_traffic);
        assert_eq!(serde_json::from_str::<LoadBalancerAttributes>("{}").expect("attributes"), new);
        assert!(
            !LoadBalancerAttributes::defaults(LoadBalancerKind::Network, Scheme::InternetFacing).deny_all_igw_traffic
        );
    }
}
