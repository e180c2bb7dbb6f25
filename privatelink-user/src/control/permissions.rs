//! Who may make endpoints to a service.

use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Mutation, Query, Reference, lookup, operation, view::PermissionView};
use crate::model::{Change, EndpointService, Principal, State};

/// Adds principals to a service and takes some away. Adding one that is there and removing one that is not change
/// nothing; endpoints that exist keep their state.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModifyPermissions {
    pub endpoint_service: Reference,
    #[serde(default)]
    pub add: Vec<Principal>,
    #[serde(default)]
    pub remove: Vec<Principal>,
}
operation!(ModifyPermissions -> Vec<PermissionView>);

impl Mutation for ModifyPermissions {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, Vec<PermissionView>), ControlError> {
        let Self { endpoint_service, add, remove } = self;
        let service = lookup::endpoint_service(state, endpoint_service)?;
        if add.is_empty() && remove.is_empty() {
            return Err(ControlError::PrincipalMissing);
        }
        let mut changed = service.clone();
        for principal in remove {
            changed.principals.remove(principal);
        }
        changed.principals.extend(add.iter().cloned());
        let views = permissions(&changed);
        let change = Change::replace(service, changed);
        Ok((change, views))
    }
}

/// Lists the principals of a service.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribePermissions {
    pub endpoint_service: Reference,
}
operation!(DescribePermissions -> Vec<PermissionView>);

impl Query for DescribePermissions {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<PermissionView>, ControlError> {
        lookup::endpoint_service(state, &self.endpoint_service).map(permissions)
    }
}

fn permissions(service: &EndpointService) -> Vec<PermissionView> {
    service.principals.iter().map(|principal| PermissionView::new(service, principal)).collect()
}
