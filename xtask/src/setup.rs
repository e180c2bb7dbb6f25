//! What every other command does first: find what is here, install what is missing, say so.

use anyhow::Result;

use crate::{packages, pins::Pins, process, toolchain};

/// How much a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// All that was found.
    Full,
    /// Only what had to be installed.
    Changes,
}

/// The whole of it.
pub fn run(pins: &Pins, choice: toolchain::Choice, report: Report) -> Result<()> {
    let object = toolchain::ensure(pins, choice)?;
    let programs = packages::ensure(&pins.tools())?;
    if report == Report::Full {
        println!("{object}");
        println!("{programs}");
        println!("{}", kernel());
    }
    Ok(())
}

/// What building needs.
pub fn build_tools(pins: &Pins) -> Result<()> {
    toolchain::ensure(pins, toolchain::Choice::Auto).map(drop)
}

/// What demo, tests and benchmarks need.
pub fn everything(pins: &Pins) -> Result<()> {
    run(pins, toolchain::Choice::Auto, Report::Changes)
}

/// What this kernel offers, for the reader; the agent probes for itself.
fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let rights =
        if process::is_root() { "root" } else { "not root: demo, run, bench and two of the suites will ask sudo" };
    let btf = if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() { "with BTF" } else { "without BTF" };
    format!("kernel: {} {btf}, {rights}", release.trim())
}
