//! Real servers and clients: nginx, sshd, ssh, curl.

use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    cleanup::{Leftover, Undo, unique},
    eventually::eventually,
    netns::Netns,
    require,
};

/// Within which nginx logs a request that it has answered.
const LOGGED: Duration = Duration::from_secs(5);

/// A directory that goes with its value.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    undo: Undo,
}

impl Directory {
    /// Makes one with a unique name that ends in `label`.
    pub fn new(label: &str) -> Result<Self> {
        Self::at(std::env::temp_dir().join(unique(label)))
    }

    /// Makes `path`, which must not exist.
    pub fn at(path: PathBuf) -> Result<Self> {
        let undo = Undo::register(Leftover::Directory(path.clone()));
        fs::create_dir(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path, undo })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves it there.
    pub fn keep(self) {
        self.undo.keep();
    }
}

/// A process that is killed when its value goes.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("starting {}", command.get_program().display()))?;
        Ok(Self(Some(child)))
    }

    /// The process itself.
    ///
    /// # Panics
    ///
    /// After [`Running::wait`].
    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().expect("the process was waited for")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.0.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Waits for its end, and takes what it printed into its pipes.
    pub fn wait(mut self) -> Result<Output> {
        let child = self.0.take().context("the process was waited for")?;
        child.wait_with_output().context("waiting for a process")
    }

    /// Lets it live on.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An nginx of its own files and logs.
#[derive(Debug)]
pub struct Nginx {
    netns: Netns,
    dir: Option<Directory>,
    path: PathBuf,
    address: SocketAddrV4,
    running: Option<Running>,
}

impl Nginx {
    /// Serves the directory [`Nginx::root`] on `address` in `netns`; `index` is the page at `/`.
    pub fn start(netns: &Netns, dir: Directory, address: SocketAddrV4, index: &str) -> Result<Self> {
        Self::configured(netns, dir, address, index, "", "")
    }

    /// The same over TLS of one version, `TLSv1.2` or `TLSv1.3`, with a self-signed certificate for another name.
    pub fn start_tls(netns: &Netns, dir: Directory, address: SocketAddrV4, index: &str, version: &str) -> Result<Self> {
        let path = dir.path().to_owned();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=somewhere.else.example", "-keyout"])
            .arg(path.join("key.pem"))
            .arg("-out")
            .arg(path.join("certificate.pem"))
            .stdin(Stdio::null())
            .output()
            .context("starting openssl")?;
        ensure!(made.status.success(), "openssl req: {}", String::from_utf8_lossy(&made.stderr));
        Self::start_tls_with(netns, dir, address, index, version)
    }

    /// The same with the certificate and key that are `certificate.pem` and `key.pem` of the directory.
    pub fn start_tls_with(
        netns: &Netns,
        dir: Directory,
        address: SocketAddrV4,
        index: &str,
        version: &str,
    ) -> Result<Self> {
        let path = dir.path().to_owned();
        let dir_name = path.display();
        let tls = format!(
            "ssl_protocols {version}; ssl_certificate {dir_name}/certificate.pem; \
             ssl_certificate_key {dir_name}/key.pem; access_log {dir_name}/tls.log tls;"
        );
        Self::configured(netns, dir, address, index, "ssl", &tls)
    }

    /// The lines of the TLS server's log, once they are `at_least` so many: version, `Host` and `User-Agent` of each
    /// request.
    pub fn tls_requests(&self, at_least: usize) -> Result<Vec<String>> {
        self.logged("tls.log", at_least)
    }

    /// The lines of a log, once they are `at_least` so many: a request is logged after its answer, which may be read
    /// before.
    fn logged(&self, log: &str, at_least: usize) -> Result<Vec<String>> {
        let path = self.path.join(log);
        eventually(&format!("{at_least} requests are in the server's log"), LOGGED, || {
            let log = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let whole = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            let lines: Vec<String> = whole.map(str::to_owned).collect();
            ensure!(lines.len() >= at_least, "it has {}", lines.len());
            Ok(lines)
        })
    }

    fn configured(
        netns: &Netns,
        dir: Directory,
        address: SocketAddrV4,
        index: &str,
        listen: &str,
        more: &str,
    ) -> Result<Self> {
        let path = dir.path().to_owned();
        let mut nginx = Self { netns: netns.clone(), dir: Some(dir), path, address, running: None };
        fs::create_dir(nginx.root()).context("the document root")?;
        fs::write(nginx.root().join("index.html"), index).context("the index page")?;
        let dir = nginx.path.display();
        let config = format!(
            "user root; worker_processes 1; daemon off; pid {dir}/pid; error_log {dir}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
               log_format peer '$remote_addr:$remote_port $status $request';\n\
               log_format tls '$ssl_protocol $http_host $http_user_agent';\n\
               access_log {dir}/access.log peer; sendfile on; tcp_nodelay on; default_type text/plain;\n\
               client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
               uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
               server {{ listen {address} {listen} backlog=4096; root {dir}/root; {more} }}\n\
             }}\n"
        );
        fs::write(nginx.path.join("nginx.conf"), config).context("nginx's configuration")?;
        nginx.start_again()?;
        Ok(nginx)
    }

    /// Where the served files are.
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Client addresses of all requests in its access log, without ports, once they are `at_least` so many.
    pub fn logged_clients(&self, at_least: usize) -> Result<Vec<String>> {
        let address = |line: &String| line.split_once(':').map(|(address, _)| address.to_owned());
        let lines = self.logged("access.log", at_least)?;
        lines.iter().map(|line| address(line).with_context(|| format!("the line {line}"))).collect()
    }

    /// The last line of its access log.
    pub fn last_request(&self) -> Result<String> {
        let path = self.path.join("access.log");
        let log = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        log.lines().last().map(str::to_owned).context("nobody asked this server for anything")
    }

    /// Kills master and worker at once (SIGKILL): the machine is gone, and says no farewell to anybody.
    pub fn kill(&mut self) -> Result<()> {
        let running = self.running.take().context("nginx is not running")?;
        // It leads a process group of its own.
        let group = i32::try_from(running.0.as_ref().map_or(0, Child::id)).context("the process id")?;
        kill(Pid::from_raw(-group), Signal::SIGKILL).context("killing nginx")?;
        drop(running);
        Ok(())
    }

    /// Starts it after [`Nginx::kill`].
    pub fn start_again(&mut self) -> Result<()> {
        use std::os::unix::process::CommandExt as _;
        ensure!(self.running.is_none(), "nginx is running");
        let program = require::find("nginx").context("nginx is not installed; `cargo xtask setup` does that")?;
        let mut command = self.netns.command(program);
        command.arg("-c").arg(self.path.join("nginx.conf")).arg("-p").arg(&self.path);
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(&mut command)?;
        let (netns, address) = (self.netns.clone(), self.address);
        let log = self.path.join("error.log");
        eventually("nginx listens", Duration::from_secs(10), || {
            if !running.is_running() {
                bail!("nginx ended: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            listening(&netns, address)
        })?;
        self.running = Some(running);
        Ok(())
    }

    /// Leaves it running.
    pub fn keep(mut self) {
        if let Some(running) = self.running.take() {
            running.keep();
        }
        if let Some(dir) = self.dir.take() {
            dir.keep();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if self.running.is_some()
            && let Err(error) = self.kill()
        {
            eprintln!("{error:#}");
        }
    }
}

/// An sshd that lets the key of its directory in as this user, and `ssh` to use it.
#[derive(Debug)]
pub struct Sshd {
    dir: Directory,
    running: Running,
}

impl Sshd {
    /// Listens on `address` in `netns`. The host's name, for the client to tell servers apart, is `name`.
    pub fn start(netns: &Netns, dir: Directory, address: SocketAddrV4, name: &str) -> Result<Self> {
        let path = dir.path();
        for key in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
                .arg(path.join(key))
                .stdin(Stdio::null())
                .output()
                .context("starting ssh-keygen")?;
            ensure!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr));
        }
        // The directory that Debian's sshd wants and its service file would make.
        fs::create_dir_all("/run/sshd").context("creating /run/sshd")?;
        let config = format!(
            "ListenAddress {}\nPort {}\nHostKey {p}/host\nPidFile none\nAuthorizedKeysFile {p}/client.pub\n\
             StrictModes no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM {}\nUseDNS no\nLogLevel VERBOSE\nPrintMotd no\n\
             SetEnv PRIVATELINK_HOST={name}\n",
            address.ip(),
            address.port(),
            if account_is_locked() { "yes" } else { "no" },
            p = path.display(),
        );
        fs::write(path.join("sshd_config"), config).context("sshd's configuration")?;
        let program = require::find("sshd").context("sshd is not installed; `cargo xtask setup` does that")?;
        let log = path.join("log");
        let mut command = netns.command(program);
        command.args(["-D", "-E"]).arg(&log).arg("-f").arg(path.join("sshd_config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(&mut command)?;
        eventually("sshd listens", Duration::from_secs(10), || {
            if !running.is_running() {
                bail!("sshd ended: {}", fs::read_to_string(&log).unwrap_or_default());
            }
            listening(netns, address)
        })?;
        Ok(Self { dir, running })
    }

    /// `ssh` from `netns` to `to`, running `script` there; it trusts exactly this server's host key.
    pub fn client(&self, netns: &Netns, to: SocketAddrV4, script: &str) -> Result<Command> {
        self.client_by(netns.command("ssh"), &to.ip().to_string(), to.port(), script)
    }

    /// The same to `host`, which may be a name, where `command` is how `ssh` is started.
    pub fn client_by(&self, mut command: Command, host: &str, port: u16, script: &str) -> Result<Command> {
        let path = self.dir.path();
        let host_key = fs::read_to_string(path.join("host.pub")).context("the host key")?;
        let known = path.join(format!("known-{port}"));
        fs::write(&known, format!("[{host}]:{port} {host_key}")).context("the known hosts")?;
        command.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "ConnectTimeout=5",
        ]);
        command.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        command.args(["-o", "IdentitiesOnly=yes", "-i"]).arg(path.join("client"));
        command.arg("-p").arg(port.to_string()).arg(format!("root@{host}")).arg(script);
        Ok(command)
    }

    /// Client addresses of all logins in its log, without ports.
    pub fn logged_clients(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.dir.path().join("log")).context("sshd's log")?;
        let address = |line: &str| {
            let (_, rest) = line.split_once("Connection from ")?;
            rest.split(' ').next().map(str::to_owned)
        };
        Ok(log.lines().filter_map(address).collect())
    }

    /// Leaves it running.
    pub fn keep(self) {
        self.running.keep();
        self.dir.keep();
    }
}

/// Whether root has no password at all, which sshd without PAM takes for a locked account even with a key.
fn account_is_locked() -> bool {
    let shadow = fs::read_to_string("/etc/shadow").unwrap_or_default();
    shadow.lines().filter_map(|line| line.strip_prefix("root:")).any(|rest| rest.starts_with('!'))
}

/// `curl ARGS` in `netns`, finished; the error quotes what curl said.
pub fn curl(netns: &Netns, args: &[&str]) -> Result<String> {
    let mut command = netns.command("curl");
    command.args(["--silent", "--show-error", "--fail"]).args(args);
    let output = command.stdin(Stdio::null()).output().context("starting curl")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {}: {}", args.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether something in `netns` listens on `address`; unlike a connection, looking leaves no trace in its log.
fn listening(netns: &Netns, address: SocketAddrV4) -> Result<()> {
    let table = netns.run(|| fs::read_to_string("/proc/thread-self/net/tcp"))?.context("reading /proc/net/tcp")?;
    let port = format!(":{:04X} 00000000:0000 0A", address.port());
    ensure!(table.contains(&port), "nothing listens on {address}");
    Ok(())
}
