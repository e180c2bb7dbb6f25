//! What the verifier has to look at: its work grows with paths, not with lines, and a kernel refuses at one million.

use anyhow::{Context as _, Result, ensure};
use privatelink_user::dataplane::load;

use crate::kernel::{self, COLLECT, EXPLAIN, TC, XDP};

/// Instructions that the verifier processes for each program, as measured on kernel 6.18.
const BUDGETS: [(&str, u32); 20] = [
    (XDP, 976),
    (TC, 929),
    ("privatelink_xdp_slow", 167_364),
    ("privatelink_tc_slow", 187_279),
    ("privatelink_xdp_udp", 64_284),
    ("privatelink_tc_udp", 68_060),
    ("privatelink_tc_fragment", 3_459),
    ("privatelink_xdp_fragment", 2_905),
    ("privatelink_tc_icmp", 7_577),
    ("privatelink_xdp_icmp", 337),
    ("privatelink_tc_icmp_error", 2_730),
    ("privatelink_tc_proxy", 274_982),
    ("privatelink_tc_proxy_send", 18_352),
    ("privatelink_tc_v6", 2_068),
    ("privatelink_xdp_v6", 3_316),
    ("privatelink_tc_v6_slow", 206_488),
    ("privatelink_xdp_v6_slow", 189_188),
    ("privatelink_tc_answer", 3_862),
    (COLLECT, 35_491),
    (EXPLAIN, 256_860),
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
