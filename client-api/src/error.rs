//! Errors as clients see them: a status, a code of the protocol, a sentence.

use std::{borrow::Cow, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use parley_engine::EngineError;
use ruma::api::{
    client::uiaa::UiaaInfo,
    error::{ErrorKind, LimitExceededErrorData, RetryAfter, StandardErrorBody},
};

/// The result of a handler.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

/// An answer that says no.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    body: Box<Body>,
}

#[derive(Debug)]
enum Body {
    Error {
        kind: ErrorKind,
        message: Cow<'static, str>,
    },
    Authentication(UiaaInfo),
}

impl ApiError {
    /// An error with the status that belongs to its kind.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::with_status(status_of(&kind), kind, message)
    }

    /// An error with another status than usual.
    pub fn with_status(
        status: StatusCode,
        kind: ErrorKind,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            status,
            body: Box::new(Body::Error {
                kind,
                message: message.into(),
            }),
        }
    }

    /// `M_UNKNOWN` with status 500, for what isn't the client's fault. The details belong into the log.
    pub fn internal() -> Self {
        Self::with_status(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorKind::Unknown,
            "internal server error",
        )
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused { kind, message } => Self::new(kind, message),
            EngineError::AuthenticationRequired(info) => Self {
                status: StatusCode::UNAUTHORIZED,
                body: Box::new(Body::Authentication(*info)),
            },
            EngineError::Managed(message) => {
                Self::with_status(StatusCode::METHOD_NOT_ALLOWED, ErrorKind::BadJson, message)
            }
            EngineError::Conflict(message) => {
                Self::with_status(StatusCode::CONFLICT, ErrorKind::Unknown, message)
            }
            error @ EngineError::OtherServer(_) => {
                let message = error.to_string();
                Self::with_status(StatusCode::BAD_GATEWAY, ErrorKind::Unknown, message)
            }
            error => {
                tracing::error!(%error, "a request failed");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut retry_after = None;
        let json = match *self.body {
            Body::Error { kind, message } => {
                if let ErrorKind::LimitExceeded(LimitExceededErrorData {
                    retry_after: Some(RetryAfter::Delay(delay)),
                    ..
                }) = &kind
                {
                    retry_after = Some(seconds(*delay));
                }
                let locked = kind == ErrorKind::UserLocked;
                let body = StandardErrorBody::new(kind, message.into_owned());
                match serde_json::to_value(&body) {
                    // Ruma has no place for it.
                    Ok(mut body) if locked => {
                        body["soft_logout"] = true.into();
                        serde_json::to_vec(&body)
                    }
                    body => body.and_then(|body| serde_json::to_vec(&body)),
                }
            }
            Body::Authentication(info) => serde_json::to_vec(&info),
        };
        // Neither type has a map with keys that aren't strings, nor anything else that JSON can't hold.
        let mut response = (
            self.status,
            [(
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            )],
            json.unwrap_or_default(),
        )
            .into_response();
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Whole seconds, rounded up: who comes back earlier is refused again.
fn seconds(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

/// The HTTP status that goes with an error, where an endpoint doesn't say otherwise.
fn status_of(kind: &ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::MissingToken
        | ErrorKind::UnknownToken(_)
        | ErrorKind::Unauthorized
        | ErrorKind::UserLocked => StatusCode::UNAUTHORIZED,
        ErrorKind::Forbidden
        | ErrorKind::BadState
        | ErrorKind::GuestAccessForbidden
        | ErrorKind::CannotLeaveServerNoticeRoom
        | ErrorKind::InviteBlocked
        | ErrorKind::UserDeactivated
        | ErrorKind::UserSuspended
        | ErrorKind::ResourceLimitExceeded(_)
        | ErrorKind::UserLimitExceeded(_)
        | ErrorKind::ThreepidDenied
        | ErrorKind::WrongRoomKeysVersion(_) => StatusCode::FORBIDDEN,
        ErrorKind::NotFound | ErrorKind::Unrecognized | ErrorKind::UrlNotSet => {
            StatusCode::NOT_FOUND
        }
        ErrorKind::CannotOverwriteMedia => StatusCode::CONFLICT,
        ErrorKind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorKind::LimitExceeded(_) => StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::ConnectionFailed | ErrorKind::BadStatus(_) => StatusCode::BAD_GATEWAY,
        ErrorKind::ConnectionTimeout | ErrorKind::NotYetUploaded => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_limited_is_told_to_wait_whole_seconds() {
        let error = ApiError::from(EngineError::limit_exceeded(Duration::from_millis(1_200)));
        let response = error.into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn a_failure_of_the_database_is_not_told_to_clients() {
        let error = ApiError::from(EngineError::Internal("secret".to_owned()));
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!format!("{error:?}").contains("secret"));
    }
}
