//! VPCs, what is in them and what leads to them, as the API shows them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::vpc_name;
use crate::{
    control::{instances, subnets},
    model::{
        Hook, Instance, InstanceId, InstanceLabel, InstanceState, InterfaceName, NetworkInterface, NetworkInterfaceId,
        Owner, Port, ResourceName, RouteDestination, RouteState, RouteTable, RouteTableId, RouteTarget, SecurityGroup,
        SecurityGroupId, State, Subnet, SubnetCidr, SubnetId, SubnetIpv6Cidr, Vpc, VpcAttributes, VpcCidr, VpcId,
        VpcIndex, VpcIpv6, derived,
    },
    runtime::{HookInUse, PortStatus},
};

/// A VPC, with the ports that lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct VpcView {
    pub id: VpcId,
    pub owner: Owner,
    pub name: ResourceName,
    pub cidr: VpcCidr,
    #[schema(value_type = Option<String>)]
    pub gateway: Option<Ipv4Addr>,
    /// Its IPv6 range and router, if it has one.
    pub ipv6: Option<VpcIpv6>,
    pub index: VpcIndex,
    /// None: it carries no packets yet.
    pub ports: Vec<InterfaceName>,
    pub dns_support: bool,
    pub dns_hostnames: bool,
    /// The one that a fresh account has.
    pub is_default: bool,
    pub default_security_group: SecurityGroupId,
    pub main_route_table: RouteTableId,
    /// It lets everything pass.
    pub default_network_acl: String,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl VpcView {
    /// As `state` has it.
    pub fn new(state: &State, vpc: &Vpc) -> Self {
        let Vpc { id, owner, name, cidr, gateway, ipv6, index, attributes, created_at } = vpc.clone();
        let VpcAttributes { dns_support, dns_hostnames, is_default } = attributes;
        let ports = state.ports.values().filter(|port| port.vpc == id).map(|port| port.interface.clone()).collect();
        // Of a VPC that is being made, the state does not have them yet.
        let group =
            state.default_group(&id).map_or_else(|| SecurityGroup::default_of(vpc).id, |group| group.id.clone());
        Self {
            default_security_group: group,
            main_route_table: RouteTable::main_of(vpc).id,
            default_network_acl: derived::default_network_acl(&id),
            dns_support,
            dns_hostnames,
            is_default,
            id,
            owner,
            name,
            cidr,
            gateway,
            ipv6,
            index,
            ports,
            created_at,
        }
    }
}

/// An instance, with the names of what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InstanceView {
    pub id: InstanceId,
    pub name: ResourceName,
    pub vpc: VpcId,
    pub vpc_name: String,
    /// The subnet of the primary address.
    pub subnet: Option<SubnetId>,
    /// The primary one first.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Ipv4Addr>,
    pub state: InstanceState,
    pub security_groups: Vec<SecurityGroupId>,
    /// The groups' names, sorted.
    pub security_group_names: Vec<String>,
    /// The names of the target groups that it is a target of.
    pub target_groups: Vec<ResourceName>,
    pub image_id: Option<InstanceLabel>,
    pub instance_type: Option<InstanceLabel>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl InstanceView {
    /// As `state` has it.
    pub fn new(state: &State, instance: &Instance) -> Self {
        let Instance {
            id,
            name,
            vpc,
            address: _,
            further_addresses: _,
            state: instance_state,
            security_groups,
            image_id,
            instance_type,
            created_at,
        } = instance.clone();
        Self {
            vpc_name: vpc_name(state, &vpc),
            subnet: state.subnet_of_instance(instance).cloned(),
            addresses: instance.addresses().collect(),
            state: instance_state,
            security_group_names: instances::group_names(state, instance),
            security_groups: security_groups.into_iter().collect(),
            target_groups: instances::registered_in(state, &id).map(|group| group.name.clone()).collect(),
            id,
            name,
            vpc,
            image_id,
            instance_type,
            created_at,
        }
    }
}

/// A port as it is wanted and as it is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PortView {
    pub interface: InterfaceName,
    pub vpc: VpcId,
    pub vpc_name: String,
    /// What was asked for.
    pub hook: Hook,
    pub shared: bool,
    /// Where the datapath is attached; none while it is not.
    pub hook_in_use: Option<HookInUse>,
    /// The largest IP packet that the interface takes; larger ones for it are answered with "fragmentation needed".
    pub mtu: Option<u32>,
    /// Why that hook.
    pub reason: String,
    /// What is wrong.
    pub error: Option<String>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl PortView {
    /// `status` is none if the agent does not know the port yet.
    pub fn new(state: &State, port: &Port, status: Option<PortStatus>) -> Self {
        let Port { interface, vpc, hook, shared, created_at } = port.clone();
        let (hook_in_use, mtu, reason, error) = match status {
            Some(PortStatus { interface: _, hook, mtu, reason, error }) => (hook, mtu, reason, error),
            None => (None, None, String::new(), Some("not attached yet".to_owned())),
        };
        let vpc_name = vpc_name(state, &vpc);
        Self { vpc_name, interface, vpc, hook, shared, hook_in_use, mtu, reason, error, created_at }
    }
}

/// A route table, with its local route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RouteTableView {
    pub id: RouteTableId,
    pub vpc: VpcId,
    pub vpc_name: String,
    /// Whether it is for the subnets that have none of their own.
    pub main: bool,
    /// The VPC's own range, which every table leaves local.
    #[schema(value_type = Option<String>)]
    pub local: Option<Ipv4Net>,
    pub routes: Vec<RouteView>,
    pub associations: Vec<AssociationView>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RouteView {
    pub destination: RouteDestination,
    pub target: RouteTarget,
    pub state: RouteState,
}

/// For whom a route table is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AssociationView {
    /// `rtbassoc-…`.
    pub id: String,
    /// None: for the subnets that have none of their own.
    pub subnet: Option<SubnetId>,
}

impl RouteTableView {
    /// As `state` has it.
    pub fn new(state: &State, table: &RouteTable) -> Self {
        let RouteTable { id, vpc, routes, subnets, created_at } = table.clone();
        let route = |(destination, target)| {
            let state = state.route_state(&vpc, &target);
            RouteView { destination, target, state }
        };
        let main = table.is_main().then(|| AssociationView { id: table.main_association(), subnet: None });
        let associated = |subnet: SubnetId| AssociationView { id: table.association(&subnet), subnet: Some(subnet) };
        Self {
            vpc_name: vpc_name(state, &vpc),
            main: table.is_main(),
            local: state.vpcs.get(&vpc).map(|vpc| vpc.cidr.net()),
            routes: routes.into_iter().map(route).collect(),
            associations: main.into_iter().chain(subnets.into_iter().map(associated)).collect(),
            id,
            vpc,
            created_at,
        }
    }
}

/// A subnet, with how full it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SubnetView {
    pub id: SubnetId,
    pub vpc: VpcId,
    pub vpc_name: String,
    pub cidr: SubnetCidr,
    pub ipv6_cidr: Option<SubnetIpv6Cidr>,
    /// Such as `us-east-1a`.
    pub zone: String,
    /// One of those that a fresh account has.
    pub is_default: bool,
    /// Addresses that load balancers and endpoints can still have.
    pub free_addresses: usize,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl SubnetView {
    /// As `state` has it.
    pub fn new(state: &State, subnet: &Subnet) -> Self {
        let Subnet { id, vpc, cidr, ipv6_cidr, zone, is_default, public_ip_on_launch: _, created_at } = subnet.clone();
        let region = state.vpcs.get(&vpc).map(|vpc| &vpc.owner.region);
        Self {
            vpc_name: vpc_name(state, &vpc),
            zone: region.map_or_else(String::new, |region| zone.name(region)),
            free_addresses: subnets::free(state, subnet),
            id,
            vpc,
            cidr,
            ipv6_cidr,
            is_default,
            created_at,
        }
    }
}

/// A network interface of a load balancer, an endpoint or an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NetworkInterfaceView {
    pub id: NetworkInterfaceId,
    pub vpc: VpcId,
    pub vpc_name: String,
    /// None for an address that was chosen outside every subnet.
    pub subnet: Option<SubnetId>,
    /// The primary one.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The others of its owner in the same subnet.
    #[schema(value_type = Vec<String>)]
    pub further_addresses: Vec<IpAddr>,
    /// `network_load_balancer`, `vpc_endpoint` or `interface`.
    pub interface_type: String,
    /// The id or ARN of what has it.
    pub owned_by: String,
    pub description: String,
    pub security_groups: Vec<SecurityGroupId>,
}

impl NetworkInterfaceView {
    /// As `state` has it.
    pub fn new(state: &State, interface: &NetworkInterface<'_>) -> Self {
        let NetworkInterface { id, vpc, address, further_addresses, by, groups } = interface.clone();
        Self {
            vpc_name: vpc_name(state, vpc),
            subnet: state.subnet_of(vpc, address).map(|subnet| subnet.id.clone()),
            id,
            vpc: vpc.clone(),
            address,
            further_addresses,
            interface_type: by.interface_type().to_owned(),
            owned_by: by.as_str().to_owned(),
            description: by.description(),
            security_groups: groups.iter().cloned().collect(),
        }
    }
}
