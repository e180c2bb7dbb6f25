//! `privatelink load-balancer`.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        load_balancers::{CreateLoadBalancer, DeleteLoadBalancer, DescribeLoadBalancers},
        view::LoadBalancerView,
    },
    model::ResourceName,
};

#[derive(Debug, Subcommand)]
pub enum LoadBalancerCommand {
    /// Make a Network Load Balancer. Doing it again with the same settings changes nothing.
    Create(CreateArgs),
    /// List the load balancers.
    List,
    /// Show one load balancer.
    Describe {
        /// Name or ARN.
        #[arg(value_parser = value::reference)]
        load_balancer: Reference,
    },
    /// Delete a load balancer that no endpoint service uses, with its listeners.
    Delete {
        /// Name or ARN.
        #[arg(value_parser = value::reference)]
        load_balancer: Reference,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The load balancer's name: 1 to 32 letters, digits and inner hyphens.
    #[arg(value_parser = value::parse::<ResourceName>)]
    name: ResourceName,
    /// The provider's VPC; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// A node address: a free address of the VPC, the source that targets see. Each adds 64,512 connections to every
    /// target.
    #[arg(long = "address", value_name = "IP", required = true, num_args = 1.., value_parser = value::address)]
    addresses: Vec<Ipv4Addr>,
}

impl LoadBalancerCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { name, vpc, addresses }) => {
                let lb = session.client.call(&CreateLoadBalancer { name, vpc, addresses }).await?;
                session.output.show(&lb, |lb| rows([lb]))
            }
            Self::List => {
                let lbs = session.client.call(&DescribeLoadBalancers { load_balancers: None }).await?;
                session.output.show(&lbs, |lbs| rows(lbs))
            }
            Self::Describe { load_balancer } => {
                let request = DescribeLoadBalancers { load_balancers: Some(vec![load_balancer]) };
                let lbs = session.client.call(&request).await?;
                lbs.iter().try_for_each(|lb| session.output.show(lb, describe))
            }
            Self::Delete { load_balancer } => {
                session.client.call(&DeleteLoadBalancer { load_balancer: load_balancer.clone() }).await?;
                session.output.done(&format!("deleted load balancer {}", load_balancer.as_str()))
            }
        }
    }
}

fn rows<'a>(lbs: impl IntoIterator<Item = &'a LoadBalancerView>) -> String {
    table(
        ["NAME", "VPC", "ADDRESSES", "LISTENERS", "ENDPOINT SERVICE", "ARN"],
        lbs.into_iter().map(|lb| {
            [
                lb.name.to_string(),
                lb.vpc_name.clone(),
                list(&lb.addresses),
                list(lb.listeners.iter().map(|listener| listener.port)),
                or_dash(lb.endpoint_service.as_ref()),
                lb.id.to_string(),
            ]
        }),
    )
}

fn describe(lb: &LoadBalancerView) -> String {
    let LoadBalancerView { id, name, vpc: _, vpc_name, addresses, dns_name, listeners, endpoint_service, created_at } = lb;
    let listener = |listener: &crate::control::view::ListenerView| {
        format!("{} {} to {}", listener.protocol, listener.port, listener.target_group_name)
    };
    fields([
        ("Name", name.to_string()),
        ("ARN", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Node addresses", list(addresses)),
        ("DNS name", dns_name.clone()),
        ("Listeners", list(listeners.iter().map(listener))),
        ("Endpoint service", or_dash(endpoint_service.as_ref())),
        ("Created", created_at.to_string()),
    ])
}
