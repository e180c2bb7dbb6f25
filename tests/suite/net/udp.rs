//! UDP and TCP_UDP listeners: a real resolver, a stream of datagrams, QUIC.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use privatelink_tests::{
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Running},
    quic,
    require::{self, Need},
    scenario::{ENDPOINT, NODE, QUICK_CHECKS, Scenario, program, rows, text},
    topology::Hook,
    traffic::server::{Behaviour, Server},
};

use crate::{
    Run, Test,
    common::{PATIENCE, plans, server},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "a_resolver_answers_over_udp_and_tcp_on_one_port",
            needs: &[Need::Program("dnsmasq"), Need::Program("dig")],
            run: Run::EachHook(dns),
        },
        Test {
            name: "datagrams_in_quantity",
            needs: &[Need::WholeMachine, Need::Program("iperf3")],
            run: Run::EachHook(iperf),
        },
        Test { name: "quic_passes_through", needs: &[], run: Run::EachHook(quic_streams) },
    ]
};

/// Two consumers and a provider with one server; `protocol` on `port` leads to the same port of the server, and both
/// consumers have an endpoint. `check` is the port on which the server's health is checked.
pub fn with_service(
    hook: Hook,
    protocol: &str,
    port: u16,
    check: u16,
    test: impl FnOnce(&mut Scenario) -> Result<()>,
) -> Result<()> {
    Scenario::run(&program()?, hook, plans(1), |scenario| {
        let target = server(scenario, 1).address();
        for line in [
            format!("load-balancer create svc --vpc provider --address {NODE}"),
            format!(
                "target-group create svc --vpc provider --protocol {protocol} --port {port} --health-check-port {check} {QUICK_CHECKS}"
            ),
            format!("target register svc {target}"),
            format!("listener create svc --protocol {protocol} --port {port} --target-group svc"),
            "endpoint-service create --load-balancer svc --name svc".to_owned(),
        ] {
            scenario.cli.run(&line)?;
        }
        scenario.endpoint("svc", "consumer-a", ENDPOINT)?;
        scenario.endpoint("svc", "consumer-b", ENDPOINT)?;
        test(scenario)
    })
}

/// No host saw a datagram with a wrong checksum.
pub fn no_checksum_errors(scenario: &Scenario) -> Result<()> {
    for host in scenario.topology.hosts() {
        let wrong = host.netns.protocol_counter("Udp", "InCsumErrors")?;
        ensure!(wrong == 0, "{} counted {wrong} wrong UDP checksums", host.name);
    }
    ensure!(scenario.topology.checksum_errors()? == 0, "wrong TCP checksums");
    Ok(())
}

/// A dnsmasq that knows a few names and nobody else.
pub fn resolver(netns: &Netns, dir: &Directory) -> Result<Running> {
    let program = require::find("dnsmasq").context("dnsmasq")?;
    let log = dir.path().join("log");
    let text = |n: usize| format!("--txt-record=big.example,{}", format!("{n:02}").repeat(120));
    let mut command = netns.command(program);
    command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--port=53", "--user=root", "--group=root"]);
    command.args(["--conf-file=/dev/null", "--address=/web.example/192.0.2.7", "--log-queries"]);
    command.arg("--edns-packet-max=1400").arg(format!("--log-facility={}", log.display()));
    command.arg(format!("--pid-file={}", dir.path().join("pid").display())).args((0..4).map(text));
    let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    eventually("dnsmasq is ready", Duration::from_secs(10), || {
        if !running.is_running() {
            bail!("dnsmasq ended: {}", fs::read_to_string(&log).unwrap_or_default());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        ensure!(said.contains("started"), "it has said {said}");
        Ok(())
    })?;
    Ok(running)
}

fn dig(netns: &Netns, args: &[&str]) -> Result<String> {
    let server = format!("@{ENDPOINT}");
    let mut command = netns.command("dig");
    command.args([&server, "+tries=1", "+time=5", "+short"]).args(args).stdin(Stdio::null());
    let output = command.output().context("starting dig")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "dig {}: {said}", args.join(" "));
    Ok(said)
}

fn dns(hook: Hook) -> Result<()> {
    with_service(hook, "TCP_UDP", 53, 53, |scenario| {
        let dir = Directory::new("dns")?;
        let _resolver = resolver(&server(scenario, 1).netns, &dir)?;
        scenario.wait_healthy("svc")?;
        // Both consumers ask from the same address and port.
        for name in ["client-a", "client-b"] {
            let client = &scenario.topology.host(name).netns;
            for _ in 0..5 {
                let answer = dig(client, &["-b", "10.0.1.10#40000", "web.example"])?;
                ensure!(answer.trim() == "192.0.2.7", "{name} was told {answer}");
            }
            ensure!(dig(client, &["+tcp", "web.example"])?.trim() == "192.0.2.7", "by TCP");
            let text = dig(client, &["+bufsize=1400", "+ignore", "TXT", "big.example"])?;
            ensure!(text.lines().count() == 4, "{name} was told {text}");
        }
        let flows = scenario.cli.run("flow list")?;
        let udp: Vec<_> = rows(&flows)?.iter().filter(|flow| flow["protocol"] == "UDP").collect();
        ensure!(udp.len() == 4, "flows: {flows}");
        for flow in udp {
            ensure!(text(flow, "state")? == "established", "{flow}");
            ensure!(text(flow, "node")?.starts_with(&format!("{NODE}:")), "{flow}");
        }
        // The server saw the node address only.
        let log = fs::read_to_string(dir.path().join("log")).context("dnsmasq's log")?;
        let asked: Vec<&str> = log.lines().filter(|line| line.contains("query[")).collect();
        ensure!(asked.len() == 14, "{} questions in {log}", asked.len());
        ensure!(asked.iter().all(|line| line.ends_with(&format!("from {NODE}"))), "{log}");
        let stats = scenario.cli.run("stats")?;
        let listener = &rows(&stats["listeners"])?[0];
        ensure!(listener["new_flows"].as_u64().is_some_and(|flows| flows >= 6), "{listener}");
        // What finds no listener is dropped and counted.
        let before = scenario.counter("no_listener")?;
        let nobody = &scenario.topology.host("client-a").netns;
        ensure!(dig(nobody, &["-p", "5353", "+time=1", "web.example"]).is_err(), "somebody answered on port 5353");
        ensure!(scenario.counter("no_listener")? > before, "and nobody counted it");
        no_checksum_errors(scenario)
    })
}

/// iperf3's control connection and its datagrams are one service: both lead to the same server.
fn iperf(hook: Hook) -> Result<()> {
    with_service(hook, "TCP_UDP", 5201, 5201, |scenario| {
        let mut command = server(scenario, 1).netns.command("iperf3");
        command.args(["-s", "-p", "5201"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let _server = Running::start(&mut command)?;
        scenario.wait_healthy("svc")?;
        let client = &scenario.topology.host("client-a").netns;
        for reverse in [false, true] {
            let mut command = client.command("iperf3");
            command.args(["-c", &ENDPOINT.to_string(), "-p", "5201", "-u", "-b", "200M", "-t", "2", "--json"]);
            if reverse {
                command.arg("-R");
            }
            let output = command.stdin(Stdio::null()).output().context("starting iperf3")?;
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).context("what iperf3 printed")?;
            ensure!(output.status.success(), "iperf3: {said}");
            let sum = &said["end"]["sum"];
            let (bytes, lost) = (sum["bytes"].as_u64().unwrap_or(0), sum["lost_percent"].as_f64().unwrap_or(100.0));
            ensure!(bytes > 20_000_000 && lost < 5.0, "reverse {reverse}: {sum}");
        }
        let stats = scenario.cli.run("stats")?;
        for count in ["packets_in", "packets_out"] {
            let counts = rows(&stats["endpoints"])?.iter().map(|row| row[count].as_u64().unwrap_or(0));
            ensure!(counts.sum::<u64>() > 15_000, "{stats}");
        }
        no_checksum_errors(scenario)
    })
}

fn quic_streams(hook: Hook) -> Result<()> {
    with_service(hook, "UDP", 443, 8080, |scenario| {
        let host = server(scenario, 1);
        let _health = Server::start(&host.netns, SocketAddrV4::new(host.address(), 8080), Behaviour::Echo)?;
        let echo = quic::Echo::start(&host.netns, SocketAddr::new(host.address().into(), 443))?;
        scenario.wait_healthy("svc")?;
        for name in ["client-a", "client-b"] {
            let client = &scenario.topology.host(name).netns;
            quic::transfer(client, &echo, SocketAddr::new(ENDPOINT.into(), 443), 4 << 20).context(name)?;
        }
        eventually("the server's connections end", PATIENCE, || {
            let open = echo.connections();
            ensure!(open == 0, "{open} are open");
            Ok(())
        })?;
        // A flow for each port that a client had.
        let stats = scenario.cli.run("stats")?;
        let listener = &rows(&stats["listeners"])?[0];
        ensure!(listener["new_flows"] == 4, "{listener}");
        no_checksum_errors(scenario)
    })
}
