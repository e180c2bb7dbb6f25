//! What is asked of whoever sends a request before anything becomes of it: the first of a rule's actions. A record,
//! like the rest of load balancers of type application.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{InvalidValue, SecretText, invalid::serde_as_text};

/// An action's place among those of its rule: 1 to 50,000, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionOrder(u16);

impl ActionOrder {
    const MAX: u16 = 50_000;
}

impl Default for ActionOrder {
    fn default() -> Self {
        Self(1)
    }
}

impl fmt::Display for ActionOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ActionOrder {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.parse().ok().filter(|order| (1..=Self::MAX).contains(order)).map(Self).ok_or_else(|| {
            InvalidValue::new("Order", text, "must be between '1-50000' inclusive", "use an order like 1")
        })
    }
}

serde_as_text!(ActionOrder);

/// Who asks has to show who it is. `S` is what is known of a client secret: itself in a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Authentication<S = SecretText> {
    AuthenticateOidc(OidcAuthentication<S>),
    AuthenticateCognito(CognitoAuthentication),
    JwtValidation(JwtValidation),
}

impl<S> Authentication<S> {
    /// As the API names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::AuthenticateOidc(_) => "authenticate-oidc",
            Self::AuthenticateCognito(_) => "authenticate-cognito",
            Self::JwtValidation(_) => "jwt-validation",
        }
    }
}

/// The first of two actions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstAction<S = SecretText> {
    /// Below that of the action that follows.
    pub order: ActionOrder,
    pub authentication: Authentication<S>,
}

/// By a provider of OpenID Connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcAuthentication<S> {
    pub issuer: HttpsUrl,
    pub authorization_endpoint: HttpsUrl,
    pub token_endpoint: HttpsUrl,
    pub user_info_endpoint: HttpsUrl,
    pub client_id: String,
    pub client_secret: S,
    pub session: AuthenticationSession,
}

/// By a user pool of Cognito.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CognitoAuthentication {
    pub user_pool: UserPoolArn,
    pub client_id: String,
    /// A prefix, or a whole domain name.
    pub domain: String,
    pub session: AuthenticationSession,
}

/// How it is kept who has shown who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthenticationSession {
    pub cookie: String,
    pub scope: String,
    /// Seconds, 1 to [`Self::MAX_TIMEOUT`].
    pub timeout: u32,
    /// Parameters of the request that is sent to the provider, at most [`Self::MAX_EXTRA`].
    pub extra: BTreeMap<String, String>,
    pub unauthenticated: Unauthenticated,
}

impl AuthenticationSession {
    /// A week, in seconds; the default too.
    pub const MAX_TIMEOUT: u32 = 604_800;
    pub const MAX_EXTRA: usize = 10;
}

impl Default for AuthenticationSession {
    fn default() -> Self {
        Self {
            cookie: "AWSELBAuthSessionCookie".to_owned(),
            scope: "openid".to_owned(),
            timeout: Self::MAX_TIMEOUT,
            extra: BTreeMap::new(),
            unauthenticated: Unauthenticated::default(),
        }
    }
}

/// What becomes of the requests of those who have not shown who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unauthenticated {
    Deny,
    Allow,
    #[default]
    Authenticate,
}

impl Unauthenticated {
    const ALL: [Self; 3] = [Self::Deny, Self::Allow, Self::Authenticate];
}

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
            Self::Authenticate => "authenticate",
        })
    }
}

impl FromStr for Unauthenticated {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|one| one.to_string() == text).ok_or_else(|| {
            let rule = "must be one of '[deny, allow, authenticate]'";
            InvalidValue::new("OnUnauthenticatedRequest", text, rule, "use authenticate")
        })
    }
}

serde_as_text!(Unauthenticated);

/// By a token that the request carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtValidation {
    pub jwks_endpoint: HttpsUrl,
    pub issuer: String,
    /// At most [`Self::MAX_CLAIMS`].
    pub claims: Vec<JwtClaim>,
}

impl JwtValidation {
    pub const MAX_CLAIMS: usize = 10;
    /// Characters of the issuer, of the endpoint, and of a claim's value.
    pub const MAX_TEXT: usize = 256;
}

/// What a token has to say besides what all have to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtClaim {
    /// None of [`Self::OF_ALL`].
    pub name: String,
    pub format: ClaimFormat,
    /// 1 to [`Self::MAX_VALUES`]; of a single string, one.
    pub values: Vec<String>,
}

impl JwtClaim {
    pub const MAX_VALUES: usize = 10;
    /// What is looked at in every token.
    pub const OF_ALL: [&str; 4] = ["exp", "iss", "nbf", "iat"];
}

/// How a claim holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimFormat {
    SingleString,
    StringArray,
    SpaceSeparatedValues,
}

impl ClaimFormat {
    const ALL: [Self; 3] = [Self::SingleString, Self::StringArray, Self::SpaceSeparatedValues];
}

impl fmt::Display for ClaimFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SingleString => "single-string",
            Self::StringArray => "string-array",
            Self::SpaceSeparatedValues => "space-separated-values",
        })
    }
}

impl FromStr for ClaimFormat {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        Self::ALL.into_iter().find(|one| one.to_string() == text).ok_or_else(|| {
            let rule = "must be one of '[single-string, string-array, space-separated-values]'";
            InvalidValue::new("Format", text, rule, "use single-string")
        })
    }
}

serde_as_text!(ClaimFormat);

/// A URL with the scheme https and a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsUrl(String);

impl HttpsUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HttpsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HttpsUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let host = text.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#', ':']).next());
        let allowed = |host: &str| {
            !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        };
        match host.is_some_and(allowed) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err(InvalidValue::new(
                "URL",
                text,
                "must be a full URL with the HTTPS protocol, the domain and the path",
                "use a URL like https://idp.example.com/token",
            )),
        }
    }
}

serde_as_text!(HttpsUrl);

/// The ARN of a user pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPoolArn(String);

impl fmt::Display for UserPoolArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for UserPoolArn {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let is_pool =
            |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        match parts.as_slice() {
            ["arn", partition, "cognito-idp", region, account, pool]
                if partition.starts_with("aws")
                    && region.parse::<super::Region>().is_ok()
                    && account.parse::<super::AccountId>().is_ok()
                    && pool.strip_prefix("userpool/").is_some_and(is_pool) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(InvalidValue::new(
                "User pool ARN",
                text,
                "must be the ARN of a user pool",
                "use an ARN like arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_abcdefghi",
            )),
        }
    }
}

serde_as_text!(UserPoolArn);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_https_urls_and_arns_of_user_pools_are_such() {
        for text in ["https://idp.example.com", "https://idp.example.com:8443/a?b=c", "https://10.0.0.1/"] {
            assert_eq!(text.parse::<HttpsUrl>().expect(text).as_str(), text);
        }
        for text in ["", "http://a.b", "https://", "https:///x", "https://a b/", "https://a.b/\n", "idp.example.com"] {
            text.parse::<HttpsUrl>().expect_err(text);
        }
        let arn = "arn:aws:cognito-idp:us-east-1:123456789012:userpool/us-east-1_abcdefghi";
        assert_eq!(arn.parse::<UserPoolArn>().expect("an ARN").to_string(), arn);
        for text in ["", &arn.replace("userpool/", "pool/"), &arn.replace("cognito-idp", "acm"), &arn.replace('_', ":")]
        {
            text.parse::<UserPoolArn>().expect_err(text);
        }
        for (text, good) in [("1", true), ("50000", true), ("0", false), ("50001", false), ("x", false)] {
            assert_eq!(text.parse::<ActionOrder>().is_ok(), good, "{text}");
        }
    }
}
