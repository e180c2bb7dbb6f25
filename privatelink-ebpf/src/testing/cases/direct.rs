//! Clients of the load balancer itself, whose own addresses the targets see.

use super::*;
use crate::{
    abi::{Counter, flow::FlowState},
    testing::{
        packet::Arp,
        script::*,
        world::{port_mac, target_mac},
    },
};

/// A client in the provider's VPC, behind another port than the targets.
const D: Client = Client {
    ifindex: PROVIDER_OTHER,
    vpc: 3,
    mac: Mac([0x02, 0, 0, 0, 0, 0x0d]),
    ip: [10, 0, 4, 4],
    service: NODE,
    service_port: DIRECT,
    ..A
};

fn shown(client: Client) -> Frame {
    match client.proto {
        Proto::Tcp => syn(client),
        Proto::Udp => datagram(client, 30),
    }
    .opens()
    .counts(Counter::ClientIpPreserved)
}

fn shaken(case: Case, client: Client) -> Case {
    case.frame(shown(client)).frame(syn_ack(client)).frame(ack(client).establishes())
}

/// The target asks for the client's Ethernet address.
fn asked(ifindex: u32, wanted: [u8; 4]) -> Frame {
    arp(ifindex, Arp::request(target_mac(1), CLIENT, wanted))
}

fn ignored(frame: Frame) -> Frame {
    frame.dropped(Counter::ArpIgnored).by_tc()
}

pub fn cases() -> Vec<Case> {
    let u = D.udp();
    vec![
        shaken(case("direct: the target sees the client's own address and port"), D)
            .frame(data(D, 10))
            .frame(reply(D, 20))
            .frame(data(D, 10).numbers(1011, 5021))
            .check(Check::State(D, FlowState::Established))
            .check(Check::Flows(1))
            .check(Check::PoolUsed(0, 0))
            .check(Check::HalfOpenVpc(3, 0))
            .check(Check::TargetPackets(1, 4, 2))
            .check(Check::ListenerFlows(21, 1)),
        shaken(case("direct: several clients and ports at once"), D)
            .frame(shown(D.from_port(40_001)))
            .frame(shown(D.at([10, 0, 4, 5])))
            .frame(reply(D, 5))
            .frame(syn_ack(D.from_port(40_001)))
            .frame(syn_ack(D.at([10, 0, 4, 5])))
            .check(Check::Flows(3))
            .check(Check::PoolUsed(0, 0)),
        case("direct: a port below those of the pool is the client's own all the same")
            .frame(shown(D.from_port(22)))
            .frame(syn_ack(D.from_port(22)))
            .frame(ack(D.from_port(22)).establishes()),
        case("direct: a SYN that is sent again opens nothing more")
            .frame(shown(D))
            .frame(syn(D))
            .frame(syn_ack(D))
            .check(Check::Flows(1)),
        shaken(case("direct: a close by the client leaves nothing"), D)
            .frame(fin(D))
            .frame(target_fin(D).numbers(5001, 1002))
            .frame(ack(D).numbers(1002, 5002).counts(Counter::FlowClosed))
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0))
            .frame(shown(D)),
        shaken(case("direct: the target's hold of the address pair keeps the next one off it"), D)
            .frame(target_fin(D))
            .frame(fin(D).numbers(1001, 5002))
            .frame(target_ack(D).numbers(5002, 1002))
            .check(Check::State(D, FlowState::TimeWait))
            .frame(syn(D).numbers(90_000, 0).opens().counts(Counter::FlowReplaced).counts(Counter::ClientIpCollision))
            .check(Check::PoolUsed(0, 1))
            .advance(61)
            .collect(&[(Counter::PortReleasedAfterHold, 1), (Counter::FlowExpiredHalfOpen, 1)])
            .check(Check::PoolUsed(0, 0))
            .frame(shown(D)),
        shaken(case("direct: resets of either side"), D)
            .frame(rst(D).counts(Counter::FlowResetByClient))
            .check(Check::Entries(0))
            .frame(shown(D))
            .frame(target_rst(D).flags(0x14).numbers(0, 1001).counts(Counter::FlowResetByTarget))
            .check(Check::Entries(0)),
        shaken(case("direct: a target that is taken away"), D)
            .change(|world| world.targets.get_mut(&1).expect("target").generation += 1)
            .frame(data(D, 10).reset(Counter::TargetGone).counts(Counter::FlowEndedWithTarget))
            .check(Check::Entries(0)),
        shaken(case("direct: the sweep keeps what lives and ends what is idle"), D)
            .collect(&[])
            .frame(data(D, 10))
            .advance(351)
            .collect(&[(Counter::FlowExpiredIdle, 1)])
            .check(Check::Entries(0))
            .check(Check::PoolUsed(0, 0)),
        case("direct: two listeners, one target, the same client port: the second shows the node address")
            .frame(shown(D))
            .frame(syn(D.to_port(DIRECT_TOO)).opens().counts(Counter::ClientIpCollision))
            .frame(syn_ack(D.to_port(DIRECT_TOO)))
            .frame(syn_ack(D))
            .frame(ack(D).establishes())
            .frame(ack(D.to_port(DIRECT_TOO)).establishes())
            .frame(reply(D.to_port(DIRECT_TOO), 7))
            .frame(reply(D, 8))
            .check(Check::Flows(2))
            .check(Check::PoolUsed(0, 1)),
        case("direct: client and target behind one port: the target sees the node address")
            .frame(syn(D.behind(PROVIDER)).opens().counts(Counter::ClientIpSamePort))
            .frame(syn_ack(D.behind(PROVIDER)))
            .frame(ack(D.behind(PROVIDER)).establishes())
            .check(Check::PoolUsed(0, 1))
            .frame(ignored(asked(PROVIDER, D.ip))),
        case("direct: a target that connects to itself sees the node address")
            .frame(syn(D.at(CLIENT)).opens().counts(Counter::ClientIpSamePort))
            .frame(syn_ack(D.at(CLIENT)))
            .check(Check::PoolUsed(0, 1)),
        case("direct: through an endpoint the target sees the node address")
            .handshake(A.to_port(DIRECT))
            .frame(reply(A.to_port(DIRECT), 9))
            .check(Check::PoolUsed(0, 1)),
        case("direct: ARP for the client is answered where the target is, once it has a flow")
            .frame(ignored(asked(PROVIDER, D.ip)))
            .frame(shown(D))
            .frame(asked(PROVIDER, D.ip).answered())
            .frame(
                arp(PROVIDER, Arp { dst_mac: port_mac(PROVIDER), ..Arp::request(target_mac(1), CLIENT, D.ip) })
                    .answered(),
            )
            .frame(ignored(asked(PROVIDER, [10, 0, 4, 5])))
            .frame(ignored(asked(PROVIDER_NO_XDP, D.ip)))
            .frame(ignored(asked(PROVIDER_OTHER, D.ip)))
            .frame(ignored(arp(A_PORT, Arp::request(A.mac, CLIENT, D.ip)))),
        case("direct: nobody is kept from the client's address when it comes to the target's port")
            .frame(shown(D))
            .frame(ignored(arp(PROVIDER, Arp::request(D.mac, [0; 4], D.ip))))
            .frame(ignored(arp(PROVIDER, Arp::request(D.mac, D.ip, D.ip)))),
        case("direct: UDP, a question and its answer")
            .frame(shown(u))
            .frame(answer(u, 100).counts(Counter::FlowEstablished))
            .frame(datagram(u, 0))
            .frame(answer(u, 1472))
            .check(Check::Flows(1))
            .check(Check::PoolUsed(8, 0)),
        case("direct: UDP that is idle for too long opens another")
            .frame(shown(u))
            .frame(answer(u, 10).counts(Counter::FlowEstablished))
            .advance(121)
            .frame(shown(u).counts(Counter::FlowExpiredIdle)),
        case("direct: the target cannot connect to the client")
            .frame(shown(D))
            .frame(syn_ack(D).flags(2).dropped(Counter::SynFromTarget)),
    ]
}
