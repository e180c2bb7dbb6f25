//! `privatelink port`.

use std::io::Write as _;

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        ports::{AttachPort, AttachedPort, DescribePorts, DetachPort},
        view::PortView,
    },
    model::{Hook, InterfaceName},
};

#[derive(Debug, Subcommand)]
pub enum PortCommand {
    /// Make an interface of this host a port of a VPC. Doing it again changes hook and sharing.
    Attach(AttachArgs),
    /// List the ports, with the hook that is in use and why.
    List,
    /// Take an interface away from its VPC.
    Detach {
        /// The interface.
        #[arg(value_parser = value::parse::<InterfaceName>)]
        interface: InterfaceName,
    },
}

#[derive(Debug, Args)]
pub struct AttachArgs {
    /// An Ethernet interface in the agent's network namespace: NIC, VLAN device, veth, tap, bridge port, VXLAN device.
    #[arg(value_parser = value::parse::<InterfaceName>)]
    interface: InterfaceName,
    /// The VPC that the interface leads to; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// Where the datapath attaches: auto probes the interface and says what it chose and why; xdp is native XDP in
    /// front of tc.
    #[arg(long, default_value = "auto", value_parser = value::parse::<Hook>)]
    hook: Hook,
    /// Frames that are not ours go on to the host's own stack, for a host with a single NIC. Without it the host's
    /// stack sees nothing of this interface.
    #[arg(long)]
    shared: bool,
}

impl PortCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Attach(AttachArgs { interface, vpc, hook, shared }) => {
                let port = session.client.call(&AttachPort { interface, vpc, hook, shared }).await?;
                for warning in &port.facts.warnings {
                    writeln!(std::io::stderr(), "warning: {warning}").map_err(CliError::Output)?;
                }
                session.output.show(&port, attached)
            }
            Self::List => {
                let ports = session.client.call(&DescribePorts {}).await?;
                session.output.show(&ports, |ports| rows(ports))
            }
            Self::Detach { interface } => {
                session.client.call(&DetachPort { port: (&interface).into() }).await?;
                session.output.done(&format!("detached port {interface}"))
            }
        }
    }
}

fn sharing(shared: bool) -> &'static str {
    if shared { "shared" } else { "isolated" }
}

fn attached(port: &AttachedPort) -> String {
    let AttachedPort { interface, vpc: _, vpc_name, hook: _, shared, facts } = port;
    format!("{interface}: {} port of VPC {vpc_name}, hook {}: {}", sharing(*shared), facts.hook, facts.reason)
}

fn rows(ports: &[PortView]) -> String {
    table(
        ["INTERFACE", "VPC", "SHARING", "WANTED", "HOOK", "MTU", "STATE"],
        ports.iter().map(|port| {
            [
                port.interface.to_string(),
                port.vpc_name.clone(),
                sharing(port.shared).to_owned(),
                port.hook.to_string(),
                or_dash(port.hook_in_use),
                or_dash(port.mtu),
                port.error.clone().map_or_else(|| port.reason.clone(), |error| format!("error: {error}")),
            ]
        }),
    )
}
