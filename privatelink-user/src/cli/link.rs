//! `privatelink link`.

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{fields, list, table},
    value,
};
use crate::{
    control::{
        Reference,
        links::{CreateLink, DeleteLink, DescribeLinks, LinkSideSpec},
        view::{LinkSideView, LinkView},
    },
    model::ResourceName,
};

#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// Link two VPCs both ways: both services, both endpoints and both consents, or nothing. Doing it again changes
    /// nothing.
    Create(CreateArgs),
    /// List the links.
    List,
    /// Show one link.
    Describe {
        /// Name or id.
        #[arg(value_parser = value::reference)]
        link: Reference,
    },
    /// Delete a link with its services and endpoints; its flows end.
    Delete {
        /// Name or id.
        #[arg(value_parser = value::reference)]
        link: Reference,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The link's name; its services are NAME-1 and NAME-2.
    #[arg(value_parser = value::parse::<ResourceName>)]
    name: ResourceName,
    /// One VPC's part, given twice: vpc=VPC,target=IP:PORT[,target=...],address=IP. The targets are what the other side
    /// reaches, the address (optional) is by which the other side's targets are reached here. Also: port=N and
    /// protocol=TCP|UDP|TCP_UDP of the targets, node=IP (the only source that they see), security-group=GROUP (who here
    /// may reach the other side).
    #[arg(long = "side", value_name = "KEY=VALUE,...", required = true, value_parser = value::parse::<LinkSideSpec>)]
    sides: Vec<LinkSideSpec>,
}

impl LinkCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { name, sides }) => {
                let sides = sides.try_into().map_err(|sides: Vec<LinkSideSpec>| CliError::Input {
                    message: format!("a link has two sides, and --side is given {} times", sides.len()),
                    hint: "give --side once for each of the two VPCs".to_owned(),
                })?;
                let link = session.client.call(&CreateLink { name, sides }).await?;
                session.output.show(&link, describe)
            }
            Self::List => {
                let links = session.client.call(&DescribeLinks { links: None }).await?;
                session.output.show(&links, |links| rows(links))
            }
            Self::Describe { link } => {
                let links = session.client.call(&DescribeLinks { links: Some(vec![link]) }).await?;
                links.iter().try_for_each(|link| session.output.show(link, describe))
            }
            Self::Delete { link } => {
                session.client.call(&DeleteLink { link: link.clone() }).await?;
                session.output.done(&format!("deleted link {}", link.as_str()))
            }
        }
    }
}

/// A side in a line: where the other side's targets are reached in its VPC, and what it publishes to the other side.
fn side(side: &LinkSideView) -> String {
    let LinkSideView { vpc_name, address, port, protocol, reaches, service: _, endpoint: _, state, dns_names: _ } =
        side;
    format!("{vpc_name}: {address} ({protocol} {port}) leads to {}, {state}", list(reaches))
}

fn rows(links: &[LinkView]) -> String {
    table(
        ["NAME", "SIDE", "OTHER SIDE"],
        links.iter().map(|link| {
            let [first, second] = &link.sides;
            [link.name.to_string(), side(first), side(second)]
        }),
    )
}

fn describe(link: &LinkView) -> String {
    let LinkView { id, owner: _, name, sides: [first, second], created_at } = link;
    fields([
        ("Name", name.to_string()),
        ("ID", id.to_string()),
        ("One side", side(first)),
        ("  service, endpoint", format!("{}, {}", first.service, first.endpoint)),
        ("  DNS names", list(&first.dns_names)),
        ("Other side", side(second)),
        ("  service, endpoint", format!("{}, {}", second.service, second.endpoint)),
        ("  DNS names", list(&second.dns_names)),
        ("Created", created_at.to_string()),
    ])
}
