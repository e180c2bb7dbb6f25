//! Targets by DNS name.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::{
    control::dns_targets::{ModifyDnsTargets, resolved},
    model::{DnsTarget, TargetAddress},
};

fn resolve(world: &mut World, name: &str, addresses: &[&str]) {
    let name: DnsTarget = name.parse().unwrap();
    let addresses: BTreeSet<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let group = world.state.target_groups.values().next().expect("the group").id.clone();
    let now = world.now;
    world.with_context(|state, _| Ok((resolved(state, &group, &name, &addresses, now), ()))).unwrap();
}

/// Each target and whether it drains.
fn targets(world: &World) -> Vec<(String, bool)> {
    let group = world.state.target_groups.values().next().expect("the group");
    let shown = |(address, target): (&TargetAddress, &crate::model::Target)| {
        (address.to_string(), target.draining_since.is_some())
    };
    group.targets.iter().map(shown).collect()
}

#[test]
fn the_targets_follow_the_addresses_of_their_name() {
    let mut world = World::published();
    let by_hand = [("10.0.1.10:80", false), ("10.0.1.11:81", false)].map(|(text, drains)| (text.to_owned(), drains));
    let with = |more: &[(&str, bool)]| {
        let mut all = by_hand.to_vec();
        all.extend(more.iter().map(|(text, drains)| ((*text).to_owned(), *drains)));
        all.sort();
        all
    };
    resolve(&mut world, "db.example.com:5432", &["10.0.2.1"]);
    assert_eq!(targets(&world), by_hand, "nobody follows the name");

    let names = |add: &[&str], remove: &[&str]| json!({"target_group": "web", "add": add, "remove": remove});
    world.json::<ModifyDnsTargets>(names(&["db.example.com:5432"], &[])).unwrap();
    resolve(&mut world, "db.example.com:5432", &["10.0.2.1", "10.0.2.2", "10.0.0.5", "8.8.8.8"]);
    assert_eq!(targets(&world), with(&[("10.0.2.1:5432", false), ("10.0.2.2:5432", false)]), "what can be targets");
    resolve(&mut world, "db.example.com:5432", &["10.0.2.2", "10.0.2.3"]);
    let moved = with(&[("10.0.2.1:5432", true), ("10.0.2.2:5432", false), ("10.0.2.3:5432", false)]);
    assert_eq!(targets(&world), moved);
    resolve(&mut world, "db.example.com:5432", &[]);
    assert_eq!(targets(&world), moved, "a name without addresses takes nothing away");
    resolve(&mut world, "db.example.com:5432", &["10.0.2.1"]);
    let back = with(&[("10.0.2.1:5432", false), ("10.0.2.2:5432", true), ("10.0.2.3:5432", true)]);
    assert_eq!(targets(&world), back, "it is revived");

    world.json::<ModifyDnsTargets>(names(&["web.example.com"], &["db.example.com:5432"])).unwrap();
    resolve(&mut world, "web.example.com", &["10.0.1.10", "10.0.2.9"]);
    resolve(&mut world, "web.example.com", &["10.0.2.9"]);
    let left: Vec<String> = targets(&world).into_iter().filter(|(_, drains)| !drains).map(|(text, _)| text).collect();
    assert_eq!(left, ["10.0.1.10:80", "10.0.1.11:81", "10.0.2.9:80"], "what was registered by hand stays that");
    assert_eq!(refusal(world.json::<ModifyDnsTargets>(names(&[], &[]))).0, "ValidationError");
}
