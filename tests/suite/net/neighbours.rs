//! Neighbours who mean harm send as fast as they can; others do not notice.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use etherparse::{IpFragOffset, IpHeaders, IpNumber, Ipv4Header, PacketBuilder};
use privatelink_tests::{
    link::End,
    nft,
    require::Need,
    scenario::{ENDPOINT, NODE, Scenario},
    topology::{Hook, Host},
    traffic::{
        churn::{self, CloseFirst, Plan},
        frames::{Forged, Injector, Segment},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, TARGET_PORT, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![Test {
        name: "storms_of_one_neighbour_spare_the_others",
        needs: &[Need::Program("nft"), Need::WholeMachine],
        run: Run::EachHook(storms),
    }]
};

/// A connection of the host that sends storms, of which it sends segments again.
const REPLAYED: SocketAddrV4 = SocketAddrV4::new(FIRST, 40_001);

/// How long each storm lasts.
const LASTING: Duration = Duration::from_secs(3);

/// The Ethernet addresses of who sends and of the port.
#[derive(Clone, Copy)]
struct Aim {
    from: [u8; 6],
    port: [u8; 6],
}

/// Who sends a storm.
#[derive(Clone, Copy)]
enum Sender {
    /// A host of consumer a.
    Consumer,
    /// The provider's target.
    Target,
}

/// A kind of frame in quantity.
struct Storm {
    what: &'static str,
    sender: Sender,
    /// What nearly every frame is counted as; none: they go to the target, whose TCP knows better.
    counted: Option<&'static str>,
    /// A frame; the number is another each time.
    frame: fn(Aim, u32) -> Result<Vec<u8>>,
}

const STORMS: &[Storm] = &[
    Storm {
        what: "connections to every port",
        sender: Sender::Consumer,
        counted: Some("no_listener"),
        frame: |aim, random| segment(aim, nobody(random), SocketAddrV4::new(ENDPOINT, random as u16 | 1), Segment::Syn),
    },
    Storm {
        what: "datagrams to every port",
        sender: Sender::Consumer,
        counted: Some("no_listener"),
        frame: |aim, random| datagram(aim, nobody(random), SocketAddrV4::new(ENDPOINT, random as u16 | 1), 0),
    },
    Storm {
        what: "segments of no connection",
        sender: Sender::Consumer,
        counted: Some("no_flow"),
        frame: |aim, random| segment(aim, nobody(random), FRONTEND, Segment::Ack),
    },
    Storm {
        what: "later fragments of nothing",
        sender: Sender::Consumer,
        counted: Some("fragment_orphan"),
        frame: |aim, random| datagram(aim, nobody(random), FRONTEND, 185),
    },
    Storm {
        what: "echo requests",
        sender: Sender::Consumer,
        counted: Some("icmp_limited"),
        frame: |aim, random| {
            let packet =
                PacketBuilder::ethernet2(aim.from, aim.port).ipv4(nobody(random).ip().octets(), ENDPOINT.octets(), 64);
            let echo = packet.icmpv4_echo_request(random as u16, 1);
            let mut frame = Vec::new();
            echo.write(&mut frame, b"are you there?").context("building a frame")?;
            Ok(frame)
        },
    },
    Storm {
        what: "the endpoint's own address as the source",
        sender: Sender::Consumer,
        counted: Some("spoofed_source"),
        frame: |aim, random| segment(aim, SocketAddrV4::new(ENDPOINT, random as u16 | 1), FRONTEND, Segment::Syn),
    },
    Storm {
        what: "claims to the endpoint's address by ARP",
        sender: Sender::Consumer,
        counted: Some("arp_forged"),
        frame: |aim, _| {
            let mut frame = Vec::from([0xff; 6]);
            frame.extend(aim.from);
            frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
            frame.extend(aim.from);
            frame.extend(ENDPOINT.octets());
            frame.extend([0; 6]);
            frame.extend(ENDPOINT.octets());
            Ok(frame)
        },
    },
    Storm {
        what: "frames that are cut off",
        sender: Sender::Consumer,
        counted: Some("truncated"),
        frame: |aim, random| {
            let mut frame = segment(aim, nobody(random), FRONTEND, Segment::Syn)?;
            frame.truncate(14 + (random % 20) as usize);
            Ok(frame)
        },
    },
    Storm {
        what: "segments of an open connection again and again, long after their time",
        sender: Sender::Consumer,
        counted: None,
        frame: |aim, random| segment_of(aim, REPLAYED, FRONTEND, Segment::Ack, random | 1 << 31),
    },
    Storm {
        what: "headers that contradict themselves",
        sender: Sender::Consumer,
        counted: Some("malformed"),
        frame: |aim, random| {
            let mut frame = segment(aim, nobody(random), FRONTEND, Segment::Syn)?;
            // An IPv4 header of fewer than five words.
            frame[14] = 0x40 | (random % 5) as u8;
            Ok(frame)
        },
    },
    Storm {
        what: "IPv6 neighbour solicitations",
        sender: Sender::Consumer,
        counted: Some("ndp_ignored"),
        frame: |aim, random| {
            let mut whom = [0xfd; 16];
            whom[12..].copy_from_slice(&random.to_be_bytes());
            let mut from = [0xfe; 16];
            from[1..].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            let packet = PacketBuilder::ethernet2(aim.from, aim.port).ipv6(from, whom, 255);
            let mut frame = Vec::new();
            packet.icmpv6_raw(135, 0, [0; 4]).write(&mut frame, &whom).context("building a frame")?;
            Ok(frame)
        },
    },
    Storm {
        what: "connections towards consumers",
        sender: Sender::Target,
        counted: Some("syn_from_target"),
        frame: |aim, random| {
            segment(
                aim,
                SocketAddrV4::new(FIRST, TARGET_PORT),
                SocketAddrV4::new(NODE, random as u16 | 1024),
                Segment::Syn,
            )
        },
    },
    Storm {
        what: "the node address as the source",
        sender: Sender::Target,
        counted: Some("spoofed_source"),
        frame: |aim, random| {
            segment(aim, SocketAddrV4::new(NODE, random as u16 | 1024), SocketAddrV4::new(NODE, 80), Segment::Syn)
        },
    },
    Storm {
        what: "whatever addresses consumers might have",
        sender: Sender::Target,
        counted: Some("not_ours"),
        frame: |aim, random| segment(aim, SocketAddrV4::new(FIRST, TARGET_PORT), nobody(random), Segment::Syn),
    },
    Storm {
        what: "resets of everybody's connections, blindly",
        sender: Sender::Target,
        counted: Some("no_flow"),
        frame: |aim, random| {
            segment(aim, SocketAddrV4::new(FIRST, 9), SocketAddrV4::new(NODE, random as u16 | 1024), Segment::Rst)
        },
    },
];

/// One of 32,768 addresses of the network that nobody has, and a port.
fn nobody(random: u32) -> SocketAddrV4 {
    let [a, b, c, d] = random.to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 128 | a, b), 1024 | u16::from_be_bytes([c, d]))
}

fn segment(aim: Aim, from: SocketAddrV4, to: SocketAddrV4, segment: Segment) -> Result<Vec<u8>> {
    segment_of(aim, from, to, segment, 1)
}

fn segment_of(aim: Aim, from: SocketAddrV4, to: SocketAddrV4, segment: Segment, sequence: u32) -> Result<Vec<u8>> {
    Forged { from_mac: aim.from, to_mac: aim.port, from, to, segment, sequence }.frame()
}

/// A datagram, or its fragment that begins at `offset` times eight bytes.
fn datagram(aim: Aim, from: SocketAddrV4, to: SocketAddrV4, offset: u16) -> Result<Vec<u8>> {
    let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, from.ip().octets(), to.ip().octets())?;
    header.fragment_offset = IpFragOffset::try_new(offset)?;
    let packet = PacketBuilder::ethernet2(aim.from, aim.port).ip(IpHeaders::Ipv4(header, Default::default()));
    let mut frame = Vec::new();
    packet.udp(from.port(), to.port()).write(&mut frame, &[0; 64]).context("building a frame")?;
    Ok(frame)
}

/// Counts what comes to the host's own stack from the ports, before anything there may drop it.
const WITNESS: &str = r#"
table inet witness {
    chain in { type filter hook prerouting priority -450; iifname { "consumer-a", "consumer-b", "provider" } counter; }
}
table arp witness {
    chain in { type filter hook input priority -450; iifname { "consumer-a", "consumer-b", "provider" } counter; }
}
"#;

/// For each storm: consumer b's stream keeps its pace, and all of its new connections succeed. Nothing arrives that was
/// not sent through the endpoint.
fn storms(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let customer = scenario.topology.host("client-b");
        let mut stream = stream::connect(&customer.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"before")?;
        let source = Source { address: *REPLAYED.ip(), port: REPLAYED.port() };
        let mut replayed = stream::connect(&scenario.topology.host("client-a").netns, source, FRONTEND, PATIENCE)?;
        stream::echo(&mut replayed, b"before")?;
        nft::load(&scenario.topology.lb, WITNESS)?;
        for storm in STORMS {
            let (attacker, port) = match storm.sender {
                Sender::Consumer => (scenario.topology.host("client-a"), "consumer-a"),
                Sender::Target => (server(scenario, 1), "provider"),
            };
            weather(scenario, storm, attacker, port, customer, &mut stream).context(storm.what)?;
        }
        stream::echo(&mut replayed, b"after")?;
        let reached = nft::counted(&scenario.topology.lb)?;
        ensure!(reached == 0, "{reached} packets of isolated ports reached the host's own stack");
        Ok(())
    })
}

fn weather(
    scenario: &Scenario,
    storm: &Storm,
    attacker: &Host,
    port: &str,
    customer: &Host,
    stream: &mut TcpStream,
) -> Result<()> {
    let aim = Aim { from: attacker.link.mac()?, port: End::new(&scenario.topology.lb, port).mac()? };
    let injector = Injector::new(&attacker.link)?;
    let count = || storm.counted.map_or(Ok(0), |name| scenario.counter(name));
    let before = count()?;
    let over = AtomicBool::new(false);
    let (sent, pace, report) = thread::scope(|scope| {
        let sending =
            scope.spawn(|| injector.storm(|random| (storm.frame)(aim, random), || over.load(Ordering::Relaxed)));
        let pacing = scope.spawn(|| paced(stream));
        let plan = Plan {
            sources: customer.addresses.clone(),
            to: FRONTEND,
            rate: 100,
            duration: LASTING,
            close_first: CloseFirst::Client,
        };
        let report = churn::churn(&customer.netns, &plan);
        let pace = pacing.join();
        over.store(true, Ordering::Relaxed);
        (sending.join(), pace, report)
    });
    let sent = sent.ok().context("the storm panicked")??;
    let pace = pace.ok().context("the stream panicked")?.context("the other consumer's stream")?;
    let report = report?;
    let counted = count()? - before;
    let name = storm.counted.unwrap_or("refused");
    progress!("{}: {sent} frames, {counted} {name}; the stream kept {:.1} %", storm.what, pace * 100.0);
    ensure!(sent > 10_000, "only {sent} frames were sent");
    ensure!(storm.counted.is_none() || counted > sent / 2, "only {counted} of {sent} frames were counted as {name}");
    ensure!(pace >= 0.95, "the other consumer's stream kept {:.1} % of its pace", pace * 100.0);
    report.tally.all_succeeded().context("the other consumer's new connections")
}

/// A stream of 64 KiB there and back every 10 ms, about 50 Mbit/s each way: the part of that which it kept to.
fn paced(stream: &mut TcpStream) -> Result<f64> {
    const EVERY: Duration = Duration::from_millis(10);
    let block = vec![0x5a; 64 << 10];
    let planned = LASTING.as_millis() / EVERY.as_millis();
    let (started, mut blocks) = (Instant::now(), 0);
    while started.elapsed() < LASTING && blocks < planned {
        stream::echo(stream, &block)?;
        blocks += 1;
        let due = EVERY * u32::try_from(blocks).unwrap_or(u32::MAX);
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    Ok(blocks as f64 / planned as f64)
}
