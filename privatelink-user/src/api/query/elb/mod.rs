//! Elastic Load Balancing v2: load balancers, target groups, listeners.

pub mod application;
mod authentication;
pub mod listeners;
pub mod load_balancers;
pub mod rules;
pub mod target_groups;
pub mod targets;

use std::collections::BTreeMap;

use super::{
    call::{Call, read_tags},
    filter::Page,
    params::Scope,
    refusal::Refusal,
    xml::Structure,
};
use crate::{
    control::{
        ControlError,
        application::{self as rule_limits, ApplicationRefusal},
        tags,
    },
    model::{
        ApplicationListenerId, Change, Forward, ListenerId, ListenerRuleId, LoadBalancerId, State, TagKey, TaggedId,
        TargetGroupId, TlsSettings,
    },
};

/// `Attributes.member.N`, by key.
fn read_attributes(scope: &Scope<'_>) -> Result<BTreeMap<String, String>, Refusal> {
    let pair =
        |one: &Scope<'_>| Ok((one.required("Key")?.to_owned(), one.text("Value").unwrap_or_default().to_owned()));
    let attributes: BTreeMap<String, String> =
        scope.structures("Attributes").iter().map(pair).collect::<Result<_, Refusal>>()?;
    if attributes.is_empty() { Err(Refusal::missing("Attributes")) } else { Ok(attributes) }
}

/// Attributes as `Attributes`.
fn attributes(entries: impl IntoIterator<Item = (impl ToString, impl ToString)>) -> Structure {
    let pair = |(key, value): (_, _)| Structure::new().text("Key", key).text("Value", value);
    Structure::new().list("Attributes", entries.into_iter().map(pair))
}

/// Refuses an ARN that names nothing of the caller's, with the code of its kind.
fn check_exists(state: &State, arn: &str) -> Result<(), Refusal> {
    let id: TaggedId = arn.parse()?;
    if state.has_tagged(&id) {
        return Ok(());
    }
    let text = arn.to_owned();
    Err(if arn.parse::<LoadBalancerId>().is_ok() {
        ControlError::LoadBalancerNotFound(text).into()
    } else if arn.parse::<TargetGroupId>().is_ok() {
        ControlError::TargetGroupNotFound(text).into()
    } else if arn.parse::<ListenerId>().is_ok() || arn.parse::<ApplicationListenerId>().is_ok() {
        ControlError::ListenerNotFound(text).into()
    } else if arn.parse::<ListenerRuleId>().is_ok() {
        ControlError::from(ApplicationRefusal::RuleNotFound(text)).into()
    } else {
        Refusal::value("ResourceArns", arn, "must be the ARN of a load balancer, listener, rule or target group")
    })
}

fn arns<'a>(scope: &Scope<'a>) -> Result<Vec<&'a str>, Refusal> {
    let arns = scope.list("ResourceArns");
    if arns.is_empty() { Err(Refusal::missing("ResourceArns")) } else { Ok(arns) }
}

pub fn add_tags(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (arns, given) = (arns(&scope)?, read_tags(&scope.structures("Tags"))?);
    call.update(|state, _| {
        let mut change = Change::default();
        for arn in &arns {
            check_exists(state, arn)?;
            change = change.then(tags::tag(state, arn, &given)?);
        }
        Ok((change, ()))
    })?;
    Ok(Structure::new())
}

pub fn remove_tags(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let arns = arns(&scope)?;
    let keys: Vec<(TagKey, Option<_>)> =
        scope.list("TagKeys").into_iter().map(|key| Ok((key.parse()?, None))).collect::<Result<_, Refusal>>()?;
    call.update(|state, _| {
        let mut change = Change::default();
        for arn in &arns {
            check_exists(state, arn)?;
            change = change.then(tags::untag(state, arn, Some(&keys))?);
        }
        Ok((change, ()))
    })?;
    Ok(Structure::new())
}

pub fn describe_tags(call: &Call<'_>) -> Result<Structure, Refusal> {
    let arns = arns(&call.scope())?;
    call.read(|state, _| {
        let mut rows = Vec::new();
        for arn in arns {
            check_exists(state, arn)?;
            let tags = state.tags_of(arn);
            let tags = tags.iter().map(|(key, value)| Structure::new().text("Key", key).text("Value", value));
            rows.push(Structure::new().text("ResourceArn", arn).list("Tags", tags));
        }
        Ok(Structure::new().list("TagDescriptions", rows))
    })
}

/// What the datapath has room for, and what is limited as in AWS.
pub fn account_limits(call: &Call<'_>) -> Result<Structure, Refusal> {
    let page = Page::elb(&call.scope())?;
    let crate::control::Limits { targets, listeners, endpoints: _ } = call.api.runtime.limits();
    let rows = [
        ("targets-per-network-load-balancer", targets as usize),
        ("listeners-per-network-load-balancer", listeners as usize),
        ("targets-per-availability-zone-per-network-load-balancer", targets as usize),
        ("targets-per-target-group", targets as usize),
        ("target-groups-per-action-on-network-load-balancer", Forward::MAX_GROUPS),
        ("target-groups-per-action-on-application-load-balancer", Forward::MAX_GROUPS),
        ("rules-per-application-load-balancer", rule_limits::MAX_RULES),
        ("condition-values-per-alb-rule", rule_limits::MAX_VALUES),
        ("certificates-per-network-load-balancer", TlsSettings::MAX_CERTIFICATES),
    ];
    let row = |(name, most): (&str, usize)| (name.to_owned(), Structure::new().text("Name", name).text("Max", most));
    let (items, token) = page.cut(rows.into_iter().map(row).collect());
    Ok(Structure::new().list("Limits", items).maybe("NextMarker", token))
}
