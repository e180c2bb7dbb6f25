//! Connection notifications, and the messages that follow from changes.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Mutation, Query, Reference, lookup, operation, sorted};
use crate::model::{
    AccountId, Change, ConnectionEvent, ConnectionNotification, Edit, Endpoint, EndpointId, EndpointServiceId,
    EndpointState, IdSource, Key, Notice, NoticeId, NotificationId, NotificationSubject, NotificationTarget, Record,
    ServiceName, State,
};

/// Asks for messages about the endpoints of a service, or about one endpoint; of the caller's. Doing it again with the
/// same target changes nothing but the events.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConnectionNotification {
    /// This, or `endpoint`.
    #[serde(default)]
    pub endpoint_service: Option<Reference>,
    #[serde(default)]
    pub endpoint: Option<Reference>,
    pub target: NotificationTarget,
    pub events: BTreeSet<ConnectionEvent>,
}
operation!(CreateConnectionNotification -> ConnectionNotification);

impl Mutation for CreateConnectionNotification {
    fn decide(
        &self,
        state: &State,
        context: &mut Context<'_>,
    ) -> Result<(Change, ConnectionNotification), ControlError> {
        let Self { endpoint_service, endpoint, target, events } = self;
        let subject = match (endpoint_service, endpoint) {
            (Some(service), None) => {
                NotificationSubject::EndpointService(lookup::endpoint_service(state, service)?.id.clone())
            }
            (None, Some(endpoint)) => NotificationSubject::Endpoint(lookup::endpoint(state, endpoint)?.id.clone()),
            (None, None) | (Some(_), Some(_)) => return Err(ControlError::NotificationSubjects),
        };
        if events.is_empty() {
            return Err(ControlError::EventMissing);
        }
        let present = state.notifications.values().find(|one| one.subject == subject && one.target == *target);
        let notification = match present {
            Some(present) => ConnectionNotification { events: events.clone(), ..present.clone() },
            None => ConnectionNotification {
                id: NotificationId::generate(context.ids),
                owner: context.owner(),
                subject,
                target: target.clone(),
                events: events.clone(),
                created_at: context.now,
            },
        };
        let same = present == Some(&notification);
        let change = if same { Change::default() } else { Change::default().put(notification.clone()) };
        Ok((change, notification))
    }
}

/// Changes a notification's target or events. What is not given stays.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyConnectionNotification {
    pub notification: NotificationId,
    #[serde(default)]
    pub target: Option<NotificationTarget>,
    #[serde(default)]
    pub events: Option<BTreeSet<ConnectionEvent>>,
}
operation!(ModifyConnectionNotification -> ConnectionNotification);

impl Mutation for ModifyConnectionNotification {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ConnectionNotification), ControlError> {
        let Self { notification, target, events } = self;
        let found = find(state, notification)?;
        let changed = ConnectionNotification {
            target: target.clone().unwrap_or_else(|| found.target.clone()),
            events: events.clone().unwrap_or_else(|| found.events.clone()),
            ..found.clone()
        };
        if changed.events.is_empty() {
            return Err(ControlError::EventMissing);
        }
        let change = Change::replace(found, changed.clone());
        Ok((change, changed))
    }
}

fn find<'a>(state: &'a State, id: &NotificationId) -> Result<&'a ConnectionNotification, ControlError> {
    state.notifications.get(id).ok_or_else(|| ControlError::NotificationNotFound(id.to_string()))
}

/// Deletes a notification, and what still waits for it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteConnectionNotification {
    pub notification: NotificationId,
}
operation!(DeleteConnectionNotification -> ());

impl Mutation for DeleteConnectionNotification {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let found = find(state, &self.notification)?;
        Ok((gone(state, found), ()))
    }
}

/// The removal of a notification and of what waits for it.
fn gone(state: &State, notification: &ConnectionNotification) -> Change {
    let waiting = state.notices.values().filter(|notice| notice.notification == notification.id);
    let change = waiting.fold(Change::default(), |change, notice| change.remove(Key::Notice(notice.id.clone())));
    change.remove(notification.id.clone())
}

/// Lists the notifications.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeConnectionNotifications {
    /// None: all.
    #[serde(default)]
    pub notifications: Option<Vec<NotificationId>>,
}
operation!(DescribeConnectionNotifications -> Vec<ConnectionNotification>);

impl Query for DescribeConnectionNotifications {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<ConnectionNotification>, ControlError> {
        match &self.notifications {
            None => Ok(sorted(state.notifications.values().cloned().collect(), |one: &ConnectionNotification| {
                (one.subject.clone(), one.created_at, one.id.clone())
            })),
            Some(ids) => ids.iter().map(|id| find(state, id).cloned()).collect(),
        }
    }
}

/// What a message says; nothing of the consumer's network.
#[derive(Serialize)]
struct Message<'a> {
    /// Of this form.
    version: u8,
    /// The same each time that it is tried.
    id: &'a NoticeId,
    notification_id: &'a NotificationId,
    event: ConnectionEvent,
    timestamp: Timestamp,
    service_id: &'a EndpointServiceId,
    service_name: ServiceName,
    vpc_endpoint_id: &'a EndpointId,
    vpc_endpoint_owner: &'a AccountId,
    vpc_endpoint_state: EndpointState,
}

/// What `change` does to endpoints, in order: event, and the endpoint as it is afterwards (or was, if it goes).
fn events(world: &State, change: &Change) -> Vec<(ConnectionEvent, Endpoint)> {
    let mut latest: BTreeMap<_, EndpointState> = BTreeMap::new();
    let mut found = Vec::new();
    for edit in change.edits() {
        match edit {
            Edit::Put(Record::Endpoint(endpoint)) => {
                let before = latest.get(&endpoint.id).copied();
                let before = before.or_else(|| world.endpoints.get(&endpoint.id).map(|before| before.state));
                latest.insert(endpoint.id.clone(), endpoint.state);
                if before.is_none() {
                    found.push((ConnectionEvent::Connect, endpoint.clone()));
                }
                let event = match endpoint.state {
                    EndpointState::Available if before.is_some() => ConnectionEvent::Accept,
                    EndpointState::Rejected => ConnectionEvent::Reject,
                    EndpointState::Available | EndpointState::PendingAcceptance | EndpointState::Expired => continue,
                };
                if before != Some(endpoint.state) {
                    found.push((event, endpoint.clone()));
                }
            }
            Edit::Remove(Key::Endpoint(id)) => {
                found.extend(world.endpoints.get(id).map(|before| (ConnectionEvent::Delete, before.clone())));
            }
            Edit::Put(_) | Edit::Remove(_) | Edit::LastVpcIndex(_) => {}
        }
    }
    found
}

/// `change` with the messages that follow from it, and without the notifications about what it removes; also how many
/// messages found no room.
pub fn with_notices(world: &State, change: Change, now: Timestamp, ids: &mut dyn IdSource) -> (Change, usize) {
    if world.notifications.is_empty() {
        return (change, 0);
    }
    // How many wait for each notification, and the number of the last one.
    let mut waiting: BTreeMap<&NotificationId, (usize, u64)> = BTreeMap::new();
    for notice in world.notices.values() {
        let (count, last) = waiting.entry(&notice.notification).or_default();
        (*count, *last) = (*count + 1, notice.number.max(*last));
    }
    let mut notices = Change::default();
    let mut lost = 0;
    for (event, endpoint) in events(world, &change) {
        let about = |one: &&ConnectionNotification| {
            let same = match &one.subject {
                NotificationSubject::EndpointService(service) => *service == endpoint.service,
                NotificationSubject::Endpoint(id) => *id == endpoint.id,
            };
            same && one.events.contains(&event)
        };
        for notification in world.notifications.values().filter(about) {
            let (count, last) = waiting.entry(&notification.id).or_default();
            if *count >= Notice::MOST {
                lost += 1;
                continue;
            }
            (*count, *last) = (*count + 1, last.saturating_add(1));
            let id = NoticeId::generate(ids);
            let message = Message {
                version: 1,
                id: &id,
                notification_id: &notification.id,
                event,
                timestamp: now,
                service_id: &endpoint.service,
                service_name: endpoint.service_name(),
                vpc_endpoint_id: &endpoint.id,
                vpc_endpoint_owner: &endpoint.owner.account,
                vpc_endpoint_state: endpoint.state,
            };
            let Ok(message) = serde_json::to_string(&message) else { continue };
            let ConnectionNotification { id: notification, owner, target, .. } = notification.clone();
            notices = notices.put(Notice { id, owner, notification, number: *last, target, message });
        }
    }
    let gone: BTreeSet<NotificationSubject> = change
        .edits()
        .iter()
        .filter_map(|edit| match edit {
            Edit::Remove(Key::EndpointService(id)) => Some(NotificationSubject::EndpointService(id.clone())),
            Edit::Remove(Key::Endpoint(id)) => Some(NotificationSubject::Endpoint(id.clone())),
            Edit::Remove(_) | Edit::Put(_) | Edit::LastVpcIndex(_) => None,
        })
        .collect();
    let orphans = world.notifications.values().filter(|one| gone.contains(&one.subject));
    let cleared = orphans.fold(Change::default(), |change, one| change.remove(one.id.clone()));
    (change.then(notices).then(cleared), lost)
}
