//! What this kernel's verifier says to every program.

use anyhow::{Context as _, Result, ensure};
use aya::{Ebpf, util::KernelVersion};
use privatelink_ebpf::abi::stage;
use privatelink_tests::netns::Netns;
use privatelink_user::dataplane::{features::FINE_STACK, load};

use crate::{
    kernel::{self, Kernel},
    kernel_cases, say,
};

/// The end of the verifier's log is where it says what it refuses.
const LINES: usize = 40;

/// Every program loads, and does with the packet cases what the host's core does.
pub fn programs_and_cases() -> Result<()> {
    let ebpf = every_program()?;
    let netns = Netns::new("cases")?;
    kernel::interfaces(&netns)?;
    netns.run(|| kernel_cases::compare(Kernel::of(ebpf, false)?, false))?
}

/// Loads each program for itself, so that one that is refused hides no other, and says how much work each was.
fn every_program() -> Result<Ebpf> {
    let mut ebpf = kernel::load(false)?;
    let mut refused = Vec::new();
    let mut most = (0, "");
    let fine = !KernelVersion::current().is_ok_and(|version| FINE_STACK.missing_in(version));
    let names = load::ENTRIES.into_iter().chain(fine.then_some(load::EXPLAIN_IPV6));
    let names = names.chain(stage::programs().map(|program| program.name));
    for name in names {
        match load::load_program(&mut ebpf, name) {
            Ok(()) => {
                let info = ebpf.program(name).context(name)?.info().context(name)?;
                let count = info.verified_instruction_count().context("this kernel does not count")?;
                println!("{name}: {count} verified instructions");
                most = most.max((count, name));
            }
            Err(error) => {
                let text = chain(&error);
                // Newer kernels end with a line for each function, whatever the reason.
                let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("subprog ")).collect();
                say(&format!("{name} is refused:\n{}", lines[lines.len().saturating_sub(LINES)..].join("\n")));
                refused.push(name);
            }
        }
    }
    ensure!(refused.is_empty(), "refused: {}", refused.join(", "));
    let (count, name) = most;
    say(&format!("        at most {count} verified instructions, {name}"));
    load::place_stages(&mut ebpf)?;
    Ok(ebpf)
}

/// An error with all that caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
