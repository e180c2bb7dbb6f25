//! Certificate Manager: imported certificates, in the JSON protocol (`X-Amz-Target`, version 1.1) that it speaks
//! instead of forms and XML.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Incoming, QueryApi, actions::Service, call::Caller, refusal::Refusal, request_id, sigv4::Authorization};
use crate::{
    control::{
        ControlError, Mutation, Query as _,
        certificates::{DeleteCertificate, DescribeCertificates, ImportCertificate},
        lookup,
        view::CertificateView,
    },
    model::{CertificateId, InvalidValue, State},
};

/// What `X-Amz-Target` begins with.
const TARGET: &str = "CertificateManager.";
const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// A request on its way through an action.
struct Asked<'a> {
    query: &'a QueryApi,
    caller: &'a Caller,
    body: &'a [u8],
}

type Answer = Result<Value, Refusal>;
type Action = (&'static str, fn(&Asked<'_>) -> Answer);

/// Every action.
const ACTIONS: &[Action] = &[
    ("ImportCertificate", import),
    ("ListCertificates", list),
    ("DescribeCertificate", describe),
    ("GetCertificate", get),
    ("DeleteCertificate", delete),
];

/// Whether a request is for this service: no other speaks JSON here.
pub fn is_meant(incoming: &Incoming) -> bool {
    incoming.headers.contains_key("x-amz-target")
}

/// Answers it.
pub fn answer(query: &QueryApi, incoming: &Incoming) -> Response {
    let (status, body) = match result(query, incoming) {
        Ok(value) => (StatusCode::OK, value),
        Err(refusal) => {
            let (status, code, message) = refusal.wire(false);
            tracing::debug!(%status, %code, message, "refused");
            (status, json!({ "__type": exception(&code), "message": message }))
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    if let Ok(id) = HeaderValue::from_str(&request_id()) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

/// A code as this service has it.
fn exception(code: &str) -> &str {
    match code {
        "CertificateNotFound" => "ResourceNotFoundException",
        "ResourceInUse" => "ResourceInUseException",
        "ValidationError" => "ValidationException",
        "InvalidAction" => "UnknownOperationException",
        "InvalidClientTokenId" => "UnrecognizedClientException",
        "SignatureDoesNotMatch" => "InvalidSignatureException",
        "IncompleteSignature" => "IncompleteSignatureException",
        "MissingAuthenticationToken" => "MissingAuthenticationTokenException",
        "InternalError" => "InternalFailure",
        other => other,
    }
}

fn result(query: &QueryApi, incoming: &Incoming) -> Answer {
    let body: &[u8] = incoming.body.as_ref().map_err(Clone::clone)?;
    let authorization = incoming.headers.get("authorization").map(|header| Authorization::parse(header));
    let signed = authorization.as_ref().and_then(|parsed| parsed.as_ref().ok());
    let signature = signed.filter(|_| !query.trusts(incoming)).map(|signed| signed.signature.clone());
    let caller = query.caller(incoming, body, authorization, Service::CertificateManager)?;
    let target = incoming.headers.get("x-amz-target").map(String::as_str).unwrap_or_default();
    let name = target.strip_prefix(TARGET).unwrap_or(target);
    let Some((action, run)) = ACTIONS.iter().find(|(action, _)| *action == name) else {
        let message = format!("The operation {target} is not supported by privatelink");
        return Err(Refusal::coded("InvalidAction", message));
    };
    if let Some(signature) = signature.filter(|_| ["ImportCertificate", "DeleteCertificate"].contains(action)) {
        query.counts_once(&signature, Service::CertificateManager)?;
    }
    let value = run(&Asked { query, caller: &caller, body })?;
    tracing::info!(action, account = %caller.owner.account, region = %caller.owner.region, "done");
    Ok(value)
}

impl Asked<'_> {
    /// The request, of which nothing is ignored.
    fn request<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let body = if self.body.is_empty() { b"{}" } else { self.body };
        // serde's own text may quote what was sent, which may be a key.
        serde_json::from_slice(body).map_err(|error| {
            let message = format!("The request is not what the operation takes, at column {}", error.column());
            Refusal::coded("ValidationError", message)
        })
    }

    fn read<R>(&self, read: impl FnOnce(&State, &State) -> Result<R, ControlError>) -> Result<R, Refusal> {
        let world = self.query.api.store.state();
        Ok(read(&world.seen_by(&self.caller.owner), &world)?)
    }

    fn mutate<M: Mutation>(&self, request: &M) -> Result<M::Response, Refusal> {
        let Caller { owner, identity, access_key: _ } = self.caller;
        let api = &self.query.api;
        Ok(api.store.update(|world| {
            api.decide(world, owner, identity, |state, context| request.decide(state, context).map_err(Refusal::from))
        })?)
    }

    fn described(&self, arn: &CertificateId) -> Result<CertificateView, Refusal> {
        let found = self
            .read(|state, world| DescribeCertificates { certificates: Some(vec![arn.into()]) }.answer(state, world))?;
        found.into_iter().next().ok_or_else(|| ControlError::CertificateNotFound(arn.to_string()).into())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Import {
    certificate: String,
    private_key: String,
    certificate_chain: Option<String>,
    certificate_arn: Option<CertificateId>,
}

/// Text that travels as base64.
fn blob(name: &str, text: &str) -> Result<String, Refusal> {
    let bytes = BASE64_STANDARD.decode(text).ok();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        InvalidValue::new(name, "(not shown)", "must be PEM text, encoded as base64", "send the file's bytes").into()
    })
}

fn import(asked: &Asked<'_>) -> Answer {
    let Import { certificate, private_key, certificate_chain, certificate_arn } = asked.request()?;
    let request = ImportCertificate {
        certificate: blob("Certificate", &certificate)?,
        private_key: blob("PrivateKey", &private_key)?.into(),
        chain: certificate_chain.map(|chain| blob("CertificateChain", &chain)).transpose()?.unwrap_or_default(),
        replaces: certificate_arn.map(Into::into),
    };
    Ok(json!({ "CertificateArn": asked.mutate(&request)?.id }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct One {
    certificate_arn: CertificateId,
}

fn describe(asked: &Asked<'_>) -> Answer {
    let One { certificate_arn } = asked.request()?;
    let view = asked.described(&certificate_arn)?;
    let CertificateView {
        id,
        domain_name,
        names,
        subject,
        issuer,
        serial,
        key_algorithm,
        signature_algorithm,
        not_before,
        not_after,
        created_at,
        imported_at,
        in_use_by,
    } = &view;
    Ok(json!({ "Certificate": {
        "CertificateArn": id,
        "DomainName": domain_name,
        "SubjectAlternativeNames": names,
        "Subject": subject,
        "Issuer": issuer,
        "Serial": serial,
        "KeyAlgorithm": key_algorithm,
        "SignatureAlgorithm": signature_algorithm,
        "NotBefore": not_before.as_second(),
        "NotAfter": not_after.as_second(),
        "CreatedAt": created_at.as_second(),
        "ImportedAt": imported_at.as_second(),
        "InUseBy": in_use_by,
        "Status": status(&view),
        "Type": "IMPORTED",
        "RenewalEligibility": "INELIGIBLE",
    }}))
}

fn status(view: &CertificateView) -> &'static str {
    if view.not_after < Timestamp::now() { "EXPIRED" } else { "ISSUED" }
}

fn get(asked: &Asked<'_>) -> Answer {
    let One { certificate_arn } = asked.request()?;
    asked.read(|state, _| {
        let found = lookup::certificate(state, &(&certificate_arn).into())?;
        let mut answer = json!({ "Certificate": found.certificate });
        if !found.chain.is_empty() {
            answer["CertificateChain"] = found.chain.clone().into();
        }
        Ok(answer)
    })
}

fn delete(asked: &Asked<'_>) -> Answer {
    let One { certificate_arn } = asked.request()?;
    asked.mutate(&DeleteCertificate { certificate: certificate_arn.into() })?;
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", default)]
struct List {
    certificate_statuses: Vec<String>,
    max_items: usize,
    next_token: Option<CertificateId>,
}

impl Default for List {
    fn default() -> Self {
        Self { certificate_statuses: Vec::new(), max_items: 1_000, next_token: None }
    }
}

/// In the order of their ARNs; the token is the last one of a page.
fn list(asked: &Asked<'_>) -> Answer {
    let List { certificate_statuses, max_items, next_token } = asked.request()?;
    if !(1..=1_000).contains(&max_items) {
        let hint = "ask for the next page with NextToken";
        return Err(InvalidValue::new("MaxItems", max_items.to_string(), "must be between 1 and 1000", hint).into());
    }
    let mut views = asked.read(|state, world| DescribeCertificates::default().answer(state, world))?;
    views.retain(|view| {
        (certificate_statuses.is_empty() || certificate_statuses.iter().any(|wanted| wanted == status(view)))
            && next_token.as_ref().is_none_or(|after| view.id > *after)
    });
    views.sort_by(|a, b| a.id.cmp(&b.id));
    let more = views.len() > max_items;
    views.truncate(max_items);
    let rows: Vec<Value> = views
        .iter()
        .map(|view| {
            json!({
                "CertificateArn": view.id,
                "DomainName": view.domain_name,
                "SubjectAlternativeNameSummaries": view.names,
                "HasAdditionalSubjectAlternativeNames": false,
                "Status": status(view),
                "Type": "IMPORTED",
                "KeyAlgorithm": view.key_algorithm,
                "InUse": !view.in_use_by.is_empty(),
                "NotBefore": view.not_before.as_second(),
                "NotAfter": view.not_after.as_second(),
                "CreatedAt": view.created_at.as_second(),
                "ImportedAt": view.imported_at.as_second(),
            })
        })
        .collect();
    let mut answer = json!({ "CertificateSummaryList": rows });
    if let Some(last) = views.last().filter(|_| more) {
        answer["NextToken"] = last.id.to_string().into();
    }
    Ok(answer)
}
