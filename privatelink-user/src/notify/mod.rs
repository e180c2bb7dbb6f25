//! Delivery of connection notifications: to webhooks, programs and files that the agent's operator allows.
//!
//! ```text
//!  control ─ one commit: what happens, and its messages ─► store ──watch──► run ─► sink, a few tries ─► message forgotten
//! ```
//!
//! A message is in the store until it is delivered or given up: an agent that is killed in between delivers it again. A
//! notification's messages are delivered one after the other, those of different notifications at the same time.
//! Nothing waits for a delivery but the notification's next one.

mod sink;
mod targets;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

pub use sink::{SinkError, Trust};
pub use targets::{Allowed, How, Targets};

use crate::{
    model::{Change, Key, Notice, NotificationId},
    store::Store,
};

/// How often a message is tried, and how long after a failure: this, doubled each time.
pub const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Deliveries to one target at the same time. Targets are the operator's, so this bounds all of them.
const AT_ONCE: usize = 8;

/// Delivers until `stop`. What is under way then is delivered again by the next agent.
pub async fn run(store: Arc<Store>, targets: Arc<Targets>, stop: CancellationToken) {
    let mut states = store.watch();
    let mut under_way: HashMap<Id, Notice> = HashMap::new();
    let mut deliveries: JoinSet<()> = JoinSet::new();
    loop {
        let busy = under_way.values().map(|notice| notice.notification.clone()).collect();
        for notice in next(states.borrow_and_update().notices.values(), &busy) {
            if under_way.values().filter(|other| other.target == notice.target).count() < AT_ONCE {
                let task = deliveries.spawn(deliver(Arc::clone(&targets), notice.clone()));
                under_way.insert(task.id(), notice);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
            Some(ended) = deliveries.join_next_with_id() => {
                let task = ended.map(|(task, ())| task).unwrap_or_else(|error| {
                    tracing::error!(%error, "a delivery was aborted");
                    error.id()
                });
                if let Some(notice) = under_way.remove(&task) {
                    forget(&store, notice).await;
                }
            }
        }
    }
}

/// The oldest message of each notification that is not busy.
fn next<'a>(notices: impl Iterator<Item = &'a Notice>, busy: &BTreeSet<NotificationId>) -> Vec<Notice> {
    let mut oldest: BTreeMap<&NotificationId, &Notice> = BTreeMap::new();
    for notice in notices.filter(|notice| !busy.contains(&notice.notification)) {
        let entry = oldest.entry(&notice.notification).or_insert(notice);
        if notice.number < entry.number {
            *entry = notice;
        }
    }
    oldest.into_values().cloned().collect()
}

/// Tries to deliver; the notice is done with afterwards, one way or the other. A target may be a secret, so the log
/// names the notification only.
async fn deliver(targets: Arc<Targets>, notice: Notice) {
    let notification = &notice.notification;
    let Some(sink) = targets.sink(&notice.target) else {
        tracing::warn!(%notification, "not told: the agent's operator does not allow the target");
        return;
    };
    let mut pause = FIRST_PAUSE;
    for left in (0..TRIES).rev() {
        match sink.deliver(&notice.message).await {
            Ok(()) => {
                tracing::debug!(%notification, "told");
                return;
            }
            Err(error) if left == 0 => tracing::warn!(%notification, %error, "not told: given up"),
            Err(error) => {
                tracing::info!(%notification, %error, left, "not told yet");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

async fn forget(store: &Arc<Store>, notice: Notice) {
    let store = Arc::clone(store);
    let change = Change::default().remove(Key::Notice(notice.id));
    let forgotten = tokio::task::spawn_blocking(move || store.commit(&change)).await;
    if !matches!(forgotten, Ok(Ok(()))) {
        tracing::warn!(?forgotten, "a message that was delivered may be delivered again");
        // The disk may be full; the message stays the oldest one, and is not tried in a loop.
        tokio::time::sleep(FIRST_PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
