//! The private DNS name of an endpoint service: consumers reach their endpoint by the provider's own name, once the
//! provider has shown, by a TXT record, that the domain is its own.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{EndpointServiceId, InvalidValue, derived, dns_name::host_name, invalid::text_value};

/// A private DNS name: a domain, or `*.` and a domain, which stands for every name below it. Lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrivateDnsName(String);

impl PrivateDnsName {
    /// The longest name, in bytes, without a dot at the end (RFC 1035 section 2.3.4).
    pub const MAX_LEN: usize = 253;

    /// The domain that a wildcard stands below; none if the name stands for itself.
    pub fn wildcard(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }

    /// The domains by which the name can be verified: its own, and every parent of at least two labels.
    pub fn domains(&self) -> impl Iterator<Item = &str> {
        let own = self.wildcard().unwrap_or(&self.0);
        let parents = own.match_indices('.').filter_map(|(dot, _)| own.get(dot + 1..));
        std::iter::once(own).chain(parents.filter(|parent| parent.contains('.')))
    }
}

impl FromStr for PrivateDnsName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match host_name(text.strip_prefix("*.").unwrap_or(text), Self::MAX_LEN - 2) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(rule) => Err(InvalidValue::new(
                "private DNS name",
                text,
                rule,
                "use a name like api.example.com, or *.example.com for every name below",
            )),
        }
    }
}

text_value!(PrivateDnsName);

/// A service's private DNS name, and where its verification stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivateDns {
    pub name: PrivateDnsName,
    pub state: VerificationState,
    /// The first label of the TXT record's name: `_` and 20 letters and digits.
    pub record_name: String,
    /// The TXT record's value: `vpce:` and 20 letters and digits.
    pub record_value: String,
}

impl PrivateDns {
    /// `name`, to be verified by a record that follows from `nonce`, which is used once.
    pub fn new(service: &EndpointServiceId, name: PrivateDnsName, nonce: &str) -> Self {
        let parts = |what: &'static str| [what, service.as_str(), name.as_str(), nonce].map(str::to_owned);
        let label = |what: &'static str| derived::label(20, &parts(what).each_ref().map(String::as_str));
        Self {
            record_name: format!("_{}", label("record name")),
            record_value: format!("vpce:{}", label("record value")),
            state: VerificationState::PendingVerification,
            name,
        }
    }

    /// The names at which a TXT record may be: for each domain, the record's name
    /// below it and the domain itself. Those that are longer than a name can be are left out.
    pub fn places(&self) -> Vec<String> {
        let both = |domain: &str| [format!("{}.{domain}", self.record_name), domain.to_owned()];
        self.name.domains().flat_map(both).filter(|name| name.len() <= PrivateDnsName::MAX_LEN).collect()
    }
}

/// Where the verification of a private DNS name stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum VerificationState {
    /// Nobody has asked for the record yet.
    PendingVerification,
    Verified,
    /// The record was not there when it was asked for last.
    Failed,
}

impl fmt::Display for VerificationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PendingVerification => "pendingVerification",
            Self::Verified => "verified",
            Self::Failed => "failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PrivateDnsName {
        text.parse().expect("a private DNS name")
    }

    #[test]
    fn a_name_is_verified_by_itself_or_a_parent_but_by_no_top_level_domain() {
        assert_eq!(
            name("a.b.example.com").domains().collect::<Vec<_>>(),
            ["a.b.example.com", "b.example.com", "example.com"]
        );
        assert_eq!(name("*.example.com").domains().collect::<Vec<_>>(), ["example.com"]);
        assert_eq!(name("internal").domains().collect::<Vec<_>>(), ["internal"]);
    }

    #[test]
    fn both_places_of_every_domain_are_asked() {
        let service = "vpce-svc-0123456789abcdef1".parse().expect("an id");
        let private = PrivateDns::new(&service, name("api.example.com"), "1");
        let below = |domain: &str| format!("{}.{domain}", private.record_name);
        let expected = [&below("api.example.com"), "api.example.com", &below("example.com"), "example.com"];
        assert_eq!(private.places(), expected);
        assert_eq!((private.record_name.len(), private.record_value.len()), (21, 25));
        assert!(private.record_name.starts_with('_') && private.record_value.starts_with("vpce:"));
        let again = PrivateDns::new(&service, name("api.example.com"), "2");
        assert!(again.record_name != private.record_name && again.record_value != private.record_value);
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in ["", "*", "*.", "a.*.b", "**.a", ".a", "a.", "A.b", "a b", "a/b", "-a.b", &"a.".repeat(127)] {
            assert!(text.parse::<PrivateDnsName>().is_err(), "'{text}' was accepted");
        }
    }
}
