//! What the agent may do to its host, and what it tells who watches it.

use std::{fs, os::unix::net::UnixDatagram, time::Duration};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    eventually::eventually,
    programs::Directory,
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, server, target, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "agent_keeps_few_capabilities", needs: &[], run: Run::EachHook(capabilities) },
        Test { name: "service_manager_is_told", needs: &[], run: Run::Once(told) },
    ]
};

/// `CAP_NET_BIND_SERVICE`, `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_PERFMON`, `CAP_BPF` (linux/capability.h).
const KEPT: u64 = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// Every thread of the agent has the capabilities of [`KEPT`] and no way to more, and forwards.
fn capabilities(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let pid = scenario.agent.pid().context("no agent")?;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).context("its threads")?;
        let mut threads = 0;
        for task in tasks {
            let status = fs::read_to_string(task?.path().join("status"))?;
            let field = |name: &str| {
                let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
                value.map(str::trim).with_context(|| format!("no {name} in {status}"))
            };
            for set in ["CapEff", "CapPrm", "CapBnd"] {
                let found = u64::from_str_radix(field(set)?, 16)?;
                ensure!(found == KEPT, "{set} of thread {}: {found:x}", field("Name")?);
            }
            ensure!(field("NoNewPrivs")? == "1", "a program that it runs could gain privileges");
            threads += 1;
        }
        ensure!(threads > 1, "only {threads} threads");
        // A port that is attached later.
        scenario.cli.run("port detach consumer-a")?;
        scenario.cli.run(&format!("port attach consumer-a --vpc consumer-a --hook {}", hook.name()))?;
        let client = scenario.topology.host("client-a");
        eventually("the port works again", PATIENCE, || {
            let mut stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
            stream::echo(&mut stream, b"hello").map(drop)
        })
    })
}

/// `READY=1` when requests are answered, `WATCHDOG=1` again and again, `STOPPING=1` at the end (sd_notify(3)).
fn told() -> Result<()> {
    with_web(1, Hook::Tc, |scenario| {
        let dir = Directory::new("notify")?;
        let path = dir.path().join("socket");
        let manager = UnixDatagram::bind(&path).context("the manager's socket")?;
        manager.set_read_timeout(Some(Duration::from_secs(10)))?;
        let next = || {
            let mut message = [0; 256];
            let length = manager.recv(&mut message).context("no message of the agent")?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&message[..length]).trim().to_owned())
        };
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        scenario.agent.set_environment("NOTIFY_SOCKET", &path);
        scenario.agent.set_environment("WATCHDOG_USEC", "600000");
        scenario.agent.start_again()?;
        let first = next()?;
        ensure!(first == "READY=1", "first '{first}'");
        for _ in 0..3 {
            let alive = next()?;
            ensure!(alive == "WATCHDOG=1", "then '{alive}'");
        }
        ensure!(scenario.agent.stop()?.success(), "the agent did not stop cleanly");
        while next().context("before STOPPING=1")? != "STOPPING=1" {}
        Ok(())
    })
}
