//! Wire-order newtypes. The value in memory is the value on the wire, so that the datapath copies and compares without
//! swapping; conversions to and from host types are the named functions here and nowhere else.

use core::net::{Ipv4Addr, Ipv6Addr};

use bytemuck::{Pod, Zeroable};

/// An IPv4 address in wire order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
pub struct Ip4(u32);

impl Ip4 {
    pub const UNSPECIFIED: Self = Self(0);

    #[inline(always)]
    pub const fn from_wire(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    #[inline(always)]
    pub const fn to_wire(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The wire bytes as one word, for hashing and checksum arithmetic.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }
}

impl From<Ipv4Addr> for Ip4 {
    fn from(addr: Ipv4Addr) -> Self {
        Self::from_wire(addr.octets())
    }
}

impl From<Ip4> for Ipv4Addr {
    fn from(addr: Ip4) -> Self {
        Self::from(addr.to_wire())
    }
}

impl core::fmt::Debug for Ip4 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&Ipv4Addr::from(*self), f)
    }
}

/// An IPv6 address: its words in wire order.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
pub struct Ip6(pub [u32; 4]);

impl Ip6 {
    pub const UNSPECIFIED: Self = Self([0; 4]);

    #[inline(always)]
    pub const fn from_wire(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        let word = u32::from_ne_bytes;
        Self([word([a, b, c, d]), word([e, f, g, h]), word([i, j, k, l]), word([m, n, o, p])])
    }

    #[inline(always)]
    pub const fn to_wire(self) -> [u8; 16] {
        let [w, x, y, z] = self.0;
        let ([a, b, c, d], [e, f, g, h]) = (w.to_ne_bytes(), x.to_ne_bytes());
        let ([i, j, k, l], [m, n, o, p]) = (y.to_ne_bytes(), z.to_ne_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
    }

    /// The address as two words, for hashing.
    #[inline(always)]
    pub const fn halves(&self) -> [u64; 2] {
        let [a, b, c, d] = self.0;
        [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
    }
}

impl From<Ipv6Addr> for Ip6 {
    fn from(addr: Ipv6Addr) -> Self {
        Self::from_wire(addr.octets())
    }
}

impl From<Ip6> for Ipv6Addr {
    fn from(addr: Ip6) -> Self {
        Self::from(addr.to_wire())
    }
}

impl core::fmt::Debug for Ip6 {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&Ipv6Addr::from(*self), f)
    }
}

/// A TCP or UDP port number in wire order ("port" alone means an interface that belongs to a VPC).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
pub struct L4Port(u16);

impl L4Port {
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// The number in host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    #[inline(always)]
    pub const fn from_wire(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    #[inline(always)]
    pub const fn to_wire(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }

    /// The wire bytes as one word, for hashing and checksum arithmetic.
    #[inline(always)]
    pub const fn word(self) -> u16 {
        self.0
    }

    #[inline(always)]
    pub const fn from_word(word: u16) -> Self {
        Self(word)
    }
}

impl core::fmt::Debug for L4Port {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(&self.get(), f)
    }
}

/// An Ethernet address.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const ZERO: Self = Self([0; 6]);
    pub const BROADCAST: Self = Self([0xff; 6]);
}

impl Mac {
    #[inline(always)]
    pub const fn bits(self) -> MacBits {
        let [a, b, c, d, e, f] = self.0;
        MacBits(u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// An Ethernet address as one word: its bytes in memory order, two zero bytes behind them (little-endian kernels only).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MacBits(u64);

impl MacBits {
    /// The first six of eight bytes in memory order.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word & 0xffff_ffff_ffff)
    }

    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn mac(self) -> Mac {
        let [a, b, c, d, e, f, ..] = self.0.to_ne_bytes();
        Mac([a, b, c, d, e, f])
    }

    /// The group bit: multicast or broadcast.
    #[inline(always)]
    pub const fn group(self) -> bool {
        self.0 & 1 != 0
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "Ethernet addresses are compared as little-endian words");

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl core::fmt::Debug for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Display::fmt(self, f)
    }
}

/// A VPC's number in every key: the address space that an address belongs to. 0 is no VPC.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Pod, Zeroable)]
pub struct VpcIndex(pub u16);

impl VpcIndex {
    pub const NONE: Self = Self(0);
    /// The host's own sockets (health checks), reached through the host port.
    pub const HOST: Self = Self(u16::MAX);
}

/// Set in a key's or record's protocol number: the packets are IPv6.
pub const IPV6: u8 = 0x80;

/// An IP protocol number that the datapath translates.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Proto {
    Tcp = 6,
    Udp = 17,
}

impl Proto {
    #[inline(always)]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The protocol of a number that a key or record of ours holds; what is none of ours counts as TCP.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        if number & !IPV6 == Self::Udp as u8 { Self::Udp } else { Self::Tcp }
    }

    /// The name that tables show, such as "TCP".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}
