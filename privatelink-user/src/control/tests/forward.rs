//! Weights, and stickiness of groups and actions.

use serde_json::json;

use super::*;

fn world() -> World {
    let mut world = World::published();
    let group = json!({"name": "next", "vpc": "provider", "protocol": "TCP", "port": 81});
    world.json::<CreateTargetGroup>(group).unwrap();
    world
}

#[test]
fn a_listener_leads_to_one_group_or_to_several_by_weight() {
    let mut world = world();
    let one = world.json::<ModifyListener>(json!({"listener": "lb:80", "target_group": "next"})).unwrap();
    assert_eq!((one.target_group_name.as_str(), one.target_groups.len(), one.stickiness), ("next", 1, false));
    assert!(one.target_group.is_some());
    let both = json!({"listener": "lb:80", "target_groups": ["web=70", "next=30"], "stickiness": true});
    let two = world.json::<ModifyListener>(both).unwrap();
    assert_eq!((two.target_group_name.as_str(), two.target_group, two.stickiness), ("next=30, web=70", None, true));
    let groups = world.state.target_groups.values().filter(|group| group.name.as_str() == "next").count();
    assert_eq!(groups, 1);
    let (code, _) = refusal(world.json::<DeleteTargetGroup>(json!({"target_group": "next"})));
    assert_eq!(code, "ResourceInUse");
    let unchanged = world.json::<ModifyListener>(json!({"listener": "lb:80"})).unwrap();
    assert_eq!(unchanged.target_group_name, "next=30, web=70");
}

#[test]
fn a_listener_has_one_port_several_or_all_and_no_two_have_one() {
    let mut world = world();
    let on = |port: serde_json::Value| json!({"load_balancer": "lb", "protocol": "TCP", "port": port, "target_group": "web"});
    let made = world.json::<CreateListener>(on(json!("1024-2047"))).unwrap();
    assert_eq!((made.name.as_str(), made.port.to_string()), ("lb:1024-2047", "1024-2047".to_owned()));
    assert_eq!(world.json::<CreateListener>(on(json!("1024-2047"))).unwrap(), made, "the same again");
    for port in [json!(1024), json!("2047-2048"), json!("1-1024"), json!("all"), json!("1100-1200")] {
        assert_eq!(refusal(world.json::<CreateListener>(on(port))).0, "DuplicateListener");
    }
    world.json::<CreateListener>(on(json!(2048))).unwrap();
    world.json::<DeleteListener>(json!({"listener": "lb:1024-2047"})).unwrap();
    world.json::<CreateListener>(on(json!("81-2047"))).unwrap();
    for port in [json!(0), json!("0-5"), json!("9-8"), json!("every")] {
        assert!(serde_json::from_value::<CreateListener>(on(port)).is_err());
    }
}

#[test]
fn refusals_of_forward_actions() {
    let mut world = world();
    let modify = |world: &mut World, request: serde_json::Value| {
        let mut request = request;
        request["listener"] = "lb:80".into();
        refusal(world.json::<ModifyListener>(request))
    };
    let web = world.state.target_groups.values().find(|group| group.name.as_str() == "web").unwrap().id.clone();
    assert_eq!(
        modify(&mut world, json!({"target_groups": ["web=1", "web=2"]})),
        ("ValidationError".to_owned(), format!("The target group '{web}' is given twice"))
    );
    assert_eq!(modify(&mut world, json!({"target_group": "web", "target_groups": ["next=2"]})).0, "ValidationError");
    assert_eq!(modify(&mut world, json!({"target_groups": ["nowhere=1"]})).0, "TargetGroupNotFound");
    assert!(
        serde_json::from_value::<ModifyListener>(json!({"listener": "lb:80", "target_groups": ["web=1000"]})).is_err()
    );
    let missing = json!({"load_balancer": "lb", "protocol": "TCP", "port": 81});
    assert_eq!(
        refusal(world.json::<CreateListener>(missing)),
        ("ValidationError".to_owned(), "A default action must be specified".to_owned())
    );
}

#[test]
fn a_sticky_group_among_several_needs_a_sticky_action() {
    let mut world = world();
    let sticky = |on: bool| json!({"target_group": "web", "attributes": {"stickiness.enabled": on.to_string()}});
    let both = |on: bool| json!({"listener": "lb:80", "target_groups": ["web=70", "next=30"], "stickiness": on});
    world.json::<ModifyTargetGroup>(sticky(true)).unwrap();
    let (code, text) = refusal(world.json::<ModifyListener>(both(false)));
    assert_eq!(code, "InvalidConfigurationRequest");
    assert!(text.starts_with("Target group stickiness must be enabled because"), "{text}");
    world.json::<ModifyListener>(both(true)).unwrap();
    let (code, _) = refusal(world.json::<ModifyListener>(json!({"listener": "lb:80", "stickiness": false})));
    assert_eq!(code, "InvalidConfigurationRequest");
    world.json::<ModifyTargetGroup>(sticky(false)).unwrap();
    world.json::<ModifyListener>(json!({"listener": "lb:80", "stickiness": false})).unwrap();
    let (code, _) = refusal(world.json::<ModifyTargetGroup>(sticky(true)));
    assert_eq!(code, "InvalidConfigurationRequest");
    let (code, _) = refusal(
        world.json::<ModifyTargetGroup>(json!({"target_group": "web", "attributes": {"stickiness.type": "lb_cookie"}})),
    );
    assert_eq!(code, "ValidationError");
}
