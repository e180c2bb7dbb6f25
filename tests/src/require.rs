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
            Self::Program(name) => {
                find(name).is_none().then(|| format!("needs {name}; `cargo xtask setup` installs it or says how"))
            }
        }
    }
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
