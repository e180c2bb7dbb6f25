//! A two-way link: two VPCs that each publish a service to the other, as one thing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EndpointId, EndpointServiceId, LinkId, Owner, ResourceName};

/// Two VPCs of one owner, each of which reaches the other's targets by an address of its own. Its services and
/// endpoints are made and deleted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    pub id: LinkId,
    pub owner: Owner,
    /// Unique among its owner's links.
    pub name: ResourceName,
    pub sides: [LinkSide; 2],
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// One VPC's part of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkSide {
    /// Publishes the targets of this side's VPC.
    pub service: EndpointServiceId,
    /// Is in this side's VPC and leads to the other side's service.
    pub endpoint: EndpointId,
}

impl Link {
    /// Whether `service` is one of its own.
    pub fn has_service(&self, service: &EndpointServiceId) -> bool {
        self.sides.iter().any(|side| side.service == *service)
    }

    /// Whether `endpoint` is one of its own.
    pub fn has_endpoint(&self, endpoint: &EndpointId) -> bool {
        self.sides.iter().any(|side| side.endpoint == *endpoint)
    }
}
