//! `privatelink target-group`.

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, table},
    value,
};
use crate::{
    control::{
        Reference,
        cascade::{DeleteCascading, Doomed},
        target_groups::{
            CreateTargetGroup, DeleteTargetGroup, DescribeTargetGroups, HealthCheckSettings, ModifyTargetGroup,
        },
        view::TargetGroupView,
    },
    model::{
        AttributeMap as _, GroupProtocol, HealthCheckPort, HealthCheckProtocol, HttpPath, IpFamily, Matcher,
        ResourceName, Target, TargetGroupAttributes, TargetType,
    },
};

#[derive(Debug, Subcommand)]
pub enum TargetGroupCommand {
    /// Make a target group. Doing it again with the same settings changes nothing.
    Create(CreateArgs),
    /// List the target groups.
    List,
    /// Show one target group.
    Describe {
        /// Name or ARN.
        #[arg(value_parser = value::reference)]
        target_group: Reference,
    },
    /// Change a target group's health check or attributes.
    Modify(ModifyArgs),
    /// Delete a target group that no listener uses, with its targets.
    Delete {
        /// Name or ARN.
        #[arg(value_parser = value::reference)]
        target_group: Reference,
        /// Also delete the listeners that lead nowhere else, and say what has gone.
        #[arg(long)]
        cascade: bool,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The group's name: 1 to 32 letters, digits and inner hyphens.
    #[arg(value_parser = value::parse::<ResourceName>)]
    name: ResourceName,
    /// The VPC in which the targets' addresses are meant; name or id.
    #[arg(long, value_parser = value::reference)]
    vpc: Reference,
    /// What targets are: ip (addresses), or instance (registered instances, by name or id).
    #[arg(long, default_value_t, value_parser = value::parse::<TargetType>)]
    target_type: TargetType,
    /// The family of its targets' addresses: ipv4, or ipv6 (type ip only, behind load balancers with IPv6 addresses).
    #[arg(long, default_value_t, value_parser = value::parse::<IpFamily>)]
    ip_address_type: IpFamily,
    /// TCP, UDP, TCP_UDP or TLS; health is checked over TCP or HTTP in any case. HTTP and HTTPS are for groups behind
    /// load balancers of type application, which are records.
    #[arg(long, value_parser = value::parse::<GroupProtocol>)]
    protocol: GroupProtocol,
    /// The port of a target that is registered without one.
    #[arg(long, value_name = "N", value_parser = value::port)]
    port: u16,
    #[command(flatten)]
    health_check: HealthCheckArgs,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// Name or ARN.
    #[arg(value_parser = value::reference)]
    target_group: Reference,
    #[command(flatten)]
    health_check: HealthCheckArgs,
    #[command(flatten)]
    attributes: AttributeArgs,
}

#[derive(Debug, Args)]
struct AttributeArgs {
    /// Set an attribute; may be given several times.
    #[arg(long = "attribute", value_name = "KEY=VALUE", value_parser = value::attribute)]
    #[arg(long_help = format!("Set an attribute; may be given several times. The keys:\n{}", TargetGroupAttributes::help()))]
    attributes: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Health check")]
struct HealthCheckArgs {
    /// TCP: a connection that is accepted passes. HTTP, HTTPS: an answer with a matching code passes; certificates are
    /// not validated [default: TCP].
    #[arg(long, value_name = "PROTOCOL", value_parser = value::parse::<HealthCheckProtocol>)]
    health_check_protocol: Option<HealthCheckProtocol>,
    /// A number, or traffic-port for the port that each target is registered with [default: traffic-port].
    #[arg(long, value_name = "N", value_parser = value::parse::<HealthCheckPort>)]
    health_check_port: Option<HealthCheckPort>,
    /// What an HTTP or HTTPS check asks for [default: /].
    #[arg(long, value_name = "PATH", value_parser = value::parse::<HttpPath>)]
    health_check_path: Option<HttpPath>,
    /// Seconds between two checks of a target, 5 to 300 [default: 30].
    #[arg(long, value_name = "SECONDS", value_parser = value::number)]
    health_check_interval: Option<u32>,
    /// Seconds until a check has failed, 2 to 120, at most the interval [default: 10 for TCP and HTTPS, 6 for HTTP].
    #[arg(long, value_name = "SECONDS", value_parser = value::number)]
    health_check_timeout: Option<u32>,
    /// Checks in a row that make an unhealthy target healthy, 2 to 10 [default: 5].
    #[arg(long, value_name = "N", value_parser = value::number)]
    healthy_threshold: Option<u32>,
    /// Checks in a row that make a healthy target unhealthy, 2 to 10 [default: 2].
    #[arg(long, value_name = "N", value_parser = value::number)]
    unhealthy_threshold: Option<u32>,
    /// The codes that pass, such as 200,202 or 200-299 [default: 200-399].
    #[arg(long, value_name = "CODES", value_parser = value::parse::<Matcher>)]
    matcher: Option<Matcher>,
}

impl From<HealthCheckArgs> for HealthCheckSettings {
    fn from(args: HealthCheckArgs) -> Self {
        let HealthCheckArgs {
            health_check_protocol: protocol,
            health_check_port: port,
            health_check_path: path,
            health_check_interval: interval,
            health_check_timeout: timeout,
            healthy_threshold,
            unhealthy_threshold,
            matcher,
        } = args;
        Self { protocol, port, path, interval, timeout, healthy_threshold, unhealthy_threshold, matcher }
    }
}

impl TargetGroupCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(args) => {
                let CreateArgs { name, vpc, target_type, ip_address_type, protocol, port, health_check, attributes } =
                    args;
                let request = CreateTargetGroup {
                    name,
                    vpc,
                    target_type,
                    ip_address_type,
                    protocol,
                    port,
                    health_check: health_check.into(),
                    attributes: attributes.attributes.into_iter().collect(),
                };
                let group = session.client.call(&request).await?;
                session.output.show(&group, |group| rows([group]))
            }
            Self::List => {
                let groups = session.client.call(&DescribeTargetGroups { target_groups: None }).await?;
                session.output.show(&groups, |groups| rows(groups))
            }
            Self::Describe { target_group } => {
                let request = DescribeTargetGroups { target_groups: Some(vec![target_group]) };
                let groups = session.client.call(&request).await?;
                groups.iter().try_for_each(|group| session.output.show(group, describe))
            }
            Self::Modify(ModifyArgs { target_group, health_check, attributes }) => {
                let health_check = HealthCheckSettings::from(health_check);
                if health_check == HealthCheckSettings::default() && attributes.attributes.is_empty() {
                    return Err(CliError::Input {
                        message: format!("nothing to change on target group '{}' was given", target_group.as_str()),
                        hint: "give a health check setting, or --attribute KEY=VALUE; --help lists them".to_owned(),
                    });
                }
                let attributes = attributes.attributes.into_iter().collect();
                let group = session.client.call(&ModifyTargetGroup { target_group, health_check, attributes }).await?;
                session.output.show(&group, describe)
            }
            Self::Delete { target_group, cascade: true } => {
                let gone =
                    session.client.call(&DeleteCascading { resource: Doomed::TargetGroup(target_group) }).await?;
                session.output.show(&gone, |gone| gone.iter().map(|one| format!("deleted {one}\n")).collect())
            }
            Self::Delete { target_group, cascade: false } => {
                session.client.call(&DeleteTargetGroup { target_group: target_group.clone() }).await?;
                session.output.done(&format!("deleted target group {}", target_group.as_str()))
            }
        }
    }
}

fn rows<'a>(groups: impl IntoIterator<Item = &'a TargetGroupView>) -> String {
    table(
        ["NAME", "VPC", "PROTOCOL", "PORT", "TARGETS", "LISTENERS", "ARN"],
        groups.into_iter().map(|group| {
            [
                group.name.to_string(),
                group.vpc_name.clone(),
                group.protocol.to_string(),
                group.port.to_string(),
                group.targets.len().to_string(),
                list(&group.listeners),
                group.id.to_string(),
            ]
        }),
    )
}

fn describe(group: &TargetGroupView) -> String {
    let TargetGroupView {
        id,
        name,
        vpc: _,
        vpc_name,
        target_type,
        ip_address_type,
        protocol,
        port,
        health_check,
        attributes,
        load_balancer,
        targets,
        dns_targets,
        listeners,
        created_at,
    } = group;
    let check = format!(
        "{} on port {}, every {} s, timeout {} s, healthy after {}, unhealthy after {}",
        health_check.protocol,
        health_check.port,
        health_check.interval,
        health_check.timeout,
        health_check.healthy_threshold,
        health_check.unhealthy_threshold
    );
    let check = match health_check.protocol {
        HealthCheckProtocol::Tcp => check,
        HealthCheckProtocol::Http | HealthCheckProtocol::Https => {
            format!("{check}, path {}, codes {}", health_check.path, health_check.matcher)
        }
    };
    fields([
        ("Name", name.to_string()),
        ("ARN", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Target type", target_type.to_string()),
        ("IP address type", ip_address_type.to_string()),
        ("Protocol and port", format!("{protocol} {port}")),
        ("Health check", check),
        ("Attributes", list(attributes.iter().map(|(key, value)| format!("{key}={value}")))),
        ("Targets", list(load_balancer.iter().map(ToString::to_string).chain(targets.iter().map(shown)))),
        ("Names followed", list(dns_targets)),
        ("Listeners", list(listeners)),
        ("Created", created_at.to_string()),
    ])
}

fn shown(target: &Target) -> String {
    match (&target.instance, &target.dns_name) {
        (Some(instance), _) => format!("{instance} ({})", target.address),
        (None, Some(name)) => format!("{} ({name})", target.address),
        (None, None) => target.address.to_string(),
    }
}
