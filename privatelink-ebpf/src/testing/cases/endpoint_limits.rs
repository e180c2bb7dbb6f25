//! What an endpoint's provider allows it: connections, new connections a second, bits a second.

use super::*;
use crate::{
    abi::{Counter, limit::EndpointBudget},
    testing::script::*,
};

/// An endpoint of VPC 1 whose limits the cases set.
const CLIENT_OF_LIMITED: Client = A.to(LIMITED);

fn budget(world: &mut World, change: fn(&mut EndpointBudget)) {
    change(world.endpoint_budgets.entry(3).or_default());
}

fn two_connections(world: &mut World) {
    budget(world, |budget| *budget = EndpointBudget { connections: 2, ..EndpointBudget::half_open(100) });
}

fn one_a_second(world: &mut World) {
    budget(world, |budget| *budget = EndpointBudget { connections_per_second: 1, ..EndpointBudget::half_open(100) });
}

fn plenty_of_bits(world: &mut World) {
    budget(world, |budget| {
        *budget = EndpointBudget { bits_per_second: 1_000_000_000, ..EndpointBudget::half_open(100) };
    });
}

/// A packet of 1,000 bytes takes eight seconds.
fn few_bits(world: &mut World) {
    budget(world, |budget| budget.bits_per_second = 1_000);
}

/// A segment without data takes more than three seconds.
fn fewest_bits(world: &mut World) {
    budget(world, |budget| budget.bits_per_second = 100);
}

fn no_limit(world: &mut World) {
    budget(world, |budget| budget.bits_per_second = 0);
}

pub fn cases() -> Vec<Case> {
    let limited = CLIENT_OF_LIMITED;
    let (second, third) = (limited.from_port(2), limited.from_port(3));
    let udp = limited.udp().to_port(DNS);
    let connections = case("an endpoint's open connections are limited").world(two_connections);
    let three = |case: Case| {
        case.world(two_connections).handshake(limited).handshake(second).check(Check::EndpointConnections(3, 2))
    };
    [
        connections
            .handshake(limited)
            .frame(syn(second).opens())
            .frame(syn(third).reset(Counter::EndpointConnectionLimit))
            .check(Check::EndpointConnections(3, 2))
            .check(Check::EndpointLimited(3, [1, 0, 0]))
            .check(Check::EndpointRefused(3, 1))
            .check(Check::HalfOpenEndpoint(3, 1))
            .check(Check::HalfOpenVpc(1, 1))
            .check(Check::PoolUsed(0, 2))
            // Another endpoint of the same VPC.
            .frame(syn(A).opens())
            .check(Check::EndpointConnections(1, 1)),
        case("SYNs that are sent again are no further connections")
            .world(two_connections)
            .frame(syn(limited).opens())
            .frames((0..3).map(|_| syn(CLIENT_OF_LIMITED)))
            .frame(syn(second).opens())
            .check(Check::EndpointConnections(3, 2)),
        three(case("a connection that the client has closed makes room"))
            .frame(fin(limited))
            .check(Check::EndpointConnections(3, 2))
            .frame(target_fin(limited).numbers(5001, 1002))
            .check(Check::EndpointConnections(3, 1))
            .frame(ack(limited).numbers(1002, 5002).counts(Counter::FlowClosed))
            .check(Check::EndpointConnections(3, 1))
            .frame(syn(third).opens()),
        case("one that the target has closed makes room, though its port is held")
            .world(two_connections)
            .closed_by_target(limited)
            .check(Check::PoolUsed(0, 1))
            .check(Check::EndpointConnections(3, 0))
            .handshake(second)
            .frame(syn(third).opens())
            .advance(61)
            .collect(&[(Counter::PortReleasedAfterHold, 1), (Counter::FlowExpiredHalfOpen, 1)])
            .check(Check::EndpointConnections(3, 1)),
        three(case("a reset makes room"))
            .frame(rst(limited).counts(Counter::FlowResetByClient))
            .check(Check::EndpointConnections(3, 1))
            .frame(syn(third).opens()),
        three(case("a reset on probation makes none until it is over"))
            .frame(rst(limited).numbers(1500, 0))
            .check(Check::EndpointConnections(3, 2))
            .advance(11)
            .collect(&[(Counter::FlowResetByClient, 1)])
            .check(Check::EndpointConnections(3, 1)),
        three(case("idle connections make room when they are forgotten"))
            .advance(351)
            .collect(&[(Counter::FlowExpiredIdle, 2)])
            .check(Check::EndpointConnections(3, 0)),
        three(case("connections of a target that is gone make room"))
            .change(|world| world.targets.get_mut(&1).expect("target 1").generation += 1)
            .frame(data(limited, 10).reset(Counter::TargetGone).counts(Counter::FlowEndedWithTarget))
            .check(Check::EndpointConnections(3, 1))
            .collect(&[(Counter::FlowEndedWithTarget, 1)])
            .check(Check::EndpointConnections(3, 0)),
        case("connections of a detached port make room")
            .world(two_connections)
            .handshake(limited)
            .change(|world| _ = world.ports.remove(&A_PORT))
            .advance(351)
            .collect_twice(Counter::FlowExpiredIdle)
            .check(Check::EndpointConnections(3, 0)),
        case("a connection that finds no source port takes none of the endpoint's")
            .frame(syn(A.to_port(ONE_PORT)).opens())
            .frame(syn(A.to_port(ONE_PORT).from_port(2)).reset(Counter::PortsExhausted))
            .check(Check::EndpointConnections(1, 1)),
        case("a client that uses its port again is one connection")
            .world(two_connections)
            .closed_by_target(limited)
            .frame(syn(limited).numbers(70_000, 0).opens().counts(Counter::FlowReplaced))
            .check(Check::EndpointConnections(3, 1)),
        case("UDP: flows count as connections, and those above the limit are dropped")
            .world(two_connections)
            .handshake(limited)
            .frame(datagram(udp, 10).opens())
            .frame(datagram(udp.from_port(2), 10).dropped(Counter::EndpointConnectionLimit))
            .check(Check::EndpointLimited(3, [1, 0, 0]))
            .frame(answer(udp, 10).counts(Counter::FlowEstablished))
            .check(Check::EndpointConnections(3, 2))
            .advance(121)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::EndpointConnections(3, 1)),
        case("a limit below what is open ends nothing")
            .handshake(limited)
            .handshake(second)
            .change(|world| budget(world, |budget| budget.connections = 1))
            .frame(data(limited, 10))
            .frame(reply(second, 10))
            .frame(syn(third).reset(Counter::EndpointConnectionLimit)),
        case("an endpoint's new connections a second are limited")
            .world(one_a_second)
            .frame(syn(limited).opens())
            .frame(syn(second).dropped(Counter::EndpointConnectionRateLimit))
            .frame(syn(limited))
            .frame(syn_ack(limited))
            .frame(ack(limited).establishes())
            .check(Check::EndpointLimited(3, [0, 1, 0]))
            .check(Check::EndpointConnections(3, 1))
            .check(Check::HalfOpenEndpoint(3, 0))
            .check(Check::HalfOpenVpc(1, 0))
            .frame(syn(A).opens())
            .advance(2)
            .frame(syn(second).opens())
            .frame(syn(third).dropped(Counter::EndpointConnectionRateLimit)),
        case("UDP: new flows a second are limited")
            .world(one_a_second)
            .frame(datagram(udp, 10).opens())
            .frame(datagram(udp, 10))
            .frame(datagram(udp.from_port(2), 10).dropped(Counter::EndpointConnectionRateLimit)),
        case("an endpoint's bits a second are limited, both ways together")
            .world(plenty_of_bits)
            .handshake(limited)
            .frame(data(limited, 10))
            .change(few_bits)
            .frame(data(limited, 960))
            .frame(data(limited, 10).dropped(Counter::EndpointBitRateLimit))
            .frame(reply(limited, 0).dropped(Counter::EndpointBitRateLimit))
            .check(Check::EndpointLimited(3, [0, 0, 2]))
            .check(Check::EndpointPackets(3, 4, 1))
            // Another endpoint of the same VPC.
            .handshake(A)
            .frame(data(A, 1000))
            .frame(reply(A, 1000))
            .advance(9)
            .frame(reply(limited, 960))
            .frame(data(limited, 10).dropped(Counter::EndpointBitRateLimit)),
        case("a segment that is dropped for want of bits changes no state")
            .world(plenty_of_bits)
            .handshake(limited)
            .change(few_bits)
            .frame(data(limited, 960))
            .frame(fin(limited).dropped(Counter::EndpointBitRateLimit))
            .frame(target_rst(limited).dropped(Counter::EndpointBitRateLimit))
            .check(Check::State(limited, crate::abi::flow::FlowState::Established)),
        case("a limit of bits that is set later holds open flows from the next sweep on")
            .handshake(limited)
            .change(few_bits)
            .frame(data(limited, 960))
            .frame(data(limited, 960))
            .collect(&[])
            .frame(data(limited, 960))
            .frame(data(limited, 960).dropped(Counter::EndpointBitRateLimit))
            .change(no_limit)
            .frame(data(limited, 960))
            .collect(&[])
            .frame(data(limited, 960))
            .frame(fin(limited))
            .frame(target_fin(limited).numbers(5001, 1002))
            .frame(ack(limited).numbers(1002, 5002).counts(Counter::FlowClosed))
            .check(Check::EndpointConnections(3, 0)),
        case("a new connection's first segment counts too")
            .world(fewest_bits)
            .frame(syn(limited).opens())
            .frame(syn(second).dropped(Counter::EndpointBitRateLimit))
            .check(Check::EndpointLimited(3, [0, 0, 1]))
            .check(Check::EndpointRefused(3, 1))
            .check(Check::EndpointConnections(3, 1))
            .check(Check::HalfOpenEndpoint(3, 1)),
        case("UDP: bits a second are limited")
            .world(plenty_of_bits)
            .frame(datagram(udp, 10).opens())
            .frame(answer(udp, 10).counts(Counter::FlowEstablished))
            .frame(datagram(udp, 500))
            .change(few_bits)
            .frame(datagram(udp, 500))
            .frame(datagram(udp, 10).dropped(Counter::EndpointBitRateLimit))
            .frame(answer(udp, 10).dropped(Counter::EndpointBitRateLimit))
            .frame(datagram(udp.from_port(2), 10).dropped(Counter::EndpointBitRateLimit)),
        case("fragments count against the bits a second")
            .world(plenty_of_bits)
            .frame(datagram(udp, 10).opens())
            .frame(datagram(udp, 3000).with_udp(|udp| udp.fragment = 0).fragment(0, 1480))
            .change(few_bits)
            .frame(datagram(udp, 3000).with_udp(|udp| udp.fragment = 0).fragment(1480, 1480))
            .frame(
                datagram(udp, 3000)
                    .with_udp(|udp| udp.fragment = 0)
                    .fragment(2960, 48)
                    .fragment_refused(Counter::EndpointBitRateLimit),
            ),
    ]
    .into()
}

/// What IPv4 alone has.
pub fn cases_of_ipv4() -> Vec<Case> {
    let proxied = A.to_port(PROXIED);
    vec![
        case("a flow with a PROXY protocol header is held to its bits")
            .world(|world| {
                world.endpoint_budgets.insert(1, EndpointBudget { bits_per_second: 100, ..EndpointBudget::default() });
            })
            .frame(syn(proxied).opens())
            .frame(syn_ack(proxied).by_tc().dropped(Counter::EndpointBitRateLimit)),
    ]
}
