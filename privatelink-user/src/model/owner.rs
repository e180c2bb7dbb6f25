//! Whose a resource is, and what of the world an owner works with.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{AccountId, Region, State};

/// Whose a resource is: an account's, in one region. Two owners never see each other's resources, except what consent
/// makes visible.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    pub account: AccountId,
    pub region: Region,
}

#[cfg(test)]
impl Owner {
    /// The owner in tests that are about something else.
    pub fn example() -> Self {
        Self { account: "123456789012".parse().expect("an account"), region: "us-east-1".parse().expect("a region") }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, region } = self;
        f.pad(&format!("{account}/{region}"))
    }
}

impl State {
    /// What `owner` works with: its own resources and nothing else. Names, addresses and references are decided on
    /// this, so that an operation cannot touch what its caller does not own. VPCs, endpoint services and endpoints say
    /// whose they are; load balancers, target groups, listeners and certificates carry it in their ARN; ports, subnets,
    /// route tables, instances and security groups are their VPC's.
    pub fn seen_by(&self, owner: &Owner) -> Self {
        let Self {
            vpcs,
            ports,
            security_groups,
            load_balancers,
            listeners,
            target_groups,
            application_listeners,
            listener_rules,
            endpoint_services,
            endpoints,
            gateway_endpoints,
            links,
            subnets,
            route_tables,
            notifications,
            notices,
            instances,
            tags,
            accounts,
            client_tokens,
            certificates,
            last_vpc_index,
            service_domain,
        } = self;
        let own = vpcs.filtered(|vpc| vpc.owner == *owner);
        let mut seen = Self {
            ports: ports.filtered(|port| own.contains_key(&port.vpc)),
            links: links.filtered(|link| link.owner == *owner),
            notifications: notifications.filtered(|one| one.owner == *owner),
            notices: notices.filtered(|notice| notice.owner == *owner),
            subnets: subnets.filtered(|subnet| own.contains_key(&subnet.vpc)),
            route_tables: route_tables.filtered(|table| own.contains_key(&table.vpc)),
            gateway_endpoints: gateway_endpoints.filtered(|endpoint| own.contains_key(&endpoint.vpc)),
            instances: instances.filtered(|instance| own.contains_key(&instance.vpc)),
            security_groups: security_groups.filtered(|group| own.contains_key(&group.vpc)),
            vpcs: own,
            load_balancers: load_balancers.filtered(|lb| lb.id.belongs_to(owner)),
            listeners: listeners.filtered(|listener| listener.id.belongs_to(owner)),
            target_groups: target_groups.filtered(|group| group.id.belongs_to(owner)),
            application_listeners: application_listeners.filtered(|listener| listener.id.belongs_to(owner)),
            listener_rules: listener_rules.filtered(|rule| rule.id.belongs_to(owner)),
            endpoint_services: endpoint_services.filtered(|service| service.owner == *owner),
            endpoints: endpoints.filtered(|endpoint| endpoint.owner == *owner),
            tags: tags.clone(),
            accounts: accounts.filtered(|account| account.owner == *owner),
            client_tokens: client_tokens.filtered(|token| token.owner == *owner),
            certificates: certificates.filtered(|certificate| certificate.id.belongs_to(owner)),
            last_vpc_index: *last_vpc_index,
            service_domain: service_domain.clone(),
        };
        // Everything that can have tags is a VPC's, or one of these.
        let alone = seen.vpcs.same(vpcs)
            && seen.load_balancers.same(load_balancers)
            && seen.target_groups.same(target_groups)
            && seen.endpoint_services.same(endpoint_services)
            && seen.endpoints.same(endpoints);
        if !alone {
            seen.tags = tags.filtered(|tags| seen.has_tagged(&tags.resource));
        }
        seen
    }
}
