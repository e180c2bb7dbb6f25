//! `privatelink relay`: the process in which the connections of TLS listeners end.

use std::path::PathBuf;

use clap::Args;

use super::{CliError, DEFAULT_STATE_DIR};
use crate::{
    confine::files,
    logging::{self, LogFormat},
    tls::relay::{self, RelayError},
};

#[derive(Debug, Args)]
pub struct RelayArgs {
    /// The agent's state directory, in which agent and relay meet.
    #[arg(long, value_name = "DIR", env = "PRIVATELINK_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// The agent's access log: the relay can write beside it, and nowhere else.
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter.
    #[arg(long, value_name = "FILTER", env = "PRIVATELINK_LOG", default_value = "info")]
    log: String,
    /// How it is logged.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

impl RelayArgs {
    pub fn run(self) -> Result<(), CliError> {
        let Self { state_dir, access_log, log, log_format } = self;
        logging::init(&log, log_format)
            .map_err(|error| CliError::Input { message: error.to_string(), hint: error.hint().to_owned() })?;
        let log_directory = access_log.as_deref().map(files::directory);
        relay::confine(&state_dir, log_directory.as_deref())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
        Ok(runtime.block_on(relay::run(&state_dir, log_directory))?)
    }
}

impl From<RelayError> for CliError {
    fn from(error: RelayError) -> Self {
        let hint = match error {
            RelayError::Socket { .. } => "the relay needs the agent's state directory, which is root's",
            RelayError::HandOver(_) => {
                "it serves on with what it was told last; `privatelink agent --remove` ends it and its connections"
            }
            RelayError::Tls(_) | RelayError::Signals(_) | RelayError::Threads(_) => "",
        };
        Self::Agent { message: error.to_string(), hint: hint.to_owned() }
    }
}
