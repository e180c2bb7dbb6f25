//! The networks, the servers and the agent of the demo.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use privatelink_tests::{
    cleanup::{self, Leftover, Undo},
    daemon::Agent,
    programs::{Directory, Nginx, Sshd},
    scenario::{ENDPOINT, NODE, QUICK_CHECKS, Scenario, program},
    topology::{CIDR, Hook, HostPlan, Topology, VpcPlan},
};

use crate::narrate::Tell;

/// Namespaces are called `pldemo-…`, so that a kept demo is easy to type and easy to find.
const PREFIX: &str = "pldemo";

/// The names of the provider's hosts.
pub const WEB: [&str; 3] = ["web-1", "web-2", "web-3"];

/// The consumers' VPCs and the host in each.
pub const CONSUMERS: [(&str, &str); 2] = [("consumer-a", "client-a"), ("consumer-b", "client-b")];

/// A second address of the first consumer's host, which no provider host has: what the provider must not reach.
pub const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 0, 7, 7);

/// How many bytes the file for downloads has.
pub const FILE_BYTES: usize = 48 << 20;

/// Everything that is up while the demo runs.
pub struct Stage {
    // Servers go before the namespaces that they run in, the directory last.
    pub web: Vec<Nginx>,
    pub ssh: Vec<Sshd>,
    pub scenario: Scenario,
    dir: Directory,
}

impl Stage {
    /// Makes the networks, starts the servers and the agent, attaches the ports.
    pub fn set(tell: &mut Tell) -> Result<Self> {
        let dir = Directory::at(kept_dir())?;
        let hosts = (10..).zip(WEB).map(|(last, name)| HostPlan::new(name, 1, last)).collect();
        let mut plans: Vec<VpcPlan> =
            CONSUMERS.iter().map(|(vpc, host)| VpcPlan::new(vpc, vec![HostPlan::new(host, 1, 10)])).collect();
        plans[0].hosts[0].addresses.push(PRIVATE);
        plans.push(VpcPlan::new("provider", hosts).bridged());
        let topology = Topology::build(Hook::Auto, plans, Some(PREFIX))?;
        for (vpc, host) in CONSUMERS {
            let host = topology.host(host);
            tell.doing(format!("{vpc}: {} is {}", host.name, host.address()));
        }
        let servers: Vec<String> =
            WEB.iter().map(|name| format!("{name} is {}", topology.host(name).address())).collect();
        tell.doing(format!("provider: {} — the first has the clients' address", servers.join(", ")));

        let web = WEB
            .iter()
            .map(|name| {
                let host = topology.host(name);
                let address = SocketAddrV4::new(host.address(), 8080);
                let page = format!("this page comes from {name}\n");
                Nginx::start(&host.netns, Directory::at(dir.path().join(name))?, address, &page)
            })
            .collect::<Result<Vec<_>>>()?;
        let file = random_file(&dir.path().join("file"))?;
        for nginx in &web {
            std::fs::hard_link(&file, nginx.root().join("file")).context("the file for downloads")?;
        }
        let ssh = WEB[..2]
            .iter()
            .map(|name| {
                let host = topology.host(name);
                let address = SocketAddrV4::new(host.address(), 22);
                Sshd::start(&host.netns, Directory::at(dir.path().join(format!("{name}-sshd")))?, address, name)
            })
            .collect::<Result<Vec<_>>>()?;
        tell.doing("3 × nginx on port 8080, 2 × sshd on port 22");

        let agent = Agent::start_in(&program()?, &topology.lb, dir.path().join("agent"))?;
        tell.doing("the agent runs in a namespace of its own, with one interface into each network");
        for vpc in &topology.vpcs {
            tell.command(&format!("vpc create {} --cidr {CIDR}", vpc.name));
            for port in &vpc.ports {
                tell.command(&format!("port attach {port} --vpc {}", vpc.name));
            }
        }
        let scenario = Scenario::configure(topology, agent)?;
        Ok(Self { web, ssh, scenario, dir })
    }

    /// Publishes the service and makes the endpoints.
    pub fn publish(&mut self, tell: &mut Tell) -> Result<()> {
        let scenario = &self.scenario;
        let run = |tell: &mut Tell, line: String| {
            tell.command(&line);
            scenario.cli.run(&line)
        };
        let addresses: Vec<String> =
            WEB.iter().map(|name| scenario.topology.host(name).address().to_string()).collect();
        run(tell, format!("load-balancer create shop --vpc provider --address {NODE}"))?;
        run(
            tell,
            format!(
                "target-group create web --vpc provider --protocol TCP --port 8080 --health-check-protocol HTTP {QUICK_CHECKS}"
            ),
        )?;
        run(tell, format!("target register web {}", addresses.join(" ")))?;
        run(tell, "listener create shop --protocol TCP --port 80 --target-group web".to_owned())?;
        for ((address, name), port) in addresses.iter().zip(WEB).take(2).zip([8022, 8023]) {
            let group = format!("ssh-{name}");
            run(tell, format!("target-group create {group} --vpc provider --protocol TCP --port 22 {QUICK_CHECKS}"))?;
            run(tell, format!("target register {group} {address}"))?;
            run(tell, format!("listener create shop --protocol TCP --port {port} --target-group {group}"))?;
        }
        run(tell, "endpoint-service create --load-balancer shop --name shop".to_owned())?;
        for (vpc, _) in CONSUMERS {
            run(tell, format!("endpoint create --service-name shop --vpc {vpc} --address {ENDPOINT}"))?;
        }
        tell.doing("waiting for the first health checks");
        for group in ["web", "ssh-web-1", "ssh-web-2"] {
            scenario.wait_healthy(group)?;
        }
        tell.shown("3 web and 2 ssh targets are healthy: their checks took the same path that customers' packets take");
        Ok(())
    }

    /// The SHA-256 of the file for downloads.
    pub fn file_digest(&self) -> Result<String> {
        digest(&self.dir.path().join("file"))
    }

    /// Where steps may put files.
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Leaves everything up and says what to do with it.
    pub fn keep(self) -> Result<()> {
        let Self { web, ssh, scenario, dir } = self;
        let Scenario { agent, cli, topology } = scenario;
        let lb = topology.lb.name().to_owned();
        let privatelink = format!("ip netns exec {lb} {} --socket {}", cli.program().display(), cli.socket().display());
        let key = dir.path().join("web-1-sshd/client");
        println!("\nEverything stays up. Commands to try, as root:\n");
        for line in [
            format!("ip netns exec {PREFIX}-client-a curl http://{ENDPOINT}/"),
            format!("ip netns exec {PREFIX}-client-b curl http://{ENDPOINT}/"),
            format!("ip netns exec {PREFIX}-client-a ssh -i {} -p 8022 root@{ENDPOINT}", key.display()),
            format!("ip netns exec {PREFIX}-web-1 tcpdump -ni eth0 port 8080"),
            format!("{privatelink} target health web --watch"),
            format!("{privatelink} flow list"),
            format!("{privatelink} stats --drops"),
            format!("{privatelink} target deregister web 10.0.1.12"),
        ] {
            println!("  {line}");
        }
        println!("\n`cargo xtask demo --remove` takes it down.");
        web.into_iter().for_each(Nginx::keep);
        ssh.into_iter().for_each(Sshd::keep);
        drop(cli);
        agent.keep();
        topology.keep()?;
        dir.keep();
        Ok(())
    }
}

/// Takes down what an earlier demo left up; whether there was anything.
pub fn remove_kept() -> bool {
    let mut found = false;
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) {
            found = true;
            cleanup::delete_namespace(&name);
        }
    }
    let dir = kept_dir();
    if dir.exists() {
        found = true;
        let bpf = dir.join("agent/bpf");
        if bpf.exists() {
            drop(Undo::register(Leftover::Mount(bpf)));
        }
        drop(Undo::register(Leftover::Directory(dir)));
    }
    found
}

/// `sha256sum` of a file: another program than the one under test.
pub fn digest(path: &Path) -> Result<String> {
    let output = std::process::Command::new("sha256sum").arg(path).output().context("starting sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.split_whitespace().next().map(str::to_owned).with_context(|| format!("hashing {}", path.display()))
}

fn kept_dir() -> PathBuf {
    std::env::temp_dir().join(PREFIX)
}

fn random_file(path: &Path) -> Result<PathBuf> {
    let random = std::fs::File::open("/dev/urandom").context("opening /dev/urandom")?;
    let mut file = std::fs::File::create(path).with_context(|| format!("creating {}", path.display()))?;
    std::io::copy(&mut std::io::Read::take(random, FILE_BYTES as u64), &mut file).context("filling a file")?;
    Ok(path.to_owned())
}
