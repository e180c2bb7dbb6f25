//! ICMP translation held against an independent one: the kernel's own NAT, fed the same errors about the same
//! connections.

use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result, ensure};
use privatelink_ebpf::{
    abi::{Mac, Proto},
    testing::{
        icmp::Icmp,
        packet::{Tcp, internet_checksum},
    },
    wire::{PROTO_ICMP, tcp::Flags},
};
use privatelink_tests::{
    link::End,
    nft,
    require::Need,
    scenario::{ENDPOINT, NODE, Scenario, Service, program},
    topology::{Hook, Host, HostPlan, Topology, VpcPlan},
    traffic::{
        frames::{Injector, Sniffer},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, TARGET_PORT},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![Test {
        name: "icmp_errors_are_translated_as_nftables_does",
        needs: &[Need::Program("nft")],
        run: Run::Once(compare),
    }]
};

/// Addresses that do not overlap: the kernel's NAT has one network.
const CLIENT: (u8, u8) = (1, 10);
const TARGET: (u8, u8) = (1, 20);
const CLIENT_PORT: u16 = 40_000;
/// Somebody on the way, whom neither network may show to the other.
const ROUTER: [u8; 4] = [10, 0, 99, 1];

/// An error to send: type, code, last four bytes of the header, quoted bytes, who says so, type of service, and the
/// quoted segment's payload.
struct Row {
    kind: u8,
    code: u8,
    rest: [u8; 4],
    quoted: usize,
    from_router: bool,
    tos: u8,
    payload: usize,
}

/// Every kind with every length of quote.
fn rows() -> Vec<Row> {
    let kinds = [
        (3, 0, [0; 4]),
        (3, 1, [0; 4]),
        (3, 3, [0; 4]),
        (3, 4, [0, 0, 5, 0x78]),
        (3, 4, [0, 0, 2, 0x40]),
        (3, 13, [0; 4]),
        (11, 0, [0; 4]),
        (11, 1, [0; 4]),
        (12, 0, [20, 0, 0, 0]),
    ];
    let mut rows = Vec::new();
    for (kind, code, rest) in kinds {
        for (quoted, payload) in [(28, 100), (36, 100), (38, 100), (40, 0), (61, 100), (141, 101), (548, 508)] {
            for from_router in [false, true] {
                let tos = if from_router { 0xc0 } else { 0 };
                rows.push(Row { kind, code, rest, quoted, from_router, tos, payload });
            }
        }
    }
    rows
}

fn plans() -> Vec<VpcPlan> {
    vec![
        VpcPlan::new("consumer", vec![HostPlan::new("client", CLIENT.0, CLIENT.1)]),
        VpcPlan::new("provider", vec![HostPlan::new("server", TARGET.0, TARGET.1)]),
    ]
}

fn compare() -> Result<()> {
    let mut ours = None;
    Scenario::run(&program()?, Hook::Tc, plans(), |scenario| {
        let target = scenario.topology.host("server").address();
        let service = scenario.publish(&Service::new("web", "provider", vec![target]))?;
        scenario.endpoint(&service, "consumer", ENDPOINT)?;
        let rows = rows().len() as u64;
        ours = Some(exchange(&scenario.topology, |()| scenario.wait_healthy("web"))?);
        let translated = scenario.counter("icmp_error_translated")?;
        ensure!(translated == 2 * rows, "{translated} of {} errors were translated", 2 * rows);
        Ok(())
    })?;
    let ours = ours.context("nothing was sent")?;
    let theirs = kernel_nat()?;
    ensure!(ours.len() == theirs.len(), "{} and {} errors arrived", ours.len(), theirs.len());
    for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        ensure!(ours == theirs, "error {number}: ours\n{ours:02x?}\nthe kernel's\n{theirs:02x?}");
    }
    Ok(())
}

/// The same service made of nftables rules.
fn kernel_nat() -> Result<Vec<Vec<u8>>> {
    let topology = Topology::build(Hook::Tc, plans(), None)?;
    let lb = &topology.lb;
    for (port, host, own) in [("consumer", "client", ENDPOINT), ("provider", "server", NODE)] {
        End::new(lb, port).add_address(&format!("{own}/32"))?;
        lb.ip(&["route", "add", &format!("{}/32", topology.host(host).address()), "dev", port])?;
    }
    // Where the router of the errors is does not matter, only that it is somewhere.
    lb.ip(&["route", "add", "10.0.99.0/24", "dev", "provider"])?;
    lb.sysctl("ipv4.ip_forward", "1")?;
    for interface in ["all", "consumer", "provider"] {
        lb.sysctl(&format!("ipv4.conf.{interface}.rp_filter"), "0")?;
    }
    let target = topology.host("server").address();
    nft::load(
        lb,
        &format!(
            "table ip nat {{\n\
             chain in {{ type nat hook prerouting priority -100; \
             ip daddr {ENDPOINT} tcp dport 80 dnat to {target}:{TARGET_PORT}; }}\n\
             chain out {{ type nat hook postrouting priority 100; oifname provider snat to {NODE}; }}\n}}\n"
        ),
    )?;
    exchange(&topology, |()| Ok(()))
}

/// Opens a connection through whatever is in the middle, sends every error both ways, and returns what arrives, with
/// what the two are free to choose taken out.
fn exchange(topology: &Topology, ready: impl FnOnce(()) -> Result<()>) -> Result<Vec<Vec<u8>>> {
    let (client, server) = (topology.host("client"), topology.host("server"));
    let target = SocketAddrV4::new(server.address(), TARGET_PORT);
    let listening = Server::start(&server.netns, target, Behaviour::Echo)?;
    ready(())?;
    let listen = |protocol| {
        Ok::<_, anyhow::Error>((Sniffer::new(&client.link, protocol)?, Sniffer::new(&server.link, protocol)?))
    };
    let (segments_at_client, segments_at_server) = listen(Proto::Tcp.number())?;
    let (at_client, at_server) = listen(PROTO_ICMP)?;
    let source = Source { address: client.address(), port: CLIENT_PORT };
    let mut stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
    stream::echo(&mut stream, b"hello")?;
    // The last segment that carried data each way, as it was where it arrived.
    let arrived = |sniffer: &Sniffer, payload: &[u8]| -> Result<Tcp> {
        let frame = sniffer.next(PATIENCE, |frame| Tcp::parse(frame).is_some_and(|tcp| tcp.payload == payload))?;
        Tcp::parse(&frame.context("the segment was not seen")?).context("a segment")
    };
    let request = arrived(&segments_at_server, b"hello")?;
    let reply = arrived(&segments_at_client, b"hello")?;
    ensure!(listening.peers().contains(&SocketAddrV4::new(NODE, request.src_port)), "{:?}", listening.peers());

    let mut seen = Vec::new();
    for row in rows() {
        let error = send(server, topology, "provider", &request, &row, &at_client)?;
        let sent_to = SocketAddrV4::new(client.address(), CLIENT_PORT);
        seen.push(judged(&error, ENDPOINT, &row, sent_to, FRONTEND, &request)?);
        let error = send(client, topology, "consumer", &reply, &row, &at_server)?;
        let node = SocketAddrV4::new(NODE, request.src_port);
        seen.push(judged(&error, NODE, &row, target, node, &reply)?);
    }
    stream::echo(&mut stream, b"still there")?;
    Ok(seen)
}

/// Sends the error of `row` about a segment from the host where it arrived; what arrives at the other host.
fn send(from: &Host, topology: &Topology, port: &str, arrived: &Tcp, row: &Row, there: &Sniffer) -> Result<Vec<u8>> {
    let quoted = Tcp {
        flags: Flags(0x18),
        id: 0x4321,
        ttl: 61,
        options: Vec::new(),
        payload: (0..row.payload).map(|n| n as u8).collect(),
        ..arrived.clone()
    };
    let mut body = quoted.build().split_off(14);
    body.truncate(row.quoted);
    let message = Icmp {
        src_mac: Mac(from.link.mac()?),
        dst_mac: Mac(End::new(&topology.lb, port).mac()?),
        src: if row.from_router { ROUTER } else { from.address().octets() },
        dst: arrived.src,
        tos: row.tos,
        kind: row.kind,
        code: row.code,
        rest: row.rest,
        body,
        ..Icmp::default()
    };
    Injector::new(&from.link)?.send(&message.build()).context("sending an error")?;
    let (kind, code) = (row.kind, row.code);
    let arrived =
        there.next(PATIENCE, |frame| frame.get(23) == Some(&1) && frame.get(34..36) == Some(&[kind, code]))?;
    arrived.with_context(|| format!("type {kind}, code {code}, {} bytes quoted: nothing arrived", row.quoted))
}

/// Checks every address, port and checksum of an error that arrived, and takes out what differs from connection to
/// connection: Ethernet addresses, sequence numbers, the node port, and the checksums over them.
fn judged(
    frame: &[u8],
    from: Ipv4Addr,
    row: &Row,
    sender: SocketAddrV4,
    receiver: SocketAddrV4,
    arrived: &Tcp,
) -> Result<Vec<u8>> {
    let mut packet = frame[14..].to_vec();
    let four = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
    let port = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    ensure!((four(12), four(16)) == (from, *sender.ip()), "from {} to {}", four(12), four(16));
    ensure!(packet[8] == 63, "TTL {}", packet[8]);
    ensure!(packet.len() == 28 + row.quoted, "{} bytes", packet.len());
    ensure!(internet_checksum(&[&packet[..20]]) == 0, "the IP checksum is wrong");
    ensure!(internet_checksum(&[&packet[20..]]) == 0, "the ICMP checksum is wrong");
    ensure!(internet_checksum(&[&packet[28..48]]) == 0, "the quoted IP checksum is wrong");
    let quoted = (SocketAddrV4::new(four(40), port(48)), SocketAddrV4::new(four(44), port(50)));
    ensure!(quoted == (sender, receiver), "quoted {quoted:?}, not {:?}", (sender, receiver));
    ensure!(packet[52..56] == arrived.seq.to_be_bytes(), "the quoted sequence number differs");
    // A segment that is quoted whole is right to its last checksum.
    if row.quoted == 40 + row.payload {
        let len = (20 + row.payload) as u16;
        let pseudo = [&packet[40..48], &[0, 6], &len.to_be_bytes()].concat();
        ensure!(internet_checksum(&[&pseudo, &packet[48..]]) == 0, "the quoted TCP checksum is wrong");
    }
    // IP, ICMP and quoted TCP checksum; node port; numbers.
    let mut clear = |range: std::ops::Range<usize>| {
        let end = range.end.min(packet.len());
        packet[range.start.min(end)..end].fill(0);
    };
    clear(22..24);
    clear(52..60);
    clear(64..66);
    for (at, socket) in [(48, sender), (50, receiver)] {
        if *socket.ip() == NODE {
            clear(at..at + 2);
        }
    }
    Ok(packet)
}
