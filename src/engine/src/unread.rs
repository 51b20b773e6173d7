//! How much of a room somebody hasn't read.
//!
//! A count is kept in memory for each user and room, and goes on from where it was when the user's client asks next: the
//! new events are judged by the user's push rules. What an event does to somebody with the server's rules whom it doesn't
//! name is found out once for all members. A receipt sets the count back, or has it made anew. So that a start need not
//! judge everything since the last receipt, counts over many events are written down now and then.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#receiving-notifications>

mod counter;
mod facts;
mod judgement;
mod notifications;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use parley_storage::{Database, events::Span, unread::UnreadRow};
use quick_cache::{Weighter, sync::Cache};
use ruma::{
    OwnedEventId, UserId,
    events::room::member::MembershipState,
    push::{Action, PushConditionRoomCtx, Ruleset},
};
use serde::Deserialize;
use tokio::sync::Mutex as AsyncMutex;

pub use self::notifications::{Notification, Notifications, NotificationsRequest};
use self::{
    counter::{Counter, MAIN},
    facts::{Facts, Outcome, Relation, context},
};
use crate::{
    Result,
    background::Background,
    ignored::IgnoredUsers,
    push::{PushRules, Rules},
    receipts::{ReadUpTo, Receipts},
    rooms::{
        room::Room,
        state::RoomState,
        timeline::{Events, TimelineEvent},
    },
};

/// The most events that are judged for a count; of older ones nothing is told.
const MAX_EVENTS: usize = 1_000;
/// Counts kept in memory, one for each user and room. One takes about 200 bytes, and as much for each thread.
const COUNTERS: usize = 100_000;
/// Events kept as push rules see them, so that the members of a room who are told of an event together share them: about
/// so many, and so many bytes of them.
const FACTS: usize = 2_000;
const FACTS_BYTES: u64 = 16 * 1024 * 1024;
/// A count is written down when so many events were judged for it.
const CHECKPOINT_EVENTS: usize = 200;
/// Counts that wait to be written down; more are left out.
const MAX_DIRTY: usize = 10_000;
/// How often they are written down.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(30);
/// How far relations are followed to find the thread of an event.
const MAX_HOPS: usize = 3;

/// How many unread events notify, and how many of those are highlighted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Events that notify.
    pub notifications: u64,
    /// Those of them that are highlighted.
    pub highlights: u64,
}

/// What somebody hasn't read of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Of the whole room.
    pub total: Count,
    /// Of what is in no thread.
    pub main: Count,
    /// Of each thread that has something unread, by its root.
    pub threads: BTreeMap<OwnedEventId, Count>,
}

/// A count, with how many events were judged since it was written down.
#[derive(Debug)]
struct Kept {
    counter: Counter,
    judged: usize,
}

#[derive(Clone, Debug)]
struct ByLength;

impl Weighter<i64, Arc<Facts>> for ByLength {
    fn weight(&self, _: &i64, facts: &Arc<Facts>) -> u64 {
        facts.bytes()
    }
}

/// `None` until it is counted.
type Slot = Arc<AsyncMutex<Option<Kept>>>;

/// Counts what is unread.
#[derive(Debug)]
pub struct Unread {
    database: Database,
    receipts: Receipts,
    push: PushRules,
    counters: Cache<(i64, i64), Slot>,
    facts: Cache<i64, Arc<Facts>, ByLength>,
    /// Checkpoints that are to be written.
    dirty: Mutex<HashMap<(i64, i64), Vec<UnreadRow>>>,
}

/// The room and the user that a count is for.
#[derive(Clone, Copy, Debug)]
struct Subject<'a> {
    room: &'a Room,
    state: &'a RoomState,
    user_id: &'a UserId,
    user_nid: i64,
    /// Whose events don't notify.
    ignored: &'a IgnoredUsers,
}

impl Unread {
    pub(crate) fn start(
        database: Database,
        receipts: Receipts,
        push: PushRules,
        background: &Background,
    ) -> Arc<Self> {
        let unread = Arc::new(Self {
            database,
            receipts,
            push,
            counters: Cache::new(COUNTERS),
            facts: Cache::with_weighter(FACTS, FACTS_BYTES, ByLength),
            dirty: Mutex::default(),
        });
        let writer = unread.clone();
        background.every(CHECKPOINT_PERIOD, move || {
            let writer = writer.clone();
            async move { writer.write_checkpoints().await }
        });
        unread
    }

    /// What a user hasn't read of a room up to a position; it may count what came right after it. Nothing, for somebody who
    /// isn't joined.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn counts(
        &self,
        room: &Room,
        state: &RoomState,
        user_id: &UserId,
        user_nid: i64,
        ignored: &IgnoredUsers,
        to: i64,
    ) -> Result<Counts> {
        if !state.is_joined(user_id) {
            return Ok(Counts::default());
        }
        let subject = Subject {
            room,
            state,
            user_id,
            user_nid,
            ignored,
        };
        let key = (user_nid, room.nid());
        let made: Result<_, std::convert::Infallible> = self
            .counters
            .get_or_insert_with(&key, || Ok(Slot::default()));
        let Ok(slot) = made;
        let mut slot = slot.lock().await;
        let read = self.receipts.read_up_to(room.nid(), user_id).await?;
        // Where something fails on the way, the next one counts anew.
        let known = match slot.take() {
            Some(kept) => Some(kept),
            None => self.checkpoint(key).await?,
        };
        let mut current = None;
        if let Some(mut kept) = known
            && kept.counter.read(&read)
        {
            current = self.go_on(subject, kept, to).await?;
        }
        let mut kept = match current {
            Some(kept) => kept,
            None => self.count_anew(subject, &read, to).await?,
        };
        self.note_checkpoint(key, &mut kept);
        let counts = kept.counter.counts();
        *slot = Some(kept);
        Ok(counts)
    }

    /// Reads at once what counting in a user's rooms begins with, so that not each of them is asked for on its own.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn prepare(&self, user_id: &UserId, user_nid: i64, room_nids: &[i64]) -> Result<()> {
        self.receipts.prepare(room_nids).await?;
        let mut missing: Vec<i64> = room_nids.to_vec();
        missing.retain(|room_nid| self.counters.peek(&(user_nid, *room_nid)).is_none());
        if missing.is_empty() {
            return Ok(());
        }
        let mut begun: HashMap<i64, Counter> = HashMap::new();
        for (room_nid, rows) in self.checkpoints(user_nid, &missing).await? {
            begun.extend(Counter::from_rows(rows).map(|counter| (room_nid, counter)));
        }
        missing.retain(|room_nid| !begun.contains_key(room_nid));
        let mut unread = Vec::new();
        for room_nid in missing {
            let read = self.receipts.read_up_to(room_nid, user_id).await?;
            match read.unthreaded {
                0 => unread.push((room_nid, read)),
                start => {
                    begun.insert(room_nid, Counter::new(start, &read));
                }
            }
        }
        let room_nids = unread.iter().map(|(room_nid, _)| *room_nid).collect();
        let joined = self.joined_since(user_id, room_nids).await?;
        for (room_nid, read) in unread {
            let start = joined.get(&room_nid).copied().unwrap_or_default();
            begun.insert(room_nid, Counter::new(start, &read));
        }
        for (room_nid, counter) in begun {
            let kept = Kept { counter, judged: 0 };
            let slot = Arc::new(AsyncMutex::new(Some(kept)));
            let made: Result<_, std::convert::Infallible> = self
                .counters
                .get_or_insert_with(&(user_nid, room_nid), || Ok(slot));
            let Ok(_) = made;
        }
        Ok(())
    }

    /// Counts what came since; `None` if all has to be counted anew.
    async fn go_on(&self, subject: Subject<'_>, mut kept: Kept, to: i64) -> Result<Option<Kept>> {
        let after = kept.counter.counted_to;
        let last = subject.room.last_position();
        if to <= after || last.is_some_and(|last| last <= after) {
            return Ok(Some(kept));
        }
        let (events, complete) = self.newest(subject.room, after, to).await?;
        if !complete {
            return Ok(None);
        }
        let judge = Judge::new(self, subject).await?;
        for event in &events {
            if !judge.take(&mut kept.counter, event).await? {
                return Ok(None);
            }
        }
        kept.judged += events.len();
        kept.counter.counted_to = to;
        Ok(Some(kept))
    }

    async fn count_anew(&self, subject: Subject<'_>, read: &ReadUpTo, to: i64) -> Result<Kept> {
        let mut start = read.unthreaded;
        if start == 0 {
            let room_nid = subject.room.nid();
            let since = self.joined_since(subject.user_id, vec![room_nid]).await?;
            start = since.get(&room_nid).copied().unwrap_or_default();
        }
        let mut counter = Counter::new(start, read);
        let (events, _) = self.newest(subject.room, start, to).await?;
        let judge = Judge::new(self, subject).await?;
        for event in &events {
            // What was redacted is seen to be.
            judge.take(&mut counter, event).await?;
        }
        counter.counted_to = counter.counted_to.max(to);
        Ok(Kept {
            counter,
            judged: events.len(),
        })
    }

    /// Where a user joined rooms last.
    async fn joined_since(
        &self,
        user_id: &UserId,
        room_nids: Vec<i64>,
    ) -> Result<HashMap<i64, i64>> {
        let mut since = HashMap::new();
        if room_nids.is_empty() {
            return Ok(since);
        }
        let history = self
            .database
            .slot_histories(room_nids, "m.room.member", user_id.as_str())
            .await?;
        let joined = |json: &str| {
            #[derive(Deserialize)]
            struct Pdu {
                content: Content,
            }
            #[derive(Deserialize)]
            struct Content {
                membership: MembershipState,
            }
            serde_json::from_str::<Pdu>(json)
                .is_ok_and(|pdu| pdu.content.membership == MembershipState::Join)
        };
        for (room_nid, position, json) in history {
            match joined(&json) {
                // Once joined, a change of the name doesn't count.
                true => {
                    since.entry(room_nid).or_insert(position);
                }
                false => {
                    since.remove(&room_nid);
                }
            }
        }
        Ok(since)
    }

    /// The newest events of a stretch, oldest first, and whether these are all.
    async fn newest(
        &self,
        room: &Room,
        after: i64,
        to: i64,
    ) -> Result<(Vec<Arc<TimelineEvent>>, bool)> {
        if let Some(recent) = room.recent(after, to, MAX_EVENTS) {
            return Ok((recent.events, recent.complete));
        }
        let span = Span {
            room_nid: room.nid(),
            after,
            to,
        };
        let limit = MAX_EVENTS as i64 + 1;
        let mut rows = self.database.newest_events(span, limit).await?;
        let complete = rows.len() <= MAX_EVENTS;
        rows.truncate(MAX_EVENTS);
        rows.reverse();
        // Thousands may be counted once and never be asked for again: they would drive out what clients read.
        Ok((Events::pass(rows)?, complete))
    }

    async fn facts(&self, subject: Subject<'_>, event: &TimelineEvent) -> Arc<Facts> {
        if let Some(facts) = self.facts.get(&event.position) {
            return facts;
        }
        let facts = Arc::new(Facts::new(subject.room, subject.state, event).await);
        self.facts.insert(event.position, facts.clone());
        facts
    }

    /// The thread that an event is in.
    ///
    /// <https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts>
    async fn thread(&self, facts: &Facts) -> Result<Box<str>> {
        let find = async || {
            let mut relation = facts.relation();
            for _ in 0..MAX_HOPS {
                let Some(found) = relation else { break };
                if found.is_thread() {
                    return Ok(found.event_id.as_str().into());
                }
                let parent = self.database.event(&found.event_id).await?;
                relation = parent.and_then(|row| Relation::of_pdu(&row.json));
            }
            Ok(MAIN.into())
        };
        facts.thread.get_or_try_init(find).await.cloned()
    }

    /// Where the event stands that a redaction is for.
    async fn redacted_position(&self, facts: &Facts) -> Result<Option<i64>> {
        let find = async || -> Result<Option<i64>> {
            let Some(event_id) = facts.redacted_event() else {
                return Ok(None);
            };
            let place = self.database.event_place(&event_id).await?;
            Ok(place.map(|(_, position)| position))
        };
        facts.redacts.get_or_try_init(find).await.copied()
    }

    async fn checkpoint(&self, (user_nid, room_nid): (i64, i64)) -> Result<Option<Kept>> {
        let mut found = self.checkpoints(user_nid, &[room_nid]).await?;
        let rows = found.remove(&room_nid).unwrap_or_default();
        Ok(Counter::from_rows(rows).map(|counter| Kept { counter, judged: 0 }))
    }

    /// The checkpoints of rooms, by room.
    async fn checkpoints(
        &self,
        user_nid: i64,
        room_nids: &[i64],
    ) -> Result<HashMap<i64, Vec<UnreadRow>>> {
        let mut found: HashMap<i64, Vec<UnreadRow>> = HashMap::new();
        {
            let dirty = self.dirty();
            for room_nid in room_nids {
                let rows = dirty.get(&(user_nid, *room_nid)).cloned();
                found.extend(rows.map(|rows| (*room_nid, rows)));
            }
        }
        let mut stored = room_nids.to_vec();
        stored.retain(|room_nid| !found.contains_key(room_nid));
        if stored.is_empty() {
            return Ok(found);
        }
        for row in self.database.unread_checkpoints(user_nid, stored).await? {
            found.entry(row.room_nid).or_default().push(row);
        }
        Ok(found)
    }

    /// Has a count written down if it took much to make it.
    fn note_checkpoint(&self, key: (i64, i64), kept: &mut Kept) {
        if kept.judged < CHECKPOINT_EVENTS {
            return;
        }
        let mut dirty = self.dirty();
        if dirty.len() < MAX_DIRTY || dirty.contains_key(&key) {
            dirty.insert(key, kept.counter.rows(key.0, key.1));
            kept.judged = 0;
        }
    }

    async fn write_checkpoints(&self) {
        let checkpoints: Vec<Vec<UnreadRow>> = self.dirty().drain().map(|(_, rows)| rows).collect();
        if checkpoints.is_empty() {
            return;
        }
        if let Err(error) = self.database.save_unread_checkpoints(checkpoints).await {
            // They only save time.
            tracing::warn!(%error, "checkpoints of unread counts could not be written");
        }
    }

    fn dirty(&self) -> MutexGuard<'_, HashMap<(i64, i64), Vec<UnreadRow>>> {
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Judges events for a user. What it takes to apply rules is made when the first event needs it.
struct Judge<'a> {
    unread: &'a Unread,
    subject: Subject<'a>,
    rules: Rules,
    own_rules: std::sync::OnceLock<(Arc<Ruleset>, PushConditionRoomCtx)>,
    display_name: std::sync::OnceLock<String>,
}

impl<'a> Judge<'a> {
    async fn new(unread: &'a Unread, subject: Subject<'a>) -> Result<Self> {
        Ok(Self {
            unread,
            subject,
            rules: unread.push.rules(subject.user_nid).await?,
            own_rules: std::sync::OnceLock::new(),
            display_name: std::sync::OnceLock::new(),
        })
    }

    /// Takes an event into a count. False if the event changes what was counted before.
    async fn take(&self, counter: &mut Counter, event: &TimelineEvent) -> Result<bool> {
        let own = event.sender == self.subject.user_id;
        let redaction = event.event_type.as_ref() == "m.room.redaction";
        if own && event.is_state() {
            // Of a redacted event it isn't known any more whether they came or just changed their name.
            let came = event.membership() == Some(MembershipState::Join) && !event.was_joined();
            if came && event.redacted_by.is_none() {
                counter.begin(event.position);
            }
            return Ok(true);
        }
        if !own && (event.redacted_by.is_some() || self.subject.ignored.hide(event)) {
            return Ok(true);
        }
        let facts = self.unread.facts(self.subject, event).await;
        if redaction
            && let Some(target) = self.unread.redacted_position(&facts).await?
            && counter.may_count(target)
        {
            return Ok(false);
        }
        if own {
            let thread = self.unread.thread(&facts).await?;
            counter.wrote(&thread, event.position);
            return Ok(true);
        }
        let outcome = self.outcome(&facts).await;
        if outcome.notifies {
            let thread = self.unread.thread(&facts).await?;
            counter.add(&thread, event.position, outcome.highlights);
        }
        Ok(true)
    }

    async fn outcome(&self, facts: &Facts) -> Outcome {
        if let Rules::Default = self.rules {
            let name = match facts.has_text() {
                true => self.display_name(),
                false => "",
            };
            if !facts.may_name(self.subject.user_id, name) {
                return facts.anyone();
            }
        }
        let (rules, context) = self.own_rules();
        let outcome = facts.judged(rules, context).await;
        // There may be a thousand events to judge, by as many rules.
        tokio::task::yield_now().await;
        outcome
    }

    /// What the rule says that applies to an event; nothing, if there is none.
    async fn actions(&self, facts: &Facts) -> Vec<Action> {
        let (rules, context) = self.own_rules();
        facts.actions(rules, context).await
    }

    fn own_rules(&self) -> &(Arc<Ruleset>, PushConditionRoomCtx) {
        self.own_rules.get_or_init(|| {
            let name = self.display_name().to_owned();
            let Subject {
                room,
                state,
                user_id,
                ..
            } = self.subject;
            let rules = self.rules.shared(user_id);
            (rules, context(room, state, user_id, name))
        })
    }

    /// What the user is called in the room; empty if they have no name.
    fn display_name(&self) -> &str {
        #[derive(Deserialize)]
        struct Content {
            displayname: Option<String>,
        }
        self.display_name.get_or_init(|| {
            let member = self.subject.state.member(self.subject.user_id);
            member
                .and_then(|member| member.entry.event.content_as::<Content>())
                .and_then(|content| content.displayname)
                .unwrap_or_default()
        })
    }
}
