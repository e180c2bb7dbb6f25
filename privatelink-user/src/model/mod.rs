//! Control-plane resources: plain data and the rules that hold between them. No clock, no IO, no kernel.
//!
//! Nouns, attributes, defaults, ranges and states are those of the Network Load Balancer and PrivateLink. Every value
//! type is parsed at the door ([`std::str::FromStr`], serde) and cannot hold a value that breaks its own rule; rules
//! between resources are [`State::check_invariants`].

mod attribute;
mod change;
pub mod derived;
mod endpoint;
mod endpoint_service;
mod health_check;
mod id;
mod invalid;
mod invariant;
mod listener;
mod load_balancer;
mod name;
mod owner;
mod port;
mod principal;
mod security_group;
mod state;
mod target;
mod target_group;
mod vpc;

pub use attribute::{Attribute, AttributeMap};
pub use change::{Change, Edit, Key, Record};
pub use endpoint::{Endpoint, EndpointState};
pub use endpoint_service::{EndpointService, ServiceName};
pub use health_check::{HealthCheck, HealthCheckPort, HealthCheckProtocol, HttpPath, Matcher};
pub use id::{
    AccountId, EndpointId, EndpointServiceId, IdSource, ListenerId, LoadBalancerId, Region, SecurityGroupId,
    SecurityGroupRuleId, TargetGroupId, VpcId,
};
pub use invalid::InvalidValue;
pub(crate) use invalid::serde_as_text;
pub use invariant::InvariantViolation;
pub use listener::{Listener, ListenerAttributes};
pub use load_balancer::LoadBalancer;
pub use name::{InterfaceName, ResourceName};
pub use owner::Owner;
pub use port::{Hook, Port};
pub use principal::{Identity, Principal};
pub use security_group::{
    Direction, IcmpKind, Opening, Peer, PortRange, SecurityGroup, SecurityGroupName, SecurityGroupRule,
    SecurityGroupText, SecurityGroups, Traffic,
};
pub use state::{AddressUse, State};
pub use target::{Target, TargetAddress};
pub use target_group::{Protocol, TargetGroup, TargetGroupAttributes};
pub use vpc::{Vpc, VpcCidr, VpcIndex};

#[cfg(test)]
mod tests;
