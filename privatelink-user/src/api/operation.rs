//! Operations that ask the running agent only.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    control::{Reference, operation},
    runtime::{Explanation, FlowRecord, PacketProtocol, Stats},
};

/// Lists the open flows, of all endpoints or of some.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeFlows {
    /// The consumer's VPC.
    #[serde(default)]
    pub vpc: Option<Reference>,
    #[serde(default)]
    pub endpoint: Option<Reference>,
}
operation!(DescribeFlows -> Vec<FlowView>);

/// A flow, with the name of its VPC.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FlowView {
    /// None if the VPC is gone and the flow not yet.
    pub vpc_name: Option<String>,
    #[serde(flatten)]
    pub flow: FlowRecord,
}

/// Reads every counter.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeStats {}
operation!(DescribeStats -> Stats);

/// Asks what would become of a packet. Changes nothing.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainPacket {
    /// The VPC that the packet is sent in.
    pub vpc: Reference,
    /// The port of the VPC that it comes in on. None: the first one.
    #[serde(default)]
    pub port: Option<Reference>,
    #[schema(value_type = String)]
    pub from: IpAddr,
    /// None: any port that a client would use.
    #[serde(default)]
    pub from_port: Option<u16>,
    #[schema(value_type = String)]
    pub to: SocketAddr,
    #[serde(default)]
    pub protocol: PacketProtocol,
}
operation!(ExplainPacket -> Explanation);
