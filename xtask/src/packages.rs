//! The programs that demo, tests and benchmarks run, and the Debian packages that hold them.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// A program, the Debian package that holds it, and what it is for.
pub struct Program {
    /// The file's name.
    pub name: &'static str,
    /// The package on Debian and Ubuntu.
    pub package: &'static str,
    /// Who runs it.
    pub purpose: &'static str,
}

/// Everything that is run but not built here.
pub const PROGRAMS: &[Program] = &[
    Program { name: "ip", package: "iproute2", purpose: "namespaces and links" },
    Program { name: "ethtool", package: "ethtool", purpose: "link settings" },
    Program { name: "curl", package: "curl", purpose: "demo and tests" },
    Program { name: "nginx", package: "nginx", purpose: "demo, tests and rival" },
    Program { name: "openssl", package: "openssl", purpose: "tests" },
    Program { name: "testssl", package: "testssl.sh", purpose: "tests" },
    Program { name: "sshd", package: "openssh-server", purpose: "demo and tests" },
    Program { name: "ssh", package: "openssh-client", purpose: "demo and tests" },
    Program { name: "ssh-keygen", package: "openssh-client", purpose: "demo and tests" },
    Program { name: "tcpdump", package: "tcpdump", purpose: "looking into a kept demo" },
    Program { name: "dnsmasq", package: "dnsmasq-base", purpose: "tests" },
    Program { name: "dig", package: "bind9-dnsutils", purpose: "tests" },
    Program { name: "promtool", package: "prometheus", purpose: "tests" },
    Program { name: "iperf3", package: "iperf3", purpose: "tests and benchmarks" },
    Program { name: "wrk", package: "wrk", purpose: "benchmarks" },
    Program { name: "ping", package: "iputils-ping", purpose: "tests" },
    Program { name: "traceroute", package: "traceroute", purpose: "tests" },
    Program { name: "systemd-analyze", package: "systemd", purpose: "tests" },
    Program { name: "nft", package: "nftables", purpose: "rival, and the tests' other opinion" },
    Program { name: "haproxy", package: "haproxy", purpose: "rival" },
];

/// nginx loads its TCP proxy, one of the rivals, from a file of its own package.
const NGINX_STREAM: (&str, &str) = ("/usr/lib/nginx/modules/ngx_stream_module.so", "libnginx-mod-stream");

/// Services that the packages above would enable; disabled again if this run installed them.
const SERVICES: &[(&str, &str)] = &[
    ("nginx", "nginx.service"),
    ("sshd", "ssh.service"),
    ("haproxy", "haproxy.service"),
    ("iperf3", "iperf3.service"),
    ("promtool", "prometheus.service"),
];

/// Where a program is; root's PATH often lacks the sbin directories.
pub fn find(name: &str) -> Option<PathBuf> {
    which::which(name).ok().or_else(|| {
        ["/usr/local/sbin", "/usr/sbin", "/sbin"]
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|path| path.is_file())
    })
}

/// Installs what is missing where apt can; elsewhere, or without root, says what to install and goes on.
pub fn ensure(tools: &Path) -> Result<String> {
    let missing: Vec<&Program> = PROGRAMS.iter().filter(|program| find(program.name).is_none()).collect();
    let stream = which::which("apt-get").is_ok() && !Path::new(NGINX_STREAM.0).exists();
    if missing.is_empty() && !stream {
        return Ok(format!("programs: all {} found", PROGRAMS.len()));
    }
    let mut wanted: Vec<String> = missing.iter().map(|program| program.package.to_owned()).collect();
    wanted.extend(stream.then(|| NGINX_STREAM.1.to_owned()));
    wanted.sort();
    wanted.dedup();
    for program in &missing {
        eprintln!("  missing: {} ({})", program.name, program.purpose);
    }
    if which::which("apt-get").is_err() {
        return Ok(format!(
            "programs: {} missing and no apt here; what needs them is skipped or says so",
            missing.len()
        ));
    }
    match install(&wanted, tools) {
        Ok(()) => {
            disable_services(&missing);
            Ok(format!("programs: installed {}", wanted.join(", ")))
        }
        Err(error) => Ok(format!("programs: {} missing: {error:#}", missing.len())),
    }
}

/// Installs Debian packages without starting any service.
pub fn install<S: AsRef<str>>(packages: &[S], tools: &Path) -> Result<()> {
    let names: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
    let line = format!("apt-get install --no-install-recommends {}", names.join(" "));
    if which::which("apt-get").is_err() {
        bail!("no apt here; these packages of Debian are meant: {}", names.join(" "));
    }
    if !process::is_root() {
        bail!("as root, run: {line}");
    }
    let _policy = NoServiceStarts::new()?;
    let log = tools.join("apt.log");
    let what = format!("installing {}", names.join(", "));
    let install = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(&names);
        command
    };
    if process::run_quietly(&what, &mut install(), &log).is_err() {
        // The package lists are absent (containers) or older than the archive.
        let mut update = Command::new("apt-get");
        process::run_quietly("updating the package lists", update.args(["update", "--quiet"]), &log)?;
        process::run_quietly(&what, &mut install(), &log)?;
    }
    Ok(())
}

/// Debian's way to forbid that an installed package starts its service (invoke-rc.d asks this file); taken away again
/// on drop. A file that is already there says what its owner wants and stays.
struct NoServiceStarts(Option<PathBuf>);

impl NoServiceStarts {
    fn new() -> Result<Self> {
        let path = PathBuf::from("/usr/sbin/policy-rc.d");
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&path);
        match file {
            Ok(mut file) => {
                file.write_all(b"#!/bin/sh\nexit 101\n").with_context(|| format!("writing {}", path.display()))?;
                let executable = fs::Permissions::from_mode(0o755);
                fs::set_permissions(&path, executable).with_context(|| format!("opening up {}", path.display()))?;
                Ok(Self(Some(path)))
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(Self(None)),
            Err(error) => Err(error).with_context(|| format!("creating {}", path.display())),
        }
    }
}

impl Drop for NoServiceStarts {
    fn drop(&mut self) {
        if let Some(path) = &self.0
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("  {} stayed behind and forbids starting services: {error}", path.display());
        }
    }
}

/// Keeps the newly installed servers from starting at the next boot, where systemd would.
fn disable_services(installed: &[&Program]) {
    if !Path::new("/run/systemd/system").is_dir() {
        return;
    }
    for (program, unit) in SERVICES {
        if installed.iter().any(|new| new.name == *program) {
            let done = process::output(Command::new("systemctl").args(["disable", "--quiet", "--now", unit]));
            if done.is_none() {
                eprintln!("  {unit} may start at the next boot; `systemctl disable {unit}` prevents it");
            }
        }
    }
}
