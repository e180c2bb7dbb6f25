//! The datapath's refusals in words: what decides each, what that means, and the way out. One row a counter.

use privatelink_ebpf::abi::{Counter, counters::CounterKind, explain::Trace};
use privatelink_ebpf::datapath::Verdict;

use crate::runtime::Object;

/// A refusal in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// What decides.
    pub object: Object,
    /// What it means for the packet.
    pub text: &'static str,
    /// What to do about it.
    pub way_out: &'static str,
}

const fn by(object: Object, text: &'static str, way_out: &'static str) -> Option<Reason> {
    Some(Reason { object, text, way_out })
}

/// The reason that a counter stands for; nothing for counters that are no refusals.
pub const fn reason(counter: Counter) -> Option<Reason> {
    use Object::{
        Address, Budget, Endpoint, Flow, Kernel, Listener, Packet, Pool, Port, SecurityGroup, Target, TargetGroup,
    };
    const REPORT: &str = "this is a defect of the datapath if it lasts; `privatelink stats` shows whether it does";
    match counter {
        Counter::FlowOpened
        | Counter::ClientIpPreserved
        | Counter::ClientIpSamePort
        | Counter::ClientIpCollision
        | Counter::FlowEstablished
        | Counter::FlowClosed
        | Counter::FlowResetByClient
        | Counter::FlowResetByTarget
        | Counter::FlowExpiredIdle
        | Counter::FlowExpiredHalfOpen
        | Counter::FlowEndedWithTarget
        | Counter::FlowEndedWithEndpoint
        | Counter::FlowEndedWithPort
        | Counter::FlowEndedBySecurityGroup
        | Counter::FlowEndedByWeight
        | Counter::FlowReplaced
        | Counter::FlowStashed
        | Counter::PortReleasedAfterHold
        | Counter::PortReusedEarly
        | Counter::NextNodeUsed
        | Counter::ProxyHeaderSent
        | Counter::CookieSent
        | Counter::CookieAccepted
        | Counter::ArpAnswered
        | Counter::NdpAnswered
        | Counter::ResetSent
        | Counter::FragmentForwarded
        | Counter::FragmentHeld
        | Counter::FragmentsReleased
        | Counter::IcmpErrorTranslated
        | Counter::IcmpErrorSent
        | Counter::EchoAnswered
        | Counter::XdpPassedToTc
        | Counter::PassedToHost
        | Counter::ClientMoved
        | Counter::ResetOutOfWindow
        | Counter::PartialChecksum
        | Counter::EventLost => None,
        Counter::Truncated => by(Packet, "the frame is too short for its headers", "look at the sender"),
        Counter::Malformed => by(Packet, "the headers contradict each other", "look at the sender"),
        Counter::Fragment => by(
            Packet,
            "it is a fragment of neither a TCP segment nor a UDP datagram",
            "let the sender use smaller packets",
        ),
        Counter::FragmentOrphan => by(
            Packet,
            "it is a fragment whose packet's first one has not passed within the last two seconds",
            "look for what reorders or loses fragments on the way, or let the sender use smaller packets",
        ),
        Counter::FragmentOverlap => by(Packet, "it is a fragment that overlaps the first one", "look at the sender"),
        Counter::FragmentTiny => {
            by(Packet, "it is a fragment so small that it hides the TCP header", "look at the sender")
        }
        Counter::InvalidAddress => by(
            Packet,
            "the source address cannot be a host's (multicast, broadcast, loopback, zero)",
            "use an address of the VPC",
        ),
        Counter::TtlExceeded => by(
            Packet,
            "its time to live is used up, so it is answered with ICMP time exceeded",
            "look for a routing loop before this host",
        ),
        Counter::MtuExceeded => by(
            Port,
            "it is larger than the MTU of the interface that it would leave by, so it is answered with ICMP \
             fragmentation needed",
            "let the sender's firewall accept ICMP, or give the interfaces of consumer and provider the same MTU",
        ),
        Counter::OtherEtherType => {
            by(Packet, "it is neither IP nor ARP, and the port is isolated", "use IP, or a shared port")
        }
        Counter::OtherProtocol => {
            by(Listener, "no listener can have this IP protocol", "use a protocol that a listener can have")
        }
        Counter::NotOurs => by(
            Address,
            "nobody owns this address in this VPC, and the port is isolated",
            "`privatelink endpoint list` shows which addresses lead somewhere",
        ),
        Counter::NoListener => by(
            Listener,
            "the address is owned, but no listener has this port",
            "`privatelink listener create` opens a port",
        ),
        Counter::SecurityGroupDenied => by(
            SecurityGroup,
            "no rule of the security groups lets the source in, so it is dropped without an answer",
            "`privatelink security-group authorize` adds a rule",
        ),
        Counter::EchoDenied => by(
            SecurityGroup,
            "it is an echo request, and no rule for ICMP of the security groups lets the source in",
            "`privatelink security-group authorize --protocol icmp` adds a rule",
        ),
        Counter::SecurityGroupDeniedOutbound => by(
            SecurityGroup,
            "the load balancer's security groups let it connect to none of the targets",
            "`privatelink security-group authorize --egress` adds a rule for the targets' addresses and port",
        ),
        Counter::SpoofedSource => by(
            Packet,
            "its source is an address that the datapath itself owns in this VPC",
            "give the host another address than the endpoint's or load balancer's",
        ),
        Counter::ArpForged | Counter::NdpForged => {
            by(Packet, "it claims an address that the datapath owns", "find the host that has the endpoint's address")
        }
        Counter::NdpIgnored => {
            by(Packet, "the neighbour discovery asks for nothing that the datapath owns", "nothing to do")
        }
        Counter::RoutingHeader => {
            by(Packet, "it has an IPv6 routing header, which would lead it past the rules", "send it without")
        }
        Counter::ExtensionHeaders => by(
            Packet,
            "it has more or longer IPv6 extension headers than are looked behind",
            "send it with at most four, within 128 bytes of the frame",
        ),
        Counter::ArpIgnored => by(Packet, "the ARP packet asks for nothing that the datapath owns", "nothing to do"),
        Counter::NoFlow => {
            by(Flow, "it belongs to no open connection, so it is answered with RST", "open a connection with a SYN")
        }
        Counter::IdleExpired => by(
            Flow,
            "its connection was idle for too long, so it is answered with RST",
            "raise the listener's idle timeout, or let the client use keep-alives",
        ),
        Counter::TargetGone => by(
            Target,
            "its connection's target was taken away, so it is answered with RST",
            "the client's next connection goes to another target",
        ),
        Counter::NoTarget => by(
            TargetGroup,
            "the target group has no target that can be used, so the connection is refused",
            "`privatelink target register` adds one, `privatelink target health` says what the present ones lack",
        ),
        Counter::NextHopUnresolved => by(
            Target,
            "the Ethernet address of the target's next hop is not known",
            "check that the target is up and that a port leads into its VPC; `privatelink target health` says more",
        ),
        Counter::PortsExhausted => by(
            Pool,
            "all 64,512 source ports towards the target are in use, so the connection is refused",
            "add a node address to the load balancer or a target to the group; `privatelink stats` shows the fill",
        ),
        Counter::PortsContended => {
            by(Pool, "other processors won every race for a source port", "the client's retransmission finds one")
        }
        Counter::FlowTableFull => by(
            Flow,
            "the flow table has no room, so the connection is refused",
            "start the agent with more --flow-buckets",
        ),
        Counter::FlowTableContended => {
            by(Flow, "the flow table's lock was busy", "the client's retransmission finds it free")
        }
        Counter::FlowRaced => {
            by(Flow, "the flow's entry changed hands while it was read", "the client's retransmission goes through")
        }
        Counter::EndpointHalfOpenLimit => by(
            Endpoint,
            "the endpoint has as many half-open connections as it may have",
            "clients of TCP that answer a SYN cookie connect all the same, after one more round trip; look for a SYN flood from \
             this consumer, or for a target that does not answer",
        ),
        Counter::VpcHalfOpenLimit => by(
            Budget,
            "the VPC has as many half-open connections as it may have",
            "clients of TCP that answer a SYN cookie connect all the same, after one more round trip; look for a SYN flood from \
             this VPC, or for a target that does not answer",
        ),
        Counter::CookieRejected => by(
            Packet,
            "a reset that belongs to no connection, while too many are half-open, and that does not bring a SYN cookie back",
            "look for who forges resets in this VPC",
        ),
        Counter::EndpointConnectionLimit => by(
            Budget,
            "the endpoint has as many open connections as its provider allows it",
            "close connections, or ask the provider for more (`privatelink connection limit SERVICE ENDPOINT --connections N`)",
        ),
        Counter::EndpointConnectionRateLimit => by(
            Budget,
            "more connections a second are opened through the endpoint than its provider allows it",
            "the client's retransmission may go through, or ask the provider for more (`privatelink connection limit SERVICE \
             ENDPOINT --connections-per-second N`)",
        ),
        Counter::EndpointBitRateLimit => by(
            Budget,
            "more bits a second go through the endpoint than its provider allows it",
            "send less, or ask the provider for more (`privatelink connection limit SERVICE ENDPOINT --bits-per-second N`)",
        ),
        Counter::SynFromTarget => by(
            Address,
            "a provider's host cannot open a connection to a load balancer's address or into a consumer's VPC",
            "publish a service in the other direction",
        ),
        Counter::InvalidFlags => by(Packet, "its TCP flags contradict each other", "look at the sender"),
        Counter::SynWithData => by(
            TargetGroup,
            "its SYN carries data (TCP Fast Open), and the target group wants a PROXY protocol header before any data",
            "the client's retransmission carries none",
        ),
        Counter::ProxyIpv6 => by(
            TargetGroup,
            "the target group wants a PROXY protocol header, which is IPv4's, and the client or the target is of IPv6",
            "use the IPv4 address, or turn proxy_protocol_v2.enabled of the target group off",
        ),
        Counter::Untranslatable => by(
            Packet,
            "client and target are of different IP families, and the packet has what the other family has no place for: \
             options, extension headers, a fragment, or no checksum",
            "send plain packets; or use targets of the client's family",
        ),
        Counter::ResetLimited => by(
            Budget,
            "it would be answered with RST, but this VPC has had as many resets as it gets in one tick",
            "look for what sends so many packets without a connection",
        ),
        Counter::IcmpLimited => by(
            Budget,
            "it would be answered by ICMP, but this VPC has had as many answers as it gets in one tick",
            "look for what sends so many of them",
        ),
        Counter::IcmpUnsupported => by(
            Packet,
            "an ICMP message that is neither an echo request nor an error about a packet",
            "nothing to do; errors and echo requests are what the load balancer has a use for",
        ),
        Counter::IcmpMalformed => by(
            Packet,
            "the ICMP error does not quote a packet's IPv4 header and its first 8 bytes",
            "look at the router that sent it",
        ),
        Counter::IcmpNoFlow => by(
            Flow,
            "the ICMP error is about a packet of no open connection",
            "nothing to do; the connection has ended, or somebody guesses",
        ),
        Counter::IcmpForged => by(
            Packet,
            "the ICMP error is about a packet that its receiver has not sent, or one that cannot be under way",
            "look for who forges ICMP in this VPC",
        ),
        Counter::NoPort => by(Port, "the interface is no port of a VPC", "`privatelink port attach` makes it one"),
        Counter::KernelRefused => by(Kernel, "the kernel refused to grow, shrink or redirect the frame", REPORT),
    }
}

/// The counter that names why the traced packet was not forwarded; nothing if it was, or if it went on to the host.
pub fn decisive(trace: &Trace) -> Option<Counter> {
    if trace.verdict == Trace::FORWARD {
        return None;
    }
    match Verdict::from_bits(trace.verdict) {
        Verdict::Drop(counter) => Some(counter),
        // What was counted besides says why.
        Verdict::Pass
        | Verdict::ToTc
        | Verdict::AnswerArp
        | Verdict::AnswerReset
        | Verdict::AnswerEcho
        | Verdict::AnswerError(_)
        | Verdict::Proxy
        | Verdict::AnswerNeighbor
        | Verdict::GoOn(_) => trace.counts().find(|counter| counter.kind() == CounterKind::Drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_text_and_nothing_else_has() {
        for counter in Counter::ALL {
            let refusal = counter.kind() == CounterKind::Drop;
            assert_eq!(reason(*counter).is_some(), refusal, "{}", counter.name());
        }
    }

    #[test]
    fn every_refusal_is_the_decisive_one() {
        for counter in Counter::ALL.iter().filter(|counter| counter.kind() == CounterKind::Drop) {
            let mut trace = Trace::question(false);
            trace.counters[*counter as usize / 64] |= 1 << (*counter as u32 % 64);
            trace.verdict = Verdict::Drop(*counter).to_bits();
            assert_eq!(decisive(&trace), Some(*counter));
            // Answered by a reset: the verdict does not say why.
            trace.verdict = Verdict::AnswerReset.to_bits();
            trace.counters[Counter::ResetSent as usize / 64] |= 1 << (Counter::ResetSent as u32 % 64);
            assert_eq!(decisive(&trace), Some(*counter));
        }
    }

    #[test]
    fn what_goes_through_has_no_reason() {
        assert_eq!(decisive(&Trace { verdict: Trace::FORWARD, ..Trace::question(false) }), None);
        assert_eq!(decisive(&Trace { verdict: Verdict::Pass.to_bits(), ..Trace::question(false) }), None);
    }
}
