//! `privatelink flow`.

use clap::Subcommand;

use super::{
    CliError, Session,
    output::{or_dash, table},
    value,
};
use crate::{
    api::{DescribeFlows, FlowView},
    control::Reference,
};

#[derive(Debug, Subcommand)]
pub enum FlowCommand {
    /// List the open flows, seen from the client.
    List {
        /// Only those of this consumer's VPC; name or id.
        #[arg(long, value_parser = value::reference)]
        vpc: Option<Reference>,
        /// Only those of this endpoint; id, or VPC/ADDRESS.
        #[arg(long, value_name = "ID", value_parser = value::reference)]
        endpoint: Option<Reference>,
    },
}

impl FlowCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::List { vpc, endpoint } => {
                let flows = session.client.call(&DescribeFlows { vpc, endpoint }).await?;
                session.output.show(&flows, |flows| rows(flows))
            }
        }
    }
}

fn rows(flows: &[FlowView]) -> String {
    table(
        ["VPC", "PROTOCOL", "CLIENT", "FRONTEND", "ENDPOINT", "NODE", "TARGET", "STATE", "IDLE"],
        flows.iter().map(|FlowView { vpc_name, flow }| {
            [
                or_dash(vpc_name.as_ref()),
                flow.protocol.clone(),
                flow.client.to_string(),
                flow.frontend.to_string(),
                or_dash(flow.endpoint.as_ref()),
                flow.node.to_string(),
                flow.target.to_string(),
                flow.state.clone(),
                format!("{} s", flow.idle_seconds),
            ]
        }),
    )
}
