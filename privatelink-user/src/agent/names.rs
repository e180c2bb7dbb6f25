//! Targets by DNS name: their names are asked for as often as their TTLs say, and what comes back is registered and
//! drained.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Shared, answers};
use crate::{
    control::dns_targets::resolved,
    dns::upstream::{Resolved, UpstreamError, Upstreams},
    model::{Change, IpFamily, State, TargetGroup},
};

/// The shortest and the longest time between two questions for a name, whatever its TTL.
const OFTENEST: Duration = Duration::from_secs(5);
const SELDOMEST: Duration = Duration::from_secs(300);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(10);

/// Who knows addresses.
pub trait Resolver {
    /// The addresses of a name.
    fn addresses(&self, asked: &Asked) -> impl Future<Output = Result<Resolved, UpstreamError>> + Send;
}

impl Resolver for Upstreams {
    async fn addresses(&self, Asked { name, family }: &Asked) -> Result<Resolved, UpstreamError> {
        Self::addresses(self, name, *family).await
    }
}

/// What is asked for: the addresses of a name that a group's targets can have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    name: String,
    family: IpFamily,
}

/// When each name is asked for next, on a clock of the caller's.
#[derive(Debug, Default)]
pub struct Schedule {
    due: BTreeMap<Asked, Duration>,
}

impl Schedule {
    /// Follows `names` and no others; new ones are due at once.
    fn follow(&mut self, names: BTreeSet<Asked>, now: Duration) {
        self.due.retain(|name, _| names.contains(name));
        for name in names {
            self.due.entry(name).or_insert(now);
        }
    }

    /// The names that are due.
    fn due(&self, now: Duration) -> Vec<Asked> {
        self.due.iter().filter(|(_, at)| **at <= now).map(|(name, _)| name.clone()).collect()
    }

    /// How long nothing is due; none if there are no names.
    fn rest(&self, now: Duration) -> Option<Duration> {
        self.due.values().min().map(|at| at.saturating_sub(now))
    }

    /// Notes that a name was asked for.
    fn asked(&mut self, name: &Asked, ttl: Option<Duration>, now: Duration) {
        let wait = ttl.map_or(AGAIN, |ttl| ttl.clamp(OFTENEST, SELDOMEST));
        if let Some(at) = self.due.get_mut(name) {
            *at = now.saturating_add(wait);
        }
    }
}

/// The names that groups of `state` follow.
fn names(state: &State) -> BTreeSet<Asked> {
    let of = |group: &TargetGroup| {
        let family = group.ip_address_type;
        group.dns_targets.iter().map(|target| Asked { name: target.name().to_owned(), family }).collect::<Vec<_>>()
    };
    state.target_groups.values().flat_map(of).collect()
}

/// What it does to all groups of the family that follow the name that it has these addresses.
fn change(state: &State, Asked { name, family }: &Asked, addresses: &BTreeSet<IpAddr>, now: Timestamp) -> Change {
    let follow = state.target_groups.values().filter(|group| group.ip_address_type == *family).flat_map(|group| {
        let targets = group.dns_targets.iter().filter(|target| target.name() == name);
        targets.map(|target| (&group.id, target))
    });
    let mut next = state.clone();
    let mut all = Change::default();
    for (group, target) in follow {
        let change = resolved(&next, group, target, addresses, now);
        next.apply(&change);
        all = all.then(change);
    }
    all
}

/// Asks for what is due, and says what came back.
async fn ask<R: Resolver>(schedule: &mut Schedule, resolver: &R, now: Duration) -> Vec<(Asked, Resolved)> {
    let due = schedule.due(now);
    let asked = due.iter().map(|name| resolver.addresses(name));
    let mut answers = Vec::new();
    for (asked, answer) in due.iter().zip(futures::future::join_all(asked).await) {
        let Asked { name, family } = asked;
        schedule.asked(asked, answer.as_ref().ok().map(|resolved| resolved.ttl), now);
        match answer {
            Ok(resolved) if resolved.addresses.is_empty() => {
                tracing::warn!(name, %family, "the name of targets has no address of the family; they stay as they are");
            }
            Ok(resolved) => answers.push((asked.clone(), resolved)),
            Err(error) => tracing::warn!(name, %error, "the name of targets cannot be resolved; they stay as they are"),
        }
    }
    answers
}

/// Follows the names of all target groups until `stop`.
pub async fn run(shared: &Shared, upstreams: Upstreams, stop: CancellationToken) {
    let mut states = shared.store.watch();
    let mut schedule = Schedule::default();
    loop {
        let followed = names(&states.borrow_and_update());
        schedule.follow(followed, Duration::from_millis(shared.now()));
        let answers = tokio::select! {
            () = stop.cancelled() => return,
            answers = ask(&mut schedule, &upstreams, Duration::from_millis(shared.now())) => answers,
        };
        for (asked, Resolved { addresses, ttl: _ }) in answers {
            let room = answers::limits(shared);
            let noted = tokio::task::block_in_place(|| {
                shared.store.update(|state| {
                    let change = change(state, &asked, &addresses, Timestamp::now());
                    let mut next = state.clone();
                    next.apply(&change);
                    room.check(state, &next).map(|()| (change, ()))
                })
            });
            if let Err(error) = noted {
                tracing::warn!(
                    name = asked.name,
                    ?error,
                    "the addresses of the name are not noted; they are asked for again"
                );
            }
        }
        let rest = schedule.rest(Duration::from_millis(shared.now()));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = states.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(rest.unwrap_or(Duration::MAX)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Answers in a row.
    struct Script(Mutex<Vec<Result<Resolved, UpstreamError>>>);

    impl Resolver for Script {
        async fn addresses(&self, _: &Asked) -> Result<Resolved, UpstreamError> {
            self.0.lock().expect("the script").remove(0)
        }
    }

    #[tokio::test]
    async fn names_are_asked_for_as_often_as_their_ttls_say() {
        let found = |ttl: u64| {
            let addresses = [IpAddr::from([10, 0, 1, 10])].into();
            Ok(Resolved { addresses, ttl: Duration::from_secs(ttl) })
        };
        let script = Script(Mutex::new(vec![found(60), found(0), found(100_000), Err(UpstreamError::None)]));
        let mut schedule = Schedule::default();
        let mut now = Duration::from_secs(1_000);
        assert_eq!(schedule.rest(now), None);
        let names = || BTreeSet::from([Asked { name: "db.example.com".to_owned(), family: IpFamily::Ipv4 }]);
        for (answers, rest) in [(1, 60), (1, 5), (1, 300), (0, 10)] {
            schedule.follow(names(), now);
            assert_eq!(schedule.rest(now), Some(Duration::ZERO));
            assert_eq!(ask(&mut schedule, &script, now).await.len(), answers);
            assert_eq!(schedule.rest(now), Some(Duration::from_secs(rest)));
            assert!(ask(&mut schedule, &script, now).await.is_empty(), "nothing is due");
            now += Duration::from_secs(rest);
        }
        schedule.follow(BTreeSet::new(), now);
        assert_eq!(schedule.rest(now), None);
    }
}
