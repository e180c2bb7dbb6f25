//! Listeners with several ports: the servers of a host are reached at the ports that they have, by one listener.

use std::net::SocketAddrV4;

use anyhow::{Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    programs::{Directory, Nginx, curl},
    require::Need,
    scenario::{ENDPOINT, NODE, Scenario},
    topology::Hook,
};

use crate::{
    Run, Test,
    common::{PATIENCE, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> =
    || vec![Test { name: "a_listener_has_many_ports", needs: NEEDS, run: Run::EachHook(range) }];

const NEEDS: &[Need] = &[Need::Program("nginx"), Need::Program("curl")];

/// What client-a gets from a port of the endpoint.
fn fetch(scenario: &Scenario, port: u16) -> Result<String> {
    let url = format!("http://{ENDPOINT}:{port}/");
    curl(&scenario.topology.host("client-a").netns, &["--max-time", "2", &url])
}

fn refused(scenario: &Scenario, port: u16, counter: &str) -> Result<()> {
    let before = scenario.counter(counter)?;
    ensure!(fetch(scenario, port).is_err(), "port {port} answers");
    ensure!(scenario.counter(counter)? > before, "the attempt at port {port} was not counted as {counter}");
    Ok(())
}

/// A range, whose ports security groups tell apart, then all ports; the server sees the load balancer's address.
fn range(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let host = server(scenario, 1);
        let _checked = Nginx::start(&host.netns, Directory::new("checked")?, target(scenario, 1), "checked")?;
        let at = |port: u16| SocketAddrV4::new(host.address(), port);
        let first = Nginx::start(&host.netns, Directory::new("first")?, at(1_500), "port 1500")?;
        let _last = Nginx::start(&host.netns, Directory::new("last")?, at(2_047), "port 2047")?;
        let _beside = Nginx::start(&host.netns, Directory::new("beside")?, at(2_048), "port 2048")?;
        scenario.wait_healthy("web")?;
        scenario.cli.run("listener create web --protocol TCP --port 1024-2047 --target-group web")?;
        let answer = eventually("a port of the range answers", PATIENCE, || fetch(scenario, 1_500))?;
        ensure!(answer == "port 1500", "{answer}");
        ensure!(fetch(scenario, 2_047)? == "port 2047");
        ensure!(fetch(scenario, 80)? == "checked", "the listener with a port of its own");
        refused(scenario, 2_048, "no_listener")?;
        refused(scenario, 1_023, "no_listener")?;
        let clients = first.logged_clients(1)?;
        ensure!(clients.iter().all(|client| client.starts_with(&NODE.to_string())), "{clients:?}");

        let ask =
            |port: u16| scenario.cli.run(&format!("explain --vpc consumer-a --from 10.0.1.10 --to {ENDPOINT}:{port}"));
        let explained = ask(1_500)?;
        ensure!(explained["reachable"] == true, "{explained}");
        ensure!(explained.to_string().contains("10.0.1.10:1500"), "{explained}");
        let overlapping = scenario.cli.run("listener create web --protocol TCP --port all --target-group web");
        ensure!(overlapping.is_err(), "a listener on ports of others");

        // Of the range, the group lets in to one port.
        scenario.cli.run("security-group create some --vpc consumer-a")?;
        scenario.cli.run("security-group authorize some --protocol tcp --port 1400-1600 --cidr 10.0.1.0/24")?;
        scenario.cli.run(&format!("endpoint modify consumer-a/{ENDPOINT} --security-group some"))?;
        eventually("the group counts", PATIENCE, || refused(scenario, 2_047, "security_group_denied"))?;
        ensure!(fetch(scenario, 1_500)? == "port 1500");
        scenario.cli.run(&format!("endpoint modify consumer-a/{ENDPOINT} --no-security-groups"))?;
        eventually("the group is gone", PATIENCE, || fetch(scenario, 2_047))?;

        for listener in ["web:1024-2047", "web:80"] {
            scenario.cli.run(&format!("listener delete {listener}"))?;
        }
        eventually("nothing answers any more", PATIENCE, || {
            ensure!(fetch(scenario, 1_500).is_err(), "the range answers");
            Ok(())
        })?;
        scenario.cli.run("listener create web --protocol TCP --port all --target-group web")?;
        let answer = eventually("all ports answer", PATIENCE, || fetch(scenario, 2_048))?;
        ensure!(answer == "port 2048", "{answer}");
        ensure!(fetch(scenario, 8_080)? == "checked");
        ensure!(scenario.topology.checksum_errors()? == 0);
        Ok(())
    })
}
