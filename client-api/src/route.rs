//! Routes by ruma's metadata: no path is written by hand.

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{MethodFilter, on},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::Method;
use ruma::api::{IncomingRequest, path_builder::PathBuilder};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{Answer, ApiError, ClientApi, Incoming, Result, authentication::Scheme};

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
        let tasks = api.tasks.clone();
        // In a box, too: what becomes a task is moved several times, and its result once more in the room of all of it.
        let answered = handler(api, incoming)
            .map(|handled| match handled {
                Ok(answer) => answer.into_http(),
                Err(error) => error.into_response(),
            })
            .boxed();
        match R::METHOD {
            Method::GET => answered.await,
            _ => to_the_end(&tasks, answered).await,
        }
    };
    router.route(path, on(method, serve))
}

/// Does something that changes the server to its end, even if the client that asked goes away meanwhile. Otherwise it would
/// stop wherever it happened to wait: after the commit, say, and before the session that was ended is forgotten.
async fn to_the_end(tasks: &TaskTracker, work: BoxFuture<'static, Response>) -> Response {
    match tasks.spawn(work.in_current_span()).await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            // To be caught where all panics of requests are.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => ApiError::internal().into_response(),
        },
    }
}
