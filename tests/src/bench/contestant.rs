//! One of those that are compared: namespaces of its own, a web server behind it and a client before it.
//!
//! ```text
//! client ── consumer ┐                        IPv4: both sides are 10.0.0.0/16 to the load balancer, each behind its link
//!                    ├ load balancer or rival IPv6: fd00:1::/64 and fd00:2::/64, which rivals route between
//! server ── provider ┘
//! ```

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context as _, Result};

use super::process::{SERVER_CPU, find, pin, quiet, unpin};
use crate::{
    netns::Netns,
    programs::{Directory, Running},
    scenario::Scenario,
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 10);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 2, 0x10);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 1, 0x10);
/// Of each family. Each is a target: the server closes first, and a port towards a target rests for a minute then.
const ADDRESSES: u8 = 16;
/// The endpoint, and the rivals' address.
pub const FRONT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);
pub const FRONT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x50);
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
pub const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 5);
/// The IPv6 networks of clients and of servers.
pub const NETWORKS6: [(&str, &str); 2] = [("consumer", "fd00:1::/64"), ("provider", "fd00:2::/64")];
/// Where the web server speaks HTTP.
pub const PLAIN: u16 = 8080;
/// Where it expects a PROXY protocol header before that.
pub const PROXY: u16 = 8081;
/// Bytes of a download.
pub const DOWNLOAD: u64 = 8 << 20;

/// One topology with what carries connections through it.
#[derive(Debug)]
pub struct Contestant {
    _running: Vec<Running>,
    _files: Directory,
    place: Place,
    pub client: Netns,
}

#[derive(Debug)]
pub enum Place {
    Plain { topology: Topology },
    Ours { scenario: Box<Scenario> },
}

impl Contestant {
    pub fn start(build: impl FnOnce(Topology, &Directory, &mut Vec<Running>) -> Result<Place>) -> Result<Self> {
        let files = Directory::new("bench")?;
        let plans = vec![
            VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
            VpcPlan::new("provider", vec![HostPlan::new("server", 2, 10).with_addresses(ADDRESSES)]),
        ];
        let topology = Topology::build(Hook::Tc, plans, None)?;
        let client = topology.host("client").netns.clone();
        for netns in [&client, &topology.lb] {
            netns.sysctl("ipv4.tcp_tw_reuse", "1")?;
            netns.sysctl("ipv4.ip_local_port_range", "1024 65535")?;
        }
        for (host, count, first) in [("client", 1, CLIENT6), ("server", ADDRESSES, SERVER6)] {
            let netns = &topology.host(host).netns;
            for address in addresses6(first, count) {
                netns.ip(&["address", "add", &format!("{address}/64"), "dev", "eth0", "nodad"])?;
            }
        }
        let mut running = vec![web(&topology.host("server").netns, &files)?];
        let place = build(topology, &files, &mut running)?;
        Ok(Self { _running: running, _files: files, place, client })
    }

    /// The namespace of what carries the connections.
    pub fn lb(&self) -> &Netns {
        match &self.place {
            Place::Plain { topology } => &topology.lb,
            Place::Ours { scenario } => &scenario.topology.lb,
        }
    }

    pub fn diagnosis(&self) -> String {
        match &self.place {
            Place::Plain { topology } => format!("through {}", topology.lb.name()),
            Place::Ours { scenario } => scenario.diagnosis(),
        }
    }
}

/// nginx with both kinds of port, on the server's CPU.
fn web(netns: &Netns, files: &Directory) -> Result<Running> {
    let path = files.path();
    let dir = path.display();
    fs::create_dir_all(path.join("www")).context("the web server's directory")?;
    fs::write(path.join("www/small"), "hello\n").context("the small file")?;
    fs::write(path.join("www/large"), vec![0x5a; DOWNLOAD as usize]).context("the large file")?;
    let config = format!(
        "user root; worker_processes 1; daemon off; pid {dir}/web.pid; error_log {dir}/web.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000;\n\
         client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;\n\
         uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
         server {{ listen {PLAIN} backlog=4096; listen [::]:{PLAIN} backlog=4096; listen {PROXY} proxy_protocol backlog=4096; root {dir}/www; }} }}\n"
    );
    fs::write(path.join("web.conf"), config).context("nginx's configuration")?;
    let mut command = netns.command(find("nginx")?);
    command.arg("-c").arg(path.join("web.conf")).arg("-p").arg(path).arg("-e").arg(path.join("web.log"));
    pin(SERVER_CPU)?;
    let running = Running::start(quiet(&mut command));
    unpin()?;
    running
}

/// The server's addresses, of which each is a target.
pub fn targets() -> impl Iterator<Item = Ipv4Addr> {
    let [a, b, c, d] = SERVER.octets();
    (0..ADDRESSES).map(move |n| Ipv4Addr::new(a, b, c, d + n))
}

/// Its IPv6 addresses.
pub fn targets6() -> impl Iterator<Item = Ipv6Addr> {
    addresses6(SERVER6, ADDRESSES)
}

fn addresses6(first: Ipv6Addr, count: u8) -> impl Iterator<Item = Ipv6Addr> {
    (0..u128::from(count)).map(move |n| Ipv6Addr::from(first.to_bits() + n))
}

/// Starts HAProxy with a configuration.
pub fn haproxy(lb: &Netns, config: &str, files: &Directory) -> Result<Running> {
    let file = files.path().join("haproxy.cfg");
    fs::write(&file, config).context("HAProxy's configuration")?;
    let mut command = lb.command(find("haproxy")?);
    command.arg("-db").arg("-f").arg(file);
    Running::start(quiet(&mut command))
}
