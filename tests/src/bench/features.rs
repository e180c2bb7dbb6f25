//! What a feature costs its users: connections and downloads through a listener that has it, beside the plain TCP/IPv4
//! listener of the same load balancer and beside the rival that has the feature too.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Stdio,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    contestant::{
        self, Contestant, DOWNLOAD, FRONT, FRONT6, NETWORKS6, NODE, NODE6, PLAIN, PROXY, Place, targets, targets6,
    },
    figure::{Figure, median},
    process::{CLIENT_CPU, find, pin, preferred, route, route6},
};
use crate::{
    eventually::eventually,
    netns::Netns,
    nft,
    programs::{Directory, Running},
    scenario::{QUICK_CHECKS, Scenario, program},
    topology::Topology,
};

const CLIENT_NET: &str = "10.0.1.0/24";
/// The endpoint with a security group of [`RULES`] rules.
const GUARDED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 51);
/// As many as a security group may have.
const RULES: u16 = 1000;
/// In front of nftables: behind a set of [`RULES`] networks.
const FILTERED: u16 = 8082;
/// Leads to targets of IPv6; [`PLAIN`] to those of IPv4.
const TO_IPV6: u16 = 8083;
/// How long a sample takes, in seconds.
pub(super) const SAMPLE: u64 = 2;

/// A way to the web server.
#[derive(Debug)]
struct Path {
    client: Netns,
    url: String,
}

impl Path {
    fn new(client: &Netns, front: impl Into<IpAddr>, port: u16) -> Self {
        Self { client: client.clone(), url: format!("http://{}", SocketAddr::new(front.into(), port)) }
    }

    /// Requests a second that wrk makes.
    fn wrk(&self, connections: u32, close: bool, file: &str) -> Result<f64> {
        let mut command = self.client.command(find("wrk")?);
        command.args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{SAMPLE}s")]);
        if close {
            command.args(["-H", "Connection: close"]);
        }
        command.arg(format!("{}/{file}", self.url));
        let output = command.stdin(Stdio::null()).output().context("starting wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(!text.contains("Non-2xx"), "{}: wrk printed {text}", self.url);
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).map(str::trim);
        rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("{}: wrk printed {text}", self.url))
    }

    /// Connections a second, each for one request.
    fn connections(&self) -> Result<f64> {
        self.wrk(16, true, "small")
    }

    /// Gigabits a second of large answers on eight connections.
    fn download(&self) -> Result<f64> {
        Ok(self.wrk(8, false, "large")? * (DOWNLOAD * 8) as f64 / 1e9)
    }

    fn answers(&self) -> Result<()> {
        let output =
            self.client.command(find("curl")?).args(["-sf", "-m", "2", &format!("{}/small", self.url)]).output();
        let output = output.context("starting curl")?;
        ensure!(output.status.success(), "{} does not answer", self.url);
        Ok(())
    }
}

/// Networks that no client is in, but for the last.
fn networks() -> impl Iterator<Item = String> {
    let others = (0..RULES - 1).map(|n| format!("172.{}.{}.0/25", 16 + n / 200, n % 200));
    others.chain([CLIENT_NET.to_owned()])
}

/// The agent with a plain listener, one with PROXY headers and one of IPv6 targets, and two endpoints, one of them
/// guarded.
fn ours(topology: Topology) -> Result<Place> {
    let agent = crate::daemon::Agent::start(&program()?, &topology.lb)?;
    let scenario = Scenario::configure(topology, agent)?;
    let cli = &scenario.cli;
    for (vpc, network) in NETWORKS6 {
        cli.run(&format!("vpc modify {vpc} --ipv6-cidr {network}"))?;
    }
    cli.run(&format!("load-balancer create bench --vpc provider --address {NODE} {NODE6}"))?;
    let words = |targets: &mut dyn Iterator<Item = IpAddr>| {
        targets.map(|target| target.to_string()).collect::<Vec<_>>().join(" ")
    };
    let (ipv4, ipv6) = (words(&mut targets().map(IpAddr::from)), words(&mut targets6().map(IpAddr::from)));
    for (group, port, family, target_port, targets) in [
        ("plain", PLAIN, "ipv4", PLAIN, &ipv4),
        ("proxy", PROXY, "ipv4", PROXY, &ipv4),
        ("ipv6", TO_IPV6, "ipv6", PLAIN, &ipv6),
    ] {
        cli.run(&format!(
            "target-group create {group} --vpc provider --ip-address-type {family} --protocol TCP --port {target_port} {QUICK_CHECKS}"
        ))?;
        cli.run(&format!("target register {group} {targets}"))?;
        cli.run(&format!("listener create bench --protocol TCP --port {port} --target-group {group}"))?;
    }
    cli.run("target-group modify proxy --attribute proxy_protocol_v2.enabled=true")?;
    cli.run("endpoint-service create --load-balancer bench --name bench")?;
    for addresses in [format!("{FRONT} --ipv6-address {FRONT6}"), GUARDED.to_string()] {
        cli.run(&format!("endpoint create --service-name bench --vpc consumer --address {addresses}"))?;
    }
    cli.run("security-group create many --vpc consumer")?;
    let networks: Vec<String> = networks().collect();
    for part in networks.chunks(250) {
        let mut words = vec!["security-group", "authorize", "many", "--protocol", "tcp"];
        for network in part {
            words.extend(["--cidr", network]);
        }
        cli.words(&words)?;
    }
    cli.run(&format!("endpoint modify consumer/{GUARDED} --security-group many"))?;
    for group in ["plain", "proxy", "ipv6"] {
        scenario.wait_healthy(group)?;
    }
    Ok(Place::Ours { scenario: Box::new(scenario) })
}

/// One process of HAProxy with the same listeners.
fn haproxy(topology: Topology, files: &Directory, running: &mut Vec<Running>) -> Result<Place> {
    route(&topology.lb, FRONT, NODE)?;
    route6(&topology.lb)?;
    let listen = |port: u16, target_port: u16, targets: &mut dyn Iterator<Item = IpAddr>, option: &str| {
        let servers = targets.map(|target| SocketAddr::new(target, target_port)).enumerate();
        let servers: String = servers.map(|(n, target)| format!(" server s{n} {target} {option}\n")).collect();
        format!("listen p{port}\n bind {FRONT}:{port}\n bind [{FRONT6}]:{port}\n{servers}")
    };
    let config = format!(
        "global\n nbthread 1\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n \
         timeout server 60s\n{}{}{}",
        listen(PLAIN, PLAIN, &mut targets().map(IpAddr::from), ""),
        listen(PROXY, PROXY, &mut targets().map(IpAddr::from), "send-proxy-v2"),
        listen(TO_IPV6, PLAIN, &mut targets6().map(IpAddr::from), "")
    );
    running.push(contestant::haproxy(&topology.lb, &config, files)?);
    Ok(Place::Plain { topology })
}

/// The kernel's NAT, with a set of networks before one of the ports.
fn nat(topology: Topology, _: &Directory, _: &mut Vec<Running>) -> Result<Place> {
    route(&topology.lb, FRONT, NODE)?;
    route6(&topology.lb)?;
    let dnat = |targets: &mut dyn Iterator<Item = IpAddr>| {
        let map: Vec<String> = targets.enumerate().map(|(n, target)| format!("{n} : {target} . {PLAIN}")).collect();
        format!("dnat to numgen inc mod {} map {{ {} }}", map.len(), map.join(", "))
    };
    let (ipv4, ipv6) = (dnat(&mut targets().map(IpAddr::from)), dnat(&mut targets6().map(IpAddr::from)));
    let networks: Vec<String> = networks().collect();
    let rules = format!(
        "table ip nat {{\n\
         set clients {{ type ipv4_addr; flags interval; elements = {{ {} }} }}\n\
         chain in {{ type nat hook prerouting priority -100; ip daddr {FRONT} tcp dport {PLAIN} {ipv4};\n\
         ip daddr {FRONT} tcp dport {FILTERED} ip saddr @clients {ipv4}; }}\n\
         chain out {{ type nat hook postrouting priority 100; oifname provider masquerade; }}\n}}\n\
         table ip6 nat {{\n\
         chain in {{ type nat hook prerouting priority -100; ip6 daddr {FRONT6} tcp dport {TO_IPV6} {ipv6}; }}\n\
         chain out {{ type nat hook postrouting priority 100; oifname provider masquerade; }}\n}}\n",
        networks.join(", ")
    );
    nft::load(&topology.lb, &rules)?;
    Ok(Place::Plain { topology })
}

/// A kind of sample.
#[derive(Clone, Copy)]
struct Measure {
    name: &'static str,
    unit: &'static str,
    sample: fn(&Path) -> Result<f64>,
}

const MEASURES: [Measure; 2] = [
    Measure { name: "connections", unit: "1/s", sample: Path::connections },
    Measure { name: "download", unit: "Gbit/s", sample: Path::download },
];

/// A feature: the way that has it, and the rivals' ways.
struct Feature<'c> {
    name: &'static str,
    ours: (&'c Contestant, Path),
    rivals: Vec<(&'static str, &'c Contestant, Path)>,
}

/// Every feature, over the plain listener.
pub fn compare(rounds: usize, mut wanted: impl FnMut(&str) -> bool, mut done: impl FnMut(Figure)) -> Result<()> {
    const NAMES: [&str; 4] = ["proxy-v2", "rules-1000", "ipv6", "ipv6-to-ipv4"];
    let figure_name = |feature: &str, measure: &Measure| format!("{feature}-{}", measure.name);
    let all = NAMES.iter().flat_map(|feature| MEASURES.iter().map(move |measure| figure_name(feature, measure)));
    let chosen: Vec<String> = all.filter(|name| wanted(name)).collect();
    if chosen.is_empty() {
        return Ok(());
    }
    preferred().context("raising the priority of the measured programs")?;
    let own = Contestant::start(|topology, _, _| ours(topology))?;
    let haproxy = Contestant::start(haproxy)?;
    let nat = Contestant::start(nat)?;
    let plain = || Path::new(&own.client, FRONT, PLAIN);
    let features = [
        Feature {
            name: NAMES[0],
            ours: (&own, Path::new(&own.client, FRONT, PROXY)),
            rivals: vec![
                ("haproxy send-proxy-v2", &haproxy, Path::new(&haproxy.client, FRONT, PROXY)),
                ("haproxy", &haproxy, Path::new(&haproxy.client, FRONT, PLAIN)),
            ],
        },
        Feature {
            name: NAMES[1],
            ours: (&own, Path::new(&own.client, GUARDED, PLAIN)),
            rivals: vec![
                ("nftables with a set", &nat, Path::new(&nat.client, FRONT, FILTERED)),
                ("nftables", &nat, Path::new(&nat.client, FRONT, PLAIN)),
            ],
        },
        Feature {
            name: NAMES[2],
            ours: (&own, Path::new(&own.client, FRONT6, TO_IPV6)),
            rivals: vec![
                ("nftables", &nat, Path::new(&nat.client, FRONT6, TO_IPV6)),
                ("haproxy", &haproxy, Path::new(&haproxy.client, FRONT6, TO_IPV6)),
            ],
        },
        Feature {
            name: NAMES[3],
            ours: (&own, Path::new(&own.client, FRONT6, PLAIN)),
            rivals: vec![("haproxy", &haproxy, Path::new(&haproxy.client, FRONT6, PLAIN))],
        },
    ];
    for Feature { name, ours: (own, path), rivals } in features {
        let mut ways = vec![("plain", own, plain()), ("ours", own, path)];
        ways.extend(rivals);
        for (_, contestant, path) in &ways {
            eventually("the service answers", Duration::from_secs(20), || path.answers())
                .with_context(|| contestant.diagnosis())?;
        }
        for measure in MEASURES {
            let figure = figure_name(name, &measure);
            if !chosen.contains(&figure) {
                continue;
            }
            let Measure { name: _, unit, sample } = measure;
            let mut samples = vec![Vec::new(); ways.len()];
            for _ in 0..rounds {
                for ((_, contestant, path), samples) in ways.iter().zip(&mut samples) {
                    let taken = thread::scope(|scope| {
                        let on_client_cpu = scope.spawn(|| pin(CLIENT_CPU).and_then(|()| sample(path)));
                        on_client_cpu.join().unwrap_or_else(|_| bail!("the sample's thread panicked"))
                    });
                    samples.push(taken.with_context(|| contestant.diagnosis())?);
                }
            }
            let medians: Vec<f64> = samples.iter().map(|samples| median(samples)).collect::<Result<_>>()?;
            let [plain, ours, rivals @ ..] = medians.as_slice() else { bail!("no samples of {figure}") };
            let figure = Figure::new(figure, unit, *ours).over("plain TCP/IPv4", *plain);
            let named = ways.iter().skip(2).map(|(name, _, _)| *name).zip(rivals);
            done(named.fold(figure, |figure, (name, value)| figure.beside(name, *value)));
        }
    }
    Ok(())
}
