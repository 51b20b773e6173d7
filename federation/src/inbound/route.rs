//! Routes by ruma's metadata: no path is written by hand.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use ruma::api::{
    IncomingRequest, OutgoingResponse, OutgoingResponseExt, auth_scheme::NoAuthentication,
    error::ErrorKind, federation::authentication::ServerSignatures, path_builder::PathBuilder,
};

use super::signed::{Signed, read_open};
use crate::{
    Federation,
    error::{FederationError, Result},
};

/// Adds an endpoint for servers, which sign their requests.
pub(super) fn signed<R, H, F, A>(router: Router<Federation>, handler: H) -> Router<Federation>
where
    R: IncomingRequest<Authentication = ServerSignatures> + Send + 'static,
    H: Fn(Federation, Signed<R>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
    A: OutgoingResponse + 'static,
{
    add::<R, _, _>(router, move |federation, request| {
        let handler = handler.clone();
        async move {
            let signed = Signed::read(&federation, request).await?;
            shape(handler(federation, signed).await?)
        }
    })
}

/// Adds an endpoint for anyone.
pub(super) fn open<R, H, F, A>(router: Router<Federation>, handler: H) -> Router<Federation>
where
    R: IncomingRequest<Authentication = NoAuthentication> + Send + 'static,
    H: Fn(Federation, R) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
    A: OutgoingResponse + 'static,
{
    add::<R, _, _>(router, move |federation, request| {
        let handler = handler.clone();
        async move {
            let request = read_open(&federation, request).await?;
            shape(handler(federation, request).await?)
        }
    })
}

fn add<R, H, F>(router: Router<Federation>, handler: H) -> Router<Federation>
where
    R: IncomingRequest,
    H: Fn(Federation, Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response>> + Send + 'static,
{
    #[expect(
        clippy::expect_used,
        reason = "a constant of each endpoint; a wrong one is found by every start"
    )]
    let method = MethodFilter::try_from(R::METHOD).expect("axum knows the methods of HTTP");
    R::PATH_BUILDER.all_paths().fold(router, |router, path| {
        let handler = handler.clone();
        let serve =
            async move |State(federation): State<Federation>, request: Request| match handler(
                federation, request,
            )
            .await
            {
                Ok(response) => response,
                Err(error) => error.into_response(),
            };
        router.route(path, on(method, serve))
    })
}

fn shape(response: impl OutgoingResponse) -> Result<Response> {
    match response.try_into_http_response::<Vec<u8>>() {
        Ok(response) => Ok(response.map(Body::from)),
        Err(error) => {
            tracing::error!(%error, "a response could not be serialised");
            Err(FederationError::new(
                ErrorKind::Unknown,
                "internal server error",
            ))
        }
    }
}
