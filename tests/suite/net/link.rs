//! Services without a load balancer of anybody's, and two-way links, between networks of different address classes.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Result, ensure};
use privatelink_tests::{
    daemon::Agent,
    eventually::eventually,
    programs::{Directory, Nginx, curl},
    require::Need,
    scenario::{Scenario, program, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

use crate::{
    Run, Test,
    common::{PATIENCE, SILENCE},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "a_link_leads_both_ways", needs: NEEDS, run: Run::EachHook(link) },
        Test { name: "an_address_is_published_by_itself", needs: NEEDS, run: Run::Once(published) },
    ]
};

const NEEDS: &[Need] = &[Need::Program("nginx"), Need::Program("curl")];

/// The office's server, and the cloud's.
const OFFICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 200, 0, 10), 80);
const CLOUD: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 0, 10), 8080);
/// By which the office reaches the cloud's, and the other way round.
const CLOUD_IN_OFFICE: &str = "http://10.200.0.203:80";
const OFFICE_IN_CLOUD: &str = "http://192.168.0.203:80";
/// What each server sees.
const NODE_IN_OFFICE: &str = "10.200.0.9";
const NODE_IN_CLOUD: &str = "192.168.0.9";

/// Two networks that have no address of each other, with a server in each.
fn with_two(hook: Hook, test: impl FnOnce(&mut Scenario, &[Nginx; 2]) -> Result<()>) -> Result<()> {
    let plans = vec![
        VpcPlan::new("office", vec![HostPlan::new("server-o", 1, 10)]),
        VpcPlan::new("cloud", vec![HostPlan::new("server-c", 1, 10)]),
    ];
    let topology = Topology::build(hook, plans, None)?;
    for (name, address) in [("server-o", OFFICE), ("server-c", CLOUD)] {
        topology.host(name).link.add_address(&format!("{}/16", address.ip()))?;
    }
    let agent = Agent::start(&program()?, &topology.lb)?;
    let mut scenario = Scenario { cli: agent.cli(), agent, topology };
    for (vpc, cidr) in [("office", "10.200.0.0/16"), ("cloud", "192.168.0.0/16")] {
        scenario.cli.run(&format!("vpc create {vpc} --cidr {cidr}"))?;
        scenario.cli.run(&format!("port attach {vpc} --vpc {vpc} --hook {}", hook.name()))?;
    }
    let start = |name: &str, address, text: &str| {
        Nginx::start(&scenario.topology.host(name).netns, Directory::new(name)?, address, text)
    };
    let servers =
        [start("server-o", OFFICE, "hello from the office")?, start("server-c", CLOUD, "hello from the cloud")?];
    let result = test(&mut scenario, &servers);
    anyhow::Context::with_context(result, || scenario.diagnosis())
}

/// What `host` gets from `url`, once it gets anything.
fn fetched(scenario: &Scenario, host: &str, url: &str) -> Result<String> {
    eventually(&format!("{host} fetches {url}"), PATIENCE * 3, || {
        curl(&scenario.topology.host(host).netns, &["--max-time", "2", url])
    })
}

/// Each side fetches from the other by an address of its own network and is seen as the other network's node address;
/// nothing else becomes reachable, and the link goes as it came.
fn link(hook: Hook) -> Result<()> {
    with_two(hook, |scenario, [office, cloud]| {
        let sides = [
            format!("vpc=office,target={OFFICE},address=10.200.0.203,node={NODE_IN_OFFICE}"),
            format!("vpc=cloud,target={CLOUD},port=80,address=192.168.0.203,node={NODE_IN_CLOUD}"),
        ];
        let [first, second] = &sides;
        let line = format!("link create masquerade --side {first} --side {second}");
        let made = scenario.cli.run(&line)?;
        ensure!(scenario.cli.run(&line)? == made, "creating it again made another");
        ensure!(fetched(scenario, "server-o", CLOUD_IN_OFFICE)? == "hello from the cloud");
        ensure!(fetched(scenario, "server-c", OFFICE_IN_CLOUD)? == "hello from the office");
        for (server, node) in [(office, NODE_IN_OFFICE), (cloud, NODE_IN_CLOUD)] {
            let clients = server.logged_clients(1)?;
            ensure!(clients.iter().all(|client| client == node), "{clients:?}, not {node}");
        }

        let beside = curl(
            &scenario.topology.host("server-o").netns,
            &["--max-time", &SILENCE.as_secs_f32().to_string(), "http://10.200.0.203:8080"],
        );
        ensure!(beside.is_err(), "another port leads somewhere: {beside:?}");
        let endpoint = text(&made["sides"][0], "endpoint")?;
        let refused = scenario.cli.run(&format!("endpoint delete {endpoint}"));
        ensure!(
            refused.is_err_and(|error| format!("{error:#}").contains("part of the link")),
            "half a link was deleted"
        );

        scenario.cli.run("link delete masquerade")?;
        let service = scenario.cli.run("endpoint-service list")?;
        ensure!(service.as_array().is_some_and(Vec::is_empty), "left behind: {service}");
        eventually("nothing answers any more", PATIENCE, || {
            let left = curl(&scenario.topology.host("server-o").netns, &["--max-time", "1", CLOUD_IN_OFFICE]);
            ensure!(left.is_err(), "{left:?}");
            Ok(())
        })?;
        ensure!(scenario.topology.checksum_errors()? == 0);
        Ok(())
    })
}

/// An endpoint leads to an address for which nobody has made a load balancer.
fn published() -> Result<()> {
    with_two(Hook::Tc, |scenario, [_, cloud]| {
        let made = scenario.cli.run(&format!("endpoint-service create --vpc cloud --target {CLOUD} --name page"))?;
        ensure!(made["published"]["targets"][0]["port"] == 8080, "{made}");
        scenario.cli.run("endpoint create --service-name page --vpc office --address 10.200.0.203")?;
        let url = "http://10.200.0.203:8080";
        ensure!(fetched(scenario, "server-o", url)? == "hello from the cloud");
        cloud.logged_clients(1)?;
        scenario.cli.run("endpoint delete office/10.200.0.203")?;
        scenario.cli.run("endpoint-service delete page")?;
        for what in ["load-balancer", "target-group", "listener"] {
            let left = scenario.cli.run(&format!("{what} list"))?;
            ensure!(left.as_array().is_some_and(Vec::is_empty), "left behind: {left}");
        }
        Ok(())
    })
}
