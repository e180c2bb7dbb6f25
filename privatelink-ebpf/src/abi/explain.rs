//! What the program `privatelink_explain` tells of the one packet that it is asked about.

use bytemuck::{Pod, Zeroable};

use super::{Counter, assert_size, aya_pod, service::PortFlags};

/// Map `TRACE`, one record. The agent writes it zeroed but for what it asks, runs the program, and reads it.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Trace {
    /// One bit a [`Counter`]: those that the packet would have raised.
    pub counters: [u64; 2],
    /// A `Verdict` as bits, or [`Trace::FORWARD`].
    pub verdict: u32,
    /// What was looked up, and found: see the constants.
    pub found: u32,
    /// With [`Trace::FRONTEND`]: index into `LISTENERS`.
    pub listener: u32,
    /// With [`Trace::FRONTEND`]: index into `ENDPOINTS`; 0: none.
    pub endpoint: u32,
    /// With [`Trace::TARGET`]: index into `TARGETS`, the last one looked at.
    pub target: u32,
    /// With [`Trace::FLOW`]: the state of the flow that the client's address and port had already, as a `FlowState`.
    pub flow_state: u32,
    /// If forwarded: the interface that it would leave by, and that port's `PortFlags`.
    pub out_ifindex: u32,
    pub out_flags: u32,
    /// Asked: 1 if the stash has no room. A packet's program finds that out by trying.
    pub stash_full: u32,
    pub _pad: u32,
}

impl Trace {
    /// `verdict` of a packet that would be rewritten and sent on.
    pub const FORWARD: u32 = 0x200;

    /// `found`: a listener for the packet's destination.
    pub const FRONTEND: u32 = 1;
    /// `found`: a target.
    pub const TARGET: u32 = 2;
    /// `found`: a client's flow.
    pub const FLOW: u32 = 4;

    /// A question, before the run.
    pub const fn question(stash_full: bool) -> Self {
        Self {
            counters: [0; 2],
            verdict: 0,
            found: 0,
            listener: 0,
            endpoint: 0,
            target: 0,
            flow_state: 0,
            out_ifindex: 0,
            out_flags: 0,
            stash_full: stash_full as u32,
            _pad: 0,
        }
    }

    #[inline(always)]
    pub const fn has(&self, found: u32) -> bool {
        self.found & found != 0
    }

    /// The packet would have raised this counter.
    pub const fn counted(&self, counter: Counter) -> bool {
        let [low, high] = self.counters;
        let bit = counter as u32;
        (if bit < 64 { low >> bit } else { high >> (bit - 64) }) & 1 != 0
    }

    /// The counters that the packet would have raised, in the order of their table.
    pub fn counts(&self) -> impl Iterator<Item = Counter> + '_ {
        Counter::ALL.iter().copied().filter(|counter| self.counted(*counter))
    }

    pub const fn out_port(&self) -> PortFlags {
        PortFlags(self.out_flags as u16)
    }
}

assert_size!(Trace = 56);
aya_pod!(Trace);
