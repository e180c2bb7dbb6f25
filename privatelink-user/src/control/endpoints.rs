//! Endpoints.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Query, Reference, address, aliases,
    connections::{self, offered},
    ipv6::{self, Ipv6Refusal},
    lookup, operation, private_dns, security_groups, sorted,
    status::{EndpointStatus, Installed},
    subnets::{self, Placement},
    view::EndpointView,
};
use crate::model::{
    Alias, Change, DnsRecordIpType, Endpoint, EndpointId, EndpointService, EndpointState, InvalidValue, IpAddressType,
    Key, OwnLimits, PayerResponsibility, PolicyDocument, Region, SecurityGroups, State, Vpc,
};

/// Makes an endpoint: an address in `vpc` that leads to a service of the caller or one that admits it. If the service
/// requires acceptance, its traffic waits for that. With an address it is idempotent; without one each
/// call makes another endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateEndpoint {
    /// The service by its service name; its id, and the alias of one's own, are accepted as well.
    pub service_name: Reference,
    /// The service's region, if it is another than the caller's; the service must support the caller's.
    #[serde(default)]
    pub service_region: Option<Region>,
    pub vpc: Reference,
    /// Without subnets; none: the first free address of the VPC.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub address: Option<Ipv4Addr>,
    /// Dualstack: it has IPv6 addresses too, one a subnet or one of the VPC. None: if one is given here.
    #[serde(default)]
    pub ip_address_type: Option<IpAddressType>,
    /// Without subnets; none: the first free one of the VPC.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Which of its addresses its names answer with. None: with all.
    #[serde(default)]
    pub dns_record_ip_type: Option<DnsRecordIpType>,
    /// One a zone, in which it has an address each.
    #[serde(default)]
    pub subnets: Vec<Placement>,
    /// Addresses and prefixes that hosts of the VPC route to the endpoint.
    #[serde(default)]
    pub aliases: BTreeSet<Alias>,
    /// Groups of the VPC that say who may connect. None: everybody in the VPC.
    #[serde(default)]
    pub security_groups: Vec<Reference>,
    /// Let it answer for the service's private DNS name in the VPC.
    #[serde(default)]
    pub private_dns: bool,
    /// Let it do so as soon as it is accepted and the name is verified.
    #[serde(default)]
    pub private_dns_on_acceptance: bool,
    /// None: everything is allowed.
    #[serde(default)]
    pub policy: Option<PolicyDocument>,
}
operation!(CreateEndpoint -> EndpointView);

impl Mutation for CreateEndpoint {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointView), ControlError> {
        let Self {
            service_name,
            service_region,
            vpc,
            address,
            ip_address_type,
            ipv6_address,
            dns_record_ip_type,
            subnets,
            aliases,
            security_groups,
            private_dns,
            private_dns_on_acceptance,
            policy,
        } = self;
        let ipv6 = Ipv6Wish::new(*ip_address_type, *ipv6_address, subnets)?;
        let caller = (context.account, context.region, context.identity);
        let service = offered(state, context.world, caller, (service_name, service_region.as_ref()))?;
        let vpc = lookup::vpc(state, vpc)?;
        let groups = security_groups::resolve(state, &vpc.id, security_groups)?;
        let security_groups = SecurityGroups { groups, applies_to_established: false };
        let (address, further_addresses) = match (*address, subnets.is_empty()) {
            (Some(_), false) => return Err(ControlError::AddressAndSubnets),
            (None, false) => {
                let mut addresses = placed(state, service, vpc, subnets)?.into_iter();
                (addresses.next().ok_or(ControlError::SubnetMissing)?, addresses.collect())
            }
            (None, true) => (address::first_free(state, vpc)?, Vec::new()),
            (Some(address), true) => {
                let same = |endpoint: &&Endpoint| {
                    let dualstack = endpoint.ip_address_type() == IpAddressType::Dualstack;
                    endpoint.address == address
                        && dualstack == ipv6.is_some()
                        && ipv6_address.is_none_or(|address| endpoint.ipv6_addresses.contains(&address))
                        && endpoint.vpc == vpc.id
                        && endpoint.service == service.id
                        && endpoint.security_groups.groups == security_groups.groups
                        && endpoint.aliases == *aliases
                        && endpoint.dns_record_ip_type == *dns_record_ip_type
                        && (*private_dns_on_acceptance || endpoint.private_dns.is_some() == *private_dns)
                        && endpoint.private_dns_on_acceptance == *private_dns_on_acceptance
                        && endpoint.policy == *policy
                };
                if let Some(endpoint) = state.endpoints.values().find(same) {
                    return Ok((Change::default(), EndpointView::new(state, endpoint)));
                }
                address::check_free(state, vpc, address.into())?;
                (address, Vec::new())
            }
        };
        let ipv6_addresses = match ipv6 {
            Some(wish) => wish.place(state, context.world, service, vpc, subnets)?,
            None => Vec::new(),
        };
        aliases::check(state, vpc, aliases, None)?;
        let twice = |alias: &Ipv4Addr| *alias == address || further_addresses.contains(alias);
        if let Some(twice) = aliases.iter().filter_map(|alias| alias.address()).find(twice) {
            return Err(ControlError::AddressTwice(twice.into()));
        }
        let id = EndpointId::generate(context.ids);
        let endpoint_state = service.first_state(context.account, &id);
        if *private_dns {
            private_dns::check(state, service, &vpc.id, None, endpoint_state)?;
        }
        let endpoint = Endpoint {
            id,
            owner: context.owner(),
            service: service.id.clone(),
            service_region: Some(service.owner.region.clone()).filter(|region| region != context.region),
            vpc: vpc.id.clone(),
            address,
            further_addresses,
            ipv6_addresses,
            limits: OwnLimits::default(),
            aliases: aliases.clone(),
            dns_record_ip_type: *dns_record_ip_type,
            state: endpoint_state,
            security_groups,
            private_dns: private_dns::answered(service, *private_dns),
            private_dns_on_acceptance: *private_dns_on_acceptance,
            policy: policy.clone(),
            payer: service.payer,
            created_at: context.now,
        };
        check_records(&endpoint)?;
        let endpoint = private_dns::when_possible(state, service, endpoint);
        let view = EndpointView::new(state, &endpoint);
        Ok((Change::default().put(endpoint), view))
    }
}

/// That an endpoint's names have records that its addresses allow.
fn check_records(endpoint: &Endpoint) -> Result<(), ControlError> {
    let (records, addresses) = (endpoint.dns_record_ip_type(), endpoint.ip_address_type());
    if records.fits(addresses) { Ok(()) } else { Err(Ipv6Refusal::DnsRecords { records, addresses }.into()) }
}

/// That an endpoint is to have IPv6 addresses, and which one if it matters.
#[derive(Debug, Clone, Copy)]
struct Ipv6Wish {
    address: Option<Ipv6Addr>,
}

impl Ipv6Wish {
    /// None: it has IPv4 addresses only.
    fn new(
        wanted: Option<IpAddressType>,
        address: Option<Ipv6Addr>,
        subnets: &[Placement],
    ) -> Result<Option<Self>, ControlError> {
        let pinned = address.or_else(|| subnets.iter().find_map(|placement| placement.ipv6_address));
        match (wanted, pinned) {
            (Some(IpAddressType::Ipv4), Some(pinned)) => Err(ControlError::Invalid(InvalidValue::new(
                "IPv6 address",
                pinned.to_string(),
                "cannot be given with the IP address type ipv4",
                "use dualstack, or leave it out",
            ))),
            _ if address.is_some() && !subnets.is_empty() => Err(ControlError::AddressAndSubnets),
            (Some(IpAddressType::Dualstack), _) | (None, Some(_)) => Ok(Some(Self { address })),
            (Some(IpAddressType::Ipv4) | None, None) => Ok(None),
        }
    }

    /// The addresses: one in each subnet, or, without subnets, one of the VPC.
    fn place(
        self,
        state: &State,
        world: &State,
        service: &EndpointService,
        vpc: &Vpc,
        subnets: &[Placement],
    ) -> Result<Vec<Ipv6Addr>, ControlError> {
        if !ipv6::offered(world, service) {
            return Err(Ipv6Refusal::ServiceWithoutIpv6(service.service_name.clone()).into());
        }
        match self.address {
            _ if !subnets.is_empty() => ipv6::place(state, vpc, subnets),
            Some(address) => address::check_free(state, vpc, address.into()).map(|()| vec![address]),
            None => ipv6::first_free(state, vpc).map(|address| vec![address]),
        }
    }
}

/// Addresses in the subnets of `placements`, all of `vpc` and, in the service's region, of zones that it has.
fn placed(
    state: &State,
    service: &EndpointService,
    vpc: &Vpc,
    placements: &[Placement],
) -> Result<Vec<Ipv4Addr>, ControlError> {
    for Placement { subnet, address: _, ipv6_address: _ } in placements {
        let subnet = subnets::find(state, subnet)?;
        if subnet.vpc != vpc.id {
            return Err(ControlError::SubnetOfOtherVpc { subnet: subnet.id.clone(), vpc: vpc.id.clone() });
        }
        // Zones of another region are others.
        if vpc.owner.region == service.owner.region && !service.zones.contains(&subnet.zone) {
            let (service, subnet) = (service.service_name.clone(), subnet.id.clone());
            return Err(ControlError::ZoneNotOffered { service, subnet });
        }
    }
    subnets::place(state, placements, &BTreeSet::new()).map(|(_, addresses)| addresses)
}

/// Changes an endpoint. What is not given stays.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyEndpoint {
    pub endpoint: Reference,
    /// None: as it is. Dualstack: it gets IPv6 addresses if it has none; ipv4: it loses them, and their flows end.
    #[serde(default)]
    pub ip_address_type: Option<IpAddressType>,
    /// The one that it gets; none: the first free one of each of its subnets, or of the VPC.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Which of its addresses its names answer with. None: as it is, which must fit the addresses that it has then.
    #[serde(default)]
    pub dns_record_ip_type: Option<DnsRecordIpType>,
    /// With all again, whichever it has.
    #[serde(default)]
    pub reset_dns_record_ip_type: bool,
    /// None: they stay. Flows by one that goes stay open; those of a single address of the VPC end.
    #[serde(default)]
    pub aliases: Option<BTreeSet<Alias>>,
    /// None: they stay. An empty list: everybody in the VPC may connect.
    #[serde(default)]
    pub security_groups: Option<Vec<Reference>>,
    /// End open flows that the new groups do not allow; otherwise they count for new flows only.
    #[serde(default)]
    pub apply_to_established: bool,
    /// None: as it is. False takes back [`CreateEndpoint::private_dns_on_acceptance`] too.
    #[serde(default)]
    pub private_dns: Option<bool>,
    /// From now on; none: as it is.
    #[serde(default)]
    pub private_dns_on_acceptance: Option<bool>,
    /// Subnets in which it gets an address; where it has one and another is pinned, that one instead.
    #[serde(default)]
    pub add_subnets: Vec<Placement>,
    /// Subnets in which it loses its address; the flows there end.
    #[serde(default)]
    pub remove_subnets: Vec<Reference>,
    #[serde(default)]
    pub policy: Option<PolicyDocument>,
    /// The default policy again.
    #[serde(default)]
    pub reset_policy: bool,
}
operation!(ModifyEndpoint -> EndpointView);

impl Mutation for ModifyEndpoint {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, EndpointView), ControlError> {
        let Self {
            endpoint,
            ip_address_type,
            ipv6_address,
            dns_record_ip_type,
            reset_dns_record_ip_type,
            aliases,
            security_groups,
            apply_to_established,
            private_dns,
            private_dns_on_acceptance,
            add_subnets,
            remove_subnets,
            policy,
            reset_policy,
        } = self;
        let endpoint = lookup::endpoint(state, endpoint)?;
        let vpc = state.vpcs.get(&endpoint.vpc);
        let vpc = vpc.ok_or_else(|| ControlError::VpcNotFound(endpoint.vpc.to_string()))?;
        let wish = Ipv6Wish::new(*ip_address_type, *ipv6_address, &[])?;
        if ipv6_address.is_some() && add_subnets.iter().any(|placement| placement.ipv6_address.is_some()) {
            return Err(ControlError::AddressAndSubnets);
        }
        let pins = Ipv6Pins::new(endpoint, *ip_address_type, wish);
        let mut changed = moved(state, context.world, vpc, endpoint, (add_subnets, pins), remove_subnets)?;
        match wish {
            None if *ip_address_type == Some(IpAddressType::Ipv4) => changed.ipv6_addresses = Vec::new(),
            None => {}
            Some(Ipv6Wish { address: None }) if !changed.ipv6_addresses.is_empty() => {}
            Some(Ipv6Wish { address: Some(one) }) if changed.ipv6_addresses == [one] => {}
            Some(wish) => changed.ipv6_addresses = widened(state, context.world, vpc, &changed, (wish, add_subnets))?,
        }
        if *reset_dns_record_ip_type {
            changed.dns_record_ip_type = None;
        }
        changed.dns_record_ip_type = dns_record_ip_type.or(changed.dns_record_ip_type);
        check_records(&changed)?;
        if *reset_policy {
            changed.policy = None;
        }
        if let Some(policy) = policy {
            changed.policy = Some(policy.clone());
        }
        if let Some(references) = security_groups {
            changed.security_groups = SecurityGroups {
                groups: security_groups::resolve(state, &endpoint.vpc, references)?,
                applies_to_established: *apply_to_established,
            };
        }
        if let (Some(aliases), Some(vpc)) = (aliases, state.vpcs.get(&endpoint.vpc)) {
            aliases::check(state, vpc, aliases, Some(&endpoint.id))?;
            changed.aliases = aliases.clone();
        }
        match private_dns {
            Some(true) if endpoint.private_dns.is_none() => {
                let service = context.world.endpoint_services.get(&endpoint.service);
                let service = service.ok_or_else(|| ControlError::PrivateDnsNotProvided(endpoint.service_name()))?;
                private_dns::check(state, service, &endpoint.vpc, Some(&endpoint.id), endpoint.state)?;
                changed.private_dns = private_dns::answered(service, true);
            }
            Some(false) => {
                changed.private_dns = None;
                changed.private_dns_on_acceptance = false;
            }
            Some(true) | None => {}
        }
        if let Some(wanted) = private_dns_on_acceptance {
            changed.private_dns_on_acceptance = *wanted;
            if let Some(service) = context.world.endpoint_services.get(&endpoint.service) {
                changed = private_dns::when_possible(state, service, changed);
            }
        }
        let view = EndpointView::new(state, &changed);
        let change = Change::replace(endpoint, changed);
        Ok((change, view))
    }
}

/// Expires the endpoints whose service's owner has not answered in time.
pub fn expire_unanswered(state: &State, now: Timestamp) -> Change {
    state
        .endpoints
        .values()
        .filter(|endpoint| endpoint.expires_at().is_some_and(|at| at <= now))
        .map(|endpoint| Endpoint { state: EndpointState::Expired, ..endpoint.clone() })
        .fold(Change::default(), Change::put)
}

/// When [`expire_unanswered`] has something to do next; none while no endpoint waits.
pub fn next_unanswered(state: &State) -> Option<Timestamp> {
    state.endpoints.values().filter_map(Endpoint::expires_at).min()
}

/// What an IPv6 address that is pinned in a subnet means for an endpoint that changes.
#[derive(Debug, Clone, Copy)]
enum Ipv6Pins {
    /// Nothing: it has no IPv6 addresses then.
    Refused,
    /// It is instead of the one that it has there.
    Replace,
    /// It is the one that it gets there, as it gets some in its other subnets.
    Given,
}

impl Ipv6Pins {
    fn new(endpoint: &Endpoint, asked: Option<IpAddressType>, wish: Option<Ipv6Wish>) -> Self {
        match (asked, wish, endpoint.ip_address_type()) {
            (Some(IpAddressType::Ipv4), _, _) | (_, None, IpAddressType::Ipv4) => Self::Refused,
            (_, Some(_), IpAddressType::Ipv4) => Self::Given,
            (_, _, IpAddressType::Dualstack) => Self::Replace,
        }
    }
}

/// The IPv6 addresses of an endpoint that had none, or is to have another: in its subnets, pinned by these placements
/// or free, or of the VPC.
fn widened(
    state: &State,
    world: &State,
    vpc: &Vpc,
    endpoint: &Endpoint,
    (wish, placements): (Ipv6Wish, &[Placement]),
) -> Result<Vec<Ipv6Addr>, ControlError> {
    let service = world.endpoint_services.get(&endpoint.service);
    let service = service.ok_or_else(|| ControlError::InvalidServiceName(endpoint.service_name().to_string()))?;
    let mut pinned = BTreeMap::new();
    for Placement { subnet, address: _, ipv6_address } in placements {
        pinned.extend(
            ipv6_address.map(|address| subnets::find(state, subnet).map(|subnet| (&subnet.id, address))).transpose()?,
        );
    }
    let own = endpoint.addresses().filter_map(|address| state.subnet_of(&endpoint.vpc, address));
    let placements: Vec<Placement> = own
        .map(|subnet| (subnet, pinned.get(&subnet.id).copied()))
        .filter(|(subnet, pin)| wish.address.is_none() && (subnet.ipv6_cidr.is_some() || pin.is_some()))
        .map(|(subnet, ipv6_address)| Placement { subnet: (&subnet.id).into(), address: None, ipv6_address })
        .collect();
    wish.place(state, world, service, vpc, &placements)
}

/// Pins the addresses of `placement` in its subnet, in which an endpoint has some already; whether it has.
fn repinned(
    state: &State,
    vpc: &Vpc,
    (endpoint, four, six): (&Endpoint, &mut [Ipv4Addr], &mut [Ipv6Addr]),
    (placement, pins): (&Placement, Ipv6Pins),
) -> Result<bool, ControlError> {
    let Placement { subnet, address, ipv6_address } = placement;
    let subnet = subnets::find(state, subnet)?;
    let check = |address: IpAddr| match subnet.contains(address) {
        true => address::check_free(state, vpc, address),
        false => Err(ControlError::AddressOutsideSubnet { address, cidr: subnet.range(address) }),
    };
    let own = four.iter_mut().find(|own| subnet.contains((**own).into()));
    let own6 = six.iter_mut().find(|own| subnet.contains((**own).into()));
    if own.is_none() || (address.is_none() && ipv6_address.is_none()) {
        return Ok(false);
    }
    if let Some((own, pinned)) = own.zip(*address).filter(|(own, pinned)| **own != *pinned) {
        check(pinned.into())?;
        *own = pinned;
    }
    match (own6, *ipv6_address, pins) {
        (Some(own), Some(pinned), _) if *own != pinned => {
            check(pinned.into())?;
            *own = pinned;
        }
        (None, Some(address), Ipv6Pins::Replace) => {
            let (endpoint, subnet) = (endpoint.id.clone(), subnet.id.clone());
            return Err(Ipv6Refusal::NothingToReplace { endpoint, subnet, address }.into());
        }
        // Without one now: refused before, or it gets this one with its others.
        (Some(_), Some(_), _) | (None, Some(_), Ipv6Pins::Refused | Ipv6Pins::Given) | (_, None, _) => {}
    }
    Ok(true)
}

/// The endpoint without its addresses in the subnets `remove`, and with new ones in `add`. Those that it keeps keep
/// their flows; one that is pinned anew in a subnet where it has another is a new one.
fn moved(
    state: &State,
    world: &State,
    vpc: &Vpc,
    endpoint: &Endpoint,
    (add, pins): (&[Placement], Ipv6Pins),
    remove: &[Reference],
) -> Result<Endpoint, ControlError> {
    let refused = add.iter().find_map(|placement| placement.ipv6_address).filter(|_| matches!(pins, Ipv6Pins::Refused));
    if let Some(address) = refused {
        return Err(Ipv6Refusal::EndpointWithoutIpv6 { endpoint: endpoint.id.clone(), address }.into());
    }
    let mut left: Vec<Ipv4Addr> = endpoint.addresses().collect();
    let mut ipv6_addresses = endpoint.ipv6_addresses.clone();
    for reference in remove {
        let subnet = subnets::find(state, reference)?;
        left.retain(|address| !subnet.contains((*address).into()));
        ipv6_addresses.retain(|address| !subnet.contains((*address).into()));
    }
    let mut fresh = Vec::new();
    for placement in add {
        if !repinned(state, vpc, (endpoint, &mut left, &mut ipv6_addresses), (placement, pins))? {
            fresh.push(placement.clone());
        }
    }
    let add = fresh.as_slice();
    for Placement { subnet, address: _, ipv6_address: _ } in add {
        let subnet = subnets::find(state, subnet)?;
        let mut present = left.iter().filter_map(|address| state.subnet_of(&endpoint.vpc, *address));
        if present.any(|present| present.zone == subnet.zone) {
            return Err(ControlError::SubnetsInOneZone(subnet.id.clone()));
        }
    }
    match world.endpoint_services.get(&endpoint.service) {
        Some(service) if !add.is_empty() => {
            left.extend(placed(state, service, vpc, add)?);
            if matches!(pins, Ipv6Pins::Replace) {
                ipv6_addresses.extend(ipv6::place(state, vpc, add)?);
            }
        }
        None if !add.is_empty() => {
            return Err(ControlError::InvalidServiceName(endpoint.service_name().to_string()));
        }
        Some(_) | None => {}
    }
    let mut left = left.into_iter();
    let address = left.next().ok_or_else(|| ControlError::LastSubnet(endpoint.id.clone()))?;
    Ok(Endpoint { address, further_addresses: left.collect(), ipv6_addresses, ..endpoint.clone() })
}

/// Says who pays for an endpoint: the service's owner for any endpoint to its service, the endpoint's owner for taking
/// it over.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyEndpointPayer {
    /// The caller's service; none: the caller's own endpoint.
    #[serde(default)]
    pub endpoint_service: Option<Reference>,
    pub endpoint: Reference,
    pub payer: PayerResponsibility,
}
operation!(ModifyEndpointPayer -> ());

impl Mutation for ModifyEndpointPayer {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let Self { endpoint_service, endpoint, payer } = self;
        let found = match endpoint_service {
            Some(reference) => {
                let service = lookup::endpoint_service(state, reference)?;
                connections::connection(state, context.world, service, endpoint)?
            }
            None => {
                let found = lookup::endpoint(state, endpoint)?;
                if *payer == PayerResponsibility::ServiceOwner && found.payer != *payer {
                    return Err(ControlError::PayerNotCaller(found.id.clone()));
                }
                found
            }
        };
        let changed = Endpoint { payer: *payer, ..found.clone() };
        Ok((Change::replace(found, changed), ()))
    }
}

/// Deletes an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteEndpoint {
    pub endpoint: Reference,
}
operation!(DeleteEndpoint -> ());

impl Mutation for DeleteEndpoint {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let id: Option<EndpointId> = self.endpoint.as_str().parse().ok();
        if let Some(id) = id.filter(|id| state.gateway_endpoints.contains_key(id)) {
            return Ok((Change::default().remove(Key::GatewayEndpoint(id)), ()));
        }
        let endpoint = lookup::endpoint(state, &self.endpoint)?;
        if let Some(link) = state.links.values().find(|link| link.has_endpoint(&endpoint.id)) {
            let what = format!("The VPC endpoint '{}'", endpoint.id);
            return Err(ControlError::PartOfLink { what, link: link.name.clone() });
        }
        Ok((Change::default().remove(endpoint.id.clone()), ()))
    }
}

/// Lists the endpoints, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeEndpoints {
    /// None: all.
    #[serde(default)]
    pub endpoints: Option<Vec<Reference>>,
}
operation!(DescribeEndpoints -> Vec<EndpointView>);

impl Query for DescribeEndpoints {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<EndpointView>, ControlError> {
        match &self.endpoints {
            None => Ok(sorted(
                state.endpoints.values().map(|endpoint| EndpointView::new(state, endpoint)).collect(),
                |endpoint| (endpoint.vpc_name.clone(), endpoint.address),
            )),
            Some(references) => references
                .iter()
                .map(|reference| lookup::endpoint(state, reference).map(|found| EndpointView::new(state, found)))
                .collect(),
        }
    }

    fn settle(answer: &mut Vec<EndpointView>, world: &State, installed: &Installed) -> bool {
        settle(answer.iter_mut().map(|view| (&view.id, &mut view.state)), world, installed)
    }
}

/// Says of each endpoint where the datapath stands with it; whether the next pass changes any.
pub fn settle<'a>(
    endpoints: impl Iterator<Item = (&'a EndpointId, &'a mut EndpointStatus)>,
    world: &State,
    installed: &Installed,
) -> bool {
    let mut passing = false;
    for (id, status) in endpoints {
        if let Some(endpoint) = world.endpoints.get(id) {
            *status = EndpointStatus::new(world, installed, endpoint);
            passing |= status.is_passing();
        }
    }
    passing
}
