//! Listeners and target groups of different protocols.

use super::*;
use crate::model::Protocol;

const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::TcpUdp];

fn group(world: &mut World, protocol: Protocol) -> String {
    let name = format!("g-{}", protocol.to_string().to_lowercase().replace('_', "-"));
    let request = serde_json::json!({"name": name, "vpc": "provider", "protocol": protocol.to_string(), "port": 53});
    world.json::<CreateTargetGroup>(request).expect("a group");
    name
}

/// The compatibility table of the Network Load Balancer.
#[test]
fn a_listener_leads_to_groups_that_have_all_its_protocols() {
    let mut world = World::published();
    let groups = ALL.map(|protocol| (protocol, group(&mut world, protocol)));
    let mut port = 5300;
    for listener in ALL {
        for (protocol, group) in &groups {
            port += 1;
            let request = serde_json::json!({
                "load_balancer": "lb", "protocol": listener.to_string(), "port": port, "target_group": group,
            });
            let fits = matches!(
                (listener, protocol),
                (Protocol::Tcp, Protocol::Tcp | Protocol::TcpUdp)
                    | (Protocol::Udp, Protocol::Udp | Protocol::TcpUdp)
                    | (Protocol::TcpUdp, Protocol::TcpUdp)
            );
            match world.json::<CreateListener>(request) {
                Ok(_) => assert!(fits, "{listener} to {protocol}"),
                Err(error) => {
                    assert!(!fits, "{listener} to {protocol}: {error}");
                    assert_eq!(error.code(), "IncompatibleProtocols");
                    assert!(error.hint().contains("TCP_UDP"), "{}", error.hint());
                }
            }
        }
    }
    let listener = world.ask(DescribeListeners::default()).expect("a list").remove(0);
    assert_eq!(listener.protocol, Protocol::Tcp);
    let modified = ModifyListener {
        listener: listener.name.clone().into(),
        target_group: Some("g-udp".into()),
        ..ModifyListener::default()
    };
    assert_eq!(world.run(modified).expect_err("TCP to UDP").code(), "IncompatibleProtocols");
}

#[test]
fn attributes_follow_the_protocol() {
    let mut world = World::published();
    let both = group(&mut world, Protocol::TcpUdp);
    let create = |protocol: &str, port: u16, attribute: &str| {
        serde_json::json!({
            "load_balancer": "lb", "protocol": protocol, "port": port, "target_group": both,
            "attributes": {attribute: "60"},
        })
    };
    for (protocol, attribute, fits) in [
        ("TCP", "tcp.idle_timeout.seconds", true),
        ("TCP", "udp.idle_timeout.seconds", false),
        ("UDP", "tcp.idle_timeout.seconds", false),
        ("UDP", "udp.idle_timeout.seconds", true),
        ("TCP_UDP", "tcp.idle_timeout.seconds", true),
        ("TCP_UDP", "udp.idle_timeout.seconds", true),
    ] {
        let port = 6000 + world.state.listeners.len() as u16;
        match world.json::<CreateListener>(create(protocol, port, attribute)) {
            Ok(view) => {
                assert!(fits, "{protocol} {attribute}");
                assert_eq!(view.attributes[attribute], "60");
                let owns = |key: &str| view.attributes.contains_key(key);
                assert_eq!(owns("tcp.idle_timeout.seconds"), protocol != "UDP");
                assert_eq!(owns("udp.idle_timeout.seconds"), protocol != "TCP");
            }
            Err(error) => {
                assert!(!fits, "{protocol} {attribute}: {error}");
                assert_eq!(error.code(), "ValidationError");
            }
        }
    }
}

#[test]
fn a_group_with_udp_ends_flows_with_the_draining_and_not_with_the_health() {
    let mut world = World::published();
    let (ends, unhealthy) = (
        "deregistration_delay.connection_termination.enabled",
        "target_health_state.unhealthy.connection_termination.enabled",
    );
    for protocol in ALL {
        let name = group(&mut world, protocol);
        let view = world.ask(DescribeTargetGroups::default()).expect("a list");
        let view = view.iter().find(|view| view.name.as_str() == name).expect("the group");
        assert_eq!(view.attributes[ends], protocol.has_udp().to_string());
        assert_eq!(view.attributes[unhealthy], (!protocol.has_udp()).to_string());
        let request = ModifyTargetGroup {
            target_group: name.into(),
            health_check: Default::default(),
            attributes: [(unhealthy.to_owned(), "true".to_owned())].into(),
        };
        assert_eq!(world.run(request).is_err(), protocol.has_udp(), "{protocol}");
    }
}

/// What a Network Load Balancer does unless it is told otherwise.
#[test]
fn client_addresses_are_preserved_by_target_type_and_protocol() {
    const KEY: &str = "preserve_client_ip.enabled";
    let mut world = World::published();
    for (number, (target_type, protocol)) in
        [("ip", Protocol::Tcp), ("instance", Protocol::Tcp), ("ip", Protocol::Udp), ("instance", Protocol::TcpUdp)]
            .into_iter()
            .enumerate()
    {
        let request = serde_json::json!({
            "name": format!("p-{number}"), "vpc": "provider", "protocol": protocol.to_string(), "port": 53,
            "target_type": target_type,
        });
        let made = world.json::<CreateTargetGroup>(request).expect("a group");
        let preserved = target_type == "instance" || protocol.has_udp();
        assert_eq!(made.attributes[KEY], preserved.to_string(), "{target_type} {protocol}");
        let mut set = |value: &str| {
            world.json::<ModifyTargetGroup>(
                serde_json::json!({"target_group": made.name.to_string(), "attributes": {KEY: value}}),
            )
        };
        assert!(set("true").is_ok());
        match set("false") {
            Ok(changed) => assert!(!protocol.has_udp() && changed.attributes[KEY] == "false"),
            Err(error) => {
                assert!(protocol.has_udp(), "{error}");
                let text =
                    format!("'{KEY}' value 'false' is not supported for target groups with the {protocol} protocol");
                assert_eq!((error.code(), error.to_string()), ("ValidationError", text));
            }
        }
    }
}
