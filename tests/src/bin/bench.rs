//! The benchmarks; `cargo xtask bench` builds and starts them.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use privatelink_tests::{
    bench::{
        bed::Bed,
        features,
        figure::{Figure, Machine, Report, head},
        nftables, packets, scale, sizes, storms, streams, tls,
    },
    cleanup,
};

/// Measures the datapath beside its rivals: same topology, interleaved, medians.
#[derive(Parser)]
struct Args {
    /// Only these figures, or groups of them by the beginning of their names; all if there are none.
    #[arg(value_name = "FIGURE")]
    figures: Vec<String>,
    /// Also writes the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Interleaved rounds; a figure is the median of its rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
}

impl Args {
    /// Whether a figure, or any of a group that shares the beginning of its name, is asked for.
    fn wants(&self, name: &str) -> bool {
        let within = |rest: &str| rest.is_empty() || rest.starts_with('-');
        self.figures.is_empty()
            || self.figures.iter().any(|figure| name.strip_prefix(figure.as_str()).is_some_and(within))
    }
}

fn main() -> ExitCode {
    cleanup::on_signals();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "needs root: it makes network namespaces and loads programs");
    cleanup::sweep();
    let machine = Machine::read();
    let Machine { processor, cpus, kernel } = &machine;
    println!("{processor}, {cpus} CPUs, kernel {kernel}; medians of {}\n{}", args.rounds, head());
    let rounds = usize::from(args.rounds);
    let started = Instant::now();
    let mut figures: Vec<Figure> = Vec::new();
    let mut done = |figure: Figure| {
        println!("{}", figure.line());
        figures.push(figure);
    };
    let bed = Bed::build()?;
    packets::rates(&bed, rounds, |name| args.wants(name), &mut done)?;
    packets::program_time(&bed, rounds, |name| args.wants(name), &mut done)?;
    if args.wants("ns-new-flow") {
        packets::new_flow(&bed, rounds, &mut done)?;
    }
    if args.wants("two-cpus") {
        packets::two_cpus(&bed, rounds, &mut done)?;
    }
    if args.wants("instructions") {
        sizes::instructions(&bed, &mut done)?;
    }
    if args.wants("memory-million-flows") {
        sizes::memory(&bed, &mut done)?;
    }
    // Last on this bed, because conntrack stays in its namespace.
    if args.wants("nftables") {
        nftables::compare(&bed, rounds, &mut done)?;
    }
    drop(bed);
    if args.wants("apply-10000-targets") {
        sizes::apply(rounds, &mut done)?;
    }
    // The longest by far: only where it is asked for.
    if args.wants("scale") && !args.figures.is_empty() {
        scale::compare(&mut done)?;
    }
    if !args.figures.is_empty() {
        storms::compare(rounds, |name| args.wants(name), &mut done)?;
    }
    streams::compare(rounds, |name| args.wants(name), &mut done)?;
    features::compare(rounds, |name| args.wants(name), &mut done)?;
    tls::compare(rounds, |name| args.wants(name), &mut done)?;
    eprintln!("{:.0} s", started.elapsed().as_secs_f32());
    if let Some(path) = &args.json {
        Report { machine: &machine, rounds, figures: &figures }.write(path)?;
        println!("written to {}", path.display());
    }
    Ok(())
}
