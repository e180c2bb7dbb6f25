//! The only code that touches aya-ebpf: maps, entry programs, applying a rewrite. No policy.

mod explain;
mod maps;
mod packet;
mod service;
mod tables;
mod tc;
mod v6;
mod xdp;
