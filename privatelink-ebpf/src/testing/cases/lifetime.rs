//! Time that passes.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState, service::IDLE_NEVER},
    testing::script::*,
};

/// The first listener's flows have no idle timeout.
fn never(world: &mut World) {
    world.listeners.entry(1).and_modify(|listener| listener.idle_s = IDLE_NEVER);
}

pub fn cases() -> Vec<Case> {
    let short = A.to_port(SHORT);
    vec![
        case("Calico: bpf_ct_cleanup; a sweep leaves what lives")
            .handshake(A)
            .advance(349)
            .collect(&[])
            .check(Check::State(A, FlowState::Established))
            .frame(data(A, 10)),
        case("a sweep takes what is idle")
            .handshake(A)
            .advance(351)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .frame(data(A, 10).reset(Counter::NoFlow)),
        case("a segment after the idle timeout is reset")
            .handshake(A)
            .advance(351)
            .frame(data(A, 10).reset(Counter::IdleExpired).counts(Counter::FlowExpiredIdle))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0)),
        case("the target's segment after the idle timeout is reset")
            .handshake(A)
            .advance(351)
            .frame(reply(A, 10).reset(Counter::IdleExpired).counts(Counter::FlowExpiredIdle)),
        case("a listener's own idle timeout")
            .handshake(short)
            .advance(59)
            .frame(data(short, 10))
            .advance(61)
            .frame(data(short, 10).reset(Counter::IdleExpired).counts(Counter::FlowExpiredIdle)),
        case("one direction's packets keep both alive")
            .handshake(short)
            .advance(40)
            .frame(data(short, 10))
            .advance(40)
            .frame(data(short, 10))
            .advance(40)
            .frame(reply(short, 10))
            .collect(&[])
            .check(Check::State(short, FlowState::Established)),
        case("a listener whose flows never idle out")
            .world(never)
            .handshake(A)
            .advance(100_000)
            .collect(&[])
            .frame(data(A, 10))
            .advance(10_000_000)
            .collect(&[])
            .frame(reply(A, 10))
            .check(Check::State(A, FlowState::Established)),
        case("a flow that never idles out is forgotten once one side has ended")
            .world(never)
            .handshake(A)
            .frame(fin(A))
            .advance(5_990)
            .collect(&[])
            .check(Check::State(A, FlowState::Closing))
            .advance(20)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::Entries(0)),
        case("a half-open flow of a listener without idle timeout expires")
            .world(never)
            .frame(syn(A).opens())
            .advance(6)
            .collect(&[(Counter::FlowExpiredHalfOpen, 1)])
            .check(Check::Entries(0)),
        case("a SYN after the idle timeout opens another flow")
            .handshake(short)
            .advance(61)
            .frame(syn(short).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .check(Check::Flows(1))
            .check(Check::PoolUsed(0, 1)),
        case("a half-open flow is refreshed by the SYN that is sent again")
            .frame(syn(A).opens())
            .advance(4)
            .frame(syn(A))
            .advance(4)
            .collect(&[])
            .check(Check::State(A, FlowState::SynSent)),
        case("a slow target's SYN-ACK before the sweep still counts")
            .frame(syn(A).opens())
            .advance(6)
            .frame(syn_ack(A))
            .collect(&[])
            .check(Check::State(A, FlowState::SynReceived)),
        case("a half-open flow whose client does not answer")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .advance(6)
            .collect(&[(Counter::FlowExpiredHalfOpen, 1)])
            .check(Check::Entries(0))
            .check(Check::HalfOpenVpc(1, 0)),
        case("a closing flow lives as long as an open one")
            .handshake(A)
            .frame(fin(A))
            .advance(300)
            .collect(&[])
            .check(Check::State(A, FlowState::Closing))
            .advance(51)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::Entries(0)),
        case("packets put the end of a hold off")
            .closed_by_target(A)
            .advance(40)
            .frame(ack(A).numbers(1002, 5002))
            .advance(40)
            .collect(&[])
            .advance(21)
            .collect(&[(Counter::PortReleasedAfterHold, 1)]),
        case("the sweep takes only what is due")
            .handshake(A)
            .advance(200)
            .handshake(B)
            .advance(151)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::State(B, FlowState::Established))
            .frame(data(B, 10)),
        case("a sweep of many flows")
            .frames((0..25).map(|i| syn(A.from_port(30_000 + i)).opens()))
            .advance(6)
            .collect(&[(Counter::FlowExpiredHalfOpen, 25)])
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .check(Check::HalfOpenVpc(1, 0)),
        case("closed flows report why they ended")
            .world(|world| world.flow_events = true)
            .handshake(A)
            .advance(351)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::ClosedEvent(A, Counter::FlowExpiredIdle)),
    ]
}
