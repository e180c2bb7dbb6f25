//! Resets: of clients, of targets, of strangers, and our own.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::{packet::Tcp, script::*},
};

pub fn cases() -> Vec<Case> {
    vec![
        case("Calico: tcp_rst; the client resets")
            .handshake(A)
            .frame(rst(A).counts(Counter::FlowResetByClient))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .check(Check::TargetResets(1, 1, 0)),
        case("the target resets")
            .handshake(A)
            .frame(target_rst(A).counts(Counter::FlowResetByTarget))
            .check(Check::Entries(0))
            .check(Check::TargetResets(1, 0, 1)),
        case("a reset with ACK")
            .handshake(A)
            .frame(rst(A).flags(0x14).numbers(1001, 5001).counts(Counter::FlowResetByClient)),
        case("a reset after data")
            .handshake(A)
            .frame(data(A, 100))
            .frame(target_ack(A).numbers(5001, 1101))
            .frame(rst(A).numbers(1101, 0).counts(Counter::FlowResetByClient)),
        case("a closed port of the target refuses")
            .frame(syn(A).opens())
            .frame(target_rst(A).flags(0x14).numbers(0, 1001).counts(Counter::FlowResetByTarget))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .check(Check::HalfOpenVpc(1, 0))
            .check(Check::HalfOpenEndpoint(1, 0)),
        case("a refusal of another SYN refuses nothing")
            .frame(syn(A).opens())
            .frame(target_rst(A).flags(0x14).numbers(0, 999).counts(Counter::ResetOutOfWindow))
            .check(Check::State(A, FlowState::SynSent)),
        case("the client gives up while half-open")
            .frame(syn(A).opens())
            .frame(rst(A).counts(Counter::FlowResetByClient))
            .check(Check::Entries(0))
            .check(Check::HalfOpenVpc(1, 0)),
        case("the client rejects the SYN-ACK")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .frame(rst(A).counts(Counter::FlowResetByClient))
            .check(Check::HalfOpenVpc(1, 0)),
        case("a blind reset in the client's name ends nothing")
            .handshake(A)
            .frame(rst(A).numbers(0x7000_0000, 0).counts(Counter::ResetOutOfWindow))
            .check(Check::State(A, FlowState::Established))
            .frame(data(A, 10)),
        case("a blind reset in the target's name ends nothing")
            .handshake(A)
            .frame(target_rst(A).numbers(0x7000_0000, 0).counts(Counter::ResetOutOfWindow))
            .check(Check::State(A, FlowState::Established))
            .frame(reply(A, 10)),
        case("a reset behind the window ends nothing")
            .handshake(A)
            .frame(rst(A).numbers(1000, 0).counts(Counter::ResetOutOfWindow))
            .check(Check::State(A, FlowState::Established)),
        case("a reset inside the window is on probation, a challenge acknowledgement clears it")
            .handshake(A)
            .frame(rst(A).numbers(1500, 0))
            .check(Check::State(A, FlowState::Resetting))
            .frame(target_ack(A))
            .check(Check::State(A, FlowState::Established))
            .frame(data(A, 10)),
        case("a client breaks off right behind its data, whose acknowledgement is under way; its port is good again")
            .handshake(A)
            .frame(data(A, 100))
            .frame(rst(A).numbers(1101, 0))
            .frame(target_ack(A).numbers(5001, 1101))
            .check(Check::State(A, FlowState::Resetting))
            .frame(syn(A).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .check(Check::Entries(2)),
        case("the sender of a reset on probation does not clear it")
            .handshake(A)
            .frame(rst(A).numbers(1500, 0))
            .frame(data(A, 10))
            .check(Check::State(A, FlowState::Resetting)),
        case("a reset inside the window that nobody challenges")
            .handshake(A)
            .frame(rst(A).numbers(1500, 0))
            .advance(11)
            .collect(&[(Counter::FlowResetByClient, 1)])
            .check(Check::Entries(0)),
        case("the target's reset inside the window, challenged and not")
            .handshake(A)
            .frame(target_rst(A).numbers(6000, 0))
            .check(Check::State(A, FlowState::Resetting))
            .frame(ack(A))
            .check(Check::State(A, FlowState::Established))
            .frame(target_rst(A).numbers(6000, 0))
            .advance(11)
            .collect(&[(Counter::FlowResetByTarget, 1)]),
        case("an exact reset while closing")
            .handshake(A)
            .frame(fin(A))
            .frame(rst(A).numbers(1002, 0).counts(Counter::FlowResetByClient))
            .check(Check::Entries(0)),
        case("the port stays held against resets (RFC 1337)")
            .closed_by_target(A)
            .frame(rst(A).numbers(1002, 0).counts(Counter::ResetOutOfWindow))
            .frame(target_rst(A).numbers(5002, 0).counts(Counter::ResetOutOfWindow))
            .check(Check::State(A, FlowState::TimeWait))
            .check(Check::PoolUsed(0, 1)),
        case("a client that reboots after a reset on probation")
            .handshake(A)
            .frame(rst(A).numbers(1500, 0))
            .frame(syn(A).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .check(Check::Entries(2)),
        case("Cilium: nat_fwd_restore; a segment of an unknown connection is reset")
            .frame(ack(A).reset(Counter::NoFlow))
            .frame(data(A, 100).reset(Counter::NoFlow))
            .frame(fin(A).reset(Counter::NoFlow)),
        case("a reset acknowledges what it may").frame(data(A, 7).numbers(u32::MAX, u32::MAX).reset(Counter::NoFlow)),
        case("a reset of an unknown connection is not answered")
            .frame(rst(A).dropped(Counter::NoFlow))
            .frame(rst(A).flags(0x14).dropped(Counter::NoFlow)),
        case("a segment with options is reset without").frame(data(A, 30).options(&[1; 40]).reset(Counter::NoFlow)),
        case("a padded segment is reset").frame(ack(A).with(|tcp| tcp.trailer = 6).reset(Counter::NoFlow)),
        case("a segment that stands for many is reset once").frame(data(A, 3500).gso(1460).reset(Counter::NoFlow)),
        case("a segment with IP options gets no reset")
            .frame(data(A, 30).with(|tcp| tcp.ip_options = vec![1; 4]).dropped(Counter::NoFlow)),
        case("a segment with type of service and its last TTL is reset")
            .frame(ack(A).with(|tcp| (tcp.tos, tcp.ttl) = (0xff, 1)).reset(Counter::NoFlow)),
        case("a provider's segment to a node address without a flow is reset")
            .frame(other(PROVIDER, from_provider(0x10)).reset(Counter::NoFlow)),
        case("a provider's reset to a node address is dropped")
            .frame(other(PROVIDER, from_provider(0x04)).dropped(Counter::NoFlow)),
    ]
}

fn from_provider(flags: u8) -> Tcp {
    Tcp {
        src_mac: crate::testing::world::target_mac(1),
        dst_mac: crate::testing::world::port_mac(PROVIDER),
        src: CLIENT,
        dst: NODE,
        src_port: 8080,
        dst_port: 5000,
        seq: 77,
        ack: 99,
        flags: crate::wire::tcp::Flags(flags),
        ..Tcp::default()
    }
}
