//! What endpoints put into the tables. Each one's part follows from its record, its VPC, what its service leads to and
//! the rules of its security groups, and from nothing else: while those are as they were, so is the part.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::Ipv4Net;
use privatelink_ebpf::abi::{
    VpcIndex,
    limit::EndpointBudget,
    service::{AddressKind, EndpointIdText, Frontend, Range, RangeKey},
};

use super::{
    Draft, ENDPOINT_HALF_OPEN, World,
    listeners::{Indexed, add_ranges, each_part, echo, opening, parts, ranges},
    vpc_index,
};
use crate::{
    agent::{
        diff::{beside, different},
        index,
        security::{Compiler, Guard},
    },
    dataplane::{AddressAt, FrontendAt},
    model::{
        BitRate, ConnectionRate, Connections, Endpoint, EndpointId, EndpointService, EndpointServiceId, EndpointState,
        Limits, LoadBalancer, LoadBalancerId, SecurityGroupId, State, VpcId,
    },
};

/// A service as its endpoints lead to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Published {
    limits: Limits,
    first_lb: Option<Arc<LoadBalancer>>,
    /// In the order of its load balancers.
    listeners: Vec<(Indexed, Arc<LoadBalancer>)>,
}

/// Every service; what is the same for all of its endpoints is looked up once. One that is as it was `before` is the
/// same.
pub fn published(
    state: &State,
    by_lb: &BTreeMap<LoadBalancerId, Vec<Indexed>>,
    before: &BTreeMap<EndpointServiceId, Arc<Published>>,
) -> BTreeMap<EndpointServiceId, Arc<Published>> {
    let of = |service: &EndpointService| {
        let lbs = || service.load_balancers.iter().filter_map(|id| state.load_balancers.shared().get(id));
        let listeners = |lb: &Arc<LoadBalancer>| {
            let lb = Arc::clone(lb);
            by_lb.get(&lb.id).into_iter().flatten().map(move |one| (one.clone(), Arc::clone(&lb)))
        };
        Published {
            limits: service.limits,
            first_lb: lbs().next().cloned(),
            listeners: lbs().flat_map(listeners).collect(),
        }
    };
    let shared = |service: &EndpointService| {
        let now = of(service);
        before.get(&service.id).filter(|before| ***before == now).cloned().unwrap_or_else(|| Arc::new(now))
    };
    state.endpoint_services.values().map(|service| (service.id.clone(), shared(service))).collect()
}

/// What the parts follow from besides the endpoints' records and the rules of security groups.
#[derive(Debug, Default)]
pub struct Causes {
    /// Each VPC's number, and the range for which ARP is answered.
    vpcs: BTreeMap<VpcId, (VpcIndex, Ipv4Net)>,
    services: BTreeMap<EndpointServiceId, Arc<Published>>,
}

impl Causes {
    pub fn new(state: &State, by_lb: &BTreeMap<LoadBalancerId, Vec<Indexed>>, before: &Self) -> Self {
        let vpcs = state.vpcs.values().filter_map(|vpc| Some((vpc.id.clone(), (vpc_index(vpc)?, vpc.cidr.net()))));
        Self { vpcs: vpcs.collect(), services: published(state, by_lb, &before.services) }
    }

    /// The address by which an endpoint with listeners is known: its first, in the kernel's frontends too. One without
    /// listeners, or that is not available, has none there, and no index: its flows end.
    fn known_by(&self, endpoint: &Endpoint) -> Option<AddressAt> {
        let (vpc, _) = self.vpcs.get(&endpoint.vpc)?;
        self.services.get(&endpoint.service).filter(|service| !service.listeners.is_empty())?;
        (endpoint.state == EndpointState::Available).then(|| AddressAt::new(*vpc, endpoint.address))
    }
}

/// What is not as it was.
#[derive(Debug)]
pub struct Changed {
    vpcs: BTreeSet<VpcId>,
    services: BTreeSet<EndpointServiceId>,
    groups: BTreeSet<SecurityGroupId>,
}

impl Changed {
    /// Between two passes; `groups` are the security groups that say something else.
    pub fn new(before: &Causes, now: &Causes, groups: BTreeSet<SecurityGroupId>) -> Self {
        Self {
            vpcs: different(&now.vpcs, &before.vpcs, PartialEq::eq),
            services: different(&now.services, &before.services, Arc::ptr_eq),
            groups,
        }
    }

    /// Whether an endpoint's part may be another, though its record is the same.
    fn concerns(&self, endpoint: &Endpoint, causes: &Causes) -> bool {
        let Self { vpcs, services, groups } = self;
        let carried = |lb: &LoadBalancer| !groups.is_disjoint(&lb.security_groups.groups);
        let by_group = || {
            let service = causes.services.get(&endpoint.service);
            !groups.is_disjoint(&endpoint.security_groups.groups)
                || service.is_some_and(|service| {
                    service.first_lb.as_deref().is_some_and(carried)
                        || service.listeners.iter().any(|(_, lb)| carried(lb))
                })
        };
        !vpcs.is_empty() && vpcs.contains(&endpoint.vpc)
            || !services.is_empty() && services.contains(&endpoint.service)
            || !groups.is_empty() && by_group()
    }
}

/// What one endpoint puts into the tables. Its frontends' policies have no numbers yet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Part {
    pub addresses: BTreeSet<AddressAt>,
    pub frontends: BTreeMap<FrontendAt, (Frontend, Option<Guard>)>,
    pub ranges: Vec<((RangeKey, u8), Range)>,
    /// Index, limits and id of one that is available and leads somewhere.
    pub numbered: Option<(u16, EndpointBudget, EndpointIdText)>,
}

impl Part {
    fn new(causes: &Causes, endpoint: &Endpoint, number: Option<u16>, compiler: &mut Compiler<'_>) -> Self {
        let mut part = Self::default();
        let Some((vpc, cidr)) = causes.vpcs.get(&endpoint.vpc).copied() else { return part };
        let addresses = answered(endpoint, cidr);
        part.addresses = addresses.iter().map(|address| AddressAt::new(vpc, *address)).collect();
        let Some(service) = causes.services.get(&endpoint.service) else { return part };
        let Published { limits, first_lb, listeners } = &**service;
        for address in &addresses {
            let guard = first_lb.as_ref().and_then(|lb| compiler.at_endpoint(endpoint, lb, echo(*address)));
            if let Some(guard) = guard {
                part.frontends.insert(FrontendAt::echo(vpc, *address), (Frontend::default(), Some(guard)));
            }
        }
        // The address is the endpoint's from the start, traffic flows once the service's owner has agreed.
        let Some(number) = number else { return part };
        part.numbered = Some((number, budget(endpoint.limits(*limits)), id_text(&endpoint.id)));
        for ((listener, proto, index), lb) in listeners {
            let (proto, index) = (*proto, *index);
            let parts = parts(compiler, listener, proto, [&endpoint.security_groups, &lb.security_groups]);
            for (address, ports) in each_part(addresses.iter().copied(), &parts) {
                let key = FrontendAt::new(vpc, address, ports.first(), proto);
                // Of two load balancers with a listener on one port the first serves it.
                part.frontends.entry(key).or_insert_with(|| {
                    part.ranges.extend(ranges(key, ports));
                    let guard = compiler.at_endpoint(endpoint, lb, opening(proto, ports.first()));
                    (Frontend { listener: index, endpoint: number, ..Frontend::default() }, guard)
                });
            }
        }
        part
    }

    /// Whether a rule of it ends open flows.
    fn ends_flows(&self) -> bool {
        self.frontends.values().any(|(_, guard)| guard.as_ref().is_some_and(|guard| guard.established))
    }

    /// Puts it into the tables; false if something else is there in its place.
    fn add_to(&self, draft: &mut Draft) -> bool {
        let Self { addresses, frontends, ranges, numbered } = self;
        let Draft { desired, plan, guards } = draft;
        let mut alone = true;
        for address in addresses {
            alone &= desired.addresses.insert(*address, AddressKind::Endpoint.into()).is_none();
        }
        for (key, (frontend, guard)) in frontends {
            desired.frontends.insert(*key, *frontend);
            guards.extend(guard.clone().map(|guard| (*key, guard)));
        }
        add_ranges(ranges.iter().copied(), desired, plan);
        if let Some((number, budget, id)) = numbered {
            desired.endpoints.insert(*number, *budget);
            desired.endpoint_ids.insert(*number, *id);
        }
        alone
    }
}

/// A part, and the record that it was made of.
#[derive(Debug)]
struct Made {
    of: Arc<Endpoint>,
    part: Part,
    ends_flows: bool,
}

/// The parts of all endpoints.
#[derive(Debug, Default)]
pub struct Parts {
    made: BTreeMap<EndpointId, Made>,
    /// As in the plan.
    numbers: Arc<BTreeMap<EndpointId, u16>>,
    /// An address has two owners.
    contested: bool,
}

impl Parts {
    /// Makes the parts anew that may be others, and adds those to the draft. Those that are not there any more are
    /// returned.
    pub fn renew(
        &mut self,
        world: &World<'_>,
        causes: &Causes,
        changed: &Changed,
        compiler: &mut Compiler<'_>,
        draft: &mut Draft,
    ) -> Vec<Part> {
        let now = world.state.endpoints.shared();
        let stale = beside(now, &self.made).filter_map(|(id, now, made)| match (now, made) {
            (Some(now), Some(made)) if Arc::ptr_eq(now, &made.of) && !changed.concerns(now, causes) => None,
            (now, _) => Some((id.clone(), now.cloned())),
        });
        let stale: Vec<(EndpointId, Option<Arc<Endpoint>>)> = stale.collect();
        let gone = stale.iter().filter_map(|(id, _)| Some(self.made.remove(id)?.part)).collect();
        let wanted: BTreeSet<AddressAt> =
            stale.iter().filter_map(|(_, endpoint)| causes.known_by(endpoint.as_deref()?)).collect();
        let numbers = numbers(world, &wanted);
        if numbers.len() < wanted.len() {
            draft.plan.full.insert("ENDPOINTS");
        }
        for (id, endpoint) in stale {
            let known_by = endpoint.as_deref().and_then(|endpoint| causes.known_by(endpoint));
            let number = known_by.and_then(|at| numbers.get(&at).copied());
            if self.numbers.get(&id) != number.as_ref() {
                let all = Arc::make_mut(&mut self.numbers);
                match number {
                    Some(number) => drop(all.insert(id.clone(), number)),
                    None => drop(all.remove(&id)),
                }
            }
            if let Some(of) = endpoint {
                let part = Part::new(causes, &of, number, compiler);
                self.contested |= !part.add_to(draft);
                let ends_flows = part.ends_flows();
                self.made.insert(id, Made { of, part, ends_flows });
            }
        }
        draft.plan.endpoints = Arc::clone(&self.numbers);
        gone
    }

    /// Whether an address has two owners, so that it cannot be taken away with one of them.
    pub fn contested(&self) -> bool {
        self.contested
    }

    /// Whether a rule of any of them ends open flows.
    pub fn ends_flows(&self) -> bool {
        self.made.values().any(|made| made.ends_flows)
    }
}

/// An index for each endpoint of `wanted`: the one that the kernel has for it, else one that nothing stands for.
fn numbers(world: &World<'_>, wanted: &BTreeSet<AddressAt>) -> BTreeMap<AddressAt, u16> {
    let World { actual, busy, capacity, .. } = world;
    let usable = |number: &u16| *number != 0 && u32::from(*number) < capacity.endpoints;
    let number = |at: &AddressAt| {
        let of = |port, proto| FrontendAt { vpc: at.vpc, ip: at.ip, port, proto };
        let there = actual.frontends.range(of(0, 0)..=of(u16::MAX, u8::MAX));
        there.map(|(_, frontend)| frontend.endpoint).find(usable)
    };
    let held: BTreeMap<AddressAt, u16> = wanted.iter().filter_map(|at| Some((*at, number(at)?))).collect();
    let live = |number: &u16| actual.endpoints.get(number).is_some_and(|budget| !budget.ended());
    let taken = |number: &u16| busy.endpoints.contains(number) || live(number);
    let last = u16::try_from(capacity.endpoints.saturating_sub(1)).unwrap_or(u16::MAX);
    // What was never used comes first: the flows of an endpoint that has just gone end within a pass of the collector.
    let fresh = (1..=last).filter(|number| !actual.endpoints.contains_key(number));
    index::assign(wanted, &held, taken, fresh.chain(actual.endpoints.keys().copied().filter(usable)))
}

/// An endpoint's limits as the kernel has them.
fn budget(limits: Limits) -> EndpointBudget {
    let Limits { connections, connections_per_second, bits_per_second } = limits;
    EndpointBudget {
        half_open: ENDPOINT_HALF_OPEN,
        connections: connections.get().map_or(0, Connections::get),
        connections_per_second: connections_per_second.get().map_or(0, ConnectionRate::get),
        _pad: 0,
        bits_per_second: bits_per_second.get().map_or(0, BitRate::get),
    }
}

/// The addresses of an endpoint for which ARP and neighbour discovery are answered: its own, and those aliases that are
/// addresses of its VPC.
fn answered(endpoint: &Endpoint, cidr: Ipv4Net) -> Vec<IpAddr> {
    endpoint.all_addresses().chain(endpoint.inner_aliases(cidr).map(IpAddr::V4)).collect()
}

/// An endpoint's id for the kernel.
fn id_text(id: &EndpointId) -> EndpointIdText {
    let mut text = EndpointIdText::default();
    for (to, from) in text.0.iter_mut().zip(id.as_str().bytes()) {
        *to = from;
    }
    text
}
