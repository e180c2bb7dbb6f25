//! The program that libFuzzer drives: `main` is its own. Which target runs is said by [`privatelink_fuzz::TARGET`].
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use privatelink_fuzz::{TARGET, Target};

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var(TARGET).unwrap_or_default();
        let target = privatelink_fuzz::target(&name).unwrap_or_else(|| {
            panic!("{TARGET}={name}: `cargo xtask fuzz` sets it to one of {}", privatelink_fuzz::names())
        });
        CHOSEN.get_or_init(|| target);
    },
    |data: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(data);
        }
    }
);
