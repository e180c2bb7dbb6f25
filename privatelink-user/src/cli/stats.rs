//! `privatelink stats`.

use std::collections::BTreeMap;

use clap::Args;

use super::{
    CliError, Session,
    output::{or_dash, table},
};
use crate::{
    api::DescribeStats,
    control::{
        endpoints::DescribeEndpoints, listeners::DescribeListeners, target_groups::DescribeTargetGroups,
        vpcs::DescribeVpcs,
    },
    runtime::{Counter, CounterKind, EndpointTraffic, ListenerTraffic, Pool, Stats, TargetTraffic},
};

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// Only the reasons for which packets were refused.
    #[arg(long)]
    drops: bool,
    /// Also what is zero. JSON has it always.
    #[arg(long)]
    all: bool,
}

impl StatsArgs {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        let Self { drops, all } = self;
        let stats = session.client.call(&DescribeStats {}).await?;
        if drops {
            let drops: Vec<Counter> =
                stats.counters.into_iter().filter(|counter| counter.kind == CounterKind::Drop).collect();
            return session.output.show(&drops, |drops| counters(drops, all));
        }
        let names = Names::ask(session).await?;
        session.output.show(&stats, |stats| sections(stats, &names, all))
    }
}

/// What identifiers mean, in the words that people use.
struct Names {
    vpcs: BTreeMap<String, String>,
    endpoints: BTreeMap<String, String>,
    listeners: BTreeMap<String, String>,
    target_groups: BTreeMap<String, String>,
}

impl Names {
    async fn ask(session: &Session) -> Result<Self, CliError> {
        let client = &session.client;
        let vpcs = client.call(&DescribeVpcs { vpcs: None }).await?;
        let endpoints = client.call(&DescribeEndpoints { endpoints: None }).await?;
        let listeners = client.call(&DescribeListeners { load_balancer: None }).await?;
        let groups = client.call(&DescribeTargetGroups { target_groups: None }).await?;
        let address =
            |endpoint: &crate::control::view::EndpointView| format!("{}/{}", endpoint.vpc_name, endpoint.address);
        Ok(Self {
            vpcs: vpcs.iter().map(|vpc| (vpc.id.to_string(), vpc.name.to_string())).collect(),
            endpoints: endpoints.iter().map(|endpoint| (endpoint.id.to_string(), address(endpoint))).collect(),
            listeners: listeners.into_iter().map(|listener| (listener.id.to_string(), listener.name)).collect(),
            target_groups: groups.iter().map(|group| (group.id.to_string(), group.name.to_string())).collect(),
        })
    }
}

fn name(names: &BTreeMap<String, String>, id: impl ToString) -> String {
    let id = id.to_string();
    names.get(&id).cloned().unwrap_or(id)
}

fn counters(counters: &[Counter], all: bool) -> String {
    table(
        ["COUNTER", "COUNT", "MEANING"],
        counters
            .iter()
            .filter(|counter| all || counter.count > 0)
            .map(|counter| [counter.name.clone(), counter.count.to_string(), counter.help.clone()]),
    )
}

fn sections(stats: &Stats, names: &Names, all: bool) -> String {
    let Stats { counters: counted, endpoints: by_endpoint, listeners: by_listener, targets: by_target, pools: by_pool } =
        stats;
    [
        counters(counted, all),
        endpoints(by_endpoint, names),
        listeners(by_listener, names),
        targets(by_target, names),
        pools(by_pool, names),
    ]
    .join("\n\n")
}

fn endpoints(endpoints: &[EndpointTraffic], names: &Names) -> String {
    table(
        ["ENDPOINT", "NEW FLOWS", "REFUSED", "DENIED", "LIMITED", "PACKETS IN", "BYTES IN", "PACKETS OUT", "BYTES OUT"],
        endpoints.iter().map(|row| {
            [
                name(&names.endpoints, &row.endpoint),
                row.new_flows.to_string(),
                row.refused.to_string(),
                row.denied.to_string(),
                limited(row),
                row.packets_in.to_string(),
                row.bytes_in.to_string(),
                row.packets_out.to_string(),
                row.bytes_out.to_string(),
            ]
        }),
    )
}

/// What an endpoint's limits refused: connections, new ones a second, packets.
fn limited(row: &EndpointTraffic) -> String {
    let parts = [
        (row.limited_connections, "connections"),
        (row.limited_new_connections, "by rate"),
        (row.limited_packets, "packets"),
    ];
    let some: Vec<String> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if some.is_empty() { "0".to_owned() } else { some.join(", ") }
}

fn listeners(listeners: &[ListenerTraffic], names: &Names) -> String {
    table(
        ["LISTENER", "NEW FLOWS", "REFUSED", "DENIED IN", "DENIED OUT"],
        listeners.iter().map(|row| {
            [
                name(&names.listeners, &row.listener),
                row.new_flows.to_string(),
                row.refused.to_string(),
                row.denied_inbound.to_string(),
                row.denied_outbound.to_string(),
            ]
        }),
    )
}

fn targets(targets: &[TargetTraffic], names: &Names) -> String {
    table(
        [
            "TARGET GROUP",
            "TARGET",
            "NEW FLOWS",
            "PACKETS IN",
            "BYTES IN",
            "PACKETS OUT",
            "BYTES OUT",
            "NO PORT",
            "RESETS",
        ],
        targets.iter().map(|row| {
            [
                name(&names.target_groups, &row.target_group),
                row.target.to_string(),
                row.new_flows.to_string(),
                row.packets_in.to_string(),
                row.bytes_in.to_string(),
                row.packets_out.to_string(),
                row.bytes_out.to_string(),
                row.port_allocation_errors.to_string(),
                format!("{} client, {} target", row.client_resets, row.target_resets),
            ]
        }),
    )
}

fn pools(pools: &[Pool], names: &Names) -> String {
    table(
        ["VPC", "PROTOCOL", "NODE", "TARGET", "PORTS USED", "HELD", "CAPACITY", "EXHAUSTED"],
        pools.iter().map(|pool| {
            [
                or_dash(pool.vpc.as_ref().map(|vpc| name(&names.vpcs, vpc))),
                pool.protocol.clone(),
                pool.node.to_string(),
                pool.target.to_string(),
                pool.used.to_string(),
                pool.held.to_string(),
                pool.capacity.to_string(),
                pool.exhausted.to_string(),
            ]
        }),
    )
}
