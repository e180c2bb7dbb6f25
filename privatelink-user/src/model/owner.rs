//! Whose a resource is, and what of the world an owner works with.

use std::{borrow::Cow, collections::BTreeMap, fmt};

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

fn own<K: Ord + Clone, V: Clone>(all: &BTreeMap<K, V>, mine: impl Fn(&V) -> bool) -> BTreeMap<K, V> {
    all.iter().filter(|(_, value)| mine(value)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl State {
    /// What `owner` works with: its own resources and nothing else. Names, addresses and references are decided on this,
    /// so that an operation cannot touch what its caller does not own. VPCs, endpoint services and endpoints say whose
    /// they are; load balancers, target groups, listeners and certificates carry it in their ARN; ports, subnets, route tables, instances
    /// and security groups are their VPC's.
    pub fn seen_by(&self, owner: &Owner) -> Cow<'_, Self> {
        let Self {
            vpcs,
            ports,
            security_groups,
            load_balancers,
            listeners,
            target_groups,
            endpoint_services,
            endpoints,
            links,
            subnets,
            route_tables,
            instances,
            tags,
            accounts,
            client_tokens,
            certificates,
            last_vpc_index,
            service_domain,
        } = self;
        // What is not named here follows a VPC, a load balancer or the tagged resource.
        let alone = vpcs.values().all(|vpc| vpc.owner == *owner)
            && load_balancers.keys().all(|id| id.belongs_to(owner))
            && target_groups.keys().all(|id| id.belongs_to(owner))
            && endpoint_services.values().all(|service| service.owner == *owner)
            && endpoints.values().all(|endpoint| endpoint.owner == *owner)
            && links.values().all(|link| link.owner == *owner)
            && accounts.values().all(|account| account.owner == *owner)
            && client_tokens.values().all(|token| token.owner == *owner)
            && certificates.keys().all(|id| id.belongs_to(owner));
        if alone {
            return Cow::Borrowed(self);
        }
        let vpcs = own(vpcs, |vpc| vpc.owner == *owner);
        let mut seen = Self {
            ports: own(ports, |port| vpcs.contains_key(&port.vpc)),
            links: own(links, |link| link.owner == *owner),
            subnets: own(subnets, |subnet| vpcs.contains_key(&subnet.vpc)),
            route_tables: own(route_tables, |table| vpcs.contains_key(&table.vpc)),
            instances: own(instances, |instance| vpcs.contains_key(&instance.vpc)),
            security_groups: own(security_groups, |group| vpcs.contains_key(&group.vpc)),
            vpcs,
            load_balancers: own(load_balancers, |lb| lb.id.belongs_to(owner)),
            listeners: own(listeners, |listener| listener.id.belongs_to(owner)),
            target_groups: own(target_groups, |group| group.id.belongs_to(owner)),
            endpoint_services: own(endpoint_services, |service| service.owner == *owner),
            endpoints: own(endpoints, |endpoint| endpoint.owner == *owner),
            tags: BTreeMap::new(),
            accounts: own(accounts, |account| account.owner == *owner),
            client_tokens: own(client_tokens, |token| token.owner == *owner),
            certificates: own(certificates, |certificate| certificate.id.belongs_to(owner)),
            last_vpc_index: *last_vpc_index,
            service_domain: service_domain.clone(),
        };
        seen.tags = own(tags, |tags| seen.has_tagged(&tags.resource));
        Cow::Owned(seen)
    }
}
