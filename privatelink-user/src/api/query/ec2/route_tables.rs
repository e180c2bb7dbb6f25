//! Route tables: each VPC has its main one, with the local route.

use super::one;
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    model::{Vpc, derived},
};

/// The id of a VPC's main route table.
fn id(vpc: &Vpc) -> String {
    format!("rtb-{}", derived::hex(17, &["route table", vpc.id.as_str()]))
}

fn view(vpc: &Vpc) -> Structure {
    let id = id(vpc);
    let association = Structure::new()
        .text("main", true)
        .text("routeTableAssociationId", format!("rtbassoc-{}", derived::hex(17, &["association", &id])))
        .text("routeTableId", &id)
        .value("associationState", Structure::new().text("state", "associated"));
    let local = Structure::new()
        .text("destinationCidrBlock", vpc.cidr)
        .text("gatewayId", "local")
        .text("origin", "CreateRouteTable")
        .text("state", "active");
    Structure::new()
        .list("associationSet", [association])
        .list("propagatingVgwSet", [] as [Structure; 0])
        .text("routeTableId", &id)
        .list("routeSet", [local])
        .list("tagSet", [] as [Structure; 0])
        .text("vpcId", &vpc.id)
        .text("ownerId", &vpc.owner.account)
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("RouteTableId"));
    call.read(|state, _| {
        let known = |wanted: &&&str| state.vpcs.values().any(|vpc| id(vpc) == **wanted);
        if let Some(unknown) = ids.iter().find(|wanted| !known(wanted)) {
            let message = format!("The routeTable ID '{unknown}' does not exist");
            return Err(Refusal::coded("InvalidRouteTableID.NotFound", message));
        }
        let mut found = Vec::new();
        for vpc in state.vpcs.values() {
            let id = id(vpc);
            let values = |name: &str| match name {
                "route-table-id" | "association.route-table-id" => one(&id),
                "vpc-id" => one(&vpc.id),
                "owner-id" => one(&vpc.owner.account),
                "association.main" => one(true),
                "association.subnet-id" => Some(Vec::new()),
                _ => None,
            };
            let asked = ids.is_empty() || ids.contains(&id.as_str());
            if filters.admit(state, &id, values)? && asked {
                found.push((id, view(vpc)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("routeTableSet", items).maybe("nextToken", token))
    })
}
