//! Consent: an endpoint's traffic waits for the provider's yes, and ends with its no.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    scenario::{ENDPOINT, Scenario, text},
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, SILENCE, plans, server, target},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> =
    || vec![Test { name: "another_account_connects_by_consent_only", needs: &[], run: Run::EachHook(another_account) }];

const CONSUMER: &str = "222222222222";

/// The consumer's network belongs to another account than the provider's, and both are called `10.0.0.0/16`.
fn another_account(hook: Hook) -> Result<()> {
    let program = privatelink_tests::scenario::program()?;
    Scenario::run(&program, hook, plans(1), |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        let cli = &scenario.cli;
        let targets = vec![server(scenario, 1).address()];
        let service = scenario.publish(&privatelink_tests::scenario::Service::new("web", "provider", targets))?;
        cli.run("endpoint-service modify web --acceptance-required true")?;
        scenario.wait_healthy("web")?;

        // The consumer's account takes the interface over with a VPC of its own.
        let vpc = scenario.topology.vpcs.iter().find(|vpc| vpc.name == "consumer-b").context("no consumer-b")?;
        let port = vpc.ports.first().context("no port")?;
        cli.run(&format!("port detach {port}"))?;
        cli.run("vpc delete consumer-b")?;
        cli.run(&format!("vpc create mine --cidr 10.0.0.0/16 --account {CONSUMER}"))?;
        cli.run(&format!(
            "port attach {port} --vpc mine --hook {} --account {CONSUMER}",
            scenario.topology.hook.name()
        ))?;
        let create =
            format!("endpoint create --service-name {service} --vpc mine --address {ENDPOINT} --account {CONSUMER}");

        let refused = cli.run(&create).err().context("the service admitted an account without permission")?;
        ensure!(format!("{refused:#}").contains("InvalidServiceName"), "{refused:#}");
        cli.run(&format!("endpoint-service permissions add web --principal arn:aws:iam::{CONSUMER}:root"))?;
        let made = cli.run(&create)?;
        ensure!(text(&made, "state")? == "pendingAcceptance", "{made}");
        let endpoint = text(&made, "id")?;

        // Its address is there, and nothing behind it yet.
        let client = &scenario.topology.host("client-b").netns;
        eventually("the endpoint's address answers ARP", PATIENCE, || {
            client.ip(&["neighbour", "flush", "dev", "eth0"])?;
            let before = scenario.counter("no_listener")?;
            let connected = stream::connect(client, Source::ANY, FRONTEND, SILENCE);
            ensure!(connected.is_err(), "traffic flows without the provider's consent");
            ensure!(scenario.counter("no_listener")? > before, "the attempt was not counted");
            Ok(())
        })?;

        let accept = format!("connection accept web {endpoint}");
        ensure!(cli.run(&format!("{accept} --account {CONSUMER}")).is_err(), "the consumer accepted for the provider");
        cli.run(&accept)?;
        let accepted = Instant::now();
        // The kernel carries what is shown as available, from the first packet on.
        eventually("the endpoint is available within a second of acceptance", Duration::from_secs(1), || {
            let shown = cli.run(&format!("endpoint describe {endpoint} --account {CONSUMER}"))?;
            ensure!(text(&shown, "state")? == "available", "{shown}");
            Ok(())
        })?;
        let mut flow = stream::connect(client, Source::ANY, FRONTEND, Duration::from_millis(200))?;
        flow.set_read_timeout(Some(PATIENCE))?;
        stream::echo(&mut flow, b"hello")?;
        ensure!(accepted.elapsed() < PATIENCE, "{:?}", accepted.elapsed());

        let ended = scenario.counter("flow_ended_with_endpoint")?;
        cli.run(&format!("connection reject web {endpoint}"))?;
        eventually("the open flow has ended", Duration::from_secs(1), || {
            ensure!(scenario.counter("flow_ended_with_endpoint")? > ended, "the flow is there");
            Ok(())
        })?;
        flow.set_read_timeout(Some(SILENCE))?;
        ensure!(stream::echo(&mut flow, b"still there?").is_err(), "the rejected endpoint's flow goes on");
        ensure!(stream::connect(client, Source::ANY, FRONTEND, SILENCE).is_err(), "a rejected endpoint connects");

        cli.run(&accept)?;
        let again = eventually("an endpoint that is accepted again connects", PATIENCE, || {
            stream::connect(client, Source::ANY, FRONTEND, Duration::from_millis(500))
        });
        stream::echo(&mut again?, b"hello again")?;
        Ok(())
    })
}
