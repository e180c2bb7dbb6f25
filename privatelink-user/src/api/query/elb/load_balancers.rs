//! Load balancers.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use crate::{
    api::query::{
        call::{Call, read_tags, with_tags},
        filter::Page,
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _, Reference,
        ipv6::{self, Ipv6Refusal},
        load_balancers::{self, CreateLoadBalancer, DeleteLoadBalancer, ModifyLoadBalancer, SetSecurityGroups},
        lookup,
        status::LoadBalancerStatus,
        subnets::{self, Placement},
    },
    model::{
        Change, IpAddressType, LoadBalancer, LoadBalancerId, LoadBalancerKind, Region, ResourceName, Scheme, State,
        Subnet, derived,
    },
};

fn zone(region: &Region, subnet: &Subnet, lb: &LoadBalancer) -> Structure {
    let own = lb.nodes().filter(|address| subnet.contains(*address));
    let address = |address| match address {
        IpAddr::V4(address) => Structure::new().text("PrivateIPv4Address", address),
        IpAddr::V6(address) => Structure::new().text("IPv6Address", address),
    };
    Structure::new()
        .text("ZoneName", subnet.zone.name(region))
        .text("SubnetId", &subnet.id)
        .list("LoadBalancerAddresses", own.map(address))
}

/// The subnets in which a load balancer has addresses, each once.
fn subnets_of<'a>(state: &'a State, lb: &'a LoadBalancer) -> Vec<&'a Subnet> {
    let mut seen = BTreeSet::new();
    let found = lb.addresses.iter().filter_map(|address| state.subnet_of(&lb.vpc, *address));
    found.filter(|subnet| seen.insert(&subnet.id)).collect()
}

fn view(state: &State, region: &Region, lb: &LoadBalancer, status: LoadBalancerStatus) -> Structure {
    let zones = subnets_of(state, lb).into_iter().map(|subnet| zone(region, subnet, lb));
    let condition = Structure::new().text("Code", status.code()).maybe("Reason", status.reason(&lb.id));
    let structure = Structure::new()
        .text("LoadBalancerArn", &lb.id)
        .text("DNSName", state.service_domain.load_balancer(&lb.id))
        .text("CanonicalHostedZoneId", derived::hosted_zone("elb", region.as_str()))
        .time("CreatedTime", lb.created_at)
        .text("LoadBalancerName", &lb.name)
        .text("Scheme", lb.scheme)
        .text("VpcId", &lb.vpc)
        .value("State", condition)
        .text("Type", lb.id.kind())
        .list("AvailabilityZones", zones)
        .text("IpAddressType", lb.ip_address_type());
    // Absent is not empty: a load balancer without groups has neither member.
    let groups = &lb.security_groups.groups;
    if groups.is_empty() {
        return structure;
    }
    let structure = structure.texts("SecurityGroups", groups);
    match lb.id.kind() {
        LoadBalancerKind::Network => structure
            .text("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic", enforcement(lb.enforce_on_private_link)),
        LoadBalancerKind::Application => structure,
    }
}

fn enforcement(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// The subnets that a request names, with pinned addresses.
fn placements(scope: &Scope<'_>) -> Result<Vec<Placement>, Refusal> {
    let plain =
        scope.list("Subnets").into_iter().map(|id| Placement { subnet: id.into(), address: None, ipv6_address: None });
    let mapped = scope.structures("SubnetMappings").into_iter().map(|one| {
        let subnet = one.required("SubnetId")?.into();
        let pin = |text: &str| {
            text.parse().map_err(|_| Refusal::value("PrivateIPv4Address", text, "must be an IPv4 address"))
        };
        let ipv6_address = one.parsed_address("IPv6Address")?;
        Ok(Placement { subnet, address: one.text("PrivateIPv4Address").map(pin).transpose()?, ipv6_address })
    });
    plain.map(Ok).chain(mapped).collect()
}

/// Load balancing has its own words for what is wrong with subnets.
fn in_own_words(error: ControlError) -> Refusal {
    match error {
        ControlError::SubnetNotFound(id) => {
            Refusal::coded("SubnetNotFound", format!("The subnet ID '{id}' does not exist"))
        }
        ControlError::SubnetsInOneZone(_) => Refusal::coded(
            "InvalidConfigurationRequest",
            "A load balancer cannot be attached to multiple subnets in the same Availability Zone",
        ),
        ControlError::Ipv6(refusal @ (Ipv6Refusal::SubnetWithoutRange(_) | Ipv6Refusal::VpcWithoutRange(_))) => {
            Refusal::coded("InvalidSubnet", refusal.to_string())
        }
        ControlError::SubnetMissing => Refusal::coded("ValidationError", "At least one subnet must be specified"),
        ControlError::NoFreeAddressInSubnet(id) => Refusal::coded(
            "InvalidSubnet",
            format!("Not enough IP space available in {id}. ELB requires at least 1 free IP address"),
        ),
        other => other.into(),
    }
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let kind = scope.parsed("Type")?.unwrap_or(LoadBalancerKind::Application);
    let family: IpAddressType = scope.parsed("IpAddressType")?.unwrap_or_default();
    if family == IpAddressType::Dualstack && kind == LoadBalancerKind::Application {
        return Err(Refusal::value("IpAddressType", "dualstack", "must be ipv4 for load balancers of this type"));
    }
    let name: ResourceName = scope.required("Name")?.parse()?;
    let scheme = scope.parsed("Scheme")?.unwrap_or(Scheme::InternetFacing);
    let placements = placements(&scope)?;
    if kind == LoadBalancerKind::Application && placements.len() < 2 {
        let message = "At least two subnets in two different Availability Zones must be specified";
        return Err(Refusal::coded("ValidationError", message));
    }
    let tags = read_tags(&scope.structures("Tags"))?;
    let groups: Vec<Reference> = scope.list("SecurityGroups").into_iter().map(Into::into).collect();
    let id = call.update(|state, context| {
        // The same name in the same subnets is the same load balancer: its addresses are kept.
        let wanted: BTreeSet<&str> = placements.iter().map(|one| one.subnet.as_str()).collect();
        let same = |lb: &&LoadBalancer| {
            let present: BTreeSet<&str> = subnets_of(state, lb).iter().map(|subnet| subnet.id.as_str()).collect();
            let same = lb.name == name && lb.id.kind() == kind && lb.scheme == scheme;
            same && lb.ip_address_type() == family && present == wanted
        };
        if let Some(lb) = state.load_balancers.values().find(same) {
            return Ok((Change::default(), lb.id.clone()));
        }
        let (vpc, own) = subnets::place(state, &placements, &BTreeSet::new()).map_err(in_own_words)?;
        let six = match family {
            IpAddressType::Ipv4 => Vec::new(),
            IpAddressType::Dualstack => ipv6::place(state, vpc, &placements).map_err(in_own_words)?,
        };
        let addresses = own.into_iter().map(IpAddr::V4).chain(six.into_iter().map(IpAddr::V6)).collect();
        // As with AWS, one of type network has no groups unless it is given some.
        let default = || match kind {
            LoadBalancerKind::Network => None,
            LoadBalancerKind::Application => state.default_group(&vpc.id).map(|group| Reference::from(&group.id)),
        };
        let security_groups = if groups.is_empty() { default().into_iter().collect() } else { groups };
        let request = CreateLoadBalancer {
            name: name.clone(),
            kind,
            vpc: (&vpc.id).into(),
            addresses,
            scheme,
            security_groups,
            attributes: Default::default(),
        };
        let (change, made) = request.decide(state, context)?;
        Ok((with_tags(state, change, made.id.as_str(), &tags)?, made.id))
    })?;
    call.read(|state, _| {
        let lb = state.load_balancers.get(&id).ok_or_else(not_found)?;
        let status = LoadBalancerStatus::new(&call.installed(), lb);
        Ok(Structure::new().list("LoadBalancers", [view(state, &call.owner().region, lb, status)]))
    })
}

fn not_found() -> Refusal {
    Refusal::coded("LoadBalancerNotFound", "One or more load balancers not found")
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (arns, names, page) = (scope.list("LoadBalancerArns"), scope.list("Names"), Page::elb(&scope)?);
    call.read_settled(|state, _, installed| {
        let all = || state.load_balancers.values();
        let known =
            |arn: &&str| arn.parse().ok().is_some_and(|id: LoadBalancerId| state.load_balancers.contains_key(&id));
        let named = |name: &&str| all().any(|lb| lb.name.as_str() == *name);
        if !arns.iter().all(known) || !names.iter().all(named) {
            return Err(not_found());
        }
        let wanted = |lb: &&LoadBalancer| {
            (arns.is_empty() || arns.contains(&lb.id.as_str()))
                && (names.is_empty() || names.contains(&lb.name.as_str()))
        };
        let found = all().filter(wanted).map(|lb| (lb.id.to_string(), (lb, LoadBalancerStatus::new(installed, lb))));
        let (items, token) = page.clone().cut(found.collect());
        let passing = items.iter().any(|(_, status)| status.is_passing());
        let items = items.into_iter().map(|(lb, status)| view(state, &call.owner().region, lb, status));
        Ok((Structure::new().list("LoadBalancers", items).maybe("NextMarker", token), passing))
    })
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let arn: LoadBalancerId = call.scope().required("LoadBalancerArn")?.parse()?;
    call.mutate(&DeleteLoadBalancer { load_balancer: (&arn).into() })?;
    Ok(Structure::new())
}

pub fn modify_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let load_balancer = scope.required("LoadBalancerArn")?.into();
    let attributes = super::read_attributes(&scope)?;
    let changed = call.mutate(&ModifyLoadBalancer { load_balancer, attributes, ipv6_addresses: None })?;
    Ok(super::attributes(changed.attributes))
}

pub fn describe_attributes(call: &Call<'_>) -> Result<Structure, Refusal> {
    let lb = call.scope().required("LoadBalancerArn")?.into();
    call.read(|state, _| {
        let lb = lookup::load_balancer(state, &lb)?;
        Ok(super::attributes(lb.attributes.entries_of(lb.id.kind())))
    })
}

pub fn set_security_groups(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let lb = scope.required("LoadBalancerArn")?;
    if !scope.has_list("SecurityGroups") {
        return Err(Refusal::missing("SecurityGroups"));
    }
    let groups: Vec<Reference> = scope.list("SecurityGroups").into_iter().map(Into::into).collect();
    let name = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic";
    let enforce = match scope.text(name) {
        None => None,
        Some("on") => Some(true),
        Some("off") => Some(false),
        Some(other) => return Err(Refusal::value(name, other, "must be on or off")),
    };
    let request = SetSecurityGroups {
        load_balancer: lb.into(),
        security_groups: Some(groups),
        enforce_on_private_link: enforce,
        apply_to_established: false,
    };
    call.mutate(&request)?;
    call.read(|state, _| {
        let id: Option<LoadBalancerId> = lb.parse().ok();
        let lb = id.and_then(|id| state.load_balancers.get(&id)).ok_or_else(not_found)?;
        Ok(Structure::new()
            .texts("SecurityGroupIds", &lb.security_groups.groups)
            .text(name, enforcement(lb.enforce_on_private_link)))
    })
}

/// The subnets from now on: what stays keeps its addresses, what comes gets one, what is not named loses them.
pub fn set_subnets(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let arn: LoadBalancerId = scope.required("LoadBalancerArn")?.parse()?;
    let family: Option<IpAddressType> = scope.parsed("IpAddressType")?;
    let placements = placements(&scope)?;
    call.update(|state, context| {
        let lb = state.load_balancers.get(&arn).ok_or_else(not_found)?;
        let mut zones = BTreeSet::new();
        let (mut kept, mut fresh) = (Vec::new(), Vec::new());
        for placement in &placements {
            let subnet = subnets::find(state, &placement.subnet).map_err(in_own_words)?;
            if subnet.vpc != lb.vpc {
                return Err(in_own_words(ControlError::SubnetsOfSeveralVpcs));
            }
            if !zones.insert(subnet.zone) {
                let message = "More than 1 subnet cannot be specified for 1 availability zone";
                return Err(Refusal::coded("InvalidConfigurationRequest", message));
            }
            let present: Vec<Ipv4Addr> =
                lb.addresses.iter().copied().filter(|address| subnet.cidr.net().contains(address)).collect();
            match placement.address {
                None if !present.is_empty() => kept.extend(present),
                Some(address) if present.contains(&address) => kept.extend(present),
                Some(_) | None => fresh.push(placement.clone()),
            }
        }
        if !fresh.is_empty() {
            let (_, added) = subnets::place(state, &fresh, &BTreeSet::new()).map_err(in_own_words)?;
            kept.extend(added);
        }
        if kept.is_empty() {
            return Err(in_own_words(ControlError::SubnetMissing));
        }
        let six = match family.unwrap_or(lb.ip_address_type()) {
            IpAddressType::Ipv4 => Vec::new(),
            IpAddressType::Dualstack => ipv6_in(state, lb, &placements)?,
        };
        let lb = load_balancers::with_ipv6_addresses(state, context.world, lb, six)?;
        Ok((load_balancers::with_addresses(state, &lb, kept)?, ()))
    })?;
    call.read(|state, _| {
        let lb = state.load_balancers.get(&arn).ok_or_else(not_found)?;
        let region = &call.owner().region;
        let zones = subnets_of(state, lb).into_iter().map(|subnet| zone(region, subnet, lb));
        Ok(Structure::new().list("AvailabilityZones", zones).text("IpAddressType", lb.ip_address_type()))
    })
}

/// The IPv6 addresses of a load balancer in these subnets: those that it has there, one for each subnet where it has
/// none.
fn ipv6_in(state: &State, lb: &LoadBalancer, placements: &[Placement]) -> Result<Vec<std::net::Ipv6Addr>, Refusal> {
    let vpc = state.vpcs.get(&lb.vpc).ok_or_else(not_found)?;
    let mut found = Vec::new();
    for placement in placements {
        let subnet = subnets::find(state, &placement.subnet).map_err(in_own_words)?;
        let present = lb.ipv6_addresses.iter().copied().filter(|address| subnet.contains((*address).into()));
        let present: Vec<_> = present.collect();
        match placement.ipv6_address {
            None if !present.is_empty() => found.extend(present),
            Some(address) if present.contains(&address) => found.extend(present),
            pinned => found.push(ipv6::in_subnet(state, vpc, subnet, pinned).map_err(in_own_words)?),
        }
    }
    Ok(found)
}

/// No capacity is reserved for any load balancer: all have what the host has.
pub fn capacity_reservation(call: &Call<'_>) -> Result<Structure, Refusal> {
    let arn: LoadBalancerId = call.scope().required("LoadBalancerArn")?.parse()?;
    call.read(|state, _| {
        if !state.load_balancers.contains_key(&arn) {
            return Err(not_found());
        }
        Ok(Structure::new().text("DecreaseRequestsRemaining", 0).list("CapacityReservationState", [] as [Structure; 0]))
    })
}

pub fn set_ip_address_type(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (arn, kind) = (scope.required("LoadBalancerArn")?, scope.required("IpAddressType")?);
    let family: IpAddressType = kind.parse()?;
    call.update(|state, context| {
        let id: Option<LoadBalancerId> = arn.parse().ok();
        let lb = id.and_then(|id| state.load_balancers.get(&id)).ok_or_else(not_found)?;
        if family == IpAddressType::Dualstack && lb.id.kind() == LoadBalancerKind::Application {
            return Err(Refusal::value("IpAddressType", kind, "must be ipv4 for load balancers of this type"));
        }
        let places = subnets_of(state, lb).into_iter();
        let places = places.map(|subnet| Placement { subnet: (&subnet.id).into(), address: None, ipv6_address: None });
        let six = match family {
            IpAddressType::Ipv4 => Vec::new(),
            IpAddressType::Dualstack => ipv6_in(state, lb, &places.collect::<Vec<_>>())?,
        };
        let changed = load_balancers::with_ipv6_addresses(state, context.world, lb, six)?;
        let change = Change::replace(lb, changed);
        Ok((change, ()))
    })?;
    Ok(Structure::new().text("IpAddressType", family))
}
