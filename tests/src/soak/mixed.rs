//! A night in short: pages, logins, datagrams, TLS handshakes, transfers, connections that come and go and connections
//! that idle, all at once, while a target dies and comes back, endpoints are made and deleted, and, in the first half,
//! agent and relay are replaced.
//!
//! No connection may fail but those to the target that is dead and not yet found to be. Once a minute the whole is
//! looked at; at the end memory may not have grown, latency may not have risen, all flows and ports are given back,
//! every flow that was opened has ended once, and every packet has left, or was dropped by name.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{PATIENCE, books::Books, files, growth, relay, status, steady, tls};
use crate::{
    daemon::Agent,
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Nginx, Sshd, curl},
    scenario::{ENDPOINT, QUICK_CHECKS, Scenario, Service, program, rows, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
    traffic::{
        Tally,
        churn::{self, CloseFirst},
        datagrams::{self, Answering, Exchanged},
        hold::{self, Held},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

const PAGES: u16 = 80;
const ECHO: u16 = 7;
const SSH: u16 = 8_022;
const DATAGRAMS: u16 = 5_353;
const TARGETS: u16 = 8_080;
/// Where endpoints come and go, in the second consumer's network.
const PASSING: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 60);

/// Between two of each kind.
const PAGE: Duration = Duration::from_millis(250);
const LOGIN: Duration = Duration::from_secs(10);
const TRANSFER: Duration = Duration::from_secs(15);
const PING: Duration = Duration::from_millis(10);
const HANDSHAKE: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
const ENDPOINT_LIFE: Duration = Duration::from_secs(20);
const FLAP: Duration = Duration::from_secs(90);
const REPLACEMENT: Duration = Duration::from_secs(150);
/// A second.
const CONNECTIONS: u32 = 100;
const DATAGRAM_RATE: u32 = 100;
/// Connections that are kept.
const KEPT: usize = 500;
/// What one transfer sends and gets back.
const BYTES: u64 = 16 << 20;
/// Until closed connections' ports and datagrams' flows are given back: 120 s of idleness, and the sweep.
const SETTLED: Duration = Duration::from_secs(240);

/// When a target was down, and not yet known to be up again.
#[derive(Default)]
struct Outages(Mutex<Vec<(Instant, Option<Instant>)>>);

impl Outages {
    fn begin(&self) {
        self.lock().push((Instant::now(), None));
    }

    fn end(&self) {
        if let Some((_, end)) = self.lock().last_mut() {
            *end = Some(Instant::now());
        }
    }

    /// Whether what began at `since` and ends now fell into one.
    fn met(&self, since: Instant) -> bool {
        self.lock().iter().any(|(_, end)| end.is_none_or(|end| end > since))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Instant, Option<Instant>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all players share.
#[derive(Default)]
struct Night {
    over: AtomicBool,
    outages: Outages,
    /// By player.
    tallies: Mutex<BTreeMap<&'static str, Tally>>,
    /// Pages that a dead target did not serve.
    excused: Mutex<u64>,
    datagrams: Mutex<Exchanged>,
    /// Round trips in µs since they were last looked at.
    pings: Mutex<Vec<u32>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Night {
    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn count<T>(&self, player: &'static str, result: &Result<T>) {
        locked(&self.tallies).entry(player).or_default().count(result);
    }

    /// Does something at each of its times until all is over; a beat that is late is not made up for.
    fn every(&self, pace: Duration, mut beat: impl FnMut()) {
        let mut due = Instant::now();
        while !self.over() {
            beat();
            due = (due + pace).max(Instant::now());
            while !self.over() && Instant::now() < due {
                thread::sleep(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(100)));
            }
        }
    }

    fn pages(&self, client: &Netns) {
        self.every(PAGE, || {
            let since = Instant::now();
            let page = page(client, ENDPOINT);
            if page.is_err() && self.outages.met(since) {
                *locked(&self.excused) += 1;
            } else {
                self.count("pages", &page);
            }
        });
    }

    fn logins(&self, client: &Netns, sshd: &Sshd) {
        self.every(LOGIN, || self.count("logins", &login(client, sshd)));
    }

    fn transfers(&self, client: &Netns) {
        self.every(TRANSFER, || {
            let echo = stream::connect(client, Source::ANY, at(ECHO), PATIENCE);
            self.count("transfers", &echo.and_then(|stream| stream::transfer(&stream, BYTES)));
        });
    }

    fn pings(&self, stream: &mut TcpStream) {
        self.every(PING, || match stream::echo(stream, b"how long does this take?") {
            Ok(took) => {
                locked(&self.pings).push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
                self.count("pings", &Ok(()));
            }
            Err(error) => self.count::<()>("pings", &Err(error)),
        });
    }

    fn idlers(&self, held: &mut Held) {
        self.every(IDLE, || {
            let tally = held.echo_all(PATIENCE);
            locked(&self.tallies).entry("idle connections").or_default().add(tally);
        });
    }

    fn churn(&self, client: &Netns, sources: &[Ipv4Addr]) {
        let plan = churn::Plan {
            sources: sources.to_vec(),
            to: at(ECHO),
            rate: CONNECTIONS,
            duration: Duration::from_secs(2),
            close_first: CloseFirst::Client,
        };
        while !self.over() {
            match churn::churn(client, &plan) {
                Ok(report) => locked(&self.tallies).entry("connections").or_default().add(report.tally),
                Err(error) => self.count::<()>("connections", &Err(error)),
            }
        }
    }

    fn datagrams(&self) -> Result<()> {
        while !self.over() {
            let until = Instant::now() + Duration::from_secs(10);
            let over = || self.over() || Instant::now() >= until;
            let exchanged = datagrams::exchange(at(DATAGRAMS).into(), DATAGRAM_RATE, over)?;
            locked(&self.datagrams).add(exchanged);
        }
        Ok(())
    }

    fn handshakes(&self, clients: &mut tls::Clients) {
        self.every(HANDSHAKE, || self.count("TLS handshakes", &clients.next()));
        self.count("TLS handshakes", &clients.let_go(true));
    }

    /// Everything so far.
    fn tally(&self) -> Tally {
        let mut all = Tally::default();
        for (player, Tally { succeeded, failed }) in locked(&self.tallies).iter() {
            let failed = failed.iter().map(|(why, count)| (format!("{player}: {why}"), *count)).collect();
            all.add(Tally { succeeded: *succeeded, failed });
        }
        all
    }
}

fn at(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(ENDPOINT, port)
}

fn page(client: &Netns, endpoint: Ipv4Addr) -> Result<()> {
    let page = curl(client, &["--max-time", "5", &format!("http://{endpoint}:{PAGES}/")])?;
    ensure!(page == "in clear", "the page is {page}");
    Ok(())
}

fn login(client: &Netns, sshd: &Sshd) -> Result<()> {
    let output = sshd.client(client, at(SSH), "echo $PRIVATELINK_HOST")?.output().context("starting ssh")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && said.trim() == "server-1", "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// What the whole holds at one moment.
#[derive(Clone, Debug)]
struct Moment {
    agent_kib: u64,
    relay_kib: u64,
    agent_files: usize,
    relay_files: usize,
    flows: usize,
    /// Source ports of open flows, and those held back.
    ports: u64,
    ports_held: u64,
}

impl Moment {
    fn now(scenario: &Scenario) -> Result<Self> {
        let (agent, relay) = (scenario.agent.pid().context("the agent has ended")?, relay(&scenario.agent)?.pid);
        let stats = scenario.cli.run("stats")?;
        let pools = stats["pools"].as_array().context("stats without pools")?;
        let sum = |member: &str| pools.iter().filter_map(|pool| pool[member].as_u64()).sum();
        Ok(Self {
            agent_kib: status(agent, "VmRSS")?,
            relay_kib: status(relay, "VmRSS")?,
            agent_files: files(agent)?,
            relay_files: files(relay)?,
            flows: rows(&scenario.cli.run("flow list")?)?.len(),
            ports: sum("used"),
            ports_held: sum("held"),
        })
    }
}

/// Percentiles of round trips, in µs.
#[derive(Clone, Copy, Debug)]
struct Latency {
    median: u32,
    p99: u32,
    longest: u32,
}

impl Latency {
    fn of(mut pings: Vec<u32>) -> Result<Self> {
        pings.sort_unstable();
        let part = |part: usize| pings.get((pings.len().saturating_sub(1)) * part / 100).copied();
        let all = part(50).zip(part(99)).zip(part(100)).context("no round trip")?;
        let ((median, p99), longest) = all;
        Ok(Self { median, p99, longest })
    }
}

/// The programs and what is configured around them.
struct Stage {
    scenario: Scenario,
    service: String,
    /// The server that dies and comes back.
    mortal: Nginx,
    _servers: (Vec<Nginx>, Server, Answering, Directory),
}

impl Stage {
    /// All of it, and the server to log in to.
    fn new(hook: Hook) -> Result<(Self, Sshd)> {
        let plans = vec![
            VpcPlan::new("consumer-a", vec![HostPlan::new("client-a", 1, 10)]),
            VpcPlan::new("consumer-b", vec![HostPlan::new("client-b", 1, 10).with_addresses(4)]),
            VpcPlan::new(
                "provider",
                vec![
                    HostPlan::new("server-1", 2, 10),
                    HostPlan::new("server-2", 2, 11),
                    HostPlan::new("server-3", 2, 12),
                ],
            ),
        ];
        let topology = Topology::build(hook, plans, None)?;
        let agent = Agent::start(&program()?, &topology.lb)?;
        let scenario = Scenario::configure(topology, agent)?;
        for client in ["client-a", "client-b"] {
            scenario.topology.host(client).netns.sysctl("ipv4.ip_local_port_range", "1024 65535")?;
        }
        let target = |name: &str, port: u16| SocketAddrV4::new(scenario.topology.host(name).address(), port);
        let netns = |name: &str| scenario.topology.host(name).netns.clone();
        let web = |name: &str| {
            let at = target(name, TARGETS);
            Nginx::start(&netns(name), Directory::new(&format!("web-{name}"))?, at, "in clear")
        };
        let (first, second, mortal) = (web("server-1")?, web("server-2")?, web("server-3")?);
        let echo = Server::start(&netns("server-1"), target("server-1", ECHO), Behaviour::Echo)?;
        let answering = Answering::start(&netns("server-1"), target("server-1", DATAGRAMS).into())?;
        let sshd = Sshd::start(&netns("server-1"), Directory::new("ssh")?, target("server-1", SSH), "server-1")?;

        let servers = ["server-1", "server-2", "server-3"].map(|name| scenario.topology.host(name).address());
        let service = scenario.publish(&Service::new("web", "provider", servers.to_vec()))?;
        let lab = Directory::new("lab")?;
        let ca = lab.path().join("ca");
        let made = scenario.cli.run(&format!("certificate create-lab www.lab.example --ca {}", ca.display()))?;
        let certificate = text(&made, "id")?;
        let [one, two, _] = servers;
        for line in [
            format!("target-group create tls --vpc provider --protocol TCP --port {TARGETS} {QUICK_CHECKS}"),
            format!("target register tls {one} {two}"),
            format!("listener create web --protocol TLS --port 443 --target-group tls --certificate {certificate}"),
            format!("target-group create echo --vpc provider --protocol TCP --port {ECHO} {QUICK_CHECKS}"),
            format!("target register echo {one}"),
            format!("listener create web --protocol TCP --port {ECHO} --target-group echo"),
            format!("target-group create ssh --vpc provider --protocol TCP --port {SSH} {QUICK_CHECKS}"),
            format!("target register ssh {one}"),
            format!("listener create web --protocol TCP --port {SSH} --target-group ssh"),
            format!(
                "target-group create datagrams --vpc provider --protocol UDP --port {DATAGRAMS} {QUICK_CHECKS} --health-check-port {TARGETS}"
            ),
            format!("target register datagrams {one}"),
            format!("listener create web --protocol UDP --port {DATAGRAMS} --target-group datagrams"),
        ] {
            scenario.cli.run(&line)?;
        }
        for vpc in ["consumer-a", "consumer-b"] {
            scenario.endpoint(&service, vpc, ENDPOINT)?;
        }
        for group in ["web", "tls", "echo", "ssh", "datagrams"] {
            scenario.wait_healthy(group)?;
        }
        eventually("the service is carried", PATIENCE, || page(&netns("client-a"), ENDPOINT))?;
        Ok((Self { scenario, service, mortal, _servers: (vec![first, second], echo, answering, lab) }, sshd))
    }

    /// An endpoint comes, serves a page, and goes.
    fn endpoint(&self) -> Result<()> {
        let client = &self.scenario.topology.host("client-b").netns;
        let id = self.scenario.endpoint(&self.service, "consumer-b", PASSING)?;
        // Its address may be an old one's whose neighbours still ask.
        eventually("a new endpoint serves", PATIENCE, || page(client, PASSING))?;
        self.scenario.cli.run(&format!("endpoint delete {id}"))?;
        eventually("a deleted endpoint serves no more", PATIENCE, || {
            ensure!(page(client, PASSING).is_err(), "a page came");
            Ok(())
        })
    }

    /// A target dies, is found dead, comes back and is found alive.
    fn outage(&mut self, night: &Night) -> Result<()> {
        let address = self.scenario.topology.host("server-3").address();
        night.outages.begin();
        self.mortal.kill()?;
        self.scenario.wait_state("web", address, "unhealthy", PATIENCE)?;
        self.mortal.start_again()?;
        self.scenario.wait_state("web", address, "healthy", PATIENCE)?;
        night.outages.end();
        Ok(())
    }

    /// Agent or relay make place for others, in turn: killed, ended, and asked to pass on.
    fn replacement(&mut self, turn: u32) -> Result<&'static str> {
        match turn % 3 {
            0 => {
                self.scenario.agent.kill()?;
                self.scenario.agent.start_again()?;
                Ok("agent killed and started again")
            }
            1 => {
                ensure!(self.scenario.agent.stop()?.success(), "the agent did not stop cleanly");
                self.scenario.agent.start_again()?;
                Ok("agent stopped and started again")
            }
            _ => {
                let old = relay(&self.scenario.agent)?.pid;
                kill(Pid::from_raw(i32::try_from(old)?), Signal::SIGTERM).context("ending the relay")?;
                eventually("another relay has taken over", PATIENCE, || {
                    let new = relay(&self.scenario.agent)?;
                    ensure!(new.pid != old && !new.listeners.is_empty(), "still {old}");
                    Ok(())
                })?;
                Ok("relay ended, and another took over")
            }
        }
    }

    /// What happens from outside until all is over; a line a minute, or as soon after as nothing else is under way.
    fn watch(&mut self, night: &Night, minutes: u32) -> Result<Vec<(Moment, Latency)>> {
        println!(
            "minute  connections  failed  excused  datagrams  lost  median µs    p99  longest  agent KiB  relay KiB  files  \
             flows  ports   held  lost frames"
        );
        let (began, length) = (Instant::now(), MINUTE * minutes);
        let mut moments = Vec::new();
        let mut next = Next { row: MINUTE, endpoint: ENDPOINT_LIFE, outage: FLAP, replacement: REPLACEMENT };
        let (mut endpoints, mut outages, mut replacements) = (0_u32, 0_u32, 0_u32);
        while next.row <= length {
            let elapsed = began.elapsed();
            if elapsed >= next.row {
                moments.push(self.row(night, elapsed)?);
                next.row = elapsed + MINUTE;
            }
            if elapsed >= next.endpoint {
                self.endpoint()?;
                (next.endpoint, endpoints) = (began.elapsed() + ENDPOINT_LIFE, endpoints + 1);
            }
            if elapsed >= next.outage {
                self.outage(night)?;
                (next.outage, outages) = (began.elapsed() + FLAP, outages + 1);
            }
            // In the second half memory is compared from minute to minute.
            if elapsed >= next.replacement && elapsed < length / 2 {
                let what = self.replacement(replacements)?;
                println!("        {what}");
                (next.replacement, replacements) = (began.elapsed() + REPLACEMENT, replacements + 1);
            }
            thread::sleep(Duration::from_millis(100));
        }
        println!("{endpoints} endpoints came and went, a target died {outages} times, {replacements} replacements");
        Ok(moments)
    }

    /// Looks at everything, and says what it saw.
    fn row(&self, night: &Night, elapsed: Duration) -> Result<(Moment, Latency)> {
        let latency = Latency::of(std::mem::take(&mut *locked(&night.pings)))?;
        let moment = Moment::now(&self.scenario)?;
        let (tally, datagrams) = (night.tally(), *locked(&night.datagrams));
        println!(
            "{:>6.1}  {:>11}  {:>6}  {:>7}  {:>9}  {:>4}  {:>9}  {:>5}  {:>7}  {:>9}  {:>9}  {:>5}  {:>5}  {:>5}  {:>5}  {:>11}",
            elapsed.as_secs_f32() / 60.0,
            tally.succeeded,
            tally.failures(),
            locked(&night.excused),
            datagrams.sent,
            datagrams.lost(),
            latency.median,
            latency.p99,
            latency.longest,
            moment.agent_kib,
            moment.relay_kib,
            moment.agent_files + moment.relay_files,
            moment.flows,
            moment.ports,
            moment.ports_held,
            Books::read(&self.scenario)?.lost_frames(),
        );
        tally.all_succeeded()?;
        Ok((moment, latency))
    }
}

/// When what is due next, since the beginning.
struct Next {
    row: Duration,
    endpoint: Duration,
    outage: Duration,
    replacement: Duration,
}

/// Everything at once for `minutes`; prints a row a minute.
///
/// # Errors
///
/// If anything fails that nothing excuses, grows, is not given back, or does not balance.
pub fn mixed(minutes: u32, hook: Hook) -> Result<()> {
    ensure!(minutes >= 6, "{minutes} minutes are too short to see anything grow: take 6 or more");
    let (mut stage, sshd) = Stage::new(hook)?;
    let (client, other) = (stage.scenario.topology.host("client-a"), stage.scenario.topology.host("client-b"));
    let (sources, client, other) = (other.addresses.clone(), client.netns.clone(), other.netns.clone());
    let before = Moment::now(&stage.scenario)?;
    let checksums = stage.scenario.topology.checksum_errors()?;
    let plan = hold::Plan { sources: sources.clone(), to: at(ECHO), count: KEPT, concurrency: 50, timeout: PATIENCE };
    let mut held = Held::open(&other, &plan)?;
    held.tally.all_succeeded()?;
    let mut ping = stream::connect(&client, Source::ANY, at(ECHO), PATIENCE)?;
    let mut clients = tls::Clients::new()?;
    let night = Night::default();
    let moments = thread::scope(|scope| {
        let night = &night;
        let players = [
            scope.spawn(|| night.pages(&client)),
            scope.spawn(|| night.logins(&client, &sshd)),
            scope.spawn(|| night.transfers(&client)),
            scope.spawn(|| night.pings(&mut ping)),
            scope.spawn(|| night.idlers(&mut held)),
            scope.spawn(|| night.churn(&other, &sources)),
        ];
        let datagrams = scope.spawn(|| client.run(|| night.datagrams())?);
        let handshakes = scope.spawn(|| client.run(|| night.handshakes(&mut clients)));
        let moments = stage.watch(night, minutes);
        night.over.store(true, Ordering::Relaxed);
        for player in players {
            player.join().map_err(|_| anyhow::anyhow!("a player panicked"))?;
        }
        datagrams.join().map_err(|_| anyhow::anyhow!("the datagrams panicked"))??;
        handshakes.join().map_err(|_| anyhow::anyhow!("the handshakes panicked"))??;
        moments
    });
    let moments = moments.with_context(|| stage.scenario.diagnosis())?;
    drop((held, ping));
    for (player, tally) in locked(&night.tallies).iter() {
        println!("{player}: {tally}");
    }
    let tally = night.tally();
    tally.all_succeeded()?;
    let datagrams = *locked(&night.datagrams);
    println!("datagrams: {datagrams:?}");
    ensure!(datagrams.lost() <= datagrams.sent / 1_000, "{} datagrams were lost", datagrams.lost());
    let checksums = stage.scenario.topology.checksum_errors()? - checksums;
    ensure!(checksums == 0, "{checksums} checksum errors");

    let after = eventually("everything is given back", SETTLED, || {
        let now = Moment::now(&stage.scenario)?;
        ensure!(now.flows <= before.flows && now.ports <= before.ports, "{now:?}, before {before:?}");
        ensure!(now.ports_held <= before.ports_held, "{now:?}, before {before:?}");
        ensure!(now.agent_files <= before.agent_files, "{now:?}, before {before:?}");
        ensure!(now.relay_files <= before.relay_files, "{now:?}, before {before:?}");
        Ok(now)
    })?;
    let books = Books::read(&stage.scenario)?;
    println!("{books:?}, {} flows open", after.flows);
    // The health checks' own flows come and go while both are read.
    let lost = books.lost_flows(after.flows);
    ensure!(lost.unsigned_abs() <= 8, "{lost} flows are neither open nor ended, or have ended twice");
    let lost = books.lost_frames();
    ensure!(lost.unsigned_abs() <= books.received / 1_000, "{lost} frames are neither forwarded nor dropped by name");

    // What is needed once is there a sixth of the time after the last replacement.
    let warm = moments.len() / 2 + moments.len() / 6;
    let warm = moments.get(warm..).unwrap_or_default();
    steady("the relay's memory", &warm.iter().map(|(moment, _)| moment.relay_kib).collect::<Vec<_>>())?;
    steady("the agent's memory", &warm.iter().map(|(moment, _)| moment.agent_kib).collect::<Vec<_>>())?;
    let medians: Vec<f64> = moments.iter().map(|(_, latency)| f64::from(latency.median)).collect();
    let (first, grown) = (medians.first().copied().unwrap_or_default(), growth(&medians));
    println!("the median round trip: {first:.0} µs at first, {grown:+.0} µs over the whole");
    ensure!(grown < first / 2.0, "round trips take longer and longer: {medians:?}");
    Ok(())
}
