//! Who may make endpoints to a service.

use super::one;
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    control::{Reference, lookup, permissions::ModifyPermissions},
    model::{EndpointService, Principal, derived},
};

/// What a principal is permitted: to make endpoints.
const KIND: &str = "vpc-endpoint";

fn added(service: &EndpointService, principal: &Principal) -> Structure {
    Structure::new()
        .text("principalType", principal.kind())
        .text("principal", principal)
        .text("servicePermissionId", derived::permission_id(&service.id, principal))
        .text("serviceId", &service.id)
        .text("permissionType", KIND)
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let service: Reference = scope.required("ServiceId")?.into();
    let principals = |name: &str| -> Result<Vec<Principal>, Refusal> {
        scope.list(name).into_iter().map(|text| text.parse().map_err(Refusal::from)).collect()
    };
    let (add, remove) = (principals("AddAllowedPrincipals")?, principals("RemoveAllowedPrincipals")?);
    if scope.text("PermissionType").is_some_and(|kind| kind != KIND) {
        return Err(Refusal::value("PermissionType", scope.required("PermissionType")?, "must be vpc-endpoint"));
    }
    let rows = call.read(|state, _| {
        let service = lookup::endpoint_service(state, &service)?;
        let fresh = add.iter().filter(|principal| !service.principals.contains(principal));
        Ok(fresh.map(|principal| added(service, principal)).collect::<Vec<_>>())
    })?;
    call.mutate(&ModifyPermissions { endpoint_service: service, add, remove })?;
    Ok(Structure::new().list("addedPrincipalSet", rows).text("return", true))
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let service: Reference = scope.required("ServiceId")?.into();
    let (filters, page) = (Filters::read(&scope)?, Page::ec2(&scope)?);
    call.read(|state, _| {
        let service = lookup::endpoint_service(state, &service)?;
        let mut found = Vec::new();
        for principal in &service.principals {
            let values = |name: &str| match name {
                "principal" => one(principal),
                "principal-type" => one(principal.kind()),
                "permission-type" => one(KIND),
                _ => None,
            };
            if filters.admit(state, service.id.as_str(), values)? {
                let row = added(service, principal).list("tagSet", [] as [Structure; 0]);
                found.push((principal.to_string(), row));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("allowedPrincipals", items).maybe("nextToken", token))
    })
}
