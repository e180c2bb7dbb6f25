//! The host's links and the neighbours of the datapath's ports: rtnetlink and raw ARP, and the pure machine that
//! decides when to ask.

pub mod arp;
pub mod links;
pub mod ndp;
pub mod neighbor;
pub mod raw;
pub mod synthetic;
pub mod xdp_features;
