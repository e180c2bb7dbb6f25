//! Endpoints.

use std::collections::BTreeSet;

use super::{chosen, done, one, security_groups, services, tag_set, unsuccessful};
use crate::{
    api::query::{
        call::{Call, tag_specification, with_tags},
        filter::{Filters, Page},
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _, Reference, connections,
        endpoints::{self, CreateEndpoint, DeleteEndpoint, ModifyEndpoint},
        lookup,
        subnets::{self, Placement},
    },
    model::{Endpoint, EndpointId, EndpointService, Owner, State, Subnet, derived},
};

/// What an endpoint without a policy of its own allows.
const FULL_ACCESS: &str = r#"{"Statement": [{"Action": "*", "Effect": "Allow", "Principal": "*", "Resource": "*"}]}"#;

/// The subnets in which an endpoint has addresses.
fn subnets_of<'a>(world: &'a State, endpoint: &'a Endpoint) -> impl Iterator<Item = &'a Subnet> {
    endpoint.addresses().filter_map(|address| world.subnet_of(&endpoint.vpc, address))
}

/// The names of an endpoint in DNS: its region's first, then one a zone.
pub fn dns_entries(world: &State, endpoint: &Endpoint) -> Vec<Structure> {
    let region = endpoint.owner.region.as_str();
    let entry = |name: String| {
        Structure::new().text("dnsName", name).text("hostedZoneId", derived::hosted_zone("vpce", region))
    };
    world.endpoint_names(endpoint).into_iter().map(entry).collect()
}

fn view(state: &State, endpoint: &Endpoint) -> Structure {
    let interfaces =
        endpoint.addresses().map(|address| derived::interface_id(&endpoint.vpc, address, endpoint.id.as_str()));
    Structure::new()
        .text("vpcEndpointId", &endpoint.id)
        .text("vpcEndpointType", "Interface")
        .text("vpcId", &endpoint.vpc)
        .text("serviceName", endpoint.service_name())
        .text("state", endpoint.state)
        .text("policyDocument", FULL_ACCESS)
        .list("routeTableIdSet", [] as [Structure; 0])
        .texts("subnetIdSet", subnets_of(state, endpoint).map(|subnet| &subnet.id))
        .list("groupSet", security_groups::group_set(state, &endpoint.security_groups.groups))
        .text("ipAddressType", "ipv4")
        .value("dnsOptions", Structure::new().text("dnsRecordIpType", "ipv4"))
        .text("privateDnsEnabled", endpoint.private_dns.is_some())
        .text("requesterManaged", false)
        .texts("networkInterfaceIdSet", interfaces)
        .list("dnsEntrySet", dns_entries(state, endpoint))
        .time("creationTimestamp", endpoint.created_at)
        .list("tagSet", tag_set(state, endpoint.id.as_str()))
        .text("ownerId", &endpoint.owner.account)
        .text("serviceRegion", &endpoint.owner.region)
}

fn unknown(id: &str) -> Refusal {
    Refusal::coded("InvalidVpcEndpointId.NotFound", format!("The Vpc Endpoint Id '{id}' does not exist"))
}

/// The subnets that a request names in the lists `ids` and `SubnetConfiguration`, with pinned addresses.
fn placements(scope: &Scope<'_>, ids: &str) -> Result<Vec<Placement>, Refusal> {
    let mut placements: Vec<Placement> =
        scope.list(ids).into_iter().map(|id| Placement { subnet: id.into(), address: None }).collect();
    for one in scope.structures("SubnetConfiguration") {
        let subnet = one.required("SubnetId")?.into();
        let pin = |text: &str| text.parse().map_err(|_| Refusal::value("Ipv4", text, "must be an IPv4 address"));
        let address = one.text("Ipv4").map(pin).transpose()?;
        match placements.iter_mut().find(|placement| placement.subnet == subnet) {
            Some(placement) => placement.address = address,
            None => placements.push(Placement { subnet, address }),
        }
    }
    Ok(placements)
}

/// Refuses subnets in zones that the service does not offer.
fn check_zones(
    state: &State,
    world: &State,
    service: &EndpointService,
    placements: &[Placement],
) -> Result<(), Refusal> {
    let zones = services::zones(world, service);
    for Placement { subnet, address: _ } in placements {
        let subnet = subnets::find(state, subnet)?;
        if !zones.contains(&subnet.zone) {
            let name = &service.service_name;
            return Err(Refusal::coded(
                "InvalidParameter",
                format!(
                    "The VPC endpoint service {name} does not support the availability zone of the subnet: {}.",
                    subnet.id
                ),
            ));
        }
    }
    Ok(())
}

/// Refuses what is not IPv4, and reads `PrivateDnsEnabled`.
fn private_dns(scope: &Scope<'_>) -> Result<Option<bool>, Refusal> {
    if scope.text("IpAddressType").is_some_and(|kind| kind != "ipv4") {
        return Err(Refusal::value("IpAddressType", scope.required("IpAddressType")?, "must be ipv4"));
    }
    scope.boolean("PrivateDnsEnabled")
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (name, vpc) = (scope.required("ServiceName")?, scope.required("VpcId")?);
    let kind = scope.text("VpcEndpointType").unwrap_or("Gateway");
    let placements = placements(&scope, "SubnetId")?;
    let tags = tag_specification(&scope, "vpc-endpoint")?;
    let groups: Vec<Reference> = scope.list("SecurityGroupId").into_iter().map(Into::into).collect();
    let token = scope.text("ClientToken");
    if scope.text("ServiceRegion").is_some_and(|region| region != call.owner().region.as_str()) {
        return Err(Refusal::value("ServiceRegion", scope.required("ServiceRegion")?, "must be the endpoint's own"));
    }
    let private_dns = private_dns(&scope)?.unwrap_or(false);
    let id = call.create(|state, context| {
        let caller = (context.account, context.region, context.identity);
        let service = connections::offered(state, context.world, caller, &name.into())?;
        if kind != "Interface" {
            return Err(Refusal::coded(
                "InvalidParameter",
                format!("Endpoint type ({kind}) does not match available service types ([Interface])."),
            ));
        }
        let found = lookup::vpc(state, &vpc.into())?;
        check_zones(state, context.world, service, &placements)?;
        let (address, further_addresses) = if placements.is_empty() {
            (None, Vec::new())
        } else {
            let (of, mut addresses) = subnets::place(state, &placements, &BTreeSet::new())?;
            if of.id != found.id {
                let named = placements.iter().map(|one| one.subnet.as_str()).collect::<Vec<_>>().join(", ");
                let message = format!("The subnet '{named}' does not belong to VPC '{}'", found.id);
                return Err(Refusal::coded("InvalidParameter", message));
            }
            let first = addresses.remove(0);
            (Some(first), addresses)
        };
        // Nobody has named a group: the VPC's default one, as with AWS.
        let default = || state.default_group(&found.id).map(|group| Reference::from(&group.id));
        let security_groups = if groups.is_empty() { default().into_iter().collect() } else { groups };
        let request = CreateEndpoint {
            service_name: name.into(),
            vpc: vpc.into(),
            address,
            further_addresses,
            security_groups,
            private_dns,
            private_dns_on_acceptance: false,
        };
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id.to_string()))
    })?;
    call.read(|state, _| {
        let found: Option<&Endpoint> = id.parse().ok().and_then(|id: EndpointId| state.endpoints.get(&id));
        let endpoint = found.ok_or_else(|| unknown(&id))?;
        Ok(Structure::new().value("vpcEndpoint", view(state, endpoint)).maybe("clientToken", token))
    })
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page, ids) = (Filters::read(&scope)?, Page::ec2(&scope)?, scope.list("VpcEndpointId"));
    let Owner { account, region } = call.owner();
    call.read(|state, _| {
        let mut found = Vec::new();
        for endpoint in chosen(&state.endpoints, &ids, unknown)? {
            let values = |name: &str| match name {
                "vpc-endpoint-id" => one(&endpoint.id),
                "vpc-endpoint-state" => one(endpoint.state),
                "vpc-endpoint-type" => one("Interface"),
                "vpc-id" => one(&endpoint.vpc),
                "service-name" => one(endpoint.service_name()),
                "service-region" => one(region),
                "ip-address-type" => one("ipv4"),
                "owner-id" => one(account),
                _ => None,
            };
            if filters.admit(state, endpoint.id.as_str(), values)? {
                found.push((endpoint.id.to_string(), endpoint));
            }
        }
        let (items, token) = page.cut(found);
        let items = items.into_iter().map(|endpoint| view(state, endpoint));
        Ok(Structure::new().list("vpcEndpointSet", items).maybe("nextToken", token))
    })
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let id = scope.required("VpcEndpointId")?;
    let add = placements(&scope, "AddSubnetId")?;
    let remove = scope.list("RemoveSubnetId");
    let (add_groups, remove_groups) = (scope.list("AddSecurityGroupId"), scope.list("RemoveSecurityGroupId"));
    let parsed: Option<EndpointId> = id.parse().ok();
    let private_dns = private_dns(&scope)?;
    call.update(|state, context| {
        let endpoint = parsed.as_ref().and_then(|id| state.endpoints.get(id)).ok_or_else(|| unknown(id))?;
        if let Some(service) = context.world.endpoint_services.get(&endpoint.service) {
            check_zones(state, context.world, service, &add)?;
        }
        let mut left: Vec<std::net::Ipv4Addr> = endpoint.addresses().collect();
        for id in &remove {
            let subnet = subnets::find(state, &(*id).into())?;
            left.retain(|address| !subnet.cidr.net().contains(address));
        }
        for placement in &add {
            let subnet = subnets::find(state, &placement.subnet)?;
            let present = left.iter().filter_map(|address| state.subnet_of(&endpoint.vpc, *address));
            if present.into_iter().any(|present| present.zone == subnet.zone) {
                return Err(ControlError::SubnetsInOneZone(subnet.id.clone()).into());
            }
        }
        if !add.is_empty() {
            let (vpc, addresses) = subnets::place(state, &add, &BTreeSet::new())?;
            if vpc.id != endpoint.vpc {
                return Err(ControlError::SubnetsOfSeveralVpcs.into());
            }
            left.extend(addresses);
        }
        let change = endpoints::with_addresses(endpoint, left)?;
        let regroup = !add_groups.is_empty() || !remove_groups.is_empty();
        if !regroup && private_dns.is_none() {
            return Ok((change, ()));
        }
        let mut state = state.clone();
        state.apply(&change);
        let present = endpoint.security_groups.groups.iter().map(|id| id.to_string());
        let kept = present.filter(|id| !remove_groups.contains(&id.as_str()));
        let groups: Vec<Reference> = kept.chain(add_groups.iter().map(|id| (*id).to_owned())).map(Into::into).collect();
        if regroup && groups.is_empty() {
            let message = "You must specify at least one security group";
            return Err(Refusal::coded("InvalidParameterValue", message));
        }
        let request = ModifyEndpoint {
            endpoint: (&endpoint.id).into(),
            security_groups: regroup.then_some(groups),
            private_dns,
            private_dns_on_acceptance: None,
            apply_to_established: endpoint.security_groups.applies_to_established,
        };
        let (regrouped, _) = request.decide(&state, context)?;
        Ok((change.then(regrouped), ()))
    })?;
    Ok(done())
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
