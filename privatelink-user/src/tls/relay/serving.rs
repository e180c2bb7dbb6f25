//! What a relay serves: its listeners, their sockets, and the connections under way.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as BlockingListener, TcpStream as BlockingStream},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::TlsConnector;

use super::{
    RelayError,
    access_log::AccessLog,
    build,
    handover::Estate,
    wire::{Config, Counts, Device, ListenerConfig, ListenerStatus, Pem, Status},
    workers::{Load, WorkerIndex, Workers},
};
use crate::{
    health::dial::Dialer,
    model::{CertificateId, ListenerId},
    tls::{
        certificate::{CertificateError, Certificates, Served},
        listener::{self, Bounds, Endpoints, Listener, Onward, Record, Refusal, Sessions, Turn, Upstream},
        pump::Relayed,
        tickets::{NoRandomness, TicketKeys},
    },
};

/// Connections that wait to be accepted, as far as `net.core.somaxconn` allows.
const BACKLOG: i32 = 4_096;

/// Everything that a relay serves.
pub struct Serving {
    inner: Mutex<Inner>,
    common: Arc<Common>,
}

#[derive(Default)]
struct Inner {
    config: Option<Config>,
    listeners: BTreeMap<ListenerId, Open>,
    /// Those of the configuration, read.
    certificates: BTreeMap<CertificateId, (Pem, Served)>,
}

/// What all connections share.
struct Common {
    connector: TlsConnector,
    endpoints: Endpoints,
    log: AccessLog,
    workers: Workers,
    /// Listeners that have been opened.
    opened: AtomicUsize,
}

/// A listener with its socket.
struct Open {
    /// None: not one that can be served yet; what connects waits.
    door: Option<(Arc<Door>, AbortHandle)>,
    /// Of the relay that had the socket before.
    tickets: Option<TicketKeys>,
    socket: BlockingListener,
    port: u16,
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((_, accepting)) = &self.door {
            accepting.abort();
        }
    }
}

/// What an accepting task serves by.
struct Door {
    id: ListenerId,
    sessions: Sessions,
    turn: Turn,
    counters: Counters,
    present: RwLock<Arc<Present>>,
}

/// What new connections begin with, and where those go that are about to.
struct Present {
    config: ListenerConfig,
    listener: Listener,
    upstream: Arc<Upstream>,
    access_log: Option<PathBuf>,
}

#[derive(Default)]
struct Counters {
    active: AtomicU64,
    accepted: AtomicU64,
    client_failed: AtomicU64,
    target_failed: AtomicU64,
    target_distrusted: AtomicU64,
    rejected: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Counters {
    fn read(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Self { active, accepted, client_failed, target_failed, target_distrusted, rejected, received, sent } = self;
        Counts {
            active: of(active),
            accepted: of(accepted),
            client_failed: of(client_failed),
            target_failed: of(target_failed),
            target_distrusted: of(target_distrusted),
            rejected: of(rejected),
            received: of(received),
            sent: of(sent),
        }
    }
}

/// Why a listener is not served as it is configured.
#[derive(Debug, thiserror::Error)]
enum ListenerError {
    #[error("no socket: {0}")]
    Socket(#[from] io::Error),
    #[error("certificate '{0}' did not come with it")]
    NoCertificate(CertificateId),
    #[error("certificate '{0}': {1}")]
    Certificate(CertificateId, CertificateError),
    #[error("the policy '{0}' is not honoured any more")]
    Policy(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    #[error(transparent)]
    Tickets(#[from] NoRandomness),
}

impl Serving {
    /// Nothing yet.
    ///
    /// # Errors
    ///
    /// When the cryptography that this was built with supports no version of TLS, or there are no threads.
    pub fn new() -> Result<Self, RelayError> {
        let common = Common {
            connector: listener::upstream_connector()?,
            endpoints: Endpoints::default(),
            log: AccessLog::start(),
            workers: Workers::start().map_err(RelayError::Threads)?,
            opened: AtomicUsize::new(0),
        };
        Ok(Self { inner: Mutex::default(), common: Arc::new(common) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes another relay's socket, and the keys by which its clients come back; it accepts once the listener is
    /// configured.
    pub fn adopt(&self, id: ListenerId, socket: OwnedFd, tickets: Option<TicketKeys>) {
        let socket = BlockingListener::from(socket);
        match socket.local_addr() {
            Ok(address) => {
                let open = Open { door: None, tickets, socket, port: address.port() };
                self.inner().listeners.insert(id, open);
            }
            Err(error) => tracing::warn!(%error, listener = %id, "a socket that was passed on is none"),
        }
    }

    /// Serves exactly `config` from now on. What cannot be served is logged, and stays as it was.
    pub fn configure(&self, config: Config) {
        let mut inner = self.inner();
        if inner.config.as_ref() == Some(&config) {
            return;
        }
        let Inner { config: before, listeners, certificates } = &mut *inner;
        // A device that was made anew under its name takes the sockets that were bound to the old one with it.
        if before.as_ref().is_some_and(|before| (&before.device, before.address) != (&config.device, config.address)) {
            listeners.clear();
        }
        listeners.retain(|id, _| config.listeners.contains_key(id));
        certificates.retain(|id, (pem, _)| config.certificates.get(id) == Some(pem));
        let changed = |id: &CertificateId| {
            before.as_ref().is_none_or(|before| before.certificates.get(id) != config.certificates.get(id))
        };
        for (id, wanted) in &config.listeners {
            let certificates_changed = std::iter::once(&wanted.certificate).chain(&wanted.more).any(&changed);
            let served = open(listeners, id, &config).and_then(|open| {
                let same = open.door.as_ref().is_some_and(|(door, _)| {
                    let present = door.present();
                    present.config == *wanted && present.access_log == config.access_log
                });
                if same && !certificates_changed {
                    return Ok(());
                }
                open.serve(id, wanted, &config, certificates, &self.common)
            });
            if let Err(error) = served {
                tracing::error!(%error, listener = %id, "a TLS listener is not served as it should be");
            }
        }
        *before = Some(config);
    }

    /// Everything that the relay that takes over gets.
    pub fn estate(&self) -> Estate {
        let inner = self.inner();
        let sockets =
            inner.listeners.iter().filter_map(|(id, open)| Some((id.clone(), open.socket.try_clone().ok()?.into())));
        let keys = |open: &Open| match &open.door {
            Some((door, _)) => Some(door.sessions.keys()),
            None => open.tickets.clone(),
        };
        let tickets = inner.listeners.iter().filter_map(|(id, open)| Some((id.clone(), keys(open)?)));
        Estate { config: inner.config.clone(), tickets: tickets.collect(), sockets: sockets.collect() }
    }

    /// Accepts nothing any more.
    pub fn stop_listening(&self) {
        self.inner().listeners.clear();
    }

    /// Whether it has a listener.
    pub fn serves(&self) -> bool {
        !self.inner().listeners.is_empty()
    }

    /// Whether its connections lead nowhere, because the interface that carries them is gone.
    pub fn is_cut_off(&self) -> bool {
        self.inner().config.as_ref().is_some_and(|config| config.device.is_gone())
    }

    /// Open connections.
    pub fn active(&self) -> usize {
        self.common.workers.load()
    }

    /// What it is doing.
    pub fn status(&self) -> Status {
        let inner = self.inner();
        let status = |open: &Open| ListenerStatus {
            port: open.port,
            counts: open.door.as_ref().map(|(door, _)| door.counters.read()).unwrap_or_default(),
        };
        let targets = inner.config.iter().flat_map(Config::targets).collect();
        Status {
            build: build(),
            pid: std::process::id(),
            log_directory: None,
            ending: false,
            listeners: inner.listeners.iter().map(|(id, open)| (id.clone(), status(open))).collect(),
            targets,
        }
    }
}

/// The listener's socket, bound if it is not.
fn open<'a>(
    listeners: &'a mut BTreeMap<ListenerId, Open>,
    id: &ListenerId,
    config: &Config,
) -> Result<&'a mut Open, ListenerError> {
    use std::collections::btree_map::Entry;
    match listeners.entry(id.clone()) {
        Entry::Occupied(present) => Ok(present.into_mut()),
        Entry::Vacant(vacant) => {
            let socket = bind(config.address, &config.device)?;
            let port = socket.local_addr()?.port();
            Ok(vacant.insert(Open { door: None, tickets: None, socket, port }))
        }
    }
}

/// A socket at a free port, reached by the device alone: nobody of the host's other networks gets in with a header of
/// his own.
fn bind(address: Ipv4Addr, device: &Device) -> io::Result<BlockingListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if !device.name.is_empty() {
        socket.bind_device(Some(device.name.as_bytes()))?;
    }
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Open {
    /// Serves as `wanted` says from the next connection on.
    fn serve(
        &mut self,
        id: &ListenerId,
        wanted: &ListenerConfig,
        config: &Config,
        certificates: &mut BTreeMap<CertificateId, (Pem, Served)>,
        common: &Arc<Common>,
    ) -> Result<(), ListenerError> {
        let sessions = match &self.door {
            Some((door, _)) => door.sessions.clone(),
            None => Sessions::new(self.tickets.as_ref())?,
        };
        let present = Arc::new(Present {
            listener: listener(wanted, config, certificates, &sessions)?,
            upstream: Arc::new(upstream(wanted, config)?),
            config: wanted.clone(),
            access_log: config.access_log.clone(),
        });
        if let Some((door, _)) = &self.door {
            *door.present.write().unwrap_or_else(PoisonError::into_inner) = present;
            return Ok(());
        }
        let (turn, counters, present) = (Turn::default(), Counters::default(), RwLock::new(present));
        let door = Arc::new(Door { id: id.clone(), sessions, turn, counters, present });
        self.socket.set_nonblocking(true)?;
        listener::keep_alive(&self.socket);
        let turn = common.opened.fetch_add(1, Ordering::Relaxed);
        let (own, worker) = common.workers.in_turn(turn).ok_or_else(|| io::Error::other("no thread"))?;
        let socket = {
            let _on_worker = worker.enter();
            TcpListener::from_std(self.socket.try_clone()?)?
        };
        let accepting = worker.spawn(accept(Arc::clone(common), Arc::clone(&door), socket, own)).abort_handle();
        self.door = Some((door, accepting));
        Ok(())
    }
}

/// A listener made of its configuration. Certificates are read once.
fn listener(
    wanted: &ListenerConfig,
    config: &Config,
    certificates: &mut BTreeMap<CertificateId, (Pem, Served)>,
    sessions: &Sessions,
) -> Result<Listener, ListenerError> {
    let mut served = |id: &CertificateId| -> Result<Served, ListenerError> {
        if let Some((_, served)) = certificates.get(id) {
            return Ok(served.clone());
        }
        let pem = config.certificates.get(id).ok_or_else(|| ListenerError::NoCertificate(id.clone()))?;
        let Pem { certificate, chain, private_key } = pem;
        let (certificate, chain, key) = (certificate.as_bytes(), chain.as_bytes(), private_key.reveal().as_bytes());
        let served = Served::from_pem(id.to_string(), certificate, chain, key)
            .map_err(|error| ListenerError::Certificate(id.clone(), error))?;
        certificates.insert(id.clone(), (pem.clone(), served.clone()));
        Ok(served)
    };
    let ListenerConfig { load_balancer: _, policy, alpn, certificate, more, groups: _ } = wanted;
    let offer = policy.policy().offer().map_err(|error| ListenerError::Policy(format!("{policy}: {error}")))?;
    let chosen =
        Certificates { default: served(certificate)?, by_name: more.iter().map(served).collect::<Result<_, _>>()? };
    Ok(Listener::new(&offer, *alpn, chosen, Bounds::default(), sessions)?)
}

/// Where a listener's connections go by its configuration.
fn upstream(wanted: &ListenerConfig, config: &Config) -> Result<Upstream, rustls::Error> {
    let device = Some(config.device.name.clone()).filter(|name| !name.is_empty());
    Upstream::new(wanted.groups.clone(), Dialer { device, proxy_protocol: false })
}

impl Door {
    fn present(&self) -> Arc<Present> {
        Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Accepts until it is aborted. `own` is the worker that it runs on.
async fn accept(common: Arc<Common>, door: Arc<Door>, socket: TcpListener, own: WorkerIndex) {
    loop {
        // It leaves this thread's scheduler for that of the worker it goes to.
        match socket.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => {
                let (of_all, of_one) = (Arc::clone(&common), Arc::clone(&door));
                common.workers.spawn_connection(own, |load| connection(of_all, of_one, stream, load));
            }
            Err(error) => {
                // Out of descriptors or memory: what ends makes room.
                tracing::warn!(%error, listener = %door.id, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Counts a connection as open as long as it lives.
struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(open: &'a AtomicU64) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(common: Arc<Common>, door: Arc<Door>, stream: BlockingStream, _load: Load) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return tracing::warn!(%error, listener = %door.id, "a connection could not be accepted"),
    };
    let (counters, present) = (&door.counters, door.present());
    let _counted = Counted::new(&counters.active);
    counters.accepted.fetch_add(1, Ordering::Relaxed);
    let mut record = Record::default();
    let upstream = || Arc::clone(&door.present().upstream);
    let onward = Onward { upstream, turn: &door.turn, client: &common.connector };
    let served = listener::serve(&present.listener, &common.endpoints, onward, stream, &mut record).await;
    if let Err(refusal) = served {
        let failed = match &refusal {
            Refusal::Header(_) | Refusal::Slow(_) | Refusal::Client(_) => &counters.client_failed,
            Refusal::Connections(_) => &counters.rejected,
            Refusal::NoTarget | Refusal::Connect { .. } | Refusal::Target { .. } => &counters.target_failed,
            Refusal::Distrusted { .. } => {
                counters.target_distrusted.fetch_add(1, Ordering::Relaxed);
                &counters.target_failed
            }
        };
        failed.fetch_add(1, Ordering::Relaxed);
        let client = record.origin.as_ref().map(|origin| origin.client);
        tracing::debug!(listener = %door.id, ?client, %refusal, "a connection was not relayed");
    }
    if let Some(Relayed { up, down, end: _ }) = &record.relayed {
        counters.received.fetch_add(*up, Ordering::Relaxed);
        counters.sent.fetch_add(*down, Ordering::Relaxed);
    }
    if let Some(path) = present.access_log.clone().filter(|_| record.origin.is_some()) {
        common.log.note(path, &door.id, &present.config.load_balancer, &record);
    }
}
