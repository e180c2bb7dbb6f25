//! `privatelink listener`.

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{list, table},
    value,
};
use crate::{
    control::{
        Reference,
        listeners::{CreateListener, DeleteListener, DescribeListeners, ModifyListener},
        view::ListenerView,
    },
    model::{AttributeMap as _, ListenerAttributes, Protocol},
};

#[derive(Debug, Subcommand)]
pub enum ListenerCommand {
    /// Make a listener. Doing it again with the same settings changes nothing.
    Create(CreateArgs),
    /// List the listeners.
    List {
        /// Only those of this load balancer; name or ARN.
        #[arg(value_parser = value::reference)]
        load_balancer: Option<Reference>,
    },
    /// Lead a listener to another target group, or change its attributes; open flows stay.
    Modify(ModifyArgs),
    /// Delete a listener.
    Delete {
        /// ARN, or LOAD-BALANCER:PORT.
        #[arg(value_parser = value::reference)]
        listener: Reference,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The load balancer; name or ARN.
    #[arg(value_parser = value::reference)]
    load_balancer: Reference,
    /// TCP, UDP, or TCP_UDP for both on one port.
    #[arg(long, value_parser = value::parse::<Protocol>)]
    protocol: Protocol,
    /// The port on which endpoints and node addresses answer.
    #[arg(long, value_name = "N", value_parser = value::port)]
    port: u16,
    /// Where connections go; name or ARN.
    #[arg(long, value_parser = value::reference)]
    target_group: Reference,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// ARN, or LOAD-BALANCER:PORT.
    #[arg(value_parser = value::reference)]
    listener: Reference,
    /// Where new connections go; name or ARN.
    #[arg(long, value_parser = value::reference, required_unless_present = "attributes")]
    target_group: Option<Reference>,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
struct AttributeArgs {
    /// Set an attribute; may be given several times.
    #[arg(id = "attributes", long = "attribute", value_name = "KEY=VALUE", value_parser = value::attribute)]
    #[arg(long_help = format!("Set an attribute; may be given several times. The keys:\n{}", ListenerAttributes::help()))]
    attributes: Vec<(String, String)>,
}

impl ListenerCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { load_balancer, protocol, port, target_group, attributes }) => {
                let attributes = attributes.attributes.into_iter().collect();
                let request = CreateListener { load_balancer, protocol, port, target_group, attributes };
                let listener = session.client.call(&request).await?;
                session.output.show(&listener, |listener| rows([listener]))
            }
            Self::List { load_balancer } => {
                let listeners = session.client.call(&DescribeListeners { load_balancer }).await?;
                session.output.show(&listeners, |listeners| rows(listeners))
            }
            Self::Modify(ModifyArgs { listener, target_group, attributes }) => {
                let attributes = attributes.attributes.into_iter().collect();
                let listener = session.client.call(&ModifyListener { listener, target_group, attributes }).await?;
                session.output.show(&listener, |listener| rows([listener]))
            }
            Self::Delete { listener } => {
                session.client.call(&DeleteListener { listener: listener.clone() }).await?;
                session.output.done(&format!("deleted listener {}", listener.as_str()))
            }
        }
    }
}

fn rows<'a>(listeners: impl IntoIterator<Item = &'a ListenerView>) -> String {
    table(
        ["LISTENER", "PROTOCOL", "TARGET GROUP", "ATTRIBUTES", "ARN"],
        listeners.into_iter().map(|listener| {
            [
                listener.name.clone(),
                listener.protocol.to_string(),
                listener.target_group_name.clone(),
                list(listener.attributes.iter().map(|(key, value)| format!("{key}={value}"))),
                listener.id.to_string(),
            ]
        }),
    )
}
