//! The whole desired world.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use ipnet::Ipv4Net;

use super::{
    Account, ApplicationListener, ApplicationListenerId, Certificate, CertificateId, Change, ClientToken,
    ConnectionNotification, Edit, Endpoint, EndpointId, EndpointService, EndpointServiceId, GatewayEndpoint, Hosts,
    Instance, InstanceId, InterfaceName, Key, Link, LinkId, Listener, ListenerId, ListenerRule, ListenerRuleId,
    LoadBalancer, LoadBalancerId, Members, Notice, NoticeId, NotificationId, Port, Record, RecordId, RouteTable,
    RouteTableId, SecurityGroup, SecurityGroupId, ServiceDomain, Subnet, SubnetId, Table, TaggedId, Tags, TargetGroup,
    TargetGroupId, Vpc, VpcId, VpcIndex, overlap,
};

/// Every resource, by identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    pub vpcs: Table<VpcId, Vpc>,
    pub ports: Table<InterfaceName, Port>,
    pub security_groups: Table<SecurityGroupId, SecurityGroup>,
    pub load_balancers: Table<LoadBalancerId, LoadBalancer>,
    pub listeners: Table<ListenerId, Listener>,
    pub target_groups: Table<TargetGroupId, TargetGroup>,
    /// Of load balancers of type application; `listeners` has those of the others.
    pub application_listeners: Table<ApplicationListenerId, ApplicationListener>,
    pub listener_rules: Table<ListenerRuleId, ListenerRule>,
    pub endpoint_services: Table<EndpointServiceId, EndpointService>,
    pub endpoints: Table<EndpointId, Endpoint>,
    /// Under ids that no endpoint has.
    pub gateway_endpoints: Table<EndpointId, GatewayEndpoint>,
    pub links: Table<LinkId, Link>,
    pub subnets: Table<SubnetId, Subnet>,
    pub route_tables: Table<RouteTableId, RouteTable>,
    pub notifications: Table<NotificationId, ConnectionNotification>,
    /// Messages that wait for their delivery.
    pub notices: Table<NoticeId, Notice>,
    pub instances: Table<InstanceId, Instance>,
    pub tags: Table<TaggedId, Tags>,
    pub accounts: Table<RecordId, Account>,
    pub client_tokens: Table<RecordId, ClientToken>,
    pub certificates: Table<CertificateId, Certificate>,
    /// The VPC number that was handed out last. The next one is the next free number after it, so that a number is
    /// not used again while flows of its former VPC may still be in the kernel's tables.
    pub last_vpc_index: Option<VpcIndex>,
    /// Under which the DNS names of all resources are: the agent's setting, not stored.
    pub service_domain: ServiceDomain,
}

/// What an address of a VPC is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressUse {
    Gateway(VpcId),
    Node(LoadBalancerId),
    Endpoint(EndpointId),
    Instance(InstanceId),
    Target(TargetGroupId),
}

impl fmt::Display for AddressUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway(vpc) => write!(f, "the gateway of VPC '{vpc}'"),
            Self::Node(load_balancer) => {
                write!(f, "a node address of load balancer '{load_balancer}'")
            }
            Self::Endpoint(endpoint) => write!(f, "the address of endpoint '{endpoint}'"),
            Self::Instance(instance) => write!(f, "an address of instance '{instance}'"),
            Self::Target(target_group) => write!(f, "a target of target group '{target_group}'"),
        }
    }
}

impl State {
    /// Does what `change` says, in order.
    pub fn apply(&mut self, change: &Change) {
        for edit in change.edits() {
            match edit.clone() {
                Edit::Put(record) => self.put(record),
                Edit::Remove(key) => self.remove(&key),
                Edit::LastVpcIndex(index) => self.last_vpc_index = Some(index),
            }
        }
    }

    /// Adds or replaces one record.
    pub fn put(&mut self, record: Record) {
        match record {
            Record::Vpc(vpc) => self.vpcs.insert(vpc.id.clone(), vpc),
            Record::Port(port) => self.ports.insert(port.interface.clone(), port),
            Record::SecurityGroup(group) => self.security_groups.insert(group.id.clone(), group),
            Record::LoadBalancer(lb) => self.load_balancers.insert(lb.id.clone(), lb),
            Record::Listener(listener) => self.listeners.insert(listener.id.clone(), listener),
            Record::ApplicationListener(one) => self.application_listeners.insert(one.id.clone(), one),
            Record::ListenerRule(rule) => self.listener_rules.insert(rule.id.clone(), rule),
            Record::TargetGroup(group) => self.target_groups.insert(group.id.clone(), group),
            Record::EndpointService(service) => self.endpoint_services.insert(service.id.clone(), service),
            Record::Endpoint(endpoint) => self.endpoints.insert(endpoint.id.clone(), endpoint),
            Record::GatewayEndpoint(endpoint) => self.gateway_endpoints.insert(endpoint.id.clone(), endpoint),
            Record::Link(link) => self.links.insert(link.id.clone(), link),
            Record::Subnet(subnet) => self.subnets.insert(subnet.id.clone(), subnet),
            Record::RouteTable(table) => self.route_tables.insert(table.id.clone(), table),
            Record::ConnectionNotification(one) => self.notifications.insert(one.id.clone(), one),
            Record::Notice(notice) => self.notices.insert(notice.id.clone(), notice),
            Record::Instance(instance) => self.instances.insert(instance.id.clone(), instance),
            Record::Tags(tags) => self.tags.insert(tags.resource.clone(), tags),
            Record::Account(account) => self.accounts.insert(account.id.clone(), account),
            Record::ClientToken(token) => self.client_tokens.insert(token.id.clone(), token),
            Record::Certificate(certificate) => self.certificates.insert(certificate.id.clone(), certificate),
        }
    }

    /// Removes one record, if it is there.
    pub fn remove(&mut self, key: &Key) {
        match key {
            Key::Vpc(id) => self.vpcs.remove(id),
            Key::Port(interface) => self.ports.remove(interface),
            Key::SecurityGroup(id) => self.security_groups.remove(id),
            Key::LoadBalancer(id) => self.load_balancers.remove(id),
            Key::Listener(id) => self.listeners.remove(id),
            Key::ApplicationListener(id) => self.application_listeners.remove(id),
            Key::ListenerRule(id) => self.listener_rules.remove(id),
            Key::TargetGroup(id) => self.target_groups.remove(id),
            Key::EndpointService(id) => self.endpoint_services.remove(id),
            Key::Endpoint(id) => self.endpoints.remove(id),
            Key::GatewayEndpoint(id) => self.gateway_endpoints.remove(id),
            Key::Link(id) => self.links.remove(id),
            Key::Subnet(id) => self.subnets.remove(id),
            Key::RouteTable(id) => self.route_tables.remove(id),
            Key::ConnectionNotification(id) => self.notifications.remove(id),
            Key::Notice(id) => self.notices.remove(id),
            Key::Instance(id) => self.instances.remove(id),
            Key::Tags(id) => self.tags.remove(id),
            Key::Account(id) => self.accounts.remove(id),
            Key::ClientToken(id) => self.client_tokens.remove(id),
            Key::Certificate(id) => self.certificates.remove(id),
        }
    }

    /// Every record, in the order in which they can be built: what others refer to comes first.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let vpcs = self.vpcs.values().cloned().map(Record::Vpc);
        let ports = self.ports.values().cloned().map(Record::Port);
        let security_groups = self.security_groups.values().cloned().map(Record::SecurityGroup);
        let load_balancers = self.load_balancers.values().cloned().map(Record::LoadBalancer);
        let target_groups = self.target_groups.values().cloned().map(Record::TargetGroup);
        let listeners = self.listeners.values().cloned().map(Record::Listener);
        let applications = self.application_listeners.values().cloned().map(Record::ApplicationListener);
        let rules = self.listener_rules.values().cloned().map(Record::ListenerRule);
        let services = self.endpoint_services.values().cloned().map(Record::EndpointService);
        let endpoints = self.endpoints.values().cloned().map(Record::Endpoint);
        let gateways = self.gateway_endpoints.values().cloned().map(Record::GatewayEndpoint);
        let links = self.links.values().cloned().map(Record::Link);
        let subnets = self.subnets.values().cloned().map(Record::Subnet);
        let notifications = self.notifications.values().cloned().map(Record::ConnectionNotification);
        let notices = self.notices.values().cloned().map(Record::Notice);
        let route_tables = self.route_tables.values().cloned().map(Record::RouteTable);
        let instances = self.instances.values().cloned().map(Record::Instance);
        let tags = self.tags.values().cloned().map(Record::Tags);
        let accounts = self.accounts.values().cloned().map(Record::Account);
        let tokens = self.client_tokens.values().cloned().map(Record::ClientToken);
        let certificates = self.certificates.values().cloned().map(Record::Certificate);
        vpcs.chain(ports)
            .chain(security_groups)
            .chain(certificates)
            .chain(load_balancers)
            .chain(instances)
            .chain(target_groups)
            .chain(listeners)
            .chain(applications)
            .chain(rules)
            .chain(services)
            .chain(endpoints)
            .chain(links)
            .chain(subnets)
            .chain(route_tables)
            .chain(gateways)
            .chain(notifications)
            .chain(notices)
            .chain(tags)
            .chain(accounts)
            .chain(tokens)
    }

    /// The default security group of a VPC.
    pub fn default_group(&self, vpc: &VpcId) -> Option<&SecurityGroup> {
        self.security_groups.values().find(|group| group.vpc == *vpc && group.is_default())
    }

    /// Every use of an address of `vpc`.
    pub fn address_uses<'a>(&'a self, vpc: &'a VpcId) -> impl Iterator<Item = (IpAddr, AddressUse)> + 'a {
        let found = self.vpcs.get(vpc);
        let routers = found.and_then(|found| found.gateway).map(IpAddr::V4).into_iter();
        let routers = routers.chain(found.and_then(|found| found.ipv6?.gateway).map(IpAddr::V6));
        let gateways = routers.map(|address| (address, AddressUse::Gateway(vpc.clone())));
        let nodes = self
            .load_balancers
            .values()
            .filter(move |lb| lb.vpc == *vpc)
            .flat_map(|lb| lb.nodes().map(|address| (address, AddressUse::Node(lb.id.clone()))));
        let endpoints = self.endpoints.values().filter(move |endpoint| endpoint.vpc == *vpc).flat_map(|endpoint| {
            let cidr = self.vpcs.get(&endpoint.vpc).map(|found| found.cidr.net());
            let aliases = cidr.into_iter().flat_map(|cidr| endpoint.inner_aliases(cidr)).map(IpAddr::V4);
            endpoint.all_addresses().chain(aliases).map(|address| (address, AddressUse::Endpoint(endpoint.id.clone())))
        });
        let targets = self
            .target_groups
            .values()
            .filter(move |group| group.vpc == *vpc)
            .flat_map(|group| group.targets.keys().map(|target| (target.ip, AddressUse::Target(group.id.clone()))));
        let instances = self.instances_of(vpc).flat_map(|instance| {
            instance.addresses().map(|address| (IpAddr::V4(address), AddressUse::Instance(instance.id.clone())))
        });
        gateways.chain(nodes).chain(endpoints).chain(instances).chain(targets)
    }

    /// The prefixes whose packets are an endpoint's, by VPC: the endpoints' aliases, and what the VPC's route tables
    /// lead to them. Of equal ones an alias counts, then the first table. A route that overlaps the VPC's own range
    /// leads nothing here: that range is always local.
    pub fn aliases(&self) -> BTreeMap<(&VpcId, Ipv4Net), &Endpoint> {
        let named = |endpoint: &'_ Endpoint| endpoint.aliases.iter().map(|alias| alias.net()).collect::<Vec<_>>();
        let mut all: BTreeMap<(&VpcId, Ipv4Net), &Endpoint> = BTreeMap::new();
        for endpoint in self.endpoints.values() {
            all.extend(named(endpoint).into_iter().map(|net| ((&endpoint.vpc, net), endpoint)));
        }
        for table in self.route_tables.values().filter(|table| !table.routes.is_empty()) {
            let Some(cidr) = self.vpcs.get(&table.vpc).map(|vpc| vpc.cidr.net()) else { continue };
            let routes = table.routes.iter().filter_map(|(to, target)| Some((to.ipv4()?, target)));
            for (net, target) in routes.filter(|(net, _)| !overlap(cidr, *net)) {
                let id = self.routed_endpoint(target);
                let endpoint = id.and_then(|id| self.endpoints.get(id)).filter(|endpoint| endpoint.vpc == table.vpc);
                if let Some(endpoint) = endpoint {
                    all.entry((&table.vpc, net)).or_insert(endpoint);
                }
            }
        }
        all
    }

    /// The endpoint of `vpc` for which packets to `address` are, and the prefix by which they are; none if the address
    /// is its own.
    pub fn endpoint_at(&self, vpc: &VpcId, address: IpAddr) -> Option<(&Endpoint, Option<Ipv4Net>)> {
        let mut in_vpc = self.endpoints.values().filter(|endpoint| endpoint.vpc == *vpc);
        let own = in_vpc.find(|endpoint| endpoint.all_addresses().any(|own| own == address));
        own.map(|endpoint| (endpoint, None)).or_else(|| {
            let IpAddr::V4(address) = address else { return None };
            let around = self.aliases().into_iter().filter(|((of, net), _)| *of == vpc && net.contains(&address));
            around.max_by_key(|((_, net), _)| net.prefix_len()).map(|((_, net), endpoint)| (endpoint, Some(net)))
        })
    }

    /// What a security group stands for as a peer: the nodes of load balancers, the endpoints and the instances that
    /// carry it. A host of a VPC carries the VPC's default group, as an interface does in AWS for which nobody has
    /// named another.
    pub fn members(&self, group: &SecurityGroupId) -> Members {
        self.members_of([group]).remove(group).unwrap_or_default()
    }

    /// [`State::members`] of several groups.
    pub fn members_of<'a>(
        &self,
        groups: impl IntoIterator<Item = &'a SecurityGroupId>,
    ) -> BTreeMap<SecurityGroupId, Members> {
        let nobody = |group: &SecurityGroupId| {
            (group.clone(), Members { carriers: BTreeSet::new(), hosts: self.hosts_of(group) })
        };
        let mut members: BTreeMap<SecurityGroupId, Members> = groups.into_iter().map(nobody).collect();
        if members.is_empty() {
            return members;
        }
        let mut carry = |groups: &BTreeSet<SecurityGroupId>, addresses: &mut dyn Iterator<Item = IpAddr>| {
            if groups.iter().any(|id| members.contains_key(id)) {
                let addresses: Vec<IpAddr> = addresses.collect();
                for id in groups {
                    members.entry(id.clone()).and_modify(|members| members.carriers.extend(&addresses));
                }
            }
        };
        for lb in self.load_balancers.values() {
            carry(&lb.security_groups.groups, &mut lb.nodes());
        }
        for endpoint in self.endpoints.values() {
            carry(&endpoint.security_groups.groups, &mut endpoint.all_addresses());
        }
        for instance in self.instances.values().filter(|instance| instance.is_alive()) {
            carry(&instance.security_groups, &mut instance.addresses().map(IpAddr::V4));
        }
        members
    }

    /// The hosts of a VPC, if the group is its default one.
    fn hosts_of(&self, group: &SecurityGroupId) -> Option<Hosts> {
        let default = self.security_groups.get(group).filter(|group| group.is_default())?;
        let vpc = self.vpcs.get(&default.vpc)?;
        Some(Hosts {
            range: vpc.cidr.net(),
            ipv6: vpc.ipv6.map(|ipv6| ipv6.cidr.net()),
            others: self
                .instances_of(&vpc.id)
                .filter(|instance| !instance.security_groups.is_empty() && !instance.security_groups.contains(group))
                .flat_map(Instance::addresses)
                .collect(),
        })
    }

    /// The first use of `address` in `vpc`, in the order of [`State::address_uses`].
    pub fn address_use(&self, vpc: &VpcId, address: IpAddr) -> Option<AddressUse> {
        let of = self.vpcs.get(vpc);
        let inside = of.is_some_and(|of| matches!(address, IpAddr::V4(at) if of.cidr.net().contains(&at)));
        let gateway = || {
            let router = |of: &&Vpc| match address {
                IpAddr::V4(at) => of.gateway == Some(at),
                IpAddr::V6(at) => of.ipv6.is_some_and(|ipv6| ipv6.gateway == Some(at)),
            };
            of.filter(router).map(|_| AddressUse::Gateway(vpc.clone()))
        };
        let node = || {
            let mut nodes = self.load_balancers.values();
            let found = nodes.find(|lb| lb.nodes().any(|node| node == address) && lb.vpc == *vpc);
            found.map(|lb| AddressUse::Node(lb.id.clone()))
        };
        let endpoint = || {
            let aliased = |endpoint: &Endpoint| {
                inside && endpoint.aliases.iter().any(|alias| alias.address().map(IpAddr::V4) == Some(address))
            };
            let mut endpoints = self.endpoints.values();
            let found = endpoints.find(|endpoint| {
                (endpoint.all_addresses().any(|own| own == address) || aliased(endpoint)) && endpoint.vpc == *vpc
            });
            found.map(|endpoint| AddressUse::Endpoint(endpoint.id.clone()))
        };
        let instance = || {
            let has = |instance: &&Instance| instance.addresses().any(|own| IpAddr::V4(own) == address);
            self.instances_of(vpc).find(has).map(|instance| AddressUse::Instance(instance.id.clone()))
        };
        let target = || {
            let has = |group: &&TargetGroup| group.targets.keys().any(|target| target.ip == address);
            let found = self.target_groups.values().find(|group| group.vpc == *vpc && has(group));
            found.map(|group| AddressUse::Target(group.id.clone()))
        };
        gateway().or_else(node).or_else(endpoint).or_else(instance).or_else(target)
    }
}
