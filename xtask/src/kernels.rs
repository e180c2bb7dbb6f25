//! Other kernels than the running one: Debian's, booted in QEMU with a guest of our own in memory.
//!
//! Nothing is installed. Packages come by apt, with a state directory of its own, and are unpacked under
//! `target/kernels`, where they stay for the next run. What runs inside is the program `guest` of `privatelink-tests`;
//! a kernel has passed only if that program says so through QEMU's exit device, which nothing else does by accident.

mod archive;
mod initramfs;
mod machine;

use std::{fs, num::NonZero, path::PathBuf, thread, time::Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use self::archive::Archive;
use crate::{
    build::{self, Profile},
    pins::Pins,
};

/// What runs where no version is named: the oldest supported kernel, those that distributions keep for long, the
/// newest.
const ALL: [&str; 4] = ["6.1", "6.12", "6.18", NEWEST];

/// The newest kernel that Debian has.
const NEWEST: &str = "newest";

/// A kernel as unpacked.
struct Kernel {
    /// Its release, `uname -r`.
    release: String,
    /// What QEMU boots.
    image: PathBuf,
    /// `lib/modules/RELEASE`.
    modules: PathBuf,
}

/// Boots each of `versions` ("6.1", "6.12.88", "newest"; all supported ones if there are none) and runs the guest's
/// tests, or those whose names contain `filter`, a word.
pub fn run(pins: &Pins, versions: &[String], filter: Option<&str>) -> Result<()> {
    let versions: Vec<&str> =
        if versions.is_empty() { ALL.to_vec() } else { versions.iter().map(String::as_str).collect() };
    build::programs(pins, Profile::Dev)?;
    let programs = pins.target.join(Profile::Dev.dir());
    let archive = Archive::open(&pins.target.join("kernels"))?;
    let qemu = archive.qemu()?;
    let base = initramfs::Base::new(&archive.busybox()?, &programs)?;
    let kernels: Vec<Kernel> = versions.into_iter().map(|version| archive.kernel(version)).collect::<Result<_>>()?;
    let mut told = Vec::new();
    let mut failed = Vec::new();
    // The verifier is most of the work and takes one processor, so as many run at a time as there are.
    let at_a_time = thread::available_parallelism().map_or(1, NonZero::get);
    for some in kernels.chunks(at_a_time) {
        let ended: Vec<(&Kernel, u64, Result<()>)> = thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|kernel| {
                    let (base, archive, qemu) = (&base, &archive, &qemu);
                    let boot = move || {
                        let started = Instant::now();
                        let ended = boot(archive, qemu, base, kernel, filter);
                        (started.elapsed().as_secs(), ended)
                    };
                    (kernel, scope.spawn(boot))
                })
                .collect();
            let join = |(kernel, thread): (_, thread::ScopedJoinHandle<'_, _>)| match thread.join() {
                Ok((seconds, ended)) => (kernel, seconds, ended),
                Err(_) => (kernel, 0, Err(anyhow!("its thread panicked"))),
            };
            running.into_iter().map(join).collect()
        });
        for (kernel, seconds, ended) in ended {
            match ended {
                Ok(()) => told.push(format!("{}: passed in {seconds} s", kernel.release)),
                Err(error) => {
                    told.push(format!("{}: FAILED after {seconds} s: {error:#}", kernel.release));
                    failed.push(kernel.release.as_str());
                }
            }
        }
    }
    println!("\n{}", told.join("\n"));
    if !failed.is_empty() {
        bail!("kernels that failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Boots one kernel and waits for its end.
fn boot(
    archive: &Archive,
    qemu: &archive::Qemu,
    base: &initramfs::Base,
    kernel: &Kernel,
    filter: Option<&str>,
) -> Result<()> {
    let file = |kind: &str| archive.dir().join(format!("{}.{kind}", kernel.release));
    let (image, log) = (file("cpio"), file("log"));
    fs::write(&image, base.with_modules(&kernel.modules)?).with_context(|| format!("writing {}", image.display()))?;
    let ended = machine::boot(qemu, kernel, &image, filter, &log);
    fs::remove_file(&image).with_context(|| format!("removing {}", image.display()))?;
    ended
}
