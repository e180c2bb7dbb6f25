//! `privatelink endpoint`.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        endpoints::{CreateEndpoint, DeleteEndpoint, DescribeEndpoints, ModifyEndpoint, ModifyEndpointPayer},
        subnets::Placement,
        view::EndpointView,
    },
    model::{Alias, DnsRecordIpType, IpAddressType, PayerResponsibility, PolicyDocument, Region},
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
    /// Change who may connect, its subnets, its aliases, its policy, or whether it answers for the private DNS name.
    Modify(ModifyArgs),
    /// Pay for an endpoint yourself, which its service's owner has paid for. Nobody counts money here; it is kept and
    /// shown.
    TakeCharges {
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
    /// The service's region, if it is not the endpoint's; the service must support the endpoint's.
    #[arg(long, value_name = "REGION", value_parser = value::parse::<Region>)]
    service_region: Option<Region>,
    /// The consumer's VPC; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// A free address of the VPC. Without it the first free one is taken, after the first four.
    #[arg(long, value_name = "IP", value_parser = value::address)]
    address: Option<Ipv4Addr>,
    #[command(flatten)]
    families: FamilyArgs,
    /// A subnet in which it has an address, free or this one: id, or VPC/CIDR. May be repeated, one a zone.
    #[arg(long = "subnet", value_name = "SUBNET[=IP]", value_parser = placement, conflicts_with = "address")]
    subnets: Vec<Placement>,
    /// An address or prefix, such as 10.200.0.10/32, that hosts of the VPC route to the endpoint's address: what they
    /// send there reaches the service too. May be repeated; of overlapping ones the longest counts.
    #[arg(long = "alias", value_name = "PREFIX", value_parser = value::parse::<Alias>)]
    aliases: Vec<Alias>,
    /// A security group of the VPC that says who may connect; name or id. May be repeated, up to five. Without it,
    /// everybody in the VPC may.
    #[arg(long = "security-group", value_name = "GROUP", value_parser = value::reference)]
    security_groups: Vec<Reference>,
    /// Let the endpoint answer for the service's private DNS name in the VPC; not before it is accepted.
    #[arg(long)]
    private_dns: bool,
    /// Let it do so as soon as it is accepted and the name is verified.
    #[arg(long)]
    private_dns_on_acceptance: bool,
    /// A policy, as JSON. It is kept and shown.
    #[arg(long, value_name = "JSON", value_parser = value::parse::<PolicyDocument>)]
    policy: Option<PolicyDocument>,
}

/// The IP families of an endpoint.
#[derive(Debug, Args)]
struct FamilyArgs {
    /// ipv4, or dualstack: with IPv6 addresses too, one in each of its subnets, or one of the VPC. The service's load
    /// balancers must be dualstack.
    #[arg(long, value_name = "TYPE", value_parser = value::parse::<IpAddressType>)]
    ip_address_type: Option<IpAddressType>,
    /// A free IPv6 address of the VPC. Without it the first free one is taken.
    #[arg(long, value_name = "IP", value_parser = value::ipv6_address)]
    ipv6_address: Option<Ipv6Addr>,
    /// Which of its addresses its names answer with: ipv4 (A records), ipv6 (AAAA), dualstack (both), or
    /// service-defined (both, but A only for the private DNS name). Without it, with all. All but ipv4 need a dualstack
    /// endpoint.
    #[arg(long, value_name = "TYPE", value_parser = value::parse::<DnsRecordIpType>)]
    dns_record_ip_type: Option<DnsRecordIpType>,
}

/// `SUBNET` or `SUBNET=IP`.
fn placement(argument: &str) -> Result<Placement, String> {
    match argument.split_once('=') {
        Some((subnet, address)) => Ok(Placement {
            subnet: value::reference(subnet)?,
            address: Some(value::address(address)?),
            ipv6_address: None,
        }),
        None => Ok(Placement { subnet: value::reference(argument)?, address: None, ipv6_address: None }),
    }
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// Id, or VPC/ADDRESS.
    #[arg(value_parser = value::reference)]
    endpoint: Reference,
    #[command(flatten)]
    families: FamilyArgs,
    /// Let its names answer with all its addresses again, whichever it has.
    #[arg(long, conflicts_with = "dns_record_ip_type")]
    reset_dns_record_ip_type: bool,
    /// An alias instead of the present ones: an address or prefix that hosts of the VPC route to the endpoint. May be
    /// repeated.
    #[arg(long = "alias", value_name = "PREFIX", value_parser = value::parse::<Alias>)]
    aliases: Vec<Alias>,
    /// Take all aliases away.
    #[arg(long, conflicts_with = "aliases")]
    no_aliases: bool,
    #[command(flatten)]
    groups: GroupArgs,
    /// Whether the endpoint answers for the service's private DNS name in the VPC.
    #[arg(long, value_name = "BOOL")]
    private_dns: Option<bool>,
    /// Whether it is to do so as soon as it is accepted and the name is verified.
    #[arg(long, value_name = "BOOL")]
    private_dns_on_acceptance: Option<bool>,
    /// A subnet in which it gets an address, free or this one. May be repeated, one a zone.
    #[arg(long = "add-subnet", value_name = "SUBNET[=IP]", value_parser = placement)]
    add_subnets: Vec<Placement>,
    /// A subnet in which it loses its address; the flows there end. May be repeated.
    #[arg(long = "remove-subnet", value_name = "SUBNET", value_parser = value::reference)]
    remove_subnets: Vec<Reference>,
    /// Another policy, as JSON.
    #[arg(long, value_name = "JSON", value_parser = value::parse::<PolicyDocument>)]
    policy: Option<PolicyDocument>,
    /// The default policy again.
    #[arg(long, conflicts_with = "policy")]
    reset_policy: bool,
}

/// The security groups that something is to carry from now on.
#[derive(Debug, Args)]
pub struct GroupArgs {
    /// A security group instead of the present ones; name or id. May be repeated, up to five.
    #[arg(long = "security-group", value_name = "GROUP", value_parser = value::reference)]
    security_groups: Vec<Reference>,
    /// Take all security groups off.
    #[arg(long, conflicts_with = "security_groups")]
    no_security_groups: bool,
    /// End open flows that the new groups do not allow. Without it they count for new flows only.
    #[arg(long)]
    pub apply_to_established: bool,
}

impl GroupArgs {
    /// None: the groups stay.
    pub fn wanted(&self) -> Option<Vec<Reference>> {
        (self.no_security_groups || !self.security_groups.is_empty()).then(|| self.security_groups.clone())
    }
}

impl EndpointCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(args) => {
                let CreateArgs {
                    service_name,
                    service_region,
                    vpc,
                    address,
                    families,
                    subnets,
                    aliases,
                    security_groups,
                    private_dns,
                    private_dns_on_acceptance,
                    policy,
                } = args;
                let FamilyArgs { ip_address_type, ipv6_address, dns_record_ip_type } = families;
                let request = CreateEndpoint {
                    service_name,
                    service_region,
                    vpc,
                    address,
                    ip_address_type,
                    ipv6_address,
                    dns_record_ip_type,
                    subnets,
                    aliases: aliases.into_iter().collect(),
                    security_groups,
                    private_dns,
                    private_dns_on_acceptance,
                    policy,
                };
                let endpoint = session.client.call(&request).await?;
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
            Self::Modify(ModifyArgs {
                endpoint,
                families: FamilyArgs { ip_address_type, ipv6_address, dns_record_ip_type },
                reset_dns_record_ip_type,
                aliases,
                no_aliases,
                groups,
                private_dns,
                private_dns_on_acceptance,
                add_subnets,
                remove_subnets,
                policy,
                reset_policy,
            }) => {
                let request = ModifyEndpoint {
                    endpoint,
                    ip_address_type,
                    ipv6_address,
                    dns_record_ip_type,
                    reset_dns_record_ip_type,
                    aliases: (no_aliases || !aliases.is_empty()).then(|| aliases.into_iter().collect()),
                    security_groups: groups.wanted(),
                    apply_to_established: groups.apply_to_established,
                    private_dns,
                    private_dns_on_acceptance,
                    add_subnets,
                    remove_subnets,
                    policy,
                    reset_policy,
                };
                let endpoint = session.client.call(&request).await?;
                session.output.show(&endpoint, describe)
            }
            Self::TakeCharges { endpoint } => {
                let done = format!("you pay for endpoint {}", endpoint.as_str());
                let payer = PayerResponsibility::EndpointOwner;
                session.client.call(&ModifyEndpointPayer { endpoint_service: None, endpoint, payer }).await?;
                session.output.done(&done)
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
                list(&endpoint.addresses),
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
        service_region,
        service_alias,
        vpc: _,
        vpc_name,
        address: _,
        addresses,
        ip_address_type,
        dns_record_ip_type,
        aliases,
        dns_names,
        state,
        security_groups: _,
        security_group_names,
        private_dns,
        private_dns_on_acceptance,
        policy,
        payer,
        created_at,
    } = endpoint;
    let private_dns = match (private_dns, private_dns_on_acceptance) {
        (Some(name), _) => name.to_string(),
        (None, true) => "as soon as it is accepted and the name is verified".to_owned(),
        (None, false) => "-".to_owned(),
    };
    fields([
        ("ID", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Address", list(addresses)),
        ("IP address type", ip_address_type.to_string()),
        ("Aliases", list(aliases)),
        ("DNS names", list(dns_names)),
        ("DNS record IP type", dns_record_ip_type.to_string()),
        ("Service name", service_name.to_string()),
        ("Service region", service_region.to_string()),
        ("Service alias", or_dash(service_alias.as_ref())),
        ("Private DNS", private_dns),
        ("Security groups", list(security_group_names)),
        ("Policy", policy.to_string()),
        ("Paid by", payer.to_string()),
        ("State", state.to_string()),
        ("Created", created_at.to_string()),
    ])
}
