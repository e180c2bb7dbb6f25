//! The command line, as an operator's script uses it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::netns::Netns;

/// `privatelink` with the socket of one agent.
#[derive(Clone, Debug)]
pub struct Cli {
    program: PathBuf,
    netns: Netns,
    socket: PathBuf,
}

impl Cli {
    /// Commands run in `netns`, so that a mistake cannot reach this host's interfaces.
    pub fn new(program: &Path, netns: &Netns, socket: &Path) -> Self {
        Self { program: program.to_owned(), netns: netns.clone(), socket: socket.to_owned() }
    }

    /// Runs `privatelink --socket … -o json LINE`; words are split at spaces. The answer is what it prints, `Null` for
    /// nothing; an error quotes the command and all that it said.
    pub fn run(&self, line: &str) -> Result<Value> {
        self.words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// The same for words that hold spaces.
    pub fn words(&self, words: &[&str]) -> Result<Value> {
        let Output { status, stdout, stderr } = self.raw(words)?;
        let stdout = String::from_utf8_lossy(&stdout);
        if !status.success() {
            let stderr = String::from_utf8_lossy(&stderr);
            bail!("`privatelink {}`: {status}\n{}{}", words.join(" "), stdout.trim(), stderr.trim());
        }
        if stdout.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&stdout).with_context(|| format!("`privatelink {}` printed {stdout}", words.join(" ")))
    }

    /// What the command printed and how it ended, whatever that is.
    pub fn raw(&self, words: &[&str]) -> Result<Output> {
        let mut command = self.netns.command(&self.program);
        command.arg("--socket").arg(&self.socket).args(["-o", "json"]).args(words);
        let output = command.stdin(Stdio::null()).output();
        output.with_context(|| format!("starting {}", self.program.display()))
    }

    /// What the command prints for people.
    pub fn table(&self, line: &str) -> Result<String> {
        let mut command = self.netns.command(&self.program);
        command.arg("--socket").arg(&self.socket).args(["-o", "table"]).args(line.split_whitespace());
        let output = command.stdin(Stdio::null()).output().context("starting the command line")?;
        if !output.status.success() {
            bail!("`privatelink {line}`: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The socket it talks to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The program itself.
    pub fn program(&self) -> &Path {
        &self.program
    }
}
