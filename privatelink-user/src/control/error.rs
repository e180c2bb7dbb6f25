//! Every refusal of an operation. Codes and texts are those of the EC2 and Elastic Load Balancing APIs where they have
//! one for the case; the hint beside them is the way out.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use super::{application::ApplicationRefusal, ipv6::Ipv6Refusal, regions::RegionRefusal};

use crate::{
    model::{
        AddressUse, Alias, CertificateId, EndpointId, EndpointServiceId, EndpointState, GroupProtocol, InstanceId,
        InterfaceName, InvalidValue, ListenerPorts, LoadBalancerId, NotificationTarget, PrefixListId, PrivateDnsName,
        Protocol, Region, ResourceName, RouteDestination, RouteTableId, SecurityGroupId, SecurityGroupName,
        ServiceName, SubnetId, TargetGroupId, VpcId, Zone,
    },
    tls::certificate::CertificateError,
};

fn zone_names(region: &Region) -> String {
    Zone::ALL.map(|zone| zone.name(region)).join(", ")
}

/// Why an operation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    #[error(transparent)]
    Ipv6(#[from] Ipv6Refusal),
    #[error(transparent)]
    Region(#[from] RegionRefusal),
    #[error(transparent)]
    Application(#[from] ApplicationRefusal),

    #[error("The vpc ID '{0}' does not exist")]
    VpcNotFound(String),
    #[error("The VPC ID '{0}' is not found")]
    TargetGroupVpcNotFound(String),
    #[error("A VPC with the same name '{0}' exists, but with different settings")]
    DuplicateVpc(ResourceName),
    #[error("The vpc '{vpc}' has dependencies and cannot be deleted.")]
    VpcInUse { vpc: VpcId, dependants: Vec<String> },
    #[error("all VPC numbers are in use")]
    VpcNumbersExhausted,

    #[error("The port '{0}' does not exist")]
    PortNotFound(String),
    #[error("Interface: [{interface}] in use.")]
    PortInUse { interface: InterfaceName, vpc: String },

    #[error("Interface: [{0}] in use by another account.")]
    PortOfAnother(InterfaceName),

    #[error("Load balancer '{0}' not found")]
    LoadBalancerNotFound(String),
    #[error("A load balancer with the same name '{0}' exists, but with different settings")]
    DuplicateLoadBalancerName(ResourceName),
    #[error(
        "Load balancer '{load_balancer}' cannot be deleted because it is currently associated with another service"
    )]
    LoadBalancerInUse { load_balancer: LoadBalancerId, service: EndpointServiceId },
    #[error("Load balancer '{0}' cannot be deleted because deletion protection is enabled")]
    DeletionProtected(LoadBalancerId),
    #[error("A node address must be specified")]
    NodeAddressMissing,
    #[error("The load balancer '{load_balancer}' cannot be used here: {why}")]
    LoadBalancerNotServed { load_balancer: LoadBalancerId, why: &'static str },

    #[error("Listener '{0}' not found")]
    ListenerNotFound(String),
    #[error("A listener already exists on this port for this load balancer '{load_balancer}'")]
    DuplicateListener { load_balancer: LoadBalancerId, port: ListenerPorts },
    #[error(
        "The target group '{target_group}' is in VPC '{group_vpc}', the load balancer '{load_balancer}' in VPC '{lb_vpc}'"
    )]
    DifferentVpc { target_group: TargetGroupId, group_vpc: VpcId, load_balancer: LoadBalancerId, lb_vpc: VpcId },

    #[error("The target group '{target_group}' has protocol {group}, the listener protocol {listener}")]
    IncompatibleProtocols { target_group: TargetGroupId, group: GroupProtocol, listener: GroupProtocol },

    #[error("A certificate must be specified for TLS listeners")]
    CertificateMissing,
    #[error("Certificates, SSL policies and ALPN policies are not supported for listeners with the {0} protocol")]
    NotTls(Protocol),
    #[error("The default certificate '{0}' cannot be removed")]
    DefaultCertificate(CertificateId),
    #[error("Stickiness is not supported for TLS listeners")]
    StickyTls,
    #[error("A TLS listener cannot forward to TCP and TLS target groups in one action")]
    MixedProtocols,

    #[error("One or more target groups not found")]
    TargetGroupsNotFound(String),
    #[error("Target group '{0}' not found")]
    TargetGroupNotFound(String),
    #[error("A target group with the same name '{0}' exists, but with different settings")]
    DuplicateTargetGroupName(ResourceName),
    #[error("A default action must be specified")]
    ForwardMissing,
    #[error("The target group '{0}' is given twice")]
    ForwardTwice(TargetGroupId),
    #[error("If both a target group and target group weights are given, they must name the same target group")]
    ForwardContradicts,
    #[error("You've reached the limit on the number of target groups of one action: {limit}")]
    TooManyForwarded { limit: usize },
    #[error("You've reached the limit on the number of certificates per load balancer: {limit}")]
    TooManyCertificates { limit: usize },
    #[error("Target group stickiness must be enabled because the target group '{0}' has stickiness enabled")]
    StickinessRequired(TargetGroupId),
    #[error("Target group '{target_group}' is currently in use by a listener or a rule")]
    TargetGroupInUse { target_group: TargetGroupId, listeners: Vec<String> },

    #[error("You've reached the limit on the number of targets: there is room for {limit}, and {wanted} are wanted")]
    TooManyTargets { wanted: usize, limit: u32 },
    #[error("You've reached the limit on the number of listeners: there is room for {limit}")]
    TooManyListeners { limit: u32 },
    #[error("You've reached the limit on the number of endpoints: there is room for {limit}")]
    TooManyEndpoints { limit: u32 },
    #[error("At least one target must be specified")]
    TargetMissing,
    #[error("The IP address '{address}' cannot be used as a target, as it is in use by a load balancer")]
    TargetIpUnusable { address: IpAddr, by: AddressUse },
    #[error("The IP address '{address}' is not a private address that a target can have")]
    TargetIpOutside { address: IpAddr, cidr: IpNet },

    #[error("The IP address '{0}' is not a valid IPv4 address")]
    TargetNotAddress(String),
    #[error("Instance ID '{0}' is not valid")]
    TargetNotInstance(String),
    #[error("The following targets are not in a running state and cannot be registered: '{0}'")]
    TargetNotRunning(InstanceId),
    #[error("The following targets are not in the target group VPC '{vpc}': '{instance}'")]
    TargetOfOtherVpc { instance: InstanceId, vpc: VpcId },

    #[error("The instance ID '{0}' does not exist")]
    InstanceNotFound(String),
    #[error("An instance with the same name '{0}' exists, but with different settings")]
    DuplicateInstance(ResourceName),
    #[error("The instance '{instance}' is registered as a target and cannot be deregistered.")]
    InstanceInUse { instance: InstanceId, target_groups: Vec<String> },
    #[error("The instance '{instance}' is not in a state from which it can be {verb}.")]
    InstanceWrongState { instance: InstanceId, verb: &'static str },
    #[error("At least one instance must be specified")]
    InstanceMissing,

    #[error("The VpcEndpointService Id '{0}' does not exist")]
    EndpointServiceNotFound(String),
    #[error("The Vpc Endpoint Service '{0}' does not exist")]
    InvalidServiceName(String),
    #[error("exactly one of network_load_balancer_arn or gateway_load_balancer_arn is a required member")]
    ServiceWithoutLoadBalancer,
    #[error("The load balancer '{load_balancer}' is not associated with the endpoint service '{service}'")]
    LoadBalancerNotAssociated { load_balancer: LoadBalancerId, service: EndpointServiceId },
    #[error(
        "The load balancer '{load_balancer}' cannot be removed while the endpoint service '{service}' has connections"
    )]
    LoadBalancerConnected { load_balancer: LoadBalancerId, service: EndpointServiceId, endpoints: Vec<String> },
    #[error("At least one load balancer must remain associated with the endpoint service '{0}'")]
    LastLoadBalancer(EndpointServiceId),
    #[error("At least one principal must be specified")]
    PrincipalMissing,
    #[error("At least one VPC endpoint must be specified")]
    EndpointMissing,
    #[error("The VPC endpoint connection '{endpoint}' is {state} and cannot be {verb}")]
    ConnectionState { endpoint: EndpointId, state: EndpointState, verb: &'static str },
    #[error("The load balancer '{load_balancer}' is already associated with the endpoint service '{service}'")]
    LoadBalancerAssociated { load_balancer: LoadBalancerId, service: EndpointServiceId },
    #[error("An endpoint service with the name '{alias}' exists")]
    DuplicateServiceAlias { alias: ResourceName, service: EndpointServiceId },
    #[error("Service has existing active VPC Endpoint connections!")]
    ExistingVpcEndpointConnections { service: EndpointServiceId, endpoints: Vec<String> },

    #[error("The security group '{0}' does not exist")]
    SecurityGroupNotFound(String),
    #[error("Security group {0} does not exist")]
    InvalidSecurityGroup(String),
    #[error("The security group '{name}' already exists for VPC '{vpc}'")]
    DuplicateSecurityGroup { name: SecurityGroupName, vpc: VpcId },
    #[error("Cannot use reserved security group name: default")]
    SecurityGroupNameReserved,
    #[error("the specified group: \"{0}\" name: \"default\" cannot be deleted by a user")]
    DefaultSecurityGroup(SecurityGroupId),
    #[error("Security group {group} does not belong to VPC {vpc}")]
    SecurityGroupOfOtherVpc { group: SecurityGroupId, vpc: VpcId },
    #[error("resource {security_group} has a dependent object")]
    SecurityGroupInUse { security_group: SecurityGroupId, dependants: Vec<String> },
    #[error("The maximum number of security groups per interface has been reached.")]
    TooManySecurityGroups { limit: usize },
    #[error("The maximum number of rules per security group has been reached.")]
    TooManyRules { limit: usize },
    #[error("the specified rule \"{rule}\" already exists")]
    DuplicateRule { rule: String },
    #[error("The specified rule does not exist in this security group.")]
    RuleNotFound { rule: String },
    #[error("The prefix list ID '{0}' does not exist")]
    PrefixListNotFound(PrefixListId),
    #[error("Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")]
    RuleMissing,

    #[error("Private DNS can't be enabled because the service {0} does not provide a private DNS name.")]
    PrivateDnsNotProvided(ServiceName),
    #[error("Private DNS can only be enabled after the endpoint connection is accepted by the owner of {0}.")]
    PrivateDnsBeforeAcceptance(ServiceName),
    #[error(
        "private-dns-enabled cannot be set because there is already a conflicting DNS domain for {name} in the VPC {vpc}"
    )]
    PrivateDnsConflict { name: PrivateDnsName, vpc: VpcId, endpoint: EndpointId },
    #[error(
        "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for {0}"
    )]
    PrivateDnsVpcAttributes(VpcId),
    #[error("The payer responsibility of the endpoint service '{0}' cannot be set back to the endpoint owner")]
    PayerStays(EndpointServiceId),
    #[error("Only the owner of the service can take over the charges of the VPC endpoint '{0}'")]
    PayerNotCaller(EndpointId),
    #[error("The endpoint service '{0}' does not have a private DNS name")]
    NoPrivateDns(EndpointServiceId),

    #[error("The Vpc Endpoint Id '{0}' does not exist")]
    EndpointNotFound(String),

    #[error("The alias '{alias}' is in use by the VPC endpoint '{endpoint}'")]
    AliasInUse { alias: Alias, endpoint: EndpointId },
    #[error("The alias '{alias}' overlaps the VPC's address range {cidr}")]
    AliasOverlapsVpc { alias: Alias, cidr: Ipv4Net },
    #[error("The maximum number of aliases per VPC endpoint has been reached.")]
    TooManyAliases { limit: usize },

    #[error("The link '{0}' does not exist")]
    LinkNotFound(String),
    #[error("A link with the same name '{0}' exists, but with different sides")]
    DuplicateLink(ResourceName),
    #[error("{what} is part of the link '{link}' and goes with it")]
    PartOfLink { what: String, link: ResourceName },

    #[error("The subnet ID '{0}' does not exist")]
    SubnetNotFound(String),
    #[error(
        "Value ({zone}) for parameter availabilityZone is invalid. Subnets can currently only be created in the following \
         availability zones: {}.",
        zone_names(region)
    )]
    ZoneNotFound { zone: String, region: Region },
    #[error("The CIDR '{0}' is invalid.")]
    SubnetRange(IpNet),
    #[error("The CIDR '{cidr}' conflicts with another subnet")]
    SubnetConflict { cidr: IpNet, subnet: SubnetId },
    #[error("The subnet '{subnet}' has dependencies and cannot be deleted.")]
    SubnetInUse { subnet: SubnetId, dependants: Vec<String> },
    #[error("The routeTable ID '{0}' does not exist")]
    RouteTableNotFound(String),
    #[error("The routeTable '{0}' has dependencies and cannot be deleted.")]
    MainRouteTable(RouteTableId),
    #[error("The routeTable '{route_table}' has dependencies and cannot be deleted.")]
    RouteTableInUse { route_table: RouteTableId, dependants: Vec<String> },
    #[error("Route table {route_table} and {other} belong to different networks")]
    RouteTableOfOtherVpc { route_table: RouteTableId, other: String },
    #[error("the specified association for route table {route_table} conflicts with an existing association")]
    SubnetAssociated { route_table: RouteTableId, present: RouteTableId },
    #[error("cannot disassociate the main route table association {0}")]
    MainAssociation(String),
    #[error("The association ID '{0}' does not exist")]
    AssociationNotFound(String),
    #[error("The route identified by {0} already exists.")]
    RouteExists(RouteDestination),
    #[error("route table {route_table} already has a route with destination-prefix-list-id {prefix_list}")]
    GatewayRouteExists { route_table: RouteTableId, prefix_list: PrefixListId },
    #[error("There is no route defined for '{0}' in the route table. Use CreateRoute instead.")]
    NoRouteToReplace(RouteDestination),
    #[error("cannot remove local route {destination} in route table {route_table}")]
    LocalRoute { destination: RouteDestination, route_table: RouteTableId },
    #[error("no route with destination-cidr-block {destination} in route table {route_table}")]
    RouteNotFound { destination: RouteDestination, route_table: RouteTableId },
    #[error("a route for the IPv6 range {destination} cannot lead to endpoint {endpoint}")]
    EndpointRouteFamily { destination: RouteDestination, endpoint: EndpointId },
    #[error("The ConnectionNotificationId '{0}' does not exist")]
    NotificationNotFound(String),
    #[error("Exactly one of a service and a VPC endpoint must be specified")]
    NotificationSubjects,
    #[error("At least one connection event must be specified")]
    EventMissing,
    #[error("The connection notification target '{0}' is not one that can be told")]
    NotificationTargetNotAllowed(NotificationTarget),
    #[error("The networkInterface ID '{0}' does not exist")]
    NetworkInterfaceNotFound(String),
    #[error("The last subnet of the VPC endpoint '{0}' cannot be removed")]
    LastSubnet(EndpointId),
    #[error("The subnet '{subnet}' does not belong to VPC '{vpc}'")]
    SubnetOfOtherVpc { subnet: SubnetId, vpc: VpcId },
    #[error("The VPC endpoint service {service} does not support the availability zone of the subnet: {subnet}.")]
    ZoneNotOffered { service: ServiceName, subnet: SubnetId },
    #[error("An address and subnets cannot be given together")]
    AddressAndSubnets,
    #[error("At least one subnet must be specified")]
    SubnetMissing,
    #[error("All subnets must belong to the same VPC")]
    SubnetsOfSeveralVpcs,
    #[error("Found another VPC endpoint subnet in the availability zone of {0}")]
    SubnetsInOneZone(SubnetId),
    #[error("Address {address} does not fall within the subnet's address range {cidr}")]
    AddressOutsideSubnet { address: IpAddr, cidr: IpNet },
    #[error("The specified subnet '{0}' does not have enough free addresses to satisfy the request.")]
    NoFreeAddressInSubnet(SubnetId),
    #[error("The ID '{0}' does not exist")]
    TaggedNotFound(String),
    #[error("You have exceeded the number of tags allowed per resource: '{0}'")]
    TooManyTags(String),
    #[error("Address {address} does not fall within the VPC's address range {cidr}")]
    AddressOutsideCidr { address: IpAddr, cidr: IpNet },
    #[error("Address {address} is in the VPC's reserved address range")]
    AddressReserved { address: IpAddr, cidr: IpNet },
    #[error("Address {address} is in subnet's reserved address range")]
    AddressReservedInSubnet { address: IpAddr, cidr: IpNet },
    #[error("Address {address} is in use.")]
    AddressInUse { address: IpAddr, by: AddressUse },
    #[error("The address {0} is given twice")]
    AddressTwice(IpAddr),
    #[error("The specified VPC '{0}' does not have enough free addresses to satisfy the request.")]
    NoFreeAddress(VpcId),

    #[error("Could not find certificate {0}")]
    CertificateNotFound(String),
    #[error("Certificate '{certificate}' is currently in use")]
    CertificateInUse { certificate: CertificateId, listeners: Vec<String> },
    #[error(transparent)]
    CertificateUnusable(#[from] CertificateError),

    #[error("The {field} of {what} cannot be changed from '{from}' to '{to}'")]
    Immutable { what: String, field: &'static str, from: String, to: String },
    #[error("{what} is declared twice")]
    DeclaredTwice { what: String },
}

/// What kind of refusal it is; the API maps it to an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The request itself is wrong.
    Invalid,
    /// It names something that does not exist.
    NotFound,
    /// The state does not allow it now.
    Conflict,
}

impl ControlError {
    /// The error's code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ipv6(refusal) => refusal.code(),
            Self::Region(refusal) => refusal.code(),
            Self::Application(refusal) => refusal.code(),
            Self::Invalid(_) | Self::TargetGroupVpcNotFound(_) | Self::NodeAddressMissing | Self::TargetMissing => {
                "ValidationError"
            }
            Self::ForwardMissing | Self::ForwardTwice(_) | Self::ForwardContradicts => "ValidationError",
            Self::TooManyForwarded { .. } => "TooManyTargetGroups",
            Self::TooManyCertificates { .. } => "TooManyCertificates",
            Self::StickinessRequired(_) => "InvalidConfigurationRequest",
            Self::VpcNotFound(_) => "InvalidVpcID.NotFound",
            Self::DuplicateVpc(_) => "InvalidVpc.Duplicate",
            Self::VpcInUse { .. } => "DependencyViolation",
            Self::VpcNumbersExhausted => "VpcLimitExceeded",
            Self::PortNotFound(_) => "InvalidNetworkInterfaceID.NotFound",
            Self::PortInUse { .. } | Self::PortOfAnother(_) => "InvalidNetworkInterface.InUse",
            Self::LoadBalancerNotFound(_) => "LoadBalancerNotFound",
            Self::DuplicateLoadBalancerName(_) => "DuplicateLoadBalancerName",
            Self::LoadBalancerInUse { .. } | Self::TargetGroupInUse { .. } => "ResourceInUse",
            Self::DeletionProtected(_) => "OperationNotPermitted",
            Self::CertificateNotFound(_) => "CertificateNotFound",
            Self::CertificateMissing | Self::NotTls(_) => "ValidationError",
            Self::DefaultCertificate(_) => "OperationNotPermitted",
            Self::StickyTls | Self::MixedProtocols => "InvalidConfigurationRequest",
            Self::CertificateInUse { .. } => "ResourceInUse",
            Self::CertificateUnusable(_) => "ValidationError",
            Self::ListenerNotFound(_) => "ListenerNotFound",
            Self::DuplicateListener { .. } => "DuplicateListener",
            Self::DifferentVpc { .. } | Self::LoadBalancerNotServed { .. } => "InvalidConfigurationRequest",
            Self::IncompatibleProtocols { .. } => "IncompatibleProtocols",
            Self::TargetGroupsNotFound(_) | Self::TargetGroupNotFound(_) => "TargetGroupNotFound",
            Self::DuplicateTargetGroupName(_) => "DuplicateTargetGroupName",
            Self::TargetIpUnusable { .. } | Self::TargetIpOutside { .. } => "InvalidTarget",
            Self::TargetNotAddress(_) | Self::TargetNotInstance(_) => "ValidationError",
            Self::TargetNotRunning(_) | Self::TargetOfOtherVpc { .. } => "InvalidTarget",
            Self::InstanceNotFound(_) => "InvalidInstanceID.NotFound",
            Self::DuplicateInstance(_) => "InvalidInstance.Duplicate",
            Self::InstanceInUse { .. } => "DependencyViolation",
            Self::InstanceWrongState { .. } => "IncorrectInstanceState",
            Self::InstanceMissing => "MissingParameter",
            Self::TooManyTargets { .. } => "TooManyTargets",
            Self::TooManyListeners { .. } => "TooManyListeners",
            Self::TooManyEndpoints { .. } => "VpcEndpointLimitExceeded",
            Self::EndpointServiceNotFound(_) => "InvalidVpcEndpointServiceId.NotFound",
            Self::InvalidServiceName(_) => "InvalidServiceName",
            Self::LoadBalancerAssociated { .. }
            | Self::DuplicateServiceAlias { .. }
            | Self::ServiceWithoutLoadBalancer
            | Self::LoadBalancerNotAssociated { .. }
            | Self::LoadBalancerConnected { .. }
            | Self::LastLoadBalancer(_) => "InvalidParameter",
            Self::PrincipalMissing | Self::EndpointMissing => "MissingParameter",
            Self::ConnectionState { .. } | Self::NoPrivateDns(_) => "InvalidState",
            Self::PrivateDnsNotProvided(_) | Self::PrivateDnsBeforeAcceptance(_) | Self::PrivateDnsConflict { .. } => {
                "InvalidParameter"
            }
            Self::ExistingVpcEndpointConnections { .. } => "ExistingVpcEndpointConnections",
            Self::SecurityGroupNotFound(_) => "InvalidGroup.NotFound",
            Self::InvalidSecurityGroup(_) => "InvalidSecurityGroup",
            Self::DuplicateSecurityGroup { .. } => "InvalidGroup.Duplicate",
            Self::SecurityGroupNameReserved => "InvalidParameterValue",
            Self::DefaultSecurityGroup(_) => "CannotDelete",
            Self::SecurityGroupOfOtherVpc { .. } => "InvalidParameter",
            Self::SecurityGroupInUse { .. } => "DependencyViolation",
            Self::TooManySecurityGroups { .. } => "SecurityGroupsPerInterfaceLimitExceeded",
            Self::TooManyRules { .. } => "RulesPerSecurityGroupLimitExceeded",
            Self::DuplicateRule { .. } => "InvalidPermission.Duplicate",
            Self::RuleNotFound { .. } => "InvalidPermission.NotFound",
            Self::PrefixListNotFound(_) => "InvalidPrefixListID.NotFound",
            Self::RuleMissing => "MissingParameter",
            Self::EndpointNotFound(_) => "InvalidVpcEndpoint.NotFound",
            Self::AddressOutsideCidr { .. }
            | Self::AddressReserved { .. }
            | Self::AddressReservedInSubnet { .. }
            | Self::AddressTwice(_) => "InvalidParameterValue",
            Self::AliasInUse { .. } => "InvalidIPAddress.InUse",
            Self::AliasOverlapsVpc { .. } => "InvalidParameterValue",
            Self::TooManyAliases { .. } => "VpcEndpointAliasLimitExceeded",
            Self::LinkNotFound(_) => "InvalidLink.NotFound",
            Self::DuplicateLink(_) => "InvalidLink.Duplicate",
            Self::PartOfLink { .. } => "DependencyViolation",
            Self::SubnetNotFound(_) => "InvalidSubnetID.NotFound",
            Self::ZoneNotFound { .. } => "InvalidParameterValue",
            Self::SubnetRange(_) => "InvalidSubnet.Range",
            Self::SubnetConflict { .. } => "InvalidSubnet.Conflict",
            Self::SubnetInUse { .. } => "DependencyViolation",
            Self::RouteTableNotFound(_) => "InvalidRouteTableID.NotFound",
            Self::MainRouteTable(_) | Self::RouteTableInUse { .. } => "DependencyViolation",
            Self::RouteTableOfOtherVpc { .. } | Self::MainAssociation(_) => "InvalidParameterValue",
            Self::SubnetAssociated { .. } => "Resource.AlreadyAssociated",
            Self::AssociationNotFound(_) => "InvalidAssociationID.NotFound",
            Self::RouteExists(_) | Self::GatewayRouteExists { .. } => "RouteAlreadyExists",
            Self::NoRouteToReplace(_) | Self::LocalRoute { .. } => "InvalidParameterValue",
            Self::RouteNotFound { .. } => "InvalidRoute.NotFound",
            Self::EndpointRouteFamily { .. } => "UnsupportedOperation",
            Self::NetworkInterfaceNotFound(_) => "InvalidNetworkInterfaceID.NotFound",
            Self::NotificationNotFound(_) => "InvalidConnectionNotification",
            Self::NotificationSubjects => "InvalidParameterCombination",
            Self::EventMissing => "MissingParameter",
            Self::NotificationTargetNotAllowed(_) => "InvalidParameter",
            Self::SubnetOfOtherVpc { .. } | Self::ZoneNotOffered { .. } => "InvalidParameter",
            Self::AddressAndSubnets => "InvalidParameterCombination",
            Self::PrivateDnsVpcAttributes(_) => "InvalidParameter",
            Self::PayerStays(_) => "InvalidParameter",
            Self::PayerNotCaller(_) => "OperationNotPermitted",
            Self::SubnetMissing => "MissingParameter",
            Self::SubnetsOfSeveralVpcs | Self::LastSubnet(_) => "InvalidParameter",
            Self::SubnetsInOneZone(_) => "DuplicateSubnetsInSameZone",
            Self::AddressOutsideSubnet { .. } => "InvalidParameterValue",
            Self::NoFreeAddressInSubnet(_) => "InsufficientFreeAddressesInSubnet",
            Self::TaggedNotFound(_) => "InvalidID",
            Self::TooManyTags(_) => "TagLimitExceeded",
            Self::AddressInUse { .. } => "InvalidIPAddress.InUse",
            Self::NoFreeAddress(_) => "InsufficientFreeAddressesInSubnet",
            Self::Immutable { .. } | Self::DeclaredTwice { .. } => "InvalidParameterCombination",
        }
    }

    /// What kind of refusal it is.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Ipv6(refusal) => refusal.kind(),
            Self::Region(refusal) => refusal.kind(),
            Self::Application(refusal) => refusal.kind(),
            Self::Invalid(_)
            | Self::NodeAddressMissing
            | Self::LoadBalancerNotServed { .. }
            | Self::TargetMissing
            | Self::ServiceWithoutLoadBalancer
            | Self::PrincipalMissing
            | Self::EndpointMissing
            | Self::ForwardMissing
            | Self::ForwardTwice(_)
            | Self::ForwardContradicts
            | Self::DifferentVpc { .. }
            | Self::IncompatibleProtocols { .. }
            | Self::TargetIpOutside { .. }
            | Self::TargetNotAddress(_)
            | Self::TargetNotInstance(_)
            | Self::TargetOfOtherVpc { .. }
            | Self::InstanceMissing
            | Self::SecurityGroupNameReserved
            | Self::SecurityGroupOfOtherVpc { .. }
            | Self::RuleMissing
            | Self::AddressOutsideCidr { .. }
            | Self::AddressReserved { .. }
            | Self::AddressReservedInSubnet { .. }
            | Self::AddressTwice(_)
            | Self::AliasOverlapsVpc { .. }
            | Self::ZoneNotFound { .. }
            | Self::SubnetRange(_)
            | Self::RouteTableOfOtherVpc { .. }
            | Self::MainAssociation(_)
            | Self::LocalRoute { .. }
            | Self::EndpointRouteFamily { .. }
            | Self::SubnetOfOtherVpc { .. }
            | Self::ZoneNotOffered { .. }
            | Self::AddressAndSubnets
            | Self::NotificationSubjects
            | Self::EventMissing
            | Self::NotificationTargetNotAllowed(_)
            | Self::SubnetMissing
            | Self::SubnetsOfSeveralVpcs
            | Self::LastSubnet(_)
            | Self::SubnetsInOneZone(_)
            | Self::AddressOutsideSubnet { .. }
            | Self::TooManyTags(_)
            | Self::Immutable { .. }
            | Self::CertificateUnusable(_)
            | Self::CertificateMissing
            | Self::NotTls(_)
            | Self::StickyTls
            | Self::MixedProtocols
            | Self::DeclaredTwice { .. } => RefusalKind::Invalid,
            Self::VpcNotFound(_)
            | Self::TargetGroupVpcNotFound(_)
            | Self::PortNotFound(_)
            | Self::LoadBalancerNotFound(_)
            | Self::ListenerNotFound(_)
            | Self::CertificateNotFound(_)
            | Self::TargetGroupsNotFound(_)
            | Self::TargetGroupNotFound(_)
            | Self::EndpointServiceNotFound(_)
            | Self::InvalidServiceName(_)
            | Self::SubnetNotFound(_)
            | Self::TaggedNotFound(_)
            | Self::SecurityGroupNotFound(_)
            | Self::InvalidSecurityGroup(_)
            | Self::RuleNotFound { .. }
            | Self::PrefixListNotFound(_)
            | Self::RouteTableNotFound(_)
            | Self::AssociationNotFound(_)
            | Self::NoRouteToReplace(_)
            | Self::RouteNotFound { .. }
            | Self::NetworkInterfaceNotFound(_)
            | Self::NotificationNotFound(_)
            | Self::LinkNotFound(_)
            | Self::InstanceNotFound(_)
            | Self::EndpointNotFound(_) => RefusalKind::NotFound,
            Self::DuplicateVpc(_)
            | Self::AliasInUse { .. }
            | Self::TooManyAliases { .. }
            | Self::DuplicateLink(_)
            | Self::PartOfLink { .. }
            | Self::VpcInUse { .. }
            | Self::VpcNumbersExhausted
            | Self::PortInUse { .. }
            | Self::PortOfAnother(_)
            | Self::DuplicateLoadBalancerName(_)
            | Self::LoadBalancerInUse { .. }
            | Self::CertificateInUse { .. }
            | Self::DefaultCertificate(_)
            | Self::DeletionProtected(_)
            | Self::DuplicateListener { .. }
            | Self::DuplicateTargetGroupName(_)
            | Self::TargetGroupInUse { .. }
            | Self::TooManyForwarded { .. }
            | Self::TooManyCertificates { .. }
            | Self::StickinessRequired(_)
            | Self::TargetIpUnusable { .. }
            | Self::TargetNotRunning(_)
            | Self::DuplicateInstance(_)
            | Self::InstanceInUse { .. }
            | Self::InstanceWrongState { .. }
            | Self::TooManyTargets { .. }
            | Self::TooManyListeners { .. }
            | Self::TooManyEndpoints { .. }
            | Self::LoadBalancerAssociated { .. }
            | Self::LoadBalancerNotAssociated { .. }
            | Self::LoadBalancerConnected { .. }
            | Self::LastLoadBalancer(_)
            | Self::ConnectionState { .. }
            | Self::NoPrivateDns(_)
            | Self::PrivateDnsNotProvided(_)
            | Self::PrivateDnsBeforeAcceptance(_)
            | Self::PrivateDnsConflict { .. }
            | Self::PrivateDnsVpcAttributes(_)
            | Self::PayerStays(_)
            | Self::PayerNotCaller(_)
            | Self::DuplicateServiceAlias { .. }
            | Self::DuplicateSecurityGroup { .. }
            | Self::SecurityGroupInUse { .. }
            | Self::DefaultSecurityGroup(_)
            | Self::TooManySecurityGroups { .. }
            | Self::TooManyRules { .. }
            | Self::DuplicateRule { .. }
            | Self::ExistingVpcEndpointConnections { .. }
            | Self::AddressInUse { .. }
            | Self::MainRouteTable(_)
            | Self::RouteTableInUse { .. }
            | Self::SubnetAssociated { .. }
            | Self::RouteExists(_)
            | Self::GatewayRouteExists { .. }
            | Self::SubnetConflict { .. }
            | Self::SubnetInUse { .. }
            | Self::NoFreeAddressInSubnet(_)
            | Self::NoFreeAddress(_) => RefusalKind::Conflict,
        }
    }

    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::Invalid(invalid) => invalid.hint.clone(),
            Self::Ipv6(refusal) => refusal.hint(),
            Self::Region(refusal) => refusal.hint(),
            Self::Application(refusal) => refusal.hint(),
            Self::VpcNotFound(_) | Self::TargetGroupVpcNotFound(_) => {
                "`privatelink vpc list` shows the VPCs; `privatelink vpc create` makes one".to_owned()
            }
            Self::DuplicateVpc(name) => format!(
                "choose another name, or look at it with `privatelink vpc describe {name}`; `privatelink vpc modify \
                 {name}` changes its gateway"
            ),
            Self::VpcInUse { dependants, .. } => {
                format!("delete first, or with --cascade, which does: {}", dependants.join(", "))
            }
            Self::VpcNumbersExhausted => "delete a VPC that is no longer used".to_owned(),
            Self::PortNotFound(_) => "`privatelink port list` shows the ports".to_owned(),
            Self::PortInUse { interface, vpc } => format!(
                "it is a port of VPC '{vpc}'; an interface belongs to one VPC: `privatelink port detach {interface}` first"
            ),
            Self::PortOfAnother(interface) => format!(
                "an interface belongs to one VPC; name its account with --account to see it: `privatelink --account ACCOUNT \
                 port detach {interface}`"
            ),
            Self::LoadBalancerNotFound(_) => "`privatelink load-balancer list` shows the load balancers".to_owned(),
            Self::DuplicateLoadBalancerName(name) => {
                format!("choose another name, or look at it with `privatelink load-balancer describe {name}`")
            }
            Self::LoadBalancerInUse { service, .. } => {
                format!("`privatelink endpoint-service delete {service}` first, or delete with --cascade, which does")
            }
            Self::DeletionProtected(lb) => {
                format!("`privatelink load-balancer modify {lb} --attribute deletion_protection.enabled=false` first")
            }
            Self::NodeAddressMissing => {
                "give the load balancer at least one address of its VPC, such as --address 10.0.0.5".to_owned()
            }
            Self::LoadBalancerNotServed { .. } => "make one of type network".to_owned(),
            Self::CertificateNotFound(_) => {
                "`privatelink certificate list` shows the certificates; name one by its ARN, or by a name that it alone is for"
                    .to_owned()
            }
            Self::CertificateInUse { listeners, .. } => {
                format!("give {} another one first: `privatelink listener modify LISTENER --certificate …`", listeners.join(", "))
            }
            Self::CertificateMissing => {
                "name one that `privatelink certificate list` shows with --certificate; `privatelink certificate import` adds one"
                    .to_owned()
            }
            Self::NotTls(_) => "leave them out, or make a listener of protocol TLS".to_owned(),
            Self::DefaultCertificate(_) => {
                "make another one the default: `privatelink listener modify LISTENER --certificate …`".to_owned()
            }
            Self::StickyTls => {
                "turn stickiness off in the listener and in its target groups (stickiness.enabled=false)".to_owned()
            }
            Self::MixedProtocols => "lead to target groups of one protocol, TCP or TLS".to_owned(),
            Self::CertificateUnusable(error) => error.hint().to_owned(),
            Self::ListenerNotFound(_) => {
                "`privatelink listener list` shows the listeners; name one by its ARN or as LOAD-BALANCER:PORT"
                    .to_owned()
            }
            Self::DuplicateListener { port, .. } => format!(
                "delete the listener on port {port} first, change it with `privatelink listener modify`, or use \
                 another port"
            ),
            Self::DifferentVpc { .. } => {
                "make a target group in the load balancer's VPC; targets elsewhere are reached through its gateway"
                    .to_owned()
            }
            Self::ForwardMissing => "name a target group with --target-group, or several as NAME=WEIGHT".to_owned(),
            Self::ForwardTwice(_) => "name each target group once".to_owned(),
            Self::ForwardContradicts => "give weights for all target groups, or one target group".to_owned(),
            Self::TooManyForwarded { limit } => format!("a listener leads to at most {limit} target groups"),
            Self::TooManyCertificates { .. } => {
                "default ones do not count; take some away with `privatelink listener remove-certificate`, or use a wildcard's"
                    .to_owned()
            }
            Self::StickinessRequired(_) => {
                "turn the listener's stickiness on with `privatelink listener modify --stickiness on`, or the target \
                 group's off"
                    .to_owned()
            }
            Self::TargetGroupsNotFound(reference) => {
                format!("there is no target group '{reference}'; `privatelink target-group list` shows them")
            }
            Self::TargetGroupNotFound(_) => "`privatelink target-group list` shows the target groups".to_owned(),
            Self::DuplicateTargetGroupName(name) => format!(
                "choose another name, or change it with `privatelink target-group modify {name}`; protocol, port and \
                 VPC are fixed at creation"
            ),
            Self::IncompatibleProtocols { listener, .. } => {
                let transports = [Protocol::Tcp, Protocol::Udp, Protocol::TcpUdp, Protocol::Tls];
                let fitting = match listener {
                    GroupProtocol::Transport(listener) => {
                        let fits = transports.into_iter().filter(|group| listener.leads_to((*group).into()));
                        fits.map(|group| group.to_string()).collect::<Vec<_>>().join(" or ")
                    }
                    GroupProtocol::Application(_) => "HTTP or HTTPS".to_owned(),
                };
                format!("a listener of protocol {listener} leads to target groups of protocol {fitting}")
            }
            Self::TargetGroupInUse { listeners, .. } => {
                format!("delete its listeners first, or with --cascade, which does: {}", listeners.join(", "))
            }
            Self::TooManyTargets { .. } => {
                "a target counts once for each node address; deregister some, or make more room: \
                                            `privatelink agent --remove`, then start the agent with --max-targets"
                    .to_owned()
            }
            Self::TooManyListeners { .. } => "delete listeners that are no longer used".to_owned(),
            Self::TooManyEndpoints { .. } => "delete endpoints that are no longer used".to_owned(),
            Self::TargetMissing => "name targets as IP or IP:PORT, such as 10.0.1.10:8080, or as INSTANCE or INSTANCE:PORT".to_owned(),
            Self::TargetIpUnusable { by, .. } => format!("it is {by}; register the address of the server itself"),
            Self::TargetIpOutside { cidr: IpNet::V6(cidr), .. } => {
                format!("use an address in the VPC's range {cidr}, or a unique local one behind its IPv6 gateway")
            }
            Self::TargetIpOutside { cidr: IpNet::V4(cidr), .. } => format!(
                "use an address in the VPC's range {cidr}, or behind its gateway in 10.0.0.0/8, 172.16.0.0/12, \
                 192.168.0.0/16 or 100.64.0.0/10"
            ),
            Self::TargetNotAddress(_) => {
                "the target group's type is ip: name targets as IP or IP:PORT, such as 10.0.1.10:8080".to_owned()
            }
            Self::TargetNotInstance(_) => {
                "the target group's type is instance: name a registered instance by id or name, or NAME:PORT; \
                 `privatelink instance list` shows them"
                    .to_owned()
            }
            Self::TargetNotRunning(instance) => format!("`privatelink instance start {instance}` first"),
            Self::TargetOfOtherVpc { vpc, .. } => format!("register an instance of VPC '{vpc}'"),
            Self::InstanceNotFound(_) => {
                "`privatelink instance list` shows the instances; `privatelink instance register` makes one".to_owned()
            }
            Self::DuplicateInstance(name) => {
                format!("choose another name, or look at it with `privatelink instance describe {name}`")
            }
            Self::InstanceInUse { instance, target_groups } => format!(
                "`privatelink target deregister GROUP {instance}` first, or deregister with --force, which does: {}",
                target_groups.join(", ")
            ),
            Self::InstanceWrongState { .. } => "`privatelink instance describe` shows its state".to_owned(),
            Self::InstanceMissing => "name an instance by id or name".to_owned(),
            Self::EndpointServiceNotFound(_) | Self::InvalidServiceName(_) => {
                "`privatelink endpoint-service list` shows the services; name one by its service name, its id or its \
                 alias"
                    .to_owned()
            }
            Self::LoadBalancerAssociated { service, .. } => {
                format!("a load balancer serves one endpoint service; use '{service}', or make another load balancer")
            }
            Self::ServiceWithoutLoadBalancer => "name at least one load balancer with --load-balancer".to_owned(),
            Self::LoadBalancerNotAssociated { .. } => {
                "`privatelink endpoint-service describe` shows the load balancers of a service".to_owned()
            }
            Self::LoadBalancerConnected { endpoints, .. } => format!("reject first: {}", endpoints.join(", ")),
            Self::LastLoadBalancer(service) => {
                format!("add another one, or delete the service: `privatelink endpoint-service delete {service}`")
            }
            Self::PrincipalMissing => "name a principal like arn:aws:iam::123456789012:root, or '*'".to_owned(),
            Self::EndpointMissing => {
                "`privatelink endpoint-service connections SERVICE` shows the endpoints".to_owned()
            }
            Self::ConnectionState { .. } => {
                "`privatelink endpoint-service connections SERVICE` shows the states".to_owned()
            }
            Self::DuplicateServiceAlias { service, .. } => {
                format!("it is '{service}'; choose another name, or leave --name out")
            }
            Self::ExistingVpcEndpointConnections { endpoints, .. } => {
                format!(
                    "reject them first, or delete with --force, which does; the consumers delete their endpoints: {}",
                    endpoints.join(", ")
                )
            }
            Self::SecurityGroupNotFound(_) | Self::InvalidSecurityGroup(_) => {
                "`privatelink security-group list` shows the security groups; name one by its id, its name, or as VPC/NAME \
                 where several VPCs have the name"
                    .to_owned()
            }
            Self::DuplicateSecurityGroup { name, .. } => {
                format!("choose another name, or look at it with `privatelink security-group describe '{name}'`")
            }
            Self::SecurityGroupNameReserved => "choose another name".to_owned(),
            Self::DefaultSecurityGroup(_) => {
                "it goes with its VPC; take its rules away with `privatelink security-group revoke` to let nobody in".to_owned()
            }
            Self::SecurityGroupOfOtherVpc { vpc, .. } => format!("use a security group of VPC '{vpc}'"),
            Self::SecurityGroupInUse { dependants, .. } => format!("it is used by: {}", dependants.join(", ")),
            Self::TooManySecurityGroups { limit } => {
                format!("a load balancer or endpoint carries at most {limit}; put the rules into fewer groups")
            }
            Self::TooManyRules { limit } => {
                format!("a security group has at most {limit} rules a direction; use wider ranges or a second group")
            }
            Self::DuplicateRule { .. } => "it need not be added again".to_owned(),
            Self::RuleNotFound { rule } => {
                format!("there is no rule '{rule}'; `privatelink security-group describe` shows the rules")
            }
            Self::PrefixListNotFound(_) => {
                "there is one for each gateway service; routes to its gateway endpoints show the id".to_owned()
            }
            Self::RuleMissing => "name at least one rule, such as --protocol tcp --port 443 --cidr 10.0.0.0/8".to_owned(),
            Self::PrivateDnsNotProvided(_) => {
                "its owner sets one with `privatelink endpoint-service modify SERVICE --private-dns-name NAME` and verifies it \
                 with `privatelink endpoint-service verify-domain SERVICE`"
                    .to_owned()
            }
            Self::PrivateDnsBeforeAcceptance(_) => {
                "after the acceptance: `privatelink endpoint modify ENDPOINT --private-dns true`".to_owned()
            }
            Self::PrivateDnsConflict { endpoint, .. } => format!(
                "the endpoint '{endpoint}' answers for it; `privatelink endpoint modify {endpoint} --private-dns false` first"
            ),
            Self::NoPrivateDns(service) => {
                format!("`privatelink endpoint-service modify {service} --private-dns-name NAME` sets one")
            }
            Self::EndpointNotFound(_) => {
                "`privatelink endpoint list` shows the endpoints; name one by its id or as VPC/ADDRESS".to_owned()
            }
            Self::AliasInUse { endpoint, .. } => {
                format!("`privatelink endpoint modify {endpoint} --no-aliases` first, or use a longer prefix: the longest counts")
            }
            Self::AliasOverlapsVpc { cidr, .. } => {
                format!("use a prefix outside {cidr}, or single addresses of it as IP/32")
            }
            Self::TooManyAliases { limit } => format!("an endpoint has at most {limit}; use shorter prefixes"),
            Self::LinkNotFound(_) => "`privatelink link list` shows the links; name one by its name or id".to_owned(),
            Self::DuplicateLink(name) => {
                format!("choose another name, or delete it first: `privatelink link delete {name}`")
            }
            Self::PartOfLink { link, .. } => format!("`privatelink link delete {link}` deletes both of its directions"),
            Self::AddressOutsideCidr { cidr, .. } => format!("use a free address in {cidr}"),
            Self::AddressReservedInSubnet { cidr, .. } => {
                format!("use a free address in {cidr}, not one of its first four and not its last")
            }
            Self::AddressReserved { cidr: IpNet::V6(cidr), .. } => {
                format!("{} is the address of every router", cidr.network())
            }
            Self::AddressReserved { cidr, .. } => {
                format!("{} is the network itself and {} its broadcast address", cidr.network(), cidr.broadcast())
            }
            Self::AddressInUse { by, .. } => format!("it is {by}; choose another address"),
            Self::SubnetNotFound(_) => "`privatelink subnet list` shows the subnets".to_owned(),
            Self::ZoneNotFound { region, .. } => format!("the zones are {}", zone_names(region)),
            Self::SubnetRange(_) => "use a range inside the VPC's".to_owned(),
            Self::SubnetConflict { subnet, .. } => format!("it overlaps '{subnet}'; use a range beside it"),
            Self::SubnetInUse { dependants, .. } => {
                format!("delete first, or with --cascade, which does: {}", dependants.join("; "))
            }
            Self::RouteTableNotFound(_) => {
                "`privatelink route-table list` shows the route tables; name one by its id, or a VPC for its main one".to_owned()
            }
            Self::MainRouteTable(_) => "it is the main one, and goes with its VPC".to_owned(),
            Self::RouteTableInUse { dependants, .. } => format!(
                "`privatelink route-table disassociate` first, or delete with --force, which does: {}",
                dependants.join(", ")
            ),
            Self::RouteTableOfOtherVpc { .. } => "name what is in the route table's VPC".to_owned(),
            Self::SubnetAssociated { present, .. } => {
                format!("the subnet has '{present}'; `privatelink route-table disassociate SUBNET` first")
            }
            Self::MainAssociation(_) => "the main table is for every subnet that has none of its own".to_owned(),
            Self::AssociationNotFound(_) => {
                "`privatelink route-table describe` shows the associations; name one by its id or by its subnet".to_owned()
            }
            Self::GatewayRouteExists { .. } => "delete the other gateway endpoint, or take the table from it".to_owned(),
            Self::RouteExists(_) => "`privatelink route replace` lets it lead elsewhere".to_owned(),
            Self::NoRouteToReplace(_) => "`privatelink route create` makes it".to_owned(),
            Self::LocalRoute { .. } => "every table has it, for the VPC's own range".to_owned(),
            Self::EndpointRouteFamily { .. } => "endpoints answer for IPv4 ranges".to_owned(),
            Self::RouteNotFound { .. } => "`privatelink route-table describe` shows the routes".to_owned(),
            Self::NetworkInterfaceNotFound(_) => {
                "`privatelink interface list` shows the network interfaces; name one by its id or as VPC/ADDRESS".to_owned()
            }
            Self::SubnetOfOtherVpc { vpc, .. } => format!("`privatelink subnet list --vpc {vpc}` shows its subnets"),
            Self::ZoneNotOffered { .. } => {
                "use a subnet of a zone in which the service's load balancers have addresses".to_owned()
            }
            Self::AddressAndSubnets => "pin an address inside a subnet as SUBNET=ADDRESS".to_owned(),
            Self::PrivateDnsVpcAttributes(vpc) => {
                format!("`privatelink vpc modify {vpc} --dns-support on --dns-hostnames on` first")
            }
            Self::PayerStays(_) => "who pays for one endpoint can still be changed".to_owned(),
            Self::PayerNotCaller(_) => "its owner does so by naming the service".to_owned(),
            Self::NotificationNotFound(_) => "`privatelink notification list` shows the notifications".to_owned(),
            Self::NotificationSubjects => "name a service or an endpoint".to_owned(),
            Self::EventMissing => "name Accept, Connect, Delete or Reject".to_owned(),
            Self::NotificationTargetNotAllowed(target) if target.is_topic() => {
                format!("its operator says what the topic stands for: `privatelink agent --notify {target}=TARGET`")
            }
            Self::NotificationTargetNotAllowed(target) => {
                format!("its operator allows it: `privatelink agent --notify {target}`")
            }
            Self::SubnetMissing => "name a subnet".to_owned(),
            Self::LastSubnet(_) => "add another one in the same request, or delete the endpoint".to_owned(),
            Self::SubnetsOfSeveralVpcs => "name subnets of one VPC".to_owned(),
            Self::SubnetsInOneZone(_) => "name one subnet a zone".to_owned(),
            Self::AddressOutsideSubnet { cidr, .. } => {
                format!("use a free address in {cidr}")
            }
            Self::NoFreeAddressInSubnet(_) => "use another subnet".to_owned(),
            Self::TaggedNotFound(_) => "name a resource of your account".to_owned(),
            Self::TooManyTags(_) => "take tags away first".to_owned(),
            Self::AddressTwice(_) => "name each address once".to_owned(),
            Self::NoFreeAddress(_) => "delete endpoints that are no longer used, or give --address".to_owned(),
            Self::Immutable { what, .. } => {
                format!("delete {what} and create it anew, or declare it under another name")
            }
            Self::DeclaredTwice { .. } => "declare each resource once".to_owned(),
        }
    }
}
