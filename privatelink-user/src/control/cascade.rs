//! Deletions that take with them what stands in their way: for people who mean it. AWS has none; each guard says what
//! it needs.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Mutation, Reference, application,
    endpoint_services::DeleteEndpointService,
    endpoints::{DeleteEndpoint, ModifyEndpoint},
    instances::DeregisterInstances,
    links::DeleteLink,
    listeners::DeleteListener,
    load_balancers::{DeleteLoadBalancer, with_addresses},
    lookup, operation,
    ports::DetachPort,
    publish::Parts,
    route_tables::DeleteRouteTable,
    subnets::{self, DeleteSubnet},
    target_groups::DeleteTargetGroup,
    vpcs::DeleteVpc,
};
use crate::model::{
    AddressUse, Alias, Change, Edit, EndpointService, EndpointServiceId, EndpointState, GatewayEndpoint, Key, Listener,
    LoadBalancerId, Record, State, SubnetId, TargetGroupId, VpcId,
};

/// Deletes a resource and everything of the caller's that stands in the way; connections of others are rejected.
/// Deletion protection stays a refusal, and then nothing is deleted.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteCascading {
    pub resource: Doomed,
}
operation!(DeleteCascading -> Vec<String>);

/// What [`DeleteCascading`] deletes.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Doomed {
    /// With all that is in it, and the links that lead there.
    Vpc(Reference),
    /// With the addresses in it, and what has no other ones.
    Subnet(Reference),
    /// With its listeners, and the services that it alone serves.
    LoadBalancer(Reference),
    /// With the listeners that lead nowhere else.
    TargetGroup(Reference),
}

impl Mutation for DeleteCascading {
    /// Answers what has gone, each in words.
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, Vec<String>), ControlError> {
        let mut cascade = Cascade { parts: Parts::new(state), context };
        match &self.resource {
            Doomed::Vpc(reference) => cascade.vpc(&lookup::vpc(state, reference)?.id.clone())?,
            Doomed::Subnet(reference) => cascade.subnet(&subnets::find(state, reference)?.id.clone())?,
            Doomed::LoadBalancer(reference) => {
                cascade.load_balancer(&lookup::load_balancer(state, reference)?.id.clone())?;
            }
            Doomed::TargetGroup(reference) => {
                cascade.target_group(&lookup::target_group(state, reference)?.id.clone())?;
            }
        }
        let change = cascade.parts.change;
        let gone = change.edits().iter().filter_map(gone).collect::<BTreeSet<_>>();
        Ok((change, gone.into_iter().collect()))
    }
}

/// What an edit takes away, in words.
fn gone(edit: &Edit) -> Option<String> {
    let words = match edit {
        Edit::Put(Record::Endpoint(endpoint)) if endpoint.state == EndpointState::Rejected => {
            format!("connection of endpoint {}", endpoint.id)
        }
        Edit::Put(_) | Edit::LastVpcIndex(_) => return None,
        Edit::Remove(key) => match key {
            Key::Vpc(id) => format!("VPC {id}"),
            Key::Port(interface) => format!("port {interface}"),
            Key::SecurityGroup(id) => format!("security group {id}"),
            Key::LoadBalancer(id) => format!("load balancer {id}"),
            Key::Listener(id) => format!("listener {id}"),
            Key::ApplicationListener(id) => format!("listener {id}"),
            Key::ListenerRule(id) => format!("rule {id}"),
            Key::TargetGroup(id) => format!("target group {id}"),
            Key::EndpointService(id) => format!("endpoint service {id}"),
            Key::Endpoint(id) | Key::GatewayEndpoint(id) => format!("endpoint {id}"),
            Key::Link(id) => format!("link {id}"),
            Key::Subnet(id) => format!("subnet {id}"),
            Key::RouteTable(id) => format!("route table {id}"),
            Key::Instance(id) => format!("instance {id}"),
            Key::Certificate(id) => format!("certificate {id}"),
            Key::ConnectionNotification(id) => format!("connection notification {id}"),
            Key::Notice(_) | Key::Tags(_) | Key::Account(_) | Key::ClientToken(_) => return None,
        },
    };
    Some(words)
}

/// The deletions so far, each by the operation that a person would call.
struct Cascade<'a, 'c> {
    parts: Parts,
    context: &'a mut Context<'c>,
}

impl Cascade<'_, '_> {
    fn delete<M: Mutation>(&mut self, request: &M) -> Result<(), ControlError> {
        self.parts.make(request, self.context).map(drop)
    }

    fn does(&mut self, change: Change) {
        self.parts.state.apply(&change);
        self.parts.change = std::mem::take(&mut self.parts.change).then(change);
    }

    fn vpc(&mut self, id: &VpcId) -> Result<(), ControlError> {
        let of_vpc = |state: &State| -> Vec<_> {
            let endpoints = state.endpoints.values().filter(|endpoint| endpoint.vpc == *id);
            endpoints.map(|endpoint| endpoint.id.clone()).collect()
        };
        for endpoint in of_vpc(&self.parts.state) {
            self.endpoint(&endpoint.to_string())?;
        }
        let state = &self.parts.state;
        let gateways = state.gateway_endpoints.values().filter(|endpoint| endpoint.vpc == *id);
        let gone =
            |change: Change, endpoint: &GatewayEndpoint| change.remove(Key::GatewayEndpoint(endpoint.id.clone()));
        let change = gateways.fold(Change::default(), gone);
        self.does(change);
        let state = &self.parts.state;
        let lbs: Vec<_> = state.load_balancers.values().filter(|lb| lb.vpc == *id).map(|lb| lb.id.clone()).collect();
        for lb in lbs {
            self.load_balancer(&lb)?;
        }
        let state = &self.parts.state;
        let groups = state.target_groups.values().filter(|group| group.vpc == *id);
        for group in groups.map(|group| group.id.clone()).collect::<Vec<_>>() {
            self.target_group(&group)?;
        }
        let state = &self.parts.state;
        let instances: Vec<Reference> = state.instances_of(id).map(|instance| (&instance.id).into()).collect();
        if !instances.is_empty() {
            self.delete(&DeregisterInstances { instances, force: true })?;
        }
        let state = &self.parts.state;
        let tables = state.route_tables.values().filter(|table| table.vpc == *id && !table.is_main());
        for table in tables.map(|table| Reference::from(&table.id)).collect::<Vec<_>>() {
            self.delete(&DeleteRouteTable { route_table: table, force: true })?;
        }
        let state = &self.parts.state;
        let subnets = state.subnets.values().filter(|subnet| subnet.vpc == *id);
        for subnet in subnets.map(|subnet| Reference::from(&subnet.id)).collect::<Vec<_>>() {
            self.delete(&DeleteSubnet { subnet })?;
        }
        // Nothing carries them any more, and groups that name each other go together.
        let state = &self.parts.state;
        let groups = state.security_groups.values().filter(|group| group.vpc == *id && !group.is_default());
        let change = groups.fold(Change::default(), |change, group| change.remove(group.id.clone()));
        self.does(change);
        let state = &self.parts.state;
        let ports = state.ports.values().filter(|port| port.vpc == *id);
        for port in ports.map(|port| Reference::from(&port.interface)).collect::<Vec<_>>() {
            self.delete(&DetachPort { port })?;
        }
        self.delete(&DeleteVpc { vpc: id.into() })
    }

    /// An endpoint, with the link that it is part of. One that has gone with another link is no error.
    fn endpoint(&mut self, id: &str) -> Result<(), ControlError> {
        let Ok(endpoint) = lookup::endpoint(&self.parts.state, &id.into()) else { return Ok(()) };
        let link = self.parts.state.links.values().find(|link| link.has_endpoint(&endpoint.id));
        match link.map(|link| Reference::from(&link.id)) {
            Some(link) => self.delete(&DeleteLink { link }),
            None => self.delete(&DeleteEndpoint { endpoint: id.into() }),
        }
    }

    /// A service, with the link that it is part of.
    fn service(&mut self, id: &EndpointServiceId) -> Result<(), ControlError> {
        let link = self.parts.state.links.values().find(|link| link.has_service(id));
        match link.map(|link| Reference::from(&link.id)) {
            Some(link) => self.delete(&DeleteLink { link }),
            None => self.delete(&DeleteEndpointService { endpoint_service: id.into(), force: true }),
        }
    }

    fn load_balancer(&mut self, id: &LoadBalancerId) -> Result<(), ControlError> {
        let serves = |service: &&EndpointService| service.load_balancers.contains(id);
        let service = self.parts.state.endpoint_services.values().find(serves).cloned();
        match service {
            Some(service) if service.load_balancers.len() > 1 => {
                let mut changed = service;
                changed.load_balancers.retain(|lb| lb != id);
                changed.owned_load_balancer = changed.owned_load_balancer.filter(|owned| owned != id);
                self.does(Change::default().put(changed));
            }
            Some(service) => self.service(&service.id)?,
            None => {}
        }
        self.does(application::deregistered(&self.parts.state, id));
        // It may have gone with its service.
        if self.parts.state.load_balancers.contains_key(id) {
            self.delete(&DeleteLoadBalancer { load_balancer: id.into() })?;
        }
        Ok(())
    }

    fn target_group(&mut self, id: &TargetGroupId) -> Result<(), ControlError> {
        let state = &self.parts.state;
        let leads_here = |listener: &&Listener| listener.forward.weights.contains_key(id);
        for listener in state.listeners.values().filter(leads_here).cloned().collect::<Vec<_>>() {
            let lb = Some(&listener.load_balancer);
            let owner = self.parts.state.endpoint_services.values().find(|one| one.owned_load_balancer.as_ref() == lb);
            if let Some(service) = owner.map(|service| service.id.clone()) {
                self.service(&service)?;
            } else if !self.parts.state.listeners.contains_key(&listener.id) {
                // It has gone with a service.
            } else if listener.forward.weights.len() > 1 {
                let mut changed = listener;
                changed.forward.weights.remove(id);
                self.does(Change::default().put(changed));
            } else {
                self.delete(&DeleteListener { listener: (&listener.id).into() })?;
            }
        }
        self.does(application::without_group(&self.parts.state, id));
        // It may have gone with a service that was made with it.
        if self.parts.state.target_groups.contains_key(id) {
            self.delete(&DeleteTargetGroup { target_group: id.into() })?;
        }
        Ok(())
    }

    fn subnet(&mut self, id: &SubnetId) -> Result<(), ControlError> {
        let Some(subnet) = self.parts.state.subnets.get(id).cloned() else { return Ok(()) };
        let inside = |address: &std::net::Ipv4Addr| subnet.cidr.net().contains(address);
        let users: Vec<AddressUse> = subnets::uses(&self.parts.state, &subnet).map(|(_, by)| by).collect();
        for by in users {
            match by {
                AddressUse::Endpoint(endpoint) => {
                    let Some(found) = self.parts.state.endpoints.get(&endpoint) else { continue };
                    if found.addresses().all(|address| inside(&address)) {
                        self.endpoint(&endpoint.to_string())?;
                        continue;
                    }
                    let stays = |alias: &&Alias| alias.address().is_none_or(|address| !inside(&address));
                    let request = ModifyEndpoint {
                        endpoint: (&endpoint).into(),
                        aliases: Some(found.aliases.iter().filter(stays).copied().collect()),
                        remove_subnets: vec![id.into()],
                        ..ModifyEndpoint::default()
                    };
                    self.delete(&request)?;
                }
                AddressUse::Node(lb) => {
                    let Some(found) = self.parts.state.load_balancers.get(&lb) else { continue };
                    let left: Vec<_> = found.addresses.iter().copied().filter(|address| !inside(address)).collect();
                    if left.is_empty() {
                        self.load_balancer(&lb)?;
                    } else {
                        let change = with_addresses(&self.parts.state, found, left)?;
                        self.does(change);
                    }
                }
                AddressUse::Instance(instance) => {
                    if self.parts.state.instances.get(&instance).is_some_and(|found| found.is_alive()) {
                        self.delete(&DeregisterInstances { instances: vec![(&instance).into()], force: true })?;
                    }
                }
                AddressUse::Gateway(_) | AddressUse::Target(_) => {}
            }
        }
        self.delete(&DeleteSubnet { subnet: id.into() })
    }
}
