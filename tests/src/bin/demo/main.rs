//! The main job on real programs: `cargo xtask demo`.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use privatelink_tests::{cleanup, require};

mod acts;
mod https;
mod narrate;
mod stage;

use narrate::Narrator;
use stage::Stage;

/// Two consumers and a provider, all 10.0.0.0/16, in network namespaces of this host; nginx, sshd, curl and ssh.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Another demo than the main one.
    #[arg(value_enum, conflicts_with_all = ["keep", "remove"])]
    which: Option<Which>,
    /// Leaves everything up at the end and prints commands to try.
    #[arg(long)]
    keep: bool,
    /// Only takes down what an earlier `--keep` left up.
    #[arg(long, conflicts_with = "keep")]
    remove: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Which {
    /// HTTPS through an endpoint.
    Https,
}

fn main() -> ExitCode {
    cleanup::on_signals();
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every step succeeded.
fn run(arguments: &Arguments) -> Result<bool> {
    let Arguments { which, keep, remove } = *arguments;
    require_root()?;
    if let Some(Which::Https) = which {
        require_programs(&["ip", "nginx", "curl", "dnsmasq", "dig", "unshare"])?;
        return https::run();
    }
    if stage::remove_kept() {
        println!("Took down what an earlier demo left up.");
    } else if remove {
        println!("Nothing of an earlier demo is up.");
    }
    if remove {
        return Ok(true);
    }
    require_programs(&["ip", "nginx", "sshd", "ssh", "ssh-keygen", "curl", "sha256sum"])?;

    let started = Instant::now();
    let mut narrator = Narrator::default();
    println!("privatelink: two consumers reach one provider's service. All three networks are 10.0.0.0/16.\n");
    let mut stage = narrator.step("Three networks, their servers, and the agent between them", Stage::set)?;
    narrator.step("A service is published, and each consumer gets an address for it", |tell| stage.publish(tell))?;
    // From here on a failed step does not keep the next from showing what it can.
    for (title, act) in acts::ALL {
        // Its failure is already told and counted.
        let _ = narrator.step(title, |tell| act(&mut stage, tell));
    }
    println!("\nEnded after {:.0} s: {}", started.elapsed().as_secs_f32(), narrator.summary());
    if narrator.failed() {
        println!("\n{}", stage.scenario.diagnosis());
    }
    if keep {
        stage.keep()?;
    }
    Ok(!narrator.failed())
}

fn require_root() -> Result<()> {
    require::Need::Root
        .unmet()
        .map_or(Ok(()), |why| Err(anyhow::anyhow!("the demo {why}: it makes network namespaces")))
}

fn require_programs(names: &[&str]) -> Result<()> {
    for name in names {
        require::find(name).with_context(|| format!("the demo needs {name}; `cargo xtask setup` installs it"))?;
    }
    Ok(())
}
