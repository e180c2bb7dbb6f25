//! The policy of an endpoint: a document that its owner keeps on it. Services of other accounts have no requests that a
//! policy could be about, so it is kept and shown, and decides nothing.

use std::str::FromStr;

use super::{InvalidValue, invalid::text_value};

/// A policy document: a JSON object with at least one statement, at most 20,480 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyDocument(String);

impl PolicyDocument {
    /// The longest document, in characters (AWS's quota).
    pub const MAX_LEN: usize = 20_480;
}

impl Default for PolicyDocument {
    /// What an endpoint without a policy of its own allows: everything.
    fn default() -> Self {
        let text = r#"{"Statement": [{"Action": "*", "Effect": "Allow", "Principal": "*", "Resource": "*"}]}"#;
        Self(text.to_owned())
    }
}

/// Whether a document's statements each say an effect.
fn has_statements(document: &serde_json::Value) -> bool {
    let effect = |one: &serde_json::Value| matches!(one["Effect"].as_str(), Some("Allow" | "Deny"));
    match &document["Statement"] {
        serde_json::Value::Array(statements) => !statements.is_empty() && statements.iter().all(effect),
        one => effect(one),
    }
}

impl FromStr for PolicyDocument {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let rule = match serde_json::from_str::<serde_json::Value>(text) {
            _ if text.chars().count() > Self::MAX_LEN => {
                format!("cannot be longer than '{}' characters", Self::MAX_LEN)
            }
            Err(_) => "must be valid JSON".to_owned(),
            Ok(document) if !has_statements(&document) => {
                "must have a Statement, each with the Effect Allow or Deny".to_owned()
            }
            Ok(_) => return Ok(Self(text.to_owned())),
        };
        let shown: String = text.chars().take(80).collect();
        Err(InvalidValue::new("Policy document", shown, rule, format!("use a document like {}", Self::default())))
    }
}

text_value!(PolicyDocument);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_a_json_object_with_statements() {
        let one =
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*","Principal":"*"}}"#;
        for text in [one, PolicyDocument::default().as_str()] {
            assert_eq!(text.parse::<PolicyDocument>().expect("a policy").as_str(), text);
        }
        let long = format!(r#"{{"Statement":{{"Effect":"Allow","Sid":"{}"}}}}"#, "x".repeat(20_480));
        for text in ["", "{", "[]", "{}", "null", r#"{"Statement":[]}"#, r#"{"Statement":[{"Effect":"allow"}]}"#, &long]
        {
            assert!(text.parse::<PolicyDocument>().is_err(), "{text}");
        }
    }
}
