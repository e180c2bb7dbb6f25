//! Tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Mutation, Query, operation};
use crate::model::{
    Change, Edit, Key, Record, SecurityGroup, SecurityGroupId, State, TagKey, TagValue, TaggedId, Tags,
};

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
    if world.tags.is_empty() {
        return change;
    }
    // Rules of a security group have tags of their own.
    let rules = |id: &SecurityGroupId, left: Option<&SecurityGroup>| {
        let before = world.security_groups.get(id).into_iter().flat_map(|group| group.rules.keys());
        let gone = before.filter(|rule| left.is_none_or(|left| !left.rules.contains_key(*rule)));
        gone.filter_map(|rule| rule.as_str().parse().ok()).collect::<Vec<TaggedId>>()
    };
    let ids: Vec<TaggedId> = change
        .edits()
        .iter()
        .flat_map(|edit| match edit {
            Edit::Remove(Key::SecurityGroup(id)) => {
                rules(id, None).into_iter().chain(Key::SecurityGroup(id.clone()).tagged()).collect()
            }
            Edit::Put(Record::SecurityGroup(group)) => rules(&group.id, Some(group)),
            Edit::Remove(key) => key.tagged().into_iter().collect(),
            Edit::Put(_) | Edit::LastVpcIndex(_) => Vec::new(),
        })
        .filter(|id| world.tags.contains_key(id))
        .collect();
    ids.into_iter().fold(change, Change::remove)
}

/// Puts tags on resources of the caller, over those of the same keys.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTags {
    pub resources: Vec<TaggedId>,
    pub tags: BTreeMap<TagKey, TagValue>,
}
operation!(CreateTags -> ());

impl Mutation for CreateTags {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let Self { resources, tags } = self;
        let change = resources.iter().try_fold(Change::default(), |change, id| {
            Ok::<_, ControlError>(change.then(tag(state, id.as_str(), tags)?))
        })?;
        Ok((change, ()))
    }
}

/// Takes tags off resources of the caller. Those that are not there are no error.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteTags {
    pub resources: Vec<TaggedId>,
    pub keys: Vec<TagKey>,
}
operation!(DeleteTags -> ());

impl Mutation for DeleteTags {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let Self { resources, keys } = self;
        let keys: Vec<(TagKey, Option<TagValue>)> = keys.iter().map(|key| (key.clone(), None)).collect();
        let change = resources.iter().try_fold(Change::default(), |change, id| {
            Ok::<_, ControlError>(change.then(untag(state, id.as_str(), Some(&keys))?))
        })?;
        Ok((change, ()))
    }
}

/// Lists tags, of all resources or of one.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeTags {
    #[serde(default)]
    pub resource: Option<TaggedId>,
}
operation!(DescribeTags -> Vec<TagView>);

/// A tag of a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TagView {
    pub resource: TaggedId,
    /// As EC2 names it, such as `vpc-endpoint`.
    pub kind: String,
    pub key: TagKey,
    pub value: TagValue,
}

impl Query for DescribeTags {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<TagView>, ControlError> {
        if let Some(missing) = self.resource.as_ref().filter(|id| !state.has_tagged(id)) {
            return Err(ControlError::TaggedNotFound(missing.to_string()));
        }
        let wanted = |tags: &&Tags| self.resource.as_ref().is_none_or(|id| *id == tags.resource);
        let view = |tags: &Tags, (key, value): (&TagKey, &TagValue)| TagView {
            resource: tags.resource.clone(),
            kind: tags.resource.kind().to_owned(),
            key: key.clone(),
            value: value.clone(),
        };
        let all = state.tags.values().filter(wanted);
        Ok(all.flat_map(|tags| tags.tags.iter().map(move |pair| view(tags, pair))).collect())
    }
}
