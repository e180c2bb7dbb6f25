//! Running the suites.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    build::{self, Profile},
    kernels,
    pins::Pins,
    process,
};

/// The suites, from the quickest to the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Everything that needs neither root nor a kernel.
    Unit,
    /// The packet cases through the loaded programs (`BPF_PROG_TEST_RUN`).
    Kernel,
    /// Real clients and servers in network namespaces.
    Net,
    /// Other kernels, in QEMU: loading, packet cases, a smoke test, native XDP on virtio. No part of all.
    Kernels,
    /// The agent killed in the middle of operations, `--kills` times. No part of all: there it is killed a few times.
    Crash,
    /// The agent and its programs replaced under load, `--times` times. No part of all: there they are replaced a few
    /// times.
    Upgrade,
    /// Random sequences through the loaded programs and the host's core, then random requests to the API and the DNS
    /// server, each for as long as `--minutes` says. No part of all.
    Fuzz,
}

/// What suites are told.
pub struct Options {
    /// Kernels, for the suite `kernels`.
    pub versions: Vec<String>,
    pub filter: Option<String>,
    /// How long the suite `fuzz` runs.
    pub minutes: u64,
    /// How often the suite `crash` kills, and what its chances follow from.
    pub kills: u32,
    pub seed: u64,
    /// How often the suite `upgrade` replaces the agent, and by which other build.
    pub times: u32,
    pub other: Option<PathBuf>,
}

impl Suite {
    const ALL: [Self; 3] = [Self::Unit, Self::Kernel, Self::Net];

    /// What this suite is, for the reader.
    fn title(self) -> &'static str {
        match self {
            Self::Unit => "unit: logic without root",
            Self::Kernel => "kernel: packet cases through the loaded programs",
            Self::Net => "net: real clients and servers in network namespaces",
            Self::Kernels => "kernels: the programs in other kernels, in QEMU",
            Self::Crash => "crash: the agent killed in the middle of operations",
            Self::Upgrade => "upgrade: the agent and its programs replaced under load",
            Self::Fuzz => {
                "fuzz: random sequences through the loaded programs and the host's core, then random requests"
            }
        }
    }
}

/// Runs `suite`, or all of them; later ones run even if an earlier one failed.
pub fn run(pins: &Pins, suite: Option<Suite>, options: &Options) -> Result<()> {
    if !options.versions.is_empty() && suite != Some(Suite::Kernels) {
        bail!("only the suite `kernels` takes versions; `--filter` chooses tests of the others");
    }
    let suites = suite.map_or(Suite::ALL.to_vec(), |one| vec![one]);
    let mut failed = Vec::new();
    for suite in suites {
        println!("\n== {}", suite.title());
        let mut ran = match suite {
            Suite::Kernels => kernels::run(pins, &options.versions, options.filter.as_deref()),
            Suite::Unit | Suite::Kernel | Suite::Net | Suite::Crash | Suite::Upgrade | Suite::Fuzz => {
                command(pins, suite, options).and_then(|mut command| process::run(&mut command))
            }
        };
        if suite == Suite::Fuzz {
            let requests = process::run(&mut requests(pins, options.minutes));
            ran = ran.and(requests);
        }
        if let Err(error) = ran {
            eprintln!("{error:#}");
            failed.push(suite.title());
        }
    }
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(())
}

/// The command that runs one suite.
fn command(pins: &Pins, suite: Suite, options: &Options) -> Result<Command> {
    let mut command = build::cargo(pins, "test", Profile::Dev);
    command.arg("--workspace");
    match suite {
        Suite::Unit => {
            command.args(["--no-fail-fast", "--lib", "--bins", "--"]);
        }
        Suite::Kernel => {
            command.args(["--test", "suite", "--", "--test-threads=1"]);
            as_root(&mut command);
        }
        Suite::Fuzz => {
            command.args(["--test", "suite", "--", "--test-threads=1", "kernel_fuzz::for_minutes"]);
            command.env("PRIVATELINK_FUZZ_MINUTES", options.minutes.to_string());
            as_root(&mut command);
        }
        Suite::Kernels => bail!("the suite `kernels` is no single command"),
        Suite::Crash => {
            build::programs(pins, Profile::Dev)?;
            command.args(["--test", "net", "--", "--test-threads=1", "killed_in_any_operation"]);
            command.env("PRIVATELINK_KILLS", options.kills.to_string());
            command.env("PRIVATELINK_SEED", options.seed.to_string());
            as_root(&mut command);
        }
        Suite::Upgrade => {
            build::programs(pins, Profile::Dev)?;
            command.args(["--test", "net", "--", "--test-threads=1", "replaced_under_load"]);
            command.env("PRIVATELINK_UPGRADES", options.times.to_string());
            if let Some(other) = &options.other {
                let other = other.canonicalize().with_context(|| format!("the other build {}", other.display()))?;
                command.env("PRIVATELINK_OTHER", other);
            }
            as_root(&mut command);
        }
        Suite::Net => {
            // The suite starts the agent from beside its own program; cargo builds no program of another package.
            build::programs(pins, Profile::Dev)?;
            command.args(["--test", "net", "--", "--test-threads=1"]);
            as_root(&mut command);
        }
    }
    command.args(options.filter.as_deref());
    Ok(command)
}

/// The command that sends random requests to what answers outsiders.
fn requests(pins: &Pins, minutes: u64) -> Command {
    let mut command = build::cargo(pins, "test", Profile::Dev);
    command.args(["--workspace", "--lib", "--", "fuzz::", "dns::server::tests::", "--test-threads=2"]);
    command.env("PRIVATELINK_FUZZ_MINUTES", minutes.to_string());
    command
}

/// Has cargo start the test program through sudo where this is not root.
fn as_root(command: &mut Command) {
    if !process::is_root() {
        let target = format!("{}_UNKNOWN_LINUX_GNU", std::env::consts::ARCH.to_uppercase());
        command.env(format!("CARGO_TARGET_{target}_RUNNER"), "sudo --preserve-env");
    }
}
