//! Rules of listeners. Each listener has its default rule, which says what its default action does. Others are for
//! listeners of load balancers of type application, whose rules are records; a listener of a network load balancer has
//! none.

use std::collections::BTreeSet;

use super::{
    application::{action_views, condition_view, default_actions, read_actions, read_conditions},
    listeners::{action, application_arn},
};
use crate::{
    api::query::{
        call::{Call, read_tags, with_tags},
        filter::Page,
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError,
        application::{self, ApplicationRefusal, CreateListenerRule},
        lookup,
    },
    model::{
        ApplicationListener, ApplicationListenerId, IpAddressType, Listener, ListenerRule, ListenerRuleId,
        RulePriority, State, derived,
    },
};

/// The ARN of the default rule of the listener `arn`.
fn default_rule(arn: &str) -> String {
    let rule = arn.replacen(":listener/", ":listener-rule/", 1);
    format!("{rule}/{}", derived::hex(16, &["default rule", arn]))
}

fn not_found(arn: &str) -> Refusal {
    ControlError::from(ApplicationRefusal::RuleNotFound(arn.to_owned())).into()
}

fn default_view(arn: String, actions: impl IntoIterator<Item = Structure>) -> Structure {
    Structure::new()
        .text("RuleArn", arn)
        .text("Priority", "default")
        .list("Conditions", [] as [Structure; 0])
        .list("Actions", actions)
        .text("IsDefault", true)
}

fn view(rule: &ListenerRule) -> Structure {
    Structure::new()
        .text("RuleArn", &rule.id)
        .text("Priority", rule.priority)
        .list("Conditions", rule.conditions.iter().map(condition_view))
        .list("Actions", action_views(rule.authentication.as_ref(), &rule.action, rule.order))
        .text("IsDefault", false)
}

/// A rule as a listener has it.
enum Rule<'a> {
    DefaultOfNetwork(&'a Listener),
    DefaultOfApplication(&'a ApplicationListener),
    Other(&'a ListenerRule),
}

impl Rule<'_> {
    /// The ARN of its listener.
    fn listener(&self) -> &str {
        match self {
            Self::DefaultOfNetwork(listener) => listener.id.as_str(),
            Self::DefaultOfApplication(listener) => listener.id.as_str(),
            Self::Other(rule) => rule.listener.as_str(),
        }
    }

    fn arn(&self) -> String {
        match self {
            Self::DefaultOfNetwork(_) | Self::DefaultOfApplication(_) => default_rule(self.listener()),
            Self::Other(rule) => rule.id.to_string(),
        }
    }

    /// By listener, and in the order in which its rules are asked, the default one last.
    fn key(&self) -> String {
        match self {
            Self::DefaultOfNetwork(_) | Self::DefaultOfApplication(_) => format!("{} default", self.listener()),
            Self::Other(rule) => format!("{} {:05}", self.listener(), rule.priority.get()),
        }
    }

    fn view(&self) -> Structure {
        match self {
            Self::DefaultOfNetwork(listener) => default_view(self.arn(), [action(listener)]),
            Self::DefaultOfApplication(listener) => default_view(self.arn(), default_actions(listener)),
            Self::Other(rule) => view(rule),
        }
    }
}

/// The default rules of all listeners.
fn defaults(state: &State) -> impl Iterator<Item = Rule<'_>> {
    let network = state.listeners.values().map(Rule::DefaultOfNetwork);
    network.chain(state.application_listeners.values().map(Rule::DefaultOfApplication))
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (listener, arns, page) = (scope.text("ListenerArn"), scope.list("RuleArns"), Page::elb(&scope)?);
    let of_application: Option<ApplicationListenerId> = application_arn(&scope);
    call.read(|state: &State, _| {
        match (&of_application, listener) {
            (Some(id), _) => drop(application::listener(state, id)?),
            (None, Some(listener)) => drop(lookup::listener(state, &listener.into())?),
            (None, None) => {}
        }
        let wanted = |rule: &Rule<'_>| {
            listener.is_none_or(|listener| rule.listener() == listener)
                && (arns.is_empty() || arns.contains(&rule.arn().as_str()))
        };
        let rules = defaults(state).chain(state.listener_rules.values().map(Rule::Other));
        let rules: Vec<Rule<'_>> = rules.filter(wanted).collect();
        let present: BTreeSet<String> = rules.iter().map(Rule::arn).collect();
        if let Some(missing) = arns.iter().find(|arn| !present.contains(**arn)) {
            return Err(not_found(missing));
        }
        let found = rules.iter().map(|rule| (rule.key(), rule.view())).collect();
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("Rules", items).maybe("NextMarker", token))
    })
}

fn shown(call: &Call<'_>, ids: &[ListenerRuleId]) -> Result<Structure, Refusal> {
    call.read(|state, _| {
        let views: Vec<Structure> =
            ids.iter().map(|id| Ok(view(application::rule(state, id)?))).collect::<Result<_, Refusal>>()?;
        Ok(Structure::new().list("Rules", views))
    })
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let arn = scope.required("ListenerArn")?;
    scope.required("Priority")?;
    for list in ["Conditions", "Actions"] {
        if scope.structures(list).is_empty() {
            return Err(Refusal::missing(list));
        }
    }
    let Some(listener) = application_arn(&scope) else { return network_rule(call, arn) };
    let request = CreateListenerRule {
        listener,
        priority: priority(&scope)?,
        conditions: read_conditions(&scope)?,
        actions: read_actions(&scope.structures("Actions"))?.ok_or_else(|| Refusal::missing("Actions"))?,
    };
    let tags = read_tags(&scope.structures("Tags"))?;
    let id = call.update(|state, context| {
        let (change, id) = request.decide(state, context)?;
        Ok((with_tags(state, change, id.as_str(), &tags)?, id))
    })?;
    shown(call, &[id])
}

fn priority(scope: &Scope<'_>) -> Result<RulePriority, Refusal> {
    Ok(scope.required("Priority")?.parse()?)
}

/// Refuses a rule of a network load balancer's listener: AWS has them for dual-stack ones only, and here these have
/// none either.
fn network_rule(call: &Call<'_>, arn: &str) -> Result<Structure, Refusal> {
    call.read(|state, _| {
        let listener = lookup::listener(state, &arn.into())?;
        let lb = lookup::load_balancer(state, &(&listener.load_balancer).into())?;
        let why = match lb.ip_address_type() {
            IpAddressType::Ipv4 => {
                "they are supported for network load balancers with IP address type 'dualstack' only"
            }
            IpAddressType::Dualstack => {
                "rules by the IP address type of clients are not supported here; clients of both types reach targets of either"
            }
        };
        let message = format!("Listener '{}' cannot have rules: {why}", listener.id);
        Err(Refusal::coded("InvalidConfigurationRequest", message))
    })
}

/// The rules of a request, none of which may be a default one, for which `why` says what cannot be done.
fn named(call: &Call<'_>, arns: &[&str], why: &str) -> Result<Vec<ListenerRuleId>, Refusal> {
    call.read(|state, _| {
        let find =
            |arn: &&str| match arn.parse::<ListenerRuleId>().ok().filter(|id| state.listener_rules.contains_key(id)) {
                Some(id) => Ok(id),
                None if defaults(state).any(|rule| rule.arn() == *arn) => {
                    Err(Refusal::coded("OperationNotPermitted", format!("Default rule '{arn}' cannot be {why}")))
                }
                None => Err(not_found(arn)),
            };
        arns.iter().map(find).collect()
    })
}

/// The rule of a request.
fn one(call: &Call<'_>, why: &str) -> Result<ListenerRuleId, Refusal> {
    let arn = call.scope().required("RuleArn")?;
    named(call, &[arn], why)?.into_iter().next().ok_or_else(|| not_found(arn))
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = one(call, "modified: modify its listener")?;
    let conditions = Some(read_conditions(&scope)?).filter(|conditions| !conditions.is_empty());
    let actions = read_actions(&scope.structures("Actions"))?;
    call.update(|state, _| Ok((application::modify_rule(state, &id, conditions, actions)?, ())))?;
    shown(call, &[id])
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let id = one(call, "deleted")?;
    call.update(|state, _| Ok((application::delete_rule(state, &id)?, ())))?;
    Ok(Structure::new())
}

pub fn set_priorities(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let pairs = scope.structures("RulePriorities");
    if pairs.is_empty() {
        return Err(Refusal::missing("RulePriorities"));
    }
    let arns: Vec<&str> = pairs.iter().map(|pair| pair.required("RuleArn")).collect::<Result<_, _>>()?;
    let priorities: Vec<RulePriority> = pairs.iter().map(priority).collect::<Result<_, _>>()?;
    let ids = named(call, &arns, "given a priority")?;
    let wanted: Vec<_> = ids.iter().cloned().zip(priorities).collect();
    call.update(|state, _| Ok((application::set_priorities(state, &wanted)?, ())))?;
    shown(call, &ids)
}
