//! Listeners.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference,
    application::ApplicationRefusal,
    ipv6::Ipv6Refusal,
    listener_tls::{self, TlsChoice},
    lookup, operation, regions, sorted,
    view::ListenerView,
};
use crate::{
    model::{
        AttributeMap, Change, Forward, InvalidValue, IpFamily, Listener, ListenerAttributes, ListenerId, ListenerPorts,
        LoadBalancer, Protocol, State, TargetGroup, TargetGroupId, TargetType, Weight, serde_as_text,
    },
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy},
};

/// Makes a listener. Idempotent.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateListener {
    pub load_balancer: Reference,
    pub protocol: Protocol,
    /// One port, a range like `1024-2047`, or `all`: of several, targets get the port that the client has asked for.
    pub port: ListenerPorts,
    /// One group; or, if several are given, their weights.
    #[serde(default)]
    pub target_group: Option<Reference>,
    #[serde(default)]
    pub target_groups: Vec<TargetGroupWeight>,
    /// Whether later connections of a client stay in the target group of its earlier ones.
    #[serde(default)]
    pub stickiness: bool,
    /// Of a TLS listener: what it shows to clients that name no server, or one that no other certificate is for.
    #[serde(default)]
    pub certificate: Option<Reference>,
    /// What it shows by server name.
    #[serde(default)]
    pub more_certificates: Vec<Reference>,
    /// Of a TLS listener; none: the default one.
    #[serde(default)]
    pub ssl_policy: Option<ListenerPolicy>,
    /// Of a TLS listener; none: no ALPN.
    #[serde(default)]
    pub alpn_policy: Option<AlpnPolicy>,
    /// By key; those that are not given have their default.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
operation!(CreateListener -> ListenerView);

impl Mutation for CreateListener {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, ListenerView), ControlError> {
        let Self {
            load_balancer,
            protocol,
            port,
            target_group,
            target_groups,
            stickiness,
            certificate,
            more_certificates,
            ssl_policy,
            alpn_policy,
            attributes,
        } = self;
        let lb = lookup::load_balancer(state, load_balancer)?;
        super::load_balancers::check_served(&lb.id)?;
        let wanted =
            resolve(state, lb, *protocol, target_group.as_ref(), target_groups)?.ok_or(ControlError::ForwardMissing)?;
        let forward = checked(state, *protocol, Forward { weights: wanted, stickiness: *stickiness })?;
        let choice = TlsChoice {
            certificate: certificate.as_ref(),
            more_certificates: Some(more_certificates),
            ssl_policy: *ssl_policy,
            alpn_policy: *alpn_policy,
        };
        let tls = choice.settings(state, *protocol, None)?;
        if tls.is_some() && port.is_range() {
            return Err(port.not_one("of a TLS listener must be one").into());
        }
        let attributes = listener_attributes(ListenerAttributes::default(), *protocol, attributes)?;
        let on_port = |listener: &&Listener| listener.port.overlaps(*port) && listener.load_balancer == lb.id;
        if let Some(listener) = state.listeners.values().find(on_port) {
            let same = listener.port == *port
                && (listener.protocol, &listener.forward, &listener.tls) == (*protocol, &forward, &tls)
                && listener.attributes == attributes;
            return if same {
                Ok((Change::default(), ListenerView::new(state, listener)))
            } else {
                Err(ControlError::DuplicateListener { load_balancer: lb.id.clone(), port: listener.port })
            };
        }
        let listener = Listener {
            id: ListenerId::generate(context.region, context.account, &lb.id, context.ids),
            load_balancer: lb.id.clone(),
            protocol: *protocol,
            port: *port,
            forward,
            tls,
            attributes,
            created_at: context.now,
        };
        regions::check_listener(state, &listener)?;
        listener_tls::check_certificates(state, &listener)?;
        let view = ListenerView::new(state, &listener);
        Ok((Change::default().put(listener), view))
    }
}

/// Changes where a listener is and leads, what it shows to TLS clients, or its attributes. Open flows stay where they
/// are.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyListener {
    pub listener: Reference,
    /// None: as they are.
    #[serde(default)]
    pub port: Option<ListenerPorts>,
    #[serde(default)]
    pub protocol: Option<Protocol>,
    /// One group; or, if several are given, their weights. Nothing: they stay.
    #[serde(default)]
    pub target_group: Option<Reference>,
    #[serde(default)]
    pub target_groups: Vec<TargetGroupWeight>,
    /// None: as it is.
    #[serde(default)]
    pub stickiness: Option<bool>,
    /// Another default certificate; the former one is no longer shown unless it is among the others.
    #[serde(default)]
    pub certificate: Option<Reference>,
    /// All other certificates.
    #[serde(default)]
    pub more_certificates: Option<Vec<Reference>>,
    #[serde(default)]
    pub ssl_policy: Option<ListenerPolicy>,
    #[serde(default)]
    pub alpn_policy: Option<AlpnPolicy>,
    /// By key; those that are not given stay as they are.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
operation!(ModifyListener -> ListenerView);

impl Mutation for ModifyListener {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ListenerView), ControlError> {
        let Self {
            listener,
            port,
            protocol,
            target_group,
            target_groups,
            stickiness,
            certificate,
            more_certificates,
            ssl_policy,
            alpn_policy,
            attributes,
        } = self;
        let listener = lookup::listener(state, listener)?;
        let protocol = protocol.unwrap_or(listener.protocol);
        let mut changed = Listener { port: port.unwrap_or(listener.port), protocol, ..listener.clone() };
        if let Some(lb) = state.load_balancers.get(&listener.load_balancer) {
            match resolve(state, lb, protocol, target_group.as_ref(), target_groups)? {
                Some(wanted) => changed.forward.weights = wanted,
                None => {
                    let mut groups = changed.forward.groups().filter_map(|id| state.target_groups.get(id));
                    groups.try_for_each(|group| check_leads(lb, protocol, group))?;
                }
            }
        }
        let taken = |other: &&Listener| {
            other.id != listener.id
                && other.load_balancer == listener.load_balancer
                && other.port.overlaps(changed.port)
        };
        if let Some(other) = state.listeners.values().find(taken) {
            return Err(ControlError::DuplicateListener {
                load_balancer: listener.load_balancer.clone(),
                port: other.port,
            });
        }
        changed.forward.stickiness = stickiness.unwrap_or(changed.forward.stickiness);
        changed.forward = checked(state, protocol, changed.forward)?;
        let choice = TlsChoice {
            certificate: certificate.as_ref(),
            more_certificates: more_certificates.as_deref(),
            ssl_policy: *ssl_policy,
            alpn_policy: *alpn_policy,
        };
        changed.tls = choice.settings(state, protocol, listener.tls.as_ref())?;
        if changed.tls.is_some() && changed.port.is_range() {
            return Err(changed.port.not_one("of a TLS listener must be one").into());
        }
        changed.attributes = listener_attributes(changed.attributes, protocol, attributes)?;
        regions::check_listener(state, &changed)?;
        listener_tls::check_certificates(state, &changed)?;
        let view = ListenerView::new(state, &changed);
        let change = Change::replace(listener, changed);
        Ok((change, view))
    }
}

/// Deletes a listener.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteListener {
    pub listener: Reference,
}
operation!(DeleteListener -> ());

impl Mutation for DeleteListener {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let listener = lookup::listener(state, &self.listener)?;
        Ok((Change::default().remove(listener.id.clone()), ()))
    }
}

/// Lists the listeners, of all load balancers or of one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeListeners {
    #[serde(default)]
    pub load_balancer: Option<Reference>,
}
operation!(DescribeListeners -> Vec<ListenerView>);

impl Query for DescribeListeners {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<ListenerView>, ControlError> {
        let lb = self.load_balancer.as_ref().map(|reference| lookup::load_balancer(state, reference)).transpose()?;
        let listeners = state
            .listeners
            .values()
            .filter(|listener| lb.is_none_or(|lb| listener.load_balancer == lb.id))
            .map(|listener| ListenerView::new(state, listener))
            .collect();
        Ok(sorted(listeners, |listener| listener.name.clone()))
    }
}

/// A target group and its weight: `NAME=WEIGHT`, or `NAME` with weight 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroupWeight {
    pub target_group: Reference,
    pub weight: Weight,
}

impl fmt::Display for TargetGroupWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.target_group.as_str(), self.weight)
    }
}

impl FromStr for TargetGroupWeight {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (name, weight) = match text.split_once('=') {
            Some((name, weight)) => (name, weight.parse()?),
            None => (text, Weight::default()),
        };
        if name.is_empty() {
            let rule = "must be a name or ARN, and can go on with an equals sign and a weight";
            return Err(InvalidValue::new("Target group", text, rule, "use a form like web=70"));
        }
        Ok(Self { target_group: name.into(), weight })
    }
}

serde_as_text!(TargetGroupWeight);

/// The groups and weights that a request names, all of which a listener of `lb` and `protocol` can lead to; none if it
/// names none.
fn resolve(
    state: &State,
    lb: &LoadBalancer,
    protocol: Protocol,
    one: Option<&Reference>,
    several: &[TargetGroupWeight],
) -> Result<Option<BTreeMap<TargetGroupId, Weight>>, ControlError> {
    let mut weights = BTreeMap::new();
    for TargetGroupWeight { target_group, weight } in several {
        let group = lookup::target_group(state, target_group)?;
        check_leads(lb, protocol, group)?;
        if weights.insert(group.id.clone(), *weight).is_some() {
            return Err(ControlError::ForwardTwice(group.id.clone()));
        }
    }
    if let Some(one) = one {
        let group = lookup::target_group(state, one)?;
        check_leads(lb, protocol, group)?;
        if !several.is_empty() && !(weights.len() == 1 && weights.contains_key(&group.id)) {
            return Err(ControlError::ForwardContradicts);
        }
        weights.entry(group.id.clone()).or_default();
    }
    if weights.len() > Forward::MAX_GROUPS {
        return Err(ControlError::TooManyForwarded { limit: Forward::MAX_GROUPS });
    }
    Ok((!weights.is_empty()).then_some(weights))
}

/// Refuses several groups of which one is sticky if the action itself is not, and what a TLS listener cannot do.
fn checked(state: &State, protocol: Protocol, forward: Forward) -> Result<Forward, ControlError> {
    let groups = || forward.groups().filter_map(|id| state.target_groups.get(id));
    if protocol == Protocol::Tls {
        if forward.stickiness || groups().any(|group| group.attributes.stickiness) {
            return Err(ControlError::StickyTls);
        }
        if groups().any(|group| group.protocol == Protocol::Tls)
            && groups().any(|group| group.protocol != Protocol::Tls)
        {
            return Err(ControlError::MixedProtocols);
        }
        if let Some(group) = groups().find(|group| group.ip_address_type == IpFamily::Ipv6) {
            return Err(Ipv6Refusal::TlsListener(group.id.clone()).into());
        }
    }
    let sticky = |id: &&TargetGroupId| state.target_groups.get(*id).is_some_and(|group| group.attributes.stickiness);
    let found = forward.groups().find(sticky).cloned();
    let families: BTreeSet<IpFamily> =
        forward.groups().filter_map(|id| state.target_groups.get(id)).map(|group| group.ip_address_type).collect();
    if families.len() > 1 {
        return Err(Ipv6Refusal::MixedFamilies.into());
    }
    match found {
        Some(group) if forward.weights.len() > 1 && !forward.stickiness => Err(ControlError::StickinessRequired(group)),
        Some(_) | None => Ok(forward),
    }
}

/// Refuses a target group of another VPC than its load balancer's, of whichever type that is.
pub(super) fn check_one_vpc(lb: &LoadBalancer, group: &TargetGroup) -> Result<(), ControlError> {
    if lb.vpc == group.vpc {
        return Ok(());
    }
    Err(ControlError::DifferentVpc {
        target_group: group.id.clone(),
        group_vpc: group.vpc.clone(),
        load_balancer: lb.id.clone(),
        lb_vpc: lb.vpc.clone(),
    })
}

/// Refuses a target group to which a listener of `lb` and `protocol` cannot lead.
fn check_leads(lb: &LoadBalancer, protocol: Protocol, group: &TargetGroup) -> Result<(), ControlError> {
    check_one_vpc(lb, group)?;
    if group.ip_address_type == IpFamily::Ipv6 && lb.ipv6_addresses.is_empty() {
        let (target_group, load_balancer) = (group.id.clone(), lb.id.clone());
        return Err(Ipv6Refusal::LoadBalancerWithoutIpv6 { target_group, load_balancer }.into());
    }
    if group.target_type == TargetType::Alb && protocol != Protocol::Tcp {
        return Err(ApplicationRefusal::AlbListener(protocol.into()).into());
    }
    if !protocol.leads_to(group.protocol) {
        return Err(ControlError::IncompatibleProtocols {
            target_group: group.id.clone(),
            group: group.protocol,
            listener: protocol.into(),
        });
    }
    Ok(())
}

/// `attributes` with the values of `given` set, all of which a listener of `protocol` must have.
fn listener_attributes(
    attributes: ListenerAttributes,
    protocol: Protocol,
    given: &BTreeMap<String, String>,
) -> Result<ListenerAttributes, InvalidValue> {
    if let Some(key) = given.keys().find(|key| !ListenerAttributes::applies(key, protocol)) {
        return Err(InvalidValue::new(
            "Listener attribute key",
            key.as_str(),
            format!("is not supported for listeners with the {protocol} protocol"),
            "leave it out",
        ));
    }
    with_attributes(attributes, given)
}

/// Refuses port 0.
pub(super) fn check_port(what: &str, port: u16) -> Result<(), InvalidValue> {
    if port == 0 {
        return Err(InvalidValue::new(
            what,
            port.to_string(),
            "must be between '1-65535' inclusive",
            "use the port that the service has, such as 80",
        ));
    }
    Ok(())
}

/// `attributes` with the values of `given` set.
pub(super) fn with_attributes<T: AttributeMap>(
    mut attributes: T,
    given: &BTreeMap<String, String>,
) -> Result<T, InvalidValue> {
    for (key, value) in given {
        attributes.set(key, value)?;
    }
    Ok(attributes)
}
