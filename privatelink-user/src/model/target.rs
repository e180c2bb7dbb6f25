//! A target: an address and port in the target group's VPC.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{DnsTarget, InstanceId};

/// Where a target listens. The same address may be registered with several ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetAddress {
    #[schema(value_type = String)]
    pub ip: IpAddr,
    /// 1 to 65,535.
    pub port: u16,
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&SocketAddr::new(self.ip, self.port).to_string())
    }
}

/// A registered target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub address: TargetAddress,
    /// The instance that it is, in a group of target type `instance`; the address is then its primary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The name of which it is an address; one that was registered by hand has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<DnsTarget>,
    #[schema(value_type = String)]
    pub registered_at: Timestamp,
    /// When it was deregistered; it takes no new flows since, and goes when the group's deregistration delay has ended.
    #[schema(value_type = Option<String>)]
    pub draining_since: Option<Timestamp>,
}
