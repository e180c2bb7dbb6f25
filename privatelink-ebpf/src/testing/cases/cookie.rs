//! SYN cookies: what a client has to do above a half-open budget. [`LIMITED`] may have two half-open flows.

use super::*;
use crate::{
    abi::{Counter, limit::Budget},
    testing::script::*,
};

/// The budget of [`LIMITED`] is used up by hosts that do not answer, and `client` has been challenged.
fn flooded(name: &'static str, client: Client) -> Case {
    case(name)
        .frame(syn(client.at([10, 0, 9, 1])).opens())
        .frame(syn(client.at([10, 0, 9, 2])).opens())
        .frame(syn(client).challenged(Counter::EndpointHalfOpenLimit))
}

fn redeems(client: Client, cookie: Cookie) -> Frame {
    rst(client).cookie(cookie)
}

pub fn cases() -> Vec<Case> {
    let limited = A.to(LIMITED);
    let accepted = |client| redeems(client, Cookie::Sent).dropped(Counter::CookieAccepted);
    vec![
        flooded("Calico: SYN cookie; a client that answers connects while others fill the budget", limited)
            .frame(accepted(limited))
            .frame(syn(limited).opens())
            .frame(syn_ack(limited))
            .frame(ack(limited).establishes())
            .frame(data(limited, 10))
            .frame(reply(limited, 10))
            .check(Check::HalfOpenEndpoint(3, 2))
            .check(Check::HalfOpenVpc(1, 2)),
        flooded("cookie: the client's options go through, and the target's", limited)
            .frame(accepted(limited))
            .frame(syn(limited).options(&[2, 4, 5, 0x78, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]).opens())
            .frame(syn_ack(limited).options(&[2, 4, 5, 0x78, 1, 3, 3, 9])),
        flooded("cookie: a SYN with options is answered without", limited)
            .frame(syn(limited).options(&[2, 4, 5, 0xb4, 4, 2, 1, 1]).challenged(Counter::EndpointHalfOpenLimit)),
        flooded("cookie: a verified source has a share, not everything", limited)
            .frame(accepted(limited))
            .frame(syn(limited).opens())
            .frame(syn(limited.from_port(2)).dropped(Counter::EndpointHalfOpenLimit))
            .check(Check::HalfOpenEndpoint(3, 3))
            .check(Check::EndpointRefused(3, 2)),
        flooded("cookie: others cannot fill the share", limited)
            .frame(accepted(limited))
            .frame(syn(limited.at([10, 0, 9, 3])).challenged(Counter::EndpointHalfOpenLimit))
            .frame(syn(limited).opens())
            .frame(syn(limited.at([10, 0, 9, 4])).challenged(Counter::EndpointHalfOpenLimit)),
        flooded("cookie: a source whose address is forged ends the half-open flow by its reset", limited)
            .frame(accepted(limited))
            .frame(syn(limited).opens())
            .frame(syn_ack(limited))
            .frame(rst(limited).counts(Counter::FlowResetByClient))
            .check(Check::HalfOpenEndpoint(3, 2))
            .frame(syn(limited.from_port(2)).opens()),
        flooded("cookie: a wrong number verifies nobody", limited)
            .frame(rst(limited).numbers(77, 0).dropped(Counter::CookieRejected))
            .frame(rst(limited).numbers(1000, 0).dropped(Counter::CookieRejected))
            .frame(rst(limited).numbers(1001, 0).dropped(Counter::CookieRejected))
            .frame(syn(limited).challenged(Counter::EndpointHalfOpenLimit)),
        flooded("cookie: another connection's verifies nobody", limited)
            .frame(syn(limited.at([10, 0, 9, 9])).challenged(Counter::EndpointHalfOpenLimit))
            .frame(syn(limited.from_port(2)).challenged(Counter::EndpointHalfOpenLimit))
            .frame(redeems(limited, Cookie::Sent).adjusted(|tcp| tcp.src_port = 3).dropped(Counter::CookieRejected))
            .frame(redeems(limited, Cookie::Sent).adjusted(|tcp| tcp.src[3] ^= 1).dropped(Counter::CookieRejected))
            .frame(redeems(limited, Cookie::Sent).adjusted(|tcp| tcp.dst = ENDPOINT).dropped(Counter::NoFlow))
            .frame(syn(limited).challenged(Counter::EndpointHalfOpenLimit)),
        flooded("cookie: it holds for a slice of time and the next", limited)
            .frame(redeems(limited, Cookie::Slices(3)).dropped(Counter::CookieRejected))
            .frame(redeems(limited, Cookie::Slices(1000)).dropped(Counter::CookieRejected))
            .frame(syn(limited).challenged(Counter::EndpointHalfOpenLimit))
            .frame(redeems(limited, Cookie::Slices(0)).dropped(Counter::CookieAccepted))
            .frame(syn(limited).opens()),
        flooded("cookie: sent again it does no more than the first time", limited)
            .frame(accepted(limited))
            .frame(accepted(limited))
            .frame(syn(limited).opens())
            .frame(redeems(limited, Cookie::Sent).counts(Counter::ResetOutOfWindow))
            .frame(syn(limited.from_port(2)).dropped(Counter::EndpointHalfOpenLimit)),
        flooded("cookie: a source stays verified for a minute", limited)
            .frame(accepted(limited))
            .advance(58)
            .frame(syn(limited).opens())
            .advance(3)
            .frame(syn(limited.from_port(2)).challenged(Counter::EndpointHalfOpenLimit)),
        case("cookie: a source is verified in its own VPC only")
            .world(|world| {
                for vpc in [1, 2] {
                    world.vpc_budgets.insert(vpc, Budget { half_open: 1 });
                }
            })
            .frame(syn(A.at([10, 0, 9, 1])).opens())
            .frame(syn(B.at([10, 0, 9, 1])).opens())
            .frame(syn(A).challenged(Counter::VpcHalfOpenLimit))
            .frame(accepted(A))
            .frame(syn(B).challenged(Counter::VpcHalfOpenLimit))
            .frame(syn(A).opens())
            .frame(accepted(B))
            .frame(syn(B).opens()),
        case("cookie: no budget is used up, and a stray reset is one")
            .frame(rst(limited).numbers(77, 0).dropped(Counter::NoFlow))
            .frame(rst(A).numbers(77, 0).dropped(Counter::NoFlow)),
        flooded("cookie: a forged ACK is answered with a reset and opens nothing", limited)
            .frame(ack(limited).numbers(1001, 1).reset(Counter::NoFlow))
            .frame(ack(limited).numbers(1001, 2).reset(Counter::NoFlow))
            .check(Check::HalfOpenEndpoint(3, 2))
            .check(Check::Flows(2)),
        case("cookie: datagrams fill the budget, and are not challenged")
            .frame(datagram(limited.udp().to_port(DNS), 10).opens())
            .frame(datagram(limited.udp().to_port(DNS).from_port(2), 10).opens())
            .frame(datagram(limited.udp().to_port(DNS).from_port(3), 10).dropped(Counter::EndpointHalfOpenLimit))
            .frame(syn(limited).challenged(Counter::EndpointHalfOpenLimit))
            .frame(accepted(limited))
            .frame(datagram(limited.udp().to_port(DNS).from_port(3), 10).dropped(Counter::EndpointHalfOpenLimit))
            .frame(syn(limited).opens()),
        flooded("cookie: a SYN with IP options gets none", limited)
            .frame(syn(limited).with(|tcp| tcp.ip_options = vec![1; 4]).dropped(Counter::EndpointHalfOpenLimit)),
        flooded("cookie: another endpoint goes on without", limited).frame(syn(A).opens()),
    ]
}
