//! Questions about the addresses of the packet that is judged, for both families: the key of an IPv6 packet does not
//! hold them, the tables were lent them ([`Tables::packet6`]).

use super::{
    lifecycle::{twin_key, vpc_beyond},
    parse::{self, Segment},
    tables::Tables,
    v6,
};
use crate::{
    abi::{
        Ip4, Ip6, L4Port, Proto, VpcIndex,
        addr::IPV6,
        flow::{Addresses6, FlowKey},
        security::Bound,
        service::{Address6Key, AddressKey, AddressKind, Frontend, Frontend6Key, FrontendKey, Target},
    },
    wire::{checksum, ipv6},
};

/// The addresses of the IPv6 packet that is judged.
#[inline(always)]
fn lent<'t, T: Tables<'t>>(t: T) -> Option<&'t Addresses6> {
    // SAFETY: this CPU's own record, written before the packet is judged and not until the next one is.
    t.packet6().map(|record| unsafe { &*record })
}

/// The addresses of the packet that is judged, if it is IPv6: `key` is its key.
#[inline(always)]
pub fn packet<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<&'t Addresses6> {
    if key.ipv6() { lent(t) } else { None }
}

/// The listener at an IPv4 address and port: the port's own, else the one of its range; at an alias, that of the
/// endpoint's own address.
#[inline(always)]
fn frontend4<'t, T: Tables<'t>>(t: T, mut key: FrontendKey) -> Option<&'t Frontend> {
    let own = t.frontend(&key);
    if own.is_some() {
        return own;
    }
    let bits = t.elsewhere(&key);
    if bits == 0 {
        return None;
    }
    // In place: some callers have no stack for another key.
    key.ip = Ip4::from_word(bits as u32);
    key.port = L4Port::from_word((bits >> 32) as u16);
    t.frontend(&key)
}

/// Where frontends are looked for that a port does not have by itself: the kernel asks with one key after another in
/// the same place, because there is room for one on the stack.
pub trait Places {
    /// The port, as a word, under which the frontend of the address is kept that serves the key's port among others; 0
    /// if there is none.
    fn range(&mut self, key: &FrontendKey) -> u16;
    /// [`Tables::alias`].
    fn alias(&mut self, vpc: VpcIndex, ip: Ip4) -> u32;
    /// There is a frontend for exactly this port.
    fn exact(&mut self, key: &FrontendKey) -> bool;
}

/// Where the frontend of an address and port is kept for which there is none by itself: the address, as a word, and the
/// port above it; 0 if there is none at all.
#[inline(always)]
pub fn elsewhere_bits(places: &mut impl Places, key: &FrontendKey) -> u64 {
    let at = |ip: Ip4, port: u16| ip.word() as u64 | (port as u64) << 32;
    let range = places.range(key);
    if range != 0 {
        return at(key.ip, range);
    }
    let endpoint = match places.alias(key.vpc, key.ip) {
        0 => return 0,
        endpoint => FrontendKey { ip: Ip4::from_word(endpoint), ..*key },
    };
    if places.exact(&endpoint) {
        return at(endpoint.ip, endpoint.port.word());
    }
    match places.range(&endpoint) {
        0 => 0,
        range => at(endpoint.ip, range),
    }
}

/// Packets to the IPv4 address are for us: it is ours, or an alias of an endpoint.
#[inline(always)]
pub fn ours<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, ip: Ip4) -> bool {
    t.owns(&AddressKey::new(vpc, ip)) || t.alias(vpc, ip) != 0
}

/// The listener that a packet is for.
#[inline(always)]
pub fn frontend<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<Frontend> {
    if !key.ipv6() {
        return frontend4(t, FrontendKey::of(key)).copied();
    }
    let FlowKey { vpc, dst_port: port, proto, .. } = *key;
    t.frontend6(&Frontend6Key { ip: lent(t)?.dst, vpc, port, proto: proto & !IPV6, _pad: [0; 3] })
}

/// The frontend whose policy counts for echo requests to an IPv4 address.
#[inline(always)]
pub fn echo_frontend<'t, T: Tables<'t>>(t: T, vpc: VpcIndex, ip: Ip4) -> Option<&'t Frontend> {
    frontend4(t, FrontendKey::echo(vpc, ip))
}

/// Datagrams to the port of the node address by which a target is reached are a listener's.
#[inline(always)]
pub fn served_node_port<'t, T: Tables<'t>>(t: T, target: &Target, port: L4Port) -> bool {
    if target.ipv6() {
        return t.frontend6(&Frontend6Key::new(target.vpc, target.node_ip6, port, Proto::Udp)).is_some();
    }
    frontend4(t, FrontendKey::new(target.vpc, target.node_ip, port, Proto::Udp)).is_some()
}

/// An IPv6 address as security groups know sources.
#[inline(always)]
pub const fn bound(ip: &Ip6) -> Bound {
    let [hi, lo] = ip.halves();
    Bound { hi: u64::from_be(hi), lo: u64::from_be(lo) }
}

/// The packet's source, as security groups know sources.
#[inline(always)]
pub fn source<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> Option<Bound> {
    if !key.ipv6() {
        return Some(Bound::v4(key.src));
    }
    lent(t).map(|packet| bound(&packet.src))
}

/// The frontend that an open flow came by, and its client as security groups know it; the flow is named by its forward
/// entry's key, and may be anybody's.
#[inline(always)]
pub fn of_flow<'t, T: Tables<'t>>(t: T, forward: &FlowKey) -> Option<(Frontend, Bound)> {
    if !forward.ipv6() {
        return Some((*frontend4(t, FrontendKey::of(forward))?, Bound::v4(forward.src)));
    }
    let slot = t.find(forward)?;
    let client = t.client6(&twin_key(slot, vpc_beyond(t, slot)?))?;
    let FlowKey { vpc, dst_port: port, proto, .. } = *forward;
    let key = Frontend6Key { ip: client.dst, vpc, port, proto: proto & !IPV6, _pad: [0; 3] };
    Some((t.frontend6(&key)?, bound(&client.src)))
}

/// The packet comes from an address that is ours.
#[inline(always)]
pub fn from_us<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> bool {
    if !key.ipv6() {
        return t.owns(&AddressKey::new(key.vpc, key.src));
    }
    lent(t).is_some_and(|packet| t.address6(&Address6Key::new(key.vpc, packet.src)).is_some())
}

/// The packet is for an address that is ours.
#[inline(always)]
pub fn to_us<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> bool {
    if !key.ipv6() {
        return ours(t, key.vpc, key.dst);
    }
    lent(t).is_some_and(|packet| t.address6(&Address6Key::new(key.vpc, packet.dst)).is_some())
}

/// The packet is for a load balancer's node address.
#[inline(always)]
pub fn to_node<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> bool {
    if !key.ipv6() {
        return t.is_node(&AddressKey::new(key.vpc, key.dst));
    }
    let address = lent(t).and_then(|packet| t.address6(&Address6Key::new(key.vpc, packet.dst)));
    address.is_some_and(|address| address.kind == AddressKind::Node as u32)
}

/// The packet comes from an address that nobody has.
#[inline(always)]
pub fn from_nobody<'t, T: Tables<'t>>(t: T, key: &FlowKey) -> bool {
    if !key.ipv6() {
        return parse::unroutable(key.src);
    }
    lent(t).is_none_or(|packet| v6::parse::unroutable(&packet.src))
}

/// What replacing the packet's addresses by the node's and the target's adds to a TCP or UDP checksum.
#[inline(always)]
pub fn difference_bits<'t, T: Tables<'t>>(t: T, segment: &Segment, target: u32) -> u32 {
    let (key, Some(target)) = (&segment.key, t.target(target)) else { return 0 };
    let old = match (key.ipv6(), lent(t)) {
        (true, Some(packet)) => ipv6::without(&packet.src.0) + ipv6::without(&packet.dst.0),
        (true, None) | (false, _) => checksum::words(!key.src.word()) + checksum::words(!key.dst.word()),
    };
    let new = match target.ipv6() {
        true => ipv6::words(&target.node_ip6.0) + ipv6::words(&target.ip6.0),
        false => checksum::words(target.node_ip.word()) + checksum::words(target.ip.word()),
    };
    old + new
}
