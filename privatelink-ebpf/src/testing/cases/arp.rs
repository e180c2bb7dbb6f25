//! ARP: who is answered, who is believed.

use super::*;
use crate::{
    abi::Counter,
    testing::{packet::Arp, script::*, world::target_mac},
};

const GROUP: Mac = Mac([0x03, 0, 0, 0, 0, 1]);

pub fn cases() -> Vec<Case> {
    let neighbor = [10, 0, 0, 77];
    let ask = |target| Arp::request(A.mac, CLIENT, target);
    let claim = Arp { dst_mac: Mac::BROADCAST, target: ENDPOINT, ..Arp::request(A.mac, ENDPOINT, ENDPOINT) };
    let moved = Arp::request(A.mac, neighbor, neighbor);
    vec![
        case("Katran: ARP; a request for an endpoint is answered")
            .frame(arp(A_PORT, ask(ENDPOINT)).answered())
            .check(Check::Neighbor(CLIENT, A.mac)),
        case("a padded request is answered").frame(arp(A_PORT, ask(ENDPOINT)).pad(60).answered()),
        case("a unicast request is answered")
            .frame(arp(A_PORT, Arp { dst_mac: crate::testing::world::port_mac(A_PORT), ..ask(ENDPOINT) }).answered()),
        case("a probe (RFC 5227) is answered and tells no neighbour")
            .frame(arp(A_PORT, Arp::request(A.mac, [0; 4], ENDPOINT)).answered())
            .check(Check::NoEvent),
        case("each VPC's endpoint is answered in its VPC")
            .frame(arp(B_PORT, Arp::request(B.mac, CLIENT, ENDPOINT)).answered())
            .frame(arp(B_PORT, Arp::request(B.mac, CLIENT, LIMITED)).dropped(Counter::ArpIgnored).by_tc()),
        case("a node address is answered in the provider's VPC only")
            .frame(arp(PROVIDER, Arp::request(target_mac(1), CLIENT, NODE)).answered())
            .frame(arp(A_PORT, ask(NODE)).dropped(Counter::ArpIgnored).by_tc()),
        case("an internal address is answered on the host port")
            .frame(arp(HOST, Arp::request(ON_HOST.mac, ON_HOST.ip, INTERNAL)).answered()),
        case("a request for another address is ignored")
            .frame(arp(A_PORT, ask([10, 0, 0, 99])).dropped(Counter::ArpIgnored).by_tc())
            .check(Check::NoEvent),
        case("a request for another address goes on from a shared port")
            .frame(arp(SHARED, ask([10, 0, 0, 99])).passed())
            .frame(arp(SHARED, ask(ENDPOINT)).answered()),
        case("Calico: spoof; a claim to an endpoint is dropped")
            .frame(arp(A_PORT, claim).dropped(Counter::ArpForged).by_tc())
            .frame(arp(SHARED, claim).dropped(Counter::ArpForged).by_tc())
            .check(Check::NoEvent),
        case("a forged reply is dropped")
            .frame(arp(A_PORT, Arp { operation: 2, target: CLIENT, ..claim }).dropped(Counter::ArpForged).by_tc()),
        case("a target's answer to a probe is heard")
            .frame(
                arp(PROVIDER, Arp { operation: 2, ..Arp::request(target_mac(1), CLIENT, NODE) })
                    .dropped(Counter::ArpIgnored)
                    .by_tc(),
            )
            .check(Check::Neighbor(CLIENT, target_mac(1))),
        case("an announcement of a neighbour is heard")
            .frame(arp(A_PORT, moved).dropped(Counter::ArpIgnored).by_tc())
            .check(Check::Neighbor(neighbor, A.mac)),
        case("an announcement with a group address is not believed")
            .frame(arp(A_PORT, Arp { sender_mac: GROUP, ..moved }).dropped(Counter::ArpIgnored).by_tc())
            .check(Check::NoEvent),
        case("an unknown operation is ignored")
            .frame(arp(A_PORT, Arp { operation: 3, ..ask(ENDPOINT) }).dropped(Counter::ArpIgnored).by_tc()),
        case("ARP of other hardware and protocols is ignored")
            .frame(arp(A_PORT, ask(ENDPOINT)).set(15, &[6]).dropped(Counter::ArpIgnored).by_tc())
            .frame(arp(A_PORT, ask(ENDPOINT)).set(16, &[0x86, 0xdd]).dropped(Counter::ArpIgnored).by_tc())
            .frame(arp(A_PORT, ask(ENDPOINT)).set(18, &[8]).dropped(Counter::ArpIgnored).by_tc())
            .frame(arp(A_PORT, ask(ENDPOINT)).set(19, &[16]).dropped(Counter::ArpIgnored).by_tc()),
        case("ARP cut short").frame(arp(A_PORT, ask(ENDPOINT)).cut(41).dropped(Counter::Truncated).by_tc()),
        case("ARP cut to its first bytes").frame(arp(A_PORT, ask(ENDPOINT)).cut(30).dropped(Counter::Truncated)),
    ]
}
