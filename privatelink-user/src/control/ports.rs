//! Ports. Whether the interface can become one is the running agent's answer, asked before these decide.

use serde::{Deserialize, Serialize};

use super::{Context, ControlError, Mutation, Reference, lookup, operation, view};
use crate::{
    model::{Change, Hook, InterfaceName, Port, State, VpcId},
    runtime::InterfaceFacts,
};

/// Makes an interface a port of a VPC. The same interface and VPC again changes hook and sharing.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachPort {
    pub interface: InterfaceName,
    pub vpc: Reference,
    #[serde(default)]
    pub hook: Hook,
    #[serde(default)]
    pub shared: bool,
}
operation!(AttachPort -> AttachedPort);

/// A port that was attached, and what the agent found about its interface.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttachedPort {
    pub interface: InterfaceName,
    pub vpc: VpcId,
    pub vpc_name: String,
    pub hook: Hook,
    pub shared: bool,
    pub facts: InterfaceFacts,
}

impl AttachPort {
    /// What the request does to `state`, given what the agent found about the interface.
    pub fn decide(
        &self,
        facts: InterfaceFacts,
        state: &State,
        context: &mut Context<'_>,
    ) -> Result<(Change, AttachedPort), ControlError> {
        let (change, port) = self.decide_change(state, context)?;
        let vpc_name = view::vpc_name(state, &port.vpc);
        let Port { interface, vpc, hook, shared, created_at: _ } = port;
        Ok((change, AttachedPort { interface, vpc, vpc_name, hook, shared, facts }))
    }

    /// The change alone, and the port as it will be.
    pub fn decide_change(&self, state: &State, context: &mut Context<'_>) -> Result<(Change, Port), ControlError> {
        let Self { interface, vpc, hook, shared } = self;
        let vpc = lookup::vpc(state, vpc)?;
        let port = match state.ports.get(interface) {
            Some(port) if port.vpc != vpc.id => {
                let vpc = view::vpc_name(state, &port.vpc);
                return Err(ControlError::PortInUse { interface: interface.clone(), vpc });
            }
            Some(port) => Port { hook: *hook, shared: *shared, ..port.clone() },
            None if context.world.ports.contains_key(interface) => {
                return Err(ControlError::PortOfAnother(interface.clone()));
            }
            None => Port {
                interface: interface.clone(),
                vpc: vpc.id.clone(),
                hook: *hook,
                shared: *shared,
                created_at: context.now,
            },
        };
        if state.ports.get(interface) == Some(&port) {
            return Ok((Change::default(), port));
        }
        Ok((Change::default().put(port.clone()), port))
    }
}

/// Takes an interface away from its VPC.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DetachPort {
    pub port: Reference,
}
operation!(DetachPort -> ());

impl Mutation for DetachPort {
    fn decide(&self, state: &State, _: &mut Context<'_>) -> Result<(Change, ()), ControlError> {
        let port = lookup::port(state, &self.port)?;
        Ok((Change::default().remove(port.interface.clone()), ()))
    }
}

/// Lists the ports, with how they are attached now.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DescribePorts {}
operation!(DescribePorts -> Vec<view::PortView>);
