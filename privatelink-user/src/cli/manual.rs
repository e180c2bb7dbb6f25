//! `privatelink completions` and `privatelink man`, made from the command tree, and `privatelink openapi`.

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;
use clap_complete::Shell;

use super::{CliError, command};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell. For bash: privatelink completions bash > /etc/bash_completion.d/privatelink
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    pub fn run(self) -> Result<(), CliError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "privatelink", &mut script);
        io::stdout().write_all(&script).map_err(CliError::Output)
    }
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Where the pages go; made if it is missing. Read one with `man DIR/privatelink.1`.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl ManArgs {
    pub fn run(self) -> Result<(), CliError> {
        let Self { directory } = self;
        let written = std::fs::create_dir_all(&directory)
            .and_then(|()| clap_mangen::generate_to(command().disable_help_subcommand(true), &directory));
        written.map_err(|error| CliError::Input {
            message: format!("the man pages cannot be written to '{}': {error}", directory.display()),
            hint: "name a directory that you may write to".to_owned(),
        })
    }
}

/// Prints the OpenAPI document.
pub fn openapi() -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(&crate::api::openapi()).unwrap_or_default();
    writeln!(io::stdout(), "{text}").map_err(CliError::Output)
}
