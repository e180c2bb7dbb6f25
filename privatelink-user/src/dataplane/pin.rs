//! Where programs and tables survive the agent: a directory on a BPF file system for each instance.
//!
//! ```text
//! <bpffs>/privatelink/<instance>/maps/<TABLE>      the tables
//!                               /links/tc-<ifindex>, xdp-<ifindex>, clsact-<ifindex>/
//! ```

use std::{
    ffi::OsStr,
    fs,
    hash::Hasher as _,
    io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::DataplaneError;

/// What a state directory calls itself: pins and the host port's interfaces are named by it, so that several agents can
/// share a host. Eight hexadecimal digits of a hash of the directory's real path.
pub fn instance(state_dir: &Path) -> String {
    let real = fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_path_buf());
    let mut hasher = Fnv::default();
    hasher.write(real.as_os_str().as_encoded_bytes());
    let hash = hasher.finish();
    format!("{:08x}", (hash >> 32) as u32 ^ hash as u32)
}

/// FNV-1a: the name must be the same in every build, which the standard library's hashers do not promise.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// The directory of one instance.
#[derive(Clone, Debug)]
pub struct PinDir {
    root: PathBuf,
}

impl PinDir {
    /// Names the directory; touches nothing.
    pub fn new(bpffs: &Path, instance: &str) -> Self {
        Self { root: bpffs.join("privatelink").join(instance) }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn exists(&self) -> bool {
        self.root.is_dir()
    }

    /// Makes the directory.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Pin`].
    pub fn create(&self) -> Result<(), DataplaneError> {
        for directory in [self.maps(), self.links()] {
            fs::create_dir_all(&directory).map_err(pin_error(&directory))?;
        }
        Ok(())
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    pub fn tc_link(&self, ifindex: u32) -> PathBuf {
        self.links().join(format!("tc-{ifindex}"))
    }

    pub fn xdp_link(&self, ifindex: u32) -> PathBuf {
        self.links().join(format!("xdp-{ifindex}"))
    }

    /// A directory that says that the interface has our clsact filter, which nothing can pin.
    pub fn clsact_mark(&self, ifindex: u32) -> PathBuf {
        self.links().join(format!("clsact-{ifindex}"))
    }

    /// The interfaces that have a pinned link or our filter.
    pub fn linked(&self) -> Vec<u32> {
        let mut linked: Vec<u32> = fs::read_dir(self.links())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let (_, ifindex) = name.to_str()?.split_once('-')?;
                ifindex.parse().ok()
            })
            .collect();
        linked.sort_unstable();
        linked.dedup();
        linked
    }

    /// Removes every pin of the instance. What was pinned ends with its last user.
    ///
    /// # Errors
    ///
    /// [`DataplaneError::Pin`] with what cannot be removed; a directory that is not there is no error.
    pub fn remove_all(&self) -> Result<(), DataplaneError> {
        match fs::remove_dir_all(&self.root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(pin_error(&self.root)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn maps(&self) -> PathBuf {
        self.root.join("maps")
    }

    fn links(&self) -> PathBuf {
        self.root.join("links")
    }
}

/// Removes one pin; one that is not there is no error.
///
/// # Errors
///
/// [`DataplaneError::Pin`].
pub fn unpin(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(pin_error(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a mark; one that is there is no error.
///
/// # Errors
///
/// [`DataplaneError::Pin`].
pub fn mark(path: &Path) -> Result<(), DataplaneError> {
    fs::create_dir_all(path).map_err(pin_error(path))
}

/// Removes a mark; one that is not there is no error.
///
/// # Errors
///
/// [`DataplaneError::Pin`].
pub fn unmark(path: &Path) -> Result<(), DataplaneError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(pin_error(path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Mounts a BPF file system at `path` unless there is one.
///
/// # Errors
///
/// [`DataplaneError::NoBpffs`].
pub fn ensure_bpffs(path: &Path) -> Result<(), DataplaneError> {
    if is_bpffs(path) {
        return Ok(());
    }
    let no_bpffs = |source: io::Error| DataplaneError::NoBpffs { path: path.to_path_buf(), source };
    fs::create_dir_all(path).map_err(no_bpffs)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(OsStr::new("bpf")), path, Some(OsStr::new("bpf")), flags, Some(OsStr::new("mode=0700")))
        .map_err(|error| no_bpffs(error.into()))?;
    if mounts_are_private() {
        tracing::warn!(
            path = %path.display(),
            "mounted a BPF file system that only this process sees: the kernel stops forwarding when the agent ends. \
             `ip netns exec` does that; `nsenter --net=/run/netns/NAME privatelink agent` does not"
        );
    }
    Ok(())
}

/// Whether this process has a mount namespace of its own, whose mounts go with it: another one than the first
/// process's, or than its parent's where the first process may not be looked at.
fn mounts_are_private() -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    let parent = std::os::unix::process::parent_id().to_string();
    match (namespace("self"), namespace("1").or_else(|_| namespace(&parent))) {
        (Ok(own), Ok(other)) => own != other,
        (Ok(_) | Err(_), _) => false,
    }
}

/// Whether `path` is on a BPF file system.
pub fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

pub(super) fn pin_error(path: &Path) -> impl FnOnce(io::Error) -> DataplaneError {
    let path = path.to_path_buf();
    move |source| DataplaneError::Pin { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_by_the_real_path_of_its_state_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).expect("a link");
        assert_eq!(instance(dir.path()), instance(&link));
        assert_ne!(instance(dir.path()), instance(Path::new("/")));
        assert_eq!(instance(Path::new("/")).len(), 8);
    }
}
