//! The cases, by topic, and the networks that they play in.
//!
//! Names of other projects' scenarios are kept where a case is one of theirs: "Katran", "Cilium", "Calico".

mod alias;
mod arp;
mod close;
mod cookie;
mod counts;
mod direct;
mod endpoint_limits;
mod fragment;
mod frames;
mod hostile;
mod icmp;
mod isolation;
mod lifetime;
mod limits;
mod node;
mod open;
mod proxy;
mod range;
mod reset;
mod security;
mod sticky;
mod translate;
mod udp;
mod v6;

use super::{
    script::{Case, Client},
    world::World,
};
use crate::abi::{
    Mac, Proto,
    limit::EndpointBudget,
    service::{AddressKind, PortFlags, RingEntry, TargetFlags},
};

/// All cases.
pub fn all() -> Vec<Case> {
    let both: Vec<Case> = [
        open::cases(),
        frames::cases(),
        close::cases(),
        counts::cases(),
        endpoint_limits::cases(),
        reset::cases(),
        hostile::cases(),
        isolation::cases(),
        limits::cases(),
        node::cases(),
        cookie::cases(),
        lifetime::cases(),
        security::cases(),
        sticky::cases(),
        udp::cases(),
    ]
    .concat();
    let ipv6: Vec<Case> = both.iter().filter_map(Case::over_ipv6).collect();
    let ipv4 = [
        fragment::cases(),
        proxy::cases(),
        endpoint_limits::cases_of_ipv4(),
        arp::cases(),
        icmp::cases(),
        direct::cases(),
        alias::cases(),
        range::cases(),
    ]
    .concat();
    let flows = [close::cases(), reset::cases(), lifetime::cases(), sticky::cases(), udp::cases()].concat();
    let between = [true, false].into_iter();
    let between = between.flat_map(|ipv6| flows.iter().filter_map(move |case| case.between_families(ipv6))).collect();
    [both, ipv6, ipv4, v6::cases(), between, translate::cases()].concat()
}

// Ports, by interface index.

/// Consumer VPC 1.
pub const A_PORT: u32 = 11;
/// Consumer VPC 2.
pub const B_PORT: u32 = 12;
/// Provider VPC 3.
pub const PROVIDER: u32 = 13;
/// Consumer VPC 4, shared with the host's own traffic.
pub const SHARED: u32 = 14;
/// Another port of VPC 1.
pub const A_OTHER_PORT: u32 = 15;
/// An interface that is no port.
pub const NO_PORT: u32 = 16;
/// Consumer VPC 5, which takes no XDP frames.
pub const NO_XDP: u32 = 17;
/// Consumer VPC 6, of a smaller MTU.
pub const SMALL: u32 = 18;
/// Consumer VPC 7, of jumbo frames.
pub const JUMBO: u32 = 19;
/// Provider VPC 3 again, which takes no XDP frames.
pub const PROVIDER_NO_XDP: u32 = 20;
/// VPC 8: clients and targets behind one port.
pub const BOTH: u32 = 21;
/// The host port.
pub const HOST: u32 = 22;
/// Provider VPC 3 once more: clients of the load balancer itself.
pub const PROVIDER_OTHER: u32 = 23;

/// The id of endpoint 1; the others have none.
pub const ENDPOINT_ID: &[u8; 22] = b"vpce-08d2bf15fac5001c9";

/// All interfaces that the kernel's run needs.
pub const INTERFACES: std::ops::RangeInclusive<u32> = A_PORT..=PROVIDER_OTHER;

/// The load balancer's address in the provider VPC.
pub const NODE: [u8; 4] = [10, 0, 0, 5];
/// The endpoint's address in every consumer VPC: consumer networks overlap each other and the provider's.
pub const ENDPOINT: [u8; 4] = [10, 0, 0, 50];
/// An endpoint of VPC 1 that may have two half-open flows.
pub const LIMITED: [u8; 4] = [10, 0, 0, 51];
/// Target 1 in the host VPC.
pub const INTERNAL: [u8; 4] = [100, 64, 0, 1];
/// A client's address, in every consumer VPC; target 1 has it too.
pub const CLIENT: [u8; 4] = [10, 0, 1, 10];

// Listeners by the endpoint's port.

/// One target, 350 s.
pub const HTTP: u16 = 80;
/// No target.
pub const EMPTY: u16 = 81;
/// A target whose next hop is not resolved.
pub const UNRESOLVED: u16 = 82;
/// A target whose pool has one port left.
pub const ONE_PORT: u16 = 83;
/// A target behind a port that takes no XDP frames.
pub const TC_TARGET: u16 = 84;
/// One target, 60 s.
pub const SHORT: u16 = 85;
/// UDP: one target, 120 s.
pub const DNS: u16 = 53;
/// TCP and UDP: one target each, at the same address and port.
pub const BOTH_PROTOCOLS: u16 = 54;
/// UDP: a target whose pool has one port left.
pub const UDP_ONE_PORT: u16 = 55;
/// UDP: a target behind a port that takes no XDP frames.
pub const UDP_TC_TARGET: u16 = 56;
/// UDP: no target.
pub const UDP_EMPTY: u16 = 57;
/// Target 1, whose group wants the PROXY protocol.
pub const PROXIED: u16 = 86;
/// TCP and UDP: one target each, whose groups want to see clients' own addresses; at the node address too.
pub const DIRECT: u16 = 87;
/// The same target by TCP, on another port of the node address.
pub const DIRECT_TOO: u16 = 88;
/// Three targets.
pub const HTTPS: u16 = 443;

/// The client of most cases.
pub const A: Client = Client {
    ifindex: A_PORT,
    vpc: 1,
    mac: Mac([0x02, 0, 0, 0, 0, 0x0a]),
    ip: CLIENT,
    port: 40_000,
    service: ENDPOINT,
    service_port: HTTP,
    proto: Proto::Tcp,
};
/// A client in another VPC with the same addresses and ports.
pub const B: Client = consumer(B_PORT, 2, 0x0b);
pub const ON_SHARED: Client = consumer(SHARED, 4, 0x0c);
pub const ON_NO_XDP: Client = consumer(NO_XDP, 5, 0x0d);
pub const ON_SMALL: Client = consumer(SMALL, 6, 0x0e);
pub const ON_JUMBO: Client = consumer(JUMBO, 7, 0x0f);
pub const ON_BOTH: Client = consumer(BOTH, 8, 0x10);
/// A health check: the host's own socket, to a target's internal address.
pub const ON_HOST: Client =
    Client { ip: [100, 64, 255, 1], service: INTERNAL, service_port: 8080, ..consumer(HOST, u16::MAX, 0x11) };

const fn consumer(ifindex: u32, vpc: u16, last: u8) -> Client {
    Client { ifindex, vpc, mac: Mac([0x02, 0, 0, 0, 0, last]), ..A }
}

/// The configuration that all cases begin with.
pub fn world() -> World {
    let mut world = World::empty();
    let xdp = PortFlags::XDP_TRANSMIT;
    world.port(A_PORT, 1, 1500, xdp);
    world.port(B_PORT, 2, 1500, xdp);
    world.port(PROVIDER, 3, 1500, xdp);
    world.port(SHARED, 4, 1500, xdp.with(PortFlags::SHARED));
    world.port(A_OTHER_PORT, 1, 1500, xdp);
    world.port(NO_XDP, 5, 1500, PortFlags(0));
    world.port(SMALL, 6, 1400, xdp);
    world.port(JUMBO, 7, 9000, xdp);
    world.port(PROVIDER_NO_XDP, 3, 1500, PortFlags(0));
    world.port(BOTH, 8, 1500, xdp);
    world.port(HOST, u16::MAX, 1500, xdp);
    world.port(PROVIDER_OTHER, 3, 1500, xdp);

    world.listener(1, 350, &[1]);
    world.listener(2, 350, &[2, 3, 4]);
    world.listener(3, 350, &[]);
    world.listener(4, 350, &[5]);
    world.listener(5, 350, &[6]);
    world.listener(6, 350, &[7]);
    world.listener(7, 60, &[1]);
    world.listener(8, 350, &[8]);
    world.listener(20, 350, &[1 | RingEntry::PROXY]);

    world.listener(21, 350, &[1 | RingEntry::PRESERVE]);
    world.listener(22, 120, &[9 | RingEntry::PRESERVE]);

    world.target(1, 3, CLIENT, 8080, PROVIDER, 0);
    world.target(2, 3, [10, 0, 2, 1], 8443, PROVIDER, 1);
    world.target(3, 3, [10, 0, 2, 2], 8443, PROVIDER, 2);
    world.target(4, 3, [10, 0, 2, 3], 8443, PROVIDER, 3);
    world.target(5, 3, [10, 0, 2, 4], 82, PROVIDER, 4);
    world.targets.entry(5).and_modify(|target| target.flags = TargetFlags(0));
    world.target(6, 3, [10, 0, 2, 5], 83, PROVIDER, 5);
    world.target(7, 3, [10, 0, 2, 6], 84, PROVIDER_NO_XDP, 6);
    world.target(8, 8, [10, 0, 2, 7], 8080, BOTH, 7);
    world.pools[5] = super::world::nearly_full(1);

    world.address(3, NODE, AddressKind::Node);
    world.address(8, NODE, AddressKind::Node);
    for vpc in [1, 2, 4, 5, 6, 7, 8] {
        world.address(vpc, ENDPOINT, AddressKind::Endpoint);
        world.frontend(vpc, ENDPOINT, HTTP, if vpc == 8 { 8 } else { 1 }, vpc);
    }
    for (port, listener) in [(HTTPS, 2), (EMPTY, 3), (UNRESOLVED, 4), (ONE_PORT, 5), (TC_TARGET, 6), (SHORT, 7)] {
        world.frontend(1, ENDPOINT, port, listener, 1);
    }
    world.frontend(1, ENDPOINT, PROXIED, 20, 1);
    world.frontend(2, ENDPOINT, PROXIED, 20, 2);
    world.address(1, LIMITED, AddressKind::Endpoint);
    world.frontend(1, LIMITED, HTTP, 1, 3);
    world.endpoint_budgets.insert(3, EndpointBudget::half_open(2));
    world.listener(9, 120, &[9]);
    world.listener(10, 120, &[10]);
    world.listener(11, 120, &[11]);
    world.listener(12, 120, &[]);
    world.listener(13, 350, &[12]);
    world.udp_target(9, 3, [10, 0, 3, 1], 5353, PROVIDER, 8);
    world.udp_target(10, 3, [10, 0, 3, 2], 53, PROVIDER, 9);
    world.udp_target(11, 3, [10, 0, 3, 3], 53, PROVIDER_NO_XDP, 10);
    world.target(12, 3, [10, 0, 3, 1], 5353, PROVIDER, 11);
    world.pools[9] = super::world::nearly_full(1);
    for vpc in [1, 2, 4, 5, 6, 7] {
        world.udp_frontend(vpc, ENDPOINT, DNS, 9, vpc);
    }
    world.frontend(1, ENDPOINT, BOTH_PROTOCOLS, 13, 1);
    world.udp_frontend(1, ENDPOINT, BOTH_PROTOCOLS, 9, 1);
    world.udp_frontend(1, ENDPOINT, UDP_ONE_PORT, 10, 1);
    world.udp_frontend(1, ENDPOINT, UDP_TC_TARGET, 11, 1);
    world.udp_frontend(1, ENDPOINT, UDP_EMPTY, 12, 1);
    world.udp_frontend(1, LIMITED, DNS, 9, 3);
    for (vpc, ip, endpoint) in [(1, ENDPOINT, 1), (3, NODE, 0)] {
        world.frontend(vpc, ip, DIRECT, 21, endpoint);
        world.udp_frontend(vpc, ip, DIRECT, 22, endpoint);
    }
    world.frontend(3, NODE, DIRECT_TOO, 21, 0);
    world.address(u16::MAX, INTERNAL, AddressKind::Internal);
    world.frontend(u16::MAX, INTERNAL, 8080, 1, 0);
    world
}

#[cfg(test)]
mod tests;
