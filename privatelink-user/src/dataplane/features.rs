//! What newer kernels have, and the datapath uses where it is there. What every supported kernel has is in
//! [`super::load::OLDEST_KERNEL`]: XDP on frames of several buffers (5.18), `bpf_loop` (5.17), functions that the verifier checks
//! on their own.

use aya::util::KernelVersion;

/// Something that a kernel has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    pub name: &'static str,
    /// The first kernel that has it: major and minor number.
    pub since: (u8, u8),
    /// What becomes of the work without it.
    pub without: &'static str,
}

/// Links of traffic control.
pub const TCX: Feature = Feature {
    name: "tcx",
    since: (6, 6),
    without: "ports get a filter of the clsact discipline (modules sch_ingress and cls_bpf), which others can take off",
};

/// What interfaces can do with XDP, as the kernel says it.
pub const XDP_FEATURES: Feature = Feature {
    name: "XDP features of interfaces",
    since: (6, 3),
    without: "nobody knows which interfaces send what XDP redirects to them, so TC sends what leaves by another port",
};

/// Stack frames that count as what they take, but for steps of 16 bytes; those of 32 add up to more than 512.
pub const FINE_STACK: Feature = Feature {
    name: "stack frames in steps of 16 bytes",
    since: (6, 12),
    without: "`privatelink explain` has no answers about IPv6",
};

/// Features that are done without. The version of the last one is the first that was tried; it may be there before.
pub const OPTIONAL: [Feature; 3] = [TCX, XDP_FEATURES, FINE_STACK];

impl Feature {
    /// Whether a kernel of this version lacks it.
    pub fn missing_in(&self, found: KernelVersion) -> bool {
        let (major, minor) = self.since;
        found < KernelVersion::new(major, minor, 0)
    }
}

/// Tells the operator what the running kernel lacks, and which has it.
pub fn report() {
    let Ok(found) = KernelVersion::current() else { return };
    for Feature { name, since: (major, minor), without } in OPTIONAL.iter().filter(|feature| feature.missing_in(found))
    {
        tracing::warn!("this kernel has no {name}, which needs {major}.{minor}: {without}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_lack_what_is_newer() {
        let lacks = |major, minor| {
            let missing = OPTIONAL.iter().filter(move |one| one.missing_in(KernelVersion::new(major, minor, 0)));
            missing.map(|feature| feature.since).collect::<Vec<_>>()
        };
        assert_eq!(lacks(6, 1), [(6, 6), (6, 3), (6, 12)]);
        assert_eq!(lacks(6, 6), [(6, 12)]);
        assert!(lacks(6, 12).is_empty() && lacks(7, 0).is_empty());
    }
}
