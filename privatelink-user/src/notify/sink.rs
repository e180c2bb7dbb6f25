//! Where a message ends.

use std::{
    fs::OpenOptions, io, os::unix::fs::OpenOptionsExt as _, path::PathBuf, process::Stdio, sync::Arc, time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a message was not delivered, or never can be.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("the program ended with {0}")]
    Exit(std::process::ExitStatus),
    #[error("'{0}' is not a URL that can be asked")]
    Url(String),
    #[error("'{0}' is not a host name: {1}")]
    Name(String, InvalidDnsNameError),
    #[error("the certificates in {file} cannot be read: {detail}")]
    Certificates { file: PathBuf, detail: String },
}

/// Whose certificates are believed: those in this file.
#[derive(Debug, Clone)]
pub struct Trust(pub PathBuf);

impl Trust {
    fn config(&self) -> Result<Arc<ClientConfig>, SinkError> {
        let unreadable = |detail: String| SinkError::Certificates { file: self.0.clone(), detail };
        let mut roots = RootCertStore::empty();
        let found = CertificateDer::pem_file_iter(&self.0).map_err(|error| unreadable(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            // One that cannot be used is nobody's reason not to use the others.
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err(unreadable("there is none".to_owned()));
        }
        let provider = Arc::new(crate::tls::crypto::provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| unreadable(error.to_string()))?;
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// Where a message ends.
pub enum Sink {
    Webhook(Webhook),
    /// Run with the message as its input, in an empty environment; without arguments and without a shell.
    Program(PathBuf),
    /// A line is appended.
    File(PathBuf),
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Webhook(webhook) => f.debug_tuple("Webhook").field(&webhook.uri).finish(),
            Self::Program(path) => f.debug_tuple("Program").field(path).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Sink {
    /// One try.
    pub async fn deliver(&self, message: &str) -> Result<(), SinkError> {
        let tried = async {
            match self {
                Self::Webhook(webhook) => webhook.post(message).await,
                Self::Program(path) => run(path, message).await,
                Self::File(path) => append(path.clone(), message.to_owned()).await,
            }
        };
        timeout(PATIENCE, tried).await.map_err(|_| SinkError::Timeout)?
    }
}

async fn append(path: PathBuf, message: String) -> Result<(), SinkError> {
    let write = move || {
        let mut options = OpenOptions::new();
        // A link in the last part of the path is not followed: the operator has named the file. Nor is a pipe waited
        // for that nobody reads.
        options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        io::Write::write_all(&mut options.open(path)?, format!("{message}\n").as_bytes())
    };
    tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
    Ok(())
}

async fn run(path: &PathBuf, message: &str) -> Result<(), SinkError> {
    let mut child = Command::new(path)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        let written = input.write_all(format!("{message}\n").as_bytes()).await;
        // A program need not read what it is told.
        if let Err(error) = written
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(error.into());
        }
    }
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(SinkError::Exit(status)) }
}

/// A URL that takes a POST.
pub struct Webhook {
    uri: Uri,
    host: String,
    port: u16,
    /// Of https.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Webhook {
    /// The webhook at `url`.
    pub fn new(url: &str, trust: &Trust) -> Result<Self, SinkError> {
        let uri: Uri = url.parse().map_err(|_| SinkError::Url(url.to_owned()))?;
        let host = uri.host().ok_or_else(|| SinkError::Url(url.to_owned()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let tls = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|error| SinkError::Name(host.clone(), error))?;
                Some((trust.config()?, name))
            }
            Some("http") => None,
            Some(_) | None => return Err(SinkError::Url(url.to_owned())),
        };
        let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
        Ok(Self { uri, host, port, tls })
    }

    async fn post(&self, message: &str) -> Result<(), SinkError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        match &self.tls {
            None => self.ask(stream, message).await,
            Some((config, name)) => {
                let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await?;
                self.ask(stream, message).await
            }
        }
    }

    async fn ask<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        message: &str,
    ) -> Result<(), SinkError> {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the sender; what goes wrong in it is what the sender reports.
        let connection = tokio::spawn(connection);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let request = Request::post(path)
            .header(HOST, authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(message.to_owned())))
            .map_err(|_| SinkError::Url(self.uri.to_string()))?;
        let answer = sender.send_request(request).await;
        connection.abort();
        let status = answer?.status();
        if status.is_success() { Ok(()) } else { Err(SinkError::Status(status)) }
    }
}
