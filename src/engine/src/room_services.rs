//! Putting together the services around rooms and the stream.

use std::{sync::Arc, time::Duration};

use parley_protocol::ServerKey;
use parley_storage::Database;
use tokio::sync::Notify;

use crate::{
    Result,
    appservices::Appservices,
    background::Background,
    clock::Clock,
    delayed_events::{self, DelayedEvents},
    erased::Erased,
    keys,
    limits::Limits,
    outgoing::Announcer,
    personal::{PersonalServices, WatcherParts, Watchers},
    random::Random,
    remote::Outside,
    rooms::{
        Rooms, RoomsParts, indexer::Indexer, notices::Notices, registry::Registry, timeline::Events,
    },
    settings::EngineSettings,
    stream::{Stream, committer::Committer, feeds::Feeds, nodes::Nodes},
    sync::{Sync, SyncParts},
    user_directory::Others,
};

/// How often it is looked for what nobody needs in memory any more.
const DROP_IDLE_EVERY: Duration = Duration::from_secs(60);

/// The services.
#[derive(Debug)]
pub(crate) struct RoomServices {
    pub(crate) stream: Arc<Stream>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) delayed_events: DelayedEvents,
    pub(crate) personal: PersonalServices,
    pub(crate) sync: Arc<Sync>,
    pub(crate) key: Arc<ServerKey>,
}

/// What they are made of.
#[derive(Debug)]
pub(crate) struct RoomServiceParts<'a> {
    pub(crate) appservices: &'a Appservices,
    pub(crate) erased: &'a Erased,
    pub(crate) database: &'a Database,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) random: &'a Arc<dyn Random>,
    pub(crate) settings: &'a EngineSettings,
    pub(crate) limits: &'a Limits,
    pub(crate) outside: &'a Outside,
    pub(crate) nodes: &'a Nodes,
    pub(crate) announcer: &'a Announcer,
    pub(crate) background: &'a Background,
}

/// What all of them share.
struct Shared {
    stream: Arc<Stream>,
    feeds: Arc<Feeds>,
    events: Arc<Events>,
    registry: Arc<Registry>,
}

impl Shared {
    async fn new(parts: &RoomServiceParts<'_>) -> Result<Self> {
        let position = parts.database.stream_position().await?;
        let feeds = Arc::new(Feeds::new(parts.settings.rooms.forget_on_leave));
        feeds.start_at(position);
        let events = Arc::new(Events::new(parts.database.clone()));
        Ok(Self {
            stream: Arc::new(Stream::new(position, parts.random.number())),
            feeds,
            registry: Arc::new(Registry::new(parts.database.clone(), events.clone())),
            events,
        })
    }

    fn committer(&self, parts: &RoomServiceParts<'_>, watchers: &Watchers) -> Committer {
        Committer::start(
            parts.database.clone(),
            self.stream.clone(),
            self.feeds.clone(),
            self.registry.clone(),
            self.events.clone(),
            watchers.observers(),
            parts.background,
        )
    }
}

impl RoomServices {
    pub(crate) async fn start(parts: &RoomServiceParts<'_>) -> Result<Self> {
        let RoomServiceParts {
            database,
            clock,
            random,
            settings,
            background,
            appservices,
            erased,
            ..
        } = parts;
        let shared = Shared::new(parts).await?;
        let watchers = watchers(parts, &shared);
        let committer = shared.committer(parts, &watchers);
        let ignored = watchers.ignored.clone();
        let marks = watchers.relations.clone();
        let summaries = watchers.summaries.clone();
        let personal = PersonalServices::new(parts, watchers, &shared.registry, &committer);
        let key = keys::server_key(database, &settings.server_name, &***clock, random).await?;
        let others = Others::new(database, &shared.registry, &settings.server_name);
        let rooms = Arc::new(Rooms::new(RoomsParts {
            database: (*database).clone(),
            registry: shared.registry,
            events: shared.events,
            feeds: shared.feeds.clone(),
            committer,
            ignored,
            appservices: (*appservices).clone(),
            erased: (*erased).clone(),
            marks,
            summaries,
            indexer: Indexer::start(database, &shared.stream, others, background),
            account_data: personal.account_data.clone(),
            key: key.clone(),
            clock: (*clock).clone(),
            random: (*random).clone(),
            settings: settings.rooms.clone(),
            account_limits: settings.limits.clone(),
            limits: parts.limits.clone(),
            notices: Notices::start(settings, database, appservices, &***clock).await?,
            outside: parts.outside.clone(),
            background: (*background).clone(),
        }));
        let delayed_events = delayed_events(parts, &shared.stream, &rooms).await?;
        let sync = sync(parts, &shared.stream, shared.feeds, &rooms, &personal);
        Ok(Self {
            stream: shared.stream,
            rooms,
            delayed_events,
            personal,
            sync,
            key,
        })
    }
}

async fn delayed_events(
    parts: &RoomServiceParts<'_>,
    stream: &Arc<Stream>,
    rooms: &Arc<Rooms>,
) -> Result<DelayedEvents> {
    let events = delayed_events::Parts {
        database: parts.database.clone(),
        stream: stream.clone(),
        rooms: rooms.clone(),
        clock: parts.clock.clone(),
        random: parts.random.clone(),
        limits: parts.limits.clone(),
        settings: parts.settings.delayed_events.clone(),
        changed: Notify::new(),
    };
    DelayedEvents::start(events, parts.background).await
}

fn watchers(parts: &RoomServiceParts<'_>, shared: &Shared) -> Watchers {
    Watchers::start(&WatcherParts {
        database: parts.database,
        registry: &shared.registry,
        stream: &shared.stream,
        feeds: &shared.feeds,
        clock: parts.clock,
        settings: parts.settings,
        nodes: parts.nodes,
        announcer: parts.announcer,
        background: parts.background,
    })
}

fn sync(
    parts: &RoomServiceParts<'_>,
    stream: &Arc<Stream>,
    feeds: Arc<Feeds>,
    rooms: &Arc<Rooms>,
    personal: &PersonalServices,
) -> Arc<Sync> {
    let sync = Arc::new(Sync::new(SyncParts {
        database: parts.database.clone(),
        stream: stream.clone(),
        feeds,
        rooms: rooms.clone(),
        account_data: personal.account_data.clone(),
        receipts: personal.receipts.clone(),
        typing: personal.typing.clone(),
        presence: personal.presence.clone(),
        unread: personal.unread.clone(),
        clock: parts.clock.clone(),
        settings: parts.settings.sync.clone(),
    }));
    let cleaning = sync.clone();
    parts.background.every(DROP_IDLE_EVERY, move || {
        cleaning.drop_idle();
        std::future::ready(())
    });
    sync
}
