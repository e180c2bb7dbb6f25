//! Health checks: HTTPS, what clients' connections tell, thousands at once.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    programs::{Directory, Nginx},
    require::Need,
    scenario::{ENDPOINT, NODE, Scenario, program},
    topology::{Hook, HostPlan, VpcPlan},
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{PATIENCE, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    const NGINX: &[Need] = &[Need::Program("nginx"), Need::Program("openssl")];
    vec![
        Test { name: "https_checks_of_either_version", needs: NGINX, run: Run::EachHook(https) },
        Test { name: "failing_connections_mark_a_target_early", needs: &[], run: Run::EachHook(refused) },
        Test {
            name: "unanswered_connections_mark_a_target_early",
            needs: &[Need::Program("nft")],
            run: Run::EachHook(unanswered),
        },
        Test { name: "thousands_of_checks_are_spread_evenly", needs: &[Need::WholeMachine], run: Run::Once(thousands) },
    ]
};

/// Two checks of the shortest interval, and some.
const SOON: Duration = Duration::from_secs(20);

fn https(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let start = |number, version| {
            let dir = Directory::new("https")?;
            Nginx::start_tls(&server(scenario, number).netns, dir, target(scenario, number), "page", version)
        };
        let servers = [start(1, "TLSv1.2")?, start(2, "TLSv1.3")?];
        scenario.cli.run("target-group modify web --health-check-protocol HTTPS")?;
        scenario.wait_healthy("web")?;
        for (nginx, version) in servers.iter().zip(["TLSv1.2", "TLSv1.3"]) {
            let expected = format!("{version} {NODE}:80 ELB-HealthChecker/2.0");
            eventually("the check is logged", SOON, || {
                let requests = nginx.tls_requests(0)?;
                ensure!(requests.contains(&expected), "the checks of {version} are {requests:?}");
                Ok(())
            })?;
        }
        // A page that is not there, then one that may be missing.
        scenario.cli.run("target-group modify web --health-check-path /nothing")?;
        let first = server(scenario, 1).address();
        scenario.wait_state("web", first, "unhealthy", SOON)?;
        let health = scenario.cli.run(&format!("target health web {first}"))?;
        let said = &health[0];
        ensure!(said["reason"] == "Target.ResponseCodeMismatch", "{health}");
        ensure!(said["description"] == "Health checks failed with these codes: [404]", "{health}");
        scenario.cli.run("target-group modify web --matcher 200,404")?;
        scenario.wait_healthy("web")
    })
}

/// A group whose targets are checked every five minutes, on port 81 of the endpoint. Its first check passes at once.
fn with_rare_checks(hook: Hook, test: impl FnOnce(&Scenario, SocketAddrV4, Server) -> Result<()>) -> Result<()> {
    with_web(1, hook, |scenario| {
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        let cli = &scenario.cli;
        cli.run(
            "target-group create rare --vpc provider --protocol TCP --port 8080 --health-check-interval 300 \
             --health-check-timeout 2",
        )?;
        cli.run(&format!("target register rare {}", server(scenario, 1).address()))?;
        cli.run("listener create web --protocol TCP --port 81 --target-group rare")?;
        scenario.wait_healthy("rare")?;
        let frontend = SocketAddrV4::new(ENDPOINT, 81);
        let client = scenario.topology.host("client-a");
        let mut works = stream::connect(&client.netns, Source::ANY, frontend, PATIENCE)?;
        stream::echo(&mut works, b"works")?;
        test(scenario, frontend, echo)
    })
}

fn refused(hook: Hook) -> Result<()> {
    with_rare_checks(hook, |scenario, frontend, echo| {
        drop(echo);
        let client = scenario.topology.host("client-a");
        let since = Instant::now();
        eventually("the target is unhealthy", Duration::from_secs(15), || {
            let error = stream::connect(&client.netns, Source::ANY, frontend, PATIENCE).err().context("it listens")?;
            ensure!(format!("{error:#}").contains("refused"), "not refused but: {error:#}");
            let health = scenario.health("rare")?;
            ensure!(health.iter().all(|(_, state)| state == "unhealthy"), "{health:?}");
            Ok(())
        })?;
        progress!("unhealthy {:.1} s after the connections failed, checked every 300 s", since.elapsed().as_secs_f32());
        let counts = traffic(scenario, "rare")?;
        ensure!(counts["refused"].as_u64() >= Some(3), "{counts}");
        Ok(())
    })
}

fn unanswered(hook: Hook) -> Result<()> {
    with_rare_checks(hook, |scenario, frontend, _echo| {
        let netns = &server(scenario, 1).netns;
        let rules = "table ip silent { chain input { type filter hook input priority 0; tcp dport 8080 drop; }; }";
        let done = netns.command("nft").arg(rules).output().context("starting nft")?;
        ensure!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
        let client = scenario.topology.host("client-a");
        let attempts: Vec<_> = (0..3)
            .map(|_| {
                let netns = client.netns.clone();
                std::thread::spawn(move || stream::connect(&netns, Source::ANY, frontend, PATIENCE).is_err())
            })
            .collect();
        scenario.wait_state("rare", server(scenario, 1).address(), "unhealthy", Duration::from_secs(15))?;
        for attempt in attempts {
            ensure!(attempt.join().is_ok_and(|failed| failed), "a silent server answered");
        }
        let counts = traffic(scenario, "rare")?;
        ensure!(counts["unanswered"].as_u64() >= Some(3), "{counts}");
        Ok(())
    })
}

/// What went to the only target of `group`.
fn traffic(scenario: &Scenario, group: &str) -> Result<serde_json::Value> {
    let stats = scenario.cli.run("stats")?;
    let targets = stats["targets"].as_array().context("stats without targets")?;
    let of_group = |row: &&serde_json::Value| {
        row["target_group"].as_str().is_some_and(|arn| arn.contains(&format!("targetgroup/{group}/")))
    };
    targets.iter().find(of_group).cloned().with_context(|| format!("no target of {group} in {stats}"))
}

/// Addresses and ports of the one host that all targets are on.
const ADDRESSES: u8 = 240;
const PORTS: std::ops::Range<u16> = 7_001..7_009;

fn thousands() -> Result<()> {
    let plans = vec![VpcPlan::new("provider", vec![HostPlan::new("server", 1, 10).with_addresses(ADDRESSES)])];
    Scenario::run(&program()?, Hook::Tc, plans, |scenario| {
        let host = scenario.topology.host("server");
        let servers: Vec<Server> = PORTS
            .map(|port| {
                let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
                Server::start(&host.netns, address, Behaviour::Sink)
            })
            .collect::<Result<_>>()?;
        let cli = &scenario.cli;
        cli.run(&format!("load-balancer create many --vpc provider --address {NODE}"))?;
        cli.run(
            "target-group create many --vpc provider --protocol TCP --port 7001 --health-check-interval 5 \
             --health-check-timeout 5",
        )?;
        cli.run("listener create many --protocol TCP --port 80 --target-group many")?;
        let mut register = "target register many".to_owned();
        for address in &host.addresses {
            for port in PORTS {
                write!(register, " {address}:{port}")?;
            }
        }
        cli.run(&register)?;
        let count = u64::from(ADDRESSES) * PORTS.len() as u64;
        let since = Instant::now();
        eventually("all are healthy", Duration::from_secs(60), || {
            let health = scenario.health("many")?;
            let healthy = health.iter().filter(|(_, state)| state == "healthy").count() as u64;
            ensure!(healthy == count, "{healthy} of {count}");
            Ok(())
        })?;
        progress!("{count} targets healthy after {:.1} s", since.elapsed().as_secs_f32());

        // Two intervals, once the second probe of each has come.
        let checked = || servers.iter().map(Server::accepted).sum::<u64>();
        let begun = checked();
        eventually("each has been checked again", SOON, || {
            ensure!(checked() >= begun + count, "{} checks", checked() - begun);
            Ok(())
        })?;
        const SLICE: Duration = Duration::from_millis(500);
        let (begun, started) = (checked(), Instant::now());
        let mut slices = Vec::new();
        let mut before = begun;
        for slice in 1..=20 {
            std::thread::sleep((SLICE * slice).saturating_sub(started.elapsed()));
            let now = checked();
            slices.push(now - before);
            before = now;
        }
        let total = before - begun;
        let most = slices.iter().copied().max().unwrap_or(0);
        progress!("{total} checks in 10 s, by half seconds {slices:?}");
        ensure!((count * 17 / 10..=count * 23 / 10).contains(&total), "{total} checks of {count} targets in 10 s");
        ensure!(most <= count / 10 * 2, "{most} checks in half a second, of {total} in 10 s");
        let health = scenario.health("many")?;
        ensure!(health.iter().all(|(_, state)| state == "healthy"), "some checks failed");
        Ok(())
    })
}
