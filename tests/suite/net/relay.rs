//! The relay as a process: what outlives the agent and other relays, and what a connection takes.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use privatelink_tests::{
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Nginx, Running},
    require::Need,
    scenario::{ENDPOINT, Scenario},
    topology::Hook,
    traffic::stream::{self, Source},
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{
    Run, Test,
    common::{FIRST, PATIENCE, server},
    https::{Lab, NAME, NEEDS, TLS, s_client, says, with_tls},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "tls_listener_outlives_agent_certificate_and_relay", needs: BUSY, run: Run::Once(outlives) },
        Test { name: "tls_clients_come_back_to_relays_of_other_builds", needs: BUSY, run: Run::Once(builds) },
        Test { name: "tls_listener_holds_ten_thousand_idle_connections", needs: BUSY, run: Run::Once(idle) },
        Test { name: "tls_draining_relay_ends_with_its_interface", needs: NEEDS, run: Run::Once(drained) },
        Test { name: "tls_connections_meet_no_target_that_is_gone", needs: NEEDS, run: Run::Once(regrouped) },
    ]
};

const BUSY: &[Need] = &[Need::Program("curl"), Need::Program("nginx"), Need::Program("openssl"), Need::WholeMachine];

/// The serial number of the certificate that is shown.
fn serial(client: &Netns) -> Result<String> {
    let said = s_client(client, &["-servername", NAME])?;
    let begin = said.find("-----BEGIN CERTIFICATE-----").with_context(|| said.clone())?;
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-noout", "-serial"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = openssl.spawn().context("starting openssl")?;
    child.stdin.take().context("its input")?.write_all(said[begin..].as_bytes())?;
    Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).trim().to_owned())
}

/// The relays of the namespace.
fn relays(netns: &Netns) -> Result<Vec<u32>> {
    let pids = Command::new("ip").args(["netns", "pids", netns.name()]).output().context("ip netns pids")?;
    let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
    let is_relay = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(b"relay")
    };
    Ok(pids.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_relay).collect())
}

/// A page that takes a while to come.
struct Download {
    running: Running,
    file: PathBuf,
}

impl Download {
    /// All of it; at 2 MiB a second.
    const BYTES: u64 = 24 << 20;

    /// Begins one, of which a part has come.
    fn start(lab: &Lab, nginx: &Nginx, client: &Netns) -> Result<Self> {
        fs::write(nginx.root().join("file"), vec![7; usize::try_from(Self::BYTES)?]).context("a file")?;
        let file = lab.dir.path().join("download");
        fs::write(&file, "").context("the download's file")?;
        let mut command = client.command("curl");
        command.args(["--silent", "--show-error", "--fail", "--limit-rate", "2M"]);
        command.args(["--cacert", &lab.path("ca/ca.pem"), "--resolve", &format!("{NAME}:443:{ENDPOINT}"), "--output"]);
        command.arg(&file).arg(format!("https://{NAME}/file")).stdin(Stdio::null()).stderr(Stdio::piped());
        let download = Self { running: Running::start(&mut command)?, file };
        eventually("the download has begun", PATIENCE, || {
            ensure!(download.length() > 0);
            Ok(())
        })?;
        Ok(download)
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.file).map_or(0, |file| file.len())
    }

    /// Waits for the rest.
    fn arrives(self) -> Result<()> {
        let Self { running, file } = self;
        let Output { status, stderr, .. } = running.wait()?;
        let length = fs::metadata(file).map_or(0, |file| file.len());
        ensure!(status.success() && length == Self::BYTES, "{length} bytes: {}", String::from_utf8_lossy(&stderr));
        Ok(())
    }
}

/// Runs `test` while `client` asks for the page again and again; how often it got it. `test` sees the number grow.
fn under_requests(lab: &Lab, client: &Netns, test: impl FnOnce(&AtomicU64) -> Result<()>) -> Result<u64> {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                ensure!(lab.page(client, NAME, "")? == "in clear");
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        let result = test(&done);
        stop.store(true, Ordering::Relaxed);
        let asked = asking.join().map_err(|_| anyhow::anyhow!("the requests panicked"))?;
        result?;
        asked.context("a request failed")
    })?;
    Ok(done.into_inner())
}

fn outlives() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, nginx| {
        let client = &scenario.topology.host("client-a").netns.clone();
        let other = &scenario.topology.host("client-b").netns.clone();
        let download = || Download::start(lab, nginx, client);
        // Requests of another client go on all the while.
        let done = under_requests(lab, other, |done| {
            let downloading = download()?;
            scenario.agent.kill()?;
            let (before, asked) = (downloading.length(), done.load(Ordering::Relaxed));
            eventually("without an agent both go on", PATIENCE, || {
                ensure!(downloading.length() > before && done.load(Ordering::Relaxed) > asked + 2);
                Ok(())
            })?;
            scenario.agent.start_again()?;
            downloading.arrives()?;
            progress!(
                "a download of {} MiB outlived the agent, {} requests beside it",
                Download::BYTES >> 20,
                done.load(Ordering::Relaxed)
            );

            // The certificate changes under load.
            let mut serials = vec![serial(client)?];
            for _ in 0..5 {
                let line = format!("certificate create-lab {NAME} --replace {NAME} --ca {}", lab.path("ca"));
                scenario.cli.run(&line)?;
                let last = serials.last().context("a serial")?.clone();
                serials.push(eventually("the new certificate is shown", PATIENCE, || {
                    let shown = serial(client)?;
                    ensure!(shown != last && !shown.is_empty(), "still {shown}");
                    Ok(shown)
                })?);
            }

            // Another relay takes over; the first one ends with its last connection.
            let replaced = |by: &dyn Fn(u32) -> Result<()>| -> Result<()> {
                let downloading = download()?;
                let [first] = relays(&scenario.topology.lb)?[..] else { bail!("not one relay") };
                by(first)?;
                eventually("there are two relays", PATIENCE, || {
                    ensure!(relays(&scenario.topology.lb)?.len() == 2);
                    Ok(())
                })?;
                let asked = done.load(Ordering::Relaxed);
                eventually("requests go on with the second relay", PATIENCE, || {
                    ensure!(done.load(Ordering::Relaxed) > asked + 2);
                    Ok(())
                })?;
                downloading.arrives()?;
                eventually("the first relay has ended", PATIENCE, || {
                    let left = relays(&scenario.topology.lb)?;
                    ensure!(left.len() == 1 && left != [first], "relays: {left:?}");
                    Ok(())
                })
            };
            replaced(&|_| another_relay(scenario, lab, scenario.cli.program()))?;
            // So does one that the agent starts for a relay that is asked to end.
            replaced(&|first| send(first, Signal::SIGTERM))?;
            // The agent speaks with the second one.
            scenario.cli.run("listener modify web:443 --ssl-policy ELBSecurityPolicy-TLS13-1-3-2021-06")?;
            eventually("a change reaches the second relay", PATIENCE, || {
                says(&s_client(client, &["-tls1_2"])?, "Cipher is (NONE)")
            })
        })?;
        progress!("{done} requests, none failed");

        // A relay that dies takes its connections with it, and the agent starts another.
        let [pid] = relays(&scenario.topology.lb)?[..] else { bail!("not one relay") };
        send(pid, Signal::SIGKILL)?;
        eventually("another relay serves", Duration::from_secs(10), || lab.page(client, NAME, ""))?;
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        ensure!(scenario.agent.remove()?.success(), "agent --remove failed");
        eventually("no relay is left", PATIENCE, || {
            let left = relays(&scenario.topology.lb)?;
            ensure!(left.is_empty(), "relays: {left:?}");
            Ok(())
        })
    })
}

/// Starts a relay of `program` beside the present one. It goes with its namespace.
fn another_relay(scenario: &Scenario, lab: &Lab, program: &Path) -> Result<()> {
    let mut command = scenario.topology.lb.command(program);
    command.arg("relay").arg("--state-dir").arg(scenario.agent.state_dir());
    command.arg("--access-log").arg(lab.path("access.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Running::start(&mut command)?.keep();
    Ok(())
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(pid)?), signal).with_context(|| format!("{signal} to the relay"))
}

/// A request by `openssl s_client`, read to its end; what it says. Sessions are kept in a file.
fn session(client: &Netns, args: &[&str]) -> Result<String> {
    let mut command = client.command("openssl");
    command.args(["s_client", "-connect", &TLS.to_string(), "-servername", NAME, "-ign_eof"]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("starting openssl s_client")?;
    child.stdin.take().context("its input")?.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let Output { stdout, stderr, .. } = child.wait_with_output().context("openssl s_client")?;
    let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
    says(&said, "in clear")?;
    Ok(said)
}

/// Relays of two builds pass the listener on to each other, while requests go on and clients come back by their
/// tickets.
fn builds() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, _| {
        let client = &scenario.topology.host("client-a").netns.clone();
        let other = &scenario.topology.host("client-b").netns.clone();
        let versions = ["-tls1_2", "-tls1_3"];
        for version in versions {
            says(&session(client, &[version, "-sess_out", &lab.path(version)])?, "New, TLSv1")?;
            says(&session(client, &[version, "-sess_in", &lab.path(version)])?, "Reused, TLSv1")?;
        }
        // A renegotiation is not begun: the connection ends, or goes on with what it has.
        let mut command = client.command("openssl");
        command.args(["s_client", "-connect", &TLS.to_string(), "-servername", NAME, "-tls1_2"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting openssl s_client")?;
        child.stdin.take().context("its input")?.write_all(b"R\n")?;
        let Output { stdout, stderr, .. } = child.wait_with_output().context("openssl s_client")?;
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        says(&said, "RENEGOTIATING")?;
        says(&said, "no renegotiation")?;

        // The same program under another time stamp is another build.
        let copy = lab.dir.path().join("privatelink-of-another-build");
        fs::copy(scenario.cli.program(), &copy).context("another build")?;
        let [first] = relays(&scenario.topology.lb)?[..] else { bail!("not one relay") };
        let done = under_requests(lab, other, |done| {
            // It ends when the agent's own relay has taken over from it.
            another_relay(scenario, lab, &copy)?;
            eventually("the agent's build has the sockets again", Duration::from_secs(20), || {
                let left = relays(&scenario.topology.lb)?;
                ensure!(left.len() == 1 && left[0] != first, "relays: {left:?}, at first {first}");
                let program = fs::read_link(format!("/proc/{}/exe", left[0])).context("its program")?;
                ensure!(program == scenario.cli.program().canonicalize()?, "{}", program.display());
                Ok(())
            })?;
            let asked = done.load(Ordering::Relaxed);
            eventually("requests go on", PATIENCE, || {
                ensure!(done.load(Ordering::Relaxed) > asked + 2);
                Ok(())
            })?;
            for version in versions {
                says(&session(client, &[version, "-sess_in", &lab.path(version)])?, "Reused, TLSv1")?;
            }
            Ok(())
        })?;
        progress!("{done} requests over two changes of the relay's build, none failed");
        Ok(())
    })
}

/// Connections that are open at once in [`idle`], if the limit of open files has room for two descriptors each.
const IDLE: usize = 10_000;
/// What each of them may cost the relay, in bytes: two sockets' worth of buffers would be more than this.
const EACH: u64 = 64 << 10;

/// A server that accepts and says nothing; how many connections it has.
fn silent(netns: &Netns, address: SocketAddrV4) -> Result<Arc<AtomicU64>> {
    let listener = netns.run(|| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&std::net::SocketAddr::from(address).into())?;
        socket.listen(4_096)?;
        Ok::<TcpListener, std::io::Error>(socket.into())
    })??;
    let accepted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&accepted);
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            held.push(stream);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(accepted)
}

/// The resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the relay's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}

fn idle() -> Result<()> {
    with_tls(Hook::Tc, |scenario, _, _| {
        let host = server(scenario, 1);
        let accepted = silent(&host.netns, SocketAddrV4::new(host.address(), 9_000))?;
        let cli = &scenario.cli;
        cli.run("target-group create idle --vpc provider --protocol TCP --port 9000")?;
        cli.run(&format!("target register idle {}", host.address()))?;
        cli.run("listener modify web:443 --target-group idle")?;
        scenario.wait_healthy("idle")?;
        let client = scenario.topology.host("client-a");
        let config = Arc::new(privatelink_user::tls::unverified::config()?);
        let open = |source: Ipv4Addr| -> Result<(TcpStream, ClientConnection)> {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&std::net::SocketAddr::from((source, 0)).into())?;
            socket.connect_timeout(&std::net::SocketAddr::from(TLS).into(), PATIENCE)?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let mut tls = ClientConnection::new(Arc::clone(&config), NAME.to_owned().try_into()?)?;
            while tls.is_handshaking() {
                tls.complete_io(&mut stream)?;
            }
            Ok((stream, tls))
        };
        let [pid] = relays(&scenario.topology.lb)?[..] else { bail!("not one relay") };
        // The first ones pay for what all share.
        let warm: Vec<_> = client.netns.run(|| (0..50).map(|_| open(FIRST)).collect::<Result<Vec<_>>>())??;
        let (before, since) = (resident(pid)?, Instant::now());
        let (_, files) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
        let room = usize::try_from(files.saturating_sub(1_000) / 2).unwrap_or(usize::MAX);
        let per_thread = IDLE.min(room) / 4;
        let held: Vec<_> = thread::scope(|scope| {
            let open = &open;
            let threads: Vec<_> = (0..4)
                .map(|number| {
                    scope.spawn(move || {
                        let sources = &client.addresses[number * 8..number * 8 + 8];
                        client.netns.run(|| (0..per_thread).map(|at| open(sources[at % 8])).collect::<Result<Vec<_>>>())
                    })
                })
                .collect();
            let joined =
                threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
            joined.map(|held| held?).collect::<Result<Vec<_>>>()
        })?;
        let opened: usize = held.iter().map(Vec::len).sum();
        let wanted = (opened + warm.len()) as u64;
        eventually("all connections have reached the server", PATIENCE, || {
            let count = accepted.load(Ordering::Relaxed);
            ensure!(count >= wanted, "{count} of {wanted}");
            Ok(())
        })?;
        let each = resident(pid)?.saturating_sub(before) / opened as u64;
        progress!(
            "{opened} idle connections take {each} bytes of the relay's memory each; {:.0} handshakes a second in this build",
            opened as f64 / since.elapsed().as_secs_f64()
        );
        ensure!(each < EACH, "{each} bytes a connection");
        Ok(())
    })
}

/// Whoever takes the agent out of the kernel takes the host port away, and no connection of a relay goes on without it.
fn drained() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, nginx| {
        let client = &scenario.topology.host("client-a").netns.clone();
        let _kept = Download::start(lab, nginx, client)?;
        let [first] = relays(&scenario.topology.lb)?[..] else { bail!("not one relay") };
        another_relay(scenario, lab, scenario.cli.program())?;
        eventually("the page comes by another relay", PATIENCE, || {
            let both = relays(&scenario.topology.lb)?;
            ensure!(both.len() == 2 && both.contains(&first), "relays: {both:?}, at first {first}");
            lab.page(client, NAME, "")
        })?;
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        ensure!(scenario.agent.remove()?.success(), "agent --remove failed");
        eventually("no relay is left", PATIENCE, || {
            let left = relays(&scenario.topology.lb)?;
            ensure!(left.is_empty(), "relays: {left:?}, at first {first}");
            Ok(())
        })
    })
}

/// A listener leads to another group while a client takes its time with the handshake, and while the relay is held up
/// and knows nothing of it: no connection waits for a target that has been taken away.
fn regrouped() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, _| {
        let cli = &scenario.cli;
        let client = &scenario.topology.host("client-a").netns.clone();
        let host = server(scenario, 1);
        // Nothing but the TLS listener leads to them.
        let group = |name: &str, port: u16| {
            let dir = Directory::new(name)?;
            let nginx = Nginx::start(&host.netns, dir, SocketAddrV4::new(host.address(), port), name)?;
            cli.run(&format!("target-group create {name} --vpc provider --protocol TCP --port {port}"))?;
            cli.run(&format!("target register {name} {}", host.address()))?;
            Ok::<_, anyhow::Error>(nginx)
        };
        let leads_to = |name: &str| {
            eventually(&format!("the page comes from {name}"), PATIENCE, || says(&lab.page(client, NAME, "")?, name))
        };
        let _servers = [group("this", 8_081)?, group("other", 8_082)?];
        cli.run("listener modify web:443 --target-group this")?;
        leads_to("this")?;

        let slow = stream::connect(client, Source::ANY, TLS, PATIENCE)?;
        cli.run("listener modify web:443 --target-group other")?;
        leads_to("other")?;
        says(&get(lab, slow)?, "other")?;

        let [relay] = relays(&scenario.topology.lb)?[..] else { bail!("not one relay") };
        for group in ["this", "other"].repeat(5) {
            let held = Held::new(relay)?;
            cli.run(&format!("listener modify web:443 --target-group {group}"))?;
            eventually("the agent leads to the group", PATIENCE, || {
                let told = cli.run(&format!("target health {group}"))?;
                ensure!(told[0]["state"] != "unused", "{told}");
                Ok(())
            })?;
            let waiting = stream::connect(client, Source::ANY, TLS, PATIENCE)?;
            held.goes_on()?;
            // By the group of before it may be cut off; it does not wait.
            let page = get(lab, waiting);
            let waited = page.as_ref().err().and_then(|error| error.downcast_ref::<std::io::Error>());
            ensure!(waited.is_none_or(|error| error.kind() != ErrorKind::WouldBlock), "{page:?}");
            leads_to(group)?;
        }
        ensure!(relays(&scenario.topology.lb)? == [relay], "another relay was started");
        Ok(())
    })
}

/// A process that does nothing until this is dropped.
struct Held(u32);

impl Held {
    fn new(pid: u32) -> Result<Self> {
        send(pid, Signal::SIGSTOP)?;
        Ok(Self(pid))
    }

    fn goes_on(self) -> Result<()> {
        send(self.0, Signal::SIGCONT)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = send(self.0, Signal::SIGCONT);
    }
}

/// What `https://NAME/` answers over a connection that is there already.
fn get(lab: &Lab, mut stream: TcpStream) -> Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(lab.path("ca/ca.pem")).context("the lab's certificate")?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut session = ClientConnection::new(Arc::new(config), ServerName::try_from(NAME)?)?;
    let mut tls = rustls::Stream::new(&mut session, &mut stream);
    write!(tls, "GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    tls.read_to_string(&mut page)?;
    Ok(page)
}
