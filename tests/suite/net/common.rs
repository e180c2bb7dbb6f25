//! What most tests start from.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use anyhow::Result;
use privatelink_tests::{
    scenario::{ENDPOINT, Scenario, Service, program},
    topology::{Hook, Host, HostPlan, VpcPlan},
};

/// How long a connection, a read or a write may take where all is well.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How soon something that must not arrive would have arrived.
pub const SILENCE: Duration = Duration::from_millis(1500);

/// Where clients connect to.
pub const FRONTEND: SocketAddrV4 = SocketAddrV4::new(ENDPOINT, 80);

/// The port that targets listen on.
pub const TARGET_PORT: u16 = 8080;

/// The address of the first client and of the first server: the same.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 10);

/// Addresses of each client. Closed connections keep their ports for a minute in TIME_WAIT, and where most ports of an
/// address are taken, the client's kernel searches long for a free one.
const CLIENT_ADDRESSES: u8 = 32;

/// Two consumers and a provider with `servers` servers, each host wired directly; every first host is [`FIRST`].
pub fn plans(servers: u8) -> Vec<VpcPlan> {
    const NAMES: [&str; 4] = ["server-1", "server-2", "server-3", "server-4"];
    let servers =
        NAMES.iter().zip(10..).take(servers.into()).map(|(name, last)| HostPlan::new(name, 1, last)).collect();
    vec![
        VpcPlan::new("consumer-a", vec![HostPlan::new("client-a", 1, 10).with_addresses(CLIENT_ADDRESSES)]),
        VpcPlan::new("consumer-b", vec![HostPlan::new("client-b", 1, 10).with_addresses(CLIENT_ADDRESSES)]),
        VpcPlan::new("provider", servers),
    ]
}

/// [`plans`] with the service `web` on port 80, published to both consumers at [`FRONTEND`].
///
/// Its targets count as initial until `servers` are started and [`Scenario::wait_healthy`] has returned.
pub fn with_web(servers: u8, hook: Hook, test: impl FnOnce(&mut Scenario) -> Result<()>) -> Result<()> {
    with_plans(plans(servers), servers, hook, test)
}

/// The same with plans of one's own.
pub fn with_plans(
    plans: Vec<VpcPlan>,
    servers: u8,
    hook: Hook,
    test: impl FnOnce(&mut Scenario) -> Result<()>,
) -> Result<()> {
    Scenario::run(&program()?, hook, plans, |scenario| {
        let targets = (1..=servers).map(|number| server(scenario, number).address()).collect();
        let service = scenario.publish(&Service::new("web", "provider", targets))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        scenario.endpoint(&service, "consumer-b", ENDPOINT)?;
        test(scenario)
    })
}

/// The server of this number, from 1.
pub fn server(scenario: &Scenario, number: u8) -> &Host {
    scenario.topology.host(&format!("server-{number}"))
}

/// Where the server of this number listens.
pub fn target(scenario: &Scenario, number: u8) -> SocketAddrV4 {
    SocketAddrV4::new(server(scenario, number).address(), TARGET_PORT)
}
