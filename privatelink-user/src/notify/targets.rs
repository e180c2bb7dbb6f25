//! What the agent's operator allows notifications to reach.

use std::{collections::BTreeMap, str::FromStr};

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
        for Allowed { name, reached } in allowed {
            let text = reached.as_str();
            let sink = if let Some(path) = text.strip_prefix("file:") {
                Sink::File(path.into())
            } else if let Some(path) = text.strip_prefix("exec:") {
                Sink::Program(path.into())
            } else {
                Sink::Webhook(Webhook::new(text, trust)?)
            };
            sinks.insert(name, sink);
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
