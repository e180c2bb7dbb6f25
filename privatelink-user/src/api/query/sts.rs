//! `sts:GetCallerIdentity`.

use super::{call::Call, refusal::Refusal, xml::Structure};
use crate::model::Identity;

/// Who calls.
pub fn get_caller_identity(call: &Call<'_>) -> Result<Structure, Refusal> {
    let account = &call.owner().account;
    let arn = match &call.caller.identity {
        Identity::Root => format!("arn:aws:iam::{account}:root"),
        Identity::User(name) => format!("arn:aws:iam::{account}:user/{name}"),
        Identity::Role(name) => format!("arn:aws:iam::{account}:role/{name}"),
    };
    let key = call.caller.access_key.as_str();
    let user = if key.is_empty() { account.as_str() } else { key };
    Ok(Structure::new().text("UserId", user).text("Account", account).text("Arn", arn))
}
