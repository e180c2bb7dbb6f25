//! The one place where a failure becomes a message and an exit status.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::error::ErrorKind;

use super::output::Format;
use crate::{
    api::{ErrorBody, SocketError},
    store::StoreError,
};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The agent refused the operation.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
    /// The agent could not do the operation.
    #[error("{}", .0.message)]
    AgentFailed(ErrorBody),
    /// The packet that was asked about reaches no target; standard output says why.
    #[error("the packet reaches no target")]
    NotReachable,
    #[error("no agent answers on the socket '{}': {source}", socket.display())]
    Unreachable { socket: PathBuf, source: io::Error },
    #[error("the agent on '{}' gave no answer that can be understood: {detail}", socket.display())]
    Protocol { socket: PathBuf, detail: String },
    /// The command line or a file is wrong.
    #[error("{message}")]
    Input { message: String, hint: String },
    #[error("writing the output: {0}")]
    Output(#[source] io::Error),
    #[error("starting the asynchronous runtime: {0}")]
    Runtime(#[source] io::Error),
    /// The agent could not start, or had to stop.
    #[error("{message}")]
    Agent { message: String, hint: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl CliError {
    /// A command line that cannot be parsed.
    pub fn usage(error: &clap::Error) -> Self {
        let text = error.render().to_string();
        let usage = text.lines().find(|line| line.starts_with("Usage:"));
        let message = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                "a command is missing".to_owned()
            }
            _ => {
                let end = ["\n\nUsage:", "\n\nFor more"].iter().filter_map(|mark| text.find(mark)).min();
                let message = end.and_then(|end| text.get(..end)).unwrap_or(&text).trim();
                message.strip_prefix("error: ").unwrap_or(message).to_owned()
            }
        };
        let hint =
            usage.unwrap_or("`privatelink --help` lists the commands, `privatelink COMMAND --help` explains one");
        Self::Input { message, hint: hint.to_owned() }
    }

    /// Prints the failure on standard error.
    pub fn report(&self, format: Format) {
        if matches!(self, Self::NotReachable)
            || matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
        {
            return;
        }
        let body = ErrorBody { code: self.code().to_owned(), message: self.to_string(), hint: self.hint() };
        let text = match format {
            Format::Json => serde_json::to_string(&body).unwrap_or_else(|_| body.message.clone()),
            Format::Table => {
                let ErrorBody { code, message, hint } = body;
                let hint = if hint.is_empty() { hint } else { format!("\n hint: {hint}") };
                format!("error: {message} ({code}){hint}")
            }
        };
        // Nowhere to go with a failure to report a failure.
        drop(writeln!(io::stderr(), "{text}"));
    }

    /// The exit status, as `--help` documents it.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Refused(_) | Self::NotReachable => 1,
            Self::Input { .. } => 2,
            Self::Unreachable { .. } => 3,
            Self::AgentFailed(_)
            | Self::Protocol { .. }
            | Self::Output(_)
            | Self::Runtime(_)
            | Self::Agent { .. }
            | Self::Store(_)
            | Self::Socket(_) => 4,
        })
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(body) | Self::AgentFailed(body) => &body.code,
            Self::NotReachable => "NotReachable",
            Self::Unreachable { .. } => "AgentUnreachable",
            Self::Protocol { .. } => "ProtocolError",
            Self::Input { .. } => "InvalidInput",
            Self::Output(_) => "OutputFailed",
            Self::Runtime(_) | Self::Agent { .. } => "AgentFailed",
            Self::Store(_) => "StoreFailed",
            Self::Socket(_) => "SocketFailed",
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Refused(body) | Self::AgentFailed(body) => body.hint.clone(),
            Self::NotReachable => "the explanation names the way out".to_owned(),
            Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "the socket is the agent's user's only: run the command with sudo".to_owned()
            }
            Self::Unreachable { .. } => {
                "start the agent with `sudo privatelink agent`, or name the socket of one that runs with --socket PATH \
                 or PRIVATELINK_SOCKET"
                    .to_owned()
            }
            Self::Protocol { .. } => "use the same version of privatelink as the agent's".to_owned(),
            Self::Input { hint, .. } | Self::Agent { hint, .. } => hint.clone(),
            Self::Output(_) => "check where the output goes".to_owned(),
            Self::Runtime(_) => "check the limits on threads and open files (ulimit -a)".to_owned(),
            Self::Store(error) => error.hint(),
            Self::Socket(error) => error.hint().to_owned(),
        }
    }
}
