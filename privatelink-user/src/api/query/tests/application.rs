//! Load balancers of type application, their listeners and rules, and the target groups before and behind them:
//! records.

use super::*;

/// A load balancer of type application with a listener, a rule and a group that they lead to.
pub struct Made {
    pub lb: String,
    pub listener: String,
    pub rule: String,
    pub group: String,
}

pub fn made(rig: &Rig, account: &str) -> Made {
    let subnets = rig.ec2(account, "Action=DescribeSubnets");
    let (vpc, subnets) = (text(&subnets, "vpcId"), texts(&subnets, "subnetId"));
    let lb = format!(
        "Action=CreateLoadBalancer&Name=app&Scheme=internal&Subnets.member.1={}&Subnets.member.2={}",
        subnets[0], subnets[1]
    );
    let lb = text(&rig.elb(account, &lb), "LoadBalancerArn");
    let group = format!("Action=CreateTargetGroup&Name=pages&Protocol=HTTP&Port=80&TargetType=ip&VpcId={vpc}");
    let group = text(&rig.elb(account, &group), "TargetGroupArn");
    let listener = format!(
        "Action=CreateListener&LoadBalancerArn={lb}&Protocol=HTTP&Port=80&DefaultActions.member.1.Type=fixed-response&\
         DefaultActions.member.1.FixedResponseConfig.StatusCode=200&\
         DefaultActions.member.1.FixedResponseConfig.ContentType=text/plain&\
         DefaultActions.member.1.FixedResponseConfig.MessageBody=Hello"
    );
    let listener = text(&rig.elb(account, &listener), "ListenerArn");
    let rule = text(&rig.elb(account, &rule(&listener, 10, &forward(&group))), "RuleArn");
    Made { lb, listener, rule, group }
}

fn forward(group: &str) -> String {
    format!("Actions.member.1.Type=forward&Actions.member.1.TargetGroupArn={group}")
}

fn rule(listener: &str, priority: u16, more: &str) -> String {
    format!(
        "Action=CreateRule&ListenerArn={listener}&Priority={priority}&Conditions.member.1.Field=path-pattern&\
         Conditions.member.1.Values.member.1=/img/*&{more}"
    )
}

fn refused(rig: &Rig, form: &str) -> (String, String) {
    let (_, code, message) = rig.refused(A, Service::LoadBalancing, form);
    (code, message)
}

#[test]
fn listeners_of_type_application_are_records_with_their_own_protocols_and_actions() {
    let rig = Rig::new();
    let Made { lb, listener, group, .. } = made(&rig, A);
    assert!(listener.contains(":listener/app/app/"), "{listener}");
    let shown = rig.elb(A, &format!("Action=DescribeListeners&LoadBalancerArn={lb}"));
    assert_eq!((text(&shown, "Protocol"), text(&shown, "Port")), ("HTTP".to_owned(), "80".to_owned()));
    assert_eq!((text(&shown, "StatusCode"), text(&shown, "MessageBody")), ("200".to_owned(), "Hello".to_owned()));

    let create = |port: u16, protocol: &str, more: &str| {
        format!(
            "Action=CreateListener&LoadBalancerArn={lb}&Port={port}&Protocol={protocol}&DefaultActions.member.1.{more}"
        )
    };
    let https = create(443, "HTTPS", "Type=fixed-response&DefaultActions.member.1.FixedResponseConfig.StatusCode=404");
    let missing = "A certificate must be specified for HTTPS listeners";
    assert_eq!(refused(&rig, &https), ("ValidationError".to_owned(), missing.to_owned()));
    let arn = "arn:aws:acm:us-east-1:111111111111:certificate/00000000-0000-0000-0000-000000000000";
    let unknown = format!("{https}&Certificates.member.1.CertificateArn={arn}");
    assert_eq!(refused(&rig, &unknown).0, "CertificateNotFound");
    for (more, code) in [
        ("Type=redirect&DefaultActions.member.1.RedirectConfig.StatusCode=HTTP_301", "InvalidLoadBalancerAction"),
        ("Type=redirect&DefaultActions.member.1.RedirectConfig.StatusCode=HTTP_303", "ValidationError"),
        ("Type=fixed-response&DefaultActions.member.1.FixedResponseConfig.StatusCode=301", "ValidationError"),
        ("Type=fixed-response", "ValidationError"),
        ("Type=authenticate-oidc", "InvalidLoadBalancerAction"),
        ("Type=weather", "InvalidLoadBalancerAction"),
        ("Type=forward", "ValidationError"),
    ] {
        assert_eq!(refused(&rig, &create(81, "HTTP", more)).0, code, "{more}");
    }
    let other = create(80, "HTTP", "Type=fixed-response&DefaultActions.member.1.FixedResponseConfig.StatusCode=500");
    assert_eq!(refused(&rig, &other).0, "DuplicateListener");
    let to = "Type=redirect&DefaultActions.member.1.RedirectConfig.StatusCode=HTTP_302&\
              DefaultActions.member.1.RedirectConfig.Protocol=HTTPS&DefaultActions.member.1.RedirectConfig.Port=443";
    let redirect = rig.elb(A, &create(81, "HTTP", to));
    assert_eq!((text(&redirect, "Path"), text(&redirect, "Host")), ("/#{path}".to_owned(), "#{host}".to_owned()));
    assert_eq!(
        text(&rig.elb(A, &create(81, "HTTP", to)), "ListenerArn"),
        text(&redirect, "ListenerArn"),
        "the same again"
    );

    let sticky = format!(
        "Action=ModifyListener&ListenerArn={listener}&Port=8080&DefaultActions.member.1.Type=forward&\
         DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn={group}&\
         DefaultActions.member.1.ForwardConfig.TargetGroupStickinessConfig.Enabled=true&\
         DefaultActions.member.1.ForwardConfig.TargetGroupStickinessConfig.DurationSeconds"
    );
    assert_eq!(refused(&rig, &format!("{sticky}=0")).0, "ValidationError");
    let changed = rig.elb(A, &format!("{sticky}=3600"));
    assert_eq!((text(&changed, "Port"), text(&changed, "DurationSeconds")), ("8080".to_owned(), "3600".to_owned()));
    let in_use = refused(&rig, &format!("Action=DeleteTargetGroup&TargetGroupArn={group}"));
    assert_eq!(in_use.0, "ResourceInUse");
    let of_lb = rig.elb(A, &format!("Action=DescribeTargetGroups&LoadBalancerArn={lb}"));
    assert_eq!(texts(&of_lb, "TargetGroupArn"), [group]);

    let state = rig.query.api.store.state();
    assert!(state.listeners.is_empty(), "nothing of it reaches the datapath");
    rig.elb(A, &format!("Action=AddTags&ResourceArns.member.1={listener}&Tags.member.1.Key=k&Tags.member.1.Value=v"));
    rig.elb(A, &format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"));
    let state = rig.query.api.store.state();
    assert!(state.application_listeners.is_empty() && state.listener_rules.is_empty() && state.tags.is_empty());
}

#[test]
fn rules_are_asked_in_the_order_of_their_priorities() {
    let rig = Rig::new();
    let Made { listener, rule: first, group, .. } = made(&rig, A);
    assert!(first.contains(":listener-rule/app/app/"), "{first}");
    let order = || {
        let body = rig.elb(A, &format!("Action=DescribeRules&ListenerArn={listener}"));
        texts(&body, "Priority")
    };
    assert_eq!(order(), ["10", "default"]);
    let create = |priority: u16, conditions: &str| {
        format!("Action=CreateRule&ListenerArn={listener}&Priority={priority}&{conditions}&{}", forward(&group))
    };
    let conditions = "Conditions.member.1.Field=host-header&\
        Conditions.member.1.HostHeaderConfig.Values.member.1=*.example.com&Conditions.member.2.Field=http-header&\
        Conditions.member.2.HttpHeaderConfig.HttpHeaderName=User-Agent&\
        Conditions.member.2.HttpHeaderConfig.Values.member.1=*Mozilla*&Conditions.member.3.Field=query-string&\
        Conditions.member.3.QueryStringConfig.Values.member.1.Key=version&\
        Conditions.member.3.QueryStringConfig.Values.member.1.Value=v1&Conditions.member.4.Field=http-request-method&\
        Conditions.member.4.HttpRequestMethodConfig.Values.member.1=GET&Conditions.member.5.Field=source-ip&\
        Conditions.member.5.SourceIpConfig.Values.member.1=10.0.0.0/8";
    let second = rig.elb(A, &create(5, conditions));
    let fields = ["host-header", "http-header", "query-string", "http-request-method", "source-ip"];
    assert_eq!(texts(&second, "Field"), fields);
    assert_eq!(text(&text(&second, "HostHeaderConfig"), "member"), "*.example.com");
    assert_eq!((text(&second, "Key"), text(&second, "Value")), ("version".to_owned(), "v1".to_owned()));
    let second = text(&second, "RuleArn");
    assert_eq!(order(), ["5", "10", "default"]);
    assert_eq!(
        refused(&rig, &create(5, conditions)),
        ("PriorityInUse".to_owned(), "Priority '5' is currently in use".to_owned())
    );
    let path = "Conditions.member.1.Field=path-pattern&Conditions.member.1.Values.member";
    let twice = format!("{path}.1=/a&Conditions.member.2.Field=path-pattern&Conditions.member.2.Values.member.1=/b");
    let many = (1..=6).map(|n| format!("&Conditions.member.1.Values.member.{n}=/{n}")).collect::<String>();
    for (conditions, code) in [
        (twice, "ValidationError"),
        (format!("Conditions.member.1.Field=path-pattern{many}"), "ValidationError"),
        ("Conditions.member.1.Field=path-pattern".to_owned(), "ValidationError"),
        ("Conditions.member.1.Field=weather&Conditions.member.1.Values.member.1=x".to_owned(), "ValidationError"),
        (
            "Conditions.member.1.Field=source-ip&Conditions.member.1.SourceIpConfig.Values.member.1=x".to_owned(),
            "ValidationError",
        ),
    ] {
        assert_eq!(refused(&rig, &create(7, &conditions)).0, code, "{conditions}");
    }
    for priority in ["0", "50001", "x"] {
        let form =
            format!("Action=CreateRule&ListenerArn={listener}&Priority={priority}&{path}.1=/a&{}", forward(&group));
        assert_eq!(refused(&rig, &form).0, "ValidationError", "{priority}");
    }

    // Two change places at once; one alone cannot take another's.
    let set = |pairs: &[(&str, u16)]| {
        let pairs = pairs.iter().enumerate().map(|(n, (arn, priority))| {
            format!("&RulePriorities.member.{0}.RuleArn={arn}&RulePriorities.member.{0}.Priority={priority}", n + 1)
        });
        format!("Action=SetRulePriorities{}", pairs.collect::<String>())
    };
    assert_eq!(refused(&rig, &set(&[(&first, 5)])).0, "PriorityInUse");
    rig.elb(A, &set(&[(&first, 5), (&second, 10)]));
    let by_arn = rig.elb(A, &format!("Action=DescribeRules&RuleArns.member.1={first}"));
    assert_eq!(texts(&by_arn, "Priority"), ["5"]);

    let twice = format!("Action=DescribeRules&RuleArns.member.1={first}&RuleArns.member.2={first}");
    assert_eq!(texts(&rig.elb(A, &twice), "Priority"), ["5"], "a rule that is named twice is one");
    let missing = first.replace(&first[first.len() - 16..], "0123456789abcdef");
    let (code, _) = refused(&rig, &twice.replacen(&format!("2={first}"), &format!("2={missing}"), 1));
    assert_eq!(code, "RuleNotFound");

    let all = rig.elb(A, &format!("Action=DescribeRules&ListenerArn={listener}&PageSize=1"));
    let next = format!("Action=DescribeRules&ListenerArn={listener}&Marker={}", text(&all, "NextMarker"));
    assert_eq!(texts(&rig.elb(A, &next), "Priority"), ["10", "default"]);
    let default = texts(&rig.elb(A, &next), "RuleArn").remove(1);
    for form in [
        format!("Action=DeleteRule&RuleArn={default}"),
        format!("Action=ModifyRule&RuleArn={default}&{}", forward(&group)),
        set(&[(&default, 1)]),
    ] {
        assert_eq!(refused(&rig, &form).0, "OperationNotPermitted", "{form}");
    }
    let changed = format!(
        "Action=ModifyRule&RuleArn={first}&Actions.member.1.Type=fixed-response&\
         Actions.member.1.FixedResponseConfig.StatusCode=503"
    );
    let changed = rig.elb(A, &changed);
    assert_eq!((text(&changed, "StatusCode"), text(&changed, "Field")), ("503".to_owned(), "path-pattern".to_owned()));
    rig.elb(A, &format!("Action=DeleteRule&RuleArn={first}"));
    assert_eq!(refused(&rig, &format!("Action=DeleteRule&RuleArn={first}")).0, "RuleNotFound");
    assert_eq!(order(), ["10", "default"]);
}

#[test]
fn groups_for_requests_have_what_application_load_balancers_have() {
    let rig = Rig::new();
    let Made { lb, listener, group, .. } = made(&rig, A);
    let shown = rig.elb(A, &format!("Action=DescribeTargetGroups&TargetGroupArns.member.1={group}"));
    for (member, value) in [
        ("Protocol", "HTTP"),
        ("ProtocolVersion", "HTTP1"),
        ("HealthCheckProtocol", "HTTP"),
        ("HealthCheckTimeoutSeconds", "5"),
        ("HttpCode", "200"),
    ] {
        assert_eq!(text(&shown, member), value, "{member}");
    }
    let attributes = |form: &str| {
        let body = rig.elb(A, form);
        texts(&body, "Key").into_iter().zip(texts(&body, "Value")).collect::<BTreeMap<_, _>>()
    };
    let of_group = attributes(&format!("Action=DescribeTargetGroupAttributes&TargetGroupArn={group}"));
    assert_eq!(of_group.get("stickiness.type").map(String::as_str), Some("lb_cookie"));
    assert_eq!(of_group.get("load_balancing.algorithm.type").map(String::as_str), Some("round_robin"));
    assert!(
        !of_group.contains_key("preserve_client_ip.enabled") && !of_group.contains_key("proxy_protocol_v2.enabled")
    );
    let of_lb = attributes(&format!("Action=DescribeLoadBalancerAttributes&LoadBalancerArn={lb}"));
    assert_eq!(of_lb.get("idle_timeout.timeout_seconds").map(String::as_str), Some("60"));
    assert_eq!(of_lb.get("load_balancing.cross_zone.enabled").map(String::as_str), Some("true"));
    assert!(!of_lb.contains_key("secondary_ips.auto_assigned.per_subnet"));
    let set = |key: &str, value: &str| {
        format!(
            "Action=ModifyTargetGroupAttributes&TargetGroupArn={group}&Attributes.member.1.Key={key}&\
             Attributes.member.1.Value={value}"
        )
    };
    rig.elb(A, &set("slow_start.duration_seconds", "30"));
    assert_eq!(refused(&rig, &set("proxy_protocol_v2.enabled", "true")).0, "ValidationError");
    assert_eq!(refused(&rig, &set("stickiness.type", "source_ip")).0, "ValidationError");

    // Neither kind of listener leads to the other kind's groups.
    let vpc = text(&shown, "VpcId");
    let plain = format!("Action=CreateTargetGroup&Name=plain&Protocol=TCP&Port=80&TargetType=ip&VpcId={vpc}");
    let plain = text(&rig.elb(A, &plain), "TargetGroupArn");
    let wrong = rule(&listener, 11, &forward(&plain));
    assert_eq!(refused(&rig, &wrong).0, "IncompatibleProtocols");
    let subnet = text(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId");
    let network = format!("Action=CreateLoadBalancer&Name=net&Type=network&Subnets.member.1={subnet}");
    let network = text(&rig.elb(A, &network), "LoadBalancerArn");
    let to_requests = format!(
        "Action=CreateListener&LoadBalancerArn={network}&Protocol=TCP&Port=80&DefaultActions.member.1.Type=forward&\
         DefaultActions.member.1.TargetGroupArn={group}"
    );
    assert_eq!(refused(&rig, &to_requests).0, "IncompatibleProtocols");
}

#[test]
fn a_load_balancer_of_type_application_is_a_target_and_says_that_nothing_serves_it() {
    let rig = Rig::new();
    let Made { lb, listener, .. } = made(&rig, A);
    let vpc = text(&rig.ec2(A, "Action=DescribeVpcs"), "vpcId");
    let create =
        |name: &str, more: &str| format!("Action=CreateTargetGroup&Name={name}&TargetType=alb&VpcId={vpc}&{more}");
    assert_eq!(refused(&rig, &create("g", "Protocol=UDP&Port=80")).0, "ValidationError");
    assert_eq!(refused(&rig, &create("g", "Protocol=TCP&Port=80&HealthCheckProtocol=TCP")).0, "ValidationError");
    let made = rig.elb(A, &create("g", "Protocol=TCP&Port=80"));
    assert_eq!((text(&made, "TargetType"), text(&made, "HealthCheckProtocol")), ("alb".to_owned(), "HTTP".to_owned()));
    let group = text(&made, "TargetGroupArn");
    let targets = |action: &str, group: &str, id: &str| {
        format!("Action={action}&TargetGroupArn={group}&Targets.member.1.Id={id}")
    };
    let other = text(&rig.elb(A, &create("h", "Protocol=TCP&Port=81")), "TargetGroupArn");
    let (code, message) = refused(&rig, &targets("RegisterTargets", &other, &lb));
    assert_eq!(code, "InvalidTarget");
    assert!(message.contains("does not have a listener on port '81'"), "{message}");
    assert_eq!(refused(&rig, &targets("RegisterTargets", &group, "172.31.0.9")).0, "InvalidTarget");
    let port = format!("{}&Targets.member.1.Port=82", targets("RegisterTargets", &group, &lb));
    assert_eq!(refused(&rig, &port).0, "ValidationError");
    rig.elb(A, &targets("RegisterTargets", &group, &lb));
    rig.elb(A, &targets("RegisterTargets", &group, &lb));

    let health = rig.elb(A, &format!("Action=DescribeTargetHealth&TargetGroupArn={group}"));
    assert_eq!((text(&health, "Id"), text(&health, "Port")), (lb.clone(), "80".to_owned()));
    assert_eq!(text(&text(&health, "TargetHealth"), "State"), "unavailable");
    assert_eq!(text(&text(&health, "TargetHealth"), "Reason"), "Elb.InternalError");
    assert!(text(&text(&health, "TargetHealth"), "Description").contains("nothing serves them"), "{health}");

    // A network load balancer leads there by TCP alone.
    let subnet = text(&rig.ec2(A, "Action=DescribeSubnets"), "subnetId");
    let front = format!("Action=CreateLoadBalancer&Name=front&Type=network&Subnets.member.1={subnet}");
    let front = text(&rig.elb(A, &front), "LoadBalancerArn");
    rig.elb(
        A,
        &format!(
            "Action=CreateListener&LoadBalancerArn={front}&Protocol=TCP&Port=80&DefaultActions.member.1.Type=forward&\
             DefaultActions.member.1.TargetGroupArn={group}"
        ),
    );
    for (form, code) in [
        (format!("Action=DeleteListener&ListenerArn={listener}"), "ResourceInUse"),
        (format!("Action=ModifyListener&ListenerArn={listener}&Port=8080"), "ResourceInUse"),
        (format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"), "ResourceInUse"),
        (
            format!(
                "Action=ModifyTargetGroupAttributes&TargetGroupArn={group}&Attributes.member.1.Value=0&\
                 Attributes.member.1.Key=deregistration_delay.timeout_seconds"
            ),
            "InvalidConfigurationRequest",
        ),
    ] {
        assert_eq!(refused(&rig, &form).0, code, "{form}");
    }
    let service = format!("Action=CreateVpcEndpointServiceConfiguration&NetworkLoadBalancerArn.1={front}");
    rig.ec2(A, &service);
    rig.elb(A, &targets("DeregisterTargets", &group, &lb));
    let gone = rig.elb(A, &targets("DescribeTargetHealth", &group, &lb));
    assert_eq!(text(&text(&gone, "TargetHealth"), "Reason"), "Target.NotRegistered");
    rig.elb(A, &format!("Action=DeleteLoadBalancer&LoadBalancerArn={lb}"));
}

#[test]
fn a_dual_stack_load_balancer_is_not_told_to_become_one() {
    let rig = Rig::new();
    rig.published();
    let lb = text(&rig.elb(A, "Action=DescribeLoadBalancers"), "LoadBalancerArn");
    let listener = text(&rig.elb(A, &format!("Action=DescribeListeners&LoadBalancerArn={lb}")), "ListenerArn");
    let group = text(&rig.elb(A, "Action=DescribeTargetGroups"), "TargetGroupArn");
    let form = rule(&listener, 1, &forward(&group));
    let (code, message) = refused(&rig, &form);
    assert_eq!(code, "InvalidConfigurationRequest");
    assert!(message.contains("with IP address type 'dualstack' only"), "{message}");
    let id: crate::model::LoadBalancerId = lb.parse().expect("an ARN");
    let done = rig.query.api.store.update(|state| {
        let (mut lb, mut vpc) = (state.load_balancers[&id].clone(), state.vpcs[&state.load_balancers[&id].vpc].clone());
        vpc.ipv6 = Some(crate::model::VpcIpv6 { cidr: "fd00:31::/56".parse().expect("a range"), gateway: None });
        lb.ipv6_addresses = vec!["fd00:31::5".parse().expect("an address")];
        Ok::<_, std::convert::Infallible>((Change::default().put(vpc).put(lb), ()))
    });
    done.expect("a commit");
    let (code, message) = refused(&rig, &form);
    assert_eq!(code, "InvalidConfigurationRequest");
    assert!(!message.contains("only") && message.contains("not supported here"), "{message}");
}
