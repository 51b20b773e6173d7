//! Why the engine did not do what was asked.

use std::{borrow::Cow, sync::Arc, time::Duration};

use parley_storage::StorageError;
use ruma::api::{
    client::uiaa::UiaaInfo,
    error::{
        ErrorKind, LimitExceededErrorData, RetryAfter, UnknownTokenErrorData,
        UserLimitExceededErrorData,
    },
};

/// The result of the engine's functions.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Why the engine did not do what was asked.
///
/// What is refused is told in Matrix's own terms, so that an API need only choose the HTTP status of the kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The request isn't allowed or makes no sense; the asker is told why.
    #[error("{message}")]
    Refused {
        /// Which of the protocol's errors it is.
        kind: ErrorKind,
        /// A sentence for a human.
        message: Cow<'static, str>,
    },
    /// More must be proved first: the next stage of user-interactive authentication.
    #[error("user-interactive authentication is required")]
    AuthenticationRequired(Box<UiaaInfo>),
    /// The server manages what somebody wants to write, see [`crate::account_data`].
    #[error("{0}")]
    Managed(&'static str),
    /// What is asked for contradicts what has happened already.
    #[error("{0}")]
    Conflict(&'static str),
    /// Another server, which is needed for it, refused for a reason that isn't the asker's to know or to do something about.
    #[error("another server can't help: {0}")]
    OtherServer(String),
    /// Something that there may be one of was made by somebody else at the same moment.
    #[error("somebody else has just made the same")]
    Duplicate,
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was to be written with others wasn't, as the database failed.
    #[error("the commit failed: {0}")]
    NotStored(Arc<StorageError>),
    /// Something that must not happen did. The asker learns no details, the log does.
    #[error("{0}")]
    Internal(String),
}

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident => $kind:ident;)*) => {
        $($(#[doc = $doc])+
        pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
            Self::refused(ErrorKind::$kind, message)
        })*
    };
}

impl EngineError {
    /// Refuses with any of the protocol's errors.
    pub fn refused(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused {
            kind,
            message: message.into(),
        }
    }

    refusals! {
        /// `M_FORBIDDEN`: the asker may not do that.
        forbidden => Forbidden;
        /// `M_NOT_FOUND`: there is no such thing, or the asker may not know of it.
        not_found => NotFound;
        /// `M_BAD_JSON`: JSON of the wrong shape.
        bad_json => BadJson;
        /// `M_INVALID_PARAM`: a parameter has a value that it can't have.
        invalid_param => InvalidParam;
        /// `M_MISSING_PARAM`: a required parameter is missing.
        missing_param => MissingParam;
        /// `M_UNRECOGNIZED`: the server doesn't know how to do that.
        unrecognized => Unrecognized;
        /// `M_TOO_LARGE`: more than the server takes.
        too_large => TooLarge;
        /// `M_UNKNOWN` with status 400: refused for a reason that has no code of its own.
        unknown => Unknown;
    }

    /// `M_LIMIT_EXCEEDED`: too often; worth trying again after `retry_after`.
    pub fn limit_exceeded(retry_after: Duration) -> Self {
        let mut data = LimitExceededErrorData::new();
        data.retry_after = Some(RetryAfter::Delay(retry_after));
        Self::refused(
            ErrorKind::LimitExceeded(data),
            "too many requests, try again later",
        )
    }

    /// `M_USER_LIMIT_EXCEEDED`: the account has as much as it may; more about that at `info_uri`.
    pub fn user_limit(info_uri: &str, message: impl Into<Cow<'static, str>>) -> Self {
        let data = UserLimitExceededErrorData::new(info_uri.to_owned());
        Self::refused(ErrorKind::UserLimitExceeded(data), message)
    }

    /// `M_UNKNOWN_TOKEN`: log in again; with `soft_logout`, without losing the keys of the device.
    pub fn unknown_token(soft_logout: bool, message: impl Into<Cow<'static, str>>) -> Self {
        let mut data = UnknownTokenErrorData::new();
        data.soft_logout = soft_logout;
        Self::refused(ErrorKind::UnknownToken(data), message)
    }

    /// `M_GUEST_ACCESS_FORBIDDEN`: guests may not do that.
    pub fn guest_forbidden(message: impl Into<Cow<'static, str>>) -> Self {
        Self::refused(ErrorKind::GuestAccessForbidden, message)
    }

    /// `M_USER_LOCKED`: nothing but logging out is open to the user.
    pub fn user_locked() -> Self {
        Self::refused(
            ErrorKind::UserLocked,
            "your account is locked, ask the administrator of this server",
        )
    }

    /// After what time what was limited is worth trying again, if that is what it is.
    pub fn retry_after(&self) -> Option<Duration> {
        let Some(ErrorKind::LimitExceeded(data)) = self.kind() else {
            return None;
        };
        match data.retry_after {
            Some(RetryAfter::Delay(wait)) => Some(wait),
            _ => Some(Duration::ZERO),
        }
    }

    /// The protocol's error, if that is what it is.
    pub fn kind(&self) -> Option<&ErrorKind> {
        match self {
            Self::Refused { kind, .. } => Some(kind),
            _ => None,
        }
    }
}
