//! The same storms over us and over those that are most trusted: a target dies, the balancer's process dies, a thousand
//! settings change at once, the program is replaced. All the while connections come for one request each, and others
//! are kept.
//!
//! Each has three servers; health checks, where there are any, come every 5 s and take two failures. What is killed is
//! started again at once, as a supervisor would.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{interval, timeout},
};

use super::{
    figure::{Figure, Goal, median},
    process::{find, quiet, route},
};
use crate::{
    daemon::Agent,
    eventually::eventually,
    nft,
    programs::{Directory, Nginx, Running},
    scenario::{Scenario, Service, program},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

const FRONT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 50), 80);
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const SERVERS: [&str; 3] = ["server-1", "server-2", "server-3"];
const HTTP: u16 = 8080;
/// Where what changes is: it has no server behind it, and no client.
const OTHER: u16 = 9000;
/// Settings that change at once.
const CHANGES: u16 = 1_000;
/// Connections a second for one request each.
const RATE: u64 = 200;
/// Connections that are kept, and the time between two requests of each.
const KEPT: usize = 8;
const PACE: Duration = Duration::from_millis(20);
/// After so long a request has failed.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is calm before the storm.
const CALM: Duration = Duration::from_secs(1);
/// Until all is as before.
const SETTLED: Duration = Duration::from_secs(40);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storm {
    TargetKilled,
    BalancerKilled,
    Changes,
    Upgrade,
}

impl Storm {
    const ALL: [Self; 4] = [Self::TargetKilled, Self::BalancerKilled, Self::Changes, Self::Upgrade];

    fn name(self) -> &'static str {
        match self {
            Self::TargetKilled => "storm-target-killed",
            Self::BalancerKilled => "storm-balancer-killed",
            Self::Changes => "storm-1000-changes",
            Self::Upgrade => "storm-upgrade",
        }
    }

    /// How long is looked: two health checks, or what a start takes.
    fn length(self) -> Duration {
        match self {
            Self::TargetKilled => Duration::from_secs(13),
            Self::BalancerKilled | Self::Changes | Self::Upgrade => Duration::from_secs(5),
        }
    }
}

/// Who balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ours,
    Haproxy,
    Nginx,
    Nftables,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Ours, Self::Haproxy, Self::Nginx, Self::Nftables];

    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Nftables => "nftables",
        }
    }

    /// nftables has no process that could die or be replaced.
    fn meets(self, storm: Storm) -> bool {
        match (self, storm) {
            (Self::Ours | Self::Haproxy | Self::Nginx, _) | (Self::Nftables, Storm::TargetKilled | Storm::Changes) => {
                true
            }
            (Self::Nftables, Storm::BalancerKilled | Storm::Upgrade) => false,
        }
    }
}

/// What clients noticed.
#[derive(Clone, Copy, Debug)]
struct Noticed {
    failed: u64,
    /// The longest time that a client of a kept connection, who connects again where it breaks, had no answer, in ms.
    stall: f64,
    /// The 99th percentile of single requests, connecting included, in ms; one that failed counts with what it took.
    p99: f64,
}

/// One request, and whether the connection may go on.
async fn request(stream: &mut TcpStream, last: bool) -> Result<()> {
    let head = if last { "Connection: close\r\n" } else { "" };
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: storm\r\n{head}\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.windows(12).any(|window| window.starts_with(b"\r\n\r\nserver-")) {
        ensure!(stream.read_buf(&mut answer).await? > 0, "the connection ended");
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "refused");
    Ok(())
}

/// A connection for one request.
async fn single() -> Result<()> {
    let mut stream = TcpStream::connect(FRONT).await?;
    request(&mut stream, true).await
}

/// Requests on a kept connection until `end`: how many failed, and the longest time without an answer.
async fn kept(end: Instant) -> (u64, Duration) {
    let (mut failed, mut longest, mut answered) = (0, Duration::ZERO, Instant::now());
    let mut connection = None;
    while Instant::now() < end {
        let asked = async {
            let mut stream = match connection.take() {
                Some(stream) => stream,
                None => TcpStream::connect(FRONT).await?,
            };
            request(&mut stream, false).await?;
            Ok::<_, anyhow::Error>(stream)
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(stream)) => {
                connection = Some(stream);
                longest = longest.max(answered.elapsed());
                answered = Instant::now();
            }
            Ok(Err(_)) | Err(_) => failed += 1,
        }
        tokio::time::sleep(PACE).await;
    }
    (failed, longest.max(answered.elapsed()).saturating_sub(PACE))
}

/// Clients of both kinds for `length`.
async fn load(length: Duration) -> Result<Noticed> {
    let end = Instant::now() + length;
    let (mut singles, mut keepers) = (JoinSet::new(), JoinSet::new());
    for _ in 0..KEPT {
        keepers.spawn(kept(end));
    }
    let mut ticks = interval(Duration::from_millis(1_000 / RATE));
    while Instant::now() < end {
        ticks.tick().await;
        singles.spawn(async {
            let since = Instant::now();
            let ok = matches!(timeout(PATIENCE, single()).await, Ok(Ok(())));
            (ok, since.elapsed().as_secs_f64() * 1e3)
        });
    }
    let (singles, keepers) = (singles.join_all().await, keepers.join_all().await);
    let mut times: Vec<f64> = singles.iter().map(|(_, time)| *time).collect();
    times.sort_by(f64::total_cmp);
    let failed = singles.iter().filter(|(ok, _)| !ok).count() as u64;
    let longest = keepers.iter().map(|(_, longest)| *longest).max().context("no kept connection")?;
    Ok(Noticed {
        failed: failed + keepers.iter().map(|(failed, _)| failed).sum::<u64>(),
        stall: longest.as_secs_f64() * 1e3,
        p99: times.get(times.len().saturating_sub(1) * 99 / 100).copied().context("no request")?,
    })
}

/// What runs in the balancer's namespace.
enum Place {
    Ours { scenario: Box<Scenario>, programs: [PathBuf; 2] },
    Rival { topology: Topology, running: Option<Running> },
}

struct Contestant {
    kind: Kind,
    place: Place,
    /// The one in front dies.
    servers: Vec<Nginx>,
    files: Directory,
    /// Storms so far: each has settings of its own.
    turn: u16,
}

impl Contestant {
    fn start(kind: Kind) -> Result<Self> {
        let files = Directory::new("storm")?;
        let hosts = SERVERS.into_iter().zip(10..).map(|(name, last)| HostPlan::new(name, 2, last)).collect();
        let plans = vec![
            VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
            VpcPlan::new("provider", hosts).bridged(),
        ];
        let topology = Topology::build(Hook::Tc, plans, None)?;
        let serve = |name: &str| {
            let (host, dir) = (topology.host(name), Directory::new(name)?);
            Nginx::start(&host.netns, dir, SocketAddrV4::new(host.address(), HTTP), name)
        };
        let servers = SERVERS.into_iter().map(serve).collect::<Result<_>>()?;
        let place = match kind {
            Kind::Ours => {
                let first = program()?;
                let other = files.path().join("privatelink");
                fs::copy(&first, &other).context("copying the program")?;
                let agent = Agent::start(&first, &topology.lb)?;
                let scenario = Scenario::configure(topology, agent)?;
                let addresses = SERVERS.map(|name| scenario.topology.host(name).address());
                let service = scenario.publish(&Service::new("web", "provider", addresses.to_vec()))?;
                scenario.endpoint(&service, "consumer", *FRONT.ip())?;
                for line in [
                    format!(
                        "target-group create other --vpc provider --protocol TCP --port {OTHER} --health-check-interval 300"
                    ),
                    format!("listener create web --protocol TCP --port {OTHER} --target-group other"),
                ] {
                    scenario.cli.run(&line)?;
                }
                Place::Ours { scenario: Box::new(scenario), programs: [other, first] }
            }
            Kind::Haproxy | Kind::Nginx | Kind::Nftables => {
                route(&topology.lb, *FRONT.ip(), NODE)?;
                Place::Rival { topology, running: None }
            }
        };
        let mut contestant = Self { kind, place, servers, files, turn: 0 };
        contestant.configure()?;
        contestant.begin()?;
        contestant.settle()?;
        Ok(contestant)
    }

    fn topology(&self) -> &Topology {
        match &self.place {
            Place::Ours { scenario, programs: _ } => &scenario.topology,
            Place::Rival { topology, running: _ } => topology,
        }
    }

    /// The thousand addresses of this turn.
    fn others(&self) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let third = 16 + (self.turn % 2) * 8;
        (0..CHANGES).map(move |n| {
            let [high, low] = (third * 256 + n + 1).to_be_bytes();
            Ipv4Addr::new(10, 0, high, low)
        })
    }

    /// Registers this turn's addresses, or deregisters them.
    fn change(&self, scenario: &Scenario, verb: &str) -> Result<()> {
        let others: Vec<String> = self.others().map(|at| at.to_string()).collect();
        let words: Vec<&str> = ["target", verb, "other"].into_iter().chain(others.iter().map(String::as_str)).collect();
        scenario.cli.words(&words).map(drop)
    }

    /// Writes a rival's configuration.
    fn configure(&self) -> Result<()> {
        let path = self.files.path();
        let dir = path.display();
        let servers = || SERVERS.iter().map(|name| (name, self.topology().host(name).address()));
        let others = || self.others().enumerate();
        let (file, text) = match self.kind {
            Kind::Ours => return Ok(()),
            Kind::Haproxy => {
                let servers: String = servers()
                    .map(|(name, at)| format!(" server {name} {at}:{HTTP} check inter 5s fall 2 rise 2\n"))
                    .collect();
                let others: String = others().map(|(n, at)| format!(" server o{n} {at}:{OTHER}\n")).collect();
                let text = format!(
                    "global\n maxconn 4000\n stats socket {dir}/admin.sock level admin expose-fd listeners\ndefaults\n mode tcp\n \
                     timeout connect 5s\n timeout client 60s\n timeout server 60s\n timeout check 2s\n option redispatch\n\
                     listen web\n bind {FRONT}\n{servers}listen other\n bind {}:{OTHER}\n{others}",
                    FRONT.ip(),
                );
                ("haproxy.cfg", text)
            }
            Kind::Nginx => {
                let servers: String =
                    servers().map(|(_, at)| format!(" server {at}:{HTTP} max_fails=2 fail_timeout=10s;\n")).collect();
                let others: String = others().map(|(_, at)| format!(" server {at}:{OTHER};\n")).collect();
                let text = format!(
                    "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nuser root; worker_processes 1; \
                     pid {dir}/proxy.pid; error_log {dir}/proxy.log;\nevents {{ worker_connections 8192; }}\nstream {{ tcp_nodelay on;\n\
                     upstream web {{\n{servers}}}\nupstream other {{\n{others}}}\n\
                     server {{ listen {FRONT} backlog=4096; proxy_pass web; }}\n\
                     server {{ listen {}:{OTHER} backlog=4096; proxy_pass other; }}\n}}\n",
                    FRONT.ip(),
                );
                ("proxy.conf", text)
            }
            Kind::Nftables => {
                let map = |addresses: &mut dyn Iterator<Item = Ipv4Addr>| {
                    addresses.enumerate().map(|(n, at)| format!("{n} : {at}")).collect::<Vec<_>>().join(", ")
                };
                let (web, other) = (map(&mut servers().map(|(_, at)| at)), map(&mut self.others()));
                let front = FRONT.ip();
                let text = format!(
                    "table ip nat {{}}\ndelete table ip nat\ntable ip nat {{\nchain in {{ type nat hook prerouting priority -100;\n \
                     ip daddr {front} tcp dport {} dnat to numgen inc mod {} map {{ {web} }} : {HTTP};\n \
                     ip daddr {front} tcp dport {OTHER} dnat to numgen inc mod {CHANGES} map {{ {other} }}; }}\n\
                     chain out {{ type nat hook postrouting priority 100; oifname provider masquerade; }}\n}}\n",
                    FRONT.port(),
                    SERVERS.len(),
                );
                ("rules.nft", text)
            }
        };
        fs::write(path.join(file), text).context("a configuration")
    }

    /// Starts a rival's process, or loads its rules.
    fn begin(&mut self) -> Result<()> {
        let path = self.files.path().to_owned();
        let Place::Rival { topology, running } = &mut self.place else { return Ok(()) };
        let mut command = match self.kind {
            Kind::Ours => bail!("ours is no rival"),
            Kind::Haproxy => {
                let mut command = topology.lb.command(find("haproxy")?);
                command.arg("-W").arg("-f").arg(path.join("haproxy.cfg")).arg("-p").arg(path.join("proxy.pid"));
                command
            }
            Kind::Nginx => {
                let mut command = topology.lb.command(find("nginx")?);
                command
                    .arg("-c")
                    .arg(path.join("proxy.conf"))
                    .arg("-p")
                    .arg(&path)
                    .arg("-e")
                    .arg(path.join("proxy.log"));
                command
            }
            Kind::Nftables => return nft::load(&topology.lb, &fs::read_to_string(path.join("rules.nft"))?),
        };
        *running = Some(Running::start(quiet(&mut command))?);
        Ok(())
    }

    /// Waits until all three servers answer.
    fn settle(&self) -> Result<()> {
        let client = &self.topology().host("client").netns;
        let mut missing: Vec<&str> = SERVERS.to_vec();
        eventually("every server answers again", SETTLED, || {
            let output = client.command(find("curl")?).args(["-s", "-m", "2", &format!("http://{FRONT}/")]).output()?;
            let page = String::from_utf8_lossy(&output.stdout).into_owned();
            missing.retain(|name| *name != page);
            ensure!(missing.is_empty(), "nothing of {missing:?}");
            Ok(())
        })
        .with_context(|| self.diagnosis())
    }

    fn diagnosis(&self) -> String {
        match &self.place {
            Place::Ours { scenario, programs: _ } => scenario.diagnosis(),
            Place::Rival { .. } => self.kind.name().to_owned(),
        }
    }

    /// The process that its rival's file names.
    fn signal(&self, signal: Signal) -> Result<()> {
        let text = fs::read_to_string(self.files.path().join("proxy.pid")).context("the process's file")?;
        kill(Pid::from_raw(text.trim().parse()?), signal).with_context(|| format!("{signal} to {}", self.kind.name()))
    }

    /// Lets it happen.
    fn strike(&mut self, storm: Storm) -> Result<()> {
        match storm {
            Storm::TargetKilled => self.servers.first_mut().context("no server")?.kill(),
            Storm::BalancerKilled => match &mut self.place {
                Place::Ours { scenario, programs: _ } => {
                    scenario.agent.kill()?;
                    scenario.agent.start_again().map(drop)
                }
                Place::Rival { topology, running: _ } => {
                    let pids = Command::new("ip").args(["netns", "pids", topology.lb.name()]).output()?;
                    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
                        kill(Pid::from_raw(pid.parse()?), Signal::SIGKILL).context("killing the balancer")?;
                    }
                    self.begin()
                }
            },
            Storm::Changes => {
                self.turn += 1;
                match &self.place {
                    Place::Ours { scenario, programs: _ } => self.change(scenario, "register"),
                    Place::Rival { .. } => {
                        self.configure()?;
                        match self.kind {
                            Kind::Ours => bail!("ours is no rival"),
                            Kind::Haproxy => self.signal(Signal::SIGUSR2),
                            Kind::Nginx => self.signal(Signal::SIGHUP),
                            Kind::Nftables => self.begin(),
                        }
                    }
                }
            }
            Storm::Upgrade => match &mut self.place {
                Place::Ours { scenario, programs } => {
                    programs.swap(0, 1);
                    let [_, next] = &*programs;
                    scenario.agent.set_program(next);
                    ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
                    scenario.agent.start_again().map(drop)
                }
                Place::Rival { .. } => match self.kind {
                    Kind::Ours | Kind::Nftables => bail!("{} has no process to replace", self.kind.name()),
                    // Its master starts its program anew.
                    Kind::Haproxy => self.signal(Signal::SIGUSR2),
                    Kind::Nginx => self.upgrade_nginx(),
                },
            },
        }
    }

    /// As nginx's manual has it: another master beside the old one, which then ends with its last connection.
    fn upgrade_nginx(&self) -> Result<()> {
        let (now, old) = (self.files.path().join("proxy.pid"), self.files.path().join("proxy.pid.oldbin"));
        self.signal(Signal::SIGUSR2)?;
        let before = eventually("the old master has made place", PATIENCE, || {
            ensure!(now.exists() && fs::read_to_string(&now)?.trim().parse::<i32>().is_ok(), "no new master");
            fs::read_to_string(&old).context("no old master")
        })?;
        kill(Pid::from_raw(before.trim().parse()?), Signal::SIGQUIT).context("ending the old master")
    }

    /// Everything as it was.
    fn mend(&mut self, storm: Storm) -> Result<()> {
        match storm {
            Storm::TargetKilled => self.servers.first_mut().context("no server")?.start_again()?,
            Storm::Changes => {
                if let Place::Ours { scenario, programs: _ } = &self.place {
                    self.change(scenario, "deregister")?;
                }
            }
            Storm::BalancerKilled | Storm::Upgrade => {}
        }
        self.settle()
    }

    fn sample(&mut self, storm: Storm) -> Result<Noticed> {
        let client = self.topology().host("client").netns.clone();
        let noticed = thread::scope(|scope| {
            let loading = scope.spawn(|| {
                client.run(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
                    runtime.block_on(load(CALM + storm.length()))
                })?
            });
            thread::sleep(CALM);
            let struck = self.strike(storm).with_context(|| format!("{} to {}", storm.name(), self.kind.name()));
            let noticed = loading.join().unwrap_or_else(|_| bail!("the clients panicked"));
            struck.and(noticed)
        })?;
        self.mend(storm).with_context(|| format!("after {} to {}", storm.name(), self.kind.name()))?;
        Ok(noticed)
    }
}

/// What is told of each storm.
const TOLD: [(&str, &str, fn(&Noticed) -> f64); 3] = [
    ("failed", "requests", |noticed| noticed.failed as f64),
    ("stall", "ms", |noticed| noticed.stall),
    ("p99", "ms", |noticed| noticed.p99),
];

/// Every storm over every contestant, in turn.
pub fn compare(rounds: usize, mut wanted: impl FnMut(&str) -> bool, mut done: impl FnMut(Figure)) -> Result<()> {
    let storms: Vec<Storm> = Storm::ALL
        .into_iter()
        .filter(|storm| TOLD.iter().any(|(what, ..)| wanted(&format!("{}-{what}", storm.name()))))
        .collect();
    if storms.is_empty() {
        return Ok(());
    }
    let mut contestants: Vec<Contestant> = Kind::ALL.into_iter().map(Contestant::start).collect::<Result<_>>()?;
    for storm in storms {
        let mut samples: Vec<(Kind, Vec<Noticed>)> = Vec::new();
        for _ in 0..rounds {
            for contestant in contestants.iter_mut().filter(|one| one.kind.meets(storm)) {
                let noticed = contestant.sample(storm).with_context(|| contestant.diagnosis())?;
                match samples.iter_mut().find(|(kind, _)| *kind == contestant.kind) {
                    Some((_, samples)) => samples.push(noticed),
                    None => samples.push((contestant.kind, vec![noticed])),
                }
            }
        }
        for (what, unit, of) in TOLD {
            let values: Vec<(Kind, f64)> = samples
                .iter()
                .map(|(kind, samples)| Ok((*kind, median(&samples.iter().map(of).collect::<Vec<_>>())?)))
                .collect::<Result<_>>()?;
            let own = values.iter().find(|(kind, _)| *kind == Kind::Ours).context("no sample of ours")?.1;
            let figure = Figure::new(format!("{}-{what}", storm.name()), unit, own);
            let rivals = values.iter().filter(|(kind, _)| *kind != Kind::Ours);
            let figure = rivals.fold(figure, |figure, (kind, value)| figure.beside(kind.name(), *value));
            // A target's own connections break with it, whoever leads to it.
            let spared = what == "failed" && storm != Storm::TargetKilled;
            done(if spared { figure.goal(Goal::AtMost(0.0)) } else { figure });
        }
    }
    Ok(())
}
