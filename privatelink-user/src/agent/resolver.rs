//! The DNS server inside the VPCs: which addresses lead to it, through the datapath and the host port.
//!
//! ```text
//! 10.0.1.10 ─► 10.0.0.2:53 ─► [port of VPC 1] ─ listener of VPC 1 ─ [host port] ─► 100.64.0.1:53, from 100.65.0.1
//! ```
//!
//! Each VPC has listeners and targets of its own, whose node address is the VPC's number in the host port's prefix. So
//! the source address that the server sees names the VPC, and VPCs may overlap in everything.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use privatelink_ebpf::abi::{
    L4Port, Proto, VpcIndex,
    flow::{FlowKey, Meta, Slot},
    service::{AddressKind, Frontend, ListenerFlags},
};

use super::{
    Shared,
    desired::{Desired, DesiredListener, World, vpc_index},
    index::TargetKey,
    plan::{Hop, Plan},
};
use crate::{
    dataplane::{AddressAt, FrontendAt, flows::Flows},
    dns::{
        self,
        server::{Asker, Askers, Sockets},
        upstream::Transport,
    },
    model::{State, Vpc, VpcId},
    net::links::LinkKind,
};

/// In every VPC, as in EC2.
pub const LINK_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 253);

/// Seconds after which a question's flow is forgotten; a client uses a port for one question, and each takes one of the
/// VPC's 64,512 source ports.
const UDP_IDLE: u16 = 5;
const TCP_IDLE: u16 = 60;

/// Where the server listens on the host port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Door {
    pub address: Ipv4Addr,
    pub udp: u16,
    pub tcp: u16,
}

impl Door {
    fn port(self, proto: Proto) -> u16 {
        match proto {
            Proto::Tcp => self.tcp,
            Proto::Udp => self.udp,
        }
    }
}

/// The server as one VPC sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    vpc: VpcIndex,
    door: Door,
    /// The source address that the server sees.
    node: Ipv4Addr,
    /// Where the VPC reaches it.
    addresses: Vec<Ipv4Addr>,
}

impl Resolver {
    fn target(&self, proto: Proto) -> TargetKey {
        let Self { vpc: _, door, node, addresses: _ } = self;
        TargetKey { vpc: VpcIndex::HOST, node: (*node).into(), ip: door.address.into(), port: door.port(proto), proto }
    }

    /// What its listener is known by in the kernel.
    fn known_by(&self, proto: Proto) -> FrontendAt {
        FrontendAt::new(self.vpc, LINK_LOCAL, dns::PORT, proto)
    }
}

const PROTOCOLS: [Proto; 2] = [Proto::Tcp, Proto::Udp];

/// The server in each VPC that has a port, if there is a server.
pub fn resolvers(world: &World<'_>) -> Vec<Resolver> {
    let Some((door, host_port)) = world.resolver.zip(world.host_port) else { return Vec::new() };
    let state = world.state;
    // A VPC without DNS support has no server.
    let served = |id: &&VpcId| state.vpcs.get(*id).is_some_and(|vpc| vpc.attributes.dns_support);
    let with_port: BTreeSet<&VpcId> = state.ports.values().map(|port| &port.vpc).filter(served).collect();
    let mut second: BTreeMap<&VpcId, Ipv4Addr> = with_port
        .iter()
        .filter_map(|id| Some((*id, base_plus_two(state.vpcs.get(*id)?)?)))
        .filter(|(id, address)| state.vpcs.get(id).is_some_and(|vpc| vpc.gateway != Some(*address)))
        .collect();
    // Behind a shared port is the host's own stack too, whose address it may be.
    for port in state.ports.values().filter(|port| port.shared) {
        second.remove(&port.vpc);
    }
    // What is a host's own or a load balancer's or an endpoint's stays that.
    for group in state.target_groups.values() {
        if second.get(&group.vpc).is_some_and(|address| group.targets.keys().any(|target| target.ip == *address)) {
            second.remove(&group.vpc);
        }
    }
    taken(state, &mut second);
    let in_vpc = |vpc: &Vpc| {
        let index = vpc_index(vpc)?;
        let addresses = second.get(&vpc.id).copied().into_iter().chain([LINK_LOCAL]).collect();
        Some(Resolver { vpc: index, door, node: host_port.of_vpc(index)?, addresses })
    };
    with_port.into_iter().filter_map(|id| in_vpc(state.vpcs.get(id)?)).collect()
}

fn taken(state: &State, second: &mut BTreeMap<&VpcId, Ipv4Addr>) {
    for lb in state.load_balancers.values() {
        if second.get(&lb.vpc).is_some_and(|address| lb.nodes().any(|node| node == *address)) {
            second.remove(&lb.vpc);
        }
    }
    for endpoint in state.endpoints.values() {
        let owns = |address: &Ipv4Addr| {
            let mut aliases = endpoint.aliases.iter().filter_map(|alias| alias.address());
            endpoint.addresses().any(|own| own == *address) || aliases.any(|alias| alias == *address)
        };
        if second.get(&endpoint.vpc).is_some_and(owns) {
            second.remove(&endpoint.vpc);
        }
    }
}

/// The address that EC2 reserves for the DNS server in every VPC.
fn base_plus_two(vpc: &Vpc) -> Option<Ipv4Addr> {
    u32::from(vpc.cidr.net().network()).checked_add(2).map(Ipv4Addr::from)
}

/// The targets that the resolvers need.
pub fn targets(resolvers: &[Resolver]) -> impl Iterator<Item = TargetKey> + '_ {
    resolvers.iter().flat_map(|resolver| PROTOCOLS.map(|proto| resolver.target(proto)))
}

/// What the resolvers' listeners are known by.
pub fn listeners(resolvers: &[Resolver]) -> impl Iterator<Item = FrontendAt> + '_ {
    resolvers.iter().flat_map(|resolver| PROTOCOLS.map(|proto| resolver.known_by(proto)))
}

/// Where frames for the server go: through the datapath's end of the pair to the host's.
pub fn hop(world: &World<'_>) -> Option<Hop> {
    let ifindex = world.host_port?.ifindex;
    let LinkKind::Veth { peer: Some(peer), elsewhere: false } = world.links.get(&ifindex)?.kind else { return None };
    Some(Hop { ifindex, mac: world.links.get(&peer)?.mac? })
}

/// Writes addresses, frontends and listeners. `indexes` says which listener each is, the plan which target.
pub fn install(resolvers: &[Resolver], indexes: &BTreeMap<FrontendAt, u32>, desired: &mut Desired, plan: &mut Plan) {
    for resolver in resolvers {
        for address in &resolver.addresses {
            let key = AddressAt::new(resolver.vpc, *address);
            desired.addresses.insert(key, AddressKind::Internal.into());
            plan.resolvers.extend(plan.vpcs.get(&resolver.vpc).map(|vpc| (vpc.clone(), *address)));
        }
        for proto in PROTOCOLS {
            let Some(&listener) = indexes.get(&resolver.known_by(proto)) else { continue };
            let Some(&target) = plan.targets.get(&resolver.target(proto)) else { continue };
            let ring: Arc<[u32]> = Arc::new([target]);
            let idle_s = match proto {
                Proto::Tcp => TCP_IDLE,
                Proto::Udp => UDP_IDLE,
            };
            desired.listeners.insert(listener, DesiredListener { idle_s, flags: ListenerFlags::default(), ring });
            for address in &resolver.addresses {
                let key = FrontendAt::new(resolver.vpc, *address, dns::PORT, proto);
                desired.frontends.insert(key, Frontend { listener, endpoint: 0, ..Frontend::default() });
            }
        }
    }
}

/// The server's sockets at the host end of the host port, and where they are: at the port of DNS, or at free ones if
/// another server of the host has that. Without them the rest of the agent works all the same.
pub async fn open(address: Ipv4Addr) -> Option<(Sockets, Door)> {
    let bound = match Sockets::bind((address, dns::PORT).into()).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Sockets::bind((address, 0).into()).await,
        bound => bound,
    };
    match bound.and_then(|sockets| sockets.ports().map(|ports| (sockets, ports))) {
        Ok((sockets, (udp, tcp))) => Some((sockets, Door { address, udp, tcp })),
        Err(error) => {
            tracing::error!(%error, %address, "names are not served inside the VPCs");
            None
        }
    }
}

/// Who asks from inside a VPC, by what the datapath made of its packets.
pub struct Inside {
    pub shared: Arc<Shared>,
    pub flows: Flows,
}

impl Askers for Inside {
    /// By the source address that the datapath gave the question; nobody else may ask.
    fn asker(&self, source: IpAddr) -> Option<Asker> {
        let IpAddr::V4(source) = source else { return None };
        let vpc = self.shared.host_port()?.vpc_of(source)?;
        self.shared.plan.borrow().vpcs.get(&vpc).cloned().map(Asker::Vpc)
    }

    /// Where the datapath sends what the server answers to `source`: the question's flow has an entry for that.
    fn address(&self, source: SocketAddr, transport: Transport) -> Option<IpAddr> {
        let proto = match transport {
            Transport::Udp => Proto::Udp,
            Transport::Tcp => Proto::Tcp,
        };
        client(&self.flows.find(&answers_key(self.shared.resolver?, source, proto)?)?)
    }
}

/// The key of the packets that answer a question from `source`.
fn answers_key(door: Door, source: SocketAddr, proto: Proto) -> Option<FlowKey> {
    let IpAddr::V4(to) = source.ip() else { return None };
    let (from, port) = (door.address.into(), L4Port::new(door.port(proto)));
    let key = FlowKey::tcp(VpcIndex::HOST, from, port, to.into(), L4Port::new(source.port()));
    Some(key.with_proto(proto.number()))
}

/// The client that has what an entry rewrites, if the entry is for answers and both sides are of IPv4.
fn client(answers: &Slot) -> Option<IpAddr> {
    let meta = Meta::unpack(answers.meta);
    let ours = !meta.forward() && !meta.translated && !FlowKey::from_words(answers.key).ipv6();
    ours.then(|| IpAddr::V4(answers.new_dst.into()))
}

#[cfg(test)]
mod tests {
    use privatelink_ebpf::abi::{Ip4, flow::FlowState};

    use super::*;

    #[test]
    fn who_asks_is_where_the_answers_go() {
        let door = Door { address: Ipv4Addr::new(100, 64, 0, 1), udp: 53, tcp: 5_353 };
        let source: SocketAddr = "100.65.0.1:1024".parse().expect("an address");
        let key = |proto| answers_key(door, source, proto).expect("a key");
        let ip = Ip4::from_wire;
        let of = |proto: Proto, port: u16| FlowKey {
            src: ip([100, 64, 0, 1]),
            dst: ip([100, 65, 0, 1]),
            src_port: L4Port::new(port),
            dst_port: L4Port::new(1_024),
            vpc: VpcIndex::HOST,
            proto: proto.number(),
            _pad: 0,
        };
        assert_eq!((key(Proto::Udp), key(Proto::Tcp)), (of(Proto::Udp, 53), of(Proto::Tcp, 5_353)));
        assert_eq!(answers_key(door, "[fd00::1]:1024".parse().expect("an address"), Proto::Udp), None);

        let meta = |flags, translated| {
            Meta { version: 1, state: FlowState::Unreplied, translated, flags, idle_s: UDP_IDLE }.pack()
        };
        let slot = |meta| Slot { meta, key: key(Proto::Udp).words(), new_dst: ip([10, 0, 2, 10]), ..Slot::FREE };
        assert_eq!(client(&slot(meta(0, false))), Some(Ipv4Addr::new(10, 0, 2, 10).into()));
        assert_eq!(client(&slot(meta(Meta::FORWARD, false))), None);
        assert_eq!(client(&slot(meta(0, true))), None);
    }
}
