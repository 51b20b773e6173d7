//! The indexer.

use std::{sync::Arc, time::Duration};

use parley_protocol::Pdu;
use parley_storage::{Database, events::EventRow, search::Searchable};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::{Result, background::Background, rooms::registry::redacted_event, stream::Stream};

/// How often new events are taken up if nobody searches.
const PERIOD: Duration = Duration::from_secs(1);
/// Events that are taken up in one transaction.
const BATCH: i64 = 1_000;
/// How long a search waits for the indexer, which has much to do when it first comes to a database.
const PATIENCE: Duration = Duration::from_secs(5);
/// How far the index may be behind, on disk, of a stretch in which there was nothing to take up.
const UNNOTED: i64 = 10_000;

/// How far the indexer has come.
#[derive(Debug, Default)]
struct Progress {
    /// By what is stored.
    stored: i64,
    /// By what it has looked at, some of which held nothing to take up.
    looked_at: i64,
}

/// Takes up the texts of new events.
#[derive(Debug)]
pub(crate) struct SearchIndex {
    database: Database,
    stream: Arc<Stream>,
    /// `None` until it is read.
    progress: Mutex<Option<Progress>>,
}

impl SearchIndex {
    /// Starts to follow the stream.
    pub(crate) fn start(
        database: &Database,
        stream: &Arc<Stream>,
        background: &Background,
    ) -> Arc<Self> {
        let index = Arc::new(Self {
            database: database.clone(),
            stream: stream.clone(),
            progress: Mutex::default(),
        });
        let following = index.clone();
        background.every(PERIOD, move || {
            let index = following.clone();
            async move {
                if let Err(error) = index.catch_up().await {
                    tracing::warn!(%error, "new events can't be taken into the search index");
                }
            }
        });
        index
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
                    let stored = self.database.search_progress().await?;
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
            let (texts, gone) = self.read(&rows).await?;
            let has_news = !(texts.is_empty() && gone.is_empty());
            if has_news || reached - at.stored > UNNOTED {
                if !self.database.index(at.stored, reached, texts, gone).await? {
                    // Another node was first.
                    *progress = None;
                    continue;
                }
                at.stored = reached;
            }
            at.looked_at = reached;
        }
    }

    /// The texts of events, and the positions of the events that they redact.
    async fn read(&self, rows: &[EventRow]) -> Result<(Vec<Searchable>, Vec<i64>)> {
        let mut gone = Vec::new();
        for target in rows.iter().filter_map(redacted_event) {
            let place = self.database.event_place(&target).await?;
            gone.extend(place.map(|(_, position)| position));
        }
        Ok((rows.iter().filter_map(text_of).collect(), gone))
    }
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
