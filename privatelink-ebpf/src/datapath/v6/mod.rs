//! IPv6: the same flows, another header.
//!
//! A flow's key holds a keyed hash of the two addresses in place of the addresses ([`pair`]), so that the flow table,
//! the states, the ports and the sweep are those of IPv4. A packet to a target gets its new addresses from the target's
//! record, a packet to a client from `CLIENTS6`. All of IPv6 is in stages of its own: a packet over IPv4 pays nothing
//! for it.

pub mod icmp;
pub mod ndp;
pub mod parse;
pub mod reset;

use super::{
    Family, consider, entrance,
    flow_table::{self, SlotRef},
    forward_plain,
    frame::Frame,
    refusal,
    tables::{Hook, Tables},
    tcp_state::lifetime_unchanged,
    udp,
    verdict::{Rewrite, Verdict},
};
use crate::{
    abi::{
        Ip4, Ip6, L4Port, Proto, VpcIndex,
        flow::{FlowKey, Meta},
        service::Target,
    },
    wire::ipv6::Ipv6Header,
};

/// What stands for two addresses in a flow's key. The hash is keyed; who makes a collision all the same, with another
/// source address of its own VPC, does no more than who forges the address itself.
#[inline(always)]
pub fn pair(src: &Ip6, dst: &Ip6, seed: u64) -> (Ip4, Ip4) {
    let first = flow_table::hash(src.halves(), seed.rotate_left(23));
    let [a, b] = dst.halves();
    let both = flow_table::hash([a ^ first, b], !seed);
    (Ip4::from_word(both as u32), Ip4::from_word((both >> 32) as u32))
}

/// What changes in a forwarded IPv6 packet.
pub type Rewrite6<'t> = Rewrite<&'t Ip6>;

/// IPv6 in and out.
#[derive(Clone, Copy)]
pub struct V6;

impl<'t> Family<'t> for V6 {
    type Address = &'t Ip6;
    const TRANSLATES: bool = false;
    const HEADER_IN: u32 = Ipv6Header::LEN as u32;
    const HEADER_OUT: u32 = Ipv6Header::LEN as u32;

    #[inline(always)]
    fn addresses<T: Tables<'t>>(t: T, slot: SlotRef, target: &'t Target) -> Option<(&'t Ip6, &'t Ip6)> {
        if slot.meta().forward() {
            return Some((&target.node_ip6, &target.ip6));
        }
        let client = t.client6(&slot.key())?;
        Some((&client.dst, &client.src))
    }
}

/// A plain segment or datagram of a flow about which nothing is to be done; as [`super::fast`].
#[inline(always)]
pub fn fast<'t, F: Frame, T: Tables<'t>, R>(
    frame: F,
    t: T,
    ifindex: u32,
    apply: impl FnOnce(&Rewrite6<'t>) -> R,
) -> Option<R> {
    let port = t.port(ifindex)?;
    if port.vpc == VpcIndex::NONE {
        return None;
    }
    let plain = parse::plain(frame, port.vpc, t.hash_seed(), T::HOOK == Hook::Xdp)?;
    let slot = flow_table::find_primary(t, plain.key)?;
    let meta = slot.meta();
    let proto = Proto::from_number((plain.key[1] >> 48) as u8);
    if meta.translated || meta.flags & Meta::METERED != 0 {
        return None;
    }
    let lifetime = lifetime_unchanged(meta)?;
    forward_plain::<V6, _, _, _>(frame, t, ifindex, &plain, slot, lifetime, parse::PLAIN_L4, proto, apply)
}

/// [`fast`], then [`slow`].
#[inline(always)]
pub fn decide<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Rewrite6<'t>, Verdict> {
    match fast(frame, t, ifindex, |rewrite| *rewrite) {
        Some(rewrite) => Ok(rewrite),
        None => slow(frame, t, ifindex),
    }
}

/// Everything else.
#[inline(always)]
pub fn slow<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, ifindex: u32) -> Result<Rewrite6<'t>, Verdict> {
    let port = entrance(t, ifindex)?;
    match parse::lend(frame, t, port.vpc) {
        true => {
            let segment = t.lent();
            match Proto::from_number(segment.key.proto) {
                Proto::Tcp => consider::<V6, false, _, _>(frame, t, port, ifindex, segment),
                Proto::Udp => udp::consider::<V6, _, _>(frame, t, port, ifindex, segment),
            }
        }
        false if ndp::is_discovery(frame) => Err(Verdict::from_bits(ndp::judge_bits(frame, t, port, ifindex))),
        false => Err(refusal::judge_unparsed6(frame, t, port)),
    }
}

/// The key of an IPv6 packet.
#[inline(always)]
pub fn key(vpc: VpcIndex, pair: (Ip4, Ip4), ports: u32, proto: u8) -> FlowKey {
    let (src, dst) = pair;
    let (src_port, dst_port) = (L4Port::from_word(ports as u16), L4Port::from_word((ports >> 16) as u16));
    FlowKey::tcp(vpc, src, src_port, dst, dst_port).with_proto(proto)
}
