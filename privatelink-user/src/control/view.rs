//! Resources as the API shows them: the record, with the names of what it refers to.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    connections::endpoints_of,
    instances,
    publish::{self, Published},
    security_groups,
    status::{EndpointStatus, Installed, LoadBalancerStatus, ServiceStatus},
    subnets,
};
use crate::{
    model::{
        AccountId, Alias, ApplicationListener, AttributeMap, Certificate, CertificateId, ConsumerLists, Direction,
        DnsRecordIpType, DnsTarget, Endpoint, EndpointId, EndpointService, EndpointServiceId, EndpointState, Forward,
        GroupProtocol, HealthCheck, Hook, Instance, InstanceId, InstanceLabel, InstanceState, InterfaceName,
        IpAddressType, IpFamily, Limits, Link, LinkId, LinkSide, Listener, ListenerAttributes, ListenerId,
        ListenerPorts, LoadBalancer, LoadBalancerId, NetworkInterface, NetworkInterfaceId, Owner, PayerResponsibility,
        Peer, PolicyDocument, Port, Principal, PrivateDns, PrivateDnsName, Protocol, Region, ResourceName,
        RouteDestination, RouteState, RouteTable, RouteTableId, RouteTarget, SecurityGroup, SecurityGroupId,
        SecurityGroupName, SecurityGroupRule, SecurityGroupRuleId, SecurityGroupText, ServiceName, State, Subnet,
        SubnetCidr, SubnetId, SubnetIpv6Cidr, Target, TargetAddress, TargetGroup, TargetGroupId, TargetType,
        TlsSettings, Traffic, Vpc, VpcAttributes, VpcCidr, VpcId, VpcIndex, VpcIpv6, Weight, derived,
    },
    runtime::{HookInUse, NextHop, PortStatus},
    tls::{
        alpn::AlpnPolicy,
        certificate::{CertificateError, Facts},
        policy::ListenerPolicy,
    },
};

/// The name of a VPC; its id if there is none.
pub fn vpc_name(state: &State, vpc: &VpcId) -> String {
    state.vpcs.get(vpc).map_or_else(|| vpc.to_string(), |vpc| vpc.name.to_string())
}

fn load_balancer_name(state: &State, id: &LoadBalancerId) -> String {
    state.load_balancers.get(id).map_or_else(|| id.to_string(), |lb| lb.name.to_string())
}

/// The name of a security group; its id if there is none.
pub fn security_group_name(state: &State, id: &SecurityGroupId) -> String {
    state.security_groups.get(id).map_or_else(|| id.to_string(), |group| group.name.to_string())
}

/// A security group, with what carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupView {
    pub id: SecurityGroupId,
    pub name: SecurityGroupName,
    pub description: SecurityGroupText,
    pub vpc: VpcId,
    pub vpc_name: String,
    pub ingress: Vec<SecurityGroupRuleView>,
    pub egress: Vec<SecurityGroupRuleView>,
    /// Load balancers and endpoints that carry it, each in words.
    pub carried_by: Vec<String>,
    /// Whether open flows that the rules do not allow end.
    pub applies_to_established: bool,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// A rule of a security group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SecurityGroupRuleView {
    pub id: SecurityGroupRuleId,
    pub traffic: Traffic,
    pub peer: Peer,
    /// The peer's name, if it is a group.
    pub peer_name: Option<String>,
    pub description: Option<SecurityGroupText>,
}

impl SecurityGroupView {
    /// As `state` has it.
    pub fn new(state: &State, group: &SecurityGroup) -> Self {
        let SecurityGroup { id, name, description, vpc, rules: _, applies_to_established, created_at } = group.clone();
        let rules = |direction| {
            let mut rules: Vec<_> = group.rules(direction).collect();
            rules.sort_by_key(|(_, rule)| (rule.traffic, rule.peer.clone()));
            let view = |(id, rule): (&SecurityGroupRuleId, &SecurityGroupRule)| SecurityGroupRuleView {
                id: id.clone(),
                traffic: rule.traffic,
                peer: rule.peer.clone(),
                peer_name: match &rule.peer {
                    Peer::Cidr(_) | Peer::PrefixList(_) => None,
                    Peer::Group(peer) => Some(security_group_name(state, peer)),
                },
                description: rule.description.clone(),
            };
            rules.into_iter().map(view).collect()
        };
        Self {
            vpc_name: vpc_name(state, &vpc),
            ingress: rules(Direction::Ingress),
            egress: rules(Direction::Egress),
            carried_by: security_groups::carriers(state, &id),
            id,
            name,
            description,
            vpc,
            applies_to_established,
            created_at,
        }
    }
}

/// A certificate, by what it says of itself. Its private key is in no view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CertificateView {
    pub id: CertificateId,
    /// The first name that it is for.
    pub domain_name: String,
    /// The names that it is for.
    pub names: Vec<String>,
    pub subject: String,
    pub issuer: String,
    /// Hexadecimal bytes with colons.
    pub serial: String,
    /// As ACM names it, such as `EC_prime256v1`.
    pub key_algorithm: String,
    /// As ACM names it, such as `SHA256WITHECDSA`.
    pub signature_algorithm: String,
    #[schema(value_type = String)]
    pub not_before: Timestamp,
    #[schema(value_type = String)]
    pub not_after: Timestamp,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When its present text was imported.
    #[schema(value_type = String)]
    pub imported_at: Timestamp,
    /// The listeners that have it.
    pub in_use_by: Vec<ListenerId>,
}

impl CertificateView {
    /// As `certificate` says.
    ///
    /// # Errors
    ///
    /// If its text is none.
    pub fn new(state: &State, certificate: &Certificate) -> Result<Self, CertificateError> {
        let Certificate { id, certificate, chain: _, private_key: _, created_at, imported_at } = certificate;
        let Facts { subject, issuer, serial, names, not_before, not_after, key, signature } =
            Facts::of_pem(certificate.as_bytes())?;
        Ok(Self {
            id: id.clone(),
            domain_name: names.first().cloned().unwrap_or_else(|| subject.clone()),
            names,
            subject,
            issuer,
            serial,
            key_algorithm: key.to_string(),
            signature_algorithm: signature.name.to_owned(),
            not_before,
            not_after,
            created_at: *created_at,
            imported_at: *imported_at,
            in_use_by: state.listeners_with(id).map(|listener| listener.id.clone()).collect(),
        })
    }
}

/// A listener as a person names it: `LOAD-BALANCER:PORT`.
pub fn listener_name(state: &State, listener: &Listener) -> String {
    format!("{}:{}", load_balancer_name(state, &listener.load_balancer), listener.port)
}

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

/// A load balancer, with its listeners and the service that it publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LoadBalancerView {
    pub id: LoadBalancerId,
    pub name: ResourceName,
    pub vpc: VpcId,
    pub vpc_name: String,
    /// Of both families, IPv4 ones first.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    pub ip_address_type: IpAddressType,
    /// Further node addresses, which targets see and no client connects to.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub secondary_addresses: Vec<Ipv4Addr>,
    pub attributes: BTreeMap<String, String>,
    /// The name that leads to it.
    pub dns_name: String,
    pub security_groups: Vec<SecurityGroupId>,
    /// The groups' names, sorted.
    pub security_group_names: Vec<String>,
    /// Whether the inbound rules also filter what comes through endpoints.
    pub enforce_on_private_link: bool,
    pub listeners: Vec<ListenerView>,
    /// The endpoint service that it serves.
    pub endpoint_service: Option<EndpointServiceId>,
    /// `provisioning` in the answer that makes it: the datapath comes after.
    pub state: LoadBalancerStatus,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl LoadBalancerView {
    /// As `state` has it.
    pub fn new(state: &State, lb: &LoadBalancer) -> Self {
        let LoadBalancer {
            id,
            name,
            vpc,
            addresses: _,
            ipv6_addresses: _,
            secondary_addresses,
            scheme: _,
            created_at,
            security_groups,
            enforce_on_private_link,
            attributes,
        } = lb.clone();
        let attributes = entry_map(attributes.entries_of(id.kind()));
        let listeners = state
            .listeners
            .values()
            .filter(|listener| listener.load_balancer == id)
            .map(|listener| ListenerView::new(state, listener))
            .collect();
        let endpoint_service = state
            .endpoint_services
            .values()
            .find(|service| service.load_balancers.contains(&id))
            .map(|service| service.id.clone());
        Self {
            vpc_name: vpc_name(state, &vpc),
            dns_name: state.service_domain.load_balancer(&id),
            security_group_names: security_groups::names(state, &security_groups),
            security_groups: security_groups.groups.into_iter().collect(),
            id,
            name,
            vpc,
            addresses: lb.client_facing().collect(),
            ip_address_type: lb.ip_address_type(),
            secondary_addresses,
            attributes,
            enforce_on_private_link,
            listeners,
            endpoint_service,
            state: LoadBalancerStatus::new(&Installed::default(), lb),
            created_at,
        }
    }
}

/// A listener, with the names of what it joins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ListenerView {
    pub id: ListenerId,
    /// `LOAD-BALANCER:PORT`.
    pub name: String,
    pub load_balancer: LoadBalancerId,
    pub protocol: Protocol,
    pub port: ListenerPorts,
    /// The only target group; none if there are several.
    pub target_group: Option<TargetGroupId>,
    /// Its name; of several, each with its weight.
    pub target_group_name: String,
    /// Every target group and its weight.
    pub target_groups: BTreeMap<TargetGroupId, Weight>,
    /// Whether later connections of a client stay in the target group of its earlier ones.
    pub stickiness: bool,
    /// Of a TLS listener.
    pub tls: Option<TlsView>,
    pub attributes: BTreeMap<String, String>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// What a TLS listener shows to its clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TlsView {
    /// Shown to clients that name no server, or one that no other certificate is for.
    pub certificate: CertificateId,
    /// Shown by server name.
    pub more_certificates: Vec<CertificateId>,
    pub ssl_policy: ListenerPolicy,
    pub alpn_policy: AlpnPolicy,
}

impl TlsView {
    fn new(settings: TlsSettings) -> Self {
        let TlsSettings { certificate, more, policy, alpn } = settings;
        Self { certificate, more_certificates: more.into_iter().collect(), ssl_policy: policy, alpn_policy: alpn }
    }
}

impl ListenerView {
    /// As `state` has it.
    pub fn new(state: &State, listener: &Listener) -> Self {
        let name = listener_name(state, listener);
        let Listener { id, load_balancer, protocol, port, forward, tls, attributes, created_at } = listener.clone();
        let Forward { weights, stickiness } = forward;
        let group_name = |id: &TargetGroupId| {
            state.target_groups.get(id).map_or_else(|| id.to_string(), |group| group.name.to_string())
        };
        let mut weighted: Vec<String> =
            weights.iter().map(|(id, weight)| format!("{}={weight}", group_name(id))).collect();
        weighted.sort();
        let target_group = weights.keys().next().filter(|_| weights.len() == 1).cloned();
        let target_group_name = target_group.as_ref().map_or_else(|| weighted.join(", "), group_name);
        let mut attributes = attribute_map(&attributes);
        attributes.retain(|key, _| ListenerAttributes::applies(key, protocol));
        Self {
            id,
            name,
            load_balancer,
            protocol,
            port,
            target_group,
            target_group_name,
            target_groups: weights,
            stickiness,
            tls: tls.map(TlsView::new),
            attributes,
            created_at,
        }
    }
}

/// `LOAD-BALANCER:PORT` of a listener of a load balancer of type application.
pub fn application_listener_name(state: &State, listener: &ApplicationListener) -> String {
    format!("{}:{}", load_balancer_name(state, &listener.load_balancer), listener.port)
}

fn attribute_map<T: AttributeMap>(attributes: &T) -> BTreeMap<String, String> {
    entry_map(attributes.entries())
}

fn entry_map(entries: Vec<(&'static str, String)>) -> BTreeMap<String, String> {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// A target group, with its targets and the listeners that lead to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetGroupView {
    pub id: TargetGroupId,
    pub name: ResourceName,
    pub vpc: VpcId,
    pub vpc_name: String,
    #[serde(default)]
    pub target_type: TargetType,
    /// The family of its targets.
    #[serde(default)]
    pub ip_address_type: IpFamily,
    pub protocol: GroupProtocol,
    pub port: u16,
    pub health_check: HealthCheck,
    pub attributes: BTreeMap<String, String>,
    /// The only target of a group of target type `alb`.
    pub load_balancer: Option<LoadBalancerId>,
    pub targets: Vec<Target>,
    /// Names whose addresses are targets.
    pub dns_targets: BTreeSet<DnsTarget>,
    /// The listeners that lead to it, each as `LOAD-BALANCER:PORT`.
    pub listeners: Vec<String>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

impl TargetGroupView {
    /// As `state` has it.
    pub fn new(state: &State, group: &TargetGroup) -> Self {
        let TargetGroup {
            id,
            name,
            vpc,
            target_type,
            ip_address_type,
            protocol,
            port,
            health_check,
            attributes,
            dns_targets,
            load_balancer,
            targets,
            created_at,
        } = group.clone();
        let listeners = state
            .listeners
            .values()
            .filter(|listener| listener.forward.weights.contains_key(&id))
            .map(|listener| listener_name(state, listener))
            .chain(state.requests_lead_to(&id).map(|listener| application_listener_name(state, listener)))
            .collect();
        Self {
            vpc_name: vpc_name(state, &vpc),
            id,
            name,
            vpc,
            target_type,
            ip_address_type,
            protocol,
            port,
            health_check,
            attributes: entry_map(attributes.entries_of(target_type, protocol)),
            load_balancer: load_balancer.map(|registered| registered.id),
            targets: targets.into_values().collect(),
            dns_targets,
            listeners,
            created_at,
        }
    }
}

/// A target's health, with the texts of the Network Load Balancer's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetHealthView {
    pub address: TargetAddress,
    /// The instance that it is, in a group of target type `instance`.
    pub instance: Option<InstanceId>,
    /// The load balancer that it is, in a group of target type `alb`; the address is the first of that.
    #[serde(default)]
    pub load_balancer: Option<LoadBalancerId>,
    pub health_check_port: u16,
    /// `unavailable`, `initial`, `healthy`, `unhealthy`, `unhealthy.draining`, `unused` or `draining`.
    pub state: String,
    pub reason: Option<String>,
    pub description: Option<String>,
    /// None for a target that is not registered.
    pub next_hop: Option<NextHop>,
}

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
