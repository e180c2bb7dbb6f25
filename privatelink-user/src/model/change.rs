//! What an accepted operation does to the state: an ordered list of records put and removed.

use serde::{Deserialize, Serialize};

use super::{
    Account, ApplicationListener, ApplicationListenerId, Certificate, CertificateId, ClientToken,
    ConnectionNotification, Endpoint, EndpointId, EndpointService, EndpointServiceId, GatewayEndpoint, Instance,
    InstanceId, InterfaceName, Link, LinkId, Listener, ListenerId, ListenerRule, ListenerRuleId, LoadBalancer,
    LoadBalancerId, Notice, NoticeId, NotificationId, Port, RecordId, RouteTable, RouteTableId, SecurityGroup,
    SecurityGroupId, Subnet, SubnetId, TaggedId, Tags, TargetGroup, TargetGroupId, Vpc, VpcId, VpcIndex,
};

/// What an accepted operation does to the state; applied and committed whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change(Vec<Edit>);

impl Change {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edits, in order.
    pub fn edits(&self) -> &[Edit] {
        &self.0
    }

    /// Adds or replaces a record.
    pub fn put(mut self, record: impl Into<Record>) -> Self {
        self.0.push(Edit::Put(record.into()));
        self
    }

    /// `changed` in the place of `present`; nothing, if they are the same.
    pub fn replace<R: PartialEq + Into<Record>>(present: &R, changed: R) -> Self {
        if changed == *present { Self::default() } else { Self::default().put(changed) }
    }

    /// Removes a record.
    pub fn remove(mut self, key: impl Into<Key>) -> Self {
        self.0.push(Edit::Remove(key.into()));
        self
    }

    /// Notes the VPC number that was handed out last.
    pub fn last_vpc_index(mut self, index: VpcIndex) -> Self {
        self.0.push(Edit::LastVpcIndex(index));
        self
    }

    /// This change, then `other`.
    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// One step of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    Put(Record),
    Remove(Key),
    LastVpcIndex(VpcIndex),
}

macro_rules! records {
    ($($variant:ident($record:ty, $key:ty, $id:ident)),* $(,)?) => {
        /// Any resource.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Record {
            $($variant($record),)*
        }

        /// Any resource's identity.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $($variant($key),)*
        }

        impl Record {
            /// The record's identity.
            pub fn key(&self) -> Key {
                match self {
                    $(Self::$variant(record) => Key::$variant(record.$id.clone()),)*
                }
            }
        }

        $(
            impl From<$record> for Record {
                fn from(record: $record) -> Self {
                    Self::$variant(record)
                }
            }

        )*
    };
}

macro_rules! keys {
    ($($variant:ident($key:ty)),* $(,)?) => {
        $(
            impl From<$key> for Key {
                fn from(key: $key) -> Self {
                    Self::$variant(key)
                }
            }
        )*
    };
}

records! {
    Vpc(Vpc, VpcId, id),
    Port(Port, InterfaceName, interface),
    SecurityGroup(SecurityGroup, SecurityGroupId, id),
    LoadBalancer(LoadBalancer, LoadBalancerId, id),
    Listener(Listener, ListenerId, id),
    ApplicationListener(ApplicationListener, ApplicationListenerId, id),
    ListenerRule(ListenerRule, ListenerRuleId, id),
    TargetGroup(TargetGroup, TargetGroupId, id),
    EndpointService(EndpointService, EndpointServiceId, id),
    Endpoint(Endpoint, EndpointId, id),
    GatewayEndpoint(GatewayEndpoint, EndpointId, id),
    Link(Link, LinkId, id),
    Subnet(Subnet, SubnetId, id),
    RouteTable(RouteTable, RouteTableId, id),
    ConnectionNotification(ConnectionNotification, NotificationId, id),
    Notice(Notice, NoticeId, id),
    Instance(Instance, InstanceId, id),
    Tags(Tags, TaggedId, resource),
    Account(Account, RecordId, id),
    ClientToken(ClientToken, RecordId, id),
    Certificate(Certificate, CertificateId, id),
}

keys! {
    Vpc(VpcId),
    Port(InterfaceName),
    LoadBalancer(LoadBalancerId),
    Listener(ListenerId),
    ApplicationListener(ApplicationListenerId),
    ListenerRule(ListenerRuleId),
    TargetGroup(TargetGroupId),
    EndpointService(EndpointServiceId),
    Endpoint(EndpointId),
    Link(LinkId),
    Subnet(SubnetId),
    RouteTable(RouteTableId),
    ConnectionNotification(NotificationId),
    Notice(NoticeId),
    Instance(InstanceId),
    Tags(TaggedId),
    SecurityGroup(SecurityGroupId),
    Certificate(CertificateId),
}
