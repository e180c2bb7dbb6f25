//! The agent in a namespace of its own, with files of its own.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    mount::{MsFlags, mount},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cleanup::{Leftover, Undo, unique},
    cli::Cli,
    eventually::eventually,
    netns::Netns,
};

/// Longer than a start ever takes; a start that fails is noticed at once. An emulated processor says how long it needs.
fn ready() -> Duration {
    let told = std::env::var("PRIVATELINK_READY_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(told.unwrap_or(20))
}

/// `privatelink agent` in a namespace. Dropping it ends the agent and takes its pins and files away.
#[derive(Debug)]
pub struct Agent {
    program: PathBuf,
    netns: Netns,
    child: Option<Child>,
    dir: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(&'static str, OsString)>,
    state: PathBuf,
    // In this order: the mount has to go before the directory that holds it.
    undo: Vec<Undo>,
}

impl Agent {
    /// Starts the agent in `netns` and waits until it answers.
    ///
    /// It has a BPF file system of its own, whose pins outlive the process as they would on a real host, and are gone
    /// when this value is.
    pub fn start(program: &Path, netns: &Netns) -> Result<Self> {
        Self::start_in(program, netns, std::env::temp_dir().join(unique("agent")))
    }

    /// The same with the files in `dir`, which must not exist.
    pub fn start_in(program: &Path, netns: &Netns, dir: PathBuf) -> Result<Self> {
        let state = dir.join("state");
        Self::start_with(program, netns, dir, state, Vec::new())
    }

    /// The same with more arguments for `privatelink agent`.
    pub fn start_with_arguments(program: &Path, netns: &Netns, arguments: Vec<String>) -> Result<Self> {
        let dir = std::env::temp_dir().join(unique("agent"));
        let state = dir.join("state");
        Self::start_with(program, netns, dir, state, arguments)
    }

    /// The same with the state in `state`, which may be on another file system.
    pub fn start_with_state(program: &Path, netns: &Netns, state: PathBuf) -> Result<Self> {
        Self::start_with(program, netns, std::env::temp_dir().join(unique("agent")), state, Vec::new())
    }

    fn start_with(program: &Path, netns: &Netns, dir: PathBuf, state: PathBuf, arguments: Vec<String>) -> Result<Self> {
        ensure!(program.is_file(), "{} is not built; `cargo xtask build` does", program.display());
        let bpf = dir.join("bpf");
        let directory = Undo::register(Leftover::Directory(dir.clone()));
        fs::create_dir_all(&bpf).with_context(|| format!("creating {}", bpf.display()))?;
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting a BPF file system at {}", bpf.display()))?;
        let mounted = Undo::register(Leftover::Mount(bpf));
        let mut agent = Self {
            program: program.to_owned(),
            netns: netns.clone(),
            child: None,
            dir,
            arguments,
            environment: Vec::new(),
            state,
            undo: vec![mounted, directory],
        };
        agent.start_again()?;
        Ok(agent)
    }

    /// The command line that talks to this agent.
    pub fn cli(&self) -> Cli {
        Cli::new(&self.program, &self.netns, &self.socket())
    }

    /// Where the agent listens.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("socket")
    }

    /// Where the agent keeps its state.
    pub fn state_dir(&self) -> PathBuf {
        self.state.clone()
    }

    /// Where the agent's BPF file system is mounted.
    pub fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    /// The agent's process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What the agent logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// From the next start on, a variable of its environment.
    pub fn set_environment(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// From the next start on, another program.
    pub fn set_program(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// From the next start on, other arguments for `privatelink agent`.
    pub fn set_arguments(&mut self, arguments: Vec<String>) {
        self.arguments = arguments;
    }

    /// Starts it after [`Agent::kill`] or [`Agent::stop`]; returns how long it took until it answered.
    pub fn start_again(&mut self) -> Result<Duration> {
        ensure!(self.child.is_none(), "the agent is running");
        let path = self.dir.join("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        let started = Instant::now();
        self.child = Some(self.spawn(&log, &[])?);
        let cli = self.cli();
        eventually("the agent answers", ready(), || {
            if let Some(status) = self.ended()? {
                // Ends the wait: the error below carries the log.
                return Ok(Err(status));
            }
            cli.run("vpc list").map(|_| Ok(()))
        })
        .and_then(|end| match end {
            Ok(()) => Ok(started.elapsed()),
            Err(status) => bail!("the agent ended with {status}"),
        })
        .with_context(|| format!("the agent's log ends:\n{}", self.log_tail()))
    }

    /// Ends it without warning (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the agent is not running")?;
        child.kill().context("killing the agent")?;
        child.wait().context("waiting for the agent").map(drop)
    }

    /// Starts it after [`Agent::kill`], and kills it again so long after.
    pub fn start_and_kill(&mut self, after: Duration) -> Result<()> {
        ensure!(self.child.is_none(), "the agent is running");
        let path = self.dir.join("log");
        let log = fs::OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("opening {}", path.display()))?;
        self.child = Some(self.spawn(&log, &[])?);
        std::thread::sleep(after);
        self.kill()
    }

    /// Asks it to end (SIGTERM) and returns how it did.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let mut child = self.child.take().context("the agent is not running")?;
        let pid = i32::try_from(child.id()).context("the process id")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("asking the agent to end")?;
        let ended = eventually("the agent ends after SIGTERM", Duration::from_secs(15), || {
            child.try_wait().context("waiting for the agent")?.context("it still runs")
        });
        if ended.is_err() {
            child.kill().context("killing the agent")?;
            child.wait().context("waiting for the agent")?;
        }
        ended
    }

    /// Runs `privatelink agent --remove` with this agent's files, and returns how it ended.
    pub fn remove(&mut self) -> Result<ExitStatus> {
        let log = fs::OpenOptions::new().append(true).open(self.dir.join("log")).context("opening the log")?;
        let mut child = self.spawn(&log, &["--remove"])?;
        child.wait().context("waiting for agent --remove")
    }

    /// The pins under the agent's BPF file system, as paths relative to it, without the two that the kernel shows
    /// there.
    pub fn pins(&self) -> Vec<PathBuf> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let root = self.bpffs();
        let mut found = Vec::new();
        walk(&root, &mut found);
        let own = |path: &&Path| !["maps.debug", "progs.debug"].iter().any(|name| path.ends_with(name));
        found.iter().filter_map(|path| path.strip_prefix(&root).ok()).filter(own).map(Path::to_owned).collect()
    }

    /// The end of the log, for error messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Leaves the agent running and its files in place, for a human to look at.
    pub fn keep(mut self) {
        self.child = None;
        for undo in self.undo.drain(..) {
            undo.keep();
        }
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait().context("looking after the agent")?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    fn spawn(&self, log: &File, more: &[&str]) -> Result<Child> {
        let mut command = self.netns.command(&self.program);
        command.arg("--socket").arg(self.socket()).arg("agent").arg("--state-dir").arg(&self.state);
        command.arg("--bpffs").arg(self.bpffs()).args(&self.arguments).args(more);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("the log")?)
            .stderr(log.try_clone().context("the log")?);
        command.spawn().with_context(|| format!("starting {}", self.program.display()))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.child.is_some()
            && let Err(error) = self.kill()
        {
            eprintln!("{error:#}");
        }
    }
}
