use proptest::prelude::*;

use super::*;

#[test]
fn a_seconds_worth_of_connections_may_come_at_once_and_then_one_in_each_share_of_it() {
    for rate in [1, 2, 3, 7, 1000, 999_999, 1_000_000] {
        let by = Charge::connection(rate);
        let mut until = 0;
        for n in 0..rate {
            until = charged(until, SECOND, by).unwrap_or_else(|| panic!("{n} of {rate}"));
        }
        assert_eq!(charged(until, SECOND, by), None, "{rate}");
        until = charged(until, SECOND + by.cost, by).expect("one share later");
        assert_eq!(charged(until, SECOND + by.cost, by), None, "{rate}");
    }
}

#[test]
fn a_packet_larger_than_the_depth_passes_a_full_bucket_and_is_paid_for() {
    // 1 kbit/s: 1,500 bytes take 12 seconds.
    let by = Charge::packet(1_000, 1_500);
    assert_eq!(by.cost, 12 * SECOND);
    let until = charged(0, SECOND, by).expect("a full bucket");
    assert_eq!(charged(until, SECOND * 13 - BITS_AHEAD - 1, by), None);
    assert!(charged(until, SECOND * 13 - BITS_AHEAD, by).is_some());
}

#[test]
fn a_debt_of_a_lower_rate_is_forgotten() {
    let slow = charged(0, SECOND, Charge::packet(1_000, 65_535)).expect("a full bucket");
    assert_eq!(charged(slow, SECOND, Charge::packet(1_000, 60)), None);
    assert!(charged(slow, SECOND, Charge::packet(1_000_000_000, 60)).is_some());
}

#[test]
fn the_clock_may_wrap() {
    let by = Charge::connection(1);
    let until = charged(u64::MAX - 5, u64::MAX - 5, by).expect("a full bucket");
    assert_eq!(charged(until, 5, by), None);
    assert!(charged(until, u64::MAX.wrapping_add(SECOND), by).is_some());
}

proptest! {
    /// Whatever comes when: in no stretch of time does more pass than the rate and the depth allow, and one packet.
    #[test]
    fn never_more_than_the_rate_and_the_depth(
        rate in 1_000u64..1_000_000_000_000,
        packets in prop::collection::vec((0u64..2_000_000_000, 1u32..=65_535), 1..200),
    ) {
        let (mut now, mut until) = (1 << 40, 0);
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (pause, bytes) in packets {
            now += pause / (1 + rate / 10_000);
            if let Some(next) = charged(until, now, Charge::packet(rate, bytes)) {
                until = next;
                passed.push((now, u64::from(bytes) * 8));
            }
        }
        for first in 0..passed.len() {
            let mut bits = 0u128;
            for (at, packet) in &passed[first..] {
                // Before this packet what came since the first one fits into the time and the depth.
                let time = u128::from(at - passed[first].0 + BITS_AHEAD);
                prop_assert!(bits * u128::from(SECOND) <= u128::from(rate) * time);
                bits += u128::from(*packet);
            }
        }
    }

    /// Who keeps to the rate is never refused, but for rounding.
    #[test]
    fn who_keeps_to_the_rate_is_never_refused(
        rate in 1_000u64..1_000_000_000_000,
        packets in prop::collection::vec(1u32..=65_535, 1..200),
    ) {
        let (mut now, mut until) = (1 << 40, 0);
        for bytes in packets {
            let by = Charge::packet(rate, bytes);
            let charged = charged(until, now, by);
            prop_assert!(charged.is_some());
            until = charged.unwrap_or_default();
            now += by.cost;
        }
    }

    #[test]
    fn connections_never_exceed_a_seconds_worth_and_the_rate(
        rate in 1u32..1_000,
        pauses in prop::collection::vec(0u64..500_000_000, 1..300),
    ) {
        let (mut now, mut until) = (1 << 40, 0);
        let by = Charge::connection(rate);
        let mut passed: Vec<u64> = Vec::new();
        for pause in pauses {
            now += pause / u64::from(rate);
            if let Some(next) = charged(until, now, by) {
                until = next;
                passed.push(now);
            }
        }
        for first in 0..passed.len() {
            for (more, at) in (0u64..).zip(&passed[first..]) {
                prop_assert!(more * by.cost <= at - passed[first] + by.depth);
            }
        }
    }
}
