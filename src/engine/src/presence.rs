//! Who is online, and since when not.
//!
//! Each device says of its user whether they are there, by syncing or by saying so. The user is what the most present of
//! the devices says; unavailable once they have done nothing for a while, and offline once no device has been heard of.
//! What another server says of its users holds for a while only, so servers remind each other of who is there.
//! Only users who are not offline are in memory.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#presence>

mod remote;
mod users;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parley_storage::{Database, user_streams::ReceiptRow};
use ruma::{
    OwnedUserId, UserId, api::client::filter::Filter, events::room::member::MembershipState,
    presence::PresenceState as State,
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};
use tokio::sync::Notify;

pub use self::remote::RemotePresence;
use self::users::{Change, Delays, Heard, User, Users};
use crate::{
    EngineError, Result,
    background::Background,
    clock::Clock,
    outgoing::Announcer,
    rooms::{registry::Registry, room::Room, timeline::TimelineEvent},
    sessions::Session,
    settings::PresenceSettings,
    stream::{
        Stream,
        feeds::{Feeds, UserFeed},
        nodes::{Listener, News, Nodes},
        observer::Observer,
    },
    sync::filter::{sender_fits, type_fits},
};

/// The most bytes that a user may say of themselves.
const MAX_STATUS_BYTES: usize = 1_024;

/// What others may know of a user's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceState {
    /// Whether they are online.
    pub presence: State,
    /// When they last did something, milliseconds since the epoch.
    pub last_active_at: Option<i64>,
    /// What they say of themselves.
    pub status_message: Option<String>,
}

impl PresenceState {
    const OFFLINE: Self = Self {
        presence: State::Offline,
        last_active_at: None,
        status_message: None,
    };

    /// The content of an `m.presence` event, as of `now`.
    ///
    /// Who is online counts as active until they become unavailable, so that their activity needn't be told.
    pub fn content(&self, now: i64) -> Value {
        let mut content = json!({ "presence": self.presence });
        if let Some(at) = self.last_active_at {
            content["last_active_ago"] = (now - at).max(0).into();
        }
        if self.presence == State::Online {
            content["currently_active"] = true.into();
        }
        if let Some(message) = &self.status_message {
            content["status_msg"] = message.as_str().into();
        }
        content
    }
}

/// That a client is connected: its user isn't offline as long as this lives, and a while longer.
#[derive(Debug)]
#[must_use = "the client counts as gone when this is dropped"]
pub struct Connected {
    shared: Option<Arc<Shared>>,
    user_id: OwnedUserId,
    device_nid: i64,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let now = shared.parts.clock.now_ms();
        shared.change(|users| {
            users.request_ended(&self.user_id, self.device_nid, now);
            // Whether it changes anything is found out when the client stays away.
            users.postpone(&self.user_id, now, shared.delays);
        });
    }
}

/// Everyone's presence.
#[derive(Debug)]
pub struct Presence {
    shared: Arc<Shared>,
}

/// What [`Presence`] works with.
#[derive(Debug)]
pub(crate) struct PresenceParts {
    pub(crate) database: Database,
    pub(crate) registry: Arc<Registry>,
    pub(crate) stream: Arc<Stream>,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) settings: PresenceSettings,
    pub(crate) nodes: Nodes,
    pub(crate) announcer: Announcer,
}

#[derive(Debug)]
struct Shared {
    parts: PresenceParts,
    delays: Delays,
    users: Mutex<Users>,
    /// Tells the timer that something is due earlier than it knew.
    sooner: Notify,
}

impl Presence {
    pub(crate) fn start(parts: PresenceParts, background: &Background) -> Arc<Self> {
        let shared = Arc::new(Shared {
            delays: Delays::from(&parts.settings),
            parts,
            users: Mutex::default(),
            sooner: Notify::new(),
        });
        if shared.parts.settings.enabled {
            let timer = shared.clone();
            let stopping = background.stopping().clone();
            background.spawn(async move {
                stopping.run_until_cancelled(timer.run()).await;
                timer.keep_all().await;
            });
        }
        Arc::new(Self { shared })
    }

    /// Notes that a client syncs, with the presence that it asks for. What this returns is to be kept as long as the
    /// request lasts. The user's feed should be there already: others are then told without asking the database.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn seen(&self, session: &Session, set_presence: &State) -> Result<Connected> {
        let mut connected = Connected {
            shared: None,
            user_id: session.user_id.clone(),
            device_nid: session.device_nid,
        };
        if !self.shared.parts.settings.enabled {
            return Ok(connected);
        }
        let says = match set_presence {
            State::Online | State::Unavailable => Some(set_presence),
            // It just doesn't want to be seen.
            _ => None,
        };
        let now = self.shared.parts.clock.now_ms();
        let note = |users: &mut Users| {
            users.request(&session.user_id, session.device_nid, says, now);
            users.settle(&session.user_id, now, self.shared.delays)
        };
        let change = match says {
            Some(_) => self.shared.change_user(session, note).await?,
            None => self.shared.change(note),
        };
        connected.shared = Some(self.shared.clone());
        if let Some(change) = change {
            self.shared.tell(&change).await?;
        }
        Ok(connected)
    }

    /// Sets a user's presence and what they say of themselves; without a message they say nothing any more.
    ///
    /// Where presence is switched off, this does nothing, as nobody would see it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if the state is none of the spec's or the message is too long.
    pub async fn set(
        &self,
        session: &Session,
        presence: &State,
        status_message: Option<String>,
    ) -> Result<()> {
        if !matches!(
            presence,
            State::Online | State::Unavailable | State::Offline
        ) {
            return Err(EngineError::invalid_param(
                "`presence` is online, unavailable or offline",
            ));
        }
        let status_message = status_message.filter(|message| !message.is_empty());
        if status_message
            .as_ref()
            .is_some_and(|message| message.len() > MAX_STATUS_BYTES || message.contains('\0'))
        {
            return Err(EngineError::invalid_param(format!(
                "a status message has at most {MAX_STATUS_BYTES} bytes and no null characters"
            )));
        }
        if !self.shared.parts.settings.enabled {
            return Ok(());
        }
        let now = self.shared.parts.clock.now_ms();
        let user_id = &session.user_id;
        let note = |users: &mut Users| {
            let device = session.device_nid;
            users.set(user_id, device, presence, &status_message, now);
            let change = users.settle(user_id, now, self.shared.delays);
            (change, users.get(user_id).cloned())
        };
        let (change, user) = self.shared.change_user(session, note).await?;
        if let Some(user) = user {
            self.shared.keep(vec![user]).await?;
        }
        if let Some(change) = change {
            self.shared.tell(&change).await?;
        }
        Ok(())
    }

    /// The presence of somebody whom the asker may know of: who shares a room with them, or is it themselves.
    ///
    /// # Errors
    /// `M_FORBIDDEN` to others.
    pub async fn see(&self, session: &Session, user_id: &UserId) -> Result<PresenceState> {
        if session.user_id != user_id && !self.shared.share_room(session, user_id).await? {
            return Err(EngineError::forbidden(
                "you share no room with that user, so you may not know their presence",
            ));
        }
        self.get(user_id).await
    }

    /// The presence of somebody.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn get(&self, user_id: &UserId) -> Result<PresenceState> {
        let found = self.shared.states(vec![user_id.to_owned()]).await?;
        let state = found.into_iter().next().map(|(_, state)| state);
        Ok(state.unwrap_or(PresenceState::OFFLINE))
    }

    /// What /sync tells a user: `m.presence` events of those whose presence changed after a fleeting count, and of those
    /// present in `newly_joined` rooms; of everyone present who shares a room if the count is `None`, or so long ago that
    /// nobody knows what changed since. Of each user there is one. `filter` says whose are wanted, and how many.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn changed(
        &self,
        feed: &UserFeed,
        after_fleeting: Option<u64>,
        newly_joined: &[i64],
        filter: &Filter,
    ) -> Result<Vec<Box<RawValue>>> {
        let wants_any = type_fits("m.presence", filter.types.as_deref(), &filter.not_types);
        if !self.shared.parts.settings.enabled || !wants_any {
            return Ok(Vec::new());
        }
        let changed = after_fleeting.and_then(|after| feed.presence_changed(after));
        let wanted: HashSet<OwnedUserId> = match changed {
            Some(changed) => {
                let mut wanted = self.shared.present_in(newly_joined).await?;
                wanted.extend(changed);
                wanted
            }
            None => {
                let mut wanted = self.shared.present_in(&feed.joined_rooms()).await?;
                if self.shared.users().get(&feed.user_id).is_some() {
                    wanted.insert(feed.user_id.clone());
                }
                wanted
            }
        };
        let limit = filter.limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let wants = |user_id: &OwnedUserId| {
            sender_fits(user_id, filter.senders.as_deref(), &filter.not_senders)
        };
        let wanted = wanted.into_iter().filter(wants).take(limit);
        let now = self.shared.parts.clock.now_ms();
        let states = self.shared.states(wanted.collect()).await?;
        states
            .iter()
            .map(|(user_id, state)| {
                let event = json!({
                    "content": state.content(now),
                    "sender": user_id,
                    "type": "m.presence",
                });
                to_raw_value(&event).map_err(|error| EngineError::Internal(error.to_string()))
            })
            .collect()
    }
}

impl Shared {
    fn users(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something. If something is due earlier by that, the timer learns of it.
    fn change<T>(&self, change: impl FnOnce(&mut Users) -> T) -> T {
        let mut users = self.users();
        let before = users.next_due();
        let result = change(&mut users);
        let after = users.next_due();
        drop(users);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.sooner.notify_one();
        }
        result
    }

    /// Changes something about a user, who is put into memory if they are not there.
    async fn change_user<T>(
        &self,
        session: &Session,
        change: impl Fn(&mut Users) -> T,
    ) -> Result<T> {
        let user_id = &session.user_id;
        let mut read = None;
        loop {
            let there = self.users().get(user_id).is_some();
            if !there && read.is_none() {
                let row = self.parts.database.presence_of(&[user_id]).await?.pop();
                let (message, active_at) =
                    row.map_or((None, None), |row| (row.status_message, row.last_active_at));
                read = Some(User::new(session.user_nid, message, active_at));
            }
            // They may be gone again, but not before they are kept.
            if let Some(changed) = self.change(|users| {
                if let Some(user) = read.take() {
                    users.add(user_id, user);
                }
                users.get(user_id).is_some().then(|| change(users))
            }) {
                return Ok(changed);
            }
        }
    }

    /// The presence of these users. Of whom nothing is known, they are offline.
    async fn states(
        &self,
        user_ids: Vec<OwnedUserId>,
    ) -> Result<Vec<(OwnedUserId, PresenceState)>> {
        if !self.parts.settings.enabled {
            return Ok(Vec::new());
        }
        let mut states = Vec::with_capacity(user_ids.len());
        let mut away = Vec::new();
        {
            let users = self.users();
            for user_id in user_ids {
                match users.get(&user_id) {
                    Some(user) => states.push((user_id, user.known())),
                    None => away.push(user_id),
                }
            }
        }
        if away.is_empty() {
            return Ok(states);
        }
        let wanted: Vec<&UserId> = away.iter().map(AsRef::as_ref).collect();
        let rows = self.parts.database.presence_of(&wanted).await?;
        let mut kept: HashMap<OwnedUserId, PresenceState> = rows
            .into_iter()
            .map(|row| {
                let state = PresenceState {
                    presence: State::Offline,
                    last_active_at: row.last_active_at,
                    status_message: row.status_message,
                };
                (row.user_id, state)
            })
            .collect();
        states.extend(away.into_iter().map(|user_id| {
            let state = kept.remove(&user_id).unwrap_or(PresenceState::OFFLINE);
            (user_id, state)
        }));
        Ok(states)
    }

    /// Who is present of those joined to one of these rooms.
    async fn present_in(&self, rooms: &[i64]) -> Result<HashSet<OwnedUserId>> {
        let mut found = HashSet::new();
        if rooms.is_empty() {
            return Ok(found);
        }
        let present: HashSet<OwnedUserId> = self.users().present().cloned().collect();
        for room_nid in rooms {
            let room = self.parts.registry.by_nid(*room_nid).await?;
            let state = self.parts.registry.load(&room).await?;
            // Whichever are fewer are looked through.
            if state.joined_count() < present.len() {
                let members = state.joined_members().map(|(user_id, _)| user_id);
                found.extend(
                    members
                        .filter(|user_id| present.contains(*user_id))
                        .cloned(),
                );
            } else {
                let members = present.iter().filter(|user_id| state.is_joined(user_id));
                found.extend(members.cloned());
            }
        }
        Ok(found)
    }

    async fn share_room(&self, session: &Session, user_id: &UserId) -> Result<bool> {
        for room_nid in self.rooms_of(&session.user_id, session.user_nid).await? {
            let room = self.parts.registry.by_nid(room_nid).await?;
            if self.parts.registry.load(&room).await?.is_joined(user_id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The rooms that a user is joined to.
    async fn rooms_of(&self, user_id: &UserId, user_nid: i64) -> Result<Vec<i64>> {
        if let Some(feed) = self.parts.feeds.find(user_id)
            && feed.is_loaded()
        {
            return Ok(feed.joined_rooms());
        }
        let rows = self.parts.database.memberships_of(user_nid).await?;
        Ok(rows
            .into_iter()
            .filter(|row| row.membership == "join")
            .map(|row| row.room_nid)
            .collect())
    }

    /// Tells those who share a room with a user, and the other nodes, that their presence changed.
    async fn tell(&self, change: &Change) -> Result<()> {
        if let Some(news) = &change.announce {
            self.parts.nodes.tell(news.clone());
        }
        if !change.tell && !change.remind {
            return Ok(());
        }
        let rooms = self.rooms_of(&change.user_id, change.user_nid).await?;
        self.parts.announcer.presence(&change.user_id, &rooms);
        if !change.tell {
            return Ok(());
        }
        let feeds = self.parts.stream.change_fleeting(|count| {
            self.parts
                .feeds
                .note_presence(&change.user_id, &rooms, count)
        });
        feeds.iter().for_each(|feed| feed.wake());
        Ok(())
    }

    /// Keeps what is to outlive a restart.
    async fn keep(&self, users: Vec<User>) -> Result<()> {
        let rows = users
            .into_iter()
            .map(|user| (user.user_nid, user.status_message, user.last_active_at))
            .collect();
        Ok(self.parts.database.keep_presence(rows).await?)
    }

    async fn keep_all(&self) {
        let users: Vec<User> = self.users().all().cloned().collect();
        if !users.is_empty()
            && let Err(error) = self.keep(users).await
        {
            tracing::warn!(%error, "who was active when could not be kept");
        }
    }

    async fn run(&self) {
        loop {
            let next = self.users().next_due();
            match next {
                None => self.sooner.notified().await,
                Some(at) => {
                    let wait = u64::try_from(at - self.parts.clock.now_ms()).unwrap_or_default();
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_millis(wait)) => self.settle_due().await,
                        () = self.sooner.notified() => {}
                    }
                }
            }
        }
    }

    /// Has happen what is due by now.
    async fn settle_due(&self) {
        let now = self.parts.clock.now_ms();
        let changes: Vec<Change> = self.change(|users| {
            let due = users.due(now);
            due.iter()
                .filter_map(|user_id| users.settle(user_id, now, self.delays))
                .collect()
        });
        let result = async {
            for change in &changes {
                self.tell(change).await?;
            }
            let gone: Vec<User> = {
                let users = self.users();
                let users = changes
                    .iter()
                    .filter_map(|change| users.get(&change.user_id));
                users.filter(|user| user.is_to_be_kept()).cloned().collect()
            };
            if gone.is_empty() {
                return Ok(());
            }
            self.keep(gone).await
        };
        if let Err(error) = result.await {
            tracing::warn!(%error, "a change of presence could not be told or kept");
        }
        self.users()
            .remove_offline(changes.iter().map(|change| &change.user_id));
    }

    fn active(&self, user_id: &UserId) {
        let now = self.parts.clock.now_ms();
        self.change(|users| users.active(user_id, now));
    }
}

impl Listener for Presence {
    fn heard(&self, node: u32, news: &News) {
        let shared = &self.shared;
        if !shared.parts.settings.enabled {
            return;
        }
        match news {
            News::Hello => {
                let announcements = shared.users().announcements();
                for news in announcements {
                    shared.parts.nodes.tell(news);
                }
            }
            News::Presence {
                user_id,
                user_nid,
                presence,
                status_message,
                last_active_at,
            } => {
                let heard = Heard {
                    node: Some(node),
                    user_nid: *user_nid,
                    says: presence,
                    status_message,
                    last_active_at: *last_active_at,
                };
                let now = shared.parts.clock.now_ms();
                shared.change(|users| users.heard(user_id, heard, now));
            }
            _ => {}
        }
    }

    fn gone(&self, node: u32) {
        let now = self.shared.parts.clock.now_ms();
        self.shared.change(|users| users.node_gone(node, now));
    }
}

impl Observer for Presence {
    /// Who sends is active. Who joins a room is seen by those in it from then on.
    fn event(&self, room: &Room, event: &TimelineEvent) {
        let shared = &self.shared;
        if !shared.parts.settings.enabled {
            return;
        }
        shared.active(&event.sender);
        if event.membership() != Some(MembershipState::Join) || event.was_joined() {
            return;
        }
        let Some(Ok(user_id)) = event.state_key.as_deref().map(<&UserId>::try_from) else {
            return;
        };
        if shared.users().get(user_id).is_none() {
            return;
        }
        // The event itself will wake them.
        shared.parts.stream.change_fleeting(|count| {
            shared
                .parts
                .feeds
                .note_presence(user_id, &[room.nid()], count)
        });
    }

    fn receipt(&self, receipt: &Arc<ReceiptRow>) {
        if self.shared.parts.settings.enabled {
            self.shared.active(&receipt.user_id);
        }
    }
}
