//! `privatelink load-balancer`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    endpoint::GroupArgs,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        cascade::{DeleteCascading, Doomed},
        load_balancers::{
            CreateLoadBalancer, DeleteLoadBalancer, DescribeLoadBalancers, ModifyLoadBalancer, SetSecurityGroups,
        },
        view::LoadBalancerView,
    },
    model::{AttributeMap as _, LoadBalancerAttributes, ResourceName},
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
    /// Change a load balancer's attributes or security groups.
    Modify(ModifyArgs),
    /// Delete a load balancer that no endpoint service uses, with its listeners.
    Delete {
        /// Name or ARN.
        #[arg(value_parser = value::reference)]
        load_balancer: Reference,
        /// Also delete the endpoint service that it alone serves, and say what has gone; its connections are rejected.
        #[arg(long)]
        cascade: bool,
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
    /// target of its family. At least one of IPv4; with IPv6 ones too, the load balancer is dualstack.
    #[arg(long = "address", value_name = "IP", required = true, num_args = 1.., value_parser = value::ip_address)]
    addresses: Vec<IpAddr>,
    /// A security group of the VPC that says who may connect, and where the load balancer may connect to; name or id.
    /// May be repeated, up to five. Without it, everything may pass.
    #[arg(long = "security-group", value_name = "GROUP", value_parser = value::reference)]
    security_groups: Vec<Reference>,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// Name or ARN.
    #[arg(value_parser = value::reference)]
    load_balancer: Reference,
    #[command(flatten)]
    groups: GroupArgs,
    /// An IPv6 node address instead of the present ones; a free address of the VPC. May be repeated. Those that stay
    /// keep their flows.
    #[arg(long = "ipv6-address", value_name = "IP", value_parser = value::ipv6_address)]
    ipv6_addresses: Vec<Ipv6Addr>,
    /// Take all IPv6 addresses away, if neither IPv6 targets nor endpoints need them.
    #[arg(long, conflicts_with = "ipv6_addresses")]
    no_ipv6_addresses: bool,
    /// Whether the inbound rules also filter what comes through endpoints, by the client's address in its own VPC; on
    /// at first.
    #[arg(long, value_name = "on|off", value_parser = value::on_or_off)]
    enforce_on_private_link: Option<bool>,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
struct AttributeArgs {
    /// Set an attribute; may be given several times.
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = value::attribute)]
    #[arg(long_help = format!("Set an attribute; may be given several times. The keys:\n{}", LoadBalancerAttributes::help()))]
    attributes: Vec<(String, String)>,
}

impl LoadBalancerCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { name, vpc, addresses, security_groups, attributes }) => {
                let attributes = attributes.attributes.into_iter().collect();
                let request = CreateLoadBalancer {
                    kind: Default::default(),
                    name,
                    vpc,
                    addresses,
                    scheme: Default::default(),
                    security_groups,
                    attributes,
                };
                let lb = session.client.call(&request).await?;
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
            Self::Modify(args) => {
                let ModifyArgs {
                    load_balancer,
                    groups,
                    ipv6_addresses,
                    no_ipv6_addresses,
                    enforce_on_private_link,
                    attributes,
                } = args;
                let ipv6_addresses = (no_ipv6_addresses || !ipv6_addresses.is_empty()).then_some(ipv6_addresses);
                let attributes: BTreeMap<String, String> = attributes.attributes.into_iter().collect();
                let wanted = groups.wanted();
                let regrouped = wanted.is_some() || enforce_on_private_link.is_some();
                if attributes.is_empty() && ipv6_addresses.is_none() && !regrouped {
                    return Err(CliError::Input {
                        message: format!("nothing to change on load balancer '{}' was given", load_balancer.as_str()),
                        hint: "give --attribute KEY=VALUE, --ipv6-address IP, --security-group GROUP or \
                               --enforce-on-private-link; --help lists them"
                            .to_owned(),
                    });
                }
                let request = ModifyLoadBalancer { load_balancer: load_balancer.clone(), attributes, ipv6_addresses };
                let mut lb = session.client.call(&request).await?;
                if regrouped {
                    let request = SetSecurityGroups {
                        load_balancer,
                        security_groups: wanted,
                        enforce_on_private_link,
                        apply_to_established: groups.apply_to_established,
                    };
                    lb = session.client.call(&request).await?;
                }
                session.output.show(&lb, describe)
            }
            Self::Delete { load_balancer, cascade: true } => {
                let gone =
                    session.client.call(&DeleteCascading { resource: Doomed::LoadBalancer(load_balancer) }).await?;
                session.output.show(&gone, |gone| gone.iter().map(|one| format!("deleted {one}\n")).collect())
            }
            Self::Delete { load_balancer, cascade: false } => {
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
    let LoadBalancerView {
        id,
        name,
        vpc: _,
        vpc_name,
        addresses,
        ip_address_type,
        secondary_addresses,
        attributes,
        dns_name,
        security_groups: _,
        security_group_names,
        enforce_on_private_link,
        listeners,
        endpoint_service,
        state,
        created_at,
    } = lb;
    let why = state.reason(id).map(|why| format!(": {why}")).unwrap_or_default();
    let enforced = if *enforce_on_private_link { "" } else { " (not for what comes through endpoints)" };
    let listener = |listener: &crate::control::view::ListenerView| {
        format!("{} {} to {}", listener.protocol, listener.port, listener.target_group_name)
    };
    fields([
        ("Name", name.to_string()),
        ("ARN", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Node addresses", list(addresses)),
        ("Secondary node addresses", list(secondary_addresses)),
        ("Attributes", list(attributes.iter().map(|(key, value)| format!("{key}={value}")))),
        ("DNS name", dns_name.clone()),
        ("IP address type", ip_address_type.to_string()),
        ("Security groups", format!("{}{enforced}", list(security_group_names))),
        ("Listeners", list(listeners.iter().map(listener))),
        ("Endpoint service", or_dash(endpoint_service.as_ref())),
        ("State", format!("{state}{why}")),
        ("Created", created_at.to_string()),
    ])
}
