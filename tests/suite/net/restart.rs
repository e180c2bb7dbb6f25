//! The agent ends and comes back; the kernel forwards meanwhile.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    require::Need,
    topology::Hook,
    traffic::{
        churn::{self, CloseFirst, Plan},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "agent_killed_and_restarted_under_load",
            needs: &[Need::WholeMachine],
            run: Run::EachHook(killed),
        },
        Test { name: "agent_stops_cleanly_and_forwarding_goes_on", needs: &[], run: Run::EachHook(stopped) },
        Test { name: "agent_remove_takes_everything_out", needs: &[], run: Run::EachHook(removed) },
    ]
};

/// A transfer and new connections run through three deaths of the agent without one failure.
fn killed(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let (one, other) = (scenario.topology.host("client-a"), scenario.topology.host("client-b"));
        let long = stream::connect(&one.netns, Source::ANY, FRONTEND, PATIENCE)?;
        let mut quiet = stream::connect(&one.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut quiet, b"before")?;
        let plan = Plan {
            sources: other.addresses.clone(),
            to: FRONTEND,
            rate: 300,
            duration: Duration::from_secs(9),
            close_first: CloseFirst::Client,
        };
        let agent = &mut scenario.agent;
        let (transfer, report, restarts) = std::thread::scope(|scope| {
            let transfer = scope.spawn(|| {
                // Piece by piece, so that it spans all three deaths.
                let since = Instant::now();
                transfer(&long, || since.elapsed() >= plan.duration)
            });
            let churning = scope.spawn(|| churn::churn(&other.netns, &plan));
            let restarts = (|| {
                for _ in 0..3 {
                    std::thread::sleep(Duration::from_secs(1));
                    agent.kill()?;
                    std::thread::sleep(Duration::from_secs(1));
                    agent.start_again()?;
                }
                Ok::<_, anyhow::Error>(())
            })();
            (transfer.join(), churning.join(), restarts)
        });
        restarts?;
        let Transferred { bytes, longest: _ } =
            transfer.ok().context("the transfer panicked")?.context("the transfer")?;
        let report = report.ok().context("the churn panicked")??;
        progress!("{} MiB each way; {}", bytes >> 20, report.tally);
        report.tally.all_succeeded()?;
        stream::echo(&mut quiet, b"after")?;
        // The new agent knows the flow that it did not open, and the configuration.
        let flows = scenario.cli.run("flow list")?.to_string();
        let own = quiet.local_addr()?.to_string();
        ensure!(flows.contains(&own), "the flow of {own} is not in {flows}");
        scenario.wait_healthy("web")?;
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// What went over a connection, piece by piece.
pub struct Transferred {
    /// Each way.
    pub bytes: u64,
    /// What the slowest piece took.
    pub longest: Duration,
}

/// Sends pieces of 256 KiB and reads each back before the next, until it is `over`.
pub fn transfer(stream: &TcpStream, over: impl Fn() -> bool) -> Result<Transferred> {
    let mut stream = stream.try_clone()?;
    let piece = vec![7; 256 << 10];
    let mut transferred = Transferred { bytes: 0, longest: Duration::ZERO };
    while !over() {
        let since = Instant::now();
        exchange(&mut stream, &piece)?;
        transferred.bytes += piece.len() as u64;
        transferred.longest = transferred.longest.max(since.elapsed());
    }
    Ok(transferred)
}

/// Sends `piece` and reads it back, both at once.
pub fn exchange(stream: &mut TcpStream, piece: &[u8]) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let mut writing = stream.try_clone()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || writing.write_all(piece));
        let mut back = vec![0; piece.len()];
        stream.read_exact(&mut back).context("receiving")?;
        ensure!(back == piece, "bytes came back changed");
        sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))?.context("sending")
    })
}

fn stopped(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let mut old = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        let status = scenario.agent.stop()?;
        ensure!(status.success(), "the agent ended with {status} after SIGTERM");
        ensure!(!scenario.agent.socket().exists(), "the socket is still there");
        stream::echo(&mut old, b"no agent")?;
        let mut new = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut new, b"no agent")?;
        scenario.agent.start_again()?;
        stream::echo(&mut old, b"a new agent")?;
        stream::echo(&mut new, b"a new agent")?;
        Ok(())
    })
}

fn removed(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        ensure!(!scenario.agent.pins().is_empty(), "nothing is pinned while the agent runs");
        let links = scenario.topology.lb.links()?;
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        let status = scenario.agent.remove()?;
        ensure!(status.success(), "agent --remove ended with {status}");
        let pins = scenario.agent.pins();
        ensure!(pins.is_empty(), "still pinned: {pins:?}");
        let left: Vec<String> = scenario.topology.lb.links()?;
        let ports: Vec<&String> = scenario.topology.vpcs.iter().flat_map(|vpc| &vpc.ports).collect();
        ensure!(left.len() == ports.len() + 1, "of {links:?} these are left: {left:?}");
        let client = scenario.topology.host("client-a");
        let refused = stream::connect(&client.netns, Source::ANY, FRONTEND, Duration::from_secs(1));
        ensure!(refused.is_err(), "something still forwards");
        Ok(())
    })
}
