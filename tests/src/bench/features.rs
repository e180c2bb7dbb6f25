//! What a feature costs its users: connections and downloads through a listener that has it, beside the plain TCP/IPv4
//! listener of the same load balancer and beside the rival that has the feature too.

use std::{fs, net::Ipv4Addr, process::Stdio, thread, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    figure::{Figure, median},
    nftables,
    process::{CLIENT_CPU, SERVER_CPU, find, pin, preferred, quiet, route, unpin},
};
use crate::{
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Running},
    scenario::{Scenario, program},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);
/// Each is a target: the server closes first, and a port towards a target rests for a minute then.
const ADDRESSES: u8 = 16;
const CLIENT_NET: &str = "10.0.1.0/24";
/// The endpoint without a security group, and the rivals' address.
pub(super) const FRONT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
/// The endpoint with a security group of [`RULES`] rules.
const GUARDED: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 51);
/// As many as a security group may have.
const RULES: u16 = 1000;
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// Where the web server speaks HTTP.
pub(super) const PLAIN: u16 = 8080;
/// Where it expects a PROXY protocol header before that.
const PROXY: u16 = 8081;
/// In front of nftables: behind a set of [`RULES`] networks.
const FILTERED: u16 = 8082;
/// Bytes of a download.
pub(super) const DOWNLOAD: u64 = 8 << 20;
/// How long a sample takes, in seconds.
pub(super) const SAMPLE: u64 = 2;

/// A way to the web server.
#[derive(Debug)]
struct Path {
    client: Netns,
    url: String,
}

impl Path {
    fn new(client: &Netns, front: Ipv4Addr, port: u16) -> Self {
        Self { client: client.clone(), url: format!("http://{front}:{port}") }
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

/// One topology with what carries connections through it.
#[derive(Debug)]
pub(super) struct Contestant {
    _running: Vec<Running>,
    _files: Directory,
    place: Place,
    pub(super) client: Netns,
}

#[derive(Debug)]
pub(super) enum Place {
    Plain { topology: Topology },
    Ours { scenario: Box<Scenario> },
}

impl Contestant {
    pub(super) fn start(build: impl FnOnce(Topology, &Directory, &mut Vec<Running>) -> Result<Place>) -> Result<Self> {
        let files = Directory::new("bench")?;
        let plans = vec![
            VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
            VpcPlan::new("provider", vec![HostPlan::new("server", 2, 10).with_addresses(ADDRESSES)]),
        ];
        let topology = Topology::build(Hook::Tc, plans, None)?;
        let client = topology.host("client").netns.clone();
        for netns in [&client, &topology.lb] {
            netns.sysctl("ipv4.tcp_tw_reuse", "1")?;
            netns.sysctl("ipv4.ip_local_port_range", "1024 65535")?;
        }
        let mut running = vec![web(&topology.host("server").netns, &files)?];
        let place = build(topology, &files, &mut running)?;
        Ok(Self { _running: running, _files: files, place, client })
    }

    /// The namespace of what carries the connections.
    pub(super) fn lb(&self) -> &Netns {
        match &self.place {
            Place::Plain { topology } => &topology.lb,
            Place::Ours { scenario } => &scenario.topology.lb,
        }
    }

    pub(super) fn diagnosis(&self) -> String {
        match &self.place {
            Place::Plain { topology } => format!("through {}", topology.lb.name()),
            Place::Ours { scenario } => scenario.diagnosis(),
        }
    }
}

/// nginx with both kinds of port, on the server's CPU.
fn web(netns: &Netns, files: &Directory) -> Result<Running> {
    let path = files.path();
    let dir = path.display();
    fs::create_dir_all(path.join("www")).context("the web server's directory")?;
    fs::write(path.join("www/small"), "hello\n").context("the small file")?;
    fs::write(path.join("www/large"), vec![0x5a; DOWNLOAD as usize]).context("the large file")?;
    let config = format!(
        "user root; worker_processes 1; daemon off; pid {dir}/web.pid; error_log {dir}/web.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000;\n\
         client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;\n\
         uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
         server {{ listen {PLAIN} backlog=4096; listen {PROXY} proxy_protocol backlog=4096; root {dir}/www; }} }}\n"
    );
    fs::write(path.join("web.conf"), config).context("nginx's configuration")?;
    let mut command = netns.command(find("nginx")?);
    command.arg("-c").arg(path.join("web.conf")).arg("-p").arg(path).arg("-e").arg(path.join("web.log"));
    pin(SERVER_CPU)?;
    let running = Running::start(quiet(&mut command));
    unpin()?;
    running
}

pub(super) fn targets() -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d] = SERVER.octets();
    (0..ADDRESSES).map(move |n| Ipv4Addr::new(a, b, c, d + n))
}

/// Networks that no client is in, but for the last.
fn networks() -> impl Iterator<Item = String> {
    let others = (0..RULES - 1).map(|n| format!("172.{}.{}.0/25", 16 + n / 200, n % 200));
    others.chain([CLIENT_NET.to_owned()])
}

/// The agent with a plain listener and one with PROXY headers, and two endpoints, one of them guarded.
fn ours(topology: Topology) -> Result<Place> {
    let agent = crate::daemon::Agent::start(&program()?, &topology.lb)?;
    let scenario = Scenario::configure(topology, agent)?;
    let cli = &scenario.cli;
    cli.run(&format!("load-balancer create bench --vpc provider --address {NODE}"))?;
    let targets = targets().map(|target| target.to_string()).collect::<Vec<_>>().join(" ");
    for (group, port) in [("plain", PLAIN), ("proxy", PROXY)] {
        cli.run(&format!("target-group create {group} --vpc provider --protocol TCP --port {port}"))?;
        cli.run(&format!("target register {group} {targets}"))?;
        cli.run(&format!("listener create bench --protocol TCP --port {port} --target-group {group}"))?;
    }
    cli.run("target-group modify proxy --attribute proxy_protocol_v2.enabled=true")?;
    cli.run("endpoint-service create --load-balancer bench --name bench")?;
    for address in [FRONT, GUARDED] {
        scenario.endpoint("bench", "consumer", address)?;
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
    for group in ["plain", "proxy"] {
        scenario.wait_healthy(group)?;
    }
    Ok(Place::Ours { scenario: Box::new(scenario) })
}

/// One process of HAProxy that puts the same header before what it relays.
fn haproxy(topology: Topology, files: &Directory, running: &mut Vec<Running>) -> Result<Place> {
    route(&topology.lb, FRONT, NODE)?;
    let listen = |port: u16, option: &str| {
        let servers = targets().enumerate();
        let servers: String = servers.map(|(n, target)| format!(" server s{n} {target}:{port} {option}\n")).collect();
        format!("listen p{port}\n bind {FRONT}:{port}\n{servers}")
    };
    let config = format!(
        "global\n nbthread 1\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n \
         timeout server 60s\n{}{}",
        listen(PLAIN, ""),
        listen(PROXY, "send-proxy-v2")
    );
    let file = files.path().join("haproxy.cfg");
    fs::write(&file, config).context("HAProxy's configuration")?;
    let mut command = topology.lb.command(find("haproxy")?);
    command.arg("-db").arg("-f").arg(file);
    running.push(Running::start(quiet(&mut command))?);
    Ok(Place::Plain { topology })
}

/// The kernel's NAT, with a set of networks before one of the ports.
fn nat(topology: Topology, _: &Directory, _: &mut Vec<Running>) -> Result<Place> {
    route(&topology.lb, FRONT, NODE)?;
    let map: Vec<String> = targets().enumerate().map(|(n, target)| format!("{n} : {target} . {PLAIN}")).collect();
    let dnat = format!("dnat to numgen inc mod {} map {{ {} }}", map.len(), map.join(", "));
    let networks: Vec<String> = networks().collect();
    let rules = format!(
        "table ip nat {{\n\
         set clients {{ type ipv4_addr; flags interval; elements = {{ {} }} }}\n\
         chain in {{ type nat hook prerouting priority -100; ip daddr {FRONT} tcp dport {PLAIN} {dnat};\n\
         ip daddr {FRONT} tcp dport {FILTERED} ip saddr @clients {dnat}; }}\n\
         chain out {{ type nat hook postrouting priority 100; oifname provider masquerade; }}\n}}\n",
        networks.join(", ")
    );
    nftables::load(&topology.lb, &rules)?;
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
    const NAMES: [&str; 2] = ["proxy-v2", "rules-1000"];
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
