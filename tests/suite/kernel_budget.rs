//! What the verifier has to look at: its work grows with paths, not with lines, and a kernel refuses at one million.

use anyhow::{Context as _, Result, ensure};
use privatelink_user::dataplane::load;

use crate::kernel::{self, COLLECT, EXPLAIN, TC, XDP};

/// Instructions that the verifier processes for each program, as measured on kernel 6.18.
const BUDGETS: [(&str, u32); 8] = [
    (XDP, 963),
    (TC, 921),
    ("privatelink_xdp_slow", 135_882),
    ("privatelink_tc_slow", 160_056),
    ("privatelink_xdp_udp", 59_413),
    ("privatelink_tc_udp", 61_522),
    (COLLECT, 209_113),
    (EXPLAIN, 91_516),
];

/// What a program may exceed its budget by, in percent.
const MARGIN: u32 = 10;

/// No program takes the verifier more than a tenth more than its budget.
pub fn verified_instructions() -> Result<()> {
    let mut ebpf = kernel::load(false)?;
    let mut over = Vec::new();
    for (name, budget) in BUDGETS {
        load::load_program(&mut ebpf, name)?;
        let info = ebpf.program(name).context(name)?.info().context(name)?;
        let count = info.verified_instruction_count().context("this kernel does not tell (5.16 and newer do)")?;
        eprintln!("{name}: {count} verified instructions, budget {budget}");
        if count > budget + budget * MARGIN / 100 {
            over.push(format!("{name}: {count}, budget {budget}"));
        }
    }
    ensure!(over.is_empty(), "more than {MARGIN} % over budget: {}", over.join("; "));
    Ok(())
}
