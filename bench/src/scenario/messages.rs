//! Paging back through a room's history: `GET /rooms/{roomId}/messages?dir=b`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use http::HeaderValue;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    answers::{self, Page},
    bench::Bench,
    http::{Client, Failure, escape},
    measure::{Patience, Recorder, under_load},
    options::Name,
    report::{Figure, Outcome, Title},
};

/// What the readers found, beside how fast.
#[derive(Debug, Default)]
struct Walks {
    /// From the newest event to the end of the history.
    complete: AtomicU64,
    /// Those of them that held fewer events than were sent.
    short: AtomicU64,
    /// Answers that could not be understood.
    unreadable: AtomicU64,
}

/// A reader with its place in the history.
struct Reader {
    client: Client,
    token: HeaderValue,
    /// The path but for `from`.
    path: String,
    from: Option<String>,
    /// Events seen on this walk.
    seen: usize,
}

/// Some readers, each from the newest event to the oldest and over again.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let options = &bench.options.messages;
    let users = bench.make_users(options.readers).await?;
    let room = bench
        .make_room(&mut bench.target.client(), &users[0])
        .await?;
    bench.join_all(&room, &users[1..]).await?;
    bench.fill_room(&room, &users[0], options.history).await?;

    let parameters = [
        ("history", Value::from(options.history)),
        ("readers", options.readers.into()),
        ("page", options.page.into()),
        (
            "duration_seconds",
            bench.options.send.duration.as_secs_f64().into(),
        ),
    ];
    let walks = Arc::new(Walks::default());
    let recorder = Recorder::after_warm_up(bench)?;
    let path = format!(
        "/_matrix/client/v3/rooms/{}/messages?dir=b&limit={}",
        escape(&room),
        options.page
    );
    let tasks = users.into_iter().map(|user| {
        let client = bench.target.client();
        let reader = Reader {
            client,
            token: user.token,
            path: path.clone(),
            from: None,
            seen: 0,
        };
        reader.keep_reading(options.history, Arc::clone(&walks), recorder.clone())
    });
    let title = Title::new(Name::Messages, "event read", parameters);
    let mut outcome = under_load(bench, title, &recorder, tasks).await?;
    walks.report(&mut outcome);
    Ok(outcome)
}

impl Reader {
    async fn keep_reading(mut self, history: usize, walks: Arc<Walks>, recorder: Recorder) {
        let mut patience = Patience::default();
        while !recorder.is_over() {
            let begun = Instant::now();
            match self.read_page(history, &walks).await {
                Ok(events) => {
                    patience.success();
                    recorder.success(begun, events);
                }
                Err(failure) => {
                    recorder.failure(&failure);
                    if patience.is_lost() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads the next page and gives the number of its events.
    async fn read_page(&mut self, history: usize, walks: &Walks) -> Result<u64, Failure> {
        let path = match &self.from {
            Some(from) => format!("{}&from={}", self.path, escape(from)),
            None => self.path.clone(),
        };
        let answer = self.client.get(Some(&self.token), path).await?;
        let Ok(page) = answers::read::<Page<'_>>(&answer, "GET /messages") else {
            walks.unreadable.fetch_add(1, Ordering::Relaxed);
            self.from = None;
            return Ok(0);
        };
        let events = page.chunk.0;
        self.seen += events;
        match page.end {
            Some(end) if events > 0 && end != page.start => self.from = Some(end.into_owned()),
            _ => {
                walks.complete.fetch_add(1, Ordering::Relaxed);
                walks
                    .short
                    .fetch_add(u64::from(self.seen < history), Ordering::Relaxed);
                (self.from, self.seen) = (None, 0);
            }
        }
        Ok(events as u64)
    }
}

impl Walks {
    fn report(&self, outcome: &mut Outcome) {
        let complete = self.complete.load(Ordering::Relaxed);
        outcome.figures.push(Figure::fact(
            "walks through the whole history",
            complete as f64,
            "",
        ));
        let mut problem = |count: &AtomicU64, what: &str| {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                outcome.problems.push(format!("{count} {what}"));
            }
        };
        problem(
            &self.short,
            "walks through the history ended before its first message",
        );
        problem(
            &self.unreadable,
            "answers were not as the specification says",
        );
    }
}
