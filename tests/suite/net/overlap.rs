//! Networks that overlap in everything.

use std::net::SocketAddrV4;

use anyhow::{Result, ensure};
use privatelink_tests::{
    scenario::{ENDPOINT, NODE, Scenario, Service, program},
    topology::{Hook, HostPlan, VpcPlan},
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, TARGET_PORT},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> =
    || vec![Test { name: "equal_addresses_everywhere", needs: &[], run: Run::EachHook(equal_addresses) }];

/// Two consumers and two providers: clients, endpoints, load balancers and targets have equal addresses, and the
/// clients' 4-tuples are equal too. Each consumer reaches its own provider, and providers see the node address only.
fn equal_addresses(hook: Hook) -> Result<()> {
    let plans = vec![
        VpcPlan::new("consumer-a", vec![HostPlan::new("client-a", 1, 10)]),
        VpcPlan::new("consumer-b", vec![HostPlan::new("client-b", 1, 10)]).bridged(),
        VpcPlan::new("provider-a", vec![HostPlan::new("server-a", 1, 10)]),
        VpcPlan::new("provider-b", vec![HostPlan::new("server-b", 1, 10)]).bridged(),
    ];
    Scenario::run(&program()?, hook, plans, |scenario| {
        let mut servers = Vec::new();
        for (name, host, provider, consumer) in
            [("one", "server-a", "provider-a", "consumer-a"), ("two", "server-b", "provider-b", "consumer-b")]
        {
            let address = SocketAddrV4::new(FIRST, TARGET_PORT);
            let greeting = Behaviour::Greet(name.to_owned());
            servers.push(Server::start(&scenario.topology.host(host).netns, address, greeting)?);
            let service = scenario.publish(&Service::new(name, provider, vec![FIRST]))?;
            scenario.endpoint(&service, consumer, ENDPOINT)?;
            scenario.wait_healthy(name)?;
        }
        let source = Source { address: FIRST, port: 40_000 };
        let (a, b) = (scenario.topology.host("client-a"), scenario.topology.host("client-b"));
        let mut from_a = stream::connect(&a.netns, source, FRONTEND, PATIENCE)?;
        let mut from_b = stream::connect(&b.netns, source, FRONTEND, PATIENCE)?;
        let (greeting_a, greeting_b) = (stream::read_line(&mut from_a)?, stream::read_line(&mut from_b)?);
        ensure!(greeting_a == "one" && greeting_b == "two", "a reached {greeting_a}, b reached {greeting_b}");
        for round in 0..100 {
            stream::echo(&mut from_a, format!("a {round}").as_bytes())?;
            stream::echo(&mut from_b, format!("b {round}").as_bytes())?;
        }
        for server in &servers {
            let peers = server.peers();
            ensure!(peers.iter().all(|peer| *peer.ip() == NODE), "a server saw {peers:?}");
        }
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}
