//! The server-server API: what other servers ask of this one ([`router`]), and what it asks of them ([`Federation`]).

mod check;
mod error;
mod exchange;
mod inbound;
mod invite_v1;
mod keys;
mod outbound;
mod policy;
mod sender;
mod settings;
mod status;

use std::sync::Arc;

use axum::Router;
use parley_engine::{Engine, EngineError, complaints::Complaints};
use parley_protocol::ServerKey;
use parley_storage::{Database, StorageError};
use ruma::api::error::ErrorKind;
use tokio::sync::Semaphore;

pub use self::{
    check::{Finding, Verdict},
    outbound::{
        names::{Answer as NamesAnswer, NameError, Names, Service},
        transport::{Carried, Transport},
    },
    settings::{FederationSettings, Ports},
    status::DestinationStatus,
};
use self::{
    error::{FederationError, Result},
    inbound::Intake,
    keys::{Keys, OwnKeys},
    outbound::{
        Client,
        addresses::AddressFilter,
        destinations::Destinations,
        discovery::{Discovery, WithoutServices},
        http::Connections,
        identity::IdentityServers,
        names::Dns,
        remote::Servers,
        well_known::WellKnown,
    },
    policy::Policy,
    sender::Sender,
};

/// Of those who say that an address is a user's, as many as are heard at once.
const MAX_BINDING: usize = 10;

/// Why federation didn't start. The message is a sentence for an administrator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FederationStartError {
    /// The system's configuration of the DNS can't be used.
    #[error("names of other servers can't be looked up: {0}")]
    Names(#[from] NameError),
    /// No connection can be made.
    #[error("connections to other servers can't be made: {0}")]
    Connections(String),
    /// The database can't be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What was received before can't be taken up.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What a homeserver has to do with others. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Federation {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    database: Database,
    client: Client,
    keys: Keys,
    policy: Policy,
    identity: IdentityServers,
    /// Of those who say that an address is a user's, as many as are heard at once.
    binding: Semaphore,
    /// For bodies of requests of which it isn't known whose they are.
    intake: Intake,
    /// What is said of servers whose requests are refused.
    refusals: Complaints,
    /// `None` where nothing is sent by itself.
    sender: Option<Sender>,
}

impl Federation {
    /// Opens the way to other servers for `engine`, which works over `database`, and begins to tell them what happens.
    ///
    /// # Errors
    /// See [`FederationStartError`].
    pub async fn start(
        engine: Engine,
        database: Database,
        settings: FederationSettings,
    ) -> Result<Self, FederationStartError> {
        let mut inner = Self::prepare(engine, database, settings).await?;
        if inner.policy.is_enabled() {
            let servers = Arc::new(Servers {
                client: inner.client.clone(),
                keys: inner.keys.clone(),
                identity: inner.identity.clone(),
            });
            inner.engine.connect(servers).await?;
            let (engine, database) = (&inner.engine, &inner.database);
            inner.sender = Some(Sender::start(
                engine,
                database,
                &inner.client,
                &inner.policy,
            ));
        }
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The same without anything happening by itself: for commands where no server runs.
    ///
    /// # Errors
    /// See [`FederationStartError`].
    pub async fn quiet(
        engine: Engine,
        database: Database,
        settings: FederationSettings,
    ) -> Result<Self, FederationStartError> {
        Ok(Self {
            inner: Arc::new(Self::prepare(engine, database, settings).await?),
        })
    }

    async fn prepare(
        engine: Engine,
        database: Database,
        settings: FederationSettings,
    ) -> Result<Inner, FederationStartError> {
        let policy = Policy::new(&settings);
        let names = match &settings.names {
            Some(names) => Arc::clone(names),
            None => Arc::new(Dns::new()?),
        };
        let filter = AddressFilter::new(&settings.permitted_networks);
        let connections = Connections::new(&names, filter, &settings.authorities)
            .map_err(|error| FederationStartError::Connections(error.to_string()))?;
        let clock = engine.clock();
        let identity = IdentityServers::new(connections.clone(), &settings.identity_servers);
        let well_known =
            WellKnown::new(connections.clone(), Arc::clone(clock), settings.ports.https);
        let discovery = Discovery {
            names,
            well_known: Arc::new(well_known),
            connections,
            port: settings.ports.matrix,
            without_services: WithoutServices::new(Arc::clone(clock)),
        };
        let destinations = Destinations::new(
            database.clone(),
            Arc::clone(clock),
            Arc::clone(engine.random()),
            engine.announcer().clone(),
        );
        let key = engine.server_key();
        let client = Client::new(
            Arc::clone(key),
            discovery,
            settings.transport.clone(),
            destinations,
            policy.clone(),
        );
        let refusals = Complaints::new(Arc::clone(clock));
        let own = own_keys(&engine, &database).await?;
        let notaries = settings.notaries.clone();
        let keys = Keys::new(
            client.clone(),
            database.clone(),
            Arc::clone(clock),
            own,
            notaries,
        );
        Ok(Inner {
            engine,
            database,
            client,
            keys,
            policy,
            identity,
            binding: Semaphore::new(MAX_BINDING),
            intake: Intake::default(),
            refusals,
            sender: None,
        })
    }

    /// Ends what runs beside the requests. To be called before the engine stops.
    pub async fn stop(&self) {
        if let Some(sender) = &self.inner.sender {
            sender.stop().await;
        }
    }

    /// The homeserver that it is of.
    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub(crate) fn database(&self) -> &Database {
        &self.inner.database
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    pub(crate) fn sender(&self) -> Option<&Sender> {
        self.inner.sender.as_ref()
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    pub(crate) fn binding(&self) -> &Semaphore {
        &self.inner.binding
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.inner.intake
    }

    pub(crate) fn refusals(&self) -> &Complaints {
        &self.inner.refusals
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.inner.policy
    }

    pub(crate) fn destinations(&self) -> &Destinations {
        self.inner.client.destinations()
    }

    /// Refuses whatever it is, where this server federates with nobody.
    pub(crate) fn must_be_enabled(&self) -> Result<()> {
        match self.inner.policy.is_enabled() {
            true => Ok(()),
            false => Err(FederationError::new(
                ErrorKind::Forbidden,
                "this server doesn't federate",
            )),
        }
    }
}

/// The keys of this server, also those that it no longer signs with.
async fn own_keys(engine: &Engine, database: &Database) -> Result<OwnKeys, StorageError> {
    let name = &engine.settings().server_name;
    let rows = database.expired_signing_keys().await?;
    let old = rows.into_iter().filter_map(|(row, expired_at)| {
        let key = ServerKey::from_der(name.clone(), &row.private_key, &row.version)?;
        keys::old_key(&key, expired_at)
    });
    Ok(OwnKeys::new(
        Arc::clone(engine.server_key()),
        old.collect(),
        Arc::clone(engine.clock()),
    ))
}

/// The endpoints of the server-server API. To be merged with those of the other APIs.
pub fn router(federation: Federation) -> Router {
    inbound::router(federation)
}
