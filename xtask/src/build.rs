//! Building the workspace and starting its programs as root.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{pins::Pins, process};

/// How the compiler works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// Optimised.
    Release,
}

impl Profile {
    /// The directory under `target/`.
    pub fn dir(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// `cargo VERB --locked` in the workspace.
pub fn cargo(pins: &Pins, verb: &str, profile: Profile) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&pins.root).args([verb, "--locked"]);
    // What cargo told this program about itself. Build scripts of others (ring's) watch the same names, and would run
    // again whenever cargo is started by xtask after it was started by hand.
    for (name, _) in std::env::vars_os() {
        let ours =
            name.to_str().is_some_and(|name| ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|own| name.starts_with(own)));
        if ours {
            command.env_remove(name);
        }
    }
    match profile {
        Profile::Dev => {}
        Profile::Release => {
            command.arg("--release");
        }
    }
    command
}

/// Builds everything that runs. Always for the whole workspace: a choice of packages would choose other features of
/// their dependencies, and build those twice.
pub fn programs(pins: &Pins, profile: Profile) -> Result<()> {
    process::run(cargo(pins, "build", profile).args(["--workspace", "--bins"]))
}

/// Builds everything that runs and says where it is.
pub fn workspace(pins: &Pins, profile: Profile) -> Result<()> {
    programs(pins, profile)?;
    println!("built {}", pins.target.join(profile.dir()).join("privatelink").display());
    Ok(())
}

/// Builds and runs a program of `privatelink-tests` as root.
pub fn harness(pins: &Pins, name: &str, profile: Profile, args: Vec<String>) -> Result<()> {
    programs(pins, profile)?;
    replace(as_root(&pins.target.join(profile.dir()).join(name)).args(args))
}

/// `program`, through sudo unless this already is root.
pub fn as_root(program: &Path) -> Command {
    if process::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    command
}

/// Becomes `command`, so that signals and the exit status are its own.
pub fn replace(command: &mut Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    let error = command.exec();
    Err(error).with_context(|| format!("starting {}", process::line(command)))
}
