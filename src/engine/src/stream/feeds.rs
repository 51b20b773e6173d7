//! What changed for whom: the feeds of users who are syncing, and who of them watches which room.
//!
//! A feed notes, for each of a user's rooms, the position of the newest change. With that, an incremental /sync of a
//! connected client knows where to look without asking storage. Feeds are made when a user syncs and dropped when they
//! have not for a while. For what lies before the feed was made, storage is asked.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use parley_storage::{
    Database,
    commit::{RoomEffect, RoomWrite, Settled, Write},
    user_streams::ReceiptRow,
};
use ruma::{OwnedRoomId, OwnedUserId, UserId, events::room::member::MembershipState};
use tokio::sync::{OnceCell, watch};

use crate::{
    EngineError, Result,
    rooms::{
        edit::{NewEntry, RoomPublication},
        room::Room,
    },
};

/// How long it is waited for what another node wrote.
const CATCHING_UP: Duration = Duration::from_secs(10);
/// Users whose change of presence a feed notes; an entry takes about 100 bytes.
const MAX_PRESENCE: usize = 2_000;
/// Rooms of which it is remembered when who types last changed; an entry takes about 20 bytes.
const MAX_TYPED: usize = 20_000;

/// Where a room last changed, of each kind of change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomMarks {
    /// Its newest event.
    pub events: i64,
    /// Its newest receipt.
    pub receipts: i64,
    /// The user's newest account data of it.
    pub account_data: i64,
    /// The fleeting count of the newest change of who types.
    pub typing: u64,
}

/// A user's membership in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The room's id.
    pub room_id: OwnedRoomId,
    /// What it is.
    pub membership: MembershipState,
    /// The position of the member event.
    pub position: i64,
    /// Whether the user wants to hear no more of the room.
    pub forgotten: bool,
}

/// What one user's clients wait for.
#[derive(Debug)]
pub struct UserFeed {
    /// Whose it is.
    pub user_id: OwnedUserId,
    /// The number of that user.
    pub user_nid: i64,
    marks: Mutex<Marks>,
    changed: watch::Sender<()>,
    /// When it was last used, milliseconds since the epoch.
    used_at: AtomicI64,
    loaded: OnceCell<()>,
}

#[derive(Clone, Debug, Default)]
struct Marks {
    /// Every change after this position is noted.
    complete_after: i64,
    rooms: HashMap<i64, RoomMarks>,
    memberships: HashMap<i64, Membership>,
    account_data: i64,
    /// Every change of presence after this count is noted.
    presence_after: u64,
    /// Users whose presence changed, and the fleeting count of that.
    presence: HashMap<OwnedUserId, u64>,
}

impl Marks {
    fn note_presence(&mut self, user_id: &UserId, fleeting: u64) {
        match self.presence.get_mut(user_id) {
            Some(count) => *count = fleeting,
            None => {
                self.presence.insert(user_id.to_owned(), fleeting);
            }
        }
        if self.presence.len() > MAX_PRESENCE {
            // The older half goes. A client that is so far behind is told of everyone.
            let mut counts: Vec<u64> = self.presence.values().copied().collect();
            let (_, middle, _) = counts.select_nth_unstable(MAX_PRESENCE / 2);
            let middle = *middle;
            self.presence.retain(|_, count| *count > middle);
            self.presence_after = middle;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic interrupted here is a note too many or too few in a map, never a broken one.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl UserFeed {
    fn new(user_id: OwnedUserId, user_nid: i64) -> Self {
        Self {
            user_id,
            user_nid,
            marks: Mutex::default(),
            changed: watch::Sender::new(()),
            used_at: AtomicI64::new(i64::MAX),
            loaded: OnceCell::new(),
        }
    }

    /// Wakes when something may have changed after this call.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Wakes those who wait.
    pub fn wake(&self) {
        self.changed.send_replace(());
    }

    /// Whether the user's memberships are all there.
    pub fn is_loaded(&self) -> bool {
        self.loaded.initialized()
    }

    /// Every change after this position is noted here.
    pub fn complete_after(&self) -> i64 {
        lock(&self.marks).complete_after
    }

    /// The marks of all rooms in which something is newer than `position` or `fleeting`.
    pub fn rooms_changed(&self, position: i64, fleeting: u64) -> Vec<(i64, RoomMarks)> {
        let newer = |marks: &RoomMarks| {
            marks.events > position
                || marks.receipts > position
                || marks.account_data > position
                || marks.typing > fleeting
        };
        lock(&self.marks)
            .rooms
            .iter()
            .filter(|(_, marks)| newer(marks))
            .map(|(room_nid, marks)| (*room_nid, *marks))
            .collect()
    }

    /// The user's memberships in all rooms.
    pub fn memberships(&self) -> Vec<(i64, Membership)> {
        lock(&self.marks)
            .memberships
            .iter()
            .map(|(room_nid, membership)| (*room_nid, membership.clone()))
            .collect()
    }

    /// The user's membership in one room.
    pub fn membership(&self, room_nid: i64) -> Option<Membership> {
        lock(&self.marks).memberships.get(&room_nid).cloned()
    }

    /// The rooms that the user is joined to.
    pub fn joined_rooms(&self) -> Vec<i64> {
        let joined = |membership: &Membership| membership.membership == MembershipState::Join;
        lock(&self.marks)
            .memberships
            .iter()
            .filter(|(_, membership)| joined(membership))
            .map(|(room_nid, _)| *room_nid)
            .collect()
    }

    /// The position of the newest account data that belongs to no room.
    pub fn account_data(&self) -> i64 {
        lock(&self.marks).account_data
    }

    /// The users whose presence changed after a fleeting count; `None` if that is longer ago than is noted.
    pub fn presence_changed(&self, fleeting: u64) -> Option<Vec<OwnedUserId>> {
        let marks = lock(&self.marks);
        if fleeting < marks.presence_after {
            return None;
        }
        let changed = marks
            .presence
            .iter()
            .filter(|(_, count)| **count > fleeting)
            .map(|(user_id, _)| user_id.clone())
            .collect();
        Some(changed)
    }

    /// Notes that the user forgot a room.
    pub fn forget_room(&self, room_nid: i64) {
        if let Some(membership) = lock(&self.marks).memberships.get_mut(&room_nid) {
            membership.forgotten = true;
        }
    }
}

/// What a feed holds at one moment, up to one position.
#[derive(Clone, Debug)]
pub struct FeedSnapshot {
    /// Everything up to here is in it, and nothing after.
    pub position: i64,
    /// Every change of a room after this position is marked.
    pub complete_after: i64,
    /// The user's memberships.
    pub memberships: Vec<(i64, Membership)>,
    /// The position of the newest account data that belongs to no room.
    pub account_data: i64,
}

/// All feeds.
#[derive(Debug, Default)]
pub struct Feeds {
    inner: Mutex<Inner>,
    /// Tells how far `Inner::noted` has come.
    noted: watch::Sender<i64>,
    /// Whether rooms are forgotten by those who leave them or are put out.
    pub(super) forgets_left: bool,
}

#[derive(Debug, Default)]
struct Inner {
    users: HashMap<i64, Arc<UserFeed>>,
    nids: HashMap<OwnedUserId, i64>,
    /// Who of them is joined to a room.
    watchers: HashMap<i64, Vec<Arc<UserFeed>>>,
    /// Everything up to here is noted.
    noted: i64,
    /// Everything fleeting up to here is noted.
    fleeting: u64,
    /// Where it was typed.
    typed: Typed,
}

/// When who types in a room last changed, for feeds that are made later.
#[derive(Debug, Default)]
struct Typed {
    rooms: HashMap<i64, u64>,
    /// Of the rooms that aren't there, nothing changed after this count.
    forgotten: u64,
}

impl Typed {
    fn note(&mut self, room_nid: i64, fleeting: u64) {
        self.rooms.insert(room_nid, fleeting);
        if self.rooms.len() > MAX_TYPED {
            // The older half goes. A client that is so far behind is told of all its rooms.
            let mut counts: Vec<u64> = self.rooms.values().copied().collect();
            let (_, middle, _) = counts.select_nth_unstable(MAX_TYPED / 2);
            let middle = *middle;
            self.rooms.retain(|_, count| *count > middle);
            self.forgotten = middle;
        }
    }

    /// After which count nothing changed in a room.
    fn last(&self, room_nid: i64) -> u64 {
        self.rooms.get(&room_nid).copied().unwrap_or(self.forgotten)
    }
}

/// What a group of writes changed.
#[derive(Debug, Default)]
pub struct Noted {
    rooms: HashMap<i64, i64>,
    members: Vec<MemberChange>,
    account_data: Vec<(i64, i64, i64)>,
    receipts: HashMap<i64, i64>,
    /// User, room and position of receipts that only their user learns of.
    private_receipts: Vec<(OwnedUserId, i64, i64)>,
    touched: Mutex<HashSet<i64>>,
}

#[derive(Debug)]
struct MemberChange {
    user_id: OwnedUserId,
    room_nid: i64,
    membership: Membership,
}

impl Noted {
    /// Takes in new events of a room.
    pub(crate) fn add_events(
        &mut self,
        room_nid: i64,
        room_id: &ruma::RoomId,
        entries: &[NewEntry],
    ) {
        for entry in entries {
            let position = entry.event.position.get();
            self.add_event(room_nid, position);
            if let Some(settled) = &entry.event.settled {
                self.add_settled_members(room_nid, room_id, &settled.members, position);
            } else if let Some((user_id, membership)) = &entry.event.membership {
                self.add_member(
                    user_id.clone(),
                    room_nid,
                    room_id.to_owned(),
                    membership,
                    position,
                );
            }
        }
    }

    /// Takes in the memberships that changed because more is known of a room.
    pub(crate) fn add_settled(&mut self, room: &Room, settled: &Settled, position: i64) {
        self.add_settled_members(room.nid(), room.id(), &settled.members, position);
    }

    fn add_settled_members(
        &mut self,
        room_nid: i64,
        room_id: &ruma::RoomId,
        members: &[(OwnedUserId, Option<String>)],
        position: i64,
    ) {
        for (user_id, membership) in members {
            // Who has no membership any more is as one who has left.
            let membership = membership.as_deref().unwrap_or("leave");
            let room_id = room_id.to_owned();
            self.add_member(user_id.clone(), room_nid, room_id, membership, position);
        }
    }

    /// Takes in the invitations to a room that this server is not in.
    fn add_invites(&mut self, write: &RoomWrite, room_id: &ruma::RoomId) {
        for effect in &write.effects {
            let (user_id, membership, event) = match effect {
                RoomEffect::Invite {
                    user_id,
                    membership,
                    event,
                    ..
                } => (user_id, membership.as_str(), event),
                RoomEffect::NoInvite { user_id, event } if write.events.is_empty() => {
                    (user_id, "leave", event)
                }
                _ => continue,
            };
            let (user_id, room_id) = (user_id.clone(), room_id.to_owned());
            self.add_member(
                user_id,
                write.room_nid.get(),
                room_id,
                membership,
                event.get(),
            );
        }
    }

    pub(crate) fn add_event(&mut self, room_nid: i64, position: i64) {
        self.rooms.insert(room_nid, position);
    }

    pub(crate) fn add_member(
        &mut self,
        user_id: OwnedUserId,
        room_nid: i64,
        room_id: OwnedRoomId,
        membership: &str,
        position: i64,
    ) {
        let membership = Membership {
            room_id,
            membership: membership.into(),
            position,
            forgotten: false,
        };
        self.members.push(MemberChange {
            user_id,
            room_nid,
            membership,
        });
    }

    pub(crate) fn add_receipt(&mut self, receipt: &ReceiptRow) {
        match receipt.receipt_type.as_str() {
            "m.read.private" => self.private_receipts.push((
                receipt.user_id.clone(),
                receipt.room_nid,
                receipt.position,
            )),
            _ => {
                self.receipts.insert(receipt.room_nid, receipt.position);
            }
        }
    }

    pub(crate) fn add_account_data(&mut self, user_nid: i64, room_nid: i64, position: i64) {
        self.account_data.push((user_nid, room_nid, position));
    }

    /// Takes in what a write changed beside events.
    pub(crate) fn add_write(&mut self, write: &Write, rooms: &[RoomPublication]) {
        for (write, publication) in write.rooms.iter().zip(rooms) {
            self.add_invites(write, publication.room.id());
        }
        for data in &write.account_data {
            self.add_account_data(data.user_nid, data.room_nid, data.position.get());
        }
        for receipt in &write.receipts {
            self.add_receipt(&receipt.into());
        }
    }
}

impl Feeds {
    /// None yet.
    pub(crate) fn new(forgets_left: bool) -> Self {
        Self {
            forgets_left,
            ..Self::default()
        }
    }

    /// The feed of a user, made if there is none.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn get(
        &self,
        user_id: &UserId,
        user_nid: i64,
        now: i64,
        database: &Database,
    ) -> Result<Arc<UserFeed>> {
        let feed = {
            let mut inner = lock(&self.inner);
            inner.nids.entry(user_id.to_owned()).or_insert(user_nid);
            inner
                .users
                .entry(user_nid)
                .or_insert_with(|| Arc::new(UserFeed::new(user_id.to_owned(), user_nid)))
                .clone()
        };
        // From here on, changes of membership are noted; what is read below is put under them.
        feed.loaded
            .get_or_try_init(|| self.load(&feed, database))
            .await?;
        feed.used_at.store(now, Ordering::Relaxed);
        Ok(feed)
    }

    async fn load(&self, feed: &Arc<UserFeed>, database: &Database) -> Result<()> {
        let rows = database.memberships_of(feed.user_nid).await?;
        // What was written a moment ago, maybe by another node, is told only with all that was before it.
        let newest = rows.iter().map(|row| row.event_position).max();
        let reached = self.reach(newest.unwrap_or_default());
        if tokio::time::timeout(CATCHING_UP, reached).await.is_err() {
            return Err(EngineError::Internal(
                "this node doesn't hear what others write".to_owned(),
            ));
        }
        let mut inner = lock(&self.inner);
        let mut marks = lock(&feed.marks);
        for row in rows {
            let membership = Membership {
                room_id: row.room_id,
                membership: row.membership.into(),
                position: row.event_position,
                forgotten: row.forgotten,
            };
            let noted = marks
                .memberships
                .entry(row.room_nid)
                .or_insert_with(|| membership.clone());
            if noted.position < membership.position {
                *noted = membership;
            }
        }
        let joined: Vec<i64> = marks
            .memberships
            .iter()
            .filter(|(_, membership)| membership.membership == MembershipState::Join)
            .map(|(room_nid, _)| *room_nid)
            .collect();
        for room_nid in joined {
            inner.watch(room_nid, feed);
            // What changed while there was no feed: the user may have had one before.
            let typing = inner.typed.last(room_nid);
            let marks = marks.rooms.entry(room_nid).or_default();
            marks.typing = marks.typing.max(typing);
        }
        marks.complete_after = inner.noted;
        marks.presence_after = inner.fleeting;
        Ok(())
    }

    /// What a feed holds now. Everything up to its position is published in the rooms in memory, too.
    pub fn snapshot(&self, feed: &UserFeed) -> FeedSnapshot {
        // With the lock held, nothing is noted meanwhile.
        let inner = lock(&self.inner);
        let marks = lock(&feed.marks);
        let memberships = marks
            .memberships
            .iter()
            .map(|(nid, membership)| (*nid, membership.clone()))
            .collect();
        FeedSnapshot {
            position: inner.noted,
            complete_after: marks.complete_after,
            memberships,
            account_data: marks.account_data,
        }
    }

    /// Waits until everything up to a position is noted.
    pub async fn reach(&self, position: i64) {
        let mut noted = self.noted.subscribe();
        // The sender lives as long as this does, so it only ends by being there.
        let _ = noted.wait_for(|noted| *noted >= position).await;
    }

    /// Waits until something holds that comes with what is noted.
    pub(crate) async fn wait_for(&self, holds: impl Fn() -> bool) {
        let mut noted = self.noted.subscribe();
        let _ = noted.wait_for(|_| holds()).await;
    }

    /// Everything up to here is noted, and may be asked for.
    pub fn position(&self) -> i64 {
        lock(&self.inner).noted
    }

    /// The feed of a user, if they have one.
    pub fn find(&self, user_id: &UserId) -> Option<Arc<UserFeed>> {
        lock(&self.inner).user(user_id).cloned()
    }

    /// Notes what a group changed, in the feeds of those it concerns. `to` is the group's last position.
    pub(crate) fn note(&self, noted: &Noted, to: i64) {
        let mut inner = lock(&self.inner);
        let mut touched = lock(&noted.touched);
        for change in &noted.members {
            inner.note_member(change, self.forgets_left, &mut touched);
        }
        for (room_nid, position) in &noted.rooms {
            inner.mark_room(*room_nid, &mut touched, |marks| marks.events = *position);
        }
        for (room_nid, position) in &noted.receipts {
            inner.mark_room(*room_nid, &mut touched, |marks| marks.receipts = *position);
        }
        for (user_id, room_nid, position) in &noted.private_receipts {
            let Some(feed) = inner.user(user_id) else {
                continue;
            };
            let mut marks = lock(&feed.marks);
            let marks = marks.rooms.entry(*room_nid).or_default();
            marks.receipts = marks.receipts.max(*position);
            touched.insert(feed.user_nid);
        }
        for (user_nid, room_nid, position) in &noted.account_data {
            let Some(feed) = inner.users.get(user_nid) else {
                continue;
            };
            let mut marks = lock(&feed.marks);
            match room_nid {
                0 => marks.account_data = *position,
                _ => marks.rooms.entry(*room_nid).or_default().account_data = *position,
            }
            touched.insert(*user_nid);
        }
        inner.noted = inner.noted.max(to);
        self.noted.send_replace(inner.noted);
    }

    /// Wakes those whom a group concerns, once its positions are published.
    pub(crate) fn wake(&self, noted: &Noted) {
        let inner = lock(&self.inner);
        for user_nid in lock(&noted.touched).iter() {
            if let Some(feed) = inner.users.get(user_nid) {
                feed.wake();
            }
        }
    }

    /// Notes that who types in a room changed; gives the feeds of those who are joined to it, to be woken once
    /// `fleeting` is published.
    pub(crate) fn note_typing(&self, room_nid: i64, fleeting: u64) -> Vec<Arc<UserFeed>> {
        let mut inner = lock(&self.inner);
        inner.fleeting = fleeting;
        inner.typed.note(room_nid, fleeting);
        let watchers = inner.watchers.get(&room_nid).cloned().unwrap_or_default();
        for feed in &watchers {
            lock(&feed.marks).rooms.entry(room_nid).or_default().typing = fleeting;
        }
        watchers
    }

    /// Notes that a user's presence changed; gives the feeds of those who are joined to one of `rooms`, and of the user,
    /// to be woken once `fleeting` is published.
    pub(crate) fn note_presence(
        &self,
        user_id: &UserId,
        rooms: &[i64],
        fleeting: u64,
    ) -> Vec<Arc<UserFeed>> {
        let mut inner = lock(&self.inner);
        inner.fleeting = fleeting;
        let others = rooms
            .iter()
            .filter_map(|room_nid| inner.watchers.get(room_nid))
            .flatten();
        let mut told = HashSet::new();
        // Who shares several rooms is told once.
        let feeds: Vec<Arc<UserFeed>> = inner
            .user(user_id)
            .into_iter()
            .chain(others)
            .filter(|feed| told.insert(feed.user_nid))
            .cloned()
            .collect();
        for feed in &feeds {
            lock(&feed.marks).note_presence(user_id, fleeting);
        }
        feeds
    }

    /// How many feeds there are, for the metrics.
    pub fn len(&self) -> usize {
        lock(&self.inner).users.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops the feeds that nobody has used since `before` and nobody waits on.
    pub fn drop_idle(&self, before: i64) {
        let mut inner = lock(&self.inner);
        let idle: HashSet<i64> = inner
            .users
            .values()
            .filter(|feed| {
                feed.used_at.load(Ordering::Relaxed) < before && feed.changed.receiver_count() == 0
            })
            .map(|feed| feed.user_nid)
            .collect();
        if idle.is_empty() {
            return;
        }
        inner.users.retain(|nid, _| !idle.contains(nid));
        inner.nids.retain(|_, nid| !idle.contains(nid));
        inner.watchers.retain(|_, feeds| {
            feeds.retain(|feed| !idle.contains(&feed.user_nid));
            !feeds.is_empty()
        });
    }

    /// Sets from where on changes are noted; for the start.
    pub fn start_at(&self, position: i64) {
        lock(&self.inner).noted = position;
        self.noted.send_replace(position);
    }
}

impl Inner {
    fn user(&self, user_id: &UserId) -> Option<&Arc<UserFeed>> {
        self.nids.get(user_id).and_then(|nid| self.users.get(nid))
    }

    fn watch(&mut self, room_nid: i64, feed: &Arc<UserFeed>) {
        let feeds = self.watchers.entry(room_nid).or_default();
        if !feeds.iter().any(|other| other.user_nid == feed.user_nid) {
            feeds.push(feed.clone());
        }
    }

    fn note_member(
        &mut self,
        change: &MemberChange,
        forgets_left: bool,
        touched: &mut HashSet<i64>,
    ) {
        let Some(feed) = self.user(&change.user_id).cloned() else {
            return;
        };
        {
            let mut marks = lock(&feed.marks);
            let mut membership = change.membership.clone();
            membership.forgotten = forgets_left
                && matches!(
                    membership.membership,
                    MembershipState::Leave | MembershipState::Ban
                );
            marks.memberships.insert(change.room_nid, membership);
            marks.rooms.entry(change.room_nid).or_default().events = change.membership.position;
        }
        touched.insert(feed.user_nid);
        if change.membership.membership == MembershipState::Join {
            self.watch(change.room_nid, &feed);
        } else if let Some(feeds) = self.watchers.get_mut(&change.room_nid) {
            feeds.retain(|other| other.user_nid != feed.user_nid);
        }
    }

    fn mark_room(&self, room_nid: i64, touched: &mut HashSet<i64>, mark: impl Fn(&mut RoomMarks)) {
        for feed in self.watchers.get(&room_nid).into_iter().flatten() {
            mark(lock(&feed.marks).rooms.entry(room_nid).or_default());
            touched.insert(feed.user_nid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_was_typed_is_remembered_within_bounds_and_nothing_is_missed() {
        let mut typed = Typed::default();
        assert_eq!(typed.last(1), 0);
        let rooms = MAX_TYPED as u64 * 3;
        for room in 1..=rooms {
            typed.note(room as i64, room);
        }
        assert!(typed.rooms.len() <= MAX_TYPED);
        for room in 1..=rooms {
            assert!(typed.last(room as i64) >= room);
        }
        assert_eq!(typed.last(rooms as i64), rooms);
    }
}
