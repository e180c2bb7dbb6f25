//! From what the tables say to what they should say, in an order in which no packet sees half of a change: first what
//! is referred to (targets, rings, listeners), then what refers to it (frontends), then removals the other way round.

use std::{
    cell::LazyCell,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use privatelink_ebpf::abi::{
    security::Policy,
    service::{Listener, RingEntry, TargetFlags},
};

use super::{
    desired::{Desired, DesiredListener, Touched},
    index::TargetKey,
    security::Guard,
};
use crate::dataplane::{Capacity, Installed, InstalledPolicy, Op, Tables};

/// Which entries of the tables that many endpoints fill are compared; of the other tables all are.
#[derive(Debug)]
pub enum Scope {
    All,
    /// The rest is as it should be.
    Touched(Touched),
}

impl Scope {
    fn touched<K>(&self, of: impl FnOnce(&Touched) -> &BTreeSet<K>) -> Option<&BTreeSet<K>> {
        match self {
            Self::All => None,
            Self::Touched(touched) => Some(of(touched)),
        }
    }
}

/// The operations that lead from `actual` to `desired`; empty if and only if they agree, as far as `scope` goes.
///
/// # Errors
///
/// [`Full`] when no slice of `RINGS` is large enough for a ring, or of `SOURCE_BOUNDS` for a set of sources; everything
/// else can still be done.
pub fn diff(desired: &Desired, scope: &Scope, actual: &Tables, capacity: Capacity) -> (Vec<Op>, Result<(), Full>) {
    let mut ops = Vec::new();
    put(&mut ops, &desired.vpcs, &actual.vpcs, |key, value| Op::PutVpc(*key, *value));
    for (index, budget, old) in wanted(&desired.endpoints, &actual.endpoints) {
        match old {
            Some(old) if old == budget => {}
            Some(old) if old.ended() => ops.extend([Op::ResetEndpointStats(*index), Op::PutEndpoint(*index, *budget)]),
            Some(_) => ops.push(Op::PutEndpoint(*index, *budget)),
            None => ops.extend([Op::ResetEndpointStats(*index), Op::PutEndpoint(*index, *budget)]),
        }
    }
    put(&mut ops, &desired.endpoint_ids, &actual.endpoint_ids, |key, value| Op::PutEndpointId(*key, *value));
    // A way to another node address goes before what it leads to becomes something else, and comes after it.
    let stays = |(index, next): &(&u32, &u32)| desired.next_nodes.get(index) == Some(next);
    ops.extend(actual.next_nodes.iter().filter(|pair| !stays(pair)).map(|(index, _)| Op::RemoveNextNode(*index)));
    targets(&mut ops, desired, actual, false);
    put(&mut ops, &desired.next_nodes, &actual.next_nodes, |index, next| Op::PutNextNode(*index, *next));
    let rings = listeners(&mut ops, desired, actual, capacity);
    let bounds = policies(&mut ops, desired, actual, capacity);
    put(&mut ops, &desired.ports, &actual.ports, |key, value| Op::PutPort(*key, *value));
    ops.extend(desired.xdp_ports.difference(&actual.xdp_ports).map(|ifindex| Op::PutXdpPort(*ifindex)));
    put(&mut ops, &desired.addresses, &actual.addresses, |key, value| Op::PutAddress(*key, *value));
    put(&mut ops, &desired.aliases, &actual.aliases, |(key, bits), alias| Op::PutAlias(*key, *bits, *alias));
    // A listener whose ring found no room is not there: its frontends wait for it.
    let ready = |listener: u32| actual.listeners.contains_key(&listener) || !rings.skipped.contains(&listener);
    // Nor is one whose sources found no room.
    let guarded = |policy: u32| actual.policies.contains_key(&policy) || !bounds.skipped.contains(&policy);
    for (key, frontend, old) in wanted(&desired.frontends, &actual.frontends) {
        if old != Some(frontend) && ready(frontend.listener) && guarded(frontend.policy) {
            ops.push(Op::PutFrontend(*key, *frontend));
        }
    }
    put(&mut ops, &desired.ranges, &actual.ranges, |(key, bits), range| Op::PutRange(*key, *bits, *range));

    // Keys mean what they say only while the indexes in them do: of those that stay.
    ops.extend(desired.parted.difference(&actual.parted).map(|key| Op::PutParted(*key)));
    ops.extend(actual.parted.difference(&desired.parted).map(|key| Op::RemoveParted(*key)));
    remove(&mut ops, &desired.aliases, &actual.aliases, |(key, bits)| Op::RemoveAlias(*key, *bits));
    let touched = scope.touched(|touched| &touched.ranges);
    remove_of(&mut ops, &desired.ranges, &actual.ranges, touched, |(key, bits)| Op::RemoveRange(*key, *bits));
    let touched = scope.touched(|touched| &touched.frontends);
    remove_of(&mut ops, &desired.frontends, &actual.frontends, touched, |key| Op::RemoveFrontend(*key));
    let touched = scope.touched(|touched| &touched.addresses);
    remove_of(&mut ops, &desired.addresses, &actual.addresses, touched, |key| Op::RemoveAddress(*key));
    ops.extend(actual.xdp_ports.difference(&desired.xdp_ports).map(|ifindex| Op::RemoveXdpPort(*ifindex)));
    remove(&mut ops, &desired.ports, &actual.ports, |key| Op::RemovePort(*key));
    let touched = scope.touched(|touched| &touched.policies);
    remove_of(&mut ops, &desired.policies, &actual.policies, touched, |key| Op::RemovePolicy(*key));
    remove(&mut ops, &desired.listeners, &actual.listeners, |key| Op::RemoveListener(*key));
    // Nothing leads to them any more.
    targets(&mut ops, desired, actual, true);
    remove(&mut ops, &desired.vpcs, &actual.vpcs, |key| Op::RemoveVpc(*key));
    let full = match (rings.skipped.len(), bounds.skipped.len()) {
        (0, 0) => Ok(()),
        (0, frontends) => Err(Full::Bounds { frontends }),
        (listeners, _) => Err(Full::Rings { listeners }),
    };
    (ops, full)
}

/// There is no room for some rings, or for some sets of sources.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    #[error(
        "table RINGS is full: {listeners} listeners keep their old targets; use fewer listeners with over 100 targets"
    )]
    Rings { listeners: usize },
    #[error(
        "table SOURCE_BOUNDS is full: {frontends} listeners of endpoints or load balancers keep their old security groups, \
         or stay closed; use fewer rules, or wider ranges"
    )]
    Bounds { frontends: usize },
}

/// Both maps side by side, in the order of their keys: a walk instead of a search for each key.
pub fn beside<'a, K: Ord, D, A>(
    desired: &'a BTreeMap<K, D>,
    actual: &'a BTreeMap<K, A>,
) -> impl Iterator<Item = (&'a K, Option<&'a D>, Option<&'a A>)> {
    let (mut desired, mut actual) = (desired.iter().peekable(), actual.iter().peekable());
    std::iter::from_fn(move || {
        let order = match (desired.peek(), actual.peek()) {
            (Some((wanted, _)), Some((present, _))) => wanted.cmp(present),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return None,
        };
        let wanted = if order.is_le() { desired.next() } else { None };
        let present = if order.is_ge() { actual.next() } else { None };
        let key = wanted.map(|(key, _)| key).or(present.map(|(key, _)| key))?;
        Some((key, wanted.map(|(_, value)| value), present.map(|(_, value)| value)))
    })
}

/// The keys whose values are not the `same` in both maps, or that only one of them has.
pub fn different<K: Ord + Clone, V>(
    now: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    same: impl Fn(&V, &V) -> bool,
) -> BTreeSet<K> {
    let is_same = |now: Option<&V>, before| now.zip(before).is_some_and(|(now, before)| same(now, before));
    let different = beside(now, before).filter(|(_, now, before)| !is_same(*now, *before));
    different.map(|(key, _, _)| key.clone()).collect()
}

/// What is desired, and what is there in its place.
fn wanted<'a, K: Ord, D, A>(
    desired: &'a BTreeMap<K, D>,
    actual: &'a BTreeMap<K, A>,
) -> impl Iterator<Item = (&'a K, &'a D, Option<&'a A>)> {
    beside(desired, actual).filter_map(|(key, wanted, present)| Some((key, wanted?, present)))
}

fn put<K: Ord, V: PartialEq>(
    ops: &mut Vec<Op>,
    desired: &BTreeMap<K, V>,
    actual: &BTreeMap<K, V>,
    op: impl Fn(&K, &V) -> Op,
) {
    let changed = wanted(desired, actual).filter(|(_, value, old)| *old != Some(*value));
    ops.extend(changed.map(|(key, value, _)| op(key, value)));
}

fn remove<K: Ord, D, A>(ops: &mut Vec<Op>, desired: &BTreeMap<K, D>, actual: &BTreeMap<K, A>, op: impl Fn(&K) -> Op) {
    let surplus = beside(desired, actual).filter(|(_, wanted, _)| wanted.is_none());
    ops.extend(surplus.map(|(key, _, _)| op(key)));
}

/// [`remove`], of some keys only.
fn remove_of<K: Ord, D, A>(
    ops: &mut Vec<Op>,
    desired: &BTreeMap<K, D>,
    actual: &BTreeMap<K, A>,
    touched: Option<&BTreeSet<K>>,
    op: impl Fn(&K) -> Op,
) {
    match touched {
        None => remove(ops, desired, actual, op),
        Some(touched) => {
            let surplus = touched.iter().filter(|key| actual.contains_key(key) && !desired.contains_key(key));
            ops.extend(surplus.map(op));
        }
    }
}

/// Records of targets, retired or not. Indexes that the desired state knows nothing of cannot be: retired ones are part
/// of it.
fn targets(ops: &mut Vec<Op>, desired: &Desired, actual: &Tables, retired: bool) {
    let records = wanted(&desired.targets, &actual.targets);
    for (index, record, old) in records.filter(|(_, record, _)| record.flags.has(TargetFlags::RETIRED) == retired) {
        if old == Some(record) {
            continue;
        }
        if old.and_then(TargetKey::of) != TargetKey::of(record) {
            ops.extend([Op::ResetPool(*index), Op::ResetTargetStats(*index)]);
        }
        ops.push(Op::PutTarget(*index, *record));
    }
}

/// Where the contents of a flat table lie: whatever lies there already serves others too, and is not overwritten.
fn slices_of<'a, T: Ord + 'a>(installed: impl Iterator<Item = (u32, &'a Arc<[T]>)>) -> BTreeMap<Arc<[T]>, u32> {
    let mut seen = HashSet::new();
    let once = installed.filter(|(base, slice)| seen.insert((*base, slice.len())));
    once.map(|(base, slice)| (Arc::clone(slice), base)).collect()
}

/// Compares slices that many share, each pair once.
#[derive(Default)]
struct Equal<T>(HashMap<[*const T; 2], bool>);

impl<T: PartialEq> Equal<T> {
    fn are(&mut self, one: &Arc<[T]>, other: &Arc<[T]>) -> bool {
        one.len() == other.len() && *self.0.entry([one.as_ptr(), other.as_ptr()]).or_insert_with(|| one == other)
    }
}

#[derive(Default)]
struct Placed {
    skipped: BTreeSet<u32>,
}

/// New rings are written where no listener points, then the listener is switched. Equal rings share a slice, also with
/// those that are there already; a ring of one target lies at the target's own index, where nothing else ever lies,
/// unless its flows differ from a health check's.
fn listeners(ops: &mut Vec<Op>, desired: &Desired, actual: &Tables, capacity: Capacity) -> Placed {
    let mut placed = Placed::default();
    let mut slices = Slices::of_rings(actual, capacity);
    let installed = || {
        let all = actual.listeners.values().filter(|installed| {
            let Installed { record: Listener { ring_base, ring_len, .. }, ring } = installed;
            *ring_base >= capacity.targets && ring.len() > 1 && *ring_len as usize == ring.len()
        });
        slices_of(all.map(|installed| (installed.record.ring_base, &installed.ring)))
    };
    let mut written = LazyCell::new(installed);
    let mut equal = Equal::default();
    for (index, DesiredListener { idle_s, flags, ring }, old) in wanted(&desired.listeners, &actual.listeners) {
        let record = |ring_base: u32| Listener {
            ring_base,
            ring_len: ring.len() as u32,
            idle_s: *idle_s,
            flags: *flags,
            ..Listener::default()
        };
        let base = match old {
            Some(Installed { record, ring: slots })
                if record.ring_len as usize == ring.len() && equal.are(slots, ring) =>
            {
                record.ring_base
            }
            Some(_) | None => {
                let known = written.get(ring).copied();
                let base = known.or_else(|| match &**ring {
                    [] => Some(0),
                    [target] if RingEntry(*target).target() == *target => Some(*target),
                    slots => slices.allocate(slots.len() as u32),
                });
                let Some(base) = base else {
                    placed.skipped.insert(*index);
                    continue;
                };
                if known.is_none() && !ring.is_empty() {
                    ops.push(Op::WriteRing { base, slots: Arc::clone(ring) });
                }
                written.insert(Arc::clone(ring), base);
                base
            }
        };
        let record = record(base);
        if old.map(|installed| installed.record) != Some(record) {
            if old.is_none() {
                ops.push(Op::ResetListenerStats(*index));
            }
            ops.push(Op::PutListener(*index, record));
        }
    }
    placed
}

/// New sets of sources are written where no policy points, then the policy is switched. Equal sets share a slice,
/// also with those that are there already.
fn policies(ops: &mut Vec<Op>, desired: &Desired, actual: &Tables, capacity: Capacity) -> Placed {
    let mut placed = Placed::default();
    let mut slices = LazyCell::new(|| {
        let used = actual.policies.values().map(|installed| (installed.record.base, installed.record.len()));
        // The empty set lies at 1: a record that is all zero is none.
        Slices::between(used, 1, capacity.source_bounds)
    });
    let whole = |installed: &InstalledPolicy| {
        installed.record.len() as usize == installed.bounds.len() && installed.record.base != 0
    };
    let installed = || {
        let all = actual.policies.values().filter(|installed| whole(installed));
        slices_of(all.map(|installed| (installed.record.base, &installed.bounds)))
    };
    let mut written = LazyCell::new(installed);
    let mut equal = Equal::default();
    for (index, Guard { sources, established }, old) in wanted(&desired.policies, &actual.policies) {
        let base = match old {
            Some(old) if whole(old) && equal.are(&old.bounds, sources) => old.record.base,
            Some(_) | None => {
                let known = written.get(sources).copied();
                let base = known.or_else(|| match sources.len() as u32 {
                    0 => Some(1),
                    length if length > Policy::MAX_BOUNDS => None,
                    length => slices.allocate(length),
                });
                let Some(base) = base else {
                    placed.skipped.insert(*index);
                    continue;
                };
                if known.is_none() && !sources.is_empty() {
                    ops.push(Op::WriteBounds { base, bounds: Arc::clone(sources) });
                }
                written.insert(Arc::clone(sources), base);
                base
            }
        };
        let record = Policy::new(base, sources.len() as u32, *established);
        if old.map(|installed| installed.record) != Some(record) {
            ops.push(Op::PutPolicy(*index, record));
        }
    }
    placed
}

/// The parts of a flat table that nothing points at, now or before the operations are done.
struct Slices {
    /// Begin → end, disjoint.
    free: Vec<(u32, u32)>,
}

impl Slices {
    /// Of `RINGS`. Below lie the rings of single targets.
    fn of_rings(actual: &Tables, capacity: Capacity) -> Self {
        let used = actual.listeners.values().map(|installed| (installed.record.ring_base, installed.record.ring_len));
        Self::between(used, capacity.targets, capacity.rings)
    }

    /// Of a table of `entries`, from `first` on; `used` are slices by base and length.
    fn between(used: impl Iterator<Item = (u32, u32)>, first: u32, entries: u32) -> Self {
        let mut used: Vec<(u32, u32)> = used
            .filter(|(_, length)| *length > 0)
            .map(|(base, length)| (base, base.saturating_add(length).min(entries)))
            .collect();
        used.sort_unstable();
        let mut free = Vec::new();
        let mut at = first.min(entries);
        for (begin, end) in used {
            if begin > at {
                free.push((at, begin));
            }
            at = at.max(end);
        }
        if at < entries {
            free.push((at, entries));
        }
        Self { free }
    }

    fn allocate(&mut self, length: u32) -> Option<u32> {
        let (begin, _) = self.free.iter_mut().find(|(begin, end)| end - *begin >= length)?;
        let base = *begin;
        *begin += length;
        Some(base)
    }
}
