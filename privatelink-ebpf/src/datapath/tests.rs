//! What one frame at a time does not show.

use super::*;
use crate::{
    abi::{
        L4Port,
        flow::{FlowKey, FlowState},
        limit::EndpointBudget,
        settings::CollectRequest,
    },
    testing::{
        cases::{A, HTTPS, NODE, UDP_ONE_PORT, world},
        frame::{SliceFrame, apply},
        packet::{Tcp, Udp},
        script::Client,
        tables::{MemTables, Options},
        world::port_mac,
    },
    wire::tcp::Flags,
};

/// Sends a segment through TC; as it left.
fn send(tables: &MemTables, ifindex: u32, tcp: &Tcp) -> Result<Tcp, Verdict> {
    let mut bytes = tcp.build();
    let rewrite = decide(SliceFrame::new(&bytes), tables.tc(), ifindex)?;
    apply(&mut bytes, &rewrite);
    Ok(Tcp::parse(&bytes).expect("a segment"))
}

fn from_client(client: &Client, flags: u8, seq: u32, ack: u32) -> Tcp {
    Tcp {
        src_mac: client.mac,
        dst_mac: port_mac(client.ifindex),
        src: client.ip,
        dst: client.service,
        src_port: client.port,
        dst_port: client.service_port,
        seq,
        ack,
        flags: Flags(flags),
        ..Tcp::default()
    }
}

#[test]
fn a_datagram_flow_gets_no_port_at_which_its_node_address_has_a_listener() {
    let datagram = Udp {
        src_mac: A.mac,
        dst_mac: port_mac(A.ifindex),
        src: A.ip,
        dst: A.service,
        src_port: A.port,
        dst_port: UDP_ONE_PORT,
        payload: vec![1],
        ..Udp::default()
    };
    for (served, expected) in [(65_535, Err(Verdict::Drop(Counter::PortsExhausted))), (65_534, Ok(65_535))] {
        let mut world = world();
        world.udp_frontend(3, NODE, served, 9, 0);
        let tables = MemTables::new(world, Options::default());
        let out = decide(SliceFrame::new(&datagram.build()), tables.tc(), A.ifindex).map(|forward| match forward {
            Forward::Packet(rewrite) => rewrite.src_port.get(),
            Forward::Fragment(_) | Forward::Error(_) => 0,
        });
        assert_eq!(out, expected, "the only free port is 65,535, the listener's {served}");
    }
}

/// The answer to a segment as it arrived at the target.
fn answer(arrived: &Tcp, flags: u8, seq: u32, ack: u32) -> Tcp {
    Tcp {
        src_mac: arrived.dst_mac,
        dst_mac: arrived.src_mac,
        src: arrived.dst,
        dst: arrived.src,
        src_port: arrived.dst_port,
        dst_port: arrived.src_port,
        seq,
        ack,
        flags: Flags(flags),
        ..Tcp::default()
    }
}

/// Opens a connection; its SYN as it arrived at the target.
fn establish(tables: &MemTables, client: &Client, seq: u32) -> Tcp {
    let syn = send(tables, client.ifindex, &from_client(client, 0x02, seq, 0)).expect("SYN");
    send(tables, crate::testing::cases::PROVIDER, &answer(&syn, 0x12, 5000, seq + 1)).expect("SYN-ACK");
    send(tables, client.ifindex, &from_client(client, 0x10, seq + 1, 5001)).expect("ACK");
    syn
}

fn sweep(tables: &MemTables) {
    sweep_port(tables, 0);
}

fn sweep_port(tables: &MemTables, port: u32) {
    sweep_with(tables, port, 0);
}

fn sweep_with(tables: &MemTables, port: u32, flags: u32) {
    for bucket in tables.buckets() {
        // SAFETY: a live bucket of these tables.
        unsafe { collect::bucket(tables.tc(), bucket, port, flags) };
    }
    for slot in tables.stash_slots() {
        // SAFETY: a live slot of these tables.
        unsafe { collect::slot(tables.tc(), slot, port, flags) };
    }
}

/// A client that comes again from the same address and port, while its last connection's port is held, is led to
/// another target, and there to a port of the same number: both hash the same. The held entry is not half of the new
/// connection.
#[test]
fn the_end_of_a_hold_spares_the_next_connection_at_another_target() {
    let client = A.to_port(HTTPS);
    let mut tried = 0;
    for again in (70_000..).step_by(1000).take(40) {
        let tables = MemTables::new(world(), Options::default());
        let first = establish(&tables, &client, 1000);
        let provider = crate::testing::cases::PROVIDER;
        send(&tables, provider, &answer(&first, 0x11, 5001, 1001)).expect("the target's FIN");
        send(&tables, client.ifindex, &from_client(&client, 0x11, 1001, 5002)).expect("the client's FIN");
        let second = establish(&tables, &client, again);
        if second.dst == first.dst || second.src_port != first.src_port {
            continue;
        }
        tried += 1;
        tables.advance_ticks(tables.tc().clock().ticks(61));
        sweep(&tables);
        assert_eq!(tables.counter(Counter::PortReleasedAfterHold), 1);
        let arrived = send(&tables, client.ifindex, &from_client(&client, 0x18, again + 1, 5001)).expect("data");
        assert_eq!((arrived.dst, arrived.src_port), (second.dst, second.src_port));
    }
    assert!(tried > 5, "only {tried} connections came to the same port at another target");
}

/// Both ends' last segments on two CPUs at once may leave the forward entry's copy of the state behind the flow's: the
/// client's next connection from the same port is judged by the flow's.
#[test]
fn a_connection_follows_one_whose_ends_closed_at_the_same_time() {
    for (first, second) in [("target", "client"), ("client", "target")] {
        let tables = MemTables::new(world(), Options::default());
        let client = A.to_port(HTTPS);
        let t = tables.tc();
        let syn = establish(&tables, &client, 1000);
        let ip = Ip4::from_wire;
        let key = FlowKey::tcp(
            VpcIndex(client.vpc),
            ip(client.ip),
            L4Port::new(client.port),
            ip(client.service),
            L4Port::new(client.service_port),
        );
        for end in [first, second] {
            if end == "target" {
                send(&tables, crate::testing::cases::PROVIDER, &answer(&syn, 0x11, 5001, 1001)).expect("FIN");
            } else {
                send(&tables, client.ifindex, &from_client(&client, 0x11, 1001, 5001)).expect("FIN");
            }
        }
        let forward = t.find(&key).expect("the forward entry");
        let Meta { version: _, state, translated: _, flags, idle_s: _ } = forward.meta();
        assert!(matches!(state, FlowState::LastAck | FlowState::TimeWait));
        forward.transition(FlowState::Closing, flags).expect("nobody else changes it");
        establish(&tables, &client, 90_000);
        assert_eq!(tables.counter(Counter::FlowReplaced), 1, "{first} first");
        assert_eq!(tables.counter(Counter::FlowRaced), 0, "{first} first");
    }
}

/// A target that closes first holds every port towards it for a minute. When all are held, one of the oldest serves
/// again; when all are in use, none does.
#[test]
fn a_port_that_is_held_for_long_serves_when_none_is_free() {
    let tables = MemTables::new(world(), Options { buckets: 65_536, stash: 131_072, ..Options::default() });
    let provider = crate::testing::cases::PROVIDER;
    let all = crate::abi::pool::CAPACITY;
    let mut opened = std::collections::HashMap::new();
    for n in 0..all {
        let client = A.from_port(1000 + n as u16);
        let syn = establish(&tables, &client, n);
        send(&tables, provider, &answer(&syn, 0x11, 5001, n + 1)).expect("the target's FIN");
        send(&tables, client.ifindex, &from_client(&client, 0x11, n + 1, 5002)).expect("the client's FIN");
        opened.insert(syn.src_port, n);
        if n % (all / 50) == 0 {
            tables.advance_ticks(tables.tc().clock().ticks(1));
        }
    }
    assert_eq!((opened.len() as u32, tables.pool(0).used()), (all, all));
    let mut reused = 0;
    let mut next = 0;
    while reused < 100 {
        let syn = establish(&tables, &A.from_port(next), 90_000);
        let n = opened.remove(&syn.src_port).expect("each port once");
        assert!(n < all / 2, "the port of connection {n} was given back before half of the others");
        (reused, next) = (reused + 1, next + 1);
    }
    assert_eq!(tables.counter(Counter::PortReusedEarly), 100);
    assert_eq!(tables.pool(0).used(), all);

    let mut full = MemTables::new(world(), Options::default());
    full.set_pool(0, crate::testing::world::nearly_full(0));
    send(&full, A.ifindex, &from_client(&A, 0x02, 1000, 0)).expect_err("all ports are in use");
    assert_eq!((full.counter(Counter::PortReusedEarly), full.counter(Counter::PortsExhausted)), (0, 1));
}

/// Replies leave by the interface that the client came in on: before it goes to another VPC, the flows behind it end,
/// and no others.
#[test]
fn flows_behind_a_port_that_changes_vpc_end() {
    for reference in [false, true] {
        let tables = MemTables::new(world(), Options { reference, ..Options::default() });
        let (a, b) = (A, crate::testing::cases::B);
        assert_ne!(a.ifindex, b.ifindex);
        let syn_a = establish(&tables, &a, 1000);
        let syn_b = establish(&tables, &b, 1000);
        sweep_port(&tables, a.ifindex);
        assert_eq!(tables.counter(Counter::FlowEndedWithPort), 1);
        let provider = crate::testing::cases::PROVIDER;
        send(&tables, provider, &answer(&syn_a, 0x18, 5001, 1001)).expect_err("a reply behind the port");
        send(&tables, provider, &answer(&syn_b, 0x18, 5001, 1001)).expect("a reply behind another port");
    }
}

/// The agent resets both ends of the flows that end with their target or endpoint; the sweep that takes them counts
/// that.
#[test]
fn resets_to_both_ends_are_counted_with_the_sweep() {
    for reference in [false, true] {
        let mut tables = MemTables::new(world(), Options { reference, ..Options::default() });
        establish(&tables, &A, 1000);
        establish(&tables, &crate::testing::cases::B, 1000);
        sweep_with(&tables, 0, CollectRequest::RESET);
        assert_eq!(tables.counter(Counter::ResetSent), 0, "flows that live are not reset");
        tables.world.endpoint_budgets.insert(1, EndpointBudget::ENDED);
        sweep_with(&tables, 0, CollectRequest::RESET);
        assert_eq!(tables.counter(Counter::FlowEndedWithEndpoint), 1);
        assert_eq!((tables.counter(Counter::ResetSent), tables.target_stats_of(1).resets_sent), (2, 2));
    }
}

/// A forward entry whose port has gone to another client's flow is of no use, and is swept.
#[test]
fn a_forward_entry_whose_port_is_another_flows_is_swept() {
    for reference in [false, true] {
        let tables = MemTables::new(world(), Options { reference, ..Options::default() });
        let t = tables.tc();
        let client = A.from_port(1);
        let syn = establish(&tables, &client, 1000);
        let forward_key = |client: &Client| {
            let ip = |ip| Ip4::from_wire(ip);
            FlowKey::tcp(
                VpcIndex(client.vpc),
                ip(client.ip),
                L4Port::new(client.port),
                ip(client.service),
                L4Port::new(client.service_port),
            )
        };
        // The reverse entry goes, its port to another client.
        let forward = t.find(&forward_key(&client)).expect("the forward entry");
        let reverse = t.find(&lifecycle::twin_key(forward, VpcIndex(3))).expect("the reverse entry");
        assert!(lifecycle::release(t, reverse));
        let mut pool = crate::testing::world::nearly_full(0);
        let offset = syn.src_port as usize - 1024;
        pool.words[offset / 64] &= !(1 << (offset % 64));
        pool.summary[offset / 4096] &= !(1 << (offset / 64 % 64));
        pool.top &= !(1 << (offset / 4096));
        let mut tables = tables;
        tables.set_pool(0, pool);
        let other = establish(&tables, &A.from_port(2), 9000);
        assert_eq!(other.src_port, syn.src_port);
        sweep(&tables);
        assert!(tables.tc().find(&forward_key(&client)).is_none());
        let kept = tables.tc().find(&forward_key(&A.from_port(2))).expect("the other client's entry");
        assert_eq!(kept.meta().state, FlowState::Established);
    }
}

/// Four CPUs open, answer, establish, close, reset and sweep the flows of a few clients at once. Whatever they do to
/// each other, at the end nothing is left: no entry, no port, no half-open flow.
#[test]
fn concurrent_lives_leave_nothing_behind() {
    let rounds = std::env::var("CHURN_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(100u32);
    for reference in [false, true] {
        for round in 0..rounds {
            let options = Options { buckets: 8, stash: 64, reference, cpus: 4, ..Options::default() };
            let tables = MemTables::new(world(), options);
            std::thread::scope(|scope| {
                for cpu in 0..4usize {
                    let tables = &tables;
                    scope.spawn(move || live(tables, cpu, round * 4 + cpu as u32));
                }
            });
            for happened in [
                Counter::FlowOpened,
                Counter::FlowEstablished,
                Counter::FlowReplaced,
                Counter::FlowResetByClient,
                Counter::FlowResetByTarget,
            ] {
                assert!(tables.counter(happened) > 10, "{} is {}", happened.name(), tables.counter(happened));
            }
            let keys: Vec<_> = tables.slots().iter().map(|slot| slot.key).collect();
            let distinct: std::collections::HashSet<_> = keys.iter().copied().collect();
            assert_eq!(distinct.len(), keys.len(), "a key is there twice");
            // Every port in use is the port of one reverse entry.
            let reverse = tables.slots().iter().filter(|slot| !Meta::unpack(slot.meta).forward()).count();
            let used: u32 = (0..4).map(|pool| tables.pool(pool).used()).sum();
            assert_eq!(used as usize, reverse, "ports in use, reverse entries");
            for _ in 0..3 {
                tables.advance_ticks(tables.tc().clock().ticks(400));
                sweep(&tables);
            }
            assert_eq!(tables.slots().len(), 0);
            assert_eq!((0..4).map(|pool| tables.pool(pool).used()).sum::<u32>(), 0);
            assert_eq!((tables.half_open_of_vpc(1), tables.half_open_of_endpoint(1)), (0, 0));
        }
    }
}

/// One CPU's part: segments of six clients in any order, the answers of their targets, and a sweep now and then.
fn live(tables: &MemTables, cpu: usize, seed: u32) {
    let t = tables.view::<false>(cpu);
    let mut random = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut arrived: Vec<Option<Tcp>> = vec![None; 6];
    for _ in 0..4000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let who = (random >> 16) as usize % arrived.len();
        let client = A.from_port(100 + who as u16).to_port(if who.is_multiple_of(2) { HTTPS } else { A.service_port });
        // Sequence numbers that mostly fit.
        let (ours, theirs) = (1001 + (random >> 8 & 1), 5001 + (random >> 9 & 1));
        let flags = [0x02, 0x10, 0x10, 0x18, 0x11, 0x04, 0x12, 0x11][(random >> 20) as usize & 7];
        let (ifindex, segment) = match &arrived[who] {
            Some(arrived) if random >> 28 < 7 => {
                let seq = if flags & 0x02 != 0 { theirs - 1 } else { theirs };
                (crate::testing::cases::PROVIDER, answer(arrived, flags, seq, ours))
            }
            _ => {
                let seq = if flags & 0x02 != 0 { 1000 } else { ours };
                (
                    client.ifindex,
                    from_client(&client, flags & !0x02 | if flags == 0x02 { 0x02 } else { 0 }, seq, theirs),
                )
            }
        };
        let mut bytes = segment.build();
        if let Ok(rewrite) = decide(SliceFrame::new(&bytes), t, ifindex) {
            apply(&mut bytes, &rewrite);
            if ifindex == client.ifindex {
                arrived[who] = Tcp::parse(&bytes);
            }
        }
        if random >> 24 == 0x42 {
            for bucket in tables.buckets() {
                // SAFETY: a live bucket of these tables.
                unsafe { collect::bucket(t, bucket, 0, CollectRequest::RULES) };
            }
        }
    }
}
