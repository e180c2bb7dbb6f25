//! What must not get through.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    link::End,
    scenario::{ENDPOINT, NODE},
    topology::{Hook, Host},
    traffic::{
        frames::{Forged, Injector, Segment},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, SILENCE, TARGET_PORT, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "provider_cannot_open_towards_a_consumer", needs: &[], run: Run::EachHook(provider) },
        Test { name: "consumer_reaches_nothing_but_the_endpoint", needs: &[], run: Run::EachHook(consumer) },
        Test { name: "arp_speaks_for_owned_addresses_only", needs: &[], run: Run::EachHook(arp) },
        Test { name: "host_stack_sees_nothing", needs: &[], run: Run::EachHook(host_stack) },
        Test { name: "shared_port_passes_on_what_is_not_ours", needs: &[], run: Run::EachHook(shared) },
    ]
};

/// Tells `host` that `address` is at the datapath's interface `port`.
fn point(host: &Host, address: Ipv4Addr, port: &End) -> Result<()> {
    let mac = port.mac()?.map(|byte| format!("{byte:02x}")).join(":");
    host.netns.ip(&["neighbour", "replace", &address.to_string(), "lladdr", &mac, "dev", "eth0"])
}

fn unreachable(host: &Host, to: SocketAddrV4) -> Result<()> {
    let connected = stream::connect(&host.netns, Source::ANY, to, SILENCE);
    ensure!(connected.is_err(), "{} reached {to}", host.name);
    Ok(())
}

fn provider(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let (client, host) = (scenario.topology.host("client-a"), server(scenario, 1));
        let secret = SocketAddrV4::new(client.addresses[3], TARGET_PORT);
        let listening = Server::start(&client.netns, secret, Behaviour::Echo)?;
        let source = Source { address: FIRST, port: 40_000 };
        let mut flow = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
        stream::echo(&mut flow, b"hello")?;

        unreachable(host, secret)?;
        point(host, *secret.ip(), &End::new(&scenario.topology.lb, "provider"))?;
        let dropped = scenario.counter("not_ours")?;
        unreachable(host, secret)?;
        ensure!(scenario.counter("not_ours")? > dropped, "the attempt was not counted");

        let dropped = scenario.counter("syn_from_target")?;
        unreachable(host, SocketAddrV4::new(NODE, 40_000))?;
        ensure!(scenario.counter("syn_from_target")? > dropped, "the attempt was not counted");
        ensure!(listening.accepted() == 0, "the consumer's server was reached");
        stream::echo(&mut flow, b"undisturbed")?;
        Ok(())
    })
}

fn consumer(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        let hidden = SocketAddrV4::new(server(scenario, 1).address(), 22);
        let private = Server::start(&server(scenario, 1).netns, hidden, Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let dropped = scenario.counter("no_listener")?;
        unreachable(client, SocketAddrV4::new(ENDPOINT, 22))?;
        unreachable(client, SocketAddrV4::new(ENDPOINT, TARGET_PORT))?;
        ensure!(scenario.counter("no_listener")? >= dropped + 2, "the attempts were not counted");
        // The load balancer's own address belongs to the provider's network only.
        unreachable(client, SocketAddrV4::new(NODE, 80))?;
        point(client, NODE, &End::new(&scenario.topology.lb, "consumer-a"))?;
        let before = echo.accepted();
        let dropped = scenario.counter("not_ours")?;
        unreachable(client, SocketAddrV4::new(NODE, 80))?;
        ensure!(scenario.counter("not_ours")? > dropped, "the attempt was not counted");
        ensure!(private.accepted() == 0, "a port without a listener was reached");
        // Health checks go on meanwhile: at most a few connections more.
        ensure!(echo.accepted() <= before + 2, "the target was reached by a way that is none");
        Ok(())
    })
}

fn arp(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let mut flow = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut flow, b"hello")?;
        let port = End::new(&scenario.topology.lb, "consumer-a");
        let answers = scenario.counter("arp_answered")?;
        ensure!(answers > 0, "no ARP request was answered");
        // An address that nobody has.
        unreachable(client, SocketAddrV4::new(Ipv4Addr::new(10, 0, 9, 9), 80))?;

        // The client's machine claims the endpoint's address for itself.
        let forged = scenario.counter("arp_forged")?;
        let mac = client.link.mac()?;
        let mut frame = Vec::from([0xff; 6]);
        frame.extend(mac);
        frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        frame.extend(mac);
        frame.extend(ENDPOINT.octets());
        frame.extend([0; 6]);
        frame.extend(ENDPOINT.octets());
        Injector::new(&client.link)?.send(&frame).context("sending a gratuitous ARP")?;
        eventually("the forged claim is counted", PATIENCE, || {
            ensure!(scenario.counter("arp_forged")? > forged, "it is not");
            Ok(())
        })?;
        let mut again = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut again, b"still the endpoint")?;
        ensure!(port.mac()? != mac, "the port has the client's Ethernet address");
        Ok(())
    })
}

/// The load balancer's own stack answers nobody on an isolated port, even with an address and an open port.
fn host_stack(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let own = Ipv4Addr::new(10, 0, 3, 3);
        let port = End::new(&scenario.topology.lb, "consumer-a");
        port.add_address(&format!("{own}/16"))?;
        let open = Server::start(&scenario.topology.lb, SocketAddrV4::new(own, 80), Behaviour::Echo)?;
        let client = scenario.topology.host("client-a");
        unreachable(client, SocketAddrV4::new(own, 80))?;
        point(client, own, &port)?;
        unreachable(client, SocketAddrV4::new(own, 80))?;
        let frame = Forged {
            from_mac: client.link.mac()?,
            to_mac: port.mac()?,
            from: SocketAddrV4::new(FIRST, 1234),
            to: SocketAddrV4::new(own, 80),
            segment: Segment::Syn,
            sequence: 1,
        };
        Injector::new(&client.link)?.send(&frame.frame()?).context("sending a SYN")?;
        ensure!(open.accepted() == 0, "the host's stack was reached");
        Ok(())
    })
}

/// On a shared port the host's own stack answers for its own address, and the endpoint works beside it.
fn shared(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let own = SocketAddrV4::new(Ipv4Addr::new(10, 0, 3, 3), 22);
        End::new(&scenario.topology.lb, "consumer-a").add_address(&format!("{}/16", own.ip()))?;
        let _host = Server::start(&scenario.topology.lb, own, Behaviour::Greet("the host".to_owned()))?;
        let client = scenario.topology.host("client-a");
        unreachable(client, own)?;
        scenario.cli.run(&format!("port attach consumer-a --vpc consumer-a --hook {} --shared", hook.name()))?;
        eventually("the host's own service answers", PATIENCE, || {
            let mut stream = stream::connect(&client.netns, Source::ANY, own, SILENCE)?;
            ensure!(stream::read_line(&mut stream)? == "the host", "somebody else answered");
            Ok(())
        })?;
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"through the endpoint")?;
        ensure!(scenario.counter("passed_to_host")? > 0, "nothing was counted as passed on");
        Ok(())
    })
}
