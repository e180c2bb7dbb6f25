//! Network interfaces: each address of a load balancer or an endpoint is one.

use std::{collections::BTreeSet, net::Ipv4Addr};

use super::{one, security_groups::group_set, tag_set};
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    model::{Endpoint, LoadBalancer, Owner, SecurityGroupId, State, Subnet, VpcId, derived},
};

/// A network interface.
pub struct Interface<'a> {
    pub id: String,
    pub description: String,
    /// `network_load_balancer` or `vpc_endpoint`.
    pub kind: &'static str,
    pub vpc: &'a VpcId,
    /// None for an address that was chosen outside every subnet.
    pub subnet: Option<&'a Subnet>,
    pub address: Ipv4Addr,
    pub groups: &'a BTreeSet<SecurityGroupId>,
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
    let make = |by: &str, description, kind, vpc, address, groups| Interface {
        id: derived::interface_id(vpc, address, by),
        description,
        kind,
        vpc,
        subnet: state.subnet_of(vpc, address),
        address,
        groups,
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
    nodes.chain(endpoints).collect()
}

fn view(state: &State, owner: &Owner, interface: &Interface<'_>) -> Structure {
    let Owner { account, region } = owner;
    let Interface { id, description, kind, vpc, subnet, address, groups } = interface;
    let private = Structure::new().text("primary", true).text("privateIpAddress", address);
    Structure::new()
        .maybe("availabilityZone", subnet.map(|subnet| subnet.zone.name(region)))
        .text("description", description)
        .list("groupSet", group_set(state, groups))
        .text("interfaceType", kind)
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
                "requester-managed" => one(true),
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
