//! Flows between IP families: what only they have. How flows open, live and end is played over both by the other files.

use super::*;
use crate::{
    abi::Counter,
    testing::{packet::UdpCheck, script::*},
};

/// The case with clients of IPv6, or of IPv4, and targets of the other family; its frames are of their senders'
/// families.
fn from(ipv6: bool, mut case: Case) -> Case {
    for step in &mut case.steps {
        let Step::Frame(frame) = step else { continue };
        let of_target = matches!(frame.sender, Sender::Target(_));
        frame.packet = frame.packet.clone().of_family(ipv6 != of_target);
        // XDP leaves what it would forward to TC.
        frame.by_tc |= matches!(frame.expect, Expect::Forward | Expect::ForwardMss(_));
    }
    Case { ipv6, translated: true, ..case }
}

pub fn cases() -> Vec<Case> {
    let dns = A.udp().to_port(DNS);
    let sized = |frame: Frame| frame.with(|tcp| tcp.options = vec![2, 4, 0x05, 0xdc]);
    let mut cases = Vec::new();
    for case in [
        case("a connection between families, and its type of service")
            .handshake(A)
            .frame(data(A, 1000).with(|tcp| tcp.tos = 0xb9))
            .frame(reply(A, 1200).numbers(5001, 2001).with(|tcp| tcp.tos = 0x48))
            .frame(ack(A).numbers(2001, 6201))
            .check(Check::Flows(1)),
        case("bytes behind the packet stay behind it")
            .handshake(A)
            .frame(data(A, 3).with(|tcp| tcp.trailer = 7))
            .frame(data(A, 5).numbers(1004, 5001)),
        case("overlapping networks between families")
            .handshake(A)
            .handshake(B)
            .frame(data(A, 10))
            .frame(data(B, 20))
            .frame(reply(A, 30).numbers(5001, 1011))
            .frame(reply(B, 40).numbers(5001, 1021)),
        case("the last hop that a packet may make between families").frame(syn(A).with(|tcp| tcp.ttl = 2).opens()),
        case("a segment size fits both families' headers")
            .frame(sized(syn(A)).opens().clamped(1460))
            .frame(sized(syn_ack(A)).clamped(1460)),
    ] {
        cases.extend([true, false].map(|ipv6| from(ipv6, case.clone())));
    }
    let proxied = Client { service_port: PROXIED, ..A };
    cases.extend([
        from(
            true,
            case("a PROXY header is IPv4's, a client of IPv6 is refused")
                .frame(syn(proxied).dropped(Counter::ProxyIpv6)),
        ),
        from(
            false,
            case("a PROXY header is IPv4's, a target of IPv6 is refused")
                .frame(syn(proxied).dropped(Counter::ProxyIpv6)),
        ),
        from(
            false,
            case("a datagram without a checksum has none that IPv6 could carry").frame(
                datagram(dns, 9)
                    .with_udp(|udp| udp.check = UdpCheck::None)
                    .counts(Counter::FlowOpened)
                    .dropped(Counter::Untranslatable)
                    .by_tc(),
            ),
        ),
        from(
            false,
            case("IPv4 options have no place in an IPv6 header")
                .handshake(A)
                .frame(data(A, 9).with(|tcp| tcp.ip_options = vec![1; 4]).dropped(Counter::Untranslatable).by_tc())
                .frame(data(A, 9)),
        ),
        from(
            false,
            case("fragments have no place in an IPv6 header")
                .handshake(A)
                .frame(data(A, 12).with(|tcp| tcp.fragment = 0x2000).dropped(Counter::Untranslatable).by_tc()),
        ),
    ]);
    cases
}
