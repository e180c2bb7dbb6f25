use proptest::prelude::*;

use super::*;
use crate::{
    datapath::decide,
    testing::{
        cases::{A, A_PORT, ENDPOINT, LIMITED, world},
        frame::SliceFrame,
        packet::Arp,
        tables::{MemTables, Options},
        world::port_mac,
    },
};

fn addresses() -> impl Strategy<Value = [u8; 4]> {
    prop_oneof![Just(ENDPOINT), Just(LIMITED), Just([10, 0, 0, 99]), Just([0; 4]), any::<[u8; 4]>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Only requests for owned addresses, from senders that claim none, are answered; the answer claims what was asked
    /// for.
    #[test]
    fn only_what_is_owned_is_answered(
        sender in addresses(), target in addresses(), operation in 0u16..4, sender_mac: [u8; 6],
    ) {
        let request = Arp { operation, ..Arp::request(Mac(sender_mac), sender, target) };
        let bytes = request.build();
        let tables = MemTables::new(world(), Options::default());
        let owned = |ip| ip == ENDPOINT || ip == LIMITED;
        let verdict = decide(SliceFrame::new(&bytes), tables.tc(), A_PORT);
        let expected = match (owned(sender), owned(target), operation) {
            (true, _, _) => Verdict::Drop(Counter::ArpForged),
            (false, true, 1) => Verdict::AnswerArp,
            (false, _, _) => Verdict::Drop(Counter::ArpIgnored),
        };
        prop_assert_eq!(verdict, Err(expected));
        // A forger teaches the agent nothing, and nobody teaches it a group address.
        for event in tables.take_events() {
            prop_assert!(!owned(sender) && sender != [0; 4] && sender_mac[0] & 1 == 0);
            prop_assert_eq!((event.client.to_wire(), event.mac), (sender, Mac(sender_mac)));
        }
    }
}

#[test]
fn a_reply_is_what_another_builder_makes() {
    let request = Arp::request(A.mac, A.ip, ENDPOINT);
    let bytes = request.build();
    let header: ArpHdr = SliceFrame::new(&bytes).read(L3).expect("a header");
    let ours = port_mac(A_PORT);
    let expected = Arp {
        src_mac: ours,
        dst_mac: A.mac,
        operation: 2,
        sender_mac: ours,
        sender: ENDPOINT,
        target_mac: A.mac,
        target: A.ip,
    };
    assert_eq!(reply(&header, ours).to_vec(), expected.build());
}
