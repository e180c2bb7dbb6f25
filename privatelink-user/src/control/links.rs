//! Two-way links: both services, both endpoints and both consents at once.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    Context, ControlError, Installed, Mutation, Query, Reference,
    connections::AcceptConnections,
    endpoints::{self, CreateEndpoint},
    lookup, operation,
    publish::{self, AddressSpec, Parts, PublishTargets},
    sorted,
    view::LinkView,
};
use crate::model::{
    Change, InvalidValue, Link, LinkId, LinkSide, ListenerPorts, Protocol, ResourceName, State, serde_as_text,
};

/// One VPC's part of a link, as a person gives it: `vpc=V,target=IP:PORT,address=IP`, in any order; several targets are
/// several `target=`. Optional: `address=` (by which the other side is reached here), `port=` and `protocol=` (of the
/// targets' service), `node=` (as which the other side's connections come from), `security-group=` (who here may reach
/// the other side).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkSideSpec {
    pub vpc: Reference,
    pub targets: Vec<AddressSpec>,
    pub protocol: Protocol,
    pub port: Option<u16>,
    pub node_address: Option<Ipv4Addr>,
    pub address: Option<Ipv4Addr>,
    pub security_groups: Vec<Reference>,
}

impl fmt::Display for LinkSideSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vpc, targets, protocol, port, node_address, address, security_groups } = self;
        write!(f, "vpc={},protocol={protocol}", vpc.as_str())?;
        targets.iter().try_for_each(|target| write!(f, ",target={target}"))?;
        port.iter().try_for_each(|port| write!(f, ",port={port}"))?;
        node_address.iter().try_for_each(|node| write!(f, ",node={node}"))?;
        address.iter().try_for_each(|address| write!(f, ",address={address}"))?;
        security_groups.iter().try_for_each(|group| write!(f, ",security-group={}", group.as_str()))
    }
}

impl FromStr for LinkSideSpec {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |rule: &str| {
            InvalidValue::new(
                "side of a link",
                text,
                rule,
                "use a form like vpc=office,target=10.200.0.10:80,address=10.200.0.203",
            )
        };
        let address =
            |value: &str| value.parse().map(Some).map_err(|_| invalid("has an address that is no IPv4 address"));
        let mut side = Self {
            vpc: Reference::default(),
            targets: Vec::new(),
            protocol: Protocol::Tcp,
            port: None,
            node_address: None,
            address: None,
            security_groups: Vec::new(),
        };
        for part in text.split(',') {
            let (key, value) =
                part.split_once('=').ok_or_else(|| invalid("must be keys and values with '=' between"))?;
            match key {
                "vpc" => side.vpc = value.into(),
                "target" => side.targets.push(value.parse()?),
                "protocol" => side.protocol = value.parse()?,
                "port" => {
                    let port = value.parse().ok().filter(|port| *port != 0);
                    side.port = Some(port.ok_or_else(|| invalid("has a port that is not between '1-65535'"))?);
                }
                "node" => side.node_address = address(value)?,
                "address" => side.address = address(value)?,
                "security-group" => side.security_groups.push(value.into()),
                _ => {
                    return Err(invalid("can have vpc, target, port, protocol, address, node and security-group only"));
                }
            }
        }
        if side.vpc.as_str().is_empty() || side.targets.is_empty() {
            return Err(invalid("must name a VPC and at least one target"));
        }
        Ok(side)
    }
}

serde_as_text!(LinkSideSpec);

/// Links two VPCs of the caller: each one's targets get an address in the other. Idempotent for the same name, VPCs and
/// targets.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLink {
    /// The link's; its services are named after it: `NAME-1`, `NAME-2`.
    pub name: ResourceName,
    pub sides: [LinkSideSpec; 2],
}
operation!(CreateLink -> LinkView);

impl Mutation for CreateLink {
    fn decide(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, LinkView), ControlError> {
        let Self { name, sides } = self;
        if let Some(link) = state.links.values().find(|link| link.name == *name) {
            let mut same = true;
            for (side, spec) in link.sides.iter().zip(sides) {
                same &= is_as(state, side, spec)?;
            }
            return if same {
                Ok((Change::default(), LinkView::new(state, link)))
            } else {
                Err(ControlError::DuplicateLink(name.clone()))
            };
        }
        let mut parts = Parts::new(state);
        let mut services = Vec::new();
        for (number, side) in (1..).zip(sides) {
            let LinkSideSpec { vpc, targets, protocol, port, node_address, address: _, security_groups: _ } =
                side.clone();
            // Nobody else gets in: it admits no other account, and its own has to be accepted too.
            let request = PublishTargets {
                name: Some(format!("{name}-{number}").parse()?),
                vpc,
                targets,
                protocol,
                port,
                node_address,
                acceptance_required: true,
                principals: Vec::new(),
                private_dns_name: None,
                consumers: Default::default(),
                supported_regions: Default::default(),
            };
            let made = parts.make(&request, context)?;
            services.push(made.id);
        }
        let [first, second] = sides;
        let (mut link_sides, mut leads_to) = (Vec::new(), services.iter().rev());
        for (side, service) in [first, second].into_iter().zip(&services) {
            let Some(other) = leads_to.next() else { continue };
            let request = CreateEndpoint {
                service_name: other.into(),
                vpc: side.vpc.clone(),
                address: side.address,
                security_groups: side.security_groups.clone(),
                ..CreateEndpoint::default()
            };
            let endpoint = parts.make(&request, context)?.id;
            let consent = AcceptConnections { endpoint_service: other.into(), endpoints: vec![(&endpoint).into()] };
            parts.make(&consent, context)?;
            link_sides.push(LinkSide { service: service.clone(), endpoint });
        }
        let Ok(sides) = link_sides.try_into() else { return Err(ControlError::DuplicateLink(name.clone())) };
        let link = Link {
            id: LinkId::generate(context.ids),
            owner: context.owner(),
            name: name.clone(),
            sides,
            created_at: context.now,
        };
        let Parts { state, change } = parts;
        let view = LinkView::new(&state, &link);
        Ok((change.put(link), view))
    }
}

/// Whether a link's side is what `spec` says; what `spec` leaves open may be anything.
fn is_as(state: &State, side: &LinkSide, spec: &LinkSideSpec) -> Result<bool, ControlError> {
    let (port, targets) = publish::shape(&spec.targets, spec.port)?;
    let vpc = lookup::vpc(state, &spec.vpc)?;
    let service = state.endpoint_services.get(&side.service);
    let published = service.and_then(|service| publish::published(state, service)).is_some_and(|found| {
        *found.vpc == vpc.id
            && ListenerPorts::try_from(port) == Ok(found.listener.port)
            && found.listener.protocol == spec.protocol
            && found.targets() == targets
            && spec.node_address.is_none_or(|node| found.node_addresses == [node])
    });
    let endpoint = state.endpoints.get(&side.endpoint);
    Ok(published && endpoint.is_some_and(|found| spec.address.is_none_or(|address| address == found.address)))
}

/// Deletes a link, both of its services and both of its endpoints; their flows end.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteLink {
    pub link: Reference,
}
operation!(DeleteLink -> ());

impl Mutation for DeleteLink {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let link = lookup::link(state, &self.link)?;
        let endpoints = link.sides.iter().map(|side| &side.endpoint);
        let change = endpoints.fold(Change::default().remove(link.id.clone()), |change, id| change.remove(id.clone()));
        let services = link.sides.iter().filter_map(|side| state.endpoint_services.get(&side.service));
        let change = services
            .fold(change, |change, service| change.remove(service.id.clone()).then(publish::unmade(state, service)));
        Ok((change, ()))
    }
}

/// Lists the links, or some of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribeLinks {
    /// None: all.
    #[serde(default)]
    pub links: Option<Vec<Reference>>,
}
operation!(DescribeLinks -> Vec<LinkView>);

impl Query for DescribeLinks {
    fn answer(&self, state: &State, _: &State) -> Result<Vec<LinkView>, ControlError> {
        match &self.links {
            None => {
                let views = state.links.values().map(|link| LinkView::new(state, link)).collect();
                Ok(sorted(views, |link: &LinkView| link.name.clone()))
            }
            Some(references) => references
                .iter()
                .map(|reference| lookup::link(state, reference).map(|link| LinkView::new(state, link)))
                .collect(),
        }
    }

    fn settle(answer: &mut Vec<LinkView>, world: &State, installed: &Installed) -> bool {
        let sides = answer.iter_mut().flat_map(|link| &mut link.sides);
        endpoints::settle(sides.map(|side| (&side.endpoint, &mut side.state)), world, installed)
    }
}
