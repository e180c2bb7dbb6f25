//! Files, by Landlock (landlock(7)): a process says which it will ever touch, and the kernel refuses it all others.
//!
//! A grant is about what is at a path now. What is below a directory may come and go; a single file that is replaced by
//! another one is no longer granted, so what others replace is granted by its directory.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, make_bitflags,
};

use super::ConfineError;

/// What is refused unless it is granted: all that Landlock knew in Linux 6.10. Older kernels refuse what they know:
/// truncating files is 6.2's, commands to devices 6.10's. Which signals may be sent is 6.12's (`ABI::V6`).
const KNOWN: ABI = ABI::V5;

/// What may be done with files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Reading files and listing directories.
    Read,
    /// Reading and running programs.
    Run,
    /// Reading and writing what is there.
    Write,
    /// Writing, and making files.
    Log,
    /// Making sockets, and removing what is there.
    Sockets,
    /// Everything with files, directories, sockets and links that are no programs.
    Keep,
}

impl Right {
    /// Whether anything can be changed by it.
    pub fn writes(self) -> bool {
        match self {
            Self::Read | Self::Run => false,
            Self::Write | Self::Log | Self::Sockets | Self::Keep => true,
        }
    }

    fn access(self) -> BitFlags<AccessFs> {
        match self {
            Self::Read => make_bitflags!(AccessFs::{ReadFile | ReadDir}),
            Self::Run => make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute}),
            Self::Write => make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile}),
            Self::Log => make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg}),
            Self::Sockets => make_bitflags!(AccessFs::{MakeSock | RemoveFile}),
            Self::Keep => make_bitflags!(AccessFs::{
                ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | MakeSock | MakeSym | MakeFifo
                    | RemoveFile | RemoveDir | Refer
            }),
        }
    }
}

/// A file, or a directory with all that is below it, and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    pub path: PathBuf,
    pub right: Right,
}

impl Grant {
    pub fn new(path: impl Into<PathBuf>, right: Right) -> Self {
        Self { path: path.into(), right }
    }

    /// The same right to what is beside `file`, which may be replaced at any time.
    pub fn beside(file: &Path, right: Right) -> Self {
        Self::new(directory(file), right)
    }
}

/// The directory that a file is in.
pub fn directory(file: &Path) -> PathBuf {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    directory.unwrap_or(Path::new(".")).to_owned()
}

/// What any process reads: of the kernel, its own limits; of the host, time, and the authorities whose certificates are
/// believed.
const READ: [&str; 10] = [
    "/proc",
    "/sys",
    "/etc/localtime",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust",
    "/usr/share",
    "/usr/local/share/ca-certificates",
    "/dev/urandom",
];

/// Where programs find their libraries, and the loader that every one of them begins with.
const LIBRARIES: [&str; 6] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store"];

/// What libraries look at before they resolve a name or load another library.
const LOOKED_AT: [&str; 5] =
    ["/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/nsswitch.conf", "/etc/hosts", "/etc/gai.conf"];

/// What both processes read, and where output goes that nobody wants.
pub fn common() -> Vec<Grant> {
    let read = READ.into_iter().chain(LOOKED_AT).map(|path| Grant::new(path, Right::Read));
    read.chain([Grant::new("/dev/null", Right::Write)]).collect()
}

/// What running a program takes, the program itself aside.
pub fn libraries() -> Vec<Grant> {
    LIBRARIES.into_iter().map(|path| Grant::new(path, Right::Run)).collect()
}

/// Where this network namespace's settings of IPv6 are. They are granted to whoever has [`restrict`]ed itself as long
/// as it lives.
pub const IPV6_SETTINGS: &str = "/proc/sys/net/ipv6/conf";

/// Whom signals may be sent to, and by whose abstract sockets (unix(7)) one may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// Whoever is held by the same.
    Own,
    All,
}

/// Refuses all files but `grants` to this thread, the threads that it starts and the programs that they run, for good;
/// and signals and abstract sockets of others. What is not there is not granted. A kernel without Landlock is told of
/// in the log.
///
/// # Errors
///
/// [`ConfineError`] if a path cannot be looked at, or the kernel refuses what it has said that it can.
pub fn restrict(grants: &[Grant], signals: Signals) -> Result<(), ConfineError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?;
    if signals == Signals::Own {
        ruleset = ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket)?;
    }
    let mut ruleset = ruleset.create()?;
    for Grant { path, right } in grants {
        let Ok(found) = std::fs::metadata(path) else { continue };
        let opened = PathFd::new(path).map_err(|source| ConfineError::File { path: path.clone(), source })?;
        let access = right.access();
        let access = if found.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
        if access.is_empty() {
            continue;
        }
        ruleset = ruleset.add_rule(PathBeneath::new(&opened, access))?;
        if path.starts_with("/proc/") {
            // The kernel makes the inodes of its settings anew once nobody has them open, and the rule is the present
            // one's.
            std::mem::forget(opened);
        }
    }
    let status = ruleset.restrict_self()?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => {
            tracing::debug!(
                "Landlock of this kernel is older than 6.12's: it keeps neither signals nor abstract sockets from others"
            );
        }
        RulesetStatus::NotEnforced => {
            tracing::warn!(
                "this kernel has no Landlock (CONFIG_SECURITY_LANDLOCK, `lsm=landlock,…`): files are not confined"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_granted_with_what_replaces_it() {
        assert_eq!(Grant::beside(Path::new("/var/log/access"), Right::Log), Grant::new("/var/log", Right::Log));
        assert_eq!(Grant::beside(Path::new("access"), Right::Log), Grant::new(".", Right::Log));
    }

    #[test]
    fn nobody_runs_what_he_may_write() {
        for right in [Right::Read, Right::Run, Right::Write, Right::Log, Right::Sockets, Right::Keep] {
            let both = AccessFs::WriteFile | AccessFs::Execute;
            assert!(!right.access().contains(both), "{right:?}");
            assert!(AccessFs::from_all(KNOWN).contains(right.access()), "{right:?}");
        }
    }

    #[test]
    fn what_both_processes_read_holds_no_secrets() {
        let root = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(0)).expect("users").expect("a superuser");
        let known = ["/etc/shadow", "/etc/ssl/private/key.pem", "/etc/pki/tls/private", "/dev/mem"].map(PathBuf::from);
        let secrets = [&known[..], &[root.dir.join(".ssh/id_ed25519")]].concat();
        for Grant { path, right } in common() {
            for secret in &secrets {
                assert!(!secret.starts_with(&path), "{} {right:?}", path.display());
            }
        }
    }
}
