use std::{net::SocketAddrV4, str::FromStr as _};

use tokio::net::TcpListener;

use super::*;
use crate::tls::{
    certificate::tests::{self_signed, served},
    policy::SslPolicy,
    verified::{Roots, Verify},
};

/// A listener and where its connections go.
struct Served {
    listener: Listener,
    upstream: Upstream,
}

fn listener(targets: Vec<SocketAddrV4>, proxy_v2: bool) -> Served {
    let sessions = Sessions::new(None).expect("randomness");
    with_policy("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", targets, proxy_v2, &sessions)
}

fn with_policy(policy: &str, targets: Vec<SocketAddrV4>, proxy_v2: bool, sessions: &Sessions) -> Served {
    let offer = SslPolicy::named(policy).expect("a policy").offer().expect("honoured");
    let certificates =
        Certificates { default: served("default", &["a.test"]), by_name: vec![served("other", &["*.b.test"])] };
    let group = Group { weight: 1, tls: false, verify: None, proxy_v2, targets };
    let upstream = Upstream::new(vec![group], Dialer::default()).expect("a client");
    let bounds = Bounds { connections: 2, ..Bounds::default() };
    let listener =
        Listener::new(&offer, AlpnPolicy::Http2Preferred, certificates, bounds, sessions).expect("a listener");
    Served { listener, upstream }
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

/// Where nobody listens any more.
async fn gone() -> SocketAddrV4 {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let SocketAddr::V4(address) = socket.local_addr().expect("an address") else { panic!("an IPv4 address") };
    address
}

async fn run(served: Served, client: impl AsyncFnOnce(TcpStream)) -> (Result<(), Refusal>, Record) {
    let Served { listener, upstream } = served;
    let present = Mutex::new(Arc::new(upstream));
    run_at(&listener, &present, client).await
}

/// Connections go where `present` leads to when they are about to.
async fn run_at(
    listener: &Listener,
    present: &Mutex<Arc<Upstream>>,
    client: impl AsyncFnOnce(TcpStream),
) -> (Result<(), Refusal>, Record) {
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = socket.local_addr().expect("an address");
    let serving = async {
        let (stream, _) = socket.accept().await.expect("a connection");
        let mut record = Record::default();
        let (turn, connector) = (Turn::default(), upstream_connector().expect("a client"));
        let upstream = || Arc::clone(&present.lock().expect("nobody panics"));
        let onward = Onward { upstream, turn: &turn, client: &connector };
        let result = serve(listener, &Endpoints::default(), onward, stream, &mut record).await;
        (result, record)
    };
    let connecting = async { client(TcpStream::connect(address).await.expect("connected")).await };
    tokio::join!(serving, connecting).0
}

async fn shake(stream: TcpStream, name: &'static str, alpn: &[&[u8]]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut config = unverified::config().expect("a client");
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    shake_by(Arc::new(config), stream, name).await
}

async fn shake_by(
    config: Arc<rustls::ClientConfig>,
    stream: TcpStream,
    name: &'static str,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let name = ServerName::try_from(name).expect("a name");
    TlsConnector::from(config).connect(name, stream).await.expect("a handshake")
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
    listener.listener.bounds.handshake = Duration::from_millis(100);
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

/// A record that says to be longer than any may be (RFC 8446 section 5.2: 2^14 + 256 bytes; RFC 5246: 2^14 + 2048).
const OVERSIZED: [u8; 5] = [0x16, 0x03, 0x03, 0x48, 0x01];

#[tokio::test]
async fn a_record_that_is_too_long_is_refused_before_it_has_come() {
    let since = Instant::now();
    let (result, record) = run(listener(vec![], false), async |mut stream: TcpStream| {
        stream.write_all(&[origin().header().as_slice(), &OVERSIZED].concat()).await.expect("written");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    })
    .await;
    let Err(Refusal::Client(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("MessageTooLarge"), "{error}");
    assert!(since.elapsed() < Bounds::default().handshake / 2, "it was not waited for");
    assert_eq!(record.handshake, None);
    // After the handshake as well.
    let target = echo().await;
    let (result, record) = run(listener(vec![target], false), async |mut stream: TcpStream| {
        stream.write_all(&origin().header()).await.expect("written");
        let (mut stream, _) = shake(stream, "a.test", &[]).await.into_inner();
        stream.write_all(&OVERSIZED).await.expect("written");
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    result.expect("the handshake was good");
    let end = record.relayed.expect("relayed").end;
    assert!(matches!(&end, pump::End::Failed(error) if error.to_string().contains("MessageTooLarge")), "{end:?}");
}

#[tokio::test]
async fn a_client_comes_back_by_its_ticket_to_this_relay_and_the_next() {
    use rustls::HandshakeKind::{Full, Resumed};
    let target = echo().await;
    let before = Sessions::new(None).expect("randomness");
    let after = Sessions::new(Some(&before.keys())).expect("randomness");
    let others = Sessions::new(None).expect("randomness");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(unverified::config_of(&[version]).expect("a client"));
        for (sessions, expected) in [(&before, Full), (&before, Resumed), (&after, Resumed), (&others, Full)] {
            let listener = with_policy("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", vec![target], false, sessions);
            let (result, _) = run(listener, async |mut stream: TcpStream| {
                stream.write_all(&origin().header()).await.expect("written");
                let mut tls = shake_by(Arc::clone(&config), stream, "a.test").await;
                assert_eq!(tls.get_ref().1.handshake_kind(), Some(expected), "{version:?}");
                tls.write_all(b"hello").await.expect("written");
                tls.shutdown().await.expect("closed");
                let mut answer = Vec::new();
                tls.read_to_end(&mut answer).await.expect("an answer");
                assert_eq!(answer, b"hello");
            })
            .await;
            result.expect("relayed");
        }
    }
}

#[tokio::test]
async fn a_policy_says_whether_a_quantum_computer_may_listen() {
    let target = echo().await;
    for (policy, expected) in [
        ("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", "x25519"),
        ("ELBSecurityPolicy-TLS13-1-2-Res-PQ-2025-09", "x25519mlkem768"),
        ("ELBSecurityPolicy-TLS13-1-3-PQ-2025-09", "x25519mlkem768"),
    ] {
        let sessions = Sessions::new(None).expect("randomness");
        let (result, record) =
            run(with_policy(policy, vec![target], false, &sessions), async |mut stream: TcpStream| {
                stream.write_all(&origin().header()).await.expect("written");
                let provider = CryptoProvider { kx_groups: crypto::HYBRIDS.to_vec(), ..crypto::provider() };
                let config = unverified::config_by(provider, rustls::ALL_VERSIONS).expect("a client");
                let mut tls = shake_by(Arc::new(config), stream, "a.test").await;
                tls.shutdown().await.expect("closed");
                let _ = tls.read_to_end(&mut Vec::new()).await;
            })
            .await;
        result.expect("relayed");
        assert_eq!(record.group.as_deref(), Some(expected), "{policy}");
    }
}

/// A target that speaks TLS with a certificate for `name`, and says what it reads; the certificate.
async fn tls_echo(name: &str) -> (SocketAddrV4, String) {
    let (certificate, key) = self_signed(&[name]);
    let shown = crate::tls::certificate::Served::from_pem(String::new(), certificate.as_bytes(), b"", key.as_bytes());
    let resolver = Arc::new(Certificates { default: shown.expect("a certificate"), by_name: Vec::new() });
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let SocketAddr::V4(address) = socket.local_addr().expect("an address") else { panic!("an IPv4 address") };
    tokio::spawn(async move {
        while let Ok((stream, _)) = socket.accept().await {
            // A client that does not believe it breaks off.
            let Ok(mut tls) = acceptor.accept(stream).await else { continue };
            let mut byte = [0];
            if tls.read_exact(&mut byte).await.is_ok() {
                let _ = tls.write_all(&byte).await;
                let _ = tls.shutdown().await;
            }
        }
    });
    (address, certificate)
}

#[tokio::test]
async fn targets_that_go_during_a_handshake_are_not_asked() {
    let Served { listener, upstream: before } = listener(vec![gone().await], false);
    let group = Group { weight: 1, tls: false, verify: None, proxy_v2: false, targets: vec![echo().await] };
    let after = Upstream::new(vec![group], Dialer::default()).expect("a client");
    let present = Mutex::new(Arc::new(before));
    let (result, _) = run_at(&listener, &present, async |mut stream: TcpStream| {
        stream.write_all(&origin().header()).await.expect("written");
        *present.lock().expect("nobody panics") = Arc::new(after);
        let mut tls = shake(stream, "a.test", &[]).await;
        tls.write_all(b"hello").await.expect("written");
        tls.shutdown().await.expect("shut down");
        let mut answer = String::new();
        tls.read_to_string(&mut answer).await.expect("an answer");
        assert_eq!(answer, "hello");
    })
    .await;
    result.expect("relayed");
}

#[tokio::test]
async fn a_target_is_believed_by_its_certificate_where_the_group_asks_for_it() {
    let (target, right) = tls_echo("www.b.test").await;
    let (wrong, _) = self_signed(&["www.b.test"]);
    let fixed = |name: &str| Some(name.to_owned());
    for (pem, name, asked, expected) in [
        (&right, None, "www.b.test", None),
        (&right, fixed("www.b.test"), "a.test", None),
        (&right, None, "a.test", Some(Distrust::OtherName)),
        (&right, fixed("other.test"), "www.b.test", Some(Distrust::OtherName)),
        (&wrong, None, "www.b.test", Some(Distrust::UnknownIssuer)),
    ] {
        let mut listener = listener(Vec::new(), false);
        let verify = Some(Verify { roots: Roots::Pem(pem.clone()), name });
        let group = Group { weight: 1, tls: true, verify, proxy_v2: false, targets: vec![target] };
        listener.upstream = Upstream::new(vec![group], Dialer::default()).expect("a client");
        let (result, record) = run(listener, async |mut stream: TcpStream| {
            stream.write_all(&origin().header()).await.expect("written");
            let mut tls = shake(stream, asked, &[]).await;
            let _ = tls.write_all(b"x").await;
            let mut answer = Vec::new();
            let _ = tls.read_to_end(&mut answer).await;
            assert_eq!(answer.is_empty(), expected.is_some(), "{expected:?}");
        })
        .await;
        assert_eq!(record.distrust, expected);
        assert_eq!(result.is_ok(), expected.is_none(), "{result:?}");
    }
}
