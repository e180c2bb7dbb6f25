//! Gateway endpoints, which are records ([`GatewayEndpoint`]).

use super::{endpoints, members, tag_set};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        refusal::Refusal,
        xml::Structure,
    },
    control::{Reference, gateway_endpoints::CreateGatewayEndpoint},
    model::{EndpointId, GatewayEndpoint, GatewayService, Owner, Region, State, Zone},
};

pub fn view(state: &State, owner: &Owner, endpoint: &GatewayEndpoint) -> Structure {
    let GatewayEndpoint { id, vpc, service, route_tables, policy, created_at } = endpoint;
    Structure::new()
        .text("vpcEndpointId", id)
        .text("vpcEndpointType", "Gateway")
        .text("vpcId", vpc)
        .text("serviceName", service.name(&owner.region))
        .text("state", "available")
        .text("policyDocument", policy.clone().unwrap_or_default())
        .texts("routeTableIdSet", route_tables.iter().filter(|table| state.route_tables.contains_key(table)))
        .list("subnetIdSet", [] as [Structure; 0])
        .list("groupSet", [] as [Structure; 0])
        .text("privateDnsEnabled", false)
        .text("requesterManaged", false)
        .list("networkInterfaceIdSet", [] as [Structure; 0])
        .list("dnsEntrySet", [] as [Structure; 0])
        .time("creationTimestamp", *created_at)
        .list("tagSet", tag_set(state, id.as_str()))
        .text("ownerId", &owner.account)
        .text("serviceRegion", &owner.region)
}

/// Route tables that a request names in the list `name`.
pub fn route_tables(call: &Call<'_>, name: &str) -> Vec<Reference> {
    call.scope().list(name).into_iter().map(Into::into).collect()
}

pub fn create(call: &Call<'_>, service: GatewayService) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let kind = scope.text("VpcEndpointType").unwrap_or("Gateway");
    if kind != "Gateway" {
        let message = format!("Endpoint type ({kind}) does not match available service types ([Gateway]).");
        return Err(Refusal::coded("InvalidParameter", message));
    }
    if scope.boolean("PrivateDnsEnabled")?.unwrap_or(false) {
        let message = "Private DNS can be enabled for endpoints of type Interface only.";
        return Err(Refusal::coded("InvalidParameter", message));
    }
    let request = CreateGatewayEndpoint {
        vpc: scope.required("VpcId")?.into(),
        service,
        route_tables: route_tables(call, "RouteTableId"),
        policy: endpoints::policy(&scope)?,
    };
    let tags = tag_specification(&scope, "vpc-endpoint")?;
    let token = scope.text("ClientToken");
    let id = call.create(|state, context| {
        let (change, id) = request.decide(state, context)?;
        Ok((with_tags(state, change, id.as_str(), &tags)?, id.to_string()))
    })?;
    call.read(|state, _| {
        let found = id.parse().ok().and_then(|id: EndpointId| state.gateway_endpoints.get(&id));
        let endpoint = found.ok_or_else(|| endpoints::unknown(&id))?;
        let view = view(state, call.owner(), endpoint);
        Ok(Structure::new().value("vpcEndpoint", view).maybe("clientToken", token))
    })
}

/// A service as a consumer finds it.
pub fn offered(region: &Region, service: GatewayService) -> Structure {
    Structure::new()
        .text("serviceName", service.name(region))
        .text("serviceId", service.service_id(region))
        .list("serviceType", members("serviceType", ["Gateway".to_owned()]))
        .text("serviceRegion", region)
        .texts("availabilityZoneIdSet", Zone::ALL.map(|zone| zone.id(region)))
        .texts("availabilityZoneSet", Zone::ALL.map(|zone| zone.name(region)))
        .text("owner", "amazon")
        .texts("baseEndpointDnsNameSet", [format!("{service}.{region}.amazonaws.com")])
        .text("vpcEndpointPolicySupported", true)
        .text("acceptanceRequired", false)
        .text("managesVpcEndpoints", false)
        .list("tagSet", [] as [Structure; 0])
        .texts("supportedIpAddressTypeSet", ["ipv4"])
}

/// The routes of a table that lead to gateway endpoints.
pub fn routes(state: &State, region: &Region, table: &crate::model::RouteTableId) -> Vec<Structure> {
    let here = state.gateway_endpoints.values().filter(|endpoint| endpoint.route_tables.contains(table));
    let route = |endpoint: &GatewayEndpoint| {
        Structure::new()
            .text("destinationPrefixListId", endpoint.service.prefix_list(region))
            .text("gatewayId", &endpoint.id)
            .text("origin", "CreateRoute")
            .text("state", crate::model::RouteState::Active)
    };
    here.map(route).collect()
}
