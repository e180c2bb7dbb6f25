//! Tags.

use super::{done, one};
use crate::{
    api::query::{
        call::{Call, read_tags},
        filter::{Filters, Page},
        refusal::Refusal,
        xml::Structure,
    },
    control::tags,
    model::{Change, TagKey, TagValue},
};

pub fn create(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (ids, given) = (scope.list("ResourceId"), read_tags(&scope.structures("Tag"))?);
    if ids.is_empty() {
        return Err(Refusal::missing("ResourceId"));
    }
    if given.is_empty() {
        return Err(Refusal::missing("Tag"));
    }
    call.update(|state, _| {
        let change = ids
            .iter()
            .try_fold(Change::default(), |change, id| Ok::<_, Refusal>(change.then(tags::tag(state, id, &given)?)))?;
        Ok((change, ()))
    })?;
    Ok(done())
}

pub fn delete(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let ids = scope.list("ResourceId");
    if ids.is_empty() {
        return Err(Refusal::missing("ResourceId"));
    }
    let mut keys: Vec<(TagKey, Option<TagValue>)> = Vec::new();
    for tag in scope.structures("Tag") {
        keys.push((tag.required("Key")?.parse()?, tag.parsed("Value")?));
    }
    let keys = Some(keys).filter(|keys| !keys.is_empty());
    call.update(|state, _| {
        let change = ids.iter().try_fold(Change::default(), |change, id| {
            Ok::<_, Refusal>(change.then(tags::untag(state, id, keys.as_deref())?))
        })?;
        Ok((change, ()))
    })?;
    Ok(done())
}

pub fn describe(call: &Call<'_>) -> Result<Structure, Refusal> {
    let scope = call.scope();
    let (filters, page) = (Filters::read(&scope)?, Page::ec2(&scope)?);
    call.read(|state, _| {
        let mut found = Vec::new();
        let own = state.tags.values().filter(|tags| tags.resource.kind() != "elastic-load-balancing");
        for (tags, (key, value)) in own.flat_map(|tags| tags.tags.iter().map(move |pair| (tags, pair))) {
            let resource = &tags.resource;
            let values = |name: &str| match name {
                "key" => one(key),
                "value" => one(value),
                "resource-id" => one(resource),
                "resource-type" => one(resource.kind()),
                _ => None,
            };
            if filters.admit(state, resource.as_str(), values)? {
                let row = Structure::new()
                    .text("key", key)
                    .text("resourceId", resource)
                    .text("resourceType", resource.kind())
                    .text("value", value);
                found.push((format!("{resource}/{key}"), row));
            }
        }
        let (items, token) = page.cut(found);
        Ok(Structure::new().list("tagSet", items).maybe("nextToken", token))
    })
}
