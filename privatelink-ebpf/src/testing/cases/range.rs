//! Frontends that serve many ports: a connection goes to the port of the target that the client asked for.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::{icmp::*, script::*, world::World},
};

/// Ports 1024 to 2047 and 3000 to 3001 of the endpoint of VPC 1 lead to one target at the port that is asked for.
fn ranges(world: &mut World) {
    for (proto, listener) in [(Proto::Tcp, 28), (Proto::Udp, 29)] {
        match proto {
            Proto::Tcp => world.frontend(1, ENDPOINT, 1_024, listener, 1),
            Proto::Udp => world.udp_frontend(1, ENDPOINT, 1_024, listener, 1),
        }
        world.range(1, ENDPOINT, proto, 1_024, 6, 1_024);
        world.range(1, ENDPOINT, proto, 3_000, 15, 1_024);
    }
    world.same_port(28, 20, Proto::Tcp);
    world.same_port(29, 21, Proto::Udp);
}

pub fn cases() -> Vec<Case> {
    let at = |port| A.to_port(port);
    vec![
        case("range: each port leads to the same port of the target")
            .world(ranges)
            .handshake(at(1_024))
            .handshake(at(1_500))
            .handshake(at(2_047))
            .handshake(at(3_001))
            .check(Check::Flows(4))
            .check(Check::ListenerFlows(28, 4))
            .check(Check::EndpointPackets(1, 8, 4))
            .frame(data(at(1_500), 100))
            .frame(reply(at(1_500), 300))
            .check(Check::State(at(1_500), FlowState::Established)),
        case("range: what is beside it has no listener")
            .world(ranges)
            .frame(syn(at(1_023)).dropped(Counter::NoListener))
            .frame(syn(at(2_048)).dropped(Counter::NoListener))
            .frame(syn(at(2_999)).dropped(Counter::NoListener))
            .frame(syn(at(3_002)).dropped(Counter::NoListener))
            .frame(data(at(1_500), 5).reset(Counter::NoFlow)),
        case("range: a port with a frontend of its own is that one's")
            .world(|world| {
                ranges(world);
                world.frontend(1, ENDPOINT, 1_100, 7, 1);
            })
            .frame(syn(at(1_100)).opens())
            .check(Check::ListenerFlows(7, 1))
            .frame(syn(at(1_101)).opens())
            .check(Check::ListenerFlows(28, 1)),
        case("range: the longest prefix decides")
            .world(|world| {
                ranges(world);
                world.frontend(1, ENDPOINT, 1_536, 7, 1);
                world.range(1, ENDPOINT, Proto::Tcp, 1_536, 7, 1_536);
            })
            .frame(syn(at(1_535)).opens())
            .check(Check::ListenerFlows(28, 1))
            .frame(syn(at(1_537)).opens())
            .check(Check::ListenerFlows(7, 1)),
        case("range: all ports")
            .world(|world| {
                ranges(world);
                world.range(1, ENDPOINT, Proto::Tcp, 0, 0, 1_024);
            })
            .frame(syn(at(1)).opens())
            .frame(syn(at(65_535)).opens())
            .check(Check::ListenerFlows(28, 2))
            .frame(syn(A).opens())
            .check(Check::ListenerFlows(28, 2)),
        case("range: another VPC's, address's or protocol's is not this one's")
            .world(ranges)
            .frame(syn(B.to_port(1_500)).dropped(Counter::NoListener))
            .frame(syn(at(1_500).to(LIMITED)).dropped(Counter::NoListener)),
        case("range: an alias has the endpoint's ports")
            .world(|world| {
                ranges(world);
                world.alias(1, [10, 200, 0, 10], 32, ENDPOINT);
            })
            .handshake(at(1_500).to([10, 200, 0, 10]))
            .handshake(A.to([10, 200, 0, 10]))
            .frame(syn(at(2_048).to([10, 200, 0, 10])).dropped(Counter::NoListener)),
        case("range: security groups count for the frontend that serves the port")
            .world(|world| {
                ranges(world);
                world.policy(1, &[([10, 0, 1, 0], [10, 0, 1, 255])], false);
                world.guard(1, ENDPOINT, 1_024, 1);
            })
            .frame(syn(at(1_500)).opens())
            .frame(syn(at(1_501).at([10, 0, 2, 10])).dropped(Counter::SecurityGroupDenied)),
        case("range: source ports are given back when a flow ends")
            .world(ranges)
            .handshake(at(1_500))
            .check(Check::PoolUsed(14, 1))
            .frame(rst(at(1_500)).counts(Counter::FlowResetByClient))
            .check(Check::PoolUsed(14, 0)),
        case("range: UDP")
            .world(ranges)
            .frame(datagram(at(1_500).udp(), 30).opens())
            .frame(answer(at(1_500).udp(), 100).counts(Counter::FlowEstablished))
            .frame(datagram(at(2_048).udp(), 1).dropped(Counter::NoListener)),
        case("range: an error about a packet is translated")
            .world(ranges)
            .handshake(at(1_500))
            .frame(target_too_big(at(1_500), 1_400).translated()),
    ]
}
