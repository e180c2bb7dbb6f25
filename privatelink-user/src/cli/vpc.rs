//! `privatelink vpc`.

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::{ArgGroup, Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        cascade::{DeleteCascading, Doomed},
        view::VpcView,
        vpcs::{CreateVpc, DeleteVpc, DescribeVpcs, ModifyVpc},
    },
    model::{ResourceName, VpcCidr, VpcIpv6Cidr},
};

#[derive(Debug, Subcommand)]
pub enum VpcCommand {
    /// Make a VPC. Doing it again with the same settings changes nothing.
    Create(CreateArgs),
    /// List the VPCs.
    List,
    /// Show one VPC.
    Describe {
        /// Name or id.
        #[arg(value_parser = value::reference)]
        vpc: Reference,
    },
    /// Change a VPC's gateway or attributes; open flows stay.
    Modify(ModifyArgs),
    /// Delete a VPC that has no ports, load balancers, target groups and endpoints.
    Delete {
        /// Name or id.
        #[arg(value_parser = value::reference)]
        vpc: Reference,
        /// Also delete what is in it, and links that lead there, and say what has gone.
        #[arg(long)]
        cascade: bool,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The VPC's name: 1 to 32 letters, digits and inner hyphens.
    #[arg(value_parser = value::parse::<ResourceName>)]
    name: ResourceName,
    /// Its IPv4 range, /8 to /30; it may overlap with other VPCs'.
    #[arg(long, value_parser = value::parse::<VpcCidr>)]
    cidr: VpcCidr,
    /// The router through which targets outside the range are reached.
    #[arg(long, value_name = "IP", value_parser = value::address)]
    gateway: Option<Ipv4Addr>,
    /// Its IPv6 range, /32 to /64; it may overlap with other VPCs'. Without it, it has IPv4 addresses only.
    #[arg(long, value_parser = value::parse::<VpcIpv6Cidr>)]
    ipv6_cidr: Option<VpcIpv6Cidr>,
    /// The router of IPv6 targets outside that range; inside it, or link-local.
    #[arg(long, value_name = "IP", value_parser = value::ipv6_address, requires = "ipv6_cidr")]
    ipv6_gateway: Option<Ipv6Addr>,
}

#[derive(Debug, Args)]
#[command(group(
    ArgGroup::new("change")
        .args([
            "gateway",
            "no_gateway",
            "ipv6_cidr",
            "ipv6_gateway",
            "no_ipv6_gateway",
            "dns_support",
            "dns_hostnames",
        ])
        .required(true)
        .multiple(true)
))]
pub struct ModifyArgs {
    /// Name or id.
    #[arg(value_parser = value::reference)]
    vpc: Reference,
    /// The router through which targets outside the range are reached.
    #[arg(long, value_name = "IP", value_parser = value::address)]
    gateway: Option<Ipv4Addr>,
    /// The VPC has no router.
    #[arg(long, conflicts_with = "gateway")]
    no_gateway: bool,
    /// The IPv6 range of a VPC that has none yet. It stays.
    #[arg(long, value_parser = value::parse::<VpcIpv6Cidr>)]
    ipv6_cidr: Option<VpcIpv6Cidr>,
    /// The router of IPv6 targets outside that range; inside it, or link-local.
    #[arg(long, value_name = "IP", value_parser = value::ipv6_address)]
    ipv6_gateway: Option<Ipv6Addr>,
    /// The VPC has no IPv6 router.
    #[arg(long, conflicts_with = "ipv6_gateway")]
    no_ipv6_gateway: bool,
    /// Whether names are served in the VPC (EC2's enableDnsSupport; on at creation). Private DNS names need it.
    #[arg(long, value_name = "on|off", value_parser = value::on_or_off)]
    dns_support: Option<bool>,
    /// EC2's enableDnsHostnames, off at creation. Private DNS names need it.
    #[arg(long, value_name = "on|off", value_parser = value::on_or_off)]
    dns_hostnames: Option<bool>,
}

impl VpcCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { name, cidr, gateway, ipv6_cidr, ipv6_gateway }) => {
                let request = CreateVpc { name, cidr, gateway, ipv6_cidr, ipv6_gateway };
                let vpc = session.client.call(&request).await?;
                session.output.show(&vpc, |vpc| rows([vpc]))
            }
            Self::List => {
                let vpcs = session.client.call(&DescribeVpcs { vpcs: None }).await?;
                session.output.show(&vpcs, |vpcs| rows(vpcs))
            }
            Self::Describe { vpc } => {
                let vpcs = session.client.call(&DescribeVpcs { vpcs: Some(vec![vpc]) }).await?;
                vpcs.iter().try_for_each(|vpc| session.output.show(vpc, describe))
            }
            Self::Modify(args) => {
                let ModifyArgs {
                    vpc,
                    gateway,
                    no_gateway,
                    ipv6_cidr,
                    ipv6_gateway,
                    no_ipv6_gateway,
                    dns_support,
                    dns_hostnames,
                } = args;
                let ipv6_gateway = if no_ipv6_gateway { Some(None) } else { ipv6_gateway.map(Some) };
                let gateway = if no_gateway { Some(None) } else { gateway.map(Some) };
                let request = ModifyVpc { vpc, gateway, ipv6_cidr, ipv6_gateway, dns_support, dns_hostnames };
                let vpc = session.client.call(&request).await?;
                session.output.show(&vpc, |vpc| rows([vpc]))
            }
            Self::Delete { vpc, cascade: true } => {
                let gone = session.client.call(&DeleteCascading { resource: Doomed::Vpc(vpc) }).await?;
                session.output.show(&gone, |gone| gone.iter().map(|one| format!("deleted {one}\n")).collect())
            }
            Self::Delete { vpc, cascade: false } => {
                session.client.call(&DeleteVpc { vpc: vpc.clone() }).await?;
                session.output.done(&format!("deleted VPC {}", vpc.as_str()))
            }
        }
    }
}

fn rows<'a>(vpcs: impl IntoIterator<Item = &'a VpcView>) -> String {
    table(
        ["NAME", "CIDR", "GATEWAY", "PORTS", "ID"],
        vpcs.into_iter().map(|vpc| {
            [vpc.name.to_string(), vpc.cidr.to_string(), or_dash(vpc.gateway), list(&vpc.ports), vpc.id.to_string()]
        }),
    )
}

fn describe(vpc: &VpcView) -> String {
    let VpcView {
        id,
        owner: _,
        name,
        cidr,
        gateway,
        ipv6,
        index,
        ports,
        dns_support,
        dns_hostnames,
        is_default,
        default_security_group,
        main_route_table,
        default_network_acl,
        created_at,
    } = vpc;
    let on_or_off = |on: &bool| if *on { "on" } else { "off" }.to_owned();
    fields([
        ("Name", name.to_string()),
        ("ID", id.to_string()),
        ("CIDR", cidr.to_string()),
        ("Gateway", or_dash(*gateway)),
        ("IPv6 CIDR", or_dash(ipv6.map(|ipv6| ipv6.cidr))),
        ("IPv6 gateway", or_dash(ipv6.and_then(|ipv6| ipv6.gateway))),
        ("Ports", if ports.is_empty() { "none: it carries no packets yet".to_owned() } else { list(ports) }),
        ("DNS support", on_or_off(dns_support)),
        ("DNS hostnames", on_or_off(dns_hostnames)),
        ("The account's default", is_default.to_string()),
        ("Default security group", default_security_group.to_string()),
        ("Main route table", main_route_table.to_string()),
        ("Default network ACL", default_network_acl.clone()),
        ("Number in the kernel", index.to_string()),
        ("Created", created_at.to_string()),
    ])
}
