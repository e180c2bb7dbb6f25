//! Passive checks: what clients' connections tell about a target, sooner than the next probe would.
//!
//! Connections that fail are a suspicion. It counts as one failed check and brings the next probe forward; a probe that
//! passes clears it. So whoever sends segments that a target must ignore cannot take the target away from others.

use super::state::Failure;

/// Failures in a row, without one connection that succeeded, that make a suspicion.
const FAILURES: u64 = 3;

/// What connections to a target came to, since ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connections {
    /// Handshakes that were finished.
    pub established: u64,
    /// SYNs that the target answered with RST.
    pub refused: u64,
    /// SYNs that were sent again because the target had not answered.
    pub unanswered: u64,
}

/// One target's connections, looked at from time to time.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    seen: Connections,
    failures: u64,
}

impl Watch {
    /// Begins: what was before says nothing.
    pub const fn new(seen: Connections) -> Self {
        Self { seen, failures: 0 }
    }

    /// Takes another look: a suspicion, with what failed last. Counters that run backwards have begun anew.
    pub fn look(&mut self, now: Connections) -> Option<Failure> {
        let before = std::mem::replace(&mut self.seen, now);
        let (Some(established), Some(refused), Some(unanswered)) = (
            now.established.checked_sub(before.established),
            now.refused.checked_sub(before.refused),
            now.unanswered.checked_sub(before.unanswered),
        ) else {
            self.failures = 0;
            return None;
        };
        if established > 0 {
            self.failures = 0;
            return None;
        }
        self.failures = self.failures.saturating_add(refused).saturating_add(unanswered);
        if self.failures < FAILURES {
            return None;
        }
        self.failures = 0;
        Some(if refused > 0 { Failure::Refused } else { Failure::Timeout })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(established: u64, refused: u64, unanswered: u64) -> Connections {
        Connections { established, refused, unanswered }
    }

    #[test]
    fn three_failures_are_a_suspicion_however_they_are_spread() {
        let mut watch = Watch::new(seen(10, 5, 5));
        assert_eq!(watch.look(seen(10, 6, 5)), None);
        assert_eq!(watch.look(seen(10, 6, 5)), None);
        assert_eq!(watch.look(seen(10, 6, 7)), Some(Failure::Timeout));
        assert_eq!(watch.look(seen(10, 6, 7)), None);
        assert_eq!(watch.look(seen(10, 9, 7)), Some(Failure::Refused));
    }

    #[test]
    fn one_success_clears_the_failures_before_and_beside_it() {
        let mut watch = Watch::new(seen(0, 0, 0));
        assert_eq!(watch.look(seen(0, 2, 0)), None);
        assert_eq!(watch.look(seen(1, 50, 50)), None);
        assert_eq!(watch.look(seen(1, 51, 51)), None);
    }

    #[test]
    fn counters_that_begin_anew_are_no_failures() {
        let mut watch = Watch::new(seen(9, 9, 9));
        assert_eq!(watch.look(seen(0, 3, 3)), None);
        assert_eq!(watch.look(seen(0, 6, 3)), Some(Failure::Refused));
    }

    proptest! {
        /// A target that answers somebody in every look is never suspected.
        #[test]
        fn who_answers_is_not_suspected(steps in prop::collection::vec((1u64..5, 0u64..50, 0u64..50), 0..50)) {
            let mut total = seen(0, 0, 0);
            let mut watch = Watch::new(total);
            for (established, refused, unanswered) in steps {
                total.established += established;
                total.refused += refused;
                total.unanswered += unanswered;
                prop_assert_eq!(watch.look(total), None);
            }
        }
    }
}
