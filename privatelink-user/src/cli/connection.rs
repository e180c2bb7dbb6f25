//! `privatelink connection`.

use clap::{Args, Subcommand};

use super::{CliError, Session, output::table, value};
use crate::control::{
    Reference,
    connections::{AcceptConnections, RejectConnections},
    view::ConnectionView,
};

#[derive(Debug, Subcommand)]
pub enum ConnectionCommand {
    /// Accept endpoints that lead to a service of yours: their traffic flows from now on.
    Accept(AnswerArgs),
    /// Reject endpoints that lead to a service of yours: their traffic ends at once, open connections too.
    Reject(AnswerArgs),
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

impl ConnectionCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        let connections = match self {
            Self::Accept(AnswerArgs { endpoint_service, endpoints }) => {
                session.client.call(&AcceptConnections { endpoint_service, endpoints }).await?
            }
            Self::Reject(AnswerArgs { endpoint_service, endpoints }) => {
                session.client.call(&RejectConnections { endpoint_service, endpoints }).await?
            }
        };
        session.output.show(&connections, |connections| rows(connections))
    }
}

pub fn rows(connections: &[ConnectionView]) -> String {
    table(
        ["ENDPOINT", "ACCOUNT", "STATE", "SINCE"],
        connections.iter().map(|connection| {
            [
                connection.endpoint.to_string(),
                connection.account.to_string(),
                connection.state.to_string(),
                connection.created_at.to_string(),
            ]
        }),
    )
}
