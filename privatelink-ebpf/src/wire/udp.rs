//! The UDP header (RFC 768).

/// The header.
pub struct UdpHeader;

impl UdpHeader {
    pub const LEN: usize = 8;
    /// Where the datagram's length is: header and payload.
    pub const LENGTH: usize = 4;
    /// Where the checksum is. Zero: the sender computed none; a sum that comes to zero is sent as 0xffff.
    pub const CHECK: usize = 6;
}

/// A UDP checksum after its covered fields changed by `difference`: none stays none.
#[inline(always)]
pub const fn apply(check: u16, difference: u32) -> u16 {
    if check == 0 {
        return 0;
    }
    match super::checksum::apply(check, difference) {
        0 => 0xffff,
        check => check,
    }
}
