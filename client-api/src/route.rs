//! Routes by ruma's metadata: no path is written by hand.

use axum::{
    Router,
    extract::{Request, State},
    response::IntoResponse,
    routing::{MethodFilter, on},
};
use ruma::api::{IncomingRequest, path_builder::PathBuilder};

use crate::{Answer, ClientApi, Incoming, Result, authentication::Scheme};

/// Adds an endpoint at all paths it ever had, stable and unstable.
///
/// ```ignore
/// route(router, whoami::handle)
/// ```
/// where `handle` is `async fn(ClientApi, Incoming<whoami::v3::Request>) -> Result<whoami::v3::Response>`.
pub fn route<R, H, F, A>(router: Router<ClientApi>, handler: H) -> Router<ClientApi>
where
    R: IncomingRequest<Authentication: Scheme> + Send + 'static,
    H: Fn(ClientApi, Incoming<R>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
    A: Answer + 'static,
{
    R::PATH_BUILDER.all_paths().fold(router, |router, path| {
        route_at(router, path, handler.clone())
    })
}

/// Adds an endpoint at a path that ruma doesn't list, with the same arguments in the same order.
pub fn route_at<R, H, F, A>(router: Router<ClientApi>, path: &str, handler: H) -> Router<ClientApi>
where
    R: IncomingRequest<Authentication: Scheme> + Send + 'static,
    H: Fn(ClientApi, Incoming<R>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<A>> + Send + 'static,
    A: Answer + 'static,
{
    #[expect(
        clippy::expect_used,
        reason = "a constant of each endpoint; a wrong one is found by every start"
    )]
    let method = MethodFilter::try_from(R::METHOD).expect("axum knows the methods of HTTP");
    let serve = async move |State(api): State<ClientApi>, request: Request| {
        // In a box of its own: a long poll would else keep the room that reading the request took.
        let incoming = match Box::pin(Incoming::<R>::read(&api, request)).await {
            Ok(incoming) => incoming,
            Err(error) => return error.into_response(),
        };
        match handler(api, incoming).await {
            Ok(answer) => answer.into_http(),
            Err(error) => error.into_response(),
        }
    };
    router.route(path, on(method, serve))
}
