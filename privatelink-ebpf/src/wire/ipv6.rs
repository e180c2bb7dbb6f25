//! The IPv6 header and its extension headers (RFC 8200).

use super::checksum;

/// Ether type (IEEE 802 numbers) in wire order.
pub const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();

/// The fixed header.
pub struct Ipv6Header;

impl Ipv6Header {
    pub const LEN: usize = 40;
    /// Where things are: payload length, next header, hop limit, addresses.
    pub const PAYLOAD: usize = 4;
    pub const NEXT: usize = 6;
    pub const HOPS: usize = 7;
    pub const SRC: usize = 8;
    pub const DST: usize = 24;
}

/// Next headers (IANA protocol numbers).
pub mod next {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION: u8 = 60;
}

/// The sum of four words of an address.
#[inline(always)]
pub const fn words(address: &[u32; 4]) -> u32 {
    let [a, b, c, d] = *address;
    checksum::words(a) + checksum::words(b) + checksum::words(c) + checksum::words(d)
}

/// What an address's words contribute to a difference when they are taken away.
#[inline(always)]
pub const fn without(address: &[u32; 4]) -> u32 {
    let [a, b, c, d] = *address;
    words(&[!a, !b, !c, !d])
}
