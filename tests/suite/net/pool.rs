//! All source ports towards one target.

use std::{collections::BTreeSet, net::Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    netns::Netns,
    require::Need,
    scenario::{NODE, Scenario},
    topology::Hook,
    traffic::{
        fleet::{Fleet, Servers},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "all_64512_ports_of_one_target", needs: &[Need::WholeMachine], run: Run::EachHook(all_ports) },
        Test { name: "secondary_node_addresses_share_the_flows", needs: &[], run: Run::EachHook(spread) },
        Test {
            name: "full_pool_falls_over_to_the_next_node_address",
            needs: &[Need::WholeMachine],
            run: Run::Once(fall_over),
        },
    ]
};

/// Ports from 1024 up.
const PORTS: usize = 64_512;

/// Every port is usable at the same time, the next connection is refused and counted, and a port that is freed serves
/// again. The health checker claims ports of the same pool, so the last few may be its own.
fn all_ports(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let address = target(scenario, 1);
        let mut servers = Servers::start(&server(scenario, 1).netns, address, PORTS)?;
        scenario.wait_healthy("web")?;
        // The checks' ports come from the same pool, and a check closes first, so each is free at once.
        let client = scenario.topology.host("client-a");
        progress!("opening {PORTS} connections");
        let refused = scenario.counter("ports_exhausted")?;
        let mut fleet = Fleet::open(&client.netns, &client.addresses, FRONTEND, PORTS - 1)?;
        fleet.tally.all_succeeded().context("64,511 of 64,512")?;
        // Between two checks the last port is free: the check's own connection is over within milliseconds.
        let last = eventually("the last port serves", PATIENCE, || {
            stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)
        })?;
        // The kernel completes a handshake before the server takes the connection.
        let seen = eventually("the target sees every port", PATIENCE, || {
            let seen = servers.peer_ports()?;
            ensure!(seen.len() == PORTS, "it saw {}", seen.len());
            Ok(seen)
        })?;
        let ends = (seen.first().copied(), seen.last().copied());
        ensure!(ends == (Some(1024), Some(u16::MAX)), "the ports are {ends:?}");

        progress!("one more");
        let one_more = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE);
        let error = one_more.err().context("a connection beyond the last port was accepted")?;
        ensure!(format!("{error:#}").contains("refused"), "not refused but: {error:#}");
        let now = scenario.counter("ports_exhausted")?;
        ensure!(now > refused, "the refusal was not counted");
        let pool = scenario.pool(address)?;
        ensure!(pool["used"].as_u64() == Some(PORTS as u64), "the pool says {pool}");

        progress!("an echo over each");
        fleet.echo_all()?.all_succeeded()?;

        progress!("one closed, one opened");
        fleet.close_one()?;
        let mut again = eventually("the freed port serves again", PATIENCE, || {
            stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)
        })?;
        stream::echo(&mut again, b"again")?;

        drop(servers);
        drop((fleet, last, again));
        // With XDP the veth rings lose some of so many segments at once, and those connections end by resets: their
        // ports are free.
        match hook {
            Hook::Xdp => return no_checksum_errors(scenario),
            Hook::Tc | Hook::Auto => {
                progress!("the target has closed all, so that all ports are held; a new connection")
            }
        }
        let held = |pool: &serde_json::Value| pool["held"].as_u64().context("no number of held ports");
        eventually("nearly every port is held", PATIENCE, || {
            let pool = scenario.pool(address)?;
            ensure!(held(&pool)? > PORTS as u64 - 10, "the pool says {pool}");
            Ok(())
        })?;
        let _servers = Servers::start(&server(scenario, 1).netns, address, 10)?;
        scenario.wait_healthy("web")?;
        let mut early = eventually("a held port serves again", PATIENCE, || {
            stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)
        })?;
        stream::echo(&mut early, b"early")?;
        ensure!(scenario.counter("port_reused_early")? > 0, "no hold was cut short");
        no_checksum_errors(scenario)
    })
}

/// The target's kernel counts connections from every node address, the first one and those that were assigned.
fn spread(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let lb = scenario.cli.run("load-balancer modify web --attribute secondary_ips.auto_assigned.per_subnet=2")?;
        let secondary: Vec<Ipv4Addr> = serde_json::from_value(lb["secondary_addresses"].clone())?;
        ensure!(secondary.len() == 2, "{lb}");
        let expected: BTreeSet<Ipv4Addr> = secondary.iter().copied().chain([NODE]).collect();
        let client = scenario.topology.host("client-a");
        let mut streams = Vec::new();
        eventually("the target sees every node address", PATIENCE, || {
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut stream, b"spread")?;
            streams.push(stream);
            let seen = peers(&server(scenario, 1).netns)?;
            ensure!(seen == expected, "it sees {seen:?}");
            Ok(())
        })?;
        let fewer = "load-balancer modify web --attribute secondary_ips.auto_assigned.per_subnet=1";
        let output = scenario.cli.raw(&fewer.split(' ').collect::<Vec<_>>())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains("cannot be decreased"), "{said}");
        for stream in &mut streams {
            stream::echo(stream, b"still there")?;
        }
        no_checksum_errors(scenario)
    })
}

/// Where the established connections to port 8080 come from, as `ss` says.
fn peers(netns: &Netns) -> Result<BTreeSet<Ipv4Addr>> {
    let mut ss = netns.command("ss");
    let output = ss.args(["-Htn", "state", "established", "sport = :8080"]).output().context("starting ss")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let peer = |line: &str| {
        let (ip, _) = line.split_whitespace().last()?.rsplit_once(':')?;
        ip.trim_start_matches("[::ffff:").trim_end_matches(']').parse().ok()
    };
    Ok(text.lines().filter_map(peer).collect())
}

/// While all ports of the first node address are in use, a second one takes what is led to the first.
fn fall_over() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let address = target(scenario, 1);
        let servers = Servers::start(&server(scenario, 1).netns, address, PORTS + 64)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        progress!("opening {PORTS} connections");
        let mut fleet = Fleet::open(&client.netns, &client.addresses, FRONTEND, PORTS - 1)?;
        fleet.tally.all_succeeded().context("64,511 of 64,512")?;
        let _last = eventually("the last port serves", PATIENCE, || {
            stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)
        })?;
        let one_more = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE);
        ensure!(one_more.is_err(), "a connection beyond the last port was accepted");
        scenario.cli.run("load-balancer modify web --attribute secondary_ips.auto_assigned.per_subnet=1")?;
        progress!("40 more, half of which are led to the full pool");
        let mut more = Vec::new();
        eventually("the second node address is used", PATIENCE, || {
            more.push(stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?);
            Ok(())
        })?;
        for _ in 0..40 {
            more.push(stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?);
        }
        let used = scenario.counter("next_node_used")?;
        ensure!((1..=41).contains(&used), "{used} flows got a port of the next node address");
        fleet.echo_all()?.all_succeeded()?;
        for stream in &mut more {
            stream::echo(stream, b"fallen over")?;
        }
        drop(servers);
        no_checksum_errors(scenario)
    })
}

fn no_checksum_errors(scenario: &Scenario) -> Result<()> {
    let errors = scenario.topology.checksum_errors()?;
    ensure!(errors == 0, "{errors} checksum errors");
    Ok(())
}
