//! The loop that makes the kernel say what the state says: on every change, after every failure, and once a minute
//! without any reason.
//!
//! A pass that follows one that was finished goes on from it: it decides on what may have become something else, by
//! what was written. The first one, the one after a failure and the one once a minute read all that the kernel holds
//! and decide on everything; what was written before decides nothing there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use privatelink_ebpf::abi::service::{RingEntry, Target, TargetFlags};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    desired::{self, Decision, Desired, World},
    diff::{self, Full},
    host_port,
    index::{Busy, TargetKey},
    plan::{CheckKey, Hop, HopKey, HostPort, Plan},
    ports,
    relay::Doors,
    resolver::Door,
    ring::RingCache,
};
use crate::{
    control::{Installed, status::CrowdedOut},
    dataplane::{Capacity, Dataplane, DataplaneError, Hook, Op, Tables},
    health::state::Checked,
    model::{ListenerId, Port, State, TargetGroupId},
    net::links::{LinkError, LinkService, Links, watch_links},
};

/// A pass without a reason, over everything: heals what nobody reported.
const QUIET: Duration = Duration::from_secs(60);
/// After a failure: this long at first, doubled up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// Why a pass did not finish.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    #[error(transparent)]
    Links(#[from] LinkError),
    #[error(transparent)]
    Full(#[from] Full),
    #[error("some ports are not as they should be")]
    Ports,
}

/// Everything that a pass starts from, but the kernel.
#[derive(Clone, Default)]
pub struct Inputs {
    pub state: Arc<State>,
    pub links: Arc<Links>,
    pub host_port: Option<HostPort>,
    pub resolver: Option<Door>,
    pub relay: Doors,
    /// The host's end of the host port, where the relay listens.
    pub relay_address: Option<Ipv4Addr>,
    /// The indexes of targets to which the relay may connect, by what it has been told so far.
    pub relayed: BTreeSet<u32>,
    pub health: BTreeMap<CheckKey, Checked>,
    pub next_hops: BTreeMap<HopKey, Hop>,
    pub busy: Busy,
    pub unhealthy: BTreeSet<CheckKey>,
    pub lingering: BTreeMap<TargetKey, TargetGroupId>,
}

/// What a pass leaves for the next one.
#[derive(Default)]
pub struct Memory {
    rings: RingCache,
    settled: Option<Settled>,
    /// What the kernel holds if nobody else has written to its tables.
    expected: Option<Tables>,
}

/// A finished pass.
struct Settled {
    decided: desired::Memory,
    /// What the kernel holds.
    tables: Tables,
    /// Interfaces that go and come take entries of the kernel's tables with them.
    links: Arc<Links>,
    hooks: BTreeMap<u32, Hook>,
}

impl Memory {
    /// The next pass reads what the kernel holds, and says if that is not what was written.
    pub fn audit(&mut self) {
        self.expected = self.settled.take().map(|settled| settled.tables);
    }

    /// Whether the next pass can go on from the last.
    pub fn is_settled(&self) -> bool {
        self.settled.is_some()
    }
}

/// Makes what the kernel holds what it should hold; the plan, and how many operations it took.
///
/// # Errors
///
/// [`PassError`]; what was done until then stays, and the next pass finds it there.
pub fn converge(
    dataplane: &mut dyn Dataplane,
    inputs: &Inputs,
    memory: &mut Memory,
) -> Result<(Plan, usize), PassError> {
    let capacity = dataplane.capacity();
    let hooks = dataplane.attached();
    let Memory { rings, settled, expected } = memory;
    let same = |settled: &Settled| settled.links == inputs.links && settled.hooks == hooks;
    let further = settled.take().filter(same).and_then(|Settled { decided, tables, .. }| {
        let decision = desired::go_on(&inputs.world(&tables, &hooks, capacity), rings, decided)?;
        Some((tables, decision))
    });
    let (mut tables, decision) = match further {
        Some(further) => further,
        None => {
            let tables = dataplane.read()?;
            if expected.take().is_some_and(|expected| expected != tables) {
                tracing::warn!("the kernel's tables are not what was written; this pass mends them");
            }
            let decision = desired::decide(&inputs.world(&tables, &hooks, capacity), rings);
            (tables, decision)
        }
    };
    let Decision { desired, scope, plan, memory: decided } = decision;
    let (ops, full) = diff::diff(&desired, &scope, &tables, capacity);
    let ends = ops.iter().any(|op| ends_flows(op, &tables));
    for op in &ops {
        dataplane.apply(op)?;
        note(&mut tables, op, &desired);
    }
    if ends {
        dataplane.end_flows()?;
    }
    full?;
    let links = Arc::clone(&inputs.links);
    *settled = decided.map(|decided| Settled { decided, tables, links, hooks });
    Ok((plan, ops.len()))
}

/// What the kernel holds after an operation.
fn note(tables: &mut Tables, op: &Op, desired: &Desired) {
    tables.note(op);
    if let Op::PutListener(index, _) = op
        && let Some((installed, wanted)) = tables.listeners.get_mut(index).zip(desired.listeners.get(index))
    {
        installed.ring = Arc::clone(&wanted.ring);
    }
    if let Op::PutPolicy(index, _) = op
        && let Some((installed, wanted)) = tables.policies.get_mut(index).zip(desired.policies.get(index))
    {
        installed.bounds = Arc::clone(&wanted.sources);
    }
}

/// Whether an operation ends flows that are open: their target is gone or has become unhealthy, or their endpoint was
/// rejected or deleted.
fn ends_flows(op: &Op, actual: &Tables) -> bool {
    let other = |index: &u32, record: &Target| {
        actual.targets.get(index).is_some_and(|before| before.generation != record.generation)
    };
    matches!(op, Op::PutTarget(index, record) if other(index, record))
        || matches!(op, Op::PutEndpoint(_, budget) if budget.ended())
}

impl Inputs {
    /// With what the kernel holds, and where the programs are.
    fn world<'a>(&'a self, actual: &'a Tables, hooks: &'a BTreeMap<u32, Hook>, capacity: Capacity) -> World<'a> {
        let Self {
            state,
            links,
            host_port,
            resolver,
            relay,
            relay_address,
            relayed,
            health,
            next_hops,
            busy,
            unhealthy,
            lingering,
        } = self;
        World {
            state,
            links,
            host_port: *host_port,
            resolver: *resolver,
            relay,
            relay_address: relay_address.unwrap_or(Ipv4Addr::UNSPECIFIED),
            relayed,
            hooks,
            health,
            next_hops,
            actual,
            busy,
            unhealthy,
            lingering,
            capacity,
        }
    }
}

/// What a finished pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub operations: usize,
    pub took: Duration,
    /// It read what the kernel held.
    pub whole: bool,
}

/// The loop's own memory.
pub struct Reconciler {
    links: LinkService,
    memory: Memory,
    /// What was draining at the last pass.
    lingering: BTreeMap<TargetKey, TargetGroupId>,
    /// The host port that has its IPv6 side.
    ipv6: Option<u32>,
    /// Ports that this agent lets take all multicast frames.
    all_multicast: BTreeSet<u32>,
}

impl Reconciler {
    pub fn new(links: LinkService) -> Self {
        let (memory, lingering) = (Memory::default(), BTreeMap::new());
        Self { links, memory, lingering, ipv6: None, all_multicast: BTreeSet::new() }
    }

    fn inputs(&self, shared: &Shared) -> Inputs {
        let (state, host_port) = (shared.store.state(), shared.host_port());
        let (doors, relayed) = {
            let relay = shared.relay();
            (Doors::of(relay.status()), relay.indexes(&state, host_port))
        };
        let mut busy = shared.busy();
        busy.targets.extend(&relayed);
        Inputs {
            state,
            links: shared.links(),
            host_port,
            resolver: shared.resolver,
            relay: doors,
            relay_address: Some(shared.host_pair.address),
            relayed,
            health: shared.health().clone(),
            next_hops: shared.neighbors().hops(),
            busy,
            unhealthy: shared.unhealthy().clone(),
            lingering: self.lingering.clone(),
        }
    }

    /// The links as they are now, with the host port among them, whoever took it away.
    async fn links_now(&mut self, shared: &Shared) -> Result<Links, LinkError> {
        let links = self.links.links().await?;
        if shared.host_port().is_some_and(|host_port| links.contains_key(&host_port.ifindex)) {
            self.prepare_ipv6(shared, &links).await;
            return Ok(links);
        }
        tracing::warn!(interface = shared.host_pair.port, "the host port is gone and is made again");
        let host_port = host_port::ensure(&self.links, &shared.host_pair).await?;
        *super::lock(&shared.host_port) = Some(host_port);
        let links = self.links.links().await?;
        self.prepare_ipv6(shared, &links).await;
        Ok(links)
    }

    /// What IPv6 needs of the links, as far as a VPC has IPv6 addresses: the host port's IPv6 side, and ports that hear
    /// neighbour solicitations. What fails is tried again at the next pass.
    async fn prepare_ipv6(&mut self, shared: &Shared, links: &Links) {
        let state = shared.store.state();
        let host_port = shared.host_port().map(|host_port| host_port.ifindex);
        if desired::has_ipv6(&state) && self.ipv6 != host_port {
            match host_port::ensure_ipv6(&self.links, &shared.host_pair).await {
                Ok(()) => self.ipv6 = host_port,
                Err(error) => tracing::warn!(%error, "IPv6 targets cannot be checked"),
            }
        }
        let has_ipv6 = |port: &&Port| state.vpcs.get(&port.vpc).is_some_and(|vpc| vpc.ipv6.is_some());
        let index =
            |port: &Port| links.values().find(|link| link.name == port.interface.as_str()).map(|link| link.ifindex);
        let wanted: BTreeSet<u32> = state.ports.values().filter(has_ipv6).filter_map(index).collect();
        let present: BTreeSet<u32> = self.all_multicast.iter().copied().filter(|at| links.contains_key(at)).collect();
        self.all_multicast.clone_from(&present);
        for ifindex in wanted.symmetric_difference(&present) {
            let on = wanted.contains(ifindex);
            match self.links.set_all_multicast(*ifindex, on).await {
                Ok(()) if on => drop(self.all_multicast.insert(*ifindex)),
                Ok(()) => drop(self.all_multicast.remove(ifindex)),
                Err(error) => tracing::warn!(%error, "IPv6 neighbours may find no endpoint here"),
            }
        }
    }

    /// Takes over what the kernel knows from an earlier agent: targets that take traffic count as healthy until a check
    /// says otherwise, and next hops are used until an answer changes them.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Map`] when the tables cannot be read.
    pub fn adopt(&mut self, shared: &Shared) -> Result<(), DataplaneError> {
        let inputs = self.inputs(shared);
        let (actual, hooks, capacity) = {
            let dataplane = shared.dataplane();
            (dataplane.read()?, dataplane.attached(), dataplane.capacity())
        };
        let Decision { plan, .. } = desired::decide(&inputs.world(&actual, &hooks, capacity), &mut self.memory.rings);
        let (health, hops) = adopted(&plan, &inputs.state, &actual, capacity, &inputs.relayed);
        *shared.health() = health;
        shared.neighbors().adopt(hops, shared.now());
        Ok(())
    }

    /// One pass: from whatever the kernel holds to what it should hold.
    ///
    /// # Errors
    ///
    /// [`PassError`]; everything that could be done is done.
    pub fn pass(&mut self, shared: &Shared) -> Result<Passed, PassError> {
        let begun = Instant::now();
        let whole = !self.memory.is_settled();
        let mut inputs = self.inputs(shared);
        let mut guard = shared.dataplane();
        let dataplane: &mut dyn Dataplane = &mut **guard;
        let detached = ports::detach_others(shared, dataplane, &inputs.state, &inputs.links);
        let (mut plan, mut operations) = converge(dataplane, &inputs, &mut self.memory)?;
        let handled = std::mem::take(&mut inputs.unhealthy);
        shared.unhealthy().retain(|key| !handled.contains(key));
        let (changed, attached) = ports::attach_all(shared, dataplane, &inputs.state, &inputs.links);
        if changed {
            // The ports' records say where the programs are.
            let (again, more) = converge(dataplane, &inputs, &mut self.memory)?;
            (plan, operations) = (again, operations + more);
        }
        drop(guard);
        for table in &plan.full {
            tracing::warn!(table, "no room: some resources are not forwarded");
        }
        self.lingering.clone_from(&plan.lingering);
        shared.installed.send_replace(Arc::new(installed(&inputs.state, &plan)));
        replace(&shared.plan, plan);
        let healthy = inputs.health.iter().filter(|(_, checked)| checked.takes_traffic());
        replace(&shared.healthy, healthy.map(|(key, _)| (key.group.clone(), key.target)).collect());
        if detached && attached {
            Ok(Passed { operations, took: begun.elapsed(), whole })
        } else {
            Err(PassError::Ports)
        }
    }
}

/// Sends `value` if it is another one.
fn replace<T: PartialEq>(to: &watch::Sender<Arc<T>>, value: T) {
    to.send_if_modified(|present| {
        let modified = **present != value;
        if modified {
            *present = Arc::new(value);
        }
        modified
    });
}

/// What the tables say of `state` after a pass.
fn installed(state: &Arc<State>, plan: &Plan) -> Installed {
    let crowded_out = if plan.full.is_empty() {
        CrowdedOut::default()
    } else {
        let listening: BTreeSet<&ListenerId> = plan.listeners.keys().map(|(listener, _)| listener).collect();
        CrowdedOut::new(state, |id| listening.contains(id), |id| plan.endpoints.contains_key(id))
    };
    Installed { state: Arc::clone(state), crowded_out }
}

/// Healthy are the targets in a ring of a listener, and those that the relay uses; known are the next hops in the
/// targets' records.
fn adopted(
    plan: &Plan,
    state: &State,
    actual: &Tables,
    capacity: Capacity,
    relayed: &BTreeSet<u32>,
) -> (BTreeMap<CheckKey, Checked>, Vec<(HopKey, Hop)>) {
    let checks = desired::first_check_listener(capacity);
    let in_rings: BTreeSet<u32> = actual
        .listeners
        .range(..checks)
        .flat_map(|(_, installed)| installed.ring.iter().map(|entry| RingEntry(*entry).target()))
        .chain(relayed.iter().copied())
        .collect();
    let takes_traffic = |key: &TargetKey| plan.targets.get(key).is_some_and(|index| in_rings.contains(index));
    let health = plan
        .registrations
        .iter()
        .filter(|(check, keys)| plan.checks.contains_key(check) && keys.iter().any(takes_traffic))
        .map(|(check, _)| (check.clone(), Checked::Healthy { failed: 0 }))
        .collect();
    let hops = plan.targets.iter().filter_map(|(key, index)| {
        let record = actual.targets.get(index).filter(|record| record.flags.has(TargetFlags::RESOLVED))?;
        let vpc = state.vpcs.get(plan.vpcs.get(&key.vpc)?)?;
        let ip = vpc.next_hop(key.ip)?;
        Some((HopKey { vpc: key.vpc, ip }, Hop { ifindex: record.ifindex, mac: record.mac.0 }))
    });
    (health, hops.collect())
}

/// Reconciles until `stop`.
pub async fn run(mut reconciler: Reconciler, shared: Arc<Shared>, stop: CancellationToken) {
    let mut states = shared.store.watch();
    let (mut changed_links, watcher) = match watch_links() {
        Ok(watch) => watch,
        Err(error) => {
            tracing::error!(%error, "changes of links go unseen until the next full pass");
            let (_, never) = watch::channel(0);
            (never, tokio::spawn(std::future::pending()))
        }
    };
    let mut due = tokio::time::Instant::now();
    let mut retry = FIRST_RETRY;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            changed = states.changed() => if changed.is_err() { break },
            Ok(()) = changed_links.changed() => {}
            () = shared.reconcile.notified() => {}
            () = tokio::time::sleep_until(due) => reconciler.memory.audit(),
        }
        states.mark_unchanged();
        changed_links.mark_unchanged();
        let result = match reconciler.links_now(&shared).await {
            Ok(links) => {
                *super::lock(&shared.links) = Arc::new(links);
                tokio::task::block_in_place(|| reconciler.pass(&shared))
            }
            Err(error) => Err(error.into()),
        };
        match result {
            Ok(Passed { operations, took, whole }) => {
                tracing::debug!(operations, ?took, whole, "pass");
                retry = FIRST_RETRY;
                if whole {
                    due = tokio::time::Instant::now() + QUIET;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a pass did not finish; it is tried again");
                due = tokio::time::Instant::now() + retry;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
    watcher.abort();
}
