//! Everything that the kernel's side can refuse.

use std::{io, path::PathBuf};

use super::load::Shape;

/// Why the datapath cannot be loaded, changed or asked. Each text names the value, the rule and the way out.
#[derive(Debug, thiserror::Error)]
pub enum DataplaneError {
    #[error("this privatelink was built without its kernel object; run `cargo xtask setup` and build again")]
    NoObject,
    #[error("kernel {found} is too old: the datapath needs 6.1 or later (XDP on frames of several buffers, bpf_loop)")]
    KernelTooOld { found: String },
    #[error(
        "missing {}: run the agent as root, or give it the capability (AmbientCapabilities= in a systemd unit)",
        missing.join(" and ")
    )]
    MissingCapability { missing: Vec<&'static str> },
    #[error("there is no bpffs at {path} and none can be mounted there: {source}; run `mount -t bpf bpf {path}`")]
    NoBpffs {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the pinned tables under {path} have layout version {found}, this agent needs {ours}; nothing was changed and they \
         go on forwarding: start the version that made them, or take them out with `privatelink agent --remove` (this ends \
         their flows) and start this one again"
    )]
    AbiMismatch { path: PathBuf, found: u32, ours: u32 },
    #[error(
        "the pinned table {path} has {found}, this agent needs {ours}; nothing was changed: start the version that made it, \
         or take it out with `privatelink agent --remove` (this ends its flows) and start this one again"
    )]
    ShapeMismatch { path: PathBuf, found: Shape, ours: Shape },
    #[error("the pinned table {path} cannot be looked at: {source}")]
    Pinned {
        path: PathBuf,
        #[source]
        source: Box<aya::maps::MapError>,
    },
    #[error("the kernel object cannot be loaded: {0}")]
    Load(#[source] Box<aya::EbpfError>),
    #[error("the kernel object has no {kind} named {name}; build it anew with `cargo xtask build`")]
    Missing { kind: &'static str, name: &'static str },
    #[error("the kernel refuses the program {name}: {source}")]
    Verify {
        name: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the kernel does not run the program {name}: {source}")]
    Program {
        name: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error("the program {name} returned {returned} instead of a result")]
    Result { name: &'static str, returned: u32 },
    #[error("table {table}: {source}")]
    Map {
        table: &'static str,
        #[source]
        source: Box<aya::maps::MapError>,
    },
    #[error("table {table} cannot be mapped into memory: {source}")]
    Mmap {
        table: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("cannot attach to {interface} by {hook}: {source}")]
    Attach {
        interface: String,
        hook: &'static str,
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    #[error(
        "the XDP program {program_id} of somebody else is attached to {interface}; detach it \
         (`ip link set dev {interface} xdp off`) or attach the port with `--hook tc`"
    )]
    ForeignXdp { interface: String, program_id: u32 },
    #[error("pin {path}: {source}")]
    Pin {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("a fault was asked for")]
    Injected,
}

impl DataplaneError {
    pub(super) fn map(table: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { table, source: Box::new(source) }
    }
}
