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
        }
    }
}

impl Tcp {
    /// Where the TCP header starts.
    pub fn l4(&self) -> usize {
        L3 + 20 + self.ip_options.len()
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
        let pseudo = self.pseudo_header(tcp.len());
        let check = if self.partial { !internet_checksum(&[&pseudo]) } else { internet_checksum(&[&pseudo, &tcp]) };
        tcp[16..18].copy_from_slice(&check.to_be_bytes());

        let mut frame = Vec::with_capacity(L3 + ip_len + self.trailer);
        frame.extend_from_slice(&self.dst_mac.0);
        frame.extend_from_slice(&self.src_mac.0);
        frame.extend_from_slice(&[8, 0]);
        frame.extend_from_slice(&ip);
        frame.extend_from_slice(&tcp);
        frame.resize(L3 + ip_len + self.trailer, 0);
        frame
    }

    fn pseudo_header(&self, tcp_len: usize) -> [u8; 12] {
        let [a, b, c, d] = self.src;
        let [e, f, g, h] = self.dst;
        let [hi, lo] = (tcp_len as u16).to_be_bytes();
        [a, b, c, d, e, f, g, h, 0, 6, hi, lo]
    }

    /// Takes a frame apart. Nothing if it is no whole, unfragmented TCP segment.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        let long = |at: usize| Some(u32::from_be_bytes(frame.get(at..at + 4)?.try_into().ok()?));
        let four = |at: usize| -> Option<[u8; 4]> { frame.get(at..at + 4)?.try_into().ok() };
        let mac = |at: usize| -> Option<Mac> { Some(Mac(frame.get(at..at + 6)?.try_into().ok()?)) };
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
        })
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
        }
    }
}

impl Udp {
    /// Where the UDP header starts.
    pub fn l4(&self) -> usize {
        L3 + 20 + self.ip_options.len()
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
        let pseudo = [&self.src[..], &self.dst[..], &[0, 17], &len[..]].concat();
        let check = match self.check {
            UdpCheck::Complete => match internet_checksum(&[&pseudo, &udp]) {
                0 => 0xffff,
                check => check,
            },
            UdpCheck::None => 0,
            UdpCheck::Partial => !internet_checksum(&[&pseudo]),
        };
        udp[6..8].copy_from_slice(&check.to_be_bytes());
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
        })
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
