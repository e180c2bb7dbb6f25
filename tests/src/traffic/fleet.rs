//! The same clients and servers in several processes: one process may not have 64,512 sockets everywhere.
//!
//! The processes are the program `traffic` of this package. They take commands as lines on standard input and answer
//! each with one line of JSON.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Tally, hold};
use crate::netns::Netns;

/// Sockets that one process holds at most; below the smallest hard limit that is common.
const SOCKETS: usize = 12_000;

/// What a process of this module does.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Listens on an address that the processes share, and echoes.
    Serve(SocketAddrV4),
    /// Opens connections and keeps them.
    Hold {
        /// Source addresses.
        sources: Vec<Ipv4Addr>,
        /// Where to.
        to: SocketAddrV4,
        /// How many.
        count: usize,
    },
}

/// What a process of this module is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// How the start went; a holder answers when all its attempts have ended. Answer: [`Tally`].
    Start,
    /// An echo over every connection. Answer: [`Tally`].
    EchoAll,
    /// Closes one connection. Answer: null.
    CloseOne,
    /// The source ports of every client so far. Answer: a list.
    Peers,
}

/// Servers that share one address.
#[derive(Debug)]
pub struct Servers(Vec<Worker>);

impl Servers {
    /// Enough of them for `connections` at once.
    pub fn start(netns: &Netns, address: SocketAddrV4, connections: usize) -> Result<Self> {
        // The kernel spreads by hash, never evenly: a third more than it takes.
        let count = (connections * 4 / 3).div_ceil(SOCKETS).max(1);
        let mut workers = spawn(netns, &vec![Work::Serve(address); count])?;
        for worker in &mut workers {
            // It has nothing to count, and listens when it answers.
            worker.ask::<Tally>(Command::Start)?;
        }
        Ok(Self(workers))
    }

    /// Every source port that the servers saw.
    pub fn peer_ports(&mut self) -> Result<BTreeSet<u16>> {
        let lists = self.0.iter_mut().map(|worker| worker.ask::<Vec<u16>>(Command::Peers));
        Ok(lists.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

/// Connections that are open in several processes.
#[derive(Debug)]
pub struct Fleet {
    /// How the attempts ended.
    pub tally: Tally,
    workers: Vec<Worker>,
}

impl Fleet {
    /// Opens `count` connections from `sources`.
    pub fn open(netns: &Netns, sources: &[Ipv4Addr], to: SocketAddrV4, count: usize) -> Result<Self> {
        let sources = sources.to_vec();
        let works: Vec<Work> = (0..count)
            .step_by(SOCKETS)
            .map(|first| Work::Hold { sources: sources.clone(), to, count: SOCKETS.min(count - first) })
            .collect();
        let mut fleet = Self { tally: Tally::default(), workers: spawn(netns, &works)? };
        fleet.tally = fleet.ask_all(Command::Start)?;
        Ok(fleet)
    }

    /// Echoes once over every connection.
    pub fn echo_all(&mut self) -> Result<Tally> {
        self.ask_all(Command::EchoAll)
    }

    /// Closes one connection.
    pub fn close_one(&mut self) -> Result<()> {
        self.workers.first_mut().context("no process")?.ask(Command::CloseOne)
    }

    fn ask_all(&mut self, command: Command) -> Result<Tally> {
        for worker in &mut self.workers {
            worker.tell(command)?;
        }
        let mut sum = Tally::default();
        for worker in &mut self.workers {
            sum.add(worker.answer()?);
        }
        Ok(sum)
    }
}

/// One process.
#[derive(Debug)]
struct Worker {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

fn spawn(netns: &Netns, works: &[Work]) -> Result<Vec<Worker>> {
    let program = program()?;
    let start = |work: &Work| {
        let mut command = netns.command(&program);
        command.arg(serde_json::to_string(work)?).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let to = child.stdin.take().context("a pipe")?;
        let from = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Worker { child, to, from })
    };
    works.iter().map(start).collect()
}

impl Worker {
    fn ask<T: DeserializeOwned>(&mut self, command: Command) -> Result<T> {
        self.tell(command)?;
        self.answer()
    }

    fn tell(&mut self, command: Command) -> Result<()> {
        writeln!(self.to, "{}", serde_json::to_string(&command)?).context("telling a traffic process")
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.from.read_line(&mut line).context("waiting for a traffic process")?;
        ensure!(!line.is_empty(), "a traffic process ended");
        let answer: Result<T, String> = serde_json::from_str(&line).with_context(|| format!("the answer {line}"))?;
        answer.map_err(anyhow::Error::msg)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Result<PathBuf> {
    let privatelink = crate::scenario::program()?;
    let program = privatelink.with_file_name("traffic");
    ensure!(program.is_file(), "{} is not built; `cargo xtask build` does that", program.display());
    Ok(program)
}

/// The main loop of a process: does `work`, in the namespace that it was started in, until standard input ends.
pub fn serve_commands(work: &Work) -> Result<()> {
    super::raise_file_limit()?;
    let mut doing = Doing::start(work)?;
    for line in std::io::stdin().lines() {
        let command = serde_json::from_str(&line.context("reading a command")?).context("a command")?;
        let answer = doing.answer(command).map_err(|error| format!("{error:#}"));
        let mut out = std::io::stdout();
        writeln!(out, "{}", serde_json::to_string(&answer)?).and_then(|()| out.flush()).context("answering")?;
    }
    Ok(())
}

/// The work under way.
enum Doing {
    Serving(super::server::Server),
    Holding(Box<hold::Held>),
}

impl Doing {
    fn start(work: &Work) -> Result<Self> {
        match work {
            Work::Serve(address) => {
                Ok(Self::Serving(super::server::Server::start_here(*address, super::server::Behaviour::Echo)?))
            }
            Work::Hold { sources, to, count } => {
                let plan = hold::Plan {
                    sources: sources.clone(),
                    to: *to,
                    count: *count,
                    concurrency: 64,
                    timeout: Duration::from_secs(10),
                };
                Ok(Self::Holding(Box::new(hold::Held::open_here(&plan)?)))
            }
        }
    }

    fn answer(&mut self, command: Command) -> Result<serde_json::Value> {
        let value = match (self, command) {
            (Self::Serving(_), Command::Start) => serde_json::to_value(Tally::default()),
            (Self::Serving(server), Command::Peers) => {
                serde_json::to_value(server.peers().iter().map(SocketAddrV4::port).collect::<Vec<_>>())
            }
            (Self::Holding(held), Command::Start) => serde_json::to_value(&held.tally),
            (Self::Holding(held), Command::EchoAll) => serde_json::to_value(held.echo_all(Duration::from_secs(10))),
            (Self::Holding(held), Command::CloseOne) => serde_json::to_value(held.close_one()?),
            (Self::Serving(_), Command::EchoAll | Command::CloseOne) | (Self::Holding(_), Command::Peers) => {
                anyhow::bail!("{command:?} is not for this work")
            }
        };
        value.context("an answer")
    }
}
