//! The server-server API: what other servers ask of this one, and what it asks of them.

mod error;
mod inbound;
mod settings;

use std::sync::Arc;

use axum::{Router, routing::get};
use parley_engine::Engine;
use parley_storage::Database;

pub use self::settings::{FederationSettings, Ports};

/// Why federation didn't start. The message is a sentence for an administrator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederationStartError {}

/// What a homeserver has to do with others. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Federation {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    database: Database,
    settings: FederationSettings,
}

impl Federation {
    /// Opens the way to other servers for `engine`, which works over `database`.
    ///
    /// # Errors
    /// See [`FederationStartError`].
    pub fn start(
        engine: Engine,
        database: Database,
        settings: FederationSettings,
    ) -> Result<Self, FederationStartError> {
        let inner = Arc::new(Inner {
            engine,
            database,
            settings,
        });
        Ok(Self { inner })
    }

    /// Ends what runs beside the requests. To be called before the engine stops.
    pub async fn stop(&self) {}

    /// The homeserver that it is of.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Where it keeps things.
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// How it was started.
    pub fn settings(&self) -> &FederationSettings {
        &self.inner.settings
    }
}

/// The endpoints of the server-server API. To be merged with those of the other APIs.
pub fn router(federation: Federation) -> Router {
    Router::new()
        .route(
            "/_matrix/federation/v1/openid/userinfo",
            get(inbound::openid::userinfo),
        )
        .route(
            "/_matrix/federation/v1/version",
            get(inbound::version::version),
        )
        .with_state(federation)
}
