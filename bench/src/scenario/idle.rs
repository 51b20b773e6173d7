//! Many clients wait in /sync while nothing happens: what a waiting client costs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;
use tokio::task::JoinSet;

use super::sync_path;
use crate::{
    answers::{self, Sync},
    bench::{Bench, User},
    http::{Client, Target, escape},
    measure::{Meter, Patience, Recorder},
    options::Name,
    process::Memory,
    report::{Figure, Outcome, Title},
};

/// Clients in a room, so that a waiting client waits for something.
const ROOM_SIZE: usize = 10;

/// How long a poll waits; longer than the scenario takes, unless the server answers earlier of its own.
const WAIT: Duration = Duration::from_secs(120);

/// Between the starts of two polls: 1,000 connections at one moment would test the listener's backlog.
const STAGGER: Duration = Duration::from_millis(2);

const FILTER: &str = r#"{"room":{"state":{"lazy_load_members":true}}}"#;

/// Clients in small rooms of their own.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let users = bench.make_users(bench.options.idle.idle_polls).await?;
    fill_rooms(bench, &users).await?;
    wait(bench, Name::Idle, users).await
}

/// Measures memory before and while the users' polls wait, and processor time while they wait.
pub(super) async fn wait(bench: &Bench, name: Name, users: Vec<User>) -> Result<Outcome> {
    let options = &bench.options.idle;
    let waiting = users.len();
    let tokens = bench
        .in_parallel(
            "first /sync of each",
            bench.options.preparing,
            &users,
            first_sync,
        )
        .await?;
    bench.settle().await;
    let before = memory(bench)?;

    bench.say("opening the polls");
    let recorder = Recorder::from_now()?;
    let answered = Arc::new(AtomicU64::new(0));
    let target = bench.target.with_timeout(bench.options.timeout + WAIT);
    let mut polls = JoinSet::new();
    for (user, since) in users.into_iter().zip(tokens) {
        polls.spawn(keep_polling(
            target.clone(),
            user,
            since,
            recorder.clone(),
            Arc::clone(&answered),
        ));
        tokio::time::sleep(STAGGER).await;
    }
    bench.settle().await;

    bench.say("measuring");
    let earlier = answered.load(Ordering::Relaxed);
    let meter = Meter::start(&bench.watched)?;
    tokio::time::sleep(options.idle_duration).await;
    let reading = meter.read()?;
    let answers = answered.load(Ordering::Relaxed) - earlier;
    let parameters = [
        ("polls", Value::from(waiting)),
        (
            "duration_seconds",
            options.idle_duration.as_secs_f64().into(),
        ),
    ];
    recorder.tally().operations = waiting as u64;
    let title = Title::new(name, "waiting client", parameters);
    let mut outcome = Outcome::new(bench, title, &recorder.tally(), reading)?;
    polls.shutdown().await;
    report(&mut outcome, before, reading.cpu, answers);
    Ok(outcome)
}

fn report(outcome: &mut Outcome, before: Option<Memory>, cpu: Option<Duration>, answers: u64) {
    outcome.rate_per_second = None;
    outcome.cpu_ms_per_operation = None;
    if let (Some(before), Some(after)) = (before, outcome.memory) {
        let each = (after.mib() - before.mib()) * 1024.0 / outcome.operations as f64;
        outcome
            .figures
            .push(Figure::fact("memory before", before.mib(), "MiB"));
        outcome
            .figures
            .push(Figure::less("memory per waiting client", each, "KiB"));
    }
    if let Some(cpu) = cpu {
        outcome.figures.push(Figure::less(
            "CPU of all",
            cpu.as_secs_f64() * 1e3 / outcome.seconds,
            "ms/s",
        ));
    }
    outcome
        .figures
        .push(Figure::fact("polls answered meanwhile", answers as f64, ""));
}

fn memory(bench: &Bench) -> Result<Option<Memory>> {
    if bench.watched.is_empty() {
        return Ok(None);
    }
    bench.watched.memory().map(Some)
}

async fn fill_rooms(bench: &Bench, users: &[User]) -> Result<()> {
    let what = format!("putting {} users into rooms of {ROOM_SIZE}", users.len());
    bench
        .in_parallel(
            &what,
            bench.options.preparing,
            users.chunks(ROOM_SIZE),
            async |client, members| {
                let room = bench.make_room(client, &members[0]).await?;
                for member in &members[1..] {
                    crate::bench::join(client, member, &room).await?;
                }
                Ok(())
            },
        )
        .await?;
    Ok(())
}

/// Gives the position from which the user waits.
async fn first_sync(client: &mut Client, user: &User) -> Result<String> {
    let answer = client
        .get(
            Some(&user.token),
            sync_path(None, Duration::ZERO, &escape(FILTER)),
        )
        .await?;
    Ok(answers::read::<Sync<'_>>(&answer, "GET /sync")?
        .next_batch
        .into_owned())
}

async fn keep_polling(
    target: Target,
    user: User,
    mut since: String,
    recorder: Recorder,
    answered: Arc<AtomicU64>,
) {
    let mut client = target.client();
    let mut patience = Patience::default();
    loop {
        match client
            .get(
                Some(&user.token),
                sync_path(Some(&since), WAIT, &escape(FILTER)),
            )
            .await
        {
            Ok(answer) => {
                patience.success();
                answered.fetch_add(1, Ordering::Relaxed);
                if let Ok(sync) = answers::read::<Sync<'_>>(&answer, "GET /sync") {
                    since = sync.next_batch.into_owned();
                }
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
