//! Rooms: making them, writing to them, reading them.
//!
//! A writer takes the lock of the room's head, builds its events on it, allowed by the state in memory, moves the head on
//! and queues them for the committer, all without waiting for the disk ([`Rooms::edit`]). Readers see a room's *view*,
//! which holds nothing that isn't committed.

pub mod aliases;
pub mod context;
pub mod create;
pub mod direct;
pub mod directory;
pub mod edit;
pub mod federation;
pub mod hierarchy;
pub mod history;
pub mod lookup;
pub mod membership;
pub mod mutual;
pub mod near;
pub mod notices;
pub(crate) mod partial;
pub mod registry;
pub mod relations;
pub mod reports;
pub(crate) mod restricted;
pub mod room;
pub mod search;
pub mod send;
pub mod servers;
pub mod state;
pub mod summaries;
pub mod third_party;
pub mod threads;
pub mod timeline;
pub mod upgrade;
pub mod visibility;

mod guests;
mod hooks;
pub(crate) mod indexer;
mod knock;
mod policy;
pub mod preview;
mod succession;
mod transactions;

use std::sync::Arc;

use parley_protocol::ServerKey;
use parley_storage::{
    Database,
    commit::{RoomWrite, Write},
};
use ruma::{MilliSecondsSinceUnixEpoch, RoomId, UserId, events::room::member::MembershipState};

use self::{
    edit::{Edit, RoomPublication},
    federation::{
        complete::Completing, inbox::Inbox, join::Joining, lacking::Lacking, resolve::Resolutions,
        turns::Turns,
    },
    hierarchy::told::Hearsay,
    indexer::Indexer,
    notices::Notices,
    policy::Vouched,
    registry::Registry,
    relations::RelationMarks,
    room::{Head, Room},
    state::RoomState,
    summaries::Summaries,
    timeline::Events,
    transactions::Transactions,
};
use crate::{
    EngineError, Result,
    account_data::AccountData,
    appservices::Appservices,
    background::Background,
    clock::{Clock, DistinctTimes},
    complaints::Complaints,
    erased::Erased,
    ignored::Ignored,
    limits::{Action, LimitKey, Limits},
    places::Places,
    random::Random,
    remote::Outside,
    sessions::Session,
    settings::{AccountLimits, RoomSettings},
    stream::{
        committer::{Committer, NotCommitted},
        feeds::Feeds,
    },
};

/// How often a write is built anew because another node moved the room on.
const ATTEMPTS: usize = 30;

/// The rooms of this server.
#[derive(Debug)]
pub struct Rooms {
    database: Database,
    registry: Arc<Registry>,
    events: Arc<Events>,
    feeds: Arc<Feeds>,
    committer: Committer,
    transactions: Transactions,
    key: Arc<ServerKey>,
    ignored: Arc<Ignored>,
    appservices: Appservices,
    erased: Erased,
    marks: Arc<RelationMarks>,
    summaries: Arc<Summaries>,
    /// What other servers told of rooms that this one isn't in.
    hearsay: Hearsay,
    account_data: AccountData,
    indexer: Arc<Indexer>,
    clock: Arc<dyn Clock>,
    /// When rooms are made. Since version 12 a room's id is the hash of its create event, so two rooms that one user
    /// makes alike within a millisecond would be the same.
    founding: DistinctTimes,
    random: Arc<dyn Random>,
    settings: RoomSettings,
    account_limits: AccountLimits,
    places: Places,
    limits: Limits,
    notices: Option<Notices>,
    outside: Outside,
    inbox: Inbox,
    resolutions: Resolutions,
    lacking: Lacking,
    turns: Turns,
    joining: Joining,
    reading_past: Joining,
    completing: Completing,
    complaints: Complaints,
    background: Background,
}

/// What [`Rooms`] works with.
#[derive(Debug)]
pub struct RoomsParts {
    /// Where rooms are stored.
    pub database: Database,
    /// The rooms in memory.
    pub registry: Arc<Registry>,
    /// The events in memory.
    pub events: Arc<Events>,
    /// Who waits for what.
    pub feeds: Arc<Feeds>,
    /// What makes writes durable.
    pub committer: Committer,
    /// Who is ignored by whom.
    pub ignored: Arc<Ignored>,
    /// Who owns parts of the aliases.
    pub appservices: Appservices,
    /// Who asked to be forgotten.
    pub(crate) erased: Erased,
    /// Where the newest relations stand.
    pub(crate) marks: Arc<RelationMarks>,
    /// What rooms look like from outside.
    pub(crate) summaries: Arc<Summaries>,
    /// What users keep of their rooms.
    pub account_data: AccountData,
    /// What finds texts.
    pub(crate) indexer: Arc<Indexer>,
    /// What events are signed with.
    pub key: Arc<ServerKey>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where room ids come from.
    pub random: Arc<dyn Random>,
    /// Defaults and limits.
    pub settings: RoomSettings,
    /// How much an account may have.
    pub account_limits: AccountLimits,
    /// How often something may be done.
    pub limits: Limits,
    /// As whom the server writes to its users.
    pub(crate) notices: Option<Notices>,
    /// The way to other servers.
    pub outside: Outside,
    /// What runs beside the requests.
    pub background: Background,
}

impl Rooms {
    /// Puts the service together.
    pub fn new(parts: RoomsParts) -> Self {
        let complaints = Complaints::new(parts.clock.clone());
        Self {
            database: parts.database,
            registry: parts.registry,
            events: parts.events,
            feeds: parts.feeds,
            committer: parts.committer,
            transactions: Transactions::default(),
            key: parts.key,
            ignored: parts.ignored,
            appservices: parts.appservices,
            erased: parts.erased,
            marks: parts.marks,
            summaries: parts.summaries,
            hearsay: Hearsay::default(),
            account_data: parts.account_data,
            indexer: parts.indexer,
            clock: parts.clock,
            founding: DistinctTimes::default(),
            random: parts.random,
            settings: parts.settings,
            account_limits: parts.account_limits,
            places: Places::default(),
            limits: parts.limits,
            notices: parts.notices,
            outside: parts.outside,
            inbox: Inbox::default(),
            resolutions: Resolutions::default(),
            lacking: Lacking::default(),
            turns: Turns::default(),
            joining: Joining::default(),
            reading_past: Joining::default(),
            completing: Completing::default(),
            complaints,
            background: parts.background,
        }
    }

    /// Counts an event that a member of a room sends, or that changes a membership, whoever it is.
    fn limit_room(&self, room: &Room) -> Result<()> {
        let key = LimitKey::Room(room.nid());
        self.limits.check(Action::RoomMessage, key)
    }

    pub(crate) fn indexer(&self) -> &Arc<Indexer> {
        &self.indexer
    }

    /// Counts an invitation that a user gets by one of this server.
    fn limit_received(&self, session: &Session, user_id: &UserId) -> Result<()> {
        if self.limits.is_unlimited(session.user_nid) {
            return Ok(());
        }
        self.limits.check(Action::ReceivedInvite, user_id.as_str())
    }

    /// The rooms in memory.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A room that this server has.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if it has none of that id.
    pub async fn room(&self, room_id: &RoomId) -> Result<Arc<Room>> {
        self.registry
            .get(room_id)
            .await?
            .ok_or_else(|| EngineError::not_found("this server doesn't know that room"))
    }

    /// A room with its current state, for somebody who is joined to it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if they are not, also if there is no such room: who is not in a room isn't told whether it exists.
    pub async fn joined_room(
        &self,
        session: &Session,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Arc<RoomState>)> {
        self.registry.joined(&session.user_id, room_id).await
    }

    /// Builds events on the newest point of a room and makes them durable.
    ///
    /// `build` is called with the room's lock held, and again if another node has moved the room on; what it returns is
    /// returned once everything it appended is durable and published. If it fails, nothing happened.
    ///
    /// Where the room has a policy server, that is asked to sign the events, without the lock, and they are built again.
    pub(crate) async fn edit<T>(
        &self,
        room: &Arc<Room>,
        mut build: impl FnMut(&mut Edit<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut vouched = Vouched::new(self.now());
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            let permit = self.committer.reserve().await?;
            let mut guard = room.head.lock().await;
            let head = self.current_head(room, &mut guard).await?;
            let mut edit = Edit::new(room, &self.key, head);
            edit.need_policy(&vouched);
            let value = build(&mut edit)?;
            if edit.is_empty() {
                return Ok(value);
            }
            let unsigned = edit.take_unsigned();
            if !unsigned.is_empty() {
                drop((edit, guard, permit));
                if turn.is_none() {
                    // Others may have moved the room on meanwhile.
                    turn = Some(self.turn_to_ask(room).await?);
                } else {
                    Box::pin(self.have_signed(room, unsigned, &mut vouched)).await?;
                }
                continue;
            }
            let (write, publication, head) = edit.finish(room.clone());
            *guard = Some(head);
            let pending = permit.queue(room_write(write), vec![publication]);
            drop(guard);
            match pending.committed().await {
                Ok(()) => return Ok(value),
                Err(NotCommitted::Rebuild) => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        Err(NotCommitted::Rebuild.into())
    }

    /// The head of a room whose lock is held, read anew if there is none that holds.
    async fn current_head(&self, room: &Room, head: &mut Option<Head>) -> Result<Head> {
        let current = head
            .as_ref()
            .filter(|head| head.generation == room.generation());
        match current {
            Some(head) => Ok(head.clone()),
            None => {
                let read = Box::pin(self.registry.read_head(room)).await?;
                Ok(head.insert(read).clone())
            }
        }
    }

    /// Makes the first events of a room that is in nobody's hands yet.
    async fn found(
        &self,
        room: &Arc<Room>,
        build: impl FnOnce(&mut Edit<'_>) -> Result<()>,
    ) -> Result<()> {
        let permit = self.committer.reserve().await?;
        let mut guard = room.head.lock().await;
        let mut edit = Edit::new(room, &self.key, Head::empty(room.generation()));
        build(&mut edit)?;
        let (write, publication, head) = edit.finish(room.clone());
        let pending = permit.queue(room_write(write), vec![publication]);
        let result = pending.committed().await;
        if result.is_ok() {
            *guard = Some(head);
        }
        Ok(result?)
    }

    fn now(&self) -> MilliSecondsSinceUnixEpoch {
        self.clock.now()
    }
}

fn room_write(write: RoomWrite) -> Write {
    Write {
        rooms: vec![write],
        ..Write::default()
    }
}

/// Whether a membership lets a user see a room's current state.
pub fn is_member(membership: &MembershipState) -> bool {
    *membership == MembershipState::Join
}

impl RoomPublication {
    /// Whether the head that it was built on still stands.
    pub(crate) fn is_current(&self) -> bool {
        self.generation == self.room.generation()
    }
}
