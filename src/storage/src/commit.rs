//! The group commit: everything durable that clients see, in one order.
//!
//! A [`Write`] holds together or not at all. A [`Commit`] takes many, gives each row its position in the stream,
//! and makes all of them durable in one transaction. On PostgreSQL, where another node may write too, the row of the
//! stream counter is locked first; a write to a room that the other node has moved on is not made, and reported as
//! [`Outcome::Outdated`], so that its writer rebuilds it. So is one of account data that was built on what isn't there any more.

mod event;
mod outcome;
mod rewrite;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use parley_protocol::EventKey;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};

pub use self::event::{
    NewEvent, NewOutlier, NewRedaction, NewSnapshot, Settled, SnapshotChanges, Standing,
};
pub use self::outcome::Outcome;
pub use self::rewrite::{Completion, Rejected, Restated, Rewrite};

use crate::{
    Database, Engine, Result, StorageError, Transaction,
    inbox::Received,
    names::{Interned, Wanted, intern},
    rows::Rows,
    statement::statement,
};

/// The channel on which nodes tell each other of new positions.
pub(crate) const CHANNEL: &str = "parley_stream";

/// A number that the commit gives: the position of an event, or the number of a new room. Whoever waits for the commit
/// may read it afterwards.
#[derive(Clone, Debug, Default)]
pub struct Assigned(Arc<AtomicI64>);

impl Assigned {
    /// A number that is known already.
    pub fn known(number: i64) -> Self {
        Self(Arc::new(AtomicI64::new(number)))
    }

    /// The number; 0 as long as nothing is committed.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, number: i64) {
        self.0.store(number, Ordering::Release);
    }
}

/// A room that is to be made.
#[derive(Clone, Debug)]
pub struct NewRoom {
    /// Its id.
    pub room_id: OwnedRoomId,
    /// The name of its version.
    pub version: String,
}

/// What goes along with the events of a room.
#[derive(Clone, Debug)]
pub enum RoomEffect {
    /// An alias for it. Fails the write if it is taken.
    Alias {
        /// The alias.
        alias: String,
        /// Who made it.
        creator: OwnedUserId,
        /// Milliseconds since the epoch.
        created_at: i64,
    },
    /// An alias of it is removed.
    NoAlias {
        /// The alias.
        alias: String,
    },
    /// Into the public directory.
    Publish,
    /// It takes the place of another room: the aliases of that room stand for this one, and it stands in the public
    /// directory, and is a direct chat, where the other did.
    Succeed {
        /// The number of the other room.
        room_nid: i64,
    },
    /// Whether anyone may join or read it, and so find who is in it.
    Open(bool),
    /// It is the direct chat of two users. Fails the write if they have one.
    DirectChat {
        /// One of them.
        one: i64,
        /// The other.
        other: i64,
    },
    /// One of the new events, or one that was there and says the same, is what was to be sent later. Fails the write if that
    /// was sent already or is no longer wanted.
    SendsDelayed {
        /// The number of what was to be sent later.
        nid: i64,
        /// The event.
        event_id: OwnedEventId,
        /// Milliseconds since the epoch.
        sent_at: i64,
    },
    /// It is the room in which the server writes to a user. Fails the write if there is one.
    NoticeRoom {
        /// To whom.
        user_nid: i64,
    },
    /// A user is invited to it, or has knocked on it, while this server is not in it.
    Invite {
        /// Who.
        user_id: OwnedUserId,
        /// What they are: 'invite' or 'knock'.
        membership: String,
        /// The member event, one of the write's outliers.
        event: Assigned,
        /// What the user is shown of the room: JSON array of stripped state.
        room_state: String,
        /// Servers by which the room can be reached: JSON array.
        via: String,
    },
    /// A user is not invited to it any more, which this server is not in.
    NoInvite {
        /// Who.
        user_id: OwnedUserId,
        /// The member event that says so, one of the write's outliers.
        event: Assigned,
    },
    /// One of the new events is of another server's user, and this server has taken it for all others in the room, who are
    /// to be told of it. Or it is of this server's user, and the other server tells all others.
    PassOn {
        /// The event.
        event: Assigned,
        /// The server that it was taken from, or given to, which needn't be told.
        origin: OwnedServerName,
    },
    /// This server came into it by one of the new events without being told all its members, or was told all of them.
    Members {
        /// The join.
        join: Assigned,
        /// The snapshot after it.
        snapshot: Assigned,
        /// Servers in the room, that by which it was joined first: JSON array. `None` if no member is missing.
        servers: Option<String>,
    },
    /// It is no longer the direct chat of two users, as one of them is gone from it.
    NoDirectChat {
        /// One of them.
        one: i64,
        /// The other.
        other: i64,
    },
}

/// New events of one room, built on a certain revision of it.
#[derive(Clone, Debug)]
pub struct RoomWrite {
    /// The room's number; given by the commit if the room is new.
    pub room_nid: Assigned,
    /// Set if the room is to be made.
    pub new_room: Option<NewRoom>,
    /// The revision that the events are built on.
    pub base_revision: i64,
    /// Events of no timeline, which the others may stand on.
    pub outliers: Vec<Arc<NewOutlier>>,
    /// Events from before all that is stored of the room, the oldest first.
    pub past: Vec<Arc<NewEvent>>,
    /// The events, in order.
    pub events: Vec<Arc<NewEvent>>,
    /// The room's forward extremities afterwards.
    pub extremities: Vec<Assigned>,
    /// How many users are joined afterwards.
    pub joined: i64,
    /// What goes along.
    pub effects: Vec<RoomEffect>,
    /// What changes of events that are stored.
    pub rewrite: Option<Box<Rewrite>>,
}

impl RoomWrite {
    /// Whether the room has another newest point afterwards. Effects alone don't move it on.
    pub fn moves_on(&self) -> bool {
        !self.events.is_empty() || self.rewrite.is_some()
    }
}

/// Account data of a user.
#[derive(Clone, Debug)]
pub struct AccountDataWrite {
    /// Whose.
    pub user_nid: i64,
    /// Of which room; 0 for none.
    pub room_nid: i64,
    /// Its type.
    pub event_type: String,
    /// Its content, JSON.
    pub content: String,
    /// How far the stream had come when what this is built on was read, see [`Database::account_data_to_change`]. It isn't
    /// made if any account data of the user has changed since. `None` if it takes the place of whatever is there.
    pub built_on: Option<i64>,
    /// Its position, once committed.
    pub position: Assigned,
}

/// A receipt.
#[derive(Clone, Debug)]
pub struct ReceiptWrite {
    /// In which room.
    pub room_nid: i64,
    /// Whose.
    pub user_nid: i64,
    /// The same by name.
    pub user_id: OwnedUserId,
    /// 'm.read' or 'm.read.private'.
    pub receipt_type: String,
    /// '' without thread, else 'main' or the thread's root.
    pub thread: String,
    /// Up to which event.
    pub event_id: OwnedEventId,
    /// The position of that event.
    pub event_position: i64,
    /// Milliseconds since the epoch.
    pub received_at: i64,
    /// Its position, once committed.
    pub position: Assigned,
}

/// What is to be committed together.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// New events. Several entries may be of the same room, each built on the one before.
    pub rooms: Vec<RoomWrite>,
    /// Account data.
    pub account_data: Vec<AccountDataWrite>,
    /// Receipts.
    pub receipts: Vec<ReceiptWrite>,
    /// What other servers sent.
    pub received: Vec<Received>,
    /// What of that is worked through, by the numbers in the inbox.
    pub worked_through: Vec<i64>,
}

/// A group that is being committed. As long as it is, no other node commits anything. Dropping it undoes it.
#[derive(Debug)]
pub struct Commit {
    database: Database,
    transaction: Transaction,
    /// The last position of the stream before this group.
    before: i64,
    /// The last position of the stream with what was added so far.
    to: i64,
    interned: Vec<Interned>,
    forgets_left: bool,
}

/// The stretch of the stream that a group has taken.
#[derive(Clone, Copy, Debug)]
pub struct Committed {
    /// The last position of the stream before this group.
    pub before: i64,
    /// The last position of the stream with this group.
    pub to: i64,
}

impl Database {
    /// Begins to commit a group: waits for its turn among the nodes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn begin_commit(&self) -> Result<Commit> {
        let mut transaction = self.write().await?;
        let before = lock_stream(&mut transaction).await?;
        Ok(Commit {
            database: self.clone(),
            transaction,
            before,
            to: before,
            interned: Vec::new(),
            forgets_left: false,
        })
    }

    /// The last position that was given.
    pub async fn stream_position(&self) -> Result<i64> {
        let (position,): (i64,) = statement("SELECT position FROM stream WHERE id = 1")
            .one(self)
            .await?;
        Ok(position)
    }
}

impl Commit {
    /// Has rooms be forgotten by those who leave them or are put out.
    pub fn forgets_left(mut self, forgets_left: bool) -> Self {
        self.forgets_left = forgets_left;
        self
    }

    /// Adds writes, and gives them their positions in the order given. Says of each what becomes of it.
    ///
    /// # Errors
    /// If a statement fails; then the group can't be finished, and positions that were given mean nothing.
    pub async fn add(&mut self, writes: &[&Write]) -> Result<Vec<Outcome>> {
        let outcomes = self.outcomes(writes).await?;
        let current: Vec<&Write> = writes
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == Outcome::Committed)
            .map(|(write, _)| *write)
            .collect();
        self.to = assign_positions(self.to, &current);
        place_past(&mut self.transaction, &current).await?;
        make_rooms(&mut self.transaction, &current).await?;
        let names = self.database.names();
        let interned = intern(names, &mut self.transaction, &wanted(&current)).await?;
        let mut rows = Rows::default();
        for write in &current {
            rows.add(write, &interned)?;
        }
        rows.store(&mut self.transaction, self.forgets_left).await?;
        self.interned.push(interned);
        Ok(outcomes)
    }

    /// Makes everything that was added durable.
    ///
    /// # Errors
    /// If the transaction fails; then nothing of it was made.
    pub async fn finish(mut self) -> Result<Committed> {
        let Committed { before, to } = Committed {
            before: self.before,
            to: self.to,
        };
        if to > before {
            statement("UPDATE stream SET position = $1 WHERE id = 1")
                .bind(to)
                .run(&mut self.transaction)
                .await?;
        }
        if to > before && self.transaction.engine() == Engine::Postgres {
            statement("SELECT pg_notify($1, $2)")
                .bind(CHANNEL)
                .bind(to.to_string())
                .run(&mut self.transaction)
                .await?;
        }
        self.transaction.commit().await?;
        for interned in self.interned {
            self.database.names().remember(interned);
        }
        Ok(Committed { before, to })
    }
}

/// Takes the lock that orders all nodes, which lasts until the commit, and gives the last position.
async fn lock_stream(transaction: &mut Transaction) -> Result<i64> {
    let (position,): (i64,) =
        statement("UPDATE stream SET position = position WHERE id = 1 RETURNING position")
            .one_in(transaction)
            .await?;
    Ok(position)
}

/// Gives every row its position and returns the last.
fn assign_positions(before: i64, writes: &[&Write]) -> i64 {
    let mut position = before;
    for write in writes {
        let rooms = write.rooms.iter().flat_map(numbers_of_room);
        let account_data = write.account_data.iter().map(|data| &data.position);
        let receipts = write.receipts.iter().map(|receipt| &receipt.position);
        for assigned in rooms.chain(account_data).chain(receipts) {
            position += 1;
            assigned.set(position);
        }
    }
    position
}

/// What of a room gets a number, in the order of the numbers. That of a snapshot is greater than that of its parent.
fn numbers_of_room(room: &RoomWrite) -> impl Iterator<Item = &Assigned> {
    let outliers = room.outliers.iter().flat_map(|outlier| {
        let snapshot = outlier.snapshot.as_ref().and_then(NewSnapshot::changes);
        let position = (!outlier.is_stored).then_some(&outlier.position);
        [position, snapshot.map(|changes| &changes.id)]
    });
    // Those of the past have their places elsewhere.
    let past = room.past.iter().flat_map(|event| {
        let changes = event.snapshot.changes();
        let redaction = event.redaction.as_ref();
        let told = redaction.map(|redaction| &redaction.told);
        [changes.map(|changes| &changes.id), told]
    });
    let events = room.events.iter().flat_map(|event| {
        let settled = event.settled.as_ref();
        [
            event.snapshot.changes().map(|changes| &changes.id),
            settled
                .and_then(|settled| settled.snapshot.changes())
                .map(|changes| &changes.id),
            Some(&event.position),
        ]
    });
    let rewrite = room.rewrite.iter().flat_map(|rewrite| rewrite.numbers());
    outliers.chain(past).chain(events).flatten().chain(rewrite)
}

/// Gives events of the past their places, each below all that were given before.
async fn place_past(transaction: &mut Transaction, writes: &[&Write]) -> Result<()> {
    let past: Vec<&Assigned> = writes
        .iter()
        .flat_map(|write| &write.rooms)
        .flat_map(|room| room.past.iter().rev())
        .map(|event| &event.position)
        .collect();
    if past.is_empty() {
        return Ok(());
    }
    let count = i64::try_from(past.len()).unwrap_or(i64::MAX);
    let (last,): (i64,) =
        statement("UPDATE stream SET position = position - $1 WHERE id = 2 RETURNING position")
            .bind(count)
            .one_in(transaction)
            .await?;
    for (index, position) in (1..=count).zip(past) {
        position.set(last + count - index);
    }
    Ok(())
}

/// Makes the rooms that are new, and gives them their numbers.
async fn make_rooms(transaction: &mut Transaction, writes: &[&Write]) -> Result<()> {
    for room in writes.iter().flat_map(|write| &write.rooms) {
        let Some(new_room) = &room.new_room else {
            continue;
        };
        let (nid,): (i64,) = statement(
            "INSERT INTO rooms (room_id, version, published) VALUES ($1, $2, FALSE) RETURNING nid",
        )
        .bind(new_room.room_id.as_str())
        .bind(new_room.version.as_str())
        .one_in(transaction)
        .await?;
        room.room_nid.set(nid);
        if room.events.is_empty() {
            // A room that this server is not in: its head comes when it is joined.
            statement(
                "INSERT INTO room_heads (room_nid, revision, last_position, extremities, joined) \
                 VALUES ($1, 0, 0, '[]', 0)",
            )
            .bind(nid)
            .run(transaction)
            .await?;
        }
    }
    Ok(())
}

/// The names that the rows of these writes stand for.
fn wanted<'a>(writes: &[&'a Write]) -> Wanted<'a> {
    let mut wanted = Wanted::default();
    for room in writes.iter().flat_map(|write| &write.rooms) {
        for outlier in &room.outliers {
            wanted.types.push(&outlier.event_type);
            if let Some(state_key) = &outlier.state_key {
                wanted.slots.push((&outlier.event_type, state_key));
            }
            wanted.add_changes(outlier.snapshot.as_ref());
        }
        for event in room.past.iter().chain(&room.events) {
            wanted.users.push(event.sender.as_str());
            wanted.types.push(&event.event_type);
            if let Some(state_key) = &event.state_key {
                wanted.slots.push((&event.event_type, state_key));
            }
            if let Some((user_id, _)) = &event.membership {
                wanted.users.push(user_id.as_str());
            }
            wanted.add_changes(Some(&event.snapshot));
            if let Some(settled) = &event.settled {
                wanted.add_settled(settled);
            }
        }
        if let Some(rewrite) = &room.rewrite {
            for restated in &rewrite.restated {
                wanted.add_changes(Some(&restated.snapshot));
            }
            if let Some(completion) = &rewrite.completion {
                wanted.add_settled(&completion.settled);
            }
        }
        for effect in &room.effects {
            if let RoomEffect::Alias {
                creator: user_id, ..
            }
            | RoomEffect::Invite { user_id, .. }
            | RoomEffect::NoInvite { user_id, .. } = effect
            {
                wanted.users.push(user_id.as_str());
            }
        }
    }
    wanted
}

impl<'a> Wanted<'a> {
    fn add_settled(&mut self, settled: &'a Settled) {
        self.add_changes(Some(&settled.snapshot));
        let members = settled.members.iter();
        self.users
            .extend(members.map(|(user_id, _)| user_id.as_str()));
    }

    fn add_changes(&mut self, snapshot: Option<&'a NewSnapshot>) {
        let changes = snapshot.and_then(NewSnapshot::changes);
        for (event_type, state_key, _) in changes.iter().flat_map(|snapshot| &snapshot.changes) {
            self.slots.push((event_type, state_key));
        }
    }
}

/// The bytes that an event id is stored as.
pub(crate) fn event_key(event_id: &ruma::EventId) -> Vec<u8> {
    EventKey::new(event_id).into_bytes()
}

/// A list of positions as it is stored.
pub(crate) fn positions_json(positions: &[Assigned]) -> Result<String> {
    let positions: Vec<i64> = positions.iter().map(Assigned::get).collect();
    serde_json::to_string(&positions).map_err(|error| StorageError::Corrupt(error.to_string()))
}
