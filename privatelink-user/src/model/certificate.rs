//! A server certificate with its private key, as an account has imported it.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AccountId, IdSource, InvalidValue, Owner, Region, invalid::text_value};

/// A server certificate. What it says of itself is read from its text where it is needed (`tls/certificate.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    pub id: CertificateId,
    /// PEM: the certificate itself.
    pub certificate: String,
    /// PEM: the certificates between it and its root; may be empty.
    pub chain: String,
    /// PEM.
    pub private_key: SecretText,
    pub created_at: Timestamp,
    /// When its present text was imported.
    pub imported_at: Timestamp,
}

/// Text that nobody but its user may see: its `Debug` does not show it. It is serialized as it is, into the state file,
/// which is root's alone, and to the relay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

/// A certificate's ARN, `arn:aws:acm:<region>:<account>:certificate/<uuid>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateId(String);

impl CertificateId {
    /// A new ARN.
    pub fn generate(region: &Region, account: &AccountId, ids: &mut dyn IdSource) -> Self {
        let [a, b, c, d, e] = [8, 4, 4, 4, 12].map(|digits| ids.hex(digits));
        Self(format!("arn:aws:acm:{region}:{account}:certificate/{a}-{b}-{c}-{d}-{e}"))
    }

    /// Whether the ARN is of `owner`'s account and region.
    pub fn belongs_to(&self, owner: &Owner) -> bool {
        let Owner { account, region } = owner;
        parts(&self.0).is_some_and(|(own, of, _)| own == region.as_str() && of == account.as_str())
    }
}

/// Region, account and the certificate's own id.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (region, rest) = text.strip_prefix("arn:aws:acm:")?.split_once(':')?;
    let (account, id) = rest.split_once(":certificate/")?;
    Some((region, account, id))
}

/// Whether `text` is hexadecimal digits and hyphens as a UUID has them.
fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}

impl FromStr for CertificateId {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = parts(text).is_some_and(|(region, account, id)| {
            region.parse::<Region>().is_ok() && account.parse::<AccountId>().is_ok() && is_uuid(id)
        });
        if known {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidValue::new(
                "Certificate ARN",
                text,
                "must be an ARN whose resource begins with 'certificate/'",
                "use an ARN that `privatelink certificate list` shows",
            ))
        }
    }
}

text_value!(CertificateId);

#[cfg(test)]
mod tests {
    use super::*;

    struct Count(u64);

    impl IdSource for Count {
        fn hex(&mut self, digits: usize) -> String {
            self.0 += 1;
            format!("{:0digits$x}", self.0)
        }
    }

    #[test]
    fn an_arn_names_its_owner_and_nothing_else_is_one() {
        let owner = Owner::example();
        let id = CertificateId::generate(&owner.region, &owner.account, &mut Count(0));
        assert_eq!(id.as_str().parse::<CertificateId>(), Ok(id.clone()));
        assert!(id.belongs_to(&owner));
        assert!(!id.belongs_to(&Owner { account: "111111111111".parse().expect("an account"), ..owner }));
        for text in ["", "web", "arn:aws:acm:us-east-1:123456789012:certificate/", &id.as_str().replace("acm", "iam")] {
            text.parse::<CertificateId>().expect_err(text);
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = SecretText::from("-----BEGIN PRIVATE KEY-----".to_owned());
        assert!(!format!("{secret:?}").contains("BEGIN"));
        assert!(secret.reveal().contains("BEGIN"));
    }
}
