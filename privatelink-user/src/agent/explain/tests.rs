use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use jiff::Timestamp;
use privatelink_ebpf::abi::{Counter, Proto, counters::CounterKind};

use super::*;
use crate::model::{
    Endpoint, EndpointService, EndpointState, Forward, HealthCheck, HealthCheckProtocol, Hook, ListenerAttributes,
    LoadBalancer, LoadBalancerAttributes, Owner, Port, Record, SecurityGroups, ServiceName, TargetAddress,
    TargetGroupAttributes, Vpc,
};
use crate::runtime::NextHop;

const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
const TARGET: TargetAddress = TargetAddress { ip: IpAddr::V4(Ipv4Addr::new(10, 0, 1, 10)), port: 8080 };
const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn vpc(number: u16, name: &str) -> Vpc {
    Vpc {
        id: format!("vpc-{number:017x}").parse().expect("an id"),
        owner: Owner::example(),
        name: name.parse().expect("a name"),
        cidr: "10.0.0.0/16".parse().expect("a range"),
        ipv6: None,
        gateway: None,
        index: crate::model::VpcIndex::new(number).expect("an index"),
        attributes: Default::default(),
        created_at: now(),
    }
}

fn arn<T: std::str::FromStr<Err: std::fmt::Debug>>(kind: &str) -> T {
    format!("arn:aws:elasticloadbalancing:us-east-1:123456789012:{kind}").parse().expect("an ARN")
}

/// A consumer (2) with a port, a provider (1), and a service with a listener on port 80.
fn state() -> State {
    let mut state = State::default();
    let (provider, consumer) = (vpc(1, "provider"), vpc(2, "consumer"));
    let group: crate::model::TargetGroupId = arn("targetgroup/web/0000000000000001");
    let lb: LoadBalancerId = arn("loadbalancer/net/web/0000000000000001");
    state.put(Record::Port(Port {
        interface: "veth-c".parse().expect("a name"),
        vpc: consumer.id.clone(),
        hook: Hook::Auto,
        shared: false,
        created_at: now(),
    }));
    state.put(Record::TargetGroup(TargetGroup {
        target_type: Default::default(),
        id: group.clone(),
        name: "web".parse().expect("a name"),
        vpc: provider.id.clone(),
        ip_address_type: Default::default(),
        protocol: Protocol::Tcp.into(),
        load_balancer: None,
        port: 8080,
        health_check: HealthCheck::defaults(HealthCheckProtocol::Tcp),
        attributes: TargetGroupAttributes::default(),
        dns_targets: Default::default(),
        targets: BTreeMap::new(),
        created_at: now(),
    }));
    state.put(Record::LoadBalancer(LoadBalancer {
        id: lb.clone(),
        name: "web".parse().expect("a name"),
        vpc: provider.id.clone(),
        addresses: vec![NODE],
        ipv6_addresses: Vec::new(),
        secondary_addresses: Vec::new(),
        attributes: LoadBalancerAttributes::default(),
        security_groups: SecurityGroups::default(),
        enforce_on_private_link: true,
        scheme: Default::default(),
        created_at: now(),
    }));
    state.put(Record::Listener(Listener {
        id: arn("listener/net/web/0000000000000001/0000000000000001"),
        load_balancer: lb.clone(),
        protocol: Protocol::Tcp,
        port: 80.try_into().expect("a port"),
        forward: Forward::to(group),
        tls: None,
        attributes: ListenerAttributes::default(),
        created_at: now(),
    }));
    let service: crate::model::EndpointServiceId = "vpce-svc-00000000000000001".parse().expect("an id");
    state.put(Record::EndpointService(EndpointService {
        service_name: ServiceName::new(&"us-east-1".parse().expect("a region"), &service),
        id: service.clone(),
        owner: Owner::example(),
        alias: None,
        zones: crate::model::Zone::ALL.into(),
        ipv4_only: false,
        supported_regions: Default::default(),
        load_balancers: vec![lb],
        acceptance_required: false,
        principals: [].into(),
        consumers: Default::default(),
        owned_load_balancer: None,
        private_dns: None,
        limits: Default::default(),
        payer: Default::default(),
        created_at: now(),
    }));
    state.put(Record::Endpoint(Endpoint {
        id: "vpce-00000000000000001".parse().expect("an id"),
        owner: Owner::example(),
        service,
        vpc: consumer.id.clone(),
        address: ENDPOINT,
        ipv6_addresses: Vec::new(),
        state: EndpointState::Available,
        policy: None,
        security_groups: SecurityGroups::default(),
        further_addresses: Vec::new(),
        private_dns: None,
        limits: Default::default(),
        payer: Default::default(),
        private_dns_on_acceptance: false,
        dns_record_ip_type: None,
        service_region: None,
        aliases: Default::default(),
        created_at: now(),
    }));
    state.put(Record::Vpc(provider));
    state.put(Record::Vpc(consumer));
    state
}

fn question(to: SocketAddr) -> Question {
    Question {
        vpc: vpc(2, "consumer").id,
        port: None,
        from: SocketAddr::new(Ipv4Addr::new(10, 0, 1, 10).into(), 50_000),
        to,
        protocol: PacketProtocol::Tcp,
        sequence: 1,
    }
}

fn entered() -> Entry {
    Entry { ifindex: 4, mac: [2, 0, 0, 0, 0, 4], interface: "veth-c".parse().expect("a name"), hook: HookInUse::XdpTcx }
}

fn ask(state: &State, question: &Question, port: Option<&Entry>, trace: Option<Trace>) -> Explanation {
    let key = TargetKey { vpc: VpcIndex(1), node: NODE.into(), ip: TARGET.ip, port: TARGET.port, proto: Proto::Tcp };
    let plan =
        Plan { targets: [(key, 3)].into(), vpcs: [(VpcIndex(1), vpc(1, "provider").id)].into(), ..Plan::default() };
    let health = |_: &TargetGroup| {
        vec![TargetHealthReport {
            address: TARGET,
            instance: None,
            health_check_port: TARGET.port,
            health: TargetHealth::Timeout,
            next_hop: NextHop::Unresolvable { asked: TARGET.ip },
        }]
    };
    let facts = Facts {
        state,
        plan: &plan,
        statuses: &BTreeMap::new(),
        port,
        seen: trace.map(|trace| Seen { trace, used: Some(17) }),
        health: &health,
        interface: &|ifindex| Some(format!("eth{ifindex}")),
    };
    explain(question, &facts)
}

fn found(explanation: &Explanation, object: Object) -> &Finding {
    explanation.findings.iter().find(|finding| finding.object == object).expect("the finding")
}

#[test]
fn every_refusal_of_the_datapath_is_named() {
    let state = state();
    for counter in Counter::ALL.iter().filter(|counter| counter.kind() == CounterKind::Drop) {
        let mut trace = Trace { found: Trace::FRONTEND, listener: 1, ..Trace::question(false) };
        trace.verdict = Verdict::Drop(*counter).to_bits();
        trace.counters[*counter as usize / 64] |= 1 << (*counter as u32 % 64);
        let explanation = ask(&state, &question(SocketAddr::new(ENDPOINT.into(), 80)), Some(&entered()), Some(trace));
        assert!(!explanation.reachable);
        assert_eq!(explanation.reason.as_deref(), Some(counter.name()));
        let reason = reason::reason(*counter).expect("a refusal's row");
        assert_eq!((explanation.decided_by, explanation.verdict.as_str()), (reason.object, reason.text));
        assert_eq!(explanation.way_out.as_deref(), Some(reason.way_out), "{}", counter.name());
    }
}

#[test]
fn what_is_forwarded_names_every_object_on_the_way() {
    let trace = Trace {
        verdict: Trace::FORWARD,
        found: Trace::FRONTEND | Trace::TARGET,
        listener: 1,
        endpoint: 1,
        target: 3,
        out_ifindex: 7,
        out_flags: PortFlags::XDP_TRANSMIT.0.into(),
        ..Trace::question(false)
    };
    let explanation = ask(&state(), &question(SocketAddr::new(ENDPOINT.into(), 80)), Some(&entered()), Some(trace));
    assert!(explanation.reachable && explanation.reason.is_none());
    assert_eq!(explanation.verdict, "it goes to 10.0.1.10:8080, which sees 10.0.0.5 as its source, through eth7");
    assert_eq!(found(&explanation, Object::Port).name.as_deref(), Some("veth-c"));
    assert_eq!(found(&explanation, Object::Endpoint).name.as_deref(), Some("vpce-00000000000000001"));
    assert_eq!(found(&explanation, Object::Listener).name.as_deref(), Some("web:80"));
    assert_eq!(found(&explanation, Object::TargetGroup).text, "targets: 1 unhealthy");
    assert_eq!(found(&explanation, Object::Target).text, "in VPC 'provider', unhealthy (Request timed out)");
    assert_eq!(found(&explanation, Object::Pool).text, "17 of 64512 in use from 10.0.0.5 to 10.0.1.10:8080");
    assert_eq!(found(&explanation, Object::NextHop).text, "nobody answers for 10.0.1.10");
    assert_eq!(found(&explanation, Object::Hook).text, "XDP forwards it from veth-c to eth7");
}

#[test]
fn a_listener_that_is_not_there_brings_up_those_that_are() {
    let trace = Trace { verdict: Verdict::Drop(Counter::NoListener).to_bits(), ..Trace::question(false) };
    let explanation = ask(&state(), &question(SocketAddr::new(ENDPOINT.into(), 443)), Some(&entered()), Some(trace));
    assert_eq!(found(&explanation, Object::Listener).text, "none for tcp 443; there are: TCP 80");
    assert_eq!(explanation.decided_by, Object::Listener);
}

#[test]
fn an_address_of_nobody_brings_up_the_endpoints() {
    let trace = Trace { verdict: Verdict::Drop(Counter::NotOurs).to_bits(), ..Trace::question(false) };
    let to = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 99).into(), 80);
    let explanation = ask(&state(), &question(to), Some(&entered()), Some(trace));
    let text = "no endpoint (any more) and no load balancer in VPC 'consumer'; its endpoints: 10.0.0.50";
    assert_eq!(found(&explanation, Object::Address).text, text);
    assert_eq!(explanation.reason.as_deref(), Some("not_ours"));
}

#[test]
fn without_a_port_no_packet_is_needed() {
    let mut state = state();
    let to = question(SocketAddr::new(ENDPOINT.into(), 80));
    let explanation = ask(&state, &to, None, None);
    assert_eq!(explanation.verdict, "no port of VPC 'consumer' is attached, so the datapath sees none of its packets");
    state.ports = Default::default();
    let explanation = ask(&state, &to, None, None);
    assert_eq!((explanation.decided_by, explanation.reason), (Object::Port, None));
    assert_eq!(explanation.verdict, "VPC 'consumer' has no port, so the datapath sees none of its packets");
}

#[test]
fn what_the_kernel_does_not_know_yet_is_said() {
    let trace = Trace { verdict: Verdict::Drop(Counter::NotOurs).to_bits(), ..Trace::question(false) };
    let explanation = ask(&state(), &question(SocketAddr::new(ENDPOINT.into(), 80)), Some(&entered()), Some(trace));
    assert!(explanation.way_out.expect("a way out").contains("ask again"));
}

#[test]
fn an_endpoint_that_waits_or_was_rejected_decides() {
    let mut state = state();
    let trace = Trace { verdict: Verdict::Drop(Counter::NotOurs).to_bits(), ..Trace::question(false) };
    for waits in [EndpointState::PendingAcceptance, EndpointState::Rejected, EndpointState::Expired] {
        let mut endpoint = state.endpoints.values().next().expect("the endpoint").clone();
        endpoint.state = waits;
        state.put(Record::Endpoint(endpoint));
        let explanation = ask(&state, &question(SocketAddr::new(ENDPOINT.into(), 80)), Some(&entered()), Some(trace));
        assert_eq!(explanation.decided_by, Object::Endpoint);
        assert!(explanation.verdict.contains(&waits.to_string()), "{}", explanation.verdict);
    }
}

#[test]
fn the_source_that_the_target_sees_is_named_with_its_reason() {
    for (counter, sees, why) in [
        (Counter::ClientIpPreserved, "10.0.1.10, the client itself", "the target sees 10.0.1.10:50000"),
        (Counter::ClientIpSamePort, "10.0.0.5", "client and target are behind one port"),
        (Counter::ClientIpCollision, "10.0.0.5", "another flow to the target shows the client's address and port"),
    ] {
        let mut trace = Trace {
            verdict: Trace::FORWARD,
            found: Trace::FRONTEND | Trace::TARGET,
            target: 3,
            out_ifindex: 7,
            ..Trace::question(false)
        };
        trace.counters[counter as usize / 64] |= 1 << (counter as u32 % 64);
        let explanation = ask(&state(), &question(SocketAddr::new(ENDPOINT.into(), 80)), Some(&entered()), Some(trace));
        let verdict = format!("it goes to 10.0.1.10:8080, which sees {sees} as its source, through eth7");
        assert_eq!(explanation.verdict, verdict);
        assert!(found(&explanation, Object::Source).text.contains(why), "{explanation:?}");
        let pool = explanation.findings.iter().any(|finding| finding.object == Object::Pool);
        assert_eq!(pool, counter != Counter::ClientIpPreserved, "a client's own port is none of the pool's");
    }
}
