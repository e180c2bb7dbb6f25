//! Datagrams that are larger than any link, and what a client hears of a port that nobody listens on.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    netns::Netns,
    scenario::{ENDPOINT, NODE, Scenario},
    topology::Hook,
    traffic::server::{Behaviour, Server},
};

use crate::{
    Run, Test,
    common::{PATIENCE, server},
    udp::{no_checksum_errors, with_service},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "datagrams_larger_than_the_links", needs: &[], run: Run::EachHook(large_datagrams) },
        Test { name: "port_unreachable_reaches_a_udp_client", needs: &[], run: Run::EachHook(port_unreachable) },
    ]
};

const PORT: u16 = 5300;
const CHECK: u16 = 5301;

/// Echoes datagrams until an empty one comes; how many it saw, and from whom.
fn echo(netns: &Netns, address: Ipv4Addr) -> Result<thread::JoinHandle<Result<Result<(usize, Ipv4Addr)>>>> {
    let socket = netns.run(|| UdpSocket::bind((address, PORT)))?.context("the server's socket")?;
    Ok(netns.spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        let (mut count, mut from) = (0, Ipv4Addr::UNSPECIFIED);
        loop {
            let (len, peer) = socket.recv_from(&mut buffer).context("receiving")?;
            if let std::net::IpAddr::V4(ip) = peer.ip() {
                from = ip;
            }
            if len == 0 {
                return Ok((count, from));
            }
            count += 1;
            socket.send_to(&buffer[..len], peer).context("echoing")?;
        }
    }))
}

fn client(scenario: &Scenario) -> Result<UdpSocket> {
    let host = scenario.topology.host("client-a");
    let socket = host.netns.run(|| UdpSocket::bind((host.address(), 40_000)))?.context("the client's socket")?;
    socket.connect(SocketAddrV4::new(ENDPOINT, PORT)).context("connecting")?;
    socket.set_read_timeout(Some(PATIENCE)).context("the timeout")?;
    Ok(socket)
}

/// Large datagrams go and come whole: their fragments follow the first one in both directions.
fn large_datagrams(hook: Hook) -> Result<()> {
    with_service(hook, "UDP", PORT, CHECK, |scenario| {
        let host = server(scenario, 1);
        let _check = Server::start(&host.netns, SocketAddrV4::new(host.address(), CHECK), Behaviour::Echo)?;
        scenario.wait_healthy("svc")?;
        let serving = echo(&host.netns, host.address())?;
        let socket = client(scenario)?;
        let mut buffer = vec![0; 1 << 16];
        let sizes = [1, 1472, 1473, 2960, 4000, 8000, 20_000, 60_000, 65_507];
        for round in 0..4_u32 {
            for size in sizes {
                let sent: Vec<u8> =
                    (0..size as u32).map(|n| ((n ^ round).wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                socket.send(&sent).with_context(|| format!("sending {size} bytes"))?;
                let len = socket.recv(&mut buffer).with_context(|| format!("waiting for {size} bytes"))?;
                ensure!(buffer[..len] == sent, "{size} bytes came back as {len}, or changed");
            }
        }
        socket.send(&[]).context("ending")?;
        let (count, from) = serving.join().ok().context("the server panicked")???;
        ensure!(count == 4 * sizes.len(), "the server saw {count} datagrams");
        ensure!(from == NODE, "the server saw {from}");
        ensure!(scenario.counter("fragments_forwarded")? > 700, "{}", scenario.counter("fragments_forwarded")?);
        for counter in ["fragment_orphan", "fragment_overlap", "fragment_tiny", "fragment"] {
            ensure!(scenario.counter(counter)? == 0, "{counter}: {}", scenario.counter(counter)?);
        }
        for host in scenario.topology.hosts() {
            let failed = host.netns.protocol_counter("Ip", "ReasmFails")?;
            ensure!(failed == 0, "{} could not put {failed} packets together", host.name);
        }
        no_checksum_errors(scenario)
    })
}

/// A target on which nobody listens says so by ICMP, and the client's socket hears it.
fn port_unreachable(hook: Hook) -> Result<()> {
    with_service(hook, "UDP", PORT, CHECK, |scenario| {
        let host = server(scenario, 1);
        let _check = Server::start(&host.netns, SocketAddrV4::new(host.address(), CHECK), Behaviour::Echo)?;
        scenario.wait_healthy("svc")?;
        let socket = client(scenario)?;
        socket.send(b"is anybody there?").context("sending")?;
        let heard = socket.recv(&mut [0; 64]).map_err(|error| error.kind());
        ensure!(heard == Err(ErrorKind::ConnectionRefused), "{heard:?}");
        ensure!(scenario.counter("icmp_error_translated")? == 1, "{}", scenario.counter("icmp_error_translated")?);
        Ok(())
    })
}
