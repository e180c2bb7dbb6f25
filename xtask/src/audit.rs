//! What this project depends on, held against `.cargo/deny.toml` by cargo-deny: licences, duplicates, sources,
//! advisories.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use crate::{pins::Pins, process};

/// The release whose settings `.cargo/deny.toml` has.
const VERSION: &str = "0.20.2";

/// Builds cargo-deny into `target/tools` if it is not there, and runs it. Advisories are RustSec's, on GitHub: where
/// that is not reached, they are not looked at, and the output says so.
pub fn run(pins: &Pins) -> Result<()> {
    let tools = pins.tools();
    let program = tools.join("bin/cargo-deny");
    let present = process::output(Command::new(&program).arg("--version"));
    if present.as_deref() != Some(format!("cargo-deny {VERSION}").as_str()) {
        fs::create_dir_all(&tools).with_context(|| format!("creating {}", tools.display()))?;
        let mut install = Command::new("cargo");
        install.args(["install", "cargo-deny", "--locked", "--force", "--debug", "--version", VERSION, "--root"]);
        install.arg(&tools).current_dir(std::env::temp_dir());
        let what = format!("building cargo-deny {VERSION} (about a minute)");
        process::run_quietly(&what, &mut install, &tools.join("cargo-deny.log"))?;
    }
    let settings = pins.root.join(".cargo/deny.toml");
    let deny = || {
        let mut command = Command::new(&program);
        command.current_dir(&pins.root).args(["--workspace", "--locked", "--config"]).arg(&settings);
        command
    };
    // What is looked at are the crates themselves, those too that nothing has been built of yet.
    process::run(Command::new("cargo").current_dir(&pins.root).args(["fetch", "--locked", "--quiet"]))?;
    process::run(deny().args(["--offline", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]))?;
    if process::output(deny().args(["fetch", "db"])).is_none() {
        println!(
            "advisories: not looked at, because RustSec's database cannot be had from https://github.com/RustSec/advisory-db"
        );
        return Ok(());
    }
    process::run(deny().args(["--offline", "check", "--hide-inclusion-graph", "advisories"]))
}
