//! What the verifier has to look at: its work grows with paths, not with lines, and a kernel refuses at one million.

use anyhow::{Context as _, Result, ensure};
use privatelink_user::dataplane::load;

use crate::kernel::{self, COLLECT, EXPLAIN, TC, XDP};

/// Instructions that the verifier processes for each program, as measured on kernel 6.18.
const BUDGETS: [(&str, u32); 26] = [
    (XDP, 1_030),
    (TC, 928),
    ("privatelink_xdp_slow", 170_842),
    ("privatelink_tc_slow", 193_027),
    ("privatelink_xdp_udp", 67_369),
    ("privatelink_tc_udp", 73_091),
    ("privatelink_tc_fragment", 9_588),
    ("privatelink_xdp_fragment", 9_394),
    ("privatelink_tc_wait", 30_132),
    ("privatelink_tc_icmp", 12_402),
    ("privatelink_xdp_icmp", 385),
    ("privatelink_tc_icmp_error", 6_087),
    ("privatelink_tc_icmp6", 11_560),
    ("privatelink_tc_proxy", 278_887),
    ("privatelink_tc_proxy_send", 18_352),
    ("privatelink_tc_v6", 2_068),
    ("privatelink_xdp_v6", 2_965),
    ("privatelink_tc_v6_slow", 214_060),
    ("privatelink_xdp_v6_slow", 185_734),
    ("privatelink_tc_to_ipv6", 131_931),
    ("privatelink_tc_to_ipv4", 116_989),
    ("privatelink_tc_answer", 3_876),
    ("privatelink_tc_challenge", 5_012),
    ("privatelink_xdp_challenge", 4_042),
    (COLLECT, 35_605),
    (EXPLAIN, 372_428),
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
