//! Coverage-guided fuzzing of the packet core by libFuzzer.
//!
//! The targets are a package of their own (`tests/fuzz`), built apart with the compiler's coverage counters in it. LLVM
//! puts them in by a pass that a stable compiler runs as well (`-C passes`), so no other toolchain is asked for.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    build::{self, Profile},
    packages,
    pins::Pins,
    process,
};

/// What is fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// Frames, read by the datapath and by another reader.
    Parse,
    /// Sequences of frames, time and changes: checksums stay right, and nothing is left behind.
    Decide,
    /// A connection with a PROXY protocol header over a bad network: the target gets the header, then the stream.
    Proxy,
    /// ICMP errors about an open flow.
    Icmp,
}

/// What the compiler adds for libFuzzer: counters on every edge, and the operands of comparisons.
const COVERAGE: &str = "-C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares -C codegen-units=1 -C debug-assertions=on --cfg fuzzing";

/// The greatest input, in bytes.
const MAX_LEN: u32 = 2_048;

/// Fuzzes `target` for so many minutes, from the inputs that are kept and those of earlier runs; with `keep`, those
/// that reach something new are kept too.
pub fn run(pins: &Pins, target: Target, minutes: u64, keep: bool) -> Result<()> {
    if packages::find("c++").is_none() {
        bail!("libFuzzer is C++, and there is no c++ on the PATH: install g++ or clang");
    }
    let name = target.to_possible_value().context("a target without a name")?.get_name().to_owned();
    let program = build(pins)?;
    let kept = pins.root.join("tests/fuzz/corpus").join(&name);
    let grown = pins.target.join("fuzz/corpus").join(&name);
    for dir in [&kept, &grown] {
        fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    }
    let mut command = fuzzer(&program, &name);
    command.arg(format!("-max_total_time={}", 60 * minutes)).arg(format!("-max_len={MAX_LEN}"));
    // What makes a target panic is a case of the unit tests from then on.
    command.arg(format!("-artifact_prefix={}/", kept.display())).args([
        "-timeout=20",
        "-len_control=0",
        "-print_final_stats=1",
    ]);
    process::run(command.args([&grown, &kept])).with_context(|| {
        format!("the input that failed is in {}; `cargo test -p privatelink-fuzz` fails by it", kept.display())
    })?;
    if keep {
        process::run(fuzzer(&program, &name).arg("-merge=1").args([&kept, &grown]))?;
    }
    Ok(())
}

fn fuzzer(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PRIVATELINK_FUZZ_TARGET", target);
    command
}

/// The program, built with the counters; build scripts and what else runs here have none.
fn build(pins: &Pins) -> Result<PathBuf> {
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let target = pins.target.join("fuzz");
    let mut command = build::cargo(pins, "build", Profile::Dev);
    command.args(["-p", "privatelink-fuzz", "--features", "libfuzzer", "--target", &triple, "--target-dir"]);
    process::run(command.arg(&target).env("RUSTFLAGS", COVERAGE))?;
    Ok(target.join(triple).join(Profile::Dev.dir()).join("fuzz"))
}
