//! Security groups and what carries them.

use serde_json::json;

use super::*;
use crate::control::security_groups::*;

fn world() -> World {
    let mut world = World::published();
    world.json::<CreateSecurityGroup>(json!({"name": "clients", "vpc": "consumer"})).unwrap();
    world
}

#[test]
fn a_new_group_lets_nobody_in_and_out_everywhere() {
    let mut world = World::published();
    let request = json!({"name": "web clients", "vpc": "consumer", "description": "all of them"});
    let group = world.json::<CreateSecurityGroup>(request).unwrap();
    assert!(group.id.to_string().starts_with("sg-"));
    assert!(group.ingress.is_empty() && !group.applies_to_established);
    let outbound: Vec<String> = group.egress.iter().map(|rule| format!("{} {}", rule.traffic, rule.peer)).collect();
    assert_eq!(outbound, ["all 0.0.0.0/0"]);
}

#[test]
fn every_vpc_has_a_default_group_that_goes_with_it_and_not_before() {
    let mut world = World::published();
    let request = DescribeSecurityGroups { security_groups: Some(vec!["consumer/default".into()]) };
    let group = world.ask(request).unwrap().remove(0);
    let rules = |rules: &[view::SecurityGroupRuleView]| -> Vec<String> {
        rules.iter().map(|rule| format!("{} {}", rule.traffic, rule.peer)).collect()
    };
    assert_eq!(rules(&group.ingress), [format!("all {}", group.id)]);
    assert_eq!(rules(&group.egress), ["all 0.0.0.0/0"]);
    assert!(group.carried_by.is_empty(), "what names no group carries none");
    let (code, text) = refusal(world.json::<DeleteSecurityGroup>(json!({"security_group": group.id})));
    let expected = format!("the specified group: \"{}\" name: \"default\" cannot be deleted by a user", group.id);
    assert_eq!((code.as_str(), text), ("CannotDelete", expected));
    world.json::<ModifyEndpoint>(json!({"endpoint": "consumer/10.0.0.50", "security_groups": ["default"]})).unwrap();
    world
        .json::<RevokeSecurityGroup>(json!({"security_group": group.id, "direction": "ingress",
            "rules": [{"traffic": "all", "peer": group.id}]}))
        .unwrap();
    world.json::<DeleteEndpoint>(json!({"endpoint": "consumer/10.0.0.50"})).unwrap();
    world.json::<DetachPort>(json!({"port": "veth-c"})).unwrap();
    world.json::<DeleteVpc>(json!({"vpc": "consumer"})).unwrap();
    let left: Vec<_> = world.state.security_groups.values().map(|group| group.vpc.clone()).collect();
    assert_eq!(left, world.state.vpcs.keys().cloned().collect::<Vec<_>>());
}

#[test]
fn rules_come_and_go() {
    let mut world = world();
    let group = world
        .json::<AuthorizeSecurityGroup>(json!({"security_group": "clients", "direction": "ingress", "rules": [
            {"traffic": "tcp:80", "peer": "10.1.2.3/8"},
            {"traffic": "tcp:443-445", "peer": "2001:db8::/32", "description": "IPv6"},
            {"traffic": "icmp:8", "peer": "clients"},
        ], "apply_to_established": true}))
        .unwrap();
    let rules: Vec<String> = group.ingress.iter().map(|rule| format!("{} {}", rule.traffic, rule.peer)).collect();
    assert_eq!(rules, ["tcp:80 10.0.0.0/8", "tcp:443-445 2001:db8::/32", &format!("icmp:8 {}", group.id)]);
    assert!(group.applies_to_established);
    let id = &group.ingress[0].id;
    world
        .json::<RevokeSecurityGroup>(json!({"security_group": "clients", "direction": "ingress", "rule_ids": [id]}))
        .unwrap();
    let group = world
        .json::<RevokeSecurityGroup>(json!({"security_group": "clients", "direction": "ingress",
            "rules": [{"traffic": "icmp:8", "peer": "clients"}]}))
        .unwrap();
    assert_eq!(group.ingress.len(), 1);
    assert!(!group.applies_to_established, "the last change says whether rules count for open flows");
}

#[test]
fn refusals_have_the_codes_and_texts_of_the_api() {
    let mut world = world();
    world.json::<CreateSecurityGroup>(json!({"name": "nodes", "vpc": "provider"})).unwrap();
    let group = world.state.security_groups.values().find(|group| group.name.as_str() == "clients").unwrap().id.clone();
    let vpc = lookup::vpc(&world.state, &"consumer".into()).unwrap().id.clone();
    let rule = json!({"security_group": "clients", "direction": "ingress", "rules": [{"traffic": "tcp:80", "peer": "10.0.0.0/8"}]});
    world.json::<AuthorizeSecurityGroup>(rule.clone()).unwrap();
    let nodes = lookup::security_group(&world.state, &"nodes".into(), None).unwrap().id.clone();
    let provider = lookup::vpc(&world.state, &"provider".into()).unwrap().id.clone();
    let cases = [
        (
            refusal(world.json::<CreateSecurityGroup>(json!({"name": "clients", "vpc": "consumer"}))),
            "InvalidGroup.Duplicate",
            format!("The security group 'clients' already exists for VPC '{vpc}'"),
        ),
        (
            refusal(world.json::<CreateSecurityGroup>(json!({"name": "default", "vpc": "consumer"}))),
            "InvalidParameterValue",
            "Cannot use reserved security group name: default".to_owned(),
        ),
        (
            refusal(world.json::<DeleteSecurityGroup>(json!({"security_group": "sg-00000000000000000"}))),
            "InvalidGroup.NotFound",
            "The security group 'sg-00000000000000000' does not exist".to_owned(),
        ),
        (
            refusal(world.json::<AuthorizeSecurityGroup>(rule.clone())),
            "InvalidPermission.Duplicate",
            "the specified rule \"tcp:80 from 10.0.0.0/8\" already exists".to_owned(),
        ),
        (
            refusal(world.json::<RevokeSecurityGroup>(json!({"security_group": "clients", "direction": "egress",
                "rules": [{"traffic": "tcp:80", "peer": "10.0.0.0/8"}]}))),
            "InvalidPermission.NotFound",
            "The specified rule does not exist in this security group.".to_owned(),
        ),
        (
            refusal(world.json::<AuthorizeSecurityGroup>(json!({"security_group": "clients", "direction": "ingress",
                "rules": [{"traffic": "all", "peer": nodes}]}))),
            "InvalidParameter",
            format!("Security group {nodes} does not belong to VPC {vpc}"),
        ),
        (
            refusal(world.json::<SetSecurityGroups>(json!({"load_balancer": "lb", "security_groups": ["nothing"]}))),
            "InvalidSecurityGroup",
            "Security group nothing does not exist".to_owned(),
        ),
        (
            refusal(world.json::<SetSecurityGroups>(json!({"load_balancer": "lb", "security_groups": [group]}))),
            "InvalidParameter",
            format!("Security group {group} does not belong to VPC {provider}"),
        ),
        (
            refusal(world.json::<AuthorizeSecurityGroup>(json!({"security_group": "clients", "direction": "ingress",
                "rules": [{"traffic": "all", "peer": "10.0.0.0/99"}]}))),
            "ValidationError",
            "CIDR block '10.0.0.0/99' must be an IPv4 or IPv6 network address, a slash and a prefix length, or the id of a \
             security group"
                .to_owned(),
        ),
    ];
    for ((code, text), expected_code, expected_text) in cases {
        assert_eq!((code.as_str(), &text), (expected_code, &expected_text));
    }
    world.json::<ModifyEndpoint>(json!({"endpoint": "consumer/10.0.0.50", "security_groups": ["clients"]})).unwrap();
    let (code, text) = refusal(world.json::<DeleteSecurityGroup>(json!({"security_group": "clients"})));
    assert_eq!((code.as_str(), text), ("DependencyViolation", format!("resource {group} has a dependent object")));
    let (code, _) = refusal(world.json::<DeleteVpc>(json!({"vpc": "provider"})));
    assert_eq!(code, "DependencyViolation");
}

#[test]
fn a_thousand_rules_and_no_more() {
    let mut world = world();
    let rules = |count: u32| {
        let peers = (0..count).map(|n| json!({"traffic": "all", "peer": format!("10.{}.{}.0/24", n / 256, n % 256)}));
        json!({"security_group": "clients", "direction": "ingress", "rules": peers.collect::<Vec<_>>()})
    };
    let (code, text) = refusal(world.json::<AuthorizeSecurityGroup>(rules(1_001)));
    assert_eq!(code, "RulesPerSecurityGroupLimitExceeded");
    assert_eq!(text, "The maximum number of rules per security group has been reached.");
    assert_eq!(world.json::<AuthorizeSecurityGroup>(rules(1_000)).unwrap().ingress.len(), 1_000);
}

#[test]
fn five_groups_and_no_more() {
    let mut world = world();
    let names: Vec<String> = (0..6).map(|n| format!("g{n}")).collect();
    for name in &names {
        world.json::<CreateSecurityGroup>(json!({"name": name, "vpc": "consumer"})).unwrap();
    }
    let request = |names: &[String]| json!({"endpoint": "consumer/10.0.0.50", "security_groups": names});
    let (code, _) = refusal(world.json::<ModifyEndpoint>(request(&names)));
    assert_eq!(code, "SecurityGroupsPerInterfaceLimitExceeded");
    assert_eq!(world.json::<ModifyEndpoint>(request(&names[..5])).unwrap().security_group_names, names[..5]);
    assert!(world.json::<ModifyEndpoint>(request(&[])).unwrap().security_groups.is_empty());
}

#[test]
fn a_name_is_looked_for_where_it_is_meant() {
    let mut world = world();
    world.json::<CreateSecurityGroup>(json!({"name": "clients", "vpc": "provider"})).unwrap();
    let (code, _) = refusal(world.json::<DeleteSecurityGroup>(json!({"security_group": "clients"})));
    assert_eq!(code, "InvalidGroup.NotFound", "two VPCs have the name");
    let endpoint = json!({"endpoint": "consumer/10.0.0.50", "security_groups": ["clients"]});
    assert_eq!(world.json::<ModifyEndpoint>(endpoint).unwrap().security_group_names, ["clients"]);
    world.json::<DeleteSecurityGroup>(json!({"security_group": "provider/clients"})).unwrap();
}

#[test]
fn a_declaration_holds_groups_and_takes_them_away() {
    use crate::control::apply::{ApplyDeclaration, Declaration};
    let mut world = World::published();
    let declare = |world: &mut World, text: &str, prune: bool| {
        let declaration: Declaration = toml::from_str(text).expect("a declaration");
        let plan = world.run(ApplyDeclaration { declaration, prune, dry_run: false })?;
        let steps = plan.steps.iter().map(|step| format!("{} {} {}", step.action, step.kind, step.name)).collect();
        Ok::<Vec<String>, ControlError>(steps)
    };
    let text = r#"
        [[security-group]]
        name = "a"
        vpc = "consumer"
        ingress = [{ traffic = "tcp:80", peer = "b" }]
        [[security-group]]
        name = "b"
        vpc = "consumer"
        ingress = [{ traffic = "all", peer = "a" }]
        egress = []
        apply-to-established = true
        [[endpoint]]
        service-name = "shop"
        vpc = "consumer"
        address = "10.0.0.50"
        security-groups = ["a"]
    "#;
    assert_eq!(
        declare(&mut world, text, false).unwrap(),
        [
            "create security-group a",
            "create security-group b",
            "modify security-group a",
            "modify security-group b",
            "modify endpoint consumer/10.0.0.50",
        ]
    );
    assert!(declare(&mut world, text, false).unwrap().is_empty(), "a second time changes nothing");
    let without = r#"
        [[endpoint]]
        service-name = "shop"
        vpc = "consumer"
        address = "10.0.0.50"
    "#;
    assert_eq!(declare(&mut world, without, false).unwrap(), ["modify endpoint consumer/10.0.0.50"]);
    let steps = declare(&mut world, "", true).unwrap();
    assert!(steps.contains(&"delete security-group a".to_owned()), "{steps:?}");
    assert!(world.state.security_groups.is_empty());
}
