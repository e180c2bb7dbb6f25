//! Which hook a port gets, and what is said about it.

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    scenario::{ENDPOINT, Scenario, Service, program},
    topology::{Hook, HostPlan, VpcPlan},
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
        Test { name: "automatic_hook_of_a_veth_is_tc", needs: &[], run: Run::Once(automatic) },
        Test {
            name: "xdp_before_a_sender_with_checksum_offload_is_told",
            needs: &[],
            run: Run::Once(checksum_offload),
        },
        Test { name: "hook_changes_under_an_open_connection", needs: &[], run: Run::Once(change) },
        Test { name: "clients_and_targets_behind_one_port", needs: &[], run: Run::EachHook(one_port) },
    ]
};

fn automatic() -> Result<()> {
    with_web(1, Hook::Auto, |scenario| {
        let ports = scenario.cli.run("port list")?;
        for port in ports.as_array().context("not a list")? {
            ensure!(port["hook_in_use"] == "tcx" || port["hook_in_use"] == "clsact", "{port}");
            ensure!(port["reason"].as_str().is_some_and(|reason| reason.contains("veth")), "no reason: {port}");
        }
        Ok(())
    })
}

/// The links keep their offloads, so XDP sees checksums that nobody completed. Attaching warns with the command that
/// helps, and a counter tells that it is so; the traffic itself is left to TC and arrives.
fn checksum_offload() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        for vpc in ["consumer-a", "provider"] {
            let line = format!("port attach {vpc} --vpc {vpc} --hook xdp");
            let output = scenario.cli.raw(&line.split(' ').collect::<Vec<_>>())?;
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{said}");
            ensure!(said.contains("tx off"), "no word of the command that helps: {said}");
        }
        let client = scenario.topology.host("client-a");
        let symptom = eventually("the symptom is counted", PATIENCE, || {
            let stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::transfer(&stream, 4 << 20)?;
            let count = scenario.counter("partial_checksum")?;
            ensure!(count > 0, "partial_checksum is 0");
            Ok(())
        });
        symptom?;
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// Client and server are behind one bridge, whose uplink is a veth without an XDP program at its far end.
fn one_port(hook: Hook) -> Result<()> {
    let hosts = vec![HostPlan::new("client", 1, 10), HostPlan::new("server-1", 1, 11)];
    Scenario::run(&program()?, hook, vec![VpcPlan::new("one", hosts).bridged()], |scenario| {
        let service = scenario.publish(&Service::new("web", "one", vec![server(scenario, 1).address()]))?;
        scenario.endpoint(&service, "one", ENDPOINT)?;
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client");
        let tc = scenario.counter("xdp_passed_to_tc")?;
        for _ in 0..8 {
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut stream, b"one port")?;
            stream::transfer(&stream, 1 << 20)?;
        }
        // What XDP does not finish is ARP, health checks by the host port, and resets.
        let tc = scenario.counter("xdp_passed_to_tc")? - tc;
        ensure!(tc < 200, "{tc} frames were left to TC");
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

fn change() -> Result<()> {
    with_web(1, Hook::Xdp, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        for hook in ["tc", "xdp", "auto", "xdp"] {
            for vpc in ["consumer-a", "provider"] {
                scenario.cli.run(&format!("port attach {vpc} --vpc {vpc} --hook {hook}"))?;
                stream::echo(&mut stream, hook.as_bytes()).with_context(|| format!("{vpc} by {hook}"))?;
            }
        }
        Ok(())
    })
}
