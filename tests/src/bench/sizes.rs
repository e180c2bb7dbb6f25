//! What the datapath needs: memory, and the verifier's work.

use anyhow::{Context as _, Result, ensure};
use privatelink_ebpf::abi::{Counter, bench::Count};

use super::{
    bed::Bed,
    figure::{Figure, Goal},
    packets::{CPU, with_product},
    product::{Product, Table, Way},
    traffic::{FarEnd, Frames, Generator},
};

/// Memory of a million flows, all of them there.
pub fn memory(bed: &Bed, mut done: impl FnMut(Figure)) -> Result<()> {
    const FLOWS: u32 = 1_000_000;
    let mut generator = Generator::load(bed, FarEnd::Silent)?;
    let mut product = Product::load(bed, Table::Own, Way::Between, FLOWS)?;
    with_product(&mut product, || {
        generator.choose(Frames::Open, FLOWS)?;
        let sent = generator.send(CPU, FLOWS, Count::Received)?;
        // The few that XDP leaves to TC come to the same far end; a frame that the machine lost is no flow.
        ensure!(sent.received > sent.frames * 99 / 100, "{} of {} SYNs arrived", sent.received, sent.frames);
        Ok(())
    })?;
    let opened = product.counter(Counter::FlowOpened)?;
    ensure!(opened > u64::from(FLOWS) * 99 / 100, "{opened} of {FLOWS} flows opened");
    let megabyte = |bytes: u64| bytes as f64 / 1e6;
    let flows = product.memory(Some(&["FLOWS", "STASH", "LOCKS"]))?;
    let all = product.memory(None)?;
    done(
        Figure::new("memory-million-flows", "MB", megabyte(flows))
            .beside("all tables", megabyte(all))
            .goal(Goal::AtMost(300.0)),
    );
    Ok(())
}

/// Instructions that the verifier looks at, by program.
pub fn instructions(bed: &Bed, mut done: impl FnMut(Figure)) -> Result<()> {
    let product = Product::load(bed, Table::Own, Way::Between, 1)?;
    for (name, info) in product.programs()? {
        let verified = info.verified_instruction_count().context("this kernel does not tell (5.16 does)")?;
        let name = format!("instructions-{}", name.trim_start_matches("privatelink_").replace('_', "-"));
        done(Figure::new(name, "verified", f64::from(verified)));
    }
    Ok(())
}
