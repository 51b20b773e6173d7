//! The first /sync of a new device of somebody who is in many rooms.

use std::{cell::RefCell, time::Duration};

use anyhow::{Result, bail};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::sync_path;
use crate::{
    answers::{self, Sync},
    bench::{Bench, User, join, send_message},
    http::escape,
    measure::{Meter, Recorder},
    options::Name,
    report::{Figure, Outcome, Title},
};

/// What the first /sync held.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    bytes: usize,
    rooms: usize,
    events: usize,
}

/// Logs in a new device for each /sync, as a person would, and so that no answer can be one that was kept.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let options = &bench.options.initial_sync;
    let users = bench.make_users(options.sync_members).await?;
    fill(bench, &users).await?;
    let mut client = bench.target.client();
    let logins = (0..options.sync_repeats)
        .map(async |_| bench.log_in(&mut bench.target.client(), &users[0]).await);
    let tokens = try_join_all(logins).await?;
    bench.settle().await;

    bench.say("measuring");
    let filter = json!({ "room": {
        "timeline": { "limit": options.sync_events },
        "state": { "lazy_load_members": true },
    }});
    let filter = escape(&filter.to_string());
    let recorder = Recorder::from_now()?;
    let mut smallest: Option<Held> = None;
    let meter = Meter::start(&bench.watched)?;
    for token in tokens {
        let begun = Instant::now();
        match client
            .get(Some(&token), sync_path(None, Duration::ZERO, &filter))
            .await
        {
            Ok(answer) => {
                recorder.success(begun, 1);
                let sync: Sync<'_> = answers::read(&answer, "GET /sync")?;
                let held = Held {
                    bytes: answer.len(),
                    rooms: sync.rooms(),
                    events: sync.events(),
                };
                smallest = Some(
                    smallest
                        .filter(|other| other.events <= held.events)
                        .unwrap_or(held),
                );
            }
            Err(failure) => recorder.failure(&failure),
        }
    }
    let reading = meter.read()?;

    let tally = recorder.tally();
    let Some(held) = smallest else {
        bail!("no /sync succeeded; errors: {:?}", tally.errors)
    };
    let parameters = [
        ("rooms", Value::from(options.sync_rooms)),
        ("members", options.sync_members.into()),
        ("events", options.sync_events.into()),
    ];
    let title = Title::new(Name::InitialSync, "initial sync", parameters);
    let mut outcome = Outcome::new(bench, title, &tally, reading)?;
    report(&mut outcome, held, options.sync_rooms, options.sync_events);
    Ok(outcome)
}

/// Makes the rooms, lets everybody join and the messages be sent, each room by one worker.
async fn fill(bench: &Bench, users: &[User]) -> Result<()> {
    let options = &bench.options.initial_sync;
    let what = format!(
        "making {} rooms with {} members and {} messages each",
        options.sync_rooms, options.sync_members, options.sync_events
    );
    let made = RefCell::new(0);
    bench
        .in_parallel(
            &what,
            bench.options.preparing,
            0..options.sync_rooms,
            async |client, _| {
                // Everybody has made some of the rooms.
                let creator = *made.borrow() % users.len();
                *made.borrow_mut() += 1;
                let room = bench.make_room(client, &users[creator]).await?;
                for (index, user) in users.iter().enumerate() {
                    if index != creator {
                        join(client, user, &room).await?;
                    }
                }
                for number in 0..options.sync_events {
                    send_message(client, &users[number % users.len()], &room, number).await?;
                }
                Ok(())
            },
        )
        .await?;
    Ok(())
}

fn report(outcome: &mut Outcome, held: Held, rooms: usize, events: usize) {
    // One after the other, so the rate says nothing that the latency doesn't.
    outcome.rate_per_second = None;
    outcome.figures.push(Figure::fact(
        "size of the answer",
        held.bytes as f64 / 1024.0,
        "KiB",
    ));
    outcome
        .figures
        .push(Figure::fact("events", held.events as f64, ""));
    if held.rooms != rooms || held.events < rooms * events {
        outcome.problems.push(format!(
            "an answer held {} rooms and {} events rather than {rooms} and {}",
            held.rooms,
            held.events,
            rooms * events
        ));
    }
}
