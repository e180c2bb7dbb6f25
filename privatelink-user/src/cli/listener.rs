//! `privatelink listener`.

use clap::{ArgAction, Args, Subcommand};

use super::{
    CliError, Session,
    output::{list, table},
    value,
};
use crate::{
    control::{
        Reference,
        listeners::{CreateListener, DeleteListener, DescribeListeners, ModifyListener, TargetGroupWeight},
        view::ListenerView,
    },
    model::{AttributeMap as _, ListenerAttributes, ListenerPorts, Protocol},
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
    /// Lead a listener to other target groups, change their weights, or its attributes; open flows stay.
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
    /// The port on which endpoints and node addresses answer, several as FIRST-LAST, or `all`. Of several, targets get the port
    /// that the client has asked for, and the port with which they are registered is for health checks only.
    #[arg(long, value_name = "N|FIRST-LAST|all", value_parser = value::parse::<ListenerPorts>)]
    port: ListenerPorts,
    /// Where connections go; name or ARN. Several share them by weight: --target-group a=70 --target-group b=30, each
    /// weight 0 to 999.
    #[arg(long = "target-group", value_name = "GROUP[=WEIGHT]", required = true, value_parser = value::parse::<TargetGroupWeight>)]
    target_groups: Vec<TargetGroupWeight>,
    /// Whether later connections of a client stay in the target group of its earlier ones.
    #[arg(long, value_name = "on|off", default_value = "off", action = ArgAction::Set, value_parser = value::on_or_off)]
    stickiness: bool,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// ARN, or LOAD-BALANCER:PORT.
    #[arg(value_parser = value::reference)]
    listener: Reference,
    /// Where new connections go; name or ARN, or several with weights. Open flows stay, but those to a group of weight 0
    /// end shortly after.
    #[arg(long = "target-group", value_name = "GROUP[=WEIGHT]", value_parser = value::parse::<TargetGroupWeight>)]
    #[arg(required_unless_present_any = ["attributes", "stickiness"])]
    target_groups: Vec<TargetGroupWeight>,
    /// Whether later connections of a client stay in the target group of its earlier ones.
    #[arg(long, value_name = "on|off", value_parser = value::on_or_off)]
    stickiness: Option<bool>,
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
            Self::Create(CreateArgs { load_balancer, protocol, port, target_groups, stickiness, attributes }) => {
                let attributes = attributes.attributes.into_iter().collect();
                let request = CreateListener {
                    load_balancer,
                    protocol,
                    port,
                    target_group: None,
                    target_groups,
                    stickiness,
                    attributes,
                };
                let listener = session.client.call(&request).await?;
                session.output.show(&listener, |listener| rows([listener]))
            }
            Self::List { load_balancer } => {
                let listeners = session.client.call(&DescribeListeners { load_balancer }).await?;
                session.output.show(&listeners, |listeners| rows(listeners))
            }
            Self::Modify(ModifyArgs { listener, target_groups, stickiness, attributes }) => {
                let attributes = attributes.attributes.into_iter().collect();
                let request = ModifyListener { listener, target_group: None, target_groups, stickiness, attributes };
                let listener = session.client.call(&request).await?;
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
