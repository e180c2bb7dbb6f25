//! Asks DNS for the TXT records that verify private DNS names: once on request, and again from time to time, because
//! domains change hands.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::upstream::Upstreams;
use crate::{
    control::private_dns::{DomainVerification, Place, to_recheck},
    model::PrivateDns,
    store::Store,
};

/// How soon after the start the first round is, unless rounds are more frequent.
const FIRST: Duration = Duration::from_secs(60);
/// Names of one round that are asked for at the same time.
const AT_ONCE: usize = 8;

/// What is at each place where the record may be. All are asked at once, so that a silent server costs its patience
/// once.
pub async fn ask(resolvers: &Upstreams, private: &PrivateDns) -> Vec<Place> {
    let asked = private.places().into_iter().map(async |name| match resolvers.text_records(&name).await {
        Ok(found) => Place { name, found, error: None },
        Err(error) => Place { name, found: Vec::new(), error: Some(error.to_string()) },
    });
    futures::future::join_all(asked).await
}

/// Asks again for every name that was asked for before, a round `every` so often, until `stop`.
pub async fn run(store: Arc<Store>, resolvers: Upstreams, every: Duration, stop: CancellationToken) {
    if resolvers.is_empty() {
        return;
    }
    let mut wait = every.min(FIRST);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = round(&store, &resolvers) => {}
        }
        wait = every;
    }
}

async fn round(store: &Arc<Store>, resolvers: &Upstreams) {
    let names = to_recheck(&store.state());
    let asked = names.into_iter().map(async |(service, private)| {
        let places = ask(resolvers, &private).await;
        (private.state, DomainVerification::new(service, private, places))
    });
    let mut outcomes = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some((before, outcome)) = outcomes.next().await {
        let DomainVerification { endpoint_service, name, state, found, .. } = &outcome;
        if *state == before {
            if !found {
                tracing::debug!(service = %endpoint_service, %name, %state, "the TXT record was not found");
            }
            continue;
        }
        tracing::warn!(service = %endpoint_service, %name, from = %before, to = %state, "asked for the TXT record again");
        let store = Arc::clone(store);
        let noted = tokio::task::spawn_blocking(move || {
            store.update(|world| Ok::<_, Infallible>((outcome.noted(world, world), ())))
        });
        if !matches!(noted.await, Ok(Ok(()))) {
            tracing::warn!("the outcome is not noted; the record is asked for again");
        }
    }
}

#[cfg(test)]
mod tests;
