//! `privatelink subnet`.

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        cascade::{DeleteCascading, Doomed},
        subnets::{CreateSubnet, DeleteSubnet, DescribeSubnets},
        view::SubnetView,
    },
    model::{SubnetCidr, SubnetIpv6Cidr},
};

const AFTER_HELP: &str = "\
A subnet is a part of a VPC's range in one availability zone. `endpoint create --subnet` takes an address out of it, never \
the first four or the last. Without subnets, addresses come out of the VPC's whole range.";

#[derive(Debug, Subcommand)]
#[command(after_long_help = AFTER_HELP)]
pub enum SubnetCommand {
    /// Make a subnet.
    Create(CreateArgs),
    /// List the subnets, of all VPCs or of one.
    List {
        /// Name or id.
        #[arg(long, value_parser = value::reference)]
        vpc: Option<Reference>,
    },
    /// Show one subnet.
    Describe {
        /// Id, or VPC/CIDR.
        #[arg(value_parser = value::reference)]
        subnet: Reference,
    },
    /// Delete a subnet in which no load balancer and no endpoint has an address.
    Delete {
        /// Id, or VPC/CIDR.
        #[arg(value_parser = value::reference)]
        subnet: Reference,
        /// Also take out the addresses in it, with what has no others, and say what has gone.
        #[arg(long)]
        cascade: bool,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The VPC; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// Its IPv4 range, /16 to /28, inside the VPC's and beside its other subnets'.
    #[arg(long, value_parser = value::parse::<SubnetCidr>)]
    cidr: SubnetCidr,
    /// Its IPv6 range, /44 to /64, inside the VPC's and beside its other subnets'.
    #[arg(long, value_parser = value::parse::<SubnetIpv6Cidr>)]
    ipv6_cidr: Option<SubnetIpv6Cidr>,
    /// Its availability zone, such as us-east-1a. Without it, the one with the fewest subnets of the VPC.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
}

impl SubnetCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { vpc, cidr, ipv6_cidr, zone }) => {
                let subnet = session.client.call(&CreateSubnet { vpc, cidr, ipv6_cidr, zone }).await?;
                session.output.show(&subnet, |subnet| rows([subnet]))
            }
            Self::List { vpc } => {
                let subnets = session.client.call(&DescribeSubnets { subnets: None, vpc }).await?;
                session.output.show(&subnets, |subnets| rows(subnets))
            }
            Self::Describe { subnet } => {
                let request = DescribeSubnets { subnets: Some(vec![subnet]), vpc: None };
                let subnets = session.client.call(&request).await?;
                subnets.iter().try_for_each(|subnet| session.output.show(subnet, describe))
            }
            Self::Delete { subnet, cascade: true } => {
                let gone = session.client.call(&DeleteCascading { resource: Doomed::Subnet(subnet) }).await?;
                session.output.show(&gone, |gone| gone.iter().map(|one| format!("deleted {one}\n")).collect())
            }
            Self::Delete { subnet, cascade: false } => {
                session.client.call(&DeleteSubnet { subnet: subnet.clone() }).await?;
                session.output.done(&format!("deleted subnet {}", subnet.as_str()))
            }
        }
    }
}

fn rows<'a>(subnets: impl IntoIterator<Item = &'a SubnetView>) -> String {
    table(
        ["ID", "VPC", "CIDR", "ZONE", "FREE"],
        subnets.into_iter().map(|subnet| {
            [
                subnet.id.to_string(),
                subnet.vpc_name.clone(),
                subnet.cidr.to_string(),
                subnet.zone.clone(),
                subnet.free_addresses.to_string(),
            ]
        }),
    )
}

fn describe(subnet: &SubnetView) -> String {
    let SubnetView { id, vpc: _, vpc_name, cidr, ipv6_cidr, zone, is_default, free_addresses, created_at } = subnet;
    fields([
        ("ID", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("CIDR", cidr.to_string()),
        ("IPv6 CIDR", or_dash(*ipv6_cidr)),
        ("Zone", zone.clone()),
        ("Default for the zone", is_default.to_string()),
        ("Free addresses", free_addresses.to_string()),
        ("Created", created_at.to_string()),
    ])
}
