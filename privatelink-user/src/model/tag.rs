//! Tags: words that an account puts on its resources.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    ApplicationListenerId, EndpointId, EndpointServiceId, InstanceId, InvalidValue, Key, ListenerId, ListenerRuleId,
    LoadBalancerId, RouteTableId, SecurityGroupId, SecurityGroupRuleId, State, SubnetId, TargetGroupId, VpcId,
    invalid::text_value,
};

/// The tags of one resource; none are kept for a resource without tags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    pub resource: TaggedId,
    pub tags: BTreeMap<TagKey, TagValue>,
}

impl Tags {
    /// The most tags of a resource.
    pub const MOST: usize = 50;
}

/// The id or ARN of a resource that can have tags.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaggedId(String);

impl TaggedId {
    /// The kind of resource, as EC2 names it.
    pub fn kind(&self) -> &'static str {
        let text = self.0.as_str();
        if text.starts_with("vpce-svc-") {
            "vpc-endpoint-service"
        } else if text.starts_with("vpce-") {
            "vpc-endpoint"
        } else if text.starts_with("vpc-") {
            "vpc"
        } else if text.starts_with("sgr-") {
            "security-group-rule"
        } else if text.starts_with("sg-") {
            "security-group"
        } else if text.starts_with("subnet-") {
            "subnet"
        } else if text.starts_with("rtb-") {
            "route-table"
        } else if text.starts_with("i-") {
            "instance"
        } else {
            "elastic-load-balancing"
        }
    }
}

impl FromStr for TaggedId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = text.parse::<VpcId>().is_ok()
            || text.parse::<SubnetId>().is_ok()
            || text.parse::<RouteTableId>().is_ok()
            || text.parse::<SecurityGroupId>().is_ok()
            || text.parse::<SecurityGroupRuleId>().is_ok()
            || text.parse::<InstanceId>().is_ok()
            || text.parse::<EndpointServiceId>().is_ok()
            || text.parse::<EndpointId>().is_ok()
            || text.parse::<LoadBalancerId>().is_ok()
            || text.parse::<ListenerId>().is_ok()
            || text.parse::<ApplicationListenerId>().is_ok()
            || text.parse::<ListenerRuleId>().is_ok()
            || text.parse::<TargetGroupId>().is_ok();
        if known {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new(
                "resource",
                text,
                "is not the id or ARN of a resource that can have tags",
                "use the id of a VPC, subnet, route table, security group or rule of one, instance, endpoint service or endpoint, or a load balancing ARN",
            ))
        }
    }
}

text_value!(TaggedId);

macro_rules! tag_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $least:literal, $most:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let length = text.chars().count();
                let rule = if !($least..=$most).contains(&length) {
                    concat!("must have a length between ", $least, " and ", $most)
                } else if text.chars().any(char::is_control) {
                    "cannot contain control characters"
                } else if $least == 1 && text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
                    "cannot begin with 'aws:', which is reserved"
                } else {
                    return Ok(Self(text.to_owned()));
                };
                Err(InvalidValue::new($what, text, rule, "use a short text, such as Name or team"))
            }
        }

        text_value!($name);
    };
}

tag_text!(
    /// A tag's key: 1 to 128 characters, not beginning with `aws:`.
    TagKey, "Tag key", 1, 128
);
tag_text!(
    /// A tag's value: at most 256 characters.
    TagValue, "Tag value", 0, 256
);

impl Key {
    /// The identity under which the resource has tags; none if it cannot have any.
    pub fn tagged(&self) -> Option<TaggedId> {
        let text = match self {
            Self::Vpc(id) => id.as_str(),
            Self::LoadBalancer(id) => id.as_str(),
            Self::Listener(id) => id.as_str(),
            Self::ApplicationListener(id) => id.as_str(),
            Self::ListenerRule(id) => id.as_str(),
            Self::TargetGroup(id) => id.as_str(),
            Self::EndpointService(id) => id.as_str(),
            Self::Endpoint(id) | Self::GatewayEndpoint(id) => id.as_str(),
            Self::Subnet(id) => id.as_str(),
            Self::SecurityGroup(id) => id.as_str(),
            Self::RouteTable(id) => id.as_str(),
            Self::Instance(id) => id.as_str(),
            Self::Port(_)
            | Self::Link(_)
            | Self::Tags(_)
            | Self::Account(_)
            | Self::ClientToken(_)
            | Self::ConnectionNotification(_)
            | Self::Notice(_)
            | Self::Certificate(_) => {
                return None;
            }
        };
        text.parse().ok()
    }
}

impl State {
    /// Whether the resource that `id` names exists.
    pub fn has_tagged(&self, id: &TaggedId) -> bool {
        let text = id.as_str();
        text.parse().is_ok_and(|id: VpcId| self.vpcs.contains_key(&id))
            || text.parse().is_ok_and(|id: SubnetId| self.subnets.contains_key(&id))
            || text.parse().is_ok_and(|id: RouteTableId| self.route_tables.contains_key(&id))
            || text.parse().is_ok_and(|id: SecurityGroupId| self.security_groups.contains_key(&id))
            || text.parse().is_ok_and(|id: SecurityGroupRuleId| {
                self.security_groups.values().any(|group| group.rules.contains_key(&id))
            })
            || text.parse().is_ok_and(|id: InstanceId| self.instances.contains_key(&id))
            || text.parse().is_ok_and(|id: EndpointServiceId| self.endpoint_services.contains_key(&id))
            || text.parse().is_ok_and(|id: EndpointId| {
                self.endpoints.contains_key(&id) || self.gateway_endpoints.contains_key(&id)
            })
            || text.parse().is_ok_and(|id: LoadBalancerId| self.load_balancers.contains_key(&id))
            || text.parse().is_ok_and(|id: ListenerId| self.listeners.contains_key(&id))
            || text.parse().is_ok_and(|id: ApplicationListenerId| self.application_listeners.contains_key(&id))
            || text.parse().is_ok_and(|id: ListenerRuleId| self.listener_rules.contains_key(&id))
            || text.parse().is_ok_and(|id: TargetGroupId| self.target_groups.contains_key(&id))
    }

    /// The tags of a resource.
    pub fn tags_of(&self, resource: &str) -> BTreeMap<TagKey, TagValue> {
        resource
            .parse()
            .ok()
            .and_then(|id: TaggedId| self.tags.get(&id))
            .map_or_else(BTreeMap::new, |found| found.tags.clone())
    }
}
