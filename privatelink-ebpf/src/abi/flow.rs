//! The flow table: keys, slots, states.
//!
//! A flow is two entries, one a direction, each enough to rewrite its own packets. The *forward* entry (client to
//! target) is found by what the client sends, the *reverse* entry by what the target sends; the reverse entry owns the
//! source port.

use bytemuck::{Pod, Zeroable};

use super::{Ip4, Ip6, L4Port, Mac, Proto, VpcIndex, addr::IPV6, assert_size, aya_pod};

/// What identifies a packet's flow entry: its own addresses and ports, and the VPC of the port that it came in on.
///
/// With [`IPV6`] set in `proto` the two address fields hold the halves of a keyed 64-bit hash of the two IPv6 addresses
/// (`datapath::v6::pair`): so both families share the table, its entries and everything that happens to them. What an
/// entry needs of the addresses themselves is in `service::Target` and in map `CLIENTS6`.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Pod, Zeroable)]
pub struct FlowKey {
    pub src: Ip4,
    pub dst: Ip4,
    pub src_port: L4Port,
    pub dst_port: L4Port,
    pub vpc: VpcIndex,
    pub proto: u8,
    pub _pad: u8,
}

impl FlowKey {
    #[inline(always)]
    pub const fn tcp(vpc: VpcIndex, src: Ip4, src_port: L4Port, dst: Ip4, dst_port: L4Port) -> Self {
        Self { src, dst, src_port, dst_port, vpc, proto: Proto::Tcp.number(), _pad: 0 }
    }

    /// The same addresses and ports in another protocol.
    #[inline(always)]
    #[must_use]
    pub const fn with_proto(self, proto: u8) -> Self {
        Self { proto, ..self }
    }

    /// The packets are IPv6.
    #[inline(always)]
    pub const fn ipv6(&self) -> bool {
        self.proto & IPV6 != 0
    }

    /// The two words that are hashed and compared.
    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        let lo = (self.src.word() as u64) | (self.dst.word() as u64) << 32;
        let hi = (self.src_port.word() as u64)
            | (self.dst_port.word() as u64) << 16
            | (self.vpc.0 as u64) << 32
            | (self.proto as u64) << 48;
        [lo, hi]
    }

    #[inline(always)]
    pub const fn from_words([lo, hi]: [u64; 2]) -> Self {
        Self {
            src: Ip4::from_word(lo as u32),
            dst: Ip4::from_word((lo >> 32) as u32),
            src_port: L4Port::from_word(hi as u16),
            dst_port: L4Port::from_word((hi >> 16) as u16),
            vpc: VpcIndex((hi >> 32) as u16),
            proto: (hi >> 48) as u8,
            _pad: 0,
        }
    }
}

/// One flow entry: 64 bytes, one cache line, key inside.
///
/// Concurrency: `meta` is the entry's lock and version. It is changed by compare-and-swap only, except by the one that
/// made it [`FlowState::Busy`]. Everything else is written while the entry is busy; `last_seen`, `ack` and `peer_mac`
/// are also written by packets, each word by a single store, where a lost update does no harm. Who reads the other
/// fields reads `meta` before and after and discards what it read if the version differs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Slot {
    /// See [`Meta`].
    pub meta: u64,
    /// [`FlowKey::words`] of the packets that this entry is for.
    pub key: [u64; 2],
    /// The rewritten packet: source and destination address (wire order), or what stands for them in the twin's key.
    pub new_src: Ip4,
    pub new_dst: Ip4,
    /// The rewritten packet: source and destination L4 port (wire order).
    pub new_src_port: L4Port,
    pub new_dst_port: L4Port,
    /// One's-complement difference that the address change makes to a checksum, folded to 16 bits. With
    /// [`Meta::PROXY`]: the lower half of the client's initial sequence number.
    pub d_addr: u16,
    /// The same for the ports; the upper half.
    pub d_port: u16,
    /// Index into `TARGETS`.
    pub target: u32,
    /// The target's generation when the flow was made.
    pub generation: u16,
    /// Index into `ENDPOINT_STATS`.
    pub endpoint: u16,
    /// Tick of the last packet of this direction.
    pub last_seen: u32,
    /// Open: the last acknowledgement number that this direction's sender sent (host order). After the other side's
    /// FIN: the acknowledgement number that answers that FIN.
    pub ack: u32,
    /// Forward entry: the client's Ethernet address as last seen. Reverse entry: where to send (the same address).
    pub peer_mac: Mac,
    /// Reverse entry: interface to leave by. Forward entry: interface that the client's packets come in on.
    pub ifindex: u16,
}

impl Slot {
    pub const FREE: Self = Self {
        meta: 0,
        key: [0; 2],
        new_src: Ip4::UNSPECIFIED,
        new_dst: Ip4::UNSPECIFIED,
        new_src_port: L4Port::new(0),
        new_dst_port: L4Port::new(0),
        d_addr: 0,
        d_port: 0,
        target: 0,
        generation: 0,
        endpoint: 0,
        last_seen: 0,
        ack: 0,
        peer_mac: Mac::ZERO,
        ifindex: 0,
    };
}

/// Ways of a bucket.
pub const WAYS: usize = 4;

/// Four entries; a value of map `FLOWS`.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Bucket {
    pub slots: [Slot; WAYS],
}

/// The word `Slot::meta` taken apart: version (32 bits, grows with every owner of the slot), state (7), whether the
/// flow is translated (1), flags (8), idle timeout in seconds (16).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    pub version: u32,
    pub state: FlowState,
    /// The flow's two sides are of different IP families. Beside the state, so that the fast paths, which compare the
    /// whole byte, leave such flows.
    pub translated: bool,
    pub flags: u8,
    pub idle_s: u16,
}

impl Meta {
    /// The entry is the client-to-target one.
    pub const FORWARD: u8 = 1;
    /// The client's FIN has been seen (both entries).
    pub const CLIENT_FIN: u8 = 2;
    /// The target's FIN has been seen (both entries).
    pub const TARGET_FIN: u8 = 4;
    /// This direction's sender leaves checksums to its device: XDP cannot rewrite its packets, TC can.
    pub const TC_ONLY: u8 = 8;
    /// The reset of [`FlowState::Resetting`] came from the client.
    pub const CLIENT_RST: u8 = 16;
    /// The entry is in the stash.
    pub const STASHED: u8 = 32;
    /// The target sees a PROXY protocol header that the client has not sent (both entries): `datapath::proxy`. The
    /// entry holds the client's initial sequence number where others hold what their rewrite adds to checksums.
    pub const PROXY: u8 = 64;
    /// With [`Meta::PROXY`]: the target has acknowledged the header. (What [`Meta::TC_ONLY`] says goes without saying
    /// there.)
    pub const HEADER_ACKNOWLEDGED: u8 = Self::TC_ONLY;
    /// The flow's bits count against its endpoint's limit (both entries): `datapath::limit`.
    pub const METERED: u8 = 128;
    /// What belongs to one entry and not to its flow's state.
    pub const OWN: u8 = Self::FORWARD | Self::TC_ONLY | Self::STASHED | Self::PROXY | Self::METERED;

    #[inline(always)]
    pub const fn pack(self) -> u64 {
        (self.version as u64)
            | (self.state as u64) << 32
            | (self.translated as u64) << 39
            | (self.flags as u64) << 40
            | (self.idle_s as u64) << 48
    }

    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            version: word as u32,
            state: FlowState::from_bits((word >> 32) as u8 & 0x7f),
            translated: word >> 39 & 1 != 0,
            flags: (word >> 40) as u8,
            idle_s: (word >> 48) as u16,
        }
    }

    #[inline(always)]
    pub const fn forward(self) -> bool {
        self.flags & Self::FORWARD != 0
    }
}

/// Where a flow is in its life. RFC 9293 section 3.3.2 seen from the middle; the diagram is in `datapath::tcp_state`.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FlowState {
    /// Nobody's.
    Free = 0,
    /// Being written or taken away.
    Busy = 1,
    /// The client's SYN has been forwarded; counts against the half-open budgets.
    SynSent = 2,
    /// The target has answered with SYN-ACK; still half-open until the client acknowledges.
    SynReceived = 3,
    Established = 4,
    /// One side has sent FIN (the meta flags say which).
    Closing = 5,
    /// Both have sent FIN, the client first: gone with the client's last acknowledgement.
    LastAck = 6,
    /// Both have sent FIN, the target first: the target holds the address pair in TIME_WAIT, so the port is held back.
    TimeWait = 7,
    /// A reset that may be genuine has passed; any later packet of its receiver proves that it was not.
    Resetting = 8,
    /// UDP: the target has not answered yet; counts against the half-open budgets.
    Unreplied = 9,
}

impl FlowState {
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Busy,
            2 => Self::SynSent,
            3 => Self::SynReceived,
            4 => Self::Established,
            5 => Self::Closing,
            6 => Self::LastAck,
            7 => Self::TimeWait,
            8 => Self::Resetting,
            9 => Self::Unreplied,
            _ => Self::Free,
        }
    }

    /// Counts against the half-open budgets.
    #[inline(always)]
    pub const fn half_open(self) -> bool {
        match self {
            Self::SynSent | Self::SynReceived | Self::Unreplied => true,
            Self::Free
            | Self::Busy
            | Self::Established
            | Self::Closing
            | Self::LastAck
            | Self::TimeWait
            | Self::Resetting => false,
        }
    }

    /// Counts against its endpoint's limit of connections: it is not over yet for one of its ends.
    #[inline(always)]
    pub const fn open(self) -> bool {
        match self {
            Self::SynSent
            | Self::SynReceived
            | Self::Unreplied
            | Self::Established
            | Self::Closing
            | Self::Resetting => true,
            Self::Free | Self::Busy | Self::LastAck | Self::TimeWait => false,
        }
    }

    /// The name that `privatelink flow list` shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Busy => "busy",
            Self::SynSent => "syn-sent",
            Self::SynReceived => "syn-received",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::LastAck => "last-ack",
            Self::TimeWait => "time-wait",
            Self::Resetting => "resetting",
            Self::Unreplied => "unreplied",
        }
    }
}

/// Value of map `CLIENTS6`, by the key of the reverse entry: the two addresses of an IPv6 client's own packets.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Addresses6 {
    pub src: Ip6,
    pub dst: Ip6,
}

assert_size!(Addresses6 = 32, FlowKey = 16, Slot = 64, Bucket = 256);
aya_pod!(Addresses6, FlowKey, Slot, Bucket);
