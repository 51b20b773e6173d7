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

/// Adds the path of an endpoint in the first version of the API, which asks the same and answers in a list: the status,
/// then what the second version answers. Ruma has it no more.
pub(super) fn first_version<R, H, F, A>(
    router: Router<Federation>,
    path: &'static str,
    handler: H,
) -> Router<Federation>
where
    R: IncomingRequest<Authentication = ServerSignatures> + Send + 'static,
    H: Fn(Federation, Signed<R>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
    A: OutgoingResponse + 'static,
{
    add_at::<R, _, _>(router, [path], move |federation, request| {
        let handler = handler.clone();
        async move {
            let signed = Signed::read(&federation, request).await?;
            listed(handler(federation, signed).await?)
        }
    })
}

fn add<R, H, F>(router: Router<Federation>, handler: H) -> Router<Federation>
where
    R: IncomingRequest,
    H: Fn(Federation, Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response>> + Send + 'static,
{
    add_at::<R, _, _>(router, R::PATH_BUILDER.all_paths(), handler)
}

fn add_at<R, H, F>(
    router: Router<Federation>,
    paths: impl IntoIterator<Item = &'static str>,
    handler: H,
) -> Router<Federation>
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
    paths.into_iter().fold(router, |router, path| {
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
    serialized(response).map(|response| response.map(Body::from))
}

/// An answer in a list, behind its status.
fn listed(response: impl OutgoingResponse) -> Result<Response> {
    let response = serialized(response)?;
    let status = response.status().as_u16();
    Ok(response.map(|answer| {
        let mut list = format!("[{status},").into_bytes();
        list.extend(answer);
        list.push(b']');
        Body::from(list)
    }))
}

fn serialized(response: impl OutgoingResponse) -> Result<http::Response<Vec<u8>>> {
    match response.try_into_http_response::<Vec<u8>>() {
        Ok(response) => Ok(response),
        Err(error) => {
            tracing::error!(%error, "a response could not be serialised");
            Err(FederationError::new(
                ErrorKind::Unknown,
                "internal server error",
            ))
        }
    }
}
