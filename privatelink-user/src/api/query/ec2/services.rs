//! Endpoint services: the provider's configurations, and what a consumer finds.

use std::collections::BTreeSet;

use axum::{Json, extract::State as Shared};

use super::{chosen, done, gateways, members, one, tag_set, unsuccessful};
use crate::{
    api::{
        Caller, handler,
        query::{
            call::{Call, tag_specification, with_tags},
            filter::{Filters, Page},
            params::Scope,
            refusal::Refusal,
            xml::Structure,
        },
    },
    control::{
        ControlError, Installed, Mutation as _, Reference, connections,
        endpoint_services::{CreateEndpointService, DeleteEndpointService, ModifyEndpointService, ModifyServicePayer},
        ipv6,
        private_dns::VerifyDomain,
        status::ServiceStatus,
    },
    model::{EndpointService, EndpointServiceId, GatewayService, IpFamily, Owner, PayerResponsibility, Region, State},
};

fn view(state: &State, world: &State, service: &EndpointService, status: ServiceStatus) -> Structure {
    let EndpointService {
        id,
        owner: Owner { account: _, region },
        service_name,
        alias: _,
        load_balancers,
        zones,
        supported_regions: _,
        ipv4_only: _,
        acceptance_required,
        principals: _,
        consumers: _,
        owned_load_balancer: _,
        private_dns,
        limits: _,
        payer,
        created_at: _,
    } = service;
    let payer = match payer {
        PayerResponsibility::EndpointOwner => None,
        PayerResponsibility::ServiceOwner => Some("ServiceOwner"),
    };
    let supported = |region: &Region| Structure::new().text("region", region).text("serviceState", status);
    let verification = private_dns.as_ref().map(|private| {
        Structure::new()
            .text("state", private.state)
            .text("type", "TXT")
            .text("value", &private.record_value)
            .text("name", &private.record_name)
    });
    let structure = Structure::new()
        .list("serviceType", members("serviceType", ["Interface".to_owned()]))
        .text("serviceId", id)
        .text("serviceName", service_name)
        .text("serviceState", status)
        .texts("availabilityZoneIdSet", zones.iter().map(|zone| zone.id(region)))
        .texts("availabilityZoneSet", zones.iter().map(|zone| zone.name(region)))
        .text("acceptanceRequired", acceptance_required)
        .text("managesVpcEndpoints", false)
        .texts("networkLoadBalancerArnSet", load_balancers)
        .texts("supportedIpAddressTypeSet", families(world, service))
        .texts("baseEndpointDnsNameSet", [world.service_domain.endpoint_service(region, id)])
        .list("tagSet", tag_set(state, id.as_str()))
        .maybe("payerResponsibility", payer)
        .list("supportedRegionSet", service.regions().map(supported))
        .text("remoteAccessEnabled", false)
        .maybe("privateDnsName", private_dns.as_ref().map(|private| &private.name));
    match verification {
        Some(verification) => structure.value("privateDnsNameConfiguration", verification),
        None => structure,
    }
}

fn unknown(id: &str) -> Refusal {
    ControlError::EndpointServiceNotFound(id.to_owned()).into()
}

/// The families that endpoints of a service may have.
fn families(world: &State, service: &EndpointService) -> Vec<IpFamily> {
    let six = ipv6::offered(world, service).then_some(IpFamily::Ipv6);
    std::iter::once(IpFamily::Ipv4).chain(six).collect()
}

/// Refuses IPv6 for a service of whose load balancers one has none.
fn check_ipv6(name: &str, possible: bool) -> Result<(), Refusal> {
    if possible {
        return Ok(());
    }
    Err(Refusal::value(name, "ipv6", "needs load balancers with the IP address type dualstack"))
}

/// The regions that a request names in the list `name`.
fn regions(scope: &Scope<'_>, name: &str) -> Result<BTreeSet<Region>, Refusal> {
    scope.list(name).into_iter().map(|text| Ok(text.parse::<Region>()?)).collect()
}

fn parsed_families(texts: &[&str]) -> Result<Vec<IpFamily>, Refusal> {
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}

fn references(ids: Vec<&str>) -> Vec<Reference> {
    ids.into_iter().map(Reference::from).collect()
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let wanted = parsed_families(&scope.list("SupportedIpAddressType"))?;
    let request = CreateEndpointService {
        load_balancers: references(scope.list("NetworkLoadBalancerArn")),
        name: None,
        acceptance_required: scope.boolean("AcceptanceRequired")?.unwrap_or(true),
        principals: Vec::new(),
        private_dns_name: scope.parsed("PrivateDnsName")?,
        consumers: Default::default(),
        ipv4_only: wanted == [IpFamily::Ipv4],
        supported_regions: regions(&scope, "SupportedRegion")?,
    };
    if !wanted.is_empty() && !wanted.contains(&IpFamily::Ipv4) {
        return Err(Refusal::value("SupportedIpAddressType", "ipv6", "must be given with ipv4"));
    }
    if let Some(gateway) = scope.list("GatewayLoadBalancerArn").first() {
        return Err(ControlError::LoadBalancerNotFound((*gateway).to_owned()).into());
    }
    let tags = tag_specification(&scope, "vpc-endpoint-service")?;
    let token = scope.text("ClientToken");
    let id = call.create(|state, context| {
        let (change, made) = request.decide(state, context)?;
        // The native operation answers what is there; this one makes another, which a load balancer does not allow.
        if let (true, Some(load_balancer)) = (change.is_empty(), made.load_balancers.first()) {
            let (load_balancer, service) = (load_balancer.clone(), made.id);
            return Err(ControlError::LoadBalancerAssociated { load_balancer, service }.into());
        }
        let mut lbs = made.load_balancers.iter().filter_map(|id| state.load_balancers.get(id));
        if wanted.contains(&IpFamily::Ipv6) {
            check_ipv6("SupportedIpAddressType", lbs.all(|lb| !lb.ipv6_addresses.is_empty()))?;
        }
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id.to_string()))
    })?;
    call.read(|state, world| {
        let service = find(state, &id)?;
        let status = ServiceStatus::new(world, &call.installed(), service);
        let view = view(state, world, service, status);
        Ok(Structure::new().value("serviceConfiguration", view).maybe("clientToken", token))
    })
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a EndpointService, Refusal> {
    let parsed: Option<EndpointServiceId> = id.parse().ok();
    parsed.and_then(|id| state.endpoint_services.get(&id)).ok_or_else(|| unknown(id))
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("ServiceId"));
    let owner = call.owner();
    call.read_settled(|state, world, installed| {
        let is_own = |service: &EndpointService| service.owner == *owner;
        let before = &installed.state.endpoint_services;
        let services = Installed::with_leaving(&state.endpoint_services, before, |one| one.id.clone(), is_own);
        let (mut found, mut passing) = (Vec::new(), false);
        for service in chosen(&services, &ids, unknown)? {
            let status = ServiceStatus::new(world, installed, service);
            passing |= status.is_passing();
            let values = |name: &str| match name {
                "service-id" => one(&service.id),
                "service-name" => one(&service.service_name),
                "service-state" => one(status),
                "supported-ip-address-types" => {
                    Some(families(world, service).iter().map(ToString::to_string).collect())
                }
                _ => None,
            };
            if filters.admit(state, service.id.as_str(), values)? {
                found.push((service.id.to_string(), (service, status)));
            }
        }
        let (items, token) = page.clone().cut(found);
        let items = items.into_iter().map(|(service, status)| view(state, world, service, status));
        Ok((Structure::new().list("serviceConfigurationSet", items).maybe("nextToken", token), passing))
    })
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = scope.required("ServiceId")?;
    let added = parsed_families(&scope.list("AddSupportedIpAddressType"))?;
    let removed = parsed_families(&scope.list("RemoveSupportedIpAddressType"))?;
    if removed.contains(&IpFamily::Ipv4) {
        let rule = "cannot be removed: every endpoint has an IPv4 address";
        return Err(Refusal::value("RemoveSupportedIpAddressType", "ipv4", rule));
    }
    let ipv4_only = match (added.contains(&IpFamily::Ipv6), removed.contains(&IpFamily::Ipv6)) {
        (false, false) => None,
        (true, false) => {
            let possible = call.read(|state, world| Ok(ipv6::possible(world, find(state, id)?)))?;
            check_ipv6("AddSupportedIpAddressType", possible)?;
            Some(false)
        }
        (false, true) => Some(true),
        (true, true) => {
            let message = "The IP address type 'ipv6' cannot be added and removed at once";
            return Err(Refusal::coded("InvalidParameterCombination", message));
        }
    };
    let request = ModifyEndpointService {
        endpoint_service: id.into(),
        acceptance_required: scope.boolean("AcceptanceRequired")?,
        add_load_balancers: references(scope.list("AddNetworkLoadBalancerArn")),
        remove_load_balancers: references(scope.list("RemoveNetworkLoadBalancerArn")),
        private_dns_name: scope.parsed("PrivateDnsName")?,
        remove_private_dns_name: scope.boolean("RemovePrivateDnsName")?.unwrap_or(false),
        ipv4_only,
        add_supported_regions: regions(&scope, "AddSupportedRegion")?,
        remove_supported_regions: regions(&scope, "RemoveSupportedRegion")?,
        ..ModifyEndpointService::default()
    };
    call.mutate(&request)?;
    Ok(done())
}

pub fn modify_payer(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let endpoint_service = scope.required("ServiceId")?.into();
    match scope.required("PayerResponsibility")? {
        "ServiceOwner" => {}
        other => return Err(Refusal::value("PayerResponsibility", other, "must be one of '[ServiceOwner]'")),
    }
    call.mutate(&ModifyServicePayer { endpoint_service, payer: PayerResponsibility::ServiceOwner })?;
    Ok(done())
}

/// Looks for the TXT record now; what was found shows in the service's configuration.
pub fn verify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let endpoint_service = call.scope().required("ServiceId")?.into();
    call.complete()?;
    if call.dry_run {
        return Err(Refusal::DryRun);
    }
    let request = Ok(Json(VerifyDomain { endpoint_service }));
    let caller = Caller(call.owner().clone());
    call.handle.block_on(handler::verify_domain(Shared(call.api.clone()), caller, request)).map(drop)?;
    Ok(done())
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let ids = call.scope().list("ServiceId");
    if ids.is_empty() {
        return Err(Refusal::missing("ServiceId"));
    }
    let failed = call.each(ids, |id| DeleteEndpointService { endpoint_service: id.into(), force: false })?;
    // In a batch an unknown id has another code than alone.
    let recoded = failed.into_iter().map(|(id, refusal)| match refusal {
        Refusal::Control(error @ ControlError::EndpointServiceNotFound(_)) => {
            (id, Refusal::coded("InvalidVpcEndpointService.NotFound", error.to_string()))
        }
        other => (id, other),
    });
    Ok(unsuccessful(recoded.collect()))
}

/// The services that exist for the caller: its own, and those that admit it. Those of other regions are found where
/// they are asked for by `ServiceRegion`.
pub fn offered(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, names) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("ServiceName"));
    let regions = scope.list("ServiceRegion");
    let owner = call.owner();
    let region = &owner.region;
    call.read(|_, world| {
        let services: Vec<&EndpointService> = world
            .endpoint_services
            .values()
            .filter(|service| connections::admits(service, owner, &call.caller.identity))
            .filter(|service| match regions.is_empty() {
                true => service.owner.region == *region,
                false => regions.contains(&service.owner.region.as_str()),
            })
            .collect();
        let known = |name: &&&str| {
            services.iter().any(|service| service.service_name.as_str() == **name)
                || GatewayService::find(region, name).is_some()
        };
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            return Err(ControlError::InvalidServiceName((*unknown).to_owned()).into());
        }
        let mut found = Vec::new();
        let here = regions.is_empty() || regions.contains(&region.as_str());
        for service in GatewayService::ALL.into_iter().filter(|_| here) {
            let name = service.name(region);
            let values = |filter: &str| match filter {
                "service-name" => one(&name),
                "service-type" => one("Gateway"),
                "service-region" => one(region),
                "owner" => one("amazon"),
                "supported-ip-address-types" => one(IpFamily::Ipv4),
                _ => None,
            };
            let asked = names.is_empty() || names.contains(&name.as_str());
            if filters.admit(&State::default(), "", values)? && asked {
                found.push((name.clone(), (name, gateways::offered(region, service))));
            }
        }
        for service in services {
            let name = service.service_name.as_str();
            let values = |filter: &str| match filter {
                "service-name" => one(name),
                "service-type" => one("Interface"),
                "service-region" => one(&service.owner.region),
                "owner" => one(&service.owner.account),
                "supported-ip-address-types" => {
                    Some(families(world, service).iter().map(ToString::to_string).collect())
                }
                _ => None,
            };
            let asked = names.is_empty() || names.contains(&name);
            // Tags are their owner's: another account neither sees them nor finds a service by them.
            let tags = if service.owner == *owner { world } else { &State::default() };
            if filters.admit(tags, service.id.as_str(), values)? && asked {
                found.push((name.to_owned(), (name.to_owned(), detail(tags, world, service))));
            }
        }
        let (items, token) = page.cut(found);
        let (names, details): (Vec<_>, Vec<_>) = items.into_iter().unzip();
        Ok(Structure::new().texts("serviceNameSet", names).list("serviceDetailSet", details).maybe("nextToken", token))
    })
}

fn detail(tags: &State, world: &State, service: &EndpointService) -> Structure {
    let (zones, region) = (&service.zones, &service.owner.region);
    let private = service.private_dns.as_ref();
    Structure::new()
        .text("serviceName", &service.service_name)
        .text("serviceId", &service.id)
        .list("serviceType", members("serviceType", ["Interface".to_owned()]))
        .text("serviceRegion", region)
        .texts("availabilityZoneIdSet", zones.iter().map(|zone| zone.id(region)))
        .texts("availabilityZoneSet", zones.iter().map(|zone| zone.name(region)))
        .text("owner", &service.owner.account)
        .texts("baseEndpointDnsNameSet", [world.service_domain.endpoint_service(region, &service.id)])
        .text("vpcEndpointPolicySupported", false)
        .text("acceptanceRequired", service.acceptance_required)
        .text("managesVpcEndpoints", false)
        .list("tagSet", tag_set(tags, service.id.as_str()))
        .texts("supportedIpAddressTypeSet", families(world, service))
        .maybe("privateDnsName", private.map(|private| &private.name))
        .list("privateDnsNameSet", private.map(|private| Structure::new().text("privateDnsName", &private.name)))
        .maybe("privateDnsNameVerificationState", private.map(|private| private.state))
}
