//! Who calls the native API.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};

use super::{Api, ApiError};
use crate::{
    control::ControlError,
    model::{InvalidValue, Owner},
};

/// The header that names the caller's account; without it, it is the agent's default account.
pub const ACCOUNT_HEADER: &str = "privatelink-account";
/// The header that names the caller's region; without it, it is the agent's default region.
pub const REGION_HEADER: &str = "privatelink-region";

/// Whose resources a request is about. The socket is its owner's only, so a caller may name any account.
#[derive(Debug, Clone)]
pub struct Caller(pub Owner);

fn named<T: std::str::FromStr<Err = InvalidValue>>(headers: &HeaderMap, header: &str) -> Result<Option<T>, ApiError> {
    let Some(value) = headers.get(header) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.parse().map(Some).map_err(|error| ApiError::from(ControlError::Invalid(error)))
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, ApiError> {
        let Owner { account, region } = &api.default_owner;
        Ok(Self(Owner {
            account: named(&parts.headers, ACCOUNT_HEADER)?.unwrap_or_else(|| account.clone()),
            region: named(&parts.headers, REGION_HEADER)?.unwrap_or_else(|| region.clone()),
        }))
    }
}
