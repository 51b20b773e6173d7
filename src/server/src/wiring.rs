//! What the listeners serve: the one place where engine and APIs are put together.

mod files;
mod settings;

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use parley_client_api::ClientApi;
use parley_engine::{
    Engine, EngineError,
    clock::SystemClock,
    keys, passwords,
    random::{Random, SystemRandom},
};
use parley_federation::{Federation, FederationStartError};
use parley_storage::{Database, StorageError};

use tokio_util::sync::CancellationToken;

use crate::{config::Config, http::health::ReadyCheck};

/// In a stop, for what clients asked for that have gone.
const GRACE: Duration = Duration::from_secs(2);

/// Why engine and APIs didn't start. The message is a sentence for an administrator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WiringError {
    /// The database cannot be opened: in use, not writable, of a newer version, not reachable.
    #[error(transparent)]
    Database(#[from] StorageError),
    /// The engine cannot work with what is in the database.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The way to other servers can't be opened.
    #[error(transparent)]
    Federation(#[from] FederationStartError),
    /// A file that the configuration names can't be read, or doesn't hold what it should.
    #[error("{}: {message}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// `[appservices]` can't be worked with.
    #[error("[appservices]: {0}")]
    Appservices(String),
    /// `[jwt]` can't be worked with.
    #[error("[jwt]: {0}")]
    Jwt(String),
}

/// Reads the files that a configuration names, as a start would: registrations of application services, keys, certificates
/// of authorities.
///
/// # Errors
/// The first that can't be read or doesn't hold what it should.
pub fn check_files(config: &Config) -> Result<(), WiringError> {
    files::read(config, &mut settings::engine(config))?;
    files::federation(config).map(drop)
}

/// The engine over its database, without anything that listens: what `parley user` works on too.
pub(crate) struct Homeserver {
    pub(crate) engine: Engine,
    database: Database,
}

impl Homeserver {
    /// Opens the data. Nobody else may have it open, unless it is in PostgreSQL.
    pub(crate) async fn open(config: &Config) -> Result<Self, WiringError> {
        let mut engine_settings = settings::engine(config);
        files::read(config, &mut engine_settings)?;
        let database = Database::open(&settings::database(config)).await?;
        let engine = Engine::start(
            engine_settings,
            database.clone(),
            Arc::new(SystemClock),
            Arc::new(SystemRandom),
        );
        Ok(Self {
            engine: engine.await?,
            database,
        })
    }

    /// Makes keys of another homeserver those of this one.
    pub(crate) async fn import_keys(&self, text: &str) -> Result<Vec<String>, EngineError> {
        keys::import(&self.database, &**self.engine.clock(), text).await
    }

    /// The way to other servers, of which nothing happens by itself.
    pub(crate) async fn federation(&self, config: &Config) -> Result<Federation, WiringError> {
        let (engine, database) = (self.engine.clone(), self.database.clone());
        Ok(Federation::quiet(engine, database, files::federation(config)?).await?)
    }

    /// Writes what isn't written yet and closes the data.
    pub(crate) async fn close(&self) {
        self.engine.stop().await;
        self.database.close().await;
    }
}

/// The hash of a password, for which no data is needed.
pub(crate) async fn hash_password(config: &Config, password: &str) -> Result<String, EngineError> {
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    passwords::hash_new(&settings::engine(config).passwords, &random, password).await
}

/// Engine and APIs of a running server.
pub(crate) struct Application {
    homeserver: Homeserver,
    client_api: ClientApi,
    federation: Federation,
    stopping: CancellationToken,
}

impl Application {
    /// Opens the data.
    pub(crate) async fn start(config: &Config) -> Result<Self, WiringError> {
        let homeserver = Homeserver::open(config).await?;
        let stopping = CancellationToken::new();
        let client_api = ClientApi::new(
            homeserver.engine.clone(),
            settings::client_api(config),
            stopping.clone(),
        );
        let federation = Federation::start(
            homeserver.engine.clone(),
            homeserver.database.clone(),
            files::federation(config)?,
        )
        .await?;
        Ok(Self {
            homeserver,
            client_api,
            federation,
            stopping,
        })
    }

    /// Everything that `[listener]` serves.
    pub(crate) fn routes(&self) -> Router {
        parley_client_api::router(self.client_api.clone())
            .merge(parley_admin::router(self.engine().clone()))
            .merge(self.federation_routes())
    }

    /// What `[federation_listener]` serves.
    pub(crate) fn federation_routes(&self) -> Router {
        parley_federation::router(self.federation.clone())
    }

    /// Whether requests can be answered now: whether the database answers.
    pub(crate) fn ready_check(&self) -> ReadyCheck {
        let accounts = self.engine().accounts().clone();
        Arc::new(move || {
            let accounts = accounts.clone();
            Box::pin(async move {
                let any = accounts.list(0, 1).await;
                any.map(drop).map_err(|error| error.to_string())
            })
        })
    }

    pub(crate) fn federation(&self) -> &Federation {
        &self.federation
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.homeserver.engine
    }

    /// Has the requests that wait for something to happen answered.
    pub(crate) fn answer_long_polls(&self) {
        self.engine().typing().end_all();
        self.stopping.cancel();
    }

    /// Writes what isn't written yet and closes the data. Called after the last request.
    pub(crate) async fn stop(&self) {
        // A request that takes longer than this has been given up before.
        let finished = tokio::time::timeout(GRACE, self.client_api.finish()).await;
        if finished.is_err() {
            tracing::warn!("what clients asked for that have gone isn't done yet");
        }
        self.federation.stop().await;
        self.homeserver.close().await;
    }
}
