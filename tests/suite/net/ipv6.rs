//! IPv6 from client to target: pages, datagrams, pings, names, ends, restarts.

use std::{
    fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpStream},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Running, curl},
    require::Need,
    scenario::{ENDPOINT, NODE, QUICK_CHECKS, Scenario, program, rows, text},
    topology::Hook,
};

use crate::{
    Run, Test,
    common::{FIRST, PATIENCE, plans, server},
    udp,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "ipv6_pages_from_equal_networks",
            needs: &[Need::Program("python3"), Need::Program("curl"), Need::Program("ping"), Need::Program("dig")],
            run: Run::EachHook(pages),
        },
        Test {
            name: "ipv6_resolver_over_udp_and_tcp",
            needs: &[Need::Program("dnsmasq"), Need::Program("dig")],
            run: Run::EachHook(resolver),
        },
        Test {
            name: "ipv6_flows_end_with_their_target_and_outlive_the_agent",
            needs: &[Need::Program("python3")],
            run: Run::EachHook(ends),
        },
        Test {
            name: "ipv6_clients_and_ipv4_targets_meet_and_the_reverse",
            needs: &[Need::Program("python3"), Need::Program("curl")],
            run: Run::EachHook(between_families),
        },
        Test {
            name: "ipv6_and_ipv4_resolvers_answer_clients_of_both",
            needs: &[Need::Program("dnsmasq"), Need::Program("dig")],
            run: Run::EachHook(resolver_between_families),
        },
        Test { name: "ipv6_is_refused_where_it_cannot_be", needs: &[], run: Run::Once(refusals) },
    ]
};

/// The IPv6 range of every VPC, and what has which address in it: clients and the first server are the same.
const CIDR: &str = "fd00:10::/64";
const FIRST6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 1, 0x10);
const SECOND6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 1, 0x11);
const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 5);
const ENDPOINT6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x50);

/// Gives the host an address that nobody else can have, so that it is usable at once.
fn add_address(scenario: &Scenario, host: &str, address: Ipv6Addr) -> Result<()> {
    let netns = &scenario.topology.host(host).netns;
    netns.ip(&["address", "add", &format!("{address}/64"), "dev", "eth0", "nodad"])
}

/// Two consumers and a provider with two servers, all of the same IPv6 networks; `protocol` on `port` leads to port
/// `to` of the servers, which are reached by the one family that these addresses are of.
fn with_service(
    hook: Hook,
    (protocol, port, to): (&str, u16, u16),
    targets: &[IpAddr],
    test: impl FnOnce(&mut Scenario) -> Result<()>,
) -> Result<()> {
    Scenario::run(&program()?, hook, plans(2), |scenario| {
        let hosts = [("client-a", FIRST6), ("client-b", FIRST6), ("server-1", FIRST6), ("server-2", SECOND6)];
        for (host, address) in hosts {
            add_address(scenario, host, address)?;
        }
        for vpc in ["consumer-a", "consumer-b", "provider"] {
            scenario.cli.run(&format!("vpc modify {vpc} --ipv6-cidr {CIDR}"))?;
        }
        let family = if targets.iter().all(IpAddr::is_ipv6) { "ipv6" } else { "ipv4" };
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        for line in [
            format!("load-balancer create web --vpc provider --address {NODE} {NODE6}"),
            format!(
                "target-group create web --vpc provider --ip-address-type {family} --protocol {protocol} --port {to} {QUICK_CHECKS} \
                 --attribute deregistration_delay.timeout_seconds=0 \
                 --attribute deregistration_delay.connection_termination.enabled=true"
            ),
            format!("target register web {}", targets.join(" ")),
            format!("listener create web --protocol {protocol} --port {port} --target-group web"),
            "endpoint-service create --load-balancer web --name web".to_owned(),
        ] {
            scenario.cli.run(&line)?;
        }
        for vpc in ["consumer-a", "consumer-b"] {
            scenario.cli.run(&format!(
                "endpoint create --service-name web --vpc {vpc} --address {ENDPOINT} --ipv6-address {ENDPOINT6}"
            ))?;
        }
        test(scenario)
    })
}

/// A web server of somebody else on `address`, whose page is its name; it notes who asks.
struct Pages {
    _running: Running,
    dir: Directory,
}

impl Pages {
    fn start(netns: &Netns, name: &str, address: IpAddr) -> Result<Self> {
        let dir = Directory::new(name)?;
        fs::write(dir.path().join("index.html"), format!("{name}\n"))?;
        fs::write(dir.path().join("large"), large())?;
        let log = fs::File::create(dir.path().join("log"))?;
        let mut command = netns.command("python3");
        command.args(["-u", "-m", "http.server", "8080", "--bind", &address.to_string(), "--directory"]);
        command.arg(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Self { _running: Running::start(&mut command)?, dir })
    }

    /// Who has asked for a page, each once.
    fn clients(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.dir.path().join("log"))?;
        let asked = log.lines().filter(|line| line.contains("\"GET"));
        let mut clients: Vec<String> = asked.filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
        clients.sort();
        clients.dedup();
        Ok(clients)
    }
}

fn large() -> Vec<u8> {
    (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn pages(hook: Hook) -> Result<()> {
    with_service(hook, ("TCP", 80, 8080), &[FIRST6.into(), SECOND6.into()], |scenario| {
        let servers = [
            Pages::start(&server(scenario, 1).netns, "one", FIRST6.into())?,
            Pages::start(&server(scenario, 2).netns, "two", SECOND6.into())?,
        ];
        scenario.wait_healthy("web")?;
        let page = format!("http://[{ENDPOINT6}]/");
        let mut seen = Vec::new();
        for client in ["client-a", "client-b"] {
            let netns = &scenario.topology.host(client).netns;
            for _ in 0..12 {
                seen.push(curl(netns, &["-6", &page])?.trim().to_owned());
            }
            let found = Directory::new("large6")?;
            let path = found.path().join("large");
            curl(netns, &["-6", "--output", &path.display().to_string(), &format!("{page}large")])?;
            ensure!(fs::read(&path)? == large(), "{client} got other bytes than the server has");
            let ping = netns.command("ping").args(["-6", "-c", "2", "-W", "2", &ENDPOINT6.to_string()]).output()?;
            ensure!(ping.status.success(), "ping: {}", String::from_utf8_lossy(&ping.stdout));
        }
        ensure!(["one", "two"].iter().all(|name| seen.iter().any(|page| page == name)), "pages: {seen:?}");
        for server in &servers {
            let clients = server.clients()?;
            ensure!(clients == [NODE6.to_string()], "a server saw {clients:?}");
        }
        let health = scenario.cli.run("target health web")?;
        for row in rows(&health)? {
            let hop = &row["next_hop"];
            ensure!(text(hop, "state")? == "resolved" && hop["address"] == row["address"]["ip"], "{row}");
        }
        explained(scenario)?;
        named(scenario)?;
        ensure!(scenario.topology.checksum_errors()? == 0, "wrong checksums");
        Ok(())
    })
}

/// `explain` and `flow list` speak of IPv6 addresses.
fn explained(scenario: &Scenario) -> Result<()> {
    let line = format!("explain --vpc consumer-a --from {FIRST6} --to [{ENDPOINT6}]:80");
    let said = scenario.cli.run(&line)?;
    ensure!(said["reachable"] == true, "{said}");
    let verdict = text(&said, "verdict")?;
    ensure!(verdict.contains(&format!("which sees {NODE6} as its source")), "{verdict}");
    let line = format!("explain --vpc consumer-a --from {FIRST6} --to [{ENDPOINT6}]:80 --proto icmp");
    let said = scenario.cli.table(&line);
    ensure!(said.is_err(), "an echo is answered and reaches no target");
    let source = SocketAddr::V6(SocketAddrV6::new(FIRST6, 41_000, 0, 0));
    let stream = connect(scenario, "client-a", 41_000)?;
    let flows = scenario.cli.run("flow list")?;
    let flow = rows(&flows)?.iter().find(|flow| flow["client"] == source.to_string()).cloned();
    let flow = flow.with_context(|| format!("no flow of {source} in {flows}"))?;
    ensure!(flow["frontend"] == format!("[{ENDPOINT6}]:80"), "{flow}");
    ensure!(text(&flow, "node")?.starts_with(&format!("[{NODE6}]:")), "{flow}");
    drop(stream);
    Ok(())
}

/// The endpoint's and the load balancer's names have AAAA records in the VPC.
fn named(scenario: &Scenario) -> Result<()> {
    let endpoint = scenario.cli.run(&format!("endpoint describe consumer-a/{ENDPOINT6}"))?;
    ensure!(endpoint["ip_address_type"] == "dualstack", "{endpoint}");
    let name = endpoint["dns_names"][0].as_str().context("no name")?;
    let lb = scenario.cli.run("load-balancer describe web")?;
    let client = &scenario.topology.host("client-a").netns;
    for (name, four, six) in [
        (name, ENDPOINT.to_string(), ENDPOINT6.to_string()),
        (text(&lb, "dns_name")?, NODE.to_string(), NODE6.to_string()),
    ] {
        for (kind, expected) in [("A", four), ("AAAA", six)] {
            let mut command = client.command("dig");
            let output = command.args(["@10.0.0.2", "+short", "+time=3", "+tries=2", name, kind]).output()?;
            let said = String::from_utf8_lossy(&output.stdout);
            ensure!(said.trim() == expected, "{name} {kind}: {said}");
        }
    }
    Ok(())
}

/// A connection of a client from a port of its own.
fn connect(scenario: &Scenario, client: &str, port: u16) -> Result<TcpStream> {
    let netns = &scenario.topology.host(client).netns;
    let stream = netns.run(|| -> Result<TcpStream> {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddrV6::new(FIRST6, port, 0, 0).into())?;
        socket.connect_timeout(&SocketAddrV6::new(ENDPOINT6, 80, 0, 0).into(), PATIENCE)?;
        Ok(socket.into())
    })??;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Asks for the page by HTTP/1.1 over a connection that stays open.
fn ask(stream: &mut TcpStream) -> Result<String> {
    stream.write_all(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(&mut *stream).read_line(&mut line)?;
    Ok(line)
}

fn resolver(hook: Hook) -> Result<()> {
    with_service(hook, ("TCP_UDP", 53, 53), &[FIRST6.into()], |scenario| {
        let dir = Directory::new("dns6")?;
        let _resolver = udp::resolver(&server(scenario, 1).netns, &dir)?;
        scenario.wait_healthy("web")?;
        for client in ["client-a", "client-b"] {
            let netns = &scenario.topology.host(client).netns;
            for options in [&["+notcp"][..], &["+tcp"]] {
                for _ in 0..5 {
                    let mut command = netns.command("dig");
                    command.args(["-6", "-b", &format!("{FIRST6}#40000"), &format!("@{ENDPOINT6}")]);
                    let output =
                        command.args(["+tries=1", "+time=5", "+short", "web.example"]).args(options).output()?;
                    let said = String::from_utf8_lossy(&output.stdout);
                    ensure!(said.trim() == "192.0.2.7", "{client} {options:?}: {said}");
                }
            }
        }
        ensure!(scenario.counter("flow_opened")? >= 4, "both protocols opened flows");
        udp::no_checksum_errors(scenario)
    })
}

/// Pages from servers of each family for clients of each, at once.
fn between_families(hook: Hook) -> Result<()> {
    for (target, node) in [(IpAddr::V4(FIRST), IpAddr::V4(NODE)), (IpAddr::V6(FIRST6), IpAddr::V6(NODE6))] {
        with_service(hook, ("TCP", 80, 8080), &[target], |scenario| {
            let pages = Pages::start(&server(scenario, 1).netns, "one", target)?;
            scenario.wait_healthy("web")?;
            for client in ["client-a", "client-b"] {
                let netns = &scenario.topology.host(client).netns;
                for (option, page) in [("-4", format!("http://{ENDPOINT}/")), ("-6", format!("http://[{ENDPOINT6}]/"))]
                {
                    for _ in 0..5 {
                        let page = curl(netns, &[option, &page])?;
                        ensure!(page.trim() == "one", "{client} {option} got {page}");
                    }
                    let found = Directory::new("between")?;
                    let path = found.path().join("large");
                    curl(netns, &[option, "--output", &path.display().to_string(), &format!("{page}large")])?;
                    ensure!(fs::read(&path)? == large(), "{client} {option} got other bytes than the server has");
                }
            }
            let clients = pages.clients()?;
            ensure!(clients == [node.to_string()], "the server saw {clients:?}");
            for (from, to) in
                [(FIRST.to_string(), format!("{ENDPOINT}:80")), (FIRST6.to_string(), format!("[{ENDPOINT6}]:80"))]
            {
                let said = scenario.cli.run(&format!("explain --vpc consumer-a --from {from} --to {to}"))?;
                ensure!(said["reachable"] == true, "{said}");
                let verdict = text(&said, "verdict")?;
                ensure!(verdict.contains(&format!("which sees {node} as its source")), "{verdict}");
            }
            ensure!(scenario.counter("untranslatable")? == 0, "a packet found no place in the other family's header");
            ensure!(scenario.topology.checksum_errors()? == 0, "wrong checksums");
            Ok(())
        })?;
    }
    Ok(())
}

/// Datagrams and TCP of each family to a resolver of each.
fn resolver_between_families(hook: Hook) -> Result<()> {
    for target in [IpAddr::V4(FIRST), IpAddr::V6(FIRST6)] {
        with_service(hook, ("TCP_UDP", 53, 53), &[target], |scenario| {
            let dir = Directory::new("dns46")?;
            let _resolver = udp::resolver(&server(scenario, 1).netns, &dir)?;
            scenario.wait_healthy("web")?;
            let netns = &scenario.topology.host("client-a").netns;
            for server in [IpAddr::V4(ENDPOINT), IpAddr::V6(ENDPOINT6)] {
                for option in ["+notcp", "+tcp"] {
                    for _ in 0..3 {
                        let mut command = netns.command("dig");
                        command.args([&format!("@{server}"), "+tries=1", "+time=5", "+short", "web.example", option]);
                        let said = String::from_utf8_lossy(&command.output()?.stdout).into_owned();
                        ensure!(said.trim() == "192.0.2.7", "{target} at {server} {option}: {said}");
                    }
                }
            }
            ensure!(scenario.counter("untranslatable")? == 0, "a datagram found no place in the other family's header");
            udp::no_checksum_errors(scenario)
        })?;
    }
    Ok(())
}

/// A greeter that repeats what it hears, written by nobody who knows the datapath.
const ECHO: &str = r#"import socket,sys,threading
threading.excepthook=lambda why: None
def serve(c):
    while True:
        d=c.recv(4096)
        if not d: return
        c.sendall(d)
s=socket.create_server((sys.argv[1],8080),family=socket.AF_INET6)
while True:
    threading.Thread(target=serve,args=(s.accept()[0],),daemon=True).start()
"#;

fn echo(stream: &mut TcpStream, said: &[u8]) -> Result<()> {
    stream.write_all(said)?;
    let mut heard = vec![0; said.len()];
    stream.read_exact(&mut heard)?;
    ensure!(heard == said, "said {said:?}, heard {heard:?}");
    Ok(())
}

fn ends(hook: Hook) -> Result<()> {
    with_service(hook, ("TCP", 80, 8080), &[FIRST6.into()], |scenario| {
        let mut command = server(scenario, 1).netns.command("python3");
        command.args(["-c", ECHO, &FIRST6.to_string()]).stdin(Stdio::null());
        let _server = Running::start(&mut command)?;
        scenario.wait_healthy("web")?;
        let mut stream = connect(scenario, "client-a", 42_000)?;
        echo(&mut stream, b"before")?;
        scenario.agent.kill()?;
        echo(&mut stream, b"without an agent")?;
        let mut other = connect(scenario, "client-b", 42_000)?;
        echo(&mut other, b"a new connection without an agent")?;
        scenario.agent.start_again()?;
        echo(&mut stream, b"after")?;
        eventually("the new agent finds the target healthy", Duration::from_secs(20), || {
            let health = scenario.cli.run("target health web")?;
            ensure!(rows(&health)?.iter().all(|row| row["state"] == "healthy"), "{health}");
            Ok(())
        })?;
        // Both ends hear of it at once, not at their next packet.
        scenario.cli.run(&format!("target deregister web {FIRST6}"))?;
        for stream in [&mut stream, &mut other] {
            let ended = stream.read(&mut [0; 1]);
            let reset = ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
            ensure!(reset, "the connection ended with {ended:?}");
        }
        eventually("the server's connections are gone", Duration::from_secs(5), || {
            let mut command = server(scenario, 1).netns.command("ss");
            let output = command.args(["-6", "-tnH", "state", "established"]).output().context("ss")?;
            let open = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(open.trim().is_empty(), "{open}");
            Ok(())
        })?;
        let flows = scenario.cli.run("flow list")?;
        ensure!(rows(&flows)?.is_empty(), "{flows}");
        ensure!(ask(&mut stream).is_err(), "the connection is gone");
        Ok(())
    })
}

/// What cannot carry IPv6 says so when it is asked for.
fn refusals() -> Result<()> {
    Scenario::run(&program()?, Hook::Tc, plans(1), |scenario| {
        let refused = |line: &str, said: &str| -> Result<()> {
            let error = scenario.cli.run(line).err().with_context(|| format!("'{line}' was accepted"))?;
            let text = format!("{error:#}");
            ensure!(text.contains(said), "'{line}': {text}");
            Ok(())
        };
        refused(&format!("load-balancer create web --vpc provider --address {NODE} {NODE6}"), "IPv6 CIDR block")?;
        for vpc in ["consumer-a", "provider"] {
            scenario.cli.run(&format!("vpc modify {vpc} --ipv6-cidr {CIDR}"))?;
        }
        refused("vpc modify provider --ipv6-cidr fd00:11::/64", "already has an IPv6 CIDR block")?;
        refused(&format!("load-balancer create web --vpc provider --address {NODE6}"), "node address")?;
        refused("load-balancer create web --vpc provider --address 10.0.0.5 fd00:11::5", "address range")?;
        scenario.cli.run(&format!("load-balancer create web --vpc provider --address {NODE}"))?;
        let group = "target-group create six --vpc provider --ip-address-type ipv6 --protocol TCP --port 80";
        refused(&format!("{group} --target-type instance"), "instance")?;
        refused(&format!("{group} --attribute proxy_protocol_v2.enabled=true"), "IP address type ipv6")?;
        scenario.cli.run(group)?;
        refused("target register six 10.0.1.10", "IP address type ipv6")?;
        refused(&format!("target register six {NODE6}x"), "must be an IP address")?;
        refused("listener create web --protocol TCP --port 80 --target-group six", "IP address type ipv6")?;
        scenario.cli.run("target-group create four --vpc provider --protocol TCP --port 80")?;
        refused(&format!("target register four {FIRST6}"), "IP address type ipv4")?;
        scenario.cli.run("listener create web --protocol TCP --port 80 --target-group four")?;
        scenario.cli.run("endpoint-service create --load-balancer web --name web")?;
        refused(
            &format!("endpoint create --service-name web --vpc consumer-a --ipv6-address {ENDPOINT6}"),
            "does not support the IP address type dualstack",
        )?;
        scenario.cli.run(&format!("load-balancer modify web --ipv6-address {NODE6}"))?;
        refused(
            "listener create web --protocol TCP --port 81 --target-group four=1 --target-group six=1",
            "same IP address type",
        )?;
        scenario.cli.run("listener create web --protocol TCP --port 81 --target-group six")?;
        refused("load-balancer modify web --no-ipv6-addresses", "are used for the targets")?;
        Ok(())
    })
}
