//! Bytes in quantity, and segment sizes.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    programs::{Directory, Nginx, Running, curl},
    require::Need,
    scenario::ENDPOINT,
    topology::Hook,
    traffic::{
        server::{Behaviour, Server},
        stream::{self, Source},
    },
};

use crate::{
    Run, Test,
    common::{FRONTEND, PATIENCE, plans, server, target, with_plans, with_web},
};

/// Every test of this file.
pub const TESTS: fn() -> Vec<Test> = || {
    vec![
        Test { name: "transfers_both_ways_keep_every_byte", needs: &[], run: Run::EachHook(both_ways) },
        Test {
            name: "downloads_from_nginx_in_parallel",
            needs: &[Need::Program("nginx"), Need::Program("curl")],
            run: Run::EachHook(nginx_downloads),
        },
        Test { name: "mss_fits_the_smaller_side", needs: &[], run: Run::EachHook(mss) },
    ]
};

/// Bytes each way.
const BYTES: u64 = 256 << 20;

/// With TC the links keep segmentation and checksum offloads, so super-packets with partial checksums pass through.
fn both_ways(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let _server = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::transfer(&stream, BYTES)?;
        let errors = scenario.topology.checksum_errors()?;
        ensure!(errors == 0, "{errors} checksum errors");
        Ok(())
    })
}

fn nginx_downloads(hook: Hook) -> Result<()> {
    with_web(1, hook, |scenario| {
        let web = server(scenario, 1);
        let nginx = Nginx::start(&web.netns, Directory::new("nginx")?, target(scenario, 1), "index\n")?;
        let content: Vec<u8> = (0..24_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        std::fs::write(nginx.root().join("file"), &content).context("the file")?;
        scenario.wait_healthy("web")?;
        let results = Directory::new("results")?;
        let mut downloads = Vec::new();
        for name in ["client-a", "client-b"] {
            for number in 0..4 {
                let path = results.path().join(format!("{name}-{number}"));
                let mut command = scenario.topology.host(name).netns.command("curl");
                command.args(["--silent", "--show-error", "--fail", "--max-time", "60", "--output"]).arg(&path);
                command.arg(format!("http://{ENDPOINT}/file")).stdin(Stdio::null()).stderr(Stdio::piped());
                downloads.push((path, Running::start(&mut command)?));
            }
        }
        for (path, running) in downloads {
            let output = running.wait()?;
            ensure!(output.status.success(), "curl: {}", String::from_utf8_lossy(&output.stderr).trim());
            ensure!(std::fs::read(&path)? == content, "{} differs from what nginx has", path.display());
        }
        let index = curl(&scenario.topology.host("client-b").netns, &[&format!("http://{ENDPOINT}/")])?;
        ensure!(index == "index\n", "nginx said {index}");
        Ok(())
    })
}

/// Both ends have jumbo frames, but what lies between has 1400: the SYN's MSS is lowered on its way to the target.
fn mss(hook: Hook) -> Result<()> {
    let mut plans = plans(1);
    // XDP on a veth takes frames of up to a page less headroom.
    let consumer = plans.remove(0).with_mtu(3000);
    let provider = plans.remove(1).with_mtu(1400);
    let other = plans.remove(0);
    with_plans(vec![consumer, other, provider], 1, hook, |scenario| {
        let echo = Server::start(&server(scenario, 1).netns, target(scenario, 1), Behaviour::Echo)?;
        scenario.wait_healthy("web")?;
        let client = scenario.topology.host("client-a");
        let stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        let size = stream::max_segment(&stream)?;
        // 1400 less 40 bytes of headers and 12 of the time stamp option.
        ensure!(size == 1348, "the client sends segments of {size} bytes");
        let dropped = scenario.counter("mtu_exceeded")?;
        stream::transfer(&stream, 16 << 20)?;
        ensure!(scenario.counter("mtu_exceeded")? == dropped, "segments were too large for the way");
        ensure!(echo.accepted() > 0, "the server saw no connection");

        // The other way round: the server may send larger segments than this client's network takes.
        let client = scenario.topology.host("client-b");
        let stream = stream::connect(&client.netns, Source::ANY, FRONTEND, PATIENCE)?;
        stream::transfer(&stream, 16 << 20)?;
        Ok(())
    })
}
