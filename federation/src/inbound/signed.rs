//! Who sent a request: the check of its signature, and of everything before and after it.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::{collections::BTreeMap, ops::Deref};

use axum::extract::{FromRequestParts, RawPathParams, Request};
use bytes::Bytes;
use http::{HeaderMap, header, request::Parts};
use metrics::counter;
use parley_engine::{
    limits::{Action, ClientAddress},
    remote::WantedKey,
};
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingRequest, IncomingRequestExt,
        error::{DeserializationError, ErrorKind, FromHttpRequestError},
        federation::authentication::{XMatrix, XMatrixVerificationError},
    },
    signatures::PublicKeyMap,
};

use crate::{
    Federation,
    error::{FederationError, Result},
};

/// Of a body, in bytes: a full transaction has 50 events of 64 KiB and 100 others.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// The same where no signature is needed.
const MAX_OPEN_BODY: usize = 1024 * 1024;
/// How deeply a body may be nested.
const MAX_DEPTH: usize = 100;
/// Signatures of one request that are looked at.
const MAX_SIGNATURES: usize = 5;

/// A request that another server has signed. Gives direct access to the fields of ruma's type.
#[derive(Debug)]
pub(crate) struct Signed<R> {
    /// What was asked, by ruma's type.
    pub(crate) request: R,
    /// Who asked.
    pub(crate) origin: OwnedServerName,
}

impl<R> Deref for Signed<R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.request
    }
}

impl<R: IncomingRequest> Signed<R> {
    /// Checks who sent a request, and reads it.
    pub(super) async fn read(federation: &Federation, request: Request) -> Result<Self> {
        let result = Self::check(federation, request).await;
        let outcome = match &result {
            Ok(_) => "accepted",
            Err(_) => "refused",
        };
        counter!("parley_federation_incoming_requests_total", "outcome" => outcome).increment(1);
        result
    }

    async fn check(federation: &Federation, request: Request) -> Result<Self> {
        let (mut parts, body) = request.into_parts();
        // Before the body: who may not ask doesn't make the server read.
        let signatures = signatures(&parts.headers)?;
        let origin = origin(federation, &signatures)?;
        let path = path(&mut parts).await?;
        let keys = keys(federation, &origin, &signatures).await?;
        let address = parts.extensions.get::<ClientAddress>();
        let intake = federation.intake();
        let (body, place) = intake.read(&parts.headers, address, body, MAX_BODY).await?;
        check_shape(&body)?;
        let request = http::Request::from_parts(parts, body);
        verify(federation, &origin, &keys, &request)?;
        drop(place);
        // Not before: what another says in its name doesn't count against it.
        let limits = federation.engine().limits();
        limits.check(Action::Federation, origin.as_str())?;
        federation.destinations().heard_from(&origin).await;
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        Ok(Self {
            request: parse(request, &path)?,
            origin,
        })
    }
}

/// Reads a request that needs no signature.
pub(super) async fn read_open<R: IncomingRequest>(
    federation: &Federation,
    request: Request,
) -> Result<R> {
    federation.must_be_enabled()?;
    let (mut parts, body) = request.into_parts();
    let path = path(&mut parts).await?;
    let address = parts.extensions.get::<ClientAddress>();
    let intake = federation.intake();
    let (body, _place) = intake
        .read(&parts.headers, address, body, MAX_OPEN_BODY)
        .await?;
    check_shape(&body)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    parse(http::Request::from_parts(parts, body), &path)
}

/// The signatures of a request, all by one server.
fn signatures(headers: &HeaderMap) -> Result<Vec<XMatrix>> {
    let mut signatures: Vec<XMatrix> = Vec::new();
    for value in headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .take(MAX_SIGNATURES)
    {
        let signature = XMatrix::try_from(value)
            .map_err(|error| unauthorized(format!("the Authorization header: {error}")))?;
        signatures.push(signature);
    }
    match signatures.split_first() {
        None => Err(unauthorized("the request isn't signed")),
        Some((first, rest)) if rest.iter().any(|other| other.origin != first.origin) => {
            Err(unauthorized("the request is signed by several servers"))
        }
        Some(_) => Ok(signatures),
    }
}

/// Who says to have sent a request, if this server speaks with it.
fn origin(federation: &Federation, signatures: &[XMatrix]) -> Result<OwnedServerName> {
    let own = &federation.engine().settings().server_name;
    let is_for_other = |signature: &XMatrix| {
        signature
            .destination
            .as_ref()
            .is_some_and(|destination| destination != own)
    };
    if signatures.iter().any(is_for_other) {
        return Err(unauthorized(format!(
            "the request is for another server; this is {own}"
        )));
    }
    let Some(signature) = signatures.first() else {
        return Err(unauthorized("the request isn't signed"));
    };
    if signature.origin == *own {
        return Err(unauthorized("this server doesn't ask itself"));
    }
    if !federation.policy().allows(&signature.origin) {
        return Err(FederationError::new(
            ErrorKind::Forbidden,
            format!("this server doesn't federate with {}", signature.origin),
        ));
    }
    Ok(signature.origin.clone())
}

/// Those of the signatures whose keys the origin uses now, each with its key.
async fn keys<'a>(
    federation: &Federation,
    origin: &OwnedServerName,
    signatures: &'a [XMatrix],
) -> Result<Vec<(&'a XMatrix, PublicKeyMap)>> {
    let now = federation.engine().clock().now();
    let wanted = signatures.iter().map(|signature| WantedKey {
        server: origin.clone(),
        key_id: signature.key.clone(),
        valid_at: now,
    });
    let known = federation.keys().find_of_sender(wanted.collect()).await;
    let mut problem = format!("the keys of {origin} that the request is signed with can't be had");
    let mut usable = Vec::new();
    for signature in signatures {
        let Some(known) = known.get(&(origin.clone(), signature.key.clone())) else {
            continue;
        };
        if known.valid_until < now {
            problem = format!("the key {} of {origin} is no longer valid", signature.key);
            continue;
        }
        let keys = BTreeMap::from([(signature.key.to_string(), known.key.clone())]);
        usable.push((signature, PublicKeyMap::from([(origin.to_string(), keys)])));
    }
    match usable.is_empty() {
        true => Err(refuse(federation, origin, problem)),
        false => Ok(usable),
    }
}

/// Demands that one of the signatures is right.
fn verify(
    federation: &Federation,
    origin: &OwnedServerName,
    signatures: &[(&XMatrix, PublicKeyMap)],
    request: &http::Request<Bytes>,
) -> Result<()> {
    let own = &federation.engine().settings().server_name;
    let mut problem = String::new();
    for (signature, keys) in signatures {
        match signature.verify_http_request(request, own, keys) {
            Ok(()) => return Ok(()),
            Err(XMatrixVerificationError::Signature(
                ruma::signatures::VerificationError::Json(error),
            )) => {
                return Err(FederationError::new(
                    ErrorKind::BadJson,
                    format!("the body isn't canonical JSON: {error}"),
                ));
            }
            Err(error) => problem = format!("the signature of {origin} is wrong: {error}"),
        }
    }
    Err(refuse(federation, origin, problem))
}

/// Refuses a request whose sender isn't who it says to be.
fn refuse(federation: &Federation, origin: &ServerName, problem: String) -> FederationError {
    tracing::debug!(%origin, problem, "a request was refused");
    if let Some(before) = federation.refusals().is_due(origin) {
        tracing::info!(
            %origin, problem, before,
            "a request was refused; that is not said again for 10 minutes"
        );
    }
    unauthorized(problem)
}

async fn path(parts: &mut Parts) -> Result<Vec<String>> {
    let path = RawPathParams::from_request_parts(parts, &()).await;
    let path = path.map_err(|_| invalid("the path is not UTF-8"))?;
    let path: Vec<String> = path.iter().map(|(_, value)| value.to_owned()).collect();
    match path.iter().any(|value| value.contains('\0')) {
        true => Err(invalid("the path holds a null character")),
        false => Ok(path),
    }
}

/// Lets pass nothing, or what is an object and isn't nested too deeply.
fn check_shape(body: &[u8]) -> Result<()> {
    if std::str::from_utf8(body).is_err() {
        return Err(not_json("the body is not UTF-8"));
    }
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|byte| *byte != b'{') {
        return Err(not_json("expected an object"));
    }
    match depth(body) > MAX_DEPTH {
        true => Err(not_json("the body is nested too deeply")),
        false => Ok(()),
    }
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

fn parse<R: IncomingRequest>(request: http::Request<Bytes>, path: &[&str]) -> Result<R> {
    let (parts, body) = request.into_parts();
    let request = http::Request::from_parts(parts, body.as_ref());
    R::try_from_http_request(request, path).map_err(|error| match error {
        FromHttpRequestError::Deserialization(DeserializationError::Json(error)) => {
            match error.is_data() {
                true => FederationError::new(ErrorKind::BadJson, error.to_string()),
                false => not_json(error.to_string()),
            }
        }
        FromHttpRequestError::Deserialization(DeserializationError::Query(error)) => {
            let message = error.to_string();
            let kind = match message.starts_with("missing field") {
                true => ErrorKind::MissingParam,
                false => ErrorKind::InvalidParam,
            };
            FederationError::new(kind, message)
        }
        error => invalid(error.to_string()),
    })
}

fn unauthorized(message: impl Into<String>) -> FederationError {
    FederationError::new(ErrorKind::Unauthorized, message)
}

fn invalid(message: impl Into<String>) -> FederationError {
    FederationError::new(ErrorKind::InvalidParam, message)
}

fn not_json(message: impl Into<String>) -> FederationError {
    FederationError::new(ErrorKind::NotJson, message)
}
