//! The AWS Query API: EC2 (2016-11-15), Elastic Load Balancing v2 (2015-12-01) and `sts:GetCallerIdentity` on one
//! address, for the AWS command line and SDKs; Certificate Manager beside them, in the JSON protocol ([`acm`]).
//!
//! ```text
//!  HTTP ─► form ─► who calls (SigV4) ─► row of [`actions::ACTIONS`] ─► handler: control's operations ─► XML
//! ```
//!
//! Handlers translate; rules are `control`'s. Every answer is XML in the dialect that was asked, refusals too.

mod acm;
mod actions;
mod call;
mod credentials;
mod ec2;
mod elb;
mod filter;
mod params;
mod refusal;
mod replay;
mod sigv4;
mod sts;
mod xml;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request, State as Shared},
    http::{HeaderValue, Method, StatusCode, header},
    response::Response,
};
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use credentials::{Credentials, CredentialsError};
pub use replay::Replays;

use self::{
    actions::{Action, Service},
    call::{Call, Caller},
    params::Params,
    refusal::Refusal,
    sigv4::{Authorization, SignatureError, Signed},
};
use super::{Api, RandomIds};
use crate::{
    control::accounts,
    model::{AccountId, Change, IdSource as _, Identity, Owner, Region},
};

/// The greatest request, in bytes.
const MAX_REQUEST: usize = 1024 * 1024;
/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the API works on, and whom it trusts.
pub struct QueryApi {
    pub api: Arc<Api>,
    pub credentials: Credentials,
    /// Requests from loopback need no valid signature; an access key of 12 digits is the account.
    pub trust_loopback: bool,
    /// `POST /_/reset` from loopback removes everything.
    pub allow_reset: bool,
    /// Signed requests that were done.
    pub replays: Mutex<Replays>,
}

/// Serves the API on `listener` until `shutdown`; requests that are under way are answered first.
pub async fn serve(listener: TcpListener, query: Arc<QueryApi>, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = Router::new().fallback(handle).with_state(query);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn handle(
    Shared(query): Shared<Arc<QueryApi>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str().to_owned()).and_modify(|v| *v = format!("{v},{value}")).or_insert(value);
    }
    let body = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, MAX_REQUEST)).await;
    let incoming = Incoming {
        method: parts.method,
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers,
        peer,
        body: match body {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(Refusal::with_status(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                format!("The request is longer than {MAX_REQUEST} bytes, or incomplete."),
            )),
            Err(_) => Err(Refusal::with_status(
                StatusCode::REQUEST_TIMEOUT,
                "RequestTimeout",
                "The request did not arrive in time.",
            )),
        },
    };
    let handle = tokio::runtime::Handle::current();
    let answered = tokio::task::spawn_blocking(move || query.answer(incoming, &handle)).await;
    answered.unwrap_or_else(|error| {
        tracing::error!(%error, "a request was aborted");
        Reply::refused(Service::Ec2, &request_id(), &Refusal::internal("The request was aborted.")).into_response()
    })
}

/// A request as it came.
struct Incoming {
    method: Method,
    path: String,
    query: String,
    headers: BTreeMap<String, String>,
    peer: SocketAddr,
    body: Result<Bytes, Refusal>,
}

/// An answer before it is HTTP.
struct Reply {
    status: StatusCode,
    request_id: String,
    body: Vec<u8>,
}

impl Reply {
    fn refused(service: Service, request_id: &str, refusal: &Refusal) -> Self {
        let (status, code, message) = refusal.wire(service == Service::Ec2);
        let server = status.is_server_error();
        let body = xml::refusal(service.dialect(), service.namespace(), request_id, server, &code, &message);
        Self { status, request_id: request_id.to_owned(), body }
    }

    fn into_response(self) -> Response {
        let Self { status, request_id, body } = self;
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml;charset=UTF-8"));
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }
}

/// A new request id, a UUID.
fn request_id() -> String {
    let mut ids = RandomIds;
    let [a, b, c, d, e] = [8, 4, 4, 4, 12].map(|digits| ids.hex(digits));
    format!("{a}-{b}-{c}-{d}-{e}")
}

impl QueryApi {
    fn answer(&self, incoming: Incoming, handle: &tokio::runtime::Handle) -> Response {
        if incoming.path == "/_/reset" {
            return self.reset(&incoming).into_response();
        }
        if acm::is_meant(&incoming) {
            return acm::answer(self, &incoming);
        }
        let id = request_id();
        let authorization = incoming.headers.get("authorization").map(|header| Authorization::parse(header));
        let body: &[u8] = incoming.body.as_ref().map_or(&[], |body| body.as_ref());
        let params = Params::decode(incoming.query.as_bytes(), body);
        let service = service(params.as_ref().ok(), authorization.as_ref());
        let result = self.result(&incoming, authorization, params, service, handle);
        match result {
            Ok((action, value)) => {
                let body = xml::answer(service.dialect(), service.namespace(), action, &id, value);
                Reply { status: StatusCode::OK, request_id: id, body }.into_response()
            }
            Err(refusal) => {
                let (status, code, message) = refusal.wire(service == Service::Ec2);
                tracing::debug!(%status, %code, message, request = id, "refused");
                Reply::refused(service, &id, &refusal).into_response()
            }
        }
    }

    fn result(
        &self,
        incoming: &Incoming,
        authorization: Option<Result<Authorization, SignatureError>>,
        params: Result<Params, Refusal>,
        service: Service,
        handle: &tokio::runtime::Handle,
    ) -> Result<(&'static str, xml::Structure), Refusal> {
        let body = incoming.body.as_ref().map_err(Clone::clone)?;
        let signed = authorization.as_ref().and_then(|parsed| parsed.as_ref().ok());
        let signature = signed.filter(|_| !self.trusts(incoming)).map(|signed| signed.signature.clone());
        let caller = self.caller(incoming, body, authorization, service)?;
        let params = params?;
        let root = params.root();
        let name = root.text("Action").ok_or_else(|| {
            Refusal::coded("MissingAction", "The request is missing an action or a required parameter.")
        })?;
        let Some(Action { service: _, name: action, answer }) = actions::find(service, name) else {
            return Err(Refusal::coded(
                "InvalidAction",
                format!("The action {name} is not valid for this web service."),
            ));
        };
        // Who repeats a question learns nothing that it was not told before.
        let asks = ["Describe", "Get"].iter().any(|verb| action.starts_with(verb));
        if let Some(signature) = signature.filter(|_| !asks) {
            self.counts_once(&signature, service)?;
        }
        let dry_run = service == Service::Ec2 && root.boolean("DryRun")?.unwrap_or(false);
        self.ensure_defaults(&caller, service)?;
        let call = Call { api: &self.api, caller: &caller, params: &params, action, dry_run, handle };
        let value = answer(&call)?;
        call.complete()?;
        if dry_run {
            return Err(Refusal::DryRun);
        }
        tracing::info!(action, account = %caller.owner.account, region = %caller.owner.region, "done");
        Ok((action, value))
    }

    /// Refuses a signed request that was done before.
    fn counts_once(&self, signature: &[u8], service: Service) -> Result<(), Refusal> {
        let mut replays = self.replays.lock().unwrap_or_else(PoisonError::into_inner);
        if replays.counts(signature, Timestamp::now()) {
            return Ok(());
        }
        let message = "The request has been received before. Sign it again to have it done again.";
        Err(denied(service, "RequestExpired", message))
    }

    /// Whether the request's signature need not be valid.
    fn trusts(&self, incoming: &Incoming) -> bool {
        self.trust_loopback && incoming.peer.ip().to_canonical().is_loopback()
    }

    /// Who calls: the owner of the key that has signed, or whom a trusted request names.
    fn caller(
        &self,
        incoming: &Incoming,
        body: &[u8],
        authorization: Option<Result<Authorization, SignatureError>>,
        service: Service,
    ) -> Result<Caller, Refusal> {
        let trusted = self.trusts(incoming);
        let default = &self.api.default_owner;
        let authorization = match authorization {
            Some(Ok(authorization)) => authorization,
            None | Some(Err(_)) if trusted => {
                return Ok(Caller { owner: default.clone(), identity: Identity::Root, access_key: String::new() });
            }
            None => {
                return Err(denied(service, "MissingAuthenticationToken", "Request is missing Authentication Token"));
            }
            Some(Err(error)) => return Err(denied(service, "IncompleteSignature", &error.to_string())),
        };
        let region: Region = authorization.region.parse()?;
        let owned = |account: &AccountId| Owner { account: account.clone(), region: region.clone() };
        let access_key = authorization.access_key.clone();
        let known = self.credentials.get(&access_key);
        if trusted {
            let named: Option<AccountId> = access_key.parse().ok();
            let account = known.map(|known| &known.account).or(named.as_ref()).unwrap_or(&default.account);
            let identity = known.map_or(Identity::Root, |known| known.identity.clone());
            return Ok(Caller { owner: owned(account), identity, access_key });
        }
        let Some(known) = known else {
            let message = "The security token included in the request is invalid.";
            return Err(denied(service, "InvalidClientTokenId", message));
        };
        let Incoming { method, path, query, headers, .. } = incoming;
        let signed = Signed { method: method.as_str(), path, query, headers: headers.clone(), body };
        authorization.verify(&signed, &known.secret, Timestamp::now()).map_err(|error| {
            let code = match error {
                SignatureError::Incomplete => "IncompleteSignature",
                SignatureError::Expired => "RequestExpired",
                SignatureError::Mismatch => "SignatureDoesNotMatch",
            };
            denied(service, code, &error.to_string())
        })?;
        Ok(Caller { owner: owned(&known.account), identity: known.identity.clone(), access_key })
    }

    /// A caller's first request makes its account's defaults.
    fn ensure_defaults(&self, caller: &Caller, service: Service) -> Result<(), Refusal> {
        let Caller { owner, identity, access_key: _ } = caller;
        let known = || {
            let id = crate::model::RecordId::account(owner);
            self.api.store.state().accounts.contains_key(&id)
        };
        if matches!(service, Service::Sts | Service::CertificateManager) || known() {
            return Ok(());
        }
        let ensured = self.api.store.update(|world| {
            self.api.decide(world, owner, identity, |state, context| {
                accounts::ensure(state, context).map_err(Refusal::from)
            })
        });
        Ok(ensured?)
    }

    /// Everything goes; an account's next request makes its defaults again.
    fn reset(&self, incoming: &Incoming) -> Reply {
        let id = request_id();
        let local = incoming.peer.ip().to_canonical().is_loopback();
        if !self.allow_reset || !local || incoming.method != Method::POST {
            let refusal = Refusal::with_status(
                StatusCode::FORBIDDEN,
                "UnauthorizedOperation",
                "POST /_/reset is open from loopback to an agent with --allow-reset only",
            );
            return Reply::refused(Service::Ec2, &id, &refusal);
        }
        let done = self.api.store.update(|world| {
            // What refers to others goes before them.
            let keys: Vec<_> = world.records().map(|record| record.key()).collect();
            let change = keys.into_iter().rev().fold(Change::default(), Change::remove);
            Ok::<_, Refusal>((change, ()))
        });
        match done.map_err(Refusal::from) {
            Ok(()) => {
                tracing::warn!("everything was removed by POST /_/reset");
                Reply { status: StatusCode::OK, request_id: id, body: Vec::new() }
            }
            Err(refusal) => Reply::refused(Service::Ec2, &id, &refusal),
        }
    }
}

/// Which service is asked: by the version, else by the scope of the signature.
fn service(params: Option<&Params>, authorization: Option<&Result<Authorization, SignatureError>>) -> Service {
    let version = params.and_then(|params| params.root().text("Version"));
    let by_version = version.and_then(|version| Service::ALL.into_iter().find(|service| service.version() == version));
    let scope = authorization.and_then(|parsed| parsed.as_ref().ok()).map(|parsed| parsed.service.as_str());
    let by_scope = || scope.and_then(|scope| Service::ALL.into_iter().find(|service| service.signing_name() == scope));
    by_version.or_else(by_scope).unwrap_or(Service::Ec2)
}

/// A caller that is not known, in the words of the service.
fn denied(service: Service, code: &'static str, message: &str) -> Refusal {
    match service {
        Service::Ec2 if code != "RequestExpired" => Refusal::with_status(
            StatusCode::UNAUTHORIZED,
            "AuthFailure",
            format!("AWS was not able to validate the provided access credentials: {message}"),
        ),
        Service::Ec2 | Service::LoadBalancing | Service::Sts | Service::CertificateManager => {
            Refusal::with_status(StatusCode::FORBIDDEN, code, message)
        }
    }
}

#[cfg(test)]
mod tests;
