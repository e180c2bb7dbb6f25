//! The agent's log, on standard error. Per-packet is trace, early exits debug, changes of state info.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the log filter '{filter}' is invalid: {source}")]
    Filter { filter: String, source: ParseError },
    #[error("the log is set up already: {0}")]
    Twice(String),
}

impl LogError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Filter { .. } => {
                "use error, warn, info, debug or trace, or a list such as info,privatelink_user=debug"
            }
            Self::Twice(_) => "set it up once, at the start of the process",
        }
    }
}

/// Sets the process's log up; records of the `log` crate (the kernel programs' lines) go the same way.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(filter).map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| LogError::Twice(error.to_string()))
}
