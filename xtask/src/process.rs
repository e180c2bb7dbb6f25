//! Running other programs: shown while they run, quoted when they fail.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// Whether this process may change network namespaces and load programs.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Runs `command` with this terminal; an error names the command line and its exit status.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", line(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", line(command));
    }
    Ok(())
}

/// Runs `command` behind a spinner that says `what`; its output goes to `log`, whose end an error quotes.
pub fn run_quietly(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    let output = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let errors = output.try_clone().context("sharing the log between two streams")?;
    let spinner = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("  {spinner} {msg} {elapsed:.dim}").context("the spinner's template")?,
    );
    spinner.set_message(what.to_owned());
    if spinner.is_hidden() {
        eprintln!("  {what} ...");
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    let started = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .with_context(|| format!("starting {}", line(command)))?;
    spinner.finish_and_clear();
    if status.success() {
        eprintln!("  {what}: done in {:.0} s", started.elapsed().as_secs_f32());
        return Ok(());
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(15)..].join("\n  | ");
    bail!("{} ended with {status}; the end of {}:\n  | {tail}", line(command), log.display());
}

/// What `command` prints, trimmed; `None` if it cannot run or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The command as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
