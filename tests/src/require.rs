//! What a test needs of the machine it runs on.
//!
//! A test whose needs are not met is reported as ignored, with the reason, and never as passed. Where the machine is
//! meant to have everything (the variable `CI` is `true`), an unmet need is a failure.

use std::{env, path::PathBuf};

/// A need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Namespaces, links and BPF.
    Root,
    /// A program on PATH or in an sbin directory.
    Program(&'static str),
    /// The `aws` command line, from PyPI.
    AwsCli,
    /// A Landlock that keeps signals and abstract sockets from others: Linux 6.12 (landlock(7), ABI 6).
    Landlock,
    /// No other test beside it: it compares rates, or takes every core for a while. The suite sees to that.
    WholeMachine,
}

impl Need {
    /// Why this machine does not meet it.
    pub fn unmet(self) -> Option<String> {
        match self {
            Self::WholeMachine => None,
            Self::Root => (!nix::unistd::geteuid().is_root()).then(|| "needs root".to_owned()),
            Self::AwsCli => crate::aws::environment().err().map(|why| format!("needs the aws command line: {why}")),
            Self::Landlock => {
                let abi = landlock_abi();
                (abi < 6).then(|| {
                    format!("needs ABI 6 of Landlock (Linux 6.12, `lsm=landlock,…`), and this kernel has {abi}")
                })
            }
            Self::Program(name) => {
                find(name).is_none().then(|| format!("needs {name}; `cargo xtask setup` installs it or says how"))
            }
        }
    }
}

/// The version of Landlock that this kernel has; less than 1 if it has none.
fn landlock_abi() -> i64 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the call makes nothing and reads no memory (landlock_create_ruleset(2)).
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) }
}

/// Where a program is; PATH may lack the sbin directories.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(sbin).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Whether an unmet need is a failure here.
pub fn strict() -> bool {
    env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}
