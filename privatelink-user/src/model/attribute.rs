//! The one table of attributes for each resource that has them: key, rule and meaning. Defaults are the resource's
//! `Default`.

use super::{
    ClientRouting, CrossZone, GroupProtocol, HealthThreshold, InvalidValue, IpFamily, ListenerAttributes,
    LoadBalancerAttributes, LoadBalancerKind, Protocol, RequestForward, RequestRouting, Scheme, TargetGroupAttributes,
    TargetName, TargetTrust, TargetType,
};

/// One attribute of the resource attributes `T`.
pub struct Attribute<T: 'static> {
    /// The key under which it is set, such as `deregistration_delay.timeout_seconds`.
    pub key: &'static str,
    /// The rest of the sentence "value '…' …".
    pub rule: &'static str,
    /// What it does, with units.
    pub help: &'static str,
    get: fn(&T) -> String,
    set: fn(&mut T, &str) -> Option<()>,
}

/// Attributes that are set by key.
pub trait AttributeMap: Default + 'static {
    /// Whose attributes they are, for messages: "Target group".
    const OWNER: &'static str;
    /// Every attribute.
    const TABLE: &'static [Attribute<Self>];

    /// Sets the attribute `key` to `value`.
    fn set(&mut self, key: &str, value: &str) -> Result<(), InvalidValue> {
        let Some(attribute) = Self::TABLE.iter().find(|attribute| attribute.key == key) else {
            let keys: Vec<&str> = Self::TABLE.iter().map(|attribute| attribute.key).collect();
            return Err(InvalidValue::new(
                format!("{} attribute key", Self::OWNER),
                key,
                "is not recognized",
                format!("the keys are {}", keys.join(", ")),
            ));
        };
        (attribute.set)(self, value).ok_or_else(|| {
            InvalidValue::new(
                format!("'{key}' value"),
                value,
                attribute.rule,
                format!("the default is {}", (attribute.get)(&Self::default())),
            )
        })
    }

    /// Every key with its value.
    fn entries(&self) -> Vec<(&'static str, String)> {
        Self::TABLE.iter().map(|attribute| (attribute.key, (attribute.get)(self))).collect()
    }

    /// The table as text for `--help`: a line for each attribute.
    fn help() -> String {
        let line = |attribute: &Attribute<Self>| {
            format!(
                "{}: {}; {} (default {})",
                attribute.key,
                attribute.help,
                attribute.rule,
                (attribute.get)(&Self::default())
            )
        };
        Self::TABLE.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    text.parse().ok().filter(|value| (least..=most).contains(value))
}

fn boolean(text: &str) -> Option<bool> {
    text.parse().ok()
}

/// `off`, or a number.
fn switched(text: &str, least: u32, most: u32) -> Option<Option<u32>> {
    if text == "off" { Some(None) } else { number(text, least, most).map(Some) }
}

fn shown(number: Option<u32>) -> String {
    number.map_or_else(|| "off".to_owned(), |number| number.to_string())
}

/// Every target that there can be.
const MOST_TARGETS: u32 = 1_000_000;

impl TargetGroupAttributes {
    /// What a new group of these targets and of `protocol` has.
    pub fn defaults(target_type: TargetType, protocol: GroupProtocol, family: IpFamily) -> Self {
        let preserve_client_ip = match target_type {
            // IPv6 targets always see the node address.
            TargetType::Ip => protocol.has_udp() && family == IpFamily::Ipv4,
            TargetType::Instance | TargetType::Alb => true,
        };
        let defaults = Self { preserve_client_ip, ..Self::default() };
        // There is no reset that could tell a client of UDP, so flows go with their target's draining and not before.
        match protocol {
            GroupProtocol::Application(_) => Self { preserve_client_ip: false, ..defaults },
            GroupProtocol::Transport(Protocol::Tcp | Protocol::Tls) => defaults,
            GroupProtocol::Transport(Protocol::Udp | Protocol::TcpUdp) => Self {
                deregistration_connection_termination: true,
                unhealthy_connection_termination: false,
                ..defaults
            },
        }
    }
}

impl Default for TargetGroupAttributes {
    fn default() -> Self {
        Self {
            deregistration_delay: 300,
            deregistration_connection_termination: false,
            stickiness: false,
            unhealthy_connection_termination: true,
            proxy_protocol_v2: false,
            preserve_client_ip: false,
            unhealthy_draining_interval: 0,
            dns_failover: HealthThreshold::ONE,
            unhealthy_state_routing: HealthThreshold::ONE,
            cross_zone: CrossZone::UseLoadBalancerConfiguration,
            target_trust: TargetTrust::Off,
            target_name: TargetName::Client,
            request_routing: RequestRouting::default(),
            slow_start: 0,
            cookie_duration: 86_400,
        }
    }
}

impl TargetGroupAttributes {
    /// Whether a group of these targets and of `protocol` has the attribute.
    pub fn applies(key: &str, target_type: TargetType, protocol: GroupProtocol) -> bool {
        let of_requests = matches!(
            key,
            "load_balancing.algorithm.type" | "slow_start.duration_seconds" | "stickiness.lb_cookie.duration_seconds"
        );
        // Of what is not a Network Load Balancer's alone.
        let of_both = key.starts_with("target_group_health.")
            || matches!(
                key,
                "deregistration_delay.timeout_seconds"
                    | "stickiness.enabled"
                    | "stickiness.type"
                    | "load_balancing.cross_zone.enabled"
            );
        match (target_type, protocol) {
            (TargetType::Alb, _) => {
                matches!(key, "deregistration_delay.timeout_seconds" | "preserve_client_ip.enabled")
            }
            (TargetType::Ip | TargetType::Instance, GroupProtocol::Application(_)) => of_requests || of_both,
            (TargetType::Ip | TargetType::Instance, GroupProtocol::Transport(_)) => !of_requests,
        }
    }

    /// The keys that such a group has, with their values.
    pub fn entries_of(&self, target_type: TargetType, protocol: GroupProtocol) -> Vec<(&'static str, String)> {
        let own = self.entries().into_iter().filter(|(key, _)| Self::applies(key, target_type, protocol));
        let kind = |key, value| match (key, protocol) {
            ("stickiness.type", GroupProtocol::Application(_)) => "lb_cookie".to_owned(),
            (_, GroupProtocol::Application(_) | GroupProtocol::Transport(_)) => value,
        };
        own.map(|(key, value)| (key, kind(key, value))).collect()
    }

    /// Checks what one attribute asks of another.
    pub fn validate(self) -> Result<Self, InvalidValue> {
        if self.unhealthy_connection_termination && self.unhealthy_draining_interval > 0 {
            return Err(InvalidValue::new(
                "'target_health_state.unhealthy.draining_interval_seconds' value",
                self.unhealthy_draining_interval.to_string(),
                "can be set only while 'target_health_state.unhealthy.connection_termination.enabled' is 'false'",
                "set target_health_state.unhealthy.connection_termination.enabled=false with it",
            ));
        }
        let (dns, routing) = (self.dns_failover, self.unhealthy_state_routing);
        for (measure, dns, routing) in
            [("count", dns.count, routing.count), ("percentage", dns.percentage, routing.percentage)]
        {
            if let (Some(dns), Some(routing)) = (dns, routing)
                && dns < routing
            {
                let key = |of: &str| format!("target_group_health.{of}.minimum_healthy_targets.{measure}");
                return Err(InvalidValue::new(
                    format!("'{}' value", key("dns_failover")),
                    dns.to_string(),
                    format!("must be greater than or equal to '{}' value '{routing}'", key("unhealthy_state_routing")),
                    format!("set {}={routing} with it, or off", key("dns_failover")),
                ));
            }
        }
        Ok(self)
    }
}

impl AttributeMap for TargetGroupAttributes {
    const OWNER: &'static str = "Target group";
    const TABLE: &'static [Attribute<Self>] = &[
        Attribute {
            key: "deregistration_delay.timeout_seconds",
            rule: "must be between '0-3600' inclusive",
            help: "seconds for which a deregistered target keeps its flows and gets no new ones",
            get: |attributes| attributes.deregistration_delay.to_string(),
            set: |attributes, text| {
                attributes.deregistration_delay = number(text, 0, 3600)?;
                Some(())
            },
        },
        Attribute {
            key: "deregistration_delay.connection_termination.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether flows that are left when the delay ends are reset",
            get: |attributes| attributes.deregistration_connection_termination.to_string(),
            set: |attributes, text| {
                attributes.deregistration_connection_termination = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "stickiness.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether all connections of a client address go to one target",
            get: |attributes| attributes.stickiness.to_string(),
            set: |attributes, text| {
                attributes.stickiness = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "stickiness.type",
            rule: "must be one of '[source_ip]'",
            help: "what stickiness goes by",
            get: |_| "source_ip".to_owned(),
            set: |_, text| (text == "source_ip").then_some(()),
        },
        Attribute {
            key: "stickiness.lb_cookie.duration_seconds",
            rule: "must be between '1-604800' inclusive",
            help: "of a group for HTTP: seconds for which a cookie keeps a client at its target; kept, nothing serves such groups",
            get: |attributes| attributes.cookie_duration.to_string(),
            set: |attributes, text| {
                attributes.cookie_duration = number(text, 1, RequestForward::MAX_STICKINESS)?;
                Some(())
            },
        },
        Attribute {
            key: "slow_start.duration_seconds",
            rule: "must be '0' or between '30-900' inclusive",
            help: "of a group for HTTP: seconds in which a new target's share grows; kept, nothing serves such groups",
            get: |attributes| attributes.slow_start.to_string(),
            set: |attributes, text| {
                attributes.slow_start = number(text, 30, 900).or_else(|| number(text, 0, 0))?;
                Some(())
            },
        },
        Attribute {
            key: "load_balancing.algorithm.type",
            rule: "must be one of '[round_robin, least_outstanding_requests, weighted_random]'",
            help: "of a group for HTTP: how requests are spread; kept, nothing serves such groups",
            get: |attributes| attributes.request_routing.to_string(),
            set: |attributes, text| {
                let found = RequestRouting::ALL.into_iter().find(|value| value.to_string() == text);
                attributes.request_routing = found?;
                Some(())
            },
        },
        Attribute {
            key: "target_health_state.unhealthy.connection_termination.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether the flows of a target that becomes unhealthy are reset at once",
            get: |attributes| attributes.unhealthy_connection_termination.to_string(),
            set: |attributes, text| {
                attributes.unhealthy_connection_termination = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "proxy_protocol_v2.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether new connections, and health checks, begin with a PROXY protocol version 2 header",
            get: |attributes| attributes.proxy_protocol_v2.to_string(),
            set: |attributes, text| {
                attributes.proxy_protocol_v2 = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "preserve_client_ip.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether targets see the client's own address if it comes to the load balancer itself; never through an endpoint",
            get: |attributes| attributes.preserve_client_ip.to_string(),
            set: |attributes, text| {
                attributes.preserve_client_ip = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "target_health_state.unhealthy.draining_interval_seconds",
            rule: "must be between '0-360000' inclusive",
            help: "seconds for which an unhealthy target whose flows are not reset is shown as unhealthy.draining",
            get: |attributes| attributes.unhealthy_draining_interval.to_string(),
            set: |attributes, text| {
                attributes.unhealthy_draining_interval = number(text, 0, 360_000)?;
                Some(())
            },
        },
        Attribute {
            key: "target_group_health.dns_failover.minimum_healthy_targets.count",
            rule: "must be 'off' or at least '1'",
            help: "with fewer healthy targets than this the group leaves DNS; kept, there are no names to leave yet",
            get: |attributes| shown(attributes.dns_failover.count),
            set: |attributes, text| {
                attributes.dns_failover.count = switched(text, 1, MOST_TARGETS)?;
                Some(())
            },
        },
        Attribute {
            key: "target_group_health.dns_failover.minimum_healthy_targets.percentage",
            rule: "must be 'off' or between '1-100' inclusive",
            help: "with a smaller percentage of healthy targets than this the group leaves DNS; kept, there are no names to leave yet",
            get: |attributes| shown(attributes.dns_failover.percentage),
            set: |attributes, text| {
                attributes.dns_failover.percentage = switched(text, 1, 100)?;
                Some(())
            },
        },
        Attribute {
            key: "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
            rule: "must be at least '1'",
            help: "with fewer healthy targets than this the group sends new flows to all its targets, healthy or not",
            get: |attributes| shown(attributes.unhealthy_state_routing.count),
            set: |attributes, text| {
                attributes.unhealthy_state_routing.count = Some(number(text, 1, MOST_TARGETS)?);
                Some(())
            },
        },
        Attribute {
            key: "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
            rule: "must be 'off' or between '1-100' inclusive",
            help: "with a smaller percentage of healthy targets than this the group sends new flows to all its targets, healthy or not",
            get: |attributes| shown(attributes.unhealthy_state_routing.percentage),
            set: |attributes, text| {
                attributes.unhealthy_state_routing.percentage = switched(text, 1, 100)?;
                Some(())
            },
        },
        Attribute {
            key: "load_balancing.cross_zone.enabled",
            rule: "must be one of '[true, false, use_load_balancer_configuration]'",
            help: "whether targets of other zones are used; one agent is one zone, with all targets in it",
            get: |attributes| attributes.cross_zone.to_string(),
            set: |attributes, text| {
                let all = [CrossZone::UseLoadBalancerConfiguration, CrossZone::Enabled, CrossZone::Disabled];
                attributes.cross_zone = all.into_iter().find(|value| value.to_string() == text)?;
                Some(())
            },
        },
        Attribute {
            key: "privatelink.target_certificates.trust",
            rule: "must be 'off', 'system' or the ARN of a certificate",
            help: "whose certificates targets of a TLS group may show: anybody's (off), the host's authorities' (system), or those of \
                   the authorities in this certificate's chain (its own if it has none); for connections and HTTPS checks",
            get: |attributes| attributes.target_trust.to_string(),
            set: |attributes, text| {
                attributes.target_trust = text.parse().ok()?;
                Some(())
            },
        },
        Attribute {
            key: "privatelink.target_certificates.name",
            rule: "must be 'sni' or a DNS name with a dot",
            help: "for which name they have to be: the one that the client asks for (sni; checks then take any), or this one",
            get: |attributes| attributes.target_name.to_string(),
            set: |attributes, text| {
                attributes.target_name = text.parse().ok()?;
                Some(())
            },
        },
    ];
}

impl Default for ListenerAttributes {
    fn default() -> Self {
        Self { idle_timeout: 350, udp_idle_timeout: 120 }
    }
}

impl AttributeMap for ListenerAttributes {
    const OWNER: &'static str = "Listener";
    const TABLE: &'static [Attribute<Self>] = &[
        Attribute {
            key: "tcp.idle_timeout.seconds",
            rule: "must be between '60-6000' inclusive, or '0'",
            help: "seconds without a packet after which a TCP flow is forgotten and answered with RST; 0: never",
            get: |attributes| attributes.idle_timeout.to_string(),
            set: |attributes, text| {
                attributes.idle_timeout = number(text, 60, 6000).or_else(|| number(text, 0, 0))?;
                Some(())
            },
        },
        Attribute {
            key: "udp.idle_timeout.seconds",
            rule: "must be between '30-6000' inclusive",
            help: "seconds without a datagram after which a UDP flow is forgotten; the client's next one opens another",
            get: |attributes| attributes.udp_idle_timeout.to_string(),
            set: |attributes, text| {
                attributes.udp_idle_timeout = number(text, 30, 6000)?;
                Some(())
            },
        },
    ];
}

impl LoadBalancerAttributes {
    /// What a new load balancer of this type has.
    pub fn defaults(kind: LoadBalancerKind, scheme: Scheme) -> Self {
        Self {
            cross_zone: kind == LoadBalancerKind::Application,
            deny_all_igw_traffic: scheme == Scheme::Internal,
            ..Self::default()
        }
    }

    /// Whether load balancers of this type have the attribute.
    pub fn applies(key: &str, kind: LoadBalancerKind) -> bool {
        let of_requests = key.starts_with("idle_timeout.") || key.starts_with("routing.http");
        match kind {
            LoadBalancerKind::Network => !of_requests,
            LoadBalancerKind::Application => !key.starts_with("secondary_ips.") && !key.starts_with("dns_record."),
        }
    }

    /// The keys that such a load balancer has, with their values.
    pub fn entries_of(&self, kind: LoadBalancerKind) -> Vec<(&'static str, String)> {
        self.entries().into_iter().filter(|(key, _)| Self::applies(key, kind)).collect()
    }
}

impl AttributeMap for LoadBalancerAttributes {
    const OWNER: &'static str = "Load balancer";
    const TABLE: &'static [Attribute<Self>] = &[
        Attribute {
            key: "deletion_protection.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether the load balancer cannot be deleted",
            get: |attributes| attributes.deletion_protection.to_string(),
            set: |attributes, text| {
                attributes.deletion_protection = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "load_balancing.cross_zone.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether targets of other zones are used; one agent is one zone, with all targets in it",
            get: |attributes| attributes.cross_zone.to_string(),
            set: |attributes, text| {
                attributes.cross_zone = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "secondary_ips.auto_assigned.per_subnet",
            rule: "must be between '0-7' inclusive",
            help: "further node addresses in each subnet, each with 64,512 source ports towards every target; never fewer than before",
            get: |attributes| attributes.secondary_ips.to_string(),
            set: |attributes, text| {
                attributes.secondary_ips = number(text, 0, 7)?;
                Some(())
            },
        },
        Attribute {
            key: "dns_record.client_routing_policy",
            rule: "must be one of '[any_availability_zone, availability_zone_affinity, partial_availability_zone_affinity]'",
            help: "which zones the name has for hosts of a VPC: all healthy ones, that of who asks while it is healthy, or that \
                   one in 85 of 100 answers",
            get: |attributes| attributes.client_routing.to_string(),
            set: |attributes, text| {
                attributes.client_routing = ClientRouting::ALL.into_iter().find(|value| value.to_string() == text)?;
                Some(())
            },
        },
        Attribute {
            key: "ipv6.deny_all_igw_traffic",
            rule: "must be one of '[true, false]'",
            help: "whether nothing may come by an internet gateway; kept, there is none here (false if internet-facing)",
            get: |attributes| attributes.deny_all_igw_traffic.to_string(),
            set: |attributes, text| {
                attributes.deny_all_igw_traffic = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "zonal_shift.config.enabled",
            rule: "must be one of '[true, false]'",
            help: "whether traffic may be shifted away from a zone; kept, nothing shifts it here",
            get: |attributes| attributes.zonal_shift.to_string(),
            set: |attributes, text| {
                attributes.zonal_shift = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "access_logs.s3.enabled",
            rule: "must be 'false': nothing is written to buckets here, the agent's access log is a file",
            help: "whether access logs go to a bucket; `agent --access-log` writes them to a file instead",
            get: |_| false.to_string(),
            set: |_, text| (text == "false").then_some(()),
        },
        Attribute {
            key: "access_logs.s3.bucket",
            rule: "must be text",
            help: "the bucket; kept, nothing is written to it",
            get: |attributes| attributes.access_log_bucket.clone(),
            set: |attributes, text| {
                attributes.access_log_bucket = text.to_owned();
                Some(())
            },
        },
        Attribute {
            key: "access_logs.s3.prefix",
            rule: "must be text",
            help: "where in the bucket; kept, nothing is written to it",
            get: |attributes| attributes.access_log_prefix.clone(),
            set: |attributes, text| {
                attributes.access_log_prefix = text.to_owned();
                Some(())
            },
        },
        Attribute {
            key: "idle_timeout.timeout_seconds",
            rule: "must be between '1-4000' inclusive",
            help: "of type application: seconds without data after which a connection ends; kept, nothing serves this type",
            get: |attributes| attributes.request_idle_timeout.to_string(),
            set: |attributes, text| {
                attributes.request_idle_timeout = number(text, 1, 4_000)?;
                Some(())
            },
        },
        Attribute {
            key: "routing.http2.enabled",
            rule: "must be one of '[true, false]'",
            help: "of type application: whether clients may speak HTTP/2; kept, nothing serves this type",
            get: |attributes| attributes.http2.to_string(),
            set: |attributes, text| {
                attributes.http2 = boolean(text)?;
                Some(())
            },
        },
        Attribute {
            key: "routing.http.drop_invalid_header_fields.enabled",
            rule: "must be one of '[true, false]'",
            help: "of type application: whether header fields with invalid names are left out; kept, nothing serves this type",
            get: |attributes| attributes.drop_invalid_headers.to_string(),
            set: |attributes, text| {
                attributes.drop_invalid_headers = boolean(text)?;
                Some(())
            },
        },
    ];
}
