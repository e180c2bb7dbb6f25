//! Which zones of a load balancer are healthy, so that names lead there. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use crate::model::{
    ClientRouting, CrossZone, IpFamily, LoadBalancer, LoadBalancerId, State, Subnet, TargetAddress, TargetGroup,
    TargetGroupId, VpcId, ZonedAddress,
};

/// Registered targets that take new flows by their own checks.
pub type Healthy = BTreeSet<(TargetGroupId, TargetAddress)>;

/// The zones in which a load balancer has nodes, by name, and whether each is healthy.
pub type Zones = BTreeMap<String, bool>;

/// A group's targets that can serve.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    registered: usize,
    healthy: usize,
}

impl Count {
    fn plus(self, other: Self) -> Self {
        Self { registered: self.registered + other.registered, healthy: self.healthy + other.healthy }
    }
}

/// A group's targets by zone; those in no subnet can serve all zones.
#[derive(Debug, Default)]
struct Counted {
    anywhere: Count,
    by_zone: BTreeMap<String, Count>,
}

impl Counted {
    fn new(state: &State, subnets: &BTreeMap<&VpcId, Vec<&Subnet>>, group: &TargetGroup, healthy: &Healthy) -> Self {
        let mut counted = Self::default();
        let Some(region) = group.id.region() else { return counted };
        let serves = |target: &&crate::model::Target| target.draining_since.is_none() && !state.is_stopped(target);
        for target in group.targets.values().filter(serves) {
            let mut around = subnets.get(&group.vpc).into_iter().flatten();
            let count = match around.find(|subnet| subnet.contains(target.address.ip)) {
                Some(subnet) => counted.by_zone.entry(subnet.zone.name(&region)).or_default(),
                None => &mut counted.anywhere,
            };
            count.registered += 1;
            count.healthy += usize::from(healthy.contains(&(group.id.clone(), target.address)));
        }
        counted
    }

    fn in_zone(&self, zone: &str) -> Count {
        self.anywhere.plus(self.by_zone.get(zone).copied().unwrap_or_default())
    }

    fn in_all(&self) -> Count {
        self.by_zone.values().copied().fold(self.anywhere, Count::plus)
    }
}

/// The zones of every load balancer. One is healthy if each group that a listener leads to has enough healthy targets
/// for its `target_group_health.dns_failover` attributes: in that zone, or in all zones together if it balances across
/// them. A zone without targets is not.
pub fn zones(state: &State, healthy: &Healthy) -> BTreeMap<LoadBalancerId, Zones> {
    let mut subnets: BTreeMap<&VpcId, Vec<&Subnet>> = BTreeMap::new();
    for subnet in state.subnets.values() {
        subnets.entry(&subnet.vpc).or_default().push(subnet);
    }
    let mut led_to: BTreeMap<&LoadBalancerId, BTreeSet<&TargetGroupId>> = BTreeMap::new();
    for listener in state.listeners.values() {
        led_to.entry(&listener.load_balancer).or_default().extend(listener.forward.live().map(|(id, _)| id));
    }
    let mut counted: BTreeMap<&TargetGroupId, (&TargetGroup, Counted)> = BTreeMap::new();
    for group in led_to.values().flatten().filter_map(|id| state.target_groups.get(id)) {
        counted.entry(&group.id).or_insert_with(|| (group, Counted::new(state, &subnets, group, healthy)));
    }
    let of = |lb: &LoadBalancer| {
        let groups: Vec<_> = led_to.get(&lb.id).into_iter().flatten().filter_map(|id| counted.get(id)).collect();
        let is_healthy = |zone: &str| {
            !groups.is_empty() && groups.iter().all(|(group, counted)| is_enough(lb, group, counted, zone))
        };
        let zones = state.load_balancer_zones(lb).into_iter().map(|ZonedAddress { zone, address: _ }| zone);
        let zones: BTreeSet<String> = zones.collect();
        (lb.id.clone(), zones.into_iter().map(|zone| (is_healthy(&zone), zone)).map(|(ok, zone)| (zone, ok)).collect())
    };
    state.load_balancers.values().map(of).collect()
}

fn is_enough(lb: &LoadBalancer, group: &TargetGroup, counted: &Counted, zone: &str) -> bool {
    let across = match group.attributes.cross_zone {
        CrossZone::UseLoadBalancerConfiguration => lb.attributes.cross_zone,
        CrossZone::Enabled => true,
        CrossZone::Disabled => false,
    };
    let Count { registered, healthy } = if across { counted.in_all() } else { counted.in_zone(zone) };
    registered > 0 && !group.attributes.dns_failover.missed(healthy, registered)
}

/// The addresses whose zones are healthy; all of them if none is.
pub fn served(addresses: Vec<ZonedAddress>, is_healthy: impl Fn(&str) -> bool) -> Vec<ZonedAddress> {
    match addresses.iter().any(|one| is_healthy(&one.zone)) {
        true => addresses.into_iter().filter(|one| is_healthy(&one.zone)).collect(),
        false => addresses,
    }
}

/// What one who asks gets of a load balancer's healthy nodes. If `draw`, 0 to 99, is below the policy's share, those of
/// the zone `own`, in which it is; all of a family that has none there. Nobody is looked for without need.
pub fn routed(
    nodes: Vec<ZonedAddress>,
    routing: ClientRouting,
    draw: u8,
    own: impl FnOnce() -> Option<String>,
) -> Vec<IpAddr> {
    let own = if draw < routing.share() { own() } else { None };
    let near = |node: &ZonedAddress| own.as_ref().is_some_and(|own| node.zone == *own);
    let served: BTreeSet<IpFamily> = nodes.iter().filter(|node| near(node)).map(family).collect();
    nodes.iter().filter(|node| near(node) || !served.contains(&family(node))).map(|node| node.address).collect()
}

fn family(node: &ZonedAddress) -> IpFamily {
    IpFamily::of(node.address)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use jiff::Timestamp;

    use super::*;
    use crate::{
        control::tests::World,
        model::{SubnetCidr, Target, Zone},
    };

    /// A load balancer with a node in each of two zones, and a group with a target in each.
    struct Rig {
        state: State,
        group: TargetGroupId,
        lb: LoadBalancerId,
    }

    fn subnet(vpc: &VpcId, number: u8, zone: Zone) -> Subnet {
        let cidr: SubnetCidr = format!("10.0.{number}.0/24").parse().expect("a range");
        Subnet {
            id: format!("subnet-{number:017x}").parse().expect("an id"),
            vpc: vpc.clone(),
            cidr,
            ipv6_cidr: None,
            zone,
            is_default: false,
            public_ip_on_launch: false,
            created_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn at(number: u8) -> TargetAddress {
        TargetAddress { ip: IpAddr::V4(Ipv4Addr::new(10, 0, number, 77)), port: 80 }
    }

    impl Rig {
        fn new(targets: &[u8]) -> Self {
            let mut state = World::published().state;
            let lb = state.load_balancers.keys().next().expect("a load balancer").clone();
            let group = state.target_groups.keys().next().expect("a group").clone();
            let balancer = state.load_balancers.get_mut(&lb).expect("it");
            balancer.addresses = vec![Ipv4Addr::new(10, 0, 101, 5), Ipv4Addr::new(10, 0, 102, 5)];
            let vpc = balancer.vpc.clone();
            let target = |number: &u8| Target {
                address: at(*number),
                instance: None,
                dns_name: None,
                registered_at: Timestamp::UNIX_EPOCH,
                draining_since: None,
            };
            let registered = targets.iter().map(target).map(|target| (target.address, target)).collect();
            state.target_groups.get_mut(&group).expect("it").targets = registered;
            state.put(subnet(&vpc, 101, Zone::A).into());
            state.put(subnet(&vpc, 102, Zone::B).into());
            Self { state, group, lb }
        }

        /// Whether the two zones are healthy with these healthy targets.
        fn zones(&self, healthy: &[u8]) -> Vec<bool> {
            let healthy = healthy.iter().map(|number| (self.group.clone(), at(*number))).collect();
            zones(&self.state, &healthy)[&self.lb].values().copied().collect()
        }
    }

    #[test]
    fn a_zone_is_as_healthy_as_its_own_targets() {
        let rig = Rig::new(&[101, 102]);
        assert_eq!(rig.zones(&[101, 102]), [true, true]);
        assert_eq!(rig.zones(&[102]), [false, true]);
        assert_eq!(rig.zones(&[]), [false, false]);
        assert_eq!(Rig::new(&[101]).zones(&[101]), [true, false], "a zone without targets");
        assert_eq!(Rig::new(&[103]).zones(&[103]), [true, true], "a target outside every subnet");
    }

    #[test]
    fn across_zones_all_targets_count_for_each() {
        let mut rig = Rig::new(&[101, 102]);
        rig.state.load_balancers.get_mut(&rig.lb).expect("it").attributes.cross_zone = true;
        assert_eq!(rig.zones(&[102]), [true, true]);
        assert_eq!(rig.zones(&[]), [false, false]);
        rig.state.target_groups.get_mut(&rig.group).expect("it").attributes.cross_zone = CrossZone::Disabled;
        assert_eq!(rig.zones(&[102]), [false, true], "the group's own setting comes first");
    }

    #[test]
    fn the_threshold_is_the_group_s() {
        let mut rig = Rig::new(&[101, 102]);
        let attributes = &mut rig.state.target_groups.get_mut(&rig.group).expect("it").attributes;
        attributes.cross_zone = CrossZone::Enabled;
        attributes.dns_failover = crate::model::HealthThreshold { count: Some(2), percentage: None };
        assert_eq!(rig.zones(&[101, 102]), [true, true]);
        assert_eq!(rig.zones(&[101]), [false, false]);
    }

    #[test]
    fn an_answer_favours_the_asker_s_zone_as_often_as_the_policy_says() {
        let one = |zone: &str, address: &str| ZonedAddress {
            zone: zone.to_owned(),
            address: address.parse().expect("an address"),
        };
        let all = vec![one("a", "10.0.1.5"), one("b", "10.0.2.5"), one("b", "10.0.2.6"), one("b", "fd00::5")];
        let favoured = |routing: ClientRouting| {
            let of = |draw| routed(all.clone(), routing, draw, || Some("b".to_owned())).len() == 3;
            (0..100).filter(|draw| of(*draw)).count()
        };
        for routing in ClientRouting::ALL {
            let share = match routing {
                ClientRouting::AnyAvailabilityZone => 0,
                ClientRouting::PartialAvailabilityZoneAffinity => 85,
                ClientRouting::AvailabilityZoneAffinity => 100,
            };
            assert_eq!((favoured(routing), usize::from(routing.share())), (share, share), "{routing}");
        }
        let near = |own: Option<&str>| {
            let own = own.map(str::to_owned);
            let found = routed(all.clone(), ClientRouting::AvailabilityZoneAffinity, 0, || own);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(near(Some("b")), ["10.0.2.5", "10.0.2.6", "fd00::5"]);
        assert_eq!(near(Some("a")), ["10.0.1.5", "fd00::5"], "of a family without a node there, any zone's");
        assert_eq!(near(Some("c")).len(), all.len(), "no healthy node in its zone");
        assert_eq!(near(None).len(), all.len(), "in no subnet");
        let unseen = || -> Option<String> { panic!("nobody needs to be looked for") };
        assert_eq!(routed(all.clone(), ClientRouting::AnyAvailabilityZone, 0, unseen).len(), all.len());
        assert_eq!(routed(all.clone(), ClientRouting::PartialAvailabilityZoneAffinity, 85, unseen).len(), all.len());
    }

    #[test]
    fn without_a_healthy_zone_all_are_served() {
        let one = |zone: &str, last: u8| ZonedAddress {
            zone: zone.to_owned(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        };
        let all = vec![one("a", 1), one("b", 2), one("b", 3)];
        assert_eq!(served(all.clone(), |zone| zone == "b"), [one("b", 2), one("b", 3)]);
        assert_eq!(served(all.clone(), |_| false), all);
        assert_eq!(served(all.clone(), |_| true), all);
    }
}
