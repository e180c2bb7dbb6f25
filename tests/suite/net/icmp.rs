//! Path MTU discovery with real stacks, echo, traceroute.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    process::Output,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_ebpf::wire::PROTO_ICMP;
use privatelink_tests::{
    eventually::eventually,
    link::End,
    netns::Netns,
    programs::{Directory, Nginx},
    require::Need,
    router::Behind,
    scenario::{ENDPOINT, NODE, Scenario, Service, program},
    topology::{Hook, HostPlan, VpcPlan},
    traffic::{
        frames::{Injector, Sniffer},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, SILENCE, TARGET_PORT, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "pmtu_of_1400_near_the_target", needs: &[], run: Run::EachHook(near_target) },
        Test { name: "pmtu_of_1400_near_the_client", needs: &[], run: Run::EachHook(near_client) },
        Test { name: "pmtu_of_our_own_ports", needs: &[Need::Program("nginx")], run: Run::EachHook(own_ports) },
        Test { name: "echo_is_answered", needs: &[Need::Program("ping")], run: Run::EachHook(echo) },
        Test { name: "traceroute_sees_one_hop", needs: &[Need::Program("traceroute")], run: Run::EachHook(hops) },
    ]
};

/// What a transfer must carry each way.
const BYTES: u64 = 32 << 20;

/// By when what has been sent already is seen.
const LATE: Duration = Duration::from_millis(300);

/// A router's address, in every VPC that has one.
const ROUTER: (u8, u8) = (99, 1);

/// 1,400 less 40 bytes of headers and 12 of the time stamp option.
const SMALL_SEGMENT: u32 = 1348;

/// The hosts are behind routers as `near` says: with links of 1,400 on that side and of 1,500 on the other.
fn with_routers(
    hook: Hook,
    client_mtu: u32,
    target_mtu: u32,
    test: fn(&Scenario, &Behind, &Behind) -> Result<()>,
) -> Result<()> {
    let (third, fourth) = ROUTER;
    let plans = vec![
        VpcPlan::new("consumer-a", vec![HostPlan::new("router-a", third, fourth)]),
        VpcPlan::new("provider", vec![HostPlan::new("router-p", third, fourth)]),
    ];
    Scenario::run(&program()?, hook, plans, |scenario| {
        let client = Behind::new(scenario.topology.host("router-a"), "client", FIRST, client_mtu)?;
        let target = Behind::new(scenario.topology.host("router-p"), "server", FIRST, target_mtu)?;
        let service = scenario.publish(&Service::new("web", "provider", vec![FIRST]))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        test(scenario, &client, &target)
    })
}

fn near_target(hook: Hook) -> Result<()> {
    with_routers(hook, 1500, 1400, |scenario, client, target| {
        let segment = transfer(scenario, client, target)?;
        // The client has learned it; the target knows its own link.
        ensure!(segment == SMALL_SEGMENT, "the client sends segments of {segment}");
        Ok(())
    })
}

fn near_client(hook: Hook) -> Result<()> {
    with_routers(hook, 1400, 1500, |scenario, client, target| transfer(scenario, client, target).map(drop))
}

/// Transfers both ways through a hop that only ICMP tells of; the client's segment size afterwards.
fn transfer(scenario: &Scenario, client: &Behind, target: &Behind) -> Result<u32> {
    let listening = SocketAddrV4::new(target.address, TARGET_PORT);
    let _server = Server::start(&target.netns, listening, Behaviour::Echo)?;
    scenario.wait_healthy("web")?;
    let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
    stream::echo(&mut stream, b"hello")?;
    ensure!(stream::max_segment(&stream)? >= SMALL_SEGMENT, "segments of {}", stream::max_segment(&stream)?);
    let before = scenario.counter("icmp_error_translated")?;
    let heard = Sniffer::new(&client.link, PROTO_ICMP)?;
    let heard_there = Sniffer::new(&target.link, PROTO_ICMP)?;
    stream::transfer(&stream, BYTES)?;
    let translated = scenario.counter("icmp_error_translated")? - before;
    ensure!(translated > 0, "nobody was told of the smaller hop");
    for counter in ["icmp_forged", "icmp_no_flow", "icmp_malformed", "mtu_exceeded"] {
        ensure!(scenario.counter(counter)? == 0, "{counter}: {}", scenario.counter(counter)?);
    }
    // Whoever was told was told by the address that it talks to.
    let told = [(heard, ENDPOINT), (heard_there, NODE)];
    let mut errors = 0;
    for (sniffer, from) in told {
        while let Some(frame) = sniffer.next(LATE, too_big)? {
            errors += 1;
            ensure!(
                frame[26..30] == from.octets() || !crossed(&frame),
                "from {:?} to a host of {from}",
                &frame[26..30]
            );
        }
    }
    ensure!(errors > 0, "no error was seen to arrive");
    let checksums: u64 = client.netns.protocol_counter("Tcp", "InCsumErrors")?
        + target.netns.protocol_counter("Tcp", "InCsumErrors")?
        + client.netns.protocol_counter("Icmp", "InCsumErrors")?
        + target.netns.protocol_counter("Icmp", "InCsumErrors")?;
    ensure!(checksums == 0, "{checksums} wrong checksums");
    stream::max_segment(&stream)
}

fn too_big(frame: &[u8]) -> bool {
    frame.get(23) == Some(&1) && frame.get(34..36) == Some(&[3, 4])
}

/// The error has crossed the load balancer: it is not the near router's own.
fn crossed(frame: &[u8]) -> bool {
    frame[26..30] != [10, 0, ROUTER.0, ROUTER.1]
}

/// A port's MTU becomes smaller while connections live: who sends larger packets into the other one is told by us.
fn own_ports(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let nginx = Nginx::start(&server(scenario, 1).netns, Directory::new("nginx")?, target(scenario, 1), "index\n")?;
        let content: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(nginx.root().join("file"), &content).context("the file")?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let connect = |port| {
            let source = Source { address: client.address(), port };
            let mut stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
            ensure!(ask(&mut stream, "GET", "/index.html", &[])? == (200, b"index\n".to_vec()), "not nginx's index");
            ensure!(stream::max_segment(&stream)? == 1448, "segments of {}", stream::max_segment(&stream)?);
            Ok(stream)
        };
        let (mut upload, mut download) = (connect(40_001)?, connect(40_002)?);
        let sent = scenario.counter("icmp_error_sent")?;
        let target_link = &server(scenario, 1).link;
        set_mtu(scenario, "provider", target_link, 1400)?;
        let heard = Sniffer::new(&client.link, PROTO_ICMP)?;
        let (status, _) = ask(&mut upload, "POST", "/index.html", &content[..500_000])?;
        ensure!(status == 405, "nginx answered {status}");
        let error = heard.next(SILENCE, too_big)?.context("the client was not told")?;
        ensure!(error[26..30] == ENDPOINT.octets(), "told by {:?}", &error[26..30]);
        ensure!(error[40..42] == 1400u16.to_be_bytes(), "told of {:?}", &error[40..42]);
        ensure!(stream::max_segment(&upload)? == SMALL_SEGMENT, "segments of {}", stream::max_segment(&upload)?);
        ensure!(scenario.counter("icmp_error_sent")? > sent, "the error was not counted");

        set_mtu(scenario, "provider", target_link, 1500)?;
        set_mtu(scenario, "consumer-a", &client.link, 1400)?;
        let heard = Sniffer::new(target_link, PROTO_ICMP)?;
        ensure!(ask(&mut download, "GET", "/file", &[])? == (200, content), "the file differs");
        let error = heard.next(SILENCE, too_big)?.context("the target was not told")?;
        ensure!(error[26..30] == NODE.octets(), "told by {:?}", &error[26..30]);
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// One request on a connection that stays: status and body of the answer.
fn ask(stream: &mut TcpStream, method: &str, path: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).context("sending")?;
    stream.write_all(body).context("sending")?;
    let mut answer = String::new();
    while !answer.ends_with("\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).with_context(|| format!("after {answer:?}"))?;
        answer.push(byte[0].into());
    }
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok()).context("no status")?;
    let length = answer.lines().find_map(|line| line.strip_prefix("Content-Length: ")).context("no length")?;
    let mut body = vec![0; length.parse().context("the length")?];
    stream.read_exact(&mut body).context("receiving")?;
    Ok((status, body))
}

/// Sets the MTU of both ends of a port's link and waits until the datapath knows it.
fn set_mtu(scenario: &Scenario, port: &str, far: &End, mtu: u32) -> Result<()> {
    End::new(&scenario.topology.lb, port).set_mtu(mtu)?;
    far.set_mtu(mtu)?;
    eventually(&format!("{port} has an MTU of {mtu}"), PATIENCE, || {
        let ports = scenario.cli.run("port list")?;
        let rows = privatelink_tests::scenario::rows(&ports)?;
        let row = rows.iter().find(|row| row["interface"] == port).with_context(|| format!("no {port} in {ports}"))?;
        ensure!(row["mtu"] == mtu, "it has {}", row["mtu"]);
        Ok(())
    })
}

fn ping(netns: &Netns, arguments: &[&str], to: Ipv4Addr) -> Result<Output> {
    let mut command = netns.command(privatelink_tests::require::find("ping").context("ping")?);
    command.args(["-n", "-c", "3", "-i", "0.2", "-W", "2"]).args(arguments).arg(to.to_string());
    command.output().context("starting ping")
}

fn echo(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let (client, host) = (scenario.topology.host("client-a"), server(scenario, 1));
        for (netns, to) in [(&client.netns, ENDPOINT), (&host.netns, NODE)] {
            for size in ["0", "1", "56", "1472"] {
                let output = ping(netns, &["-s", size, "-M", "do"], to)?;
                let said = String::from_utf8_lossy(&output.stdout);
                ensure!(output.status.success() && said.contains(" 0% packet loss"), "{to}, {size} bytes: {said}");
            }
        }
        ensure!(scenario.counter("echo_answered")? == 24, "counted {}", scenario.counter("echo_answered")?);
        // Nobody answers for what the network does not have.
        ensure!(!ping(&client.netns, &[], NODE)?.status.success(), "the node address answered a consumer");
        ensure!(!ping(&host.netns, &[], ENDPOINT)?.status.success(), "the endpoint answered the provider");

        // Spoofed: in the name of the endpoint itself.
        let refused = scenario.counter("spoofed_source")?;
        let message = privatelink_ebpf::testing::icmp::Icmp {
            src_mac: privatelink_ebpf::abi::Mac(client.link.mac()?),
            dst_mac: privatelink_ebpf::abi::Mac(End::new(&scenario.topology.lb, "consumer-a").mac()?),
            src: ENDPOINT.octets(),
            dst: ENDPOINT.octets(),
            kind: 8,
            ..Default::default()
        };
        Injector::new(&client.link)?.send(&message.build()).context("sending an echo request")?;
        eventually("the forged request is refused", PATIENCE, || {
            ensure!(scenario.counter("spoofed_source")? == refused + 1, "it is not");
            Ok(())
        })
    })
}

/// The first hop is the endpoint's address, and so is the end: nothing behind it shows.
fn hops(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _server = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let program = privatelink_tests::require::find("traceroute").context("traceroute")?;
        let mut command = client.netns.command(program);
        command.args(["-n", "-T", "-p", "80", "-q", "1", "-N", "1", "-w", "2", "-m", "4"]).arg(ENDPOINT.to_string());
        let output = command.output().context("starting traceroute")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let hops: Vec<Option<&str>> = said.lines().skip(1).map(|line| line.split_whitespace().nth(1)).collect();
        let endpoint = ENDPOINT.to_string();
        ensure!(hops == [Some(endpoint.as_str()); 2], "{said}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(scenario.counter("ttl_exceeded")? == 1, "counted {}", scenario.counter("ttl_exceeded")?);
        ensure!(scenario.counter("icmp_error_sent")? == 1, "counted {}", scenario.counter("icmp_error_sent")?);
        Ok(())
    })
}
