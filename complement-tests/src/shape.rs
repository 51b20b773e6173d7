//! Every answer of a test's server, checked against the specification's OpenAPI document of the operation.
//!
//! The documents are the folder `data` of the specification's repository. Where it lies is said by `PARLEY_MATRIX_SPEC`, or
//! it is `../shared/matrix-spec` beside this repository. Without it nothing is checked.

mod documents;
mod operations;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::Value;

use self::operations::{Expected, Operation, Operations};

/// The variable that says where the specification is.
const FOLDER: &str = "PARLEY_MATRIX_SPEC";

static OPERATIONS: LazyLock<Option<Operations>> =
    LazyLock::new(|| folder().map(|folder| Operations::read(&folder)));

/// Statuses of errors that any operation may answer with: they are of the protocol as a whole, or, the last, of HTTP where
/// another server is at fault.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#standard-error-response>
const COMMON_ERRORS: &[u16] = &[400, 401, 403, 404, 405, 413, 415, 429, 502];

/// What is told as `null` on purpose, where the specification has a string or nothing: the end of the path and the names.
/// Clients that are in use read these without asking whether they are there.
const NULLS_FOR_CLIENTS: &[(&str, &[&str])] = &[
    (
        "/devices",
        &["display_name", "last_seen_ip", "last_seen_ts"],
    ),
    ("/joined_members", &["avatar_url", "display_name"]),
];

/// An operation of the client-server API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specified {
    /// Its method.
    pub method: String,
    /// Its path, with `{}` for each parameter.
    pub path: String,
    /// Whether the specification has it be refused to who asks too often.
    pub may_be_limited: bool,
}

/// All operations that the specification has; none where that isn't there.
pub fn specified() -> Vec<Specified> {
    let operations = OPERATIONS.as_ref().map(Operations::all);
    operations
        .into_iter()
        .flatten()
        .map(Specified::from)
        .collect()
}

/// The operation that a request is of, whatever its query.
pub fn specified_of(method: &Method, path: &str) -> Option<Specified> {
    let path = path.split('?').next().unwrap_or_default();
    let operation = OPERATIONS.as_ref()?.find(method, path);
    operation.map(Specified::from)
}

impl From<&Operation> for Specified {
    fn from(operation: &Operation) -> Self {
        Self {
            method: operation.method().to_owned(),
            path: operation.path(),
            may_be_limited: operation.answers(429),
        }
    }
}

/// What was found wrong with the answers of a test's server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Violations {
    found: Arc<Mutex<Vec<String>>>,
}

impl Violations {
    fn add(&self, violation: String) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.contains(&violation) {
            found.push(violation);
        }
    }

    /// Fails if something was found.
    pub(crate) fn assert_none(&self) {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            found.is_empty(),
            "answers that the specification doesn't have:\n{}",
            found.join("\n")
        );
    }
}

/// Looks at each answer on its way out.
pub(crate) async fn check(
    State(violations): State<Violations>,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default();
    // By a proposal that the specification doesn't have yet, these answer another question.
    let proposed = query.contains("org.matrix.msc4140.delay=");
    let response = next.run(request).await;
    let Some(operations) = &*OPERATIONS else {
        return response;
    };
    if method == Method::OPTIONS || proposed || !is_of_clients(&path) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX)
        .await
        .expect("an answer of the server is whole");
    let answer = Answer {
        path: &path,
        status: parts.status,
        headers: &parts.headers,
        body: &body,
    };
    let operation = operations.find(&method, &path);
    if let Err(error) = judge(operations, operation, &answer) {
        let status = parts.status.as_u16();
        violations.add(format!("{method} {path} answered {status}: {error}"));
    }
    Response::from_parts(parts, Body::from(body))
}

/// An answer to be judged.
struct Answer<'a> {
    path: &'a str,
    status: StatusCode,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl Answer<'_> {
    fn is_json(&self) -> bool {
        let content_type = self.headers.get(header::CONTENT_TYPE);
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
    }

    /// The code of the error that it is, if it is one of the protocol's.
    fn error(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(self.body).unwrap_or_default();
        let code = body["errcode"].as_str()?;
        (body["error"].is_string() && self.is_json()).then(|| code.to_owned())
    }

    /// Whether it says that there is no such endpoint.
    fn is_unrecognized(&self) -> bool {
        matches!(self.status.as_u16(), 404 | 405)
            && self.error().is_some_and(|code| code == "M_UNRECOGNIZED")
    }

    /// Whether it asks for a token, which some operations describe for their other uses of the status only.
    fn asks_for_token(&self) -> bool {
        let code = self.error().unwrap_or_default();
        self.status == StatusCode::UNAUTHORIZED
            && matches!(code.as_str(), "M_MISSING_TOKEN" | "M_UNKNOWN_TOKEN")
    }

    fn may_be_null(&self, pointer: &str) -> bool {
        let name = pointer.rsplit('/').next().unwrap_or_default();
        NULLS_FOR_CLIENTS
            .iter()
            .any(|(path, names)| self.path.ends_with(path) && names.contains(&name))
    }
}

fn judge(
    operations: &Operations,
    operation: Option<&Operation>,
    answer: &Answer<'_>,
) -> Result<(), String> {
    let Some(operation) = operation else {
        return match answer.is_unrecognized() {
            true => Ok(()),
            false => Err("the specification has no such operation".to_owned()),
        };
    };
    let status = answer.status.as_u16();
    match operations.expected(operation, status) {
        _ if answer.asks_for_token() => Ok(()),
        Some(Expected::Json(schema)) => {
            if !answer.is_json() {
                return Err("the content type should be application/json".to_owned());
            }
            let body: Value =
                serde_json::from_slice(answer.body).map_err(|error| format!("no JSON: {error}"))?;
            let errors: Vec<String> = schema
                .iter_errors(&body)
                .filter(|error| {
                    !(error.instance().is_null()
                        && answer.may_be_null(error.instance_path().as_str()))
                })
                .map(|error| shorten(&format!("{}: {error}", error.instance_path())))
                .collect();
            match errors.is_empty() {
                true => Ok(()),
                false => Err(errors.join("\n    ")),
            }
        }
        Some(Expected::Other) => Ok(()),
        None if COMMON_ERRORS.contains(&status) => match answer.error() {
            Some(_) => Ok(()),
            None => Err("an error has an errcode and an error".to_owned()),
        },
        None => Err("the operation has no such status".to_owned()),
    }
}

/// Messages quote the value that is wrong, which may be the whole answer.
fn shorten(message: &str) -> String {
    const LENGTH: usize = 300;
    match message.char_indices().nth(LENGTH) {
        None => message.to_owned(),
        Some(_) => {
            let start: String = message.chars().take(LENGTH / 2).collect();
            let skipped = message.chars().count() - LENGTH / 2;
            let end: String = message.chars().skip(skipped).collect();
            format!("{start} ... {end}")
        }
    }
}

/// Whether a path belongs to the stable client-server API, as far as that is described in documents.
fn is_of_clients(path: &str) -> bool {
    let apis = [
        "/_matrix/client/",
        "/_matrix/media/",
        "/.well-known/matrix/",
    ];
    let is_of_servers = path == "/.well-known/matrix/server";
    // A page for browsers, described in prose alone.
    let is_page = path.ends_with("/fallback/web");
    apis.iter().any(|api| path.starts_with(api))
        && !path.contains("/unstable/")
        && !is_of_servers
        && !is_page
}

/// The specification's repository, if it is there.
fn folder() -> Option<PathBuf> {
    if let Ok(folder) = std::env::var(FOLDER) {
        let folder = PathBuf::from(folder);
        assert!(
            folder.join("data").is_dir(),
            "{FOLDER} names no folder of the specification"
        );
        return Some(folder);
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/matrix-spec");
    beside.join("data").is_dir().then_some(beside)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn judged(method: Method, path: &str, status: u16, body: &str) -> Result<(), String> {
        let Some(operations) = &*OPERATIONS else {
            return Err("nothing is checked".to_owned());
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let answer = Answer {
            path,
            status: StatusCode::from_u16(status).unwrap(),
            headers: &headers,
            body: body.as_bytes(),
        };
        judge(operations, operations.find(&method, path), &answer)
    }

    #[test]
    fn an_answer_of_another_shape_is_found() {
        if OPERATIONS.is_none() {
            return;
        }
        let whoami = |status, body| {
            judged(
                Method::GET,
                "/_matrix/client/v3/account/whoami",
                status,
                body,
            )
        };
        whoami(200, r#"{"user_id":"@ada:x"}"#).unwrap();
        whoami(401, r#"{"errcode":"M_UNKNOWN_TOKEN","error":"who?"}"#).unwrap();
        whoami(400, r#"{"errcode":"M_UNKNOWN","error":"no"}"#).unwrap();
        for (status, body) in [
            (200, "{}"),
            (200, r#"{"user_id":"ada"}"#),
            (200, r#"{"user_id":1}"#),
            (200, "?"),
            (201, r#"{"user_id":"@ada:x"}"#),
            (401, "{}"),
            (400, "{}"),
            (500, r#"{"errcode":"M_UNKNOWN","error":"no"}"#),
        ] {
            whoami(status, body).unwrap_err();
        }
    }

    #[test]
    fn a_shape_that_another_file_describes_is_found() {
        if OPERATIONS.is_none() {
            return;
        }
        let event = |body| {
            judged(
                Method::GET,
                "/_matrix/client/v3/rooms/!r:x/event/$e",
                200,
                body,
            )
        };
        event(
            r#"{"type":"m","content":{},"event_id":"$e","origin_server_ts":1,"room_id":"!r:x","sender":"@a:x"}"#,
        )
        .unwrap();
        event(r#"{"type":"m","content":{},"event_id":"$e","origin_server_ts":1,"sender":"@a:x"}"#)
            .unwrap_err();
    }

    #[test]
    fn an_operation_that_is_not_there_may_only_be_said_not_to_be() {
        if OPERATIONS.is_none() {
            return;
        }
        let unknown =
            |status, body| judged(Method::GET, "/_matrix/client/v3/nothing", status, body);
        unknown(404, r#"{"errcode":"M_UNRECOGNIZED","error":"no"}"#).unwrap();
        unknown(404, r#"{"errcode":"M_NOT_FOUND","error":"no"}"#).unwrap_err();
        unknown(200, "{}").unwrap_err();
    }
}
