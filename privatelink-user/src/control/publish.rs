//! Endpoint services straight to addresses: what is between, a load balancer with one listener and one target group, is
//! made with the service and goes with it.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Reference, address,
    endpoint_services::CreateEndpointService,
    listeners::CreateListener,
    load_balancers::CreateLoadBalancer,
    lookup, operation,
    target_groups::CreateTargetGroup,
    targets::{RegisterTargets, TargetHost, TargetSpec},
    view::EndpointServiceView,
};
use crate::model::{
    Change, ConsumerLists, EndpointService, InvalidValue, Listener, ListenerPorts, Principal, PrivateDnsName, Protocol,
    Region, ResourceName, State, TargetAddress, TargetGroup, TargetType, VpcId, serde_as_text,
};

/// An address to publish, as a person names it: `IP` (the service's port) or `IP:PORT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressSpec {
    pub ip: Ipv4Addr,
    pub port: Option<u16>,
}

impl AddressSpec {
    /// The address for a service whose port is `port`.
    pub fn resolve(self, port: u16) -> TargetAddress {
        TargetAddress { ip: self.ip.into(), port: self.port.unwrap_or(port) }
    }
}

impl From<TargetAddress> for TargetSpec {
    fn from(TargetAddress { ip, port }: TargetAddress) -> Self {
        Self { host: TargetHost::Ip(ip), port: Some(port) }
    }
}

impl fmt::Display for AddressSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.ip),
            None => write!(f, "{}", self.ip),
        }
    }
}

impl FromStr for AddressSpec {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (ip, port) = match text.split_once(':') {
            Some((ip, port)) => (ip.parse().ok(), port.parse().ok().filter(|port| *port != 0).map(Some)),
            None => (text.parse().ok(), Some(None)),
        };
        match (ip, port) {
            (Some(ip), Some(port)) => Ok(Self { ip, port }),
            (_, None) | (None, _) => Err(InvalidValue::new(
                "Target",
                text,
                "must be an IPv4 address, or an IPv4 address, a colon and a port between '1-65535'",
                "use an address like 10.0.1.10 or 10.0.1.10:8080",
            )),
        }
    }
}

serde_as_text!(AddressSpec);

/// Publishes addresses of a VPC. Idempotent for the same name, addresses and port.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishTargets {
    /// A short name for the service, which its parts have too. None: they are named by digits, and each call makes
    /// another.
    #[serde(default)]
    pub name: Option<ResourceName>,
    /// The VPC in which the addresses are meant.
    pub vpc: Reference,
    /// At least one; those without a port have `port`.
    pub targets: Vec<AddressSpec>,
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    /// Where endpoints listen. None: the first target's port.
    #[serde(default)]
    pub port: Option<u16>,
    /// The only source that the targets see; an address of the VPC. None: the first free one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub node_address: Option<Ipv4Addr>,
    /// Whether an endpoint waits for its acceptance.
    #[serde(default)]
    pub acceptance_required: bool,
    /// Who may make endpoints, besides the caller's own account.
    #[serde(default)]
    pub principals: Vec<Principal>,
    /// By which consumers may reach their endpoints, once it is verified.
    #[serde(default)]
    pub private_dns_name: Option<PrivateDnsName>,
    /// Whose endpoints are accepted or rejected without asking.
    #[serde(default)]
    pub consumers: ConsumerLists,
    /// Other regions in which endpoints may be made.
    #[serde(default)]
    pub supported_regions: BTreeSet<Region>,
}
operation!(PublishTargets -> EndpointServiceView);

fn tcp() -> Protocol {
    Protocol::Tcp
}

/// The port of endpoints, and the targets' addresses.
pub fn shape(targets: &[AddressSpec], port: Option<u16>) -> Result<(u16, BTreeSet<TargetAddress>), ControlError> {
    let first = targets.first().ok_or(ControlError::TargetMissing)?;
    let port = port.or(first.port).ok_or_else(|| {
        InvalidValue::new(
            "Target",
            first.to_string(),
            "has no port, and none is given for the service",
            format!("use {first}:443, or give the service's port"),
        )
    })?;
    Ok((port, targets.iter().map(|target| target.resolve(port)).collect()))
}

impl Mutation for PublishTargets {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointServiceView), ControlError> {
        let (port, targets) = shape(&self.targets, self.port)?;
        let ports = ListenerPorts::try_from(port)?;
        let Self {
            name,
            vpc,
            targets: _,
            protocol,
            port: _,
            node_address,
            acceptance_required,
            principals,
            private_dns_name,
            consumers,
            supported_regions,
        } = self;
        let vpc = lookup::vpc(state, vpc)?;
        let named = |service: &&EndpointService| service.alias.is_some() && service.alias == *name;
        if let Some(service) = state.endpoint_services.values().find(named) {
            let same = published(state, service).is_some_and(|found| {
                found.listener.port == ports
                    && found.listener.protocol == *protocol
                    && *found.vpc == vpc.id
                    && found.targets() == targets
            });
            return match (same, name) {
                (false, Some(alias)) => {
                    Err(ControlError::DuplicateServiceAlias { alias: alias.clone(), service: service.id.clone() })
                }
                (true, _) | (_, None) => {
                    Ok((Change::default(), EndpointServiceView::new(state, context.world, service)))
                }
            };
        }
        let part: ResourceName = match name {
            Some(name) => name.clone(),
            None => context.ids.hex(17).parse()?,
        };
        let node = match node_address {
            Some(address) => *address,
            None => address::first_free(state, vpc)?,
        };
        let vpc: Reference = (&vpc.id).into();
        let (reference, protocol) = (Reference::from(&part), *protocol);
        let mut parts = Parts::new(state);
        let group = CreateTargetGroup {
            name: part.clone(),
            vpc: vpc.clone(),
            target_type: TargetType::Ip,
            ip_address_type: Default::default(),
            protocol: protocol.into(),
            port: targets.first().map_or(port, |target| target.port),
            health_check: Default::default(),
            attributes: Default::default(),
        };
        parts.make(&group, context)?;
        let specs = targets.iter().map(|target| TargetSpec::from(*target)).collect();
        parts.make(&RegisterTargets { target_group: reference.clone(), targets: specs }, context)?;
        let lb = CreateLoadBalancer {
            kind: Default::default(),
            name: part,
            vpc,
            addresses: vec![node.into()],
            scheme: Default::default(),
            attributes: Default::default(),
            security_groups: Vec::new(),
        };
        let lb = parts.make(&lb, context)?;
        let listener = CreateListener {
            load_balancer: reference.clone(),
            protocol,
            port: ports,
            target_group: Some(reference.clone()),
            target_groups: Vec::new(),
            stickiness: false,
            certificate: None,
            more_certificates: Vec::new(),
            ssl_policy: None,
            alpn_policy: None,
            attributes: Default::default(),
        };
        parts.make(&listener, context)?;
        let service = CreateEndpointService {
            load_balancers: vec![reference],
            name: name.clone(),
            acceptance_required: *acceptance_required,
            principals: principals.clone(),
            private_dns_name: private_dns_name.clone(),
            consumers: consumers.clone(),
            ipv4_only: false,
            supported_regions: supported_regions.clone(),
        };
        let made = parts.make(&service, context)?;
        let Parts { mut state, mut change } = parts;
        if let Some(service) = state.endpoint_services.get_mut(&made.id) {
            service.owned_load_balancer = Some(lb.id);
            change = change.put(service.clone());
        }
        let service = state.endpoint_services.get(&made.id);
        let view = service.map_or(made, |service| EndpointServiceView::new(&state, context.world, service));
        Ok((change, view))
    }
}

/// What has been made so far, each part by the operation that a person would call.
pub struct Parts {
    pub state: State,
    pub change: Change,
}

impl Parts {
    /// Nothing yet, in `state`.
    pub fn new(state: &State) -> Self {
        Self { state: state.clone(), change: Change::default() }
    }

    /// Does `request` in the state after the parts so far.
    pub fn make<M: Mutation>(&mut self, request: &M, context: &mut Context<'_>) -> Result<M::Response, ControlError> {
        let (change, made) = request.decide(&self.state, context)?;
        self.state.apply(&change);
        self.change = std::mem::take(&mut self.change).then(change);
        Ok(made)
    }
}

/// What a service publishes without a load balancer of somebody's own.
pub struct Published<'a> {
    pub vpc: &'a VpcId,
    pub node_addresses: &'a [Ipv4Addr],
    pub listener: &'a Listener,
    pub group: &'a TargetGroup,
}

impl Published<'_> {
    /// The targets' addresses, without those that drain.
    pub fn targets(&self) -> BTreeSet<TargetAddress> {
        let targets = self.group.targets.values().filter(|target| target.draining_since.is_none());
        targets.map(|target| target.address).collect()
    }
}

/// What `service` publishes: none if it has no load balancer of its own, or somebody has taken that apart.
pub fn published<'a>(state: &'a State, service: &EndpointService) -> Option<Published<'a>> {
    let lb = state.load_balancers.get(service.owned_load_balancer.as_ref()?)?;
    let listener = state.listeners.values().find(|listener| listener.load_balancer == lb.id)?;
    let group = state.target_groups.get(listener.forward.groups().next()?)?;
    Some(Published { vpc: &lb.vpc, node_addresses: &lb.addresses, listener, group })
}

/// Takes out what was made with `service`: its load balancer, that one's listeners, and the target groups to which
/// nothing else leads.
pub fn unmade(state: &State, service: &EndpointService) -> Change {
    let Some(lb) = &service.owned_load_balancer else { return Change::default() };
    let (own, others): (Vec<&Listener>, Vec<&Listener>) =
        state.listeners.values().partition(|listener| listener.load_balancer == *lb);
    let groups: BTreeSet<_> = own.iter().flat_map(|listener| listener.forward.groups()).collect();
    let used = |group| others.iter().any(|listener| listener.forward.weights.contains_key(group));
    let change = own.iter().fold(Change::default(), |change, listener| change.remove(listener.id.clone()));
    let change = change.remove(lb.clone());
    groups.into_iter().filter(|group| !used(*group)).fold(change, |change, group| change.remove(group.clone()))
}
