//! Runs the health checks that the plan names, and says when a target's health changes. A suspicion of the passive
//! checks counts as a failure and is followed up by probes at once, until one passes or the target is unhealthy.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use privatelink_ebpf::abi::Counter;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    plan::{Check, CheckKey, Plan},
};
use crate::{
    health::{
        dial::Dialer,
        probe_http::{self, HttpCheck},
        probe_tcp,
        schedule::Schedule,
        state::{Checked, Failure, Outcome, Thresholds},
        tls::Tls,
    },
    model::{HealthCheck, HealthCheckProtocol, TargetGroupId},
    runtime::ChecksDone,
    tls::verified::Verify,
};

/// Checks under way at once: each holds a descriptor.
const AT_ONCE: usize = 1_024;

/// Between the probes that follow a suspicion up, in milliseconds.
const FOLLOW_UP: u64 = 1_000;

/// How probes reach targets.
#[derive(Clone)]
pub struct Probes {
    pub dialer: Dialer,
    pub tls: Tls,
}

/// A target whose clients' connections fail.
#[derive(Clone, Debug)]
pub struct Suspicion {
    pub key: CheckKey,
    pub failure: Failure,
}

/// Checks until `stop`.
pub async fn run(shared: Arc<Shared>, how: Probes, mut suspicions: mpsc::Receiver<Suspicion>, stop: CancellationToken) {
    let mut schedule: Schedule<CheckKey> = Schedule::new(rand::random());
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut clients = Clients { unverified: how.tls.clone(), verifying: HashMap::new() };
    let mut probes: JoinSet<Probed> = JoinSet::new();
    let mut crowded = false;
    let mut suspected: HashSet<CheckKey> = HashSet::new();
    let mut plans = shared.plan.subscribe();
    let mut plan = plans.borrow_and_update().clone();
    adjust(&mut schedule, &shared, &plan);
    loop {
        let wait = schedule.next_due().map_or(1_000, |due| due.saturating_sub(shared.now())).min(1_000);
        tokio::select! {
            () = stop.cancelled() => break,
            changed = plans.changed() => {
                if changed.is_err() {
                    break;
                }
                plan = plans.borrow_and_update().clone();
                adjust(&mut schedule, &shared, &plan);
            }
            Some(done) = probes.join_next() => {
                if let Ok(Probed { key, refused, outcome }) = done {
                    let outcome = match outcome {
                        // The refusal may have been the probe's own.
                        Outcome::Failed(_) if refusals(&shared) != refused => Outcome::NoRoom,
                        told => told,
                    };
                    if outcome == Outcome::NoRoom && !crowded {
                        tracing::warn!("the flow table is full: checks that fail say nothing about their targets");
                    }
                    crowded = outcome == Outcome::NoRoom;
                    count(&shared, &key.group, |checks| match outcome {
                        Outcome::Passed => &mut checks.passed,
                        Outcome::Failed(_) => &mut checks.failed,
                        Outcome::NoRoom => &mut checks.without_room,
                    });
                    let open = observe(&shared, &plan, &key, outcome) && outcome != Outcome::Passed;
                    if !open {
                        suspected.remove(&key);
                    } else if suspected.contains(&key) {
                        schedule.expedite(&key, shared.now() + FOLLOW_UP);
                    }
                }
                continue;
            }
            Some(Suspicion { key, failure }) = suspicions.recv() => {
                tracing::info!(group = %key.group, target = %key.target, ?failure, "clients' connections fail");
                count(&shared, &key.group, |checks| &mut checks.suspicions);
                if observe(&shared, &plan, &key, Outcome::Failed(failure)) {
                    schedule.expedite(&key, shared.now());
                    suspected.insert(key);
                }
            }
            () = tokio::time::sleep(Duration::from_millis(wait)) => {}
        }
        let due = schedule.take_due(shared.now());
        let refused = if due.is_empty() { None } else { refusals(&shared) };
        for key in due {
            let Some(check) = plan.checks.get(&key).cloned() else { continue };
            let slots = Arc::clone(&slots);
            let how = clients.of(&check).map(|tls| Probes { tls, ..how.clone() });
            probes.spawn(async move {
                let _slot = slots.acquire().await;
                let outcome = match how {
                    Some(how) => probe(&how, &check).await,
                    None => Outcome::Failed(Failure::Internal),
                };
                Probed { key, refused, outcome }
            });
        }
    }
    probes.shutdown().await;
}

/// A probe that has ended.
struct Probed {
    key: CheckKey,
    /// [`refusals`] before it began.
    refused: Option<u64>,
    outcome: Outcome,
}

/// How many new flows the kernel has refused because its table was full; none if it cannot say.
fn refusals(shared: &Shared) -> Option<u64> {
    shared.dataplane().counter(Counter::FlowTableFull).ok()
}

/// Who speaks TLS with the targets of a check. A client that validates has read its authorities once.
struct Clients {
    unverified: Tls,
    verifying: HashMap<Arc<Verify>, Tls>,
}

impl Clients {
    /// None if the cryptography that this was built with supports no version of TLS.
    fn of(&mut self, check: &Check) -> Option<Tls> {
        let Some(verify) = &check.verify else { return Some(self.unverified.clone()) };
        if let Some(known) = self.verifying.get(verify) {
            return Some(known.clone());
        }
        // Groups are few, and so are changes of their authorities.
        const KEPT: usize = 256;
        if self.verifying.len() >= KEPT {
            self.verifying.clear();
        }
        let made = Tls::verifying(verify).ok()?;
        self.verifying.insert(Arc::clone(verify), made.clone());
        Some(made)
    }
}

/// Takes over the plan's checks: new ones begin, gone ones and their health are forgotten.
fn adjust(schedule: &mut Schedule<CheckKey>, shared: &Shared, plan: &Plan) {
    let wanted: HashMap<CheckKey, u64> = plan
        .checks
        .iter()
        .filter(|(_, check)| check.address.is_some())
        .map(|(key, check)| (key.clone(), u64::from(check.settings.interval) * 1_000))
        .collect();
    schedule.retain_and_add(&wanted, shared.now());
    shared.health().retain(|key, _| plan.checks.contains_key(key));
    let groups: HashSet<&TargetGroupId> = plan.checks.keys().map(|key| &key.group).collect();
    shared.checks().retain(|group, _| groups.contains(group));
}

async fn probe(how: &Probes, check: &Check) -> Outcome {
    let Probes { dialer, tls } = how;
    let Check { address, node, listener_port, next_hop: _, proxy_protocol, verify: _, passive: _, settings } = check;
    let dialer = &Dialer { proxy_protocol: *proxy_protocol, ..dialer.clone() };
    let Some(address) = address else { return Outcome::Failed(Failure::Internal) };
    let HealthCheck {
        protocol,
        port: _,
        path,
        interval: _,
        timeout,
        healthy_threshold: _,
        unhealthy_threshold: _,
        matcher,
    } = settings;
    let address = *address;
    let limit = Duration::from_secs(u64::from(*timeout));
    let tls = match protocol {
        HealthCheckProtocol::Tcp => return probe_tcp::probe(dialer, address, limit).await,
        HealthCheckProtocol::Http => None,
        HealthCheckProtocol::Https => Some(tls),
    };
    let request = HttpCheck { path: path.as_str().to_owned(), node: *node, listener_port: *listener_port };
    probe_http::probe(dialer, tls, address, &request, |code| matcher.matches(code), limit).await
}

/// Counts for the metrics.
fn count(shared: &Shared, group: &TargetGroupId, which: impl FnOnce(&mut ChecksDone) -> &mut u64) {
    let mut checks = shared.checks();
    *which(checks.entry(group.clone()).or_insert_with_key(|group| ChecksDone::none(group.clone()))) += 1;
}

/// Notes an outcome; whether the target takes traffic afterwards.
fn observe(shared: &Shared, plan: &Plan, key: &CheckKey, outcome: Outcome) -> bool {
    let Some(check) = plan.checks.get(key) else { return false };
    let thresholds =
        Thresholds { healthy: check.settings.healthy_threshold, unhealthy: check.settings.unhealthy_threshold };
    if let (Outcome::Failed(Failure::Timeout | Failure::Refused), Some(hop)) = (outcome, check.next_hop) {
        shared.neighbors().doubt(&hop, shared.now());
    }
    let (before, after) = record(&mut shared.health(), key, outcome, thresholds, shared.now());
    if before.takes_traffic() == after.takes_traffic() {
        return after.takes_traffic();
    }
    let CheckKey { group, target } = key;
    if after.takes_traffic() {
        tracing::info!(%group, %target, "target is healthy");
    } else {
        tracing::info!(%group, %target, ?outcome, "target is unhealthy");
        shared.unhealthy().insert(key.clone());
    }
    shared.reconcile.notify_one();
    after.takes_traffic()
}

fn record(
    health: &mut BTreeMap<CheckKey, Checked>,
    key: &CheckKey,
    outcome: Outcome,
    thresholds: Thresholds,
    now: u64,
) -> (Checked, Checked) {
    let state = health.entry(key.clone()).or_insert(Checked::NEW);
    let before = *state;
    *state = before.observe(outcome, thresholds, now);
    (before, *state)
}
