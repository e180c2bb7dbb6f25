//! Endpoints.

use super::{chosen, done, gateways, one, security_groups, tag_set, unsuccessful};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        filter::{Filters, Page},
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        Installed, Mutation as _, Reference, connections,
        endpoints::{CreateEndpoint, DeleteEndpoint, ModifyEndpoint, ModifyEndpointPayer},
        gateway_endpoints::ModifyGatewayEndpoint,
        lookup,
        status::EndpointStatus,
        subnets::Placement,
    },
    model::{
        DnsRecordIpType, Endpoint, EndpointId, GatewayEndpoint, GatewayService, InvalidValue, IpAddressType, Owner,
        PayerResponsibility, PolicyDocument, Region, State, Subnet, derived,
    },
};

/// The subnets in which an endpoint has addresses.
fn subnets_of<'a>(world: &'a State, endpoint: &'a Endpoint) -> impl Iterator<Item = &'a Subnet> {
    endpoint.addresses().filter_map(|address| world.subnet_of(&endpoint.vpc, address))
}

/// The names of an endpoint in DNS: its region's first, then one a zone.
pub fn dns_entries(world: &State, endpoint: &Endpoint) -> Vec<Structure> {
    let region = endpoint.service_region().as_str();
    let entry = |name: String| {
        Structure::new().text("dnsName", name).text("hostedZoneId", derived::hosted_zone("vpce", region))
    };
    world.endpoint_names(endpoint).into_iter().map(entry).collect()
}

fn view(state: &State, endpoint: &Endpoint, status: EndpointStatus) -> Structure {
    let interfaces = state.interfaces_of(endpoint).into_iter().map(|interface| interface.id);
    let structure = Structure::new()
        .text("vpcEndpointId", &endpoint.id)
        .text("vpcEndpointType", "Interface")
        .text("vpcId", &endpoint.vpc)
        .text("serviceName", endpoint.service_name())
        .text("state", status)
        .text("policyDocument", endpoint.policy.clone().unwrap_or_default())
        .list("routeTableIdSet", [] as [Structure; 0])
        .texts("subnetIdSet", subnets_of(state, endpoint).map(|subnet| &subnet.id))
        .list("groupSet", security_groups::group_set(state, &endpoint.security_groups.groups))
        .text("ipAddressType", endpoint.ip_address_type())
        .value("dnsOptions", Structure::new().text("dnsRecordIpType", endpoint.dns_record_ip_type()))
        .text("privateDnsEnabled", endpoint.private_dns.is_some())
        .text("requesterManaged", false)
        .texts("networkInterfaceIdSet", interfaces)
        .list("dnsEntrySet", dns_entries(state, endpoint))
        .time("creationTimestamp", endpoint.created_at)
        .list("tagSet", tag_set(state, endpoint.id.as_str()))
        .text("ownerId", &endpoint.owner.account)
        .text("serviceRegion", endpoint.service_region())
        .list("payerResponsibilitySet", payers(endpoint.payer));
    if status != EndpointStatus::Failed {
        return structure;
    }
    let (code, message) = EndpointStatus::NO_ROOM;
    structure.value("lastError", Structure::new().text("code", code).text("message", message))
}

/// Who pays for what of an endpoint.
pub fn payers(payer: PayerResponsibility) -> [Structure; 1] {
    [Structure::new().text("scope", CHARGES).text("payerResponsibilityType", payer.account_type())]
}

/// What is paid for an endpoint.
const CHARGES: &str = "vpc-endpoint-charges";

pub fn unknown(id: &str) -> Refusal {
    Refusal::coded("InvalidVpcEndpointId.NotFound", format!("The Vpc Endpoint Id '{id}' does not exist"))
}

/// The subnets that a request names in the lists `ids` and `SubnetConfiguration`, with pinned addresses.
fn placements(scope: &Scope<'_>, ids: &str) -> Result<Vec<Placement>, Refusal> {
    let mut placements: Vec<Placement> = scope
        .list(ids)
        .into_iter()
        .map(|id| Placement { subnet: id.into(), address: None, ipv6_address: None })
        .collect();
    for one in scope.structures("SubnetConfiguration") {
        let subnet = one.required("SubnetId")?.into();
        let pin = |text: &str| text.parse().map_err(|_| Refusal::value("Ipv4", text, "must be an IPv4 address"));
        let address = one.text("Ipv4").map(pin).transpose()?;
        let ipv6_address = one.parsed_address("Ipv6")?;
        match placements.iter_mut().find(|placement| placement.subnet == subnet) {
            Some(placement) => (placement.address, placement.ipv6_address) = (address, ipv6_address),
            None => placements.push(Placement { subnet, address, ipv6_address }),
        }
    }
    Ok(placements)
}

/// An endpoint always has an IPv4 address.
fn family(scope: &Scope<'_>) -> Result<Option<IpAddressType>, Refusal> {
    scope.parsed("IpAddressType")
}

/// The records that the names of a request's endpoint are to have. The other options are for endpoints of other kinds.
fn dns_records(scope: &Scope<'_>) -> Result<Option<DnsRecordIpType>, Refusal> {
    let options = scope.structure("DnsOptions");
    let refused = |message: &str| Err(Refusal::coded("InvalidParameter", message));
    if options.boolean("PrivateDnsOnlyForInboundResolverEndpoint")?.is_some() {
        return refused("PrivateDnsOnlyForInboundResolverEndpoint not supported for this service.");
    }
    for (name, given) in [
        ("PrivateDnsPreference", options.text("PrivateDnsPreference").is_some()),
        ("PrivateDnsSpecifiedDomains", !options.list("PrivateDnsSpecifiedDomain").is_empty()),
    ] {
        if given {
            let message = format!("DnsOptions {name} is applicable only to Resource and ServiceNetwork VPC Endpoints.");
            return refused(&message);
        }
    }
    options.parsed("DnsRecordIpType")
}

/// The policy of a request.
pub fn policy(scope: &Scope<'_>) -> Result<Option<PolicyDocument>, Refusal> {
    let refused =
        |error: InvalidValue| Refusal::coded("InvalidPolicyDocument", format!("Invalid Policy Document: {error}"));
    let parse = |text: &str| text.parse().map_err(refused);
    scope.text("PolicyDocument").map(parse).transpose()
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (name, vpc) = (scope.required("ServiceName")?, scope.required("VpcId")?);
    if let Some(service) = GatewayService::find(&call.owner().region, name) {
        return gateways::create(call, service);
    }
    let kind = scope.text("VpcEndpointType").unwrap_or("Gateway");
    let placements = placements(&scope, "SubnetId")?;
    let tags = tag_specification(&scope, "vpc-endpoint")?;
    let groups: Vec<Reference> = scope.list("SecurityGroupId").into_iter().map(Into::into).collect();
    let token = scope.text("ClientToken");
    let service_region: Option<Region> = scope.parsed("ServiceRegion")?;
    let private_dns = scope.boolean("PrivateDnsEnabled")?.unwrap_or(false);
    let family = family(&scope)?;
    let dns_record_ip_type = dns_records(&scope)?;
    let policy = policy(&scope)?;
    let id = call.create(|state, context| {
        let caller = (context.account, context.region, context.identity);
        connections::offered(state, context.world, caller, (&name.into(), service_region.as_ref()))?;
        if kind != "Interface" {
            return Err(Refusal::coded(
                "InvalidParameter",
                format!("Endpoint type ({kind}) does not match available service types ([Interface])."),
            ));
        }
        let found = lookup::vpc(state, &vpc.into())?;
        // Nobody has named a group: the VPC's default one, as with AWS.
        let default = || state.default_group(&found.id).map(|group| Reference::from(&group.id));
        let security_groups = if groups.is_empty() { default().into_iter().collect() } else { groups };
        let request = CreateEndpoint {
            service_name: name.into(),
            service_region,
            vpc: vpc.into(),
            ip_address_type: family,
            dns_record_ip_type,
            subnets: placements,
            aliases: Default::default(),
            security_groups,
            private_dns,
            policy,
            ..CreateEndpoint::default()
        };
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id.to_string()))
    })?;
    call.read(|state, world| {
        let found: Option<&Endpoint> = id.parse().ok().and_then(|id: EndpointId| state.endpoints.get(&id));
        let endpoint = found.ok_or_else(|| unknown(&id))?;
        // Nobody waits for the datapath here, so that many are made quickly.
        let status = EndpointStatus::new(world, &call.installed(), endpoint);
        Ok(Structure::new().value("vpcEndpoint", view(state, endpoint, status)).maybe("clientToken", token))
    })
}

/// A row of the endpoints.
enum Row<'a> {
    Interface(&'a Endpoint, EndpointStatus),
    Gateway(&'a GatewayEndpoint),
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("VpcEndpointId"));
    let owner @ Owner { account, region } = call.owner();
    call.read_settled(|state, world, installed| {
        let is_own = |endpoint: &Endpoint| endpoint.owner == *owner;
        let endpoints =
            Installed::with_leaving(&state.endpoints, &installed.state.endpoints, |one| one.id.clone(), is_own);
        let is_gateway = |id: &&str| id.parse().is_ok_and(|id: EndpointId| state.gateway_endpoints.contains_key(&id));
        let (gateways, others): (Vec<&str>, Vec<&str>) = ids.iter().copied().partition(is_gateway);
        let (mut found, mut passing) = (Vec::new(), false);
        let interfaces = match (ids.is_empty(), others.is_empty()) {
            (false, true) => Vec::new(),
            (true, _) | (_, false) => chosen(&endpoints, &others, unknown)?,
        };
        let gateways = match (ids.is_empty(), gateways.is_empty()) {
            (false, true) => Vec::new(),
            (true, _) | (_, false) => chosen(&state.gateway_endpoints, &gateways, unknown)?,
        };
        for endpoint in gateways {
            let values = |name: &str| match name {
                "vpc-endpoint-id" => one(&endpoint.id),
                "vpc-endpoint-state" => one("available"),
                "vpc-endpoint-type" => one("Gateway"),
                "vpc-id" => one(&endpoint.vpc),
                "service-name" => one(endpoint.service.name(region)),
                "service-region" => one(region),
                "ip-address-type" => one(IpAddressType::Ipv4),
                "owner-id" => one(account),
                _ => None,
            };
            if filters.admit(state, endpoint.id.as_str(), values)? {
                found.push((endpoint.id.to_string(), Row::Gateway(endpoint)));
            }
        }
        for endpoint in interfaces {
            let status = EndpointStatus::new(world, installed, endpoint);
            passing |= status.is_passing();
            let values = |name: &str| match name {
                "vpc-endpoint-id" => one(&endpoint.id),
                "vpc-endpoint-state" => one(status),
                "vpc-endpoint-type" => one("Interface"),
                "vpc-id" => one(&endpoint.vpc),
                "service-name" => one(endpoint.service_name()),
                "service-region" => one(endpoint.service_region()),
                "ip-address-type" => one(endpoint.ip_address_type()),
                "owner-id" => one(account),
                _ => None,
            };
            if filters.admit(state, endpoint.id.as_str(), values)? {
                found.push((endpoint.id.to_string(), Row::Interface(endpoint, status)));
            }
        }
        let (items, token) = page.clone().cut(found);
        let items = items.into_iter().map(|row| match row {
            Row::Interface(endpoint, status) => view(state, endpoint, status),
            Row::Gateway(endpoint) => gateways::view(state, owner, endpoint),
        });
        Ok((Structure::new().list("vpcEndpointSet", items).maybe("nextToken", token), passing))
    })
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = scope.required("VpcEndpointId")?;
    let add = placements(&scope, "AddSubnetId")?;
    let remove = scope.list("RemoveSubnetId");
    let (add_groups, remove_groups) = (scope.list("AddSecurityGroupId"), scope.list("RemoveSecurityGroupId"));
    let parsed: Option<EndpointId> = id.parse().ok();
    let private_dns = scope.boolean("PrivateDnsEnabled")?;
    let (family, records) = (family(&scope)?, dns_records(&scope)?);
    let (policy, reset_policy) = (policy(&scope)?, scope.boolean("ResetPolicy")?.unwrap_or(false));
    let add_route_tables = gateways::route_tables(call, "AddRouteTableId");
    let remove_route_tables = gateways::route_tables(call, "RemoveRouteTableId");
    call.update(|state, context| {
        if let Some(gateway) = parsed.as_ref().and_then(|id| state.gateway_endpoints.get(id)) {
            let of_interfaces = [
                !add.is_empty() || !remove.is_empty(),
                !add_groups.is_empty() || !remove_groups.is_empty(),
                private_dns.is_some() || records.is_some(),
                family.is_some(),
            ];
            if of_interfaces.contains(&true) {
                let message = "Gateway endpoints have no subnets, security groups, IP address type and DNS names";
                return Err(Refusal::coded("InvalidParameter", message));
            }
            let request = ModifyGatewayEndpoint { add_route_tables, remove_route_tables, policy, reset_policy };
            return Ok((request.decide(state, context, gateway)?, ()));
        }
        if !add_route_tables.is_empty() || !remove_route_tables.is_empty() {
            return Err(Refusal::coded("InvalidParameter", "Route tables can be given for gateway endpoints only"));
        }
        let endpoint = parsed.as_ref().and_then(|id| state.endpoints.get(id)).ok_or_else(|| unknown(id))?;
        let regroup = !add_groups.is_empty() || !remove_groups.is_empty();
        let present = endpoint.security_groups.groups.iter().map(|id| id.to_string());
        let kept = present.filter(|id| !remove_groups.contains(&id.as_str()));
        let groups: Vec<Reference> = kept.chain(add_groups.iter().map(|id| (*id).to_owned())).map(Into::into).collect();
        if regroup && groups.is_empty() {
            let message = "You must specify at least one security group";
            return Err(Refusal::coded("InvalidParameterValue", message));
        }
        let request = ModifyEndpoint {
            endpoint: (&endpoint.id).into(),
            ip_address_type: family,
            ipv6_address: None,
            dns_record_ip_type: records,
            reset_dns_record_ip_type: false,
            aliases: None,
            security_groups: regroup.then_some(groups),
            apply_to_established: endpoint.security_groups.applies_to_established,
            private_dns,
            private_dns_on_acceptance: None,
            add_subnets: add,
            remove_subnets: remove.into_iter().map(Into::into).collect(),
            policy,
            reset_policy,
        };
        Ok((request.decide(state, context)?.0, ()))
    })?;
    Ok(done())
}

pub fn modify_payer(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (service, id) = (scope.text("ServiceId"), scope.required("VpcEndpointId")?);
    match scope.required("Scope")? {
        CHARGES => {}
        other => return Err(Refusal::value("Scope", other, "must be one of '[vpc-endpoint-charges]'")),
    }
    let payer = match scope.required("PayerResponsibility")? {
        "vpc-endpoint-account" => PayerResponsibility::EndpointOwner,
        "vpc-endpoint-service-account" => PayerResponsibility::ServiceOwner,
        other => {
            let rule = "must be one of '[vpc-endpoint-account, vpc-endpoint-service-account]'";
            return Err(Refusal::value("PayerResponsibility", other, rule));
        }
    };
    let request = ModifyEndpointPayer { endpoint_service: service.map(Into::into), endpoint: id.into(), payer };
    call.mutate(&request)?;
    Ok(Structure::new().text("vpcEndpointId", id).list("payerResponsibilitySet", payers(payer)))
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let ids = call.scope().list("VpcEndpointId");
    if ids.is_empty() {
        return Err(Refusal::missing("VpcEndpointId"));
    }
    call.each(ids, |id| DeleteEndpoint { endpoint: id.into() }).map(unsuccessful)
}

/// Endpoints here lead to services, not to associated resources: there is none to list.
pub fn associations(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (_, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("VpcEndpointId"));
    call.read(|state, _| chosen(&state.endpoints, &ids, unknown).map(drop))?;
    let (items, token) = page.cut(Vec::<(String, Structure)>::new());
    Ok(Structure::new().list("vpcEndpointAssociationSet", items).maybe("nextToken", token))
}
