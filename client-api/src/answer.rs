//! What a handler may answer: a response of ruma's, or bytes that are ready.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use ruma::api::{OutgoingResponse, OutgoingResponseExt};

use crate::ApiError;

/// What a handler answers.
pub trait Answer {
    /// Makes it an HTTP response.
    fn into_http(self) -> Response;
}

impl<T: OutgoingResponse> Answer for T {
    fn into_http(self) -> Response {
        match self.try_into_http_response::<Vec<u8>>() {
            Ok(response) => response.map(Body::from),
            Err(error) => {
                tracing::error!(%error, "a response could not be serialised");
                ApiError::internal().into_response()
            }
        }
    }
}

/// JSON that is serialised already.
#[derive(Clone, Debug)]
pub struct RawJson(pub Bytes);

impl RawJson {
    /// A value in which an absent field is left out, where ruma's type would say `null` and the specification knows no
    /// `null`.
    pub fn without_nulls(value: serde_json::Value) -> Self {
        Self(remove_nulls(value).to_string().into())
    }
}

fn remove_nulls(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key, remove_nulls(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(remove_nulls).collect(),
        value => value,
    }
}

impl Answer for RawJson {
    fn into_http(self) -> Response {
        let mut response = Response::new(Body::from(self.0));
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        response
    }
}

/// Any HTTP response, for what isn't JSON.
#[derive(Debug)]
pub struct RawResponse(pub Response);

impl Answer for RawResponse {
    fn into_http(self) -> Response {
        self.0
    }
}
