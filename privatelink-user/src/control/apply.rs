//! Declared resources: what it takes to make the state hold them.
//!
//! The plan is made with the same operations that a person would call, one after the other on a scratch state, so that
//! a declaration is refused for the same reasons and with the same words. The whole plan is one change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use serde::{Deserialize, Serialize};

pub use super::declaration::*;
use super::{
    Context, ControlError, Mutation, Reference,
    dns_targets::ModifyDnsTargets,
    endpoint_services::{CreateEndpointService, DeleteEndpointService, ModifyEndpointService},
    endpoints::{CreateEndpoint, DeleteEndpoint, ModifyEndpoint},
    instances::{DeregisterInstances, ModifyInstance, RegisterInstance},
    links::{CreateLink, DeleteLink},
    listeners::{CreateListener, DeleteListener, ModifyListener},
    load_balancers::{CreateLoadBalancer, DeleteLoadBalancer, ModifyLoadBalancer, SetSecurityGroups},
    lookup, operation,
    permissions::ModifyPermissions,
    ports::{AttachPort, DetachPort},
    publish::{self, PublishTargets},
    security_groups::{CreateSecurityGroup, DeleteSecurityGroup, with_rules},
    target_groups::{CreateTargetGroup, DeleteTargetGroup, HealthCheckSettings, ModifyTargetGroup},
    targets::{DeregisterTargets, RegisterTargets, TargetSpec},
    view,
    vpcs::{CreateVpc, DeleteVpc, ModifyVpc},
};
use crate::{
    model::{
        AttributeMap as _, Change, ConsumerLists, Endpoint, EndpointId, EndpointService, InvalidValue, IpAddressType,
        Limits, ListenerAttributes, LoadBalancer, LoadBalancerAttributes, LoadBalancerKind, ResourceName, Scheme,
        SecurityGroup, State, Target, TargetAddress, TargetGroupAttributes, by_family,
    },
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy},
};

/// Makes the state hold what is declared.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyDeclaration {
    pub declaration: Declaration,
    /// Remove what is not declared.
    #[serde(default)]
    pub prune: bool,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}
operation!(ApplyDeclaration -> Plan);

/// What a declaration changes, in order. Empty if the state holds it already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Plan {
    pub steps: Vec<Step>,
}

/// One change of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Step {
    pub action: Action,
    /// What kind of resource: "vpc", "target".
    pub kind: String,
    /// The resource as a person names it.
    pub name: String,
    /// What is set, in words.
    pub detail: String,
}

/// What happens to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Create,
    Modify,
    Delete,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Create => "create",
            Self::Modify => "modify",
            Self::Delete => "delete",
        })
    }
}

impl ApplyDeclaration {
    /// The declared ports whose interfaces must be inspected: those that `state` does not hold as declared.
    pub fn ports_to_inspect<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a DeclaredPort> {
        self.declaration.port.iter().filter(|port| {
            state
                .ports
                .get(&port.interface)
                .is_none_or(|present| (present.hook, present.shared) != (port.hook, port.shared))
        })
    }
}

impl Mutation for ApplyDeclaration {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, Plan), ControlError> {
        let Declaration {
            vpc,
            port,
            security_group,
            instance,
            target_group,
            load_balancer,
            endpoint_service,
            endpoint,
            link,
        } = &self.declaration;
        let mut planner = Planner { state: state.clone(), change: Change::default(), plan: Plan::default(), context };
        declared_once("VPC", vpc.iter().map(|vpc| &vpc.name))?;
        declared_once("port", port.iter().map(|port| &port.interface))?;
        let named = security_group.iter().map(|group| format!("{}/{}", group.vpc.as_str(), group.name));
        declared_once("security group", named)?;
        declared_once("instance", instance.iter().map(|instance| &instance.name))?;
        declared_once("target group", target_group.iter().map(|group| &group.name))?;
        declared_once("load balancer", load_balancer.iter().map(|lb| &lb.name))?;
        declared_once("link", link.iter().map(|link| &link.name))?;
        declared_once("endpoint service", endpoint_service.iter().filter_map(|service| service.name.as_ref()))?;

        // What is not declared goes first, so that its names, addresses and ports are free again.
        if self.prune {
            planner.prune(&self.declaration)?;
        }
        vpc.iter().try_for_each(|vpc| planner.vpc(vpc))?;
        port.iter().try_for_each(|port| planner.port(port))?;
        // Rules may name groups that are declared further below.
        security_group.iter().try_for_each(|group| planner.security_group(group))?;
        security_group.iter().try_for_each(|group| planner.rules(group))?;
        instance.iter().try_for_each(|instance| planner.instance(instance))?;
        target_group.iter().try_for_each(|group| planner.target_group(group, self.prune))?;
        load_balancer.iter().try_for_each(|lb| planner.load_balancer(lb))?;
        endpoint_service.iter().try_for_each(|service| planner.endpoint_service(service, self.prune))?;
        let kept = match_endpoints(&planner.state, endpoint);
        for (declared, present) in endpoint.iter().zip(kept) {
            planner.endpoint(declared, present.as_ref())?;
        }
        for DeclaredLink { name, sides } in link {
            let request = CreateLink { name: name.clone(), sides: sides.clone() };
            let detail = sides.each_ref().map(|side| format!("VPC {}", side.vpc.as_str())).join(", ");
            planner.step(&request, Action::Create, "link", name, detail)?;
        }
        // A target group is free to go once its listeners lead elsewhere.
        if self.prune {
            planner.prune_unused(&self.declaration)?;
        }
        Ok((planner.change, planner.plan))
    }
}

fn declared_once<T: fmt::Display + Ord>(what: &str, names: impl Iterator<Item = T>) -> Result<(), ControlError> {
    let mut seen = BTreeSet::new();
    for name in names {
        let text = format!("{what} '{name}'");
        if !seen.insert(name) {
            return Err(ControlError::DeclaredTwice { what: text });
        }
    }
    Ok(())
}

/// For each declared endpoint the present one that it means: the one at its address, or, without an address, one that
/// leads from the same VPC to the same service and is not meant by another.
fn match_endpoints(state: &State, declared: &[DeclaredEndpoint]) -> Vec<Option<EndpointId>> {
    let leads = |endpoint: &Endpoint, declared: &DeclaredEndpoint| {
        lookup::vpc(state, &declared.vpc).is_ok_and(|vpc| vpc.id == endpoint.vpc)
            && lookup::endpoint_service(state, &declared.service_name)
                .is_ok_and(|service| service.id == endpoint.service)
    };
    let mut taken = BTreeSet::new();
    let mut found = vec![None; declared.len()];
    for with_address in [true, false] {
        for (declared, slot) in declared.iter().zip(&mut found) {
            if declared.address.is_some() != with_address {
                continue;
            }
            *slot = state
                .endpoints
                .values()
                .find(|endpoint| {
                    leads(endpoint, declared)
                        && declared.address.is_none_or(|address| address == endpoint.address)
                        && !taken.contains(&endpoint.id)
                })
                .map(|endpoint| endpoint.id.clone());
            taken.extend(slot.clone());
        }
    }
    found
}

/// Collects steps; `state` is the state after the steps so far.
struct Planner<'a, 'b> {
    state: State,
    change: Change,
    plan: Plan,
    context: &'a mut Context<'b>,
}

impl Planner<'_, '_> {
    /// Does `request`; a step is noted if it changes anything.
    fn step<M: Mutation>(
        &mut self,
        request: &M,
        action: Action,
        kind: &str,
        name: impl fmt::Display,
        detail: impl Into<String>,
    ) -> Result<(), ControlError> {
        let (change, _) = request.decide(&self.state, self.context)?;
        self.record(change, action, kind, name, detail);
        Ok(())
    }

    fn record(
        &mut self,
        change: Change,
        action: Action,
        kind: &str,
        name: impl fmt::Display,
        detail: impl Into<String>,
    ) {
        if change.is_empty() {
            return;
        }
        self.state.apply(&change);
        self.change = std::mem::take(&mut self.change).then(change);
        self.plan.steps.push(Step { action, kind: kind.to_owned(), name: name.to_string(), detail: detail.into() });
    }

    fn vpc(&mut self, declared: &DeclaredVpc) -> Result<(), ControlError> {
        let DeclaredVpc { name, cidr, gateway, ipv6_cidr, ipv6_gateway } = declared;
        let router = gateway.map_or_else(|| "no gateway".to_owned(), |gateway| format!("gateway {gateway}"));
        if let Some(present) = self.state.vpcs.values().find(|vpc| vpc.name == *name) {
            unchanged(format!("VPC '{name}'"), "CIDR", &present.cidr, cidr)?;
            if let (Some(present), None) = (present.ipv6, ipv6_cidr) {
                let (from, to) = (present.cidr.to_string(), "none".to_owned());
                unchanged(format!("VPC '{name}'"), "IPv6 CIDR", &from, &to)?;
            }
            let request = ModifyVpc {
                vpc: name.into(),
                gateway: Some(*gateway),
                ipv6_cidr: *ipv6_cidr,
                ipv6_gateway: Some(*ipv6_gateway),
                ..ModifyVpc::default()
            };
            return self.step(&request, Action::Modify, "vpc", name, router);
        }
        let request = CreateVpc {
            name: name.clone(),
            cidr: *cidr,
            gateway: *gateway,
            ipv6_cidr: *ipv6_cidr,
            ipv6_gateway: *ipv6_gateway,
        };
        self.step(&request, Action::Create, "vpc", name, format!("{cidr}, {router}"))
    }

    fn port(&mut self, declared: &DeclaredPort) -> Result<(), ControlError> {
        let DeclaredPort { interface, vpc, hook, shared } = declared.clone();
        let action = if self.state.ports.contains_key(&interface) { Action::Modify } else { Action::Create };
        let sharing = if shared { "shared" } else { "isolated" };
        let detail = format!("VPC {}, hook {hook}, {sharing}", vpc.as_str());
        let request = AttachPort { interface, vpc, hook, shared };
        let (change, port) = request.decide_change(&self.state, self.context)?;
        self.record(change, action, "port", port.interface, detail);
        Ok(())
    }

    fn security_group(&mut self, declared: &DeclaredSecurityGroup) -> Result<(), ControlError> {
        let DeclaredSecurityGroup { name, vpc, description, ingress: _, egress: _, apply_to_established: _ } = declared;
        let found = lookup::vpc(&self.state, vpc)?;
        if self.state.security_groups.values().any(|group| group.vpc == found.id && group.name == *name) {
            return Ok(());
        }
        let request = CreateSecurityGroup { name: name.clone(), vpc: vpc.clone(), description: description.clone() };
        self.step(&request, Action::Create, "security-group", name, format!("VPC {}", vpc.as_str()))
    }

    fn rules(&mut self, declared: &DeclaredSecurityGroup) -> Result<(), ControlError> {
        let DeclaredSecurityGroup { name, vpc, description: _, ingress, egress, apply_to_established } = declared;
        let vpc = lookup::vpc(&self.state, vpc)?.id.clone();
        let present = lookup::security_group(&self.state, &name.into(), Some(&vpc))?;
        let changed = with_rules(&self.state, present, ingress, egress.as_deref(), self.context)?;
        let changed = SecurityGroup { applies_to_established: *apply_to_established, ..changed };
        let change = Change::replace(present, changed.clone());
        let detail = format!("{} rules", changed.rules.len());
        self.record(change, Action::Modify, "security-group", name, detail);
        Ok(())
    }

    fn instance(&mut self, declared: &DeclaredInstance) -> Result<(), ControlError> {
        let DeclaredInstance { name, vpc, addresses, security_groups } = declared;
        if let Ok(present) = lookup::instance(&self.state, &name.into()) {
            let what = || format!("instance '{name}'");
            let vpc = lookup::vpc(&self.state, vpc)?;
            unchanged(what(), "VPC", &view::vpc_name(&self.state, &present.vpc), &vpc.name.to_string())?;
            let present: Vec<Ipv4Addr> = present.addresses().collect();
            unchanged(what(), "addresses", &in_order(&present), &in_order(addresses))?;
            let request = ModifyInstance { instance: name.into(), security_groups: security_groups.clone() };
            return self.step(&request, Action::Modify, "instance", name, "security groups");
        }
        let request = RegisterInstance {
            name: Some(name.clone()),
            vpc: Some(vpc.clone()),
            addresses: addresses.clone(),
            security_groups: security_groups.clone(),
            ..RegisterInstance::default()
        };
        let detail = format!("VPC {}, {}", vpc.as_str(), in_order(addresses));
        self.step(&request, Action::Create, "instance", name, detail)
    }

    fn target_group(&mut self, declared: &DeclaredTargetGroup, prune: bool) -> Result<(), ControlError> {
        let DeclaredTargetGroup {
            name,
            vpc,
            target_type,
            ip_address_type,
            protocol,
            port,
            health_check,
            attributes,
            targets,
            dns_targets,
        } = declared;
        let health_check = HealthCheckSettings::from(health_check.clone());
        let defaults = TargetGroupAttributes::defaults(*target_type, *protocol, *ip_address_type);
        let attributes = over(defaults.entries_of(*target_type, *protocol), attributes);
        if let Some(present) = self.state.target_groups.values().find(|group| group.name == *name) {
            let what = || format!("target group '{name}'");
            let vpc = lookup::vpc(&self.state, vpc)?;
            unchanged(what(), "VPC", &view::vpc_name(&self.state, &present.vpc), &vpc.name.to_string())?;
            unchanged(what(), "target type", &present.target_type, target_type)?;
            unchanged(what(), "IP address type", &present.ip_address_type, ip_address_type)?;
            unchanged(what(), "protocol", &present.protocol, protocol)?;
            unchanged(what(), "port", &present.port, port)?;
            let request = ModifyTargetGroup {
                target_group: name.into(),
                health_check: health_check.complete(*target_type, *protocol)?.into(),
                attributes,
            };
            self.step(&request, Action::Modify, "target-group", name, "health check, attributes")?;
        } else {
            let request = CreateTargetGroup {
                name: name.clone(),
                vpc: vpc.clone(),
                target_type: *target_type,
                ip_address_type: *ip_address_type,
                protocol: *protocol,
                port: *port,
                health_check,
                attributes,
            };
            let detail = format!("VPC {}, {protocol} {port}", vpc.as_str());
            self.step(&request, Action::Create, "target-group", name, detail)?;
        }
        let present = &lookup::target_group(&self.state, &name.into())?.dns_targets;
        let request = ModifyDnsTargets {
            target_group: name.into(),
            add: dns_targets.difference(present).cloned().collect(),
            remove: present.difference(dns_targets).cloned().collect(),
        };
        if dns_targets != present {
            self.step(&request, Action::Modify, "target-group", name, "targets by DNS name")?;
        }
        self.targets(name, targets, prune)
    }

    fn targets(&mut self, group: &ResourceName, declared: &[TargetSpec], prune: bool) -> Result<(), ControlError> {
        let present = lookup::target_group(&self.state, &group.into())?;
        let mut wanted: BTreeMap<TargetAddress, &TargetSpec> = BTreeMap::new();
        for spec in declared {
            wanted.insert(spec.resolve(&self.state, present)?.0, spec);
        }
        let kept: BTreeSet<TargetAddress> = wanted.keys().copied().collect();
        let active = |address: &TargetAddress| {
            present.targets.get(address).is_some_and(|target| target.draining_since.is_none())
        };
        let missing: Vec<TargetSpec> = wanted
            .into_iter()
            .filter(|(address, _)| !active(address))
            .map(|(address, spec)| TargetSpec { port: Some(address.port), ..spec.clone() })
            .collect();
        let by_hand = |target: &Target| target.draining_since.is_none() && target.dns_name.is_none();
        let undeclared = |target: &&Target| by_hand(target) && !kept.contains(&target.address);
        let surplus: Vec<TargetSpec> =
            present.targets.values().filter(|_| prune).filter(undeclared).map(TargetSpec::from).collect();
        if !missing.is_empty() {
            let request = RegisterTargets { target_group: group.into(), targets: missing.clone() };
            self.target_steps(&request, Action::Create, &missing, &format!("target group {group}"))?;
        }
        if !surplus.is_empty() {
            let request = DeregisterTargets { target_group: group.into(), targets: surplus.clone() };
            self.target_steps(&request, Action::Delete, &surplus, &format!("target group {group}, drains"))?;
        }
        Ok(())
    }

    /// Does `request` once, and notes a step for each target that it is about.
    fn target_steps<M: Mutation>(
        &mut self,
        request: &M,
        action: Action,
        targets: &[TargetSpec],
        detail: &str,
    ) -> Result<(), ControlError> {
        let (change, _) = request.decide(&self.state, self.context)?;
        self.state.apply(&change);
        self.change = std::mem::take(&mut self.change).then(change);
        let step = |target: &TargetSpec| Step {
            action,
            kind: "target".to_owned(),
            name: target.to_string(),
            detail: detail.to_owned(),
        };
        self.plan.steps.extend(targets.iter().map(step));
        Ok(())
    }

    fn load_balancer(&mut self, declared: &DeclaredLoadBalancer) -> Result<(), ControlError> {
        let DeclaredLoadBalancer {
            name,
            vpc,
            addresses,
            security_groups,
            enforce_on_private_link,
            attributes,
            listener,
        } = declared;
        let present = self.state.load_balancers.values().find(|lb| lb.name == *name);
        let kind = present.map_or_else(LoadBalancerKind::default, |present| present.id.kind());
        let scheme = present.map_or_else(Scheme::default, |present| present.scheme);
        // Addresses that were assigned stay: their number cannot become less.
        let secondary_ips = present.map_or(0, |present| present.attributes.secondary_ips);
        let defaults = LoadBalancerAttributes { secondary_ips, ..LoadBalancerAttributes::defaults(kind, scheme) };
        let attributes = over(defaults.entries_of(kind), attributes);
        if let Some(present) = present {
            let what = || format!("load balancer '{name}'");
            let vpc = lookup::vpc(&self.state, vpc)?;
            unchanged(what(), "VPC", &view::vpc_name(&self.state, &present.vpc), &vpc.name.to_string())?;
            let (own, ipv6_addresses) = by_family(addresses.iter().copied());
            unchanged(what(), "node addresses", &list(&present.addresses), &list(&own))?;
            let request =
                ModifyLoadBalancer { load_balancer: name.into(), attributes, ipv6_addresses: Some(ipv6_addresses) };
            self.step(&request, Action::Modify, "load-balancer", name, "attributes, IPv6 addresses")?;
        } else {
            let request = CreateLoadBalancer {
                kind: Default::default(),
                name: name.clone(),
                vpc: vpc.clone(),
                addresses: addresses.clone(),
                scheme: Default::default(),
                security_groups: security_groups.clone(),
                attributes,
            };
            let detail = format!("VPC {}, {}", vpc.as_str(), list(addresses));
            self.step(&request, Action::Create, "load-balancer", name, detail)?;
        }
        let present = lookup::load_balancer(&self.state, &name.into())?;
        let request = SetSecurityGroups {
            load_balancer: name.into(),
            security_groups: Some(security_groups.clone()),
            enforce_on_private_link: Some(*enforce_on_private_link),
            apply_to_established: present.security_groups.applies_to_established,
        };
        self.step(&request, Action::Modify, "load-balancer", name, "security groups")?;
        declared_once(&format!("listener of load balancer '{name}' on port"), listener.iter().map(|one| one.port))?;
        listener.iter().try_for_each(|listener| self.listener(name, listener))
    }

    fn listener(&mut self, lb: &ResourceName, declared: &DeclaredListener) -> Result<(), ControlError> {
        let DeclaredListener {
            protocol,
            port,
            target_group,
            target_groups,
            stickiness,
            certificates,
            ssl_policy,
            alpn_policy,
            attributes,
        } = declared;
        let (certificate, more_certificates) = match certificates.split_first() {
            Some((first, more)) => (Some(first.clone()), more.to_vec()),
            None => (None, Vec::new()),
        };
        let name = format!("{lb}:{port}");
        let groups: Vec<String> = target_group
            .iter()
            .map(|group| group.as_str().to_owned())
            .chain(target_groups.iter().map(ToString::to_string))
            .collect();
        let detail = format!("{protocol}, target group {}", groups.join(", "));
        let mut defaults = over(ListenerAttributes::default().entries(), &BTreeMap::new());
        defaults.retain(|key, _| ListenerAttributes::applies(key, *protocol));
        defaults.extend(attributes.iter().map(|(key, value)| (key.clone(), value.to_string())));
        let attributes = defaults;
        if let Ok(present) = lookup::listener(&self.state, &Reference::from(&name)) {
            unchanged(format!("listener '{name}'"), "protocol", &present.protocol, protocol)?;
            // What is not declared has its default.
            let tls = present.tls.is_some();
            let request = ModifyListener {
                listener: (&name).into(),
                port: None,
                protocol: None,
                target_group: target_group.clone(),
                target_groups: target_groups.clone(),
                stickiness: Some(*stickiness),
                certificate,
                more_certificates: Some(more_certificates),
                ssl_policy: ssl_policy.or(tls.then(ListenerPolicy::default)),
                alpn_policy: alpn_policy.or(tls.then(AlpnPolicy::default)),
                attributes,
            };
            return self.step(&request, Action::Modify, "listener", name, detail);
        }
        let request = CreateListener {
            load_balancer: lb.into(),
            protocol: *protocol,
            port: *port,
            target_group: target_group.clone(),
            target_groups: target_groups.clone(),
            stickiness: *stickiness,
            certificate,
            more_certificates,
            ssl_policy: *ssl_policy,
            alpn_policy: *alpn_policy,
            attributes,
        };
        self.step(&request, Action::Create, "listener", name, detail)
    }

    fn endpoint_service(&mut self, declared: &DeclaredEndpointService, prune: bool) -> Result<(), ControlError> {
        let DeclaredEndpointService {
            name,
            load_balancer,
            targets,
            vpc,
            protocol,
            port,
            acceptance_required,
            allowed_principals,
            accept,
            reject,
            private_dns_name,
            limits,
        } = declared.clone();
        let load_balancers = load_balancer.all().to_vec();
        let consent = if acceptance_required { "acceptance required" } else { "accepts at once" };
        let consumers = ConsumerLists { accept: accept.clone(), reject: reject.clone() };
        let shown;
        if targets.is_empty() {
            let listed = load_balancers.iter().map(Reference::as_str).collect::<Vec<_>>().join(", ");
            shown = name.as_ref().map_or_else(|| listed.clone(), ToString::to_string);
            let request = CreateEndpointService {
                load_balancers,
                name,
                acceptance_required,
                principals: allowed_principals.clone(),
                private_dns_name: None,
                consumers,
                ipv4_only: false,
                supported_regions: Default::default(),
            };
            let detail = format!("load balancer {listed}, {consent}");
            // Its private DNS name is compared below.
            if declared_service(&self.state, declared).is_none_or(|present| present.alias != declared.name) {
                self.step(&request, Action::Create, "endpoint-service", &shown, &detail)?;
            }
        } else {
            let Some(name) = name.filter(|_| load_balancers.is_empty()) else {
                return Err(InvalidValue::new(
                    "endpoint service",
                    specs_text(&targets),
                    "that is declared with targets must have a name and no load balancer",
                    "give it a name, or declare target group and load balancer",
                )
                .into());
            };
            shown = name.to_string();
            let request = PublishTargets {
                name: Some(name.clone()),
                vpc: vpc.clone(),
                targets: targets.clone(),
                protocol,
                port,
                node_address: None,
                acceptance_required,
                principals: allowed_principals.clone(),
                private_dns_name: None,
                consumers,
                supported_regions: Default::default(),
            };
            match declared_service(&self.state, declared).and_then(|present| publish::published(&self.state, present)) {
                Some(present) => {
                    let what = || format!("endpoint service '{name}'");
                    let vpc = lookup::vpc(&self.state, &vpc)?;
                    unchanged(what(), "VPC", &view::vpc_name(&self.state, present.vpc), &vpc.name.to_string())?;
                    unchanged(what(), "protocol", &present.listener.protocol, &protocol)?;
                    let (port, _) = publish::shape(&targets, port)?;
                    unchanged(what(), "port", &present.listener.port.to_string(), &port.to_string())?;
                    let group = present.group.name.clone();
                    let specs: Vec<TargetSpec> = targets.iter().map(|target| target.resolve(port).into()).collect();
                    self.targets(&group, &specs, prune)?;
                }
                None => {
                    let detail = format!("{} in VPC {}, {consent}", specs_text(&targets), vpc.as_str());
                    self.step(&request, Action::Create, "endpoint-service", &shown, &detail)?;
                }
            }
        }
        // What is there already may differ in what can be changed.
        let Some(present) = declared_service(&self.state, declared).cloned() else { return Ok(()) };
        let reference: Reference = (&present.id).into();
        let answers = ConsumerLists { accept: accept.clone(), reject: reject.clone() };
        let request = ModifyEndpointService {
            endpoint_service: reference.clone(),
            acceptance_required: Some(acceptance_required),
            remove_private_dns_name: private_dns_name.is_none(),
            private_dns_name,
            // Untouched lists answer nobody anew.
            accept: (present.consumers != answers).then_some(accept),
            reject: (present.consumers != answers).then_some(reject),
            limits: Limits::from(limits).into(),
            ..ModifyEndpointService::default()
        };
        self.step(&request, Action::Modify, "endpoint-service", &shown, consent)?;
        let declared: BTreeSet<_> = allowed_principals.into_iter().collect();
        if present.principals != declared {
            let request = ModifyPermissions {
                endpoint_service: reference,
                add: declared.difference(&present.principals).cloned().collect(),
                remove: present.principals.difference(&declared).cloned().collect(),
            };
            self.step(&request, Action::Modify, "endpoint-service", &shown, "allowed principals")?;
        }
        Ok(())
    }

    fn endpoint(&mut self, declared: &DeclaredEndpoint, present: Option<&EndpointId>) -> Result<(), ControlError> {
        let DeclaredEndpoint {
            service_name,
            vpc,
            address,
            ip_address_type,
            ipv6_address,
            dns_record_ip_type,
            security_groups,
            aliases,
            private_dns,
        } = declared.clone();
        if let Some(present) = present.and_then(|id| self.state.endpoints.get(id)) {
            let name = format!("{}/{}", vpc.as_str(), present.address);
            let request = ModifyEndpoint {
                endpoint: (&present.id).into(),
                // Not declared is IPv4 only.
                ip_address_type: ip_address_type.or(ipv6_address.is_none().then_some(IpAddressType::Ipv4)),
                ipv6_address,
                dns_record_ip_type,
                reset_dns_record_ip_type: dns_record_ip_type.is_none(),
                aliases: Some(aliases),
                security_groups: Some(security_groups),
                apply_to_established: present.security_groups.applies_to_established,
                private_dns: (!private_dns).then_some(false),
                private_dns_on_acceptance: Some(private_dns),
                ..ModifyEndpoint::default()
            };
            return self.step(&request, Action::Modify, "endpoint", name, "aliases, security groups, private DNS");
        }
        let (vpc_text, service) = (vpc.as_str().to_owned(), service_name.as_str().to_owned());
        let request = CreateEndpoint {
            service_name,
            vpc,
            address,
            ip_address_type,
            ipv6_address,
            dns_record_ip_type,
            aliases,
            security_groups,
            private_dns_on_acceptance: private_dns,
            ..CreateEndpoint::default()
        };
        let (change, made) = request.decide(&self.state, self.context)?;
        let name = format!("{vpc_text}/{}", made.address);
        self.record(change, Action::Create, "endpoint", name, format!("service {service}"));
        Ok(())
    }

    /// Deletes the endpoints, endpoint services, load balancers with their listeners, and ports that are not declared.
    fn prune(&mut self, declaration: &Declaration) -> Result<(), ControlError> {
        for link in self.state.links.clone().values() {
            if !declaration.link.iter().any(|declared| declared.name == link.name) {
                self.step(
                    &DeleteLink { link: (&link.id).into() },
                    Action::Delete,
                    "link",
                    &link.name,
                    "both directions",
                )?;
            }
        }
        let before = self.state.clone();
        let linked = |endpoint: &EndpointId| before.links.values().any(|link| link.has_endpoint(endpoint));
        let kept: BTreeSet<EndpointId> =
            match_endpoints(&before, &declaration.endpoint).into_iter().flatten().collect();
        for endpoint in before.endpoints.values().filter(|at| !kept.contains(&at.id) && !linked(&at.id)) {
            let name = format!("{}/{}", view::vpc_name(&before, &endpoint.vpc), endpoint.address);
            let request = DeleteEndpoint { endpoint: (&endpoint.id).into() };
            self.step(&request, Action::Delete, "endpoint", name, endpoint.id.to_string())?;
        }
        let is_declared =
            |lb: &LoadBalancer| declaration.load_balancer.iter().find(|declared| declared.name == lb.name);
        let linked = |service: &&EndpointService| before.links.values().any(|link| link.has_service(&service.id));
        for service in before.endpoint_services.values().filter(|service| !linked(service)) {
            let declared = declaration.endpoint_service.iter().any(|declared| {
                declared_service(&before, declared).is_some_and(|found| found.id == service.id)
                    && declared.name == service.alias
                    && declared.targets.is_empty() == service.owned_load_balancer.is_none()
            });
            if !declared {
                let request = DeleteEndpointService { endpoint_service: (&service.id).into(), force: false };
                let name = service.alias.as_ref().map_or_else(|| service.id.to_string(), ToString::to_string);
                self.step(&request, Action::Delete, "endpoint-service", name, service.service_name.to_string())?;
            }
        }
        // What was made with a service went with it, or stays with it.
        let owned: BTreeSet<_> =
            before.endpoint_services.values().filter_map(|one| one.owned_load_balancer.as_ref()).collect();
        for lb in before.load_balancers.values().filter(|lb| !owned.contains(&lb.id)) {
            let Some(declared) = is_declared(lb) else {
                let request = DeleteLoadBalancer { load_balancer: (&lb.id).into() };
                self.step(&request, Action::Delete, "load-balancer", &lb.name, "with its listeners")?;
                continue;
            };
            let surplus = before.listeners.values().filter(|listener| {
                listener.load_balancer == lb.id && !declared.listener.iter().any(|one| one.port == listener.port)
            });
            for listener in surplus {
                let request = DeleteListener { listener: (&listener.id).into() };
                self.step(&request, Action::Delete, "listener", view::listener_name(&before, listener), "")?;
            }
        }
        for port in before.ports.values() {
            if !declaration.port.iter().any(|declared| declared.interface == port.interface) {
                let request = DetachPort { port: (&port.interface).into() };
                self.step(&request, Action::Delete, "port", &port.interface, "")?;
            }
        }
        Ok(())
    }

    /// Deletes the target groups, instances, security groups and VPCs that are not declared; nothing refers to them any
    /// more.
    fn prune_unused(&mut self, declaration: &Declaration) -> Result<(), ControlError> {
        let before = self.state.clone();
        let published: BTreeSet<_> = before
            .endpoint_services
            .values()
            .filter_map(|service| publish::published(&before, service))
            .map(|published| &published.group.id)
            .collect();
        for group in before.target_groups.values().filter(|group| !published.contains(&group.id)) {
            if !declaration.target_group.iter().any(|declared| declared.name == group.name) {
                let request = DeleteTargetGroup { target_group: (&group.id).into() };
                self.step(&request, Action::Delete, "target-group", &group.name, "with its targets")?;
            }
        }
        for instance in before.instances.values().filter(|instance| instance.is_alive()) {
            if !declaration.instance.iter().any(|declared| declared.name == instance.name) {
                let request = DeregisterInstances { instances: vec![(&instance.id).into()], force: false };
                self.step(&request, Action::Delete, "instance", &instance.name, instance.id.to_string())?;
            }
        }
        // Rules may name each other's groups, so all of them go at once.
        let declared = |group: &SecurityGroup| {
            declaration.security_group.iter().any(|declared| {
                declared.name == group.name && lookup::vpc(&before, &declared.vpc).is_ok_and(|vpc| vpc.id == group.vpc)
            })
        };
        let surplus: Vec<&SecurityGroup> =
            before.security_groups.values().filter(|group| !group.is_default() && !declared(group)).collect();
        for group in &surplus {
            let bare = SecurityGroup { rules: BTreeMap::new(), ..(*group).clone() };
            self.state.put(bare.into());
        }
        for group in surplus {
            let request = DeleteSecurityGroup { security_group: (&group.id).into() };
            self.step(&request, Action::Delete, "security-group", &group.name, "")?;
        }
        for vpc in before.vpcs.values() {
            if !declaration.vpc.iter().any(|declared| declared.name == vpc.name) {
                self.step(
                    &DeleteVpc { vpc: (&vpc.id).into() },
                    Action::Delete,
                    "vpc",
                    &vpc.name,
                    vpc.cidr.to_string(),
                )?;
            }
        }
        Ok(())
    }
}

/// Every attribute by key: what is declared, and the default of what is not, so that a line taken out of a file takes
/// its effect back.
fn over(
    defaults: Vec<(&'static str, String)>,
    declared: &BTreeMap<String, AttributeValue>,
) -> BTreeMap<String, String> {
    let defaults = defaults.into_iter().map(|(key, value)| (key.to_owned(), value));
    defaults.chain(declared.iter().map(|(key, value)| (key.clone(), value.to_string()))).collect()
}

/// The service that a declaration means: that of exactly its load balancers; one that has targets instead is known by
/// its name.
fn declared_service<'a>(state: &'a State, declared: &DeclaredEndpointService) -> Option<&'a EndpointService> {
    let load_balancers = declared.load_balancer.all();
    if load_balancers.is_empty() {
        let named = |service: &&EndpointService| service.alias.is_some() && service.alias == declared.name;
        return state.endpoint_services.values().find(named);
    }
    let ids: Result<Vec<_>, _> =
        load_balancers.iter().map(|reference| lookup::load_balancer(state, reference).map(|lb| &lb.id)).collect();
    let ids = ids.ok()?;
    state.endpoint_services.values().find(|service| service.load_balancers.iter().eq(ids.iter().copied()))
}

fn specs_text(targets: &[publish::AddressSpec]) -> String {
    targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn in_order(addresses: &[Ipv4Addr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn list<T: Ord + fmt::Display>(addresses: &[T]) -> String {
    let sorted: BTreeSet<&T> = addresses.iter().collect();
    sorted.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Refuses a declared value that differs from the present one where it is fixed at creation.
fn unchanged<T: PartialEq + fmt::Display>(
    what: String,
    field: &'static str,
    present: &T,
    declared: &T,
) -> Result<(), ControlError> {
    if present == declared {
        return Ok(());
    }
    Err(ControlError::Immutable { what, field, from: present.to_string(), to: declared.to_string() })
}
