//! `privatelink connection`.

use clap::{Args, Subcommand};

use super::{CliError, Session, output::table, value};
use crate::control::{
    Reference,
    connections::{AcceptConnections, LimitConnections, RejectConnections},
    view::ConnectionView,
};
use crate::model::{BitRate, ConnectionRate, Connections, Override, OwnLimitChange};

#[derive(Debug, Subcommand)]
pub enum ConnectionCommand {
    /// Accept endpoints that lead to a service of yours: their traffic flows from now on.
    Accept(AnswerArgs),
    /// Reject endpoints that lead to a service of yours: their traffic ends at once, open connections too.
    Reject(AnswerArgs),
    /// Limit what the consumers of endpoints that lead to a service of yours may use of it, in place of the service's
    /// own limits (`privatelink endpoint-service modify`). What is above a limit is refused and counted.
    Limit(LimitArgs),
}

#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// The endpoint service: service name, id or alias.
    #[arg(value_parser = value::reference)]
    endpoint_service: Reference,
    /// The endpoints, by id. If one cannot be answered, none is.
    #[arg(value_name = "ENDPOINT", required = true, value_parser = value::reference)]
    endpoints: Vec<Reference>,
}

#[derive(Debug, Args)]
#[command(after_help = "Numbers may end in k, M, G or T; none is no limit; default is what the service has.")]
pub struct LimitArgs {
    /// The endpoint service: service name, id or alias.
    #[arg(value_parser = value::reference)]
    endpoint_service: Reference,
    /// The endpoints, by id.
    #[arg(value_name = "ENDPOINT", required = true, value_parser = value::reference)]
    endpoints: Vec<Reference>,
    /// Open connections at once. Further ones are reset.
    #[arg(long, value_name = "N", value_parser = value::parse::<Override<Connections>>)]
    connections: Option<Override<Connections>>,
    /// New connections a second. Further ones are dropped: the client tries again.
    #[arg(long, value_name = "N", value_parser = value::parse::<Override<ConnectionRate>>)]
    connections_per_second: Option<Override<ConnectionRate>>,
    /// Bits a second, both directions together. Packets above are dropped.
    #[arg(long, value_name = "BITS", value_parser = value::parse::<Override<BitRate>>)]
    bits_per_second: Option<Override<BitRate>>,
}

impl ConnectionCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        let connections = match self {
            Self::Accept(AnswerArgs { endpoint_service, endpoints }) => {
                session.client.call(&AcceptConnections { endpoint_service, endpoints }).await?
            }
            Self::Reject(AnswerArgs { endpoint_service, endpoints }) => {
                session.client.call(&RejectConnections { endpoint_service, endpoints }).await?
            }
            Self::Limit(LimitArgs {
                endpoint_service,
                endpoints,
                connections,
                connections_per_second,
                bits_per_second,
            }) => {
                let limits = OwnLimitChange { connections, connections_per_second, bits_per_second };
                session.client.call(&LimitConnections { endpoint_service, endpoints, limits }).await?
            }
        };
        session.output.show(&connections, |connections| rows(connections))
    }
}

pub fn rows(connections: &[ConnectionView]) -> String {
    table(
        ["ENDPOINT", "ACCOUNT", "STATE", "LIMITS", "SINCE"],
        connections.iter().map(|connection| {
            [
                connection.endpoint.to_string(),
                connection.account.to_string(),
                connection.state.to_string(),
                connection.limits.to_string(),
                connection.created_at.to_string(),
            ]
        }),
    )
}
