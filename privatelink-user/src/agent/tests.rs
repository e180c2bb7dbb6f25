//! The reconciler over a dataplane in memory: convergence from anything, after failures, without touching what did not
//! change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use jiff::Timestamp;
use privatelink_ebpf::abi::{
    Ip4, Ip6, L4Port, Mac, Proto, VpcIndex,
    flow::{FlowState, Meta, Slot},
    limit::{Budget, EndpointBudget},
    security::Policy,
    service::{
        Address, AddressKey, Alias, AliasKey, Frontend, FrontendKey, Listener as ListenerRecord, ListenerFlags, Parted,
        Port as PortRecord, PortFlags, Range, RangeKey, Target as TargetRecord, TargetFlags,
    },
};
use proptest::prelude::*;

use super::{
    desired, host_port,
    index::{Busy, TargetKey},
    plan::{CheckKey, Hop, HopKey, HostPort, Plan},
    reconcile::{Inputs, Memory, PassError, converge},
    ring,
};
use crate::{
    dataplane::{AddressAt, Capacity, Dataplane as _, FrontendAt, Installed, InstalledPolicy, Op, Tables, fake::Fake},
    health::state::{Checked, Failure},
    model::{
        Endpoint, EndpointService, EndpointState, Forward, HealthCheck, HealthCheckProtocol, HealthThreshold, Hook,
        Listener, ListenerAttributes, ListenerPorts, LoadBalancer, LoadBalancerAttributes, Port, Protocol, Record,
        SecurityGroups, ServiceName, State, Target, TargetAddress, TargetGroup, TargetGroupAttributes, TargetGroupId,
        Vpc,
    },
    net::links::{Link, LinkKind, Links},
};

mod consent;
mod forward;
mod memory;
mod relay;
mod resolver;
mod scale;
mod security;

const CAPACITY: Capacity = Capacity {
    ports: 64,
    listeners: 256,
    endpoints: 64,
    targets: 128,
    rings: 40_000,
    policies: 64,
    source_bounds: 400,
    buckets: 16,
};
/// The last octet of an IPv4 address.
fn last(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => panic!("{ip}"),
    }
}

fn host_port() -> HostPort {
    HostPort::new(9, host_port::DEFAULT_PREFIX, Ipv4Addr::new(100, 64, 0, 2))
}

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

fn hex(number: usize, digits: usize) -> String {
    format!("{number:0digits$x}")
}

fn arn(kind: &str, rest: &str) -> String {
    format!("arn:aws:elasticloadbalancing:us-east-1:123456789012:{kind}/{rest}")
}

fn group_id(number: usize) -> TargetGroupId {
    arn("targetgroup", &format!("group-{number}/{}", hex(number, 16))).parse().expect("an ARN")
}

/// One group: what is registered, and how.
#[derive(Clone, Debug)]
struct GroupShape {
    /// Last octet of the target → (health, draining).
    targets: BTreeMap<u8, (Shape, bool)>,
    nodes: u8,
    listeners: u8,
    endpoints: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    New,
    Healthy,
    Unhealthy,
}

impl From<Shape> for Checked {
    fn from(shape: Shape) -> Self {
        match shape {
            Shape::New => Self::NEW,
            Shape::Healthy => Self::Healthy { failed: 0 },
            Shape::Unhealthy => Self::Unhealthy { passed: 0, last: Failure::Refused, since: 0 },
        }
    }
}

fn shapes() -> impl Strategy<Value = Vec<GroupShape>> {
    let health = prop_oneof![Just(Shape::New), Just(Shape::Healthy), Just(Shape::Unhealthy)];
    let group = (prop::collection::btree_map(1u8..30, (health, any::<bool>()), 0..6), 1u8..3, 0u8..3, 0u8..3)
        .prop_map(|(targets, nodes, listeners, endpoints)| GroupShape { targets, nodes, listeners, endpoints });
    prop::collection::vec(group, 0..4)
}

fn vpc(number: u16) -> Vpc {
    Vpc {
        id: format!("vpc-{}", hex(number.into(), 17)).parse().expect("an id"),
        owner: crate::model::Owner::example(),
        name: format!("net-{number}").parse().expect("a name"),
        cidr: "10.0.0.0/16".parse().expect("a range"),
        ipv6: None,
        gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
        index: crate::model::VpcIndex::new(number).expect("an index"),
        attributes: Default::default(),
        created_at: now(),
    }
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        mac: Some([2, 0, 0, 0, 0, ifindex as u8]),
        mtu: 1500,
        kind: LinkKind::Veth { peer: Some(1), elsewhere: true },
        up: true,
        carrier: true,
        xdp: None,
        xdp_features: None,
    }
}

/// Of a load balancer's listeners: the second has several.
fn ports(listener: u8) -> ListenerPorts {
    match listener {
        1 => ListenerPorts::new(8_001, 8_009),
        listener => ListenerPorts::new(8_000 + u16::from(listener), 8_000 + u16::from(listener)),
    }
    .expect("ports")
}

/// A world with a provider VPC (1), a consumer VPC (2), a port each, and a group with its own load balancer for each
/// shape.
fn inputs(shapes: &[GroupShape]) -> Inputs {
    let mut state = State::default();
    let mut health = BTreeMap::new();
    let mut next_hops = BTreeMap::new();
    for number in [1, 2] {
        let vpc = vpc(number);
        state.put(Record::Port(Port {
            interface: format!("port{number}").parse().expect("a name"),
            vpc: vpc.id.clone(),
            hook: Hook::Auto,
            shared: false,
            created_at: now(),
        }));
        state.put(Record::Vpc(vpc));
    }
    for (number, shape) in shapes.iter().enumerate() {
        let group = group_id(number);
        let targets = shape.targets.iter().map(|(octet, (checked, draining))| {
            let address = TargetAddress { ip: Ipv4Addr::new(10, 0, 1, *octet).into(), port: 80 };
            health.insert(CheckKey { group: group.clone(), target: address }, (*checked).into());
            let hop = Hop { ifindex: 1, mac: [2, 1, 0, 0, 0, *octet] };
            next_hops.insert(HopKey { vpc: VpcIndex(1), ip: address.ip }, hop);
            (
                address,
                Target {
                    address,
                    instance: None,
                    dns_name: None,
                    registered_at: now(),
                    draining_since: draining.then(now),
                },
            )
        });
        state.put(Record::TargetGroup(TargetGroup {
            target_type: Default::default(),
            id: group.clone(),
            name: format!("group-{number}").parse().expect("a name"),
            vpc: vpc(1).id,
            ip_address_type: Default::default(),
            protocol: Protocol::TcpUdp.into(),
            load_balancer: None,
            port: 80,
            health_check: HealthCheck::defaults(HealthCheckProtocol::Tcp),
            attributes: TargetGroupAttributes::default(),
            dns_targets: BTreeSet::new(),
            targets: targets.collect(),
            created_at: now(),
        }));
        let lb = arn("loadbalancer/net", &format!("lb-{number}/{}", hex(number, 16)));
        let lb: crate::model::LoadBalancerId = lb.parse().expect("an ARN");
        state.put(Record::LoadBalancer(LoadBalancer {
            id: lb.clone(),
            name: format!("lb-{number}").parse().expect("a name"),
            vpc: vpc(1).id,
            addresses: (0..shape.nodes).map(|node| Ipv4Addr::new(10, 0, 2 + node, number as u8 + 1)).collect(),
            ipv6_addresses: Vec::new(),
            secondary_addresses: Vec::new(),
            scheme: Default::default(),
            attributes: LoadBalancerAttributes::default(),
            security_groups: SecurityGroups::default(),
            enforce_on_private_link: true,
            created_at: now(),
        }));
        for port in 0..shape.listeners {
            let id = arn("listener/net", &format!("lb-{number}/{}/{}", hex(number, 16), hex(port.into(), 16)));
            state.put(Record::Listener(Listener {
                id: id.parse().expect("an ARN"),
                load_balancer: lb.clone(),
                protocol: [Protocol::Tcp, Protocol::TcpUdp, Protocol::Udp][usize::from(port) % 3],
                port: ports(port),
                forward: Forward::to(group.clone()),
                tls: None,
                attributes: ListenerAttributes::default(),
                created_at: now(),
            }));
        }
        let service: crate::model::EndpointServiceId = format!("vpce-svc-{}", hex(number, 17)).parse().expect("an id");
        state.put(Record::EndpointService(EndpointService {
            service_name: ServiceName::new(&"us-east-1".parse().expect("a region"), &service),
            id: service.clone(),
            owner: crate::model::Owner::example(),
            alias: None,
            zones: crate::model::Zone::ALL.into(),
            ipv4_only: false,
            supported_regions: Default::default(),
            load_balancers: vec![lb],
            acceptance_required: false,
            principals: BTreeSet::new(),
            consumers: Default::default(),
            owned_load_balancer: None,
            private_dns: None,
            limits: Default::default(),
            payer: Default::default(),
            created_at: now(),
        }));
        for endpoint in 0..shape.endpoints {
            state.put(Record::Endpoint(Endpoint {
                id: format!("vpce-{}", hex(number * 16 + usize::from(endpoint), 17)).parse().expect("an id"),
                owner: crate::model::Owner::example(),
                service: service.clone(),
                vpc: vpc(2).id,
                ipv6_addresses: Vec::new(),
                address: Ipv4Addr::new(10, 0, 3 + endpoint, number as u8 + 1),
                // Every other endpoint has an address in a second subnet.
                further_addresses: (endpoint % 2 == 1)
                    .then(|| Ipv4Addr::new(10, 0, 6 + endpoint, number as u8 + 1))
                    .into_iter()
                    .collect(),
                state: EndpointState::Available,
                policy: None,
                security_groups: SecurityGroups::default(),
                private_dns: None,
                limits: Default::default(),
                payer: Default::default(),
                private_dns_on_acceptance: false,
                dns_record_ip_type: None,
                service_region: None,
                aliases: Default::default(),
                created_at: now(),
            }));
        }
    }
    let links: Links = [link(1, "port1"), link(2, "port2"), link(9, "plp")].map(|link| (link.ifindex, link)).into();
    Inputs {
        state: Arc::new(state),
        links: Arc::new(links),
        host_port: Some(host_port()),
        health,
        next_hops,
        ..Inputs::default()
    }
}

/// Contents that nobody would write: records that contradict each other and point anywhere.
fn garbage() -> impl Strategy<Value = Tables> {
    let ip = || (0u8..4, 0u8..30).prop_map(|(net, host)| Ipv4Addr::new(10, 0, net, host));
    let vpc = || prop_oneof![Just(1u16), Just(2), Just(7), Just(u16::MAX)].prop_map(VpcIndex);
    let ports = prop::collection::btree_map(
        1u32..64,
        (1u16..9).prop_map(|vpc| PortRecord {
            vpc: VpcIndex(vpc),
            flags: PortFlags::SHARED,
            mtu: 9000,
            mac: Mac([1; 6]),
            _pad: [0; 2],
        }),
        0..4,
    );
    let addresses = prop::collection::btree_map(
        (vpc(), ip()).prop_map(|(vpc, ip)| AddressKey::new(vpc, ip.into())),
        (1u32..9).prop_map(|kind| Address { kind }),
        0..10,
    );
    let frontends = prop::collection::btree_map(
        (vpc(), ip(), 8_000u16..8_003)
            .prop_map(|(vpc, ip, port)| FrontendKey::new(vpc, ip.into(), L4Port::new(port), Proto::Tcp)),
        (0u32..300, 0u16..80).prop_map(|(listener, endpoint)| Frontend { listener, endpoint, ..Frontend::default() }),
        0..10,
    );
    let listeners = prop::collection::btree_map(
        0u32..256,
        (0u32..50_000, 0u32..3_000, 1u16..400).prop_map(|(ring_base, ring_len, idle_s)| Installed {
            record: ListenerRecord { ring_base, ring_len, idle_s, ..ListenerRecord::default() },
            ring: Arc::new([]),
        }),
        0..10,
    );
    let targets = prop::collection::btree_map(
        0u32..64,
        (vpc(), ip(), ip(), 78u16..82, any::<u16>(), 0u16..4, any::<bool>()).prop_map(
            |(vpc, ip, node, port, generation, flags, udp)| TargetRecord {
                ip: ip.into(),
                node_ip: node.into(),
                port: L4Port::new(port),
                vpc,
                generation,
                flags: TargetFlags(flags),
                ifindex: 3,
                pool: 5,
                mac: Mac([7; 6]),
                proto: if udp { Proto::Udp } else { Proto::Tcp }.number(),
                _pad: 0,
                ip6: Ip6::UNSPECIFIED,
                node_ip6: Ip6::UNSPECIFIED,
            },
        ),
        0..20,
    );
    let budgets = prop::collection::btree_map(1u16..60, (1u32..9).prop_map(EndpointBudget::half_open), 0..6);
    (ports, prop::collection::btree_set(1u32..64, 0..4), addresses, frontends, listeners, targets, budgets).prop_map(
        |(ports, xdp_ports, addresses, frontends, listeners, targets, endpoints)| Tables {
            ports,
            xdp_ports,
            addresses: addresses.into_iter().map(|(key, address)| (AddressAt::from(key), address)).collect(),
            frontends: frontends.into_iter().map(|(key, frontend)| (FrontendAt::from(key), frontend)).collect(),
            aliases: [((AliasKey::new(VpcIndex(1), Ip4::UNSPECIFIED), 8), Alias { endpoint: Ip4::UNSPECIFIED })].into(),
            ranges: [(
                (RangeKey::new(VpcIndex(1), Ip4::UNSPECIFIED, L4Port::new(4), 6), 14),
                Range::new(L4Port::new(9)),
            )]
            .into(),
            parted: [Parted { listener: 1, target: 1 }, Parted { listener: 77, target: 3 }].into(),
            policies: garbage_policies(),
            listeners,
            targets,
            next_nodes: [(1, 2), (3, 3)].into(),
            vpcs: [(VpcIndex(7), Budget { half_open: 1 })].into(),
            endpoints,
            endpoint_ids: BTreeMap::new(),
        },
    )
}

/// Policies that point anywhere.
fn garbage_policies() -> BTreeMap<u32, InstalledPolicy> {
    let policy =
        |base, len, established| InstalledPolicy { record: Policy::new(base, len, established), bounds: Arc::new([]) };
    [(0, policy(1, 5, true)), (3, policy(300, 500, false)), (60, policy(0, 1 << 30, true))].into()
}

fn pass(fake: &mut Fake, inputs: &Inputs) -> Result<(Plan, usize), PassError> {
    converge(fake, inputs, &mut Memory::default())
}

/// What must hold of the tables whatever they started from.
fn check(fake: &Fake, inputs: &Inputs, plan: &Plan) -> Result<(), TestCaseError> {
    let tables = fake.read().expect("the fake reads");
    for (key, frontend) in &tables.frontends {
        let listener = tables.listeners.get(&frontend.listener);
        prop_assert!(listener.is_some(), "{key:?} leads to listener {}, which is not there", frontend.listener);
        let address = AddressAt::new(key.vpc, key.ip);
        prop_assert!(tables.addresses.contains_key(&address), "{key:?} has no owned address");
    }
    for installed in tables.listeners.values() {
        prop_assert_eq!(installed.ring.len(), installed.record.ring_len as usize);
        for index in installed.ring.iter() {
            let record = tables.targets.get(index);
            prop_assert!(
                record.is_some_and(|record| !record.flags.has(TargetFlags::RETIRED)),
                "a ring names target {index}, which is {record:?}"
            );
        }
    }
    for ((id, proto), index) in &plan.listeners {
        let listener = &inputs.state.listeners[id];
        let group = &inputs.state.target_groups[listener.forward.groups().next().expect("a group")];
        let lb = &inputs.state.load_balancers[&listener.load_balancer];
        let live = || group.targets.values().filter(|target| target.draining_since.is_none());
        let healthy = |target: &&Target| {
            let key = CheckKey { group: group.id.clone(), target: target.address };
            inputs.health[&key].takes_traffic()
        };
        let expected: BTreeSet<TargetKey> = if live().any(|target| healthy(&target)) {
            live().filter(healthy).collect::<Vec<_>>()
        } else {
            live().collect()
        }
        .into_iter()
        .flat_map(|target| {
            lb.addresses.iter().map(|node| TargetKey {
                vpc: VpcIndex(1),
                node: (*node).into(),
                ip: target.address.ip,
                port: listener.port.of_target(target.address.port),
                proto: *proto,
            })
        })
        .collect();
        let ring = &tables.listeners[index].ring;
        let found: BTreeSet<TargetKey> =
            ring.iter().map(|index| TargetKey::of(&tables.targets[index]).expect("a live record")).collect();
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(ring.len(), ring::slots(expected.len()) as usize);
    }
    for check in plan.checks.values() {
        let address = check.address.expect("the host port is there");
        let key = FrontendAt::new(VpcIndex::HOST, address.ip(), address.port(), Proto::Tcp);
        prop_assert!(tables.frontends.contains_key(&key));
    }
    prop_assert_eq!(tables.ports.keys().copied().collect::<Vec<_>>(), [1, 2, 9]);
    for (key, index) in &plan.targets {
        prop_assert_eq!(TargetKey::of(&tables.targets[index]), Some(*key));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// One pass from anything leads to what is wanted, and the next finds nothing to do.
    #[test]
    fn converges_from_anything_in_one_pass(shapes in shapes(), start in garbage()) {
        let inputs = inputs(&shapes);
        let mut fake = Fake::with(CAPACITY, start);
        let (plan, _) = pass(&mut fake, &inputs).expect("no failure was asked for");
        check(&fake, &inputs, &plan)?;
        let (again, operations) = pass(&mut fake, &inputs).expect("no failure was asked for");
        prop_assert_eq!(operations, 0, "the second pass did {:?}", fake.log);
        prop_assert_eq!(again, plan);
    }

    /// A pass that fails anywhere is finished by the next.
    #[test]
    fn a_failure_half_way_converges_on_the_next_pass(
        shapes in shapes(),
        start in garbage(),
        fail_after in 0usize..40,
    ) {
        let inputs = inputs(&shapes);
        let mut fake = Fake::with(CAPACITY, start);
        fake.fail_after = Some(fail_after);
        let first = pass(&mut fake, &inputs);
        fake.fail_after = None;
        if first.is_err() {
            prop_assert!(matches!(first, Err(PassError::Dataplane(_))));
        }
        let (plan, _) = pass(&mut fake, &inputs).expect("no failure was asked for");
        check(&fake, &inputs, &plan)?;
        prop_assert_eq!(pass(&mut fake, &inputs).expect("no failure was asked for").1, 0);
    }

    /// At no point between two operations does a frontend lead to a half-written ring or a ring to a retired target.
    #[test]
    fn no_packet_sees_half_a_change(before in shapes(), after in shapes()) {
        let (old, new) = (inputs(&before), inputs(&after));
        let mut fake = Fake::new(CAPACITY);
        pass(&mut fake, &old).expect("no failure was asked for");
        let mut allowed: BTreeSet<Vec<u32>> = rings(&fake);
        let mut finished = Fake::with(CAPACITY, fake.read().expect("the fake reads"));
        pass(&mut finished, &new).expect("no failure was asked for");
        allowed.extend(rings(&finished));
        for steps in 1.. {
            let mut stepped = Fake::with(CAPACITY, fake.read().expect("the fake reads"));
            stepped.fail_after = Some(steps);
            let done = pass(&mut stepped, &new).is_ok();
            for ring in rings(&stepped) {
                prop_assert!(allowed.contains(&ring), "a ring of {} slots is neither old nor new", ring.len());
            }
            let tables = stepped.read().expect("the fake reads");
            for installed in tables.listeners.values() {
                for index in installed.ring.iter() {
                    let record = tables.targets.get(index);
                    prop_assert!(record.is_some_and(|record| !record.flags.has(TargetFlags::RETIRED)));
                }
            }
            if done {
                break;
            }
        }
    }

    /// A change of one group touches no index of another.
    #[test]
    fn what_did_not_change_is_not_touched(shapes in shapes(), health in 0u8..3) {
        prop_assume!(shapes.len() >= 2);
        let mut fake = Fake::new(CAPACITY);
        let (plan, _) = pass(&mut fake, &inputs(&shapes)).expect("no failure was asked for");
        fake.log.clear();
        let mut changed = shapes.clone();
        let shape = match health {
            0 => Shape::New,
            1 => Shape::Healthy,
            _ => Shape::Unhealthy,
        };
        changed[0].targets.insert(29, (shape, false));
        let inputs = inputs(&changed);
        let (after, _) = pass(&mut fake, &inputs).expect("no failure was asked for");
        for (key, index) in &plan.targets {
            prop_assert_eq!(after.targets.get(key), Some(index));
        }
        for (id, index) in &plan.listeners {
            prop_assert_eq!(after.listeners.get(id), Some(index));
        }
        let others: BTreeSet<u32> = inputs
            .state
            .listeners
            .values()
            .filter(|listener| !listener.forward.weights.contains_key(&group_id(0)))
            .flat_map(|listener| {
                desired::transports(listener.protocol).map(|proto| plan.listeners[&(listener.id.clone(), proto)])
            })
            .collect();
        let old_targets: BTreeSet<u32> = plan.targets.values().copied().collect();
        for op in &fake.log {
            match op {
                Op::PutListener(index, _) | Op::RemoveListener(index) | Op::ResetListenerStats(index) => {
                    prop_assert!(!others.contains(index), "{op:?} touches another group's listener");
                }
                Op::PutTarget(index, _)
                | Op::PutNextNode(index, _)
                | Op::RemoveNextNode(index)
                | Op::ResetPool(index)
                | Op::ResetTargetStats(index) => {
                    prop_assert!(!old_targets.contains(index), "{op:?} touches a target that did not change");
                }
                Op::WriteRing { .. } | Op::PutFrontend(..) | Op::PutAddress(..) => {}
                Op::PutPort(..) | Op::RemovePort(_) | Op::PutXdpPort(_) | Op::RemoveXdpPort(_) | Op::RemoveAddress(_)
                | Op::RemoveFrontend(_) | Op::PutVpc(..) | Op::RemoveVpc(_) | Op::PutEndpoint(..) | Op::PutEndpointId(..)
                | Op::ResetEndpointStats(_) | Op::WriteBounds { .. } | Op::PutPolicy(..) | Op::RemovePolicy(_)
                | Op::PutParted(_) | Op::RemoveParted(_) | Op::PutAlias(..) | Op::RemoveAlias(..)
                | Op::PutRange(..) | Op::RemoveRange(..) => {
                    prop_assert!(false, "{op:?} has nothing to do with the change");
                }
            }
        }
    }
}

fn rings(fake: &Fake) -> BTreeSet<Vec<u32>> {
    let tables = fake.read().expect("the fake reads");
    tables.listeners.values().map(|installed| installed.ring.to_vec()).collect()
}

fn one_group(targets: &[(u8, Shape, bool)]) -> Vec<GroupShape> {
    let targets = targets.iter().map(|(octet, health, draining)| (*octet, (*health, *draining))).collect();
    vec![GroupShape { targets, nodes: 1, listeners: 1, endpoints: 1 }]
}

fn key(octet: u8) -> TargetKey {
    TargetKey {
        vpc: VpcIndex(1),
        node: Ipv4Addr::new(10, 0, 2, 1).into(),
        ip: Ipv4Addr::new(10, 0, 1, octet).into(),
        port: 80,
        proto: Proto::Tcp,
    }
}

fn record(fake: &Fake, plan: &Plan, octet: u8) -> TargetRecord {
    fake.read().expect("the fake reads").targets[&plan.targets[&key(octet)]]
}

#[test]
fn a_removed_target_is_retired_with_a_new_generation_and_comes_back_at_its_index() {
    let mut fake = Fake::new(CAPACITY);
    let both = inputs(&one_group(&[(1, Shape::Healthy, false), (2, Shape::Healthy, false)]));
    let (plan, _) = pass(&mut fake, &both).expect("no failure was asked for");
    let before = record(&fake, &plan, 2);
    let mut one = inputs(&one_group(&[(1, Shape::Healthy, false)]));
    one.busy = Busy { targets: [plan.targets[&key(2)]].into(), endpoints: BTreeSet::new() };
    pass(&mut fake, &one).expect("no failure was asked for");
    let retired = record(&fake, &plan, 2);
    assert_eq!(retired.generation, before.generation + 1);
    assert!(retired.flags.has(TargetFlags::RETIRED));
    // A stranger does not get the index while flows refer to it; the same target does.
    let mut stranger = inputs(&one_group(&[(1, Shape::Healthy, false), (3, Shape::Healthy, false)]));
    stranger.busy = one.busy.clone();
    let (with_stranger, _) = pass(&mut fake, &stranger).expect("no failure was asked for");
    assert_ne!(with_stranger.targets[&key(3)], plan.targets[&key(2)]);
    let (again, _) = pass(&mut fake, &both).expect("no failure was asked for");
    assert_eq!(again.targets[&key(2)], plan.targets[&key(2)]);
    assert_eq!(record(&fake, &again, 2).generation, retired.generation);
}

#[test]
fn a_draining_target_leaves_the_ring_and_keeps_its_generation() {
    let mut fake = Fake::new(CAPACITY);
    let (plan, _) = pass(&mut fake, &inputs(&one_group(&[(1, Shape::Healthy, false), (2, Shape::Healthy, false)])))
        .expect("no failure");
    let before = record(&fake, &plan, 2);
    let draining = inputs(&one_group(&[(1, Shape::Healthy, false), (2, Shape::Healthy, true)]));
    let (plan, _) = pass(&mut fake, &draining).expect("no failure was asked for");
    assert_eq!(record(&fake, &plan, 2), before);
    let ring = &fake.read().expect("the fake reads").listeners[plan.listeners.values().next().expect("one")].ring;
    assert_eq!(&**ring, [plan.targets[&key(1)]]);
    // Its delay ends, and the group does not ask for the end of what is left: the flows live on.
    let mut gone = inputs(&one_group(&[(1, Shape::Healthy, false)]));
    gone.lingering = plan.lingering.clone();
    pass(&mut fake, &gone).expect("no failure was asked for");
    let retired = record(&fake, &plan, 2);
    assert_eq!(retired.generation, before.generation);
    assert!(retired.flags.has(TargetFlags::RETIRED) && retired.flags.has(TargetFlags::RESOLVED));
}

#[test]
fn flows_of_an_unhealthy_target_end_once_and_not_in_fail_open() {
    let mut fake = Fake::new(CAPACITY);
    let (plan, _) = pass(&mut fake, &inputs(&one_group(&[(1, Shape::Healthy, false), (2, Shape::Healthy, false)])))
        .expect("no failure");
    let before = record(&fake, &plan, 2).generation;
    let check =
        CheckKey { group: group_id(0), target: TargetAddress { ip: Ipv4Addr::new(10, 0, 1, 2).into(), port: 80 } };
    let mut one_down = inputs(&one_group(&[(1, Shape::Healthy, false), (2, Shape::Unhealthy, false)]));
    one_down.unhealthy = [check.clone()].into();
    let (plan, _) = pass(&mut fake, &one_down).expect("no failure was asked for");
    assert_eq!(record(&fake, &plan, 2).generation, before + 1);
    one_down.unhealthy.clear();
    pass(&mut fake, &one_down).expect("no failure was asked for");
    assert_eq!(record(&fake, &plan, 2).generation, before + 1);

    let mut all_down = inputs(&one_group(&[(1, Shape::Unhealthy, false), (2, Shape::Unhealthy, false)]));
    all_down.unhealthy = [check].into();
    let (plan, _) = pass(&mut fake, &all_down).expect("no failure was asked for");
    assert_eq!(record(&fake, &plan, 2).generation, before + 1);
    assert!(plan.fail_open.contains(&group_id(0)));
    let ring = &fake.read().expect("the fake reads").listeners[plan.listeners.values().next().expect("one")].ring;
    assert_eq!(ring.iter().collect::<BTreeSet<_>>().len(), 2);
}

/// Three targets, two of which must be healthy: with one, all are used, and flows are counted as led to unhealthy ones.
#[test]
fn a_threshold_opens_a_group_to_all_its_targets_and_closes_it_again() {
    let shape = |up: [bool; 3]| {
        let targets =
            (1..).zip(up).map(|(octet, up)| (octet, (if up { Shape::Healthy } else { Shape::Unhealthy }, false)));
        GroupShape { targets: targets.collect(), nodes: 1, listeners: 1, endpoints: 0 }
    };
    let with_threshold = |up| {
        let mut inputs = inputs(&[shape(up)]);
        let state = Arc::make_mut(&mut inputs.state);
        for group in state.target_groups.values_mut() {
            group.attributes.unhealthy_state_routing = HealthThreshold { count: Some(2), percentage: None };
        }
        inputs
    };
    let mut fake = Fake::new(CAPACITY);
    let mut used = |up| {
        let inputs = with_threshold(up);
        let (plan, _) = pass(&mut fake, &inputs).expect("room for all");
        let installed = &fake.read().expect("the fake reads").listeners[plan.listeners.values().next().expect("one")];
        let targets = installed.ring.iter().collect::<BTreeSet<_>>().len();
        (targets, installed.record.flags.has(ListenerFlags::FAIL_OPEN))
    };
    assert_eq!(used([true, true, true]), (3, false));
    assert_eq!(used([true, true, false]), (2, false));
    assert_eq!(used([true, false, false]), (3, true));
    assert_eq!(used([true, true, false]), (2, false));
}

/// The flows of a target that has become unhealthy end with the pass that says so, and no others.
#[test]
fn a_pass_ends_the_flows_that_it_takes_the_target_from() {
    let shape = |second| GroupShape {
        targets: [(1, (Shape::Healthy, false)), (2, (second, false))].into(),
        nodes: 1,
        listeners: 1,
        endpoints: 0,
    };
    let mut fake = Fake::new(CAPACITY);
    let (plan, _) = pass(&mut fake, &inputs(&[shape(Shape::Healthy)])).expect("room for all");
    let index = |octet| *plan.targets.iter().find(|(key, _)| last(key.ip) == octet).expect("a target").1;
    for octet in [1, 2] {
        let meta = Meta { version: 1, state: FlowState::Established, translated: false, flags: 0, idle_s: 350 };
        fake.flows.push(Slot { meta: meta.pack(), target: index(octet), ..Slot::FREE });
    }
    pass(&mut fake, &inputs(&[shape(Shape::Healthy)])).expect("room for all");
    assert_eq!((fake.flows.len(), fake.ended), (2, 0));
    let mut down = inputs(&[shape(Shape::Unhealthy)]);
    down.unhealthy = down.health.keys().filter(|key| last(key.target.ip) == 2).cloned().collect();
    pass(&mut fake, &down).expect("room for all");
    assert_eq!((fake.flows.len(), fake.ended), (1, 1));
    assert_eq!(fake.flows[0].target, index(1));
}

#[test]
fn an_endpoint_that_is_gone_is_ended_and_its_index_is_the_last_to_be_used_again() {
    let mut fake = Fake::new(CAPACITY);
    let with = inputs(&one_group(&[(1, Shape::Healthy, false)]));
    let (plan, _) = pass(&mut fake, &with).expect("no failure was asked for");
    let index = *plan.endpoints.values().next().expect("one endpoint");
    let mut shapes = one_group(&[(1, Shape::Healthy, false)]);
    shapes[0].endpoints = 0;
    pass(&mut fake, &inputs(&shapes)).expect("no failure was asked for");
    assert!(fake.read().expect("the fake reads").endpoints[&index].ended());
    let (again, _) = pass(&mut fake, &with).expect("no failure was asked for");
    assert_ne!(again.endpoints.values().next(), Some(&index));

    // With one index only, it is used again, but not while flows refer to it.
    let capacity = Capacity { endpoints: 2, ..CAPACITY };
    let mut fake = Fake::new(capacity);
    pass(&mut fake, &with).expect("no failure was asked for");
    pass(&mut fake, &inputs(&shapes)).expect("no failure was asked for");
    let mut busy = with.clone();
    busy.busy.endpoints.insert(1);
    let (plan, _) = pass(&mut fake, &busy).expect("no failure was asked for");
    assert!(plan.endpoints.is_empty() && plan.full.contains("ENDPOINTS"));
    let (plan, _) = pass(&mut fake, &with).expect("no failure was asked for");
    assert_eq!(plan.endpoints.values().collect::<Vec<_>>(), [&1]);
}

#[test]
fn more_targets_than_room_leave_the_rest_working() {
    let capacity = Capacity { targets: 4, ..CAPACITY };
    let mut fake = Fake::new(capacity);
    let targets: Vec<_> = (1..=8).map(|octet| (octet, Shape::Healthy, false)).collect();
    let (plan, _) = pass(&mut fake, &inputs(&one_group(&targets))).expect("no failure was asked for");
    assert!(plan.full.contains("TARGETS"));
    assert_eq!(plan.targets.len(), 3);
}

#[test]
fn an_endpoint_owns_its_address_from_the_start_and_has_frontends_only_while_it_is_available() {
    let mut shape = one_group(&[(10, Shape::Healthy, false)]);
    shape[0].listeners = 1;
    shape[0].endpoints = 1;
    let mut inputs = inputs(&shape);
    let mut fake = Fake::new(CAPACITY);
    let endpoint = inputs.state.endpoints.values().next().expect("an endpoint").clone();
    let mut carries = |state: EndpointState, inputs: &mut Inputs| {
        let mut changed = State::clone(&inputs.state);
        changed.put(Record::Endpoint(Endpoint { state, ..endpoint.clone() }));
        inputs.state = Arc::new(changed);
        pass(&mut fake, inputs).expect("a pass");
        let tables = fake.read().expect("the fake reads");
        let address = AddressAt::new(VpcIndex(2), endpoint.address);
        assert!(tables.addresses.contains_key(&address), "{state}");
        let frontends: Vec<_> = tables.frontends.iter().filter(|(key, _)| key.ip == endpoint.address).collect();
        let live = tables.endpoints.values().filter(|budget| !budget.ended()).count();
        (frontends.len(), live)
    };
    assert_eq!(carries(EndpointState::PendingAcceptance, &mut inputs), (0, 0));
    assert_eq!(carries(EndpointState::Available, &mut inputs), (1, 1));
    assert_eq!(carries(EndpointState::Rejected, &mut inputs), (0, 0), "its flows are ended");
    assert_eq!(carries(EndpointState::Available, &mut inputs), (1, 1));
}
