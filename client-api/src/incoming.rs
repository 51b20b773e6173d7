//! Reading a request: authentication first, then the body within its limit, then ruma's type.

use std::{any::TypeId, borrow::Cow, net::IpAddr, ops::Deref};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, RawPathParams, Request},
};
use bytes::Bytes;
use http::{Method, header, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parley_engine::limits::Action;
use ruma::{
    ServerName,
    api::{
        IncomingRequest, IncomingRequestExt,
        client::uiaa::UiaaResponse,
        error::{DeserializationError, ErrorKind, FromHttpRequestError},
    },
};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{ApiError, ClientAddress, ClientApi, Result, authentication::Scheme};

/// How deeply a body may be nested. serde_json stops at 128, but only in what it doesn't pass over or keep as it is.
const MAX_DEPTH: usize = 100;
/// Of a body that has no type of ruma's, in bytes.
const MAX_JSON_BODY: usize = 1024 * 1024;

/// A request as a handler gets it. Gives direct access to the fields of ruma's type.
///
/// Not `Debug`: bodies hold passwords.
pub struct Incoming<R>
where
    R: IncomingRequest<Authentication: Scheme>,
{
    /// What was asked, by ruma's type.
    pub request: R,
    /// Who asked: a session, maybe a session, or nothing, as the endpoint's metadata say.
    pub session: <R::Authentication as Scheme>::Session,
    /// Where from, if the connection tells.
    pub address: Option<IpAddr>,
    /// The body as it was sent, valid UTF-8; empty if there was none.
    pub body: Bytes,
}

impl<R> Deref for Incoming<R>
where
    R: IncomingRequest<Authentication: Scheme>,
{
    type Target = R;

    fn deref(&self) -> &R {
        &self.request
    }
}

impl<R> Incoming<R>
where
    R: IncomingRequest<Authentication: Scheme>,
{
    /// SHA-256 of the body without `auth`: what a user-interactive authentication is bound to.
    pub(crate) fn hash_without_auth(&self) -> [u8; 32] {
        // The body was parsed before, so it is an object or empty.
        let mut fields: Map<String, Value> = serde_json::from_slice(&self.body).unwrap_or_default();
        fields.remove("auth");
        Sha256::digest(Value::Object(fields).to_string()).into()
    }

    /// Counts an action of whoever is at the sender's address. Without an address nothing is counted.
    pub(crate) fn limit_by_address(&self, api: &ClientApi, action: Action) -> Result<()> {
        match self.address {
            Some(address) => Ok(api.engine.limits().check(action, address)?),
            None => Ok(()),
        }
    }

    /// Counts that `server` is asked for whoever is at the sender's address, if it is another than this one.
    pub(crate) fn limit_asking(&self, api: &ClientApi, server: &ServerName) -> Result<()> {
        if *server == api.engine.settings().server_name {
            return Ok(());
        }
        self.limit_by_address(api, Action::Search)
    }

    /// Authenticates and parses a request.
    pub(crate) async fn read(api: &ClientApi, request: Request) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        let address = parts
            .extensions
            .get::<ClientAddress>()
            .map(|address| address.0);
        // Before the body: who may not ask doesn't make the server read.
        let session = R::Authentication::authenticate(api, &parts, address).await?;
        let path = RawPathParams::from_request_parts(&mut parts, &())
            .await
            .map_err(|_| invalid("the path is not UTF-8"))?;
        let path: Vec<&str> = path.iter().map(|(_, value)| value).collect();
        if path.iter().any(|value| value.contains('\0')) {
            return Err(invalid("the path holds a null character"));
        }
        let body = read_body(&parts, body, api.settings.max_body_size).await?;
        check_shape(&body)?;
        let json: Cow<'_, [u8]> = match body.as_ref() {
            // A POST without a body, which clients do send, says as much as one with an empty object.
            [] if parts.method == Method::POST => Cow::Borrowed(b"{}"),
            json if TypeId::of::<R::EndpointError>() == TypeId::of::<UiaaResponse>() => {
                without_empty_auth(json)
            }
            json => Cow::Borrowed(json),
        };
        let request =
            R::try_from_http_request(http::Request::from_parts(parts, json.as_ref()), &path)
                .map_err(|error| refusal(&error))?;
        Ok(Self {
            request,
            session,
            address,
            body,
        })
    }
}

/// The body of a request that has no type of ruma's.
///
/// Not `Debug`: bodies hold passwords.
pub struct JsonBody<T>(pub T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let body = read_body(&parts, body, MAX_JSON_BODY).await?;
        check_shape(&body)?;
        let body = serde_json::from_slice(if body.is_empty() { b"{}" } else { &body });
        body.map(Self).map_err(|error| json_refusal(&error))
    }
}

/// Reads a body of UTF-8 of at most `limit` bytes.
async fn read_body(parts: &Parts, body: Body, limit: usize) -> Result<Bytes> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(Bytes::new());
    }
    let announced = parts
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let body = match Limited::new(body, limit).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(too_large(limit)),
        // The sender went away or stalled; hardly anyone reads this answer.
        Err(error) => return Err(not_json(format!("the body could not be read: {error}"))),
    };
    // serde passes over what it doesn't want without looking whether it is UTF-8.
    if std::str::from_utf8(&body).is_err() {
        return Err(not_json("the body is not UTF-8"));
    }
    Ok(body)
}

/// The body of a request that needs user-interactive authentication, without an `auth` that names neither a stage nor a
/// session. There are clients that send one to be told what to prove; it says as much as none.
fn without_empty_auth(body: &[u8]) -> Cow<'_, [u8]> {
    let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(body) else {
        return Cow::Borrowed(body);
    };
    let is_empty = fields
        .get("auth")
        .and_then(Value::as_object)
        .is_some_and(|auth| !auth.contains_key("type") && !auth.contains_key("session"));
    if !is_empty {
        return Cow::Borrowed(body);
    }
    fields.remove("auth");
    Cow::Owned(Value::Object(fields).to_string().into_bytes())
}

/// Lets pass nothing, or what begins like an object and isn't nested too deeply, wherever in it that may be.
fn check_shape(body: &[u8]) -> Result<()> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| *byte != b'{') {
        // serde would take a list for an object, by position.
        return match serde_json::from_slice::<IgnoredAny>(body) {
            Ok(_) => Err(ApiError::new(ErrorKind::BadJson, "expected an object")),
            Err(error) => Err(not_json(error.to_string())),
        };
    }
    if depth(body) > MAX_DEPTH {
        return Err(not_json("the body is nested too deeply"));
    }
    Ok(())
}

/// How deeply objects and lists are nested.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Says which of the protocol's errors it is that a request doesn't parse.
fn refusal(error: &FromHttpRequestError) -> ApiError {
    let FromHttpRequestError::Deserialization(error) = error else {
        return ApiError::internal();
    };
    match error {
        DeserializationError::Json(error) => json_refusal(error),
        DeserializationError::Utf8(error) => not_json(error.to_string()),
        DeserializationError::Query(error) => {
            let message = error.to_string();
            let kind = match message.starts_with("missing field") {
                true => ErrorKind::MissingParam,
                false => ErrorKind::InvalidParam,
            };
            ApiError::new(kind, message)
        }
        error => invalid(error.to_string()),
    }
}

/// JSON of the wrong shape is another error than what isn't JSON, or is nested too deeply to be read.
fn json_refusal(error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        return ApiError::new(ErrorKind::BadJson, error.to_string());
    }
    not_json(error.to_string())
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::InvalidParam, message)
}

fn not_json(message: impl Into<std::borrow::Cow<'static, str>>) -> ApiError {
    ApiError::new(ErrorKind::NotJson, message)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorKind::TooLarge,
        format!("the body may have at most {limit} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_that_of_objects_and_lists_outside_of_strings() {
        assert_eq!(depth(br#"{"a": [1, {"b": "[[[\"[["}], "c": []}"#), 3);
        assert_eq!(depth(b""), 0);
    }

    #[test]
    fn an_auth_is_left_out_only_if_it_says_nothing() {
        let without = |body: &'static str| without_empty_auth(body.as_bytes());
        let shorter = without(r#"{"auth":{"device":"a"},"b":1}"#);
        assert_eq!(shorter.as_ref(), br#"{"b":1}"#);
        for body in [
            r#"{"auth":{"session":"a"}}"#,
            r#"{"auth":{"type":"m.login.dummy"}}"#,
            r#"{"auth":1}"#,
            "{",
        ] {
            assert_eq!(without(body).as_ref(), body.as_bytes());
        }
    }

    #[test]
    fn only_objects_are_bodies() {
        assert!(check_shape(b"").is_ok());
        assert!(check_shape(b" {}").is_ok());
        for body in ["[]", "\"text\"", "1", "x"] {
            assert!(check_shape(body.as_bytes()).is_err());
        }
        let deep = format!("{{\"a\":{}", "[".repeat(MAX_DEPTH));
        assert!(check_shape(deep.as_bytes()).is_err());
    }
}
