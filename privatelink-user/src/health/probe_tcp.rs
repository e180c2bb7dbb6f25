//! The TCP health check: a completed handshake is a pass. The connection is closed at once by this side, so that the
//! target keeps no TIME_WAIT and the source port is free again.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use super::{
    dial::Dialer,
    state::{Failure, Outcome},
};

/// Probes `address` once.
pub async fn probe(dialer: &Dialer, address: SocketAddr, limit: Duration) -> Outcome {
    match timeout(limit, open(dialer, address)).await {
        Ok(Ok(_connection)) => Outcome::Passed,
        Ok(Err(failure)) => Outcome::Failed(failure),
        Err(_) => Outcome::Failed(Failure::Timeout),
    }
}

/// Connects, and says whose fault it is if that does not succeed.
pub(super) async fn open(dialer: &Dialer, address: SocketAddr) -> Result<TcpStream, Failure> {
    dialer.connect(address).await.map_err(|error| failure(&error))
}

pub(super) fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::Timeout,
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Failure::Refused,
        // `ErrorKind` is open-ended: everything else (no descriptors, no device, no permission) is this host's trouble.
        _ => Failure::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listening_port_passes_and_a_closed_one_is_refused() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let dialer = Dialer::default();
        assert_eq!(probe(&dialer, address, Duration::from_secs(5)).await, Outcome::Passed);
        drop(listener);
        let refused = probe(&dialer, address, Duration::from_secs(5)).await;
        assert_eq!(refused, Outcome::Failed(Failure::Refused));
    }

    #[tokio::test]
    async fn a_target_that_wants_a_proxy_header_gets_a_local_one_first() {
        use tokio::io::AsyncReadExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let dialer = Dialer { device: None, proxy_protocol: true };
        assert_eq!(probe(&dialer, address, Duration::from_secs(5)).await, Outcome::Passed);
        let (mut accepted, _) = listener.accept().await.expect("the check");
        let mut sent = Vec::new();
        accepted.read_to_end(&mut sent).await.expect("what the check sent");
        assert_eq!(sent, b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00");
    }

    #[tokio::test]
    async fn an_unknown_device_is_the_hosts_trouble() {
        let dialer = Dialer { device: Some("no-such-dev0".to_owned()), proxy_protocol: false };
        let outcome = probe(&dialer, SocketAddr::from(([127, 0, 0, 1], 9)), Duration::from_secs(5)).await;
        assert_eq!(outcome, Outcome::Failed(Failure::Internal));
    }
}
