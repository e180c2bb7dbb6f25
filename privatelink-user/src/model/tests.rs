use super::*;

fn refused<T: std::str::FromStr<Err = InvalidValue>>(text: &str) -> InvalidValue {
    match text.parse::<T>() {
        Ok(_) => panic!("'{text}' was accepted"),
        Err(error) => error,
    }
}

#[test]
fn every_refusal_names_the_value_the_rule_and_the_way_out() {
    let cases: &[(InvalidValue, &str)] = &[
        (refused::<VpcCidr>("10.0.0.1/16"), "VPC CIDR '10.0.0.1/16' has host bits set; use 10.0.0.0/16"),
        (
            refused::<VpcCidr>("10.0.0.0/31"),
            "VPC CIDR '10.0.0.0/31' must have a prefix length between 8 and 30; use a range like 10.0.0.0/16",
        ),
        (
            refused::<VpcCidr>("ten"),
            "VPC CIDR 'ten' must be an IPv4 network address, a slash and a prefix length; use a range like 10.0.0.0/16",
        ),
        (
            refused::<InterfaceName>("a234567890123456"),
            "interface name 'a234567890123456' cannot be longer than '15' bytes, the kernel's limit; \
             `ip link` lists this host's interfaces",
        ),
        (
            refused::<ResourceName>("a2345678901234567890123456789012x"),
            "name 'a2345678901234567890123456789012x' cannot be longer than '32' characters; \
             use 1 to 32 letters, digits and inner hyphens, like web-1",
        ),
        (
            refused::<Hook>("nic"),
            "hook 'nic' must be one of '[auto, tc, xdp]'; \
             use auto: the agent picks by what the interface can do and says why",
        ),
        (
            refused::<Protocol>("HTTP"),
            "Protocol 'HTTP' must be one of '[UDP, TCP, TLS, TCP_UDP]'; use TCP_UDP for both protocols on one port",
        ),
        (
            refused::<Matcher>("200-199"),
            "Matcher '200-199' must be HTTP codes or ranges of them between '200-599' inclusive, separated by \
             commas; use codes like 200, 200,202 or 200-299",
        ),
        (
            refused::<HealthCheckPort>("0"),
            "Health check port '0' must be 'traffic-port' or a number between '1-65535' inclusive; \
             use traffic-port to check each target on the port that it serves",
        ),
        (refused::<HttpPath>("x"), "Health check path 'x' must begin with '/'; use a path like /health"),
    ];
    for (error, expected) in cases {
        assert_eq!(format!("{error}; {}", error.hint), *expected);
    }
}

#[test]
fn hostile_names_are_refused() {
    for text in ["", "-a", "a-", "a--b", "a b", "vpc-a", "vpce-a", "internal-a", "ä", "a/b", "a\n"] {
        refused::<ResourceName>(text);
    }
    for text in ["", ".", "..", "a/b", "a b", "a:b", "a\tb", "a\0"] {
        refused::<InterfaceName>(text);
    }
    for text in ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/8", "240.0.0.0/8", "::/64", "10.0.0.0"] {
        refused::<VpcCidr>(text);
    }
    for text in ["", "199", "600", "200-", "-299", "200,,201", "200-299-399"] {
        refused::<Matcher>(text);
    }
}

#[test]
fn identifiers_have_their_documented_forms() {
    let good = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/web/0123456789abcdef";
    assert_eq!(good.parse::<LoadBalancerId>().expect("a load balancer's ARN").as_str(), good);
    refused::<LoadBalancerId>(
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/gwy/web/0123456789abcdef",
    );
    for (kind, segment) in [(LoadBalancerKind::Network, "net"), (LoadBalancerKind::Application, "app")] {
        let id: LoadBalancerId = good.replace("/net/", &format!("/{segment}/")).parse().expect("an ARN");
        assert_eq!((id.kind(), id.dimension()), (kind, format!("{segment}/web/0123456789abcdef").as_str()));
    }
    refused::<LoadBalancerId>(
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/net/web/0123456789ABCDEF",
    );
    refused::<ListenerId>(good);
    refused::<TargetGroupId>(good);
    refused::<EndpointId>("vpce-svc-0123456789abcdef0");
    refused::<EndpointServiceId>("vpce-0123456789abcdef0");
    "com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0".parse::<ServiceName>().expect("a service name");
    refused::<ServiceName>("com.amazonaws.us-east-1.s3");
}

#[test]
fn attributes_have_their_documented_defaults_and_ranges() {
    assert_eq!(
        TargetGroupAttributes::default().entries_of(TargetType::Ip, Protocol::Tcp.into()),
        [
            ("deregistration_delay.timeout_seconds", "300".to_owned()),
            ("deregistration_delay.connection_termination.enabled", "false".to_owned()),
            ("stickiness.enabled", "false".to_owned()),
            ("stickiness.type", "source_ip".to_owned()),
            ("target_health_state.unhealthy.connection_termination.enabled", "true".to_owned()),
            ("proxy_protocol_v2.enabled", "false".to_owned()),
            ("preserve_client_ip.enabled", "false".to_owned()),
            ("target_health_state.unhealthy.draining_interval_seconds", "0".to_owned()),
            ("target_group_health.dns_failover.minimum_healthy_targets.count", "1".to_owned()),
            ("target_group_health.dns_failover.minimum_healthy_targets.percentage", "off".to_owned()),
            ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1".to_owned()),
            ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", "off".to_owned()),
            ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration".to_owned()),
            ("privatelink.target_certificates.trust", "off".to_owned()),
            ("privatelink.target_certificates.name", "sni".to_owned()),
        ]
    );
    assert_eq!(
        ListenerAttributes::default().entries(),
        [("tcp.idle_timeout.seconds", "350".to_owned()), ("udp.idle_timeout.seconds", "120".to_owned())]
    );
    let mut attributes = TargetGroupAttributes::default();
    attributes.set("deregistration_delay.timeout_seconds", "3600").expect("the greatest value");
    let error = attributes.set("deregistration_delay.timeout_seconds", "3601").expect_err("too great");
    assert_eq!(
        error.to_string(),
        "'deregistration_delay.timeout_seconds' value '3601' must be between '0-3600' inclusive"
    );
    assert_eq!(attributes.deregistration_delay, 3600);
    let error = attributes.set("stickiness", "true").expect_err("no such key");
    assert_eq!(error.to_string(), "Target group attribute key 'stickiness' is not recognized");
}

/// A store of before has load balancers without it.
#[test]
fn a_load_balancer_without_a_routing_policy_has_the_default_one() {
    let mut old = serde_json::to_value(LoadBalancerAttributes::default()).expect("JSON");
    assert!(old.as_object_mut().expect("fields").remove("client_routing").is_some());
    let read: LoadBalancerAttributes = serde_json::from_value(old).expect("attributes");
    assert_eq!(read, LoadBalancerAttributes::default());
    assert_eq!(read.client_routing, ClientRouting::AnyAvailabilityZone);
}

#[test]
fn attributes_that_depend_on_each_other_are_refused_together() {
    let set = |pairs: &[(&str, &str)]| {
        let mut attributes = TargetGroupAttributes::default();
        for (key, value) in pairs {
            attributes.set(key, value).expect("a value of its own range");
        }
        attributes.validate().map_err(|error| error.to_string())
    };
    let interval = ("target_health_state.unhealthy.draining_interval_seconds", "60");
    let kept = ("target_health_state.unhealthy.connection_termination.enabled", "false");
    assert_eq!(
        set(&[interval]).expect_err("flows are reset at once"),
        "'target_health_state.unhealthy.draining_interval_seconds' value '60' can be set only while \
         'target_health_state.unhealthy.connection_termination.enabled' is 'false'"
    );
    set(&[interval, kept]).expect("flows are kept");
    let routing = ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "3");
    let dns = ("target_group_health.dns_failover.minimum_healthy_targets.count", "3");
    assert_eq!(
        set(&[routing]).expect_err("more than DNS asks for"),
        "'target_group_health.dns_failover.minimum_healthy_targets.count' value '1' must be greater than or equal to \
         'target_group_health.unhealthy_state_routing.minimum_healthy_targets.count' value '3'"
    );
    set(&[routing, dns]).expect("both");
    set(&[routing, ("target_group_health.dns_failover.minimum_healthy_targets.count", "off")]).expect("no DNS");
}

#[test]
fn too_few_by_either_measure_are_too_few() {
    let count = HealthThreshold { count: Some(2), percentage: None };
    assert!(count.missed(1, 10) && !count.missed(2, 10));
    let percentage = HealthThreshold { count: None, percentage: Some(50) };
    assert!(percentage.missed(4, 9) && !percentage.missed(5, 10) && !percentage.missed(0, 0));
    let either = HealthThreshold { count: Some(1), percentage: Some(34) };
    assert!(either.missed(0, 1) && either.missed(1, 3) && !either.missed(2, 3));
}

#[test]
fn health_check_defaults_depend_on_the_protocol() {
    assert_eq!(HealthCheck::defaults(HealthCheckProtocol::Https).timeout, 10);
    let tcp = HealthCheck::defaults(HealthCheckProtocol::Tcp);
    let http = HealthCheck::defaults(HealthCheckProtocol::Http);
    assert_eq!((tcp.interval, tcp.timeout, tcp.healthy_threshold, tcp.unhealthy_threshold), (30, 10, 5, 2));
    assert_eq!(http.timeout, 6);
    assert!(http.matcher.matches(200) && http.matcher.matches(399) && !http.matcher.matches(400));
    let error = HealthCheck { interval: 5, timeout: 6, ..http }.validate().expect_err("longer than the interval");
    assert_eq!(error.to_string(), "Health check timeout '6' must be smaller than or equal to the interval '5'");
}

#[test]
fn assignable_addresses_leave_out_the_first_four_and_the_last() {
    let cidr: VpcCidr = "10.0.0.0/29".parse().expect("a CIDR");
    let addresses: Vec<String> = cidr.assignable().map(|address| address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    assert!(cidr.has_host([10, 0, 0, 1].into()) && !cidr.has_host([10, 0, 0, 7].into()));
}
