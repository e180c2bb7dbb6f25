//! Runs a case against tables and programs, wherever they are, and holds what happens against what is expected.

use std::collections::{BTreeMap, HashMap};

use super::{
    icmp::{Icmp, completed},
    packet::{Arp, Headers, Ndp, Tcp, six},
    script::{Case, Check, Client, Cookie, Edit, Expect, Frame, Packet, Sender, Step},
    tables::{COOKIE_KEY, SEED},
    world::{VPCS, World},
};
use crate::{
    abi::{
        Counter, Ip4, Ip6, L4Port, Mac, VpcIndex,
        addr::IPV6,
        event::{Event, EventKind},
        flow::{FlowKey, Meta, Slot},
        limit::EndpointUse,
        pool::PortPool,
        service::{FrontendKey, PortFlags, RingEntry, Target},
        stats::{EndpointStats, ListenerStats, TargetStats},
    },
    datapath::{challenge, v6},
    wire::tcp::Flags,
};

/// A failure, in words.
pub type Outcome<T> = Result<T, String>;

/// Which programs a frame goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
    Tc,
    /// XDP first; what it passes on goes to TC.
    XdpThenTc,
}

/// What became of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Sent,
    Passed,
    Dropped,
}

/// What was seen of a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub fate: Fate,
    /// XDP finished it.
    pub by_xdp: bool,
    /// XDP sent it back out of the port that it came in on.
    pub transmitted: bool,
    /// As it left; empty if it was dropped.
    pub bytes: Vec<u8>,
}

/// Everything that a step brought about; equal for all backends.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trace {
    pub seen: Option<Seen>,
    pub counts: Vec<(&'static str, u64)>,
    pub events: Vec<Event>,
    /// Entries by key, all but version, time and stash flag.
    pub entries: BTreeMap<[u64; 2], String>,
}

/// Tables, and programs over them.
pub trait Backend {
    /// Empties all tables and writes the configuration.
    fn reset(&mut self, world: &World) -> Outcome<()>;
    /// Writes the configuration, leaves flows and pools.
    fn configure(&mut self, world: &World) -> Outcome<()>;
    fn frame(&mut self, path: Path, ifindex: u32, gso_size: u32, bytes: &[u8]) -> Outcome<Seen>;
    /// By counter id.
    fn counters(&mut self) -> Outcome<Vec<u64>>;
    /// Takes the events since the last call.
    fn events(&mut self) -> Outcome<Vec<Event>>;
    fn slots(&mut self) -> Outcome<Vec<Slot>>;
    /// How many IPv6 clients' addresses are remembered: one for each flow of theirs.
    fn clients6(&mut self) -> Outcome<usize>;
    fn advance(&mut self, seconds: u32) -> Outcome<()>;
    fn collect(&mut self) -> Outcome<()>;
    fn pool(&mut self, index: usize) -> Outcome<PortPool>;
    fn half_open_vpc(&mut self, vpc: u16) -> Outcome<u32>;
    fn half_open_endpoint(&mut self, endpoint: u32) -> Outcome<u32>;
    fn endpoint_use(&mut self, endpoint: u32) -> Outcome<EndpointUse>;
    fn endpoint_stats(&mut self, index: usize) -> Outcome<EndpointStats>;
    fn listener_stats(&mut self, index: usize) -> Outcome<ListenerStats>;
    fn target_stats(&mut self, index: usize) -> Outcome<TargetStats>;
}

/// What is known of a client's connection: the target's view of it.
#[derive(Clone, Copy, Debug)]
struct Learned {
    target: u32,
    /// The source that the target sees.
    source: [u8; 4],
    node_port: u16,
}

/// Runs a case; a trace a step.
///
/// # Errors
///
/// The first expectation that does not hold.
pub fn run(case: &Case, path: Path, backend: &mut dyn Backend) -> Outcome<Vec<Trace>> {
    let mut world = super::cases::world();
    if let Some(change) = case.world {
        change(&mut world);
    }
    backend.reset(&as_played(&world, case.ipv6, case.translated))?;
    let mut run = Run {
        ipv6: case.ipv6,
        translated: case.translated,
        path,
        backend,
        world,
        learned: HashMap::new(),
        challenges: HashMap::new(),
        last_events: Vec::new(),
        held: Vec::new(),
    };
    let mut traces = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        let family = match (case.ipv6, case.translated) {
            (false, false) => "",
            (true, false) => "IPv6, ",
            (false, true) => "IPv4 to IPv6, ",
            (true, true) => "IPv6 to IPv4, ",
        };
        let place = || format!("{} ({family}{path:?}), step {}", case.name, number + 1);
        traces.push(run.step(step).map_err(|wrong| format!("{}: {wrong}", place()))?);
    }
    Ok(traces)
}

/// The configuration as a case has it, whose clients are of IPv6 or of IPv4.
pub(super) fn as_played(world: &World, ipv6: bool, translated: bool) -> World {
    match (ipv6, translated) {
        (false, false) => world.clone(),
        (true, false) => world.over_ipv6(),
        (_, true) => world.between_families(ipv6),
    }
}

struct Run<'a> {
    ipv6: bool,
    translated: bool,
    path: Path,
    backend: &'a mut dyn Backend,
    world: World,
    learned: HashMap<FlowKey, Learned>,
    /// The number that a client's last challenge acknowledged.
    challenges: HashMap<FlowKey, u32>,
    last_events: Vec<Event>,
    /// Fragments that have been told to wait.
    held: Vec<Vec<u8>>,
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Outcome<Trace> {
        let before = self.backend.counters()?;
        let (seen, expected) = match step {
            Step::Frame(frame) => {
                let (seen, expected) = self.frame(frame)?;
                (Some(seen), Some(expected))
            }
            Step::Change(change) => {
                change(&mut self.world);
                let world = as_played(&self.world, self.ipv6, self.translated);
                self.backend.configure(&world)?;
                return Ok(Trace::default());
            }
            Step::Advance(seconds) => {
                self.backend.advance(*seconds)?;
                return Ok(Trace::default());
            }
            Step::Collect(counts, times) => {
                for _ in 0..*times {
                    self.backend.collect()?;
                }
                (None, Some(counts.clone()))
            }
            Step::Check(check) => {
                self.check(check)?;
                return Ok(Trace::default());
            }
        };
        let after = self.backend.counters()?;
        let counts: Vec<(&'static str, u64)> = Counter::ALL
            .iter()
            .map(|counter| (counter.name(), after[*counter as usize] - before[*counter as usize]))
            .filter(|(_, count)| *count != 0)
            .collect();
        let mut expected = sum(&expected.unwrap_or_default());
        // What found no room in its bucket, or is put there by the reference mode, is counted besides.
        if let Some((_, stashed)) = counts.iter().find(|(name, _)| *name == Counter::FlowStashed.name()) {
            expected.push((Counter::FlowStashed.name(), *stashed));
        }
        expected.sort_unstable();
        let mut sorted = counts.clone();
        sorted.sort_unstable();
        same("counted", &sorted, &expected)?;
        self.last_events = self.backend.events()?;
        let slots = self.backend.slots()?;
        let of_client6 = |slot: &&Slot| {
            let Meta { translated, flags, .. } = Meta::unpack(slot.meta);
            flags & Meta::FORWARD == 0 && ((slot.key[1] >> 48) as u8 & IPV6 != 0) != translated
        };
        let reverse = slots.iter().filter(of_client6).count();
        same("IPv6 clients that are remembered", &self.backend.clients6()?, &reverse)?;
        let entries = slots.iter().map(|slot| (slot.key, describe(slot))).collect();
        let counts = counts.into_iter().filter(|(name, _)| *name != Counter::FlowStashed.name()).collect();
        Ok(Trace { seen, counts, events: self.last_events.clone(), entries })
    }

    /// Sends a frame and compares what comes of it; the counters that it is expected to change.
    fn frame(&mut self, frame: &Frame) -> Outcome<(Seen, Vec<(Counter, u64)>)> {
        let ifindex = self.ingress(frame.sender)?;
        let mut packet = self.fill(frame)?;
        if let (Some(cookie), Packet::Tcp(tcp), Sender::Client(client)) = (frame.cookie, &mut packet, frame.sender) {
            tcp.seq = self.cookie(cookie, &client)?;
        }
        let mut bytes = packet.build();
        for edit in &frame.edits {
            edit.apply(&mut bytes);
        }
        let path = if frame.gso_size == 0 { self.path } else { Path::Tc };
        let mut seen = self.backend.frame(path, ifindex, frame.gso_size, &bytes)?;
        let mut counts = frame.counts.clone();
        if path == Path::XdpThenTc {
            if frame.by_tc {
                counts.push((Counter::XdpPassedToTc, 1));
            }
            if frame.partial {
                counts.push((Counter::PartialChecksum, 1));
            }
            same("finished by XDP", &seen.by_xdp, &!frame.by_tc)?;
        }
        match frame.expect {
            Expect::Drop => same("fate", &seen.fate, &Fate::Dropped)?,
            Expect::Held => {
                same("fate", &seen.fate, &Fate::Dropped)?;
                self.held.push(bytes);
            }
            Expect::Again => {
                same("fate", &seen.fate, &Fate::Sent)?;
                same("one that has waited", &self.held.contains(&seen.bytes), &true)?;
            }
            Expect::Pass => {
                same("fate", &seen.fate, &Fate::Passed)?;
                same("frame", &seen.bytes, &bytes)?;
            }
            Expect::Forward | Expect::ForwardMss(_) => {
                same("fate", &seen.fate, &Fate::Sent)?;
                if let Packet::Icmp(icmp, Some(about)) = packet {
                    let receiver = match frame.sender {
                        Sender::Client(client) => Sender::Target(client),
                        Sender::Target(client) => Sender::Client(client),
                        Sender::Other(ifindex) => Sender::Other(ifindex),
                    };
                    let own = self.own(receiver)?.ok_or("nobody's error was translated")?;
                    same("bytes", &hex(&seen.bytes), &hex(&icmp.translated(own, &about).build()))?;
                    return Ok((seen, counts));
                }
                if let Some(Edit::Fragment(offset, _)) = frame.edits.first() {
                    let expected = self.translated_fragment(frame, &packet, &seen.bytes, *offset)?;
                    same("bytes", &hex(&seen.bytes), &hex(&expected))?;
                    return Ok((seen, counts));
                }
                let expected = self.translated(frame, &packet, &seen.bytes)?;
                same("packet", &packet.parse_like(&seen.bytes), &Some(expected.clone().completed()))?;
                let mut built = expected.build();
                if let Some(check) = packet.partial_at() {
                    // A test run has no device that would complete the checksum: what becomes of it is not looked at.
                    built[check..check + 2].copy_from_slice(&seen.bytes[check..check + 2]);
                } else {
                    verify_checksums(&seen.bytes)?;
                }
                same("bytes", &hex(&seen.bytes), &hex(&built))?;
                if seen.by_xdp {
                    let out = self.egress(frame)?;
                    let back = out == ifindex && !self.world.ports[&out].flags.has(PortFlags::XDP_REDIRECT);
                    same("sent back by XDP_TX", &seen.transmitted, &back)?;
                }
            }
            Expect::Arp => {
                same("fate", &seen.fate, &Fate::Sent)?;
                let Packet::Arp(request) = packet else { return Err("only ARP is answered by ARP".into()) };
                let ours = self.world.ports[&ifindex].mac;
                let reply = Arp {
                    src_mac: ours,
                    dst_mac: request.sender_mac,
                    operation: 2,
                    sender_mac: ours,
                    sender: request.target,
                    target_mac: request.sender_mac,
                    target: request.sender,
                };
                same("reply", &hex(&seen.bytes), &hex(&reply.build()))?;
            }
            Expect::Challenge => {
                same("fate", &seen.fate, &Fate::Sent)?;
                let (Packet::Tcp(syn), Sender::Client(client)) = (packet, frame.sender) else {
                    return Err("only clients' SYNs are challenged".into());
                };
                let challenge = Tcp::parse(&seen.bytes).ok_or("the challenge is no segment")?;
                let expected = Tcp {
                    flags: Flags::SYN.with(Flags::ACK),
                    seq: 0,
                    ack: challenge.ack,
                    ..expected_reset(&syn, challenge.window)
                };
                same("challenge", &challenge, &expected)?;
                same("acceptable", &(challenge.ack == syn.seq.wrapping_add(1)), &false)?;
                same("bytes", &hex(&seen.bytes), &hex(&expected.build()))?;
                same("as a device completes it", &hex(&seen.bytes), &hex(&Tcp { partial: true, ..expected }.build()))?;
                verify_checksums(&seen.bytes)?;
                self.challenges.insert(self.key(&client), challenge.ack);
            }
            Expect::Echo => {
                same("fate", &seen.fate, &Fate::Sent)?;
                let Packet::Icmp(request, None) = packet else { return Err("only echo requests are answered".into()) };
                let reply = request.echo_reply(self.world.ports[&ifindex].mac);
                same("reply", &hex(&seen.bytes), &hex(&reply.build()))?;
            }
            Expect::TooBig(_) | Expect::TimeExceeded => {
                same("fate", &seen.fate, &Fate::Sent)?;
                let expected = Icmp::about_frame(&bytes, frame.expect);
                same("error", &hex(&seen.bytes), &hex(&expected.build()))?;
                same("as a device completes it", &hex(&completed(&seen.bytes, &bytes)), &hex(&seen.bytes))?;
            }
            Expect::Advertisement => {
                same("fate", &seen.fate, &Fate::Sent)?;
                let Packet::Ndp(asked) = packet else { return Err("only solicitations are answered so".into()) };
                let ours = self.world.ports[&ifindex].mac;
                let nameless = asked.src == [0; 16];
                let mut all_nodes = [0; 16];
                (all_nodes[0], all_nodes[1], all_nodes[15]) = (0xff, 2, 1);
                let answer = Ndp {
                    src_mac: ours,
                    dst_mac: if nameless { Mac([0x33, 0x33, 0, 0, 0, 1]) } else { asked.src_mac },
                    src: asked.target,
                    dst: if nameless { all_nodes } else { asked.src },
                    hops: 255,
                    kind: 136,
                    code: 0,
                    flags: if nameless { 0x20 } else { 0x60 },
                    target: asked.target,
                    option: Some((2, ours)),
                };
                same("advertisement", &hex(&seen.bytes), &hex(&answer.build()))?;
            }
            Expect::Reset => {
                same("fate", &seen.fate, &Fate::Sent)?;
                let Packet::Tcp(segment) = packet else { return Err("only segments are reset".into()) };
                let reset = Tcp::parse(&seen.bytes).ok_or("the reset is no segment")?;
                let expected = expected_reset(&segment, reset.window);
                same("reset", &reset, &expected)?;
                same("bytes", &hex(&seen.bytes), &hex(&expected.build()))?;
                // A device that completes the checksum must find the sum of the pseudo header.
                same("bytes", &hex(&seen.bytes), &hex(&Tcp { partial: true, ..expected }.build()))?;
                verify_checksums(&seen.bytes)?;
            }
        }
        if frame.expect == Expect::Challenge || frame.cookie.is_some() {
            // Another backend's clock makes other cookies.
            seen.bytes.clear();
        }
        Ok((seen, counts))
    }

    fn cookie(&mut self, cookie: Cookie, client: &Client) -> Outcome<u32> {
        match cookie {
            Cookie::Sent => Ok(*self.challenges.get(&self.key(client)).ok_or("the client has not been challenged")?),
            Cookie::Slices(ago) => {
                let slots = self.backend.slots()?;
                let now = slots.first().ok_or("no flow shows what time it is")?.last_seen;
                Ok(challenge::cookie(&self.key(client), now.wrapping_sub(ago << challenge::SLICE_SHIFT), COOKIE_KEY))
            }
        }
    }

    fn ingress(&self, sender: Sender) -> Outcome<u32> {
        Ok(match sender {
            Sender::Client(client) => client.ifindex,
            Sender::Target(client) => self.target(&client)?.1.ifindex,
            Sender::Other(ifindex) => ifindex,
        })
    }

    fn egress(&self, frame: &Frame) -> Outcome<u32> {
        Ok(match frame.sender {
            Sender::Client(client) => self.target(&client)?.1.ifindex,
            Sender::Target(client) => client.ifindex,
            Sender::Other(_) => return Err("nobody's segment was forwarded".into()),
        })
    }

    fn target(&self, client: &Client) -> Outcome<(Learned, &Target)> {
        let learned = self.learned.get(&self.key(client)).ok_or("no SYN of this client has been forwarded")?;
        Ok((*learned, &self.world.targets[&learned.target]))
    }

    /// What the sender's own packets look like; nothing of one that names them itself.
    fn own(&self, sender: Sender) -> Outcome<Option<Headers>> {
        let ttl = 64;
        Ok(match sender {
            Sender::Client(client) => Some(Headers {
                src_mac: client.mac,
                dst_mac: super::world::port_mac(client.ifindex),
                src: client.ip,
                src_port: client.port,
                dst: client.service,
                dst_port: client.service_port,
                ttl,
            }),
            Sender::Target(client) => {
                let (Learned { source, node_port, .. }, target) = self.target(&client)?;
                Some(Headers {
                    src_mac: target.mac,
                    dst_mac: super::world::port_mac(target.ifindex),
                    src: target.ip.to_wire(),
                    src_port: target.port_for(L4Port::new(client.service_port)).get(),
                    dst: source,
                    dst_port: node_port,
                    ttl,
                })
            }
            Sender::Other(_) => None,
        })
    }

    /// Fills in the sender's addresses.
    fn fill(&self, frame: &Frame) -> Outcome<Packet> {
        let packet = frame.packet.clone();
        let own = match &packet {
            Packet::Arp(_) | Packet::Ndp(_) | Packet::Raw(_) => None,
            Packet::Tcp(_) | Packet::Udp(_) | Packet::Icmp(..) => self.own(frame.sender)?,
        };
        let mut packet = match (packet, own) {
            (Packet::Icmp(icmp, about), Some(own)) => {
                return Ok(Packet::Icmp(icmp.sent(own, about.as_ref(), frame.adjust), about));
            }
            (packet, Some(own)) => {
                let ttl = packet.headers().map_or(own.ttl, |headers| headers.ttl);
                packet.with_headers(Headers { ttl, ..own })
            }
            (packet, None) => packet,
        };
        if let (Some(adjust), Packet::Tcp(tcp)) = (frame.adjust, &mut packet) {
            adjust(tcp);
        }
        Ok(packet)
    }

    /// What a forwarded fragment must look like: the same fragment of the translated packet. Only the first says where
    /// the packet goes.
    fn translated_fragment(&mut self, frame: &Frame, packet: &Packet, bytes: &[u8], offset: usize) -> Outcome<Vec<u8>> {
        let expected = match (offset, frame.sender) {
            (0, _) => self.translated(frame, packet, bytes)?,
            (_, Sender::Client(client)) => self.turned(packet, Sender::Target(client))?,
            (_, Sender::Target(client)) => self.turned(packet, Sender::Client(client))?,
            (_, Sender::Other(_)) => return Err("nobody's fragment was forwarded".into()),
        };
        let mut built = expected.build();
        for edit in &frame.edits {
            edit.apply(&mut built);
        }
        Ok(built)
    }

    /// The packet as it arrives at `receiver`.
    fn turned(&self, packet: &Packet, receiver: Sender) -> Outcome<Packet> {
        let own = self.own(receiver)?.ok_or("nobody receives it")?;
        let ttl = packet.headers().ok_or("only segments and datagrams are forwarded")?.ttl - 1;
        Ok(packet.clone().with_headers(Headers { ttl, ..own.turned_round() }))
    }

    /// What a forwarded packet must look like: built anew, with the fields that a translation changes, and nothing of
    /// what the datapath computed but the choice of target and port.
    fn translated(&mut self, frame: &Frame, packet: &Packet, bytes: &[u8]) -> Outcome<Packet> {
        let mut expected = packet.headers().ok_or("only segments and datagrams are forwarded")?;
        expected.ttl -= 1;
        match frame.sender {
            Sender::Client(client) => {
                let out =
                    packet.parse_like(bytes).and_then(|out| out.headers()).ok_or("what was sent is something else")?;
                let known = self.learned.get(&self.key(&client)).copied();
                let ring = self.ring_of(&client);
                let opened = frame.counts.contains(&(Counter::FlowOpened, 1));
                let preserved = match known.filter(|_| !opened) {
                    Some(known) => known.source == client.ip && known.node_port == client.port,
                    None => frame.counts.contains(&(Counter::ClientIpPreserved, 1)),
                };
                let source = |target: &Target| if preserved { client.ip } else { target.node_ip.to_wire() };
                let chosen = self.world.targets.iter().find(|(index, target)| {
                    target.ip.to_wire() == out.dst
                        && target.port_for(L4Port::new(client.service_port)).get() == out.dst_port
                        && target.proto == client.proto.number()
                        && source(target) == out.src
                        && (ring.contains(index) || known.is_some_and(|known| known.target == **index))
                });
                let (index, target) = chosen.ok_or_else(|| format!("sent to no target of the listener: {out:?}"))?;
                if let Some(known) = known.filter(|_| !opened) {
                    same("target", index, &known.target)?;
                    same("source port", &out.src_port, &known.node_port)?;
                } else {
                    same("opened", &opened, &true)?;
                }
                if preserved {
                    same("source port", &out.src_port, &client.port)?;
                } else if out.src_port < 1024 {
                    return Err(format!("source port {} is not in the pool", out.src_port));
                }
                expected.src_mac = self.world.ports[&target.ifindex].mac;
                expected.dst_mac = target.mac;
                (expected.src, expected.src_port) = (source(target), out.src_port);
                (expected.dst, expected.dst_port) =
                    (target.ip.to_wire(), target.port_for(L4Port::new(client.service_port)).get());
                let learned = Learned { target: *index, source: source(target), node_port: out.src_port };
                self.learned.insert(self.key(&client), learned);
            }
            Sender::Target(client) => {
                expected.src_mac = self.world.ports[&client.ifindex].mac;
                expected.dst_mac = client.mac;
                (expected.src, expected.src_port) = (client.service, client.service_port);
                (expected.dst, expected.dst_port) = (client.ip, client.port);
            }
            Sender::Other(_) => return Err("nobody's segment was forwarded".into()),
        }
        let mut expected = packet.clone().with_headers(expected);
        if self.translated {
            let ipv6 = self.ipv6 != matches!(frame.sender, Sender::Client(_));
            expected = expected.of_family(ipv6).identified();
        }
        if let (Expect::ForwardMss(mss), Packet::Tcp(tcp)) = (frame.expect, &mut expected) {
            let at = mss_value(&tcp.options).ok_or("no segment size to clamp")?;
            tcp.options[at..at + 2].copy_from_slice(&mss.to_be_bytes());
        }
        if let (Some(shown), Packet::Tcp(tcp)) = (frame.shown, &mut expected) {
            let sent = tcp.payload.clone();
            shown(tcp);
            if tcp.payload != sent {
                // A segment whose payload was replaced ends with it, and any urgent pointer makes its checksum right.
                tcp.trailer = 0;
                tcp.urgent = Tcp::parse(bytes).ok_or("what was sent is no segment")?.urgent;
            }
        }
        Ok(expected)
    }

    fn key(&self, client: &Client) -> FlowKey {
        key(client, self.ipv6)
    }

    fn ring_of(&self, client: &Client) -> Vec<u32> {
        let (vpc, service) = (VpcIndex(client.vpc), Ip4::from_wire(client.service));
        let at = |ip: Ip4| {
            let exact = FrontendKey::new(vpc, ip, L4Port::new(client.service_port), client.proto);
            let port = match self.world.frontends.contains_key(&exact) {
                true => Some(exact.port),
                false => self.world.range_of(&exact),
            };
            port.map(|port| FrontendKey { port, ..exact })
        };
        let key = at(service).or_else(|| at(self.world.endpoint_of(vpc, service)?));
        let frontend = key.and_then(|key| self.world.frontends.get_key_value(&key));
        let Some(listener) = frontend.and_then(|(_, frontend)| self.world.listeners.get(&frontend.listener)) else {
            return Vec::new();
        };
        let ring = &self.world.rings[listener.ring_base as usize..][..listener.ring_len as usize];
        let mut targets: Vec<u32> = ring.iter().map(|entry| RingEntry(*entry).target()).collect();
        // The same targets behind other node addresses, for those whose ports are used up.
        for at in 0.. {
            let Some(target) = targets.get(at) else { break };
            match self.world.next_nodes.get(target) {
                Some(next) if !targets.contains(next) => targets.push(*next),
                Some(_) | None => {}
            }
        }
        targets
    }

    fn check(&mut self, check: &Check) -> Outcome<()> {
        let (ipv6, translated) = (self.ipv6, self.translated);
        let backend = &mut *self.backend;
        match *check {
            Check::Flows(count) => {
                let slots = backend.slots()?;
                let forward = slots.iter().filter(|slot| Meta::unpack(slot.meta).forward());
                let whole = forward.filter(|forward| {
                    let twin = [forward.new_dst.word() as u64 | (forward.new_src.word() as u64) << 32, 0];
                    slots
                        .iter()
                        .any(|slot| slot.key[0] == twin[0] && (slot.key[1] >> 16) as u16 == forward.new_src_port.word())
                });
                same("flows", &whole.count(), &count)
            }
            Check::TargetsUsed(count) => {
                let targets: std::collections::BTreeSet<u32> =
                    backend.slots()?.iter().map(|slot| slot.target).collect();
                same("targets", &targets.len(), &count)
            }
            Check::Entries(count) => same("entries", &backend.slots()?.len(), &count),
            Check::State(client, state) => {
                let slots = backend.slots()?;
                let key = key(&client, ipv6);
                let words = key.words();
                let forward = slots.iter().find(|slot| slot.key == words).ok_or("the client has no flow")?;
                let reverse = slots
                    .iter()
                    .find(|slot| {
                        !Meta::unpack(slot.meta).forward()
                            && (slot.new_dst, slot.new_src) == (key.src, key.dst)
                            && slot.new_dst_port.get() == client.port
                            && (slot.key[1] >> 48) as u8 == if translated { key.proto ^ IPV6 } else { key.proto }
                            && slot.key[0] as u32 == forward.new_dst.word()
                            && (slot.key[1] >> 16) as u16 == forward.new_src_port.word()
                    })
                    .ok_or("the client's flow has one entry only")?;
                same("state", &Meta::unpack(forward.meta).state, &state)?;
                same("state of the reverse entry", &Meta::unpack(reverse.meta).state, &state)
            }
            Check::PoolUsed(index, used) => same("ports in use", &backend.pool(index)?.used(), &used),
            Check::PoolExhausted(index, count) => same("claims refused", &backend.pool(index)?.exhausted, &count),
            Check::HalfOpenVpc(vpc, count) => same("half-open of the VPC", &backend.half_open_vpc(vpc)?, &count),
            Check::HalfOpenEndpoint(endpoint, count) => {
                same("half-open of the endpoint", &backend.half_open_endpoint(endpoint)?, &count)
            }
            Check::EndpointPackets(index, packets_in, packets_out) => {
                let stats = backend.endpoint_stats(index)?;
                same("packets", &(stats.packets_in, stats.packets_out), &(packets_in, packets_out))
            }
            Check::EndpointBytes(index, bytes_in, bytes_out) => {
                let stats = backend.endpoint_stats(index)?;
                // Packets count as they come: an IPv6 header is 20 bytes longer.
                let longer = |ipv6: bool| if ipv6 { 20 } else { 0 };
                let more = (stats.packets_in * longer(ipv6), stats.packets_out * longer(ipv6 != translated));
                same("bytes", &(stats.bytes_in, stats.bytes_out), &(bytes_in + more.0, bytes_out + more.1))
            }
            Check::EndpointConnections(endpoint, count) => {
                same("connections of the endpoint", &backend.endpoint_use(endpoint)?.connections, &count)
            }
            Check::EndpointLimited(index, counts) => {
                let stats = backend.endpoint_stats(index)?;
                let found = [stats.limited_connections, stats.limited_new_connections, stats.limited_packets];
                same("limited", &found, &counts)
            }
            Check::EndpointRefused(index, refused) => {
                same("refused", &backend.endpoint_stats(index)?.refused, &refused)
            }
            Check::EndpointDenied(index, denied) => same("denied", &backend.endpoint_stats(index)?.denied, &denied),
            Check::ListenerDenied(index, inbound, outbound) => {
                let stats = backend.listener_stats(index)?;
                same("denied", &(stats.denied_inbound, stats.denied_outbound), &(inbound, outbound))
            }
            Check::ListenerFlows(index, flows) => same("flows", &backend.listener_stats(index)?.new_flows, &flows),
            Check::TargetPackets(index, packets_in, packets_out) => {
                let stats = backend.target_stats(index)?;
                same("packets", &(stats.packets_in, stats.packets_out), &(packets_in, packets_out))
            }
            Check::TargetResets(index, by_client, by_target) => {
                let stats = backend.target_stats(index)?;
                same("resets", &(stats.client_resets, stats.target_resets), &(by_client, by_target))
            }
            Check::TargetConnections(index, counts) => {
                let stats = backend.target_stats(index)?;
                same("connections", &[stats.established, stats.refused, stats.unanswered], &counts)
            }
            Check::ResetsSent { target: (target, to_target), listener: (listener, to_client) } => {
                same("resets to the target", &backend.target_stats(target)?.resets_sent, &to_target)?;
                same("resets to clients", &backend.listener_stats(listener)?.resets_sent, &to_client)
            }
            Check::UnhealthyRouting(index, flows) => {
                same("flows to unhealthy targets", &backend.listener_stats(index)?.unhealthy_routing, &flows)
            }
            Check::EndpointResets(index, resets_in, resets_out) => {
                let stats = backend.endpoint_stats(index)?;
                same("the endpoint's resets", &(stats.resets_in, stats.resets_out), &(resets_in, resets_out))
            }
            Check::PortAllocationErrors(index, count) => {
                same("port allocation errors", &backend.target_stats(index)?.port_allocation_errors, &count)
            }
            Check::Neighbor(ip, mac) => {
                let found: Vec<_> = self.last_events.iter().map(|e| (e.kind, e.client.to_wire(), e.mac)).collect();
                same("events", &found, &vec![(EventKind::Neighbor as u32, ip, mac)])
            }
            Check::Neighbor6(ip, mac) => {
                let found: Vec<_> = self.last_events.iter().map(|e| (e.kind, e.address6.to_wire(), e.mac)).collect();
                same("events", &found, &vec![(EventKind::Neighbor as u32, ip, mac)])
            }
            Check::NoEvent => same("events", &self.last_events.len(), &0),
            Check::OpenedEvent(client) => self.flow_event(&client, EventKind::FlowOpened, Counter::FlowOpened),
            Check::ClosedEvent(client, why) => self.flow_event(&client, EventKind::FlowClosed, why),
        }
    }

    fn flow_event(&self, client: &Client, kind: EventKind, why: Counter) -> Outcome<()> {
        let (Learned { target: index, source, node_port }, target) = self.target(client)?;
        let [event] = &self.last_events[..] else { return Err(format!("events: {:?}", self.last_events)) };
        let expected = Event {
            kind: kind as u32,
            ifindex: client.ifindex,
            client: Ip4::from_wire(client.ip),
            service: Ip4::from_wire(client.service),
            node: Ip4::from_wire(source),
            target: target.ip,
            client_port: L4Port::new(client.port),
            service_port: L4Port::new(client.service_port),
            node_port: L4Port::new(node_port),
            target_port: target.port_for(L4Port::new(client.service_port)),
            vpc: VpcIndex(client.vpc),
            endpoint: event.endpoint,
            target_index: index,
            reason: why as u32,
            mac: event.mac,
            proto: client.proto.number(),
            _pad: 0,
            address6: Ip6::UNSPECIFIED,
        };
        same("event", event, &expected)
    }
}

pub(super) fn key(client: &Client, ipv6: bool) -> FlowKey {
    if ipv6 {
        let [src, dst] = [client.ip, client.service].map(|ip| Ip6::from_wire(six(ip)));
        let (src, dst) = v6::pair(&src, &dst, SEED);
        let proto = client.proto.number() | IPV6;
        let (src_port, dst_port) = (L4Port::new(client.port), L4Port::new(client.service_port));
        return FlowKey::tcp(VpcIndex(client.vpc), src, src_port, dst, dst_port).with_proto(proto);
    }
    FlowKey::tcp(
        VpcIndex(client.vpc),
        Ip4::from_wire(client.ip),
        L4Port::new(client.port),
        Ip4::from_wire(client.service),
        L4Port::new(client.service_port),
    )
    .with_proto(client.proto.number())
}

/// RFC 9293 section 3.10.7.1: a reset takes its sequence number from the segment's acknowledgement, or acknowledges it.
fn expected_reset(segment: &Tcp, window: u16) -> Tcp {
    let len = segment.payload.len() as u32
        + u32::from(segment.flags.has(Flags::SYN))
        + u32::from(segment.flags.has(Flags::FIN));
    let (seq, ack, flags) = if segment.flags.has(Flags::ACK) {
        (segment.ack, 0, Flags::RST)
    } else {
        (0, segment.seq.wrapping_add(len), Flags::RST.with(Flags::ACK))
    };
    Tcp {
        ipv6: segment.ipv6,
        src_mac: segment.dst_mac,
        dst_mac: segment.src_mac,
        src: segment.dst,
        dst: segment.src,
        src_port: segment.dst_port,
        dst_port: segment.src_port,
        seq,
        ack,
        flags,
        window,
        id: if segment.ipv6 { Tcp::default().id } else { 0 },
        ttl: 64,
        ..Tcp::default()
    }
}

/// Both checksums, from scratch.
fn verify_checksums(frame: &[u8]) -> Outcome<()> {
    if frame[12..14] == [0x86, 0xdd] {
        return verify_checksum_over_ipv6(frame);
    }
    let ip = etherparse::Ipv4Slice::from_slice(&frame[14..]).map_err(|e| format!("not IPv4: {e}"))?;
    let header = ip.header().to_header();
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(ip.header().slice()).ones_complement();
    same("sum over the IP header", &sum, &0)?;
    if ip.payload().ip_number == etherparse::IpNumber::UDP {
        let udp = etherparse::UdpSlice::from_slice(ip.payload().payload).map_err(|e| format!("not UDP: {e}"))?;
        let header = udp.to_header();
        let expected = header
            .calc_checksum_ipv4_raw(ip.header().source(), ip.header().destination(), udp.payload())
            .map_err(|e| e.to_string())?;
        // Zero: there is none.
        return match udp.checksum() {
            0 => Ok(()),
            found => same("UDP checksum", &found, &if expected == 0 { 0xffff } else { expected }),
        };
    }
    let tcp = etherparse::TcpSlice::from_slice(ip.payload().payload).map_err(|e| format!("not TCP: {e}"))?;
    let expected = tcp.calc_checksum_ipv4(header.source, header.destination).map_err(|e| e.to_string())?;
    same("TCP checksum", &tcp.checksum(), &expected)
}

fn verify_checksum_over_ipv6(frame: &[u8]) -> Outcome<()> {
    let ip = etherparse::Ipv6Slice::from_slice(&frame[14..]).map_err(|e| format!("not IPv6: {e}"))?;
    let (header, payload) = (ip.header().to_header(), ip.payload());
    if payload.ip_number == etherparse::IpNumber::UDP {
        let udp = etherparse::UdpSlice::from_slice(payload.payload).map_err(|e| format!("not UDP: {e}"))?;
        let expected = udp.to_header().calc_checksum_ipv6(&header, udp.payload()).map_err(|e| e.to_string())?;
        return same("UDP checksum", &udp.checksum(), &if expected == 0 { 0xffff } else { expected });
    }
    let tcp = etherparse::TcpSlice::from_slice(payload.payload).map_err(|e| format!("not TCP: {e}"))?;
    let expected = tcp.calc_checksum_ipv6(header.source, header.destination).map_err(|e| e.to_string())?;
    same("TCP checksum", &tcp.checksum(), &expected)
}

/// Where the value of the segment size option is.
fn mss_value(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => return None,
            1 => at += 1,
            2 => return Some(at + 2),
            _ => at += *options.get(at + 1)? as usize,
        }
    }
    None
}

pub(super) fn describe(slot: &Slot) -> String {
    let Meta { version: _, state, translated, flags, idle_s } = Meta::unpack(slot.meta);
    let Slot { new_src, new_dst, new_src_port, new_dst_port, d_addr, d_port, target, generation, .. } = *slot;
    let Slot { endpoint, ack, peer_mac, ifindex, .. } = *slot;
    let flags = flags & !Meta::STASHED;
    format!(
        "{state:?} {translated} {flags:#x} {idle_s} {new_src:?}:{new_src_port:?} {new_dst:?}:{new_dst_port:?} {d_addr:#x} {d_port:#x} \
         {target} {generation} {endpoint} {ack} {peer_mac} {ifindex}"
    )
}

fn sum(counts: &[(Counter, u64)]) -> Vec<(&'static str, u64)> {
    let mut sums = BTreeMap::new();
    for (counter, count) in counts {
        *sums.entry(counter.name()).or_insert(0) += count;
    }
    sums.into_iter().collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Outcome<()> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

const _: () = assert!(VPCS > u16::MAX as u32);
