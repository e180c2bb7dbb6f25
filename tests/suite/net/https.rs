//! TLS listeners: curl and openssl through an endpoint to servers that speak in clear, or TLS of their own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
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
    aws::Aws,
    daemon::Agent,
    dns::{Dnsmasq, Resolver},
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Nginx, Running, curl},
    require::Need,
    scenario::{ENDPOINT, NODE, Scenario, Service, program, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};

use crate::{
    Run, Test,
    aws::{CONSUMER, NEEDS as AWS, PROVIDER, at, network, with_api},
    common::{FIRST, PATIENCE, TARGET_PORT, plans, server, target},
    dns::{SECOND, VERIFIER},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "tls_listener_ends_https_at_the_load_balancer", needs: NEEDS, run: Run::EachHook(https) },
        Test { name: "tls_listener_leads_to_tls_targets_and_proxy_headers", needs: NEEDS, run: Run::Once(targets) },
        Test { name: "tls_listener_outlives_agent_certificate_and_relay", needs: BUSY, run: Run::Once(outlives) },
        Test { name: "tls_clients_come_back_to_relays_of_other_builds", needs: BUSY, run: Run::Once(builds) },
        Test { name: "tls_listener_holds_ten_thousand_idle_connections", needs: BUSY, run: Run::Once(idle) },
        Test { name: "tls_listener_is_found_sound_by_testssl", needs: SCANNED, run: Run::Once(scanned) },
        Test { name: "aws_cli_publishes_a_tls_listener_by_a_private_name", needs: WITH_AWS, run: Run::Once(document) },
    ]
};

const NEEDS: &[Need] = &[Need::Program("curl"), Need::Program("nginx"), Need::Program("openssl")];
const BUSY: &[Need] = &[Need::Program("curl"), Need::Program("nginx"), Need::Program("openssl"), Need::WholeMachine];
const SCANNED: &[Need] =
    &[Need::Program("curl"), Need::Program("nginx"), Need::Program("openssl"), Need::Program("testssl")];
const WITH_AWS: &[Need] =
    &[AWS[0], AWS[1], AWS[2], AWS[3], AWS[4], AWS[5], Need::Program("dnsmasq"), Need::Program("openssl")];

/// Where clients connect to.
const TLS: SocketAddrV4 = SocketAddrV4::new(ENDPOINT, 443);
const NAME: &str = "www.lab.example";

/// The authority that clients trust.
struct Lab {
    dir: Directory,
}

impl Lab {
    fn new() -> Result<Self> {
        Ok(Self { dir: Directory::new("lab")? })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Makes and imports a certificate; its ARN.
    fn certificate(&self, scenario: &Scenario, name: &str) -> Result<String> {
        let made = scenario.cli.run(&format!("certificate create-lab {name} --ca {}", self.path("ca")))?;
        text(&made, "id").map(str::to_owned)
    }

    /// The page at `https://NAME/PATH`, whose certificate is validated.
    fn page(&self, client: &Netns, name: &str, path: &str) -> Result<String> {
        let (ca, resolve) = (self.path("ca/ca.pem"), format!("{name}:443:{ENDPOINT}"));
        let url = format!("https://{name}/{path}");
        curl(client, &["--max-time", "5", "--cacert", &ca, "--resolve", &resolve, &url])
    }
}

/// A web server in clear, published by TCP on port 80 and by TLS on port 443 to both consumers.
fn with_tls(hook: Hook, test: impl FnOnce(&mut Scenario, &Lab, &Nginx) -> Result<()>) -> Result<()> {
    let lab = Lab::new()?;
    let topology = Topology::build(hook, plans(1), None)?;
    let agent = Agent::start_with_arguments(
        &program()?,
        &topology.lb,
        vec!["--access-log".to_owned(), lab.path("access.log")],
    )?;
    let mut scenario = Scenario::configure(topology, agent)?;
    let result = (|| {
        let service = scenario.publish(&Service::new("web", "provider", vec![FIRST]))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        scenario.endpoint(&service, "consumer-b", ENDPOINT)?;
        let certificate = lab.certificate(&scenario, NAME)?;
        let made = scenario.cli.run(&format!(
            "listener create web --protocol TLS --port 443 --target-group web --certificate {certificate}"
        ))?;
        ensure!(text(&made["tls"], "ssl_policy")? == "ELBSecurityPolicy-TLS13-1-2-2021-06", "{made}");
        let dir = Directory::new("web")?;
        let nginx = Nginx::start(&server(&scenario, 1).netns, dir, target(&scenario, 1), "in clear")?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a").netns.clone();
        eventually("the page comes by TLS", Duration::from_secs(20), || lab.page(&client, NAME, ""))?;
        test(&mut scenario, &lab, &nginx)
    })();
    result.with_context(|| scenario.diagnosis())
}

/// `openssl s_client` to the endpoint, which closes at once; what it says.
fn s_client(client: &Netns, args: &[&str]) -> Result<String> {
    let mut command = client.command("openssl");
    command.args(["s_client", "-connect", &TLS.to_string()]).args(args);
    let Output { status: _, stdout, stderr } =
        command.stdin(Stdio::null()).output().context("starting openssl s_client")?;
    Ok(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
}

fn says(said: &str, what: &str) -> Result<()> {
    ensure!(said.contains(what), "no '{what}' in {said}");
    Ok(())
}

fn https(hook: Hook) -> Result<()> {
    with_tls(hook, |scenario, lab, nginx| {
        let client = &scenario.topology.host("client-a").netns.clone();
        // Both consumers have the same addresses.
        for host in ["client-a", "client-b"] {
            ensure!(lab.page(&scenario.topology.host(host).netns, NAME, "")? == "in clear");
        }
        let seen = nginx.logged_clients(2)?;
        ensure!(seen.iter().all(|client| *client == NODE.to_string()), "requests from {seen:?}");

        // The certificate follows the server's name; who names none gets the default one.
        let other = lab.certificate(scenario, "*.other.example")?;
        scenario.cli.run(&format!("listener add-certificate web:443 {other}"))?;
        eventually("the other name's certificate is shown", PATIENCE, || lab.page(client, "a.other.example", ""))?;
        ensure!(lab.page(client, "a.b.other.example", "").is_err(), "a wildcard stands for one label");
        says(&s_client(client, &["-noservername"])?, "CN = www.lab.example")?;

        // ALPN: none, then ours before the client's order, and none for what is not shared.
        says(&s_client(client, &["-alpn", "h2,http/1.1"])?, "No ALPN negotiated")?;
        scenario.cli.run("listener modify web:443 --alpn-policy HTTP2Optional")?;
        eventually("ALPN is agreed upon", PATIENCE, || {
            says(&s_client(client, &["-alpn", "h2,http/1.1"])?, "ALPN protocol: http/1.1")
        })?;
        says(&s_client(client, &["-alpn", "spdy/3"])?, "No ALPN negotiated")?;

        // The policy's floor.
        says(&s_client(client, &["-tls1_2"])?, "Cipher is ECDHE-ECDSA-AES")?;
        says(&s_client(client, &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"])?, "Cipher is (NONE)")?;
        scenario.cli.run("listener modify web:443 --ssl-policy ELBSecurityPolicy-TLS13-1-3-2021-06")?;
        eventually("TLS 1.2 is no longer spoken", PATIENCE, || {
            says(&s_client(client, &["-tls1_2"])?, "Cipher is (NONE)")
        })?;
        says(&s_client(client, &["-tls1_3"])?, "New, TLSv1.3")?;
        let refused = scenario.cli.run("listener modify web:443 --ssl-policy ELBSecurityPolicy-2016-08");
        let refused = format!("{:#}", refused.err().context("TLS 1.0 was accepted")?);
        says(&refused, "asks for TLSv1, which is not offered here")?;

        // Clear HTTP to the TLS port ends at once, and takes nothing with it.
        let since = Instant::now();
        let clear = curl(client, &["--max-time", "5", &format!("http://{TLS}/")]);
        ensure!(clear.is_err() && since.elapsed() < Duration::from_secs(4), "{clear:?} after {:?}", since.elapsed());
        ensure!(curl(client, &[&format!("http://{ENDPOINT}/")])? == "in clear", "port 80 is another listener");

        let told = scenario.cli.run(&format!("explain --vpc consumer-a --from {FIRST} --to {TLS}"))?;
        says(&told.to_string(), "the relay, which ends TLS (ELBSecurityPolicy-TLS13-1-3-2021-06")?;
        let in_use = scenario.cli.run(&format!("certificate delete {other}"));
        says(&format!("{:#}", in_use.err().context("a certificate in use was deleted")?), "currently in use")?;

        // Every connection that showed a client is on record, with the endpoint as its destination.
        eventually("the connections are logged", PATIENCE, || {
            let log = fs::read_to_string(lab.path("access.log")).context("the access log")?;
            let line = log.lines().find(|line| line.contains(" www.lab.example ")).context("no line of the name")?;
            let fields: Vec<&str> = line.split(' ').collect();
            ensure!(fields.len() == 23 && fields[0] == "tls" && fields[1] == "2.0", "{line}");
            ensure!(fields[5].starts_with("10.0.1.10:") && fields[6] == "10.0.0.50:443", "{line}");
            ensure!(fields[15].starts_with("tlsv1") && fields[16] == "x25519", "{line}");
            ensure!(log.contains(" - - - - - - "), "a failed handshake is not logged: {log}");
            Ok(())
        })?;
        let log = scenario.agent.log();
        ensure!(!log.contains("PRIVATE KEY"), "a private key is in the log");
        ensure!(scenario.counter("kernel_refused")? == 0, "the kernel refused a frame");
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

/// Reads a PROXY header and a request on each connection, answers with what the header says, and counts checks.
fn told(netns: &Netns, address: SocketAddrV4) -> Result<()> {
    let listener = netns.run(|| TcpListener::bind(address))?.context("binding")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || drop(tell(stream)));
        }
    });
    Ok(())
}

fn tell(mut stream: TcpStream) -> Result<()> {
    let mut head = [0; 16];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u16::from_be_bytes([head[14], head[15]]).into()];
    stream.read_exact(&mut body)?;
    // A check has no client.
    if head[12] != 0x21 {
        return Ok(());
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    let address = |at: usize| Ipv4Addr::from([body[at], body[at + 1], body[at + 2], body[at + 3]]);
    let port = u16::from_be_bytes([body[10], body[11]]);
    let id = String::from_utf8_lossy(&body[23..45]).into_owned();
    let page = format!("{} to {}:{port} by {id}", address(0), address(4));
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{page}", page.len())?;
    Ok(())
}

fn targets() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, _| {
        let cli = &scenario.cli;
        let client = &scenario.topology.host("client-a").netns.clone();
        let host = server(scenario, 1);
        let checks = "--health-check-interval 5 --health-check-timeout 2";
        let tls_only = SocketAddrV4::new(host.address(), 8_443);
        let nginx = Nginx::start_tls(&host.netns, Directory::new("tls")?, tls_only, "by TLS", "TLSv1.3")?;
        cli.run(&format!(
            "target-group create tls --vpc provider --protocol TLS --port 8443 {checks} --health-check-protocol HTTPS"
        ))?;
        cli.run(&format!("target register tls {}", host.address()))?;
        let mixed = cli.run("listener modify web:443 --target-group tls=1 --target-group web=1");
        says(&format!("{:#}", mixed.err().context("mixed groups were accepted")?), "TCP and TLS target groups")?;
        let by_tcp = cli.run("listener modify web:80 --target-group tls");
        says(&format!("{:#}", by_tcp.err().context("TCP to a TLS group was accepted")?), "protocol TLS")?;
        cli.run("listener modify web:443 --target-group tls")?;
        scenario.wait_healthy("tls")?;
        eventually("the page comes from the TLS server", PATIENCE, || says(&lab.page(client, NAME, "")?, "by TLS"))?;
        let requests = nginx.tls_requests()?;
        ensure!(requests.iter().any(|line| line.starts_with("TLSv1.3 www.lab.example curl/")), "{requests:?}");

        validated(scenario, lab)?;

        let proxied = SocketAddrV4::new(host.address(), 8_081);
        told(&host.netns, proxied)?;
        cli.run(&format!(
            "target-group create told --vpc provider --protocol TCP --port 8081 {checks} --attribute proxy_protocol_v2.enabled=true"
        ))?;
        cli.run(&format!("target register told {}", host.address()))?;
        cli.run("listener modify web:443 --target-group told")?;
        scenario.wait_healthy("told")?;
        let endpoint = cli.run("endpoint describe consumer-a/10.0.0.50")?;
        let expected = format!("{FIRST} to {TLS} by {}", text(&endpoint, "id")?);
        eventually("the server is told the consumer", PATIENCE, || says(&lab.page(client, NAME, "")?, &expected))?;

        // Without a target the connection is refused as any other.
        cli.run(&format!("target deregister told {}:8081", host.address()))?;
        eventually("there is no target", PATIENCE, || {
            let refused = lab.page(client, NAME, "").err().context("the page still comes")?;
            // It could not connect: a reset, not a timeout.
            says(&format!("{refused:#}"), "curl: (7)")
        })?;
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

/// The groups `tls`, whose server shows a certificate that nobody vouches for, and `own`, whose server shows one that is in the
/// store, validate what they are shown.
fn validated(scenario: &Scenario, lab: &Lab) -> Result<()> {
    const TRUST: &str = "privatelink.target_certificates.trust";
    let cli = &scenario.cli;
    let client = &scenario.topology.host("client-a").netns.clone();
    let host = server(scenario, 1);
    let refused = |code: &str| {
        eventually(&format!("the relay refuses the server: {code}"), PATIENCE, || {
            ensure!(lab.page(client, NAME, "").is_err(), "the page still comes");
            let log = fs::read_to_string(lab.path("access.log")).context("the access log")?;
            ensure!(log.lines().any(|line| line.ends_with(code)), "{log}");
            Ok(())
        })
    };
    cli.run(&format!("target-group modify tls --attribute {TRUST}=system"))?;
    eventually("the check refuses the server", Duration::from_secs(30), || {
        let told = cli.run("target health tls")?.to_string();
        says(&told, "the target's certificate is not one that the target group believes")
    })?;
    // No target is healthy, so all are used; and the relay sees for itself.
    refused("TargetCertificateInvalid")?;

    let dir = Directory::new("own")?;
    let path = |file: &str| dir.path().join(file).display().to_string();
    let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).context("a certificate")?;
    fs::write(path("certificate.pem"), own.cert.pem())?;
    fs::write(path("key.pem"), own.signing_key.serialize_pem())?;
    let imported = cli.run(&format!(
        "certificate import --certificate {} --private-key {}",
        path("certificate.pem"),
        path("key.pem")
    ))?;
    let address = SocketAddrV4::new(host.address(), 8_444);
    let _nginx = Nginx::start_tls_with(&host.netns, dir, address, "by its own name", "TLSv1.3")?;
    cli.run(&format!(
        "target-group create own --vpc provider --protocol TLS --port 8444 --health-check-protocol HTTPS \
         --health-check-interval 5 --health-check-timeout 2 --attribute {TRUST}={}",
        text(&imported, "id")?
    ))?;
    cli.run(&format!("target register own {}", host.address()))?;
    cli.run("listener modify web:443 --target-group own")?;
    scenario.wait_healthy("own")?;
    eventually("the server is believed", PATIENCE, || says(&lab.page(client, NAME, "")?, "by its own name"))?;
    let told = cli.run(&format!("explain --vpc consumer-a --from {FIRST} --to {TLS}"))?;
    says(&told.to_string(), "their certificates have to be of the target group's authorities")?;
    cli.run("target-group modify own --attribute privatelink.target_certificates.name=other.lab.example")?;
    refused("TargetCertificateOtherName")?;
    cli.run("listener modify web:443 --target-group tls")?;
    cli.run(&format!("target-group modify tls --attribute {TRUST}=off"))?;
    eventually("nobody is asked any more", PATIENCE, || says(&lab.page(client, NAME, "")?, "by TLS"))
}

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

fn outlives() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, nginx| {
        let client = &scenario.topology.host("client-a").netns.clone();
        let other = &scenario.topology.host("client-b").netns.clone();
        let size = 24_u64 << 20;
        fs::write(nginx.root().join("file"), vec![7; size as usize]).context("a file")?;
        let file = lab.path("download");
        let download = || {
            let mut command = client.command("curl");
            command.args([
                "--silent",
                "--show-error",
                "--fail",
                "--limit-rate",
                "2M",
                "--cacert",
                &lab.path("ca/ca.pem"),
            ]);
            command.args(["--resolve", &format!("{NAME}:443:{ENDPOINT}"), "--output", &file]);
            command.arg(format!("https://{NAME}/file")).stdin(Stdio::null()).stderr(Stdio::piped());
            Running::start(&mut command)
        };
        let length = || fs::metadata(&file).map_or(0, |file| file.len());
        let whole = |running: Running| -> Result<()> {
            let Output { status, stderr, .. } = running.wait()?;
            ensure!(status.success() && length() == size, "{}", String::from_utf8_lossy(&stderr));
            Ok(())
        };
        // Requests of another client go on all the while.
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    ensure!(lab.page(other, NAME, "")? == "in clear");
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            let result = (|| {
                let downloading = download()?;
                eventually("the download has begun", PATIENCE, || {
                    ensure!(length() > 0);
                    Ok(())
                })?;
                scenario.agent.kill()?;
                let (before, asked) = (length(), done.load(Ordering::Relaxed));
                eventually("without an agent both go on", PATIENCE, || {
                    ensure!(length() > before && done.load(Ordering::Relaxed) > asked + 2);
                    Ok(())
                })?;
                scenario.agent.start_again()?;
                whole(downloading)?;
                progress!(
                    "a download of {} MiB outlived the agent, {} requests beside it",
                    size >> 20,
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
                    let before = length();
                    eventually("the download goes on", PATIENCE, || {
                        ensure!(length() != before);
                        Ok(())
                    })?;
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
                    whole(downloading)?;
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
            })();
            stop.store(true, Ordering::Relaxed);
            let asked = asking.join().map_err(|_| anyhow::anyhow!("the requests panicked"))?;
            result?;
            asked.context("a request failed")
        })?;
        progress!("{} requests, none failed", done.load(Ordering::Relaxed));

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

/// Relays of two builds pass the listener on to each other, while requests go on and clients come back by their tickets.
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
        let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    ensure!(lab.page(other, NAME, "")? == "in clear");
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            let result = (|| -> Result<()> {
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
            })();
            stop.store(true, Ordering::Relaxed);
            let asked = asking.join().map_err(|_| anyhow::anyhow!("the requests panicked"))?;
            result?;
            asked.context("a request failed")
        })?;
        progress!("{} requests over two changes of the relay's build, none failed", done.load(Ordering::Relaxed));
        Ok(())
    })
}

/// A server in one account is reached by HTTPS from another, by a name of the provider's that a TXT record has verified.
fn document() -> Result<()> {
    const NAME: &str = "privatelink.shop.example.org";
    let plans = vec![
        VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server", 1, 10)]),
    ];
    let verifier = format!("--dns-verification-resolver={VERIFIER}");
    with_api(Hook::Auto, plans, &[&verifier], |scenario, provider, consumer| {
        let host = scenario.topology.host("server");
        let address = SocketAddrV4::new(host.address(), TARGET_PORT);
        let nginx = Nginx::start(&host.netns, Directory::new("httpd")?, address, "a private page")?;
        let dir = Directory::new("pem")?;
        let certificate = certificates(provider, consumer, &dir, NAME)?;

        let (vpc, subnet) = network(scenario, provider, PROVIDER, "provider")?;
        let group = provider.run(&format!(
            "elbv2 create-target-group --name httpd --protocol TCP --port {TARGET_PORT} --target-type ip --vpc-id {vpc} \
             --health-check-interval-seconds 5 --health-check-timeout-seconds 2 --healthy-threshold-count 2"
        ))?;
        let group = at(&group, "TargetGroups.0.TargetGroupArn")?;
        provider.run(&format!("elbv2 register-targets --target-group-arn {group} --targets Id={}", address.ip()))?;
        let lb = provider.run(&format!(
            "elbv2 create-load-balancer --name httpd --type network --scheme internal --subnets {subnet}"
        ))?;
        let lb = at(&lb, "LoadBalancers.0.LoadBalancerArn")?;
        let create = |policy: &str| {
            format!(
                "elbv2 create-listener --load-balancer-arn {lb} --protocol TLS --port 443 --certificates \
                 CertificateArn={certificate} --ssl-policy {policy} --alpn-policy HTTP2Optional --default-actions \
                 Type=forward,TargetGroupArn={group}"
            )
        };
        let weak = provider.refused(&create("ELBSecurityPolicy-2016-08"))?;
        says(&weak, "(SSLPolicyNotFound)")?;
        says(&weak, "asks for TLSv1, which is not offered here")?;
        let listener = provider.run(&create("ELBSecurityPolicy-TLS13-1-2-2021-06"))?;
        ensure!(at(&listener, "Listeners.0.Certificates.0.CertificateArn")? == certificate, "{listener}");
        ensure!(at(&listener, "Listeners.0.AlpnPolicy.0")? == "HTTP2Optional", "{listener}");
        let used = provider.run(&format!("acm describe-certificate --certificate-arn {certificate}"))?;
        ensure!(at(&used, "Certificate.InUseBy.0")?.contains(":listener/net/httpd/"), "{used}");
        says(&provider.refused(&format!("acm delete-certificate --certificate-arn {certificate}"))?, "ResourceInUse")?;

        let made = provider.run(&format!(
            "ec2 create-vpc-endpoint-service-configuration --network-load-balancer-arns {lb} --acceptance-required \
             --private-dns-name {NAME}"
        ))?;
        let (service, name) =
            (at(&made, "ServiceConfiguration.ServiceId")?, at(&made, "ServiceConfiguration.ServiceName")?);
        let value = at(&made, "ServiceConfiguration.PrivateDnsNameConfiguration.Value")?;
        let records = ["--local=/org/".to_owned(), format!("--txt-record={NAME},{value}")];
        let _dns = Dnsmasq::start(&scenario.topology.lb, VERIFIER, &records)?;
        provider.run(&format!("ec2 start-vpc-endpoint-service-private-dns-verification --service-id {service}"))?;
        provider.run(&format!(
            "ec2 modify-vpc-endpoint-service-permissions --service-id {service} --add-allowed-principals arn:aws:iam::{CONSUMER}:root"
        ))?;

        let (vpc, subnet) = network(scenario, consumer, CONSUMER, "consumer")?;
        consumer.run(&format!("ec2 modify-vpc-attribute --vpc-id {vpc} --enable-dns-hostnames"))?;
        let group =
            consumer.run(&format!("ec2 create-security-group --group-name web --description web --vpc-id {vpc}"))?;
        let group = at(&group, "GroupId")?;
        consumer.run(&format!(
            "ec2 authorize-security-group-ingress --group-id {group} --protocol tcp --port 443 --cidr 10.0.1.0/24"
        ))?;
        let endpoint = consumer.run(&format!(
            "ec2 create-vpc-endpoint --vpc-endpoint-type Interface --vpc-id {vpc} --service-name {name} --subnet-ids {subnet} \
             --security-group-ids {group}"
        ))?;
        let endpoint = at(&endpoint, "VpcEndpoint.VpcEndpointId")?;
        provider.run(&format!(
            "ec2 accept-vpc-endpoint-connections --service-id {service} --vpc-endpoint-ids {endpoint}"
        ))?;
        consumer.run(&format!("ec2 modify-vpc-endpoint --vpc-endpoint-id {endpoint} --private-dns-enabled"))?;

        let client = &scenario.topology.host("client").netns;
        let resolver = Resolver::new(*SECOND.ip())?;
        let ca = dir.path().join("certificate.pem").display().to_string();
        let page = eventually("the page comes by HTTPS and its own name", Duration::from_secs(20), || {
            resolver.curl(client, &["--cacert", &ca, &format!("https://{NAME}/")])
        })?;
        ensure!(page == "a private page", "{page}");
        ensure!(resolver.curl(client, &[&format!("http://{NAME}/")]).is_err(), "http:// is not served");
        let from = nginx.logged_clients(1)?;
        ensure!(from.iter().all(|client| client.starts_with("10.0.0.")), "requests from {from:?}");
        ensure!(scenario.topology.checksum_errors()? == 0, "checksum errors");
        Ok(())
    })
}

/// Imports a certificate, looks at it as its owner and as another account, and replaces it; its ARN.
fn certificates(provider: &Aws, consumer: &Aws, dir: &Directory, name: &str) -> Result<String> {
    let path = |file: &str| dir.path().join(file).display().to_string();
    let make = || -> Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
        openssl.args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")]);
        openssl.args(["-keyout", &path("key.pem"), "-out", &path("certificate.pem")]);
        let made = openssl.stdin(Stdio::null()).output().context("starting openssl")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    };
    let import = format!(
        "acm import-certificate --certificate fileb://{} --private-key fileb://{}",
        path("certificate.pem"),
        path("key.pem")
    );
    make()?;
    let arn = at(&provider.run(&import)?, "CertificateArn")?.to_owned();
    make()?;
    let again = provider.run(&format!("{import} --certificate-arn {arn}"))?;
    ensure!(at(&again, "CertificateArn")? == arn, "{again}");
    let described = provider.run(&format!("acm describe-certificate --certificate-arn {arn}"))?;
    for (member, wanted) in
        [("DomainName", name), ("KeyAlgorithm", "EC_prime256v1"), ("Status", "ISSUED"), ("Type", "IMPORTED")]
    {
        ensure!(at(&described, &format!("Certificate.{member}"))? == wanted, "{described}");
    }
    let listed = provider.run("acm list-certificates")?;
    ensure!(at(&listed, "CertificateSummaryList.0.CertificateArn")? == arn, "{listed}");
    let public = provider.run(&format!("acm get-certificate --certificate-arn {arn}"))?;
    ensure!(at(&public, "Certificate")? == fs::read_to_string(path("certificate.pem"))?, "{public}");
    // Another account sees nothing of it, and a key of another certificate is refused.
    says(
        &consumer.refused(&format!("acm describe-certificate --certificate-arn {arn}"))?,
        "ResourceNotFoundException",
    )?;
    ensure!(consumer.run("acm list-certificates")?["CertificateSummaryList"].as_array().is_some_and(Vec::is_empty));
    let old = path("certificate.old");
    fs::copy(path("certificate.pem"), &old)?;
    make()?;
    let mixed = format!("acm import-certificate --certificate fileb://{old} --private-key fileb://{}", path("key.pem"));
    says(&provider.refused(&mixed)?, "does not belong to the certificate")?;
    provider.run(&format!("{import} --certificate-arn {arn}"))?;
    let unsigned = provider.with_secret("wrong").refused("acm list-certificates")?;
    says(&unsigned, "InvalidSignatureException")?;
    Ok(arn)
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
        let open = |source: Ipv4Addr| -> Result<(TcpStream, rustls::ClientConnection)> {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
            socket.bind(&std::net::SocketAddr::from((source, 0)).into())?;
            socket.connect_timeout(&std::net::SocketAddr::from(TLS).into(), PATIENCE)?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let mut tls = rustls::ClientConnection::new(Arc::clone(&config), NAME.to_owned().try_into()?)?;
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

/// What testssl.sh finds wrong with the default policy: nothing.
fn scanned() -> Result<()> {
    with_tls(Hook::Tc, |scenario, lab, _| {
        let client = &scenario.topology.host("client-a").netns;
        let mut command = client.command("testssl");
        command.args(["--quiet", "--color", "0", "--warnings", "off", "--nodns", "none", "--sneaky"]);
        // Protocols, forward secrecy, the server's preference, vulnerabilities.
        command.args(["-p", "-f", "-P", "-U", &TLS.to_string()]).env("CA_BUNDLES_PATH", lab.path("ca"));
        let Output { stdout, .. } = command.stdin(Stdio::null()).output().context("starting testssl")?;
        let said = String::from_utf8_lossy(&stdout).into_owned();
        for old in ["SSLv2", "SSLv3", "TLS 1 ", "TLS 1.1"] {
            let line = said.lines().find(|line| line.trim_start().starts_with(old)).with_context(|| said.clone())?;
            ensure!(line.contains("not offered"), "{line}");
        }
        for new in ["TLS 1.2", "TLS 1.3"] {
            let line = said.lines().find(|line| line.trim_start().starts_with(new)).with_context(|| said.clone())?;
            ensure!(line.contains("offered (OK)"), "{line}");
        }
        let wrong: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("VULNERABLE") || line.contains("NOT ok"))
            .filter(|line| !line.contains("not vulnerable"))
            .collect();
        ensure!(said.contains("Heartbleed") && wrong.is_empty(), "{wrong:?}");
        Ok(())
    })
}
