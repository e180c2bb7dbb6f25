use proptest::prelude::*;

use super::*;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const FIN: u8 = 0x11;
const RST: u8 = 0x04;

/// A flow as its SYN (sequence number 1000) leaves it.
const OPENED: Flow = Flow { state: FlowState::SynSent, flags: 0, client_ack: 0, target_ack: 1001 };
/// After the handshake; the target began at 5000.
const ESTABLISHED: Flow = Flow { state: FlowState::Established, flags: 0, client_ack: 5001, target_ack: 1001 };

fn client(flags: u8, seq: u32, ack: u32) -> Event {
    segment(true, flags, seq, ack, 0)
}

fn target(flags: u8, seq: u32, ack: u32) -> Event {
    segment(false, flags, seq, ack, 0)
}

fn segment(from_client: bool, flags: u8, seq: u32, ack: u32, payload: u32) -> Event {
    let flags = Flags(flags);
    let sequence_len = payload + u32::from(flags.has(Flags::SYN)) + u32::from(flags.has(Flags::FIN));
    Event { from_client, flags, seq, ack, sequence_len }
}

/// Steps through the events, all of which are forwarded.
fn through(flow: Flow, events: &[Event]) -> Flow {
    events.iter().fold(flow, |flow, event| {
        let (flow, step) = next(flow, *event);
        assert_eq!(step, Step::Forward, "{event:?}");
        flow
    })
}

#[test]
fn handshake() {
    let flow = through(OPENED, &[target(SYN | ACK, 5000, 1001)]);
    assert_eq!(flow.state, FlowState::SynReceived);
    assert_eq!(through(flow, &[client(ACK, 1001, 5001)]), ESTABLISHED);
}

#[test]
fn the_client_closes_first() {
    let flow = through(ESTABLISHED, &[client(FIN, 1001, 5001), target(ACK, 5001, 1002)]);
    assert_eq!(flow.state, FlowState::Closing);
    let flow = through(flow, &[target(FIN, 5001, 1002)]);
    assert_eq!(flow.state, FlowState::LastAck);
    assert_eq!(next(flow, client(ACK, 1002, 5002)).1, Step::ForwardAndClose(Counter::FlowClosed));
    assert_eq!(next(flow, client(SYN, 9000, 0)).1, Step::Replace);
}

#[test]
fn the_target_closes_first() {
    let flow = through(ESTABLISHED, &[target(FIN, 5001, 1001), client(FIN, 1001, 5002)]);
    assert_eq!(flow.state, FlowState::TimeWait);
    let flow = through(flow, &[target(ACK, 5002, 1002), client(RST, 1002, 0), target(RST, 5002, 0)]);
    assert_eq!(flow.state, FlowState::TimeWait);
    assert_eq!(next(flow, client(SYN, 9000, 0)).1, Step::Replace);
}

#[test]
fn both_close_at_once() {
    for events in
        [[client(FIN, 1001, 5001), target(FIN, 5001, 1001)], [target(FIN, 5001, 1001), client(FIN, 1001, 5001)]]
    {
        assert_eq!(through(ESTABLISHED, &events).state, FlowState::TimeWait);
    }
}

#[test]
fn a_fin_counts_its_payload() {
    let fin = segment(true, FIN, 1001, 5001, 100);
    let flow = through(ESTABLISHED, &[fin, target(FIN, 5001, 1102)]);
    assert_eq!(flow.state, FlowState::LastAck);
    // One that has not seen all of it closes at the same time.
    let flow = through(ESTABLISHED, &[fin, target(FIN, 5001, 1101)]);
    assert_eq!(flow.state, FlowState::TimeWait);
}

#[test]
fn an_exact_reset_ends() {
    assert_eq!(next(ESTABLISHED, client(RST, 1001, 0)).1, Step::ForwardAndClose(Counter::FlowResetByClient));
    assert_eq!(next(ESTABLISHED, target(RST, 5001, 0)).1, Step::ForwardAndClose(Counter::FlowResetByTarget));
    assert_eq!(next(OPENED, target(RST | ACK, 0, 1001)).1, Step::ForwardAndClose(Counter::FlowResetByTarget));
}

#[test]
fn a_reset_in_the_window_is_on_probation() {
    for (reset, challenge) in
        [(client(RST, 1002, 0), target(ACK, 5001, 1001)), (target(RST, 5002, 0), client(ACK, 1001, 5001))]
    {
        let flow = through(ESTABLISHED, &[reset]);
        assert_eq!(flow.state, FlowState::Resetting);
        assert_eq!(through(flow, &[reset]).state, FlowState::Resetting, "its sender's own segments prove nothing");
        assert_eq!(through(flow, &[challenge]).state, FlowState::Established);
        let closing = Flow { state: FlowState::Closing, flags: Meta::TARGET_FIN, ..ESTABLISHED };
        assert_eq!(through(closing, &[reset, challenge]).state, FlowState::Closing);
    }
}

#[test]
fn a_reset_right_behind_data_is_not_acquitted_by_what_acknowledges_the_data() {
    for (data, reset, acknowledged, challenge, closing) in [
        (
            segment(true, ACK, 1001, 5001, 100),
            client(RST, 1101, 0),
            target(ACK, 5001, 1101),
            target(ACK, 5001, 1001),
            Meta::TARGET_FIN,
        ),
        (
            segment(false, ACK, 5001, 1001, 100),
            target(RST, 5101, 0),
            client(ACK, 1001, 5101),
            client(ACK, 1001, 5001),
            Meta::CLIENT_FIN,
        ),
    ] {
        let flow = through(ESTABLISHED, &[data, reset, acknowledged]);
        assert_eq!(flow.state, FlowState::Resetting);
        assert_eq!(next(flow, client(SYN, 9000, 0)).1, Step::Replace);
        assert_eq!(
            through(flow, &[reset, acknowledged]).state,
            FlowState::Resetting,
            "the same reset twice ends nothing"
        );
        assert_eq!(through(flow, &[challenge]).state, FlowState::Established, "who waits for another number lives");
        let closing = Flow { state: FlowState::Closing, flags: closing, ..ESTABLISHED };
        assert_eq!(through(closing, &[data, reset, acknowledged]).state, FlowState::Resetting);
    }
}

#[test]
fn the_edges_of_the_window() {
    for (offset, state) in [
        (RESET_WINDOW, FlowState::Resetting),
        (RESET_WINDOW + 1, FlowState::Established),
        (u32::MAX, FlowState::Established),
    ] {
        assert_eq!(through(ESTABLISHED, &[client(RST, 1001u32.wrapping_add(offset), 0)]).state, state);
        assert_eq!(through(ESTABLISHED, &[target(RST, 5001u32.wrapping_add(offset), 0)]).state, state);
    }
}

#[test]
fn a_new_connection_replaces_only_what_is_over() {
    for state in [FlowState::SynSent, FlowState::SynReceived, FlowState::Established, FlowState::Closing] {
        assert_eq!(next(Flow { state, ..ESTABLISHED }, client(SYN, 9000, 0)).1, Step::Forward, "{state:?}");
    }
    for state in [FlowState::LastAck, FlowState::TimeWait, FlowState::Resetting] {
        assert_eq!(next(Flow { state, ..ESTABLISHED }, client(SYN, 9000, 0)).1, Step::Replace, "{state:?}");
    }
}

#[test]
fn lifetimes() {
    assert_eq!(lifetime(FlowState::SynSent, 350), 5);
    assert_eq!(lifetime(FlowState::SynReceived, 350), 5);
    assert_eq!(lifetime(FlowState::Established, 6000), 6000);
    assert_eq!(lifetime(FlowState::Closing, 60), 60);
    assert_eq!(lifetime(FlowState::LastAck, 350), 60);
    assert_eq!(lifetime(FlowState::TimeWait, 350), 60);
    assert_eq!(lifetime(FlowState::Resetting, 350), 10);
}

fn states() -> impl Strategy<Value = FlowState> {
    prop::sample::select(vec![
        FlowState::SynSent,
        FlowState::SynReceived,
        FlowState::Established,
        FlowState::Closing,
        FlowState::LastAck,
        FlowState::TimeWait,
        FlowState::Resetting,
    ])
}

fn events() -> impl Strategy<Value = Event> {
    (any::<bool>(), any::<u8>(), any::<u32>(), any::<u32>(), 0u32..1500)
        .prop_map(|(from_client, flags, seq, ack, payload)| segment(from_client, flags, seq, ack, payload))
}

fn invalid_flags() -> impl Strategy<Value = Flags> {
    prop::sample::select((0..=u8::MAX).map(Flags).filter(|flags| !flags.valid()).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A stranger who does not know the numbers ends no established flow: not with one segment, and not with many.
    #[test]
    fn strangers_end_nothing(client_ack: u32, target_ack: u32, from_client: bool, events in prop::collection::vec(events(), 1..8)) {
        let mut flow = Flow { client_ack, target_ack, ..ESTABLISHED };
        let expected = if from_client { target_ack } else { client_ack };
        for event in events {
            let event = Event { from_client, ..event };
            if within(event.seq, expected, RESET_WINDOW) {
                continue;
            }
            let (after, step) = next(flow, event);
            prop_assert!(!matches!(step, Step::ForwardAndClose(_) | Step::Replace), "{:?} {:?}", flow, event);
            prop_assert!(matches!(after.state, FlowState::Established | FlowState::Closing), "{:?}", after);
            flow = after;
            if flow.flags != 0 {
                // What the flow expects after a FIN is the FIN's own number: a stranger who sends two knows one.
                break;
            }
        }
    }

    /// What is refused changes nothing, and no flow goes back to a half-open state or becomes nobody's.
    #[test]
    fn states_only_move_forward(state in states(), flags in 0u8..8, client_ack: u32, target_ack: u32, event in events()) {
        let flow = Flow { state, flags: flags << 1 & (Meta::CLIENT_FIN | Meta::TARGET_FIN), client_ack, target_ack };
        let (after, step) = next(flow, event);
        if step != Step::Forward {
            prop_assert_eq!(after, flow);
        }
        prop_assert!(!matches!(after.state, FlowState::Free | FlowState::Busy));
        prop_assert!(after.state != FlowState::SynSent || state == FlowState::SynSent);
        prop_assert!(after.state != FlowState::SynReceived || state.half_open());
        prop_assert!(state != FlowState::TimeWait || after == flow, "a held port stays held");
    }

    /// Segments of a meaningless combination of flags are always refused.
    #[test]
    fn invalid_flags_are_refused(state in states(), event in events(), flags in invalid_flags()) {
        let event = Event { flags, ..event };
        prop_assert_eq!(next(Flow { state, ..ESTABLISHED }, event).1, Step::Drop(Counter::InvalidFlags));
    }

    /// A provider's SYN is never forwarded.
    #[test]
    fn a_target_opens_nothing(state in states(), event in events()) {
        let event = Event { from_client: false, flags: Flags(event.flags.0 & !0x17 | SYN), ..event };
        prop_assert_eq!(next(Flow { state, ..ESTABLISHED }, event).1, Step::Drop(Counter::SynFromTarget));
    }
}
