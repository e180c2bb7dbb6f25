//! Clients of the load balancer itself: which source the targets see, and that replies find their way.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    netns::Netns,
    programs::{Directory, Nginx, curl},
    require::Need,
    router::Behind,
    scenario::{ENDPOINT, NODE, Scenario, program},
    topology::{Hook, HostPlan, VpcPlan},
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};
use serde_json::Value;

use crate::{
    Run, Test,
    common::{PATIENCE, TARGET_PORT, server, target},
    udp::resolver,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "targets_see_clients_of_the_load_balancer_itself",
            needs: &[Need::Program("nginx"), Need::Program("curl")],
            run: Run::EachHook(seen),
        },
        Test { name: "client_addresses_that_cannot_be_shown", needs: &[], run: Run::EachHook(not_shown) },
        Test {
            name: "targets_see_clients_of_udp",
            needs: &[Need::Program("dnsmasq"), Need::Program("dig")],
            run: Run::EachHook(datagrams),
        },
    ]
};

/// A client in the provider's VPC, behind a port of its own.
const NEAR: Ipv4Addr = Ipv4Addr::new(10, 0, 4, 4);
/// A client behind that one, outside the VPC's range.
const FAR: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);
/// Long enough for a change to reach the kernel.
const SOON: Duration = Duration::from_secs(5);

/// A consumer, and a provider with a server, which is a registered instance, and a client; `protocol` on `port` leads
/// to the instance's `target_port`, and the consumer has an endpoint.
fn with_instance(
    hook: Hook,
    (protocol, port, target_port, check): (&str, u16, u16, u16),
    test: impl FnOnce(&mut Scenario) -> Result<()>,
) -> Result<()> {
    let plans = vec![
        VpcPlan::new("consumer-a", vec![HostPlan::new("client-a", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server-1", 1, 10), HostPlan::new("near", 4, 4)]),
    ];
    Scenario::run(&program()?, hook, plans, |scenario| {
        let address = server(scenario, 1).address();
        for line in [
            format!("instance register host-1 --vpc provider --address {address}"),
            format!("load-balancer create web --vpc provider --address {NODE}"),
            format!(
                "target-group create web --vpc provider --target-type instance --protocol {protocol} --port {target_port} \
                 --health-check-port {check} --health-check-interval 5 --health-check-timeout 2 --healthy-threshold 2"
            ),
            "target register web host-1".to_owned(),
            format!("listener create web --protocol {protocol} --port {port} --target-group web"),
            "endpoint-service create --load-balancer web --name web".to_owned(),
        ] {
            scenario.cli.run(&line)?;
        }
        scenario.endpoint("web", "consumer-a", ENDPOINT)?;
        test(scenario)
    })
}

/// Fetches the page and says whom the server saw.
fn fetched(client: &Netns, at: Ipv4Addr, nginx: &Nginx) -> Result<String> {
    let patience = PATIENCE.as_secs().to_string();
    let before = nginx.logged_clients(0)?.len();
    let page = curl(client, &["--max-time", &patience, &format!("http://{at}/")])?;
    ensure!(page.contains("page"), "the page is {page}");
    nginx.logged_clients(before + 1)?.pop().context("the server logged nobody")
}

fn explained(scenario: &Scenario, port: &str, from: Ipv4Addr) -> Result<Value> {
    scenario.cli.run(&format!("explain --vpc provider --port {port} --from {from} --to {NODE}:80"))
}

fn seen(hook: Hook) -> Result<()> {
    with_instance(hook, ("TCP", 80, TARGET_PORT, TARGET_PORT), |scenario| {
        let (host, near, consumer) =
            (server(scenario, 1), scenario.topology.host("near"), scenario.topology.host("client-a"));
        let nginx = Nginx::start(&host.netns, Directory::new("direct")?, target(scenario, 1), "the page")?;
        const BIG: usize = 8 << 20;
        fs::write(nginx.root().join("big"), vec![b'x'; BIG]).context("the big file")?;
        scenario.wait_healthy("web")?;

        let who = fetched(&near.netns, NODE, &nginx)?;
        ensure!(who == NEAR.to_string(), "the server saw {who} and not the client");
        let who = fetched(&consumer.netns, ENDPOINT, &nginx)?;
        ensure!(who == NODE.to_string(), "through the endpoint the server saw {who}");
        ensure!(scenario.counter("client_ip_preserved")? == 1, "one flow of two shows its client");
        let size = ["--output", "/dev/null", "--write-out", "%{size_download}"];
        let size = curl(&near.netns, &[&size[..], &[&format!("http://{NODE}/big")]].concat())?;
        ensure!(size == BIG.to_string(), "{size} bytes of {BIG} arrived");

        // A client behind a router on its own port; the server's way to it leads over the load balancer.
        let far = Behind::new(near, "direct-far", FAR, 1500)?;
        host.netns.ip(&["route", "add", &format!("{FAR}/32"), "via", &NODE.to_string()])?;
        let who = fetched(&far.netns, NODE, &nginx)?;
        ensure!(who == FAR.to_string(), "the server saw {who} and not the client behind the router");

        let answer = explained(scenario, "provider-1", NEAR)?;
        ensure!(answer["verdict"].as_str().is_some_and(|text| text.contains("which sees 10.0.4.4")), "{answer}");
        let answer = explained(scenario, "provider", Ipv4Addr::new(10, 0, 4, 5))?;
        ensure!(answer["verdict"].as_str().is_some_and(|text| text.contains("which sees 10.0.0.5")), "{answer}");
        ensure!(answer.to_string().contains("behind one port"), "{answer}");

        // Stopped, the host is out of service; started, it is back.
        scenario.cli.run("instance stop host-1")?;
        eventually("the stopped instance is unused", SOON, || {
            ensure!(scenario.health("web")?[0].1 == "unused", "{:?}", scenario.health("web")?);
            ensure!(curl(&near.netns, &["--max-time", "1", &format!("http://{NODE}/")]).is_err(), "it still serves");
            Ok(())
        })?;
        scenario.cli.run("instance start host-1")?;
        scenario.wait_healthy("web")?;
        let who = fetched(&near.netns, NODE, &nginx)?;
        ensure!(who == NEAR.to_string(), "after the start the server saw {who}");

        scenario.cli.run("target-group modify web --attribute preserve_client_ip.enabled=false")?;
        eventually("new connections show the node address", SOON, || {
            let who = fetched(&near.netns, NODE, &nginx)?;
            ensure!(who == NODE.to_string(), "the server saw {who}");
            Ok(())
        })?;
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

fn not_shown(hook: Hook) -> Result<()> {
    with_instance(hook, ("TCP", 80, TARGET_PORT, TARGET_PORT), |scenario| {
        scenario.cli.run("listener create web --protocol TCP --port 81 --target-group web")?;
        let (host, near) = (server(scenario, 1), scenario.topology.host("near"));
        let echo = Server::start(&host.netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let source = Source { address: NEAR, port: 45_000 };
        let connect = |port| stream::connect(&near.netns, source, SocketAddrV4::new(NODE, port), PATIENCE);
        let mut shown = connect(80)?;
        stream::echo(&mut shown, b"shown")?;
        let mut hidden = None;
        eventually("the second listener is there", SOON, || {
            hidden = Some(connect(81)?);
            Ok(())
        })?;
        let mut hidden = hidden.context("no connection")?;
        // Both connections of one client address and port live, each with its own replies.
        for round in 0..20 {
            stream::echo(&mut shown, format!("shown {round}").as_bytes())?;
            stream::echo(&mut hidden, format!("hidden {round}").as_bytes())?;
        }
        let peers = echo.peers();
        ensure!(peers.contains(&SocketAddrV4::new(NEAR, 45_000)), "the server saw {peers:?}");
        ensure!(peers.iter().any(|peer| *peer.ip() == NODE && peer.port() != 45_000), "the server saw {peers:?}");
        ensure!(scenario.counter("client_ip_collision")? == 1, "one collision");

        // The server as a client of the load balancer that leads back to it. A veth does not wake a far end without an
        // XDP program for what XDP sends back to it, so this is TC's.
        if hook == Hook::Xdp {
            return Ok(());
        }
        let before = scenario.counter("client_ip_same_port")?;
        let to = SocketAddrV4::new(NODE, 80);
        let mut hairpin = stream::connect(&host.netns, Source::ANY, to, PATIENCE).context("the server to itself")?;
        stream::echo(&mut hairpin, b"to myself").context("the server to itself")?;
        ensure!(scenario.counter("client_ip_same_port")? == before + 1, "one hairpin");
        Ok(())
    })
}

fn datagrams(hook: Hook) -> Result<()> {
    with_instance(hook, ("UDP", 53, 53, 53), |scenario| {
        let dir = Directory::new("direct-dns")?;
        let _resolver = resolver(&server(scenario, 1).netns, &dir)?;
        scenario.wait_healthy("web")?;
        let ask = |client: &Netns, at: Ipv4Addr| {
            let mut command = client.command("dig");
            command.args([&format!("@{at}"), "+tries=1", "+time=5", "+short", "web.example"]).stdin(Stdio::null());
            let output = command.output().context("starting dig")?;
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            ensure!(output.status.success() && said == "192.0.2.7", "dig says {said}");
            let log = fs::read_to_string(dir.path().join("log")).context("dnsmasq's log")?;
            let line = log.lines().rfind(|line| line.contains("query[A] web.example")).map(str::to_owned);
            line.with_context(|| format!("no question in {log}"))
        };
        let line = ask(&scenario.topology.host("near").netns, NODE)?;
        ensure!(line.ends_with(&format!("from {NEAR}")), "{line}");
        let line = ask(&scenario.topology.host("client-a").netns, ENDPOINT)?;
        ensure!(line.ends_with(&format!("from {NODE}")), "{line}");
        let refused =
            scenario.cli.raw(&["target-group", "modify", "web", "--attribute", "preserve_client_ip.enabled=false"])?;
        ensure!(!refused.status.success(), "UDP cannot do without");
        Ok(())
    })
}
