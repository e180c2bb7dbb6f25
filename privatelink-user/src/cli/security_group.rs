//! `privatelink security-group`.

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, table},
    value,
};
use crate::{
    control::{
        Reference,
        security_groups::{
            AuthorizeSecurityGroup, CreateSecurityGroup, DeleteSecurityGroup, DescribeSecurityGroups,
            RevokeSecurityGroup, RuleSpec,
        },
        view::{SecurityGroupRuleView, SecurityGroupView},
    },
    model::{Direction, InvalidValue, Peer, SecurityGroupName, SecurityGroupRuleId, SecurityGroupText, Traffic},
};

const AFTER_HELP: &str = "\
What carries no security group is open to its whole VPC. What carries some lets in what a rule of one of them allows, and \
drops the rest without an answer; `privatelink stats` counts it as security_group_denied.

A group stands for what carries it: a rule with --source-group means the addresses of the load balancers and endpoints of the \
VPC that carry that group.

Inbound rules are held against the address of the client in its own VPC, and the listener's port. Outbound rules count for \
load balancers: what they may connect to, health checks too.";

#[derive(Debug, Subcommand)]
#[command(after_long_help = AFTER_HELP)]
pub enum SecurityGroupCommand {
    /// Make a security group: it lets nobody in, and out everywhere.
    Create(CreateArgs),
    /// List the security groups.
    List,
    /// Show one security group with its rules.
    Describe {
        /// Name, id, or VPC/NAME.
        #[arg(value_parser = value::reference)]
        security_group: Reference,
    },
    /// Delete a security group that nothing carries and no other group's rule names.
    Delete {
        /// Name, id, or VPC/NAME.
        #[arg(value_parser = value::reference)]
        security_group: Reference,
    },
    /// Add rules. They count for new flows at once.
    Authorize(AuthorizeArgs),
    /// Take rules away. Open flows go on, unless --apply-to-established is given.
    Revoke(RevokeArgs),
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The group's name: up to 255 letters, digits, spaces and ._-:/()#,@[]+=&;{}!$*; unique in its VPC.
    #[arg(value_parser = value::parse::<SecurityGroupName>)]
    name: SecurityGroupName,
    /// The VPC of what is to carry it; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// What it is for. Without it, the name.
    #[arg(long, value_parser = value::parse::<SecurityGroupText>)]
    description: Option<SecurityGroupText>,
}

/// One protocol with one or several ports and peers: a rule for each pair.
#[derive(Debug, Args)]
pub struct RuleArgs {
    /// all, tcp, udp, icmp, icmpv6, or a protocol number.
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    protocol: String,
    /// A port, or a range like 1000-2000; of icmp a type, or type/code like 3/4. Without it, all. May be repeated.
    #[arg(long, value_name = "PORT")]
    port: Vec<String>,
    /// The other end's addresses, IPv4 or IPv6, like 10.0.0.0/8. May be repeated.
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    cidr: Vec<Reference>,
    /// The other end is what carries this group of the same VPC; name or id. May be repeated.
    #[arg(long, value_name = "GROUP", value_parser = value::reference)]
    source_group: Vec<Reference>,
    /// Outbound instead of inbound: the peers are where it may connect to.
    #[arg(long)]
    egress: bool,
    /// End open flows that the group's rules do not allow. Without it they count for new flows only.
    #[arg(long)]
    apply_to_established: bool,
}

#[derive(Debug, Args)]
pub struct AuthorizeArgs {
    /// Name, id, or VPC/NAME.
    #[arg(value_parser = value::reference)]
    security_group: Reference,
    #[command(flatten)]
    rule: RuleArgs,
    /// What the rule is for.
    #[arg(long, value_parser = value::parse::<SecurityGroupText>)]
    description: Option<SecurityGroupText>,
}

#[derive(Debug, Args)]
pub struct RevokeArgs {
    /// Name, id, or VPC/NAME.
    #[arg(value_parser = value::reference)]
    security_group: Reference,
    /// Rules by id; otherwise they are named as they were authorized.
    #[arg(value_name = "RULE", value_parser = value::parse::<SecurityGroupRuleId>)]
    rule_ids: Vec<SecurityGroupRuleId>,
    #[command(flatten)]
    rule: RuleArgs,
}

fn cidr(argument: &str) -> Result<Reference, String> {
    match value::parse::<Peer>(argument)? {
        peer @ (Peer::Cidr(_) | Peer::PrefixList(_)) => Ok(peer.to_string().into()),
        Peer::Group(_) => Err(format!("'{argument}' is a security group; name it with --source-group")),
    }
}

impl RuleArgs {
    fn direction(&self) -> Direction {
        if self.egress { Direction::Egress } else { Direction::Ingress }
    }

    fn specs(&self, description: Option<&SecurityGroupText>) -> Result<Vec<RuleSpec>, InvalidValue> {
        let Self { protocol, port, cidr, source_group, egress: _, apply_to_established: _ } = self;
        let traffic: Vec<Traffic> = if port.is_empty() {
            vec![protocol.parse()?]
        } else {
            port.iter().map(|port| format!("{protocol}:{port}").parse()).collect::<Result<_, _>>()?
        };
        let peers = cidr.iter().chain(source_group);
        Ok(peers
            .flat_map(|peer| {
                traffic.iter().map(|traffic| RuleSpec {
                    traffic: *traffic,
                    peer: peer.clone(),
                    description: description.cloned(),
                })
            })
            .collect())
    }
}

fn unusable(invalid: InvalidValue) -> CliError {
    CliError::Input { message: invalid.to_string(), hint: invalid.hint }
}

impl SecurityGroupCommand {
    /// What is wrong with the rules that the command line names.
    #[cfg(test)]
    pub fn rule_error(&self) -> Option<CliError> {
        match self {
            Self::Authorize(AuthorizeArgs { rule, .. }) | Self::Revoke(RevokeArgs { rule, .. }) => {
                rule.specs(None).err().map(unusable)
            }
            Self::Create(_) | Self::List | Self::Describe { .. } | Self::Delete { .. } => None,
        }
    }

    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { name, vpc, description }) => {
                let group = session.client.call(&CreateSecurityGroup { name, vpc, description }).await?;
                session.output.show(&group, |group| rows([group]))
            }
            Self::List => {
                let groups = session.client.call(&DescribeSecurityGroups { security_groups: None }).await?;
                session.output.show(&groups, |groups| rows(groups))
            }
            Self::Describe { security_group } => {
                let request = DescribeSecurityGroups { security_groups: Some(vec![security_group]) };
                let groups = session.client.call(&request).await?;
                groups.iter().try_for_each(|group| session.output.show(group, describe))
            }
            Self::Delete { security_group } => {
                session.client.call(&DeleteSecurityGroup { security_group: security_group.clone() }).await?;
                session.output.done(&format!("deleted security group {}", security_group.as_str()))
            }
            Self::Authorize(AuthorizeArgs { security_group, rule, description }) => {
                let request = AuthorizeSecurityGroup {
                    security_group,
                    direction: rule.direction(),
                    rules: rule.specs(description.as_ref()).map_err(unusable)?,
                    apply_to_established: rule.apply_to_established,
                };
                let group = session.client.call(&request).await?;
                session.output.show(&group, describe)
            }
            Self::Revoke(RevokeArgs { security_group, rule_ids, rule }) => {
                let request = RevokeSecurityGroup {
                    security_group,
                    rule_ids,
                    direction: rule.direction(),
                    rules: rule.specs(None).map_err(unusable)?,
                    apply_to_established: rule.apply_to_established,
                };
                let group = session.client.call(&request).await?;
                session.output.show(&group, describe)
            }
        }
    }
}

fn rows<'a>(groups: impl IntoIterator<Item = &'a SecurityGroupView>) -> String {
    table(
        ["NAME", "ID", "VPC", "INBOUND", "OUTBOUND", "CARRIED BY"],
        groups.into_iter().map(|group| {
            [
                group.name.to_string(),
                group.id.to_string(),
                group.vpc_name.clone(),
                group.ingress.len().to_string(),
                group.egress.len().to_string(),
                list(&group.carried_by),
            ]
        }),
    )
}

fn describe(group: &SecurityGroupView) -> String {
    let SecurityGroupView {
        id,
        name,
        description,
        vpc: _,
        vpc_name,
        ingress,
        egress,
        carried_by,
        applies_to_established,
        created_at,
    } = group;
    let head = fields([
        ("Name", name.to_string()),
        ("ID", id.to_string()),
        ("Description", description.to_string()),
        ("VPC", vpc_name.clone()),
        ("Carried by", list(carried_by)),
        ("Ends open flows", if *applies_to_established { "yes" } else { "no" }.to_owned()),
        ("Created", created_at.to_string()),
    ]);
    let rule = |direction: &str, rule: &SecurityGroupRuleView| {
        [
            direction.to_owned(),
            rule.traffic.to_string(),
            rule.peer_name.clone().unwrap_or_else(|| rule.peer.to_string()),
            rule.id.to_string(),
            rule.description.as_ref().map_or_else(String::new, ToString::to_string),
        ]
    };
    let rules = table(
        ["DIRECTION", "TRAFFIC", "PEER", "RULE", "DESCRIPTION"],
        ingress.iter().map(|found| rule("ingress", found)).chain(egress.iter().map(|found| rule("egress", found))),
    );
    format!("{head}\n\n{rules}")
}
