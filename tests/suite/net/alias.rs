//! Aliases: a host routes an address, or a prefix, of a network that is none of its VPC's to an endpoint, and reaches
//! the service by it.

use std::net::SocketAddrV4;

use anyhow::{Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    programs::{Directory, Nginx, curl},
    require::Need,
    scenario::{ENDPOINT, QUICK_CHECKS, Scenario},
    topology::Hook,
};

use crate::{
    Run, Test,
    common::{PATIENCE, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> =
    || vec![Test { name: "an_alias_is_routed_to_an_endpoint", needs: NEEDS, run: Run::EachHook(alias) }];

const NEEDS: &[Need] = &[Need::Program("nginx"), Need::Program("curl")];

/// What `host` gets from `url`.
fn fetch(scenario: &Scenario, host: &str, url: &str) -> Result<String> {
    curl(&scenario.topology.host(host).netns, &["--max-time", "2", url])
}

/// A route to one address, then to a prefix in which the port decides the listener; the address of the VPC that is an
/// alias needs no route. Without the alias, and in another VPC, nothing answers.
fn alias(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let page = server(scenario, 1);
        let _web = Nginx::start(&page.netns, Directory::new("web")?, target(scenario, 1), "hello by the alias")?;
        let second = SocketAddrV4::new(page.address(), 8081);
        let _other = Nginx::start(&page.netns, Directory::new("other")?, second, "hello by the prefix")?;
        scenario
            .cli
            .run(&format!("target-group create other --vpc provider --protocol TCP --port 8081 {QUICK_CHECKS}"))?;
        scenario.cli.run(&format!("target register other {}", page.address()))?;
        scenario.cli.run("listener create web --protocol TCP --port 81 --target-group other")?;
        scenario.wait_healthy("web")?;
        scenario.wait_healthy("other")?;
        for client in ["client-a", "client-b"] {
            let via = ENDPOINT.to_string();
            scenario.topology.host(client).netns.ip(&["route", "add", "10.200.0.0/24", "via", &via])?;
        }

        let strangers = scenario.counter("not_ours")?;
        ensure!(fetch(scenario, "client-a", "http://10.200.0.10").is_err(), "an address that is nobody's answers");
        ensure!(scenario.counter("not_ours")? > strangers, "the attempt was not counted");

        scenario.cli.run(&format!("endpoint modify consumer-a/{ENDPOINT} --alias 10.200.0.10/32 --alias 10.0.7.7"))?;
        let answer = eventually("the alias answers", PATIENCE, || fetch(scenario, "client-a", "http://10.200.0.10"))?;
        ensure!(answer == "hello by the alias", "{answer}");
        ensure!(fetch(scenario, "client-a", "http://10.200.0.10:81")? == "hello by the prefix");
        ensure!(fetch(scenario, "client-a", "http://10.0.7.7")? == "hello by the alias", "an address of the VPC");
        ensure!(fetch(scenario, "client-a", "http://10.200.0.11").is_err(), "the address beside it answers");
        ensure!(fetch(scenario, "client-b", "http://10.200.0.10").is_err(), "another VPC has it too");

        scenario.cli.run(&format!("endpoint modify consumer-a/{ENDPOINT} --alias 10.200.0.0/24"))?;
        let answer =
            eventually("the prefix answers", PATIENCE, || fetch(scenario, "client-a", "http://10.200.0.11:81"))?;
        ensure!(answer == "hello by the prefix", "{answer}");
        let refused = scenario.counter("no_listener")?;
        ensure!(fetch(scenario, "client-a", "http://10.200.0.11:82").is_err(), "a port without a listener answers");
        ensure!(scenario.counter("no_listener")? > refused, "the attempt was not counted");
        let line = "explain --vpc consumer-a --from 10.0.1.10 --to 10.200.0.99:80";
        let explained = scenario.cli.run(line)?;
        ensure!(explained["reachable"] == true, "{explained}");
        ensure!(
            explained.to_string().contains("an alias of the endpoint at 10.0.0.50, by 10.200.0.0/24"),
            "{explained}"
        );

        scenario.cli.run(&format!("endpoint modify consumer-a/{ENDPOINT} --no-aliases"))?;
        eventually("nothing answers any more", PATIENCE, || {
            ensure!(fetch(scenario, "client-a", "http://10.200.0.11").is_err(), "the alias answers");
            Ok(())
        })?;
        ensure!(fetch(scenario, "client-a", &format!("http://{ENDPOINT}"))? == "hello by the alias");
        ensure!(scenario.topology.checksum_errors()? == 0);
        Ok(())
    })
}
