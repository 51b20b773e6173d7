//! What a homeserver does, without HTTP and without SQL: [`Engine`] and its services.
//!
//! Each service holds only what it needs; the graph of who knows whom has no cycle, and no service reaches all others.

pub mod background;
pub mod clock;
pub mod limits;
pub mod random;
pub mod rooms;
pub mod sessions;
pub mod settings;
pub mod stream;

mod keys;

mod error;

use std::sync::Arc;

use parley_storage::Database;

use self::{
    background::Background,
    clock::Clock,
    limits::Limits,
    random::Random,
    rooms::{Rooms, RoomsParts, registry::Registry, timeline::Events},
    sessions::Sessions,
    stream::{Stream, committer::Committer, feeds::Feeds},
};
pub use self::{
    error::{EngineError, Result},
    settings::EngineSettings,
};

/// A homeserver at work. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Engine {
    services: Arc<Services>,
}

#[derive(Debug)]
struct Services {
    settings: EngineSettings,
    clock: Arc<dyn Clock>,
    background: Background,
    limits: Limits,
    sessions: Sessions,
    stream: Arc<Stream>,
    feeds: Arc<Feeds>,
    rooms: Rooms,
}

impl Engine {
    /// Starts the services over an open database.
    ///
    /// # Errors
    /// If the database can't be read, or holds what this server can't work with.
    pub async fn start(
        settings: EngineSettings,
        database: Database,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self> {
        let background = Background::default();
        let limits = Limits::new(&settings.rate_limits, &clock);
        let sessions = Sessions::start(&database, &clock, &background);
        let key = keys::server_key(&database, &settings.server_name, &*clock, &random).await?;
        let position = database.stream_position().await?;
        let stream = Arc::new(Stream::new(position, random.number()));
        let feeds = Arc::new(Feeds::default());
        feeds.start_at(position);
        let events = Arc::new(Events::new(database.clone()));
        let registry = Arc::new(Registry::new(database.clone(), events.clone()));
        let committer = Committer::start(
            database.clone(),
            stream.clone(),
            feeds.clone(),
            registry.clone(),
            events.clone(),
            &background,
        );
        let rooms = Rooms::new(RoomsParts {
            database,
            registry,
            events,
            feeds: feeds.clone(),
            committer,
            key,
            clock: clock.clone(),
            random,
            settings: settings.rooms.clone(),
        });
        Ok(Self {
            services: Arc::new(Services {
                settings,
                clock,
                background,
                limits,
                sessions,
                stream,
                feeds,
                rooms,
            }),
        })
    }

    /// Ends what runs beside the requests, after it has written what it still has to. No request may be under way.
    pub async fn stop(&self) {
        self.services.background.stop().await;
    }

    /// The settings it was started with.
    pub fn settings(&self) -> &EngineSettings {
        &self.services.settings
    }

    /// The time, as the engine sees it.
    pub fn clock(&self) -> &dyn Clock {
        self.services.clock.as_ref()
    }

    /// Who may do what how often.
    pub fn limits(&self) -> &Limits {
        &self.services.limits
    }

    /// How far the stream has come.
    pub fn stream(&self) -> &Stream {
        &self.services.stream
    }

    /// Rooms.
    pub fn rooms(&self) -> &Rooms {
        &self.services.rooms
    }

    /// Whose access token is whose.
    pub fn sessions(&self) -> &Sessions {
        &self.services.sessions
    }
}
