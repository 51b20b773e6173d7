//! What rooms look like from outside: to those who search the directory, explore a space or follow a link.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId};

use crate::{
    Database, Result, Transaction,
    commit::NewEvent,
    insert::{Column, insert},
    rooms::read,
    statement::statement,
};

/// The types of state events, with an empty state key, that are shown.
pub const SHOWN: [&str; 9] = [
    "m.room.avatar",
    "m.room.canonical_alias",
    "m.room.create",
    "m.room.encryption",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
    "m.room.name",
    "m.room.topic",
];

/// Whether an event in this place of the state is shown.
pub fn is_shown(event_type: &str, state_key: Option<&str>) -> bool {
    state_key == Some("") && SHOWN.contains(&event_type)
}

/// New rows, gathered for one statement.
#[derive(Debug, Default)]
pub(crate) struct ShownRows(BTreeMap<(i64, String), Option<i64>>);

impl ShownRows {
    pub(crate) fn add(&mut self, room_nid: i64, event: &NewEvent) {
        if is_shown(&event.event_type, event.state_key.as_deref()) {
            let key = (room_nid, event.event_type.clone());
            self.0.insert(key, Some(event.position.get()));
        }
    }

    /// Sets what is shown; `None` if that is nothing any more.
    pub(crate) fn set(&mut self, room_nid: i64, event_type: &str, event: Option<i64>) {
        self.0.insert((room_nid, event_type.to_owned()), event);
    }

    pub(crate) async fn store(self, transaction: &mut Transaction) -> Result<()> {
        let (mut rooms, mut types, mut positions) = (Vec::new(), Vec::new(), Vec::new());
        for ((room_nid, event_type), position) in self.0 {
            let Some(position) = position else {
                statement("DELETE FROM shown_state WHERE room_nid = $1 AND event_type = $2")
                    .bind(room_nid)
                    .bind(event_type)
                    .run(transaction)
                    .await?;
                continue;
            };
            rooms.push(room_nid);
            types.push(event_type);
            positions.push(position);
        }
        insert(
            transaction,
            "shown_state (room_nid, event_type, event_position)",
            vec![
                Column::Int(rooms),
                Column::Text(types),
                Column::Int(positions),
            ],
            "ON CONFLICT (room_nid, event_type) DO UPDATE SET event_position = excluded.event_position",
        )
        .await
    }
}

/// A room, and how many users are joined to it.
#[derive(Clone, Debug)]
pub struct RoomSize {
    /// Its number.
    pub nid: i64,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// How many users are joined.
    pub joined: i64,
    /// Whether one of them has an account here.
    pub is_here: bool,
}

/// A state event that is shown.
#[derive(Clone, Debug)]
pub struct ShownRow {
    /// The room.
    pub room_nid: i64,
    /// The room's id.
    pub room_id: OwnedRoomId,
    /// The type.
    pub event_type: String,
    /// The PDU.
    pub json: String,
}

impl Database {
    /// The rooms of the public directory that anyone is joined to: number and how many are joined, those with most
    /// first.
    pub async fn published_rooms(&self) -> Result<Vec<(i64, i64)>> {
        statement(
            "SELECT r.nid, h.joined FROM rooms r JOIN room_heads h ON h.room_nid = r.nid \
             WHERE r.published AND h.joined > 0 ORDER BY h.joined DESC, r.nid",
        )
        .all(self)
        .await
    }

    /// Rooms by their ids, in no order. Those that this server doesn't have are left out.
    pub async fn room_sizes(&self, rooms: &[impl AsRef<RoomId>]) -> Result<Vec<RoomSize>> {
        let ids: Vec<String> = rooms.iter().map(|id| id.as_ref().to_string()).collect();
        let rows: Vec<(i64, String, i64, bool)> = statement(
            "SELECT r.nid, r.room_id, h.joined, EXISTS (SELECT 1 FROM memberships m \
             JOIN accounts a ON a.user_nid = m.user_nid WHERE m.room_nid = r.nid AND m.membership = 'join') \
             FROM rooms r JOIN room_heads h ON h.room_nid = r.nid WHERE r.room_id IN ({texts $1})",
        )
        .bind(ids)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(nid, room_id, joined, is_here)| {
                Ok(RoomSize {
                    nid,
                    room_id: read(room_id)?,
                    joined,
                    is_here,
                })
            })
            .collect()
    }

    /// What is shown of rooms, in no order.
    pub async fn shown_state(&self, rooms: Vec<i64>) -> Result<Vec<ShownRow>> {
        let rows: Vec<(i64, String, String, String)> = statement(
            "SELECT s.room_nid, r.room_id, s.event_type, COALESCE(e.json, o.json, '') FROM shown_state s \
             JOIN rooms r ON r.nid = s.room_nid LEFT JOIN events e ON e.position = s.event_position \
             LEFT JOIN outliers o ON o.position = s.event_position \
             WHERE s.room_nid IN ({ints $1})",
        )
        .bind(rooms)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(room_nid, room_id, event_type, json)| {
                Ok(ShownRow {
                    room_nid,
                    room_id: read(room_id)?,
                    event_type,
                    json,
                })
            })
            .collect()
    }
}
