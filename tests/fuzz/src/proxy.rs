//! A connection with a PROXY protocol header, over a network that loses, repeats and reorders: what the target gets is
//! the header and then what the client sent, byte for byte, and the client is never told of a byte that it has not
//! sent.

use privatelink_ebpf::{
    testing::{
        cases::{A, ENDPOINT_ID, PROVIDER, PROXIED, world},
        host::Host,
        packet::{Tcp, internet_checksum},
        run::{Backend as _, Fate, Path},
        script::Client,
        tables::Options,
        world::port_mac,
    },
    wire::tcp::Flags,
};

use crate::Choices;

const P: Client = Client { service_port: PROXIED, ..A };
/// What the header is long.
const HEADER: usize = 100;
/// What the client has to say.
const STREAM: usize = 2_000;

/// The header by the protocol's text (PROXY protocol, sections 2.2 and 2.2.7; Elastic Load Balancing's TLVs).
fn header() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x54".to_vec();
    header.extend([&P.ip[..], &P.service, &P.port.to_be_bytes(), &P.service_port.to_be_bytes()].concat());
    header.extend([3, 0, 4, 0, 0, 0, 0, 0xea, 0, 23, 1]);
    header.extend(ENDPOINT_ID);
    let padding = HEADER - header.len() - 3;
    header.extend([4, 0, padding as u8]);
    header.resize(HEADER, 0);
    // CRC32C, bit by bit, over the header with a CRC of zero.
    let crc = !header.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    header[31..35].copy_from_slice(&crc.to_be_bytes());
    header
}

/// The client's byte at an offset of its stream.
fn said(at: usize) -> u8 {
    (at * 31 + at / 256) as u8
}

struct Connection {
    host: Host,
    /// The client's initial number.
    isn: u32,
    /// Number of the client's bytes that have been sent.
    sent: usize,
    /// Toward the target: its source port there, and the segment's other fields.
    node: Tcp,
    /// What the target has received, from the number behind the SYN on.
    received: Vec<Option<u8>>,
    expected: Vec<u8>,
}

impl Connection {
    fn open(isn: u32) -> Self {
        let mut host = Host::new(Options::default());
        host.reset(&world()).expect("tables in memory");
        let syn = client(Flags::SYN, isn, 0);
        let seen = host.frame(Path::Tc, P.ifindex, 0, &syn.build()).expect("a verdict");
        assert_eq!(seen.fate, Fate::Sent, "the SYN opens");
        let node = Tcp::parse(&seen.bytes).expect("a segment");
        let expected = [header(), (0..STREAM).map(said).collect()].concat();
        let received = vec![None; expected.len()];
        let mut connection = Self { host, isn, sent: 0, node, received, expected };
        connection.target(Flags::SYN.with(Flags::ACK), 5000, isn.wrapping_add(1), Vec::new(), 0);
        connection
    }

    /// The client sends; the target gets it, unless it is `lost`.
    fn client(&mut self, from: usize, len: usize, flags: Flags, path: Path, lost: bool) {
        self.sent = self.sent.max(from + len);
        let mut segment = client(flags, self.isn.wrapping_add(1).wrapping_add(from as u32), 5001);
        segment.payload = (from..from + len).map(said).collect();
        let seen = self.host.frame(path, P.ifindex, 0, &segment.build()).expect("a verdict");
        assert_eq!(seen.fate, Fate::Sent, "{segment:?}");
        right(&seen.bytes);
        if lost {
            return;
        }
        let arrived = Tcp::parse(&seen.bytes).expect("a segment");
        let offset = arrived.seq.wrapping_sub(self.isn).wrapping_sub(1) as usize;
        for (at, byte) in arrived.payload.iter().enumerate() {
            assert_eq!(self.expected.get(offset + at), Some(byte), "byte {} of the target's stream", offset + at);
            self.received[offset + at] = Some(*byte);
        }
    }

    /// Bytes that the target has without a gap.
    fn contiguous(&self) -> usize {
        self.received.iter().position(Option::is_none).unwrap_or(self.received.len())
    }

    /// The target sends; what the client gets speaks of nothing that it has not sent.
    fn target(&mut self, flags: Flags, seq: u32, ack: u32, options: Vec<u8>, len: usize) {
        let segment = Tcp {
            src_mac: self.node.dst_mac,
            dst_mac: self.node.src_mac,
            src: self.node.dst,
            dst: self.node.src,
            src_port: self.node.dst_port,
            dst_port: self.node.src_port,
            seq,
            ack,
            flags,
            options,
            payload: vec![b's'; len],
            ..Tcp::default()
        };
        let seen = self.host.frame(Path::Tc, PROVIDER, 0, &segment.build()).expect("a verdict");
        assert_eq!(seen.fate, Fate::Sent, "{segment:?}");
        right(&seen.bytes);
        let arrived = Tcp::parse(&seen.bytes).expect("a segment");
        assert_eq!((arrived.src, arrived.src_port, arrived.dst, arrived.dst_port), (P.service, PROXIED, P.ip, P.port));
        assert_eq!(arrived.seq, seq, "the target's own numbers stay");
        self.sent_already(arrived.ack);
        if let [1, 1, 5, 10, edges @ ..] = &arrived.options[..] {
            for edge in edges.chunks_exact(4) {
                self.sent_already(u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]));
            }
        }
    }

    fn sent_already(&self, number: u32) {
        let end = self.isn.wrapping_add(1).wrapping_add(self.sent as u32);
        assert!(end.wrapping_sub(number) as i32 >= 0, "{number} is told, the client has sent up to {end}");
    }
}

fn client(flags: Flags, seq: u32, ack: u32) -> Tcp {
    Tcp {
        src_mac: P.mac,
        dst_mac: port_mac(P.ifindex),
        src: P.ip,
        dst: P.service,
        src_port: P.port,
        dst_port: P.service_port,
        seq,
        ack,
        flags,
        ..Tcp::default()
    }
}

/// Checksums and lengths are right.
fn right(frame: &[u8]) {
    assert_eq!(internet_checksum(&[&frame[14..34]]), 0, "IP checksum");
    let len = u16::from_be_bytes([frame[16], frame[17]]);
    assert_eq!(usize::from(len), frame.len() - 14, "IP length");
    let pseudo = [&frame[26..34], &[0, 6], &(len - 20).to_be_bytes()].concat();
    assert_eq!(internet_checksum(&[&pseudo, &frame[34..]]), 0, "TCP checksum");
}

pub(crate) fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut connection = Connection::open(choices.u32());
    let mut said_by_target = 0;
    for _ in 0..100 {
        if choices.exhausted() {
            break;
        }
        match choices.below(5) {
            // New data, or none.
            0 | 1 => {
                let len = choices.below(200).min(STREAM - connection.sent);
                let flags = if len > 0 { Flags(0x18) } else { Flags::ACK };
                let path = if choices.below(2) == 0 { Path::Tc } else { Path::XdpThenTc };
                let lost = choices.below(4) == 0;
                connection.client(connection.sent, len, flags, path, lost);
            }
            // Something again.
            2 => {
                let from = usize::from(choices.u16()) % (connection.sent + 1);
                let len = choices.below(200).min(connection.sent - from);
                let lost = choices.below(4) == 0;
                connection.client(from, len, Flags::ACK, Path::Tc, lost);
            }
            // The target acknowledges what it has, or an older acknowledgement arrives late.
            3 => {
                let all = connection.contiguous();
                let offset = if choices.below(4) == 0 { usize::from(choices.u16()) % (all + 1) } else { all };
                let len = choices.below(20);
                let ack = connection.isn.wrapping_add(1).wrapping_add(offset as u32);
                connection.target(Flags::ACK, 5001 + said_by_target, ack, Vec::new(), len);
                said_by_target += len as u32;
            }
            // ... and says what it has beyond a gap.
            _ => {
                let all = connection.contiguous();
                let number = |at: usize| connection.isn.wrapping_add(1).wrapping_add(at as u32);
                let beyond = (all..connection.received.len()).find(|at| connection.received[*at].is_some());
                let Some(begin) = beyond else { continue };
                let end = (begin..connection.received.len())
                    .find(|at| connection.received[*at].is_none())
                    .unwrap_or(connection.received.len());
                let options = [&[1, 1, 5, 10][..], &number(begin).to_be_bytes(), &number(end).to_be_bytes()].concat();
                let ack = number(all);
                connection.target(Flags::ACK, 5001 + said_by_target, ack, options, 0);
            }
        }
    }
    // In the end everything arrives: what is missing is sent again.
    for _ in 0..2 * STREAM / 100 {
        let all = connection.contiguous();
        let ack = connection.isn.wrapping_add(1).wrapping_add(all as u32);
        connection.target(Flags::ACK, 5001 + said_by_target, ack, Vec::new(), 0);
        let from = all.saturating_sub(HEADER);
        if from >= connection.sent {
            break;
        }
        connection.client(from, (connection.sent - from).min(150), Flags(0x18), Path::Tc, false);
    }
    if connection.sent > 0 {
        assert_eq!(connection.contiguous(), HEADER + connection.sent, "the target's stream is not whole");
    }
}
