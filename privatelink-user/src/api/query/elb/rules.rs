//! Rules of listeners. A listener of a network load balancer has its default rule, which says what its default action does;
//! others it can have only if the load balancer is dual-stack, and none is.

use super::listeners::action;
use crate::{
    api::query::{call::Call, filter::Page, refusal::Refusal, xml::Structure},
    control::lookup,
    model::{Listener, State, derived},
};

/// The ARN of a listener's default rule.
fn default_rule(listener: &Listener) -> String {
    let arn = listener.id.as_str().replacen(":listener/net/", ":listener-rule/net/", 1);
    format!("{arn}/{}", derived::hex(16, &["default rule", listener.id.as_str()]))
}

fn not_found() -> Refusal {
    Refusal::coded("RuleNotFound", "One or more rules not found")
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (listener, arns, page) = (scope.text("ListenerArn"), scope.list("RuleArns"), Page::elb(&scope)?);
    call.read(|state: &State, _| {
        if let Some(listener) = listener {
            lookup::listener(state, &listener.into())?;
        }
        let rules = state
            .listeners
            .values()
            .filter(|one| listener.is_none_or(|listener| one.id.as_str() == listener))
            .map(|one| (default_rule(one), one))
            .filter(|(rule, _)| arns.is_empty() || arns.contains(&rule.as_str()));
        let rows: Vec<(String, Structure)> = rules
            .map(|(rule, one)| {
                let row = Structure::new()
                    .text("RuleArn", &rule)
                    .text("Priority", "default")
                    .list("Conditions", [] as [Structure; 0])
                    .list("Actions", [action(one)])
                    .text("IsDefault", true);
                (rule, row)
            })
            .collect();
        if rows.len() < arns.len() {
            return Err(not_found());
        }
        let (items, token) = page.cut(rows);
        Ok(Structure::new().list("Rules", items).maybe("NextMarker", token))
    })
}

/// Refuses: no load balancer is of the kind whose listeners have more than the default rule.
pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let listener = scope.required("ListenerArn")?;
    scope.required("Priority")?;
    for list in ["Conditions", "Actions"] {
        if scope.structures(list).is_empty() {
            return Err(Refusal::missing(list));
        }
    }
    call.read(|state, _| {
        let listener = lookup::listener(state, &listener.into())?;
        let message = format!(
            "Listener '{}' cannot have rules: they are supported for network load balancers with IP address type \
             'dualstack' only",
            listener.id
        );
        Err(Refusal::coded("InvalidConfigurationRequest", message))
    })
}

/// Refuses a rule that is not there, and a default rule, for which `why` says what cannot be done.
fn only_default(call: &Call<'_>, arns: &[&str], why: &str) -> Result<Structure, Refusal> {
    call.read(|state, _| {
        let is_default = |arn: &&str| state.listeners.values().any(|listener| default_rule(listener) == *arn);
        match arns.first() {
            Some(arn) if arns.iter().all(is_default) => {
                Err(Refusal::coded("OperationNotPermitted", format!("Default rule '{arn}' cannot be {why}")))
            }
            Some(_) | None => Err(not_found()),
        }
    })
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    only_default(call, &[call.scope().required("RuleArn")?], "modified: modify its listener")
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    only_default(call, &[call.scope().required("RuleArn")?], "deleted")
}

pub fn set_priorities(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let pairs = scope.structures("RulePriorities");
    if pairs.is_empty() {
        return Err(Refusal::missing("RulePriorities"));
    }
    let arns = pairs.iter().map(|pair| {
        pair.required("Priority")?;
        pair.required("RuleArn")
    });
    let arns: Vec<&str> = arns.collect::<Result<_, Refusal>>()?;
    only_default(call, &arns, "given a priority")
}
