//! Datagrams that are larger than any link, and what a client hears of a port that nobody listens on.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    link::End,
    netns::Netns,
    scenario::{ENDPOINT, NODE, Scenario},
    topology::Hook,
    traffic::{
        frames::Injector,
        server::{Behaviour, Server},
    },
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
        Test { name: "fragments_in_any_order", needs: &[], run: Run::EachHook(any_order) },
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

/// Fragments of a datagram of `payload` bytes from the client's port 40,000 to the endpoint, as Ethernet frames in
/// order.
fn fragments(scenario: &Scenario, id: u16, payload: &[u8]) -> Result<Vec<Vec<u8>>> {
    const PIECE: usize = 1480;
    let host = scenario.topology.host("client-a");
    let to_mac = End::new(&scenario.topology.lb, "consumer-a").mac()?;
    let (from, to) = (host.address().octets(), ENDPOINT.octets());
    let ip = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, from, to).context("an IP header")?;
    let udp = etherparse::UdpHeader::with_ipv4_checksum(40_000, PORT, &ip, payload).context("a UDP header")?;
    let datagram = [&udp.to_bytes()[..], payload].concat();
    let last = datagram.len().div_ceil(PIECE) - 1;
    datagram
        .chunks(PIECE)
        .enumerate()
        .map(|(number, piece)| {
            let mut ip = ip.clone();
            (ip.identification, ip.dont_fragment, ip.more_fragments) = (id, false, number != last);
            ip.fragment_offset = etherparse::IpFragOffset::try_new((number * PIECE / 8) as u16)?;
            ip.set_payload_len(piece.len())?;
            ip.header_checksum = ip.calc_header_checksum();
            let mut frame = [&to_mac[..], &host.link.mac()?, &[8, 0]].concat();
            ip.write(&mut frame)?;
            frame.extend(piece);
            Ok(frame)
        })
        .collect()
}

/// Whatever the order in which a datagram's fragments come, the target's kernel puts it together and the client gets it
/// back. Fragments whose first one never comes are counted, and no more of them wait than there is room for.
fn any_order(hook: Hook) -> Result<()> {
    with_service(hook, "UDP", PORT, CHECK, |scenario| {
        let host = server(scenario, 1);
        let _check = Server::start(&host.netns, SocketAddrV4::new(host.address(), CHECK), Behaviour::Echo)?;
        scenario.wait_healthy("svc")?;
        let serving = echo(&host.netns, host.address())?;
        let socket = client(scenario)?;
        let injector = Injector::new(&scenario.topology.host("client-a").link)?;
        let mut buffer = vec![0; 1 << 16];
        let orders: [fn(&mut Vec<Vec<u8>>); 4] = [
            |frames| frames.reverse(),
            |frames| frames.rotate_left(1),
            |frames| frames.swap(0, 1),
            |frames| {
                let middle = frames.len() / 2;
                frames[..middle].reverse();
            },
        ];
        let mut id = 0;
        for size in [2_000, 4_000, 20_000, 60_000] {
            for order in orders {
                id += 1;
                let sent: Vec<u8> = (0..size as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
                let mut frames = fragments(scenario, id, &sent)?;
                order(&mut frames);
                for frame in &frames {
                    injector.send(frame).context("sending a fragment")?;
                }
                let len = socket.recv(&mut buffer).with_context(|| format!("datagram {id} of {size} bytes"))?;
                ensure!(buffer[..len] == sent, "{size} bytes came back as {len}, or changed");
            }
        }
        ensure!(scenario.counter("fragment_orphan")? == 0, "{}", scenario.counter("fragment_orphan")?);
        // Two of the orders leave the first fragment of a short datagram where it was.
        ensure!(scenario.counter("fragments_released")? >= 14, "{}", scenario.counter("fragments_released")?);

        // More than have room wait for first fragments that never come.
        let held = scenario.counter("fragments_held")?;
        for id in 1_000..1_200 {
            let frames = fragments(scenario, id, &[7; 2_000])?;
            injector.send(&frames[1]).context("sending an orphan")?;
        }
        eventually("every orphan is counted", ORPHANS, || {
            let orphans = scenario.counter("fragment_orphan")?;
            ensure!(orphans == 200, "{orphans} orphans");
            Ok(())
        })?;
        let held = scenario.counter("fragments_held")? - held;
        ensure!((64..200).contains(&held), "{held} of 200 waited");
        let mut frames =
            fragments(scenario, 9_999, b"there is room again; there is room again".repeat(100).as_slice())?;
        frames.reverse();
        for frame in &frames {
            injector.send(frame).context("sending a fragment")?;
        }
        socket.recv(&mut buffer).context("after the orphans")?;
        socket.send(&[]).context("ending")?;
        serving.join().ok().context("the server panicked")???;
        no_checksum_errors(scenario)
    })
}

/// A fragment waits for two seconds; the collector looks for those that have waited for too long.
const ORPHANS: Duration = Duration::from_secs(30);

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
