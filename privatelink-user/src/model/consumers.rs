//! Whom a service's owner answers without being asked: lists of consumers to accept and to reject.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{AccountId, EndpointId, InvalidValue, invalid::serde_as_text, pattern};

/// Which consumers: accounts, or endpoints, by a pattern in which `*` stands for any text and `?` for one character.
/// What begins with `vpce-` is about endpoints' ids, everything else about accounts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerPattern(String);

impl ConsumerPattern {
    const ENDPOINTS: &str = "vpce-";

    /// Whether it means `endpoint` of `account`.
    pub fn matches(&self, account: &AccountId, endpoint: &EndpointId) -> bool {
        let about = if self.0.starts_with(Self::ENDPOINTS) { endpoint.as_str() } else { account.as_str() };
        pattern::matches(&self.0, about)
    }
}

impl fmt::Display for ConsumerPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for ConsumerPattern {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let (rest, longest, letters) = match text.strip_prefix(Self::ENDPOINTS) {
            Some(rest) => (rest, 17, "abcdef"),
            None => (text, 12, ""),
        };
        let allowed = |c: char| c.is_ascii_digit() || letters.contains(c) || matches!(c, '*' | '?');
        // Without a star a pattern is as long as what it can match.
        let starred = rest.contains('*');
        let length = if starred { (1..=longest + 1).contains(&rest.len()) } else { rest.len() == longest };
        if length && rest.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new(
                "consumer",
                text,
                "must be an account or the id of an endpoint, in which '*' stands for any text and '?' for one character",
                "use 123456789012, '1234*', vpce-0123456789abcdef0, or '*' for everybody",
            ))
        }
    }
}

serde_as_text!(ConsumerPattern);

/// What the lists say about an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    Accept,
    Reject,
    /// Neither list names it.
    Ask,
}

/// A service's lists. They answer new endpoints; the one who rejects wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsumerLists {
    /// Accepted although the service requires acceptance.
    pub accept: BTreeSet<ConsumerPattern>,
    /// Rejected although the service admits them.
    pub reject: BTreeSet<ConsumerPattern>,
}

impl ConsumerLists {
    /// What they say about `endpoint` of `account`.
    pub fn answer(&self, account: &AccountId, endpoint: &EndpointId) -> Consent {
        let Self { accept, reject } = self;
        let names = |list: &BTreeSet<ConsumerPattern>| list.iter().any(|pattern| pattern.matches(account, endpoint));
        if names(reject) {
            Consent::Reject
        } else if names(accept) {
            Consent::Accept
        } else {
            Consent::Ask
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_accounts_or_endpoints_and_rejection_wins() {
        let (account, endpoint) =
            ("111122223333".parse().expect("an account"), "vpce-0123456789abcdef0".parse().expect("an id"));
        for (accept, reject, expected) in [
            ("111122223333", "", Consent::Accept),
            ("1111*", "", Consent::Accept),
            ("1111????3333", "", Consent::Accept),
            ("*", "111122223333", Consent::Reject),
            ("vpce-0123*", "", Consent::Accept),
            ("vpce-*", "2*", Consent::Accept),
            ("2*", "vpce-f*", Consent::Ask),
            ("", "", Consent::Ask),
        ] {
            let list = |text: &str| text.split_whitespace().map(|one| one.parse().expect("a pattern")).collect();
            let lists = ConsumerLists { accept: list(accept), reject: list(reject) };
            assert_eq!(lists.answer(&account, &endpoint), expected, "{accept} {reject}");
        }
    }

    #[test]
    fn what_can_match_nobody_is_refused() {
        for text in ["", "1", "11112222333", "1111222233334", "root", "vpce-", "vpce-012", "vpce-g*", "arn:*", "\\*"] {
            assert!(text.parse::<ConsumerPattern>().is_err(), "{text}");
        }
    }
}
