//! The TCP header (RFC 9293 section 3.1).

use super::Wire;
use crate::abi::L4Port;

/// The fixed part. network-types packs offset and flags into a bit field that is read bit by bit; here they are bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TcpHeader {
    pub source: [u8; 2],
    pub dest: [u8; 2],
    pub seq: [u8; 4],
    pub ack: [u8; 4],
    /// Data offset in 32-bit words in the upper four bits.
    pub offset: u8,
    pub flags: Flags,
    pub window: [u8; 2],
    pub check: [u8; 2],
    pub urgent: [u8; 2],
}

// SAFETY: repr(C) bytes and arrays of bytes.
unsafe impl Wire for TcpHeader {}

impl TcpHeader {
    pub const LEN: usize = size_of::<Self>();
    /// Where the checksum is.
    pub const CHECK: usize = 16;

    #[inline(always)]
    pub const fn source(&self) -> L4Port {
        L4Port::from_wire(self.source)
    }

    #[inline(always)]
    pub const fn dest(&self) -> L4Port {
        L4Port::from_wire(self.dest)
    }

    #[inline(always)]
    pub const fn seq(&self) -> u32 {
        u32::from_be_bytes(self.seq)
    }

    #[inline(always)]
    pub const fn ack(&self) -> u32 {
        u32::from_be_bytes(self.ack)
    }

    /// Header length with options, in bytes.
    #[inline(always)]
    pub const fn len(&self) -> usize {
        (self.offset >> 4) as usize * 4
    }
}

/// The flag byte.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: Self = Self(0x01);
    pub const SYN: Self = Self(0x02);
    pub const RST: Self = Self(0x04);
    pub const PSH: Self = Self(0x08);
    pub const ACK: Self = Self(0x10);

    #[inline(always)]
    pub const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    #[must_use]
    #[inline(always)]
    pub const fn with(self, flag: Self) -> Self {
        Self(self.0 | flag.0)
    }

    /// Of SYN, FIN, RST and ACK only ACK: the segment cannot change a flow's state.
    #[inline(always)]
    pub const fn ack_only(self) -> bool {
        self.0 & (Self::FIN.0 | Self::SYN.0 | Self::RST.0 | Self::ACK.0) == Self::ACK.0
    }

    /// A combination that RFC 9293 gives a meaning to.
    #[inline(always)]
    pub const fn valid(self) -> bool {
        let syn = self.has(Self::SYN);
        let fin = self.has(Self::FIN);
        let rst = self.has(Self::RST);
        !(syn && (fin || rst)) && !(fin && rst) && (syn || rst || self.has(Self::ACK))
    }
}

/// Option kinds (IANA): end of list, no-operation, maximum segment size.
pub const OPTION_END: u8 = 0;
pub const OPTION_NOP: u8 = 1;
pub const OPTION_MSS: u8 = 2;

/// `a` is at or after `b` in sequence space and at most `window` ahead.
#[inline(always)]
pub const fn within(a: u32, b: u32, window: u32) -> bool {
    a.wrapping_sub(b) <= window
}
