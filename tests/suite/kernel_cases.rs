//! The case table through the loaded programs: every case by TC and by XDP with TC behind it, each step held against
//! the case's expectations and, byte for byte, counter for counter and entry for entry, against the host's `decide`.

use anyhow::{Result, ensure};
use privatelink_ebpf::testing::{
    cases,
    host::Host,
    run::{Path, run},
    tables::Options,
};
use privatelink_tests::netns::Netns;

use crate::kernel::{self, Kernel};

/// With the table that the product uses.
pub fn set_associative_table() -> Result<()> {
    all_cases(false)
}

/// With the kernel's hash map.
pub fn reference_table() -> Result<()> {
    all_cases(true)
}

fn all_cases(reference: bool) -> Result<()> {
    let netns = Netns::new("cases")?;
    kernel::interfaces(&netns)?;
    netns.run(|| compare(Kernel::load(reference)?, reference))?
}

/// Every case through `kernel`, in the namespace with the interfaces.
pub fn compare(mut kernel: Kernel, reference: bool) -> Result<()> {
    let mut host = Host::new(Options { reference, ..Options::default() });
    let (mut frames, mut by_xdp) = (0, 0);
    let mut wrong = Vec::new();
    let cases = cases::all();
    for case in &cases {
        for path in [Path::Tc, Path::XdpThenTc] {
            let (there, here) = match (run(case, path, &mut kernel), run(case, path, &mut host)) {
                (Ok(there), Ok(here)) => (there, here),
                (there, here) => {
                    wrong.extend(there.err().map(|error| format!("kernel: {error}")));
                    wrong.extend(here.err().map(|error| format!("host: {error}")));
                    continue;
                }
            };
            for (step, (there, here)) in there.iter().zip(&here).enumerate() {
                if there != here {
                    wrong.push(format!(
                        "{} ({path:?}), step {}: kernel {there:?}\n host {here:?}",
                        case.name,
                        step + 1
                    ));
                }
            }
            let seen = || there.iter().filter_map(|trace| trace.seen.as_ref());
            frames += seen().count();
            by_xdp += seen().filter(|seen| seen.by_xdp).count();
        }
    }
    eprintln!(
        "{} cases by TC and by XDP: {frames} frames through the kernel, {by_xdp} of them finished by XDP; all equal to the \
         host's: {}",
        cases.len(),
        wrong.is_empty(),
    );
    ensure!(wrong.is_empty(), "{} runs differ:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(by_xdp * 4 > frames, "XDP finished only {by_xdp} of {frames} frames");
    Ok(())
}
