//! What is counted beside packets and bytes: how targets answer connections, who resets, where fail-open leads.

use super::*;
use crate::{
    abi::{Counter, service::ListenerFlags},
    testing::script::*,
};

pub fn cases() -> Vec<Case> {
    vec![
        case("a handshake counts for the target").handshake(A).check(Check::TargetConnections(1, [1, 0, 0])),
        case("a target that refuses")
            .frame(syn(A).opens())
            .frame(target_rst(A).flags(0x14).numbers(0, 1001).counts(Counter::FlowResetByTarget))
            .check(Check::TargetConnections(1, [0, 1, 0]))
            .check(Check::TargetResets(1, 0, 1))
            .check(Check::EndpointResets(1, 0, 1)),
        case("a reset of an established flow is no refusal")
            .handshake(A)
            .frame(target_rst(A).counts(Counter::FlowResetByTarget))
            .check(Check::TargetConnections(1, [1, 0, 0])),
        case("a SYN that is sent again at once is no sign of a dead target")
            .frame(syn(A).opens())
            .frame(syn(A))
            .check(Check::TargetConnections(1, [0, 0, 0])),
        case("a SYN that is sent again after a second is unanswered")
            .frame(syn(A).opens())
            .advance(1)
            .frame(syn(A))
            .advance(2)
            .frame(syn(A))
            .check(Check::TargetConnections(1, [0, 0, 2])),
        case("a SYN that is sent again although the target has answered is the client's trouble")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .advance(1)
            .frame(syn(A))
            .check(Check::TargetConnections(1, [0, 0, 0])),
        case("a target behind a port that takes no XDP frames: the first SYN is not sent again")
            .frame(syn(A.to_port(TC_TARGET)).opens().by_tc())
            .check(Check::TargetConnections(7, [0, 0, 0])),
        case("a client's reset counts for its endpoint")
            .handshake(A)
            .frame(rst(A).counts(Counter::FlowResetByClient))
            .check(Check::EndpointResets(1, 1, 0)),
        case("resets from us count for the listener or the target")
            .handshake(A)
            .advance(351)
            .frame(reply(A, 10).reset(Counter::IdleExpired).counts(Counter::FlowExpiredIdle))
            .check(Check::ResetsSent { target: (1, 1), listener: (1, 0) })
            .frame(data(A, 10).reset(Counter::NoFlow))
            .check(Check::ResetsSent { target: (1, 1), listener: (1, 1) }),
        case("flows that fail-open leads to unhealthy targets are counted")
            .world(|world| drop(world.listeners.entry(1).and_modify(|one| one.flags = ListenerFlags::FAIL_OPEN)))
            .handshake(A)
            .check(Check::UnhealthyRouting(1, 1))
            .check(Check::ListenerFlows(1, 1)),
        case("flows to healthy targets are not").handshake(A).check(Check::UnhealthyRouting(1, 0)),
    ]
}
