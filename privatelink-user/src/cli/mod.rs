//! The command line. Everything but `agent`, `relay`, `completions`, `man`, `openapi` and `systemd-unit` is a client of
//! the API and has no other door.

mod agent;
mod apply;
mod certificate;
mod client;
mod connection;
mod endpoint;
mod endpoint_service;
mod error;
mod explain;
mod flow;
mod instance;
mod interface;
mod link;
mod listener;
mod load_balancer;
mod manual;
mod notification;
mod output;
mod port;
mod relay;
mod route;
mod security_group;
mod stats;
mod subnet;
mod systemd;
mod tag;
mod target;
mod target_group;
mod value;
mod vpc;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory, FromArgMatches as _, Parser, Subcommand};

pub use client::Client;
pub use error::CliError;
use output::{Format, Output};

use crate::model::{AccountId, Region};

/// Where the agent listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/privatelink/socket";
/// Where the agent keeps its state unless it is told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/privatelink";

const ABOUT: &str = "PrivateLink and the Network Load Balancer behind it, for any Linux host";

const LONG_ABOUT: &str = "\
PrivateLink and the Network Load Balancer behind it, for any Linux host.

A provider publishes a load balancer as an endpoint service; a consumer gets an address for it inside its own VPC, and \
nothing else of either network becomes reachable. The VPCs may overlap. The kernel forwards; the agent decides what the \
kernel's tables say; every other command asks the agent.";

const AFTER_HELP: &str = "\
A first service, step by step (see `privatelink COMMAND --help` for each):
  privatelink agent &
  privatelink vpc create provider --cidr 10.0.0.0/16
  privatelink vpc create consumer --cidr 10.0.0.0/16
  privatelink port attach veth-p --vpc provider
  privatelink port attach veth-c --vpc consumer
  privatelink target-group create web --vpc provider --protocol TCP --port 80
  privatelink target register web 10.0.1.10 10.0.1.11
  privatelink load-balancer create web --vpc provider --address 10.0.0.5
  privatelink listener create web --protocol TCP --port 80 --target-group web
  privatelink endpoint-service create --load-balancer web --name shop
  privatelink endpoint create --service-name shop --vpc consumer --address 10.0.0.50

Resources are named by name or id wherever one is meant.

Exit status:
  0  done
  1  the agent refused; the message names the value, the rule and the way out
     (`explain`: the packet would reach no target)
  2  the command line or a file is wrong
  3  no agent answers on the socket
  4  the agent failed, or could not start";

/// The whole command tree; completions and man pages are made from it.
#[derive(Debug, Parser)]
#[command(name = "privatelink", version, about = ABOUT, long_about = LONG_ABOUT, after_long_help = AFTER_HELP)]
#[command(propagate_version = true, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Global {
    /// How to print: a table for people, JSON for programs (errors too).
    #[arg(short, long, value_enum, default_value_t, global = true)]
    output: Format,
    /// The agent's Unix socket, in a directory where nothing else is.
    #[arg(long, value_name = "PATH", env = "PRIVATELINK_SOCKET", default_value = DEFAULT_SOCKET, global = true)]
    socket: PathBuf,
    /// The account whose resources the command is about [default: the agent's]; for `agent`, the default account.
    #[arg(long, env = "PRIVATELINK_ACCOUNT", value_parser = value::parse::<AccountId>, global = true)]
    account: Option<AccountId>,
    /// The region of the resources [default: the agent's]; for `agent`, the default region.
    #[arg(long, env = "PRIVATELINK_REGION", value_parser = value::parse::<Region>, global = true)]
    region: Option<Region>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent: forward traffic and serve the API, until SIGINT or SIGTERM.
    Agent(agent::AgentArgs),
    /// Run the relay, in which TLS listeners' connections end. The agent starts it when there is a TLS listener;
    /// started by hand or as a service it takes over from the present one, which ends with its last connection.
    Relay(relay::RelayArgs),
    #[command(flatten)]
    Client(ClientCommand),
    /// Print a completion script for a shell.
    Completions(manual::CompletionsArgs),
    /// Write the man pages into a directory.
    Man(manual::ManArgs),
    /// Print a systemd unit that runs the agent with no more rights than it needs:
    /// privatelink systemd-unit --metrics 127.0.0.1:9420 > /etc/systemd/system/privatelink.service
    SystemdUnit(systemd::UnitArgs),
    /// Print the agent's native API as an OpenAPI document. The agent serves the same at /openapi.json on its socket:
    /// curl --unix-socket /run/privatelink/socket http://localhost/openapi.json
    Openapi,
}

/// What asks the agent.
#[derive(Debug, Subcommand)]
enum ClientCommand {
    /// VPCs: address spaces, which may overlap.
    #[command(subcommand)]
    Vpc(vpc::VpcCommand),
    /// Subnets: parts of a VPC's range, each in one availability zone.
    #[command(subcommand)]
    Subnet(subnet::SubnetCommand),
    /// Routes: where a VPC sends what is not its own.
    #[command(subcommand)]
    Route(route::RouteCommand),
    /// Route tables: the routes of some subnets, or of all others.
    #[command(subcommand)]
    RouteTable(route::RouteTableCommand),
    /// Network interfaces: the addresses of load balancers and endpoints.
    #[command(subcommand)]
    Interface(interface::InterfaceCommand),
    /// Tags on resources.
    #[command(subcommand)]
    Tag(tag::TagCommand),
    /// Ports: the host's interfaces that lead to the VPCs.
    #[command(subcommand)]
    Port(port::PortCommand),
    /// Instances: hosts, namespaces and containers by name.
    #[command(subcommand)]
    Instance(instance::InstanceCommand),
    /// Target groups: servers that offer the same thing, and how their health is checked.
    #[command(subcommand)]
    TargetGroup(target_group::TargetGroupCommand),
    /// Targets of a target group, and their health.
    #[command(subcommand)]
    Target(target::TargetCommand),
    /// Network Load Balancers: node addresses in a provider's VPC.
    #[command(subcommand)]
    LoadBalancer(load_balancer::LoadBalancerCommand),
    /// Listeners: ports of a load balancer that lead to a target group.
    #[command(subcommand)]
    Listener(listener::ListenerCommand),
    /// Certificates: what TLS listeners show to their clients.
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// Security groups: who may connect to endpoints and load balancers.
    #[command(subcommand)]
    SecurityGroup(security_group::SecurityGroupCommand),
    /// Endpoint services: published load balancers.
    #[command(subcommand)]
    EndpointService(endpoint_service::EndpointServiceCommand),
    /// Connections of endpoints to your endpoint services: say yes or no.
    #[command(subcommand)]
    Connection(connection::ConnectionCommand),
    /// Connection notifications: who is told what happens to endpoints.
    #[command(subcommand)]
    Notification(notification::NotificationCommand),
    /// Endpoints: addresses in a consumer's VPC that lead to an endpoint service.
    #[command(subcommand)]
    Endpoint(endpoint::EndpointCommand),
    /// Two-way links: two VPCs that reach each other's targets, as one thing.
    #[command(subcommand)]
    Link(link::LinkCommand),
    /// Open flows.
    #[command(subcommand)]
    Flow(flow::FlowCommand),
    /// Counters of the datapath, endpoints, listeners, targets and port pools.
    Stats(stats::StatsArgs),
    /// Say what would become of a packet, and which object decides it. Changes nothing.
    Explain(explain::ExplainArgs),
    /// Make the agent hold what a TOML file declares, and print the changes.
    Apply(apply::ApplyArgs),
}

/// What a client command works with.
struct Session {
    client: Client,
    output: Output,
}

impl Cli {
    /// What a command line says by itself, whatever the environment of this process says.
    ///
    /// # Errors
    ///
    /// clap's, for arguments that are refused.
    fn of_arguments(arguments: impl IntoIterator<Item = String>) -> Result<Self, clap::Error> {
        fn alone(command: clap::Command) -> clap::Command {
            let names: Vec<String> = command.get_subcommands().map(|each| each.get_name().to_owned()).collect();
            let command = command.mut_args(|argument| argument.env(None::<&str>));
            names.into_iter().fold(command, |command, name| command.mut_subcommand(name, alone))
        }
        Self::from_arg_matches(&alone(Self::command()).try_get_matches_from(arguments)?)
    }
}

/// Parses the command line, runs the command, and turns its result into an exit status.
pub fn main() -> ExitCode {
    let Cli { global: Global { output: format, socket, account, region }, command } = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && asks_for_json(std::env::args()) => {
            let error = CliError::usage(&error);
            error.report(Format::Json);
            return error.exit_code();
        }
        Err(error) => return ExitCode::from(if error.print().is_err() || error.use_stderr() { 2 } else { 0 }),
    };
    let result = match command {
        Command::Agent(args) => args.run(socket, account, region),
        Command::Relay(args) => args.run(),
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(),
        Command::SystemdUnit(args) => args.run(&socket, account.as_ref(), region.as_ref()),
        Command::Openapi => manual::openapi(),
        Command::Client(command) => {
            let client = Client::new(socket).on_behalf_of(account, region);
            run_client(command, Session { client, output: Output::stdout(format) })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(format);
            error.exit_code()
        }
    }
}

/// Whether a command line that cannot be parsed asks for JSON.
fn asks_for_json(arguments: impl Iterator<Item = String>) -> bool {
    let arguments: Vec<String> = arguments.collect();
    let joined = |argument: &String| matches!(argument.as_str(), "-ojson" | "-o=json" | "--output=json");
    arguments.iter().any(joined)
        || arguments
            .windows(2)
            .any(|pair| matches!(pair, [flag, value] if (flag == "-o" || flag == "--output") && value == "json"))
}

fn run_client(command: ClientCommand, mut session: Session) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(async {
        let session = &mut session;
        match command {
            ClientCommand::Vpc(command) => command.run(session).await,
            ClientCommand::Subnet(command) => command.run(session).await,
            ClientCommand::Route(command) => command.run(session).await,
            ClientCommand::RouteTable(command) => command.run(session).await,
            ClientCommand::Interface(command) => command.run(session).await,
            ClientCommand::Tag(command) => command.run(session).await,
            ClientCommand::Port(command) => command.run(session).await,
            ClientCommand::Instance(command) => command.run(session).await,
            ClientCommand::TargetGroup(command) => command.run(session).await,
            ClientCommand::Target(command) => command.run(session).await,
            ClientCommand::LoadBalancer(command) => command.run(session).await,
            ClientCommand::Listener(command) => command.run(session).await,
            ClientCommand::Certificate(command) => command.run(session).await,
            ClientCommand::SecurityGroup(command) => command.run(session).await,
            ClientCommand::EndpointService(command) => command.run(session).await,
            ClientCommand::Connection(command) => command.run(session).await,
            ClientCommand::Notification(command) => command.run(session).await,
            ClientCommand::Endpoint(command) => command.run(session).await,
            ClientCommand::Link(command) => command.run(session).await,
            ClientCommand::Flow(command) => command.run(session).await,
            ClientCommand::Stats(args) => args.run(session).await,
            ClientCommand::Explain(args) => args.run(session).await,
            ClientCommand::Apply(args) => args.run(session).await,
        }
    })
}

/// The command tree, for completions and man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests;
