//! Actions by which whoever sends a request shows who it is, on the wire. A client secret is read, and never written.

use std::collections::BTreeMap;

use crate::{
    api::query::{params::Scope, refusal::Refusal, xml::Structure},
    control::application::SecretChoice,
    model::{
        Authentication, AuthenticationSession, ClaimFormat, CognitoAuthentication, FirstAction, HttpsUrl, JwtClaim,
        JwtValidation, OidcAuthentication, SecretText,
    },
};

fn wrong(message: impl Into<String>) -> Refusal {
    Refusal::coded("ValidationError", message)
}

/// The authentication of an action of type `kind`; none of another type.
pub fn read(kind: &str, action: &Scope<'_>) -> Result<Option<Authentication<SecretChoice>>, Refusal> {
    Ok(Some(match kind {
        "authenticate-oidc" => {
            Authentication::AuthenticateOidc(read_oidc(&action.structure("AuthenticateOidcConfig"))?)
        }
        "authenticate-cognito" => {
            Authentication::AuthenticateCognito(read_cognito(&action.structure("AuthenticateCognitoConfig"))?)
        }
        "jwt-validation" => Authentication::JwtValidation(read_jwt(&action.structure("JwtValidationConfig"))?),
        _ => return Ok(None),
    }))
}

fn url(scope: &Scope<'_>, name: &str) -> Result<HttpsUrl, Refusal> {
    Ok(scope.required(name)?.parse().map_err(|invalid: crate::model::InvalidValue| invalid.named(name))?)
}

fn read_oidc(scope: &Scope<'_>) -> Result<OidcAuthentication<SecretChoice>, Refusal> {
    let existing = scope.boolean("UseExistingClientSecret")?.unwrap_or(false);
    let client_secret = match (scope.text("ClientSecret"), existing) {
        (Some(secret), false) => SecretChoice::Given(SecretText::from(secret.to_owned())),
        (None, true) => SecretChoice::Existing,
        (Some(_), true) => return Err(wrong("ClientSecret and UseExistingClientSecret cannot be specified together")),
        (None, false) => return Err(wrong("A client secret must be specified")),
    };
    Ok(OidcAuthentication {
        issuer: url(scope, "Issuer")?,
        authorization_endpoint: url(scope, "AuthorizationEndpoint")?,
        token_endpoint: url(scope, "TokenEndpoint")?,
        user_info_endpoint: url(scope, "UserInfoEndpoint")?,
        client_id: scope.required("ClientId")?.to_owned(),
        client_secret,
        session: read_session(scope)?,
    })
}

fn read_cognito(scope: &Scope<'_>) -> Result<CognitoAuthentication, Refusal> {
    let domain = scope.required("UserPoolDomain")?;
    if !domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)) {
        return Err(Refusal::value("UserPoolDomain", domain, "must be a domain prefix or a domain name"));
    }
    Ok(CognitoAuthentication {
        user_pool: scope.required("UserPoolArn")?.parse()?,
        client_id: scope.required("UserPoolClientId")?.to_owned(),
        domain: domain.to_owned(),
        session: read_session(scope)?,
    })
}

fn read_session(scope: &Scope<'_>) -> Result<AuthenticationSession, Refusal> {
    let usual = AuthenticationSession::default();
    let cookie = scope.text("SessionCookieName").map_or(usual.cookie, str::to_owned);
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !cookie.bytes().all(token) {
        return Err(Refusal::value("SessionCookieName", &cookie, "must be the name of a cookie"));
    }
    let timeout = scope.number("SessionTimeout")?.unwrap_or(usual.timeout);
    if !(1..=AuthenticationSession::MAX_TIMEOUT).contains(&timeout) {
        return Err(Refusal::value("SessionTimeout", &timeout.to_string(), "must be between '1-604800' inclusive"));
    }
    let mut extra = BTreeMap::new();
    for entry in scope.structure("AuthenticationRequestExtraParams").structures("entry") {
        let value = entry.text("value").unwrap_or_default();
        if extra.insert(entry.required("key")?.to_owned(), value.to_owned()).is_some() {
            return Err(wrong("A parameter can be in AuthenticationRequestExtraParams once"));
        }
    }
    if extra.len() > AuthenticationSession::MAX_EXTRA {
        return Err(wrong(format!(
            "AuthenticationRequestExtraParams cannot have more than '{}' parameters",
            AuthenticationSession::MAX_EXTRA
        )));
    }
    Ok(AuthenticationSession {
        cookie,
        scope: scope.text("Scope").map_or(usual.scope, str::to_owned),
        timeout,
        extra,
        unauthenticated: scope.parsed("OnUnauthenticatedRequest")?.unwrap_or_default(),
    })
}

fn short(name: &str, text: &str) -> Result<String, Refusal> {
    match text.chars().count() {
        1..=JwtValidation::MAX_TEXT => Ok(text.to_owned()),
        _ => {
            let rule = format!("must have a length between 1 and {}", JwtValidation::MAX_TEXT);
            Err(Refusal::value(name, text, &rule))
        }
    }
}

fn read_jwt(scope: &Scope<'_>) -> Result<JwtValidation, Refusal> {
    let jwks_endpoint = url(scope, "JwksEndpoint")?;
    short("JwksEndpoint", jwks_endpoint.as_str())?;
    let claims: Vec<JwtClaim> =
        scope.structures("AdditionalClaims").iter().map(read_claim).collect::<Result<_, Refusal>>()?;
    if claims.len() > JwtValidation::MAX_CLAIMS {
        return Err(wrong(format!("A JWT validation can only have '{}' claims", JwtValidation::MAX_CLAIMS)));
    }
    Ok(JwtValidation { jwks_endpoint, issuer: short("Issuer", scope.required("Issuer")?)?, claims })
}

fn read_claim(scope: &Scope<'_>) -> Result<JwtClaim, Refusal> {
    let name = scope.required("Name")?;
    if JwtClaim::OF_ALL.contains(&name) {
        return Err(Refusal::value("Name", name, "cannot be exp, iss, nbf or iat, which are validated in any case"));
    }
    let format = scope.parsed("Format")?.ok_or_else(|| Refusal::missing("Format"))?;
    let values: Vec<String> =
        scope.list("Values").into_iter().map(|value| short("Values", value)).collect::<Result<_, Refusal>>()?;
    let most = match format {
        ClaimFormat::SingleString => 1,
        ClaimFormat::StringArray | ClaimFormat::SpaceSeparatedValues => JwtClaim::MAX_VALUES,
    };
    if !(1..=most).contains(&values.len()) {
        return Err(wrong(format!("A claim with the format '{format}' must have between '1-{most}' values")));
    }
    if let Some(value) = values.iter().find(|value| format == ClaimFormat::SpaceSeparatedValues && value.contains(' '))
    {
        return Err(Refusal::value("Values", value, "cannot include spaces if the format is space-separated-values"));
    }
    Ok(JwtClaim { name: name.to_owned(), format, values })
}

/// An authentication as an action.
pub fn view(first: &FirstAction) -> Structure {
    let FirstAction { order, authentication } = first;
    let structure = Structure::new().text("Type", authentication.kind());
    let structure = match authentication {
        Authentication::AuthenticateOidc(oidc) => structure.value("AuthenticateOidcConfig", oidc_view(oidc)),
        Authentication::AuthenticateCognito(cognito) => {
            let CognitoAuthentication { user_pool, client_id, domain, session } = cognito;
            let config = Structure::new()
                .text("UserPoolArn", user_pool)
                .text("UserPoolClientId", client_id)
                .text("UserPoolDomain", domain);
            structure.value("AuthenticateCognitoConfig", with_session(config, session))
        }
        Authentication::JwtValidation(JwtValidation { jwks_endpoint, issuer, claims }) => {
            let claim = |JwtClaim { name, format, values }: &JwtClaim| {
                Structure::new().text("Format", format).text("Name", name).texts("Values", values)
            };
            let config = Structure::new().text("JwksEndpoint", jwks_endpoint).text("Issuer", issuer);
            structure.value("JwtValidationConfig", config.list("AdditionalClaims", claims.iter().map(claim)))
        }
    };
    structure.text("Order", order)
}

fn oidc_view(oidc: &OidcAuthentication<SecretText>) -> Structure {
    let OidcAuthentication {
        issuer,
        authorization_endpoint,
        token_endpoint,
        user_info_endpoint,
        client_id,
        client_secret: _,
        session,
    } = oidc;
    let config = Structure::new()
        .text("Issuer", issuer)
        .text("AuthorizationEndpoint", authorization_endpoint)
        .text("TokenEndpoint", token_endpoint)
        .text("UserInfoEndpoint", user_info_endpoint)
        .text("ClientId", client_id);
    with_session(config, session)
}

fn with_session(config: Structure, session: &AuthenticationSession) -> Structure {
    let AuthenticationSession { cookie, scope, timeout, extra, unauthenticated } = session;
    let entry = |map: Structure, (key, value): (&String, &String)| {
        map.value("entry", Structure::new().text("key", key).text("value", value))
    };
    let config = config.text("SessionCookieName", cookie).text("Scope", scope).text("SessionTimeout", timeout);
    let config = match extra.is_empty() {
        true => config,
        false => config.value("AuthenticationRequestExtraParams", extra.iter().fold(Structure::new(), entry)),
    };
    config.text("OnUnauthenticatedRequest", unauthenticated)
}
