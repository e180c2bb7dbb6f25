//! `privatelink agent`: parse, log, open the store, start forwarding, serve the API, wait for a signal, stop.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{CliError, DEFAULT_STATE_DIR, value};
use crate::{
    api::{self, Api, SocketFile},
    logging::{self, LogFormat},
    model::{AccountId, Region},
    runtime::{NoRuntime, Runtime},
    store::Store,
};

#[derive(Debug, Args)]
pub struct AgentArgs {
    /// Where the state is kept. One agent for each directory.
    #[arg(long, value_name = "DIR", env = "PRIVATELINK_STATE_DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// The region that new ids and service names carry; a label only.
    #[arg(long, env = "PRIVATELINK_REGION", default_value = "us-east-1", value_parser = value::parse::<Region>)]
    region: Region,
    /// The account that new ARNs carry; a label only.
    #[arg(long, env = "PRIVATELINK_ACCOUNT", default_value = "123456789012", value_parser = value::parse::<AccountId>)]
    account: AccountId,
    /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as
    /// info,privatelink_user::agent=debug.
    #[arg(long, value_name = "FILTER", env = "PRIVATELINK_LOG", default_value = "info")]
    log: String,
    /// How it is logged.
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,
}

impl AgentArgs {
    pub fn run(self, socket: PathBuf) -> Result<(), CliError> {
        logging::init(&self.log, self.log_format)
            .map_err(|error| CliError::Input { message: error.to_string(), hint: error.hint().to_owned() })?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
        runtime.block_on(self.serve(socket))
    }

    async fn serve(self, socket: PathBuf) -> Result<(), CliError> {
        let Self { state_dir, region, account, log: _, log_format: _ } = self;
        let store = Arc::new(Store::open(&state_dir)?);
        // Clients may connect from here on; they are answered when the agent forwards.
        let (listener, _socket_file) = SocketFile::listen(&socket)?;
        let shutdown = CancellationToken::new();
        stop_on_signals(shutdown.clone())?;
        let runtime: Arc<dyn Runtime> = Arc::new(NoRuntime);
        tracing::info!(socket = %socket.display(), state = %state_dir.display(), "ready");
        let api = Arc::new(Api { store, runtime, region, account });
        api::serve(listener, api, shutdown).await.map_err(|error| CliError::Agent {
            message: format!("serving the API: {error}"),
            hint: "the log says more".to_owned(),
        })?;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Cancels `shutdown` on SIGINT and SIGTERM.
fn stop_on_signals(shutdown: CancellationToken) -> Result<(), CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::Runtime)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
        }
        shutdown.cancel();
    });
    Ok(())
}
