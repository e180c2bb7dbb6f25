//! The XDP program: whole frames with complete checksums, rewritten in place.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{xdp_action, xdp_md},
    macros::xdp,
    programs::XdpContext,
};
use privatelink_ebpf::{
    abi::Counter,
    datapath::{Rewrite, Tables as _, Verdict, decide},
    wire::{EthHdr, L3, checksum, tcp::TcpHeader},
};

use super::{maps::XDP_PORTS, packet::Packet, tables::Maps};

#[xdp(frags)]
pub fn privatelink_xdp(ctx: XdpContext) -> u32 {
    let (data, end) = (ctx.data(), ctx.data_end());
    let md: *const xdp_md = ctx.as_ptr().cast();
    // SAFETY: the context is valid while the program runs.
    let ifindex = unsafe { (*md).ingress_ifindex };
    let packet = Packet { data, end, len: end - data, segmented: false };
    match decide(packet, Maps::<true>, ifindex) {
        Verdict::Pass | Verdict::ToTc | Verdict::Reply(_) => xdp_action::XDP_PASS,
        Verdict::Drop(_) => xdp_action::XDP_DROP,
        Verdict::Forward(rewrite) => match apply(packet, &rewrite) {
            Some(()) if rewrite.ifindex == ifindex => xdp_action::XDP_TX,
            Some(()) => XDP_PORTS.redirect(rewrite.ifindex, 0).unwrap_or(xdp_action::XDP_ABORTED),
            None => {
                Maps::<true>.count(Counter::KernelRefused);
                xdp_action::XDP_DROP
            }
        },
    }
}

/// Changes addresses, ports, TTL and checksums in place (RFC 1624).
#[inline(always)]
fn apply(packet: Packet, rewrite: &Rewrite) -> Option<()> {
    let Rewrite { src, dst, src_port, dst_port, d_addr, d_port, src_mac, dst_mac, l4, mss, ifindex: _, out: _ } = *rewrite;
    let l4 = l4 as usize & 0x7f;
    let mut difference = d_addr as u32 + d_port as u32;
    if let Some(mss) = mss {
        difference += mss.difference as u32;
        put(packet, mss.at as usize & 0xff, mss.value.to_be_bytes())?;
    }
    let check: [u8; 2] = get(packet, l4 + TcpHeader::CHECK)?;
    put(packet, l4 + TcpHeader::CHECK, checksum::apply(u16::from_ne_bytes(check), difference).to_ne_bytes())?;
    put(packet, l4, src_port.to_wire())?;
    put(packet, l4 + 2, dst_port.to_wire())?;
    rewrite_ip(packet, src.to_wire(), dst.to_wire(), d_addr)?;
    put(packet, 0, dst_mac.0)?;
    put(packet, size_of_val(&dst_mac), src_mac.0)
}

/// Addresses, TTL and header checksum of the IPv4 header.
#[inline(always)]
pub fn rewrite_ip(packet: Packet, src: [u8; 4], dst: [u8; 4], d_addr: u16) -> Option<()> {
    const _: () = assert!(L3 == EthHdr::LEN);
    let ttl: [u8; 1] = get(packet, L3 + 8)?;
    let check: [u8; 2] = get(packet, L3 + 10)?;
    let check = checksum::apply(u16::from_ne_bytes(check), d_addr as u32 + checksum::TTL_DECREMENT);
    put(packet, L3 + 8, [ttl[0].wrapping_sub(1)])?;
    put(packet, L3 + 10, check.to_ne_bytes())?;
    put(packet, L3 + 12, src)?;
    put(packet, L3 + 16, dst)
}

#[inline(always)]
fn get<T: privatelink_ebpf::wire::Wire>(packet: Packet, at: usize) -> Option<T> {
    privatelink_ebpf::datapath::Frame::read(packet, at)
}

#[inline(always)]
fn put<T: privatelink_ebpf::wire::Wire>(packet: Packet, at: usize, value: T) -> Option<()> {
    packet.write(at, value).then_some(())
}
