//! What users of one server write in many rooms reaches the other: how many events a second it takes in.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::time::Instant;

use super::{join_by, server_of};
use crate::{
    answers::{self, Page, Sent},
    bench::{Bench, User, numbered_message},
    http::{Client, Failure, escape},
    measure::{Meter, Recorder},
    options::Name,
    report::{Figure, Outcome, Title},
};

/// After what time without anything new it's given up to wait for events.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks whether an event is there.
const LOOK: Duration = Duration::from_millis(10);
/// Events of a page of history.
const PAGE: usize = 100;

/// A room, with who writes in it.
struct Room {
    id: String,
    sender: User,
}

/// One sender a room on one server, and one user of the other who is in all rooms.
pub(crate) async fn run(bench: &Bench) -> Result<Outcome> {
    let options = &bench.options.federation;
    let peer = bench.of_peer()?;
    let reader = peer.make_users(1).await?.remove(0);
    let rooms = make_rooms(bench, &peer, &reader).await?;
    let each = options
        .federation_messages
        .div_ceil(options.federation_rooms);
    bench.settle().await;

    let recorder = Recorder::from_now()?;
    let meter = Meter::start(&peer.watched)?;
    let begun = Instant::now();
    let last = bench
        .in_parallel(
            "sending, each in a room of their own",
            rooms.len(),
            &rooms,
            async |client, room| send_all(client, room, each).await,
        )
        .await?;
    let sent = begun.elapsed();
    let width = bench.options.preparing;
    peer.in_parallel(
        "waiting for the last message of each",
        width,
        rooms.iter().zip(last),
        async |client, (room, last)| wait_for(client, &reader, &room.id, &last).await,
    )
    .await?;
    recorder.lasted(begun.elapsed());
    let reading = meter.read()?;
    let arrived = peer
        .in_parallel("counting", width, &rooms, async |client, room| {
            count(client, &reader, &room.id).await
        })
        .await?;

    let total = each * rooms.len();
    recorder.tally().operations = total as u64;
    let parameters = [
        ("rooms", Value::from(rooms.len())),
        ("messages", total.into()),
    ];
    let title = Title::new(Name::FederationSend, "event taken in", parameters);
    let mut outcome = Outcome::new(&peer, title, &recorder.tally(), reading)?;
    outcome.latency = None;
    let sending = total as f64 / sent.as_secs_f64();
    outcome
        .figures
        .push(Figure::more("sent meanwhile", sending, "/s"));
    let missing: usize = arrived
        .iter()
        .map(|arrived| each.saturating_sub(*arrived))
        .sum();
    outcome
        .figures
        .push(Figure::less("missing", missing as f64, ""));
    if missing > 0 {
        outcome
            .problems
            .push(format!("{missing} messages never reached the other server"));
    }
    Ok(outcome)
}

async fn make_rooms(bench: &Bench, peer: &Bench, reader: &User) -> Result<Vec<Room>> {
    let senders = bench
        .make_users(bench.options.federation.federation_rooms)
        .await?;
    let ids = bench.make_rooms(&senders).await?;
    let server = server_of(bench, &senders[0]).await?;
    peer.in_parallel(
        "joining them by the other server",
        bench.options.preparing,
        &ids,
        async |client, room| Ok(join_by(client, reader, room, &server).await?),
    )
    .await?;
    let rooms = ids.into_iter().zip(senders);
    Ok(rooms.map(|(id, sender)| Room { id, sender }).collect())
}

/// Sends so many messages, one after the other; gives the ID of the last.
async fn send_all(client: &mut Client, room: &Room, messages: usize) -> Result<String> {
    let mut last = None;
    for number in 0..messages {
        let answer = numbered_message(client, &room.sender, &room.id, number).await?;
        let sent: Sent<'_> = answers::read(&answer, "PUT /send")?;
        last = Some(sent.event_id.into_owned());
    }
    last.context("no message")
}

/// Waits until a user's server has an event.
async fn wait_for(client: &mut Client, reader: &User, room: &str, event_id: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let (room, event_id) = (escape(room), escape(event_id));
    loop {
        let path = format!("/_matrix/client/v3/rooms/{room}/event/{event_id}");
        match client.get(Some(&reader.token), path).await {
            Ok(_) => return Ok(()),
            Err(Failure::Status { status, .. }) if status == http::StatusCode::NOT_FOUND => {}
            Err(failure) => return Err(failure.into()),
        }
        if Instant::now() > until {
            bail!("the last message of a room doesn't reach the other server");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The messages of a room that a user's server has.
async fn count(client: &mut Client, reader: &User, room: &str) -> Result<usize> {
    let room = escape(room);
    let filter = escape(r#"{"types":["m.room.message"]}"#);
    let (mut count, mut from) = (0, None::<String>);
    loop {
        let mut path =
            format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit={PAGE}&filter={filter}");
        if let Some(from) = &from {
            path.push_str("&from=");
            path.push_str(&escape(from));
        }
        let answer = client.get(Some(&reader.token), path).await?;
        let page: Page<'_> = answers::read(&answer, "GET /messages")?;
        count += page.chunk.0;
        match page.end {
            Some(end) if end != page.start => from = Some(end.into_owned()),
            _ => return Ok(count),
        }
    }
}
