//! Security groups of endpoints and load balancers, with clients of several addresses.

use std::{io, net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    require::{self, Need},
    scenario::{ENDPOINT, NODE, Scenario},
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, SILENCE, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "security_groups_of_an_endpoint", needs: &[], run: Run::EachHook(endpoint) },
        Test { name: "echo_asks_the_rules_for_icmp", needs: &[Need::Program("ping")], run: Run::EachHook(echo) },
        Test { name: "security_groups_of_a_load_balancer", needs: &[], run: Run::Once(load_balancer) },
        Test { name: "security_groups_of_a_thousand_rules", needs: &[], run: Run::Once(thousand_rules) },
    ]
};

const ENDPOINT_A: &str = "consumer-a/10.0.0.50";

/// The client's second address.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 11);

fn from(ip: Ipv4Addr) -> Source {
    Source { address: ip, ..Source::ANY }
}

/// A connection from `source` to `client`'s endpoint is established and echoes.
fn passes(scenario: &Scenario, client: &str, source: Ipv4Addr) -> Result<()> {
    let client = scenario.topology.host(client);
    let mut stream = stream::connect(&client.netns, from(source), FRONTEND, PATIENCE)?;
    stream::echo(&mut stream, b"hello").map(drop)
}

/// A connection from `source` gets no answer at all.
fn silent(scenario: &Scenario, client: &str, source: Ipv4Addr) -> Result<()> {
    let client = scenario.topology.host(client);
    let error = stream::connect(&client.netns, from(source), FRONTEND, SILENCE).err().context("it was let in")?;
    let kind = error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind);
    ensure!(kind == Some(io::ErrorKind::TimedOut), "it was answered: {error:#}");
    Ok(())
}

fn endpoint_denied(scenario: &Scenario) -> Result<u64> {
    let stats = scenario.cli.run("stats")?;
    let rows = stats["endpoints"].as_array().context("no endpoints")?;
    rows.iter().map(|row| row["denied"].as_u64().context("no such column")).sum()
}

/// The rules count for new connections at once; open ones go on until a change says that it applies to them too.
fn endpoint(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        passes(scenario, "client-a", SECOND)?;
        let mut open = stream::connect(&client.netns, from(SECOND), FRONTEND, PATIENCE)?;

        progress!("a group that lets in one address");
        scenario.cli.run("security-group create clients --vpc consumer-a")?;
        scenario.cli.run(&format!("security-group authorize clients --protocol tcp --port 80 --cidr {FIRST}"))?;
        scenario.cli.run(&format!("endpoint modify {ENDPOINT_A} --security-group clients"))?;
        let before = scenario.counter("security_group_denied")?;
        eventually("the other address is refused", PATIENCE, || silent(scenario, "client-a", SECOND))?;
        passes(scenario, "client-a", FIRST)?;
        passes(scenario, "client-b", SECOND).context("another VPC's endpoint has no group")?;
        stream::echo(&mut open, b"still here").context("an open connection goes on")?;
        ensure!(scenario.counter("security_group_denied")? > before, "the refusal was not counted");
        ensure!(endpoint_denied(scenario)? > 0, "the endpoint's statistics do not know of it");

        progress!("a rule more, and less");
        scenario.cli.run(&format!("security-group authorize clients --port 70-90 --cidr {SECOND}"))?;
        eventually("the other address is let in", PATIENCE, || passes(scenario, "client-a", SECOND))?;
        scenario.cli.run(&format!("security-group revoke clients --port 70-90 --cidr {SECOND}"))?;
        eventually("the other address is refused", PATIENCE, || silent(scenario, "client-a", SECOND))?;
        stream::echo(&mut open, b"and here").context("an open connection goes on")?;

        progress!("a change that applies to open connections");
        let mut allowed = stream::connect(&client.netns, from(FIRST), FRONTEND, PATIENCE)?;
        scenario
            .cli
            .run(&format!("security-group authorize clients --port 443 --cidr {FIRST} --apply-to-established"))?;
        eventually("the open connection of the refused address ends", Duration::from_secs(15), || {
            ensure!(scenario.counter("flow_ended_by_security_group")? >= 1, "not counted yet");
            Ok(())
        })?;
        ensure!(stream::echo(&mut open, b"gone").is_err(), "it still echoes");
        stream::echo(&mut allowed, b"allowed").context("a connection that the rules allow goes on")?;

        progress!("without groups everybody is let in again");
        scenario.cli.run(&format!("endpoint modify {ENDPOINT_A} --no-security-groups"))?;
        eventually("the other address is let in", PATIENCE, || passes(scenario, "client-a", SECOND))?;
        scenario.cli.run("security-group delete clients")?;
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

fn pings(scenario: &Scenario, host: &str, source: Ipv4Addr, to: Ipv4Addr) -> Result<bool> {
    let mut ping = scenario.topology.host(host).netns.command(require::find("ping").context("ping")?);
    let output =
        ping.args(["-n", "-c", "2", "-i", "0.2", "-W", "1", "-I", &source.to_string(), &to.to_string()]).output();
    Ok(output.context("starting ping")?.status.success())
}

/// Echo requests to an endpoint and to a node address are answered to those whom a rule for ICMP lets in: by address,
/// or by the group that they carry.
fn echo(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        ensure!(pings(scenario, "client-a", FIRST, ENDPOINT)?, "without groups everybody is answered");
        scenario.cli.run("security-group create clients --vpc consumer-a")?;
        scenario.cli.run("security-group authorize clients --protocol tcp --port 80 --cidr 0.0.0.0/0")?;
        scenario.cli.run(&format!("endpoint modify {ENDPOINT_A} --security-group clients"))?;
        eventually("no rule is for ICMP", PATIENCE, || {
            ensure!(!pings(scenario, "client-a", FIRST, ENDPOINT)?, "it is answered");
            Ok(())
        })?;
        passes(scenario, "client-a", SECOND)?;
        ensure!(pings(scenario, "client-b", FIRST, ENDPOINT)?, "another VPC's endpoint has no group");
        ensure!(scenario.counter("echo_denied")? > 0, "the refusal was not counted");
        let question = format!("explain --vpc consumer-a --from {FIRST} --to {FRONTEND} --proto icmp");
        let answer = scenario.cli.raw(&question.split(' ').collect::<Vec<_>>())?;
        let said = String::from_utf8_lossy(&answer.stdout);
        ensure!(said.contains("echo_denied") && said.contains("clients"), "{said}");

        progress!("a rule for one address");
        scenario.cli.run(&format!("security-group authorize clients --protocol icmp --port 8 --cidr {FIRST}"))?;
        eventually("it is let in", PATIENCE, || {
            ensure!(pings(scenario, "client-a", FIRST, ENDPOINT)?, "it is not answered");
            Ok(())
        })?;
        ensure!(!pings(scenario, "client-a", SECOND, ENDPOINT)?, "another address is answered");

        progress!("a rule for a group: a named host carries it");
        scenario.cli.run("security-group create admins --vpc consumer-a")?;
        scenario.cli.run("security-group authorize clients --protocol icmp --source-group admins")?;
        scenario
            .cli
            .run(&format!("instance register admin --vpc consumer-a --address {SECOND} --security-group admins"))?;
        eventually("it is let in", PATIENCE, || {
            ensure!(pings(scenario, "client-a", SECOND, ENDPOINT)?, "it is not answered");
            Ok(())
        })?;

        progress!("the node address");
        let node_server = server(scenario, 1).address();
        ensure!(pings(scenario, "server-1", node_server, NODE)?, "without groups everybody is answered");
        scenario.cli.run("security-group create nodes --vpc provider")?;
        scenario.cli.run("security-group authorize nodes --protocol tcp --cidr 0.0.0.0/0")?;
        scenario.cli.run("load-balancer modify web --security-group nodes --enforce-on-private-link off")?;
        eventually("no rule is for ICMP", PATIENCE, || {
            ensure!(!pings(scenario, "server-1", node_server, NODE)?, "it is answered");
            Ok(())
        })?;
        scenario.cli.run(&format!("security-group authorize nodes --protocol icmp --cidr {node_server}"))?;
        eventually("it is let in", PATIENCE, || {
            ensure!(pings(scenario, "server-1", node_server, NODE)?, "it is not answered");
            Ok(())
        })
    })
}

/// A load balancer's rules filter what comes through endpoints while that is enforced, and decide about targets and
/// checks.
fn load_balancer() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        scenario.cli.run("security-group create nodes --vpc provider")?;
        scenario.cli.run(&format!("security-group authorize nodes --port 80 --cidr {FIRST}"))?;
        scenario.cli.run("load-balancer modify web --security-group nodes")?;
        for client in ["client-a", "client-b"] {
            eventually("the clients' own addresses count", PATIENCE, || silent(scenario, client, SECOND))?;
            passes(scenario, client, FIRST)?;
        }
        scenario.cli.run("load-balancer modify web --enforce-on-private-link off")?;
        eventually("the rules count no more", PATIENCE, || passes(scenario, "client-a", SECOND))?;

        progress!("outbound rules");
        scenario.cli.run("security-group revoke nodes --protocol all --cidr 0.0.0.0/0 --egress")?;
        eventually("the load balancer may connect to nothing", PATIENCE, || silent(scenario, "client-a", FIRST))?;
        ensure!(scenario.counter("security_group_denied_outbound")? > 0, "not counted by name");
        let server = server(scenario, 1).address();
        scenario.wait_state("web", server, "unhealthy", Duration::from_secs(30))?;
        scenario.cli.run(&format!("security-group authorize nodes --port 8080 --cidr {server} --egress"))?;
        scenario.wait_healthy("web")?;
        passes(scenario, "client-a", FIRST)
    })
}

/// A group with as many rules as it may have; the one that counts is among them.
fn thousand_rules() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        scenario.cli.run("security-group create many --vpc consumer-a")?;
        for part in 0..4 {
            let mut words = vec!["security-group".to_owned(), "authorize".to_owned(), "many".to_owned()];
            words.extend(["--protocol".to_owned(), "tcp".to_owned()]);
            for n in part * 250..(part + 1) * 250 {
                let net = if n == 617 { FIRST.to_string() } else { format!("172.{}.{}.0/25", 16 + n / 200, n % 200) };
                words.extend(["--cidr".to_owned(), net]);
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            scenario.cli.words(&words)?;
        }
        scenario.cli.run(&format!("endpoint modify {ENDPOINT_A} --security-group many"))?;
        eventually("what no rule names is refused", PATIENCE, || silent(scenario, "client-a", SECOND))?;
        passes(scenario, "client-a", FIRST)?;
        let one_more = scenario.cli.run("security-group authorize many --port 80 --cidr 192.168.0.0/24");
        let error = one_more.err().context("a rule beyond the thousandth was accepted")?;
        ensure!(format!("{error:#}").contains("maximum number of rules"), "{error:#}");
        Ok(())
    })
}
