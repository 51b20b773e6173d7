//! Putting together the services of what belongs to single users, and of what is fleeting.

use std::sync::Arc;

use parley_storage::Database;

use crate::{
    account_data::{AccountData, Pieces},
    background::Background,
    clock::Clock,
    ignored::Ignored,
    outgoing::Announcer,
    presence::{Presence, PresenceParts},
    push::{PushRules, RuleCache, pushers::Pushers},
    receipts::{self, Receipts},
    room_services::RoomServiceParts,
    rooms::{registry::Registry, relations::RelationMarks, summaries::Summaries},
    settings::EngineSettings,
    stream::{
        Stream,
        committer::Committer,
        feeds::Feeds,
        nodes::{Listener, Nodes},
        observer::Observers,
    },
    typing::Typing,
    unread::Unread,
};

/// What keeps something in memory that follows from what is committed: the committer is started with it.
#[derive(Debug)]
pub(crate) struct Watchers {
    receipts: Arc<receipts::Memory>,
    early_receipts: Arc<receipts::Early>,
    rules: Arc<RuleCache>,
    pub(crate) ignored: Arc<Ignored>,
    pub(crate) relations: Arc<RelationMarks>,
    pub(crate) summaries: Arc<Summaries>,
    pub(crate) typing: Arc<Typing>,
    pub(crate) presence: Arc<Presence>,
    announcer: Announcer,
}

/// What they work with.
#[derive(Debug)]
pub(crate) struct WatcherParts<'a> {
    pub(crate) database: &'a Database,
    pub(crate) registry: &'a Arc<Registry>,
    pub(crate) stream: &'a Arc<Stream>,
    pub(crate) feeds: &'a Arc<Feeds>,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) settings: &'a EngineSettings,
    pub(crate) nodes: &'a Nodes,
    pub(crate) announcer: &'a Announcer,
    pub(crate) background: &'a Background,
}

impl Watchers {
    pub(crate) fn start(parts: &WatcherParts<'_>) -> Self {
        Self {
            receipts: Arc::new(receipts::Memory::new()),
            early_receipts: Arc::default(),
            rules: Arc::new(RuleCache::new()),
            ignored: Arc::new(Ignored::new(parts.database.clone())),
            relations: Arc::new(RelationMarks::new(parts.stream.position())),
            summaries: Arc::new(Summaries::new(parts.database.clone())),
            typing: Typing::start(
                parts.stream.clone(),
                parts.feeds.clone(),
                parts.clock.clone(),
                parts.nodes.clone(),
                parts.announcer.clone(),
                parts.background,
            ),
            presence: Presence::start(
                PresenceParts {
                    database: parts.database.clone(),
                    registry: parts.registry.clone(),
                    stream: parts.stream.clone(),
                    feeds: parts.feeds.clone(),
                    clock: parts.clock.clone(),
                    settings: parts.settings.presence.clone(),
                    nodes: parts.nodes.clone(),
                    announcer: parts.announcer.clone(),
                },
                parts.background,
            ),
            announcer: parts.announcer.clone(),
        }
    }

    pub(crate) fn observers(&self) -> Observers {
        Observers::new(vec![
            self.receipts.clone(),
            self.early_receipts.clone(),
            self.rules.clone(),
            self.ignored.clone(),
            self.relations.clone(),
            self.summaries.clone(),
            self.typing.clone(),
            self.presence.clone(),
            Arc::new(self.announcer.clone()),
        ])
    }
}

/// The services.
#[derive(Debug)]
pub(crate) struct PersonalServices {
    pub(crate) receipts: Receipts,
    pub(crate) push: PushRules,
    pub(crate) pushers: Pushers,
    pub(crate) account_data: AccountData,
    pub(crate) typing: Arc<Typing>,
    pub(crate) presence: Arc<Presence>,
    pub(crate) unread: Arc<Unread>,
}

impl PersonalServices {
    /// Those of them who hear what other nodes tell.
    pub(crate) fn listeners(&self) -> Vec<Arc<dyn Listener>> {
        vec![self.typing.clone(), self.presence.clone()]
    }

    pub(crate) fn new(
        parts: &RoomServiceParts<'_>,
        watchers: Watchers,
        registry: &Arc<Registry>,
        committer: &Committer,
    ) -> Self {
        let (database, clock, limits) = (parts.database, parts.clock, &parts.settings.limits);
        let receipts = Receipts::new(
            database.clone(),
            watchers.receipts,
            watchers.early_receipts,
            registry.clone(),
            committer.clone(),
            clock.clone(),
        );
        receipts.take_early(parts.background);
        let pieces = Pieces::new(database.clone(), committer.clone(), limits.clone());
        let push = PushRules::new(database.clone(), watchers.rules, pieces.clone());
        Self {
            account_data: AccountData::new(
                database.clone(),
                registry.clone(),
                pieces,
                push.clone(),
                limits.account_data_size,
            ),
            unread: Unread::start(
                database.clone(),
                receipts.clone(),
                push.clone(),
                parts.background,
            ),
            pushers: Pushers::new(database.clone(), clock.clone(), limits.clone()),
            typing: watchers.typing,
            presence: watchers.presence,
            receipts,
            push,
        }
    }
}
