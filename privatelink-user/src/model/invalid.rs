//! The one error of every value type: the value, the rule that it breaks, the way out.

use serde::{Deserialize, Serialize};

/// A value that its type refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what} '{value}' {rule}")]
pub struct InvalidValue {
    /// What the value was meant to be, such as "VPC CIDR".
    pub what: String,
    /// The value as it was given.
    pub value: String,
    /// The rule that it breaks, as the rest of a sentence: "must be between '0-3600' inclusive".
    pub rule: String,
    /// The way out, usually a correct value.
    pub hint: String,
}

impl InvalidValue {
    /// The same refusal of a value that is meant more exactly as `what`.
    pub fn named(mut self, what: impl Into<String>) -> Self {
        self.what = what.into();
        self
    }

    /// `value`, meant as `what`, breaks `rule`; `hint` shows a correct one.
    pub fn new(
        what: impl Into<String>,
        value: impl Into<String>,
        rule: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), value: value.into(), rule: rule.into(), hint: hint.into() }
    }
}

/// Implements serde for a type through its `Display` and `FromStr`, and describes it as a text.
macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(|error: $crate::model::InvalidValue| {
                    serde::de::Error::custom(format_args!("{error}; {}", error.hint))
                })
            }
        }

        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                <String as utoipa::PartialSchema>::schema()
            }
        }

        impl utoipa::ToSchema for $type {}
    };
}
pub(crate) use serde_as_text;

/// What every value has that is a text with a rule, a tuple struct of one private [`String`]: its text, its `Display`,
/// and [`serde_as_text`]. The rule is its [`std::str::FromStr`].
macro_rules! text_value {
    ($type:ident) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        $crate::model::invalid::serde_as_text!($type);
    };
}
pub(crate) use text_value;
