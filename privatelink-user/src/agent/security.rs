//! Security groups, compiled to what the kernel asks: which sources may connect at a frontend.
//!
//! Protocol and port of a frontend are fixed, so a rule comes down to a set of sources, the rules of all groups to the
//! union of theirs, and an endpoint behind which a load balancer enforces its own rules to the intersection of the two.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use privatelink_ebpf::abi::security::Bound;

use super::diff::different;
use crate::model::{
    Direction, Endpoint, LoadBalancer, Members, Opening, Peer, SecurityGroup, SecurityGroupId, SecurityGroupRule,
    SecurityGroupRuleId, State, Traffic,
};

/// The sorted addresses at which membership changes: at the first an address belongs to the set, from the second on it
/// does not, and so on. The kernel's `SOURCE_BOUNDS`.
pub type Bounds = Arc<[Bound]>;

/// A set of addresses, IPv4 ones as IPv4-mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(Bounds);

impl Sources {
    /// The union of inclusive ranges.
    pub fn union(ranges: impl IntoIterator<Item = (u128, u128)>) -> Self {
        let mut ranges: Vec<(u128, u128)> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut bounds: Vec<Bound> = Vec::new();
        let mut last: Option<u128> = None;
        for (first, end) in ranges {
            match last {
                // Touching ranges are one.
                Some(so_far) if first <= so_far.saturating_add(1) => last = Some(so_far.max(end)),
                Some(so_far) => {
                    bounds.extend([Bound::from_number(so_far + 1), Bound::from_number(first)]);
                    last = Some(end);
                }
                None => {
                    bounds.push(Bound::from_number(first));
                    last = Some(end);
                }
            }
        }
        if let Some(after) = last.and_then(|last| last.checked_add(1)) {
            bounds.push(Bound::from_number(after));
        }
        Self(bounds.into())
    }

    /// What both sets have.
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let (mut in_a, mut in_b, mut inside) = (false, false, false);
        let mut bounds = Vec::new();
        loop {
            let at = match (a.peek(), b.peek()) {
                (Some(a), Some(b)) => **a.min(b),
                (Some(at), None) | (None, Some(at)) => **at,
                (None, None) => break,
            };
            in_a ^= a.next_if(|next| **next == at).is_some();
            in_b ^= b.next_if(|next| **next == at).is_some();
            if inside != (in_a && in_b) {
                inside = !inside;
                bounds.push(at);
            }
        }
        Self(bounds.into())
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn range(net: &IpNet) -> (u128, u128) {
    (number(net.network()), number(net.broadcast()))
}

fn mapped((first, last): (IpAddr, IpAddr)) -> (u128, u128) {
    (number(first), number(last))
}

/// Who may connect somewhere, and whether open flows of others end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    pub sources: Bounds,
    pub established: bool,
}

/// Which inbound rules of some groups count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peers {
    /// All.
    All,
    /// Those that name addresses: what carries a group is in the group's VPC, and the client is not.
    Addresses,
}

/// What inbound rules are asked.
type Question = (Opening, Peers);

/// What the security groups of a state say.
#[derive(Debug, Default)]
pub struct Rules(BTreeMap<SecurityGroupId, Arc<Ruled>>);

/// A security group, and the addresses of what carries the groups that its inbound rules name.
#[derive(Debug, PartialEq, Eq)]
struct Ruled {
    group: Arc<SecurityGroup>,
    peers: BTreeMap<SecurityGroupId, Vec<(u128, u128)>>,
}

impl Rules {
    pub fn new(state: &State) -> Self {
        let peers = |group: &SecurityGroup| -> BTreeSet<SecurityGroupId> {
            let peer = |rule: &SecurityGroupRule| match &rule.peer {
                Peer::Group(id) => Some(id.clone()),
                Peer::Cidr(_) | Peer::PrefixList(_) => None,
            };
            group.rules(Direction::Ingress).filter_map(|(_, rule)| peer(rule)).collect()
        };
        let named: Vec<_> = state.security_groups.shared().values().map(|group| (group, peers(group))).collect();
        let members = state.members_of(named.iter().flat_map(|(_, peers)| peers));
        let addresses = |id: &SecurityGroupId| {
            let ranges = members.get(id).into_iter().flat_map(Members::ranges).map(mapped).collect();
            (id.clone(), ranges)
        };
        let ruled = |(group, peers): (&Arc<SecurityGroup>, BTreeSet<SecurityGroupId>)| {
            let ruled = Ruled { group: Arc::clone(group), peers: peers.iter().map(addresses).collect() };
            (group.id.clone(), Arc::new(ruled))
        };
        Self(named.into_iter().map(ruled).collect())
    }

    /// The groups that say something else than they did, or that are new or gone.
    pub fn changed(&self, before: &Self) -> BTreeSet<SecurityGroupId> {
        different(&self.0, &before.0, PartialEq::eq)
    }

    fn get<'a>(&'a self, ids: &'a BTreeSet<SecurityGroupId>) -> impl Iterator<Item = &'a Ruled> {
        ids.iter().filter_map(|id| self.0.get(id)).map(|ruled| &**ruled)
    }
}

/// Answers from the rules, each computed once.
pub struct Compiler<'a> {
    rules: &'a Rules,
    inbound: BTreeMap<BTreeSet<SecurityGroupId>, BTreeMap<Question, Sources>>,
    /// What two sets have in common, by where their bounds are: those of `inbound` stay there.
    common: BTreeMap<[*const Bound; 2], Sources>,
}

impl<'a> Compiler<'a> {
    pub fn new(rules: &'a Rules) -> Self {
        Self { rules, inbound: BTreeMap::new(), common: BTreeMap::new() }
    }

    /// Who may connect to a load balancer's own addresses. Nothing: everybody.
    pub fn at_node(&mut self, lb: &LoadBalancer, opening: Opening) -> Option<Guard> {
        let groups = &lb.security_groups.groups;
        if groups.is_empty() {
            return None;
        }
        let Sources(sources) = self.inbound(groups, (opening, Peers::All));
        let established = lb.security_groups.applies_to_established || self.applies_to_established(groups);
        Some(Guard { sources, established })
    }

    /// Who may connect to an endpoint that leads to `lb`. Nothing: everybody.
    pub fn at_endpoint(&mut self, endpoint: &Endpoint, lb: &LoadBalancer, opening: Opening) -> Option<Guard> {
        let own = &endpoint.security_groups;
        let behind = &lb.security_groups;
        let mut sources = None;
        let mut established = false;
        if !own.groups.is_empty() {
            sources = Some(self.inbound(&own.groups, (opening, Peers::All)));
            established |= own.applies_to_established || self.applies_to_established(&own.groups);
        }
        if !behind.groups.is_empty() && lb.enforce_on_private_link {
            let enforced = self.inbound(&behind.groups, (opening, Peers::Addresses));
            established |= behind.applies_to_established || self.applies_to_established(&behind.groups);
            sources = Some(match sources {
                Some(own) => {
                    let both = [own.0.as_ptr(), enforced.0.as_ptr()];
                    self.common.entry(both).or_insert_with(|| own.intersection(&enforced)).clone()
                }
                None => enforced,
            });
        }
        sources.map(|Sources(sources)| Guard { sources, established })
    }

    /// The ports of the transport of `opening` from which on other inbound rules of `groups` count than before.
    pub fn cuts(&self, groups: &BTreeSet<SecurityGroupId>, opening: Opening) -> BTreeSet<u16> {
        let rules = self.rules.get(groups).flat_map(|ruled| ruled.group.rules(Direction::Ingress));
        let rules = rules.map(|(_, rule)| rule);
        let ports = rules.filter_map(|rule| match (rule.traffic, opening) {
            (Traffic::Tcp(ports), Opening::Tcp(_)) | (Traffic::Udp(ports), Opening::Udp(_)) => Some(ports),
            (Traffic::Tcp(_) | Traffic::Udp(_), _) => None,
            (Traffic::All | Traffic::Icmp(_) | Traffic::Icmpv6(_) | Traffic::Protocol(_), _) => None,
        });
        ports.flat_map(|ports| [Some(ports.first()), ports.last().checked_add(1)]).flatten().collect()
    }

    fn applies_to_established(&self, groups: &BTreeSet<SecurityGroupId>) -> bool {
        self.rules.get(groups).any(|ruled| ruled.group.applies_to_established)
    }

    fn inbound(&mut self, groups: &BTreeSet<SecurityGroupId>, question: Question) -> Sources {
        if let Some(known) = self.inbound.get(groups).and_then(|answers| answers.get(&question)) {
            return known.clone();
        }
        let (opening, peers) = question;
        let mut ranges = Vec::new();
        for Ruled { group, peers: addresses } in self.rules.get(groups) {
            let rules = group.rules(Direction::Ingress).map(|(_, rule)| rule);
            for rule in rules.filter(|rule| rule.traffic.contains(opening)) {
                match (&rule.peer, peers) {
                    (Peer::Cidr(net), _) => ranges.push(range(net)),
                    (Peer::Group(id), Peers::All) => ranges.extend(addresses.get(id).into_iter().flatten().copied()),
                    (Peer::Group(_), Peers::Addresses) | (Peer::PrefixList(_), Peers::All | Peers::Addresses) => {}
                }
            }
        }
        let sources = Sources::union(ranges);
        self.inbound.entry(groups.clone()).or_default().insert(question, sources.clone());
        sources
    }
}

/// What each security group in the way of `client` says: the rule that lets it in, if there is one. It must be let in
/// by one of the endpoint's and, where they are enforced, by one of the load balancer's.
pub fn verdicts<'a>(
    state: &'a State,
    endpoint: Option<&Endpoint>,
    lb: &LoadBalancer,
    opening: Opening,
    client: IpAddr,
) -> Vec<(&'a SecurityGroup, Option<(&'a SecurityGroupRuleId, &'a SecurityGroupRule)>)> {
    let own = endpoint.map(|endpoint| (&endpoint.security_groups.groups, Peers::All));
    let behind = match endpoint {
        Some(_) if !lb.enforce_on_private_link => None,
        Some(_) => Some((&lb.security_groups.groups, Peers::Addresses)),
        None => Some((&lb.security_groups.groups, Peers::All)),
    };
    let admits = |rule: &SecurityGroupRule, peers| {
        let is_peer = match (&rule.peer, peers) {
            (Peer::Group(_), Peers::Addresses) => false,
            (peer, Peers::All | Peers::Addresses) => peer.contains(client, &|group| state.members(group)),
        };
        rule.traffic.contains(opening) && is_peer
    };
    own.into_iter()
        .chain(behind)
        .flat_map(|(groups, peers)| groups.iter().map(move |id| (id, peers)))
        .filter_map(|(id, peers)| Some((state.security_groups.get(id)?, peers)))
        .map(|(group, peers)| (group, group.rules(Direction::Ingress).find(|(_, rule)| admits(rule, peers))))
        .collect()
}

/// Whether a load balancer may connect to a target, by one rule at both ends of a range of ports.
pub fn outbound(state: &State, lb: &LoadBalancer, ends: [Opening; 2], target: IpAddr) -> bool {
    let groups = &lb.security_groups.groups;
    groups.is_empty()
        || groups.iter().filter_map(|id| state.security_groups.get(id)).any(|group| {
            group.rules(Direction::Egress).any(|(_, rule)| {
                ends.into_iter().all(|opening| rule.traffic.contains(opening))
                    && rule.peer.contains(target, &|group| state.members(group))
            })
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contains(sources: &Sources, number: u128) -> bool {
        sources.0.iter().filter(|bound| bound.to_number() <= number).count() % 2 == 1
    }

    fn ranges() -> impl Strategy<Value = Vec<(u128, u128)>> {
        let number = || prop_oneof![0u128..60, Just(u128::MAX), (0u128..9).prop_map(|n| u128::MAX - n)];
        prop::collection::vec((number(), number()).prop_map(|(a, b)| (a.min(b), a.max(b))), 0..12)
    }

    fn probes() -> impl Iterator<Item = u128> {
        (0u128..70).chain((0..12).map(|n| u128::MAX - n))
    }

    proptest! {
        #[test]
        fn a_union_has_what_one_of_its_ranges_has(ranges in ranges()) {
            let sources = Sources::union(ranges.clone());
            prop_assert!(sources.0.is_sorted_by(|a, b| a < b), "{:?}", sources);
            for probe in probes() {
                let expected = ranges.iter().any(|(first, last)| (*first..=*last).contains(&probe));
                prop_assert_eq!(contains(&sources, probe), expected, "{}", probe);
            }
        }

        #[test]
        fn an_intersection_has_what_both_have(a in ranges(), b in ranges()) {
            let (a, b) = (Sources::union(a), Sources::union(b));
            let both = a.intersection(&b);
            prop_assert!(both.0.is_sorted_by(|a, b| a < b), "{:?}", both);
            for probe in probes() {
                prop_assert_eq!(contains(&both, probe), contains(&a, probe) && contains(&b, probe));
            }
        }
    }

    #[test]
    fn ranges_of_both_families_stand_side_by_side() {
        let nets = ["10.0.0.0/8", "11.0.0.0/8", "2001:db8::/32"].map(|net| range(&net.parse().expect("a net")));
        let sources = Sources::union(nets);
        assert_eq!(sources.0.len(), 4, "10/8 and 11/8 touch");
        let v4 = |ip: [u8; 4]| std::net::Ipv4Addr::from(ip).to_ipv6_mapped().to_bits();
        assert!(contains(&sources, v4([11, 255, 255, 255])) && !contains(&sources, v4([12, 0, 0, 0])));
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().expect("an address").to_bits();
        assert!(contains(&sources, v6("2001:db8::1")) && !contains(&sources, v6("2001:db9::")));
        // Everything IPv4 is not everything.
        let v4_only = Sources::union([range(&"0.0.0.0/0".parse().expect("a net"))]);
        assert!(contains(&v4_only, v4([0; 4])) && contains(&v4_only, v4([255; 4])));
        assert!(!contains(&v4_only, v6("::1")) && !contains(&v4_only, v6("2001:db8::1")));
    }
}
