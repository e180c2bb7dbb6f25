//! Which addresses of a VPC can be owned.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::ControlError;
use crate::model::{State, Vpc};

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

/// The first address of the VPC that nothing uses.
pub fn first_free(state: &State, vpc: &Vpc) -> Result<Ipv4Addr, ControlError> {
    let used: BTreeSet<Ipv4Addr> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
    vpc.cidr
        .assignable()
        .find(|address| !used.contains(address))
        .ok_or_else(|| ControlError::NoFreeAddress(vpc.id.clone()))
}
