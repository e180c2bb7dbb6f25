//! Flows that are ended: both ends hear of it at once, also if neither says anything.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    nft,
    require::Need,
    scenario::Scenario,
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, TARGET_PORT, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "the_end_of_draining_resets_both_ends_at_once", needs: &[], run: Run::EachHook(drained) },
        Test { name: "an_unhealthy_target_is_reset_at_both_ends_at_once", needs: &[], run: Run::EachHook(unhealthy) },
        Test { name: "a_deleted_endpoint_is_reset_at_both_ends_at_once", needs: &[], run: Run::EachHook(endpoint) },
        Test {
            name: "an_outage_at_the_end_of_a_connection_loses_nothing",
            needs: &[Need::Program("nft"), Need::Program("ss")],
            run: Run::Once(outage),
        },
        Test { name: "unhealthy_draining_keeps_old_flows", needs: &[], run: Run::Once(unhealthy_draining) },
        Test { name: "a_threshold_fails_open", needs: &[], run: Run::Once(threshold) },
        Test { name: "deletion_protection", needs: &[], run: Run::Once(protection) },
    ]
};

/// What both ends must hear of an end within.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Checks of the shortest interval.
const SOON: Duration = Duration::from_secs(20);

/// An idle connection, and when it was reset.
struct Idle(std::thread::JoinHandle<(Option<ErrorKind>, Instant)>);

impl Idle {
    /// Says nothing and waits for its end.
    fn watch(mut stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(60))).context("the read timeout")?;
        Ok(Self(std::thread::spawn(move || {
            let error = stream.read(&mut [0]).err().map(|error| error.kind());
            (error, Instant::now())
        })))
    }

    fn reset_at(self) -> Result<Instant> {
        let (error, at) = self.0.join().ok().context("the thread panicked")?;
        ensure!(error == Some(ErrorKind::ConnectionReset), "the idle connection ended with {error:?}");
        Ok(at)
    }
}

/// Idle connections to the server of number 1 alone, which is told apart by its greeting.
fn idle_connections(scenario: &Scenario, count: usize) -> Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let client = scenario.topology.host("client-a");
    let (mut first, mut second) = (Vec::new(), Vec::new());
    eventually("enough connections to both servers", PATIENCE, || {
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        let name = stream::read_line(&mut stream)?;
        if name == "server-1" {
            first.push(stream)
        } else {
            second.push(stream)
        }
        ensure!(first.len() >= count && second.len() >= count, "{} and {}", first.len(), second.len());
        Ok(())
    })?;
    Ok((first, second))
}

fn greeter(scenario: &Scenario, number: u8) -> Result<Server> {
    let name = format!("server-{number}");
    Server::start(&server(scenario, number).netns, target(scenario, number), Behaviour::Greet(name))
}

/// Both ends of all of `idle`, whose server is `greeter`, are reset within a second of the first; `left` other
/// connections stay.
fn reset_together(idle: Vec<Idle>, greeter: &Server, before: u64, left: u64) -> Result<()> {
    let count = idle.len() as u64;
    let ends: Vec<Instant> = idle.into_iter().map(Idle::reset_at).collect::<Result<_>>()?;
    let first = ends.iter().min().copied().context("no connection")?;
    eventually("the server's ends are reset", AT_ONCE, || {
        let resets = greeter.resets() - before;
        ensure!(resets >= count && greeter.open() == left, "{resets} of {count}, {} still open", greeter.open());
        Ok(())
    })?;
    let spread = ends.iter().max().map_or(Duration::ZERO, |last| *last - first);
    progress!("{count} idle connections reset within {:.0} ms, and at the server", spread.as_secs_f32() * 1000.0);
    ensure!(spread < AT_ONCE, "the last reset came {spread:?} after the first");
    Ok(())
}

fn drained(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let servers = [greeter(scenario, 1)?, greeter(scenario, 2)?];
        scenario.wait_healthy("web")?;
        scenario.cli.run(
            "target-group modify web --attribute deregistration_delay.timeout_seconds=0 \
             --attribute deregistration_delay.connection_termination.enabled=true",
        )?;
        let (first, mut second) = idle_connections(scenario, 20)?;
        let before = (servers[0].resets(), scenario.counter("reset_sent")?);
        let count = first.len() as u64;
        let idle = first.into_iter().map(Idle::watch).collect::<Result<Vec<_>>>()?;
        scenario.cli.run(&format!("target deregister web {}", server(scenario, 1).address()))?;
        let since = Instant::now();
        reset_together(idle, &servers[0], before.0, 0)?;
        ensure!(since.elapsed() < AT_ONCE * 2, "the resets came {:?} after the end of draining", since.elapsed());
        let sent = scenario.counter("reset_sent")? - before.1;
        ensure!(sent >= 2 * count, "{sent} resets counted for {count} flows");
        for stream in &mut second {
            stream::echo(stream, b"untouched")?;
        }
        ensure!(scenario.topology.checksum_errors()? == 0, "a reset had a wrong checksum");
        Ok(())
    })
}

/// The health check's port closes while connections to the traffic port go on.
fn unhealthy(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let servers = [greeter(scenario, 1)?, greeter(scenario, 2)?];
        let check = |number| {
            let address = std::net::SocketAddrV4::new(server(scenario, number).address(), TARGET_PORT + 1);
            Server::start(&server(scenario, number).netns, address, Behaviour::Sink)
        };
        let (first_check, _second_check) = (check(1)?, check(2)?);
        scenario.cli.run(&format!("target-group modify web --health-check-port {}", TARGET_PORT + 1))?;
        scenario.wait_healthy("web")?;
        let (first, mut second) = idle_connections(scenario, 5)?;
        let before = servers[0].resets();
        let idle = first.into_iter().map(Idle::watch).collect::<Result<Vec<_>>>()?;
        drop(first_check);
        scenario.wait_state("web", server(scenario, 1).address(), "unhealthy", SOON)?;
        reset_together(idle, &servers[0], before, 0)?;
        for stream in &mut second {
            stream::echo(stream, b"untouched")?;
        }
        Ok(())
    })
}

fn endpoint(hook: Hook) -> Result<()> {
    with_web(2, hook, |scenario| {
        let servers = [greeter(scenario, 1)?, greeter(scenario, 2)?];
        scenario.wait_healthy("web")?;
        let (first, second) = idle_connections(scenario, 3)?;
        let other = scenario.topology.host("client-b");
        let mut stays = stream::connect(&other.netns, Source::ANY, FRONTEND, PATIENCE)?;
        let greeted = stream::read_line(&mut stays)?;
        let before = [servers[0].resets(), servers[1].resets()];
        let watch = |streams: Vec<TcpStream>| streams.into_iter().map(Idle::watch).collect::<Result<Vec<_>>>();
        let (first, second) = (watch(first)?, watch(second)?);
        scenario.cli.run("endpoint delete consumer-a/10.0.0.50")?;
        reset_together(first, &servers[0], before[0], u64::from(greeted == "server-1"))?;
        reset_together(second, &servers[1], before[1], u64::from(greeted == "server-2"))?;
        stream::echo(&mut stays, b"another endpoint").with_context(|| format!("the flow to {greeted}")).map(drop)
    })
}

fn unhealthy_draining() -> Result<()> {
    with_web(2, Hook::Tc, |scenario| {
        let _servers = [greeter(scenario, 1)?, greeter(scenario, 2)?];
        let checked = std::net::SocketAddrV4::new(server(scenario, 1).address(), TARGET_PORT + 1);
        let check = Server::start(&server(scenario, 1).netns, checked, Behaviour::Sink)?;
        let other = std::net::SocketAddrV4::new(server(scenario, 2).address(), TARGET_PORT + 1);
        let _other = Server::start(&server(scenario, 2).netns, other, Behaviour::Sink)?;
        scenario.cli.run(&format!(
            "target-group modify web --health-check-port {} \
             --attribute target_health_state.unhealthy.connection_termination.enabled=false \
             --attribute target_health_state.unhealthy.draining_interval_seconds=4",
            TARGET_PORT + 1
        ))?;
        scenario.wait_healthy("web")?;
        let (mut first, _second) = idle_connections(scenario, 1)?;
        drop(check);
        let address = server(scenario, 1).address();
        scenario.wait_state("web", address, "unhealthy.draining", SOON)?;
        let since = Instant::now();
        scenario.wait_state("web", address, "unhealthy", SOON)?;
        ensure!(since.elapsed() > Duration::from_secs(3), "it drained for {:?} only", since.elapsed());
        for stream in &mut first {
            stream::echo(stream, b"an old flow goes on")?;
        }
        let client = scenario.topology.host("client-b");
        for _ in 0..20 {
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            ensure!(stream::read_line(&mut stream)? == "server-2", "a new flow went to the unhealthy target");
        }
        let _check = Server::start(&server(scenario, 1).netns, checked, Behaviour::Sink)?;
        scenario.wait_healthy("web")?;
        for stream in &mut first {
            stream::echo(stream, b"all the time")?;
        }
        Ok(())
    })
}

/// Two of two must be healthy: when one is not, both are used again, and flows are counted as such.
fn threshold() -> Result<()> {
    with_web(2, Hook::Tc, |scenario| {
        let mut servers = vec![greeter(scenario, 1)?, greeter(scenario, 2)?];
        scenario.wait_healthy("web")?;
        scenario.cli.run(
            "target-group modify web \
             --attribute target_group_health.dns_failover.minimum_healthy_targets.percentage=100 \
             --attribute target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage=100",
        )?;
        drop(servers.remove(0));
        scenario.wait_state("web", server(scenario, 1).address(), "unhealthy", SOON)?;
        let client = scenario.topology.host("client-b");
        let counted = || {
            let stats = scenario.cli.run("stats")?;
            stats["listeners"][0]["unhealthy_routing"].as_u64().context("no such count")
        };
        // From the first flow that is counted on, all are.
        eventually("the group is open to all its targets", PATIENCE, || {
            let _ = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE);
            ensure!(counted()? > 0, "no flow is counted");
            Ok(())
        })?;
        let (before, mut refused, mut served) = (counted()?, 0, 0);
        eventually("connections reach both, the dead one too", PATIENCE, || {
            match stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE) {
                Ok(_) => served += 1,
                Err(_) => refused += 1,
            }
            ensure!(refused > 0 && served > 0, "{refused} refused, {served} served");
            Ok(())
        })?;
        let counted = counted()? - before;
        ensure!(counted == refused + served, "{counted} flows counted of {}", refused + served);
        Ok(())
    })
}

fn protection() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let cli = &scenario.cli;
        cli.run(
            "load-balancer create kept --vpc provider --address 10.0.0.6 --attribute deletion_protection.enabled=true",
        )?;
        let refused = cli.run("load-balancer delete kept").err().context("it was deleted")?;
        let said = format!("{refused:#}");
        ensure!(
            said.contains("OperationNotPermitted")
                && said.contains("cannot be deleted because deletion protection is enabled"),
            "{said}"
        );
        cli.run("load-balancer modify kept --attribute deletion_protection.enabled=false")?;
        cli.run("load-balancer delete kept").map(drop)
    })
}

/// Both ends have closed, but the client's network fails before it has all: what the server repeats reaches it when the
/// network is back, though both ends wait longer and longer between their attempts.
fn outage() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let web = server(scenario, 1);
        let _echo = Server::start(&web.netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, OUTAGE)?;
        stream::echo(&mut stream, b"hello")?;
        nft::lose(&client.netns, 100)?;
        stream.write_all(b"the end").context("sending")?;
        stream.shutdown(Shutdown::Write).context("closing")?;
        // Attempts of 0.2 s, 0.4 s, …: the next one comes in 25.6 s.
        eventually("the server has tried seven times", OUTAGE, || {
            let mut ss = web.netns.command("ss");
            let output = ss.args(["-Htin", "state", "last-ack"]).output().context("starting ss")?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            ensure!(said.contains("backoff:7"), "{said}");
            Ok(())
        })?;
        ensure!(scenario.cli.run("flow list")?.to_string().contains("last-ack"), "the flow is in another state");
        nft::lose(&client.netns, 0)?;
        let mut rest = String::new();
        stream.read_to_string(&mut rest).context("waiting for the rest")?;
        ensure!(rest == "the end", "the rest is '{rest}'");
        eventually("the flow has ended", PATIENCE, || {
            let flows = scenario.cli.run("flow list")?;
            ensure!(flows.as_array().is_some_and(Vec::is_empty), "{flows}");
            Ok(())
        })
    })
}

/// More than what both ends wait in.
const OUTAGE: Duration = Duration::from_secs(120);
