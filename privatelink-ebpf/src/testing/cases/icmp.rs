//! ICMP: errors that are translated, errors of our own, echo, and what is refused.

use super::*;
use crate::{
    abi::Counter,
    testing::{icmp::*, packet::UdpCheck, script::*},
    wire::{L3, tcp::Flags},
};

/// A router of the provider's, and one of the consumer's with the same address.
const ROUTER: [u8; 4] = [10, 0, 99, 1];

const ICMP: usize = L3 + 20;
/// Where the quoted IP header starts.
const QUOTED: usize = ICMP + 8;

pub fn cases() -> Vec<Case> {
    let a = A.udp().to_port(DNS);
    let mut cases = vec![
        case("fragmentation needed from near the target").handshake(A).frame(target_too_big(A, 1400).translated()),
        case("fragmentation needed from near the client")
            .handshake(A)
            .frame(error(A, 3, 4).icmp(|icmp| (icmp.src, icmp.rest) = (ROUTER, [0, 0, 5, 0x78])).translated()),
        case("an error of a router names no address of its network")
            .handshake(A)
            .frame(target_too_big(A, 1280).icmp(|icmp| icmp.src = ROUTER).translated())
            .frame(error(A, 11, 0).icmp(|icmp| icmp.src = ROUTER).translated()),
        case("overlapping networks: the error goes to the VPC of its flow")
            .handshake(A)
            .handshake(B)
            .frame(target_too_big(A, 1400).translated())
            .frame(target_too_big(B, 1300).translated()),
        case("more than eight quoted bytes: the quoted checksum is translated").handshake(A).frames(
            [36, 38, 40, 44, 60, 127, 128, 140].map(|len| target_too_big(A, 1400).quoting(len, &[]).translated()),
        ),
        case("more than eight quoted bytes, towards the target")
            .handshake(A)
            .frames([36, 38, 40, 140].map(|len| error(A, 3, 4).quoting(len, &[]).translated())),
        case("a quote of odd length").handshake(A).frame(target_error(A, 3, 1).quoting(61, &[]).translated()),
        case("the quoted packet has IP options")
            .handshake(A)
            .frame(target_error(A, 12, 0).with(|tcp| tcp.ip_options = vec![1; 40]).quoting(68, &[]).translated())
            .frame(error(A, 12, 0).with(|tcp| tcp.ip_options = vec![1; 4]).quoting(44, &[]).translated()),
        case("the error has IP options")
            .handshake(A)
            .frame(target_error(A, 3, 4).icmp(|icmp| icmp.ip_options = vec![1; 40]).quoting(60, &[]).translated()),
        case("both have all IP options").handshake(A).frame(
            target_error(A, 3, 4)
                .icmp(|icmp| icmp.ip_options = vec![1; 40])
                .with(|tcp| tcp.ip_options = vec![1; 40])
                .quoting(120, &[])
                .translated(),
        ),
        case("extensions that could name the other network's interfaces are cut off")
            .handshake(A)
            .frame(
                target_error(A, 11, 0)
                    .icmp(|icmp| (icmp.src, icmp.rest) = (ROUTER, [0, 32, 0, 0]))
                    .quoting(128, &[0x20, 0, 0, 0, 0, 8, 2, 14, 10, 0, 99, 1])
                    .translated(),
            )
            .frame(
                error(A, 3, 4)
                    .icmp(|icmp| {
                        icmp.rest = [0, 40, 5, 0x78];
                        icmp.ip_options = vec![1; 8];
                        icmp.trailer = vec![1, 2, 3];
                    })
                    .quoting(160, &[0x20, 0, 0, 0, 0, 8, 2, 14, 10, 0, 99, 1])
                    .translated(),
            ),
        case("extensions behind too short a quote").handshake(A).frame(
            target_error(A, 11, 0)
                .icmp(|icmp| icmp.rest = [0, 32, 0, 0])
                .quoting(100, &[])
                .icmp_refused(Counter::IcmpMalformed),
        ),
        case("an error about a SYN").frame(syn(A).opens()).frame(
            target_error(A, 3, 1).with(|tcp| (tcp.seq, tcp.ack, tcp.flags) = (1000, 0, Flags::SYN)).translated(),
        ),
        case("an error about the target's SYN-ACK")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .frame(error(A, 3, 13).with(|tcp| tcp.seq = 5000).translated()),
        case("an error about a target's segment that it has not sent")
            .frame(syn(A).opens())
            .frame(error(A, 3, 1).with(|tcp| tcp.seq = 0x7000_0000).icmp_refused(Counter::IcmpForged)),
        case("an error ends nothing")
            .handshake(A)
            .frame(target_error(A, 3, 3).translated())
            .frame(error(A, 3, 3).translated())
            .check(Check::State(A, crate::abi::flow::FlowState::Established))
            .frame(data(A, 10))
            .frame(reply(A, 10)),
        case("an error keeps no flow alive")
            .handshake(A)
            .advance(340)
            .frame(target_error(A, 3, 1).translated())
            .advance(20)
            .collect(&[(Counter::FlowExpiredIdle, 1)]),
        case("an error about a connection that both have closed")
            .closed_by_target(A)
            .frame(error(A, 3, 1).with(|tcp| tcp.seq = 5002).translated()),
        case("an error about a flow that does not exist")
            .handshake(A)
            .frame(target_error(A, 3, 4).adjusted(|tcp| tcp.src_port ^= 1).icmp_refused(Counter::IcmpNoFlow))
            .frame(target_error(A, 3, 4).adjusted(|tcp| tcp.dst_port ^= 1).icmp_refused(Counter::IcmpNoFlow))
            .frame(target_error(A, 3, 4).adjusted(|tcp| tcp.dst = [10, 0, 2, 1]).icmp_refused(Counter::IcmpNoFlow))
            .frame(error(A.from_port(9), 3, 4).icmp_refused(Counter::IcmpNoFlow)),
        case("port unreachable of a target to a UDP client, and of a client to a target")
            .frame(datagram(a, 20).opens())
            .frame(target_error(a, 3, 3).translated())
            .frame(answer(a, 20).establishes())
            .frame(error(a, 3, 3).translated())
            .check(Check::Flows(1)),
        case("errors about datagrams: the quoted checksum is translated; none stays none")
            .frame(datagram(a, 20).opens())
            .frame(answer(a, 20).establishes())
            .frames([28, 29, 60, 128].map(|len| target_error(a, 3, 4).quoting(len, &[]).translated()))
            .frames([28, 128].map(|len| error(a, 11, 1).quoting(len, &[]).translated()))
            .frame(target_error(a, 3, 4).with_udp(|udp| udp.check = UdpCheck::None).translated())
            .frame(error(a, 3, 4).with_udp(|udp| udp.check = UdpCheck::None).quoting(68, &[]).translated())
            .frame(target_error(a, 3, 4).with_udp(|udp| udp.ip_options = vec![1; 40]).quoting(68, &[]).translated()),
        case("an error keeps no half-open UDP flow alive")
            .frame(datagram(a, 20).opens())
            .advance(20)
            .frame(target_error(a, 3, 3).translated())
            .advance(20)
            .collect(&[(Counter::FlowExpiredHalfOpen, 1)]),
        case("a UDP flow's error is none of a TCP flow with the same ports")
            .handshake(A)
            .frame(error(A.udp(), 3, 3).icmp_refused(Counter::IcmpNoFlow)),
        case("datagrams that are too large, or have no hops left")
            .frame(datagram(ON_JUMBO.udp().to_port(DNS), 1472).opens())
            .frame(datagram(ON_JUMBO.udp().to_port(DNS), 1473).too_big(1500))
            .frame(datagram(ON_JUMBO.udp().to_port(DNS), 1473).with_udp(|udp| udp.check = UdpCheck::None).too_big(1500))
            .frames(
                [0, 99, 100, 500]
                    .map(|len| datagram(ON_JUMBO.udp().to_port(DNS), len).with_udp(|udp| udp.ttl = 1).time_exceeded()),
            )
            .frame(datagram(a, 10).with_udp(|udp| udp.ttl = 1).time_exceeded())
            .frame(datagram(a, 10).opens())
            .frame(answer(a, 10).with_udp(|udp| udp.ttl = 0).time_exceeded()),
        case("datagrams of a frame that stands for many are too large")
            .frame(datagram(ON_JUMBO.udp().to_port(DNS), 100).opens())
            .frame(datagram(ON_JUMBO.udp().to_port(DNS), 3000).gso(1472))
            .frame(datagram(ON_JUMBO.udp().to_port(DNS), 3000).gso(1473).too_big(1500)),
        case("an error about another protocol's packet")
            .handshake(A)
            .frame(target_error(A, 3, 4).set(QUOTED + 9, &[17]).icmp_refused(Counter::IcmpNoFlow))
            .frame(target_error(A, 3, 4).set(QUOTED + 9, &[1]).icmp_refused(Counter::IcmpNoFlow)),
        case("another VPC's flow is none of this one's")
            .handshake(A)
            .frame(error(B, 3, 4).icmp_refused(Counter::IcmpNoFlow)),
        case("an error about a packet of somebody else's")
            .handshake(A)
            .frame(target_error(A, 3, 4).adjusted(|tcp| tcp.src = [10, 0, 0, 6]).icmp_refused(Counter::IcmpForged))
            .frame(error(A, 3, 4).adjusted(|tcp| tcp.src = LIMITED).icmp_refused(Counter::IcmpForged)),
        case("RFC 5927: a sequence number that is not in flight")
            .handshake(A)
            .frame(target_error(A, 3, 4).with(|tcp| tcp.seq = 1001 + (1 << 24)).translated())
            .frame(target_error(A, 3, 4).with(|tcp| tcp.seq = 1002 + (1 << 24)).icmp_refused(Counter::IcmpForged))
            .frame(target_error(A, 3, 4).with(|tcp| tcp.seq = 1001u32.wrapping_sub(1 << 24)).translated())
            .frame(
                target_error(A, 3, 4)
                    .with(|tcp| tcp.seq = 1000u32.wrapping_sub(1 << 24))
                    .icmp_refused(Counter::IcmpForged),
            )
            .frame(error(A, 3, 4).with(|tcp| tcp.seq = 0x8000_0000).icmp_refused(Counter::IcmpForged)),
        case("the window of sequence numbers follows the traffic")
            .handshake(A)
            .frame(target_ack(A).numbers(5001, 0x4000_0000))
            .frame(target_error(A, 3, 4).icmp_refused(Counter::IcmpForged))
            .frame(target_error(A, 3, 4).with(|tcp| tcp.seq = 0x4000_0000).translated()),
        case("an error from an owned address")
            .handshake(A)
            .frame(error(A, 3, 4).icmp(|icmp| icmp.src = ENDPOINT).icmp_refused(Counter::SpoofedSource))
            .frame(error(A, 3, 4).icmp(|icmp| icmp.src = LIMITED).icmp_refused(Counter::SpoofedSource))
            .frame(target_error(A, 3, 4).icmp(|icmp| icmp.src = NODE).icmp_refused(Counter::SpoofedSource)),
        case("an error from an address that nobody can have")
            .handshake(A)
            .frames(
                [[127, 0, 0, 1], [224, 0, 0, 1], [255; 4]]
                    .map(|src| target_error(A, 3, 4).icmp(|icmp| icmp.src = src).icmp_refused(Counter::InvalidAddress)),
            )
            .frame(target_error(A, 3, 4).set(6, &[0xff; 6]).icmp_refused(Counter::InvalidAddress)),
        case("an error about a target that was taken away")
            .handshake(A)
            .change(|world| world.targets.get_mut(&1).expect("target 1").generation += 1)
            .frame(target_error(A, 3, 1).icmp_refused(Counter::IcmpNoFlow))
            .frame(error(A, 3, 1).icmp_refused(Counter::IcmpNoFlow)),
        case("an error into a port that has been detached")
            .handshake(A)
            .change(|world| _ = world.ports.remove(&A_PORT))
            .frame(target_error(A, 3, 1).icmp_refused(Counter::NoPort)),
        case("an error whose hops are used up gets no error")
            .handshake(A)
            .frame(target_error(A, 3, 1).icmp(|icmp| icmp.ttl = 1).icmp_refused(Counter::TtlExceeded))
            .frame(target_error(A, 3, 1).icmp(|icmp| icmp.ttl = 2).translated()),
        case("an error larger than the way on gets no error")
            .frame(syn(ON_SMALL).clamped(1360).opens())
            .frame(syn_ack(ON_SMALL).clamped(1360))
            .frame(ack(ON_SMALL).establishes())
            .frame(target_error(ON_SMALL, 3, 1).quoting(140, &[0; 1240]).icmp_refused(Counter::MtuExceeded))
            .frame(target_error(ON_SMALL, 3, 1).quoting(140, &[0; 1232]).translated()),
        case("an error cut short")
            .handshake(A)
            .frame(target_error(A, 3, 4).quoting(27, &[]).icmp_refused(Counter::IcmpMalformed))
            .frame(target_error(A, 3, 4).quoting(20, &[]).icmp_refused(Counter::IcmpMalformed))
            .frame(target_error(A, 3, 4).quoting(19, &[]).icmp_refused(Counter::IcmpMalformed))
            .frame(target_error(A, 3, 4).quoting(0, &[]).icmp_refused(Counter::IcmpMalformed))
            .frame(target_error(A, 3, 4).with(|tcp| tcp.ip_options = vec![1; 4]).icmp_refused(Counter::IcmpMalformed)),
        case("a frame cut short within an error")
            .handshake(A)
            .frames([35, 42, 60, 69].map(|len| target_error(A, 3, 4).cut(len).dropped(Counter::Truncated))),
        case("an IP packet too short for an ICMP header")
            .frame(ping(A, 0).set(L3 + 2, &[0, 27]).dropped(Counter::Malformed))
            .frame(ping(A, 0).set(L3, &[0x44]).dropped(Counter::Malformed))
            .frame(ping(A, 0).set(L3, &[0x55]).dropped(Counter::Malformed)),
        case("an error behind which padding follows")
            .handshake(A)
            .frame(target_error(A, 3, 4).icmp(|icmp| icmp.trailer = vec![0; 6]).translated()),
        case("an error that quotes no IPv4 header")
            .handshake(A)
            .frame(target_error(A, 3, 4).set(QUOTED, &[0x65]).icmp_refused(Counter::IcmpMalformed))
            .frame(target_error(A, 3, 4).set(QUOTED, &[0x44]).icmp_refused(Counter::IcmpMalformed)),
        case("an error about a later fragment")
            .handshake(A)
            .frame(target_error(A, 3, 4).with(|tcp| tcp.fragment = 1).icmp_refused(Counter::IcmpMalformed))
            .frame(target_error(A, 3, 4).with(|tcp| tcp.fragment = 0x2000).translated()),
        case("an error in fragments")
            .handshake(A)
            .frame(target_error(A, 3, 4).icmp(|icmp| icmp.fragment = 0x2000).dropped(Counter::Fragment)),
        case("a wrong checksum is the receiver's to refuse")
            .handshake(A)
            .frame(target_error(A, 3, 4).translated())
            .frame(target_error(A, 3, 4).icmp(|icmp| icmp.tos = 0x10).translated()),
        case("ICMP for somebody else")
            .frame(ping(A.to([10, 0, 0, 99]), 10).dropped(Counter::NotOurs))
            .frame(ping(ON_SHARED.to([10, 0, 0, 99]), 10).passed()),
        case("Cilium: icmp echo to a service").frames([0, 1, 2, 7, 56, 1400].map(|len| ping(A, len).echoed())),
        case("an echo request of which nothing is left but zeros")
            .frame(ping(A, 0).icmp(|icmp| icmp.rest = [0; 4]).echoed()),
        case("an echo request to the node address").handshake(A).frame(target_ping(A, 56).echoed()),
        case("an echo request on a shared port").frame(ping(ON_SHARED, 56).echoed()),
        case("an echo request with a TTL of one").frame(ping(A, 56).icmp(|icmp| icmp.ttl = 1).echoed()),
        case("an echo request that asks for a route")
            .frame(ping(A, 56).icmp(|icmp| icmp.ip_options = vec![1; 4]).icmp_refused(Counter::IcmpUnsupported)),
        case("an echo request from an owned address")
            .frame(ping(A, 56).icmp(|icmp| icmp.src = LIMITED).icmp_refused(Counter::SpoofedSource)),
        case("an echo request from everybody")
            .frame(ping(A, 56).icmp(|icmp| icmp.src = [255; 4]).icmp_refused(Counter::InvalidAddress)),
        case("security groups let an echo request in by the client's address")
            .world(echo_office_only)
            .frame(ping(A, 56).echoed())
            .frame(ping(A.at([10, 0, 2, 10]), 56).icmp_refused(Counter::EchoDenied))
            .frame(ping(A.at([10, 0, 1, 255]), 56).echoed())
            .check(Check::Entries(0)),
        case("rules about echo requests are not about connections")
            .world(echo_office_only)
            .handshake(A.at([10, 0, 2, 10]))
            .frame(ping(A.at([10, 0, 2, 10]), 56).icmp_refused(Counter::EchoDenied))
            .frame(data(A.at([10, 0, 2, 10]), 10)),
        case("security groups without a rule for ICMP let no echo request in")
            .world(|world| {
                world.policy(1, &[], false);
                world.guard_echo(1, ENDPOINT, 1);
            })
            .frame(ping(A, 56).icmp_refused(Counter::EchoDenied))
            .frame(ping(A.to(LIMITED), 56).echoed())
            .frame(ping(B, 56).echoed()),
        case("the node address's security groups count for its echo requests")
            .world(|world| {
                world.policy(1, &[([10, 0, 2, 0], [10, 0, 2, 255])], false);
                world.guard_echo(3, NODE, 1);
            })
            .handshake(A)
            .frame(target_ping(A, 56).icmp_refused(Counter::EchoDenied))
            .handshake(A.to_port(HTTPS))
            .frame(target_ping(A.to_port(HTTPS), 56).echoed()),
        case("an alias's echo requests are its endpoint's")
            .world(|world| {
                world.alias(1, [172, 16, 0, 0], 12, ENDPOINT);
                echo_office_only(world);
            })
            .frame(ping(A.to([172, 16, 9, 9]), 56).echoed())
            .frame(ping(A.to([172, 16, 9, 9]).at([10, 0, 2, 10]), 56).icmp_refused(Counter::EchoDenied)),
        case("errors about flows pass whatever the rules about echo requests are")
            .world(|world| {
                world.policy(1, &[], false);
                world.guard_echo(1, ENDPOINT, 1);
                world.guard_echo(3, NODE, 1);
            })
            .handshake(A)
            .frame(target_error(A, 3, 4).translated()),
        case("traceroute: a SYN without hops to a listener, and to none")
            .frame(syn(A).with(|tcp| tcp.ttl = 1).time_exceeded())
            .frame(syn(A.to_port(9999)).with(|tcp| tcp.ttl = 1).dropped(Counter::NoListener)),
        case("an error of our own quotes 28 bytes, or 128 if there are as many")
            .handshake(A)
            .frames([0, 1, 87, 88, 89, 500].map(|len| data(A, len).with(|tcp| tcp.ttl = 1).time_exceeded()))
            .frame(reply(A, 88).with(|tcp| tcp.ttl = 0).time_exceeded()),
        case("no error of our own about a packet with IP options")
            .handshake(A)
            .frame(data(A, 1).with(|tcp| (tcp.ttl, tcp.ip_options) = (1, vec![1; 4])).dropped(Counter::TtlExceeded)),
        case("no error of our own about a packet to everybody")
            .handshake(A)
            .frame(data(A, 1).with(|tcp| tcp.ttl = 1).set(0, &[0xff; 6]).dropped(Counter::TtlExceeded)),
        case("too large without don't-fragment is answered too")
            .handshake(ON_JUMBO.from_port(41_000))
            .frame(data(ON_JUMBO.from_port(41_000), 1461).with(|tcp| tcp.fragment = 0).too_big(1500)),
        case("segments of a frame that stands for many are too large")
            .handshake(ON_JUMBO.from_port(41_000))
            .frame(data(ON_JUMBO.from_port(41_000), 3000).gso(1460))
            .frame(data(ON_JUMBO.from_port(41_000), 3000).gso(1461).too_big(1500))
            .frame(data(ON_JUMBO.from_port(41_000), 3000).options(&[1; 12]).gso(1448))
            .frame(data(ON_JUMBO.from_port(41_000), 3000).options(&[1; 12]).gso(1449).too_big(1500))
            .frame(fin(ON_JUMBO.from_port(41_000)).payload(3000).gso(1461).too_big(1500)),
    ];
    // What RFC 792 and its successors have besides; RFC 6633 section 3 (source quench), RFC 1812 section 5.2.7.2
    // (redirects are for hosts).
    for (name, kind) in [
        ("an echo reply", 0),
        ("source quench", 4),
        ("redirect", 5),
        ("router advertisement", 9),
        ("router solicitation", 10),
        ("timestamp request", 13),
        ("address mask request", 17),
        ("extended echo request", 42),
        ("an ICMP type that does not exist", 255),
    ] {
        cases.push(case(name).handshake(A).frame(target_error(A, kind, 0).icmp_refused(Counter::IcmpUnsupported)));
    }
    for (name, kind, code) in [
        ("network unreachable", 3, 0),
        ("host unreachable", 3, 1),
        ("protocol unreachable", 3, 2),
        ("port unreachable", 3, 3),
        ("source route failed", 3, 5),
        ("administratively prohibited", 3, 13),
        ("time to live exceeded in transit", 11, 0),
        ("fragment reassembly time exceeded", 11, 1),
        ("parameter problem", 12, 0),
        ("an unreachable code that does not exist", 3, 200),
    ] {
        cases.push(
            case(name)
                .handshake(A)
                .frame(target_error(A, kind, code).translated())
                .frame(error(A, kind, code).icmp(|icmp| icmp.rest[0] = 8).translated()),
        );
    }
    cases
}

/// The endpoint of VPC 1 lets echo requests of 10.0.1.0/24 in.
fn echo_office_only(world: &mut World) {
    world.policy(1, &[([10, 0, 1, 0], [10, 0, 1, 255])], false);
    world.guard_echo(1, ENDPOINT, 1);
}
