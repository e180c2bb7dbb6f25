//! What holds between resources in every state.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net};

use super::{
    AddressUse, Alias, ApplicationListener, ApplicationListenerId, ApplicationProtocol, CertificateId, Change,
    ConnectionNotification, Direction, Edit, Endpoint, EndpointId, EndpointService, EndpointServiceId, Forward,
    GatewayEndpoint, GroupProtocol, Instance, InstanceId, InterfaceName, IpFamily, Key, Link, LinkId, Listener,
    ListenerId, ListenerPorts, ListenerRule, ListenerRuleId, LoadBalancer, LoadBalancerId, LoadBalancerKind,
    NotificationId, NotificationSubject, Peer, Port, Protocol, RequestForward, ResourceName, RouteTableId, RuleAction,
    SecurityGroup, SecurityGroupId, SecurityGroupName, State, Subnet, SubnetId, TaggedId, Target, TargetGroup,
    TargetGroupId, TargetTrust, TargetType, Vpc, VpcId, VpcIndex,
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
    #[error(
        "target group '{0}' validates certificates of targets that have none, or by a certificate that does not exist"
    )]
    TargetGroupTrust(TargetGroupId),
    #[error("listener '{0}' belongs to a load balancer that does not exist")]
    ListenerLoadBalancerMissing(ListenerId),
    #[error("listener '{0}' leads to a target group that does not exist")]
    ListenerTargetGroupMissing(ListenerId),
    #[error("listener '{0}' leads to a target group of another VPC or of a protocol that does not fit")]
    ListenerTargetGroupMismatch(ListenerId),
    #[error(
        "listener '{0}' leads to targets of both IP families, or to IPv6 ones by TLS or without an IPv6 node address"
    )]
    ListenerFamilies(ListenerId),
    #[error("listener '{0}' has a forward action that cannot be")]
    ListenerForward(ListenerId),
    #[error("listener '{0}' has TLS settings that do not fit, or a certificate that does not exist")]
    ListenerTls(ListenerId),
    #[error("load balancer '{0}' has two listeners on port {1}, or on some of these ports")]
    DuplicateListener(LoadBalancerId, ListenerPorts),
    #[error(
        "listener '{0}' belongs to no load balancer of type application, or shares its port, or shows an unknown certificate"
    )]
    ApplicationListener(ApplicationListenerId),
    #[error("rule '{0}' belongs to a listener that does not exist, has no condition, or another rule's priority")]
    ListenerRule(ListenerRuleId),
    #[error("'{0}' leads requests to a target group that does not exist, is of another VPC or does not speak HTTP")]
    RequestForward(String),
    #[error("endpoint service '{0}' has no load balancer, or one that does not exist")]
    ServiceLoadBalancerMissing(EndpointServiceId),
    #[error("load balancer '{0}' serves two endpoint services")]
    LoadBalancerShared(LoadBalancerId),
    #[error("endpoint '{0}' is in a VPC that does not exist")]
    EndpointVpcMissing(EndpointId),
    #[error("{1} in VPC '{0}' is an alias of two endpoints, or overlaps the VPC's range")]
    AliasConflict(VpcId, Alias),
    #[error("endpoint '{0}' leads to a service of another region than it says")]
    EndpointRegion(EndpointId),
    #[error("the names of endpoint '{0}' have records that its addresses do not allow")]
    EndpointRecords(EndpointId),
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
    #[error("connection notification '{0}' is about nothing that its owner has, or about no event")]
    Notification(NotificationId),
    #[error("gateway endpoint '{0}' is in a VPC that does not exist, or has the id of an endpoint")]
    GatewayEndpoint(EndpointId),
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

/// Refuses a name that comes twice within its scope.
fn unique<'a, S: Ord>(names: impl IntoIterator<Item = (S, &'a ResourceName)>) -> Result<(), InvariantViolation> {
    match duplicate(names) {
        Some((_, name)) => Err(InvariantViolation::DuplicateName(name.clone())),
        None => Ok(()),
    }
}

impl State {
    /// Whether every rule between resources holds. Each accepted operation keeps it so.
    pub fn check_invariants(&self) -> Result<(), InvariantViolation> {
        self.vpcs.values().try_for_each(|vpc| self.check_addresses(vpc, None))?;
        self.ports.values().try_for_each(|port| self.check_port(port))?;
        self.security_groups.values().try_for_each(|group| self.check_security_group(group))?;
        self.load_balancers.values().try_for_each(|lb| self.check_load_balancer(lb))?;
        self.target_groups.values().try_for_each(|group| self.check_target_group(group))?;
        self.listeners.values().try_for_each(|listener| self.check_listener(listener))?;
        self.check_application_listeners()?;
        self.endpoint_services.values().try_for_each(|service| self.check_endpoint_service(service))?;
        self.endpoints.values().try_for_each(|endpoint| self.check_endpoint(endpoint))?;
        self.links.values().try_for_each(|link| self.check_link(link))?;
        self.instances.values().try_for_each(|instance| self.check_instance(instance))?;
        self.tags.keys().try_for_each(|resource| self.check_tags(resource))?;
        self.check_notifications()?;
        self.check_vpcs()?;
        self.check_security_group_names()?;
        self.check_load_balancer_names()?;
        self.check_target_group_names()?;
        self.check_listener_ports()?;
        self.check_services()?;
        self.check_aliases()?;
        self.check_link_names()?;
        self.check_instance_names()?;
        self.check_subnets()
    }

    /// The same, if every rule held in `before` and `change` has led from there to here: looks at what the change
    /// touches, at what refers to that, and at nothing else but what a kind of resource has only once.
    pub fn check_change(&self, before: &Self, change: &Change) -> Result<(), InvariantViolation> {
        let keys: BTreeSet<Key> = change
            .edits()
            .iter()
            .filter_map(|edit| match edit {
                Edit::Put(record) => Some(record.key()),
                Edit::Remove(key) => Some(key.clone()),
                Edit::LastVpcIndex(_) => None,
            })
            .collect();
        let mut touched = Touched::default();
        for key in &keys {
            match key {
                Key::Vpc(id) => match (before.vpcs.get(id), self.vpcs.get(id)) {
                    // Nothing can have referred to it.
                    (None, Some(vpc)) => {
                        touched.vpcs = true;
                        let routers = vpc.gateway.map(IpAddr::V4).into_iter();
                        touched.addresses(id, routers.chain(vpc.ipv6.and_then(|ipv6| ipv6.gateway).map(IpAddr::V6)));
                    }
                    (None, None) => {}
                    // Everything in it depends on it.
                    (Some(_), _) => return self.check_invariants(),
                },
                Key::Port(interface) => self.ports.get(interface).map_or(Ok(()), |port| self.check_port(port))?,
                Key::SecurityGroup(id) => {
                    touched.security_groups = true;
                    self.security_groups.get(id).map_or(Ok(()), |group| self.check_security_group(group))?;
                    let vpc = |state: &Self| state.security_groups.get(id).map(|group| group.vpc.clone());
                    if vpc(before).is_some() && vpc(self) != vpc(before) {
                        self.check_carriers_of(id)?;
                    }
                }
                Key::LoadBalancer(id) => {
                    touched.load_balancers = true;
                    let (old, new) = (before.load_balancers.get(id), self.load_balancers.get(id));
                    old.into_iter().chain(new).for_each(|lb| touched.addresses(&lb.vpc, lb.nodes()));
                    new.map_or(Ok(()), |lb| self.check_load_balancer(lb))?;
                    let fewer = |old: &LoadBalancer, new: &LoadBalancer| {
                        new.ipv6_addresses.is_empty() && !old.ipv6_addresses.is_empty()
                    };
                    touched.applications |= id.kind() == LoadBalancerKind::Application;
                    if old.is_some_and(|old| new.is_none_or(|new| new.vpc != old.vpc || fewer(old, new))) {
                        let mut behind = self.listeners.values().filter(|listener| listener.load_balancer == *id);
                        behind.try_for_each(|listener| self.check_listener(listener))?;
                        touched.services = true;
                        let mut with = self.endpoint_services.values().filter(|at| at.load_balancers.contains(id));
                        with.try_for_each(|service| self.check_endpoint_service(service))?;
                    }
                }
                Key::Listener(id) => {
                    touched.listeners = true;
                    self.listeners.get(id).map_or(Ok(()), |listener| self.check_listener(listener))?;
                }
                Key::TargetGroup(id) => {
                    touched.target_groups = true;
                    let (old, new) = (before.target_groups.get(id), self.target_groups.get(id));
                    for group in old.into_iter().chain(new) {
                        touched.addresses(&group.vpc, group.targets.keys().map(|target| target.ip));
                    }
                    new.map_or(Ok(()), |group| self.check_target_group(group))?;
                    if old.is_some() {
                        let mut leads = self.listeners.values().filter(|at| at.forward.weights.contains_key(id));
                        leads.try_for_each(|listener| self.check_listener(listener))?;
                        touched.applications = true;
                    }
                }
                Key::ApplicationListener(_) | Key::ListenerRule(_) => touched.applications = true,
                Key::EndpointService(id) => {
                    touched.services = true;
                    let (old, new) = (before.endpoint_services.get(id), self.endpoint_services.get(id));
                    new.map_or(Ok(()), |service| self.check_endpoint_service(service))?;
                    if old.is_some_and(|old| new.is_none_or(|new| new.owner != old.owner)) {
                        self.check_notifications()?;
                        let mut led = self.endpoints.values().filter(|endpoint| endpoint.service == *id);
                        led.try_for_each(|endpoint| self.check_endpoint(endpoint))?;
                        self.links.values().try_for_each(|link| self.check_link(link))?;
                    }
                }
                Key::Endpoint(id) => {
                    let (old, new) = (before.endpoints.get(id), self.endpoints.get(id));
                    for endpoint in old.into_iter().chain(new) {
                        let single = endpoint.aliases.iter().filter_map(|alias| alias.address()).map(IpAddr::V4);
                        touched.addresses(&endpoint.vpc, endpoint.all_addresses().chain(single));
                        touched.aliases |= !endpoint.aliases.is_empty();
                    }
                    new.map_or(Ok(()), |endpoint| self.check_endpoint(endpoint))?;
                    if old.is_some() {
                        if new.is_none_or(|new| Some(&new.owner) != old.map(|old| &old.owner)) {
                            self.check_notifications()?;
                        }
                        let mut parts = self.links.values().filter(|link| link.has_endpoint(id));
                        parts.try_for_each(|link| self.check_link(link))?;
                    }
                }
                Key::Link(id) => {
                    touched.links = true;
                    self.links.get(id).map_or(Ok(()), |link| self.check_link(link))?;
                }
                Key::Subnet(_) | Key::RouteTable(_) | Key::GatewayEndpoint(_) => touched.subnets = true,
                Key::Instance(id) => {
                    touched.instances = true;
                    let (old, new) = (before.instances.get(id), self.instances.get(id));
                    for instance in old.into_iter().chain(new) {
                        touched.addresses(&instance.vpc, instance.addresses().map(IpAddr::V4));
                    }
                    new.map_or(Ok(()), |instance| self.check_instance(instance))?;
                    let is_target = |group: &&TargetGroup| {
                        group.targets.values().any(|target| target.instance.as_ref() == Some(id))
                    };
                    let mut with = self.target_groups.values().filter(is_target);
                    with.try_for_each(|group| self.check_target_group(group))?;
                }
                Key::Tags(resource) => {
                    self.tags.get(resource).map_or(Ok(()), |tags| self.check_tags(&tags.resource))?
                }
                Key::ConnectionNotification(id) => {
                    self.notifications.get(id).map_or(Ok(()), |one| self.check_notification(one))?;
                }
                Key::Certificate(id) if !self.certificates.contains_key(id) => {
                    self.listeners_with(id).try_for_each(|listener| self.check_listener(listener))?;
                    self.target_groups_that_trust(id).try_for_each(|group| self.check_target_group(group))?;
                    touched.applications = true;
                }
                Key::Certificate(_) | Key::Account(_) | Key::ClientToken(_) | Key::Notice(_) => {}
            }
            // What is gone has no tags.
            if let Some(resource) = key.tagged()
                && self.tags.contains_key(&resource)
            {
                self.check_tags(&resource)?;
            }
        }
        self.check_touched(&touched)
    }

    fn check_touched(&self, touched: &Touched) -> Result<(), InvariantViolation> {
        let Touched {
            vpcs,
            security_groups,
            load_balancers,
            target_groups,
            listeners,
            applications,
            services,
            aliases,
            links,
            instances,
            subnets,
            addresses,
        } = touched;
        let rules: [(bool, fn(&Self) -> Result<(), InvariantViolation>); 11] = [
            (*vpcs, Self::check_vpcs),
            (*security_groups, Self::check_security_group_names),
            (*load_balancers, Self::check_load_balancer_names),
            (*target_groups, Self::check_target_group_names),
            (*listeners, Self::check_listener_ports),
            (*applications, Self::check_application_listeners),
            (*services, Self::check_services),
            (*aliases, Self::check_aliases),
            (*links, Self::check_link_names),
            (*instances, Self::check_instance_names),
            (*subnets, Self::check_subnets),
        ];
        rules.into_iter().filter(|(touched, _)| *touched).try_for_each(|(_, rule)| rule(self))?;
        addresses.iter().try_for_each(|(vpc, addresses)| match self.vpcs.get(vpc) {
            Some(vpc) => self.check_addresses(vpc, Some(addresses)),
            None => Ok(()),
        })
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
            let local = |vpc: &Vpc| table.routes.contains_key(&IpNet::from(vpc.cidr.net()).into());
            if self.vpcs.get(&table.vpc).is_none_or(local) || table.subnets.iter().any(foreign) {
                return Err(InvariantViolation::RouteTable(table.id.clone()));
            }
        }
        let stray = |one: &&GatewayEndpoint| !self.vpcs.contains_key(&one.vpc) || self.endpoints.contains_key(&one.id);
        if let Some(endpoint) = self.gateway_endpoints.values().find(stray) {
            return Err(InvariantViolation::GatewayEndpoint(endpoint.id.clone()));
        }
        if let Some(subnet) = duplicate(self.route_tables.values().flat_map(|table| &table.subnets)) {
            return Err(InvariantViolation::SubnetRouteTables(subnet.clone()));
        }
        Ok(())
    }

    fn check_notification(&self, one: &ConnectionNotification) -> Result<(), InvariantViolation> {
        let owner = match &one.subject {
            NotificationSubject::EndpointService(id) => self.endpoint_services.get(id).map(|found| &found.owner),
            NotificationSubject::Endpoint(id) => self.endpoints.get(id).map(|found| &found.owner),
        };
        if owner == Some(&one.owner) && !one.events.is_empty() {
            Ok(())
        } else {
            Err(InvariantViolation::Notification(one.id.clone()))
        }
    }

    fn check_notifications(&self) -> Result<(), InvariantViolation> {
        self.notifications.values().try_for_each(|one| self.check_notification(one))
    }

    fn check_tags(&self, resource: &TaggedId) -> Result<(), InvariantViolation> {
        if self.has_tagged(resource) { Ok(()) } else { Err(InvariantViolation::TagsWithoutResource(resource.clone())) }
    }

    fn check_vpcs(&self) -> Result<(), InvariantViolation> {
        if let Some(index) = duplicate(self.vpcs.values().map(|vpc| vpc.index)) {
            return Err(InvariantViolation::DuplicateVpcIndex(index));
        }
        unique(self.vpcs.values().map(|vpc| (&vpc.owner, &vpc.name)))
    }

    fn check_load_balancer_names(&self) -> Result<(), InvariantViolation> {
        unique(self.load_balancers.values().map(|lb| (lb.id.scope(), &lb.name)))
    }

    fn check_target_group_names(&self) -> Result<(), InvariantViolation> {
        unique(self.target_groups.values().map(|group| (group.id.scope(), &group.name)))
    }

    fn check_instance_names(&self) -> Result<(), InvariantViolation> {
        let alive = self.instances.values().filter(|instance| instance.is_alive());
        unique(alive.map(|instance| (self.vpcs.get(&instance.vpc).map(|vpc| &vpc.owner), &instance.name)))
    }

    fn check_link_names(&self) -> Result<(), InvariantViolation> {
        unique(self.links.values().map(|link| (&link.owner, &link.name)))
    }

    /// What no two services share: names and load balancers.
    fn check_services(&self) -> Result<(), InvariantViolation> {
        let services = || self.endpoint_services.values();
        unique(services().filter_map(|service| Some((&service.owner, service.alias.as_ref()?))))?;
        match duplicate(services().flat_map(|service| &service.load_balancers)) {
            Some(lb) => Err(InvariantViolation::LoadBalancerShared(lb.clone())),
            None => Ok(()),
        }
    }

    fn check_port(&self, port: &Port) -> Result<(), InvariantViolation> {
        match self.vpcs.get(&port.vpc) {
            Some(_) => Ok(()),
            None => Err(InvariantViolation::PortVpcMissing(port.interface.clone())),
        }
    }

    fn check_load_balancer(&self, lb: &LoadBalancer) -> Result<(), InvariantViolation> {
        let Some(vpc) = self.vpcs.get(&lb.vpc) else {
            return Err(InvariantViolation::LoadBalancerVpcMissing(lb.id.clone()));
        };
        if !lb.id.belongs_to(&vpc.owner) {
            return Err(InvariantViolation::LoadBalancerOwner(lb.id.clone()));
        }
        if lb.addresses.is_empty() {
            return Err(InvariantViolation::LoadBalancerWithoutAddress(lb.id.clone()));
        }
        self.check_carrier(&lb.id, &lb.vpc, &lb.security_groups.groups)
    }

    fn check_target_group(&self, group: &TargetGroup) -> Result<(), InvariantViolation> {
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
        let trust = &group.attributes.target_trust;
        let known = trust.certificate().is_none_or(|id| self.certificates.contains_key(id));
        if !known || (*trust != TargetTrust::Off && group.protocol != Protocol::Tls) {
            return Err(InvariantViolation::TargetGroupTrust(group.id.clone()));
        }
        Ok(())
    }

    fn check_instance(&self, instance: &Instance) -> Result<(), InvariantViolation> {
        if !self.vpcs.contains_key(&instance.vpc) {
            return Err(InvariantViolation::InstanceVpcMissing(instance.id.clone()));
        }
        if instance.is_alive() {
            self.check_carrier(&instance.id, &instance.vpc, &instance.security_groups)?;
        }
        Ok(())
    }

    fn check_endpoint_service(&self, service: &EndpointService) -> Result<(), InvariantViolation> {
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
        Ok(())
    }

    fn check_endpoint(&self, endpoint: &Endpoint) -> Result<(), InvariantViolation> {
        let Some(vpc) = self.vpcs.get(&endpoint.vpc) else {
            return Err(InvariantViolation::EndpointVpcMissing(endpoint.id.clone()));
        };
        if vpc.owner != endpoint.owner {
            return Err(InvariantViolation::EndpointOwner(endpoint.id.clone()));
        }
        match self.endpoint_services.get(&endpoint.service) {
            Some(service) if service.owner.region != *endpoint.service_region() => {
                return Err(InvariantViolation::EndpointRegion(endpoint.id.clone()));
            }
            None if endpoint.state.holds_service() => {
                return Err(InvariantViolation::EndpointServiceMissing(endpoint.id.clone()));
            }
            Some(_) | None => {}
        }
        if !endpoint.dns_record_ip_type().fits(endpoint.ip_address_type()) {
            return Err(InvariantViolation::EndpointRecords(endpoint.id.clone()));
        }
        self.check_carrier(&endpoint.id, &endpoint.vpc, &endpoint.security_groups.groups)
    }

    fn check_link(&self, link: &Link) -> Result<(), InvariantViolation> {
        let [first, second] = &link.sides;
        let leads = |endpoint: &EndpointId, service: &EndpointServiceId| {
            self.endpoints.get(endpoint).is_some_and(|at| at.owner == link.owner && at.service == *service)
                && self.endpoint_services.get(service).is_some_and(|service| service.owner == link.owner)
        };
        if !leads(&first.endpoint, &second.service) || !leads(&second.endpoint, &first.service) {
            return Err(InvariantViolation::LinkParts(link.id.clone()));
        }
        Ok(())
    }

    /// Whether a group of type `ip` has addresses only, and one of type `instance` instances of its VPC that are there,
    /// each at its primary address; one that drains may be gone.
    fn fits_target_type(&self, group: &TargetGroup) -> bool {
        let family = |target: &Target| IpFamily::of(target.address.ip) == group.ip_address_type;
        let possible = match group.target_type {
            TargetType::Ip => true,
            TargetType::Instance => group.ip_address_type == IpFamily::Ipv4,
            TargetType::Alb => group.ip_address_type == IpFamily::Ipv4 && group.protocol == Protocol::Tcp,
        };
        let stray = group.load_balancer.is_some() && group.target_type != TargetType::Alb;
        if stray || !possible || !group.targets.values().all(family) {
            return false;
        }
        group.targets.values().all(|target| match (group.target_type, &target.instance) {
            (TargetType::Ip, instance) => instance.is_none(),
            (TargetType::Alb, _) => false,
            (TargetType::Instance, None) => false,
            (TargetType::Instance, Some(_)) if target.draining_since.is_some() => true,
            (TargetType::Instance, Some(id)) => self.instances.get(id).is_some_and(|instance| {
                instance.is_alive() && instance.vpc == group.vpc && target.address.ip == instance.address
            }),
        })
    }

    fn check_security_group(&self, group: &SecurityGroup) -> Result<(), InvariantViolation> {
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
        Ok(())
    }

    fn check_security_group_names(&self) -> Result<(), InvariantViolation> {
        match duplicate(self.security_groups.values().map(|group| (&group.vpc, &group.name))) {
            Some((vpc, name)) => Err(InvariantViolation::DuplicateSecurityGroupName(vpc.clone(), name.clone())),
            None => Ok(()),
        }
    }

    fn check_carrier(
        &self,
        carrier: &impl fmt::Display,
        vpc: &VpcId,
        groups: &BTreeSet<SecurityGroupId>,
    ) -> Result<(), InvariantViolation> {
        if groups.len() > SecurityGroup::MAX_PER_RESOURCE {
            return Err(InvariantViolation::SecurityGroupsTooMany(carrier.to_string()));
        }
        let foreign = |id: &&SecurityGroupId| self.security_groups.get(id).is_none_or(|group| group.vpc != *vpc);
        match groups.iter().find(foreign) {
            Some(group) => Err(InvariantViolation::SecurityGroupForeign(carrier.to_string(), group.clone())),
            None => Ok(()),
        }
    }

    /// What carries the group or has rules about it.
    fn check_carriers_of(&self, id: &SecurityGroupId) -> Result<(), InvariantViolation> {
        let mut nodes = self.load_balancers.values().filter(|lb| lb.security_groups.groups.contains(id));
        nodes.try_for_each(|lb| self.check_load_balancer(lb))?;
        let mut endpoints = self.endpoints.values().filter(|endpoint| endpoint.security_groups.groups.contains(id));
        endpoints.try_for_each(|endpoint| self.check_endpoint(endpoint))?;
        let mut instances = self.instances.values().filter(|instance| instance.security_groups.contains(id));
        instances.try_for_each(|instance| self.check_instance(instance))?;
        self.security_groups.values().try_for_each(|group| self.check_security_group(group))
    }

    fn check_listener(&self, listener: &Listener) -> Result<(), InvariantViolation> {
        let Some(lb) = self.load_balancers.get(&listener.load_balancer) else {
            return Err(InvariantViolation::ListenerLoadBalancerMissing(listener.id.clone()));
        };
        if !(1..=Forward::MAX_GROUPS).contains(&listener.forward.weights.len()) {
            return Err(InvariantViolation::ListenerForward(listener.id.clone()));
        }
        let unknown = |id: &CertificateId| !self.certificates.contains_key(id);
        let known = listener.tls.as_ref().is_none_or(|tls| !tls.certificates().any(unknown));
        let one_port = listener.tls.is_none() || !listener.port.is_range();
        if listener.tls.is_some() != (listener.protocol == Protocol::Tls) || !known || !one_port {
            return Err(InvariantViolation::ListenerTls(listener.id.clone()));
        }
        let mut families = BTreeSet::new();
        for id in listener.forward.groups() {
            let Some(group) = self.target_groups.get(id) else {
                return Err(InvariantViolation::ListenerTargetGroupMissing(listener.id.clone()));
            };
            let only_tcp = group.target_type == TargetType::Alb && listener.protocol != Protocol::Tcp;
            if group.vpc != lb.vpc || !listener.protocol.leads_to(group.protocol) || only_tcp {
                return Err(InvariantViolation::ListenerTargetGroupMismatch(listener.id.clone()));
            }
            let sticky = group.attributes.stickiness;
            let alone = listener.forward.weights.len() > 1 && !listener.forward.stickiness;
            if sticky && alone || listener.tls.is_some() && (sticky || listener.forward.stickiness) {
                return Err(InvariantViolation::ListenerForward(listener.id.clone()));
            }
            families.insert(group.ip_address_type);
        }
        let six = families.contains(&IpFamily::Ipv6);
        if families.len() > 1 || six && (lb.ipv6_addresses.is_empty() || listener.tls.is_some()) {
            return Err(InvariantViolation::ListenerFamilies(listener.id.clone()));
        }
        Ok(())
    }

    /// What load balancers of type application are led to and lead to. All of it is few, and is looked at together.
    fn check_application_listeners(&self) -> Result<(), InvariantViolation> {
        let mut ports = BTreeSet::new();
        for listener in self.application_listeners.values() {
            let ApplicationListener { id, load_balancer, port, https, authentication, action, order: _, created_at: _ } =
                listener;
            let lb = self.load_balancers.get(load_balancer).filter(|lb| lb.id.kind() == LoadBalancerKind::Application);
            let unknown = |id: &CertificateId| !self.certificates.contains_key(id);
            let unknown = https.iter().any(|https| https.certificates().any(unknown));
            let open = authentication.is_some() && https.is_none();
            let Some(lb) = lb.filter(|_| !unknown && !open && ports.insert((load_balancer, port))) else {
                return Err(InvariantViolation::ApplicationListener(id.clone()));
            };
            self.check_request_forward(id, lb, action)?;
        }
        let mut priorities = BTreeSet::new();
        for rule in self.listener_rules.values() {
            let ListenerRule { id, listener, priority, conditions, authentication, action, order: _, created_at: _ } =
                rule;
            let closed = |of: &&ApplicationListener| authentication.is_none() || of.https.is_some();
            let of = self.application_listeners.get(listener).filter(closed);
            let lb = of.and_then(|of| self.load_balancers.get(&of.load_balancer));
            let Some(lb) = lb.filter(|_| !conditions.is_empty() && priorities.insert((listener, priority))) else {
                return Err(InvariantViolation::ListenerRule(id.clone()));
            };
            self.check_request_forward(id, lb, action)?;
        }
        for group in self.target_groups.values() {
            let Some(registered) = &group.load_balancer else { continue };
            let lb = self.load_balancers.get(&registered.id).filter(|lb| lb.vpc == group.vpc);
            let listens = |lb: &LoadBalancer| {
                let mut listeners = self.application_listeners_of(&lb.id);
                listeners.any(|listener| listener.port.get() == group.port)
            };
            if !lb.is_some_and(listens) {
                return Err(InvariantViolation::TargetGroupTargets(group.id.clone()));
            }
        }
        Ok(())
    }

    fn check_request_forward(
        &self,
        by: &impl fmt::Display,
        lb: &LoadBalancer,
        action: &RuleAction,
    ) -> Result<(), InvariantViolation> {
        let RuleAction::Forward(RequestForward { weights, stickiness: _ }) = action else { return Ok(()) };
        let fits = |id: &TargetGroupId| {
            let speaks = [ApplicationProtocol::Http, ApplicationProtocol::Https].map(GroupProtocol::Application);
            self.target_groups.get(id).is_some_and(|group| group.vpc == lb.vpc && speaks.contains(&group.protocol))
        };
        if (1..=Forward::MAX_GROUPS).contains(&weights.len()) && weights.keys().all(fits) {
            return Ok(());
        }
        Err(InvariantViolation::RequestForward(by.to_string()))
    }

    fn check_listener_ports(&self) -> Result<(), InvariantViolation> {
        let mut all: Vec<_> =
            self.listeners.values().map(|listener| (&listener.load_balancer, listener.port)).collect();
        all.sort_unstable();
        // In the order of their first ports, listeners that overlap are neighbours.
        let overlap = all
            .iter()
            .zip(all.iter().skip(1))
            .find(|((lb, ports), (other_lb, other))| lb == other_lb && ports.overlaps(*other));
        match overlap {
            Some((_, (lb, ports))) => Err(InvariantViolation::DuplicateListener((*lb).clone(), *ports)),
            None => Ok(()),
        }
    }

    fn check_aliases(&self) -> Result<(), InvariantViolation> {
        let aliases = || self.endpoints.values().flat_map(|at| at.aliases.iter().map(|alias| (&at.vpc, *alias)));
        let overlaps = |(vpc, alias): &(&VpcId, Alias)| {
            alias.address().is_none() && self.vpcs.get(*vpc).is_some_and(|vpc| overlap(vpc.cidr.net(), alias.net()))
        };
        if let Some((vpc, alias)) = duplicate(aliases()).or_else(|| aliases().find(overlaps)) {
            return Err(InvariantViolation::AliasConflict(vpc.clone(), alias));
        }
        Ok(())
    }

    /// Who has the addresses of a VPC: all of them, or those of `only`.
    fn check_addresses(&self, vpc: &Vpc, only: Option<&BTreeSet<IpAddr>>) -> Result<(), InvariantViolation> {
        let mut owned: BTreeMap<IpAddr, AddressUse> = BTreeMap::new();
        for (address, by) in self.address_uses(&vpc.id) {
            if only.is_some_and(|only| !only.contains(&address)) {
                continue;
            }
            // A target may lie behind the VPC's gateway, several groups may share a target, and a host may be all
            // three.
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
                return Err(InvariantViolation::AddressOutsideVpc { vpc: vpc.id.clone(), address, by });
            }
            match owned.get(&address) {
                Some(AddressUse::Gateway(_)) if shareable => drop(owned.insert(address, by)),
                Some(AddressUse::Target(_) | AddressUse::Instance(_)) if shareable => {}
                Some(first) => {
                    return Err(InvariantViolation::AddressConflict {
                        vpc: vpc.id.clone(),
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
        Ok(())
    }
}

/// What a change touches of what holds between resources of a kind.
#[derive(Default)]
struct Touched<'a> {
    vpcs: bool,
    security_groups: bool,
    load_balancers: bool,
    target_groups: bool,
    listeners: bool,
    /// Listeners and rules of load balancers of type application, or what these refer to or are targets of.
    applications: bool,
    services: bool,
    aliases: bool,
    links: bool,
    instances: bool,
    subnets: bool,
    /// That something has, or had.
    addresses: BTreeMap<&'a VpcId, BTreeSet<IpAddr>>,
}

impl<'a> Touched<'a> {
    fn addresses(&mut self, vpc: &'a VpcId, addresses: impl Iterator<Item = IpAddr>) {
        self.addresses.entry(vpc).or_default().extend(addresses);
    }
}
