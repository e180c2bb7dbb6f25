//! The agent is killed (SIGKILL) in the middle of what it does, again and again; what it leaves is whole. And a state
//! file that cannot be trusted is refused, while the kernel forwards on.

use std::{
    collections::BTreeSet,
    env, fs,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use privatelink_tests::{
    cleanup::{Leftover, Undo},
    cli::Cli,
    daemon::Agent,
    eventually::eventually,
    programs::{Directory, curl},
    require::Need,
    scenario::{ENDPOINT, Scenario, Service, program, rows},
    topology::{Hook, Host, Topology},
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, plans, server, target, with_web},
    progress,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "killed_in_any_operation_it_leaves_all_or_nothing",
            needs: &[Need::WholeMachine],
            run: Run::Once(kills),
        },
        Test { name: "damaged_state_is_refused_and_forwarding_goes_on", needs: &[], run: Run::Once(damaged) },
        Test { name: "read_only_disk_is_refused_and_forwarding_goes_on", needs: &[], run: Run::Once(read_only) },
        Test {
            name: "full_flow_table_refuses_new_flows_and_carries_old_ones",
            needs: &[Need::Program("curl")],
            run: Run::EachHook(full_table),
        },
    ]
};

/// How often the agent is killed unless `PRIVATELINK_KILLS` says otherwise (`cargo xtask test crash --kills N`).
const KILLS: u32 = 12;

/// How long what the state says may take to be so in the kernel: a start, and a pass of the reconciler.
const SOON: Duration = Duration::from_secs(15);

/// Longer than the sweep that frees ports of no flow takes to come round twice.
const SWEPT: Duration = Duration::from_secs(60);

/// The same numbers for the same seed (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (number ^ number >> 31) % end
    }
}

/// Something that an operation makes, another takes away, and one can look for in the state and on the wire.
struct Thing {
    make: String,
    take: String,
    /// The list that names it, and how.
    list: &'static str,
    sign: String,
    /// Where clients connect to while it is there, and nowhere else.
    serves: Option<(&'static str, SocketAddrV4)>,
}

impl Thing {
    fn is_there(&self, cli: &Cli) -> Result<bool> {
        let listed = cli.run(self.list)?;
        Ok(rows(&listed)?.iter().any(|row| row.to_string().contains(&self.sign)))
    }
}

/// The thing of [`things`] that is a port: client-b's.
const PORT: usize = 5;

fn things(service: &str) -> Vec<Thing> {
    let plain = |make: &str, take: &str, list, sign: &str| Thing {
        make: make.to_owned(),
        take: take.to_owned(),
        list,
        sign: sign.to_owned(),
        serves: None,
    };
    let second = Ipv4Addr::new(10, 0, 0, 60);
    vec![
        plain("vpc create extra --cidr 10.1.0.0/16", "vpc delete extra", "vpc list", "\"extra\""),
        plain(
            "target-group create spare --vpc provider --protocol TCP --port 9090",
            "target-group delete spare",
            "target-group list",
            "\"spare\"",
        ),
        plain(
            "load-balancer create idle --vpc provider --address 10.0.0.7",
            "load-balancer delete idle",
            "load-balancer list",
            "\"idle\"",
        ),
        Thing {
            serves: Some(("client-a", SocketAddrV4::new(*FRONTEND.ip(), 81))),
            ..plain(
                "listener create web --protocol TCP --port 81 --target-group web",
                "listener delete web:81",
                "listener list",
                "\"port\":81,",
            )
        },
        Thing {
            serves: Some(("client-b", SocketAddrV4::new(second, 80))),
            ..plain(
                &format!("endpoint create --service-name {service} --vpc consumer-b --address {second}"),
                &format!("endpoint delete consumer-b/{second}"),
                "endpoint list",
                &second.to_string(),
            )
        },
        Thing {
            serves: Some(("client-b", FRONTEND)),
            ..plain(
                "port attach consumer-b --vpc consumer-b --hook xdp",
                "port detach consumer-b",
                "port list",
                "\"consumer-b\"",
            )
        },
    ]
}

fn setting(name: &str, otherwise: u64) -> Result<u64> {
    match env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is {text}")),
        Err(_) => Ok(otherwise),
    }
}

fn kills() -> Result<()> {
    let count = setting("PRIVATELINK_KILLS", KILLS.into())?;
    let seed = setting("PRIVATELINK_SEED", 1)?;
    let mut numbers = Numbers(seed);
    with_web(1, Hook::Xdp, |scenario| {
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let services = scenario.cli.run("endpoint-service list")?;
        let service = rows(&services)?.first().and_then(|row| row["service_name"].as_str()).context("no service")?;
        let things = things(service);
        let mut there = Vec::new();
        for thing in &things {
            there.push(thing.is_there(&scenario.cli)?);
        }
        ensure!(there[PORT], "the port is not attached");
        let pins = pins_by_port(scenario, &things[PORT])?;
        let durations = durations(scenario, &things, &there)?;
        let client = scenario.topology.host("client-a");
        let mut held = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut held, b"before")?;
        let (mut done, mut undone, mut starts) = (0_u32, 0_u32, 0_u32);
        let mut told = Instant::now();
        for number in 0..count {
            let chosen = numbers.below(things.len() as u64) as usize;
            let thing = &things[chosen];
            let line = if there[chosen] { &thing.take } else { &thing.make };
            let after = Duration::from_micros(numbers.below(durations[chosen].as_micros() as u64 * 5 / 4));
            let cli = scenario.cli.clone();
            let answered = thread::scope(|scope| {
                let asking = scope.spawn(|| cli.run(line));
                thread::sleep(after);
                scenario.agent.kill()?;
                asking.join().map(|answer| answer.is_ok()).map_err(|_| anyhow::anyhow!("asking panicked"))
            })?;
            // A start that is cut short is no less of an operation.
            while numbers.below(3) == 0 {
                scenario.agent.start_and_kill(Duration::from_micros(numbers.below(1_500_000)))?;
                starts += 1;
            }
            stream::echo(&mut held, b"no agent")?;
            scenario.agent.start_again()?;
            let check = || -> Result<bool> {
                let now = thing.is_there(&scenario.cli)?;
                ensure!(!answered || now != there[chosen], "an operation that was answered is not in the state");
                for (index, other) in things.iter().enumerate().filter(|(index, _)| *index != chosen) {
                    ensure!(other.is_there(&scenario.cli)? == there[index], "'{}' has changed too", other.make);
                }
                whole(scenario, &things, chosen, now, if chosen == PORT { now } else { there[PORT] }, &pins)?;
                Ok(now)
            };
            let now =
                check().with_context(|| format!("seed {seed}, kill {number}: `{line}`, {after:?} after it began"))?;
            if now == there[chosen] {
                undone += 1
            } else {
                done += 1
            }
            there[chosen] = now;
            stream::echo(&mut held, b"another agent")?;
            if told.elapsed() > Duration::from_secs(60) {
                progress!("{} of {count} kills", number + 1);
                told = Instant::now();
            }
        }
        drop(held);
        // Every connection has ended: every port is free, or a check's for a moment.
        eventually("the pool is empty again", SWEPT, || {
            let pool = scenario.pool(target(scenario, 1))?;
            ensure!(pool["used"].as_u64() == Some(0), "{pool}");
            Ok(())
        })?;
        progress!(
            "{count} kills in operations (seed {seed}), {starts} more in starts: {done} operations were done, {undone} were not; \
             {} connections",
            echo.accepted()
        );
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// How long making and taking away each thing takes where nobody kills, the quicker of the two; each is as it was
/// afterwards.
fn durations(scenario: &Scenario, things: &[Thing], there: &[bool]) -> Result<Vec<Duration>> {
    let mut durations = Vec::new();
    for (thing, there) in things.iter().zip(there) {
        let mut quickest = Duration::MAX;
        for line in if *there { [&thing.take, &thing.make] } else { [&thing.make, &thing.take] } {
            let started = Instant::now();
            scenario.cli.run(line)?;
            quickest = quickest.min(started.elapsed());
        }
        ensure!(thing.is_there(&scenario.cli)? == *there, "'{}' is not what the state says", thing.make);
        durations.push(quickest);
    }
    Ok(durations)
}

/// What is pinned while the port is detached, and while it is attached, as it is before and after.
fn pins_by_port(scenario: &Scenario, port: &Thing) -> Result<[BTreeSet<PathBuf>; 2]> {
    let found = || scenario.agent.pins().into_iter().collect::<BTreeSet<PathBuf>>();
    let attached = found();
    scenario.cli.run(&port.take)?;
    let detached = eventually("a detached port has no links", SOON, || {
        let now = found();
        // One of traffic control, one of XDP.
        ensure!(attached.difference(&now).count() == 2 && now.is_subset(&attached), "{now:?}");
        Ok(now)
    })?;
    scenario.cli.run(&port.make)?;
    eventually("an attached port has its links", SOON, || {
        ensure!(found() == attached, "{:?}", found());
        Ok(())
    })?;
    Ok([detached, attached])
}

/// The kernel has what the state says, nothing less and nothing more.
fn whole(
    scenario: &Scenario,
    things: &[Thing],
    chosen: usize,
    now: bool,
    port: bool,
    pins: &[BTreeSet<PathBuf>; 2],
) -> Result<()> {
    eventually("the pins are those of the ports", SOON, || {
        let found: BTreeSet<PathBuf> = scenario.agent.pins().into_iter().collect();
        let wanted = &pins[usize::from(port)];
        let (more, less): (Vec<_>, Vec<_>) = (found.difference(wanted).collect(), wanted.difference(&found).collect());
        ensure!(more.is_empty() && less.is_empty(), "too many: {more:?}, missing: {less:?}");
        Ok(())
    })?;
    let Some((client, to)) = things[chosen].serves else { return Ok(()) };
    // Behind a port that is detached nothing is served.
    let serves = now && (client != "client-b" || port);
    let client = scenario.topology.host(client);
    eventually(&format!("{to} {}", if serves { "serves" } else { "does not serve" }), SOON, || {
        match (connects(client, to), serves) {
            (Ok(()), true) | (Err(_), false) => Ok(()),
            (Ok(()), false) => anyhow::bail!("it does"),
            (Err(error), true) => Err(error),
        }
    })
}

fn connects(client: &Host, to: SocketAddrV4) -> Result<()> {
    let mut stream: TcpStream = stream::connect(&client.netns, Source::ANY, to, Duration::from_millis(500))?;
    stream::echo(&mut stream, b"hello").map(drop)
}

/// Truncated and bit-flipped files end the start with a way out, or are read right; the kernel forwards what it did.
/// With the good file the agent takes over.
fn damaged() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let mut held = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        let file = scenario.agent.state_dir().join("state.redb");
        let good = fs::read(&file).with_context(|| format!("reading {}", file.display()))?;
        let mut flipped = good.clone();
        for byte in flipped.iter_mut().take(64) {
            *byte ^= 0x55;
        }
        for (what, bytes) in [("cut in half", &good[..good.len() / 2]), ("with a changed head", &flipped)] {
            fs::write(&file, bytes).context("damaging the file")?;
            let refused = scenario.agent.start_again();
            let Err(error) = refused else { anyhow::bail!("a file {what} was taken") };
            let said = format!("{error:#}");
            ensure!(said.contains("state.redb"), "a file {what}: {said}");
            ensure!(said.contains("backup"), "no way out of a file {what}: {said}");
            stream::echo(&mut held, b"no agent")?;
            connects(client, FRONTEND).with_context(|| format!("with a file {what}"))?;
        }
        fs::write(&file, &good).context("restoring the file")?;
        scenario.agent.start_again()?;
        stream::echo(&mut held, b"an agent again")?;
        connects(client, FRONTEND)
    })
}

/// On a disk that cannot be written the agent does not start, and says what to do; the kernel forwards what it did.
/// When the disk is well again, so is the agent.
fn read_only() -> Result<()> {
    let dir = Directory::new("disk")?;
    let disk = dir.path().join("disk");
    fs::create_dir(&disk).context("a directory")?;
    mount(Some("disk"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).context("a small file system")?;
    let _mounted = Undo::register(Leftover::Mount(disk.clone()));
    let remount = |flags: MsFlags| {
        mount(None::<&str>, &disk, None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).context("mounting it again")
    };
    let topology = Topology::build(Hook::Tc, plans(1), None)?;
    let agent = Agent::start_with_state(&program()?, &topology.lb, disk.join("state"))?;
    let mut scenario = Scenario::configure(topology, agent)?;
    let result = (|| {
        let service = scenario.publish(&Service::new("web", "provider", vec![server(&scenario, 1).address()]))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        let _echo = Server::start(&server(&scenario, 1).netns, target(&scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a").netns.clone();
        let mut held = stream::connect(&client, Source::ANY, FRONTEND, PATIENCE)?;
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        remount(MsFlags::MS_RDONLY)?;
        let refused = scenario.agent.start_again().err().context("it started")?;
        let said = format!("{refused:#}");
        ensure!(said.contains("Read-only file system") && said.contains("--state-dir"), "{said}");
        stream::echo(&mut held, b"no agent")?;
        connects(scenario.topology.host("client-a"), FRONTEND)?;
        remount(MsFlags::empty())?;
        scenario.agent.start_again()?;
        stream::echo(&mut held, b"an agent again")?;
        scenario.cli.run("vpc create another --cidr 10.9.0.0/16").map(drop)
    })();
    result.with_context(|| scenario.diagnosis())
}

/// A flow table that has room for 144 flows: when it is full, further ones are refused and counted, open ones go on,
/// and as soon as some have ended others find room.
fn full_table(hook: Hook) -> Result<()> {
    /// Four entries each, and half an entry in the stash; a flow takes two.
    const BUCKETS: usize = 64;
    const FLOWS: usize = BUCKETS * 9 / 4;
    let topology = Topology::build(hook, plans(1), None)?;
    let metrics = "127.0.0.1:9420";
    let arguments = ["--flow-buckets", &BUCKETS.to_string(), "--metrics", metrics].map(str::to_owned).to_vec();
    let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments)?;
    let scenario = Scenario::configure(topology, agent)?;
    let result = (|| {
        let service = scenario.publish(&Service::new("web", "provider", vec![server(&scenario, 1).address()]))?;
        scenario.endpoint(&service, "consumer-a", ENDPOINT)?;
        let _echo = Server::start(&server(&scenario, 1).netns, target(&scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let connect = || stream::connect(&client.netns, Source::ANY, FRONTEND, Duration::from_millis(400));
        let mut open = Vec::new();
        let mut refused = Vec::new();
        // Some buckets are full before others.
        while refused.len() < 100 {
            match connect() {
                Ok(stream) => {
                    refused.clear();
                    open.push(stream);
                }
                Err(error) => refused.push(error),
            }
            ensure!(open.len() <= FLOWS, "{} flows are open at once", open.len());
        }
        progress!("{} flows, then: {:#}", open.len(), refused.pop().context("no refusal")?);
        // The stash is small; what is neither there nor in a bucket is none.
        ensure!(open.len() > FLOWS / 2, "the table is full with {} flows", open.len());
        ensure!(scenario.counter("flow_table_full")? > 0, "the refusal was not counted");
        for stream in &mut open {
            stream::echo(stream, b"carried").context("an open flow")?;
        }
        // Checks find no room either. They are twice as many as make a target unhealthy, which would end its flows.
        eventually("checks have found the table full", SOON * 4, || {
            let url = format!("http://{metrics}/metrics");
            let text = curl(&scenario.topology.lb, &[&url])?;
            let row = text.lines().find(|line| line.starts_with("privatelink_health_checks_without_room_total"));
            let row = row.context("no metric of checks without room")?;
            let count: f64 = row.rsplit(' ').next().context("no value")?.parse()?;
            ensure!(count >= 4.0, "{row}");
            Ok(())
        })?;
        ensure!(scenario.health("web")?.iter().all(|(_, health)| health == "healthy"), "{:?}", scenario.health("web")?);
        for stream in &mut open {
            stream::echo(stream, b"carried still").context("an open flow")?;
        }
        drop(open.split_off(open.len() / 2));
        let mut new = eventually("there is room again", SOON, connect)?;
        stream::echo(&mut new, b"new")?;
        for stream in &mut open {
            stream::echo(stream, b"still").context("an open flow")?;
        }
        Ok(())
    })();
    result.with_context(|| scenario.diagnosis())
}
