//! Reading events.

use std::collections::{HashMap, HashSet};

use parley_protocol::EventKey;
use ruma::{EventId, OwnedEventId};

use crate::{Database, Result, StorageError, statement::statement};

/// An event as it is stored.
#[derive(Clone, Debug)]
pub struct EventRow {
    /// Where it stands in the stream.
    pub position: i64,
    /// Its room.
    pub room_nid: i64,
    /// Its id.
    pub event_id: OwnedEventId,
    /// The state after it is the snapshot of this number.
    pub snapshot: i64,
    /// The room's current state after it, where it is another.
    pub current_snapshot: Option<i64>,
    /// The state event that it took the place of.
    pub replaces: Option<i64>,
    /// The redaction that applies to it.
    pub redacted_by: Option<i64>,
    /// The device of this server that sent it.
    pub device_nid: Option<i64>,
    /// With which transaction id.
    pub transaction_id: Option<String>,
    /// Canonical JSON of the PDU, redacted if it was.
    pub json: String,
    /// The PDU of the state event that it took the place of.
    pub replaced_json: Option<String>,
    /// The id of that.
    pub replaced_id: Option<OwnedEventId>,
    /// Whether some of what it is built on isn't in the timeline.
    pub after_gap: bool,
    /// If it is a redaction, the version of its room, which says where it names what it redacts.
    pub room_version: Option<String>,
}

impl EventRow {
    /// Whether the room's whole state came with it: the join by which this server came into the room.
    pub fn brought_state(&self) -> bool {
        self.position > 0 && self.current_snapshot == Some(self.snapshot)
    }
}

/// The columns of [`SELECT`].
pub(crate) type Columns = (
    i64,
    i64,
    Vec<u8>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<String>,
    String,
    Option<String>,
    Option<Vec<u8>>,
    Option<i64>,
    bool,
    Option<String>,
);

/// The columns of [`EventRow`]. What an event took the place of may have come with a state, and stand in no timeline. The
/// version is looked up for redactions only, as whole states of rooms are read this way.
pub(crate) const SELECT: &str = "SELECT e.position, e.room_nid, e.event_id, e.snapshot, e.replaces, e.redacted_by, \
     e.device_nid, e.transaction_id, e.json, COALESCE(r.json, o.json), COALESCE(r.event_id, o.event_id), \
     e.current_snapshot, e.after_gap, \
     CASE WHEN e.type_nid = (SELECT y.nid FROM event_types y WHERE y.name = 'm.room.redaction') \
     THEN (SELECT v.version FROM rooms v WHERE v.nid = e.room_nid) END \
     FROM events e LEFT JOIN events r ON r.position = e.replaces \
     LEFT JOIN outliers o ON o.position = e.replaces ";

impl TryFrom<Columns> for EventRow {
    type Error = StorageError;

    fn try_from(columns: Columns) -> Result<Self> {
        Ok(Self {
            position: columns.0,
            room_nid: columns.1,
            event_id: read_event_id(&columns.2)?,
            snapshot: columns.3,
            replaces: columns.4,
            redacted_by: columns.5,
            device_nid: columns.6,
            transaction_id: columns.7,
            json: columns.8,
            replaced_json: columns.9,
            replaced_id: columns.10.as_deref().map(read_event_id).transpose()?,
            current_snapshot: columns.11,
            after_gap: columns.12,
            room_version: columns.13,
        })
    }
}

/// Events from their columns.
pub(crate) fn rows(columns: Vec<Columns>) -> Result<Vec<EventRow>> {
    columns.into_iter().map(TryInto::try_into).collect()
}

/// Reads an event id from its bytes.
pub(crate) fn read_event_id(bytes: &[u8]) -> Result<OwnedEventId> {
    EventKey::event_id_from_bytes(bytes)
        .ok_or_else(|| StorageError::Corrupt("an event id is unreadable".to_owned()))
}

/// An event that was sent with a transaction id.
#[derive(Clone, Debug)]
pub struct TransactionRow {
    /// Its room.
    pub room_nid: i64,
    /// Its type.
    pub event_type: String,
    /// The transaction id.
    pub transaction_id: String,
    /// Its id.
    pub event_id: OwnedEventId,
}

/// A part of a room's timeline.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The room.
    pub room_nid: i64,
    /// Events after this position.
    pub after: i64,
    /// Events up to and with this position.
    pub to: i64,
}

impl Database {
    /// Events at these positions, in no order, also those that stand in no timeline. Those that don't exist are left
    /// out.
    pub async fn events_at(&self, positions: Vec<i64>) -> Result<Vec<EventRow>> {
        let columns: Vec<Columns> =
            statement(format!("{SELECT} WHERE e.position IN ({{ints $1}})"))
                .bind(positions.clone())
                .all(self)
                .await?;
        let mut found = rows(columns)?;
        if found.len() < positions.len() {
            let known: HashSet<i64> = found.iter().map(|row| row.position).collect();
            let rest = positions.into_iter();
            let rest = rest.filter(|position| !known.contains(position)).collect();
            found.extend(self.outliers_at(rest).await?);
        }
        Ok(found)
    }

    /// An event by its id.
    pub async fn event(&self, event_id: &EventId) -> Result<Option<EventRow>> {
        let columns: Option<Columns> = statement(format!("{SELECT} WHERE e.event_id = $1"))
            .bind(EventKey::new(event_id).into_bytes())
            .optional(self)
            .await?;
        columns.map(TryInto::try_into).transpose()
    }

    /// Where an event stands: its room and its position.
    pub async fn event_place(&self, event_id: &EventId) -> Result<Option<(i64, i64)>> {
        statement("SELECT room_nid, position FROM events WHERE event_id = $1")
            .bind(EventKey::new(event_id).into_bytes())
            .optional(self)
            .await
    }

    /// Where some events stand, of those that are in a timeline.
    pub async fn event_places<'a>(
        &self,
        ids: impl IntoIterator<Item = &'a EventId>,
    ) -> Result<HashMap<OwnedEventId, (i64, i64)>> {
        let keys: Vec<Vec<u8>> = ids
            .into_iter()
            .map(|id| EventKey::new(id).into_bytes())
            .collect();
        let rows: Vec<(Vec<u8>, i64, i64)> = statement(
            "SELECT event_id, room_nid, position FROM events WHERE event_id IN ({bytes $1})",
        )
        .bind(keys)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(event_id, room_nid, position)| {
                Ok((read_event_id(&event_id)?, (room_nid, position)))
            })
            .collect()
    }

    /// The oldest events of a span, oldest first, at most `limit`.
    pub async fn oldest_events(&self, span: Span, limit: i64) -> Result<Vec<EventRow>> {
        let columns: Vec<Columns> = statement(format!(
            "{SELECT} WHERE e.room_nid = $1 AND e.position > $2 AND e.position <= $3 ORDER BY e.position LIMIT $4"
        ))
        .bind(span.room_nid)
        .bind(span.after)
        .bind(span.to)
        .bind(limit)
        .all(self)
        .await?;
        rows(columns)
    }

    /// Whether an event of a stretch brought forks of its room together, so that any place of the state may have changed
    /// with it.
    pub async fn has_settled(&self, span: Span) -> Result<bool> {
        let row: Option<(i64,)> = statement(
            "SELECT position FROM events WHERE room_nid = $1 AND position > $2 AND position <= $3 \
             AND current_snapshot IS NOT NULL LIMIT 1",
        )
        .bind(span.room_nid)
        .bind(span.after)
        .bind(span.to)
        .optional(self)
        .await?;
        Ok(row.is_some())
    }

    /// The newest events of a span, newest first, at most `limit`.
    pub async fn newest_events(&self, span: Span, limit: i64) -> Result<Vec<EventRow>> {
        let columns: Vec<Columns> = statement(format!(
            "{SELECT} WHERE e.room_nid = $1 AND e.position > $2 AND e.position <= $3 \
             ORDER BY e.position DESC LIMIT $4"
        ))
        .bind(span.room_nid)
        .bind(span.after)
        .bind(span.to)
        .bind(limit)
        .all(self)
        .await?;
        rows(columns)
    }

    /// The newest events of a room behind which something is missing, newest first, at most `limit`.
    pub async fn events_after_gaps(&self, room_nid: i64, limit: i64) -> Result<Vec<EventRow>> {
        let columns: Vec<Columns> = statement(format!(
            "{SELECT} WHERE e.room_nid = $1 AND e.after_gap ORDER BY e.position DESC LIMIT $2"
        ))
        .bind(room_nid)
        .bind(limit)
        .all(self)
        .await?;
        rows(columns)
    }

    /// The newest events of several rooms in a stretch of the stream, newest first, at most `limit`.
    pub async fn newest_events_of_rooms(
        &self,
        room_nids: Vec<i64>,
        after: i64,
        to: i64,
        limit: i64,
    ) -> Result<Vec<EventRow>> {
        let columns: Vec<Columns> = statement(format!(
            "{SELECT} WHERE e.room_nid IN ({{ints $1}}) AND e.position > $2 AND e.position <= $3 \
             ORDER BY e.position DESC LIMIT $4"
        ))
        .bind(room_nids)
        .bind(after)
        .bind(to)
        .bind(limit)
        .all(self)
        .await?;
        rows(columns)
    }

    /// The events of all rooms in a stretch of the stream, in order, at most `limit`. For following what another node
    /// wrote.
    pub async fn events_between(&self, after: i64, to: i64, limit: i64) -> Result<Vec<EventRow>> {
        let columns: Vec<Columns> = statement(format!(
            "{SELECT} WHERE e.position > $1 AND e.position <= $2 ORDER BY e.position LIMIT $3"
        ))
        .bind(after)
        .bind(to)
        .bind(limit)
        .all(self)
        .await?;
        rows(columns)
    }

    /// The numbers of what was redacted by events of the past in a stretch of the stream.
    pub async fn redacted_by_past_between(&self, after: i64, to: i64) -> Result<Vec<i64>> {
        let rows: Vec<(i64,)> =
            statement("SELECT target FROM redacted_by_past WHERE position > $1 AND position <= $2")
                .bind(after)
                .bind(to)
                .all(self)
                .await?;
        Ok(rows.into_iter().map(|(target,)| target).collect())
    }

    /// Every event that ever stood in a place of a room's state, oldest first: its position and its PDU.
    pub async fn slot_history(
        &self,
        room_nid: i64,
        event_type: &str,
        state_key: &str,
    ) -> Result<Vec<(i64, String)>> {
        let Some(slot_nid) = self.slot_nid(event_type, state_key).await? else {
            return Ok(Vec::new());
        };
        statement("SELECT position, json FROM events WHERE room_nid = $1 AND slot_nid = $2 ORDER BY position")
            .bind(room_nid)
            .bind(slot_nid)
            .all(self)
            .await
    }

    /// Every event that ever decided on the history visibility of a room, oldest first, also those that came with a
    /// state: position and PDU.
    pub async fn visibility_history(&self, room_nid: i64) -> Result<Vec<(i64, String)>> {
        let slot = self.slot_nid("m.room.history_visibility", "").await?;
        let Some(slot_nid) = slot else {
            return Ok(Vec::new());
        };
        statement(
            "SELECT position, json FROM events WHERE room_nid = $1 AND slot_nid = $2 \
             UNION ALL SELECT position, json FROM outliers WHERE room_nid = $1 AND slot_nid = $2 \
             AND standing = 'known' ORDER BY position",
        )
        .bind(room_nid)
        .bind(slot_nid)
        .all(self)
        .await
    }

    /// The same for a place in several rooms: also the room's number.
    pub async fn slot_histories(
        &self,
        room_nids: Vec<i64>,
        event_type: &str,
        state_key: &str,
    ) -> Result<Vec<(i64, i64, String)>> {
        let Some(slot_nid) = self.slot_nid(event_type, state_key).await? else {
            return Ok(Vec::new());
        };
        statement(
            "SELECT room_nid, position, json FROM events WHERE room_nid IN ({ints $1}) AND slot_nid = $2 \
             ORDER BY position",
        )
        .bind(room_nids)
        .bind(slot_nid)
        .all(self)
        .await
    }

    /// The event that a device sent with a transaction id, of a type, into a room.
    pub async fn event_of_transaction(
        &self,
        device_nid: i64,
        transaction_id: &str,
        room_nid: i64,
        event_type: &str,
    ) -> Result<Option<OwnedEventId>> {
        let row: Option<(Vec<u8>,)> = statement(
            "SELECT e.event_id FROM events e JOIN event_types t ON t.nid = e.type_nid \
             WHERE e.device_nid = $1 AND e.transaction_id = $2 AND e.room_nid = $3 AND t.name = $4",
        )
        .bind(device_nid)
        .bind(transaction_id)
        .bind(room_nid)
        .bind(event_type)
        .optional(self)
        .await?;
        row.map(|(bytes,)| read_event_id(&bytes)).transpose()
    }

    /// The transactions that a device made last, at most `limit`, in no order.
    pub async fn newest_transactions(
        &self,
        device_nid: i64,
        limit: i64,
    ) -> Result<Vec<TransactionRow>> {
        let rows: Vec<(i64, String, String, Vec<u8>)> = statement(
            "SELECT e.room_nid, t.name, e.transaction_id, e.event_id FROM events e \
             JOIN event_types t ON t.nid = e.type_nid WHERE e.position IN ( \
               SELECT position FROM events WHERE device_nid = $1 AND transaction_id IS NOT NULL \
               ORDER BY position DESC LIMIT $2)",
        )
        .bind(device_nid)
        .bind(limit)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(room_nid, event_type, transaction_id, event_id)| {
                Ok(TransactionRow {
                    room_nid,
                    event_type,
                    transaction_id,
                    event_id: read_event_id(&event_id)?,
                })
            })
            .collect()
    }

    /// The events of a room from a time on, the earliest first, or up to a time, the latest first; at most `limit`, after
    /// the first `skip`. Of those that the indexer has come to.
    pub async fn events_near(
        &self,
        room_nid: i64,
        timestamp: i64,
        forward: bool,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<EventRow>> {
        let (comparison, order) = if forward {
            (">=", "ASC")
        } else {
            ("<=", "DESC")
        };
        let columns: Vec<Columns> = statement(format!(
            "{SELECT} JOIN event_times t ON t.position = e.position \
             WHERE t.room_nid = $1 AND t.origin_server_ts {comparison} $2 \
             ORDER BY t.origin_server_ts {order}, t.position {order} LIMIT $3 OFFSET $4"
        ))
        .bind(room_nid)
        .bind(timestamp)
        .bind(limit)
        .bind(skip)
        .all(self)
        .await?;
        rows(columns)
    }
}
