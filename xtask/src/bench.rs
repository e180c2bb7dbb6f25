//! Measuring the datapath beside its rivals: the program `bench` of `privatelink-tests`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    pins::Pins,
};

/// The benchmarks, with everything optimised.
pub fn run(pins: &Pins, json: Option<PathBuf>, filter: Option<String>) -> Result<()> {
    let mut args: Vec<String> = Vec::new();
    if let Some(file) = json {
        let file = std::path::absolute(&file).with_context(|| format!("the path {}", file.display()))?;
        args.extend(["--json".to_owned(), file.display().to_string()]);
    }
    if let Some(filter) = filter {
        args.extend(["--filter".to_owned(), filter]);
    }
    build::harness(pins, "bench", Profile::Release, args)
}
