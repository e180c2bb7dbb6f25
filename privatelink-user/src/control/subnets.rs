//! Subnets, and addresses out of them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference, ipv6::Ipv6Refusal, lookup, operation, route_tables, sorted,
    view::SubnetView,
};
use crate::model::{AddressUse, Change, State, Subnet, SubnetCidr, SubnetId, SubnetIpv6Cidr, Vpc, Zone};

/// Makes a subnet in a VPC.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSubnet {
    pub vpc: Reference,
    pub cidr: SubnetCidr,
    #[serde(default)]
    pub ipv6_cidr: Option<SubnetIpv6Cidr>,
    /// Its name or id. None: the zone with the fewest subnets of the VPC.
    #[serde(default)]
    pub zone: Option<String>,
}
operation!(CreateSubnet -> SubnetView);

impl Mutation for CreateSubnet {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, SubnetView), ControlError> {
        let Self { vpc, cidr, ipv6_cidr, zone } = self;
        let vpc = lookup::vpc(state, vpc)?;
        let region = context.region;
        let known = |text: &String| {
            Zone::find(region, text)
                .ok_or_else(|| ControlError::ZoneNotFound { zone: text.clone(), region: region.clone() })
        };
        let zone = zone.as_ref().map(known).transpose()?;
        if !vpc.cidr.net().contains(&cidr.net()) {
            return Err(ControlError::SubnetRange(cidr.net().into()));
        }
        let overlaps = |other: &&Subnet| {
            let (own, other) = (cidr.net(), other.cidr.net());
            own.contains(&other.network()) || other.contains(&own.network())
        };
        if let Some(other) = of_vpc(state, vpc).find(overlaps) {
            return Err(ControlError::SubnetConflict { cidr: cidr.net().into(), subnet: other.id.clone() });
        }
        if let Some(wanted) = ipv6_cidr {
            let range = vpc.ipv6.ok_or_else(|| Ipv6Refusal::VpcWithoutRange(vpc.id.clone()))?.cidr.net();
            if !range.contains(&wanted.net()) {
                return Err(ControlError::SubnetRange(wanted.net().into()));
            }
            let overlaps = |other: &&Subnet| {
                other.ipv6_cidr.is_some_and(|other| {
                    wanted.net().contains(&other.net().network()) || other.net().contains(&wanted.net().network())
                })
            };
            if let Some(other) = of_vpc(state, vpc).find(overlaps) {
                return Err(ControlError::SubnetConflict { cidr: wanted.net().into(), subnet: other.id.clone() });
            }
        }
        let crowd = |zone: &Zone| of_vpc(state, vpc).filter(|subnet| subnet.zone == *zone).count();
        let subnet = Subnet {
            id: SubnetId::generate(context.ids),
            vpc: vpc.id.clone(),
            cidr: *cidr,
            ipv6_cidr: *ipv6_cidr,
            zone: zone.or_else(|| Zone::ALL.into_iter().min_by_key(crowd)).unwrap_or(Zone::A),
            is_default: false,
            public_ip_on_launch: false,
            created_at: context.now,
        };
        let view = SubnetView::new(state, &subnet);
        Ok((Change::default().put(subnet), view))
    }
}

/// The subnets of `vpc`.
pub fn of_vpc<'a>(state: &'a State, vpc: &'a Vpc) -> impl Iterator<Item = &'a Subnet> {
    state.subnets.values().filter(|subnet| subnet.vpc == vpc.id)
}

/// What of a subnet is in use by load balancers, endpoints and instances.
pub fn uses<'a>(state: &'a State, subnet: &'a Subnet) -> impl Iterator<Item = (IpAddr, AddressUse)> + 'a {
    let owned = |by: &AddressUse| match by {
        AddressUse::Node(_) | AddressUse::Endpoint(_) | AddressUse::Instance(_) => true,
        AddressUse::Gateway(_) | AddressUse::Target(_) => false,
    };
    state.address_uses(&subnet.vpc).filter(move |(address, by)| subnet.contains(*address) && owned(by))
}

/// How many addresses of a subnet load balancers and endpoints can still have.
pub fn free(state: &State, subnet: &Subnet) -> usize {
    let used = uses(state, subnet).filter(|(address, _)| address.is_ipv4()).count();
    usize::try_from(subnet.cidr.size()).unwrap_or(usize::MAX).saturating_sub(used)
}

/// A subnet by id, or as `VPC/CIDR`.
pub fn find<'a>(state: &'a State, reference: &Reference) -> Result<&'a Subnet, ControlError> {
    let text = reference.as_str();
    let by_range = || {
        let (vpc, cidr) = text.split_once('/')?;
        let (vpc, cidr) = (lookup::vpc(state, &vpc.into()).ok()?, cidr.parse::<SubnetCidr>().ok()?);
        of_vpc(state, vpc).find(|subnet| subnet.cidr == cidr)
    };
    text.parse()
        .ok()
        .and_then(|id: SubnetId| state.subnets.get(&id))
        .or_else(by_range)
        .ok_or_else(|| ControlError::SubnetNotFound(text.to_owned()))
}

/// An address in a subnet: this one, or any that is free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// By id, or as `VPC/CIDR`.
    pub subnet: Reference,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<Ipv4Addr>,
    /// Of what gets an IPv6 address there too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ipv6_address: Option<Ipv6Addr>,
}

/// The addresses for `placements`, which must lie in one VPC and in as many zones; also the VPC. `taken` are addresses
/// that are spoken for although the state does not say so.
pub fn place<'a>(
    state: &'a State,
    placements: &[Placement],
    taken: &BTreeSet<Ipv4Addr>,
) -> Result<(&'a Vpc, Vec<Ipv4Addr>), ControlError> {
    let mut zones = BTreeSet::new();
    let mut found: Option<&Vpc> = None;
    let mut addresses = Vec::new();
    for Placement { subnet, address, ipv6_address: _ } in placements {
        let subnet = find(state, subnet)?;
        let vpc = state.vpcs.get(&subnet.vpc).ok_or_else(|| ControlError::VpcNotFound(subnet.vpc.to_string()))?;
        if found.is_some_and(|found| found.id != vpc.id) {
            return Err(ControlError::SubnetsOfSeveralVpcs);
        }
        found = Some(vpc);
        if !zones.insert(subnet.zone) {
            return Err(ControlError::SubnetsInOneZone(subnet.id.clone()));
        }
        addresses.push(match *address {
            Some(address) if !subnet.contains(address.into()) => {
                return Err(ControlError::AddressOutsideSubnet {
                    address: address.into(),
                    cidr: subnet.cidr.net().into(),
                });
            }
            Some(address) if subnet.reserves(address.into()) => {
                return Err(ControlError::AddressReservedInSubnet {
                    address: address.into(),
                    cidr: subnet.cidr.net().into(),
                });
            }
            Some(address) => match state.address_use(&vpc.id, address.into()) {
                Some(by) => return Err(ControlError::AddressInUse { address: address.into(), by }),
                None => address,
            },
            None => first_free(state, subnet, taken)?,
        });
    }
    found.map(|vpc| (vpc, addresses)).ok_or(ControlError::SubnetMissing)
}

/// The first address of `subnet` that nothing uses and that is not in `taken`.
pub fn first_free(state: &State, subnet: &Subnet, taken: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr, ControlError> {
    let used: BTreeSet<IpAddr> = state.address_uses(&subnet.vpc).map(|(address, _)| address).collect();
    let free = |address: &Ipv4Addr| !used.contains(&IpAddr::V4(*address)) && !taken.contains(address);
    subnet.cidr.assignable().find(free).ok_or_else(|| ControlError::NoFreeAddressInSubnet(subnet.id.clone()))
}

/// Changes a subnet's attributes.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifySubnet {
    pub subnet: Reference,
    /// None: as it is.
    #[serde(default)]
    pub public_ip_on_launch: Option<bool>,
}
operation!(ModifySubnet -> Subnet);

impl Mutation for ModifySubnet {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, Subnet), ControlError> {
        let Self { subnet, public_ip_on_launch } = self;
        let subnet = find(state, subnet)?;
        let public_ip_on_launch = public_ip_on_launch.unwrap_or(subnet.public_ip_on_launch);
        let changed = Subnet { public_ip_on_launch, ..subnet.clone() };
        let change = Change::replace(subnet, changed.clone());
        Ok((change, changed))
    }
}

/// Deletes a subnet in which no load balancer, endpoint and instance has an address.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteSubnet {
    pub subnet: Reference,
}
operation!(DeleteSubnet -> ());

impl Mutation for DeleteSubnet {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let subnet = find(state, &self.subnet)?;
        let dependants: Vec<String> = uses(state, subnet).map(|(address, by)| format!("{address}, {by}")).collect();
        if !dependants.is_empty() {
            return Err(ControlError::SubnetInUse { subnet: subnet.id.clone(), dependants });
        }
        Ok((route_tables::without_subnet(state, &subnet.id).remove(subnet.id.clone()), ()))
    }
}

/// Lists the subnets, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeSubnets {
    /// None: all.
    #[serde(default)]
    pub subnets: Option<Vec<Reference>>,
    /// Only those of this VPC.
    #[serde(default)]
    pub vpc: Option<Reference>,
}
operation!(DescribeSubnets -> Vec<SubnetView>);

impl Query for DescribeSubnets {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<SubnetView>, ControlError> {
        let Self { subnets, vpc } = self;
        let vpc = vpc.as_ref().map(|reference| lookup::vpc(state, reference)).transpose()?;
        let chosen = match subnets {
            None => state.subnets.values().collect(),
            Some(references) => {
                references.iter().map(|reference| find(state, reference)).collect::<Result<Vec<_>, ControlError>>()?
            }
        };
        let of_vpc = chosen.into_iter().filter(|subnet| vpc.is_none_or(|vpc| subnet.vpc == vpc.id));
        let views = of_vpc.map(|subnet| SubnetView::new(state, subnet)).collect();
        Ok(sorted(views, |subnet: &SubnetView| (subnet.vpc_name.clone(), u32::from(subnet.cidr.net().network()))))
    }
}
