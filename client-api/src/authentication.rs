//! What each of ruma's authentication schemes demands of a request, and what a handler gets of it.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use http::{header, request::Parts};
use parley_engine::sessions::Session;
use percent_encoding::percent_decode_str;
use ruma::api::{
    auth_scheme::{
        AccessToken, AccessTokenOptional, AppserviceTokenOptional, NoAccessToken, NoAuthentication,
    },
    error::ErrorKind,
};

use crate::{ApiError, ClientApi, Result};

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
        let Some(token) = token(parts) else {
            return Ok(None);
        };
        let session = api.engine.sessions().authenticate(&token, address).await?;
        if session.locked && !is_open_to_locked(parts.uri.path()) {
            return Err(ApiError::new(
                ErrorKind::UserLocked,
                "your account is locked, ask the administrator of this server",
            ));
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
        Ok(token(parts).map(Cow::into_owned))
    }
}

/// A locked user may log out, <https://spec.matrix.org/v1.19/client-server-api/#account-locking>.
fn is_open_to_locked(path: &str) -> bool {
    path.ends_with("/logout") || path.ends_with("/logout/all")
}

/// The access token of a request: of the header, else of the query, which is deprecated.
fn token(parts: &Parts) -> Option<Cow<'_, str>> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        return scheme
            .eq_ignore_ascii_case("Bearer")
            .then_some(Cow::Borrowed(token.trim()));
    }
    let query = parts.uri.query()?;
    let token = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("access_token="))?;
    percent_decode_str(token).decode_utf8().ok()
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
        assert_eq!(token(&parts).as_deref(), Some("header"));
    }

    #[test]
    fn a_token_of_the_query_is_decoded() {
        let parts = parts("/sync?since=s1&access_token=a%2Bb", None);
        assert_eq!(token(&parts).as_deref(), Some("a+b"));
    }

    #[test]
    fn another_scheme_is_no_token() {
        assert_eq!(token(&parts("/sync", Some("Basic YTpi"))), None);
    }
}
