//! Network interfaces.

use std::net::Ipv4Addr;

use super::{one, security_groups::group_set, tag_set};
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    control::ControlError,
    model::{
        EndpointState, Instance, InterfaceOwner, NetworkInterface, NetworkInterfaceId, Owner, State, by_family, derived,
    },
};

/// The instance that an interface belongs to, and its number there.
fn attached<'a>(interface: &NetworkInterface<'a>) -> Option<(&'a Instance, usize)> {
    match interface.by {
        InterfaceOwner::Instance(instance, number) => Some((instance, number)),
        InterfaceOwner::LoadBalancer(_) | InterfaceOwner::Endpoint(_) => None,
    }
}

fn attachment_id(id: &NetworkInterfaceId) -> String {
    format!("eni-attach-{}", derived::hex(17, &["attachment", id.as_str()]))
}

/// The attachment of the interface `id`, number `number` of its instance.
fn attachment(id: &NetworkInterfaceId, instance: &Instance, number: usize) -> Structure {
    Structure::new()
        .time("attachTime", instance.created_at)
        .text("attachmentId", attachment_id(id))
        .text("deleteOnTermination", true)
        .text("deviceIndex", number)
        .text("status", "attached")
}

/// `available` while nothing uses it: an endpoint that is not accepted. What waits for an interface waits for that.
fn status(state: &State, interface: &NetworkInterface<'_>) -> &'static str {
    let accepted = |id| state.endpoints.get(id).is_some_and(|found| found.state == EndpointState::Available);
    match interface.by {
        InterfaceOwner::Endpoint(endpoint) if !accepted(endpoint) => "available",
        InterfaceOwner::Endpoint(_) | InterfaceOwner::LoadBalancer(_) | InterfaceOwner::Instance(..) => "in-use",
    }
}

/// IPv4 addresses, the first of which is the primary one.
fn private_addresses(addresses: &[Ipv4Addr]) -> impl Iterator<Item = Structure> {
    let row = |(number, address)| Structure::new().text("primary", number == 0).text("privateIpAddress", address);
    addresses.iter().enumerate().map(row)
}

/// The interface as its instance shows it.
pub fn of_instance(state: &State, owner: &Owner, interface: &NetworkInterface<'_>) -> Structure {
    let NetworkInterface { id, vpc, address, further_addresses: _, by, groups } = interface;
    let subnet = state.subnet_of(vpc, *address);
    let (four, six) = by_family(interface.addresses());
    let structure = Structure::new();
    let structure = match attached(interface) {
        Some((instance, number)) => structure.value("attachment", attachment(id, instance, number)),
        None => structure,
    };
    structure
        .text("description", by.description())
        .list("groupSet", group_set(state, groups))
        .text("interfaceType", by.interface_type())
        .list("ipv6AddressesSet", six.iter().map(|address| Structure::new().text("ipv6Address", address)))
        .text("networkInterfaceId", id)
        .text("ownerId", &owner.account)
        .maybe("privateIpAddress", four.first())
        .list("privateIpAddressesSet", private_addresses(&four))
        .text("sourceDestCheck", true)
        .text("status", "in-use")
        .maybe("subnetId", subnet.map(|subnet| &subnet.id))
        .text("vpcId", vpc)
}

fn view(state: &State, owner: &Owner, interface: &NetworkInterface<'_>) -> Structure {
    let Owner { account, region } = owner;
    let NetworkInterface { id, vpc, address, further_addresses: _, by, groups } = interface;
    let subnet = state.subnet_of(vpc, *address);
    let (four, six) = by_family(interface.addresses());
    let structure = Structure::new();
    let structure = match attached(interface) {
        Some((instance, number)) => {
            let attachment = attachment(id, instance, number);
            let attachment = attachment.text("instanceId", &instance.id).text("instanceOwnerId", account);
            structure.value("attachment", attachment)
        }
        None => structure.text("requesterId", account),
    };
    structure
        .maybe("availabilityZone", subnet.map(|subnet| subnet.zone.name(region)))
        .text("description", by.description())
        .list("groupSet", group_set(state, groups))
        .text("interfaceType", by.interface_type())
        .list("ipv6AddressesSet", six.iter().map(|address| Structure::new().text("ipv6Address", address)))
        .text("networkInterfaceId", id)
        .text("ownerId", account)
        .maybe("privateIpAddress", four.first())
        .list("privateIpAddressesSet", private_addresses(&four))
        .text("requesterManaged", attached(interface).is_none())
        .text("sourceDestCheck", true)
        .text("status", status(state, interface))
        .maybe("subnetId", subnet.map(|subnet| &subnet.id))
        .list("tagSet", tag_set(&State::default(), id.as_str()))
        .text("vpcId", vpc)
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("NetworkInterfaceId"));
    // Nothing is managed by others here.
    scope.boolean("IncludeManagedResources")?;
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
            let (four, six) = by_family(interface.addresses());
            let requester = attached(interface).is_none().then_some(account);
            let attachment = |value: fn((&Instance, usize), &NetworkInterfaceId) -> String| {
                Some(attached(interface).map(|found| value(found, &interface.id)).into_iter().collect())
            };
            let values = |name: &str| match name {
                "network-interface-id" => one(&interface.id),
                "vpc-id" => one(interface.vpc),
                "subnet-id" => Some(subnet.map(|subnet| subnet.id.to_string()).into_iter().collect()),
                "availability-zone" => Some(subnet.map(|s| s.zone.name(region)).into_iter().collect()),
                "group-id" => Some(interface.groups.iter().map(ToString::to_string).collect()),
                "group-name" => {
                    let names = interface.groups.iter().filter_map(|id| state.security_groups.get(id));
                    Some(names.map(|group| group.name.to_string()).collect())
                }
                "private-ip-address" => Some(four.first().map(ToString::to_string).into_iter().collect()),
                "addresses.private-ip-address" => Some(four.iter().map(ToString::to_string).collect()),
                "addresses.primary" => {
                    Some(four.iter().enumerate().map(|(number, _)| (number == 0).to_string()).collect())
                }
                "ipv6-addresses.ipv6-address" => Some(six.iter().map(ToString::to_string).collect()),
                "source-dest-check" => one(true),
                "requester-id" => Some(requester.map(ToString::to_string).into_iter().collect()),
                "interface-type" => one(interface.by.interface_type()),
                "description" => one(interface.by.description()),
                "owner-id" => one(account),
                "requester-managed" => one(attached(interface).is_none()),
                "attachment.instance-id" => attachment(|(instance, _), _| instance.id.to_string()),
                "attachment.device-index" => attachment(|(_, number), _| number.to_string()),
                "attachment.status" => attachment(|_, _| "attached".to_owned()),
                "attachment.attachment-id" => attachment(|_, id| attachment_id(id)),
                "status" => one(status(state, interface)),
                _ => None,
            };
            let asked = ids.is_empty() || ids.contains(&interface.id.as_str());
            if filters.admit(state, interface.id.as_str(), values)? && asked {
                found.push((interface.id.to_string(), interface));
            }
        }
        let (items, token) = page.cut(found);
        let items = items.into_iter().map(|interface| view(state, call.owner(), interface));
        Ok(Structure::new().list("networkInterfaceSet", items).maybe("nextToken", token))
    })
}
