//! Networks that overlap, and what must not pass between them.

use super::*;
use crate::{
    abi::{Counter, VpcIndex, flow::FlowState},
    testing::{
        packet::Tcp,
        script::*,
        world::{port_mac, target_mac},
    },
    wire::tcp::Flags,
};

pub fn cases() -> Vec<Case> {
    vec![
        case("Cilium: inter_cluster_snat; two consumers with equal addresses and ports")
            .handshake(A)
            .handshake(B)
            .check(Check::Flows(2))
            .check(Check::PoolUsed(0, 2))
            .frame(data(A, 100))
            .frame(data(B, 200))
            .frame(reply(B, 300))
            .frame(reply(A, 400))
            .check(Check::EndpointPackets(1, 3, 2))
            .check(Check::EndpointPackets(2, 3, 2)),
        case("one consumer's close leaves the other's equal connection alone")
            .handshake(A)
            .handshake(B)
            .frame(rst(A).counts(Counter::FlowResetByClient))
            .frame(data(B, 10))
            .frame(reply(B, 10))
            .check(Check::State(B, FlowState::Established)),
        case("five consumers with equal addresses at once")
            .handshake(A)
            .handshake(B)
            .handshake(ON_SHARED)
            .frame(syn(ON_NO_XDP).opens())
            .frame(syn(ON_SMALL).clamped(1360).opens())
            .check(Check::Flows(5)),
        case("an endpoint of one VPC is nothing in another")
            .frame(syn(B.to(LIMITED)).dropped(Counter::NotOurs))
            .frame(data(B.to(LIMITED), 5).dropped(Counter::NotOurs)),
        case("a segment of another VPC's connection is a stranger")
            .handshake(A)
            .frame(data(B, 10).reset(Counter::NoFlow))
            .frame(rst(B).dropped(Counter::NoFlow))
            .check(Check::State(A, FlowState::Established)),
        case("a connection of one VPC goes on through another port of it")
            .handshake(A)
            .frame(data(A.behind(A_OTHER_PORT), 10).counts(Counter::ClientMoved))
            .frame(reply(A.behind(A_OTHER_PORT), 10)),
        case("a provider's host cannot open a connection to a node address")
            .frame(provider(CLIENT, NODE, 8080, 5000, 0x02).dropped(Counter::SynFromTarget))
            .frame(provider([10, 0, 9, 9], NODE, 1234, 80, 0x02).dropped(Counter::SynFromTarget)),
        case("a target cannot open a connection through a flow")
            .handshake(A)
            .frame(target_ack(A).flags(0x02).dropped(Counter::SynFromTarget))
            .check(Check::State(A, FlowState::Established)),
        case("a target's SYN into a half-open flow is dropped")
            .frame(syn(A).opens())
            .frame(target_ack(A).flags(0x02).dropped(Counter::SynFromTarget))
            .check(Check::State(A, FlowState::SynSent)),
        case("a client's SYN-ACK into its flow is dropped")
            .handshake(A)
            .frame(ack(A).flags(0x12).dropped(Counter::InvalidFlags)),
        case("a provider's host reaches no endpoint")
            .frame(provider(CLIENT, ENDPOINT, 8080, 80, 0x02).dropped(Counter::NotOurs))
            .frame(provider(CLIENT, ENDPOINT, 8080, 80, 0x10).dropped(Counter::NotOurs)),
        case("a provider's host reaches no client")
            .handshake(A)
            .frame(provider([10, 0, 9, 9], CLIENT, 8080, 40_000, 0x10).dropped(Counter::NotOurs)),
        case("another provider host's segment to a flow's port is a stranger's")
            .handshake(A)
            .frame(target_ack(A).adjusted(|tcp| tcp.src = [10, 0, 9, 9]).reset(Counter::NoFlow))
            .check(Check::State(A, FlowState::Established)),
        case("another port of the target is a stranger")
            .handshake(A)
            .frame(target_ack(A).adjusted(|tcp| tcp.src_port = 22).reset(Counter::NoFlow)),
        case("a client reaches no node address").frame(syn(A.to(NODE)).dropped(Counter::NotOurs)),
        case("a client reaches no target").frame(syn(A.to([10, 0, 2, 1]).to_port(8443)).dropped(Counter::NotOurs)),
        case("a client reaches no internal address").frame(syn(A.to(INTERNAL).to_port(8080)).dropped(Counter::NotOurs)),
        case("Calico: spoof; an endpoint's own address as the source")
            .frame(spoofed(LIMITED, 0x02).dropped(Counter::SpoofedSource))
            .frame(spoofed(LIMITED, 0x10).dropped(Counter::SpoofedSource))
            .frame(spoofed(ENDPOINT, 0x02).dropped(Counter::SpoofedSource)),
        case("sources that nobody can have").frames(
            [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]]
                .map(|ip| spoofed(ip, 0x02).dropped(Counter::InvalidAddress)),
        ),
        case("a SYN from a group address")
            .frame(syn(A.with_mac(Mac([0x01, 0, 0x5e, 0, 0, 1]))).dropped(Counter::InvalidAddress)),
        case("destinations that nobody forwards to").frames(
            [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]]
                .map(|ip| syn(A.to(ip)).dropped(Counter::NotOurs)),
        ),
        case("an interface that is no port is left alone")
            .frame(syn(A.behind(NO_PORT)).on_no_port())
            .frame(raw(NO_PORT, vec![0; 60]).on_no_port()),
        case("a shared port serves its endpoint")
            .handshake(ON_SHARED)
            .frame(data(ON_SHARED, 10))
            .frame(reply(ON_SHARED, 10)),
        case("a shared port passes on what is not ours")
            .frame(syn(ON_SHARED.to([10, 0, 0, 99])).passed())
            .frame(data(ON_SHARED.to([10, 0, 0, 99]), 100).passed())
            .frame(rst(ON_SHARED.to([192, 168, 0, 1])).passed()),
        case("a shared port passes on nothing for an endpoint")
            .frame(syn(ON_SHARED.to_port(9999)).dropped(Counter::NoListener))
            .frame(ack(ON_SHARED).reset(Counter::NoFlow)),
        case("a port that is detached gets nothing more")
            .handshake(A)
            .change(|world| _ = world.ports.remove(&A_PORT))
            .frame(reply(A, 100).dropped(Counter::NoPort))
            .frame(reply(A, 100).gso(50).dropped(Counter::NoPort)),
        case("a port of the target's side that is detached gets nothing more")
            .handshake(A)
            .change(|world| _ = world.ports.remove(&PROVIDER))
            .frame(data(A, 100).dropped(Counter::NoPort))
            .frame(data(A, 100).gso(50).dropped(Counter::NoPort)),
        case("a port that is given to another VPC carries nobody else's connections")
            .handshake(A)
            .change(|world| world.ports.get_mut(&A_PORT).expect("port").vpc = VpcIndex(2))
            .frame(data(A, 10).reset(Counter::NoFlow)),
        case("a client's new Ethernet address is learnt from a segment in its place")
            .handshake(A)
            .frame(data(A.with_mac(MOVED), 10).counts(Counter::ClientMoved))
            .frame(reply(A.with_mac(MOVED), 10)),
        case("a neighbour who does not know the numbers draws nothing to itself")
            .handshake(A)
            .frame(data(A.with_mac(MOVED), 10).numbers(0x9000_0000, 5001))
            .frame(reply(A, 10)),
        case("a target's new Ethernet address counts for all its flows at once")
            .handshake(A)
            .change(|world| world.targets.get_mut(&1).expect("target").mac = MOVED)
            .frame(data(A, 10)),
        case("a target moves behind another port")
            .handshake(A)
            .change(|world| world.targets.get_mut(&1).expect("target").ifindex = PROVIDER_NO_XDP)
            .frame(data(A, 10).by_tc())
            .frame(reply(A, 10)),
    ]
}

const MOVED: Mac = Mac([0x02, 0, 0, 0, 0, 0x7a]);

fn provider(src: [u8; 4], dst: [u8; 4], src_port: u16, dst_port: u16, flags: u8) -> Frame {
    let tcp =
        Tcp { src_mac: target_mac(1), dst_mac: port_mac(PROVIDER), src, dst, src_port, dst_port, ..Tcp::default() };
    other(PROVIDER, Tcp { flags: Flags(flags), ..tcp })
}

fn spoofed(src: [u8; 4], flags: u8) -> Frame {
    let tcp = Tcp { src_mac: A.mac, dst_mac: port_mac(A_PORT), src, dst: ENDPOINT, ..Tcp::default() };
    other(A_PORT, Tcp { src_port: 40_000, dst_port: HTTP, flags: Flags(flags), ..tcp })
}
