//! The agent and its programs are replaced under load, and what must not be replaced is refused before anything is
//! touched.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
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
        datagrams::{self, Answering, Exchanged},
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
    progress,
    restart::{Transferred, transfer},
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

/// Datagrams a second.
const DATAGRAM_RATE: u32 = 500;

/// Where datagrams go, and the port on which the target answers them.
const DATAGRAMS: u16 = 5_353;

/// One transfer each way, 1,000 new connections a second, and 500 datagrams a second of old and new flows, while the
/// agent ends or is killed and another build, or one with other programs, takes its place: links are updated in place,
/// every connection lives, and what is lost of datagrams and segments is counted.
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
            let transfer = scope.spawn(|| transfer(&long, stopped));
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
            let datagrams = scope.spawn(|| one.run(|| datagrams::exchange(to, DATAGRAM_RATE, stopped))?);
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
        let Transferred { bytes, longest } = transfer.ok().context("the transfer panicked")?.context("the transfer")?;
        let tally = churned.ok().context("the churn panicked")??;
        let exchanged @ Exchanged { sent, answered: _, flows } = datagrams.ok().context("datagrams panicked")??;
        drop(answering);
        progress!(
            "{times} replacements: {} MiB each way, its longest 256 KiB took {longest:?}; {tally}; {sent} datagrams of {flows} flows, \
             {} lost; {} segments sent again; {} connections accepted",
            bytes >> 20,
            exchanged.lost(),
            sent_again()? - before,
            echo.accepted(),
        );
        tally.all_succeeded()?;
        // "At most a handful" a replacement; a machine that is busy loses some in sockets' queues.
        ensure!(exchanged.lost() <= u64::from(times) * 5, "{exchanged:?}");
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

/// Replaces the agent: one that ends or is killed, by itself or by another build, with the same programs or ones that
/// know other settings. Every link stays and leads to another program.
fn replace(scenario: &mut Scenario, number: u32, first: &Path, other: &Path) -> Result<()> {
    let links = links(scenario)?;
    ensure!(!links.is_empty(), "nothing is attached");
    if number.is_multiple_of(2) {
        scenario.agent.kill()?;
    } else {
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
    }
    scenario.agent.set_program(if number % 4 < 2 { other } else { first });
    // Another constant in the programs, which the kernel compiles anew.
    scenario.agent.set_arguments(if number.is_multiple_of(3) { vec!["--flow-events".to_owned()] } else { Vec::new() });
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

/// Tables of an older and of a newer layout, and a table of another shape under an old name: the start ends with a way
/// out, nothing is touched, and what forwards goes on. With the layout that it knows, the agent takes over.
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
        for (change, version) in [("a newer layout", Some(1)), ("an older layout", Some(-1)), ("another shape", None)] {
            let words = match version {
                Some(change) => format!("layout version {}", set_version(change)?),
                None => swap().map(|()| "this agent needs keys of".to_owned())?,
            };
            let before = Found::now(scenario)?;
            let error = scenario.agent.start_again().err().with_context(|| format!("{change} was taken"))?;
            let said = format!("{error:#}");
            ensure!(said.contains(&words) && said.contains("agent --remove"), "{change}: {said}");
            ensure!(Found::now(scenario)? == before, "{change}: something was touched");
            stream::echo(&mut held, b"no agent")?;
            let mut new = stream::connect(&client, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut new, b"no agent")?;
            match version {
                Some(change) => set_version(-change).map(drop)?,
                None => swap()?,
            }
        }
        scenario.agent.start_again()?;
        stream::echo(&mut held, b"an agent")?;
        let mut new = stream::connect(&client, Source::ANY, FRONTEND, PATIENCE)?;
        stream::echo(&mut new, b"an agent").map(drop)
    })
}
