//! Measuring the datapath beside its rivals: the program `bench` of `privatelink-tests`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    pins::Pins,
};

/// The benchmarks, with everything optimised.
pub fn run(pins: &Pins, figures: Vec<String>, json: Option<PathBuf>, rounds: Option<u16>) -> Result<()> {
    let mut args = figures;
    if let Some(file) = json {
        let file = std::path::absolute(&file).with_context(|| format!("the path {}", file.display()))?;
        args.extend(["--json".to_owned(), file.display().to_string()]);
    }
    if let Some(rounds) = rounds {
        args.extend(["--rounds".to_owned(), rounds.to_string()]);
    }
    build::harness(pins, "bench", Profile::Release, args)
}
