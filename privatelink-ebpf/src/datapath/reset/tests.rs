use proptest::prelude::*;

use super::*;
use crate::{
    abi::VpcIndex,
    datapath::parse,
    testing::{
        frame::SliceFrame,
        packet::{Tcp, internet_checksum},
    },
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// One frame is right for a receiver that verifies the checksum and for a device that completes it.
    #[test]
    fn the_checksum_is_complete_and_partial(
        src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, seq: u32, ack: u32, flags: u8, payload in 0usize..100,
    ) {
        let cause = Tcp { src, dst, src_port, dst_port, seq, ack, flags: Flags(flags), payload: vec![7; payload], ..Tcp::default() };
        let bytes = cause.build();
        let segment = parse::segment(SliceFrame::new(&bytes), VpcIndex(1)).expect("a segment");
        let frame = build(&segment);
        let reset = Tcp::parse(&frame).expect("a reset");
        prop_assert_eq!((reset.src, reset.src_port, reset.dst, reset.dst_port), (dst, dst_port, src, src_port));
        prop_assert_eq!(internet_checksum(&[&frame[14..34]]), 0);
        // As it is received: the sum over pseudo header and segment is zero.
        let pseudo: Vec<u8> = [&dst[..], &src, &[0, 6, 0, 20]].concat();
        prop_assert_eq!(internet_checksum(&[&pseudo, &frame[34..]]), 0);
        // As a device completes it: it stores the complement of the sum over the segment, field included.
        let mut completed = frame;
        let check = internet_checksum(&[&frame[34..]]);
        completed[50..52].copy_from_slice(&check.to_be_bytes());
        prop_assert_eq!(internet_checksum(&[&pseudo, &completed[34..]]), 0);
        // Acceptable to its receiver (RFC 9293 section 3.10.7.1).
        let len = payload as u32 + u32::from(flags & 1 != 0) + u32::from(flags & 2 != 0);
        if cause.flags.has(Flags::ACK) {
            prop_assert_eq!((reset.flags, reset.seq, reset.ack), (Flags::RST, ack, 0));
        } else {
            prop_assert_eq!((reset.flags, reset.seq, reset.ack), (Flags::RST.with(Flags::ACK), 0, seq.wrapping_add(len)));
        }
    }
}
