//! Real clients and servers in network namespaces, with the agent between them: `cargo xtask test net`.
//!
//! One test after the other: they compare rates and wait for deadlines. A test whose needs this machine does not meet
//! is ignored with the reason; where `CI` is `true` that is a failure.

use std::{io::Write as _, process::ExitCode, time::Instant};

use anyhow::Result;
use libtest_mimic::{Arguments, Trial};
use privatelink_tests::{
    cleanup,
    require::{self, Need},
    topology::Hook,
    traffic,
};

mod aws;
mod churn;
mod common;
mod consent;
mod dns;
mod ending;
mod explain;
mod flood;
mod fragments;
mod health;
mod hooks;
mod icmp;
mod icmp_oracle;
mod isolation;
mod lifetime;
mod metrics;
mod overlap;
mod pool;
mod proxy;
mod refusals;
mod restart;
mod routing;
mod security;
mod targets;
mod transfer;
mod udp;
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
        transfer::TESTS,
        lifetime::TESTS,
        targets::TESTS,
        health::TESTS,
        metrics::TESTS,
        ending::TESTS,
        isolation::TESTS,
        consent::TESTS,
        aws::TESTS,
        workflows::TESTS,
        dns::TESTS,
        refusals::TESTS,
        hooks::TESTS,
        icmp::TESTS,
        icmp_oracle::TESTS,
        restart::TESTS,
        security::TESTS,
        weights::TESTS,
        flood::TESTS,
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
    arguments.test_threads = Some(1);
    if !arguments.list && nix::unistd::geteuid().is_root() {
        cleanup::sweep();
        if let Err(error) = traffic::raise_file_limit() {
            eprintln!("the limit of open files stays as it is: {error:#}");
        }
    }
    let mut trials = Vec::new();
    let mut skipped = Vec::new();
    for Test { name, needs, run } in tests() {
        let unmet = NEEDS.iter().chain(needs).find_map(|need| need.unmet());
        match run {
            Run::Once(run) => trials.push(trial(name.to_owned(), unmet, &mut skipped, run)),
            Run::EachHook(run) => {
                for hook in Hook::FORCED {
                    let name = format!("{}::{name}", hook.name());
                    trials.push(trial(name, unmet.clone(), &mut skipped, move || run(hook)));
                }
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    for reason in skipped {
        eprintln!("skipped {reason}");
    }
    conclusion.exit_code()
}

/// A test with the time it took, ignored if `unmet` says why.
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
        None => Trial::test(name, move || {
            let started = Instant::now();
            let result = run();
            eprint!("({:.1} s) ", started.elapsed().as_secs_f32());
            // The verdict follows on standard output.
            let _ = std::io::stderr().flush();
            result.map_err(|error| format!("{error:#}").into())
        }),
    }
}

/// Says how far a long test is.
#[macro_export]
macro_rules! progress {
    ($($text:tt)*) => { eprint!("\n    {} ... ", format_args!($($text)*)) };
}
