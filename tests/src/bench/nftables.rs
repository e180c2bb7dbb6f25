//! The kernel's own NAT with the same packets: nftables DNAT and masquerade over conntrack.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    bed::{Bed, ENDPOINT, PORT, TARGET_PORT, TARGETS, target},
    figure::{Figure, Goal, median},
    packets::{CPU, measure, open},
    product::{Product, Table, Way},
    traffic::{FarEnd, Generator},
};
use crate::netns::Netns;

/// Flows of the comparison; nf_conntrack has room for them everywhere.
const FLOWS: u32 = 10_000;
/// Frames of one run.
const FRAMES: u32 = 1 << 19;

/// Loads a ruleset in a namespace.
pub fn load(netns: &Netns, rules: &str) -> Result<()> {
    let program = crate::require::find("nft").context("nft is not installed; `cargo xtask setup` does that")?;
    let mut command: Command = netns.command(program);
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("starting nft")?;
    child.stdin.take().context("nft's input")?.write_all(rules.as_bytes()).context("writing to nft")?;
    ensure!(child.wait().context("waiting for nft")?.success(), "nft refused:\n{rules}");
    Ok(())
}

/// XDP and TC against nftables.
pub fn compare(bed: &Bed, rounds: usize, mut done: impl FnMut(Figure)) -> Result<()> {
    let mut generator = Generator::load(bed, FarEnd::Answers)?;
    generator.count_behind_peer()?;
    let mut xdp = Product::load(bed, Table::Own, Way::Between, FLOWS)?;
    xdp.attach_xdp()?;
    open(&mut generator, FLOWS)?;
    xdp.detach()?;
    let mut tc = Product::load(bed, Table::Own, Way::Between, FLOWS)?;
    tc.attach_tc()?;
    open(&mut generator, FLOWS).with_context(|| format!("through TC; the datapath counted {}", tc.counters()))?;
    tc.detach()?;
    tc.redirect_to_peers()?;
    bed.route(1)?;
    let targets: Vec<String> = (0..TARGETS).map(|n| format!("{n} : {} . {TARGET_PORT}", target(n))).collect();
    let rules = format!(
        "table ip nat {{\n\
         chain in {{ type nat hook prerouting priority -100; ip daddr {ENDPOINT} tcp dport {PORT} \
         dnat to numgen inc mod {TARGETS} map {{ {} }}; }}\n\
         chain out {{ type nat hook postrouting priority 100; oifname {} masquerade; }}\n}}\n",
        targets.join(", "),
        bed.target.end.name
    );
    load(&bed.lb, &rules)?;
    open(&mut generator, FLOWS).context("through nftables")?;
    let (mut by_xdp, mut by_tc, mut by_nft) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        xdp.attach_xdp()?;
        by_xdp.push(measure(&mut generator, &[CPU], FLOWS, FRAMES)?.mpps());
        xdp.detach()?;
        tc.attach_tc()?;
        by_tc.push(measure(&mut generator, &[CPU], FLOWS, FRAMES)?.mpps());
        tc.detach()?;
        by_nft.push(measure(&mut generator, &[CPU], FLOWS, FRAMES)?.mpps());
    }
    let nft = median(&by_nft)?;
    done(Figure::new("nftables-xdp", "Mpps", median(&by_xdp)?).over("nftables", nft).goal(Goal::AtLeast(5.0)));
    done(Figure::new("nftables-tc", "Mpps", median(&by_tc)?).over("nftables", nft).goal(Goal::AtLeast(1.5)));
    Ok(())
}
