//! Telling other nodes what is fleeting: who types, who is present, whose session has ended, which server is reached.
//!
//! Nothing of it is stored, and a piece that gets lost does little harm: typing ends by itself, who is present is told
//! anew when a node starts or comes back, and a session is believed for seconds only. A node that hasn't been heard of for a while is taken to be gone, and those who
//! were present there with it.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use parley_storage::{Database, Engine as DatabaseEngine, notify::MAX_FLEETING_BYTES};
use ruma::{OwnedServerName, OwnedUserId, presence::PresenceState};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};

use crate::{Result, background::Background};

/// News that may wait to be told; beyond, they are left out.
const QUEUE: usize = 10_000;
/// News that are told at once, if they fit.
const BATCH: usize = 500;
/// How often a node says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// After which a node is taken to be gone.
const SILENCE: Duration = Duration::from_secs(35);
/// How long to wait before listening is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// What a letter takes beside its news.
const ENVELOPE: usize = 64;

/// What one node tells the others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    /// The node has just begun to listen: who is present?
    Hello,
    /// The node stops.
    Bye,
    /// Somebody types, or has stopped.
    Typing {
        room_nid: i64,
        user_id: OwnedUserId,
        /// For how long, in milliseconds; 0: they stopped.
        timeout: u64,
    },
    /// Access tokens were ended: their hashes, in base64.
    Ended { hashes: Vec<String> },
    /// A user has rate limits of their own, per second and at once, or the usual ones again.
    UserLimit {
        user_nid: i64,
        limit: Option<(u32, u32)>,
    },
    /// A user's account changed.
    Account { user_nid: i64 },
    /// Another server wasn't reached.
    ServerFailed { server: OwnedServerName },
    /// Another server that wasn't reached has spoken, or an administrator has said that it is to be tried.
    ServerReturned { server: OwnedServerName },
    /// What the devices that are connected to this node say of their user.
    Presence {
        user_id: OwnedUserId,
        user_nid: i64,
        presence: PresenceState,
        status_message: Option<String>,
        /// Milliseconds since the epoch.
        last_active_at: i64,
    },
}

/// What goes over the wire at once.
#[derive(Debug, Deserialize, Serialize)]
struct Letter {
    /// Which start of which node tells it.
    node: u32,
    news: Vec<News>,
}

/// Tells the other nodes. Cheap to clone. Where there can be no others it does nothing.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    queue: Option<mpsc::Sender<News>>,
}

/// What is to be told to the others.
#[derive(Debug)]
pub(crate) struct Outbox(Option<mpsc::Receiver<News>>);

/// Hears what other nodes tell.
pub(crate) trait Listener: fmt::Debug + Send + Sync {
    /// Takes in what the start `node` of a node told.
    fn heard(&self, node: u32, news: &News);

    /// That node is gone.
    fn gone(&self, node: u32);
}

impl Nodes {
    /// Tells the other nodes of the same database, if it can have more than one.
    pub(crate) fn new(database: &Database) -> (Self, Outbox) {
        if database.engine() == DatabaseEngine::Sqlite {
            return (Self { queue: None }, Outbox(None));
        }
        let (queue, receiver) = mpsc::channel(QUEUE);
        let nodes = Self { queue: Some(queue) };
        (nodes, Outbox(Some(receiver)))
    }

    /// Nobody to be told.
    pub(crate) fn none() -> Self {
        Self { queue: None }
    }

    /// Tells something, sometime soon.
    pub(crate) fn tell(&self, news: News) {
        if let Some(queue) = &self.queue
            && queue.try_send(news).is_err()
        {
            metrics::counter!("parley_untold_news_total").increment(1);
        }
    }
}

impl Outbox {
    /// Begins to tell and to listen.
    pub(crate) fn start(
        self,
        database: &Database,
        node: u32,
        listeners: Vec<Arc<dyn Listener>>,
        background: &Background,
    ) {
        let Some(queue) = self.0 else { return };
        let stopping = background.stopping().clone();
        let telling = tell(database.clone(), node, queue);
        let farewell = database.clone();
        background.spawn(async move {
            stopping.run_until_cancelled(telling).await;
            for text in letters(node, vec![News::Bye]) {
                if let Err(error) = farewell.tell_nodes(text).await {
                    tracing::debug!(%error, "the other nodes will find out by themselves that this one stops");
                }
            }
        });
        let stopping = background.stopping().clone();
        let listening = listen(database.clone(), node, listeners);
        background.spawn(async move {
            stopping.run_until_cancelled(listening).await;
        });
    }
}

async fn tell(database: Database, node: u32, mut queue: mpsc::Receiver<News>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let waited = tokio::time::timeout(HEARTBEAT, queue.recv_many(&mut batch, BATCH)).await;
        if waited == Ok(0) {
            return;
        }
        for text in letters(node, std::mem::take(&mut batch)) {
            if let Err(error) = database.tell_nodes(text).await {
                tracing::warn!(%error, "the other nodes can't be told who types and who is present");
            }
        }
    }
}

/// Puts news into letters that aren't too long; without news, one that just says that the node is there.
fn letters(node: u32, news: Vec<News>) -> Vec<String> {
    let mut letters = Vec::new();
    let mut begun = String::new();
    for piece in news {
        // It is a type of plain texts and numbers.
        let piece = serde_json::to_string(&piece).unwrap_or_default();
        if piece.len() + ENVELOPE > MAX_FLEETING_BYTES {
            continue;
        }
        if begun.len() + piece.len() + ENVELOPE > MAX_FLEETING_BYTES {
            letters.push(letter(node, &begun));
            begun.clear();
        }
        if !begun.is_empty() {
            begun.push(',');
        }
        begun.push_str(&piece);
    }
    if !begun.is_empty() || letters.is_empty() {
        letters.push(letter(node, &begun));
    }
    letters
}

fn letter(node: u32, news: &str) -> String {
    format!("{{\"node\":{node},\"news\":[{news}]}}")
}

async fn listen(database: Database, node: u32, listeners: Vec<Arc<dyn Listener>>) {
    let mut others = Others {
        own: node,
        heard: HashMap::new(),
        listeners,
    };
    loop {
        if let Err(error) = hear(&database, &mut others).await {
            tracing::warn!(%error, "can't hear who types and who is present at other nodes; trying again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Listens until that fails.
async fn hear(database: &Database, others: &mut Others) -> Result<()> {
    let Some(mut news) = database.fleeting_news().await? else {
        return Ok(());
    };
    ask(database, others.own).await?;
    loop {
        let heard = tokio::time::timeout(HEARTBEAT, news.next()).await;
        match heard {
            Ok(Ok(Some(text))) => others.take(&text),
            // What was told while the connection was lost is asked for.
            Ok(Ok(None)) => ask(database, others.own).await?,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => {}
        }
        others.drop_silent();
    }
}

async fn ask(database: &Database, node: u32) -> Result<()> {
    for text in letters(node, vec![News::Hello]) {
        database.tell_nodes(text).await?;
    }
    Ok(())
}

/// The other nodes.
#[derive(Debug)]
struct Others {
    own: u32,
    /// When each was last heard of.
    heard: HashMap<u32, Instant>,
    listeners: Vec<Arc<dyn Listener>>,
}

impl Others {
    fn take(&mut self, text: &str) {
        let letter: Letter = match serde_json::from_str(text) {
            Ok(letter) => letter,
            Err(error) => {
                // A node of another version may know more kinds of news.
                tracing::debug!(%error, "news of another node can't be read");
                return;
            }
        };
        if letter.node == self.own {
            return;
        }
        if letter.news.contains(&News::Bye) {
            self.heard.remove(&letter.node);
            let listeners = &self.listeners;
            return listeners
                .iter()
                .for_each(|listener| listener.gone(letter.node));
        }
        self.heard.insert(letter.node, Instant::now());
        for news in &letter.news {
            for listener in &self.listeners {
                listener.heard(letter.node, news);
            }
        }
    }

    fn drop_silent(&mut self) {
        let now = Instant::now();
        let listeners = &self.listeners;
        self.heard.retain(|node, heard| {
            let there = now.duration_since(*heard) < SILENCE;
            if !there {
                listeners.iter().for_each(|listener| listener.gone(*node));
            }
            there
        });
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;

    use super::*;

    fn typing(number: usize) -> News {
        News::Typing {
            room_nid: 1,
            user_id: owned_user_id!("@somebody:parley.test"),
            timeout: number as u64,
        }
    }

    #[test]
    fn news_are_put_into_as_few_letters_as_they_fit_in() {
        let news: Vec<News> = (0..300).map(typing).collect();
        let letters = letters(7, news.clone());
        assert!(letters.len() > 2 && letters.len() < 6);
        assert!(letters.iter().all(|text| text.len() <= MAX_FLEETING_BYTES));
        let read: Vec<News> = letters
            .iter()
            .flat_map(|text| serde_json::from_str::<Letter>(text).unwrap().news)
            .collect();
        assert_eq!(read, news);
    }

    #[test]
    fn a_letter_without_news_says_who_is_there() {
        let letters = letters(7, Vec::new());
        let letter: Letter = serde_json::from_str(&letters[0]).unwrap();
        assert_eq!((letters.len(), letter.node, letter.news.len()), (1, 7, 0));
    }
}
