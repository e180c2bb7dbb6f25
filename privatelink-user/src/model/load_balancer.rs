//! A Network Load Balancer: node addresses in the provider's VPC.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{LoadBalancerId, ResourceName, SecurityGroups, VpcId};

/// A Network Load Balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadBalancer {
    pub id: LoadBalancerId,
    /// Unique among its owner's load balancers.
    pub name: ResourceName,
    /// The provider's VPC.
    pub vpc: VpcId,
    /// The node addresses: inside the VPC's CIDR, at least one, the only sources that a target sees. Each adds 64,512
    /// ports towards every target.
    pub addresses: Vec<Ipv4Addr>,
    /// Who may connect, and where the load balancer may connect to.
    #[serde(default)]
    pub security_groups: SecurityGroups,
    /// Whether the inbound rules also filter what comes through endpoints, by the address of the client in its own VPC
    /// (AWS `EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic`).
    #[serde(default = "on")]
    pub enforce_on_private_link: bool,
    pub created_at: Timestamp,
}

/// The enforcement's default.
fn on() -> bool {
    true
}
