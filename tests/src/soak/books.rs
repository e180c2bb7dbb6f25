//! What must balance: flows that were opened have ended once, frames that came have left or were dropped by name.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result};
use privatelink_ebpf::abi::counters::{Counter, CounterKind};
use serde_json::Value;

use crate::{scenario::Scenario, topology::Topology};

/// The sums of both sides.
#[derive(Clone, Copy, Debug)]
pub struct Books {
    opened: u64,
    ended: u64,
    /// Flows whose client has come again from the same port. Where their own port was held they end twice: then, and
    /// with the hold.
    replaced: u64,
    /// Frames that came in on ports, and those that left by them.
    pub received: u64,
    sent: u64,
    dropped: u64,
    /// Resets and ICMP errors of our own.
    made: u64,
}

/// How a flow ends, or the hold of its port after it.
const ENDS: [Counter; 13] = [
    Counter::PortReleasedAfterHold,
    Counter::PortReusedEarly,
    Counter::FlowClosed,
    Counter::FlowResetByClient,
    Counter::FlowResetByTarget,
    Counter::FlowExpiredIdle,
    Counter::FlowExpiredHalfOpen,
    Counter::FlowEndedWithTarget,
    Counter::FlowEndedWithEndpoint,
    Counter::FlowEndedWithPort,
    Counter::FlowEndedBySecurityGroup,
    Counter::FlowEndedByWeight,
    Counter::FlowReplaced,
];

impl Books {
    /// As they are now.
    pub fn read(scenario: &Scenario) -> Result<Self> {
        let (received, sent) = frames(&scenario.topology)?;
        let stats = scenario.cli.run("stats")?;
        let rows = stats["counters"].as_array().context("stats without counters")?;
        let counts: BTreeMap<&str, u64> =
            rows.iter().filter_map(|row| Some((row["name"].as_str()?, row["count"].as_u64()?))).collect();
        let count = |counter: Counter| {
            let name = counter.name();
            counts.get(name).copied().with_context(|| format!("no counter '{name}' in {stats}"))
        };
        let sum = |counters: &mut dyn Iterator<Item = Counter>| counters.map(count).sum::<Result<u64>>();
        Ok(Self {
            opened: count(Counter::FlowOpened)?,
            ended: sum(&mut ENDS.into_iter())?,
            replaced: count(Counter::FlowReplaced)?,
            received,
            sent,
            dropped: sum(&mut Counter::ALL.iter().copied().filter(|counter| counter.kind() == CounterKind::Drop))?,
            made: count(Counter::ResetSent)? + count(Counter::IcmpErrorSent)?,
        })
    }

    /// Flows that are neither open nor ended, or, below zero, that have ended twice; those aside that may.
    pub fn lost_flows(&self, open: usize) -> i64 {
        let lost = signed(self.opened) - signed(self.ended) - i64::try_from(open).unwrap_or(i64::MAX);
        if lost < 0 { lost.saturating_add(signed(self.replaced)).min(0) } else { lost }
    }

    /// Frames that neither left nor were dropped, less those that left without having come.
    pub fn lost_frames(&self) -> i64 {
        signed(self.received + self.made) - signed(self.sent + self.dropped)
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Frames that came in on all ports, and that left by them, as the far ends count them: of what leaves by
/// `bpf_redirect_peer` the near end knows nothing. In the agent's namespace, the far end is the one with an address,
/// which is the host's.
fn frames(topology: &Topology) -> Result<(u64, u64)> {
    let mut frames = (0, 0);
    for netns in topology.hosts().map(|host| &host.netns).chain([&topology.lb]) {
        let output = Command::new("ip").args(["-n", netns.name(), "-s", "-d", "-j", "address"]).output();
        let links: Vec<Value> =
            serde_json::from_slice(&output.context("starting ip")?.stdout).context("what ip printed")?;
        for link in links.iter().filter(|link| link["linkinfo"]["info_kind"] == "veth") {
            let packets = |way: &str| link["stats64"][way]["packets"].as_u64().context("a link without statistics");
            let addresses = link["addr_info"].as_array().context("a link without addresses")?;
            if addresses.iter().any(|address| address["family"] == "inet") {
                frames = (frames.0 + packets("tx")?, frames.1 + packets("rx")?);
            }
        }
    }
    Ok(frames)
}
