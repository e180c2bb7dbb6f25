//! What one frame at a time does not show.

use super::*;
use crate::{
    abi::{
        L4Port,
        flow::{FlowKey, FlowState},
    },
    testing::{
        cases::{A, HTTPS, world},
        frame::{SliceFrame, apply},
        packet::Tcp,
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
    for bucket in tables.buckets() {
        // SAFETY: a live bucket of these tables.
        unsafe { collect::bucket(tables.tc(), bucket) };
    }
    for slot in tables.stash_slots() {
        // SAFETY: a live slot of these tables.
        unsafe { collect::slot(tables.tc(), slot) };
    }
}

/// A client that comes again from the same address and port, while its last connection's port is held, is led to another
/// target, and there to a port of the same number: both hash the same. The held entry is not half of the new connection.
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

/// A forward entry whose port has gone to another client's flow is of no use, and is swept.
#[test]
fn a_forward_entry_whose_port_is_another_flows_is_swept() {
    for reference in [false, true] {
        let tables = MemTables::new(world(), Options { reference, ..Options::default() });
        let t = tables.tc();
        let client = A.from_port(1);
        let syn = establish(&tables, &client, 1000);
        let forward_key = |client: &Client| {
            let ip = |ip| crate::abi::Ip4::from_wire(ip);
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
