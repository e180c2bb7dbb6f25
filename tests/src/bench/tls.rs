//! TLS listeners beside HAProxy and nginx that end the same TLS: one certificate (ECDSA P-256), one cipher suite
//! (AES-128-GCM), X25519, a connection to a server in clear for each connection of a client, as many threads as there
//! are CPUs.
//!
//! Clients are OpenSSL's `s_time` and wrk. On two CPUs a client's half of a full handshake costs more than the
//! server's, so a rate says little of the terminator: what it spends on each connection, request or gigabit is a figure
//! of its own (`…-cpu`), the time of all processes in its namespace, which are the agent and the relay where it is
//! ours.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    contestant::{self, Contestant, DOWNLOAD, FRONT, NODE, PLAIN, Place, targets},
    features::SAMPLE,
    figure::{Figure, Goal, median},
    process::{find, preferred, quiet, route},
};
use crate::{
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Running},
    scenario::{Scenario, program},
    topology::Topology,
};

/// Where TLS is ended.
const TLS: u16 = 443;
/// Clients that make handshakes at the same time.
const CLIENTS: usize = 8;
/// What is negotiated, by everybody: the first choice of our default policy.
const SUITES: [&str; 2] = ["TLS_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"];

/// Threads of each terminator: as many as tokio gives our relay.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// A certificate with its key, the same for all.
fn certificate(files: &Directory) -> Result<()> {
    let path = |name: &str| files.path().join(name);
    let made = Command::new(find("openssl")?)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=bench.example", "-keyout"])
        .arg(path("key.pem"))
        .arg("-out")
        .arg(path("certificate.pem"))
        .stdin(Stdio::null())
        .output()
        .context("starting openssl")?;
    ensure!(made.status.success(), "openssl req: {}", String::from_utf8_lossy(&made.stderr));
    let both = fs::read_to_string(path("certificate.pem"))? + &fs::read_to_string(path("key.pem"))?;
    fs::write(path("both.pem"), both).context("certificate and key in one file")
}

/// The agent with a TLS listener.
fn ours(topology: Topology, pem: &Path) -> Result<Place> {
    let agent = crate::daemon::Agent::start(&program()?, &topology.lb)?;
    let scenario = Scenario::configure(topology, agent)?;
    let cli = &scenario.cli;
    let targets = targets().map(|target| target.to_string()).collect::<Vec<_>>().join(" ");
    let (certificate, key) = (pem.join("certificate.pem"), pem.join("key.pem"));
    cli.run(&format!("certificate import --certificate {} --private-key {}", certificate.display(), key.display()))?;
    cli.run(&format!("load-balancer create bench --vpc provider --address {NODE}"))?;
    cli.run(&format!("target-group create plain --vpc provider --protocol TCP --port {PLAIN}"))?;
    cli.run(&format!("target register plain {targets}"))?;
    cli.run(&format!(
        "listener create bench --protocol TLS --port {TLS} --target-group plain --certificate bench.example"
    ))?;
    cli.run("endpoint-service create --load-balancer bench --name bench")?;
    scenario.endpoint("bench", "consumer", FRONT)?;
    scenario.wait_healthy("plain")?;
    Ok(Place::Ours { scenario: Box::new(scenario) })
}

fn haproxy(topology: Topology, pem: &Path, files: &Directory, running: &mut Vec<Running>) -> Result<Place> {
    route(&topology.lb, FRONT, NODE)?;
    let servers = targets().enumerate();
    let servers: String = servers.map(|(n, target)| format!(" server s{n} {target}:{PLAIN}\n")).collect();
    let [new, old] = SUITES;
    let config = format!(
        "global\n nbthread {}\n maxconn 4000\n ssl-default-bind-ciphersuites {new}\n ssl-default-bind-ciphers {old}\n\
         defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
         listen tls\n bind {FRONT}:{TLS} ssl crt {}\n{servers}",
        threads(),
        pem.join("both.pem").display()
    );
    running.push(contestant::haproxy(&topology.lb, &config, files)?);
    Ok(Place::Plain { topology })
}

fn nginx(topology: Topology, pem: &Path, files: &Directory, running: &mut Vec<Running>) -> Result<Place> {
    route(&topology.lb, FRONT, NODE)?;
    let path = files.path();
    let dir = path.display();
    let servers: String = targets().map(|target| format!(" server {target}:{PLAIN};")).collect();
    let [new, old] = SUITES;
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         user root; worker_processes {}; daemon off; pid {dir}/proxy.pid; error_log {dir}/proxy.log;\n\
         events {{ worker_connections 8192; }}\n\
         stream {{ tcp_nodelay on; upstream web {{{servers} }}\n\
         server {{ listen {FRONT}:{TLS} ssl backlog=4096; proxy_pass web;\n\
         ssl_certificate {pem}/certificate.pem; ssl_certificate_key {pem}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_ciphers {old}; ssl_conf_command Ciphersuites {new}; }} }}\n",
        threads(),
        pem = pem.display()
    );
    fs::write(path.join("proxy.conf"), config).context("nginx's configuration")?;
    let mut command = topology.lb.command(find("nginx")?);
    command.arg("-c").arg(path.join("proxy.conf")).arg("-p").arg(path).arg("-e").arg(path.join("proxy.log"));
    running.push(Running::start(quiet(&mut command))?);
    Ok(Place::Plain { topology })
}

/// What is in the namespace: the time it has spent on CPUs.
fn spent(netns: &Netns) -> Result<Duration> {
    let pids = Command::new("ip").args(["netns", "pids", netns.name()]).output().context("ip netns pids")?;
    let ticks = |pid: &str| -> u64 {
        // It may have ended; the name, in parentheses, may hold anything.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    };
    let ticks: u64 = String::from_utf8_lossy(&pids.stdout).split_whitespace().map(ticks).sum();
    let second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock ticks")?;
    Ok(Duration::from_secs_f64(ticks as f64 / second as f64))
}

/// How clients come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handshake {
    Full,
    Resumed,
}

/// Connections a second, each with a handshake and a request that the server answers and closes.
fn handshakes(client: &Netns, version: &str, handshake: Handshake) -> Result<f64> {
    let openssl = find("openssl")?;
    let mode = match handshake {
        Handshake::Full => "-new",
        Handshake::Resumed => "-reuse",
    };
    let one = || -> Result<f64> {
        let mut command = client.command(&openssl);
        command.args(["s_time", "-connect", &format!("{FRONT}:{TLS}"), mode, version, "-www", "/small"]);
        command.args(["-time", &SAMPLE.to_string()]).stdin(Stdio::null());
        // Its own clock has whole seconds.
        let since = Instant::now();
        let Output { stdout, stderr, .. } = command.output().context("starting openssl s_time")?;
        let took = since.elapsed().as_secs_f64();
        let text = String::from_utf8_lossy(&stdout).into_owned();
        let count = text.lines().find_map(|line| line.split_once(" connections in ")?.0.trim().parse::<f64>().ok());
        let count = count.filter(|count| *count > 0.0);
        let count = count.with_context(|| format!("{}: {}", text, String::from_utf8_lossy(&stderr)))?;
        // It writes a letter for each connection.
        let resumed = text.bytes().filter(|letter| *letter == b'r').count() as f64;
        match handshake {
            Handshake::Full => {}
            Handshake::Resumed => ensure!(resumed > count * 0.9, "{resumed} of {count} connections were resumed"),
        }
        Ok(count / took)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(one)).collect();
        clients.into_iter().map(|client| client.join().unwrap_or_else(|_| bail!("a client's thread panicked"))).sum()
    })
}

/// What wrk says of `connections` kept connections: requests a second, and the time that 99 % take at most, in
/// microseconds.
fn wrk(client: &Netns, connections: u32, file: &str) -> Result<(f64, f64)> {
    let mut command = client.command(find("wrk")?);
    command.args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{SAMPLE}s"), "--latency"]);
    command.arg(format!("https://{FRONT}:{TLS}/{file}"));
    let output = command.stdin(Stdio::null()).output().context("starting wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk printed {text}");
    let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let rate = field("Requests/sec:").and_then(|rate| rate.parse().ok());
    let worst = field("99%").and_then(microseconds);
    rate.zip(worst).with_context(|| format!("wrk printed {text}"))
}

/// A time as wrk writes it.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let (number, unit) = units.iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

/// A kind of sample.
struct Measure {
    name: &'static str,
    unit: &'static str,
    goal: Goal,
    sample: fn(&Netns) -> Result<f64>,
    /// The unit of the terminator's time for what is counted once in `value`, and that unit's share of a second; none
    /// where the figure is no rate.
    cost: Option<(&'static str, f64)>,
}

const RATE: Goal = Goal::AtLeast(1.0);
const PER_CONNECTION: Option<(&str, f64)> = Some(("µs CPU each", 1e6));

const MEASURES: [Measure; 7] = [
    Measure {
        name: "tls-full",
        unit: "1/s",
        goal: RATE,
        sample: |client| handshakes(client, "-tls1_3", Handshake::Full),
        cost: PER_CONNECTION,
    },
    Measure {
        name: "tls-full-1.2",
        unit: "1/s",
        goal: RATE,
        sample: |client| handshakes(client, "-tls1_2", Handshake::Full),
        cost: PER_CONNECTION,
    },
    Measure {
        name: "tls-resumed",
        unit: "1/s",
        goal: RATE,
        sample: |client| handshakes(client, "-tls1_3", Handshake::Resumed),
        cost: PER_CONNECTION,
    },
    Measure {
        name: "tls-resumed-1.2",
        unit: "1/s",
        goal: RATE,
        sample: |client| handshakes(client, "-tls1_2", Handshake::Resumed),
        cost: PER_CONNECTION,
    },
    Measure {
        name: "tls-download",
        unit: "Gbit/s",
        goal: RATE,
        sample: |client| Ok(wrk(client, 8, "large")?.0 * (DOWNLOAD * 8) as f64 / 1e9),
        cost: Some(("ms CPU/Gbit", 1e3)),
    },
    Measure {
        name: "tls-requests",
        unit: "1/s",
        goal: RATE,
        sample: |client| Ok(wrk(client, 8, "small")?.0),
        cost: PER_CONNECTION,
    },
    Measure {
        name: "tls-latency-p99",
        unit: "µs",
        goal: Goal::AtMost(1.0),
        sample: |client| Ok(wrk(client, 8, "small")?.1),
        cost: None,
    },
];

/// Which version and suite a client gets.
fn negotiated(contestant: &Contestant, version: &str) -> Result<String> {
    let mut command = contestant.client.command(find("openssl")?);
    command.args(["s_client", "-connect", &format!("{FRONT}:{TLS}"), version]);
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().context("starting openssl s_client")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("New, ") && !line.contains("NONE"));
    line.map(str::to_owned).with_context(|| format!("{}: {text}", contestant.diagnosis()))
}

/// TLS, over the better of the rivals.
pub fn compare(rounds: usize, mut wanted: impl FnMut(&str) -> bool, mut done: impl FnMut(Figure)) -> Result<()> {
    let measures: Vec<&Measure> = MEASURES.iter().filter(|measure| wanted(measure.name)).collect();
    if measures.is_empty() {
        return Ok(());
    }
    preferred().context("raising the priority of the measured programs")?;
    let pem = Directory::new("bench")?;
    certificate(&pem)?;
    let pem = pem.path();
    let contestants = [
        ("ours", Contestant::start(|topology, _, _| ours(topology, pem))?),
        ("haproxy", Contestant::start(|topology, files, running| haproxy(topology, pem, files, running))?),
        ("nginx", Contestant::start(|topology, files, running| nginx(topology, pem, files, running))?),
    ];
    let [(_, own), (_, haproxy), (_, nginx)] = &contestants;
    for version in ["-tls1_3", "-tls1_2"] {
        let mut all = Vec::new();
        for (name, contestant) in &contestants {
            let answers = || negotiated(contestant, version);
            all.push(eventually(&format!("{name} answers"), Duration::from_secs(20), answers)?);
        }
        ensure!(all.iter().all(|one| *one == all[0]), "not all agree on the same: {all:?}");
    }
    for Measure { name, unit, goal, sample, cost } in measures {
        let mut samples = [const { Vec::new() }; 3];
        let mut costs = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            for (at, contestant) in [own, haproxy, nginx].into_iter().enumerate() {
                let (before, since) = (spent(contestant.lb())?, Instant::now());
                let value = sample(&contestant.client).with_context(|| contestant.diagnosis())?;
                let (took, used) = (since.elapsed(), spent(contestant.lb())?.saturating_sub(before));
                samples[at].push(value);
                costs[at].push(used.as_secs_f64() / (value * took.as_secs_f64()));
            }
        }
        let figure = |name: String, unit, goal: Goal, values: &[Vec<f64>; 3], scale: f64| -> Result<Figure> {
            let of = |values: &[f64]| median(values).map(|value| value * scale);
            let [ours, haproxy, nginx] = values;
            let mut rivals = [("haproxy", of(haproxy)?), ("nginx", of(nginx)?)];
            rivals.sort_by(|(_, a), (_, b)| match goal {
                Goal::AtLeast(_) => b.total_cmp(a),
                Goal::AtMost(_) => a.total_cmp(b),
            });
            let [(best, first), (other, second)] = rivals;
            Ok(Figure::new(name, unit, of(ours)?).over(best, first).beside(other, second).goal(goal))
        };
        done(figure((*name).to_owned(), unit, *goal, &samples, 1.0)?);
        if let Some((unit, scale)) = cost {
            done(figure(format!("{name}-cpu"), unit, Goal::AtMost(1.0), &costs, *scale)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_wrk_are_read() {
        assert_eq!(microseconds("817.00us"), Some(817.0));
        assert_eq!(microseconds("1.25ms"), Some(1250.0));
        assert_eq!(microseconds("2.00s"), Some(2e6));
        assert_eq!(microseconds("1 h"), None);
    }
}
