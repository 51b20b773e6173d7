//! What rooms look like from outside, in memory.
//!
//! The directory, a space's hierarchy and the summary of a room tell of rooms that nobody has to be in, many at once. They
//! are read from the few state events that are shown, not from the whole state.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parley_protocol::RoomVersion;
use parley_storage::{
    Database,
    summaries::{ShownRow, is_shown},
};
use quick_cache::{Weighter, sync::Cache};
use ruma::{
    EventEncryptionAlgorithm, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, UInt,
    events::room::{history_visibility::HistoryVisibility, join_rules::JoinRule},
    room::{JoinRuleSummary, RoomSummary, RoomType},
    room_version_rules::AuthorizationRules,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use super::{Rooms, room::Room, timeline::TimelineEvent};
use crate::{EngineError, Result, sessions::Session, stream::observer::Observer};

/// What is kept: about so many bytes.
const BYTES: u64 = 16 * 1024 * 1024;
/// What a room takes beside its texts.
const OVERHEAD: u64 = 500;

/// What a room looks like from outside, but for how many are in it, which changes often.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The summary, with nobody in it.
    summary: RoomSummary,
    /// Who may join.
    pub join_rule: JoinRule,
}

impl Shown {
    /// As it is when so many users are joined.
    pub fn with_joined(&self, joined: i64) -> RoomSummary {
        let mut summary = self.summary.clone();
        summary.num_joined_members = UInt::try_from(joined).unwrap_or_default();
        summary
    }

    /// As it is, but for how many are joined.
    pub fn summary(&self) -> &RoomSummary {
        &self.summary
    }

    fn parse(room_id: &OwnedRoomId, rows: &[ShownRow]) -> Self {
        let parts = Parts(rows);
        let join_rule = parts
            .content::<JoinRule>("m.room.join_rules")
            .unwrap_or(JoinRule::Invite);
        let told = tellable(join_rule.clone().into());
        let world_readable = parts.text("m.room.history_visibility", "history_visibility");
        let guests = parts.text("m.room.guest_access", "guest_access");
        let mut summary = RoomSummary::new(
            room_id.clone(),
            told,
            guests.as_deref() == Some("can_join"),
            UInt::default(),
            world_readable.as_deref() == Some(HistoryVisibility::WorldReadable.as_str()),
        );
        summary.name = parts.text("m.room.name", "name");
        summary.topic = parts.text("m.room.topic", "topic");
        summary.avatar_url = parts.text("m.room.avatar", "url").map(Into::into);
        let alias = parts.text("m.room.canonical_alias", "alias");
        summary.canonical_alias = alias.and_then(|alias| alias.try_into().ok());
        summary.room_type = parts.text("m.room.create", "type").map(RoomType::from);
        let version = parts.text("m.room.create", "room_version");
        summary.room_version = match version {
            Some(version) => RoomVersionId::try_from(version.as_str()).ok(),
            // A create event from before there were others.
            None => Some(RoomVersionId::V1),
        };
        let algorithm = parts.text("m.room.encryption", "algorithm");
        summary.encryption = algorithm.map(EventEncryptionAlgorithm::from);
        Self { summary, join_rule }
    }

    fn weight(&self) -> u64 {
        let texts = [&self.summary.name, &self.summary.topic];
        let bytes: usize = texts.into_iter().flatten().map(String::len).sum();
        OVERHEAD + bytes as u64
    }
}

/// The events of one room.
struct Parts<'a>(&'a [ShownRow]);

impl Parts<'_> {
    fn content<T: DeserializeOwned>(&self, event_type: &str) -> Option<T> {
        #[derive(Deserialize)]
        struct Event<'a> {
            #[serde(borrow)]
            content: &'a RawValue,
        }
        let row = self.0.iter().find(|row| row.event_type == event_type)?;
        let event: Event<'_> = serde_json::from_str(&row.json).ok()?;
        serde_json::from_str(event.content.get()).ok()
    }

    /// A text that isn't empty.
    fn text(&self, event_type: &str, field: &str) -> Option<String> {
        let mut content = self.content::<serde_json::Map<String, serde_json::Value>>(event_type)?;
        match content.remove(field)? {
            serde_json::Value::String(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
struct ByBytes;

impl Weighter<i64, Arc<Shown>> for ByBytes {
    fn weight(&self, _: &i64, shown: &Arc<Shown>) -> u64 {
        shown.weight()
    }
}

/// What was looked at lately.
#[derive(Debug)]
pub(crate) struct Summaries {
    database: Database,
    cache: Cache<i64, Arc<Shown>, ByBytes>,
    /// Counts the changes. What was read before the last of them isn't kept, as it may be what was changed.
    changes: AtomicU64,
}

impl Summaries {
    pub(crate) fn new(database: Database) -> Self {
        Self {
            database,
            cache: Cache::with_weighter(20_000, BYTES, ByBytes),
            changes: AtomicU64::new(0),
        }
    }

    /// What is shown of rooms, by their numbers.
    pub(super) async fn of(&self, rooms: &[i64]) -> Result<HashMap<i64, Arc<Shown>>> {
        let mut found = HashMap::with_capacity(rooms.len());
        let mut missing = Vec::new();
        for nid in rooms {
            match self.cache.get(nid) {
                Some(shown) => {
                    found.insert(*nid, shown);
                }
                None => missing.push(*nid),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let before = self.changes.load(Ordering::Acquire);
        let mut rows = self.database.shown_state(missing).await?;
        rows.sort_unstable_by_key(|row| row.room_nid);
        for rows in rows.chunk_by(|one, other| one.room_nid == other.room_nid) {
            let Some(first) = rows.first() else { continue };
            let shown = Arc::new(Shown::parse(&first.room_id, rows));
            self.cache.insert(first.room_nid, shown.clone());
            if self.changes.load(Ordering::Acquire) != before {
                self.cache.remove(&first.room_nid);
            }
            found.insert(first.room_nid, shown);
        }
        Ok(found)
    }
}

impl Observer for Summaries {
    fn event(&self, room: &Room, event: &TimelineEvent) {
        // Whatever it redacts: redactions are rare enough.
        let changes = is_shown(&event.event_type, event.state_key.as_deref())
            || event.event_type.as_ref() == "m.room.redaction";
        if changes {
            self.changes.fetch_add(1, Ordering::AcqRel);
            self.cache.remove(&room.nid());
        }
    }
}

/// Who looks at rooms from outside, and which they have to do with.
#[derive(Clone, Debug, Default)]
pub struct Viewer {
    memberships: HashMap<OwnedRoomId, String>,
}

impl Viewer {
    /// The membership in a room: `leave` where there never was one.
    pub fn membership(&self, room_id: &RoomId) -> &str {
        self.memberships
            .get(room_id)
            .map_or("leave", String::as_str)
    }

    /// Whether a room may be shown: to who is in it or could come in, or knock, or read it from outside.
    pub fn may_see(&self, summary: &RoomSummary) -> bool {
        let is_joined = |room_id: &OwnedRoomId| self.membership(room_id) == "join";
        if matches!(self.membership(&summary.room_id), "join" | "invite") || summary.world_readable
        {
            return true;
        }
        if !knows_join_rule(summary) {
            return false;
        }
        match &summary.join_rule {
            // Who may knock, that is anyone, sees it.
            JoinRuleSummary::Public
            | JoinRuleSummary::Knock
            | JoinRuleSummary::KnockRestricted(_) => true,
            JoinRuleSummary::Restricted(rule) => rule.allowed_room_ids.iter().any(is_joined),
            _ => false,
        }
    }
}

/// Whether the version of a room knows its join rule: one that it doesn't know lets nobody in. What isn't said of a room of
/// another server is believed to be so.
pub(super) fn knows_join_rule(summary: &RoomSummary) -> bool {
    let known = |knows: fn(&AuthorizationRules) -> bool| match &summary.room_version {
        Some(version) => {
            RoomVersion::new(version).is_some_and(|version| knows(&version.rules().authorization))
        }
        None => true,
    };
    match &summary.join_rule {
        JoinRuleSummary::Knock => known(|rules| rules.knocking),
        JoinRuleSummary::Restricted(_) => known(|rules| rules.restricted_join_rule),
        JoinRuleSummary::KnockRestricted(_) => known(|rules| rules.knock_restricted_join_rule),
        _ => true,
    }
}

/// A rule as it may be told. One that nobody knows lets nobody in; ruma doesn't write it.
pub(super) fn tellable(rule: JoinRuleSummary) -> JoinRuleSummary {
    match rule {
        JoinRuleSummary::Invite
        | JoinRuleSummary::Knock
        | JoinRuleSummary::KnockRestricted(_)
        | JoinRuleSummary::Public
        | JoinRuleSummary::Restricted(_) => rule,
        _ => JoinRuleSummary::Private,
    }
}

impl Rooms {
    /// What a session's user has to do with which rooms; nothing, if there is none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn viewer(&self, session: Option<&Session>) -> Result<Viewer> {
        let Some(session) = session else {
            return Ok(Viewer::default());
        };
        let rows = self.database.memberships_of(session.user_nid).await?;
        let memberships = rows.into_iter().map(|row| (row.room_id, row.membership));
        Ok(Viewer {
            memberships: memberships.collect(),
        })
    }

    /// What a room looks like from outside, and the membership of who asks. Where this server isn't in the room, one of the
    /// servers `via` is asked.
    ///
    /// `GET /room_summary/{roomIdOrAlias}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such room that may be shown.
    pub async fn summary(
        &self,
        session: Option<&Session>,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Result<(RoomSummary, Option<String>)> {
        let unknown = || EngineError::not_found("there is no such room, or you may not see it");
        let mut here = self.rooms_here(&[room_id.to_owned()]).await?;
        let summary = match here.remove(room_id) {
            Some(here) => here.summary(),
            // Who isn't logged in doesn't make this server ask others.
            None if session.is_none() => return Err(unknown()),
            None => {
                let own = room_id.server_name().map(ToOwned::to_owned);
                let via: Vec<OwnedServerName> = via.iter().cloned().chain(own).collect();
                let told = self.told_of(room_id, &via).await.ok_or_else(unknown)?;
                told.summary.clone()
            }
        };
        let viewer = self.viewer(session).await?;
        if !viewer.may_see(&summary) {
            return Err(unknown());
        }
        let membership = session.map(|_| viewer.membership(room_id).to_owned());
        Ok((summary, membership))
    }

    /// Of these rooms, those that this server is in, or that nobody is in any more.
    pub(super) async fn rooms_here(
        &self,
        rooms: &[OwnedRoomId],
    ) -> Result<HashMap<OwnedRoomId, Here>> {
        let mut sizes = self.database.room_sizes(rooms).await?;
        sizes.retain(|size| size.is_here || size.joined == 0);
        let nids: Vec<i64> = sizes.iter().map(|size| size.nid).collect();
        let shown = self.summaries.of(&nids).await?;
        let here = sizes.into_iter().filter_map(|size| {
            let shown = shown.get(&size.nid)?.clone();
            let joined = size.joined;
            Some((size.room_id, Here { shown, joined }))
        });
        Ok(here.collect())
    }
}

/// What is shown of a room that this server is in.
#[derive(Clone, Debug)]
pub(super) struct Here {
    pub(super) shown: Arc<Shown>,
    /// How many users are joined.
    pub(super) joined: i64,
}

impl Here {
    pub(super) fn summary(&self) -> RoomSummary {
        self.shown.with_joined(self.joined)
    }
}
