//! What an account has of its own beside resources: that its defaults were made, and the tokens of its requests.

use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{InvalidValue, Owner, invalid::text_value};

/// An owner that has its defaults: they are made once, so that what it deletes stays deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    pub id: RecordId,
    pub owner: Owner,
    pub created_at: Timestamp,
}

/// A request that must be done once however often it is sent, and what it made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientToken {
    pub id: RecordId,
    pub owner: Owner,
    /// SHA-256 of the request's parameters, in hexadecimal digits.
    pub digest: String,
    /// The id of what it made.
    pub made: String,
    pub created_at: Timestamp,
}

impl ClientToken {
    /// How long a token is remembered.
    pub const LIFETIME: SignedDuration = SignedDuration::from_hours(24);

    /// When it is forgotten.
    pub fn expires_at(&self) -> Timestamp {
        self.created_at.checked_add(Self::LIFETIME).unwrap_or(Timestamp::MAX)
    }
}

/// The identity of a record that has no id in AWS: the owner, or owner, action and the client's token of a request, in
/// one text without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId(String);

impl RecordId {
    /// The identity of the account record of `owner`.
    pub fn account(owner: &Owner) -> Self {
        Self(owner.to_string())
    }

    /// The identity of `token` in requests of `action` by `owner`.
    pub fn token(owner: &Owner, action: &str, token: &str) -> Result<Self, InvalidValue> {
        format!("{owner}/{action}/{token}").parse()
    }
}

impl FromStr for RecordId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text.len() <= 256 && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new("ClientToken", text, "cannot be longer than 64 characters", "use a UUID"))
        }
    }
}

text_value!(RecordId);
