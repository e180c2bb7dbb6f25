//! TCP through the load balancer and its rivals: real programs on real stacks, the server on CPU 0, the client on CPU
//! 1.
//!
//! Each contestant has namespaces of its own, wired alike: one client, one server, a veth pair to the load balancer
//! each. Forwarding works where the scheduler puts it; proxies are one process each.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use super::{
    figure::{Figure, Goal, median},
    process::{CLIENT_CPU, SERVER_CPU, find, pin, preferred, quiet, route, unpin},
};
use crate::{
    eventually::eventually,
    netns::Netns,
    nft,
    programs::{Directory, Running},
    scenario::{Check, Listener, Scenario, Service, program},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};
use anyhow::{Context as _, Result, ensure};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);
/// Addresses of the server, of which its web server's are targets each: it closes first, so that a source port towards
/// one of them rests for a minute, and wrk makes more connections than that leaves to one.
const ADDRESSES: u8 = 16;
/// Where clients find the service, unless they are routed to the server itself.
const FRONT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
/// The load balancer's address among servers.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
/// iperf3, nginx, the echo server; the same ports in front.
const PORTS: [u16; 3] = [5201, 8080, 7000];
const IPERF: u16 = PORTS[0];
const HTTP: u16 = PORTS[1];
const ECHO: u16 = PORTS[2];
/// How long one sample of a rate takes, in seconds.
const SAMPLE: u64 = 2;

/// Who carries the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Routing,
    Nftables,
    Haproxy,
    Nginx,
    Tc,
    Xdp,
}

impl Carrier {
    const ALL: [Self; 6] = [Self::Routing, Self::Nftables, Self::Haproxy, Self::Nginx, Self::Tc, Self::Xdp];

    fn name(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Nftables => "nftables",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Tc => "tc",
            Self::Xdp => "xdp",
        }
    }
}

/// One contestant, ready for clients.
#[derive(Debug)]
struct Contestant {
    carrier: Carrier,
    client: Netns,
    /// What clients connect to.
    front: Ipv4Addr,
    /// Servers and proxies, ended before the namespaces go.
    _running: Vec<Running>,
    _files: Directory,
    place: Place,
}

/// What holds the namespaces.
#[derive(Debug)]
enum Place {
    Plain { _topology: Topology },
    Ours { scenario: Box<Scenario> },
}

/// Where connections to a port are led.
fn targets(port: u16) -> Vec<Ipv4Addr> {
    let [a, b, c, d] = SERVER.octets();
    let count = if port == HTTP { ADDRESSES } else { 1 };
    (0..count).map(|n| Ipv4Addr::new(a, b, c, d + n)).collect()
}

impl Contestant {
    fn start(carrier: Carrier) -> Result<Self> {
        let files = Directory::new("bench")?;
        let plans = vec![
            VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
            VpcPlan::new("provider", vec![HostPlan::new("server", 2, 10).with_addresses(ADDRESSES)]),
        ];
        let hook = if carrier == Carrier::Xdp { Hook::Xdp } else { Hook::Tc };
        let topology = Topology::build(hook, plans, None)?;
        let (client, server) = (topology.host("client").netns.clone(), topology.host("server").netns.clone());
        for netns in [&client, &topology.lb] {
            // What one tunes first where many short connections start; without it, proxies run out of ports.
            netns.sysctl("ipv4.tcp_tw_reuse", "1")?;
            netns.sysctl("ipv4.ip_local_port_range", "1024 65535")?;
        }
        let mut running = servers(&server, &files)?;
        let front = if carrier == Carrier::Routing { SERVER } else { FRONT };
        let place = match carrier {
            Carrier::Tc | Carrier::Xdp => Place::Ours { scenario: Box::new(ours(topology)?) },
            Carrier::Routing | Carrier::Nftables | Carrier::Haproxy | Carrier::Nginx => {
                route(&topology.lb, FRONT, NODE)?;
                running.extend(rival(carrier, &topology.lb, &files)?);
                Place::Plain { _topology: topology }
            }
        };
        let contestant = Self { carrier, client, front, _running: running, _files: files, place };
        eventually("the service answers", Duration::from_secs(20), || contestant.ping(1).map(drop))
            .with_context(|| format!("through {}", carrier.name()))?;
        Ok(contestant)
    }

    /// Gigabits a second that `streams` connections bring to the server.
    fn throughput(&self, streams: u32) -> Result<f64> {
        let mut command = self.client.command(find("iperf3")?);
        command.args(["-J", "-i", "0", "-c", &self.front.to_string(), "-p", &IPERF.to_string()]);
        command.args(["-t", &SAMPLE.to_string(), "-P", &streams.to_string()]);
        let output = command.stdin(Stdio::null()).output().context("starting iperf3")?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).context("what iperf3 printed")?;
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
        rate.map(|rate| rate / 1e9)
            .with_context(|| format!("iperf3 through {}: {}", self.carrier.name(), report["error"]))
    }

    /// Connections a second, each for one request.
    fn connections(&self) -> Result<f64> {
        let mut command = self.client.command(find("wrk")?);
        command.args(["-t", "1", "-c", "16", "-H", "Connection: close", "-d", &format!("{SAMPLE}s")]);
        command.arg(format!("http://{}:{HTTP}/", self.front));
        let output = command.stdin(Stdio::null()).output().context("starting wrk")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).map(str::trim);
        let said = String::from_utf8_lossy(&output.stderr);
        rate.and_then(|rate| rate.parse().ok()).with_context(|| format!("wrk printed {text}{said}"))
    }

    /// What helps to understand why a sample failed.
    fn diagnosis(&self) -> String {
        match &self.place {
            Place::Plain { .. } => format!("through {}", self.carrier.name()),
            Place::Ours { scenario } => format!("through {}: {}", self.carrier.name(), scenario.diagnosis()),
        }
    }

    /// Times of 64-byte round trips in microseconds, sorted.
    fn ping(&self, count: usize) -> Result<Vec<f64>> {
        let to = SocketAddrV4::new(self.front, ECHO);
        self.client.run(|| {
            pin(CLIENT_CPU)?;
            let mut stream = TcpStream::connect_timeout(&to.into(), Duration::from_secs(2)).context("connecting")?;
            stream.set_nodelay(true).context("TCP_NODELAY")?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).context("the read timeout")?;
            let mut bytes = [0; 64];
            let mut times = Vec::with_capacity(count);
            for _ in 0..count {
                let started = Instant::now();
                stream.write_all(&bytes).context("sending")?;
                stream.read_exact(&mut bytes).context("receiving")?;
                times.push(started.elapsed().as_secs_f64() * 1e6);
            }
            times.sort_by(f64::total_cmp);
            Ok(times)
        })?
    }
}

/// iperf3, nginx and the echo server on the server's CPU.
fn servers(netns: &Netns, files: &Directory) -> Result<Vec<Running>> {
    pin(SERVER_CPU)?;
    let path = files.path();
    let dir = path.display();
    let config = format!(
        "user root; worker_processes 1; daemon off; pid {dir}/web.pid; error_log {dir}/web.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;\n\
         uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
         server {{ listen {HTTP} backlog=4096; return 200 \"hello\\n\"; }} }}\n"
    );
    fs::write(path.join("web.conf"), config).context("nginx's configuration")?;
    let mut iperf = netns.command(find("iperf3")?);
    iperf.args(["-s", "-B", &SERVER.to_string(), "-p", &IPERF.to_string()]);
    let mut web = netns.command(find("nginx")?);
    web.arg("-c").arg(path.join("web.conf")).arg("-p").arg(path).arg("-e").arg(path.join("web.log"));
    let running = vec![Running::start(quiet(&mut iperf))?, Running::start(quiet(&mut web))?];
    let listener = netns.run(|| TcpListener::bind((SERVER, ECHO)))?.context("the echo server's port")?;
    // Ends with the process; its connections end with their clients.
    netns.spawn(move || {
        // This thread is on the server's CPU already, as is every thread that it starts.
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
    unpin()?;
    Ok(running)
}

fn echo(mut stream: TcpStream) {
    // A connection that cannot have it is only slower, which the figure shows.
    let _ = stream.set_nodelay(true);
    let mut bytes = [0; 64];
    while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
}

/// Starts what carries the connections besides the kernel's routing.
fn rival(carrier: Carrier, lb: &Netns, files: &Directory) -> Result<Option<Running>> {
    let path = files.path();
    let dir = path.display();
    let mut command = match carrier {
        Carrier::Routing | Carrier::Tc | Carrier::Xdp => return Ok(None),
        Carrier::Nftables => {
            let dnat = |port| {
                let targets = targets(port);
                let map = targets.iter().enumerate().map(|(n, target)| format!("{n} : {target}")).collect::<Vec<_>>();
                let (count, map) = (targets.len(), map.join(", "));
                format!(" ip daddr {FRONT} tcp dport {port} dnat to numgen inc mod {count} map {{ {map} }};")
            };
            let dnat = PORTS.map(dnat).concat();
            let rules = format!(
                "table ip nat {{\n\
                 chain in {{ type nat hook prerouting priority -100;{dnat} }}\n\
                 chain out {{ type nat hook postrouting priority 100; oifname provider masquerade; }}\n}}\n"
            );
            nft::load(lb, &rules)?;
            return Ok(None);
        }
        Carrier::Haproxy => {
            let proxy = |port| {
                let servers = targets(port).into_iter().enumerate();
                let servers: String = servers.map(|(n, target)| format!(" server s{n} {target}:{port}\n")).collect();
                format!("listen p{port}\n bind {FRONT}:{port}\n{servers}")
            };
            let config = format!(
                "global\n nbthread 1\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n \
                 timeout server 60s\n{}",
                PORTS.map(proxy).concat()
            );
            fs::write(path.join("haproxy.cfg"), config).context("HAProxy's configuration")?;
            let mut command = lb.command(find("haproxy")?);
            command.arg("-db").arg("-f").arg(path.join("haproxy.cfg"));
            command
        }
        Carrier::Nginx => {
            let proxy =
                |port| format!("server {{ listen {FRONT}:{port} backlog=4096; proxy_pass {SERVER}:{port}; }}\n");
            let config = format!(
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
                 user root; worker_processes 1; daemon off; pid {dir}/proxy.pid; error_log {dir}/proxy.log;\n\
                 events {{ worker_connections 8192; }}\nstream {{ tcp_nodelay on;\n{} }}\n",
                PORTS.map(proxy).concat()
            );
            fs::write(path.join("proxy.conf"), config).context("nginx's configuration")?;
            let mut command = lb.command(find("nginx")?);
            command.arg("-c").arg(path.join("proxy.conf")).arg("-p").arg(path).arg("-e").arg(path.join("proxy.log"));
            command
        }
    };
    Running::start(quiet(&mut command)).map(Some)
}

/// The agent, and a service with a listener for each port.
fn ours(topology: Topology) -> Result<Scenario> {
    let agent = crate::daemon::Agent::start(&program()?, &topology.lb)?;
    let scenario = Scenario::configure(topology, agent)?;
    let groups = ["iperf", "web", "echo"];
    let listeners = groups.into_iter().zip(PORTS).map(|(group, port)| Listener {
        group,
        port,
        target_port: port,
        targets: targets(port),
        check: Check::Tcp,
    });
    let service = Service { name: "bench", vpc: "provider", node: NODE, listeners: listeners.collect() };
    let published = scenario.publish(&service)?;
    scenario.endpoint(&published, "consumer", FRONT)?;
    Ok(scenario)
}

/// A kind of sample.
struct Measure {
    name: &'static str,
    unit: &'static str,
    goal: Goal,
    sample: fn(&Contestant) -> Result<f64>,
}

const ROUND_TRIPS: usize = 10_000;

const MEASURES: [Measure; 5] = [
    Measure { name: "tcp-throughput-1", unit: "Gbit/s", goal: Goal::AtLeast(1.1), sample: |c| c.throughput(1) },
    Measure { name: "tcp-throughput-8", unit: "Gbit/s", goal: Goal::AtLeast(1.1), sample: |c| c.throughput(8) },
    Measure { name: "tcp-connections", unit: "1/s", goal: Goal::AtLeast(1.3), sample: Contestant::connections },
    Measure { name: "tcp-latency-p50", unit: "µs", goal: Goal::AtMost(1.0), sample: |c| percentile(c, 50) },
    Measure { name: "tcp-latency-p99", unit: "µs", goal: Goal::AtMost(1.0), sample: |c| percentile(c, 99) },
];

fn percentile(contestant: &Contestant, percent: usize) -> Result<f64> {
    let times = contestant.ping(ROUND_TRIPS)?;
    times.get(times.len() * percent / 100).copied().context("no round trips")
}

/// Everything about TCP connections.
pub fn compare(rounds: usize, mut wanted: impl FnMut(&str) -> bool, mut done: impl FnMut(Figure)) -> Result<()> {
    let measures: Vec<&Measure> = MEASURES.iter().filter(|measure| wanted(measure.name)).collect();
    if measures.is_empty() {
        return Ok(());
    }
    preferred().context("raising the priority of the measured programs")?;
    let contestants: Vec<Contestant> = Carrier::ALL.into_iter().map(Contestant::start).collect::<Result<_>>()?;
    for Measure { name, unit, goal, sample } in measures {
        let mut samples = vec![Vec::new(); contestants.len()];
        for _ in 0..rounds {
            for (contestant, samples) in contestants.iter().zip(&mut samples) {
                let taken = std::thread::scope(|scope| {
                    let on_client_cpu = scope.spawn(|| pin(CLIENT_CPU).and_then(|()| sample(contestant)));
                    on_client_cpu.join().unwrap_or_else(|_| anyhow::bail!("the sample's thread panicked"))
                });
                samples.push(taken.with_context(|| contestant.diagnosis())?);
            }
        }
        let of = |carrier: Carrier| {
            let all = contestants.iter().zip(&samples);
            let (_, samples) = all.into_iter().find(|(one, _)| one.carrier == carrier).context("no such contestant")?;
            median(samples)
        };
        let routing = of(Carrier::Routing)?;
        ensure!(routing > 0.0, "{name} through plain routing is zero");
        let figure = |figure: Figure| -> Result<Figure> {
            Ok(figure
                .over("routing", routing)
                .beside("nftables", of(Carrier::Nftables)?)
                .beside("haproxy", of(Carrier::Haproxy)?)
                .beside("nginx", of(Carrier::Nginx)?))
        };
        done(figure(Figure::new(format!("{name}-tc"), unit, of(Carrier::Tc)?))?.goal(*goal));
        done(figure(Figure::new(format!("{name}-xdp"), unit, of(Carrier::Xdp)?))?);
    }
    Ok(())
}
