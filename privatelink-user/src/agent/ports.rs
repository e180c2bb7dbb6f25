//! Ports: which interface gets which programs, and why.

use std::collections::BTreeMap;

use super::Shared;
use crate::{
    dataplane::{
        Capacity, Dataplane, Hook, HookPlan,
        attach::{self, Choice, HookWish, Unfit},
    },
    model::{self, InterfaceName, State},
    net::links::{self, Link, LinkKind, Links},
    runtime::{AttachRefusal, HookInUse, InterfaceFacts, PortStatus},
};

impl From<model::Hook> for HookWish {
    fn from(hook: model::Hook) -> Self {
        match hook {
            model::Hook::Auto => Self::Auto,
            model::Hook::Tc => Self::Tc,
            model::Hook::Xdp => Self::Xdp,
        }
    }
}

impl From<Hook> for HookInUse {
    fn from(hook: Hook) -> Self {
        match hook {
            Hook::Tcx => Self::Tcx,
            Hook::Clsact => Self::Clsact,
            Hook::XdpTcx => Self::XdpTcx,
            Hook::XdpClsact => Self::XdpClsact,
        }
    }
}

/// Whether an interface can be a port.
///
/// # Errors
///
/// [`AttachRefusal`] with the reason.
pub fn inspect(
    links: &Links,
    host_port: &links::Pair,
    attached: &BTreeMap<u32, Hook>,
    capacity: Capacity,
    clsact: bool,
    interface: &InterfaceName,
    wish: HookWish,
) -> Result<InterfaceFacts, AttachRefusal> {
    let (link, choice) = fit(links, host_port, attached, capacity, interface, wish)?;
    let hook = match (choice.plan, clsact) {
        (HookPlan::Tc, false) => HookInUse::Tcx,
        (HookPlan::Tc, true) => HookInUse::Clsact,
        (HookPlan::PreferXdp | HookPlan::Xdp, false) => HookInUse::XdpTcx,
        (HookPlan::PreferXdp | HookPlan::Xdp, true) => HookInUse::XdpClsact,
    };
    let Choice { plan: _, reason, warnings } = choice;
    Ok(InterfaceFacts { ifindex: link.ifindex, driver: kind_name(&link.kind), mtu: link.mtu, hook, reason, warnings })
}

fn kind_name(kind: &LinkKind) -> String {
    match kind {
        LinkKind::Veth { .. } => "veth".to_owned(),
        LinkKind::Virtual(name) => name.clone(),
        LinkKind::Physical => String::new(),
        LinkKind::Loopback => "loopback".to_owned(),
    }
}

fn fit<'a>(
    links: &'a Links,
    host_port: &links::Pair,
    attached: &BTreeMap<u32, Hook>,
    capacity: Capacity,
    interface: &InterfaceName,
    wish: HookWish,
) -> Result<(&'a Link, Choice), AttachRefusal> {
    let name = interface.as_str();
    if name == host_port.host || name == host_port.port {
        return Err(AttachRefusal::HostPort(interface.clone()));
    }
    let link = links.values().find(|link| link.name == name).ok_or_else(|| missing(interface))?;
    if link.ifindex >= capacity.ports {
        return Err(AttachRefusal::IndexTooGreat {
            interface: interface.clone(),
            ifindex: link.ifindex,
            limit: capacity.ports,
        });
    }
    let own =
        attached.get(&link.ifindex).filter(|hook| hook.has_xdp()).and_then(|_| link.xdp.map(|xdp| xdp.program_id));
    let choice = attach::choose(link, wish, own).map_err(|unfit| match unfit {
        Unfit::Loopback => AttachRefusal::Loopback(interface.clone()),
        Unfit::NotEthernet { link_type } => AttachRefusal::NotEthernet { interface: interface.clone(), link_type },
        Unfit::Xdp { why, way_out } => AttachRefusal::XdpUnavailable { interface: interface.clone(), why, way_out },
    })?;
    Ok((link, choice))
}

/// An interface that is not here may be in a namespace that has a name.
fn missing(interface: &InterfaceName) -> AttachRefusal {
    match links::namespace_of(interface.as_str()) {
        Some(namespace) => AttachRefusal::OtherNamespace {
            interface: interface.clone(),
            namespace: namespace.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        },
        None => AttachRefusal::NotFound(interface.clone()),
    }
}

/// Attaches what the state wants and is not attached yet, and notes how each port stands. Returns whether anything
/// changed and whether everything could be done.
pub fn attach_all(shared: &Shared, dataplane: &mut dyn Dataplane, state: &State, links: &Links) -> (bool, bool) {
    let capacity = dataplane.capacity();
    let (mut changed, mut complete) = (false, true);
    let mut statuses = BTreeMap::new();
    for port in state.ports.values() {
        let attached = dataplane.attached();
        let status = match fit(links, &shared.host_pair, &attached, capacity, &port.interface, port.hook.into()) {
            Err(refusal) => {
                // Not an incomplete pass: a link that appears starts the next one.
                PortStatus {
                    interface: port.interface.clone(),
                    hook: None,
                    mtu: None,
                    reason: String::new(),
                    error: Some(format!("{refusal}; {}", refusal.hint())),
                }
            }
            Ok((link, Choice { plan, reason, warnings })) => {
                let before = attached.get(&link.ifindex).copied();
                let done = match (before, plan) {
                    (Some(hook), HookPlan::Tc) if !hook.has_xdp() => Ok(hook),
                    (Some(hook), HookPlan::Xdp) if hook.has_xdp() => Ok(hook),
                    (Some(hook), HookPlan::PreferXdp) => Ok(hook),
                    (Some(_), HookPlan::Tc | HookPlan::Xdp) | (None, _) => {
                        dataplane.attach(link.ifindex, &link.name, plan)
                    }
                };
                match done {
                    Ok(hook) => {
                        if before != Some(hook) {
                            changed = true;
                            tracing::info!(interface = %link.name, hook = %HookInUse::from(hook), reason, "port attached");
                            for warning in &warnings {
                                tracing::warn!(interface = %link.name, "{warning}");
                            }
                        }
                        let down = (!link.up)
                            .then(|| format!("the interface is down; `ip link set {} up` brings it up", link.name));
                        let (interface, mtu) = (port.interface.clone(), Some(link.mtu));
                        PortStatus { interface, hook: Some(hook.into()), mtu, reason, error: down }
                    }
                    Err(error) => {
                        complete = false;
                        tracing::warn!(interface = %link.name, %error, "port not attached");
                        PortStatus {
                            interface: port.interface.clone(),
                            hook: before.map(Into::into),
                            mtu: Some(link.mtu),
                            reason,
                            error: Some(error.to_string()),
                        }
                    }
                }
            }
        };
        statuses.insert(port.interface.clone(), status);
    }
    if let Some(host_port) = shared.host_port()
        && !dataplane.attached().contains_key(&host_port.ifindex)
    {
        match dataplane.attach(host_port.ifindex, &shared.host_pair.port, HookPlan::Tc) {
            Ok(_) => changed = true,
            Err(error) => {
                complete = false;
                tracing::warn!(%error, "the host port is not attached: health checks fail");
            }
        }
    }
    *shared.ports() = statuses;
    (changed, complete)
}

/// Takes the programs off interfaces that are no ports any more.
pub fn detach_others(shared: &Shared, dataplane: &mut dyn Dataplane, state: &State, links: &Links) -> bool {
    let wanted = |ifindex: &u32| {
        shared.host_port().is_some_and(|host_port| host_port.ifindex == *ifindex)
            || links
                .get(ifindex)
                .is_some_and(|link| state.ports.values().any(|port| port.interface.as_str() == link.name))
    };
    let mut complete = true;
    for ifindex in dataplane.attached().into_keys().filter(|ifindex| !wanted(ifindex)) {
        match dataplane.detach(ifindex) {
            Ok(()) => tracing::info!(ifindex, "port detached"),
            Err(error) => {
                complete = false;
                tracing::warn!(ifindex, %error, "port not detached");
            }
        }
    }
    complete
}
