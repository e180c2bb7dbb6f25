//! Listeners of load balancers of type application, their actions and conditions, on the wire.

use std::{collections::BTreeMap, num::NonZeroU16};

use super::{
    authentication,
    listeners::{default_certificate, forwarded, policy_of},
};
use crate::{
    api::query::{
        call::{Call, read_tags, with_tags},
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Reference,
        application::{self, Actions, CreateApplicationListener, HttpsChoice, ModifyApplicationListener},
        listeners::TargetGroupWeight,
    },
    model::{
        ActionOrder, ApplicationListener, ApplicationListenerId, CertificateId, FirstAction, FixedResponse,
        InvalidValue, LoadBalancerId, Patterns, Redirect, RequestForward, RuleAction, RuleCondition,
    },
};

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::coded("ValidationError", message)
}

/// The actions of a list in their order: the last one routes, and one before it may authenticate. None of an empty
/// list.
pub fn read_actions(list: &[Scope<'_>]) -> Result<Option<Actions>, Refusal> {
    let misplaced = |message: &str| Refusal::coded("InvalidLoadBalancerAction", message);
    let mut ordered: BTreeMap<ActionOrder, &Scope<'_>> = BTreeMap::new();
    for action in list {
        let order = match action.parsed("Order")? {
            Some(order) => order,
            None if list.len() == 1 => ActionOrder::default(),
            None => return Err(wrong("An order must be specified for each of multiple actions")),
        };
        if ordered.insert(order, action).is_some() {
            return Err(wrong(format!("The order '{order}' can be specified for one action only")));
        }
    }
    let Some((order, last)) = ordered.pop_last() else { return Ok(None) };
    let action = read_action(last)?;
    let authentication = match ordered.pop_last() {
        None => None,
        Some((order, first)) => {
            let read = authentication::read(first.required("Type")?, first)?;
            let authentication = read.ok_or_else(|| misplaced(ONE_ROUTE))?;
            Some(FirstAction { order, authentication })
        }
    };
    match ordered.is_empty() {
        true => Ok(Some(Actions { authentication, action, order })),
        false => Err(misplaced("A rule can have one authenticate-oidc, authenticate-cognito or jwt-validation action")),
    }
}

const ONE_ROUTE: &str = "Exactly one forward, redirect or fixed-response action must be specified, as the last one";

/// An action that says what becomes of a request.
fn read_action(scope: &Scope<'_>) -> Result<RuleAction, Refusal> {
    let refused = |message: String| Err(Refusal::coded("InvalidLoadBalancerAction", message));
    match scope.required("Type")? {
        "forward" => read_forward(scope).map(RuleAction::Forward),
        "redirect" => read_redirect(&scope.structure("RedirectConfig")).map(RuleAction::Redirect),
        "fixed-response" => read_response(&scope.structure("FixedResponseConfig")).map(RuleAction::FixedResponse),
        "authenticate-oidc" | "authenticate-cognito" | "jwt-validation" => refused(ONE_ROUTE.to_owned()),
        other => refused(format!(
            "Action type '{other}' must be one of '[forward, authenticate-oidc, authenticate-cognito, redirect, \
             fixed-response, jwt-validation]'"
        )),
    }
}

fn read_forward(scope: &Scope<'_>) -> Result<RequestForward, Refusal> {
    let (groups, sticky) = forwarded(scope)?;
    let duration =
        scope.structure("ForwardConfig").structure("TargetGroupStickinessConfig").number("DurationSeconds")?;
    let mut weights = BTreeMap::new();
    for TargetGroupWeight { target_group, weight } in groups {
        let unknown = || ControlError::TargetGroupNotFound(target_group.as_str().to_owned());
        let id: crate::model::TargetGroupId = target_group.as_str().parse().map_err(|_| unknown())?;
        if weights.insert(id.clone(), weight).is_some() {
            return Err(ControlError::ForwardTwice(id).into());
        }
    }
    let stickiness = match (sticky.unwrap_or(false), duration) {
        (false, _) => None,
        (true, Some(seconds)) if (1..=RequestForward::MAX_STICKINESS).contains(&seconds) => Some(seconds),
        (true, Some(seconds)) => {
            return Err(Refusal::value(
                "DurationSeconds",
                &seconds.to_string(),
                "must be between '1-604800' inclusive",
            ));
        }
        (true, None) => return Err(Refusal::missing("TargetGroupStickinessConfig.DurationSeconds")),
    };
    Ok(RequestForward { weights, stickiness })
}

fn read_redirect(scope: &Scope<'_>) -> Result<Redirect, Refusal> {
    let permanent = match scope.required("StatusCode")? {
        "HTTP_301" => true,
        "HTTP_302" => false,
        other => return Err(Refusal::value("StatusCode", other, "must be one of '[HTTP_301, HTTP_302]'")),
    };
    let whole = Redirect::to_itself(permanent);
    let part = |name: &str, usual: String, most: usize| match scope.text(name) {
        Some(text) if text.len() > most => {
            Err(Refusal::value(name, text, &format!("cannot be longer than '{most}' characters")))
        }
        given => Ok(given.map_or(usual, str::to_owned)),
    };
    let protocol = part("Protocol", whole.protocol, 16)?;
    if !["HTTP", "HTTPS", "#{protocol}"].contains(&protocol.as_str()) {
        return Err(Refusal::value("Protocol", &protocol, "must be one of '[HTTP, HTTPS, #{protocol}]'"));
    }
    let port = part("Port", whole.port, 16)?;
    if port != "#{port}" && port.parse::<NonZeroU16>().is_err() {
        return Err(Refusal::value("Port", &port, "must be between '1-65535' inclusive, or '#{port}'"));
    }
    let path = part("Path", whole.path, 128)?;
    if !path.starts_with('/') {
        return Err(Refusal::value("Path", &path, "must begin with '/'"));
    }
    let (host, query) = (part("Host", whole.host, 128)?, part("Query", whole.query, 128)?);
    Ok(Redirect { protocol, host, port, path, query, permanent })
}

fn read_response(scope: &Scope<'_>) -> Result<FixedResponse, Refusal> {
    let body = scope.text("MessageBody").map(str::to_owned);
    if let Some(long) = body.as_ref().filter(|body| body.chars().count() > FixedResponse::MAX_BODY) {
        let rule = format!("cannot be longer than '{}' characters", FixedResponse::MAX_BODY);
        return Err(Refusal::value("MessageBody", &format!("{} characters", long.chars().count()), &rule));
    }
    Ok(FixedResponse {
        status: scope.required("StatusCode")?.parse()?,
        content_type: scope.parsed("ContentType")?,
        body,
    })
}

/// Actions in their order.
pub fn action_views(
    authentication: Option<&FirstAction>,
    action: &RuleAction,
    order: ActionOrder,
) -> impl Iterator<Item = Structure> {
    authentication.map(authentication::view).into_iter().chain([action_view(action, order)])
}

/// An action, in each form that the API has for it.
fn action_view(action: &RuleAction, order: ActionOrder) -> Structure {
    let view = |kind: &str| Structure::new().text("Type", kind);
    match action {
        RuleAction::Forward(RequestForward { weights, stickiness }) => {
            let groups = weights
                .iter()
                .map(|(group, weight)| Structure::new().text("TargetGroupArn", group).text("Weight", weight.get()));
            let sticky =
                Structure::new().text("Enabled", stickiness.is_some()).maybe("DurationSeconds", stickiness.as_ref());
            let forward = Structure::new().list("TargetGroups", groups).value("TargetGroupStickinessConfig", sticky);
            let only = weights.keys().next().filter(|_| weights.len() == 1);
            view("forward").maybe("TargetGroupArn", only).text("Order", order).value("ForwardConfig", forward)
        }
        RuleAction::Redirect(Redirect { protocol, host, port, path, query, permanent }) => {
            let config = Structure::new()
                .text("Protocol", protocol)
                .text("Port", port)
                .text("Host", host)
                .text("Path", path)
                .text("Query", query)
                .text("StatusCode", if *permanent { "HTTP_301" } else { "HTTP_302" });
            view("redirect").text("Order", order).value("RedirectConfig", config)
        }
        RuleAction::FixedResponse(FixedResponse { status, content_type, body }) => {
            let config = Structure::new()
                .maybe("MessageBody", body.as_ref())
                .text("StatusCode", status)
                .maybe("ContentType", content_type.as_ref());
            view("fixed-response").text("Order", order).value("FixedResponseConfig", config)
        }
    }
}

/// The conditions of a rule.
pub fn read_conditions(scope: &Scope<'_>) -> Result<Vec<RuleCondition>, Refusal> {
    scope.structures("Conditions").iter().map(read_condition).collect()
}

/// Texts of a condition: directly in it, or in its configuration.
fn patterns(condition: &Scope<'_>, config: &Scope<'_>, most: usize) -> Result<Patterns, Refusal> {
    let list = |name: &str| {
        let direct = condition.list(name);
        let within = config.list(name);
        let found = if within.is_empty() { direct } else { within };
        found.into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let (values, regex) = (list("Values"), list("RegexValues"));
    if let Some(long) = values.iter().chain(&regex).find(|text| text.is_empty() || text.chars().count() > most) {
        return Err(Refusal::value("Values", long, &format!("must have a length between 1 and {most}")));
    }
    match (values.is_empty(), regex.is_empty()) {
        (false, true) => Ok(Patterns::Values(values)),
        (true, false) => Ok(Patterns::Regex(regex)),
        (true, true) => Err(wrong("A condition value must be specified")),
        (false, false) => Err(wrong("Values and RegexValues cannot be specified together")),
    }
}

fn texts(config: &Scope<'_>) -> Result<Vec<String>, Refusal> {
    let values: Vec<String> = config.list("Values").into_iter().map(str::to_owned).collect();
    if values.is_empty() { Err(wrong("A condition value must be specified")) } else { Ok(values) }
}

fn read_condition(scope: &Scope<'_>) -> Result<RuleCondition, Refusal> {
    let config = |name: &str| scope.structure(name);
    match scope.required("Field")? {
        "host-header" => patterns(scope, &config("HostHeaderConfig"), 128).map(RuleCondition::HostHeader),
        "path-pattern" => patterns(scope, &config("PathPatternConfig"), 128).map(RuleCondition::PathPattern),
        "http-header" => {
            let config = config("HttpHeaderConfig");
            let name = config.required("HttpHeaderName")?;
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"*?-!#$%&'+.^_`|~".contains(&byte);
            if name.len() > 40 || !name.bytes().all(token) {
                return Err(Refusal::value(
                    "HttpHeaderName",
                    name,
                    "must be the name of a header field, 40 characters at most",
                ));
            }
            Ok(RuleCondition::HttpHeader { name: name.to_owned(), patterns: patterns(&config, &config, 128)? })
        }
        "query-string" => {
            let pairs = config("QueryStringConfig").structures("Values");
            let pair = |one: &Scope<'_>| Ok((one.text("Key").map(str::to_owned), one.required("Value")?.to_owned()));
            let pairs: Vec<_> = pairs.iter().map(pair).collect::<Result<_, Refusal>>()?;
            if pairs.is_empty() {
                return Err(wrong("A condition value must be specified"));
            }
            Ok(RuleCondition::QueryString(pairs))
        }
        "http-request-method" => {
            let methods = texts(&config("HttpRequestMethodConfig"))?;
            let known = |text: &str| {
                (1..=40).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_uppercase() || b"-_".contains(&byte))
            };
            if let Some(other) = methods.iter().find(|method| !known(method)) {
                return Err(Refusal::value("Values", other, "must be 1 to 40 of A-Z, hyphen and underscore"));
            }
            Ok(RuleCondition::HttpRequestMethod(methods))
        }
        "source-ip" => {
            let config = config("SourceIpConfig");
            let range = |text: String| {
                text.parse().map_err(|_| Refusal::value("Values", &text, "must be an IPv4 or IPv6 CIDR block"))
            };
            Ok(RuleCondition::SourceIp(texts(&config)?.into_iter().map(range).collect::<Result<_, _>>()?))
        }
        other => Err(wrong(format!(
            "Condition field '{other}' must be one of '[path-pattern, host-header, http-header, query-string, \
             http-request-method, source-ip]'"
        ))),
    }
}

/// A condition, in each form that the API has for it.
pub fn condition_view(condition: &RuleCondition) -> Structure {
    let of = |patterns: &Patterns, structure: Structure| match patterns {
        Patterns::Values(values) => structure.texts("Values", values),
        Patterns::Regex(values) => structure.texts("RegexValues", values),
    };
    let structure = Structure::new().text("Field", condition.field());
    match condition {
        RuleCondition::HostHeader(patterns) => {
            of(patterns, structure).value("HostHeaderConfig", of(patterns, Structure::new()))
        }
        RuleCondition::PathPattern(patterns) => {
            of(patterns, structure).value("PathPatternConfig", of(patterns, Structure::new()))
        }
        RuleCondition::HttpHeader { name, patterns } => {
            structure.value("HttpHeaderConfig", of(patterns, Structure::new().text("HttpHeaderName", name)))
        }
        RuleCondition::QueryString(pairs) => {
            let pairs =
                pairs.iter().map(|(key, value)| Structure::new().maybe("Key", key.as_ref()).text("Value", value));
            structure.value("QueryStringConfig", Structure::new().list("Values", pairs))
        }
        RuleCondition::HttpRequestMethod(methods) => {
            structure.value("HttpRequestMethodConfig", Structure::new().texts("Values", methods))
        }
        RuleCondition::SourceIp(ranges) => structure.value("SourceIpConfig", Structure::new().texts("Values", ranges)),
    }
}

/// A listener's default actions.
pub fn default_actions(listener: &ApplicationListener) -> impl Iterator<Item = Structure> {
    action_views(listener.authentication.as_ref(), &listener.action, listener.order)
}

/// A listener.
pub fn view(listener: &ApplicationListener) -> Structure {
    let view = Structure::new()
        .text("ListenerArn", &listener.id)
        .text("LoadBalancerArn", &listener.load_balancer)
        .text("Port", listener.port)
        .text("Protocol", listener.protocol());
    let view = match &listener.https {
        Some(https) => view
            .list("Certificates", [Structure::new().text("CertificateArn", &https.certificate)])
            .text("SslPolicy", https.policy)
            .value("MutualAuthentication", Structure::new().text("Mode", "off")),
        None => view,
    };
    view.list("DefaultActions", default_actions(listener))
}

/// Its certificates, the default one first.
pub fn certificates(listener: &ApplicationListener) -> impl Iterator<Item = (&CertificateId, bool)> {
    let of = listener.https.iter();
    of.flat_map(|https| std::iter::once((&https.certificate, true)).chain(https.more.iter().map(|id| (id, false))))
}

/// Mutual authentication is for those who serve: `off` is all that a listener can have.
fn check_mutual_authentication(scope: &Scope<'_>) -> Result<(), Refusal> {
    match scope.structure("MutualAuthentication").text("Mode") {
        Some(mode) if mode != "off" => Err(Refusal::value("MutualAuthentication.Mode", mode, "must be one of '[off]'")),
        Some(_) | None => Ok(()),
    }
}

fn port(scope: &Scope<'_>) -> Result<Option<NonZeroU16>, Refusal> {
    let refused = |text: &str| {
        InvalidValue::new("Listener port", text, "must be between '1-65535' inclusive", "use a port like 80").into()
    };
    scope.text("Port").map(|text| text.parse().map_err(|_| refused(text))).transpose()
}

fn https(scope: &Scope<'_>) -> Result<HttpsChoice, Refusal> {
    check_mutual_authentication(scope)?;
    Ok(HttpsChoice { certificate: default_certificate(scope)?, policy: policy_of(scope)? })
}

pub fn create(call: &Call<'_>, load_balancer: LoadBalancerId) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let must = |name: &str, what: &str| scope.text(name).ok_or_else(|| wrong(format!("{what} must be specified")));
    let protocol = must("Protocol", "A listener protocol")?.parse()?;
    must("Port", "A listener port")?;
    let actions = read_actions(&scope.structures("DefaultActions"))?;
    let request = CreateApplicationListener {
        load_balancer,
        protocol,
        port: port(&scope)?.ok_or_else(|| Refusal::missing("Port"))?,
        https: https(&scope)?,
        actions: actions.ok_or_else(|| Refusal::missing("DefaultActions"))?,
    };
    let tags = read_tags(&scope.structures("Tags"))?;
    let id = call.update(|state, context| {
        let (change, id) = request.decide(state, context)?;
        Ok((with_tags(state, change, id.as_str(), &tags)?, id))
    })?;
    shown(call, &id)
}

fn shown(call: &Call<'_>, id: &ApplicationListenerId) -> Result<Structure, Refusal> {
    call.read(|state, _| Ok(Structure::new().list("Listeners", [view(application::listener(state, id)?)])))
}

pub fn modify(call: &Call<'_>, id: &ApplicationListenerId) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let request = ModifyApplicationListener {
        protocol: scope.parsed("Protocol")?,
        port: port(&scope)?,
        https: https(&scope)?,
        actions: read_actions(&scope.structures("DefaultActions"))?,
    };
    call.update(|state, _| Ok((request.decide(state, id)?, ())))?;
    shown(call, id)
}

pub fn delete(call: &Call<'_>, id: &ApplicationListenerId) -> Result<Structure, Refusal> {
    call.update(|state, _| Ok((application::delete_listener(state, id)?, ())))?;
    Ok(Structure::new())
}

/// Adds certificates, or takes them away.
pub fn change_certificates(
    call: &Call<'_>,
    id: &ApplicationListenerId,
    add: &[Reference],
    remove: &[Reference],
) -> Result<(), Refusal> {
    call.update(|state, _| Ok((application::change_certificates(state, id, add, remove)?, ())))
}

/// The one attribute that such a listener has here, which cannot be changed: nothing serves it.
pub const ATTRIBUTES: [(&str, &str); 1] = [("routing.http.response.server.enabled", "true")];
