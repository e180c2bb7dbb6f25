//! The agent and its traffic, once through.

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::util::KernelVersion;
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_settime},
};
use privatelink_tests::{
    eventually::eventually,
    netns::Netns,
    scenario::{ENDPOINT, NODE, QUICK_CHECKS, Scenario, program},
    topology::{Hook, HostPlan, VpcPlan},
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};
use privatelink_user::dataplane::features::XDP_FEATURES;

use crate::{say, virtio};

/// An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes each way.
const BYTES: u64 = 4 << 20;

const FRONTEND: SocketAddrV4 = SocketAddrV4::new(ENDPOINT, 80);

/// The port that servers listen on.
const PORT: u16 = 8080;

/// Frames that XDP may leave to TC: ARP, health checks, resets. The bulk is more than ten times that.
const LEFT_TO_TC: u64 = 500;

/// A consumer, a provider, and the service between them.
pub struct Pair {
    pub consumer: &'static str,
    pub provider: &'static str,
    pub client: Netns,
    pub server: Netns,
    pub target: Ipv4Addr,
}

/// With one agent: namespaces behind veth pairs, first by TC, then by XDP; network cards by XDP; then another agent.
pub fn all() -> Result<()> {
    let plans = vec![
        VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
        VpcPlan::new("provider", vec![HostPlan::new("server", 1, 10)]),
    ];
    Scenario::run(&program()?, Hook::Xdp, plans, |scenario| {
        let (client, server) = (scenario.topology.host("client"), scenario.topology.host("server"));
        let pair = Pair {
            consumer: "consumer",
            provider: "provider",
            client: client.netns.clone(),
            server: server.netns.clone(),
            target: server.address(),
        };
        pair.publish(scenario)?;
        for hook in ["tc", "xdp"] {
            for vpc in [pair.consumer, pair.provider] {
                scenario.cli.run(&format!("port attach {vpc} --vpc {vpc} --hook {hook}"))?;
            }
            let left = scenario.counter("xdp_passed_to_tc")?;
            pair.traffic(scenario).with_context(|| format!("between namespaces by {hook}"))?;
            little_was_left(scenario.counter("xdp_passed_to_tc")? - left)?;
            tell(scenario, "between namespaces")?;
        }
        let cards = virtio::attach(scenario)?;
        cards.publish(scenario)?;
        let left = scenario.counter("xdp_passed_to_tc")?;
        cards.traffic(scenario).context("between network cards by XDP")?;
        little_was_left(scenario.counter("xdp_passed_to_tc")? - left).context("network cards")?;
        tell(scenario, "between network cards")?;
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        pair.clock_jumps(scenario).context("the clock jumps")?;
        pair.taken_over(scenario)
    })
}

/// XDP has forwarded by itself, where the kernel says which interfaces take its frames.
fn little_was_left(to_tc: u64) -> Result<()> {
    if KernelVersion::current().is_ok_and(|version| XDP_FEATURES.missing_in(version)) {
        return Ok(());
    }
    ensure!(to_tc < LEFT_TO_TC, "XDP left {to_tc} frames to TC");
    Ok(())
}

/// What has arrived, and by which hooks.
fn tell(scenario: &Scenario, place: &str) -> Result<()> {
    let ports = scenario.cli.run("port list")?;
    let ports = ports.as_array().context("no list of ports")?;
    let hooks: Vec<&str> = ports.iter().filter_map(|port| port["hook_in_use"].as_str()).collect();
    say(&format!("        {place}: {} MiB each way, 20 datagrams; ports by {}", BYTES >> 20, hooks.join(", ")));
    Ok(())
}

impl Pair {
    /// Publishes the server for TCP and UDP, with an endpoint for the consumer.
    pub fn publish(&self, scenario: &Scenario) -> Result<()> {
        let Self { consumer, provider, client: _, server: _, target } = self;
        for line in [
            format!("load-balancer create {provider} --vpc {provider} --address {NODE}"),
            format!("target-group create {provider} --vpc {provider} --protocol TCP_UDP --port {PORT} {QUICK_CHECKS}"),
            format!("target register {provider} {target}"),
            format!("listener create {provider} --protocol TCP_UDP --port 80 --target-group {provider}"),
            format!("endpoint-service create --load-balancer {provider} --name {provider}"),
        ] {
            scenario.cli.run(&line)?;
        }
        scenario.endpoint(provider, consumer, ENDPOINT).map(drop)
    }

    /// Streams and datagrams both ways, byte for byte.
    fn traffic(&self, scenario: &Scenario) -> Result<()> {
        let target = SocketAddrV4::new(self.target, PORT);
        let _echo = Server::start(&self.server, target, Behaviour::Echo)?;
        scenario.wait_healthy(self.provider)?;
        let mut quiet = stream::connect(&self.client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut quiet, b"hello")?;
        let stream = stream::connect(&self.client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::transfer(&stream, BYTES)?;

        let answering = self.server.run(|| UdpSocket::bind(SocketAddr::V4(target)))?.context("the UDP server")?;
        let asking = self.client.run(|| UdpSocket::bind("0.0.0.0:0"))?.context("the UDP client")?;
        for socket in [&answering, &asking] {
            socket.set_read_timeout(Some(PATIENCE)).context("a socket's timeout")?;
        }
        for number in 0..20_u8 {
            let text = vec![number; 1 + usize::from(number) * 70];
            asking.send_to(&text, FRONTEND).context("sending a datagram")?;
            let mut buffer = [0; 2048];
            let (length, from) = answering.recv_from(&mut buffer).context("a datagram does not arrive")?;
            ensure!(buffer[..length] == text, "a datagram arrived changed");
            ensure!(from.ip() == NODE, "the server sees {from}");
            answering.send_to(&text, from).context("answering")?;
            let (length, from) = asking.recv_from(&mut buffer).context("an answer does not arrive")?;
            ensure!(buffer[..length] == text, "an answer arrived changed");
            ensure!(from == SocketAddr::V4(FRONTEND), "the answer came from {from}");
        }
        Ok(())
    }

    /// The host's clock jumps far ahead, far back, and home: flows go on, and targets are checked as before.
    fn clock_jumps(&self, scenario: &Scenario) -> Result<()> {
        const YEAR: i64 = 365 * 86_400;
        let target = SocketAddrV4::new(self.target, PORT);
        let mut echo = Server::start(&self.server, target, Behaviour::Echo)?;
        scenario.wait_healthy(self.provider)?;
        let mut open = stream::connect(&self.client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut open, b"before")?;
        for jump in [YEAR, -2 * YEAR, YEAR] {
            let now = ClockId::CLOCK_REALTIME.now().context("the clock")?;
            let then = TimeSpec::new(now.tv_sec() + jump, now.tv_nsec());
            clock_settime(ClockId::CLOCK_REALTIME, then).context("setting the clock")?;
            stream::echo(&mut open, b"another time")?;
            let mut new = stream::connect(&self.client, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut new, b"another time")?;
            drop(new);
            // Checks go on, with their own thresholds.
            drop(echo);
            scenario.wait_state(self.provider, self.target, "unhealthy", PATIENCE * 2)?;
            echo = Server::start(&self.server, target, Behaviour::Echo)?;
            scenario.wait_healthy(self.provider)?;
            open = stream::connect(&self.client, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut open, b"another server")?;
        }
        say("        the clock a year ahead, a year back, and home: flows stay, targets are checked");
        Ok(())
    }

    /// An agent that is killed leaves forwarding as it is, the next one takes over, and `--remove` leaves nothing.
    fn taken_over(&self, scenario: &mut Scenario) -> Result<()> {
        let _echo = Server::start(&self.server, SocketAddrV4::new(self.target, PORT), Behaviour::Echo)?;
        scenario.wait_healthy(self.provider)?;
        let mut old = stream::connect(&self.client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut old, b"before")?;
        scenario.agent.kill()?;
        stream::echo(&mut old, b"no agent")?;
        let mut new = stream::connect(&self.client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut new, b"no agent")?;
        scenario.agent.start_again()?;
        stream::echo(&mut old, b"another agent")?;
        stream::echo(&mut new, b"another agent")?;
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        let status = scenario.agent.remove()?;
        ensure!(status.success(), "agent --remove ended with {status}");
        let pins = scenario.agent.pins();
        ensure!(pins.is_empty(), "still pinned: {pins:?}");
        eventually("nothing forwards any more", PATIENCE, || {
            let refused = stream::connect(&self.client, Source::ANY, FRONTEND, Duration::from_secs(1));
            ensure!(refused.is_err(), "a connection was made");
            Ok(())
        })
    }
}
