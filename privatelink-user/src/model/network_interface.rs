//! Network interfaces: of a load balancer or an endpoint one a subnet, of an instance one an address. They follow from
//! their owners.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    Endpoint, EndpointId, Instance, LoadBalancerId, LoadBalancerKind, NetworkInterfaceId, SecurityGroupId, State,
    VpcId, derived,
};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInterface<'a> {
    pub id: NetworkInterfaceId,
    pub vpc: &'a VpcId,
    /// The primary one, from which the id follows: of IPv4, if it has one of IPv4.
    pub address: IpAddr,
    /// The others of its owner in the same subnet.
    pub further_addresses: Vec<IpAddr>,
    pub by: InterfaceOwner<'a>,
    pub groups: &'a BTreeSet<SecurityGroupId>,
}

impl NetworkInterface<'_> {
    /// All of its addresses, the primary one first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        std::iter::once(self.address).chain(self.further_addresses.iter().copied())
    }
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
            Self::LoadBalancer(id) => match id.kind() {
                LoadBalancerKind::Network => "network_load_balancer",
                LoadBalancerKind::Application => "interface",
            },
            Self::Endpoint(_) => "vpc_endpoint",
            Self::Instance(_, _) => "interface",
        }
    }

    /// As AWS describes the interface: `ELB net/<name>/<id>` (`app` of one of type application), `VPC Endpoint
    /// Interface <id>`, or nothing.
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
        let nodes = self.load_balancers.values().flat_map(move |lb| {
            let by = InterfaceOwner::LoadBalancer(&lb.id);
            self.one_a_subnet(by, &lb.vpc, &lb.security_groups.groups, lb.nodes().collect())
        });
        let endpoints = self.endpoints.values().flat_map(move |endpoint| self.interfaces_of(endpoint));
        let instances = self.instances.values().filter(|instance| instance.is_alive()).flat_map(move |instance| {
            instance.addresses().map(IpAddr::V4).enumerate().map(move |(number, address)| {
                let by = InterfaceOwner::Instance(instance, number);
                interface(by, &instance.vpc, &instance.security_groups, address)
            })
        });
        nodes.chain(endpoints).chain(instances)
    }

    /// The network interfaces of an endpoint.
    pub fn interfaces_of<'a>(&self, endpoint: &'a Endpoint) -> Vec<NetworkInterface<'a>> {
        let by = InterfaceOwner::Endpoint(&endpoint.id);
        let groups = &endpoint.security_groups.groups;
        self.one_a_subnet(by, &endpoint.vpc, groups, endpoint.all_addresses().collect())
    }

    /// Interfaces with these addresses: those of one subnet share one, an address in no subnet has its own.
    fn one_a_subnet<'a>(
        &self,
        by: InterfaceOwner<'a>,
        vpc: &'a VpcId,
        groups: &'a BTreeSet<SecurityGroupId>,
        addresses: Vec<IpAddr>,
    ) -> Vec<NetworkInterface<'a>> {
        if let [only] = addresses.as_slice() {
            return vec![interface(by, vpc, groups, *only)];
        }
        let mut found: Vec<(Option<_>, NetworkInterface<'a>)> = Vec::new();
        for address in addresses {
            let subnet = self.subnet_of(vpc, address).map(|subnet| &subnet.id);
            match found.iter_mut().find(|(of, _)| subnet.is_some() && *of == subnet) {
                Some((_, shared)) => shared.further_addresses.push(address),
                None => found.push((subnet, interface(by, vpc, groups, address))),
            }
        }
        found.into_iter().map(|(_, interface)| interface).collect()
    }
}

fn interface<'a>(
    by: InterfaceOwner<'a>,
    vpc: &'a VpcId,
    groups: &'a BTreeSet<SecurityGroupId>,
    address: IpAddr,
) -> NetworkInterface<'a> {
    let id = derived::interface_id(vpc, address, by.as_str());
    NetworkInterface { id, vpc, address, further_addresses: Vec::new(), by, groups }
}
