//! Network namespaces that end with the value that names them.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::SigSet,
};

use crate::cleanup::{Leftover, Undo, unique};

/// A named network namespace (`ip netns`), with its loopback up. Clones share it; the last one deletes it.
#[derive(Clone, Debug)]
pub struct Netns(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    file: File,
    undo: Option<Undo>,
}

impl Netns {
    /// Makes a namespace whose unique name ends in `label`.
    pub fn new(label: &str) -> Result<Self> {
        Self::named(unique(label))
    }

    /// Makes the namespace `name`, which must not exist.
    pub fn named(name: String) -> Result<Self> {
        let undo = Undo::register(Leftover::Namespace(name.clone()));
        ip(&["netns", "add", &name])?;
        let path = Path::new("/run/netns").join(&name);
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let netns = Self(Arc::new(Inner { name, file, undo: Some(undo) }));
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The file that stands for it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0.name)
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let inner = Arc::clone(&self.0);
        let enter = move || {
            // A child inherits the mask of its parent, which blocks what it waits for.
            SigSet::all().thread_unblock()?;
            setns(inner.file.as_fd(), CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
        };
        // SAFETY: between fork and exec the closure makes system calls only and allocates nothing.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// `ip -n NAME ARGS`.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        ip(&[&["-n", self.name()], args].concat())
    }

    /// Runs `work` on a thread inside the namespace; its sockets stay there wherever they go later.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                setns(self.0.file.as_fd(), CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("entering the namespace {}", self.name()))?;
                Ok(work())
            });
            entered.join().map_err(|panic| anyhow!("a thread in {} panicked: {}", self.name(), panic_text(&*panic)))?
        })
    }

    /// Starts a thread inside the namespace; it ends when `work` returns.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<Result<T>> {
        let netns = self.clone();
        thread::spawn(move || {
            setns(netns.0.file.as_fd(), CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("entering the namespace {}", netns.name()))?;
            Ok(work())
        })
    }

    /// The names of all interfaces inside.
    pub fn links(&self) -> Result<Vec<String>> {
        let output = Command::new("ip").args(["-n", self.name(), "-j", "link"]).output().context("starting ip")?;
        let links: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).context("what ip printed")?;
        Ok(links.iter().filter_map(|link| link["ifname"].as_str().map(str::to_owned)).collect())
    }

    /// Sets `net.<key>` to `value` inside.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{}", key.replace('.', "/"));
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.run(|| std::fs::write(&path, value).with_context(|| format!("writing {value} to {path}")))?
    }

    /// A counter of `/proc/net/snmp` or `/proc/net/netstat`, for example `("Tcp", "InCsumErrors")`.
    pub fn protocol_counter(&self, protocol: &str, name: &str) -> Result<u64> {
        // A thread's own view: /proc/net leads to the main thread's namespace.
        let read = |file: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
        let text = self.run(|| Ok::<_, io::Error>(read("snmp")? + &read("netstat")?))??;
        let prefix = format!("{protocol}: ");
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(&prefix));
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let mut pairs = names.split(' ').zip(values.split(' '));
            if let Some((_, value)) = pairs.find(|(one, _)| *one == name) {
                return value.parse().with_context(|| format!("{protocol} {name} is {value}"));
            }
        }
        bail!("this kernel counts no {protocol} {name}")
    }

    /// Leaves the namespace and what runs in it behind, for a human to look at.
    pub fn keep(self) -> Result<()> {
        let mut inner = Arc::try_unwrap(self.0).map_err(|shared| anyhow!("{} is still in use", shared.name))?;
        if let Some(undo) = inner.undo.take() {
            undo.keep();
        }
        Ok(())
    }
}

/// Runs `ip ARGS`; the error quotes what it said.
pub fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(args).output().context("starting ip (package iproute2)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", args.join(" "), said.trim());
    Ok(())
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
