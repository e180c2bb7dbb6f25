//! Servers and clients that count what happens to them, for numbers that the usual programs do not reach or report.

pub mod churn;
pub mod datagrams;
pub mod fleet;
pub mod frames;
pub mod hold;
pub mod server;
pub mod stream;

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, ensure};

/// How attempts ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Attempts that did all they should.
    pub succeeded: u64,
    /// The others, by what went wrong.
    pub failed: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts one attempt.
    pub fn count<T>(&mut self, result: &Result<T>) {
        match result {
            Ok(_) => self.succeeded += 1,
            Err(error) => *self.failed.entry(format!("{error:#}")).or_default() += 1,
        }
    }

    /// Adds what another counted.
    pub fn add(&mut self, other: Self) {
        let Self { succeeded, failed } = other;
        self.succeeded += succeeded;
        for (why, count) in failed {
            *self.failed.entry(why).or_default() += count;
        }
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// An error unless there were attempts and every one succeeded.
    pub fn all_succeeded(&self) -> Result<()> {
        ensure!(self.failed.is_empty() && self.succeeded > 0, "{self}");
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} succeeded, {} failed", self.succeeded, self.failures())?;
        self.failed.iter().try_for_each(|(why, count)| write!(f, "; {count} × {why}"))
    }
}

/// Lets this process have as many sockets as its hard limit allows.
pub fn raise_file_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
