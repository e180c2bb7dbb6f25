//! Targets: registration, draining and its end.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Reference, address,
    application::{self, ApplicationRefusal},
    ipv6::Ipv6Refusal,
    lookup, operation,
    view::{TargetGroupView, TargetHealthView},
};
use crate::model::{
    AddressUse, Change, InstanceId, InstanceState, InvalidValue, IpFamily, State, Target, TargetAddress, TargetGroup,
    TargetType, Vpc, serde_as_text,
};

/// A target as a person names it: an address or an instance, and the port if it is not the group's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetSpec {
    pub host: TargetHost,
    pub port: Option<u16>,
}

/// What a target is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetHost {
    Ip(IpAddr),
    /// An instance by id or name; in a group of target type alb, a load balancer by ARN or name.
    Named(Reference),
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Named(name) => f.write_str(name.as_str()),
        }
    }
}

impl From<&Target> for TargetSpec {
    fn from(target: &Target) -> Self {
        let Target { address: TargetAddress { ip, port }, instance, dns_name: _, registered_at: _, draining_since: _ } =
            target;
        let host = instance.as_ref().map_or(TargetHost::Ip(*ip), |id| TargetHost::Named(id.into()));
        Self { host, port: Some(*port) }
    }
}

impl TargetSpec {
    fn port(&self, group: &TargetGroup) -> u16 {
        self.port.unwrap_or(group.port)
    }

    /// Refuses what is not of the group's target type.
    fn check_type(&self, group: &TargetGroup) -> Result<(), ControlError> {
        match (&self.host, group.target_type) {
            (TargetHost::Ip(_), TargetType::Ip) | (TargetHost::Named(_), TargetType::Instance | TargetType::Alb) => {
                Ok(())
            }
            (TargetHost::Named(instance), TargetType::Ip) => {
                Err(ControlError::TargetNotAddress(instance.as_str().to_owned()))
            }
            (TargetHost::Ip(ip), TargetType::Alb) => {
                Err(ApplicationRefusal::TargetNotApplication(ip.to_string()).into())
            }
            (TargetHost::Ip(ip), TargetType::Instance) => Err(ControlError::TargetNotInstance(ip.to_string())),
        }
    }

    /// What it is as a target of `group`, if it can be one: its address, and its instance.
    pub fn resolve(
        &self,
        state: &State,
        group: &TargetGroup,
    ) -> Result<(TargetAddress, Option<InstanceId>), ControlError> {
        self.check_type(group)?;
        let port = self.port(group);
        match &self.host {
            TargetHost::Ip(ip) => Ok((TargetAddress { ip: *ip, port }, None)),
            TargetHost::Named(reference) if group.target_type == TargetType::Alb => {
                let lb = application::target(state, group, reference.as_str())?;
                let node = lb.addresses.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED);
                Ok((TargetAddress { ip: node.into(), port }, None))
            }
            TargetHost::Named(reference) => {
                let instance = lookup::instance(state, reference)
                    .map_err(|_| ControlError::TargetNotInstance(reference.as_str().to_owned()))?;
                if instance.vpc != group.vpc {
                    return Err(ControlError::TargetOfOtherVpc {
                        instance: instance.id.clone(),
                        vpc: group.vpc.clone(),
                    });
                }
                Ok((TargetAddress { ip: instance.address.into(), port }, Some(instance.id.clone())))
            }
        }
    }

    /// Where `group` has it registered; an instance that is gone may still drain.
    pub fn registered(&self, state: &State, group: &TargetGroup) -> Result<Option<TargetAddress>, ControlError> {
        self.check_type(group)?;
        let port = self.port(group);
        match &self.host {
            TargetHost::Ip(ip) => {
                let address = TargetAddress { ip: *ip, port };
                Ok(group.targets.contains_key(&address).then_some(address))
            }
            TargetHost::Named(reference) => {
                let id = lookup::instance(state, reference).ok().map(|found| found.id.clone());
                let id = id.or_else(|| reference.as_str().parse().ok());
                let found = group.targets.values().find(|target| target.instance == id && target.address.port == port);
                Ok(found.filter(|_| id.is_some()).map(|target| target.address))
            }
        }
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, &self.host) {
            (Some(port), TargetHost::Ip(ip)) => SocketAddr::new(*ip, port).fmt(f),
            (Some(port), TargetHost::Named(_)) => write!(f, "{}:{port}", self.host),
            (None, _) => self.host.fmt(f),
        }
    }
}

impl FromStr for TargetSpec {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        // An IPv6 address has colons of its own: with a port it is in brackets (RFC 3986 section 3.2.2).
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: TargetHost::Ip(ip.into()), port: None });
        }
        if let Some(SocketAddr::V6(at)) = text.parse().ok().filter(|at: &SocketAddr| at.port() != 0) {
            return Ok(Self { host: TargetHost::Ip((*at.ip()).into()), port: Some(at.port()) });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0).map(Some)),
            None => (text, Some(None)),
        };
        let named = |host: &str| {
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (!host.is_empty() && host.bytes().all(letters)).then(|| TargetHost::Named(host.into()))
        };
        let host = host.parse().ok().map(TargetHost::Ip).or_else(|| named(host));
        match (host, port) {
            (Some(host), Some(port)) => Ok(Self { host, port }),
            (_, None) | (None, _) => Err(InvalidValue::new(
                "Target",
                text,
                "must be an IP address, or the name or id of an instance, with a colon and a port between '1-65535' or \
                 without",
                "use an address like 10.0.1.10, 10.0.1.10:8080 or [fd00::10]:8080, or an instance like web-1:8080",
            )),
        }
    }
}

serde_as_text!(TargetSpec);

/// Registers targets. One that is registered stays as it is; one that drains is revived.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisterTargets {
    pub target_group: Reference,
    pub targets: Vec<TargetSpec>,
}
operation!(RegisterTargets -> TargetGroupView);

impl Mutation for RegisterTargets {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, TargetGroupView), ControlError> {
        let Self { target_group, targets } = self;
        let group = lookup::target_group(state, target_group)?;
        if targets.is_empty() {
            return Err(ControlError::TargetMissing);
        }
        if group.target_type == TargetType::Alb {
            let changed = application::register(state, group, &named(group, targets)?, context.now)?;
            return Ok(changed_group(state, group, changed));
        }
        let vpc =
            state.vpcs.get(&group.vpc).ok_or_else(|| ControlError::TargetGroupVpcNotFound(group.vpc.to_string()))?;
        let owned = owned_addresses(state, vpc);
        let mut changed = group.clone();
        for spec in targets {
            let (address, instance) = spec.resolve(state, group)?;
            check_target(vpc, &owned, group, address.ip)?;
            if let Some(found) = instance.as_ref().and_then(|id| state.instances.get(id))
                && found.state != InstanceState::Running
            {
                return Err(ControlError::TargetNotRunning(found.id.clone()));
            }
            let fresh = Target { address, instance, dns_name: None, registered_at: context.now, draining_since: None };
            match changed.targets.get_mut(&address).filter(|target| target.draining_since.is_none()) {
                // It outlives the name that it came by.
                Some(present) => present.dns_name = None,
                None => drop(changed.targets.insert(address, fresh)),
            }
        }
        Ok(changed_group(state, group, changed))
    }
}

/// The addresses of `vpc` that the datapath answers for.
pub(super) fn owned_addresses(state: &State, vpc: &Vpc) -> BTreeMap<IpAddr, AddressUse> {
    state
        .address_uses(&vpc.id)
        .filter(|(_, by)| match by {
            AddressUse::Node(_) | AddressUse::Endpoint(_) => true,
            AddressUse::Gateway(_) | AddressUse::Instance(_) | AddressUse::Target(_) => false,
        })
        .collect()
}

/// Refuses an address that no target of a group can have: of the other family, in use by a load balancer or an endpoint
/// of the same VPC, or publicly routable and outside the VPC's range.
pub(super) fn check_target(
    vpc: &Vpc,
    owned: &BTreeMap<IpAddr, AddressUse>,
    group: &TargetGroup,
    address: IpAddr,
) -> Result<(), ControlError> {
    if IpFamily::of(address) != group.ip_address_type {
        let (family, target_group) = (group.ip_address_type, group.id.clone());
        return Err(Ipv6Refusal::TargetFamily { address, family, target_group }.into());
    }
    if let Some(by) = owned.get(&address) {
        return Err(ControlError::TargetIpUnusable { address, by: by.clone() });
    }
    let cidr = address::range(vpc, address)?;
    let inside = cidr.contains(&address);
    let private = match address {
        IpAddr::V4(ip) => ip.is_private() || ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]),
        IpAddr::V6(ip) => ip.is_unique_local(),
    };
    if (inside && vpc.has_host(address)) || (!inside && private) {
        Ok(())
    } else {
        Err(ControlError::TargetIpOutside { address, cidr })
    }
}

/// Deregisters targets: they take no new flows and go when the group's delay has ended. Unknown ones are no error.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeregisterTargets {
    pub target_group: Reference,
    pub targets: Vec<TargetSpec>,
}
operation!(DeregisterTargets -> TargetGroupView);

impl Mutation for DeregisterTargets {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, TargetGroupView), ControlError> {
        let Self { target_group, targets } = self;
        let group = lookup::target_group(state, target_group)?;
        if targets.is_empty() {
            return Err(ControlError::TargetMissing);
        }
        if group.target_type == TargetType::Alb {
            let named: Vec<&str> = named(group, targets)?.into_iter().map(|(name, _)| name).collect();
            return Ok(changed_group(state, group, application::deregister(group, &named)));
        }
        let mut changed = group.clone();
        for spec in targets {
            let registered = spec.registered(state, group)?;
            if let Some(target) = registered.and_then(|address| changed.targets.get_mut(&address)) {
                target.draining_since = target.draining_since.or(Some(context.now));
            }
        }
        remove_drained(&mut changed, context.now);
        Ok(changed_group(state, group, changed))
    }
}

/// Load balancers as targets of `group`, each with its port if that is given.
fn named<'a>(group: &TargetGroup, targets: &'a [TargetSpec]) -> Result<Vec<(&'a str, Option<u16>)>, ControlError> {
    let name = |spec: &'a TargetSpec| {
        spec.check_type(group)?;
        match &spec.host {
            TargetHost::Ip(ip) => Err(ApplicationRefusal::TargetNotApplication(ip.to_string()).into()),
            TargetHost::Named(reference) => Ok((reference.as_str(), spec.port)),
        }
    };
    targets.iter().map(name).collect()
}

fn changed_group(state: &State, group: &TargetGroup, changed: TargetGroup) -> (Change, TargetGroupView) {
    let view = TargetGroupView::new(state, &changed);
    let change = Change::replace(group, changed);
    (change, view)
}

/// When `target` of `group` has drained; none if it does not drain.
fn drained_at(group: &TargetGroup, target: &Target) -> Option<Timestamp> {
    let delay = SignedDuration::from_secs(i64::from(group.attributes.deregistration_delay));
    target.draining_since.map(|since| since.checked_add(delay).unwrap_or(Timestamp::MAX))
}

fn remove_drained(group: &mut TargetGroup, now: Timestamp) {
    let kept = group.targets.values().filter(|target| drained_at(group, target).is_none_or(|at| at > now));
    group.targets = kept.map(|target| (target.address, target.clone())).collect();
}

/// Removes the targets whose deregistration delay has ended.
pub fn expire(state: &State, now: Timestamp) -> Change {
    state
        .target_groups
        .values()
        .filter(|group| group.targets.values().any(|target| drained_at(group, target).is_some_and(|at| at <= now)))
        .fold(Change::default(), |change, group| {
            let mut kept = group.clone();
            remove_drained(&mut kept, now);
            change.put(kept)
        })
}

/// When [`expire`] has something to do next; none while nothing drains.
pub fn next_expiry(state: &State) -> Option<Timestamp> {
    state
        .target_groups
        .values()
        .flat_map(|group| group.targets.values().filter_map(|target| drained_at(group, target)))
        .min()
}

/// The health of a target group's targets, or of some of them.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeTargetHealth {
    pub target_group: Reference,
    /// None: all that are registered. One that is not is answered as `unused`.
    #[serde(default)]
    pub targets: Option<Vec<TargetSpec>>,
}
operation!(DescribeTargetHealth -> Vec<TargetHealthView>);
