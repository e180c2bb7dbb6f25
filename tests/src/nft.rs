//! The kernel's own packet filter: a rival, an oracle, and a witness of what reaches a host's stack.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{netns::Netns, require};

/// Loads a ruleset in a namespace.
pub fn load(netns: &Netns, rules: &str) -> Result<()> {
    let program = require::find("nft").context("nft is not installed; `cargo xtask setup` does that")?;
    let mut command: Command = netns.command(program);
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("starting nft")?;
    child.stdin.take().context("nft's input")?.write_all(rules.as_bytes()).context("writing to nft")?;
    ensure!(child.wait().context("waiting for nft")?.success(), "nft refused:\n{rules}");
    Ok(())
}

/// Loses `percent` of the packets that come into `netns`, by chance, up to all of them; 0: none any more.
pub fn lose(netns: &Netns, percent: u32) -> Result<()> {
    let none = "table inet loss\ndelete table inet loss\n";
    // A rule that is always met is refused.
    let chance = if percent < 100 { format!("numgen random mod 100 < {percent}") } else { String::new() };
    let some = format!(
        "{none}table inet loss {{\n chain in {{\n type filter hook prerouting priority -300\n \
         iif != lo {chance} counter drop\n }}\n}}\n"
    );
    load(netns, if percent == 0 { none } else { &some })
}

/// Packets that the counters of all rules in `netns` have seen together.
pub fn counted(netns: &Netns) -> Result<u64> {
    let program = require::find("nft").context("nft is not installed; `cargo xtask setup` does that")?;
    let output = netns.command(program).args(["-j", "list", "ruleset"]).output().context("starting nft")?;
    let said: Value = serde_json::from_slice(&output.stdout).context("what nft printed")?;
    let objects = said["nftables"].as_array().context("no objects")?;
    let expressions = objects.iter().filter_map(|object| object["rule"]["expr"].as_array()).flatten();
    Ok(expressions.filter_map(|expression| expression["counter"]["packets"].as_u64()).sum())
}
