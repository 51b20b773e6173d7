//! Which writes of a group can be made: those of which nobody has changed meanwhile what they were built on.

use std::collections::HashMap;

use super::{Commit, Write};
use crate::{Engine, Result, statement::statement};

/// What became of a [`Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Committed,
    /// What it was built on is no longer the newest: another node has moved a room on, or the user's account data has
    /// changed. Nothing of it was made.
    Outdated,
}

/// What is the newest, as far as writes are built on it.
#[derive(Debug, Default)]
struct Newest {
    /// The revisions of rooms. `None` where nobody else can move them on.
    revisions: Option<HashMap<i64, i64>>,
    /// The position of the newest account data of each user who has some of late.
    account_data: HashMap<i64, i64>,
}

/// A position beyond all that anybody can have read: that of what is committed at this moment.
const NOW: i64 = i64::MAX;

impl Commit {
    /// Which writes are still built on the newest there is.
    pub(super) async fn outcomes(&mut self, writes: &[&Write]) -> Result<Vec<Outcome>> {
        let mut newest = Newest {
            revisions: self.revisions(writes).await?,
            account_data: self.changed_account_data(writes).await?,
        };
        Ok(writes.iter().map(|write| newest.judge(write)).collect())
    }

    /// The revisions of the rooms that are written to.
    async fn revisions(&mut self, writes: &[&Write]) -> Result<Option<HashMap<i64, i64>>> {
        if self.transaction.engine() == Engine::Sqlite {
            // No other process can have the folder open, so nobody else moves a room on.
            return Ok(None);
        }
        let rooms: Vec<i64> = writes
            .iter()
            .flat_map(|write| &write.rooms)
            .filter(|room| room.new_room.is_none())
            .map(|room| room.room_nid.get())
            .collect();
        if rooms.is_empty() {
            return Ok(Some(HashMap::new()));
        }
        let rows: Vec<(i64, i64)> =
            statement("SELECT room_nid, revision FROM room_heads WHERE room_nid IN ({ints $1})")
                .bind(rooms)
                .all_in(&mut self.transaction)
                .await?;
        Ok(Some(rows.into_iter().collect()))
    }

    /// Whose account data has changed since the first of these writes was built on it, and where last. That was a moment
    /// ago, so it's little, whoever's it is.
    async fn changed_account_data(&mut self, writes: &[&Write]) -> Result<HashMap<i64, i64>> {
        let data = writes.iter().flat_map(|write| &write.account_data);
        let Some(since) = data.filter_map(|data| data.built_on).min() else {
            return Ok(HashMap::new());
        };
        let rows: Vec<(i64, i64)> = statement(
            "SELECT user_nid, MAX(position) FROM account_data WHERE position > $1 GROUP BY user_nid",
        )
        .bind(since)
        .all_in(&mut self.transaction)
        .await?;
        Ok(rows.into_iter().collect())
    }
}

impl Newest {
    /// Judges a write, and moves on what it changes if it can be made.
    fn judge(&mut self, write: &Write) -> Outcome {
        if !self.is_current(write) {
            return Outcome::Outdated;
        }
        if let Some(revisions) = &mut self.revisions {
            for room in &write.rooms {
                if room.new_room.is_none() && room.moves_on() {
                    revisions.insert(room.room_nid.get(), room.base_revision + 1);
                }
            }
        }
        for data in &write.account_data {
            self.account_data.insert(data.user_nid, NOW);
        }
        Outcome::Committed
    }

    fn is_current(&self, write: &Write) -> bool {
        let rooms = self.revisions.as_ref().is_none_or(|revisions| {
            write.rooms.iter().all(|room| {
                room.new_room.is_some()
                    || revisions.get(&room.room_nid.get()) == Some(&room.base_revision)
            })
        });
        rooms
            && write.account_data.iter().all(|data| {
                let newest = self.account_data.get(&data.user_nid);
                let changed = newest.zip(data.built_on);
                changed.is_none_or(|(newest, built_on)| *newest <= built_on)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commit::{AccountDataWrite, Assigned};

    fn data(user_nid: i64, built_on: Option<i64>) -> Write {
        Write {
            account_data: vec![AccountDataWrite {
                user_nid,
                room_nid: 0,
                event_type: "m.tag".to_owned(),
                content: "{}".to_owned(),
                built_on,
                position: Assigned::default(),
            }],
            ..Write::default()
        }
    }

    fn newest(account_data: impl IntoIterator<Item = (i64, i64)>) -> Newest {
        Newest {
            account_data: account_data.into_iter().collect(),
            ..Newest::default()
        }
    }

    #[test]
    fn account_data_is_written_on_what_was_read_of_it() {
        let changed = || newest([(1, 10)]);
        for (user_nid, built_on, outcome) in [
            (1, Some(9), Outcome::Outdated),
            (1, Some(10), Outcome::Committed),
            (1, None, Outcome::Committed),
            (2, Some(9), Outcome::Committed),
        ] {
            let write = data(user_nid, built_on);
            assert_eq!(changed().judge(&write), outcome, "{user_nid} {built_on:?}");
        }
    }

    #[test]
    fn of_two_that_are_built_on_the_same_the_first_is_made() {
        let mut newest = newest([]);
        let outcomes = [
            newest.judge(&data(1, Some(10))),
            newest.judge(&data(1, Some(10))),
            newest.judge(&data(2, Some(10))),
            newest.judge(&data(1, None)),
        ];
        let made = Outcome::Committed;
        assert_eq!(outcomes, [made, Outcome::Outdated, made, made]);
    }
}
