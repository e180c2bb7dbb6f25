//! Frames that nobody's stack sends.

use super::*;
use crate::{abi::Counter, testing::script::*, wire::L3};

const IP: usize = L3;
const TCP: usize = L3 + 20;

/// A local experiment (IEEE 802): the kernel's test run refuses to make a packet of less than an IP header that says
/// IPv4.
const OTHER_TYPE: &[u8] = &[0x88, 0xb5];

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        case("Katran: short packets; cut within the Ethernet and IP headers")
            .frames([15, 20, 33].map(|len| syn(A).set(12, OTHER_TYPE).cut(len).dropped(Counter::Truncated))),
        case("cut within the TCP header and its options")
            .frames([34, 40, 53, 54, 57].map(|len| syn(A).cut(len).dropped(Counter::Truncated))),
        case("cut within the payload")
            .handshake(A)
            .frames([54, 60, 153].map(|len| data(A, 100).cut(len).dropped(Counter::Truncated))),
        case("cut short, for somebody else")
            .frame(syn(A.to([10, 0, 0, 99])).cut(40).dropped(Counter::NotOurs))
            .frame(syn(ON_SHARED.to([10, 0, 0, 99])).cut(40).passed()),
        case("too short for an IP header, on a shared port").frame(syn(ON_SHARED).set(12, OTHER_TYPE).cut(20).passed()),
        case("Calico: malformed_packets; IP version").frame(syn(A).set(IP, &[0x65]).dropped(Counter::Malformed)),
        case("IP header length of sixteen").frame(syn(A).set(IP, &[0x44]).dropped(Counter::Malformed)),
        case("IP header length of zero").frame(syn(A).set(IP, &[0x40]).dropped(Counter::Malformed)),
        case("IP header longer than the frame").frame(syn(A).set(IP, &[0x4f]).dropped(Counter::Truncated)),
        case("IP total length longer than the frame").frame(syn(A).set(IP + 2, &[0, 45]).dropped(Counter::Truncated)),
        case("IP total length of 65,535").frame(syn(A).set(IP + 2, &[0xff, 0xff]).dropped(Counter::Truncated)),
        case("IP total length of zero").frame(syn(A).set(IP + 2, &[0, 0]).dropped(Counter::Malformed)),
        case("IP total length shorter than the headers")
            .frame(syn(A).set(IP + 2, &[0, 19]).dropped(Counter::Malformed))
            .frame(syn(A).set(IP + 2, &[0, 43]).dropped(Counter::Malformed)),
        case("TCP header length of sixteen").frame(syn(A).set(TCP + 12, &[0x40]).dropped(Counter::Malformed)),
        case("TCP header length of zero").frame(syn(A).set(TCP + 12, &[0]).dropped(Counter::Malformed)),
        case("TCP header longer than the packet").frame(syn(A).set(TCP + 12, &[0xf0]).dropped(Counter::Malformed)),
        case("somebody else's fragment on a shared port")
            .frame(syn(ON_SHARED.to([10, 0, 0, 99])).with(|tcp| tcp.fragment = 0x2000).passed())
            .frame(syn(ON_SHARED).with(|tcp| tcp.fragment = 0x0010).held()),
        case("Katran: UDP to a TCP listener").frame(datagram(A.udp(), 20).dropped(Counter::NoListener)),
        case("Katran: ICMP to a VIP").frame(syn(A).set(IP + 9, &[1]).icmp_refused(Counter::IcmpUnsupported)),
        case("SCTP, and a protocol that does not exist")
            .frame(syn(A).set(IP + 9, &[132]).dropped(Counter::OtherProtocol))
            .frame(syn(A).set(IP + 9, &[255]).dropped(Counter::OtherProtocol)),
        case("SCTP on a shared port")
            .frame(syn(ON_SHARED).set(IP + 9, &[132]).dropped(Counter::OtherProtocol))
            .frame(syn(ON_SHARED.to([10, 0, 0, 99])).set(IP + 9, &[132]).passed()),
        case("a VLAN tag").frame(syn(A).set(12, &[0x81, 0]).dropped(Counter::OtherEtherType)),
        case("an IEEE 802.3 length").frame(syn(A).set(12, &[0, 46]).dropped(Counter::OtherEtherType)),
        case("all bits zero").frame(raw(A_PORT, vec![0; 60]).dropped(Counter::OtherEtherType)),
        case("all bits one").frame(raw(A_PORT, vec![0xff; 60]).dropped(Counter::OtherEtherType)),
        case("IPv4 of ones")
            .frame(raw(A_PORT, [&[0xff; 12][..], &[8, 0], &[0xff; 60]].concat()).dropped(Counter::NotOurs)),
        case("IPv4 of zeros")
            .frame(raw(A_PORT, [&[0; 12][..], &[8, 0], &[0; 60]].concat()).dropped(Counter::Malformed)),
        case("segments with a wrong checksum are the receiver's to refuse").handshake(A).frame(data(A, 10).offloaded()),
    ];
    // Flags that mean nothing, for a stranger and inside a connection.
    for (name, flags) in [
        ("no flag at all", 0x00),
        ("SYN and FIN", 0x03),
        ("SYN and RST", 0x06),
        ("FIN and RST", 0x05),
        ("FIN alone", 0x01),
        ("FIN, PSH and URG (Christmas tree)", 0x29),
        ("all flags", 0xff),
    ] {
        cases.push(
            case(name)
                .frame(ack(A).flags(flags).dropped(Counter::InvalidFlags))
                .check(Check::Entries(0))
                .handshake(A)
                .frame(ack(A).flags(flags).dropped(Counter::InvalidFlags))
                .frame(target_ack(A).flags(flags).dropped(Counter::InvalidFlags))
                .check(Check::State(A, crate::abi::flow::FlowState::Established)),
        );
    }
    cases
}
