//! `privatelink endpoint`.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::control::{
    Reference,
    endpoints::{CreateEndpoint, DeleteEndpoint, DescribeEndpoints},
    view::EndpointView,
};

#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// Make an endpoint. With --address, doing it again changes nothing; without, each call makes another.
    Create(CreateArgs),
    /// List the endpoints.
    List,
    /// Show one endpoint.
    Describe {
        /// Id, or VPC/ADDRESS.
        #[arg(value_parser = value::reference)]
        endpoint: Reference,
    },
    /// Delete an endpoint; its flows end.
    Delete {
        /// Id, or VPC/ADDRESS.
        #[arg(value_parser = value::reference)]
        endpoint: Reference,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The endpoint service: its service name, id or alias.
    #[arg(long, value_name = "SERVICE", value_parser = value::reference)]
    service_name: Reference,
    /// The consumer's VPC; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// A free address of the VPC. Without it the first free one is taken, after the first four.
    #[arg(long, value_name = "IP", value_parser = value::address)]
    address: Option<Ipv4Addr>,
}

impl EndpointCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { service_name, vpc, address }) => {
                let endpoint = session.client.call(&CreateEndpoint { service_name, vpc, address }).await?;
                session.output.show(&endpoint, |endpoint| rows([endpoint]))
            }
            Self::List => {
                let endpoints = session.client.call(&DescribeEndpoints { endpoints: None }).await?;
                session.output.show(&endpoints, |endpoints| rows(endpoints))
            }
            Self::Describe { endpoint } => {
                let endpoints = session.client.call(&DescribeEndpoints { endpoints: Some(vec![endpoint]) }).await?;
                endpoints.iter().try_for_each(|endpoint| session.output.show(endpoint, describe))
            }
            Self::Delete { endpoint } => {
                session.client.call(&DeleteEndpoint { endpoint: endpoint.clone() }).await?;
                session.output.done(&format!("deleted endpoint {}", endpoint.as_str()))
            }
        }
    }
}

fn service(endpoint: &EndpointView) -> String {
    let alias = endpoint.service_alias.as_ref().map(ToString::to_string);
    alias.unwrap_or_else(|| endpoint.service_name.to_string())
}

fn rows<'a>(endpoints: impl IntoIterator<Item = &'a EndpointView>) -> String {
    table(
        ["ID", "VPC", "ADDRESS", "SERVICE", "STATE"],
        endpoints.into_iter().map(|endpoint| {
            [
                endpoint.id.to_string(),
                endpoint.vpc_name.clone(),
                endpoint.address.to_string(),
                service(endpoint),
                endpoint.state.to_string(),
            ]
        }),
    )
}

fn describe(endpoint: &EndpointView) -> String {
    let EndpointView {
        id,
        owner: _,
        service: _,
        service_name,
        service_alias,
        vpc: _,
        vpc_name,
        address,
        dns_names,
        state,
        created_at,
    } = endpoint;
    fields([
        ("ID", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Address", address.to_string()),
        ("DNS names", list(dns_names)),
        ("Service name", service_name.to_string()),
        ("Service alias", or_dash(service_alias.as_ref())),
        ("State", state.to_string()),
        ("Created", created_at.to_string()),
    ])
}
