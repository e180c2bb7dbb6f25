//! IPv6 addresses of resources: where they come from, and what is refused about them.

use std::{collections::BTreeSet, net::Ipv6Addr};

use super::{ControlError, address, error::RefusalKind, subnets};
use crate::model::{
    DnsRecordIpType, EndpointId, EndpointService, IpAddressType, IpFamily, LoadBalancerId, ServiceName, State, Subnet,
    SubnetId, TargetGroupId, Vpc, VpcId, assignable_ipv6,
};

/// What is refused about IPv6.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ipv6Refusal {
    #[error("The VPC '{0}' does not have an IPv6 CIDR block")]
    VpcWithoutRange(VpcId),
    #[error("The VPC '{0}' already has an IPv6 CIDR block")]
    VpcHasRange(VpcId),
    #[error("The subnet '{0}' does not have an IPv6 CIDR block")]
    SubnetWithoutRange(SubnetId),
    #[error("The VPC endpoint service {0} does not support the IP address type dualstack")]
    ServiceWithoutIpv6(ServiceName),
    #[error("The IP address '{address}' is not of the IP address type {family} of the target group '{target_group}'")]
    TargetFamily { address: std::net::IpAddr, family: IpFamily, target_group: TargetGroupId },
    #[error("The target groups of an action must have the same IP address type")]
    MixedFamilies,
    #[error("The target group '{0}' has the IP address type ipv6, which is not supported for TLS listeners")]
    TlsListener(TargetGroupId),
    #[error("The target group '{target_group}' has the IP address type ipv6, the load balancer '{load_balancer}' ipv4")]
    LoadBalancerWithoutIpv6 { target_group: TargetGroupId, load_balancer: LoadBalancerId },
    #[error("The IPv6 addresses of the load balancer '{load_balancer}' are used for the targets of '{target_group}'")]
    InUseByTargets { load_balancer: LoadBalancerId, target_group: TargetGroupId },
    #[error("The IPv6 addresses of the load balancer '{load_balancer}' are used by endpoints of '{service}'")]
    InUseByEndpoints { load_balancer: LoadBalancerId, service: ServiceName },
    #[error(
        "The DNS record IP type {records} is not supported for a VPC endpoint with the IP address type {addresses}"
    )]
    DnsRecords { records: DnsRecordIpType, addresses: IpAddressType },
    #[error(
        "The IPv6 address '{address}' cannot be given to the VPC endpoint '{endpoint}', which has no IPv6 addresses"
    )]
    EndpointWithoutIpv6 { endpoint: EndpointId, address: Ipv6Addr },
    #[error(
        "The VPC endpoint '{endpoint}' has no IPv6 address in the subnet '{subnet}' that '{address}' could replace"
    )]
    NothingToReplace { endpoint: EndpointId, subnet: SubnetId, address: Ipv6Addr },
    #[error("The IP address type ipv6 cannot be removed from {0} while VPC endpoints use it")]
    OfferedToEndpoints(ServiceName),
}

impl Ipv6Refusal {
    /// The error's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::VpcWithoutRange(_)
            | Self::SubnetWithoutRange(_)
            | Self::ServiceWithoutIpv6(_)
            | Self::DnsRecords { .. }
            | Self::EndpointWithoutIpv6 { .. }
            | Self::NothingToReplace { .. } => "InvalidParameter",
            Self::VpcHasRange(_) => "InvalidVpc.Range",
            Self::TargetFamily { .. } => "ValidationError",
            Self::MixedFamilies | Self::TlsListener(_) | Self::LoadBalancerWithoutIpv6 { .. } => {
                "InvalidConfigurationRequest"
            }
            Self::InUseByTargets { .. } | Self::InUseByEndpoints { .. } => "OperationNotPermitted",
            Self::OfferedToEndpoints(_) => "InvalidParameter",
        }
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::VpcWithoutRange(_)
            | Self::SubnetWithoutRange(_)
            | Self::ServiceWithoutIpv6(_)
            | Self::DnsRecords { .. }
            | Self::EndpointWithoutIpv6 { .. }
            | Self::NothingToReplace { .. }
            | Self::TargetFamily { .. }
            | Self::MixedFamilies
            | Self::TlsListener(_)
            | Self::LoadBalancerWithoutIpv6 { .. } => RefusalKind::Invalid,
            Self::VpcHasRange(_)
            | Self::InUseByTargets { .. }
            | Self::InUseByEndpoints { .. }
            | Self::OfferedToEndpoints(_) => RefusalKind::Conflict,
        }
    }

    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::VpcWithoutRange(vpc) => {
                format!("`privatelink vpc modify {vpc} --ipv6-cidr fd00:10::/56` gives it one")
            }
            Self::VpcHasRange(_) => "make another VPC for another range".to_owned(),
            Self::SubnetWithoutRange(_) => "use a subnet that was made with --ipv6-cidr".to_owned(),
            Self::ServiceWithoutIpv6(_) => {
                "each of the service's load balancers needs an IPv6 address; leave --ip-address-type out for IPv4"
                    .to_owned()
            }
            Self::DnsRecords { .. } => {
                "ask for the DNS record IP type ipv4, or for the IP address type dualstack with it".to_owned()
            }
            Self::EndpointWithoutIpv6 { .. } => "ask for the IP address type dualstack with it".to_owned(),
            Self::NothingToReplace { .. } => {
                "let the endpoint be ipv4, then dualstack again: it gets addresses in all its subnets that have IPv6"
                    .to_owned()
            }
            Self::TargetFamily { family: IpFamily::Ipv4, .. } => {
                "make a target group with --ip-address-type ipv6 for IPv6 addresses".to_owned()
            }
            Self::TargetFamily { family: IpFamily::Ipv6, .. } => {
                "make a target group with --ip-address-type ipv4 for IPv4 addresses".to_owned()
            }
            Self::TlsListener(_) => "use a TCP listener, or a target group of IPv4 addresses".to_owned(),
            Self::MixedFamilies => "use listeners of their own for IPv4 and IPv6 targets".to_owned(),
            Self::LoadBalancerWithoutIpv6 { load_balancer, .. } => {
                format!("`privatelink load-balancer modify {load_balancer} --ipv6-address IP` gives it an IPv6 address")
            }
            Self::InUseByTargets { .. } => "let its listeners lead to IPv4 targets first".to_owned(),
            Self::InUseByEndpoints { .. } | Self::OfferedToEndpoints(_) => {
                "the service's endpoints have to give their IPv6 addresses up first".to_owned()
            }
        }
    }
}

/// Whether endpoints of a service may have IPv6 addresses: all of its load balancers have some, and it is not to be
/// withheld (AWS's `SupportedIpAddressTypes` has ipv6).
pub fn offered(world: &State, service: &EndpointService) -> bool {
    !service.ipv4_only && possible(world, service)
}

/// Whether all load balancers of a service have IPv6 addresses.
pub fn possible(world: &State, service: &EndpointService) -> bool {
    let mut lbs = service.load_balancers.iter().filter_map(|id| world.load_balancers.get(id)).peekable();
    lbs.peek().is_some() && lbs.all(|lb| !lb.ipv6_addresses.is_empty())
}

/// The first IPv6 address of the VPC that nothing uses.
pub fn first_free(state: &State, vpc: &Vpc) -> Result<Ipv6Addr, ControlError> {
    let range = vpc.ipv6.ok_or_else(|| Ipv6Refusal::VpcWithoutRange(vpc.id.clone()))?.cidr.net();
    let used: BTreeSet<_> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
    let free = |address: &Ipv6Addr| !used.contains(&(*address).into());
    assignable_ipv6(range).find(free).ok_or_else(|| ControlError::NoFreeAddress(vpc.id.clone()))
}

/// The address `pinned` of `subnet`, or its first free one.
pub fn in_subnet(
    state: &State,
    vpc: &Vpc,
    subnet: &Subnet,
    pinned: Option<Ipv6Addr>,
) -> Result<Ipv6Addr, ControlError> {
    let range = subnet.ipv6_cidr.ok_or_else(|| Ipv6Refusal::SubnetWithoutRange(subnet.id.clone()))?.net();
    match pinned {
        Some(address) if !range.contains(&address) => {
            Err(ControlError::AddressOutsideSubnet { address: address.into(), cidr: range.into() })
        }
        Some(address) => address::check_free(state, vpc, address.into()).map(|()| address),
        None => {
            let used: BTreeSet<_> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
            let free = |address: &Ipv6Addr| !used.contains(&(*address).into());
            let found = assignable_ipv6(range).find(free);
            found.ok_or_else(|| ControlError::NoFreeAddressInSubnet(subnet.id.clone()))
        }
    }
}

/// One IPv6 address in each of these subnets, in order.
pub fn place(state: &State, vpc: &Vpc, placements: &[subnets::Placement]) -> Result<Vec<Ipv6Addr>, ControlError> {
    let one = |placement: &subnets::Placement| {
        in_subnet(state, vpc, subnets::find(state, &placement.subnet)?, placement.ipv6_address)
    };
    placements.iter().map(one).collect()
}
