//! Operations that ask the running agent only.

use serde::{Deserialize, Serialize};

use crate::{
    control::{Reference, operation},
    runtime::{FlowRecord, Stats},
};

/// Lists the open flows, of all endpoints or of some.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowView {
    /// None if the VPC is gone and the flow not yet.
    pub vpc_name: Option<String>,
    #[serde(flatten)]
    pub flow: FlowRecord,
}

/// Reads every counter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribeStats {}
operation!(DescribeStats -> Stats);
