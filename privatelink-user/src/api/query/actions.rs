//! The one table of actions: for each the service, the name and what answers.

use super::{
    call::Call,
    ec2::{
        connections, endpoints, instances, interfaces, notifications, permissions, route_tables, security_groups,
        services, subnets, tags, vpcs, zones,
    },
    elb::{self, listeners, load_balancers, rules, target_groups, targets},
    refusal::Refusal,
    sts,
    xml::{Dialect, Structure},
};

/// A service of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Ec2,
    LoadBalancing,
    Sts,
    /// It speaks JSON and has its own table ([`super::acm`]).
    CertificateManager,
}

impl Service {
    /// Every service that speaks XML.
    pub const ALL: [Self; 3] = [Self::Ec2, Self::LoadBalancing, Self::Sts];

    /// The version that requests carry.
    pub fn version(self) -> &'static str {
        match self {
            Self::Ec2 => "2016-11-15",
            Self::LoadBalancing => "2015-12-01",
            Self::Sts => "2011-06-15",
            Self::CertificateManager => "2015-12-08",
        }
    }

    /// The service's name in the scope of a signature.
    pub fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::LoadBalancing => "elasticloadbalancing",
            Self::Sts => "sts",
            Self::CertificateManager => "acm",
        }
    }

    /// The namespace of its answers.
    pub fn namespace(self) -> &'static str {
        match self {
            Self::Ec2 => "http://ec2.amazonaws.com/doc/2016-11-15/",
            Self::LoadBalancing => "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::CertificateManager => "",
        }
    }

    /// How it writes its answers.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Ec2 => Dialect::Ec2,
            Self::LoadBalancing | Self::Sts | Self::CertificateManager => Dialect::Query,
        }
    }
}

/// A row.
pub struct Action {
    pub service: Service,
    pub name: &'static str,
    pub answer: Answer,
}

/// What answers a request.
pub type Answer = fn(&Call<'_>) -> Result<Structure, Refusal>;

/// The row of `name`.
pub fn find(service: Service, name: &str) -> Option<&'static Action> {
    ACTIONS.iter().find(|action| action.service == service && action.name == name)
}

const fn ec2(name: &'static str, answer: Answer) -> Action {
    Action { service: Service::Ec2, name, answer }
}

const fn elb(name: &'static str, answer: Answer) -> Action {
    Action { service: Service::LoadBalancing, name, answer }
}

/// Every action.
pub const ACTIONS: &[Action] = &[
    ec2("CreateVpcEndpointServiceConfiguration", services::create),
    ec2("DescribeVpcEndpointServiceConfigurations", services::describe),
    ec2("ModifyVpcEndpointServiceConfiguration", services::modify),
    ec2("DeleteVpcEndpointServiceConfigurations", services::delete),
    ec2("DescribeVpcEndpointServices", services::offered),
    ec2("ModifyVpcEndpointServicePermissions", permissions::modify),
    ec2("DescribeVpcEndpointServicePermissions", permissions::describe),
    ec2("StartVpcEndpointServicePrivateDnsVerification", services::verify),
    ec2("DescribeVpcEndpointConnections", connections::describe),
    ec2("AcceptVpcEndpointConnections", connections::accept),
    ec2("RejectVpcEndpointConnections", connections::reject),
    ec2("CreateVpcEndpoint", endpoints::create),
    ec2("DescribeVpcEndpoints", endpoints::describe),
    ec2("ModifyVpcEndpoint", endpoints::modify),
    ec2("DeleteVpcEndpoints", endpoints::delete),
    ec2("DescribeVpcEndpointAssociations", endpoints::associations),
    ec2("CreateVpcEndpointConnectionNotification", notifications::create),
    ec2("DescribeVpcEndpointConnectionNotifications", notifications::describe),
    ec2("ModifyVpcEndpointConnectionNotification", notifications::modify),
    ec2("DeleteVpcEndpointConnectionNotifications", notifications::delete),
    ec2("ModifyVpcEndpointServicePayerResponsibility", services::modify_payer),
    ec2("ModifyVpcEndpointPayerResponsibility", endpoints::modify_payer),
    ec2("CreateVpc", vpcs::create),
    ec2("DescribeVpcs", vpcs::describe),
    ec2("DeleteVpc", vpcs::delete),
    ec2("ModifyVpcAttribute", vpcs::modify_attribute),
    ec2("DescribeVpcAttribute", vpcs::describe_attribute),
    ec2("CreateSubnet", subnets::create),
    ec2("DescribeSubnets", subnets::describe),
    ec2("DeleteSubnet", subnets::delete),
    ec2("ModifySubnetAttribute", subnets::modify_attribute),
    ec2("DescribeRouteTables", route_tables::describe),
    ec2("CreateRouteTable", route_tables::create),
    ec2("AssociateRouteTable", route_tables::associate),
    ec2("DisassociateRouteTable", route_tables::disassociate),
    ec2("DeleteRouteTable", route_tables::delete),
    ec2("CreateRoute", route_tables::create_route),
    ec2("ReplaceRoute", route_tables::replace_route),
    ec2("DeleteRoute", route_tables::delete_route),
    ec2("CreateSecurityGroup", security_groups::create),
    ec2("DescribeSecurityGroups", security_groups::describe),
    ec2("DescribeSecurityGroupRules", security_groups::describe_rules),
    ec2("DeleteSecurityGroup", security_groups::delete),
    ec2("AuthorizeSecurityGroupIngress", security_groups::authorize_ingress),
    ec2("AuthorizeSecurityGroupEgress", security_groups::authorize_egress),
    ec2("RevokeSecurityGroupIngress", security_groups::revoke_ingress),
    ec2("RevokeSecurityGroupEgress", security_groups::revoke_egress),
    ec2("DescribeNetworkInterfaces", interfaces::describe),
    ec2("DescribeAvailabilityZones", zones::describe),
    ec2("DescribeRegions", zones::regions),
    ec2("DescribeAccountAttributes", zones::account_attributes),
    ec2("CreateTags", tags::create),
    ec2("DeleteTags", tags::delete),
    ec2("DescribeTags", tags::describe),
    ec2("RunInstances", instances::run),
    ec2("DescribeInstances", instances::describe),
    ec2("StartInstances", instances::start),
    ec2("StopInstances", instances::stop),
    ec2("TerminateInstances", instances::terminate),
    elb("CreateLoadBalancer", load_balancers::create),
    elb("DescribeLoadBalancers", load_balancers::describe),
    elb("DeleteLoadBalancer", load_balancers::delete),
    elb("ModifyLoadBalancerAttributes", load_balancers::modify_attributes),
    elb("DescribeLoadBalancerAttributes", load_balancers::describe_attributes),
    elb("SetSecurityGroups", load_balancers::set_security_groups),
    elb("SetSubnets", load_balancers::set_subnets),
    elb("SetIpAddressType", load_balancers::set_ip_address_type),
    elb("CreateTargetGroup", target_groups::create),
    elb("DescribeTargetGroups", target_groups::describe),
    elb("ModifyTargetGroup", target_groups::modify),
    elb("DeleteTargetGroup", target_groups::delete),
    elb("ModifyTargetGroupAttributes", target_groups::modify_attributes),
    elb("DescribeTargetGroupAttributes", target_groups::describe_attributes),
    elb("RegisterTargets", targets::register),
    elb("DeregisterTargets", targets::deregister),
    elb("DescribeTargetHealth", targets::health),
    elb("CreateListener", listeners::create),
    elb("DescribeListeners", listeners::describe),
    elb("ModifyListener", listeners::modify),
    elb("DeleteListener", listeners::delete),
    elb("DescribeListenerAttributes", listeners::describe_attributes),
    elb("ModifyListenerAttributes", listeners::modify_attributes),
    elb("AddListenerCertificates", listeners::add_certificates),
    elb("RemoveListenerCertificates", listeners::remove_certificates),
    elb("DescribeListenerCertificates", listeners::describe_certificates),
    elb("DescribeSSLPolicies", listeners::describe_ssl_policies),
    elb("AddTags", elb::add_tags),
    elb("RemoveTags", elb::remove_tags),
    elb("DescribeTags", elb::describe_tags),
    elb("DescribeAccountLimits", elb::account_limits),
    elb("DescribeRules", rules::describe),
    elb("CreateRule", rules::create),
    elb("ModifyRule", rules::modify),
    elb("DeleteRule", rules::delete),
    elb("SetRulePriorities", rules::set_priorities),
    elb("DescribeCapacityReservation", load_balancers::capacity_reservation),
    Action { service: Service::Sts, name: "GetCallerIdentity", answer: sts::get_caller_identity },
];
