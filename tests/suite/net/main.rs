//! Real clients and servers in network namespaces, with the agent between them: `cargo xtask test net`.
//!
//! Most tests wait more than they work, so a few run at a time; those that compare rates or take every core
//! ([`Need::WholeMachine`]) follow one after the other. A test whose needs this machine does not meet is ignored with
//! the reason; where `CI` is `true` that is a failure.

use std::{
    cell::Cell,
    collections::BTreeSet,
    fs,
    path::Path,
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Trial};
use privatelink_tests::{
    cleanup,
    require::{self, Need},
    topology::Hook,
    traffic,
};

mod affinity;
mod alias;
mod aws;
mod churn;
mod common;
mod confinement;
mod consent;
mod crash;
mod direct;
mod dns;
mod ending;
mod explain;
mod flood;
mod fragments;
mod health;
mod hooks;
mod hosts;
mod https;
mod icmp;
mod icmp_oracle;
mod ipv6;
mod isolation;
mod lifetime;
mod limits;
mod link;
mod metrics;
mod neighbours;
mod notify;
mod overlap;
mod pool;
mod proxy;
mod range;
mod refusals;
mod regions;
mod relay;
mod restart;
mod routing;
mod security;
mod targets;
mod transfer;
mod udp;
mod upgrade;
mod weights;
mod workflows;

/// A test and what it needs.
struct Test {
    name: &'static str,
    needs: &'static [Need],
    run: Run,
}

/// How often a test runs.
enum Run {
    /// Once.
    Once(fn() -> Result<()>),
    /// With TC and with XDP.
    EachHook(fn(Hook) -> Result<()>),
}

/// What every test needs.
const NEEDS: &[Need] = &[Need::Root, Need::Program("ip")];

fn tests() -> Vec<Test> {
    [
        routing::TESTS,
        overlap::TESTS,
        notify::TESTS,
        transfer::TESTS,
        lifetime::TESTS,
        targets::TESTS,
        health::TESTS,
        metrics::TESTS,
        ending::TESTS,
        ipv6::TESTS,
        isolation::TESTS,
        confinement::TESTS,
        consent::TESTS,
        direct::TESTS,
        link::TESTS,
        alias::TESTS,
        range::TESTS,
        aws::TESTS,
        workflows::TESTS,
        dns::TESTS,
        affinity::TESTS,
        refusals::TESTS,
        regions::TESTS,
        hooks::TESTS,
        hosts::TESTS,
        https::TESTS,
        relay::TESTS,
        icmp::TESTS,
        icmp_oracle::TESTS,
        restart::TESTS,
        crash::TESTS,
        upgrade::TESTS,
        security::TESTS,
        weights::TESTS,
        flood::TESTS,
        limits::TESTS,
        neighbours::TESTS,
        fragments::TESTS,
        pool::TESTS,
        churn::TESTS,
        udp::TESTS,
        explain::TESTS,
        proxy::TESTS,
    ]
    .into_iter()
    .flat_map(|tests| tests())
    .collect()
}

fn main() -> ExitCode {
    cleanup::on_signals();
    let mut arguments = Arguments::from_args();
    if !arguments.list && nix::unistd::geteuid().is_root() {
        cleanup::sweep();
        if let Err(error) = traffic::raise_file_limit() {
            eprintln!("the limit of open files stays as it is: {error:#}");
        }
    }
    let names: BTreeSet<&str> = tests().iter().map(|test| test.name).collect();
    let (alone, beside): (Vec<_>, Vec<_>) =
        tests().into_iter().partition(|test| test.needs.contains(&Need::WholeMachine));
    let documented = Trial::test("the_readme_names_tests_that_exist", move || Ok(named_in_the_readme(&names)?));
    let mut skipped = Vec::new();
    arguments.test_threads = Some(threads());
    let mut beside = trials(beside, &mut skipped);
    beside.push(documented);
    let beside = libtest_mimic::run(&arguments, beside);
    arguments.test_threads = Some(1);
    let alone = libtest_mimic::run(&arguments, trials(alone, &mut skipped));
    for reason in skipped {
        eprintln!("skipped {reason}");
    }
    if beside.has_failed() || alone.has_failed() { ExitCode::from(101) } else { ExitCode::SUCCESS }
}

/// What README.md says is proven names the tests that prove it: the last column of its table "Who may do what".
fn named_in_the_readme(tests: &BTreeSet<&str>) -> Result<()> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"))?;
    let (_, section) = readme.split_once("## Who may do what").context("the section is not there")?;
    let rows =
        section.lines().skip(1).take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| "));
    let proofs = rows.skip(1).filter_map(|row| row.trim_end_matches(" |").rsplit_once(" | ")).map(|(_, proof)| proof);
    let mut named = 0;
    for name in proofs.flat_map(|proof| proof.split(", ")) {
        let name = name.trim_matches('`');
        ensure!(tests.contains(name), "there is no test '{name}'");
        named += 1;
    }
    ensure!(named > 0, "the table names no tests");
    Ok(())
}

/// How many tests run at a time: one more than there are cores, since they mostly wait, and not so many that the
/// waiting of one is the work of the others.
fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(5) + 1
}

/// What the harness runs for `tests`.
fn trials(tests: Vec<Test>, skipped: &mut Vec<String>) -> Vec<Trial> {
    let mut trials = Vec::new();
    for Test { name, needs, run } in tests {
        let unmet = NEEDS.iter().chain(needs).find_map(|need| need.unmet());
        match run {
            Run::Once(run) => trials.push(trial(name.to_owned(), unmet, skipped, run)),
            Run::EachHook(run) => {
                for hook in Hook::FORCED {
                    let name = format!("{}::{name}", hook.name());
                    trials.push(trial(name, unmet.clone(), skipped, move || run(hook)));
                }
            }
        }
    }
    trials
}

/// A test with the time it took if that was long, ignored if `unmet` says why.
fn trial(
    name: String,
    unmet: Option<String>,
    skipped: &mut Vec<String>,
    run: impl FnOnce() -> Result<()> + Send + 'static,
) -> Trial {
    match unmet {
        Some(reason) if require::strict() => Trial::test(name, move || Err(reason.into())),
        Some(reason) => {
            skipped.push(format!("{name}: {reason}"));
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
        None => Trial::test(name.clone(), move || {
            NAME.set(name.leak());
            let started = Instant::now();
            let result = run();
            let took = started.elapsed();
            if took > LONG {
                progress!("took {:.1} s", took.as_secs_f32());
            }
            result.map_err(|error| format!("{error:#}").into())
        }),
    }
}

/// The time of a test is worth a line if it is longer.
const LONG: Duration = Duration::from_secs(5);

thread_local! {
    /// The test that this thread runs.
    static NAME: Cell<&'static str> = const { Cell::new("") };
}

/// Says how far a long test is; on the test's own thread the line names it.
#[macro_export]
macro_rules! progress {
    ($($text:tt)*) => { eprintln!("    {}: {}", $crate::NAME.get(), format_args!($($text)*)) };
}
