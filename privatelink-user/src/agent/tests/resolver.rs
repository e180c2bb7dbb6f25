//! The DNS server inside the VPCs, from the state to what the kernel finds.

use super::*;
use crate::agent::resolver::{Door, LINK_LOCAL};

const DOOR: Door = Door { address: Ipv4Addr::new(100, 64, 0, 1), udp: 53, tcp: 5_353 };
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The host port's two ends are among the links.
fn served(shapes: &[GroupShape]) -> Inputs {
    let mut inputs = inputs(shapes);
    let mut links = Links::clone(&inputs.links);
    let ends = [(9, "plp", 10), (10, "plh", 9)];
    for (ifindex, name, peer) in ends {
        let kind = LinkKind::Veth { peer: Some(peer), elsewhere: false };
        links.insert(ifindex, Link { kind, ..link(ifindex, name) });
    }
    inputs.links = Arc::new(links);
    inputs.resolver = Some(DOOR);
    inputs
}

/// The target behind an address and port of a VPC.
fn behind(fake: &Fake, vpc: u16, ip: Ipv4Addr, proto: Proto) -> Option<TargetRecord> {
    let tables = fake.read().expect("the fake reads");
    let key = FrontendAt::new(VpcIndex(vpc), ip, 53, proto);
    let listener = tables.frontends.get(&key)?.listener;
    let [target] = *tables.listeners[&listener].ring else { panic!("not one target behind {key:?}") };
    assert!(tables.addresses.contains_key(&AddressAt::new(key.vpc, key.ip)), "{key:?} has no owned address");
    Some(tables.targets[&target])
}

#[test]
fn the_source_that_the_server_sees_names_the_vpc() {
    let inputs = served(&[]);
    let mut fake = Fake::new(CAPACITY);
    pass(&mut fake, &inputs).expect("no failure was asked for");
    for vpc in [1, 2] {
        for (proto, port) in [(Proto::Tcp, 5_353), (Proto::Udp, 53)] {
            let target = behind(&fake, vpc, SECOND, proto).expect("at the base address + 2");
            assert_eq!(behind(&fake, vpc, LINK_LOCAL, proto), Some(target));
            let node: Ipv4Addr = target.node_ip.into();
            assert_eq!(host_port().vpc_of(node), Some(VpcIndex(vpc)));
            assert_eq!((target.vpc, target.port.get(), target.proto), (VpcIndex::HOST, port, proto.number()));
            assert_eq!(Ipv4Addr::from(target.ip), DOOR.address);
            // Out of the datapath's end, to the host's.
            assert_eq!((target.ifindex, target.mac), (9, Mac([2, 0, 0, 0, 0, 10])));
            assert!(target.flags.has(TargetFlags::RESOLVED));
        }
    }
    let (_, operations) = pass(&mut fake, &inputs).expect("no failure was asked for");
    assert_eq!(operations, 0, "a pass over what is right changes something");
}

#[test]
fn who_has_the_address_keeps_it() {
    let mut inputs = served(&one_group(&[(7, Shape::Healthy, false)]));
    let state = Arc::make_mut(&mut inputs.state);
    let lb = state.load_balancers.values_mut().next().expect("a load balancer");
    lb.addresses = vec![SECOND];
    state.vpcs.values_mut().find(|vpc| vpc.index.get() == 2).expect("VPC 2").gateway = Some(SECOND);
    let mut fake = Fake::new(CAPACITY);
    pass(&mut fake, &inputs).expect("no failure was asked for");
    for vpc in [1, 2] {
        assert_eq!(behind(&fake, vpc, SECOND, Proto::Udp), None);
        assert!(behind(&fake, vpc, LINK_LOCAL, Proto::Udp).is_some());
    }
}

#[test]
fn a_shared_port_leaves_the_host_its_address() {
    let mut inputs = served(&[]);
    let state = Arc::make_mut(&mut inputs.state);
    state.ports.values_mut().filter(|port| port.vpc == vpc(1).id).for_each(|port| port.shared = true);
    let mut fake = Fake::new(CAPACITY);
    pass(&mut fake, &inputs).expect("no failure was asked for");
    assert_eq!(behind(&fake, 1, SECOND, Proto::Udp), None);
    assert!(behind(&fake, 1, LINK_LOCAL, Proto::Udp).is_some());
    assert!(behind(&fake, 2, SECOND, Proto::Udp).is_some());
}

#[test]
fn a_vpc_without_a_port_has_no_server_and_one_that_loses_its_port_has_none_any_more() {
    let mut inputs = served(&[]);
    let mut fake = Fake::new(CAPACITY);
    pass(&mut fake, &inputs).expect("no failure was asked for");
    let before = behind(&fake, 1, SECOND, Proto::Udp).expect("at the base address + 2");
    let state = Arc::make_mut(&mut inputs.state);
    state.ports.retain(|_, port| port.vpc != vpc(1).id);
    pass(&mut fake, &inputs).expect("no failure was asked for");
    assert_eq!(behind(&fake, 1, SECOND, Proto::Udp), None);
    assert!(behind(&fake, 2, SECOND, Proto::Udp).is_some());
    // Its flows end at their next packet.
    let tables = fake.read().expect("the fake reads");
    let after = tables.targets.values().find(|record| record.node_ip == before.node_ip && record.proto == before.proto);
    let after = after.expect("the record of the target that is gone");
    assert!(after.flags.has(TargetFlags::RETIRED) && after.generation != before.generation);
}

#[test]
fn without_a_server_nothing_is_there() {
    let mut inputs = served(&[]);
    inputs.resolver = None;
    let mut fake = Fake::new(CAPACITY);
    pass(&mut fake, &inputs).expect("no failure was asked for");
    assert_eq!(behind(&fake, 1, SECOND, Proto::Udp), None);
    assert!(fake.read().expect("the fake reads").targets.is_empty());
}
