//! Requests whose bodies are put right before ruma's types read them: what may be left out is put in.

use std::{borrow::Cow, marker::PhantomData, ops::Deref};

use ruma::api::{IncomingRequest, Metadata, error::DeserializationError};
use serde_json::{Map, Value};

/// What is put into a body before ruma reads it.
pub(crate) trait Completion {
    /// Ruma's request.
    type Request: IncomingRequest;

    /// Puts in what the specification lets clients leave out. `path` holds the values of the path's variables.
    fn complete(body: &mut Map<String, Value>, path: &[&str]);
}

/// Ruma's request of a [`Completion`].
pub(crate) struct Completed<C: Completion>(pub C::Request, pub PhantomData<C>);

impl<C: Completion> Deref for Completed<C> {
    type Target = C::Request;

    fn deref(&self) -> &C::Request {
        &self.0
    }
}

impl<C: Completion> Metadata for Completed<C> {
    const METHOD: http::Method = C::Request::METHOD;
    const RATE_LIMITED: bool = C::Request::RATE_LIMITED;
    type Authentication = <C::Request as Metadata>::Authentication;
    type PathBuilder = <C::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = C::Request::PATH_BUILDER;
}

impl<C: Completion> IncomingRequest for Completed<C> {
    type EndpointError = <C::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = <C::Request as IncomingRequest>::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let (parts, body) = request.into_parts();
        let body = match serde_json::from_slice::<Map<String, Value>>(body) {
            Ok(mut fields) => {
                C::complete(&mut fields, path);
                Cow::Owned(Value::Object(fields).to_string().into_bytes())
            }
            // Ruma says what is wrong with it.
            Err(_) => Cow::Borrowed(body),
        };
        let request = http::Request::from_parts(parts, body.as_ref());
        C::Request::try_from_http_request_inner(request, path)
            .map(|request| Self(request, PhantomData))
    }
}
