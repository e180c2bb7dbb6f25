//! UDP: what opens a flow, keeps it and ends it, and what a translation does to a datagram.

use super::*;
use crate::{
    abi::{Counter, Ip4, L4Port, Proto, VpcIndex, flow::FlowState, service::FrontendKey},
    testing::{
        packet::{Udp, UdpCheck},
        script::*,
    },
};

const CLIENT_A: Client = A.udp().to_port(DNS);

/// A question and its answer.
fn exchanged(case: Case, client: Client) -> Case {
    case.frame(datagram(client, 30).opens()).frame(answer(client, 100).counts(Counter::FlowEstablished))
}

pub fn cases() -> Vec<Case> {
    let a = CLIENT_A;
    vec![
        exchanged(case("UDP: a question and its answer"), a)
            .check(Check::Flows(1))
            .check(Check::State(a, FlowState::Established))
            .check(Check::EndpointPackets(1, 1, 1))
            .check(Check::EndpointBytes(1, 58, 128))
            .check(Check::TargetPackets(9, 1, 1))
            .check(Check::ListenerFlows(9, 1))
            .check(Check::HalfOpenVpc(1, 0))
            .check(Check::HalfOpenEndpoint(1, 0))
            .frame(datagram(a, 0))
            .frame(answer(a, 1472)),
        case("UDP: half-open until the answer")
            .frame(datagram(a, 30).opens())
            .check(Check::State(a, FlowState::Unreplied))
            .check(Check::HalfOpenVpc(1, 1))
            .check(Check::HalfOpenEndpoint(1, 1))
            .frames((0..3).map(|len| datagram(a, len)))
            .check(Check::State(a, FlowState::Unreplied))
            .check(Check::PoolUsed(8, 1)),
        case("UDP: the budget of half-open flows is shared with TCP and given back by answers")
            .frame(syn(A.to(LIMITED)).opens())
            .frame(datagram(a.to(LIMITED), 1).opens())
            .frame(datagram(a.to(LIMITED).from_port(1), 1).dropped(Counter::EndpointHalfOpenLimit))
            .frame(answer(a.to(LIMITED), 1).counts(Counter::FlowEstablished))
            .frame(datagram(a.to(LIMITED).from_port(1), 1).opens()),
        exchanged(exchanged(case("UDP: the same client address and port in two VPCs"), a), B.udp().to_port(DNS))
            .check(Check::Flows(2))
            .frame(answer(a, 9))
            .frame(answer(B.udp().to_port(DNS), 9)),
        exchanged(
            case("TCP and UDP on one port: flows, pools and counts of their own"),
            A.udp().to_port(BOTH_PROTOCOLS),
        )
        .handshake(A.to_port(BOTH_PROTOCOLS))
        .check(Check::Flows(2))
        .check(Check::PoolUsed(8, 1))
        .check(Check::PoolUsed(11, 1))
        .check(Check::ListenerFlows(9, 1))
        .check(Check::ListenerFlows(13, 1))
        .frame(datagram(A.udp().to_port(BOTH_PROTOCOLS), 5))
        .frame(data(A.to_port(BOTH_PROTOCOLS), 5)),
        case("UDP to a port that has TCP only, and the reverse")
            .frame(datagram(A.udp(), 5).dropped(Counter::NoListener))
            .frame(syn(A.to_port(DNS)).dropped(Counter::NoListener))
            .check(Check::Entries(0)),
        exchanged(case("UDP: no checksum stays none"), a)
            .frame(datagram(a, 33).with_udp(|udp| udp.check = UdpCheck::None))
            .frame(answer(a, 34).with_udp(|udp| udp.check = UdpCheck::None))
            .frame(datagram(a, 0).with_udp(|udp| udp.check = UdpCheck::None)),
        case("UDP: a flow that begins without a checksum")
            .frame(datagram(a, 5).with_udp(|udp| udp.check = UdpCheck::None).opens())
            .frame(answer(a, 5).with_udp(|udp| udp.check = UdpCheck::None).counts(Counter::FlowEstablished)),
        // The payload's last word runs through all values near the one that makes the sum zero.
        exchanged(case("UDP: a sum that comes to zero is sent as 0xffff"), a).frames((0..=u8::MAX).map(|byte| {
            answer(CLIENT_A, 2).with_udp(|udp| {
                udp.payload = vec![0; 2];
                let (src, dst) = ([10, 0, 3, 1], NODE);
                let built = Udp { src, dst, src_port: 5353, dst_port: 53, ..udp.clone() }.build();
                let check = u16::from_be_bytes([built[40], built[41]]).wrapping_add(u16::from(byte));
                udp.payload = check.to_be_bytes().to_vec();
            })
        })),
        exchanged(case("UDP: senders that leave checksums to their devices go by TC, datagram by datagram"), a)
            .frame(datagram(a, 100).partial())
            .frame(answer(a, 100).partial())
            .frame(datagram(a, 100))
            .frame(answer(a, 100)),
        case("UDP: a flow that begins with a partial checksum")
            .frame(datagram(a, 100).partial().opens())
            .frame(answer(a, 100).partial().counts(Counter::FlowEstablished))
            .frame(datagram(a, 100).partial()),
        exchanged(case("UDP: a frame that stands for many datagrams"), a)
            .frame(datagram(a, 3000).gso(1400))
            .frame(answer(a, 3500).gso(1200)),
        case("UDP: IP options")
            .frame(datagram(a, 7).with_udp(|udp| udp.ip_options = vec![1; 40]).opens())
            .frame(answer(a, 7).with_udp(|udp| udp.ip_options = vec![1; 4]).counts(Counter::FlowEstablished))
            .frame(datagram(a, 8).with_udp(|udp| udp.ip_options = vec![7, 7, 4, 0, 0, 0, 0, 0])),
        exchanged(case("UDP: type of service, identification, padding and trailers are kept"), a)
            .frame(datagram(a, 1).with_udp(|udp| (udp.tos, udp.id, udp.fragment) = (0xb9, 0xffff, 0)))
            .frame(datagram(a, 1).with_udp(|udp| udp.trailer = 17))
            .frame(answer(a, 1).with_udp(|udp| udp.trailer = 64)),
        exchanged(case("UDP: lengths that contradict each other"), a)
            .frame(datagram(a, 20).set(38, &[0, 7]).dropped(Counter::Malformed))
            .frame(datagram(a, 20).set(38, &[0, 29]).dropped(Counter::Malformed))
            .frame(datagram(a, 20).set(38, &[0xff, 0xff]).dropped(Counter::Malformed))
            .frame(datagram(a, 20).set(16, &[0, 27]).dropped(Counter::Malformed))
            .frame(datagram(a, 20).set(16, &[0, 200]).dropped(Counter::Truncated))
            .frame(datagram(a, 20).cut(41).dropped(Counter::Truncated))
            .frame(datagram(a, 20).set(14, &[0x44]).dropped(Counter::Malformed))
            .check(Check::EndpointPackets(1, 1, 1)),
        case("UDP: a datagram shorter than its packet says")
            .frame(datagram(a, 20).set(16, &[0, 200]).dropped(Counter::Truncated))
            .check(Check::Entries(0)),
        case("UDP: TTL")
            .frame(datagram(a, 1).with_udp(|udp| udp.ttl = 1).time_exceeded())
            .check(Check::Entries(0))
            .frame(datagram(a, 1).with_udp(|udp| udp.ttl = 2).opens())
            .frame(answer(a, 1).with_udp(|udp| udp.ttl = 1).time_exceeded())
            .check(Check::State(a, FlowState::Unreplied))
            .frame(datagram(a, 1).with_udp(|udp| udp.ttl = 1).time_exceeded()),
        case("UDP: larger than the MTU of the way out")
            .frame(datagram(ON_SMALL.udp().to_port(DNS), 5).opens())
            .frame(answer(ON_SMALL.udp().to_port(DNS), 1372).counts(Counter::FlowEstablished))
            .frame(answer(ON_SMALL.udp().to_port(DNS), 1373).too_big(1400)),
        case("UDP: who is not answered is dropped and counted")
            .frame(datagram(a.to_port(UDP_EMPTY), 9).dropped(Counter::NoTarget))
            .check(Check::EndpointRefused(1, 1))
            .frame(datagram(a.to_port(9999), 9).dropped(Counter::NoListener))
            .frame(datagram(a.to([10, 0, 0, 99]), 9).dropped(Counter::NotOurs))
            .check(Check::Entries(0)),
        case("UDP: a target's pool is full")
            .frame(datagram(a.to_port(UDP_ONE_PORT), 9).opens())
            .frame(datagram(a.to_port(UDP_ONE_PORT).from_port(1), 9).dropped(Counter::PortsExhausted))
            .check(Check::PoolExhausted(9, 1))
            .check(Check::PortAllocationErrors(10, 1))
            .advance(31)
            .collect(&[(Counter::FlowExpiredHalfOpen, 1)])
            .frame(datagram(a.to_port(UDP_ONE_PORT).from_port(1), 9).opens()),
        case("UDP: a target behind a port that takes no XDP frames")
            .frame(datagram(a.to_port(UDP_TC_TARGET), 9).opens().by_tc())
            .frame(answer(a.to_port(UDP_TC_TARGET), 9).counts(Counter::FlowEstablished))
            .frame(datagram(a.to_port(UDP_TC_TARGET), 9).by_tc())
            .check(Check::Flows(1)),
        case("UDP: a client behind a port that takes no XDP frames")
            .frame(datagram(ON_NO_XDP.udp().to_port(DNS), 9).opens())
            .frame(answer(ON_NO_XDP.udp().to_port(DNS), 9).by_tc().counts(Counter::FlowEstablished)),
        exchanged(case("UDP: after 120 s of silence the client's next datagram is a new flow"), a)
            .advance(119)
            .frame(datagram(a, 5))
            .advance(121)
            .frame(datagram(a, 5).counts(Counter::FlowExpiredIdle).opens())
            .check(Check::State(a, FlowState::Unreplied))
            .check(Check::Flows(1))
            .check(Check::PoolUsed(8, 1)),
        exchanged(case("UDP: one direction's datagrams keep both alive"), a)
            .advance(100)
            .frame(datagram(a, 5))
            .advance(100)
            .frame(datagram(a, 5))
            .advance(100)
            .frame(answer(a, 5))
            .collect(&[])
            .check(Check::State(a, FlowState::Established)),
        exchanged(case("UDP: the target's datagram after the silence is dropped"), a)
            .advance(121)
            .frame(answer(a, 5).dropped(Counter::IdleExpired).counts(Counter::FlowExpiredIdle))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(8, 0))
            .frame(answer(a, 5).dropped(Counter::NoFlow)),
        case("UDP: an answer must come within 30 s")
            .frame(datagram(a, 5).opens())
            .advance(29)
            .frame(datagram(a, 5))
            .advance(29)
            .collect(&[])
            .frame(datagram(a, 5))
            .advance(31)
            .frame(datagram(a, 5).counts(Counter::FlowExpiredHalfOpen).opens())
            .check(Check::HalfOpenVpc(1, 1))
            .advance(31)
            .frame(answer(a, 5).dropped(Counter::IdleExpired).counts(Counter::FlowExpiredHalfOpen))
            .check(Check::HalfOpenVpc(1, 0)),
        exchanged(case("UDP: a sweep takes what is silent, and the port is free at once"), a)
            .advance(119)
            .collect(&[])
            .advance(2)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::Entries(0))
            .check(Check::PoolUsed(8, 0)),
        exchanged(case("UDP: a target that is taken away; the client's next datagram goes to another"), a)
            .change(|world| {
                world.targets.get_mut(&9).expect("target 9").generation = 8;
                world.targets.get_mut(&9).expect("target 9").ip = Ip4::from_wire([10, 0, 3, 9]);
            })
            .frame(datagram(a, 5).counts(Counter::FlowEndedWithTarget).opens())
            .frame(answer(a, 5).counts(Counter::FlowEstablished)),
        exchanged(case("UDP: a datagram of a target that was taken away is dropped"), a)
            .change(|world| world.targets.get_mut(&9).expect("target 9").generation = 8)
            .frame(answer(a, 5).dropped(Counter::TargetGone).counts(Counter::FlowEndedWithTarget))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(8, 0)),
        case("UDP: providers cannot open flows")
            .frame(
                other_udp(
                    PROVIDER,
                    Udp { src: [10, 0, 3, 1], src_port: 5353, dst: NODE, dst_port: 40_000, ..Udp::default() },
                )
                .dropped(Counter::NoFlow),
            )
            .check(Check::Entries(0)),
        exchanged(case("UDP: a datagram from another port of the target is no answer"), a)
            .frame(answer(a, 5).set(34, &[0, 99]).dropped(Counter::NoFlow))
            .frame(answer(a, 5).set(29, &[0x77]).dropped(Counter::NoFlow)),
        case("UDP: an owned address as the source is forged")
            .frame(
                other_udp(A_PORT, Udp { src: LIMITED, src_port: 9, dst: ENDPOINT, dst_port: DNS, ..Udp::default() })
                    .dropped(Counter::SpoofedSource),
            )
            .frame(
                other_udp(
                    A_PORT,
                    Udp { src: [224, 0, 0, 1], src_port: 9, dst: ENDPOINT, dst_port: DNS, ..Udp::default() },
                )
                .dropped(Counter::InvalidAddress),
            ),
        exchanged(case("UDP: a neighbour cannot draw a flow to itself while it is in use"), a)
            .frame(datagram(a.with_mac(Mac([2, 0, 0, 0, 0, 0x66])), 5))
            .frame(answer(a, 5))
            .advance(3)
            .frame(datagram(a, 5))
            .advance(3)
            .frame(datagram(a.with_mac(Mac([2, 0, 0, 0, 0, 0x66])), 5))
            .frame(answer(a, 5)),
        exchanged(case("UDP: a client that is elsewhere gets its answers there"), a)
            .advance(3)
            .frame(datagram(a.behind(A_OTHER_PORT), 5))
            .frame(answer(a, 5))
            .advance(3)
            .frame(datagram(a.behind(A_OTHER_PORT), 5).counts(Counter::ClientMoved))
            .frame(answer(a.behind(A_OTHER_PORT), 5)),
        case("UDP: a shared port's other datagrams are the host's")
            .frame(datagram(ON_SHARED.udp().to([10, 0, 0, 99]), 5).passed())
            .frame(datagram(ON_SHARED.udp().to_port(DNS), 5).opens())
            .frame(datagram(ON_SHARED.udp().to_port(9999), 5).dropped(Counter::NoListener)),
        case("UDP: flows are reported")
            .world(|world| world.flow_events = true)
            .frame(datagram(a, 5).opens())
            .check(Check::OpenedEvent(a))
            .advance(31)
            .collect(&[(Counter::FlowExpiredHalfOpen, 1)])
            .check(Check::ClosedEvent(a, Counter::FlowExpiredHalfOpen)),
        case("UDP: a listener that is taken away takes no new flows")
            .frame(datagram(a, 5).opens())
            .change(|world| {
                let key = FrontendKey::new(VpcIndex(1), Ip4::from_wire(ENDPOINT), L4Port::new(DNS), Proto::Udp);
                world.frontends.remove(&key);
            })
            .frame(datagram(a, 5))
            .frame(datagram(a.from_port(9), 5).dropped(Counter::NoListener)),
    ]
}
