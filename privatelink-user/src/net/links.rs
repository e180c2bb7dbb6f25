//! The host's interfaces: what they are, when they change, and the veth pair of the host port.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
};

use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::{Ipv4Net, Ipv6Net};
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, MulticastGroup, RouteMessageBuilder};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    neighbor::MacAddress,
    xdp_features::{self, XdpFeatures},
};

/// The longest interface name (`IFNAMSIZ` less its terminating zero).
pub const LONGEST_NAME: usize = 15;

/// One interface of the agent's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub ifindex: u32,
    pub name: String,
    /// `None` for devices without Ethernet addresses (tunnels); those cannot be ports.
    pub mac: Option<MacAddress>,
    pub mtu: u32,
    pub kind: LinkKind,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Up, and the other end too (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// The XDP program that is attached, if any.
    pub xdp: Option<Xdp>,
    /// What the driver can do with XDP; `None` if the kernel does not say (before 6.3).
    pub xdp_features: Option<XdpFeatures>,
}

/// What matters of a device's type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    Veth {
        /// The other end's interface index, in its own namespace.
        peer: Option<u32>,
        /// Whether the other end is in another network namespace.
        elsewhere: bool,
    },
    /// Everything that has a name for its type: vlan, vxlan, bridge, tun, dummy, ...
    Virtual(String),
    /// A device with a driver.
    Physical,
    Loopback,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xdp {
    pub mode: XdpMode,
    pub program_id: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    Native,
    Generic,
    Offloaded,
    Multiple,
}

/// Links by interface index.
pub type Links = BTreeMap<u32, Link>;

/// What the kernel's answer was not.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot talk to the kernel's link service: {0}")]
    Socket(#[source] io::Error),
    #[error("the interface {0} does not exist")]
    Missing(String),
    #[error(
        "the prefix {prefix} of internal addresses is in use: '{interface}' has {address}; give this agent another one inside \
         100.64.0.0/10 with --host-prefix, or take the agent that left it out with `privatelink agent --remove`"
    )]
    PrefixTaken { prefix: Ipv4Net, interface: String, address: Ipv4Addr },
    #[error("the kernel refused to {doing}: {source}")]
    Refused {
        doing: String,
        #[source]
        source: rtnetlink::Error,
    },
}

/// A connection to the kernel's link service in the agent's network namespace.
#[derive(Debug)]
pub struct LinkService {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for LinkService {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl LinkService {
    /// Connects. Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`LinkError::Socket`] when there is no netlink socket to be had.
    pub fn connect() -> Result<Self, LinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    /// All links, as they are now.
    ///
    /// # Errors
    ///
    /// [`LinkError::Refused`] when the dump fails.
    pub async fn links(&self) -> Result<Links, LinkError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats])
            .execute()
            .try_collect()
            .await
            .map_err(refused("list the links"))?;
        let mut links: Links = messages.iter().filter_map(link).map(|link| (link.ifindex, link)).collect();
        match xdp_features::all() {
            Ok(features) => {
                for (ifindex, link) in &mut links {
                    link.xdp_features = features.get(ifindex).copied();
                }
            }
            Err(error) => tracing::debug!(%error, "the kernel does not tell what interfaces can do with XDP"),
        }
        Ok(links)
    }

    /// Makes `pair` exist and be up, its host end have its address, and its prefix lead to its gateway; what exists is
    /// kept. The port end has no address: the host's stack has nothing to say on it.
    ///
    /// # Errors
    ///
    /// [`LinkError::Refused`] with the step that failed.
    pub async fn ensure_pair(&self, pair: &Pair) -> Result<(Link, Link), LinkError> {
        let Pair { host, port, address, gateway, prefix, mtu } = pair;
        if find(&self.links().await?, host).is_err() {
            let request = self.handle.link().add(LinkVeth::new(host, port).mtu(*mtu).build());
            request.execute().await.map_err(refused(format!("create the veth pair {host}, {port}")))?;
        }
        let links = self.links().await?;
        let (host_link, port_link) = (find(&links, host)?, find(&links, port)?);
        // Before the links come up, so that neither end ever sends a router solicitation into the datapath.
        for name in [host, port] {
            disable_ipv6(name);
        }
        self.add_address(host_link.ifindex, host, (*address).into(), POINT_TO_POINT).await?;
        for link in [&host_link, &port_link] {
            let up = LinkMessageBuilder::<LinkUnspec>::default().index(link.ifindex).mtu(*mtu).up().build();
            self.handle.link().set(up).execute().await.map_err(refused(format!("set {} up", link.name)))?;
        }
        // One neighbour for the whole prefix: the host's neighbour table stays small with thousands of targets.
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(prefix.network(), prefix.prefix_len())
            .gateway(*gateway)
            .output_interface(host_link.ifindex)
            .build();
        let routed = self.handle.route().add(route).replace().execute().await;
        routed.map_err(refused(format!("route {prefix} through {host}")))?;
        let links = self.links().await?;
        Ok((find(&links, host)?, find(&links, port)?))
    }

    /// Makes sure that nobody else has an address in the prefix of `pair`: two routes to it would take the checks of
    /// one agent to the other's datapath.
    ///
    /// # Errors
    ///
    /// [`LinkError::PrefixTaken`], [`LinkError::Refused`].
    pub async fn check_prefix(&self, pair: &Pair) -> Result<(), LinkError> {
        let Pair { host: own, prefix, port: _, address: _, gateway: _, mtu: _ } = pair;
        let messages: Vec<AddressMessage> =
            self.handle.address().get().execute().try_collect().await.map_err(refused("list the addresses"))?;
        let links = self.links().await?;
        for message in messages {
            let interface = links.get(&message.header.index).map_or("", |link| link.name.as_str());
            let mut addresses = message.attributes.iter().filter_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            });
            if interface != own.as_str()
                && let Some(address) = addresses.find(|address| prefix.contains(address))
            {
                return Err(LinkError::PrefixTaken { prefix: *prefix, interface: interface.to_owned(), address });
            }
        }
        Ok(())
    }

    /// Gives the host end of `pair` an IPv6 address and lets `prefix` lead to the gateway; what exists is kept. It asks
    /// for no router, makes no address of its own, and is its address's only owner, so that it is usable at once.
    ///
    /// # Errors
    ///
    /// [`LinkError::Refused`] with the step that failed, such as that the host has no IPv6.
    pub async fn ensure_ipv6(&self, pair: &Pair, ipv6: &PairIpv6) -> Result<(), LinkError> {
        let PairIpv6 { address, gateway, prefix } = *ipv6;
        let host = &pair.host;
        let link = find(&self.links().await?, host)?;
        for (setting, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("addr_gen_mode", "1"), ("disable_ipv6", "0")]
        {
            // What cannot be set shows when the address is added.
            let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{host}/{setting}"), value);
        }
        self.add_address(link.ifindex, host, address.into(), POINT_TO_POINT_IPV6).await?;
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(prefix.network(), prefix.prefix_len())
            .gateway(gateway)
            .output_interface(link.ifindex)
            .build();
        let routed = self.handle.route().add(route).replace().execute().await;
        routed.map_err(refused(format!("route {prefix} through {host}")))
    }

    /// Lets an interface take all multicast frames, or no longer: neighbours ask for the datapath's IPv6 addresses by
    /// multicast groups that no address of the interface is in (RFC 4861 section 7.2.1). The setting outlives the
    /// agent.
    ///
    /// # Errors
    ///
    /// [`LinkError::Refused`] when the kernel does not.
    pub async fn set_all_multicast(&self, ifindex: u32, on: bool) -> Result<(), LinkError> {
        let change = LinkMessageBuilder::<LinkUnspec>::default().index(ifindex).allmulticast(on).build();
        let set = self.handle.link().set(change).execute().await;
        set.map_err(refused(format!("make interface {ifindex} take all multicast frames")))
    }

    async fn add_address(&self, ifindex: u32, name: &str, address: IpAddr, prefix: u8) -> Result<(), LinkError> {
        let request = self.handle.address().add(ifindex, address, prefix);
        match request.execute().await {
            Ok(()) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::EEXIST => Ok(()),
            Err(source) => {
                Err(LinkError::Refused { doing: format!("give {name} the address {address}/{prefix}"), source })
            }
        }
    }

    /// Deletes a link (and the other end of a veth pair). A link that is gone already is no error.
    ///
    /// # Errors
    ///
    /// [`LinkError::Refused`] for every other reason.
    pub async fn delete(&self, name: &str) -> Result<(), LinkError> {
        let links = self.links().await?;
        let Some(link) = links.values().find(|link| link.name == name) else { return Ok(()) };
        match self.handle.link().del(link.ifindex).execute().await {
            Ok(()) => Ok(()),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ENODEV => Ok(()),
            Err(source) => Err(LinkError::Refused { doing: format!("delete {name}"), source }),
        }
    }
}

/// The veth pair that gives the host's own sockets a place in the datapath.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The host's end.
    pub host: String,
    /// The datapath's end, which becomes a port.
    pub port: String,
    /// The host end's address.
    pub address: Ipv4Addr,
    /// Answers for the whole prefix, on the other side; in the same /30 as the address.
    pub gateway: Ipv4Addr,
    /// What is reached through the pair.
    pub prefix: Ipv4Net,
    pub mtu: u32,
}

/// The IPv6 side of a [`Pair`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PairIpv6 {
    pub address: Ipv6Addr,
    pub gateway: Ipv6Addr,
    pub prefix: Ipv6Net,
}

/// As [`POINT_TO_POINT`].
const POINT_TO_POINT_IPV6: u8 = 126;

/// Prefix length of the host end's address: itself and the gateway.
const POINT_TO_POINT: u8 = 30;

fn find(links: &Links, name: &str) -> Result<Link, LinkError> {
    links.values().find(|link| link.name == name).cloned().ok_or_else(|| LinkError::Missing(name.to_owned()))
}

/// Counts up whenever a link appears, changes or goes away, for as long as the returned task runs. The count says only
/// "look again": what the links are is read anew, so that a missed message costs nothing but time.
///
/// # Errors
///
/// [`LinkError::Socket`] when there is no netlink socket to be had.
pub fn watch_links() -> Result<(watch::Receiver<u64>, JoinHandle<()>), LinkError> {
    let (connection, _handle, mut messages) =
        rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(LinkError::Socket)?;
    let (changes, changed) = watch::channel(0);
    let task = tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        loop {
            tokio::select! {
                () = &mut connection => return,
                message = messages.next() => match message {
                    Some(_) => changes.send_modify(|count: &mut u64| *count = count.wrapping_add(1)),
                    None => return,
                },
            }
        }
    });
    Ok((changed, task))
}

/// The named network namespace (`ip netns`) that holds an interface called `name`, if this one does not: what a
/// refusal says to somebody who moved the interface away.
pub fn namespace_of(name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir("/run/netns").ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| holds(path, name))
}

fn holds(namespace: &Path, name: &str) -> bool {
    let Ok(namespace) = File::open(namespace) else { return false };
    let name = name.to_owned();
    // A thread of its own: the namespace belongs to the thread that enters it.
    let looked = std::thread::spawn(move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).is_ok()
            && nix::net::if_::if_nametoindex(name.as_str()).is_ok()
    });
    looked.join().unwrap_or(false)
}

fn refused(doing: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> LinkError {
    let doing = doing.into();
    move |source| LinkError::Refused { doing, source }
}

fn disable_ipv6(name: &str) {
    // A kernel without IPv6 has no such file, and nothing to disable.
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
}

fn link(message: &LinkMessage) -> Option<Link> {
    let (mut name, mut mac, mut mtu, mut info, mut xdp) = (None, None, 0, None, None);
    let (mut peer, mut elsewhere) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(value) => name = Some(value.clone()),
            LinkAttribute::Address(value) => mac = MacAddress::try_from(value.as_slice()).ok(),
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::Link(value) => peer = Some(*value),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                info = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.clone()),
                    _ => None,
                });
            }
            LinkAttribute::Xdp(attributes) => xdp = attached(attributes),
            _ => {}
        }
    }
    let kind = match info {
        Some(InfoKind::Veth) => LinkKind::Veth { peer, elsewhere },
        Some(kind) => LinkKind::Virtual(kind.to_string()),
        None if message.header.flags.contains(LinkFlags::Loopback) => LinkKind::Loopback,
        None => LinkKind::Physical,
    };
    Some(Link {
        ifindex: message.header.index,
        name: name?,
        mac,
        mtu,
        kind,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: message.header.flags.contains(LinkFlags::LowerUp),
        xdp,
        xdp_features: None,
    })
}

fn attached(attributes: &[LinkXdp]) -> Option<Xdp> {
    let mode = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::Attached(XdpAttached::Driver) => Some(XdpMode::Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(XdpMode::Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(XdpMode::Offloaded),
        LinkXdp::Attached(XdpAttached::Multiple) => Some(XdpMode::Multiple),
        _ => None,
    })?;
    let program_id = attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id) => Some(*id),
        _ => None,
    })?;
    Some(Xdp { mode, program_id })
}
