//! ICMP for IPv4 (RFC 792).

use super::checksum;

/// The header that all messages used here have: type, code, checksum, and four bytes that the type gives a meaning to.
pub struct IcmpHeader;

impl IcmpHeader {
    pub const LEN: usize = 8;
    /// Where the checksum is; it covers the message from the type on.
    pub const CHECK: usize = 2;
    /// In an error: 32-bit words of the quoted packet, if extensions follow it (RFC 4884 section 4).
    pub const QUOTE_WORDS: usize = 5;
    /// In "fragmentation needed": the next hop's MTU (RFC 1191 section 4).
    pub const MTU: usize = 6;
}

/// The checksum of an echo reply, from its request's and both first words. Zero becomes the other zero of one's
/// complement, which every receiver takes for the same, and which is the only right one of a message that is nothing
/// but zeros.
#[inline(always)]
pub const fn reply_check(check: u16, request: u16, reply: u16) -> u16 {
    match checksum::apply(check, checksum::difference16(request, reply)) {
        0 => 0xffff,
        check => check,
    }
}

/// Message types (IANA).
pub const ECHO_REPLY: u8 = 0;
pub const DESTINATION_UNREACHABLE: u8 = 3;
pub const ECHO_REQUEST: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`DESTINATION_UNREACHABLE`].
pub const FRAGMENTATION_NEEDED: u8 = 4;

/// What an error with extensions quotes at least, zeros added where the packet is shorter (RFC 4884 section 4.6).
pub const EXTENDED_QUOTE: usize = 128;
