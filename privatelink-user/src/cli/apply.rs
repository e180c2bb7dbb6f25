//! `privatelink apply`.

use std::{io::Read as _, path::PathBuf};

use clap::Args;

use super::{CliError, Session};
use crate::control::apply::{Action, ApplyDeclaration, Declaration, Plan};

const AFTER_HELP: &str = r#"The file, with every resource that there is (what is optional stands with its default):

  [[vpc]]
  name = "provider"
  cidr = "10.0.0.0/16"
  gateway = "10.0.0.1"              # optional, none

  [[port]]
  interface = "veth-p"
  vpc = "provider"
  hook = "auto"                     # optional: auto, tc, xdp
  shared = false                    # optional

  [[security-group]]
  name = "web-clients"
  vpc = "consumer"
  description = "web clients"       # optional: the name
  ingress = [{ traffic = "tcp:80", peer = "10.0.0.0/8" }, { traffic = "all", peer = "web-clients" }]
  egress = [{ traffic = "all", peer = "0.0.0.0/0" }]   # optional: this
  apply-to-established = false      # optional: true ends open flows that the rules do not allow

  [[instance]]
  name = "web-1"
  vpc = "provider"
  addresses = ["10.0.1.12"]         # the primary one first
  security-groups = []              # optional: groups whose rules mean it as a peer

  [[target-group]]
  name = "web"
  vpc = "provider"
  target-type = "ip"                # optional: ip, instance (targets are then instances' names)
  protocol = "TCP"                  # optional
  port = 80
  health-check = { protocol = "TCP", port = "traffic-port", path = "/", interval = 30, timeout = 10,
                   healthy-threshold = 5, unhealthy-threshold = 2, matcher = "200-399" }
  attributes = { "deregistration_delay.timeout_seconds" = 300 }
  targets = ["10.0.1.10", "10.0.1.11:8080"]
  dns-targets = []                  # optional: names whose addresses are targets too: "db.example.com:5432"

  [[load-balancer]]
  name = "web"
  vpc = "provider"
  addresses = ["10.0.0.5"]
  security-groups = []              # optional
  enforce-on-private-link = true    # optional

  [[load-balancer.listener]]
  protocol = "TCP"                  # optional
  port = 80
  target-group = "web"              # or several: target-groups = ["web=70", "next=30"]
  stickiness = false                # optional: true keeps a client in one target group
  attributes = { "tcp.idle_timeout.seconds" = 350 }
  # protocol = "TLS" takes certificates = ["www.example.com"]: imported ones, by ARN or a name that each alone
  # is for, the first for clients without a server name; optional: ssl-policy, alpn-policy = "HTTP2Preferred"

  [[endpoint-service]]
  name = "shop"                     # optional: an alias
  load-balancer = "web"             # or a list; or addresses: vpc = "provider", targets = ["10.0.1.20:5432"],
                                    # and optional: protocol = "TCP", port = 5432 (the first target's)
  acceptance-required = false       # optional
  allowed-principals = []           # optional: "arn:aws:iam::222222222222:root", "*"
  accept = []                       # optional: consumers that are accepted without asking: "2222*", "vpce-..."
  reject = []                       # optional: ... and rejected
  private-dns-name = "api.example.com"   # optional, none
  limits = { connections = "none", connections-per-second = "none", bits-per-second = "none" }   # of each endpoint

  [[endpoint]]
  service-name = "shop"
  vpc = "consumer"
  address = "10.0.0.50"             # optional: the first free one
  security-groups = ["web-clients"] # optional: everybody in the VPC may connect
  aliases = []                      # optional: addresses and prefixes that are routed to it: "10.200.0.10/32"
  private-dns = false               # optional: true answers for the service's name, once it is accepted and verified

  [[link]]                          # two VPCs reach each other's targets
  name = "office"
  sides = ["vpc=provider,target=10.0.1.10:22,address=10.0.0.60", "vpc=consumer,target=10.0.1.20:22,address=10.0.0.61"]

The whole file is applied or nothing of it. A resource that it declares is made what the file says, in everything: what is left
out is its default, so a private DNS name that is not declared is removed (endpoints that answer for it keep it; setting it again
takes another verification), and principals, rules and aliases that are not listed go. A resource that it does not declare stays,
unless --prune is given. --dry-run shows all of that."#;

#[derive(Debug, Args)]
#[command(after_long_help = AFTER_HELP)]
pub struct ApplyArgs {
    /// The TOML file; - reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Only print the changes.
    #[arg(long)]
    dry_run: bool,
    /// Also remove the resources that the file does not declare; targets drain.
    #[arg(long)]
    prune: bool,
}

impl ApplyArgs {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        let Self { file, dry_run, prune } = self;
        let name = file.display().to_string();
        let text = if name == "-" {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        } else {
            std::fs::read_to_string(&file)
        };
        let text = text.map_err(|error| CliError::Input {
            message: format!("the file '{name}' cannot be read: {error}"),
            hint: "name a TOML file with -f FILE; `privatelink apply --help` shows its form".to_owned(),
        })?;
        let declaration = parse(&name, &text)?;
        let plan = session.client.call(&ApplyDeclaration { declaration, prune, dry_run }).await?;
        session.output.show(&plan, |plan| changes(plan, dry_run))
    }
}

/// What the file declares; a refusal shows the line.
pub(super) fn parse(name: &str, text: &str) -> Result<Declaration, CliError> {
    toml::from_str(text).map_err(|error| CliError::Input {
        message: format!("the file '{name}' is not a declaration: {}", error.to_string().trim_end()),
        hint: "`privatelink apply --help` shows every resource and field".to_owned(),
    })
}

/// A line for each change.
pub(super) fn changes(plan: &Plan, dry_run: bool) -> String {
    if plan.steps.is_empty() {
        return "nothing to change".to_owned();
    }
    let line = |step: &crate::control::apply::Step| {
        let sign = match step.action {
            Action::Create => '+',
            Action::Modify => '~',
            Action::Delete => '-',
        };
        let detail = if step.detail.is_empty() { String::new() } else { format!(" ({})", step.detail) };
        format!("{sign} {} {}{detail}", step.kind, step.name)
    };
    let mut lines: Vec<String> = plan.steps.iter().map(line).collect();
    let changes = if lines.len() == 1 { "change" } else { "changes" };
    lines.push(format!("{} {changes}{}", lines.len(), if dry_run { ", not made (--dry-run)" } else { "" }));
    lines.join("\n")
}
