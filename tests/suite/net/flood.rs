//! One consumer floods; the other does not notice, and its own clients connect all the same.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    link::End,
    netns::Netns,
    programs::{Directory, Nginx, curl},
    require::Need,
    scenario::Scenario,
    topology::{Hook, Host, HostPlan},
    traffic::{
        churn::{self, CloseFirst, Plan},
        frames::{Forged, Injector, Segment},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FIRST, FRONTEND, PATIENCE, plans, server, target, with_plans, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "syn_flood_of_one_consumer_spares_the_other",
            needs: &[Need::WholeMachine],
            run: Run::EachHook(flood),
        },
        Test {
            name: "syn_flood_spares_clients_of_the_same_network",
            needs: &[Need::WholeMachine, Need::Program("curl"), Need::Program("nginx")],
            run: Run::EachHook(cookies),
        },
        Test {
            name: "forged_acknowledgements_verify_nobody",
            needs: &[Need::WholeMachine, Need::Program("curl"), Need::Program("nginx")],
            run: Run::EachHook(forged),
        },
    ]
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
        let template = syn(scenario, attacker, "consumer-a")?;
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

/// The flood's first SYN, from a host behind a port of consumer a.
fn syn(scenario: &Scenario, attacker: &Host, port: &str) -> Result<Forged> {
    Ok(Forged {
        from_mac: attacker.link.mac()?,
        to_mac: End::new(&scenario.topology.lb, port).mac()?,
        from: std::net::SocketAddrV4::new(FIRST, 1),
        to: FRONTEND,
        segment: Segment::Syn,
        sequence: 1,
    })
}

/// For how long real clients connect during the flood.
const CONNECTING: Duration = Duration::from_secs(10);

/// Consumer a is flooded from addresses of its own network that nobody has, to the endpoint that its real clients use,
/// by a host that has a link of its own. Each client answers a cookie, and every one of its requests succeeds; so do
/// all connections of consumer b.
fn cookies(hook: Hook) -> Result<()> {
    let mut plans = plans(1);
    plans[0].hosts.push(HostPlan::new("attacker", 2, 10));
    with_plans(plans, 1, hook, |scenario| {
        let _web = Nginx::start(&server(scenario, 1).netns, Directory::new("nginx")?, target(scenario, 1), "there\n")?;
        scenario.wait_healthy("web")?;
        let (client, customer) = (scenario.topology.host("client-a"), scenario.topology.host("client-b"));
        let attacker = scenario.topology.host("attacker");
        let template = syn(scenario, attacker, "consumer-a-1")?;
        let injector = Injector::new(&attacker.link)?;
        let over = AtomicBool::new(false);
        let (sent, ours, others) = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| injector.flood(template, || over.load(Ordering::Relaxed)));
            let others = scope.spawn(|| fetch(&customer.netns, &customer.addresses));
            let ours = eventually("the flood meets a limit", PATIENCE, || {
                ensure!(scenario.counter("cookie_sent")? > 1_000, "no budget is used up");
                Ok(())
            })
            .and_then(|()| {
                progress!("the budget is used up; connecting for {} s", CONNECTING.as_secs());
                fetch(&client.netns, &client.addresses)
            });
            over.store(true, Ordering::Relaxed);
            (flooding.join(), ours, others.join())
        });
        let sent = sent.ok().context("the flood panicked")??;
        let ours = ours.context("the flooded consumer's own clients")?;
        let others = others.ok().context("the other consumer's clients panicked")?.context("the other consumer")?;
        let (cookies, accepted) = (scenario.counter("cookie_sent")?, scenario.counter("cookie_accepted")?);
        progress!(
            "{sent} SYNs, {cookies} cookies sent, {accepted} accepted; requests of the same network {ours}, of the other {others} "
        );
        ensure!(sent > 100_000, "only {sent} SYNs were sent");
        ensure!(ours.requests >= 20, "only {ours}");
        // Nobody else has an address that could answer.
        ensure!(accepted > 0, "no client has been verified");
        ensure!(accepted <= 4 * ours.requests, "more cookies came back than clients could send");
        eventually("half-open flows end with the flood", Duration::from_secs(20), || {
            let before = scenario.counter("cookie_sent")?;
            curl(&client.netns, &["--max-time", "5", &url()])?;
            ensure!(scenario.counter("cookie_sent")? == before, "cookies are still being sent");
            Ok(())
        })
    })
}

/// While a SYN flood uses the budget up, others send the resets and acknowledgements with which a cookie would be
/// answered, with numbers that they guess. None of them is taken for an answer, and real clients connect all the same.
fn forged(hook: Hook) -> Result<()> {
    let mut plans = plans(1);
    plans[0].hosts.push(HostPlan::new("attacker", 2, 10));
    with_plans(plans, 1, hook, |scenario| {
        let _web = Nginx::start(&server(scenario, 1).netns, Directory::new("nginx")?, target(scenario, 1), "there\n")?;
        scenario.wait_healthy("web")?;
        let (client, attacker) = (scenario.topology.host("client-a"), scenario.topology.host("attacker"));
        let syn = syn(scenario, attacker, "consumer-a-1")?;
        let injector = Injector::new(&attacker.link)?;
        let over = AtomicBool::new(false);
        let opened = scenario.counter("flow_opened")?;
        let (sent, ours) = std::thread::scope(|scope| {
            let floods = [Segment::Syn, Segment::Rst, Segment::Ack].map(|segment| {
                let injector = &injector;
                let over = &over;
                scope.spawn(move || injector.flood(Forged { segment, ..syn }, || over.load(Ordering::Relaxed)))
            });
            let ours = eventually("the flood meets a limit", PATIENCE, || {
                ensure!(scenario.counter("cookie_sent")? > 1_000, "no budget is used up");
                Ok(())
            })
            .and_then(|()| fetch(&client.netns, &client.addresses));
            over.store(true, Ordering::Relaxed);
            (floods.map(|flood| flood.join()), ours)
        });
        let ours = ours.context("real clients")?;
        let mut total = 0;
        for flood in sent {
            total += flood.ok().context("a flood panicked")??;
        }
        let (accepted, rejected) = (scenario.counter("cookie_accepted")?, scenario.counter("cookie_rejected")?);
        let opened = scenario.counter("flow_opened")? - opened;
        progress!(
            "{total} forged segments, {rejected} resets rejected, {accepted} accepted; {opened} flows; {ours} requests"
        );
        ensure!(total > 100_000, "only {total} segments were sent");
        ensure!(rejected > 10_000, "only {rejected} forged resets were looked at");
        ensure!(accepted <= 4 * ours.requests, "{accepted} cookies were accepted, of {} requests", ours.requests);
        ensure!(ours.requests >= 20, "only {ours}");
        Ok(())
    })
}

/// Requests that have been answered.
struct Fetched {
    requests: u64,
    slowest: Duration,
}

impl std::fmt::Display for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (the slowest {} ms)", self.requests, self.slowest.as_millis())
    }
}

fn url() -> String {
    format!("http://{FRONTEND}/")
}

/// A request after the other for [`CONNECTING`], from each of the addresses in turn.
///
/// # Errors
///
/// The first that fails.
fn fetch(netns: &Netns, sources: &[Ipv4Addr]) -> Result<Fetched> {
    let started = Instant::now();
    let mut fetched = Fetched { requests: 0, slowest: Duration::ZERO };
    for source in sources.iter().cycle() {
        if started.elapsed() > CONNECTING {
            break;
        }
        let begun = Instant::now();
        let page = curl(netns, &["--interface", &source.to_string(), "--max-time", "10", &url()])
            .with_context(|| format!("request {} from {source}", fetched.requests + 1))?;
        ensure!(page == "there\n", "another page: {page}");
        fetched.requests += 1;
        fetched.slowest = fetched.slowest.max(begun.elapsed());
    }
    Ok(fetched)
}
