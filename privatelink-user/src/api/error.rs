//! The one place where a refusal becomes an HTTP status.

use axum::{
    Json,
    extract::rejection::JsonRejection,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use crate::{
    control::{ControlError, RefusalKind},
    runtime::{AttachRefusal, RuntimeError},
    store::{StoreError, UpdateError},
};

/// An error as it travels: the code is for programs, the message says value and rule, the hint the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ErrorBody {
    pub code: String,
    pub message: String,
    pub hint: String,
}

/// An error with its HTTP status.
#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub body: ErrorBody,
}

impl ApiError {
    fn new(status: StatusCode, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, body: ErrorBody { code: code.to_owned(), message: message.into(), hint: hint.into() } }
    }

    /// There is no operation `name`.
    pub fn unknown_operation(name: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "InvalidAction",
            format!("The action {name} is not valid for this web service."),
            "use a client of the same version as the agent",
        )
    }

    /// The agent itself failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalError",
            message,
            "the agent's log says more; repeat the command",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let status = match error.kind() {
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Conflict => StatusCode::CONFLICT,
        };
        Self::new(status, error.code(), error.to_string(), error.hint())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (status, code) = match error {
            StoreError::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
            StoreError::Directory { .. }
            | StoreError::Writable { .. }
            | StoreError::Foreign { .. }
            | StoreError::InUse { .. }
            | StoreError::Corrupt { .. }
            | StoreError::Schema { .. }
            | StoreError::Io { .. }
            | StoreError::Invariant(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        Self::new(status, code, error.to_string(), error.hint())
    }
}

impl From<UpdateError<ControlError>> for ApiError {
    fn from(error: UpdateError<ControlError>) -> Self {
        match error {
            UpdateError::Refused(error) => error.into(),
            UpdateError::Store(error) => error.into(),
        }
    }
}

impl From<AttachRefusal> for ApiError {
    fn from(refusal: AttachRefusal) -> Self {
        let (status, code) = match refusal {
            AttachRefusal::NotFound(_) | AttachRefusal::OtherNamespace { .. } => {
                (StatusCode::NOT_FOUND, "InvalidNetworkInterfaceID.NotFound")
            }
            AttachRefusal::Loopback(_)
            | AttachRefusal::NotEthernet { .. }
            | AttachRefusal::HostPort(_)
            | AttachRefusal::IndexTooGreat { .. } => (StatusCode::BAD_REQUEST, "InvalidParameterValue"),
            AttachRefusal::XdpUnavailable { .. } => (StatusCode::BAD_REQUEST, "UnsupportedOperation"),
            AttachRefusal::Unreadable { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        };
        Self::new(status, code, refusal.to_string(), refusal.hint())
    }
}

impl From<RuntimeError> for ApiError {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Tables(_) => Self::internal(error.to_string()),
            RuntimeError::NotForwarding => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                error.to_string(),
                "start the agent with `privatelink agent`",
            ),
        }
    }
}

impl From<JsonRejection> for ApiError {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "ValidationError",
            rejection.body_text(),
            "send the operation's request as a JSON object with content-type application/json",
        )
    }
}
