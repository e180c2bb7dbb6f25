//! Access keys: whose they are, and their secrets.

use std::{collections::BTreeMap, fmt, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use serde::Deserialize;

use crate::model::{AccountId, Identity};

/// Why a credentials file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("the credentials file '{file}' cannot be read: {source}")]
    Read { file: String, source: io::Error },
    #[error("the credentials file '{0}' can be read by others than its owner; run: chmod 600 {0}")]
    Mode(String),
    #[error("the credentials file '{file}' is wrong: {detail}")]
    Wrong { file: String, detail: String },
}

/// `[[credential]]` in a credentials file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Row {
    access_key_id: String,
    secret_access_key: String,
    account: AccountId,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    role: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    credential: Vec<Row>,
}

/// Whose an access key is.
#[derive(Clone)]
pub struct Credential {
    pub account: AccountId,
    pub identity: Identity,
    /// Never printed.
    pub secret: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, identity, secret: _ } = self;
        f.debug_struct("Credential").field("account", account).field("identity", identity).finish_non_exhaustive()
    }
}

/// The access keys that are known.
#[derive(Debug, Clone, Default)]
pub struct Credentials(BTreeMap<String, Credential>);

impl Credentials {
    /// Reads a file, which must be its owner's only.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        let file = path.display().to_string();
        let read = |source| CredentialsError::Read { file: file.clone(), source };
        let mode = fs::metadata(path).map_err(read)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(CredentialsError::Mode(file));
        }
        let text = fs::read_to_string(path).map_err(read)?;
        // A parse error quotes the file's line, which may hold a secret: its message only.
        Self::parse(&text).map_err(|detail| CredentialsError::Wrong { file, detail })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let File { credential } = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let mut found = BTreeMap::new();
        for Row { access_key_id, secret_access_key, account, user, role } in credential {
            if access_key_id.is_empty() || secret_access_key.is_empty() {
                return Err("an access key or a secret is empty".to_owned());
            }
            let identity = match (user, role) {
                (None, None) => Identity::Root,
                (Some(user), None) => Identity::User(user),
                (None, Some(role)) => Identity::Role(role),
                (Some(_), Some(_)) => return Err(format!("'{access_key_id}' is both a user and a role")),
            };
            let credential = Credential { account, identity, secret: secret_access_key };
            if found.insert(access_key_id.clone(), credential).is_some() {
                return Err(format!("the access key '{access_key_id}' is there twice"));
            }
        }
        Ok(Self(found))
    }

    /// Whose `access_key` is.
    pub fn get(&self, access_key: &str) -> Option<&Credential> {
        self.0.get(access_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[[credential]]
access-key-id = "AKIAONE"
secret-access-key = "hush"
account = "111111111111"

[[credential]]
access-key-id = "AKIATWO"
secret-access-key = "hush"
account = "111111111111"
user = "alice"
"#;

    #[test]
    fn keys_are_found_and_their_secrets_stay_out_of_every_text() {
        let credentials = Credentials::parse(TEXT).unwrap();
        assert_eq!(credentials.get("AKIAONE").unwrap().identity, Identity::Root);
        assert_eq!(credentials.get("AKIATWO").unwrap().identity, Identity::User("alice".to_owned()));
        assert!(credentials.get("AKIA").is_none());
        assert!(!format!("{credentials:?}").contains("hush"));
        for (from, to) in
            [("AKIATWO", "AKIAONE"), ("user = ", "role = \"x\"\nuser = "), ("hush\"", "hush"), ("hush", "")]
        {
            let error = Credentials::parse(&TEXT.replacen(from, to, 1)).err();
            let error = error.unwrap_or_else(|| panic!("{to} was accepted"));
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("credentials");
        fs::write(&path, TEXT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Credentials::load(&path), Err(CredentialsError::Mode(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(Credentials::load(&path).is_ok());
    }
}
