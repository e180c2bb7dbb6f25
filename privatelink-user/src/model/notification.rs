//! Connection notifications: who is told when endpoints connect to a service, are accepted, rejected or deleted.

use std::{collections::BTreeSet, fmt, path::Path, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    AccountId, EndpointId, EndpointServiceId, InvalidValue, NoticeId, NotificationId, Owner, Region,
    invalid::{serde_as_text, text_value},
};

/// A wish to be told. It goes with what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionNotification {
    pub id: NotificationId,
    pub owner: Owner,
    pub subject: NotificationSubject,
    pub target: NotificationTarget,
    /// At least one.
    pub events: BTreeSet<ConnectionEvent>,
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// What a notification is about; its owner's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NotificationSubject {
    /// Every endpoint that leads to the service.
    EndpointService(EndpointServiceId),
    Endpoint(EndpointId),
}

/// What happens to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionEvent {
    /// The service's owner, or its lists, have accepted the endpoint.
    Accept,
    /// The endpoint is made.
    Connect,
    /// The endpoint is deleted.
    Delete,
    /// The service's owner, or its lists, have rejected the endpoint.
    Reject,
}

impl ConnectionEvent {
    /// Every event.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Connect, Self::Delete, Self::Reject];
}

impl fmt::Display for ConnectionEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accept => "Accept",
            Self::Connect => "Connect",
            Self::Delete => "Delete",
            Self::Reject => "Reject",
        })
    }
}

impl FromStr for ConnectionEvent {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|event| event.to_string().eq_ignore_ascii_case(text)).ok_or_else(|| {
            InvalidValue::new("Event", text, "must be one of '[Accept, Connect, Delete, Reject]'", "use Connect")
        })
    }
}

serde_as_text!(ConnectionEvent);

/// Where notifications go, as a request names it.
///
/// ```text
///  arn:aws:sns:REGION:ACCOUNT:NAME   a topic: what the agent's operator says that it stands for
///  https://HOST[:PORT]/PATH          a POST of the message; http:// too
///  file:/PATH                        a line is appended
///  exec:/PATH                        the program is run, without arguments and shell, with the message as its input
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NotificationTarget(String);

impl NotificationTarget {
    /// The longest target, in bytes.
    pub const MAX_LEN: usize = 1_024;

    /// Whether it is a topic.
    pub fn is_topic(&self) -> bool {
        self.0.starts_with("arn:")
    }
}

impl FromStr for NotificationTarget {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let path = |path: &str| path.len() > 1 && Path::new(path).is_absolute() && !path.ends_with('/');
        let topic = |parts: &str| {
            let parts: Vec<&str> = parts.split(':').collect();
            matches!(parts.as_slice(), [region, account, name]
                if region.parse::<Region>().is_ok() && account.parse::<AccountId>().is_ok() && !name.is_empty())
        };
        let host = |rest: &str| rest.split('/').next().is_some_and(|host| !host.is_empty() && !host.contains('@'));
        let plain = text.len() <= Self::MAX_LEN && text.chars().all(|c| c.is_ascii_graphic());
        let known = text.strip_prefix("arn:aws:sns:").is_some_and(topic)
            || text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).is_some_and(host)
            || text.strip_prefix("file:").is_some_and(path)
            || text.strip_prefix("exec:").is_some_and(path);
        if plain && known {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(80).collect();
        Err(InvalidValue::new(
            "ConnectionNotificationArn",
            shown,
            "must be an SNS topic's ARN, an http:// or https:// URL, or file: or exec: and an absolute path",
            "use a target like arn:aws:sns:us-east-1:123456789012:events or https://hooks.example.com/endpoints",
        ))
    }
}

text_value!(NotificationTarget);

/// A message that waits for its delivery, also when its notification has gone with what it was about. It is made in the
/// commit of what it tells, so that none is lost, and may come twice if the agent dies between delivery and commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    pub id: NoticeId,
    pub owner: Owner,
    /// Which may be gone.
    pub notification: NotificationId,
    /// Its place among those that wait for one notification: the least is the oldest.
    pub number: u64,
    pub target: NotificationTarget,
    /// One line of JSON.
    pub message: String,
}

impl Notice {
    /// The most that wait for one notification; what is more is not told.
    pub const MOST: usize = 1_000;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_their_documented_forms() {
        for text in [
            "arn:aws:sns:us-east-1:123456789012:events",
            "https://hooks.example.com/endpoints?x=1",
            "http://127.0.0.1:8080",
            "file:/var/log/endpoints.jsonl",
            "exec:/usr/local/bin/told",
        ] {
            assert_eq!(text.parse::<NotificationTarget>().expect(text).as_str(), text);
        }
        for text in [
            "",
            "arn:aws:sqs:us-east-1:123456789012:events",
            "arn:aws:sns:us-east-1:1:events",
            "arn:aws:sns:us-east-1:123456789012:",
            "https://",
            "https://user@host/",
            "ftp://host/",
            "file:relative",
            "file:/",
            "exec:",
            "exec:/bin/sh -c x",
            "file:/a/../b/",
            "https://host/\u{7f}",
        ] {
            assert!(text.parse::<NotificationTarget>().is_err(), "'{text}' was accepted");
        }
    }
}
