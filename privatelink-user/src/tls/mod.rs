//! TLS: certificates, policies, and the relay, the process that ends the connections of TLS listeners.
//!
//! ```text
//! 10.0.1.10 ─► 10.0.0.50:443 ─► [port of VPC 1] ─ listener, PROXY header ─ [host port] ─► relay ─┐
//! 10.0.1.10:8080 in the provider's VPC ◄─ [port] ◄─ the target's internal address ─ [host port] ◄┘
//! ```
//!
//! To the datapath the relay is a target, and a client of targets like a health check. Who connects is what the PROXY
//! header says that the kernel puts before the first byte.

pub mod alpn;
pub mod certificate;
pub mod crypto;
pub mod lab;
pub mod listener;
pub mod policy;
pub mod proxy_header;
pub mod pump;
pub mod relay;
pub mod tickets;
pub mod unverified;
pub mod verified;
