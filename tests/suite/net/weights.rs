//! Weighted target groups and source-IP stickiness, with servers that say who they are.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    scenario::{QUICK_CHECKS, Scenario},
    topology::Hook,
    traffic::{
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
        Test { name: "weighted_target_groups", needs: &[], run: Run::Once(weights) },
        Test { name: "source_ip_stickiness", needs: &[], run: Run::EachHook(stickiness) },
    ]
};

/// Connections from each of `addresses` in turn; how many each server accepted.
fn spread(scenario: &Scenario, servers: &[Server], addresses: &[Ipv4Addr], count: usize) -> Result<Vec<u64>> {
    let before: Vec<u64> = servers.iter().map(Server::accepted).collect();
    let client = scenario.topology.host("client-a");
    let mut streams = Vec::new();
    for address in addresses.iter().cycle().take(count) {
        let source = Source { address: *address, ..Source::ANY };
        let mut stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"who")?;
        streams.push(stream);
    }
    let after: Vec<u64> = servers.iter().map(Server::accepted).collect();
    Ok(after.iter().zip(before).map(|(after, before)| after - before).collect())
}

fn servers(scenario: &Scenario) -> Result<Vec<Server>> {
    (1..=2).map(|n| Server::start(&server(scenario, n).netns, target(scenario, n), Behaviour::Echo)).collect()
}

/// Two groups of one server each share connections by weight; weight 0 ends the open ones too.
fn weights() -> Result<()> {
    with_web(2, Hook::Tc, |scenario| {
        let servers = servers(scenario)?;
        scenario.wait_healthy("web")?;
        let second = server(scenario, 2).address();
        scenario
            .cli
            .run(&format!("target-group create next --vpc provider --protocol TCP --port 8080 {QUICK_CHECKS}"))?;
        scenario.cli.run(&format!("target register next {second}"))?;
        scenario.cli.run("target-group modify web --attribute deregistration_delay.timeout_seconds=0")?;
        scenario.cli.run(&format!("target deregister web {second}"))?;
        scenario.cli.run("listener modify web:80 --target-group web=75 --target-group next=25")?;
        scenario.wait_healthy("next")?;
        let client = scenario.topology.host("client-a");
        let addresses = client.addresses.clone();
        progress!("400 connections by weights 75 and 25");
        // The checks' own connections are few and equal.
        let shares = spread(scenario, &servers, &addresses, 400)?;
        ensure!((250..=350).contains(&shares[0]) && (60..=150).contains(&shares[1]), "{shares:?}");

        progress!("weight 0");
        let mut open = BTreeMap::new();
        for _ in 0..16 {
            let before = servers[1].accepted();
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut stream, b"who")?;
            open.entry(servers[1].accepted() > before).or_insert(stream);
        }
        ensure!(open.len() == 2, "16 connections and no server got one");
        scenario.cli.run("listener modify web:80 --target-group web=75 --target-group next=0")?;
        eventually("its open connections end", Duration::from_secs(15), || {
            ensure!(scenario.counter("flow_ended_by_weight")? > 0, "none has ended");
            Ok(())
        })?;
        let ended = open.get_mut(&true).map(|stream| stream::echo(stream, b"gone").is_err());
        let stays = open.get_mut(&false).map(|stream| stream::echo(stream, b"here").is_ok());
        ensure!((ended, stays) == (Some(true), Some(true)), "{ended:?}, {stays:?}");
        let shares = spread(scenario, &servers, &addresses, 50)?;
        ensure!(shares[0] >= 50, "{shares:?}");
        Ok(())
    })
}

/// All connections of an address go to one server, and addresses are spread.
fn stickiness(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let servers = servers(scenario)?;
        scenario.wait_healthy("web")?;
        scenario.cli.run("target-group modify web --attribute stickiness.enabled=true")?;
        let addresses = scenario.topology.host("client-a").addresses.clone();
        eventually("addresses stay with one server each, and both serve", PATIENCE, || {
            let mut used = [false; 2];
            for address in &addresses[..12] {
                let shares = spread(scenario, &servers, &[*address], 12)?;
                // A health check's connection may be among them.
                let [most, least] = [shares[0].max(shares[1]), shares[0].min(shares[1])];
                ensure!(most >= 12 && least <= 2, "{shares:?}");
                used[usize::from(shares[1] > shares[0])] = true;
            }
            ensure!(used == [true; 2], "all addresses went to one server");
            Ok(())
        })
    })
}
