//! Network interfaces: each address of a load balancer, an endpoint or an instance is one.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{one, security_groups::group_set, tag_set};
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    model::{Endpoint, Instance, LoadBalancer, Owner, SecurityGroupId, State, Subnet, VpcId, derived},
};

/// A network interface.
pub struct Interface<'a> {
    pub id: String,
    /// The id of the load balancer, endpoint or instance that owns it.
    pub by: &'a str,
    pub description: String,
    /// `network_load_balancer`, `vpc_endpoint` or `interface`.
    pub kind: &'static str,
    pub vpc: &'a VpcId,
    /// None for an address that was chosen outside every subnet.
    pub subnet: Option<&'a Subnet>,
    pub address: Ipv4Addr,
    pub groups: &'a BTreeSet<SecurityGroupId>,
    /// The instance that it belongs to, and its number there.
    pub attachment: Option<(&'a Instance, usize)>,
}

/// `ELB net/<name>/<id>`, as the interface of a load balancer is described.
fn described(lb: &LoadBalancer) -> String {
    let resource = lb.id.as_str().rsplit_once("loadbalancer/").map_or("", |(_, resource)| resource);
    format!("ELB {resource}")
}

/// The ids of an endpoint's interfaces.
pub fn of_endpoint(endpoint: &Endpoint) -> impl Iterator<Item = String> {
    endpoint.addresses().map(|address| derived::interface_id(&endpoint.vpc, address, endpoint.id.as_str()))
}

/// Every network interface of an owner.
pub fn all(state: &State) -> Vec<Interface<'_>> {
    let make = |by, description, kind, vpc, address, groups| Interface {
        id: derived::interface_id(vpc, address, by),
        by,
        description,
        kind,
        vpc,
        subnet: state.subnet_of(vpc, address),
        address,
        groups,
        attachment: None,
    };
    let nodes = state.load_balancers.values().flat_map(|lb| lb.addresses.iter().map(move |address| (lb, *address)));
    let nodes = nodes.map(|(lb, address)| {
        make(lb.id.as_str(), described(lb), "network_load_balancer", &lb.vpc, address, &lb.security_groups.groups)
    });
    let endpoints =
        state.endpoints.values().flat_map(|endpoint| endpoint.addresses().map(move |address| (endpoint, address))).map(
            |(endpoint, address)| {
                let description = format!("VPC Endpoint Interface {}", endpoint.id);
                make(
                    endpoint.id.as_str(),
                    description,
                    "vpc_endpoint",
                    &endpoint.vpc,
                    address,
                    &endpoint.security_groups.groups,
                )
            },
        );
    let instances = state.instances.values().filter(|instance| instance.is_alive());
    let instances = instances.flat_map(|instance| {
        instance.addresses().enumerate().map(move |(number, address)| {
            let of = (instance.id.as_str(), String::new(), "interface", &instance.vpc);
            let made = make(of.0, of.1, of.2, of.3, address, &instance.security_groups);
            Interface { attachment: Some((instance, number)), ..made }
        })
    });
    nodes.chain(endpoints).chain(instances).collect()
}

/// The attachment of the interface `id`, number `number` of its instance.
fn attachment(id: &str, instance: &Instance, number: usize) -> Structure {
    Structure::new()
        .time("attachTime", instance.created_at)
        .text("attachmentId", format!("eni-attach-{}", derived::hex(17, &["attachment", id])))
        .text("deleteOnTermination", true)
        .text("deviceIndex", number)
        .text("status", "attached")
}

fn private_addresses(address: Ipv4Addr) -> [Structure; 1] {
    [Structure::new().text("primary", true).text("privateIpAddress", address)]
}

/// The interface as its instance shows it.
pub fn of_instance(state: &State, owner: &Owner, interface: &Interface<'_>) -> Structure {
    let Interface { id, by: _, description, kind, vpc, subnet, address, groups, attachment: attached } = interface;
    let structure = Structure::new();
    let structure = match attached {
        Some((instance, number)) => structure.value("attachment", attachment(id, instance, *number)),
        None => structure,
    };
    structure
        .text("description", description)
        .list("groupSet", group_set(state, groups))
        .text("interfaceType", kind)
        .list("ipv6AddressesSet", [] as [Structure; 0])
        .text("networkInterfaceId", id)
        .text("ownerId", &owner.account)
        .text("privateIpAddress", address)
        .list("privateIpAddressesSet", private_addresses(*address))
        .text("sourceDestCheck", true)
        .text("status", "in-use")
        .maybe("subnetId", subnet.map(|subnet| &subnet.id))
        .text("vpcId", vpc)
}

fn view(state: &State, owner: &Owner, interface: &Interface<'_>) -> Structure {
    let Owner { account, region } = owner;
    let Interface { id, by: _, description, kind, vpc, subnet, address, groups, attachment: attached } = interface;
    let structure = Structure::new();
    let structure = match attached {
        Some((instance, number)) => {
            let attachment = attachment(id, instance, *number);
            let attachment = attachment.text("instanceId", &instance.id).text("instanceOwnerId", account);
            structure.value("attachment", attachment)
        }
        None => structure.text("requesterId", account),
    };
    structure
        .maybe("availabilityZone", subnet.map(|subnet| subnet.zone.name(region)))
        .text("description", description)
        .list("groupSet", group_set(state, groups))
        .text("interfaceType", kind)
        .list("ipv6AddressesSet", [] as [Structure; 0])
        .text("networkInterfaceId", id)
        .text("ownerId", account)
        .text("privateIpAddress", address)
        .list("privateIpAddressesSet", private_addresses(*address))
        .text("requesterManaged", attached.is_none())
        .text("sourceDestCheck", true)
        .text("status", "in-use")
        .maybe("subnetId", subnet.map(|subnet| &subnet.id))
        .list("tagSet", tag_set(&State::default(), id))
        .text("vpcId", vpc)
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("NetworkInterfaceId"));
    let Owner { account, region } = call.owner();
    call.read(|state, _| {
        let all = all(state);
        let known = |wanted: &&&str| all.iter().any(|interface| interface.id == **wanted);
        if let Some(unknown) = ids.iter().find(|wanted| !known(wanted)) {
            let message = format!("The networkInterface ID '{unknown}' does not exist");
            return Err(Refusal::coded("InvalidNetworkInterfaceID.NotFound", message));
        }
        let mut found = Vec::new();
        for interface in &all {
            let values = |name: &str| match name {
                "network-interface-id" => one(&interface.id),
                "vpc-id" => one(interface.vpc),
                "subnet-id" => Some(interface.subnet.map(|subnet| subnet.id.to_string()).into_iter().collect()),
                "availability-zone" => Some(interface.subnet.map(|s| s.zone.name(region)).into_iter().collect()),
                "group-id" => Some(interface.groups.iter().map(ToString::to_string).collect()),
                "private-ip-address" | "addresses.private-ip-address" => one(interface.address),
                "interface-type" => one(interface.kind),
                "description" => one(&interface.description),
                "owner-id" => one(account),
                "requester-managed" => one(interface.attachment.is_none()),
                "attachment.instance-id" => {
                    Some(interface.attachment.map(|(instance, _)| instance.id.to_string()).into_iter().collect())
                }
                "status" => one("in-use"),
                _ => None,
            };
            let asked = ids.is_empty() || ids.contains(&interface.id.as_str());
            if filters.admit(state, &interface.id, values)? && asked {
                found.push((interface.id.clone(), interface));
            }
        }
        let (items, token) = page.cut(found);
        let items = items.into_iter().map(|interface| view(state, call.owner(), interface));
        Ok(Structure::new().list("networkInterfaceSet", items).maybe("nextToken", token))
    })
}
