//! What changed for a user between two points of the stream.
//!
//! [`Sync::wait`] answers a long poll. A connected client's changes are told from its user's feed and the rooms in
//! memory; storage is asked by a client that comes back after longer than those reach. Everything up to one position is
//! told, and nothing after it, so that the next answer begins exactly there.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#syncing>

pub mod filter;

mod invited;
mod joined;
mod lazy;
mod left;
mod rooms;
mod state;
mod summary;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parley_storage::{Database, user_streams::AccountDataRow};
use ruma::{OwnedUserId, api::client::filter::FilterDefinition};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::invited::shown_entries;
pub use self::{
    invited::InvitedRoom,
    joined::JoinedRoom,
    left::LeftRoom,
    rooms::{Timeline, ToldRooms},
    summary::Summary,
};
use self::{
    lazy::LazyMembers,
    rooms::{Changes, Pending},
};
use crate::{
    EngineError, Result,
    account_data::AccountData,
    clock::Clock,
    ignored::IgnoredUsers,
    presence::Presence,
    receipts::Receipts,
    rooms::{Rooms, room::Room},
    sessions::Session,
    settings::SyncSettings,
    stream::{
        Stream,
        feeds::{Feeds, UserFeed},
        token::Token,
    },
    typing::Typing,
    unread::Unread,
};

/// After which time of silence it is forgotten what changed for a user.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long a token that another node gave is waited for.
const CATCHING_UP: Duration = Duration::from_secs(10);
/// How many rooms are put together at once for one answer.
const ROOMS_AT_ONCE: usize = 16;
/// How many rooms of a long answer are told before the next are looked at.
const ROOMS_AT_A_TIME: usize = 100;

/// Answers /sync.
#[derive(Debug)]
pub struct Sync {
    parts: SyncParts,
    lazy: LazyMembers,
}

/// What [`Sync`] works with.
#[derive(Debug)]
pub struct SyncParts {
    /// Where everything is stored.
    pub database: Database,
    /// How far the stream has come.
    pub stream: Arc<Stream>,
    /// Who waits for what.
    pub feeds: Arc<Feeds>,
    /// Rooms.
    pub rooms: Arc<Rooms>,
    /// Account data.
    pub account_data: AccountData,
    /// Receipts.
    pub receipts: Receipts,
    /// Who types.
    pub typing: Arc<Typing>,
    /// Who is online.
    pub presence: Arc<Presence>,
    /// What is unread.
    pub unread: Arc<Unread>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How long clients may wait, and how much they get at once.
    pub settings: SyncSettings,
}

/// What a client asks.
#[derive(Clone, Debug)]
pub struct SyncRequest {
    /// Where it stands; `None` at first.
    pub since: Option<Token>,
    /// What it wants to see.
    pub filter: Arc<FilterDefinition>,
    /// Whether it wants the whole state of its rooms, even where it hasn't changed.
    pub full_state: bool,
    /// Whether it wants the state at the end of each timeline rather than at its start.
    pub use_state_after: bool,
    /// How long it waits if there is nothing to tell; the settings may say that this is too long.
    pub timeout: Duration,
}

/// What there is to tell.
#[derive(Clone, Debug)]
pub struct SyncAnswer {
    /// Where the client stands with it.
    pub next: Token,
    /// Rooms.
    pub rooms: ToldRooms,
    /// Account data that belongs to no room.
    pub account_data: Vec<AccountDataRow>,
    /// The presence of users who share a room.
    pub presence: Vec<Box<serde_json::value::RawValue>>,
    /// The rooms that are still to be told, if the client has to get everything and that is much: see [`Sync::more`].
    pub rest: Option<Rest>,
}

/// Rooms of an answer that aren't told yet. They are told a few at a time, so that the answer to somebody with many rooms
/// is at no time in memory as a whole.
#[derive(Clone, Debug)]
pub struct Rest {
    feed: Arc<UserFeed>,
    ignored: IgnoredUsers,
    to: i64,
    fleeting: Option<u64>,
    pending: VecDeque<Pending>,
}

impl SyncAnswer {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
            && self.rest.is_none()
            && self.account_data.is_empty()
            && self.presence.is_empty()
    }
}

/// The stretch of the stream that an answer tells, and for whom.
#[derive(Clone, Copy, Debug)]
struct Stretch<'a> {
    session: &'a Session,
    feed: &'a Arc<UserFeed>,
    filter: &'a FilterDefinition,
    /// Whose events the user doesn't want to see.
    ignored: &'a IgnoredUsers,
    full_state: bool,
    /// Whether the state at the end of the timeline is told.
    state_after: bool,
    /// `None`: from the beginning.
    since: Option<i64>,
    to: i64,
    /// The fleeting count that the client has seen; `None` if what it has seen says nothing here.
    fleeting: Option<u64>,
}

impl Stretch<'_> {
    /// The position after which events are new to the client.
    fn after(&self) -> i64 {
        self.since.unwrap_or(0)
    }

    fn user_id(&self) -> &OwnedUserId {
        &self.session.user_id
    }

    /// Whether the client loads members as it needs them.
    fn is_lazy(&self) -> bool {
        filter::lazy_members(&self.filter.room.state).is_some()
    }

    /// Whether a room isn't told of yet: members of it aren't known, and the client expects all of them at once.
    fn must_wait(&self, room: &Room) -> bool {
        !self.is_lazy() && room.lacked_members_at(self.to)
    }

    /// Whether it is in this stretch that all members of a room came to be known, which a client knows up to `after`.
    fn completes(&self, room: &Room, after: i64) -> bool {
        let since = room.complete_since();
        after > 0 && after < since && since <= self.to
    }
}

impl Sync {
    /// Puts the service together.
    pub fn new(parts: SyncParts) -> Self {
        Self {
            parts,
            lazy: LazyMembers::default(),
        }
    }

    /// Forgets what changed for users who haven't asked for long. Storage tells it, should they ask again.
    pub fn drop_idle(&self) {
        let idle = i64::try_from(IDLE.as_millis()).unwrap_or(i64::MAX);
        self.parts.feeds.drop_idle(self.parts.clock.now_ms() - idle);
    }

    /// Reads a client's token. One that another node gave, who is ahead of this one, is waited for.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if it is none of this server's, or from the future.
    pub async fn token(&self, text: Option<&str>) -> Result<Option<Token>> {
        let Some(text) = text else { return Ok(None) };
        let known = self.parts.feeds.position();
        let token = Token::parse(text, i64::MAX)?;
        if token.position <= known {
            return Ok(Some(token));
        }
        let token = Token::parse(text, self.parts.database.stream_position().await?)?;
        // It is stored, so the news of it is on the way.
        let reached = self.parts.feeds.reach(token.position);
        match tokio::time::timeout(CATCHING_UP, reached).await {
            Ok(()) => Ok(Some(token)),
            Err(_) => Err(EngineError::Internal(
                "this node doesn't hear what others write".to_owned(),
            )),
        }
    }

    /// Tells what changed; if nothing has, waits until something does, the time is up, or `stopping` is cancelled.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn wait(
        &self,
        session: &Session,
        request: &SyncRequest,
        stopping: &CancellationToken,
    ) -> Result<SyncAnswer> {
        let deadline = Instant::now() + request.timeout.min(self.parts.settings.max_timeout);
        let now = self.parts.clock.now_ms();
        // In boxes, so that their state is gone while the client waits.
        let feed = Box::pin(self.parts.feeds.get(
            &session.user_id,
            session.user_nid,
            now,
            &self.parts.database,
        ))
        .await?;
        let mut changed = feed.subscribe();
        loop {
            changed.mark_unchanged();
            let answer = Box::pin(self.changes(session, &feed, request)).await?;
            let answer_now = request.since.is_none() || request.full_state || !answer.is_empty();
            if answer_now || stopping.is_cancelled() {
                return Ok(answer);
            }
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(deadline) => return Ok(answer),
                () = stopping.cancelled() => return Ok(answer),
            }
        }
    }

    async fn changes(
        &self,
        session: &Session,
        feed: &Arc<UserFeed>,
        request: &SyncRequest,
    ) -> Result<SyncAnswer> {
        let instance = self.parts.stream.instance();
        let fleeting = self.parts.stream.fleeting();
        let seen = request
            .since
            .filter(|since| since.instance == instance)
            .map(|since| since.fleeting);
        let snapshot = self.parts.feeds.snapshot(feed);
        let ignored = self.parts.rooms.ignored_by(session).await?;
        let stretch = Stretch {
            session,
            feed,
            filter: &request.filter,
            ignored: &ignored,
            full_state: request.full_state,
            state_after: request.use_state_after,
            since: request.since.map(|since| since.position),
            to: snapshot.position,
            fleeting: seen,
        };
        if request.since.is_none() {
            self.lazy.forget_device(session.device_nid);
        }
        let changes = self.rooms_changed(&stretch, snapshot).await?;
        let account_data = self.global_account_data(&stretch, &changes).await?;
        let mut newly_shared = changes.newly_joined.clone();
        let mut pending = Self::pending(&stretch, changes);
        let is_long = request.since.is_none() || request.full_state;
        let rooms = match is_long {
            true => self.tell_next(&stretch, &mut pending).await?,
            false => self.tell_rooms(&stretch, &mut pending).await?,
        };
        // Where it has just come to be known who is there, who is present is news too.
        let completed = rooms.joined.iter().map(|told| &told.room);
        let completed = completed.filter(|room| stretch.completes(room, stretch.after()));
        newly_shared.extend(completed.map(|room| room.nid()));
        let presence = self
            .parts
            .presence
            .changed(feed, seen, &newly_shared, &request.filter.presence)
            .await?;
        let rest = (!pending.is_empty()).then(|| Rest {
            feed: feed.clone(),
            ignored: ignored.clone(),
            to: stretch.to,
            fleeting: stretch.fleeting,
            pending,
        });
        Ok(SyncAnswer {
            next: Token {
                position: stretch.to,
                instance,
                fleeting,
            },
            rooms,
            account_data,
            presence,
            rest,
        })
    }

    /// Tells of the next rooms of a long answer; `None` after the last.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn more(
        &self,
        session: &Session,
        request: &SyncRequest,
        rest: &mut Rest,
    ) -> Result<Option<ToldRooms>> {
        if rest.pending.is_empty() {
            return Ok(None);
        }
        let stretch = Stretch {
            session,
            feed: &rest.feed,
            filter: &request.filter,
            ignored: &rest.ignored,
            full_state: request.full_state,
            state_after: request.use_state_after,
            since: request.since.map(|since| since.position),
            to: rest.to,
            fleeting: rest.fleeting,
        };
        let rooms = self.tell_next(&stretch, &mut rest.pending).await?;
        Ok(Some(rooms))
    }

    async fn global_account_data(
        &self,
        stretch: &Stretch<'_>,
        changes: &Changes,
    ) -> Result<Vec<AccountDataRow>> {
        let rows = changes.account_data.iter().filter(|row| row.room_nid == 0);
        let filter = &stretch.filter.account_data;
        let fits = |row: &&AccountDataRow| {
            filter::type_fits(&row.event_type, filter.types.as_deref(), &filter.not_types)
        };
        let mut rows: Vec<_> = rows.filter(fits).cloned().collect();
        filter::keep_newest(&mut rows, filter.limit);
        Ok(rows)
    }
}
