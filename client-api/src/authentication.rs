//! What each of ruma's authentication schemes demands of a request, and what a handler gets of it.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{Method, header, request::Parts};
use parley_engine::{
    EngineError,
    sessions::{AccountKind, Session},
};
use percent_encoding::percent_decode_str;
use ruma::api::{
    Metadata as _,
    auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, NoAccessToken, NoAuthentication,
    },
    client::session::{logout, logout_all},
    error::ErrorKind,
    path_builder::PathBuilder as _,
};

use crate::{ApiError, ClientApi, Result, guests};

/// A way of authentication of the client-server API.
pub trait Scheme {
    /// What a handler learns of who sent the request.
    type Session: Send;

    /// Checks who sent the request.
    fn authenticate(
        api: &ClientApi,
        parts: &Parts,
        address: Option<IpAddr>,
    ) -> impl Future<Output = Result<Self::Session>> + Send;
}

impl Scheme for NoAuthentication {
    type Session = ();

    async fn authenticate(_: &ClientApi, _: &Parts, _: Option<IpAddr>) -> Result<()> {
        Ok(())
    }
}

impl Scheme for NoAccessToken {
    type Session = ();

    async fn authenticate(_: &ClientApi, _: &Parts, _: Option<IpAddr>) -> Result<()> {
        Ok(())
    }
}

impl Scheme for AccessToken {
    type Session = Arc<Session>;

    async fn authenticate(
        api: &ClientApi,
        parts: &Parts,
        address: Option<IpAddr>,
    ) -> Result<Arc<Session>> {
        AccessTokenOptional::authenticate(api, parts, address)
            .await?
            .ok_or_else(|| ApiError::new(ErrorKind::MissingToken, "an access token is required"))
    }
}

impl Scheme for AccessTokenOptional {
    type Session = Option<Arc<Session>>;

    async fn authenticate(
        api: &ClientApi,
        parts: &Parts,
        address: Option<IpAddr>,
    ) -> Result<Option<Arc<Session>>> {
        let Some(token) = access_token(parts) else {
            return Ok(None);
        };
        let session = session_of(api, parts, &token, address).await?;
        if session.locked && !is_open_to_locked(&parts.method, parts.uri.path()) {
            return Err(EngineError::user_locked().into());
        }
        if session.kind == AccountKind::Guest && !guests::may(&parts.method, parts.uri.path()) {
            session.must_not_be_guest()?;
        }
        Ok(Some(session))
    }
}

impl Scheme for AppserviceTokenOptional {
    /// The token as it was sent: a person's stale token must not keep them from logging in, so only a handler that
    /// needs it looks whose it is.
    type Session = Option<String>;

    async fn authenticate(
        _: &ClientApi,
        parts: &Parts,
        _: Option<IpAddr>,
    ) -> Result<Option<String>> {
        Ok(access_token(parts).map(Cow::into_owned))
    }
}

/// Whose token it is: of a device, or of an application service, which says for whom it speaks.
async fn session_of(
    api: &ClientApi,
    parts: &Parts,
    token: &str,
    address: Option<IpAddr>,
) -> Result<Arc<Session>> {
    let appservices = api.engine.appservices();
    let Some(appservice) = appservices.by_token(token) else {
        return Ok(api.engine.sessions().authenticate(token, address).await?);
    };
    let user_id = parameter(parts, "user_id");
    // Libraries send the name that it had before v1.17.
    let device_id =
        parameter(parts, "device_id").or_else(|| parameter(parts, "org.matrix.msc3202.device_id"));
    let session = appservices
        .session(appservice, user_id.as_deref(), device_id.as_deref())
        .await?;
    Ok(Arc::new(session))
}

/// A locked user may log out, <https://spec.matrix.org/v1.19/client-server-api/#account-locking>.
fn is_open_to_locked(method: &Method, path: &str) -> bool {
    let one = logout::v3::Request::PATH_BUILDER.all_paths();
    let mut paths = one.chain(logout_all::v3::Request::PATH_BUILDER.all_paths());
    *method == Method::POST && paths.any(|open| open == path)
}

/// The access token of a request: of the header, else of the query, which is deprecated.
pub fn access_token(parts: &Parts) -> Option<Cow<'_, str>> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("Bearer")
            .then_some(Cow::Borrowed(token.trim()));
    }
    parameter(parts, "access_token")
}

/// A parameter of the query.
fn parameter<'a>(parts: &'a Parts, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = parts.uri.query()?.split('&');
    let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    percent_decode_str(value).decode_utf8().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(uri: &str, authorization: Option<&str>) -> Parts {
        let mut request = http::Request::builder().uri(uri);
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_header_comes_before_the_query() {
        let parts = parts("/sync?access_token=query", Some("bearer header"));
        assert_eq!(access_token(&parts).as_deref(), Some("header"));
    }

    #[test]
    fn a_token_of_the_query_is_decoded() {
        let parts = parts("/sync?since=s1&access_token=a%2Bb", None);
        assert_eq!(access_token(&parts).as_deref(), Some("a+b"));
    }

    #[test]
    fn another_scheme_is_no_token() {
        assert_eq!(access_token(&parts("/sync", Some("Basic YTpi"))), None);
    }
}
