//! What a case is: a configuration and steps, as data. A step is a frame and what is expected to come of it, a change
//! of the configuration, time that passes, or a look at the tables. A case knows no hook: what XDP hands to TC is
//! expected to come to the same.

use super::{
    icmp::{About, Icmp},
    packet::{Arp, Headers, Ndp, Tcp, Udp, UdpCheck, internet_checksum},
    world::World,
};
use crate::{
    abi::{Counter, Mac, Proto, flow::FlowState},
    wire::tcp::Flags,
};

/// A client's connection to a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// The port that its frames come in on.
    pub ifindex: u32,
    pub vpc: u16,
    pub mac: Mac,
    pub ip: [u8; 4],
    pub port: u16,
    pub service: [u8; 4],
    pub service_port: u16,
    pub proto: Proto,
}

impl Client {
    /// The same client, from another source port.
    pub const fn from_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// The same client, to another listener of the endpoint.
    pub const fn to_port(self, service_port: u16) -> Self {
        Self { service_port, ..self }
    }

    /// The same client, to another address.
    pub const fn to(self, service: [u8; 4]) -> Self {
        Self { service, ..self }
    }

    /// The same client with another Ethernet address.
    pub const fn with_mac(self, mac: Mac) -> Self {
        Self { mac, ..self }
    }

    /// Another client of the same network.
    pub const fn at(self, ip: [u8; 4]) -> Self {
        Self { ip, ..self }
    }

    /// The same client in UDP.
    pub const fn udp(self) -> Self {
        Self { proto: Proto::Udp, ..self }
    }

    /// The same client behind another port.
    pub const fn behind(self, ifindex: u32) -> Self {
        Self { ifindex, ..self }
    }
}

/// Who sends a frame; fills in addresses and ports.
#[derive(Clone, Copy, Debug)]
pub enum Sender {
    Client(Client),
    /// The target that this client's connection was led to.
    Target(Client),
    /// As the packet says, on this interface.
    Other(u32),
}

/// What a frame is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    Tcp(Tcp),
    Udp(Udp),
    Arp(Arp),
    /// An ICMP message; an error quotes what [`About`] says.
    Icmp(Icmp, Option<About>),
    Ndp(Ndp),
    Raw(Vec<u8>),
}

impl Packet {
    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        match self {
            Self::Tcp(tcp) => tcp.build(),
            Self::Udp(udp) => udp.build(),
            Self::Arp(arp) => arp.build(),
            Self::Icmp(icmp, _) => icmp.build(),
            Self::Ndp(ndp) => ndp.build(),
            Self::Raw(bytes) => bytes.clone(),
        }
    }

    /// What a translation changes; nothing of a packet that none is made of.
    pub fn headers(&self) -> Option<Headers> {
        match self {
            Self::Tcp(tcp) => Some(tcp.headers()),
            Self::Udp(udp) => Some(udp.headers()),
            Self::Arp(_) | Self::Ndp(_) | Self::Icmp(..) | Self::Raw(_) => None,
        }
    }

    /// The same packet with these headers.
    #[must_use]
    pub fn with_headers(self, headers: Headers) -> Self {
        match self {
            Self::Tcp(tcp) => Self::Tcp(tcp.with_headers(headers)),
            Self::Udp(udp) => Self::Udp(udp.with_headers(headers)),
            Self::Arp(_) | Self::Ndp(_) | Self::Icmp(..) | Self::Raw(_) => self,
        }
    }

    /// The same segment or datagram over IPv6, or over IPv4; as it leaves a translation.
    #[must_use]
    pub fn of_family(self, ipv6: bool) -> Self {
        match self {
            Self::Tcp(tcp) => Self::Tcp(Tcp { ipv6, extensions: Vec::new(), ..tcp }),
            Self::Udp(udp) => Self::Udp(Udp { ipv6, extensions: Vec::new(), ..udp }),
            Self::Arp(_) | Self::Ndp(_) | Self::Icmp(..) | Self::Raw(_) => self,
        }
    }

    /// The same packet with the identification and the flags that a translation gives it.
    #[must_use]
    pub fn identified(self) -> Self {
        match self {
            Self::Tcp(tcp) => {
                let Tcp { id, fragment, .. } = Tcp::default();
                let id = if tcp.ipv6 { id } else { 0 };
                Self::Tcp(Tcp { id, fragment, ..tcp })
            }
            Self::Udp(udp) => {
                let Udp { id, fragment, .. } = Udp::default();
                let (id, fragment) = if udp.ipv6 { (id, fragment) } else { (0, 0x4000) };
                Self::Udp(Udp { id, fragment, ..udp })
            }
            Self::Arp(_) | Self::Ndp(_) | Self::Icmp(..) | Self::Raw(_) => self,
        }
    }

    /// A frame taken apart as a packet of the same kind.
    pub fn parse_like(&self, frame: &[u8]) -> Option<Self> {
        match self {
            Self::Tcp(_) => Tcp::parse(frame).map(Self::Tcp),
            Self::Udp(_) => Udp::parse(frame).map(Self::Udp),
            Self::Arp(_) | Self::Ndp(_) | Self::Icmp(..) | Self::Raw(_) => None,
        }
    }

    /// Where a checksum is that a device is to complete.
    pub fn partial_at(&self) -> Option<usize> {
        match self {
            Self::Tcp(tcp) => tcp.partial.then(|| tcp.l4() + 16),
            Self::Udp(udp) => (udp.check == UdpCheck::Partial).then(|| udp.l4() + 6),
            Self::Arp(_) | Self::Ndp(_) | Self::Icmp(..) | Self::Raw(_) => None,
        }
    }

    /// As it is once a device has completed the checksum.
    #[must_use]
    pub fn completed(self) -> Self {
        match self {
            Self::Tcp(tcp) => Self::Tcp(Tcp { partial: false, ..tcp }),
            Self::Udp(udp) => {
                let check = if udp.check == UdpCheck::Partial { UdpCheck::Complete } else { udp.check };
                Self::Udp(Udp { check, ..udp })
            }
            Self::Arp(_) | Self::Ndp(_) | Self::Icmp(..) | Self::Raw(_) => self,
        }
    }
}

/// A change of the finished frame, checksums left as they are.
#[derive(Clone, Debug)]
pub enum Edit {
    Set(usize, Vec<u8>),
    /// Cuts the frame to this length.
    Cut(usize),
    /// Fills the frame up to this length.
    Pad(usize),
    /// Leaves one fragment of the packet: what is from this offset on, so many bytes of it. The IP checksum is made
    /// anew.
    Fragment(usize, usize),
}

impl Edit {
    /// Changes a frame.
    ///
    /// # Panics
    ///
    /// If it is too short for that.
    pub fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Set(at, new) => bytes[*at..*at + new.len()].copy_from_slice(new),
            Self::Cut(len) => bytes.truncate(*len),
            Self::Pad(len) => bytes.resize(*len, 0),
            Self::Fragment(offset, len) => {
                let l4 = 14 + (bytes[14] & 0xf) as usize * 4;
                let end = (l4 + offset + len).min(bytes.len());
                let more = if end < bytes.len() { 0x2000 } else { 0 };
                bytes.truncate(end);
                bytes.drain(l4..l4 + offset);
                let ip_len = (bytes.len() - 14) as u16;
                bytes[16..18].copy_from_slice(&ip_len.to_be_bytes());
                bytes[20..22].copy_from_slice(&(more | (offset / 8) as u16).to_be_bytes());
                bytes[24..26].fill(0);
                let check = internet_checksum(&[&bytes[14..l4]]);
                bytes[24..26].copy_from_slice(&check.to_be_bytes());
            }
        }
    }
}

/// What comes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Sent on, rewritten; all but what the translation changes is as it came in.
    Forward,
    /// Sent on with this maximum segment size.
    ForwardMss(u16),
    Drop,
    /// On to the host, unmodified.
    Pass,
    /// Answered by an ARP reply.
    Arp,
    /// Answered by a neighbour advertisement.
    Advertisement,
    /// Answered by a reset.
    Reset,
    /// Answered by a SYN-ACK that acknowledges a cookie.
    Challenge,
    /// Answered by an ICMP echo reply.
    Echo,
    /// Answered by "fragmentation needed" with this MTU.
    TooBig(u16),
    /// Answered by "time exceeded".
    TimeExceeded,
    /// Waits for the first fragment of its packet.
    Held,
    /// Sent in again, and behind it the fragments that have waited for it.
    Again,
}

/// A frame and what is expected to come of it.
#[derive(Clone, Debug)]
pub struct Frame {
    pub sender: Sender,
    pub packet: Packet,
    /// Applied to the packet after the sender's addresses have been filled in.
    pub adjust: Option<fn(&mut Tcp)>,
    /// Its sequence number is a cookie.
    pub cookie: Option<Cookie>,
    /// What the receiver sees different besides the translation.
    pub shown: Option<fn(&mut Tcp)>,
    pub edits: Vec<Edit>,
    /// Segment size of a frame that stands for several segments; 0: it does not. XDP never sees such frames.
    pub gso_size: u32,
    pub expect: Expect,
    /// All counters that change, and by how much.
    pub counts: Vec<(Counter, u64)>,
    /// XDP leaves it to TC.
    pub by_tc: bool,
    /// XDP counts the partial checksum.
    pub partial: bool,
}

/// A cookie that a client sends back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cookie {
    /// The one that it was sent last.
    Sent,
    /// The one that its connection had so many slices of time ago.
    Slices(u32),
}

/// A look at the tables.
#[derive(Clone, Copy, Debug)]
pub enum Check {
    /// Flows of which both entries are there.
    Flows(usize),
    /// Targets to which flows lead.
    TargetsUsed(usize),
    /// Entries, whole flows or halves.
    Entries(usize),
    /// The state of both entries of this client's flow.
    State(Client, FlowState),
    PoolUsed(usize, u32),
    PoolExhausted(usize, u64),
    HalfOpenVpc(u16, u32),
    HalfOpenEndpoint(u32, u32),
    /// Packets in and out of an endpoint.
    EndpointPackets(usize, u64, u64),
    /// IP bytes in and out of an endpoint.
    EndpointBytes(usize, u64, u64),
    /// Open connections of an endpoint.
    EndpointConnections(u32, u32),
    /// What an endpoint's limits refused: connections, new connections, packets.
    EndpointLimited(usize, [u64; 3]),
    EndpointRefused(usize, u64),
    /// Connections that the security groups refused at an endpoint.
    EndpointDenied(usize, u64),
    /// ... at a listener, inbound and outbound.
    ListenerDenied(usize, u64, u64),
    ListenerFlows(usize, u64),
    /// Packets to and from a target.
    TargetPackets(usize, u64, u64),
    /// Resets by clients and by the target.
    TargetResets(usize, u64, u64),
    PortAllocationErrors(usize, u64),
    /// Handshakes finished, SYNs that the target refused, SYNs sent again unanswered.
    TargetConnections(usize, [u64; 3]),
    /// Resets from us: to the target, and to clients of the listener.
    ResetsSent {
        target: (usize, u64),
        listener: (usize, u64),
    },
    /// Flows led to unhealthy targets.
    UnhealthyRouting(usize, u64),
    /// Resets from and to the clients of an endpoint.
    EndpointResets(usize, u64, u64),
    /// The last frame reported this neighbour, and nothing else.
    Neighbor([u8; 4], Mac),
    /// The same for an IPv6 neighbour.
    Neighbor6([u8; 16], Mac),
    /// The last frame reported nothing.
    NoEvent,
    /// The last frame reported this flow opened.
    OpenedEvent(Client),
    /// The last frame reported this flow closed, for this reason.
    ClosedEvent(Client, Counter),
}

/// One step of a case.
#[derive(Clone, Debug)]
pub enum Step {
    Frame(Box<Frame>),
    /// The agent writes another configuration.
    Change(fn(&mut World)),
    /// Seconds pass.
    Advance(u32),
    /// The agent asks for so many sweeps; these counters change.
    Collect(Vec<(Counter, u64)>, u32),
    Check(Check),
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: &'static str,
    /// Changes of [`super::cases::world`].
    pub world: Option<fn(&mut World)>,
    /// Played over IPv6: [`World::over_ipv6`], and all packets with [`Tcp::ipv6`].
    pub ipv6: bool,
    /// Targets are of the other family than clients: [`World::between_families`].
    pub translated: bool,
    pub steps: Vec<Step>,
}

/// A case without steps.
pub fn case(name: &'static str) -> Case {
    Case { name, world: None, ipv6: false, translated: false, steps: Vec::new() }
}

impl Case {
    /// The configuration differs from the common one.
    pub fn world(self, world: fn(&mut World)) -> Self {
        Self { world: Some(world), ..self }
    }

    /// The same case over IPv6; nothing if it is about IPv4.
    pub fn over_ipv6(&self) -> Option<Self> {
        let mut steps = self.steps.clone();
        for step in &mut steps {
            match step {
                Step::Frame(frame) => {
                    // Sources that nobody can have are others in IPv6.
                    let source = match (frame.sender, frame.packet.headers()) {
                        (Sender::Client(client), _) => client.ip[0],
                        (Sender::Other(_), Some(headers)) => headers.src[0],
                        (Sender::Target(_) | Sender::Other(_), _) => 10,
                    };
                    // The world over IPv6 has the same segment sizes, of longer packets.
                    if let Expect::TooBig(mtu) = &mut frame.expect {
                        *mtu += 20;
                    }
                    if !frame.edits.is_empty() || frame.adjust.is_some() || !(1..127).contains(&source) {
                        return None;
                    }
                    let plain = Tcp::default();
                    match &mut frame.packet {
                        Packet::Tcp(tcp) if tcp.ip_options.is_empty() && tcp.fragment == plain.fragment => {
                            tcp.ipv6 = true
                        }
                        Packet::Udp(udp)
                            if udp.ip_options.is_empty()
                                && udp.fragment == plain.fragment
                                && udp.check != UdpCheck::None =>
                        {
                            udp.ipv6 = true;
                        }
                        Packet::Tcp(_)
                        | Packet::Udp(_)
                        | Packet::Arp(_)
                        | Packet::Ndp(_)
                        | Packet::Icmp(..)
                        | Packet::Raw(_) => return None,
                    }
                }
                Step::Check(Check::OpenedEvent(_) | Check::ClosedEvent(..)) => return None,
                Step::Change(_) | Step::Advance(_) | Step::Collect(..) | Step::Check(_) => {}
            }
        }
        Some(Self { ipv6: true, steps, ..self.clone() })
    }

    /// The same case with clients of IPv6, or of IPv4, and targets of the other family; nothing if it is about what
    /// such a flow has not: super-packets, sizes, partial checksums.
    pub fn between_families(&self, ipv6: bool) -> Option<Self> {
        let mut case = self.over_ipv6()?;
        for step in &mut case.steps {
            let Step::Frame(frame) = step else { continue };
            match frame.expect {
                Expect::Forward => frame.by_tc = true,
                Expect::ForwardMss(_)
                | Expect::TooBig(_)
                | Expect::TimeExceeded
                | Expect::Challenge
                | Expect::Held
                | Expect::Again => return None,
                Expect::Drop | Expect::Pass | Expect::Arp | Expect::Reset | Expect::Echo | Expect::Advertisement => {}
            }
            if frame.gso_size != 0 || frame.partial {
                return None;
            }
            let of_client = match frame.sender {
                Sender::Client(_) | Sender::Other(_) => ipv6,
                Sender::Target(_) => !ipv6,
            };
            frame.packet = std::mem::replace(&mut frame.packet, Packet::Raw(Vec::new())).of_family(of_client);
        }
        Some(Self { ipv6, translated: true, ..case })
    }

    fn push(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    pub fn frame(self, frame: Frame) -> Self {
        self.push(Step::Frame(Box::new(frame)))
    }

    pub fn frames(self, frames: impl IntoIterator<Item = Frame>) -> Self {
        frames.into_iter().fold(self, Self::frame)
    }

    pub fn change(self, change: fn(&mut World)) -> Self {
        self.push(Step::Change(change))
    }

    pub fn advance(self, seconds: u32) -> Self {
        self.push(Step::Advance(seconds))
    }

    pub fn collect(self, counts: &[(Counter, u64)]) -> Self {
        self.push(Step::Collect(counts.to_vec(), 1))
    }

    /// Two sweeps: an entry that loses its other half in the first goes with the second at the latest.
    pub fn collect_twice(self, counter: Counter) -> Self {
        self.push(Step::Collect(vec![(counter, 1)], 2))
    }

    pub fn check(self, check: Check) -> Self {
        self.push(Step::Check(check))
    }

    /// SYN, SYN-ACK and ACK.
    pub fn handshake(self, client: Client) -> Self {
        self.frame(syn(client).opens()).frame(syn_ack(client)).frame(ack(client).establishes())
    }

    /// A handshake, and both sides' FIN and ACK, the client's first.
    pub fn closed_by_client(self, client: Client) -> Self {
        self.handshake(client)
            .frame(fin(client))
            .frame(target_fin(client).numbers(5001, 1002))
            .frame(ack(client).numbers(1002, 5002).counts(Counter::FlowClosed))
    }

    /// A handshake, and both sides' FIN and ACK, the target's first.
    pub fn closed_by_target(self, client: Client) -> Self {
        self.handshake(client)
            .frame(target_fin(client))
            .frame(fin(client).numbers(1001, 5002))
            .frame(target_ack(client).numbers(5002, 1002))
    }
}

impl Frame {
    pub(super) fn new(sender: Sender, packet: Packet) -> Self {
        Self {
            sender,
            packet,
            adjust: None,
            cookie: None,
            shown: None,
            edits: Vec::new(),
            gso_size: 0,
            expect: Expect::Forward,
            counts: Vec::new(),
            by_tc: false,
            partial: false,
        }
    }

    /// The segment, or the one that is quoted, to set fields of.
    ///
    /// # Panics
    ///
    /// If it is none.
    fn tcp(&mut self) -> &mut Tcp {
        match &mut self.packet {
            Packet::Tcp(tcp) => tcp,
            Packet::Icmp(_, Some(about)) => match &mut *about.packet {
                Packet::Tcp(tcp) => tcp,
                Packet::Udp(_) | Packet::Arp(_) | Packet::Ndp(_) | Packet::Icmp(..) | Packet::Raw(_) => {
                    panic!("no segment is quoted")
                }
            },
            Packet::Udp(_) | Packet::Arp(_) | Packet::Ndp(_) | Packet::Icmp(_, None) | Packet::Raw(_) => {
                panic!("not a segment")
            }
        }
    }

    /// Changes the datagram, or the one that is quoted.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn with_udp(mut self, change: impl FnOnce(&mut Udp)) -> Self {
        match &mut self.packet {
            Packet::Udp(udp) => change(udp),
            Packet::Icmp(_, Some(about)) => match &mut *about.packet {
                Packet::Udp(udp) => change(udp),
                Packet::Tcp(_) | Packet::Arp(_) | Packet::Ndp(_) | Packet::Icmp(..) | Packet::Raw(_) => {
                    panic!("no datagram is quoted")
                }
            },
            Packet::Tcp(_) | Packet::Arp(_) | Packet::Ndp(_) | Packet::Icmp(_, None) | Packet::Raw(_) => {
                panic!("not a datagram")
            }
        }
        self
    }

    pub fn numbers(mut self, seq: u32, ack: u32) -> Self {
        (self.tcp().seq, self.tcp().ack) = (seq, ack);
        self
    }

    pub fn flags(mut self, flags: u8) -> Self {
        self.tcp().flags = Flags(flags);
        self
    }

    pub fn payload(mut self, len: usize) -> Self {
        self.tcp().payload = bytes(len);
        self
    }

    pub fn options(mut self, options: &[u8]) -> Self {
        self.tcp().options = options.to_vec();
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Tcp)) -> Self {
        change(self.tcp());
        self
    }

    /// Changes the segment after the sender's addresses have been filled in.
    pub fn adjusted(mut self, adjust: fn(&mut Tcp)) -> Self {
        self.adjust = Some(adjust);
        self
    }

    /// The segment has a cookie for its number.
    pub fn cookie(mut self, cookie: Cookie) -> Self {
        self.cookie = Some(cookie);
        self
    }

    /// The receiver sees the segment with this change.
    pub fn shown(mut self, change: fn(&mut Tcp)) -> Self {
        self.shown = Some(change);
        self
    }

    pub fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.edits.push(Edit::Set(at, bytes.to_vec()));
        self
    }

    pub fn cut(mut self, len: usize) -> Self {
        self.edits.push(Edit::Cut(len));
        self
    }

    pub fn pad(mut self, len: usize) -> Self {
        self.edits.push(Edit::Pad(len));
        self
    }

    /// One fragment of the packet: `len` bytes from `offset` on of what is behind the IP header.
    pub fn fragment(mut self, offset: usize, len: usize) -> Self {
        self.edits.push(Edit::Fragment(offset, len));
        if offset != 0 {
            self.counts.push((Counter::FragmentForwarded, 1));
        }
        self
    }

    /// A fragment is refused.
    pub fn fragment_refused(mut self, reason: Counter) -> Self {
        self.counts.clear();
        self.dropped(reason)
    }

    /// The fragment waits for the first one.
    pub fn held(mut self) -> Self {
        self.counts.clear();
        self.expect = Expect::Held;
        self.by_tc().counts(Counter::FragmentHeld)
    }

    /// Fragments wait for this one.
    pub fn releases(mut self) -> Self {
        self.counts.clear();
        self.expect = Expect::Again;
        self.by_tc().counts(Counter::FragmentsReleased)
    }

    /// The frame stands for segments of this size.
    pub fn gso(mut self, size: u32) -> Self {
        self.gso_size = size;
        self
    }

    /// One more of `counter` is counted.
    pub fn counts(mut self, counter: Counter) -> Self {
        self.counts.push((counter, 1));
        self
    }

    pub fn opens(self) -> Self {
        self.counts(Counter::FlowOpened)
    }

    pub fn establishes(self) -> Self {
        self.counts(Counter::FlowEstablished)
    }

    /// XDP leaves the frame to TC.
    pub fn by_tc(mut self) -> Self {
        self.by_tc = true;
        self
    }

    /// The sender leaves the checksum to its device, which XDP notices.
    pub fn partial(mut self) -> Self {
        self.partial = true;
        self.offloaded().by_tc()
    }

    /// The sender leaves the checksum to its device.
    pub fn offloaded(mut self) -> Self {
        match &mut self.packet {
            Packet::Tcp(tcp) => tcp.partial = true,
            Packet::Udp(udp) => udp.check = UdpCheck::Partial,
            Packet::Arp(_) | Packet::Ndp(_) | Packet::Icmp(..) | Packet::Raw(_) => {
                panic!("no checksum of a device's")
            }
        }
        self
    }

    pub fn clamped(mut self, mss: u16) -> Self {
        self.expect = Expect::ForwardMss(mss);
        self
    }

    pub fn dropped(mut self, reason: Counter) -> Self {
        self.expect = Expect::Drop;
        self.counts(reason)
    }

    pub fn passed(mut self) -> Self {
        self.expect = Expect::Pass;
        self.by_tc().counts(Counter::PassedToHost)
    }

    /// The interface is no port.
    pub fn on_no_port(mut self) -> Self {
        self.expect = Expect::Pass;
        self.by_tc().counts(Counter::NoPort)
    }

    /// The SYN meets a half-open budget that is used up, and is answered with a cookie.
    pub fn challenged(mut self, reason: Counter) -> Self {
        self.expect = Expect::Challenge;
        self.counts(reason).counts(Counter::CookieSent)
    }

    pub fn reset(mut self, reason: Counter) -> Self {
        self.expect = Expect::Reset;
        self.by_tc().counts(reason).counts(Counter::ResetSent)
    }

    pub fn advertised(mut self) -> Self {
        self.expect = Expect::Advertisement;
        self.by_tc().counts(Counter::NdpAnswered)
    }

    pub fn answered(mut self) -> Self {
        self.expect = Expect::Arp;
        self.by_tc().counts(Counter::ArpAnswered)
    }
}

/// A payload.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + 3) as u8).collect()
}

/// A maximum segment size option.
pub fn mss(value: u16) -> [u8; 4] {
    let [hi, lo] = value.to_be_bytes();
    [2, 4, hi, lo]
}

fn segment(sender: Sender, flags: Flags, seq: u32, ack: u32) -> Frame {
    Frame::new(sender, Packet::Tcp(Tcp { flags, seq, ack, ..Tcp::default() }))
}

// The client's first sequence number is 1000, the target's 5000.

pub fn syn(client: Client) -> Frame {
    segment(Sender::Client(client), Flags::SYN, 1000, 0).options(&mss(1460))
}

pub fn syn_ack(client: Client) -> Frame {
    segment(Sender::Target(client), Flags::SYN.with(Flags::ACK), 5000, 1001).options(&mss(1460))
}

pub fn ack(client: Client) -> Frame {
    segment(Sender::Client(client), Flags::ACK, 1001, 5001)
}

pub fn target_ack(client: Client) -> Frame {
    segment(Sender::Target(client), Flags::ACK, 5001, 1001)
}

/// `len` bytes from the client.
pub fn data(client: Client, len: usize) -> Frame {
    ack(client).flags(0x18).payload(len)
}

/// `len` bytes from the target.
pub fn reply(client: Client, len: usize) -> Frame {
    target_ack(client).flags(0x18).payload(len)
}

pub fn fin(client: Client) -> Frame {
    ack(client).flags(0x11)
}

pub fn target_fin(client: Client) -> Frame {
    target_ack(client).flags(0x11)
}

pub fn rst(client: Client) -> Frame {
    segment(Sender::Client(client), Flags::RST, 1001, 0)
}

pub fn target_rst(client: Client) -> Frame {
    segment(Sender::Target(client), Flags::RST, 5001, 0)
}

/// `len` bytes in a datagram of the client.
pub fn datagram(client: Client, len: usize) -> Frame {
    Frame::new(Sender::Client(client), Packet::Udp(Udp { payload: bytes(len), ..Udp::default() }))
}

/// `len` bytes in a datagram of the target.
pub fn answer(client: Client, len: usize) -> Frame {
    Frame::new(Sender::Target(client), Packet::Udp(Udp { payload: bytes(len), ..Udp::default() }))
}

/// A datagram that names its own addresses.
pub fn other_udp(ifindex: u32, udp: Udp) -> Frame {
    Frame::new(Sender::Other(ifindex), Packet::Udp(udp))
}

/// A segment that names its own addresses.
pub fn other(ifindex: u32, tcp: Tcp) -> Frame {
    Frame::new(Sender::Other(ifindex), Packet::Tcp(tcp))
}

pub fn arp(ifindex: u32, arp: Arp) -> Frame {
    Frame::new(Sender::Other(ifindex), Packet::Arp(arp))
}

pub fn ndp(ifindex: u32, ndp: Ndp) -> Frame {
    Frame::new(Sender::Other(ifindex), Packet::Ndp(ndp))
}

pub fn raw(ifindex: u32, bytes: Vec<u8>) -> Frame {
    Frame::new(Sender::Other(ifindex), Packet::Raw(bytes))
}
