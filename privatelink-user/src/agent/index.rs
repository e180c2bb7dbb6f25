//! Which index stands for what in the kernel's tables, read off the tables themselves: what they hold keeps its index,
//! over changes and restarts alike.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    hash::Hash,
    net::IpAddr,
};

use privatelink_ebpf::abi::{
    Proto, VpcIndex,
    service::{Target, TargetFlags},
};

use crate::dataplane::Tables;

/// What a target index stands for: an address, port and protocol behind one node address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetKey {
    /// The provider's VPC.
    pub vpc: VpcIndex,
    /// Of the same family as the target's.
    pub node: IpAddr,
    pub ip: IpAddr,
    /// 0: whatever the client asks for.
    pub port: u16,
    pub proto: Proto,
}

impl TargetKey {
    /// What a record in the kernel stands for; a zero record stands for nothing.
    pub fn of(record: &Target) -> Option<Self> {
        let Target {
            ip,
            node_ip,
            port,
            vpc,
            proto,
            generation: _,
            flags: _,
            ifindex: _,
            pool: _,
            mac: _,
            _pad: _,
            ip6,
            node_ip6,
        } = *record;
        let (node, ip) = match record.ipv6() {
            false => (IpAddr::V4(node_ip.into()), IpAddr::V4(ip.into())),
            true => (IpAddr::V6(node_ip6.into()), IpAddr::V6(ip6.into())),
        };
        (vpc != VpcIndex::NONE).then(|| Self { vpc, node, ip, port: port.get(), proto: Proto::from_number(proto) })
    }
}

/// What flows in the kernel, or the relay, refer to: indexes that must not come to mean something else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    pub targets: BTreeSet<u32>,
    pub endpoints: BTreeSet<u16>,
}

/// Index 0 stands for nothing in every table, so that a zeroed record leads nowhere.
const FIRST: u32 = 1;

/// Finds an index for every wanted key: the one that it has already, else one that nothing stands for, else one that
/// is retired and that no flow refers to. Keys for which there is no room are missing from the answer.
pub fn targets(wanted: &BTreeSet<TargetKey>, actual: &Tables, busy: &Busy, capacity: u32) -> BTreeMap<TargetKey, u32> {
    let mut assigned = BTreeMap::new();
    let mut retired = Vec::new();
    for (&index, record) in actual.targets.range(FIRST..capacity) {
        match TargetKey::of(record) {
            Some(key) if wanted.contains(&key) && !assigned.contains_key(&key) => drop(assigned.insert(key, index)),
            Some(_) if record.flags.has(TargetFlags::RETIRED) && !busy.targets.contains(&index) => retired.push(index),
            Some(_) => {}
            None => retired.push(index),
        }
    }
    let fresh = (FIRST..capacity).filter(|index| !actual.targets.contains_key(index) && !busy.targets.contains(index));
    let mut free = fresh.chain(retired);
    for key in wanted {
        if !assigned.contains_key(key) {
            match free.next() {
                Some(index) => drop(assigned.insert(*key, index)),
                None => break,
            }
        }
    }
    assigned
}

/// Finds an index for every wanted key: the one of `held` (what the kernel has for it) if no other key has it, else one
/// that nothing holds, in the order of `range`. `taken` are indexes that new keys must not get.
pub fn assign<K: Ord + Clone, I: Copy + Ord + Hash>(
    wanted: &BTreeSet<K>,
    held: &BTreeMap<K, I>,
    taken: impl Fn(&I) -> bool,
    range: impl Iterator<Item = I>,
) -> BTreeMap<K, I> {
    let mut claimed: HashSet<I> = HashSet::with_capacity(held.len());
    let first =
        |(key, index): (&K, &I)| (wanted.contains(key) && claimed.insert(*index)).then(|| (key.clone(), *index));
    let mut assigned: BTreeMap<K, I> = held.iter().filter_map(first).collect();
    if assigned.len() < wanted.len() {
        let used: HashSet<I> = held.values().copied().collect();
        let mut free = range.filter(|index| !taken(index) && !used.contains(index));
        let missing: Vec<&K> = wanted.iter().filter(|key| !assigned.contains_key(key)).collect();
        assigned.extend(missing.into_iter().cloned().zip(&mut free));
    }
    assigned
}

/// The indexes of ordinary listeners and endpoints begin here.
pub const fn first() -> u32 {
    FIRST
}

#[cfg(test)]
mod tests {
    use privatelink_ebpf::abi::L4Port;
    use proptest::prelude::*;

    use super::*;

    fn key(n: u8) -> TargetKey {
        TargetKey {
            vpc: VpcIndex(1),
            node: [10, 0, 0, 5].into(),
            ip: [10, 0, 1, n].into(),
            port: 80,
            proto: Proto::Tcp,
        }
    }

    fn four(ip: IpAddr) -> privatelink_ebpf::abi::Ip4 {
        match ip {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(_) => panic!("{ip}"),
        }
    }

    fn record(key: TargetKey, flags: TargetFlags) -> Target {
        Target {
            ip: four(key.ip),
            node_ip: four(key.node),
            port: L4Port::new(key.port),
            vpc: key.vpc,
            flags,
            ..Target::default()
        }
    }

    #[test]
    fn an_index_with_flows_is_not_given_to_another_target() {
        let retired = Tables { targets: [(1, record(key(1), TargetFlags::RETIRED))].into(), ..Tables::default() };
        let busy = Busy { targets: [1].into(), ..Busy::default() };
        let wanted = BTreeSet::from([key(2)]);
        assert!(targets(&wanted, &retired, &busy, 2).is_empty());
        assert_eq!(targets(&wanted, &retired, &Busy::default(), 2)[&key(2)], 1);
        // The same target gets its index back, flows or not.
        assert_eq!(targets(&[key(1)].into(), &retired, &busy, 2)[&key(1)], 1);
    }

    proptest! {
        #[test]
        fn what_has_an_index_keeps_it_and_no_two_share_one(
            before in prop::collection::btree_set(0u8..60, 0..60),
            after in prop::collection::btree_set(0u8..60, 0..60),
            busy in prop::collection::btree_set(1u32..60, 0..60),
        ) {
            let busy = Busy { targets: busy, endpoints: BTreeSet::new() };
            let wanted: BTreeSet<TargetKey> = before.iter().copied().map(key).collect();
            let first = targets(&wanted, &Tables::default(), &Busy::default(), 100);
            let installed = Tables {
                targets: first.iter().map(|(key, index)| (*index, record(*key, TargetFlags::default()))).collect(),
                ..Tables::default()
            };
            let wanted: BTreeSet<TargetKey> = after.iter().copied().map(key).collect();
            let second = targets(&wanted, &installed, &busy, 200);
            prop_assert_eq!(second.len(), wanted.len());
            prop_assert_eq!(second.values().collect::<BTreeSet<_>>().len(), second.len());
            for (key, index) in &second {
                match first.get(key) {
                    Some(old) => prop_assert_eq!(old, index),
                    None => {
                        prop_assert!(!busy.targets.contains(index));
                        prop_assert!(!installed.targets.contains_key(index), "taken from a live target");
                    }
                }
            }
        }
    }
}
