//! Who talks to whom in a flow. An entry's key holds no IPv6 addresses: they are in `CLIENTS6` and in the target's
//! record.

use std::net::IpAddr;

use privatelink_ebpf::abi::{
    flow::{Addresses6, FlowKey, Slot},
    service::Target,
};

/// The addresses of a flow: the client's view of it, and the target's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    pub client: IpAddr,
    /// What the client connected to.
    pub service: IpAddr,
    /// The source that the target sees.
    pub node: IpAddr,
    pub target: IpAddr,
}

/// The key of the entry for a flow's replies; `forward` is its other entry.
pub fn reverse_key(forward: &Slot, target: &Target) -> FlowKey {
    let Slot { new_src, new_dst, new_src_port, new_dst_port, .. } = *forward;
    FlowKey::tcp(target.vpc, new_dst, new_dst_port, new_src, new_src_port).with_proto(target.proto)
}

impl Peers {
    /// Of the flow whose forward entry this is; none if an IPv6 client is forgotten already.
    pub fn of(forward: &Slot, target: &Target, client6: impl Fn(&FlowKey) -> Option<Addresses6>) -> Option<Self> {
        let key = FlowKey::from_words(forward.key);
        let four = |ip: privatelink_ebpf::abi::Ip4| IpAddr::V4(ip.into());
        let six = |ip: privatelink_ebpf::abi::Ip6| IpAddr::V6(ip.into());
        let (client, service) = match key.ipv6() {
            false => (four(key.src), four(key.dst)),
            true => {
                let Addresses6 { src, dst } = client6(&reverse_key(forward, target))?;
                (six(src), six(dst))
            }
        };
        let (node, target) = match target.ipv6() {
            false => (four(forward.new_src), four(forward.new_dst)),
            true => (six(target.node_ip6), six(target.ip6)),
        };
        Some(Self { client, service, node, target })
    }
}
