//! People wait in one room for messages: how soon each message reaches each of them, and whether it does so
//! exactly once.

mod ledger;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};

use self::ledger::Ledger;
use super::sync_path;
use crate::{
    answers::{self, Sync},
    bench::{Bench, User},
    http::{Client, Failure, escape},
    latency::Latencies,
    measure::{Meter, Patience, Recorder},
    options::Name,
    report::{Figure, Outcome, Title},
};

/// How long a poll waits, as clients have it.
const WAIT: Duration = Duration::from_secs(30);

/// Between the starts of two polls.
const STAGGER: Duration = Duration::from_millis(2);

/// Servers cap the length of a timeline; more than this would be left out of one answer.
const TIMELINE: usize = 100;

/// Somebody who waits.
struct Poller {
    number: usize,
    client: Client,
    user: User,
    room: Arc<str>,
    /// Escaped.
    filter: Arc<str>,
    since: String,
    ledger: Arc<Mutex<Ledger>>,
    recorder: Recorder,
}

/// Sends messages at a steady pace while the pollers wait.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let options = &bench.options.long_poll;
    let mut users = bench.make_users(options.pollers + 1).await?;
    let sender = users.remove(0);
    let room: Arc<str> = bench
        .make_room(&mut bench.target.client(), &sender)
        .await?
        .into();
    bench.join_all(&room, &users).await?;

    let ledger = Arc::new(Mutex::new(Ledger::new(
        options.pollers,
        options.poll_messages,
    )));
    let recorder = Recorder::from_now()?;
    let pollers = start_polling(bench, users, &room, &ledger, &recorder).await?;
    bench.settle().await;

    bench.say("measuring");
    let meter = Meter::start(&bench.watched)?;
    let sending = send_steadily(bench, &sender, &room, &ledger, &recorder).await?;
    wait_for_arrivals(&ledger, options.poll_grace).await;
    let reading = meter.read()?;
    check_pollers(pollers).await?;

    let tally = recorder.tally();
    let parameters = [
        ("pollers", Value::from(options.pollers)),
        ("messages", options.poll_messages.into()),
        ("messages_per_second", options.poll_rate.into()),
    ];
    if tally.operations == 0 {
        bail!("no message arrived; errors: {:?}", tally.errors);
    }
    let title = Title::new(Name::LongPoll, "delivery", parameters);
    let mut outcome = Outcome::new(bench, title, &tally, reading)?;
    report(&mut outcome, &lock(&ledger), &sending);
    Ok(outcome)
}

fn report(outcome: &mut Outcome, ledger: &Ledger, sending: &Latencies) {
    // The pace is the load program's, not the server's.
    outcome.rate_per_second = None;
    if let Some(summary) = sending.summary() {
        outcome.figures.push(Figure::less(
            "answer to the sender p50",
            summary.p50_ms,
            "ms",
        ));
    }
    let (missed, duplicated) = (ledger.missed(), ledger.duplicated());
    outcome
        .figures
        .push(Figure::less("missed", missed as f64, ""));
    outcome
        .figures
        .push(Figure::less("duplicated", duplicated as f64, ""));
    outcome
        .figures
        .push(Figure::fact("polls answered", ledger.polls as f64, ""));
    if missed > 0 {
        outcome.problems.push(format!(
            "{missed} deliveries of messages that the server acknowledged never came"
        ));
    }
    if duplicated > 0 {
        outcome
            .problems
            .push(format!("{duplicated} deliveries came more than once"));
    }
    if ledger.gaps > 0 {
        let gaps = ledger.gaps;
        outcome.problems.push(format!(
            "{gaps} answers were so late that they left messages out ('limited')"
        ));
    }
}

/// Lets everybody synchronise once and then wait.
async fn start_polling(
    bench: &Bench,
    users: Vec<User>,
    room: &Arc<str>,
    ledger: &Arc<Mutex<Ledger>>,
    recorder: &Recorder,
) -> Result<JoinSet<Result<()>>> {
    let filter = json!({ "room": {
        "timeline": { "limit": TIMELINE },
        "state": { "lazy_load_members": true },
    }});
    let filter: Arc<str> = escape(&filter.to_string()).into();
    let target = bench.target.with_timeout(bench.options.timeout + WAIT);
    let pollers = bench
        .in_parallel(
            "first /sync of each",
            bench.options.preparing,
            users.into_iter().enumerate(),
            {
                async |_: &mut Client, (number, user): (usize, User)| {
                    let mut poller = Poller {
                        number,
                        client: target.client(),
                        user,
                        room: Arc::clone(room),
                        filter: Arc::clone(&filter),
                        since: String::new(),
                        ledger: Arc::clone(ledger),
                        recorder: recorder.clone(),
                    };
                    poller.first_sync().await?;
                    Ok(poller)
                }
            },
        )
        .await?;
    let mut polling = JoinSet::new();
    for poller in pollers {
        polling.spawn(poller.keep_polling());
        tokio::time::sleep(STAGGER).await;
    }
    Ok(polling)
}

/// Sends one message after the other at the wanted rate and gives how long the answers took. If an answer takes
/// longer than the time between two messages, those that are late follow at once.
async fn send_steadily(
    bench: &Bench,
    sender: &User,
    room: &str,
    ledger: &Mutex<Ledger>,
    recorder: &Recorder,
) -> Result<Latencies> {
    let options = &bench.options.long_poll;
    let mut client = bench.target.client();
    let mut latencies = Latencies::new()?;
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / options.poll_rate));
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0..options.poll_messages {
        pace.tick().await;
        let begun = Instant::now();
        lock(ledger).sent(number, begun);
        match crate::bench::send_message(&mut client, sender, room, number).await {
            Ok(()) => latencies.record(begun.elapsed()),
            Err(error) => {
                lock(ledger).not_acknowledged(number);
                recorder.failure(error.downcast_ref::<Failure>().unwrap_or(&Failure::Timeout));
            }
        }
    }
    Ok(latencies)
}

async fn wait_for_arrivals(ledger: &Mutex<Ledger>, grace: Duration) {
    let deadline = Instant::now() + grace;
    while lock(ledger).missed() > 0 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Stops the pollers; an error if one had an answer that it could not understand.
async fn check_pollers(mut pollers: JoinSet<Result<()>>) -> Result<()> {
    pollers.abort_all();
    while let Some(ended) = pollers.join_next().await {
        match ended {
            Ok(result) => result?,
            Err(stopped) if stopped.is_cancelled() => {}
            Err(panicked) => return Err(panicked).context("a task of the load program failed"),
        }
    }
    Ok(())
}

impl Poller {
    async fn first_sync(&mut self) -> Result<()> {
        let path = sync_path(None, Duration::ZERO, &self.filter);
        let answer = self.client.get(Some(&self.user.token), path).await?;
        self.since = answers::read::<Sync<'_>>(&answer, "GET /sync")?
            .next_batch
            .into_owned();
        Ok(())
    }

    async fn keep_polling(mut self) -> Result<()> {
        let mut patience = Patience::default();
        loop {
            let path = sync_path(Some(&self.since), WAIT, &self.filter);
            match self.client.get(Some(&self.user.token), path).await {
                Ok(answer) => {
                    patience.success();
                    let sync: Sync<'_> = answers::read(&answer, "GET /sync")?;
                    self.note(&sync);
                    self.since.clear();
                    self.since.push_str(&sync.next_batch);
                }
                Err(failure) => {
                    self.recorder.failure(&failure);
                    if patience.is_lost() {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn note(&self, sync: &Sync<'_>) {
        let mut ledger = lock(&self.ledger);
        ledger.polls += 1;
        ledger.gaps += u64::from(sync.is_limited(&self.room));
        for number in sync.numbers(&self.room) {
            if let Some(sent) = ledger.arrived(self.number, number) {
                self.recorder.success(sent, 1);
            }
        }
    }
}

/// An entry of the ledger is complete whenever the lock is released, also by a panic.
fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
