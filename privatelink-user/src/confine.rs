//! What the agent may do to its host: as little as forwarding needs, from before its first thread on.

use std::collections::HashSet;

use caps::{CapSet, Capability, errors::CapsError};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The capabilities that the agent keeps, and what for.
pub const KEPT: [(Capability, &str); 5] = [
    (Capability::CAP_NET_ADMIN, "attaching programs, the host port's link and addresses"),
    (Capability::CAP_NET_RAW, "asking for next hops' Ethernet addresses"),
    (Capability::CAP_BPF, "loading programs and filling tables"),
    (Capability::CAP_PERFMON, "programs that compare and subtract pointers, as any that reads packets does"),
    (Capability::CAP_NET_BIND_SERVICE, "names on port 53"),
];

/// Why the agent cannot give up what it does not need.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("giving up {what}: {source}")]
    Capabilities {
        what: &'static str,
        #[source]
        source: CapsError,
    },
    #[error("giving up what programs with file capabilities or the set-user-ID bit could give back: {0}")]
    NoNewPrivileges(#[source] nix::Error),
}

/// Gives up every capability but [`KEPT`], for this thread, the threads that it starts, and all programs that they run.
///
/// Belongs before the first thread and after what needs more: mounting bpffs, and files that belong to others. Where
/// `CAP_BPF` or `CAP_PERFMON` are missing, `CAP_SYS_ADMIN` stands in for them, and is kept.
///
/// # Errors
///
/// [`ConfineError`]; the kernel refuses none of it to a process that has been given any of it.
pub fn drop_capabilities() -> Result<(), ConfineError> {
    let failed = |what| move |source| ConfineError::Capabilities { what, source };
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("nothing yet"))?;
    let mut kept: HashSet<Capability> = KEPT.into_iter().map(|(capability, _)| capability).collect();
    if !permitted.contains(&Capability::CAP_BPF) || !permitted.contains(&Capability::CAP_PERFMON) {
        kept.insert(Capability::CAP_SYS_ADMIN);
    }
    // What is in the bounding set comes back when root runs another program.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding).map_err(failed("nothing yet"))?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(failed("the bounding set"))?;
        }
    }
    let left: HashSet<Capability> = permitted.intersection(&kept).copied().collect();
    let inheritable = caps::read(None, CapSet::Inheritable).map_err(failed("nothing yet"))?;
    let inherited: HashSet<Capability> = inheritable.intersection(&left).copied().collect();
    caps::set(None, CapSet::Effective, &left).map_err(failed("effective capabilities"))?;
    caps::set(None, CapSet::Permitted, &left).map_err(failed("permitted capabilities"))?;
    caps::set(None, CapSet::Inheritable, &inherited).map_err(failed("inheritable capabilities"))?;
    nix::sys::prctl::set_no_new_privs().map_err(ConfineError::NoNewPrivileges)
}

/// As many open files as the system allows: a connection that the relay carries takes two.
pub fn raise_file_limit() {
    const WANTED: u64 = 1 << 20;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| {
        let more = hard.max(WANTED);
        // Beyond the hard limit it takes CAP_SYS_RESOURCE.
        setrlimit(Resource::RLIMIT_NOFILE, more, more).or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
