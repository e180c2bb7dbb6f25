//! EC2: networks, endpoint services and endpoints.

pub mod connections;
pub mod endpoints;
pub mod gateways;
pub mod instances;
pub mod interfaces;
pub mod notifications;
pub mod permissions;
pub mod route_tables;
pub mod security_groups;
pub mod services;
pub mod subnets;
pub mod tags;
pub mod vpcs;
pub mod zones;

use super::{
    refusal::Refusal,
    xml::{Structure, Value},
};
use crate::model::{State, Table};

/// What actions without members answer.
fn done() -> Structure {
    Structure::new().text("return", true)
}

/// The tags of a resource, as `tagSet`.
fn tag_set(state: &State, id: &str) -> Vec<Structure> {
    state.tags_of(id).iter().map(|(key, value)| Structure::new().text("key", key).text("value", value)).collect()
}

/// What of a batch failed, as `unsuccessful`; `code` may give another code than the control plane's.
fn unsuccessful(failed: Vec<(String, Refusal)>) -> Structure {
    Structure::new().list(
        "unsuccessful",
        failed.into_iter().map(|(id, refusal)| {
            let (_, code, message) = refusal.wire(true);
            let error = Structure::new().text("code", code).text("message", message);
            Structure::new().value("error", error).text("resourceId", id)
        }),
    )
}

/// The resources that `ids` name, or all; the first unknown one is refused.
fn chosen<'a, K: std::str::FromStr + Ord + Clone, V: Clone>(
    all: &'a Table<K, V>,
    ids: &[&str],
    unknown: impl Fn(&str) -> Refusal,
) -> Result<Vec<&'a V>, Refusal> {
    if ids.is_empty() {
        return Ok(all.values().collect());
    }
    let find = |id: &&str| id.parse().ok().and_then(|id: K| all.get(&id)).ok_or_else(|| unknown(id));
    ids.iter().map(find).collect()
}

/// One value of a filter.
fn one(value: impl ToString) -> Option<Vec<String>> {
    Some(vec![value.to_string()])
}

/// A list of structures with one member.
fn members(name: &'static str, values: impl IntoIterator<Item = String>) -> Vec<Value> {
    values.into_iter().map(|value| Structure::new().text(name, value).into()).collect()
}
