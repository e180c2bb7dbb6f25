//! Budgets, pools, generations.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState, limit::Budget},
    testing::script::*,
};

pub fn cases() -> Vec<Case> {
    let limited = A.to(LIMITED);
    let last = A.to_port(ONE_PORT);
    vec![
        case("an endpoint's half-open flows are limited")
            .frame(syn(limited).opens())
            .frame(syn(limited.from_port(2)).opens())
            .frame(syn(limited.from_port(3)).challenged(Counter::EndpointHalfOpenLimit))
            .check(Check::HalfOpenEndpoint(3, 2))
            .check(Check::HalfOpenVpc(1, 2))
            .check(Check::EndpointRefused(3, 1)),
        case("another endpoint goes on while one is at its limit")
            .frame(syn(limited).opens())
            .frame(syn(limited.from_port(2)).opens())
            .frame(syn(limited.from_port(3)).challenged(Counter::EndpointHalfOpenLimit))
            .frame(syn(A).opens()),
        case("an established flow is no half-open one")
            .handshake(limited)
            .handshake(limited.from_port(2))
            .handshake(limited.from_port(3))
            .check(Check::HalfOpenEndpoint(3, 0)),
        case("SYNs that are sent again do not count twice")
            .frame(syn(limited).opens())
            .frame(syn(limited))
            .frame(syn(limited))
            .check(Check::HalfOpenEndpoint(3, 1)),
        case("half-open flows that expire make room")
            .frame(syn(limited).opens())
            .frame(syn(limited.from_port(2)).opens())
            .advance(6)
            .collect(&[(Counter::FlowExpiredHalfOpen, 2)])
            .check(Check::HalfOpenEndpoint(3, 0))
            .check(Check::HalfOpenVpc(1, 0))
            .check(Check::PoolUsed(0, 0))
            .frame(syn(limited.from_port(3)).opens()),
        case("a VPC's half-open flows are limited")
            .world(|world| {
                world.vpc_budgets.insert(1, Budget { half_open: 1 });
            })
            .frame(syn(A).opens())
            .frame(syn(A.from_port(2)).challenged(Counter::VpcHalfOpenLimit))
            .frame(syn(limited).challenged(Counter::VpcHalfOpenLimit))
            .check(Check::HalfOpenEndpoint(3, 0))
            .frame(syn(B).opens())
            .frame(syn(B.from_port(2)).opens()),
        case("half-open flows of a detached port are given back")
            .frame(syn(A).opens())
            .change(|world| _ = world.ports.remove(&A_PORT))
            .advance(6)
            .collect_twice(Counter::FlowExpiredHalfOpen)
            .check(Check::Entries(0))
            .check(Check::HalfOpenVpc(1, 0))
            .check(Check::HalfOpenEndpoint(1, 0))
            .check(Check::PoolUsed(0, 0)),
        case("flows of a detached port are forgotten")
            .handshake(A)
            .change(|world| _ = world.ports.remove(&A_PORT))
            .advance(351)
            .collect_twice(Counter::FlowExpiredIdle)
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0)),
        case("Cilium: nat4_port_allocation_tcp; the last port, and none")
            .frame(syn(last).opens())
            .check(Check::PoolUsed(5, 64_512))
            .frame(syn(last.from_port(2)).reset(Counter::PortsExhausted))
            .check(Check::PoolExhausted(5, 1))
            .check(Check::PortAllocationErrors(6, 1))
            .check(Check::EndpointRefused(1, 1))
            .check(Check::HalfOpenVpc(1, 1))
            .check(Check::HalfOpenEndpoint(1, 1)),
        case("the last port is used again as soon as it is free")
            .closed_by_client(last)
            .check(Check::PoolUsed(5, 64_511))
            .handshake(last.from_port(2))
            .frame(syn(last.from_port(3)).reset(Counter::PortsExhausted)),
        case("the last port is held after a close by the target")
            .closed_by_target(last)
            .frame(syn(last.from_port(2)).reset(Counter::PortsExhausted))
            .advance(61)
            .collect(&[(Counter::PortReleasedAfterHold, 1)])
            .frame(syn(last.from_port(2)).opens()),
        case("an exhausted pool troubles no other target")
            .frame(syn(last).opens())
            .frame(syn(last.from_port(2)).reset(Counter::PortsExhausted))
            .frame(syn(A).opens()),
        case("Cilium: terminating_backend; a target that only drains keeps its flows")
            .handshake(A)
            .change(|world| world.listeners.get_mut(&1).expect("listener").ring_len = 0)
            .frame(data(A, 10))
            .frame(reply(A, 10)),
        case("a target that is taken away ends its flows at their next packet")
            .handshake(A)
            .change(raise)
            .frame(data(A, 10).reset(Counter::TargetGone).counts(Counter::FlowEndedWithTarget))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .frame(data(A, 10).reset(Counter::NoFlow)),
        case("the target's own next packet ends the flow too")
            .handshake(A)
            .change(raise)
            .frame(reply(A, 10).reset(Counter::TargetGone).counts(Counter::FlowEndedWithTarget))
            .check(Check::Entries(0)),
        case("a half-open flow ends with its target")
            .frame(syn(A).opens())
            .change(raise)
            .frame(syn_ack(A).reset(Counter::TargetGone).counts(Counter::FlowEndedWithTarget))
            .check(Check::HalfOpenVpc(1, 0))
            .check(Check::HalfOpenEndpoint(1, 0)),
        case("a SYN after its target was taken away opens another flow")
            .handshake(A)
            .change(raise)
            .frame(syn(A).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .check(Check::Flows(1)),
        case("a sweep ends the flows of a target that was taken away")
            .handshake(A)
            .handshake(B)
            .change(raise)
            .collect(&[(Counter::FlowEndedWithTarget, 2)])
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0)),
        case("one target's end leaves the others' flows alone")
            .handshake(A)
            .handshake(A.to_port(HTTPS))
            .change(raise)
            .collect(&[(Counter::FlowEndedWithTarget, 1)])
            .frame(data(A.to_port(HTTPS), 10))
            .check(Check::State(A.to_port(HTTPS), FlowState::Established)),
        case("the generation wraps")
            .world(|world| world.targets.get_mut(&1).expect("target").generation = u16::MAX)
            .handshake(A)
            .change(|world| world.targets.get_mut(&1).expect("target").generation = 0)
            .frame(data(A, 10).reset(Counter::TargetGone).counts(Counter::FlowEndedWithTarget)),
        case("a target whose next hop is lost keeps its flows")
            .handshake(A)
            .change(|world| world.targets.get_mut(&1).expect("target").flags = TargetFlags(0))
            .frame(data(A, 10))
            .frame(syn(A.from_port(2)).dropped(Counter::NextHopUnresolved)),
    ]
}

fn raise(world: &mut World) {
    world.targets.get_mut(&1).expect("target 1").generation += 1;
}
