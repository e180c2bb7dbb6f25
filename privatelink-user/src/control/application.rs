//! Listeners of load balancers of type application, their rules, and such load balancers as targets: records that
//! nothing serves.

use std::{collections::BTreeSet, num::NonZeroU16};

use jiff::Timestamp;

use super::{Context, ControlError, Reference, error::RefusalKind, listeners::check_one_vpc, lookup};
use crate::{
    model::{
        ActionOrder, ApplicationListener, ApplicationListenerId, ApplicationProtocol, Authentication, CertificateId,
        Change, FirstAction, Forward, GroupProtocol, HttpsSettings, ListenerPorts, ListenerRule, ListenerRuleId,
        LoadBalancer, LoadBalancerId, LoadBalancerKind, OidcAuthentication, RegisteredLoadBalancer, RequestForward,
        RuleAction, RuleCondition, RulePriority, SecretText, State, TargetGroup, TargetGroupId,
    },
    tls::policy::ListenerPolicy,
};

/// What is refused about load balancers of type application and what belongs to them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationRefusal {
    #[error("A certificate must be specified for HTTPS listeners")]
    CertificateMissing,
    #[error("Certificates and SSL policies are not supported for listeners with the HTTP protocol")]
    NotHttps,
    #[error("The redirect configuration is not valid because it creates a loop.")]
    RedirectLoop,
    #[error("Action type '{0}' must be one of 'redirect,fixed-response,forward'")]
    AuthenticationNotHttps(&'static str),
    #[error("A client secret must be specified")]
    NoClientSecret,
    #[error("One or more rules not found")]
    RuleNotFound(String),
    #[error("Priority '{0}' is currently in use")]
    PriorityInUse(RulePriority),
    #[error("A rule can only have one '{0}' condition")]
    ConditionTwice(&'static str),
    #[error("A rule can only have '{limit}' condition values")]
    TooManyValues { limit: usize },
    #[error("You've reached the limit on the number of rules for this listener: {limit}")]
    TooManyRules { limit: usize },
    #[error("'{0}' is not the ARN of a load balancer of type application in the target group's VPC")]
    TargetNotApplication(String),
    #[error("A target group with the target type alb can have one target")]
    OneTarget,
    #[error(
        "The load balancer '{load_balancer}' does not have a listener on port '{port}', which the target group has"
    )]
    TargetWithoutListener { load_balancer: LoadBalancerId, port: u16 },
    #[error("The port '{given}' must be the port '{port}' of the target group with the target type alb")]
    TargetPort { given: u16, port: u16 },
    #[error("Target groups with the target type alb must have the TCP protocol")]
    AlbProtocol,
    #[error("Health checks of target groups with the target type alb must have the HTTP or HTTPS protocol")]
    AlbHealthCheck,
    #[error("The attributes of target groups with the target type alb cannot be changed")]
    AlbAttributes,
    #[error("Listeners with the protocol {0} cannot forward to target groups with the target type alb")]
    AlbListener(GroupProtocol),
    #[error("Listener port '{port}' is in use by registered target '{load_balancer}' and cannot be removed.")]
    ListenerInUse { port: NonZeroU16, load_balancer: LoadBalancerId, target_group: TargetGroupId },
    #[error("Load balancer '{load_balancer}' cannot be deleted because it is registered as a target")]
    Registered { load_balancer: LoadBalancerId, target_group: TargetGroupId },
}

impl ApplicationRefusal {
    /// The error's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CertificateMissing
            | Self::NotHttps
            | Self::AuthenticationNotHttps(_)
            | Self::NoClientSecret
            | Self::ConditionTwice(_)
            | Self::TooManyValues { .. }
            | Self::TargetPort { .. }
            | Self::AlbProtocol
            | Self::AlbHealthCheck => "ValidationError",
            Self::RedirectLoop => "InvalidLoadBalancerAction",
            Self::RuleNotFound(_) => "RuleNotFound",
            Self::PriorityInUse(_) => "PriorityInUse",
            Self::TooManyRules { .. } => "TooManyRules",
            Self::TargetNotApplication(_) | Self::TargetWithoutListener { .. } => "InvalidTarget",
            Self::OneTarget => "TooManyTargets",
            Self::AlbAttributes | Self::AlbListener(_) => "InvalidConfigurationRequest",
            Self::ListenerInUse { .. } | Self::Registered { .. } => "ResourceInUse",
        }
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::CertificateMissing
            | Self::NotHttps
            | Self::AuthenticationNotHttps(_)
            | Self::NoClientSecret
            | Self::RedirectLoop
            | Self::ConditionTwice(_)
            | Self::TooManyValues { .. }
            | Self::TargetNotApplication(_)
            | Self::TargetPort { .. }
            | Self::AlbProtocol
            | Self::AlbHealthCheck
            | Self::AlbAttributes
            | Self::AlbListener(_) => RefusalKind::Invalid,
            Self::RuleNotFound(_) => RefusalKind::NotFound,
            Self::PriorityInUse(_)
            | Self::TooManyRules { .. }
            | Self::OneTarget
            | Self::TargetWithoutListener { .. }
            | Self::ListenerInUse { .. }
            | Self::Registered { .. } => RefusalKind::Conflict,
        }
    }

    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::CertificateMissing => "`privatelink certificate list` shows the certificates".to_owned(),
            Self::NotHttps => "use the protocol HTTPS, or leave them out".to_owned(),
            Self::AuthenticationNotHttps(_) => "only HTTPS listeners and their rules authenticate".to_owned(),
            Self::NoClientSecret => "give one: there is none that could stay".to_owned(),
            Self::RedirectLoop => "change at least one of protocol, port, host and path".to_owned(),
            Self::RuleNotFound(rule) => format!("there is no rule '{rule}'"),
            Self::PriorityInUse(_) => "use another priority".to_owned(),
            Self::ConditionTwice(_) => "give all values in one condition".to_owned(),
            Self::TooManyValues { .. } | Self::TooManyRules { .. } => "make several rules, or fewer".to_owned(),
            Self::TargetNotApplication(_) => "`privatelink load-balancer list` shows the load balancers".to_owned(),
            Self::OneTarget => "deregister the present one first".to_owned(),
            Self::TargetWithoutListener { port, .. } => format!("make a listener on port {port} first"),
            Self::TargetPort { .. } => "leave the port out".to_owned(),
            Self::AlbProtocol => "use TCP".to_owned(),
            Self::AlbHealthCheck => "use HTTP or HTTPS".to_owned(),
            Self::AlbAttributes => "leave them as they are".to_owned(),
            Self::AlbListener(_) => "use a TCP listener".to_owned(),
            Self::ListenerInUse { target_group, .. } | Self::Registered { target_group, .. } => {
                format!("deregister it from target group '{target_group}' first")
            }
        }
    }
}

/// Rules that a listener may have beside its default one (AWS's default).
pub const MAX_RULES: usize = 100;
/// Values that the conditions of a rule may have together (AWS's quota).
pub const MAX_VALUES: usize = 5;

/// The load balancer of a request, if it is of type application.
fn application<'a>(state: &'a State, id: &LoadBalancerId) -> Result<&'a LoadBalancer, ControlError> {
    lookup::load_balancer(state, &id.into()).and_then(|lb| match lb.id.kind() {
        LoadBalancerKind::Application => Ok(lb),
        LoadBalancerKind::Network => Err(ControlError::LoadBalancerNotFound(id.to_string())),
    })
}

/// The listener of a request.
pub fn listener<'a>(state: &'a State, id: &ApplicationListenerId) -> Result<&'a ApplicationListener, ControlError> {
    state.application_listeners.get(id).ok_or_else(|| ControlError::ListenerNotFound(id.to_string()))
}

/// The rule of a request.
pub fn rule<'a>(state: &'a State, id: &ListenerRuleId) -> Result<&'a ListenerRule, ControlError> {
    state.listener_rules.get(id).ok_or_else(|| ApplicationRefusal::RuleNotFound(id.to_string()).into())
}

/// What a request says of a client secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretChoice {
    Given(SecretText),
    /// The one that is there stays.
    Existing,
}

impl SecretChoice {
    fn secret(&self, present: Option<&FirstAction>) -> Result<SecretText, ControlError> {
        match (self, present.map(|present| &present.authentication)) {
            (Self::Given(secret), _) => Ok(secret.clone()),
            (Self::Existing, Some(Authentication::AuthenticateOidc(present))) => Ok(present.client_secret.clone()),
            (
                Self::Existing,
                Some(Authentication::AuthenticateCognito(_) | Authentication::JwtValidation(_)) | None,
            ) => Err(ApplicationRefusal::NoClientSecret.into()),
        }
    }
}

/// What a request wants to become of requests.
#[derive(Debug, Clone)]
pub struct Actions {
    pub authentication: Option<FirstAction<SecretChoice>>,
    pub action: RuleAction,
    /// The action's.
    pub order: ActionOrder,
}

impl Actions {
    /// The authentication with its secret, which may be that of the `present` one.
    fn authentication(&self, present: Option<&FirstAction>) -> Result<Option<FirstAction>, ControlError> {
        let Some(FirstAction { order, authentication }) = &self.authentication else { return Ok(None) };
        let authentication = match authentication {
            Authentication::AuthenticateOidc(oidc) => {
                let OidcAuthentication {
                    issuer,
                    authorization_endpoint,
                    token_endpoint,
                    user_info_endpoint,
                    client_id,
                    client_secret,
                    session,
                } = oidc.clone();
                Authentication::AuthenticateOidc(OidcAuthentication {
                    issuer,
                    authorization_endpoint,
                    token_endpoint,
                    user_info_endpoint,
                    client_id,
                    client_secret: client_secret.secret(present)?,
                    session,
                })
            }
            Authentication::AuthenticateCognito(cognito) => Authentication::AuthenticateCognito(cognito.clone()),
            Authentication::JwtValidation(jwt) => Authentication::JwtValidation(jwt.clone()),
        };
        Ok(Some(FirstAction { order: *order, authentication }))
    }
}

/// Refuses an authentication that a listener of `protocol` cannot have.
fn check_authentication(protocol: ApplicationProtocol, first: Option<&FirstAction>) -> Result<(), ControlError> {
    match (protocol, first) {
        (ApplicationProtocol::Http, Some(first)) => {
            Err(ApplicationRefusal::AuthenticationNotHttps(first.authentication.kind()).into())
        }
        (ApplicationProtocol::Http, None) | (ApplicationProtocol::Https, _) => Ok(()),
    }
}

/// Refuses an action that a listener of `lb` and `protocol` cannot have.
fn check_action(
    state: &State,
    lb: &LoadBalancer,
    protocol: ApplicationProtocol,
    action: &RuleAction,
) -> Result<(), ControlError> {
    let RequestForward { weights, stickiness: _ } = match action {
        RuleAction::Forward(forward) => forward,
        RuleAction::Redirect(redirect) if redirect.is_loop() => return Err(ApplicationRefusal::RedirectLoop.into()),
        RuleAction::Redirect(_) | RuleAction::FixedResponse(_) => return Ok(()),
    };
    if weights.is_empty() {
        return Err(ControlError::ForwardMissing);
    }
    if weights.len() > Forward::MAX_GROUPS {
        return Err(ControlError::TooManyForwarded { limit: Forward::MAX_GROUPS });
    }
    for id in weights.keys() {
        let group = lookup::target_group(state, &id.into())?;
        check_one_vpc(lb, group)?;
        match group.protocol {
            GroupProtocol::Application(_) => {}
            GroupProtocol::Transport(_) => {
                return Err(ControlError::IncompatibleProtocols {
                    target_group: group.id.clone(),
                    group: group.protocol,
                    listener: GroupProtocol::Application(protocol),
                });
            }
        }
    }
    Ok(())
}

/// What an HTTPS listener is to show; what is not given is as it was.
#[derive(Debug, Clone, Default)]
pub struct HttpsChoice {
    pub certificate: Option<Reference>,
    pub policy: Option<ListenerPolicy>,
}

impl HttpsChoice {
    fn settings(
        &self,
        state: &State,
        protocol: ApplicationProtocol,
        present: Option<&HttpsSettings>,
    ) -> Result<Option<HttpsSettings>, ControlError> {
        let Self { certificate, policy } = self;
        match protocol {
            ApplicationProtocol::Http if certificate.is_some() || policy.is_some() => {
                return Err(ApplicationRefusal::NotHttps.into());
            }
            ApplicationProtocol::Http => return Ok(None),
            ApplicationProtocol::Https => {}
        }
        let named = certificate.as_ref().map(|reference| lookup::certificate(state, reference)).transpose()?;
        let certificate = named.map(|named| &named.id).or(present.map(|present| &present.certificate));
        Ok(Some(HttpsSettings {
            certificate: certificate.cloned().ok_or(ApplicationRefusal::CertificateMissing)?,
            more: present.map(|present| present.more.clone()).unwrap_or_default(),
            policy: policy.or_else(|| present.map(|present| present.policy)).unwrap_or_default(),
        }))
    }
}

/// Makes a listener. Idempotent.
pub struct CreateApplicationListener {
    pub load_balancer: LoadBalancerId,
    pub protocol: ApplicationProtocol,
    pub port: NonZeroU16,
    pub https: HttpsChoice,
    pub actions: Actions,
}

impl CreateApplicationListener {
    /// The change, and what it makes.
    pub fn decide(
        &self,
        state: &State,
        context: &mut Context<'_>,
    ) -> Result<(Change, ApplicationListenerId), ControlError> {
        let Self { load_balancer, protocol, port, https, actions } = self;
        let lb = application(state, load_balancer)?;
        let https = https.settings(state, *protocol, None)?;
        let (authentication, action) = (actions.authentication(None)?, &actions.action);
        check_authentication(*protocol, authentication.as_ref())?;
        check_action(state, lb, *protocol, action)?;
        if let Some(present) = state.application_listeners_of(&lb.id).find(|listener| listener.port == *port) {
            let same = present.authentication == authentication && present.action == *action;
            return if present.https == https && same {
                Ok((Change::default(), present.id.clone()))
            } else {
                Err(duplicate(lb, *port))
            };
        }
        let id = ApplicationListenerId::generate(&lb.id, context.ids);
        let made = ApplicationListener {
            id: id.clone(),
            load_balancer: lb.id.clone(),
            port: *port,
            https,
            authentication,
            action: action.clone(),
            order: actions.order,
            created_at: context.now,
        };
        Ok((Change::default().put(made), id))
    }
}

fn duplicate(lb: &LoadBalancer, port: NonZeroU16) -> ControlError {
    match ListenerPorts::try_from(port.get()) {
        Ok(port) => ControlError::DuplicateListener { load_balancer: lb.id.clone(), port },
        Err(invalid) => invalid.into(),
    }
}

/// Changes a listener. What is not given stays.
#[derive(Default)]
pub struct ModifyApplicationListener {
    pub protocol: Option<ApplicationProtocol>,
    pub port: Option<NonZeroU16>,
    pub https: HttpsChoice,
    pub actions: Option<Actions>,
}

impl ModifyApplicationListener {
    pub fn decide(&self, state: &State, id: &ApplicationListenerId) -> Result<Change, ControlError> {
        let Self { protocol, port, https, actions } = self;
        let present = listener(state, id)?;
        let lb = application(state, &present.load_balancer)?;
        let protocol = protocol.unwrap_or(present.protocol());
        let changed = ApplicationListener {
            port: port.unwrap_or(present.port),
            https: https.settings(state, protocol, present.https.as_ref())?,
            ..present.clone()
        };
        let changed = match actions {
            Some(actions) => ApplicationListener {
                authentication: actions.authentication(present.authentication.as_ref())?,
                action: actions.action.clone(),
                order: actions.order,
                ..changed
            },
            None => changed,
        };
        let rules = state.rules_of(id).into_iter().map(|rule| rule.authentication.as_ref());
        for authentication in rules.chain([changed.authentication.as_ref()]) {
            check_authentication(protocol, authentication)?;
        }
        check_action(state, lb, protocol, &changed.action)?;
        let taken = |other: &ApplicationListener| other.id != changed.id && other.port == changed.port;
        if state.application_listeners_of(&lb.id).any(taken) {
            return Err(duplicate(lb, changed.port));
        }
        if changed.port != present.port {
            check_no_target(state, present)?;
        }
        Ok(Change::replace(present, changed))
    }
}

/// Refuses to take a listener away by whose port its load balancer is a target.
fn check_no_target(state: &State, listener: &ApplicationListener) -> Result<(), ControlError> {
    let registered = registrations(state, &listener.load_balancer).find(|group| group.port == listener.port.get());
    match registered {
        Some(group) => Err(ApplicationRefusal::ListenerInUse {
            port: listener.port,
            load_balancer: listener.load_balancer.clone(),
            target_group: group.id.clone(),
        }
        .into()),
        None => Ok(()),
    }
}

/// The groups whose target a load balancer is.
fn registrations<'a>(state: &'a State, lb: &'a LoadBalancerId) -> impl Iterator<Item = &'a TargetGroup> {
    state.target_groups.values().filter(move |group| group.load_balancer.as_ref().is_some_and(|one| one.id == *lb))
}

/// Deletes a listener with its rules.
pub fn delete_listener(state: &State, id: &ApplicationListenerId) -> Result<Change, ControlError> {
    let present = listener(state, id)?;
    check_no_target(state, present)?;
    Ok(removed(state, present, Change::default()))
}

fn removed(state: &State, listener: &ApplicationListener, change: Change) -> Change {
    let rules = state.rules_of(&listener.id).into_iter();
    rules.fold(change, |change, rule| change.remove(rule.id.clone())).remove(listener.id.clone())
}

/// What goes with a load balancer of type application.
///
/// # Errors
///
/// [`ApplicationRefusal::Registered`]
pub(super) fn without_listeners(state: &State, lb: &LoadBalancer) -> Result<Change, ControlError> {
    if let Some(group) = registrations(state, &lb.id).next() {
        let (load_balancer, target_group) = (lb.id.clone(), group.id.clone());
        return Err(ApplicationRefusal::Registered { load_balancer, target_group }.into());
    }
    let listeners = state.application_listeners_of(&lb.id);
    Ok(listeners.fold(Change::default(), |change, listener| removed(state, listener, change)))
}

/// The groups whose target a load balancer is, without it.
pub(super) fn deregistered(state: &State, lb: &LoadBalancerId) -> Change {
    registrations(state, lb).map(without_target).fold(Change::default(), Change::put)
}

/// `group`, whose type is alb, without its target.
fn without_target(group: &TargetGroup) -> TargetGroup {
    TargetGroup { load_balancer: None, ..group.clone() }
}

/// What takes a target group out of listeners and rules: those that lead nowhere else go, and what is a target by such
/// a listener is one no more.
pub(super) fn without_group(state: &State, group: &TargetGroupId) -> Change {
    let without = |action: &RuleAction| match action {
        RuleAction::Forward(RequestForward { weights, stickiness }) => {
            let mut weights = weights.clone();
            weights.remove(group);
            (!weights.is_empty()).then_some(RuleAction::Forward(RequestForward { weights, stickiness: *stickiness }))
        }
        action @ (RuleAction::Redirect(_) | RuleAction::FixedResponse(_)) => Some(action.clone()),
    };
    let mut change = Change::default();
    for rule in state.listener_rules.values().filter(|rule| rule.action.groups().any(|id| id == group)) {
        change = match without(&rule.action) {
            Some(action) => change.put(ListenerRule { action, ..rule.clone() }),
            None => change.remove(rule.id.clone()),
        };
    }
    for listener in state.application_listeners.values() {
        if !listener.action.groups().any(|id| id == group) {
            continue;
        }
        change = match without(&listener.action) {
            Some(action) => change.put(ApplicationListener { action, ..listener.clone() }),
            None => {
                let by_it = registrations(state, &listener.load_balancer)
                    .filter(|registered| registered.port == listener.port.get())
                    .map(without_target);
                removed(state, listener, by_it.fold(change, Change::put))
            }
        };
    }
    change
}

/// Adds certificates that an HTTPS listener shows by server name, or takes some away.
pub fn change_certificates(
    state: &State,
    id: &ApplicationListenerId,
    add: &[Reference],
    remove: &[Reference],
) -> Result<Change, ControlError> {
    let present = listener(state, id)?;
    let https = present.https.as_ref().ok_or(ApplicationRefusal::NotHttps)?;
    let ids = |references: &[Reference]| -> Result<BTreeSet<CertificateId>, ControlError> {
        references.iter().map(|reference| Ok(lookup::certificate(state, reference)?.id.clone())).collect()
    };
    let (added, gone) = (ids(add)?, ids(remove)?);
    if gone.contains(&https.certificate) && !https.more.contains(&https.certificate) {
        return Err(ControlError::DefaultCertificate(https.certificate.clone()));
    }
    let more = https.more.union(&added).filter(|one| !gone.contains(*one)).cloned().collect();
    let changed = ApplicationListener { https: Some(HttpsSettings { more, ..https.clone() }), ..present.clone() };
    Ok(Change::replace(present, changed))
}

/// Refuses conditions that no rule can have.
fn check_conditions(conditions: &[RuleCondition]) -> Result<(), ControlError> {
    let mut seen = BTreeSet::new();
    for condition in conditions {
        if !condition.may_repeat() && !seen.insert(condition.field()) {
            return Err(ApplicationRefusal::ConditionTwice(condition.field()).into());
        }
    }
    if conditions.iter().map(RuleCondition::values).sum::<usize>() > MAX_VALUES {
        return Err(ApplicationRefusal::TooManyValues { limit: MAX_VALUES }.into());
    }
    Ok(())
}

/// Makes a rule.
pub struct CreateListenerRule {
    pub listener: ApplicationListenerId,
    pub priority: RulePriority,
    pub conditions: Vec<RuleCondition>,
    pub actions: Actions,
}

impl CreateListenerRule {
    /// The change, and what it makes.
    pub fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, ListenerRuleId), ControlError> {
        let Self { listener: of, priority, conditions, actions } = self;
        let of = listener(state, of)?;
        let lb = application(state, &of.load_balancer)?;
        check_conditions(conditions)?;
        let authentication = actions.authentication(None)?;
        check_authentication(of.protocol(), authentication.as_ref())?;
        check_action(state, lb, of.protocol(), &actions.action)?;
        let present = state.rules_of(&of.id);
        if present.iter().any(|rule| rule.priority == *priority) {
            return Err(ApplicationRefusal::PriorityInUse(*priority).into());
        }
        if present.len() >= MAX_RULES {
            return Err(ApplicationRefusal::TooManyRules { limit: MAX_RULES }.into());
        }
        let id = ListenerRuleId::generate(&of.id, context.ids);
        let made = ListenerRule {
            id: id.clone(),
            listener: of.id.clone(),
            priority: *priority,
            conditions: conditions.clone(),
            authentication,
            action: actions.action.clone(),
            order: actions.order,
            created_at: context.now,
        };
        Ok((Change::default().put(made), id))
    }
}

/// Changes a rule's conditions or actions; what is not given stays.
pub fn modify_rule(
    state: &State,
    id: &ListenerRuleId,
    conditions: Option<Vec<RuleCondition>>,
    actions: Option<Actions>,
) -> Result<Change, ControlError> {
    let present = rule(state, id)?;
    let of = listener(state, &present.listener)?;
    let lb = application(state, &of.load_balancer)?;
    let changed =
        ListenerRule { conditions: conditions.unwrap_or_else(|| present.conditions.clone()), ..present.clone() };
    let changed = match actions {
        Some(actions) => ListenerRule {
            authentication: actions.authentication(present.authentication.as_ref())?,
            action: actions.action,
            order: actions.order,
            ..changed
        },
        None => changed,
    };
    check_conditions(&changed.conditions)?;
    check_authentication(of.protocol(), changed.authentication.as_ref())?;
    check_action(state, lb, of.protocol(), &changed.action)?;
    Ok(Change::replace(present, changed))
}

/// Deletes a rule.
pub fn delete_rule(state: &State, id: &ListenerRuleId) -> Result<Change, ControlError> {
    Ok(Change::default().remove(rule(state, id)?.id.clone()))
}

/// Gives rules other priorities, all at once: two may change places.
pub fn set_priorities(state: &State, wanted: &[(ListenerRuleId, RulePriority)]) -> Result<Change, ControlError> {
    let mut next = state.clone();
    let mut change = Change::default();
    for (id, priority) in wanted {
        let changed = ListenerRule { priority: *priority, ..rule(state, id)?.clone() };
        next.put(changed.clone().into());
        change = change.put(changed);
    }
    for (id, priority) in wanted {
        let of = &rule(&next, id)?.listener;
        if next.rules_of(of).iter().filter(|rule| rule.priority == *priority).count() > 1 {
            return Err(ApplicationRefusal::PriorityInUse(*priority).into());
        }
    }
    Ok(change)
}

/// The load balancer that `reference` means as a target of `group`.
pub(super) fn target<'a>(
    state: &'a State,
    group: &TargetGroup,
    reference: &str,
) -> Result<&'a LoadBalancer, ControlError> {
    let found = lookup::load_balancer(state, &reference.into()).ok();
    let fits = |lb: &&LoadBalancer| lb.id.kind() == LoadBalancerKind::Application && lb.vpc == group.vpc;
    found.filter(fits).ok_or_else(|| ApplicationRefusal::TargetNotApplication(reference.to_owned()).into())
}

/// Makes a load balancer the only target of `group`, whose type is alb.
pub(super) fn register(
    state: &State,
    group: &TargetGroup,
    targets: &[(&str, Option<u16>)],
    now: Timestamp,
) -> Result<TargetGroup, ControlError> {
    let mut changed = group.clone();
    for (reference, port) in targets {
        let lb = target(state, group, reference)?;
        if let Some(given) = port.filter(|given| *given != group.port) {
            return Err(ApplicationRefusal::TargetPort { given, port: group.port }.into());
        }
        if !state.application_listeners_of(&lb.id).any(|listener| listener.port.get() == group.port) {
            let load_balancer = lb.id.clone();
            return Err(ApplicationRefusal::TargetWithoutListener { load_balancer, port: group.port }.into());
        }
        match &changed.load_balancer {
            Some(present) if present.id != lb.id => return Err(ApplicationRefusal::OneTarget.into()),
            Some(_) => {}
            None => changed.load_balancer = Some(RegisteredLoadBalancer { id: lb.id.clone(), registered_at: now }),
        }
    }
    Ok(changed)
}

/// `group`, whose type is alb, without these targets. It has no flows, so nothing drains.
pub(super) fn deregister(group: &TargetGroup, targets: &[&str]) -> TargetGroup {
    let named = |present: &RegisteredLoadBalancer| {
        targets.iter().any(|text| *text == present.id.as_str() || present.id.name() == *text)
    };
    TargetGroup { load_balancer: group.load_balancer.clone().filter(|present| !named(present)), ..group.clone() }
}
