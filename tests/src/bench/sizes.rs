//! What the datapath needs: memory, and the verifier's work.

use std::{
    fmt::Write as _,
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use privatelink_ebpf::abi::{Counter, bench::Count};

use super::{
    bed::Bed,
    figure::{Figure, Goal, median},
    packets::{CPU, with_product},
    product::{Product, Table, Way},
    traffic::{FarEnd, Frames, Generator},
};
use crate::{
    daemon::Agent,
    eventually::eventually,
    programs::Directory,
    scenario::{Scenario, program},
    topology::{Hook, HostPlan, Topology, VpcPlan},
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

/// Time from the start of `privatelink apply` until the datapath has all of 10,000 targets.
pub fn apply(rounds: usize, mut done: impl FnMut(Figure)) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        times.push(apply_once()?.as_secs_f64());
    }
    done(Figure::new("apply-10000-targets", "s", median(&times)?).goal(Goal::AtMost(2.0)));
    Ok(())
}

/// Groups of the declaration, each behind a listener of its own.
const GROUPS: u16 = 10;
const TARGETS_PER_GROUP: u16 = 1000;

fn apply_once() -> Result<Duration> {
    let files = Directory::new("apply")?;
    let plans = vec![
        VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server", 2, 10)]),
    ];
    let topology = Topology::build(Hook::Tc, plans, None)?;
    let room = ["--max-targets".to_owned(), "16384".to_owned()];
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, room.into())?;
    let scenario = Scenario::configure(topology, agent)?;
    let file = files.path().join("targets.toml");
    fs::write(&file, declaration()?).context("the declaration")?;
    let started = Instant::now();
    scenario.cli.words(&["apply", "-f", &file.display().to_string()])?;
    let all = usize::from(GROUPS * TARGETS_PER_GROUP);
    let applied = eventually("the datapath has all targets", Duration::from_secs(60), || {
        let stats = scenario.cli.run("stats")?;
        let pools = stats["pools"].as_array().map_or(0, Vec::len);
        ensure!(pools >= all, "{pools} of {all} targets have a port pool");
        Ok(started.elapsed())
    });
    applied.with_context(|| scenario.diagnosis())
}

fn declaration() -> Result<String> {
    let mut text = String::new();
    for group in 0..GROUPS {
        writeln!(text, "[[target-group]]\nname = \"group-{group}\"\nvpc = \"provider\"\nport = 8080\ntargets = [")?;
        for n in 0..TARGETS_PER_GROUP {
            writeln!(text, "  \"10.0.{}.{}\",", 100 + group * 10 + n / 200, 1 + n % 200)?;
        }
        writeln!(text, "]\n")?;
    }
    writeln!(text, "[[load-balancer]]\nname = \"wide\"\nvpc = \"provider\"\naddresses = [\"10.0.0.5\"]\n")?;
    for group in 0..GROUPS {
        writeln!(text, "[[load-balancer.listener]]\nport = {}\ntarget-group = \"group-{group}\"\n", 8000 + group)?;
    }
    Ok(text)
}
