//! Target groups.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference,
    application::ApplicationRefusal,
    listeners::{check_port, with_attributes},
    lookup, operation, sorted,
    view::{self, TargetGroupView},
};
use crate::model::{
    AttributeMap as _, Change, GroupProtocol, HealthCheck, HealthCheckPort, HealthCheckProtocol, HttpPath,
    InvalidValue, IpFamily, Listener, Matcher, Protocol, ResourceName, State, TargetGroup, TargetGroupAttributes,
    TargetGroupId, TargetName, TargetTrust, TargetType,
};

/// The health check settings that a request names; the others stay, or have their default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheckSettings {
    pub protocol: Option<HealthCheckProtocol>,
    pub port: Option<HealthCheckPort>,
    pub path: Option<HttpPath>,
    /// Seconds.
    pub interval: Option<u32>,
    /// Seconds.
    pub timeout: Option<u32>,
    pub healthy_threshold: Option<u32>,
    pub unhealthy_threshold: Option<u32>,
    pub matcher: Option<Matcher>,
}

impl From<HealthCheck> for HealthCheckSettings {
    fn from(check: HealthCheck) -> Self {
        let HealthCheck { protocol, port, path, interval, timeout, healthy_threshold, unhealthy_threshold, matcher } =
            check;
        Self {
            protocol: Some(protocol),
            port: Some(port),
            path: Some(path),
            interval: Some(interval),
            timeout: Some(timeout),
            healthy_threshold: Some(healthy_threshold),
            unhealthy_threshold: Some(unhealthy_threshold),
            matcher: Some(matcher),
        }
    }
}

impl HealthCheckSettings {
    /// These settings over the defaults of groups of these targets and of `protocol`.
    pub(super) fn complete(
        &self,
        target_type: TargetType,
        protocol: GroupProtocol,
    ) -> Result<HealthCheck, InvalidValue> {
        let usual = match (target_type, protocol) {
            (TargetType::Alb, _) | (_, GroupProtocol::Application(_)) => HealthCheckProtocol::Http,
            (TargetType::Ip | TargetType::Instance, GroupProtocol::Transport(_)) => HealthCheckProtocol::default(),
        };
        let mut defaults = HealthCheck::defaults(self.protocol.unwrap_or(usual));
        if let GroupProtocol::Application(_) = protocol {
            defaults = defaults.of_requests();
        }
        // A short interval alone is a complete wish: the default timeout gives way to it.
        if let (Some(interval), None) = (self.interval, self.timeout) {
            defaults.timeout = defaults.timeout.min(interval.max(*HealthCheck::TIMEOUT.start()));
        }
        self.over(defaults)
    }

    /// These settings over `present`.
    fn over(&self, present: HealthCheck) -> Result<HealthCheck, InvalidValue> {
        let Self { protocol, port, path, interval, timeout, healthy_threshold, unhealthy_threshold, matcher } = self;
        HealthCheck {
            protocol: protocol.unwrap_or(present.protocol),
            port: port.unwrap_or(present.port),
            path: path.clone().unwrap_or(present.path),
            interval: interval.unwrap_or(present.interval),
            timeout: timeout.unwrap_or(present.timeout),
            healthy_threshold: healthy_threshold.unwrap_or(present.healthy_threshold),
            unhealthy_threshold: unhealthy_threshold.unwrap_or(present.unhealthy_threshold),
            matcher: matcher.clone().unwrap_or(present.matcher),
        }
        .validate()
    }
}

/// `attributes` with the values of `given` set, if a group of `protocol` can have them.
fn group_attributes(
    attributes: TargetGroupAttributes,
    (target_type, protocol, family): (TargetType, GroupProtocol, IpFamily),
    given: &BTreeMap<String, String>,
) -> Result<TargetGroupAttributes, InvalidValue> {
    if let Some(key) = given.keys().find(|key| !TargetGroupAttributes::applies(key, target_type, protocol)) {
        let known = TargetGroupAttributes::TABLE.iter().any(|attribute| attribute.key == key.as_str());
        if known {
            return Err(InvalidValue::new(
                "Target group attribute key",
                key.as_str(),
                format!("is not supported for target groups with the {protocol} protocol"),
                "leave it out",
            ));
        }
    }
    // Groups for requests have a type of their own, and no other.
    let mut given = Cow::Borrowed(given);
    match (protocol, given.get("stickiness.type").map(String::as_str)) {
        (GroupProtocol::Application(_), Some("lb_cookie")) => drop(given.to_mut().remove("stickiness.type")),
        (GroupProtocol::Application(_), Some(other)) => {
            let rule = "must be one of '[lb_cookie]'";
            return Err(InvalidValue::new("'stickiness.type' value", other, rule, "use lb_cookie"));
        }
        (GroupProtocol::Application(_) | GroupProtocol::Transport(_), _) => {}
    }
    let given = given.as_ref();
    let attributes = with_attributes(attributes, given)?;
    for (key, on) in [
        ("proxy_protocol_v2.enabled", attributes.proxy_protocol_v2),
        (
            "preserve_client_ip.enabled",
            attributes.preserve_client_ip && given.contains_key("preserve_client_ip.enabled"),
        ),
    ] {
        if on && family == IpFamily::Ipv6 {
            return Err(InvalidValue::new(
                format!("'{key}' value"),
                "true",
                "is not supported for target groups with the IP address type ipv6",
                "use a target group of IPv4 addresses, or leave it out",
            ));
        }
    }
    if protocol.has_udp() && attributes.unhealthy_connection_termination {
        return Err(InvalidValue::new(
            "'target_health_state.unhealthy.connection_termination.enabled' value",
            "true",
            format!("is not supported for target groups with the {protocol} protocol"),
            "leave it out",
        ));
    }
    if protocol.has_udp() && attributes.proxy_protocol_v2 {
        return Err(InvalidValue::new(
            "'proxy_protocol_v2.enabled' value",
            "true",
            format!("is not supported for target groups with the {protocol} protocol"),
            "use a TCP target group, or leave it out",
        ));
    }
    if protocol == Protocol::Tls && attributes.stickiness {
        return Err(InvalidValue::new(
            "'stickiness.enabled' value",
            "true",
            format!("is not supported for target groups with the {protocol} protocol"),
            "use a TCP target group behind a TCP listener, or leave it out",
        ));
    }
    if family == IpFamily::Ipv4
        && protocol.has_udp()
        && given.contains_key("preserve_client_ip.enabled")
        && !attributes.preserve_client_ip
    {
        return Err(InvalidValue::new(
            "'preserve_client_ip.enabled' value",
            "false",
            format!("is not supported for target groups with the {protocol} protocol"),
            "leave it out",
        ));
    }
    if protocol != Protocol::Tls && attributes.target_trust != TargetTrust::Off {
        return Err(InvalidValue::new(
            "'privatelink.target_certificates.trust' value",
            attributes.target_trust.to_string(),
            format!("is not supported for target groups with the {protocol} protocol"),
            "use a TLS target group, or leave it out",
        ));
    }
    if attributes.target_trust == TargetTrust::Off && attributes.target_name != TargetName::Client {
        return Err(InvalidValue::new(
            "'privatelink.target_certificates.name' value",
            attributes.target_name.to_string(),
            "is of no use while certificates are not validated",
            "set privatelink.target_certificates.trust=system with it",
        ));
    }
    attributes.validate()
}

/// Refuses a check that a load balancer of type application has no answer to.
fn check_health_check(target_type: TargetType, check: &HealthCheck) -> Result<(), ControlError> {
    if target_type == TargetType::Alb && check.protocol == HealthCheckProtocol::Tcp {
        return Err(ApplicationRefusal::AlbHealthCheck.into());
    }
    Ok(())
}

/// Checks that the certificate is there by which a group knows its targets.
///
/// # Errors
///
/// [`ControlError::CertificateNotFound`]
fn check_trust(state: &State, attributes: &TargetGroupAttributes) -> Result<(), ControlError> {
    let named = attributes.target_trust.certificate();
    named.map_or(Ok(()), |id| lookup::certificate(state, &id.into()).map(drop))
}

/// Makes a target group. Idempotent.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTargetGroup {
    pub name: ResourceName,
    pub vpc: Reference,
    #[serde(default)]
    pub target_type: TargetType,
    /// The family of its targets; ipv6 only for addresses.
    #[serde(default)]
    pub ip_address_type: IpFamily,
    /// HTTP and HTTPS for groups behind load balancers of type application, which are records.
    pub protocol: GroupProtocol,
    pub port: u16,
    #[serde(default)]
    pub health_check: HealthCheckSettings,
    /// By key; those that are not given have their default.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
operation!(CreateTargetGroup -> TargetGroupView);

impl Mutation for CreateTargetGroup {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, TargetGroupView), ControlError> {
        let Self { name, vpc, target_type, ip_address_type, protocol, port, health_check, attributes } = self;
        let vpc = lookup::vpc(state, vpc).map_err(|_| ControlError::TargetGroupVpcNotFound(vpc.as_str().to_owned()))?;
        check_port("Target group port", *port)?;
        if *ip_address_type == IpFamily::Ipv6 && *target_type != TargetType::Ip {
            return Err(ControlError::Invalid(InvalidValue::new(
                "IP address type",
                "ipv6",
                format!("is not supported for target groups with the target type {target_type}"),
                "use the target type ip",
            )));
        }
        if *target_type == TargetType::Alb && *protocol != Protocol::Tcp {
            return Err(ApplicationRefusal::AlbProtocol.into());
        }
        if *target_type == TargetType::Alb && !attributes.is_empty() {
            return Err(ApplicationRefusal::AlbAttributes.into());
        }
        let health_check = health_check.complete(*target_type, *protocol)?;
        check_health_check(*target_type, &health_check)?;
        let attributes = group_attributes(
            TargetGroupAttributes::defaults(*target_type, *protocol, *ip_address_type),
            (*target_type, *protocol, *ip_address_type),
            attributes,
        )?;
        check_trust(state, &attributes)?;
        if let Some(group) = state.target_groups.values().find(|group| group.name == *name) {
            let same = group.vpc == vpc.id
                && group.target_type == *target_type
                && group.ip_address_type == *ip_address_type
                && group.protocol == *protocol
                && group.port == *port
                && group.health_check == health_check
                && group.attributes == attributes;
            return if same {
                Ok((Change::default(), TargetGroupView::new(state, group)))
            } else {
                Err(ControlError::DuplicateTargetGroupName(name.clone()))
            };
        }
        let group = TargetGroup {
            id: TargetGroupId::generate(context.region, context.account, name, context.ids),
            name: name.clone(),
            vpc: vpc.id.clone(),
            target_type: *target_type,
            ip_address_type: *ip_address_type,
            protocol: *protocol,
            port: *port,
            health_check,
            attributes,
            dns_targets: BTreeSet::new(),
            load_balancer: None,
            targets: BTreeMap::new(),
            created_at: context.now,
        };
        let view = TargetGroupView::new(state, &group);
        Ok((Change::default().put(group), view))
    }
}

/// Changes a target group's health check or attributes.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyTargetGroup {
    pub target_group: Reference,
    #[serde(default)]
    pub health_check: HealthCheckSettings,
    /// By key; those that are not given stay as they are.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
operation!(ModifyTargetGroup -> TargetGroupView);

impl Mutation for ModifyTargetGroup {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, TargetGroupView), ControlError> {
        let Self { target_group, health_check, attributes } = self;
        let group = lookup::target_group(state, target_group)?;
        let changed = TargetGroup {
            health_check: health_check.over(group.health_check.clone())?,
            attributes: group_attributes(
                group.attributes.clone(),
                (group.target_type, group.protocol, group.ip_address_type),
                attributes,
            )?,
            ..group.clone()
        };
        check_health_check(group.target_type, &changed.health_check)?;
        if group.target_type == TargetType::Alb && !attributes.is_empty() {
            return Err(ApplicationRefusal::AlbAttributes.into());
        }
        check_trust(state, &changed.attributes)?;
        let lacks = |listener: &&Listener| {
            let forward = &listener.forward;
            forward.weights.contains_key(&group.id) && forward.weights.len() > 1 && !forward.stickiness
        };
        if changed.attributes.stickiness && state.listeners.values().any(|listener| lacks(&listener)) {
            return Err(ControlError::StickinessRequired(group.id.clone()));
        }
        let ends_tls = |listener: &Listener| listener.tls.is_some() && listener.forward.weights.contains_key(&group.id);
        if changed.attributes.stickiness && state.listeners.values().any(ends_tls) {
            return Err(ControlError::StickyTls);
        }
        let view = TargetGroupView::new(state, &changed);
        let change = Change::replace(group, changed);
        Ok((change, view))
    }
}

/// Deletes a target group that no listener uses, with its targets.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteTargetGroup {
    pub target_group: Reference,
}
operation!(DeleteTargetGroup -> ());

impl Mutation for DeleteTargetGroup {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let group = lookup::target_group(state, &self.target_group)?;
        let listeners: Vec<String> = state
            .listeners
            .values()
            .filter(|listener| listener.forward.weights.contains_key(&group.id))
            .map(|listener| view::listener_name(state, listener))
            .chain(state.requests_lead_to(&group.id).map(|listener| view::application_listener_name(state, listener)))
            .collect();
        if !listeners.is_empty() {
            return Err(ControlError::TargetGroupInUse { target_group: group.id.clone(), listeners });
        }
        Ok((Change::default().remove(group.id.clone()), ()))
    }
}

/// Lists the target groups, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeTargetGroups {
    /// None: all.
    #[serde(default)]
    pub target_groups: Option<Vec<Reference>>,
}
operation!(DescribeTargetGroups -> Vec<TargetGroupView>);

impl Query for DescribeTargetGroups {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<TargetGroupView>, ControlError> {
        match &self.target_groups {
            None => Ok(sorted(
                state.target_groups.values().map(|group| TargetGroupView::new(state, group)).collect(),
                |group| group.name.clone(),
            )),
            Some(references) => references
                .iter()
                .map(|reference| {
                    lookup::target_group(state, reference)
                        .map(|group| TargetGroupView::new(state, group))
                        .map_err(|_| ControlError::TargetGroupsNotFound(reference.as_str().to_owned()))
                })
                .collect(),
        }
    }
}
