//! Long runs that look for what grows: the program `soak` of `privatelink-tests`.

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::{
    build::{self, Profile},
    pins::Pins,
};

/// What is run for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// TLS handshakes of every kind, at the relay.
    Tls,
}

/// The load, with everything optimised.
pub fn run(pins: &Pins, load: Load, minutes: u32) -> Result<()> {
    let name = load.to_possible_value().context("a load without a name")?.get_name().to_owned();
    build::harness(pins, "soak", Profile::Release, vec![name, "--minutes".to_owned(), minutes.to_string()])
}
