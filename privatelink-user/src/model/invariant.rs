//! What holds between resources in every state.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::Ipv4Net;

use super::{
    AddressUse, Alias, Direction, EndpointId, EndpointService, EndpointServiceId, Forward, Instance, InstanceId,
    InterfaceName, IpFamily, LinkId, ListenerId, LoadBalancerId, Peer, ResourceName, RouteTableId, SecurityGroup,
    SecurityGroupId, SecurityGroupName, State, Subnet, SubnetId, TaggedId, Target, TargetGroup, TargetGroupId,
    TargetType, Vpc, VpcId, VpcIndex,
};

/// A rule between resources that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvariantViolation {
    #[error("VPC index {0} is used twice")]
    DuplicateVpcIndex(VpcIndex),
    #[error("the name '{0}' is used twice for the same kind of resource")]
    DuplicateName(ResourceName),
    #[error("load balancer '{0}' is in another owner's VPC")]
    LoadBalancerOwner(LoadBalancerId),
    #[error("target group '{0}' is in another owner's VPC")]
    TargetGroupOwner(TargetGroupId),
    #[error("endpoint service '{0}' has another owner's load balancer")]
    ServiceOwner(EndpointServiceId),
    #[error("endpoint '{0}' is in another owner's VPC")]
    EndpointOwner(EndpointId),
    #[error("port '{0}' belongs to a VPC that does not exist")]
    PortVpcMissing(InterfaceName),
    #[error("load balancer '{0}' is in a VPC that does not exist")]
    LoadBalancerVpcMissing(LoadBalancerId),
    #[error("security group '{0}' is in a VPC that does not exist")]
    SecurityGroupVpcMissing(SecurityGroupId),
    #[error("the name '{1}' is used twice in VPC '{0}'")]
    DuplicateSecurityGroupName(VpcId, SecurityGroupName),
    #[error("security group '{0}' has two rules that allow the same, or more rules than it may have")]
    SecurityGroupRules(SecurityGroupId),
    #[error("security group '{0}' has a rule about '{1}', which is not in its VPC")]
    SecurityGroupPeer(SecurityGroupId, SecurityGroupId),
    #[error("{0} carries security group '{1}', which is not in its VPC")]
    SecurityGroupForeign(String, SecurityGroupId),
    #[error("{0} carries too many security groups")]
    SecurityGroupsTooMany(String),
    #[error("load balancer '{0}' has no node address")]
    LoadBalancerWithoutAddress(LoadBalancerId),
    #[error("target group '{0}' is in a VPC that does not exist")]
    TargetGroupVpcMissing(TargetGroupId),
    #[error("target group '{0}' has a target that does not fit its target type")]
    TargetGroupTargets(TargetGroupId),
    #[error("instance '{0}' is in a VPC that does not exist")]
    InstanceVpcMissing(InstanceId),
    #[error("target group '{0}' has settings outside their range")]
    TargetGroupSettings(TargetGroupId),
    #[error("listener '{0}' belongs to a load balancer that does not exist")]
    ListenerLoadBalancerMissing(ListenerId),
    #[error("listener '{0}' leads to a target group that does not exist")]
    ListenerTargetGroupMissing(ListenerId),
    #[error("listener '{0}' leads to a target group of another VPC or of a protocol that does not fit")]
    ListenerTargetGroupMismatch(ListenerId),
    #[error("listener '{0}' leads to targets of both IP families, or to IPv6 ones without an IPv6 node address")]
    ListenerFamilies(ListenerId),
    #[error("listener '{0}' has a forward action that cannot be")]
    ListenerForward(ListenerId),
    #[error("load balancer '{0}' has two listeners on port {1}")]
    DuplicateListener(LoadBalancerId, u16),
    #[error("endpoint service '{0}' has no load balancer, or one that does not exist")]
    ServiceLoadBalancerMissing(EndpointServiceId),
    #[error("load balancer '{0}' serves two endpoint services")]
    LoadBalancerShared(LoadBalancerId),
    #[error("endpoint '{0}' is in a VPC that does not exist")]
    EndpointVpcMissing(EndpointId),
    #[error("{1} in VPC '{0}' is an alias of two endpoints, or overlaps the VPC's range")]
    AliasConflict(VpcId, Alias),
    #[error("endpoint '{0}' leads to a service of another region")]
    EndpointRegion(EndpointId),
    #[error("endpoint '{0}' leads to an endpoint service that does not exist")]
    EndpointServiceMissing(EndpointId),
    #[error("endpoint service '{0}' says that it owns a load balancer that it does not have")]
    OwnedLoadBalancer(EndpointServiceId),
    #[error(
        "link '{0}' has services or endpoints that do not exist, are another owner's, or do not lead to each other"
    )]
    LinkParts(LinkId),
    #[error("{address} is {by}, but VPC '{vpc}' has no such host address")]
    AddressOutsideVpc { vpc: VpcId, address: IpAddr, by: AddressUse },
    #[error("{address} of VPC '{vpc}' is both {first} and {second}")]
    AddressConflict { vpc: VpcId, address: IpAddr, first: AddressUse, second: AddressUse },
    #[error("subnet '{0}' is in a VPC that does not exist, or outside its range")]
    SubnetOutsideVpc(SubnetId),
    #[error("subnets '{0}' and '{1}' overlap")]
    SubnetsOverlap(SubnetId, SubnetId),
    #[error(
        "route table '{0}' is in a VPC that does not exist, has its range as a destination, or another VPC's subnet"
    )]
    RouteTable(RouteTableId),
    #[error("subnet '{0}' has two route tables")]
    SubnetRouteTables(SubnetId),
    #[error("'{0}' has tags and does not exist")]
    TagsWithoutResource(TaggedId),
    #[error("port 0 in '{0}'")]
    PortZero(String),
}

/// Whether two prefixes have an address in common: one then holds the other.
pub fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// The first of `values` that comes twice.
fn duplicate<T: Ord>(values: impl IntoIterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    for value in values {
        if seen.contains(&value) {
            return Some(value);
        }
        seen.insert(value);
    }
    None
}

impl State {
    /// Whether every rule between resources holds. Each accepted operation keeps it so.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        self.check_names()?;
        self.check_references()?;
        self.check_security_groups()?;
        self.check_listeners()?;
        self.check_subnets()?;
        self.check_addresses()
    }

    fn check_subnets(&self) -> Result<(), InvariantViolation> {
        let mut ranges: BTreeMap<(&VpcId, Ipv4Addr), &Subnet> = BTreeMap::new();
        let mut ranges6: BTreeMap<(&VpcId, Ipv6Addr), (&Subnet, Ipv6Addr)> = BTreeMap::new();
        for subnet in self.subnets.values() {
            let inside = |vpc: &Vpc| vpc.cidr.net().contains(&subnet.cidr.net());
            if !self.vpcs.get(&subnet.vpc).is_some_and(inside) {
                return Err(InvariantViolation::SubnetOutsideVpc(subnet.id.clone()));
            }
            let inside = |vpc: &Vpc| {
                let range = vpc.ipv6.map(|ipv6| ipv6.cidr.net());
                subnet.ipv6_cidr.is_none_or(|cidr| range.is_some_and(|range| range.contains(&cidr.net())))
            };
            if !self.vpcs.get(&subnet.vpc).is_some_and(inside) {
                return Err(InvariantViolation::SubnetOutsideVpc(subnet.id.clone()));
            }
            if let Some(other) = subnet.ipv6_cidr.and_then(|cidr| {
                ranges6
                    .insert((&subnet.vpc, cidr.net().network()), (subnet, cidr.net().broadcast()))
                    .map(|(other, _)| other)
            }) {
                return Err(InvariantViolation::SubnetsOverlap(other.id.clone(), subnet.id.clone()));
            }
            if let Some(other) = ranges.insert((&subnet.vpc, subnet.cidr.net().network()), subnet) {
                return Err(InvariantViolation::SubnetsOverlap(other.id.clone(), subnet.id.clone()));
            }
        }
        // In order of their first addresses, ranges that overlap are neighbours.
        for (first, second) in ranges.values().zip(ranges.values().skip(1)) {
            if first.vpc == second.vpc && first.cidr.net().contains(&second.cidr.net().network()) {
                return Err(InvariantViolation::SubnetsOverlap(first.id.clone(), second.id.clone()));
            }
        }
        for (((vpc, _), (subnet, last)), ((of, first), (other, _))) in ranges6.iter().zip(ranges6.iter().skip(1)) {
            if vpc == of && first <= last {
                return Err(InvariantViolation::SubnetsOverlap(subnet.id.clone(), other.id.clone()));
            }
        }
        for table in self.route_tables.values() {
            let foreign = |id: &SubnetId| self.subnets.get(id).is_none_or(|subnet| subnet.vpc != table.vpc);
            let local = |vpc: &Vpc| table.routes.contains_key(&vpc.cidr.net());
            if self.vpcs.get(&table.vpc).is_none_or(local) || table.subnets.iter().any(foreign) {
                return Err(InvariantViolation::RouteTable(table.id.clone()));
            }
        }
        if let Some(subnet) = duplicate(self.route_tables.values().flat_map(|table| &table.subnets)) {
            return Err(InvariantViolation::SubnetRouteTables(subnet.clone()));
        }
        match self.tags.keys().find(|id| !self.has_tagged(id)) {
            Some(id) => Err(InvariantViolation::TagsWithoutResource(id.clone())),
            None => Ok(()),
        }
    }

    fn check_names(&self) -> Result<(), InvariantViolation> {
        if let Some(index) = duplicate(self.vpcs.values().map(|vpc| vpc.index)) {
            return Err(InvariantViolation::DuplicateVpcIndex(index));
        }
        let named = |service: &'_ EndpointService| service.alias.clone().map(|alias| (service.owner.clone(), alias));
        let name = duplicate(self.vpcs.values().map(|vpc| (&vpc.owner, &vpc.name)))
            .map(|(_, name)| name.clone())
            .or_else(|| {
                duplicate(self.load_balancers.values().map(|lb| (lb.id.scope(), &lb.name)))
                    .map(|(_, name)| name.clone())
            })
            .or_else(|| {
                let names = self.target_groups.values().map(|group| (group.id.scope(), &group.name));
                duplicate(names).map(|(_, name)| name.clone())
            })
            .or_else(|| {
                let alive = self.instances.values().filter(|instance| instance.is_alive());
                let names = alive.map(|instance| (self.vpcs.get(&instance.vpc).map(|vpc| &vpc.owner), &instance.name));
                duplicate(names).map(|(_, name)| name.clone())
            })
            .or_else(|| duplicate(self.endpoint_services.values().filter_map(named)).map(|(_, alias)| alias))
            .or_else(|| {
                duplicate(self.links.values().map(|link| (&link.owner, &link.name))).map(|(_, name)| name.clone())
            });
        name.map_or(Ok(()), |name| Err(InvariantViolation::DuplicateName(name)))
    }

    fn check_references(&self) -> Result<(), InvariantViolation> {
        for port in self.ports.values() {
            if !self.vpcs.contains_key(&port.vpc) {
                return Err(InvariantViolation::PortVpcMissing(port.interface.clone()));
            }
        }
        for lb in self.load_balancers.values() {
            let Some(vpc) = self.vpcs.get(&lb.vpc) else {
                return Err(InvariantViolation::LoadBalancerVpcMissing(lb.id.clone()));
            };
            if !lb.id.belongs_to(&vpc.owner) {
                return Err(InvariantViolation::LoadBalancerOwner(lb.id.clone()));
            }
            if lb.addresses.is_empty() {
                return Err(InvariantViolation::LoadBalancerWithoutAddress(lb.id.clone()));
            }
        }
        for group in self.target_groups.values() {
            let Some(vpc) = self.vpcs.get(&group.vpc) else {
                return Err(InvariantViolation::TargetGroupVpcMissing(group.id.clone()));
            };
            if !group.id.belongs_to(&vpc.owner) {
                return Err(InvariantViolation::TargetGroupOwner(group.id.clone()));
            }
            if group.port == 0 || group.targets.keys().any(|target| target.port == 0) {
                return Err(InvariantViolation::PortZero(group.id.to_string()));
            }
            if !self.fits_target_type(group) {
                return Err(InvariantViolation::TargetGroupTargets(group.id.clone()));
            }
            if group.health_check.clone().validate().is_err() {
                return Err(InvariantViolation::TargetGroupSettings(group.id.clone()));
            }
        }
        for instance in self.instances.values() {
            if !self.vpcs.contains_key(&instance.vpc) {
                return Err(InvariantViolation::InstanceVpcMissing(instance.id.clone()));
            }
        }
        for service in self.endpoint_services.values() {
            let missing = |id: &LoadBalancerId| !self.load_balancers.contains_key(id);
            if service.load_balancers.is_empty() || service.load_balancers.iter().any(missing) {
                return Err(InvariantViolation::ServiceLoadBalancerMissing(service.id.clone()));
            }
            if !service.load_balancers.iter().all(|lb| lb.belongs_to(&service.owner)) {
                return Err(InvariantViolation::ServiceOwner(service.id.clone()));
            }
            if service.owned_load_balancer.as_ref().is_some_and(|owned| !service.load_balancers.contains(owned)) {
                return Err(InvariantViolation::OwnedLoadBalancer(service.id.clone()));
            }
        }
        if let Some(lb) = duplicate(self.endpoint_services.values().flat_map(|service| &service.load_balancers)) {
            return Err(InvariantViolation::LoadBalancerShared(lb.clone()));
        }
        for endpoint in self.endpoints.values() {
            let Some(vpc) = self.vpcs.get(&endpoint.vpc) else {
                return Err(InvariantViolation::EndpointVpcMissing(endpoint.id.clone()));
            };
            if vpc.owner != endpoint.owner {
                return Err(InvariantViolation::EndpointOwner(endpoint.id.clone()));
            }
            match self.endpoint_services.get(&endpoint.service) {
                Some(service) if service.owner.region != endpoint.owner.region => {
                    return Err(InvariantViolation::EndpointRegion(endpoint.id.clone()));
                }
                None if endpoint.state.holds_service() => {
                    return Err(InvariantViolation::EndpointServiceMissing(endpoint.id.clone()));
                }
                Some(_) | None => {}
            }
        }
        for link in self.links.values() {
            let [first, second] = &link.sides;
            let leads = |endpoint: &EndpointId, service: &EndpointServiceId| {
                self.endpoints.get(endpoint).is_some_and(|at| at.owner == link.owner && at.service == *service)
                    && self.endpoint_services.get(service).is_some_and(|service| service.owner == link.owner)
            };
            if !leads(&first.endpoint, &second.service) || !leads(&second.endpoint, &first.service) {
                return Err(InvariantViolation::LinkParts(link.id.clone()));
            }
        }
        Ok(())
    }

    /// Whether a group of type `ip` has addresses only, and one of type `instance` instances of its VPC that are there, each
    /// at its primary address; one that drains may be gone.
    fn fits_target_type(&self, group: &TargetGroup) -> bool {
        let family = |target: &Target| IpFamily::of(target.address.ip) == group.ip_address_type;
        let possible = group.target_type == TargetType::Ip || group.ip_address_type == IpFamily::Ipv4;
        if !possible || !group.targets.values().all(family) {
            return false;
        }
        group.targets.values().all(|target| match (group.target_type, &target.instance) {
            (TargetType::Ip, instance) => instance.is_none(),
            (TargetType::Instance, None) => false,
            (TargetType::Instance, Some(_)) if target.draining_since.is_some() => true,
            (TargetType::Instance, Some(id)) => self.instances.get(id).is_some_and(|instance| {
                instance.is_alive() && instance.vpc == group.vpc && target.address.ip == instance.address
            }),
        })
    }

    fn check_security_groups(&self) -> Result<(), InvariantViolation> {
        for group in self.security_groups.values() {
            if !self.vpcs.contains_key(&group.vpc) {
                return Err(InvariantViolation::SecurityGroupVpcMissing(group.id.clone()));
            }
            let allowed = group.rules.values().map(|rule| (rule.direction, rule.traffic, &rule.peer));
            let many = |direction| group.rules(direction).count() > SecurityGroup::MAX_RULES;
            if duplicate(allowed).is_some() || many(Direction::Ingress) || many(Direction::Egress) {
                return Err(InvariantViolation::SecurityGroupRules(group.id.clone()));
            }
            for rule in group.rules.values() {
                if let Peer::Group(peer) = &rule.peer
                    && self.security_groups.get(peer).is_none_or(|found| found.vpc != group.vpc)
                {
                    return Err(InvariantViolation::SecurityGroupPeer(group.id.clone(), peer.clone()));
                }
            }
        }
        if let Some((vpc, name)) = duplicate(self.security_groups.values().map(|group| (&group.vpc, &group.name))) {
            return Err(InvariantViolation::DuplicateSecurityGroupName(vpc.clone(), name.clone()));
        }
        let by_load_balancers =
            self.load_balancers.values().map(|lb| (lb.id.to_string(), &lb.vpc, &lb.security_groups.groups));
        let by_endpoints = self
            .endpoints
            .values()
            .map(|endpoint| (endpoint.id.to_string(), &endpoint.vpc, &endpoint.security_groups.groups));
        let by_instances = self
            .instances
            .values()
            .filter(|instance| instance.is_alive())
            .map(|instance: &Instance| (instance.id.to_string(), &instance.vpc, &instance.security_groups));
        for (carrier, vpc, groups) in by_load_balancers.chain(by_endpoints).chain(by_instances) {
            if groups.len() > SecurityGroup::MAX_PER_RESOURCE {
                return Err(InvariantViolation::SecurityGroupsTooMany(carrier));
            }
            let foreign = |id: &&SecurityGroupId| self.security_groups.get(*id).is_none_or(|group| group.vpc != *vpc);
            if let Some(group) = groups.iter().find(foreign) {
                return Err(InvariantViolation::SecurityGroupForeign(carrier, group.clone()));
            }
        }
        Ok(())
    }

    fn check_listeners(&self) -> Result<(), InvariantViolation> {
        for listener in self.listeners.values() {
            if listener.port == 0 {
                return Err(InvariantViolation::PortZero(listener.id.to_string()));
            }
            let Some(lb) = self.load_balancers.get(&listener.load_balancer) else {
                return Err(InvariantViolation::ListenerLoadBalancerMissing(listener.id.clone()));
            };
            if !(1..=Forward::MAX_GROUPS).contains(&listener.forward.weights.len()) {
                return Err(InvariantViolation::ListenerForward(listener.id.clone()));
            }
            let mut families = BTreeSet::new();
            for id in listener.forward.groups() {
                let Some(group) = self.target_groups.get(id) else {
                    return Err(InvariantViolation::ListenerTargetGroupMissing(listener.id.clone()));
                };
                if group.vpc != lb.vpc || !listener.protocol.leads_to(group.protocol) {
                    return Err(InvariantViolation::ListenerTargetGroupMismatch(listener.id.clone()));
                }
                families.insert(group.ip_address_type);
                if group.attributes.stickiness && listener.forward.weights.len() > 1 && !listener.forward.stickiness {
                    return Err(InvariantViolation::ListenerForward(listener.id.clone()));
                }
            }
            if families.len() > 1 || families.contains(&IpFamily::Ipv6) && lb.ipv6_addresses.is_empty() {
                return Err(InvariantViolation::ListenerFamilies(listener.id.clone()));
            }
        }
        match duplicate(self.listeners.values().map(|listener| (&listener.load_balancer, listener.port))) {
            Some((lb, port)) => Err(InvariantViolation::DuplicateListener(lb.clone(), port)),
            None => Ok(()),
        }
    }

    fn check_addresses(&self) -> Result<(), InvariantViolation> {
        let aliases = || self.endpoints.values().flat_map(|at| at.aliases.iter().map(|alias| (&at.vpc, *alias)));
        let overlaps = |(vpc, alias): &(&VpcId, Alias)| {
            alias.address().is_none() && self.vpcs.get(*vpc).is_some_and(|vpc| overlap(vpc.cidr.net(), alias.net()))
        };
        if let Some((vpc, alias)) = duplicate(aliases()).or_else(|| aliases().find(overlaps)) {
            return Err(InvariantViolation::AliasConflict(vpc.clone(), alias));
        }
        for (id, vpc) in &self.vpcs {
            let mut owned: BTreeMap<IpAddr, AddressUse> = BTreeMap::new();
            for (address, by) in self.address_uses(id) {
                // A target may lie behind the VPC's gateway, several groups may share a target, and a host may be all three.
                let (inside, shareable) = match by {
                    AddressUse::Gateway(_) => match address {
                        IpAddr::V4(_) => (vpc.has_host(address), false),
                        IpAddr::V6(router) => (vpc.ipv6.is_some_and(|ipv6| ipv6.has_router(router)), false),
                    },
                    AddressUse::Node(_) | AddressUse::Endpoint(_) => (vpc.has_host(address), false),
                    AddressUse::Instance(_) => {
                        let gateway = matches!(owned.get(&address), Some(AddressUse::Gateway(_)));
                        (vpc.has_host(address), gateway)
                    }
                    AddressUse::Target(_) => (true, true),
                };
                if !inside {
                    return Err(InvariantViolation::AddressOutsideVpc { vpc: id.clone(), address, by });
                }
                match owned.get(&address) {
                    Some(AddressUse::Gateway(_)) if shareable => drop(owned.insert(address, by)),
                    Some(AddressUse::Target(_) | AddressUse::Instance(_)) if shareable => {}
                    Some(first) => {
                        return Err(InvariantViolation::AddressConflict {
                            vpc: id.clone(),
                            address,
                            first: first.clone(),
                            second: by,
                        });
                    }
                    None => {
                        owned.insert(address, by);
                    }
                }
            }
        }
        Ok(())
    }
}
