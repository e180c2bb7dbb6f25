//! TLS for health checks: a handshake with whatever certificate the target shows, unless its group says whose it has to
//! be. Targets have certificates for names that only their clients know, self-signed or expired ones; a check asks
//! whether they answer, not who they are.

use std::{io, net::IpAddr, sync::Arc};

use rustls::{ClientConfig, client::Resumption, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{probe_tcp, state::Failure};
use crate::tls::{
    unverified,
    verified::{self, Distrust, Names, Verify},
};

/// A client of TLS 1.2 and 1.3. Each handshake is a full one.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    /// Whom it asks for; none: nobody by name.
    name: Option<ServerName<'static>>,
}

impl Tls {
    /// One that believes every certificate.
    ///
    /// # Errors
    ///
    /// When the cryptography that this was built with supports neither version.
    pub fn new() -> Result<Self, rustls::Error> {
        Ok(Self::of(unverified::config()?, None))
    }

    /// One that believes whom a target group says. Without a name of its own, it asks for none: whichever name the
    /// certificate is for, it counts.
    ///
    /// # Errors
    ///
    /// When the cryptography that this was built with supports neither version, or the name is none.
    pub fn verifying(verify: &Verify) -> Result<Self, rustls::Error> {
        let name = verify.server_name()?;
        let names = if name.is_some() { Names::Matter } else { Names::AnyWillDo };
        Ok(Self::of(verified::config(&verify.roots, names)?, name))
    }

    fn of(mut config: ClientConfig, name: Option<ServerName<'static>>) -> Self {
        config.resumption = Resumption::disabled();
        Self { connector: TlsConnector::from(Arc::new(config)), name }
    }

    /// Negotiates with the target at `address`. Who asks for nobody sends no server name: there is none for an address
    /// (RFC 6066 section 3).
    ///
    /// # Errors
    ///
    /// [`Failure::Distrusted`] for a certificate that is not believed, [`Failure::Malformed`] for what is no TLS of
    /// these versions, the stream's own failure otherwise.
    pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        address: IpAddr,
    ) -> Result<TlsStream<S>, Failure> {
        let name = self.name.clone().unwrap_or_else(|| ServerName::IpAddress(address.into()));
        self.connector.connect(name, stream).await.map_err(|error| match error.kind() {
            _ if Distrust::of(&error).is_some() => Failure::Distrusted,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Failure::Malformed,
            _ => probe_tcp::failure(&error),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use rustls::{ServerConfig, SupportedProtocolVersion, pki_types::PrivateKeyDer};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::health::{
        dial::Dialer,
        probe_http::{self, HttpCheck},
        state::Outcome,
    };

    /// A server with a self-signed certificate for another name, which answers once; what it negotiated and was asked.
    async fn server(
        versions: &'static [&'static SupportedProtocolVersion],
        answer: &'static [u8],
    ) -> (SocketAddr, tokio::task::JoinHandle<(Option<rustls::ProtocolVersion>, String)>) {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["somewhere.else.example".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(crate::tls::crypto::provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a certificate");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("the probe connects");
            let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await.expect("a handshake");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.expect("a whole request"));
            }
            let version = stream.get_ref().1.protocol_version();
            stream.write_all(answer).await.expect("the answer is written");
            let _ = stream.read_to_end(&mut Vec::new()).await;
            (version, String::from_utf8(request).expect("a request in ASCII"))
        });
        (address, server)
    }

    async fn probe(address: SocketAddr) -> Outcome {
        let tls = Tls::new().expect("a client");
        let check = HttpCheck { path: "/".to_owned(), node: IpAddr::from([10, 0, 0, 5]), listener_port: 443 };
        let accepts = |code| (200..400).contains(&code);
        probe_http::probe(&Dialer::default(), Some(&tls), address, &check, accepts, Duration::from_secs(5)).await
    }

    #[tokio::test]
    async fn both_versions_pass_with_a_certificate_that_nobody_vouches_for() {
        static TLS12: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS12];
        static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        for (only, expected) in [(&TLS12, rustls::ProtocolVersion::TLSv1_2), (&TLS13, rustls::ProtocolVersion::TLSv1_3)]
        {
            let (address, server) = server(only, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            assert_eq!(probe(address).await, Outcome::Passed);
            let (version, request) = server.await.expect("the server ends");
            assert_eq!(version, Some(expected));
            assert!(request.to_ascii_lowercase().contains("\r\nhost: 10.0.0.5:443\r\n"), "{request}");
        }
    }

    #[tokio::test]
    async fn the_code_counts_over_tls_too() {
        let (address, _server) = server(rustls::ALL_VERSIONS, b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(probe(address).await, Outcome::Failed(Failure::StatusCode(500)));
    }

    #[tokio::test]
    async fn a_server_that_speaks_no_tls_fails() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the probe connects");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("the answer is written");
            let _ = stream.read_to_end(&mut Vec::new()).await;
        });
        assert_eq!(probe(address).await, Outcome::Failed(Failure::Malformed));
        server.await.expect("the server ends");
    }
}
