//! ARP requests on the datapath's ports, sent from a raw socket with the load balancer's node address as sender: no
//! address of the host ever appears in a tenant's network. Answers are seen by the datapath, which reports them.

use std::{io, net::Ipv4Addr};

use super::{
    neighbor::{MacAddress, Probe},
    raw::PacketSocket,
};

const BROADCAST: MacAddress = [0xff; 6];
const ETH_P_ARP: u16 = 0x0806;
/// Shortest Ethernet frame without its checksum (IEEE 802.3).
const FRAME: usize = 60;

/// One question: who has `target`, asked by `sender` on the interface `ifindex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub ifindex: u32,
    /// The port's own MAC.
    pub sender_mac: MacAddress,
    /// The node address that asks.
    pub sender: Ipv4Addr,
    pub target: Ipv4Addr,
    pub probe: Probe,
}

impl Request {
    /// The frame (RFC 826), padded to the shortest that Ethernet carries.
    pub fn frame(&self) -> [u8; FRAME] {
        let Self { ifindex: _, sender_mac, sender, target, probe } = self;
        let to = match probe {
            Probe::Broadcast => BROADCAST,
            Probe::Unicast(mac) => *mac,
        };
        let mut frame = [0; FRAME];
        let fields: [&[u8]; 11] = [
            &to,
            sender_mac,
            &ETH_P_ARP.to_be_bytes(),
            &1u16.to_be_bytes(),
            &0x0800u16.to_be_bytes(),
            &[6, 4],
            &1u16.to_be_bytes(),
            sender_mac,
            &sender.octets(),
            &[0; 6],
            &target.octets(),
        ];
        for (to, from) in frame.iter_mut().zip(fields.into_iter().flatten()) {
            *to = *from;
        }
        frame
    }
}

impl Request {
    /// Sends the request. It leaves past the datapath's ingress hooks.
    ///
    /// # Errors
    ///
    /// `ENXIO` when the interface is gone, `ENETDOWN` when it is down.
    pub fn send(&self, socket: &PacketSocket) -> io::Result<()> {
        let to = match self.probe {
            Probe::Broadcast => BROADCAST,
            Probe::Unicast(mac) => mac,
        };
        socket.send(self.ifindex, to, ETH_P_ARP, &self.frame())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_asks_in_the_name_of_the_node_address() {
        let request = Request {
            ifindex: 7,
            sender_mac: [2, 0, 0, 0, 0, 1],
            sender: Ipv4Addr::new(10, 0, 0, 5),
            target: Ipv4Addr::new(10, 0, 1, 10),
            probe: Probe::Broadcast,
        };
        let frame = request.frame();
        assert_eq!(frame[..14], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[22..32], [2, 0, 0, 0, 0, 1, 10, 0, 0, 5]);
        assert_eq!(frame[32..42], [0, 0, 0, 0, 0, 0, 10, 0, 1, 10]);
        assert_eq!(frame[42..], [0; 18]);
        let unicast = Request { probe: Probe::Unicast([2, 0, 0, 0, 0, 9]), ..request };
        assert_eq!(unicast.frame()[..6], [2, 0, 0, 0, 0, 9]);
    }
}
