//! Endpoint services, endpoints and links as the API shows them.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{load_balancer_name, vpc_name};
use crate::{
    control::{
        connections::endpoints_of,
        publish::{self, Published},
        security_groups,
        status::{EndpointStatus, ServiceStatus},
    },
    model::{
        AccountId, Alias, ConsumerLists, DnsRecordIpType, Endpoint, EndpointId, EndpointService, EndpointServiceId,
        EndpointState, IpAddressType, Limits, Link, LinkId, LinkSide, LoadBalancerId, Owner, PayerResponsibility,
        PolicyDocument, Principal, PrivateDns, PrivateDnsName, Protocol, Region, ResourceName, SecurityGroupId,
        ServiceName, State, TargetAddress, VpcId, derived,
    },
};

/// An endpoint service, with the endpoints of all accounts that lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointServiceView {
    pub id: EndpointServiceId,
    pub owner: Owner,
    pub service_name: ServiceName,
    pub alias: Option<ResourceName>,
    pub load_balancers: Vec<LoadBalancerId>,
    pub load_balancer_names: Vec<String>,
    /// In which endpoints may be, such as `us-east-1a`: as its load balancers were when it was made or changed last.
    pub zones: Vec<String>,
    /// Other regions than its own in which endpoints may be made.
    pub supported_regions: Vec<Region>,
    /// Whether endpoints may have IPv4 addresses only, whatever its load balancers have.
    pub ipv4_only: bool,
    pub acceptance_required: bool,
    pub principals: Vec<Principal>,
    /// Whose endpoints are accepted or rejected without asking.
    pub consumers: ConsumerLists,
    /// What it publishes without a load balancer of somebody's own.
    pub published: Option<PublishedView>,
    /// The private DNS name and the TXT record that verifies it.
    pub private_dns: Option<PrivateDns>,
    /// Of each endpoint that has none of its own.
    #[serde(default)]
    pub limits: Limits,
    /// Who pays for new endpoints.
    pub payer: PayerResponsibility,
    pub connections: Vec<ConnectionView>,
    /// `Available` in the answer that makes it.
    pub state: ServiceStatus,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl EndpointServiceView {
    /// As `state`, its owner's part of `world`, has it.
    pub fn new(state: &State, world: &State, service: &EndpointService) -> Self {
        let view = |endpoint: &Endpoint| ConnectionView::new(service, endpoint);
        let connections = endpoints_of(state, world, service).map(view).collect();
        let EndpointService {
            id,
            owner,
            service_name,
            alias,
            load_balancers,
            zones,
            supported_regions,
            ipv4_only,
            acceptance_required,
            principals,
            consumers,
            owned_load_balancer: _,
            private_dns,
            limits,
            payer,
            created_at,
        } = service.clone();
        Self {
            published: publish::published(state, service).map(|published| PublishedView::new(state, &published)),
            consumers,
            load_balancer_names: load_balancers.iter().map(|lb| load_balancer_name(state, lb)).collect(),
            zones: zones.iter().map(|zone| zone.name(&owner.region)).collect(),
            supported_regions: supported_regions.into_iter().collect(),
            ipv4_only,
            id,
            owner,
            service_name,
            alias,
            load_balancers,
            acceptance_required,
            principals: principals.into_iter().collect(),
            private_dns,
            limits,
            payer,
            connections,
            state: ServiceStatus::Available,
            created_at,
        }
    }
}

/// Addresses that a service publishes without a load balancer of somebody's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PublishedView {
    pub vpc_name: String,
    /// Where endpoints listen.
    pub protocol: Protocol,
    pub port: u16,
    /// Those that drain are left out.
    pub targets: Vec<TargetAddress>,
    /// The only sources that the targets see.
    #[schema(value_type = Vec<String>)]
    pub node_addresses: Vec<Ipv4Addr>,
}

impl PublishedView {
    /// As `state` has it.
    pub fn new(state: &State, published: &Published<'_>) -> Self {
        let Published { vpc, node_addresses, listener, group: _ } = published;
        Self {
            vpc_name: vpc_name(state, vpc),
            protocol: listener.protocol,
            port: listener.port.first(),
            targets: published.targets().into_iter().collect(),
            node_addresses: node_addresses.to_vec(),
        }
    }
}

/// A two-way link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkView {
    pub id: LinkId,
    pub owner: Owner,
    pub name: ResourceName,
    pub sides: [LinkSideView; 2],
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// One VPC of a link, and how the other side is reached in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LinkSideView {
    pub vpc_name: String,
    /// By which the other side's targets are reached.
    #[schema(value_type = String)]
    pub address: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
    /// The other side's targets.
    pub reaches: Vec<TargetAddress>,
    /// Publishes this side's targets.
    pub service: EndpointServiceId,
    pub endpoint: EndpointId,
    pub state: EndpointStatus,
    /// The names that lead to the address.
    pub dns_names: Vec<String>,
}

impl LinkView {
    /// As `state` has it.
    pub fn new(state: &State, link: &Link) -> Self {
        let Link { id, owner, name, sides: [first, second], created_at } = link.clone();
        let side = |side: &LinkSide, other: &LinkSide| {
            let LinkSide { service, endpoint } = side.clone();
            let found = state.endpoints.get(&endpoint);
            let published = state.endpoint_services.get(&other.service).and_then(|at| publish::published(state, at));
            LinkSideView {
                vpc_name: found.map(|at| vpc_name(state, &at.vpc)).unwrap_or_default(),
                address: found.map_or(Ipv4Addr::UNSPECIFIED, |at| at.address),
                protocol: published.as_ref().map_or(Protocol::Tcp, |at| at.listener.protocol),
                port: published.as_ref().map_or(0, |at| at.listener.port.first()),
                reaches: published.map(|at| at.targets().into_iter().collect()).unwrap_or_default(),
                service,
                endpoint,
                state: found.map_or(EndpointState::Rejected, |at| at.state).into(),
                dns_names: found.map(|at| state.endpoint_names(at)).unwrap_or_default(),
            }
        };
        let sides = [side(&first, &second), side(&second, &first)];
        Self { id, owner, name, sides, created_at }
    }
}

/// A principal that may make endpoints to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PermissionView {
    /// `vpce-svc-perm-…`.
    pub id: String,
    pub service: EndpointServiceId,
    pub principal: Principal,
    /// `All`, `Account`, `User`, `Role`, `Service` or `OrganizationUnit`.
    pub principal_type: String,
}

impl PermissionView {
    /// Of `principal` on `service`.
    pub fn new(service: &EndpointService, principal: &Principal) -> Self {
        Self {
            id: derived::permission_id(&service.id, principal),
            service: service.id.clone(),
            principal: principal.clone(),
            principal_type: principal.kind().to_owned(),
        }
    }
}

/// An endpoint as the owner of its service sees it: whose it is and where it stands, and nothing of its network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ConnectionView {
    /// `vpce-con-…`.
    pub id: String,
    pub service: EndpointServiceId,
    pub endpoint: EndpointId,
    /// The consumer's account.
    pub account: AccountId,
    /// In the answer that changes it: where consent stands.
    pub state: EndpointStatus,
    /// Those that hold for it.
    pub limits: Limits,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl ConnectionView {
    /// Of `endpoint`, which leads to `service`.
    pub fn new(service: &EndpointService, endpoint: &Endpoint) -> Self {
        Self {
            id: derived::connection_id(&endpoint.service, &endpoint.id),
            service: endpoint.service.clone(),
            endpoint: endpoint.id.clone(),
            account: endpoint.owner.account.clone(),
            state: endpoint.state.into(),
            limits: endpoint.limits(service.limits),
            created_at: endpoint.created_at,
        }
    }
}

/// An endpoint, with the names of its VPC and service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointView {
    pub id: EndpointId,
    pub owner: Owner,
    pub service: EndpointServiceId,
    pub service_name: ServiceName,
    pub service_region: Region,
    pub service_alias: Option<ResourceName>,
    pub vpc: VpcId,
    pub vpc_name: String,
    /// The first of its addresses.
    #[schema(value_type = String)]
    pub address: Ipv4Addr,
    /// Of both families, IPv4 ones first.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    pub ip_address_type: IpAddressType,
    /// The records that its names have.
    pub dns_record_ip_type: DnsRecordIpType,
    /// Addresses and prefixes that hosts of the VPC route to it.
    pub aliases: BTreeSet<Alias>,
    /// The names that lead to it: regional, then one a zone.
    pub dns_names: Vec<String>,
    /// In the answer that makes or changes it: where consent stands.
    pub state: EndpointStatus,
    pub security_groups: Vec<SecurityGroupId>,
    /// The groups' names, sorted.
    pub security_group_names: Vec<String>,
    /// The name of the service's for which it answers in its VPC.
    pub private_dns: Option<PrivateDnsName>,
    /// Whether it is to answer for that name as soon as its acceptance and the name's verification allow it.
    pub private_dns_on_acceptance: bool,
    /// Kept and shown; it decides nothing.
    pub policy: PolicyDocument,
    pub payer: PayerResponsibility,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl EndpointView {
    /// As `state` has it.
    pub fn new(state: &State, endpoint: &Endpoint) -> Self {
        let Endpoint {
            id,
            owner,
            service,
            service_region: _,
            vpc,
            address,
            further_addresses: _,
            ipv6_addresses: _,
            aliases,
            dns_record_ip_type: _,
            state: endpoint_state,
            security_groups,
            private_dns,
            private_dns_on_acceptance,
            limits: _,
            policy,
            payer,
            created_at,
        } = endpoint.clone();
        let found = state.endpoint_services.get(&service);
        Self {
            service_name: endpoint.service_name(),
            service_region: endpoint.service_region().clone(),
            dns_names: state.endpoint_names(endpoint),
            service_alias: found.and_then(|service| service.alias.clone()),
            vpc_name: vpc_name(state, &vpc),
            id,
            owner,
            service,
            vpc,
            address,
            addresses: endpoint.all_addresses().collect(),
            ip_address_type: endpoint.ip_address_type(),
            dns_record_ip_type: endpoint.dns_record_ip_type(),
            aliases,
            state: endpoint_state.into(),
            private_dns,
            private_dns_on_acceptance,
            security_group_names: security_groups::names(state, &security_groups),
            security_groups: security_groups.groups.into_iter().collect(),
            policy: policy.unwrap_or_default(),
            payer,
            created_at,
        }
    }
}
