//! A host of a topology as a router, with another host behind it.
//!
//! ```text
//!  lb ── veth ── router ── veth of a smaller MTU ── far host
//! ```
//!
//! Both hosts' addresses are in the VPC's prefix, so the router answers ARP for what is on its other side.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::{
    link::{End, veth},
    netns::Netns,
    topology::{CIDR, Host},
};

/// A host behind a router.
#[derive(Debug)]
pub struct Behind {
    /// Its namespace.
    pub netns: Netns,
    /// Its interface.
    pub link: End,
    /// Its address.
    pub address: Ipv4Addr,
}

impl Behind {
    /// Makes `router` route, and a host behind it with `address` and links of `mtu`. The host announces Ethernet's
    /// usual segment size whatever its link carries, so that only ICMP tells who is far away.
    pub fn new(router: &Host, label: &str, address: Ipv4Addr, mtu: u32) -> Result<Self> {
        let netns = Netns::new(label)?;
        let (near, link) = (End::new(&router.netns, "eth1"), End::new(&netns, "eth0"));
        veth(&near, &link)?;
        for end in [&near, &link] {
            end.set_mtu(mtu)?;
            end.up()?;
        }
        link.add_address(&format!("{address}/32"))?;
        netns.ip(&["route", "add", CIDR, "dev", "eth0", "advmss", "1460"])?;
        router.netns.ip(&["route", "add", &format!("{address}/32"), "dev", "eth1"])?;
        router.netns.sysctl("ipv4.ip_forward", "1")?;
        for interface in ["eth0", "eth1"] {
            router.netns.sysctl(&format!("ipv4.conf.{interface}.proxy_arp"), "1")?;
            router.netns.sysctl(&format!("ipv4.neigh.{interface}.proxy_delay"), "0")?;
        }
        Ok(Self { netns, link, address })
    }
}
