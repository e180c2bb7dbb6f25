//! ICMP errors about an open flow, from either side: whatever one holds, what comes of it names the flow's own
//! addresses and nobody else's, and its checksums are as right as they were.

use privatelink_ebpf::testing::{
    cases::{A, PROVIDER, world},
    host::Host,
    icmp::Icmp,
    packet::{Tcp, internet_checksum},
    run::{Backend as _, Fate, Path},
    tables::Options,
    world::port_mac,
};
use privatelink_ebpf::wire::tcp::Flags;

use crate::Choices;

/// The flow's SYN as the client sent it, and as it arrived at the target.
fn open(host: &mut Host) -> (Vec<u8>, Vec<u8>) {
    let syn = Tcp {
        src_mac: A.mac,
        dst_mac: port_mac(A.ifindex),
        src: A.ip,
        dst: A.service,
        src_port: A.port,
        dst_port: A.service_port,
        seq: 1000,
        flags: Flags::SYN,
        ..Tcp::default()
    }
    .build();
    let seen = host.frame(Path::Tc, A.ifindex, 0, &syn).expect("a SYN is forwarded");
    assert_eq!(seen.fate, Fate::Sent);
    (syn, seen.bytes)
}

pub(crate) fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut host = Host::new(Options::default());
    host.reset(&world()).expect("tables in memory");
    let (_, arrived) = open(&mut host);
    let at_target = Tcp::parse(&arrived).expect("a segment");
    let answer = Tcp {
        src_mac: at_target.dst_mac,
        dst_mac: at_target.src_mac,
        src: at_target.dst,
        dst: at_target.src,
        src_port: at_target.dst_port,
        dst_port: at_target.src_port,
        seq: 5000,
        ack: 1001,
        flags: Flags::SYN.with(Flags::ACK),
        ..Tcp::default()
    };
    let seen = host.frame(Path::Tc, PROVIDER, 0, &answer.build()).expect("a SYN-ACK is forwarded");
    let at_client = Tcp::parse(&seen.bytes).expect("a segment");

    let from_target = choices.below(2) == 0;
    // About a packet that the receiver of the error has sent to its sender's side.
    let (quoted, ifindex, receiver) =
        if from_target { (at_target, PROVIDER, A.ip) } else { (at_client, A.ifindex, answer.src) };
    let mut body = quoted.build().split_off(14);
    for _ in 0..choices.below(4) {
        let at = choices.below(body.len());
        body[at] = choices.byte();
    }
    let more = choices.below(160);
    body.extend(choices.bytes(more));
    body.truncate(choices.below(256));
    let message = Icmp {
        src_mac: quoted.dst_mac,
        dst_mac: quoted.src_mac,
        src: if choices.below(3) == 0 { [10, 0, 99, choices.byte()] } else { quoted.dst },
        dst: quoted.src,
        kind: [3, 3, 11, 12, 5, 8][choices.below(6)],
        code: choices.byte() % 16,
        rest: [choices.byte(), choices.byte() % 64, choices.byte(), choices.byte()],
        ip_options: vec![1; choices.below(11) * 4],
        ttl: [64, 64, 2, 1][choices.below(4)],
        body,
        trailer: vec![7; choices.below(4)],
        ..Icmp::default()
    };
    let mut bytes = message.build();
    for _ in 0..choices.below(3) {
        let at = choices.below(bytes.len().min(256));
        bytes[at] = choices.byte();
    }
    let path = if choices.below(2) == 0 { Path::Tc } else { Path::XdpThenTc };
    let seen = host.frame(path, ifindex, 0, &bytes).expect("a verdict");
    if seen.fate != Fate::Sent || bytes[14..] == seen.bytes[14..] {
        return;
    }
    // An echo reply, an error about the error's own flow, or the error itself, translated.
    let out = &seen.bytes;
    if bytes[23] != 1 || out[34] == 0 {
        return;
    }
    let icmp = 14 + usize::from(out[14] & 0xf) * 4;
    let (was_right, is_right) = (icmp_sum(&bytes), icmp_sum(out));
    assert_eq!(out[30..34], receiver, "not to whom it is for");
    let own = if from_target { A.service } else { quoted_node(&arrived) };
    assert_eq!(out[26..30], own, "another network's address is seen");
    assert_eq!(
        out[icmp + 8 + 12..icmp + 8 + 20],
        [&receiver[..], &own].concat(),
        "the quoted packet is not the receiver's"
    );
    assert!(internet_checksum(&[&bytes[14..icmp]]) != 0 || internet_checksum(&[&out[14..icmp]]) == 0, "IP checksum");
    assert!(!was_right || is_right, "ICMP checksum");
}

/// The node address that the target sees.
fn quoted_node(arrived: &[u8]) -> [u8; 4] {
    arrived[26..30].try_into().expect("four bytes")
}

fn icmp_sum(frame: &[u8]) -> bool {
    let header = usize::from(frame[14] & 0xf) * 4;
    let len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    frame.get(14 + header..14 + len).is_some_and(|message| internet_checksum(&[message]) == 0)
}
