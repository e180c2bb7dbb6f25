//! Zone affinity of a load balancer's name: which zones whoever asks is told, by `dns_record.client_routing_policy`.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    daemon::Agent,
    dns::{Answer, dig},
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Nginx},
    require::Need,
    scenario::{QUICK_CHECKS, Scenario, program, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

use crate::{
    Run, Test,
    common::{PATIENCE, server, target},
    dns::SECOND,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "a_name_favours_the_zone_of_who_asks", needs: NEEDS, run: Run::EachHook(in_own_table) },
        Test { name: "a_zone_is_seen_by_flows_of_the_stash", needs: NEEDS, run: Run::Once(in_the_reference_table) },
    ]
};

const NEEDS: &[Need] = &[Need::Program("dig"), Need::Program("nginx")];

/// The agent's server for hosts outside.
const OUTSIDE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_302);

/// The nodes in zones a and b.
const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 1, 5), Ipv4Addr::new(10, 0, 2, 5)];

/// Answers that a share is measured by. One of 85 in 100 is outside 60 to 99 of them once in ten million tries.
const ASKED: usize = 100;

/// Each VPC's subnets: the third byte of the range, and the zone. Where `consumer-a` has zone b, `consumer-b` has zone
/// a.
const SUBNETS: [(&str, u8, char); 5] = [
    ("consumer-a", 1, 'a'),
    ("consumer-a", 2, 'b'),
    ("consumer-b", 2, 'a'),
    ("provider", 1, 'a'),
    ("provider", 2, 'b'),
];

fn plans() -> Vec<VpcPlan> {
    let client = |name, third| HostPlan::new(name, third, 10);
    vec![
        VpcPlan::new("consumer-a", vec![client("client-a1", 1), client("client-a2", 2), client("client-a3", 3)]),
        VpcPlan::new("consumer-b", vec![client("client-b2", 2)]),
        VpcPlan::new("provider", vec![client("server-1", 1), client("server-2", 2)]),
    ]
}

fn in_own_table(hook: Hook) -> Result<()> {
    with_zones(hook, &[], policies)
}

fn in_the_reference_table() -> Result<()> {
    with_zones(Hook::Auto, &["--reference-table"], |scenario, name| {
        let _servers = (start(scenario, 1)?, start(scenario, 2)?);
        set_policy(scenario, "availability_zone_affinity")?;
        let [a, b] = NODES;
        told(scenario, name, &[("client-a1", &[a]), ("client-a2", &[b]), ("client-a3", &NODES)])
    })
}

fn with_zones(hook: Hook, arguments: &[&str], test: impl FnOnce(&mut Scenario, &str) -> Result<()>) -> Result<()> {
    let topology = Topology::build(hook, plans(), None)?;
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).chain([format!("--dns={OUTSIDE}")]);
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments.collect())?;
    let mut scenario = Scenario::configure(topology, agent)?;
    for (vpc, third, zone) in SUBNETS {
        scenario.cli.run(&format!("subnet create --vpc {vpc} --cidr 10.0.{third}.0/24 --zone us-east-1{zone}"))?;
    }
    for line in [
        "load-balancer create web --vpc provider --address 10.0.1.5 10.0.2.5",
        &format!("target-group create web --vpc provider --protocol TCP --port 8080 {QUICK_CHECKS}"),
        "target register web 10.0.1.10 10.0.2.10",
        "listener create web --protocol TCP --port 80 --target-group web",
    ] {
        scenario.cli.run(line)?;
    }
    let described = scenario.cli.run("load-balancer describe web")?;
    let name = text(&described, "dns_name")?;
    let result = test(&mut scenario, name);
    result.with_context(|| scenario.diagnosis())
}

fn start(scenario: &Scenario, number: u8) -> Result<Nginx> {
    let (name, address) = (format!("server-{number}"), target(scenario, number));
    Nginx::start(&server(scenario, number).netns, Directory::new(&name)?, address, &name)
}

fn set_policy(scenario: &Scenario, policy: &str) -> Result<()> {
    scenario.cli.run(&format!("load-balancer modify web --attribute dns_record.client_routing_policy={policy}"))?;
    Ok(())
}

fn ask(netns: &Netns, at: SocketAddrV4, transport: &str, name: &str) -> Result<Vec<Ipv4Addr>> {
    let answer: Answer = dig(netns, at, &["+tries=1", "+time=2", transport, name])?;
    let expected = if transport == "+tcp" { "TCP" } else { "UDP" };
    ensure!(answer.status == "NOERROR" && answer.transport == expected, "{answer:?}");
    answer.addresses()
}

/// Waits until each host is told these addresses, by UDP and by TCP.
fn told(scenario: &Scenario, name: &str, expected: &[(&str, &[Ipv4Addr])]) -> Result<()> {
    for (host, nodes) in expected {
        for transport in ["+notcp", "+tcp"] {
            eventually(&format!("{host} is told {nodes:?} by {transport}"), 6 * PATIENCE, || {
                let found = ask(&scenario.topology.host(host).netns, SECOND, transport, name)?;
                ensure!(found == *nodes, "{found:?}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

fn policies(scenario: &mut Scenario, name: &str) -> Result<()> {
    let [a, b] = NODES;
    let (first, second) = (start(scenario, 1)?, start(scenario, 2)?);
    let everybody: [(&str, &[Ipv4Addr]); 4] =
        [("client-a1", &NODES), ("client-a2", &NODES), ("client-a3", &NODES), ("client-b2", &NODES)];
    told(scenario, name, &everybody)?;

    // By the address that each has in its own VPC: the same range is another zone in another VPC.
    set_policy(scenario, "availability_zone_affinity")?;
    let own: [(&str, &[Ipv4Addr]); 5] =
        [("client-a1", &[a]), ("client-a2", &[b]), ("client-a3", &NODES), ("client-b2", &[a]), ("server-2", &[b])];
    told(scenario, name, &own)?;
    for _ in 0..ASKED / 10 {
        for (host, nodes) in own {
            let found = ask(&scenario.topology.host(host).netns, SECOND, "+notcp", name)?;
            ensure!(found == *nodes, "{host} was told {found:?} once");
        }
    }
    // Outside every VPC nobody has a zone, and a zone's own name is asked for by its name.
    ensure!(ask(&scenario.topology.lb, OUTSIDE, "+notcp", name)? == NODES);
    let zonal = format!("us-east-1b.{name}");
    ensure!(ask(&scenario.topology.host("client-a1").netns, SECOND, "+notcp", &zonal)? == [b]);

    set_policy(scenario, "partial_availability_zone_affinity")?;
    let client = &scenario.topology.host("client-a2").netns;
    let mut near = 0;
    for number in 0..ASKED {
        let found = ask(client, SECOND, if number % 2 == 0 { "+notcp" } else { "+tcp" }, name)?;
        ensure!(found == [b] || found == NODES, "{found:?}");
        near += usize::from(found == [b]);
    }
    ensure!((60..ASKED).contains(&near), "{near} of {ASKED} answers had the zone of who asked alone");

    // A zone without a healthy target is nobody's; if there is no other, none is better.
    set_policy(scenario, "availability_zone_affinity")?;
    drop(second);
    told(scenario, name, &[("client-a1", &[a]), ("client-a2", &[a]), ("client-b2", &[a])])?;
    drop(first);
    told(scenario, name, &everybody)?;
    let _second = start(scenario, 2)?;
    told(scenario, name, &[("client-a1", &[b]), ("client-a2", &[b])])?;
    let _first = start(scenario, 1)?;
    told(scenario, name, &own)?;

    // Another agent goes on with the tables that it finds.
    scenario.agent.kill()?;
    scenario.agent.start_again()?;
    told(scenario, name, &own)?;
    set_policy(scenario, "any_availability_zone")?;
    told(scenario, name, &everybody)
}
