//! Sending messages as quickly as they are answered: `PUT /rooms/{roomId}/send/m.room.message/{txnId}`.

use anyhow::Result;
use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    bench::Bench,
    http::{Client, escape},
    measure::{Patience, Recorder, under_load},
    options::Name,
    report::{Outcome, Title},
};

/// Each sender has a room: what the server does for a single message.
pub(crate) async fn own_rooms(bench: &Bench) -> Result<Outcome> {
    let senders = bench.make_users(bench.options.send.senders).await?;
    let rooms = bench.make_rooms(&senders).await?;
    let tokens = senders.into_iter().map(|sender| sender.token);
    let rooms = rooms.into_iter().map(|room| vec![room]);
    send(bench, Name::SendOwnRooms, tokens.zip(rooms).collect()).await
}

/// All senders write in one room, where each message must be put in order with all others.
pub(crate) async fn one_room(bench: &Bench) -> Result<Outcome> {
    let senders = bench
        .make_users(bench.options.send.one_room_senders)
        .await?;
    let room = bench
        .make_room(&mut bench.target.client(), &senders[0])
        .await?;
    bench.join_all(&room, &senders[1..]).await?;
    let tokens = senders
        .into_iter()
        .map(|sender| (sender.token, vec![room.clone()]));
    send(bench, Name::SendOneRoom, tokens.collect()).await
}

/// Measures senders, each with the rooms that it writes in by turns.
pub(super) async fn send(
    bench: &Bench,
    name: Name,
    senders: Vec<(HeaderValue, Vec<String>)>,
) -> Result<Outcome> {
    let options = &bench.options.send;
    let parameters = [
        ("senders", Value::from(senders.len())),
        ("duration_seconds", options.duration.as_secs_f64().into()),
        ("message_bytes", options.message_bytes.into()),
    ];
    let text = "x".repeat(options.message_bytes);
    let body = Bytes::from(json!({ "msgtype": "m.text", "body": text }).to_string());
    let recorder = Recorder::after_warm_up(bench)?;
    let tasks = senders.into_iter().map(|(token, rooms)| {
        let client = bench.target.client();
        let rooms = rooms.iter().map(|room| escape(room)).collect();
        keep_sending(client, token, rooms, body.clone(), recorder.clone())
    });
    under_load(
        bench,
        Title::new(name, "message sent", parameters),
        &recorder,
        tasks,
    )
    .await
}

/// Sends into each of the rooms in turn.
async fn keep_sending(
    mut client: Client,
    token: HeaderValue,
    rooms: Vec<String>,
    body: Bytes,
    recorder: Recorder,
) {
    let mut patience = Patience::default();
    // Several measurements may use one device.
    let first = crate::report::now().as_micros();
    for (transaction, room) in (first..).zip(rooms.iter().cycle()) {
        if recorder.is_over() {
            return;
        }
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{transaction}");
        let begun = Instant::now();
        match client.put(Some(&token), path, body.clone()).await {
            Ok(_) => {
                patience.success();
                recorder.success(begun, 1);
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
