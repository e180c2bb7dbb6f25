//! Numbered datagrams of old and new flows, and who sends them back.

use std::{
    collections::BTreeSet,
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exchanged {
    pub sent: u64,
    pub answered: u64,
    /// Client ports.
    pub flows: u64,
}

impl Exchanged {
    /// Sent, and never answered.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.answered)
    }

    /// Adds what others became.
    pub fn add(&mut self, other: Self) {
        let Self { sent, answered, flows } = other;
        self.sent += sent;
        self.answered += answered;
        self.flows += flows;
    }
}

/// `rate` datagrams a second to `to` until it is `over`, every fiftieth of a flow that begins with it, from the
/// namespace of the calling thread. Answers are waited for one second longer.
pub fn exchange(to: SocketAddr, rate: u32, over: impl Fn() -> bool) -> Result<Exchanged> {
    let pace = Duration::from_secs(1) / rate.max(1);
    let mut old = Flow::open(to)?;
    let mut flows = vec![];
    let mut counts = Exchanged { sent: 0, answered: 0, flows: 1 };
    let mut next = Instant::now();
    while !over() {
        let number = counts.sent;
        if number.is_multiple_of(50) {
            let mut new = Flow::open(to)?;
            new.send(number)?;
            flows.push(new);
            counts.flows += 1;
        } else {
            old.send(number)?;
        }
        counts.sent += 1;
        counts.answered += old.take() + flows.iter_mut().map(Flow::take).sum::<u64>();
        // Two seconds' worth of new flows may still be answered, at 500 datagrams a second.
        if flows.len() > 20 {
            flows.remove(0);
        }
        next += pace;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let end = Instant::now() + Duration::from_secs(1);
    while counts.answered < counts.sent && Instant::now() < end {
        counts.answered += old.take() + flows.iter_mut().map(Flow::take).sum::<u64>();
        thread::sleep(pace);
    }
    Ok(counts)
}

/// A client port, and the numbers that have not come back to it.
struct Flow {
    socket: UdpSocket,
    waiting: BTreeSet<u64>,
}

impl Flow {
    fn open(to: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, waiting: BTreeSet::new() })
    }

    fn send(&mut self, number: u64) -> io::Result<()> {
        self.waiting.insert(number);
        self.socket.send(&number.to_be_bytes()).map(drop)
    }

    /// How many of its own numbers have come back since; each counts once.
    fn take(&mut self) -> u64 {
        let (mut answered, mut bytes) = (0, [0; 8]);
        while let Ok(length) = self.socket.recv(&mut bytes) {
            answered += u64::from(length == bytes.len() && self.waiting.remove(&u64::from_be_bytes(bytes)));
        }
        answered
    }
}

/// Sends datagrams back, on a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Answering {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Answering {
    /// Begins at `at` in `netns`.
    pub fn start(netns: &Netns, at: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| UdpSocket::bind(at))?.context("the target's port")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = netns.spawn(move || {
            let mut bytes = [0; 2_048];
            while !told.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    let _ = socket.send_to(&bytes[..length], from);
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
