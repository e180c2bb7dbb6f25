use proptest::prelude::*;

use super::*;
use crate::{
    abi::Stage,
    datapath::{Verdict, decide, v6},
    testing::{
        cases::{A, A_PORT, INTERFACES, SHARED, world},
        frame::{SliceFrame, answer_echo6, answer_error, apply, apply6, translate6},
        icmp::Icmp,
        packet::{Ndp, Tcp, internet_checksum, six},
        tables::{MemTables, Options},
        world::port_mac,
    },
};

fn syn() -> Tcp {
    Tcp {
        src_mac: A.mac,
        dst_mac: port_mac(A_PORT),
        src: A.ip,
        dst: A.service,
        src_port: A.port,
        dst_port: A.service_port,
        flags: Flags::SYN,
        options: vec![2, 4, 5, 0xb4],
        ..Tcp::default()
    }
}

/// Frames of nobody's making, and frames of ours with some bytes changed and some cut off.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let mutated = (prop::collection::vec((0usize..100, any::<u8>()), 0..6), 0usize..=58, any::<bool>()).prop_map(
        |(changes, len, whole)| {
            let mut bytes = syn().build();
            for (at, byte) in changes {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            if !whole {
                bytes.truncate(len);
            }
            bytes
        },
    );
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), mutated]
}

/// The same over IPv6, with a solicitation among them.
fn frames6() -> impl Strategy<Value = Vec<u8>> {
    let segment = Tcp { ipv6: true, extensions: vec![(0, vec![1, 4, 0, 0, 0, 0])], ..syn() }.build();
    let plain = Tcp { ipv6: true, ..syn() }.build();
    let asked = Ndp::solicitation(A.mac, six(A.ip), six(A.service)).build();
    let ping = Icmp {
        kind: 128,
        src_mac: A.mac,
        dst_mac: port_mac(A_PORT),
        src: A.ip,
        dst: A.service,
        ipv6: true,
        body: plain[14..].to_vec(),
        ..Icmp::default()
    };
    let error = Icmp { kind: 2, ..ping.clone() }.build();
    let whole = prop_oneof![Just(segment), Just(plain), Just(asked), Just(ping.build()), Just(error)];
    (whole, prop::collection::vec((0usize..100, any::<u8>()), 0..6), 0usize..=90, any::<bool>()).prop_map(
        |(mut bytes, changes, len, whole)| {
            for (at, byte) in changes {
                if let Some(old) = bytes.get_mut(at) {
                    *old = byte;
                }
            }
            if !whole {
                bytes.truncate(len);
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    /// No frame makes the datapath panic or read outside of it (a frame's reads are checked), and what it rewrites lies
    /// in the frame.
    #[test]
    fn hostile_frames_are_judged(bytes in frames(), ifindex in *INTERFACES.start()..=*INTERFACES.end() + 50, reference: bool) {
        let tables = MemTables::new(world(), Options { reference, ..Options::default() });
        for verdict in [
            decide(SliceFrame::new(&bytes), tables.xdp(), ifindex),
            decide(SliceFrame::new(&bytes), tables.tc(), ifindex),
        ] {
            match verdict {
                Ok(rewrite) => {
                    let mut out = bytes.clone();
                    let before = internet_checksum(&[&out[14..34]]);
                    apply(&mut out, &rewrite);
                    // A right IP checksum stays right; a wrong one is not made right.
                    if out[14] == 0x45 {
                        prop_assert_eq!(internet_checksum(&[&out[14..34]]) == 0, before == 0);
                    }
                }
                Err(Verdict::AnswerReset) => prop_assert!(segment(SliceFrame::new(&bytes), VpcIndex(1)).is_some()),
                Err(Verdict::AnswerArp) => prop_assert!(bytes.len() >= 42),
                Err(Verdict::AnswerEcho) => prop_assert!(bytes.len() >= 42),
                Err(Verdict::AnswerError(cause)) => {
                    let error = answer_error(&bytes, cause);
                    prop_assert_eq!(internet_checksum(&[&error[14..34]]), 0);
                    prop_assert_eq!(internet_checksum(&[&error[34..error.len() - 2]]), 0);
                }
                Err(Verdict::GoOn(stage)) => prop_assert!(matches!(stage, Stage::V6 | Stage::Challenge | Stage::Wait)),
                Err(Verdict::AnswerNeighbor) => prop_assert!(false, "IPv4 has no advertisements"),
                Err(Verdict::Pass | Verdict::ToTc | Verdict::Drop(_) | Verdict::Proxy) => {}
            }
        }
    }

    /// The same for IPv6: nothing is read or written outside of the frame.
    #[test]
    fn hostile_ipv6_frames_are_judged(
        bytes in frames6(), ifindex in *INTERFACES.start()..=*INTERFACES.end() + 50, reference: bool,
    ) {
        let tables = MemTables::new(world().over_ipv6(), Options { reference, ..Options::default() });
        let frame = SliceFrame::new(&bytes);
        if let Ok(rewrite) = v6::decide(frame, tables.xdp(), ifindex) {
            apply6(&mut bytes.clone(), &rewrite);
        }
        match v6::decide(frame, tables.tc(), ifindex) {
            Ok(rewrite) => apply6(&mut bytes.clone(), &rewrite),
            Err(Verdict::AnswerReset) => prop_assert!(v6::parse::segment(frame, tables.tc(), VpcIndex(1)).is_some()),
            Err(Verdict::AnswerNeighbor) => prop_assert!(v6::ndp::message(frame).is_some()),
            Err(Verdict::AnswerError(cause)) => {
                let error = answer_error(&bytes, cause);
                let length = (error.len() - 2 - 54) as u16;
                let pseudo = [&error[22..54], &[0, 0], &length.to_be_bytes(), &[0, 0, 0, 58]].concat();
                prop_assert_eq!(internet_checksum(&[&pseudo, &error[54..error.len() - 2]]), 0);
            }
            Err(Verdict::GoOn(Stage::Challenge)) => {
                prop_assert!(v6::parse::segment(frame, tables.tc(), VpcIndex(1)).is_some());
            }
            Err(Verdict::GoOn(stage)) => {
                prop_assert_eq!(stage, Stage::Icmp6);
                match v6::icmp::decide(frame, tables.tc(), ifindex) {
                    Ok(translation) => translate6(&mut bytes.clone(), &translation),
                    Err(Verdict::AnswerEcho) => answer_echo6(&mut bytes.clone(), port_mac(ifindex)),
                    Err(verdict) => prop_assert!(matches!(verdict, Verdict::Pass | Verdict::Drop(_)), "{verdict:?}"),
                }
            }
            Err(Verdict::AnswerArp | Verdict::AnswerEcho | Verdict::Proxy) => {
                prop_assert!(false, "that is IPv4's");
            }
            Err(Verdict::Pass | Verdict::ToTc | Verdict::Drop(_)) => {}
        }
    }

    /// What is no segment has a name, and what is one has facts that agree with an independent reading.
    #[test]
    fn every_frame_is_a_segment_or_named(bytes in frames()) {
        let frame = SliceFrame::new(&bytes);
        match segment(frame, VpcIndex(1)) {
            Some(segment) => {
                let read = Tcp::parse(&bytes).expect("another reader finds it too");
                prop_assert_eq!((segment.seq, segment.ack, segment.ttl), (read.seq, read.ack, read.ttl));
                prop_assert_eq!((segment.key.src.to_wire(), segment.key.dst.to_wire()), (read.src, read.dst));
                prop_assert_eq!((segment.key.src_port.get(), segment.key.dst_port.get()), (read.src_port, read.dst_port));
                let len = read.payload.len() as u32
                    + u32::from(segment.flags.has(Flags::SYN)) + u32::from(segment.flags.has(Flags::FIN));
                prop_assert_eq!(segment.sequence_len(), len);
                prop_assert_eq!((segment.src_mac.mac(), segment.dst_mac.mac()), (read.src_mac, read.dst_mac));
            }
            None => {
                let (unparsed, _) = judge(frame);
                let named = match unparsed {
                    Unparsed::Arp => bytes[12..14] == [8, 6],
                    Unparsed::Refused(reason) => matches!(
                        reason,
                        Counter::Truncated | Counter::Malformed | Counter::Fragment | Counter::OtherEtherType | Counter::OtherProtocol
                    ),
                };
                prop_assert!(named, "{:?}", unparsed);
            }
        }
    }

    /// Whatever comes in on an isolated port, nothing of it reaches the host; whatever comes in on a shared port for an
    /// owned address doesn't either.
    #[test]
    fn isolated_ports_give_the_host_nothing(bytes in frames()) {
        let tables = MemTables::new(world(), Options::default());
        prop_assert_ne!(decide(SliceFrame::new(&bytes), tables.tc(), A_PORT), Err(Verdict::Pass));
        if bytes.len() >= 34 && bytes[12..14] == [8, 0] && bytes[30..34] == A.service {
            prop_assert_ne!(decide(SliceFrame::new(&bytes), tables.tc(), SHARED), Err(Verdict::Pass));
        }
    }
}

#[test]
fn short_frames_are_truncated() {
    let whole = syn().build();
    for len in 0..whole.len() {
        let frame = SliceFrame::new(&whole[..len]);
        assert!(segment(frame, VpcIndex(1)).is_none());
        assert_eq!(judge(frame).0, Unparsed::Refused(Counter::Truncated), "{len} bytes");
    }
    assert!(segment(SliceFrame::new(&whole), VpcIndex(1)).is_some());
}

#[test]
fn unroutable_addresses() {
    for ip in
        [[0, 0, 0, 0], [0, 1, 2, 3], [127, 0, 0, 1], [127, 255, 255, 255], [224, 0, 0, 1], [240, 0, 0, 1], [255; 4]]
    {
        assert!(unroutable(Ip4::from_wire(ip)), "{ip:?}");
    }
    for ip in
        [[1, 0, 0, 0], [10, 0, 0, 1], [126, 255, 255, 255], [128, 0, 0, 1], [169, 254, 0, 1], [223, 255, 255, 255]]
    {
        assert!(!unroutable(Ip4::from_wire(ip)), "{ip:?}");
    }
}
