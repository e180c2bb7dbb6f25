//! Protocol headers: field access and arithmetic, no decisions. Headers that network-types has are taken from there.

pub mod checksum;
pub mod icmp;
pub mod icmp6;
pub mod ipv6;
pub mod proxy_v2;
pub mod tcp;
pub mod udp;
pub mod window;

pub use window::Window;

pub use network_types::{arp::ArpHdr, eth::EthHdr, ip::Ipv4Hdr};

/// Ether types (IEEE 802 numbers) in wire order, as `EthHdr::ether_type` holds them.
pub const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
pub const ETHERTYPE_ARP: u16 = 0x0806_u16.to_be();

/// IPv4's protocol number of ICMP.
pub const PROTO_ICMP: u8 = 1;

/// Where the IPv4 or ARP header starts.
pub const L3: usize = EthHdr::LEN;

/// Plain bytes: every bit pattern is a value, so a header can be copied out of a frame.
///
/// # Safety
/// The type is `repr(C)` of integers and arrays of integers, without padding.
pub unsafe trait Wire: Copy {}

// SAFETY: repr(C) arrays of bytes and one u16.
unsafe impl Wire for EthHdr {}
// SAFETY: repr(C) arrays of bytes.
unsafe impl Wire for Ipv4Hdr {}
// SAFETY: repr(C) arrays of bytes.
unsafe impl Wire for ArpHdr {}
// SAFETY: an array of bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}
