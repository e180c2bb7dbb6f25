//! Which addresses of a VPC can be owned.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::{ControlError, ipv6::Ipv6Refusal};
use crate::model::{State, Vpc};

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
    match state.address_use(&vpc.id, address) {
        Some(by) => Err(ControlError::AddressInUse { address, by }),
        None => Ok(()),
    }
}

/// The first address of the VPC that nothing uses.
pub fn first_free(state: &State, vpc: &Vpc) -> Result<Ipv4Addr, ControlError> {
    let used: BTreeSet<IpAddr> = state.address_uses(&vpc.id).map(|(address, _)| address).collect();
    vpc.cidr
        .assignable()
        .find(|address| !used.contains(&IpAddr::V4(*address)))
        .ok_or_else(|| ControlError::NoFreeAddress(vpc.id.clone()))
}
