//! An endpoint service: load balancers that endpoints of other VPCs may lead to.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AccountId, Consent, ConsumerLists, EndpointId, EndpointServiceId, EndpointState, InvalidValue, Limits,
    LoadBalancerId, Owner, Principal, PrivateDns, Region, ResourceName, State, Zone, invalid::serde_as_text,
};

/// Load balancers that endpoints of other VPCs may lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndpointService {
    pub id: EndpointServiceId,
    pub owner: Owner,
    /// What a consumer asks for: `com.amazonaws.vpce.<region>.<id>`.
    pub service_name: ServiceName,
    /// A short name of this host's own for the service; unique among its owner's services.
    pub alias: Option<ResourceName>,
    /// At least one; a load balancer serves one endpoint service only. An endpoint has the listeners of all of them;
    /// where two have the same port, the first one's.
    pub load_balancers: Vec<LoadBalancerId>,
    /// In which endpoints may be: those in which the load balancers had addresses when the service was made or changed
    /// last. Zones that they get later are the service's after its next change.
    #[serde(default)]
    pub zones: BTreeSet<Zone>,
    /// Other regions than its own in which endpoints may be made. One that is taken away keeps the endpoints that it
    /// has.
    #[serde(default)]
    pub supported_regions: BTreeSet<Region>,
    /// Endpoints have IPv4 addresses only, also where every load balancer has IPv6 ones.
    #[serde(default)]
    pub ipv4_only: bool,
    /// Whether an endpoint waits for its acceptance. A change leaves the endpoints that there are as they are.
    pub acceptance_required: bool,
    /// Who may make endpoints, besides the service's own account.
    pub principals: BTreeSet<Principal>,
    /// Whose endpoints are accepted or rejected without asking.
    #[serde(default)]
    pub consumers: ConsumerLists,
    /// The load balancer that was made with the service, which publishes addresses: it goes with the service, and so do
    /// its listeners and target groups. One of the service's load balancers.
    #[serde(default)]
    pub owned_load_balancer: Option<LoadBalancerId>,
    /// The name by which consumers may reach their endpoints, once it is verified.
    #[serde(default)]
    pub private_dns: Option<PrivateDns>,
    /// Of each endpoint that has none of its own.
    #[serde(default)]
    pub limits: Limits,
    /// Who pays for new endpoints; once it is the service's owner, it stays so.
    #[serde(default)]
    pub payer: PayerResponsibility,
    pub created_at: Timestamp,
}

/// Whose account pays for an endpoint. Nobody counts money here: it is kept and shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PayerResponsibility {
    #[default]
    EndpointOwner,
    ServiceOwner,
}

impl PayerResponsibility {
    /// As an endpoint's settings name it.
    pub fn account_type(self) -> &'static str {
        match self {
            Self::EndpointOwner => "vpc-endpoint-account",
            Self::ServiceOwner => "vpc-endpoint-service-account",
        }
    }
}

impl FromStr for PayerResponsibility {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = [Self::EndpointOwner, Self::ServiceOwner];
        known.into_iter().find(|one| one.to_string() == text).ok_or_else(|| {
            let rule = "must be one of '[endpoint-owner, service-owner]'";
            InvalidValue::new("PayerResponsibility", text, rule, "use endpoint-owner, or service-owner")
        })
    }
}

impl fmt::Display for PayerResponsibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::EndpointOwner => "endpoint-owner",
            Self::ServiceOwner => "service-owner",
        })
    }
}

impl State {
    /// The zones in which a service's load balancers have addresses. One whose addresses are in no subnet is reached in
    /// all.
    pub fn zones_of(&self, service: &EndpointService) -> BTreeSet<Zone> {
        let lbs = service.load_balancers.iter().filter_map(|id| self.load_balancers.get(id));
        let subnets = lbs.flat_map(|lb| lb.addresses.iter().map(|address| self.subnet_of(&lb.vpc, *address)));
        let found: Vec<Option<Zone>> = subnets.map(|subnet| subnet.map(|subnet| subnet.zone)).collect();
        let all = found.contains(&None);
        Zone::ALL.into_iter().filter(|zone| all || found.contains(&Some(*zone))).collect()
    }
}

impl EndpointService {
    /// Every region in which endpoints may be made, its own first.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        std::iter::once(&self.owner.region).chain(&self.supported_regions)
    }

    /// The state of a new endpoint, `endpoint` of `account`.
    pub fn first_state(&self, account: &AccountId, endpoint: &EndpointId) -> EndpointState {
        match self.consumers.answer(account, endpoint) {
            Consent::Accept => EndpointState::Available,
            Consent::Reject => EndpointState::Rejected,
            Consent::Ask => EndpointState::initial(self.acceptance_required),
        }
    }
}

/// The name of an endpoint service, `com.amazonaws.vpce.<region>.<service id>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    text: String,
    service: EndpointServiceId,
}

impl ServiceName {
    const PREFIX: &str = "com.amazonaws.vpce.";

    /// The name of service `id` in `region`.
    pub fn new(region: &Region, id: &EndpointServiceId) -> Self {
        Self { text: format!("{}{region}.{id}", Self::PREFIX), service: id.clone() }
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The service's id, which is part of the name.
    pub fn service(&self) -> EndpointServiceId {
        self.service.clone()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for ServiceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parts = text.strip_prefix(Self::PREFIX).and_then(|rest| rest.split_once('.'));
        match parts.map(|(region, id)| (region.parse::<Region>(), id.parse::<EndpointServiceId>())) {
            Some((Ok(_), Ok(service))) => Ok(Self { text: text.to_owned(), service }),
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
