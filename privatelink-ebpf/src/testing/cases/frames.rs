//! What a translation changes in a frame, and what it leaves alone.

use super::*;
use crate::testing::script::*;

pub fn cases() -> Vec<Case> {
    vec![
        case("Katran: type of service is kept").handshake(A).frame(data(A, 10).with(|tcp| tcp.tos = 0xb9)),
        case("identification and don't-fragment are kept")
            .handshake(A)
            .frame(data(A, 10).with(|tcp| (tcp.id, tcp.fragment) = (0xffff, 0)))
            .frame(reply(A, 10).with(|tcp| (tcp.id, tcp.fragment) = (0, 0x4000))),
        case("the reserved fragment bit is nobody's business")
            .handshake(A)
            .frame(data(A, 10).with(|tcp| tcp.fragment = 0x8000)),
        case("window and urgent pointer are kept")
            .handshake(A)
            .frame(data(A, 10).flags(0x38).with(|tcp| (tcp.window, tcp.urgent) = (1, 7))),
        case("odd and even payloads").handshake(A).frames((0..9).map(|len| data(A, len))),
        case("Katran: max size packet").handshake(A).frame(data(A, 1460)).frame(reply(A, 1460)),
        case("Calico: ip_options; up to forty bytes")
            .frame(syn(A).with(|tcp| tcp.ip_options = vec![1; 4]).opens())
            .frame(syn_ack(A).with(|tcp| tcp.ip_options = vec![1; 40]))
            .frame(ack(A).with(|tcp| tcp.ip_options = vec![7, 7, 4, 0, 0, 0, 0, 0]).establishes())
            .frame(data(A, 33).with(|tcp| tcp.ip_options = vec![1; 20])),
        case("TCP options in full")
            .handshake(A)
            .frame(data(A, 10).options(&[1; 40]))
            .frame(reply(A, 7).options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2])),
        case("IP and TCP options in full")
            .handshake(A)
            .frame(data(A, 99).with(|tcp| tcp.ip_options = vec![1; 40]).options(&[1; 40])),
        case("padding of small frames is kept").handshake(A).frame(ack(A).with(|tcp| tcp.trailer = 6)),
        case("an Ethernet trailer is kept").handshake(A).frame(data(A, 200).with(|tcp| tcp.trailer = 64)),
        case("all flags of the data phase")
            .handshake(A)
            .frames([0x10, 0x18, 0x30, 0x38, 0x50, 0x90, 0xd8].map(|flags| data(A, 4).flags(flags))),
        case("payload of zeros and of ones")
            .handshake(A)
            .frame(data(A, 0).with(|tcp| tcp.payload = vec![0; 100]))
            .frame(data(A, 0).with(|tcp| tcp.payload = vec![0xff; 101])),
        case("Calico: ttl_exceeded; TTL of one and of zero")
            .handshake(A)
            .frame(data(A, 1).with(|tcp| tcp.ttl = 2))
            .frame(data(A, 1).with(|tcp| tcp.ttl = 1).time_exceeded())
            .frame(data(A, 1).with(|tcp| tcp.ttl = 0).time_exceeded())
            .frame(reply(A, 1).with(|tcp| tcp.ttl = 1).time_exceeded())
            .frame(reply(A, 1).with(|tcp| tcp.ttl = 255)),
        case("a SYN that may go no further opens nothing")
            .frame(syn(A).with(|tcp| tcp.ttl = 1).time_exceeded())
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .check(Check::HalfOpenVpc(1, 0)),
        case("larger than the MTU of the way out")
            .handshake(ON_JUMBO.from_port(41_000))
            .frame(data(ON_JUMBO.from_port(41_000), 1460))
            .frame(data(ON_JUMBO.from_port(41_000), 1461).too_big(1500))
            .frame(data(ON_JUMBO.from_port(41_000), 3000).too_big(1500)),
        case("larger than the client's MTU")
            .frame(syn(ON_SMALL).clamped(1360).opens())
            .frame(syn_ack(ON_SMALL).clamped(1360))
            .frame(ack(ON_SMALL).establishes())
            .frame(reply(ON_SMALL, 1360))
            .frame(reply(ON_SMALL, 1361).too_big(1400)),
        case("jumbo frames, in XDP in several buffers")
            .world(|world| world.ports.get_mut(&PROVIDER).expect("port").mtu = 3586)
            .handshake(ON_JUMBO)
            .frame(data(ON_JUMBO, 3546))
            .frame(reply(ON_JUMBO, 3546))
            .frame(data(ON_JUMBO, 3547).too_big(3586)),
        case("a frame that stands for many segments")
            .handshake(A)
            .frame(data(A, 3000).gso(1460))
            .frame(reply(A, 3500).gso(1460))
            .frame(fin(A).payload(2500).gso(1000)),
        case("segment size within the limit")
            .frame(syn(A).options(&mss(536)).opens())
            .frame(syn_ack(A).options(&mss(1460))),
        case("segment size clamped to the provider's MTU")
            .frame(syn(ON_JUMBO).options(&mss(8960)).clamped(1460).opens())
            .frame(syn_ack(ON_JUMBO).options(&mss(8960)).clamped(1460)),
        case("segment size of 65,535").frame(syn(A).options(&mss(u16::MAX)).clamped(1460).opens()),
        case("segment size at an odd offset")
            .frame(syn(ON_SMALL).options(&[1, 2, 4, 5, 0xb4, 1, 1, 1]).clamped(1360).opens())
            .frame(syn_ack(ON_SMALL).options(&[1, 1, 1, 2, 4, 5, 0xb5, 1]).clamped(1360)),
        case("segment size behind other options").frame(
            syn(ON_SMALL)
                .options(&[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 5, 0xb4, 1, 3, 3, 7])
                .clamped(1360)
                .opens(),
        ),
        case("segment size as the last option of a full header").frame(
            syn(ON_SMALL).options(&[&[8u8, 34][..], &[0; 32], &[1, 1], &mss(1460)].concat()).clamped(1360).opens(),
        ),
        case("segment size behind IP options")
            .frame(syn(ON_SMALL).with(|tcp| tcp.ip_options = vec![1; 40]).clamped(1360).opens()),
        case("segment size behind the end of options")
            .frame(syn(ON_SMALL).options(&[0, 2, 4, 5, 0xb4, 0, 0, 0]).opens()),
        case("segment size of a wrong length").frame(syn(ON_SMALL).options(&[2, 3, 5, 2, 2, 5, 0, 0]).opens()),
        case("segment size cut off by the header's end").frame(syn(ON_SMALL).options(&[1, 1, 2, 4]).opens()),
        case("an option of length zero").frame(syn(ON_SMALL).options(&[9, 0, 2, 4, 5, 0xb4, 0, 0]).opens()),
        case("an option of length one").frame(syn(ON_SMALL).options(&[9, 1, 2, 4, 5, 0xb4, 0, 0]).opens()),
        case("an option longer than the header").frame(syn(ON_SMALL).options(&[9, 255, 2, 4, 5, 0xb4, 0, 0]).opens()),
        case("segment size in a segment that is no SYN")
            .handshake(A.from_port(7))
            .frame(data(A.from_port(7), 10).options(&mss(9000))),
        case("a client that leaves checksums to its device goes by TC")
            .frame(syn(A).partial().opens())
            .frame(syn_ack(A))
            .frame(ack(A).offloaded().by_tc().establishes())
            .frame(data(A, 100).offloaded().by_tc())
            .frame(reply(A, 100)),
        case("a target that leaves checksums to its device goes by TC")
            .frame(syn(A).opens())
            .frame(syn_ack(A).partial())
            .frame(ack(A).establishes())
            .frame(reply(A, 100).offloaded().by_tc())
            .frame(data(A, 100)),
    ]
}
