//! Long runs that look for what grows: the program `soak` of `privatelink-tests`.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::{
    build::{self, Profile},
    pins::Pins,
};

/// What is run for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// Pages, logins, datagrams, TLS handshakes, transfers, short and idle connections at once, while a target dies and
    /// comes back, endpoints are made and deleted, and, in the first half, agent and relay are replaced.
    Mixed,
    /// TLS handshakes of every kind, at the relay.
    Tls,
}

/// What, how and for how long.
#[derive(Args)]
pub struct Options {
    #[arg(value_enum, default_value_t = Load::Mixed)]
    load: Load,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    hours: u32,
    /// Instead of hours.
    #[arg(long, conflicts_with = "hours", value_parser = clap::value_parser!(u32).range(1..))]
    minutes: Option<u32>,
    /// Ports by XDP instead of TC, for the mixed load.
    #[arg(long)]
    xdp: bool,
}

/// The load, with everything optimised.
pub fn run(pins: &Pins, options: &Options) -> Result<()> {
    let Options { load, hours, minutes, xdp } = options;
    let name = load.to_possible_value().context("a load without a name")?.get_name().to_owned();
    let minutes = minutes.unwrap_or(hours * 60).to_string();
    let mut arguments = vec![name, "--minutes".to_owned(), minutes];
    arguments.extend(xdp.then(|| "--xdp".to_owned()));
    build::harness(pins, "soak", Profile::Release, arguments)
}
