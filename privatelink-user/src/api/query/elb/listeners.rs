//! Listeners.

use super::application;
use crate::{
    api::query::{
        call::{Call, read_tags, with_tags},
        filter::Page,
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        Mutation as _, Reference, application as control,
        listener_tls::{AddListenerCertificates, RemoveListenerCertificates},
        listeners::{CreateListener, DeleteListener, ModifyListener, TargetGroupWeight},
        lookup,
    },
    model::{
        ApplicationListenerId, AttributeMap as _, CertificateId, Forward, InvalidValue, Listener, ListenerId,
        ListenerPorts, LoadBalancerId, LoadBalancerKind, Weight,
    },
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy},
};

/// Where a listener leads, in both forms that the API has for it; the short one has room for one group.
pub fn action(listener: &Listener) -> Structure {
    let Forward { weights, stickiness } = &listener.forward;
    let groups = weights
        .iter()
        .map(|(group, weight)| Structure::new().text("TargetGroupArn", group).text("Weight", weight.get()));
    let stickiness = Structure::new().text("Enabled", stickiness);
    let forward = Structure::new().list("TargetGroups", groups).value("TargetGroupStickinessConfig", stickiness);
    let only = weights.keys().next().filter(|_| weights.len() == 1);
    Structure::new()
        .text("Type", "forward")
        .maybe("TargetGroupArn", only)
        .text("Order", 1)
        .value("ForwardConfig", forward)
}

fn view(listener: &Listener) -> Structure {
    let view = Structure::new()
        .text("ListenerArn", &listener.id)
        .text("LoadBalancerArn", &listener.load_balancer)
        .text("Port", listener.port.first())
        .text("Protocol", listener.protocol);
    let view = match &listener.tls {
        Some(tls) => view
            .list("Certificates", [Structure::new().text("CertificateArn", &tls.certificate)])
            .text("SslPolicy", tls.policy)
            .texts("AlpnPolicy", [tls.alpn]),
        None => view,
    };
    view.list("DefaultActions", [action(listener)])
}

/// Where `DefaultActions` forwards to: groups with their weights, and whether clients stay in their group.
struct Wanted {
    groups: Vec<TargetGroupWeight>,
    stickiness: Option<bool>,
}

/// Reads the default action, if one is given.
fn default_action(scope: &Scope<'_>) -> Result<Option<Wanted>, Refusal> {
    let actions = scope.structures("DefaultActions");
    let Some(first) = actions.first() else { return Ok(None) };
    let wrong = |message: &str| Refusal::coded("ValidationError", message);
    if actions.len() > 1 {
        return Err(wrong("A listener of a network load balancer has one default action"));
    }
    let kind = first.required("Type")?;
    if kind != "forward" {
        let message = format!("Action type '{kind}' must be one of '[forward]'");
        return Err(Refusal::coded("InvalidLoadBalancerAction", message));
    }
    first.number::<u32>("Order")?;
    let (groups, stickiness) = forwarded(first)?;
    Ok(Some(Wanted { groups, stickiness }))
}

/// Where a forward action leads, in either of its forms, and whether clients stay in their group.
pub fn forwarded(action: &Scope<'_>) -> Result<(Vec<TargetGroupWeight>, Option<bool>), Refusal> {
    let wrong = |message: &str| Refusal::coded("ValidationError", message);
    let direct = action.text("TargetGroupArn");
    let forward = action.structure("ForwardConfig");
    let mut groups = Vec::new();
    for group in forward.structures("TargetGroups") {
        let weight = group.parsed("Weight")?.unwrap_or_default();
        groups.push(TargetGroupWeight { target_group: group.required("TargetGroupArn")?.into(), weight });
    }
    let stickiness = forward.structure("TargetGroupStickinessConfig").boolean("Enabled")?;
    match (direct, groups.as_slice()) {
        (None, []) => return Err(wrong("A target group ARN must be specified")),
        (Some(direct), []) => {
            groups.push(TargetGroupWeight { target_group: direct.into(), weight: Weight::default() });
        }
        (Some(direct), [one]) if one.target_group.as_str() == direct => {}
        (Some(_), _) => return Err(wrong("TargetGroupArn and ForwardConfig must name the same target group")),
        (None, _) => {}
    }
    Ok((groups, stickiness))
}

/// The one certificate that `Certificates` names for a listener.
pub fn default_certificate(scope: &Scope<'_>) -> Result<Option<Reference>, Refusal> {
    let named = scope.structures("Certificates");
    let Some(first) = named.first() else { return Ok(None) };
    if named.len() > 1 {
        let message = "You must specify one certificate; AddListenerCertificates adds others";
        return Err(Refusal::coded("ValidationError", message));
    }
    Ok(Some(first.required("CertificateArn")?.into()))
}

/// The certificates of `Certificates`.
fn certificates(scope: &Scope<'_>) -> Result<Vec<Reference>, Refusal> {
    let named = scope.structures("Certificates");
    if named.is_empty() {
        return Err(Refusal::missing("Certificates"));
    }
    named.iter().map(|one| Ok(one.required("CertificateArn")?.into())).collect()
}

pub fn policy_of(scope: &Scope<'_>) -> Result<Option<ListenerPolicy>, Refusal> {
    scope.text("SslPolicy").map(named_policy).transpose()
}

fn named_policy(name: &str) -> Result<ListenerPolicy, Refusal> {
    name.parse().map_err(|error: InvalidValue| Refusal::coded("SSLPolicyNotFound", error.to_string()))
}

fn alpn_policy(scope: &Scope<'_>) -> Result<Option<AlpnPolicy>, Refusal> {
    let named = scope.list("AlpnPolicy");
    if named.len() > 1 {
        return Err(Refusal::coded("ValidationError", "A listener has one ALPN policy"));
    }
    let parse = |name: &&str| {
        name.parse().map_err(|error: InvalidValue| Refusal::coded("ALPNPolicyNotFound", error.to_string()))
    };
    named.first().map(parse).transpose()
}

/// The port of a request: one.
fn port(scope: &Scope<'_>) -> Result<Option<ListenerPorts>, Refusal> {
    let Some(text) = scope.text("Port") else { return Ok(None) };
    let ports: ListenerPorts = text.parse()?;
    if ports.is_range() {
        return Err(Refusal::value("Port", text, "must be one port"));
    }
    Ok(Some(ports))
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let named: Option<LoadBalancerId> = scope.text("LoadBalancerArn").and_then(|arn| arn.parse().ok());
    if let Some(id) = named.filter(|id| id.kind() == LoadBalancerKind::Application) {
        return application::create(call, id);
    }
    let must = |name: &str, what: &str| {
        scope.text(name).ok_or_else(|| Refusal::coded("ValidationError", format!("{what} must be specified")))
    };
    let protocol = must("Protocol", "A listener protocol")?.parse()?;
    must("Port", "A listener port")?;
    let wanted = default_action(&scope)?.ok_or_else(|| Refusal::missing("DefaultActions"))?;
    let request = CreateListener {
        load_balancer: scope.required("LoadBalancerArn")?.into(),
        protocol,
        port: port(&scope)?.ok_or_else(|| Refusal::missing("Port"))?,
        target_group: None,
        target_groups: wanted.groups,
        stickiness: wanted.stickiness.unwrap_or(false),
        certificate: default_certificate(&scope)?,
        more_certificates: Vec::new(),
        ssl_policy: policy_of(&scope)?,
        alpn_policy: alpn_policy(&scope)?,
        attributes: Default::default(),
    };
    let tags = read_tags(&scope.structures("Tags"))?;
    let id = call.update(|state, context| {
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id))
    })?;
    shown(call, &id)
}

fn shown(call: &Call<'_>, id: &ListenerId) -> Result<Structure, Refusal> {
    call.read(|state, _| {
        let listener = lookup::listener(state, &id.into())?;
        Ok(Structure::new().list("Listeners", [view(listener)]))
    })
}

fn not_found() -> Refusal {
    Refusal::coded("ListenerNotFound", "One or more listeners not found")
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (lb, arns, page) = (scope.text("LoadBalancerArn"), scope.list("ListenerArns"), Page::elb(&scope)?);
    if lb.is_none() && arns.is_empty() {
        return Err(Refusal::coded("ValidationError", "You must specify either listener ARNs or a load balancer ARN"));
    }
    call.read(|state, _| {
        if let Some(lb) = lb {
            lookup::load_balancer(state, &lb.into())?;
        }
        let known = |arn: &&str| {
            arn.parse().ok().is_some_and(|id: ListenerId| state.listeners.contains_key(&id))
                || arn.parse().is_ok_and(|id: ApplicationListenerId| state.application_listeners.contains_key(&id))
        };
        if !arns.iter().all(known) {
            return Err(not_found());
        }
        let wanted = |id: &str, of: &LoadBalancerId| {
            (arns.is_empty() || arns.contains(&id)) && lb.is_none_or(|lb| of.as_str() == lb)
        };
        let rows = state.listeners.values().filter(|one| wanted(one.id.as_str(), &one.load_balancer));
        let rows = rows.map(|listener| (listener.id.to_string(), view(listener)));
        let applications =
            state.application_listeners.values().filter(|one| wanted(one.id.as_str(), &one.load_balancer));
        let rows = rows.chain(applications.map(|one| (one.id.to_string(), application::view(one))));
        let (items, token) = page.cut(rows.collect());
        Ok(Structure::new().list("Listeners", items).maybe("NextMarker", token))
    })
}

fn arn(scope: &Scope<'_>) -> Result<ListenerId, Refusal> {
    Ok(scope.required("ListenerArn")?.parse()?)
}

/// The listener of a request, if its load balancer is of type application.
pub fn application_arn(scope: &Scope<'_>) -> Option<ApplicationListenerId> {
    scope.text("ListenerArn").and_then(|text| text.parse().ok())
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    if let Some(id) = application_arn(&scope) {
        return application::modify(call, &id);
    }
    let id = arn(&scope)?;
    let wanted = default_action(&scope)?;
    let protocol = scope.parsed("Protocol")?;
    let port = call.read(|state, _| {
        let listener = lookup::listener(state, &(&id).into())?;
        // The API shows the first port of several: who gives it back leaves them as they are.
        Ok(port(&scope)?.filter(|port| port.first() != listener.port.first()))
    })?;
    let (target_groups, stickiness) =
        wanted.map_or_else(Default::default, |Wanted { groups, stickiness }| (groups, stickiness));
    let listener = (&id).into();
    call.mutate(&ModifyListener {
        listener,
        port,
        protocol,
        target_group: None,
        target_groups,
        stickiness,
        certificate: default_certificate(&scope)?,
        more_certificates: None,
        ssl_policy: policy_of(&scope)?,
        alpn_policy: alpn_policy(&scope)?,
        attributes: Default::default(),
    })?;
    shown(call, &id)
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    if let Some(id) = application_arn(&call.scope()) {
        return application::delete(call, &id);
    }
    let id = arn(&call.scope())?;
    call.mutate(&DeleteListener { listener: (&id).into() })?;
    Ok(Structure::new())
}

/// The key of the attribute that says which ports a listener has, if it has several.
const PORTS: &str = "privatelink.ports";

pub fn describe_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    if let Some(id) = application_arn(&call.scope()) {
        call.read(|state, _| Ok(control::listener(state, &id).map(drop)?))?;
        return Ok(super::attributes(application::ATTRIBUTES));
    }
    let id = arn(&call.scope())?;
    call.read(|state, _| {
        let listener = lookup::listener(state, &(&id).into())?;
        // The API has room for one port of a listener: all of them are an attribute of our own, to read.
        let ports = listener.port.is_range().then(|| (PORTS, listener.port.to_string()));
        let entries = listener.attributes.entries().into_iter().map(|(key, value)| (key, value.to_string()));
        Ok(super::attributes(entries.chain(ports)))
    })
}

pub fn modify_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    if let Some(id) = application_arn(&scope) {
        call.read(|state, _| Ok(control::listener(state, &id).map(drop)?))?;
        let fixed = |(key, value): &(String, String)| application::ATTRIBUTES.contains(&(key.as_str(), value.as_str()));
        return match super::read_attributes(&scope)?.into_iter().find(|pair| !fixed(pair)) {
            Some((key, _)) => {
                let message =
                    format!("Listener attribute key '{key}' cannot be changed: {}", LoadBalancerKind::UNSERVED);
                Err(Refusal::coded("InvalidConfigurationRequest", message))
            }
            None => Ok(super::attributes(application::ATTRIBUTES)),
        };
    }
    let (id, attributes) = (arn(&scope)?, super::read_attributes(&scope)?);
    let changed = call.mutate(&ModifyListener { listener: (&id).into(), attributes, ..ModifyListener::default() })?;
    Ok(super::attributes(changed.attributes))
}

/// A listener's certificates, the default one first.
fn shown_certificates(listener: &Listener) -> impl Iterator<Item = (&CertificateId, bool)> {
    let tls = listener.tls.iter();
    tls.flat_map(|tls| std::iter::once((&tls.certificate, true)).chain(tls.more.iter().map(|id| (id, false))))
}

pub fn describe_certificates(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let page = Page::elb(&scope)?;
    let row = |(id, default): (&CertificateId, bool)| {
        // In the order of pages, which is that of keys.
        let key = format!("{}{id}", u8::from(!default));
        (key, Structure::new().text("CertificateArn", id).text("IsDefault", default))
    };
    let application = application_arn(&scope);
    let network = if application.is_none() { Some(arn(&scope)?) } else { None };
    call.read(|state, _| {
        let rows: Vec<_> = match (&application, &network) {
            (Some(id), _) => application::certificates(control::listener(state, id)?).map(row).collect(),
            (None, Some(id)) => shown_certificates(lookup::listener(state, &id.into())?).map(row).collect(),
            (None, None) => Vec::new(),
        };
        let (items, token) = page.cut(rows);
        Ok(Structure::new().list("Certificates", items).maybe("NextMarker", token))
    })
}

pub fn add_certificates(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let certificates = certificates(&scope)?;
    let named: Vec<String> = certificates.iter().map(|one| one.as_str().to_owned()).collect();
    match application_arn(&scope) {
        Some(id) => application::change_certificates(call, &id, &certificates, &[])?,
        None => {
            call.mutate(&AddListenerCertificates { listener: (&arn(&scope)?).into(), certificates })?;
        }
    }
    let rows = named.iter().map(|arn| Structure::new().text("CertificateArn", arn).text("IsDefault", false));
    Ok(Structure::new().list("Certificates", rows))
}

pub fn remove_certificates(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let certificates = certificates(&scope)?;
    match application_arn(&scope) {
        Some(id) => application::change_certificates(call, &id, &[], &certificates)?,
        None => {
            call.mutate(&RemoveListenerCertificates { listener: (&arn(&scope)?).into(), certificates })?;
        }
    }
    Ok(Structure::new())
}

/// Whose listeners have security policies.
const LOAD_BALANCER_TYPES: [&str; 2] = ["application", "network"];

/// The policies that a listener can have, with what of them is offered.
pub fn describe_ssl_policies(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (names, page) = (scope.list("Names"), Page::elb(&scope)?);
    let kind = scope.text("LoadBalancerType");
    for name in &names {
        named_policy(name)?;
    }
    let wanted = |policy: &ListenerPolicy| names.is_empty() || names.contains(&policy.policy().name);
    let row = |(number, policy): (usize, ListenerPolicy)| {
        let policy = policy.policy();
        let offered = policy.suites().filter(|(_, offered)| *offered).map(|(name, _)| name).enumerate();
        let ciphers = offered.map(|(at, name)| Structure::new().text("Name", name).text("Priority", at + 1));
        let row = Structure::new()
            .texts("SslProtocols", policy.versions().map(|version| version.name()))
            .list("Ciphers", ciphers)
            .text("Name", policy.name)
            .texts("SupportedLoadBalancerTypes", LOAD_BALANCER_TYPES);
        (format!("{number:03}"), row)
    };
    let listed =
        ListenerPolicy::all().filter(wanted).filter(|_| kind.is_none_or(|kind| LOAD_BALANCER_TYPES.contains(&kind)));
    let (items, token) = page.cut(listed.enumerate().map(row).collect());
    Ok(Structure::new().list("SslPolicies", items).maybe("NextMarker", token))
}
