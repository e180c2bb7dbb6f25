//! Route tables: what a VPC says about addresses that are not its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    EndpointId, InterfaceOwner, InvalidValue, NetworkInterfaceId, RouteTableId, State, SubnetId, Vpc, VpcId, derived,
    invalid::serde_as_text,
};

/// A route table. It belongs to its VPC's owner. Beside its routes each has the local one, for the VPC's own range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteTable {
    pub id: RouteTableId,
    pub vpc: VpcId,
    /// By destination, which is never the VPC's own range. The longest prefix counts. Those for IPv6 ranges lead to no
    /// endpoint.
    pub routes: BTreeMap<RouteDestination, RouteTarget>,
    /// The subnets that it is for: each in one table at most. The others of the VPC have the main table.
    pub subnets: BTreeSet<SubnetId>,
    pub created_at: Timestamp,
}

/// The addresses that a route is for: a range of either family, without host bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteDestination(IpNet);

impl RouteDestination {
    /// The range.
    pub fn net(self) -> IpNet {
        self.0
    }

    /// The range, if it is one of IPv4.
    pub fn ipv4(self) -> Option<Ipv4Net> {
        match self.0 {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        }
    }

    /// Whether the range is `vpc`'s own, which every table of it has a route for.
    pub fn is_local(self, vpc: &Vpc) -> bool {
        match self.0 {
            IpNet::V4(net) => net == vpc.cidr.net(),
            IpNet::V6(net) => vpc.ipv6.is_some_and(|ipv6| ipv6.cidr.net() == net),
        }
    }
}

impl fmt::Display for RouteDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Host bits are cleared, as EC2 does.
impl From<IpNet> for RouteDestination {
    fn from(net: IpNet) -> Self {
        Self(net.trunc())
    }
}

impl FromStr for RouteDestination {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.parse().map(|net: IpNet| Self::from(net)).map_err(|_| {
            let rule = "must be an IPv4 or IPv6 range in CIDR notation";
            InvalidValue::new("Destination", text, rule, "use a range like 10.200.0.0/16")
        })
    }
}

serde_as_text!(RouteDestination);

/// Where a route leads. What it names may go: the route is a black hole then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTarget {
    /// A network interface of the same VPC.
    NetworkInterface(NetworkInterfaceId),
    /// An endpoint of the same VPC, whichever of its addresses.
    Endpoint(EndpointId),
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkInterface(id) => id.fmt(f),
            Self::Endpoint(id) => id.fmt(f),
        }
    }
}

/// Whether a route leads anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RouteState {
    Active,
    /// Its target is gone.
    Blackhole,
}

impl fmt::Display for RouteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Active => "active",
            Self::Blackhole => "blackhole",
        })
    }
}

impl RouteTable {
    /// The table that every VPC has: made and deleted with it. Its id follows from the VPC's.
    pub fn main_of(vpc: &Vpc) -> Self {
        Self {
            id: Self::main_id(&vpc.id),
            vpc: vpc.id.clone(),
            routes: BTreeMap::new(),
            subnets: BTreeSet::new(),
            created_at: vpc.created_at,
        }
    }

    fn main_id(vpc: &VpcId) -> RouteTableId {
        RouteTableId::derived(&["route table", vpc.as_str()])
    }

    /// Whether it is its VPC's main table.
    pub fn is_main(&self) -> bool {
        self.id == Self::main_id(&self.vpc)
    }

    /// The id of the association that makes it the main table, `rtbassoc-` + 17 hex digits.
    pub fn main_association(&self) -> String {
        format!("rtbassoc-{}", derived::hex(17, &["association", self.id.as_str()]))
    }

    /// The id of its association with `subnet`.
    pub fn association(&self, subnet: &SubnetId) -> String {
        format!("rtbassoc-{}", derived::hex(17, &["association", self.id.as_str(), subnet.as_str()]))
    }
}

impl State {
    /// The main route table of a VPC.
    pub fn main_route_table(&self, vpc: &VpcId) -> Option<&RouteTable> {
        self.route_tables.get(&RouteTable::main_id(vpc))
    }

    /// The route table that a subnet has: its own, or the main one.
    pub fn route_table_of(&self, vpc: &VpcId, subnet: &SubnetId) -> Option<&RouteTable> {
        let own = self.route_tables.values().find(|table| table.subnets.contains(subnet));
        own.or_else(|| self.main_route_table(vpc))
    }

    /// The endpoint to which a route leads, by itself or by an interface of its.
    pub fn routed_endpoint<'a>(&'a self, target: &'a RouteTarget) -> Option<&'a EndpointId> {
        match target {
            RouteTarget::Endpoint(id) => Some(id),
            RouteTarget::NetworkInterface(id) => self.network_interfaces().find_map(|one| match one.by {
                InterfaceOwner::Endpoint(endpoint) if one.id == *id => Some(endpoint),
                InterfaceOwner::Endpoint(_) | InterfaceOwner::LoadBalancer(_) | InterfaceOwner::Instance(..) => None,
            }),
        }
    }

    /// Whether a route of a table in `vpc` leads anywhere.
    pub fn route_state(&self, vpc: &VpcId, target: &RouteTarget) -> RouteState {
        let exists = match target {
            RouteTarget::NetworkInterface(id) => self.network_interfaces().any(|one| one.id == *id && one.vpc == vpc),
            RouteTarget::Endpoint(id) => self.endpoints.get(id).is_some_and(|endpoint| endpoint.vpc == *vpc),
        };
        if exists { RouteState::Active } else { RouteState::Blackhole }
    }
}
