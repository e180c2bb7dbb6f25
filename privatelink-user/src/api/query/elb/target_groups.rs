//! Target groups.

use crate::{
    api::query::{
        call::{Call, read_tags, with_tags},
        filter::Page,
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _, lookup,
        target_groups::{CreateTargetGroup, DeleteTargetGroup, HealthCheckSettings, ModifyTargetGroup},
    },
    model::{GroupProtocol, HealthCheckProtocol, InvalidValue, State, TargetGroup, TargetGroupId},
};

/// The one version that targets of groups for HTTP are spoken to by.
const HTTP1: &str = "HTTP1";

fn view(state: &State, group: &TargetGroup) -> Structure {
    let check = &group.health_check;
    let structure = Structure::new()
        .text("TargetGroupArn", &group.id)
        .text("TargetGroupName", &group.name)
        .text("Protocol", group.protocol)
        .text("Port", group.port)
        .text("VpcId", &group.vpc)
        .text("HealthCheckProtocol", check.protocol)
        .text("HealthCheckPort", check.port)
        .text("HealthCheckEnabled", true)
        .text("HealthCheckIntervalSeconds", check.interval)
        .text("HealthCheckTimeoutSeconds", check.timeout)
        .text("HealthyThresholdCount", check.healthy_threshold)
        .text("UnhealthyThresholdCount", check.unhealthy_threshold);
    let structure = if check.protocol == HealthCheckProtocol::Tcp {
        structure
    } else {
        let matcher = Structure::new().text("HttpCode", &check.matcher);
        structure.text("HealthCheckPath", &check.path).value("Matcher", matcher)
    };
    let mut lbs: Vec<_> = state
        .listeners
        .values()
        .filter(|listener| listener.forward.weights.contains_key(&group.id))
        .map(|listener| &listener.load_balancer)
        .chain(state.requests_lead_to(&group.id).map(|listener| &listener.load_balancer))
        .collect();
    lbs.dedup();
    structure
        .texts("LoadBalancerArns", lbs)
        .maybe("ProtocolVersion", matches!(group.protocol, GroupProtocol::Application(_)).then_some(HTTP1))
        .text("TargetType", group.target_type)
        .text("IpAddressType", group.ip_address_type)
}

fn health_check(scope: &Scope<'_>) -> Result<HealthCheckSettings, Refusal> {
    if scope.boolean("HealthCheckEnabled")? == Some(false) {
        return Err(Refusal::value("HealthCheckEnabled", "false", "must be true for this target type"));
    }
    Ok(HealthCheckSettings {
        protocol: scope.parsed("HealthCheckProtocol")?,
        port: scope.parsed("HealthCheckPort")?,
        path: scope.parsed("HealthCheckPath")?,
        interval: scope.number("HealthCheckIntervalSeconds")?,
        timeout: scope.number("HealthCheckTimeoutSeconds")?,
        healthy_threshold: scope.number("HealthyThresholdCount")?,
        unhealthy_threshold: scope.number("UnhealthyThresholdCount")?,
        matcher: scope.structure("Matcher").parsed("HttpCode")?,
    })
}

fn must(value: Option<&str>, what: &str) -> Result<(), Refusal> {
    value.map(drop).ok_or_else(|| Refusal::coded("ValidationError", format!("{what} must be specified")))
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let name = scope.required("Name")?.parse().map_err(|error: InvalidValue| error.named("Target group name"))?;
    must(scope.text("Protocol"), "A protocol")?;
    must(scope.text("Port"), "A port")?;
    must(scope.text("VpcId"), "A VPC ID")?;
    if let Some(version) = scope.text("ProtocolVersion").filter(|version| *version != HTTP1) {
        return Err(Refusal::value("ProtocolVersion", version, "must be one of '[HTTP1]'"));
    }
    let target_type = scope.text("TargetType").unwrap_or("instance").parse()?;
    let tags = read_tags(&scope.structures("Tags"))?;
    let request = CreateTargetGroup {
        name,
        vpc: scope.required("VpcId")?.into(),
        target_type,
        ip_address_type: scope.parsed("IpAddressType")?.unwrap_or_default(),
        protocol: scope.required("Protocol")?.parse()?,
        port: scope.number("Port")?.unwrap_or(0),
        health_check: health_check(&scope)?,
        attributes: Default::default(),
    };
    let id = call.update(|state, context| {
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id))
    })?;
    shown(call, &id)
}

fn shown(call: &Call<'_>, id: &TargetGroupId) -> Result<Structure, Refusal> {
    call.read(|state, _| {
        let group = lookup::target_group(state, &id.into())?;
        Ok(Structure::new().list("TargetGroups", [view(state, group)]))
    })
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (arns, names, page) = (scope.list("TargetGroupArns"), scope.list("Names"), Page::elb(&scope)?);
    let lb = scope.text("LoadBalancerArn");
    call.read(|state, _| {
        if let Some(lb) = lb {
            lookup::load_balancer(state, &lb.into())?;
        }
        let all = || state.target_groups.values();
        for wanted in arns.iter().chain(&names) {
            if !all().any(|group| group.id.as_str() == *wanted || group.name.as_str() == *wanted) {
                return Err(ControlError::TargetGroupsNotFound((*wanted).to_owned()).into());
            }
        }
        let used = |group: &TargetGroup, lb: &str| {
            let mut listeners = state.listeners.values();
            let leads = listeners.any(|listener| {
                listener.forward.weights.contains_key(&group.id) && listener.load_balancer.as_str() == lb
            });
            leads || state.requests_lead_to(&group.id).any(|listener| listener.load_balancer.as_str() == lb)
        };
        let wanted = |group: &&TargetGroup| {
            (arns.is_empty() || arns.contains(&group.id.as_str()))
                && (names.is_empty() || names.contains(&group.name.as_str()))
                && lb.is_none_or(|lb| used(group, lb))
        };
        let rows = all().filter(wanted).map(|group| (group.id.to_string(), view(state, group)));
        let (items, token) = page.cut(rows.collect());
        Ok(Structure::new().list("TargetGroups", items).maybe("NextMarker", token))
    })
}

fn arn(scope: &Scope<'_>) -> Result<TargetGroupId, Refusal> {
    Ok(scope.required("TargetGroupArn")?.parse()?)
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = arn(&scope)?;
    let health_check = health_check(&scope)?;
    call.mutate(&ModifyTargetGroup { target_group: (&id).into(), health_check, attributes: Default::default() })?;
    shown(call, &id)
}

/// A target group that does not exist is as good as deleted.
pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let id = arn(&call.scope())?;
    match call.mutate(&DeleteTargetGroup { target_group: (&id).into() }) {
        Ok(()) | Err(Refusal::Control(ControlError::TargetGroupNotFound(_))) => Ok(Structure::new()),
        Err(refusal) => Err(refusal),
    }
}

pub fn modify_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (id, attributes) = (arn(&scope)?, super::read_attributes(&scope)?);
    let health_check = HealthCheckSettings::default();
    let changed = call.mutate(&ModifyTargetGroup { target_group: (&id).into(), health_check, attributes })?;
    Ok(super::attributes(changed.attributes))
}

pub fn describe_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let id = arn(&call.scope())?;
    call.read(|state, _| {
        let group = lookup::target_group(state, &(&id).into())?;
        Ok(super::attributes(group.attributes.entries_of(group.target_type, group.protocol)))
    })
}
