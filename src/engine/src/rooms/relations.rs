//! Events that relate to others: edits, reactions, threads.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#forming-relationships-between-events>

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parley_protocol::relation::Relation;
pub use parley_storage::relations::Extent;
use parley_storage::{
    events::Span,
    relations::{RelatedQuery, ThreadPart},
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomId, UserId, api::error::ErrorKind};

use super::{
    Rooms,
    history::{Direction, PageRequest},
    room::Room,
    timeline::TimelineEvent,
    visibility::Access,
};
use crate::{EngineError, Result, sessions::Session, stream::observer::Observer};

/// Over how many events another may relate to the one that is asked for.
pub const MAX_DEPTH: i64 = 3;
/// The most references that are told with the events of an answer; there is an endpoint for more.
const MAX_REFERENCES: i64 = 500;
/// Rooms share so many marks.
const MARKS: usize = 4096;

/// Remembers where the newest event with a relation stands, so that storage isn't asked about events that nothing can
/// relate to yet: those that a connected client is sent. Rooms share marks, which makes them no more than careful.
#[derive(Debug)]
pub(crate) struct RelationMarks(Box<[AtomicI64]>);

impl RelationMarks {
    /// Nothing is known of what was sent up to `position`.
    pub(crate) fn new(position: i64) -> Self {
        Self((0..MARKS).map(|_| AtomicI64::new(position)).collect())
    }

    fn mark(&self, room_nid: i64) -> Option<&AtomicI64> {
        let index = usize::try_from(room_nid).unwrap_or_default() % MARKS;
        self.0.get(index)
    }

    /// Whether something may relate to an event.
    fn is_possible(&self, event: &TimelineEvent) -> bool {
        self.mark(event.room_nid)
            .is_none_or(|mark| mark.load(Ordering::Acquire) > event.position)
    }
}

impl Observer for RelationMarks {
    fn event(&self, _room: &Room, event: &TimelineEvent) {
        if Relation::of_content(event.content()).is_some()
            && let Some(mark) = self.mark(event.room_nid)
        {
            mark.fetch_max(event.position, Ordering::AcqRel);
        }
    }
}

/// What is told with events about those that relate to them.
///
/// <https://spec.matrix.org/v1.19/client-server-api/#aggregations-of-child-events>
#[derive(Clone, Debug, Default)]
pub struct Bundles {
    edits: HashMap<i64, Arc<TimelineEvent>>,
    threads: HashMap<OwnedEventId, Thread>,
    references: HashMap<OwnedEventId, Vec<Arc<TimelineEvent>>>,
}

impl Bundles {
    /// The edit that holds for an event.
    pub fn edit(&self, event: &TimelineEvent) -> Option<&Arc<TimelineEvent>> {
        self.edits.get(&event.position)
    }

    /// The events that refer to an event, oldest first.
    pub fn references(&self, event: &TimelineEvent) -> &[Arc<TimelineEvent>] {
        self.references
            .get(&event.event_id)
            .map_or(&[], Vec::as_slice)
    }

    /// The thread that an event begins.
    pub fn thread(&self, event: &TimelineEvent) -> Option<&Thread> {
        self.threads.get(&event.event_id)
    }
}

/// A thread in brief.
#[derive(Clone, Debug)]
pub struct Thread {
    /// Its newest event.
    pub latest: Arc<TimelineEvent>,
    /// How many events there are in it, the root not counted.
    pub count: i64,
    /// Whether the reader has taken part in it.
    pub participated: bool,
}

/// Which events that relate to another are asked for.
#[derive(Clone, Copy, Debug)]
pub struct RelationsRequest<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The event that they relate to.
    pub target: &'a EventId,
    /// In which way they relate, if that matters.
    pub rel_type: Option<&'a str>,
    /// Of which type they are, if that matters.
    pub event_type: Option<&'a str>,
    /// Whether also what relates to those is meant.
    pub recurse: bool,
    /// Which page.
    pub page: PageRequest,
}

/// Events that relate to another.
#[derive(Clone, Debug)]
pub struct RelationsPage {
    /// The events, in the order asked for.
    pub events: Vec<Arc<TimelineEvent>>,
    /// Where the next page begins; `None` at the end.
    pub end: Option<i64>,
    /// What the reader may see.
    pub access: Access,
    /// The room.
    pub room: Arc<Room>,
}

impl Rooms {
    /// The events that relate to another.
    ///
    /// `GET /rooms/{roomId}/relations/{eventId}`
    ///
    /// # Errors
    /// `M_NOT_FOUND` if there is no such event that the user may see.
    pub async fn relations(
        &self,
        session: &Session,
        request: RelationsRequest<'_>,
    ) -> Result<RelationsPage> {
        let (_, access, room) = self.event(session, request.room_id, request.target).await?;
        let page = request.page;
        // What was read of the past from other servers has positions below those of the stream.
        let (oldest, newest) = (i64::MIN, i64::MAX);
        let (after, to) = match page.direction {
            Direction::Backward => (page.to.unwrap_or(oldest), page.from.unwrap_or(newest)),
            Direction::Forward => (page.from.unwrap_or(oldest), page.to.unwrap_or(newest)),
        };
        let limit = i64::try_from(page.limit).unwrap_or(i64::MAX - 1);
        let mut rows = self
            .database
            .related(RelatedQuery {
                target: request.target,
                rel_type: request.rel_type,
                event_type: request.event_type,
                depth: if request.recurse { MAX_DEPTH } else { 1 },
                span: Span {
                    room_nid: room.nid(),
                    after,
                    to,
                },
                oldest_first: page.direction == Direction::Forward,
                // One more than asked for tells that this isn't the end.
                limit: limit + 1,
            })
            .await?;
        let mut end = None;
        if rows.len() > page.limit {
            rows.truncate(page.limit);
            end = rows.last().map(|row| match page.direction {
                Direction::Backward => row.position - 1,
                Direction::Forward => row.position,
            });
        }
        let ignored = self.ignored_by(session).await?;
        let mut events = self.events.keep(rows)?;
        self.look_up_past(&access, &events, &session.user_id)
            .await?;
        events.retain(|event| !ignored.hide(event) && access.sees(event, &session.user_id));
        access.veil(&mut events, &session.user_id, &room);
        Ok(RelationsPage {
            events,
            end,
            access,
            room,
        })
    }

    /// What is told with these events about those that relate to them, within an extent. Storage is asked only about events
    /// that something may relate to.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn bundles<'e>(
        &self,
        session: &Session,
        events: impl IntoIterator<Item = &'e Arc<TimelineEvent>>,
        extent: Extent<'_>,
    ) -> Result<Bundles> {
        let targets: HashSet<_> = events
            .into_iter()
            .filter(|event| !event.is_state() && self.marks.is_possible(event))
            .map(|event| event.event_id.clone())
            .collect();
        if targets.is_empty() {
            return Ok(Bundles::default());
        }
        let mut targets: Vec<_> = targets.into_iter().collect();
        let parts = self.database.threads(&targets, extent).await?;
        let threads = self.threads(session, parts).await?;
        // The newest event of a thread is told with its own edit.
        targets.extend(
            threads
                .values()
                .map(|thread| thread.latest.event_id.clone()),
        );
        Ok(Bundles {
            edits: self.edits(&targets, extent).await?,
            references: self.references(session, &targets, extent).await?,
            threads,
        })
    }

    /// Looks up what held at those of the events that are told with others which are of the past before this server came into
    /// the room.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn look_up_bundles(
        &self,
        access: &Access,
        bundles: &Bundles,
        user_id: &UserId,
    ) -> Result<()> {
        let edits = bundles.edits.values();
        let latest = bundles.threads.values().map(|thread| &thread.latest);
        let references = bundles.references.values().flatten();
        let told = edits.chain(latest).chain(references);
        let past: Vec<_> = told.filter(|event| event.position < 0).cloned().collect();
        self.look_up_past(access, &past, user_id).await
    }

    async fn edits(
        &self,
        targets: &[OwnedEventId],
        extent: Extent<'_>,
    ) -> Result<HashMap<i64, Arc<TimelineEvent>>> {
        let pairs = self.database.newest_edits(targets, extent).await?;
        let positions: Vec<i64> = pairs.iter().map(|(_, edit)| *edit).collect();
        let found = self.events.at(&positions).await?;
        let mut edits: HashMap<i64, Arc<TimelineEvent>> = HashMap::new();
        for (target, position) in pairs {
            let Some(edit) = found.iter().find(|edit| edit.position == position) else {
                continue;
            };
            let kept = edits.entry(target).or_insert_with(|| edit.clone());
            // Of two in the same millisecond, every client takes that with the greater id.
            if kept.event_id < edit.event_id {
                *kept = edit.clone();
            }
        }
        Ok(edits)
    }

    async fn references(
        &self,
        session: &Session,
        targets: &[OwnedEventId],
        extent: Extent<'_>,
    ) -> Result<HashMap<OwnedEventId, Vec<Arc<TimelineEvent>>>> {
        let references = self.database.references(targets, extent, MAX_REFERENCES);
        let pairs = references.await?;
        let mut references: HashMap<_, Vec<_>> = HashMap::new();
        if pairs.is_empty() {
            return Ok(references);
        }
        let ignored = self.ignored_by(session).await?;
        let positions: Vec<i64> = pairs.iter().map(|(_, position)| *position).collect();
        let events = self.events.at(&positions).await?;
        let events: HashMap<i64, _> = events
            .into_iter()
            .map(|event| (event.position, event))
            .collect();
        for (target, position) in pairs.into_iter().rev() {
            if let Some(event) = events.get(&position).filter(|event| !ignored.hide(event)) {
                references.entry(target).or_default().push(event.clone());
            }
        }
        Ok(references)
    }

    async fn threads(
        &self,
        session: &Session,
        parts: Vec<ThreadPart>,
    ) -> Result<HashMap<OwnedEventId, Thread>> {
        let ignored = self.ignored_by(session).await?;
        let mut sums: BTreeMap<OwnedEventId, (i64, i64, bool)> = BTreeMap::new();
        for part in parts {
            let sender = OwnedUserId::try_from(part.sender.as_str());
            if sender.is_ok_and(|sender| ignored.contains(&sender)) {
                continue;
            }
            let sum = sums.entry(part.root).or_insert((0, i64::MIN, false));
            let (count, newest, participated) = sum;
            *count += part.count;
            *newest = part.newest.max(*newest);
            *participated |= part.sender == session.user_id.as_str();
        }
        let positions: Vec<i64> = sums.values().map(|(_, newest, _)| *newest).collect();
        let events = self.events.at(&positions).await?;
        let thread = |(root, (count, newest, participated))| {
            let latest = events.iter().find(|event| event.position == newest)?;
            let latest = latest.clone();
            Some((
                root,
                Thread {
                    latest,
                    count,
                    participated,
                },
            ))
        };
        Ok(sums.into_iter().filter_map(thread).collect())
    }

    /// Nobody says the same of an event twice, and what relates to another event begins no thread.
    pub(super) async fn check_relation(
        &self,
        session: &Session,
        room: &Room,
        event_type: &str,
        content: &str,
    ) -> Result<()> {
        let Some(relation) = Relation::of_content(content) else {
            return Ok(());
        };
        let key = match (relation.rel_type.as_str(), &relation.key) {
            ("m.annotation", Some(key)) => key,
            ("m.thread", _) => return Box::pin(self.check_thread(room, &relation.target)).await,
            _ => return Ok(()),
        };
        let (target, user_nid) = (&relation.target, session.user_nid);
        let known = self
            .database
            .has_annotation(room.nid(), target, user_nid, event_type, key);
        if Box::pin(known).await? {
            return Err(EngineError::refused(
                ErrorKind::DuplicateAnnotation,
                "you have said the same of this event before",
            ));
        }
        Ok(())
    }

    /// <https://spec.matrix.org/v1.19/client-server-api/#validation-of-mthread-relationships>
    async fn check_thread(&self, room: &Room, root: &EventId) -> Result<()> {
        let row = self.database.event(root).await?;
        let Some(row) = row.filter(|row| row.room_nid == room.nid()) else {
            // Of another server, maybe, and still to come.
            return Ok(());
        };
        let root = TimelineEvent::from_row(row)?;
        if Relation::of_content(root.content()).is_some() {
            return Err(EngineError::unknown(
                "an event that relates to another can't begin a thread",
            ));
        }
        Ok(())
    }
}
