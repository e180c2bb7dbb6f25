//! Targets and their health.

use std::collections::BTreeMap;

use crate::{
    api::query::{call::Call, params::Scope, refusal::Refusal, xml::Structure},
    control::{
        Reference, lookup,
        targets::{DeregisterTargets, RegisterTargets, TargetHost, TargetSpec},
    },
    model::TargetAddress,
    runtime::TargetHealthReport,
};

/// What is no address is meant as an instance; whether the group has such targets is for the operation to say.
fn targets(scope: &Scope<'_>) -> Result<Vec<TargetSpec>, Refusal> {
    let target = |one: Scope<'_>| {
        let id = one.required("Id")?;
        let port = one.number::<u16>("Port")?;
        let host = id.parse().map_or_else(|_| TargetHost::Instance(id.into()), TargetHost::Ip);
        // Every zone is this host.
        one.text("AvailabilityZone");
        Ok(TargetSpec { host, port })
    };
    scope.structures("Targets").into_iter().map(target).collect()
}

fn group(scope: &Scope<'_>) -> Result<Reference, Refusal> {
    scope.required("TargetGroupArn").map(Into::into)
}

pub fn register(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    call.mutate(&RegisterTargets { target_group: group(&scope)?, targets: targets(&scope)? })?;
    Ok(Structure::new())
}

pub fn deregister(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    call.mutate(&DeregisterTargets { target_group: group(&scope)?, targets: targets(&scope)? })?;
    Ok(Structure::new())
}

/// A target, its zone if it is in one, and the port that is checked.
fn row(
    target: (impl ToString, u16, Option<String>),
    check_port: u16,
    state: &str,
    reason: Option<&str>,
    words: Option<String>,
) -> Structure {
    let (id, port, zone) = target;
    let target = Structure::new().text("Id", id.to_string()).text("Port", port).maybe("AvailabilityZone", zone);
    let health = Structure::new().text("State", state).maybe("Reason", reason).maybe("Description", words);
    // Nobody shifts a zone's traffic away here.
    let shifted = Structure::new()
        .text("State", "no_override")
        .text("Reason", "AdministrativeOverride.NoOverride")
        .text("Description", "No override is currently active on target");
    Structure::new()
        .value("Target", target)
        .text("HealthCheckPort", check_port)
        .value("TargetHealth", health)
        .value("AdministrativeOverride", shifted)
}

pub fn health(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (group, wanted) = (group(&scope)?, targets(&scope)?);
    call.read(|state, _| {
        let group = lookup::target_group(state, &group)?;
        let mut reports: BTreeMap<TargetAddress, TargetHealthReport> =
            call.target_health(state, &group.id).into_iter().map(|report| (report.address, report)).collect();
        let zone = |ip| Some(state.subnet_of(&group.vpc, ip)?.zone.name(&call.owner().region));
        let known = |report: TargetHealthReport| {
            let TargetHealthReport { address, instance, health_check_port, health, next_hop: _ } = report;
            let id = instance.map_or_else(|| address.ip.to_string(), |instance| instance.to_string());
            let target = (id, address.port, zone(address.ip));
            row(target, health_check_port, health.state(), health.reason(), health.description())
        };
        let rows: Vec<Structure> = if wanted.is_empty() {
            reports.into_values().map(known).collect()
        } else {
            let find = |spec: &TargetSpec| {
                let registered = spec.registered(state, group)?;
                Ok(registered.and_then(|address| reports.remove(&address)).map(known).unwrap_or_else(|| {
                    let port = spec.port.unwrap_or(group.port);
                    let check_port = group.health_check.port.resolve(port);
                    let words = "Target is not registered to the target group".to_owned();
                    row((&spec.host, port, None), check_port, "unused", Some("Target.NotRegistered"), Some(words))
                }))
            };
            wanted.iter().map(find).collect::<Result<_, Refusal>>()?
        };
        Ok(Structure::new().list("TargetHealthDescriptions", rows))
    })
}
