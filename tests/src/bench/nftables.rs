//! The kernel's own NAT with the same packets: nftables DNAT and masquerade over conntrack.

use anyhow::{Context as _, Result};

use super::{
    bed::{Bed, ENDPOINT, PORT, TARGET_PORT, TARGETS, target},
    figure::{Figure, Goal, median},
    packets::{CPU, measure_kind, open, open_udp},
    product::{Product, Table, Way},
    traffic::{FarEnd, Frames, Generator},
};
use crate::nft;

/// Flows of the comparison; nf_conntrack has room for them everywhere.
const FLOWS: u32 = 10_000;
/// Frames of one run.
const FRAMES: u32 = 1 << 19;

/// XDP and TC against nftables, and UDP against TCP.
pub fn compare(bed: &Bed, rounds: usize, mut done: impl FnMut(Figure)) -> Result<()> {
    let mut generator = Generator::load(bed, FarEnd::Answers)?;
    generator.count_behind_peer()?;
    let mut xdp = Product::load(bed, Table::Own, Way::Between, FLOWS)?;
    xdp.attach_xdp()?;
    open(&mut generator, FLOWS)?;
    open_udp(&mut generator, FLOWS).context("UDP through XDP")?;
    xdp.detach()?;
    let mut tc = Product::load(bed, Table::Own, Way::Between, FLOWS)?;
    tc.attach_tc()?;
    open(&mut generator, FLOWS).with_context(|| format!("through TC; the datapath counted {}", tc.counters()))?;
    open_udp(&mut generator, FLOWS).context("UDP through TC")?;
    tc.detach()?;
    tc.redirect_to_peers()?;
    bed.route(1)?;
    let targets: Vec<String> = (0..TARGETS).map(|n| format!("{n} : {} . {TARGET_PORT}", target(n))).collect();
    let rules = format!(
        "table ip nat {{\n\
         chain in {{ type nat hook prerouting priority -100; ip daddr {ENDPOINT} meta l4proto {{ tcp, udp }} \
         th dport {PORT} dnat to numgen inc mod {TARGETS} map {{ {} }}; }}\n\
         chain out {{ type nat hook postrouting priority 100; oifname {} masquerade; }}\n}}\n",
        targets.join(", "),
        bed.target.end.name
    );
    nft::load(&bed.lb, &rules)?;
    open(&mut generator, FLOWS).context("through nftables")?;
    open_udp(&mut generator, FLOWS).context("UDP through nftables")?;
    let (mut by_xdp, mut by_tc, mut by_nft) = (Kinds::default(), Kinds::default(), Kinds::default());
    for _ in 0..rounds {
        xdp.attach_xdp()?;
        by_xdp.sample(&mut generator)?;
        xdp.detach()?;
        tc.attach_tc()?;
        by_tc.sample(&mut generator)?;
        tc.detach()?;
        by_nft.sample(&mut generator)?;
    }
    let [nft_tcp, nft_udp] = by_nft.medians()?;
    for (hook, samples, goal) in [("xdp", by_xdp, 5.0), ("tc", by_tc, 1.5)] {
        let [tcp, udp] = samples.medians()?;
        done(Figure::new(format!("nftables-{hook}"), "Mpps", tcp).over("nftables", nft_tcp).goal(Goal::AtLeast(goal)));
        let figure = Figure::new(format!("nftables-{hook}-udp"), "Mpps", udp).over("nftables", nft_udp);
        done(figure.beside("ours, TCP", tcp));
    }
    Ok(())
}

/// Samples of TCP and of UDP.
#[derive(Default)]
struct Kinds {
    tcp: Vec<f64>,
    udp: Vec<f64>,
}

impl Kinds {
    fn sample(&mut self, generator: &mut Generator<'_>) -> Result<()> {
        let mut rate = |kind| measure_kind(generator, kind, &[CPU], FLOWS, FRAMES).map(|sent| sent.mpps());
        self.tcp.push(rate(Frames::Established)?);
        self.udp.push(rate(Frames::Datagrams)?);
        Ok(())
    }

    fn medians(&self) -> Result<[f64; 2]> {
        Ok([median(&self.tcp)?, median(&self.udp)?])
    }
}
