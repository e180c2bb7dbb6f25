//! TLS handshakes of every kind at a relay.
//!
//! Each second brings the same mix: full and resumed handshakes of TLS 1.2 and 1.3 with a request each, handshakes that
//! a client breaks off with an alert, that are no TLS, that end in a reset half-way, clients that send one byte and
//! wait for the handshake's time to be over, and connections that are kept for a while. After a warm-up memory may grow
//! no more, and when all is over connections, descriptors and flows are back where they were.

use std::{
    error::Error,
    fmt,
    io::{Read as _, Write as _},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use privatelink_user::tls::{crypto, unverified};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, client::Resumption, version};
use socket2::{Domain, SockRef, Socket, Type};

use super::{PATIENCE, files, relay, status, steady};
use crate::{
    daemon::Agent,
    eventually::eventually,
    programs::{Directory, Nginx},
    scenario::{ENDPOINT, Scenario, Service, program, rows, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

const TLS: SocketAddrV4 = SocketAddrV4::new(ENDPOINT, 443);
const NAME: &str = "www.lab.example";
/// Longer than the relay waits for a handshake.
const SLOW: Duration = Duration::from_secs(15);
/// How long a kept connection is kept.
const KEPT: Duration = Duration::from_secs(30);
/// Until nothing is left of closed connections in the kernel: a target's closed port is held for a minute.
const SETTLED: Duration = Duration::from_secs(150);

/// What is held at one moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Resident memory of the relay and of the agent, in KiB.
    relay_kib: u64,
    agent_kib: u64,
    /// Open files of both.
    relay_files: usize,
    agent_files: usize,
    /// Threads of the relay.
    threads: usize,
    /// Connections that the relay says it has: a task each.
    connections: u64,
    /// Flows of clients that the kernel knows, closed ones too while their ports are held.
    flows: usize,
}

/// How many handshakes of each kind there were.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    full: u64,
    resumed: u64,
    failed: u64,
    aborted: u64,
    slow: u64,
    kept: u64,
}

impl Done {
    /// Together.
    pub fn all(&self) -> u64 {
        let Self { full, resumed, failed, aborted, slow, kept } = self;
        full + resumed + failed + aborted + slow + kept
    }
}

fn held(scenario: &Scenario) -> Result<Held> {
    let status_of_relay = relay(&scenario.agent)?;
    let (pid, agent) = (status_of_relay.pid, scenario.agent.pid().context("the agent has ended")?);
    let flows = scenario.cli.run("flow list")?;
    Ok(Held {
        relay_kib: status(pid, "VmRSS")?,
        agent_kib: status(agent, "VmRSS")?,
        relay_files: files(pid)?,
        agent_files: files(agent)?,
        threads: usize::try_from(status(pid, "Threads")?)?,
        connections: status_of_relay.listeners.values().map(|listener| listener.counts.active).sum(),
        flows: rows(&flows)?.len(),
    })
}

/// The clients of the mix.
pub struct Clients {
    /// Both versions, without and with a memory.
    full: [Arc<ClientConfig>; 2],
    resumed: [Arc<ClientConfig>; 2],
    /// Believes nobody, and says so.
    distrustful: Arc<ClientConfig>,
    /// Those that are waiting for the relay's patience to end, and those that are kept, with when they began.
    slow: Vec<(Instant, TcpStream)>,
    kept: Vec<(Instant, TcpStream, ClientConnection)>,
    pub done: Done,
}

/// A client that could not connect, and where it tried to from.
#[derive(Debug)]
struct NoConnection {
    from: Option<SocketAddr>,
    error: std::io::Error,
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, error } = self;
        write!(f, "connecting from {from:?}: {error}")
    }
}

impl Error for NoConnection {}

/// What the kernel holds of a client that could not connect: flows, and sockets of the relay.
fn traces(scenario: &Scenario, failed: &NoConnection) -> String {
    let Some(from) = failed.from.map(|from| from.to_string()) else { return "no port".to_owned() };
    let flows = scenario.cli.run("flow list").unwrap_or_default();
    let its = rows(&flows).unwrap_or_default().iter().filter(|flow| flow["client"] == from);
    let flows = its.map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let mut command = scenario.topology.lb.command("ss");
    let sockets = command.args(["-tanoi"]).output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let nstat = scenario.topology.lb.command("nstat").arg("-az").output();
    let nstat = nstat.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    format!("flows of {from}:\n{flows}\nsockets:\n{}\n{nstat}", sockets.unwrap_or_default())
}

type Connected = (TcpStream, ClientConnection);

impl Clients {
    /// None has connected yet.
    pub fn new() -> Result<Self> {
        let of = |version: &'static rustls::SupportedProtocolVersion, memory: bool| -> Result<Arc<ClientConfig>> {
            let mut config = unverified::config_of(&[version])?;
            config.resumption = if memory { Resumption::in_memory_sessions(16) } else { Resumption::disabled() };
            Ok(Arc::new(config))
        };
        let distrustful = ClientConfig::builder_with_provider(Arc::new(crypto::provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Ok(Self {
            full: [of(&version::TLS12, false)?, of(&version::TLS13, false)?],
            resumed: [of(&version::TLS12, true)?, of(&version::TLS13, true)?],
            distrustful: Arc::new(distrustful),
            slow: Vec::new(),
            kept: Vec::new(),
            done: Done::default(),
        })
    }

    fn connect() -> Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Err(error) = socket.connect_timeout(&SocketAddr::from(TLS).into(), PATIENCE) {
            let from = socket.local_addr().ok().and_then(|address| address.as_socket());
            return Err(NoConnection { from, error }.into());
        }
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn shake(config: &Arc<ClientConfig>) -> Result<Connected> {
        let mut stream = Self::connect()?;
        let mut tls = ClientConnection::new(Arc::clone(config), NAME.to_owned().try_into()?)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).context("the handshake")?;
        }
        Ok((stream, tls))
    }

    fn request((stream, tls): &mut Connected) -> Result<()> {
        let mut tls = rustls::Stream::new(tls, stream);
        tls.write_all(b"GET / HTTP/1.0\r\n\r\n").context("the request")?;
        let mut answer = String::new();
        tls.read_to_string(&mut answer).context("the answer")?;
        ensure!(answer.ends_with("in clear"), "the answer is {answer}");
        Ok(())
    }

    /// One handshake of the kind that is next.
    ///
    /// # Errors
    ///
    /// If it goes another way than it should.
    pub fn next(&mut self) -> Result<()> {
        let turn = usize::try_from(self.done.all())?;
        let version = turn / 10 % 2;
        match turn % 10 {
            0..3 => {
                Self::request(&mut Self::shake(&self.full[version])?)?;
                self.done.full += 1;
            }
            3..7 => {
                let mut connected = Self::shake(&self.resumed[version])?;
                // The first of all has nothing to come back with.
                let resumed = connected.1.handshake_kind() == Some(HandshakeKind::Resumed);
                ensure!(resumed || self.done.resumed < 20, "a handshake was not resumed");
                Self::request(&mut connected)?;
                self.done.resumed += 1;
            }
            7 if version == 0 => {
                ensure!(Self::shake(&self.distrustful).is_err(), "a client believed what it must not");
                self.done.failed += 1;
            }
            7 => {
                let mut stream = Self::connect()?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: lab.example\r\n\r\n")?;
                // An alert, or a reset.
                let _ = stream.read_to_end(&mut Vec::new());
                self.done.failed += 1;
            }
            8 => {
                // Part of what a client says first, then a reset.
                let mut stream = Self::connect()?;
                let mut hello = Vec::new();
                ClientConnection::new(Arc::clone(&self.full[version]), NAME.to_owned().try_into()?)?
                    .write_tls(&mut hello)?;
                let part = if turn / 20 % 2 == 0 { hello.len() / 2 } else { hello.len() };
                stream.write_all(hello.get(..part).unwrap_or_default())?;
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
                self.done.aborted += 1;
            }
            _ if turn % 100 == 9 => {
                let mut stream = Self::connect()?;
                stream.write_all(&[0x16])?;
                self.slow.push((Instant::now(), stream));
                self.done.slow += 1;
            }
            _ => {
                let (stream, tls) = Self::shake(&self.full[version])?;
                self.kept.push((Instant::now(), stream, tls));
                self.done.kept += 1;
            }
        }
        self.let_go(false)
    }

    /// Ends what has been kept for long enough, or all of it; what was slow has been ended by the relay.
    pub fn let_go(&mut self, all: bool) -> Result<()> {
        while self.kept.first().is_some_and(|(since, _, _)| all || since.elapsed() > KEPT) {
            let (_, stream, tls) = self.kept.remove(0);
            Self::request(&mut (stream, tls)).context("on a kept connection")?;
        }
        while self.slow.first().is_some_and(|(since, _)| all || since.elapsed() > SLOW) {
            let (since, mut stream) = self.slow.remove(0);
            let ended = stream.set_read_timeout(Some(SLOW)).and_then(|()| stream.read(&mut [0]));
            match ended {
                Ok(0) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
                // An alert.
                Ok(_) => {}
                Err(error) => bail!("a slow client was not sent away within {:?}: {error}", since.elapsed()),
            }
        }
        Ok(())
    }
}

fn scenario() -> Result<(Scenario, Nginx, Directory)> {
    let plans = vec![
        VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server", 2, 10)]),
    ];
    let topology = Topology::build(Hook::Tc, plans, None)?;
    let agent = Agent::start(&program()?, &topology.lb)?;
    let scenario = Scenario::configure(topology, agent)?;
    let server = scenario.topology.host("server");
    let (netns, address) = (server.netns.clone(), server.address());
    scenario.topology.host("client").netns.sysctl("ipv4.ip_local_port_range", "1024 65535")?;
    let nginx = Nginx::start(&netns, Directory::new("web")?, SocketAddrV4::new(address, 8_080), "in clear")?;
    let service = scenario.publish(&Service::new("web", "provider", vec![address]))?;
    scenario.endpoint(&service, "consumer", ENDPOINT)?;
    let lab = Directory::new("lab")?;
    let made = scenario.cli.run(&format!("certificate create-lab {NAME} --ca {}", lab.path().join("ca").display()))?;
    let certificate = text(&made, "id")?;
    scenario.cli.run(&format!(
        "listener create web --protocol TLS --port 443 --target-group web --certificate {certificate}"
    ))?;
    scenario.wait_healthy("web")?;
    Ok((scenario, nginx, lab))
}

/// Handshakes at the relay for `minutes`, `rate` a second; prints a row a minute.
///
/// # Errors
///
/// If a handshake goes another way than it should, or anything has grown.
pub fn tls(minutes: u32, rate: u32) -> Result<()> {
    let (scenario, _nginx, _lab) = scenario()?;
    let netns = scenario.topology.host("client").netns.clone();
    let mut clients = Clients::new()?;
    eventually("TLS is served", Duration::from_secs(20), || {
        netns.run(|| Clients::shake(&clients.full[0]).map(drop))?
    })?;
    let before = held(&scenario)?;
    println!("minute  handshakes  relay KiB  files  threads  connections  agent KiB  files  flows");
    let show = |minute: u32, done: &Done, held: &Held| {
        let Held { relay_kib, agent_kib, relay_files, agent_files, threads, connections, flows } = held;
        println!(
            "{minute:>6}  {:>10}  {relay_kib:>9}  {relay_files:>5}  {threads:>7}  {connections:>11}  {agent_kib:>9}  \
             {agent_files:>5}  {flows:>5}",
            done.all()
        );
    };
    show(0, &clients.done, &before);
    let pause = Duration::from_secs(1) / rate.max(1);
    let began = Instant::now();
    let mut minutes_held = Vec::new();
    for minute in 1..=minutes {
        let until = began + Duration::from_secs(60) * minute;
        netns
            .run(|| -> Result<()> {
                let mut due = Instant::now();
                while Instant::now() < until {
                    clients.next().with_context(|| format!("after {:?}", clients.done))?;
                    // What was late is not made up for: a second never brings more than its share.
                    due = (due + pause).max(Instant::now());
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                Ok(())
            })?
            .map_err(|error| match error.downcast_ref::<NoConnection>() {
                Some(failed) => {
                    let traces = traces(&scenario, failed);
                    error.context(traces)
                }
                None => error,
            })
            .with_context(|| scenario.diagnosis())?;
        let now = held(&scenario)?;
        show(minute, &clients.done, &now);
        minutes_held.push(now);
    }
    netns.run(|| clients.let_go(true))??;
    println!("{:?}", clients.done);
    let after = eventually("everything is given back", SETTLED, || {
        let now = held(&scenario)?;
        ensure!(now.connections == 0 && now.relay_files <= before.relay_files, "{now:?}, before {before:?}");
        ensure!(now.agent_files <= before.agent_files && now.threads <= before.threads, "{now:?}, before {before:?}");
        ensure!(now.flows <= before.flows, "{now:?}, before {before:?}");
        Ok(now)
    })?;
    show(minutes, &clients.done, &after);
    // What is needed once is there after a sixth of the time.
    let warm = minutes_held.get(minutes_held.len() / 6..).unwrap_or_default();
    steady("the relay's memory", &warm.iter().map(|held| held.relay_kib).collect::<Vec<_>>())?;
    steady("the agent's memory", &warm.iter().map(|held| held.agent_kib).collect::<Vec<_>>())?;
    Ok(())
}
