//! Packets a second and program time: the generator, one program, a far end, on one CPU.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::{ProgramInfo, Xdp, XdpMode},
    sys::{Stats, enable_stats},
};
use privatelink_ebpf::abi::bench::Count;

use super::{
    bed::Bed,
    figure::{Figure, Goal, median},
    product::{Product, Table, Way},
    traffic::{FarEnd, Frames, Generator, Sent},
};

/// Frames of one run, after a quarter of that to warm up.
const FRAMES: u32 = 1 << 19;
/// Runs of a measurement.
const RUNS: usize = 4;
/// Runs until it is given up that one of them loses nothing.
const ATTEMPTS: usize = 20;
/// Where everything of a measurement runs.
pub const CPU: usize = 0;

/// Opens `flows` flows through whatever is attached.
pub fn open(generator: &mut Generator<'_>, flows: u32) -> Result<()> {
    let mut sent = None;
    // A flow whose handshake lost a packet goes on with the next one's.
    for _ in 0..ATTEMPTS {
        generator.choose(Frames::Open, flows)?;
        let opened = generator.send(CPU, flows, Count::Connected)?;
        if opened.received == opened.frames {
            return Ok(());
        }
        sent = Some(opened);
    }
    let opened = sent.map_or(0, |sent| sent.received);
    anyhow::bail!(
        "{opened} of {flows} flows opened; the far ends answered {} SYNs and {} SYN-ACKs in {ATTEMPTS} attempts and saw \
         {} other frames",
        generator.count(Count::Accepted)?,
        generator.count(Count::Connected)?,
        generator.count(Count::Other)?
    )
}

/// Opens `flows` flows of UDP through whatever is attached.
pub fn open_udp(generator: &mut Generator<'_>, flows: u32) -> Result<()> {
    generator.choose(Frames::FirstDatagrams, flows)?;
    let mut received = 0;
    for _ in 0..ATTEMPTS {
        let sent = generator.send(CPU, flows, Count::Received)?;
        if sent.received == sent.frames {
            return Ok(());
        }
        received = sent.received;
    }
    anyhow::bail!("{received} of {flows} datagrams arrived in each of {ATTEMPTS} attempts")
}

/// Sends established flows' packets, all of which must arrive. The fastest of some runs: whatever else runs on the
/// machine only ever makes one slower, or lose packets.
pub fn measure(generator: &mut Generator<'_>, cpus: &[usize], flows: u32, frames: u32) -> Result<Sent> {
    measure_kind(generator, Frames::Established, cpus, flows, frames)
}

/// [`measure`] with frames of a kind.
pub fn measure_kind(
    generator: &mut Generator<'_>,
    kind: Frames,
    cpus: &[usize],
    flows: u32,
    frames: u32,
) -> Result<Sent> {
    generator.choose(kind, flows)?;
    let mut best: Option<Sent> = None;
    let mut last = generator.send_from(cpus, frames / 4, Count::Received)?;
    for attempt in 0..ATTEMPTS {
        if attempt >= RUNS && best.is_some() {
            break;
        }
        last = generator.send_from(cpus, frames, Count::Received)?;
        if last.received == last.frames && best.is_none_or(|best| last.time < best.time) {
            best = Some(last);
        }
    }
    best.with_context(|| {
        format!("{} of {} packets arrived; the machine is too busy to measure on", last.received, last.frames)
    })
}

/// `work` while the smallest program is on the clients' port.
pub fn with_smallest<T>(
    generator: &mut Generator<'_>,
    bed: &Bed,
    way: Way,
    work: impl FnOnce(&mut Generator<'_>) -> Result<T>,
) -> Result<T> {
    let program = generator.smallest(way == Way::Same)?;
    let link = bed.lb.run(|| program.attach_to_if_index(bed.client.index, XdpMode::Driver))?;
    let link = link.context("attaching the smallest program")?;
    let result = work(generator);
    generator.smallest(way == Way::Same)?.detach(link).context("detaching the smallest program")?;
    result
}

/// `work` while the product's XDP program is on both ports.
pub fn with_product<T>(product: &mut Product<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    product.attach_xdp()?;
    let result = work();
    product.detach()?;
    result
}

/// Packets a second by number of flows.
pub fn rates(
    bed: &Bed,
    rounds: usize,
    mut wanted: impl FnMut(&str) -> bool,
    mut done: impl FnMut(Figure),
) -> Result<()> {
    const GOALS: [(u32, f64, f64); 4] =
        [(1, 0.83, 0.93), (10_000, 0.72, 0.85), (50_000, 0.55, 0.62), (500_000, 0.48, 0.52)];
    let mut generator = Generator::load(bed, FarEnd::Answers)?;
    for (way, label) in [(Way::Between, "pps-between-ports"), (Way::Same, "pps-same-port")] {
        for (flows, between, same) in GOALS {
            let name = format!("{label}-{flows}");
            if !wanted(&name) {
                continue;
            }
            let goal = if way == Way::Between { between } else { same };
            let mut own = Product::load(bed, Table::Own, way, flows)?;
            let mut reference = Product::load(bed, Table::Reference, way, flows)?;
            for product in [&mut own, &mut reference] {
                with_product(product, || open(&mut generator, flows))?;
            }
            let (mut ours, mut hash, mut least) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..rounds {
                let smallest = with_smallest(&mut generator, bed, way, |g| measure(g, &[CPU], flows, FRAMES))?.mpps();
                let own = with_product(&mut own, || measure(&mut generator, &[CPU], flows, FRAMES))?.mpps();
                let reference = with_product(&mut reference, || measure(&mut generator, &[CPU], flows, FRAMES))?.mpps();
                least.push(smallest);
                ours.push(own);
                hash.push(reference);
            }
            let figure = Figure::new(name, "Mpps", median(&ours)?)
                .over("smallest", median(&least)?)
                .beside("kernel hash", median(&hash)?)
                .goal(Goal::AtLeast(goal));
            done(figure);
        }
    }
    Ok(())
}

/// Nanoseconds a run of `program` while `work` is done; the kernel's statistics must be on.
fn time(program: impl Fn() -> Result<ProgramInfo>, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let before = program()?;
    work()?;
    let after = program()?;
    let runs = after.run_count() - before.run_count();
    ensure!(runs > 0, "the program did not run");
    let time: Duration = after.run_time() - before.run_time();
    Ok(time.as_nanos() as f64 / runs as f64)
}

/// A program's statistics, which stay readable while somebody else has the program.
fn statistics(program: &Xdp) -> Result<impl Fn() -> Result<ProgramInfo> + use<>> {
    let id = program.info().context("a program's information")?.id();
    Ok(move || {
        let found = aya::programs::loaded_programs().filter_map(Result::ok).find(|info| info.id() == id);
        found.context("the program is not loaded any more")
    })
}

/// Program time, established flow.
pub fn program_time(
    bed: &Bed,
    rounds: usize,
    mut wanted: impl FnMut(&str) -> bool,
    mut done: impl FnMut(Figure),
) -> Result<()> {
    let mut generator = Generator::load(bed, FarEnd::Answers)?;
    let _on = enable_stats(Stats::RunTime).context("switching the kernel's BPF statistics on")?;
    for (way, label, goal) in [(Way::Between, "ns-between-ports", 40.0), (Way::Same, "ns-same-port", 25.0)] {
        if !wanted(label) {
            continue;
        }
        let mut own = Product::load(bed, Table::Own, way, 1)?;
        let mut reference = Product::load(bed, Table::Reference, way, 1)?;
        for product in [&mut own, &mut reference] {
            with_product(product, || open(&mut generator, 1))?;
        }
        let smallest_info = statistics(generator.smallest(way == Way::Same)?)?;
        let own_info = statistics(own.xdp()?)?;
        let reference_info = statistics(reference.xdp()?)?;
        let (mut more, mut least, mut ours, mut hash) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let smallest = with_smallest(&mut generator, bed, way, |g| {
                time(&smallest_info, || measure(g, &[CPU], 1, FRAMES).map(drop))
            })?;
            let own =
                with_product(&mut own, || time(&own_info, || measure(&mut generator, &[CPU], 1, FRAMES).map(drop)))?;
            let reference = with_product(&mut reference, || {
                time(&reference_info, || measure(&mut generator, &[CPU], 1, FRAMES).map(drop))
            })?;
            more.push(own - smallest);
            least.push(smallest);
            ours.push(own);
            hash.push(reference);
        }
        let figure = Figure::new(label, "ns more", median(&more)?)
            .beside("ours in all", median(&ours)?)
            .beside("smallest", median(&least)?)
            .beside("kernel hash", median(&hash)?);
        done(figure.goal(Goal::AtMost(goal)));
    }
    Ok(())
}

/// A new flow: SYNs that each claim a port and make two entries.
pub fn new_flow(bed: &Bed, rounds: usize, mut done: impl FnMut(Figure)) -> Result<()> {
    const FLOWS: u32 = 1 << 18;
    let mut generator = Generator::load(bed, FarEnd::Silent)?;
    let _on = enable_stats(Stats::RunTime).context("switching the kernel's BPF statistics on")?;
    let mut samples = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (table, samples) in [Table::Own, Table::Reference].into_iter().zip(&mut samples) {
            let mut product = Product::load(bed, table, Way::Between, FLOWS)?;
            let info = statistics(product.xdp()?)?;
            let open = || {
                generator.choose(Frames::Open, FLOWS)?;
                let sent = generator.send(CPU, FLOWS, Count::Received)?;
                ensure!(sent.received == sent.frames, "{} of {} SYNs arrived", sent.received, sent.frames);
                Ok(())
            };
            samples.push(with_product(&mut product, || time(&info, open))?);
        }
    }
    let [own, reference] = samples;
    done(
        Figure::new("ns-new-flow", "ns", median(&own)?)
            .beside("kernel hash", median(&reference)?)
            .goal(Goal::AtMost(900.0)),
    );
    Ok(())
}

/// Two CPUs against one.
pub fn two_cpus(bed: &Bed, rounds: usize, mut done: impl FnMut(Figure)) -> Result<()> {
    const FLOWS: u32 = 50_000;
    let mut generator = Generator::load(bed, FarEnd::Answers)?;
    let mut own = Product::load(bed, Table::Own, Way::Same, FLOWS)?;
    with_product(&mut own, || open(&mut generator, FLOWS))?;
    let (mut one, mut two, mut least_one, mut least_two) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        for (cpus, ours, least) in [(&[0][..], &mut one, &mut least_one), (&[0, 1][..], &mut two, &mut least_two)] {
            let smallest = with_smallest(&mut generator, bed, Way::Same, |g| measure(g, cpus, FLOWS, FRAMES))?;
            least.push(smallest.mpps());
            ours.push(with_product(&mut own, || measure(&mut generator, cpus, FLOWS, FRAMES))?.mpps());
        }
    }
    let figure = Figure::new("two-cpus", "Mpps", median(&two)?)
        .over("one CPU", median(&one)?)
        .beside("smallest, two CPUs", median(&least_two)?)
        .beside("smallest, one CPU", median(&least_one)?);
    done(figure.goal(Goal::AtLeast(1.9)));
    Ok(())
}
