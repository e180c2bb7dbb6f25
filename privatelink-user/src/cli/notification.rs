//! `privatelink notification`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};

use super::{
    CliError, Session,
    output::{list, table},
    value,
};
use crate::{
    control::{
        Reference,
        notifications::{
            CreateConnectionNotification, DeleteConnectionNotification, DescribeConnectionNotifications,
            ModifyConnectionNotification,
        },
    },
    model::{ConnectionEvent, ConnectionNotification, NotificationId, NotificationSubject, NotificationTarget},
};

const AFTER_HELP: &str = "\
A target is one that the agent was started with (`privatelink agent --notify [TOPIC=]TARGET`):
  arn:aws:sns:REGION:ACCOUNT:NAME   a topic: what --notify says that it stands for
  https://HOST/PATH                 a POST of the message as JSON; http:// too
  file:/PATH                        a line of JSON is appended
  exec:/PATH                        the program is run with the message as its input, without arguments and without a shell

Each message is tried five times within about a minute, in order, and waits for an agent that is away. One may come twice, with
the same id.";

#[derive(Debug, Subcommand)]
#[command(after_long_help = AFTER_HELP)]
pub enum NotificationCommand {
    /// Tell a target what happens to the endpoints of a service, or to one endpoint.
    Create(CreateArgs),
    /// List the notifications.
    List,
    /// Change a notification's target or events.
    Modify(ModifyArgs),
    /// Delete a notification, and what still waits for it.
    Delete {
        /// Id.
        #[arg(value_parser = value::parse::<NotificationId>)]
        notification: NotificationId,
    },
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Of every endpoint that leads to this service of yours.
    #[arg(long, value_name = "SERVICE", value_parser = value::reference, required_unless_present = "endpoint")]
    endpoint_service: Option<Reference>,
    /// Of this endpoint of yours.
    #[arg(long, value_parser = value::reference, conflicts_with = "endpoint_service")]
    endpoint: Option<Reference>,
    /// Who is told.
    #[arg(long, value_parser = value::parse::<NotificationTarget>)]
    target: NotificationTarget,
    /// Accept, Connect, Delete or Reject. May be repeated; without it, all of them.
    #[arg(long = "event", value_name = "EVENT", value_parser = value::parse::<ConnectionEvent>)]
    events: Vec<ConnectionEvent>,
}

#[derive(Debug, Args)]
pub struct ModifyArgs {
    /// Id.
    #[arg(value_parser = value::parse::<NotificationId>)]
    notification: NotificationId,
    /// Who is told from now on.
    #[arg(long, value_parser = value::parse::<NotificationTarget>, required_unless_present = "events")]
    target: Option<NotificationTarget>,
    /// An event instead of the present ones. May be repeated.
    #[arg(long = "event", value_name = "EVENT", value_parser = value::parse::<ConnectionEvent>)]
    events: Vec<ConnectionEvent>,
}

impl NotificationCommand {
    pub async fn run(self, session: &mut Session) -> Result<(), CliError> {
        match self {
            Self::Create(CreateArgs { endpoint_service, endpoint, target, events }) => {
                let events = if events.is_empty() { ConnectionEvent::ALL.to_vec() } else { events };
                let events: BTreeSet<ConnectionEvent> = events.into_iter().collect();
                let request = CreateConnectionNotification { endpoint_service, endpoint, target, events };
                let made = session.client.call(&request).await?;
                session.output.show(&made, |made| rows([made]))
            }
            Self::List => {
                let request = DescribeConnectionNotifications { notifications: None };
                let notifications = session.client.call(&request).await?;
                session.output.show(&notifications, |notifications| rows(notifications))
            }
            Self::Modify(ModifyArgs { notification, target, events }) => {
                let events = Some(events.into_iter().collect()).filter(|events: &BTreeSet<_>| !events.is_empty());
                let request = ModifyConnectionNotification { notification, target, events };
                let changed = session.client.call(&request).await?;
                session.output.show(&changed, |changed| rows([changed]))
            }
            Self::Delete { notification } => {
                session.client.call(&DeleteConnectionNotification { notification: notification.clone() }).await?;
                session.output.done(&format!("deleted notification {notification}"))
            }
        }
    }
}

fn rows<'a>(notifications: impl IntoIterator<Item = &'a ConnectionNotification>) -> String {
    table(
        ["ID", "ABOUT", "EVENTS", "TARGET"],
        notifications.into_iter().map(|one| {
            let ConnectionNotification { id, owner: _, subject, target, events, created_at: _ } = one;
            let about = match subject {
                NotificationSubject::EndpointService(service) => service.to_string(),
                NotificationSubject::Endpoint(endpoint) => endpoint.to_string(),
            };
            [id.to_string(), about, list(events), target.to_string()]
        }),
    )
}
