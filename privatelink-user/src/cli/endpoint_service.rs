//! `privatelink endpoint-service`.

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        endpoint_services::{CreateEndpointService, DeleteEndpointService, DescribeEndpointServices},
        view::EndpointServiceView,
    },
    model::ResourceName,
};

#[derive(Debug, Subcommand)]
pub enum EndpointServiceCommand {
    /// Publish a load balancer and print the service name. Doing it again prints the same name.
    Create(CreateArgs),
    /// List the endpoint services.
    List,
    /// Show one endpoint service.
    Describe {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
    },
    /// Delete an endpoint service that no endpoint leads to.
    Delete {
        /// Service name, id or alias.
        #[arg(value_parser = value::reference)]
        endpoint_service: Reference,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The load balancer; name or ARN. It serves one endpoint service.
    #[arg(long, value_parser = value::reference)]
    load_balancer: Reference,
    /// A short alias for the service name, for use on this host.
    #[arg(long, value_parser = value::parse::<ResourceName>)]
    name: Option<ResourceName>,
}

impl EndpointServiceCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { load_balancer, name }) => {
                let service = session.client.call(&CreateEndpointService { load_balancer, name }).await?;
                session.output.show(&service, |service| service.service_name.to_string())
            }
            Self::List => {
                let services = session.client.call(&DescribeEndpointServices { endpoint_services: None }).await?;
                session.output.show(&services, |services| rows(services))
            }
            Self::Describe { endpoint_service } => {
                let request = DescribeEndpointServices { endpoint_services: Some(vec![endpoint_service]) };
                let services = session.client.call(&request).await?;
                services.iter().try_for_each(|service| session.output.show(service, describe))
            }
            Self::Delete { endpoint_service } => {
                session.client.call(&DeleteEndpointService { endpoint_service: endpoint_service.clone() }).await?;
                session.output.done(&format!("deleted endpoint service {}", endpoint_service.as_str()))
            }
        }
    }
}

fn rows(services: &[EndpointServiceView]) -> String {
    table(
        ["NAME", "SERVICE NAME", "LOAD BALANCER", "ENDPOINTS"],
        services.iter().map(|service| {
            [
                or_dash(service.alias.as_ref()),
                service.service_name.to_string(),
                service.load_balancer_name.clone(),
                service.endpoints.len().to_string(),
            ]
        }),
    )
}

fn describe(service: &EndpointServiceView) -> String {
    let EndpointServiceView {
        id,
        owner: _,
        service_name,
        alias,
        load_balancer: _,
        load_balancer_name,
        endpoints,
        created_at,
    } = service;
    fields([
        ("Service name", service_name.to_string()),
        ("ID", id.to_string()),
        ("Alias", or_dash(alias.as_ref())),
        ("Load balancer", load_balancer_name.clone()),
        ("Endpoints", list(endpoints)),
        ("Created", created_at.to_string()),
    ])
}
