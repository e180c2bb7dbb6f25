//! Network cards as ports: the only driver other than veth that a test can have.

use std::{fs, net::Ipv4Addr};

use anyhow::{Context as _, Result};
use privatelink_tests::{
    netns::{Netns, ip},
    scenario::Scenario,
    topology::CIDR,
};

use crate::smoke::Pair;

/// Both wires with their ends, as the machine has them: the far one is a host's, the near one is a port.
const WIRES: [(&str, &str, &str); 2] = [
    ("cards-consumer", "02:00:00:00:00:00", "02:00:00:00:00:01"),
    ("cards-provider", "02:00:00:00:01:00", "02:00:00:00:01:01"),
];

const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);

/// Gives two namespaces a card each, and the agent the cards at the other ends, in native XDP.
pub fn attach(scenario: &Scenario) -> Result<Pair> {
    let (client, server) = (Netns::new("card-client")?, Netns::new("card-server")?);
    for ((vpc, far, near), netns) in WIRES.into_iter().zip([&client, &server]) {
        let far = card(far)?;
        ip(&["link", "set", &far, "netns", netns.name()])?;
        netns.ip(&["address", "add", &format!("{HOST}/16"), "dev", &far])?;
        netns.ip(&["link", "set", &far, "up"])?;
        let near = card(near)?;
        ip(&["link", "set", &near, "name", vpc, "netns", scenario.topology.lb.name()])?;
        scenario.topology.lb.ip(&["link", "set", vpc, "up"])?;
        scenario.cli.run(&format!("vpc create {vpc} --cidr {CIDR}"))?;
        scenario.cli.run(&format!("port attach {vpc} --vpc {vpc} --hook xdp"))?;
    }
    Ok(Pair { consumer: WIRES[0].0, provider: WIRES[1].0, client, server, target: HOST })
}

/// The interface with this Ethernet address in the namespace that cards are born in.
fn card(mac: &str) -> Result<String> {
    let dir = fs::read_dir("/sys/class/net").context("the list of interfaces")?;
    let names: Vec<String> = dir.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let has = |name: &&String| {
        fs::read_to_string(format!("/sys/class/net/{name}/address")).is_ok_and(|address| address.trim() == mac)
    };
    names.iter().find(has).cloned().with_context(|| format!("no interface has the address {mac}: {names:?}"))
}
