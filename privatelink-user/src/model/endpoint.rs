//! An endpoint: an address in a consumer's VPC that leads to one endpoint service.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::Ipv4Net;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Alias, DnsRecordIpType, EndpointId, EndpointServiceId, IpAddressType, Limits, OwnLimits, Owner,
    PayerResponsibility, PolicyDocument, PrivateDnsName, Region, SecurityGroups, ServiceName, VpcId,
};

/// An address in a consumer's VPC that leads to one endpoint service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub id: EndpointId,
    pub owner: Owner,
    /// Of any owner. A rejected or expired endpoint may outlive it.
    pub service: EndpointServiceId,
    /// The service's region. None: the endpoint's own.
    #[serde(default)]
    pub service_region: Option<Region>,
    /// The consumer's VPC.
    pub vpc: VpcId,
    /// Inside the VPC's CIDR; kept for the endpoint's life.
    pub address: Ipv4Addr,
    /// Addresses in further subnets, one a zone; as good as the first.
    #[serde(default)]
    pub further_addresses: Vec<Ipv4Addr>,
    /// Inside the VPC's IPv6 range; as good as the others.
    #[serde(default)]
    pub ipv6_addresses: Vec<Ipv6Addr>,
    /// Addresses that hosts of the VPC route to it. Several endpoints of a VPC may have overlapping ones, of which the
    /// longest counts, but no equal ones. Outside the VPC's range, or single addresses of it that are nobody's; those
    /// are answered for like its own.
    #[serde(default)]
    pub aliases: BTreeSet<Alias>,
    /// Which of its addresses its names answer with; fits them. None: nobody has chosen, and they answer with all.
    #[serde(default)]
    pub dns_record_ip_type: Option<DnsRecordIpType>,
    pub state: EndpointState,
    /// Who in the VPC may connect.
    #[serde(default)]
    pub security_groups: SecurityGroups,
    /// The name of the service's for which it answers in its VPC while it is available. It keeps that if the service's
    /// changes or loses its verification.
    #[serde(default)]
    pub private_dns: Option<PrivateDnsName>,
    /// What the service's owner has set for this endpoint in place of the service's limits. A new endpoint has none.
    #[serde(default)]
    pub limits: OwnLimits,
    /// Whether it is to answer for that name as soon as its acceptance and the name's verification allow it.
    #[serde(default)]
    pub private_dns_on_acceptance: bool,
    /// None: the default one.
    #[serde(default)]
    pub policy: Option<PolicyDocument>,
    #[serde(default)]
    pub payer: PayerResponsibility,
    pub created_at: Timestamp,
}

impl Endpoint {
    /// Every address of both families, the first one first.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses().map(IpAddr::V4).chain(self.ipv6_addresses.iter().copied().map(IpAddr::V6))
    }

    /// The families of its addresses.
    pub fn ip_address_type(&self) -> IpAddressType {
        IpAddressType::with(&self.ipv6_addresses)
    }

    /// The records that its names have.
    pub fn dns_record_ip_type(&self) -> DnsRecordIpType {
        self.dns_record_ip_type.unwrap_or(DnsRecordIpType::of(self.ip_address_type()))
    }

    /// Every IPv4 address, the first one first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        std::iter::once(self.address).chain(self.further_addresses.iter().copied())
    }

    /// The aliases that are addresses of its VPC, whose range is `cidr`.
    pub fn inner_aliases(&self, cidr: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.aliases.iter().filter_map(|alias| alias.address()).filter(move |address| cidr.contains(address))
    }

    /// The region of the service that it leads to.
    pub fn service_region(&self) -> &Region {
        self.service_region.as_ref().unwrap_or(&self.owner.region)
    }

    /// The name of the service that it leads to.
    pub fn service_name(&self) -> ServiceName {
        ServiceName::new(self.service_region(), &self.service)
    }

    /// The limits that hold for it if its service has `defaults`.
    pub fn limits(&self, defaults: Limits) -> Limits {
        self.limits.over(defaults)
    }

    /// When it expires unless it is accepted before; none if it does not wait.
    pub fn expires_at(&self) -> Option<Timestamp> {
        let at = || self.created_at.checked_add(EndpointState::PATIENCE).unwrap_or(Timestamp::MAX);
        (self.state == EndpointState::PendingAcceptance).then(at)
    }
}

/// Where an endpoint stands. Traffic flows in `available` only.
///
/// ```text
///  created ─┬─ acceptance required ─► pendingAcceptance ── 7 days ──► expired
///           │                          │ accept   │ reject               │
///           │                          ▼          ▼                      │
///           └─ not required ───────► available ◄─► rejected              │
///                                      ▲  accept / reject                │
///                                      └──────────── accept ─────────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    /// The service's owner has not answered yet.
    PendingAcceptance,
    Available,
    /// The service's owner has said no.
    Rejected,
    /// The service's owner has not answered in time.
    Expired,
}

impl EndpointState {
    /// How long an endpoint waits for acceptance.
    pub const PATIENCE: SignedDuration = SignedDuration::from_hours(7 * 24);

    /// The state of a new endpoint.
    pub fn initial(acceptance_required: bool) -> Self {
        if acceptance_required { Self::PendingAcceptance } else { Self::Available }
    }

    /// After the service's owner has accepted it.
    pub fn accepted(self) -> Self {
        match self {
            Self::PendingAcceptance | Self::Available | Self::Rejected | Self::Expired => Self::Available,
        }
    }

    /// After the service's owner has rejected it; none if there is nothing to reject.
    pub fn rejected(self) -> Option<Self> {
        match self {
            Self::PendingAcceptance | Self::Available | Self::Rejected => Some(Self::Rejected),
            Self::Expired => None,
        }
    }

    /// Whether it keeps its service from being deleted: it carries traffic, or its consumer waits for an answer.
    pub fn holds_service(self) -> bool {
        match self {
            Self::PendingAcceptance | Self::Available => true,
            Self::Rejected | Self::Expired => false,
        }
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PendingAcceptance => "pendingAcceptance",
            Self::Available => "available",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::tests::World, model::DnsRecordIpType};

    /// The endpoint as a store of before `field` has it.
    fn stored_without(endpoint: &Endpoint, field: &str) -> Endpoint {
        let mut record = serde_json::to_value(endpoint).expect("JSON");
        record.as_object_mut().expect("an object").remove(field).expect("the field");
        serde_json::from_value(record).expect("an endpoint")
    }

    #[test]
    fn the_names_of_a_stored_endpoint_without_a_choice_have_all_its_addresses() {
        let mut endpoint = World::published().state.endpoints.values().next().expect("an endpoint").clone();
        for (six, records) in [(vec![], DnsRecordIpType::Ipv4), (vec![Ipv6Addr::LOCALHOST], DnsRecordIpType::Dualstack)]
        {
            endpoint.ipv6_addresses = six;
            let stored = stored_without(&endpoint, "dns_record_ip_type");
            assert_eq!((stored.dns_record_ip_type, stored.dns_record_ip_type()), (None, records));
        }
    }

    #[test]
    fn a_stored_endpoint_without_a_region_leads_to_a_service_of_its_own() {
        let state = World::published().state;
        let endpoint = state.endpoints.values().next().expect("an endpoint");
        let stored = stored_without(endpoint, "service_region");
        assert_eq!(stored.service_region(), &endpoint.owner.region);
        let service = state.endpoint_services.values().next().expect("a service");
        let mut record = serde_json::to_value(service).expect("JSON");
        record.as_object_mut().expect("an object").remove("supported_regions").expect("the field");
        let stored: crate::model::EndpointService = serde_json::from_value(record).expect("a service");
        assert!(stored.regions().eq([&stored.owner.region]));
    }
}
