use proptest::prelude::*;

use super::*;
use crate::{
    abi::VpcIndex,
    datapath::parse,
    testing::{frame::SliceFrame, packet::Tcp},
    wire::{L3, tcp::Flags},
};

/// Where RFC 9293's option walk, written another way, finds a segment size among the first eight options.
fn reference(options: &[u8]) -> Option<usize> {
    let mut rest = options;
    for _ in 0..8 {
        let at = options.len() - rest.len();
        rest = match *rest {
            [2, 4, _, _, ..] => return Some(at + 2),
            [1, ..] => &rest[1..],
            [kind, len, ..] if kind != 0 && len >= 2 => rest.get(len as usize..)?,
            _ => return None,
        };
    }
    None
}

fn clamped(tcp: &Tcp, mtu: u32) -> Mss {
    let bytes = tcp.build();
    let frame = SliceFrame::new(&bytes);
    let segment = parse::segment(frame, VpcIndex(1)).expect("a segment");
    clamp(frame, &segment, 8980, mtu - 20)
}

/// Options of likely kinds and any others, padded to whole words.
fn options() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => prop::sample::select(vec![0u8, 1, 2, 3, 4, 5, 8, 10]),
        1 => any::<u8>(),
    ];
    prop::collection::vec(byte, 0..=40).prop_map(|mut options| {
        options.truncate(options.len() & !3);
        options
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn any_options_are_walked_as_the_rfc_says(options in options(), ip_words in 0usize..=10, mtu in 576u32..9000) {
        let tcp = Tcp { flags: Flags::SYN, ip_options: vec![1; ip_words * 4], options, ..Tcp::default() };
        let mss = clamped(&tcp, mtu);
        let found = reference(&tcp.options).filter(|at| {
            u16::from_be_bytes([tcp.options[*at], tcp.options[*at + 1]]) as u32 > mtu - 40
        });
        let expected = found.map_or(0, |at| L3 + 20 + ip_words * 4 + 20 + at);
        prop_assert_eq!(mss.at as usize, expected);
        if expected != 0 {
            prop_assert_eq!(mss.value as u32, mtu - 40);
            // The difference makes of the old checksum the one that is computed from scratch.
            let mut rewritten = tcp.clone();
            let at = found.expect("a segment size");
            rewritten.options[at..at + 2].copy_from_slice(&mss.value.to_be_bytes());
            let check = |tcp: &Tcp| {
                let bytes = tcp.build();
                u16::from_ne_bytes([bytes[tcp.l4() + 16], bytes[tcp.l4() + 17]])
            };
            prop_assert_eq!(checksum::apply(check(&tcp), mss.difference as u32), check(&rewritten));
        }
    }
}

#[test]
fn the_smaller_of_both_ports_counts() {
    let tcp = Tcp { flags: Flags::SYN, options: vec![2, 4, 0x22, 0x00], ..Tcp::default() };
    let bytes = tcp.build();
    let frame = SliceFrame::new(&bytes);
    let segment = parse::segment(frame, VpcIndex(1)).expect("a segment");
    assert_eq!(clamp(frame, &segment, 1380, 1480).value, 1360);
    assert_eq!(clamp(frame, &segment, 1480, 1380).value, 1360);
    assert_eq!(clamp(frame, &segment, 8980, 8980).at, 0);
    assert_eq!(clamp(frame, &segment, 100_000, 100_000).at, 0);
}
