//! What the agent and the relay may do to their host: as little as forwarding needs, from before their first thread on.
//!
//! Three things hold them, each by a table: capabilities ([`capabilities`]), files ([`files`], by Landlock) and system
//! calls ([`calls`], by seccomp). Programs that they start are held by the same.

pub mod calls;
pub mod capabilities;
pub mod files;

use caps::errors::CapsError;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Why a process cannot give up what it does not need.
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
    #[error("giving up the files of others: {0}")]
    Files(#[from] landlock::RulesetError),
    #[error("keeping '{path}' within reach: {source}")]
    File {
        path: std::path::PathBuf,
        #[source]
        source: landlock::PathFdError,
    },
    #[error("making '{path}', where the relay's socket goes: {source}")]
    Directory {
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("giving up system calls: {0}")]
    Calls(#[from] seccompiler::Error),
    #[error("giving up system calls: {0}")]
    Filter(#[from] seccompiler::BackendError),
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
