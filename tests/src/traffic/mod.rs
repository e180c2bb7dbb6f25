//! Servers and clients that count what happens to them, for numbers that the usual programs do not reach or report.

pub mod churn;
pub mod frames;
pub mod hold;
pub mod server;
pub mod stream;

use std::{collections::BTreeMap, fmt};

use anyhow::{Result, ensure};

/// How attempts ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// An error unless every attempt succeeded.
    pub fn all_succeeded(&self) -> Result<()> {
        ensure!(self.failed.is_empty(), "{self}");
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} succeeded, {} failed", self.succeeded, self.failures())?;
        self.failed.iter().try_for_each(|(why, count)| write!(f, "; {count} × {why}"))
    }
}

/// Lets this process have as many sockets as the kernel allows (root may raise its own limit).
pub fn raise_file_limit() -> Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open")?.trim().parse()?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    Ok(())
}
