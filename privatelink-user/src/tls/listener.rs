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
    server::{Acceptor, ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
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
    unverified,
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
#[derive(Clone, Debug)]
pub struct Upstream {
    pub groups: Vec<Group>,
    /// How targets are reached.
    pub dialer: Dialer,
}

impl Upstream {
    /// The group of the connection of this number: as often as its weight says, without a pattern that clients could meet.
    fn group(&self, turn: u64) -> Option<&Group> {
        let groups = || self.groups.iter().filter(|group| !group.targets.is_empty());
        let total: u64 = groups().map(|group| u64::from(group.weight)).sum();
        let mut at = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32).checked_rem(total)?;
        groups().find(|group| {
            let found = at < u64::from(group.weight);
            at = at.saturating_sub(group.weight.into());
            found
        })
    }
}

/// A listener's configuration. Connections keep the one that they began with.
pub struct Listener {
    pub alpn: AlpnPolicy,
    pub upstream: Upstream,
    pub bounds: Bounds,
    /// A configuration for each answer that ALPN may have, and one without.
    configs: HashMap<Option<&'static str>, Arc<ServerConfig>>,
    certificates: Arc<Certificates>,
}

/// What lets a client of a listener come back without a full handshake. It outlives changes of the configuration, and is one
/// listener's alone: with another one's ticket a client would trust whoever has that one's certificate.
#[derive(Clone)]
pub struct Sessions {
    tickets: Arc<dyn ProducesTickets>,
    store: Arc<dyn StoresServerSessions>,
}

impl Sessions {
    /// # Errors
    ///
    /// If there is no randomness.
    pub fn new() -> Result<Self, rustls::Error> {
        // Clients that know no tickets are few.
        const SESSIONS: usize = 512;
        Ok(Self { tickets: crypto::ticketer()?, store: ServerSessionMemoryCache::new(SESSIONS) })
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
        upstream: Upstream,
        bounds: Bounds,
        sessions: &Sessions,
    ) -> Result<Self, rustls::Error> {
        let certificates = Arc::new(certificates);
        let provider = Arc::new(CryptoProvider { cipher_suites: offer.suites.clone(), ..crypto::provider() });
        let answers = alpn.protocols().iter().copied().map(Some).chain([None]);
        let configs = answers.map(|protocol| {
            let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
                .with_protocol_versions(&offer.versions)?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&certificates) as _);
            config.alpn_protocols = protocol.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            // Ours is the policy's order of suites.
            config.ignore_client_order = true;
            config.ticketer = Arc::clone(&sessions.tickets);
            config.session_storage = Arc::clone(&sessions.store);
            Ok((protocol, Arc::new(config)))
        });
        let configs = configs.collect::<Result<_, rustls::Error>>()?;
        Ok(Self { alpn, upstream, bounds, configs, certificates })
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

/// Serves one connection. `record` holds what became known, however it ends.
///
/// # Errors
///
/// [`Refusal`] if nothing was relayed.
pub async fn serve(
    listener: &Listener,
    endpoints: &Endpoints,
    turn: &Turn,
    client: &TlsConnector,
    stream: TcpStream,
    record: &mut Record,
) -> Result<(), Refusal> {
    let began = Instant::now();
    record.began = Some(Timestamp::now());
    let served = relayed(listener, endpoints, turn, client, stream, record, began).await;
    record.alert = served.as_ref().err().and_then(Refusal::alert);
    record.took = began.elapsed();
    record.ended = Some(Timestamp::now());
    served
}

async fn relayed(
    listener: &Listener,
    endpoints: &Endpoints,
    turn: &Turn,
    client: &TlsConnector,
    mut stream: TcpStream,
    record: &mut Record,
    began: Instant,
) -> Result<(), Refusal> {
    let Listener { alpn, upstream, bounds, configs, certificates } = listener;
    keep_alive(&stream);
    let shake = async {
        let origin = match origin(&mut stream).await? {
            Some(origin) => record.origin.insert(origin),
            // A health check of the relay itself: it came, which is all that it wants to know.
            None => return Ok(None),
        };
        let key = origin.endpoint.as_deref().unwrap_or_default();
        let place = endpoints.admit(key, bounds.connections)?;
        let start = LazyConfigAcceptor::new(Acceptor::default(), &mut stream).await.map_err(Refusal::Client)?;
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
    let (group, target, mut socket) = connect(upstream, turn, bounds.connect).await?;
    record.target = Some(target);
    if let Some(origin) = record.origin.as_ref().filter(|_| group.proxy_v2) {
        socket.write_all(&origin.header()).await.map_err(|error| Refusal::Connect { target, error })?;
    }
    let relayed = if group.tls {
        let connector = client.with_alpn(record.alpn.iter().map(|name| name.as_bytes().to_vec()).collect());
        let shaken =
            timeout(bounds.connect, connector.connect(ServerName::IpAddress(target.ip().into()), socket)).await;
        let shaken = shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let backend = shaken.map_err(|error| Refusal::Target { target, error })?;
        let agreed = backend.get_ref().1.alpn_protocol();
        record.alpn_target = agreed.map(|name| String::from_utf8_lossy(name).into_owned());
        pump::relay(tls, backend, bounds.idle).await
    } else {
        pump::relay(tls, Lazy::new(socket), bounds.idle).await
    };
    record.relayed = Some(relayed);
    Ok(())
}

/// Probes of an idle connection, as often as a Network Load Balancer sends them: neither end's firewall forgets it, nor does the
/// datapath.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A peer that has gone is found; small writes do not wait for each other. A socket that cannot is served all the same.
fn keep_alive(stream: &TcpStream) {
    let probes = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE);
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
    let _ = stream.set_nodelay(true);
}

/// Who connects, by the header that the datapath puts before its first byte; none for a check.
async fn origin(stream: &mut TcpStream) -> Result<Option<Origin>, Refusal> {
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
) -> Result<(&'a Group, SocketAddr, TcpStream), Refusal> {
    const ATTEMPTS: u64 = 3;
    let first = turn.0.fetch_add(1, Ordering::Relaxed);
    let group = upstream.group(first).ok_or(Refusal::NoTarget)?;
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
                return Ok((group, at, stream));
            }
            Err(error) => failed = Refusal::Connect { target: at, error },
        }
        target = targets.next();
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddrV4, str::FromStr as _};

    use tokio::net::TcpListener;

    use super::*;
    use crate::tls::{certificate::tests::served, policy::SslPolicy};

    fn listener(targets: Vec<SocketAddrV4>, proxy_v2: bool) -> Listener {
        let offer =
            SslPolicy::named("ELBSecurityPolicy-TLS13-1-2-Res-2021-06").expect("a policy").offer().expect("honoured");
        let certificates =
            Certificates { default: served("default", &["a.test"]), by_name: vec![served("other", &["*.b.test"])] };
        let group = Group { weight: 1, tls: false, proxy_v2, targets };
        let upstream = Upstream { groups: vec![group], dialer: Dialer::default() };
        let bounds = Bounds { connections: 2, ..Bounds::default() };
        let sessions = Sessions::new().expect("randomness");
        Listener::new(&offer, AlpnPolicy::Http2Preferred, certificates, upstream, bounds, &sessions)
            .expect("a listener")
    }

    fn origin() -> Origin {
        Origin {
            client: SocketAddrV4::from_str("10.0.1.10:40000").expect("an address"),
            front: SocketAddrV4::from_str("10.0.0.50:443").expect("an address"),
            endpoint: Some("vpce-0123456789abcdef0".to_owned()),
        }
    }

    /// A target that says what it reads until the client closes.
    async fn echo() -> SocketAddrV4 {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let SocketAddr::V4(address) = socket.local_addr().expect("an address") else { panic!("an IPv4 address") };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = socket.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn run(listener: Listener, client: impl AsyncFnOnce(TcpStream)) -> (Result<(), Refusal>, Record) {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = socket.local_addr().expect("an address");
        let serving = async {
            let (stream, _) = socket.accept().await.expect("a connection");
            let mut record = Record::default();
            let connector = upstream_connector().expect("a client");
            let result =
                serve(&listener, &Endpoints::default(), &Turn::default(), &connector, stream, &mut record).await;
            (result, record)
        };
        let connecting = async { client(TcpStream::connect(address).await.expect("connected")).await };
        tokio::join!(serving, connecting).0
    }

    async fn shake(
        stream: TcpStream,
        name: &'static str,
        alpn: &[&[u8]],
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut config = unverified::config().expect("a client");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
    }

    #[tokio::test]
    async fn a_request_goes_through_and_all_is_on_record() {
        let target = echo().await;
        let (result, record) = run(listener(vec![target], true), async |mut stream: TcpStream| {
            stream.write_all(&origin().header()).await.expect("written");
            let mut tls = shake(stream, "www.b.test", &[b"http/1.1", b"h2"]).await;
            tls.write_all(b"hello").await.expect("written");
            tls.shutdown().await.expect("closed");
            let mut answer = Vec::new();
            tls.read_to_end(&mut answer).await.expect("an answer");
            assert_eq!(answer, [origin().header().as_slice(), b"hello"].concat());
        })
        .await;
        result.expect("relayed");
        assert_eq!(record.origin, Some(origin()));
        assert_eq!(record.target, Some(target.into()));
        assert_eq!(record.certificate_arn.as_deref(), Some("other"));
        assert_eq!(record.alpn, Some("h2"));
        assert_eq!(record.alpn_offered, ["http/1.1", "h2"]);
        assert_eq!(record.server_name.as_deref(), Some("www.b.test"));
        assert_eq!(record.version, Some("tlsv13"));
        assert_eq!(record.cipher.as_deref(), Some("TLS_AES_128_GCM_SHA256"));
        let relayed = record.relayed.expect("relayed");
        assert_eq!((relayed.up, relayed.down), (5, 105));
    }

    #[tokio::test]
    async fn what_is_no_tls_is_refused_by_name() {
        let (result, record) = run(listener(vec![], false), async |mut stream: TcpStream| {
            stream.write_all(&origin().header()).await.expect("written");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.expect("written");
            let mut answer = Vec::new();
            // An alert or a reset: either is an end.
            let _ = stream.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP"));
        })
        .await;
        assert!(matches!(result, Err(Refusal::Client(_))), "{result:?}");
        assert_eq!(record.origin, Some(origin()));
        let (result, _) = run(listener(vec![], false), async |mut stream: TcpStream| {
            stream.write_all(&[0x16; HEAD]).await.expect("written");
        })
        .await;
        assert!(matches!(result, Err(Refusal::Header(HeaderError::NoHeader))), "{result:?}");
    }

    #[tokio::test]
    async fn a_slow_client_has_until_the_deadline() {
        let mut listener = listener(vec![], false);
        listener.bounds.handshake = Duration::from_millis(100);
        let (result, _) = run(listener, async |mut stream: TcpStream| {
            stream.write_all(&origin().header()).await.expect("written");
            let mut end = [0];
            let _ = stream.read(&mut end).await;
        })
        .await;
        assert!(matches!(result, Err(Refusal::Slow(_))), "{result:?}");
    }

    #[test]
    fn an_endpoint_has_its_own_bound() {
        let endpoints = Endpoints::default();
        let _one = endpoints.admit("vpce-1", 1).expect("the first");
        assert!(matches!(endpoints.admit("vpce-1", 1), Err(Refusal::Connections(1))));
        let two = endpoints.admit("vpce-2", 1).expect("another endpoint's");
        drop(two);
        let _again = endpoints.admit("vpce-2", 1).expect("its place is free again");
    }
}
