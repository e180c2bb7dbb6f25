//! Packets from their fields. All checksums are computed from scratch here, over the bytes as they are sent.

use crate::{
    abi::Mac,
    wire::{L3, tcp::Flags},
};

/// A TCP segment in IPv4 in Ethernet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: Flags,
    pub window: u16,
    pub urgent: u16,
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    pub ip_options: Vec<u8>,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    /// Bytes behind the IP packet.
    pub trailer: usize,
    /// The checksum is left to the device: its field holds the sum of the pseudo header.
    pub partial: bool,
    /// Over IPv6: the addresses are [`six`] of these, `ttl` is the hop limit, `tos` the traffic class; there is no
    /// `id`, no `fragment` and no IP options.
    pub ipv6: bool,
    /// IPv6 extension headers: type and content.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

impl Default for Tcp {
    fn default() -> Self {
        Self {
            src_mac: Mac::ZERO,
            dst_mac: Mac::ZERO,
            src: [0; 4],
            dst: [0; 4],
            src_port: 0,
            dst_port: 0,
            seq: 0,
            ack: 0,
            flags: Flags::ACK,
            window: 64_240,
            urgent: 0,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            fragment: 0x4000,
            ip_options: Vec::new(),
            options: Vec::new(),
            payload: Vec::new(),
            trailer: 0,
            partial: false,
            ipv6: false,
            extensions: Vec::new(),
        }
    }
}

impl Tcp {
    /// Where the TCP header starts.
    pub fn l4(&self) -> usize {
        L3 + if self.ipv6 { 40 + extensions_len(&self.extensions) } else { 20 + self.ip_options.len() }
    }

    /// The frame.
    ///
    /// # Panics
    ///
    /// If options are no multiple of four bytes or too long.
    pub fn build(&self) -> Vec<u8> {
        let ip_header = 20 + self.ip_options.len();
        let tcp_header = 20 + self.options.len();
        for header in [ip_header, tcp_header] {
            assert!(header.is_multiple_of(4) && header <= 60, "no header has {header} bytes");
        }
        let ip_len = ip_header + tcp_header + self.payload.len();
        let mut ip = vec![0x40 | (ip_header / 4) as u8, self.tos];
        ip.extend_from_slice(&(ip_len as u16).to_be_bytes());
        ip.extend_from_slice(&self.id.to_be_bytes());
        ip.extend_from_slice(&self.fragment.to_be_bytes());
        ip.extend_from_slice(&[self.ttl, 6, 0, 0]);
        ip.extend_from_slice(&self.src);
        ip.extend_from_slice(&self.dst);
        ip.extend_from_slice(&self.ip_options);
        let check = internet_checksum(&[&ip]);
        ip[10..12].copy_from_slice(&check.to_be_bytes());

        let mut tcp = Vec::with_capacity(tcp_header + self.payload.len());
        tcp.extend_from_slice(&self.src_port.to_be_bytes());
        tcp.extend_from_slice(&self.dst_port.to_be_bytes());
        tcp.extend_from_slice(&self.seq.to_be_bytes());
        tcp.extend_from_slice(&self.ack.to_be_bytes());
        tcp.extend_from_slice(&[((tcp_header / 4) as u8) << 4, self.flags.0]);
        tcp.extend_from_slice(&self.window.to_be_bytes());
        tcp.extend_from_slice(&[0, 0]);
        tcp.extend_from_slice(&self.urgent.to_be_bytes());
        tcp.extend_from_slice(&self.options);
        tcp.extend_from_slice(&self.payload);
        let pseudo = pseudo_header(self.ipv6, self.src, self.dst, 6, tcp.len());
        let check = if self.partial { !internet_checksum(&[&pseudo]) } else { internet_checksum(&[&pseudo, &tcp]) };
        tcp[16..18].copy_from_slice(&check.to_be_bytes());
        if self.ipv6 {
            return over_ipv6(&self.headers(), self.tos, &self.extensions, 6, &tcp, self.trailer);
        }

        let mut frame = Vec::with_capacity(L3 + ip_len + self.trailer);
        frame.extend_from_slice(&self.dst_mac.0);
        frame.extend_from_slice(&self.src_mac.0);
        frame.extend_from_slice(&[8, 0]);
        frame.extend_from_slice(&ip);
        frame.extend_from_slice(&tcp);
        frame.resize(L3 + ip_len + self.trailer, 0);
        frame
    }

    /// Takes a frame apart. Nothing if it is no whole, unfragmented TCP segment.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
        let four = |at: usize| -> Option<[u8; 4]> { frame.get(at..at + 4)?.try_into().ok() };
        let mac = |at: usize| -> Option<Mac> { Some(Mac(frame.get(at..at + 6)?.try_into().ok()?)) };
        if word(12)? == 0x86dd {
            return Self::parse_ipv6(frame);
        }
        let ip_header = (*frame.get(L3)? & 0xf) as usize * 4;
        if word(12)? != 0x0800 || frame.get(L3 + 9) != Some(&6) || ip_header < 20 {
            return None;
        }
        let end = L3 + word(L3 + 2)? as usize;
        let l4 = L3 + ip_header;
        let tcp_header = (*frame.get(l4 + 12)? >> 4) as usize * 4;
        Some(Self {
            src_mac: mac(6)?,
            dst_mac: mac(0)?,
            src: four(L3 + 12)?,
            dst: four(L3 + 16)?,
            src_port: word(l4)?,
            dst_port: word(l4 + 2)?,
            seq: long(l4 + 4)?,
            ack: long(l4 + 8)?,
            flags: Flags(*frame.get(l4 + 13)?),
            window: word(l4 + 14)?,
            urgent: word(l4 + 18)?,
            ttl: *frame.get(L3 + 8)?,
            tos: *frame.get(L3 + 1)?,
            id: word(L3 + 4)?,
            fragment: word(L3 + 6)?,
            ip_options: frame.get(L3 + 20..l4)?.to_vec(),
            options: frame.get(l4 + 20..l4 + tcp_header)?.to_vec(),
            payload: frame.get(l4 + tcp_header..end)?.to_vec(),
            trailer: frame.len() - end,
            partial: false,
            ipv6: false,
            extensions: Vec::new(),
        })
    }

    fn parse_ipv6(frame: &[u8]) -> Option<Self> {
        let Six { headers, tos, extensions, upper: 6, at, end } = Six::parse(frame)? else { return None };
        // The segment alone, as if it had come over IPv4.
        let mut bytes = Self { ipv6: false, extensions: Vec::new(), ..Self::default() }.build();
        bytes.truncate(L3 + 20);
        bytes[L3 + 2..L3 + 4].copy_from_slice(&((20 + end - at) as u16).to_be_bytes());
        bytes.extend_from_slice(frame.get(at..end)?);
        let inner = Self::parse(&bytes)?;
        let Headers { src_port, dst_port, .. } = inner.headers();
        let headers = Headers { src_port, dst_port, ..headers };
        let (id, fragment) = (Self::default().id, Self::default().fragment);
        let inner = Self { tos, id, fragment, ipv6: true, extensions, trailer: frame.len() - end, ..inner };
        Some(inner.with_headers(headers))
    }
}

/// The IPv6 address that stands for an IPv4 one.
pub const fn six([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0xfd, 0, 0, 0x64, 0, 0, 0, 0, 0x77, 0, 0, 0, a, b, c, d]
}

fn extensions_len(extensions: &[(u8, Vec<u8>)]) -> usize {
    extensions.iter().map(|(_, content)| 2 + content.len()).sum()
}

pub(super) fn pseudo_header(ipv6: bool, src: [u8; 4], dst: [u8; 4], proto: u8, len: usize) -> Vec<u8> {
    let len = (len as u16).to_be_bytes();
    match ipv6 {
        true => [&six(src)[..], &six(dst), &[0, 0], &len, &[0, 0, 0, proto]].concat(),
        false => [&src[..], &dst, &[0, proto], &len].concat(),
    }
}

fn over_ipv6(
    headers: &Headers,
    tos: u8,
    extensions: &[(u8, Vec<u8>)],
    proto: u8,
    upper: &[u8],
    trailer: usize,
) -> Vec<u8> {
    let following: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).chain([proto]).collect();
    let mut frame = [&headers.dst_mac.0[..], &headers.src_mac.0, &[0x86, 0xdd]].concat();
    frame.extend_from_slice(&[0x60 | tos >> 4, tos << 4, 0, 0]);
    frame.extend_from_slice(&((extensions_len(extensions) + upper.len()) as u16).to_be_bytes());
    frame.extend_from_slice(&[following[0], headers.ttl]);
    frame.extend_from_slice(&six(headers.src));
    frame.extend_from_slice(&six(headers.dst));
    for ((_, content), next) in extensions.iter().zip(&following[1..]) {
        assert!((2 + content.len()).is_multiple_of(8), "no extension header has {} bytes", content.len() + 2);
        frame.extend_from_slice(&[*next, ((2 + content.len()) / 8 - 1) as u8]);
        frame.extend_from_slice(content);
    }
    frame.extend_from_slice(upper);
    frame.resize(frame.len() + trailer, 0);
    frame
}

/// An IPv6 packet taken apart.
struct Six {
    headers: Headers,
    tos: u8,
    extensions: Vec<(u8, Vec<u8>)>,
    upper: u8,
    /// Where the upper layer begins, and where the packet ends.
    at: usize,
    end: usize,
}

impl Six {
    fn parse(frame: &[u8]) -> Option<Self> {
        let mac = |at: usize| -> Option<Mac> { Some(Mac(frame.get(at..at + 6)?.try_into().ok()?)) };
        let four = |at: usize| -> Option<[u8; 4]> {
            let whole: [u8; 16] = frame.get(at..at + 16)?.try_into().ok()?;
            let last: [u8; 4] = whole[12..].try_into().ok()?;
            (six(last) == whole).then_some(last)
        };
        let end = L3 + 40 + u16::from_be_bytes(frame.get(18..20)?.try_into().ok()?) as usize;
        let (mut upper, mut at, mut extensions) = (*frame.get(20)?, L3 + 40, Vec::new());
        while matches!(upper, 0 | 60) {
            let len = (*frame.get(at + 1)? as usize + 1) * 8;
            extensions.push((upper, frame.get(at + 2..at + len)?.to_vec()));
            upper = *frame.get(at)?;
            at += len;
        }
        let headers = Headers {
            src_mac: mac(6)?,
            dst_mac: mac(0)?,
            src: four(22)?,
            dst: four(38)?,
            src_port: 0,
            dst_port: 0,
            ttl: *frame.get(21)?,
        };
        Some(Self { headers, tos: frame[14] << 4 | frame[15] >> 4, extensions, upper, at, end })
    }
}

/// An ICMPv6 message of neighbour discovery with one option that holds an Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ndp {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: [u8; 16],
    pub dst: [u8; 16],
    pub hops: u8,
    /// 135: solicitation; 136: advertisement.
    pub kind: u8,
    pub code: u8,
    pub flags: u8,
    pub target: [u8; 16],
    /// Type and Ethernet address.
    pub option: Option<(u8, Mac)>,
}

impl Ndp {
    /// Who has `target`? To the group that it listens to (RFC 4291 section 2.7.1).
    pub fn solicitation(mac: Mac, src: [u8; 16], target: [u8; 16]) -> Self {
        let [.., a, b, c] = target;
        let dst = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c];
        let dst_mac = Mac([0x33, 0x33, 0xff, a, b, c]);
        let option = (src != [0; 16]).then_some((1, mac));
        Self { src_mac: mac, dst_mac, src, dst, hops: 255, kind: 135, code: 0, flags: 0, target, option }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut message = vec![self.kind, self.code, 0, 0, self.flags, 0, 0, 0];
        message.extend_from_slice(&self.target);
        if let Some((kind, mac)) = self.option {
            message.extend_from_slice(&[kind, 1]);
            message.extend_from_slice(&mac.0);
        }
        let len = (message.len() as u16).to_be_bytes();
        let pseudo = [&self.src[..], &self.dst, &[0, 0], &len, &[0, 0, 0, 58]].concat();
        let check = internet_checksum(&[&pseudo, &message]);
        message[2..4].copy_from_slice(&check.to_be_bytes());
        let mut frame = [&self.dst_mac.0[..], &self.src_mac.0, &[0x86, 0xdd, 0x60, 0, 0, 0], &len].concat();
        frame.extend_from_slice(&[58, self.hops]);
        frame.extend_from_slice(&self.src);
        frame.extend_from_slice(&self.dst);
        frame.extend_from_slice(&message);
        frame
    }
}

/// What a translation changes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub src_port: u16,
    pub dst_port: u16,
    pub ttl: u8,
}

impl Headers {
    /// Those of a packet the other way.
    #[must_use]
    pub fn turned_round(self) -> Self {
        let Self { src_mac, dst_mac, src, dst, src_port, dst_port, ttl } = self;
        Self { src_mac: dst_mac, dst_mac: src_mac, src: dst, dst: src, src_port: dst_port, dst_port: src_port, ttl }
    }
}

macro_rules! headers {
    ($($packet:ident),+) => { $(
        impl $packet {
            pub fn headers(&self) -> Headers {
                let Self { src_mac, dst_mac, src, dst, src_port, dst_port, ttl, .. } = *self;
                Headers { src_mac, dst_mac, src, dst, src_port, dst_port, ttl }
            }

            /// The same packet with these headers.
            #[must_use]
            pub fn with_headers(self, headers: Headers) -> Self {
                let Headers { src_mac, dst_mac, src, dst, src_port, dst_port, ttl } = headers;
                Self { src_mac, dst_mac, src, dst, src_port, dst_port, ttl, ..self }
            }
        }
    )+ };
}
headers!(Tcp, Udp);

/// A UDP datagram in IPv4 in Ethernet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Udp {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub src: [u8; 4],
    pub dst: [u8; 4],
    pub src_port: u16,
    pub dst_port: u16,
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    pub ip_options: Vec<u8>,
    pub payload: Vec<u8>,
    /// Bytes behind the IP packet.
    pub trailer: usize,
    pub check: UdpCheck,
    /// As [`Tcp::ipv6`].
    pub ipv6: bool,
    pub extensions: Vec<(u8, Vec<u8>)>,
}

/// What is in a datagram's checksum field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpCheck {
    /// The checksum; one that comes to zero as 0xffff.
    Complete,
    /// Zero: the sender computed none.
    None,
    /// The sum of the pseudo header, for the device to complete.
    Partial,
}

impl Default for Udp {
    fn default() -> Self {
        let Tcp { src_mac, dst_mac, src, dst, src_port, dst_port, ttl, tos, id, fragment, .. } = Tcp::default();
        Self {
            src_mac,
            dst_mac,
            src,
            dst,
            src_port,
            dst_port,
            ttl,
            tos,
            id,
            fragment,
            ip_options: Vec::new(),
            payload: Vec::new(),
            trailer: 0,
            check: UdpCheck::Complete,
            ipv6: false,
            extensions: Vec::new(),
        }
    }
}

impl Udp {
    /// Where the UDP header starts.
    pub fn l4(&self) -> usize {
        L3 + if self.ipv6 { 40 + extensions_len(&self.extensions) } else { 20 + self.ip_options.len() }
    }

    /// The frame.
    ///
    /// # Panics
    ///
    /// If options are no multiple of four bytes or too long.
    pub fn build(&self) -> Vec<u8> {
        let mut udp = Vec::with_capacity(8 + self.payload.len());
        udp.extend_from_slice(&self.src_port.to_be_bytes());
        udp.extend_from_slice(&self.dst_port.to_be_bytes());
        let len = ((8 + self.payload.len()) as u16).to_be_bytes();
        udp.extend_from_slice(&len);
        udp.extend_from_slice(&[0, 0]);
        udp.extend_from_slice(&self.payload);
        let pseudo = pseudo_header(self.ipv6, self.src, self.dst, 17, udp.len());
        let check = match self.check {
            UdpCheck::Complete => match internet_checksum(&[&pseudo, &udp]) {
                0 => 0xffff,
                check => check,
            },
            UdpCheck::None => 0,
            UdpCheck::Partial => !internet_checksum(&[&pseudo]),
        };
        udp[6..8].copy_from_slice(&check.to_be_bytes());
        if self.ipv6 {
            return over_ipv6(&self.headers(), self.tos, &self.extensions, 17, &udp, self.trailer);
        }
        // The IP header of a segment without payload, and the datagram behind it.
        let Self { src_mac, dst_mac, src, dst, ttl, tos, id, fragment, ref ip_options, .. } = *self;
        let ip_options = ip_options.clone();
        let ip = Tcp { src_mac, dst_mac, src, dst, ttl, tos, id, fragment, ip_options, ..Tcp::default() };
        let mut frame = ip.build();
        frame.truncate(self.l4());
        frame[L3 + 2..L3 + 4].copy_from_slice(&((self.l4() - L3 + udp.len()) as u16).to_be_bytes());
        frame[L3 + 9] = 17;
        frame[L3 + 10..L3 + 12].fill(0);
        let check = internet_checksum(&[&frame[L3..]]);
        frame[L3 + 10..L3 + 12].copy_from_slice(&check.to_be_bytes());
        frame.extend_from_slice(&udp);
        frame.resize(frame.len() + self.trailer, 0);
        frame
    }

    /// Takes a frame apart. Nothing if it is no whole, unfragmented datagram.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        // The same bytes with room for a TCP header of five words: the fields before the ports are those of a segment.
        let ip_header = (*frame.get(L3)? & 0xf) as usize * 4;
        let l4 = L3 + ip_header;
        let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        if word(12)? == 0x86dd {
            return Self::parse_ipv6(frame);
        }
        let mut head = frame.get(..l4)?.to_vec();
        if head.get(L3 + 9) != Some(&17) {
            return None;
        }
        head[L3 + 9] = 6;
        head[L3 + 2..L3 + 4].copy_from_slice(&((ip_header + 20) as u16).to_be_bytes());
        head.extend_from_slice(&[0; 12]);
        head.extend_from_slice(&[0x50, 0, 0, 0, 0, 0, 0, 0]);
        let Tcp { src_mac, dst_mac, src, dst, ttl, tos, id, fragment, ip_options, .. } = Tcp::parse(&head)?;
        let end = L3 + word(L3 + 2)? as usize;
        Some(Self {
            src_mac,
            dst_mac,
            src,
            dst,
            src_port: word(l4)?,
            dst_port: word(l4 + 2)?,
            ttl,
            tos,
            id,
            fragment,
            ip_options,
            payload: frame.get(l4 + 8..end)?.to_vec(),
            trailer: frame.len() - end,
            check: if word(l4 + 6)? == 0 { UdpCheck::None } else { UdpCheck::Complete },
            ipv6: false,
            extensions: Vec::new(),
        })
    }

    fn parse_ipv6(frame: &[u8]) -> Option<Self> {
        let Six { headers, tos, extensions, upper: 17, at, end } = Six::parse(frame)? else { return None };
        let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        let headers = Headers { src_port: word(at)?, dst_port: word(at + 2)?, ..headers };
        let udp = Self {
            tos,
            payload: frame.get(at + 8..end)?.to_vec(),
            trailer: frame.len() - end,
            ipv6: true,
            extensions,
            ..Self::default()
        };
        Some(udp.with_headers(headers))
    }
}

/// An ARP packet (Ethernet, IPv4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    pub src_mac: Mac,
    pub dst_mac: Mac,
    pub operation: u16,
    pub sender_mac: Mac,
    pub sender: [u8; 4],
    pub target_mac: Mac,
    pub target: [u8; 4],
}

impl Arp {
    pub const LEN: usize = 42;

    /// A broadcast request for `target`.
    pub fn request(mac: Mac, sender: [u8; 4], target: [u8; 4]) -> Self {
        Self {
            src_mac: mac,
            dst_mac: Mac::BROADCAST,
            operation: 1,
            sender_mac: mac,
            sender,
            target_mac: Mac::ZERO,
            target,
        }
    }

    pub fn build(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(Self::LEN);
        frame.extend_from_slice(&self.dst_mac.0);
        frame.extend_from_slice(&self.src_mac.0);
        frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4]);
        frame.extend_from_slice(&self.operation.to_be_bytes());
        frame.extend_from_slice(&self.sender_mac.0);
        frame.extend_from_slice(&self.sender);
        frame.extend_from_slice(&self.target_mac.0);
        frame.extend_from_slice(&self.target);
        frame
    }
}

/// The Internet checksum (RFC 1071) of the concatenation, each part but the last of even length, in host order.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]) as u64;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The builder agrees with an independent one, and reads what it has written.
        #[test]
        fn built_as_another_builds(
            src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, seq: u32, ack: u32, window: u16, ttl: u8,
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (src_mac, dst_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
            let flags = Flags::SYN.with(Flags::ACK);
            let tcp = Tcp {
                src_mac, dst_mac, src, dst, src_port, dst_port, seq, ack, window, ttl, payload,
                flags, id: 0, options: vec![2, 4, 5, 0xb4], ..Tcp::default()
            };
            let mut expected = Vec::new();
            PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
                .ipv4(src, dst, ttl)
                .tcp(src_port, dst_port, seq, window)
                .syn()
                .ack(ack)
                .options_raw(&tcp.options)
                .expect("options")
                .write(&mut expected, &tcp.payload)
                .expect("a packet");
            prop_assert_eq!(tcp.build(), expected);
            prop_assert_eq!(Tcp::parse(&tcp.build()), Some(tcp));
        }

        #[test]
        fn a_datagram_built_as_another_builds(
            src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, ttl: u8,
            payload in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let (src_mac, dst_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
            let udp = Udp { src_mac, dst_mac, src, dst, src_port, dst_port, ttl, payload, id: 0, ..Udp::default() };
            let mut expected = Vec::new();
            PacketBuilder::ethernet2(src_mac.0, dst_mac.0)
                .ipv4(src, dst, ttl)
                .udp(src_port, dst_port)
                .write(&mut expected, &udp.payload)
                .expect("a packet");
            prop_assert_eq!(udp.build(), expected);
            prop_assert_eq!(Udp::parse(&udp.build()), Some(udp));
        }
    }
}
