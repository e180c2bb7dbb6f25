//! Packets that are asked about and never sent.

use std::net::IpAddr;

use etherparse::{PacketBuilder, TcpOptionElement};

use super::neighbor::MacAddress;
use crate::runtime::{PacketProtocol, Question};

/// Where a packet that nobody sends comes from: locally administered (IEEE 802).
const NOBODY: MacAddress = [0x02, 0, 0, 0, 0, 1];
const TTL: u8 = 64;
const WINDOW: u16 = 64_240;
/// What an Ethernet of 1,500 bytes carries.
const MSS: u16 = 1_460;

/// The first packet of what `question` asks about, as an Ethernet frame to the port with the address `port`.
pub fn frame(question: &Question, port: MacAddress) -> Vec<u8> {
    let Question { vpc: _, port: _, from, to, protocol, sequence } = question;
    let ethernet = PacketBuilder::ethernet2(NOBODY, port);
    let (ip, six) = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (ethernet.ipv4(from.octets(), to.octets(), TTL), false),
        (from, to) => (ethernet.ipv6(octets(from), octets(to), TTL), true),
    };
    let mut frame = Vec::new();
    // Writing into a vector cannot fail, and none of these packets is too long.
    let written = match protocol {
        PacketProtocol::Tcp => ip
            .tcp(from.port(), to.port(), *sequence, WINDOW)
            .syn()
            .options(&[TcpOptionElement::MaximumSegmentSize(MSS)])
            .map(|packet| packet.write(&mut frame, &[]).is_ok())
            .unwrap_or(false),
        PacketProtocol::Udp => ip.udp(from.port(), to.port()).write(&mut frame, &[]).is_ok(),
        PacketProtocol::Icmp if six => ip.icmpv6_echo_request(from.port(), 1).write(&mut frame, &[]).is_ok(),
        PacketProtocol::Icmp => ip.icmpv4_echo_request(from.port(), 1).write(&mut frame, &[]).is_ok(),
    };
    debug_assert!(written, "a packet without payload is not too long");
    frame
}

/// An address as an IPv6 packet has it.
fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn each_protocol_has_its_first_packet() {
        let rows = [(PacketProtocol::Tcp, "tcp"), (PacketProtocol::Udp, "udp"), (PacketProtocol::Icmp, "icmp")];
        for (protocol, expected) in rows {
            let question = Question {
                vpc: "vpc-00000000000000001".parse().expect("an id"),
                port: None,
                from: SocketAddr::new(Ipv4Addr::new(10, 0, 1, 10).into(), 50_000),
                to: SocketAddr::new(Ipv4Addr::new(10, 0, 0, 50).into(), 80),
                protocol,
                sequence: 7,
            };
            let frame = frame(&question, [2, 0, 0, 0, 0, 9]);
            let packet = SlicedPacket::from_ethernet(&frame).expect("a whole packet");
            let found = match packet.transport.expect("a transport header") {
                TransportSlice::Tcp(tcp) => {
                    assert!(tcp.syn() && !tcp.ack());
                    assert_eq!((tcp.source_port(), tcp.destination_port(), tcp.sequence_number()), (50_000, 80, 7));
                    "tcp"
                }
                TransportSlice::Udp(udp) => {
                    assert_eq!((udp.source_port(), udp.destination_port()), (50_000, 80));
                    "udp"
                }
                TransportSlice::Icmpv4(_) => "icmp",
                TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_) => "another",
            };
            assert_eq!(found, expected);
        }
    }
}
