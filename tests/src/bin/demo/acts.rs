//! What the demo shows, step by step.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddrV4},
    process::{ChildStdin, ChildStdout, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use privatelink_tests::{
    eventually::eventually,
    programs::{Running, Sshd, curl},
    scenario::{ENDPOINT, NODE, rows},
    topology::Host,
};

use crate::{
    narrate::Tell,
    stage::{CONSUMERS, FILE_BYTES, PRIVATE, Stage, WEB, digest},
};

/// A step: what it shows, and how.
type Act = (&'static str, fn(&mut Stage, &mut Tell) -> Result<()>);

/// All steps, in order.
pub const ALL: [Act; 7] = [
    ("Both consumers fetch at once: same client address, same source port, same endpoint address", same_port),
    ("The maintenance line: one endpoint port leads to each server's sshd", maintenance),
    ("The servers' own logs name only the load balancer's address", logs),
    ("A server dies, and the page is still served; it comes back and is used again", failover),
    ("The agent is killed (SIGKILL) while a download and an ssh session run", agent_killed),
    ("A provider's host cannot reach a consumer", isolation),
    ("What the datapath counted", counters),
];

/// The source port that both consumers use.
const SOURCE_PORT: u16 = 40_000;

fn same_port(stage: &mut Stage, tell: &mut Tell) -> Result<()> {
    let url = format!("http://{ENDPOINT}/file");
    let mut downloads = Vec::new();
    for (vpc, name) in CONSUMERS {
        let host = stage.scenario.topology.host(name);
        let path = stage.scratch(&format!("{name}-file"));
        let mut command = host.netns.command("curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "20", "--limit-rate", "24M", "--output"]);
        command.arg(&path).arg("--interface").arg(host.address().to_string());
        command.arg("--local-port").arg(SOURCE_PORT.to_string()).arg(&url);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        tell.doing(format!("{vpc}: curl --interface {} --local-port {SOURCE_PORT} {url}", host.address()));
        downloads.push((vpc, path, Running::start(&mut command)?));
    }
    let flows = eventually("both flows are there at the same time", Duration::from_secs(5), || {
        let answer = stage.scenario.cli.run("flow list")?;
        let client = SocketAddrV4::new(stage.scenario.topology.host(CONSUMERS[0].1).address(), SOURCE_PORT).to_string();
        let flows: Vec<String> = rows(&answer)?
            .iter()
            .filter(|flow| flow["client"] == *client)
            .map(|flow| {
                format!("{} → {}, to the target as {}", flow["client"], flow["frontend"], flow["node"]).replace('"', "")
            })
            .collect();
        ensure!(flows.len() == 2, "{} flows of {client}: {answer}", flows.len());
        Ok(flows)
    })?;
    for flow in flows {
        tell.doing(format!("flow: {flow}"));
    }
    let expected = stage.file_digest()?;
    for (vpc, path, running) in downloads {
        let output = running.wait()?;
        ensure!(output.status.success(), "{vpc}: curl: {}", String::from_utf8_lossy(&output.stderr).trim());
        let digest = digest(&path)?;
        ensure!(digest == expected, "{vpc}: the file arrived changed");
        tell.shown(format!("{vpc}: {} MiB arrived whole, SHA-256 {}…", FILE_BYTES >> 20, &digest[..16]));
    }
    let mut pages = BTreeMap::new();
    for (_, name) in CONSUMERS {
        for _ in 0..12 {
            *pages.entry(page(stage.scenario.topology.host(name))?).or_insert(0) += 1;
        }
    }
    for (page, count) in &pages {
        tell.doing(format!("{count:2} × “{page}”"));
    }
    ensure!(pages.len() == WEB.len(), "only {} of {} servers answered", pages.len(), WEB.len());
    tell.shown("24 pages from all three servers");
    Ok(())
}

fn maintenance(stage: &mut Stage, tell: &mut Tell) -> Result<()> {
    for ((port, sshd), name) in [8022, 8023].into_iter().zip(&stage.ssh).zip(WEB) {
        let host = stage.scenario.topology.host(CONSUMERS[0].1);
        let mut ssh = sshd.client(&host.netns, SocketAddrV4::new(ENDPOINT, port), "echo $PRIVATELINK_HOST")?;
        let output = ssh.stdin(Stdio::null()).output().context("starting ssh")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            said.trim() == name,
            "port {port} led to “{}” {}",
            said.trim(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        tell.shown(format!("ssh -p {port} {ENDPOINT} is logged in on {name}, and knew its host key"));
    }
    Ok(())
}

fn logs(stage: &mut Stage, tell: &mut Tell) -> Result<()> {
    let node = NODE.to_string();
    for (nginx, name) in stage.web.iter().zip(WEB) {
        let clients = nginx.logged_clients(1).context(name)?;
        let other: Vec<&String> = clients.iter().filter(|client| **client != node).collect();
        ensure!(other.is_empty(), "{name} also saw {other:?}");
        tell.shown(format!("{name}: {} requests, all from {NODE}; the last: {}", clients.len(), nginx.last_request()?));
    }
    for (sshd, name) in stage.ssh.iter().zip(WEB) {
        let clients = sshd.logged_clients()?;
        ensure!(!clients.is_empty(), "{name}'s sshd logged no connection");
        ensure!(clients.iter().all(|client| *client == node), "{name}'s sshd saw {clients:?}");
        tell.shown(format!("{name}'s sshd: {} connections, all from {NODE}", clients.len()));
    }
    Ok(())
}

fn failover(stage: &mut Stage, tell: &mut Tell) -> Result<()> {
    let host = stage.scenario.topology.host(CONSUMERS[1].1);
    let victim = stage.web[0].address();
    stage.web[0].kill()?;
    tell.doing(format!("killed nginx on {} (SIGKILL); its health check runs every 5 s, two failures count", WEB[0]));
    let killed = Instant::now();
    let (mut served, mut again) = (0, 0);
    let seconds = loop {
        // What a browser does: a refused connection is tried again. One in three goes to the dead server, so twenty in
        // a row never do.
        if page(host).is_err() {
            again += 1;
            let second = (0..20).any(|_| page(host).is_ok());
            ensure!(second, "no page in 21 attempts while {} was dead", WEB[0]);
        }
        served += 1;
        let health = stage.scenario.health("web")?;
        if health.iter().any(|(target, state)| *target == victim.into() && state == "unhealthy") {
            break killed.elapsed().as_secs_f32();
        }
        ensure!(killed.elapsed() < Duration::from_secs(30), "still not unhealthy after 30 s: {health:?}");
        std::thread::sleep(Duration::from_millis(100));
    };
    tell.shown(format!(
        "unhealthy after {seconds:.1} s; until then {served} pages served, {again} of them after a retry"
    ));
    // The kernel's tables follow what the health check says within a pass.
    eventually("30 pages in a row come from the other servers", Duration::from_secs(3), || {
        for number in 0..30 {
            let page = page(host).with_context(|| format!("fetch {number} after the target counted as unhealthy"))?;
            ensure!(!page.contains(WEB[0]), "the dead server answered");
        }
        Ok(())
    })?;
    tell.shown("30 more pages, none failed: the other two servers do the work");

    stage.web[0].start_again()?;
    let back = Instant::now();
    stage.scenario.wait_state("web", *victim.ip(), "healthy", Duration::from_secs(30))?;
    tell.shown(format!("{} is back, and healthy after {:.1} s", WEB[0], back.elapsed().as_secs_f32()));
    let host = stage.scenario.topology.host(CONSUMERS[1].1);
    let used = eventually("the server is used again", Duration::from_secs(10), || {
        let page = page(host)?;
        ensure!(page.contains(WEB[0]), "{page}");
        Ok(page)
    })?;
    tell.shown(format!("“{used}”"));
    Ok(())
}

fn agent_killed(stage: &mut Stage, tell: &mut Tell) -> Result<()> {
    let expected = stage.file_digest()?;
    let path = stage.scratch("download");
    let client = stage.scenario.topology.host(CONSUMERS[0].1);
    let netns = client.netns.clone();
    let mut command = netns.command("curl");
    command.args(["--silent", "--show-error", "--fail", "--max-time", "40", "--limit-rate", "8M", "--output"]);
    command.arg(&path).arg(format!("http://{ENDPOINT}/file"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut download = Running::start(&mut command)?;
    let mut session = Session::open(&stage.ssh[0], stage.scenario.topology.host(CONSUMERS[1].1))?;
    session.say("before the kill")?;
    let size = || std::fs::metadata(&path).map_or(0, |file| file.len());
    eventually("the download is under way", Duration::from_secs(5), || {
        ensure!(size() > 4 << 20, "{} bytes", size());
        Ok(())
    })?;

    let at_kill = size();
    stage.scenario.agent.kill()?;
    tell.doing(format!("agent killed; the download had {} MiB of {}", at_kill >> 20, FILE_BYTES >> 20));
    session.say("while there is no agent")?;
    eventually("the download goes on", Duration::from_secs(5), || {
        ensure!(size() > at_kill + (8 << 20), "{} bytes since the kill", size() - at_kill);
        Ok(())
    })?;
    ensure!(download.is_running(), "the download ended before anything was shown");
    tell.shown(format!("no agent: the download reached {} MiB, the ssh session answers", size() >> 20));
    let fresh = page(stage.scenario.topology.host(CONSUMERS[1].1)).context("a new connection without an agent")?;
    tell.shown(format!("no agent: a new connection works as well: “{fresh}”"));

    let took = stage.scenario.agent.start_again()?;
    tell.doing(format!(
        "a new agent answered after {:.1} s and took over what it found in the kernel",
        took.as_secs_f32()
    ));
    session.say("with the new agent")?;
    let output = download.wait()?;
    ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr).trim());
    ensure!(digest(&path)? == expected, "the download arrived changed");
    tell.shown("the download arrived whole, and the ssh session still answers");
    session.close()
}

fn isolation(stage: &mut Stage, tell: &mut Tell) -> Result<()> {
    let topology = &stage.scenario.topology;
    let consumer = topology.host(CONSUMERS[0].1);
    let provider = topology.host(WEB[2]);
    let listening = SocketAddrV4::new(PRIVATE, 80);
    let _open = privatelink_tests::traffic::server::Server::start(
        &consumer.netns,
        listening,
        privatelink_tests::traffic::server::Behaviour::Echo,
    )?;
    tell.doing(format!("{} listens on {listening}; {} tries to reach it", consumer.name, provider.name));
    refuse(provider, PRIVATE, 80, "asking its own network for that address")?;
    tell.shown(format!("nobody in the provider's network answers for {PRIVATE}"));

    // It knows the datapath's Ethernet address and sends there whatever it likes.
    let port = topology.vpcs.last().and_then(|vpc| vpc.ports.last()).context("the provider's port")?;
    let mac = privatelink_tests::link::End::new(&topology.lb, port).mac()?;
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    provider.netns.ip(&["neighbour", "replace", &PRIVATE.to_string(), "lladdr", &mac, "dev", "eth0"])?;
    let dropped = stage.scenario.counter("not_ours")?;
    refuse(provider, PRIVATE, 80, "sending it straight to the datapath")?;
    let now = stage.scenario.counter("not_ours")?;
    ensure!(now > dropped, "the datapath counted nothing");
    tell.shown(format!("sent straight to the datapath it is dropped and counted: not_ours {dropped} → {now}"));

    let before = stage.scenario.counter("syn_from_target")?;
    refuse(provider, NODE, SOURCE_PORT, "opening a connection to the load balancer's address")?;
    let now = stage.scenario.counter("syn_from_target")?;
    ensure!(now > before, "the datapath counted nothing");
    tell.shown(format!("nor does {NODE}, where requests come from, let anything in: syn_from_target {before} → {now}"));
    Ok(())
}

fn counters(stage: &mut Stage, tell: &mut Tell) -> Result<()> {
    tell.command("stats");
    for line in stage.scenario.cli.table("stats")?.lines() {
        println!("     {line}");
    }
    let errors = stage.scenario.topology.checksum_errors()?;
    ensure!(errors == 0, "the hosts' stacks counted {errors} wrong checksums");
    tell.shown("and no host counted a single wrong checksum");
    Ok(())
}

/// The page at `/`, over a new connection.
fn page(host: &Host) -> Result<String> {
    let page = curl(&host.netns, &["--max-time", "3", &format!("http://{ENDPOINT}/")])?;
    Ok(page.trim().to_owned())
}

/// Checks that `from` cannot connect.
fn refuse(from: &Host, address: Ipv4Addr, port: u16, how: &str) -> Result<()> {
    match curl(&from.netns, &["--connect-timeout", "3", &format!("http://{address}:{port}/")]) {
        Ok(page) => bail!("{} reached {address}:{port} by {how}: {page}", from.name),
        Err(_) => Ok(()),
    }
}

/// An interactive ssh session: what is said is said back.
struct Session {
    ssh: Running,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Session {
    fn open(sshd: &Sshd, host: &Host) -> Result<Self> {
        let script = "while read line; do echo \"$PRIVATELINK_HOST heard: $line\"; done";
        let mut command = sshd.client(&host.netns, SocketAddrV4::new(ENDPOINT, 8022), script)?;
        let mut ssh = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let to = ssh.child().stdin.take().context("a pipe")?;
        let from = BufReader::new(ssh.child().stdout.take().context("a pipe")?);
        Ok(Self { ssh, to, from })
    }

    fn say(&mut self, text: &str) -> Result<()> {
        writeln!(self.to, "{text}").context("talking over ssh")?;
        let mut line = String::new();
        self.from.read_line(&mut line).context("listening to ssh")?;
        ensure!(line.trim() == format!("{} heard: {text}", WEB[0]), "over ssh came “{}”", line.trim());
        Ok(())
    }

    fn close(self) -> Result<()> {
        let Self { ssh, to, from: _ } = self;
        drop(to);
        let output = ssh.wait()?;
        ensure!(output.status.success(), "ssh ended with {}", output.status);
        Ok(())
    }
}
