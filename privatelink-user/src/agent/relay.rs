//! TLS listeners as the datapath sees them: each leads to a port of the relay, on the host port, which is a client of
//! the targets in turn; and the loop that tells the relay what to serve and starts it where none answers.
//!
//! The node address that the relay sees is that of the provider's VPC in the host port's prefix, as for the DNS server.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use privatelink_ebpf::abi::{
    Proto, VpcIndex,
    service::{ListenerFlags, TargetFlags},
};
use tokio::{
    net::UnixStream,
    process::Command,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    desired::{self, Desired, World, vpc_index},
    index::TargetKey,
    plan::{HostPort, Plan},
    security,
};
use crate::{
    confine::files,
    model::{
        Certificate, CertificateId, IpFamily, Listener, ListenerId, LoadBalancer, Opening, Protocol, State,
        TargetAddress, TargetGroup, TargetGroupId, TargetTrust, Vpc,
    },
    tls::{
        relay::{
            build,
            wire::{self, Config, Device, Group, ListenerConfig, Pem, Request, Status},
        },
        verified::{Roots, Verify},
    },
};

/// Where the relay listens on the host port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    pub ports: BTreeMap<ListenerId, u16>,
}

impl Doors {
    /// As the relay says.
    pub fn of(status: &Status) -> Self {
        Self { ports: status.listeners.iter().map(|(id, listener)| (id.clone(), listener.port)).collect() }
    }
}

/// What the agent knows of the relay.
#[derive(Debug, Default)]
pub struct Known {
    /// What it does, as it has said last.
    status: Arc<Status>,
    /// Where it has been told to let connections go since then.
    told: BTreeSet<SocketAddrV4>,
}

impl Known {
    /// What it has said.
    pub fn new(status: Status) -> Self {
        Self { status: Arc::new(status), told: BTreeSet::new() }
    }

    /// What it does.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Notes what it is about to be told: it may connect there before it says so.
    pub fn tell(&mut self, config: &Config) {
        self.told.extend(config.targets());
    }

    /// Notes what it does now. Whether that is the reconciler's business: a listener has another port, or it connects
    /// to a target no longer.
    #[must_use]
    pub fn says(&mut self, status: Status) -> bool {
        let let_go = self.targets().any(|target| !status.targets.contains(target));
        let moved = Doors::of(&self.status) != Doors::of(&status);
        *self = Self::new(status);
        let_go || moved
    }

    /// The internal addresses to which it may connect.
    fn targets(&self) -> impl Iterator<Item = &SocketAddrV4> {
        self.told.union(&self.status.targets)
    }

    /// The indexes of the targets to which it may connect: none where there is no TLS listener, because nobody gets to
    /// it then, and nobody talks to it either.
    pub fn indexes(&self, state: &State, host_port: Option<HostPort>) -> BTreeSet<u32> {
        let reached = state.listeners.values().any(|listener| listener.tls.is_some());
        let Some(host_port) = host_port.filter(|_| reached) else { return BTreeSet::new() };
        self.targets().filter_map(|target| host_port.index(*target.ip())).collect()
    }
}

/// Each TLS listener's place in the relay, as a target.
pub fn doors<'a>(world: &World<'a>) -> BTreeMap<&'a ListenerId, TargetKey> {
    let Some(host_port) = world.host_port else { return BTreeMap::new() };
    let state = world.state;
    let door = |listener: &'a Listener| {
        listener.tls.as_ref()?;
        let lb = state.load_balancers.get(&listener.load_balancer)?;
        let node = host_port.of_vpc(state.vpcs.get(&lb.vpc).and_then(vpc_index)?)?;
        let port = *world.relay.ports.get(&listener.id)?;
        let key = TargetKey {
            vpc: VpcIndex::HOST,
            node: node.into(),
            ip: world.relay_address.into(),
            port,
            proto: Proto::Tcp,
        };
        Some((&listener.id, key))
    };
    state.listeners.values().filter_map(door).collect()
}

/// Makes the targets of a TLS listener reachable for the relay: all that are registered, so that open connections live
/// on; which of them may have new ones goes into the plan.
pub fn upstreams(
    world: &World<'_>,
    chosen: &BTreeMap<&TargetGroupId, Vec<TargetAddress>>,
    listener: &Listener,
    lb: &LoadBalancer,
    vpc: VpcIndex,
    desired: &mut Desired,
    plan: &mut Plan,
) -> ListenerFlags {
    let Some(host_port) = world.host_port else { return ListenerFlags::default() };
    let mut groups = Vec::new();
    let mut denied = false;
    for (id, weight) in &listener.forward.weights {
        let Some(group) = world.state.target_groups.get(id) else { continue };
        let live: BTreeSet<TargetAddress> = chosen.get(id).into_iter().flatten().copied().collect();
        let mut targets = Vec::new();
        for target in group.targets.keys() {
            let allowed = security::outbound(world.state, lb, [Opening::Tcp(target.port); 2], target.ip);
            denied |= !allowed && live.contains(target);
            for node in &lb.addresses {
                let key = TargetKey { vpc, node: (*node).into(), ip: target.ip, port: target.port, proto: Proto::Tcp };
                let Some(&index) = plan.targets.get(&key) else { continue };
                let Some(SocketAddr::V4(way)) =
                    desired::way_to(world, &host_port, (index, IpFamily::Ipv4), target.port, allowed, desired)
                else {
                    continue;
                };
                if allowed && live.contains(target) {
                    targets.push(way);
                }
            }
        }
        if weight.get() > 0 && !targets.is_empty() {
            groups.push(Group {
                weight: weight.get(),
                tls: group.protocol == Protocol::Tls,
                verify: verify(world.state, group),
                proxy_v2: group.attributes.proxy_protocol_v2,
                targets,
            });
        }
    }
    let flags = if denied && groups.is_empty() { ListenerFlags::OUTBOUND_DENIED } else { ListenerFlags::default() };
    plan.upstreams.insert(listener.id.clone(), groups);
    flags
}

/// Targets that no group in use has any more, and their next hops. They stay until the relay has said that it connects
/// to them no longer: what it is told takes effect after what the kernel is told, and a connection to nobody's address
/// would find out by silence. `wanted` are those that have another reason to stay.
pub fn kept(world: &World<'_>, wanted: impl Fn(&TargetKey) -> bool) -> Vec<(TargetKey, Option<IpAddr>)> {
    let target = |index: &u32| {
        let record = world.actual.targets.get(index).filter(|record| !record.flags.has(TargetFlags::RETIRED))?;
        let key = TargetKey::of(record).filter(|key| !wanted(key))?;
        let (vpc, _) = behind(world, &key)?;
        (!desired::owned(world.state, &vpc.id, key.ip)).then(|| (key, vpc.next_hop(key.ip)))
    };
    world.relayed.iter().filter_map(target).collect()
}

/// The VPC of a target, and the load balancer that it is behind.
fn behind<'a>(world: &World<'a>, key: &TargetKey) -> Option<(&'a Vpc, &'a LoadBalancer)> {
    let state = world.state;
    let vpc = state.vpcs.values().find(|vpc| vpc_index(vpc) == Some(key.vpc))?;
    let lb = state.load_balancers.values().find(|lb| lb.vpc == vpc.id && lb.nodes().any(|node| node == key.node))?;
    Some((vpc, lb))
}

/// The relay's ways to targets that it may connect to, where nothing else needs them.
pub fn keep_ways(world: &World<'_>, desired: &mut Desired, plan: &Plan) {
    let Some(host_port) = world.host_port.filter(|_| !world.relayed.is_empty()) else { return };
    for (key, index) in plan.targets.iter().filter(|(_, index)| world.relayed.contains(index)) {
        let listener = desired::first_check_listener(world.capacity).checked_add(*index);
        if listener.is_none_or(|listener| desired.listeners.contains_key(&listener)) {
            continue;
        }
        let Some((_, lb)) = behind(world, key) else { continue };
        let allowed = security::outbound(world.state, lb, [Opening::Tcp(key.port); 2], key.ip);
        let _ = desired::way_to(world, &host_port, (*index, IpFamily::Ipv4), key.port, allowed, desired);
    }
}

/// Whose certificates the targets of a group have to show; none: anybody's.
pub fn verify(state: &State, group: &TargetGroup) -> Option<Verify> {
    let roots = match &group.attributes.target_trust {
        TargetTrust::Off => return None,
        TargetTrust::System => Roots::System,
        // One that is not there trusts nobody.
        TargetTrust::Certificate(id) => {
            Roots::Pem(state.certificates.get(id).map_or_else(String::new, |certificate| {
                let Certificate { certificate, chain, .. } = certificate;
                if chain.trim().is_empty() { certificate.clone() } else { chain.clone() }
            }))
        }
    };
    Some(Verify { roots, name: group.attributes.target_name.fixed().map(str::to_owned) })
}

/// What the relay is to serve; none if there is no TLS listener, or no host port.
pub fn config(state: &State, plan: &Plan, at: &Place) -> Option<Config> {
    let Place { address, device, access_log } = at.clone();
    let listeners: BTreeMap<ListenerId, ListenerConfig> = state
        .listeners
        .values()
        .filter_map(|listener| {
            let tls = listener.tls.as_ref()?;
            let config = ListenerConfig {
                load_balancer: listener.load_balancer.dimension().to_owned(),
                policy: tls.policy,
                alpn: tls.alpn,
                certificate: tls.certificate.clone(),
                more: tls.more.clone(),
                groups: plan.upstreams.get(&listener.id)?.clone(),
            };
            Some((listener.id.clone(), config))
        })
        .collect();
    if listeners.is_empty() {
        return None;
    }
    let named: BTreeSet<_> =
        listeners.values().flat_map(|one| std::iter::once(&one.certificate).chain(&one.more)).collect();
    let pem = |id: &CertificateId| {
        let Certificate { id, certificate, chain, private_key, created_at: _, imported_at: _ } =
            state.certificates.get(id)?.clone();
        Some((id, Pem { certificate, chain, private_key }))
    };
    let certificates = named.into_iter().filter_map(pem).collect();
    Some(Config { address, device, listeners, certificates, access_log })
}

/// Where the relay is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: Ipv4Addr,
    pub device: Device,
    pub access_log: Option<PathBuf>,
}

/// How the agent reaches the relay.
#[derive(Clone, Debug)]
pub struct Options {
    pub state_dir: PathBuf,
    pub access_log: Option<PathBuf>,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at what the relay does.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks for one that does not answer.
const SOON: Duration = Duration::from_millis(50);
/// Between two attempts to start one, at first; twice as long after each that has not helped.
const RETRY: Duration = Duration::from_secs(2);
/// The longest time between two attempts.
const LONGEST_RETRY: Duration = Duration::from_secs(32);
/// How long one may be away that passes its sockets on.
const AWAY: Duration = Duration::from_millis(500);

/// A control connection.
struct Control(UnixStream);

impl Control {
    async fn open(state_dir: &Path) -> io::Result<Self> {
        Ok(Self(UnixStream::connect(wire::socket(state_dir)).await?))
    }

    async fn ask(&mut self, request: &Request) -> io::Result<Status> {
        let asked = async {
            wire::send(&mut self.0, request).await?;
            wire::receive(&mut self.0).await
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// What a relay does that an earlier agent has started; nothing if there is none.
pub async fn present(state_dir: &Path) -> Status {
    let status = async { Control::open(state_dir).await?.ask(&Request::Status).await };
    status.await.unwrap_or_default()
}

/// Ends the relay of a state directory, if there is one, with all its connections.
///
/// # Errors
///
/// What its socket says.
pub async fn stop(state_dir: &Path) -> io::Result<()> {
    match Control::open(state_dir).await {
        Ok(Control(mut stream)) => wire::send(&mut stream, &Request::Stop).await,
        Err(_) => Ok(()),
    }
}

/// Starts a relay, which takes over from the present one if there is one. It lives on when the agent ends. It is of the
/// agent's own build, also where the program's file has been replaced since.
fn start(state_dir: &Path, access_log: Option<&Path>) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("privatelink").arg("relay").arg("--state-dir").arg(state_dir).stdin(Stdio::null()).kill_on_drop(false);
    if let Some(file) = access_log {
        command.arg("--access-log").arg(file);
    }
    let mut child = command.spawn()?;
    tokio::spawn(async move {
        match child.wait().await {
            Ok(status) if status.success() => {}
            Ok(status) => tracing::warn!(%status, "a relay has ended"),
            Err(error) => tracing::warn!(%error, "a relay's end is not known"),
        }
    });
    Ok(())
}

/// The relay as the agent knows it.
struct Driver {
    state_dir: PathBuf,
    access_log: Option<PathBuf>,
    control: Option<Control>,
    /// What it was told last on this connection.
    sent: Option<Config>,
    /// When it was there last.
    answered: Option<Instant>,
    started: Option<Instant>,
    /// How long to wait after that.
    retry: Duration,
}

impl Driver {
    /// Starts a relay, but not again at once: one that cannot take over from the present one says why and ends.
    fn start(&mut self) {
        if self.started.is_some_and(|at| at.elapsed() < self.retry) {
            return;
        }
        if self.started.is_some() {
            self.retry = (self.retry * 2).min(LONGEST_RETRY);
        }
        self.started = Some(Instant::now());
        match start(&self.state_dir, self.access_log.as_deref()) {
            Ok(()) => tracing::info!("started a relay for TLS listeners"),
            Err(error) => tracing::error!(%error, "no relay could be started; TLS listeners are not served"),
        }
    }

    /// Tells the relay to serve `config`, if it does not know, and answers what it does; none while it is not reached.
    async fn tell(&mut self, shared: &Shared, config: &Config) -> Option<Status> {
        if self.control.is_none() {
            self.control = Control::open(&self.state_dir).await.ok();
            self.sent = None;
        }
        let connected = self.control.as_mut()?;
        let known = self.sent.as_ref() == Some(config);
        let request = if known {
            Request::Status
        } else {
            shared.relay().tell(config);
            Request::Configure(Box::new(config.clone()))
        };
        match connected.ask(&request).await {
            Ok(status) => {
                self.sent = Some(config.clone());
                self.answered = Some(Instant::now());
                let logs = self.access_log.as_deref().map(files::directory);
                if status.build == build() && !status.ending && (logs.is_none() || logs == status.log_directory) {
                    self.retry = RETRY;
                } else {
                    tracing::debug!(
                        pid = status.pid,
                        "a relay of another build or log, or that is to end: another takes over"
                    );
                    self.start();
                }
                Some(status)
            }
            Err(error) => {
                self.control = None;
                // Until now it was there.
                self.answered = Some(Instant::now());
                // One that understands something else is replaced; one that has ended is found gone at the next
                // attempt.
                if error.kind() == io::ErrorKind::InvalidData {
                    tracing::info!(%error, "the relay is replaced");
                    self.start();
                }
                None
            }
        }
    }
}

/// Tells the relay what to serve until `stop`, and starts one where it is needed and none answers.
pub async fn run(shared: Arc<Shared>, options: Options, stop: CancellationToken) {
    let Options { state_dir, access_log } = options;
    let mut plans = shared.plan.subscribe();
    let mut states = shared.store.watch();
    let mut driver = Driver {
        state_dir,
        access_log: access_log.clone(),
        control: None,
        sent: None,
        answered: None,
        started: None,
        retry: RETRY,
    };
    loop {
        let (state, plan) = (states.borrow_and_update().clone(), plans.borrow_and_update().clone());
        let wanted = place(&shared, access_log.clone()).and_then(|place| config(&state, &plan, &place));
        // Without listeners there is nothing to say but to one that has had some.
        let say = wanted.or_else(|| {
            let before = driver.sent.as_ref().filter(|sent| !sent.listeners.is_empty())?;
            Some(Config { listeners: BTreeMap::new(), certificates: BTreeMap::new(), ..before.clone() })
        });
        let mut wait = LOOK;
        match &say {
            Some(config) => match driver.tell(&shared, config).await {
                Some(status) => shared.set_relay(status),
                None => {
                    wait = SOON;
                    // A relay that passes its sockets on is away for a moment; of one that stays away nothing is left.
                    let away = driver.answered.is_none_or(|at| at.elapsed() >= AWAY);
                    if away && driver.control.is_none() && !config.listeners.is_empty() {
                        shared.set_relay(Status::default());
                        driver.start();
                    }
                }
            },
            // A relay that nobody talks to and that has no connection ends by itself.
            None => driver.control = None,
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = plans.changed() => if changed.is_err() { return },
            changed = states.changed() => if changed.is_err() { return },
            () = sleep(wait) => {}
        }
    }
}

/// Where the relay listens; none while there is no host port.
fn place(shared: &Shared, access_log: Option<PathBuf>) -> Option<Place> {
    let pair = &shared.host_pair;
    let links = shared.links();
    let link = links.values().find(|link| link.name == pair.host)?;
    let device = Device { name: pair.host.clone(), index: link.ifindex };
    Some(Place { address: pair.address, device, access_log })
}
