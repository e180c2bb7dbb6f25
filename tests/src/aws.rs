//! The `aws` command line, botocore and boto3, as their makers publish them, in a virtual environment of this build's
//! own.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::netns::Netns;

/// The releases that are installed: the command line, the library whose service models answers are checked against, and
/// the one that most scripts use.
const RELEASES: [&str; 3] = ["awscli==1.46.3", "botocore==1.44.5", "boto3==1.44.5"];

/// The virtual environment, made at the first call; the error says why there is none.
pub fn environment() -> Result<&'static Path, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    MADE.get_or_init(|| make().map_err(|error| format!("{error:#}"))).as_deref().map_err(Clone::clone)
}

fn make() -> Result<PathBuf> {
    let own = env::current_exe().context("this program's path")?;
    let target = own.ancestors().find(|dir| dir.ends_with("target")).context("no target directory")?;
    let dir = target.join("aws-cli");
    let done = dir.join(RELEASES.join(" "));
    if done.exists() {
        return Ok(dir);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&dir))?;
    let quietly = ["install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(dir.join("bin/pip")).args(quietly).args(RELEASES))?;
    std::fs::write(&done, "").context("noting what is installed")?;
    Ok(dir)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("starting {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// An account's `aws`: its access key, and where the API is.
#[derive(Clone, Debug)]
pub struct Aws {
    netns: Netns,
    endpoint: String,
    access_key: String,
    secret: String,
}

impl Aws {
    /// Commands run in `netns`, against the API at `endpoint`.
    pub fn new(netns: &Netns, endpoint: &str, access_key: &str, secret: &str) -> Self {
        Self {
            netns: netns.clone(),
            endpoint: endpoint.to_owned(),
            access_key: access_key.to_owned(),
            secret: secret.to_owned(),
        }
    }

    /// The same key with another secret.
    pub fn with_secret(&self, secret: &str) -> Self {
        Self { secret: secret.to_owned(), ..self.clone() }
    }

    /// A program of the environment, with the account's settings and none of this machine's.
    pub fn command(&self, program: &str) -> Result<Command> {
        let dir = environment().map_err(anyhow::Error::msg)?;
        let mut command = self.netns.command(dir.join("bin").join(program));
        command
            .env("AWS_ACCESS_KEY_ID", &self.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.secret)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_PAGER", "")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// `aws LINE`; words are split at spaces. The answer is the JSON that it prints, `Null` for nothing.
    pub fn run(&self, line: &str) -> Result<Value> {
        let Output { status, stdout, stderr } = self.raw(line)?;
        ensure!(status.success(), "`aws {line}`: {}", String::from_utf8_lossy(&stderr).trim());
        if stdout.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&stdout).with_context(|| format!("`aws {line}` printed no JSON"))
    }

    /// What `aws LINE` says when it is refused.
    pub fn refused(&self, line: &str) -> Result<String> {
        let Output { status, stdout: _, stderr } = self.raw(line)?;
        if status.success() {
            bail!("`aws {line}` was not refused");
        }
        Ok(String::from_utf8_lossy(&stderr).trim().to_owned())
    }

    /// What a Python script prints, as JSON; `args` are its arguments.
    pub fn script(&self, script: &str, args: &[&str]) -> Result<Value> {
        let Output { status, stdout, stderr } =
            self.command("python3")?.args(["-c", script]).args(args).output().context("starting python3")?;
        ensure!(status.success(), "{}", String::from_utf8_lossy(&stderr).trim());
        serde_json::from_slice(&stdout)
            .with_context(|| format!("the script printed no JSON: {}", String::from_utf8_lossy(&stdout)))
    }

    fn raw(&self, line: &str) -> Result<Output> {
        let mut command = self.command("aws")?;
        command.args(["--output", "json"]).args(line.split_whitespace());
        command.output().context("starting aws")
    }
}
