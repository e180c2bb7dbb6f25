//! The reconciler: what the kernel's tables should say, how they differ from what they say, and the loops that keep
//! the two together.
//!
//! ```text
//!  store ──watch──┐
//!  links ─────────┤
//!  checker ───────┼─► reconcile: desired(world) ─► diff ─► Dataplane::apply ─► plan ──► checker, neighbors, answers
//!  neighbors ─────┘
//! ```
//!
//! [`desired`], [`diff`], [`index`] and [`ring`] are pure. One lock guards the dataplane; the other locks guard plain
//! data and are held for no longer than a copy.

pub mod answers;
pub mod checker;
pub mod desired;
pub mod diff;
pub mod drain;
pub mod explain;
pub mod gc;
pub mod host_port;
pub mod index;
pub mod names;
pub mod neighbors;
pub mod passive;
pub mod plan;
pub mod ports;
pub mod rates;
pub mod reconcile;
pub mod relay;
pub mod resolver;
pub mod ring;
pub mod security;
#[cfg(test)]
mod tests;
pub mod usage;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ipnet::Ipv4Net;
use privatelink_ebpf::abi::{
    addr::IPV6,
    event::{Event, EventKind},
};
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::{
    index::Busy,
    neighbors::{Heard, Neighbors},
    plan::{CheckKey, HostPort, Plan},
    rates::Rates,
};
use crate::{
    control::Installed,
    dataplane::{
        Dataplane, DataplaneError, events,
        kernel::{Kernel, Streams},
        load, pin,
    },
    dns,
    health::{dial::Dialer, state::Checked, tls::Tls},
    model::{InterfaceName, TargetGroupId},
    net::links::{self, LinkError, LinkService, Links},
    runtime::{ChecksDone, PortStatus, Runtime},
    store::Store,
    tls::relay::wire,
};

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct Options {
    pub dataplane: load::Options,
    /// Internal addresses of targets, inside 100.64.0.0/10; 16 bits long or shorter prefix.
    pub host_prefix: Ipv4Net,
    pub dns: dns::Options,
    /// Where connections of TLS listeners are logged.
    pub access_log: Option<std::path::PathBuf>,
}

impl Options {
    /// The defaults for one state directory.
    pub fn new(state_dir: impl Into<std::path::PathBuf>) -> Self {
        Self {
            dataplane: load::Options::new(state_dir),
            host_prefix: host_port::DEFAULT_PREFIX,
            dns: dns::Options::default(),
            access_log: None,
        }
    }
}

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Dataplane(#[from] DataplaneError),
    #[error(transparent)]
    Links(#[from] LinkError),
    #[error("HTTPS health checks are not possible: {0}")]
    Tls(#[from] rustls::Error),
    #[error("names cannot be served at {address}: {source}; `ss -lnp` shows who else listens there")]
    Dns { address: SocketAddr, source: std::io::Error },
    #[error(
        "the prefix {prefix} of internal addresses is outside {range}, or half of it has no room for {targets} targets"
    )]
    HostPrefix { prefix: Ipv4Net, range: Ipv4Net, targets: u32 },
}

/// What the loops share.
pub struct Shared {
    pub store: Arc<Store>,
    dataplane: Mutex<Box<dyn Dataplane>>,
    links: Mutex<Arc<Links>>,
    health: Mutex<BTreeMap<CheckKey, Checked>>,
    /// Targets that have just become unhealthy; the reconciler decides about their flows.
    unhealthy: Mutex<BTreeSet<CheckKey>>,
    /// What the checks of each group came to.
    checks: Mutex<BTreeMap<TargetGroupId, ChecksDone>>,
    neighbors: Mutex<Neighbors>,
    busy: Mutex<Busy>,
    ports: Mutex<BTreeMap<InterfaceName, PortStatus>>,
    /// What load balancers did in the last minute.
    rates: Mutex<Rates>,
    /// What the last pass decided.
    pub plan: watch::Sender<Arc<Plan>>,
    /// What the kernel's tables say since the last pass.
    installed: watch::Sender<Arc<Installed>>,
    /// Targets that are healthy, as of the last pass: what names lead to follows.
    healthy: watch::Sender<Arc<dns::zones::Healthy>>,
    /// Something changed that the reconciler cannot see by itself.
    pub reconcile: Notify,
    host_port: Mutex<Option<HostPort>>,
    /// Where the DNS server listens on the host port.
    resolver: Option<resolver::Door>,
    host_pair: links::Pair,
    relay: Mutex<relay::Known>,
    started: Instant,
}

impl Shared {
    fn dataplane(&self) -> MutexGuard<'_, Box<dyn Dataplane>> {
        lock(&self.dataplane)
    }

    fn health(&self) -> MutexGuard<'_, BTreeMap<CheckKey, Checked>> {
        lock(&self.health)
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<TargetGroupId, ChecksDone>> {
        lock(&self.checks)
    }

    fn unhealthy(&self) -> MutexGuard<'_, BTreeSet<CheckKey>> {
        lock(&self.unhealthy)
    }

    fn neighbors(&self) -> MutexGuard<'_, Neighbors> {
        lock(&self.neighbors)
    }

    fn links(&self) -> Arc<Links> {
        lock(&self.links).clone()
    }

    fn ports(&self) -> MutexGuard<'_, BTreeMap<InterfaceName, PortStatus>> {
        lock(&self.ports)
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        lock(&self.rates)
    }

    fn host_port(&self) -> Option<HostPort> {
        *lock(&self.host_port)
    }

    fn relay(&self) -> MutexGuard<'_, relay::Known> {
        lock(&self.relay)
    }

    /// Notes what the relay does.
    fn set_relay(&self, status: wire::Status) {
        if self.relay().says(status) {
            self.reconcile.notify_one();
        }
    }

    fn busy(&self) -> Busy {
        lock(&self.busy).clone()
    }

    fn set_busy(&self, busy: Busy) {
        *lock(&self.busy) = busy;
    }

    /// Milliseconds on the agent's monotonic clock.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the locks guard is consistent at every point where a panic could happen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A started agent: programs loaded, tables as the state wants them, ports attached.
pub struct Agent {
    shared: Arc<Shared>,
    streams: Streams,
    reconciler: reconcile::Reconciler,
    tls: Tls,
    names: Names,
    relay: relay::Options,
}

/// The DNS server's sockets, and what it answers from.
struct Names {
    from: Arc<dns::server::Names>,
    outside: Vec<dns::server::Sockets>,
    inside: Option<dns::server::Sockets>,
    /// Who is asked for the names of targets.
    resolver: dns::upstream::Upstreams,
}

impl Agent {
    /// Loads or adopts the datapath and makes it what the state says, once.
    ///
    /// # Errors
    ///
    /// [`AgentError`] when the datapath cannot be had. A port that cannot be attached is no error: it is reported by
    /// [`Runtime::ports`] and tried again.
    pub async fn start(options: Options, store: Arc<Store>) -> Result<Self, AgentError> {
        let Options { dataplane: load, host_prefix, dns, access_log } = options;
        let room = (1u64 << (32 - host_prefix.prefix_len())) / 2;
        let needed = u64::from(HostPort::FIRST_TARGET) + u64::from(load.max_targets);
        if !host_port::RANGE.contains(&host_prefix) || room < needed {
            return Err(AgentError::HostPrefix {
                prefix: host_prefix,
                range: host_port::RANGE,
                targets: load.max_targets,
            });
        }
        let tls = Tls::new()?;
        let dns::Options { listen, upstreams, outside_only } = dns;
        let mut outside = Vec::new();
        for address in listen {
            let bound = dns::server::Sockets::bind(address).await;
            outside.push(bound.map_err(|source| AgentError::Dns { address, source })?);
        }
        let resolver = dns::upstream::Upstreams::new(upstreams.clone());
        let healthy = watch::Sender::default();
        let from = Arc::new(dns::server::Names::new(Arc::clone(&store), healthy.subscribe(), upstreams));
        let instance = pin::instance(&load.state_dir);
        let service = LinkService::connect()?;
        let host_pair = host_port::pair(&instance, host_prefix);
        service.check_prefix(&host_pair).await?;
        let (kernel, streams) = tokio::task::block_in_place(|| Kernel::open(&load))?;
        let host_port = host_port::ensure(&service, &host_pair).await?;
        let inside = if outside_only { None } else { resolver::open(host_pair.address).await };
        let (inside, door) = inside.unzip();
        let links = service.links().await?;
        let busy = tokio::task::block_in_place(|| gc::busy(&kernel))?;
        // Before the first pass, which would end the connections of listeners that nobody serves.
        let relay = relay::present(&load.state_dir).await;
        let shared = Arc::new(Shared {
            store,
            dataplane: Mutex::new(Box::new(kernel)),
            links: Mutex::new(Arc::new(links)),
            health: Mutex::default(),
            unhealthy: Mutex::default(),
            checks: Mutex::default(),
            neighbors: Mutex::default(),
            busy: Mutex::new(busy),
            ports: Mutex::default(),
            rates: Mutex::default(),
            plan: watch::Sender::default(),
            installed: watch::Sender::default(),
            healthy,
            reconcile: Notify::new(),
            host_port: Mutex::new(Some(host_port)),
            resolver: door,
            host_pair,
            relay: Mutex::new(relay::Known::new(relay)),
            started: Instant::now(),
        });
        let mut reconciler = reconcile::Reconciler::new(service);
        reconciler.adopt(&shared)?;
        if let Err(error) = reconciler.pass(&shared) {
            tracing::warn!(%error, "the first pass did not finish; the next ones go on");
        }
        // What an agent that was killed between two steps has left: ended, and neither end knows it.
        if let Err(error) = tokio::task::block_in_place(|| shared.dataplane().end_flows()) {
            tracing::warn!(%error, "flows that have ended stay until their next packet or the next sweep");
        }
        let relay = relay::Options { state_dir: load.state_dir, access_log };
        Ok(Self { shared, streams, reconciler, tls, names: Names { from, outside, inside, resolver }, relay })
    }

    /// What the API asks.
    pub fn runtime(&self) -> Arc<dyn Runtime> {
        Arc::new(answers::Answers::new(Arc::clone(&self.shared)))
    }

    /// Keeps everything going until `stop`. The kernel goes on forwarding afterwards.
    pub async fn run(self, stop: CancellationToken) {
        let Self { shared, streams, reconciler, tls, names, relay } = self;
        let Streams { events, flows, log } = streams;
        let (heard, hears) = mpsc::channel(4_096);
        let (records, recorded) = mpsc::channel(4_096);
        let probes = checker::Probes {
            dialer: Dialer { device: Some(shared.host_pair.host.clone()), proxy_protocol: false },
            tls,
        };
        let (suspects, suspicions) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        tasks.spawn(events::read(events, records, stop.clone()));
        tasks.spawn(forward(recorded, heard));
        tasks.spawn(reconcile::run(reconciler, Arc::clone(&shared), stop.clone()));
        tasks.spawn(checker::run(Arc::clone(&shared), probes, suspicions, stop.clone()));
        tasks.spawn(relay::run(Arc::clone(&shared), relay, stop.clone()));
        tasks.spawn(passive::run(Arc::clone(&shared), suspects, stop.clone()));
        let (a, b, c, d) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        let stops = [stop.clone(), stop.clone(), stop.clone(), stop.clone()];
        let [stop_a, stop_b, stop_c, stop_d] = stops;
        tasks.spawn(async move { neighbors::run(&a, hears, stop_a).await });
        tasks.spawn(async move { drain::run(&b, stop_b).await });
        tasks.spawn(async move { gc::collect(&c, stop_c).await });
        tasks.spawn(async move { gc::sweep(&d, stop_d).await });
        let (e, stop_e) = (Arc::clone(&shared), stop.clone());
        tasks.spawn(async move { rates::sample(&e, stop_e).await });
        let Names { from, outside, inside, resolver } = names;
        let (f, stop_f) = (Arc::clone(&shared), stop.clone());
        tasks.spawn(async move { names::run(&f, resolver, stop_f).await });
        if !outside.is_empty() {
            let anybody = Box::new(dns::server::AnybodyOutside);
            tasks.spawn(dns::server::serve(Arc::clone(&from), anybody, outside, stop.clone()));
        }
        if let Some(inside) = inside {
            let askers = Box::new(resolver::Inside { shared: Arc::clone(&shared), flows });
            tasks.spawn(dns::server::serve(from, askers, vec![inside], stop.clone()));
        }
        if let Some(log) = log {
            tasks.spawn(bridge(log, stop.clone()));
        }
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(()) if stop.is_cancelled() => {}
                Ok(()) => tracing::debug!("a task of the agent ended"),
                Err(error) => tracing::error!(%error, "a task of the agent failed"),
            }
        }
    }
}

/// Picks what the agent acts on out of the datapath's records.
async fn forward(mut records: mpsc::Receiver<(EventKind, Event)>, heard: mpsc::Sender<Heard>) {
    while let Some((kind, event)) = records.recv().await {
        match kind {
            EventKind::Neighbor => {
                let ip = match event.proto & IPV6 {
                    0 => IpAddr::V4(event.client.into()),
                    _ => IpAddr::V6(event.address6.into()),
                };
                // A full queue means that answers come faster than they are used; the next refresh asks again.
                let _ = heard.try_send(Heard { ifindex: event.ifindex, ip, mac: event.mac.0 });
            }
            EventKind::FlowOpened | EventKind::FlowClosed => {
                tracing::trace!(?kind, ?event, "flow");
            }
        }
    }
}

/// Brings the programs' debug lines into the agent's log.
async fn bridge(mut log: aya_log::EbpfLogger<&'static dyn log::Log>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        log.flush();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes the datapath of an instance out of the kernel: links, tables, host port; and ends its relay. Flows end.
///
/// # Errors
///
/// [`AgentError`] with what cannot be taken out.
pub async fn remove(options: &Options) -> Result<load::Removed, AgentError> {
    if let Err(error) = relay::stop(&options.dataplane.state_dir).await {
        tracing::warn!(%error, "the relay goes on");
    }
    let removed = load::remove(&options.dataplane)?;
    let pair = host_port::pair(&pin::instance(&options.dataplane.state_dir), options.host_prefix);
    LinkService::connect()?.delete(&pair.host).await?;
    Ok(removed)
}
