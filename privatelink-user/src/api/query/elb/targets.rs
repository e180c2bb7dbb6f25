//! Targets and their health.

use std::collections::BTreeMap;

use crate::{
    api::query::{call::Call, params::Scope, refusal::Refusal, xml::Structure},
    control::{
        Reference, lookup,
        targets::{DeregisterTargets, RegisterTargets, TargetHost, TargetSpec},
    },
    model::{Region, TargetAddress, TargetGroup, TargetType, Zone},
    runtime::{TargetHealth, TargetHealthReport},
};

/// What is no address is meant as an instance; whether the group has such targets is for the operation to say.
fn targets(scope: &Scope<'_>, region: &Region) -> Result<Vec<TargetSpec>, Refusal> {
    let target = |one: Scope<'_>| {
        let id = one.required("Id")?;
        let port = one.number::<u16>("Port")?;
        let host = id.parse().map_or_else(|_| TargetHost::Named(id.into()), TargetHost::Ip);
        // Every zone is this host.
        match one.text("AvailabilityZone") {
            Some(zone) if zone != "all" && Zone::find(region, zone).is_none() => {
                let message = format!("Availability Zone '{zone}' is not valid");
                return Err(Refusal::coded("ValidationError", message));
            }
            Some(_) | None => {}
        }
        Ok(TargetSpec { host, port })
    };
    scope.structures("Targets").into_iter().map(target).collect()
}

fn group(scope: &Scope<'_>) -> Result<Reference, Refusal> {
    scope.required("TargetGroupArn").map(Into::into)
}

pub fn register(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    call.mutate(&RegisterTargets { target_group: group(&scope)?, targets: targets(&scope, &call.owner().region)? })?;
    Ok(Structure::new())
}

pub fn deregister(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    call.mutate(&DeregisterTargets { target_group: group(&scope)?, targets: targets(&scope, &call.owner().region)? })?;
    Ok(Structure::new())
}

/// A target, its zone if it is in one, and the port that is checked.
fn row(target: (impl ToString, u16, Option<String>), check_port: u16, health: &TargetHealth) -> Structure {
    let (id, port, zone) = target;
    let target = Structure::new().text("Id", id.to_string()).text("Port", port).maybe("AvailabilityZone", zone);
    let health = Structure::new()
        .text("State", health.state())
        .maybe("Reason", health.reason())
        .maybe("Description", health.description());
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

/// The target of a group of type alb, or those that are asked for.
fn application_health(group: &TargetGroup, wanted: &[TargetSpec]) -> Vec<Structure> {
    let registered = group.load_balancer.as_ref().map(|registered| registered.id.as_str());
    let check_port = group.health_check.port.resolve(group.port);
    let of = |id: &str| {
        let health = if registered == Some(id) { TargetHealth::NotServed } else { TargetHealth::NotRegistered };
        row((id, group.port, None), check_port, &health)
    };
    match wanted {
        [] => registered.into_iter().map(of).collect(),
        wanted => wanted.iter().map(|spec| of(&spec.host.to_string())).collect(),
    }
}

pub fn health(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (group, wanted) = (group(&scope)?, targets(&scope, &call.owner().region)?);
    let anomalies = match scope.list("Include").as_slice() {
        [] => false,
        named => match named.iter().find(|one| !["All", "AnomalyDetection"].contains(one)) {
            Some(other) => return Err(Refusal::value("Include", other, "must be one of '[AnomalyDetection, All]'")),
            None => true,
        },
    };
    call.read(|state, _| {
        let group = lookup::target_group(state, &group)?;
        if group.target_type == TargetType::Alb {
            return Ok(Structure::new().list("TargetHealthDescriptions", application_health(group, &wanted)));
        }
        let mut reports: BTreeMap<TargetAddress, TargetHealthReport> =
            call.target_health(state, &group.id).into_iter().map(|report| (report.address, report)).collect();
        // Nobody looks for anomalies here.
        let detected = |row: Structure| match anomalies {
            true => row
                .value("AnomalyDetection", Structure::new().text("Result", "normal").text("MitigationInEffect", "no")),
            false => row,
        };
        let zone = |ip| Some(state.subnet_of(&group.vpc, ip)?.zone.name(&call.owner().region));
        let known = |report: TargetHealthReport| {
            let TargetHealthReport { address, instance, health_check_port, health, next_hop: _ } = report;
            let id = instance.map_or_else(|| address.ip.to_string(), |instance| instance.to_string());
            row((id, address.port, zone(address.ip)), health_check_port, &health)
        };
        let rows: Vec<Structure> = if wanted.is_empty() {
            reports.into_values().map(known).collect()
        } else {
            let find = |spec: &TargetSpec| {
                let registered = spec.registered(state, group)?;
                Ok(registered.and_then(|address| reports.remove(&address)).map(known).unwrap_or_else(|| {
                    let port = spec.port.unwrap_or(group.port);
                    let check_port = group.health_check.port.resolve(port);
                    row((&spec.host, port, None), check_port, &TargetHealth::NotRegistered)
                }))
            };
            wanted.iter().map(find).collect::<Result<_, Refusal>>()?
        };
        Ok(Structure::new().list("TargetHealthDescriptions", rows.into_iter().map(detected)))
    })
}
