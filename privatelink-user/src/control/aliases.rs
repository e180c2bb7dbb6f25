//! Which aliases an endpoint may have.

use std::collections::BTreeSet;

use super::{ControlError, address};
use crate::model::{Alias, EndpointId, State, Vpc, overlap};

/// Refuses `aliases` that an endpoint of `vpc` cannot have; `endpoint` is the one that has them, if it is there
/// already. A prefix is outside the VPC's range, a single address inside it is nobody's, and no other endpoint of the
/// VPC has an equal one.
pub fn check(
    state: &State,
    vpc: &Vpc,
    aliases: &BTreeSet<Alias>,
    endpoint: Option<&EndpointId>,
) -> Result<(), ControlError> {
    if aliases.len() > MOST {
        return Err(ControlError::TooManyAliases { limit: MOST });
    }
    let present = endpoint.and_then(|id| state.endpoints.get(id)).map(|endpoint| &endpoint.aliases);
    let added = |alias: &&Alias| present.is_none_or(|present| !present.contains(alias));
    for alias in aliases.iter().filter(added) {
        let cidr = vpc.cidr.net();
        match alias.address() {
            Some(address) if cidr.contains(&address) => address::check_free(state, vpc, address.into())?,
            None if overlap(cidr, alias.net()) => return Err(ControlError::AliasOverlapsVpc { alias: *alias, cidr }),
            Some(_) | None => {}
        }
        let holder = |other: &&crate::model::Endpoint| other.vpc == vpc.id && other.aliases.contains(alias);
        if let Some(other) = state.endpoints.values().find(holder) {
            return Err(ControlError::AliasInUse { alias: *alias, endpoint: other.id.clone() });
        }
    }
    Ok(())
}

/// The most aliases of one endpoint.
const MOST: usize = 100;
