//! What tests of several modules use.

use std::time::{Duration, Instant};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};

/// Runs `test` on values of `strategy`: on some, or, where `PRIVATELINK_FUZZ_MINUTES` says so, on others for as long.
///
/// # Panics
///
/// At the first value that fails, made as small as it can be.
pub fn fuzz<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let minutes = std::env::var("PRIVATELINK_FUZZ_MINUTES").ok().and_then(|minutes| minutes.parse().ok());
    let until = minutes.map(|minutes: u64| Instant::now() + Duration::from_secs(60 * minutes));
    let mut values = 0_u64;
    loop {
        let config = Config { cases: 256, failure_persistence: None, ..Config::default() };
        values += u64::from(config.cases);
        if let Err(failure) = TestRunner::new(config).run(&strategy, &test) {
            panic!("{failure}");
        }
        match until {
            Some(until) if Instant::now() < until => {}
            Some(_) => break eprintln!("{values} values"),
            None => break,
        }
    }
}
