//! Requests that send an event at once, or later if they say so by a parameter that ruma's types don't have.

use ruma::api::{IncomingRequest, Metadata, error::DeserializationError};

/// By how many milliseconds an event is to be delayed.
const PARAMETER: &str = "org.matrix.msc4140.delay=";

/// A request of ruma's, and by how many milliseconds what it asks for is delayed.
#[derive(Debug)]
pub(in crate::endpoints) struct MaybeDelayed<R> {
    /// The request.
    pub(in crate::endpoints) request: R,
    /// The delay in milliseconds; one that isn't a number is 0, which is refused later.
    pub(in crate::endpoints) delay: Option<i64>,
}

impl<R: Metadata> Metadata for MaybeDelayed<R> {
    const METHOD: http::Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for MaybeDelayed<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(
        request: http::Request<&[u8]>,
        path: &[&str],
    ) -> Result<Self, DeserializationError> {
        let query = request.uri().query().unwrap_or_default();
        let delay = query
            .split('&')
            .find_map(|pair| pair.strip_prefix(PARAMETER));
        Ok(Self {
            delay: delay.map(|delay| delay.parse().unwrap_or_default()),
            request: R::try_from_http_request_inner(request, path)?,
        })
    }
}
