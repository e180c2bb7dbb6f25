//! Bytes to facts: what the datapath reads in a frame is what another reader finds there.

use etherparse::{IpNumber, Ipv4Slice, TcpSlice};
use privatelink_ebpf::{
    abi::VpcIndex,
    datapath::{
        Frame as _,
        parse::{judge, plain, segment},
        stage,
    },
    testing::frame::SliceFrame,
    wire::tcp::Flags,
};

const VPC: VpcIndex = VpcIndex(7);

pub(crate) fn run(data: &[u8]) {
    let frame = SliceFrame::new(data);
    let _ = (judge(frame), stage(frame));
    let found = segment(frame, VPC);
    let read = read(data);
    assert_eq!(found.is_some(), read.is_some(), "{found:?}, {read:?}");
    let (Some(found), Some(read)) = (found, read) else {
        assert!(plain(frame, VPC).is_none(), "plain, and no segment");
        return;
    };
    assert_eq!(
        (found.key.src.to_wire(), found.key.dst.to_wire(), found.key.src_port.get(), found.key.dst_port.get()),
        (read.src, read.dst, read.src_port, read.dst_port)
    );
    assert_eq!(found.key.vpc, VPC);
    assert_eq!((found.seq, found.ack, found.flags.0, found.ttl), (read.seq, read.ack, read.flags, read.ttl));
    let len = read.payload + u32::from(found.flags.has(Flags::SYN)) + u32::from(found.flags.has(Flags::FIN));
    assert_eq!(found.sequence_len(), len);
    assert_eq!((found.src_mac.mac().0, found.dst_mac.mac().0), (read.src_mac, read.dst_mac));
    assert!(usize::from(found.l4) + usize::from(found.header) <= 14 + usize::from(found.ip_len));
    assert!(14 + usize::from(found.ip_len) <= frame.len());
    if let Some(plain) = plain(frame, VPC) {
        assert_eq!(plain.key, found.key.words());
        assert_eq!((plain.ack, plain.ttl, plain.ip_len), (found.ack, found.ttl, found.ip_len));
        assert_eq!(plain.src_mac.mac(), found.src_mac.mac());
        assert!(found.flags.ack_only(), "plain, with flags {:?}", found.flags);
    }
}

#[derive(Debug)]
struct Read {
    src_mac: [u8; 6],
    dst_mac: [u8; 6],
    src: [u8; 4],
    dst: [u8; 4],
    ttl: u8,
    src_port: u16,
    dst_port: u16,
    seq: u32,
    ack: u32,
    flags: u8,
    payload: u32,
}

/// The same by etherparse.
fn read(data: &[u8]) -> Option<Read> {
    let ethernet = data.get(..14)?;
    if ethernet[12..] != [8, 0] {
        return None;
    }
    let ip = Ipv4Slice::from_slice(&data[14..]).ok()?;
    let header = ip.header();
    if header.fragments_offset().value() != 0 || header.protocol() != IpNumber::TCP {
        return None;
    }
    let tcp = TcpSlice::from_slice(ip.payload().payload).ok()?;
    Some(Read {
        dst_mac: ethernet[..6].try_into().ok()?,
        src_mac: ethernet[6..12].try_into().ok()?,
        src: header.source(),
        dst: header.destination(),
        ttl: header.ttl(),
        src_port: tcp.source_port(),
        dst_port: tcp.destination_port(),
        seq: tcp.sequence_number(),
        ack: tcp.acknowledgment_number(),
        flags: tcp.slice()[13],
        payload: tcp.payload().len() as u32,
    })
}
