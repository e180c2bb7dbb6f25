//! The TCP header (RFC 9293 section 3.1).

/// The fixed part of the header. (network-types packs offset and flags into a bit field that is read bit by bit.)
pub struct TcpHeader;

impl TcpHeader {
    pub const LEN: usize = 20;
    /// Where the checksum is.
    pub const CHECK: usize = 16;
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
    pub const URG: Self = Self(0x20);

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

    /// A client's first segment: SYN without ACK, FIN and RST.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Self::FIN.0 | Self::SYN.0 | Self::RST.0 | Self::ACK.0) == Self::SYN.0
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

/// Option kinds (IANA): end of list, no-operation, maximum segment size, selective acknowledgement.
pub const OPTION_END: u8 = 0;
pub const OPTION_NOP: u8 = 1;
pub const OPTION_MSS: u8 = 2;
pub const OPTION_SACK: u8 = 5;

/// `a` is at or after `b` in sequence space and at most `window` ahead.
#[inline(always)]
pub const fn within(a: u32, b: u32, window: u32) -> bool {
    a.wrapping_sub(b) <= window
}
