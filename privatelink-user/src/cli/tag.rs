//! `privatelink tag`.

use std::collections::BTreeMap;

use clap::Subcommand;

use super::{CliError, Session, output::table, value};
use crate::{
    control::tags::{CreateTags, DeleteTags, DescribeTags, TagView},
    model::{TagKey, TagValue, TaggedId},
};

#[derive(Debug, Subcommand)]
pub enum TagCommand {
    /// Put tags on a resource, over those of the same keys.
    Add {
        /// Its id or ARN.
        #[arg(value_parser = value::parse::<TaggedId>)]
        resource: TaggedId,
        /// KEY=VALUE. May be repeated.
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = tag)]
        tags: Vec<(TagKey, TagValue)>,
    },
    /// Take tags off a resource.
    Remove {
        /// Its id or ARN.
        #[arg(value_parser = value::parse::<TaggedId>)]
        resource: TaggedId,
        /// The tags' keys.
        #[arg(required = true, value_name = "KEY", value_parser = value::parse::<TagKey>)]
        keys: Vec<TagKey>,
    },
    /// List tags, of all resources or of one.
    List {
        /// Its id or ARN.
        #[arg(value_parser = value::parse::<TaggedId>)]
        resource: Option<TaggedId>,
    },
}

/// `KEY=VALUE`; the value may be empty.
fn tag(argument: &str) -> Result<(TagKey, TagValue), String> {
    let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
    Ok((value::parse(key)?, value::parse(value)?))
}

impl TagCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Add { resource, tags } => {
                let tags: BTreeMap<TagKey, TagValue> = tags.into_iter().collect();
                session.client.call(&CreateTags { resources: vec![resource.clone()], tags }).await?;
                session.output.done(&format!("tagged {resource}"))
            }
            Self::Remove { resource, keys } => {
                session.client.call(&DeleteTags { resources: vec![resource.clone()], keys }).await?;
                session.output.done(&format!("took tags off {resource}"))
            }
            Self::List { resource } => {
                let tags = session.client.call(&DescribeTags { resource }).await?;
                session.output.show(&tags, |tags| rows(tags))
            }
        }
    }
}

fn rows(tags: &[TagView]) -> String {
    table(
        ["RESOURCE", "KEY", "VALUE"],
        tags.iter().map(|TagView { resource, kind: _, key, value }| {
            [resource.to_string(), key.to_string(), value.to_string()]
        }),
    )
}
