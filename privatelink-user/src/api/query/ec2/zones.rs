//! Availability zones, regions, and what an account may have.

use super::{members, one};
use crate::{
    api::query::{call::Call, filter::Filters, refusal::Refusal, xml::Structure},
    model::{Owner, SecurityGroup, Zone},
};

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (names, ids) = (scope.list("ZoneName"), scope.list("ZoneId"));
    scope.boolean("AllAvailabilityZones")?;
    let filters = Filters::read(&scope)?;
    let Owner { account: _, region } = call.owner();
    if let Some(unknown) = names.iter().chain(&ids).find(|text| Zone::find(region, text).is_none()) {
        let message = format!("Invalid availability zone: [{unknown}]");
        return Err(Refusal::coded("InvalidParameterValue", message));
    }
    call.read(|state, _| {
        let mut zones = Vec::new();
        for zone in Zone::ALL {
            let (name, id) = (zone.name(region), zone.id(region));
            let asked =
                (names.is_empty() && ids.is_empty()) || names.contains(&name.as_str()) || ids.contains(&id.as_str());
            let values = |filter: &str| match filter {
                "zone-name" => one(&name),
                "zone-id" => one(&id),
                "region-name" | "group-name" | "network-border-group" => one(region),
                "zone-type" => one("availability-zone"),
                "state" => one("available"),
                "opt-in-status" => one("opt-in-not-required"),
                _ => None,
            };
            if filters.admit(state, &id, values)? && asked {
                zones.push(
                    Structure::new()
                        .text("optInStatus", "opt-in-not-required")
                        .list("messageSet", [] as [Structure; 0])
                        .text("regionName", region)
                        .text("zoneName", &name)
                        .text("zoneId", &id)
                        .text("groupName", region)
                        .text("networkBorderGroup", region)
                        .text("zoneType", "availability-zone")
                        .text("zoneState", "available"),
                );
            }
        }
        Ok(Structure::new().list("availabilityZoneInfo", zones))
    })
}

/// The caller's region: every region has its own resources, and exists once somebody calls in it.
pub fn regions(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (names, filters) = (scope.list("RegionName"), Filters::read(&scope)?);
    scope.boolean("AllRegions")?;
    let Owner { account: _, region } = call.owner();
    if let Some(unknown) = names.iter().find(|name| **name != region.as_str()) {
        return Err(Refusal::coded("InvalidParameterValue", format!("Invalid region: [{unknown}]")));
    }
    call.read(|state, _| {
        let endpoint = format!("ec2.{region}.amazonaws.com");
        let values = |filter: &str| match filter {
            "region-name" => one(region),
            "endpoint" => one(&endpoint),
            "opt-in-status" => one("opt-in-not-required"),
            _ => None,
        };
        let shown = filters.admit(state, region.as_str(), values)?.then(|| {
            Structure::new()
                .text("optInStatus", "opt-in-not-required")
                .text("regionName", region)
                .text("regionEndpoint", &endpoint)
        });
        Ok(Structure::new().list("regionInfo", shown))
    })
}

pub fn account_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let wanted = call.scope().list("AttributeName");
    call.read(|state, _| {
        let default = state.vpcs.values().find(|vpc| vpc.attributes.is_default);
        let default = default.map_or_else(|| "none".to_owned(), |vpc| vpc.id.to_string());
        let rows = [
            ("supported-platforms", "VPC".to_owned()),
            ("default-vpc", default),
            ("vpc-max-security-groups-per-interface", SecurityGroup::MAX_PER_RESOURCE.to_string()),
        ];
        let rows = rows.into_iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
        Ok(Structure::new().list(
            "accountAttributeSet",
            rows.map(|(name, value)| {
                Structure::new()
                    .text("attributeName", name)
                    .list("attributeValueSet", members("attributeValue", [value]))
            }),
        ))
    })
}
