//! A target group: targets that offer the same thing, and how their health is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    ApplicationProtocol, DnsTarget, HealthCheck, InvalidValue, IpFamily, LoadBalancerId, ResourceName, Target,
    TargetAddress, TargetGroupId, TargetName, TargetTrust, VpcId, invalid::serde_as_text,
};

/// A target group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetGroup {
    pub id: TargetGroupId,
    /// Unique among its owner's target groups.
    pub name: ResourceName,
    /// The VPC in which the targets' addresses are meant.
    pub vpc: VpcId,
    /// What its targets are named by; fixed at creation.
    #[serde(default)]
    pub target_type: TargetType,
    /// The family of its targets' addresses; fixed at creation.
    #[serde(default)]
    pub ip_address_type: IpFamily,
    pub protocol: GroupProtocol,
    /// The port of a target that is registered without one; 1 to 65,535.
    pub port: u16,
    pub health_check: HealthCheck,
    pub attributes: TargetGroupAttributes,
    /// Names whose addresses are targets; the agent asks for them and registers what it finds.
    #[serde(default)]
    pub dns_targets: BTreeSet<DnsTarget>,
    /// What a group of target type `alb` leads to: it has no other targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<RegisteredLoadBalancer>,
    /// By address; a target that drains stays until its delay has ended.
    #[serde(with = "targets")]
    pub targets: BTreeMap<TargetAddress, Target>,
    pub created_at: Timestamp,
}

/// A load balancer of type application that is a group's target, at the group's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegisteredLoadBalancer {
    pub id: LoadBalancerId,
    #[schema(value_type = String)]
    pub registered_at: Timestamp,
}

/// What the targets of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetType {
    /// Addresses.
    #[default]
    Ip,
    /// Instances, each at its primary address.
    Instance,
    /// One load balancer of type application. It is a record: nothing serves that.
    Alb,
}

impl fmt::Display for TargetType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ip => "ip",
            Self::Instance => "instance",
            Self::Alb => "alb",
        })
    }
}

impl FromStr for TargetType {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "ip" => Ok(Self::Ip),
            "instance" => Ok(Self::Instance),
            "alb" => Ok(Self::Alb),
            _ => Err(InvalidValue::new(
                "Target type",
                text,
                "must be one of '[instance, ip, alb]'",
                "use ip for addresses, instance for registered instances",
            )),
        }
    }
}

serde_as_text!(TargetType);

/// A target group's attributes; their keys, defaults and ranges are the table in `model/attribute.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TargetGroupAttributes {
    /// Seconds for which a deregistered target drains.
    pub deregistration_delay: u32,
    /// Whether what is left of a target's flows is ended when its draining ends.
    pub deregistration_connection_termination: bool,
    /// Whether all connections of a client address go to one target.
    pub stickiness: bool,
    /// Whether the flows of a target that becomes unhealthy are ended at once.
    pub unhealthy_connection_termination: bool,
    /// Whether a target is told each connection's client by a PROXY protocol header.
    pub proxy_protocol_v2: bool,
    /// Whether targets see the client's own address of a connection that reaches the load balancer directly.
    pub preserve_client_ip: bool,
    /// Seconds for which an unhealthy target whose flows are not ended is `unhealthy.draining`.
    pub unhealthy_draining_interval: u32,
    /// Below it the zone leaves DNS. Kept for who answers names; nothing in the datapath depends on it.
    pub dns_failover: HealthThreshold,
    /// Below it new flows go to all targets.
    pub unhealthy_state_routing: HealthThreshold,
    /// Whether targets of other zones are used.
    pub cross_zone: CrossZone,
    /// Whose certificates targets may show where TLS is spoken with them.
    pub target_trust: TargetTrust,
    /// For which name those have to be.
    pub target_name: TargetName,
    /// How requests are spread. Kept and shown, as the next two: nothing serves groups whose targets speak HTTP.
    pub request_routing: RequestRouting,
    /// Seconds in which a target's share of requests grows: 30 to 900, or 0.
    pub slow_start: u32,
    /// Seconds for which a cookie keeps a client at its target, 1 to 604,800.
    pub cookie_duration: u32,
}

/// `load_balancing.algorithm.type` of a target group whose targets speak HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestRouting {
    #[default]
    RoundRobin,
    LeastOutstandingRequests,
    WeightedRandom,
}

impl RequestRouting {
    pub const ALL: [Self; 3] = [Self::RoundRobin, Self::LeastOutstandingRequests, Self::WeightedRandom];
}

impl fmt::Display for RequestRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::RoundRobin => "round_robin",
            Self::LeastOutstandingRequests => "least_outstanding_requests",
            Self::WeightedRandom => "weighted_random",
        })
    }
}

/// Healthy targets that a group must have: too few by either measure are too few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthThreshold {
    /// At least 1; none: off.
    pub count: Option<u32>,
    /// 1 to 100; none: off.
    pub percentage: Option<u32>,
}

impl HealthThreshold {
    /// One healthy target is enough.
    pub const ONE: Self = Self { count: Some(1), percentage: None };

    /// Whether `healthy` targets of `all` are too few.
    pub fn missed(self, healthy: usize, all: usize) -> bool {
        let Self { count, percentage } = self;
        let (healthy, all) = (healthy as u64, all as u64);
        count.is_some_and(|count| healthy < u64::from(count))
            || percentage.is_some_and(|percentage| healthy * 100 < u64::from(percentage) * all)
    }
}

/// `load_balancing.cross_zone.enabled` of a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CrossZone {
    #[default]
    UseLoadBalancerConfiguration,
    Enabled,
    Disabled,
}

impl fmt::Display for CrossZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::UseLoadBalancerConfiguration => "use_load_balancer_configuration",
            Self::Enabled => "true",
            Self::Disabled => "false",
        })
    }
}

/// The transport protocol of a listener or target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    /// Both, on one port.
    TcpUdp,
    /// TLS over TCP: a listener ends it, a target group is spoken to by it.
    Tls,
}

impl Protocol {
    /// TCP is part of it.
    pub const fn has_tcp(self) -> bool {
        match self {
            Self::Tcp | Self::TcpUdp | Self::Tls => true,
            Self::Udp => false,
        }
    }

    /// UDP is part of it.
    pub const fn has_udp(self) -> bool {
        match self {
            Self::Udp | Self::TcpUdp => true,
            Self::Tcp | Self::Tls => false,
        }
    }

    /// A listener of this protocol may lead to a target group of protocol `group`: the group has all that the listener
    /// has. What comes by TLS goes on in clear or by TLS; only that can go on by TLS.
    pub const fn leads_to(self, group: GroupProtocol) -> bool {
        let GroupProtocol::Transport(group) = group else { return false };
        match (self, group) {
            (Self::Tls, Self::Tcp | Self::Tls) | (Self::Tcp, Self::Tcp | Self::TcpUdp) => true,
            (Self::Udp, Self::Udp | Self::TcpUdp) | (Self::TcpUdp, Self::TcpUdp) => true,
            (Self::Tls, Self::Udp | Self::TcpUdp) | (Self::Tcp, Self::Udp | Self::Tls) => false,
            (Self::Udp, Self::Tcp | Self::Tls) | (Self::TcpUdp, Self::Tcp | Self::Udp | Self::Tls) => false,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::TcpUdp => "TCP_UDP",
            Self::Tls => "TLS",
        })
    }
}

impl FromStr for Protocol {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "TCP" | "tcp" => Ok(Self::Tcp),
            "UDP" | "udp" => Ok(Self::Udp),
            "TCP_UDP" | "tcp_udp" => Ok(Self::TcpUdp),
            "TLS" | "tls" => Ok(Self::Tls),
            _ => Err(InvalidValue::new(
                "Protocol",
                text,
                "must be one of '[UDP, TCP, TLS, TCP_UDP]'",
                "use TCP_UDP for both protocols on one port",
            )),
        }
    }
}

serde_as_text!(Protocol);

/// What the targets of a group speak: a transport, which listeners of network load balancers lead to, or requests,
/// which those of application load balancers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupProtocol {
    Transport(Protocol),
    Application(ApplicationProtocol),
}

impl GroupProtocol {
    /// UDP is part of it.
    pub const fn has_udp(self) -> bool {
        match self {
            Self::Transport(protocol) => protocol.has_udp(),
            Self::Application(_) => false,
        }
    }
}

impl From<Protocol> for GroupProtocol {
    fn from(protocol: Protocol) -> Self {
        Self::Transport(protocol)
    }
}

impl PartialEq<Protocol> for GroupProtocol {
    fn eq(&self, protocol: &Protocol) -> bool {
        *self == Self::Transport(*protocol)
    }
}

impl fmt::Display for GroupProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Transport(protocol) => protocol.fmt(f),
            Self::Application(protocol) => protocol.fmt(f),
        }
    }
}

impl FromStr for GroupProtocol {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let transport = text.parse().map(Self::Transport).ok();
        transport.or_else(|| text.parse().map(Self::Application).ok()).ok_or_else(|| {
            InvalidValue::new(
                "Protocol",
                text,
                "must be one of '[HTTP, HTTPS, TCP, TLS, UDP, TCP_UDP]'",
                "use TCP, UDP, TCP_UDP or TLS behind a network load balancer",
            )
        })
    }
}

serde_as_text!(GroupProtocol);

/// JSON objects have text keys only, so the targets travel as a list; the address is in each of them.
mod targets {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Target, TargetAddress};

    pub fn serialize<S: Serializer>(
        targets: &BTreeMap<TargetAddress, Target>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(targets.values())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<TargetAddress, Target>, D::Error> {
        let targets = Vec::<Target>::deserialize(deserializer)?;
        Ok(targets.into_iter().map(|target| (target.address, target)).collect())
    }
}
