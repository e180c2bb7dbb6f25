//! Why a request is refused, with the code and HTTP status that it has on the wire.

use std::borrow::Cow;

use axum::http::StatusCode;

use crate::{
    api::ApiError,
    control::ControlError,
    model::InvalidValue,
    store::{StoreError, UpdateError},
};

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// What the control plane says; the code may depend on the service.
    Control(ControlError),
    /// `DryRun`, and all would be well.
    DryRun,
    /// Another code than the control plane's.
    Coded { status: StatusCode, code: Cow<'static, str>, message: String },
}

impl Refusal {
    /// A request that is wrong.
    pub fn coded(code: &'static str, message: impl Into<String>) -> Self {
        Self::with_status(StatusCode::BAD_REQUEST, code, message)
    }

    /// The same with a status of its own.
    pub fn with_status(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::Coded { status, code: Cow::Borrowed(code), message: message.into() }
    }

    /// A parameter that must be given is not.
    pub fn missing(name: &str) -> Self {
        Self::coded("MissingParameter", format!("The request must contain the parameter {name}"))
    }

    /// A parameter's value breaks a rule.
    pub fn value(name: &str, value: &str, rule: &str) -> Self {
        Self::coded("InvalidParameterValue", format!("Value ({value}) for parameter {name} is invalid: it {rule}"))
    }

    /// A parameter that is not recognized, or not supported here.
    pub fn unknown_parameter(name: &str) -> Self {
        Self::coded("UnknownParameter", format!("The parameter {name} is not recognized, or not supported here"))
    }

    /// A request that cannot be read.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::coded("MalformedQueryString", message)
    }

    /// The agent itself failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::with_status(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// Status, code and message; `ec2` says for which service.
    pub fn wire(&self, ec2: bool) -> (StatusCode, Cow<'static, str>, String) {
        match self {
            Self::DryRun => (
                StatusCode::PRECONDITION_FAILED,
                Cow::Borrowed("DryRunOperation"),
                "Request would have succeeded, but DryRun flag is set.".to_owned(),
            ),
            Self::Control(error) => {
                let code = match (error, ec2) {
                    // EC2 has no ValidationError.
                    (ControlError::Invalid(invalid), true) if invalid.what == "Principal" => "InvalidPrincipal",
                    (ControlError::InvalidSecurityGroup(_), true) => "InvalidGroup.NotFound",
                    (ControlError::Invalid(_), true) => "InvalidParameterValue",
                    (ControlError::LoadBalancerNotServed { .. }, true) => "InvalidParameter",
                    (_, _) => error.code(),
                };
                (StatusCode::BAD_REQUEST, Cow::Borrowed(code), error.to_string())
            }
            Self::Coded { status, code, message } => {
                let code = match (code.as_ref(), ec2) {
                    ("MissingParameter" | "InvalidParameterValue" | "UnknownParameter", false) => {
                        Cow::Borrowed("ValidationError")
                    }
                    (_, _) => code.clone(),
                };
                (*status, code, message.clone())
            }
        }
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

impl From<InvalidValue> for Refusal {
    fn from(error: InvalidValue) -> Self {
        Self::Control(ControlError::Invalid(error))
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        // Files of this host are nobody's business on the wire.
        tracing::error!(%error, "the state cannot be changed");
        Self::internal("The state could not be changed; the agent's log says why.")
    }
}

impl From<UpdateError<Self>> for Refusal {
    fn from(error: UpdateError<Self>) -> Self {
        match error {
            UpdateError::Refused(refusal) => refusal,
            UpdateError::Store(error) => error.into(),
        }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        let ApiError { status, body } = error;
        Self::Coded { status, code: Cow::Owned(body.code), message: body.message }
    }
}
