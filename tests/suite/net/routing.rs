//! The topology and the traffic themselves, over a host that only routes: what fails here is not the datapath's fault.

use std::{net::SocketAddrV4, time::Duration};

use anyhow::{Result, ensure};
use privatelink_tests::{
    link::End,
    require::Need,
    topology::{Hook, HostPlan, Topology, VpcPlan},
    traffic::{
        churn::{self, CloseFirst},
        fleet::{Fleet, Servers},
        frames::{Forged, Injector, Segment, after},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{Run, Test};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![Test {
        name: "plain_routing_carries_the_traffic",
        needs: &[Need::WholeMachine],
        run: Run::EachHook(plain_routing),
    }]
};

/// Connections at once: enough for several processes on each side.
const HELD: usize = 16_000;

fn plain_routing(hook: Hook) -> Result<()> {
    let topology = Topology::build(
        hook,
        vec![
            VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10).with_addresses(4)]).bridged(),
            VpcPlan::new("provider", vec![HostPlan::new("server", 2, 10)]),
        ],
        None,
    )?;
    let (client, server) = (topology.host("client"), topology.host("server"));
    for host in [client, server] {
        for address in &host.addresses {
            let port = if host.name == "client" { "consumer" } else { "provider" };
            topology.lb.ip(&["route", "add", &format!("{address}/32"), "dev", port])?;
        }
    }
    topology.lb.sysctl("ipv4.ip_forward", "1")?;
    topology.lb.sysctl("ipv4.conf.all.proxy_arp", "1")?;

    let to = SocketAddrV4::new(server.address(), 8080);
    let timeout = Duration::from_secs(5);
    let echo = Server::start(&server.netns, to, Behaviour::Echo)?;
    let mut one = stream::connect(&client.netns, Source { address: client.addresses[1], port: 40_000 }, to, timeout)?;
    stream::echo(&mut one, b"hello")?;
    ensure!(
        echo.peers().contains(&SocketAddrV4::new(client.addresses[1], 40_000)),
        "the server saw {:?}",
        echo.peers()
    );
    ensure!(stream::max_segment(&one)? == 1448, "segments of {}", stream::max_segment(&one)?);
    stream::transfer(&one, 32 << 20)?;

    drop((one, echo));
    let mut servers = Servers::start(&server.netns, to, HELD)?;
    let mut fleet = Fleet::open(&client.netns, &client.addresses, to, HELD)?;
    fleet.tally.all_succeeded()?;
    fleet.echo_all()?.all_succeeded()?;
    fleet.close_one()?;
    let ports = servers.peer_ports()?.len();
    ensure!(ports > HELD / 4, "{ports} different ports from four addresses");
    drop((fleet, servers));

    let _echo = Server::start(&server.netns, to, Behaviour::Echo)?;
    let closing = SocketAddrV4::new(server.address(), 8081);
    let closes = Server::start(&server.netns, closing, Behaviour::EchoThenClose)?;
    for (to, rate, close_first) in [(to, 1000, CloseFirst::Client), (closing, 500, CloseFirst::Server)] {
        let plan =
            churn::Plan { sources: client.addresses.clone(), to, rate, duration: Duration::from_secs(2), close_first };
        let report = churn::churn(&client.netns, &plan)?;
        report.tally.all_succeeded()?;
        ensure!(report.rate() > f64::from(rate) * 0.9, "{:.0} connections a second", report.rate());
    }
    ensure!(closes.accepted() > 900, "{} connections", closes.accepted());

    let injector = Injector::new(&client.link)?;
    let forged = Forged {
        from_mac: client.link.mac()?,
        to_mac: End::new(&topology.lb, "consumer").mac()?,
        from: SocketAddrV4::new(client.address(), 1),
        to,
        segment: Segment::Syn,
        sequence: 1,
    };
    ensure!(injector.flood(forged, after(Duration::from_millis(200)))? > 1000, "too slow a flood");
    let errors = topology.checksum_errors()?;
    ensure!(errors == 0, "{errors} checksum errors");
    Ok(())
}
