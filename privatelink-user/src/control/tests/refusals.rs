//! Codes and texts.

use super::*;

#[test]
fn refusals_have_the_codes_and_texts_of_the_api() {
    let mut world = World::published();
    let lb = world.state.load_balancers.keys().next().unwrap().to_string();
    let group = world.state.target_groups.keys().next().unwrap().to_string();
    let consumer = lookup::vpc(&world.state, &"consumer".into()).unwrap().id.to_string();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect(text);
    let mut cases: Vec<((String, String), &str, String)> = Vec::new();
    macro_rules! case {
        ($request:ty, $json:expr, $code:expr, $($text:tt)+) => {
            cases.push((refusal(world.json::<$request>(json($json))), $code, format!($($text)+)))
        };
    }
    case!(
        CreateVpc,
        r#"{"name": "consumer", "cidr": "10.1.0.0/16"}"#,
        "InvalidVpc.Duplicate",
        "A VPC with the same name 'consumer' exists, but with different settings"
    );
    case!(
        CreateVpc,
        r#"{"name": "c", "cidr": "10.1.0.0/16", "gateway": "10.0.0.1"}"#,
        "InvalidParameterValue",
        "Address 10.0.0.1 does not fall within the VPC's address range 10.1.0.0/16"
    );
    case!(
        ModifyVpc,
        r#"{"vpc": "consumer", "gateway": "10.0.0.50"}"#,
        "InvalidIPAddress.InUse",
        "Address 10.0.0.50 is in use."
    );
    case!(
        ModifyVpc,
        r#"{"vpc": "consumer", "gateway": "10.0.255.255"}"#,
        "InvalidParameterValue",
        "Address 10.0.255.255 is in the VPC's reserved address range"
    );
    case!(DeleteVpc, r#"{"vpc": "nowhere"}"#, "InvalidVpcID.NotFound", "The vpc ID 'nowhere' does not exist");
    case!(
        DeleteVpc,
        r#"{"vpc": "consumer"}"#,
        "DependencyViolation",
        "The vpc '{consumer}' has dependencies and cannot be deleted."
    );
    case!(
        DetachPort,
        r#"{"port": "veth-x"}"#,
        "InvalidNetworkInterfaceID.NotFound",
        "The port 'veth-x' does not exist"
    );
    case!(
        CreateTargetGroup,
        r#"{"name": "t", "vpc": "nowhere", "protocol": "TCP", "port": 80}"#,
        "ValidationError",
        "The VPC ID 'nowhere' is not found"
    );
    case!(
        CreateTargetGroup,
        r#"{"name": "t", "vpc": "provider", "protocol": "TCP", "port": 0}"#,
        "ValidationError",
        "Target group port '0' must be between '1-65535' inclusive"
    );
    case!(
        CreateTargetGroup,
        r#"{"name": "web", "vpc": "provider", "protocol": "TCP", "port": 81}"#,
        "DuplicateTargetGroupName",
        "A target group with the same name 'web' exists, but with different settings"
    );
    case!(
        ModifyTargetGroup,
        r#"{"target_group": "web", "health_check": {"interval": 5}}"#,
        "ValidationError",
        "Health check timeout '10' must be smaller than or equal to the interval '5'"
    );
    case!(
        ModifyTargetGroup,
        r#"{"target_group": "web", "health_check": {"healthy_threshold": 11}}"#,
        "ValidationError",
        "Healthy threshold count '11' must be between '2-10' inclusive"
    );
    case!(
        ModifyTargetGroup,
        r#"{"target_group": "web", "attributes": {"deregistration_delay.timeout_seconds": "3601"}}"#,
        "ValidationError",
        "'deregistration_delay.timeout_seconds' value '3601' must be between '0-3600' inclusive"
    );
    case!(
        DeleteTargetGroup,
        r#"{"target_group": "web"}"#,
        "ResourceInUse",
        "Target group '{group}' is currently in use by a listener or a rule"
    );
    case!(
        DeleteTargetGroup,
        r#"{"target_group": "nothing"}"#,
        "TargetGroupNotFound",
        "Target group 'nothing' not found"
    );
    case!(
        RegisterTargets,
        r#"{"target_group": "web", "targets": []}"#,
        "ValidationError",
        "At least one target must be specified"
    );
    case!(
        RegisterTargets,
        r#"{"target_group": "web", "targets": ["10.0.0.5"]}"#,
        "InvalidTarget",
        "The IP address '10.0.0.5' cannot be used as a target, as it is in use by a load balancer"
    );
    case!(
        RegisterTargets,
        r#"{"target_group": "web", "targets": ["8.8.8.8"]}"#,
        "InvalidTarget",
        "The IP address '8.8.8.8' is not a private address that a target can have"
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "l", "vpc": "provider", "addresses": []}"#,
        "ValidationError",
        "A node address must be specified"
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "l", "vpc": "provider", "addresses": ["10.0.1.10"]}"#,
        "InvalidIPAddress.InUse",
        "Address 10.0.1.10 is in use."
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "l", "vpc": "provider", "addresses": ["10.0.9.9", "10.0.9.9"]}"#,
        "InvalidParameterValue",
        "The address 10.0.9.9 is given twice"
    );
    case!(
        CreateLoadBalancer,
        r#"{"name": "lb", "vpc": "provider", "addresses": ["10.0.9.9"]}"#,
        "DuplicateLoadBalancerName",
        "A load balancer with the same name 'lb' exists, but with different settings"
    );
    case!(
        DeleteLoadBalancer,
        r#"{"load_balancer": "lb"}"#,
        "ResourceInUse",
        "Load balancer '{lb}' cannot be deleted because it is currently associated with another service"
    );
    case!(DeleteLoadBalancer, r#"{"load_balancer": "l"}"#, "LoadBalancerNotFound", "Load balancer 'l' not found");
    case!(
        CreateListener,
        r#"{"load_balancer": "lb", "protocol": "TCP", "port": 80, "target_group": "web",
        "attributes": {"tcp.idle_timeout.seconds": "60"}}"#,
        "DuplicateListener",
        "A listener already exists on this port for this load balancer '{lb}'"
    );
    case!(
        CreateListener,
        r#"{"load_balancer": "lb", "protocol": "TCP", "port": 81, "target_group": "x"}"#,
        "TargetGroupNotFound",
        "Target group 'x' not found"
    );
    case!(
        CreateListener,
        r#"{"load_balancer": "lb", "protocol": "TCP", "port": 81, "target_group": "web",
        "attributes": {"tcp.idle_timeout.seconds": "59"}}"#,
        "ValidationError",
        "'tcp.idle_timeout.seconds' value '59' must be between '60-6000' inclusive, or '0'"
    );
    case!(DeleteListener, r#"{"listener": "lb:81"}"#, "ListenerNotFound", "Listener 'lb:81' not found");
    case!(
        CreateEndpointService,
        r#"{"load_balancers": ["lb"], "name": "other"}"#,
        "InvalidParameter",
        "The load balancer '{lb}' is already associated with the endpoint service '{}'",
        world.state.endpoint_services.keys().next().unwrap()
    );
    case!(
        DeleteEndpointService,
        r#"{"endpoint_service": "shop"}"#,
        "ExistingVpcEndpointConnections",
        "Service has existing active VPC Endpoint connections!"
    );
    case!(
        DeleteEndpointService,
        r#"{"endpoint_service": "x"}"#,
        "InvalidVpcEndpointServiceId.NotFound",
        "The VpcEndpointService Id 'x' does not exist"
    );
    case!(
        CreateEndpoint,
        r#"{"service_name": "x", "vpc": "consumer"}"#,
        "InvalidServiceName",
        "The Vpc Endpoint Service 'x' does not exist"
    );
    case!(
        CreateEndpoint,
        r#"{"service_name": "shop", "vpc": "consumer", "address": "10.0.0.1"}"#,
        "InvalidIPAddress.InUse",
        "Address 10.0.0.1 is in use."
    );
    case!(
        CreateEndpoint,
        r#"{"service_name": "shop", "vpc": "consumer", "address": "10.1.0.1"}"#,
        "InvalidParameterValue",
        "Address 10.1.0.1 does not fall within the VPC's address range 10.0.0.0/16"
    );
    case!(
        DeleteEndpoint,
        r#"{"endpoint": "consumer/10.0.0.51"}"#,
        "InvalidVpcEndpoint.NotFound",
        "The Vpc Endpoint Id 'consumer/10.0.0.51' does not exist"
    );
    for ((code, text), expected_code, expected) in cases {
        assert_eq!((code.as_str(), text), (expected_code, expected));
    }
    let attached = refusal(world.attach(json(r#"{"interface": "veth-c", "vpc": "provider"}"#)));
    assert_eq!(attached, ("InvalidNetworkInterface.InUse".to_owned(), "Interface: [veth-c] in use.".to_owned()));
}
