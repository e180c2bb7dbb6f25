//! Control-plane resources: plain data and the rules that hold between them. No clock, no IO, no kernel.
//!
//! Nouns, attributes, defaults, ranges and states are those of the Network Load Balancer and PrivateLink. Every value
//! type is parsed at the door ([`std::str::FromStr`], serde) and cannot hold a value that breaks its own rule; rules
//! between resources are [`State::check_invariants`].

mod account;
mod alias;
mod application;
mod attribute;
mod authentication;
mod certificate;
mod change;
mod consumers;
pub mod derived;
pub mod dns_name;
mod dns_record;
mod dns_target;
mod endpoint;
mod endpoint_service;
mod family;
mod forward;
mod gateway_endpoint;
mod health_check;
mod id;
mod instance;
mod invalid;
mod invariant;
mod limit;
mod link;
mod listener;
mod load_balancer;
mod name;
mod network_interface;
mod notification;
mod owner;
pub mod pattern;
mod policy;
mod port;
mod principal;
pub mod private_dns;
mod route_table;
mod security_group;
mod state;
mod subnet;
mod table;
mod tag;
mod target;
mod target_group;
mod target_trust;
mod vpc;

pub use account::{Account, ClientToken, RecordId};
pub use alias::Alias;
pub use application::{
    ApplicationListener, ApplicationProtocol, ContentType, FixedResponse, HttpsSettings, ListenerRule, Patterns,
    Redirect, RequestForward, ResponseStatus, RuleAction, RuleCondition, RulePriority,
};
pub use attribute::{Attribute, AttributeMap};
pub use authentication::{
    ActionOrder, Authentication, AuthenticationSession, ClaimFormat, CognitoAuthentication, FirstAction, HttpsUrl,
    JwtClaim, JwtValidation, OidcAuthentication, Unauthenticated, UserPoolArn,
};
pub use certificate::{Certificate, CertificateId, SecretText};
pub use change::{Change, Edit, Key, Record};
pub use consumers::{Consent, ConsumerLists, ConsumerPattern};
pub use dns_name::{ServiceDomain, ZonedAddress};
pub use dns_record::{DnsRecordIpType, EndpointNames};
pub use dns_target::DnsTarget;
pub use endpoint::{Endpoint, EndpointState};
pub use endpoint_service::{EndpointService, PayerResponsibility, ServiceName};
pub use family::{IpAddressType, IpFamily, by_family};
pub use forward::{Forward, Weight};
pub use gateway_endpoint::{GatewayEndpoint, GatewayService, PrefixListId};
pub use health_check::{HealthCheck, HealthCheckPort, HealthCheckProtocol, HttpPath, Matcher};
pub use id::{
    AccountId, ApplicationListenerId, EndpointId, EndpointServiceId, IdSource, InstanceId, LinkId, ListenerId,
    ListenerRuleId, LoadBalancerId, NetworkInterfaceId, NoticeId, NotificationId, Region, RouteTableId,
    SecurityGroupId, SecurityGroupRuleId, SubnetId, TargetGroupId, VpcId,
};
pub use instance::{Instance, InstanceLabel, InstanceState};
pub use invalid::InvalidValue;
pub(crate) use invalid::serde_as_text;
pub use invariant::{InvariantViolation, overlap};
pub use limit::{
    BitRate, ConnectionRate, Connections, Limit, LimitChange, Limits, Override, OwnLimitChange, OwnLimits,
};
pub use link::{Link, LinkSide};
pub use listener::{Listener, ListenerAttributes, ListenerPorts, TlsSettings};
pub use load_balancer::{ClientRouting, LoadBalancer, LoadBalancerAttributes, LoadBalancerKind, Scheme};
pub use name::{InterfaceName, ResourceName};
pub use network_interface::{InterfaceOwner, NetworkInterface};
pub use notification::{ConnectionEvent, ConnectionNotification, Notice, NotificationSubject, NotificationTarget};
pub use owner::Owner;
pub use policy::PolicyDocument;
pub use port::{Hook, Port};
pub use principal::{Identity, Principal};
pub use private_dns::{PrivateDns, PrivateDnsName, VerificationState};
pub use route_table::{RouteDestination, RouteState, RouteTable, RouteTarget};
pub use security_group::{
    Direction, Hosts, IcmpKind, Members, Opening, Peer, PortRange, SecurityGroup, SecurityGroupName, SecurityGroupRule,
    SecurityGroupText, SecurityGroups, Traffic,
};
pub use state::{AddressUse, State};
pub use subnet::{Subnet, SubnetCidr, SubnetIpv6Cidr, Zone};
pub use table::Table;
pub use tag::{TagKey, TagValue, TaggedId, Tags};
pub use target::{Target, TargetAddress};
pub use target_group::{
    CrossZone, GroupProtocol, HealthThreshold, Protocol, RegisteredLoadBalancer, RequestRouting, TargetGroup,
    TargetGroupAttributes, TargetType,
};
pub use target_trust::{TargetName, TargetTrust};
pub use vpc::{Vpc, VpcAttributes, VpcCidr, VpcIndex, VpcIpv6, VpcIpv6Cidr, assignable_ipv6};

#[cfg(test)]
mod tests;
