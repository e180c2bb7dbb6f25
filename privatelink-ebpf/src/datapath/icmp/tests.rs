use proptest::prelude::*;

use super::*;
use crate::{
    datapath::{Forward, decide},
    testing::{
        cases::{A, A_PORT, B, PROVIDER, world},
        frame::SliceFrame,
        host::Host,
        icmp::*,
        packet::Tcp,
        run::{Path, run},
        script::*,
        tables::{MemTables, Options},
        world::port_mac,
    },
    wire::tcp::Flags,
};

#[test]
fn a_segment_in_flight_is_near_the_acknowledgement() {
    for (seq, ack, near) in [
        (0, 0, true),
        (SEQUENCE_WINDOW, 0, true),
        (SEQUENCE_WINDOW + 1, 0, false),
        (0, SEQUENCE_WINDOW, true),
        (0, SEQUENCE_WINDOW + 1, false),
        (u32::MAX, 5, true),
        (5, u32::MAX, true),
        (0x8000_0000, 0, false),
    ] {
        assert_eq!(in_flight(seq, ack), near, "{seq} {ack}");
    }
}

#[test]
fn a_udp_checksum_of_zero_is_written_as_ones() {
    // The field's sum and the change cancel out.
    assert_eq!(quoted_check(6, 0x1234, 0x1234, 0), 0xffff);
    assert_eq!(quoted_check(16, 0x1234, 0x1234, 0), 0);
}

#[test]
fn a_cause_is_one_number() {
    for cause in [error::Cause::TimeExceeded, error::Cause::TooBig(68), error::Cause::TooBig(u16::MAX)] {
        assert_eq!(error::Cause::from_bits(cause.to_bits()), cause);
        let verdict = Verdict::AnswerError(cause);
        assert_eq!(Verdict::from_bits(verdict.to_bits()), verdict);
    }
}

/// Ticks pass while the kernel runs a case, so the limit on what is sent in one is the host's alone to show.
#[test]
fn answers_are_limited_for_each_vpc_and_tick() {
    let limited = [
        case("echo replies")
            .frames((0..PER_TICK).map(|_| ping(A, 1).echoed()))
            .frame(ping(A, 1).icmp_refused(Counter::IcmpLimited))
            .frame(ping(B, 1).echoed())
            .handshake(A)
            .frame(data(A, 1).with(|tcp| tcp.ttl = 1).time_exceeded())
            .advance(1)
            .frame(ping(A, 1).echoed()),
        case("errors")
            .handshake(A)
            .handshake(B)
            .frames((0..PER_TICK).map(|_| data(A, 1).with(|tcp| tcp.ttl = 1).time_exceeded()))
            .frame(data(A, 1).with(|tcp| tcp.ttl = 1).counts(Counter::TtlExceeded).icmp_refused(Counter::IcmpLimited))
            .frame(data(B, 1).with(|tcp| tcp.ttl = 1).time_exceeded())
            .frame(reply(A, 1).with(|tcp| tcp.ttl = 1).time_exceeded())
            .frame(target_error(A, 3, 4).translated()),
    ];
    let mut host = Host::new(Options::default());
    for case in limited {
        for path in [Path::Tc, Path::XdpThenTc] {
            run(&case, path, &mut host).expect("the case holds");
        }
    }
}

/// An established flow; its SYN as it arrived at the target.
fn established(tables: &MemTables) -> Tcp {
    let mut bytes = Tcp {
        src_mac: A.mac,
        dst_mac: port_mac(A.ifindex),
        src: A.ip,
        dst: A.service,
        src_port: A.port,
        dst_port: A.service_port,
        seq: 1000,
        flags: Flags::SYN,
        ..Tcp::default()
    }
    .build();
    let forward = decide(SliceFrame::new(&bytes), tables.tc(), A_PORT).expect("a SYN");
    crate::testing::frame::apply(&mut bytes, &forward);
    Tcp::parse(&bytes).expect("a segment")
}

proptest! {
    /// Whatever an ICMP message holds, nothing outside the frame is asked for, and nothing is both refused and changed.
    #[test]
    fn any_message_has_a_verdict(
        mut body in prop::collection::vec(any::<u8>(), 0..200),
        kind in prop::sample::select(vec![3u8, 11, 12, 8, 0, 5]),
        rest in any::<[u8; 4]>(),
        options in 0usize..11,
        genuine in any::<bool>(),
        flips in prop::collection::vec((0usize..60, any::<u8>()), 0..3),
        cut in 0usize..300,
    ) {
        let tables = MemTables::new(world(), Options::default());
        let syn = established(&tables);
        if genuine {
            body = syn.build().split_off(14);
            for (at, to) in flips {
                let at = at % body.len();
                body[at] = to;
            }
        }
        let message = Icmp {
            src_mac: syn.dst_mac,
            src: [10, 0, 9, 9],
            dst: syn.src,
            kind,
            rest,
            ip_options: vec![1; options * 4],
            body,
            ..Icmp::default()
        };
        let mut bytes = message.build();
        bytes.truncate(cut.max(34));
        for ifindex in [PROVIDER, A_PORT] {
            let before = bytes.clone();
            if let Ok(forward) = decide(SliceFrame::new(&bytes), tables.tc(), ifindex) {
                prop_assert!(matches!(forward, Forward::Error(_)));
                let mut out = bytes.clone();
                crate::testing::frame::apply(&mut out, &forward);
                // Source and destination are the client's flow's, whoever sent the error.
                prop_assert_eq!(&out[26..34], &[A.service, A.ip].concat()[..]);
            }
            prop_assert_eq!(&bytes, &before);
            prop_assert_eq!(decide(SliceFrame::new(&bytes), tables.xdp(), ifindex).ok(), None);
        }
    }
}
