//! The API's client: one request, one connection.

use std::{io, path::PathBuf};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::CliError;
use crate::{
    api::{ACCOUNT_HEADER, ErrorBody, PREFIX, REGION_HEADER},
    control::Operation,
    model::{AccountId, Region},
};

/// Asks the agent on a Unix socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    /// None: the agent's default.
    account: Option<AccountId>,
    region: Option<Region>,
}

impl Client {
    /// A client of the agent on `socket`; nothing is opened yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, account: None, region: None }
    }

    /// The same client, asking about the resources of another account or region than the agent's default.
    pub fn on_behalf_of(self, account: Option<AccountId>, region: Option<Region>) -> Self {
        Self { account, region, ..self }
    }

    /// Does one operation.
    pub async fn call<O: Operation>(&self, request: &O) -> Result<O::Response, CliError> {
        let protocol = |detail: String| CliError::Protocol { socket: self.socket.clone(), detail };
        let unreachable = |source: io::Error| CliError::Unreachable { socket: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| protocol(e.to_string()))?;
        // Ends with the sender; what goes wrong in it is what the sender reports.
        tokio::spawn(connection);
        let body = serde_json::to_vec(request).map_err(|error| protocol(error.to_string()))?;
        let mut request = Request::post(format!("{PREFIX}{}", O::NAME))
            .header(HOST, "privatelink")
            .header(CONTENT_TYPE, "application/json");
        if let Some(account) = &self.account {
            request = request.header(ACCOUNT_HEADER, account.as_str());
        }
        if let Some(region) = &self.region {
            request = request.header(REGION_HEADER, region.as_str());
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| protocol(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(|error| {
            // An agent that ends before it answers is as good as none.
            if error.is_incomplete_message() || error.is_canceled() {
                unreachable(io::Error::new(io::ErrorKind::ConnectionReset, "the agent closed the connection"))
            } else {
                protocol(error.to_string())
            }
        })?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|error| protocol(error.to_string()))?.to_bytes();
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| protocol(error.to_string()));
        }
        let body: ErrorBody =
            serde_json::from_slice(&body).map_err(|_| protocol(format!("status {status} without an error")))?;
        Err(if status.is_server_error() { CliError::AgentFailed(body) } else { CliError::Refused(body) })
    }
}
