//! What a homeserver does, without HTTP and without SQL: [`Engine`] and its services.
//!
//! Each service holds only what it needs; the graph of who knows whom has no cycle, and no service reaches all others.

pub mod account_data;
pub mod accounts;
pub mod appservices;
pub mod background;
pub mod clock;
pub mod complaints;
pub mod delayed_events;
pub mod devices;
pub mod filters;
pub mod hooks;
pub mod ignored;
pub mod interactive;
pub mod keys;
pub mod limits;
pub mod outgoing;
pub mod passwords;
pub mod presence;
pub mod profiles;
pub mod push;
pub mod random;
pub mod receipts;
pub mod remote;
pub mod rooms;
pub mod sessions;
pub mod settings;
pub mod stream;
pub mod sync;
pub mod turn;
pub mod typing;
pub mod unread;
pub mod user_directory;

mod compute;
mod erased;
mod personal;
mod places;
mod room_services;

mod error;
mod text;

use std::{sync::Arc, time::Duration};

use parley_protocol::ServerKey;
use parley_storage::Database;

use self::{
    account_data::AccountData,
    accounts::{AccountParts, Accounts},
    appservices::Appservices,
    background::Background,
    clock::Clock,
    delayed_events::DelayedEvents,
    devices::Devices,
    erased::Erased,
    filters::Filters,
    hooks::AccountHooks,
    interactive::InteractiveAuthentication,
    limits::Limits,
    outgoing::Announcer,
    presence::Presence,
    profiles::Profiles,
    push::{PushRules, pushers::Pushers},
    random::Random,
    receipts::Receipts,
    remote::Outside,
    room_services::{RoomServiceParts, RoomServices},
    rooms::{Rooms, indexer::Indexer},
    sessions::Sessions,
    stream::{Stream, nodes::Nodes},
    sync::Sync,
    turn::Turn,
    typing::Typing,
    unread::Unread,
    user_directory::UserDirectory,
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
    settings: Arc<EngineSettings>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    background: Background,
    limits: Limits,
    outside: Outside,
    announcer: Announcer,
    sessions: Sessions,
    appservices: Appservices,
    room_services: RoomServices,
    users: UserServices,
}

/// What is about users, not rooms.
#[derive(Debug)]
struct UserServices {
    devices: Devices,
    accounts: Accounts,
    interactive: InteractiveAuthentication,
    filters: Filters,
    profiles: Profiles,
    directory: UserDirectory,
    turn: Turn,
}

/// What they are made of.
struct UserParts<'a> {
    database: &'a Database,
    clock: &'a Arc<dyn Clock>,
    random: &'a Arc<dyn Random>,
    settings: &'a Arc<EngineSettings>,
    limits: &'a Limits,
    outside: &'a Outside,
    sessions: &'a Sessions,
    appservices: &'a Appservices,
    erased: &'a Erased,
    hooks: Arc<dyn AccountHooks>,
    indexer: &'a Arc<Indexer>,
    background: &'a Background,
}

impl UserServices {
    fn start(parts: UserParts<'_>) -> Result<Self> {
        let tokens = &parts.settings.tokens;
        let devices = Devices::new(
            parts.database,
            parts.clock,
            parts.random,
            parts.settings,
            parts.sessions,
            &parts.hooks,
        );
        let profiles = Profiles::new(
            parts.database,
            parts.limits,
            parts.settings,
            &parts.hooks,
            parts.outside,
        );
        let accounts = Accounts::new(AccountParts {
            database: parts.database.clone(),
            clock: Arc::clone(parts.clock),
            random: Arc::clone(parts.random),
            settings: Arc::clone(parts.settings),
            limits: parts.limits.clone(),
            sessions: parts.sessions.clone(),
            devices: devices.clone(),
            appservices: parts.appservices.clone(),
            erased: parts.erased.clone(),
            hooks: parts.hooks,
        })?;
        let interactive = InteractiveAuthentication::start(
            parts.database,
            parts.clock,
            parts.random,
            &accounts,
            tokens.authentication_timeout,
            parts.background,
        );
        Ok(Self {
            devices,
            accounts,
            interactive,
            filters: Filters::new(parts.database, parts.settings.limits.filters),
            profiles,
            directory: UserDirectory::new(parts.database, parts.settings, parts.indexer),
            turn: Turn::new(parts.settings.turn.clone(), parts.clock),
        })
    }
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
        let settings = Arc::new(settings);
        let background = Background::default();
        let (nodes, outbox) = Nodes::new(&database);
        let limits = limits(&settings, &database, &clock, &nodes, &background).await?;
        let sessions = Sessions::start(&database, &clock, &nodes, &background);
        let appservices = Appservices::new(&database, &limits, &settings)?;
        appservices.make_senders(&*clock).await?;
        let erased = Erased::new(&database, &clock);
        let outside = Outside::default();
        let announcer = Announcer::new(nodes.clone());
        let room_services = RoomServices::start(&RoomServiceParts {
            appservices: &appservices,
            erased: &erased,
            database: &database,
            clock: &clock,
            random: &random,
            settings: &settings,
            limits: &limits,
            outside: &outside,
            nodes: &nodes,
            announcer: &announcer,
            background: &background,
        })
        .await?;
        let mut listeners = room_services.personal.listeners();
        listeners.push(Arc::new(sessions.clone()));
        listeners.push(Arc::new(limits.clone()));
        listeners.push(Arc::new(announcer.clone()));
        let node = room_services.stream.instance();
        outbox.start(&database, node, listeners, &background);
        let users = UserServices::start(UserParts {
            database: &database,
            clock: &clock,
            random: &random,
            settings: &settings,
            limits: &limits,
            outside: &outside,
            sessions: &sessions,
            appservices: &appservices,
            erased: &erased,
            hooks: Arc::new(vec![room_services.rooms.clone() as Arc<dyn AccountHooks>]),
            indexer: room_services.rooms.indexer(),
            background: &background,
        })?;
        users.accounts.finish_deactivations().await?;
        users.directory.list_everyone().await?;
        users.profiles.resume(&background);
        Ok(Self {
            services: Arc::new(Services {
                settings,
                clock,
                random,
                background,
                limits,
                outside,
                announcer,
                sessions,
                appservices,
                room_services,
                users,
            }),
        })
    }

    /// Opens the way to other servers, and takes up what they sent before the last stop, and what was to be asked of them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn connect(&self, remote: Arc<dyn remote::Remote>) -> Result<()> {
        self.services.outside.connect(remote);
        self.rooms().resume_inbox().await?;
        self.rooms().resume_completing().await
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
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.services.clock
    }

    /// Where everything comes from that nobody may guess.
    pub fn random(&self) -> &Arc<dyn Random> {
        &self.services.random
    }

    /// Credentials for the servers that relay calls.
    pub fn turn(&self) -> &Turn {
        &self.services.users.turn
    }

    /// Who may do what how often.
    pub fn limits(&self) -> &Limits {
        &self.services.limits
    }

    /// The way to the other servers; to be connected once.
    pub fn outside(&self) -> &Outside {
        &self.services.outside
    }

    /// The key that this server signs with.
    pub fn server_key(&self) -> &Arc<ServerKey> {
        &self.services.room_services.key
    }

    /// The way to whoever tells other servers; to be connected once.
    pub fn announcer(&self) -> &Announcer {
        &self.services.announcer
    }

    /// How far the stream has come.
    pub fn stream(&self) -> &Stream {
        &self.services.room_services.stream
    }

    /// What changed for whom.
    pub fn sync(&self) -> &Sync {
        &self.services.room_services.sync
    }

    /// Rooms.
    pub fn rooms(&self) -> &Arc<Rooms> {
        &self.services.room_services.rooms
    }

    /// What is to be sent later.
    pub fn delayed_events(&self) -> &DelayedEvents {
        &self.services.room_services.delayed_events
    }

    /// Up to where each user has read each room.
    pub fn receipts(&self) -> &Receipts {
        &self.services.room_services.personal.receipts
    }

    /// What a user's clients keep on the server.
    pub fn account_data(&self) -> &AccountData {
        &self.services.room_services.personal.account_data
    }

    /// Which events notify whom.
    pub fn push(&self) -> &PushRules {
        &self.services.room_services.personal.push
    }

    /// Where notifications are pushed to.
    pub fn pushers(&self) -> &Pushers {
        &self.services.room_services.personal.pushers
    }

    /// Who is typing where.
    pub fn typing(&self) -> &Typing {
        &self.services.room_services.personal.typing
    }

    /// Who is online.
    pub fn presence(&self) -> &Presence {
        &self.services.room_services.personal.presence
    }

    /// How much of a room somebody hasn't read.
    pub fn unread(&self) -> &Unread {
        &self.services.room_services.personal.unread
    }

    /// Whose access token is whose.
    pub fn sessions(&self) -> &Sessions {
        &self.services.sessions
    }

    /// The bridges and bots that own parts of this server's names.
    pub fn appservices(&self) -> &Appservices {
        &self.services.appservices
    }

    /// The accounts of this server.
    pub fn accounts(&self) -> &Accounts {
        &self.services.users.accounts
    }

    /// The devices of its users.
    pub fn devices(&self) -> &Devices {
        &self.services.users.devices
    }

    /// What has to be proved before some requests are served.
    pub fn interactive(&self) -> &InteractiveAuthentication {
        &self.services.users.interactive
    }

    /// The filters that clients stored.
    pub fn filters(&self) -> &Filters {
        &self.services.users.filters
    }

    /// Finding users by their names.
    pub fn user_directory(&self) -> &UserDirectory {
        &self.services.users.directory
    }

    /// What its users tell about themselves.
    pub fn profiles(&self) -> &Profiles {
        &self.services.users.profiles
    }
}

/// Rate limits, those of single users included. They are read again now and then, should the news of another node be lost.
async fn limits(
    settings: &EngineSettings,
    database: &Database,
    clock: &Arc<dyn Clock>,
    nodes: &Nodes,
    background: &Background,
) -> Result<Limits> {
    const READ_EVERY: Duration = Duration::from_secs(60);
    let limits = Limits::new(&settings.rate_limits, clock, nodes);
    limits.load(database).await?;
    if database.engine() == parley_storage::Engine::Postgres {
        let (again, database) = (limits.clone(), database.clone());
        background.every(READ_EVERY, move || {
            let (limits, database) = (again.clone(), database.clone());
            async move {
                if let Err(error) = limits.load(&database).await {
                    tracing::warn!(%error, "the rate limits of single users can't be read");
                }
            }
        });
    }
    Ok(limits)
}
