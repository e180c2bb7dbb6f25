//! A topology with an agent in it, configured through the command line as an operator would.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::{
    cli::Cli,
    daemon::Agent,
    eventually::eventually,
    topology::{CIDR, Hook, Topology, VpcPlan},
};

/// The address that targets see; one load balancer in each provider VPC uses it.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);

/// The address of the endpoint in each consumer VPC, unless a test wants others.
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 50);

/// VPCs, their ports attached, and the agent.
#[derive(Debug)]
pub struct Scenario {
    // The agent goes before the namespaces that it works in.
    /// The running agent.
    pub agent: Agent,
    /// Its command line.
    pub cli: Cli,
    /// Namespaces and links.
    pub topology: Topology,
}

/// A load balancer with its listeners, published as an endpoint service of the same name.
#[derive(Clone, Debug)]
pub struct Service {
    /// The name of load balancer and endpoint service.
    pub name: &'static str,
    /// The provider's VPC.
    pub vpc: &'static str,
    /// The load balancer's address there.
    pub node: Ipv4Addr,
    /// Its listeners, each with a target group of its own.
    pub listeners: Vec<Listener>,
}

/// A listener and the target group behind it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The target group's name.
    pub group: &'static str,
    /// The listener's port.
    pub port: u16,
    /// The targets' port.
    pub target_port: u16,
    /// The targets.
    pub targets: Vec<Ipv4Addr>,
    /// How they are checked.
    pub check: Check,
}

/// Health checks as quick as AWS has them, as options of `target-group create`.
pub const QUICK_CHECKS: &str =
    "--health-check-interval 5 --health-check-timeout 2 --healthy-threshold 2 --unhealthy-threshold 2";

/// A health check. Intervals are AWS's shortest: 5 s, timeout 2 s, two failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// A connection is enough.
    Tcp,
    /// `GET /` answers with 200 to 399.
    Http,
}

impl Service {
    /// A service with one listener, port 80 to port 8080 of `targets`, checked by TCP.
    pub fn new(name: &'static str, vpc: &'static str, targets: Vec<Ipv4Addr>) -> Self {
        let listener = Listener { group: name, port: 80, target_port: 8080, targets, check: Check::Tcp };
        Self { name, vpc, node: NODE, listeners: vec![listener] }
    }
}

impl Scenario {
    /// Builds the topology, starts the agent, makes the VPCs and attaches the ports. `program` is `privatelink`.
    pub fn start(program: &Path, hook: Hook, plans: Vec<VpcPlan>) -> Result<Self> {
        let topology = Topology::build(hook, plans, None)?;
        let agent = Agent::start(program, &topology.lb)?;
        Self::configure(topology, agent)
    }

    /// Makes the VPCs of `topology` and attaches their ports.
    pub fn configure(topology: Topology, agent: Agent) -> Result<Self> {
        let scenario = Self { cli: agent.cli(), agent, topology };
        for vpc in &scenario.topology.vpcs {
            scenario.cli.run(&format!("vpc create {} --cidr {CIDR}", vpc.name))?;
            for port in &vpc.ports {
                let hook = scenario.topology.hook.name();
                scenario.cli.run(&format!("port attach {port} --vpc {} --hook {hook}", vpc.name))?;
            }
        }
        Ok(scenario)
    }

    /// Runs `test` in a fresh scenario; its error carries the agent's log and what the datapath refused.
    pub fn run(
        program: &Path,
        hook: Hook,
        plans: Vec<VpcPlan>,
        test: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let mut scenario = Self::start(program, hook, plans)?;
        let result = test(&mut scenario);
        result.with_context(|| scenario.diagnosis())
    }

    /// Makes target groups, load balancer, listeners and endpoint service; returns the service's name for consumers.
    pub fn publish(&self, service: &Service) -> Result<String> {
        let Service { name, vpc, node, listeners } = service;
        self.cli.run(&format!("load-balancer create {name} --vpc {vpc} --address {node}"))?;
        for Listener { group, port, target_port, targets, check } in listeners {
            let check = match check {
                Check::Tcp => "TCP",
                Check::Http => "HTTP",
            };
            self.cli.run(&format!(
                "target-group create {group} --vpc {vpc} --protocol TCP --port {target_port} \
                 --health-check-protocol {check} {QUICK_CHECKS}"
            ))?;
            let mut register = format!("target register {group}");
            for target in targets {
                write!(register, " {target}")?;
            }
            self.cli.run(&register)?;
            self.cli.run(&format!("listener create {name} --protocol TCP --port {port} --target-group {group}"))?;
        }
        let created = self.cli.run(&format!("endpoint-service create --load-balancer {name} --name {name}"))?;
        Ok(text(&created, "service_name").map_or_else(|_| (*name).to_owned(), str::to_owned))
    }

    /// Makes an endpoint to `service` in `vpc` and returns its id.
    pub fn endpoint(&self, service: &str, vpc: &str, address: Ipv4Addr) -> Result<String> {
        let line = format!("endpoint create --service-name {service} --vpc {vpc} --address {address}");
        let created = self.cli.run(&line)?;
        text(&created, "id").map(str::to_owned)
    }

    /// Waits until every target of `group` is healthy.
    pub fn wait_healthy(&self, group: &str) -> Result<()> {
        eventually(&format!("all targets of {group} are healthy"), Duration::from_secs(20), || {
            let health = self.health(group)?;
            ensure!(!health.is_empty() && health.iter().all(|(_, state)| state == "healthy"), "{health:?}");
            Ok(())
        })
    }

    /// Every target of `group` with the name of its state.
    pub fn health(&self, group: &str) -> Result<Vec<(SocketAddr, String)>> {
        let answer = self.cli.run(&format!("target health {group}"))?;
        let rows = rows(&answer).with_context(|| format!("the health of {group}: {answer}"))?;
        let target = |row: &Value| {
            let ip = text(&row["address"], "ip")?.parse()?;
            let port = row["address"]["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
            Ok((SocketAddr::new(ip, port), text(row, "state")?.to_owned()))
        };
        rows.iter().map(target).collect::<Result<_>>().with_context(|| format!("the health of {group}: {answer}"))
    }

    /// Waits until the target at `address` is in `state`.
    pub fn wait_state(&self, group: &str, address: impl Into<IpAddr>, state: &str, limit: Duration) -> Result<()> {
        let address = address.into();
        eventually(&format!("{address} is {state}"), limit, || {
            let health = self.health(group)?;
            let is = health.iter().find(|(target, _)| target.ip() == address).map(|(_, is)| is.as_str());
            ensure!(is == Some(state), "{address} is {}", is.unwrap_or("not registered"));
            Ok(())
        })
    }

    /// The datapath's counter `name`, summed over all CPUs.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let stats = self.cli.run("stats")?;
        let counters = stats["counters"].as_array().context("stats without counters")?;
        let row = counters.iter().find(|row| row["name"] == name);
        row.and_then(|row| row["count"].as_u64()).with_context(|| format!("no counter '{name}' in {stats}"))
    }

    /// The port pool towards `target`.
    pub fn pool(&self, target: SocketAddrV4) -> Result<Value> {
        let stats = self.cli.run("stats")?;
        let pools = stats["pools"].as_array().context("stats without pools")?;
        let target = target.to_string();
        pools
            .iter()
            .find(|pool| pool["target"] == *target)
            .cloned()
            .with_context(|| format!("no pool for {target} in {stats}"))
    }

    /// What helps to understand a failure.
    pub fn diagnosis(&self) -> String {
        let drops = self.cli.table("stats --drops").unwrap_or_else(|error| format!("no statistics: {error:#}"));
        let ports = self.cli.table("port list").unwrap_or_else(|error| format!("no ports: {error:#}"));
        format!("the agent's log ends:\n{}\n\nports:\n{ports}\nrefused:\n{drops}", self.agent.log_tail())
    }
}

/// The text member `name` of `value`.
pub fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("no '{name}' in {value}"))
}

/// The rows of a list, whether it comes bare or as the only member of an object.
pub fn rows(value: &Value) -> Result<&[Value]> {
    if let Some(rows) = value.as_array() {
        return Ok(rows);
    }
    let only = value.as_object().filter(|members| members.len() == 1).and_then(|members| members.values().next());
    only.and_then(Value::as_array).map(Vec::as_slice).context("not a list")
}

/// `privatelink`, which cargo puts beside the programs of this package or one directory above its tests.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program's path")?;
    for dir in own.ancestors().skip(1).take(2) {
        let program = dir.join("privatelink");
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!("privatelink is not built beside {}; `cargo xtask build` does that", own.display())
}
