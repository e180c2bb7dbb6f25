//! Connections that are opened and closed at a steady rate.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Semaphore,
    task::JoinSet,
};

use super::{
    Tally,
    hold::{connect, within},
    stream::Source,
};
use crate::netns::Netns;

/// Who sends the first FIN; the server has to be of the same mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseFirst {
    /// The client, as with HTTP's `Connection: close` on the client's side.
    Client,
    /// The server ([`super::server::Behaviour::EchoThenClose`]); the datapath holds its port back for a minute.
    Server,
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Source addresses, used in turn; each can have 64 thousand connections in TIME_WAIT.
    pub sources: Vec<Ipv4Addr>,
    /// Where to.
    pub to: SocketAddrV4,
    /// New connections a second; what cannot be kept up shows in the report.
    pub rate: u32,
    /// For how long.
    pub duration: Duration,
    /// Who closes.
    pub close_first: CloseFirst,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Report {
    /// How the connections ended.
    pub tally: Tally,
    /// How long it took.
    pub elapsed: Duration,
}

impl Report {
    /// Connections a second that succeeded.
    pub fn rate(&self) -> f64 {
        self.tally.succeeded as f64 / self.elapsed.as_secs_f64()
    }
}

/// Opens, uses and closes connections from `netns`, as `plan` says.
pub fn churn(netns: &Netns, plan: &Plan) -> Result<Report> {
    netns.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
        runtime.block_on(run(plan))
    })?
}

async fn run(plan: &Plan) -> Result<Report> {
    /// Connections that may be on their way at once: where the machine is too busy, the rate falls, and no queue grows
    /// until connections time out.
    const AT_ONCE: usize = 256;
    let Plan { sources, to, rate, duration, close_first } = plan.clone();
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut attempts = JoinSet::new();
    let mut tally = Tally::default();
    let mut sources = sources.iter().copied().cycle();
    let started = Instant::now();
    let mut opened: u64 = 0;
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    while started.elapsed() < duration {
        tick.tick().await;
        let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        while opened < due {
            let turn = Arc::clone(&turns).acquire_owned().await.context("the semaphore")?;
            let source = Source { address: sources.next().context("no source address")?, port: 0 };
            attempts.spawn(async move {
                let result = within(Duration::from_secs(10), once(source, to, close_first)).await;
                drop(turn);
                result
            });
            opened += 1;
            while let Some(done) = attempts.try_join_next() {
                tally.count(&done.context("an attempt")?);
            }
        }
    }
    while let Some(done) = attempts.join_next().await {
        tally.count(&done.context("an attempt")?);
    }
    Ok(Report { tally, elapsed: started.elapsed() })
}

async fn once(source: Source, to: SocketAddrV4, close_first: CloseFirst) -> Result<()> {
    let mut stream = connect(source, to).await?;
    stream.write_all(b"ping").await.context("sending")?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.context("waiting for the echo")?;
    match close_first {
        CloseFirst::Client => {
            stream.shutdown().await.context("closing")?;
            let end = stream.read(&mut back).await.context("waiting for the server's end")?;
            anyhow::ensure!(end == 0, "the server sent more than the echo");
        }
        CloseFirst::Server => {
            let end = stream.read(&mut back).await.context("waiting for the server's end")?;
            anyhow::ensure!(end == 0, "the server sent more than the echo");
        }
    }
    Ok(())
}
