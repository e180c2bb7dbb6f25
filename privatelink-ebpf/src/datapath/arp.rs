//! ARP (RFC 826): answers for the addresses that the datapath owns, for clients whose own addresses the targets behind
//! a port see, towards those, and for nothing else.

use super::{
    frame::Frame,
    open::emit_neighbor,
    refusal::{not_ours, refuse},
    tables::Tables,
    verdict::Verdict,
};
use crate::{
    abi::{
        Counter, Ip4, Mac,
        service::{AddressKey, Port, StandIn},
    },
    wire::{ArpHdr, ETHERTYPE_ARP, L3},
};

/// An Ethernet header and an ARP packet.
pub const REPLY_LEN: usize = L3 + ArpHdr::LEN;

const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
/// Hardware type Ethernet, protocol type IPv4, their address lengths.
const ETHERNET_IPV4: ([u8; 2], [u8; 2], u8, u8) = ([0, 1], [8, 0], 6, 4);

/// [`judge`] as one scalar, with a stack of its own.
#[inline(never)]
pub fn judge_bits<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port, ifindex: u32) -> u32 {
    judge(frame, t, port, ifindex).to_bits()
}

/// Judges an ARP packet that came in on `port`.
#[inline(always)]
fn judge<'t, F: Frame, T: Tables<'t>>(frame: F, t: T, port: &Port, ifindex: u32) -> Verdict {
    let Some(arp) = frame.read::<ArpHdr>(L3) else { return refuse(t, Counter::Truncated) };
    if (arp.htype, arp.ptype, arp.hlen, arp.plen) != ETHERNET_IPV4 {
        return not_ours(t, port.flags, Counter::ArpIgnored);
    }
    let sender = Ip4::from_wire(arp.spa);
    let wanted = Ip4::from_wire(arp.tpa);
    if t.owns(&AddressKey::new(port.vpc, sender)) {
        return refuse(t, Counter::ArpForged);
    }
    let ours = t.owns(&AddressKey::new(port.vpc, wanted));
    // Answers to our probes, and announcements that an address moved.
    if sender != Ip4::UNSPECIFIED && (ours || sender == wanted) && arp.sha[0] & 1 == 0 {
        emit_neighbor(t, port.vpc, ifindex, sender, Mac(arp.sha));
    }
    // A target asks for a client whose own address it sees, and who is behind another port. Who has no address yet asks
    // whether somebody has it: the client itself, when it comes to this port.
    let stands_in = !ours
        && sender != Ip4::UNSPECIFIED
        && sender != wanted
        && t.stands_in(&StandIn::new(port.vpc, wanted, ifindex));
    if (ours || stands_in) && arp.oper == REQUEST {
        t.count(Counter::ArpAnswered);
        return Verdict::AnswerArp;
    }
    not_ours(t, port.flags, Counter::ArpIgnored)
}

/// The frame that answers a request: `mac` has the address that was asked for.
#[inline(always)]
pub fn reply(request: &ArpHdr, mac: Mac) -> [u8; REPLY_LEN] {
    let mut frame = [0; REPLY_LEN];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        for byte in bytes {
            frame[at] = *byte;
            at += 1;
        }
    };
    put(&request.sha);
    put(&mac.0);
    put(&ETHERTYPE_ARP.to_ne_bytes());
    put(&request.htype);
    put(&request.ptype);
    put(&[request.hlen, request.plen]);
    put(&REPLY);
    put(&mac.0);
    put(&request.tpa);
    put(&request.sha);
    put(&request.spa);
    frame
}

#[cfg(test)]
mod tests;
