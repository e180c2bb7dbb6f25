//! The agent and its programs are replaced under load, and what must not be replaced is refused before anything is touched.

use std::{
    collections::BTreeMap,
    env, fs, io,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    maps::{Array, Map, MapData},
    programs::links::PinnedLink,
};
use privatelink_ebpf::abi::settings::Settings;
use privatelink_tests::{
    netns::Netns,
    programs::Directory,
    require::Need,
    scenario::{Scenario, program},
    topology::Hook,
    traffic::{
        Tally,
        churn::{self, CloseFirst, Plan},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
    progress,
    restart::exchange,
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test {
            name: "agent_and_programs_replaced_under_load",
            needs: &[Need::WholeMachine],
            run: Run::EachHook(replaced),
        },
        Test { name: "tables_of_another_version_are_refused_untouched", needs: &[], run: Run::EachHook(refused) },
    ]
};

/// How often the agent is replaced unless `PRIVATELINK_UPGRADES` says otherwise (`cargo xtask test upgrade --times N`).
const TIMES: u32 = 3;

/// New connections a second.
const RATE: u32 = 1_000;

/// Where datagrams go, and the port on which the target answers them.
const DATAGRAMS: u16 = 5_353;

/// Between two datagrams: 500 a second.
const PACE: Duration = Duration::from_millis(2);

/// One transfer each way, 1,000 new connections a second, and 500 datagrams a second of old and new flows, while the agent ends or is
/// killed and another build, or one with other programs, takes its place: links are updated in place, every connection lives,
/// and what is lost of datagrams and segments is counted.
fn replaced(hook: Hook) -> Result<()> {
    let times = match env::var("PRIVATELINK_UPGRADES") {
        Ok(text) => text.parse().with_context(|| format!("PRIVATELINK_UPGRADES is {text}"))?,
        Err(_) => TIMES,
    };
    let first = program()?;
    let copy = Directory::new("build")?;
    // Another file, as a package manager installs it: relays and agents of it are another build's.
    let other = match env::var_os("PRIVATELINK_OTHER") {
        Some(other) => PathBuf::from(other),
        None => {
            let other = copy.path().join("privatelink");
            fs::copy(&first, &other).context("copying the program")?;
            other
        }
    };
    with_web(1, hook, |scenario| {
        let host = server(scenario, 1);
        let echo = Server::start(&host.netns, target(scenario, 1), Behaviour::Echo)?;
        for line in [
            format!(
                "target-group create datagrams --vpc provider --protocol UDP --port {DATAGRAMS} --health-check-port {}",
                target(scenario, 1).port()
            ),
            format!("target register datagrams {}", host.address()),
            format!("listener create web --protocol UDP --port {DATAGRAMS} --target-group datagrams"),
        ] {
            scenario.cli.run(&line)?;
        }
        let answering = Answering::start(&host.netns, (host.address(), DATAGRAMS).into())?;
        scenario.wait_healthy("web")?;
        scenario.wait_healthy("datagrams")?;
        let hosts: Vec<Netns> =
            ["client-a", "client-b", "server-1"].map(|name| scenario.topology.host(name).netns.clone()).into();
        let sent_again =
            || -> Result<u64> { hosts.iter().map(|host| host.protocol_counter("Tcp", "RetransSegs")).sum() };
        let (one, sources) = (hosts[0].clone(), scenario.topology.host("client-b").addresses.clone());
        let long = stream::connect(&one, Source::ANY, FRONTEND, PATIENCE)?;
        let mut quiet = stream::connect(&one, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut quiet, b"before")?;
        let (stop, before) = (AtomicBool::new(false), sent_again()?);
        let stopped = || stop.load(Ordering::Relaxed);
        let to = SocketAddr::from((*FRONTEND.ip(), DATAGRAMS));
        let (transfer, churned, datagrams, done) = thread::scope(|scope| {
            let transfer = scope.spawn(|| {
                let mut stream = long.try_clone()?;
                let (mut bytes, mut longest) = (0_u64, Duration::ZERO);
                let piece = vec![7; 256 << 10];
                while !stopped() {
                    let since = Instant::now();
                    exchange(&mut stream, &piece)?;
                    bytes += piece.len() as u64;
                    longest = longest.max(since.elapsed());
                }
                Ok::<_, anyhow::Error>((bytes, longest))
            });
            let churning = scope.spawn(|| {
                let mut tally = Tally::default();
                let plan = Plan {
                    sources: sources.clone(),
                    to: FRONTEND,
                    rate: RATE,
                    duration: Duration::from_secs(2),
                    close_first: CloseFirst::Client,
                };
                while !stopped() {
                    tally.add(churn::churn(&hosts[1], &plan)?.tally);
                }
                Ok::<_, anyhow::Error>(tally)
            });
            let datagrams = scope.spawn(|| one.run(|| datagrams(to, stopped))?);
            let done = (|| {
                for number in 0..times {
                    replace(scenario, number, &first, &other).with_context(|| format!("replacement {number}"))?;
                    stream::echo(&mut quiet, b"another agent")?;
                }
                Ok::<_, anyhow::Error>(())
            })();
            stop.store(true, Ordering::Relaxed);
            (transfer.join(), churning.join(), datagrams.join(), done)
        });
        done?;
        let (bytes, longest) = transfer.ok().context("the transfer panicked")?.context("the transfer")?;
        let tally = churned.ok().context("the churn panicked")??;
        let Datagrams { sent, answered, flows } = datagrams.ok().context("datagrams panicked")??;
        drop(answering);
        progress!(
            "{times} replacements: {} MiB each way, its longest 256 KiB took {longest:?}; {tally}; {sent} datagrams of {flows} flows, \
             {} lost; {} segments sent again; {} connections accepted",
            bytes >> 20,
            sent - answered,
            sent_again()? - before,
            echo.accepted(),
        );
        tally.all_succeeded()?;
        // "At most a handful" a replacement; a machine that is busy loses some in sockets' queues.
        ensure!(sent - answered <= u64::from(times) * 5, "{} of {sent} datagrams were lost", sent - answered);
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// Replaces the agent: one that ends or is killed, by itself or by another build, with the same programs or ones that know other
/// settings. Every link stays and leads to another program.
fn replace(scenario: &mut Scenario, number: u32, first: &PathBuf, other: &PathBuf) -> Result<()> {
    let links = links(scenario)?;
    ensure!(!links.is_empty(), "nothing is attached");
    if number % 2 == 0 {
        scenario.agent.kill()?;
    } else {
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
    }
    scenario.agent.set_program(if number % 4 < 2 { other } else { first });
    // Another constant in the programs, which the kernel compiles anew.
    scenario.agent.set_arguments(if number % 3 == 0 { vec!["--flow-events".to_owned()] } else { Vec::new() });
    scenario.agent.start_again()?;
    let now = self::links(scenario)?;
    for (path, (link, program)) in &links {
        let (now, replaced) = now.get(path).with_context(|| format!("{} is gone", path.display()))?;
        ensure!(now == link, "the link {} is another one", path.display());
        ensure!(replaced != program, "the link {} has the old program", path.display());
    }
    Ok(())
}

/// Each pinned link's number and its program's.
fn links(scenario: &Scenario) -> Result<BTreeMap<PathBuf, (u32, u32)>> {
    let is_link = |path: &PathBuf| path.parent().is_some_and(|directory| directory.ends_with("links"));
    let info = |path: PathBuf| {
        let link = PinnedLink::from_pin(scenario.agent.bpffs().join(&path));
        let link: aya::programs::links::FdLink = link.with_context(|| path.display().to_string())?.into();
        let info = link.info().with_context(|| path.display().to_string())?;
        Ok((path, (info.id(), info.program_id())))
    };
    scenario.agent.pins().into_iter().filter(is_link).map(info).collect()
}

struct Datagrams {
    sent: u64,
    answered: u64,
    flows: u64,
}

/// Numbered datagrams to `to`, every fiftieth of a flow that begins with it, and how many were answered.
fn datagrams(to: SocketAddr, stopped: impl Fn() -> bool) -> Result<Datagrams> {
    let socket = || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let old = socket()?;
    let mut sockets = vec![];
    let mut counts = Datagrams { sent: 0, answered: 0, flows: 1 };
    let take = |socket: &UdpSocket, counts: &mut Datagrams| {
        while socket.recv(&mut [0; 64]).is_ok() {
            counts.answered += 1;
        }
    };
    let mut next = Instant::now();
    while !stopped() {
        let number = counts.sent;
        if number % 50 == 0 {
            let new = socket()?;
            new.send(&number.to_be_bytes())?;
            sockets.push(new);
            counts.flows += 1;
        } else {
            old.send(&number.to_be_bytes())?;
        }
        counts.sent += 1;
        take(&old, &mut counts);
        sockets.iter().for_each(|socket| take(socket, &mut counts));
        // One second's worth of new flows may still be answered.
        if sockets.len() > 20 {
            sockets.remove(0);
        }
        next += PACE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let end = Instant::now() + Duration::from_secs(1);
    while counts.answered < counts.sent && Instant::now() < end {
        take(&old, &mut counts);
        sockets.iter().for_each(|socket| take(socket, &mut counts));
        thread::sleep(PACE);
    }
    Ok(counts)
}

/// Sends datagrams back, on a thread of its own, until it is dropped.
struct Answering {
    stop: std::sync::Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Result<()>>>,
}

impl Answering {
    fn start(netns: &Netns, at: SocketAddr) -> Result<Self> {
        let socket = netns.run(|| UdpSocket::bind(at))?.context("the target's port")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = netns.spawn(move || {
            let mut bytes = [0; 2_048];
            while !told.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                    let _ = socket.send_to(&bytes[..length], from);
                }
            }
        });
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What an agent that refuses must leave as it was: pins, links and their programs, and the state.
#[derive(Debug, PartialEq)]
struct Found {
    pins: Vec<PathBuf>,
    links: BTreeMap<PathBuf, (u32, u32)>,
    state: Vec<u8>,
}

impl Found {
    fn now(scenario: &Scenario) -> Result<Self> {
        let state = fs::read(scenario.agent.state_dir().join("state.redb")).context("the state")?;
        let mut pins = scenario.agent.pins();
        pins.sort();
        Ok(Self { pins, links: links(scenario)?, state })
    }
}

/// Tables of an older and of a newer layout, and a table of another shape under an old name: the start ends with a way out, nothing
/// is touched, and what forwards goes on. With the layout that it knows, the agent takes over.
fn refused(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a").netns.clone();
        let mut held = stream::connect(&client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut held, b"before")?;
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        let pins = scenario.agent.pins();
        let table = |name: &str| {
            let found = pins.iter().find(|path| path.ends_with(format!("maps/{name}")));
            found.map(|path| scenario.agent.bpffs().join(path)).with_context(|| format!("{name} is not pinned"))
        };
        let (settings, listeners, vpcs) = (table("SETTINGS")?, table("LISTENERS")?, table("VPCS")?);
        let set_version = |change: i32| -> Result<u32> {
            let map = MapData::from_pin(&settings).context("the settings")?;
            let mut array: Array<MapData, Settings> = Map::Array(map).try_into().context("the settings")?;
            let mut found = array.get(&0, 0).context("the settings")?;
            found.abi_version = found.abi_version.wrapping_add_signed(change);
            array.set(0, found, 0).context("the settings")?;
            Ok(found.abi_version)
        };
        // Two tables of different shapes, each under the other's name.
        let swap = || -> Result<()> {
            let aside = vpcs.with_file_name("aside");
            for (from, to) in [(&vpcs, &aside), (&listeners, &vpcs), (&aside, &listeners)] {
                fs::rename(from, to).with_context(|| format!("renaming {}", from.display()))?;
            }
            Ok(())
        };
        for change in ["a newer layout", "an older layout", "another shape"] {
            let (words, back): (String, i32) = match change {
                "a newer layout" => (format!("layout version {}", set_version(1)?), -1),
                "an older layout" => (format!("layout version {}", set_version(-1)?), 1),
                _ => {
                    swap()?;
                    ("this agent needs keys of".to_owned(), 0)
                }
            };
            let before = Found::now(scenario)?;
            let error = scenario.agent.start_again().err().with_context(|| format!("{change} was taken"))?;
            let said = format!("{error:#}");
            ensure!(said.contains(&words) && said.contains("agent --remove"), "{change}: {said}");
            ensure!(Found::now(scenario)? == before, "{change}: something was touched");
            stream::echo(&mut held, b"no agent")?;
            let mut new = stream::connect(&client, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut new, b"no agent")?;
            if back == 0 { swap()? } else { set_version(back).map(drop)? }
        }
        scenario.agent.start_again()?;
        stream::echo(&mut held, b"an agent")?;
        let mut new = stream::connect(&client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut new, b"an agent").map(drop)
    })
}
