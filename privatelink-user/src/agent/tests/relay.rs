//! TLS listeners, from the state to what the kernel finds and what the relay is told.

use std::net::SocketAddrV4;

use privatelink_ebpf::abi::service::RingEntry;

use super::*;
use crate::{
    agent::relay::{self, Doors, Known, Place},
    model::{Certificate, CertificateId, IpFamily, ListenerId, TlsSettings},
    tls::relay::wire::{Config, Device, Group, Status},
};

const RELAY: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
const DOOR: u16 = 40_443;

fn certificate() -> CertificateId {
    "arn:aws:acm:us-east-1:123456789012:certificate/01234567-89ab-cdef-0123-456789abcdef".parse().expect("an ARN")
}

/// One group behind one TLS listener, which the relay serves if `open`.
fn tls(targets: &[(u8, Shape, bool)], open: bool) -> (Inputs, ListenerId) {
    let mut inputs = inputs(&one_group(targets));
    let mut links = Links::clone(&inputs.links);
    for (ifindex, name, peer) in [(9, "plp", 10), (10, "plh", 9)] {
        let kind = LinkKind::Veth { peer: Some(peer), elsewhere: false };
        links.insert(ifindex, Link { kind, ..link(ifindex, name) });
    }
    inputs.links = Arc::new(links);
    let state = Arc::make_mut(&mut inputs.state);
    let first = state.listeners.values().next().expect("a listener").clone();
    for id in state.listeners.keys().cloned().collect::<Vec<_>>() {
        state.listeners.remove(&id);
    }
    let settings = TlsSettings {
        certificate: certificate(),
        more: BTreeSet::new(),
        policy: Default::default(),
        alpn: Default::default(),
    };
    let listener = Listener { protocol: Protocol::Tls, tls: Some(settings), ..first };
    let id = listener.id.clone();
    state.put(Record::Listener(listener));
    state.put(Record::Certificate(Certificate {
        id: certificate(),
        certificate: "certificate".to_owned(),
        chain: String::new(),
        private_key: "key".to_owned().into(),
        created_at: now(),
        imported_at: now(),
    }));
    let ports = open.then(|| (id.clone(), DOOR)).into_iter().collect();
    (Inputs { relay: Doors { ports }, relay_address: Some(RELAY), ..inputs }, id)
}

/// The ring behind the node address.
fn ring(fake: &Fake, inputs: &Inputs) -> Arc<[u32]> {
    let tables = fake.read().expect("the fake reads");
    let lb = inputs.state.load_balancers.values().next().expect("a load balancer");
    let key = FrontendAt::new(VpcIndex(1), lb.addresses[0], 8_000, Proto::Tcp);
    Arc::clone(&tables.listeners[&tables.frontends[&key].listener].ring)
}

#[test]
fn a_tls_listener_leads_to_the_relay_and_the_relay_to_the_targets() {
    let (inputs, id) =
        tls(&[(7, Shape::Healthy, false), (8, Shape::Unhealthy, false), (9, Shape::Healthy, true)], true);
    let mut fake = Fake::new(CAPACITY);
    let (plan, _) = pass(&mut fake, &inputs).expect("no failure was asked for");
    let [entry] = *ring(&fake, &inputs) else { panic!("not one entry") };
    assert_ne!(entry & RingEntry::PROXY, 0, "the relay is not told the client");
    let tables = fake.read().expect("the fake reads");
    let door = tables.targets[&RingEntry(entry).target()];
    assert_eq!((door.vpc, door.port.get(), Ipv4Addr::from(door.ip)), (VpcIndex::HOST, DOOR, RELAY));
    assert_eq!(host_port().vpc_of(door.node_ip.into()), Some(VpcIndex(1)));
    // New connections go to what is healthy; what drains keeps its way.
    let internal = |octet: u8| {
        let found =
            plan.targets.iter().find(|(key, _)| key.ip == Ipv4Addr::new(10, 0, 1, octet) && key.proto == Proto::Tcp);
        host_port().internal(*found.expect("an index").1, IpFamily::Ipv4).expect("an address")
    };
    let [Group { weight: 1, tls: false, verify: None, proxy_v2: false, targets }] = plan.upstreams[&id].as_slice()
    else {
        panic!("{:?}", plan.upstreams)
    };
    assert_eq!(
        targets.iter().map(|target| (IpAddr::V4(*target.ip()), target.port())).collect::<Vec<_>>(),
        [(internal(7), 80)]
    );
    for octet in [7, 8, 9] {
        let key = FrontendAt::new(VpcIndex::HOST, internal(octet), 80, Proto::Tcp);
        assert!(tables.frontends.contains_key(&key), "no way to 10.0.1.{octet}");
        assert!(tables.addresses.contains_key(&AddressAt::new(VpcIndex::HOST, internal(octet))));
    }
    let (_, operations) = pass(&mut fake, &inputs).expect("no failure was asked for");
    assert_eq!(operations, 0, "a pass over what is right changes something");

    // What the relay is told.
    let config = relay::config(&inputs.state, &plan, &place()).expect("there is a TLS listener");
    assert_eq!(config.listeners[&id].groups, plan.upstreams[&id]);
    assert_eq!(config.certificates[&certificate()].private_key.reveal(), "key");
    assert!(!format!("{config:?}").contains("key\""), "a key is shown");
}

#[test]
fn without_relay_or_target_a_connection_is_refused() {
    for (targets, open) in
        [(vec![(7, Shape::Healthy, false)], false), (vec![], true), (vec![(7, Shape::Healthy, true)], true)]
    {
        let (inputs, _) = tls(&targets, open);
        let mut fake = Fake::new(CAPACITY);
        pass(&mut fake, &inputs).expect("no failure was asked for");
        assert!(ring(&fake, &inputs).is_empty(), "{targets:?}");
    }
}

/// What the relay is told takes effect after what the kernel is told: until it says that it no longer connects to a
/// target, that one's address is nobody else's, and leads there.
#[test]
fn a_target_stays_until_the_relay_connects_to_it_no_longer() {
    let (mut inputs, id) = tls(&[(7, Shape::Healthy, false)], true);
    let mut fake = Fake::new(CAPACITY);
    let mut memory = Memory::default();
    let (plan, _) = converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    let index = plan.targets[&relayed_key(&plan)];
    let before = fake.read().expect("the fake reads");
    let way = *before.frontends.keys().find(|key| key.vpc == VpcIndex::HOST && key.port == 80).expect("a way");

    // The listener leads to another group now, and nothing to the first one.
    let state = Arc::make_mut(&mut inputs.state);
    let group = state.target_groups[&group_id(0)].clone();
    state.put(Record::TargetGroup(TargetGroup { id: group_id(1), targets: BTreeMap::new(), ..group }));
    let listener = state.listeners[&id].clone();
    state.put(Record::Listener(Listener { forward: Forward::to(group_id(1)), ..listener }));
    inputs.relayed = [index].into();
    let (plan, _) = converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    assert_eq!(plan.upstreams[&id], [], "the relay is told to connect there");
    let kept = fake.read().expect("the fake reads");
    assert_eq!(kept.targets[&index], before.targets[&index]);
    assert_eq!(kept.frontends[&way], before.frontends[&way]);
    assert_eq!(kept.listeners[&kept.frontends[&way].listener].ring[..], [index]);

    inputs.relayed.clear();
    converge(&mut fake, &inputs, &mut memory).expect("no failure was asked for");
    let after = fake.read().expect("the fake reads");
    assert!(after.targets[&index].flags.has(TargetFlags::RETIRED), "{:?}", after.targets[&index]);
    assert!(!after.frontends.contains_key(&way), "there is a way to a target that is gone");
}

/// Nothing of a load balancer that is gone stays for the relay's sake.
#[test]
fn a_target_behind_no_load_balancer_is_not_kept() {
    let (mut inputs, id) = tls(&[(7, Shape::Healthy, false)], true);
    let mut fake = Fake::new(CAPACITY);
    let (plan, _) = pass(&mut fake, &inputs).expect("no failure was asked for");
    let index = plan.targets[&relayed_key(&plan)];
    let state = Arc::make_mut(&mut inputs.state);
    let lb = state.listeners[&id].load_balancer.clone();
    state.listeners.remove(&id);
    state.load_balancers.remove(&lb);
    inputs.relayed = [index].into();
    inputs.busy.targets = inputs.relayed.clone();
    pass(&mut fake, &inputs).expect("no failure was asked for");
    assert!(fake.read().expect("the fake reads").targets[&index].flags.has(TargetFlags::RETIRED));
}

/// Internal addresses of targets by their indexes.
fn ways(indexes: &[u32]) -> Vec<SocketAddrV4> {
    let way = |index: &u32| match host_port().internal(*index, IpFamily::Ipv4) {
        Some(IpAddr::V4(way)) => SocketAddrV4::new(way, 80),
        other => panic!("{other:?}"),
    };
    indexes.iter().map(way).collect()
}

#[test]
fn the_relay_may_connect_where_it_has_been_told_until_it_says_otherwise() {
    let (inputs, id) = tls(&[(7, Shape::Healthy, false)], true);
    let says = |indexes: &[u32]| Status { targets: ways(indexes).into_iter().collect(), ..Status::default() };
    let mut known = Known::new(says(&[3]));
    let indexes = |known: &Known| known.indexes(&inputs.state, Some(host_port()));
    assert_eq!(indexes(&known), [3].into());
    // Of two configurations that it has been told it may follow any, until it says which.
    for target in [4, 5] {
        known.tell(&config(&inputs, &id, ways(&[target])));
    }
    assert_eq!(indexes(&known), [3, 4, 5].into());
    assert!(known.says(says(&[4, 5])), "it has let go of one");
    assert!(!known.says(says(&[4, 5])), "nothing is new");
    assert_eq!(indexes(&known), [4, 5].into());
    known.tell(&config(&inputs, &id, ways(&[4, 6])));
    assert!(known.says(says(&[4, 5])), "it has not taken what it was told");
    assert_eq!(indexes(&known), [4, 5].into());
    assert!(!known.says(says(&[4, 5, 6])), "it has let go of none");
}

/// A relay of which only an earlier agent knew, because no listener leads to it any more, holds no target.
#[test]
fn without_a_tls_listener_the_relay_connects_nowhere() {
    let (inputs, id) = tls(&[(7, Shape::Healthy, false)], true);
    let outside = SocketAddrV4::new(Ipv4Addr::new(10, 0, 1, 7), 80);
    let targets = ways(&[3]).into_iter().chain([outside]).collect();
    let known = Known::new(Status { targets, ..Status::default() });
    let mut state = State::clone(&inputs.state);
    assert_eq!(known.indexes(&state, Some(host_port())), [3].into());
    assert!(known.indexes(&state, None).is_empty());
    state.listeners.remove(&id);
    assert!(known.indexes(&state, Some(host_port())).is_empty());
}

/// What a relay is told whose one listener leads to `targets`.
fn config(inputs: &Inputs, id: &ListenerId, targets: Vec<SocketAddrV4>) -> Config {
    let plan = Plan {
        upstreams: [(id.clone(), vec![Group { weight: 1, tls: false, verify: None, proxy_v2: false, targets }])].into(),
        ..Plan::default()
    };
    relay::config(&inputs.state, &plan, &place()).expect("there is a TLS listener")
}

/// Where the relay is.
fn place() -> Place {
    Place { address: RELAY, device: Device { name: "plh".to_owned(), index: 10 }, access_log: None }
}

/// The one target of a group behind a TLS listener.
fn relayed_key(plan: &Plan) -> TargetKey {
    *plan.targets.keys().find(|key| key.vpc != VpcIndex::HOST && key.proto == Proto::Tcp).expect("a target")
}
