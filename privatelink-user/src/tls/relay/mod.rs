//! `privatelink relay`: the process in which TLS listeners' connections end and go on to targets.
//!
//! It is a process of its own so that they outlive the agent: the agent tells it what to serve (`wire.rs`), and it goes on with
//! that whatever becomes of the agent. Another relay of the same state directory takes its listening sockets (`handover.rs`);
//! it then keeps its connections and ends with the last one.

pub mod access_log;
mod handover;
mod serving;
pub mod wire;

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{MetadataExt as _, PermissionsExt as _},
            net::UnixStream as BlockingStream,
        },
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::{
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::Notify,
    time::interval,
};

use self::{
    handover::Taken,
    serving::Serving,
    wire::{Config, Request},
};

/// Why a relay does not run.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the control socket {socket}: {source}")]
    Socket { socket: PathBuf, source: io::Error },
    #[error("TLS with targets is not possible: {0}")]
    Tls(#[from] rustls::Error),
    #[error("signals cannot be waited for: {0}")]
    Signals(io::Error),
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

/// What the control connections and the main loop share.
struct Relay {
    serving: Serving,
    /// Somebody else has the sockets, or is to have them: end with the last connection.
    drain: Notify,
    /// Somebody else has the sockets, or is getting them: this one says nothing more.
    handed_over: AtomicBool,
    stop: Notify,
}

/// Serves until it is stopped, or until another relay has taken over and the last connection has ended.
///
/// # Errors
///
/// [`RelayError`]
pub async fn run(state_dir: &Path) -> Result<(), RelayError> {
    // A process that leads its group, as one that a shell has started, keeps its session; one that the agent has started leaves
    // the agent's.
    let _ = nix::unistd::setsid();
    raise_file_limit();
    let socket = wire::socket(state_dir);
    let relay = Arc::new(Relay {
        serving: Serving::new()?,
        drain: Notify::new(),
        handed_over: AtomicBool::new(false),
        stop: Notify::new(),
    });
    let unusable = |source| RelayError::Socket { socket: socket.clone(), source };
    let Taken { config, sockets } = take_over(&socket).await;
    for (listener, taken) in sockets {
        relay.serving.adopt(listener, taken);
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
    let handed_over = loop {
        tokio::select! {
            accepted = control.accept() => {
                if let Ok((stream, _)) = accepted {
                    useless = Duration::ZERO;
                    tokio::spawn(answer(Arc::clone(&relay), stream));
                }
            }
            () = relay.stop.notified() => {
                tracing::info!("the relay ends");
                let _ = fs::remove_file(&socket);
                return Ok(());
            }
            () = relay.drain.notified() => break true,
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            _ = ticks.tick() => {
                let used = relay.serving.serves() || relay.serving.active() > 0 || Arc::strong_count(&relay) > 1;
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
    relay.serving.stop_listening();
    // The other relay puts its own socket there, at any moment.
    if !handed_over && fs::metadata(&socket).is_ok_and(|file| file.ino() == inode) {
        let _ = fs::remove_file(&socket);
    }
    tracing::info!(connections = relay.serving.active(), "the relay ends with its last connection");
    while relay.serving.active() > 0 {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    Ok(())
}

/// What a relay that runs already passes on; nothing if there is none.
async fn take_over(socket: &Path) -> Taken {
    let path = socket.to_owned();
    let taken = tokio::task::spawn_blocking(move || {
        let Ok(stream) = BlockingStream::connect(path) else { return Ok(Taken::default()) };
        handover::take(&stream)
    });
    match taken.await {
        Ok(Ok(taken)) => taken,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the present relay passes nothing on; it keeps what it has");
            Taken::default()
        }
        Err(error) => {
            tracing::error!(%error, "taking over was aborted");
            Taken::default()
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
        if relay.handed_over.load(Ordering::Acquire) {
            return;
        }
        match request {
            Request::Configure(config) => relay.serving.configure(*config),
            Request::Status => {}
            Request::HandOver => return hand_over(&relay, stream).await,
            Request::Stop => return relay.stop.notify_one(),
        }
        if let Err(error) = wire::send(&mut stream, &relay.serving.status()).await {
            return tracing::debug!(%error, "a control connection ended");
        }
    }
}

/// Passes everything on to the relay that asks for it.
async fn hand_over(relay: &Arc<Relay>, stream: UnixStream) {
    relay.handed_over.store(true, Ordering::Release);
    let given = async {
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        let (config, sockets): (Option<Config>, Vec<_>) = relay.serving.estate();
        let given = tokio::task::spawn_blocking(move || {
            let descriptors: Vec<_> = sockets.iter().map(|(id, socket)| (id.clone(), socket.as_raw_fd())).collect();
            handover::give(&stream, config.as_ref(), &descriptors)
        });
        given.await.map_err(io::Error::other)?
    };
    match given.await {
        Ok(()) => {
            tracing::info!("another relay has taken over");
            relay.drain.notify_one();
        }
        Err(error) => {
            tracing::warn!(%error, "another relay could not take over");
            relay.handed_over.store(false, Ordering::Release);
        }
    }
}

/// Two descriptors a connection, as many as the system allows.
fn raise_file_limit() {
    const WANTED: u64 = 1 << 20;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        let more = hard.max(WANTED);
        // Beyond the hard limit it takes CAP_SYS_RESOURCE.
        setrlimit(Resource::RLIMIT_NOFILE, more, more).or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
