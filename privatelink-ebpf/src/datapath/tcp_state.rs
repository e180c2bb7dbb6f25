//! The life of a flow, as a pure function: state and segment in, next state out.
//!
//! ```text
//!            SYN (c)          SYN-ACK (t)            ACK (c) of it
//!   (none) ─────────► SynSent ───────────► SynReceived ───────────► Established ◄────────────┐
//!                       │ RST (t) of the SYN    │                      │   │ RST in window    │ the receiver, not
//!                       ▼                       ▼              FIN     │   ▼                  │ waiting for the RST
//!                     (gone)                  (gone)    ┌──────────────┘ Resetting ──────────┘
//!                                                       ▼                  │ 10 s
//!                                                    Closing               ▼
//!                              client's FIN was first │   │ target's       (gone)
//!                                                     ▼   ▼ FIN was first, or both at once
//!                     (gone) ◄──────────────────── LastAck  TimeWait ─────► (gone, port free)
//!                         ACK (c) of the target's FIN,            60 s
//!                         or 60 s
//! ```
//!
//! c: from the client, t: from the target. A reset ends a flow at once only if its sequence number is exactly the one
//! that its receiver waits for; inside the window it is on probation, because a receiver that did not take it answers
//! with a challenge ACK (RFC 5961 section 3.2); outside it is forwarded and ignored here. So blind resets end nothing.
//! A client that breaks off right behind its data is on probation too, and what its receiver had sent before does not
//! acquit it.

use crate::{
    abi::{
        Counter,
        flow::{FlowState, Meta},
        service::IDLE_NEVER,
    },
    wire::tcp::{Flags, within},
};

/// What a state is allowed to last without a packet, in seconds; `Established` and `Closing` have the listener's own.
pub mod hold {
    /// Refreshed by the client's retransmissions of its SYN (1, 3, 7 s), so that a slow target is not cut off.
    pub const HALF_OPEN: u32 = 5;
    /// The target's last data may be lost with its FIN: a socket that nobody holds any more repeats them for 100 s, at
    /// most 26 s apart (Linux, `tcp_orphan_retries`, with the shortest time-out of 0.2 s).
    pub const LAST_ACK: u32 = 60;
    /// Linux, and most others, keep an address pair that they closed for 60 s.
    pub const TIME_WAIT: u32 = 60;
    pub const RESETTING: u32 = 10;
    /// Of a flow whose idle timeout is never: the longest that a listener can have.
    pub const HALF_CLOSED: u32 = 6_000;
    /// Four years: as long as the clock's ticks tell earlier from later.
    pub const NEVER: u32 = 1 << 27;
    /// UDP: in which the target's first reply must come (AWS: a return path within 30 s); put off by the client's
    /// datagrams.
    pub const UNREPLIED: u32 = 30;
    /// UDP: a client's datagrams from elsewhere are its own if the old place has been silent for so long. A neighbour
    /// who knows no more than addresses and ports cannot draw a flow to itself that is in use.
    pub const UDP_PLACE: u32 = 5;
}

/// How far ahead of the expected number a reset may be and still be genuine: data in flight that is not acknowledged
/// yet.
pub const RESET_WINDOW: u32 = 1 << 22;
/// How much data an acknowledgement that ends a handshake may cover beyond the SYN.
const HANDSHAKE_WINDOW: u32 = 1 << 20;

/// Seconds that a flow lives without a packet.
#[inline(always)]
pub const fn lifetime(state: FlowState, idle_s: u16) -> u32 {
    match state {
        FlowState::SynSent | FlowState::SynReceived => hold::HALF_OPEN,
        FlowState::LastAck => hold::LAST_ACK,
        FlowState::TimeWait => hold::TIME_WAIT,
        FlowState::Resetting => hold::RESETTING,
        FlowState::Established if idle_s == IDLE_NEVER => hold::NEVER,
        // A flow of which one side has ended is forgotten some day.
        FlowState::Closing if idle_s == IDLE_NEVER => hold::HALF_CLOSED,
        FlowState::Unreplied => hold::UNREPLIED,
        FlowState::Established | FlowState::Closing | FlowState::Free | FlowState::Busy => idle_s as u32,
    }
}

/// Seconds that a flow lives whose packets only refresh it; none where a packet may change the flow's state. A client's
/// datagrams keep a stream in one direction.
#[inline(always)]
pub const fn lifetime_unchanged(meta: Meta) -> Option<u32> {
    match meta.state {
        FlowState::Established => Some(meta.idle_s as u32),
        FlowState::Unreplied if meta.forward() => Some(hold::UNREPLIED),
        FlowState::Unreplied
        | FlowState::Free
        | FlowState::Busy
        | FlowState::SynSent
        | FlowState::SynReceived
        | FlowState::Closing
        | FlowState::LastAck
        | FlowState::TimeWait
        | FlowState::Resetting => None,
    }
}

/// What the transition needs of a segment.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub from_client: bool,
    pub flags: Flags,
    pub seq: u32,
    pub ack: u32,
    /// Payload plus SYN and FIN.
    pub sequence_len: u32,
}

/// Where the flow is: the reverse entry's state, the flags that both share, and both entries' `ack`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    pub state: FlowState,
    /// `CLIENT_FIN`, `TARGET_FIN`, `CLIENT_RST`.
    pub flags: u8,
    /// `Slot::ack` of the forward entry.
    pub client_ack: u32,
    /// `Slot::ack` of the reverse entry.
    pub target_ack: u32,
}

/// What is done with the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Forward,
    /// Forward it and forget the flow.
    ForwardAndClose(Counter),
    /// A new connection from the same address and port: forget the flow and open another.
    Replace,
    Drop(Counter),
}

/// The next state and what is done with the segment.
#[inline(always)]
pub fn next(flow: Flow, event: Event) -> (Flow, Step) {
    let Flow { state, flags, client_ack, target_ack } = flow;
    let Event { from_client, flags: tcp, seq, ack, sequence_len } = event;
    if !tcp.valid() {
        return (flow, Step::Drop(Counter::InvalidFlags));
    }
    if tcp.has(Flags::RST) {
        return reset(flow, event);
    }
    if tcp.has(Flags::SYN) {
        return match (from_client, tcp.has(Flags::ACK)) {
            (true, false) => match state {
                FlowState::LastAck | FlowState::TimeWait | FlowState::Resetting => (flow, Step::Replace),
                FlowState::SynSent
                | FlowState::SynReceived
                | FlowState::Established
                | FlowState::Closing
                | FlowState::Unreplied
                | FlowState::Free
                | FlowState::Busy => (flow, Step::Forward),
            },
            (false, true) => match state {
                FlowState::SynSent | FlowState::SynReceived => {
                    let client_ack = seq.wrapping_add(1);
                    (Flow { state: FlowState::SynReceived, client_ack, ..flow }, Step::Forward)
                }
                FlowState::Established
                | FlowState::Closing
                | FlowState::LastAck
                | FlowState::TimeWait
                | FlowState::Resetting
                | FlowState::Unreplied
                | FlowState::Free
                | FlowState::Busy => (flow, Step::Forward),
            },
            (true, true) => (flow, Step::Drop(Counter::InvalidFlags)),
            (false, false) => (flow, Step::Drop(Counter::SynFromTarget)),
        };
    }
    let mut next = flow;
    match state {
        FlowState::SynReceived if from_client && within(ack, client_ack, HANDSHAKE_WINDOW) => {
            next.state = FlowState::Established;
        }
        FlowState::SynSent | FlowState::SynReceived => return (flow, Step::Forward),
        FlowState::Resetting => {
            let by_client = flags & Meta::CLIENT_RST != 0;
            if by_client == from_client {
                return (flow, Step::Forward);
            }
            // Sent before the reset came, and what it acknowledges is all that the reset's sender had sent: so the
            // reset had exactly the number that its receiver waits for, and has ended the connection there.
            let (finished, met) = match by_client {
                true => (flags & Meta::CLIENT_FIN != 0, ack == target_ack),
                false => (flags & Meta::TARGET_FIN != 0, ack == client_ack),
            };
            if met && !finished {
                return (flow, Step::Forward);
            }
            next.flags &= !Meta::CLIENT_RST;
            next.state = match flags & (Meta::CLIENT_FIN | Meta::TARGET_FIN) {
                0 => FlowState::Established,
                _ => FlowState::Closing,
            };
        }
        FlowState::LastAck => {
            return match from_client && ack == client_ack {
                true => (flow, Step::ForwardAndClose(Counter::FlowClosed)),
                false => (flow, Step::Forward),
            };
        }
        FlowState::TimeWait => return (flow, Step::Forward),
        FlowState::Established | FlowState::Closing | FlowState::Unreplied | FlowState::Free | FlowState::Busy => {}
    }
    // Until the other side's FIN the acknowledgement number follows the traffic; then it is the one that answers the
    // FIN.
    if from_client && next.flags & Meta::TARGET_FIN == 0 {
        next.client_ack = ack;
    }
    if !from_client && next.flags & Meta::CLIENT_FIN == 0 {
        next.target_ack = ack;
    }
    if tcp.has(Flags::FIN) {
        let end = seq.wrapping_add(sequence_len);
        if from_client {
            if next.flags & Meta::CLIENT_FIN == 0 {
                next.target_ack = end;
                next.state = match next.flags & Meta::TARGET_FIN {
                    0 => FlowState::Closing,
                    _ => FlowState::TimeWait,
                };
                next.flags |= Meta::CLIENT_FIN;
            }
        } else if next.flags & Meta::TARGET_FIN == 0 {
            next.client_ack = end;
            next.state = match next.flags & Meta::CLIENT_FIN {
                0 => FlowState::Closing,
                // A target that has not seen the client's FIN closes at the same time, and keeps the pair too.
                _ if ack != target_ack => FlowState::TimeWait,
                _ => FlowState::LastAck,
            };
            next.flags |= Meta::TARGET_FIN;
        }
    }
    (next, Step::Forward)
}

#[inline(always)]
fn reset(flow: Flow, event: Event) -> (Flow, Step) {
    let (expected, counter) = if event.from_client {
        (flow.target_ack, Counter::FlowResetByClient)
    } else {
        (flow.client_ack, Counter::FlowResetByTarget)
    };
    // A closed port answers a SYN with a reset that acknowledges it (RFC 9293 section 3.10.7.1).
    let refuses = !event.from_client
        && flow.state == FlowState::SynSent
        && event.flags.has(Flags::ACK)
        && event.ack == flow.target_ack;
    // In SynSent the client's acknowledgement number is not known, so only the client's own reset can be exact. In
    // TimeWait the target may ignore resets (RFC 1337): the port stays held.
    let exact = event.seq == expected
        && (event.from_client || flow.state != FlowState::SynSent)
        && flow.state != FlowState::Resetting
        && flow.state != FlowState::TimeWait;
    if refuses || exact {
        return (flow, Step::ForwardAndClose(counter));
    }
    let on_probation = match flow.state {
        FlowState::Established | FlowState::Closing => within(event.seq, expected, RESET_WINDOW),
        FlowState::SynSent
        | FlowState::SynReceived
        | FlowState::LastAck
        | FlowState::TimeWait
        | FlowState::Resetting
        | FlowState::Unreplied
        | FlowState::Free
        | FlowState::Busy => false,
    };
    if on_probation {
        let flags = if event.from_client { flow.flags | Meta::CLIENT_RST } else { flow.flags & !Meta::CLIENT_RST };
        let mut next = Flow { state: FlowState::Resetting, flags, ..flow };
        // In this state the receiver's number is the reset's: no reset is exact by it.
        if event.from_client && flags & Meta::CLIENT_FIN == 0 {
            next.target_ack = event.seq;
        }
        if !event.from_client && flags & Meta::TARGET_FIN == 0 {
            next.client_ack = event.seq;
        }
        return (next, Step::Forward);
    }
    (flow, Step::Forward)
}

#[cfg(test)]
mod tests;
