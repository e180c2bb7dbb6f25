//! ONE table of counters: id, name, kind, help. The datapath counts by variant; statistics, metrics and `explain` read
//! the table. Every packet that is refused has its own row.

/// What a counter's row is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CounterKind {
    /// Work done.
    Activity,
    /// A packet refused; `privatelink stats --drops` lists these.
    Drop,
    /// Something that an operator should look at.
    Symptom,
}

macro_rules! counters {
    ($($(#[doc = $help:literal])+ $variant:ident = $kind:ident $name:literal;)+) => {
        /// A counter's id: index into the per-CPU array `COUNTERS`.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Counter { $($(#[doc = $help])+ $variant),+ }

        impl Counter {
            pub const ALL: &[Self] = &[$(Self::$variant),+];
            pub const COUNT: usize = Self::ALL.len();

            /// The counter of an id; an id that is none counts as [`Counter::KernelRefused`].
            pub const fn from_bits(bits: u8) -> Self {
                $(if bits == Self::$variant as u8 {
                    return Self::$variant;
                })+
                Self::KernelRefused
            }

            /// The name in tables and metrics (snake case).
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            pub const fn kind(self) -> CounterKind {
                match self { $(Self::$variant => CounterKind::$kind),+ }
            }

            /// One sentence for people.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!($($help),+)),+ }
            }
        }
    };
}

counters! {
    /// flows opened: a target chosen, a source port claimed
    FlowOpened = Activity "flow_opened";
    /// flows opened whose target sees the client's own address and port (AWS preserve_client_ip)
    ClientIpPreserved = Activity "client_ip_preserved";
    /// flows whose target sees the node address instead of the client's, because both are one host or behind one port,
    /// so that replies would not come back through us
    ClientIpSamePort = Activity "client_ip_same_port";
    /// flows whose target sees the node address instead of the client's, because another flow to it shows the same
    /// address and port
    ClientIpCollision = Activity "client_ip_collision";
    /// flows that became established
    FlowEstablished = Activity "flow_established";
    /// flows ended by both sides' FIN
    FlowClosed = Activity "flow_closed";
    /// flows ended by a reset of the client
    FlowResetByClient = Activity "flow_reset_by_client";
    /// flows ended by a reset of the target
    FlowResetByTarget = Activity "flow_reset_by_target";
    /// flows forgotten after their idle timeout
    FlowExpiredIdle = Activity "flow_expired_idle";
    /// half-open flows whose handshake did not finish, or whose target did not reply, in time
    FlowExpiredHalfOpen = Activity "flow_expired_half_open";
    /// flows ended because their target was taken away
    FlowEndedWithTarget = Activity "flow_ended_with_target";
    /// flows ended because their endpoint was taken away
    FlowEndedWithEndpoint = Activity "flow_ended_with_endpoint";
    /// flows ended because the port that their client was behind went to another VPC
    FlowEndedWithPort = Activity "flow_ended_with_port";
    /// flows ended because the security groups no longer let their client in
    FlowEndedBySecurityGroup = Activity "flow_ended_by_security_group";
    /// flows ended because their target group's weight at the listener became 0
    FlowEndedByWeight = Activity "flow_ended_by_weight";
    /// flows replaced by a new connection from the same client address and port
    FlowReplaced = Activity "flow_replaced";
    /// flows that went into the stash because their buckets were full
    FlowStashed = Activity "flow_stashed";
    /// ports given back after the hold that follows a close by the target
    PortReleasedAfterHold = Activity "port_released_after_hold";
    /// ports whose hold was cut short because all ports towards the target were in use
    PortReusedEarly = Activity "port_reused_early";
    /// ARP requests for owned addresses answered
    ArpAnswered = Activity "arp_answered";
    /// IPv6 neighbour solicitations for owned addresses answered
    NdpAnswered = Activity "ndp_answered";
    /// resets sent by the load balancer itself (AWS TCP_ELB_Reset_Count)
    ResetSent = Activity "reset_sent";
    /// PROXY protocol headers sent, those that were sent again included
    ProxyHeaderSent = Activity "proxy_header_sent";
    /// SYNs above a half-open budget that were answered with a cookie
    CookieSent = Activity "cookie_sent";
    /// resets that answered a cookie: their source receives what is sent to it, and has a share of the budgets for 60 s
    CookieAccepted = Activity "cookie_accepted";
    /// fragments forwarded behind the first one of their packet
    FragmentForwarded = Activity "fragments_forwarded";
    /// fragments that came before the first one of their packet, and wait for it
    FragmentHeld = Activity "fragments_held";
    /// first fragments for which others had waited, which go on behind it
    FragmentsReleased = Activity "fragments_released";
    /// ICMP errors about packets of flows, translated and sent on
    IcmpErrorTranslated = Activity "icmp_error_translated";
    /// ICMP errors sent by the load balancer itself: fragmentation needed, time exceeded
    IcmpErrorSent = Activity "icmp_error_sent";
    /// ICMP echo requests to owned addresses answered
    EchoAnswered = Activity "echo_answered";
    /// frames that XDP handed to TC unmodified
    XdpPassedToTc = Activity "xdp_passed_to_tc";
    /// frames of a shared port that went on to the host's stack
    PassedToHost = Activity "passed_to_host";
    /// a client's Ethernet address changed within a flow
    ClientMoved = Activity "client_moved";

    /// frame too short for the headers that it claims
    Truncated = Drop "truncated";
    /// a header whose fields contradict each other (version, length, data offset)
    Malformed = Drop "malformed";
    /// fragment of a packet that is neither TCP nor UDP, of a flow with a PROXY protocol header, or of an IPv6 packet
    Fragment = Drop "fragment";
    /// fragment that arrived before the first one of its packet, or long after it
    FragmentOrphan = Drop "fragment_orphan";
    /// fragment that overlaps the first one of its packet
    FragmentOverlap = Drop "fragment_overlap";
    /// first fragment without the whole TCP header, or one that could be behind such a one (RFC 1858, RFC 3128)
    FragmentTiny = Drop "fragment_tiny";
    /// IPv4 header checksum, source or destination that cannot be forwarded (multicast, broadcast, loopback, zero)
    InvalidAddress = Drop "invalid_address";
    /// TTL would reach zero (answered with ICMP time exceeded)
    TtlExceeded = Drop "ttl_exceeded";
    /// larger than the MTU of the port that it would leave by (answered with ICMP fragmentation needed)
    MtuExceeded = Drop "mtu_exceeded";
    /// neither IPv4, IPv6 nor ARP, on an isolated port
    OtherEtherType = Drop "other_ether_type";
    /// IP protocol that no listener can have, to an owned address
    OtherProtocol = Drop "other_protocol";
    /// not for an owned address, on an isolated port
    NotOurs = Drop "not_ours";
    /// for an owned address, but no listener has this port
    NoListener = Drop "no_listener";
    /// the security groups of the endpoint or load balancer do not let the source in
    SecurityGroupDenied = Drop "security_group_denied";
    /// the load balancer's security groups let it connect to none of the targets
    SecurityGroupDeniedOutbound = Drop "security_group_denied_outbound";
    /// a packet whose source is an owned address
    SpoofedSource = Drop "spoofed_source";
    /// ARP packet that claims an owned address
    ArpForged = Drop "arp_forged";
    /// IPv6 neighbour discovery that claims an owned address
    NdpForged = Drop "ndp_forged";
    /// IPv6 neighbour or router discovery that needs no answer, on an isolated port
    NdpIgnored = Drop "ndp_ignored";
    /// IPv6 routing header, which would lead a packet past the rules (RFC 5095)
    RoutingHeader = Drop "routing_header";
    /// more or longer IPv6 extension headers than are looked behind
    ExtensionHeaders = Drop "extension_headers";
    /// ARP packet that needs no answer, on an isolated port
    ArpIgnored = Drop "arp_ignored";
    /// TCP segment without SYN that belongs to no flow (answered with RST), or datagram of a target that belongs to
    /// none
    NoFlow = Drop "no_flow";
    /// segment of a flow that was idle for too long (answered with RST), or datagram of a target to such a flow
    IdleExpired = Drop "idle_expired";
    /// segment of a flow whose target was taken away (answered with RST), or datagram of such a target
    TargetGone = Drop "target_gone";
    /// no target is registered or usable (TCP is answered with RST)
    NoTarget = Drop "no_target";
    /// the target's next hop is not resolved
    NextHopUnresolved = Drop "next_hop_unresolved";
    /// all 64,512 source ports towards the target are in use (TCP is answered with RST; AWS PortAllocationErrorCount)
    PortsExhausted = Drop "ports_exhausted";
    /// a port claim lost every race against other CPUs
    PortsContended = Drop "ports_contended";
    /// no room in the flow table (TCP is answered with RST)
    FlowTableFull = Drop "flow_table_full";
    /// the flow table's lock was busy; the client's retransmission finds it free
    FlowTableContended = Drop "flow_table_contended";
    /// a flow entry changed hands while it was read
    FlowRaced = Drop "flow_raced";
    /// the endpoint has too many half-open flows
    EndpointHalfOpenLimit = Drop "endpoint_half_open_limit";
    /// the VPC has too many half-open flows
    VpcHalfOpenLimit = Drop "vpc_half_open_limit";
    /// the endpoint has as many open connections as its provider allows (TCP is answered with RST)
    EndpointConnectionLimit = Drop "endpoint_connection_limit";
    /// more new connections a second through the endpoint than its provider allows
    EndpointConnectionRateLimit = Drop "endpoint_connection_rate_limit";
    /// more bits a second through the endpoint than its provider allows
    EndpointBitRateLimit = Drop "endpoint_bit_rate_limit";
    /// reset of no flow whose number is no cookie, while a half-open budget is used up: forged, or too late
    CookieRejected = Drop "cookie_rejected";
    /// SYN from a target's side into an existing flow or to a node address: providers cannot open connections
    SynFromTarget = Drop "syn_from_target";
    /// SYN with data (TCP Fast Open) to a target group with the PROXY protocol; the client's retransmission has none
    SynWithData = Drop "syn_with_data";
    /// connection over IPv6 to a target group with the PROXY protocol, whose header is IPv4's
    ProxyIpv6 = Drop "proxy_ipv6";
    /// packet of a flow between IP families that has options, extension headers or no checksum, or is a fragment
    Untranslatable = Drop "untranslatable";
    /// SYN with FIN or RST, or no flag at all
    InvalidFlags = Drop "invalid_flags";
    /// more resets were due in one tick than are sent
    ResetLimited = Drop "reset_limited";
    /// more ICMP errors or echo replies were due in one tick than are sent
    IcmpLimited = Drop "icmp_limited";
    /// ICMP message that is neither an echo request nor an error that is translated (redirect, source quench,
    /// timestamp)
    IcmpUnsupported = Drop "icmp_unsupported";
    /// ICMP error that quotes less than an IPv4 header and 8 bytes, or no first fragment
    IcmpMalformed = Drop "icmp_malformed";
    /// ICMP error about a packet of no flow
    IcmpNoFlow = Drop "icmp_no_flow";
    /// ICMP error about a packet that its receiver did not send, or a TCP sequence number that is not in flight
    IcmpForged = Drop "icmp_forged";
    /// an interface without a port record
    NoPort = Drop "no_port";
    /// the kernel refused to grow, shrink or redirect a frame
    KernelRefused = Drop "kernel_refused";

    /// echo requests that the security groups of the endpoint or load balancer do not let in
    EchoDenied = Drop "echo_denied";
    /// flows that got a port of another node address, because all ports of the first one towards the target were in use
    NextNodeUsed = Symptom "next_node_used";
    /// resets outside the receiver's window: forwarded, but the flow stays (a blind attack, or a stray)
    ResetOutOfWindow = Symptom "reset_out_of_window";
    /// packets with a checksum that only a sender with checksum offload leaves behind, seen by XDP: turn the peer's TX
    /// checksum offload off, or use TC
    PartialChecksum = Symptom "partial_checksum";
    /// ring-buffer records lost because nobody read them in time
    EventLost = Symptom "event_lost";
}

const _: () = assert!(Counter::COUNT < 128);
