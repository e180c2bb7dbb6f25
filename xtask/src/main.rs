//! Everything that a developer or a machine does with this repository: `cargo xtask --help`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

mod audit;
mod bench;
mod build;
mod demo;
mod fuzz;
mod kernels;
mod packages;
mod pins;
mod process;
mod run;
mod setup;
mod soak;
mod test;
mod toolchain;

/// Sets up, builds, runs, shows, tests and measures privatelink.
///
/// Every command first does what `setup` does; when all is there that takes well under a second.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Says what is here and installs what is missing: rust-src, bpf-linker, programs for demo and tests.
    Setup {
        /// Which compiler builds the kernel object.
        #[arg(long, value_enum, default_value_t)]
        toolchain: toolchain::Choice,
    },
    /// Builds the agent, the command line and the kernel object.
    Build {
        /// Optimised; what `run` and `bench` use.
        #[arg(long)]
        release: bool,
    },
    /// Runs `privatelink` on this host as root: `cargo xtask run -- agent`, `cargo xtask run -- vpc list`.
    Run {
        /// Arguments for `privatelink`; `agent` when there are none.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Shows the main job with real programs in network namespaces, then cleans up. Needs root.
    Demo {
        /// Another demo than the main one.
        #[arg(value_enum, conflicts_with_all = ["keep", "remove"])]
        which: Option<demo::Which>,
        /// Leaves everything up at the end and prints commands to try.
        #[arg(long)]
        keep: bool,
        /// Only takes down what an earlier `demo --keep` left up.
        #[arg(long, conflicts_with = "keep")]
        remove: bool,
    },
    /// Runs the tests; all suites unless one is named. `kernel` and `net` need root.
    Test {
        #[arg(value_enum)]
        suite: Option<test::Suite>,
        /// For the suite `kernels`: versions as in 6.1, 6.12.88 or newest; all supported ones if none is named.
        versions: Vec<String>,
        /// Only tests whose name contains this.
        #[arg(long)]
        filter: Option<String>,
        /// How long the suite `fuzz` runs.
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// How often the suite `crash` kills the agent.
        #[arg(long, default_value_t = 1_000)]
        kills: u32,
        /// Where the suite `crash` gets its chances from.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How often the suite `upgrade` replaces the agent.
        #[arg(long, default_value_t = 100)]
        times: u32,
        /// For the suite `upgrade`: another build of `privatelink`, to go to and fro between the two.
        #[arg(long, value_name = "PROGRAM")]
        other: Option<PathBuf>,
    },
    /// Holds the dependencies against `.cargo/deny.toml`: licences, duplicates, sources, and advisories where they can
    /// be had.
    Audit,
    /// Fuzzes the packet core by libFuzzer, guided by coverage. Needs a C++ compiler.
    Fuzz {
        #[arg(value_enum)]
        target: fuzz::Target,
        #[arg(long, default_value_t = 5)]
        minutes: u64,
        /// Keeps the inputs that reach something new in `tests/fuzz/corpus`, where unit tests replay them.
        #[arg(long)]
        keep: bool,
    },
    /// Measures the datapath beside its rivals and prints a table. Needs root.
    Bench {
        /// Only these figures, or groups of them by the beginning of their names (`pps`, `ns-new-flow`, `two-cpus`).
        #[arg(value_name = "FIGURE")]
        figures: Vec<String>,
        /// Also writes the figures to this file.
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Interleaved rounds, 5 if not said; a figure is the median of its rounds.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        rounds: Option<u16>,
    },
    /// Runs a load for long, prints what is held meanwhile, and fails if anything grows. Needs root.
    Soak(soak::Options),
}

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Never with a backtrace: these errors are about this machine, not about this program.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    let pins = pins::Pins::read()?;
    match Cli::parse().command {
        Command::Setup { toolchain } => setup::run(&pins, toolchain, setup::Report::Full),
        Command::Build { release } => {
            setup::build_tools(&pins)?;
            build::workspace(&pins, profile(release))
        }
        Command::Run { args } => {
            setup::build_tools(&pins)?;
            run::run(&pins, args)
        }
        Command::Demo { which, keep, remove } => {
            setup::everything(&pins)?;
            demo::run(&pins, which, keep, remove)
        }
        Command::Test { suite, versions, filter, minutes, kills, seed, times, other } => {
            setup::everything(&pins)?;
            let options = test::Options { versions, filter, minutes, kills, seed, times, other };
            test::run(&pins, suite, &options)
        }
        Command::Audit => audit::run(&pins),
        Command::Fuzz { target, minutes, keep } => fuzz::run(&pins, target, minutes, keep),
        Command::Bench { figures, json, rounds } => {
            setup::everything(&pins)?;
            bench::run(&pins, figures, json, rounds)
        }
        Command::Soak(options) => {
            setup::everything(&pins)?;
            soak::run(&pins, &options)
        }
    }
}

fn profile(release: bool) -> build::Profile {
    if release { build::Profile::Release } else { build::Profile::Dev }
}
