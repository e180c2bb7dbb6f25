//! The tests of another kernel, inside a guest that `cargo xtask test kernels` boots: do the programs load, do the
//! packet cases hold, does traffic arrive, also by native XDP on a driver of network cards.
//!
//! It is started by the first process of the guest. If all has passed, it ends the guest by writing to QEMU's exit
//! device; everything else that may happen to a guest ends it in another way.

// Both are the kernel suite's, which does more with them.
#[allow(dead_code, unused_imports)]
#[path = "../../../suite/kernel.rs"]
mod kernel;
#[allow(dead_code)]
#[path = "../../../suite/kernel_cases.rs"]
mod kernel_cases;
mod load;
mod smoke;
mod virtio;

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, ensure};

/// A test's name and what it does.
type Test = (&'static str, fn() -> Result<()>);

/// An emulated processor takes a minute or two to verify all programs, so they are loaded three times only: here, by
/// the agent, and by the agent that takes over.
const TESTS: [Test; 2] = [
    ("programs load, and do with the packet cases what the host's core does", load::programs_and_cases),
    ("traffic between namespaces by TC and XDP and between network cards, and an agent that takes over", smoke::all),
];

fn main() -> ExitCode {
    // The kernel hands words of its command line that it does not know to the first process, as variables.
    let only = std::env::var("PRIVATELINK_ONLY").unwrap_or_default();
    let mut failed = 0;
    for (name, run) in TESTS.into_iter().filter(|(name, _)| name.contains(&only)) {
        let started = Instant::now();
        let result = run();
        let seconds = started.elapsed().as_secs_f32();
        match result {
            Ok(()) => say(&format!("ok      {name} ({seconds:.1} s)")),
            Err(error) => {
                failed += 1;
                say(&format!("FAILED  {name} ({seconds:.1} s): {error:#}"));
            }
        }
    }
    if failed == 0
        && let Err(error) = leave()
    {
        say(&format!("the guest cannot be left: {error:#}"));
    }
    ExitCode::FAILURE
}

/// A line that whoever booted the guest shows.
fn say(text: &str) {
    for line in text.lines() {
        println!("guest: {line}");
    }
}

/// Ends the guest with what counts as a pass. Cloud kernels have no `/dev/port`, so the port is written directly.
fn leave() -> Result<()> {
    /// Where `isa-debug-exit` listens.
    const PORT: u16 = 0xf4;
    /// What `xtask` takes for a pass.
    const PASSED: u8 = 42;
    // SAFETY: gives this process access to one I/O port, and nothing else.
    let allowed = unsafe { libc::ioperm(PORT.into(), 1, 1) };
    ensure!(allowed == 0, "ioperm: {}", std::io::Error::last_os_error());
    // What was said must be out before the machine is gone.
    std::io::Write::flush(&mut std::io::stdout()).context("the console")?;
    // SAFETY: no pointers. A console that cannot wait for its last byte is none, and has nothing to lose.
    unsafe { libc::tcdrain(libc::STDOUT_FILENO) };
    // SAFETY: an I/O port that this process may write; it has no memory side effects.
    unsafe { std::arch::asm!("out dx, al", in("dx") PORT, in("al") PASSED, options(nomem, nostack)) };
    Ok(())
}
