//! Neighbour resolution for next hops of targets: when to ask, whom to believe, what the present answer is.
//!
//! ```text
//!               answer                    refresh time             3 unanswered, then 3 broadcasts unanswered
//!  Probing ───────────────► Reachable ───────────────► Stale ─────────────────────────────────────────► Failed
//!     │                          ▲                       │                                                │
//!     │ 5 unanswered             └──────── answer ───────┴──────────────────────── answer ────────────────┘
//!     └──────────────────────────────────────────────────────────────────────────────────────────────► Failed
//! ```
//!
//! Pure: times are milliseconds on any monotonic clock. The host's own neighbour table plays no part, because the
//! question must carry the load balancer's node address as its sender and the host's stack would put its own.

/// A hardware address, in the order in which its octets are sent.
pub type MacAddress = [u8; 6];

/// Between the first unanswered questions; doubles up to [`MAX_RETRY`].
const FIRST_RETRY: u64 = 100;
const MAX_RETRY: u64 = 1_000;
/// Unanswered questions until a never-seen neighbour counts as failed: it is down within about two seconds.
const UNRESOLVED_PROBES: u32 = 5;
/// A reachable neighbour is asked again after this long (unicast): a changed MAC heals within it.
const REFRESH: u64 = 10_000;
/// Unanswered refreshes go to the known MAC this often, then by broadcast, for a neighbour that came back with another
/// MAC.
const UNICAST_PROBES: u32 = 3;
const STALE_PROBES: u32 = 6;
/// A failed neighbour is asked again this often, for as long as somebody needs it.
const FAILED_RETRY: u64 = 3_000;

/// What is known of one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbor {
    /// Wanted, and not asked for yet.
    Unresolved,
    /// Asked `probes` times without an answer so far; the next question is due at `next`.
    Probing { probes: u32, next: u64 },
    /// Answered; asked again at `refresh`.
    Reachable { mac: MacAddress, refresh: u64 },
    /// Still used, but `probes` refreshes went unanswered.
    Stale { mac: MacAddress, probes: u32, next: u64 },
    /// Does not answer; asked again at `next`.
    Failed { next: u64 },
}

/// A question to send now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Broadcast,
    Unicast(MacAddress),
}

impl Neighbor {
    /// Where packets to the neighbour go, if that is known.
    pub const fn mac(self) -> Option<MacAddress> {
        match self {
            Self::Reachable { mac, .. } | Self::Stale { mac, .. } => Some(mac),
            Self::Unresolved | Self::Probing { .. } | Self::Failed { .. } => None,
        }
    }

    /// The state's name in listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unresolved => "unresolved",
            Self::Probing { .. } => "probing",
            Self::Reachable { .. } => "reachable",
            Self::Stale { .. } => "stale",
            Self::Failed { .. } => "failed",
        }
    }

    /// When [`Neighbor::tick`] has something to do; 0 is "now".
    pub const fn due(self) -> u64 {
        match self {
            Self::Unresolved => 0,
            Self::Probing { next, .. } | Self::Stale { next, .. } | Self::Failed { next } => next,
            Self::Reachable { refresh, .. } => refresh,
        }
    }

    /// The state after time has come to `now`, and the question to send, if one is due.
    #[must_use]
    pub fn tick(self, now: u64) -> (Self, Option<Probe>) {
        if self.due() > now {
            return (self, None);
        }
        match self {
            Self::Unresolved => (Self::Probing { probes: 1, next: now + FIRST_RETRY }, Some(Probe::Broadcast)),
            Self::Probing { probes, .. } if probes < UNRESOLVED_PROBES => {
                (Self::Probing { probes: probes + 1, next: now + retry(probes) }, Some(Probe::Broadcast))
            }
            Self::Probing { .. } => (Self::Failed { next: now + FAILED_RETRY }, None),
            Self::Reachable { mac, .. } => {
                (Self::Stale { mac, probes: 1, next: now + MAX_RETRY }, Some(Probe::Unicast(mac)))
            }
            Self::Stale { mac, probes, .. } if probes < STALE_PROBES => {
                let probe = if probes < UNICAST_PROBES { Probe::Unicast(mac) } else { Probe::Broadcast };
                (Self::Stale { mac, probes: probes + 1, next: now + MAX_RETRY }, Some(probe))
            }
            Self::Stale { .. } => (Self::Failed { next: now + FAILED_RETRY }, None),
            Self::Failed { .. } => (Self::Failed { next: now + FAILED_RETRY }, Some(Probe::Broadcast)),
        }
    }

    /// The state after something sent there went unanswered: a known address is asked for again at `now`, by broadcast,
    /// because the neighbour may have come back with another one.
    #[must_use]
    pub const fn doubted(self, now: u64) -> Self {
        match self {
            Self::Reachable { mac, refresh: _ } => Self::Stale { mac, probes: UNICAST_PROBES, next: now },
            Self::Unresolved | Self::Probing { .. } | Self::Stale { .. } | Self::Failed { .. } => self,
        }
    }

    /// The state after the neighbour said that it is at `mac`. `jitter` (0..1000 ms) keeps the refreshes of neighbours
    /// that were resolved together apart.
    #[must_use]
    pub const fn answered(self, mac: MacAddress, now: u64, jitter: u64) -> Self {
        match self {
            Self::Unresolved
            | Self::Probing { .. }
            | Self::Reachable { .. }
            | Self::Stale { .. }
            | Self::Failed { .. } => Self::Reachable { mac, refresh: now + REFRESH + jitter },
        }
    }
}

const fn retry(probes: u32) -> u64 {
    let doubled = FIRST_RETRY << if probes > 16 { 16 } else { probes };
    if doubled < MAX_RETRY { doubled } else { MAX_RETRY }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAC: MacAddress = [2, 0, 0, 0, 0, 1];
    const OTHER: MacAddress = [2, 0, 0, 0, 0, 2];

    /// Lets time pass without an answer; the questions with their times.
    fn silence(mut state: Neighbor, until: u64) -> (Neighbor, Vec<(u64, Probe)>) {
        let mut probes = Vec::new();
        while state.due() <= until {
            let now = state.due();
            let (next, probe) = state.tick(now);
            state = next;
            probes.extend(probe.map(|probe| (now, probe)));
        }
        (state, probes)
    }

    #[test]
    fn a_silent_neighbour_fails_within_three_seconds_and_is_asked_for_ever() {
        let (state, probes) = silence(Neighbor::Unresolved, 3_000);
        assert!(matches!(state, Neighbor::Failed { .. }), "{state:?}");
        assert_eq!(probes.len(), 5);
        let (state, probes) = silence(state, 60_000);
        assert!(matches!(state, Neighbor::Failed { .. }));
        assert!((15..=20).contains(&probes.len()), "{} questions in a minute", probes.len());
        assert!(probes.iter().all(|(_, probe)| *probe == Probe::Broadcast));
    }

    #[test]
    fn a_reachable_neighbour_is_refreshed_and_keeps_its_mac_meanwhile() {
        let state = Neighbor::Unresolved.tick(0).0.answered(MAC, 50, 0);
        assert_eq!(state.tick(10_000), (state, None));
        let (stale, probe) = state.tick(10_050);
        assert_eq!(probe, Some(Probe::Unicast(MAC)));
        assert_eq!(stale.mac(), Some(MAC));
        assert_eq!(stale.answered(MAC, 10_051, 0).name(), "reachable");
    }

    #[test]
    fn a_doubted_neighbour_is_asked_for_by_broadcast_and_still_used() {
        let state = Neighbor::Unresolved.answered(MAC, 0, 0).doubted(50);
        assert_eq!(state.mac(), Some(MAC));
        assert_eq!(state.tick(50).1, Some(Probe::Broadcast));
        let failed = Neighbor::Failed { next: 9_000 };
        assert_eq!(failed.doubted(50), failed);
    }

    #[test]
    fn a_neighbour_that_left_fails_after_unicasts_and_broadcasts() {
        let state = Neighbor::Unresolved.answered(MAC, 0, 0);
        let (state, probes) = silence(state, 16_500);
        assert!(matches!(state, Neighbor::Failed { .. }), "{state:?}");
        let unicasts = probes.iter().filter(|(_, probe)| *probe == Probe::Unicast(MAC)).count();
        assert_eq!((unicasts, probes.len()), (3, 6));
    }

    proptest! {
        /// Whatever happened before, an answer resolves, and the newest answer counts.
        #[test]
        fn the_newest_answer_counts(steps in prop::collection::vec((0u64..20_000, any::<bool>()), 0..40)) {
            let (mut state, mut now) = (Neighbor::Unresolved, 0);
            for (wait, answer) in steps {
                now += wait;
                state = if answer { state.answered(OTHER, now, 0) } else { state.tick(now).0 };
                prop_assert!(state.due() > now, "time stands still in {:?}", state);
            }
            prop_assert_eq!(state.answered(MAC, now, 0).mac(), Some(MAC));
        }
    }
}
