//! Resources as the API shows them: the record, with the names of what it refers to.

mod balancing;
mod network;
mod privatelink;
mod security;

pub use self::{
    balancing::{ListenerView, LoadBalancerView, TargetGroupView, TargetHealthView, TlsView},
    network::{
        AssociationView, InstanceView, NetworkInterfaceView, PortView, RouteTableView, RouteView, SubnetView, VpcView,
    },
    privatelink::{
        ConnectionView, EndpointServiceView, EndpointView, LinkSideView, LinkView, PermissionView, PublishedView,
    },
    security::{CertificateView, SecurityGroupRuleView, SecurityGroupView},
};

use crate::model::{ApplicationListener, Listener, LoadBalancerId, SecurityGroupId, State, VpcId};

/// The name of a VPC; its id if there is none.
pub fn vpc_name(state: &State, vpc: &VpcId) -> String {
    state.vpcs.get(vpc).map_or_else(|| vpc.to_string(), |vpc| vpc.name.to_string())
}

fn load_balancer_name(state: &State, id: &LoadBalancerId) -> String {
    state.load_balancers.get(id).map_or_else(|| id.to_string(), |lb| lb.name.to_string())
}

/// The name of a security group; its id if there is none.
pub fn security_group_name(state: &State, id: &SecurityGroupId) -> String {
    state.security_groups.get(id).map_or_else(|| id.to_string(), |group| group.name.to_string())
}

/// A listener as a person names it: `LOAD-BALANCER:PORT`.
pub fn listener_name(state: &State, listener: &Listener) -> String {
    format!("{}:{}", load_balancer_name(state, &listener.load_balancer), listener.port)
}

/// `LOAD-BALANCER:PORT` of a listener of a load balancer of type application.
pub fn application_listener_name(state: &State, listener: &ApplicationListener) -> String {
    format!("{}:{}", load_balancer_name(state, &listener.load_balancer), listener.port)
}
