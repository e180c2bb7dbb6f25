//! Neighbour solicitations (RFC 4861 section 4.3) on the datapath's ports, sent from a raw socket with the load
//! balancer's node address as sender; as [`super::arp`]. The advertisements are seen by the datapath, which reports
//! them.

use std::{io, net::Ipv6Addr};

use super::{
    neighbor::{MacAddress, Probe},
    raw::PacketSocket,
};

const ETH_P_IPV6: u16 = 0x86dd;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const SOURCE_ADDRESS: u8 = 1;
/// What no router has touched (RFC 4861 section 7.1.1).
const HOP_LIMIT: u8 = 255;
/// Type, code, checksum, reserved, target, and the option with the sender's Ethernet address.
const MESSAGE: usize = 32;
/// Ethernet, IPv6, the message.
const FRAME: usize = 14 + 40 + MESSAGE;

/// One question: who has `target`, asked by `sender` on the interface `ifindex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    pub ifindex: u32,
    /// The port's own MAC.
    pub sender_mac: MacAddress,
    /// The node address that asks.
    pub sender: Ipv6Addr,
    pub target: Ipv6Addr,
    pub probe: Probe,
}

/// The multicast group of who has `address` (RFC 4291 section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | address.to_bits() & 0xff_ffff)
}

/// The Ethernet address of a multicast group (RFC 2464 section 7).
fn multicast_mac(group: Ipv6Addr) -> MacAddress {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u16 {
    let words = |part: &'a [u8]| part.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = parts.into_iter().flat_map(words).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

impl Solicitation {
    /// The Ethernet and the IPv6 address that it is sent to: all that could have the target, or the neighbour that was
    /// there.
    fn receiver(&self) -> (MacAddress, Ipv6Addr) {
        match self.probe {
            Probe::Broadcast => {
                let group = solicited_node(self.target);
                (multicast_mac(group), group)
            }
            Probe::Unicast(mac) => (mac, self.target),
        }
    }

    /// The frame.
    pub fn frame(&self) -> [u8; FRAME] {
        let Self { ifindex: _, sender_mac, sender, target, probe: _ } = self;
        let (to_mac, to) = self.receiver();
        let (source, receiver) = (sender.octets(), to.octets());
        let length = (MESSAGE as u16).to_be_bytes();
        let message = |check: [u8; 2]| {
            let mut message = [0; MESSAGE];
            let fields: [&[u8]; 6] =
                [&[SOLICITATION, 0], &check, &[0; 4], &target.octets(), &[SOURCE_ADDRESS, 1], sender_mac];
            for (to, from) in message.iter_mut().zip(fields.into_iter().flatten()) {
                *to = *from;
            }
            message
        };
        let check = checksum([&source[..], &receiver, &length, &[0, ICMPV6], &message([0; 2])]);
        let message = message(check.to_be_bytes());
        let mut frame = [0; FRAME];
        let fields: [&[u8]; 9] = [
            &to_mac,
            sender_mac,
            &ETH_P_IPV6.to_be_bytes(),
            &[0x60, 0, 0, 0],
            &length,
            &[ICMPV6, HOP_LIMIT],
            &source,
            &receiver,
            &message,
        ];
        for (to, from) in frame.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        frame
    }

    /// Sends the solicitation. It leaves past the datapath's ingress hooks.
    ///
    /// # Errors
    ///
    /// `ENXIO` when the interface is gone, `ENETDOWN` when it is down.
    pub fn send(&self, socket: &PacketSocket) -> io::Result<()> {
        socket.send(self.ifindex, self.receiver().0, ETH_P_IPV6, &self.frame())
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{IcmpEchoHeader, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn solicitation(probe: Probe) -> Solicitation {
        Solicitation {
            ifindex: 7,
            sender_mac: [2, 0, 0, 0, 0, 1],
            sender: "fd00:10::5".parse().expect("an address"),
            target: "fd00:10::1:2:a123".parse().expect("an address"),
            probe,
        }
    }

    #[test]
    fn a_solicitation_asks_those_who_could_have_the_target() {
        let frame = solicitation(Probe::Broadcast).frame();
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 2, 0xa1, 0x23]);
        let packet = SlicedPacket::from_ethernet(&frame).expect("a whole packet");
        let Some(NetSlice::Ipv6(ip)) = &packet.net else { panic!("{packet:?}") };
        assert_eq!(ip.header().destination_addr(), "ff02::1:ff02:a123".parse::<Ipv6Addr>().expect("an address"));
        assert_eq!((ip.header().source_addr(), ip.header().hop_limit()), (solicitation(Probe::Broadcast).sender, 255));
        let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("{packet:?}") };
        assert!(!matches!(icmp.icmp_type(), Icmpv6Type::EchoRequest(IcmpEchoHeader { .. })));
        assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
        assert_eq!(frame[54..56], [135, 0]);
        assert_eq!(frame[62..78], solicitation(Probe::Broadcast).target.octets());
        assert_eq!(frame[78..], [1, 1, 2, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_known_neighbour_is_asked_alone() {
        let frame = solicitation(Probe::Unicast([2, 0, 0, 0, 0, 9])).frame();
        assert_eq!(frame[..6], [2, 0, 0, 0, 0, 9]);
        assert_eq!(frame[38..54], solicitation(Probe::Broadcast).target.octets());
    }
}
