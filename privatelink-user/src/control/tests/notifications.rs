//! Who is told of what.

use serde_json::json;

use super::*;
use crate::{
    control::{connections::*, notifications::*},
    model::ConnectionEvent,
};

/// The events of a request that is carried out with its messages.
fn told<M: Mutation>(world: &mut World, request: serde_json::Value) -> Vec<String> {
    let before = world.state.clone();
    let known: Vec<_> = before.notices.keys().cloned().collect();
    let request: M = serde_json::from_value(request).expect("a request");
    let mut ids = Counter(0x1000 + world.ids.0);
    world
        .with_context(|state, context| {
            let (change, _) = request.decide(state, context)?;
            let (change, lost) = with_notices(context.world, change, context.now, &mut ids);
            assert_eq!(lost, 0);
            Ok((change, ()))
        })
        .expect("accepted");
    world.ids.0 = ids.0;
    let fresh = world.state.notices.values().filter(|notice| !known.contains(&notice.id));
    let event = |notice: &crate::model::Notice| {
        let message: serde_json::Value = serde_json::from_str(&notice.message).expect("JSON");
        format!(
            "{} {}",
            message["event"].as_str().expect("an event"),
            message["vpc_endpoint_state"].as_str().expect("a state")
        )
    };
    let mut events: Vec<String> = fresh.map(event).collect();
    events.sort();
    events
}

#[test]
fn every_event_is_told_once_to_those_who_asked_for_it() {
    let mut world = World::published();
    world.json::<ModifyEndpointService>(json!({"endpoint_service": "shop", "acceptance_required": true})).unwrap();
    let all: Vec<String> = ConnectionEvent::ALL.iter().map(ToString::to_string).collect();
    let ask = json!({"endpoint_service": "shop", "target": "file:/told", "events": all});
    let first = world.json::<CreateConnectionNotification>(ask.clone()).unwrap();
    assert_eq!(world.json::<CreateConnectionNotification>(ask).unwrap(), first, "the same again is the same");
    let create = json!({"service_name": "shop", "vpc": "consumer", "address": "10.0.0.60"});
    assert_eq!(told::<CreateEndpoint>(&mut world, create), ["Connect pendingAcceptance"]);
    let endpoint = lookup::endpoint(&world.state, &"consumer/10.0.0.60".into()).unwrap().id.clone();
    let own = json!({"endpoint": endpoint, "target": "file:/mine", "events": ["Delete", "Accept"]});
    world.json::<CreateConnectionNotification>(own).unwrap();
    let answer = json!({"endpoint_service": "shop", "endpoints": [endpoint]});
    assert_eq!(told::<AcceptConnections>(&mut world, answer.clone()), ["Accept available", "Accept available"]);
    assert!(told::<AcceptConnections>(&mut world, answer.clone()).is_empty(), "nothing has happened");
    assert_eq!(told::<RejectConnections>(&mut world, answer), ["Reject rejected"]);
    let delete = json!({"endpoint": endpoint});
    assert_eq!(told::<DeleteEndpoint>(&mut world, delete), ["Delete rejected", "Delete rejected"]);
    assert_eq!(world.state.notifications.len(), 1, "what was about the endpoint has gone with it");
    assert_eq!(world.state.notices.len(), 6, "what waits is told all the same");
    world.json::<DeleteConnectionNotification>(json!({"notification": first.id})).unwrap();
    assert!(world.state.notices.values().all(|notice| notice.notification != first.id));
}

#[test]
fn what_cannot_be_told_is_refused() {
    let mut world = World::published();
    let both = json!({"endpoint_service": "shop", "endpoint": "consumer/10.0.0.50", "target": "file:/x", "events": ["Accept"]});
    assert_eq!(refusal(world.json::<CreateConnectionNotification>(both)).0, "InvalidParameterCombination");
    let none = json!({"endpoint_service": "shop", "target": "file:/x", "events": []});
    assert_eq!(refusal(world.json::<CreateConnectionNotification>(none)).0, "MissingParameter");
    let unknown = json!({"notification": "vpce-nfn-00000000000000000"});
    let (code, text) = refusal(world.json::<DeleteConnectionNotification>(unknown));
    assert_eq!(code, "InvalidConnectionNotification");
    assert_eq!(text, "The ConnectionNotificationId 'vpce-nfn-00000000000000000' does not exist");
}
