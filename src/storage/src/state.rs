//! The state of rooms, at any point of their history.
//!
//! A snapshot is kept as what it changes over its parent. The snapshot of height *h* (the *h*-th change of the room's
//! state) has as parent the snapshot *h - 1*, except that where *h* is a multiple of 16^k it is *h - 16^k*, and holds
//! the changes since then. So a change costs about one row for each power of 16 that the number of changes has
//! reached, and any state of the past is read through at most 15 parents for each.

use std::{cmp::Reverse, collections::HashMap};

use ruma::ServerName;

use crate::{Database, Result, Transaction, statement::statement};

/// The base of the tree: how many changes stand side by side before they are put together.
const FAN: i64 = 16;

/// The height of the parent of the snapshot of `height`, which is 1 or more.
pub fn parent_height(height: i64) -> i64 {
    let mut step = 1;
    while height % (step * FAN) == 0 {
        step *= FAN;
    }
    height - step
}

/// A place of a room's state, and the event that stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// The type.
    pub event_type: String,
    /// The state key.
    pub state_key: String,
    /// The position of the event.
    pub position: i64,
}

/// A snapshot and those it is built on: position and height of each, the newest first.
const CHAIN: &str = "WITH RECURSIVE chain (position, parent, height) AS ( \
       SELECT position, parent, height FROM state_snapshots WHERE position = $1 \
       UNION ALL \
       SELECT s.position, s.parent, s.height FROM state_snapshots s JOIN chain c ON s.position = c.parent) ";

/// Which of the places to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// All.
    All,
    /// All but the memberships, of which a large room has many.
    WithoutMembers,
    /// The memberships alone.
    Members,
}

impl Database {
    /// The snapshots that one is read through: position and height, the newest first.
    pub async fn snapshot_chain(&self, snapshot: i64) -> Result<Vec<(i64, i64)>> {
        statement(format!(
            "{CHAIN} SELECT position, height FROM chain ORDER BY height DESC"
        ))
        .bind(snapshot)
        .all(self)
        .await
    }

    /// The state of a snapshot.
    pub async fn state(&self, snapshot: i64, places: Places) -> Result<Vec<StateRow>> {
        let condition = match places {
            Places::All => "",
            Places::WithoutMembers => "AND l.event_type <> 'm.room.member'",
            Places::Members => "AND l.event_type = 'm.room.member'",
        };
        self.newest_of_chain(
            snapshot,
            i64::MIN,
            &format!("d.event_position <> 0 {condition}"),
        )
        .await
    }

    /// What a snapshot changes over one that it is read through: the places that differ, with a position of 0 where nothing
    /// stands any more.
    pub async fn state_over(&self, snapshot: i64, base: i64) -> Result<Vec<StateRow>> {
        self.newest_of_chain(snapshot, base, "TRUE").await
    }

    /// What the snapshots that one is read through say of places, those after `base`. The newest decides on a place; their
    /// numbers grow with their heights.
    async fn newest_of_chain(
        &self,
        snapshot: i64,
        base: i64,
        condition: &str,
    ) -> Result<Vec<StateRow>> {
        let rows: Vec<(String, String, i64)> = statement(newest_of_chain(condition))
            .bind(snapshot)
            .bind(base)
            .all(self)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(event_type, state_key, position)| StateRow {
                event_type,
                state_key,
                position,
            })
            .collect())
    }

    /// The event that stands in one place of a snapshot.
    pub async fn state_event(
        &self,
        snapshot: i64,
        event_type: &str,
        state_key: &str,
    ) -> Result<Option<i64>> {
        let Some(slot_nid) = self.slot_nid(event_type, state_key).await? else {
            return Ok(None);
        };
        let row: Option<(i64,)> = statement(format!(
            "{CHAIN} SELECT event_position FROM state_deltas WHERE snapshot IN (SELECT position FROM chain) \
             AND slot_nid = $2 ORDER BY snapshot DESC LIMIT 1"
        ))
        .bind(snapshot)
        .bind(slot_nid)
        .optional(self)
        .await?;
        Ok(row
            .map(|(position,)| position)
            .filter(|position| *position != 0))
    }

    /// The member events of a server's users in a snapshot: their positions, the newest first.
    pub async fn members_of_server(&self, snapshot: i64, server: &ServerName) -> Result<Vec<i64>> {
        let condition =
            "d.event_position <> 0 AND l.event_type = 'm.room.member' AND l.state_key LIKE $3";
        let rows: Vec<(String, String, i64)> = statement(newest_of_chain(condition))
            .bind(snapshot)
            .bind(i64::MIN)
            .bind(format!("%:{server}"))
            .all(self)
            .await?;
        // To the database, some characters of a name stand for others.
        let is_of = |user: &str| user.split_once(':').is_some_and(|(_, name)| name == server);
        let members = rows.into_iter().filter(|(_, user, _)| is_of(user));
        let mut positions: Vec<i64> = members.map(|(_, _, position)| position).collect();
        positions.sort_unstable_by_key(|position| Reverse(*position));
        Ok(positions)
    }

    /// The event that stands in one place, in each of some snapshots: its position by the snapshot. Where none does, the
    /// snapshot is left out.
    pub async fn state_event_in(
        &self,
        snapshots: Vec<i64>,
        event_type: &str,
        state_key: &str,
    ) -> Result<HashMap<i64, i64>> {
        let Some(slot_nid) = self.slot_nid(event_type, state_key).await? else {
            return Ok(HashMap::new());
        };
        let rows: Vec<(i64, i64)> = statement(
            "WITH RECURSIVE chain (asked, position, parent) AS ( \
               SELECT position, position, parent FROM state_snapshots WHERE position IN ({ints $1}) \
               UNION ALL \
               SELECT c.asked, s.position, s.parent FROM state_snapshots s JOIN chain c ON s.position = c.parent) \
             SELECT newest.asked, d.event_position FROM ( \
               SELECT c.asked, MAX(c.position) AS snapshot FROM chain c \
               JOIN state_deltas x ON x.snapshot = c.position AND x.slot_nid = $2 GROUP BY c.asked) newest \
             JOIN state_deltas d ON d.snapshot = newest.snapshot AND d.slot_nid = $2 \
             WHERE d.event_position <> 0",
        )
        .bind(snapshots)
        .bind(slot_nid)
        .all(self)
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// The snapshot of a room's state as it was at a position of the stream: that of its newest event up to there.
    pub async fn snapshot_at(&self, room_nid: i64, position: i64) -> Result<Option<i64>> {
        let row: Option<(i64,)> = statement(
            "SELECT COALESCE(current_snapshot, snapshot) FROM events WHERE room_nid = $1 AND position <= $2 \
             ORDER BY position DESC LIMIT 1",
        )
        .bind(room_nid)
        .bind(position)
        .optional(self)
        .await?;
        Ok(row.map(|(snapshot,)| snapshot))
    }

    /// The place of state that each of these positions stands in, for those that are state events.
    pub async fn places_of(&self, positions: Vec<i64>) -> Result<HashMap<i64, (String, String)>> {
        let rows: Vec<(i64, String, String)> = statement(
            "SELECT e.position, l.event_type, l.state_key FROM events e JOIN state_slots l ON l.nid = e.slot_nid \
             WHERE e.position IN ({ints $1})",
        )
        .bind(positions)
        .all(self)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(position, event_type, state_key)| (position, (event_type, state_key)))
            .collect())
    }
}

/// Asks what the snapshots that the first parameter is read through say of places, those after the second.
fn newest_of_chain(condition: &str) -> String {
    format!(
        "{CHAIN} SELECT l.event_type, l.state_key, d.event_position FROM ( \
           SELECT slot_nid, MAX(snapshot) AS snapshot FROM state_deltas \
           WHERE snapshot IN (SELECT position FROM chain WHERE position > $2) GROUP BY slot_nid) newest \
         JOIN state_deltas d ON d.snapshot = newest.snapshot AND d.slot_nid = newest.slot_nid \
         JOIN state_slots l ON l.nid = d.slot_nid WHERE {condition}"
    )
}

/// Puts the changes of the snapshots `merged` into `snapshot`, where it has none of its own: the newest first.
pub(crate) async fn merge_deltas(
    transaction: &mut Transaction,
    snapshot: i64,
    merged: Vec<i64>,
) -> Result<()> {
    statement(
        "INSERT INTO state_deltas (snapshot, slot_nid, event_position) \
         SELECT $1, d.slot_nid, d.event_position FROM state_deltas d \
         WHERE d.snapshot IN ({ints $2}) AND NOT EXISTS ( \
           SELECT 1 FROM state_deltas n WHERE n.slot_nid = d.slot_nid AND n.snapshot > d.snapshot \
           AND n.snapshot IN ({ints $2})) \
         ON CONFLICT (snapshot, slot_nid) DO NOTHING",
    )
    .bind(snapshot)
    .bind(merged)
    .run(transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::parent_height;

    #[test]
    fn most_snapshots_have_the_one_before_as_parent() {
        assert_eq!(parent_height(1), 0);
        assert_eq!(parent_height(15), 14);
        assert_eq!(parent_height(17), 16);
    }

    #[test]
    fn multiples_of_a_power_reach_back_to_the_one_before() {
        assert_eq!(parent_height(16), 0);
        assert_eq!(parent_height(32), 16);
        assert_eq!(parent_height(256), 0);
        assert_eq!(parent_height(512), 256);
        assert_eq!(parent_height(4096), 0);
    }

    #[test]
    fn no_chain_is_long() {
        for start in [50_000, 65_535, 99_999] {
            let mut height = start;
            let mut length = 0;
            while height > 0 {
                height = parent_height(height);
                length += 1;
            }
            assert!(length <= 15 * 5, "{start} takes {length} parents");
        }
    }
}
