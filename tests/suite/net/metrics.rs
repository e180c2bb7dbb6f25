//! Metrics, as a scraper reads them, against traffic that really ran.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddrV4, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    daemon::Agent,
    eventually::eventually,
    programs::curl,
    require::{self, Need},
    scenario::{ENDPOINT, Scenario, Service, program},
    topology::{Hook, Topology},
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, plans, server, target},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![Test {
        name: "metrics_say_what_ran",
        needs: &[Need::Program("promtool"), Need::Program("curl")],
        run: Run::EachHook(metrics),
    }]
};

const ADDRESS: &str = "127.0.0.1:9420";

/// One scrape: each sample with its labels, as written, and its value.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    fn take(scenario: &Scenario) -> Result<(Self, String)> {
        let text = curl(&scenario.topology.lb, &[&format!("http://{ADDRESS}/metrics")])?;
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("the line {line}"))?;
            Ok((name.to_owned(), value.parse().with_context(|| format!("the line {line}"))?))
        };
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(sample).collect::<Result<_>>()?;
        Ok((Self(samples), text))
    }

    /// The sum of the samples `name` that have all `labels`; an error if there is none.
    fn sum(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let of_name = |sample: &str| sample.split('{').next() == Some(name);
        let matching: Vec<f64> = self
            .0
            .iter()
            .filter(|(sample, _)| of_name(sample) && labels.iter().all(|label| sample.contains(label)))
            .map(|(_, value)| *value)
            .collect();
        ensure!(!matching.is_empty(), "no sample {name} with {labels:?}");
        Ok(matching.iter().sum())
    }

    fn is(&self, name: &str, labels: &[&str], expected: f64) -> Result<()> {
        let found = self.sum(name, labels)?;
        ensure!((found - expected).abs() < 0.5, "{name} {labels:?} is {found}, not {expected}");
        Ok(())
    }
}

/// What Prometheus' own tool says of the text, but for the endings that CloudWatch's names have.
fn lint(text: &str) -> Result<()> {
    let promtool = require::find("promtool").context("promtool is not installed; `cargo xtask setup` does that")?;
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting promtool")?;
    child.stdin.take().context("no standard input")?.write_all(text.as_bytes()).context("writing to promtool")?;
    let output = child.wait_with_output().context("waiting for promtool")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    ensure!(matches!(output.status.code(), Some(0 | 3)), "promtool cannot read the metrics: {said}");
    let own = |line: &&str| !line.contains("should not have \"_count\" suffix") && !line.trim().is_empty();
    let complaints: Vec<&str> = said.lines().filter(own).collect();
    ensure!(complaints.is_empty(), "promtool complains: {complaints:?}");
    Ok(())
}

/// Closes in the orderly way, and waits for the server to have closed too.
fn finish(mut stream: TcpStream) -> Result<()> {
    stream.shutdown(Shutdown::Write).context("closing")?;
    stream.read_to_end(&mut Vec::new()).context("waiting for the server's end").map(drop)
}

fn metrics(hook: Hook) -> Result<()> {
    let topology = Topology::build(hook, plans(2), None)?;
    let arguments = vec!["--metrics".to_owned(), ADDRESS.to_owned()];
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments)?;
    let scenario = Scenario::configure(topology, agent)?;
    check(&scenario).with_context(|| scenario.diagnosis())
}

fn check(scenario: &Scenario) -> Result<()> {
    let targets = vec![server(scenario, 1).address(), server(scenario, 2).address()];
    let service = scenario.publish(&Service::new("web", "provider", targets))?;
    let endpoint = scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
    let greet = |number: u8| {
        let name = format!("server-{number}");
        Server::start(&server(scenario, number).netns, target(scenario, number), Behaviour::Greet(name))
    };
    let (_first, second) = (greet(1)?, greet(2)?);
    scenario.wait_healthy("web")?;

    // 30 connections: 20 closed, 10 open; each says 100 bytes and gets them back.
    let client = scenario.topology.host("client-a");
    let mut open = Vec::new();
    for number in 0..30 {
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::read_line(&mut stream)?;
        stream::echo(&mut stream, &[b'x'; 100])?;
        if number < 10 { open.push(stream) } else { finish(stream)? }
    }
    let nobody = SocketAddrV4::new(ENDPOINT, 99);
    ensure!(stream::connect(&client.netns, Source::ANY, nobody, Duration::from_millis(300)).is_err(), "a listener");

    let lb = "load_balancer=\"net/web/";
    let zone = "availability_zone=\"us-east-1a\"";
    let of_endpoint = format!("vpc_endpoint_id=\"{endpoint}\"");
    let (scrape, text) = eventually("the closed flows are gone", PATIENCE, || {
        let (scrape, text) = Scrape::take(scenario)?;
        scrape.is("networkelb_active_flow_count", &[lb, zone], 10.0)?;
        Ok((scrape, text))
    })?;
    lint(&text)?;
    scrape.is("networkelb_new_flow_count_total", &[lb, zone], 30.0)?;
    scrape.is("networkelb_new_flow_count_tcp_total", &[lb], 30.0)?;
    scrape.is("networkelb_new_flow_count_udp_total", &[lb], 0.0)?;
    scrape.is("networkelb_healthy_host_count", &[lb, "target_group=\"targetgroup/web/"], 2.0)?;
    scrape.is("networkelb_unhealthy_host_count", &[lb], 0.0)?;
    let of_group = ["target_group=\"targetgroup/web/"];
    ensure!(scrape.sum("privatelink_health_checks_passed_total", &of_group)? >= 2.0, "no check has passed");
    scrape.is("networkelb_zonal_health_status", &[lb], 1.0)?;
    eventually("the last minute is known", Duration::from_secs(25), || {
        let (scrape, _) = Scrape::take(scenario)?;
        ensure!(scrape.sum("networkelb_peak_bytes_per_second", &[lb])? >= 30.0 * 400.0 / 25.0, "no peak of bytes");
        ensure!(scrape.sum("networkelb_peak_packets_per_second", &[lb])? >= 1.0, "no peak of packets");
        let tcp = scrape.sum("networkelb_consumed_lcus_tcp", &[lb])?;
        ensure!(tcp > 0.0 && tcp < 1.0, "{tcp} units of capacity");
        scrape.is("networkelb_consumed_lcus", &[lb], tcp)?;
        scrape.is("networkelb_consumed_lcus_udp", &[lb], 0.0)
    })?;
    scrape.is("privatelink_endpoints_active_connections", &[&of_endpoint, "endpoint_type=\"Interface\""], 10.0)?;
    scrape.is("privatelink_endpoints_new_connections_total", &[&of_endpoint], 30.0)?;
    scrape.is("privatelink_services_new_connections_total", &[], 30.0)?;
    scrape.is("privatelink_services_endpoints_count", &[], 1.0)?;
    scrape.is("privatelink_port_pool_used", &["node=\"10.0.0.5\"", "protocol=\"TCP\""], 10.0)?;
    scrape.is("privatelink_port_pool_capacity", &["target=\"10.0.1.10:8080\"", "protocol=\"TCP\""], 64_512.0)?;
    scrape.is("privatelink_port_pool_exhausted_total", &["node=\"10.0.0.5\""], 0.0)?;
    ensure!(scrape.sum("privatelink_dropped_packets_total", &["reason=\"no_listener\""])? >= 1.0, "no drop is counted");
    ensure!(scrape.sum("privatelink_flow_table_entries", &[])? >= 20.0, "the flow table is empty");
    ensure!(scrape.sum("privatelink_flow_table_capacity", &[])? >= 1_000_000.0, "no room");
    // Payload both ways with at least 52 bytes of headers on each of 4 segments, at most 1,000 bytes a connection.
    let bytes = scrape.sum("privatelink_endpoints_bytes_processed_total", &[&of_endpoint])?;
    ensure!((30.0 * 400.0..30.0 * 1_200.0).contains(&bytes), "{bytes} bytes for 30 connections");
    let processed = scrape.sum("networkelb_processed_bytes_total", &[lb])?;
    ensure!(processed >= bytes, "the load balancer processed {processed} bytes, its endpoint {bytes}");

    // A target that refuses: unhealthy hosts, resets by the target.
    let before = scrape.sum("networkelb_tcp_target_reset_count_total", &[lb])?;
    drop(second);
    eventually("one host is unhealthy", Duration::from_secs(20), || {
        let (scrape, _) = Scrape::take(scenario)?;
        scrape.is("networkelb_healthy_host_count", &[lb], 1.0)?;
        scrape.is("networkelb_unhealthy_host_count", &[lb], 1.0)?;
        ensure!(scrape.sum("networkelb_tcp_target_reset_count_total", &[lb])? > before, "no reset of a target");
        ensure!(scrape.sum("privatelink_health_checks_failed_total", &of_group)? >= 2.0, "no check has failed");
        Ok(())
    })
}
