//! ICMP for IPv6 (RFC 4443). The header is ICMP's ([`super::icmp::IcmpHeader`]); its checksum covers a pseudo header
//! too.

/// Message types (IANA).
pub const DESTINATION_UNREACHABLE: u8 = 1;
pub const PACKET_TOO_BIG: u8 = 2;
pub const TIME_EXCEEDED: u8 = 3;
pub const PARAMETER_PROBLEM: u8 = 4;
pub const ECHO_REQUEST: u8 = 128;
pub const ECHO_REPLY: u8 = 129;

/// In "destination unreachable" and "time exceeded": 64-bit words of the quoted packet, if extensions follow it (RFC
/// 4884 section 4).
pub const QUOTE_WORDS: usize = 4;
