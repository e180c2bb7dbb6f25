//! Principals: who may make endpoints to a service, and who calls.

use std::{fmt, str::FromStr};

use super::{AccountId, InvalidValue, invalid::serde_as_text};

/// Who may make endpoints to a service. Service principals and organizations are kept as they are given; no caller here
/// is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// `*`: everybody.
    All,
    /// `arn:aws:iam::<account>:root`: everybody in the account.
    Account(AccountId),
    /// `arn:aws:iam::<account>:user/<name>`.
    User(AccountId, String),
    /// `arn:aws:iam::<account>:role/<name>`.
    Role(AccountId, String),
    /// `<name>.amazonaws.com`.
    Service(String),
    /// `arn:aws:organizations::…:organization/…`, or `…:ou/…`.
    OrganizationUnit(String),
}

/// As whom an account calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Identity {
    /// The account itself.
    #[default]
    Root,
    /// A user of the account.
    User(String),
    /// A role of the account.
    Role(String),
}

impl Principal {
    /// Whether it means `identity` of `account`.
    pub fn admits(&self, account: &AccountId, identity: &Identity) -> bool {
        match self {
            Self::All => true,
            Self::Account(admitted) => admitted == account,
            Self::User(admitted, name) => {
                admitted == account && matches!(identity, Identity::User(caller) if caller == name)
            }
            Self::Role(admitted, name) => {
                admitted == account && matches!(identity, Identity::Role(caller) if caller == name)
            }
            Self::Service(_) | Self::OrganizationUnit(_) => false,
        }
    }

    /// The kind of principal, as the API names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Account(_) => "Account",
            Self::User(..) => "User",
            Self::Role(..) => "Role",
            Self::Service(_) => "Service",
            Self::OrganizationUnit(_) => "OrganizationUnit",
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("*"),
            Self::Account(account) => f.pad(&format!("arn:aws:iam::{account}:root")),
            Self::User(account, name) => f.pad(&format!("arn:aws:iam::{account}:user/{name}")),
            Self::Role(account, name) => f.pad(&format!("arn:aws:iam::{account}:role/{name}")),
            Self::Service(text) | Self::OrganizationUnit(text) => f.pad(text),
        }
    }
}

/// A name of a user or role: what IAM allows in names, without a path.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
}

fn iam(text: &str) -> Option<Principal> {
    let (account, resource) = text.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let account: AccountId = account.parse().ok()?;
    match resource.split_once('/') {
        None if resource == "root" => Some(Principal::Account(account)),
        Some(("user", name)) if is_name(name) => Some(Principal::User(account, name.to_owned())),
        Some(("role", name)) if is_name(name) => Some(Principal::Role(account, name.to_owned())),
        Some(_) | None => None,
    }
}

impl FromStr for Principal {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let plain = text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic());
        let organization = text
            .strip_prefix("arn:aws:organizations::")
            .and_then(|rest| rest.split_once(':'))
            .is_some_and(|(_, resource)| resource.starts_with("organization/") || resource.starts_with("ou/"));
        if text == "*" {
            Ok(Self::All)
        } else if let Some(principal) = iam(text) {
            Ok(principal)
        } else if plain && organization {
            Ok(Self::OrganizationUnit(text.to_owned()))
        } else if text.strip_suffix(".amazonaws.com").is_some_and(|name| !name.contains(':') && is_name(name)) {
            Ok(Self::Service(text.to_owned()))
        } else {
            Err(InvalidValue::new(
                "Principal",
                text,
                "must be '*' or the ARN of an account, user or role, without a path",
                "use arn:aws:iam::<account>:root, arn:aws:iam::<account>:user/<name>, …:role/<name>, or '*' for everybody",
            ))
        }
    }
}

serde_as_text!(Principal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_as_itself_and_admits_whom_it_names() {
        let (account, other): (AccountId, AccountId) =
            ("111122223333".parse().unwrap(), "444455556666".parse().unwrap());
        let alice = Identity::User("alice".to_owned());
        let ci = Identity::Role("ci".to_owned());
        let cases = [
            ("*", "All", [true, true, true, true]),
            ("arn:aws:iam::111122223333:root", "Account", [true, true, true, false]),
            ("arn:aws:iam::111122223333:user/alice", "User", [false, true, false, false]),
            ("arn:aws:iam::111122223333:role/ci", "Role", [false, false, true, false]),
            ("ec2.amazonaws.com", "Service", [false; 4]),
            ("arn:aws:organizations::444455556666:organization/o-abc", "OrganizationUnit", [false; 4]),
            ("arn:aws:organizations::444455556666:ou/o-abc/ou-x", "OrganizationUnit", [false; 4]),
        ];
        for (text, kind, [root, user, role, foreign]) in cases {
            let principal: Principal = text.parse().unwrap();
            assert_eq!((principal.to_string().as_str(), principal.kind()), (text, kind));
            assert_eq!(principal.admits(&account, &Identity::Root), root, "{text}");
            assert_eq!(principal.admits(&account, &alice), user, "{text}");
            assert_eq!(principal.admits(&account, &ci), role, "{text}");
            assert_eq!(principal.admits(&other, &alice), foreign, "{text}");
        }
    }

    #[test]
    fn what_is_no_principal_is_refused() {
        for text in [
            "",
            "alice",
            "arn:aws:iam::1:root",
            "arn:aws:iam::111122223333:user/team/alice",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:group/x",
            "arn:aws:s3:::bucket",
            ".amazonaws.com",
            "**",
        ] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
    }
}
