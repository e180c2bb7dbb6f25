//! What must be undone, whatever ends this process.
//!
//! `Drop` undoes on the normal way out and after a panic. A signal does not unwind, so everything that outlives a
//! process is also registered here, and one thread waits for SIGINT, SIGTERM and SIGHUP and undoes the lot.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use nix::sys::signal::{SigSet, Signal};

/// Something outside this process's memory that has to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A named network namespace, and every process in it.
    Namespace(String),
    /// A mount point.
    Mount(PathBuf),
    /// A directory with all that is in it.
    Directory(PathBuf),
}

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// A registered leftover, undone on drop.
#[derive(Debug)]
pub struct Undo(Leftover);

impl Undo {
    /// Registers `leftover`, which exists or is about to.
    pub fn register(leftover: Leftover) -> Self {
        leftovers().push(leftover.clone());
        Self(leftover)
    }

    /// Leaves it as it is, for a human to look at.
    pub fn keep(self) {
        leftovers().retain(|one| *one != self.0);
        std::mem::forget(self);
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        undo(&self.0);
        leftovers().retain(|one| *one != self.0);
    }
}

/// Starts the thread that undoes everything when a signal ends this process. To be called first in `main`: threads
/// started earlier would take the signal with its default effect.
pub fn on_signals() {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    if let Err(error) = signals.thread_block() {
        eprintln!("signals end this process without clean-up: {error}");
        return;
    }
    thread::spawn(move || {
        let Ok(signal) = signals.wait() else { return };
        eprintln!("\n{signal}: cleaning up");
        undo_all();
        std::process::exit(128 + signal as i32);
    });
}

/// Undoes everything that is registered, last things first.
pub fn undo_all() {
    let all: Vec<Leftover> = leftovers().drain(..).collect();
    for leftover in all.iter().rev() {
        undo(leftover);
    }
}

fn leftovers() -> MutexGuard<'static, Vec<Leftover>> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn undo(leftover: &Leftover) {
    match leftover {
        Leftover::Namespace(name) => delete_namespace(name),
        Leftover::Mount(path) => {
            if let Err(error) = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH) {
                eprintln!("unmounting {}: {error}", path.display());
            }
        }
        Leftover::Directory(path) => {
            if let Err(error) = std::fs::remove_dir_all(path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                eprintln!("removing {}: {error}", path.display());
            }
        }
    }
}

/// Ends every process in the namespace `name`, then deletes it; its links go with it.
pub fn delete_namespace(name: &str) {
    let Ok(pids) = Command::new("ip").args(["netns", "pids", name]).stderr(Stdio::null()).output() else { return };
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()) {
        // A process that ended meanwhile is what this asks for.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
    }
    let deleted = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
    if !deleted.is_ok_and(|status| status.success()) && Path::new("/run/netns").join(name).exists() {
        eprintln!("could not delete the namespace {name}; `ip netns delete {name}` does");
    }
}

/// A name that no other process and no earlier call uses: `pl<pid>-<count>-<label>`.
pub fn unique(label: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("pl{}-{}-{label}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Deletes the namespaces and directories of earlier runs that were killed; those of living processes stay.
pub fn sweep() {
    let dead = |name: &str| {
        let pid = name.strip_prefix("pl").and_then(|rest| rest.split('-').next());
        pid.and_then(|pid| pid.parse::<u32>().ok()).is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    for name in entries(Path::new("/run/netns")).filter(|name| dead(name)) {
        delete_namespace(&name);
    }
    let temporary = std::env::temp_dir();
    for name in entries(&temporary).filter(|name| dead(name)) {
        let dir = temporary.join(name);
        // Not every directory has a bpffs; the error says nothing else.
        let _ = nix::mount::umount2(&dir.join("bpf"), nix::mount::MntFlags::MNT_DETACH);
        undo(&Leftover::Directory(dir));
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}
