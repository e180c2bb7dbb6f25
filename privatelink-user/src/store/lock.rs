//! One agent for each state directory.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::StoreError;

/// The name of the lock file in the state directory; it holds the process id of the agent that has it.
const LOCK_NAME: &str = "lock";

/// The lock of a state directory; the kernel takes it away when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: Flock<File>,
}

impl DirectoryLock {
    /// Takes the lock, or says who has it.
    pub fn acquire(directory: &Path) -> Result<Self, StoreError> {
        let unusable =
            |source: std::io::Error| StoreError::Directory { directory: directory.to_owned(), source: source.into() };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(LOCK_NAME))
            .map_err(unusable)?;
        let mut locked = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let process = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::InUse { directory: directory.to_owned(), process });
            }
            Err((_, errno)) => return Err(unusable(errno.into())),
        };
        // The number is a courtesy to who is refused; on a full disk the lock is as good without it.
        let noted = locked
            .set_len(0)
            .and_then(|()| locked.seek(SeekFrom::Start(0)).map(drop))
            .and_then(|()| writeln!(locked, "{}", std::process::id()));
        if let Err(error) = noted {
            tracing::debug!(%error, "the lock file does not name this process");
        }
        Ok(Self { _file: locked })
    }
}
