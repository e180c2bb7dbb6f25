//! `privatelink interface`.

use clap::Subcommand;

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::control::{Reference, network_interfaces::DescribeNetworkInterfaces, view::NetworkInterfaceView};

#[derive(Debug, Subcommand)]
pub enum InterfaceCommand {
    /// List the network interfaces, of all VPCs or of one.
    List {
        /// Name or id.
        #[arg(long, value_parser = value::reference)]
        vpc: Option<Reference>,
    },
    /// Show one network interface.
    Describe {
        /// Id, or VPC/ADDRESS.
        #[arg(value_parser = value::reference)]
        interface: Reference,
    },
}

impl InterfaceCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::List { vpc } => {
                let request = DescribeNetworkInterfaces { network_interfaces: None, vpc };
                let interfaces = session.client.call(&request).await?;
                session.output.show(&interfaces, |interfaces| rows(interfaces))
            }
            Self::Describe { interface } => {
                let request = DescribeNetworkInterfaces { network_interfaces: Some(vec![interface]), vpc: None };
                let interfaces = session.client.call(&request).await?;
                interfaces.iter().try_for_each(|interface| session.output.show(interface, describe))
            }
        }
    }
}

fn rows<'a>(interfaces: impl IntoIterator<Item = &'a NetworkInterfaceView>) -> String {
    table(
        ["ID", "VPC", "ADDRESS", "SUBNET", "DESCRIPTION"],
        interfaces.into_iter().map(|interface| {
            [
                interface.id.to_string(),
                interface.vpc_name.clone(),
                interface.address.to_string(),
                or_dash(interface.subnet.as_ref()),
                interface.description.clone(),
            ]
        }),
    )
}

fn describe(interface: &NetworkInterfaceView) -> String {
    let NetworkInterfaceView {
        id,
        vpc: _,
        vpc_name,
        subnet,
        address,
        further_addresses,
        interface_type,
        owned_by,
        description,
        security_groups,
    } = interface;
    fields([
        ("ID", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Subnet", or_dash(subnet.as_ref())),
        ("Address", address.to_string()),
        ("Further addresses", list(further_addresses)),
        ("Type", interface_type.clone()),
        ("Owned by", owned_by.clone()),
        ("Description", description.clone()),
        ("Security groups", list(security_groups)),
    ])
}
