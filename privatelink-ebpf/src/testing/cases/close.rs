//! How connections end by FIN.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::script::*,
};

pub fn cases() -> Vec<Case> {
    vec![
        case("the client closes first: the port is free at once")
            .closed_by_client(A)
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0)),
        case("states of a close by the client")
            .handshake(A)
            .frame(fin(A))
            .check(Check::State(A, FlowState::Closing))
            .frame(target_ack(A).numbers(5001, 1002))
            .check(Check::State(A, FlowState::Closing))
            .frame(target_fin(A).numbers(5001, 1002))
            .check(Check::State(A, FlowState::LastAck))
            .frame(ack(A).numbers(1002, 5002).counts(Counter::FlowClosed)),
        case("the target closes first: the port is held")
            .closed_by_target(A)
            .check(Check::State(A, FlowState::TimeWait))
            .check(Check::PoolUsed(0, 1))
            .advance(30)
            .collect(&[])
            .check(Check::PoolUsed(0, 1))
            .advance(31)
            .collect(&[(Counter::PortReleasedAfterHold, 1)])
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0)),
        case("both close at once: the port is held")
            .handshake(A)
            .frame(fin(A))
            .frame(target_fin(A))
            .check(Check::State(A, FlowState::TimeWait))
            .frame(ack(A).numbers(1002, 5002))
            .frame(target_ack(A).numbers(5002, 1002))
            .check(Check::State(A, FlowState::TimeWait)),
        case("a half-closed connection carries data for as long as it likes")
            .handshake(A)
            .frame(fin(A))
            .frame(reply(A, 1000).numbers(5001, 1002))
            .frame(ack(A).numbers(1002, 6001))
            .advance(300)
            .frame(reply(A, 1000).numbers(6001, 1002))
            .collect(&[])
            .check(Check::State(A, FlowState::Closing)),
        case("a connection that the target has half closed")
            .handshake(A)
            .frame(target_fin(A))
            .frame(data(A, 500).numbers(1001, 5002))
            .frame(target_ack(A).numbers(5002, 1501))
            .check(Check::State(A, FlowState::Closing))
            .frame(fin(A).numbers(1501, 5002))
            .check(Check::State(A, FlowState::TimeWait)),
        case("FIN with data")
            .handshake(A)
            .frame(fin(A).payload(100))
            .frame(target_fin(A).payload(50).numbers(5001, 1102))
            .check(Check::State(A, FlowState::LastAck))
            .frame(ack(A).numbers(1102, 5052).counts(Counter::FlowClosed)),
        case("a FIN that is sent again")
            .handshake(A)
            .frame(fin(A))
            .frame(fin(A))
            .frame(target_fin(A).numbers(5001, 1002))
            .frame(target_fin(A).numbers(5001, 1002))
            .check(Check::State(A, FlowState::LastAck))
            .frame(ack(A).numbers(1002, 5002).counts(Counter::FlowClosed)),
        case("an old acknowledgement does not end the last state")
            .handshake(A)
            .frame(fin(A))
            .frame(target_fin(A).numbers(5001, 1002))
            .frame(ack(A).numbers(1002, 5001))
            .check(Check::State(A, FlowState::LastAck))
            .frame(target_ack(A).numbers(5002, 5002))
            .check(Check::State(A, FlowState::LastAck)),
        case("the target's last data and its FIN are lost, and repeated after half a minute")
            .handshake(A)
            .frame(fin(A))
            .frame(target_fin(A).payload(50).numbers(5001, 1002))
            .advance(30)
            .collect(&[])
            .frame(target_fin(A).payload(50).numbers(5001, 1002))
            .frame(ack(A).numbers(1002, 5052).counts(Counter::FlowClosed)),
        case("the last acknowledgement never comes")
            .handshake(A)
            .frame(fin(A))
            .frame(target_fin(A).numbers(5001, 1002))
            .advance(61)
            .collect(&[(Counter::FlowClosed, 1)])
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0)),
        case("FIN as the handshake's last segment")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .frame(fin(A).establishes())
            .check(Check::State(A, FlowState::Closing))
            .check(Check::HalfOpenVpc(1, 0)),
        case("FIN before the SYN-ACK changes nothing")
            .frame(syn(A).opens())
            .frame(fin(A))
            .check(Check::State(A, FlowState::SynSent)),
        case("a segment after the end is reset")
            .closed_by_client(A)
            .frame(data(A, 10).numbers(1002, 5002).reset(Counter::NoFlow)),
        case("the target's FIN after the end is reset")
            .closed_by_client(A)
            .frame(target_fin(A).numbers(5001, 1002).reset(Counter::NoFlow)),
        case("Calico: conntrack_nat_rst; a reset after the end is dropped")
            .closed_by_client(A)
            .frame(rst(A).dropped(Counter::NoFlow))
            .frame(target_rst(A).dropped(Counter::NoFlow)),
        case("the same address and port again, after a close by the client")
            .closed_by_client(A)
            .frame(syn(A).numbers(70_000, 0).opens())
            .check(Check::Flows(1))
            .check(Check::PoolUsed(0, 1)),
        case("the same address and port again, while the port is held")
            .closed_by_target(A)
            .frame(syn(A).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .check(Check::Entries(3))
            .check(Check::PoolUsed(0, 2))
            .frame(syn_ack(A).numbers(90_000, 70_001))
            .frame(ack(A).numbers(70_001, 90_001).establishes())
            .frame(data(A, 10).numbers(70_001, 90_001)),
        case("the held port is released while the client's next connection lives")
            .closed_by_target(A)
            .frame(syn(A).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .frame(syn_ack(A).numbers(90_000, 70_001))
            .frame(ack(A).numbers(70_001, 90_001).establishes())
            .advance(61)
            .collect(&[(Counter::PortReleasedAfterHold, 1)])
            .check(Check::PoolUsed(0, 1))
            .frame(data(A, 10).numbers(70_001, 90_001)),
        case("the same address and port again, before the last acknowledgement")
            .handshake(A)
            .frame(fin(A))
            .frame(target_fin(A).numbers(5001, 1002))
            .frame(syn(A).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .check(Check::Entries(2))
            .check(Check::PoolUsed(0, 1)),
        case("a SYN into a living connection replaces nothing")
            .handshake(A)
            .frame(syn(A).numbers(70_000, 0))
            .check(Check::State(A, FlowState::Established))
            .frame(data(A, 10)),
        case("segments of a held flow pass")
            .closed_by_target(A)
            .frame(target_fin(A))
            .frame(ack(A).numbers(1002, 5002))
            .check(Check::State(A, FlowState::TimeWait)),
    ]
}
