//! Signed requests that were here before: whoever has overheard one cannot have it done again later.
//!
//! A signature names its second and nothing finer, and SDKs sign no number of their own: two equal requests of one
//! second have one signature. So a request counts again for as long as its client may still be sending it, and then no
//! more.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use super::sigv4::WINDOW;

/// How long after the first one equal requests of one second may come.
const BURST: SignedDuration = SignedDuration::from_secs(2);

/// Signatures that have counted, as long as their requests are not too old anyway.
#[derive(Debug, Default)]
pub struct Replays {
    /// In the order in which they came first.
    order: VecDeque<Vec<u8>>,
    first: BTreeMap<Vec<u8>, Timestamp>,
}

impl Replays {
    /// Whether a request with `signature` counts now; the first one is noted.
    pub fn counts(&mut self, signature: &[u8], now: Timestamp) -> bool {
        // A request's time may be as far ahead of ours as behind it.
        let over = SignedDuration::from_secs(2 * WINDOW);
        while let Some(oldest) = self.order.front()
            && self.first.get(oldest).is_none_or(|came| now.duration_since(*came) > over)
        {
            self.first.remove(oldest);
            self.order.pop_front();
        }
        match self.first.get(signature) {
            Some(came) => now.duration_since(*came) <= BURST,
            None => {
                self.first.insert(signature.to_vec(), now);
                self.order.push_back(signature.to_vec());
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_for_a_moment_and_then_no_more() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let mut replays = Replays::default();
        assert!(replays.counts(b"a", at(0)) && replays.counts(b"b", at(1)));
        assert!(replays.counts(b"a", at(2)), "equal requests of one second");
        for seconds in [3, 60, WINDOW, 2 * WINDOW] {
            assert!(!replays.counts(b"a", at(seconds)), "after {seconds} s");
        }
        assert!(replays.counts(b"c", at(2 * WINDOW + 2)));
        assert_eq!((replays.order.len(), replays.first.len()), (1, 1), "what is over is forgotten");
    }
}
