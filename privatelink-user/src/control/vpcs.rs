//! VPCs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference, address, ipv6::Ipv6Refusal, lookup, operation, route_tables,
    sorted, view::VpcView,
};
use crate::model::{
    AddressUse, Change, ResourceName, RouteTable, SecurityGroup, State, Vpc, VpcAttributes, VpcCidr, VpcId, VpcIndex,
    VpcIpv6, VpcIpv6Cidr, derived,
};

/// Makes a VPC. Idempotent: the same name with the same settings answers the VPC that there is. Unlike EC2's, its DNS
/// hostnames are on, so that private DNS names need no further step.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateVpc {
    pub name: ResourceName,
    pub cidr: VpcCidr,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<Ipv4Addr>,
    /// None: it has IPv4 addresses only.
    #[serde(default)]
    pub ipv6_cidr: Option<VpcIpv6Cidr>,
    /// The router of IPv6 targets outside that range; inside it, or link-local.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ipv6_gateway: Option<Ipv6Addr>,
}
operation!(CreateVpc -> VpcView);

impl Mutation for CreateVpc {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, VpcView), ControlError> {
        let Self { name, cidr, gateway, ipv6_cidr, ipv6_gateway } = self;
        let ipv6 = ipv6_cidr.map(|cidr| VpcIpv6 { cidr, gateway: *ipv6_gateway });
        if let Some(vpc) = state.vpcs.values().find(|vpc| vpc.name == *name) {
            return if (vpc.cidr, vpc.gateway, vpc.ipv6) == (*cidr, *gateway, ipv6) {
                Ok((Change::default(), VpcView::new(state, vpc)))
            } else {
                Err(ControlError::DuplicateVpc(name.clone()))
            };
        }
        let vpc = Vpc {
            id: VpcId::generate(context.ids),
            owner: context.owner(),
            name: name.clone(),
            cidr: *cidr,
            gateway: *gateway,
            ipv6,
            index: next_index(state, context.world)?,
            attributes: VpcAttributes { dns_hostnames: true, ..VpcAttributes::default() },
            created_at: context.now,
        };
        if let Some(gateway) = vpc.gateway {
            address::check_inside(&vpc, gateway.into())?;
        }
        if let Some(gateway) = ipv6_gateway {
            check_router(&vpc, *gateway)?;
        }
        let view = VpcView::new(state, &vpc);
        Ok((made(vpc), view))
    }
}

/// A new VPC, and what every VPC has from the beginning: its default security group and its main route table.
pub fn made(vpc: Vpc) -> Change {
    let (group, table) = (SecurityGroup::default_of(&vpc), RouteTable::main_of(&vpc));
    Change::default().last_vpc_index(vpc.index).put(vpc).put(group).put(table)
}

/// Refuses `address` unless it can be the VPC's IPv6 router.
fn check_router(vpc: &Vpc, address: Ipv6Addr) -> Result<(), ControlError> {
    match vpc.ipv6 {
        Some(ipv6) if ipv6.has_router(address) => Ok(()),
        Some(_) | None => address::check_inside(vpc, address.into()),
    }
}

/// A VPC that nobody named: its id's digits are its name.
pub fn nameless(
    state: &State,
    context: &mut Context<'_>,
    cidr: VpcCidr,
    attributes: VpcAttributes,
) -> Result<Vpc, ControlError> {
    let id = VpcId::generate(context.ids);
    let name = id.as_str().trim_start_matches("vpc-").parse()?;
    let index = next_index(state, context.world)?;
    Ok(Vpc {
        id,
        owner: context.owner(),
        name,
        cidr,
        gateway: None,
        ipv6: None,
        index,
        attributes,
        created_at: context.now,
    })
}

/// A unique local range for a VPC that wants any IPv6 range: /56, as AWS's are, and by its digits the VPC's own (RFC
/// 4193 section 3.2.2).
pub fn provided_ipv6(vpc: &Vpc) -> Result<VpcIpv6Cidr, ControlError> {
    let digits = u64::from_str_radix(&derived::hex(12, &["IPv6 range", vpc.id.as_str()]), 16).unwrap_or(0);
    let prefix = 0xfd << 120 | u128::from(digits) << 72;
    Ok(format!("{}/56", Ipv6Addr::from_bits(prefix)).parse()?)
}

/// The next number that no VPC of the world, nor of the caller's state, has after the one that was handed out last.
fn next_index(state: &State, world: &State) -> Result<VpcIndex, ControlError> {
    let last = state.last_vpc_index.map_or(0, VpcIndex::get);
    let free = |index: &VpcIndex| !state.vpcs.values().chain(world.vpcs.values()).any(|vpc| vpc.index == *index);
    (last..VpcIndex::MAX)
        .chain(0..last)
        .filter_map(|before| VpcIndex::new(before.saturating_add(1)).ok())
        .find(free)
        .ok_or(ControlError::VpcNumbersExhausted)
}

/// Changes a VPC's gateway and attributes. What is not given stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyVpc {
    pub vpc: Reference,
    /// `Some(None)`, in JSON `null`: the VPC has no gateway any more.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<Option<Ipv4Addr>>,
    /// The IPv6 range of a VPC that has none yet; it stays.
    #[serde(default)]
    pub ipv6_cidr: Option<VpcIpv6Cidr>,
    /// As `gateway`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ipv6_gateway: Option<Option<Ipv6Addr>>,
    /// Whether names are served in it. Endpoints' private DNS names need it.
    #[serde(default)]
    pub dns_support: Option<bool>,
    /// Whether its hosts have names. Endpoints' private DNS names need it.
    #[serde(default)]
    pub dns_hostnames: Option<bool>,
}

/// A value that is there, be it `null`.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
operation!(ModifyVpc -> VpcView);

impl Mutation for ModifyVpc {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, VpcView), ControlError> {
        let Self { vpc, gateway, ipv6_cidr, ipv6_gateway, dns_support, dns_hostnames } = self;
        let vpc = lookup::vpc(state, vpc)?;
        let VpcAttributes { dns_support: support, dns_hostnames: hostnames, is_default } = vpc.attributes;
        let attributes = VpcAttributes {
            dns_support: dns_support.unwrap_or(support),
            dns_hostnames: dns_hostnames.unwrap_or(hostnames),
            is_default,
        };
        let ipv6 = match (vpc.ipv6, *ipv6_cidr) {
            (Some(ipv6), Some(cidr)) if ipv6.cidr != cidr => {
                return Err(Ipv6Refusal::VpcHasRange(vpc.id.clone()).into());
            }
            (Some(ipv6), _) => Some(VpcIpv6 { gateway: ipv6_gateway.unwrap_or(ipv6.gateway), ..ipv6 }),
            (None, Some(cidr)) => Some(VpcIpv6 { cidr, gateway: ipv6_gateway.flatten() }),
            (None, None) if ipv6_gateway.flatten().is_some() => {
                return Err(Ipv6Refusal::VpcWithoutRange(vpc.id.clone()).into());
            }
            (None, None) => None,
        };
        let changed = Vpc { gateway: gateway.unwrap_or(vpc.gateway), ipv6, attributes, ..vpc.clone() };
        if changed == *vpc {
            return Ok((Change::default(), VpcView::new(state, vpc)));
        }
        let router = |vpc: &Vpc| vpc.ipv6.and_then(|ipv6| ipv6.gateway);
        let routers = changed.gateway.filter(|_| changed.gateway != vpc.gateway).map(IpAddr::V4);
        let ipv6_router = router(&changed).filter(|_| router(&changed) != router(vpc));
        if let Some(gateway) = routers {
            address::check_inside(vpc, gateway)?;
        }
        if let Some(gateway) = ipv6_router {
            check_router(&changed, gateway)?;
        }
        for gateway in routers.into_iter().chain(ipv6_router.map(IpAddr::V6)) {
            // A router may be a target and an instance as well; it cannot be an address that the datapath answers for.
            let owned = |by: &AddressUse| match by {
                AddressUse::Node(_) | AddressUse::Endpoint(_) => true,
                AddressUse::Gateway(_) | AddressUse::Instance(_) | AddressUse::Target(_) => false,
            };
            if let Some((_, by)) = state.address_uses(&vpc.id).find(|(used, by)| *used == gateway && owned(by)) {
                return Err(ControlError::AddressInUse { address: gateway, by });
            }
        }
        let view = VpcView::new(state, &changed);
        Ok((Change::default().put(changed), view))
    }
}

/// Deletes a VPC that nothing refers to, with its default security group and main route table.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteVpc {
    pub vpc: Reference,
}
operation!(DeleteVpc -> ());

impl Mutation for DeleteVpc {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let vpc = lookup::vpc(state, &self.vpc)?;
        let dependants = dependants(state, &vpc.id);
        if !dependants.is_empty() {
            return Err(ControlError::VpcInUse { vpc: vpc.id.clone(), dependants });
        }
        let group = state.default_group(&vpc.id).map(|group| group.id.clone());
        let table = state.main_route_table(&vpc.id).map(|table| table.id.clone());
        let change = group.into_iter().fold(Change::default(), Change::remove);
        let change = table.into_iter().fold(change, Change::remove);
        let terminated = state.instances.values().filter(|instance| instance.vpc == vpc.id);
        let change = terminated.fold(change, |change, instance| change.remove(instance.id.clone()));
        Ok((change.remove(vpc.id.clone()), ()))
    }
}

/// What keeps a VPC from being deleted, each in words.
fn dependants(state: &State, vpc: &VpcId) -> Vec<String> {
    let endpoints = state
        .endpoints
        .values()
        .filter(|endpoint| endpoint.vpc == *vpc)
        .map(|endpoint| format!("endpoint {}", endpoint.id));
    let gateways = state
        .gateway_endpoints
        .values()
        .filter(|endpoint| endpoint.vpc == *vpc)
        .map(|endpoint| format!("endpoint {}", endpoint.id));
    let load_balancers =
        state.load_balancers.values().filter(|lb| lb.vpc == *vpc).map(|lb| format!("load balancer {}", lb.name));
    let groups = state
        .target_groups
        .values()
        .filter(|group| group.vpc == *vpc)
        .map(|group| format!("target group {}", group.name));
    let security_groups = state
        .security_groups
        .values()
        .filter(|group| group.vpc == *vpc && !group.is_default())
        .map(|group| format!("security group {}", group.name));
    let ports = state.ports.values().filter(|port| port.vpc == *vpc).map(|port| format!("port {}", port.interface));
    let subnets =
        state.subnets.values().filter(|subnet| subnet.vpc == *vpc).map(|subnet| format!("subnet {}", subnet.id));
    let instances = state.instances_of(vpc).map(|instance| format!("instance {}", instance.name));
    endpoints
        .chain(gateways)
        .chain(load_balancers)
        .chain(groups)
        .chain(security_groups)
        .chain(ports)
        .chain(subnets)
        .chain(route_tables::dependants(state, vpc))
        .chain(instances)
        .collect()
}

/// Lists the VPCs, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeVpcs {
    /// None: all.
    #[serde(default)]
    pub vpcs: Option<Vec<Reference>>,
}
operation!(DescribeVpcs -> Vec<VpcView>);

impl Query for DescribeVpcs {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<VpcView>, ControlError> {
        match &self.vpcs {
            None => {
                Ok(sorted(state.vpcs.values().map(|vpc| VpcView::new(state, vpc)).collect(), |vpc| vpc.name.clone()))
            }
            Some(references) => references
                .iter()
                .map(|reference| lookup::vpc(state, reference).map(|vpc| VpcView::new(state, vpc)))
                .collect(),
        }
    }
}
