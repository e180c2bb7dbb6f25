//! The endpoints that lead to the caller's services.

use super::{
    endpoints::{dns_entries, payers},
    one, tag_set, unsuccessful,
};
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        Installed,
        connections::{AcceptConnections, RejectConnections, endpoints_of},
        lookup,
        status::EndpointStatus,
    },
    model::{Endpoint, EndpointService, State, derived},
};

fn view(world: &State, service: &EndpointService, endpoint: &Endpoint, status: EndpointStatus) -> Structure {
    Structure::new()
        .text("serviceId", &service.id)
        .text("vpcEndpointId", &endpoint.id)
        .text("vpcEndpointOwner", &endpoint.owner.account)
        .text("vpcEndpointState", status)
        .time("creationTimestamp", endpoint.created_at)
        .list("dnsEntrySet", dns_entries(world, endpoint))
        .texts("networkLoadBalancerArnSet", &service.load_balancers)
        .text("ipAddressType", endpoint.ip_address_type())
        .text("vpcEndpointConnectionId", derived::connection_id(&service.id, &endpoint.id))
        .list("tagSet", tag_set(&State::default(), ""))
        .text("vpcEndpointRegion", &endpoint.owner.region)
        .list("payerResponsibilitySet", payers(endpoint.payer))
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page) = (Filters::read(&scope)?, Page::ec2(&scope)?);
    call.read_settled(|state, world, installed| {
        let (mut found, mut passing) = (Vec::new(), false);
        for service in state.endpoint_services.values() {
            let leads_here = |endpoint: &Endpoint| endpoint.service == service.id;
            let leaving =
                Installed::leaving(&world.endpoints, &installed.state.endpoints).filter(|one| leads_here(one));
            for endpoint in endpoints_of(state, world, service).chain(leaving) {
                let status = EndpointStatus::new(world, installed, endpoint);
                passing |= status.is_passing();
                let values = |name: &str| match name {
                    "service-id" => one(&service.id),
                    "vpc-endpoint-id" => one(&endpoint.id),
                    "vpc-endpoint-owner" => one(&endpoint.owner.account),
                    "vpc-endpoint-state" => one(status),
                    "vpc-endpoint-region" => one(&endpoint.owner.region),
                    "ip-address-type" => one(endpoint.ip_address_type()),
                    _ => None,
                };
                if filters.admit(state, "", values)? {
                    found.push((endpoint.id.to_string(), view(world, service, endpoint, status)));
                }
            }
        }
        let (items, token) = page.clone().cut(found);
        Ok((Structure::new().list("vpcEndpointConnectionSet", items).maybe("nextToken", token), passing))
    })
}

/// The service and the endpoints that a request names.
fn named<'a>(call: &Call<'a>) -> Result<(&'a str, Vec<&'a str>), Refusal> {
    let scope = call.scope();
    let (service, endpoints) = (scope.required("ServiceId")?, scope.list("VpcEndpointId"));
    if endpoints.is_empty() {
        return Err(Refusal::missing("VpcEndpointId"));
    }
    call.read(|state, _| Ok(lookup::endpoint_service(state, &service.into()).map(drop)?))?;
    Ok((service, endpoints))
}

pub fn accept(call: &Call<'_>) -> Result<Structure, Refusal> {
    let (service, endpoints) = named(call)?;
    let request = |id: &str| AcceptConnections { endpoint_service: service.into(), endpoints: vec![id.into()] };
    call.each(endpoints, request).map(unsuccessful)
}

pub fn reject(call: &Call<'_>) -> Result<Structure, Refusal> {
    let (service, endpoints) = named(call)?;
    let request = |id: &str| RejectConnections { endpoint_service: service.into(), endpoints: vec![id.into()] };
    call.each(endpoints, request).map(unsuccessful)
}
