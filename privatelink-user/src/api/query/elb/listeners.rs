//! Listeners.

use crate::{
    api::query::{
        call::{Call, read_tags, with_tags},
        filter::Page,
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        Mutation as _,
        listeners::{CreateListener, DeleteListener, ModifyListener, TargetGroupWeight},
        lookup,
    },
    model::{AttributeMap as _, Forward, Listener, ListenerId, Weight},
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
    Structure::new()
        .text("ListenerArn", &listener.id)
        .text("LoadBalancerArn", &listener.load_balancer)
        .text("Port", listener.port)
        .text("Protocol", listener.protocol)
        .list("DefaultActions", [action(listener)])
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
    let direct = first.text("TargetGroupArn");
    let forward = first.structure("ForwardConfig");
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
    Ok(Some(Wanted { groups, stickiness }))
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let must = |name: &str, what: &str| {
        scope.text(name).ok_or_else(|| Refusal::coded("ValidationError", format!("{what} must be specified")))
    };
    let protocol = must("Protocol", "A listener protocol")?.parse()?;
    must("Port", "A listener port")?;
    let wanted = default_action(&scope)?.ok_or_else(|| Refusal::missing("DefaultActions"))?;
    let request = CreateListener {
        load_balancer: scope.required("LoadBalancerArn")?.into(),
        protocol,
        port: scope.number("Port")?.unwrap_or(0),
        target_group: None,
        target_groups: wanted.groups,
        stickiness: wanted.stickiness.unwrap_or(false),
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
        let known = |arn: &&str| arn.parse().ok().is_some_and(|id: ListenerId| state.listeners.contains_key(&id));
        if !arns.iter().all(known) {
            return Err(not_found());
        }
        let wanted = |listener: &&Listener| {
            (arns.is_empty() || arns.contains(&listener.id.as_str()))
                && lb.is_none_or(|lb| listener.load_balancer.as_str() == lb)
        };
        let rows = state.listeners.values().filter(wanted).map(|listener| (listener.id.to_string(), view(listener)));
        let (items, token) = page.cut(rows.collect());
        Ok(Structure::new().list("Listeners", items).maybe("NextMarker", token))
    })
}

fn arn(scope: &Scope<'_>) -> Result<ListenerId, Refusal> {
    Ok(scope.required("ListenerArn")?.parse()?)
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = arn(&scope)?;
    let wanted = default_action(&scope)?;
    let (port, protocol) = (scope.number::<u16>("Port")?, scope.text("Protocol"));
    call.read(|state, _| {
        let listener = lookup::listener(state, &(&id).into())?;
        let same = port.is_none_or(|port| port == listener.port)
            && protocol.is_none_or(|protocol| protocol == listener.protocol.to_string());
        if same {
            Ok(())
        } else {
            let message = "The port and protocol of a listener are fixed: delete it and create another one";
            Err(Refusal::coded("InvalidConfigurationRequest", message))
        }
    })?;
    let (target_groups, stickiness) =
        wanted.map_or_else(Default::default, |Wanted { groups, stickiness }| (groups, stickiness));
    let listener = (&id).into();
    call.mutate(&ModifyListener {
        listener,
        target_group: None,
        target_groups,
        stickiness,
        attributes: Default::default(),
    })?;
    shown(call, &id)
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let id = arn(&call.scope())?;
    call.mutate(&DeleteListener { listener: (&id).into() })?;
    Ok(Structure::new())
}

pub fn describe_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let id = arn(&call.scope())?;
    call.read(|state, _| {
        let listener = lookup::listener(state, &(&id).into())?;
        Ok(super::attributes(listener.attributes.entries()))
    })
}

pub fn modify_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (id, attributes) = (arn(&scope)?, super::read_attributes(&scope)?);
    let changed = call.mutate(&ModifyListener {
        listener: (&id).into(),
        target_group: None,
        target_groups: Vec::new(),
        stickiness: None,
        attributes,
    })?;
    Ok(super::attributes(changed.attributes))
}

/// The certificates of a listener: none of the protocols that there are has any.
pub fn describe_certificates(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (id, page) = (arn(&scope)?, Page::elb(&scope)?);
    call.read(|state, _| Ok(lookup::listener(state, &(&id).into()).map(drop)?))?;
    let (items, token) = page.cut(Vec::<(String, Structure)>::new());
    Ok(Structure::new().list("Certificates", items).maybe("NextMarker", token))
}

/// The policies that a listener with certificates could have: there is none.
pub fn describe_ssl_policies(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (names, page) = (scope.list("Names"), Page::elb(&scope)?);
    let _ = scope.text("LoadBalancerType");
    if let Some(name) = names.first() {
        return Err(Refusal::coded("SSLPolicyNotFound", format!("SSL policy '{name}' not found")));
    }
    let (items, token) = page.cut(Vec::<(String, Structure)>::new());
    Ok(Structure::new().list("SslPolicies", items).maybe("NextMarker", token))
}
