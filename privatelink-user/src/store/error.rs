//! What can go wrong with the state file, each with the way out.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{DatabaseError, StorageError};

use crate::model::InvariantViolation;

/// Why the state cannot be opened or changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the state directory '{}' cannot be used: {source}", directory.display())]
    Directory { directory: PathBuf, source: Arc<io::Error> },
    #[error("'{}' may be written by others: its mode is {mode:o}", path.display())]
    Writable { path: PathBuf, mode: u32 },
    #[error("'{}' belongs to another user, {owner}, who could change it", path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("the state directory '{}' is used by another agent{}", directory.display(), holder(*.process))]
    InUse { directory: PathBuf, process: Option<u32> },
    #[error("the state file '{}' is corrupt: {detail}", file.display())]
    Corrupt { file: PathBuf, detail: String },
    #[error("the state file '{}' has schema version {found}; this program knows version {known}", file.display())]
    Schema { file: PathBuf, found: String, known: u32 },
    #[error("no space is left for the state file '{}'; nothing was changed", file.display())]
    NoSpace { file: PathBuf },
    #[error("the state file '{}' cannot be read or written: {detail}; nothing was changed", file.display())]
    Io { file: PathBuf, detail: String },
    #[error("the change would break a rule of the model and was not committed: {0}")]
    Invariant(InvariantViolation),
}

fn holder(process: Option<u32>) -> String {
    process.map_or_else(String::new, |process| format!(", process {process}"))
}

impl StoreError {
    /// The way out.
    pub fn hint(&self) -> String {
        match self {
            Self::Directory { .. } => {
                "run the agent as a user that may write there, or name another directory with --state-dir".to_owned()
            }
            Self::Writable { path, mode: _ } => format!("run `chmod go-w {}`", path.display()),
            Self::Foreign { path, owner: _ } => {
                format!("run `chown root {}`, or the agent as that user", path.display())
            }
            Self::InUse { .. } => {
                "stop the other agent, or give this one a --state-dir and a --socket of its own".to_owned()
            }
            Self::Corrupt { file, .. } => format!(
                "put a backup in its place, or move it away (mv {0} {0}.corrupt) and declare the resources anew with \
                 `privatelink apply -f FILE`; without the file the agent starts empty",
                file.display()
            ),
            Self::Schema { .. } => {
                "run the version of privatelink that wrote it, or name another directory with --state-dir".to_owned()
            }
            Self::NoSpace { file } => format!(
                "free some space on the file system that holds {} and repeat the command",
                file.parent().unwrap_or(file).display()
            ),
            Self::Io { .. } => "check the file system and the permissions, and repeat the command".to_owned(),
            Self::Invariant(_) => {
                "this is a bug in privatelink; please report it with the command that you ran".to_owned()
            }
        }
    }

    pub(super) fn open(file: &Path, error: DatabaseError) -> Self {
        let file = file.to_owned();
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                Self::InUse { directory: file.parent().unwrap_or(&file).to_owned(), process: None }
            }
            DatabaseError::UpgradeRequired(version) => {
                Self::Schema { file, found: format!("{version} of the database format"), known: super::schema::VERSION }
            }
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Corrupt { file, detail: error.to_string() }
            }
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Corrupt { file, detail: "it is truncated".to_owned() }
            }
            DatabaseError::Storage(error) => Self::write(&file, redb::Error::from(error)),
            error => Self::Io { file, detail: error.to_string() },
        }
    }

    pub(super) fn write(file: &Path, error: redb::Error) -> Self {
        let file = file.to_owned();
        match error {
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Self::NoSpace { file }
            }
            redb::Error::Corrupted(detail) => Self::Corrupt { file, detail },
            error => Self::Io { file, detail: error.to_string() },
        }
    }
}

/// Why an update did not happen.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError<E> {
    /// The decision was to refuse.
    #[error("refused")]
    Refused(E),
    #[error(transparent)]
    Store(#[from] StoreError),
}
