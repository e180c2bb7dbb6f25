//! One consumer floods; the other does not notice.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    link::End,
    require::Need,
    topology::Hook,
    traffic::{
        churn::{self, CloseFirst, Plan},
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
    vec![Test {
        name: "syn_flood_of_one_consumer_spares_the_other",
        needs: &[Need::WholeMachine],
        run: Run::EachHook(flood),
    }]
};

/// Consumer a sends SYNs from random addresses as fast as one thread can. Meanwhile consumer b's transfer goes on, and
/// all of its new connections succeed.
fn flood(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let (attacker, customer) = (scenario.topology.host("client-a"), scenario.topology.host("client-b"));
        let mut established = stream::connect(&customer.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut established, b"before")?;
        let template = Forged {
            from_mac: attacker.link.mac()?,
            to_mac: End::new(&scenario.topology.lb, "consumer-a").mac()?,
            from: std::net::SocketAddrV4::new(FIRST, 1),
            to: FRONTEND,
            segment: Segment::Syn,
            sequence: 1,
        };
        let injector = Injector::new(&attacker.link)?;
        let over = AtomicBool::new(false);
        let limited = || {
            Ok::<_, anyhow::Error>(
                scenario.counter("endpoint_half_open_limit")? + scenario.counter("vpc_half_open_limit")?,
            )
        };
        let before = limited()?;
        progress!("flooding for 10 s");
        let (sent, report, transfer) = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| injector.flood(template, || over.load(Ordering::Relaxed)));
            let transferring = scope.spawn(|| stream::transfer(&established, 64 << 20));
            let plan = Plan {
                sources: customer.addresses.clone(),
                to: FRONTEND,
                rate: 200,
                duration: Duration::from_secs(10),
                close_first: CloseFirst::Client,
            };
            let report = churn::churn(&customer.netns, &plan);
            over.store(true, Ordering::Relaxed);
            (flooding.join(), report, transferring.join())
        });
        let sent = sent.ok().context("the flood panicked")??;
        let report = report?;
        progress!("{sent} SYNs; meanwhile {} ", report.tally);
        ensure!(sent > 100_000, "only {sent} SYNs were sent");
        report.tally.all_succeeded().context("the other consumer's new connections")?;
        transfer.ok().context("the transfer panicked")?.context("the other consumer's transfer")?;
        ensure!(limited()? > before, "no SYN met a limit: the flood was no flood");
        Ok(())
    })
}
