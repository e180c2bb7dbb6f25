//! Targets come, go, fail and move; other flows do not notice.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    scenario::Scenario,
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "deregistered_target_drains", needs: &[], run: Run::EachHook(deregister) },
        Test { name: "removed_target_ends_only_its_own_flows", needs: &[], run: Run::EachHook(remove) },
        Test { name: "failed_target_is_left_out_and_returns", needs: &[], run: Run::EachHook(health) },
        Test { name: "target_with_a_new_ethernet_address_is_found_again", needs: &[], run: Run::EachHook(moved) },
    ]
};

/// Long enough for a change to reach the kernel.
const SOON: Duration = Duration::from_secs(5);

fn greeters(scenario: &Scenario, count: u8) -> Result<Vec<Server>> {
    (1..=count)
        .map(|number| {
            let greeting = Behaviour::Greet(format!("server-{number}"));
            Server::start(&server(scenario, number).netns, target(scenario, number), greeting)
        })
        .collect()
}

/// Connections until each of `count` servers has one.
fn one_to_each(scenario: &Scenario, count: usize) -> Result<BTreeMap<String, TcpStream>> {
    let client = scenario.topology.host("client-a");
    let mut streams = BTreeMap::new();
    eventually("connections reach every server", SOON, || {
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        streams.insert(stream::read_line(&mut stream)?, stream);
        ensure!(streams.len() == count, "they reached only {:?}", streams.keys());
        Ok(())
    })?;
    Ok(streams)
}

/// New connections reach exactly `expected`, soon.
fn reached(scenario: &Scenario, expected: &[&str]) -> Result<()> {
    eventually("new connections reach the right servers", SOON, || {
        let client = scenario.topology.host("client-b");
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            seen.insert(stream::read_line(&mut stream)?);
        }
        ensure!(seen.iter().eq(expected), "they reach {seen:?}");
        Ok(())
    })
}

fn deregister(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let _servers = greeters(scenario, 2)?;
        scenario.wait_healthy("web")?;
        let mut streams = one_to_each(scenario, 2)?;
        scenario.cli.run(&format!("target deregister web {}", server(scenario, 1).address()))?;
        reached(scenario, &["server-2"])?;
        scenario.wait_state("web", server(scenario, 1).address(), "draining", SOON)?;
        for (name, stream) in &mut streams {
            stream::echo(stream, b"still here").with_context(|| format!("the old flow to {name}"))?;
        }
        scenario.cli.run(&format!("target register web {}", server(scenario, 1).address()))?;
        reached(scenario, &["server-1", "server-2"])?;
        for (name, stream) in &mut streams {
            stream::echo(stream, b"all the time").with_context(|| format!("the old flow to {name}"))?;
        }
        Ok(())
    })
}

fn remove(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let _servers = greeters(scenario, 2)?;
        scenario.wait_healthy("web")?;
        scenario.cli.run(
            "target-group modify web --attribute deregistration_delay.timeout_seconds=0 \
             --attribute deregistration_delay.connection_termination.enabled=true",
        )?;
        let mut streams = one_to_each(scenario, 2)?;
        scenario.cli.run(&format!("target deregister web {}", server(scenario, 1).address()))?;
        let mut gone = streams.remove("server-1").context("no connection to server-1")?;
        let kept = streams.get_mut("server-2").context("no connection to server-2")?;
        eventually("the flow to the removed target is reset", SOON, || {
            let error = gone.write_all(b"?").and_then(|()| gone.read_exact(&mut [0])).err();
            let kind = error.context("it still echoes")?.kind();
            ensure!(kind == ErrorKind::ConnectionReset || kind == ErrorKind::BrokenPipe, "it ended with {kind:?}");
            Ok(())
        })?;
        for _ in 0..10 {
            stream::echo(kept, b"untouched")?;
        }
        reached(scenario, &["server-2"])
    })
}

fn health(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let mut servers = greeters(scenario, 2)?;
        scenario.wait_healthy("web")?;
        let mut streams = one_to_each(scenario, 2)?;
        // The first server's program ends; its host refuses connections from now on.
        drop(servers.remove(0));
        scenario.wait_state("web", server(scenario, 1).address(), "unhealthy", Duration::from_secs(20))?;
        reached(scenario, &["server-2"])?;
        let kept = streams.get_mut("server-2").context("no connection to server-2")?;
        stream::echo(kept, b"untouched")?;

        // All unhealthy: all are used, and a connection gets the server's own refusal.
        drop(servers);
        scenario.wait_state("web", server(scenario, 2).address(), "unhealthy", Duration::from_secs(20))?;
        let client = scenario.topology.host("client-b");
        let error = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE).err().context("nobody listens")?;
        ensure!(format!("{error:#}").contains("refused"), "not refused but: {error:#}");

        let _servers = greeters(scenario, 2)?;
        scenario.wait_healthy("web")?;
        reached(scenario, &["server-1", "server-2"])
    })
}

fn moved(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _servers = greeters(scenario, 1)?;
        scenario.wait_healthy("web")?;
        let mut stream = one_to_each(scenario, 1)?.remove("server-1").context("no connection")?;
        server(scenario, 1).netns.ip(&["link", "set", "eth0", "address", "02:00:00:00:00:99"])?;
        // What the datapath knows is wrong now; it learns the new address from its own probes.
        stream.set_read_timeout(Some(Duration::from_secs(40))).context("the read timeout")?;
        stream::echo(&mut stream, b"found again").context("the established flow")?;
        let client = scenario.topology.host("client-b");
        let mut fresh = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        ensure!(stream::read_line(&mut fresh)? == "server-1", "another server answered");
        Ok(())
    })
}
