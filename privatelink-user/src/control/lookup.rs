//! From a name or id to the resource that it means.

use serde::{Deserialize, Serialize};

use super::ControlError;
use crate::{
    model::{
        Certificate, CertificateId, Endpoint, EndpointId, EndpointService, EndpointServiceId, Instance, InstanceId,
        Link, LinkId, Listener, ListenerId, ListenerPorts, LoadBalancer, LoadBalancerId, NetworkInterface, Port,
        RouteTable, RouteTableId, SecurityGroup, SecurityGroupId, ServiceName, State, TargetGroup, TargetGroupId, Vpc,
        VpcId,
    },
    tls::certificate::Facts,
};

/// A resource as a person names it: by id, ARN or name. What it may be depends on where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct Reference(String);

impl Reference {
    /// The reference's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: ToString> From<T> for Reference {
    fn from(text: T) -> Self {
        Self(text.to_string())
    }
}

/// A VPC by id or name.
pub fn vpc<'a>(state: &'a State, reference: &Reference) -> Result<&'a Vpc, ControlError> {
    let text = reference.as_str();
    text.parse::<VpcId>()
        .ok()
        .and_then(|id| state.vpcs.get(&id))
        .or_else(|| state.vpcs.values().find(|vpc| vpc.name.as_str() == text))
        .ok_or_else(|| ControlError::VpcNotFound(text.to_owned()))
}

/// A port by its interface.
pub fn port<'a>(state: &'a State, reference: &Reference) -> Result<&'a Port, ControlError> {
    let text = reference.as_str();
    let interface = text.parse()?;
    state.ports.get(&interface).ok_or_else(|| ControlError::PortNotFound(text.to_owned()))
}

/// A load balancer by ARN or name.
pub fn load_balancer<'a>(state: &'a State, reference: &Reference) -> Result<&'a LoadBalancer, ControlError> {
    let text = reference.as_str();
    text.parse::<LoadBalancerId>()
        .ok()
        .and_then(|id| state.load_balancers.get(&id))
        .or_else(|| state.load_balancers.values().find(|lb| lb.name.as_str() == text))
        .ok_or_else(|| ControlError::LoadBalancerNotFound(text.to_owned()))
}

/// A listener by ARN, or as `LOAD-BALANCER:PORT`.
pub fn listener<'a>(state: &'a State, reference: &Reference) -> Result<&'a Listener, ControlError> {
    let text = reference.as_str();
    let by_port = || {
        let (lb, port) = text.rsplit_once(':')?;
        let port: ListenerPorts = port.parse().ok()?;
        let lb = load_balancer(state, &lb.into()).ok()?;
        state.listeners.values().find(|listener| listener.port == port && listener.load_balancer == lb.id)
    };
    text.parse::<ListenerId>()
        .ok()
        .and_then(|id| state.listeners.get(&id))
        .or_else(by_port)
        .ok_or_else(|| ControlError::ListenerNotFound(text.to_owned()))
}

/// A certificate by ARN, or by a name that it alone is for.
pub fn certificate<'a>(state: &'a State, reference: &Reference) -> Result<&'a Certificate, ControlError> {
    let text = reference.as_str();
    let by_name = || {
        let name = text.to_ascii_lowercase();
        let mut found = state.certificates.values().filter(|certificate| {
            Facts::of_pem(certificate.certificate.as_bytes()).is_ok_and(|facts| facts.names.contains(&name))
        });
        found.next().filter(|_| found.next().is_none())
    };
    text.parse::<CertificateId>()
        .ok()
        .and_then(|id| state.certificates.get(&id))
        .or_else(by_name)
        .ok_or_else(|| ControlError::CertificateNotFound(text.to_owned()))
}

/// An instance by id, or by the name of one that is not terminated.
pub fn instance<'a>(state: &'a State, reference: &Reference) -> Result<&'a Instance, ControlError> {
    let text = reference.as_str();
    text.parse::<InstanceId>()
        .ok()
        .and_then(|id| state.instances.get(&id))
        .or_else(|| state.instances.values().find(|instance| instance.is_alive() && instance.name.as_str() == text))
        .ok_or_else(|| ControlError::InstanceNotFound(text.to_owned()))
}

/// A target group by ARN or name.
pub fn target_group<'a>(state: &'a State, reference: &Reference) -> Result<&'a TargetGroup, ControlError> {
    let text = reference.as_str();
    text.parse::<TargetGroupId>()
        .ok()
        .and_then(|id| state.target_groups.get(&id))
        .or_else(|| state.target_groups.values().find(|group| group.name.as_str() == text))
        .ok_or_else(|| ControlError::TargetGroupNotFound(text.to_owned()))
}

/// An endpoint service by id, service name or alias.
pub fn endpoint_service<'a>(state: &'a State, reference: &Reference) -> Result<&'a EndpointService, ControlError> {
    let text = reference.as_str();
    let by_name =
        |name: ServiceName| state.endpoint_services.get(&name.service()).filter(|service| service.service_name == name);
    text.parse::<EndpointServiceId>()
        .ok()
        .and_then(|id| state.endpoint_services.get(&id))
        .or_else(|| text.parse().ok().and_then(by_name))
        .or_else(|| {
            let named = |service: &&EndpointService| service.alias.as_ref().is_some_and(|alias| alias.as_str() == text);
            state.endpoint_services.values().find(named)
        })
        .ok_or_else(|| ControlError::EndpointServiceNotFound(text.to_owned()))
}

/// A security group by id, as `VPC/NAME`, or by a name that `vpc` has once; without a VPC, that all VPCs together have
/// once.
pub fn security_group<'a>(
    state: &'a State,
    reference: &Reference,
    vpc: Option<&VpcId>,
) -> Result<&'a SecurityGroup, ControlError> {
    let text = reference.as_str();
    let named = |name: &str, vpc: Option<&VpcId>| {
        let mut found = state
            .security_groups
            .values()
            .filter(|group| group.name.as_str() == name && vpc.is_none_or(|vpc| group.vpc == *vpc));
        found.next().filter(|_| found.next().is_none())
    };
    let in_vpc = || {
        let (vpc, name) = text.split_once('/')?;
        let vpc = self::vpc(state, &vpc.into()).ok()?;
        named(name, Some(&vpc.id))
    };
    text.parse::<SecurityGroupId>()
        .ok()
        .and_then(|id| state.security_groups.get(&id))
        .or_else(|| named(text, vpc))
        .or_else(in_vpc)
        .ok_or_else(|| ControlError::SecurityGroupNotFound(text.to_owned()))
}

/// A two-way link by id or name.
pub fn link<'a>(state: &'a State, reference: &Reference) -> Result<&'a Link, ControlError> {
    let text = reference.as_str();
    text.parse::<LinkId>()
        .ok()
        .and_then(|id| state.links.get(&id))
        .or_else(|| state.links.values().find(|link| link.name.as_str() == text))
        .ok_or_else(|| ControlError::LinkNotFound(text.to_owned()))
}

/// An endpoint by id, or as `VPC/ADDRESS`.
pub fn endpoint<'a>(state: &'a State, reference: &Reference) -> Result<&'a Endpoint, ControlError> {
    let text = reference.as_str();
    let by_address = || {
        let (vpc_reference, address) = text.rsplit_once('/')?;
        let address: std::net::IpAddr = address.parse().ok()?;
        let vpc = vpc(state, &vpc_reference.into()).ok()?;
        let has = |endpoint: &&Endpoint| endpoint.all_addresses().any(|own| own == address);
        state.endpoints.values().find(|endpoint| endpoint.vpc == vpc.id && has(endpoint))
    };
    text.parse::<EndpointId>()
        .ok()
        .and_then(|id| state.endpoints.get(&id))
        .or_else(by_address)
        .ok_or_else(|| ControlError::EndpointNotFound(text.to_owned()))
}

/// A route table by id, or a VPC's main one by the VPC's name or id.
pub fn route_table<'a>(state: &'a State, reference: &Reference) -> Result<&'a RouteTable, ControlError> {
    let text = reference.as_str();
    text.parse::<RouteTableId>()
        .ok()
        .and_then(|id| state.route_tables.get(&id))
        .or_else(|| vpc(state, reference).ok().and_then(|vpc| state.main_route_table(&vpc.id)))
        .ok_or_else(|| ControlError::RouteTableNotFound(text.to_owned()))
}

/// A network interface by id, or as `VPC/ADDRESS`.
pub fn network_interface<'a>(state: &'a State, reference: &Reference) -> Result<NetworkInterface<'a>, ControlError> {
    let text = reference.as_str();
    let place = text.rsplit_once('/').and_then(|(of, address)| {
        let address: std::net::IpAddr = address.parse().ok()?;
        vpc(state, &of.into()).ok().map(|vpc| (&vpc.id, address))
    });
    state
        .network_interfaces()
        .find(|found| {
            let at = |(vpc, address)| found.vpc == vpc && found.addresses().any(|own| own == address);
            found.id.as_str() == text || place.is_some_and(at)
        })
        .ok_or_else(|| ControlError::NetworkInterfaceNotFound(text.to_owned()))
}
