//! Looks at what clients' connections to healthy targets come to, and tells the checker of those that fail.

use std::{collections::HashMap, sync::Arc, time::Duration};

use privatelink_ebpf::abi::stats::TargetStats;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Shared,
    checker::Suspicion,
    plan::{CheckKey, Plan},
};
use crate::{
    dataplane::stats::{Wanted, sum},
    health::passive::{Connections, Watch},
};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Looks until `stop`.
pub async fn run(shared: Arc<Shared>, suspicions: mpsc::Sender<Suspicion>, stop: CancellationToken) {
    let mut watches: HashMap<CheckKey, Watch> = HashMap::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let plan = shared.plan.borrow().clone();
        let healthy: Vec<CheckKey> = {
            let health = shared.health();
            let takes_traffic = |key: &&CheckKey| health.get(key).is_some_and(|checked| checked.takes_traffic());
            watched(&plan).filter(takes_traffic).cloned().collect()
        };
        let connections = match tokio::task::block_in_place(|| read(&shared, &plan, &healthy)) {
            Ok(connections) => connections,
            Err(error) => {
                tracing::warn!(%error, "clients' connections cannot be looked at");
                continue;
            }
        };
        // A target that was unhealthy meanwhile begins anew.
        watches.retain(|key, _| connections.contains_key(key));
        for (key, now) in connections {
            match watches.get_mut(&key).map(|watch| watch.look(now)) {
                None => drop(watches.insert(key, Watch::new(now))),
                Some(None) => {}
                Some(Some(failure)) => {
                    if suspicions.send(Suspicion { key, failure }).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The checks that clients' connections may bring forward.
fn watched(plan: &Plan) -> impl Iterator<Item = &CheckKey> {
    plan.checks.iter().filter(|(_, check)| check.passive).map(|(key, _)| key)
}

fn read(
    shared: &Shared,
    plan: &Plan,
    healthy: &[CheckKey],
) -> Result<HashMap<CheckKey, Connections>, crate::dataplane::DataplaneError> {
    let indexes = |key: &CheckKey| {
        let keys = plan.registrations.get(key).into_iter().flatten();
        keys.filter_map(|key| plan.targets.get(key).copied()).collect::<Vec<u32>>()
    };
    let wanted = Wanted { targets: healthy.iter().flat_map(indexes).collect(), ..Wanted::default() };
    let counts = shared.dataplane().counts(&wanted)?;
    let connections = |key: &CheckKey| {
        let stats = indexes(key).into_iter().filter_map(|index| counts.targets.get(&index).copied());
        let TargetStats { established, refused, unanswered, .. } = sum(stats);
        (key.clone(), Connections { established, refused, unanswered })
    };
    Ok(healthy.iter().map(connections).collect())
}
