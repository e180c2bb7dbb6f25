//! `privatelink instance`.

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, or_dash, table},
    value,
};
use crate::{
    control::{
        Reference,
        instances::{
            DeregisterInstances, DescribeInstances, InstanceTransition, ModifyInstance, RegisterInstance,
            StartInstances, StopInstances,
        },
        view::InstanceView,
    },
    model::ResourceName,
};

#[derive(Debug, Subcommand)]
pub enum InstanceCommand {
    /// Register a host, namespace or container as an instance. Doing it again with the same settings changes nothing.
    Register(RegisterArgs),
    /// List the instances.
    List,
    /// Show one instance.
    Describe {
        /// Name or id.
        #[arg(value_parser = value::reference)]
        instance: Reference,
    },
    /// Change the security groups that an instance carries.
    Modify(ModifyArgs),
    /// Let stopped instances take traffic again.
    Start(InstancesArgs),
    /// Take instances out of service: they stay registered, get no new flows, and their open ones are reset.
    Stop(InstancesArgs),
    /// Forget instances; their names and addresses are free again.
    Deregister(DeregisterArgs),
}

#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The instance's name: 1 to 32 letters, digits and inner hyphens.
    #[arg(value_parser = value::parse::<ResourceName>)]
    name: ResourceName,
    /// The VPC in which it is; name or id.
    #[arg(long, value_parser = value::reference, required_unless_present = "subnet")]
    vpc: Option<Reference>,
    /// The subnet that its addresses are in; id.
    #[arg(long, value_parser = value::reference)]
    subnet: Option<Reference>,
    /// An address that the host has; may be given several times, the primary one first [default: the first free one,
    /// which the host must then be given].
    #[arg(long = "address", value_name = "IP", value_parser = value::address)]
    addresses: Vec<Ipv4Addr>,
    /// A security group whose rules mean the instance when they name the group as peer; may be given several times.
    #[arg(long = "security-group", value_name = "GROUP", value_parser = value::reference)]
    security_groups: Vec<Reference>,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// Name or id.
    #[arg(value_parser = value::reference)]
    instance: Reference,
    /// A security group that it carries from now on; may be given several times.
    #[arg(long = "security-group", value_name = "GROUP", value_parser = value::reference, required_unless_present = "no_security_groups")]
    security_groups: Vec<Reference>,
    /// It carries none.
    #[arg(long, conflicts_with = "security_groups")]
    no_security_groups: bool,
}

#[derive(Debug, Args)]
pub struct InstancesArgs {
    /// Names or ids.
    #[arg(required = true, value_parser = value::reference)]
    instances: Vec<Reference>,
}

#[derive(Debug, Args)]
pub struct DeregisterArgs {
    /// Names or ids.
    #[arg(required = true, value_parser = value::reference)]
    instances: Vec<Reference>,
    /// Also deregister them as targets; they drain.
    #[arg(long)]
    force: bool,
}

impl InstanceCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Register(RegisterArgs { name, vpc, subnet, addresses, security_groups }) => {
                let request = RegisterInstance {
                    name: Some(name),
                    vpc,
                    subnet,
                    addresses,
                    security_groups,
                    ..RegisterInstance::default()
                };
                let instance = session.client.call(&request).await?;
                session.output.show(&instance, |instance| rows([instance]))
            }
            Self::List => {
                let instances = session.client.call(&DescribeInstances { instances: None }).await?;
                session.output.show(&instances, |instances| rows(instances))
            }
            Self::Describe { instance } => {
                let found = session.client.call(&DescribeInstances { instances: Some(vec![instance]) }).await?;
                found.iter().try_for_each(|instance| session.output.show(instance, describe))
            }
            Self::Modify(ModifyArgs { instance, security_groups, no_security_groups: _ }) => {
                let changed = session.client.call(&ModifyInstance { instance, security_groups }).await?;
                session.output.show(&changed, describe)
            }
            Self::Start(InstancesArgs { instances }) => {
                let done = session.client.call(&StartInstances { instances }).await?;
                session.output.show(&done, |done| transitions(done))
            }
            Self::Stop(InstancesArgs { instances }) => {
                let done = session.client.call(&StopInstances { instances }).await?;
                session.output.show(&done, |done| transitions(done))
            }
            Self::Deregister(DeregisterArgs { instances, force }) => {
                let done = session.client.call(&DeregisterInstances { instances, force }).await?;
                session.output.show(&done, |done| transitions(done))
            }
        }
    }
}

fn transitions(done: &[InstanceTransition]) -> String {
    table(
        ["NAME", "BEFORE", "NOW", "ID"],
        done.iter().map(|InstanceTransition { id, name, previous, current }| {
            [name.to_string(), previous.to_string(), current.to_string(), id.to_string()]
        }),
    )
}

fn rows<'a>(instances: impl IntoIterator<Item = &'a InstanceView>) -> String {
    table(
        ["NAME", "VPC", "ADDRESSES", "STATE", "TARGET GROUPS", "ID"],
        instances.into_iter().map(|instance| {
            [
                instance.name.to_string(),
                instance.vpc_name.clone(),
                list(&instance.addresses),
                instance.state.to_string(),
                list(&instance.target_groups),
                instance.id.to_string(),
            ]
        }),
    )
}

fn describe(instance: &InstanceView) -> String {
    let InstanceView {
        id,
        name,
        vpc: _,
        vpc_name,
        subnet,
        addresses,
        state,
        security_groups: _,
        security_group_names,
        target_groups,
        image_id,
        instance_type,
        created_at,
    } = instance;
    fields([
        ("Name", name.to_string()),
        ("ID", id.to_string()),
        ("VPC", vpc_name.clone()),
        ("Subnet", or_dash(subnet.as_ref())),
        ("Addresses", list(addresses)),
        ("State", state.to_string()),
        ("Security groups", list(security_group_names)),
        ("Target groups", list(target_groups)),
        ("Image", or_dash(image_id.as_ref())),
        ("Type", or_dash(instance_type.as_ref())),
        ("Created", created_at.to_string()),
    ])
}
