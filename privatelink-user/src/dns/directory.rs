//! What a name leads to. Pure.
//!
//! An endpoint's names exist as long as the endpoint: its addresses are its own for that time, its state decides on
//! traffic only. A name of several zones has the addresses of those that are healthy, or of all if none is; a name of
//! one zone has that zone's, whatever its health.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use super::zones::{self, Healthy, Zones};
use crate::model::{
    ClientRouting, Endpoint, EndpointId, EndpointNames, EndpointState, LoadBalancer, LoadBalancerId, Region, State,
    VpcId, ZonedAddress,
};

/// Seconds for which an answer of ours may be kept.
pub const TTL: u32 = 60;

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The name has these addresses, and no other records.
    Addresses { zone: String, addresses: Vec<IpAddr> },
    /// The name is a load balancer's, whose nodes in healthy zones these are; whoever asks gets what the policy says
    /// ([`zones::routed`]).
    Nodes { zone: String, nodes: Vec<ZonedAddress>, routing: ClientRouting },
    /// The name exists, and has no records, unless it is the zone itself, which has an SOA record.
    Empty { zone: String },
    /// The name is below ours and does not exist.
    Missing { zone: String },
    /// The name is not ours.
    Elsewhere,
}

/// The names that follow from one state and the health of its targets; made anew when one of them changes.
#[derive(Debug)]
pub struct Directory {
    state: Arc<State>,
    healthy: Arc<Healthy>,
    /// Each load balancer's.
    zones: BTreeMap<LoadBalancerId, Zones>,
    load_balancers: BTreeMap<String, LoadBalancerId>,
    /// What is above endpoints' names: services and regions.
    above: BTreeSet<String>,
    /// By VPC: the private names, and the endpoint that answers for each.
    private: BTreeMap<VpcId, BTreeMap<String, EndpointId>>,
}

impl Directory {
    pub fn new(state: Arc<State>, healthy: Arc<Healthy>) -> Self {
        let domain = &state.service_domain;
        let load_balancers = state.load_balancers.keys().map(|id| (domain.load_balancer(id), id.clone())).collect();
        let services = state.endpoint_services.values().map(|service| (&service.owner.region, &service.id));
        let bases: BTreeSet<_> =
            services.chain(state.endpoints.values().map(|at| (at.service_region(), &at.service))).collect();
        let regions: BTreeSet<&Region> = bases.iter().map(|(region, _)| *region).collect();
        let above = bases
            .iter()
            .map(|(region, service)| domain.endpoint_service(region, service))
            .chain(regions.iter().map(|region| format!("{region}.{}", domain.endpoints())))
            .collect();
        let mut private: BTreeMap<VpcId, BTreeMap<String, EndpointId>> = BTreeMap::new();
        for endpoint in state.endpoints.values().filter(|endpoint| endpoint.state == EndpointState::Available) {
            if let Some(name) = &endpoint.private_dns {
                private.entry(endpoint.vpc.clone()).or_default().insert(name.to_string(), endpoint.id.clone());
            }
        }
        let zones = zones::zones(&state, &healthy);
        Self { load_balancers, above, private, zones, healthy, state }
    }

    /// Whether the names follow from these.
    pub fn is_of(&self, state: &Arc<State>, healthy: &Arc<Healthy>) -> bool {
        Arc::ptr_eq(&self.state, state) && Arc::ptr_eq(&self.healthy, healthy)
    }

    /// The addresses that an endpoint's `names` have that are of no zone in particular. A zone is as healthy as the
    /// service's load balancers in it; where none of them is, another zone's serves.
    fn served(&self, endpoint: &Endpoint, names: EndpointNames) -> Vec<IpAddr> {
        let service = self.state.endpoint_services.get(&endpoint.service);
        let zones =
            || service.into_iter().flat_map(|service| &service.load_balancers).filter_map(|id| self.zones.get(id));
        let is_healthy = |zone: &str| {
            let mut there = zones().filter_map(|zones| zones.get(zone)).peekable();
            there.peek().is_none() || there.any(|healthy| *healthy)
        };
        let served = zones::served(self.state.endpoint_records(endpoint, names), is_healthy);
        served.into_iter().map(|zoned| zoned.address).collect()
    }

    /// What `name` leads to, asked for in `vpc` or outside every VPC; in lower case, without a dot at the end. A VPC's
    /// private names come first; they are authoritative for exactly what they name.
    pub fn find(&self, name: &str, vpc: Option<&VpcId>) -> Found {
        if let Some(found) = vpc.and_then(|vpc| self.private_name(name, self.private.get(vpc)?)) {
            return found;
        }
        let domain = &self.state.service_domain;
        let endpoints = domain.endpoints();
        if is_or_below(name, &endpoints) {
            return self.endpoint(name, endpoints);
        }
        match load_balancer_zone(name, domain.as_str()) {
            Some(region) => self.load_balancer(name, domain.load_balancers(region)),
            None => Found::Elsewhere,
        }
    }

    fn private_name(&self, name: &str, private: &BTreeMap<String, EndpointId>) -> Option<Found> {
        let mut parents = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
        let (zone, id) = match private.get(name) {
            Some(id) => (name, id),
            // The nearest wildcard above.
            None => parents.find_map(|parent| Some((parent, private.get(&format!("*.{parent}"))?)))?,
        };
        let endpoint = self.state.endpoints.get(id)?;
        Some(Found::Addresses { zone: zone.to_owned(), addresses: self.served(endpoint, EndpointNames::Private) })
    }

    fn endpoint(&self, name: &str, zone: String) -> Found {
        if name == zone || self.above.contains(name) {
            return Found::Empty { zone };
        }
        let state = &self.state;
        // The id at the name's beginning says which endpoint it can be of.
        let id = name.get(..EndpointId::LEN).and_then(|id| id.parse::<EndpointId>().ok());
        let Some(endpoint) = id.and_then(|id| state.endpoints.get(&id)) else { return Found::Missing { zone } };
        let in_zone = |zoned: &ZonedAddress| state.service_domain.endpoint_in_zone(endpoint, &zoned.zone) == name;
        let regional = state.service_domain.endpoint(endpoint) == name;
        if !regional && !state.endpoint_zones(endpoint).iter().any(in_zone) {
            return Found::Missing { zone };
        }
        let addresses: Vec<IpAddr> = match regional {
            true => self.served(endpoint, EndpointNames::Own),
            false => {
                let records = state.endpoint_records(endpoint, EndpointNames::Own).into_iter();
                records.filter(in_zone).map(|zoned| zoned.address).collect()
            }
        };
        if addresses.is_empty() { Found::Empty { zone } } else { Found::Addresses { zone, addresses } }
    }

    fn load_balancer(&self, name: &str, zone: String) -> Found {
        if name == zone {
            return Found::Empty { zone };
        }
        let named = |name: &str| self.state.load_balancers.get(self.load_balancers.get(name)?);
        if let Some(lb) = named(name) {
            return self.nodes(lb, zone);
        }
        let zonal = name.split_once('.').and_then(|(at, rest)| Some((at, named(rest)?)));
        let Some((at, lb)) = zonal else { return Found::Missing { zone } };
        let zones = self.state.load_balancer_zones(lb).into_iter();
        let addresses: Vec<IpAddr> = zones.filter(|zoned| zoned.zone == at).map(|zoned| zoned.address).collect();
        if addresses.is_empty() { Found::Missing { zone } } else { Found::Addresses { zone, addresses } }
    }

    /// What the name of all zones of a load balancer leads to.
    fn nodes(&self, lb: &LoadBalancer, zone: String) -> Found {
        let is_healthy = |zone: &str| self.zones.get(&lb.id).and_then(|zones| zones.get(zone)) == Some(&true);
        let nodes = zones::served(self.state.load_balancer_zones(lb), is_healthy);
        if nodes.is_empty() {
            return Found::Missing { zone };
        }
        // Where no zone is healthy, none is better than another.
        let healthy = nodes.iter().any(|node| is_healthy(&node.zone));
        match lb.attributes.client_routing {
            routing @ (ClientRouting::AvailabilityZoneAffinity | ClientRouting::PartialAvailabilityZoneAffinity)
                if healthy =>
            {
                Found::Nodes { zone, nodes, routing }
            }
            ClientRouting::AnyAvailabilityZone
            | ClientRouting::AvailabilityZoneAffinity
            | ClientRouting::PartialAvailabilityZoneAffinity => {
                Found::Addresses { zone, addresses: nodes.into_iter().map(|node| node.address).collect() }
            }
        }
    }

    /// The availability zone in which a host of `vpc` is; none if its address is in no subnet.
    pub fn zone_of(&self, vpc: &VpcId, address: IpAddr) -> Option<String> {
        let region = &self.state.vpcs.get(vpc)?.owner.region;
        Some(self.state.subnet_of(vpc, address)?.zone.name(region))
    }
}

fn is_or_below(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The region of `name` if it is, or is below, `elb.<region>.<domain>`.
fn load_balancer_zone<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let mut labels = name.strip_suffix(domain)?.strip_suffix('.')?.rsplit('.');
    let region = labels.next()?;
    (labels.next()? == "elb" && region.parse::<Region>().is_ok()).then_some(region)
}

/// `addresses` in the order of their turn: each is the first as often as the others.
pub fn in_turn<T>(mut addresses: Vec<T>, turn: usize) -> Vec<T> {
    let places = turn.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(places);
    addresses
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        control::tests::World,
        model::{DnsRecordIpType, Owner, Record, Subnet, Target, TargetAddress, TargetGroupId, Zone},
    };

    const BASE: &str = "vpce-svc-0123456789abcdef1.us-east-1.vpce.amazonaws.com";

    fn address(last: u8) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::new(10, 0, 0, last)
    }

    fn endpoint() -> Endpoint {
        Endpoint {
            id: "vpce-0123456789abcdef0".parse().expect("an id"),
            owner: Owner::example(),
            service: "vpce-svc-0123456789abcdef1".parse().expect("an id"),
            vpc: "vpc-0123456789abcdef2".parse().expect("an id"),
            address: address(50),
            state: EndpointState::PendingAcceptance,
            security_groups: Default::default(),
            private_dns: None,
            limits: Default::default(),
            payer: Default::default(),
            private_dns_on_acceptance: false,
            dns_record_ip_type: None,
            service_region: None,
            aliases: Default::default(),
            policy: None,
            further_addresses: Vec::new(),
            ipv6_addresses: Vec::new(),
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn directory() -> Directory {
        let mut state = State::default();
        state.put(Record::Endpoint(endpoint()));
        let id = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/Web/0123456789abcdef";
        state.put(Record::LoadBalancer(LoadBalancer {
            id: id.parse().expect("an ARN"),
            name: "Web".parse().expect("a name"),
            vpc: "vpc-0123456789abcdef3".parse().expect("an id"),
            addresses: vec![address(5), address(6)],
            ipv6_addresses: Vec::new(),
            secondary_addresses: Vec::new(),
            attributes: Default::default(),
            security_groups: Default::default(),
            enforce_on_private_link: true,
            scheme: Default::default(),
            created_at: Timestamp::UNIX_EPOCH,
        }));
        Directory::new(Arc::new(state), Arc::default())
    }

    #[test]
    fn every_name_of_an_endpoint_leads_to_it_before_it_is_accepted() {
        let directory = directory();
        let names = directory.state.endpoint_names(&endpoint());
        assert_eq!(names.len(), 2);
        for name in names {
            let zone = "vpce.amazonaws.com".to_owned();
            assert_eq!(
                directory.find(&name, None),
                Found::Addresses { zone, addresses: vec![address(50).into()] },
                "{name}"
            );
        }
    }

    #[test]
    fn what_is_above_a_name_exists_and_has_no_records() {
        for name in ["vpce.amazonaws.com", "us-east-1.vpce.amazonaws.com", BASE, "elb.us-east-1.amazonaws.com"] {
            assert!(matches!(directory().find(name, None), Found::Empty { .. }), "{name}");
        }
    }

    #[test]
    fn names_below_ours_that_do_not_exist_are_missing() {
        let regional = directory().state.service_domain.endpoint(&endpoint());
        let guessed = format!("vpce-0123456789abcdef0-aaaaaaaa.{BASE}");
        let other_service = regional.replace("vpce-svc-0123456789abcdef1", "vpce-svc-0123456789abcdef9");
        for name in [
            "eu-west-1.vpce.amazonaws.com",
            "x.vpce.amazonaws.com",
            &format!("x.{BASE}"),
            &format!("x.{regional}"),
            &guessed,
            &other_service,
            &regional.replacen('.', "-us-east-1b.", 1),
            "x.elb.us-east-1.amazonaws.com",
            "us-east-1b.web-0123456789abcdef.elb.us-east-1.amazonaws.com",
            "x.us-east-1a.web-0123456789abcdef.elb.us-east-1.amazonaws.com",
            "ä.vpce.amazonaws.com",
        ] {
            assert!(matches!(directory().find(name, None), Found::Missing { .. }), "{name}");
        }
    }

    #[test]
    fn names_that_are_not_ours_are_elsewhere() {
        for name in ["", "com", "amazonaws.com", "xvpce.amazonaws.com", "us-east-1.amazonaws.com", "elb.amazonaws.com"]
        {
            assert_eq!(directory().find(name, None), Found::Elsewhere, "{name}");
        }
    }

    #[test]
    fn a_load_balancer_s_names_lead_to_its_node_addresses() {
        let zone = "elb.us-east-1.amazonaws.com".to_owned();
        let expected = Found::Addresses { zone, addresses: vec![address(5).into(), address(6).into()] };
        let name = "web-0123456789abcdef.elb.us-east-1.amazonaws.com";
        assert_eq!(directory().find(name, None), expected);
        assert_eq!(directory().find(&format!("us-east-1a.{name}"), None), expected);
    }

    /// A load balancer and an endpoint in two zones, with a target in each.
    struct Zoned {
        state: State,
        lb: LoadBalancerId,
        group: TargetGroupId,
        endpoint: Endpoint,
    }

    fn at(number: u8) -> TargetAddress {
        TargetAddress { ip: std::net::Ipv4Addr::new(10, 0, number, 77).into(), port: 80 }
    }

    fn zoned() -> Zoned {
        let mut state = World::published().state;
        let lb = state.load_balancers.values_mut().next().expect("a load balancer");
        lb.addresses = vec![std::net::Ipv4Addr::new(10, 0, 101, 5), std::net::Ipv4Addr::new(10, 0, 102, 5)];
        let (lb, vpc) = (lb.id.clone(), lb.vpc.clone());
        let endpoint = state.endpoints.values_mut().next().expect("an endpoint");
        endpoint.address = std::net::Ipv4Addr::new(10, 0, 101, 50);
        endpoint.further_addresses = vec![std::net::Ipv4Addr::new(10, 0, 102, 50)];
        endpoint.private_dns = Some("api.example.com".parse().expect("a private DNS name"));
        endpoint.state = EndpointState::Available;
        let endpoint = endpoint.clone();
        let group = state.target_groups.values_mut().next().expect("a group");
        let target = |address| Target {
            address,
            instance: None,
            dns_name: None,
            registered_at: Timestamp::UNIX_EPOCH,
            draining_since: None,
        };
        group.targets = [101, 102].map(at).map(|address| (address, target(address))).into();
        let group = group.id.clone();
        for (vpc, digit) in [(&vpc, 'a'), (&endpoint.vpc, 'b')] {
            for (number, zone) in [(101, Zone::A), (102, Zone::B)] {
                state.put(Record::Subnet(Subnet {
                    id: format!("subnet-{digit}{number:016x}").parse().expect("an id"),
                    vpc: vpc.clone(),
                    cidr: format!("10.0.{number}.0/24").parse().expect("a range"),
                    ipv6_cidr: None,
                    zone,
                    is_default: false,
                    public_ip_on_launch: false,
                    created_at: Timestamp::UNIX_EPOCH,
                }));
            }
        }
        Zoned { state, lb, group, endpoint }
    }

    /// Names of several zones lead to those whose targets are healthy, and to all if none is.
    #[test]
    fn names_lead_to_healthy_zones() {
        let Zoned { state, lb, group, endpoint } = zoned();
        let domain = state.service_domain.clone();
        let state = Arc::new(state);
        let (regional, of_lb) = (domain.endpoint(&endpoint), domain.load_balancer(&lb));
        let answers = |healthy: &[u8], name: &str| {
            let healthy = healthy.iter().map(|number| (group.clone(), at(*number))).collect();
            match Directory::new(Arc::clone(&state), Arc::new(healthy)).find(name, Some(&endpoint.vpc)) {
                Found::Addresses { addresses, .. } => addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
                found @ (Found::Nodes { .. } | Found::Empty { .. } | Found::Missing { .. } | Found::Elsewhere) => {
                    panic!("{name}: {found:?}")
                }
            }
        };
        for (name, host) in [(regional.as_str(), 50), ("api.example.com", 50), (of_lb.as_str(), 5)] {
            let [a, b] = [101, 102].map(|zone| format!("10.0.{zone}.{host}"));
            assert_eq!(answers(&[101, 102], name), [a.clone(), b.clone()], "{name}");
            assert_eq!(answers(&[102], name), [b.as_str()], "{name}");
            assert_eq!(answers(&[101], name), [a.as_str()], "{name}");
            assert_eq!(answers(&[], name), [a, b], "{name}: no zone is healthy");
        }
        // A zone's own name has its address in any case.
        assert_eq!(answers(&[102], &domain.endpoint_in_zone(&endpoint, "us-east-1a")), ["10.0.101.50"]);
        assert_eq!(answers(&[102], &format!("us-east-1a.{of_lb}")), ["10.0.101.5"]);
    }

    /// A routing policy is followed among the healthy zones of the name that has all of them.
    #[test]
    fn a_policy_is_about_the_name_of_all_healthy_zones() {
        let Zoned { mut state, lb, group, endpoint } = zoned();
        let routing = ClientRouting::AvailabilityZoneAffinity;
        state.load_balancers.get_mut(&lb).expect("it").attributes.client_routing = routing;
        let (domain, state) = (state.service_domain.clone(), Arc::new(state));
        let (name, zone) = (domain.load_balancer(&lb), "elb.us-east-1.amazonaws.com".to_owned());
        let directory = |healthy: &[u8]| {
            let healthy = healthy.iter().map(|number| (group.clone(), at(*number))).collect();
            Directory::new(Arc::clone(&state), Arc::new(healthy))
        };
        let node = |zone: &str, number: u8| ZonedAddress {
            zone: zone.to_owned(),
            address: std::net::Ipv4Addr::new(10, 0, number, 5).into(),
        };
        let (a, b) = (node("us-east-1a", 101), node("us-east-1b", 102));
        let nodes = |nodes: &[&ZonedAddress]| Found::Nodes {
            zone: zone.clone(),
            nodes: nodes.iter().map(|node| (*node).clone()).collect(),
            routing,
        };
        let vpc = Some(&endpoint.vpc);
        assert_eq!(directory(&[101, 102]).find(&name, vpc), nodes(&[&a, &b]));
        assert_eq!(directory(&[102]).find(&name, vpc), nodes(&[&b]));
        let all = Found::Addresses { zone: zone.clone(), addresses: vec![a.address, b.address] };
        assert_eq!(directory(&[]).find(&name, vpc), all, "no zone is healthy");
        let one = Found::Addresses { zone, addresses: vec![a.address] };
        assert_eq!(directory(&[102]).find(&format!("us-east-1a.{name}"), vpc), one);
        let of_endpoint = directory(&[101, 102]).find(&domain.endpoint(&endpoint), vpc);
        assert!(matches!(of_endpoint, Found::Addresses { .. }), "{of_endpoint:?}");

        let zone_of =
            |third: u8| directory(&[]).zone_of(&endpoint.vpc, std::net::Ipv4Addr::new(10, 0, third, 200).into());
        assert_eq!((zone_of(101).as_deref(), zone_of(102).as_deref()), (Some("us-east-1a"), Some("us-east-1b")));
        assert_eq!(zone_of(103), None, "in no subnet");
    }

    #[test]
    fn names_have_the_records_that_are_chosen() {
        let (four, six): (IpAddr, IpAddr) = (address(50).into(), "fd00:10::50".parse().expect("an address"));
        for (records, own, private) in [
            (None, vec![four, six], vec![four, six]),
            (Some(DnsRecordIpType::Dualstack), vec![four, six], vec![four, six]),
            (Some(DnsRecordIpType::Ipv4), vec![four], vec![four]),
            (Some(DnsRecordIpType::Ipv6), vec![six], vec![six]),
            (Some(DnsRecordIpType::ServiceDefined), vec![four, six], vec![four]),
        ] {
            let mut state = State::default();
            state.put(Record::Endpoint(Endpoint {
                state: EndpointState::Available,
                private_dns: Some("api.example.com".parse().expect("a private DNS name")),
                ipv6_addresses: vec!["fd00:10::50".parse().expect("an address")],
                dns_record_ip_type: records,
                ..endpoint()
            }));
            let names = state.endpoint_names(&endpoint());
            let directory = Directory::new(Arc::new(state), Arc::default());
            let find = |name: &str| match directory.find(name, Some(&endpoint().vpc)) {
                Found::Addresses { addresses, .. } => addresses,
                found @ (Found::Nodes { .. } | Found::Empty { .. } | Found::Missing { .. } | Found::Elsewhere) => {
                    panic!("{name}: {found:?}")
                }
            };
            for name in names {
                assert_eq!(find(&name), own, "{records:?}: {name}");
            }
            assert_eq!(find("api.example.com"), private, "{records:?}");
        }
    }

    /// A zone in which an endpoint has no address of the family that its names answer with.
    #[test]
    fn a_zone_s_name_without_records_exists() {
        let mut state = World::published().state;
        let endpoint = state.endpoints.values_mut().next().expect("an endpoint");
        endpoint.address = std::net::Ipv4Addr::new(10, 0, 101, 50);
        endpoint.further_addresses = vec![std::net::Ipv4Addr::new(10, 0, 102, 50)];
        endpoint.ipv6_addresses = vec!["fd00:10::50".parse().expect("an address")];
        endpoint.dns_record_ip_type = Some(DnsRecordIpType::Ipv6);
        let endpoint = endpoint.clone();
        for (number, zone) in [(101, Zone::A), (102, Zone::B)] {
            state.put(Record::Subnet(Subnet {
                id: format!("subnet-{number:017x}").parse().expect("an id"),
                vpc: endpoint.vpc.clone(),
                cidr: format!("10.0.{number}.0/24").parse().expect("a range"),
                ipv6_cidr: (zone == Zone::A).then(|| "fd00:10::/64".parse().expect("a range")),
                zone,
                is_default: false,
                public_ip_on_launch: false,
                created_at: Timestamp::UNIX_EPOCH,
            }));
        }
        let zonal = ["us-east-1a", "us-east-1b", "us-east-1c"];
        let zonal = zonal.map(|zone| state.service_domain.endpoint_in_zone(&endpoint, zone));
        let directory = Directory::new(Arc::new(state), Arc::default());
        let [a, b, c] = zonal.map(|name| directory.find(&name, None));
        assert!(matches!(a, Found::Addresses { .. }), "{a:?}");
        assert!(matches!(b, Found::Empty { .. }), "{b:?}");
        assert!(matches!(c, Found::Missing { .. }), "{c:?}");
    }

    #[test]
    fn a_private_name_leads_to_the_vpc_s_own_endpoint_and_nobody_else_s() {
        let vpc = |number: usize| -> VpcId { format!("vpc-{number:017x}").parse().expect("an id") };
        let mut state = State::default();
        for (number, name, endpoint_state) in [
            (1, "api.example.com", EndpointState::Available),
            (2, "api.example.com", EndpointState::Available),
            (3, "*.example.com", EndpointState::Available),
            (4, "api.example.com", EndpointState::Rejected),
        ] {
            state.put(Record::Endpoint(Endpoint {
                id: format!("vpce-{number:017x}").parse().expect("an id"),
                vpc: vpc(number),
                address: address(u8::try_from(number).expect("a small number")),
                private_dns: Some(name.parse().expect("a private DNS name")),
                state: endpoint_state,
                ..endpoint()
            }));
        }
        let directory = Directory::new(Arc::new(state), Arc::default());
        let find = |name: &str, number: usize| match directory.find(name, Some(&vpc(number))) {
            Found::Addresses { addresses, .. } => Some(addresses),
            Found::Elsewhere => None,
            found @ (Found::Nodes { .. } | Found::Empty { .. } | Found::Missing { .. }) => panic!("{found:?}"),
        };
        assert_eq!(find("api.example.com", 1), Some(vec![address(1).into()]));
        assert_eq!(find("api.example.com", 2), Some(vec![address(2).into()]));
        assert_eq!(find("x.api.example.com", 1), None);
        assert_eq!(find("api.example.com", 3), Some(vec![address(3).into()]));
        assert_eq!(find("a.b.example.com", 3), Some(vec![address(3).into()]));
        assert_eq!(find("example.com", 3), None);
        assert_eq!(find("api.example.com", 4), None);
        assert_eq!(find("api.example.com", 5), None);
        assert_eq!(directory.find("api.example.com", None), Found::Elsewhere);
    }

    proptest! {
        #[test]
        fn any_name_has_an_answer_and_only_ours_is_ours(
            labels in prop::collection::vec("[ -~é]{0,30}", 0..6),
            zone in prop::sample::select(vec!["", ".vpce.amazonaws.com", ".us-east-1.vpce.amazonaws.com", ".elb.us-east-1.amazonaws.com"]),
        ) {
            let name = format!("{}{zone}", labels.join("."));
            match directory().find(&name, None) {
                Found::Elsewhere => prop_assert!(zone.is_empty(), "{name}"),
                Found::Addresses { .. } | Found::Nodes { .. } | Found::Empty { .. } | Found::Missing { .. } => {
                    prop_assert!(name.ends_with("vpce.amazonaws.com") || name.ends_with("elb.us-east-1.amazonaws.com"), "{name}");
                }
            }
        }
    }

    #[test]
    fn each_address_has_its_turn_as_the_first() {
        let addresses = vec![address(1), address(2), address(3)];
        let firsts: Vec<std::net::Ipv4Addr> =
            (usize::MAX - 2..=usize::MAX).map(|turn| in_turn(addresses.clone(), turn)[0]).collect();
        assert_eq!(firsts.iter().collect::<BTreeSet<_>>().len(), 3);
        assert!(in_turn(Vec::<std::net::Ipv4Addr>::new(), 7).is_empty());
    }
}
