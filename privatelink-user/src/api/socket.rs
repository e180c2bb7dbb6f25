//! The file of the API's Unix socket.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use crate::confine::files;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another agent answers on the socket '{}'", .0.display())]
    InUse(PathBuf),
    #[error("'{}' exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    #[error("the socket '{}' cannot be made: {source}", path.display())]
    Unusable { path: PathBuf, source: io::Error },
}

impl SocketError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::InUse(_) => "stop that agent, or name another socket with --socket",
            Self::NotASocket(_) => "remove it, or name another path with --socket",
            Self::Unusable { .. } => "run the agent as a user that may write there, or name another path with --socket",
        }
    }
}

/// The socket's file; removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
}

impl SocketFile {
    /// Makes the directory of `path`, which [`SocketFile::listen`] needs.
    pub fn make_directory(path: &Path) -> Result<(), SocketError> {
        let unusable = |source: io::Error| SocketError::Unusable { path: path.to_owned(), source };
        fs::create_dir_all(files::directory(path)).map_err(unusable)
    }

    /// Listens on `path`, for the owner only. A socket that is left over, on which nobody answers, is replaced.
    pub fn listen(path: &Path) -> Result<(UnixListener, Self), SocketError> {
        let unusable = |source: io::Error| SocketError::Unusable { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(metadata) if !metadata.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(unusable)?;
                }
                Err(error) => return Err(unusable(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(error)),
        }
        // The file is made with the permissions that the mask leaves, before anybody can connect.
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        nix::sys::stat::umask(mask);
        let listener = listener.map_err(unusable)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(unusable)?;
        Ok((listener, Self { path: path.to_owned() }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the socket's file was not removed");
        }
    }
}
