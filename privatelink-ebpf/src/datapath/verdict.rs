//! What the datapath decides, and what it wants changed.

use super::{
    icmp::{Translation, error::Cause},
    opaque::opaque,
};
use crate::abi::{Counter, Ip4, L4Port, MacBits, Proto, Stage, service::PortFlags};

/// What happens to a frame that is not forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// On to the host's stack, unmodified.
    Pass,
    /// XDP only: on to TC on the same port, unmodified.
    ToTc,
    /// Refused, for the reason counted.
    Drop(Counter),
    /// TC only: the frame becomes [`super::arp::reply`] and leaves by the port that it came in on.
    AnswerArp,
    /// TC only: the frame becomes [`super::reset::build`] and leaves by the port that it came in on.
    AnswerReset,
    /// TC only: the frame becomes the reply to the echo request that it is and leaves by the port that it came in on.
    AnswerEcho,
    /// TC only: the frame becomes [`super::icmp::error::build`] and leaves by the port that it came in on.
    AnswerError(Cause),
    /// TC only: [`super::proxy::decide`] decides. No table has been changed.
    Proxy,
    /// TC only: the frame becomes [`super::v6::ndp::reply`] and leaves by the port that it came in on.
    AnswerNeighbor,
    /// Nothing is decided: another stage goes on.
    GoOn(Stage),
}

impl Verdict {
    /// As one scalar, for functions that the verifier checks on their own.
    #[inline(always)]
    pub const fn to_bits(self) -> u32 {
        match self {
            Self::Pass => 0x100,
            Self::ToTc => 0x101,
            Self::AnswerArp => 0x102,
            Self::AnswerReset => 0x103,
            Self::AnswerEcho => 0x104,
            Self::AnswerError(cause) => 0x1_0000 | cause.to_bits() as u32,
            Self::Proxy => 0x105,
            Self::AnswerNeighbor => 0x106,
            Self::GoOn(stage) => 0x200 | stage as u32,
            Self::Drop(counter) => counter as u32,
        }
    }

    /// The same, made of a number that the compiler can't see: a variant without a value leaves a register unset that
    /// the verifier sees read, and merged constants become a table of constants, which there is none for.
    #[inline(always)]
    pub fn opaque(self) -> Self {
        Self::from_bits(opaque(self.to_bits()))
    }

    #[inline(always)]
    pub const fn from_bits(bits: u32) -> Self {
        match bits {
            0x100 => Self::Pass,
            0x101 => Self::ToTc,
            0x102 => Self::AnswerArp,
            0x103 => Self::AnswerReset,
            0x104 => Self::AnswerEcho,
            error if error >> 16 != 0 => Self::AnswerError(Cause::from_bits(error as u16)),
            0x105 => Self::Proxy,
            0x106 => Self::AnswerNeighbor,
            0x200..0x300 => Self::GoOn(Stage::from_bits(bits as u8)),
            counter => Self::Drop(Counter::from_bits(counter as u8)),
        }
    }
}

/// What happens to a frame that is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Forward {
    Packet(Rewrite),
    /// A fragment behind the first one of its packet.
    Fragment(Relay),
    /// An ICMP error about a packet of a flow.
    Error(Translation),
}

/// Whether XDP sends a frame that came in on `ifindex` and leaves by `out`, whose flags are `flags`, by `XDP_TX`.
#[inline(always)]
pub const fn turns_back(ifindex: u32, out: u32, flags: PortFlags) -> bool {
    out == ifindex && !flags.has(PortFlags::XDP_REDIRECT)
}

/// What changes in a packet's later fragments: addresses and hops, and the IP checksum over them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relay {
    pub src: Ip4,
    pub dst: Ip4,
    /// What the address change adds to the IP checksum.
    pub d_addr: u16,
    pub src_mac: MacBits,
    pub dst_mac: MacBits,
    pub ifindex: u32,
    pub out: PortFlags,
}

/// What changes in a forwarded packet, which gets addresses `A`: IPv4's are held by value, IPv6's by reference
/// ([`super::v6::Rewrite6`]). The hook applies it in its own right way: TC with the checksum helpers, XDP and the host
/// with the arithmetic of `wire::checksum`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rewrite<A = Ip4> {
    /// Whose checksum changes.
    pub proto: Proto,
    pub src: A,
    pub dst: A,
    pub src_port: L4Port,
    pub dst_port: L4Port,
    /// What the address change adds to the TCP or UDP checksum, and to IPv4's own.
    pub d_addr: u16,
    /// What the port change adds to the TCP or UDP checksum.
    pub d_port: u16,
    pub src_mac: MacBits,
    pub dst_mac: MacBits,
    /// Where the TCP or UDP header starts in the frame.
    pub l4: u16,
    pub mss: Mss,
    /// The interface to leave by, and how.
    pub ifindex: u32,
    pub out: PortFlags,
}

/// A smaller maximum segment size (RFC 6691) in a SYN or SYN-ACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mss {
    /// Offset of the 16-bit value in the frame; 0: nothing changes. (No `Option`: a value that may be absent becomes a
    /// register that may be unset, which the verifier refuses.)
    pub at: u16,
    /// The new value, host order.
    pub value: u16,
    /// What the change adds to the TCP checksum.
    pub difference: u16,
}

impl Mss {
    pub const UNCHANGED: Self = Self { at: 0, value: 0, difference: 0 };
}
