//! Records of the ring buffer `EVENTS`.

use bytemuck::{Pod, Zeroable};

use super::{Ip4, Ip6, L4Port, Mac, VpcIndex, assert_size, aya_pod};

/// What a record tells.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    FlowOpened = 1,
    FlowClosed = 2,
    /// An ARP packet told an Ethernet address.
    Neighbor = 3,
}

impl EventKind {
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            1 => Some(Self::FlowOpened),
            2 => Some(Self::FlowClosed),
            3 => Some(Self::Neighbor),
            _ => None,
        }
    }
}

/// One record of fixed size. For a flow: the client's view (`client`, `service`), the target's view (`node`, `target`).
/// For a neighbour: `client` is its address, `mac` its Ethernet address, `ifindex` the port that heard it.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Event {
    /// An [`EventKind`].
    pub kind: u32,
    pub ifindex: u32,
    pub client: Ip4,
    pub service: Ip4,
    pub node: Ip4,
    pub target: Ip4,
    pub client_port: L4Port,
    pub service_port: L4Port,
    pub node_port: L4Port,
    pub target_port: L4Port,
    pub vpc: VpcIndex,
    pub endpoint: u16,
    /// Index into `TARGETS`.
    pub target_index: u32,
    /// For a closed flow: the [`super::Counter`] that names why.
    pub reason: u32,
    pub mac: Mac,
    /// A flow's [`super::Proto`], as its forward key has it; or of a neighbour, [`super::addr::IPV6`] if `address6`
    /// names it.
    pub proto: u8,
    pub _pad: u8,
    /// A neighbour's IPv6 address, or a flow's client's.
    pub address6: Ip6,
}

assert_size!(Event = 68);
aya_pod!(Event);
