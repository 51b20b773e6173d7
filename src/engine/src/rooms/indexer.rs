//! The indexer: follows the stream and takes up the texts and times of new events, and how users of other servers are called,
//! many at a time, so that senders don't pay for what is asked for rarely.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use parley_protocol::Pdu;
use parley_storage::{Database, events::EventRow, indexing::IndexNews, search::Searchable};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{
    Result, background::Background, rooms::registry::redacted_event, stream::Stream,
    user_directory::Others,
};

/// How often new events are taken up if nobody asks for them.
const PERIOD: Duration = Duration::from_secs(1);
/// Events that are taken up in one transaction.
const BATCH: i64 = 1_000;
/// How long a request waits for the indexer, which has much to do when it first comes to a database.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far what is indexed may be behind, on disk, of a stretch in which there was nothing to take up.
const UNNOTED: i64 = 10_000;
/// How far the stream moves on in a [`PERIOD`] when there is much to do.
const BUSY: i64 = 2_000;
/// How far the indexer lets the stream go ahead as long as there is much to do. SQLite has one writer, and senders come first.
const BACKLOG: i64 = 50_000;

/// How far the indexer has come.
#[derive(Debug, Default)]
struct Progress {
    /// By what is stored.
    stored: i64,
    /// By what it has looked at, some of which held nothing to take up.
    looked_at: i64,
}

/// Takes up the times and texts of new events.
#[derive(Debug)]
pub(crate) struct Indexer {
    database: Database,
    stream: Arc<Stream>,
    others: Others,
    /// `None` until it is read.
    progress: Mutex<Option<Progress>>,
    /// Where the stream was when the indexer last looked by itself.
    seen: AtomicI64,
}

impl Indexer {
    /// Starts to follow the stream.
    pub(crate) fn start(
        database: &Database,
        stream: &Arc<Stream>,
        others: Others,
        background: &Background,
    ) -> Arc<Self> {
        let indexer = Arc::new(Self {
            database: database.clone(),
            stream: stream.clone(),
            others,
            progress: Mutex::default(),
            seen: AtomicI64::new(stream.position()),
        });
        let following = indexer.clone();
        background.every(PERIOD, move || {
            let indexer = following.clone();
            async move {
                if let Err(error) = indexer.catch_up_in_quiet().await {
                    tracing::warn!(%error, "new events can't be indexed");
                }
            }
        });
        indexer
    }

    /// Waits until everything that is published by now is taken up, but not for long; up to which position that is.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn ready(&self) -> Result<i64> {
        match tokio::time::timeout(PATIENCE, self.catch_up()).await {
            Ok(reached) => reached,
            Err(_) => Ok(self.stream.position()),
        }
    }

    /// Takes up what is new, unless senders have much to do just now.
    async fn catch_up_in_quiet(&self) -> Result<()> {
        let now = self.stream.position();
        let before = self.seen.swap(now, Ordering::Relaxed);
        let indexed = match &*self.progress.lock().await {
            Some(progress) => progress.looked_at,
            None => self.database.indexed_position().await?,
        };
        if !should_wait(indexed, before, now) {
            self.catch_up().await?;
        }
        Ok(())
    }

    /// Takes up everything that is published by now; up to which position that is.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn catch_up(&self) -> Result<i64> {
        let to = self.stream.position();
        let mut progress = self.progress.lock().await;
        loop {
            let at = match &mut *progress {
                Some(at) => at,
                None => {
                    let stored = self.database.indexed_position().await?;
                    progress.insert(Progress {
                        stored,
                        looked_at: stored,
                    })
                }
            };
            if at.looked_at >= to {
                return Ok(to);
            }
            let rows = self
                .database
                .events_between(at.looked_at, to, BATCH)
                .await?;
            let reached = match rows.last() {
                Some(last) if rows.len() as i64 == BATCH => last.position,
                _ => to,
            };
            self.others.take_up(&rows, at.looked_at, reached).await?;
            if !rows.is_empty() || reached - at.stored > UNNOTED {
                let news = self.read(&rows).await?;
                if !self.database.index(at.stored, reached, news).await? {
                    // Another node was first.
                    *progress = None;
                    continue;
                }
                at.stored = reached;
            }
            at.looked_at = reached;
        }
    }

    /// What is to be indexed of the texts of events.
    async fn read(&self, rows: &[EventRow]) -> Result<IndexNews> {
        let mut gone = Vec::new();
        for target in rows.iter().filter_map(redacted_event) {
            let place = self.database.event_place(&target).await?;
            gone.extend(place.map(|(_, position)| position));
        }
        Ok(IndexNews {
            texts: rows.iter().filter_map(text_of).collect(),
            gone,
        })
    }
}

/// Whether the indexer, which has come to `indexed`, leaves the disk to senders, as the stream moved from `before` to `now`
/// in a [`PERIOD`].
fn should_wait(indexed: i64, before: i64, now: i64) -> bool {
    now - before > BUSY && now - indexed < BACKLOG
}

/// What can be found of an event.
fn text_of(row: &EventRow) -> Option<Searchable> {
    #[derive(Deserialize)]
    struct Content {
        body: Option<String>,
        name: Option<String>,
        topic: Option<String>,
    }
    if row.redacted_by.is_some() {
        return None;
    }
    let event = Pdu::parse(row.event_id.clone(), &row.json).ok()?;
    let event_type = event.fields.event_type.to_string();
    let content = || event.content_as::<Content>().ok();
    let (kind, text) = match event_type.as_str() {
        "m.room.message" => ("body", content()?.body?),
        "m.room.name" => ("name", content()?.name?),
        "m.room.topic" => ("topic", content()?.topic?),
        _ => return None,
    };
    let words = words_of(&text).collect::<Vec<_>>().join(" ");
    (!words.is_empty()).then_some(Searchable {
        position: row.position,
        room_nid: row.room_nid,
        kind,
        words,
    })
}

/// The words of a text: letters and digits, as both databases know them.
pub(super) fn words_of(text: &str) -> impl Iterator<Item = &str> {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indexer_waits_while_much_is_sent_but_not_for_ever() {
        assert!(!should_wait(0, 100, 100), "nothing is sent");
        assert!(!should_wait(0, 0, BUSY), "little is sent");
        assert!(should_wait(0, 0, BUSY + 1));
        assert!(
            !should_wait(0, BACKLOG - BUSY, BACKLOG + 1),
            "too far behind"
        );
    }
}
