//! Resources as a file declares them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Reference, links::LinkSideSpec, listeners::TargetGroupWeight, publish::AddressSpec, security_groups::RuleSpec,
    target_groups::HealthCheckSettings, targets::TargetSpec,
};
use crate::{
    model::{
        Alias, BitRate, ConnectionRate, Connections, ConsumerPattern, DnsRecordIpType, DnsTarget, GroupProtocol,
        HealthCheckPort, HealthCheckProtocol, Hook, HttpPath, InterfaceName, InvalidValue, IpAddressType, IpFamily,
        Limit, Limits, ListenerPorts, Matcher, Principal, PrivateDnsName, Protocol, ResourceName, SecurityGroupName,
        SecurityGroupText, TargetType, VpcCidr, VpcIpv6Cidr,
    },
    tls::{alpn::AlpnPolicy, policy::ListenerPolicy},
};

/// Resources as a file declares them. Resources refer to each other by name or id; the order does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Declaration {
    pub vpc: Vec<DeclaredVpc>,
    pub port: Vec<DeclaredPort>,
    pub security_group: Vec<DeclaredSecurityGroup>,
    pub instance: Vec<DeclaredInstance>,
    pub target_group: Vec<DeclaredTargetGroup>,
    pub load_balancer: Vec<DeclaredLoadBalancer>,
    pub endpoint_service: Vec<DeclaredEndpointService>,
    pub endpoint: Vec<DeclaredEndpoint>,
    pub link: Vec<DeclaredLink>,
}

/// `[[vpc]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredVpc {
    pub name: ResourceName,
    pub cidr: VpcCidr,
    #[serde(default, deserialize_with = "optional_address")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<Ipv4Addr>,
    #[serde(default)]
    pub ipv6_cidr: Option<VpcIpv6Cidr>,
    #[serde(default, deserialize_with = "optional_ipv6_address")]
    #[schema(value_type = Option<String>)]
    pub ipv6_gateway: Option<Ipv6Addr>,
}

/// `[[port]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredPort {
    pub interface: InterfaceName,
    pub vpc: Reference,
    #[serde(default)]
    pub hook: Hook,
    #[serde(default)]
    pub shared: bool,
}

/// `[[security-group]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredSecurityGroup {
    pub name: SecurityGroupName,
    pub vpc: Reference,
    #[serde(default)]
    pub description: Option<SecurityGroupText>,
    #[serde(default)]
    pub ingress: Vec<RuleSpec>,
    /// None: everywhere.
    #[serde(default)]
    pub egress: Option<Vec<RuleSpec>>,
    /// Whether open flows that the rules do not allow end.
    #[serde(default)]
    pub apply_to_established: bool,
}

/// `[[instance]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredInstance {
    pub name: ResourceName,
    pub vpc: Reference,
    /// The primary one first.
    #[serde(deserialize_with = "addresses")]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<Ipv4Addr>,
    #[serde(default)]
    pub security_groups: Vec<Reference>,
}

/// `[[target-group]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredTargetGroup {
    pub name: ResourceName,
    pub vpc: Reference,
    #[serde(default)]
    pub target_type: TargetType,
    /// The family of its targets.
    #[serde(default)]
    pub ip_address_type: IpFamily,
    #[serde(default = "group_tcp")]
    pub protocol: GroupProtocol,
    #[serde(deserialize_with = "port")]
    pub port: u16,
    #[serde(default)]
    pub health_check: DeclaredHealthCheck,
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeValue>,
    #[serde(default)]
    pub targets: Vec<TargetSpec>,
    /// Names whose addresses are targets too.
    #[serde(default)]
    pub dns_targets: BTreeSet<DnsTarget>,
}

/// `[[load-balancer]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredLoadBalancer {
    pub name: ResourceName,
    pub vpc: Reference,
    /// Of IPv4, and of IPv6 if it is to be dualstack.
    #[serde(deserialize_with = "addresses_of_both")]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeValue>,
    #[serde(default)]
    pub security_groups: Vec<Reference>,
    #[serde(default = "on")]
    pub enforce_on_private_link: bool,
    #[serde(default)]
    pub listener: Vec<DeclaredListener>,
}

/// `[[load-balancer.listener]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredListener {
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    pub port: ListenerPorts,
    #[serde(default)]
    pub target_group: Option<Reference>,
    /// Each as `NAME=WEIGHT`.
    #[serde(default)]
    pub target_groups: Vec<TargetGroupWeight>,
    #[serde(default)]
    pub stickiness: bool,
    /// Of a TLS listener: certificates by ARN, or by a name that each alone is for; the first is the default one.
    #[serde(default)]
    pub certificates: Vec<Reference>,
    #[serde(default)]
    pub ssl_policy: Option<ListenerPolicy>,
    #[serde(default)]
    pub alpn_policy: Option<AlpnPolicy>,
    #[serde(default)]
    pub attributes: BTreeMap<String, AttributeValue>,
}

/// `[[endpoint-service]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredEndpointService {
    #[serde(default)]
    pub name: Option<ResourceName>,
    /// One, or a list; none if it has targets.
    #[serde(default)]
    pub load_balancer: OneOrMore,
    /// Addresses of `vpc` instead of a load balancer.
    #[serde(default)]
    pub targets: Vec<AddressSpec>,
    #[serde(default)]
    pub vpc: Reference,
    #[serde(default = "tcp")]
    pub protocol: Protocol,
    #[serde(default, deserialize_with = "optional_port")]
    pub port: Option<u16>,
    #[serde(default)]
    pub acceptance_required: bool,
    /// Who may make endpoints, besides the account that declares it.
    #[serde(default)]
    pub allowed_principals: Vec<Principal>,
    /// Whose endpoints are accepted without asking.
    #[serde(default)]
    pub accept: BTreeSet<ConsumerPattern>,
    /// Whose are rejected.
    #[serde(default)]
    pub reject: BTreeSet<ConsumerPattern>,
    #[serde(default)]
    pub private_dns_name: Option<PrivateDnsName>,
    #[serde(default)]
    pub limits: DeclaredLimits,
}

/// `limits` of an endpoint service, for each of its endpoints: what is not declared is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DeclaredLimits {
    #[serde(deserialize_with = "limit")]
    #[schema(value_type = String)]
    pub connections: Limit<Connections>,
    #[serde(deserialize_with = "limit")]
    #[schema(value_type = String)]
    pub connections_per_second: Limit<ConnectionRate>,
    #[serde(deserialize_with = "limit")]
    #[schema(value_type = String)]
    pub bits_per_second: Limit<BitRate>,
}

impl From<DeclaredLimits> for Limits {
    fn from(declared: DeclaredLimits) -> Self {
        let DeclaredLimits { connections, connections_per_second, bits_per_second } = declared;
        Self { connections, connections_per_second, bits_per_second }
    }
}

/// One reference, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum OneOrMore {
    One(Reference),
    More(Vec<Reference>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl OneOrMore {
    /// The references, in order.
    pub fn all(&self) -> &[Reference] {
        match self {
            Self::One(reference) => std::slice::from_ref(reference),
            Self::More(references) => references,
        }
    }
}

/// `[[endpoint]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredEndpoint {
    pub service_name: Reference,
    pub vpc: Reference,
    #[serde(default, deserialize_with = "optional_address")]
    #[schema(value_type = Option<String>)]
    pub address: Option<Ipv4Addr>,
    /// Dualstack: it has an IPv6 address too.
    #[serde(default)]
    pub ip_address_type: Option<IpAddressType>,
    #[serde(default, deserialize_with = "optional_ipv6_address")]
    #[schema(value_type = Option<String>)]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Which of its addresses its names answer with. None: with all.
    #[serde(default)]
    pub dns_record_ip_type: Option<DnsRecordIpType>,
    #[serde(default)]
    pub security_groups: Vec<Reference>,
    /// Addresses and prefixes that hosts of the VPC route to it.
    #[serde(default)]
    pub aliases: BTreeSet<Alias>,
    /// Answer for the service's private DNS name, as soon as it is accepted and the name is verified.
    #[serde(default)]
    pub private_dns: bool,
}

/// `[[link]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeclaredLink {
    pub name: ResourceName,
    pub sides: [LinkSideSpec; 2],
}

/// `health-check` of a target group: what is not declared has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DeclaredHealthCheck {
    pub protocol: Option<HealthCheckProtocol>,
    pub port: Option<HealthCheckPort>,
    pub path: Option<HttpPath>,
    /// Seconds.
    pub interval: Option<u32>,
    /// Seconds.
    pub timeout: Option<u32>,
    pub healthy_threshold: Option<u32>,
    pub unhealthy_threshold: Option<u32>,
    pub matcher: Option<Matcher>,
}

impl From<DeclaredHealthCheck> for HealthCheckSettings {
    fn from(declared: DeclaredHealthCheck) -> Self {
        let DeclaredHealthCheck {
            protocol,
            port,
            path,
            interval,
            timeout,
            healthy_threshold,
            unhealthy_threshold,
            matcher,
        } = declared;
        Self { protocol, port, path, interval, timeout, healthy_threshold, unhealthy_threshold, matcher }
    }
}

/// An attribute's value in a file: text, or a bare number or boolean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum AttributeValue {
    Text(String),
    Number(i64),
    Boolean(bool),
}

impl fmt::Display for AttributeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(number) => number.fmt(f),
            Self::Boolean(boolean) => boolean.fmt(f),
        }
    }
}

/// The enforcement if none is declared.
fn on() -> bool {
    true
}

/// The protocol if none is declared.
fn group_tcp() -> GroupProtocol {
    Protocol::Tcp.into()
}

fn tcp() -> Protocol {
    Protocol::Tcp
}

fn refuse<E: serde::de::Error>(error: &InvalidValue) -> E {
    E::custom(format_args!("{error}; {}", error.hint))
}

/// An address of a family, or of any: what it is called, and one to show.
trait DeclaredAddress: FromStr {
    const WHAT: &'static str;
    const EXAMPLE: &'static str;
}

impl DeclaredAddress for Ipv4Addr {
    const WHAT: &'static str = "an IPv4 address";
    const EXAMPLE: &'static str = "10.0.0.5";
}

impl DeclaredAddress for Ipv6Addr {
    const WHAT: &'static str = "an IPv6 address";
    const EXAMPLE: &'static str = "fd00:10::5";
}

impl DeclaredAddress for IpAddr {
    const WHAT: &'static str = "an IP address";
    const EXAMPLE: &'static str = "10.0.0.5 or fd00:10::5";
}

fn parse_address<E: serde::de::Error, A: DeclaredAddress>(text: &str) -> Result<A, E> {
    text.parse().map_err(|_| {
        let (rule, hint) = (format!("must be {}", A::WHAT), format!("use an address like {}", A::EXAMPLE));
        refuse(&InvalidValue::new("Address", text, rule, hint))
    })
}

fn optional_ipv6_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv6Addr>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| parse_address(&text)).transpose()
}

fn addresses_of_both<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| parse_address(text)).collect()
}

/// A limit as text or as a bare number.
fn limit<'de, T: FromStr<Err = InvalidValue>, D: Deserializer<'de>>(deserializer: D) -> Result<Limit<T>, D::Error> {
    AttributeValue::deserialize(deserializer)?.to_string().parse().map_err(|error| refuse(&error))
}

/// serde's own refusal of an address names neither the value nor the way out.
fn optional_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv4Addr>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| parse_address(&text)).transpose()
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Ipv4Addr>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| parse_address(text)).collect()
}

fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    checked_port(i64::deserialize(deserializer)?)
}

fn optional_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Option::<i64>::deserialize(deserializer)?.map(checked_port).transpose()
}

fn checked_port<E: serde::de::Error>(number: i64) -> Result<u16, E> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| {
        refuse(&InvalidValue::new(
            "Port",
            number.to_string(),
            "must be between '1-65535' inclusive",
            "use a port like 80",
        ))
    })
}
