//! Fragments of datagrams and segments.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::{packet::UdpCheck, script::*},
    wire::L3,
};

/// Where flags and offset are.
const BITS: usize = L3 + 6;

/// A datagram of 3,000 bytes, 3,008 with its header, in fragments.
fn sent(client: Client, id: u16, offset: usize, len: usize) -> Frame {
    datagram(client, 3000).with_udp(|udp| (udp.id, udp.fragment) = (id, 0)).fragment(offset, len)
}

fn answered(client: Client, id: u16, offset: usize, len: usize) -> Frame {
    answer(client, 3000).with_udp(|udp| (udp.id, udp.fragment) = (id, 0)).fragment(offset, len)
}

pub fn cases() -> Vec<Case> {
    let a = A.udp().to_port(DNS);
    let b = B.udp().to_port(DNS);
    let first = |id| sent(a, id, 0, 1480);
    let second = |id| sent(a, id, 1480, 1480);
    let third = |id| sent(a, id, 2960, 1480);
    vec![
        case("a datagram in three fragments opens a flow, and so is its answer sent")
            .frame(first(1).opens())
            .frame(second(1))
            .frame(third(1))
            .frame(answered(a, 9, 0, 1480).establishes())
            .frame(answered(a, 9, 1480, 1480))
            .frame(answered(a, 9, 2960, 48))
            .check(Check::Flows(1)),
        case("the last fragment before the middle one").frame(first(1).opens()).frame(third(1)).frame(second(1)),
        case("a fragment that comes twice").frame(first(1).opens()).frame(first(1)).frame(second(1)).frame(second(1)),
        case("fragments of two datagrams, mixed")
            .frame(first(1).opens())
            .frame(first(2))
            .frame(second(2))
            .frame(second(1))
            .frame(third(1))
            .frame(third(2)),
        case("a datagram without checksum in fragments")
            .frame(first(1).with_udp(|udp| udp.check = UdpCheck::None).opens())
            .frame(second(1).with_udp(|udp| udp.check = UdpCheck::None)),
        case("fragments with IP options")
            .frame(sent(a, 1, 0, 1440).with_udp(|udp| udp.ip_options = vec![1; 4]).opens())
            .frame(sent(a, 1, 1440, 1440).with_udp(|udp| udp.ip_options = vec![1; 40])),
        case("overlapping networks: the same fragments in two VPCs")
            .frame(first(1).opens())
            .frame(sent(b, 1, 1480, 1480).held())
            .frame(second(1))
            .frame(sent(b, 1, 0, 1480).releases())
            .frame(sent(b, 1, 0, 1480).opens())
            .frame(sent(b, 1, 1480, 1480))
            .frame(second(1)),
        case("a segment in fragments")
            .handshake(A)
            .frame(data(A, 3000).with(|tcp| tcp.fragment = 0).fragment(0, 1480))
            .frame(data(A, 3000).with(|tcp| tcp.fragment = 0).fragment(1480, 1480))
            .frame(data(A, 3000).with(|tcp| tcp.fragment = 0).fragment(2960, 60))
            .frame(reply(A, 2000).with(|tcp| tcp.fragment = 0).fragment(0, 1000))
            .frame(reply(A, 2000).with(|tcp| tcp.fragment = 0).fragment(1000, 1480))
            .check(Check::State(A, FlowState::Established)),
        case("a SYN in fragments")
            .frame(syn(A).with(|tcp| tcp.fragment = 0).payload(40).fragment(0, 32).opens())
            .frame(syn(A).with(|tcp| tcp.fragment = 0).payload(40).fragment(32, 32))
            .check(Check::HalfOpenVpc(1, 1)),
        case("Cilium: ipfrag; a later fragment before the first waits for it")
            .frame(second(1).held())
            .frame(first(1).releases())
            // Both come in again.
            .frame(first(1).opens())
            .frame(second(1))
            .frame(third(1)),
        case("all later fragments before the first, the last one first")
            .frame(third(1).held())
            .frame(second(1).held())
            .frame(first(1).releases())
            .frame(first(1).opens())
            .frame(third(1))
            .frame(second(1)),
        case("an answer's later fragment before the first")
            .frame(first(1).opens())
            .frame(answered(a, 9, 1480, 1480).held())
            .frame(answered(a, 9, 0, 1480).releases())
            .frame(answered(a, 9, 0, 1480).establishes())
            .frame(answered(a, 9, 1480, 1480)),
        case("a segment's later fragment before the first")
            .handshake(A)
            .frame(data(A, 3000).with(|tcp| tcp.fragment = 0).fragment(1480, 1480).held())
            .frame(data(A, 3000).with(|tcp| tcp.fragment = 0).fragment(0, 1480).releases())
            .frame(data(A, 3000).with(|tcp| tcp.fragment = 0).fragment(0, 1480))
            .frame(data(A, 3000).with(|tcp| tcp.fragment = 0).fragment(1480, 1480)),
        case("fragments wait for their own packet's first one")
            .frame(second(1).held())
            .frame(first(2).opens())
            .frame(second(2))
            .frame(second(3).held()),
        case("a fragment that has waited for too long is an orphan")
            .frame(second(1).held())
            .advance(3)
            .frame(first(1).opens())
            .frame(second(1))
            .collect(&[(Counter::FragmentOrphan, 1)])
            .collect(&[]),
        case("a fragment that waits is none yet")
            .frame(second(1).held())
            .advance(1)
            .collect(&[])
            .frame(first(1).releases()),
        case("an orphan's place is taken by the next fragment that waits")
            .frame(second(1).held())
            .frame(second(2).held())
            .advance(3)
            .frame(second(3).held().counts(Counter::FragmentOrphan))
            .collect(&[(Counter::FragmentOrphan, 1)])
            .frame(first(3).releases()),
        case("a later fragment long after the first")
            .frame(first(1).opens())
            .advance(3)
            .frame(second(1).held())
            .frame(first(1).releases())
            .frame(first(1))
            .frame(second(1)),
        case("RFC 1858: a fragment that overlaps the first")
            .frame(first(1).opens())
            .frame(sent(a, 1, 1472, 1480).fragment_refused(Counter::FragmentOverlap))
            .frame(sent(a, 1, 8, 1480).fragment_refused(Counter::FragmentOverlap))
            .frame(second(1)),
        case("RFC 1858: a first fragment without the whole TCP header")
            .handshake(A)
            .frame(data(A, 100).fragment(0, 8).fragment_refused(Counter::FragmentTiny))
            .frame(data(A, 100).fragment(0, 16).fragment_refused(Counter::FragmentTiny))
            .frame(data(A, 100).fragment(0, 24)),
        case("RFC 3128: a fragment behind eight bytes of TCP")
            .handshake(A)
            .frame(data(A, 100).fragment(0, 24))
            .frame(data(A, 100).fragment(8, 40).fragment_refused(Counter::FragmentTiny)),
        case("the least first fragment of a datagram").frame(sent(a, 1, 0, 8).opens()).frame(sent(a, 1, 8, 1472)),
        case("a first fragment that no listener is for leaves nothing behind")
            .frame(sent(A.udp().to_port(9), 1, 0, 1480).fragment_refused(Counter::NoListener))
            .frame(sent(A.udp().to_port(9), 1, 1480, 1480).held())
            .frame(sent(A.udp().to_port(9), 1, 0, 1480).fragment_refused(Counter::NoListener)),
        case("a first fragment to nobody")
            .frame(sent(a.to([10, 0, 0, 99]), 1, 0, 1480).fragment_refused(Counter::NotOurs))
            .frame(sent(a.to([10, 0, 0, 99]), 1, 1480, 1480).fragment_refused(Counter::NotOurs)),
        case("fragments of a refused datagram: the flow is missing")
            .frame(sent(LIMITED_DNS, 7, 0, 1480).opens())
            .frame(sent(LIMITED_DNS.from_port(2), 8, 0, 1480).opens())
            .frame(sent(LIMITED_DNS.from_port(3), 9, 0, 1480).fragment_refused(Counter::EndpointHalfOpenLimit))
            .frame(sent(LIMITED_DNS.from_port(3), 9, 1480, 1480).fragment_refused(Counter::NoFlow)),
        case("fragments to a target that was taken away")
            .frame(first(1).opens())
            .change(|world| world.targets.values_mut().for_each(|target| target.generation += 1))
            .frame(second(1).fragment_refused(Counter::TargetGone)),
        case("fragments of a protocol that is neither TCP nor UDP")
            .frame(sent(a, 1, 0, 1480).set(L3 + 9, &[1]).fragment_refused(Counter::Fragment))
            .frame(sent(a, 1, 1480, 1480).set(L3 + 9, &[132]).fragment_refused(Counter::Fragment)),
        case("a fragment that ends where no other can begin")
            .frame(sent(a, 1, 0, 1476).fragment_refused(Counter::Malformed)),
        case("a fragment beyond the longest packet")
            .frame(first(1).opens())
            .frame(second(1).set(BITS, &[0x1f, 0xff]).fragment_refused(Counter::Malformed))
            .frame(second(1).set(BITS, &[0x3f, 0xff]).fragment_refused(Counter::Malformed)),
        case("an empty fragment").frame(sent(a, 1, 0, 1480).set(L3 + 2, &[0, 20]).fragment_refused(Counter::Malformed)),
        case("a fragment whose hops are used up: only the first is answered")
            .frame(first(1).opens())
            .frame(second(1).with_udp(|udp| udp.ttl = 1).fragment_refused(Counter::TtlExceeded))
            .frame(sent(a, 2, 0, 1480).with_udp(|udp| udp.ttl = 1).time_exceeded())
            .frame(second(1)),
        case("a fragment larger than the way on: only the first is answered")
            .frame(sent(ON_JUMBO.udp().to_port(DNS), 1, 0, 1480).opens())
            .frame(sent(ON_JUMBO.udp().to_port(DNS), 1, 1480, 1520).fragment_refused(Counter::MtuExceeded))
            .frame(sent(ON_JUMBO.udp().to_port(DNS), 1, 1480, 1480))
            .frame(sent(ON_JUMBO.udp().to_port(DNS), 2, 0, 1488).too_big(1500)),
        case("a target's fragment of no flow").frame(first(1).opens()).frame(answered(a, 5, 1480, 1480).held()),
        case("a fragment cut short")
            .frame(first(1).cut(33).set(12, &[0x88, 0xb5]).fragment_refused(Counter::Truncated))
            .frame(first(1).cut(1000).fragment_refused(Counter::Truncated)),
        case("fragments on a shared port").frame(sent(ON_SHARED.udp().to_port(DNS), 1, 0, 1480).opens()).frame(sent(
            ON_SHARED.udp().to_port(DNS),
            1,
            1480,
            1480,
        )),
    ]
}

/// An endpoint that may have two half-open flows.
const LIMITED_DNS: Client = A.udp().to_port(DNS).to(LIMITED);
