//! The only code that touches aya-ebpf: maps, entry programs, applying a rewrite. No policy.

mod answer;
mod challenge;
mod explain;
mod fragment;
mod icmp;
mod icmp6;
mod maps;
mod packet;
mod proxy;
mod service;
mod tables;
mod tc;
mod translate;
mod v6;
mod wait;
mod xdp;
