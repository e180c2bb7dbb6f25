//! Random sequences of frames, time and changes through the loaded programs and the host's `decide`, compared step by
//! step: verdicts, bytes, counters, events, entries, ports and budgets.
//!
//! A short run goes over seeds that are always the same. `cargo xtask test fuzz --minutes N` goes on from a seed of the
//! clock; a seed that it finds is kept in [`KEPT`].

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, ensure};
use privatelink_ebpf::testing::{
    fuzz::{STEPS, compare},
    host::Host,
    run::Path,
    tables::Options,
};
use privatelink_tests::netns::Netns;

use crate::kernel::{self, Kernel};

/// Seeds that once showed a difference.
const KEPT: &[u64] = &[];

/// Sequences of the short run.
const SEQUENCES: u64 = 200;

/// Attempts after which a difference counts. The kernel's clock goes on while a sequence runs, the host's does not:
/// what depends on the moment does not come again.
const ATTEMPTS: usize = 3;

/// For how many minutes to go on with ever new seeds; unset: not at all.
const MINUTES: &str = "PRIVATELINK_FUZZ_MINUTES";
/// The seed to begin with.
const SEED: &str = "PRIVATELINK_FUZZ_SEED";

/// The same sequences in every run, and those that once failed.
pub fn fixed() -> Result<()> {
    in_namespace(|| {
        let mut pair = Pair::load()?;
        let failed: Vec<String> =
            KEPT.iter().copied().chain(0..SEQUENCES).filter_map(|seed| pair.differs(seed)).collect();
        ensure!(failed.is_empty(), "{} seeds:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    })
}

/// For as long as the variable says.
pub fn long() -> Result<()> {
    let Some(minutes) = number(MINUTES)? else {
        eprintln!("`cargo xtask test fuzz --minutes N` runs it");
        return Ok(());
    };
    let first = match number(SEED)? {
        Some(seed) => seed,
        None => u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() & 0xffff_ffff_ffff)?,
    };
    let end = Instant::now() + Duration::from_secs(60 * minutes);
    in_namespace(|| {
        let mut pair = Pair::load()?;
        let (mut seed, mut failed) = (first, Vec::new());
        while Instant::now() < end && failed.len() < 10 {
            failed.extend(pair.differs(seed));
            seed += 1;
        }
        eprintln!("{} sequences of {STEPS} steps from seed {first} on, each by TC and by XDP", seed - first);
        ensure!(failed.is_empty(), "{} seeds:\n{}", failed.len(), failed.join("\n"));
        Ok(())
    })
}

fn number(variable: &str) -> Result<Option<u64>> {
    std::env::var(variable).ok().map(|text| text.parse().with_context(|| format!("{variable}={text}"))).transpose()
}

fn in_namespace(run: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    let netns = Netns::new("fuzz")?;
    kernel::interfaces(&netns)?;
    netns.run(run)?
}

/// What is compared.
struct Pair {
    kernel: Kernel,
    host: Host,
}

impl Pair {
    fn load() -> Result<Self> {
        Ok(Self { kernel: Kernel::load(false)?, host: Host::new(Options::default()) })
    }

    /// Runs the sequence by TC and by XDP; the difference, if it comes every time.
    fn differs(&mut self, seed: u64) -> Option<String> {
        [Path::Tc, Path::XdpThenTc].into_iter().find_map(|path| {
            let mut last = None;
            for _ in 0..ATTEMPTS {
                match compare(seed, path, &mut self.host, &mut self.kernel) {
                    Ok(()) => return None,
                    Err(difference) => last = Some(difference),
                }
            }
            last
        })
    }
}
