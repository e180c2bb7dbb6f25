//! What a provider allows each endpoint of its service: connections, new ones a second, bits a second.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    programs::{Directory, Nginx, Running},
    require::{Need, find},
    scenario::{ENDPOINT, Scenario, rows, text},
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};
use serde_json::Value;

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, TARGET_PORT, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "connections_of_an_endpoint_are_limited", needs: &[], run: Run::EachHook(connections) },
        Test {
            name: "new_connections_of_an_endpoint_are_limited",
            needs: &[Need::Program("nginx"), Need::Program("wrk")],
            run: Run::EachHook(new_connections),
        },
        Test { name: "bits_of_an_endpoint_are_limited", needs: &[Need::Program("iperf3")], run: Run::EachHook(bits) },
    ]
};

/// The endpoint of a consumer's VPC.
fn endpoint(scenario: &Scenario, vpc: &str) -> Result<String> {
    let answer = scenario.cli.run("endpoint list")?;
    let found = rows(&answer)?.iter().find(|endpoint| endpoint["vpc_name"] == vpc).context("no such endpoint")?;
    text(found, "id").map(str::to_owned)
}

/// The statistics of an endpoint.
fn stats(scenario: &Scenario, id: &str) -> Result<Value> {
    let stats = scenario.cli.run("stats")?;
    let endpoints = stats["endpoints"].as_array().context("no endpoints")?;
    endpoints.iter().find(|endpoint| endpoint["endpoint"] == id).cloned().context("no such endpoint")
}

fn number(stats: &Value, name: &str) -> Result<u64> {
    stats[name].as_u64().with_context(|| format!("no '{name}' in {stats}"))
}

/// A consumer at its limit is refused and counted, another one goes on; a closed connection makes room, a higher limit
/// too.
fn connections(hook: Hook) -> Result<()> {
    const MOST: usize = 5;
    with_web(1, hook, |scenario| {
        let (a, b) = (endpoint(scenario, "consumer-a")?, endpoint(scenario, "consumer-b")?);
        scenario.cli.run(&format!("endpoint-service modify web --limit-connections {MOST}"))?;
        scenario.cli.run(&format!("connection limit web {b} --connections none"))?;
        // The pass that lets traffic to a healthy target brings the limits too.
        let _server = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let listed = scenario.cli.run("endpoint-service connections web")?;
        let limit = |id: &str| {
            let row = rows(&listed)?.iter().find(|row| row["endpoint"] == id).context("no such connection")?;
            text(&row["limits"], "connections").map(str::to_owned)
        };
        ensure!((limit(&a)?.as_str(), limit(&b)?.as_str()) == ("5", "none"), "the limits are {listed}");

        let open = |client: &str| {
            let netns = &scenario.topology.host(client).netns;
            let mut stream = stream::connect(netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut stream, b"here")?;
            Ok::<_, anyhow::Error>(stream)
        };
        let mut held = (0..MOST).map(|_| open("client-a")).collect::<Result<Vec<_>>>()?;
        let refused = open("client-a").err().context("a connection above the limit was accepted")?;
        ensure!(format!("{refused:#}").contains("refused"), "not refused but: {refused:#}");
        let others = (0..4 * MOST).map(|_| open("client-b")).collect::<Result<Vec<_>>>()?;
        let of_a = stats(scenario, &a)?;
        ensure!(number(&of_a, "limited_connections")? == 1, "{of_a}");
        ensure!(number(&of_a, "refused")? == 1, "{of_a}");
        ensure!(number(&stats(scenario, &b)?, "refused")? == 0, "the other endpoint was refused something");
        ensure!(scenario.counter("endpoint_connection_limit")? == 1, "the datapath counted something else");
        let to = FRONTEND.to_string();
        let said = scenario.cli.raw(&["explain", "--vpc", "consumer-a", "--from", "10.0.1.10", "--to", &to])?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(said.contains("endpoint_connection_limit"), "explain says {said}");

        progress!("one closed, one opened");
        held.pop();
        held.push(eventually("the closed connection makes room", PATIENCE, || open("client-a"))?);
        ensure!(open("client-a").is_err(), "two connections for one");

        progress!("a higher limit of its own");
        scenario.cli.run(&format!("connection limit web {a} --connections {}", 2 * MOST))?;
        for _ in 0..MOST {
            held.push(eventually("the higher limit holds", PATIENCE, || open("client-a"))?);
        }
        ensure!(open("client-a").is_err(), "more than the higher limit");
        for stream in &mut held {
            stream::echo(stream, b"still here")?;
        }
        drop(others);
        Ok(())
    })
}

/// Requests of `wrk` in so many seconds, each over a connection of its own.
fn requests(scenario: &Scenario, client: &str, seconds: u64) -> Result<f64> {
    let mut command = scenario.topology.host(client).netns.command(find("wrk").context("wrk")?);
    command.args(["-t", "1", "-c", "8", "-H", "Connection: close", "-d", &format!("{seconds}s")]);
    let output = command.arg(format!("http://{ENDPOINT}/")).stdin(Stdio::null()).output().context("starting wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let count = text.lines().find_map(|line| line.trim().split_once(" requests in ").map(|(count, _)| count));
    count.and_then(|count| count.parse().ok()).with_context(|| format!("wrk printed {text}"))
}

/// A consumer that opens more connections in a second than it may gets as many as it may; another one is not held up.
fn new_connections(hook: Hook) -> Result<()> {
    const RATE: u64 = 20;
    const SECONDS: u64 = 4;
    with_web(1, hook, |scenario| {
        let web = server(scenario, 1);
        let a = endpoint(scenario, "consumer-a")?;
        scenario.cli.run(&format!("connection limit web {a} --connections-per-second {RATE}"))?;
        let _nginx = Nginx::start(&web.netns, Directory::new("nginx")?, target(scenario, 1), "index\n")?;
        scenario.wait_healthy("web")?;
        let started = Instant::now();
        let limited = requests(scenario, "client-a", SECONDS)?;
        let took = started.elapsed().as_secs() + 1;
        let of_a = stats(scenario, &a)?;
        let opened = number(&of_a, "new_flows")?;
        // A second's worth at once, then the rate.
        ensure!(opened <= RATE * (took + 1), "{opened} connections in {took} s: {of_a}");
        ensure!(limited >= RATE as f64, "{limited} requests in {SECONDS} s");
        let refused = number(&of_a, "limited_new_connections")?;
        ensure!(refused > 0, "none was refused: {of_a}");
        ensure!(scenario.counter("endpoint_connection_rate_limit")? == refused, "the datapath counted something else");
        let free = requests(scenario, "client-b", SECONDS)?;
        progress!("{limited} requests where {RATE} a second are allowed, {free} where all are");
        ensure!(free > 3.0 * (RATE * (SECONDS + 1)) as f64, "{free} requests without a limit");
        Ok(())
    })
}

/// Bits a second that a client's TCP stream brings; `reverse`: to the client.
fn stream_rate(scenario: &Scenario, client: &str, reverse: bool, seconds: u64) -> Result<f64> {
    let mut command = scenario.topology.host(client).netns.command(find("iperf3").context("iperf3")?);
    let (to, port, time) = (ENDPOINT.to_string(), FRONTEND.port().to_string(), seconds.to_string());
    command.args(["-J", "-i", "0", "-c", &to, "-p", &port, "-t", &time]);
    if reverse {
        command.arg("-R");
    }
    let output = command.stdin(Stdio::null()).output().context("starting iperf3")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("what iperf3 printed")?;
    let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
    rate.with_context(|| format!("iperf3: {}", report["error"]))
}

/// A consumer's streams are held to its bits a second, whichever way they go, the open ones too once it is set; another
/// consumer's are not.
fn bits(hook: Hook) -> Result<()> {
    const RATE: f64 = 20e6;
    const SECONDS: u64 = 5;
    with_web(1, hook, |scenario| {
        let web = server(scenario, 1);
        let a = endpoint(scenario, "consumer-a")?;
        scenario.cli.run(&format!("connection limit web {a} --bits-per-second 20M"))?;
        let mut iperf = web.netns.command(find("iperf3").context("iperf3")?);
        iperf.args(["-s", "-p", &TARGET_PORT.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let _iperf = Running::start(iperf.stderr(Stdio::null()))?;
        scenario.wait_healthy("web")?;
        // iperf3 serves one client at a time, and a health check is one for a moment.
        let measure = |client: &str, reverse: bool| {
            eventually("iperf3 runs", Duration::from_secs(60), || stream_rate(scenario, client, reverse, SECONDS))
        };
        for reverse in [false, true] {
            let rate = measure("client-a", reverse)?;
            progress!("{:.1} Mbit/s of 20", rate / 1e6);
            // What goes the other way counts too, and TCP has to find the rate. It may be a second ahead.
            let most = (SECONDS + 1) as f64 / SECONDS as f64 * 1.05 * RATE;
            ensure!((0.6 * RATE..most).contains(&rate), "{rate} bits a second");
        }
        let of_a = stats(scenario, &a)?;
        let dropped = number(&of_a, "limited_packets")?;
        ensure!(dropped > 0, "no packet was dropped: {of_a}");
        ensure!(scenario.counter("endpoint_bit_rate_limit")? == dropped, "the datapath counted something else");
        let free = measure("client-b", false)?;
        progress!("{:.1} Mbit/s without a limit", free / 1e6);
        ensure!(free > 5.0 * RATE, "{free} bits a second without a limit");

        progress!("a limit for a stream that is open");
        let b = endpoint(scenario, "consumer-b")?;
        std::thread::scope(|scope| {
            let running = scope.spawn(|| measure_long(scenario));
            eventually("the stream runs", PATIENCE, || {
                ensure!(number(&stats(scenario, &b)?, "bytes_in")? > 100_000_000, "it has not begun");
                Ok(())
            })?;
            scenario.cli.run(&format!("connection limit web {b} --bits-per-second 20M"))?;
            // A sweep marks it. From one look to the next, a second apart or more:
            let mut last = (Instant::now(), number(&stats(scenario, &b)?, "bytes_in")?);
            eventually("the stream is held to the limit", Duration::from_secs(15), || {
                ensure!(last.0.elapsed() > Duration::from_secs(1), "not looked at yet");
                let of_b = stats(scenario, &b)?;
                let (then, bytes) = std::mem::replace(&mut last, (Instant::now(), number(&of_b, "bytes_in")?));
                let rate = (last.1 - bytes) as f64 * 8.0 / then.elapsed().as_secs_f64();
                let dropped = number(&of_b, "limited_packets")?;
                ensure!(rate < 1.2 * RATE && dropped > 0, "{rate} bits a second, {dropped} packets dropped");
                Ok(())
            })?;
            running.join().map_err(|_| anyhow::anyhow!("the stream's thread"))?.map(drop)
        })
    })
}

fn measure_long(scenario: &Scenario) -> Result<f64> {
    eventually("iperf3 runs", Duration::from_secs(60), || stream_rate(scenario, "client-b", false, 20))
}
