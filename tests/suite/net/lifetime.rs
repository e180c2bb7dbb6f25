//! How flows end.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use privatelink_tests::{
    eventually::eventually,
    link::End,
    scenario::Scenario,
    topology::Hook,
    traffic::{
        frames::{Forged, Injector, Segment},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "reset_reaches_the_other_side", needs: &[], run: Run::EachHook(reset) },
        Test { name: "blind_reset_is_ignored", needs: &[], run: Run::EachHook(blind_reset) },
        Test { name: "segment_of_no_flow_is_answered_with_reset", needs: &[], run: Run::EachHook(no_flow) },
        Test { name: "idle_flow_is_forgotten_and_reset", needs: &[], run: Run::EachHook(idle) },
        Test { name: "half_close_lets_the_rest_through", needs: &[], run: Run::EachHook(half_close) },
    ]
};

fn reset(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let source = Source { address: FIRST, port: 40_000 };
        let mut stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"hello")?;
        stream::reset_on_close(&stream)?;
        drop(stream);
        eventually("the server saw the reset", PATIENCE, || {
            ensure!(echo.resets() == 1, "{} resets", echo.resets());
            Ok(())
        })?;
        // The same address and port at once: nothing of the old flow is in the way.
        let mut stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"hello again")?;

        // From the other side: a server that is gone resets what still comes.
        drop(echo);
        let error = until_error(&mut stream, PATIENCE)?;
        ensure!(error != ErrorKind::WouldBlock, "the client heard nothing of the server's end");
        Ok(())
    })
}

/// Resets with the right addresses and ports but a guessed sequence number leave the flow alone, from either side.
fn blind_reset(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let source = Source { address: FIRST, port: 40_000 };
        let before = echo.peers();
        let mut stream = stream::connect(&client.netns, source, FRONTEND, PATIENCE)?;
        stream::echo(&mut stream, b"before")?;
        let seen = scenario.counter("reset_out_of_window")?;
        let from = SocketAddrV4::new(source.address, source.port);
        let node = echo.peers().difference(&before).next().copied().context("the server saw no new client")?;
        // Again and again: a veth's ring may lose some, and one may by chance fall into the window.
        eventually("resets from both sides are counted", PATIENCE, || {
            let numbers = [1, 1 << 30, 2 << 30, 3 << 30];
            forge(scenario, "client-a", "consumer-a", from, FRONTEND, Segment::Rst, &numbers)?;
            forge(scenario, "server-1", "provider", target(scenario, 1), node, Segment::Rst, &numbers)?;
            let now = scenario.counter("reset_out_of_window")?;
            ensure!(now >= seen + 6, "{} of 8", now - seen);
            Ok(())
        })?;
        for _ in 0..10 {
            stream::echo(&mut stream, b"after")?;
        }
        ensure!(echo.resets() == 0, "the server's connection was reset");
        Ok(())
    })
}

fn no_flow(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let (refused, sent) = (scenario.counter("no_flow")?, scenario.counter("reset_sent")?);
        let from = SocketAddrV4::new(FIRST, 41_000);
        forge(scenario, "client-a", "consumer-a", from, FRONTEND, Segment::Ack, &[77])?;
        eventually("the reset is sent and counted", PATIENCE, || {
            let (now, answered) = (scenario.counter("no_flow")?, scenario.counter("reset_sent")?);
            ensure!(now > refused && answered > sent, "no_flow {now}, reset_sent {answered}");
            Ok(())
        })
    })
}

/// With the shortest timeout that a listener can have, 60 s.
fn idle(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        // A listener of its own: flows keep the timeout that they were opened with, and through this one none is opened
        // before the timeout is in force.
        let frontend = SocketAddrV4::new(*FRONTEND.ip(), 81);
        scenario.cli.run(
            "listener create web --protocol TCP --port 81 --target-group web --attribute tcp.idle_timeout.seconds=60",
        )?;
        let client = scenario.topology.host("client-a");
        let mut silent = eventually("the listener forwards", PATIENCE, || {
            stream::connect(&client.netns, Source::ANY, frontend, PATIENCE)
        })?;
        let mut lively = stream::connect(&client.netns, Source::ANY, frontend, PATIENCE)?;
        stream::echo(&mut silent, b"hello")?;
        progress!("a connection is silent for 63 s, another one speaks every 5 s");
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(63) {
            stream::echo(&mut lively, b"still here")?;
            std::thread::sleep(Duration::from_secs(5));
        }
        let error = until_error(&mut silent, PATIENCE)?;
        ensure!(error == ErrorKind::ConnectionReset, "the silent connection ended with {error:?}");
        stream::echo(&mut lively, b"not reset")?;
        Ok(())
    })
}

/// A client that has said all it has to say still gets the whole answer.
fn half_close(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream.write_all(b"the last words").context("sending")?;
        stream.shutdown(std::net::Shutdown::Write).context("closing one side")?;
        let mut back = String::new();
        stream.read_to_string(&mut back).context("the answer")?;
        ensure!(back == "the last words", "the answer is “{back}”");
        Ok(())
    })
}

/// Sends segments from `host` straight to the datapath's interface `port`, one for each sequence number.
fn forge(
    scenario: &Scenario,
    host: &str,
    port: &str,
    from: SocketAddrV4,
    to: SocketAddrV4,
    segment: Segment,
    sequences: &[u32],
) -> Result<()> {
    let host = scenario.topology.host(host);
    let (from_mac, to_mac) = (host.link.mac()?, End::new(&scenario.topology.lb, port).mac()?);
    let injector = Injector::new(&host.link)?;
    for &sequence in sequences {
        injector.send(&Forged { from_mac, to_mac, from, to, segment, sequence }.frame()?).context("sending a frame")?;
    }
    Ok(())
}

/// Speaks until an error comes back, and returns its kind.
fn until_error(stream: &mut TcpStream, limit: Duration) -> Result<ErrorKind> {
    let since = Instant::now();
    while since.elapsed() < limit {
        if let Err(error) = stream.write_all(b"?") {
            return Ok(error.kind());
        }
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(0) => return Ok(ErrorKind::UnexpectedEof),
            Ok(_) => {}
            Err(error) => return Ok(error.kind()),
        }
    }
    bail!("the connection still works after {:.0} s", limit.as_secs_f32())
}
