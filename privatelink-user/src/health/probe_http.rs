//! The HTTP health check: `GET` of a path over HTTP/1.1, judged by the status code; the body is not read. The HTTPS one
//! is the same over TLS.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use http_body_util::Empty;
use hyper::{Request, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    dial::Dialer,
    probe_tcp,
    state::{Failure, Outcome},
    tls::Tls,
};

/// The `User-Agent` of load balancer health checks; access logs of servers are filtered by it.
pub const USER_AGENT: &str = "ELB-HealthChecker/2.0";

/// What one HTTP check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// Absolute path with an optional query.
    pub path: String,
    /// The `Host` header names the load balancer's node and the *listener's* port, not the target's.
    pub node: IpAddr,
    pub listener_port: u16,
}

/// Probes `address` once, over TLS if that is given; `accepts` is the matcher.
pub async fn probe(
    dialer: &Dialer,
    tls: Option<&Tls>,
    address: SocketAddr,
    check: &HttpCheck,
    accepts: impl Fn(u16) -> bool,
    limit: Duration,
) -> Outcome {
    match timeout(limit, status(dialer, tls, address, check)).await {
        Ok(Ok(code)) if accepts(code) => Outcome::Passed,
        Ok(Ok(code)) => Outcome::Failed(Failure::StatusCode(code)),
        Ok(Err(failure)) => Outcome::Failed(failure),
        Err(_) => Outcome::Failed(Failure::Timeout),
    }
}

async fn status(dialer: &Dialer, tls: Option<&Tls>, address: SocketAddr, check: &HttpCheck) -> Result<u16, Failure> {
    let stream = probe_tcp::open(dialer, address).await?;
    match tls {
        None => ask(stream, check).await,
        Some(tls) => ask(tls.handshake(stream, address.ip()).await?, check).await,
    }
}

async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin, check: &HttpCheck) -> Result<u16, Failure> {
    let HttpCheck { path, node, listener_port } = check;
    let request = Request::get(path.as_str())
        .header(header::HOST, SocketAddr::new(*node, *listener_port).to_string())
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| Failure::Internal)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Malformed)?;
    let mut response = std::pin::pin!(sender.send_request(request));
    // The connection does the work; it may end (`Connection: close`) before the response is picked up, and what went
    // wrong with it arrives through the response too.
    let response = tokio::select! {
        biased;
        response = &mut response => response,
        _ended = connection => response.await,
    };
    response.map(|response| response.status().as_u16()).map_err(|error| failure(&error))
}

fn failure(error: &hyper::Error) -> Failure {
    if error.is_timeout() {
        Failure::Timeout
    } else if error.is_parse() || error.is_incomplete_message() {
        Failure::Malformed
    } else {
        Failure::Refused
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn check() -> HttpCheck {
        HttpCheck { path: "/ready?deep=1".to_owned(), node: IpAddr::from([10, 0, 0, 5]), listener_port: 80 }
    }

    /// Serves one connection with `answer` and returns what the client sent.
    async fn exchange(answer: &'static [u8]) -> (Outcome, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("the probe connects");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.expect("a whole request");
                request.extend(byte);
            }
            stream.write_all(answer).await.expect("the answer is written");
            // The probe closes: reading ends although the server keeps the connection open.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            String::from_utf8(request).expect("a request in ASCII")
        });
        let outcome =
            probe(&Dialer::default(), None, address, &check(), |code| (200..400).contains(&code), LIMIT).await;
        (outcome, server.await.expect("the server ends"))
    }

    #[tokio::test]
    async fn the_request_names_the_node_and_the_listener() {
        let (outcome, request) = exchange(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(outcome, Outcome::Passed);
        assert!(request.starts_with("GET /ready?deep=1 HTTP/1.1\r\n"), "{request}");
        let request = request.to_ascii_lowercase();
        assert!(request.contains("\r\nhost: 10.0.0.5:80\r\n"), "{request}");
        assert!(request.contains("\r\nuser-agent: elb-healthchecker/2.0\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_code_outside_the_matcher_fails_with_the_code() {
        let (outcome, _) = exchange(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\n\r\n").await;
        assert_eq!(outcome, Outcome::Failed(Failure::StatusCode(503)));
    }

    #[tokio::test]
    async fn a_response_that_is_no_http_fails() {
        let (outcome, _) = exchange(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        assert_eq!(outcome, Outcome::Failed(Failure::Malformed));
    }

    #[tokio::test]
    async fn a_server_that_never_answers_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let limit = Duration::from_millis(50);
        let outcome = probe(&Dialer::default(), None, address, &check(), |_| true, limit).await;
        assert_eq!(outcome, Outcome::Failed(Failure::Timeout));
    }
}
