//! What the loaded programs do, frame by frame: `cargo xtask test kernel`.
//!
//! A test whose needs this machine does not meet is ignored with the reason; where `CI` is `true` that is a failure.

mod kernel;
mod kernel_budget;
mod kernel_cases;
mod kernel_explain;
mod kernel_fuzz;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use privatelink_tests::{
    cleanup,
    require::{self, Need},
};

/// A test's name and what it does.
type Test = (&'static str, fn() -> Result<()>);

fn main() -> ExitCode {
    cleanup::on_signals();
    let mut arguments = Arguments::from_args();
    // The cases' interfaces have fixed indexes, and each run its own tables: one after the other.
    arguments.test_threads = Some(1);
    let tests: [Test; 6] = [
        ("kernel_cases::set_associative_table", kernel_cases::set_associative_table),
        ("kernel_cases::reference_table", kernel_cases::reference_table),
        ("kernel_explain::changes_nothing_and_says_what_happens", kernel_explain::every_case),
        ("kernel_fuzz::fixed_seeds", kernel_fuzz::fixed),
        ("kernel_fuzz::for_minutes", kernel_fuzz::long),
        ("kernel_budget::verified_instructions", kernel_budget::verified_instructions),
    ];
    let unmet = [Need::Root, Need::Program("ip")].iter().find_map(|need| need.unmet());
    let trials = tests
        .into_iter()
        .map(|(name, run)| match &unmet {
            Some(reason) if require::strict() => {
                let reason = reason.clone();
                Trial::test(name, move || Err(Failed::from(reason)))
            }
            Some(_) => Trial::test(name, || Ok(())).with_ignored_flag(true),
            None => Trial::test(name, move || run().map_err(|error| format!("{error:#}").into())),
        })
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(reason) = unmet {
        eprintln!("skipped the kernel's tests: {reason}");
    }
    conclusion.exit_code()
}
