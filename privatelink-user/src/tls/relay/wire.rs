//! What the agent and the relay say to each other on the relay's control socket: frames of JSON, each after its length
//! as a big-endian u32. The socket is its owner's only, because private keys travel on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
};

use nix::{errno::Errno, net::if_::if_nametoindex};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::{
    model::{CertificateId, ListenerId, SecretText},
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy, verified::Verify},
};

/// What is the relay's own in a state directory: it may make and remove sockets there, and nothing beside it.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("relay")
}

/// The control socket of the relay of a state directory.
pub fn socket(state_dir: &Path) -> PathBuf {
    directory(state_dir).join("socket")
}

/// The longest frame: some thousand certificates.
const LONGEST: u32 = 64 << 20;

/// What the relay is asked. It answers each with a [`Status`], but for the last two.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Serve exactly this from now on. Open connections go on with what they began with.
    Configure(Box<Config>),
    Status,
    /// Pass the listening sockets on by this protocol, and end with the last connection (`handover.rs`).
    HandOver {
        protocol: u32,
    },
    /// End at once; open connections end.
    Stop,
}

/// Everything that a relay serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Where its listeners are, at ports of its own choice.
    pub address: Ipv4Addr,
    /// By which they are reached, and targets too: the host end of the host port.
    pub device: Device,
    pub listeners: BTreeMap<ListenerId, ListenerConfig>,
    /// Those that the listeners name.
    pub certificates: BTreeMap<CertificateId, Pem>,
    /// Where connections are logged.
    pub access_log: Option<PathBuf>,
}

impl Config {
    /// Where it lets new connections go.
    pub fn targets(&self) -> impl Iterator<Item = SocketAddrV4> {
        let groups = self.listeners.values().flat_map(|listener| &listener.groups);
        groups.flat_map(|group| group.targets.iter().copied())
    }
}

/// An interface; made anew under the same name it is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub name: String,
    pub index: u32,
}

impl Device {
    /// Whether the kernel no longer has it, as when the agent is taken out of it.
    pub fn is_gone(&self) -> bool {
        match if_nametoindex(self.name.as_str()) {
            Ok(index) => index != self.index,
            Err(error) => error == Errno::ENODEV && !self.name.is_empty(),
        }
    }
}

/// A TLS listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerConfig {
    /// Its load balancer as the access log names it: `net/<name>/<16 hex>`.
    pub load_balancer: String,
    pub policy: ListenerPolicy,
    pub alpn: AlpnPolicy,
    /// The default one.
    pub certificate: CertificateId,
    pub more: BTreeSet<CertificateId>,
    /// Those that may have new connections.
    pub groups: Vec<Group>,
}

/// A target group as a listener uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its share of connections relative to the others; not 0.
    pub weight: u32,
    /// Speak TLS with the targets.
    pub tls: bool,
    /// Whose certificates they have to show then; none: anybody's.
    #[serde(default)]
    pub verify: Option<Verify>,
    /// Begin with a PROXY protocol header.
    pub proxy_v2: bool,
    /// Where the datapath takes connections to the targets that may have new ones.
    pub targets: Vec<SocketAddrV4>,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pem {
    pub certificate: String,
    pub chain: String,
    pub private_key: SecretText,
}

/// What a relay is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which program it is; another build's is replaced.
    pub build: String,
    pub pid: u32,
    /// The directory in which it may write an access log.
    #[serde(default)]
    pub log_directory: Option<PathBuf>,
    /// It serves until another takes over.
    #[serde(default)]
    pub ending: bool,
    pub listeners: BTreeMap<ListenerId, ListenerStatus>,
    /// The targets that its listeners use.
    pub targets: BTreeSet<SocketAddrV4>,
}

/// What became of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// Where it accepts connections.
    pub port: u16,
    pub counts: Counts,
}

/// What a listener has done since its relay began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Open connections.
    pub active: u64,
    pub accepted: u64,
    /// Handshakes with clients that failed, or took too long.
    pub client_failed: u64,
    /// Connections to targets, or handshakes with them, that failed.
    pub target_failed: u64,
    /// Those of them that failed because the target's certificate is not believed.
    #[serde(default)]
    pub target_distrusted: u64,
    /// Connections beyond an endpoint's limit.
    pub rejected: u64,
    /// Bytes of clients that went to targets.
    pub received: u64,
    /// Bytes of targets that went to clients.
    pub sent: u64,
}

impl Counts {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            accepted: self.accepted + other.accepted,
            client_failed: self.client_failed + other.client_failed,
            target_failed: self.target_failed + other.target_failed,
            target_distrusted: self.target_distrusted + other.target_distrusted,
            rejected: self.rejected + other.rejected,
            received: self.received + other.received,
            sent: self.sent + other.sent,
        }
    }
}

/// Sends one frame.
///
/// # Errors
///
/// The stream's; [`io::ErrorKind::InvalidInput`] for a frame that is too long.
pub async fn send<T: Serialize>(stream: &mut (impl AsyncWrite + Unpin), message: &T) -> io::Result<()> {
    stream.write_all(&frame(message)?).await
}

/// A frame's bytes.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`] for a frame that is too long.
pub fn frame<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= LONGEST);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"))?;
    Ok([length.to_be_bytes().as_slice(), &body].concat())
}

/// Receives one frame.
///
/// # Errors
///
/// The stream's; [`io::ErrorKind::InvalidData`] for what is none.
pub async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = checked_length(stream.read_u32().await?)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    parse(&body)
}

/// The length of the frame that begins with this number.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] if it is too long.
pub fn checked_length(length: u32) -> io::Result<usize> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the frame is too long");
    if length > LONGEST { Err(too_long()) } else { usize::try_from(length).map_err(|_| too_long()) }
}

/// What a frame says. serde's own error is left out: it may quote a key.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`].
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a message of another version of privatelink"))
}
