//! How many jiffies this kernel counts in a second: the datapath's clock is derived from them, and the kernel tells
//! nobody. A test run of the clock program reads jiffies and nanoseconds at one moment; two runs give the rate.

use std::time::Duration;

use privatelink_ebpf::abi::settings::ClockSample;

/// The rates that a kernel can be built with (`CONFIG_HZ`).
const RATES: [u32; 4] = [100, 250, 300, 1_000];
/// Between the two samples: at 300 against 250 jiffies a second five jiffies of difference, one of error.
pub const BETWEEN_SAMPLES: Duration = Duration::from_millis(100);

/// The rate that explains two samples; `None` if time stood still between them.
pub fn hz(first: ClockSample, second: ClockSample) -> Option<u32> {
    let nanoseconds = second.monotonic_ns.checked_sub(first.monotonic_ns).filter(|passed| *passed > 0)?;
    let jiffies = second.jiffies.checked_sub(first.jiffies)?;
    let measured = u128::from(jiffies) * 1_000_000_000 / u128::from(nanoseconds);
    let measured = u32::try_from(measured).ok()?;
    RATES.into_iter().min_by_key(|rate| rate.abs_diff(measured))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_told_apart_with_one_jiffy_of_error() {
        for rate in [100, 250, 300, 1_000] {
            for (begin, jiffies) in [(0, rate / 10 - 1), (7, rate / 10), (9, rate / 10 + 1)] {
                let first = ClockSample { jiffies: begin, monotonic_ns: 5 };
                let second = ClockSample { jiffies: begin + u64::from(jiffies), monotonic_ns: 5 + 100_000_000 };
                assert_eq!(hz(first, second), Some(rate), "{jiffies} jiffies in 100 ms");
            }
        }
        assert_eq!(hz(ClockSample::default(), ClockSample::default()), None);
    }
}
