//! What rooms that span servers need beyond the timeline: events that stand in none, and invitations from outside. What other
//! servers sent is in [`inbox`](crate::inbox).

use std::{collections::HashMap, pin::Pin};

use parley_protocol::EventKey;
use ruma::{EventId, OwnedEventId, OwnedUserId};

use crate::{
    Database, Result, StorageError,
    commit::Standing,
    events::{EventRow, read_event_id},
    rooms::read,
    state::{Places, StateRow},
    statement::statement,
};

/// An event that this server has, in a timeline or not.
#[derive(Clone, Debug)]
pub struct KnownEvent {
    /// Its number.
    pub position: i64,
    /// Its room.
    pub room_nid: i64,
    /// Its id.
    pub event_id: OwnedEventId,
    /// How it stands to the room.
    pub standing: Standing,
    /// The snapshot of the state after it; `None` if that isn't known.
    pub snapshot: Option<i64>,
    /// Its depth in the room's graph.
    pub depth: i64,
    /// Canonical JSON of the PDU, redacted if it was.
    pub json: String,
}

/// A look-up of events.
pub type KnownEvents<'d> =
    Pin<Box<dyn Future<Output = Result<HashMap<OwnedEventId, KnownEvent>>> + Send + 'd>>;

/// A place of a room's state, with the event that stands there.
#[derive(Clone, Debug)]
pub struct StateEntryRow {
    /// The type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// The number of the event.
    pub position: i64,
    /// Its id.
    pub event_id: OwnedEventId,
}

/// A place of a room's state in which another event stands than before.
#[derive(Clone, Debug)]
pub struct StateChangeRow {
    /// The type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// The number of the event and its id; `None` if nothing stands there any more.
    pub event: Option<(i64, OwnedEventId)>,
}

/// What is known of a room that a user is invited to, or has knocked on, and this server is not in.
#[derive(Clone, Debug)]
pub struct RemoteInviteRow {
    /// The number of the member event.
    pub event_position: i64,
    /// JSON array of stripped state.
    pub room_state: String,
    /// JSON array: servers by which the room can be reached.
    pub via: String,
}

/// Position, room, id, snapshot, PDU, version of the room.
type OutlierColumns = (i64, i64, Vec<u8>, Option<i64>, String, Option<String>);

/// Position, room, id, standing, snapshot, depth, PDU.
/// What is here of an event that comes.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Whether the event itself is here, of whichever room and however it stands to that.
    pub is_known: bool,
    /// The positions of redactions of it in its room, the first first.
    pub early_redactions: Vec<i64>,
}

type KnownColumns = (i64, i64, Vec<u8>, String, Option<i64>, i64, String);

impl Database {
    /// Events of no timeline.
    pub(crate) async fn outliers_at(&self, positions: Vec<i64>) -> Result<Vec<EventRow>> {
        let rows: Vec<OutlierColumns> = statement(
            "SELECT o.position, o.room_nid, o.event_id, o.snapshot, o.json, \
             CASE WHEN o.slot_nid IS NULL THEN (SELECT v.version FROM rooms v WHERE v.nid = o.room_nid) END \
             FROM outliers o WHERE o.position IN ({ints $1})",
        )
        .bind(positions)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(position, room_nid, event_id, snapshot, json, version)| {
                Ok(EventRow {
                    position,
                    room_nid,
                    event_id: read_event_id(&event_id)?,
                    snapshot: snapshot.unwrap_or_default(),
                    current_snapshot: None,
                    replaces: None,
                    redacted_by: None,
                    device_nid: None,
                    transaction_id: None,
                    json,
                    replaced_json: None,
                    replaced_id: None,
                    after_gap: false,
                    room_version: version,
                })
            })
            .collect()
    }

    /// Those of some events that this server has, of whichever room.
    pub fn known_events<'a, 'd>(
        &'d self,
        ids: impl IntoIterator<Item = &'a OwnedEventId>,
    ) -> KnownEvents<'d> {
        // Not an async function, whose future would hold on to the ids.
        let keys: Vec<Vec<u8>> = ids
            .into_iter()
            .map(|id| EventKey::new(id).into_bytes())
            .collect();
        Box::pin(self.events_of_keys(keys))
    }

    /// What is here of an event that comes into a room.
    pub async fn arrival(&self, room_nid: i64, event_id: &EventId) -> Result<Arrival> {
        let rows: Vec<(i64, bool)> = statement(
            "SELECT position, TRUE FROM events WHERE event_id = $1 \
             UNION ALL SELECT position, TRUE FROM outliers WHERE event_id = $1 \
             UNION ALL SELECT position, FALSE FROM early_redactions WHERE room_nid = $2 AND event_id = $1",
        )
        .bind(EventKey::new(event_id).into_bytes())
        .bind(room_nid)
        .all(self)
        .await?;
        let mut arrival = Arrival::default();
        for (position, is_event) in rows {
            match is_event {
                true => arrival.is_known = true,
                false => arrival.early_redactions.push(position),
            }
        }
        arrival.early_redactions.sort_unstable();
        Ok(arrival)
    }

    async fn events_of_keys(
        &self,
        keys: Vec<Vec<u8>>,
    ) -> Result<HashMap<OwnedEventId, KnownEvent>> {
        let mut known = HashMap::with_capacity(keys.len());
        if keys.is_empty() {
            return Ok(known);
        }
        let rows: Vec<KnownColumns> = statement(
            "SELECT position, room_nid, event_id, standing, snapshot, depth, json FROM outliers \
             WHERE event_id IN ({bytes $1}) \
             UNION ALL SELECT position, room_nid, event_id, 'accepted', snapshot, depth, json FROM events \
             WHERE event_id IN ({bytes $1})",
        )
        .bind(keys)
        .all(self)
        .await?;
        for (position, room_nid, event_id, standing, snapshot, depth, json) in rows {
            let event = KnownEvent {
                position,
                room_nid,
                event_id: read_event_id(&event_id)?,
                standing: Standing::read(&standing)?,
                snapshot,
                depth,
                json,
            };
            let in_timeline = event.standing == Standing::Accepted;
            // Where it is both, what is known of it in the timeline counts.
            if in_timeline || !known.contains_key(&event.event_id) {
                known.insert(event.event_id.clone(), event);
            }
        }
        Ok(known)
    }

    /// The redactions that came before what they redact, by their positions, the first first.
    pub async fn early_redactions<'a>(
        &self,
        room_nid: i64,
        targets: impl IntoIterator<Item = &'a OwnedEventId>,
    ) -> Result<HashMap<OwnedEventId, Vec<i64>>> {
        let keys: Vec<Vec<u8>> = targets
            .into_iter()
            .map(|id| EventKey::new(id).into_bytes())
            .collect();
        let rows: Vec<(Vec<u8>, i64)> = statement(
            "SELECT event_id, position FROM early_redactions WHERE room_nid = $1 \
             AND event_id IN ({bytes $2}) ORDER BY position",
        )
        .bind(room_nid)
        .bind(keys)
        .all(self)
        .await?;
        let mut redactions: HashMap<OwnedEventId, Vec<i64>> = HashMap::new();
        for (event_id, position) in rows {
            let event_id = read_event_id(&event_id)?;
            redactions.entry(event_id).or_default().push(position);
        }
        Ok(redactions)
    }

    /// The number that an event has outside the timelines.
    pub async fn outlier_number(&self, event_id: &EventId) -> Result<Option<i64>> {
        let row: Option<(i64,)> = statement("SELECT position FROM outliers WHERE event_id = $1")
            .bind(EventKey::new(event_id).into_bytes())
            .optional(self)
            .await?;
        Ok(row.map(|(position,)| position))
    }

    /// The state of a snapshot, with the ids of its events.
    pub async fn state_entries(&self, snapshot: i64) -> Result<Vec<StateEntryRow>> {
        let places = self.state(snapshot, Places::All).await?;
        let ids = self.ids_at(&places).await?;
        let entry = |row: StateRow| {
            let event_id = id_of(&ids, row.position)?;
            Ok(StateEntryRow {
                event_type: row.event_type,
                state_key: row.state_key,
                position: row.position,
                event_id,
            })
        };
        places.into_iter().map(entry).collect()
    }

    /// What a snapshot changes over one that it is read through.
    pub async fn state_changes(&self, snapshot: i64, base: i64) -> Result<Vec<StateChangeRow>> {
        let places = self.state_over(snapshot, base).await?;
        let ids = self.ids_at(&places).await?;
        let change = |row: StateRow| {
            let event = match row.position {
                0 => None,
                position => Some((position, id_of(&ids, position)?)),
            };
            Ok(StateChangeRow {
                event_type: row.event_type,
                state_key: row.state_key,
                event,
            })
        };
        places.into_iter().map(change).collect()
    }

    async fn ids_at(&self, places: &[StateRow]) -> Result<HashMap<i64, Vec<u8>>> {
        let positions: Vec<i64> = places.iter().map(|row| row.position).collect();
        let rows: Vec<(i64, Vec<u8>)> = statement(
            "SELECT position, event_id FROM events WHERE position IN ({ints $1}) \
             UNION ALL SELECT position, event_id FROM outliers WHERE position IN ({ints $1})",
        )
        .bind(positions)
        .all(self)
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// The users whose membership in a room changed at a position of the stream.
    pub async fn members_changed_at(
        &self,
        room_nid: i64,
        position: i64,
    ) -> Result<Vec<(OwnedUserId, String)>> {
        let rows: Vec<(String, String)> = statement(
            "SELECT u.user_id, m.membership FROM memberships m JOIN users u ON u.nid = m.user_nid \
             WHERE m.room_nid = $1 AND m.event_position = $2",
        )
        .bind(room_nid)
        .bind(position)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(user_id, membership)| Ok((read(user_id)?, membership)))
            .collect()
    }

    /// The memberships that came by invitations from outside in a stretch of the stream: room, user, membership,
    /// position.
    pub async fn remote_memberships_between(
        &self,
        after: i64,
        to: i64,
    ) -> Result<Vec<(i64, OwnedUserId, String, i64)>> {
        let rows: Vec<(i64, String, String, i64)> = statement(
            "SELECT m.room_nid, u.user_id, m.membership, m.event_position FROM outliers o \
             JOIN memberships m ON m.room_nid = o.room_nid AND m.event_position = o.position \
             JOIN users u ON u.nid = m.user_nid WHERE o.position > $1 AND o.position <= $2",
        )
        .bind(after)
        .bind(to)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(room_nid, user_id, membership, position)| {
                Ok((room_nid, read(user_id)?, membership, position))
            })
            .collect()
    }

    /// The invitation of a user to a room that this server is not in, or their knock on it.
    pub async fn remote_invite(
        &self,
        room_nid: i64,
        user_nid: i64,
    ) -> Result<Option<RemoteInviteRow>> {
        let row: Option<(i64, String, String)> = statement(
            "SELECT event_position, room_state, via FROM remote_invites WHERE room_nid = $1 AND user_nid = $2",
        )
        .bind(room_nid)
        .bind(user_nid)
        .optional(self)
        .await?;
        Ok(
            row.map(|(event_position, room_state, via)| RemoteInviteRow {
                event_position,
                room_state,
                via,
            }),
        )
    }

    /// The invitations of a user to rooms that this server isn't in, the oldest first: the room, and where they stand.
    pub async fn remote_invites_of(&self, user_nid: i64) -> Result<Vec<(i64, i64)>> {
        statement(
            "SELECT m.room_nid, m.event_position FROM memberships m JOIN remote_invites i \
             ON i.room_nid = m.room_nid AND i.user_nid = m.user_nid AND i.event_position = m.event_position \
             WHERE m.user_nid = $1 AND m.membership = 'invite' AND NOT m.forgotten ORDER BY m.event_position",
        )
        .bind(user_nid)
        .all(self)
        .await
    }

    /// The event of a room's timeline that is nearest to its beginning, of those that this server has.
    pub async fn oldest_event(&self, room_nid: i64) -> Result<Option<EventRow>> {
        let span = crate::events::Span {
            room_nid,
            after: i64::MIN,
            to: i64::MAX,
        };
        Ok(self.oldest_events(span, 1).await?.pop())
    }

    /// Whether this server has an event, in a timeline or not.
    pub async fn has_event(&self, event_id: &EventId) -> Result<bool> {
        let ids = [event_id.to_owned()];
        Ok(!self.known_events(&ids).await?.is_empty())
    }
}

fn id_of(ids: &HashMap<i64, Vec<u8>>, position: i64) -> Result<OwnedEventId> {
    let id = ids
        .get(&position)
        .ok_or_else(|| StorageError::Corrupt(format!("state has lost its event {position}")))?;
    read_event_id(id)
}
