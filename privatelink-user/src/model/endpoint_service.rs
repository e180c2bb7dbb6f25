//! An endpoint service: a load balancer that endpoints of other VPCs may lead to.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{EndpointServiceId, InvalidValue, LoadBalancerId, Owner, Region, ResourceName, invalid::serde_as_text};

/// A load balancer that endpoints of other VPCs may lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointService {
    pub id: EndpointServiceId,
    pub owner: Owner,
    /// What a consumer asks for: `com.amazonaws.vpce.<region>.<id>`.
    pub service_name: ServiceName,
    /// A short name of this host's own for the service; unique.
    pub alias: Option<ResourceName>,
    /// A load balancer serves one endpoint service only.
    pub load_balancer: LoadBalancerId,
    pub created_at: Timestamp,
}

/// The name of an endpoint service, `com.amazonaws.vpce.<region>.<service id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    const PREFIX: &str = "com.amazonaws.vpce.";

    /// The name of service `id` in `region`.
    pub fn new(region: &Region, id: &EndpointServiceId) -> Self {
        Self(format!("{}{region}.{id}", Self::PREFIX))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ServiceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parts = text.strip_prefix(Self::PREFIX).and_then(|rest| rest.split_once('.'));
        match parts.map(|(region, id)| (region.parse::<Region>(), id.parse::<EndpointServiceId>())) {
            Some((Ok(_), Ok(_))) => Ok(Self(text.to_owned())),
            Some(_) | None => Err(InvalidValue::new(
                "service name",
                text,
                "must be com.amazonaws.vpce.<region>.<service id>",
                "`privatelink endpoint-service list` shows the names",
            )),
        }
    }
}

serde_as_text!(ServiceName);
