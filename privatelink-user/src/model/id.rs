//! Identifiers, typed. Forms: EC2 ids carry 17 hex digits, load balancing ARNs 16. Copies share their text.

use std::{str::FromStr, sync::Arc};

use super::{InvalidValue, LoadBalancerKind, Owner, ResourceName, derived, invalid::text_value};

/// Where new identifiers come from. Random in the agent, a counter in tests.
pub trait IdSource {
    /// `digits` lower-case hexadecimal digits that were not handed out before.
    fn hex(&mut self, digits: usize) -> String;
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

macro_rules! ec2_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The length of every one, in bytes.
            pub const LEN: usize = $prefix.len() + 17;

            /// A new identifier.
            pub fn generate(ids: &mut dyn IdSource) -> Self {
                Self(format!(concat!($prefix, "{}"), ids.hex(17)).into())
            }

            /// The identifier that follows from `parts`, always the same.
            pub fn derived(parts: &[&str]) -> Self {
                Self(format!(concat!($prefix, "{}"), derived::hex(17, parts)).into())
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                match text.strip_prefix($prefix) {
                    Some(digits) if is_hex(digits, 17) => Ok(Self(text.into())),
                    Some(_) | None => Err(InvalidValue::new(
                        $what,
                        text,
                        concat!("must be '", $prefix, "' and 17 lower-case hexadecimal digits"),
                        concat!("use an id like ", $prefix, "0123456789abcdef0, or the name"),
                    )),
                }
            }
        }

        text_value!($name);
    };
}

ec2_id!(
    /// A VPC's id, `vpc-` + 17 hex digits.
    VpcId, "VPC id", "vpc-"
);
ec2_id!(
    /// A subnet's id, `subnet-` + 17 hex digits.
    SubnetId, "subnet id", "subnet-"
);
ec2_id!(
    /// A route table's id, `rtb-` + 17 hex digits.
    RouteTableId, "route table id", "rtb-"
);
ec2_id!(
    /// The id of a connection notification, `vpce-nfn-` + 17 hex digits.
    NotificationId, "connection notification id", "vpce-nfn-"
);
ec2_id!(
    /// The id of a connection notification's message, `notice-` + 17 hex digits.
    NoticeId, "message id", "notice-"
);
ec2_id!(
    /// A network interface's id, `eni-` + 17 hex digits.
    NetworkInterfaceId, "network interface id", "eni-"
);
ec2_id!(
    /// An instance's id, `i-` + 17 hex digits.
    InstanceId, "instance id", "i-"
);
ec2_id!(
    /// An endpoint service's id, `vpce-svc-` + 17 hex digits.
    EndpointServiceId, "endpoint service id", "vpce-svc-"
);
ec2_id!(
    /// An endpoint's id, `vpce-` + 17 hex digits.
    EndpointId, "endpoint id", "vpce-"
);
ec2_id!(
    /// A two-way link's id, `link-` + 17 hex digits.
    LinkId, "link id", "link-"
);
ec2_id!(
    /// A security group's id, `sg-` + 17 hex digits.
    SecurityGroupId, "security group id", "sg-"
);
ec2_id!(
    /// The id of a security group's rule, `sgr-` + 17 hex digits.
    SecurityGroupRuleId, "security group rule id", "sgr-"
);

/// Region, account and resource of a load balancing ARN.
fn arn_parts(text: &str) -> Option<(&str, &str, &str)> {
    let mut parts = text.strip_prefix("arn:aws:elasticloadbalancing:")?.splitn(3, ':');
    Some((parts.next()?, parts.next()?, parts.next()?))
}

macro_rules! elb_arn {
    ($(#[$doc:meta])* $name:ident, $what:literal, $kind:literal $(or $other:literal)?, $segments:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Region and account of the ARN.
            pub fn scope(&self) -> (&str, &str) {
                arn_parts(&self.0).map_or_else(Default::default, |(region, account, _)| (region, account))
            }

            /// The region of the ARN.
            pub fn region(&self) -> Option<Region> {
                self.scope().0.parse().ok()
            }

            /// Whether the ARN is of `owner`'s account and region.
            pub fn belongs_to(&self, owner: &Owner) -> bool {
                let Owner { account, region } = owner;
                self.scope() == (region.as_str(), account.as_str())
            }
        }

        impl FromStr for $name {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let invalid = || {
                    InvalidValue::new(
                        $what,
                        text,
                        concat!("must be an ARN whose resource begins with '", $kind, "'"),
                        concat!("use arn:aws:elasticloadbalancing:<region>:<account>:", $kind, "…, or the name"),
                    )
                };
                let (region, account, resource) = arn_parts(text).ok_or_else(invalid)?;
                let owned = region.parse::<Region>().is_ok() && account.parse::<AccountId>().is_ok();
                let suffix = resource.strip_prefix($kind)$(.or_else(|| resource.strip_prefix($other)))?;
                let resource = suffix.filter(|_| owned).ok_or_else(invalid)?;
                let mut segments = resource.split('/');
                let named = segments.next().is_some_and(|name| name.parse::<ResourceName>().is_ok());
                let hex = segments.clone().count() == $segments && segments.all(|segment| is_hex(segment, 16));
                if named && hex { Ok(Self(text.into())) } else { Err(invalid()) }
            }
        }

        text_value!($name);
    };
}

elb_arn!(
    /// A load balancer's ARN, `…:loadbalancer/net/<name>/<16 hex>`; `app` instead of `net` for one of type application.
    LoadBalancerId, "load balancer ARN", "loadbalancer/net/" or "loadbalancer/app/", 1
);
elb_arn!(
    /// A listener's ARN, `…:listener/net/<load balancer>/<16 hex>/<16 hex>`.
    ListenerId, "listener ARN", "listener/net/", 2
);
elb_arn!(
    /// The ARN of a listener of a load balancer of type application, `…:listener/app/<load balancer>/<16 hex>/<16
    /// hex>`.
    ApplicationListenerId, "listener ARN", "listener/app/", 2
);
elb_arn!(
    /// The ARN of a rule of such a listener, `…:listener-rule/app/<load balancer>/<16 hex>/<16 hex>/<16 hex>`.
    ListenerRuleId, "rule ARN", "listener-rule/app/", 3
);
elb_arn!(
    /// A target group's ARN, `…:targetgroup/<name>/<16 hex>`.
    TargetGroupId, "target group ARN", "targetgroup/", 1
);

impl LoadBalancerId {
    /// What follows the type in the ARN: `<name>/<16 hex>`.
    pub(super) fn suffix(&self) -> &str {
        self.dimension().split_once('/').map_or("", |(_, suffix)| suffix)
    }

    /// The load balancer's name.
    pub fn name(&self) -> &str {
        self.suffix().split_once('/').map_or("", |(name, _)| name)
    }

    /// How CloudWatch names it: `net/<name>/<16 hex>`.
    pub fn dimension(&self) -> &str {
        self.0.split_once("loadbalancer/").map_or("", |(_, resource)| resource)
    }

    /// Its type.
    pub fn kind(&self) -> LoadBalancerKind {
        let application = self.dimension().starts_with("app/");
        if application { LoadBalancerKind::Application } else { LoadBalancerKind::Network }
    }

    /// A new ARN for the load balancer `name`.
    pub fn generate(
        kind: LoadBalancerKind,
        region: &Region,
        account: &AccountId,
        name: &ResourceName,
        ids: &mut dyn IdSource,
    ) -> Self {
        let kind = match kind {
            LoadBalancerKind::Network => "net",
            LoadBalancerKind::Application => "app",
        };
        Self(
            format!("arn:aws:elasticloadbalancing:{region}:{account}:loadbalancer/{kind}/{name}/{}", ids.hex(16))
                .into(),
        )
    }
}

impl ListenerId {
    /// A new ARN for a listener of `load_balancer`.
    pub fn generate(
        region: &Region,
        account: &AccountId,
        load_balancer: &LoadBalancerId,
        ids: &mut dyn IdSource,
    ) -> Self {
        let suffix = load_balancer.suffix();
        Self(format!("arn:aws:elasticloadbalancing:{region}:{account}:listener/net/{suffix}/{}", ids.hex(16)).into())
    }
}

impl ApplicationListenerId {
    /// A new ARN for a listener of `load_balancer`.
    pub fn generate(load_balancer: &LoadBalancerId, ids: &mut dyn IdSource) -> Self {
        Self(format!("{}/{}", load_balancer.0.replacen(":loadbalancer/", ":listener/", 1), ids.hex(16)).into())
    }
}

impl ListenerRuleId {
    /// A new ARN for a rule of `listener`.
    pub fn generate(listener: &ApplicationListenerId, ids: &mut dyn IdSource) -> Self {
        Self(format!("{}/{}", listener.0.replacen(":listener/", ":listener-rule/", 1), ids.hex(16)).into())
    }
}

impl TargetGroupId {
    /// How CloudWatch names it: `targetgroup/<name>/<16 hex>`.
    pub fn dimension(&self) -> String {
        self.0.rsplit(':').next().unwrap_or_default().to_owned()
    }

    /// A new ARN for the target group `name`.
    pub fn generate(region: &Region, account: &AccountId, name: &ResourceName, ids: &mut dyn IdSource) -> Self {
        Self(format!("arn:aws:elasticloadbalancing:{region}:{account}:targetgroup/{name}/{}", ids.hex(16)).into())
    }
}

/// The region that identifiers and service names carry, such as `us-east-1`. Resources of two regions do not see each
/// other, but for services that support endpoints in the other. At most 30 characters, so that the first label of an
/// endpoint's zonal name keeps to its 63 (RFC 1035 section 2.3.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(Arc<str>);

impl FromStr for Region {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let edges = text.starts_with('-') || text.ends_with('-');
        if (1..=30).contains(&text.len()) && text.bytes().all(letters) && !edges {
            Ok(Self(text.into()))
        } else {
            Err(InvalidValue::new(
                "region",
                text,
                "must be 1 to 30 lower-case letters, digits and inner hyphens",
                "use a name like us-east-1",
            ))
        }
    }
}

text_value!(Region);

/// The twelve digits of an account: whose a resource is, and what ARNs carry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Arc<str>);

impl FromStr for AccountId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidValue::new("account", text, "must be 12 digits", "use an account id like 123456789012"))
        }
    }
}

text_value!(AccountId);
