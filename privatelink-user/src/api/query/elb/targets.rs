//! Targets and their health.

use std::collections::BTreeMap;

use crate::{
    api::query::{call::Call, params::Scope, refusal::Refusal, xml::Structure},
    control::{
        Reference, lookup,
        targets::{DeregisterTargets, RegisterTargets, TargetSpec},
    },
    model::TargetAddress,
    runtime::TargetHealthReport,
};

fn targets(scope: &Scope<'_>) -> Result<Vec<TargetSpec>, Refusal> {
    let target = |one: Scope<'_>| {
        let id = one.required("Id")?;
        let port = one.number::<u16>("Port")?;
        let ip = id.parse().map_err(|_| {
            Refusal::coded("ValidationError", format!("The IP address '{id}' is not a valid IPv4 address"))
        })?;
        // Every zone is this host.
        one.text("AvailabilityZone");
        Ok(TargetSpec { ip, port })
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

fn row(address: TargetAddress, check_port: u16, state: &str, reason: Option<&str>, words: Option<String>) -> Structure {
    let target = Structure::new().text("Id", address.ip).text("Port", address.port);
    let health = Structure::new().text("State", state).maybe("Reason", reason).maybe("Description", words);
    Structure::new().value("Target", target).text("HealthCheckPort", check_port).value("TargetHealth", health)
}

pub fn health(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (group, wanted) = (group(&scope)?, targets(&scope)?);
    call.read(|state, _| {
        let group = lookup::target_group(state, &group)?;
        let mut reports: BTreeMap<TargetAddress, TargetHealthReport> =
            call.target_health(state, &group.id).into_iter().map(|report| (report.address, report)).collect();
        let known = |report: TargetHealthReport| {
            let TargetHealthReport { address, health_check_port, health, next_hop: _ } = report;
            row(address, health_check_port, health.state(), health.reason(), health.description())
        };
        let rows: Vec<Structure> = if wanted.is_empty() {
            reports.into_values().map(known).collect()
        } else {
            let find = |spec: &TargetSpec| {
                let address = spec.resolve(group.port);
                reports.remove(&address).map(known).unwrap_or_else(|| {
                    let port = group.health_check.port.resolve(address.port);
                    let words = "Target is not registered to the target group".to_owned();
                    row(address, port, "unused", Some("Target.NotRegistered"), Some(words))
                })
            };
            wanted.iter().map(find).collect()
        };
        Ok(Structure::new().list("TargetHealthDescriptions", rows))
    })
}
