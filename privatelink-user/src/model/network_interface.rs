//! Network interfaces: each address of a load balancer, an endpoint or an instance is one. They follow from their owners.

use std::{collections::BTreeSet, net::IpAddr};

use super::{EndpointId, Instance, LoadBalancerId, NetworkInterfaceId, SecurityGroupId, State, VpcId, derived};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInterface<'a> {
    pub id: NetworkInterfaceId,
    pub vpc: &'a VpcId,
    pub address: IpAddr,
    pub by: InterfaceOwner<'a>,
    pub groups: &'a BTreeSet<SecurityGroupId>,
}

/// What has a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InterfaceOwner<'a> {
    LoadBalancer(&'a LoadBalancerId),
    Endpoint(&'a EndpointId),
    /// With the interface's number there.
    Instance(&'a Instance, usize),
}

impl<'a> InterfaceOwner<'a> {
    /// Its id or ARN.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::LoadBalancer(id) => id.as_str(),
            Self::Endpoint(id) => id.as_str(),
            Self::Instance(instance, _) => instance.id.as_str(),
        }
    }

    /// As EC2 names the kind of interface.
    pub fn interface_type(self) -> &'static str {
        match self {
            Self::LoadBalancer(_) => "network_load_balancer",
            Self::Endpoint(_) => "vpc_endpoint",
            Self::Instance(_, _) => "interface",
        }
    }

    /// As AWS describes the interface: `ELB net/<name>/<id>`, `VPC Endpoint Interface <id>`, or nothing.
    pub fn description(self) -> String {
        match self {
            Self::LoadBalancer(id) => format!("ELB {}", id.dimension()),
            Self::Endpoint(id) => format!("VPC Endpoint Interface {id}"),
            Self::Instance(_, _) => String::new(),
        }
    }
}

impl State {
    /// Every network interface.
    pub fn network_interfaces(&self) -> impl Iterator<Item = NetworkInterface<'_>> {
        let make = |by: InterfaceOwner<'_>, vpc, address| derived::interface_id(vpc, address, by.as_str());
        let nodes = self.load_balancers.values().flat_map(move |lb| {
            let by = InterfaceOwner::LoadBalancer(&lb.id);
            let groups = &lb.security_groups.groups;
            lb.nodes().map(move |address| {
                let id = make(by, &lb.vpc, address);
                NetworkInterface { id, vpc: &lb.vpc, address, by, groups }
            })
        });
        let endpoints = self.endpoints.values().flat_map(move |endpoint| {
            let by = InterfaceOwner::Endpoint(&endpoint.id);
            let groups = &endpoint.security_groups.groups;
            endpoint.all_addresses().map(move |address| {
                let id = make(by, &endpoint.vpc, address);
                NetworkInterface { id, vpc: &endpoint.vpc, address, by, groups }
            })
        });
        let instances = self.instances.values().filter(|instance| instance.is_alive()).flat_map(move |instance| {
            instance.addresses().map(IpAddr::V4).enumerate().map(move |(number, address)| {
                let by = InterfaceOwner::Instance(instance, number);
                let (vpc, groups) = (&instance.vpc, &instance.security_groups);
                NetworkInterface { id: make(by, vpc, address), vpc, address, by, groups }
            })
        });
        nodes.chain(endpoints).chain(instances)
    }
}
