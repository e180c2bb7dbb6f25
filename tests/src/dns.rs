//! A real DNS server, dnsmasq, and a real client, dig.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Running},
    require,
};

/// A dnsmasq that knows what its arguments say and asks nobody.
#[derive(Debug)]
pub struct Dnsmasq {
    _running: Running,
}

impl Dnsmasq {
    /// Answers on `address` in `netns`; `records` are its options, such as `--txt-record=name,text`.
    pub fn start(netns: &Netns, address: SocketAddrV4, records: &[String]) -> Result<Self> {
        let program = require::find("dnsmasq").context("dnsmasq is not installed; `cargo xtask setup` does that")?;
        let mut command = netns.command(program);
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
        ]);
        command.args(["--user=root", "--pid-file=", "--log-facility=-", "--edns-packet-max=4096"]);
        command.arg(format!("--listen-address={}", address.ip())).arg(format!("--port={}", address.port()));
        command.args(records).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(&mut command)?;
        eventually("dnsmasq answers", Duration::from_secs(10), || {
            if !running.is_running() {
                bail!("dnsmasq ended");
            }
            dig(netns, address, &["+tries=1", "+time=1", "CH", "TXT", "version.bind"]).map(drop)
        })?;
        Ok(Self { _running: running })
    }
}

/// Whom programs ask for names, instead of whom the host's `/etc/resolv.conf` says.
#[derive(Debug)]
pub struct Resolver {
    file: PathBuf,
    _dir: Directory,
}

impl Resolver {
    /// They ask `server`.
    pub fn new(server: Ipv4Addr) -> Result<Self> {
        let dir = Directory::new("resolver")?;
        let file = dir.path().join("resolv.conf");
        fs::write(&file, format!("nameserver {server}\noptions timeout:1 attempts:3\n")).context("resolv.conf")?;
        Ok(Self { file, _dir: dir })
    }

    /// `program` in `netns`, in a mount namespace of its own.
    pub fn command(&self, netns: &Netns, program: &str) -> Command {
        let mut command = netns.command("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
        command.arg(&self.file).arg(program);
        command
    }

    /// `curl ARGS` in `netns`, finished; the error quotes what curl said.
    pub fn curl(&self, netns: &Netns, args: &[&str]) -> Result<String> {
        let mut command = self.command(netns, "curl");
        command.args(["--silent", "--show-error", "--fail", "--max-time", "2"]).args(args);
        let output = command.stdin(Stdio::null()).output().context("starting curl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "curl {}: {}", args.join(" "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What dig was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// `qr`, `aa`, …
    pub flags: Vec<String>,
    /// The data of the answer section's records of the type that was asked for, as dig writes it, with their TTLs.
    pub records: Vec<(u32, String)>,
    /// The types of the authority section's records.
    pub authorities: Vec<String>,
    /// The server's UDP size, if it sent an OPT record.
    pub edns: Option<u16>,
    /// `UDP` or `TCP`.
    pub transport: String,
    /// The message's length in bytes.
    pub size: usize,
}

impl Answer {
    /// The records as addresses, sorted.
    pub fn addresses(&self) -> Result<Vec<Ipv4Addr>> {
        let mut addresses: Vec<Ipv4Addr> =
            self.records.iter().map(|(_, data)| data.parse().context("not an address")).collect::<Result<_>>()?;
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// Whether the flag is set.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|set| set == flag)
    }
}

/// `dig @SERVER ARGS` in `netns`; an error if nothing answers.
pub fn dig(netns: &Netns, server: SocketAddrV4, args: &[&str]) -> Result<Answer> {
    let program = require::find("dig").context("dig is not installed; `cargo xtask setup` does that")?;
    let mut command = netns.command(program);
    command.arg(format!("@{}", server.ip())).args(["-p", &server.port().to_string(), "-r"]);
    let output = command.args(args).stdin(Stdio::null()).output().context("starting dig")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "dig @{server} {}: {text}", args.join(" "));
    parse(&text).with_context(|| format!("dig @{server} {} printed {text}", args.join(" ")))
}

fn parse(text: &str) -> Result<Answer> {
    let after = |mark: &str| text.lines().find_map(|line| line.split_once(mark).map(|(_, rest)| rest));
    let section = |name: &'static str| {
        text.lines()
            .skip_while(move |line| !line.starts_with(&format!(";; {name} SECTION")))
            .skip(1)
            .take_while(|line| !line.is_empty())
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
    };
    let record = |words: Vec<&str>| Some((words.get(1)?.parse().ok()?, words.get(4..)?.join(" ")));
    let received = after("MSG SIZE  rcvd: ").context("no size")?;
    Ok(Answer {
        status: after("status: ").and_then(|rest| rest.split(',').next()).context("no status")?.to_owned(),
        flags: after(";; flags: ")
            .and_then(|rest| rest.split(';').next())
            .context("no flags")?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        records: section("ANSWER").filter_map(record).collect(),
        authorities: section("AUTHORITY").filter_map(|words| words.get(3).map(|kind| (*kind).to_owned())).collect(),
        edns: after("; EDNS: ").and_then(|rest| rest.rsplit(' ').next()).and_then(|size| size.parse().ok()),
        transport: match after(";; SERVER: ") {
            Some(server) if server.contains("(TCP)") => "TCP".to_owned(),
            Some(_) => "UDP".to_owned(),
            None => bail!("no server"),
        },
        size: received.trim().parse().context("the size")?,
    })
}
