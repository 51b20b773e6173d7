//! Errors as other servers see them.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use parley_engine::EngineError;
use ruma::api::error::{ErrorKind, StandardErrorBody};

/// The result of a handler.
pub(crate) type Result<T, E = FederationError> = std::result::Result<T, E>;

/// An answer that says no.
#[derive(Debug)]
pub(crate) struct FederationError {
    status: StatusCode,
    body: Box<StandardErrorBody>,
}

impl FederationError {
    /// An error with the status that belongs to its kind.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let status = match kind {
            ErrorKind::MissingToken | ErrorKind::UnknownToken(_) | ErrorKind::Unauthorized => {
                StatusCode::UNAUTHORIZED
            }
            ErrorKind::Forbidden | ErrorKind::BadState => StatusCode::FORBIDDEN,
            ErrorKind::NotFound | ErrorKind::Unrecognized => StatusCode::NOT_FOUND,
            ErrorKind::LimitExceeded(_) => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        };
        let body = Box::new(StandardErrorBody::new(kind, message.into()));
        Self { status, body }
    }
}

impl From<EngineError> for FederationError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused { kind, message } => Self::new(kind, message),
            error => {
                tracing::error!(%error, "a request of another server failed");
                Self::new(ErrorKind::Unknown, "internal server error")
            }
        }
    }
}

impl IntoResponse for FederationError {
    fn into_response(self) -> Response {
        (self.status, Json(*self.body)).into_response()
    }
}
