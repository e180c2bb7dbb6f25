//! Tens of thousands of connections that are open at the same time.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use super::{
    Tally,
    stream::{Source, socket},
};
use crate::netns::Netns;

/// Connections that all echoed once and are kept open. Dropping it closes them, the client first.
#[derive(Debug)]
pub struct Held {
    /// How the attempts ended.
    pub tally: Tally,
    streams: Vec<TcpStream>,
    runtime: tokio::runtime::Runtime,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Source addresses, used in turn.
    pub sources: Vec<Ipv4Addr>,
    /// Where to.
    pub to: SocketAddrV4,
    /// How many connections.
    pub count: usize,
    /// How many attempts at once.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl Held {
    /// Opens what `plan` says from `netns`; each connection has to echo before it counts.
    pub fn open(netns: &Netns, plan: &Plan) -> Result<Self> {
        netns.run(|| Self::open_here(plan))?
    }

    /// The same from the namespace of the calling thread.
    pub fn open_here(plan: &Plan) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        let (tally, streams) = runtime.block_on(open(plan))?;
        Ok(Self { tally, streams, runtime })
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Echoes once over every connection.
    pub fn echo_all(&mut self, limit: Duration) -> Tally {
        let streams = &mut self.streams;
        self.runtime.block_on(async {
            let mut tally = Tally::default();
            for stream in streams {
                tally.count(&within(limit, exchange(stream)).await);
            }
            tally
        })
    }

    /// Closes one connection in the orderly way and waits until the server has closed too.
    pub fn close_one(&mut self) -> Result<()> {
        let mut stream = self.streams.pop().context("no connection is open")?;
        self.runtime.block_on(within(Duration::from_secs(5), async {
            stream.shutdown().await.context("closing")?;
            let end = stream.read(&mut [0]).await.context("waiting for the server's end")?;
            anyhow::ensure!(end == 0, "the server sent something after the client closed");
            Ok(())
        }))
    }
}

async fn open(plan: &Plan) -> Result<(Tally, Vec<TcpStream>)> {
    let Plan { sources, to, count, concurrency, timeout } = plan.clone();
    let turns = Arc::new(Semaphore::new(concurrency));
    let mut attempts = JoinSet::new();
    let mut tally = Tally::default();
    let mut streams = Vec::with_capacity(count);
    let mut take = |result: Result<TcpStream>| {
        tally.count(&result);
        streams.extend(result.ok());
    };
    for source in sources.iter().copied().cycle().take(count) {
        let turn = Arc::clone(&turns).acquire_owned().await.context("the semaphore")?;
        attempts.spawn(async move {
            let result = within(timeout, one(source, to)).await;
            drop(turn);
            result
        });
        while let Some(done) = attempts.try_join_next() {
            take(done.context("an attempt")?);
        }
    }
    while let Some(done) = attempts.join_next().await {
        take(done.context("an attempt")?);
    }
    Ok((tally, streams))
}

async fn one(source: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream> {
    let mut stream = connect(Source { address: source, port: 0 }, to).await?;
    exchange(&mut stream).await?;
    Ok(stream)
}

/// Connects from the namespace of the calling thread.
pub(super) async fn connect(source: Source, to: SocketAddrV4) -> Result<TcpStream> {
    let socket = socket(source).context("a socket")?;
    socket.set_nonblocking(true).context("a socket")?;
    let socket = TcpSocket::from_std_stream(socket.into());
    socket.connect(to.into()).await.context("connecting")
}

async fn exchange(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"ping").await.context("sending")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.context("waiting for the echo")?;
    anyhow::ensure!(&back == b"ping", "the echo differs");
    Ok(())
}

/// `work`, or the error "no answer in time".
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {:.0} s", limit.as_secs_f32())))
}
