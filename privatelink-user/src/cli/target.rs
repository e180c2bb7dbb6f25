//! `privatelink target`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    CliError, Session,
    output::{Format, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        dns_targets::ModifyDnsTargets,
        targets::{DeregisterTargets, DescribeTargetHealth, RegisterTargets, TargetSpec},
        view::TargetHealthView,
    },
    model::{DnsTarget, TargetAddress},
};

/// How often `--watch` asks.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub enum TargetCommand {
    /// Register targets. One that drains takes new flows again.
    Register(RegisterArgs),
    /// Deregister targets: no new flows, open ones go on until the group's deregistration delay has ended.
    Deregister(RegisterArgs),
    /// Show the targets' health, with the reason.
    Health(HealthArgs),
}

#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The target group; name or ARN.
    #[arg(value_parser = value::reference)]
    target_group: Reference,
    /// An address, or, in a group of type instance, an instance's name or id; with :PORT where it differs from the
    /// group's.
    #[arg(required_unless_present = "dns_names", value_name = "TARGET[:PORT]", value_parser = value::parse::<TargetSpec>)]
    targets: Vec<TargetSpec>,
    /// Instead, a name: the agent asks the --dns-upstream servers for it as often as its TTL says (5 to 300 s),
    /// registers its addresses, and drains those that it has no more; while nobody answers, or with none, all stay. May
    /// be repeated.
    #[arg(long = "dns-name", value_name = "NAME[:PORT]", conflicts_with = "targets", value_parser = value::parse::<DnsTarget>)]
    dns_names: Vec<DnsTarget>,
}

#[derive(Debug, Args)]
pub struct HealthArgs {
    /// The target group; name or ARN.
    #[arg(value_parser = value::reference)]
    target_group: Reference,
    /// Only these.
    #[arg(value_name = "TARGET[:PORT]", value_parser = value::parse::<TargetSpec>)]
    targets: Vec<TargetSpec>,
    /// Go on and print each change, until Ctrl-C. With -o json a line for each.
    #[arg(long)]
    watch: bool,
}

impl TargetCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Register(RegisterArgs { target_group, targets: _, dns_names }) if !dns_names.is_empty() => {
                let text = format!("target group {} follows {}", target_group.as_str(), list(&dns_names));
                let add = dns_names.into_iter().collect();
                let group =
                    session.client.call(&ModifyDnsTargets { target_group, add, remove: BTreeSet::new() }).await?;
                session.output.show(&group, |_| text)
            }
            Self::Deregister(RegisterArgs { target_group, targets: _, dns_names }) if !dns_names.is_empty() => {
                let text = format!("target group {} no longer follows {}", target_group.as_str(), list(&dns_names));
                let remove = dns_names.into_iter().collect();
                let group =
                    session.client.call(&ModifyDnsTargets { target_group, add: BTreeSet::new(), remove }).await?;
                session.output.show(&group, |_| text)
            }
            Self::Register(RegisterArgs { target_group, targets, dns_names: _ }) => {
                let done = format!("registered {} with target group {}", names(&targets), target_group.as_str());
                let group = session.client.call(&RegisterTargets { target_group, targets }).await?;
                session.output.show(&group, |_| done)
            }
            Self::Deregister(RegisterArgs { target_group, targets, dns_names: _ }) => {
                let text = format!("{} of target group {}", names(&targets), target_group.as_str());
                let group = session.client.call(&DeregisterTargets { target_group, targets }).await?;
                session.output.show(&group, |_| format!("deregistered {text}"))
            }
            Self::Health(HealthArgs { target_group, targets, watch }) => {
                let targets = (!targets.is_empty()).then_some(targets);
                let request = DescribeTargetHealth { target_group, targets };
                if watch {
                    return watch_health(session, &request).await;
                }
                let health = session.client.call(&request).await?;
                session.output.show(&health, |health| rows(health))
            }
        }
    }
}

fn names(targets: &[TargetSpec]) -> String {
    targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn rows(health: &[TargetHealthView]) -> String {
    table(
        ["TARGET", "HEALTH", "REASON", "DESCRIPTION", "CHECKED PORT", "NEXT HOP", "INSTANCE"],
        health.iter().map(|target| {
            [
                target.address.to_string(),
                target.state.clone(),
                or_dash(target.reason.as_ref()),
                or_dash(target.description.as_ref()),
                target.health_check_port.to_string(),
                or_dash(target.next_hop.as_ref()),
                or_dash(target.instance.as_ref()),
            ]
        }),
    )
}

/// A target's health at a moment; `health` is none when the target is gone.
#[derive(Serialize)]
struct HealthChange<'a> {
    at: Timestamp,
    address: TargetAddress,
    health: Option<&'a TargetHealthView>,
}

/// Prints each target's health and then each change of it, until Ctrl-C. An agent that goes away is waited for.
async fn watch_health(session: &mut Session, request: &DescribeTargetHealth) -> Result<(), CliError> {
    let mut known: BTreeMap<TargetAddress, TargetHealthView> = BTreeMap::new();
    let mut away = false;
    let mut first = true;
    let mut ticks = tokio::time::interval(WATCH_INTERVAL);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        tokio::select! {
            _ = &mut interrupt => return Ok(()),
            _ = ticks.tick() => {}
        }
        let health = match session.client.call(request).await {
            Ok(health) => health,
            Err(CliError::Unreachable { .. }) if !first => {
                if !away {
                    session.note("the agent does not answer; waiting for it")?;
                }
                away = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        if away {
            session.note("the agent answers again")?;
        }
        (away, first) = (false, false);
        let seen: BTreeMap<TargetAddress, TargetHealthView> =
            health.into_iter().map(|target| (target.address, target)).collect();
        for address in known.keys().filter(|address| !seen.contains_key(address)) {
            session.health_change(*address, None)?;
        }
        for (address, target) in &seen {
            if known.get(address) != Some(target) {
                session.health_change(*address, Some(target))?;
            }
        }
        known = seen;
    }
}

impl Session {
    fn note(&self, text: &str) -> Result<(), CliError> {
        use std::io::Write as _;
        writeln!(std::io::stderr(), "{text}").map_err(CliError::Output)
    }

    fn health_change(&mut self, address: TargetAddress, health: Option<&TargetHealthView>) -> Result<(), CliError> {
        let at = Timestamp::now();
        match self.output.format {
            Format::Json => self.output.json_line(&HealthChange { at, address, health }),
            Format::Table => {
                let text = health.map_or_else(
                    || "gone".to_owned(),
                    |health| {
                        let why = health.description.as_ref().map_or_else(String::new, |text| format!(": {text}"));
                        let hop = health.next_hop.as_ref().map_or_else(String::new, |hop| format!(" ({hop})"));
                        format!("{}{why}{hop}", health.state)
                    },
                );
                self.output.line(&format!("{at:.3}  {address:<21}  {text}"))
            }
        }
    }
}
