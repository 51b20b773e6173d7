//! Which rooms are in memory, and reading them from storage.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parley_protocol::{Pdu, RoomVersion, StateEvent};
use parley_storage::{
    Database, StorageError,
    commit::Assigned,
    events::{EventRow, Span},
    rooms::RoomRow,
    state::Places,
};
use quick_cache::sync::Cache;
use ruma::{OwnedRoomId, RoomId, RoomVersionId, UserId, events::TimelineEventType};

use super::{
    partial::Members,
    room::{Head, Room, View},
    state::{RoomState, StateEntry, visibility_of},
    timeline::{Events, redacts_in_content},
};
use crate::{EngineError, Result};

/// Rooms that stay in memory although nobody is using them.
const KEPT: usize = 10_000;
/// Events behind which a view is caught up with what another node wrote; beyond, it is read anew.
const CATCH_UP: i64 = 1_000;

/// The rooms in memory. A room that is evicted while somebody still holds it is found again as long as that lasts, so
/// that there are never two of the same.
#[derive(Debug)]
pub struct Registry {
    database: Database,
    events: Arc<Events>,
    kept: Cache<OwnedRoomId, Arc<Room>>,
    /// Counts how often states that are stored got what they lacked.
    completions: AtomicU64,
    alive: Mutex<Alive>,
}

#[derive(Debug, Default)]
struct Alive {
    by_id: HashMap<OwnedRoomId, Weak<Room>>,
    by_nid: HashMap<i64, Weak<Room>>,
    /// How many there were when the dead ones were last swept out.
    swept_at: usize,
}

impl Registry {
    /// Reads from `database`.
    pub fn new(database: Database, events: Arc<Events>) -> Self {
        Self {
            database,
            events,
            kept: Cache::new(KEPT),
            completions: AtomicU64::new(0),
            alive: Mutex::default(),
        }
    }

    /// A room by its id; `None` if this server doesn't have it.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn get(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        let Some(room) = self.find(room_id).await? else {
            return Ok(None);
        };
        if !room.is_outside() {
            return Ok(Some(room));
        }
        // Another node may have joined it meanwhile.
        let row = Box::pin(self.database.room(room_id)).await?;
        let Some(row) = row.filter(|row| !row.extremities.is_empty()) else {
            return Ok(None);
        };
        if row.version != room.version().id().as_str() {
            self.forget(&room);
            return Ok(Some(self.room_of_row(&row)?));
        }
        room.set_members(row.partial.as_ref().into());
        room.set_outside(false);
        Ok(Some(room))
    }

    /// The room as it is to be entered: of the version that a server in it says that it is, whatever was said with
    /// invitations before.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn to_enter(
        &self,
        room_id: &RoomId,
        version: RoomVersion,
    ) -> Result<Arc<Room>> {
        let Some(room) = self.find(room_id).await? else {
            return Ok(self.outside(room_id, version));
        };
        if !room.is_outside() || room.version().id() == version.id() {
            return Ok(room);
        }
        if room.nid() != 0 {
            let version = version.id().as_str();
            self.database.set_room_version(room.nid(), version).await?;
        }
        self.forget(&room);
        let room = Room::new(room_id.to_owned(), version, room.assigned_nid());
        room.set_outside(true);
        Ok(self.insert(room))
    }

    /// A room that this server isn't in.
    pub(super) fn outside(&self, room_id: &RoomId, version: RoomVersion) -> Arc<Room> {
        let room = Room::new(room_id.to_owned(), version, Assigned::default());
        room.set_outside(true);
        self.insert(room)
    }

    /// Has a room that this server isn't in be read anew.
    fn forget(&self, room: &Room) {
        self.alive(|alive| {
            alive.by_id.remove(room.id());
            alive.by_nid.remove(&room.nid());
        });
        self.kept.remove(room.id());
    }

    /// A room by its id, also one of which this server knows just that its users are invited to it; `None` if it doesn't
    /// know of it at all.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn find(&self, room_id: &RoomId) -> Result<Option<Arc<Room>>> {
        if let Some(room) = self.kept.get(room_id) {
            return Ok(Some(room));
        }
        if let Some(room) = self.alive(|alive| alive.by_id.get(room_id).and_then(Weak::upgrade)) {
            return Ok(Some(room));
        }
        match Box::pin(self.database.room(room_id)).await? {
            Some(row) => Ok(Some(self.room_of_row(&row)?)),
            None => Ok(None),
        }
    }

    /// A room with its current state, for somebody who is joined to it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if they are not, also if there is no such room: who is not in a room isn't told whether it exists.
    pub async fn joined(
        &self,
        user_id: &UserId,
        room_id: &RoomId,
    ) -> Result<(Arc<Room>, Arc<RoomState>)> {
        let not_joined = || EngineError::forbidden("you are not joined to this room");
        let room = self.get(room_id).await?.ok_or_else(not_joined)?;
        let state = self.load(&room).await?;
        if !state.is_joined(user_id) {
            return Err(not_joined());
        }
        Ok((room, state))
    }

    /// A room by its number.
    ///
    /// # Errors
    /// If the database fails, or there is no such room.
    pub async fn by_nid(&self, nid: i64) -> Result<Arc<Room>> {
        if let Some(room) = self.in_memory(nid) {
            return Ok(room);
        }
        let row = self.database.room_by_nid(nid).await?;
        self.room_of_row(
            &row.ok_or_else(|| EngineError::Internal(format!("there is no room {nid}")))?,
        )
    }

    /// A room by its number, if it is in memory.
    pub fn in_memory(&self, nid: i64) -> Option<Arc<Room>> {
        self.alive(|alive| alive.by_nid.get(&nid).and_then(Weak::upgrade))
    }

    fn room_of_row(&self, row: &RoomRow) -> Result<Arc<Room>> {
        let version = RoomVersionId::try_from(row.version.as_str())
            .ok()
            .and_then(|id| RoomVersion::new(&id))
            .ok_or_else(|| {
                EngineError::Internal(format!("room version {} is unknown", row.version))
            })?;
        let room = Room::new(row.room_id.clone(), version, Assigned::known(row.nid));
        room.set_outside(row.extremities.is_empty());
        room.set_members(row.partial.as_ref().into());
        Ok(self.insert(room))
    }

    /// Puts a room into memory, unless it is there; gives the one that is.
    pub(super) fn insert(&self, room: Room) -> Arc<Room> {
        let room = self.alive(|alive| {
            if let Some(room) = alive.by_id.get(room.id()).and_then(Weak::upgrade) {
                return room;
            }
            alive.sweep();
            let room = Arc::new(room);
            alive
                .by_id
                .insert(room.id().to_owned(), Arc::downgrade(&room));
            if room.nid() != 0 {
                alive.by_nid.insert(room.nid(), Arc::downgrade(&room));
            }
            room
        });
        self.kept.insert(room.id().to_owned(), room.clone());
        room
    }

    /// Notes the number that a new room was given.
    pub(crate) fn numbered(&self, room: &Arc<Room>) {
        self.alive(|alive| alive.by_nid.insert(room.nid(), Arc::downgrade(room)));
    }

    fn alive<T>(&self, use_it: impl FnOnce(&mut Alive) -> T) -> T {
        use_it(&mut self.alive.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How often states that are stored got what they lacked: what was read of them before is no longer so.
    pub(crate) fn completions(&self) -> u64 {
        self.completions.load(Ordering::Acquire)
    }

    /// Notes that states that are stored got what they lacked.
    pub(crate) fn note_completion(&self) {
        self.completions.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes over what another node has noted of the members of a room that is in memory.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn renew_members(&self, room: &Room) -> Result<()> {
        let Some(row) = self.database.room_by_nid(room.nid()).await? else {
            return Ok(());
        };
        let members = Members::from(row.partial.as_ref());
        if matches!(members, Members::All { .. }) && room.lacks_members() {
            self.note_completion();
            // Whatever was taken out of the timeline goes with the view.
            room.forget_view();
        }
        room.invalidate();
        room.set_members(members);
        Ok(())
    }

    /// Makes sure that readers have a view of the room.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn load(&self, room: &Room) -> Result<Arc<RoomState>> {
        if let Some((state, _)) = room.published() {
            return Ok(state);
        }
        let mut head = room.head.lock().await;
        if room.published().is_none() {
            *head = Some(Box::pin(self.read_head(room)).await?);
        }
        room.published()
            .map(|(state, _)| state)
            .ok_or_else(|| EngineError::Internal("a loaded room has no view".to_owned()))
    }

    /// Reads a room's head from storage. Another node may write while this reads, so it is read until two readings
    /// agree.
    pub(super) async fn read_head(&self, room: &Room) -> Result<Head> {
        const ATTEMPTS: usize = 20;
        let generation = room.generation();
        for _ in 0..ATTEMPTS {
            let row = self
                .database
                .room_by_nid(room.nid())
                .await?
                .ok_or_else(|| {
                    EngineError::Internal("the room is gone from the database".to_owned())
                })?;
            let head = self.head_from_row(room, &row, generation).await?;
            if self.database.room_revision(row.nid).await? == Some(row.revision) {
                return Ok(head);
            }
        }
        Err(EngineError::Internal(
            "the room changes faster than it can be read".to_owned(),
        ))
    }

    async fn head_from_row(&self, room: &Room, row: &RoomRow, generation: u64) -> Result<Head> {
        let newest = self.newest(row).await?;
        let snapshot = newest.current_snapshot.unwrap_or(newest.snapshot);
        let state = self.view_to(room, row, snapshot).await?;
        let extremities = self.database.events_at(row.extremities.clone()).await?;
        let depth = extremities.iter().map(depth_of).max().unwrap_or_default();
        let chain = self.database.snapshot_chain(snapshot).await?;
        Ok(Head {
            generation,
            revision: row.revision,
            depth,
            extremities: extremities
                .into_iter()
                .map(|event| (event.event_id, Assigned::known(event.position)))
                .collect(),
            newest: Assigned::known(row.last_position),
            chain: chain
                .into_iter()
                .rev()
                .map(|(position, height)| (height, Assigned::known(position)))
                .collect(),
            state: Some(state),
        })
    }

    async fn newest(&self, row: &RoomRow) -> Result<EventRow> {
        let mut newest = self.database.events_at(vec![row.last_position]).await?;
        newest.pop().ok_or_else(|| {
            StorageError::Corrupt(format!("room {} has lost its newest event", row.room_id)).into()
        })
    }

    /// Brings the room's view to where its row is, and gives the state there.
    async fn view_to(&self, room: &Room, row: &RoomRow, snapshot: i64) -> Result<Arc<RoomState>> {
        if let Some(last_position) = room.last_position() {
            self.catch_up(room, last_position, row.last_position)
                .await?;
        }
        if room.last_position() != Some(row.last_position) {
            let state = Arc::new(self.read_state(room, snapshot, row.last_position).await?);
            room.set_view(View::new(state, snapshot, row.last_position));
        }
        room.published()
            .map(|(state, _)| state)
            .ok_or_else(|| EngineError::Internal("a loaded room has no view".to_owned()))
    }

    /// Takes what another node wrote over into the view, if it isn't much.
    pub(crate) async fn catch_up(&self, room: &Room, after: i64, to: i64) -> Result<()> {
        let Some((mut state, _)) = room.published() else {
            return Ok(());
        };
        if after >= to {
            return Ok(());
        }
        let span = Span {
            room_nid: room.nid(),
            after,
            to,
        };
        let rows = self.database.oldest_events(span, CATCH_UP + 1).await?;
        if rows.len() as i64 > CATCH_UP {
            return Ok(());
        }
        let whole = self.resolved(room, &rows).await?;
        let mut changed = whole.is_some();
        let applied = if whole.is_some() {
            &[]
        } else {
            rows.as_slice()
        };
        state = whole.unwrap_or(state);
        for row in applied {
            if let Some(event) = StateEvent::parse(row.event_id.clone(), &row.json) {
                let entry = StateEntry {
                    event: Arc::new(event),
                    position: Assigned::known(row.position),
                };
                Arc::make_mut(&mut state).apply(entry, room.version());
                changed = true;
            }
            changed |= self.redact_in(&mut state, room, row).await?;
        }
        let events = self.events.keep(rows)?;
        room.publish(&events, changed.then_some(state));
        Ok(())
    }

    /// The state after some events, if by one of them it became otherwise than that each took its place.
    async fn resolved(&self, room: &Room, rows: &[EventRow]) -> Result<Option<Arc<RoomState>>> {
        let settled = rows.iter().any(|row| row.current_snapshot.is_some());
        let Some(last) = rows.last().filter(|_| settled) else {
            return Ok(None);
        };
        let snapshot = last.current_snapshot.unwrap_or(last.snapshot);
        let state = self.read_state(room, snapshot, last.position).await?;
        Ok(Some(Arc::new(state)))
    }

    /// If an event is a redaction, takes what it redacts out of the state. Whether that changed it.
    async fn redact_in(
        &self,
        state: &mut Arc<RoomState>,
        room: &Room,
        row: &EventRow,
    ) -> Result<bool> {
        let Some(target) = redacted_event(row) else {
            return Ok(false);
        };
        let Some(target) = self.database.event(&target).await? else {
            return Ok(false);
        };
        let applies = target.room_nid == room.nid() && target.redacted_by == Some(row.position);
        Ok(applies && Arc::make_mut(state).redact(&target.event_id, &target.json, room.version()))
    }

    /// Takes what an event said that was redacted out of the state that a room's readers see, where that comes with no event of
    /// the timeline. `row` is what is left of it.
    pub(crate) fn redact_in_view(&self, room: &Room, row: &EventRow) {
        let Some((mut state, _)) = room.published() else {
            return;
        };
        if Arc::make_mut(&mut state).redact(&row.event_id, &row.json, room.version()) {
            room.invalidate();
            room.publish_state(state);
        }
    }

    /// Reads the state of a snapshot; `to` is the position up to which the history visibility is looked at.
    ///
    /// # Errors
    /// If the database fails, or lacks an event of the state.
    pub async fn read_state(&self, room: &Room, snapshot: i64, to: i64) -> Result<RoomState> {
        let positions: Vec<i64> = self
            .database
            .state(snapshot, Places::All)
            .await?
            .into_iter()
            .map(|row| row.position)
            .collect();
        let mut rows = self.database.events_at(positions).await?;
        rows.sort_unstable_by_key(|row| row.position);
        let mut create = None;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let Some(event) = StateEvent::parse(row.event_id, &row.json) else {
                continue;
            };
            let entry = StateEntry {
                event: Arc::new(event),
                position: Assigned::known(row.position),
            };
            match entry.event.event_type {
                TimelineEventType::RoomCreate => create = Some(entry),
                _ => entries.push(entry),
            }
        }
        let create = create.ok_or_else(|| {
            StorageError::Corrupt(format!("room {} has no create event", room.id()))
        })?;
        let mut state = RoomState::new(create, room.version());
        for entry in entries {
            state.apply(entry, room.version());
        }
        let history = self.database.visibility_history(room.nid()).await?;
        state.set_visibilities(
            history
                .into_iter()
                .filter(|(position, _)| *position <= to)
                .filter_map(|(position, json)| {
                    let event = StateEvent::parse(ruma::event_id!("$history").to_owned(), &json)?;
                    Some((Assigned::known(position), visibility_of(&event)))
                })
                .collect(),
        );
        Ok(state)
    }
}

/// The event that an event redacts, if it is a redaction.
pub(crate) fn redacted_event(row: &EventRow) -> Option<ruma::OwnedEventId> {
    // Cheaper than parsing each.
    if !row.json.contains("\"m.room.redaction\"") {
        return None;
    }
    let pdu = Pdu::parse(row.event_id.clone(), &row.json).ok()?;
    pdu.redacts(redacts_in_content(row.room_version.as_deref()))
}

fn depth_of(row: &EventRow) -> u64 {
    Pdu::parse(row.event_id.clone(), &row.json).map_or(0, |pdu| pdu.fields.depth.into())
}

impl Alive {
    /// Throws out the entries of rooms that are gone, when there may be many.
    fn sweep(&mut self) {
        if self.by_id.len() < self.swept_at * 2 + 1_000 {
            return;
        }
        self.by_id.retain(|_, room| room.strong_count() > 0);
        self.by_nid.retain(|_, room| room.strong_count() > 0);
        self.swept_at = self.by_id.len();
    }
}
