//! Reading rooms: their heads, who is in them, aliases.

use ruma::{OwnedRoomId, OwnedUserId, RoomAliasId, RoomId, UserId};

use crate::{Database, Result, StorageError, statement::statement};

/// A room and its newest point.
#[derive(Clone, Debug)]
pub struct RoomRow {
    /// Its number.
    pub nid: i64,
    /// Its id.
    pub room_id: OwnedRoomId,
    /// The name of its version.
    pub version: String,
    /// How many commits it has seen.
    pub revision: i64,
    /// The position of its newest event.
    pub last_position: i64,
    /// Positions of its forward extremities.
    pub extremities: Vec<i64>,
    /// Whether this server came into it without its members; `None` if it was told all of them.
    pub partial: Option<Partial>,
}

/// How far a room is complete that this server came into without its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partial {
    /// Members are missing.
    Lacking {
        /// JSON array: the servers that were in the room at the join.
        servers: String,
    },
    /// Nothing is missing any more.
    Since {
        /// The position of the stream since which.
        position: i64,
        /// JSON array: the servers that are there, if it isn't this one.
        servers: String,
    },
}

type RoomColumns = (
    i64,
    String,
    String,
    i64,
    i64,
    String,
    Option<String>,
    Option<i64>,
);

/// A user's membership in a room.
#[derive(Clone, Debug)]
pub struct MembershipRow {
    /// The room.
    pub room_nid: i64,
    /// The room's id.
    pub room_id: OwnedRoomId,
    /// 'join', 'invite', ...
    pub membership: String,
    /// The member event.
    pub event_position: i64,
    /// Whether the user wants to hear no more of it.
    pub forgotten: bool,
    /// The newest event of the room.
    pub last_position: i64,
}

pub(crate) fn read<T>(text: String) -> Result<T>
where
    T: TryFrom<String>,
    T::Error: std::fmt::Display,
{
    T::try_from(text).map_err(|error| StorageError::Corrupt(error.to_string()))
}

impl Database {
    /// A room by its id.
    pub async fn room(&self, room_id: &RoomId) -> Result<Option<RoomRow>> {
        self.room_where("r.room_id = $1", room_id.as_str()).await
    }

    /// A room by its number.
    pub async fn room_by_nid(&self, nid: i64) -> Result<Option<RoomRow>> {
        self.room_where("r.nid = $1", nid).await
    }

    async fn room_where(
        &self,
        condition: &str,
        value: impl Into<crate::statement::Value>,
    ) -> Result<Option<RoomRow>> {
        let row: Option<RoomColumns> = statement(format!(
            "SELECT r.nid, r.room_id, r.version, h.revision, h.last_position, h.extremities, p.servers, \
             p.completed_position FROM rooms r JOIN room_heads h ON h.room_nid = r.nid \
             LEFT JOIN partial_rooms p ON p.room_nid = r.nid WHERE {condition}"
        ))
        .bind(value)
        .optional(self)
        .await?;
        row.map(
            |(nid, room_id, version, revision, last_position, extremities, servers, completed)| {
                Ok(RoomRow {
                    nid,
                    room_id: read(room_id)?,
                    version,
                    revision,
                    last_position,
                    extremities: serde_json::from_str(&extremities)
                        .map_err(|error| StorageError::Corrupt(error.to_string()))?,
                    partial: match completed {
                        Some(position) => Some(Partial::Since {
                            position,
                            servers: servers.unwrap_or_default(),
                        }),
                        None => servers.map(|servers| Partial::Lacking { servers }),
                    },
                })
            },
        )
        .transpose()
    }

    /// How many commits a room has seen; `None` if there is no such room.
    pub async fn room_revision(&self, nid: i64) -> Result<Option<i64>> {
        let row: Option<(i64,)> = statement("SELECT revision FROM room_heads WHERE room_nid = $1")
            .bind(nid)
            .optional(self)
            .await?;
        Ok(row.map(|(revision,)| revision))
    }

    /// Says of which version a room is that this server is not in.
    pub async fn set_room_version(&self, nid: i64, version: &str) -> Result<()> {
        let mut transaction = self.write().await?;
        statement(
            "UPDATE rooms SET version = $2 WHERE nid = $1 AND EXISTS \
             (SELECT 1 FROM room_heads WHERE room_nid = $1 AND extremities = '[]')",
        )
        .bind(nid)
        .bind(version)
        .run(&mut transaction)
        .await?;
        transaction.commit().await
    }

    /// All memberships of a user, whatever they are.
    pub async fn memberships_of(&self, user_nid: i64) -> Result<Vec<MembershipRow>> {
        let rows: Vec<(i64, String, String, i64, bool, i64)> = statement(
            "SELECT m.room_nid, r.room_id, m.membership, m.event_position, m.forgotten, h.last_position \
             FROM memberships m JOIN rooms r ON r.nid = m.room_nid JOIN room_heads h ON h.room_nid = m.room_nid \
             WHERE m.user_nid = $1",
        )
        .bind(user_nid)
        .all(self)
        .await?;
        rows.into_iter()
            .map(
                |(room_nid, room_id, membership, event_position, forgotten, last_position)| {
                    Ok(MembershipRow {
                        room_nid,
                        room_id: read(room_id)?,
                        membership,
                        event_position,
                        forgotten,
                        last_position,
                    })
                },
            )
            .collect()
    }

    /// The rooms that two users are both joined to, whose IDs come after `after`, in order, at most `limit`.
    pub async fn mutual_rooms(
        &self,
        one: i64,
        other: i64,
        after: &str,
        limit: i64,
    ) -> Result<Vec<OwnedRoomId>> {
        let rows: Vec<(String,)> = statement(
            "SELECT r.room_id FROM memberships a \
             JOIN memberships b ON b.user_nid = $2 AND b.room_nid = a.room_nid AND b.membership = 'join' \
             JOIN rooms r ON r.nid = a.room_nid \
             WHERE a.user_nid = $1 AND a.membership = 'join' AND r.room_id > $3 \
             ORDER BY r.room_id LIMIT $4",
        )
        .bind(one)
        .bind(other)
        .bind(after)
        .bind(limit)
        .all(self)
        .await?;
        rows.into_iter().map(|(room_id,)| read(room_id)).collect()
    }

    /// How many rooms two users are both joined to.
    pub async fn mutual_room_count(&self, one: i64, other: i64) -> Result<u64> {
        let (count,): (i64,) = statement(
            "SELECT COUNT(*) FROM memberships a \
             JOIN memberships b ON b.user_nid = $2 AND b.room_nid = a.room_nid AND b.membership = 'join' \
             WHERE a.user_nid = $1 AND a.membership = 'join'",
        )
        .bind(one)
        .bind(other)
        .one(self)
        .await?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Everyone who has a membership in a room: who, what, and the position of the event.
    pub async fn members_of(&self, room_nid: i64) -> Result<Vec<(OwnedUserId, String, i64)>> {
        let rows: Vec<(String, String, i64)> = statement(
            "SELECT u.user_id, m.membership, m.event_position FROM memberships m \
             JOIN users u ON u.nid = m.user_nid WHERE m.room_nid = $1",
        )
        .bind(room_nid)
        .all(self)
        .await?;
        rows.into_iter()
            .map(|(user_id, membership, position)| Ok((read(user_id)?, membership, position)))
            .collect()
    }

    /// What a user is noted to be in a room, and since which position of the stream; `None` if they never had to do with it.
    pub async fn membership(
        &self,
        user_id: &UserId,
        room_nid: i64,
    ) -> Result<Option<(String, i64)>> {
        statement(
            "SELECT m.membership, m.event_position FROM memberships m JOIN users u ON u.nid = m.user_nid \
             WHERE u.user_id = $1 AND m.room_nid = $2",
        )
        .bind(user_id.as_str())
        .bind(room_nid)
        .optional(self)
        .await
    }

    /// Whether a user forgot a room; `None` if they never had to do with it.
    pub async fn is_forgotten(&self, user_nid: i64, room_nid: i64) -> Result<Option<bool>> {
        let row: Option<(bool,)> =
            statement("SELECT forgotten FROM memberships WHERE user_nid = $1 AND room_nid = $2")
                .bind(user_nid)
                .bind(room_nid)
                .optional(self)
                .await?;
        Ok(row.map(|(forgotten,)| forgotten))
    }

    /// Takes a room that the user is not in from what they see. Whether there was one.
    pub async fn forget_room(&self, user_nid: i64, room_nid: i64) -> Result<bool> {
        let mut transaction = self.write().await?;
        let changed = statement(
            "UPDATE memberships SET forgotten = TRUE \
             WHERE user_nid = $1 AND room_nid = $2 AND membership IN ('leave', 'ban')",
        )
        .bind(user_nid)
        .bind(room_nid)
        .run(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(changed > 0)
    }

    /// The room that an alias stands for, and who made the alias.
    pub async fn alias(&self, alias: &RoomAliasId) -> Result<Option<(OwnedRoomId, OwnedUserId)>> {
        let row: Option<(String, String)> = statement(
            "SELECT r.room_id, u.user_id FROM room_aliases a JOIN rooms r ON r.nid = a.room_nid \
             JOIN users u ON u.nid = a.creator_nid WHERE a.alias = $1",
        )
        .bind(alias.as_str())
        .optional(self)
        .await?;
        row.map(|(room_id, user_id)| Ok((read(room_id)?, read(user_id)?)))
            .transpose()
    }

    /// The aliases of a room on this server, in their order.
    pub async fn aliases_of(&self, room_nid: i64) -> Result<Vec<String>> {
        let rows: Vec<(String,)> =
            statement("SELECT alias FROM room_aliases WHERE room_nid = $1 ORDER BY alias")
                .bind(room_nid)
                .all(self)
                .await?;
        Ok(rows.into_iter().map(|(alias,)| alias).collect())
    }

    /// Adds an alias. `false` if it is taken.
    pub async fn add_alias(
        &self,
        alias: &RoomAliasId,
        room_nid: i64,
        creator_nid: i64,
        created_at: i64,
    ) -> Result<bool> {
        let mut transaction = self.write().await?;
        let added = statement(
            "INSERT INTO room_aliases (alias, room_nid, creator_nid, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT DO NOTHING",
        )
        .bind(alias.as_str())
        .bind(room_nid)
        .bind(creator_nid)
        .bind(created_at)
        .run(&mut transaction)
        .await?;
        transaction.commit().await?;
        Ok(added > 0)
    }

    /// Removes an alias. `false` if there was none.
    pub async fn remove_alias(&self, alias: &RoomAliasId) -> Result<bool> {
        let mut transaction = self.write().await?;
        let removed = statement("DELETE FROM room_aliases WHERE alias = $1")
            .bind(alias.as_str())
            .run(&mut transaction)
            .await?;
        transaction.commit().await?;
        Ok(removed > 0)
    }

    /// The direct chat of two users, given in either order.
    pub async fn direct_chat(&self, one: i64, other: i64) -> Result<Option<OwnedRoomId>> {
        let row: Option<(String,)> = statement(
            "SELECT r.room_id FROM direct_chats d JOIN rooms r ON r.nid = d.room_nid \
             WHERE d.low_nid = $1 AND d.high_nid = $2",
        )
        .bind(one.min(other))
        .bind(one.max(other))
        .optional(self)
        .await?;
        row.map(|(room_id,)| read(room_id)).transpose()
    }

    /// The two users whose direct chat a room is.
    pub async fn direct_chat_users(&self, room_nid: i64) -> Result<Option<(i64, i64)>> {
        statement("SELECT low_nid, high_nid FROM direct_chats WHERE room_nid = $1")
            .bind(room_nid)
            .optional(self)
            .await
    }

    /// The room in which the server writes to a user.
    pub async fn notice_room(&self, user_nid: i64) -> Result<Option<OwnedRoomId>> {
        let row: Option<(String,)> = statement(
            "SELECT r.room_id FROM notice_rooms n JOIN rooms r ON r.nid = n.room_nid \
             WHERE n.user_nid = $1",
        )
        .bind(user_nid)
        .optional(self)
        .await?;
        row.map(|(room_id,)| read(room_id)).transpose()
    }

    /// Whether a room is the one in which the server writes to a user.
    pub async fn is_notice_room(&self, room_nid: i64, user_nid: i64) -> Result<bool> {
        let row: Option<(i64,)> =
            statement("SELECT user_nid FROM notice_rooms WHERE room_nid = $1 AND user_nid = $2")
                .bind(room_nid)
                .bind(user_nid)
                .optional(self)
                .await?;
        Ok(row.is_some())
    }

    /// How many aliases a user has made that are there still.
    pub async fn alias_count(&self, creator_nid: i64) -> Result<i64> {
        let (count,): (i64,) =
            statement("SELECT COUNT(*) FROM room_aliases WHERE creator_nid = $1")
                .bind(creator_nid)
                .one(self)
                .await?;
        Ok(count)
    }

    /// How many aliases a room has.
    pub async fn alias_count_of(&self, room_nid: i64) -> Result<i64> {
        let (count,): (i64,) = statement("SELECT COUNT(*) FROM room_aliases WHERE room_nid = $1")
            .bind(room_nid)
            .one(self)
            .await?;
        Ok(count)
    }

    /// How many rooms a user is joined to.
    pub async fn joined_count(&self, user_nid: i64) -> Result<i64> {
        let (count,): (i64,) = statement(
            "SELECT COUNT(*) FROM memberships WHERE user_nid = $1 AND membership = 'join'",
        )
        .bind(user_nid)
        .one(self)
        .await?;
        Ok(count)
    }

    /// Whether a room stands in the public directory.
    pub async fn is_published(&self, room_nid: i64) -> Result<bool> {
        let row: Option<(bool,)> = statement("SELECT published FROM rooms WHERE nid = $1")
            .bind(room_nid)
            .optional(self)
            .await?;
        Ok(row.is_some_and(|(published,)| published))
    }

    /// Puts a room into the public directory, or takes it out.
    pub async fn set_published(&self, room_nid: i64, published: bool) -> Result<()> {
        let mut transaction = self.write().await?;
        statement("UPDATE rooms SET published = $2 WHERE nid = $1")
            .bind(room_nid)
            .bind(published)
            .run(&mut transaction)
            .await?;
        transaction.commit().await
    }
}
