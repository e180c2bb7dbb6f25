//! Capabilities (capabilities(7)).

use std::collections::HashSet;

use caps::{CapSet, Capability};

use super::ConfineError;

/// The capabilities that the agent keeps, and what for. The relay keeps none.
pub const KEPT: [(Capability, &str); 5] = [
    (Capability::CAP_NET_ADMIN, "attaching programs, the host port's link and addresses"),
    (Capability::CAP_NET_RAW, "asking for next hops' Ethernet addresses"),
    (Capability::CAP_BPF, "loading programs and filling tables"),
    (Capability::CAP_PERFMON, "programs that compare and subtract pointers, as any that reads packets does"),
    (Capability::CAP_NET_BIND_SERVICE, "names on port 53"),
];

/// Gives up every capability but [`KEPT`], for this thread, the threads that it starts, and all programs that they run.
///
/// Belongs before the first thread and after what needs more: mounting bpffs, and files that belong to others. Where
/// `CAP_BPF` or `CAP_PERFMON` are missing, `CAP_SYS_ADMIN` stands in for them, and is kept.
///
/// # Errors
///
/// [`ConfineError`]; the kernel refuses none of it to a process that has been given any of it.
pub fn keep_few() -> Result<(), ConfineError> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("nothing yet"))?;
    let mut kept: HashSet<Capability> = KEPT.into_iter().map(|(capability, _)| capability).collect();
    if !permitted.contains(&Capability::CAP_BPF) || !permitted.contains(&Capability::CAP_PERFMON) {
        kept.insert(Capability::CAP_SYS_ADMIN);
    }
    keep(&permitted, &kept)
}

/// Gives up every capability, as [`keep_few`] does.
///
/// # Errors
///
/// As [`keep_few`].
pub fn keep_none() -> Result<(), ConfineError> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed("nothing yet"))?;
    keep(&permitted, &HashSet::new())
}

fn keep(permitted: &HashSet<Capability>, kept: &HashSet<Capability>) -> Result<(), ConfineError> {
    // What is in the bounding set comes back when root runs another program.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in caps::read(None, CapSet::Bounding).map_err(failed("nothing yet"))?.difference(kept) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(failed("the bounding set"))?;
        }
    }
    let left: HashSet<Capability> = permitted.intersection(kept).copied().collect();
    let inheritable = caps::read(None, CapSet::Inheritable).map_err(failed("nothing yet"))?;
    let inherited: HashSet<Capability> = inheritable.intersection(&left).copied().collect();
    caps::set(None, CapSet::Effective, &left).map_err(failed("effective capabilities"))?;
    caps::set(None, CapSet::Permitted, &left).map_err(failed("permitted capabilities"))?;
    caps::set(None, CapSet::Inheritable, &inherited).map_err(failed("inheritable capabilities"))?;
    nix::sys::prctl::set_no_new_privs().map_err(ConfineError::NoNewPrivileges)
}

fn failed(what: &'static str) -> impl Fn(caps::errors::CapsError) -> ConfineError {
    move |source| ConfineError::Capabilities { what, source }
}
