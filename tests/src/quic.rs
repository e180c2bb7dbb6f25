//! A QUIC server and client (quinn): streams that are echoed, and a client that moves to another port on the way.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use rustls::{RootCertStore, pki_types::PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

use crate::netns::Netns;

/// The name in the server's certificate.
const NAME: &str = "service.test";

/// A server that sends back what each stream brings, until it is dropped.
#[derive(Debug)]
pub struct Echo {
    /// What a client must trust.
    certificate: rustls::pki_types::CertificateDer<'static>,
    endpoint: Endpoint,
    _runtime: Runtime,
}

impl Echo {
    /// Listens on `address` in `netns`.
    pub fn start(netns: &Netns, address: SocketAddr) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).context("a certificate")?;
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).context("the server")?;
        let runtime = runtime()?;
        let socket = bind(netns, address)?;
        let endpoint = {
            let _entered = runtime.enter();
            Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
                .context("the server's endpoint")?
        };
        let accepting = endpoint.clone();
        runtime.spawn(async move {
            while let Some(incoming) = accepting.accept().await {
                tokio::spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    while let Ok((mut to, mut from)) = connection.accept_bi().await {
                        tokio::spawn(async move {
                            // A client that is gone wants nothing back.
                            let _ = tokio::io::copy(&mut from, &mut to).await;
                            let _ = to.finish();
                        });
                    }
                });
            }
        });
        Ok(Self { certificate, endpoint, _runtime: runtime })
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.endpoint.open_connections()
    }
}

/// Sends `bytes` through the server at `to` and back, in two streams; between them the client goes on from another
/// port. What comes back has the hash of what was sent.
pub fn transfer(netns: &Netns, server: &Echo, to: SocketAddr, bytes: usize) -> Result<()> {
    let any = |to: SocketAddr| SocketAddr::new(if to.is_ipv4() { [0; 4].into() } else { [0_u8; 16].into() }, 0);
    let (first, second) = (bind(netns, any(to))?, bind(netns, any(to))?);
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone()).context("the server's certificate")?;
    let config = ClientConfig::with_root_certificates(Arc::new(roots)).context("the client")?;
    let runtime = runtime()?;
    let work = async {
        let endpoint = Endpoint::new(EndpointConfig::default(), None, first, Arc::new(TokioRuntime))
            .context("the client's endpoint")?;
        let connection =
            endpoint.connect_with(config, to, NAME).context("the server's address")?.await.context("the handshake")?;
        echo(&connection, bytes).await.context("from the first port")?;
        endpoint.rebind(second).context("the second port")?;
        echo(&connection, bytes).await.context("from the second port")?;
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        Ok(())
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.context("a minute is over")? })
}

async fn echo(connection: &quinn::Connection, bytes: usize) -> Result<()> {
    let content: Vec<u8> = (0..bytes as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sent = Sha256::digest(&content);
    let (mut to, mut from) = connection.open_bi().await.context("a stream")?;
    let send = async {
        to.write_all(&content).await.context("sending")?;
        to.finish().context("the stream's end")
    };
    let receive = async { from.read_to_end(bytes).await.context("receiving") };
    let ((), received) = tokio::try_join!(send, receive)?;
    ensure!(Sha256::digest(&received) == sent, "{} bytes came back, and they differ", received.len());
    Ok(())
}

fn bind(netns: &Netns, address: SocketAddr) -> Result<UdpSocket> {
    netns.run(|| UdpSocket::bind(address))?.with_context(|| format!("a socket on {address}"))
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("a runtime")
}
