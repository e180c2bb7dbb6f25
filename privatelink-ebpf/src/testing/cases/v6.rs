//! IPv6 alone: neighbour discovery, extension headers, addresses. All that is true of both families is played over both
//! by the other files.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::{
        icmp::*,
        packet::{Ndp, UdpCheck, six},
        script::*,
    },
};

const NOBODY: [u8; 16] = [0; 16];
const NEIGHBOR: [u8; 4] = [10, 0, 1, 99];
const MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x77]);
const OTHER_MAC: Mac = Mac([0x02, 0, 0, 0, 0, 0x78]);

/// An option that is skipped, of 2 or more bytes (RFC 8200 section 4.2: PadN).
fn padding(len: usize) -> Vec<u8> {
    [&[1, (len - 2) as u8][..], &vec![0; len - 2]].concat()
}

fn over(case: Case) -> Case {
    Case { ipv6: true, ..case }
}

fn with_extensions(frame: Frame, extensions: &[(u8, Vec<u8>)]) -> Frame {
    match &frame.packet {
        Packet::Udp(_) => frame.with_udp(|udp| (udp.ipv6, udp.extensions) = (true, extensions.to_vec())),
        Packet::Tcp(_) | Packet::Arp(_) | Packet::Ndp(_) | Packet::Icmp(..) | Packet::Raw(_) => {
            frame.with(|tcp| (tcp.ipv6, tcp.extensions) = (true, extensions.to_vec()))
        }
    }
}

/// Where an ICMPv6 error's quote begins.
const V6_QUOTED: usize = 62;
const ROUTER: [u8; 4] = [10, 0, 99, 1];

fn too_big(frame: Frame, mtu: u16) -> Frame {
    let [hi, lo] = mtu.to_be_bytes();
    frame.icmp(|icmp| icmp.rest = [0, 0, hi, lo])
}

fn plain(frame: Frame) -> Frame {
    with_extensions(frame, &[])
}

fn advertisement(target: [u8; 4], mac: Mac) -> Ndp {
    Ndp {
        kind: 136,
        flags: 0x60,
        dst: six(NODE),
        dst_mac: crate::testing::world::port_mac(PROVIDER),
        option: Some((2, mac)),
        ..Ndp::solicitation(mac, six(target), six(target))
    }
}

pub fn cases() -> Vec<Case> {
    let a = A;
    let dns = A.udp().to_port(DNS);
    let open = |client| [plain(syn(client)).opens(), plain(syn_ack(client)), plain(ack(client)).establishes()];
    let ask = |target: [u8; 4]| Ndp::solicitation(MAC, six(NEIGHBOR), six(target));
    vec![
        over(case("a solicitation for an endpoint is answered"))
            .frame(ndp(A_PORT, ask(ENDPOINT)).advertised())
            .check(Check::Neighbor6(six(NEIGHBOR), MAC)),
        over(case("a solicitation for a node address is answered")).frame(ndp(PROVIDER, ask(NODE)).advertised()),
        over(case("a solicitation to the address itself is answered")).frame(
            ndp(A_PORT, Ndp { dst: six(ENDPOINT), dst_mac: crate::testing::world::port_mac(A_PORT), ..ask(ENDPOINT) })
                .advertised(),
        ),
        over(case("who is about to take an owned address is told in front of all"))
            .frame(ndp(A_PORT, Ndp::solicitation(MAC, NOBODY, six(ENDPOINT))).advertised())
            .check(Check::NoEvent),
        over(case("a solicitation without the sender's Ethernet address is answered and tells nothing"))
            .frame(ndp(A_PORT, Ndp { option: None, ..ask(ENDPOINT) }).advertised())
            .check(Check::NoEvent),
        over(case("a solicitation for anybody else is nobody's business"))
            .frame(ndp(A_PORT, ask([10, 0, 0, 99])).dropped(Counter::NdpIgnored).by_tc())
            .frame(ndp(B_PORT, ask(LIMITED)).dropped(Counter::NdpIgnored).by_tc())
            .frame(ndp(SHARED, ask([10, 0, 0, 99])).passed())
            .check(Check::NoEvent),
        over(case("a solicitation that is not from the link, or not whole"))
            .frame(ndp(A_PORT, Ndp { hops: 254, ..ask(ENDPOINT) }).dropped(Counter::NdpIgnored).by_tc())
            .frame(ndp(A_PORT, Ndp { code: 1, ..ask(ENDPOINT) }).dropped(Counter::NdpIgnored).by_tc())
            .frame(ndp(A_PORT, ask(ENDPOINT)).set(57, &[0xff]).dropped(Counter::NdpIgnored).by_tc())
            .frame(ndp(A_PORT, ask(ENDPOINT)).set(18, &[0, 23]).dropped(Counter::NdpIgnored).by_tc())
            .frame(ndp(A_PORT, ask(ENDPOINT)).set(18, &[0, 64]).dropped(Counter::NdpIgnored).by_tc())
            .frame(ndp(A_PORT, ask(ENDPOINT)).cut(70).dropped(Counter::NdpIgnored).by_tc()),
        over(case("discovery that claims an owned address is forged"))
            .frame(ndp(A_PORT, advertisement(ENDPOINT, MAC)).dropped(Counter::NdpForged).by_tc())
            .frame(ndp(A_PORT, Ndp { src: six(ENDPOINT), ..ask(LIMITED) }).dropped(Counter::NdpForged).by_tc())
            .frame(ndp(PROVIDER, advertisement(NODE, MAC)).dropped(Counter::NdpForged).by_tc())
            .check(Check::NoEvent),
        over(case("an advertisement tells where a neighbour is"))
            .frame(ndp(PROVIDER, advertisement(NEIGHBOR, OTHER_MAC)).dropped(Counter::NdpIgnored).by_tc())
            .check(Check::Neighbor6(six(NEIGHBOR), OTHER_MAC)),
        over(case("an advertisement with a group's Ethernet address tells nothing"))
            .frame(ndp(PROVIDER, advertisement(NEIGHBOR, Mac([3, 0, 0, 0, 0, 1]))).dropped(Counter::NdpIgnored).by_tc())
            .check(Check::NoEvent),
        over(case("hop-by-hop and destination options pass"))
            .frame(with_extensions(syn(a), &[(0, padding(6))]).opens())
            .frame(with_extensions(syn_ack(a), &[(60, padding(14))]))
            .frame(with_extensions(ack(a), &[(0, padding(6)), (60, padding(6))]).establishes())
            .frame(with_extensions(data(a, 33), &[(60, padding(6))]))
            .frame(plain(data(a, 33).numbers(1034, 5001)))
            .frame(with_extensions(reply(a, 33).numbers(5001, 1067), &[(60, padding(30))])),
        over(case("datagrams behind extension headers"))
            .frame(with_extensions(datagram(dns, 9), &[(0, padding(6))]).opens())
            .frame(with_extensions(answer(dns, 9), &[(60, padding(6))]).counts(Counter::FlowEstablished))
            .frame(plain(datagram(dns, 9))),
        over(case("a segment behind extension headers that belongs to nobody gets no reset"))
            .frame(with_extensions(data(a, 5), &[(0, padding(6))]).dropped(Counter::NoFlow)),
        over(case("a routing header is refused"))
            .frame(with_extensions(syn(a), &[(43, vec![0, 1, 0, 0, 0, 0])]).dropped(Counter::RoutingHeader))
            .frame(
                with_extensions(syn(a), &[(0, padding(6)), (43, vec![4, 0, 0, 0, 0, 0])])
                    .dropped(Counter::RoutingHeader),
            )
            .check(Check::Entries(0)),
        over(case("a fragment header is refused"))
            .frame(with_extensions(syn(a), &[(44, vec![0, 1, 0, 0, 0, 7])]).dropped(Counter::Fragment)),
        over(case("too many, or too long extension headers"))
            .frame(with_extensions(syn(a), &vec![(60, padding(6)); 5]).dropped(Counter::ExtensionHeaders))
            .frame(with_extensions(syn(a), &[(0, padding(94))]).dropped(Counter::ExtensionHeaders)),
        over(case("other protocols, and none"))
            .frame(plain(syn(a)).set(20, &[132]).dropped(Counter::OtherProtocol))
            .frame(plain(syn(a)).set(20, &[59]).dropped(Counter::OtherProtocol))
            .frame(plain(syn(a.to([10, 0, 0, 99]))).set(20, &[132]).dropped(Counter::NotOurs)),
        over(case("a datagram without a checksum is discarded"))
            .frame(plain(datagram(dns, 9)).with_udp(|udp| udp.check = UdpCheck::None).dropped(Counter::Malformed)),
        over(case("lengths that contradict each other"))
            .frame(plain(syn(a)).set(18, &[0, 200]).dropped(Counter::Truncated))
            .frame(plain(syn(a)).set(18, &[0, 10]).dropped(Counter::Malformed))
            .frame(plain(syn(a)).set(14, &[0x50]).dropped(Counter::Malformed))
            .frame(plain(datagram(dns, 9)).set(58, &[0, 7]).dropped(Counter::Malformed))
            .frame(plain(datagram(dns, 9)).set(58, &[0, 18]).dropped(Counter::Malformed))
            .frame(plain(syn(a)).cut(60).dropped(Counter::Truncated)),
        over(case("sources that nobody has"))
            .frame(plain(syn(a)).set(22, &[0xff, 2]).dropped(Counter::InvalidAddress))
            .frame(plain(syn(a)).set(22, &[0xfe, 0x80]).dropped(Counter::InvalidAddress))
            .frame(plain(syn(a)).set(22, &[0; 16]).dropped(Counter::InvalidAddress))
            .frame(plain(syn(a)).set(22, &[0; 10]).set(32, &[0xff, 0xff]).dropped(Counter::InvalidAddress))
            .check(Check::Entries(0)),
        over(case("an owned address as the source is forged"))
            .frame(plain(syn(a)).set(22, &six(LIMITED)).dropped(Counter::SpoofedSource)),
        over(case("type of service and trailers are kept"))
            .frame(plain(syn(a)).opens())
            .frame(plain(syn_ack(a)).with(|tcp| tcp.tos = 0xb9))
            .frame(plain(ack(a)).with(|tcp| tcp.trailer = 9).establishes()),
        over(case("packet too big from near the target"))
            .frames(open(a))
            .frame(too_big(target_error(a, 2, 0), 1400).over_ipv6().translated())
            .check(Check::State(a, FlowState::Established)),
        over(case("packet too big from a router near the client names no address of its network"))
            .frames(open(a))
            .frame(too_big(error(a, 2, 0), 1300).icmp(|icmp| icmp.src = ROUTER).over_ipv6().translated())
            .frame(error(a, 3, 0).icmp(|icmp| icmp.src = ROUTER).over_ipv6().translated()),
        over(case("overlapping networks: an ICMPv6 error goes to the VPC of its flow"))
            .frames(open(a))
            .frames(open(B))
            .frame(too_big(target_error(a, 2, 0), 1400).over_ipv6().translated())
            .frame(too_big(target_error(B, 2, 0), 1300).over_ipv6().translated()),
        over(case("more quoted bytes over IPv6: the quoted checksum is translated")).frames(open(a)).frames(
            [48, 56, 58, 60, 64, 80, 127, 128, 160]
                .map(|len| too_big(target_error(a, 2, 0), 1400).over_ipv6().quoting(len, &[]).translated()),
        ),
        over(case("more quoted bytes over IPv6, towards the target"))
            .frames(open(a))
            .frames([48, 58, 140].map(|len| error(a, 1, 4).over_ipv6().quoting(len, &[]).translated())),
        over(case("ICMPv6 errors about datagrams"))
            .frame(plain(datagram(dns, 9)).opens())
            .frame(plain(answer(dns, 9)).counts(Counter::FlowEstablished))
            .frame(target_error(dns, 1, 4).over_ipv6().translated())
            .frame(too_big(target_error(dns, 2, 0), 1280).over_ipv6().quoting(90, &[]).translated())
            .frame(error(dns, 4, 1).over_ipv6().translated()),
        over(case("ICMPv6 extensions could name the other network's interfaces")).frames(open(a)).frame(
            target_error(a, 1, 0)
                .icmp(|icmp| icmp.rest = [16, 0, 0, 0])
                .over_ipv6()
                .quoting(128, &[])
                .icmp_refused(Counter::IcmpUnsupported),
        ),
        over(case("an ICMPv6 error about nobody's packet"))
            .frame(plain(syn(a)).opens())
            .frame(error(a, 1, 0).over_ipv6().with(|tcp| tcp.seq = 0x7000_0000).icmp_refused(Counter::IcmpForged)),
        over(case("an ICMPv6 error about a packet of somebody else"))
            .frames(open(a))
            .frame(
                error(a, 1, 0).over_ipv6().set(V6_QUOTED + 8, &six([10, 0, 0, 99])).icmp_refused(Counter::IcmpForged),
            )
            .frame(
                error(a, 1, 0).over_ipv6().set(V6_QUOTED + 24, &six([10, 0, 0, 99])).icmp_refused(Counter::IcmpNoFlow),
            )
            .frame(error(a, 1, 0).over_ipv6().set(V6_QUOTED, &[0x45]).icmp_refused(Counter::IcmpMalformed))
            .frame(error(a, 1, 0).over_ipv6().set(V6_QUOTED + 6, &[60]).icmp_refused(Counter::IcmpUnsupported))
            .frame(error(a, 1, 0).over_ipv6().quoting(44, &[]).icmp_refused(Counter::IcmpMalformed))
            .frame(error(a, 1, 0).over_ipv6().icmp(|icmp| icmp.src = ENDPOINT).icmp_refused(Counter::SpoofedSource))
            .frame(error(a, 1, 0).over_ipv6().set(22, &[0xff, 2]).icmp_refused(Counter::InvalidAddress))
            .frame(error(a, 1, 0).over_ipv6().icmp(|icmp| icmp.ttl = 1).icmp_refused(Counter::TtlExceeded))
            .frame(error(a, 1, 0).over_ipv6().set(18, &[0, 4]).icmp_refused(Counter::Malformed))
            .frame(error(a, 1, 0).over_ipv6().cut(70).icmp_refused(Counter::Truncated)),
        over(case("an echo request over IPv6 is answered"))
            .frame(ping(a, 40).icmp(|icmp| icmp.kind = 128).over_ipv6().echoed())
            .frame(ping(a, 1).icmp(|icmp| icmp.kind = 128).over_ipv6().echoed())
            .check(Check::Entries(0)),
        over(case("security groups let an echo request over IPv6 in by the client's address"))
            .world(|world| {
                world.policy(1, &[([10, 0, 1, 0], [10, 0, 1, 255])], false);
                world.guard_echo(1, ENDPOINT, 1);
            })
            .frame(ping(a, 40).icmp(|icmp| icmp.kind = 128).over_ipv6().echoed())
            .frame(
                ping(a.at([10, 0, 2, 10]), 40)
                    .icmp(|icmp| icmp.kind = 128)
                    .over_ipv6()
                    .icmp_refused(Counter::EchoDenied),
            ),
        over(case("other ICMPv6 messages"))
            .frame(ping(a, 8).icmp(|icmp| icmp.kind = 129).over_ipv6().icmp_refused(Counter::IcmpUnsupported))
            .frame(ping(a.to([10, 0, 0, 99]), 8).icmp(|icmp| icmp.kind = 128).over_ipv6().dropped(Counter::NotOurs))
            .frame(ping(ON_SHARED.to([10, 0, 0, 99]), 8).icmp(|icmp| icmp.kind = 128).over_ipv6().passed()),
        over(case("IPv6 on a shared port")).frame(plain(syn(ON_SHARED.to([10, 0, 0, 99]))).passed()),
        over(case("an IPv4 packet finds no IPv6 address")).frame(syn(a).dropped(Counter::NotOurs)),
        over(case("Katran: IPv6; a frame that is none").frame(syn(A).set(12, &[0x86, 0xdd]).dropped(Counter::NotOurs))),
    ]
}
