//! The one writer of everything durable that clients see.
//!
//! Requests queue what they want written; the committer takes all that is queued, commits it in one transaction,
//! publishes it and answers. While it commits, the next group gathers.

use std::{sync::Arc, time::Duration};

use parley_storage::{
    Database, StorageError,
    commit::{Commit, Committed, Outcome, Write},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{Stream, feeds::Feeds, observer::Observers};
use crate::{
    EngineError, Result,
    background::Background,
    rooms::{
        edit::{Rewritten, RoomPublication},
        registry::Registry,
        room::Room,
        state::RoomState,
        timeline::{Events, TimelineEvent},
    },
};

/// Writes that may wait. More senders than that wait before they build.
const QUEUE: usize = 4_096;
/// Writes that go into one transaction.
const GROUP: usize = 512;
/// How long a commit is held up for writers that another node has overtaken.
const REBUILDING: Duration = Duration::from_millis(200);

/// How a write ends that was not made.
#[derive(Debug)]
pub enum NotCommitted {
    /// What it was built on is no longer the newest. Build it again.
    Rebuild,
    /// The database refused or failed.
    Failed(Arc<StorageError>),
}

impl From<NotCommitted> for EngineError {
    fn from(reason: NotCommitted) -> Self {
        match reason {
            NotCommitted::Rebuild => {
                Self::Internal("what it is built on changed too often meanwhile".to_owned())
            }
            NotCommitted::Failed(error) if error.is_duplicate() => Self::Duplicate,
            NotCommitted::Failed(error) => Self::NotStored(error),
        }
    }
}

/// A write with what is to be published once it is durable.
#[derive(Debug)]
struct Queued {
    write: Write,
    rooms: Vec<RoomPublication>,
    done: oneshot::Sender<Result<(), NotCommitted>>,
}

impl Queued {
    /// Whether everything that it was built on still stands.
    fn is_current(&self) -> bool {
        self.rooms.iter().all(RoomPublication::is_current)
    }

    fn invalidate(&self) {
        for publication in &self.rooms {
            publication.room.invalidate();
        }
    }
}

/// Takes writes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Committer {
    queue: mpsc::Sender<Queued>,
}

/// A place in the queue. Holding one, a write can be queued without waiting: while a room's lock is held.
#[derive(Debug)]
pub struct Permit<'a>(mpsc::Permit<'a, Queued>);

/// A write that is queued.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Result<(), NotCommitted>>);

impl Committer {
    /// Starts the task that commits. When the engine stops, it commits what is queued and ends.
    pub fn start(
        database: Database,
        stream: Arc<Stream>,
        feeds: Arc<Feeds>,
        registry: Arc<Registry>,
        events: Arc<Events>,
        observers: Observers,
        background: &Background,
    ) -> Self {
        let (queue, receiver) = mpsc::channel(QUEUE);
        let stored = watch::Sender::new(stream.position());
        let stopping = background.stopping();
        let worker = Worker {
            database: database.clone(),
            stream,
            feeds,
            registry,
            events,
            observers,
        };
        background.spawn(worker.run(receiver, stored.subscribe(), stopping.clone()));
        background.spawn(follow(database, stored, stopping.clone()));
        Self { queue }
    }

    /// Waits for a place in the queue.
    ///
    /// # Errors
    /// If the server is stopping.
    pub async fn reserve(&self) -> Result<Permit<'_>> {
        let permit = self.queue.reserve().await;
        permit
            .map(Permit)
            .map_err(|_| EngineError::Internal("the server is stopping".to_owned()))
    }

    /// Commits what concerns no room's head: account data, receipts.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn commit(&self, write: Write) -> Result<()> {
        Ok(self
            .reserve()
            .await?
            .queue(write, Vec::new())
            .committed()
            .await?)
    }
}

impl Permit<'_> {
    /// Queues a write. It will be committed even if nobody waits for it.
    pub fn queue(self, write: Write, rooms: Vec<RoomPublication>) -> Pending {
        let (done, pending) = oneshot::channel();
        self.0.send(Queued { write, rooms, done });
        Pending(pending)
    }
}

impl Pending {
    /// Waits until it is durable and published.
    ///
    /// # Errors
    /// If it was not made.
    pub async fn committed(self) -> Result<(), NotCommitted> {
        match self.0.await {
            Ok(result) => result,
            Err(_) => Err(NotCommitted::Failed(Arc::new(StorageError::Corrupt(
                "the committer is gone".to_owned(),
            )))),
        }
    }
}

/// What the task that commits works with.
#[derive(Debug)]
struct Worker {
    database: Database,
    stream: Arc<Stream>,
    feeds: Arc<Feeds>,
    registry: Arc<Registry>,
    events: Arc<Events>,
    observers: Observers,
}

impl Worker {
    async fn run(
        self,
        mut queue: mpsc::Receiver<Queued>,
        mut stored: watch::Receiver<i64>,
        stopping: CancellationToken,
    ) {
        let mut group = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut group, GROUP) => if count == 0 { return },
                Ok(()) = stored.changed() => {
                    let to = *stored.borrow_and_update();
                    super::follower::publish_stored(&self.parts(), to).await;
                    continue;
                }
                () = stopping.cancelled() => {
                    // Nothing new is taken, and what was promised is kept.
                    queue.close();
                    while queue.recv_many(&mut group, GROUP).await > 0 {
                        self.commit_group(std::mem::take(&mut group), &mut queue).await;
                    }
                    return;
                }
            }
            self.commit_group(std::mem::take(&mut group), &mut queue)
                .await;
        }
    }

    /// Commits a group. If one of it is a duplicate of something, or can't be stored for what it says, so that the whole
    /// fails, each half is tried by itself, until that one is alone: it doesn't take the others with it, nor cost a commit
    /// for each of them.
    async fn commit_group(&self, group: Vec<Queued>, queue: &mut mpsc::Receiver<Queued>) {
        let mut group = drop_outdated(group);
        if group.is_empty() {
            return;
        }
        metrics::histogram!("parley_commit_writes").record(group.len() as f64);
        match self.commit(&mut group, queue).await {
            Ok(committed) => self.publish(group, committed).await,
            Err(error) if group.len() == 1 || !error.is_of_values() => {
                tracing::error!(%error, writes = group.len(), "a commit failed; nothing of it was made");
                metrics::counter!("parley_commit_failures_total").increment(1);
                fail(group, error);
            }
            Err(_) => {
                let rest = group.split_off(group.len() / 2);
                Box::pin(self.commit_group(group, queue)).await;
                Box::pin(self.commit_group(rest, queue)).await;
            }
        }
    }

    /// Makes the group durable. Writes that another node has overtaken are given back to their writers, who build them
    /// anew and queue them again; they get their turn before the other node does, or it could overtake them for ever.
    async fn commit(
        &self,
        group: &mut Vec<Queued>,
        queue: &mut mpsc::Receiver<Queued>,
    ) -> Result<Committed, StorageError> {
        let forgets_left = self.feeds.forgets_left;
        let commit = self.database.begin_commit().await?;
        let mut commit = commit.forgets_left(forgets_left);
        let overtaken = add(&mut commit, group, 0).await?;
        if overtaken > 0 {
            let count = group.len();
            group.extend(drop_outdated(rebuilt(queue, overtaken).await));
            add(&mut commit, group, count).await?;
        }
        commit.finish().await
    }

    async fn publish(&self, group: Vec<Queued>, committed: Committed) {
        if committed.before > self.stream.position() {
            // Another node wrote before this group did; its changes come first.
            let to = committed.before;
            super::follower::publish_stored(&self.parts(), to).await;
        }
        let mut answers = Vec::with_capacity(group.len());
        let mut noted = super::feeds::Noted::default();
        for queued in group {
            for publication in &queued.rooms {
                self.publish_room(publication, &mut noted).await;
            }
            self.publish_user_streams(&queued.write);
            noted.add_write(&queued.write, &queued.rooms);
            answers.push(queued.done);
        }
        self.feeds.note(&noted, committed.to);
        self.stream.advance(committed.to);
        self.feeds.wake(&noted);
        for done in answers {
            // Whoever asked may have gone meanwhile.
            let _ = done.send(Ok(()));
        }
    }

    fn publish_user_streams(&self, write: &Write) {
        for receipt in &write.receipts {
            self.observers.receipt(receipt.into());
        }
        for data in &write.account_data {
            self.observers
                .account_data(data.user_nid, data.room_nid, &data.event_type);
        }
    }

    async fn publish_room(&self, publication: &RoomPublication, noted: &mut super::feeds::Noted) {
        let room = &publication.room;
        if publication.is_new {
            self.registry.numbered(room);
        }
        let mut events = Vec::with_capacity(publication.events.len());
        for entry in &publication.events {
            match TimelineEvent::from_new(room, &entry.event, entry.replaced.as_deref()) {
                Ok(event) => events.push(Arc::new(event)),
                Err(error) => tracing::error!(%error, "a committed event can't be shown"),
            }
        }
        for number in &publication.redacted {
            self.redacted(room, *number).await;
        }
        if let Some(members) = &publication.members {
            room.set_members(members.clone());
        }
        room.publish(&events, publication.state.clone());
        if events.is_empty()
            && publication.rewritten.is_none()
            && let Some(state) = publication.state.clone()
        {
            room.publish_state(state);
        }
        if let Some(rewritten) = &publication.rewritten {
            self.publish_rewritten(room, rewritten, publication.state.as_ref(), noted);
        }
        events
            .iter()
            .for_each(|event| self.observers.event(room, event));
        noted.add_events(room.nid(), room.id(), &publication.events);
    }

    /// Takes over what changed of events that were stored before.
    fn publish_rewritten(
        &self,
        room: &Room,
        rewritten: &Rewritten,
        state: Option<&Arc<RoomState>>,
        noted: &mut super::feeds::Noted,
    ) {
        self.registry.note_completion();
        room.take_out(&rewritten.rejected);
        for position in &rewritten.rejected {
            self.events.forget(*position);
        }
        let Some((completion, state)) = rewritten.completion.as_ref().zip(state) else {
            return;
        };
        let position = completion.position.get();
        room.publish_complete(state.clone(), position, completion.is_apart);
        noted.add_event(room.nid(), position);
        noted.add_settled(room, &completion.settled, position);
    }

    /// Has the memory forget what a redacted event said.
    async fn redacted(&self, room: &crate::rooms::room::Room, target: i64) {
        self.events.forget(target);
        match self.events.at(&[target]).await {
            Ok(events) => events.iter().for_each(|event| {
                self.events.forget_replacing(event);
                room.replace_recent(event);
            }),
            Err(error) => tracing::error!(%error, "a redacted event can't be read"),
        }
    }

    fn parts(&self) -> super::follower::Parts<'_> {
        super::follower::Parts {
            database: &self.database,
            stream: &self.stream,
            feeds: &self.feeds,
            registry: &self.registry,
            events: &self.events,
            observers: &self.observers,
        }
    }
}

/// Tells the committer how far other nodes have come.
async fn follow(database: Database, stored: watch::Sender<i64>, stopping: CancellationToken) {
    const RETRY: Duration = Duration::from_secs(1);
    let mut notifications = None;
    loop {
        let heard = async {
            if notifications.is_none() {
                notifications = database.notifications().await?;
            }
            match &mut notifications {
                Some(notifications) => notifications.next().await.map(Some),
                None => Ok(None),
            }
        };
        match stopping.run_until_cancelled(heard).await {
            None | Some(Ok(None)) => return,
            Some(Ok(Some(position))) => {
                stored.send_replace(position);
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "can't hear what other nodes write; trying again");
                notifications = None;
                if stopping
                    .run_until_cancelled(tokio::time::sleep(RETRY))
                    .await
                    .is_none()
                {
                    return;
                }
            }
        }
    }
}

/// Adds the part of the group from `first` on to a commit. What another node has overtaken is taken out of the group
/// and given back to its writers; how many those of rooms are is returned. Of what is a user's own nothing is written so
/// often that it could be overtaken for ever.
async fn add(
    commit: &mut Commit,
    group: &mut Vec<Queued>,
    first: usize,
) -> Result<usize, StorageError> {
    let new = group.split_off(first);
    let writes: Vec<&Write> = new.iter().map(|queued| &queued.write).collect();
    let outcomes = match commit.add(&writes).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            group.extend(new);
            return Err(error);
        }
    };
    let mut overtaken = 0;
    for (queued, outcome) in new.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Committed => group.push(queued),
            Outcome::Outdated => {
                overtaken += usize::from(!queued.rooms.is_empty());
                queued.invalidate();
                let _ = queued.done.send(Err(NotCommitted::Rebuild));
            }
        }
    }
    Ok(overtaken)
}

/// The next `count` writes, as far as they come soon.
async fn rebuilt(queue: &mut mpsc::Receiver<Queued>, count: usize) -> Vec<Queued> {
    let deadline = tokio::time::Instant::now() + REBUILDING;
    let mut rebuilt = Vec::with_capacity(count);
    while rebuilt.len() < count {
        match tokio::time::timeout_at(deadline, queue.recv()).await {
            Ok(Some(queued)) => rebuilt.push(queued),
            Ok(None) | Err(_) => break,
        }
    }
    rebuilt
}

/// Answers those whose room was invalidated after they were built, and gives the others.
fn drop_outdated(group: Vec<Queued>) -> Vec<Queued> {
    let (current, outdated): (Vec<_>, Vec<_>) = group.into_iter().partition(Queued::is_current);
    for queued in outdated {
        let _ = queued.done.send(Err(NotCommitted::Rebuild));
    }
    current
}

/// Makes void what the group was part of, and tells everyone who waits.
fn fail(group: Vec<Queued>, error: StorageError) {
    let error = Arc::new(error);
    for queued in group {
        queued.invalidate();
        let _ = queued.done.send(Err(NotCommitted::Failed(error.clone())));
    }
}
