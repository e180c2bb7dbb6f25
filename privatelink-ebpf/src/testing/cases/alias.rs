//! Addresses and prefixes that a consumer routes to an endpoint: clients of anything in them reach its listeners.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::{icmp::*, packet::Arp, script::*, world::World},
};

/// An address of a network that is none of the VPCs'.
const ALIAS: [u8; 4] = [10, 200, 0, 10];

/// [`ALIAS`] leads to the endpoint of VPC 1, the network around it to another endpoint of it.
fn aliased(world: &mut World) {
    world.alias(1, ALIAS, 32, ENDPOINT);
    world.alias(1, [10, 200, 0, 0], 24, LIMITED);
}

pub fn cases() -> Vec<Case> {
    let to_alias = A.to(ALIAS);
    let beside = A.to([10, 200, 0, 11]);
    vec![
        case("alias: a connection to the address reaches the endpoint's target, and the answer comes from the address")
            .world(aliased)
            .handshake(to_alias)
            .frame(data(to_alias, 100))
            .frame(reply(to_alias, 300))
            .check(Check::State(to_alias, FlowState::Established))
            .check(Check::EndpointPackets(1, 3, 2))
            .check(Check::PoolUsed(0, 1)),
        case("alias: the endpoint's own address and its alias are two flows of one client port")
            .world(aliased)
            .handshake(A)
            .handshake(to_alias)
            .check(Check::Flows(2))
            .frame(reply(A, 10))
            .frame(reply(to_alias, 10)),
        case("alias: the longest prefix decides whose it is")
            .world(aliased)
            .handshake(to_alias)
            .handshake(beside)
            .check(Check::EndpointPackets(1, 2, 1))
            .check(Check::EndpointPackets(3, 2, 1))
            .frame(syn(beside.to_port(HTTPS)).dropped(Counter::NoListener))
            .frame(syn(to_alias.to_port(HTTPS)).opens()),
        case("alias: the port decides the listener, and no other port is reachable")
            .world(aliased)
            .frame(syn(to_alias.to_port(SHORT)).opens())
            .check(Check::ListenerFlows(7, 1))
            .frame(syn(to_alias.to_port(22)).dropped(Counter::NoListener))
            .frame(data(to_alias, 5).reset(Counter::NoFlow)),
        case("alias: what lies outside the prefix, or is asked for in another VPC, is nobody's")
            .world(aliased)
            .frame(syn(A.to([10, 200, 1, 10])).dropped(Counter::NotOurs))
            .frame(syn(B.to(ALIAS)).dropped(Counter::NotOurs)),
        case("alias: nobody is told by ARP that the address is ours")
            .world(aliased)
            .frame(arp(A_PORT, Arp::request(A.mac, CLIENT, ALIAS)).dropped(Counter::ArpIgnored).by_tc())
            .frame(arp(A_PORT, Arp::request(A.mac, CLIENT, ENDPOINT)).answered()),
        case("alias: a host of the network that the prefix names may be a client")
            .world(aliased)
            .handshake(A.at([10, 200, 0, 77])),
        case("alias: the endpoint's security groups count")
            .world(|world| {
                aliased(world);
                world.policy(1, &[([10, 0, 1, 0], [10, 0, 1, 255])], false);
                world.guard(1, ENDPOINT, HTTP, 1);
            })
            .frame(syn(to_alias).opens())
            .frame(syn(to_alias.at([10, 0, 2, 10])).dropped(Counter::SecurityGroupDenied))
            .check(Check::EndpointDenied(1, 1)),
        case("alias: the endpoint's budget of half-open flows counts")
            .world(aliased)
            .frame(syn(beside).opens())
            .frame(syn(A.to(LIMITED)).opens())
            .frame(syn(beside.from_port(1)).challenged(Counter::EndpointHalfOpenLimit)),
        case("alias: UDP")
            .world(aliased)
            .frame(datagram(to_alias.udp().to_port(DNS), 30).opens())
            .frame(answer(to_alias.udp().to_port(DNS), 100).counts(Counter::FlowEstablished))
            .frame(datagram(to_alias.udp().to_port(UDP_EMPTY + 1), 1).dropped(Counter::NoListener)),
        case("alias: an echo request is answered, an error is translated")
            .world(aliased)
            .frame(ping(to_alias, 56).echoed())
            .handshake(to_alias)
            .frame(target_too_big(to_alias, 1400).translated()),
        case("alias: it is taken back, and its flows go on")
            .world(aliased)
            .handshake(to_alias)
            .change(|world| world.aliases.clear())
            .frame(data(to_alias, 10))
            .frame(reply(to_alias, 10))
            .frame(syn(to_alias.from_port(1)).dropped(Counter::NotOurs)),
        case("alias: on a shared port only the prefix is ours")
            .world(|world| world.alias(4, ALIAS, 31, ENDPOINT))
            .handshake(ON_SHARED.to(ALIAS))
            .frame(syn(ON_SHARED.to([10, 200, 0, 11])).opens())
            .frame(syn(ON_SHARED.to([10, 200, 0, 12])).passed()),
    ]
}
