//! What a hook does with ICMP messages, on slices.

use super::change;
use crate::{
    abi::Mac,
    datapath::{
        icmp::{
            self, Translation,
            error::{Cause, LONG, Quote, SHORT},
        },
        v6::icmp::{QUOTED, QUOTED_L4, Translation6, error as error6},
    },
    wire::{
        Ipv4Hdr, L3, checksum,
        icmp::{ECHO_REPLY, EXTENDED_QUOTE, IcmpHeader, reply_check},
        icmp6,
        ipv6::{ETHERTYPE_IPV6, Ipv6Header},
    },
};

pub(super) fn translate(frame: &mut Vec<u8>, translation: &Translation) {
    let Translation {
        src,
        dst,
        d_outer,
        quoted_src_port,
        quoted_dst_port,
        d_addr,
        d_port,
        icmp,
        quoted_l4,
        quoted_check,
        extended,
        src_mac,
        dst_mac,
        ifindex: _,
        out: _,
    } = *translation;
    let [icmp, l4, field] = [icmp, quoted_l4, quoted_check].map(usize::from);
    let quoted = icmp + IcmpHeader::LEN;
    let word = |frame: &[u8], at: usize| u16::from_ne_bytes([frame[at], frame[at + 1]]);
    let ip_check = word(frame, quoted + 10);
    let l4_check = word(frame, if field == 0 { l4 } else { field });
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &dst_mac.mac().0);
    put(6, &src_mac.mac().0);
    put(L3 + 12, &src.to_wire());
    put(L3 + 16, &dst.to_wire());
    put(quoted + 12, &dst.to_wire());
    put(quoted + 16, &src.to_wire());
    put(l4, &quoted_src_port.to_wire());
    put(l4 + 2, &quoted_dst_port.to_wire());
    let mut difference = d_addr as u32 + d_port as u32;
    if field != 0 {
        let now = icmp::quoted_check((field - l4) as u16, l4_check, d_addr, d_port);
        put(field, &now.to_ne_bytes());
        difference += checksum::difference16(l4_check, now);
    }
    change(frame, quoted + 10, |check| checksum::apply(check, d_addr as u32));
    difference += checksum::difference16(ip_check, word(frame, quoted + 10));
    change(frame, icmp + IcmpHeader::CHECK, |check| checksum::apply(check, difference));
    frame[L3 + 8] -= 1;
    change(frame, L3 + 10, |check| checksum::apply(check, d_outer as u32 + checksum::TTL_DECREMENT));
    if extended {
        frame.truncate(quoted + EXTENDED_QUOTE);
        let was = word(frame, L3 + 2);
        let now = ((frame.len() - L3) as u16).to_be();
        frame[L3 + 2..L3 + 4].copy_from_slice(&now.to_ne_bytes());
        change(frame, L3 + 10, |check| checksum::apply(check, checksum::difference16(was, now)));
        frame[icmp + IcmpHeader::QUOTE_WORDS] = 0;
        frame[icmp + IcmpHeader::CHECK..][..2].fill(0);
        let check = !checksum::fold(checksum::sum(&frame[icmp..]));
        frame[icmp + IcmpHeader::CHECK..][..2].copy_from_slice(&check.to_ne_bytes());
    }
}

/// Changes an error over IPv6 as a hook does.
///
/// # Panics
///
/// If the frame is none.
pub fn translate6(frame: &mut [u8], translation: &Translation6<'_>) {
    let Translation6 {
        src,
        dst,
        quoted_src_port,
        quoted_dst_port,
        quoted_check,
        quoted_check_value,
        check,
        src_mac,
        dst_mac,
        ifindex: _,
        out: _,
    } = *translation;
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &dst_mac.mac().0);
    put(6, &src_mac.mac().0);
    put(L3 + Ipv6Header::SRC, &src.to_wire());
    put(L3 + Ipv6Header::DST, &dst.to_wire());
    put(L3 + Ipv6Header::LEN + IcmpHeader::CHECK, &check.to_ne_bytes());
    put(QUOTED + Ipv6Header::SRC, &dst.to_wire());
    put(QUOTED + Ipv6Header::DST, &src.to_wire());
    put(QUOTED_L4, &quoted_src_port.to_wire());
    put(QUOTED_L4 + 2, &quoted_dst_port.to_wire());
    if quoted_check != 0 {
        put(quoted_check as usize, &quoted_check_value.to_ne_bytes());
    }
    frame[L3 + Ipv6Header::HOPS] -= 1;
}

/// As [`answer_echo`], over IPv6.
///
/// # Panics
///
/// If the frame is none.
pub fn answer_echo6(frame: &mut [u8], mac: Mac) {
    let requester = <[u8; 6]>::try_from(&frame[6..12]).expect("an Ethernet address");
    frame[..6].copy_from_slice(&requester);
    frame[6..12].copy_from_slice(&mac.0);
    frame[L3 + Ipv6Header::HOPS] = icmp::error::TTL;
    frame[L3 + Ipv6Header::SRC..L3 + Ipv6Header::LEN].rotate_left(16);
    let at = L3 + Ipv6Header::LEN;
    let request = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    frame[at] = icmp6::ECHO_REPLY;
    let reply = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    change(frame, at + IcmpHeader::CHECK, |check| checksum::apply(check, checksum::difference16(request, reply)));
}

/// Turns an echo request round as a hook does; `mac` is the port's own.
///
/// # Panics
///
/// If the frame is none.
pub fn answer_echo(frame: &mut [u8], mac: Mac) {
    let requester = <[u8; 6]>::try_from(&frame[6..12]).expect("an Ethernet address");
    frame[..6].copy_from_slice(&requester);
    frame[6..12].copy_from_slice(&mac.0);
    let old_ttl = u16::from_ne_bytes([frame[L3 + 8], frame[L3 + 9]]);
    frame[L3 + 8] = icmp::error::TTL;
    let new_ttl = u16::from_ne_bytes([frame[L3 + 8], frame[L3 + 9]]);
    change(frame, L3 + 10, |check| checksum::apply(check, checksum::difference16(old_ttl, new_ttl)));
    frame[L3 + 12..L3 + 20].rotate_left(4);
    let at = L3 + Ipv4Hdr::LEN;
    let request = u16::from_ne_bytes([frame[at], frame[at + 1]]);
    let reply = u16::from_ne_bytes([ECHO_REPLY, 0]);
    frame[at..at + 2].copy_from_slice(&reply.to_ne_bytes());
    change(frame, at + IcmpHeader::CHECK, |check| reply_check(check, request, reply));
}

/// The error about a frame, as a hook builds it.
///
/// # Panics
///
/// If the frame is shorter than what every error quotes.
pub fn answer_error(frame: &[u8], cause: Cause) -> Vec<u8> {
    if frame[L3 - 2..L3] == ETHERTYPE_IPV6.to_ne_bytes() {
        let ip_len = Ipv6Header::LEN + u16::from_be_bytes([frame[L3 + 4], frame[L3 + 5]]) as usize;
        return match ip_len >= error6::LONG * 4 {
            true => error_about6::<{ error6::LONG }>(frame, cause),
            false => error_about6::<{ error6::SHORT }>(frame, cause),
        };
    }
    let ip_len = u16::from_be_bytes([frame[L3 + 2], frame[L3 + 3]]) as usize;
    if ip_len >= LONG * 4 { error_about::<LONG>(frame, cause) } else { error_about::<SHORT>(frame, cause) }
}

fn error_about6<const WORDS: usize>(frame: &[u8], cause: Cause) -> Vec<u8> {
    let ethernet = frame[..L3].try_into().expect("an Ethernet header");
    let quoted = &frame[L3..L3 + WORDS * 4];
    let quote: [u32; WORDS] =
        std::array::from_fn(|i| u32::from_ne_bytes(quoted[i * 4..i * 4 + 4].try_into().expect("four bytes")));
    let sum = checksum::fold(checksum::sum(quoted));
    let (head, trailer) = error6::build(ethernet, &error6::Quote::of(&quote, sum), cause);
    [&head[..], quoted, &trailer].concat()
}

fn error_about<const WORDS: usize>(frame: &[u8], cause: Cause) -> Vec<u8> {
    let ethernet = frame[..L3].try_into().expect("an Ethernet header");
    let quoted = &frame[L3..L3 + WORDS * 4];
    let quote: [u32; WORDS] =
        std::array::from_fn(|i| u32::from_ne_bytes(quoted[i * 4..i * 4 + 4].try_into().expect("four bytes")));
    let (head, trailer) =
        icmp::error::build(ethernet, &Quote::of(&quote, checksum::fold(checksum::sum(quoted))), cause);
    [&head[..], quoted, &trailer].concat()
}
