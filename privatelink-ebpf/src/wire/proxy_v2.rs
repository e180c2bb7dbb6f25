//! The PROXY protocol, version 2, as a Network Load Balancer writes it.
//!
//! Signature, version and command, family, length, the consumer's side of the connection, and three TLVs in this order:
//! CRC32C, the endpoint's id (type 0xEA, absent without an endpoint), and a NOOP that makes the whole 100 bytes. The
//! CRC covers the whole header with its own field zero, and is written in network order (the specification's section
//! 2.2.3).

use super::checksum;
use crate::abi::{Ip4, L4Port};

/// Length of a header for TCP over IPv4.
pub const LEN: usize = 100;

/// The longest endpoint id: `vpce-` and 17 digits.
pub const ENDPOINT_ID: usize = 22;

/// Begins every header.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The header of a connection that the load balancer makes for itself (a health check): command LOCAL, no addresses.
pub const LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

/// Version 2, command PROXY; TCP over IPv4.
const PROXY_TCP4: [u8; 2] = [0x21, 0x11];
const TLV_NOOP: u8 = 0x04;
const TLV_CRC32C: u8 = 0x03;
const TLV_AWS: u8 = 0xea;
/// First byte of an AWS TLV: an endpoint's id follows.
const AWS_VPCE_ID: u8 = 0x01;

/// Where the CRC is.
const CRC: usize = 31;

/// Writes a header. `endpoint` is an id of [`ENDPOINT_ID`] bytes, or begins with zero where there is none.
#[inline(always)]
pub fn build(to: &mut [u8; LEN], src: Ip4, src_port: L4Port, dst: Ip4, dst_port: L4Port, endpoint: &[u8; ENDPOINT_ID]) {
    put::<0, 12>(to, &SIGNATURE);
    put::<12, 2>(to, &PROXY_TCP4);
    put::<14, 2>(to, &[0, (LEN - 16) as u8]);
    put::<16, 4>(to, &src.to_wire());
    put::<20, 4>(to, &dst.to_wire());
    put::<24, 2>(to, &src_port.to_wire());
    put::<26, 2>(to, &dst_port.to_wire());
    put::<28, 7>(to, &[TLV_CRC32C, 0, 4, 0, 0, 0, 0]);
    if endpoint[0] != 0 {
        put::<35, 4>(to, &[TLV_AWS, 0, ENDPOINT_ID as u8 + 1, AWS_VPCE_ID]);
        put::<39, ENDPOINT_ID>(to, endpoint);
        put::<61, 3>(to, &[TLV_NOOP, 0, 36]);
        put::<64, 36>(to, &[0; 36]);
    } else {
        put::<35, 3>(to, &[TLV_NOOP, 0, 62]);
        put::<38, 62>(to, &[0; 62]);
    }
    let crc = crc32c(to).to_be_bytes();
    put::<CRC, 4>(to, &crc);
}

/// Copies bytes to a fixed place. (By index: the verifier follows no comparison of pointers.)
#[inline(always)]
fn put<const AT: usize, const N: usize>(to: &mut [u8; LEN], bytes: &[u8; N]) {
    const { assert!(AT + N <= LEN) };
    let mut index = 0;
    while index < N {
        to[AT + index] = bytes[index];
        index += 1;
    }
}

/// CRC-32C (Castagnoli, reflected: RFC 3720 section B.4), four bits at a time.
#[inline(always)]
pub fn crc32c(bytes: &[u8; LEN]) -> u32 {
    let mut crc = !0u32;
    let mut index = 0;
    while index < LEN {
        crc ^= bytes[index] as u32;
        crc = crc >> 4 ^ NIBBLES[(crc & 15) as usize];
        crc = crc >> 4 ^ NIBBLES[(crc & 15) as usize];
        index += 1;
    }
    !crc
}

static NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut index = 0;
    while index < 16 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Sum of the header's words, for a TCP checksum.
#[inline(always)]
pub fn sum(header: &[u8; LEN]) -> u32 {
    let mut sum = 0;
    for index in 0..LEN / 2 {
        sum += u16::from_ne_bytes([header[2 * index], header[2 * index + 1]]) as u32;
    }
    sum
}

/// Checksum and urgent pointer of a TCP segment whose pseudo header sums to `pseudo` and whose other words, the
/// payload's included, to `rest`.
///
/// A socket buffer's checksum may be complete or partial (its field holds `pseudo`, and a device completes it), which
/// cannot be seen from where a payload is replaced. The urgent pointer, which nobody looks at in a segment without URG
/// (RFC 9293 section 3.1), makes the complete checksum equal to `pseudo`: the same bytes are right either way.
#[inline(always)]
pub const fn seal(pseudo: u16, rest: u32) -> (u16, u16) {
    (pseudo, !checksum::fold(pseudo as u32 + pseudo as u32 + rest))
}

#[cfg(test)]
mod tests;
