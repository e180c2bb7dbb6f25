//! Long runs that look for what grows; `cargo xtask soak` builds and starts them.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use privatelink_tests::{cleanup, soak, topology::Hook};

/// What is run for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Load {
    /// Everything at once, while targets, endpoints, agent and relay come and go.
    Mixed,
    /// TLS handshakes of every kind, at the relay.
    Tls,
}

/// Runs a load for long, and fails if memory, files, threads or flows have grown.
#[derive(Parser)]
struct Args {
    #[arg(value_enum)]
    load: Load,
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Handshakes a second, of `tls`.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Takes XDP instead of TC, of `mixed`.
    #[arg(long)]
    xdp: bool,
}

fn main() -> ExitCode {
    cleanup::on_signals();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "needs root: it makes network namespaces and loads programs");
    cleanup::sweep();
    match args.load {
        Load::Mixed => soak::mixed::mixed(args.minutes, if args.xdp { Hook::Xdp } else { Hook::Tc }),
        Load::Tls => soak::tls::tls(args.minutes, args.rate),
    }
}
