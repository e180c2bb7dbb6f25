//! What ends by the clock. A draining target has left the rings, its flows go on; when its delay has ended, it is taken
//! out of the state, and the reconciler retires it. An endpoint that nobody answers for expires; client tokens and
//! terminated instances are forgotten.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::{
    control::{accounts, endpoints, instances, targets},
    model::State,
};

/// When something ends next.
fn next_expiry(state: &State) -> Option<Timestamp> {
    let ends = [
        targets::next_expiry(state),
        endpoints::next_unanswered(state),
        accounts::next_token_expiry(state),
        instances::next_expiry(state),
    ];
    ends.into_iter().flatten().min()
}

/// Takes out what has ended until `stop`.
pub async fn run(shared: &Shared, stop: CancellationToken) {
    let mut states = shared.store.watch();
    loop {
        let wait = next_expiry(&states.borrow_and_update()).map(|at| until(at, Timestamp::now()));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)) => {}
        }
        let expired = shared.store.update(|state| {
            let now = Timestamp::now();
            let change = targets::expire(state, now)
                .then(endpoints::expire_unanswered(state, now))
                .then(accounts::expire_tokens(state, now))
                .then(instances::expire(state, now));
            Ok::<_, std::convert::Infallible>((change, ()))
        });
        if let Err(error) = expired {
            tracing::warn!(?error, "what has ended cannot be taken out of the state; trying again");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
    }
}

fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
