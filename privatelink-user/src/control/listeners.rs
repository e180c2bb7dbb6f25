//! Listeners.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Mutation, Query, Reference, lookup, operation, sorted, view::ListenerView};
use crate::model::{
    AttributeMap, Change, InvalidValue, Listener, ListenerAttributes, ListenerId, LoadBalancer, Protocol, State,
    TargetGroup,
};

/// Makes a listener. Idempotent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateListener {
    pub load_balancer: Reference,
    pub protocol: Protocol,
    pub port: u16,
    pub target_group: Reference,
    /// By key; those that are not given have their default.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
operation!(CreateListener -> ListenerView);

impl Mutation for CreateListener {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, ListenerView), ControlError> {
        let Self { load_balancer, protocol, port, target_group, attributes } = self;
        let lb = lookup::load_balancer(state, load_balancer)?;
        check_port("Listener port", *port)?;
        let group = lookup::target_group(state, target_group)?;
        check_leads(lb, *protocol, group)?;
        let attributes = listener_attributes(ListenerAttributes::default(), *protocol, attributes)?;
        let on_port = |listener: &&Listener| listener.load_balancer == lb.id && listener.port == *port;
        if let Some(listener) = state.listeners.values().find(on_port) {
            let same = listener.protocol == *protocol
                && listener.target_group == group.id
                && listener.attributes == attributes;
            return if same {
                Ok((Change::default(), ListenerView::new(state, listener)))
            } else {
                Err(ControlError::DuplicateListener { load_balancer: lb.id.clone(), port: *port })
            };
        }
        let listener = Listener {
            id: ListenerId::generate(context.region, context.account, &lb.id, context.ids),
            load_balancer: lb.id.clone(),
            protocol: *protocol,
            port: *port,
            target_group: group.id.clone(),
            attributes,
            created_at: context.now,
        };
        let view = ListenerView::new(state, &listener);
        Ok((Change::default().put(listener), view))
    }
}

/// Changes where a listener leads, or its attributes. Open flows stay where they are.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModifyListener {
    pub listener: Reference,
    #[serde(default)]
    pub target_group: Option<Reference>,
    /// By key; those that are not given stay as they are.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}
operation!(ModifyListener -> ListenerView);

impl Mutation for ModifyListener {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ListenerView), ControlError> {
        let Self { listener, target_group, attributes } = self;
        let listener = lookup::listener(state, listener)?;
        let mut changed = listener.clone();
        if let Some(reference) = target_group {
            let group = lookup::target_group(state, reference)?;
            if let Some(lb) = state.load_balancers.get(&listener.load_balancer) {
                check_leads(lb, listener.protocol, group)?;
            }
            changed.target_group = group.id.clone();
        }
        changed.attributes = listener_attributes(changed.attributes, listener.protocol, attributes)?;
        let view = ListenerView::new(state, &changed);
        let change = if changed == *listener { Change::default() } else { Change::default().put(changed) };
        Ok((change, view))
    }
}

/// Deletes a listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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

/// Refuses a target group to which a listener of `lb` and `protocol` cannot lead.
fn check_leads(lb: &LoadBalancer, protocol: Protocol, group: &TargetGroup) -> Result<(), ControlError> {
    if lb.vpc != group.vpc {
        return Err(ControlError::DifferentVpc {
            target_group: group.id.clone(),
            group_vpc: group.vpc.clone(),
            load_balancer: lb.id.clone(),
            lb_vpc: lb.vpc.clone(),
        });
    }
    if !protocol.leads_to(group.protocol) {
        return Err(ControlError::IncompatibleProtocols {
            target_group: group.id.clone(),
            group: group.protocol,
            listener: protocol,
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
