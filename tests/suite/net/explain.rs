//! `privatelink explain` against what really happens, and that it leaves nothing behind.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    scenario::{ENDPOINT, Scenario},
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};
use serde_json::Value;

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> =
    || vec![Test { name: "explain_says_what_happens", needs: &[], run: Run::EachHook(explain) }];

/// What `explain` says, and whether it ended as reachable.
fn ask(scenario: &Scenario, rest: &str) -> Result<Value> {
    let line = format!("explain {rest}");
    let output = scenario.cli.raw(&line.split_whitespace().collect::<Vec<_>>())?;
    let said = String::from_utf8_lossy(&output.stdout);
    let answer: Value = serde_json::from_str(&said)
        .with_context(|| format!("`{line}` printed {said}{}", String::from_utf8_lossy(&output.stderr)))?;
    let reachable = answer["reachable"].as_bool().context("no verdict")?;
    ensure!(output.status.code() == Some(i32::from(!reachable)), "{answer} ended with {}", output.status);
    Ok(answer)
}

/// The explanation's finding about `object`.
fn finding<'a>(answer: &'a Value, object: &str) -> Result<&'a str> {
    let findings = answer["findings"].as_array().context("no findings")?;
    let found = findings.iter().find(|finding| finding["object"] == object);
    found
        .and_then(|finding| finding["text"].as_str())
        .with_context(|| format!("nothing about the {object} in {answer}"))
}

fn refused(scenario: &Scenario, rest: &str, object: &str, reason: Option<&str>) -> Result<Value> {
    let answer = ask(scenario, rest)?;
    ensure!(answer["reachable"] == false, "{answer}");
    ensure!(answer["decided_by"] == object && answer["reason"].as_str() == reason, "{answer}");
    Ok(answer)
}

/// Everything that counts.
fn counted(scenario: &Scenario) -> Result<(Value, Value)> {
    let mut stats = scenario.cli.run("stats")?;
    // Health checks go on meanwhile, which is no endpoint's traffic, and so do the hosts' own ARP and IPv6.
    let chatter = ["arp_ignored", "ndp_ignored", "not_ours", "other_ether_type"];
    let drops = |counter: &Value| counter["kind"] == "drop" && chatter.iter().all(|name| counter["name"] != *name);
    let counters = stats["counters"].as_array().context("no counters")?.iter().filter(|c| drops(c)).cloned().collect();
    Ok((Value::Array(counters), stats["endpoints"].take()))
}

fn explain(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let to = format!("--vpc consumer-a --from 10.0.1.10 --to {FRONTEND}");
        // No server yet: the only target is initial, then unhealthy, and used for want of others.
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let before = counted(scenario)?;

        let answer = ask(scenario, &to)?;
        ensure!(answer["reachable"] == true && answer["reason"].is_null(), "{answer}");
        ensure!(answer["verdict"].as_str().is_some_and(|text| text.contains("10.0.1.10:8080")), "{answer}");
        ensure!(finding(&answer, "target")?.contains("healthy"), "{answer}");
        ensure!(finding(&answer, "target-group")?.contains("1 healthy"), "{answer}");
        ensure!(finding(&answer, "pool")?.contains("64512"), "{answer}");
        ensure!(finding(&answer, "next-hop")?.contains("10.0.1.10 is "), "{answer}");
        let expected = if hook == Hook::Tc { "TC forwards" } else { "XDP forwards" };
        ensure!(finding(&answer, "hook")?.contains(expected), "{answer}");

        let from = "--vpc consumer-a --from 10.0.1.10";
        let answer = refused(scenario, &format!("{from} --to {ENDPOINT}:81"), "listener", Some("no_listener"))?;
        ensure!(finding(&answer, "listener")?.contains("there are: TCP 80"), "{answer}");
        let answer = refused(scenario, &format!("{from} --to 10.0.0.99:80"), "address", Some("not_ours"))?;
        ensure!(finding(&answer, "address")?.contains(&ENDPOINT.to_string()), "{answer}");
        let spoofed = format!("--vpc consumer-a --from {ENDPOINT} --to {FRONTEND}");
        refused(scenario, &spoofed, "packet", Some("spoofed_source"))?;
        scenario.cli.run("vpc create elsewhere --cidr 10.0.0.0/16")?;
        let elsewhere = format!("--vpc elsewhere --from 10.0.1.10 --to {FRONTEND}");
        refused(scenario, &elsewhere, "port", None)?;
        ensure!(
            scenario.cli.table(&format!("explain {to}"))?.contains("\nreachable: it goes to"),
            "no words for people"
        );
        for word in ["--vpc nowhere --from 10.0.1.10 --to 10.0.0.50:80", "--vpc consumer-a --from x --to 10.0.0.50:80"]
        {
            let output = scenario.cli.raw(&[&["explain"][..], &word.split(' ').collect::<Vec<_>>()].concat())?;
            ensure!(!output.status.success() && output.stdout.is_empty() && !output.stderr.is_empty(), "{word}");
        }

        ensure!(counted(scenario)? == before, "explaining was counted: {before:?}\n{:?}", counted(scenario)?);
        ensure!(scenario.cli.run("flow list")? == Value::Array(Vec::new()), "explaining opened a flow");

        // A connection that is there is seen, and not troubled.
        let client = scenario.topology.host("client-a");
        let source = Source { address: client.addresses[0], port: 45_000 };
        let mut stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"before")?;
        let answer = ask(scenario, &format!("--vpc consumer-a --from 10.0.1.10:45000 --to {FRONTEND}"))?;
        ensure!(finding(&answer, "flow")?.contains("established"), "{answer}");
        stream::echo(&mut stream, b"after")?;
        drop(stream);
        drop(echo);

        scenario.cli.run("target deregister web 10.0.1.10")?;
        eventually("the ring is empty", Duration::from_secs(5), || {
            refused(scenario, &to, "target-group", Some("no_target")).map(drop)
        })
    })
}
