//! The client-server API: reads requests into ruma's types, calls the engine, shapes the answer.
//!
//! **Adding an endpoint.** One file under `endpoints/<area>/`, first line the method and path, with
//! `pub(super) async fn handle(api: ClientApi, incoming: Incoming<Request>) -> Result<Response>`; a line in the `routes`
//! of the area. Path, method and authentication come from ruma's metadata. A handler decides nothing: it calls one
//! function of the engine.

mod answer;
mod authentication;
mod completed;
mod endpoints;
mod error;
mod events;
mod filter;
mod guests;
mod incoming;
mod page;
mod route;
mod router;

use std::sync::Arc;

use parley_engine::Engine;
pub use parley_engine::limits::ClientAddress;
use ruma::{OwnedServerName, OwnedUserId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    answer::{Answer, RawJson, RawResponse},
    authentication::{Scheme, access_token},
    error::{ApiError, Result},
    incoming::{Incoming, JsonBody},
    route::{route, route_at},
    router::{finish, router},
};

/// What the handlers share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientApi {
    /// The homeserver.
    pub engine: Engine,
    /// How it presents itself.
    pub settings: Arc<ClientApiSettings>,
    /// Cancelled when the server stops: then every long poll is answered.
    pub stopping: CancellationToken,
    /// What is done to its end although nobody may wait for the answer any more.
    pub(crate) tasks: TaskTracker,
}

impl ClientApi {
    /// The API of `engine`. When `stopping` is cancelled, long polls are answered.
    pub fn new(engine: Engine, settings: ClientApiSettings, stopping: CancellationToken) -> Self {
        Self {
            engine,
            settings: Arc::new(settings),
            stopping,
            tasks: TaskTracker::new(),
        }
    }

    /// Waits until everything is done that was asked for, also by clients that have gone. To be called when no more
    /// requests come, and before the engine stops.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Settings that matter to clients only.
#[derive(Clone, Debug)]
pub struct ClientApiSettings {
    /// The largest body of a request, in bytes, except where an endpoint has its own limit.
    pub max_body_size: usize,
    /// What is told under `/.well-known/matrix/`.
    pub well_known: WellKnownSettings,
}

/// What is told under `/.well-known/matrix/`. A file that would say nothing isn't there.
#[derive(Clone, Debug, Default)]
pub struct WellKnownSettings {
    /// Where clients find this server.
    pub homeserver_url: Option<String>,
    /// Where other servers find it.
    pub server: Option<OwnedServerName>,
    /// Who answers questions, by Matrix.
    pub support_user: Option<OwnedUserId>,
    /// Who answers questions, by e-mail.
    pub support_email: Option<String>,
    /// A page with help.
    pub support_page: Option<String>,
    /// The LiveKit service that carries calls (MatrixRTC).
    pub livekit_service_url: Option<String>,
}

impl Default for ClientApiSettings {
    fn default() -> Self {
        Self {
            max_body_size: 4 * 1024 * 1024,
            well_known: WellKnownSettings::default(),
        }
    }
}
