//! A TLS listener of the relay: what it is configured with, and one connection from its first byte to its last.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::ServerName,
    server::{Acceptor, ServerSessionMemoryCache, StoresServerSessions},
};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, TlsConnector};

use super::{
    alpn::AlpnPolicy,
    certificate::Certificates,
    crypto,
    policy::{Offer, suite_name, version_name},
    proxy_header::{HEAD, Head, HeaderError, Origin},
    pump::{self, Lazy, Relayed},
    relay::wire::Group,
    tickets::{NoRandomness, TicketKeys, Tickets},
    unverified,
    verified::{self, Distrust, Names},
};
use crate::health::dial::Dialer;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// From the first byte to the end of the handshake.
    pub handshake: Duration,
    /// Until a target has accepted.
    pub connect: Duration,
    /// Silence after which a connection ends.
    pub idle: Duration,
    /// Connections of one endpoint at a time.
    pub connections: usize,
}

impl Default for Bounds {
    /// Those of a Network Load Balancer where it names any.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(350),
            connections: 20_000,
        }
    }
}

/// Where a listener's connections go.
#[derive(Clone)]
pub struct Upstream {
    groups: Vec<Destination>,
    /// How targets are reached.
    dialer: Dialer,
}

/// A target group, and who speaks TLS with its targets.
#[derive(Clone)]
struct Destination {
    group: Group,
    client: Client,
}

/// How TLS is spoken with a group's targets.
#[derive(Clone)]
enum Client {
    /// As with all others: every certificate is believed.
    Shared,
    /// By a client of the group's own, whose sessions are with targets that it has believed.
    Verifying {
        connector: TlsConnector,
        /// None: the name that the client asks for.
        name: Option<ServerName<'static>>,
    },
}

impl Destination {
    fn new(group: Group) -> Result<Self, rustls::Error> {
        let client = match &group.verify {
            Some(verify) if group.tls => {
                let connector = TlsConnector::from(Arc::new(verified::config(&verify.roots, Names::Matter)?));
                Client::Verifying { connector, name: verify.server_name()? }
            }
            Some(_) | None => Client::Shared,
        };
        Ok(Self { group, client })
    }
}

impl Upstream {
    /// # Errors
    ///
    /// When the cryptography that this was built with supports no version of TLS.
    pub fn new(groups: Vec<Group>, dialer: Dialer) -> Result<Self, rustls::Error> {
        Ok(Self { groups: groups.into_iter().map(Destination::new).collect::<Result<_, _>>()?, dialer })
    }

    /// The group of the connection of this number: as often as its weight says, without a pattern that clients could
    /// meet.
    fn destination(&self, turn: u64) -> Option<&Destination> {
        let groups = || self.groups.iter().filter(|destination| !destination.group.targets.is_empty());
        let total: u64 = groups().map(|destination| u64::from(destination.group.weight)).sum();
        let mut at = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32).checked_rem(total)?;
        groups().find(|Destination { group, .. }| {
            let found = at < u64::from(group.weight);
            at = at.saturating_sub(group.weight.into());
            found
        })
    }
}

/// How a listener speaks with its clients. Connections keep what they began with.
pub struct Listener {
    pub alpn: AlpnPolicy,
    pub bounds: Bounds,
    /// A configuration for each answer that ALPN may have, and one without.
    configs: HashMap<Option<&'static str>, Arc<ServerConfig>>,
    certificates: Arc<Certificates>,
}

/// What lets a client of a listener come back without a full handshake. It outlives changes of the configuration, and
/// is one listener's alone: with another one's ticket a client would trust whoever has that one's certificate.
#[derive(Clone)]
pub struct Sessions {
    tickets: Arc<Tickets>,
    /// Of clients that know no tickets; they are few.
    store: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    /// With the keys of the relay that had the listener before, if there was one.
    ///
    /// # Errors
    ///
    /// [`NoRandomness`]
    pub fn new(keys: Option<&TicketKeys>) -> Result<Self, NoRandomness> {
        const SESSIONS: usize = 512;
        Ok(Self { tickets: Arc::new(Tickets::new(keys)?), store: ServerSessionMemoryCache::new(SESSIONS) })
    }

    /// What another relay needs to know the clients again.
    pub fn keys(&self) -> TicketKeys {
        self.tickets.keys()
    }
}

impl Listener {
    /// # Errors
    ///
    /// If rustls finds nothing in `offer` that it can do.
    pub fn new(
        offer: &Offer,
        alpn: AlpnPolicy,
        certificates: Certificates,
        bounds: Bounds,
        sessions: &Sessions,
    ) -> Result<Self, rustls::Error> {
        let certificates = Arc::new(certificates);
        let provider = Arc::new(CryptoProvider {
            cipher_suites: offer.suites.clone(),
            kx_groups: offer.groups.to_vec(),
            ..crypto::provider()
        });
        let answers = alpn.protocols().iter().copied().map(Some).chain([None]);
        let configs = answers.map(|protocol| {
            let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&offer.versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&certificates) as _);
            config.alpn_protocols = protocol.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            // Ours is the policy's order of suites.
            config.ignore_client_order = true;
            config.ticketer = Arc::clone(&sessions.tickets) as _;
            config.session_storage = Arc::clone(&sessions.store);
            Ok((protocol, Arc::new(config)))
        });
        let configs = configs.collect::<Result<_, rustls::Error>>()?;
        Ok(Self { alpn, bounds, configs, certificates })
    }
}

/// How far a connection came that was not relayed.
#[derive(Debug, Error)]
pub enum Refusal {
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("the endpoint has {0} connections already")]
    Connections(usize),
    #[error("no handshake within {} s", .0.as_secs_f32())]
    Slow(Duration),
    #[error("TLS with the client: {0}")]
    Client(io::Error),
    #[error("there is no target")]
    NoTarget,
    #[error("connecting to {target}: {error}")]
    Connect { target: SocketAddr, error: io::Error },
    #[error("TLS with {target}: {error}")]
    Target { target: SocketAddr, error: io::Error },
    #[error("{target} is not believed: {distrust}")]
    Distrusted { target: SocketAddr, distrust: Distrust },
}

impl Refusal {
    /// The alert by which the client broke the handshake off (RFC 8446 section 6).
    fn alert(&self) -> Option<u8> {
        let Self::Client(error) = self else { return None };
        match error.get_ref()?.downcast_ref::<rustls::Error>()? {
            rustls::Error::AlertReceived(alert) => Some((*alert).into()),
            _ => None,
        }
    }
}

/// What is known of a connection, for the access log and the metrics.
#[derive(Debug, Default)]
pub struct Record {
    pub began: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub origin: Option<Origin>,
    pub target: Option<SocketAddr>,
    /// From the first byte to the end of the connection.
    pub took: Duration,
    pub handshake: Option<Duration>,
    pub certificate_arn: Option<String>,
    pub certificate_serial: Option<String>,
    pub cipher: Option<String>,
    pub version: Option<&'static str>,
    pub group: Option<String>,
    pub server_name: Option<String>,
    /// What was agreed upon with the client.
    pub alpn: Option<&'static str>,
    /// And with a target that speaks TLS.
    pub alpn_target: Option<String>,
    pub alpn_offered: Vec<String>,
    /// By which the client broke the handshake off.
    pub alert: Option<u8>,
    /// Why the target was not believed.
    pub distrust: Option<Distrust>,
    pub relayed: Option<Relayed>,
}

/// Connections of each endpoint.
#[derive(Debug, Default)]
pub struct Endpoints(Mutex<HashMap<String, Arc<Semaphore>>>);

impl Endpoints {
    fn admit(&self, endpoint: &str, limit: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let places = Arc::clone(all.entry(endpoint.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(limit))));
        drop(all);
        places.try_acquire_owned().map_err(|_| Refusal::Connections(limit))
    }
}

/// What connections of a listener take turns by.
#[derive(Debug, Default)]
pub struct Turn(AtomicU64);

/// How a connection gets to a target.
pub struct Onward<'a, F> {
    /// Where connections go at present. A client may take its time with the handshake, and the targets of before may
    /// have gone until it has ended.
    pub upstream: F,
    pub turn: &'a Turn,
    /// Speaks TLS with targets that may show any certificate.
    pub client: &'a TlsConnector,
}

/// Serves one connection. `record` holds what became known, however it ends.
///
/// # Errors
///
/// [`Refusal`] if nothing was relayed.
pub async fn serve<F: Fn() -> Arc<Upstream>>(
    listener: &Listener,
    endpoints: &Endpoints,
    onward: Onward<'_, F>,
    stream: TcpStream,
    record: &mut Record,
) -> Result<(), Refusal> {
    let began = Instant::now();
    record.began = Some(Timestamp::now());
    let served = relayed(listener, endpoints, onward, stream, record, began).await;
    record.alert = served.as_ref().err().and_then(Refusal::alert);
    record.distrust = match &served {
        Err(Refusal::Distrusted { distrust, .. }) => Some(*distrust),
        Ok(()) | Err(_) => None,
    };
    record.took = began.elapsed();
    record.ended = Some(Timestamp::now());
    served
}

async fn relayed<F: Fn() -> Arc<Upstream>>(
    listener: &Listener,
    endpoints: &Endpoints,
    Onward { upstream, turn, client }: Onward<'_, F>,
    stream: TcpStream,
    record: &mut Record,
    began: Instant,
) -> Result<(), Refusal> {
    let Listener { alpn, bounds, configs, certificates } = listener;
    let mut stream = Lazy::new(stream);
    let shake = async {
        let origin = match origin(&mut stream).await? {
            Some(origin) => record.origin.insert(origin),
            // A health check of the relay itself: it came, which is all that it wants to know.
            None => return Ok(None),
        };
        let key = origin.endpoint.as_deref().unwrap_or_default();
        let place = endpoints.admit(key, bounds.connections)?;
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(Refusal::Client)?;
        let hello = start.client_hello();
        let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        let text = |bytes: &&[u8]| String::from_utf8_lossy(bytes).into_owned();
        record.alpn_offered = offered.iter().map(text).collect();
        record.alpn = alpn.choose(&offered);
        record.server_name = hello.server_name().map(str::to_owned);
        let served = certificates.choose(hello.server_name());
        record.certificate_arn = Some(served.arn.clone());
        record.certificate_serial = Some(served.facts.serial.clone());
        let config = configs.get(&record.alpn).or_else(|| configs.get(&None));
        let config = config.ok_or_else(|| Refusal::Client(io::Error::other("no configuration")))?;
        let tls = start.into_stream(Arc::clone(config)).await.map_err(Refusal::Client)?;
        Ok(Some((place, tls)))
    };
    let shaken = timeout(bounds.handshake, shake).await.unwrap_or(Err(Refusal::Slow(bounds.handshake)))?;
    let Some((_place, tls)) = shaken else { return Ok(()) };
    record.handshake = Some(began.elapsed());
    let (_, session) = tls.get_ref();
    record.version = session.protocol_version().and_then(version_name);
    record.cipher = session.negotiated_cipher_suite().map(suite_name);
    record.group = session.negotiated_key_exchange_group().map(|group| format!("{:?}", group.name()).to_lowercase());
    let upstream = upstream();
    let (Destination { group, client: own }, target, mut socket) = connect(&upstream, turn, bounds.connect).await?;
    record.target = Some(target);
    if let Some(origin) = record.origin.as_ref().filter(|_| group.proxy_v2) {
        socket.write_all(&origin.header()).await.map_err(|error| Refusal::Connect { target, error })?;
    }
    let relayed = if group.tls {
        let asked = || record.server_name.clone().and_then(|name| ServerName::try_from(name).ok());
        let (connector, name) = match own {
            Client::Shared => (client, ServerName::IpAddress(target.ip().into())),
            Client::Verifying { connector, name } => {
                let name = name.clone().or_else(asked);
                (connector, name.ok_or(Refusal::Distrusted { target, distrust: Distrust::NoName })?)
            }
        };
        let connector = connector.with_alpn(record.alpn.iter().map(|name| name.as_bytes().to_vec()).collect());
        let shaken = timeout(bounds.connect, connector.connect(name, Lazy::new(socket))).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let backend = shaken.map_err(|error| match Distrust::of(&error) {
            Some(distrust) => Refusal::Distrusted { target, distrust },
            None => Refusal::Target { target, error },
        })?;
        let agreed = backend.get_ref().1.alpn_protocol();
        record.alpn_target = agreed.map(|name| String::from_utf8_lossy(name).into_owned());
        pump::relay(tls, backend, bounds.idle).await
    } else {
        pump::relay(tls, Lazy::new(socket), bounds.idle).await
    };
    record.relayed = Some(relayed);
    Ok(())
}

/// Between probes of an idle connection: as often as a Network Load Balancer sends them: neither end's firewall forgets
/// it, nor does the datapath.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A peer that has gone is found; small writes do not wait for each other. A socket that cannot is served all the same.
/// What a listening socket accepts has what that has.
pub fn keep_alive<'a>(socket: impl Into<SockRef<'a>>) {
    let socket = socket.into();
    let probes = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    let _ = socket.set_tcp_keepalive(&probes);
    let _ = socket.set_tcp_nodelay(true);
}

/// Who connects, by the header that the datapath puts before its first byte; none for a check.
async fn origin(stream: &mut Lazy<TcpStream>) -> Result<Option<Origin>, Refusal> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await.map_err(|_| HeaderError::NoHeader)?;
    let (length, proxied) = match Head::read(&head)? {
        Head::Proxied(length) => (length, true),
        Head::Local(length) => (length, false),
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(|_| HeaderError::Cut)?;
    if proxied { Ok(Some(Origin::read(&body)?)) } else { Ok(None) }
}

/// What speaks TLS with targets: it believes every certificate, as a Network Load Balancer does.
///
/// # Errors
///
/// When the cryptography that this was built with supports no version.
pub fn upstream_connector() -> Result<TlsConnector, rustls::Error> {
    Ok(TlsConnector::from(Arc::new(unverified::config()?)))
}

/// A connection to one of the targets: the next one in turn, or the one after it if that does not answer.
async fn connect<'a>(
    upstream: &'a Upstream,
    turn: &Turn,
    limit: Duration,
) -> Result<(&'a Destination, SocketAddr, TcpStream), Refusal> {
    const ATTEMPTS: u64 = 3;
    let first = turn.0.fetch_add(1, Ordering::Relaxed);
    let destination = upstream.destination(first).ok_or(Refusal::NoTarget)?;
    let group = &destination.group;
    let mut targets = group.targets.iter().cycle();
    let count = group.targets.len() as u64;
    let mut target = targets.nth(usize::try_from(first % count.max(1)).unwrap_or(0));
    let mut failed = Refusal::NoTarget;
    for _ in 0..ATTEMPTS.min(count) {
        let Some(at) = target.map(|target| SocketAddr::from(*target)) else { break };
        let connected = timeout(limit, upstream.dialer.connect(at)).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                keep_alive(&stream);
                return Ok((destination, at, stream));
            }
            Err(error) => failed = Refusal::Connect { target: at, error },
        }
        target = targets.next();
    }
    Err(failed)
}

#[cfg(test)]
mod tests;
