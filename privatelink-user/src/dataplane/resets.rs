//! Resets for both ends of flows that end with their target or endpoint, so that neither waits for its next packet to
//! learn of it.
//!
//! A reset is believed only if its number is the one that its receiver waits for (RFC 9293 section 3.10.7.4): the
//! number that the receiver acknowledged last, which the flow's entries hold. Nothing is forwarded any more when they
//! are read (the target's generation has been raised, the endpoint's budget has ended), so they do not change. A
//! receiver that has got more than it has acknowledged answers with a challenge ACK (RFC 5961), which the datapath
//! answers with an exact reset.

use std::{collections::BTreeMap, io, net::IpAddr, thread, time::Duration};

use privatelink_ebpf::{
    abi::{
        Proto,
        flow::{Addresses6, FlowKey, FlowState, Meta, Slot},
        service::{Port, Target},
    },
    datapath::{parse::Segment, proxy, reset, v6},
    wire::tcp::{Flags, TcpHeader},
};

use super::peers::Peers;
use crate::net::{neighbor::MacAddress, raw::PacketSocket};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
/// Frames sent at once, and the pause after them: a burst that a device's queue takes.
const BURST: usize = 256;
const PAUSE: Duration = Duration::from_millis(1);
/// A device whose queue is full is tried again so often, a pause apart.
const TRIES: u32 = 50;

/// A reset on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    pub ifindex: u32,
    pub to: MacAddress,
    pub frame: Frame,
}

/// A reset's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    V4([u8; reset::SEGMENT_LEN]),
    V6([u8; v6::reset::SEGMENT_LEN]),
}

impl Frame {
    /// The answer to `asked`, a segment from the first address to the second.
    fn answering(asked: &Segment, from: IpAddr, to: IpAddr) -> Self {
        match (from, to) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                Self::V6(v6::reset::build(asked, &Addresses6 { src: src.into(), dst: dst.into() }))
            }
            (IpAddr::V4(_), _) | (_, IpAddr::V4(_)) => Self::V4(reset::build(asked)),
        }
    }

    fn ether_type(&self) -> u16 {
        match self {
            Self::V4(_) => ETH_P_IP,
            Self::V6(_) => ETH_P_IPV6,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}

/// The entries of flows, put together by what both agree on: target index, node port and the addresses that the target
/// sees.
#[derive(Debug, Default)]
pub struct Halves(BTreeMap<[u64; 3], (Option<Slot>, Option<Slot>)>);

impl Halves {
    /// Takes a copy of an entry.
    pub fn add(&mut self, slot: &Slot) {
        let reverse_key = if Meta::unpack(slot.meta).forward() {
            FlowKey {
                src: slot.new_dst,
                dst: slot.new_src,
                src_port: slot.new_dst_port,
                dst_port: slot.new_src_port,
                ..FlowKey::from_words(slot.key)
            }
        } else {
            FlowKey::from_words(slot.key)
        };
        // The VPC is the client's in one entry and the target's in the other; the target's index stands for the latter.
        let [lo, hi] = reverse_key.words();
        let both = self.0.entry([lo, hi & 0xffff_ffff, u64::from(slot.target)]).or_default();
        if Meta::unpack(slot.meta).forward() { both.0 = Some(*slot) } else { both.1 = Some(*slot) }
    }

    /// The resets for both ends of each flow of which both entries are here.
    pub fn resets<'a>(
        &'a self,
        port: impl Fn(u32) -> Option<Port> + 'a,
        target: impl Fn(u32) -> Option<Target> + 'a,
        client6: impl Fn(&FlowKey) -> Option<Addresses6> + 'a,
    ) -> impl Iterator<Item = Reset> + 'a {
        let whole = self.0.values().filter_map(|(forward, reverse)| Some((forward.as_ref()?, reverse.as_ref()?)));
        whole
            .flat_map(move |(forward, reverse)| {
                let record = target(forward.target);
                let peers = record.and_then(|record| Some((record, Peers::of(forward, &record, &client6)?)));
                peers.map(|(record, peers)| {
                    [to_client(forward, reverse, &peers, &port), to_target(reverse, &record, &peers, &port)]
                })
            })
            .flatten()
            .flatten()
    }
}

/// Nobody waits for anything after both sides' FIN, and UDP has no resets.
fn resettable(key: &FlowKey, state: FlowState) -> bool {
    Proto::from_number(key.proto) == Proto::Tcp
        && match state {
            FlowState::SynSent
            | FlowState::SynReceived
            | FlowState::Established
            | FlowState::Closing
            | FlowState::LastAck
            | FlowState::Resetting => true,
            FlowState::Free | FlowState::Busy | FlowState::TimeWait | FlowState::Unreplied => false,
        }
}

fn to_client(forward: &Slot, reverse: &Slot, peers: &Peers, port: impl Fn(u32) -> Option<Port>) -> Option<Reset> {
    let key = FlowKey::from_words(forward.key);
    let state = Meta::unpack(reverse.meta).state;
    let ifindex = u32::from(forward.ifindex);
    let own = port(ifindex)?;
    // A client that has heard nothing yet expects its SYN to be acknowledged.
    let asked = match state {
        FlowState::SynSent => Segment { flags: Flags::SYN, seq: reverse.ack.wrapping_sub(1), ..Segment::NONE },
        FlowState::SynReceived
        | FlowState::Established
        | FlowState::Closing
        | FlowState::LastAck
        | FlowState::Resetting
        | FlowState::Free
        | FlowState::Busy
        | FlowState::TimeWait
        | FlowState::Unreplied => Segment { flags: Flags::ACK, ack: forward.ack, ..Segment::NONE },
    };
    let asked = Segment { key, src_mac: forward.peer_mac.bits(), dst_mac: own.mac.bits(), ..bare(asked) };
    let frame = Frame::answering(&asked, peers.client, peers.service);
    resettable(&key, state).then_some(Reset { ifindex, to: forward.peer_mac.0, frame })
}

fn to_target(reverse: &Slot, target: &Target, peers: &Peers, port: impl Fn(u32) -> Option<Port>) -> Option<Reset> {
    let key = FlowKey::from_words(reverse.key);
    let Target { ifindex, mac, .. } = *target;
    let own = port(ifindex)?;
    let ack = proxy::to_target(reverse.ack, Meta::unpack(reverse.meta));
    let asked = Segment { flags: Flags::ACK, ack, ..Segment::NONE };
    let asked = Segment { key, src_mac: mac.bits(), dst_mac: own.mac.bits(), ..bare(asked) };
    resettable(&key, Meta::unpack(reverse.meta).state).then(|| Reset {
        ifindex,
        to: mac.0,
        frame: Frame::answering(&asked, peers.target, peers.node),
    })
}

/// A segment of headers without options.
fn bare(segment: Segment) -> Segment {
    const HEADERS: usize = reset::SEGMENT_LEN - TcpHeader::LEN;
    let l3 = privatelink_ebpf::wire::L3;
    Segment { header: TcpHeader::LEN as u8, l4: HEADERS as u16, ip_len: (reset::SEGMENT_LEN - l3) as u16, ..segment }
}

/// Sends them; how many were sent. What cannot be sent is noticed by its receiver at its next packet.
pub fn send(socket: &PacketSocket, resets: impl Iterator<Item = Reset>) -> usize {
    let mut sent = 0;
    for (number, Reset { ifindex, to, frame }) in (1..).zip(resets) {
        let mut tries = 0;
        sent += loop {
            match socket.send(ifindex, to, frame.ether_type(), frame.bytes()) {
                Ok(()) => break 1,
                Err(error) if tries < TRIES && full(&error) => {
                    tries += 1;
                    thread::sleep(PAUSE);
                }
                Err(error) => {
                    tracing::debug!(%error, ifindex, "a reset was not sent");
                    break 0;
                }
            }
        };
        if number % BURST == 0 {
            thread::sleep(PAUSE);
        }
    }
    sent
}

fn full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN))
}

#[cfg(test)]
mod tests {
    use privatelink_ebpf::abi::{L4Port, Mac, VpcIndex};

    use super::*;

    const CLIENT: [u8; 4] = [10, 0, 1, 10];
    const ENDPOINT: [u8; 4] = [10, 0, 0, 50];
    const NODE: [u8; 4] = [10, 0, 0, 5];
    const TARGET: [u8; 4] = [10, 0, 1, 11];

    fn ip(bytes: [u8; 4]) -> privatelink_ebpf::abi::Ip4 {
        privatelink_ebpf::abi::Ip4::from_wire(bytes)
    }

    /// The two entries of a flow from port 40000 to port 80, as 1024 to 8080.
    fn flow(state: FlowState, client_ack: u32, target_ack: u32) -> [Slot; 2] {
        let meta = |flags| Meta { version: 1, state, translated: false, flags, idle_s: 350 }.pack();
        let port = L4Port::new;
        let there = FlowKey::tcp(VpcIndex(1), ip(CLIENT), port(40_000), ip(ENDPOINT), port(80));
        let back = FlowKey::tcp(VpcIndex(3), ip(TARGET), port(8080), ip(NODE), port(1024));
        let common = Slot { target: 7, peer_mac: Mac([2, 0, 0, 0, 0, 1]), ifindex: 11, ..Slot::FREE };
        let forward = Slot {
            meta: meta(Meta::FORWARD),
            key: there.words(),
            new_src: ip(NODE),
            new_dst: ip(TARGET),
            new_src_port: port(1024),
            new_dst_port: port(8080),
            ack: client_ack,
            ..common
        };
        let reverse = Slot {
            meta: meta(0),
            key: back.words(),
            new_src: ip(ENDPOINT),
            new_dst: ip(CLIENT),
            new_src_port: port(80),
            new_dst_port: port(40_000),
            ack: target_ack,
            ..common
        };
        [forward, reverse]
    }

    fn resets(slots: &[Slot]) -> Vec<Reset> {
        let mut halves = Halves::default();
        slots.iter().for_each(|slot| halves.add(slot));
        let port = |ifindex: u32| {
            let mac = Mac([2, 0, 0, 0, 1, ifindex as u8]);
            Some(Port { vpc: VpcIndex(1), mac, ..Port::default() })
        };
        let target = |_| Some(Target { ifindex: 13, mac: Mac([2, 0, 0, 0, 2, 7]), ..Target::default() });
        halves.resets(port, target, |_| None).collect()
    }

    /// Ethernet destination and source, IPv4 source and destination, ports, sequence and acknowledgement number, flags.
    fn fields(reset: &Reset) -> ([u8; 6], [u8; 4], [u8; 4], [u16; 2], [u32; 2], u8) {
        let at = |from: usize| reset.frame.bytes()[from..from + 4].try_into().expect("four bytes");
        let ports = u32::from_be_bytes(at(34));
        (
            reset.frame.bytes()[..6].try_into().expect("six bytes"),
            at(26),
            at(30),
            [(ports >> 16) as u16, ports as u16],
            [u32::from_be_bytes(at(38)), u32::from_be_bytes(at(42))],
            reset.frame.bytes()[47],
        )
    }

    #[test]
    fn both_ends_get_the_number_that_they_acknowledged_last() {
        let both = resets(&flow(FlowState::Established, 5_001, 1_001));
        let [to_client, to_target] = both.as_slice() else { panic!("{both:?}") };
        assert_eq!((to_client.ifindex, to_target.ifindex), (11, 13));
        let (mac, ..) = fields(to_client);
        assert_eq!(mac, [2, 0, 0, 0, 0, 1]);
        assert_eq!(fields(to_client), (mac, ENDPOINT, CLIENT, [80, 40_000], [5_001, 0], 0x04));
        let (mac, ..) = fields(to_target);
        assert_eq!(mac, [2, 0, 0, 0, 2, 7]);
        assert_eq!(fields(to_target), (mac, NODE, TARGET, [1024, 8080], [1_001, 0], 0x04));
    }

    #[test]
    fn a_client_without_an_answer_is_refused() {
        let both = resets(&flow(FlowState::SynSent, 0, 1_001));
        let (.., numbers, flags) = fields(&both[0]);
        assert_eq!((numbers, flags), ([0, 1_001], 0x14));
    }

    #[test]
    fn what_has_ended_or_is_half_gone_is_left_alone() {
        assert!(resets(&flow(FlowState::TimeWait, 5_001, 1_001)).is_empty());
        let [forward, reverse] = flow(FlowState::Established, 5_001, 1_001);
        assert!(resets(&[forward]).is_empty() && resets(&[reverse]).is_empty());
        // The other half of another flow: another node port.
        let other = Slot { new_src_port: L4Port::new(1025), ..forward };
        assert!(resets(&[other, reverse]).is_empty());
    }
}
