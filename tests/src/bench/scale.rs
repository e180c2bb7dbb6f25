//! What the control plane takes where there is much: 10,000 endpoints of 1,000 services, and 10,000 rules.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use privatelink_user::{
    cli::Client,
    control::{apply::ApplyDeclaration, endpoints::CreateEndpoint},
};
use serde_json::{Value, json};

use super::figure::{Figure, Goal, median};
use crate::{
    daemon::Agent,
    eventually::eventually,
    programs::curl,
    scenario::{Scenario, program},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

const SERVICES: u16 = 1_000;
const ENDPOINTS: u16 = 10_000;
const GROUPS: u16 = 10;
const RULES_PER_GROUP: u16 = 1_000;
/// Endpoints that are made one by one when all the others are there.
const MORE: u16 = 200;

const API: &str = "127.0.0.1:4566";
const PATIENCE: Duration = Duration::from_secs(300);

/// Address number `number` of the VPCs' range, from 10.0.16.0 on.
fn address(number: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 16, 0)) + u32::from(number))
}

/// Makes all of it, then more, then asks for all and starts the agent again.
pub fn compare(mut done: impl FnMut(Figure)) -> Result<()> {
    let plans = vec![
        VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server", 2, 10)]),
    ];
    let topology = Topology::build(Hook::Tc, plans, None)?;
    let arguments = ["--max-targets", "4096", "--api", API, "--trust-loopback", "--log", "info,privatelink_user=debug"];
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments.map(str::to_owned).into())?;
    let mut scenario = Scenario::configure(topology, agent)?;
    let result = measure(&mut scenario, &mut done);
    result.with_context(|| scenario.diagnosis())
}

fn measure(scenario: &mut Scenario, mut done: impl FnMut(Figure)) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let client = Client::new(scenario.agent.socket());

    let declaration = declaration();
    let objects: usize =
        declaration.as_object().into_iter().flatten().filter_map(|(_, all)| Some(all.as_array()?.len())).sum();
    let request = ApplyDeclaration {
        declaration: serde_json::from_value(declaration).context("the declaration")?,
        prune: false,
        dry_run: false,
    };
    let started = Instant::now();
    runtime.block_on(client.call(&request)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let declared = started.elapsed().as_secs_f64();
    done(Figure::new("scale-declare", "ms/object", declared * 1e3 / objects as f64).beside("seconds", declared));
    forwarded(scenario, ENDPOINTS)?;

    let (mut calls, mut passes, mut latencies) = (Vec::new(), Vec::new(), Vec::new());
    for number in ENDPOINTS..ENDPOINTS + MORE {
        let request = CreateEndpoint {
            service_name: format!("s{}", number % SERVICES).into(),
            vpc: "consumer".into(),
            address: Some(address(number)),
            security_groups: vec![format!("g{}", number % GROUPS).into()],
            ..CreateEndpoint::default()
        };
        let (before, asked) = (passes_of(scenario).len(), Timestamp::now());
        let started = Instant::now();
        runtime.block_on(client.call(&request)).map_err(|error| anyhow::anyhow!("{error}"))?;
        calls.push(started.elapsed().as_secs_f64() * 1e3);
        // The first pass after it that has something to do.
        let pass = eventually("the endpoint is in the kernel", PATIENCE, || {
            let new: Vec<Pass> = passes_of(scenario).split_off(before);
            new.into_iter().find(|pass| pass.operations > 0).context("no pass yet")
        })?;
        passes.push(pass.milliseconds);
        latencies.push(pass.ended.duration_since(asked).as_secs_f64() * 1e3);
    }
    done(Figure::new("scale-create", "ms", median(&calls)?).beside("p99", p99(&calls)));
    done(Figure::new("scale-pass", "ms", median(&passes)?).beside("p99", p99(&passes)));
    let slowest = p99(&latencies);
    done(Figure::new("scale-latency", "ms", slowest).beside("p50", median(&latencies)?).goal(Goal::AtMost(50.0)));
    forwarded(scenario, ENDPOINTS + MORE)?;

    let started = Instant::now();
    let (pages, found) = describe(scenario)?;
    let all = usize::from(ENDPOINTS + MORE);
    ensure!(found == all, "{found} of {all} endpoints on {pages} pages");
    done(Figure::new("scale-describe", "s", started.elapsed().as_secs_f64()).beside("pages", pages as f64));

    scenario.agent.stop()?;
    let took = scenario.agent.start_again()?;
    done(Figure::new("scale-restart", "s", took.as_secs_f64()));
    forwarded(scenario, ENDPOINTS + MORE)
}

/// The value that one of a hundred exceeds.
fn p99(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

fn declaration() -> Value {
    let group = |number: u16| {
        let rule = |one: u16| {
            let port = if one == 0 { 80 } else { 1_000 + one };
            json!({"traffic": format!("tcp:{port}"), "peer": format!("10.{}.0.0/16", one % 250)})
        };
        let rules: Vec<Value> = (0..RULES_PER_GROUP).map(rule).collect();
        json!({"name": format!("g{number}"), "vpc": "consumer", "ingress": rules})
    };
    let lb = |number: u16| {
        let listener = json!({"protocol": "TCP", "port": 80, "target-group": "web"});
        let name = format!("s{number}");
        json!({"name": name, "vpc": "provider", "addresses": [address(number)], "listener": [listener]})
    };
    let service = |number: u16| json!({"name": format!("s{number}"), "load-balancer": format!("s{number}")});
    let endpoint = |number: u16| {
        let groups = [format!("g{}", number % GROUPS)];
        let service = format!("s{}", number % SERVICES);
        json!({"service-name": service, "vpc": "consumer", "address": address(number), "security-groups": groups})
    };
    json!({
        "security-group": (0..GROUPS).map(group).collect::<Vec<_>>(),
        "target-group": [{"name": "web", "vpc": "provider", "port": 8080, "targets": ["10.0.2.10"]}],
        "load-balancer": (0..SERVICES).map(lb).collect::<Vec<_>>(),
        "endpoint-service": (0..SERVICES).map(service).collect::<Vec<_>>(),
        "endpoint": (0..ENDPOINTS).map(endpoint).collect::<Vec<_>>(),
    })
}

/// Waits until the kernel has an entry for each of `wanted` endpoints.
fn forwarded(scenario: &Scenario, wanted: u16) -> Result<()> {
    eventually("the datapath has all endpoints", PATIENCE, || {
        let stats = scenario.cli.run("stats")?;
        let found = stats["endpoints"].as_array().map_or(0, Vec::len);
        ensure!(found >= usize::from(wanted), "{found} of {wanted} endpoints");
        Ok(())
    })
}

/// A pass of the agent over all tables, as its log tells.
struct Pass {
    ended: Timestamp,
    operations: u32,
    milliseconds: f64,
}

fn passes_of(scenario: &Scenario) -> Vec<Pass> {
    let log = scenario.agent.log();
    log.lines().filter(|line| line.contains(" pass operations=")).filter_map(pass).collect()
}

fn pass(line: &str) -> Option<Pass> {
    let after = |mark: &str| line.split_once(mark).and_then(|(_, rest)| rest.split_whitespace().next());
    let took = after("took=")?;
    let (number, factor) = [("ms", 1.0), ("µs", 1e-3), ("s", 1e3)]
        .into_iter()
        .find_map(|(unit, factor)| Some((took.strip_suffix(unit)?, factor)))?;
    let milliseconds = number.parse::<f64>().ok()? * factor;
    let ended = line.split_whitespace().next()?.parse().ok()?;
    Some(Pass { ended, operations: after("operations=")?.parse().ok()?, milliseconds })
}

/// Asks for all endpoints, a thousand at a time: pages and endpoints.
fn describe(scenario: &Scenario) -> Result<(usize, usize)> {
    let (mut pages, mut found, mut token) = (0, 0, None::<String>);
    loop {
        let next = token.map(|token| format!("&NextToken={token}")).unwrap_or_default();
        let form = format!("Action=DescribeVpcEndpoints&Version=2016-11-15&MaxResults=1000{next}");
        let body = curl(&scenario.topology.lb, &["--data", &form, &format!("http://{API}/")])?;
        pages += 1;
        found += body.matches("<vpcEndpointId>").count();
        token =
            body.split_once("<nextToken>").and_then(|(_, rest)| rest.split_once('<')).map(|(one, _)| one.to_owned());
        if token.is_none() {
            return Ok((pages, found));
        }
    }
}
