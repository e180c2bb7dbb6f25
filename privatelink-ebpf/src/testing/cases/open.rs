//! How connections come about.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::script::*,
};

pub fn cases() -> Vec<Case> {
    vec![
        case("Katran: packet to TCP based v4 VIP")
            .frame(syn(A).opens())
            .check(Check::Flows(1))
            .check(Check::PoolUsed(0, 1)),
        case("Cilium: nat_fwd, nat_fwd_reply").frame(syn(A).opens()).frame(syn_ack(A)),
        case("handshake")
            .frame(syn(A).opens())
            .check(Check::State(A, FlowState::SynSent))
            .check(Check::HalfOpenVpc(1, 1))
            .check(Check::HalfOpenEndpoint(1, 1))
            .frame(syn_ack(A))
            .check(Check::State(A, FlowState::SynReceived))
            .check(Check::HalfOpenVpc(1, 1))
            .frame(ack(A).establishes())
            .check(Check::State(A, FlowState::Established))
            .check(Check::HalfOpenVpc(1, 0))
            .check(Check::HalfOpenEndpoint(1, 0)),
        case("data both ways")
            .handshake(A)
            .frame(data(A, 100))
            .frame(reply(A, 1000).numbers(5001, 1101))
            .frame(ack(A).numbers(1101, 6001))
            .check(Check::EndpointPackets(1, 4, 2))
            .check(Check::TargetPackets(1, 4, 2))
            .check(Check::EndpointBytes(1, 44 + 40 + 140 + 40, 44 + 1040))
            .check(Check::ListenerFlows(1, 1)),
        case("a SYN that is sent again goes the same way")
            .frame(syn(A).opens())
            .frame(syn(A))
            .frame(syn(A))
            .check(Check::Flows(1))
            .check(Check::HalfOpenVpc(1, 1)),
        case("a SYN with another sequence number does not open another flow while one is half-open")
            .frame(syn(A).opens())
            .frame(syn(A).numbers(9000, 0))
            .check(Check::Flows(1)),
        case("the client acknowledges with its first data")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .frame(data(A, 50).establishes())
            .check(Check::State(A, FlowState::Established)),
        case("an acknowledgement of something else does not establish")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .frame(ack(A).numbers(1001, 4000))
            .check(Check::State(A, FlowState::SynReceived))
            .frame(ack(A).numbers(1001, 0x9000_0000))
            .check(Check::State(A, FlowState::SynReceived)),
        case("an acknowledgement before the SYN-ACK does not establish")
            .frame(syn(A).opens())
            .frame(ack(A))
            .check(Check::State(A, FlowState::SynSent)),
        case("a SYN-ACK that is sent again")
            .frame(syn(A).opens())
            .frame(syn_ack(A))
            .frame(syn_ack(A))
            .frame(ack(A).establishes())
            .frame(syn_ack(A))
            .check(Check::State(A, FlowState::Established)),
        case("SYN with data (RFC 7413)").frame(syn(A).payload(200).opens()).frame(syn_ack(A).numbers(5000, 1201)),
        case("SYN with ECN bits (RFC 3168)").frame(syn(A).flags(0xc2).opens()).frame(syn_ack(A).flags(0x52)),
        case("SYN with PSH and URG").frame(syn(A).flags(0x2a).opens()),
        case("SYN without options").frame(syn(A).options(&[]).opens()),
        case("sequence numbers that wrap")
            .frame(syn(A).numbers(u32::MAX, 0).opens())
            .frame(syn_ack(A).numbers(u32::MAX, 0))
            .frame(ack(A).numbers(0, 0).establishes())
            .frame(data(A, 10).numbers(0, 0))
            .frame(reply(A, 10).numbers(0, 10)),
        case("one of three targets, for the flow's whole life")
            .handshake(A.to_port(HTTPS))
            .frame(data(A.to_port(HTTPS), 10))
            .frame(data(A.to_port(HTTPS), 10).numbers(1011, 5001)),
        case("Katran: LRU hit and miss").handshake(A).frame(data(A, 1)).frame(syn(A.from_port(40_001)).opens()),
        case("many clients of one target have a port each")
            .frames((0..20).map(|i| syn(A.from_port(30_000 + i)).opens()))
            .check(Check::Flows(20))
            .check(Check::PoolUsed(0, 20))
            .check(Check::HalfOpenVpc(1, 20)),
        case("clients of three targets")
            .frames((0..30).map(|i| syn(A.to_port(HTTPS).from_port(30_000 + i)).opens()))
            .check(Check::Flows(30))
            .check(Check::ListenerFlows(2, 30)),
        case("a port in the range of the pool's lowest").handshake(A.from_port(1024)).frame(data(A.from_port(1024), 3)),
        case("a privileged client port").handshake(A.from_port(22)).frame(data(A.from_port(22), 3)),
        case("client port 0").handshake(A.from_port(0)),
        case("client port 65535").handshake(A.from_port(65_535)),
        case("Cilium: no_backend; a listener without targets").frame(syn(A.to_port(EMPTY)).reset(Counter::NoTarget)),
        case("a SYN with data to a listener without targets")
            .frame(syn(A.to_port(EMPTY)).payload(9).reset(Counter::NoTarget))
            .check(Check::EndpointRefused(1, 1)),
        case("the last target goes away and comes back")
            .change(|world| {
                world.listeners.get_mut(&1).expect("listener 1").ring_len = 0;
            })
            .frame(syn(A).reset(Counter::NoTarget))
            .change(|world| {
                world.listeners.get_mut(&1).expect("listener 1").ring_len = 1;
            })
            .frame(syn(A).opens()),
        case("the next hop is not resolved")
            .frame(syn(A.to_port(UNRESOLVED)).dropped(Counter::NextHopUnresolved))
            .check(Check::EndpointRefused(1, 1))
            .check(Check::PoolUsed(4, 0))
            .change(|world| {
                world.targets.get_mut(&5).expect("target 5").flags = TargetFlags::RESOLVED;
            })
            .frame(syn(A.to_port(UNRESOLVED)).opens()),
        case("Cilium: wildcard_drop; no listener on this port")
            .frame(syn(A.to_port(9999)).dropped(Counter::NoListener))
            .frame(ack(A.to_port(9999)).dropped(Counter::NoListener))
            .frame(rst(A.to_port(9999)).dropped(Counter::NoListener))
            .frame(syn(A.to_port(9999)).flags(0x12).dropped(Counter::NoListener)),
        case("Calico: unknown_dest; nobody's address on an isolated port")
            .frame(syn(A.to([10, 0, 0, 99])).dropped(Counter::NotOurs))
            .frame(data(A.to([10, 0, 0, 99]), 10).dropped(Counter::NotOurs)),
        case("a health check takes the path of customers")
            .handshake(ON_HOST)
            .frame(data(ON_HOST, 30))
            .frame(reply(ON_HOST, 200).numbers(5001, 1031))
            .check(Check::TargetPackets(1, 3, 2))
            .check(Check::PoolUsed(0, 1)),
        case("client and target behind one port")
            .handshake(ON_BOTH)
            .frame(data(ON_BOTH, 100))
            .frame(reply(ON_BOTH, 100).numbers(5001, 1101)),
        case("client and target behind one port to which XDP redirects")
            .world(redirected)
            .handshake(ON_BOTH)
            .frame(data(ON_BOTH, 100))
            .frame(reply(ON_BOTH, 100).numbers(5001, 1101)),
        case("a target behind a port that takes no XDP frames")
            .frame(syn(A.to_port(TC_TARGET)).opens().by_tc())
            .frame(syn_ack(A.to_port(TC_TARGET)))
            .frame(ack(A.to_port(TC_TARGET)).establishes().by_tc())
            .frame(data(A.to_port(TC_TARGET), 100).by_tc())
            .frame(reply(A.to_port(TC_TARGET), 100).numbers(5001, 1101))
            .check(Check::Flows(1))
            .check(Check::TargetPackets(7, 3, 2)),
        case("a client behind a port that takes no XDP frames")
            .frame(syn(ON_NO_XDP).opens())
            .frame(syn_ack(ON_NO_XDP).by_tc())
            .frame(ack(ON_NO_XDP).establishes())
            .frame(data(ON_NO_XDP, 100))
            .frame(reply(ON_NO_XDP, 100).by_tc()),
        case("opened and closed flows are reported")
            .world(|world| world.flow_events = true)
            .frame(syn(A).opens())
            .check(Check::OpenedEvent(A))
            .frame(syn_ack(A))
            .check(Check::NoEvent)
            .frame(ack(A).establishes())
            .check(Check::NoEvent)
            .frame(rst(A).counts(Counter::FlowResetByClient))
            .check(Check::ClosedEvent(A, Counter::FlowResetByClient)),
    ]
}

fn redirected(world: &mut World) {
    let port = world.ports.get_mut(&BOTH).expect("the port");
    port.flags = port.flags.with(PortFlags::XDP_REDIRECT);
}
