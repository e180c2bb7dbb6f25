//! The PROXY protocol: byte for byte, behind HAProxy (which verifies the CRC), nginx and sshd, and over links that lose
//! packets in both directions.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use privatelink_tests::{
    eventually::eventually,
    netns::Netns,
    nft,
    programs::{Directory, Running, Sshd, curl},
    require::{self, Need},
    scenario::Scenario,
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "proxy_header_byte_for_byte", needs: &[], run: Run::EachHook(byte_for_byte) },
        Test {
            name: "proxy_header_for_haproxy_nginx_and_ssh",
            needs: &[Need::Program("haproxy"), Need::Program("nginx"), Need::Program("curl"), Need::Program("ssh")],
            run: Run::EachHook(programs),
        },
        Test {
            name: "proxy_header_over_lossy_links",
            needs: &[Need::Program("haproxy"), Need::Program("nft")],
            run: Run::Once(lossy),
        },
    ]
};

/// Where servers listen behind HAProxy or nginx.
const BEHIND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9000);

fn enable(scenario: &Scenario, on: bool) -> Result<()> {
    scenario.cli.run(&format!("target-group modify web --attribute proxy_protocol_v2.enabled={on}")).map(drop)
}

/// The header of a connection from `client` through an endpoint, built from its description.
fn header(client: SocketAddrV4, endpoint: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x54".to_vec();
    header.extend(client.ip().octets());
    header.extend(FRONTEND.ip().octets());
    header.extend(client.port().to_be_bytes());
    header.extend(FRONTEND.port().to_be_bytes());
    header.extend([3, 0, 4, 0, 0, 0, 0, 0xea, 0, 23, 1]);
    header.extend(endpoint.bytes());
    header.extend([4, 0, 36]);
    header.resize(100, 0);
    let crc = !header.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    header[31..35].copy_from_slice(&crc.to_be_bytes());
    header
}

/// Everything that a server which echoes sends back to `data`: what it has received.
fn received(stream: &mut TcpStream, data: &[u8]) -> Result<Vec<u8>> {
    let mut writing = stream.try_clone().context("a second handle")?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            writing.write_all(data)?;
            writing.shutdown(std::net::Shutdown::Write)
        });
        let mut back = Vec::new();
        stream.read_to_end(&mut back).context("receiving")?;
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("sending")?;
        Ok(back)
    })
}

fn data(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Reads what is left of a header that a server has echoed.
fn read_header(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut header = vec![0; 100];
    stream.read_exact(&mut header).context("waiting for the header")?;
    Ok(header)
}

fn byte_for_byte(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let connect = |port: u16| {
            stream::connect(&client.netns, Source { address: client.addresses[0], port }, FRONTEND, PATIENCE)
        };
        let mut before = connect(44_999)?;
        stream::echo(&mut before, b"without")?;
        enable(scenario, true)?;
        let endpoints = scenario.cli.run("endpoint list")?;
        let endpoints = endpoints.as_array().context("no endpoints")?;
        let of_a = endpoints.iter().find(|endpoint| endpoint["vpc_name"] == "consumer-a").context("no endpoint")?;
        let id = of_a["id"].as_str().context("no id")?.to_owned();
        // A new ring takes a moment; what connected before it has no header and never gets one.
        let mut port = 45_000;
        let mut first = eventually("new connections have a header", PATIENCE, || {
            port += 1;
            let mut stream = connect(port)?;
            let sent = scenario.counter("proxy_header_sent")?;
            ensure!(sent > 0, "no header was sent");
            Ok((read_header(&mut stream)?, stream))
        })?;
        ensure!(first.0 == header(SocketAddrV4::new(FIRST, port), &id), "the header is {:02x?}", first.0);
        stream::echo(&mut first.1, b"hello")?;
        stream::echo(&mut before, b"still without")?;

        // Data at once, more than one segment of it, with the header in front of it exactly once.
        let data = data(8 << 20);
        for (port, len) in [(46_000, 1), (46_001, 1_400), (46_002, 20_000), (46_003, data.len())] {
            let mut stream = connect(port)?;
            let back = received(&mut stream, &data[..len])?;
            let expected = [header(SocketAddrV4::new(FIRST, port), &id), data[..len].to_vec()].concat();
            ensure!(back == expected, "{} bytes came back for {len}, or others", back.len());
        }
        stream::echo(&mut before, b"still without")?;

        enable(scenario, false)?;
        eventually("new connections have no header", PATIENCE, || {
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut stream, b"none")?;
            Ok(())
        })?;
        stream::echo(&mut first.1, b"with it, and on")?;
        drop(echo);
        quiet(scenario)
    })
}

/// Nothing that would hide behind a retransmission.
fn quiet(scenario: &Scenario) -> Result<()> {
    ensure!(scenario.counter("kernel_refused")? == 0, "the kernel refused a frame");
    let errors = scenario.topology.checksum_errors()?;
    ensure!(errors == 0, "{errors} checksum errors");
    Ok(())
}

/// A server that speaks the PROXY protocol on `address` and passes on to [`BEHIND`] by TCP, with a log of its clients.
struct Relay {
    _running: Running,
    dir: Directory,
}

impl Relay {
    fn haproxy(netns: &Netns, address: SocketAddrV4) -> Result<Self> {
        let dir = Directory::new("haproxy")?;
        let config = format!(
            "global\n log stdout format raw local0\ndefaults\n mode tcp\n log global\n log-format \"%ci:%cp\"\n \
             timeout connect 10s\n timeout client 400s\n timeout server 400s\nfrontend in\n \
             bind {address} accept-proxy\n default_backend out\nbackend out\n server one {BEHIND}\n"
        );
        fs::write(dir.path().join("config"), config).context("haproxy's configuration")?;
        let program = require::find("haproxy").context("haproxy is not installed; `cargo xtask setup` does that")?;
        let mut command = netns.command(program);
        command.arg("-db").arg("-f").arg(dir.path().join("config"));
        Self::start(command, dir, netns, address)
    }

    fn start(mut command: Command, dir: Directory, netns: &Netns, address: SocketAddrV4) -> Result<Self> {
        let log = fs::File::create(dir.path().join("log")).context("a log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut running = Running::start(&mut command)?;
        eventually("the relay listens", Duration::from_secs(10), || {
            if !running.is_running() {
                bail!("it ended: {}", fs::read_to_string(dir.path().join("log")).unwrap_or_default());
            }
            netns.run(|| TcpStream::connect(address))?.map(drop).context("connecting")
        })?;
        Ok(Self { _running: running, dir })
    }

    fn log(&self) -> Result<String> {
        fs::read_to_string(self.dir.path().join("log")).context("the log")
    }
}

fn programs(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        enable(scenario, true)?;
        let web = server(scenario, 1);
        let echo = Server::start(&web.netns, BEHIND, Behaviour::Echo)?;
        let haproxy = Relay::haproxy(&web.netns, target(scenario, 1))?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let source = Source { address: client.addresses[0], port: 45_000 };
        let stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
        stream::transfer(&stream, 64 << 20)?;
        drop(stream);
        eventually("HAProxy has logged the consumer's address", PATIENCE, || {
            let log = haproxy.log()?;
            ensure!(log.lines().any(|line| line == "10.0.1.10:45000"), "{log}");
            // What fails the CRC or is no header is logged as an error of the frontend.
            ensure!(!log.contains("invalid") && !log.contains("rror"), "{log}");
            Ok(())
        })?;
        drop((echo, haproxy));

        // A server that speaks first: HAProxy connects to it when the header has come.
        let sshd = Sshd::start(&web.netns, Directory::new("sshd")?, BEHIND, "server-1")?;
        let haproxy = Relay::haproxy(&web.netns, target(scenario, 1))?;
        let output = sshd.client(&client.netns, FRONTEND, "echo logged in")?.output().context("ssh")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.contains("logged in"), "ssh said {said}{}", String::from_utf8_lossy(&output.stderr));
        drop((sshd, haproxy));

        let dir = Directory::new("nginx-proxy")?;
        let path = dir.path().display();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {path}/pid;\nerror_log {path}/error.log;\nevents {{}}\nhttp {{\n \
             log_format proxy '$proxy_protocol_addr:$proxy_protocol_port';\n access_log {path}/access.log proxy;\n \
             client_body_temp_path {path}/body;\n proxy_temp_path {path}/proxy;\n fastcgi_temp_path {path}/fastcgi;\n \
             uwsgi_temp_path {path}/uwsgi;\n scgi_temp_path {path}/scgi;\n server {{\n \
             listen {} proxy_protocol;\n return 200 \"by nginx\\n\";\n }}\n}}\n",
            target(scenario, 1)
        );
        fs::write(dir.path().join("nginx.conf"), config).context("nginx's configuration")?;
        let program = require::find("nginx").context("nginx is not installed; `cargo xtask setup` does that")?;
        let mut command = web.netns.command(program);
        command.arg("-c").arg(dir.path().join("nginx.conf")).arg("-p").arg(dir.path());
        let nginx = Relay::start(command, dir, &web.netns, target(scenario, 1))?;
        let url = format!("http://{FRONTEND}/");
        let args = ["--interface", "10.0.1.10", "--local-port", "45001", &url];
        ensure!(curl(&client.netns, &args)? == "by nginx\n", "nginx said something else");
        eventually("nginx has logged the consumer's address", PATIENCE, || {
            let log = fs::read_to_string(nginx.dir.path().join("access.log")).context("nginx's log")?;
            ensure!(log.lines().any(|line| line == "10.0.1.10:45001"), "nginx logged {log}");
            Ok(())
        })?;
        quiet(scenario)
    })
}

/// Retransmission time-outs double, so that a run of losses takes its time: where a third of the attempts fail, one in
/// 100,000 takes longer than this.
const LOSSY: Duration = Duration::from_secs(400);

/// Kernels from 6.15 on let time-outs double up to a bound only, which makes a run of losses short.
fn retry_soon(netns: &Netns) -> Result<()> {
    const KEY: &str = "ipv4.tcp_rto_max_ms";
    let known = netns.run(|| Path::new("/proc/sys/net").join(KEY.replace('.', "/")).exists())?;
    if known { netns.sysctl(KEY, "1000") } else { Ok(()) }
}

fn lossy() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        enable(scenario, true)?;
        let web = server(scenario, 1);
        let client = scenario.topology.host("client-a");
        let _echo = Server::start(&web.netns, BEHIND, Behaviour::Echo)?;
        let haproxy = Relay::haproxy(&web.netns, target(scenario, 1))?;
        scenario.wait_healthy("web")?;
        retry_soon(&client.netns)?;
        retry_soon(&web.netns)?;
        for (percent, bytes) in [(1, 16 << 20), (5, 4 << 20), (20, 192 << 10)] {
            crate::progress!("{percent} % lost each way");
            nft::lose(&client.netns, percent)?;
            nft::lose(&web.netns, percent)?;
            let (sent, before) = (scenario.counter("proxy_header_sent")?, haproxy.log()?.lines().count());
            let stream = stream::connect(&client.netns, Source::ANY, FRONTEND, LOSSY)?;
            stream::transfer(&stream, bytes)?;
            // Many short ones: most of what is lost of them is SYN, header or close.
            const SHORT: usize = 48;
            let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
                let short = |number: usize| {
                    scope.spawn(move || {
                        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, LOSSY)?;
                        let data = data(600 + 100 * number);
                        let back = received(&mut stream, &data)?;
                        ensure!(back == data, "{} bytes came back for {}", back.len(), data.len());
                        Ok(())
                    })
                };
                let threads: Vec<_> = (0..SHORT).map(short).collect();
                threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
            });
            for outcome in outcomes {
                outcome.with_context(|| format!("with {percent} % lost"))?;
            }
            let sent = scenario.counter("proxy_header_sent")? - sent;
            ensure!(sent > SHORT as u64, "{sent} headers for {} connections", SHORT + 1);
            let log = haproxy.log()?;
            let from_client = log.lines().skip(before).filter(|line| line.starts_with("10.0.1.")).count();
            crate::progress!("{from_client} connections logged with the consumer's address, {sent} headers sent");
            ensure!(!log.contains("invalid") && !log.contains("rror"), "{log}");
        }
        ensure!(scenario.counter("kernel_refused")? == 0, "the kernel refused a frame");
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}
