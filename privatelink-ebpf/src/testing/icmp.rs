//! ICMP messages from their fields, and what is expected to come of them. All checksums are computed from scratch here.

use super::{
    packet::{Headers, Tcp, Udp, internet_checksum, pseudo_header, six},
    script::{Client, Expect, Frame, Packet, Sender},
};
use crate::{
    abi::{Counter, Mac, Proto},
    wire::tcp::Flags,
};

/// An ICMP message in IPv4 in Ethernet, or in IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    pub ip_options: Vec<u8>,
    pub kind: u8,
    pub code: u8,
    /// The header's last four bytes.
    pub rest: [u8; 4],
    /// What follows the header: in an error the quoted packet.
    pub body: Vec<u8>,
    /// Bytes behind the IP packet.
    pub trailer: Vec<u8>,
    /// Over IPv6, where the addresses are [`six`].
    pub ipv6: bool,
}

impl Default for Icmp {
    fn default() -> Self {
        let Tcp { src_mac, dst_mac, src, dst, ttl, tos, id, .. } = Tcp::default();
        Self {
            src_mac,
            dst_mac,
            src,
            dst,
            ttl,
            tos,
            id,
            fragment: 0,
            ip_options: Vec::new(),
            kind: 0,
            code: 0,
            rest: [0; 4],
            body: Vec::new(),
            trailer: Vec::new(),
            ipv6: false,
        }
    }
}

/// What an ICMP error quotes: a packet that the error's receiver sent to its sender, as it was there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// Its addresses and ports are filled in.
    pub packet: Box<Packet>,
    /// Bytes that are quoted, from the IP header on; zeros are added if it has fewer.
    pub bytes: usize,
    /// What follows the quote.
    pub more: Vec<u8>,
}

impl Icmp {
    /// The frame.
    ///
    /// # Panics
    ///
    /// If options are no multiple of four bytes or too long.
    pub fn build(&self) -> Vec<u8> {
        let mut icmp = vec![self.kind, self.code, 0, 0];
        icmp.extend_from_slice(&self.rest);
        icmp.extend_from_slice(&self.body);
        if self.ipv6 {
            return self.build_over_ipv6(icmp);
        }
        let check = internet_checksum(&[&icmp]);
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        let ip_header = 20 + self.ip_options.len();
        assert!(ip_header.is_multiple_of(4) && ip_header <= 60, "no header has {ip_header} bytes");
        let mut ip = vec![0x40 | (ip_header / 4) as u8, self.tos];
        ip.extend_from_slice(&((ip_header + icmp.len()) as u16).to_be_bytes());
        ip.extend_from_slice(&self.id.to_be_bytes());
        ip.extend_from_slice(&self.fragment.to_be_bytes());
        ip.extend_from_slice(&[self.ttl, 1, 0, 0]);
        ip.extend_from_slice(&self.src);
        ip.extend_from_slice(&self.dst);
        ip.extend_from_slice(&self.ip_options);
        let check = internet_checksum(&[&ip]);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        let ethernet = [&self.dst_mac.0[..], &self.src_mac.0, &[8, 0]].concat();
        [ethernet, ip, icmp, self.trailer.clone()].concat()
    }

    fn build_over_ipv6(&self, mut icmp: Vec<u8>) -> Vec<u8> {
        let pseudo = pseudo_header(true, self.src, self.dst, 58, icmp.len());
        let check = internet_checksum(&[&pseudo, &icmp]);
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        let len = (icmp.len() as u16).to_be_bytes();
        let ethernet = [&self.dst_mac.0[..], &self.src_mac.0, &[0x86, 0xdd]].concat();
        let fixed = [0x60 | self.tos >> 4, self.tos << 4, 0, 0, len[0], len[1], 58, self.ttl];
        [&ethernet[..], &fixed, &six(self.src), &six(self.dst), &icmp, &self.trailer].concat()
    }

    /// The same message from whom `own` are the headers, unless it names a router; an error quotes the packet that came
    /// to him, changed by `adjust`.
    #[must_use]
    pub fn sent(self, own: Headers, about: Option<&About>, adjust: Option<fn(&mut Tcp)>) -> Self {
        let src = if self.src == [0; 4] { own.src } else { self.src };
        let body = about.map_or_else(|| self.body.clone(), |about| about.quote(own.turned_round(), adjust));
        Self { src_mac: own.src_mac, dst_mac: own.dst_mac, src, dst: own.dst, body, ..self }
    }

    /// What a translated error must look like to whom `own` are the headers: from the address that he sends to, about
    /// the packet as he sent it, without extensions.
    #[must_use]
    pub fn translated(self, own: Headers, about: &About) -> Self {
        let extended = self.rest[1] != 0;
        let [first, _, third, fourth] = self.rest;
        let (about, rest, trailer) = match extended {
            true => (&About { bytes: 128, more: Vec::new(), ..about.clone() }, [first, 0, third, fourth], Vec::new()),
            false => (about, self.rest, self.trailer),
        };
        Self {
            src_mac: own.dst_mac,
            dst_mac: own.src_mac,
            src: own.dst,
            dst: own.src,
            ttl: self.ttl - 1,
            rest,
            body: about.quote(own, None),
            trailer,
            ..self
        }
    }

    /// The reply to an echo request that came in on a port with this Ethernet address.
    #[must_use]
    pub fn echo_reply(self, port: Mac) -> Self {
        let Self { src_mac, src, dst, .. } = self;
        let kind = if self.ipv6 { 129 } else { 0 };
        Self { src_mac: port, dst_mac: src_mac, src: dst, dst: src, ttl: 64, kind, code: 0, ..self }
    }

    /// The error about a frame: from the address that it was for, back to its sender, quoting 128 bytes if there are as
    /// many. [`Expect::TooBig`] or [`Expect::TimeExceeded`].
    ///
    /// # Panics
    ///
    /// If the frame is too short.
    pub fn about_frame(frame: &[u8], expect: Expect) -> Self {
        if is_ipv6(frame) {
            return Self::about_frame6(frame, expect);
        }
        let (kind, code, mtu) = match expect {
            Expect::TooBig(mtu) => (3, 4, mtu.to_be_bytes()),
            _ => (11, 0, [0; 2]),
        };
        let ip_len = u16::from_be_bytes([frame[16], frame[17]]);
        let quoted = if ip_len >= 128 { 128 } else { 28 };
        let four = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
        let mac = |at: usize| Mac(std::array::from_fn(|i| frame[at + i]));
        // What a device that completes the frame's TCP or UDP checksum finds there; see `completed`.
        let field = if frame[23] == Proto::Tcp.number() { [frame[22], frame[23]] } else { mtu };
        Self {
            src_mac: mac(0),
            dst_mac: mac(6),
            src: four(30),
            dst: four(26),
            tos: 0xc0,
            id: 0,
            fragment: 0x4000,
            kind,
            code,
            rest: [0, 0, mtu[0], mtu[1]],
            body: frame[14..14 + quoted].to_vec(),
            trailer: field.map(|byte| !byte).to_vec(),
            ..Self::default()
        }
    }
}

impl Icmp {
    fn about_frame6(frame: &[u8], expect: Expect) -> Self {
        let (kind, mtu) = match expect {
            Expect::TooBig(mtu) => (2, mtu.to_be_bytes()),
            _ => (3, [0; 2]),
        };
        let ip_len = 40 + u16::from_be_bytes([frame[18], frame[19]]);
        let quoted = if ip_len >= 128 { 128 } else { 48 };
        let four = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
        let mac = |at: usize| Mac(std::array::from_fn(|i| frame[at + i]));
        let error = Self {
            src_mac: mac(0),
            dst_mac: mac(6),
            src: four(50),
            dst: four(34),
            tos: 0,
            kind,
            rest: [0, 0, mtu[0], mtu[1]],
            body: frame[14..14 + quoted].to_vec(),
            ipv6: true,
            ..Self::default()
        };
        // With these two bytes a device that completes the frame's checksum finds what stands there.
        let built = error.build();
        let at = check_at(frame);
        let trailer = internet_checksum(&[&built[at..at + 2], &built[54..]]).to_be_bytes().to_vec();
        Self { trailer, ..error }
    }
}

fn is_ipv6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

/// Where the frame's TCP or UDP checksum is.
fn check_at(frame: &[u8]) -> usize {
    let (l4, proto) = if is_ipv6(frame) { (54, frame[20]) } else { (34, frame[23]) };
    l4 + if proto == Proto::Tcp.number() { 16 } else { 6 }
}

impl About {
    /// The first bytes of the packet with these headers, and what follows them. The quoted TTL stays.
    fn quote(&self, headers: Headers, adjust: Option<fn(&mut Tcp)>) -> Vec<u8> {
        let ttl = self.packet.headers().map_or(headers.ttl, |own| own.ttl);
        let mut packet = self.packet.as_ref().clone().with_headers(Headers { ttl, ..headers });
        if let (Some(adjust), Packet::Tcp(tcp)) = (adjust, &mut packet) {
            adjust(tcp);
        }
        let mut quote = packet.build().split_off(14);
        quote.resize(self.bytes, 0);
        quote.extend_from_slice(&self.more);
        quote
    }
}

/// An error of ours as it leaves a device that completes the checksum of the frame that it was made of: from the end of
/// that frame's IP header to the end of the error. Zero is written as ones.
///
/// # Panics
///
/// If the frames are too short.
pub fn completed(error: &[u8], frame: &[u8]) -> Vec<u8> {
    let field = check_at(frame);
    let l4 = if is_ipv6(frame) { 54 } else { 34 };
    let mut error = error.to_vec();
    let sum = match internet_checksum(&[&error[l4..]]) {
        0 => 0xffff,
        sum => sum,
    };
    // Zero and ones are the same number; see `datapath::icmp::error::build`.
    if error[field..field + 2] != [0, 0] || sum != 0xffff {
        error[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
    error
}

/// An ICMP error of `kind` from the client, or a router near it, about a packet of the target: 28 bytes quoted.
pub fn error(client: Client, kind: u8, code: u8) -> Frame {
    error_about(Sender::Client(client), client.proto, kind, code, 5001, 1001)
}

/// An ICMP error of `kind` from the target, or a router near it, about a packet of the client: 28 bytes quoted.
pub fn target_error(client: Client, kind: u8, code: u8) -> Frame {
    error_about(Sender::Target(client), client.proto, kind, code, 1001, 5001)
}

fn error_about(sender: Sender, proto: Proto, kind: u8, code: u8, seq: u32, ack: u32) -> Frame {
    let payload = (0..100).collect();
    let packet = match proto {
        Proto::Tcp => Packet::Tcp(Tcp { flags: Flags(0x18), seq, ack, ttl: 63, payload, ..Tcp::default() }),
        Proto::Udp => Packet::Udp(Udp { ttl: 63, payload, ..Udp::default() }),
    };
    let about = About { packet: Box::new(packet), bytes: 28, more: Vec::new() };
    Frame::new(sender, Packet::Icmp(Icmp { kind, code, ..Icmp::default() }, Some(about)))
}

/// "Fragmentation needed" from near the target.
pub fn target_too_big(client: Client, mtu: u16) -> Frame {
    let [hi, lo] = mtu.to_be_bytes();
    target_error(client, 3, 4).icmp(|icmp| icmp.rest = [0, 0, hi, lo])
}

/// An echo request of the client to the service's address, with `len` bytes.
pub fn ping(client: Client, len: usize) -> Frame {
    let body = (0..len).map(|i| (i * 3 + 1) as u8).collect();
    let icmp = Icmp { kind: 8, rest: [0, 7, 0, 1], body, fragment: 0x4000, ..Icmp::default() };
    Frame::new(Sender::Client(client), Packet::Icmp(icmp, None))
}

/// The same from a target to the node address.
pub fn target_ping(client: Client, len: usize) -> Frame {
    Frame { sender: Sender::Target(client), ..ping(client, len) }
}

impl Frame {
    /// Changes an ICMP message, but for what it quotes.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn icmp(mut self, change: impl FnOnce(&mut Icmp)) -> Self {
        match &mut self.packet {
            Packet::Icmp(icmp, _) => change(icmp),
            Packet::Tcp(_) | Packet::Udp(_) | Packet::Arp(_) | Packet::Ndp(_) | Packet::Raw(_) => {
                panic!("no ICMP message")
            }
        }
        self
    }

    /// The same message over IPv6, with 48 bytes quoted.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn over_ipv6(mut self) -> Self {
        match &mut self.packet {
            Packet::Icmp(icmp, about) => {
                icmp.ipv6 = true;
                if let Some(about) = about {
                    about.bytes = 48;
                    match &mut *about.packet {
                        Packet::Tcp(tcp) => tcp.ipv6 = true,
                        Packet::Udp(udp) => udp.ipv6 = true,
                        Packet::Arp(_) | Packet::Ndp(_) | Packet::Icmp(..) | Packet::Raw(_) => {}
                    }
                }
            }
            Packet::Tcp(_) | Packet::Udp(_) | Packet::Arp(_) | Packet::Ndp(_) | Packet::Raw(_) => {
                panic!("no ICMP message")
            }
        }
        self
    }

    /// What an ICMP error quotes.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub fn quoting(mut self, bytes: usize, more: &[u8]) -> Self {
        match &mut self.packet {
            Packet::Icmp(_, Some(about)) => (about.bytes, about.more) = (bytes, more.to_vec()),
            Packet::Icmp(_, None)
            | Packet::Tcp(_)
            | Packet::Udp(_)
            | Packet::Arp(_)
            | Packet::Ndp(_)
            | Packet::Raw(_) => panic!("no ICMP error"),
        }
        self
    }

    /// An ICMP error is translated and sent on.
    pub fn translated(self) -> Self {
        self.by_tc().counts(Counter::IcmpErrorTranslated)
    }

    /// An ICMP message is refused: TC's part.
    pub fn icmp_refused(self, reason: Counter) -> Self {
        self.by_tc().dropped(reason)
    }

    pub fn echoed(mut self) -> Self {
        self.expect = Expect::Echo;
        self.by_tc().counts(Counter::EchoAnswered)
    }

    pub fn too_big(mut self, mtu: u16) -> Self {
        self.expect = Expect::TooBig(mtu);
        self.by_tc().counts(Counter::MtuExceeded).counts(Counter::IcmpErrorSent)
    }

    pub fn time_exceeded(mut self) -> Self {
        self.expect = Expect::TimeExceeded;
        self.by_tc().counts(Counter::TtlExceeded).counts(Counter::IcmpErrorSent)
    }
}
