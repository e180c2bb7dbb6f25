//! An endpoint: an address in a consumer's VPC that leads to one endpoint service.

use std::{fmt, net::Ipv4Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EndpointId, EndpointServiceId, Owner, VpcId};

/// An address in a consumer's VPC that leads to one endpoint service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub id: EndpointId,
    pub owner: Owner,
    pub service: EndpointServiceId,
    /// The consumer's VPC.
    pub vpc: VpcId,
    /// Inside the VPC's CIDR; kept for the endpoint's life.
    pub address: Ipv4Addr,
    pub state: EndpointState,
    pub created_at: Timestamp,
}

/// Where an endpoint stands. Traffic flows in `available` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    Available,
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Available => "available",
        })
    }
}
