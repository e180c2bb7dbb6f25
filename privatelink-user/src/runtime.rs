//! What the API asks of the running agent: facts that the state does not hold.
//!
//! The state says what is wanted; the agent knows what is. The API reaches it through [`Runtime`] only.

use std::{collections::BTreeMap, fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    control::{Installed, Limits},
    model::{
        EndpointId, Hook, InstanceId, InterfaceName, InvalidValue, ListenerId, LoadBalancerId, LoadBalancerKind, State,
        TargetAddress, TargetGroupId, VpcId,
    },
    tls::relay::wire::Counts,
};

/// A future that the API awaits; boxed so that [`Runtime`] stays object-safe.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the API asks of the running agent.
pub trait Runtime: Send + Sync {
    /// Whether `interface` can become a port with `hook`, and what was found. Asked before a port is accepted.
    fn inspect_interface<'a>(
        &'a self,
        interface: &'a InterfaceName,
        hook: Hook,
        shared: bool,
    ) -> Answer<'a, Result<InterfaceFacts, AttachRefusal>>;

    /// What the datapath has room for.
    fn limits(&self) -> Limits;

    /// What the kernel's tables say, each time that a pass has ended; none if nothing forwards, so that there is
    /// nothing to wait for.
    fn installed(&self) -> Option<watch::Receiver<Arc<Installed>>>;

    /// The health of each target of the group `target_group` of `state`, draining ones included; in the order of
    /// their addresses.
    fn target_health<'a>(
        &'a self,
        state: &'a State,
        target_group: &'a TargetGroupId,
    ) -> Answer<'a, Vec<TargetHealthReport>>;

    /// Each port as it is attached now.
    fn ports(&self) -> Answer<'_, Vec<PortStatus>>;

    /// The flows that `filter` admits.
    fn flows<'a>(&'a self, filter: &'a FlowFilter) -> Answer<'a, Result<Vec<FlowRecord>, RuntimeError>>;

    /// Every counter.
    fn stats(&self) -> Answer<'_, Result<Stats, RuntimeError>>;

    /// Every counter, and how the resources of `state` are used.
    fn usage<'a>(&'a self, state: &'a State) -> Answer<'a, Result<Usage, RuntimeError>>;

    /// What the datapath would do with a packet, and which object decides it. Leaves no trace.
    fn explain<'a>(&'a self, state: &'a State, question: &'a Question)
    -> Answer<'a, Result<Explanation, RuntimeError>>;
}

/// Why the agent cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The datapath's tables could not be read.
    #[error("the datapath's tables cannot be read: {0}")]
    Tables(String),
    /// No agent is behind the API.
    #[error("the agent is not forwarding")]
    NotForwarding,
}

/// What was found about an interface that can become a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct InterfaceFacts {
    /// The kernel's interface index in the agent's network namespace.
    pub ifindex: u32,
    /// The driver, such as `veth`; empty if the kernel does not say.
    pub driver: String,
    /// Bytes, without the Ethernet header.
    pub mtu: u32,
    /// Where the datapath will attach.
    pub hook: HookInUse,
    /// Why that hook, in a sentence.
    pub reason: String,
    /// What the operator should know although the port is accepted, each with the command that changes it.
    pub warnings: Vec<String>,
}

/// Where the datapath is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HookInUse {
    /// tcx, kernel 6.6 and later.
    Tcx,
    /// The clsact queueing discipline, before kernel 6.6.
    Clsact,
    /// Native XDP in front of tcx.
    #[serde(rename = "xdp+tcx")]
    XdpTcx,
    /// Native XDP in front of clsact.
    #[serde(rename = "xdp+clsact")]
    XdpClsact,
}

impl fmt::Display for HookInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::XdpTcx => "xdp+tcx",
            Self::XdpClsact => "xdp+clsact",
        })
    }
}

/// Why an interface cannot become a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefusal {
    #[error("the interface '{0}' does not exist in the agent's network namespace")]
    NotFound(InterfaceName),
    #[error("the interface '{interface}' is in another network namespace, {namespace}")]
    OtherNamespace { interface: InterfaceName, namespace: String },
    #[error("the interface '{0}' is a loopback interface, which carries no Ethernet frames of other hosts")]
    Loopback(InterfaceName),
    #[error("the interface '{interface}' does not carry Ethernet frames (link type {link_type})")]
    NotEthernet { interface: InterfaceName, link_type: String },
    #[error("the interface '{0}' is the datapath's own host port")]
    HostPort(InterfaceName),
    #[error("the interface '{interface}' has the index {ifindex}; the datapath's table of ports ends at {limit}")]
    IndexTooGreat { interface: InterfaceName, ifindex: u32, limit: u32 },
    #[error("native XDP is not possible on the interface '{interface}': {why}")]
    XdpUnavailable {
        interface: InterfaceName,
        why: String,
        /// The command or setting that makes it possible.
        way_out: String,
    },
    #[error("the interface '{interface}' cannot be inspected: {why}")]
    Unreadable { interface: InterfaceName, why: String },
}

impl AttachRefusal {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::NotFound(_) => {
                "`ip link` lists the interfaces of this namespace; run the agent in the namespace that holds the \
                 interface, or move it here with `ip link set DEV netns …`"
                    .to_owned()
            }
            Self::OtherNamespace { interface, namespace } => format!(
                "run the agent there (`nsenter --net=/run/netns/{namespace} privatelink agent`), or move the interface \
                 out of it (`ip -n {namespace} link set {interface} netns …`)"
            ),
            Self::Loopback(_) => {
                "attach the NIC, VLAN device, veth, tap or bridge port that leads to the VPC".to_owned()
            }
            Self::NotEthernet { .. } => {
                "attach an Ethernet device: NIC, VLAN device, veth, tap, VXLAN device".to_owned()
            }
            Self::HostPort(_) => "the agent uses it for health checks; attach another interface".to_owned(),
            Self::IndexTooGreat { .. } => {
                "interface indexes grow with every interface made in a namespace; make the port's interface in a \
                 fresh network namespace"
                    .to_owned()
            }
            Self::XdpUnavailable { way_out, .. } => format!("{way_out}, or use --hook auto"),
            Self::Unreadable { .. } => "the agent needs CAP_NET_ADMIN and CAP_BPF, or root".to_owned(),
        }
    }
}

/// A port as it is attached now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PortStatus {
    pub interface: InterfaceName,
    /// None while it is not attached.
    pub hook: Option<HookInUse>,
    /// The largest IP packet that the interface takes; none while there is no such interface.
    pub mtu: Option<u32>,
    /// Why that hook.
    pub reason: String,
    /// Why it is not attached, or what is wrong with it.
    pub error: Option<String>,
}

/// The health of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetHealthReport {
    pub address: TargetAddress,
    /// The instance that it is, in a group of target type `instance`.
    pub instance: Option<InstanceId>,
    /// The resolved number, also for `traffic-port`.
    pub health_check_port: u16,
    pub health: TargetHealth,
    /// How the frames for it leave the host.
    pub next_hop: NextHop,
}

/// A target's state and its reason. [`TargetHealth::state`], [`TargetHealth::reason`] and
/// [`TargetHealth::description`] are the texts that the Network Load Balancer's API shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "codes")]
pub enum TargetHealth {
    /// The datapath does not know it yet.
    RegistrationInProgress,
    /// Not one check is done.
    InitialHealthChecking,
    Healthy,
    /// Refused, reset, unreachable, or an answer that is not HTTP.
    FailedHealthChecks,
    /// Its certificate is not one that its target group believes.
    CertificateDistrusted,
    /// No answer in time.
    Timeout,
    /// An HTTP answer with another status code, this one.
    ResponseCodeMismatch(u16),
    /// The check itself could not be made.
    InternalError,
    /// It has failed its checks, takes no new flows, and keeps its old ones for the group's draining interval.
    UnhealthyDraining,
    /// Its target group does not have it.
    NotRegistered,
    /// No listener leads to its target group.
    NotInUse,
    /// Only load balancers of type application lead to its target group, or it is one: nothing serves these.
    NotServed,
    /// The instance is stopped.
    InvalidState,
    /// A load balancer or an endpoint owns its address.
    IpUnusable,
    /// Deregistered; its flows go on until the delay has ended.
    DeregistrationInProgress,
}

impl TargetHealth {
    /// The state's name: `initial`, `healthy`, `unhealthy`, `unhealthy.draining`, `unused`, `unavailable` or
    /// `draining`.
    pub fn state(&self) -> &'static str {
        match self {
            Self::RegistrationInProgress | Self::InitialHealthChecking => "initial",
            Self::Healthy => "healthy",
            Self::FailedHealthChecks
            | Self::CertificateDistrusted
            | Self::Timeout
            | Self::ResponseCodeMismatch(_)
            | Self::InternalError => "unhealthy",
            Self::UnhealthyDraining => "unhealthy.draining",
            Self::NotRegistered | Self::NotInUse | Self::InvalidState | Self::IpUnusable => "unused",
            Self::NotServed => "unavailable",
            Self::DeregistrationInProgress => "draining",
        }
    }

    /// The reason's code; none for a healthy target.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::RegistrationInProgress => Some("Elb.RegistrationInProgress"),
            Self::InitialHealthChecking => Some("Elb.InitialHealthChecking"),
            Self::Healthy => None,
            Self::FailedHealthChecks | Self::CertificateDistrusted | Self::UnhealthyDraining => {
                Some("Target.FailedHealthChecks")
            }
            Self::Timeout => Some("Target.Timeout"),
            Self::ResponseCodeMismatch(_) => Some("Target.ResponseCodeMismatch"),
            Self::InternalError | Self::NotServed => Some("Elb.InternalError"),
            Self::NotRegistered => Some("Target.NotRegistered"),
            Self::NotInUse => Some("Target.NotInUse"),
            Self::InvalidState => Some("Target.InvalidState"),
            Self::IpUnusable => Some("Target.IpUnusable"),
            Self::DeregistrationInProgress => Some("Target.DeregistrationInProgress"),
        }
    }

    /// The description; none for a healthy target.
    pub fn description(&self) -> Option<String> {
        let text = match self {
            Self::RegistrationInProgress => "Target registration is in progress",
            Self::InitialHealthChecking => "Initial health checks in progress",
            Self::Healthy => return None,
            Self::FailedHealthChecks | Self::UnhealthyDraining => "Health checks failed",
            Self::CertificateDistrusted => {
                "Health checks failed: the target's certificate is not one that the target group believes"
            }
            Self::Timeout => "Request timed out",
            Self::ResponseCodeMismatch(code) => {
                return Some(format!("Health checks failed with these codes: [{code}]"));
            }
            Self::InternalError => "Health checks failed due to an internal error",
            Self::NotRegistered => "Target is not registered to the target group",
            Self::NotInUse => "Target group is not configured to receive traffic from the load balancer",
            Self::NotServed => LoadBalancerKind::UNSERVED,
            Self::InvalidState => "Target is in the stopped state",
            Self::IpUnusable => "The IP address cannot be used as a target, as it is in use by a load balancer",
            Self::DeregistrationInProgress => "Target deregistration is in progress",
        };
        Some(text.to_owned())
    }
}

/// How the frames for a target leave the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum NextHop {
    /// Asked for, no answer yet.
    Resolving {
        #[schema(value_type = String)]
        asked: std::net::IpAddr,
    },
    /// Answered: frames go to `mac` through `interface`.
    Resolved {
        #[schema(value_type = String)]
        address: std::net::IpAddr,
        mac: String,
        interface: InterfaceName,
    },
    /// Nobody answers for it on any port of the VPC.
    Unresolvable {
        #[schema(value_type = String)]
        asked: std::net::IpAddr,
    },
    /// The target is outside the VPC's CIDR and the VPC has no gateway.
    NoGateway,
    /// The VPC has no attached port.
    NoPort,
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolving { asked } => write!(f, "resolving {asked}"),
            Self::Resolved { address, mac, interface } => write!(f, "{address} is {mac} on {interface}"),
            Self::Unresolvable { asked } => write!(f, "nobody answers for {asked}"),
            Self::NoGateway => f.write_str("outside the VPC's CIDR, and the VPC has no gateway"),
            Self::NoPort => f.write_str("the VPC has no attached port"),
        }
    }
}

/// Which flows to list. Every given part must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowFilter {
    /// The consumer's VPC.
    pub vpc: Option<VpcId>,
    pub endpoint: Option<EndpointId>,
}

/// A flow, seen from the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FlowRecord {
    /// The consumer's VPC; none if the VPC is gone and the flow not yet.
    pub vpc: Option<VpcId>,
    /// `TCP` or `UDP`.
    pub protocol: String,
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// The address and port that the client connected to.
    #[schema(value_type = String)]
    pub frontend: SocketAddr,
    /// None for a flow to a node address itself, or of an endpoint that is gone.
    pub endpoint: Option<EndpointId>,
    /// The node address and source port that the target sees.
    #[schema(value_type = String)]
    pub node: SocketAddr,
    #[schema(value_type = String)]
    pub target: SocketAddr,
    /// The flow's state as the datapath sees it, such as `established`.
    pub state: String,
    /// Seconds since the last packet.
    pub idle_seconds: u64,
}

/// Every counter at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Stats {
    /// Counters of the datapath as a whole, in the order of their table.
    pub counters: Vec<Counter>,
    pub endpoints: Vec<EndpointTraffic>,
    pub listeners: Vec<ListenerTraffic>,
    pub targets: Vec<TargetTraffic>,
    pub pools: Vec<Pool>,
}

/// A counter of the datapath.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Counter {
    pub name: String,
    pub help: String,
    pub kind: CounterKind,
    pub count: u64,
}

/// What a counter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CounterKind {
    /// Work done.
    Activity,
    /// Packets refused.
    Drop,
    /// Something that an operator should look at.
    Symptom,
}

impl fmt::Display for CounterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Activity => "activity",
            Self::Drop => "drop",
            Self::Symptom => "symptom",
        })
    }
}

/// What went through an endpoint. Bytes are IP total lengths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EndpointTraffic {
    pub endpoint: EndpointId,
    pub new_flows: u64,
    /// Connections refused, whatever the reason.
    pub refused: u64,
    /// ... by the security groups.
    pub denied: u64,
    /// ... by the endpoint's limits of connections, and of new connections a second.
    pub limited_connections: u64,
    pub limited_new_connections: u64,
    /// Packets dropped by its limit of bits a second.
    pub limited_packets: u64,
    /// From the consumer.
    pub packets_in: u64,
    pub bytes_in: u64,
    /// To the consumer.
    pub packets_out: u64,
    pub bytes_out: u64,
    /// RST from the consumer.
    pub resets_in: u64,
    /// RST from the targets.
    pub resets_out: u64,
}

/// What a listener did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ListenerTraffic {
    pub listener: ListenerId,
    pub new_flows: u64,
    /// Connections refused, whatever the reason.
    pub refused: u64,
    /// ... by the inbound rules of the security groups, and by the load balancer's outbound ones.
    pub denied_inbound: u64,
    pub denied_outbound: u64,
    /// Flows led to unhealthy targets because too few were healthy.
    pub unhealthy_routing: u64,
    /// RST that the load balancer itself sent to clients.
    pub resets_sent: u64,
}

/// What went to a target of a group. Bytes are IP total lengths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TargetTraffic {
    pub target_group: TargetGroupId,
    pub target: TargetAddress,
    pub new_flows: u64,
    /// To the target.
    pub packets_in: u64,
    pub bytes_in: u64,
    /// From the target.
    pub packets_out: u64,
    pub bytes_out: u64,
    /// Connections refused because no source port was free.
    pub port_allocation_errors: u64,
    pub client_resets: u64,
    pub target_resets: u64,
    /// RST that the load balancer itself sent to the target, and to both ends of flows that it ended.
    pub resets_sent: u64,
    /// Handshakes that were finished.
    pub established: u64,
    /// Connections that the target refused.
    pub refused: u64,
    /// SYNs sent again because the target had not answered.
    pub unanswered: u64,
}

/// The source ports of one (node address, target, protocol).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pool {
    /// The provider's VPC; none if it is gone and the pool not yet.
    pub vpc: Option<VpcId>,
    /// `TCP` or `UDP`.
    pub protocol: String,
    #[schema(value_type = String)]
    pub node: std::net::IpAddr,
    #[schema(value_type = String)]
    pub target: SocketAddr,
    /// Ports of open flows.
    pub used: u32,
    /// Ports held back after the target closed first.
    pub held: u32,
    /// Ports that there are.
    pub capacity: u32,
    /// Connections refused because no port was free.
    pub exhausted: u64,
}

/// What the metrics tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    pub stats: Stats,
    pub load_balancers: Vec<LoadBalancerUsage>,
    /// One for each load balancer that leads to a group.
    pub target_groups: Vec<TargetGroupUsage>,
    pub endpoints: Vec<EndpointUsage>,
    /// What the relay has done for each load balancer with TLS listeners.
    pub tls: BTreeMap<LoadBalancerId, Counts>,
    /// Of the groups that were checked since the agent began.
    pub checks: Vec<ChecksDone>,
    /// Flows whose handshake is not finished, over all VPCs.
    pub half_open: u64,
    /// Entries of the flow table in use, two a flow, and how many there can be.
    pub flow_entries: u64,
    pub flow_capacity: u64,
}

/// What goes through a load balancer. All but `active_flows`, `zone_healthy`, peaks and capacity units only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancerUsage {
    pub load_balancer: LoadBalancerId,
    /// What the kernel forwards of TCP, TLS listeners' connections and the relay's own to targets included.
    pub tcp: ProtocolUsage,
    pub udp: ProtocolUsage,
    /// What the relay has ended of TLS since it began: its bytes are decrypted ones, and nobody counts its packets.
    pub tls: ProtocolUsage,
    pub rejected: u64,
    pub port_allocation_errors: u64,
    pub client_resets: u64,
    pub target_resets: u64,
    /// RST that the load balancer itself sent.
    pub elb_resets: u64,
    pub unhealthy_routing: u64,
    pub denied_inbound: u64,
    pub denied_outbound: u64,
    /// No group is below its DNS failover threshold.
    pub zone_healthy: bool,
    /// The fastest ten seconds of the last minute.
    pub peak_bytes_per_second: u64,
    pub peak_packets_per_second: u64,
}

impl LoadBalancerUsage {
    /// Nothing has happened yet.
    pub fn new(load_balancer: LoadBalancerId) -> Self {
        Self {
            load_balancer,
            tcp: ProtocolUsage::default(),
            udp: ProtocolUsage::default(),
            tls: ProtocolUsage::default(),
            rejected: 0,
            port_allocation_errors: 0,
            client_resets: 0,
            target_resets: 0,
            elb_resets: 0,
            unhealthy_routing: 0,
            denied_inbound: 0,
            denied_outbound: 0,
            zone_healthy: true,
            peak_bytes_per_second: 0,
            peak_packets_per_second: 0,
        }
    }
}

/// What a load balancer does over one protocol. Bytes are IP total lengths; bytes and packets count both ways.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProtocolUsage {
    pub active_flows: u64,
    pub new_flows: u64,
    pub bytes: u64,
    pub packets: u64,
    /// Thousandths of the capacity units (LCU) that AWS would count.
    pub capacity_thousandths: u64,
}

/// A target group behind a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroupUsage {
    pub target_group: TargetGroupId,
    pub load_balancer: LoadBalancerId,
    pub healthy: u64,
    pub unhealthy: u64,
}

/// What the checks of a group's targets came to since the agent began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChecksDone {
    pub target_group: TargetGroupId,
    pub passed: u64,
    pub failed: u64,
    /// Those that failed while the flow table was full, and count for nothing.
    pub without_room: u64,
    /// Times that clients' failing connections brought a check forward.
    pub suspicions: u64,
}

impl ChecksDone {
    /// Nothing yet.
    pub const fn none(target_group: TargetGroupId) -> Self {
        Self { target_group, passed: 0, failed: 0, without_room: 0, suspicions: 0 }
    }
}

/// What goes through an endpoint. All but `active_connections` only grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointUsage {
    pub endpoint: EndpointId,
    pub active_connections: u64,
    pub new_connections: u64,
    /// Both ways.
    pub bytes: u64,
    pub dropped: u64,
    /// RST from the service.
    pub resets: u64,
    /// Connections that the endpoint's limits refused, and packets that they dropped.
    pub limited_connections: u64,
    pub limited_new_connections: u64,
    pub limited_packets: u64,
}

impl EndpointUsage {
    /// The two together, under the first one's name.
    #[must_use]
    pub fn plus(self, other: &Self) -> Self {
        let Self {
            endpoint: _,
            active_connections,
            new_connections,
            bytes,
            dropped,
            resets,
            limited_connections,
            limited_new_connections,
            limited_packets,
        } = other;
        Self {
            endpoint: self.endpoint,
            active_connections: self.active_connections + active_connections,
            new_connections: self.new_connections + new_connections,
            bytes: self.bytes + bytes,
            dropped: self.dropped + dropped,
            resets: self.resets + resets,
            limited_connections: self.limited_connections + limited_connections,
            limited_new_connections: self.limited_new_connections + limited_new_connections,
            limited_packets: self.limited_packets + limited_packets,
        }
    }
}

/// The first packet of a connection or exchange, as a host of a VPC would send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    pub vpc: VpcId,
    /// The port of the VPC that it comes in on; none: the first one.
    pub port: Option<InterfaceName>,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub protocol: PacketProtocol,
    /// TCP: the first sequence number, by which a target is chosen too.
    pub sequence: u32,
}

/// What a packet can be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PacketProtocol {
    /// A SYN.
    #[default]
    Tcp,
    /// A datagram without payload.
    Udp,
    /// An echo request.
    Icmp,
}

impl fmt::Display for PacketProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        })
    }
}

impl std::str::FromStr for PacketProtocol {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "icmp" => Ok(Self::Icmp),
            _ => Err(InvalidValue::new("Protocol", text, "must be one of '[tcp, udp, icmp]'", "use tcp")),
        }
    }
}

/// What can decide about a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// The packet itself.
    Packet,
    Port,
    /// The destination: an endpoint's, a load balancer's or nobody's.
    Address,
    Endpoint,
    SecurityGroup,
    Listener,
    TargetGroup,
    Target,
    /// What the target sees as the source.
    Source,
    /// The source ports towards a target.
    Pool,
    NextHop,
    /// A connection that is open already.
    Flow,
    /// A limit on a VPC or an endpoint.
    Budget,
    Hook,
    Kernel,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Packet => "packet",
            Self::Port => "port",
            Self::Address => "address",
            Self::Endpoint => "endpoint",
            Self::SecurityGroup => "security group",
            Self::Listener => "listener",
            Self::TargetGroup => "target group",
            Self::Target => "target",
            Self::Source => "source",
            Self::Pool => "source ports",
            Self::NextHop => "next hop",
            Self::Flow => "flow",
            Self::Budget => "limit",
            Self::Hook => "hook",
            Self::Kernel => "kernel",
        })
    }
}

/// What becomes of a packet, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Explanation {
    /// It reaches a target.
    pub reachable: bool,
    /// What becomes of it, in a sentence.
    pub verdict: String,
    /// What decides.
    pub decided_by: Object,
    /// The counter that the packet would raise; none if it is forwarded, or if no packet had to be asked.
    pub reason: Option<String>,
    /// What to do about it.
    pub way_out: Option<String>,
    /// What the packet meets, in order.
    pub findings: Vec<Finding>,
}

/// One thing that a packet meets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    pub object: Object,
    /// Its id or name.
    pub name: Option<String>,
    pub text: String,
}

/// An API without an agent behind it: accepts any interface and knows no traffic.
#[derive(Debug, Default)]
pub struct NoRuntime;

impl Runtime for NoRuntime {
    fn inspect_interface<'a>(
        &'a self,
        interface: &'a InterfaceName,
        hook: Hook,
        _shared: bool,
    ) -> Answer<'a, Result<InterfaceFacts, AttachRefusal>> {
        let hook_in_use = match hook {
            Hook::Auto | Hook::Tc => HookInUse::Tcx,
            Hook::Xdp => HookInUse::XdpTcx,
        };
        let facts = InterfaceFacts {
            ifindex: 0,
            driver: String::new(),
            mtu: 1500,
            hook: hook_in_use,
            reason: format!("'{interface}' is not inspected without an agent"),
            warnings: Vec::new(),
        };
        Box::pin(std::future::ready(Ok(facts)))
    }

    fn limits(&self) -> Limits {
        Limits::NONE
    }

    fn installed(&self) -> Option<watch::Receiver<Arc<Installed>>> {
        None
    }

    fn target_health<'a>(
        &'a self,
        state: &'a State,
        target_group: &'a TargetGroupId,
    ) -> Answer<'a, Vec<TargetHealthReport>> {
        let reports = state.target_groups.get(target_group).map_or_else(Vec::new, |group| {
            group
                .targets
                .values()
                .map(|target| TargetHealthReport {
                    address: target.address,
                    instance: target.instance.clone(),
                    health_check_port: group.health_check.port.resolve(target.address.port),
                    health: match target.draining_since {
                        Some(_) => TargetHealth::DeregistrationInProgress,
                        None if state.is_stopped(target) => TargetHealth::InvalidState,
                        None => TargetHealth::RegistrationInProgress,
                    },
                    next_hop: NextHop::NoPort,
                })
                .collect()
        });
        Box::pin(std::future::ready(reports))
    }

    fn ports(&self) -> Answer<'_, Vec<PortStatus>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn flows<'a>(&'a self, _filter: &'a FlowFilter) -> Answer<'a, Result<Vec<FlowRecord>, RuntimeError>> {
        Box::pin(std::future::ready(Err(RuntimeError::NotForwarding)))
    }

    fn usage<'a>(&'a self, _state: &'a State) -> Answer<'a, Result<Usage, RuntimeError>> {
        Box::pin(std::future::ready(Err(RuntimeError::NotForwarding)))
    }

    fn stats(&self) -> Answer<'_, Result<Stats, RuntimeError>> {
        Box::pin(std::future::ready(Err(RuntimeError::NotForwarding)))
    }

    fn explain<'a>(
        &'a self,
        _state: &'a State,
        _question: &'a Question,
    ) -> Answer<'a, Result<Explanation, RuntimeError>> {
        Box::pin(std::future::ready(Err(RuntimeError::NotForwarding)))
    }
}
