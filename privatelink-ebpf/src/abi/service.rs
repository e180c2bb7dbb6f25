//! Ports, addresses, frontends, listeners, targets: what the agent writes and the datapath reads.

use bytemuck::{Pod, Zeroable};

use super::{Ip4, Ip6, L4Port, Mac, MacBits, Proto, VpcIndex, addr::IPV6, assert_size, aya_pod};

/// Protocol numbers in the keys of frontends that are no listener's: only their policies count.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// A set of flags in 16 bits of a record.
macro_rules! flags {
    ($name:ident) => {
        #[repr(transparent)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
        pub struct $name(pub u16);

        impl $name {
            #[inline(always)]
            pub const fn has(self, flag: Self) -> bool {
                self.0 & flag.0 != 0
            }

            #[must_use]
            pub const fn with(self, flag: Self) -> Self {
                Self(self.0 | flag.0)
            }
        }
    };
}

/// A host interface that belongs to one VPC. Map `PORTS`, key: interface index.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Port {
    /// [`VpcIndex::NONE`]: the interface is no port.
    pub vpc: VpcIndex,
    pub flags: PortFlags,
    /// The interface's MTU: the largest IP packet in bytes.
    pub mtu: u32,
    /// The interface's own address: what ARP answers carry, and the source of frames sent here.
    pub mac: Mac,
    pub _pad: [u8; 2],
}

flags!(PortFlags);

impl PortFlags {
    /// Frames that are not ours go on to the host's stack; without it the port is isolated.
    pub const SHARED: Self = Self(1);
    /// The interface takes frames that XDP redirects to it (its index is in `XDP_PORTS`).
    pub const XDP_TRANSMIT: Self = Self(2);
    /// A veth whose peer is in another namespace: TC leaves by `bpf_redirect_peer`.
    pub const PEER: Self = Self(4);
    /// Frames that XDP sends back out of the port are redirected to it. `XDP_TX` on a veth wakes the far end only if
    /// that has an XDP program too (`veth_xdp_flush`, as of kernel 6.18).
    pub const XDP_REDIRECT: Self = Self(8);
}

impl Port {
    /// `mac`, read as the word that it and the padding behind it are.
    #[inline(always)]
    pub fn mac_bits(&self) -> MacBits {
        const _: () = assert!(core::mem::offset_of!(Port, mac) == 8);
        // SAFETY: the record is aligned to 8 bytes and 16 bytes long.
        MacBits::from_word(unsafe { core::ptr::from_ref(self).cast::<u64>().add(1).read() })
    }
}

/// Key of map `ADDRESSES`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct AddressKey {
    pub ip: Ip4,
    pub vpc: VpcIndex,
    pub _pad: u16,
}

impl AddressKey {
    #[inline(always)]
    pub const fn new(vpc: VpcIndex, ip: Ip4) -> Self {
        Self { ip, vpc, _pad: 0 }
    }
}

/// Value of map `ADDRESSES`: an address that the datapath owns in a VPC.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Address {
    /// An [`AddressKind`].
    pub kind: u32,
}

/// What an owned address is.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressKind {
    /// An endpoint in a consumer VPC.
    Endpoint = 1,
    /// A load balancer's node address in the provider VPC.
    Node = 2,
    /// A target's address in the host VPC, or the DNS server's in a VPC.
    Internal = 3,
}

impl From<AddressKind> for Address {
    fn from(kind: AddressKind) -> Self {
        Self { kind: kind as u32 }
    }
}

/// What the keys of map `ALIASES` hold behind their prefix length, which counts [`AliasKey::VPC_BITS`] and the leading
/// bits of the address. Addresses that lie in several prefixes are the longest one's.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct AliasKey {
    pub vpc: VpcIndex,
    pub _pad: u16,
    pub ip: Ip4,
}

impl AliasKey {
    /// The bits in front of the address: all count.
    pub const VPC_BITS: u32 = 32;

    #[inline(always)]
    pub const fn new(vpc: VpcIndex, ip: Ip4) -> Self {
        Self { vpc, _pad: 0, ip }
    }
}

/// Value of map `ALIASES`: the endpoint for which packets to these addresses are, though nobody is told that they are
/// ours.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Alias {
    /// The endpoint's address, whose frontends serve the aliases too; never zero.
    pub endpoint: Ip4,
}

/// What the keys of map `PORT_RANGES` hold behind their prefix length, which counts [`RangeKey::FIXED_BITS`] and the
/// leading bits of the port. A frontend for many ports is kept once in `FRONTENDS`, under the first of them; a port for
/// which there is a frontend of its own is not looked for here.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct RangeKey {
    pub ip: Ip4,
    pub vpc: VpcIndex,
    pub proto: u8,
    pub _pad: u8,
    pub port: L4Port,
    pub _end: u16,
}

impl RangeKey {
    /// The bits in front of the port: all count.
    pub const FIXED_BITS: u32 = 64;

    #[inline(always)]
    pub const fn new(vpc: VpcIndex, ip: Ip4, port: L4Port, proto: u8) -> Self {
        Self { ip, vpc, proto, _pad: 0, port, _end: 0 }
    }
}

/// Value of map `PORT_RANGES`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Range {
    /// Under which the frontend of all these ports is in `FRONTENDS`; never zero.
    pub port: L4Port,
    pub _pad: u16,
}

impl Range {
    #[inline(always)]
    pub const fn new(port: L4Port) -> Self {
        Self { port, _pad: 0 }
    }
}

/// Key of map `ADDRESSES6`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct Address6Key {
    pub ip: Ip6,
    pub vpc: VpcIndex,
    pub _pad: u16,
}

impl Address6Key {
    #[inline(always)]
    pub const fn new(vpc: VpcIndex, ip: Ip6) -> Self {
        Self { ip, vpc, _pad: 0 }
    }
}

/// Key of map `FRONTENDS6`: an IPv6 address and L4 port that lead to a listener.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct Frontend6Key {
    pub ip: Ip6,
    pub vpc: VpcIndex,
    pub port: L4Port,
    /// A [`Proto`]'s number.
    pub proto: u8,
    pub _pad: [u8; 3],
}

impl Frontend6Key {
    #[inline(always)]
    pub const fn new(vpc: VpcIndex, ip: Ip6, port: L4Port, proto: Proto) -> Self {
        Self { ip, vpc, port, proto: proto.number(), _pad: [0; 3] }
    }

    /// As [`FrontendKey::echo`].
    #[inline(always)]
    pub const fn echo(vpc: VpcIndex, ip: Ip6) -> Self {
        Self { ip, vpc, port: L4Port::new(0), proto: ICMPV6, _pad: [0; 3] }
    }
}

/// Key of map `FRONTENDS`: an address and L4 port that lead to a listener.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct FrontendKey {
    pub ip: Ip4,
    pub vpc: VpcIndex,
    pub port: L4Port,
    pub proto: u8,
    pub _pad: [u8; 3],
}

impl FrontendKey {
    #[inline(always)]
    pub const fn new(vpc: VpcIndex, ip: Ip4, port: L4Port, proto: Proto) -> Self {
        Self { ip, vpc, port, proto: proto.number(), _pad: [0; 3] }
    }

    /// Whose policy says who may send an address of ours an echo request; without it, everybody.
    #[inline(always)]
    pub const fn echo(vpc: VpcIndex, ip: Ip4) -> Self {
        Self { ip, vpc, port: L4Port::new(0), proto: ICMP, _pad: [0; 3] }
    }

    /// The frontend that a packet's destination would be.
    #[inline(always)]
    pub const fn of(key: &super::flow::FlowKey) -> Self {
        Self { ip: key.dst, vpc: key.vpc, port: key.dst_port, proto: key.proto, _pad: [0; 3] }
    }
}

/// Value of map `FRONTENDS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Frontend {
    /// Index into `LISTENERS`.
    pub listener: u32,
    /// Index into `POLICIES`: who may connect; [`super::security::Policy::NONE`]: everybody.
    pub policy: u32,
    /// Index into `ENDPOINTS` and `ENDPOINT_STATS`; 0 for a node address or a health check.
    pub endpoint: u16,
    pub _pad: u16,
}

/// One protocol of a listener, or a health check's way to its one target. Map `LISTENERS`.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Listener {
    /// First entry of its slice of `RINGS`.
    pub ring_base: u32,
    /// Entries in the slice; 0: no target may be used (a connection is refused with RST).
    pub ring_len: u32,
    /// Seconds without a packet after which a flow is forgotten (AWS: TCP 60–6000, default 350; UDP 120);
    /// [`IDLE_NEVER`].
    pub idle_s: u16,
    pub flags: ListenerFlags,
    pub _pad: [u8; 4],
}

/// `Listener::idle_s` and `Meta::idle_s`: an established flow is not forgotten however long it is silent.
pub const IDLE_NEVER: u16 = u16::MAX;

impl Listener {
    /// Slots of a row; see [`ListenerFlags::STICKY_ROWS`].
    pub const COLUMNS: u32 = 16;
}

/// Key of map `PARTED`: the flows of a listener to a target whose weight there has become 0.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct Parted {
    /// Index into `LISTENERS`.
    pub listener: u32,
    /// Index into `TARGETS`.
    pub target: u32,
}

flags!(ListenerFlags);

impl ListenerFlags {
    /// The ring holds unhealthy targets, because too few are healthy.
    pub const FAIL_OPEN: Self = Self(1);
    /// The ring is empty because the load balancer's security groups let it connect to none of the targets.
    pub const OUTBOUND_DENIED: Self = Self(2);
    /// A client's address alone decides its target (AWS stickiness of type `source_ip`).
    pub const STICKY: Self = Self(4);
    /// The ring is rows of [`Listener::COLUMNS`] slots: a client's address decides the row, which is of one target
    /// group, and the connection the slot in it (AWS target group stickiness).
    pub const STICKY_ROWS: Self = Self(8);
}

/// An entry of map `RINGS`: a target's index, and what a flow to it is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingEntry(pub u32);

impl RingEntry {
    /// The target's group wants the PROXY protocol.
    pub const PROXY: u32 = 1 << 31;

    /// The target's group wants to see clients' own addresses.
    pub const PRESERVE: u32 = 1 << 30;

    /// Index into `TARGETS`.
    #[inline(always)]
    pub const fn target(self) -> u32 {
        self.0 & !(Self::PROXY | Self::PRESERVE)
    }

    #[inline(always)]
    pub const fn preserve(self) -> bool {
        self.0 & Self::PRESERVE != 0
    }

    #[inline(always)]
    pub const fn proxy(self) -> bool {
        self.0 & Self::PROXY != 0
    }
}

/// Key of map `STAND_INS`: a client whose own address targets behind a port see.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Pod, Zeroable)]
pub struct StandIn {
    /// The client's address.
    pub ip: Ip4,
    /// The interface behind which such a target is.
    pub ifindex: u32,
    pub vpc: VpcIndex,
    pub _pad: u16,
}

impl StandIn {
    #[inline(always)]
    pub const fn new(vpc: VpcIndex, ip: Ip4, ifindex: u32) -> Self {
        Self { ip, ifindex, vpc, _pad: 0 }
    }
}

/// An endpoint's id as text; zeros: none. Map `ENDPOINT_IDS`.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct EndpointIdText(pub [u8; 22]);

/// One address, L4 port and protocol behind one node address. Map `TARGETS`.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Pod, Zeroable)]
pub struct Target {
    pub ip: Ip4,
    /// The load balancer's address: the only source that the target sees.
    pub node_ip: Ip4,
    /// 0: the port that the client asked for ([`Target::port_for`]).
    pub port: L4Port,
    pub vpc: VpcIndex,
    /// Raised by the agent to end every flow to this target at its next packet. An index that is used again goes on
    /// counting from where it was.
    pub generation: u16,
    pub flags: TargetFlags,
    /// The port (interface index) behind which the next hop is.
    pub ifindex: u32,
    /// Index into `POOLS`.
    pub pool: u32,
    /// The next hop's Ethernet address; meaningful with [`TargetFlags::RESOLVED`].
    pub mac: Mac,
    /// A [`Proto`]; with [`IPV6`] the target is reached by `ip6` and `node_ip6`, and `ip` and `node_ip` are zero.
    pub proto: u8,
    pub _pad: u8,
    pub ip6: Ip6,
    pub node_ip6: Ip6,
}

impl Target {
    /// The target's port for a client that asks for `port`.
    #[inline(always)]
    pub const fn port_for(&self, port: L4Port) -> L4Port {
        if self.port.word() == 0 { port } else { self.port }
    }

    /// The target is reached by IPv6.
    #[inline(always)]
    pub const fn ipv6(&self) -> bool {
        self.proto & IPV6 != 0
    }

    /// `mac`, read as the word that it and the padding behind it are.
    #[inline(always)]
    pub fn mac_bits(&self) -> MacBits {
        const _: () = assert!(core::mem::offset_of!(Target, mac) == 24);
        // SAFETY: the record is aligned to 8 bytes and 64 bytes long; what follows the address is cut off.
        MacBits::from_word(unsafe { core::ptr::from_ref(self).cast::<u64>().add(3).read() })
    }
}

flags!(TargetFlags);

impl TargetFlags {
    /// `mac` and `ifindex` are known; without it new flows are refused and counted as `next_hop_unresolved`.
    pub const RESOLVED: Self = Self(1);
    /// The target is gone. The record stays, for the flows that still name its index, until none does; only then does
    /// the index stand for something else.
    pub const RETIRED: Self = Self(2);
}

assert_size!(
    Port = 16,
    AddressKey = 8,
    Address = 4,
    AliasKey = 8,
    Alias = 4,
    RangeKey = 12,
    Range = 4,
    FrontendKey = 12,
    Frontend = 12,
    Listener = 16,
    Parted = 8,
    StandIn = 12,
    Target = 64,
    Address6Key = 20,
    Frontend6Key = 24,
    EndpointIdText = 22
);
aya_pod!(
    Address6Key,
    Frontend6Key,
    Port,
    AddressKey,
    Address,
    AliasKey,
    Alias,
    RangeKey,
    Range,
    FrontendKey,
    Frontend,
    Listener,
    Parted,
    StandIn,
    Target,
    EndpointIdText
);
