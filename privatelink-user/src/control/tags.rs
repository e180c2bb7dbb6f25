//! Tags.

use std::collections::BTreeMap;

use super::ControlError;
use crate::model::{Change, Edit, Key, State, TagKey, TagValue, TaggedId, Tags};

/// Adds tags to a resource of the caller, over those of the same keys.
pub fn tag(state: &State, resource: &str, tags: &BTreeMap<TagKey, TagValue>) -> Result<Change, ControlError> {
    let id: TaggedId = resource.parse()?;
    if !state.has_tagged(&id) {
        return Err(ControlError::TaggedNotFound(resource.to_owned()));
    }
    tag_new(state, &id, tags)
}

/// The same for a resource that the change at hand makes.
pub fn tag_new(state: &State, id: &TaggedId, tags: &BTreeMap<TagKey, TagValue>) -> Result<Change, ControlError> {
    let present = state.tags_of(id.as_str());
    let mut changed = present.clone();
    changed.extend(tags.clone());
    if changed.len() > Tags::MOST {
        return Err(ControlError::TooManyTags(id.to_string()));
    }
    Ok(replaced(id, &present, changed))
}

/// Takes tags away from a resource of the caller: those of `keys`, each only if it has the value that is named, or all.
pub fn untag(
    state: &State,
    resource: &str,
    keys: Option<&[(TagKey, Option<TagValue>)]>,
) -> Result<Change, ControlError> {
    let id: TaggedId = resource.parse()?;
    if !state.has_tagged(&id) {
        return Err(ControlError::TaggedNotFound(resource.to_owned()));
    }
    let present = state.tags_of(resource);
    let goes = |key: &TagKey, value: &TagValue| {
        keys.is_none_or(|keys| keys.iter().any(|(k, v)| k == key && v.as_ref().is_none_or(|v| v == value)))
    };
    let left = present.iter().filter(|(key, value)| !goes(key, value)).map(|(k, v)| (k.clone(), v.clone())).collect();
    Ok(replaced(&id, &present, left))
}

fn replaced(id: &TaggedId, present: &BTreeMap<TagKey, TagValue>, tags: BTreeMap<TagKey, TagValue>) -> Change {
    if tags == *present {
        Change::default()
    } else if tags.is_empty() {
        Change::default().remove(id.clone())
    } else {
        Change::default().put(Tags { resource: id.clone(), tags })
    }
}

/// `change`, and the removal of the tags of what it removes.
pub fn with_removed_tags(world: &State, change: Change) -> Change {
    let ids: Vec<TaggedId> = change
        .edits()
        .iter()
        .filter_map(|edit| match edit {
            Edit::Remove(key) => tagged(key),
            Edit::Put(_) | Edit::LastVpcIndex(_) => None,
        })
        .filter(|id| world.tags.contains_key(id))
        .collect();
    ids.into_iter().fold(change, Change::remove)
}

/// The identity under which a resource has tags.
fn tagged(key: &Key) -> Option<TaggedId> {
    let text = match key {
        Key::Vpc(id) => id.as_str(),
        Key::LoadBalancer(id) => id.as_str(),
        Key::Listener(id) => id.as_str(),
        Key::TargetGroup(id) => id.as_str(),
        Key::EndpointService(id) => id.as_str(),
        Key::Endpoint(id) => id.as_str(),
        Key::Subnet(id) => id.as_str(),
        Key::SecurityGroup(id) => id.as_str(),
        Key::Instance(id) => id.as_str(),
        Key::Port(_) | Key::Link(_) | Key::Tags(_) | Key::Account(_) | Key::ClientToken(_) => return None,
    };
    text.parse().ok()
}
