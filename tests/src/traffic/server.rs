//! A TCP server in a namespace, on a thread of its own.

use std::{
    collections::HashSet,
    net::{SocketAddr, SocketAddrV4},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::netns::Netns;

/// What a server does with a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Sends back what comes in, and closes after the client did.
    Echo,
    /// Sends back the first thing that comes in, then closes before the client does.
    EchoThenClose,
    /// Sends this line, then behaves like [`Behaviour::Echo`]: which target is this?
    Greet(String),
    /// Accepts and reads, sends nothing.
    Sink,
}

/// What is echoed at once of a connection that has more to say than fits into its first buffer.
const BULK: usize = 64 * 1024;

/// A running server. Dropping it closes its connections and its port.
#[derive(Debug)]
pub struct Server {
    address: SocketAddrV4,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    accepted: AtomicU64,
    open: AtomicU64,
    resets: AtomicU64,
    peers: Mutex<HashSet<SocketAddrV4>>,
}

impl Server {
    /// Listens on `address` in `netns`; the port is open when this returns.
    pub fn start(netns: &Netns, address: SocketAddrV4, behaviour: Behaviour) -> Result<Self> {
        let server = netns.run(|| Self::start_here(address, behaviour))?;
        server.with_context(|| format!("in the namespace {}", netns.name()))
    }

    /// The same in the namespace of the calling thread. Several processes may listen on one address.
    pub fn start_here(address: SocketAddrV4, behaviour: Behaviour) -> Result<Self> {
        let listener = listen(address).with_context(|| format!("listening on {address}"))?;
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = watch::channel(false);
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
            runtime.block_on(serve(listener, behaviour, serving, stopped))
        });
        Ok(Self { address, shared, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Connections that ended with a reset.
    pub fn resets(&self) -> u64 {
        self.shared.resets.load(Ordering::Relaxed)
    }

    /// Every client address and port seen.
    pub fn peers(&self) -> HashSet<SocketAddrV4> {
        self.shared.peers().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // No receiver is left if the thread already ended.
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("the server on {}: {error:#}", self.address),
                Err(_) => eprintln!("the server on {} panicked", self.address),
            }
        }
    }
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, HashSet<SocketAddrV4>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener that takes a burst of connections and shares its address.
fn listen(address: SocketAddrV4) -> std::io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn serve(
    listener: std::net::TcpListener,
    behaviour: Behaviour,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> Result<()> {
    let listener = TcpListener::from_std(listener).context("the listener")?;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return Ok(()),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            // Out of files or memory for the moment; the client's failure is what the test sees.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        shared.open.fetch_add(1, Ordering::Relaxed);
        if let SocketAddr::V4(peer) = peer {
            shared.peers().insert(peer);
        }
        let (behaviour, shared) = (behaviour.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            if let Err(error) = converse(stream, behaviour).await
                && error.kind() == std::io::ErrorKind::ConnectionReset
            {
                shared.resets.fetch_add(1, Ordering::Relaxed);
            }
            shared.open.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

async fn converse(mut stream: TcpStream, behaviour: Behaviour) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    match behaviour {
        Behaviour::Echo => {}
        Behaviour::Greet(line) => stream.write_all(format!("{line}\n").as_bytes()).await?,
        Behaviour::Sink => {
            let mut buffer = vec![0; 64 * 1024];
            while stream.read(&mut buffer).await? > 0 {}
            return Ok(());
        }
        Behaviour::EchoThenClose => {
            let mut buffer = [0; 512];
            let length = stream.read(&mut buffer).await?;
            stream.write_all(&buffer[..length]).await?;
            stream.shutdown().await?;
            // Until the client's FIN, so that no unread byte turns the close into a reset.
            while stream.read(&mut buffer).await? > 0 {}
            return Ok(());
        }
    }
    // Small and on the heap: 64,512 of these are alive at once. What comes in bulk goes back in bulk, as segments of full
    // size.
    let mut buffer = vec![0; 1024];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..length]).await?;
        if length == buffer.len() && length < BULK {
            buffer.resize(BULK, 0);
        }
    }
}
