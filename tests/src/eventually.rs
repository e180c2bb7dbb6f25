//! Waiting for something that will be true soon, without fixed sleeps.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Calls `attempt` until it succeeds or `limit` has passed; the error is the last attempt's, under `what`.
pub fn eventually<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let started = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() >= limit => {
                return Err(error).with_context(|| format!("{what}: not within {:.1} s", limit.as_secs_f32()));
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}
