//! HTTPS through an endpoint: `cargo xtask demo https`.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use privatelink_tests::{
    daemon::Agent,
    dns::{Dnsmasq, Resolver},
    eventually::eventually,
    programs::{Directory, Nginx, Running},
    scenario::{ENDPOINT, NODE, Scenario, Service, program, text},
    topology::{Hook, HostPlan, Topology, VpcPlan},
};
use serde_json::Value;

use crate::narrate::{Narrator, Tell};

const NAME: &str = "privatelink.shop.example.org";
/// Who is asked for the TXT record.
const VERIFIER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_301);
/// The DNS server of every VPC here.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FILE_BYTES: u64 = 48 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything that is up while the demo runs.
struct Stage {
    nginx: Nginx,
    scenario: Scenario,
    dir: Directory,
    resolver: Resolver,
    dns: Option<Dnsmasq>,
}

/// Whether every step succeeded.
pub fn run() -> Result<bool> {
    let mut narrator = Narrator::default();
    println!(
        "privatelink: a server that speaks HTTP only is reached by HTTPS from another network, by a name of its owner's.\n"
    );
    let mut stage = narrator.step("Two networks with the same addresses, and the agent between them", Stage::set)?;
    narrator.step("A certificate, a TLS listener, and a service with a name of its own", |tell| stage.publish(tell))?;
    let acts: [(&str, fn(&mut Stage, &mut Tell) -> Result<()>); 3] = [
        ("The consumer opens the page by that name", Stage::fetch),
        ("A download outlives the agent, and the certificate is replaced meanwhile", Stage::outlive),
        ("What the server saw, and what was logged", Stage::logs),
    ];
    for (title, act) in acts {
        // Its failure is already told and counted.
        let _ = narrator.step(title, |tell| act(&mut stage, tell));
    }
    println!("{}", narrator.summary());
    if narrator.failed() {
        println!("\n{}", stage.scenario.diagnosis());
    }
    Ok(!narrator.failed())
}

impl Stage {
    fn set(tell: &mut Tell) -> Result<Self> {
        let dir = Directory::new("https")?;
        let plans = vec![
            VpcPlan::new("consumer", vec![HostPlan::new("client", 1, 10)]),
            VpcPlan::new("provider", vec![HostPlan::new("server", 1, 10)]),
        ];
        let topology = Topology::build(Hook::Auto, plans, None)?;
        let server = topology.host("server");
        let address = SocketAddrV4::new(server.address(), 8080);
        let nginx =
            Nginx::start(&server.netns, Directory::new("httpd")?, address, "a page in clear from a private network\n")?;
        fs::write(nginx.root().join("file"), vec![7; usize::try_from(FILE_BYTES)?])
            .context("the file for downloads")?;
        tell.doing(
            "client is 10.0.1.10 in one network, server is 10.0.1.10 in the other; nginx speaks HTTP on port 8080",
        );
        let log = dir.path().join("access.log").display().to_string();
        let arguments = vec![format!("--dns-verification-resolver={VERIFIER}"), "--access-log".to_owned(), log];
        let agent = Agent::start_with_arguments(&program()?, &topology.lb, arguments)?;
        let scenario = Scenario::configure(topology, agent)?;
        Ok(Self { nginx, scenario, dir, resolver: Resolver::new(SECOND)?, dns: None })
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn command(&self, tell: &mut Tell, line: &str) -> Result<Value> {
        tell.command(line);
        self.scenario.cli.run(line)
    }

    fn publish(&mut self, tell: &mut Tell) -> Result<()> {
        let targets = vec![self.scenario.topology.host("server").address()];
        let service = self.scenario.publish(&Service::new("shop", "provider", targets))?;
        let made = self.command(tell, &format!("certificate create-lab {NAME} --ca {}", self.path("ca")))?;
        let until = text(&made, "not_after")?.split('T').next().unwrap_or_default().to_owned();
        self.command(
            tell,
            &format!("listener create shop --protocol TLS --port 443 --target-group shop --certificate {NAME}"),
        )?;
        tell.shown(format!("a certificate for {NAME}, valid until {until}, and a listener that shows it"));
        let made = self.command(tell, &format!("endpoint-service modify shop --private-dns-name {NAME}"))?;
        let value = text(&made["private_dns"], "record_value")?;
        let records = ["--local=/org/".to_owned(), format!("--txt-record={NAME},{value}")];
        self.dns = Some(Dnsmasq::start(&self.scenario.topology.lb, VERIFIER, &records)?);
        tell.doing(format!("the owner of the domain publishes: {NAME} TXT \"{value}\""));
        self.command(tell, "endpoint-service verify-domain shop")?;
        let endpoint = self.scenario.endpoint(&service, "consumer", ENDPOINT)?;
        self.command(tell, &format!("endpoint modify {endpoint} --private-dns true"))?;
        self.scenario.wait_healthy("shop")
    }

    /// `curl ARGS` by the consumer, which asks its VPC's DNS server and trusts the lab's authority.
    fn curl(&self, args: &[&str]) -> Result<String> {
        let ca = self.path("ca/ca.pem");
        self.resolver.curl(&self.scenario.topology.host("client").netns, &[&["--cacert", &ca], args].concat())
    }

    fn fetch(&mut self, tell: &mut Tell) -> Result<()> {
        let url = format!("https://{NAME}/");
        tell.doing(format!("client: curl {url}"));
        let page = eventually("the page comes", PATIENCE, || self.curl(&[&url]))?;
        tell.shown(format!("“{}”, and the certificate was validated", page.trim()));
        let verdict = self.curl(&[
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_version} %{ssl_verify_result} %{remote_ip}",
            &url,
        ])?;
        ensure!(verdict.ends_with(&format!(" 0 {ENDPOINT}")), "{verdict}");
        tell.shown(format!("the name led to {ENDPOINT}, the endpoint in the consumer's own network"));
        ensure!(self.curl(&[&format!("http://{ENDPOINT}:443/")]).is_err(), "clear HTTP was served on the TLS port");
        tell.shown("clear HTTP to the same port is refused");
        Ok(())
    }

    fn outlive(&mut self, tell: &mut Tell) -> Result<()> {
        let file = self.path("download");
        let length = || fs::metadata(&file).map_or(0, |file| file.len());
        let client = &self.scenario.topology.host("client").netns;
        let mut command = self.resolver.command(client, "curl");
        command.args(["--silent", "--show-error", "--fail", "--limit-rate", "12M", "--output", &file, "--cacert"]);
        command.arg(self.path("ca/ca.pem")).arg(format!("https://{NAME}/file"));
        let download = Running::start(command.stdin(Stdio::null()))?;
        eventually("the download begins", PATIENCE, || {
            ensure!(length() > 0);
            Ok(())
        })?;
        self.scenario.agent.kill()?;
        let killed = length();
        tell.doing(format!("agent killed (SIGKILL); the download had {} MiB of {}", killed >> 20, FILE_BYTES >> 20));
        eventually("the download goes on", PATIENCE, || {
            ensure!(length() > killed + (4 << 20));
            Ok(())
        })?;
        tell.shown(format!(
            "no agent: the download reached {} MiB, because the relay is a process of its own",
            length() >> 20
        ));
        let took = self.scenario.agent.start_again()?;
        tell.doing(format!("a new agent answered after {:.1} s", took.as_secs_f32()));
        self.command(tell, &format!("certificate create-lab {NAME} --replace {NAME} --ca {}", self.path("ca")))?;
        self.curl(&[&format!("https://{NAME}/")])?;
        let output = download.wait()?;
        ensure!(output.status.success() && length() == FILE_BYTES, "the download has {} bytes", length());
        tell.shown("the download arrived whole");
        Ok(())
    }

    fn logs(&mut self, tell: &mut Tell) -> Result<()> {
        let clients = self.nginx.logged_clients(1)?;
        ensure!(clients.iter().all(|client| *client == NODE.to_string()), "{clients:?}");
        tell.shown(format!("the server's own log names only {NODE}, the load balancer: {} requests", clients.len()));
        let log = eventually("the connections are logged", PATIENCE, || {
            let log = fs::read_to_string(self.path("access.log")).context("the access log")?;
            ensure!(log.contains(NAME), "{log}");
            Ok(log)
        })?;
        let line = log.lines().find(|line| line.contains(NAME)).unwrap_or_default();
        tell.shown(format!("the access log has AWS's fields: {line}"));
        Ok(())
    }
}
