//! Whether anything grows: long runs of [`tls`] handshakes, and of everything at once ([`mixed`]).

mod books;
pub mod mixed;
pub mod tls;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_user::tls::relay::wire::{self, Request, Status};

use crate::daemon::Agent;

/// How long anything may take that is not slow on purpose.
const PATIENCE: Duration = Duration::from_secs(30);

/// A number of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the process has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| field.to_owned())?;
    Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
}

/// Open files of a process.
fn files(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd")).context("the process has ended")?.count())
}

/// What the relay says it does.
fn relay(agent: &Agent) -> Result<Status> {
    let mut stream = UnixStream::connect(wire::socket(&agent.state_dir())).context("the relay's socket")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&wire::frame(&Request::Status)?)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; wire::checked_length(u32::from_be_bytes(length))?];
    stream.read_exact(&mut body)?;
    Ok(wire::parse(&body)?)
}

/// The growth of a line through `values`, from its first point to its last.
fn growth(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (mean_x, mean_y) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let points = || values.iter().enumerate().map(|(x, y)| (x as f64 - mean_x, y - mean_y));
    let (above, below): (f64, f64) = (points().map(|(x, y)| x * y).sum(), points().map(|(x, _)| x * x).sum());
    if below > 0.0 { above / below * (count - 1.0) } else { 0.0 }
}

/// An error if what is measured once a minute grows: by more than a twentieth and 1 MiB along its line, in KiB.
fn steady(what: &str, values: &[u64]) -> Result<()> {
    let values: Vec<f64> = values.iter().map(|value| *value as f64).collect();
    let first = values.first().copied().context("too short: nothing is left after the warm-up")?;
    let grown = growth(&values);
    println!("{what}: {first:.0} KiB when warm, grown by {grown:.0} KiB since");
    ensure!(grown < first / 20.0 + 1_024.0, "{what} grows: {values:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_the_line_s_and_not_the_noise_s() {
        assert!((growth(&[10.0, 11.0, 12.0, 13.0]) - 3.0).abs() < 1e-9);
        assert!(growth(&[10.0, 12.0, 10.0, 12.0, 10.0]).abs() < 1e-9);
        assert!(growth(&[5.0]).abs() < 1e-9);
    }
}
