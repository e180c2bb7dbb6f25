//! Several node addresses of one load balancer.

use super::*;
use crate::{
    abi::{Counter, Ip4},
    testing::{script::*, world::nearly_full},
};

/// The other node addresses.
const SECOND: [u8; 4] = [10, 0, 0, 6];
const THIRD: [u8; 4] = [10, 0, 0, 7];

/// `to` is the target `from` behind another node address, whose pool has so many free ports.
fn behind(world: &mut World, from: u32, to: u32, node: [u8; 4], pool: u32, free: u32) {
    let target = world.targets[&from];
    world.targets.insert(to, crate::abi::service::Target { node_ip: Ip4::from_wire(node), pool, ..target });
    world.address(target.vpc.0, node, AddressKind::Node);
    world.pools[pool as usize] = nearly_full(free);
}

/// The target with one port left has a second node address, with as many.
fn two(world: &mut World) {
    behind(world, 6, 13, SECOND, 12, 1);
    world.next_nodes.extend([(6, 13), (13, 6)]);
}

fn three(world: &mut World) {
    behind(world, 6, 13, SECOND, 12, 1);
    behind(world, 6, 14, THIRD, 13, 1);
    world.next_nodes.extend([(6, 13), (13, 14), (14, 6)]);
}

fn udp(world: &mut World) {
    behind(world, 10, 13, SECOND, 12, 1);
    world.next_nodes.extend([(10, 13), (13, 10)]);
}

pub fn cases() -> Vec<Case> {
    let last = A.to_port(ONE_PORT);
    let (next, third) = (last.from_port(2), last.from_port(3));
    let datagrams = A.udp().to_port(UDP_ONE_PORT);
    vec![
        case("a full pool: the next node address's ports are used")
            .world(two)
            .handshake(last)
            .frame(syn(next).opens().counts(Counter::NextNodeUsed))
            .frame(syn_ack(next))
            .frame(ack(next).establishes())
            .frame(data(next, 100))
            .frame(reply(next, 100).numbers(5001, 1101))
            .frame(data(last, 100))
            .frame(reply(last, 100).numbers(5001, 1101))
            .check(Check::PoolUsed(5, 64_512))
            .check(Check::PoolUsed(12, 64_512))
            .check(Check::PoolExhausted(5, 1))
            .check(Check::PoolExhausted(12, 0))
            .check(Check::PortAllocationErrors(6, 0))
            .check(Check::TargetPackets(13, 3, 2)),
        case("the port of the next node address is given back to it")
            .world(two)
            .frame(syn(last).opens())
            .frame(syn(next).opens().counts(Counter::NextNodeUsed))
            .frame(syn_ack(next))
            .frame(ack(next).establishes())
            .frame(rst(next).counts(Counter::FlowResetByClient))
            .check(Check::PoolUsed(12, 64_511))
            .frame(syn(third).opens().counts(Counter::NextNodeUsed)),
        case("all node addresses' pools are full")
            .world(two)
            .frame(syn(last).opens())
            .frame(syn(next).opens().counts(Counter::NextNodeUsed))
            .frame(syn(third).reset(Counter::PortsExhausted))
            .check(Check::PoolExhausted(5, 2))
            .check(Check::PortAllocationErrors(6, 1))
            .check(Check::HalfOpenVpc(1, 2)),
        case("three node addresses, one after the other")
            .world(three)
            .frame(syn(last).opens())
            .frame(syn(next).opens().counts(Counter::NextNodeUsed))
            .frame(syn(third).opens().counts(Counter::NextNodeUsed))
            .frame(syn(last.from_port(4)).reset(Counter::PortsExhausted))
            .check(Check::PoolUsed(13, 64_512)),
        case("a next node address whose way to the target is not known")
            .world(|world| {
                two(world);
                world.targets.entry(13).and_modify(|target| target.flags = TargetFlags(0));
            })
            .frame(syn(last).opens())
            .frame(syn(next).reset(Counter::PortsExhausted)),
        case("a next node address of a target that is gone")
            .world(|world| {
                two(world);
                world.targets.entry(13).and_modify(|target| target.flags = target.flags.with(TargetFlags::RETIRED));
            })
            .frame(syn(last).opens())
            .frame(syn(next).reset(Counter::PortsExhausted)),
        case("an index that stands for another target meanwhile")
            .world(|world| _ = world.next_nodes.insert(6, 2))
            .frame(syn(last).opens())
            .frame(syn(next).reset(Counter::PortsExhausted)),
        case("datagrams: the next node address's ports are used")
            .world(udp)
            .frame(datagram(datagrams, 10).opens())
            .frame(datagram(datagrams.from_port(2), 10).opens().counts(Counter::NextNodeUsed))
            .frame(answer(datagrams.from_port(2), 10).establishes())
            .frame(answer(datagrams, 10).establishes())
            .frame(datagram(datagrams.from_port(3), 10).dropped(Counter::PortsExhausted)),
        case("a datagram flow gets no port at which the node address has a listener")
            .world(|world| {
                world.pools[9] = nearly_full(2);
                world.udp_frontend(3, NODE, 65_535, 9, 0);
            })
            .frame(datagram(datagrams, 10).opens())
            .frame(answer(datagrams, 10).establishes())
            // A reply after the flow's end is nobody's.
            .advance(121)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .frame(answer(datagrams, 10).dropped(Counter::NoFlow))
            .check(Check::Entries(0)),
        case("a segment's flow may have the port of a listener for datagrams")
            .world(|world| world.udp_frontend(3, NODE, 65_535, 9, 0))
            .frame(syn(last).opens()),
        case("flows spread over the node addresses of a ring")
            .world(|world| {
                behind(world, 1, 13, SECOND, 12, 64_512);
                world.listener(23, 350, &[1, 13]);
                world.frontend(1, ENDPOINT, 90, 23, 1);
            })
            .frames((0..16).map(|n| syn(A.to_port(90).from_port(1000 + n)).opens()))
            .check(Check::TargetsUsed(2)),
    ]
}
