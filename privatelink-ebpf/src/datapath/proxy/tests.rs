use proptest::prelude::*;

use super::*;

#[test]
fn the_header_is_no_number_of_the_clients() {
    for (target, client) in
        [(1001, 1001), (1050, 1001), (1101, 1001), (1102, 1002), (2101, 2001), (1000, 1001), (1, 1001)]
    {
        assert_eq!(to_client(target, 1001), client, "{target}");
    }
    // Across the wrap.
    assert_eq!(to_client(u32::MAX, u32::MAX - 10), u32::MAX - 10);
    assert_eq!(to_client(95, u32::MAX - 10), 95u32.wrapping_sub(100));
}

proptest! {
    #[test]
    fn what_the_client_sends_it_gets_acknowledged(first: u32, sent in 0u32..1 << 30) {
        let there = first.wrapping_add(sent).wrapping_add(SHIFT);
        prop_assert_eq!(to_client(there, first), first.wrapping_add(sent));
        prop_assert_eq!(to_client_later(there), first.wrapping_add(sent));
    }
}

#[test]
fn a_reset_of_ours_has_the_number_that_the_target_waits_for() {
    use crate::abi::flow::FlowState;
    let meta = |state, flags| Meta { version: 1, state, translated: false, flags, idle_s: 350 };
    assert_eq!(to_target(1001, meta(FlowState::Established, Meta::PROXY)), 1101);
    assert_eq!(to_target(1001, meta(FlowState::SynReceived, Meta::PROXY)), 1001);
    assert_eq!(to_target(1001, meta(FlowState::Established, Meta::FORWARD)), 1001);
}
