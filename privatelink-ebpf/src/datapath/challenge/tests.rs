use proptest::prelude::*;

use super::*;
use crate::{
    abi::VpcIndex,
    datapath::reset,
    testing::{
        cases::{A_PORT, PROVIDER, world},
        frame::SliceFrame,
        packet::{Tcp, internet_checksum},
        tables::{COOKIE_KEY, MemTables, Options},
    },
};

/// Ticks of a slice.
const SLICE: u32 = 1 << SLICE_SHIFT;

fn segment(tcp: &Tcp) -> Segment {
    parse::segment(SliceFrame::new(&tcp.build()), VpcIndex(1)).expect("a segment")
}

fn challenged(tables: &MemTables, syn: &Tcp) -> Tcp {
    let number = decide(SliceFrame::new(&syn.build()), tables.tc(), A_PORT).expect("a challenge");
    let frame = reset::answer(tables.tc().lent(), answer(number));
    let challenge = Tcp::parse(&frame).expect("a segment");
    let pseudo: Vec<u8> = [&syn.dst[..], &syn.src, &[0, 6, 0, 20]].concat();
    assert_eq!(internet_checksum(&[&pseudo, &frame[34..]]), 0);
    challenge
}

/// What a client does that receives a SYN-ACK which it cannot accept (RFC 9293 section 3.10.7.3).
fn reset_of(syn: &Tcp, number: u32) -> Tcp {
    Tcp { flags: Flags::RST, seq: number, ack: 0, ..syn.clone() }
}

fn redeemed(tables: &MemTables, ifindex: u32, reset: &Tcp) -> Verdict {
    decide(SliceFrame::new(&reset.build()), tables.tc(), ifindex).expect_err("no challenge")
}

proptest! {
    #[test]
    fn siphash_is_the_standard_librarys(k0: u64, k1: u64, words: [u64; 3]) {
        use std::hash::Hasher as _;
        #[expect(deprecated, reason = "the only SipHash with a key of one's own that the library has")]
        let mut reference = std::hash::SipHasher::new_with_keys(k0, k1);
        for word in words {
            reference.write(&word.to_le_bytes());
        }
        prop_assert_eq!(siphash([k0, k1], words), reference.finish());
    }

    #[test]
    fn a_genuine_client_is_verified_for_its_own_connection_only(
        src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, seq: u32, guess: u32, wait in 0..3 * SLICE,
    ) {
        let tables = MemTables::new(world(), Options::default());
        let begun = tables.tc().now() % SLICE;
        let syn = Tcp { src, dst, src_port, dst_port, seq, flags: Flags::SYN, ..Tcp::default() };
        let challenge = challenged(&tables, &syn);
        prop_assert_eq!(
            (challenge.src, challenge.src_port, challenge.dst, challenge.dst_port),
            (dst, dst_port, src, src_port)
        );
        prop_assert_eq!(challenge.flags, Flags::SYN.with(Flags::ACK));
        prop_assert_ne!(challenge.ack, seq.wrapping_add(1));

        tables.advance_ticks(wait);
        let reset = reset_of(&syn, challenge.ack);
        let strangers = [
            (A_PORT, Tcp { src_port: src_port.wrapping_add(1), ..reset.clone() }),
            (A_PORT, Tcp { dst_port: dst_port.wrapping_add(1), ..reset.clone() }),
            (A_PORT, Tcp { src: dst, dst: src, ..reset.clone() }),
            (PROVIDER, reset.clone()),
        ];
        for (ifindex, other) in strangers.into_iter().filter(|(ifindex, other)| *ifindex != A_PORT || *other != reset) {
            prop_assert_eq!(redeemed(&tables, ifindex, &other), Verdict::Drop(Counter::NoFlow));
        }
        if guess != challenge.ack {
            prop_assert_eq!(redeemed(&tables, A_PORT, &reset_of(&syn, guess)), Verdict::Drop(Counter::NoFlow));
        }
        prop_assert_eq!(verified_bits(tables.tc(), &segment(&syn)), 0);

        let in_time = begun + wait < 2 * SLICE;
        let expected = if in_time { Counter::CookieAccepted } else { Counter::NoFlow };
        prop_assert_eq!(redeemed(&tables, A_PORT, &reset), Verdict::Drop(expected));
        prop_assert_eq!(tables.counter(expected) > 0, true);
        prop_assert_eq!(verified_bits(tables.tc(), &segment(&syn)), u32::from(in_time));
        let elsewhere = Segment { key: FlowKey { vpc: VpcIndex(4), ..segment(&syn).key }, ..segment(&syn) };
        prop_assert_eq!(verified_bits(tables.tc(), &elsewhere), 0);
        tables.advance_ticks(tables.tc().clock().ticks(VERIFIED_S) + 1);
        prop_assert_eq!(verified_bits(tables.tc(), &segment(&syn)), 0);
    }
}

#[test]
fn a_cookie_that_the_client_would_accept_is_not_sent() {
    let tables = MemTables::new(world(), Options::default());
    let mut syn = Tcp { flags: Flags::SYN, ..Tcp::default() };
    let number = cookie(&segment(&syn).key, tables.tc().now(), COOKIE_KEY);
    syn.seq = number.wrapping_sub(1);
    assert!(decide(SliceFrame::new(&syn.build()), tables.tc(), A_PORT).is_err());
    syn.seq = number;
    assert_eq!(challenged(&tables, &syn).ack, number);
    // With data (TCP Fast Open) more numbers are acceptable.
    (syn.seq, syn.payload) = (number.wrapping_sub(11), vec![0; 10]);
    assert!(decide(SliceFrame::new(&syn.build()), tables.tc(), A_PORT).is_err());
    assert_eq!(tables.counter(Counter::CookieSent), 1);
}

#[test]
fn a_raised_limit_is_above_the_limit() {
    assert_eq!([0, 1, 2, 8_192, u32::MAX].map(raised), [0, 2, 3, 10_240, u32::MAX]);
}
