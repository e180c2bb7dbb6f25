//! Flows with a PROXY protocol header of 100 bytes. The client's first sequence number is 1000, so the header is
//! 1001–1100 on the target's side.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState, limit::Budget},
    testing::{packet::Tcp, script::*},
    wire::tcp::Flags,
};

const P: Client = Client { service_port: PROXIED, ..A };

/// The header of `client`, with the id of endpoint 1 or none.
fn header(client: Client, endpoint: bool) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x54".to_vec();
    header.extend(client.ip);
    header.extend(client.service);
    header.extend(client.port.to_be_bytes());
    header.extend(client.service_port.to_be_bytes());
    header.extend([3, 0, 4, 0, 0, 0, 0]);
    if endpoint {
        header.extend([0xea, 0, 23, 1]);
        header.extend(ENDPOINT_ID);
    }
    let left = 100 - header.len() - 3;
    header.extend([4, 0, left as u8]);
    header.resize(100, 0);
    let crc = !header.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    header[31..35].copy_from_slice(&crc.to_be_bytes());
    header
}

/// The target sees the header as the segment's payload.
fn with_header(tcp: &mut Tcp) {
    tcp.payload = header(P, true);
}

/// The data leaves besides; this segment becomes the header's own.
fn header_ahead(tcp: &mut Tcp) {
    tcp.payload = header(P, true);
    tcp.flags = Flags(tcp.flags.0 & !0x29);
}

fn behind(tcp: &mut Tcp) {
    tcp.seq = tcp.seq.wrapping_add(100);
}

fn acknowledges(tcp: &mut Tcp) {
    tcp.ack = tcp.ack.wrapping_sub(100);
}

fn first_only(tcp: &mut Tcp) {
    tcp.ack = 1001;
}

/// A selective acknowledgement of one block.
fn sack(from: u32, to: u32) -> Vec<u8> {
    [&[1, 1, 5, 10][..], &from.to_be_bytes(), &to.to_be_bytes()].concat()
}

fn sent(frame: Frame) -> Frame {
    frame.by_tc().counts(Counter::ProxyHeaderSent)
}

/// SYN, SYN-ACK, ACK with the header, and the target's acknowledgement of it.
fn greeted(case: Case) -> Case {
    case.frame(syn(P).opens())
        .frame(syn_ack(P).by_tc())
        .frame(sent(ack(P).establishes().shown(with_header)))
        .frame(target_ack(P).numbers(5001, 1101).shown(acknowledges).by_tc())
}

pub fn cases() -> Vec<Case> {
    vec![
        greeted(case("PROXY: the header goes out with the client's handshake ACK, and numbers are translated"))
            .frame(data(P, 10).shown(behind).by_tc())
            .frame(reply(P, 20).numbers(5001, 1111).shown(acknowledges).by_tc())
            .frame(ack(P).numbers(1011, 5021).shown(behind).by_tc())
            .check(Check::State(P, FlowState::Established)),
        case("PROXY: the header is sent again until the target has acknowledged it")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header)))
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).shown(with_header)))
            .frame(sent(data(P, 10).shown(header_ahead)))
            .frame(data(P, 10).numbers(1011, 5001).shown(behind).by_tc())
            .frame(target_ack(P).numbers(5001, 1111).shown(acknowledges).by_tc())
            .frame(data(P, 10).shown(behind).by_tc()),
        case("PROXY: data at once is preceded by the header")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(data(P, 1400).establishes().shown(header_ahead))),
        case("PROXY: a segment that stands for many is preceded by the header")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header)))
            .frame(sent(data(P, 1400).gso(700).shown(header_ahead))),
        case("PROXY: a server that speaks first has the header before it speaks")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header)))
            .frame(reply(P, 40).numbers(5001, 1101).shown(first_only).by_tc())
            .frame(ack(P).numbers(1001, 5041).shown(behind).by_tc()),
        case("PROXY: an acknowledgement inside the header is none for the client")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header)))
            .frame(target_ack(P).numbers(5001, 1001).by_tc())
            .frame(target_ack(P).numbers(5001, 1050).shown(first_only).by_tc())
            .frame(sent(ack(P).shown(with_header))),
        case("PROXY: blocks are translated before and after the header has arrived")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header)))
            .frame(target_ack(P).numbers(5001, 1001).options(&sack(1101, 1111)).by_tc().shown(|tcp| {
                tcp.options = sack(1001, 1011);
            }))
            .frame(target_ack(P).numbers(5001, 1101).shown(acknowledges).by_tc())
            .frame(target_ack(P).numbers(5001, 1101).options(&sack(2101, 2111)).by_tc().shown(|tcp| {
                tcp.ack = 1001;
                tcp.options = sack(2001, 2011);
            })),
        case("PROXY: a block at an odd offset keeps the checksum right")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(
                target_ack(P)
                    .numbers(5001, 1001)
                    .options(&[&[1, 5, 10][..], &[0, 0, 0x12, 0x34, 0, 0, 0x56, 0x78], &[0]].concat())
                    .by_tc()
                    .shown(|tcp| {
                        tcp.options =
                            [&[1, 5, 10][..], &(0x1234u32 - 100).to_be_bytes(), &(0x5678u32 - 100).to_be_bytes(), &[0]]
                                .concat();
                    }),
            ),
        case("PROXY: a keep-alive before any data has no header, after it all numbers move")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header)))
            .frame(ack(P).numbers(1000, 5001).by_tc())
            .frame(target_ack(P).numbers(5001, 1101).shown(acknowledges).by_tc())
            .frame(ack(P).numbers(1000, 5001).shown(behind).by_tc()),
        case("PROXY: without an endpoint id the header has none")
            .frame(syn(Client { service_port: PROXIED, ..B }).opens())
            .frame(syn_ack(Client { service_port: PROXIED, ..B }).by_tc())
            .frame(sent(ack(Client { service_port: PROXIED, ..B }).establishes().shown(|tcp| {
                tcp.payload = header(Client { service_port: PROXIED, ..B }, false);
            }))),
        case("PROXY: a SYN with data is refused; without, it opens")
            .frame(syn(P).payload(10).dropped(Counter::SynWithData))
            .frame(syn(P).opens())
            .frame(syn(P).payload(10).dropped(Counter::SynWithData).by_tc())
            .frame(syn(P).by_tc()),
        greeted(case("PROXY: a close by the client ends the flow"))
            .frame(fin(P).shown(behind).by_tc())
            .frame(target_fin(P).numbers(5001, 1102).shown(acknowledges).by_tc())
            .frame(ack(P).numbers(1002, 5002).counts(Counter::FlowClosed).shown(behind).by_tc())
            .check(Check::Flows(0))
            .check(Check::PoolUsed(0, 0)),
        case("PROXY: a FIN before any data brings the header")
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(fin(P).establishes().shown(with_header)))
            .frame(target_ack(P).numbers(5001, 1102).shown(acknowledges).by_tc()),
        greeted(case("PROXY: a client's reset has the number that the target waits for"))
            .frame(rst(P).shown(behind).counts(Counter::FlowResetByClient).by_tc())
            .check(Check::Flows(0)),
        greeted(case("PROXY: the target's reset is exact"))
            .frame(target_rst(P).counts(Counter::FlowResetByTarget).by_tc()),
        case("PROXY: a SYN that is sent again, and one that is refused")
            .frame(syn(P).opens())
            .frame(syn(P).by_tc())
            .frame(target_rst(P).flags(0x14).numbers(0, 1001).counts(Counter::FlowResetByTarget).by_tc())
            .check(Check::Flows(0)),
        case("PROXY: what a target remembers of another connection its client sees, and makes it forget")
            .frame(syn(P).opens())
            .frame(target_ack(P).numbers(777_000, 900_000).by_tc())
            .frame(rst(P).numbers(900_000, 0).counts(Counter::ResetOutOfWindow).by_tc())
            .frame(syn(P).by_tc())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header)))
            .frame(target_ack(P).numbers(5001, 1101).shown(acknowledges).by_tc()),
        greeted(case("PROXY: a target that is taken away"))
            .change(|world| world.targets.get_mut(&1).expect("target").generation += 1)
            .frame(data(P, 10).reset(Counter::TargetGone).counts(Counter::FlowEndedWithTarget)),
        greeted(case("PROXY: a flow beside it on the same target has none"))
            .handshake(A)
            .frame(data(A, 10))
            .frame(reply(A, 10)),
        case("PROXY: the initial number may be the greatest")
            .frame(syn(P).numbers(u32::MAX, 0).opens())
            .frame(syn_ack(P).numbers(5000, 0).by_tc())
            .frame(sent(ack(P).numbers(0, 5001).establishes().shown(with_header)))
            .frame(target_ack(P).numbers(5001, 100).shown(acknowledges).by_tc())
            .frame(data(P, 5).numbers(0, 5001).shown(behind).by_tc()),
        case("PROXY: above a half-open budget a client answers a cookie, and the flow is as any")
            .world(|world| {
                world.vpc_budgets.insert(1, Budget { half_open: 1 });
            })
            .frame(syn(A.at([10, 0, 9, 1])).opens())
            .frame(syn(P).challenged(Counter::VpcHalfOpenLimit))
            .frame(rst(P).cookie(Cookie::Sent).dropped(Counter::CookieAccepted))
            .frame(syn(P).opens())
            .frame(syn_ack(P).by_tc())
            .frame(sent(ack(P).establishes().shown(with_header))),
    ]
}
