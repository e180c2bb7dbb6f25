//! `privatelink relay`: the process in which TLS listeners' connections end and go on to targets.
//!
//! It is a process of its own so that they outlive the agent: the agent tells it what to serve (`wire.rs`), and it goes
//! on with that whatever becomes of the agent. Another relay of the same state directory takes its listening sockets
//! (`handover.rs`); it then keeps its connections and ends with the last one, or with the interface that carries them.
//! By SIGTERM or SIGINT it asks the agent for such a successor and waits a while; by a second one it ends at once.

pub mod access_log;
mod handover;
mod serving;
pub mod wire;
mod workers;

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream as BlockingStream,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    time::{interval, sleep},
};

use self::{
    handover::{Estate, HandOverError, PROTOCOL},
    serving::Serving,
    wire::{Request, Status},
};
use crate::confine::{
    self, ConfineError,
    calls::{self, Caller},
    capabilities,
    files::{self, Grant, Right, Signals},
};

/// Why a relay does not run.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the control socket {socket}: {source}")]
    Socket { socket: PathBuf, source: io::Error },
    #[error("TLS with targets is not possible: {0}")]
    Tls(#[from] rustls::Error),
    #[error("another relay of this state directory serves on: {0}")]
    HandOver(HandOverError),
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
    #[error("threads for connections: {0}")]
    Threads(io::Error),
}

/// Which program this is: two builds of one version differ in their file.
pub fn build() -> String {
    let file = fs::metadata("/proc/self/exe").ok();
    let modified = file.as_ref().and_then(|file| file.modified().ok());
    let modified = modified.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos());
    format!("{}-{}-{modified}", env!("CARGO_PKG_VERSION"), file.map_or(0, |file| file.len()))
}

/// Without agent, listener and connection for so long, a relay ends.
const USELESS: Duration = Duration::from_secs(60);
/// How long one that is to end waits for the relay that its agent starts to take over. The agent looks every second,
/// and starts one at most every two.
const SUCCESSION: Duration = Duration::from_secs(10);

/// What the control connections and the main loop share.
struct Relay {
    serving: Serving,
    /// Where it may write an access log.
    log_directory: Option<PathBuf>,
    /// Somebody else has the sockets, or is to have them: end with the last connection.
    drain: Notify,
    /// It has been asked to end, and its agent hears so.
    ending: AtomicBool,
    /// Its sockets are closed, or another's, or about to be: it says nothing more.
    silent: AtomicBool,
    stop: Notify,
}

/// Gives up what a relay of `state_dir` does not need, before its first thread: every capability, all files but its
/// socket, the log's directory and the authorities of the host, all system calls that make no use of sockets and files.
///
/// # Errors
///
/// [`ConfineError`]
pub fn confine(state_dir: &Path, log_directory: Option<&Path>) -> Result<(), ConfineError> {
    // A process that leads its group, as one that a shell has started, keeps its session; one that the agent has
    // started leaves the agent's.
    let _ = nix::unistd::setsid();
    confine::raise_file_limit();
    let own = wire::directory(state_dir);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&own)
        .map_err(|source| ConfineError::Directory { path: own.clone(), source })?;
    let mut grants = files::common();
    grants.push(Grant::new(own, Right::Sockets));
    grants.extend(log_directory.map(|directory| Grant::new(directory, Right::Log)));
    capabilities::keep_none()?;
    files::restrict(&grants, Signals::Own)?;
    calls::restrict(Caller::Relay)
}

/// Serves until it is stopped, or until another relay has taken over and the last connection has ended.
///
/// # Errors
///
/// [`RelayError`]
pub async fn run(state_dir: &Path, log_directory: Option<PathBuf>) -> Result<(), RelayError> {
    let socket = wire::socket(state_dir);
    let relay = Arc::new(Relay {
        serving: Serving::new()?,
        log_directory,
        drain: Notify::new(),
        ending: AtomicBool::new(false),
        silent: AtomicBool::new(false),
        stop: Notify::new(),
    });
    let unusable = |source| RelayError::Socket { socket: socket.clone(), source };
    let Estate { config, mut tickets, sockets } = take_over(&socket).await?;
    for (listener, taken) in sockets {
        let tickets = tickets.remove(&listener);
        relay.serving.adopt(listener, taken, tickets);
    }
    if let Some(config) = config {
        relay.serving.configure(config);
    }
    let control = bind(&socket).map_err(unusable)?;
    let inode = fs::metadata(&socket).map_err(unusable)?.ino();
    tracing::info!(socket = %socket.display(), pid = std::process::id(), "the relay is ready");
    let mut terminate = signal(SignalKind::terminate()).map_err(RelayError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RelayError::Signals)?;
    let mut ticks = interval(Duration::from_secs(1));
    let mut useless = Duration::ZERO;
    let mut asked = None;
    let handed_over = loop {
        tokio::select! {
            accepted = control.accept() => {
                match accepted {
                    Ok((stream, _)) => {
                        useless = Duration::ZERO;
                        tokio::spawn(answer(Arc::clone(&relay), stream));
                    }
                    Err(error) => {
                        // Out of descriptors or memory: what ends makes room.
                        tracing::warn!(%error, "a control connection could not be accepted");
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            () = relay.stop.notified() => {
                tracing::info!("the relay ends");
                let _ = fs::remove_file(&socket);
                return Ok(());
            }
            () = relay.drain.notified() => break true,
            () = signalled(&mut terminate, &mut interrupt) => {
                if asked.is_some() {
                    relay.stop.notify_one();
                } else {
                    tracing::info!("the relay is to end, and waits for another to take over");
                    relay.ending.store(true, Ordering::Release);
                    asked = Some(Instant::now());
                    ticks.reset_immediately();
                }
            }
            _ = ticks.tick() => {
                let spoken_to = Arc::strong_count(&relay) > 1;
                if asked.is_some_and(|at| !spoken_to || at.elapsed() >= SUCCESSION) {
                    break false;
                }
                let used = relay.serving.serves() || relay.serving.active() > 0 || spoken_to;
                useless = if used { Duration::ZERO } else { useless + ticks.period() };
                // Whose socket has gone, nobody can ever reach again.
                let ours = fs::metadata(&socket).is_ok_and(|file| file.ino() == inode);
                if !ours || useless >= USELESS {
                    break false;
                }
            }
        }
    };
    drop(control);
    relay.silent.store(true, Ordering::Release);
    relay.serving.stop_listening();
    // The other relay puts its own socket there, at any moment.
    if !handed_over && fs::metadata(&socket).is_ok_and(|file| file.ino() == inode) {
        let _ = fs::remove_file(&socket);
    }
    // What is being accepted is a connection by then.
    sleep(Duration::from_millis(100)).await;
    tracing::info!(connections = relay.serving.active(), "the relay ends with its last connection");
    while relay.serving.active() > 0 && !relay.serving.is_cut_off() {
        tokio::select! {
            _ = ticks.tick() => {}
            () = signalled(&mut terminate, &mut interrupt) => break,
        }
    }
    Ok(())
}

/// Waits for SIGTERM or SIGINT.
async fn signalled(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What a relay that runs already passes on; nothing if there is none.
///
/// # Errors
///
/// If there is one that speaks of something else: taking its place would end what waits in its sockets. One that does
/// not answer loses its place.
async fn take_over(socket: &Path) -> Result<Estate, RelayError> {
    let path = socket.to_owned();
    let taken = tokio::task::spawn_blocking(move || {
        let Ok(stream) = BlockingStream::connect(path) else { return Ok(Estate::default()) };
        handover::take(&stream)
    });
    match taken.await {
        Ok(Ok(taken)) => Ok(taken),
        Ok(Err(error @ (HandOverError::Protocol { .. } | HandOverError::Unknown))) => Err(RelayError::HandOver(error)),
        Ok(Err(HandOverError::Stream(error))) => {
            tracing::warn!(%error, "the present relay passes nothing on; it keeps what it has");
            Ok(Estate::default())
        }
        Err(error) => {
            tracing::error!(%error, "taking over was aborted");
            Ok(Estate::default())
        }
    }
}

/// The control socket, in the place of whatever was there.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let fresh = socket.with_extension(format!("{}", std::process::id()));
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    fs::rename(&fresh, socket)?;
    Ok(listener)
}

/// Answers one control connection until it ends.
async fn answer(relay: Arc<Relay>, mut stream: UnixStream) {
    loop {
        let request: Request = match wire::receive(&mut stream).await {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return,
            Err(error) => return tracing::debug!(%error, "a control connection ended"),
        };
        if relay.silent.load(Ordering::Acquire) {
            return;
        }
        match request {
            Request::Configure(config) => relay.serving.configure(*config),
            Request::Status => {}
            Request::HandOver { protocol } => return hand_over(&relay, stream, protocol).await,
            Request::Stop => return relay.stop.notify_one(),
        }
        let (log_directory, ending) = (relay.log_directory.clone(), relay.ending.load(Ordering::Acquire));
        let status = Status { log_directory, ending, ..relay.serving.status() };
        if let Err(error) = wire::send(&mut stream, &status).await {
            return tracing::debug!(%error, "a control connection ended");
        }
    }
}

/// Passes everything on to the relay that asks for it, if that knows how to take it.
async fn hand_over(relay: &Arc<Relay>, stream: UnixStream, protocol: u32) {
    let blocking = || -> io::Result<BlockingStream> {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    };
    if protocol != PROTOCOL {
        tracing::warn!(
            "a relay asks for everything by protocol {protocol}; this one passes it on by protocol {PROTOCOL}"
        );
        if let Ok(stream) = blocking() {
            // It hears it, or finds the connection closed.
            let _ = tokio::task::spawn_blocking(move || handover::decline(&stream)).await;
        }
        return;
    }
    relay.silent.store(true, Ordering::Release);
    let given = async {
        let (stream, estate) = (blocking()?, relay.serving.estate());
        let given = tokio::task::spawn_blocking(move || handover::give(&stream, &estate));
        given.await.map_err(io::Error::other)?
    };
    match given.await {
        Ok(()) => {
            tracing::info!("another relay has taken over");
            relay.drain.notify_one();
        }
        Err(error) => {
            tracing::warn!(%error, "another relay could not take over");
            relay.silent.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixListener as BlockingListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_relay_of_another_protocol_keeps_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = wire::socket(dir.path());
        fs::create_dir(wire::directory(dir.path())).expect("its directory");
        let listener = BlockingListener::bind(&socket).expect("bound");
        let other = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let asked = stream.read(&mut [0; 64]).expect("read");
            let head = br#"{"protocol": 7, "sockets": 1}"#;
            let length = u32::try_from(head.len()).expect("short").to_be_bytes();
            stream.write_all(&[&length, head.as_slice()].concat()).expect("said");
            asked
        });
        let refused = take_over(&socket).await.expect_err("refused");
        assert!(other.join().expect("no panic") > 0);
        assert!(matches!(refused, RelayError::HandOver(HandOverError::Protocol { theirs: 7 })), "{refused}");
        assert!(refused.to_string().starts_with("another relay of this state directory serves on"), "{refused}");
        // One that has gone leaves its socket to whoever comes.
        let none = take_over(&socket).await.expect("nothing to take");
        assert!(none.sockets.is_empty());
    }
}
