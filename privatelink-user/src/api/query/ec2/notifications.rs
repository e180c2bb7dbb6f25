//! Connection notifications.

use super::{chosen, done, one, unsuccessful};
use crate::{
    api::query::{
        call::Call,
        filter::{Filters, Page},
        params::Scope,
        refusal::Refusal,
        xml::Structure,
    },
    control::{
        ControlError, Mutation as _,
        notifications::{CreateConnectionNotification, DeleteConnectionNotification, ModifyConnectionNotification},
    },
    model::{
        ConnectionEvent, ConnectionNotification, Endpoint, NotificationId, NotificationSubject, NotificationTarget,
        State,
    },
};

/// Whether messages are delivered: the agent's operator may have taken the target away.
fn state(call: &Call<'_>, notification: &ConnectionNotification) -> &'static str {
    if call.api.notify.allows(&notification.target) { "Enabled" } else { "Disabled" }
}

fn view(call: &Call<'_>, seen: &State, notification: &ConnectionNotification) -> Structure {
    let ConnectionNotification { id, owner, subject, target, events, created_at: _ } = notification;
    let structure = Structure::new().text("connectionNotificationId", id);
    let structure = match subject {
        NotificationSubject::EndpointService(service) => structure.text("serviceId", service),
        NotificationSubject::Endpoint(endpoint) => structure.text("vpcEndpointId", endpoint),
    };
    let service_region = match subject {
        NotificationSubject::EndpointService(_) => None,
        NotificationSubject::Endpoint(endpoint) => seen.endpoints.get(endpoint).map(Endpoint::service_region),
    };
    structure
        .text("connectionNotificationType", "Topic")
        .text("connectionNotificationArn", target)
        .texts("connectionEvents", events)
        .text("connectionNotificationState", state(call, notification))
        .text("serviceRegion", service_region.unwrap_or(&owner.region))
}

fn unknown(id: &str) -> Refusal {
    ControlError::NotificationNotFound(id.to_owned()).into()
}

fn events(scope: &Scope<'_>) -> Result<std::collections::BTreeSet<ConnectionEvent>, Refusal> {
    scope.list("ConnectionEvents").into_iter().map(|text| text.parse().map_err(Refusal::from)).collect()
}

/// The target of a request, which the agent's operator must allow.
fn target(call: &Call<'_>) -> Result<Option<NotificationTarget>, Refusal> {
    let target: Option<NotificationTarget> = call.scope().parsed("ConnectionNotificationArn")?;
    match target {
        Some(target) if !call.api.notify.allows(&target) => {
            Err(ControlError::NotificationTargetNotAllowed(target).into())
        }
        target => Ok(target),
    }
}

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let request = CreateConnectionNotification {
        endpoint_service: scope.text("ServiceId").map(Into::into),
        endpoint: scope.text("VpcEndpointId").map(Into::into),
        target: target(call)?.ok_or_else(|| Refusal::missing("ConnectionNotificationArn"))?,
        events: events(&scope)?,
    };
    let token = scope.text("ClientToken");
    let id = call.create(|state, context| {
        let (change, made) = request.decide(state, context)?;
        Ok((change, made.id.to_string()))
    })?;
    call.read(|state, _| {
        let found = id.parse().ok().and_then(|id: NotificationId| state.notifications.get(&id));
        let notification = found.ok_or_else(|| unknown(&id))?;
        Ok(Structure::new()
            .value("connectionNotification", view(call, state, notification))
            .maybe("clientToken", token))
    })
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page) = (Filters::read(&scope)?, Page::ec2(&scope)?);
    let ids: Vec<&str> = scope.text("ConnectionNotificationId").into_iter().collect();
    call.read(|all, _| {
        let mut found = Vec::new();
        for notification in chosen(&all.notifications, &ids, unknown)? {
            let subject = |service: bool| {
                let text = match &notification.subject {
                    NotificationSubject::EndpointService(id) if service => Some(id.to_string()),
                    NotificationSubject::Endpoint(id) if !service => Some(id.to_string()),
                    NotificationSubject::EndpointService(_) | NotificationSubject::Endpoint(_) => None,
                };
                Some(text.into_iter().collect())
            };
            let values = |name: &str| match name {
                "connection-notification-arn" => one(&notification.target),
                "connection-notification-id" => one(&notification.id),
                "connection-notification-state" => one(state(call, notification)),
                "connection-notification-type" => one("Topic"),
                "service-id" => subject(true),
                "vpc-endpoint-id" => subject(false),
                _ => None,
            };
            if filters.admit(all, notification.id.as_str(), values)? {
                found.push((notification.id.to_string(), view(call, all, notification)));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("connectionNotificationSet", items).maybe("nextToken", token))
    })
}

/// A notification's id, of the caller's or not.
fn id(text: &str) -> Result<NotificationId, Refusal> {
    text.parse().map_err(|_| unknown(text))
}

pub fn modify(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let notification = id(scope.required("ConnectionNotificationId")?)?;
    let events = Some(events(&scope)?).filter(|events| !events.is_empty());
    call.mutate(&ModifyConnectionNotification { notification, target: target(call)?, events })?;
    Ok(done())
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let ids = call.scope().list("ConnectionNotificationId");
    if ids.is_empty() {
        return Err(Refusal::missing("ConnectionNotificationId"));
    }
    let mut failed = Vec::new();
    for text in ids {
        let gone = id(text).and_then(|notification| call.mutate(&DeleteConnectionNotification { notification }));
        match gone {
            Ok(()) => {}
            Err(refusal @ Refusal::Control(_)) => failed.push((text.to_owned(), refusal)),
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(unsuccessful(failed))
}
