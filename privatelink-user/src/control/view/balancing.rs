//! Load balancers, listeners and target groups as the API shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{application_listener_name, listener_name, vpc_name};
use crate::{
    control::{
        security_groups,
        status::{Installed, LoadBalancerStatus},
    },
    model::{
        AttributeMap, CertificateId, DnsTarget, EndpointServiceId, Forward, GroupProtocol, HealthCheck, InstanceId,
        IpAddressType, IpFamily, Listener, ListenerAttributes, ListenerId, ListenerPorts, LoadBalancer, LoadBalancerId,
        Protocol, ResourceName, SecurityGroupId, State, Target, TargetAddress, TargetGroup, TargetGroupId, TargetType,
        TlsSettings, VpcId, Weight,
    },
    runtime::NextHop,
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy},
};

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
