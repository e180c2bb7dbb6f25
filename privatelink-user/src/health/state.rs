//! From the outcomes of single probes to the health of a target.
//!
//! ```text
//!            1 passed                       `unhealthy_threshold` failed in a row
//!  Initial ───────────► Healthy ───────────────────────────────────────────────► Unhealthy
//!     │                    ▲                                                         │
//!     │                    └───────── `healthy_threshold` passed in a row ───────────┘
//!     └── `unhealthy_threshold` failed in a row ──────────────────────────► Unhealthy
//! ```
//!
//! A new target is healthy after *one* passed probe, whatever the healthy threshold says: that is how a Network Load
//! Balancer treats a registration, so that a new target takes traffic at once.

/// How many equal outcomes in a row change the state. Both are at least 1; the API accepts 2–10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    pub healthy: u32,
    pub unhealthy: u32,
}

/// Why one probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No answer within the timeout: no handshake, or no response.
    Timeout,
    /// The target refused or reset the connection, or it is unreachable.
    Refused,
    /// The response's status code is outside the matcher.
    StatusCode(u16),
    /// The connection carried something that is no HTTP response.
    Malformed,
    /// The target's certificate is not one that its group believes.
    Distrusted,
    /// The agent could not probe at all (no socket, no host port): says nothing about the target.
    Internal,
}

/// What one probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed(Failure),
    /// The flow table was full, so that the probe may not have reached the target: says nothing about it.
    NoRoom,
}

/// What the probes of one target add up to. Runs count consecutive outcomes against the present state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// No probe has passed yet, and too few failed to tell.
    Initial {
        failed: u32,
    },
    Healthy {
        failed: u32,
    },
    Unhealthy {
        passed: u32,
        last: Failure,
        /// When it became unhealthy, in milliseconds on the clock that [`Checked::observe`] is given.
        since: u64,
    },
}

impl Checked {
    /// A target that was just registered.
    pub const NEW: Self = Self::Initial { failed: 0 };

    /// The state after one more outcome, at `now` milliseconds.
    #[must_use]
    pub fn observe(self, outcome: Outcome, thresholds: Thresholds, now: u64) -> Self {
        match (self, outcome) {
            (same, Outcome::NoRoom) => same,
            (Self::Initial { .. } | Self::Healthy { .. }, Outcome::Passed) => Self::Healthy { failed: 0 },
            (Self::Unhealthy { passed, last, since }, Outcome::Passed) => {
                let passed = passed.saturating_add(1);
                if passed >= thresholds.healthy {
                    Self::Healthy { failed: 0 }
                } else {
                    Self::Unhealthy { passed, last, since }
                }
            }
            (Self::Initial { failed }, Outcome::Failed(last)) => {
                let failed = failed.saturating_add(1);
                if failed >= thresholds.unhealthy {
                    Self::Unhealthy { passed: 0, last, since: now }
                } else {
                    Self::Initial { failed }
                }
            }
            (Self::Healthy { failed }, Outcome::Failed(last)) => {
                let failed = failed.saturating_add(1);
                if failed >= thresholds.unhealthy {
                    Self::Unhealthy { passed: 0, last, since: now }
                } else {
                    Self::Healthy { failed }
                }
            }
            (Self::Unhealthy { passed: _, last: _, since }, Outcome::Failed(last)) => {
                Self::Unhealthy { passed: 0, last, since }
            }
        }
    }

    /// Whether new flows may go to the target.
    pub const fn takes_traffic(self) -> bool {
        match self {
            Self::Healthy { .. } => true,
            Self::Initial { .. } | Self::Unhealthy { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Thresholds = Thresholds { healthy: 5, unhealthy: 2 };

    fn run(outcomes: &[Outcome], thresholds: Thresholds) -> Checked {
        (0..).zip(outcomes).fold(Checked::NEW, |state, (now, &outcome)| state.observe(outcome, thresholds, now))
    }

    #[test]
    fn a_new_target_is_healthy_after_one_passed_probe() {
        assert_eq!(run(&[Outcome::Passed], DEFAULT), Checked::Healthy { failed: 0 });
        let late = [Outcome::Failed(Failure::Timeout), Outcome::Passed];
        assert_eq!(run(&late, DEFAULT), Checked::Healthy { failed: 0 });
    }

    #[test]
    fn an_unhealthy_target_needs_the_whole_healthy_threshold() {
        let down = [Outcome::Failed(Failure::Refused); 2];
        let state = run(&down, DEFAULT);
        assert_eq!(state, Checked::Unhealthy { passed: 0, last: Failure::Refused, since: 1 });
        let after = |passes: usize| {
            (0..passes).fold(state, |state, _| state.observe(Outcome::Passed, DEFAULT, 9)).takes_traffic()
        };
        assert!(!after(4));
        assert!(after(5));
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![
            Just(Outcome::Passed),
            Just(Outcome::NoRoom),
            prop_oneof![
                Just(Failure::Timeout),
                Just(Failure::Refused),
                Just(Failure::Malformed),
                Just(Failure::Internal),
                (100u16..600).prop_map(Failure::StatusCode),
            ]
            .prop_map(Outcome::Failed),
        ]
    }

    proptest! {
        /// The machine agrees with the definition read off the whole history.
        #[test]
        fn state_follows_from_the_history(
            outcomes in prop::collection::vec(outcome(), 0..60),
            healthy in 1u32..10,
            unhealthy in 1u32..10,
        ) {
            let thresholds = Thresholds { healthy, unhealthy };
            // The definition, by looking back at runs instead of keeping counters.
            let mut expected = "initial";
            let told: Vec<Outcome> = outcomes.iter().copied().filter(|outcome| *outcome != Outcome::NoRoom).collect();
            for end in 1..=told.len() {
                let seen = &told[..end];
                let trailing = |passed: bool| {
                    seen.iter().rev().take_while(|o| matches!(o, Outcome::Passed) == passed).count() as u32
                };
                expected = match expected {
                    "initial" if trailing(true) >= 1 => "healthy",
                    "initial" | "healthy" if trailing(false) >= unhealthy => "unhealthy",
                    "unhealthy" if trailing(true) >= healthy => "healthy",
                    same => same,
                };
            }
            let name = match run(&outcomes, thresholds) {
                Checked::Initial { .. } => "initial",
                Checked::Healthy { .. } => "healthy",
                Checked::Unhealthy { .. } => "unhealthy",
            };
            prop_assert_eq!(name, expected);
        }
    }
}
