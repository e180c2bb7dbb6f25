//! The DNS server: names of endpoints, endpoint services and load balancers, private names per VPC, everything else by
//! the upstreams.
//!
//! [`verification`] asks for the records that show whose a private name is.
//!
//! [`directory`] is pure: state, asking VPC and name come in, an answer goes out. [`zones`] says which zones' addresses
//! it has. [`upstream`] asks others, [`server`] is the edge with the sockets. How packets of a VPC reach the server,
//! and how the server knows which VPC it was, is `agent/resolver.rs`.

pub mod directory;
pub mod server;
pub mod upstream;
pub mod verification;
pub mod zones;

use std::net::SocketAddr;

/// How names are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Addresses of the host at which hosts outside every VPC may ask.
    pub listen: Vec<SocketAddr>,
    /// Who is asked for names that are not ours, in order.
    pub upstreams: Vec<SocketAddr>,
    /// Do not serve inside the VPCs.
    pub outside_only: bool,
}

/// The port of DNS (RFC 1035 section 4.2).
pub const PORT: u16 = 53;
