//! Which addresses of a VPC can be owned.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::ControlError;
use crate::model::{LoadBalancer, State, SubnetId, Vpc};

/// Refuses `address` unless it is a host address of the VPC.
pub fn check_inside(vpc: &Vpc, address: Ipv4Addr) -> Result<(), ControlError> {
    let cidr = vpc.cidr.net();
    if !cidr.contains(&address) {
        return Err(ControlError::AddressOutsideCidr { address, cidr });
    }
    if !vpc.cidr.has_host(address) {
        return Err(ControlError::AddressReserved { address, cidr });
    }
    Ok(())
}

/// Refuses `address` unless it is a host address of the VPC that nothing uses.
pub fn check_free(state: &State, vpc: &Vpc, address: Ipv4Addr) -> Result<(), ControlError> {
    check_inside(vpc, address)?;
    match state.address_use(&vpc.id, address) {
        Some(by) => Err(ControlError::AddressInUse { address, by }),
        None => Ok(()),
    }
}

/// The secondary node addresses of a load balancer in `vpc`: as many as its attributes say in each subnet in which it has an
/// address. It keeps those that it has there. Addresses of no subnet count as one subnet.
pub fn secondary(state: &State, vpc: &Vpc, lb: &LoadBalancer) -> Result<Vec<Ipv4Addr>, ControlError> {
    let mut used: BTreeSet<Ipv4Addr> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
    used.extend(lb.nodes());
    let subnet = |address: Ipv4Addr| state.subnet_of(&vpc.id, address).map(|subnet| &subnet.id);
    let subnets: BTreeSet<Option<&SubnetId>> = lb.addresses.iter().map(|address| subnet(*address)).collect();
    let mut found = Vec::new();
    for id in subnets {
        let kept = lb.secondary_addresses.iter().copied().filter(|address| subnet(*address) == id);
        found.extend(kept);
        let there = found.iter().filter(|address| subnet(**address) == id).count();
        for _ in there..lb.attributes.secondary_ips as usize {
            let free = |address: &Ipv4Addr| !used.contains(address) && subnet(*address) == id;
            let address = match id.and_then(|id| state.subnets.get(id)) {
                Some(subnet) => subnet
                    .cidr
                    .assignable()
                    .find(free)
                    .ok_or_else(|| ControlError::NoFreeAddressInSubnet(subnet.id.clone()))?,
                None => vpc.cidr.assignable().find(free).ok_or_else(|| ControlError::NoFreeAddress(vpc.id.clone()))?,
            };
            used.insert(address);
            found.push(address);
        }
    }
    Ok(found)
}

/// The first address of the VPC that nothing uses.
pub fn first_free(state: &State, vpc: &Vpc) -> Result<Ipv4Addr, ControlError> {
    let used: BTreeSet<Ipv4Addr> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
    vpc.cidr
        .assignable()
        .find(|address| !used.contains(address))
        .ok_or_else(|| ControlError::NoFreeAddress(vpc.id.clone()))
}
