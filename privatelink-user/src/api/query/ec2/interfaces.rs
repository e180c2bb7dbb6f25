//! Network interfaces.

use super::{one, security_groups::group_set, tag_set};
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    control::ControlError,
    model::{NetworkInterface, Owner, State, Subnet},
};

fn view(state: &State, owner: &Owner, subnet: Option<&Subnet>, interface: &NetworkInterface<'_>) -> Structure {
    let Owner { account, region } = owner;
    let NetworkInterface { id, vpc, address, by, groups } = interface;
    let private = Structure::new().text("primary", true).text("privateIpAddress", address);
    Structure::new()
        .maybe("availabilityZone", subnet.map(|subnet| subnet.zone.name(region)))
        .text("description", by.description())
        .list("groupSet", group_set(state, groups))
        .text("interfaceType", by.interface_type())
        .list("ipv6AddressesSet", [] as [Structure; 0])
        .text("networkInterfaceId", id)
        .text("ownerId", account)
        .text("privateIpAddress", address)
        .list("privateIpAddressesSet", [private])
        .text("requesterId", account)
        .text("requesterManaged", true)
        .text("sourceDestCheck", true)
        .text("status", "in-use")
        .maybe("subnetId", subnet.map(|subnet| &subnet.id))
        .list("tagSet", tag_set(&State::default(), id.as_str()))
        .text("vpcId", vpc)
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("NetworkInterfaceId"));
    let Owner { account, region } = call.owner();
    call.read(|state, _| {
        let all: Vec<NetworkInterface<'_>> = state.network_interfaces().collect();
        let known = |wanted: &&&str| all.iter().any(|interface| interface.id.as_str() == **wanted);
        if let Some(unknown) = ids.iter().find(|wanted| !known(wanted)) {
            return Err(ControlError::NetworkInterfaceNotFound((*unknown).to_owned()).into());
        }
        let mut found = Vec::new();
        for interface in &all {
            let subnet = state.subnet_of(interface.vpc, interface.address);
            let values = |name: &str| match name {
                "network-interface-id" => one(&interface.id),
                "vpc-id" => one(interface.vpc),
                "subnet-id" => Some(subnet.map(|subnet| subnet.id.to_string()).into_iter().collect()),
                "availability-zone" => Some(subnet.map(|s| s.zone.name(region)).into_iter().collect()),
                "group-id" => Some(interface.groups.iter().map(ToString::to_string).collect()),
                "private-ip-address" | "addresses.private-ip-address" => one(interface.address),
                "interface-type" => one(interface.by.interface_type()),
                "description" => one(interface.by.description()),
                "owner-id" => one(account),
                "requester-managed" => one(true),
                "status" => one("in-use"),
                _ => None,
            };
            let asked = ids.is_empty() || ids.contains(&interface.id.as_str());
            if filters.admit(state, interface.id.as_str(), values)? && asked {
                found.push((interface.id.to_string(), view(state, call.owner(), subnet, interface)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("networkInterfaceSet", items).maybe("nextToken", token))
    })
}
