//! Which addresses of a VPC can be owned.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::{ControlError, ipv6::Ipv6Refusal};
use crate::model::{LoadBalancer, State, Subnet, SubnetId, Vpc};

/// The VPC's range of the address's family.
pub fn range(vpc: &Vpc, address: IpAddr) -> Result<IpNet, ControlError> {
    match address {
        IpAddr::V4(_) => Ok(vpc.cidr.net().into()),
        IpAddr::V6(_) => match vpc.ipv6 {
            Some(ipv6) => Ok(ipv6.cidr.net().into()),
            None => Err(Ipv6Refusal::VpcWithoutRange(vpc.id.clone()).into()),
        },
    }
}

/// Refuses `address` unless it is a host address of the VPC.
pub fn check_inside(vpc: &Vpc, address: IpAddr) -> Result<(), ControlError> {
    let cidr = range(vpc, address)?;
    if !cidr.contains(&address) {
        return Err(ControlError::AddressOutsideCidr { address, cidr });
    }
    if !vpc.has_host(address) {
        return Err(ControlError::AddressReserved { address, cidr });
    }
    Ok(())
}

/// Refuses `address` unless it is a host address of the VPC that nothing uses.
pub fn check_free(state: &State, vpc: &Vpc, address: IpAddr) -> Result<(), ControlError> {
    check_inside(vpc, address)?;
    if let Some(subnet) = state.subnet_of(&vpc.id, address) {
        check_not_reserved(subnet, address)?;
    }
    match state.address_use(&vpc.id, address) {
        Some(by) => Err(ControlError::AddressInUse { address, by }),
        None => Ok(()),
    }
}

/// Refuses an address that `subnet` reserves.
pub fn check_not_reserved(subnet: &Subnet, address: IpAddr) -> Result<(), ControlError> {
    if subnet.reserves(address) {
        return Err(ControlError::AddressReservedInSubnet { address, cidr: subnet.range(address) });
    }
    Ok(())
}

/// The secondary node addresses of a load balancer in `vpc`: as many as its attributes say in each subnet in which it
/// has an address. It keeps those that it has there. Addresses of no subnet count as one subnet.
pub fn secondary(state: &State, vpc: &Vpc, lb: &LoadBalancer) -> Result<Vec<Ipv4Addr>, ControlError> {
    let mut used: BTreeSet<IpAddr> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
    used.extend(lb.nodes());
    let subnet = |address: Ipv4Addr| state.subnet_of(&vpc.id, address).map(|subnet| &subnet.id);
    let subnets: BTreeSet<Option<&SubnetId>> = lb.addresses.iter().map(|address| subnet(*address)).collect();
    let mut found = Vec::new();
    for id in subnets {
        let kept = lb.secondary_addresses.iter().copied().filter(|address| subnet(*address) == id);
        found.extend(kept);
        let there = found.iter().filter(|address| subnet(**address) == id).count();
        for _ in there..lb.attributes.secondary_ips as usize {
            let free = |address: &Ipv4Addr| !used.contains(&IpAddr::V4(*address)) && subnet(*address) == id;
            let address = match id.and_then(|id| state.subnets.get(id)) {
                Some(subnet) => subnet
                    .cidr
                    .assignable()
                    .find(free)
                    .ok_or_else(|| ControlError::NoFreeAddressInSubnet(subnet.id.clone()))?,
                None => vpc.cidr.assignable().find(free).ok_or_else(|| ControlError::NoFreeAddress(vpc.id.clone()))?,
            };
            used.insert(IpAddr::V4(address));
            found.push(address);
        }
    }
    Ok(found)
}

/// The first address of the VPC that nothing uses and no subnet reserves.
pub fn first_free(state: &State, vpc: &Vpc) -> Result<Ipv4Addr, ControlError> {
    let used: BTreeSet<IpAddr> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
    let reserved = |address: IpAddr| state.subnet_of(&vpc.id, address).is_some_and(|subnet| subnet.reserves(address));
    let free = |address: &Ipv4Addr| !used.contains(&IpAddr::V4(*address)) && !reserved(IpAddr::V4(*address));
    vpc.cidr.assignable().find(free).ok_or_else(|| ControlError::NoFreeAddress(vpc.id.clone()))
}
