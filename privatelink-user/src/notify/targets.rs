//! What the agent's operator allows notifications to reach.

use std::{collections::BTreeMap, path::Path, str::FromStr};

use super::{
    SinkError, Trust,
    sink::{Sink, Webhook},
};
use crate::model::{InvalidValue, NotificationTarget};

/// One target that is allowed: `TARGET`, or `TOPIC=TARGET` for an SNS topic's ARN that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed {
    /// What requests name.
    name: NotificationTarget,
    /// What is reached by it.
    reached: NotificationTarget,
}

impl FromStr for Allowed {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let refuse = |rule: &str| {
            Err(InvalidValue::new(
                "notification target",
                text,
                rule,
                "use a target like https://hooks.example.com/x, or arn:aws:sns:us-east-1:123456789012:events=file:/var/log/x",
            ))
        };
        let (name, reached): (NotificationTarget, NotificationTarget) = match text.split_once('=') {
            Some((topic, target)) if topic.starts_with("arn:") => (topic.parse()?, target.parse()?),
            Some(_) | None => (text.parse()?, text.parse()?),
        };
        if reached.is_topic() {
            return refuse("names a topic and not what it stands for");
        }
        Ok(Self { name, reached })
    }
}

/// How a target is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How<'a> {
    Webhook,
    /// Run with the message as its input.
    Program(&'a Path),
    /// A line is appended.
    File(&'a Path),
}

impl Allowed {
    /// How what is reached is told.
    pub fn how(&self) -> How<'_> {
        let text = self.reached.as_str();
        if let Some(path) = text.strip_prefix("file:") {
            How::File(Path::new(path))
        } else if let Some(path) = text.strip_prefix("exec:") {
            How::Program(Path::new(path))
        } else {
            How::Webhook
        }
    }
}

/// Every target that is allowed.
#[derive(Debug, Default)]
pub struct Targets {
    sinks: BTreeMap<NotificationTarget, Sink>,
}

impl Targets {
    /// Those of `allowed`; what is reached by TLS is believed by `trust`.
    ///
    /// # Errors
    ///
    /// [`SinkError`] if a URL cannot be used, or there are none to believe.
    pub fn new(allowed: Vec<Allowed>, trust: &Trust) -> Result<Self, SinkError> {
        let mut sinks = BTreeMap::new();
        for allowed in allowed {
            let sink = match allowed.how() {
                How::File(path) => Sink::File(path.to_owned()),
                How::Program(path) => Sink::Program(path.to_owned()),
                How::Webhook => Sink::Webhook(Webhook::new(allowed.reached.as_str(), trust)?),
            };
            sinks.insert(allowed.name, sink);
        }
        Ok(Self { sinks })
    }

    /// Whether messages for `target` can be delivered.
    pub fn allows(&self, target: &NotificationTarget) -> bool {
        self.sinks.contains_key(target)
    }

    pub(super) fn sink(&self, target: &NotificationTarget) -> Option<&Sink> {
        self.sinks.get(target)
    }
}
